//! `POST /v1/chat/completions`: one chat, `n` answers, at once or as a stream, with tools.

pub(crate) mod messages;
mod tools;
pub(crate) mod wire;

use axum::{
    Extension, Json,
    extract::State,
    response::{IntoResponse, Response},
};
use futures_util::stream;

pub(crate) use self::tools::{Piece, Tools};
use self::{
    tools::CallReader,
    wire::{
        AnswerMessage, CalledFunction, ChatChoice, ChatDelta, ChatLogprobs, ChatReply, ChatRequest, DeltaMessage,
        FunctionDelta, FunctionWord, TokenLogprob, ToolCall, ToolCallDelta, TopLogprob,
    },
};
use super::{
    App, Deadline,
    access::Caller,
    body::Body,
    completions::{Delivery, delivery, finite},
    constraints::{Constraints, Origins},
    error::HttpError,
    openai::{ResponseFormatKind, StopField, Usage},
    recorder::{Recorded, Recorder},
    sse::{self, Chunks},
};
use crate::maze::{Alternative, Completed, Delta, FinishReason, GenerateRequest, Prompt, TokenInfo};

const ASSISTANT: &str = "assistant";

pub(crate) async fn create(
    State(app): State<App>,
    Extension(deadline): Extension<Deadline>,
    caller: Caller,
    recorder: Recorder,
    Body(request): Body<ChatRequest>,
) -> Result<Response, HttpError> {
    app.expect_model(request.model.as_deref())?;
    let plan = Plan::new(request, &app, &caller)?;
    answer(plan, &app, &caller, &recorder, deadline).await
}

/// Generates what was planned, and sends it as a chat's answer.
pub(crate) async fn answer(
    plan: Plan,
    app: &App,
    caller: &Caller,
    recorder: &Recorder,
    deadline: Deadline,
) -> Result<Response, HttpError> {
    let Plan { request, tools, origins, delivery, every_piece_has_content } = plan;
    let (num_choices, logprobs) = (request.num_choices, request.num_logprobs.is_some());
    let mut generations = recorder.generate(&app.maze, caller, &[request], &origins).await?;
    let generation = generations.pop().expect("one request was handed in and admitted");
    let reply = Reply::new(&generation, app.maze.model().id.clone(), logprobs);
    match delivery {
        Delivery::Whole => {
            let answers = generation.collect().await.map_err(|error| error.locate(&origins))?;
            Ok(Json(reply.whole(answers, tools.as_ref())).into_response())
        }
        Delivery::Stream { usage } => {
            let choices = (0..num_choices).map(|_| tools.as_ref().map(Tools::reader)).map(Progress::new).collect();
            let state =
                Streaming { reply, generation, choices, origins, num_tokens: 0, usage, every_piece_has_content };
            let chunks: Chunks<_> = Box::pin(stream::unfold(state, Streaming::next));
            Ok(sse::respond(chunks, app.config.keep_alive_interval(), deadline))
        }
    }
}

/// A request that was read and found good.
pub(crate) struct Plan {
    pub(crate) request: GenerateRequest,
    pub(crate) tools: Option<Tools>,
    pub(crate) origins: Origins,
    pub(crate) delivery: Delivery,
    /// Whether each piece of a stream has its `content`, empty where there is none: clients that fill holes read it
    /// unasked.
    pub(crate) every_piece_has_content: bool,
}

impl Plan {
    pub(crate) fn new(mut request: ChatRequest, app: &App, caller: &Caller) -> Result<Self, HttpError> {
        let maze = &app.maze;
        refuse_unsupported(&request)?;
        let fields = request.take_constraints();
        let sampling = request.take_sampling().params(maze.model().vocab_len)?;
        let delivery = delivery(request.stream, request.stream_options.as_ref())?;
        let max_tokens = caller.max_tokens(max_tokens(&request)?, maze.config().max_tokens_default)?;
        let num_logprobs = num_logprobs(&request)?;
        let tools = Tools::new(request.tools, request.tool_choice, request.parallel_tool_calls)?;
        let binds_all = fields.response_format.as_ref().is_some_and(|format| {
            matches!(format.kind, ResponseFormatKind::JsonObject | ResponseFormatKind::JsonSchema)
        });
        if tools.is_some() && binds_all {
            let reason = "beside `tools` it would forbid every call; send `tool_choice: none` with it";
            return Err(HttpError::unsupported("response_format", reason));
        }
        let mut constraints = Constraints::read(fields, app.profiles.as_deref())?;
        let messages = messages::read(request.messages, tools.as_ref())?;
        if let Some(tools) = &tools {
            constraints.add_tools(tools.ir(), tools.places());
        }
        let (request, origins) = constraints.bind(GenerateRequest {
            prompt: Prompt::Chat(messages),
            sampling,
            max_tokens,
            stop: request.stop.map(StopField::into_vec).unwrap_or_default(),
            num_choices: request.n.unwrap_or(1),
            seed: request.seed,
            client: caller.client.clone(),
            num_logprobs,
            whole: delivery.is_whole(),
            ..GenerateRequest::default()
        });
        Ok(Self { request, tools, origins, delivery, every_piece_has_content: false })
    }
}

fn refuse_unsupported(request: &ChatRequest) -> Result<(), HttpError> {
    let no_effect = "it has no effect on a model like this; leave it out";
    let fields = [
        ("functions", &request.functions, "send `tools`, which has taken its place"),
        ("function_call", &request.function_call, "send `tool_choice`, which has taken its place"),
        ("audio", &request.audio, "answers are text"),
        ("prediction", &request.prediction, no_effect),
        ("reasoning_effort", &request.reasoning_effort, no_effect),
        ("verbosity", &request.verbosity, no_effect),
        ("web_search_options", &request.web_search_options, "this server does not leave its machine"),
    ];
    if let Some((field, _, reason)) = fields.iter().find(|(_, value, _)| value.as_ref().is_some_and(|v| !v.is_null())) {
        return Err(HttpError::unsupported(*field, *reason));
    }
    if request.store == Some(true) {
        return Err(HttpError::unsupported("store", "answers are not kept"));
    }
    if let Some(tier) = request.service_tier.as_deref().filter(|tier| !matches!(*tier, "auto" | "default")) {
        return Err(HttpError::unsupported("service_tier", format!("there is no tier `{tier}`; one serves all")));
    }
    if request.modalities.as_ref().is_some_and(|kinds| kinds.iter().any(|kind| kind != "text")) {
        return Err(HttpError::unsupported("modalities", "answers are text"));
    }
    Ok(())
}

fn max_tokens(request: &ChatRequest) -> Result<Option<u32>, HttpError> {
    match (request.max_completion_tokens, request.max_tokens) {
        (Some(new), Some(old)) if new != old => {
            let reason = format!("{old}, and `max_completion_tokens` is {new}; give one of them");
            Err(HttpError::invalid_value("max_tokens", reason))
        }
        (new, old) => Ok(new.or(old)),
    }
}

fn num_logprobs(request: &ChatRequest) -> Result<Option<u32>, HttpError> {
    match (request.logprobs == Some(true), request.top_logprobs) {
        (false, Some(1..)) => Err(HttpError::invalid_value("top_logprobs", "only goes with `logprobs: true`")),
        (false, _) => Ok(None),
        (true, top) => Ok(Some(top.unwrap_or(0))),
    }
}

/// What all chunks of a reply share.
struct Reply {
    id: String,
    created: u64,
    model: String,
    num_prompt_tokens: u32,
    logprobs: bool,
}

impl Reply {
    fn new(generation: &Recorded, model: String, logprobs: bool) -> Self {
        Self {
            id: generation.id().replacen("gen-", "chatcmpl-", 1),
            created: generation.created(),
            model,
            num_prompt_tokens: generation.num_prompt_tokens(),
            logprobs,
        }
    }

    fn whole(self, answers: Vec<Completed>, tools: Option<&Tools>) -> ChatReply<ChatChoice> {
        let num_tokens = answers.iter().map(|answer| answer.finish.num_tokens).sum();
        let late: u32 = answers.iter().map(|answer| answer.finish.late_prompt_tokens).sum();
        let mut reply = self.chunk("chat.completion");
        for Completed { choice, text, tokens, finish, .. } in answers {
            let mut progress = Progress::new(tools.map(Tools::reader));
            let mut message = AnswerMessage { role: ASSISTANT, content: None, refusal: None, tool_calls: Vec::new() };
            for piece in progress.push(text).into_iter().chain(progress.finish()) {
                self.add(&mut message, choice, piece);
            }
            if message.tool_calls.is_empty() {
                message.content.get_or_insert_default();
            }
            reply.choices.push(ChatChoice {
                index: choice,
                message,
                logprobs: self.logprobs(tokens),
                finish_reason: progress.finish_reason(finish.reason),
                finish_detail: finish.detail,
                validation: finish.validation,
            });
            reply.provenance.push(finish.provenance);
        }
        reply.usage = Some(Usage::new(self.num_prompt_tokens + late, num_tokens));
        reply
    }

    fn add(&self, message: &mut AnswerMessage, choice: u32, piece: Piece) {
        match piece {
            Piece::Content(text) => message.content.get_or_insert_default().push_str(&text),
            Piece::Begin { index, name } => message.tool_calls.push(ToolCall {
                id: self.call_id(choice, index),
                kind: FunctionWord::Function,
                function: CalledFunction { name, arguments: String::new() },
            }),
            Piece::Arguments { index, text } => {
                message.tool_calls[index as usize].function.arguments.push_str(&text);
            }
        }
    }

    fn delta(&self, choice: u32, pieces: Vec<Piece>) -> DeltaMessage {
        let mut delta = DeltaMessage::default();
        for piece in pieces {
            let call = match piece {
                Piece::Content(text) => {
                    delta.content.get_or_insert_default().push_str(&text);
                    continue;
                }
                Piece::Begin { index, name } => ToolCallDelta {
                    index,
                    id: Some(self.call_id(choice, index)),
                    kind: Some(FunctionWord::Function),
                    function: FunctionDelta { name: Some(name), arguments: String::new() },
                },
                Piece::Arguments { index, text } => ToolCallDelta {
                    index,
                    id: None,
                    kind: None,
                    function: FunctionDelta { name: None, arguments: text },
                },
            };
            delta.tool_calls.push(call);
        }
        delta
    }

    /// Unlike that of any other call of any reply.
    fn call_id(&self, choice: u32, index: u32) -> String {
        format!("{}-{choice}-{index}", self.id.replacen("chatcmpl-", "call_", 1))
    }

    fn logprobs(&self, tokens: Vec<TokenInfo>) -> Option<ChatLogprobs> {
        let top = |Alternative { text, bytes, logprob }| TopLogprob { token: text, logprob: finite(logprob), bytes };
        let content = tokens.into_iter().map(|token| TokenLogprob {
            token: token.text,
            logprob: finite(token.logprob),
            bytes: token.bytes,
            top_logprobs: token.top.into_iter().map(top).collect(),
        });
        self.logprobs.then(|| ChatLogprobs { content: content.collect(), refusal: None })
    }

    fn chunk<C>(&self, object: &'static str) -> ChatReply<C> {
        ChatReply {
            id: self.id.clone(),
            object,
            created: self.created,
            model: self.model.clone(),
            choices: Vec::new(),
            usage: None,
            provenance: Vec::new(),
        }
    }
}

/// How far one answer has been read.
pub(crate) struct Progress {
    reader: Option<CallReader>,
    has_begun: bool,
}

impl Progress {
    pub(crate) fn new(reader: Option<CallReader>) -> Self {
        Self { reader, has_begun: false }
    }

    pub(crate) fn push(&mut self, text: String) -> Vec<Piece> {
        match &mut self.reader {
            Some(reader) => reader.push(&text),
            None if text.is_empty() => Vec::new(),
            None => vec![Piece::Content(text)],
        }
    }

    pub(crate) fn finish(&mut self) -> Vec<Piece> {
        self.reader.as_mut().map_or_else(Vec::new, CallReader::finish)
    }

    /// Why the answer ended, in the words of chat completions.
    fn finish_reason(&self, reason: FinishReason) -> &'static str {
        let has_called = self.reader.as_ref().is_some_and(|reader| reader.num_calls() > 0 && !reader.is_inside());
        if reason == FinishReason::Stop && has_called { "tool_calls" } else { reason.as_str() }
    }
}

/// A stream on its way.
struct Streaming {
    reply: Reply,
    generation: Recorded,
    choices: Vec<Progress>,
    origins: Origins,
    num_tokens: u32,
    /// Whether the chunk with the usage still has to be sent.
    usage: bool,
    every_piece_has_content: bool,
}

type Chunk = ChatReply<ChatDelta>;

impl Streaming {
    async fn next(mut self) -> Option<(Result<Chunk, HttpError>, Self)> {
        loop {
            let chunk = match self.generation.next().await {
                Some(Ok(delta)) => match self.piece(delta) {
                    Some(chunk) => Ok(chunk),
                    None => continue,
                },
                Some(Err(error)) => Err(error.locate(&self.origins)),
                None if std::mem::take(&mut self.usage) => Ok(self.last()),
                None => return None,
            };
            return Some((chunk, self));
        }
    }

    /// The chunk of a delta; `None` where all of it is held back.
    fn piece(&mut self, delta: Delta) -> Option<Chunk> {
        let progress = &mut self.choices[delta.choice as usize];
        let mut pieces = progress.push(delta.text);
        if delta.finish.is_some() {
            pieces.extend(progress.finish());
        }
        let is_empty = pieces.is_empty() && delta.tokens.is_empty() && delta.finish.is_none();
        if is_empty && progress.has_begun {
            return None;
        }
        let mut message = self.reply.delta(delta.choice, pieces);
        if !std::mem::replace(&mut progress.has_begun, true) {
            message.role = Some(ASSISTANT);
            message.content.get_or_insert_default();
        }
        if self.every_piece_has_content {
            message.content.get_or_insert_default();
        }
        let mut choice = ChatDelta {
            index: delta.choice,
            delta: message,
            logprobs: self.reply.logprobs(delta.tokens),
            finish_reason: None,
            finish_detail: None,
            validation: None,
        };
        let mut chunk = self.reply.chunk("chat.completion.chunk");
        if let Some(finish) = delta.finish {
            self.num_tokens += finish.num_tokens;
            self.reply.num_prompt_tokens += finish.late_prompt_tokens;
            choice.finish_reason = Some(progress.finish_reason(finish.reason));
            choice.finish_detail = finish.detail;
            choice.validation = Some(finish.validation);
            chunk.provenance.push(finish.provenance);
        }
        chunk.choices.push(choice);
        Some(chunk)
    }

    fn last(&self) -> Chunk {
        let usage = Usage::new(self.reply.num_prompt_tokens, self.num_tokens);
        Chunk { usage: Some(usage), ..self.reply.chunk("chat.completion.chunk") }
    }
}
