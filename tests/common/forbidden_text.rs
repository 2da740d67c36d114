//! Forbidden text against what the embedded model really generates: a free control run, a bound run, and what the bound
//! one costs. The bench asks for a million tokens, the test for a few thousand.

#![allow(unreachable_pub, reason = "a module of a bench and of a test")]

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ananke::constraint::{ConstraintIr, ForbiddenText};
use ananke::guide::{Guide, GuideConfig, Matcher, num_words};
use ananke::maze::{GenerateRequest, Maze, ModelSource, OpenOptions, Prompt, SamplingParams, open};
use ananke::text::Vocabulary;

const TEMPERATURE: f64 = 1.5;
/// Requests under way at a time, twice what the engine runs in one step.
const NUM_REQUESTS: usize = 64;
const NUM_TOKENS_PER_REQUEST: usize = 400;
const PROMPTS: [&str; 4] = ["def main():\n", "{\n  \"id\": 7,\n  \"name\": \"", "export function ", "import os\n\n"];
/// Lengths of the patterns in bytes.
const PATTERN_LENS: std::ops::RangeInclusive<usize> = 3..=6;
/// Of the commonest substrings, every so-many-th becomes a pattern.
const PATTERN_STRIDE: usize = 4;
/// Tokens whose masks are timed.
const NUM_TIMED_TOKENS: usize = 200_000;

/// What came out.
#[derive(Debug)]
pub struct Report {
    pub num_patterns: usize,
    pub num_free_tokens: usize,
    /// Places in the control run where a pattern stands.
    pub num_free_leaks: usize,
    pub num_bound_tokens: usize,
    /// Places in the bound run where a pattern stands.
    pub num_bound_leaks: usize,
    /// Mask and accept of one token, warm: free, bound, and the difference.
    pub times: [Times; 3],
}

/// Times of many tokens.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    pub mean: Duration,
    pub p50: Duration,
    pub p99: Duration,
}

impl Times {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let mean = times.iter().sum::<Duration>() / times.len() as u32;
        Self { mean, p50: times[times.len() / 2], p99: times[times.len() * 99 / 100] }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "temperature {TEMPERATURE}, {} patterns of {PATTERN_LENS:?} bytes", self.num_patterns)?;
        writeln!(f, "{:<8}{:>10}{:>10}", "run", "tokens", "leaks")?;
        writeln!(f, "{:<8}{:>10}{:>10}", "free", self.num_free_tokens, self.num_free_leaks)?;
        writeln!(f, "{:<8}{:>10}{:>10}", "bound", self.num_bound_tokens, self.num_bound_leaks)?;
        writeln!(f, "{:<8}{:>10}{:>10}{:>10}  us a token, mask and accept, warm", "", "mean", "p50", "p99")?;
        for (name, times) in ["free", "bound", "added"].into_iter().zip(&self.times) {
            let [mean, p50, p99] = [times.mean, times.p50, times.p99].map(|time| time.as_nanos() as f64 / 1_000.0);
            writeln!(f, "{name:<8}{mean:>10.2}{p50:>10.2}{p99:>10.2}")?;
        }
        Ok(())
    }
}

/// Generates `num_tokens` free and `num_tokens` bound by patterns taken from other free outputs.
pub async fn measure(num_tokens: usize, num_patterns: usize) -> Result<Report, Box<dyn Error>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("models/ananke-nano");
    let maze = open(OpenOptions::new(ModelSource::Path(folder)))?;
    let vocabulary = maze.tokenizer().vocabulary().clone();
    let sample = generate(&maze, &[], (num_tokens / 4).clamp(5_000, 100_000), 1 << 40).await?;
    let patterns = choose_patterns(&vocabulary, &sample, num_patterns);
    let texts = patterns.iter().map(|pattern| ForbiddenText::text(String::from_utf8_lossy(pattern))).collect();
    let ir = ConstraintIr { forbidden_text: texts, ..ConstraintIr::default() };
    let free = generate(&maze, &[], num_tokens, 0).await?;
    let bound = generate(&maze, std::slice::from_ref(&ir), num_tokens, 0).await?;
    Ok(Report {
        num_patterns: patterns.len(),
        num_free_tokens: free.iter().map(Vec::len).sum(),
        num_free_leaks: num_leaks(&vocabulary, &free, &patterns),
        num_bound_tokens: bound.iter().map(Vec::len).sum(),
        num_bound_leaks: num_leaks(&vocabulary, &bound, &patterns),
        times: time_masks(&vocabulary, ir, &bound)?,
    })
}

/// Outputs as token ids, at least `num_tokens` together.
async fn generate(
    maze: &Maze,
    constraints: &[ConstraintIr],
    num_tokens: usize,
    first_seed: u64,
) -> Result<Vec<Vec<u32>>, Box<dyn Error>> {
    let (mut outputs, mut num_generated, mut seed) = (Vec::new(), 0, first_seed);
    while num_generated < num_tokens {
        let mut under_way = Vec::new();
        let num_missing = (num_tokens - num_generated).div_ceil(NUM_TOKENS_PER_REQUEST);
        for _ in 0..num_missing.min(NUM_REQUESTS) {
            let request = GenerateRequest {
                prompt: Prompt::Text(PROMPTS[seed as usize % PROMPTS.len()].to_owned()),
                constraints: constraints.to_vec(),
                sampling: SamplingParams { temperature: TEMPERATURE as _, ..SamplingParams::default() },
                max_tokens: Some(NUM_TOKENS_PER_REQUEST as u32),
                num_choices: 1,
                seed: Some(seed),
                num_logprobs: Some(0),
                ..GenerateRequest::default()
            };
            under_way.push(maze.generate(request).await?);
            seed += 1;
        }
        for generation in under_way {
            for completed in generation.collect().await? {
                num_generated += completed.tokens.len();
                outputs.push(completed.tokens.iter().map(|token| token.id).collect());
            }
        }
    }
    Ok(outputs)
}

/// Substrings that free outputs have often: printable ASCII, of every length alike.
fn choose_patterns(vocabulary: &Vocabulary, outputs: &[Vec<u32>], num_patterns: usize) -> Vec<Vec<u8>> {
    let mut counts: HashMap<Vec<u8>, usize> = HashMap::new();
    for output in outputs {
        let text = vocabulary.decode(output);
        for len in PATTERN_LENS {
            for window in text.windows(len).filter(|window| window.iter().all(u8::is_ascii_graphic)) {
                *counts.entry(window.to_vec()).or_default() += 1;
            }
        }
    }
    let mut counted: Vec<(usize, Vec<u8>)> = counts.into_iter().map(|(text, count)| (count, text)).collect();
    counted.sort_unstable_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    counted.into_iter().step_by(PATTERN_STRIDE).take(num_patterns).map(|(_, text)| text).collect()
}

/// Places where a pattern stands, by looking everywhere.
fn num_leaks(vocabulary: &Vocabulary, outputs: &[Vec<u32>], patterns: &[Vec<u8>]) -> usize {
    let patterns: HashSet<&[u8]> = patterns.iter().map(Vec::as_slice).collect();
    let leaks = |text: &[u8]| -> usize {
        PATTERN_LENS.map(|len| text.windows(len).filter(|window| patterns.contains(window)).count()).sum()
    };
    outputs.iter().map(|output| leaks(&vocabulary.decode(output))).sum()
}

/// Follows outputs with and without the constraint side by side: once to warm up, once timed.
fn time_masks(
    vocabulary: &std::sync::Arc<Vocabulary>,
    ir: ConstraintIr,
    outputs: &[Vec<u32>],
) -> Result<[Times; 3], Box<dyn Error>> {
    let guide = Guide::new(vocabulary.clone(), GuideConfig::default())?;
    let (free, bound) = (guide.compile(&[])?, guide.compile(&[ir])?);
    let mut row = vec![0; num_words(vocabulary.num_rows())];
    let mut step = |matcher: &mut Matcher, token: u32| -> Result<Duration, Box<dyn Error>> {
        let begun = Instant::now();
        matcher.fill(&mut row)?;
        matcher.accept(token)?;
        Ok(begun.elapsed())
    };
    let mut times: [Vec<Duration>; 3] = Default::default();
    for is_timed in [false, true] {
        for output in outputs {
            let (mut free, mut bound) = (free.matcher(b"")?, bound.matcher(b"")?);
            for &token in output {
                let (without, with) = (step(&mut free, token)?, step(&mut bound, token)?);
                if is_timed && times[0].len() < NUM_TIMED_TOKENS {
                    times[0].push(without);
                    times[1].push(with);
                    times[2].push(with.saturating_sub(without));
                }
            }
        }
    }
    Ok(times.map(Times::of))
}
