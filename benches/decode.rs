//! How many tokens per second does a model of a given size decode, and what share of the memory's speed is that?
//!
//! `cargo bench --bench decode -- [--gpu N|UUID] [--steps COUNT] [CELL...]`; a cell is SHAPE/LAYOUT/BATCH/CONTEXT, such
//! as `1.3b/bf16/1/128`, with SHAPE one of `tiny`, `1.3b`, `6.7b` and LAYOUT one of `bf16`, `f32`, `q8_0`, `q4_0`, `q4k`,
//! `fp8`.
//! Weights are made up. A step runs one token per sequence at the same context and samples greedily under a mask that
//! allows all; it is timed on the host, with everything that a served token costs beside masks. The share counts
//! weights and KV cache, read once, against a copy in the same run.
//! On a GPU each cell runs launch by launch, as recorded graphs, and as recorded graphs with batch-invariant sums; the
//! column says what the steps did in the end.
#![allow(clippy::print_stdout, reason = "a bench prints its result")]

mod common;

use std::error::Error;
use std::time::Instant;

use ananke::kernels::sampling::{SamplingParams, SamplingRow};
use ananke::model::{
    Batch, Device, GraphConfig, KvCache, LanguageModel, LoadOptions, Pass, QuantLayout, WeightSource, load, open_gpu,
};
use candle_core::{DType, Tensor};

const BLOCK_LEN: usize = 16;
const WARM_UP: usize = 8;
/// What runs when no cell is named: on a GPU all, on the CPU a small one.
const GPU_CELLS: &[&str] = &[
    "1.3b/bf16/1/128",
    "1.3b/bf16/1/4096",
    "1.3b/bf16/1/16000",
    "1.3b/bf16/8/128",
    "1.3b/bf16/8/4096",
    "1.3b/bf16/64/128",
    "1.3b/bf16/64/4096",
    "1.3b/q8_0/1/128",
    "1.3b/q8_0/1/4096",
    "1.3b/q8_0/8/128",
    "1.3b/q8_0/64/128",
    "1.3b/q4_0/1/128",
    "1.3b/q4k/1/128",
    "1.3b/q4k/8/128",
    "1.3b/q4k/64/128",
    "6.7b/bf16/1/128",
    "6.7b/bf16/1/4096",
    "6.7b/bf16/1/16000",
    "6.7b/bf16/8/128",
    "6.7b/bf16/8/4096",
    "6.7b/bf16/64/128",
    "6.7b/q8_0/1/128",
    "6.7b/q8_0/1/4096",
    "6.7b/q8_0/8/128",
    "6.7b/q8_0/64/128",
    "6.7b/q4_0/1/128",
    "6.7b/q4_0/8/128",
    "6.7b/q4k/1/128",
    "6.7b/q4k/8/128",
    "6.7b/q4k/64/128",
];
const CPU_CELLS: &[&str] = &["tiny/f32/1/128", "tiny/q8_0/4/256"];

type Outcome<T> = Result<T, Box<dyn Error>>;

#[derive(Clone, Debug, PartialEq)]
struct Cell {
    shape: String,
    layout: QuantLayout,
    batch: usize,
    context: usize,
}

impl Cell {
    fn parse(text: &str) -> Outcome<Self> {
        let [shape, layout, batch, context] = text.split('/').collect::<Vec<_>>()[..] else {
            return Err(format!("cell `{text}`; expected SHAPE/LAYOUT/BATCH/CONTEXT").into());
        };
        let layout = match layout {
            "bf16" => QuantLayout::BF16,
            "f32" => QuantLayout::F32,
            "q8_0" => QuantLayout::Q8_0,
            "q4_0" => QuantLayout::Q4_0,
            "q4k" => QuantLayout::Q4K,
            "fp8" => QuantLayout::F8E4M3,
            other => return Err(format!("layout `{other}`; expected bf16, f32, q8_0, q4_0, q4k or fp8").into()),
        };
        Ok(Self { shape: shape.to_owned(), layout, batch: batch.parse()?, context: context.parse()? })
    }
}

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let (mut device, mut steps, mut cells) = (Device::Cpu, 64, Vec::new());
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--gpu" => device = open_gpu(&value()?.parse()?)?,
            "--steps" => steps = value()?.parse()?,
            cell => cells.push(Cell::parse(cell)?),
        }
    }
    if cells.is_empty() {
        let default = if device.is_cpu() { CPU_CELLS } else { GPU_CELLS };
        cells = default.iter().map(|cell| Cell::parse(cell)).collect::<Result<_, _>>()?;
    }
    let copy_rate = copy_rate(&device)?;
    println!("copy: {:.0} GB/s read and written", copy_rate / 1e9);
    println!("| shape | layout | batch | context | steps | tok/s | ms per step | GB per step | of copy |");
    println!("|---|---|---|---|---|---|---|---|---|");
    for cells in cells.chunk_by(|a, b| (&a.shape, a.layout) == (&b.shape, b.layout)) {
        let config = common::config_json(&cells[0].shape)?;
        let graphs = Some(GraphConfig::default());
        let mut modes = vec![(None, false), (graphs.clone(), false), (graphs, true)];
        modes.truncate(if device.is_cpu() { 1 } else { modes.len() });
        for (graphs, batch_invariant) in modes {
            let layout = Some(cells[0].layout);
            let device = device.clone();
            let options = LoadOptions { device, layout, graphs, batch_invariant, ..LoadOptions::default() };
            // One model at a time: two need not fit.
            let mut model = load(WeightSource::Dummy { config_json: config.as_bytes() }, &options)?;
            for cell in cells {
                let (seconds, pass) = seconds_per_step(&mut *model, cell, steps)?;
                let info = model.info();
                let bytes = info.weight_bytes + cell.batch * cell.context * info.kv.bytes_per_token();
                let share = 100.0 * bytes as f64 / seconds / copy_rate;
                let Cell { shape, layout, batch, context } = cell;
                let (rate, millis, gigabytes) = (*batch as f64 / seconds, seconds * 1e3, bytes as f64 / 1e9);
                println!(
                    "| {shape} | {layout:?} | {batch} | {context} | {} | {rate:.0} | {millis:.3} | {gigabytes:.2} | {share:.0} % |",
                    name(pass, batch_invariant)
                );
            }
        }
    }
    Ok(())
}

/// How steps ran, for people.
fn name(pass: Pass, batch_invariant: bool) -> String {
    let how = match pass {
        Pass::Cpu => "CPU".into(),
        Pass::Replayed => "graph".into(),
        Pass::Eager(reason) => format!("eager ({})", reason.as_str()),
    };
    if batch_invariant { how + ", batch-invariant" } else { how }
}

/// The median of `steps` steps, and how the last one ran.
fn seconds_per_step(model: &mut dyn LanguageModel, cell: &Cell, steps: usize) -> Outcome<(f64, Pass)> {
    let info = model.info().clone();
    let blocks_each = cell.context.div_ceil(BLOCK_LEN);
    let mut cache = KvCache::new(&info.kv, cell.batch * blocks_each, BLOCK_LEN, &info.device)?;
    let mut batch = Batch::default();
    for i in 0..cell.batch {
        let table: Vec<u32> = (0..blocks_each).map(|block| (block * cell.batch + i) as u32).collect();
        batch.push(&[(i * 7919 % info.vocab_len) as u32], cell.context - 1, &table, BLOCK_LEN, 1);
    }
    let params = SamplingParams { temperature: 0.0, ..SamplingParams::default() };
    let mask = vec![u32::MAX; info.vocab_len.div_ceil(32)];
    let row = SamplingRow {
        mask: &mask,
        bias: &[],
        params: &params,
        output_counts: &[],
        prompt_ids: &[],
        seed: 1,
        choice: 0,
        position: 0,
        num_logprobs: None,
    };
    let (mut times, mut pass) = (Vec::with_capacity(steps), Pass::Cpu);
    for step in 0..WARM_UP + steps.max(1) {
        let start = Instant::now();
        let logits = model.forward(&batch, &mut cache)?;
        for token in logits.sample((0..cell.batch).map(|i| (i, &row)))? {
            token?;
        }
        pass = logits.pass();
        if step >= WARM_UP {
            times.push(start.elapsed().as_secs_f64());
        }
    }
    times.sort_by(f64::total_cmp);
    Ok((times[times.len() / 2], pass))
}

/// Bytes per second that a large copy reads and writes.
fn copy_rate(device: &Device) -> Outcome<f64> {
    let bytes = if device.is_cpu() { 256 << 20 } else { 2 << 30 };
    let from = Tensor::rand(-1f32, 1f32, bytes / 4, device)?;
    let to = Tensor::zeros(bytes / 4, DType::F32, device)?;
    let mut fastest = f64::INFINITY;
    for _ in 0..10 {
        device.synchronize()?;
        let start = Instant::now();
        to.slice_set(&from, 0, 0)?;
        device.synchronize()?;
        fastest = fastest.min(start.elapsed().as_secs_f64());
    }
    Ok(2.0 * bytes as f64 / fastest)
}
