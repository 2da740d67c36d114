//! A GPU computes what the CPU computes: whole models, in f32, and the ids that are sampled from their logits.
//!
//! Without the feature `cuda` there is nothing here; without a GPU the tests have nothing to compare and say so, unless
//! ANANKE_REQUIRE_GPU is set, as scripts/gpu_check.sh does: then its absence is a failure.
#![cfg(feature = "cuda")]

use std::error::Error;
use std::path::Path;

use ananke::model::{
    Batch, Device, GpuId, GraphConfig, KvCache, LoadOptions, Pass, QuantLayout, WeightSource, load, open_gpu,
};

const BLOCK_LEN: usize = 16;
/// Largest difference of logits over the largest logit, between a CPU and a GPU in f32.
const TOLERANCE: f32 = 1e-4;

fn gpu() -> Option<Device> {
    match open_gpu(&GpuId::Index(0)) {
        Ok(gpu) => Some(gpu),
        Err(error) => {
            assert!(std::env::var_os("ANANKE_REQUIRE_GPU").is_none(), "{error}");
            eprintln!("nothing was compared: {error}");
            None
        }
    }
}

/// Logits of a prompt in two chunks and of decode steps, one row per token.
fn logits(
    source: WeightSource<'_>,
    device: &Device,
    layout: Option<QuantLayout>,
) -> Result<Vec<Vec<f32>>, Box<dyn Error>> {
    let mut model = load(source, &LoadOptions { device: device.clone(), layout, ..LoadOptions::default() })?;
    let vocab_len = model.info().vocab_len;
    let ids: Vec<u32> = (0..90).map(|i| (i * 7919 % vocab_len) as u32).collect();
    // Blocks out of order, with a stranger between.
    let table = [5u32, 0, 7, 2, 1, 4];
    let mut cache = KvCache::new(&model.info().kv, 8, BLOCK_LEN, device)?;
    let mut rows = Vec::new();
    let mut first = 0;
    for len in [50, 25, 1, 1, 3, 1, 9] {
        let mut batch = Batch::default();
        batch.push(&ids[first..first + len], first, &table, BLOCK_LEN, len);
        let values = model.forward(&batch, &mut cache)?.to_cpu()?;
        rows.extend(values.chunks_exact(vocab_len).map(<[f32]>::to_vec));
        first += len;
    }
    Ok(rows)
}

fn best_two(row: &[f32]) -> (usize, f32) {
    let best = (0..row.len()).fold(0, |best, id| if row[id] > row[best] { id } else { best });
    let second = (0..row.len()).filter(|&id| id != best).map(|id| row[id]).fold(f32::NEG_INFINITY, f32::max);
    (best, row[best] - second)
}

fn compare(source: WeightSource<'_>, layout: Option<QuantLayout>, tolerance: f32) -> Result<(), Box<dyn Error>> {
    let Some(gpu) = gpu() else { return Ok(()) };
    let expected = logits(source, &Device::Cpu, layout)?;
    let found = logits(source, &gpu, layout)?;
    assert_eq!(found.len(), expected.len());
    for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
        let largest = expected.iter().fold(0f32, |largest, y| largest.max(y.abs()));
        let worst =
            found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0f32, |worst, difference| {
                if difference.is_nan() { f32::INFINITY } else { worst.max(difference) }
            });
        assert!(worst <= tolerance * largest, "token {i}: off by {worst} of {largest}");
        let ((best, lead), (found, _)) = (best_two(expected), best_two(found));
        assert!(best == found || lead <= 2.0 * tolerance * largest, "token {i}: id {found} for {best}, {lead} ahead");
    }
    Ok(())
}

#[test]
fn the_embedded_models_logits_are_the_cpus_in_f32() -> Result<(), Box<dyn Error>> {
    compare(WeightSource::Path(Path::new("models/ananke-nano")), Some(QuantLayout::F32), TOLERANCE)
}

/// In bf16 as it is stored: activations of many rows and the KV cache are rounded too.
#[test]
fn the_embedded_models_logits_are_close_to_the_cpus_in_bf16() -> Result<(), Box<dyn Error>> {
    compare(WeightSource::Path(Path::new("models/ananke-nano")), None, 5e-2)
}

#[test]
fn smollm2s_logits_are_the_cpus_in_f32() -> Result<(), Box<dyn Error>> {
    let folder = Path::new("models/smollm2-135m");
    if !folder.is_dir() {
        eprintln!("nothing was compared: scripts/fetch_model.sh smollm2 has not run");
        return Ok(());
    }
    compare(WeightSource::Path(folder), Some(QuantLayout::F32), TOLERANCE)
}

#[test]
fn made_up_weights_of_every_layout_give_the_cpus_logits() -> Result<(), Box<dyn Error>> {
    let config = br#"{"model_type": "llama", "vocab_size": 1000, "hidden_size": 512, "intermediate_size": 768,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256,
        "rms_norm_eps": 1e-6, "rope_theta": 10000, "tie_word_embeddings": false}"#;
    let source = WeightSource::Dummy { config_json: config };
    compare(source, Some(QuantLayout::F32), TOLERANCE)?;
    use QuantLayout::{BF16, F8E4M3, Q4_0, Q4K, Q8_0};
    for layout in [BF16, Q8_0, Q4_0, Q4K, F8E4M3] {
        compare(source, Some(layout), 5e-2)?;
    }
    Ok(())
}

/// A DeepSeek-V2 of these widths (hidden, heads, latent, the queries' latent or 0) with the experts that `choice` says.
/// Every row is a whole number of the longest blocks.
fn deepseek_v2([hidden, heads, latent, q_rank]: [usize; 4], choice: &str) -> String {
    let q_rank = if q_rank == 0 { "null".to_owned() } else { q_rank.to_string() };
    format!(
        r#"{{"model_type": "deepseek_v2", "vocab_size": 1000, "hidden_size": {hidden}, "intermediate_size": 512,
            "moe_intermediate_size": 256, "num_hidden_layers": 3, "first_k_dense_replace": 1, "n_shared_experts": 2,
            "num_attention_heads": {heads}, "num_key_value_heads": {heads}, "q_lora_rank": {q_rank},
            "kv_lora_rank": {latent}, "qk_nope_head_dim": 256, "qk_rope_head_dim": 64, "v_head_dim": 128,
            "norm_topk_prob": false, "max_position_embeddings": 512, "rms_norm_eps": 1e-6, "rope_theta": 10000,
            "tie_word_embeddings": false, {choice}}}"#
    )
}

const SIX_OF_64: &str = r#""n_routed_experts": 64, "num_experts_per_tok": 6, "routed_scaling_factor": 1.0,
    "topk_method": "greedy", "n_group": 1, "topk_group": 1"#;
const IN_GROUPS: &str = r#""n_routed_experts": 16, "num_experts_per_tok": 3, "routed_scaling_factor": 2.0,
    "topk_method": "group_limited_greedy", "n_group": 4, "topk_group": 2"#;
/// Where all are chosen, rounding the scores sends no token to other experts.
const ALL: &str = r#""n_routed_experts": 4, "num_experts_per_tok": 4, "routed_scaling_factor": 1.0,
    "topk_method": "greedy", "n_group": 1, "topk_group": 1"#;

#[test]
fn deepseek_v2s_logits_are_the_cpus_in_f32() -> Result<(), Box<dyn Error>> {
    for config in [deepseek_v2([512, 16, 512, 0], SIX_OF_64), deepseek_v2([256, 3, 128, 64], IN_GROUPS)] {
        let source = WeightSource::Dummy { config_json: config.as_bytes() };
        compare(source, Some(QuantLayout::F32), TOLERANCE)?;
    }
    Ok(())
}

#[test]
fn deepseek_v2s_logits_are_close_to_the_cpus_in_every_layout() -> Result<(), Box<dyn Error>> {
    let config = deepseek_v2([512, 16, 512, 0], ALL);
    for layout in [QuantLayout::BF16, QuantLayout::Q8_0, QuantLayout::Q4_0, QuantLayout::Q4K] {
        compare(WeightSource::Dummy { config_json: config.as_bytes() }, Some(layout), 5e-2)?;
    }
    Ok(())
}

/// All rows of each step, one after the other.
type LogitsOfSteps = Vec<Vec<f32>>;

/// Logits of decode steps of so many sequences each, whose contexts grow over the first sizes; and how steps ran.
fn decoded(
    source: WeightSource<'_>,
    steps: [usize; 12],
    device: &Device,
    graphs: Option<GraphConfig>,
) -> Result<(LogitsOfSteps, Vec<Pass>), Box<dyn Error>> {
    let options = LoadOptions { device: device.clone(), graphs, ..LoadOptions::default() };
    let mut model = load(source, &options)?;
    let vocab_len = model.info().vocab_len;
    let table = |sequence: usize| -> Vec<u32> { (0..20).map(|block| (block * 5 + sequence) as u32).collect() };
    let (mut rows, mut passes) = (Vec::new(), Vec::new());
    // The second cache must not be mistaken for the first.
    for _ in 0..2 {
        let mut cache = KvCache::new(&model.info().kv, 100, BLOCK_LEN, device)?;
        let mut lens = [250, 3, 40, 1, 100];
        for (sequence, &len) in lens.iter().enumerate() {
            let ids: Vec<u32> = (0..len).map(|i| ((i * 31 + sequence) % vocab_len) as u32).collect();
            let mut prompt = Batch::default();
            prompt.push(&ids, 0, &table(sequence), BLOCK_LEN, 1);
            model.forward(&prompt, &mut cache)?;
        }
        for num_seqs in steps {
            let mut batch = Batch::default();
            for (sequence, len) in lens.iter_mut().enumerate().take(num_seqs) {
                batch.push(&[(*len * 7 % vocab_len) as u32], *len, &table(sequence), BLOCK_LEN, 1);
                *len += 1;
            }
            let logits = model.forward(&batch, &mut cache)?;
            passes.push(logits.pass());
            rows.push(logits.to_cpu()?);
        }
    }
    Ok((rows, passes))
}

#[test]
fn a_recorded_step_gives_the_bits_of_one_that_is_launched_again() -> Result<(), Box<dyn Error>> {
    compare_recorded(WeightSource::Path(Path::new("models/ananke-nano")), [5, 5, 3, 1, 1, 4, 5, 2, 5, 5, 5, 5])
}

/// Its gates are f32, of which more than four rows have no one body: steps stay below.
#[test]
fn a_recorded_step_of_deepseek_v2_gives_the_bits_of_one_that_is_launched_again() -> Result<(), Box<dyn Error>> {
    for config in [deepseek_v2([512, 16, 512, 0], SIX_OF_64), deepseek_v2([256, 3, 128, 64], IN_GROUPS)] {
        let source = WeightSource::Dummy { config_json: config.as_bytes() };
        compare_recorded(source, [4, 4, 3, 1, 1, 4, 4, 2, 4, 4, 3, 4])?;
    }
    Ok(())
}

fn compare_recorded(source: WeightSource<'_>, steps: [usize; 12]) -> Result<(), Box<dyn Error>> {
    let Some(gpu) = gpu() else { return Ok(()) };
    let (expected, eager) = decoded(source, steps, &gpu, None)?;
    let (found, passes) = decoded(source, steps, &gpu, Some(GraphConfig::default()))?;
    assert!(eager.iter().all(|pass| matches!(pass, Pass::Eager(_))));
    for (step, (found, expected)) in found.iter().zip(&expected).enumerate() {
        let bits = |row: &[f32]| row.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert!(bits(found) == bits(expected), "step {step}, {:?}", passes[step]);
    }
    // Batches of 8, 4, 1 and 2 up to 256 positions, and what grows beyond them: each is recorded once per cache.
    let num_replayed = passes.iter().filter(|&&pass| pass == Pass::Replayed).count();
    assert!(num_replayed >= passes.len() / 3, "{passes:?}");
    Ok(())
}

#[test]
fn batch_invariant_logits_are_the_same_alone_in_company_in_chunks_and_replayed() -> Result<(), Box<dyn Error>> {
    let nano = WeightSource::Path(Path::new("models/ananke-nano"));
    for (layout, graphs) in [(None, None), (None, Some(GraphConfig::default())), (Some(QuantLayout::Q8_0), None)] {
        compare_invariant(nano, layout, graphs)?;
    }
    Ok(())
}

/// Superblocks of every kind, each taken apart in its way.
#[test]
fn batch_invariant_logits_of_k_quants_are_the_same_alone_in_company_in_chunks_and_replayed()
-> Result<(), Box<dyn Error>> {
    use QuantLayout::{Q2K, Q3K, Q4K, Q5K, Q6K};
    let nano = WeightSource::Path(Path::new("models/ananke-nano"));
    for layout in [Q2K, Q3K, Q4K, Q5K, Q6K] {
        compare_invariant(nano, Some(layout), None)?;
    }
    compare_invariant(nano, Some(Q6K), Some(GraphConfig::default()))
}

/// With the matrix units and without, with experts by one body whatever their number of tokens, and in blocks.
#[test]
fn batch_invariant_logits_of_deepseek_v2_are_the_same_alone_in_company_in_chunks_and_replayed()
-> Result<(), Box<dyn Error>> {
    use QuantLayout::{BF16, F32, Q4_0, Q4K};
    let configs = [deepseek_v2([512, 16, 512, 0], SIX_OF_64), deepseek_v2([256, 3, 128, 64], IN_GROUPS)];
    for config in &configs {
        let source = WeightSource::Dummy { config_json: config.as_bytes() };
        for layout in [BF16, F32, Q4_0, Q4K] {
            compare_invariant(source, Some(layout), None)?;
        }
        compare_invariant(source, Some(BF16), Some(GraphConfig::default()))?;
    }
    Ok(())
}

/// The last ten tokens of a prompt, decoded after chunks of any length and beside any number of others.
fn compare_invariant(
    source: WeightSource<'_>,
    layout: Option<QuantLayout>,
    graphs: Option<GraphConfig>,
) -> Result<(), Box<dyn Error>> {
    const LEN: usize = 300;
    let Some(gpu) = gpu() else { return Ok(()) };
    let is_replayed = graphs.is_some();
    let options = LoadOptions { device: gpu.clone(), layout, graphs, batch_invariant: true, ..LoadOptions::default() };
    let mut model = load(source, &options)?;
    let vocab_len = model.info().vocab_len;
    let ids: Vec<u32> = (0..LEN).map(|i| (i * 7919 % vocab_len) as u32).collect();
    let mut last_ten = |chunk_len: usize, num_others: usize| -> Result<Vec<u32>, Box<dyn Error>> {
        let mut cache = KvCache::new(&model.info().kv, 80, BLOCK_LEN, &gpu)?;
        let table: Vec<u32> = (0..20).rev().collect();
        let mut num_computed = 0;
        while num_computed < LEN - 10 {
            let len = chunk_len.min(LEN - 10 - num_computed);
            let mut batch = Batch::default();
            batch.push(&ids[num_computed..num_computed + len], num_computed, &table, BLOCK_LEN, 1);
            model.forward(&batch, &mut cache)?;
            num_computed += len;
        }
        let mut bits = Vec::new();
        for (at, &id) in ids.iter().enumerate().skip(num_computed) {
            let mut batch = Batch::default();
            batch.push(&[id], at, &table, BLOCK_LEN, 1);
            for other in 0..num_others {
                batch.push(&[other as u32], 0, &[20 + other as u32], BLOCK_LEN, 1);
            }
            let logits = model.forward(&batch, &mut cache)?.to_cpu()?;
            bits.extend(logits[..vocab_len].iter().map(|x| x.to_bits()));
        }
        Ok(bits)
    };
    let expected = last_ten(LEN, 0)?;
    for (chunk_len, num_others) in [(LEN, 2), (1, 0), (7, 7), (64, 58), (3, 0)] {
        assert!(
            last_ten(chunk_len, num_others)? == expected,
            "{layout:?}, chunks of {chunk_len}, {num_others} others, replayed: {is_replayed}"
        );
    }
    Ok(())
}
