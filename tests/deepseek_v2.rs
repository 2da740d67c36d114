//! DeepSeek-V2 against Hugging Face transformers, on small random models of its shapes: tests/data/deepseek_v2/, written
//! by scripts/make_deepseek_v2_reference.py. From safetensors and from GGUF, in any cut and company, and in the engine.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ananke::engine::{Engine, EngineConfig, EngineHandle, SequenceRequest, TokenEvent, TokenStream};
use ananke::guide::{Guide, GuideConfig};
use ananke::kernels::sampling::SamplingParams;
use ananke::model::{LoadOptions, QuantLayout, WeightSource, load};
use ananke::text::{Token, Vocabulary};
use candle_core::quantized::gguf_file::Value;
use candle_core::quantized::{GgmlDType, QTensor, gguf_file};
use candle_core::{Device, Tensor};
use common::{Driver, Part, TestResult, repository, worst_difference};
use safetensors::tensor::TensorView;
use tempfile::TempDir;

const NAMES: [&str; 3] = ["grouped", "lite", "plain"];
const TOLERANCE: f32 = 1e-4;

#[derive(serde::Deserialize)]
struct Reference {
    config: serde_json::Value,
    tensors: BTreeMap<String, Vec<usize>>,
    ids: Vec<u32>,
    logits: Vec<Vec<f32>>,
}

/// Numbers in steps of 2^-23, by splitmix64 from the FNV-1a hash of the tensor's name: as the script makes them.
fn values(name: &str, shape: &[usize]) -> Vec<f32> {
    let hash = |seed: u64, byte| (seed ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    let mut state = name.bytes().fold(0xcbf2_9ce4_8422_2325, hash);
    let next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let unit = ((z ^ (z >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0;
        if name.contains("norm") { 1.0 + unit * 0.25 } else { unit * 0.3125 }
    };
    std::iter::repeat_with(next).take(shape.iter().product()).collect()
}

impl Reference {
    fn read(name: &str) -> Result<Self, Box<dyn std::error::Error>> {
        let path = repository(&format!("tests/data/deepseek_v2/{name}.json"));
        Ok(serde_json::from_slice(&std::fs::read(path)?)?)
    }

    /// The checkpoint as transformers writes it.
    fn safetensors(&self) -> Result<TempDir, Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let bytes: Vec<(&String, &Vec<usize>, Vec<u8>)> = (self.tensors.iter())
            .map(|(name, shape)| (name, shape, values(name, shape).into_iter().flat_map(f32::to_le_bytes).collect()))
            .collect();
        let views: Vec<(&String, TensorView<'_>)> = (bytes.iter())
            .map(|(name, shape, bytes)| Ok((*name, TensorView::new(safetensors::Dtype::F32, shape.to_vec(), bytes)?)))
            .collect::<Result<_, safetensors::SafeTensorError>>()?;
        std::fs::write(folder.path().join("model.safetensors"), safetensors::serialize(views, None)?)?;
        std::fs::write(folder.path().join("config.json"), self.config.to_string())?;
        Ok(folder)
    }

    fn driver(&self, options: &LoadOptions) -> Result<Driver, Box<dyn std::error::Error>> {
        Driver::new(self.safetensors()?.path(), options, 3, self.ids.len())
    }

    fn count(&self, key: &str) -> usize {
        self.config[key].as_u64().unwrap_or(0) as usize
    }
}

/// Runs the reference's tokens whole, in chunks, and beside other sequences; returns the rows of logits.
fn in_every_cut(driver: &mut Driver, ids: &[u32]) -> Result<Vec<Vec<f32>>, Box<dyn std::error::Error>> {
    let whole = driver.prefill(ids, ids.len())?;
    for chunk_len in [1, 7, 64] {
        assert_eq!(driver.prefill(ids, chunk_len)?, whole, "chunks of {chunk_len}");
    }
    let others: Vec<u32> = ids.iter().rev().copied().collect();
    let mut num_computed = 0;
    for (step, token_ids) in ids.chunks(9).enumerate() {
        let part = |sequence_idx, token_ids, num_computed, num_logits| Part {
            sequence_idx,
            token_ids,
            num_computed,
            num_logits,
        };
        let rows = driver.step(&[
            part(0, &others[5 * step..5 * step + 5], 5 * step, 0),
            part(1, token_ids, num_computed, token_ids.len()),
            part(2, &others[step..=step], step, 1),
        ])?;
        assert_eq!(rows[..token_ids.len()], whole[num_computed..num_computed + token_ids.len()], "step {step}");
        num_computed += token_ids.len();
    }
    Ok(whole)
}

#[test]
fn logits_are_transformers_for_whole_prompts_chunks_and_company() -> TestResult {
    for name in NAMES {
        let reference = Reference::read(name)?;
        let mut driver = reference.driver(&LoadOptions::default())?;
        let whole = in_every_cut(&mut driver, &reference.ids)?;
        assert_eq!(whole.len(), reference.logits.len());
        for (position, (row, expected)) in whole.iter().zip(&reference.logits).enumerate() {
            let worst = worst_difference(row, expected);
            assert!(worst < TOLERANCE, "{name}, position {position}: off by {worst}");
        }
    }
    Ok(())
}

#[test]
fn a_token_leaves_one_latent_and_one_rotary_part_per_layer() -> TestResult {
    let reference = Reference::read("lite")?;
    let driver = reference.driver(&LoadOptions::default())?;
    let info = driver.model.info();
    assert_eq!(info.kv.bytes_per_token(), 3 * (64 + 16) * 4);
    let stored: usize = reference.tensors.values().map(|shape| shape.iter().product::<usize>()).sum();
    assert_eq!((info.architecture.as_str(), info.num_parameters), ("deepseek_v2", stored));
    Ok(())
}

#[test]
fn weights_in_blocks_stay_near_and_are_the_same_in_any_cut() -> TestResult {
    let reference = Reference::read("lite")?;
    let options = LoadOptions { layout: Some(QuantLayout::Q8_0), ..LoadOptions::default() };
    let rows = in_every_cut(&mut reference.driver(&options)?, &reference.ids)?;
    let (mut squares, mut errors) = (0f64, 0f64);
    for (found, expected) in rows.iter().flatten().zip(reference.logits.iter().flatten()) {
        squares += f64::from(expected * expected);
        errors += f64::from((found - expected) * (found - expected));
    }
    let relative = (errors / squares).sqrt();
    // Weights and activations are rounded to 1/127 of the largest of 32, and rows this narrow average little of it
    // out: transformers with operands rounded like this is off by 0.065. Logits of another model would be by 1.4.
    assert!(relative > 0.0 && relative < 0.1, "off by {relative} of the root mean square");
    Ok(())
}

/// A CPU's sums are batch-invariant anyway; tests/gpu.rs asks the same of a GPU.
#[test]
fn the_option_for_batch_invariant_sums_changes_no_bit_on_a_cpu() -> TestResult {
    let reference = Reference::read("lite")?;
    for layout in [None, Some(QuantLayout::Q8_0)] {
        let rows = |batch_invariant| {
            let options = LoadOptions { layout, batch_invariant, ..LoadOptions::default() };
            in_every_cut(&mut reference.driver(&options)?, &reference.ids)
        };
        assert_eq!(rows(true)?, rows(false)?, "{layout:?}");
    }
    Ok(())
}

/// How a GGUF file says what a config.json does.
struct Gguf<'a> {
    reference: &'a Reference,
    /// Written by a converter that splits `kv_b_proj` and names the lengths of the split.
    is_split: bool,
    /// The layout of the experts and the projections from latents.
    dtype: GgmlDType,
}

impl Gguf<'_> {
    fn write(&self, folder: &Path) -> Result<PathBuf, Box<dyn std::error::Error>> {
        let path = folder.join("small.gguf");
        let metadata = self.metadata();
        let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
        let tensors = self.tensors()?;
        let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        gguf_file::write(&mut std::fs::File::create(&path)?, &metadata, &tensors)?;
        Ok(path)
    }

    fn metadata(&self) -> Vec<(String, Value)> {
        let count = |key: &str| self.reference.count(key) as u32;
        let (latent, rope) = (count("kv_lora_rank"), count("qk_rope_head_dim"));
        let (key_len, value_len) = (count("qk_nope_head_dim") + rope, count("v_head_dim"));
        let mut counts = vec![
            ("block_count", count("num_hidden_layers")),
            ("context_length", count("max_position_embeddings")),
            ("embedding_length", count("hidden_size")),
            ("feed_forward_length", count("intermediate_size")),
            ("attention.head_count", count("num_attention_heads")),
            ("attention.kv_lora_rank", latent),
            ("rope.dimension_count", rope),
            ("leading_dense_block_count", count("first_k_dense_replace")),
            ("expert_feed_forward_length", count("moe_intermediate_size")),
            ("expert_count", count("n_routed_experts")),
            ("expert_shared_count", count("n_shared_experts")),
            ("expert_used_count", count("num_experts_per_tok")),
            ("expert_group_count", count("n_group")),
            ("expert_group_used_count", count("topk_group")),
        ];
        counts.extend(Some(("attention.q_lora_rank", count("q_lora_rank"))).filter(|(_, rank)| *rank > 0));
        counts.extend(match self.is_split {
            true => vec![
                ("attention.head_count_kv", 1),
                ("attention.key_length", latent + rope),
                ("attention.value_length", latent),
                ("attention.key_length_mla", key_len),
                ("attention.value_length_mla", value_len),
            ],
            false => vec![("attention.key_length", key_len), ("attention.value_length", value_len)],
        });
        let rope = &self.reference.config["rope_scaling"];
        let number = |value: &serde_json::Value| value.as_f64().unwrap_or(0.0) as f32;
        let mut numbers = vec![
            ("attention.layer_norm_rms_epsilon", number(&self.reference.config["rms_norm_eps"])),
            ("expert_weights_scale", number(&self.reference.config["routed_scaling_factor"])),
            ("rope.freq_base", 10000.0),
        ];
        let mut metadata = vec![("general.architecture".to_owned(), Value::String("deepseek2".into()))];
        if rope.is_object() {
            counts.push(("rope.scaling.original_context_length", 64));
            numbers.push(("rope.scaling.factor", number(&rope["factor"])));
            numbers.push((
                "rope.scaling.yarn_log_multiplier",
                (0.1 * rope["mscale_all_dim"].as_f64().unwrap_or(0.0)) as f32,
            ));
            metadata.push(("deepseek2.rope.scaling.type".to_owned(), Value::String("yarn".into())));
        }
        let named = |key: &str| format!("deepseek2.{key}");
        metadata.extend(counts.into_iter().map(|(key, value)| (named(key), Value::U32(value))));
        metadata.extend(numbers.into_iter().map(|(key, value)| (named(key), Value::F32(value))));
        metadata
    }

    /// The converter's part: its names, experts on top of each other, `kv_b_proj` apart.
    fn tensors(&self) -> Result<Vec<(String, QTensor)>, Box<dyn std::error::Error>> {
        let mut tensors = Vec::new();
        let mut experts: BTreeMap<String, Vec<Tensor>> = BTreeMap::new();
        let (num_heads, latent) = (self.reference.count("num_attention_heads"), self.reference.count("kv_lora_rank"));
        let (nope, value) = (self.reference.count("qk_nope_head_dim"), self.reference.count("v_head_dim"));
        let num_experts = self.reference.count("n_routed_experts");
        // In the order of the experts' numbers.
        let mut names: Vec<(&String, &Vec<usize>)> = self.reference.tensors.iter().collect();
        names.sort_by_key(|(name, _)| (name.len(), (*name).clone()));
        for (name, shape) in names {
            let tensor = Tensor::from_vec(values(name, shape), shape.as_slice(), &Device::Cpu)?;
            let gguf = gguf_name(name);
            if name.contains(".experts.") {
                experts.entry(gguf).or_default().push(tensor);
            } else if gguf.contains("attn_kv_b.") && self.is_split {
                let heads = tensor.reshape((num_heads, nope + value, latent))?;
                let k_b = heads.narrow(1, 0, nope)?.transpose(1, 2)?.contiguous()?;
                let v_b = heads.narrow(1, nope, value)?.contiguous()?;
                tensors.push((gguf.replace("kv_b", "k_b"), QTensor::quantize(&k_b, self.dtype)?));
                tensors.push((gguf.replace("kv_b", "v_b"), QTensor::quantize(&v_b, self.dtype)?));
            } else {
                tensors.push((gguf, QTensor::quantize(&tensor, GgmlDType::F32)?));
            }
        }
        for (name, parts) in experts {
            assert_eq!(parts.len(), num_experts, "{name}");
            tensors.push((name, QTensor::quantize(&Tensor::stack(&parts, 0)?, self.dtype)?));
        }
        Ok(tensors)
    }
}

fn gguf_name(name: &str) -> String {
    let fixed = BTreeMap::from([
        ("model.embed_tokens.weight", "token_embd.weight"),
        ("model.norm.weight", "output_norm.weight"),
        ("lm_head.weight", "output.weight"),
    ]);
    if let Some(name) = fixed.get(name) {
        return (*name).to_owned();
    }
    let rest = name.strip_prefix("model.layers.").expect("all others are a layer's");
    let (layer, rest) = rest.split_once('.').expect("a number, then a name");
    let rest = match rest.strip_prefix("mlp.experts.") {
        Some(rest) => format!("experts.{}", rest.split_once('.').expect("a number, then a name").1),
        None => rest.to_owned(),
    };
    let part = match rest.strip_suffix(".weight").expect("there are no biases") {
        "input_layernorm" => "attn_norm",
        "post_attention_layernorm" => "ffn_norm",
        "self_attn.q_proj" => "attn_q",
        "self_attn.q_a_proj" => "attn_q_a",
        "self_attn.q_a_layernorm" => "attn_q_a_norm",
        "self_attn.q_b_proj" => "attn_q_b",
        "self_attn.kv_a_proj_with_mqa" => "attn_kv_a_mqa",
        "self_attn.kv_a_layernorm" => "attn_kv_a_norm",
        "self_attn.kv_b_proj" => "attn_kv_b",
        "self_attn.o_proj" => "attn_output",
        "mlp.gate" => "ffn_gate_inp",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        "mlp.shared_experts.gate_proj" => "ffn_gate_shexp",
        "mlp.shared_experts.up_proj" => "ffn_up_shexp",
        "mlp.shared_experts.down_proj" => "ffn_down_shexp",
        "experts.gate_proj" => "ffn_gate_exps",
        "experts.up_proj" => "ffn_up_exps",
        "experts.down_proj" => "ffn_down_exps",
        other => panic!("no name for {other}"),
    };
    format!("blk.{layer}.{part}.weight")
}

#[test]
fn a_gguf_of_either_age_gives_the_bits_of_the_safetensors() -> TestResult {
    for name in ["lite", "plain"] {
        let reference = Reference::read(name)?;
        let expected = reference.driver(&LoadOptions::default())?.prefill(&reference.ids, 64)?;
        for is_split in [false, true] {
            let folder = tempfile::tempdir()?;
            let path = Gguf { reference: &reference, is_split, dtype: GgmlDType::F32 }.write(folder.path())?;
            let mut driver = Driver::new(&path, &LoadOptions::default(), 3, reference.ids.len())?;
            let found = driver.prefill(&reference.ids, 64)?;
            for (row, expected) in found.iter().zip(&expected) {
                // The file has `mscale_all_dim` and eps as f32.
                let worst = worst_difference(row, expected);
                assert!(worst < 2e-5, "{name}, split {is_split}: off by {worst}");
            }
        }
    }
    Ok(())
}

#[test]
fn experts_and_heads_in_blocks_are_read_from_a_gguf() -> TestResult {
    let reference = Reference::read("lite")?;
    for is_split in [false, true] {
        let folder = tempfile::tempdir()?;
        let path = Gguf { reference: &reference, is_split, dtype: GgmlDType::Q8_0 }.write(folder.path())?;
        let mut driver = Driver::new(&path, &LoadOptions::default(), 3, reference.ids.len())?;
        let rows = in_every_cut(&mut driver, &reference.ids)?;
        let worst = rows.iter().zip(&reference.logits).map(|(row, expected)| worst_difference(row, expected));
        let worst = worst.fold(0.0, f32::max);
        assert!(worst > 0.0 && worst < 0.5, "split {is_split}: off by {worst}");
    }
    Ok(())
}

/// The error of loading a copy of the model after `change` had its way with the reference.
fn error_after(change: impl Fn(&mut Reference)) -> Result<String, Box<dyn std::error::Error>> {
    let mut reference = Reference::read("lite")?;
    change(&mut reference);
    let folder = reference.safetensors()?;
    let error = load(WeightSource::Path(folder.path()), &LoadOptions::default()).err().ok_or("it loaded")?;
    Ok(error.to_string().replace(&format!("{}/", folder.path().display()), ""))
}

#[test]
fn errors_say_which_file_which_tensor_and_what_was_expected() -> TestResult {
    let without = |name: &'static str| move |reference: &mut Reference| drop(reference.tensors.remove(name));
    let with = |key: &'static str, value: u32| move |reference: &mut Reference| reference.config[key] = value.into();
    assert_eq!(
        error_after(without("model.layers.1.mlp.experts.7.up_proj.weight"))?,
        "model.safetensors has no tensor `model.layers.1.mlp.experts.7.up_proj.weight` (expected shape [32, 64])"
    );
    assert_eq!(
        error_after(without("model.layers.0.self_attn.kv_b_proj.weight"))?,
        "model.safetensors has no tensor `model.layers.0.self_attn.kv_b_proj.weight` (expected shape [256, 64])"
    );
    assert_eq!(
        error_after(with("kv_lora_rank", 65))?,
        "model.safetensors: tensor `model.layers.0.self_attn.kv_a_proj_with_mqa.weight` has shape [80, 64], \
         the configuration expects [81, 64]"
    );
    assert_eq!(
        error_after(with("n_routed_experts", 15))?,
        "model.safetensors: tensor `model.layers.1.mlp.gate.weight` has shape [16, 64], \
         the configuration expects [15, 64]"
    );
    assert_eq!(
        error_after(with("num_experts_per_tok", 17))?,
        "config.json: `num_experts_per_tok` is 17, expected at most the 16 experts that may be chosen"
    );
    Ok(())
}

#[test]
fn a_gguf_that_cannot_be_run_is_refused_by_its_own_names() -> TestResult {
    let reference = Reference::read("lite")?;
    let gguf = Gguf { reference: &reference, is_split: true, dtype: GgmlDType::F32 };
    let tensors = gguf.tensors()?;
    let error = |key: &str, value: Value| -> Result<String, Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("small.gguf");
        let mut metadata: BTreeMap<String, Value> = gguf.metadata().into_iter().collect();
        metadata.insert(format!("deepseek2.{key}"), value);
        let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
        let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        gguf_file::write(&mut std::fs::File::create(&path)?, &metadata, &tensors)?;
        let error = load(WeightSource::Path(&path), &LoadOptions::default()).err().ok_or("it loaded")?;
        Ok(error.to_string().replace(&path.display().to_string(), "FILE"))
    };
    let cases = [
        ("expert_gating_func", Value::U32(2), "FILE: `deepseek2.expert_gating_func` is 2, expected 1, softmax"),
        (
            "expert_count",
            Value::U32(15),
            "FILE: tensor `blk.1.ffn_gate_inp.weight` has shape [16, 64], the configuration expects [15, 64]",
        ),
        (
            "expert_used_count",
            Value::U32(17),
            "FILE: `deepseek2.expert_used_count` is 17, expected at most the 16 experts that may be chosen",
        ),
        (
            "expert_feed_forward_length",
            Value::U32(16),
            "FILE: tensor `blk.1.ffn_gate_exps.weight` has shape [16, 32, 64], the configuration expects [16, 16, 64]",
        ),
        (
            "rope.scaling.type",
            Value::String("longrope".into()),
            "FILE: rope type `longrope` is not supported; supported: none, yarn",
        ),
        (
            "rope.dimension_count",
            Value::U32(48),
            "FILE: `deepseek2.rope.dimension_count` is 48, expected less than 48, the width of a head",
        ),
    ];
    for (key, value, message) in cases {
        assert_eq!(error(key, value)?, message);
    }
    Ok(())
}

/// One id per ASCII byte, and one that ends; the model has rows beyond.
const END: u32 = 128;

fn start(config: EngineConfig) -> Result<EngineHandle, Box<dyn std::error::Error>> {
    let folder = Reference::read("lite")?.safetensors()?;
    let model = load(WeightSource::Path(folder.path()), &LoadOptions::default())?;
    Ok(Engine::start(model, &[END], config)?.0)
}

fn workload(guide: &Guide) -> Result<Vec<SequenceRequest>, Box<dyn std::error::Error>> {
    let request = |index: usize| {
        let text =
            "a beginning that is shared and fills blocks; ".repeat(1 + index % 3) + &format!("end {}", index % 4);
        let matcher = guide.compile(&[])?.matcher(text.as_bytes())?;
        Ok(SequenceRequest {
            prompt: text.bytes().map(u32::from).collect(),
            max_tokens: 12 + index as u32,
            sampling: SamplingParams { temperature: 1.0, ..SamplingParams::default() },
            seed: index as u64,
            choice: 0,
            num_logprobs: None,
            num_prompt_logprobs: None,
            forced_tokens: true,
            matcher,
            salt: None,
            tenant: None,
        })
    };
    (0..12).map(request).collect()
}

fn tokens(mut stream: TokenStream) -> Result<Vec<u32>, Box<dyn std::error::Error>> {
    let mut tokens = Vec::new();
    loop {
        match stream.blocking_next().ok_or("a stream says how it ends")? {
            TokenEvent::Prompt(_) => {}
            TokenEvent::Token { id, .. } => tokens.push(id),
            TokenEvent::Finished(_) => return Ok(tokens),
            TokenEvent::Failed(error) => return Err(error.into()),
        }
    }
}

#[test]
fn scheduling_changes_nothing_but_time() -> TestResult {
    let texts = (0..128).map(|byte| Token::Text(vec![byte])).chain([Token::Control("<end>".into())]).collect();
    let guide = Guide::new(Arc::new(Vocabulary::new(texts, 160, vec![END])?), GuideConfig::default())?;
    let run =
        |engine: &EngineHandle, requests: Vec<SequenceRequest>| -> Result<Vec<Vec<u32>>, Box<dyn std::error::Error>> {
            let streams =
                requests.into_iter().map(|request| engine.submit(vec![request])).collect::<Result<Vec<_>, _>>()?;
            streams.into_iter().flatten().map(tokens).collect()
        };
    let solo = start(EngineConfig { num_seqs_max: 1, ..EngineConfig::default() })?;
    let expected = run(&solo, workload(&guide)?)?;
    assert!(expected.iter().any(|tokens| tokens.len() > 10), "{expected:?}");
    let configs = [
        ("batched", EngineConfig::default()),
        ("small chunks", EngineConfig { num_batched_tokens_max: 7, ..EngineConfig::default() }),
        ("a dry pool", EngineConfig { num_blocks: 14, ..EngineConfig::default() }),
        ("odd blocks", EngineConfig { block_len: 5, num_blocks: 600, ..EngineConfig::default() }),
    ];
    for (name, config) in configs {
        let engine = start(config)?;
        assert_eq!(run(&engine, workload(&guide)?)?, expected, "{name}");
        let stats = engine.stats().snapshot();
        assert!(stats.prefix_hit_tokens > 0, "{name}: shared beginnings are reused, {stats:?}");
        if name == "a dry pool" {
            assert!(stats.preemptions > 0, "the pool was too large to preempt, {stats:?}");
        }
    }
    Ok(())
}
