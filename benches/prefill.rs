//! How many tokens per second does a model of a given size prefill, from an empty cache?
//!
//! `cargo bench --bench prefill -- [--gpu N|UUID] [--shape tiny|1.3b|6.7b] [LENGTH[/STEP]...]`; a prompt of LENGTH
//! tokens runs in steps of STEP, by default as many as the engine puts into one, and ends with the last token's logits
//! on the host. `-` in place of a LENGTH reads such words from standard input, one a line, and answers each at once, so
//! that another program can take turns with this one (scripts/gpu_peers.py). `--config SHAPE` prints the shape's
//! config.json and ends. Weights are made up: bf16, which a CPU computes with as f32.
#![allow(clippy::print_stdout, reason = "a bench prints its result")]

mod common;

use std::error::Error;
use std::io::Write;
use std::str::FromStr;
use std::time::Instant;

use ananke::engine::EngineConfig;
use ananke::model::{Batch, Device, KvCache, LanguageModel, LoadOptions, WeightSource, load, open_gpu};

const BLOCK_LEN: usize = 16;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let (mut device, mut shape, mut prompts) = (Device::Cpu, "tiny".to_owned(), Vec::new());
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--config" => {
                println!("{}", common::config_json(&value()?)?);
                return Ok(());
            }
            "--gpu" => device = open_gpu(&value()?.parse()?)?,
            "--shape" => shape = value()?,
            prompt => prompts.push(prompt.to_owned()),
        }
    }
    if prompts.is_empty() {
        prompts = ["512", "4096", "16384"].map(str::to_owned).to_vec();
    }
    let config = common::config_json(&shape)?;
    let options = LoadOptions { device, ..LoadOptions::default() };
    let mut model = load(WeightSource::Dummy { config_json: config.as_bytes() }, &options)?;
    for prompt in prompts {
        match prompt.as_str() {
            "-" => std::io::stdin().lines().try_for_each(|line| report(&mut *model, line?.parse()?))?,
            prompt => {
                // Once to warm up.
                seconds(&mut *model, prompt.parse()?)?;
                report(&mut *model, prompt.parse()?)?;
            }
        }
    }
    Ok(())
}

/// How much is computed, and in which pieces.
#[derive(Clone, Copy)]
struct Prompt {
    num_tokens: usize,
    step_len: usize,
}

impl FromStr for Prompt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (num_tokens, step_len) = match text.trim().split_once('/') {
            Some((num_tokens, step_len)) => (num_tokens.parse(), step_len.parse()),
            None => (text.trim().parse(), Ok(EngineConfig::default().num_batched_tokens_max)),
        };
        match (num_tokens, step_len) {
            (Ok(num_tokens), Ok(step_len)) if num_tokens > 0 && step_len > 0 => Ok(Self { num_tokens, step_len }),
            _ => Err(format!("prompt `{text}`; expected LENGTH or LENGTH/STEP, such as 4096/512")),
        }
    }
}

fn report(model: &mut dyn LanguageModel, prompt: Prompt) -> Outcome<()> {
    let seconds = seconds(model, prompt)?;
    let Prompt { num_tokens, step_len } = prompt;
    println!("{num_tokens} tokens in steps of {step_len}: {seconds:.6} s, {:.1} tok/s", num_tokens as f64 / seconds);
    Ok(std::io::stdout().flush()?)
}

/// Seconds of one prompt.
fn seconds(model: &mut dyn LanguageModel, prompt: Prompt) -> Outcome<f64> {
    let Prompt { num_tokens, step_len } = prompt;
    let info = model.info().clone();
    if num_tokens > info.context_len {
        return Err(format!("{num_tokens} tokens; expected at most {}", info.context_len).into());
    }
    let num_blocks = num_tokens.div_ceil(BLOCK_LEN);
    let mut cache = KvCache::new(&info.kv, num_blocks, BLOCK_LEN, &info.device)?;
    let ids: Vec<u32> = (0..num_tokens).map(|i| (i * 7919 % info.vocab_len) as u32).collect();
    let table: Vec<u32> = (0..num_blocks as u32).collect();
    info.device.synchronize()?;
    let start = Instant::now();
    let mut last = Vec::new();
    for (step_idx, ids) in ids.chunks(step_len).enumerate() {
        let mut batch = Batch::default();
        batch.push(ids, step_idx * step_len, &table, BLOCK_LEN, 1);
        last = model.forward(&batch, &mut cache)?.to_cpu()?;
    }
    let seconds = start.elapsed().as_secs_f64();
    if !last.iter().all(|logit| logit.is_finite()) {
        return Err("the logits are not finite".into());
    }
    Ok(seconds)
}
