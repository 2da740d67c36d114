//! The wire types of the OpenAI-compatible endpoints, and of `POST /generate`.
//!
//! Requests refuse unknown fields, and every field a request may carry is either honoured or answered with an error
//! that names it. What draws tokens and what binds the answer is the same for all endpoints (`request_fields.rs`), in
//! OpenAI's words, vLLM's, llama.cpp's and our own. Replies carry OpenAI's fields, and beside them `validation` in each choice
//! and `provenance`, one record per choice in the order of `choices`.
//!
//! What several fields ask for all holds. Verdicts and provenance number the IRs in this order: `response_format`;
//! `structured_outputs` with `json`, `json_object`, `regex`, `choice`, `grammar`, `structural_tag`; `guided_json`,
//! `guided_regex`, `guided_choice`, `guided_grammar`; `grammar`, `json_schema`; `constraint_ir`; `constraint_spec`; the
//! IRs in `constraints`; `tools`; one of the set in `constraints` with `context`; the profiles.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{error::HttpError, request_fields::request_body};
use crate::maze::{ChoiceStats, FinishReason, Language, OnUnparsableContext, Provenance, Truncation, Validation};

request_body! {
/// `POST /v1/completions`.
pub(crate) struct CompletionRequest {
    /// The loaded model's id, or absent.
    pub(crate) model: Option<String>,
    pub(crate) prompt: PromptField,
    /// Default: 16 as OpenAI's, but the server's own default where anything constrains the output. 0 goes with `echo`
    /// alone: then the answer is the prompt.
    pub(crate) max_tokens: Option<u32>,
    pub(crate) n: Option<u32>,
    /// So many are generated, and the `n` with the highest mean log-probability sent. Not in a stream.
    pub(crate) best_of: Option<u32>,
    pub(crate) seed: Option<u64>,
    pub(crate) stop: Option<StopField>,
    /// Whether each answer begins with the prompt.
    pub(crate) echo: Option<bool>,
    /// How many alternatives to report with each token's log-probability. With `echo` the prompt's tokens come first;
    /// not together with `suffix` or `token_healing`.
    pub(crate) logprobs: Option<u32>,
    pub(crate) stream: Option<bool>,
    pub(crate) stream_options: Option<StreamOptions>,
    /// Part of the protocol, an opaque label of the caller; nothing is done with it.
    #[serde(rename = "user")]
    pub(crate) _user: Option<String>,
    /// Whether the answer may write the end of the prompt again, in longer tokens; by default it does not.
    pub(crate) token_healing: Option<bool>,
    /// The text behind the hole that is to be filled; the prompt stands before it.
    pub(crate) suffix: Option<String>,
    /// `auto`, which is the default, cuts a document that is too long farthest from the hole; `disabled` refuses it.
    #[schemars(with = "Option<String>")]
    pub(crate) truncation: Option<Truncation>,
    /// With a suffix: `hole_only`, which is the default, or `refuse`.
    #[schemars(with = "Option<String>")]
    pub(crate) on_unparsable_context: Option<OnUnparsableContext>,
}
}

request_body! {
/// `POST /generate`.
pub(crate) struct GenerateBody {
    pub(crate) prompt: String,
    /// Default: the server's.
    pub(crate) max_tokens: Option<u32>,
    pub(crate) seed: Option<u64>,
    pub(crate) stop: Option<StopField>,
}
}

/// One prompt or several, as text or as token ids.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "expected a string, a list of strings, a list of token ids, or a list of lists of token ids"
)]
pub(crate) enum PromptField {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<u32>),
    TokenLists(Vec<Vec<u32>>),
}

/// One stop string or several.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a string or a list of strings")]
pub(crate) enum StopField {
    One(String),
    Many(Vec<String>),
}

impl StopField {
    pub(crate) fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(stop) => vec![stop],
            Self::Many(stops) => stops,
        }
    }
}

/// How a stream is to be framed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StreamOptions {
    pub(crate) include_usage: Option<bool>,
}

/// OpenAI's `response_format`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResponseFormat {
    #[serde(rename = "type")]
    pub(crate) kind: ResponseFormatKind,
    pub(crate) json_schema: Option<JsonSchemaFormat>,
    /// vLLM's structural tag: `format` in the newer shape, `structures` and `triggers` in the older.
    format: Option<Value>,
    structures: Option<Value>,
    triggers: Option<Value>,
}

impl ResponseFormat {
    /// Any but a structural tag.
    pub(crate) fn new(kind: ResponseFormatKind, json_schema: Option<JsonSchemaFormat>) -> Self {
        Self { kind, json_schema, format: None, structures: None, triggers: None }
    }

    /// The first field that only a structural tag has.
    pub(crate) fn tag_field(&self) -> Option<&'static str> {
        self.tag_fields().find_map(|(field, value)| value.is_some().then_some(field))
    }

    /// The structural tag alone.
    ///
    /// # Errors
    /// A schema beside it.
    pub(crate) fn structural_tag(self) -> Result<Value, HttpError> {
        if self.json_schema.is_some() {
            let param = "response_format.json_schema";
            return Err(HttpError::invalid_value(param, "only goes with `type: json_schema`"));
        }
        let fields = self.tag_fields().filter_map(|(field, value)| Some((field.to_owned(), value.clone()?)));
        Ok(Value::Object(fields.collect()))
    }

    fn tag_fields(&self) -> impl Iterator<Item = (&'static str, &Option<Value>)> {
        [("format", &self.format), ("structures", &self.structures), ("triggers", &self.triggers)].into_iter()
    }
}

/// The `type` of a [`ResponseFormat`].
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ResponseFormatKind {
    Text,
    JsonObject,
    JsonSchema,
    StructuralTag,
}

/// A named schema; `strict` or not, it is enforced token by token.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct JsonSchemaFormat {
    pub(crate) name: String,
    pub(crate) schema: Value,
    /// Part of the protocol; `false` only asks for less than is given.
    #[serde(rename = "strict")]
    pub(crate) _strict: Option<bool>,
    /// Part of the protocol: what the format is for, in words. It does not enter the prompt.
    #[serde(rename = "description")]
    pub(crate) _description: Option<String>,
}

/// vLLM's `structured_outputs`; here several may be given, and all hold.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StructuredOutputs {
    /// A JSON Schema, or the text of one.
    pub(crate) json: Option<Value>,
    pub(crate) regex: Option<String>,
    pub(crate) choice: Option<Vec<String>>,
    /// GBNF if it has a rule `root ::=`, EBNF if it has another `::=`, Lark otherwise.
    pub(crate) grammar: Option<String>,
    pub(crate) json_object: Option<bool>,
    pub(crate) whitespace_pattern: Option<Value>,
    /// An object, or the text of one, in either of vLLM's shapes.
    pub(crate) structural_tag: Option<Value>,
    pub(crate) disable_fallback: Option<Value>,
    pub(crate) disable_any_whitespace: Option<Value>,
    pub(crate) disable_additional_properties: Option<Value>,
}

/// Source code whose types bind the answer.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ContextField {
    pub(crate) source: String,
    pub(crate) language: Language,
    pub(crate) file: Option<String>,
    #[serde(rename = "type")]
    pub(crate) type_name: Option<String>,
}

/// The reply to `POST /v1/completions`, and one chunk of its stream.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Completion {
    pub(crate) id: String,
    pub(crate) object: &'static str,
    pub(crate) created: u64,
    pub(crate) model: String,
    pub(crate) choices: Vec<CompletionChoice>,
    /// Absent in the chunks of a stream, but for the last one when it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) usage: Option<Usage>,
    /// One record per finished choice, in the order of `choices`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<serde_json::Value>")]
    pub(crate) provenance: Vec<Provenance>,
}

/// One answer, or a piece of it.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct CompletionChoice {
    /// Which prompt and which of its `n` choices: `prompt * n + choice`.
    pub(crate) index: u32,
    pub(crate) text: String,
    pub(crate) logprobs: Option<CompletionLogprobs>,
    /// `stop`, `length` or `dead_end`; null until the last piece.
    #[schemars(with = "Option<String>")]
    pub(crate) finish_reason: Option<FinishReason>,
    /// Which parts met no token at a `dead_end`, and at which byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) finish_detail: Option<String>,
    /// A verdict per part, by engines that share no code with the masks.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Value>")]
    pub(crate) validation: Option<Validation>,
}

/// Log-probabilities in the shape of OpenAI's completions: parallel lists, one entry per token. They are the model's
/// own: before masks, biases, penalties and temperature, for a prompt that is echoed as for its answer.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(crate) struct CompletionLogprobs {
    /// The tokens' texts. The control tokens that a prompt begins with and an answer ends with have their names here
    /// and no place in the text.
    pub(crate) tokens: Vec<String>,
    /// Null for the first token of a prompt, which nothing stands before.
    pub(crate) token_logprobs: Vec<Option<f32>>,
    /// The best tokens of each step by text; two tokens of the same text keep the better one. Null for the first token
    /// of a prompt.
    pub(crate) top_logprobs: Vec<Option<BTreeMap<String, f32>>>,
    /// Where each token begins in the text, in code points.
    pub(crate) text_offset: Vec<usize>,
}

/// What was read and written, in tokens.
#[derive(Clone, Copy, Debug, Default, Serialize, JsonSchema)]
pub(crate) struct Usage {
    pub(crate) prompt_tokens: u32,
    pub(crate) completion_tokens: u32,
    pub(crate) total_tokens: u32,
}

impl Usage {
    pub(crate) fn new(prompt_tokens: u32, completion_tokens: u32) -> Self {
        Self { prompt_tokens, completion_tokens, total_tokens: prompt_tokens.saturating_add(completion_tokens) }
    }
}

/// The reply to `POST /generate`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct GenerateReply {
    pub(crate) generated_text: String,
    pub(crate) tokens_generated: u32,
    pub(crate) model: String,
    #[schemars(with = "serde_json::Value")]
    pub(crate) stats: ChoiceStats,
    #[schemars(with = "String")]
    pub(crate) finish_reason: FinishReason,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) finish_detail: Option<String>,
    #[schemars(with = "serde_json::Value")]
    pub(crate) validation: Validation,
    #[schemars(with = "serde_json::Value")]
    pub(crate) provenance: Provenance,
}

/// The reply to `GET /v1/models`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ModelList {
    pub(crate) object: &'static str,
    pub(crate) data: Vec<ModelObject>,
}

/// One model, with what a client of a local server wants to know beside OpenAI's fields.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ModelObject {
    pub(crate) id: String,
    pub(crate) object: &'static str,
    pub(crate) created: u64,
    pub(crate) owned_by: &'static str,
    /// Prompt and answer together, in tokens; 0 where it is not known, as of a remote model.
    pub(crate) max_model_len: usize,
    pub(crate) architecture: String,
    pub(crate) num_parameters: u64,
    /// What the weights were rounded to when they were loaded; absent where they run as they are stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) quantization: Option<QuantizationObject>,
}

/// Weights rounded on load, and what that changed.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct QuantizationObject {
    /// As `--quantize` has it.
    pub(crate) format: &'static str,
    /// Root mean square of the rounding errors over that of the weights.
    pub(crate) relative_rms_error: f64,
    /// The matrix with the largest error of this kind.
    pub(crate) worst_matrix: Option<String>,
    pub(crate) worst_relative_rms_error: Option<f64>,
}
