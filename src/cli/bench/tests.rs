use std::path::Path;

use clap::Parser;
use serde_json::{Value, json};

use super::*;
use crate::cli::Cli;

fn bench(files: &[(&str, Value)], more: &[&str]) -> (ExitCode, String) {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, content) in files {
        std::fs::write(folder.path().join(name), content.to_string()).expect("written");
    }
    let schemas = folder.path().display().to_string();
    let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/ananke-nano").display().to_string();
    let args = ["ananke", "bench", "masks", "--schemas", &schemas, "--tokenizer", &tokenizer];
    let mut out = Vec::new();
    let cli = Cli::try_parse_from(args.into_iter().chain(more.iter().copied())).expect("valid arguments");
    let code = cli.run(None, &mut out).expect("it runs");
    (code, String::from_utf8(out).expect("text"))
}

fn report(files: &[(&str, Value)]) -> (ExitCode, Value) {
    let (code, printed) = bench(files, &["--json"]);
    (code, serde_json::from_str(&printed).expect("one JSON object"))
}

fn point(tests: Value) -> Value {
    let schema = json!({"type": "object", "properties": {"x": {"type": "integer"}, "y": {"type": "integer"}},
                        "required": ["x", "y"], "additionalProperties": false});
    json!({"schema": schema, "tests": tests})
}

#[test]
fn instances_are_counted_as_given_in_schema_order_and_wrong() {
    let tests = json!([
        {"data": {"x": 1, "y": 2}, "valid": true},
        {"data": {"y": 2, "x": 1}, "valid": true},
        {"text": "{ \"x\": 1, \"y\": 2 }", "valid": true},
        {"data": {"x": 1}, "valid": false},
        {"data": {"x": 1, "y": "2"}, "valid": false},
    ]);
    let refused = json!({"$ref": "https://example.org/elsewhere.json"});
    let (code, report) = report(&[("point.json", point(tests)), ("remote.json", refused), ("list.json", json!([1]))]);
    assert_eq!(code, ExitCode::SUCCESS, "{report}");
    assert_eq!((&report["schemas"], &report["files"]), (&json!(2), &json!(3)));
    for engine in ["ananke", "llguidance"] {
        let found = |key: &str| report[engine][key].as_u64().unwrap_or_else(|| panic!("{engine} has no {key}"));
        assert_eq!((found("schemas_accepted"), found("schemas_refused")), (1, 1), "{report}");
        assert_eq!((found("valid_accepted_as_given"), found("valid_accepted_in_schema_order")), (2, 1), "{report}");
        assert_eq!((found("valid_refused"), found("invalid_refused"), found("invalid_accepted")), (0, 2, 0));
        let time = |key: &str| report[engine]["mask_us"][key].as_f64().expect("a number");
        assert!(found("num_masks") > 20 && 0.0 < time("p50") && time("p50") <= time("max"), "{report}");
    }
}

#[test]
fn an_accepted_instance_that_is_called_invalid_ends_with_status_three() {
    let tests = json!([{"data": {"x": 1, "y": 2}, "valid": false}]);
    let (code, printed) = bench(&[("point.json", point(tests))], &[]);
    assert_eq!(code, ExitCode::from(3), "{printed}");
    assert!(printed.contains("ananke, invalid accepted: ") && printed.contains("point.json"), "{printed}");
}

#[test]
fn a_bare_schema_is_walked_along_generated_documents() {
    let (code, report) = report(&[("enum.json", json!({"enum": ["alpha", "beta", 3]}))]);
    assert_eq!(code, ExitCode::SUCCESS);
    assert_eq!(report["ananke"]["generated_complete"], json!(NUM_GENERATED), "{report}");
    for engine in ["ananke", "llguidance"] {
        // Three documents, each at least a token and the end.
        assert!(report[engine]["num_masks"].as_u64() >= Some(2 * NUM_GENERATED), "{report}");
    }
}

#[test]
fn a_limit_ends_the_run_early() {
    let files =
        [("a.json", json!(true)), ("b.json", json!([{"schema": {}, "tests": []}, {"schema": {}, "tests": []}]))];
    let (_, printed) = bench(&files, &["--json", "--limit", "2"]);
    let report: Value = serde_json::from_str(&printed).expect("one JSON object");
    assert_eq!(report["schemas"], json!(2));
}

#[test]
fn quantiles_are_of_the_sorted_times() {
    let times = (1..=100).rev().map(Duration::from_micros).collect();
    let Quantiles { p50, p90, p99, max } = Quantiles::of(times);
    assert_eq!([p50, p90, p99, max].map(f64::round), [51.0, 90.0, 99.0, 100.0]);
    assert_eq!(Quantiles::of(Vec::new()).max, 0.0);
}
