//! The engine on a scripted model: scheduling changes nothing but time, and every block comes home.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ananke::constraint::ConstraintIr;
use ananke::engine::{
    Engine, EngineConfig, EngineError, EngineHandle, FinishReason, Finished, SequenceRequest, Tenant, TokenEvent,
    TokenStream,
};
use ananke::guide::{Guide, GuideConfig};
use ananke::kernels::sampling::{SamplingError, SamplingParams, TokenLogprobs, score};
use ananke::model::{LanguageModel, ScriptedModel};
use ananke::text::{Token, Vocabulary};
use serde_json::json;

/// One id per ASCII byte, and one that ends.
const END: u32 = 128;
/// The script panics after this byte.
const POISON: u32 = 1;

fn vocabulary() -> Arc<Vocabulary> {
    let tokens = (0..128).map(|byte| Token::Text(vec![byte])).chain([Token::Control("<end>".into())]).collect();
    Arc::new(Vocabulary::new(tokens, 160, vec![END]).expect("a valid vocabulary"))
}

fn guide() -> Guide {
    Guide::new(vocabulary(), GuideConfig::default()).expect("a guide for the vocabulary")
}

fn start(config: EngineConfig) -> EngineHandle {
    start_model(ScriptedModel::seeded(160, 4096, 3), config)
}

fn start_model(model: ScriptedModel, config: EngineConfig) -> EngineHandle {
    Engine::start(Box::new(model), &[END], config).expect("the engine starts").0
}

fn request(guide: &Guide, irs: &[ConstraintIr], prompt: &[u8], seed: u64, max_tokens: u32) -> SequenceRequest {
    SequenceRequest {
        prompt: prompt.iter().map(|&byte| u32::from(byte)).collect(),
        max_tokens,
        sampling: SamplingParams { repetition_penalty: 1.1, presence_penalty: 0.1, ..SamplingParams::default() },
        seed,
        choice: 0,
        num_logprobs: None,
        num_prompt_logprobs: None,
        forced_tokens: true,
        matcher: guide.compile(irs).expect("the IR compiles").matcher(prompt).expect("a matcher"),
        salt: None,
        tenant: None,
    }
}

fn submit(engine: &EngineHandle, request: SequenceRequest) -> TokenStream {
    engine.submit(vec![request]).expect("there is room").pop().expect("one stream per request")
}

/// The tokens and the end of one sequence.
fn run(mut stream: TokenStream) -> Result<(Vec<u32>, Finished), EngineError> {
    let mut tokens = Vec::new();
    loop {
        match stream.blocking_next().expect("a stream says how it ends") {
            TokenEvent::Prompt(_) => {}
            TokenEvent::Token { id, .. } => tokens.push(id),
            TokenEvent::Finished(finished) => return Ok((tokens, finished)),
            TokenEvent::Failed(error) => return Err(error),
        }
    }
}

fn outcome(stream: TokenStream) -> (Vec<u32>, FinishReason) {
    let (tokens, finished) = run(stream).expect("the sequence does not fail");
    (tokens, finished.reason)
}

/// Twenty-four sequences of all sorts: long and short prompts with shared beginnings, free and constrained.
fn workload(guide: &Guide) -> Vec<SequenceRequest> {
    let schema = ConstraintIr::from_json_schema(json!({
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 12}, "n": {"type": "integer"}},
        "required": ["name", "n"], "additionalProperties": false
    }));
    (0..24)
        .map(|index: usize| {
            let prompt = b"shared beginning of a prompt that fills several blocks of the cache; ".repeat(1 + index % 4);
            let prompt = [&prompt[..], format!("and its own end {}", index % 6).as_bytes()].concat();
            let irs = if index.is_multiple_of(3) { vec![schema.clone()] } else { Vec::new() };
            request(guide, &irs, &prompt, index as u64, 40 + index as u32)
        })
        .collect()
}

fn wait_until(engine: &EngineHandle, what: &str, holds: impl Fn(&EngineHandle) -> bool) {
    for _ in 0..2000 {
        if holds(engine) {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("{what} did not come true: {:?}", engine.stats().snapshot());
}

fn all_blocks_are_home(engine: &EngineHandle) -> bool {
    let stats = engine.stats().snapshot();
    stats.blocks_free == stats.blocks_total && stats.running == 0 && stats.waiting == 0
}

/// Beside a row that need not wait, a mask has no time after the forward pass, and all of it while the device computes.
#[test]
fn masks_that_come_while_a_device_computes_are_not_late() {
    let guide = guide();
    let config =
        EngineConfig { mask_late_after: Duration::from_secs(1), mask_wait_share: 0.0, ..EngineConfig::default() };
    let model = ScriptedModel::seeded(160, 4096, 3).with_device_time(Duration::from_millis(200));
    let engine = start_model(model, config);
    let schema = ConstraintIr::from_json_schema(json!({"type": "array", "items": {"type": "integer"}}));
    let requests = vec![request(&guide, &[], b"free", 1, 6), request(&guide, &[schema], b"bound", 2, 6)];
    for stream in engine.submit(requests).expect("there is room") {
        outcome(stream);
    }
    let stats = engine.stats().snapshot();
    assert!(stats.masks > 0 && stats.masks_late == 0, "{stats:?}");
}

#[test]
fn scheduling_changes_nothing_but_time() {
    let guide = guide();
    let solo = start(EngineConfig { num_seqs_max: 1, ..EngineConfig::default() });
    let expected: Vec<_> = workload(&guide).into_iter().map(|request| outcome(submit(&solo, request))).collect();
    let configs = [
        ("batched", EngineConfig::default()),
        ("small chunks", EngineConfig { num_batched_tokens_max: 7, ..EngineConfig::default() }),
        ("a dry pool", EngineConfig { num_blocks: 40, ..EngineConfig::default() }),
        ("odd blocks", EngineConfig { block_len: 5, num_blocks: 3000, ..EngineConfig::default() }),
        ("late masks", EngineConfig { mask_late_after: Duration::ZERO, ..EngineConfig::default() }),
        (
            "all of it",
            EngineConfig {
                num_batched_tokens_max: 33,
                num_blocks: 130,
                block_len: 4,
                mask_late_after: Duration::ZERO,
                num_mask_workers: 1,
                ..EngineConfig::default()
            },
        ),
    ];
    let device_time = Duration::from_millis(1);
    let on_device = |config| start_model(ScriptedModel::seeded(160, 4096, 3).with_device_time(device_time), config);
    let configs = configs.map(|(name, config)| (name, start(config)));
    let devices = [
        ("a device", EngineConfig::default()),
        ("a device, small chunks", EngineConfig { num_batched_tokens_max: 33, ..EngineConfig::default() }),
    ];
    for (name, engine) in configs.into_iter().chain(devices.map(|(name, config)| (name, on_device(config)))) {
        let streams: Vec<_> = workload(&guide).into_iter().map(|request| submit(&engine, request)).collect();
        let got: Vec<_> = streams.into_iter().map(outcome).collect();
        assert_eq!(got, expected, "{name}");
        wait_until(&engine, "every block is home", all_blocks_are_home);
        let stats = engine.stats().snapshot();
        assert!(stats.prefix_hit_tokens > 0, "{name}: shared beginnings are reused, {stats:?}");
        // Only a device has something to do while the last tokens are read.
        assert_eq!(stats.steps_ahead > 0, name.starts_with("a device"), "{name}: {stats:?}");
        if name == "a dry pool" {
            assert!(stats.preemptions > 0, "the pool was too large to preempt, {stats:?}");
        }
    }
}

/// What a sequence says of its prompt, its tokens, and why it ended.
type Scored = (Option<Vec<TokenLogprobs>>, Vec<u32>, FinishReason);

fn scored(mut stream: TokenStream) -> Scored {
    let (mut scores, mut tokens) = (None, Vec::new());
    loop {
        match stream.blocking_next().expect("a stream says how it ends") {
            TokenEvent::Prompt(known) => {
                assert!(scores.is_none() && tokens.is_empty(), "the prompt comes once, and first");
                scores = Some(known);
            }
            TokenEvent::Token { id, .. } => tokens.push(id),
            TokenEvent::Finished(finished) => return (scores, tokens, finished.reason),
            TokenEvent::Failed(error) => panic!("{error}"),
        }
    }
}

/// Scores that follow from the whole context.
fn noise(context: &[u32], scores: &mut [f32]) {
    let mut state = context.iter().fold(7_u32, |state, &id| state.wrapping_mul(16_777_619) ^ id);
    for score in scores {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *score = (state >> 8) as f32 / (1 << 21) as f32;
    }
}

/// Sixteen sequences that share no prefix: every second one is asked about its prompt, some of those generate nothing.
fn asked_about(guide: &Guide, asks: bool) -> Vec<SequenceRequest> {
    let schema = ConstraintIr::from_json_schema(json!({"type": "array", "items": {"type": "integer"}}));
    let request = |index: usize| {
        let letter = char::from(b'A' + index as u8);
        let prompt = format!("{letter} begins a sentence that goes on for a while. ").repeat(1 + index % 5);
        let irs = if index.is_multiple_of(3) { vec![schema.clone()] } else { Vec::new() };
        let max_tokens = if index % 4 == 2 && asks { 0 } else { 60 + index as u32 };
        let num_prompt_logprobs = (asks && index.is_multiple_of(2)).then_some(index as u32 / 2 % 4);
        SequenceRequest { num_prompt_logprobs, ..request(guide, &irs, prompt.as_bytes(), index as u64, max_tokens) }
    };
    (0..16).map(request).collect()
}

#[test]
fn a_prompts_log_probabilities_are_the_models_whatever_the_schedule_and_cost_a_row_for_each_token() {
    let guide = guide();
    let free = start_model(ScriptedModel::new(160, 4096, Arc::new(noise)), EngineConfig::default());
    let unasked: Vec<_> =
        asked_about(&guide, false).into_iter().map(|request| outcome(submit(&free, request))).collect();
    let expected: Vec<Scored> = asked_about(&guide, true)
        .iter()
        .zip(unasked)
        .map(|(request, (tokens, reason))| {
            let places = 1..request.prompt.len();
            let score_at = |place: usize, count: u32| {
                let mut row = vec![0.0; 160];
                noise(&request.prompt[..place], &mut row);
                score(&row, request.prompt[place], count)
            };
            let scores = request.num_prompt_logprobs.map(|count| places.map(|at| score_at(at, count)).collect());
            if request.max_tokens == 0 { (scores, Vec::new(), FinishReason::Length) } else { (scores, tokens, reason) }
        })
        .collect();
    let configs = [
        ("alone", EngineConfig { num_seqs_max: 1, ..EngineConfig::default() }),
        ("batched", EngineConfig::default()),
        ("a row at a time", EngineConfig { num_scored_tokens_max: 1, ..EngineConfig::default() }),
        ("small chunks", EngineConfig { num_batched_tokens_max: 7, ..EngineConfig::default() }),
        ("a dry pool", EngineConfig { num_blocks: 24, num_scored_tokens_max: 9, ..EngineConfig::default() }),
        (
            "all of it",
            EngineConfig {
                num_batched_tokens_max: 33,
                num_scored_tokens_max: 11,
                num_blocks: 90,
                block_len: 4,
                mask_late_after: Duration::ZERO,
                num_mask_workers: 1,
                ..EngineConfig::default()
            },
        ),
        ("a device", EngineConfig::default()),
    ];
    for (name, config) in configs {
        let rows: Arc<Mutex<BTreeMap<Vec<u32>, usize>>> = Arc::default();
        let counted = rows.clone();
        let script = move |context: &[u32], scores: &mut [f32]| {
            *counted.lock().expect("no test panics here").entry(context.to_vec()).or_default() += 1;
            noise(context, scores);
        };
        let model = ScriptedModel::new(160, 4096, Arc::new(script));
        let device_time = Duration::from_millis(if name == "a device" { 1 } else { 0 });
        let model = if device_time.is_zero() { model } else { model.with_device_time(device_time) };
        let engine = start_model(model, config);
        // The second time every prompt is in the cache, as far as it was not evicted.
        for round in 1..=2 {
            let streams: Vec<_> =
                asked_about(&guide, true).into_iter().map(|request| submit(&engine, request)).collect();
            let got: Vec<_> = streams.into_iter().map(scored).collect();
            assert_eq!(got, expected, "{name}, round {round}");
            let rows = rows.lock().expect("the engine has not panicked");
            for request in asked_about(&guide, true) {
                let num_rows = if request.num_prompt_logprobs.is_some() { round } else { 0 };
                for place in 1..request.prompt.len() {
                    let counted = rows.get(&request.prompt[..place]).copied().unwrap_or(0);
                    assert_eq!(counted, num_rows, "{name}, round {round}: place {place} of {:?}", request.prompt);
                }
            }
        }
        wait_until(&engine, "every block is home", all_blocks_are_home);
        let stats = engine.stats().snapshot();
        if name == "a dry pool" {
            assert!(stats.preemptions > 0, "the pool was too large to preempt, {stats:?}");
        }
    }
}

#[test]
fn a_prompt_of_one_token_has_nothing_to_say_and_a_model_that_gives_no_number_is_an_error() {
    let guide = guide();
    let script = |context: &[u32], scores: &mut [f32]| {
        scores.fill(if context.last() == Some(&POISON) { f32::NAN } else { 0.0 });
    };
    let engine = start_model(ScriptedModel::new(160, 4096, Arc::new(script)), EngineConfig::default());
    let ask = |prompt: &[u8], max_tokens| {
        let request = request(&guide, &[], prompt, 1, max_tokens);
        submit(&engine, SequenceRequest { num_prompt_logprobs: Some(2), ..request })
    };
    for max_tokens in [0, 5] {
        let (scores, tokens, reason) = scored(ask(b"x", max_tokens));
        assert_eq!((scores, tokens.len(), reason), (Some(Vec::new()), max_tokens as usize, FinishReason::Length));
    }
    let failed = run(ask(&[b'a', POISON as u8, b'b', b'c'], 0));
    let Err(EngineError::Sampling(SamplingError::NotANumber { id })) = failed else { panic!("{failed:?}") };
    assert_eq!(id, u32::from(b'b'));
    assert_eq!(scored(ask(b"fine", 0)).0.map(|scores| scores.len()), Some(3));
    wait_until(&engine, "every block is home", all_blocks_are_home);
}

#[test]
fn a_cancelled_sequence_returns_its_blocks() {
    let guide = guide();
    let model = ScriptedModel::seeded(160, 4096, 3).with_time_per_step(Duration::from_millis(1));
    let engine = start_model(model, EngineConfig::default());
    let mut streams: Vec<_> =
        (0..8).map(|seed| submit(&engine, request(&guide, &[], b"a long story", seed, 3000))).collect();
    for stream in &mut streams {
        assert!(matches!(stream.blocking_next(), Some(TokenEvent::Token { .. })));
    }
    assert!(!all_blocks_are_home(&engine));
    drop(streams);
    wait_until(&engine, "every block is home", all_blocks_are_home);
}

#[test]
fn a_full_queue_refuses_and_takes_again() {
    let guide = guide();
    let model = ScriptedModel::seeded(160, 4096, 3).with_time_per_step(Duration::from_millis(2));
    let config = EngineConfig { num_seqs_max: 1, queue_len_max: 3, ..EngineConfig::default() };
    let engine = start_model(model, config);
    let mut streams = Vec::new();
    let refused = (0..8).find_map(|seed| match engine.submit(vec![request(&guide, &[], b"a", seed, 2000)]) {
        Ok(stream) => {
            streams.extend(stream);
            None
        }
        Err(error) => Some(error),
    });
    assert!(matches!(refused, Some(EngineError::QueueFull { limit: 3 })), "{refused:?}");
    drop(streams);
    wait_until(&engine, "there is room again", |engine| engine.submit(vec![request(&guide, &[], b"a", 0, 5)]).is_ok());
}

#[test]
fn what_no_pool_can_hold_is_refused_at_once() {
    let engine = start(EngineConfig { num_blocks: 4, ..EngineConfig::default() });
    let refused = engine.submit(vec![request(&guide(), &[], b"abc", 0, 62)]);
    assert!(matches!(refused, Err(EngineError::TooLong { num_tokens: 65, limit: 64 })));
    let refused = engine.submit(vec![request(&guide(), &[], b"", 0, 1)]);
    assert!(matches!(refused, Err(EngineError::EmptyPrompt)));
}

#[test]
fn a_failed_step_fails_its_requests_and_nothing_else() {
    let script = |context: &[u32], scores: &mut [f32]| {
        assert!(context.last() != Some(&POISON), "poisoned");
        scores.fill(0.0);
    };
    let engine = start_model(ScriptedModel::new(160, 4096, Arc::new(script)), EngineConfig::default());
    let guide = guide();
    let failed = run(submit(&engine, request(&guide, &[], &[POISON as u8], 0, 5)));
    assert!(matches!(&failed, Err(EngineError::Internal { message }) if message.contains("poisoned")), "{failed:?}");
    outcome(submit(&engine, request(&guide, &[], b"fine", 0, 5)));
    wait_until(&engine, "every block is home", all_blocks_are_home);
    assert_eq!(engine.stats().snapshot().restarts, 1);
}

/// What no prompt can rescue is refused before; this set depends on the prompt, so it is admitted.
#[test]
fn a_dead_end_names_its_parts() {
    let ir = |value| -> ConstraintIr { serde_json::from_value(value).expect("an IR") };
    let schema = ConstraintIr::from_json_schema(json!({"const": "abcdefgh"}));
    let forbidden = ir(json!({"forbidden_text": [{"text": "xyz\"abc", "scope": "document"}]}));
    let engine = start(EngineConfig::default());
    let (_, finished) = run(submit(&engine, request(&guide(), &[schema, forbidden], b"w xyz", 0, 50)))
        .expect("a dead end is no failure");
    let FinishReason::DeadEnd { parts, byte_offset } = finished.reason else { panic!("{finished:?}") };
    assert!(parts.len() >= 2 && byte_offset <= 3, "{parts:?} at {byte_offset}");
}

#[test]
fn the_choices_of_a_request_have_their_own_streams() {
    let guide = guide();
    let engine = start(EngineConfig::default());
    let choices = (0..4).map(|choice| SequenceRequest { choice, ..request(&guide, &[], b"same", 9, 30) }).collect();
    let streams = engine.submit(choices).expect("there is room");
    let outputs: Vec<_> = streams.into_iter().map(|stream| outcome(stream).0).collect();
    for (index, output) in outputs.iter().enumerate() {
        assert!(!outputs[..index].contains(output), "choice {index} repeats another");
    }
}

#[test]
fn padded_rows_and_control_ids_are_never_sampled() {
    let guide = guide();
    let script = |_: &[u32], scores: &mut [f32]| {
        scores.fill(0.0);
        scores[129..].fill(50.0);
    };
    let model = ScriptedModel::new(160, 4096, Arc::new(script));
    assert_eq!(model.info().vocab_len, 160);
    let engine = start_model(model, EngineConfig::default());
    let (tokens, _) = outcome(submit(&engine, request(&guide, &[], b"x", 1, 200)));
    assert!(tokens.iter().all(|&id| id < END), "{tokens:?}");
}

#[test]
fn prefixes_are_shared_only_under_one_salt_and_the_bytes_are_the_same() {
    let guide = guide();
    let engine = start(EngineConfig::default());
    let prompt = [b'a'; 100];
    let mut outcomes = Vec::new();
    for (salt, is_found) in [
        (None, false),
        (None, true),
        (Some([1; 32]), false),
        (Some([1; 32]), true),
        (Some([2; 32]), false),
        (None, true),
    ] {
        let before = engine.stats().snapshot().prefix_hit_tokens;
        outcomes.push(outcome(submit(&engine, SequenceRequest { salt, ..request(&guide, &[], &prompt, 9, 20) })));
        let num_found = engine.stats().snapshot().prefix_hit_tokens - before;
        assert_eq!(num_found > 0, is_found, "{salt:?} found {num_found} tokens");
    }
    assert!(outcomes.iter().all(|one| *one == outcomes[0]));
}

/// A model that takes its time, and one sequence at a time.
fn narrow(time_per_step: Duration, queue_len_max: usize) -> EngineHandle {
    let model = ScriptedModel::seeded(160, 4096, 3).with_time_per_step(time_per_step);
    start_model(model, EngineConfig { num_seqs_max: 1, queue_len_max, ..EngineConfig::default() })
}

fn of_tenant(guide: &Guide, tenant: &Arc<Tenant>, seed: u64, max_tokens: u32) -> SequenceRequest {
    SequenceRequest { tenant: Some(tenant.clone()), ..request(guide, &[], b"who is next", seed, max_tokens) }
}

#[test]
fn one_tenants_flood_does_not_hold_up_another() {
    let guide = guide();
    let engine = narrow(Duration::from_millis(4), 64);
    let (flood, quiet) = (Tenant::new(1), Tenant::new(1));
    let (ended, order) = std::sync::mpsc::channel();
    let follow = |name: &'static str, stream: TokenStream| {
        let ended = ended.clone();
        std::thread::spawn(move || {
            outcome(stream);
            ended.send(name).expect("the test waits for all");
        });
    };
    let floods: Vec<_> = (0..30).map(|seed| submit(&engine, of_tenant(&guide, &flood, seed, 5))).collect();
    let quiets: Vec<_> = (0..2).map(|seed| submit(&engine, of_tenant(&guide, &quiet, seed, 5))).collect();
    floods.into_iter().for_each(|stream| follow("flood", stream));
    quiets.into_iter().for_each(|stream| follow("quiet", stream));
    drop(ended);
    let order: Vec<_> = order.iter().collect();
    let last = order.iter().rposition(|name| *name == "quiet").expect("it was answered");
    assert_eq!(order.len(), 32);
    assert!(last < 16, "in one line they would come last: {order:?}");
}

#[test]
fn no_tenant_fills_the_queue() {
    let guide = guide();
    let engine = narrow(Duration::from_millis(500), 8);
    let (flood, quiet) = (Tenant::new(1), Tenant::new(1));
    let mut streams = Vec::new();
    let refused = loop {
        match engine.submit(vec![of_tenant(&guide, &flood, 0, 50)]) {
            Ok(taken) => streams.extend(taken),
            Err(error) => break error,
        }
        assert!(streams.len() < 8, "it took the whole queue");
    };
    assert!(matches!(refused, EngineError::ShareFull { limit: 8 }), "{refused:?}");
    assert!(streams.len() >= 4, "half of the queue is its own: {}", streams.len());
    streams.extend(engine.submit(vec![of_tenant(&guide, &quiet, 0, 50)]).expect("there is room for another tenant"));
    drop(streams);
    wait_until(&engine, "the queue is empty", |engine| engine.num_queued() == 0);
    assert!(engine.submit(vec![of_tenant(&guide, &flood, 0, 50)]).is_ok(), "its places came back");
}
