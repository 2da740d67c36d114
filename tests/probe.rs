//! `--probe-compile`: what crashes the process that compiles first is refused, and the server goes on.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use ananke::constraint::Digest;
use ananke::engine::{Engine, EngineConfig};
use ananke::guide::{Guide, GuideConfig};
use ananke::maze::{
    ConstraintIr, Error, ErrorClass, GenerateRequest, Maze, MazeConfig, ModelCard, ProbeConfig, Prompt,
};
use ananke::model::ScriptedModel;
use ananke::text::{ConfigFiles, Tokenizer, TokenizerConfig};
use serde_json::{Value, json};

const VOCAB_LEN: usize = 4160;

fn probe() -> ProbeConfig {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_ananke-serve"));
    let config = ProbeConfig::this_program(vec!["--probe-child".into()]).expect("a program runs");
    ProbeConfig { program, ..config }
}

/// The embedded model's tokenizer, a model whose logits are noise, and a probe.
fn maze(probe: ProbeConfig) -> Maze {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("models/ananke-nano");
    let read = |name: &str| std::fs::read(folder.join(name)).expect("the model's files come with the source");
    let config = read("config.json");
    let files = ConfigFiles { config: Some(&config), ..ConfigFiles::default() };
    let config = TokenizerConfig { num_rows: Some(VOCAB_LEN), ..TokenizerConfig::from_files(&files).expect("configs") };
    let tokenizer = Tokenizer::from_json(&read("tokenizer.json"), config).expect("a tokenizer");
    let guide = Guide::new(tokenizer.vocabulary().clone(), GuideConfig::default()).expect("a guide");
    let model = ScriptedModel::seeded(VOCAB_LEN, 512, 3);
    let end_tokens = tokenizer.vocabulary().end_tokens().to_vec();
    let (engine, _) = Engine::start(Box::new(model), &end_tokens, EngineConfig::default()).expect("an engine");
    let card = ModelCard {
        id: "scripted".into(),
        architecture: "scripted".into(),
        context_len: 512,
        num_parameters: 0,
        weight_bytes: 0,
        quantization: None,
        vocab_len: VOCAB_LEN,
        tokenizer_digest: Digest::from_bytes(tokenizer.vocabulary().digest_bytes()),
        created: 0,
        embedded: false,
        has_chat_template: false,
    };
    Maze::new(engine, guide, tokenizer, card, MazeConfig { probe: Some(probe), ..MazeConfig::default() })
}

async fn generate(maze: &Maze, ir: Value) -> Result<String, Error> {
    let ir: ConstraintIr = serde_json::from_value(ir).expect("a well-formed IR");
    let request = GenerateRequest {
        prompt: Prompt::Text("x".into()),
        constraints: vec![ir],
        max_tokens: Some(4),
        num_choices: 1,
        seed: Some(1),
        ..GenerateRequest::default()
    };
    let mut choices = maze.generate(request).await?.collect().await?;
    Ok(choices.remove(0).text)
}

fn simple(salt: usize) -> Value {
    json!({"regex_patterns": [{"any_of": [{"pattern": format!("a{{{salt}}}")}], "match": "full"}]})
}

/// Within every bound of the guide, and deep enough for a small stack.
fn deep() -> Value {
    let schema = (0..100).fold(json!({"type": "integer"}), |inner, _| json!({"type": "array", "items": inner}));
    json!({"json_schema": schema})
}

/// Within every bound of the guide: 10,000 texts of 50 letters in no order, some hundred MB and milliseconds.
fn many_words() -> Value {
    let mut state = 1u64;
    let mut letter = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'a' + (state >> 33) as u8 % 20)
    };
    let words: Vec<_> = (0..10_000)
        .map(|_| json!({"text": (0..50).map(|_| letter()).collect::<String>(), "scope": "document"}))
        .collect();
    json!({"forbidden_text": words})
}

#[tokio::test]
async fn what_the_probe_survives_is_compiled_by_the_server() {
    let maze = maze(probe());
    for salt in 3..6 {
        assert_eq!(generate(&maze, simple(salt)).await.expect("a plain constraint"), "a".repeat(salt.min(4)));
    }
    generate(&maze, deep()).await.expect("the stack holds it");
    let error = generate(&maze, json!({"json_schema": {"type": "array", "uniqueItems": true}})).await;
    assert_eq!(error.expect_err("the server says itself why it refuses").code(), "unsupported_schema");
    assert_eq!(maze.health().constraints.probe_failures, 0);
}

#[tokio::test]
async fn a_stack_overflow_in_the_probe_is_a_refusal() {
    let maze = maze(ProbeConfig { stack_bytes: Some(192 << 10), ..probe() });
    generate(&maze, simple(2)).await.expect("a plain constraint fits a small stack");
    // The second time the refusal comes from the cache, the third crash is of a fresh child.
    for (ir, probe_failures) in
        [(deep(), 1), (deep(), 1), (json!({"name": "again", "json_schema": deep()["json_schema"]}), 2)]
    {
        let error = generate(&maze, ir).await.expect_err("the child's stack is too small");
        assert!(matches!(&error, Error::ProbeCrashed { how } if how.contains("signal")), "{error}");
        assert_eq!((error.class(), error.code()), (ErrorClass::Unprocessable, "constraint_crashed_probe"));
        assert_eq!(maze.health().constraints.probe_failures, probe_failures);
        assert_eq!(maze.health().status, "ok");
    }
    generate(&maze, simple(3)).await.expect("a new child serves the next constraint");
}

#[tokio::test]
async fn memory_beyond_the_limit_kills_the_probe_alone() {
    // Enough to start, and not for the automaton and what it is made from.
    let maze = maze(ProbeConfig { memory_bytes_max: 160 << 20, stack_bytes: Some(8 << 20), ..probe() });
    generate(&maze, simple(2)).await.expect("a plain constraint");
    let words = many_words();
    let error = generate(&maze, words).await.expect_err("the memory is not there");
    assert!(matches!(error, Error::ProbeCrashed { .. }), "{error}");
    generate(&maze, simple(3)).await.expect("the server is unharmed");
}

#[tokio::test]
async fn a_probe_that_takes_too_long_is_told_to_try_again() {
    let maze = maze(ProbeConfig { time_max: Duration::ZERO, ..probe() });
    let error = generate(&maze, many_words()).await.expect_err("nothing is done in no time");
    assert!(matches!(error, Error::ProbeTimeout { limit_ms: 0 }), "{error}");
    assert_eq!(error.class(), ErrorClass::Overloaded);
}

#[tokio::test]
async fn a_probe_that_cannot_start_refuses_what_is_new() {
    let missing = ProbeConfig { program: "/no/such/program".into(), ..probe() };
    let deaf = ProbeConfig { args: vec![OsString::from("--version")], ..probe() };
    for config in [missing, deaf] {
        let error = generate(&maze(config), simple(2)).await.expect_err("there is no probe");
        assert!(matches!(error, Error::ProbeUnavailable { .. }), "{error}");
        assert_eq!(error.class(), ErrorClass::Unavailable);
    }
}
