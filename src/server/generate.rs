//! `POST /generate`: one prompt, its constraints as IRs, one answer.

use axum::{Json, extract::State};

use super::{
    App,
    access::Caller,
    body::Body,
    constraints::Constraints,
    error::HttpError,
    openai::{GenerateBody, GenerateReply, StopField},
    recorder::Recorder,
};
use crate::maze::{GenerateRequest, Prompt};

pub(crate) async fn create(
    State(app): State<App>,
    caller: Caller,
    recorder: Recorder,
    Body(mut body): Body<GenerateBody>,
) -> Result<Json<GenerateReply>, HttpError> {
    let sampling = body.take_sampling().params(app.maze.model().vocab_len)?;
    let constraints = Constraints::read(body.take_constraints(), app.profiles.as_deref())?;
    let (request, origins) = constraints.bind(GenerateRequest {
        prompt: Prompt::Text(body.prompt),
        sampling,
        max_tokens: caller.max_tokens(body.max_tokens, app.maze.config().max_tokens_default)?,
        stop: body.stop.map(StopField::into_vec).unwrap_or_default(),
        num_choices: 1,
        seed: body.seed,
        client: caller.client.clone(),
        whole: true,
        ..GenerateRequest::default()
    });
    let mut generations = recorder.generate(&app.maze, &caller, &[request], &origins).await?;
    let generation = generations.pop().expect("one request was handed in and admitted");
    let mut answers = generation.collect().await.map_err(|error| error.locate(&origins))?;
    let answer = answers.pop().expect("one choice was asked for and collected");
    Ok(Json(GenerateReply {
        generated_text: answer.text,
        tokens_generated: answer.finish.num_tokens,
        model: app.maze.model().id.clone(),
        stats: answer.finish.stats,
        finish_reason: answer.finish.reason,
        finish_detail: answer.finish.detail,
        validation: answer.finish.validation,
        provenance: answer.finish.provenance,
    }))
}
