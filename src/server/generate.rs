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
    sampling::SamplingFields,
};
use crate::maze::{GenerateRequest, Prompt};

pub(crate) async fn create(
    State(app): State<App>,
    caller: Caller,
    recorder: Recorder,
    Body(body): Body<GenerateBody>,
) -> Result<Json<GenerateReply>, HttpError> {
    let fields = SamplingFields { temperature: body.temperature, top_p: body.top_p, ..SamplingFields::default() };
    let sampling = fields.params(app.maze.model().vocab_len)?;
    let constraints = Constraints::from_generate(body.constraints, body.context)?;
    let request = GenerateRequest {
        prompt: Prompt::Text(body.prompt),
        constraints: constraints.irs,
        context: constraints.context,
        sampling,
        max_tokens: caller.max_tokens(body.max_tokens, app.maze.config().max_tokens_default)?,
        stop: body.stop.map(StopField::into_vec).unwrap_or_default(),
        num_choices: 1,
        seed: body.seed,
        client: caller.client.clone(),
        num_logprobs: None,
        sample_forced_tokens: false,
    };
    let origins = constraints.origins;
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
