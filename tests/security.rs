//! Security profiles: every pattern at every strength, against texts that must be refused and innocents that must pass.
//!
//! Each line of `tests/data/security.jsonl` is one pattern at one strength, for `code` in one language, with its texts.
//! They are walked through the masks in the tokenizer's own split, byte by byte, and in random splits.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use ananke::braid::{self, CompileOptions};
use ananke::constraint::{Constraint, ConstraintSet, Kind, Language, Rule};
use ananke::guide::{CompiledConstraint, Guide, GuideConfig};
use ananke::kernels::sampling::uniform;
use ananke::maze::open_tokenizer;
use ananke::text::Tokenizer;
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

/// Random splits of each text.
const NUM_SPLITS: u64 = 4;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    pattern: String,
    strength: String,
    language: Option<Language>,
    refuse: Vec<String>,
    pass: Vec<String>,
}

fn constraint(guide: &Guide, case: &Case) -> Arc<CompiledConstraint> {
    let mut set = ConstraintSet::default();
    if let Some(language) = case.language {
        let rule: Rule =
            serde_json::from_value(json!({"type": "language", "language": language, "granularity": "file"}))
                .expect("a rule");
        set.push(Constraint::stated("language", Kind::Syntactic, rule));
    }
    let profile = braid::security::profile(&format!("{}={}", case.pattern, case.strength)).expect("a known pattern");
    profile.into_iter().for_each(|pattern| set.push(pattern));
    let ir = braid::compile(&set, &CompileOptions::default()).expect("a set that compiles").ir;
    guide.compile(&[ir]).unwrap_or_else(|error| panic!("{} as {}: {error}", case.pattern, case.strength))
}

fn is_accepted(constraint: &Arc<CompiledConstraint>, tokens: &[u32]) -> bool {
    let mut matcher = constraint.matcher(b"").expect("a matcher");
    tokens.iter().all(|&token| matcher.accept(token).is_ok()) && matcher.is_complete().expect("a live matcher")
}

/// Ids by their bytes.
fn ids(tokenizer: &Tokenizer) -> HashMap<Vec<u8>, u32> {
    let vocabulary = tokenizer.vocabulary();
    (0..vocabulary.num_rows() as u32)
        .map(|id| (vocabulary.bytes(id).to_vec(), id))
        .filter(|(bytes, _)| !bytes.is_empty())
        .collect()
}

/// A split of `text` in which every token is drawn from those that fit; tokens of one byte where `seed` is `None`.
fn split(ids: &HashMap<Vec<u8>, u32>, text: &str, seed: Option<u64>) -> Vec<u32> {
    let mut rest = text.as_bytes();
    let mut tokens = Vec::new();
    while !rest.is_empty() {
        let fitting: Vec<usize> = (1..=rest.len().min(24)).filter(|&len| ids.contains_key(&rest[..len])).collect();
        let drawn = seed.map_or(0.0, |seed| uniform(seed, 0, tokens.len() as u32));
        let len = fitting[(drawn * fitting.len() as f64) as usize % fitting.len()];
        tokens.push(ids[&rest[..len]]);
        rest = &rest[len..];
    }
    tokens
}

#[test]
fn every_pattern_refuses_what_it_means_and_passes_what_it_does_not() {
    let tokenizer = open_tokenizer(Path::new("models/ananke-nano")).expect("the embedded model's tokenizer");
    let guide = Guide::new(tokenizer.vocabulary().clone(), GuideConfig::default()).expect("a guide");
    let ids = ids(&tokenizer);
    let cases = std::fs::read_to_string("tests/data/security.jsonl").expect("the cases");
    let cases: Vec<Case> = cases.lines().map(|line| serde_json::from_str(line).expect("a case")).collect();
    let mut wrong = Vec::new();
    for case in &cases {
        let constraint = constraint(&guide, case);
        let texts = case.refuse.iter().map(|text| (text, false)).chain(case.pass.iter().map(|text| (text, true)));
        for (text, accept) in texts {
            let seeds = std::iter::once(None).chain((0..NUM_SPLITS).map(Some));
            let splits = seeds.map(|seed| split(&ids, text, seed));
            let own = tokenizer.encode(text, false).expect("text");
            if splits.chain([own]).any(|tokens| is_accepted(&constraint, &tokens) != accept) {
                let should = if accept { "pass" } else { "be refused" };
                wrong.push(format!(
                    "{} as {} {:?}: {text:?} should {should}",
                    case.pattern, case.strength, case.language
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    let known: BTreeSet<(&str, &str, Option<Language>)> =
        cases.iter().map(|case| (case.pattern.as_str(), case.strength.as_str(), case.language)).collect();
    let languages = [Language::Typescript, Language::Python, Language::Rust, Language::Go, Language::Zig];
    for pattern in braid::security::PATTERNS {
        let name = pattern.full_name();
        assert!(known.contains(&(name.as_str(), "text", None)), "{name} has no texts");
        for language in languages {
            assert!(known.contains(&(name.as_str(), "code", Some(language))), "{name} has no code in {language:?}");
        }
    }
}
