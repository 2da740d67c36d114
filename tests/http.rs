//! The HTTP layer in process, over the real maze and engine on a scripted model.

use std::time::Duration;

use ananke::engine::EngineConfig;
use ananke::maze::{Maze, MazeConfig};
use ananke::server::{ServerConfig, router};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, Response, StatusCode, header};
use serde_json::{Value, json};
use tower::ServiceExt;

#[path = "common/scripted.rs"]
mod scripted;

use scripted::CONTEXT_LEN;

const MAX_BODY_BYTES: usize = 64 << 10;

fn maze(time_per_step: Duration) -> Maze {
    scripted::maze(time_per_step, EngineConfig::default())
}

fn server() -> Router {
    server_on(maze(Duration::ZERO))
}

fn server_on(maze: Maze) -> Router {
    router(maze, ServerConfig { max_body_bytes: MAX_BODY_BYTES, ..ServerConfig::default() })
}

async fn send(server: &Router, method: Method, path: &str, content_type: &str, body: Vec<u8>) -> Response<Body> {
    let request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, content_type);
    let request = request.body(Body::from(body)).expect("a request");
    server.clone().oneshot(request).await.expect("the router answers everything")
}

async fn text(response: Response<Body>) -> String {
    let bytes = to_bytes(response.into_body(), 16 << 20).await.expect("the body ends");
    String::from_utf8(bytes.to_vec()).expect("replies are UTF-8")
}

async fn post(server: &Router, path: &str, body: &Value) -> (StatusCode, Value) {
    let response = send(server, Method::POST, path, "application/json", body.to_string().into_bytes()).await;
    let status = response.status();
    let text = text(response).await;
    (status, serde_json::from_str(&text).unwrap_or_else(|_| panic!("not JSON: {text}")))
}

async fn get(server: &Router, path: &str) -> (StatusCode, Value) {
    let response = send(server, Method::GET, path, "application/json", Vec::new()).await;
    let status = response.status();
    (status, serde_json::from_str(&text(response).await).expect("replies are JSON"))
}

async fn complete(server: &Router, body: Value) -> Value {
    let (status, reply) = post(server, "/v1/completions", &body).await;
    assert_eq!(status, StatusCode::OK, "{body}: {reply}");
    reply
}

/// The chunks of a stream, without the `[DONE]` that must end it.
async fn chunks(server: &Router, body: Value) -> Vec<Value> {
    let body = body.to_string().into_bytes();
    let response = send(server, Method::POST, "/v1/completions", "application/json", body).await;
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
    let text = text(response).await;
    let mut events: Vec<_> = text.split_terminator("\n\n").filter(|event| !event.starts_with(':')).collect();
    assert_eq!(events.pop(), Some("data: [DONE]"), "{text}");
    let data = events.iter().map(|event| event.strip_prefix("data: ").expect("nothing but data"));
    data.map(|data| serde_json::from_str(data).expect("chunks are JSON")).collect()
}

#[tokio::test]
async fn every_malformed_request_has_its_own_error_and_the_server_goes_on() {
    let server = server();
    let with = |field: &str, value: Value| {
        let mut body = json!({"prompt": "x", "max_tokens": 4});
        body[field] = value;
        body
    };
    let schema = |schema: Value| json!({"type": "json_schema", "json_schema": {"name": "s", "schema": schema}});
    let lark = |source: &str| json!({"grammar": {"syntax": "lark", "source": source}});
    let long_prompt = "word ".repeat(2 * CONTEXT_LEN);
    for (body, status, code, param) in [
        (json!({}), 400, "missing_required_parameter", "prompt"),
        (with("prmpt", json!("x")), 400, "unknown_parameter", "prmpt"),
        (with("model", json!("gpt-4")), 404, "model_not_found", "model"),
        (with("prompt", json!([])), 400, "invalid_value", "prompt"),
        (with("prompt", json!({"text": "x"})), 400, "invalid_value", "prompt"),
        (with("prompt", json!(long_prompt)), 400, "context_length_exceeded", "prompt"),
        (with("prompt", json!([4097])), 400, "invalid_prompt_token", "prompt"),
        (with("max_tokens", json!(-1)), 400, "invalid_value", "max_tokens"),
        (with("max_tokens", json!("4")), 400, "invalid_type", "max_tokens"),
        (with("max_tokens", json!(0)), 400, "out_of_range", "max_tokens"),
        (with("max_tokens", json!(100_000)), 400, "context_length_exceeded", "prompt"),
        (with("temperature", json!(-0.5)), 400, "out_of_range", "temperature"),
        (with("top_p", json!(1.5)), 400, "out_of_range", "top_p"),
        (with("n", json!(0)), 400, "out_of_range", "n"),
        (with("n", json!(1000)), 400, "out_of_range", "n"),
        (with("logprobs", json!(21)), 400, "out_of_range", "logprobs"),
        (with("logit_bias", json!({"4160": 1})), 400, "invalid_value", "logit_bias.4160"),
        (with("logit_bias", json!({"7": 101})), 400, "out_of_range", "logit_bias"),
        (with("stream_options", json!({"include_usage": true})), 400, "invalid_value", "stream_options"),
        (with("best_of", json!(0)), 400, "invalid_value", "best_of"),
        (with("best_of", json!(33)), 400, "invalid_value", "best_of"),
        (json!({"prompt": "x", "best_of": 2, "stream": true}), 400, "unsupported_parameter", "best_of"),
        (with("suffix", json!(["}"])), 400, "invalid_type", "suffix"),
        (with("truncation", json!("auto")), 400, "unsupported_parameter", "truncation"),
        (with("on_unparsable_context", json!("refuse")), 400, "invalid_value", "on_unparsable_context"),
        (with("stop", json!([1])), 400, "invalid_value", "stop"),
        (with("response_format", json!({"type": "xml"})), 400, "invalid_value", "response_format.type"),
        (
            with("response_format", json!({"type": "json_schema"})),
            400,
            "missing_required_parameter",
            "response_format.json_schema",
        ),
        (with("response_format", schema(json!(false))), 422, "unsatisfiable", "response_format.json_schema.schema"),
        (
            with("response_format", schema(json!({"properties": {"a": {"uniqueItems": true}}}))),
            422,
            "unsupported_schema",
            "response_format.json_schema.schema",
        ),
        (with("structured_outputs", json!({"regex": "(a"})), 422, "invalid_regex", "structured_outputs.regex"),
        (
            with("structured_outputs", json!({"grammar": "start: \"a"})),
            422,
            "invalid_grammar",
            "structured_outputs.grammar",
        ),
        (
            with("structured_outputs", json!({"structural_tag": {}})),
            400,
            "missing_required_parameter",
            "structured_outputs.structural_tag.structures",
        ),
        (
            with("structured_outputs", json!({"structural_tag": {"format": {"type": "qwen_xml_parameter"}}})),
            400,
            "unsupported_parameter",
            "structured_outputs.structural_tag.format.type",
        ),
        (
            with(
                "response_format",
                json!({"type": "structural_tag", "triggers": ["<"], "structures": [
                {"begin": "<a>", "schema": {}, "end": "</a>"},
                {"begin": "<b>", "schema": {"properties": {"x": {"contains": {"const": 1}}}}, "end": "</b>"}]}),
            ),
            422,
            "unsupported_schema",
            "response_format.structures[1]",
        ),
        (
            with(
                "response_format",
                json!({"type": "structural_tag", "triggers": ["<"], "structures": [
                {"begin": "[a]", "schema": {}, "end": "</a>"}]}),
            ),
            422,
            "invalid_constraint_ir",
            "response_format",
        ),
        (
            with("response_format", json!({"type": "text", "triggers": ["<"]})),
            400,
            "invalid_value",
            "response_format.triggers",
        ),
        (with("constraint_ir", json!({"jsonschema": {}})), 400, "unknown_parameter", "constraint_ir.jsonschema"),
        (with("constraint_ir", json!([{}, lark("start: ) ")])), 422, "invalid_grammar", "constraint_ir[1].grammar"),
        (
            with("constraint_ir", json!({"forbidden_text": [{"text": "a", "regex": "b"}]})),
            422,
            "invalid_constraint_ir",
            "constraint_ir",
        ),
        (with("context", json!({"source": "", "language": "cobol"})), 400, "invalid_value", "context.language"),
    ] {
        let (got, reply) = post(&server, "/v1/completions", &body).await;
        let error = &reply["error"];
        assert_eq!((got.as_u16(), &error["code"]), (status, &json!(code)), "{body}: {reply}");
        assert_eq!(error["param"], param, "{body}: {reply}");
        assert_eq!(error["type"], "invalid_request_error", "{body}: {reply}");
        assert!(error["message"].as_str().is_some_and(|message| message.len() > 10), "{body}: {reply}");
    }
    complete(&server, json!({"prompt": "x"})).await;
}

#[tokio::test]
async fn bodies_and_paths_that_make_no_request_are_answered_in_json() {
    let server = server();
    let json = "application/json";
    let large = format!("{{\"prompt\": \"{}\"}}", "x".repeat(MAX_BODY_BYTES));
    for (method, path, content_type, body, status, code) in [
        (Method::POST, "/v1/completions", json, "{\"prompt\": \"a\",\n oops}", 400, "invalid_json"),
        (Method::POST, "/v1/completions", json, "", 400, "invalid_json"),
        (Method::POST, "/v1/completions", json, "[]", 400, "invalid_type"),
        (Method::POST, "/v1/completions", json, large.as_str(), 413, "body_too_large"),
        (Method::POST, "/v1/completions", "text/plain", "{}", 415, "unsupported_media_type"),
        (Method::GET, "/v1/completions", json, "", 405, "method_not_allowed"),
        (Method::POST, "/v1/embeddings", json, "{}", 404, "unsupported_endpoint"),
        (Method::GET, "/v1/models/owner/other", json, "", 404, "model_not_found"),
        (Method::GET, "/v1/models/%FF", json, "", 404, "unsupported_endpoint"),
        (Method::GET, "/v1/provenance/%FF", json, "", 404, "unsupported_endpoint"),
    ] {
        let response = send(&server, method, path, content_type, body.as_bytes().to_vec()).await;
        assert_eq!(response.status().as_u16(), status, "{path}");
        assert!(response.headers().contains_key("x-request-id"));
        let reply: Value = serde_json::from_str(&text(response).await).expect("errors are JSON");
        assert_eq!(reply["error"]["code"], code, "{path}: {reply}");
    }
    let body = b"{\"prompt\": \"a\",\n oops}".to_vec();
    let reply = text(send(&server, Method::POST, "/v1/completions", json, body).await).await;
    assert!(reply.contains("line 2 column 2"), "{reply}");
}

#[tokio::test]
async fn a_source_that_extraction_does_not_read_is_too_large() {
    let config = ServerConfig { max_body_bytes: 16 << 20, ..ServerConfig::default() };
    let server = router(maze(Duration::ZERO), config);
    let source = "x".repeat(ananke::clew::SOURCE_BYTES_MAX + 1);
    let body = json!({"prompt": "x", "context": {"source": source, "language": "python"}});
    let (status, reply) = post(&server, "/v1/completions", &body).await;
    assert_eq!((status.as_u16(), &reply["error"]["code"]), (413, &json!("source_too_large")), "{reply}");
    assert_eq!(reply["error"]["param"], "context");
    complete(&server, json!({"prompt": "x"})).await;
}

#[tokio::test]
async fn a_stream_has_the_text_of_the_whole_reply() {
    let server = server();
    let mut body = json!({"prompt": ["one", "two"], "n": 2, "seed": 11, "max_tokens": 20, "echo": true});
    let whole = complete(&server, body.clone()).await;
    body["stream"] = json!(true);
    body["stream_options"] = json!({"include_usage": true});
    let chunks = chunks(&server, body).await;
    let mut texts = vec![String::new(); 4];
    let mut reasons = vec![Value::Null; 4];
    for choice in chunks.iter().flat_map(|chunk| chunk["choices"].as_array().expect("a list")) {
        let index = choice["index"].as_u64().expect("a number") as usize;
        texts[index] += choice["text"].as_str().expect("text");
        if !choice["finish_reason"].is_null() {
            reasons[index] = choice["finish_reason"].clone();
            assert!(choice["validation"]["all_satisfied"].is_boolean());
        }
    }
    for (index, choice) in whole["choices"].as_array().expect("a list").iter().enumerate() {
        assert_eq!(choice["index"], index);
        assert_eq!(choice["text"], texts[index]);
        assert_eq!(choice["finish_reason"], reasons[index]);
        assert!(texts[index].starts_with(["one", "two"][index / 2]));
    }
    assert_ne!(texts[0], texts[1], "each choice has its own stream of random numbers");
    let last = chunks.last().expect("chunks");
    assert_eq!((&last["choices"], &last["usage"]), (&json!([]), &whole["usage"]));
    assert!(chunks[..chunks.len() - 1].iter().all(|chunk| chunk.get("usage").is_none()));
    assert_eq!(whole["provenance"].as_array().map(Vec::len), Some(4));
}

#[tokio::test]
async fn constraints_from_several_fields_all_hold() {
    let server = server();
    for seed in 0..8 {
        let reply = complete(
            &server,
            json!({
                "prompt": "x", "seed": seed, "max_tokens": 200,
                "response_format": {"type": "json_schema", "json_schema": {"name": "pair", "strict": true, "schema": {
                    "type": "object", "properties": {"a": {"type": "string", "maxLength": 6}, "b": {"enum": ["x", "y"]}},
                    "required": ["a", "b"], "additionalProperties": false}}},
                "structured_outputs": {"regex": r#"[a-z"{}:, ]*"#},
                "constraint_ir": [{"forbidden_text": [{"text": "y"}]}, {"limits": {"json_whitespace": {"max_newlines": 0, "max_spaces": 1}}}]
            }),
        )
        .await;
        let choice = &reply["choices"][0];
        let text = choice["text"].as_str().expect("text");
        let value: Value = serde_json::from_str(text).unwrap_or_else(|_| panic!("not JSON: {reply}"));
        assert_eq!(value["b"], "x");
        assert!(text.chars().all(|c| c.is_ascii_lowercase() || "\"{}:, ".contains(c)), "{text}");
        assert_eq!(choice["validation"]["all_satisfied"], true, "{reply}");
    }
}

#[tokio::test]
async fn a_structural_tag_binds_its_region_in_both_shapes() {
    let server = server();
    let schema = json!({"type": "object", "properties": {"a": {"type": "string", "maxLength": 4}},
        "required": ["a"], "additionalProperties": false});
    let legacy = json!({"triggers": [" "], "structures": [{"begin": " <f>", "schema": schema, "end": "</f>"}]});
    let tag = json!({"begin": " <f>", "content": {"type": "json_schema", "json_schema": schema}, "end": "</f>"});
    let newer =
        json!({"format": {"type": "triggered_tags", "triggers": [" "], "tags": [tag], "stop_after_first": true}});
    let mut response_format = newer.clone();
    response_format["type"] = json!("structural_tag");
    let mut num_regions = 0;
    for (field, value) in [
        ("structured_outputs", json!({"structural_tag": legacy})),
        ("structured_outputs", json!({"structural_tag": newer.to_string()})),
        ("response_format", response_format),
    ] {
        for seed in 0..6 {
            let mut body = json!({"prompt": "x", "seed": seed, "max_tokens": 300,
                "constraint_ir": {"regex_patterns": [{"any_of": [{"pattern": "[ -~]*>"}], "match": "full"}]}});
            body[field] = value.clone();
            let reply = complete(&server, body).await;
            let choice = &reply["choices"][0];
            let text = choice["text"].as_str().expect("text");
            assert_eq!(choice["validation"]["verdicts"][0]["part"], "constraints[0].regions", "{reply}");
            if choice["finish_reason"] != "stop" {
                continue;
            }
            assert_eq!(choice["validation"]["all_satisfied"], true, "{reply}");
            for region in text.split(" <f>").skip(1) {
                let (document, _) = region.split_once("</f>").unwrap_or_else(|| panic!("unfinished: {text}"));
                let document: Value = serde_json::from_str(document).unwrap_or_else(|_| panic!("not JSON: {text}"));
                assert!(document["a"].is_string(), "{text}");
                num_regions += 1;
            }
        }
    }
    assert!(num_regions > 5, "only {num_regions} regions were written");
}

#[tokio::test]
async fn logprobs_come_with_each_token() {
    let server = server();
    let body = json!({"prompt": "x", "seed": 1, "max_tokens": 6, "logprobs": 3});
    let logprobs = complete(&server, body.clone()).await["choices"][0]["logprobs"].clone();
    for list in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
        assert_eq!(logprobs[list].as_array().map(Vec::len), Some(6), "{list}: {logprobs}");
    }
    let is_logprob = |value: &Value| value.as_f64().is_some_and(|value| value <= 0.0);
    assert!(logprobs["token_logprobs"].as_array().expect("a list").iter().all(is_logprob));
    let mut streamed = body;
    streamed["stream"] = json!(true);
    let chunks = chunks(&server, streamed).await;
    let pieces =
        chunks.iter().flat_map(|chunk| chunk["choices"][0]["logprobs"]["text_offset"].as_array().expect("lists"));
    assert_eq!(pieces.cloned().collect::<Vec<_>>(), *logprobs["text_offset"].as_array().expect("a list"));
}

const LISTS: [&str; 4] = ["tokens", "token_logprobs", "top_logprobs", "text_offset"];

async fn ids_of(server: &Router, prompt: &str) -> Vec<u32> {
    let (status, reply) = post(server, "/v1/tokenize", &json!({"prompt": prompt})).await;
    assert_eq!(status, StatusCode::OK, "{reply}");
    serde_json::from_value(reply["tokens"].clone()).expect("ids")
}

/// The oracle is generation: what the model says of a token after the tokens before it.
#[tokio::test]
async fn an_echoed_prompt_has_the_log_probabilities_that_generating_it_would_have() {
    let server = server();
    let prompt = "def add(a, b):\n    return a + b\n\nprint(add(1, 2))\n";
    let ids = ids_of(&server, prompt).await;
    assert!(ids.len() > 12, "{ids:?}");
    // A part of it is in the prefix cache by now, and none of its logits are.
    complete(&server, json!({"prompt": ids, "max_tokens": 1})).await;
    // None of these change what is said of the prompt.
    let reply = complete(
        &server,
        json!({"prompt": ids, "max_tokens": 5, "echo": true, "logprobs": 3, "seed": 4, "temperature": 0.3, "top_k": 5,
            "repetition_penalty": 1.3, "frequency_penalty": 0.5, "logit_bias": {"70": 30, "90": -100},
            "structured_outputs": {"regex": "[a-z]{30,60}"}}),
    )
    .await;
    let logprobs = &reply["choices"][0]["logprobs"];
    for list in LISTS {
        assert_eq!(logprobs[list].as_array().map(Vec::len), Some(ids.len() + 5), "{list}: {logprobs}");
    }
    assert!(logprobs["token_logprobs"][0].is_null() && logprobs["top_logprobs"][0].is_null(), "{logprobs}");
    for place in 1..ids.len() {
        let bias = json!({ids[place].to_string(): 100});
        let next =
            json!({"prompt": ids[..place], "max_tokens": 1, "temperature": 0, "logprobs": 3, "logit_bias": bias});
        let next = complete(&server, next).await["choices"][0]["logprobs"].clone();
        for list in &LISTS[..3] {
            assert_eq!(logprobs[list][place], next[list][0], "{list} of token {place}");
        }
    }
}

#[tokio::test]
async fn an_echo_with_log_probabilities_is_the_same_for_every_kind_of_prompt_and_in_a_stream() {
    let server = server();
    let texts = ["one (two)", "três, четыре, \u{1F980}!"];
    let ids = [ids_of(&server, texts[0]).await, ids_of(&server, texts[1]).await];
    let constraint = json!({"regex": "[a-z ]+"});
    let body = |prompt: Value| {
        json!({"prompt": prompt, "n": 2, "seed": 3, "max_tokens": 4, "echo": true, "logprobs": 2,
            "structured_outputs": constraint})
    };
    let whole = complete(&server, body(json!(texts))).await;
    assert_eq!(complete(&server, body(json!(ids))).await["choices"], whole["choices"], "ids are the text's");
    let mut streamed = body(json!(texts));
    streamed["stream"] = json!(true);
    let chunks = chunks(&server, streamed).await;
    for (index, choice) in whole["choices"].as_array().expect("a list").iter().enumerate() {
        let (text, ids, logprobs) = (texts[index / 2], &ids[index / 2], &choice["logprobs"]);
        let alone = complete(&server, body(json!(text))).await;
        assert_eq!(alone["choices"][index % 2]["logprobs"], *logprobs, "a list of prompts is several requests");
        // The prompt without an answer is the answer's beginning.
        let mut scored = body(json!(text));
        scored["max_tokens"] = json!(0);
        let scored = &complete(&server, scored).await["choices"][index % 2];
        let pieces: Vec<_> =
            chunks.iter().map(|chunk| &chunk["choices"][0]).filter(|piece| piece["index"] == index).collect();
        assert_eq!((&scored["text"], &pieces[0]["text"]), (&json!(text), &json!(text)));
        assert_eq!(scored["logprobs"], pieces[0]["logprobs"], "the first chunk has the prompt");
        for list in LISTS {
            let all = logprobs[list].as_array().expect("a list");
            let in_pieces = pieces.iter().flat_map(|piece| piece["logprobs"][list].as_array().expect("a list"));
            assert_eq!(in_pieces.collect::<Vec<_>>(), all.iter().collect::<Vec<_>>(), "{list}");
            assert_eq!(scored["logprobs"][list].as_array().expect("a list")[..], all[..ids.len()], "{list}");
        }
        // Each token's text stands where its offset says, as far as it is whole characters.
        let characters: Vec<char> = choice["text"].as_str().expect("text").chars().collect();
        let offsets = logprobs["text_offset"].as_array().expect("a list").iter();
        for (token, offset) in logprobs["tokens"].as_array().expect("a list").iter().zip(offsets) {
            let (token, offset) = (token.as_str().expect("text"), offset.as_u64().expect("a number") as usize);
            let here: String = characters[offset..].iter().take(token.chars().count()).collect();
            assert!(here == token || token.contains('\u{FFFD}'), "{token:?} is not at {offset}: {here:?}");
        }
        assert_eq!(logprobs["text_offset"][ids.len()], text.chars().count(), "the answer begins behind the prompt");
    }
}

/// As lm-evaluation-harness reads a reply: one token behind the prompt is left out, also where that is an end.
#[tokio::test]
async fn the_token_that_ends_an_answer_is_listed() {
    let server = server();
    let end = 4097;
    let body = |fields: Value| {
        let mut body = json!({"prompt": "one (two)", "max_tokens": 1, "temperature": 0, "echo": true, "logprobs": 1});
        body.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
        body
    };
    let alone = complete(&server, body(json!({"max_tokens": 0}))).await["choices"][0]["logprobs"].clone();
    for fields in [json!({"logit_bias": {end.to_string(): 100}}), json!({"logit_bias": {end.to_string(): -100}})] {
        let ends = fields["logit_bias"][end.to_string()] == 100;
        let reply = complete(&server, body(fields.clone())).await;
        let (choice, num_tokens) = (&reply["choices"][0], &reply["usage"]["completion_tokens"]);
        assert_eq!((choice["finish_reason"] == "stop", num_tokens == 0), (ends, ends), "{reply}");
        assert_eq!(choice["text"] == "one (two)", ends, "{reply}");
        let logprobs = &choice["logprobs"];
        for list in LISTS {
            let all = logprobs[list].as_array().expect("a list");
            assert_eq!(all[..all.len() - 1], alone[list].as_array().expect("a list")[..], "{list}: {reply}");
        }
        let last = logprobs["tokens"].as_array().and_then(|tokens| tokens.last()).expect("a token");
        assert_eq!(last == "<｜end▁of▁sentence｜>", ends, "{last}");
        let mut streamed = body(fields);
        streamed["stream"] = json!(true);
        let chunks = chunks(&server, streamed).await;
        let pieces = chunks.iter().flat_map(|chunk| chunk["choices"][0]["logprobs"]["tokens"].as_array());
        assert_eq!(pieces.flatten().collect::<Vec<_>>().last(), Some(&last));
    }
}

#[tokio::test]
async fn an_echo_of_no_tokens_is_the_prompt() {
    let server = server();
    for extra in [
        json!({}),
        json!({"logprobs": 0}),
        json!({"n": 2, "best_of": 3, "logprobs": 1}),
        json!({"response_format": {"type": "json_object"}, "logprobs": 5}),
        json!({"structured_outputs": {"choice": ["yes", "no"]}, "stop": ["import"]}),
    ] {
        let mut body = json!({"prompt": "import os\n", "max_tokens": 0, "echo": true});
        body.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
        let reply = complete(&server, body.clone()).await;
        assert_eq!(reply["usage"]["completion_tokens"], 0, "{reply}");
        for choice in reply["choices"].as_array().expect("a list") {
            assert_eq!((&choice["text"], &choice["finish_reason"]), (&json!("import os\n"), &json!("length")));
            assert_ne!(choice["validation"]["verdicts"][0]["status"], "satisfied", "nothing was said: {reply}");
            let num_tokens = reply["usage"]["prompt_tokens"].as_u64().map(|count| count as usize);
            let listed = choice["logprobs"]["tokens"].as_array().map(Vec::len);
            assert_eq!(listed, num_tokens.filter(|_| body["logprobs"].is_u64()), "{reply}");
        }
    }
    // The whole window may be prompt then.
    let ids = vec![300; CONTEXT_LEN + 1];
    let body = |len: usize| json!({"prompt": ids[..len], "max_tokens": 0, "echo": true, "logprobs": 1});
    let reply = complete(&server, body(CONTEXT_LEN)).await;
    assert_eq!(reply["choices"][0]["logprobs"]["token_logprobs"].as_array().map(Vec::len), Some(CONTEXT_LEN));
    let (status, reply) = post(&server, "/v1/completions", &body(CONTEXT_LEN + 1)).await;
    assert_eq!((status.as_u16(), &reply["error"]["code"]), (400, &json!("context_length_exceeded")), "{reply}");
    for path in ["/v1/chat/completions", "/generate", "/v1/completions"] {
        let body = json!({"prompt": "x", "messages": [{"role": "user", "content": "x"}], "max_tokens": 0});
        let mut body = body.as_object().expect("an object").clone();
        body.retain(|field, _| field != if path.contains("chat") { "prompt" } else { "messages" });
        let (status, reply) = post(&server, path, &Value::Object(body)).await;
        assert_eq!((status.as_u16(), &reply["error"]["code"]), (400, &json!("out_of_range")), "{path}: {reply}");
    }
}

#[tokio::test]
async fn log_probabilities_of_a_prompt_are_bounded_and_refused_where_its_tokens_are_not_the_texts() {
    let server = server_on(scripted::chat_maze(MazeConfig { num_prompt_logprobs_max: 40, ..MazeConfig::default() }));
    let body = |len: usize, n: u32, logprobs: u32| {
        let prompt = vec![300; len];
        json!({"prompt": prompt, "max_tokens": 0, "echo": true, "n": n, "logprobs": logprobs})
    };
    for fits in [body(10, 1, 3), body(10, 2, 1), body(40, 1, 0), body(5, 8, 0)] {
        complete(&server, fits).await;
    }
    for refused in [body(10, 1, 4), body(7, 3, 1), body(41, 1, 0)] {
        let (status, reply) = post(&server, "/v1/completions", &refused).await;
        assert_eq!((status.as_u16(), &reply["error"]["code"]), (400, &json!("too_many_logprobs")), "{reply}");
        assert_eq!(reply["error"]["param"], "logprobs");
    }
    for (field, value) in [("suffix", json!("x")), ("token_healing", json!(true))] {
        let mut body = json!({"prompt": "x", "echo": true, "logprobs": 1});
        body[field] = value;
        let (status, reply) = post(&server, "/v1/completions", &body).await;
        assert_eq!((status.as_u16(), &reply["error"]["code"]), (400, &json!("unsupported_parameter")), "{reply}");
        let message = reply["error"]["message"].as_str().expect("a message");
        assert!(reply["error"]["param"] == "logprobs" && message.contains("echo"), "{reply}");
    }
}

#[tokio::test]
async fn of_more_answers_the_likeliest_are_sent_and_all_are_counted() {
    let server = server();
    let body = |fields: Value| {
        let mut body = json!({"prompt": ["a", "b"], "max_tokens": 6, "seed": 4});
        body.as_object_mut().expect("an object").extend(fields.as_object().expect("fields").clone());
        body
    };
    let all = complete(&server, body(json!({"n": 5, "logprobs": 0}))).await;
    let best = complete(&server, body(json!({"n": 2, "best_of": 5}))).await;
    assert_eq!(best["usage"], all["usage"]);
    let choices = |reply: &Value| reply["choices"].as_array().expect("a list").clone();
    let mean = |choice: &Value| {
        let logprobs = choice["logprobs"]["token_logprobs"].as_array().expect("a list");
        logprobs.iter().map(|logprob| logprob.as_f64().expect("a number")).sum::<f64>() / logprobs.len() as f64
    };
    let mut expected = Vec::new();
    for of_prompt in choices(&all).chunks_mut(5) {
        of_prompt.sort_by(|one, other| mean(other).total_cmp(&mean(one)));
        expected.extend(of_prompt[..2].iter().map(|choice| choice["text"].clone()));
    }
    let texts: Vec<_> = choices(&best).iter().map(|choice| choice["text"].clone()).collect();
    assert_eq!(texts, expected);
    for (index, choice) in choices(&best).iter().enumerate() {
        assert!(choice["index"] == index && choice["logprobs"].is_null(), "{choice}");
    }
    assert_eq!(best["provenance"].as_array().map(Vec::len), Some(4));
    let shown = complete(&server, body(json!({"n": 1, "best_of": 5, "logprobs": 0}))).await;
    assert_eq!(choices(&shown)[1]["text"], expected[2]);
    assert!(choices(&shown)[0]["logprobs"]["tokens"].is_array());
}

#[tokio::test]
async fn generate_answers_in_its_own_shape() {
    let server = server();
    let body = json!({
        "prompt": "def f():", "max_tokens": 12, "temperature": 0.7, "seed": 3, "context": null,
        "constraints": {"regex_patterns": [{"any_of": [{"pattern": "[a-z ]+"}], "match": "full"}]}
    });
    let (status, reply) = post(&server, "/generate", &body).await;
    assert_eq!(status, StatusCode::OK, "{reply}");
    let text = reply["generated_text"].as_str().expect("text");
    assert!(!text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c == ' '), "{text}");
    assert_eq!(reply["model"], "scripted");
    assert!(reply["tokens_generated"].as_u64().is_some_and(|count| (1..=12).contains(&count)));
    for field in ["total_time_ms", "time_per_token_us", "constraint_checks", "avg_constraint_check_us"] {
        assert!(reply["stats"][field].is_u64(), "{field}: {reply}");
    }
    assert!(reply["validation"]["verdicts"].is_array() && reply["provenance"]["seed"] == 3, "{reply}");
    assert_eq!(reply["provenance"]["satisfiability"], "satisfiable", "{reply}");
    assert!(reply["provenance"]["min_tokens"].is_u64(), "{reply}");
    let (status, reply) = post(&server, "/generate", &json!({"prompt": "x", "constraints": [{"grammer": 1}]})).await;
    assert_eq!((status.as_u16(), &reply["error"]["param"]), (400, &json!("constraints[0].grammer")));
}

#[tokio::test]
async fn a_client_that_hangs_up_frees_its_blocks() {
    let maze = maze(Duration::from_millis(1));
    let server = server_on(maze.clone());
    let body = json!({"prompt": "x", "n": 4, "max_tokens": 400, "stream": true, "constraint_ir": {"regex_patterns":
        [{"any_of": [{"pattern": "[a-z]{4000,}"}], "match": "full"}]}});
    let response =
        send(&server, Method::POST, "/v1/completions", "application/json", body.to_string().into_bytes()).await;
    assert_eq!(response.status(), StatusCode::OK);
    let is_idle = || {
        let engine = maze.health().engine;
        engine.running == 0 && engine.waiting == 0 && engine.blocks_free == engine.blocks_total
    };
    wait_until(|| !is_idle()).await;
    drop(response);
    wait_until(is_idle).await;
    assert!(maze.health().engine.generated_tokens < 4 * 400, "the rest was not generated");
}

/// Looks again until it is so; gives up after ten seconds.
async fn wait_until(mut is_so: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it did not become so in ten seconds");
}

#[tokio::test]
async fn the_server_says_what_it_is() {
    let server = server();
    let (_, models) = get(&server, "/v1/models").await;
    assert_eq!((&models["object"], &models["data"][0]["id"]), (&json!("list"), &json!("scripted")));
    assert_eq!(get(&server, "/models").await.1, models);
    assert_eq!(get(&server, "/v1/models/scripted").await.1, models["data"][0]);
    let (_, health) = get(&server, "/health").await;
    assert_eq!((&health["status"], &health["blocks_free"]), (&json!("ok"), &health["blocks_total"]));
    let (_, schema) = get(&server, "/v1/constraint-ir/schema").await;
    assert!(schema["properties"]["forbidden_text"].is_object());
    let (_, index) = get(&server, "/").await;
    for route in index["endpoints"].as_array().expect("a list") {
        let (method, path) = route.as_str().and_then(|route| route.split_once(' ')).expect("method and path");
        let path = path.replace("{id}", "scripted");
        let method: Method = method.parse().expect("a method");
        let response = send(&server, method, &path, "application/json", b"{}".to_vec()).await;
        let is_router_error = [404, 405].contains(&response.status().as_u16());
        // There is no reply yet whose record could be asked for.
        let exists = !is_router_error || text(response).await.contains("provenance_not_found");
        assert!(exists, "{route} is listed and does not exist");
    }
}
