//! How fast do weights come from a file to the device, and what share of the bus's speed is that?
//!
//! `cargo bench --bench load -- [--gpu N|UUID] [--shape tiny|1.3b|6.7b] [--runs COUNT] [LAYOUT...]`; a layout is `stored`,
//! which brings bf16 as it lies (a CPU computes with f32), or `q8_0`, which rounds on the way. A checkpoint of the shape is
//! written to the folder for temporary files (TMPDIR) first, so its pages are in memory: what is timed is not the disk.
//! The share is of what page-locked memory of as many bytes reaches in the same run, on a CPU of a plain copy.
#![allow(clippy::print_stdout, reason = "a bench prints its result")]

mod common;

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use ananke::kernels::gpu;
use ananke::model::{Device, LoadOptions, Quantization, WeightSource, load, open_gpu};
use safetensors::tensor::{Dtype, TensorView};

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let (mut device, mut shape, mut runs, mut layouts) = (Device::Cpu, None, 3, Vec::new());
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--gpu" => device = open_gpu(&value()?.parse()?)?,
            "--shape" => shape = Some(value()?),
            "--runs" => runs = value()?.parse::<usize>()?.max(1),
            "stored" => layouts.push(("stored", None)),
            "q8_0" => layouts.push(("q8_0", Some(Quantization::Q8_0))),
            other => return Err(format!("layout `{other}`; expected stored or q8_0").into()),
        }
    }
    if layouts.is_empty() {
        layouts = vec![("stored", None), ("q8_0", Some(Quantization::Q8_0))];
    }
    let shape = shape.unwrap_or_else(|| if device.is_cpu() { "tiny" } else { "1.3b" }.to_owned());
    let folder = tempfile::tempdir()?;
    let num_bytes = write_checkpoint(&shape, folder.path())?;
    let ceiling = match gpu::pinned_copy_rate(&device, num_bytes)? {
        Some(rate) => rate,
        None => plain_copy_rate(num_bytes),
    };
    println!("copy: {:.1} GB/s from the host to the device", ceiling / 1e9);
    println!("| shape | layout | run | GB read | s | GB/s | of copy |");
    println!("|---|---|---|---|---|---|---|");
    for (name, quantize) in layouts {
        for run in 1..=runs {
            let options = LoadOptions { device: device.clone(), quantize, ..LoadOptions::default() };
            let report = load(WeightSource::Path(folder.path()), &options)?.info().load;
            let (gigabytes, seconds, rate) =
                (report.num_bytes as f64 / 1e9, report.duration.as_secs_f64(), report.rate());
            let (rate, share) = (rate / 1e9, 100.0 * rate / ceiling);
            println!("| {shape} | {name} | {run} | {gigabytes:.2} | {seconds:.3} | {rate:.2} | {share:.0} % |");
        }
    }
    Ok(())
}

/// A folder with config.json and model.safetensors of a shape, in bf16; gives the bytes of its tensors.
fn write_checkpoint(shape: &str, folder: &Path) -> Outcome<usize> {
    let json = common::config_json(shape)?;
    let config: serde_json::Value = serde_json::from_str(&json)?;
    let count = |key: &str| config[key].as_u64().map(|count| count as usize).ok_or(format!("no `{key}`"));
    let (hidden, inner, vocab) = (count("hidden_size")?, count("intermediate_size")?, count("vocab_size")?);
    let mut tensors = vec![
        ("model.embed_tokens.weight".to_owned(), vec![vocab, hidden]),
        ("model.norm.weight".to_owned(), vec![hidden]),
        ("lm_head.weight".to_owned(), vec![vocab, hidden]),
    ];
    for layer in 0..count("num_hidden_layers")? {
        for (name, shape) in [
            ("input_layernorm", vec![hidden]),
            ("self_attn.q_proj", vec![hidden, hidden]),
            ("self_attn.k_proj", vec![hidden, hidden]),
            ("self_attn.v_proj", vec![hidden, hidden]),
            ("self_attn.o_proj", vec![hidden, hidden]),
            ("post_attention_layernorm", vec![hidden]),
            ("mlp.gate_proj", vec![inner, hidden]),
            ("mlp.up_proj", vec![inner, hidden]),
            ("mlp.down_proj", vec![hidden, inner]),
        ] {
            tensors.push((format!("model.layers.{layer}.{name}.weight"), shape));
        }
    }
    // All tensors have the same numbers, between 0.5 and 2: only bytes are looked at.
    let num_bytes = |shape: &[usize]| 2 * shape.iter().product::<usize>();
    let largest = tensors.iter().map(|(_, shape)| num_bytes(shape)).max().unwrap_or(0);
    let bytes: Vec<u8> = (0..largest / 2).flat_map(|i| [(i * 31 % 251) as u8, 0x3f]).collect();
    let view = |(name, shape): &(String, Vec<usize>)| {
        Ok::<_, Box<dyn Error>>((
            name.clone(),
            TensorView::new(Dtype::BF16, shape.clone(), &bytes[..num_bytes(shape)])?,
        ))
    };
    let views = tensors.iter().map(view).collect::<Result<Vec<_>, _>>()?;
    safetensors::serialize_to_file(views, None, &folder.join("model.safetensors"))?;
    std::fs::write(folder.join("config.json"), json)?;
    Ok(tensors.iter().map(|(_, shape)| num_bytes(shape)).sum())
}

/// Bytes per second that one thread copies with, into memory that has been written to before.
fn plain_copy_rate(num_bytes: usize) -> f64 {
    let (from, mut to) = (vec![1u8; num_bytes], vec![2u8; num_bytes]);
    let start = Instant::now();
    to.copy_from_slice(&from);
    let rate = num_bytes as f64 / start.elapsed().as_secs_f64();
    std::hint::black_box(to);
    rate
}
