//! What do constrained neighbours cost a stream that nothing binds?
//!
//! `cargo bench --bench isolation -- [--pairs N] [--smollm2]`. Two unbound streams decode beside ten neighbours, of
//! which 0, 20, 80 or 100 % are bound by a JSON Schema, or one by a grammar whose masks take tens of milliseconds.
//! Each such run is paired with one in which nobody is bound, in alternating order; what is reported is the ratio of
//! the two unbound streams' inter-token latency (ITL) within a pair: its mean with the 95 % confidence interval, and
//! the ratio of the pooled 99th percentiles. The device is a model without weights that takes 2 ms a step; with
//! `--smollm2` it is SmolLM2 on the CPU, which competes with the masks for the same cores.
#![allow(clippy::print_stdout, reason = "a bench prints its result")]

mod common;

use std::error::Error;
use std::time::Duration;

use ananke::constraint::ConstraintIr;
use ananke::engine::{Engine, EngineConfig};
use ananke::guide::{Guide, GuideConfig};
use ananke::model::{LanguageModel, LoadOptions, ScriptedModel, WeightSource, load};
use ananke::text::Tokenizer;
use common::streams::{Run, latencies};
use common::{mean_and_margin, quantile};
use serde_json::json;

const NUM_PROBES: usize = 2;
const NUM_NEIGHBOURS: usize = 10;
const NUM_TOKENS: usize = 64;
const STEP_TIME: Duration = Duration::from_millis(2);
/// Tokens at the start of a stream that are not counted: prefill of the neighbours.
const NUM_WARM: usize = 4;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let number_after = |flag: &str| {
        let place = arguments.iter().position(|argument| argument == flag)?;
        arguments.get(place + 1)?.parse::<usize>().ok()
    };
    let num_pairs = number_after("--pairs").unwrap_or(40);
    let (model, tokenizer): (Box<dyn LanguageModel>, Tokenizer) = if arguments.iter().any(|flag| flag == "--smollm2") {
        let file = common::smollm2().ok_or("run scripts/fetch_model.sh smollm2 first")?;
        (load(WeightSource::Path(&file), &LoadOptions::default())?, common::gguf_tokenizer(&file)?)
    } else {
        let model = ScriptedModel::seeded(common::NANO_ROWS, 4096, 11).with_time_per_step(STEP_TIME);
        (Box::new(model), common::nano_tokenizer()?)
    };
    let guide = Guide::new(tokenizer.vocabulary().clone(), GuideConfig::default())?;
    let end_tokens = tokenizer.vocabulary().end_tokens().to_vec();
    let (engine, _thread) = Engine::start(model, &end_tokens, EngineConfig::default())?;
    let free = guide.compile(&[])?;
    let schema = guide.compile(&[schema()])?;
    let slow = guide.compile(&[slow_grammar()])?;
    println!(
        "{num_pairs} pairs; {NUM_PROBES} unbound streams and {NUM_NEIGHBOURS} neighbours, {NUM_TOKENS} tokens each"
    );
    println!("{:<28}{:>9}{:>9}{:>20}{:>12}", "neighbours", "ITL us", "base us", "ratio (95 %)", "p99 ratio");
    for (name, num_bound, bound) in [
        ("0 % bound", 0, &schema),
        ("20 % bound", NUM_NEIGHBOURS / 5, &schema),
        ("80 % bound", NUM_NEIGHBOURS * 4 / 5, &schema),
        ("100 % bound", NUM_NEIGHBOURS, &schema),
        ("one pathological grammar", 1, &slow),
    ] {
        let (mut loaded, mut base, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for pair in 0..=num_pairs as u64 {
            let mut runs = [(num_bound, Vec::new()), (0, Vec::new())];
            let order = if pair % 2 == 0 { [0, 1] } else { [1, 0] };
            for index in order {
                let constraint = |stream: usize| {
                    if (NUM_PROBES..NUM_PROBES + runs[index].0).contains(&stream) { bound } else { &free }
                };
                let constraints: Vec<_> = (0..NUM_PROBES + NUM_NEIGHBOURS).map(constraint).collect();
                let run = Run { num_tokens: NUM_TOKENS, num_spare: 32, num_warm: NUM_WARM, seed: pair * 100 };
                runs[index].1 = latencies(&engine, &constraints, NUM_PROBES, run)?;
            }
            let [(_, with), (_, without)] = runs;
            if pair > 0 {
                // The first pair warms the caches.
                ratios.push(with.iter().sum::<f64>() / without.iter().sum::<f64>());
                loaded.extend(with);
                base.extend(without);
            }
        }
        let (ratio, margin) = mean_and_margin(&ratios);
        let p99 = quantile(&loaded, 0.99) / quantile(&base, 0.99);
        let [with, without] = [&loaded, &base].map(|values| mean_and_margin(values).0);
        println!("{name:<28}{with:>9.0}{without:>9.0}{:>20}{p99:>12.4}", format!("{ratio:.4} +- {margin:.4}"));
    }
    let stats = engine.stats().snapshot();
    println!("masks {}, late {}, steps {}", stats.masks, stats.masks_late, stats.steps);
    Ok(())
}

fn schema() -> ConstraintIr {
    ConstraintIr::from_json_schema(json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 40},
            "tags": {"type": "array", "items": {"type": "string", "minLength": 20}, "minItems": 4},
            "kind": {"enum": ["range", "exact", "none"]}
        },
        "required": ["name", "tags", "kind"], "additionalProperties": false
    }))
}

/// Thousands of lexer states are met anew in every mask.
fn slow_grammar() -> ConstraintIr {
    let source = r#"start: WORDS
WORDS: /([a-zA-Z0-9 ,.;:()=_"'{}\[\]<>+*\/!?\n\t-]{0,9}(a|e)[^q]{11}|[^z]{3}(t|o)[^x]{9}){1,400}/"#;
    serde_json::from_value(json!({"grammar": {"syntax": "lark", "source": source}})).expect("a well-formed IR")
}
