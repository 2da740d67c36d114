//! What a remote model server speaks: how it is asked to continue a prompt, and how its answers are read.

use std::collections::VecDeque;

use serde_json::{Map, Value, json};

/// What answers behind an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// OpenAI's completions and chat completions with nothing beside them.
    Openai,
    /// vLLM's server, with `structured_outputs`; SGLang and others take its names too.
    Vllm,
    /// llama.cpp's server, with `json_schema` and `grammar`.
    LlamaCpp,
    /// Another ananke, which takes constraint IRs.
    Ananke,
    /// `POST /generate` of the service on Modal: one prompt in, one JSON body out, constraints as llguidance writes them.
    Modal,
}

/// What a remote model is to continue.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A text.
    Text(String),
    /// Messages, each with its role; the server's own template writes them.
    Chat(Vec<(String, String)>),
}

/// What the remote server is asked to enforce: one thing, as most take no more.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Enforce {
    /// Nothing.
    #[default]
    Nothing,
    /// The output is a document under this JSON Schema.
    JsonSchema(Value),
    /// The whole output matches.
    Regex(String),
    /// The output is a sentence of this GBNF grammar.
    Gbnf(String),
    /// The output is a sentence of this grammar in llguidance's Lark.
    Lark(String),
    /// All of these IRs hold.
    Irs(Vec<Value>),
}

/// One answer that is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    /// What is continued.
    pub input: Input,
    /// What the server is to enforce.
    pub enforce: Enforce,
    /// Most tokens of the answer, in the remote model's own.
    pub max_tokens: u32,
    /// Softmax temperature.
    pub temperature: f32,
    /// Share of probability that is kept; 1 keeps all.
    pub top_p: f32,
    /// Best tokens that are kept; 0 keeps all.
    pub top_k: u32,
    /// Least share of the best token's probability; 0 keeps all.
    pub min_p: f32,
    /// 1 changes nothing.
    pub repetition_penalty: f32,
    /// 0 changes nothing.
    pub frequency_penalty: f32,
    /// 0 changes nothing.
    pub presence_penalty: f32,
    /// The seed, where there is one.
    pub seed: Option<u64>,
}

/// What a server counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub num_prompt_tokens: u32,
    /// Tokens of the answer.
    pub num_tokens: u32,
}

/// Why a server says that its answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The model ended it.
    Stop,
    /// It has all the tokens that were asked for.
    Length,
}

/// The end of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Why.
    pub reason: EndReason,
    /// What the server counted, if it says so.
    pub usage: Option<Usage>,
}

/// What comes of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// More text.
    Text(String),
    /// The end; nothing follows.
    End(End),
}

/// Why a reply holds no answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Problem {
    Malformed(&'static str),
    Cut(String),
    Declined(String),
    Reported(String),
}

impl Service {
    /// Its name in configuration and records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Openai => "openai",
            Self::Vllm => "vllm",
            Self::LlamaCpp => "llamacpp",
            Self::Ananke => "ananke",
            Self::Modal => "modal",
        }
    }

    /// The field of a request that this service has no name for, if there is one that would change the answer.
    #[must_use]
    pub fn lacks(self, ask: &Ask) -> Option<&'static str> {
        let is_plain = matches!(self, Self::Openai | Self::Modal);
        let is_modal = self == Self::Modal;
        [
            ("top_k", is_plain && ask.top_k != 0),
            ("min_p", is_plain && ask.min_p != 0.0),
            ("repetition_penalty", is_plain && ask.repetition_penalty != 1.0),
            ("top_p", is_modal && ask.top_p != 1.0),
            ("frequency_penalty", is_modal && ask.frequency_penalty != 0.0),
            ("presence_penalty", is_modal && ask.presence_penalty != 0.0),
            ("seed", is_modal && ask.seed.is_some()),
            ("messages", is_modal && matches!(ask.input, Input::Chat(_))),
        ]
        .into_iter()
        .find_map(|(name, is_lacking)| is_lacking.then_some(name))
    }

    /// Whether answers come as events while they are made.
    pub(super) fn streams(self) -> bool {
        self != Self::Modal
    }

    /// Where an answer is asked for, below the base address.
    pub(super) fn path(self, input: &Input) -> &'static str {
        match (self, input) {
            (Self::Modal, _) => "/generate",
            (_, Input::Text(_)) => "/completions",
            (_, Input::Chat(_)) => "/chat/completions",
        }
    }

    /// Where it says that it is there, below the base address.
    pub(super) fn health_path(self) -> &'static str {
        if self == Self::Modal { "/health" } else { "/models" }
    }

    /// The body of a request.
    pub(super) fn body(self, model: &str, ask: &Ask) -> Value {
        if self == Self::Modal {
            return modal_body(ask);
        }
        let mut body = json!({
            "model": model,
            "temperature": short(ask.temperature),
            "top_p": short(ask.top_p),
            "frequency_penalty": short(ask.frequency_penalty),
            "presence_penalty": short(ask.presence_penalty),
            "stream": true,
            "stream_options": {"include_usage": true},
        });
        let fields = body.as_object_mut().expect("it was written as an object");
        let max_tokens = match (self, &ask.input) {
            (Self::Openai, Input::Chat(_)) => "max_completion_tokens",
            _ => "max_tokens",
        };
        fields.insert(max_tokens.into(), json!(ask.max_tokens));
        match &ask.input {
            Input::Text(text) => fields.insert("prompt".into(), json!(text)),
            Input::Chat(messages) => {
                let messages = messages.iter().map(|(role, content)| json!({"role": role, "content": content}));
                fields.insert("messages".into(), messages.collect())
            }
        };
        fields.extend(ask.seed.map(|seed| ("seed".to_owned(), json!(seed))));
        if self != Self::Openai {
            let penalty = if self == Self::LlamaCpp { "repeat_penalty" } else { "repetition_penalty" };
            fields.insert("top_k".into(), json!(ask.top_k));
            fields.insert("min_p".into(), json!(short(ask.min_p)));
            fields.insert(penalty.into(), json!(short(ask.repetition_penalty)));
        }
        self.enforce(fields, ask);
        body
    }

    fn enforce(self, fields: &mut Map<String, Value>, ask: &Ask) {
        let structured = |key: &str, value: Value| ("structured_outputs", json!({ key: value }));
        let (name, value) = match (self, &ask.enforce) {
            (Self::Openai, Enforce::JsonSchema(schema)) => {
                let schema = json!({"name": "output", "strict": true, "schema": schema});
                ("response_format", json!({"type": "json_schema", "json_schema": schema}))
            }
            (Self::Vllm, Enforce::JsonSchema(schema)) => structured("json", schema.clone()),
            (Self::Vllm, Enforce::Regex(pattern)) => structured("regex", json!(pattern)),
            (Self::Vllm, Enforce::Gbnf(grammar)) => structured("grammar", json!(grammar)),
            (Self::LlamaCpp, Enforce::JsonSchema(schema)) => ("json_schema", schema.clone()),
            (Self::LlamaCpp, Enforce::Gbnf(grammar)) => ("grammar", json!(grammar)),
            (Self::Ananke, Enforce::Irs(irs)) => ("constraint_ir", json!(irs)),
            _ => return,
        };
        fields.insert(name.into(), value);
    }

    /// Whether it can be asked to enforce that, for a text or a chat.
    #[must_use]
    pub fn enforces(self, enforce: &Enforce, input: &Input) -> bool {
        match (self, enforce) {
            (_, Enforce::Nothing) => true,
            (Self::Openai, Enforce::JsonSchema(_)) => matches!(input, Input::Chat(_)),
            (Self::Vllm, Enforce::JsonSchema(_) | Enforce::Regex(_) | Enforce::Gbnf(_))
            | (Self::LlamaCpp, Enforce::JsonSchema(_) | Enforce::Gbnf(_))
            | (Self::Ananke, Enforce::Irs(_))
            | (Self::Modal, Enforce::JsonSchema(_) | Enforce::Lark(_)) => true,
            _ => false,
        }
    }
}

/// The request that the service on Modal takes; its constraints are a grammar as llguidance writes it.
fn modal_body(ask: &Ask) -> Value {
    let Input::Text(prompt) = &ask.input else { return Value::Null };
    let mut body = json!({"prompt": prompt, "max_tokens": ask.max_tokens, "temperature": short(ask.temperature)});
    let grammar = match &ask.enforce {
        Enforce::JsonSchema(schema) => json!({"json_schema": schema}),
        Enforce::Lark(source) => json!({"lark_grammar": source}),
        _ => return body,
    };
    body["constraints"] = json!({"grammars": [grammar]});
    body
}

/// The number that a person wrote, not its neighbour among the doubles.
fn short(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

/// What the events of one stream have said so far.
#[derive(Debug, Default)]
pub(super) struct Reading {
    reason: Option<EndReason>,
    usage: Option<Usage>,
    is_done: bool,
}

impl Reading {
    /// Takes the data of one event, and adds the text in it.
    pub(super) fn read(&mut self, data: &str, pieces: &mut VecDeque<Piece>) -> Result<(), Problem> {
        if data.trim() == "[DONE]" {
            self.is_done = true;
            return Ok(());
        }
        let event: Value = serde_json::from_str(data).map_err(|_| Problem::Malformed("an event is not JSON"))?;
        if let Some(error) = event.get("error").filter(|error| !error.is_null()) {
            let said = error["message"].as_str().map_or_else(|| error.to_string(), str::to_owned);
            return Err(Problem::Reported(said));
        }
        self.usage = usage(&event["usage"]).or(self.usage);
        let choices = event["choices"].as_array();
        if choices.is_none() && event["usage"].is_null() {
            return Err(Problem::Malformed("an event has neither `choices` nor `usage`"));
        }
        let Some(choice) = choices.and_then(|choices| choices.first()) else { return Ok(()) };
        if let Some(said) = choice.pointer("/delta/refusal").and_then(Value::as_str) {
            return Err(Problem::Declined(said.to_owned()));
        }
        let text = choice.get("text").or_else(|| choice.pointer("/delta/content")).unwrap_or(&Value::Null);
        match text {
            Value::String(text) if text.is_empty() => {}
            Value::String(_) if self.reason.is_some() => {
                return Err(Problem::Malformed("text comes after its `finish_reason`"));
            }
            Value::String(text) => pieces.push_back(Piece::Text(text.clone())),
            Value::Null => {}
            _ => return Err(Problem::Malformed("the text of a choice is no string")),
        }
        match choice["finish_reason"].as_str() {
            None => Ok(()),
            Some(reason) => {
                self.reason = Some(end_reason(reason)?);
                Ok(())
            }
        }
    }

    /// The end, once the server has said that nothing follows; `closed` after it has hung up.
    pub(super) fn end(&self, closed: bool) -> Option<Result<End, Problem>> {
        match self.reason {
            Some(reason) if self.is_done || closed => Some(Ok(End { reason, usage: self.usage })),
            None if self.is_done => Some(Err(Problem::Malformed("it ends without a `finish_reason`"))),
            _ => None,
        }
    }
}

fn end_reason(reason: &str) -> Result<EndReason, Problem> {
    match reason {
        "stop" | "eos" => Ok(EndReason::Stop),
        "length" => Ok(EndReason::Length),
        "content_filter" => Err(Problem::Declined("content_filter".into())),
        other => Err(Problem::Cut(other.to_owned())),
    }
}

fn usage(usage: &Value) -> Option<Usage> {
    let count = |name: &str| usage[name].as_u64().and_then(|count| u32::try_from(count).ok());
    Some(Usage { num_prompt_tokens: count("prompt_tokens")?, num_tokens: count("completion_tokens")? })
}

/// The text and the end in a reply of the service on Modal, which does not count the prompt. Of a reply that does not
/// say why it ended, the count of tokens does.
pub(super) fn modal_reply(reply: &Value, max_tokens: u32) -> Result<(String, End), Problem> {
    let text = reply["generated_text"].as_str().ok_or(Problem::Malformed("it has no text in `generated_text`"))?;
    let num_tokens = reply["tokens_generated"].as_u64().and_then(|count| u32::try_from(count).ok());
    let num_tokens = num_tokens.ok_or(Problem::Malformed("it has no count in `tokens_generated`"))?;
    let reason = match reply["finish_reason"].as_str() {
        Some(reason) => end_reason(reason)?,
        None if num_tokens >= max_tokens => EndReason::Length,
        None => EndReason::Stop,
    };
    let usage = Some(Usage { num_prompt_tokens: 0, num_tokens });
    Ok((text.to_owned(), End { reason, usage }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(input: Input, enforce: Enforce) -> Ask {
        Ask {
            input,
            enforce,
            max_tokens: 9,
            temperature: 0.7,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            seed: None,
        }
    }

    #[test]
    fn each_service_gets_the_schema_under_its_own_name() {
        let schema = json!({"type": "object"});
        let enforce = Enforce::JsonSchema(schema.clone());
        let text = Input::Text("p".into());
        let chat = Input::Chat(vec![("user".into(), "p".into())]);
        for (service, input, pointer) in [
            (Service::Openai, &chat, "/response_format/json_schema/schema"),
            (Service::Vllm, &text, "/structured_outputs/json"),
            (Service::LlamaCpp, &text, "/json_schema"),
            (Service::Modal, &text, "/constraints/grammars/0/json_schema"),
        ] {
            let body = service.body("m", &ask(input.clone(), enforce.clone()));
            assert_eq!(body.pointer(pointer), Some(&schema), "{body}");
            assert_eq!(body["temperature"], json!(0.7), "{body}");
            assert!(service.enforces(&enforce, input));
        }
        assert!(!Service::Openai.enforces(&enforce, &text), "completions have no `response_format`");
        let irs = Enforce::Irs(vec![json!({"version": 1})]);
        let body = Service::Ananke.body("m", &ask(text.clone(), irs.clone()));
        assert_eq!(body["constraint_ir"], json!([{"version": 1}]));
        assert!(Service::Ananke.enforces(&irs, &text) && !Service::Vllm.enforces(&irs, &text));
    }

    #[test]
    fn what_a_service_cannot_be_told_is_named() {
        let plain = ask(Input::Text(String::new()), Enforce::Nothing);
        for (service, changed, expected) in [
            (Service::Openai, Ask { top_k: 4, ..plain.clone() }, Some("top_k")),
            (Service::Vllm, Ask { top_k: 4, ..plain.clone() }, None),
            (Service::Modal, Ask { seed: Some(1), ..plain.clone() }, Some("seed")),
            (Service::Modal, Ask { input: Input::Chat(Vec::new()), ..plain.clone() }, Some("messages")),
            (Service::Modal, plain.clone(), None),
        ] {
            assert_eq!(service.lacks(&changed), expected, "{service:?}");
        }
    }

    #[test]
    fn events_become_text_and_one_end() {
        let mut reading = Reading::default();
        let mut pieces = VecDeque::new();
        for event in [
            json!({"choices": [{"delta": {"role": "assistant"}}]}),
            json!({"choices": [{"delta": {"content": "a"}, "finish_reason": null}]}),
            json!({"choices": [{"delta": {}, "finish_reason": "stop"}]}),
            json!({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}),
        ] {
            assert_eq!(reading.read(&event.to_string(), &mut pieces), Ok(()));
        }
        assert_eq!(reading.end(false), None, "the usage may still come");
        assert_eq!(reading.read("[DONE]", &mut pieces), Ok(()));
        let usage = Some(Usage { num_prompt_tokens: 3, num_tokens: 1 });
        assert_eq!(reading.end(false), Some(Ok(End { reason: EndReason::Stop, usage })));
        assert_eq!(pieces, [Piece::Text("a".into())]);
    }

    #[test]
    fn what_is_no_event_is_named() {
        for (event, expected) in [
            ("{", Problem::Malformed("an event is not JSON")),
            ("{}", Problem::Malformed("an event has neither `choices` nor `usage`")),
            (r#"{"error": {"message": "no room"}}"#, Problem::Reported("no room".into())),
            (r#"{"choices": [{"text": 3}]}"#, Problem::Malformed("the text of a choice is no string")),
            (r#"{"choices": [{"text": "", "finish_reason": "dead_end"}]}"#, Problem::Cut("dead_end".into())),
            (r#"{"choices": [{"delta": {"refusal": "no"}}]}"#, Problem::Declined("no".into())),
        ] {
            assert_eq!(Reading::default().read(event, &mut VecDeque::new()), Err(expected), "{event}");
        }
        let mut reading = Reading::default();
        assert_eq!(reading.read("[DONE]", &mut VecDeque::new()), Ok(()));
        assert!(matches!(reading.end(false), Some(Err(Problem::Malformed(_)))));
        assert!(modal_reply(&json!({"generated_text": "a"}), 4).is_err());
        let (_, end) = modal_reply(&json!({"generated_text": "a", "tokens_generated": 4}), 4).expect("a reply");
        assert_eq!(end.reason, EndReason::Length);
    }
}
