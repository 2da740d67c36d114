//! The wire types of `POST /v1/chat/completions`.
//!
//! The same rules as in `openai.rs`: unknown fields are refused, and what is read is honoured or answered with an error
//! that names it. Labels that ask for nothing (`user`, `metadata`, `safety_identifier`, `prompt_cache_key`) are taken
//! and left alone.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::{
    openai::{StopField, StreamOptions, Usage},
    request_fields::request_body,
};
use crate::maze::{Provenance, Validation};

request_body! {
/// `POST /v1/chat/completions`.
#[derive(Default)]
pub(crate) struct ChatRequest {
    /// The loaded model's id, or absent.
    pub(crate) model: Option<String>,
    pub(crate) messages: Vec<ChatMessage>,
    /// Default: the server's. The older name of `max_completion_tokens`.
    pub(crate) max_tokens: Option<u32>,
    pub(crate) max_completion_tokens: Option<u32>,
    pub(crate) n: Option<u32>,
    pub(crate) seed: Option<u64>,
    pub(crate) stop: Option<StopField>,
    pub(crate) stream: Option<bool>,
    pub(crate) stream_options: Option<StreamOptions>,
    pub(crate) logprobs: Option<bool>,
    /// Alternatives per token, only with `logprobs`.
    pub(crate) top_logprobs: Option<u32>,
    pub(crate) tools: Option<Vec<Tool>>,
    pub(crate) tool_choice: Option<ToolChoice>,
    /// Whether one answer may hold several calls. Default: true.
    pub(crate) parallel_tool_calls: Option<bool>,
    #[serde(rename = "user")]
    pub(crate) _user: Option<String>,
    #[serde(rename = "metadata")]
    pub(crate) _metadata: Option<BTreeMap<String, String>>,
    #[serde(rename = "safety_identifier")]
    pub(crate) _safety_identifier: Option<String>,
    #[serde(rename = "prompt_cache_key")]
    pub(crate) _prompt_cache_key: Option<String>,
    /// Only `false`: nothing is kept.
    pub(crate) store: Option<bool>,
    /// Only `auto` and `default`: there is one tier.
    pub(crate) service_tier: Option<String>,
    /// Only `["text"]`.
    pub(crate) modalities: Option<Vec<String>>,
    /// Refused: `tools` has taken their place.
    pub(crate) functions: Option<Value>,
    pub(crate) function_call: Option<Value>,
    pub(crate) audio: Option<Value>,
    pub(crate) prediction: Option<Value>,
    pub(crate) reasoning_effort: Option<Value>,
    pub(crate) verbosity: Option<Value>,
    pub(crate) web_search_options: Option<Value>,
}
}

/// One message of the chat so far.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChatMessage {
    pub(crate) role: Role,
    /// May be absent beside `tool_calls`.
    pub(crate) content: Option<Content>,
    /// Calls that an earlier answer made.
    pub(crate) tool_calls: Option<Vec<PastCall>>,
    /// Of a `tool` message: which call it answers.
    pub(crate) tool_call_id: Option<String>,
    /// Who of several speaks. Templates have no place for it.
    #[serde(rename = "name")]
    pub(crate) _name: Option<String>,
    /// What earlier answers carry back; nothing is read from it but that it is empty.
    pub(crate) refusal: Option<String>,
    pub(crate) function_call: Option<Value>,
    pub(crate) audio: Option<Value>,
    /// Citations of earlier answers of other servers.
    #[serde(rename = "annotations")]
    pub(crate) _annotations: Option<Vec<Value>>,
}

impl ChatMessage {
    /// A message without calls.
    pub(crate) fn new(role: Role, content: Option<Content>) -> Self {
        Self {
            role,
            content,
            tool_calls: None,
            tool_call_id: None,
            _name: None,
            refusal: None,
            function_call: None,
            audio: None,
            _annotations: None,
        }
    }
}

/// Who speaks.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    System,
    /// OpenAI's newer word for `system`.
    Developer,
    User,
    Assistant,
    Tool,
}

/// A text, or the parts of one.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a string or a list of text parts")]
pub(crate) enum Content {
    Text(String),
    Parts(Vec<Part>),
}

/// A part of a message; only text can be read.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct Part {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) text: Option<String>,
    /// What a part of another type brings; a text has nothing more.
    #[serde(flatten)]
    pub(crate) others: BTreeMap<String, Value>,
}

/// A call that an earlier answer made.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PastCall {
    pub(crate) id: String,
    #[serde(rename = "type")]
    pub(crate) _kind: FunctionWord,
    pub(crate) function: PastFunction,
    /// Streams number their calls, and some clients send the number back.
    #[serde(rename = "index")]
    pub(crate) _index: Option<u32>,
}

/// What was called, with the JSON text of its arguments.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PastFunction {
    pub(crate) name: String,
    pub(crate) arguments: String,
}

/// The one type of tool there is.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FunctionWord {
    Function,
}

/// A function that the model may call.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tool {
    #[serde(rename = "type")]
    pub(crate) _kind: FunctionWord,
    pub(crate) function: ToolFunction,
}

/// Its name, what it is for, and the schema of its arguments.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ToolFunction {
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    /// Default: no arguments.
    pub(crate) parameters: Option<Value>,
    /// Part of the protocol; strict or not, the schema is enforced token by token.
    #[serde(rename = "strict")]
    pub(crate) _strict: Option<bool>,
}

/// Whether tools are called.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "expected `auto`, `none`, `required` or `{\"type\": \"function\", \"function\": {\"name\"}}`"
)]
pub(crate) enum ToolChoice {
    Mode(ToolMode),
    Named(NamedTool),
}

/// `tool_choice` as a word.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ToolMode {
    Auto,
    None,
    Required,
}

/// `tool_choice` as one function.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NamedTool {
    #[serde(rename = "type")]
    pub(crate) _kind: FunctionWord,
    pub(crate) function: NamedFunction,
}

/// The name of one function.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NamedFunction {
    pub(crate) name: String,
}

/// The reply, and one chunk of its stream; `C` is a choice of either.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ChatReply<C> {
    pub(crate) id: String,
    pub(crate) object: &'static str,
    pub(crate) created: u64,
    pub(crate) model: String,
    pub(crate) choices: Vec<C>,
    /// Absent in the chunks of a stream, but for the last one when it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) usage: Option<Usage>,
    /// One record per finished choice, in the order of `choices`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<serde_json::Value>")]
    pub(crate) provenance: Vec<Provenance>,
}

/// One answer.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ChatChoice {
    pub(crate) index: u32,
    pub(crate) message: AnswerMessage,
    pub(crate) logprobs: Option<ChatLogprobs>,
    /// `stop`, `length`, `tool_calls` or `dead_end`.
    pub(crate) finish_reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) finish_detail: Option<String>,
    #[schemars(with = "serde_json::Value")]
    pub(crate) validation: Validation,
}

/// What the model said.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct AnswerMessage {
    pub(crate) role: &'static str,
    /// Null where the answer is calls alone.
    pub(crate) content: Option<String>,
    pub(crate) refusal: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tool_calls: Vec<ToolCall>,
}

/// A call that the model made.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ToolCall {
    pub(crate) id: String,
    #[serde(rename = "type")]
    pub(crate) kind: FunctionWord,
    pub(crate) function: CalledFunction,
}

/// What is called, with the JSON text of its arguments.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct CalledFunction {
    pub(crate) name: String,
    pub(crate) arguments: String,
}

/// A piece of one answer.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ChatDelta {
    pub(crate) index: u32,
    pub(crate) delta: DeltaMessage,
    pub(crate) logprobs: Option<ChatLogprobs>,
    pub(crate) finish_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) finish_detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Value>")]
    pub(crate) validation: Option<Validation>,
}

/// What is new of a message; the first one names the role.
#[derive(Debug, Default, PartialEq, Serialize, JsonSchema)]
pub(crate) struct DeltaMessage {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tool_calls: Vec<ToolCallDelta>,
}

/// What is new of a call; the first piece has its id, type and name.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct ToolCallDelta {
    pub(crate) index: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<FunctionWord>,
    pub(crate) function: FunctionDelta,
}

/// What is new of what is called.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct FunctionDelta {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    pub(crate) arguments: String,
}

/// Log-probabilities in the shape of chat completions: of every token, those of calls among them.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ChatLogprobs {
    pub(crate) content: Vec<TokenLogprob>,
    pub(crate) refusal: Option<Vec<TokenLogprob>>,
}

/// One token's.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct TokenLogprob {
    pub(crate) token: String,
    pub(crate) logprob: f32,
    /// What it stands for, also where that is no whole character.
    pub(crate) bytes: Vec<u8>,
    pub(crate) top_logprobs: Vec<TopLogprob>,
}

/// One alternative's.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct TopLogprob {
    pub(crate) token: String,
    pub(crate) logprob: f32,
    pub(crate) bytes: Vec<u8>,
}
