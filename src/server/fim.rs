//! `POST /v1/fim/completions`: Mistral's way of filling a hole, as editors send it, answered as a chat is.
//!
//! The request is that of completions with a `suffix` in other words, and the reply that of chat completions; so this is
//! where the one becomes the other, and nothing else.

use axum::{Extension, extract::State, response::Response};
use serde_json::Value;

use super::{
    App, Deadline,
    access::Caller,
    body::Body,
    chat,
    completions::delivery,
    constraints::Constraints,
    error::HttpError,
    openai::{StopField, StreamOptions},
    recorder::Recorder,
    request_fields::request_body,
};
use crate::maze::{GenerateRequest, Hole, OnUnparsableContext, Prompt, Truncation};

request_body! {
/// `POST /v1/fim/completions`.
pub(crate) struct FimBody {
    /// The loaded model's id, or absent.
    model: Option<String>,
    prompt: String,
    /// The text behind the hole; without one, or with an empty one, the prompt is continued.
    suffix: Option<String>,
    /// Default: the server's.
    max_tokens: Option<u32>,
    /// Refused, but for 0: an answer ends where the model ends it.
    min_tokens: Option<u32>,
    /// Mistral's name of `seed`.
    random_seed: Option<u64>,
    stop: Option<StopField>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    /// Part of the protocol, for the caller's own books; nothing is done with it.
    #[serde(rename = "metadata")]
    _metadata: Option<Value>,
    #[schemars(with = "Option<String>")]
    truncation: Option<Truncation>,
    #[schemars(with = "Option<String>")]
    on_unparsable_context: Option<OnUnparsableContext>,
}
}

pub(crate) async fn create(
    State(app): State<App>,
    Extension(deadline): Extension<Deadline>,
    caller: Caller,
    recorder: Recorder,
    Body(body): Body<FimBody>,
) -> Result<Response, HttpError> {
    app.expect_model(body.model.as_deref())?;
    let plan = plan(body, &app, &caller)?;
    chat::answer(plan, &app, &caller, &recorder, deadline).await
}

fn plan(mut body: FimBody, app: &App, caller: &Caller) -> Result<chat::Plan, HttpError> {
    if body.min_tokens.is_some_and(|count| count > 0) {
        return Err(HttpError::unsupported("min_tokens", "an answer ends where the model ends it"));
    }
    let delivery = delivery(body.stream, body.stream_options.as_ref())?;
    let sampling = body.take_sampling().params(app.maze.model().vocab_len)?;
    let constraints = Constraints::read(body.take_constraints(), app.profiles.as_deref())?;
    let max_tokens = caller.max_tokens(body.max_tokens, app.maze.config().max_tokens_default)?;
    let (stop, seed) = (body.stop.take().map(StopField::into_vec).unwrap_or_default(), body.random_seed);
    let (request, origins) = constraints.bind(GenerateRequest {
        prompt: body.into_prompt()?,
        sampling,
        max_tokens,
        stop,
        num_choices: 1,
        seed,
        client: caller.client.clone(),
        whole: delivery.is_whole(),
        ..GenerateRequest::default()
    });
    Ok(chat::Plan { request, tools: None, origins, delivery, every_piece_has_content: true })
}

impl FimBody {
    /// The text that is to be continued, or the hole that is to be filled.
    ///
    /// # Errors
    /// A field that only goes with a suffix.
    pub(crate) fn into_prompt(self) -> Result<Prompt, HttpError> {
        let Self { prompt: prefix, suffix, truncation, on_unparsable_context, .. } = self;
        if let Some(suffix) = suffix.filter(|suffix| !suffix.is_empty()) {
            return Ok(Prompt::Hole(Hole {
                prefix,
                suffix,
                truncation: truncation.unwrap_or_default(),
                on_unparsable_context: on_unparsable_context.unwrap_or_default(),
                ..Hole::default()
            }));
        }
        if truncation == Some(Truncation::Auto) {
            return Err(HttpError::unsupported("truncation", "only a prompt with a `suffix` is cut"));
        }
        if on_unparsable_context.is_some() {
            return Err(HttpError::invalid_value("on_unparsable_context", "only goes with a `suffix`"));
        }
        Ok(Prompt::Text(prefix))
    }
}
