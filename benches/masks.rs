//! How long does one mask take, part by part and all parts at once?
//!
//! `cargo bench --bench masks`; walks 40 random outputs under each constraint, over the vocabulary of the embedded
//! model (4,105 ids) and, where scripts/fetch_model.sh brought it, of SmolLM2 (49,152 ids). Each matcher starts cold;
//! the caches it shares with its siblings warm up as they would in a server. Prints microseconds of wall time.
#![allow(clippy::print_stdout, reason = "a bench prints its result")]

mod common;

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ananke::constraint::ConstraintIr;
use ananke::guide::{Guide, GuideConfig, GuideError, allowed_tokens, num_words};
use ananke::kernels::sampling::uniform;
use ananke::text::Vocabulary;
use serde_json::{Value, json};

const NUM_WALKS: u64 = 40;
const NUM_TOKENS_MAX: u32 = 300;

fn main() -> Result<(), Box<dyn Error>> {
    report("ananke-nano", common::nano_tokenizer()?.vocabulary())?;
    if let Some(smollm2) = common::smollm2() {
        report("SmolLM2", common::gguf_tokenizer(&smollm2)?.vocabulary())?;
    }
    Ok(())
}

/// Constraints by name; the last has all of the parts before it.
fn constraints() -> Vec<(&'static str, ConstraintIr)> {
    let schema = json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 24},
            "kind": {"enum": ["range", "exact", "none"]},
            "tags": {"type": "array", "items": {"type": "string", "maxLength": 10}, "maxItems": 4},
            "owner": {"type": "object", "properties": {"id": {"type": "integer"}, "email": {"type": "string", "maxLength": 30}},
                      "required": ["id", "email"], "additionalProperties": false}
        },
        "required": ["name", "kind", "tags", "owner"], "additionalProperties": false
    });
    let regex = json!([{"any_of": [{"pattern": "[ -~\\n]*"}], "match": "full"}]);
    let forbidden: Vec<Value> =
        ["DROP ", "eval(", "system(", "password", "http://", "/etc/", "../"].map(|text| json!({"text": text})).into();
    let lists = json!({"forbidden_tokens": [300, 301, 302, 500, 501]});
    let grammar = json!({"syntax": "gbnf", "source": "root ::= expr\nexpr ::= term (\" + \" term){1,20}\nterm ::= [a-z]{1,8} | [0-9]{1,6} | \"(\" expr \")\""});
    let of = |value: Value| serde_json::from_value(value).expect("a bench's own IR is well-formed");
    vec![
        ("free", ConstraintIr::default()),
        ("json_schema", of(json!({"json_schema": schema}))),
        ("gbnf", of(json!({"grammar": grammar}))),
        ("regex", of(json!({"regex_patterns": regex}))),
        ("forbidden_text", of(json!({"forbidden_text": forbidden}))),
        ("token ids", of(json!({"token_masks": lists}))),
        (
            "all four",
            of(
                json!({"json_schema": schema, "regex_patterns": regex, "forbidden_text": forbidden, "token_masks": lists}),
            ),
        ),
    ]
}

fn report(name: &str, vocabulary: &Arc<Vocabulary>) -> Result<(), Box<dyn Error>> {
    println!("{name}, {} ids; us", vocabulary.num_tokens());
    println!("{:<16}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}", "constraint", "compile", "masks", "mean", "p50", "p99", "max");
    let guide = Guide::new(vocabulary.clone(), GuideConfig::default())?;
    for (constraint, ir) in constraints() {
        let start = Instant::now();
        let compiled = guide.compile(&[ir])?;
        let compile = start.elapsed();
        let mut times = Vec::new();
        for seed in 0..NUM_WALKS {
            walk(compiled.matcher(b"")?, vocabulary, seed, &mut times)?;
        }
        times.sort_unstable();
        let mean = times.iter().sum::<Duration>() / times.len() as u32;
        let [compile, mean, p50, p99, max] =
            [compile, mean, times[times.len() / 2], times[times.len() * 99 / 100], times[times.len() - 1]]
                .map(|time| time.as_nanos() as f64 / 1000.0);
        println!("{constraint:<16}{compile:>9.0}{:>9}{mean:>9.1}{p50:>9.1}{p99:>9.1}{max:>9.1}", times.len());
    }
    Ok(())
}

/// Follows a random output, timing each mask; the choice of tokens depends on nothing but the seed.
fn walk(
    mut matcher: ananke::guide::Matcher,
    vocabulary: &Vocabulary,
    seed: u64,
    times: &mut Vec<Duration>,
) -> Result<(), GuideError> {
    let mut row = vec![0; num_words(vocabulary.num_rows())];
    for position in 0..NUM_TOKENS_MAX {
        let start = Instant::now();
        let filled = matcher.fill(&mut row);
        times.push(start.elapsed());
        if let Err(error) = filled {
            return if matches!(error, GuideError::DeadEnd { .. }) { Ok(()) } else { Err(error) };
        }
        let allowed: Vec<u32> = allowed_tokens(&row).collect();
        let token = allowed[(uniform(seed, 0, position) * allowed.len() as f64) as usize];
        if vocabulary.end_tokens().contains(&token) {
            return Ok(());
        }
        matcher.accept(token)?;
    }
    Ok(())
}
