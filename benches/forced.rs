//! What are forced tokens worth?
//!
//! `cargo bench --bench forced -- [--seeds N] [--nano]`. Generates under four kinds of constraint, three ways each: the
//! tokens that the constraint determines appended in blocks; the same tokens, one forward pass each (the reference:
//! the text must be the same); and drawn one by one in whatever split the model prefers. Prints tokens per second of
//! the three, the share of forced tokens, and how many outputs free splitting would have changed. The model is SmolLM2
//! on the CPU, or the embedded one with `--nano`.
#![allow(clippy::print_stdout, reason = "a bench prints its result")]

mod common;

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use ananke::constraint::ConstraintIr;
use ananke::engine::{Engine, EngineConfig, EngineHandle, SequenceRequest, TokenEvent};
use ananke::guide::{CompiledConstraint, Guide, GuideConfig};
use ananke::kernels::sampling::SamplingParams;
use ananke::model::{LoadOptions, WeightSource, load};
use ananke::text::Tokenizer;
use serde_json::{Value, json};

const MAX_TOKENS: u32 = 160;

/// How determined text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Blocks,
    Stepwise,
    Sampled,
}

/// What came of all requests of one kind, generated one way.
#[derive(Default)]
struct Outcome {
    outputs: Vec<Vec<u32>>,
    num_forced: u32,
    seconds: f64,
}

impl Outcome {
    fn num_tokens(&self) -> usize {
        self.outputs.iter().map(Vec::len).sum()
    }

    fn tokens_per_second(&self) -> f64 {
        self.num_tokens() as f64 / self.seconds
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let seeds = arguments.iter().position(|flag| flag == "--seeds").and_then(|at| arguments.get(at + 1)?.parse().ok());
    let seeds: u64 = seeds.unwrap_or(4);
    let (path, tokenizer) = if arguments.iter().any(|flag| flag == "--nano") {
        (common::models().join("ananke-nano"), common::nano_tokenizer()?)
    } else {
        let file = common::smollm2().ok_or("run scripts/fetch_model.sh smollm2 first, or give --nano")?;
        let tokenizer = common::gguf_tokenizer(&file)?;
        (file, tokenizer)
    };
    let engine = |forced_block_len_max| -> Result<EngineHandle, Box<dyn Error>> {
        let model = load(WeightSource::Path(&path), &LoadOptions::default())?;
        let config = EngineConfig { forced_block_len_max, ..EngineConfig::default() };
        Ok(Engine::start(model, tokenizer.vocabulary().end_tokens(), config)?.0)
    };
    let blocks = engine(EngineConfig::default().forced_block_len_max)?;
    let stepwise = engine(1)?;
    let guide = Guide::new(tokenizer.vocabulary().clone(), GuideConfig::default())?;
    println!("{}, {seeds} seeds per constraint, at most {MAX_TOKENS} tokens, one sequence at a time", path.display());
    println!(
        "{:<24}{:>8}{:>9}{:>10}{:>10}{:>10}{:>8}{:>10}{:>12}",
        "constraint", "outputs", "forced %", "blocks/s", "steps/s", "sampled/s", "gain", "same text", "other split"
    );
    let mut is_same = true;
    for (name, prompt, irs) in workloads() {
        let compiled: Vec<_> =
            irs.iter().map(|ir| guide.compile(std::slice::from_ref(ir))).collect::<Result<_, _>>()?;
        let run = |way| {
            run(way, if way == Way::Stepwise { &stepwise } else { &blocks }, &tokenizer, prompt, &compiled, seeds)
        };
        run(Way::Blocks)?;
        let (in_blocks, in_steps, sampled) = (run(Way::Blocks)?, run(Way::Stepwise)?, run(Way::Sampled)?);
        let text =
            |outcome: &Outcome| -> Vec<Vec<u8>> { outcome.outputs.iter().map(|ids| tokenizer.decode(ids)).collect() };
        let same = text(&in_blocks) == text(&in_steps);
        is_same &= same;
        let differing = in_blocks.outputs.iter().zip(&sampled.outputs).filter(|(a, b)| a != b).count();
        println!(
            "{name:<24}{:>8}{:>9.1}{:>10.1}{:>10.1}{:>10.1}{:>8.2}{:>10}{:>12}",
            in_blocks.outputs.len(),
            100.0 * f64::from(in_blocks.num_forced) / in_blocks.num_tokens().max(1) as f64,
            in_blocks.tokens_per_second(),
            in_steps.tokens_per_second(),
            sampled.tokens_per_second(),
            in_blocks.tokens_per_second() / in_steps.tokens_per_second(),
            same,
            format!("{differing} of {}", sampled.outputs.len()),
        );
    }
    if is_same { Ok(()) } else { Err("forced blocks changed a text".into()) }
}

fn run(
    way: Way,
    engine: &EngineHandle,
    tokenizer: &Tokenizer,
    prompt: &str,
    constraints: &[Arc<CompiledConstraint>],
    seeds: u64,
) -> Result<Outcome, Box<dyn Error>> {
    let mut outcome = Outcome::default();
    for compiled in constraints {
        for seed in 0..seeds {
            let request = SequenceRequest {
                prompt: tokenizer.encode(prompt, tokenizer.adds_bos())?,
                max_tokens: MAX_TOKENS,
                // The first seed is greedy.
                sampling: SamplingParams {
                    temperature: if seed == 0 { 0.0 } else { 0.8 },
                    ..SamplingParams::default()
                },
                seed,
                choice: 0,
                num_logprobs: None,
                num_prompt_logprobs: None,
                forced_tokens: way != Way::Sampled,
                matcher: compiled.matcher(prompt.as_bytes())?,
                salt: None,
                tenant: None,
            };
            let started = Instant::now();
            let mut stream = engine.submit(vec![request])?.remove(0);
            let mut ids = Vec::new();
            loop {
                match stream.blocking_next().ok_or("the engine has stopped")? {
                    TokenEvent::Prompt(_) => {}
                    TokenEvent::Token { id, .. } => ids.push(id),
                    TokenEvent::Finished(finished) => {
                        outcome.num_forced += finished.steering.num_forced;
                        break;
                    }
                    TokenEvent::Failed(error) => return Err(error.into()),
                }
            }
            outcome.seconds += started.elapsed().as_secs_f64();
            outcome.outputs.push(ids);
        }
    }
    Ok(outcome)
}

/// Constraints by kind, with a prompt.
fn workloads() -> Vec<(&'static str, &'static str, Vec<ConstraintIr>)> {
    let schema = |value: Value| ConstraintIr::from_json_schema(value);
    let ir = |value: Value| serde_json::from_value::<ConstraintIr>(value).expect("a well-formed IR");
    let tool = |name: &str, arguments: Value| {
        let keys: Vec<String> = arguments.as_object().expect("an object").keys().cloned().collect();
        schema(json!({
            "type": "object",
            "properties": {
                "name": {"const": name},
                "arguments": {"type": "object", "properties": arguments, "required": keys, "additionalProperties": false}
            },
            "required": ["name", "arguments"], "additionalProperties": false
        }))
    };
    let compact = |mut ir: ConstraintIr| {
        ir.limits.json_whitespace = Some(ananke::constraint::JsonWhitespace { max_newlines: 0, max_spaces: 0 });
        ir
    };
    let tools = vec![
        tool(
            "get_current_weather",
            json!({"location": {"type": "string", "maxLength": 20}, "temperature_unit": {"enum": ["celsius", "fahrenheit"]}}),
        ),
        tool(
            "send_email_message",
            json!({"recipient_address": {"type": "string", "maxLength": 20}, "subject_line": {"type": "string", "maxLength": 20}, "is_high_priority": {"type": "boolean"}}),
        ),
        tool(
            "create_calendar_event",
            json!({"event_title": {"type": "string", "maxLength": 20}, "duration_minutes": {"enum": [15, 30, 60]}, "send_notifications": {"type": "boolean"}}),
        ),
        tool(
            "search_product_catalog",
            json!({"search_query": {"type": "string", "maxLength": 20}, "maximum_results": {"type": "integer", "minimum": 1, "maximum": 50}, "sort_order": {"enum": ["price_ascending", "price_descending", "relevance"]}}),
        ),
    ];
    let person = schema(json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 24}, "age": {"type": "integer", "minimum": 0, "maximum": 130},
            "tags": {"type": "array", "items": {"type": "string", "maxLength": 10}, "maxItems": 4},
            "address": {"type": "object", "properties": {"street": {"type": "string", "maxLength": 24}, "city": {"type": "string", "maxLength": 16}},
                        "required": ["street", "city"], "additionalProperties": false}
        },
        "required": ["name", "age", "tags", "address"], "additionalProperties": false
    }));
    let template = ir(json!({"grammar": {"syntax": "gbnf", "source": concat!(
        "root ::= \"import json\\nimport logging\\nfrom dataclasses import dataclass\\nfrom typing import Iterable, Optional\\n\\n",
        "logger = logging.getLogger(__name__)\\n\\n\\n",
        "def load_orders(path: str, limit: Optional[int] = None) -> Iterable[dict]:\\n    \\\"\\\"\\\"\" doc \"\\\"\\\"\\\"\\n\" line{1,4}\n",
        "doc ::= [A-Z] [a-z ]{10,40} \".\"\n",
        "line ::= \"    \" [a-z_]{1,12} \" = \" [a-z_(). ]{1,24} \"\\n\"\n")}}));
    let code = ir(json!({"forbidden_text": [{"text": "eval("}, {"text": "exec("}, {"text": "os.system"}]}));
    vec![
        ("tool calls", "Call the tool that answers the user.\n", tools.clone()),
        ("tool calls, compact", "Call the tool that answers the user.\n", tools.into_iter().map(compact).collect()),
        ("JSON", "Describe a person as JSON.\n", vec![person]),
        ("signature and imports", "# A module that loads orders.\n", vec![template]),
        ("free code", "def quicksort(items):\n", vec![code]),
    ]
}
