//! What does compiling a set cost, by its size? And is it flat per constraint but for sorting?
//!
//! `cargo bench --bench braid -- [RUNS]`; sets of 100 to 100,000 constraints, as they are mined from a code base and
//! stated by a profile: `quiet` ones, and `contested` ones in which every tenth constraint contradicts another. Prints
//! the median of RUNS (default 5) in microseconds a constraint, and what a file of usual size takes.
#![allow(clippy::print_stdout, reason = "a bench prints its result")]

use std::error::Error;
use std::time::{Duration, Instant};

use ananke::braid::{CompileOptions, compile};
use ananke::clew;
use ananke::constraint::{Constraint, ConstraintSet, Kind, Language, Origin, Rule, Severity, Source, Strength};
use serde_json::{Value, json};

const SIZES: [usize; 4] = [100, 1_000, 10_000, 100_000];

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let num_runs: usize = arguments.first().map_or(Ok(5), |text| text.parse())?;
    println!(
        "{:>10} {:>12} {:>14} {:>10} {:>8} {:>12}",
        "set", "constraints", "us/constraint", "conflicts", "lost", "not compared"
    );
    for is_contested in [false, true] {
        for size in SIZES {
            report(size, is_contested, num_runs)?;
        }
    }
    usual_file(num_runs)
}

fn report(size: usize, is_contested: bool, num_runs: usize) -> Result<(), Box<dyn Error>> {
    let set = mined_set(size, is_contested)?;
    let options = CompileOptions { root_type: Some("Type0".to_owned()), ..CompileOptions::default() };
    let compiled = compile(&set, &options)?;
    let median = median(num_runs, || compile(&set, &options).map(drop))?;
    println!(
        "{:>10} {size:>12} {:>14.2} {:>10} {:>8} {:>12}",
        if is_contested { "contested" } else { "quiet" },
        median.as_secs_f64() * 1e6 / size as f64,
        compiled.conflicts.len(),
        compiled.ir.lost.len(),
        compiled.unjudged.len(),
    );
    Ok(())
}

/// A file with one type that others are parts of, and the rules that a person adds.
fn usual_file(num_runs: usize) -> Result<(), Box<dyn Error>> {
    let fields: String = (0..7).map(|field| format!("  field{field}: string;\n")).collect();
    let parts: String = (0..7).map(|part| format!("interface Part{part} {{\n{fields}}}\n")).collect();
    let members: String = (0..7).map(|part| format!("  part{part}: Part{part};\n")).collect();
    let source = format!("{parts}interface Whole {{\n{members}}}\n");
    let mut set = clew::extract(&source, Language::Typescript, "whole.ts")?;
    for rule in [
        json!({"type": "forbidden_text", "any_of": [{"text": "password", "ignore_case": true}]}),
        json!({"type": "regex", "any_of": [{"pattern": "[ -~\\n]*"}], "match": "full"}),
        json!({"type": "length", "max_chars": 4_000}),
    ] {
        set.push(Constraint::stated("stated", Kind::Security, serde_json::from_value(rule)?));
    }
    let median = median(num_runs.max(21), || compile(&set, &CompileOptions::default()).map(drop))?;
    println!("a file of {} lines, {} constraints: {median:?}", source.lines().count(), set.constraints.len());
    Ok(())
}

fn median<E: Error + 'static>(num_runs: usize, run: impl Fn() -> Result<(), E>) -> Result<Duration, Box<dyn Error>> {
    let mut times = Vec::new();
    for _ in 0..num_runs.max(1) {
        let started = Instant::now();
        run()?;
        times.push(started.elapsed());
    }
    times.sort();
    Ok(times[times.len() / 2])
}

/// Constraints in the proportions of a code base of many files.
fn mined_set(size: usize, is_contested: bool) -> Result<ConstraintSet, Box<dyn Error>> {
    let mut set = ConstraintSet { name: "bench".to_owned(), ..ConstraintSet::default() };
    let mut last_type = String::new();
    for number in 0..size {
        let (source, strength, rule) = match number % 20 {
            0..=3 => (Source::TypeSystem, Strength::Hard, a_type(number)),
            4..=8 => {
                (Source::AstPattern, Strength::Advisory, json!({"type": "prose", "text": format!("pattern {number}")}))
            }
            9..=10 => (Source::AstPattern, Strength::Soft, names(number)),
            11..=12 => (
                Source::AstPattern,
                Strength::Advisory,
                json!({"type": "signature", "signature": format!("def f{number}():")}),
            ),
            13 => (
                Source::AstPattern,
                Strength::Soft,
                json!({"type": "bias", "text": format!("word{number}"), "bias": 0.5}),
            ),
            14..=16 => (Source::UserDefined, Strength::Hard, forbidden(number)),
            17 => (Source::UserDefined, Strength::Hard, absent(number)),
            18 if is_contested => (Source::AstPattern, Strength::Hard, contains(number - 1, "a")),
            18 => (Source::AstPattern, Strength::Hard, contains(number, "b")),
            _ if is_contested => (Source::AstPattern, Strength::Hard, contains(number - 3, "text")),
            _ => (Source::AstPattern, Strength::Hard, json!({"type": "tokens", "deny": [number % 4_000]})),
        };
        let rule: Rule = serde_json::from_value(rule)?;
        let mut constraint =
            Constraint { source, strength, ..Constraint::stated(format!("Type{number}"), Kind::Semantic, rule) };
        constraint.origin =
            Some(Origin { file: format!("{}.py", number / 75), line: (number % 75) as u32 + 1, column: 1 });
        constraint.severity = if number.is_multiple_of(3) { Severity::Warning } else { Severity::Error };
        if number % 20 == 1 {
            constraint.depends_on = vec![last_type.clone()];
        }
        if number % 20 < 4 {
            last_type.clone_from(&constraint.id);
        }
        // `push` would look for each among all that are there.
        set.constraints.push(constraint);
    }
    Ok(set)
}

fn a_type(number: usize) -> Value {
    let title = format!("Type{number}");
    json!({"type": "json_schema", "schema": {"title": title, "type": "object", "required": ["id"], "additionalProperties": false,
        "properties": {"id": {"type": "integer"}, "name": {"type": "string"}, "tags": {"type": "array", "items": {"type": "string"}}}}})
}

fn names(number: usize) -> Value {
    json!({"type": "names", "declaration": "function", "allow": [format!("name{number}")]})
}

fn forbidden(number: usize) -> Value {
    json!({"type": "forbidden_text", "any_of": [{"text": format!("text{number}x"), "whole_word": number.is_multiple_of(2)}]})
}

fn absent(number: usize) -> Value {
    json!({"type": "regex", "any_of": [{"pattern": format!("a{number}[0-9a-f]{{4}}z")}], "match": "absent"})
}

/// Asks for what [`absent`] or [`forbidden`] with the same number refuses, or for something else.
fn contains(number: usize, what: &str) -> Value {
    let pattern = match what {
        "text" => format!("[(,]text{number}x[,)]"),
        what => format!("{what}{number}0123z+"),
    };
    json!({"type": "regex", "any_of": [{"pattern": pattern}], "match": "contains"})
}
