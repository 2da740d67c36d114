//! The wire types of `POST /v1/responses`.
//!
//! The same rules as in `openai.rs`: unknown fields are refused, and what is read is honoured or answered with an error
//! that names it. What a reply repeats of its request (`tools`, `tool_choice`, `text`) is kept as it came.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::chat::wire::{Part, Role};
use super::super::request_fields::request_body;
use crate::maze::{Provenance, Validation};

request_body! {
/// `POST /v1/responses`.
pub(crate) struct ResponsesRequest {
    /// The loaded model's id, or absent.
    pub(crate) model: Option<String>,
    pub(crate) input: InputField,
    /// What the system says before the input.
    pub(crate) instructions: Option<String>,
    /// Default: the server's.
    pub(crate) max_output_tokens: Option<u32>,
    pub(crate) seed: Option<u64>,
    pub(crate) text: Option<Value>,
    pub(crate) tools: Option<Vec<Value>>,
    pub(crate) tool_choice: Option<Value>,
    /// Whether one answer may hold several calls. Default: true.
    pub(crate) parallel_tool_calls: Option<bool>,
    pub(crate) stream: Option<bool>,
    pub(crate) metadata: Option<BTreeMap<String, String>>,
    pub(crate) user: Option<String>,
    #[serde(rename = "safety_identifier")]
    pub(crate) _safety_identifier: Option<String>,
    #[serde(rename = "prompt_cache_key")]
    pub(crate) _prompt_cache_key: Option<String>,
    /// Only `false`: nothing is kept.
    pub(crate) store: Option<bool>,
    /// Only `false`.
    pub(crate) background: Option<bool>,
    /// Only `disabled`: what is too long is refused.
    pub(crate) truncation: Option<String>,
    /// Only `auto` and `default`: there is one tier.
    pub(crate) service_tier: Option<String>,
    /// Only empty.
    pub(crate) include: Option<Vec<String>>,
    pub(crate) stream_options: Option<Value>,
    pub(crate) previous_response_id: Option<Value>,
    pub(crate) conversation: Option<Value>,
    pub(crate) prompt: Option<Value>,
    pub(crate) reasoning: Option<Value>,
    pub(crate) max_tool_calls: Option<Value>,
    pub(crate) top_logprobs: Option<Value>,
}
}

/// What the user says, or all that was said so far.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a string or a list of items")]
pub(crate) enum InputField {
    Text(String),
    Items(Vec<Value>),
}

/// An item of type `message`, which may leave its type out.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MessageItem {
    #[serde(rename = "type")]
    pub(crate) _kind: Option<String>,
    pub(crate) role: Role,
    pub(crate) content: ItemText,
    #[serde(rename = "id")]
    pub(crate) _id: Option<String>,
    #[serde(rename = "status")]
    pub(crate) _status: Option<String>,
}

/// A text, or the parts of one.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a string or a list of text parts")]
pub(crate) enum ItemText {
    Text(String),
    Parts(Vec<Part>),
}

/// A call that an earlier answer made.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CallItem {
    #[serde(rename = "type")]
    pub(crate) _kind: String,
    pub(crate) call_id: String,
    pub(crate) name: String,
    pub(crate) arguments: String,
    #[serde(rename = "id")]
    pub(crate) _id: Option<String>,
    #[serde(rename = "status")]
    pub(crate) _status: Option<String>,
}

/// The result of a call.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResultItem {
    #[serde(rename = "type")]
    pub(crate) _kind: String,
    pub(crate) call_id: String,
    pub(crate) output: ItemText,
    #[serde(rename = "id")]
    pub(crate) _id: Option<String>,
    #[serde(rename = "status")]
    pub(crate) _status: Option<String>,
}

/// A function that the model may call.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FunctionTool {
    #[serde(rename = "type")]
    pub(crate) _kind: String,
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    pub(crate) parameters: Option<Value>,
    pub(crate) strict: Option<bool>,
}

/// `tool_choice` as one function.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChosenFunction {
    #[serde(rename = "type")]
    pub(crate) _kind: String,
    pub(crate) name: String,
}

/// How the answer is written.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TextField {
    pub(crate) format: Option<FormatField>,
    pub(crate) verbosity: Option<Value>,
}

/// `text.format`; name and schema only with `json_schema`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FormatField {
    #[serde(rename = "type")]
    pub(crate) kind: FormatKind,
    pub(crate) name: Option<String>,
    pub(crate) schema: Option<Value>,
    pub(crate) strict: Option<bool>,
    pub(crate) description: Option<String>,
}

/// The `type` of a [`FormatField`].
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FormatKind {
    Text,
    JsonObject,
    JsonSchema,
}

/// The reply, also as it stands at the beginning of a stream.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct Response {
    pub(crate) id: String,
    pub(crate) object: &'static str,
    pub(crate) created_at: u64,
    /// `in_progress`, `completed`, `incomplete` or `failed`.
    pub(crate) status: &'static str,
    pub(crate) background: bool,
    pub(crate) error: Option<ResponseError>,
    pub(crate) incomplete_details: Option<IncompleteDetails>,
    pub(crate) instructions: Option<String>,
    pub(crate) max_output_tokens: Option<u32>,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) model: String,
    pub(crate) output: Vec<Item>,
    pub(crate) parallel_tool_calls: bool,
    pub(crate) previous_response_id: Option<String>,
    pub(crate) store: bool,
    pub(crate) temperature: f32,
    pub(crate) text: Value,
    pub(crate) tool_choice: Value,
    pub(crate) tools: Vec<Value>,
    pub(crate) top_p: f32,
    pub(crate) truncation: &'static str,
    pub(crate) usage: Option<ResponseUsage>,
    pub(crate) user: Option<String>,
    /// A verdict per part.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Value>")]
    pub(crate) validation: Option<Validation>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<serde_json::Value>")]
    pub(crate) provenance: Vec<Provenance>,
}

/// Why a response failed on its way.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct ResponseError {
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

/// Why a response is not complete.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct IncompleteDetails {
    /// `max_output_tokens`, or `dead_end` where no token satisfied all parts.
    pub(crate) reason: &'static str,
    /// Which parts met no token, and at which byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) detail: Option<String>,
}

/// What was read and written, in tokens.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
pub(crate) struct ResponseUsage {
    pub(crate) input_tokens: u32,
    pub(crate) input_tokens_details: InputDetails,
    pub(crate) output_tokens: u32,
    pub(crate) output_tokens_details: OutputDetails,
    pub(crate) total_tokens: u32,
}

/// Part of the protocol; what a prefix cache saved is not counted by request.
#[derive(Clone, Copy, Debug, Default, Serialize, JsonSchema)]
pub(crate) struct InputDetails {
    pub(crate) cached_tokens: u32,
}

/// Part of the protocol; no token is hidden.
#[derive(Clone, Copy, Debug, Default, Serialize, JsonSchema)]
pub(crate) struct OutputDetails {
    pub(crate) reasoning_tokens: u32,
}

/// A piece of the answer.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Item {
    Message { id: String, status: &'static str, role: &'static str, content: Vec<OutputText> },
    FunctionCall { id: String, status: &'static str, call_id: String, name: String, arguments: String },
}

/// The text of a message.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct OutputText {
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) text: String,
    pub(crate) annotations: [(); 0],
    pub(crate) logprobs: [(); 0],
}

impl OutputText {
    pub(crate) fn new(text: String) -> Self {
        Self { kind: "output_text", text, annotations: [], logprobs: [] }
    }
}

/// An event of a stream, as it goes over the wire.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Event {
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) sequence_number: u64,
    #[serde(flatten)]
    pub(crate) what: What,
}

/// What an event brings; its type says which of them.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum What {
    Item { output_index: usize, item: Item },
    Part { item_id: String, output_index: usize, content_index: usize, part: OutputText },
    TextDelta { item_id: String, output_index: usize, content_index: usize, delta: String, logprobs: [(); 0] },
    Text { item_id: String, output_index: usize, content_index: usize, text: String, logprobs: [(); 0] },
    ArgumentsDelta { item_id: String, output_index: usize, delta: String },
    Arguments { item_id: String, output_index: usize, name: String, arguments: String },
}

/// An event that tells how the whole response stands.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct StatusEvent {
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) sequence_number: u64,
    pub(crate) response: Response,
}
