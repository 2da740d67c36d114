//! The endpoints beside those that complete: tokens, constraints, provenance, responses, and what is not offered. In
//! process, over a model whose logits are noise.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Arc;

use ananke::braid;
use ananke::clew;
use ananke::constraint::{ConstraintSet, Digest, Language};
use ananke::maze::MazeConfig;
use ananke::server::{ApiKeys, NewKey, Scope, ServerConfig, router, router_with_keys};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use serde_json::{Value, json};
use tower::ServiceExt;

#[path = "common/scripted.rs"]
mod scripted;

fn server() -> Router {
    router(scripted::chat_maze(MazeConfig::default()), ServerConfig::default())
}

async fn send(server: &Router, method: &str, path: &str, key: Option<&str>, body: Vec<u8>) -> (StatusCode, String) {
    let mut request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, "application/json");
    if let Some(key) = key {
        request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
    }
    let request = request.body(Body::from(body)).expect("a request");
    let response = server.clone().oneshot(request).await.expect("the router answers everything");
    let status = response.status();
    let bytes = to_bytes(response.into_body(), 64 << 20).await.expect("the body ends");
    (status, String::from_utf8(bytes.to_vec()).expect("replies are UTF-8"))
}

async fn post(server: &Router, path: &str, body: &Value) -> (u16, Value) {
    let (status, text) = send(server, "POST", path, None, body.to_string().into_bytes()).await;
    (status.as_u16(), serde_json::from_str(&text).unwrap_or_else(|_| panic!("{path}: {text}")))
}

async fn good(server: &Router, path: &str, body: &Value) -> Value {
    let (status, reply) = post(server, path, body).await;
    assert_eq!(status, 200, "{path} {body}: {reply}");
    reply
}

async fn get(server: &Router, path: &str, key: Option<&str>) -> (u16, Value) {
    let (status, text) = send(server, "GET", path, key, Vec::new()).await;
    (status.as_u16(), serde_json::from_str(&text).unwrap_or_else(|_| panic!("{path}: {text}")))
}

/// Each body is refused with this status, code and parameter.
async fn refused(server: &Router, path: &str, cases: &[(Value, u16, &str, &str)]) {
    for (body, status, code, param) in cases {
        let (found, reply) = post(server, path, body).await;
        let error = &reply["error"];
        let short: String = body.to_string().chars().take(200).collect();
        assert_eq!((found, &error["code"]), (*status, &json!(code)), "{path} {short}: {reply}");
        let param = if param.is_empty() { Value::Null } else { json!(param) };
        assert_eq!(error["param"], param, "{path} {short}: {reply}");
    }
}

#[tokio::test]
async fn text_becomes_tokens_and_text_again() {
    let server = server();
    let text = "def add(a, b):\n    return a + b  # é 世界 <|EOT|>\n";
    let plain =
        good(&server, "/v1/tokenize", &json!({"prompt": text, "return_token_strs": true, "return_token_bytes": true}))
            .await;
    let ids = plain["tokens"].as_array().expect("a list");
    assert_eq!((plain["count"].as_u64(), plain["max_model_len"].as_u64()), (Some(ids.len() as u64), Some(2048)));
    let bytes: Vec<u8> = plain["token_bytes"]
        .as_array()
        .expect("a list")
        .iter()
        .flat_map(|token| {
            token.as_array().expect("bytes").iter().map(|byte| byte.as_u64().expect("a byte") as u8).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(String::from_utf8(bytes).expect("UTF-8"), text, "control tokens in a text are ordinary characters");
    assert_eq!(plain["token_strs"].as_array().map(Vec::len), Some(ids.len()));
    let back = good(&server, "/detokenize", &json!({"tokens": ids})).await;
    let whole = format!("<｜begin▁of▁sentence｜>{text}");
    assert_eq!((&back["prompt"], &back["content"]), (&json!(whole), &json!(whole)));

    let pieces = good(&server, "/tokenize", &json!({"content": text, "with_pieces": true, "add_special": false})).await;
    let pieces = pieces["tokens"].as_array().expect("a list");
    let own: Vec<&Value> = pieces.iter().map(|piece| &piece["id"]).collect();
    assert_eq!(own, ids[1..].iter().collect::<Vec<_>>(), "without the token that begins a text");
    assert!(pieces.iter().any(|piece| piece["piece"].is_array()), "no character was split");

    let messages = json!([{"role": "user", "content": "Hi"}]);
    let with = good(&server, "/v1/tokenize", &json!({"messages": messages})).await;
    let without = good(&server, "/v1/tokenize", &json!({"messages": messages, "add_generation_prompt": false})).await;
    assert!(with["count"].as_u64() > without["count"].as_u64(), "{with} {without}");
    let chat = good(&server, "/v1/completions", &json!({"prompt": "x", "max_tokens": 1})).await;
    assert_eq!(chat["usage"]["prompt_tokens"], good(&server, "/v1/tokenize", &json!({"prompt": "x"})).await["count"]);
    let end = good(&server, "/v1/detokenize", &json!({"tokens": with["tokens"]})).await;
    assert!(end["prompt"].as_str().is_some_and(|text| text.contains("Hi")), "{end}");
}

#[tokio::test]
async fn what_is_no_text_and_no_token_is_refused() {
    let server = router(
        scripted::chat_maze(MazeConfig { prompt_bytes_max: 1000, ..MazeConfig::default() }),
        ServerConfig::default(),
    );
    let long = "x".repeat(1001);
    refused(
        &server,
        "/v1/tokenize",
        &[
            (json!({}), 400, "missing_required_parameter", "prompt"),
            (json!({"prompt": "a", "content": "b"}), 400, "invalid_value", "prompt"),
            (json!({"prompt": "a", "model": "other"}), 404, "model_not_found", "model"),
            (json!({"prompt": long}), 400, "prompt_too_large", "prompt"),
            (json!({"content": long}), 400, "prompt_too_large", "content"),
            (json!({"messages": [{"role": "user", "content": long}]}), 400, "prompt_too_large", "messages"),
            (json!({"messages": []}), 400, "invalid_value", "messages"),
            (
                json!({"messages": [{"role": "user", "content": "a"}], "add_special_tokens": true}),
                400,
                "unsupported_parameter",
                "add_special_tokens",
            ),
            (json!({"prompt": "a", "add_generation_prompt": true}), 400, "invalid_value", "add_generation_prompt"),
            (json!({"prompt": "a", "parse_special": true}), 400, "unsupported_parameter", "parse_special"),
            (json!({"prompt": "a", "tokens": []}), 400, "unknown_parameter", "tokens"),
        ],
    )
    .await;
    refused(
        &server,
        "/v1/detokenize",
        &[
            (json!({}), 400, "missing_required_parameter", "tokens"),
            (json!({"tokens": [1, 999_999]}), 400, "invalid_prompt_token", "tokens"),
            (json!({"tokens": vec![300; 1001]}), 400, "prompt_too_large", "tokens"),
        ],
    )
    .await;
}

const ORDER: &str = "export interface Order {\n  id: number;\n  status: 'open' | 'paid';\n}\n";

#[tokio::test]
async fn sources_become_the_set_that_the_library_makes_of_them() {
    let server = server();
    let by_name = good(&server, "/v1/constraints/extract", &json!({"source": ORDER, "file": "src/order.ts"})).await;
    let set: ConstraintSet = serde_json::from_value(by_name).expect("a set");
    assert_eq!(set, clew::extract(ORDER, Language::Typescript, "src/order.ts").expect("TypeScript is read"));
    assert!(set.find("Order").is_some());
    let by_language =
        good(&server, "/v1/constraints/extract", &json!({"source": ORDER, "language": "typescript"})).await;
    assert_eq!(by_language["constraints"].as_array().map(Vec::len), Some(set.constraints.len()));
    let files = json!({"files": [
        {"source": "import { Order } from './order';\nexport interface Cart { orders: Order[] }\n", "file": "src/cart.ts"},
        {"source": ORDER, "file": "src/order.ts"},
        {"source": "{\"dependencies\": {\"react\": \"18\"}}", "file": "package.json"}
    ]});
    let whole: ConstraintSet =
        serde_json::from_value(good(&server, "/v1/constraints/extract", &files).await).expect("a set");
    let cart = serde_json::to_string(&whole.find("Cart").expect("a type").rule).expect("plain data");
    assert!(cart.contains("paid"), "the import was followed: {cart}");

    let many: String = (0..1500).map(|idx| format!("interface A{idx} {{ a{idx}: string }}\n")).collect();
    let many = good(&server, "/v1/constraints/extract", &json!({"source": many, "file": "a.ts"})).await;
    assert_eq!(many["constraints"].as_array().map(Vec::len), Some(1000));
    assert!(!many["diagnostics"].as_array().expect("a list").is_empty());

    let too_long = " ".repeat(10 * 1024 * 1024 + 1);
    refused(
        &server,
        "/v1/constraints/extract",
        &[
            (json!({"source": too_long, "file": "a.ts"}), 413, "source_too_large", "source"),
            (json!({"source": "", "file": "a.txt"}), 400, "unknown_language", "language"),
            (json!({"source": ""}), 400, "missing_required_parameter", "language"),
            (json!({}), 400, "missing_required_parameter", "source"),
            (json!({"source": "", "files": []}), 400, "invalid_value", "files"),
            (json!({"files": []}), 400, "invalid_value", "files"),
            (json!({"source": "", "language": "cobol"}), 400, "invalid_value", "language"),
            (json!({"source": "{", "file": "package.json"}), 422, "extraction_failed", "source"),
        ],
    )
    .await;
    let not_text = b"{\"source\": \"\xff\", \"file\": \"a.ts\"}".to_vec();
    let (status, _) = send(&server, "POST", "/v1/constraints/extract", None, not_text).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "only UTF-8 is read");
    let small = router(
        scripted::chat_maze(MazeConfig::default()),
        ServerConfig { max_source_body_bytes: 1000, ..ServerConfig::default() },
    );
    refused(
        &small,
        "/v1/constraints/extract",
        &[(json!({"source": " ".repeat(1000), "file": "a.ts"}), 413, "body_too_large", "")],
    )
    .await;
}

fn stated(name: &str, rule: Value) -> Value {
    json!({"name": name, "kind": "semantic", "source": "user_defined", "rule": rule})
}

fn regex(pattern: &str) -> Value {
    json!({"type": "regex", "any_of": [{"pattern": pattern}], "match": "full"})
}

#[tokio::test]
async fn sets_are_compiled_judged_and_explained() {
    let server = server();
    let set = clew::extract(ORDER, Language::Typescript, "order.ts").expect("TypeScript is read");
    let options = braid::CompileOptions { root_type: Some("Order".into()), ..braid::CompileOptions::default() };
    let expected = braid::compile(&set, &options).expect("it compiles").ir;
    let body = json!({"constraints": serde_json::to_value(&set).expect("plain data"), "type": "Order"});
    let compiled = good(&server, "/v1/constraints/compile", &body).await;
    assert_eq!(compiled["ir"], serde_json::to_value(&expected).expect("plain data"));
    assert_eq!(compiled["satisfiability"], "satisfiable");
    assert!(compiled["min_tokens"].as_u64() > Some(3), "{compiled}");
    let fates = compiled["explanation"]["constraints"].as_array().expect("a list");
    assert!(fates.iter().any(|one| one["name"] == "Order" && one["fate"]["became"] == "enforced"), "{compiled}");

    let list = json!([stated("digits", regex("[0-9]+"))]);
    let secured = good(&server, "/v1/constraints/compile", &json!({"constraints": list, "security": "sql=text"})).await;
    assert!(!secured["ir"]["forbidden_text"].as_array().expect("a list").is_empty(), "{secured}");

    let empty = json!([stated("a", regex("[ab]+")), stated("b", regex("[bc]+")), stated("c", regex("[ac]+"))]);
    let (status, reply) = post(&server, "/v1/constraints/compile", &json!({"constraints": empty})).await;
    assert_eq!((status, reply["error"]["param"].as_str()), (422, Some("constraints")), "{reply}");
    let wordy = json!([{"name": "a", "kind": "semantic", "source": "user_defined", "description": "x".repeat(1025), "rule": regex("a")}]);
    let many: Vec<Value> = (0..1001).map(|idx| stated("a", regex(&idx.to_string()))).collect();
    refused(
        &server,
        "/v1/constraints/compile",
        &[
            (json!({"constraints": list, "security": "sqk"}), 400, "invalid_security_profile", "security"),
            (json!({"constraints": list, "type": "Nope"}), 422, "compilation_failed", "constraints"),
            (json!({"constraints": list, "strategy": "assisted"}), 400, "invalid_value", "strategy"),
            (json!({"constraints": wordy}), 400, "invalid_value", "constraints[0].description"),
            (
                json!({"constraints": {"constraints": wordy}}),
                400,
                "invalid_value",
                "constraints.constraints[0].description",
            ),
            (json!({"constraints": many}), 400, "invalid_value", "constraints"),
            (json!({"constraints": [5]}), 400, "invalid_type", "constraints[0]"),
            (json!({"constraints": [{"name": "a"}]}), 400, "missing_required_parameter", "constraints[0].kind"),
            (json!({"constraints": {"constrants": []}}), 400, "unknown_parameter", "constraints.constrants"),
            (json!({"constraints": [stated("a", regex("("))]}), 422, "invalid_regex", "constraints"),
            (json!({}), 400, "missing_required_parameter", "constraints"),
        ],
    )
    .await;
}

#[tokio::test]
async fn texts_are_judged_as_the_command_judges_them() {
    let server = server();
    let body = json!({"texts": ["[1,2]", "[1,3]", "[1]"], "json_schema": {"type": "array"}, "forbidden_text": ["2"]});
    let results = good(&server, "/v1/constraints/validate", &body).await["results"].clone();
    let of = |field: &str| results.as_array().expect("a list").iter().map(|one| one[field].clone()).collect::<Vec<_>>();
    assert_eq!(of("all_satisfied"), [json!(false), json!(true), json!(true)]);
    assert_eq!(of("masks_accept"), [json!(false), json!(true), json!(true)]);
    assert_eq!((&results[0]["refused_at"], &results[0]["refused_by"]), (&json!(3), &json!("forbidden_text")));
    let verdict = |index: usize, part: &str| {
        let verdicts = results[index]["verdicts"].as_array().expect("a list");
        verdicts.iter().find(|verdict| verdict["part"] == part).unwrap_or_else(|| panic!("{part}: {results}")).clone()
    };
    assert_eq!(verdict(0, "json_schema")["status"], "verified");
    assert_eq!(verdict(0, "forbidden_text[0]")["status"], "violated");

    let set = json!({"constraints": [stated("digits", regex("[0-9]+"))]});
    let by_set = good(&server, "/v1/constraints/validate", &json!({"text": "4x", "constraints": set})).await;
    let verdict = &by_set["results"][0]["verdicts"][0];
    assert_eq!((&verdict["part"], &verdict["status"]), (&json!("constraints.regex_patterns[0]"), &json!("violated")));
    assert_eq!(verdict["sources"].as_array().map(Vec::len), Some(1), "the constraint is named: {verdict}");

    let long = "x".repeat((256 << 10) + 1);
    refused(
        &server,
        "/v1/constraints/validate",
        &[
            (json!({"text": "a"}), 400, "invalid_value", ""),
            (json!({"regex": "a"}), 400, "missing_required_parameter", "text"),
            (json!({"text": "a", "texts": ["a"], "regex": "a"}), 400, "invalid_value", "texts"),
            (json!({"texts": [], "regex": "a"}), 400, "invalid_value", "texts"),
            (json!({"texts": vec!["a"; 101], "regex": "a"}), 400, "invalid_value", "texts"),
            (json!({"text": long, "regex": "a"}), 400, "text_too_large", "text"),
            (json!({"text": "a", "regex": "("}), 422, "invalid_regex", "regex.any_of[0]"),
            (json!({"text": "a", "ir": {"json_shcema": {}}}), 400, "invalid_value", "ir"),
            (json!({"text": "a", "constraints": []}), 400, "invalid_value", "constraints"),
            (json!({"text": "a", "grammar": "x"}), 400, "invalid_value", ""),
            (json!({"text": "a", "json_schema": {"type": "array"}, "regex": "a"}), 422, "unsatisfiable", "json_schema"),
        ],
    )
    .await;
    let impatient = MazeConfig { judge_time_max: std::time::Duration::ZERO, ..MazeConfig::default() };
    let impatient = router(scripted::chat_maze(impatient), ServerConfig::default());
    refused(
        &impatient,
        "/v1/constraints/validate",
        &[(json!({"text": "a", "regex": "a"}), 503, "judge_timeout", "text")],
    )
    .await;
}

#[tokio::test]
async fn only_so_many_are_analysed_at_once_and_a_place_comes_back() {
    let none = ServerConfig { max_analyses: 0, ..ServerConfig::default() };
    let full = router(scripted::chat_maze(MazeConfig::default()), none);
    let one = ServerConfig { max_analyses: 1, ..ServerConfig::default() };
    let one = router(scripted::chat_maze(MazeConfig::default()), one);
    let bodies = [
        ("/v1/constraints/extract", json!({"source": ORDER, "file": "a.ts"})),
        ("/v1/constraints/compile", json!({"constraints": [stated("a", regex("a"))]})),
        ("/v1/constraints/validate", json!({"text": "a", "regex": "a"})),
    ];
    for (path, body) in &bodies {
        refused(&full, path, &[(body.clone(), 503, "overloaded", "")]).await;
        refused(&one, path, &[(json!({"nonsense": 1}), 400, "unknown_parameter", "nonsense")]).await;
        good(&one, path, body).await;
        good(&one, path, body).await;
    }
}

/// A server with two keys, and the keys.
fn guarded(config: ServerConfig) -> (Router, [String; 2]) {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    let keys = ["one", "two"].map(|name| {
        let key = NewKey::generate(name, &[Scope::Generate]).expect("a key");
        writeln!(file, "{}", key.entry).expect("it can be written");
        key.secret
    });
    let known = Arc::new(ApiKeys::open(file.path()).expect("a list of keys"));
    (router_with_keys(scripted::chat_maze(MazeConfig::default()), config, Some(known)), keys)
}

async fn complete(server: &Router, key: Option<&str>, path: &str, body: &Value) -> Value {
    let (status, text) = send(server, "POST", path, key, body.to_string().into_bytes()).await;
    assert_eq!(status, StatusCode::OK, "{path} {body}: {text}");
    serde_json::from_str(&text).unwrap_or(Value::String(text))
}

#[tokio::test]
async fn the_record_of_a_reply_is_there_for_the_key_that_got_it() {
    let (server, [one, two]) = guarded(ServerConfig::default());
    let body = json!({"prompt": ["a", "b"], "n": 2, "seed": 5, "max_tokens": 6, "temperature": 0.5, "stop": ["zzz"],
        "context": {"source": ORDER, "language": "typescript", "type": "Order"},
        "structured_outputs": {"regex": "[ -~]*"}});
    let reply = complete(&server, Some(&one), "/v1/completions", &body).await;
    let id = reply["id"].as_str().expect("an id");
    let (status, record) = get(&server, &format!("/v1/provenance/{id}"), Some(&one)).await;
    assert_eq!(status, 200, "{record}");
    assert_eq!((&record["id"], &record["endpoint"]), (&json!(id), &json!("/v1/completions")));
    let requests = record["requests"].as_array().expect("a list");
    assert_eq!(requests.len(), 2);
    for (idx, (request, prompt)) in requests.iter().zip(["a", "b"]).enumerate() {
        assert_eq!(request["prompt"]["digest"], Digest::of_bytes(prompt.as_bytes()).to_string());
        assert_eq!((&request["seed"], &request["sampling"]["temperature"]), (&json!(5), &json!(0.5)));
        assert_eq!(request["irs"].as_array().map(Vec::len), Some(2), "what was mined is one of them");
        assert_eq!(request["constraints"].as_array().map(Vec::len), Some(2));
        assert_eq!(request["weights_digest"], Value::Null, "a scripted model has no weights");
        let mut seen = BTreeSet::new();
        for choice in request["choices"].as_array().expect("a list") {
            let index = choice["index"].as_u64().expect("a number") as usize;
            let replied = &reply["choices"][2 * idx + index];
            let text = replied["text"].as_str().expect("a text");
            assert_eq!(choice["output_digest"], Digest::of_bytes(text.as_bytes()).to_string());
            assert_eq!(choice["finish_reason"], replied["finish_reason"]);
            assert_eq!(choice["validation"], replied["validation"]);
            assert!(choice["stats"]["total_time_ms"].is_u64());
            seen.insert(index);
        }
        assert_eq!(seen, BTreeSet::from([0, 1]));
    }
    let text = record.to_string();
    assert!(!text.contains("\"text\":\""), "no text is in a record");
    for (id, key) in [(id, &two), ("cmpl-0000000000000000", &one), ("x", &one)] {
        let (status, reply) = get(&server, &format!("/v1/provenance/{id}"), Some(key)).await;
        assert_eq!((status, &reply["error"]["code"]), (404, &json!("provenance_not_found")));
    }
    assert_eq!(get(&server, &format!("/v1/provenance/{id}"), None).await.0, 401);
}

#[tokio::test]
async fn every_kind_of_reply_leaves_a_record_and_the_oldest_goes_first() {
    let config = ServerConfig { max_provenance_records: 3, ..ServerConfig::default() };
    let server = router(scripted::chat_maze(MazeConfig::default()), config);
    let messages = json!([{"role": "user", "content": "Hi"}]);
    let mut ids = Vec::new();
    for (path, body) in [
        ("/v1/completions", json!({"prompt": "x", "max_tokens": 2})),
        ("/v1/chat/completions", json!({"messages": messages, "max_tokens": 2})),
        ("/v1/responses", json!({"input": "Hi", "max_output_tokens": 2})),
    ] {
        for stream in [false, true] {
            let mut body = body.clone();
            body["stream"] = json!(stream);
            let reply = complete(&server, None, path, &body).await;
            let id = match &reply {
                Value::String(events) => {
                    let from = events.find("\"id\":\"").expect("an id") + 6;
                    events[from..].split('"').next().expect("an end").to_owned()
                }
                reply => reply["id"].as_str().expect("an id").to_owned(),
            };
            let (status, record) = get(&server, &format!("/v1/provenance/{id}"), None).await;
            assert_eq!((status, &record["endpoint"]), (200, &json!(path)), "{record}");
            assert_eq!(record["requests"][0]["choices"].as_array().map(Vec::len), Some(1));
            ids.push(id);
        }
    }
    let generated = complete(&server, None, "/generate", &json!({"prompt": "x", "max_tokens": 2})).await;
    ids.push(generated["provenance"]["id"].as_str().expect("an id").to_owned());
    for (idx, id) in ids.iter().enumerate() {
        let found = get(&server, &format!("/v1/provenance/{id}"), None).await.0;
        assert_eq!(found, if idx < ids.len() - 3 { 404 } else { 200 }, "{idx}");
    }
}

#[tokio::test]
async fn what_is_not_offered_says_so() {
    let server = server();
    for (method, path, word) in [
        ("POST", "/v1/embeddings", "embeddings"),
        ("POST", "/v1/audio/speech", "text"),
        ("POST", "/v1/images/generations", "text"),
        ("POST", "/v1/moderations", "model"),
        ("GET", "/v1/files", "kept"),
        ("POST", "/v1/batches", "kept"),
        ("POST", "/v1/fine_tuning/jobs", "trained"),
        ("POST", "/v1/assistants", "kept"),
        ("POST", "/v1/threads/abc/runs", "kept"),
        ("GET", "/v1/responses/resp_1", "provenance"),
        ("GET", "/v1/nothing", "GET /"),
        ("GET", "/v1/embeddingsx", "no such path"),
    ] {
        let (status, text) = send(&server, method, path, None, b"{}".to_vec()).await;
        let reply: Value = serde_json::from_str(&text).expect("errors are JSON");
        assert_eq!((status.as_u16(), &reply["error"]["code"]), (404, &json!("unsupported_endpoint")), "{path}");
        assert!(reply["error"]["message"].as_str().is_some_and(|message| message.contains(word)), "{path}: {reply}");
    }
}

/// The events of a streamed response; each one's name is its type, and they are numbered.
async fn events(server: &Router, body: &Value) -> Vec<Value> {
    let mut body = body.clone();
    body["stream"] = json!(true);
    let (status, text) = send(server, "POST", "/v1/responses", None, body.to_string().into_bytes()).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    let events = text.split_terminator("\n\n").filter(|event| !event.starts_with(':'));
    let events = events.enumerate().map(|(idx, event)| {
        let (name, data) = event.split_once('\n').expect("a name and data");
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").expect("data")).expect("JSON");
        assert_eq!(
            (name.strip_prefix("event: "), data["sequence_number"].as_u64()),
            (data["type"].as_str(), Some(idx as u64))
        );
        data
    });
    events.collect()
}

/// The items that the deltas of a stream make, as a client would build them, and the last event.
fn built(events: &[Value]) -> (Vec<Value>, Value) {
    let mut items: Vec<Value> = Vec::new();
    let mut done: Vec<Value> = Vec::new();
    for event in events {
        let at = event["output_index"].as_u64().unwrap_or(0) as usize;
        let add = |target: &mut Value| {
            *target = json!(target.as_str().unwrap_or_default().to_owned() + event["delta"].as_str().expect("text"));
        };
        match event["type"].as_str().expect("a type") {
            "response.output_item.added" => {
                assert_eq!(at, items.len());
                items.push(event["item"].clone());
            }
            "response.content_part.added" => items[at]["content"] = json!([event["part"]]),
            "response.output_text.delta" => add(&mut items[at]["content"][0]["text"]),
            "response.output_text.done" => assert_eq!(items[at]["content"][0]["text"], event["text"]),
            "response.function_call_arguments.delta" => add(&mut items[at]["arguments"]),
            "response.function_call_arguments.done" => assert_eq!(items[at]["arguments"], event["arguments"]),
            "response.output_item.done" => {
                items[at]["status"] = event["item"]["status"].clone();
                assert_eq!(items[at], event["item"]);
                done.push(event["item"].clone());
            }
            _ => {}
        }
    }
    assert_eq!(items, done, "every item is done");
    (done, events.last().expect("events").clone())
}

fn tools() -> Value {
    json!([
        {"type": "function", "name": "weather", "description": "The weather somewhere.", "strict": true, "parameters": {
            "type": "object", "properties": {"city": {"type": "string", "maxLength": 8}, "unit": {"enum": ["C", "F"]}},
            "required": ["city", "unit"], "additionalProperties": false}},
        {"type": "function", "name": "time", "parameters": null}
    ])
}

#[tokio::test]
async fn a_response_is_the_same_whole_and_as_events() {
    let server = server();
    let schema = json!({"type": "object", "properties": {"a": {"enum": ["x", "y"]}}, "required": ["a"], "additionalProperties": false});
    for (fields, status) in [
        (json!({"max_output_tokens": 12}), ""),
        (
            json!({"text": {"format": {"type": "json_schema", "name": "s", "strict": true, "schema": schema}}}),
            "completed",
        ),
        (
            json!({"constraint_ir": {"regex_patterns": [{"any_of": [{"pattern": "[a-z]{4000,}"}], "match": "full"}]}, "max_output_tokens": 3}),
            "incomplete",
        ),
        (json!({"text": {"format": {"type": "json_object"}}}), ""),
        (json!({"tools": tools(), "tool_choice": "required", "parallel_tool_calls": false}), "completed"),
        (json!({"tools": tools(), "tool_choice": {"type": "function", "name": "weather"}}), "completed"),
        (
            json!({"constraint_ir": {"regex_patterns": [{"any_of": [{"pattern": "[a-z]{4}"}], "match": "full"}]}}),
            "completed",
        ),
    ] {
        let mut body = json!({"input": "What is the weather in Rome?", "instructions": "Be brief.", "seed": 3,
            "max_output_tokens": 160, "temperature": 0.9, "metadata": {"a": "b"}, "store": false});
        body.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
        let whole = good(&server, "/v1/responses", &body).await;
        assert!(whole["id"].as_str().is_some_and(|id| id.starts_with("resp_")));
        assert_eq!((&whole["object"], &whole["metadata"]), (&json!("response"), &json!({"a": "b"})));
        assert!(status.is_empty() || whole["status"] == status, "{whole}");
        if whole["status"] == "incomplete" {
            assert_eq!(whole["incomplete_details"]["reason"], "max_output_tokens", "{whole}");
        } else {
            assert_eq!(whole["validation"]["all_satisfied"], true, "{whole}");
        }
        let usage = &whole["usage"];
        assert_eq!(
            usage["total_tokens"].as_u64(),
            Some(
                usage["input_tokens"].as_u64().expect("a number") + usage["output_tokens"].as_u64().expect("a number")
            )
        );
        let events = events(&server, &body).await;
        assert_eq!(
            (&events[0]["type"], &events[0]["response"]["status"]),
            (&json!("response.created"), &json!("in_progress"))
        );
        let (items, last) = built(&events);
        let expected = format!("response.{}", whole["status"].as_str().expect("a word"));
        assert_eq!((&last["type"], &last["response"]["status"]), (&json!(expected), &whole["status"]));
        assert_eq!(last["response"]["usage"], whole["usage"]);
        assert_eq!(last["response"]["output"], json!(items));
        let said = |item: &Value| (item["content"][0]["text"].clone(), item["name"].clone(), item["arguments"].clone());
        let whole_items = whole["output"].as_array().expect("a list");
        assert_eq!(whole_items.iter().map(said).collect::<Vec<_>>(), items.iter().map(said).collect::<Vec<_>>());
        if fields.get("tools").is_some() {
            let call = &whole_items[0];
            assert!(
                call["type"] == "function_call" && call["call_id"].as_str().is_some_and(|id| id.starts_with("call_"))
            );
            serde_json::from_str::<Value>(call["arguments"].as_str().expect("text")).expect("arguments are JSON");
        }
        if fields["text"]["format"]["type"] == "json_schema" {
            let text = whole_items[0]["content"][0]["text"].as_str().expect("text");
            assert!(
                ["x", "y"].contains(&serde_json::from_str::<Value>(text).expect("JSON")["a"].as_str().expect("a word"))
            );
        }
    }
}

#[tokio::test]
async fn a_response_takes_up_what_was_said_and_called_before() {
    let server = server();
    let first = json!({"input": [{"role": "user", "content": [{"type": "input_text", "text": "Weather in Rome?"}]}],
        "tools": tools(), "tool_choice": "required", "parallel_tool_calls": false, "seed": 1, "max_output_tokens": 160});
    let answer = good(&server, "/v1/responses", &first).await;
    let call = answer["output"][0].clone();
    let mut input = first["input"].as_array().expect("a list").clone();
    input.push(call.clone());
    input.push(json!({"type": "function_call_output", "call_id": call["call_id"], "output": "17 degrees"}));
    let second = json!({"input": input, "tools": tools(), "tool_choice": "none", "max_output_tokens": 4});
    let after = good(&server, "/v1/responses", &second).await;
    assert_eq!(after["output"][0]["type"], "message");
    // The same conversation as a chat has the same tokens.
    let chat = json!({"messages": [{"role": "user", "content": "Weather in Rome?"},
        {"role": "assistant", "content": null, "tool_calls": [{"id": "a", "type": "function",
            "function": {"name": call["name"], "arguments": call["arguments"]}}]},
        {"role": "tool", "tool_call_id": "a", "content": "17 degrees"}], "max_tokens": 4});
    let chat = good(&server, "/v1/chat/completions", &chat).await;
    assert_eq!(chat["usage"]["prompt_tokens"], after["usage"]["input_tokens"]);
    let unknown =
        json!([{"role": "user", "content": "x"}, {"type": "function_call_output", "call_id": "b", "output": "y"}]);
    let image = json!([{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]);
    let bad_tool =
        json!([{"type": "function", "name": "f", "parameters": {"properties": {"a": {"uniqueItems": true}}}}]);
    let format = |schema: Value| json!({"format": {"type": "json_schema", "name": "s", "schema": schema}});
    refused(
        &server,
        "/v1/responses",
        &[
            (json!({"input": unknown}), 400, "invalid_value", "input[1].call_id"),
            (json!({"input": image}), 400, "unsupported_parameter", "input[0].content[0].type"),
            (json!({"input": [{"role": "user"}]}), 400, "missing_required_parameter", "input[0].content"),
            (json!({"input": "x", "tools": bad_tool}), 422, "unsupported_schema", "tools[0].parameters"),
            (
                json!({"input": "x", "tools": [{"type": "function", "name": "a b"}]}),
                400,
                "invalid_value",
                "tools[0].name",
            ),
            (
                json!({"input": "x", "tools": tools(), "tool_choice": {"type": "function", "name": "f"}}),
                400,
                "invalid_value",
                "tool_choice.name",
            ),
            (
                json!({"input": "x", "tools": tools(), "text": format(json!({}))}),
                400,
                "unsupported_parameter",
                "text.format",
            ),
            (json!({"input": "x", "text": format(json!(5))}), 422, "invalid_schema", "text.format.schema"),
            (json!({"input": "x", "max_output_tokens": 0}), 400, "out_of_range", "max_output_tokens"),
            (json!({"input": "x", "store": true}), 400, "unsupported_parameter", "store"),
            (
                json!({"input": "x", "previous_response_id": "resp_1"}),
                400,
                "unsupported_parameter",
                "previous_response_id",
            ),
            (json!({"input": "x", "temprature": 1}), 400, "unknown_parameter", "temprature"),
            (json!({"messages": []}), 400, "unknown_parameter", "messages"),
            (json!({}), 400, "missing_required_parameter", "input"),
            (json!({"input": "x", "model": "gpt-4"}), 404, "model_not_found", "model"),
        ],
    )
    .await;
}

#[tokio::test]
async fn each_endpoint_needs_its_scope() {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    let [generate, constraints] = [Scope::Generate, Scope::Constraints].map(|scope| {
        let key = NewKey::generate(scope.as_str(), &[scope]).expect("a key");
        writeln!(file, "{}", key.entry).expect("it can be written");
        key.secret
    });
    let keys = Arc::new(ApiKeys::open(file.path()).expect("a list of keys"));
    let server = router_with_keys(scripted::chat_maze(MazeConfig::default()), ServerConfig::default(), Some(keys));
    for (path, body, right, wrong) in [
        ("/v1/tokenize", json!({"prompt": "a"}), &generate, &constraints),
        ("/tokenize", json!({"prompt": "a"}), &generate, &constraints),
        ("/v1/detokenize", json!({"tokens": []}), &generate, &constraints),
        ("/detokenize", json!({"tokens": []}), &generate, &constraints),
        ("/v1/responses", json!({"input": "a", "max_output_tokens": 1}), &generate, &constraints),
        ("/v1/constraints/extract", json!({"source": ORDER, "file": "a.ts"}), &constraints, &generate),
        ("/v1/constraints/compile", json!({"constraints": []}), &constraints, &generate),
        ("/v1/constraints/validate", json!({"text": "a", "regex": "a"}), &constraints, &generate),
    ] {
        for (key, status) in [(Some(right), 200), (Some(wrong), 403), (None, 401)] {
            let key = key.map(String::as_str);
            let (found, text) = send(&server, "POST", path, key, body.to_string().into_bytes()).await;
            assert_eq!(found.as_u16(), status, "{path}: {text}");
        }
    }
    for key in [&generate, &constraints] {
        let (status, document) = get(&server, "/openapi.json", Some(key)).await;
        assert_eq!((status, &document["openapi"]), (200, &json!("3.1.0")));
    }
    assert_eq!(get(&server, "/openapi.json", None).await.0, 401);
}
