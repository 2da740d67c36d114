//! What do sixteen parts in one request cost, against the costliest of them alone? And two structural parts, against
//! the sum of both?
//!
//! `cargo bench --bench parts -- [WALKS]`; follows WALKS (default 60) random outputs under all parts, over the
//! vocabulary of the embedded model (4,105 ids) and, where scripts/fetch_model.sh brought it, of SmolLM2 (49,152 ids).
//! Every part alone follows the same tokens side by side with all of them. Two rounds; the second, warm one is timed.
//! Prints microseconds of wall time a mask, biases included.
#![allow(clippy::print_stdout, reason = "a bench prints its result")]

mod common;

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ananke::constraint::ConstraintIr;
use ananke::guide::{CompiledConstraint, Guide, GuideConfig, GuideError, Matcher, allowed_tokens, num_words};
use ananke::kernels::sampling::uniform;
use ananke::text::Vocabulary;
use serde_json::{Value, json};

const NUM_TOKENS_MAX: u32 = 250;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let num_walks = arguments.first().map_or(Ok(60), |text| text.parse())?;
    report("ananke-nano", common::nano_tokenizer()?.vocabulary(), num_walks)?;
    if let Some(smollm2) = common::smollm2() {
        report("SmolLM2", common::gguf_tokenizer(&smollm2)?.vocabulary(), num_walks)?;
    }
    Ok(())
}

/// A word of lower-case letters that depends on nothing but its number.
fn word(number: u32, len: u32) -> String {
    (0..len).map(|at| char::from(b'a' + (uniform(7, number, at) * 26.0) as u8)).collect()
}

/// One schema, one big regex, six small ones, a thousand forbidden strings, id lists, five soft biases, and a limit:
/// sixteen parts, each as an IR of its own.
fn sixteen_parts() -> Vec<(String, Value)> {
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
    let group =
        |pattern: &str, mode: &str| json!({"regex_patterns": [{"any_of": [{"pattern": pattern}], "match": mode}]});
    let secrets: Vec<String> = (0..300)
        .map(|idx| format!("{}[0-9]{{0,6}}(?:{})?[!-/]{{1,3}}{}", word(idx, 4), word(900 + idx, 3), word(400 + idx, 3)))
        .collect();
    let mut parts = vec![
        ("json_schema".to_owned(), json!({"json_schema": schema})),
        ("big regex".to_owned(), group(&secrets.join("|"), "absent")),
    ];
    let small = [
        ("[ -~\\n]*", "full"),
        ("[A-Z]{5}", "absent"),
        ("[0-9]{7}", "absent"),
        ("\\{", "prefix"),
        ("(?i)todo|fixme", "absent"),
        ("\"kind\"", "contains"),
    ];
    parts.extend(
        small.iter().enumerate().map(|(idx, (pattern, mode))| (format!("small regex {idx}"), group(pattern, mode))),
    );
    let texts: Vec<Value> = (0..1_000).map(|idx| json!({"text": word(2_000 + idx, 4 + idx % 5)})).collect();
    parts.push(("forbidden text".to_owned(), json!({"forbidden_text": texts})));
    parts.push(("id lists".to_owned(), json!({"token_masks": {"forbidden_tokens": [300, 301, 302, 500, 501]}})));
    let soft = [
        json!({"text": "range", "bias": 2.0}),
        json!({"text": "the", "bias": -1.0}),
        json!({"regex": "[aeiou]{3}", "bias": -2.0}),
        json!({"text": ".com", "bias": 1.5}),
        json!({"regex": "id[0-9]+", "bias": 0.5}),
    ];
    parts.extend(soft.into_iter().enumerate().map(|(idx, soft)| (format!("soft bias {idx}"), json!({"soft": [soft]}))));
    parts.push(("max_chars".to_owned(), json!({"limits": {"max_chars": 2_000}})));
    parts
}

/// All parts of these IRs in one.
fn all_in_one(parts: &[(String, Value)]) -> ConstraintIr {
    let mut all = ConstraintIr::default();
    for (_, part) in parts {
        let part = of(part);
        all.json_schema = all.json_schema.or(part.json_schema);
        all.regex_patterns.extend(part.regex_patterns);
        all.forbidden_text.extend(part.forbidden_text);
        all.token_masks = all.token_masks.or(part.token_masks);
        all.soft.extend(part.soft);
        all.limits.max_chars = all.limits.max_chars.or(part.limits.max_chars);
    }
    all
}

fn of(value: &Value) -> ConstraintIr {
    serde_json::from_value(value.clone()).expect("a bench's own IR is well-formed")
}

/// Two structural parts that share an output.
fn two_structural() -> [(String, Value); 2] {
    let grammar = "root ::= \"{\" ws pair (ws \",\" ws pair)* ws \"}\"\npair ::= string \":\" ws value\nvalue ::= string | number | list\n\
        list ::= \"[\" ws (value (ws \",\" ws value)*)? ws \"]\"\nstring ::= \"\\\"\" [a-z @.]* \"\\\"\"\nnumber ::= \"-\"? [0-9]+\nws ::= [ \\n]*";
    let schema = json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 24}, "count": {"type": "integer"},
            "tags": {"type": "array", "items": {"type": "string", "maxLength": 10}, "maxItems": 6}
        },
        "required": ["name", "count", "tags"], "additionalProperties": false
    });
    [
        ("json_schema".to_owned(), json!({"json_schema": schema})),
        ("gbnf".to_owned(), json!({"grammar": {"syntax": "gbnf", "source": grammar}})),
    ]
}

fn report(name: &str, vocabulary: &Arc<Vocabulary>, num_walks: u64) -> Result<(), Box<dyn Error>> {
    let guide = Guide::new(vocabulary.clone(), GuideConfig::default())?;
    let parts = sixteen_parts();
    println!("{name}, {} ids; us a mask, warm", vocabulary.num_tokens());
    let begun = Instant::now();
    let all = guide.compile(&[all_in_one(&parts)])?;
    println!(
        "{} parts compiled in {:.0} ms, {} MiB at most",
        parts.len(),
        millis(begun.elapsed()),
        all.memory_bytes() >> 20
    );
    let means = compare(&guide, &all, &parts, num_walks)?;
    let costliest = means.alone.iter().map(|(mean, _)| *mean).max().unwrap_or_default();
    println!("all sixteen against the costliest: {:.2}\n", ratio(means.all, costliest));

    let parts = two_structural();
    let all = guide.compile(&parts.iter().map(|(_, part)| of(part)).collect::<Vec<_>>())?;
    let means = compare(&guide, &all, &parts, num_walks)?;
    println!(
        "two structural parts against the sum of both: {:.2}\n",
        ratio(means.all, means.alone.iter().map(|(mean, _)| *mean).sum())
    );
    Ok(())
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

fn ratio(a: Duration, b: Duration) -> f64 {
    a.as_secs_f64() / b.as_secs_f64()
}

struct Means<'a> {
    all: Duration,
    alone: Vec<(Duration, &'a str)>,
}

/// Follows the same outputs with all parts and with each alone, and prints a line for each.
fn compare<'a>(
    guide: &Guide,
    all: &Arc<CompiledConstraint>,
    parts: &'a [(String, Value)],
    num_walks: u64,
) -> Result<Means<'a>, Box<dyn Error>> {
    let alone = parts.iter().map(|(_, part)| guide.compile(&[of(part)])).collect::<Result<Vec<_>, _>>()?;
    let mut times: Vec<Vec<Duration>> = vec![Vec::new(); 1 + parts.len()];
    let mut num_dead_ends = 0;
    for is_timed in [false, true] {
        for seed in 0..num_walks {
            let mut matchers = vec![all.matcher(b"")?];
            for part in &alone {
                matchers.push(part.matcher(b"")?);
            }
            let times = if is_timed { Some(times.as_mut_slice()) } else { None };
            num_dead_ends += usize::from(is_timed && walk(&mut matchers, guide.vocabulary(), seed, times)?);
            if !is_timed {
                walk(&mut matchers, guide.vocabulary(), seed, None)?;
            }
        }
    }
    let mut means = Vec::new();
    println!("{:<20}{:>9}{:>9}{:>9}", "", "mean", "p50", "p99");
    for (name, times) in std::iter::once("all").chain(parts.iter().map(|(name, _)| name.as_str())).zip(&mut times) {
        times.sort_unstable();
        let mean = times.iter().sum::<Duration>() / times.len().max(1) as u32;
        let [p50, p99] = [50, 99].map(|percent| times[times.len() * percent / 100]);
        let [a, b, c] = [mean, p50, p99].map(|time| time.as_nanos() as f64 / 1_000.0);
        println!("{name:<20}{a:>9.2}{b:>9.2}{c:>9.2}");
        means.push((mean, name));
    }
    println!("{} masks each; {num_dead_ends} of {num_walks} outputs met a dead end", times[0].len());
    let (all, _) = means.remove(0);
    Ok(Means { all, alone: means })
}

/// Follows one random output; whether it met a dead end.
fn walk(
    matchers: &mut [Matcher],
    vocabulary: &Vocabulary,
    seed: u64,
    mut times: Option<&mut [Vec<Duration>]>,
) -> Result<bool, GuideError> {
    let mut row = vec![0; num_words(vocabulary.num_rows())];
    for position in 0..NUM_TOKENS_MAX {
        let mut allowed = Vec::new();
        for (idx, matcher) in matchers.iter_mut().enumerate() {
            let begun = Instant::now();
            let filled = matcher.fill(&mut row);
            let biases = matcher.bias();
            let took = begun.elapsed();
            drop(biases);
            match filled {
                Err(GuideError::DeadEnd { .. }) => return Ok(true),
                other => other?,
            }
            if let Some(times) = times.as_deref_mut() {
                times[idx].push(took);
            }
            if idx == 0 {
                allowed = allowed_tokens(&row).collect();
            }
        }
        let token = allowed[(uniform(seed, 0, position) * allowed.len() as f64) as usize];
        if vocabulary.end_tokens().contains(&token) {
            return Ok(false);
        }
        for matcher in &mut *matchers {
            matcher.accept(token)?;
        }
    }
    Ok(false)
}
