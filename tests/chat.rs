//! Chat completions in process: messages, tools, streams and refusals, over a model whose logits are noise.

use ananke::constraint::Digest;
use ananke::engine::{Engine, EngineConfig};
use ananke::guide::{Guide, GuideConfig};
use ananke::maze::{Maze, MazeConfig, ModelCard};
use ananke::model::ScriptedModel;
use ananke::server::{ServerConfig, router};
use ananke::text::{ConfigFiles, Tokenizer, TokenizerConfig};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use serde_json::{Value, json};
use tower::ServiceExt;

const CONTEXT_LEN: usize = 2048;
const VOCAB_LEN: usize = 4160;

/// The embedded model's tokenizer, with its chat template or without.
fn server(has_template: bool) -> Router {
    server_with(has_template, CONTEXT_LEN)
}

fn server_with(has_template: bool, context_len: usize) -> Router {
    let folder = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("models/ananke-nano");
    let read = |name: &str| std::fs::read(folder.join(name)).expect("the model's files come with the source");
    let (config, tokenizer_config) = (read("config.json"), read("tokenizer_config.json"));
    let tokenizer_config = has_template.then_some(tokenizer_config.as_slice());
    let files = ConfigFiles { config: Some(&config), tokenizer_config, ..ConfigFiles::default() };
    let config = TokenizerConfig { num_rows: Some(VOCAB_LEN), ..TokenizerConfig::from_files(&files).expect("configs") };
    let tokenizer = Tokenizer::from_json(&read("tokenizer.json"), config).expect("a tokenizer");
    let guide = Guide::new(tokenizer.vocabulary().clone(), GuideConfig::default()).expect("a guide");
    let model = Box::new(ScriptedModel::seeded(VOCAB_LEN, context_len, 3));
    let end_tokens = tokenizer.vocabulary().end_tokens().to_vec();
    let (engine, _) = Engine::start(model, &end_tokens, EngineConfig::default()).expect("an engine");
    let card = ModelCard {
        id: "scripted".into(),
        architecture: "scripted".into(),
        context_len,
        num_parameters: 0,
        weight_bytes: 0,
        quantization: None,
        vocab_len: VOCAB_LEN,
        tokenizer_digest: Digest::from_bytes(tokenizer.vocabulary().digest_bytes()),
        created: 0,
        embedded: false,
        has_chat_template: has_template,
    };
    router(Maze::new(engine, guide, tokenizer, card, MazeConfig::default()), ServerConfig::default())
}

async fn send(server: &Router, body: &Value) -> (StatusCode, String) {
    let request = Request::post("/v1/chat/completions").header(header::CONTENT_TYPE, "application/json");
    let request = request.body(Body::from(body.to_string())).expect("a request");
    let response = server.clone().oneshot(request).await.expect("the router answers everything");
    let status = response.status();
    let bytes = to_bytes(response.into_body(), 16 << 20).await.expect("the body ends");
    (status, String::from_utf8(bytes.to_vec()).expect("replies are UTF-8"))
}

async fn chat(server: &Router, body: &Value) -> Value {
    let (status, text) = send(server, body).await;
    assert_eq!(status, StatusCode::OK, "{body}: {text}");
    serde_json::from_str(&text).expect("a reply is JSON")
}

/// The chunks of a stream, without the `[DONE]` that must end it.
async fn chunks(server: &Router, body: &Value) -> Vec<Value> {
    let mut body = body.clone();
    body["stream"] = json!(true);
    body["stream_options"] = json!({"include_usage": true});
    let (status, text) = send(server, &body).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    let mut events: Vec<_> = text.split_terminator("\n\n").filter(|event| !event.starts_with(':')).collect();
    assert_eq!(events.pop(), Some("data: [DONE]"), "{text}");
    let data = events.iter().map(|event| event.strip_prefix("data: ").expect("nothing but data"));
    data.map(|data| serde_json::from_str(data).expect("chunks are JSON")).collect()
}

fn ask(fields: Value) -> Value {
    let mut body =
        json!({"messages": [{"role": "user", "content": "What is the weather in Rome?"}], "max_tokens": 160});
    let fields = fields.as_object().expect("fields").clone();
    body.as_object_mut().expect("an object").extend(fields);
    body
}

fn tools() -> Value {
    json!([
        {"type": "function", "function": {"name": "weather", "description": "The weather somewhere.", "strict": true, "parameters": {
            "type": "object", "properties": {"city": {"type": "string", "maxLength": 8}, "unit": {"enum": ["C", "F"]}},
            "required": ["city", "unit"], "additionalProperties": false}}},
        {"type": "function", "function": {"name": "time"}}
    ])
}

/// Joins the deltas of a stream into messages, as a client does.
fn joined(chunks: &[Value]) -> Vec<(Value, Value)> {
    let mut all: Vec<(Value, Value)> = Vec::new();
    for choice in chunks.iter().flat_map(|chunk| chunk["choices"].as_array().expect("a list")) {
        let index = choice["index"].as_u64().expect("a number") as usize;
        all.resize((index + 1).max(all.len()), (json!({"content": "", "tool_calls": []}), Value::Null));
        let (message, reason) = &mut all[index];
        assert!(reason.is_null(), "nothing comes after the end: {choice}");
        let delta = &choice["delta"];
        if let Some(role) = delta.get("role") {
            assert!(message.get("role").is_none(), "the role is said once");
            message["role"] = role.clone();
        }
        assert!(message.get("role").is_some(), "the first delta names the role");
        if let Some(text) = delta["content"].as_str() {
            message["content"] = json!(message["content"].as_str().unwrap_or_default().to_owned() + text);
        }
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            let calls = message["tool_calls"].as_array_mut().expect("a list");
            let at = call["index"].as_u64().expect("a number") as usize;
            if at == calls.len() {
                assert!(call["id"].is_string() && call["type"] == "function", "{call}");
                calls.push(json!({"id": call["id"], "type": "function",
                    "function": {"name": call["function"]["name"], "arguments": ""}}));
            }
            let known = calls[at]["function"]["arguments"].as_str().unwrap_or_default().to_owned();
            calls[at]["function"]["arguments"] = json!(known + call["function"]["arguments"].as_str().expect("text"));
        }
        *reason = choice["finish_reason"].clone();
    }
    all
}

fn check_calls(message: &Value) -> usize {
    let calls = message["tool_calls"].as_array().expect("calls");
    for call in calls {
        let arguments = call["function"]["arguments"].as_str().expect("text");
        let arguments: Value = serde_json::from_str(arguments).unwrap_or_else(|_| panic!("not JSON: {call}"));
        match call["function"]["name"].as_str().expect("a name") {
            "weather" => {
                assert!(
                    arguments["city"].is_string() && ["C", "F"].contains(&arguments["unit"].as_str().unwrap_or(""))
                );
            }
            name => assert_eq!((name, arguments), ("time", json!({}))),
        }
    }
    calls.len()
}

#[tokio::test]
async fn a_chat_is_answered_whole_and_as_a_stream() {
    let server = server(true);
    let body = ask(json!({"n": 2, "seed": 5, "max_tokens": 24, "stop": ["qqq"]}));
    let whole = chat(&server, &body).await;
    assert_eq!(whole["object"], "chat.completion");
    assert!(whole["id"].as_str().is_some_and(|id| id.starts_with("chatcmpl-")));
    let chunks = chunks(&server, &body).await;
    let last = chunks.last().expect("chunks");
    assert_eq!((&last["choices"], &last["usage"]), (&json!([]), &whole["usage"]));
    let streamed = joined(&chunks);
    let choices = whole["choices"].as_array().expect("a list");
    assert_eq!(choices.len(), 2);
    for (choice, (message, reason)) in choices.iter().zip(&streamed) {
        assert_eq!(choice["message"]["content"], message["content"]);
        assert_eq!((&choice["message"]["role"], &message["role"]), (&json!("assistant"), &json!("assistant")));
        assert_eq!(choice["finish_reason"], *reason);
        assert!(choice["validation"]["all_satisfied"].is_boolean());
        assert!(choice["message"].get("tool_calls").is_none());
    }
    assert_ne!(choices[0]["message"]["content"], choices[1]["message"]["content"]);
}

#[tokio::test]
async fn calls_that_are_required_are_all_that_is_said() {
    let server = server(true);
    let named = json!({"type": "function", "function": {"name": "weather"}});
    for seed in 0..6 {
        for choice in [json!("required"), named.clone()] {
            let body =
                ask(json!({"tools": tools(), "tool_choice": choice, "parallel_tool_calls": false, "seed": seed}));
            let whole = chat(&server, &body).await;
            let answer = &whole["choices"][0];
            assert_eq!(answer["finish_reason"], "tool_calls", "{whole}");
            assert_eq!(answer["message"]["content"], Value::Null);
            assert_eq!(check_calls(&answer["message"]), 1);
            assert_eq!(answer["validation"]["all_satisfied"], true, "{whole}");
            if choice.is_object() {
                assert_eq!(answer["message"]["tool_calls"][0]["function"]["name"], "weather");
            }
            let streamed = joined(&chunks(&server, &body).await);
            let calls = |message: &Value| message["tool_calls"][0]["function"].clone();
            assert_eq!(calls(&streamed[0].0), calls(&answer["message"]));
            assert_eq!((&streamed[0].0["content"], &streamed[0].1), (&json!(""), &json!("tool_calls")));
        }
    }
}

#[tokio::test]
async fn as_many_tools_as_may_be_offered_are_told_bound_and_called() {
    let server = server_with(true, 8 * CONTEXT_LEN);
    let kinds = ["string", "integer", "boolean", "number"];
    let kind = |tool: usize, idx: usize| kinds[(tool + idx) % kinds.len()];
    let tool = |tool: usize| {
        let names: Vec<String> = (0..2 + tool % 3).map(|idx| format!("p{tool}_{idx}")).collect();
        let property = |(idx, name): (usize, &String)| (name.clone(), json!({"type": kind(tool, idx)}));
        let properties: serde_json::Map<String, Value> = names.iter().enumerate().map(property).collect();
        let parameters = json!({"type": "object", "properties": properties, "required": names,
            "additionalProperties": false});
        json!({"type": "function", "function": {"name": format!("tool_{tool}"), "parameters": parameters}})
    };
    let tools: Vec<Value> = (0..128).map(tool).collect();
    let begins = json!({"regex_patterns": [{"any_of": [{"pattern": "[ -~]{3}<tool_call>"}], "match": "prefix"}]});
    for (choice, beside) in [("required", json!({})), ("auto", begins)] {
        let fields = json!({"tools": tools, "tool_choice": choice, "parallel_tool_calls": false, "seed": 2,
            "max_tokens": 200, "constraint_ir": beside});
        let whole = chat(&server, &ask(fields)).await;
        let answer = &whole["choices"][0];
        assert_eq!(answer["finish_reason"], "tool_calls", "{answer}");
        assert_eq!(answer["validation"]["all_satisfied"], true, "{answer}");
        let call = &answer["message"]["tool_calls"][0]["function"];
        let name = call["name"].as_str().expect("a name");
        let called: usize = name.strip_prefix("tool_").and_then(|idx| idx.parse().ok()).expect("one of the tools");
        let arguments: Value = serde_json::from_str(call["arguments"].as_str().expect("text")).expect("JSON");
        assert_eq!(arguments.as_object().map(serde_json::Map::len), Some(2 + called % 3), "{call}");
        for idx in 0..2 + called % 3 {
            let value = &arguments[format!("p{called}_{idx}")];
            let holds = match kind(called, idx) {
                "string" => value.is_string(),
                "boolean" => value.is_boolean(),
                "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
                _ => value.is_number(),
            };
            assert!(holds, "{call}");
        }
    }
    let one_more: Vec<Value> = (0..129).map(tool).collect();
    let (status, reply) = send(&server, &ask(json!({"tools": one_more}))).await;
    assert!(status == StatusCode::BAD_REQUEST && reply.contains("at most 128"), "{status}: {reply}");
}

#[tokio::test]
async fn calls_in_an_answer_that_may_hold_them_are_bound_and_the_text_around_them_is_not() {
    let server = server(true);
    let begins = json!({"regex_patterns": [{"any_of": [{"pattern": "[ -~]{3}<tool_call>"}], "match": "prefix"}]});
    let mut num_calls = 0;
    for seed in 0..6 {
        let body = ask(json!({"tools": tools(), "parallel_tool_calls": false, "seed": seed, "max_tokens": 300,
            "constraint_ir": begins}));
        let whole = chat(&server, &body).await;
        let answer = &whole["choices"][0];
        let content = answer["message"]["content"].as_str().expect("text around the calls");
        assert!(content.chars().count() >= 3 && !content.contains("<tool_call>"), "{whole}");
        assert_ne!(answer["validation"]["verdicts"][0]["status"], "violated", "{whole}");
        if answer["finish_reason"] == "tool_calls" {
            num_calls += check_calls(&answer["message"]);
        }
        let streamed = joined(&chunks(&server, &body).await);
        assert_eq!(streamed[0].0["content"], answer["message"]["content"]);
        assert_eq!(streamed[0].1, answer["finish_reason"]);
    }
    assert!(num_calls > 2, "only {num_calls} calls were finished");
    let none = chat(&server, &ask(json!({"tools": tools(), "tool_choice": "none", "max_tokens": 8}))).await;
    assert!(none["choices"][0]["message"].get("tool_calls").is_none());
}

#[tokio::test]
async fn log_probabilities_come_with_bytes_and_are_numbers() {
    let server = server(true);
    let body = ask(json!({"logprobs": true, "top_logprobs": 3, "max_tokens": 6, "seed": 1,
        "constraint_ir": {"regex_patterns": [{"any_of": [{"pattern": "a{6}"}], "match": "full"}]}}));
    for tokens in [chat(&server, &body).await["choices"][0]["logprobs"]["content"].clone()] {
        let tokens = tokens.as_array().expect("a list").clone();
        assert!(!tokens.is_empty());
        for token in tokens {
            assert!(token["logprob"].is_f64() && token["bytes"].is_array(), "{token}");
            let top = token["top_logprobs"].as_array().expect("a list");
            assert_eq!(top.len(), 3);
            assert!(top.iter().all(|other| other["logprob"].is_f64()), "{token}");
        }
    }
    let streamed = chunks(&server, &body).await;
    assert!(streamed.iter().any(|chunk| chunk["choices"][0]["logprobs"]["content"][0]["bytes"].is_array()));
}

#[tokio::test]
async fn what_a_chat_cannot_do_is_refused_by_name() {
    let good = server(true);
    let schema = json!({"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}});
    let bad_tool = json!([{"type": "function", "function": {"name": "ok"}},
        {"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": {"uniqueItems": true}}}}}]);
    for (fields, status, code, param) in [
        (json!({"messages": []}), 400, "invalid_value", "messages"),
        (json!({"messages": [{"role": "robot", "content": "x"}]}), 400, "invalid_value", "messages[0].role"),
        (json!({"prompt": "x"}), 400, "unknown_parameter", "prompt"),
        (json!({"model": "gpt-4"}), 404, "model_not_found", "model"),
        (json!({"functions": [{"name": "f"}]}), 400, "unsupported_parameter", "functions"),
        (json!({"store": true}), 400, "unsupported_parameter", "store"),
        (json!({"service_tier": "flex"}), 400, "unsupported_parameter", "service_tier"),
        (json!({"modalities": ["audio"]}), 400, "unsupported_parameter", "modalities"),
        (json!({"max_completion_tokens": 4}), 400, "invalid_value", "max_tokens"),
        (json!({"top_logprobs": 2}), 400, "invalid_value", "top_logprobs"),
        (json!({"logprobs": true, "top_logprobs": 21}), 400, "out_of_range", "logprobs"),
        (json!({"tool_choice": "required"}), 400, "invalid_value", "tool_choice"),
        (json!({"tools": tools(), "tool_choice": "always"}), 400, "invalid_value", "tool_choice"),
        (json!({"tools": tools(), "response_format": schema}), 400, "unsupported_parameter", "response_format"),
        (json!({"tools": bad_tool}), 422, "unsupported_schema", "tools[1].function.parameters"),
        (json!({"temperature": -1}), 400, "out_of_range", "temperature"),
        (json!({"stream_options": {}}), 400, "invalid_value", "stream_options"),
    ] {
        let (found, text) = send(&good, &ask(fields.clone())).await;
        let error: Value = serde_json::from_str(&text).expect("errors are JSON");
        assert_eq!((found.as_u16(), &error["error"]["code"]), (status, &json!(code)), "{fields}: {text}");
        assert_eq!(error["error"]["param"], param, "{fields}: {text}");
    }
    let (status, text) = send(&server(false), &ask(json!({}))).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{text}");
    assert!(text.contains("chat template"), "{text}");
    let labels = ask(json!({"store": false, "service_tier": "auto", "user": "me", "metadata": {"a": "b"},
        "max_tokens": 4, "max_completion_tokens": 4, "temperature": 0}));
    let calm = chat(&good, &labels).await;
    assert_eq!(calm["usage"]["completion_tokens"].as_u64().map(|count| count <= 4), Some(true));
}
