//! The embedded model writes prose with a bound region in it, and every output passes checks of its own.

mod common;

use ananke::constraint::ConstraintIr;
use ananke::maze::{FinishReason, GenerateRequest, Maze, ModelSource, OpenOptions, Prompt, SamplingParams, open};
use ananke::verify::VerdictStatus;
use common::repository;
use serde_json::{Value, json};

const NUM_SEEDS: u64 = 100;

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "pattern": "^[a-z ]{1,12}$"},
            "count": {"type": "integer", "minimum": 0, "maximum": 99}
        },
        "required": ["name", "count"],
        "additionalProperties": false
    })
}

/// Some prose, a tag with a document in it or one with a date, and some prose again.
fn constraint() -> ConstraintIr {
    serde_json::from_value(json!({
        "regions": {
            "triggers": ["<"],
            "structures": [
                {"begin": "<json>", "json_schema": schema(), "end": "</json>"},
                {"begin": "<date>", "regex": {"pattern": r"^\d{4}-\d\d-\d\d$"}, "end": "</date>"}
            ],
            "at_least_one": true
        },
        "regex_patterns": [{"any_of": [{"pattern": "(?s)[^<>]{10,60}<[^<]*<[^<>]*>[^<>]{10,40}"}], "match": "full"}],
        "forbidden_text": [{"text": "the"}],
        "limits": {"json_whitespace": {"max_newlines": 0, "max_spaces": 1}}
    }))
    .expect("an IR")
}

fn open_nano() -> Maze {
    open(OpenOptions::new(ModelSource::Path(repository("models/ananke-nano")))).expect("the embedded model opens")
}

/// The kind of the region, if the text is prose, one right region, prose.
fn region_of(text: &str) -> Option<&'static str> {
    let (before, rest) = text.split_once('<')?;
    let (region, after) = rest.rsplit_once('>')?;
    let is_prose = |text: &str| (10..=60).contains(&text.chars().count()) && !text.contains("the");
    if !is_prose(before) || !is_prose(after) {
        return None;
    }
    if let Some(document) = region.strip_prefix("json>").and_then(|rest| rest.strip_suffix("</json")) {
        let document: Value = serde_json::from_str(document).ok()?;
        return jsonschema::is_valid(&schema(), &document).then_some("json");
    }
    let date = region.strip_prefix("date>")?.strip_suffix("</date")?;
    regex::Regex::new(r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$").expect("a pattern").is_match(date).then_some("date")
}

#[cfg(not(feature = "planted-fault"))]
#[tokio::test]
async fn prose_with_a_bound_region_is_verified_for_every_seed() {
    let maze = open_nano();
    let mut under_way = Vec::new();
    for seed in 0..NUM_SEEDS {
        let request = GenerateRequest {
            prompt: Prompt::Text("# The report says that ".into()),
            constraints: vec![constraint()],
            sampling: SamplingParams { temperature: 1.0, ..SamplingParams::default() },
            max_tokens: Some(300),
            num_choices: 1,
            seed: Some(seed),
            num_logprobs: None,
            ..GenerateRequest::default()
        };
        under_way.push(maze.generate(request).await.expect("it is admitted"));
    }
    let mut kinds = Vec::new();
    for generation in under_way {
        for output in generation.collect().await.expect("it does not fail") {
            assert_eq!(output.finish.reason, FinishReason::Stop, "{:?}", output.text);
            let validation = &output.finish.validation;
            assert!(validation.all_satisfied, "{:?}: {validation:?}", output.text);
            let regions = validation.verdicts.iter().find(|verdict| verdict.part == "regions").expect("a verdict");
            assert_eq!(regions.status, VerdictStatus::Verified);
            kinds.push(region_of(&output.text).unwrap_or_else(|| panic!("{:?}", output.text)));
        }
    }
    assert_eq!(kinds.len() as u64, NUM_SEEDS);
    assert!(["json", "date"].iter().all(|kind| kinds.contains(kind)), "only {:?}", kinds[0]);
}
