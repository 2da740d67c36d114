//! Streams that decode together in an engine, timed by those who read them.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ananke::engine::{EngineHandle, SequenceRequest, TokenEvent, TokenStream};
use ananke::guide::CompiledConstraint;
use ananke::kernels::sampling::SamplingParams;

/// How a run is made.
#[derive(Clone, Copy)]
pub(crate) struct Run {
    /// Tokens of each timed stream; then it is dropped, and the others with it.
    pub(crate) num_tokens: usize,
    /// How many more a stream may have: none comes near its budget, where it would be steered to its end.
    pub(crate) num_spare: usize,
    /// Tokens at the start of a stream that are not counted: the prefill of the others.
    pub(crate) num_warm: usize,
    /// Seed of the first stream; the others have the next ones.
    pub(crate) seed: u64,
}

/// Decodes one stream under each of `constraints`, all at once; gives the times between the tokens of the first
/// `num_timed` of them, in microseconds.
///
/// What a constraint determines is sampled all the same, so that every token is one step.
pub(crate) fn latencies(
    engine: &EngineHandle,
    constraints: &[&Arc<CompiledConstraint>],
    num_timed: usize,
    run: Run,
) -> Result<Vec<f64>, Box<dyn Error>> {
    let request = |(index, constraint): (usize, &&Arc<CompiledConstraint>)| -> Result<SequenceRequest, Box<dyn Error>> {
        Ok(SequenceRequest {
            prompt: vec![40 + (index % 50) as u32; 8],
            max_tokens: (run.num_tokens + run.num_spare) as u32,
            sampling: SamplingParams::default(),
            seed: run.seed + index as u64,
            choice: 0,
            num_logprobs: None,
            num_prompt_logprobs: None,
            forced_tokens: false,
            matcher: constraint.matcher(b"")?,
            salt: None,
            tenant: None,
        })
    };
    let requests = constraints.iter().enumerate().map(request).collect::<Result<Vec<_>, _>>()?;
    let mut streams = engine.submit(requests)?;
    let others = streams.split_off(num_timed);
    let readers: Vec<_> = streams.into_iter().map(|stream| std::thread::spawn(move || gaps(stream, run))).collect();
    let mut all = Vec::new();
    for reader in readers {
        all.extend(reader.join().map_err(|_| "a reader panicked")??);
    }
    drop(others);
    while engine.stats().snapshot().running > 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(all)
}

/// A stream that ends by itself gives fewer.
fn gaps(mut stream: TokenStream, run: Run) -> Result<Vec<f64>, String> {
    let mut times = Vec::new();
    while times.len() < run.num_tokens {
        match stream.blocking_next() {
            Some(TokenEvent::Prompt(_)) => {}
            Some(TokenEvent::Token { .. }) => times.push(Instant::now()),
            Some(TokenEvent::Finished(_)) => break,
            Some(TokenEvent::Failed(error)) => return Err(error.to_string()),
            None => return Err("the engine has stopped".into()),
        }
    }
    let gaps = times.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64() * 1e6);
    Ok(gaps.skip(run.num_warm).collect())
}
