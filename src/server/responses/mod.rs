//! `POST /v1/responses`: OpenAI's Responses API in its stateless core.
//!
//! A request becomes the chat request that asks for the same (`input.rs`), and so has the same messages, tools and
//! constraints; the answer becomes items and, as a stream, typed events (`output.rs`). Nothing is kept between requests.

mod input;
mod output;
pub(crate) mod wire;

use std::collections::VecDeque;

use axum::{
    Extension, Json,
    extract::State,
    response::{IntoResponse, Response as Reply},
};
use futures_util::stream;
use serde_json::{Value, json};

use self::{
    input::Places,
    output::{Output, Told},
    wire::{
        Event, IncompleteDetails, InputDetails, OutputDetails, Response, ResponseError, ResponseUsage,
        ResponsesRequest, StatusEvent,
    },
};
use super::{
    App, Deadline,
    access::Caller,
    body::Body,
    chat::{Plan, Progress, Tools, wire::ChatRequest},
    completions::Delivery,
    constraints::Origins,
    error::HttpError,
    recorder::{Recorded, Recorder},
    sse::{self, NamedEvent},
};
use crate::maze::{Completed, Delta, Finish, FinishReason, GenerateRequest};

pub(crate) async fn create(
    State(app): State<App>,
    Extension(deadline): Extension<Deadline>,
    caller: Caller,
    recorder: Recorder,
    Body(mut request): Body<ResponsesRequest>,
) -> Result<Reply, HttpError> {
    app.expect_model(request.model.as_deref())?;
    let (chat, places) = input::chat(&mut request)?;
    let plan = Plan::new(chat, &app, &caller).map_err(|error| places.locate(error))?;
    let Plan { request: asked, tools, origins, delivery, .. } = plan;
    let generations = recorder.generate(&app.maze, &caller, std::slice::from_ref(&asked), &origins).await;
    let mut generations = generations.map_err(|error| places.locate(error))?;
    let generation = generations.pop().expect("one request was handed in and admitted");
    let response = begin(request, &asked, &generation, &app);
    let key = response.id.trim_start_matches("resp_").to_owned();
    let progress = Progress::new(tools.as_ref().map(Tools::reader));
    let num_prompt_tokens = generation.num_prompt_tokens();
    let answer = Answer { response, output: Output::new(&key), progress, num_prompt_tokens };
    match delivery {
        Delivery::Whole => {
            let answers = generation.collect().await.map_err(|error| places.locate(error.locate(&origins)))?;
            let completed = answers.into_iter().next().expect("one choice was asked for and collected");
            Ok(Json(answer.whole(completed)).into_response())
        }
        Delivery::Stream { .. } => {
            let state = Streaming::new(answer, generation, origins, places, deadline);
            Ok(sse::respond_named(stream::unfold(state, Streaming::next), app.config.keep_alive_interval()))
        }
    }
}

/// The chat request that asks for the same.
///
/// # Errors
/// A field that cannot be read, or asks for what is not offered.
pub(crate) fn chat_of(mut request: ResponsesRequest) -> Result<ChatRequest, HttpError> {
    input::chat(&mut request).map(|(chat, _)| chat)
}

/// The response before anything was generated.
fn begin(request: ResponsesRequest, asked: &GenerateRequest, generation: &Recorded, app: &App) -> Response {
    let text = request.text.filter(|text| text.get("format").is_some_and(|format| !format.is_null()));
    Response {
        id: generation.id().replacen("gen-", "resp_", 1),
        object: "response",
        created_at: generation.created(),
        status: "in_progress",
        background: false,
        error: None,
        incomplete_details: None,
        instructions: request.instructions,
        max_output_tokens: request.max_output_tokens,
        metadata: request.metadata.unwrap_or_default(),
        model: app.maze.model().id.clone(),
        output: Vec::new(),
        parallel_tool_calls: request.parallel_tool_calls.unwrap_or(true),
        previous_response_id: None,
        store: false,
        temperature: asked.sampling.temperature,
        text: text.unwrap_or_else(|| json!({"format": {"type": "text"}})),
        tool_choice: request.tool_choice.unwrap_or_else(|| Value::from("auto")),
        tools: request.tools.unwrap_or_default(),
        top_p: asked.sampling.top_p,
        truncation: "disabled",
        usage: None,
        user: request.user,
        validation: None,
        provenance: Vec::new(),
    }
}

fn usage(input_tokens: u32, output_tokens: u32) -> ResponseUsage {
    ResponseUsage {
        input_tokens,
        input_tokens_details: InputDetails::default(),
        output_tokens,
        output_tokens_details: OutputDetails::default(),
        total_tokens: input_tokens.saturating_add(output_tokens),
    }
}

/// A response on its way.
struct Answer {
    response: Response,
    output: Output,
    progress: Progress,
    num_prompt_tokens: u32,
}

impl Answer {
    fn whole(mut self, completed: Completed) -> Response {
        self.push(completed.text, Some(&completed.finish));
        self.end(completed.finish);
        self.response
    }

    /// Takes in text, and with `finish` all that was held back.
    fn push(&mut self, text: String, finish: Option<&Finish>) -> Vec<Told> {
        let mut pieces = self.progress.push(text);
        if finish.is_some() {
            pieces.extend(self.progress.finish());
        }
        let mut events: Vec<Told> = pieces.into_iter().flat_map(|piece| self.output.push(piece)).collect();
        if let Some(finish) = finish {
            events.extend(self.output.finish(finish.reason == FinishReason::Stop));
        }
        events
    }

    /// How it ended.
    fn end(&mut self, finish: Finish) {
        let reason = match finish.reason {
            FinishReason::Stop => None,
            FinishReason::Length => Some("max_output_tokens"),
            FinishReason::DeadEnd => Some("dead_end"),
        };
        self.response.status = if reason.is_none() { "completed" } else { "incomplete" };
        self.response.incomplete_details = reason.map(|reason| IncompleteDetails { reason, detail: finish.detail });
        self.response.usage = Some(usage(self.num_prompt_tokens + finish.late_prompt_tokens, finish.num_tokens));
        self.response.validation = Some(finish.validation);
        self.response.provenance.push(finish.provenance);
        self.response.output = self.output.items().to_vec();
    }

    fn fail(&mut self, error: &HttpError) {
        self.response.status = "failed";
        self.response.error = Some(ResponseError { code: error.code(), message: error.message() });
        self.response.output = self.output.items().to_vec();
    }
}

/// A stream on its way. At the deadline it ends as one that failed.
struct Streaming {
    answer: Answer,
    generation: Recorded,
    origins: Origins,
    places: Places,
    deadline: Deadline,
    waiting: VecDeque<NamedEvent>,
    num_events: u64,
    has_ended: bool,
}

impl Streaming {
    fn new(answer: Answer, generation: Recorded, origins: Origins, places: Places, deadline: Deadline) -> Self {
        let waiting = VecDeque::new();
        let mut new = Self { answer, generation, origins, places, deadline, waiting, num_events: 0, has_ended: false };
        new.tell_status("response.created");
        new.tell_status("response.in_progress");
        new
    }

    async fn next(mut self) -> Option<(NamedEvent, Self)> {
        while self.waiting.is_empty() && !self.has_ended {
            match tokio::time::timeout_at(self.deadline.at, self.generation.next()).await {
                Ok(Some(Ok(delta))) => self.take(delta),
                Ok(Some(Err(error))) => {
                    let error = self.places.locate(error.locate(&self.origins));
                    self.fail(&error);
                }
                Ok(None) => self.has_ended = true,
                Err(_) => self.fail(&HttpError::RequestTimeout { limit_s: self.deadline.limit_s }),
            }
        }
        self.waiting.pop_front().map(|event| (event, self))
    }

    fn take(&mut self, delta: Delta) {
        for (kind, what) in self.answer.push(delta.text, delta.finish.as_ref()) {
            let sequence_number = self.number();
            self.waiting.push_back(NamedEvent::new(kind, &Event { kind, sequence_number, what }));
        }
        if let Some(finish) = delta.finish {
            self.answer.end(finish);
            let is_complete = self.answer.response.status == "completed";
            self.tell_status(if is_complete { "response.completed" } else { "response.incomplete" });
            self.has_ended = true;
        }
    }

    fn fail(&mut self, error: &HttpError) {
        tracing::warn!(%error, "a stream failed");
        self.answer.fail(error);
        self.tell_status("response.failed");
        self.has_ended = true;
    }

    fn tell_status(&mut self, kind: &'static str) {
        let (sequence_number, response) = (self.number(), self.answer.response.clone());
        self.waiting.push_back(NamedEvent::new(kind, &StatusEvent { kind, sequence_number, response }));
    }

    fn number(&mut self) -> u64 {
        self.num_events += 1;
        self.num_events - 1
    }
}
