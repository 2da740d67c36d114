//! How close does each kernel come to the memory's speed?
//!
//! `cargo bench --bench kernels -- [--gpu N|UUID] [--runs COUNT]`; on the CPU without `--gpu`. Prints per case the
//! fastest run in microseconds, the bytes that must be moved (`kernels/README.md`), GB/s, and the share of what a copy
//! reaches on the same device in the same run. Inputs of one case are larger than the caches, or rotate.
#![allow(clippy::print_stdout, reason = "a bench prints its result")]

use std::error::Error;
use std::time::Instant;

use ananke::kernels::{
    self, BatchSequence, BlockFormat, ExpertChoice, ExpertScaling, MlaAttention, PagedAttention, PairGroups, PlanCell,
    PlanarBlocks, StagingConfig, Uploader,
};
use ananke::model::{Device, open_gpu};
use candle_core::{DType, Tensor};

/// Copies of an operand that runs rotate among, so that caches do not answer: together at least this many bytes.
const ROTATED_BYTES: usize = 256 << 20;
/// Launches per run: together long enough for the clock of the host.
const LAUNCHES: usize = 32;

type Outcome<T> = Result<T, Box<dyn Error>>;

struct Bench {
    device: Device,
    runs: usize,
    copy_rate: f64,
}

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let value = |flag: &str| arguments.iter().position(|argument| argument == flag).and_then(|i| arguments.get(i + 1));
    let device = match value("--gpu") {
        Some(gpu) => open_gpu(&gpu.parse()?)?,
        None => Device::Cpu,
    };
    let runs = value("--runs").map_or(Ok(10), |runs| runs.parse())?;
    let copy_rate = copy_rate(&device, runs)?;
    println!("copy: {:.0} GB/s read and written", copy_rate / 1e9);
    println!("| kernel | us | MB | GB/s | of copy |\n|---|---|---|---|---|");
    let bench = Bench { device, runs, copy_rate };
    bench.products()?;
    bench.blocks()?;
    bench.attention()?;
    bench.grouped()?;
    bench.latents()?;
    bench.experts()?;
    bench.rows()
}

impl Bench {
    fn random(&self, rows: usize, width: usize, dtype: DType) -> Outcome<Tensor> {
        Ok(Tensor::rand(-1f32, 1f32, (rows, width), &self.device)?.to_dtype(dtype)?)
    }

    /// As many equal operands as rotation takes, at most 64.
    fn rotated(&self, rows: usize, width: usize, dtype: DType) -> Outcome<Vec<Tensor>> {
        let bytes = rows * width * dtype.size_in_bytes();
        let count = ROTATED_BYTES.div_ceil(bytes).clamp(1, 64);
        (0..count).map(|_| self.random(rows, width, dtype)).collect()
    }

    /// On the CPU only what has a CPU body: f32.
    fn weight_types(&self) -> &'static [DType] {
        if self.device.is_cpu() { &[DType::F32] } else { &[DType::F32, DType::BF16] }
    }

    fn report(&self, name: &str, bytes: usize, run: impl Fn(usize) -> Outcome<()>) -> Outcome<()> {
        let seconds = fastest(&self.device, self.runs, run)?;
        let rate = bytes as f64 / seconds;
        let (micros, megabytes) = (seconds * 1e6, bytes as f64 / 1e6);
        println!(
            "| {name} | {micros:.1} | {megabytes:.1} | {:.0} | {:.0} % |",
            rate / 1e9,
            100.0 * rate / self.copy_rate
        );
        Ok(())
    }

    fn products(&self) -> Outcome<()> {
        for (inputs, outputs) in [(2048, 2048), (4096, 4096), (4096, 22_016)] {
            for &dtype in self.weight_types() {
                let weights = self.rotated(outputs, inputs, dtype)?;
                for rows in [1, 4, 8, 64] {
                    let xs = self.random(rows, inputs, DType::F32)?;
                    let bytes = outputs * inputs * dtype.size_in_bytes();
                    self.report(&format!("matmul {dtype:?} {rows} x {inputs} x {outputs}"), bytes, |i| {
                        kernels::matmul(&xs, &weights[i % weights.len()])?;
                        Ok(())
                    })?;
                }
            }
        }
        Ok(())
    }

    fn blocks(&self) -> Outcome<()> {
        if self.device.is_cpu() {
            // `block_matmul` is the CPU's product; benches/forward.rs measures it.
            return Ok(());
        }
        let (inputs, outputs) = (4096, 22_016);
        for (format, name) in [(BlockFormat::Q8_0, "Q8_0"), (BlockFormat::Q4_0, "Q4_0"), (BlockFormat::Q4_1, "Q4_1")] {
            let bytes = vec![0x2cu8; outputs * inputs / 32 * format.block_bytes()];
            let uploader = Uploader::new(&self.device, &StagingConfig::default())?;
            let make = |_| PlanarBlocks::new(&bytes, format, outputs, inputs, &uploader);
            let weights: Vec<PlanarBlocks> =
                (0..4).map(make).collect::<Result<Option<Vec<_>>, _>>()?.ok_or("the size is wrong")?;
            for rows in [1, 4, 8, 64] {
                let xs = self.random(rows, inputs, DType::F32)?;
                self.report(
                    &format!("planar_matmul {name} {rows} x {inputs} x {outputs}"),
                    weights[0].num_bytes(),
                    |i| {
                        kernels::planar_matmul(&xs, &weights[i % weights.len()])?;
                        Ok(())
                    },
                )?;
            }
        }
        Ok(())
    }

    /// The first products of DeepSeek-V2-Lite's mixtures: six of 64 experts, spread evenly. A call sorts its pairs too.
    fn grouped(&self) -> Outcome<()> {
        const NUM_EXPERTS: usize = 64;
        const NUM_CHOSEN: usize = 6;
        let (inputs, outputs) = (2048, 2816);
        let choose = |rows: usize| -> Outcome<(Tensor, usize)> {
            let ids = (0..rows * NUM_CHOSEN).map(|pair| (pair % NUM_EXPERTS) as u32).collect();
            let ids = Tensor::from_vec(ids, (rows, NUM_CHOSEN), &self.device)?;
            Ok((ids, NUM_EXPERTS.min(rows * NUM_CHOSEN)))
        };
        for &dtype in self.weight_types() {
            let weights = self.random(NUM_EXPERTS * outputs, inputs, dtype)?;
            for rows in [1, 4, 8, 64, 512] {
                let xs = self.random(rows, inputs, DType::F32)?;
                let (ids, num_read) = choose(rows)?;
                let bytes = num_read * outputs * inputs * dtype.size_in_bytes();
                self.report(
                    &format!("grouped_matmul {dtype:?} {rows} x 6 of 64 x {inputs} x {outputs}"),
                    bytes,
                    |_| {
                        kernels::grouped_matmul(&xs, &weights, &PairGroups::new(ids.clone(), NUM_EXPERTS)?)?;
                        Ok(())
                    },
                )?;
            }
        }
        if self.device.is_cpu() {
            // `grouped_block_matmul` is the CPU's product; benches/forward.rs measures it.
            return Ok(());
        }
        for (format, name) in [(BlockFormat::Q8_0, "Q8_0"), (BlockFormat::Q4_0, "Q4_0")] {
            let stacked = NUM_EXPERTS * outputs;
            let bytes = vec![0x2cu8; stacked * inputs / 32 * format.block_bytes()];
            let uploader = Uploader::new(&self.device, &StagingConfig::default())?;
            let weights = PlanarBlocks::new(&bytes, format, stacked, inputs, &uploader)?.ok_or("the size is wrong")?;
            for rows in [1, 4, 8, 64, 512] {
                let xs = self.random(rows, inputs, DType::F32)?;
                let (ids, num_read) = choose(rows)?;
                let bytes = weights.num_bytes() / NUM_EXPERTS * num_read;
                self.report(
                    &format!("grouped_planar_matmul {name} {rows} x 6 of 64 x {inputs} x {outputs}"),
                    bytes,
                    |_| {
                        kernels::grouped_planar_matmul(&xs, &weights, &PairGroups::new(ids.clone(), NUM_EXPERTS)?)?;
                        Ok(())
                    },
                )?;
            }
        }
        Ok(())
    }

    /// DeepSeek-V2-Lite's attention: 16 heads over latents of 512 and rotary parts of 64.
    fn latents(&self) -> Outcome<()> {
        const BLOCK_LEN: usize = 16;
        let (num_heads, latent, rope) = (16, 512, 64);
        for (num_seqs, query_len, context_len) in [(1, 1, 4096), (8, 1, 4096), (64, 1, 4096), (1, 512, 4096)] {
            let blocks_each = context_len / BLOCK_LEN;
            let sequences: Vec<BatchSequence> = (0..num_seqs)
                .map(|i| BatchSequence {
                    query_start: i * query_len,
                    query_len,
                    context_len,
                    block_table: (0..blocks_each as u32).map(|block| block + (i * blocks_each) as u32).collect(),
                })
                .collect();
            for &dtype in self.weight_types() {
                let (slots, rows) = (num_seqs * context_len, num_seqs * query_len);
                let planes = self.rotated(slots, latent + rope, dtype)?;
                let q_latent = self.random(rows * num_heads, latent, DType::F32)?;
                let q_rope = self.random(rows, num_heads * rope, DType::F32)?;
                let plan = PlanCell::default();
                let layout = MlaAttention { sequences: &sequences, block_len: BLOCK_LEN, num_heads, scale: 0.07, plan };
                let name =
                    format!("mla_attention {dtype:?} {num_seqs} x {query_len} of {context_len}, {num_heads} heads");
                let bytes = slots * (latent + rope) * dtype.size_in_bytes();
                self.report(&name, bytes, |i| {
                    kernels::mla_attention(&q_latent, &q_rope, &planes[i % planes.len()], &layout)?;
                    Ok(())
                })?;
            }
        }
        Ok(())
    }

    /// What is around the products of a mixture: the choice of six among 64, their weights, and the sum of their
    /// answers.
    fn experts(&self) -> Outcome<()> {
        let choice = ExpertChoice { num_chosen: 6, num_groups: 1, num_open_groups: 1 };
        let scaling = ExpertScaling { normalize: false, factor: 1.0 };
        for rows in [1, 512] {
            let scores = self.rotated(rows, 64, DType::F32)?;
            self.report(&format!("choose_experts {rows} x 6 of 64"), 4 * rows * (64 + 6), |i| {
                kernels::choose_experts(&scores[i % scores.len()], choice)?;
                Ok(())
            })?;
            let ids = kernels::choose_experts(&scores[0], choice)?;
            self.report(&format!("expert_weights {rows} x 6 of 64"), 4 * rows * (64 + 2 * 6), |i| {
                kernels::expert_weights(&scores[i % scores.len()], &ids, scaling)?;
                Ok(())
            })?;
            let (ys, weights) = (self.rotated(rows * 6, 2048, DType::F32)?, self.random(rows, 6, DType::F32)?);
            self.report(&format!("weighted_sum {rows} x 6 x 2048"), 4 * rows * (6 * 2048 + 6 + 2048), |i| {
                kernels::weighted_sum(&ys[i % ys.len()], &weights)?;
                Ok(())
            })?;
        }
        Ok(())
    }

    fn attention(&self) -> Outcome<()> {
        const BLOCK_LEN: usize = 16;
        for (num_heads, num_kv_heads, head_dim) in [(16, 16, 128), (32, 8, 128)] {
            for (num_seqs, query_len, context_len) in [(1, 1, 4096), (8, 1, 4096), (64, 1, 4096), (1, 512, 4096)] {
                let blocks_each = context_len / BLOCK_LEN;
                let sequences: Vec<BatchSequence> = (0..num_seqs)
                    .map(|i| BatchSequence {
                        query_start: i * query_len,
                        query_len,
                        context_len,
                        block_table: (0..blocks_each as u32).map(|block| block + (i * blocks_each) as u32).collect(),
                    })
                    .collect();
                for &dtype in self.weight_types() {
                    let kv_width = num_kv_heads * head_dim;
                    let slots = num_seqs * context_len;
                    let (keys, values) = (self.rotated(slots, kv_width, dtype)?, self.rotated(slots, kv_width, dtype)?);
                    let q = self.random(num_seqs * query_len, num_heads * head_dim, DType::F32)?;
                    let layout = PagedAttention {
                        sequences: &sequences,
                        block_len: BLOCK_LEN,
                        num_heads,
                        num_kv_heads,
                        scale: 1.0 / (head_dim as f32).sqrt(),
                        plan: PlanCell::default(),
                    };
                    let name = format!(
                        "paged_attention {dtype:?} {num_seqs} x {query_len} of {context_len}, {num_heads}/{num_kv_heads} heads"
                    );
                    let bytes = 2 * slots * kv_width * dtype.size_in_bytes();
                    self.report(&name, bytes, |i| {
                        kernels::paged_attention(&q, &keys[i % keys.len()], &values[i % values.len()], &layout)?;
                        Ok(())
                    })?;
                }
            }
        }
        Ok(())
    }

    fn rows(&self) -> Outcome<()> {
        for (rows, width) in [(1, 4096), (2048, 4096)] {
            let xs = self.rotated(rows, width, DType::F32)?;
            let gate_up = self.rotated(rows, 2 * width, DType::F32)?;
            let weight = Tensor::ones(width, DType::F32, &self.device)?;
            self.report(&format!("rms_norm {rows} x {width}"), 8 * rows * width, |i| {
                kernels::rms_norm(&xs[i % xs.len()], &weight, 1e-5)?;
                Ok(())
            })?;
            self.report(&format!("silu_mul {rows} x {width}"), 12 * rows * width, |i| {
                kernels::silu_mul(&gate_up[i % gate_up.len()])?;
                Ok(())
            })?;
            let ys = self.random(rows, width, DType::F32)?;
            self.report(&format!("add_assign {rows} x {width}"), 12 * rows * width, |i| {
                kernels::add_assign(&ys, &xs[i % xs.len()])?;
                Ok(())
            })?;
        }
        Ok(())
    }
}

/// Bytes per second that a large copy reads and writes.
fn copy_rate(device: &Device, runs: usize) -> Outcome<f64> {
    let bytes = if device.is_cpu() { 256 << 20 } else { 2 << 30 };
    let from = Tensor::rand(-1f32, 1f32, bytes / 4, device)?;
    let to = Tensor::zeros(bytes / 4, DType::F32, device)?;
    let seconds = fastest(device, runs, |_| Ok(to.slice_set(&from, 0, 0)?))?;
    Ok(2.0 * bytes as f64 / seconds)
}

/// Seconds of one launch in the fastest of `runs` runs, after one to warm up.
fn fastest(device: &Device, runs: usize, run: impl Fn(usize) -> Outcome<()>) -> Outcome<f64> {
    let launches = if device.is_cpu() { 1 } else { LAUNCHES };
    run(0)?;
    device.synchronize()?;
    let mut fastest = f64::INFINITY;
    for _ in 0..runs {
        let start = Instant::now();
        (0..launches).try_for_each(&run)?;
        device.synchronize()?;
        fastest = fastest.min(start.elapsed().as_secs_f64() / launches as f64);
    }
    Ok(fastest)
}
