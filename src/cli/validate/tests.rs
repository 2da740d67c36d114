use std::io::Write as _;
use std::path::Path;

use clap::Parser;
use serde_json::json;

use super::*;
use crate::cli::Cli;

fn nano() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/ananke-nano").display().to_string()
}

fn file(content: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(content.as_bytes()).expect("it can be written");
    file
}

/// Runs `ananke validate` with these arguments; the exit code and what was printed.
fn validate(args: &[&str]) -> (ExitCode, String) {
    let folder = nano();
    let all = ["ananke", "validate", "--tokenizer", &folder].into_iter().chain(args.iter().copied());
    let mut out = Vec::new();
    let code = Cli::try_parse_from(all).expect("valid arguments").run(None, &mut out).expect("it runs");
    (code, String::from_utf8(out).expect("text"))
}

fn batch(lines: &[String]) -> (ExitCode, Vec<Value>) {
    let cases = file(&lines.join("\n"));
    let (code, printed) = validate(&["--batch", &cases.path().display().to_string()]);
    (code, printed.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect())
}

fn one(case: Value) -> Value {
    batch(&[case.to_string()]).1.remove(0)
}

#[test]
fn every_field_of_a_case_binds() {
    let constraint = json!({"name": "digits", "kind": "syntactic", "source": "user_defined",
                            "rule": {"type": "regex", "any_of": [{"pattern": "[0-9]+"}], "match": "full"}});
    for (fields, right, wrong, at) in [
        (json!({"ir": {"json_schema": {"type": "boolean"}}}), "true", "truth", 3),
        (json!({"constraints": [constraint]}), "42", "4x", 1),
        (json!({"constraints": {"constraints": [constraint]}}), "42", "4x", 1),
        (json!({"rule": {"type": "forbidden_text", "any_of": [{"text": "TODO"}]}}), "TOD", "a TODO", 5),
        (json!({"json_schema": {"const": [1, 2]}}), "[1,2]", "[1,3]", 3),
        (json!({"regex": "a+"}), "aaa", "aab", 2),
        (json!({"regex": "a+", "match": "absent"}), "bcd", "bcda", 3),
        (json!({"grammar": "root ::= \"x\" | \"xyz\"", "syntax": "gbnf"}), "xyz", "xy", 2),
        (json!({"grammar": "a = 'b', { 'c' };", "syntax": "ebnf"}), "bcc", "bb", 1),
        (json!({"forbidden_text": ["rm -rf", {"regex": "c.t", "ignore_case": true}]}), "rm -r ct", "the CAT", 6),
        (json!({"json_schema": {"type": "string"}, "regex": ".{3}", "forbidden_text": ["b"]}), "\"a\"", "\"b\"", 1),
    ] {
        let case = |text: &str| {
            let mut case = fields.clone();
            case["id"] = json!("x");
            case["text"] = json!(text);
            one(case)
        };
        let report = |ok: bool, at: Option<usize>| {
            json!({"id": "x", "compiled": true, "error": null, "masks_accept": ok, "masks_accept_random_split": ok,
                   "verified": ok, "refused_at": at})
        };
        assert_eq!(case(right), report(true, None), "{fields} on {right}");
        assert_eq!(case(wrong), report(false, Some(at)), "{fields} on {wrong}");
    }
}

/// Braid by itself sees no conflict between a grammar and a pattern; the guide does.
#[test]
fn of_constraints_that_only_the_guide_proves_empty_together_the_weaker_yields() {
    let digits = json!({"name": "digits", "kind": "syntactic", "source": "user_defined",
                        "rule": {"type": "grammar", "grammar": {"syntax": "lark", "source": "start: /[0-9]+/"}}});
    let letters = |source: &str| {
        json!({"name": "letters", "kind": "syntactic", "source": source,
               "rule": {"type": "regex", "any_of": [{"pattern": "[a-z]{3}"}], "match": "full"}})
    };
    let case = |source: &str| one(json!({"id": 1, "text": "42", "constraints": [digits, letters(source)]}));
    let mined = case("ast_pattern");
    assert_eq!((&mined["compiled"], &mined["masks_accept"]), (&json!(true), &json!(true)), "{mined}");
    let stated = case("user_defined");
    assert_eq!(stated["compiled"], false, "{stated}");
    assert!(stated["error"].as_str().is_some_and(|error| error.starts_with("constraints: ")), "{stated}");
}

#[test]
fn what_does_not_compile_is_judged_with_the_name_of_its_field() {
    for (fields, name) in [
        (json!({"json_schema": {"type": "strnig"}}), "json_schema#"),
        (json!({"regex": "a", "json_schema": {"properties": {"a": {"type": 5}}}}), "json_schema#"),
        (json!({"json_schema": {}, "regex": "(a"}), "regex"),
        (json!({"json_schema": {}, "grammar": "start: X", "syntax": "lark"}), "grammar, line 1"),
        (json!({"regex": "a", "ir": {"grammar": {"syntax": "gbnf", "source": "root ::= ("}}}), "ir.grammar, line 1"),
        (json!({"regex": "a", "forbidden_text": [{"regex": "(", "text": "a"}]}), "forbidden_text"),
        (json!({"forbidden_text": ["a", {"txt": "a"}]}), "forbidden_text: [1]: unknown field `txt`"),
        (json!({"ir": [1]}), "ir: expected an object"),
        (json!({"ir": {"jsonschema": {}}}), "ir: unknown field `jsonschema`"),
        (json!({"rule": {"type": "prose", "text": "be kind"}}), "rule: nothing binds the text: prose"),
        (json!({"constraints": []}), "constraints: nothing binds the text"),
        (json!({"rule": {"type": "imports", "deny": ["os"]}}), "rule: "),
    ] {
        let mut case = fields.clone();
        case["id"] = json!(3);
        case["text"] = json!("a");
        let (code, mut reports) = batch(&[case.to_string()]);
        let error = reports[0]["error"].take();
        let error = error.as_str().unwrap_or_else(|| panic!("{fields} must not compile: {}", reports[0]));
        assert!(error.starts_with(name), "{fields}: {error}");
        let rest = json!({"id": 3, "compiled": false, "error": null, "masks_accept": null,
                          "masks_accept_random_split": null, "verified": null, "refused_at": null});
        assert_eq!(reports[0], rest);
        assert_eq!(code, ExitCode::SUCCESS, "it was judged");
    }
}

#[test]
fn a_line_that_is_no_case_is_an_error_of_its_own() {
    for (line, id, message) in [
        (r#"{"id": 1, "text": "a", "regex": "a""#, json!(null), "line 1, column 35: EOF"),
        (r#"[1]"#, json!(null), "a case is an object"),
        (r#"{"id": 1, "text": "a"}"#, json!(1), "nothing binds the text"),
        (r#"{"id": 1, "text": "a", "regexp": "a"}"#, json!(1), "unknown field `regexp`"),
        (r#"{"id": 1, "text": "a", "regex": "a", "regex": "b"}"#, json!(1), "duplicate field `regex`"),
        (r#"{"id": "s", "regex": "a"}"#, json!("s"), "missing field `text`"),
        (r#"{"text": "a", "regex": "a"}"#, json!(null), "missing field `id`"),
        (r#"{"id": [1], "text": "a", "regex": "a"}"#, json!(null), "`id` must be"),
        (r#"{"id": 1, "text": "\ud800", "regex": "a"}"#, json!(1), "hex escape"),
        (r#"{"id": 1, "text": "a", "regex": "a", "match": "some"}"#, json!(1), "unknown variant"),
        (r#"{"id": 1, "text": "a", "json_schema": {}, "match": "full"}"#, json!(1), "`match` only goes with"),
        (r#"{"id": 1, "text": "a", "grammar": "x"}"#, json!(1), "`grammar` needs a `syntax`"),
        (r#"{"id": 1, "text": "a", "regex": "x", "syntax": "lark"}"#, json!(1), "`syntax` only goes with"),
    ] {
        let (code, reports) = batch(&[line.to_owned()]);
        let error = reports[0]["error"].as_str().unwrap_or_default();
        assert_eq!((&reports[0]["id"], code), (&id, ExitCode::FAILURE), "{line}: {error}");
        assert!(error.starts_with("line 1, ") && error.contains(message), "{line}: {error}");
        assert_eq!(reports[0]["compiled"], json!(false));
    }
}

#[test]
fn five_thousand_cases_come_out_in_order_around_a_malformed_one() {
    let case = |i: usize| match i % 3 {
        0 => json!({"id": i, "text": i.to_string(), "json_schema": {"type": "integer"}}),
        1 => json!({"id": i, "text": format!("a{i}"), "regex": "[0-9]+"}),
        _ => json!({"id": i, "text": "x".repeat(i % 50), "regex": format!("x{{{}}}", i % 50)}),
    };
    let mut lines: Vec<String> = (0..5000).map(|i| case(i).to_string()).collect();
    lines[2500] = "{\"id\": 2500, \"text\": ".to_owned();
    lines.insert(3000, String::new());
    let (code, reports) = batch(&lines);
    assert_eq!((code, reports.len()), (ExitCode::FAILURE, 5000));
    for (i, report) in reports.iter().enumerate() {
        if i == 2500 {
            assert_eq!(report["id"], json!(null));
            assert!(report["error"].as_str().is_some_and(|error| error.starts_with("line 2501, ")), "{report}");
            continue;
        }
        let accepted = i % 3 != 1;
        assert_eq!((&report["id"], &report["masks_accept"]), (&json!(i), &json!(accepted)), "{report}");
        assert_eq!(report["masks_accept"], report["verified"]);
        assert_eq!(report["masks_accept"], report["masks_accept_random_split"]);
    }
}

#[test]
fn a_line_over_the_bound_is_read_past() {
    let judge = Judge::new(tokenizer(Some(Path::new(&nano())), None).expect("a tokenizer"), JudgeConfig::default());
    let config = BatchConfig { line_bytes_max: 60, num_workers: 2, ..BatchConfig::default() };
    let long = "x".repeat(100_000);
    let cases = format!(
        "{{\"id\": 1, \"text\": \"a\", \"regex\": \"a\"}}\n{long}\n{{\"id\": 2, \"text\": \"a\", \"regex\": \"b\"}}"
    );
    let mut out = Vec::new();
    let judge = judge.expect("the vocabulary can be sliced");
    let num_malformed = batch::run(&judge, cases.as_bytes(), &config, &mut out).expect("it runs");
    let out = String::from_utf8(out).expect("text");
    let reports: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((num_malformed, reports.len()), (1, 3));
    assert_eq!(reports[1]["error"], "line 2, which is longer than 60 bytes");
    assert_eq!((&reports[0]["masks_accept"], &reports[2]["masks_accept"]), (&json!(true), &json!(false)));
}

#[test]
fn one_text_is_judged_for_people_and_for_programs() {
    let schema = file(r#"{"json_schema": {"type": "array", "items": {"type": "integer"}}}"#);
    let words = file(r#"{"forbidden_text": [{"text": "3"}]}"#);
    let [schema, words] = [&schema, &words].map(|file| file.path().display().to_string());
    let run = |text: &str, more: &[&str]| {
        let text = file(text);
        let path = text.path().display().to_string();
        validate(&[&["--ir", &schema, "--ir", &words, &path], more].concat())
    };
    let (code, printed) = run("[1,\n 2]", &[]);
    assert_eq!(code, ExitCode::SUCCESS, "{printed}");
    assert!(printed.contains("constraints[0].json_schema: verified"), "{printed}");
    let (code, printed) = run("[1,\n 3]", &[]);
    assert_eq!(code, ExitCode::from(3));
    assert!(printed.contains("refused at byte 5 (line 2, column 2) by constraints[1].forbidden_text"), "{printed}");
    assert!(printed.contains("constraints[1].forbidden_text[0]: violated"), "{printed}");
    let (code, printed) = run("[1,", &["--json"]);
    let report: Value = serde_json::from_str(&printed).expect("one JSON line");
    assert_eq!((code, &report["refused_at"]), (ExitCode::from(3), &json!(3)));
}

#[test]
fn a_part_that_only_the_masks_know_is_not_called_enforced_where_they_refused() {
    let lark = file(r#"{"grammar": {"syntax": "lark", "source": "start: \"a\"+"}}"#);
    let run = |text: &str| {
        let text = file(text);
        validate(&["--ir", &lark.path().display().to_string(), &text.path().display().to_string()])
    };
    let (code, printed) = run("aa");
    assert!(code == ExitCode::SUCCESS && printed.contains("grammar: enforced"), "{printed}");
    let (code, printed) = run("ab");
    assert!(code == ExitCode::from(3) && printed.contains("grammar: not_checked: only the masks"), "{printed}");
}

#[test]
fn wrong_arguments_are_refused() {
    for args in [
        &["validate"][..],
        &["validate", "text"],
        &["validate", "--ir", "a"],
        &["validate", "--batch", "a", "text"],
        &["validate", "--batch", "a", "--ir", "b", "text"],
    ] {
        assert!(Cli::try_parse_from(["ananke"].iter().chain(args)).is_err(), "{args:?}");
    }
}

#[test]
fn a_tokenizer_is_a_file_or_a_folder_and_gives_one_vocabulary() {
    let folder = PathBuf::from(nano());
    let from_folder = maze::open_tokenizer(&folder).expect("a folder");
    let from_file = maze::open_tokenizer(&folder.join("tokenizer.json")).expect("a file");
    assert_eq!(from_folder.vocabulary().digest_bytes(), from_file.vocabulary().digest_bytes());
    assert_eq!(from_folder.vocabulary().num_rows(), 4160);
    assert!(maze::open_tokenizer(&folder.join("README.md")).is_err());
}
