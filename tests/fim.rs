//! Fill in the middle over HTTP: on a scripted model, which ends wherever it may, and once on the embedded one.

use std::time::Duration;

use ananke::braid;
use ananke::constraint::{CodeRules, ConstraintIr, Granularity, ImportRule, Language};
use ananke::engine::EngineConfig;
use ananke::maze::{Maze, ModelSource, OpenOptions, open};
use ananke::server::{ServerConfig, holes_of_body, router};
use ananke::verify;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use serde_json::{Value, json};
use tower::ServiceExt;

#[path = "common/scripted.rs"]
mod scripted;

/// Tokens of the prompt that are neither side's: the markers. The scripted tokenizer puts no beginning before texts.
const NUM_MARKERS: u64 = 3;

fn server() -> Router {
    serve(scripted::maze(Duration::ZERO, EngineConfig::default()))
}

fn serve(maze: Maze) -> Router {
    router(maze, ServerConfig::default())
}

async fn post(server: &Router, body: &Value) -> (StatusCode, Value) {
    post_to(server, "/v1/completions", body).await
}

async fn post_to(server: &Router, path: &str, body: &Value) -> (StatusCode, Value) {
    let request = Request::post(path).header(header::CONTENT_TYPE, "application/json");
    let request = request.body(Body::from(body.to_string())).expect("a request");
    let response = server.clone().oneshot(request).await.expect("the router answers everything");
    let status = response.status();
    let bytes = to_bytes(response.into_body(), 16 << 20).await.expect("the body ends");
    (status, serde_json::from_slice(&bytes).expect("replies are JSON"))
}

async fn complete(server: &Router, body: Value) -> Value {
    let (status, reply) = post(server, &body).await;
    assert_eq!(status, StatusCode::OK, "{body}: {reply}");
    reply
}

/// The chunks of a stream.
async fn chunks(server: &Router, path: &str, body: &Value) -> Vec<Value> {
    let request = Request::post(path).header(header::CONTENT_TYPE, "application/json");
    let request = request.body(Body::from(body.to_string())).expect("a request");
    let response = server.clone().oneshot(request).await.expect("the router answers everything");
    let bytes = to_bytes(response.into_body(), 16 << 20).await.expect("the body ends");
    let events = String::from_utf8(bytes.to_vec()).expect("events are text");
    let chunks = events.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
    chunks.map(|data| serde_json::from_str::<Value>(data).expect("events are JSON")).collect()
}

/// The text of a stream.
async fn stream(server: &Router, body: &Value) -> String {
    let chunks = chunks(server, "/v1/completions", body).await;
    chunks.iter().filter_map(|chunk| Some(chunk["choices"][0]["text"].as_str()?.to_owned())).collect()
}

async fn refusal(server: &Router, body: Value) -> (u16, String, String) {
    let (status, reply) = post(server, &body).await;
    let field = |name: &str| reply["error"][name].as_str().unwrap_or_default().to_owned();
    (status.as_u16(), field("code"), field("param"))
}

/// Makes the scripted model end wherever it may.
fn eager(mut body: Value) -> Value {
    body["logit_bias"] = json!({"4097": 100});
    body["temperature"] = json!(0);
    body
}

fn code(language: Language, rules: CodeRules) -> Value {
    let code = braid::code(language, Granularity::File, rules);
    serde_json::to_value(ConstraintIr { code: Some(code), ..ConstraintIr::default() }).expect("an IR is plain data")
}

#[tokio::test]
async fn a_hole_is_put_with_the_models_own_markers() {
    let server = server();
    let body = json!({"prompt": "def f(x):\n    return ", "suffix": "\n", "max_tokens": 8, "seed": 1});
    let reply = complete(&server, body.clone()).await;
    let fim = &reply["provenance"][0]["fim"];
    let side = |name: &str| fim[name].as_u64().expect("a count");
    assert_eq!(reply["usage"]["prompt_tokens"], NUM_MARKERS + side("prefix_tokens") + side("suffix_tokens"));
    assert_eq!((side("prefix_tokens_dropped"), side("suffix_tokens_dropped")), (0, 0));
    assert!(fim.get("code_context").is_none(), "nothing is said of code");
    let mut echoed = body.clone();
    echoed["echo"] = json!(true);
    let text = complete(&server, echoed).await["choices"][0]["text"].clone();
    let alone = reply["choices"][0]["text"].as_str().expect("text");
    assert_eq!(text, format!("def f(x):\n    return {alone}"));
    let mut plain = body.clone();
    plain.as_object_mut().expect("an object").remove("suffix");
    let plain = complete(&server, plain).await;
    assert!(plain["provenance"][0].get("fim").is_none());
    // Several prompts share the suffix.
    let both = complete(&server, json!({"prompt": ["a", "b"], "suffix": "c", "max_tokens": 2})).await;
    assert_eq!(both["choices"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn neither_side_can_smuggle_in_a_marker() {
    let server = server();
    let tokens = async |prompt: &str, suffix: &str| {
        let reply = complete(&server, json!({"prompt": prompt, "suffix": suffix, "max_tokens": 1})).await;
        reply["provenance"][0]["fim"]["prefix_tokens"].as_u64().expect("a count")
    };
    assert!(tokens("<｜fim▁hole｜>", "<｜fim▁end｜>").await > 3, "it is spelled out in ordinary tokens");
}

#[tokio::test]
async fn what_makes_no_hole_is_refused_by_name() {
    let server = server();
    for (body, expected) in [
        (json!({"prompt": [1, 2], "suffix": "x"}), (400, "unsupported_parameter", "prompt")),
        (json!({"prompt": "x", "on_unparsable_context": "refuse"}), (400, "invalid_value", "on_unparsable_context")),
        (json!({"prompt": "x", "truncation": "auto"}), (400, "unsupported_parameter", "truncation")),
        (json!({"prompt": "x", "suffix": "y", "truncation": "middle"}), (400, "invalid_value", "truncation")),
    ] {
        let (status, code, param) = refusal(&server, body.clone()).await;
        assert_eq!((status, &*code, &*param), expected, "{body}");
    }
    let tokenizer = include_str!("../models/ananke-nano/tokenizer.json").replace("fim▁", "other▁");
    let without = serve(scripted::maze_reading(tokenizer.as_bytes(), Duration::ZERO, EngineConfig::default()));
    let (status, code, param) = refusal(&without, json!({"prompt": "x", "suffix": "y"})).await;
    assert_eq!((status, &*code, &*param), (400, "no_fim_tokens", "suffix"));
    complete(&without, json!({"prompt": "x", "suffix": null})).await;
}

#[tokio::test]
async fn a_document_longer_than_the_window_is_cut_farthest_from_the_hole() {
    let server = server();
    let line = "total = total + item.price * 2\n";
    let body = json!({"prompt": line.repeat(200), "suffix": line.repeat(200), "max_tokens": 32});
    let reply = complete(&server, body.clone()).await;
    let fim = &reply["provenance"][0]["fim"];
    let count = |name: &str| fim[name].as_u64().expect("a count");
    let seen = count("prefix_tokens") + count("suffix_tokens");
    assert_eq!(seen + NUM_MARKERS + 32, scripted::CONTEXT_LEN as u64, "the window is used");
    assert!(count("suffix_tokens") * 4 <= seen && count("suffix_tokens") * 5 > seen, "{fim}");
    assert!(count("prefix_tokens_dropped") > 0 && count("suffix_tokens_dropped") > 0);
    let mut refused = body.clone();
    refused["truncation"] = json!("disabled");
    assert_eq!(refusal(&server, refused).await.1, "context_length_exceeded");
    let mut too_much = body;
    too_much["max_tokens"] = json!(scripted::CONTEXT_LEN);
    assert_eq!(refusal(&server, too_much).await.1, "context_length_exceeded");
}

#[tokio::test]
async fn text_forbidden_in_the_document_is_not_made_at_the_seam() {
    let server = server();
    let forbidden = |scope: &str| json!({"forbidden_text": [{"text": "eval(", "scope": scope}]});
    let body = |scope: &str| {
        eager(json!({"prompt": "x = ev", "suffix": "al(1)", "max_tokens": 8, "constraint_ir": forbidden(scope)}))
    };
    let reply = complete(&server, body("output")).await;
    assert_eq!(reply["choices"][0]["text"], "", "the model ends at once where it may");
    let reply = complete(&server, body("document")).await;
    let choice = &reply["choices"][0];
    let text = choice["text"].as_str().expect("text");
    assert!(!text.is_empty() && !format!("x = ev{text}al(1)").contains("eval("), "{text:?}");
    assert_eq!((&choice["finish_reason"], &choice["validation"]["all_satisfied"]), (&json!("stop"), &json!(true)));
}

#[tokio::test]
async fn code_is_judged_with_what_stands_around_the_hole() {
    let server = server();
    let python = code(Language::Python, CodeRules::default());
    let fill = async |prefix: &str, suffix: &str, choices: &[&str]| {
        let body = json!({"prompt": prefix, "suffix": suffix, "max_tokens": 16, "constraint_ir": python,
            "structured_outputs": {"choice": choices}});
        let reply = complete(&server, eager(body)).await;
        let choice = &reply["choices"][0];
        assert_eq!(reply["provenance"][0]["fim"]["code_context"], "document", "{reply}");
        assert_eq!((&choice["finish_reason"], &choice["validation"]["all_satisfied"]), (&json!("stop"), &json!(true)));
        choice["text"].as_str().expect("text").to_owned()
    };
    assert_eq!(fill("x = [1", "\n", &["", ")", "]"]).await, "]");
    assert_eq!(fill("x = [1", ", 2]\n", &["", ")", "]"]).await, "");
    assert_eq!(fill("def f(x):\n    ", "\n    return y\n", &["return (", "y = (x", "y = x"]).await, "y = x");
    assert_eq!(fill("if x:\n    y = 1\n", " 2\n", &["z =", "    z ="]).await.trim(), "z =");
    assert_eq!(fill("imp", "\nx = 1\n", &["ort", "ort os", "ort os."]).await, "ort os");
}

/// Documents that are programs without anything in the hole, cut between and inside words, strings and brackets.
const WHOLE_WITHOUT: [(Language, &str, &str, &str); 7] = [
    (Language::Python, "a.py", "def f(x):\n    ", "return x\n"),
    (Language::Python, "a.py", "names = [\"a", "b\", 'c']\n"),
    (Language::Python, "a.py", "if ready:\n    start()\n", "stop()\n"),
    (Language::Rust, "a.rs", "fn f(x: u32) -> u32 { x + ", "1 }\n"),
    (Language::Rust, "a.rs", "fn main() { print", "(\"{}\", 1); }\n"),
    (Language::Go, "a.go", "package a\n\nfunc f() {\n\tg(", ")\n}\n"),
    (Language::Typescript, "a.ts", "export function f(): number { return ab", "c; }\n"),
];

#[tokio::test]
async fn an_output_that_could_have_ended_never_runs_past_its_budget_into_a_broken_document() {
    let server = server();
    for (language, file, prefix, suffix) in WHOLE_WITHOUT {
        let ir = code(language, CodeRules::default());
        let mut num_cut = 0;
        for seed in 0..12 {
            let max_tokens = 1 + 3 * seed;
            let body = json!({"prompt": prefix, "suffix": suffix, "max_tokens": max_tokens, "constraint_ir": ir,
                "temperature": 1.5, "seed": seed});
            let reply = complete(&server, body.clone()).await;
            let choice = &reply["choices"][0];
            let text = choice["text"].as_str().expect("text");
            assert_eq!(choice["validation"]["all_satisfied"], true, "{prefix:?} {text:?} {suffix:?}");
            assert_eq!(verify::parses(&format!("{prefix}{text}{suffix}"), language, file), Some(true), "{text:?}");
            num_cut += usize::from(choice["finish_reason"] == "length");
            let mut streamed = body;
            streamed["stream"] = json!(true);
            assert_eq!(stream(&server, &streamed).await, text, "what was taken back had not been sent");
        }
        assert!(num_cut > 0, "{prefix:?}: no budget was used up");
    }
}

#[tokio::test]
async fn a_prefix_that_does_not_go_through_is_left_out_or_refused() {
    let server = server();
    let imports = ImportRule { allow: None, deny: vec!["os".into()] };
    let python = code(Language::Python, CodeRules { imports: Some(imports), ..CodeRules::default() });
    for prefix in ["def f(:\n    x = ", "import os\nx = "] {
        let body = json!({"prompt": prefix, "suffix": "\n", "max_tokens": 24, "constraint_ir": python,
            "structured_outputs": {"choice": ["import os", "y = 1"]}});
        let reply = complete(&server, eager(body.clone())).await;
        let (choice, fim) = (&reply["choices"][0], &reply["provenance"][0]["fim"]);
        assert_eq!(choice["text"], "y = 1", "the rules hold for the hole: {reply}");
        assert_eq!(choice["validation"]["all_satisfied"], true, "{reply}");
        assert_eq!(fim["code_context"], "hole_only");
        assert!(fim["hole_only_because"].as_str().is_some_and(|why| why.contains("code: the text before the hole")));
        let mut strict = body;
        strict["on_unparsable_context"] = json!("refuse");
        let (status, code, param) = refusal(&server, strict).await;
        assert_eq!((status, &*code), (422, "unparsable_context"));
        assert!(param.starts_with("constraint_ir"), "{param}");
    }
}

#[tokio::test]
async fn a_prompt_that_ends_inside_a_word_is_healed() {
    let server = server();
    let body = |seed: u64| {
        json!({"prompt": "import os\n\ndef f(x):\n    retu", "token_healing": true, "max_tokens": 8, "seed": seed,
            "echo": true, "temperature": 0.8})
    };
    let mut num_joined = 0;
    for seed in 0..20 {
        let reply = complete(&server, body(seed)).await;
        let text = reply["choices"][0]["text"].as_str().expect("text");
        let rest = text.strip_prefix("import os\n\ndef f(x):\n    retu").unwrap_or_else(|| panic!("{text:?}"));
        assert!(reply["provenance"][0]["healed_bytes"].as_u64() >= Some(4), "{reply}");
        num_joined += usize::from(rest.starts_with("rn"));
    }
    assert!(num_joined > 0, "noise under `retu` still finds the token `return` now and then");
    let mut scored = body(1);
    scored["logprobs"] = json!(2);
    scored.as_object_mut().expect("an object").remove("echo");
    let reply = complete(&server, scored).await;
    let choice = &reply["choices"][0];
    let tokens: Vec<&str> =
        choice["logprobs"]["tokens"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    assert!(choice["text"].as_str().is_some_and(|text| tokens.concat().starts_with(text)), "{choice}");
    for (field, value, param) in [
        ("suffix", json!("x"), "token_healing"),
        ("response_format", json!({"type": "json_object"}), "token_healing"),
        ("prompt", json!([1, 2]), "prompt"),
    ] {
        let mut body = json!({"prompt": "x", "token_healing": true});
        body[field] = value;
        assert_eq!(refusal(&server, body).await, (400, "unsupported_parameter".into(), param.into()));
    }
}

#[tokio::test]
async fn editors_are_answered_as_by_llama_cpp() {
    let server = server();
    // What llama.vim sends, but for the size of it.
    let body = json!({
        "input_prefix": "def f(x):\n", "input_suffix": "\n\nf(1)\n", "prompt": "    return ",
        "input_extra": [{"text": "def g(x): return x\n", "time": [1, 2], "filename": "g.py"}],
        "n_predict": 8, "n_indent": 4, "top_k": 40, "top_p": 0.99, "stream": false,
        "samplers": ["top_k", "top_p", "infill"], "cache_prompt": true, "t_max_prompt_ms": 500, "t_max_predict_ms": 1000,
        "response_fields": ["content", "timings/prompt_n", "timings/predicted_per_second", "truncated", "tokens_cached",
            "not_applied"],
    });
    let (status, reply) = post_to(&server, "/infill", &body).await;
    assert_eq!(status, StatusCode::OK, "{reply}");
    assert!(reply["content"].is_string() && reply["timings/prompt_n"].as_u64() > Some(20), "{reply}");
    assert_eq!((&reply["truncated"], reply.as_object().map(serde_json::Map::len)), (&json!(false), Some(6)), "{reply}");
    let not_applied = ["samplers", "cache_prompt", "n_indent", "t_max_prompt_ms", "t_max_predict_ms"];
    assert_eq!(reply["not_applied"], json!(not_applied));
    let warm_up = json!({"input_prefix": "", "input_suffix": "", "n_predict": 0, "response_fields": [""]});
    assert_eq!(post_to(&server, "/infill", &warm_up).await, (StatusCode::OK, json!({})));
    for (field, value, code) in [
        ("stream", json!(true), "unsupported_parameter"),
        ("lora", json!([]), "unknown_parameter"),
        ("n_predict", json!(-2), "invalid_value"),
    ] {
        let mut body = json!({"input_prefix": "x", "input_suffix": "y"});
        body[field] = value;
        let (status, reply) = post_to(&server, "/infill", &body).await;
        let error = &reply["error"];
        assert_eq!((status.as_u16(), &error["code"], &error["param"]), (400, &json!(code), &json!(field)), "{reply}");
    }
}

#[tokio::test]
async fn a_hole_is_filled_as_mistrals_api_does() {
    let server = server();
    let hole = json!({"prompt": "def f(x):\n    return ", "suffix": "\n\nf(1)\n", "max_tokens": 8});
    let with = |fields: Value| {
        let mut body = hole.clone();
        body.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
        body
    };
    // The same tokens are drawn as by completions, for a hole and for a prompt without a suffix.
    for suffix in [hole["suffix"].clone(), json!(""), Value::Null] {
        let is_hole = suffix.as_str().is_some_and(|suffix| !suffix.is_empty());
        let mut plain = with(json!({"seed": 5}));
        match is_hole {
            true => plain["suffix"] = suffix.clone(),
            false => drop(plain.as_object_mut().expect("an object").remove("suffix")),
        }
        let expected = complete(&server, plain).await;
        let body =
            with(json!({"random_seed": 5, "suffix": suffix, "temperature": null, "stop": null, "metadata": {"a": 1}}));
        let (status, reply) = post_to(&server, "/v1/fim/completions", &body).await;
        assert_eq!(status, StatusCode::OK, "{reply}");
        assert_eq!((&reply["object"], &reply["usage"]), (&json!("chat.completion"), &expected["usage"]), "{reply}");
        assert_eq!(reply["choices"][0]["message"]["content"], expected["choices"][0]["text"], "{reply}");
        assert_eq!(reply["choices"][0]["finish_reason"], expected["choices"][0]["finish_reason"], "{reply}");
        assert_eq!(reply["provenance"][0].get("fim").is_some(), is_hole, "{reply}");
        let streamed = with(json!({"stream": true, "random_seed": 5, "suffix": suffix}));
        let chunks = chunks(&server, "/v1/fim/completions", &streamed).await;
        // Editors read `choices[0].delta.content` of each chunk.
        let pieces = chunks.iter().map(|chunk| chunk["choices"][0]["delta"]["content"].as_str().expect("text"));
        assert_eq!(expected["choices"][0]["text"], pieces.collect::<String>());
        let last = chunks.last().expect("an end");
        assert_eq!(last["choices"][0]["finish_reason"], expected["choices"][0]["finish_reason"], "{last}");
    }
    let digits = json!({"constraint_ir": {"regex_patterns": [{"any_of": [{"pattern": "[0-9]{3}"}], "match": "full"}]}});
    let (status, reply) = post_to(&server, "/v1/fim/completions", &with(digits)).await;
    assert_eq!((status, &reply["choices"][0]["finish_reason"]), (StatusCode::OK, &json!("stop")), "{reply}");
    let text = reply["choices"][0]["message"]["content"].as_str().expect("text");
    assert!(text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit()), "{reply}");
    for (fields, code, param) in [
        (json!({"min_tokens": 2}), "unsupported_parameter", "min_tokens"),
        (json!({"seed": 2}), "unknown_parameter", "seed"),
        (json!({"n": 2}), "unknown_parameter", "n"),
        (json!({"stream_options": {}}), "invalid_value", "stream_options"),
        (json!({"suffix": "", "truncation": "auto"}), "unsupported_parameter", "truncation"),
        (json!({"suffix": "", "on_unparsable_context": "refuse"}), "invalid_value", "on_unparsable_context"),
    ] {
        let (status, reply) = post_to(&server, "/v1/fim/completions", &with(fields)).await;
        let error = &reply["error"];
        assert_eq!((status.as_u16(), &error["code"], &error["param"]), (400, &json!(code), &json!(param)), "{reply}");
    }
}

#[test]
fn the_hole_of_a_recorded_body_is_found_whoever_sent_it() {
    let bodies = [
        json!({"prompt": "a", "suffix": "b"}),
        json!({"prompt": "a", "suffix": "b", "random_seed": 1}),
        json!({"input_prefix": "a", "input_suffix": "b"}),
    ];
    for body in bodies {
        let holes = holes_of_body(body.to_string().as_bytes()).expect("a hole");
        let sides: Vec<_> = holes.iter().map(|hole| (hole.prefix.as_str(), hole.suffix.as_str())).collect();
        assert_eq!(sides, [("a", "b")], "{body}");
    }
    assert!(holes_of_body(br#"{"prompt": "a", "random_seed": 1}"#).is_err(), "it has no hole");
}

#[tokio::test]
async fn what_the_hole_begins_with_is_prefix_to_its_constraints() {
    let server = server();
    let python = code(Language::Python, CodeRules::default());
    let whole = json!({"regex_patterns": [{"any_of": [{"pattern": "1|1\\)|\\)"}], "match": "full"}]});
    let body = json!({"input_prefix": "x = ", "prompt": "f(", "input_suffix": "\n", "n_predict": 8,
        "constraint_ir": [python, whole], "temperature": 0});
    let (status, reply) = post_to(&server, "/infill", &body).await;
    assert_eq!(status, StatusCode::OK, "{reply}");
    let text = reply["content"].as_str().expect("text");
    assert!(["1)", ")"].contains(&text), "{reply}");
    assert_eq!((&reply["stop_type"], &reply["validation"]["all_satisfied"]), (&json!("eos"), &json!(true)), "{reply}");
    assert_eq!(reply["generation_settings"]["n_ctx"], scripted::CONTEXT_LEN);
    assert_eq!(reply["provenance"]["fim"]["code_context"], "document");
}

#[tokio::test]
async fn the_embedded_model_fills_a_hole_of_a_program() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models/ananke-nano");
    let server = serve(open(OpenOptions::new(ModelSource::Path(folder))).expect("the embedded model opens"));
    let (prefix, suffix) = ("def add(a, b):\n    ", "\n\nprint(add(1, 2))\n");
    let python = code(Language::Python, CodeRules::default());
    let body = json!({"prompt": prefix, "suffix": suffix, "max_tokens": 48, "temperature": 0, "constraint_ir": python});
    let reply = complete(&server, body).await;
    let choice = &reply["choices"][0];
    // Where the model does not end by itself, the budget ends where the suffix goes through.
    assert_eq!(choice["validation"]["all_satisfied"], true, "{reply}");
    let text = format!("{prefix}{}{suffix}", choice["text"].as_str().expect("text"));
    assert_eq!(verify::parses(&text, Language::Python, "add.py"), Some(true), "{text}");
}
