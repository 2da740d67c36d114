//! Steering: documents that end in their budget, sets of parts that dead-end, and forced tokens, on a model that knows
//! nothing, so that nothing ends by luck.

use std::sync::{Arc, LazyLock};

use ananke::braid::{self, CompileOptions};
use ananke::constraint::{ConstraintIr, Language};
use ananke::engine::{Engine, EngineConfig, EngineHandle, FinishReason, Finished, SequenceRequest, TokenEvent};
use ananke::guide::{CompiledConstraint, Guide, GuideConfig, GuideError};
use ananke::kernels::sampling::{SamplingParams, uniform};
use ananke::model::ScriptedModel;
use ananke::text::Tokenizer;
use ananke::verify::{self, Output};
use serde_json::{Map, Value, json};

mod common;

static NANO: LazyLock<Tokenizer> = LazyLock::new(common::nano_tokenizer);
static GUIDE: LazyLock<Guide> =
    LazyLock::new(|| Guide::new(NANO.vocabulary().clone(), GuideConfig::default()).expect("a guide"));

fn engine(config: EngineConfig) -> EngineHandle {
    let rows = NANO.vocabulary().num_rows();
    let model = ScriptedModel::seeded(rows, 4096, 5);
    Engine::start(Box::new(model), NANO.vocabulary().end_tokens(), config).expect("the engine starts").0
}

fn request(compiled: &Arc<CompiledConstraint>, seed: u64, max_tokens: u32) -> SequenceRequest {
    SequenceRequest {
        prompt: vec![300, 301, 302],
        max_tokens,
        sampling: SamplingParams { presence_penalty: 0.1, ..SamplingParams::default() },
        seed,
        choice: 0,
        num_logprobs: None,
        num_prompt_logprobs: None,
        forced_tokens: seed.is_multiple_of(2),
        matcher: compiled.matcher(b"").expect("a matcher"),
        salt: None,
        tenant: None,
    }
}

/// The tokens and the end of each request, all submitted at once.
fn run(engine: &EngineHandle, requests: Vec<SequenceRequest>) -> Vec<(Vec<u32>, Finished)> {
    let mut streams = engine.submit(requests).expect("there is room");
    streams
        .iter_mut()
        .map(|stream| {
            let mut tokens = Vec::new();
            loop {
                match stream.blocking_next().expect("a stream says how it ends") {
                    TokenEvent::Prompt(_) => {}
                    TokenEvent::Token { id, .. } => tokens.push(id),
                    TokenEvent::Finished(finished) => return (tokens, finished),
                    TokenEvent::Failed(error) => panic!("{error}"),
                }
            }
        })
        .collect()
}

/// Draws from a counter, the same for the same seed.
struct Dice {
    seed: u64,
    count: u32,
}

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.count += 1;
        (uniform(self.seed, 0, self.count) * sides as f64) as usize
    }
}

/// A random schema of the kinds that tools and types are made of.
fn schema(dice: &mut Dice, depth: usize) -> Value {
    let kinds = if depth == 0 { 6 } else { 9 };
    match dice.roll(kinds) {
        0 => json!({"type": "integer", "minimum": 0, "maximum": ([9, 99, 500][dice.roll(3)])}),
        1 => json!({"type": "boolean"}),
        2 => json!({"enum": ([["a", "a longer member of it"], ["left", "right"], ["x", "yy"]][dice.roll(3)])}),
        3 => {
            let min = dice.roll(6);
            json!({"type": "string", "minLength": min, "maxLength": min + 1 + dice.roll(20)})
        }
        4 => json!({"type": "string"}),
        5 => json!({"type": ["string", "null"], "pattern": (["^[a-f]{2,8}$", "^(ab)+-[0-9]{4}$"][dice.roll(2)])}),
        6 => {
            let min = dice.roll(3);
            json!({"type": "array", "items": schema(dice, depth - 1), "minItems": min, "maxItems": min + 1 + dice.roll(4)})
        }
        _ => {
            let mut properties = Map::new();
            for index in 0..1 + dice.roll(5) {
                properties.insert(format!("{}{index}", ["id", "name", "value"][dice.roll(3)]), schema(dice, depth - 1));
            }
            let required: Vec<_> = properties.keys().filter(|_| dice.roll(3) > 0).cloned().collect();
            json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
        }
    }
}

const GRAMMARS: [&str; 6] = [
    "root ::= \"(\" root \")\" | \"x\"",
    "root ::= \"let \" [a-z]+ \" = \" expr \";\"\nexpr ::= [0-9]+ | expr \" + \" expr | \"(\" expr \")\"",
    "root ::= item (\", \" item){3,9} \".\"\nitem ::= [A-Z] [a-z]{2,6}",
    "root ::= \"if \" [a-z]+ \" {\\n\" root? \"}\\n\"",
    "root ::= (\"yes\" | \"no, because \" [a-z ]{5,30} \".\")",
    "root ::= \"[\" (root (\",\" root)*)? \"]\"",
];

fn constraints(count: u64) -> Vec<ConstraintIr> {
    let of = |seed: u64| {
        if seed % 5 == 4 {
            let source = GRAMMARS[(seed / 5) as usize % GRAMMARS.len()];
            let ir = json!({"grammar": {"syntax": "gbnf", "source": source}});
            serde_json::from_value(ir).expect("a well-formed IR")
        } else {
            ConstraintIr::from_json_schema(schema(&mut Dice { seed, count: 0 }, 3))
        }
    };
    (0..count).map(of).collect()
}

/// Every document is complete from the reported `min_tokens` up. `STEERING_CASES=500` runs the long version.
#[test]
fn a_document_ends_in_its_budget() {
    let engine = engine(EngineConfig::default());
    let num_cases = std::env::var("STEERING_CASES").ok().and_then(|count| count.parse().ok()).unwrap_or(60);
    for (index, ir) in constraints(num_cases).into_iter().enumerate() {
        let compiled = GUIDE.compile(std::slice::from_ref(&ir)).expect("it compiles");
        let min_tokens = compiled.min_tokens().expect("a witness is found");
        let budgets = [min_tokens, min_tokens + 1, min_tokens + 4, min_tokens * 2 + 20, 120 + min_tokens];
        let requests =
            budgets.iter().map(|&budget| request(&compiled, index as u64 + u64::from(budget), budget.max(1)));
        for (budget, (tokens, finished)) in budgets.iter().zip(run(&engine, requests.collect())) {
            let text = NANO.decode(&tokens);
            let context = format!("schema {index} {ir:?}, budget {budget} of {min_tokens}: {}", text.escape_ascii());
            assert!(finished.is_complete, "{context}: {finished:?}");
            assert!(tokens.len() <= (*budget).max(1) as usize, "{context}");
            let output = Output { text: &text, tokens: &tokens, finished: true, ..Output::default() };
            assert!(verify::all_satisfied(&verify::check(&output, std::slice::from_ref(&ir))), "{context}");
        }
    }
}

/// Per language a signature that must be declared, and a name that may be imported.
const SIGNATURES: [(Language, &str, &str); 5] = [
    (Language::Typescript, "export function total(items: number[]): number", "zod"),
    (Language::Python, "def total(items: list[float]) -> float:", "math"),
    (Language::Rust, "pub fn total(items: &[f64]) -> f64", "std"),
    (Language::Go, "func Total(items []float64) float64", "math"),
    (Language::Zig, "pub fn total(items: []const f64) f64", "std"),
];

/// Code ends like any other text, however deep it stands in brackets and blocks when the budget runs out.
#[test]
fn code_ends_in_its_budget() {
    let engine = engine(EngineConfig::default());
    for (language, signature, import) in SIGNATURES {
        let stated = |rule: Value| json!({"name": rule["type"], "kind": "architectural", "source": "user_defined", "rule": rule});
        let set = json!({"name": "rules", "constraints": [
            stated(json!({"type": "language", "language": language, "granularity": "file"})),
            stated(json!({"type": "signature", "signature": signature})),
            stated(json!({"type": "imports", "allow": [import]})),
            stated(json!({"type": "forbidden_text", "any_of": [{"text": "TODO"}]})),
        ]});
        let set = serde_json::from_value(set).expect("a constraint set");
        let ir = braid::compile(&set, &CompileOptions::default()).expect("it compiles").ir;
        let compiled = GUIDE.compile(std::slice::from_ref(&ir)).expect("it compiles");
        let min_tokens = compiled.min_tokens().expect("a witness is found");
        let budgets = [min_tokens, min_tokens + 6, min_tokens * 2, 90 + min_tokens];
        let requests = budgets.iter().map(|&budget| request(&compiled, u64::from(budget), budget)).collect();
        for (budget, (tokens, finished)) in budgets.iter().zip(run(&engine, requests)) {
            let text = NANO.decode(&tokens);
            let context = format!("{language:?}, budget {budget} of {min_tokens}: {}", text.escape_ascii());
            assert!(finished.is_complete, "{context}: {finished:?}");
            assert!(tokens.len() <= *budget as usize, "{context}");
            let text = String::from_utf8_lossy(&text);
            assert!(text.contains(signature), "{context}");
        }
    }
}

/// Sets of parts whose masks, ANDed, lead into dead ends: a structure, and what its whole text must match.
fn dead_ending() -> Vec<ConstraintIr> {
    let schema = json!({
        "type": "object",
        "properties": {"name": {"type": "string"}, "tags": {"type": "array", "items": {"type": "string"}}},
        "required": ["name", "tags"], "additionalProperties": false
    });
    let gbnf = |source: &str| json!({"syntax": "gbnf", "source": source});
    let full = |pattern: &str| json!([{"any_of": [{"pattern": pattern}], "match": "full"}]);
    [
        json!({"json_schema": schema, "regex_patterns": full("(?s).{30,60}")}),
        json!({"json_schema": schema, "regex_patterns": full("(?s).*x.{3}")}),
        json!({"json_schema": schema, "regex_patterns": full("[^c]*c[^c]*")}),
        json!({"json_schema": schema, "limits": {"max_chars": 48}}),
        json!({"grammar": gbnf("root ::= \"(\" root \")\" | [a-z]+"), "regex_patterns": full(".{5}|.{9}|.{21}")}),
        json!({"json_schema": {"type": "array", "items": {"type": "integer", "minimum": 0}},
               "grammar": gbnf("root ::= \"[\" [0-9] (\",\" [0-9]{2}){2,4} \"]\"")}),
    ]
    .map(|ir| serde_json::from_value(ir).expect("a well-formed IR"))
    .into()
}

#[test]
fn sets_that_dead_end_are_steered_to_an_end() {
    let engine = engine(EngineConfig::default());
    for ir in dead_ending() {
        let compiled = GUIDE.compile(std::slice::from_ref(&ir)).expect("it compiles");
        assert!(compiled.may_dead_end(), "{ir:?}");
        let requests = (0..20).map(|seed| request(&compiled, seed, 100)).collect();
        for (seed, (tokens, finished)) in run(&engine, requests).into_iter().enumerate() {
            let text = NANO.decode(&tokens);
            assert!(finished.is_complete, "{ir:?}, seed {seed}: {} {finished:?}", text.escape_ascii());
            assert!(finished.steering.hold_back >= 1);
            let output = Output { text: &text, tokens: &tokens, finished: true, ..Output::default() };
            assert!(verify::all_satisfied(&verify::check(&output, std::slice::from_ref(&ir))), "{ir:?}, seed {seed}");
        }
    }
}

/// Tokens taken back, forced blocks and tight budgets, under every way to schedule them.
#[test]
fn scheduling_changes_nothing_of_what_is_steered() {
    let mut irs = dead_ending();
    irs.extend(constraints(10));
    let compiled: Vec<_> = irs.iter().map(|ir| GUIDE.compile(std::slice::from_ref(ir)).expect("it compiles")).collect();
    let workload = || -> Vec<_> {
        compiled
            .iter()
            .enumerate()
            .flat_map(|(index, compiled)| {
                let min_tokens = compiled.min_tokens().unwrap_or(30);
                [2, 90].map(|more| request(compiled, index as u64, min_tokens + more))
            })
            .collect()
    };
    let outcome = |config: EngineConfig| -> Vec<(Vec<u32>, FinishReason, bool)> {
        let engine = engine(config);
        let done = run(&engine, workload()).into_iter().map(|(ids, end)| (ids, end.reason, end.is_complete)).collect();
        for _ in 0..500 {
            let stats = engine.stats().snapshot();
            if stats.blocks_free == stats.blocks_total {
                return done;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        panic!("blocks did not come home");
    };
    let expected = outcome(EngineConfig { num_seqs_max: 1, ..EngineConfig::default() });
    for (name, config) in [
        ("batched", EngineConfig::default()),
        ("one forced token at a time", EngineConfig { forced_block_len_max: 1, ..EngineConfig::default() }),
        ("small chunks", EngineConfig { num_batched_tokens_max: 7, ..EngineConfig::default() }),
        ("small blocks, preempted", EngineConfig { block_len: 3, num_blocks: 100, ..EngineConfig::default() }),
        (
            "no patience",
            EngineConfig {
                mask_late_after: std::time::Duration::ZERO,
                mask_wait_share: 0.0,
                ..EngineConfig::default()
            },
        ),
    ] {
        for (index, (expected, actual)) in expected.iter().zip(outcome(config)).enumerate() {
            assert_eq!(expected, &actual, "{name}, request {index}");
        }
    }
}

/// Where the constraint leaves no choice, nothing is sampled, and the text is what the constraint says.
#[test]
fn determined_text_is_appended() {
    let engine = engine(EngineConfig::default());
    let ir = ConstraintIr::from_json_schema(json!({"const": {"jsonrpc": "2.0", "method": "textDocument/didOpen"}}));
    let mut ir = ir;
    ir.limits.json_whitespace = Some(ananke::constraint::JsonWhitespace { max_newlines: 0, max_spaces: 0 });
    let compiled = GUIDE.compile(&[ir]).expect("it compiles");
    let outcome = run(&engine, vec![request(&compiled, 2, 60)]).remove(0);
    let text = String::from_utf8(NANO.decode(&outcome.0)).expect("UTF-8");
    assert_eq!(text, r#"{"jsonrpc":"2.0","method":"textDocument/didOpen"}"#);
    assert!(outcome.1.steering.num_forced as usize + 4 > outcome.0.len(), "{:?}", outcome.1);
}

/// A mask that takes too long costs its own request a typed error.
#[test]
fn a_mask_is_aborted_past_its_limit() {
    let config = EngineConfig { mask_abort_after: std::time::Duration::ZERO, ..EngineConfig::default() };
    let engine = engine(EngineConfig { mask_late_after: std::time::Duration::ZERO, ..config });
    let compiled = GUIDE.compile(&dead_ending()[..1]).expect("it compiles");
    let free = GUIDE.compile(&[]).expect("it compiles");
    let requests = (0..8).map(|seed| request(if seed == 0 { &compiled } else { &free }, seed, 200)).collect();
    let mut streams = engine.submit(requests).expect("there is room");
    let mut ends = streams.iter_mut().map(|stream| {
        loop {
            match stream.blocking_next().expect("a stream says how it ends") {
                TokenEvent::Prompt(_) | TokenEvent::Token { .. } => {}
                other => break other,
            }
        }
    });
    let aborted = ends.next().expect("eight streams");
    match aborted {
        TokenEvent::Failed(error) => {
            assert!(matches!(error, ananke::engine::EngineError::Guide(GuideError::Aborted { .. })), "{error}");
        }
        other => panic!("{other:?}"),
    }
    assert!(ends.all(|end| matches!(end, TokenEvent::Finished(_))));
}
