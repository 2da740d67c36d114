//! Compiles hostile constraints and computes their first masks, in this process: a crash is a finding, and so is an
//! input that takes seconds.
//!
//!     cargo run --release --bin schema -- 60 1       # 60 s of inputs from seed 1; stable compiler
//!     cargo fuzz run schema --features libfuzzer     # guided by coverage; nightly compiler and cargo-fuzz
//!
//! The first form draws from the same generator as `examples/hostile`. The input under way lies in
//! `target/fuzz-<target>.input`, where a crash leaves it.

#[allow(missing_docs)]
#[path = "../../examples/hostile/inputs.rs"]
mod inputs;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use ananke::constraint::ConstraintIr;
use ananke::guide::{Guide, GuideConfig, GuideError, allowed_tokens, num_words};
use ananke::text::{Token, Vocabulary};
pub use inputs::Kind;
use inputs::Random;

/// What one input may take; the bounds of the guide are meant to keep all of them well below.
const SLOW: Duration = Duration::from_secs(5);
const NUM_MASKS: usize = 3;

/// All bytes, and words of several characters, so that tokens cross the borders of lexemes.
static GUIDE: LazyLock<Guide> = LazyLock::new(|| {
    let words = ["  ", "\": \"", "{\"", "\"}", "},", "\n  ", "aaa", "123", "true", "null", "e-", "\u{e9}t\u{e9}"];
    let bytes = (0..=255u8).map(|byte| Token::Text(vec![byte]));
    let words = words.iter().map(|word| Token::Text(word.as_bytes().to_vec()));
    let tokens: Vec<Token> = bytes.chain(words).chain([Token::Control("<end>".into())]).collect();
    let (num_rows, end) = (tokens.len(), tokens.len() as u32 - 1);
    let vocabulary = Vocabulary::new(tokens, num_rows, vec![end]).expect("a valid vocabulary");
    Guide::new(Arc::new(vocabulary), GuideConfig::default()).expect("the vocabulary can be sliced")
});

/// One input of libFuzzer's: the bytes are the source.
///
/// # Panics
/// When the guide reports a fault of its own, or takes too long.
pub fn one(kind: Kind, data: &[u8]) {
    let begun = Instant::now();
    let outcome = compile(kind, &String::from_utf8_lossy(data), data.len() as u64);
    assert!(outcome != "internal", "a fault of the guide's own");
    assert!(begun.elapsed() < SLOW, "it took {:?}", begun.elapsed());
}

/// Draws inputs from a seed for so many seconds, both given as arguments, and says what became of them.
#[must_use]
pub fn drive(kind: Kind) -> ExitCode {
    let number =
        |idx: usize, default: u64| std::env::args().nth(idx).and_then(|text| text.parse().ok()).unwrap_or(default);
    let (limit, seed) = (Duration::from_secs(number(1, 10)), number(2, 1));
    let current = format!("target/fuzz-{}.input", kind.name());
    let _ = std::fs::create_dir_all("target");
    let begun = Instant::now();
    let (mut outcomes, mut slowest, mut num_inputs) = (BTreeMap::<&str, u64>::new(), (Duration::ZERO, 0), 0);
    while begun.elapsed() < limit {
        let source = inputs::source(kind, &mut Random::new(seed, num_inputs));
        if let Err(error) = std::fs::write(&current, &source) {
            eprintln!("{current}: {error}");
            return ExitCode::FAILURE;
        }
        let at = Instant::now();
        let outcome = compile(kind, &source, num_inputs);
        if at.elapsed() > slowest.0 {
            slowest = (at.elapsed(), num_inputs);
        }
        if outcome == "internal" || at.elapsed() > SLOW {
            println!("input {num_inputs} of seed {seed}: {outcome} after {:?}", at.elapsed());
        }
        *outcomes.entry(outcome).or_default() += 1;
        num_inputs += 1;
    }
    println!("{}: {num_inputs} inputs from seed {seed}, slowest {:?} (input {})", kind.name(), slowest.0, slowest.1);
    println!("{outcomes:?}");
    let is_clean = !outcomes.contains_key("internal") && slowest.0 <= SLOW;
    if is_clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What became of a source.
fn compile(kind: Kind, source: &str, salt: u64) -> &'static str {
    let Some(value) = inputs::ir(kind, source, &mut Random::new(salt, 0)) else { return "no JSON" };
    let Ok(ir) = serde_json::from_value::<ConstraintIr>(value) else { return "no IR" };
    match first_masks(&ir) {
        Ok(()) => "compiled",
        Err(GuideError::Unsatisfiable { .. } | GuideError::DeadEnd { .. }) => "unsatisfiable",
        Err(GuideError::TooLarge { .. } | GuideError::OverLimit { .. } | GuideError::LimitExceeded { .. }) => "too large",
        Err(GuideError::Internal { .. }) => "internal",
        Err(_) => "refused",
    }
}

fn first_masks(ir: &ConstraintIr) -> Result<(), GuideError> {
    let compiled = GUIDE.compile(std::slice::from_ref(ir))?;
    let mut matcher = compiled.matcher(b"")?;
    let mut row = vec![0; num_words(GUIDE.vocabulary().num_rows())];
    for _ in 0..NUM_MASKS {
        matcher.fill(&mut row)?;
        let Some(token) = allowed_tokens(&row).last() else { break };
        matcher.accept(token)?;
        if matcher.has_ended() {
            break;
        }
    }
    Ok(())
}
