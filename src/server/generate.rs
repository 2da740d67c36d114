//! `POST /generate`: one prompt, its constraints as IRs, one answer.

use axum::{Json, extract::State};

use super::{
    App,
    body::Body,
    completions::number,
    constraints::Constraints,
    error::HttpError,
    openai::{GenerateBody, GenerateReply, StopField},
    recorder::Recorder,
};
use crate::maze::{GenerateRequest, Prompt, SamplingParams};

pub(crate) async fn create(
    State(app): State<App>,
    recorder: Recorder,
    Body(body): Body<GenerateBody>,
) -> Result<Json<GenerateReply>, HttpError> {
    let default = SamplingParams::default();
    let sampling = SamplingParams {
        temperature: number(body.temperature, default.temperature),
        top_p: number(body.top_p, default.top_p),
        ..default
    };
    let constraints = Constraints::from_generate(body.constraints, body.context)?;
    let request = GenerateRequest {
        prompt: Prompt::Text(body.prompt),
        constraints: constraints.irs,
        context: constraints.context,
        sampling,
        max_tokens: body.max_tokens,
        stop: body.stop.map(StopField::into_vec).unwrap_or_default(),
        num_choices: 1,
        seed: body.seed,
        client: None,
        num_logprobs: None,
        sample_forced_tokens: false,
    };
    let origins = constraints.origins;
    let mut generations = recorder.generate(&app.maze, &[request], &origins).await?;
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
