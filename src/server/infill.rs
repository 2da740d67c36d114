//! `POST /infill`: llama.cpp's way of filling a hole, as the editors' plug-ins send it.
//!
//! What shapes only speed, or asks for samplers of llama.cpp's own, is taken and has no effect; the reply lists such
//! fields in `not_applied`. Every other field that is not known is refused by name, as everywhere.

use axum::{Json, extract::State};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    App, access::Caller, body::Body, constraints::Constraints, error::HttpError, openai::StopField, recorder::Recorder,
    request_fields::request_body,
};
use crate::maze::{Completed, FinishReason, GenerateRequest, Hole, OnUnparsableContext, Prompt, Truncation};

request_body! {
/// `POST /infill`.
pub(crate) struct InfillBody {
    model: Option<String>,
    input_prefix: String,
    input_suffix: String,
    /// Text of other files, for the model alone.
    #[serde(default)]
    input_extra: Vec<ExtraFile>,
    /// What stands between the prefix and the cursor: the beginning of the hole.
    #[serde(default)]
    prompt: String,
    /// -1 for the server's default; with 0 nothing is computed.
    n_predict: Option<i64>,
    seed: Option<u64>,
    stop: Option<StopField>,
    stream: Option<bool>,
    /// The fields of the reply that are wanted, with `/` between levels.
    response_fields: Option<Vec<String>>,
    #[schemars(with = "Option<String>")]
    truncation: Option<Truncation>,
    #[schemars(with = "Option<String>")]
    on_unparsable_context: Option<OnUnparsableContext>,
    samplers: Option<Value>,
    cache_prompt: Option<Value>,
    id_slot: Option<Value>,
    n_indent: Option<Value>,
    t_max_prompt_ms: Option<Value>,
    t_max_predict_ms: Option<Value>,
}
}

/// A piece of another file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ExtraFile {
    filename: Option<String>,
    text: String,
    /// Part of the protocol: when the editor saw it.
    #[serde(rename = "time")]
    _time: Option<Value>,
}

pub(crate) async fn create(
    State(app): State<App>,
    caller: Caller,
    recorder: Recorder,
    Body(body): Body<InfillBody>,
) -> Result<Json<Value>, HttpError> {
    app.expect_model(body.model.as_deref())?;
    if body.stream == Some(true) {
        return Err(HttpError::unsupported("stream", "this endpoint answers at once; stream by /v1/completions"));
    }
    let not_applied = body.not_applied();
    let fields = body.response_fields.clone();
    let reply = match body.n_predict {
        // Editors warm llama.cpp's cache so; here there is nothing to reply but that.
        Some(0) => json!({"content": "", "stop": true, "tokens_predicted": 0, "tokens_evaluated": 0}),
        _ => fill(&app, &caller, &recorder, body).await?,
    };
    let mut reply = reply;
    reply["model"] = json!(app.maze.model().id);
    reply["not_applied"] = json!(not_applied);
    Ok(Json(match fields {
        Some(fields) => only(&reply, &fields),
        None => reply,
    }))
}

async fn fill(app: &App, caller: &Caller, recorder: &Recorder, mut body: InfillBody) -> Result<Value, HttpError> {
    let default = app.maze.config().max_tokens_default;
    let asked = match body.n_predict {
        None | Some(-1) => None,
        Some(count) => Some(u32::try_from(count).map_err(|_| {
            HttpError::invalid_value("n_predict", format!("{count} is neither -1 nor a number of tokens"))
        })?),
    };
    let sampling = body.take_sampling().params(app.maze.model().vocab_len)?;
    let constraints = Constraints::read(body.take_constraints(), app.profiles.as_deref())?;
    let stop = body.stop.take().map(StopField::into_vec).unwrap_or_default();
    let may_be_stopped = !stop.is_empty();
    let (request, origins) = constraints.bind(GenerateRequest {
        prompt: Prompt::Hole(body.take_hole()),
        sampling,
        max_tokens: caller.max_tokens(asked, default)?,
        stop,
        num_choices: 1,
        seed: body.seed,
        client: caller.client.clone(),
        ..GenerateRequest::default()
    });
    let mut generations = recorder.generate(&app.maze, caller, &[request], &origins).await?;
    let generation = generations.pop().expect("one request was handed in and admitted");
    let num_prompt_tokens = generation.num_prompt_tokens();
    let mut answers = generation.collect().await.map_err(|error| error.locate(&origins))?;
    let answer = answers.pop().expect("one choice was asked for and collected");
    Ok(reply(answer, num_prompt_tokens, app.maze.model().context_len, may_be_stopped))
}

impl InfillBody {
    pub(crate) fn take_hole(&mut self) -> Hole {
        Hole {
            prefix: std::mem::take(&mut self.input_prefix),
            suffix: std::mem::take(&mut self.input_suffix),
            begun: std::mem::take(&mut self.prompt),
            extra: std::mem::take(&mut self.input_extra).into_iter().map(ExtraFile::into_text).collect(),
            truncation: self.truncation.unwrap_or_default(),
            on_unparsable_context: self.on_unparsable_context.unwrap_or_default(),
        }
    }

    /// The fields that were sent and have no effect here.
    fn not_applied(&self) -> Vec<&'static str> {
        let fields = [
            ("samplers", &self.samplers),
            ("cache_prompt", &self.cache_prompt),
            ("id_slot", &self.id_slot),
            ("n_indent", &self.n_indent),
            ("t_max_prompt_ms", &self.t_max_prompt_ms),
            ("t_max_predict_ms", &self.t_max_predict_ms),
        ];
        fields.into_iter().filter(|(_, value)| value.is_some()).map(|(name, _)| name).collect()
    }
}

impl ExtraFile {
    fn into_text(self) -> String {
        let Self { filename, text, .. } = self;
        filename.map_or_else(|| format!("{text}\n"), |filename| format!("{filename}\n{text}\n"))
    }
}

/// The reply with llama.cpp's names, and ours beside them.
fn reply(answer: Completed, num_prompt_tokens: u32, context_len: usize, may_be_stopped: bool) -> Value {
    let Completed { text, finish, .. } = answer;
    let stats = finish.stats;
    let (prompt_ms, total_ms) = (stats.time_to_first_token_ms, stats.total_time_ms);
    let fim = finish.provenance.fim.as_ref();
    let was_cut =
        fim.is_some_and(|fim| fim.prefix_tokens_dropped + fim.suffix_tokens_dropped + fim.extra_tokens_dropped > 0);
    let mut reply = json!({
        "content": text,
        "stop": true,
        "tokens_predicted": finish.num_tokens,
        "tokens_evaluated": num_prompt_tokens,
        "tokens_cached": num_prompt_tokens + finish.num_tokens,
        "truncated": was_cut,
        "generation_settings": {"n_ctx": context_len, "seed": finish.provenance.seed},
        "timings": timings(num_prompt_tokens, prompt_ms, finish.num_tokens, total_ms.saturating_sub(prompt_ms)),
        "finish_reason": finish.reason,
        "validation": finish.validation,
        "provenance": finish.provenance,
    });
    // An end token or a stop string: where both may be, nobody knows which.
    match finish.reason {
        FinishReason::Length => reply["stop_type"] = json!("limit"),
        FinishReason::Stop if !may_be_stopped => reply["stop_type"] = json!("eos"),
        FinishReason::Stop | FinishReason::DeadEnd => {}
    }
    if let Some(detail) = finish.detail {
        reply["finish_detail"] = json!(detail);
    }
    reply
}

fn timings(prompt_n: u32, prompt_ms: u64, predicted_n: u32, predicted_ms: u64) -> Value {
    let each = |count: u32, ms: u64| ms as f64 / f64::from(count.max(1));
    let per_second = |count: u32, ms: u64| f64::from(count) * 1_000.0 / ms.max(1) as f64;
    json!({
        "prompt_n": prompt_n,
        "prompt_ms": prompt_ms,
        "prompt_per_token_ms": each(prompt_n, prompt_ms),
        "prompt_per_second": per_second(prompt_n, prompt_ms),
        "predicted_n": predicted_n,
        "predicted_ms": predicted_ms,
        "predicted_per_token_ms": each(predicted_n, predicted_ms),
        "predicted_per_second": per_second(predicted_n, predicted_ms),
    })
}

/// The wanted fields, each under the path that it was asked for by; what there is not is left out.
fn only(reply: &Value, fields: &[String]) -> Value {
    let found = |path: &String| {
        let value = path.split('/').try_fold(reply, |value, name| value.get(name))?;
        Some((path.clone(), value.clone()))
    };
    Value::Object(fields.iter().filter_map(found).collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_picked_by_their_paths() {
        let reply = json!({"content": "x", "timings": {"prompt_n": 3, "prompt_ms": 4}});
        let picked = |fields: &[&str]| only(&reply, &fields.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(picked(&["content", "timings/prompt_n"]), json!({"content": "x", "timings/prompt_n": 3}));
        assert_eq!(picked(&[""]), json!({}));
        assert_eq!(picked(&["timings", "timings/none"]), json!({"timings": {"prompt_n": 3, "prompt_ms": 4}}));
    }
}
