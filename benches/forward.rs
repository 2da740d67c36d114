//! How many tokens per second does a model prefill and decode, alone on the machine?
//!
//! `cargo bench --bench forward -- [MODEL] [LAYOUT]`; MODEL is a path (default: SmolLM2 as scripts/fetch_model.sh
//! brings it), LAYOUT one of `stored`, `f32`, `q8_0`, `q4_0` (default: `stored`). Prefills 512 tokens in one step,
//! then decodes 128 more one at a time; prints the best of three runs of each, in tokens per second.
#![allow(clippy::print_stdout, reason = "a bench prints its result")]

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use ananke::model::{Batch, KvCache, LanguageModel, LoadOptions, QuantLayout, WeightSource, load};

const PREFILL: usize = 512;
const DECODE: usize = 128;
const BLOCK_LEN: usize = 16;
const RUNS: usize = 3;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let path = arguments.first().map_or("models/smollm2-135m", String::as_str);
    let layout = match arguments.get(1).map_or("stored", String::as_str) {
        "stored" => None,
        "f32" => Some(QuantLayout::F32),
        "q8_0" => Some(QuantLayout::Q8_0),
        "q4_0" => Some(QuantLayout::Q4_0),
        other => return Err(format!("layout `{other}`; expected stored, f32, q8_0 or q4_0").into()),
    };
    let start = Instant::now();
    let mut model = load(WeightSource::Path(Path::new(path)), &LoadOptions { layout, ..LoadOptions::default() })?;
    println!("{path}, {layout:?}: loaded in {:.2} s, {} weight bytes", seconds(start), model.info().weight_bytes);
    let num_blocks = (PREFILL + DECODE).div_ceil(BLOCK_LEN);
    let mut cache = KvCache::new(&model.info().kv, num_blocks, BLOCK_LEN, &model.info().device)?;
    let (mut prefill, mut decode) = (0f64, 0f64);
    for _ in 0..RUNS {
        let start = Instant::now();
        run(&mut *model, &mut cache, PREFILL, 0)?;
        prefill = prefill.max(PREFILL as f64 / seconds(start));
        let start = Instant::now();
        for num_computed in PREFILL..PREFILL + DECODE {
            run(&mut *model, &mut cache, 1, num_computed)?;
        }
        decode = decode.max(DECODE as f64 / seconds(start));
    }
    println!("prefill {prefill:.1} tok/s, decode {decode:.1} tok/s");
    Ok(())
}

fn run(
    model: &mut dyn LanguageModel,
    cache: &mut KvCache,
    num_tokens: usize,
    num_computed: usize,
) -> Result<(), Box<dyn Error>> {
    let vocab_len = model.info().vocab_len;
    let ids: Vec<u32> = (0..num_tokens).map(|i| ((num_computed + i) * 7919 % vocab_len) as u32).collect();
    let blocks: Vec<u32> = (0..(num_computed + num_tokens).div_ceil(BLOCK_LEN) as u32).collect();
    let mut batch = Batch::default();
    batch.push(&ids, num_computed, &blocks, BLOCK_LEN, 1);
    model.forward(&batch, cache)?.to_cpu()?;
    Ok(())
}

fn seconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64()
}
