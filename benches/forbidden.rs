//! Does forbidden text ever leak, and what does a token cost more?
//!
//! `cargo bench --bench forbidden -- [TOKENS] [PATTERNS]`; generates TOKENS (default 1,000,000) tokens at temperature 1.5
//! from the embedded model, free and bound by PATTERNS (default 1,000) substrings that free outputs have often, counts
//! the places where one stands, and times mask and accept of each token with and without the constraint, warm.
#![allow(clippy::print_stdout, reason = "a bench prints its result")]

#[path = "../tests/common/forbidden_text.rs"]
mod forbidden_text;

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let number = |idx: usize, default: usize| arguments.get(idx).map_or(Ok(default), |text| text.parse());
    let (num_tokens, num_patterns) = (number(0, 1_000_000)?, number(1, 1_000)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(forbidden_text::measure(num_tokens, num_patterns))?;
    println!("{report}");
    Ok(())
}
