//! `POST /v1/completions`: one or several prompts, `n` choices each, at once or as a stream.
//!
//! Each prompt is a request of its own to the maze, answered as if it had been sent alone; choices are numbered
//! `prompt * n + choice`.

use std::{collections::BTreeMap, pin::Pin};

use axum::{
    Extension, Json,
    extract::State,
    response::{IntoResponse, Response},
};
use futures_core::Stream;
use futures_util::{
    future,
    stream::{self, SelectAll},
};
use tokio_stream::StreamExt;

use super::{
    App, Deadline,
    access::Caller,
    body::Body,
    constraints::{Constraints, Origins},
    error::HttpError,
    openai::{
        Completion, CompletionChoice, CompletionLogprobs, CompletionRequest, PromptField, StopField, StreamOptions,
        Usage,
    },
    recorder::{Recorded, Recorder, Stopped},
    sse::{self, Chunks},
};
use crate::maze::{
    Alternative, Completed, Delta, GenerateRequest, Hole, Maze, Prompt, PromptTokens, TokenInfo, Truncation,
};

/// What OpenAI's completions give when `max_tokens` is absent.
const OPENAI_MAX_TOKENS: u32 = 16;

pub(crate) async fn create(
    State(app): State<App>,
    Extension(deadline): Extension<Deadline>,
    caller: Caller,
    recorder: Recorder,
    Body(request): Body<CompletionRequest>,
) -> Result<Response, HttpError> {
    app.expect_model(request.model.as_deref())?;
    let plan = Plan::new(request, &app, &caller)?;
    let generations = recorder.generate(&app.maze, &caller, &plan.requests, &plan.origins).await?;
    let reply = Reply::new(&plan, &generations, &app);
    match plan.delivery {
        Delivery::Whole => Ok(Json(reply.whole(plan, generations).await?).into_response()),
        Delivery::Stream { usage } => {
            Ok(sse::respond(reply.stream(plan, generations, usage), app.config.keep_alive_interval(), deadline))
        }
    }
}

/// A request that was read and found good.
struct Plan {
    /// One per prompt.
    requests: Vec<GenerateRequest>,
    /// What each answer to a prompt begins with: the prompt itself for `echo`, else nothing.
    echoes: Vec<String>,
    /// Answers to each prompt that are sent; of more that are generated the likeliest.
    num_choices: u32,
    logprobs: bool,
    origins: Origins,
    delivery: Delivery,
}

/// How the answer is sent.
#[derive(Clone, Copy)]
pub(crate) enum Delivery {
    Whole,
    Stream { usage: bool },
}

impl Delivery {
    /// Whether nothing is sent before the end.
    pub(crate) fn is_whole(self) -> bool {
        matches!(self, Self::Whole)
    }
}

impl Plan {
    fn new(mut request: CompletionRequest, app: &App, caller: &Caller) -> Result<Self, HttpError> {
        let maze = &app.maze;
        refuse_unsupported(&request)?;
        let delivery = delivery(request.stream, request.stream_options.as_ref())?;
        let sampling = request.take_sampling().params(maze.model().vocab_len)?;
        let constraints = Constraints::read(request.take_constraints(), app.profiles.as_deref())?;
        let num_choices = request.n.unwrap_or(1);
        let num_generated = request.best_of.unwrap_or(num_choices);
        let is_ranked = num_generated > num_choices;
        let limit = maze.config().num_choices_max;
        if is_ranked && num_generated > limit {
            return Err(HttpError::invalid_value("best_of", format!("{num_generated} is more than {limit}")));
        }
        let logprobs = request.logprobs.is_some();
        let prompt = std::mem::replace(&mut request.prompt, PromptField::Texts(Vec::new()));
        let prompts = prompts(prompt, num_generated, limit)?;
        let prompts = request.open(prompts)?;
        let echo = request.echo == Some(true);
        let echoes = prompts.iter().map(|prompt| if echo { text_of(prompt, maze) } else { String::new() }).collect();
        let default = if constraints.is_empty() { OPENAI_MAX_TOKENS } else { maze.config().max_tokens_default };
        let max_tokens = match request.max_tokens {
            // The answer is the prompt.
            Some(0) if echo => Some(0),
            asked => caller.max_tokens(asked, default)?.or(constraints.is_empty().then_some(OPENAI_MAX_TOKENS)),
        };
        let (template, origins) = constraints.bind(GenerateRequest {
            sampling,
            max_tokens,
            stop: request.stop.map(StopField::into_vec).unwrap_or_default(),
            num_choices: num_generated,
            seed: request.seed,
            client: caller.client.clone(),
            num_logprobs: request.logprobs.or(is_ranked.then_some(0)),
            num_prompt_logprobs: request.logprobs.filter(|_| echo),
            whole: delivery.is_whole(),
            ..GenerateRequest::default()
        });
        let requests = prompts.into_iter().map(|prompt| GenerateRequest { prompt, ..template.clone() }).collect();
        Ok(Self { requests, echoes, num_choices, logprobs, origins, delivery })
    }
}

fn refuse_unsupported(request: &CompletionRequest) -> Result<(), HttpError> {
    let num_choices = request.n.unwrap_or(1);
    match request.best_of {
        Some(best_of) if best_of < num_choices => {
            return Err(HttpError::invalid_value("best_of", format!("{best_of} is less than n, {num_choices}")));
        }
        Some(best_of) if best_of > num_choices && request.stream == Some(true) => {
            return Err(HttpError::unsupported(
                "best_of",
                "which answers are best is known at their end; do not stream",
            ));
        }
        _ => {}
    }
    if request.echo == Some(true) && request.logprobs.is_some() {
        if request.suffix.is_some() {
            let reason = "with `echo` it would be of the prompt too, which before a `suffix` is read between markers, \
                          behind that suffix, and perhaps cut; leave one of the three out";
            return Err(HttpError::unsupported("logprobs", reason));
        }
        if request.token_healing == Some(true) {
            let reason = "with `echo` it would be of the prompt too, whose last tokens are written again by the \
                          answer; leave one of the three out";
            return Err(HttpError::unsupported("logprobs", reason));
        }
    }
    Ok(())
}

/// How a request asks for its answer.
///
/// # Errors
/// `stream_options` without a stream.
pub(crate) fn delivery(stream: Option<bool>, options: Option<&StreamOptions>) -> Result<Delivery, HttpError> {
    match (stream, options) {
        (Some(true), options) => {
            Ok(Delivery::Stream { usage: options.and_then(|options| options.include_usage) == Some(true) })
        }
        (_, Some(_)) => Err(HttpError::invalid_value("stream_options", "only goes with `stream: true`")),
        (_, None) => Ok(Delivery::Whole),
    }
}

fn prompts(field: PromptField, num_choices: u32, num_choices_max: u32) -> Result<Vec<Prompt>, HttpError> {
    let prompts: Vec<Prompt> = match field {
        PromptField::Text(text) => vec![Prompt::Text(text)],
        PromptField::Texts(texts) => texts.into_iter().map(Prompt::Text).collect(),
        PromptField::Tokens(ids) => vec![Prompt::Tokens(ids)],
        PromptField::TokenLists(lists) => lists.into_iter().map(Prompt::Tokens).collect(),
    };
    if prompts.is_empty() {
        return Err(HttpError::invalid_value("prompt", "the list of prompts is empty"));
    }
    if prompts.len() > 1 && prompts.len().saturating_mul(num_choices as usize) > num_choices_max as usize {
        let reason = format!("{} prompts with n = {num_choices}: at most {num_choices_max} choices", prompts.len());
        return Err(HttpError::invalid_value("prompt", reason));
    }
    Ok(prompts)
}

fn text_of(prompt: &Prompt, maze: &Maze) -> String {
    match prompt {
        Prompt::Tokens(ids) => String::from_utf8_lossy(&maze.tokenizer().decode(ids)).into_owned(),
        Prompt::Text(text) | Prompt::Unfinished(text) => text.clone(),
        Prompt::Hole(hole) => hole.prefix.clone(),
        Prompt::Chat(_) => String::new(),
    }
}

/// The holes that the body of `POST /v1/completions` asks to fill.
///
/// # Errors
/// A body without a suffix, or what cannot be read.
pub(crate) fn holes(mut request: CompletionRequest) -> Result<Vec<Hole>, HttpError> {
    if request.suffix.is_none() {
        return Err(HttpError::MissingParameter { param: "suffix".into() });
    }
    let prompt = std::mem::replace(&mut request.prompt, PromptField::Texts(Vec::new()));
    let opened = request.open(prompts(prompt, 1, u32::MAX)?)?.into_iter();
    Ok(opened.filter_map(|prompt| if let Prompt::Hole(hole) = prompt { Some(hole) } else { None }).collect())
}

impl CompletionRequest {
    /// The prompts, each before a hole where there is a suffix, which is the same for all.
    ///
    /// # Errors
    /// Token ids with a suffix, and a field that only goes with one.
    fn open(&mut self, prompts: Vec<Prompt>) -> Result<Vec<Prompt>, HttpError> {
        let token_healing = self.token_healing == Some(true);
        let Some(suffix) = self.suffix.take() else {
            if self.truncation == Some(Truncation::Auto) {
                return Err(HttpError::unsupported("truncation", "only a prompt with a `suffix` is cut"));
            }
            if self.on_unparsable_context.is_some() {
                return Err(HttpError::invalid_value("on_unparsable_context", "only goes with a `suffix`"));
            }
            return if token_healing { prompts.into_iter().map(unfinished).collect() } else { Ok(prompts) };
        };
        if token_healing {
            let reason = "a hole is not healed: models are trained to go on inside a word there";
            return Err(HttpError::unsupported("token_healing", reason));
        }
        let open = |prompt| match prompt {
            Prompt::Text(prefix) => Ok(Prompt::Hole(Hole {
                prefix,
                suffix: suffix.clone(),
                truncation: self.truncation.unwrap_or_default(),
                on_unparsable_context: self.on_unparsable_context.unwrap_or_default(),
                ..Hole::default()
            })),
            _ => Err(HttpError::unsupported("prompt", "with a `suffix` the prompt is text, not token ids")),
        };
        prompts.into_iter().map(open).collect()
    }
}

fn unfinished(prompt: Prompt) -> Result<Prompt, HttpError> {
    match prompt {
        Prompt::Text(text) => Ok(Prompt::Unfinished(text)),
        _ => Err(HttpError::unsupported("prompt", "with `token_healing` the prompt is text, not token ids")),
    }
}

/// What all chunks of an answer share, and how far each choice has got.
struct Reply {
    id: String,
    created: u64,
    model: String,
    num_choices: u32,
    num_prompt_tokens: u32,
}

impl Reply {
    fn new(plan: &Plan, generations: &[Recorded], app: &App) -> Self {
        let first = generations.first();
        let id = first.map_or_else(String::new, |generation| generation.id().replacen("gen-", "cmpl-", 1));
        Self {
            id,
            created: first.map_or(0, Recorded::created),
            model: app.maze.model().id.clone(),
            num_choices: plan.num_choices,
            num_prompt_tokens: generations.iter().map(Recorded::num_prompt_tokens).sum(),
        }
    }

    /// Waits for every choice.
    async fn whole(self, plan: Plan, generations: Vec<Recorded>) -> Result<Completion, HttpError> {
        let answers = future::try_join_all(generations.into_iter().map(Recorded::collect));
        let answers = answers.await.map_err(|error| error.locate(&plan.origins))?;
        let mut completion = self.chunk();
        let (mut num_prompt_tokens, mut num_tokens) = (self.num_prompt_tokens, 0);
        for ((prompt, completed), echo) in (0..).zip(answers).zip(&plan.echoes) {
            num_tokens += completed.iter().map(|answer| answer.finish.num_tokens).sum::<u32>();
            num_prompt_tokens += completed.iter().map(|answer| answer.finish.late_prompt_tokens).sum::<u32>();
            for answer in likeliest(completed, plan.num_choices) {
                self.add(&mut completion, prompt, answer, echo, plan.logprobs);
            }
        }
        completion.usage = Some(Usage::new(num_prompt_tokens, num_tokens));
        Ok(completion)
    }

    fn add(&self, completion: &mut Completion, prompt: u32, answer: Completed, echo: &str, logprobs: bool) {
        let Completed { choice, prompt: scored, text, mut tokens, finish } = answer;
        tokens.extend(finish.end_token);
        completion.choices.push(CompletionChoice {
            index: prompt * self.num_choices + choice,
            text: format!("{echo}{text}"),
            logprobs: logprobs.then(|| OffsetCounter::default().logprobs(scored.as_deref(), echo, tokens)),
            finish_reason: Some(finish.reason),
            finish_detail: finish.detail,
            validation: Some(finish.validation),
        });
        completion.provenance.push(finish.provenance);
    }

    /// The answer as chunks, in the order in which the engine makes them.
    fn stream(self, plan: Plan, generations: Vec<Recorded>, usage: bool) -> Chunks<Completion> {
        let num_choices = plan.num_choices as usize * generations.len();
        let state = Streaming {
            deltas: (0..).zip(generations).map(|(prompt, generation)| deltas(prompt, generation)).collect(),
            echoes: plan.echoes.iter().flat_map(|echo| vec![echo.clone(); plan.num_choices as usize]).collect(),
            offsets: vec![OffsetCounter::default(); num_choices],
            num_tokens: 0,
            usage,
            logprobs: plan.logprobs,
            origins: plan.origins,
            reply: self,
        };
        Box::pin(stream::unfold(state, Streaming::next))
    }

    fn chunk(&self) -> Completion {
        Completion {
            id: self.id.clone(),
            object: "text_completion",
            created: self.created,
            model: self.model.clone(),
            choices: Vec::new(),
            usage: None,
            provenance: Vec::new(),
        }
    }
}

/// The answers with the highest mean log-probability of their tokens, best first; all in their order where no more were
/// generated.
fn likeliest(mut answers: Vec<Completed>, count: u32) -> Vec<Completed> {
    if answers.len() > count as usize {
        // Of equal ones the first generated: the sort is stable.
        answers.sort_by(|one, other| mean_logprob(&other.tokens).total_cmp(&mean_logprob(&one.tokens)));
        answers.truncate(count as usize);
        (0..).zip(&mut answers).for_each(|(place, answer)| answer.choice = place);
    }
    answers
}

/// Of an answer without tokens 0: it was certain.
fn mean_logprob(tokens: &[TokenInfo]) -> f32 {
    let sum: f32 = tokens.iter().map(|token| finite(token.logprob)).sum();
    sum / tokens.len().max(1) as f32
}

type Deltas = Pin<Box<dyn Stream<Item = (u32, Result<Delta, Stopped>)> + Send>>;

/// The deltas of one prompt, each with the prompt's index.
fn deltas(prompt: u32, generation: Recorded) -> Deltas {
    Box::pin(stream::unfold(generation, move |mut generation| async move {
        let delta = generation.next().await?;
        Some(((prompt, delta), generation))
    }))
}

/// A stream on its way.
struct Streaming {
    reply: Reply,
    deltas: SelectAll<Deltas>,
    /// What still has to be echoed, by choice.
    echoes: Vec<String>,
    offsets: Vec<OffsetCounter>,
    num_tokens: u32,
    /// Whether the chunk with the usage still has to be sent.
    usage: bool,
    logprobs: bool,
    origins: Origins,
}

impl Streaming {
    async fn next(mut self) -> Option<(Result<Completion, HttpError>, Self)> {
        let chunk = match self.deltas.next().await {
            Some((prompt, Ok(delta))) => Ok(self.piece(prompt, delta)),
            Some((_, Err(error))) => Err(error.locate(&self.origins)),
            None if std::mem::take(&mut self.usage) => Ok(self.last()),
            None => return None,
        };
        Some((chunk, self))
    }

    fn piece(&mut self, prompt: u32, mut delta: Delta) -> Completion {
        let index = prompt * self.reply.num_choices + delta.choice;
        let echo = std::mem::take(&mut self.echoes[index as usize]);
        delta.tokens.extend(delta.finish.as_mut().and_then(|finish| finish.end_token.take()));
        let mut choice = CompletionChoice {
            index,
            text: format!("{echo}{}", delta.text),
            logprobs: self
                .logprobs
                .then(|| self.offsets[index as usize].logprobs(delta.prompt.as_deref(), &echo, delta.tokens)),
            finish_reason: None,
            finish_detail: None,
            validation: None,
        };
        let mut chunk = self.reply.chunk();
        if let Some(finish) = delta.finish {
            self.num_tokens += finish.num_tokens;
            self.reply.num_prompt_tokens += finish.late_prompt_tokens;
            choice.finish_reason = Some(finish.reason);
            choice.finish_detail = finish.detail;
            choice.validation = Some(finish.validation);
            chunk.provenance.push(finish.provenance);
        }
        chunk.choices.push(choice);
        chunk
    }

    fn last(&self) -> Completion {
        let usage = Usage::new(self.reply.num_prompt_tokens, self.num_tokens);
        Completion { usage: Some(usage), ..self.reply.chunk() }
    }
}

/// How many code points of a choice's text begin in the tokens that came before.
#[derive(Clone, Copy, Default)]
struct OffsetCounter(usize);

impl OffsetCounter {
    /// What is said of `tokens`, and before them of the prompt that they continue, which the text has as `echo`.
    fn logprobs(&mut self, prompt: Option<&PromptTokens>, echo: &str, tokens: Vec<TokenInfo>) -> CompletionLogprobs {
        let mut all = CompletionLogprobs::default();
        if let Some(PromptTokens { first, rest }) = prompt {
            all.text_offset.push(self.pass(&first.bytes));
            all.tokens.push(first.text.clone());
            all.token_logprobs.push(None);
            all.top_logprobs.push(None);
            rest.iter().for_each(|token| self.add(token.clone(), &mut all));
            // Also where ids are no whole characters, or a tokenizer has changed the text.
            self.0 = echo.chars().count();
        }
        tokens.into_iter().for_each(|token| self.add(token, &mut all));
        all
    }

    fn add(&mut self, token: TokenInfo, all: &mut CompletionLogprobs) {
        let mut top = BTreeMap::from([(token.text.clone(), finite(token.logprob))]);
        for Alternative { text, logprob, .. } in token.top {
            let logprob = finite(logprob);
            top.entry(text).and_modify(|best| *best = best.max(logprob)).or_insert(logprob);
        }
        all.text_offset.push(self.pass(&token.bytes));
        all.top_logprobs.push(Some(top));
        all.token_logprobs.push(Some(finite(token.logprob)));
        all.tokens.push(token.text);
    }

    /// Goes on behind a token and returns where it began. A character that several tokens write is counted once, by its
    /// first byte.
    fn pass(&mut self, bytes: &[u8]) -> usize {
        let begins = |byte: &&u8| **byte & 0xC0 != 0x80;
        let offset = self.0;
        self.0 += bytes.iter().filter(begins).count();
        offset
    }
}

/// A log-probability as JSON can hold it: what is impossible reads as OpenAI writes it.
pub(crate) fn finite(logprob: f32) -> f32 {
    const IMPOSSIBLE: f32 = -9999.0;
    if logprob.is_finite() { logprob } else { IMPOSSIBLE }
}
