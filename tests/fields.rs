//! Every way a request may carry constraints, over a model whose logits are noise: what holds does so because of the
//! masks alone.

use std::path::Path;
use std::sync::Arc;

use ananke::constraint::Digest;
use ananke::engine::{Engine, EngineConfig};
use ananke::guide::{Guide, GuideConfig};
use ananke::maze::{Maze, MazeConfig, ModelCard};
use ananke::model::ScriptedModel;
use ananke::server::{
    ApiKeys, NewKey, Policy, PolicyError, ProfileError, ProfileFiles, Scope, ServerConfig, router_with_policy,
};
use ananke::text::{ConfigFiles, Tokenizer, TokenizerConfig};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt;

const CONTEXT_LEN: usize = 2048;
const VOCAB_LEN: usize = 4160;

fn maze() -> Maze {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/ananke-nano");
    let read = |name: &str| std::fs::read(folder.join(name)).expect("the model's files come with the source");
    let (config, tokenizer_config) = (read("config.json"), read("tokenizer_config.json"));
    let files =
        ConfigFiles { config: Some(&config), tokenizer_config: Some(&tokenizer_config), ..ConfigFiles::default() };
    let config = TokenizerConfig { num_rows: Some(VOCAB_LEN), ..TokenizerConfig::from_files(&files).expect("configs") };
    let tokenizer = Tokenizer::from_json(&read("tokenizer.json"), config).expect("a tokenizer");
    let guide = Guide::new(tokenizer.vocabulary().clone(), GuideConfig::default()).expect("a guide");
    let model = Box::new(ScriptedModel::seeded(VOCAB_LEN, CONTEXT_LEN, 3));
    let end_tokens = tokenizer.vocabulary().end_tokens().to_vec();
    let (engine, _) = Engine::start(model, &end_tokens, EngineConfig::default()).expect("an engine");
    let card = ModelCard {
        id: "scripted".into(),
        architecture: "scripted".into(),
        context_len: CONTEXT_LEN,
        num_parameters: 0,
        weight_bytes: 0,
        quantization: None,
        vocab_len: VOCAB_LEN,
        tokenizer_digest: Digest::from_bytes(tokenizer.vocabulary().digest_bytes()),
        created: 0,
        embedded: false,
        has_chat_template: true,
    };
    Maze::new(engine, guide, tokenizer, card, MazeConfig::default())
}

/// A constraint as a person states it.
fn stated(name: &str, rule: Value) -> Value {
    json!({"name": name, "kind": "syntactic", "source": "user_defined", "rule": rule})
}

/// The whole output matches, or nothing in it does.
fn matches(pattern: &str, mode: &str) -> Value {
    json!({"type": "regex", "any_of": [{"pattern": pattern}], "match": mode})
}

fn set(rules: &[Value]) -> Value {
    json!({"constraints": rules})
}

/// Files in a folder of their own.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).expect("it can be written");
    }
    folder
}

async fn profiles(maze: &Maze, files: &TempDir) -> Policy {
    let files = ProfileFiles::read(files.path()).expect("profiles");
    Policy::new(None, Some(files), maze).await.expect("they compile")
}

fn server(maze: &Maze, policy: &Policy) -> Router {
    router_with_policy(maze.clone(), ServerConfig::default(), policy.clone())
}

const ENDPOINTS: [&str; 3] = ["/v1/completions", "/v1/chat/completions", "/generate"];

async fn send(server: &Router, path: &str, key: Option<&str>, fields: &Value) -> (StatusCode, Value) {
    let mut body = match path {
        "/v1/chat/completions" => json!({"messages": [{"role": "user", "content": "A number"}]}),
        _ => json!({"prompt": "A number: "}),
    };
    body["max_tokens"] = json!(24);
    body["seed"] = json!(1);
    for (name, value) in fields.as_object().expect("fields") {
        body[name] = value.clone();
    }
    let mut request = Request::post(path).header(header::CONTENT_TYPE, "application/json");
    if let Some(key) = key {
        request = request.header("x-api-key", key);
    }
    let request = request.body(Body::from(body.to_string())).expect("a request");
    let response = server.clone().oneshot(request).await.expect("the router answers everything");
    let status = response.status();
    let bytes = to_bytes(response.into_body(), 16 << 20).await.expect("the body ends");
    (status, serde_json::from_slice(&bytes).expect("replies are JSON"))
}

/// Text and provenance of an answer that must be whole and right.
async fn answer(server: &Router, path: &str, key: Option<&str>, fields: &Value) -> (String, Value) {
    let (status, reply) = send(server, path, key, fields).await;
    assert_eq!(status, StatusCode::OK, "{path} {fields}: {reply}");
    let (text, validation, provenance) = match path {
        "/generate" => (&reply["generated_text"], &reply["validation"], &reply["provenance"]),
        "/v1/completions" => {
            (&reply["choices"][0]["text"], &reply["choices"][0]["validation"], &reply["provenance"][0])
        }
        _ => {
            let choice = &reply["choices"][0];
            (&choice["message"]["content"], &choice["validation"], &reply["provenance"][0])
        }
    };
    assert_eq!(validation["all_satisfied"], true, "{path} {fields}: {reply}");
    (text.as_str().expect("text").trim().to_owned(), provenance.clone())
}

async fn refusal(server: &Router, key: Option<&str>, fields: &Value) -> (u16, String, Value, String) {
    let (status, reply) = send(server, "/v1/completions", key, fields).await;
    let error = &reply["error"];
    let text = |field: &str| error[field].as_str().unwrap_or_default().to_owned();
    (status.as_u16(), text("code"), error["param"].clone(), text("message"))
}

const PRIMES: [u32; 15] = [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47];

/// What field `index` allows: its prime times each other one, so that any two fields have one number in common.
fn numbers(index: usize) -> Vec<u32> {
    let others = PRIMES.iter().enumerate().filter(|(other, _)| *other != index);
    others.map(|(_, prime)| prime * PRIMES[index]).collect()
}

fn joined(numbers: &[u32], quote: &str, between: &str) -> String {
    numbers.iter().map(|number| format!("{quote}{number}{quote}")).collect::<Vec<_>>().join(between)
}

/// The fields that may carry constraints, each allowing its numbers in its own words.
fn fields() -> Vec<(&'static str, Value)> {
    let texts = |index| numbers(index).iter().map(u32::to_string).collect::<Vec<_>>();
    let pattern = |index| joined(&numbers(index), "", "|");
    let schema = |index| json!({"enum": numbers(index)});
    let format = json!({"type": "json_schema", "json_schema": {"name": "n", "schema": schema(0)}});
    let ir = json!({"regex_patterns": [{"any_of": [{"pattern": pattern(7)}], "match": "full"}]});
    let maze_json = json!({"regex_patterns": texts(8).iter().map(|text| json!({"pattern": text})).collect::<Vec<_>>()});
    let spec = json!({"version": "1.0", "ebnf": format!("root ::= {}", joined(&numbers(9), "\"", " | "))});
    let rules = set(&[stated("numbers", matches(&pattern(10), "full"))]);
    let context =
        json!({"language": "typescript", "source": format!("type Answer = {};", joined(&numbers(11), "", " | "))});
    vec![
        ("response_format", format),
        ("structured_outputs", json!({"choice": texts(1)})),
        ("guided_json", schema(2)),
        ("guided_regex", json!(pattern(3))),
        ("guided_choice", json!(texts(4))),
        ("guided_grammar", json!(format!("start: {}", joined(&numbers(5), "\"", " | ")))),
        ("grammar", json!(format!("root ::= {}", joined(&numbers(6), "\"", " | ")))),
        ("constraint_ir", ir),
        ("constraint_ir", maze_json),
        ("constraint_spec", spec),
        ("constraints", rules),
        ("context", context),
        ("profile", json!("numbers")),
        ("json_schema", schema(13)),
        ("structured_outputs", json!({"json": schema(14)})),
    ]
}

/// Both fields in one request; two of the same name as one.
fn together(one: &(&'static str, Value), other: &(&'static str, Value)) -> Value {
    if one.0 != other.0 {
        return Value::Object([one, other].iter().map(|field| (field.0.to_owned(), field.1.clone())).collect());
    }
    let both = match (&one.1, &other.1) {
        (Value::Object(one), Value::Object(other)) if one.keys().all(|key| !other.contains_key(key)) => {
            Value::Object(one.iter().chain(other).map(|(key, value)| (key.clone(), value.clone())).collect())
        }
        (one, other) => json!([one, other]),
    };
    json!({one.0: both})
}

#[tokio::test(flavor = "multi_thread")]
async fn every_two_fields_of_a_request_hold_together() {
    let maze = maze();
    let rules = set(&[stated("numbers", matches(&joined(&numbers(12), "", "|"), "full"))]);
    let files = folder(&[("numbers.json", &rules.to_string())]);
    let server = server(&maze, &profiles(&maze, &files).await);
    let fields = fields();
    assert_eq!(fields.len(), PRIMES.len());
    for (index, one) in fields.iter().enumerate() {
        for (before, other) in fields[..index].iter().enumerate() {
            let expected = (PRIMES[index] * PRIMES[before]).to_string();
            // A set may come before or behind the other field; the body has no order.
            for path in ENDPOINTS {
                let (text, _) = answer(&server, path, None, &together(other, one)).await;
                assert_eq!(text, expected, "{path}: {} and {}", other.0, one.0);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_fields_that_contradict_each_other_are_both_named() {
    let server = server(&maze(), &Policy::default());
    let fields = json!({"guided_regex": "[0-9]", "grammar": "root ::= \"a\""});
    let (status, code, param, message) = refusal(&server, None, &fields).await;
    assert_eq!((status, code.as_str()), (422, "unsatisfiable"), "{message}");
    assert!(message.contains("guided_regex") && message.contains("grammar"), "{message}");
    assert!(["guided_regex", "grammar"].contains(&param.as_str().expect("a path")), "{param}");
    for (fields, status, param) in [
        (json!({"guided_regex": "("}), 422, "guided_regex"),
        (json!({"guided_regex": "a", "grammar": "root ::= b"}), 422, "grammar"),
        (json!({"guided_regex": 1}), 400, "guided_regex"),
        (json!({"guided_whitespace_pattern": " ?"}), 400, "guided_whitespace_pattern"),
        (json!({"guided_choice": []}), 400, "guided_choice"),
        (json!({"json_schema": {"type": "strin"}, "guided_regex": "a"}), 422, "json_schema"),
    ] {
        let refused = refusal(&server, None, &fields).await;
        assert_eq!((refused.0, refused.2.as_str()), (status, Some(param)), "{fields}: {refused:?}");
    }
    let fields = json!({"guided_regex": "[0-9]", "guided_decoding_backend": "outlines", "grammar": ""});
    answer(&server, "/v1/completions", None, &fields).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_is_compiled_judged_and_reported() {
    let server = server(&maze(), &Policy::default());
    let rules = set(&[
        stated("digits", matches("[0-9]{3}", "full")),
        json!({"name": "no-seven", "kind": "semantic", "source": "ast_pattern", "strength": "soft",
            "rule": {"type": "bias", "text": "7", "bias": -3.0}}),
        json!({"name": "why", "kind": "semantic", "source": "documentation", "strength": "advisory",
            "rule": {"type": "prose", "text": "Numbers are small."}}),
    ]);
    let (text, provenance) = answer(&server, "/generate", None, &json!({"constraints": rules})).await;
    assert!(text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit()), "{text}");
    let record = &provenance["constraints"][0];
    let strengths: Vec<_> = record["sources"].as_array().expect("a list").iter().map(|s| &s["strength"]).collect();
    assert_eq!(strengths, ["hard", "soft"], "{record}");
    assert!(record["advisory"].as_array().is_some_and(|advisory| advisory.len() == 1), "{record}");

    // What is stated is stronger than what is mined, and `refuse` lets nothing yield.
    let mut fields = json!({
        "constraints": set(&[stated("small", matches("[78]", "full"))]),
        "context": {"language": "typescript", "source": "type Answer = 6 | 10;"}
    });
    let (text, provenance) = answer(&server, "/v1/completions", None, &fields).await;
    assert!(text == "7" || text == "8", "{text}");
    assert_eq!(provenance["constraints"].as_array().map(Vec::len), Some(1), "one set: {provenance}");
    assert!(provenance["constraints"][0]["lost"].as_array().is_some_and(|lost| lost.len() == 1), "{provenance}");
    fields["constraints"]["strategy"] = json!("refuse");
    let refused = refusal(&server, None, &fields).await;
    assert_eq!((refused.0, refused.1.as_str()), (422, "compilation_failed"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_a_set_names_the_constraint() {
    let server = server(&maze(), &Policy::default());
    let good = stated("digits", matches("[0-9]{3}", "full"));
    let calls = stated("calls", json!({"type": "calls", "deny": ["eval"]}));
    let many: Vec<_> = (0..1001).map(|i| stated("n", matches(&format!("a{i}"), "absent"))).collect();
    let mut long = good.clone();
    long["description"] = json!("x".repeat(1025));
    for (fields, status, code, param) in [
        (json!({"constraints": set(&[good.clone(), calls])}), 422, "compilation_failed", "constraints.constraints[1]"),
        (
            json!({"constraints": set(&[good.clone(), stated("bad", matches("(", "full"))])}),
            422,
            "invalid_regex",
            "constraints.constraints[1]",
        ),
        (json!({"constraints": set(&many)}), 400, "too_many_constraints", "constraints.constraints"),
        (
            json!({"constraints": set(&[good.clone(), long])}),
            400,
            "description_too_long",
            "constraints.constraints[1].description",
        ),
        (
            json!({"constraints": set(&[json!({"name": "x"})])}),
            400,
            "missing_required_parameter",
            "constraints.constraints[0].kind",
        ),
        (
            json!({"constraints": {"constraints": [], "type": "A"}, "context": {"language": "typescript", "source": "type B = 1;", "type": "B"}}),
            400,
            "invalid_value",
            "constraints.type",
        ),
        (
            json!({"constraints": set(&[good]), "context": {"language": "typescript", "source": "type B = 1;", "type": "C"}}),
            422,
            "compilation_failed",
            "context",
        ),
    ] {
        let refused = refusal(&server, None, &fields).await;
        let found = (refused.0, refused.1.as_str(), refused.2.as_str());
        assert_eq!(found, (status, code, Some(param)), "{}", refused.3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn older_shapes_hold_and_what_they_lose_is_refused_or_listed() {
    let server = server(&maze(), &Policy::default());
    let object = json!({"schema_type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]});
    let (text, _) = answer(&server, "/generate", None, &json!({"constraints": {"json_schema": object}})).await;
    let value: Value = serde_json::from_str(&text).expect("JSON");
    assert!(value.as_object().is_some_and(|value| value.len() == 1 && value["a"].is_boolean()), "{text}");

    let grammar = json!({"start_symbol": "s", "rules": [
        {"lhs": "s", "rhs": ["\"<\"", "s", "\">\""]}, {"lhs": "s", "rhs": ["\"\\\"\""]}, {"lhs": "s", "rhs": []}]});
    let (text, _) = answer(&server, "/v1/completions", None, &json!({"constraint_ir": {"grammar": grammar}})).await;
    let inner = text.trim_start_matches('<').trim_end_matches('>');
    assert_eq!(text.matches('<').count(), text.matches('>').count(), "{text}");
    assert!(inner.is_empty() || inner == "\"", "{text}");

    let spec = json!({"regex": "[0-9]{2}", "negative_regex": "[a-z]", "expected_type": "int"});
    let mut fields = json!({"constraint_spec": spec, "guided_regex": "[0-9a-z]{4}"});
    let refused = refusal(&server, None, &fields).await;
    assert_eq!((refused.0, refused.1.as_str()), (422, "part_not_enforceable"), "{refused:?}");
    assert!(refused.2 == "constraint_spec" && refused.3.contains("`expected_type`"), "{refused:?}");
    fields["strict"] = json!(false);
    let (text, provenance) = answer(&server, "/v1/completions", None, &fields).await;
    assert!(text.len() == 4 && text.bytes().all(|byte| byte.is_ascii_digit()), "{text}");
    let records = provenance["constraints"].as_array().expect("a list");
    let listed = records.iter().flat_map(|record| record["not_applied"].as_array().expect("a list"));
    assert_eq!(listed.map(|part| &part["id"]).collect::<Vec<_>>(), ["expected_type"], "{provenance}");
}

/// A key and the file that lets it in.
fn key_file(files: &TempDir, entries: &str) -> (String, ApiKeys) {
    let key = NewKey::generate("ci", &[Scope::Generate]).expect("a key");
    let path = files.path().join("keys.toml");
    std::fs::write(&path, format!("{}{entries}", key.entry)).expect("it can be written");
    (key.secret, ApiKeys::open(&path).expect("a list of keys"))
}

fn digits_and_no_seven() -> TempDir {
    let digits = set(&[stated("digits", matches("[0-9]{6,8}", "full"))]);
    let no_seven = set(&[stated("no-seven", matches("[5-9]", "absent"))]);
    folder(&[("digits.json", &digits.to_string()), ("no-seven.json", &no_seven.to_string())])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_cannot_switch_off_the_profile_of_its_key() {
    let (maze, files) = (maze(), digits_and_no_seven());
    let (secret, keys) = key_file(&files, "profile = \"digits\"\n");
    let key = Some(secret.as_str());
    let read = ProfileFiles::read(files.path()).expect("profiles");
    let policy = Policy::new(Some(keys), Some(read), &maze).await.expect("they go together");
    let server = server(&maze, &policy);
    let is_digits = |text: &str| (6..=8).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    let weak = json!({"constraints": [{"name": "digits", "kind": "syntactic", "source": "documentation",
        "strength": "advisory", "rule": matches("[0-9]{6,8}", "full")}],
        "resolutions": [{"between": ["digits"], "action": {"disable": "digits"}, "by": "client"}]});
    for path in ENDPOINTS {
        for (fields, names) in [
            (json!({}), vec!["digits"]),
            (json!({"profile": null}), vec!["digits"]),
            (json!({"profile": "digits"}), vec!["digits"]),
            (json!({"profile": "no-seven"}), vec!["no-seven", "digits"]),
            (json!({"strict": false, "constraints": {}}), vec!["digits"]),
            (json!({"constraints": weak}), vec!["digits"]),
        ] {
            let (text, provenance) = answer(&server, path, key, &fields).await;
            assert!(is_digits(&text), "{path} {fields}: {text}");
            assert_eq!(provenance["profiles"], json!(names), "{path} {fields}");
            assert!(!names.contains(&"no-seven") || !text.bytes().any(|byte| byte >= b'5'), "{text}");
        }
    }
    let refused = refusal(&server, key, &json!({"guided_regex": "[a-z]+"})).await;
    assert_eq!((refused.0, refused.1.as_str()), (422, "unsatisfiable"), "{refused:?}");
    assert!(refused.3.contains("profile `digits` (digits)") && refused.3.contains("guided_regex"), "{refused:?}");
    let refused = refusal(&server, key, &json!({"profile": "other"})).await;
    assert_eq!((refused.0, refused.2.as_str()), (400, Some("profile")), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_may_be_for_one_model() {
    let (maze, files) = (maze(), digits_and_no_seven());
    for (model, status) in [("scripted", 200), ("another", 403)] {
        let (key, keys) = key_file(&files, &format!("model = \"{model}\"\n"));
        let server = server(&maze, &Policy::of_keys(Some(Arc::new(keys))));
        for path in ENDPOINTS {
            let (found, reply) = send(&server, path, Some(&key), &json!({})).await;
            assert_eq!(found.as_u16(), status, "{reply}");
            assert!(status == 200 || reply["error"]["code"] == "model_not_allowed", "{reply}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn profiles_are_read_again_with_the_keys_and_never_taken_from_under_one() {
    let (maze, files) = (maze(), digits_and_no_seven());
    let (secret, keys) = key_file(&files, "profile = \"digits\"\n");
    let key = Some(secret.as_str());
    let read = ProfileFiles::read(files.path()).expect("profiles");
    let policy = Policy::new(Some(keys), Some(read), &maze).await.expect("they go together");
    let server = server(&maze, &policy);
    let digits = files.path().join("digits.json");
    let text = async |server: &Router| answer(server, "/generate", key, &json!({})).await.0;

    std::fs::write(&digits, "{\"constraints\": [").expect("it can be written");
    let reloaded = policy.reload(&maze).await.expect("keys and old profiles go together");
    assert!(matches!(reloaded.profiles, Some(Err(ProfileError::Set { .. }))) && matches!(reloaded.keys, Some(Ok(1))));
    assert!(text(&server).await.len() >= 6, "the old one binds");

    let unsatisfiable = set(&[stated("a", matches("a", "full")), stated("b", matches("b", "full"))]);
    std::fs::write(&digits, unsatisfiable.to_string()).expect("it can be written");
    let reloaded = policy.reload(&maze).await.expect("keys and old profiles go together");
    let error = reloaded.profiles.expect("there are profiles").expect_err("nothing satisfies it");
    assert!(error.to_string().contains("`digits`"), "{error}");
    assert!(text(&server).await.len() >= 6, "the old one binds");

    std::fs::remove_file(&digits).expect("it is there");
    assert!(matches!(policy.reload(&maze).await, Err(PolicyError::UnknownProfile { .. })));
    assert!(text(&server).await.len() >= 6, "the old one binds");

    let letters = set(&[stated("letters", matches("[a-c]{3}", "full"))]);
    std::fs::write(&digits, letters.to_string()).expect("it can be written");
    let reloaded = policy.reload(&maze).await.expect("they go together");
    assert!(matches!(reloaded.profiles, Some(Ok(2))));
    assert_eq!(text(&server).await.len(), 3, "the new one binds");
}

#[tokio::test(flavor = "multi_thread")]
async fn profiles_that_cannot_bind_are_errors_at_the_start() {
    let maze = maze();
    let needs_language = set(&[stated("calls", json!({"type": "calls", "deny": ["eval"]}))]);
    let prose = json!({"name": "why", "kind": "semantic", "source": "documentation", "strength": "advisory",
        "rule": {"type": "prose", "text": "Numbers are small."}});
    for (rules, named) in [
        (needs_language, "needs_language"),
        (set(&[prose]), "binds nothing"),
        (set(&[]), "binds nothing"),
        (set(&[stated("bad", matches("(", "full"))]), "profile `p`"),
    ] {
        let files = folder(&[("p.json", &rules.to_string())]);
        let read = ProfileFiles::read(files.path()).expect("well-formed");
        let error = Policy::new(None, Some(read), &maze).await.expect_err(named).to_string();
        assert!(error.contains(named) && error.contains("`p`"), "{error}");
    }
    let files = digits_and_no_seven();
    let (_, keys) = key_file(&files, "profile = \"other\"\n");
    let read = ProfileFiles::read(files.path()).expect("well-formed");
    let error = Policy::new(Some(keys), Some(read), &maze).await.expect_err("there is none").to_string();
    assert!(error.contains("`ci`") && error.contains("`other`"), "{error}");
    // A server that was put together without the check generates nothing for such a key.
    let (secret, keys) = key_file(&files, "profile = \"other\"\n");
    let server = server(&maze, &Policy::of_keys(Some(Arc::new(keys))));
    for path in ENDPOINTS {
        let (status, reply) = send(&server, path, Some(&secret), &json!({})).await;
        assert_eq!((status.as_u16(), &reply["error"]["code"]), (503, &json!("profile_unavailable")));
    }
}
