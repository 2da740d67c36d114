//! What do constraints cost the time between tokens, and what do forced tokens give back?
//!
//! `cargo bench --bench constrained -- [--gpu N|UUID] [--shape SHAPE] [--pairs N] [--tokens N] [--batch N]`. With
//! `--shape` (`tiny`, `1.3b`, `6.7b`) the model's weights are made up, over DeepSeek-Coder's vocabulary as
//! scripts/fetch_tokenizers.sh brings it; without, it is the embedded model. Measured, at batch 1 and N:
//!
//! - streams under a JSON Schema, under TypeScript's grammar and under four parts at once, against as many unbound ones;
//! - two unbound streams among N, of which 0, 20, 80 or 100 % of the others are bound, against the same among unbound;
//! - tool calls whose determined text is appended in blocks, against the same text one step a token.
//!
//! Each run is paired with its reference, in alternating order; reported is the mean of the ratios within pairs with its
//! 95 % confidence interval. Made-up weights say noise, so their outputs are the grammar's, not code that one would
//! write: masks of the hard kind.
#![allow(clippy::print_stdout, reason = "a bench prints its result")]

mod common;

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use ananke::braid;
use ananke::constraint::{CodeRules, ConstraintIr, Granularity, Language};
use ananke::engine::{Engine, EngineConfig, EngineHandle, SequenceRequest, TokenEvent};
use ananke::guide::{CompiledConstraint, Guide, GuideConfig};
use ananke::kernels::sampling::SamplingParams;
use ananke::model::{Device, LanguageModel, LoadOptions, WeightSource, load, open_gpu};
use ananke::text::Tokenizer;
use common::mean_and_margin;
use common::streams::{Run, latencies};
use serde_json::{Value, json};

/// Unbound streams that are timed beside a mixed load.
const NUM_PROBES: usize = 2;
const NUM_WARM: usize = 4;
/// Tokens that no stream reaches: budgets are met by steering, which is not what is measured.
const NUM_SPARE: usize = 768;
const FORCED_TOKENS_MAX: u32 = 160;
/// The largest ratio of latencies that is meant: for bound streams, and for unbound ones beside them.
const BOUND_GOAL: f64 = 1.03;
const MIXED_GOAL: f64 = 1.02;

type Outcome<T> = Result<T, Box<dyn Error>>;
type Constraint = Arc<CompiledConstraint>;

struct Arguments {
    device: Device,
    shape: Option<String>,
    num_pairs: u64,
    num_tokens: usize,
    batch: usize,
}

impl Arguments {
    fn parse() -> Outcome<Self> {
        let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
        let mut parsed = Self { device: Device::Cpu, shape: None, num_pairs: 12, num_tokens: 64, batch: 64 };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "--gpu" => parsed.device = open_gpu(&value()?.parse()?)?,
                "--shape" => parsed.shape = Some(value()?),
                "--pairs" => parsed.num_pairs = value()?.parse::<u64>()?.max(2),
                "--tokens" => parsed.num_tokens = value()?.parse::<usize>()?.max(2 * NUM_WARM),
                "--batch" => parsed.batch = value()?.parse::<usize>()?.max(NUM_PROBES + 1),
                other => return Err(format!("argument `{other}`; see the head of benches/constrained.rs").into()),
            }
        }
        Ok(parsed)
    }

    fn tokenizer(&self) -> Outcome<Tokenizer> {
        if self.shape.is_none() {
            return common::nano_tokenizer();
        }
        let file = common::models().join("tokenizers/deepseek-coder.gguf");
        if !file.is_file() {
            return Err(format!("{} is missing; run scripts/fetch_tokenizers.sh", file.display()).into());
        }
        common::gguf_tokenizer_with_rows(&file, Some(common::SHAPE_ROWS))
    }

    fn model(&self) -> Outcome<Box<dyn LanguageModel>> {
        let options = LoadOptions { device: self.device.clone(), ..LoadOptions::default() };
        Ok(match &self.shape {
            Some(shape) => {
                let config = common::config_json(shape)?;
                load(WeightSource::Dummy { config_json: config.as_bytes() }, &options)?
            }
            None => load(WeightSource::Path(Path::new(&common::models().join("ananke-nano"))), &options)?,
        })
    }

    fn engine(&self, tokenizer: &Tokenizer, forced_block_len_max: usize) -> Outcome<EngineHandle> {
        let default = EngineConfig::default();
        let len_max = self.num_tokens + NUM_SPARE + 16;
        let num_blocks = self.batch * len_max.div_ceil(default.block_len);
        let config = EngineConfig { num_seqs_max: self.batch, num_blocks, forced_block_len_max, ..default };
        Ok(Engine::start(self.model()?, tokenizer.vocabulary().end_tokens(), config)?.0)
    }
}

fn main() -> Outcome<()> {
    let arguments = Arguments::parse()?;
    let tokenizer = arguments.tokenizer()?;
    let engine = arguments.engine(&tokenizer, EngineConfig::default().forced_block_len_max)?;
    let guide = Guide::new(tokenizer.vocabulary().clone(), GuideConfig::default())?;
    let free = guide.compile(&[])?;
    let bound = [
        ("JSON Schema", guide.compile(&[schema()])?),
        ("TypeScript", guide.compile(&[typescript()])?),
        ("four parts", guide.compile(&[four_parts(&tokenizer)])?),
    ];
    let name = arguments.shape.as_deref().unwrap_or("ananke-nano");
    println!(
        "{name}, {} ids, {:?}; {} pairs of {} tokens a stream",
        tokenizer.vocabulary().num_tokens(),
        arguments.device.location(),
        arguments.num_pairs,
        arguments.num_tokens
    );
    println!("| what | batch | reference | here | ratio (95 %) | goal | holds |");
    println!("|---|---|---|---|---|---|---|");
    for batch in [1, arguments.batch] {
        for (name, constraint) in &bound {
            let (with, without) = (vec![constraint; batch], vec![&free; batch]);
            let pairs = pairs(&arguments, |seed, is_bound| {
                let constraints = if is_bound { &with } else { &without };
                mean_latency(&engine, constraints, batch, seed, arguments.num_tokens)
            })?;
            pairs.report(&format!("{name}: bound, us a token"), batch, Goal::AtMost(BOUND_GOAL));
        }
    }
    for percent in [0, 20, 80, 100] {
        let num_bound = (arguments.batch - NUM_PROBES) * percent / 100;
        let constraint = |stream: usize| match stream.checked_sub(NUM_PROBES) {
            Some(neighbour) if neighbour < num_bound => &bound[neighbour % bound.len()].1,
            _ => &free,
        };
        let with: Vec<_> = (0..arguments.batch).map(constraint).collect();
        let without = vec![&free; arguments.batch];
        let pairs = pairs(&arguments, |seed, is_bound| {
            let constraints = if is_bound { &with } else { &without };
            mean_latency(&engine, constraints, NUM_PROBES, seed, arguments.num_tokens)
        })?;
        let name = format!("unbound, {percent} % of the others bound, us a token");
        pairs.report(&name, arguments.batch, Goal::AtMost(MIXED_GOAL));
    }
    let stepwise = arguments.engine(&tokenizer, 1)?;
    let tools = guide.compile(&[tool_call()])?;
    let pairs = pairs(&arguments, |seed, in_blocks| {
        tokens_per_second(if in_blocks { &engine } else { &stepwise }, &tokenizer, &tools, seed)
    })?;
    pairs.report("tool calls: forced tokens in blocks, tok/s", 1, Goal::More);
    Ok(())
}

/// What a ratio is meant to be.
enum Goal {
    AtMost(f64),
    More,
}

/// Figures of runs and of their references, pair by pair.
struct Pairs(Vec<(f64, f64)>);

/// Runs each pair in alternating order, after one to warm up; `run` gets a seed, and whether it is the reference's turn
/// (`false`).
fn pairs(arguments: &Arguments, mut run: impl FnMut(u64, bool) -> Outcome<f64>) -> Outcome<Pairs> {
    let mut pairs = Vec::new();
    for pair in 0..=arguments.num_pairs {
        let seed = pair * 1000;
        let figures = if pair % 2 == 0 {
            let here = run(seed, true)?;
            (here, run(seed, false)?)
        } else {
            let reference = run(seed, false)?;
            (run(seed, true)?, reference)
        };
        if pair > 0 {
            pairs.push(figures);
        }
    }
    Ok(Pairs(pairs))
}

impl Pairs {
    fn report(&self, what: &str, batch: usize, goal: Goal) {
        let mean = |of: fn(&(f64, f64)) -> f64| mean_and_margin(&self.0.iter().map(of).collect::<Vec<_>>());
        let ((here, _), (reference, _)) = (mean(|pair| pair.0), mean(|pair| pair.1));
        let (ratio, margin) = mean(|(here, reference)| here / reference);
        let (goal, holds) = match goal {
            Goal::AtMost(most) => (format!("<= {most}"), ratio <= most),
            Goal::More => ("> 1".to_owned(), ratio > 1.0),
        };
        let holds = if holds { "yes" } else { "no" };
        println!("| {what} | {batch} | {reference:.1} | {here:.1} | {ratio:.4} +- {margin:.4} | {goal} | {holds} |");
    }
}

/// The mean time between tokens of the first `num_timed` streams, in microseconds.
fn mean_latency(
    engine: &EngineHandle,
    constraints: &[&Constraint],
    num_timed: usize,
    seed: u64,
    num_tokens: usize,
) -> Outcome<f64> {
    let run = Run { num_tokens, num_spare: NUM_SPARE, num_warm: NUM_WARM, seed };
    let gaps = latencies(engine, constraints, num_timed, run)?;
    if gaps.is_empty() {
        return Err(format!("no stream got beyond {NUM_WARM} tokens").into());
    }
    Ok(mean_and_margin(&gaps).0)
}

/// One output alone, from its submission to its end.
fn tokens_per_second(engine: &EngineHandle, tokenizer: &Tokenizer, constraint: &Constraint, seed: u64) -> Outcome<f64> {
    let prompt = "Call the tool that answers the user.\n";
    let request = SequenceRequest {
        prompt: tokenizer.encode(prompt, tokenizer.adds_bos())?,
        max_tokens: FORCED_TOKENS_MAX,
        sampling: SamplingParams::default(),
        seed,
        choice: 0,
        num_logprobs: None,
        num_prompt_logprobs: None,
        forced_tokens: true,
        matcher: constraint.matcher(prompt.as_bytes())?,
        salt: None,
        tenant: None,
    };
    let start = Instant::now();
    let mut stream = engine.submit(vec![request])?.remove(0);
    let mut num_tokens = 0;
    loop {
        match stream.blocking_next().ok_or("the engine has stopped")? {
            TokenEvent::Prompt(_) => {}
            TokenEvent::Token { .. } => num_tokens += 1,
            TokenEvent::Finished(_) => return Ok(f64::from(num_tokens) / start.elapsed().as_secs_f64()),
            TokenEvent::Failed(error) => return Err(error.into()),
        }
    }
}

/// More than any timed stream writes.
fn schema_value() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 20},
            "entries": {"type": "array", "minItems": 12, "items": {
                "type": "object",
                "properties": {
                    "id": {"type": "integer", "minimum": 100_000},
                    "title": {"type": "string", "minLength": 12, "maxLength": 40},
                    "kind": {"enum": ["range", "exact", "none"]}
                },
                "required": ["id", "title", "kind"], "additionalProperties": false
            }}
        },
        "required": ["name", "entries"], "additionalProperties": false
    })
}

fn schema() -> ConstraintIr {
    ConstraintIr::from_json_schema(schema_value())
}

fn typescript() -> ConstraintIr {
    let code = braid::code(Language::Typescript, Granularity::File, CodeRules::default());
    ConstraintIr { code: Some(code), ..ConstraintIr::default() }
}

/// A schema, a regex, forbidden texts, and forbidden ids: every tenth of more than one byte, so that no text is out of
/// reach.
fn four_parts(tokenizer: &Tokenizer) -> ConstraintIr {
    let vocabulary = tokenizer.vocabulary();
    let ids = (0..vocabulary.num_tokens() as u32).filter(|&id| id % 10 == 3 && vocabulary.bytes(id).len() > 1);
    ir(json!({
        "json_schema": schema_value(),
        "regex_patterns": [{"any_of": [{"pattern": "[0-9]{12}"}, {"pattern": "(?i)todo|fixme"}], "match": "absent"}],
        "forbidden_text": [{"text": "password"}, {"text": "secret", "ignore_case": true}, {"text": "zz"}],
        "token_masks": {"forbidden_tokens": ids.collect::<Vec<_>>()}
    }))
}

fn tool_call() -> ConstraintIr {
    ConstraintIr::from_json_schema(json!({
        "type": "object",
        "properties": {
            "name": {"const": "search_product_catalog"},
            "arguments": {
                "type": "object",
                "properties": {
                    "search_query": {"type": "string", "maxLength": 20},
                    "maximum_results": {"type": "integer", "minimum": 1, "maximum": 50},
                    "sort_order": {"enum": ["price_ascending", "price_descending", "relevance"]}
                },
                "required": ["search_query", "maximum_results", "sort_order"], "additionalProperties": false
            }
        },
        "required": ["name", "arguments"], "additionalProperties": false
    }))
}

fn ir(value: Value) -> ConstraintIr {
    serde_json::from_value(value).expect("a bench's own IR is well-formed")
}
