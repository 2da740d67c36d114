//! The two ways to ask for JSON of a schema: `response_format` of OpenAI's chat completions, and a tool that must be
//! called of Anthropic's messages.

use serde_json::{Value, json};

use super::{Key, Question};

/// The version of Anthropic's interface that is spoken.
const ANTHROPIC_VERSION: &str = "2023-06-01";

/// What a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `POST /chat/completions`, as OpenAI and the self-hosted servers have it.
    Openai,
    /// `POST /v1/messages`, as Anthropic has it.
    Anthropic,
}

/// Why a reply holds no answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Problem {
    Malformed(&'static str),
    Cut(String),
    Declined(String),
}

impl Dialect {
    /// The headers that say who asks.
    pub(super) fn headers(self, key: Option<&Key>) -> Vec<(&'static str, String)> {
        match self {
            Self::Openai => key.map(|key| ("authorization", format!("Bearer {}", key.secret()))).into_iter().collect(),
            Self::Anthropic => [("anthropic-version", ANTHROPIC_VERSION.to_owned())]
                .into_iter()
                .chain(key.map(|key| ("x-api-key", key.secret().to_owned())))
                .collect(),
        }
    }

    /// The body of a request. No temperature is asked for: some models take only their own.
    pub(super) fn request(self, model: &str, question: &Question<'_>) -> Value {
        let Question { system, user, answer_name, schema, max_tokens } = question;
        match self {
            Self::Openai => json!({
                "model": model,
                "messages": [{"role": "system", "content": system}, {"role": "user", "content": user}],
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": answer_name, "strict": true, "schema": schema},
                },
                "max_completion_tokens": max_tokens,
                "stream": false,
            }),
            Self::Anthropic => json!({
                "model": model,
                "system": system,
                "messages": [{"role": "user", "content": user}],
                "tools": [{"name": answer_name, "description": "Gives the answer.", "input_schema": schema}],
                "tool_choice": {"type": "tool", "name": answer_name},
                "max_tokens": max_tokens,
                "stream": false,
            }),
        }
    }

    /// The text of the answer in a reply.
    pub(super) fn answer(self, reply: &Value, answer_name: &str) -> Result<String, Problem> {
        match self {
            Self::Openai => openai(reply),
            Self::Anthropic => anthropic(reply, answer_name),
        }
    }
}

fn openai(reply: &Value) -> Result<String, Problem> {
    let choice = reply.pointer("/choices/0").ok_or(Problem::Malformed("it has no `choices`"))?;
    if let Some(said) = choice.pointer("/message/refusal").and_then(Value::as_str) {
        return Err(Problem::Declined(said.to_owned()));
    }
    match choice["finish_reason"].as_str() {
        None | Some("stop") => {}
        Some("content_filter") => return Err(Problem::Declined("content_filter".to_owned())),
        Some(reason) => return Err(Problem::Cut(reason.to_owned())),
    }
    let content = choice.pointer("/message/content").and_then(Value::as_str);
    content.map(str::to_owned).ok_or(Problem::Malformed("its message has no text in `content`"))
}

fn anthropic(reply: &Value, answer_name: &str) -> Result<String, Problem> {
    match reply["stop_reason"].as_str() {
        None | Some("tool_use" | "end_turn") => {}
        Some("refusal") => return Err(Problem::Declined("refusal".to_owned())),
        Some(reason) => return Err(Problem::Cut(reason.to_owned())),
    }
    let content = reply["content"].as_array().ok_or(Problem::Malformed("it has no list in `content`"))?;
    let is_answer = |block: &&Value| block["type"] == "tool_use" && block["name"] == answer_name;
    let block = content.iter().find(is_answer).ok_or(Problem::Malformed("it does not call the tool it was given"))?;
    block.get("input").map(Value::to_string).ok_or(Problem::Malformed("its call of the tool has no `input`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_binds_in_both_dialects() {
        let schema = json!({"type": "object"});
        let question = Question { system: "s", user: "u", answer_name: "report", schema: &schema, max_tokens: 9 };
        let body = Dialect::Openai.request("m", &question);
        assert_eq!(body.pointer("/response_format/json_schema/schema"), Some(&schema));
        assert_eq!(body.pointer("/response_format/json_schema/strict"), Some(&json!(true)));
        let body = Dialect::Anthropic.request("m", &question);
        assert_eq!(body.pointer("/tools/0/input_schema"), Some(&schema));
        assert_eq!(body["tool_choice"], json!({"type": "tool", "name": "report"}));
    }

    #[test]
    fn answers_are_found_and_everything_else_is_named() {
        let ok = json!({"choices": [{"message": {"content": "{}"}, "finish_reason": "stop"}]});
        assert_eq!(Dialect::Openai.answer(&ok, "r"), Ok("{}".to_owned()));
        let ok = json!({"content": [{"type": "text", "text": "well"}, {"type": "tool_use", "name": "r", "input": {}}],
                        "stop_reason": "tool_use"});
        assert_eq!(Dialect::Anthropic.answer(&ok, "r"), Ok("{}".to_owned()));
        for (dialect, reply, expected) in [
            (Dialect::Openai, json!({}), Problem::Malformed("it has no `choices`")),
            (Dialect::Openai, json!([1]), Problem::Malformed("it has no `choices`")),
            (
                Dialect::Openai,
                json!({"choices": [{"message": {"content": null}}]}),
                Problem::Malformed("its message has no text in `content`"),
            ),
            (
                Dialect::Openai,
                json!({"choices": [{"message": {"content": "{"}, "finish_reason": "length"}]}),
                Problem::Cut("length".to_owned()),
            ),
            (
                Dialect::Openai,
                json!({"choices": [{"message": {"refusal": "no", "content": "{}"}}]}),
                Problem::Declined("no".to_owned()),
            ),
            (Dialect::Anthropic, json!({"content": "text"}), Problem::Malformed("it has no list in `content`")),
            (
                Dialect::Anthropic,
                json!({"content": [{"type": "tool_use", "name": "other", "input": {}}]}),
                Problem::Malformed("it does not call the tool it was given"),
            ),
            (
                Dialect::Anthropic,
                json!({"content": [], "stop_reason": "max_tokens"}),
                Problem::Cut("max_tokens".to_owned()),
            ),
            (
                Dialect::Anthropic,
                json!({"content": [], "stop_reason": "refusal"}),
                Problem::Declined("refusal".to_owned()),
            ),
        ] {
            assert_eq!(dialect.answer(&reply, "r"), Err(expected), "{reply}");
        }
    }
}
