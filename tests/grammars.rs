//! The grammars of the languages, with rules filled in, against texts that they must take and texts that they must not.
//!
//! Each line of `tests/data/grammars/<language>.jsonl` is a text with what binds it. It is walked through the masks, in
//! the tokenizer's own split and byte by byte, by the guide that the server uses.

use std::path::Path;
use std::sync::Arc;

use ananke::braid;
use ananke::constraint::{CodeRules, Constraint, ConstraintIr, ConstraintSet, Granularity, Kind, Language};
use ananke::guide::{CompiledConstraint, Guide, GuideConfig, Matcher, num_words};
use ananke::maze::open_tokenizer;
use ananke::text::Tokenizer;
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    start: Granularity,
    #[serde(default)]
    rules: CodeRules,
    text: String,
    accept: bool,
    why: String,
}

fn judge(language: Language, name: &str) {
    let tokenizer = open_tokenizer(Path::new("models/ananke-nano")).expect("the embedded model's tokenizer");
    let guide = Guide::new(tokenizer.vocabulary().clone(), GuideConfig::default()).expect("a guide");
    let cases = std::fs::read_to_string(format!("tests/data/grammars/{name}.jsonl")).expect("the cases");
    let mut compiled: Vec<(Granularity, CodeRules, Arc<CompiledConstraint>)> = Vec::new();
    let mut wrong = Vec::new();
    for line in cases.lines() {
        let case: Case = serde_json::from_str(line).expect("a case");
        let known = compiled.iter().find(|(start, rules, _)| (*start, rules) == (case.start, &case.rules));
        let constraint = known.map(|(_, _, constraint)| constraint.clone()).unwrap_or_else(|| {
            let code = braid::code(language, case.start, case.rules.clone());
            let ir = ConstraintIr { code: Some(code), ..ConstraintIr::default() };
            let constraint = guide.compile(&[ir]).unwrap_or_else(|error| panic!("{name}, {}: {error}", case.why));
            compiled.push((case.start, case.rules.clone(), constraint.clone()));
            constraint
        });
        for tokens in [tokenizer.encode(&case.text, false).expect("text"), bytewise(&tokenizer, &case.text)] {
            if is_accepted(&constraint, &tokens) != case.accept {
                wrong.push(format!(
                    "{}: {:?} should be {}",
                    case.why,
                    case.text,
                    if case.accept { "taken" } else { "refused" }
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong in {name}:\n{}", wrong.len(), wrong.join("\n"));
}

/// A split into tokens of one byte.
fn bytewise(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    let vocabulary = tokenizer.vocabulary();
    let token_of = |byte: u8| (0..vocabulary.num_rows() as u32).find(|&id| vocabulary.bytes(id) == [byte]);
    let of_bytes: Vec<Option<u32>> = (0..=u8::MAX).map(token_of).collect();
    text.bytes().map(|byte| of_bytes[byte as usize].expect("every byte is a token")).collect()
}

fn is_accepted(constraint: &Arc<CompiledConstraint>, tokens: &[u32]) -> bool {
    let mut matcher: Matcher = constraint.matcher(b"").expect("a matcher");
    tokens.iter().all(|&token| matcher.accept(token).is_ok()) && matcher.is_complete().expect("a state")
}

/// Along real files, whichever way a mask is computed.
#[test]
fn masks_kept_by_lexers_are_those_that_are_made_anew() {
    let tokenizer = open_tokenizer(Path::new("models/ananke-nano")).expect("the embedded model's tokenizer");
    let guide = |min_lexer_mask_walk| {
        let config = GuideConfig { min_lexer_mask_walk, ..GuideConfig::default() };
        Guide::new(tokenizer.vocabulary().clone(), config).expect("a guide")
    };
    let guides = [usize::MAX, 0, 2_000].map(guide);
    for (language, file) in [
        (Language::Typescript, "typescript/ringBuffer.ts"),
        (Language::Python, "python/buffered.py"),
        (Language::Rust, "rust/fmt.rs"),
        (Language::Go, "go/url.go"),
        (Language::Zig, "zig/StringInterner.zig"),
    ] {
        let text = std::fs::read_to_string(Path::new("tests/data/labelled").join(file)).expect("a labelled file");
        let tokens = tokenizer.encode(&text, false).expect("text");
        let code = braid::code(language, Granularity::File, CodeRules::default());
        let ir = ConstraintIr { code: Some(code), ..ConstraintIr::default() };
        let mut matchers = guides.each_ref().map(|guide| {
            guide.compile(std::slice::from_ref(&ir)).expect("it compiles").matcher(b"").expect("a matcher")
        });
        for (index, &token) in tokens.iter().take(600).enumerate() {
            let [anew, at_once, later] = matchers.each_mut().map(|matcher| {
                let mut row = vec![0; num_words(tokenizer.vocabulary().num_rows())];
                matcher.fill(&mut row).expect("a mask");
                matcher.accept(token).unwrap_or_else(|error| panic!("{file}, token {index}: {error}"));
                row
            });
            assert!(anew == at_once && anew == later, "{file}, token {index}");
        }
    }
}

#[test]
fn typescript_says_what_its_compiler_reads() {
    judge(Language::Typescript, "typescript");
}

#[test]
fn python_says_what_ast_parse_reads() {
    judge(Language::Python, "python");
}

#[test]
fn rust_says_what_its_compiler_reads() {
    judge(Language::Rust, "rust");
}

#[test]
fn go_says_what_gofmt_reads() {
    judge(Language::Go, "go");
}

#[test]
fn zig_says_what_its_compiler_reads() {
    judge(Language::Zig, "zig");
}

/// Every rule that a set can state about code of a language, beside all security patterns where the grammar refuses them.
fn everything(language: &str, signature: &str, imports: &[&str], fields: bool) -> ConstraintSet {
    let mut rules = vec![
        json!({"type": "language", "language": language, "granularity": "file"}),
        json!({"type": "imports", "allow": imports}),
        json!({"type": "signature", "signature": signature}),
        json!({"type": "calls", "deny": ["abort", ".unwrap"]}),
    ];
    let declared = [("function", "camel_case"), ("type", "pascal_case"), ("variable", "snake_case")];
    let declared = declared.into_iter().chain(fields.then_some(("field", "snake_case")));
    rules.extend(declared.map(
        |(declaration, convention)| json!({"type": "names", "declaration": declaration, "convention": convention}),
    ));
    let mut set = ConstraintSet::default();
    for (number, rule) in rules.into_iter().enumerate() {
        let rule = serde_json::from_value(rule).expect("a rule");
        set.push(Constraint::stated(format!("{language}.{number}"), Kind::Architectural, rule));
    }
    let patterns = "all,urls=code,commands=code,paths=code";
    braid::security::profile(patterns).expect("known patterns").into_iter().for_each(|pattern| set.push(pattern));
    set
}

#[test]
fn every_language_holds_all_rules_and_all_security_patterns_at_once() {
    let tokenizer = open_tokenizer(Path::new("models/ananke-nano")).expect("the embedded model's tokenizer");
    let guide = Guide::new(tokenizer.vocabulary().clone(), GuideConfig::default()).expect("a guide");
    for (language, signature, imports, has_fields) in [
        ("typescript", "export function total(items: number[]): number", &["zod", "node:fs"][..], true),
        ("python", "def total(items: list[float]) -> float:", &["json", "math"], false),
        ("rust", "pub fn total(items: &[f64]) -> f64", &["std", "serde"], true),
        ("go", "func Total(items []float64) float64", &["fmt", "math"], true),
        ("zig", "pub fn total(items: []const f64) f64", &["std"], true),
    ] {
        let set = everything(language, signature, imports, has_fields);
        let compiled = braid::compile(&set, &braid::CompileOptions::default()).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(compiled.ir.lost, [], "{language}");
        let constraint = guide.compile(&[compiled.ir]).unwrap_or_else(|error| panic!("{language}: {error}"));
        // Without a known end, outputs cannot be steered to one.
        assert!(constraint.min_tokens().is_some(), "{language}: {:?}", constraint.verdict());
    }
}
