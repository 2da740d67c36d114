//! One request with four parts at once; every output is judged by engines that share nothing with the masks.
//!
//! Built with the feature `planted-fault`, one mask bit is wrong at every step, and the same judges must notice.

use std::path::PathBuf;

use ananke::constraint::ConstraintIr;
use ananke::maze::{
    Completed, FinishReason, GenerateRequest, Maze, ModelSource, OpenOptions, Prompt, SamplingParams, open,
};
use serde_json::{Value, json};

const NUM_SEEDS: u64 = 200;
const FORBIDDEN: [&str; 6] = ["the", "er", "TE", "\": \"", "name\": ", "0.5"];
const CHARACTERS: &str = r#"[A-Za-z0-9 \n{}\[\]":,._-]*"#;

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 1, "maxLength": 16},
            "kind": {"enum": ["range", "exact", "none"]},
            "tags": {"type": "array", "items": {"type": "string", "maxLength": 10}, "maxItems": 3},
            "count": {"type": "integer", "minimum": 0, "maximum": 5000}
        },
        "required": ["name", "kind", "tags", "count"],
        "additionalProperties": false
    })
}

/// Ids that the model likes to use: every token of two or more bytes around these. Single bytes stay, so that no text
/// is out of reach.
fn forbidden_ids(maze: &Maze) -> Vec<u32> {
    let vocabulary = maze.tokenizer().vocabulary();
    let has = |bytes: &[u8], word: &str| bytes.windows(word.len()).any(|window| window == word.as_bytes());
    let is_forbidden =
        |bytes: &[u8]| bytes.len() > 1 && ["on", "in", "am", "\": ", "\n "].iter().any(|word| has(bytes, word));
    (0..vocabulary.num_tokens() as u32).filter(|&id| is_forbidden(vocabulary.bytes(id))).collect()
}

fn constraint(maze: &Maze) -> ConstraintIr {
    let forbidden: Vec<_> = FORBIDDEN.iter().map(|text| json!({"text": text, "ignore_case": *text == "TE"})).collect();
    serde_json::from_value(json!({
        "json_schema": schema(),
        "regex_patterns": [{"any_of": [{"pattern": CHARACTERS}], "match": "full"}],
        "forbidden_text": forbidden,
        "token_masks": {"forbidden_tokens": forbidden_ids(maze)}
    }))
    .expect("an IR")
}

fn open_nano() -> Maze {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("models/ananke-nano");
    open(OpenOptions::new(ModelSource::Path(folder))).expect("the model that comes with the source opens")
}

async fn generate_all(maze: &Maze) -> Vec<Completed> {
    let constraint = constraint(maze);
    let mut under_way = Vec::new();
    for seed in 0..NUM_SEEDS {
        let request = GenerateRequest {
            prompt: Prompt::Text("{\n  \"id\": 7,\n  \"name\": \"".into()),
            constraints: vec![constraint.clone()],
            sampling: SamplingParams { temperature: 1.0, ..SamplingParams::default() },
            max_tokens: Some(400),
            num_choices: 1,
            seed: Some(seed),
            num_logprobs: Some(0),
            ..GenerateRequest::default()
        };
        under_way.push(maze.generate(request).await.expect("it is admitted"));
    }
    let mut completed = Vec::new();
    for generation in under_way {
        completed.extend(generation.collect().await.expect("it does not fail"));
    }
    completed
}

/// Which of the four parts a text breaks.
fn broken_parts(output: &Completed, forbidden_ids: &[u32]) -> Vec<&'static str> {
    let text = &output.text;
    let document: Result<Value, _> = serde_json::from_str(text);
    let is_valid = document.is_ok_and(|document| jsonschema::is_valid(&schema(), &document));
    let characters = regex::Regex::new(&format!("^(?:{CHARACTERS})$")).expect("a pattern");
    let mut lower = text.clone();
    lower.make_ascii_lowercase();
    let has_forbidden = FORBIDDEN.iter().any(|word| text.contains(word)) || lower.contains("te");
    let has_forbidden_id = output.tokens.iter().any(|token| forbidden_ids.contains(&token.id));
    [
        ("json_schema", !is_valid),
        ("regex", !characters.is_match(text)),
        ("forbidden_text", has_forbidden),
        ("forbidden_tokens", has_forbidden_id),
    ]
    .into_iter()
    .filter_map(|(part, is_broken)| is_broken.then_some(part))
    .collect()
}

#[cfg(not(feature = "planted-fault"))]
#[tokio::test]
async fn four_parts_hold_in_every_output() {
    let maze = open_nano();
    let forbidden_ids = forbidden_ids(&maze);
    let completed = generate_all(&maze).await;
    let finished: Vec<_> = completed.iter().filter(|output| output.finish.reason == FinishReason::Stop).collect();
    assert_eq!(finished.len(), completed.len(), "every output finishes within its budget");
    for output in finished {
        assert_eq!(broken_parts(output, &forbidden_ids), Vec::<&str>::new(), "{:?}", output.text);
        let validation = &output.finish.validation;
        assert!(validation.all_satisfied, "{validation:?}");
        assert_eq!(validation.verdicts.len(), 4 + FORBIDDEN.len(), "{validation:?}");
    }
}

#[cfg(feature = "planted-fault")]
#[tokio::test]
async fn a_planted_fault_is_caught() {
    let maze = open_nano();
    let forbidden_ids = forbidden_ids(&maze);
    let completed = generate_all(&maze).await;
    let broken: Vec<_> = completed.iter().filter(|output| !broken_parts(output, &forbidden_ids).is_empty()).collect();
    assert!(!broken.is_empty(), "one wrong bit per mask goes unnoticed in {NUM_SEEDS} outputs");
    for output in broken {
        let validation = &output.finish.validation;
        assert!(!validation.all_satisfied, "the server's own checks believe {:?}: {validation:?}", output.text);
    }
}
