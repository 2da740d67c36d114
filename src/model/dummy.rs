//! Weights made up on the spot: every shape and layout of a real checkpoint, and none of its sense.
//!
//! They are for timing: what a model costs depends on its shapes. Numbers are spread evenly around zero, such that
//! outputs stay about as large as inputs, and follow from the tensor's name, so that two loads agree.

use half::f16;

use super::ModelError;
use super::layers::Weights;
use super::weight::{QuantLayout, QuantWeight, byte_len};

/// Made-up weights in one layout.
pub(crate) struct DummyWeights {
    layout: QuantLayout,
}

/// Layouts that can be made up.
const LAYOUTS: &str = "F32, BF16, Q4_0, Q5_0, Q8_0, Q4K, F8E4M3";

impl DummyWeights {
    /// Matrices come in `layout`, Q4K where rows are no multiples of 256 in Q5_0; vectors are f32.
    ///
    /// # Errors
    /// When it is none that can be made up.
    pub(crate) fn new(layout: QuantLayout) -> Result<Self, ModelError> {
        match layout {
            QuantLayout::F32
            | QuantLayout::BF16
            | QuantLayout::Q4_0
            | QuantLayout::Q5_0
            | QuantLayout::Q8_0
            | QuantLayout::Q4K
            | QuantLayout::F8E4M3 => Ok(Self { layout }),
            other => Err(ModelError::TensorLayout {
                file: "made-up weights".into(),
                tensor: "every matrix".into(),
                found: format!("{other:?}"),
                supported: LAYOUTS,
            }),
        }
    }
}

impl Weights for DummyWeights {
    /// As in a checkpoint: only GGUF files have the halves of `kv_b_proj` apart.
    fn has(&self, name: &str) -> bool {
        !name.ends_with("k_b_proj.weight") && !name.ends_with("v_b_proj.weight")
    }

    fn num_bytes(&self) -> Option<u64> {
        None
    }

    fn get(&self, name: &str, shape: &[usize]) -> Result<QuantWeight<'_>, ModelError> {
        let made = match *shape {
            [len] => {
                let value = if name.ends_with("bias") { 0f32 } else { 1f32 };
                QuantWeight::new(value.to_le_bytes().repeat(len), QuantLayout::F32, shape)
            }
            _ => {
                let inputs = shape.last().copied().unwrap_or(1).max(1);
                let layout = self.layout.fitting(inputs).unwrap_or(self.layout);
                let bytes = byte_len(layout, shape).map(|len| fill(layout, len, inputs, seed(name)));
                bytes.and_then(|bytes| QuantWeight::new(bytes, layout, shape))
            }
        };
        made.ok_or_else(|| ModelError::TensorLayout {
            file: "made-up weights".into(),
            tensor: name.into(),
            found: format!("{:?} of shape {shape:?}, whose rows are not whole blocks", self.layout),
            supported: LAYOUTS,
        })
    }
}

/// FNV-1a.
fn seed(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// `len` bytes of a matrix, made by all cores.
fn fill(layout: QuantLayout, len: usize, inputs: usize, seed: u64) -> Vec<u8> {
    let block_bytes = layout.block_bytes();
    let num_threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = (len / block_bytes).div_ceil(num_threads).max(1) * block_bytes;
    let mut bytes = vec![0u8; len];
    std::thread::scope(|scope| {
        for (i, part) in bytes.chunks_mut(share).enumerate() {
            let mut random = Random(seed ^ (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
            scope.spawn(move || {
                part.chunks_exact_mut(block_bytes).for_each(|block| make(layout, block, inputs, &mut random))
            });
        }
    });
    bytes
}

/// One block of numbers between -bound and bound, with which a sum over `inputs` has about the size of its terms.
fn make(layout: QuantLayout, block: &mut [u8], inputs: usize, random: &mut Random) {
    let bound = (3.0 / inputs as f32).sqrt();
    let number = |random: &mut Random| bound * (random.next() as u32 as i32 as f32 / (1u32 << 31) as f32);
    let scale = |block: &mut [u8], at: usize, value: f32| {
        block[at..at + 2].copy_from_slice(&f16::from_f32(value).to_le_bytes());
    };
    match layout {
        QuantLayout::F32 => block.copy_from_slice(&number(random).to_le_bytes()),
        QuantLayout::BF16 => block.copy_from_slice(&half::bf16::from_f32(number(random)).to_le_bytes()),
        _ => {
            for part in block.chunks_mut(8) {
                let bytes = random.next().to_le_bytes();
                part.copy_from_slice(&bytes[..part.len()]);
            }
            match layout {
                QuantLayout::Q8_0 => scale(block, 0, bound / 127.0),
                QuantLayout::Q4_0 => scale(block, 0, bound / 8.0),
                QuantLayout::Q5_0 => scale(block, 0, bound / 16.0),
                // The root mean square of random bytes' numbers is 100, that of even ones up to a bound 1 / sqrt(3) of it.
                QuantLayout::F8E4M3 => {
                    block[..4].copy_from_slice(&(bound / 173.0).to_le_bytes());
                    // The two bytes that stand for no number.
                    block[4..].iter_mut().filter(|byte| **byte & 0x7f == 0x7f).for_each(|byte| *byte ^= 1);
                }
                // Superblocks of Q4K: steps of up to 63, weights of 0 to 15 of them, less up to 63 minima.
                _ => {
                    scale(block, 0, bound / (63.0 * 8.0));
                    scale(block, 2, 7.5 * bound / (63.0 * 8.0));
                }
            }
        }
    }
}

/// Xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Batch, KvCache, LoadOptions, WeightSource, load};

    #[test]
    fn every_layout_has_finite_numbers_of_the_right_size_and_the_same_twice() -> Result<(), ModelError> {
        use QuantLayout::{BF16, F8E4M3, F32, Q4_0, Q4K, Q5_0, Q8_0};
        for layout in [F32, BF16, Q4_0, Q5_0, Q8_0, Q4K, F8E4M3] {
            let weights = DummyWeights::new(layout)?;
            let values = weights.get("a.weight", &[48, 512])?.to_f32()?;
            let mean_square = values.iter().map(|x| x * x).sum::<f32>() / values.len() as f32;
            assert!((0.2..5.0).contains(&(mean_square * 512.0)), "{layout:?}: {mean_square}");
            assert_eq!(weights.get("a.weight", &[48, 512])?.bytes(), weights.get("a.weight", &[48, 512])?.bytes());
            assert_ne!(weights.get("a.weight", &[48, 512])?.bytes(), weights.get("b.weight", &[48, 512])?.bytes());
        }
        Ok(())
    }

    #[test]
    fn rows_that_are_no_superblocks_get_smaller_blocks() -> Result<(), ModelError> {
        let weights = DummyWeights::new(QuantLayout::Q4K)?;
        assert_eq!(weights.get("a.weight", &[4, 5504])?.layout(), QuantLayout::Q5_0);
        assert_eq!(weights.get("a.weight", &[4, 2048])?.layout(), QuantLayout::Q4K);
        Ok(())
    }

    #[test]
    fn a_model_of_made_up_weights_runs_and_stays_finite() -> Result<(), ModelError> {
        let config = br#"{"model_type": "llama", "vocab_size": 64, "hidden_size": 256, "intermediate_size": 512,
            "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
            "rms_norm_eps": 1e-6, "rope_theta": 10000, "tie_word_embeddings": false}"#;
        for layout in [None, Some(QuantLayout::Q8_0), Some(QuantLayout::Q4K), Some(QuantLayout::F8E4M3)] {
            let options = LoadOptions { layout, ..LoadOptions::default() };
            let mut model = load(WeightSource::Dummy { config_json: config }, &options)?;
            let mut cache = KvCache::new(&model.info().kv, 1, 16, &model.info().device)?;
            let mut batch = Batch::default();
            batch.push(&[1, 2, 3], 0, &[0], 16, 3);
            let logits = model.forward(&batch, &mut cache)?.to_cpu()?;
            assert!(logits.len() == 3 * 64 && logits.iter().all(|logit| logit.is_finite()), "{layout:?}");
            assert!(logits.iter().any(|logit| logit.abs() > 1e-3), "{layout:?}");
        }
        Ok(())
    }

    #[test]
    fn a_mixture_of_made_up_weights_runs_and_stays_finite() -> Result<(), ModelError> {
        let config = br#"{"model_type": "deepseek_v2", "vocab_size": 64, "hidden_size": 256, "intermediate_size": 512,
            "moe_intermediate_size": 256, "num_hidden_layers": 2, "first_k_dense_replace": 1, "n_routed_experts": 8,
            "num_experts_per_tok": 3, "n_shared_experts": 1, "topk_method": "greedy", "num_attention_heads": 2,
            "kv_lora_rank": 256, "qk_nope_head_dim": 256, "qk_rope_head_dim": 32, "v_head_dim": 128,
            "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "rope_theta": 10000}"#;
        for layout in [None, Some(QuantLayout::F32), Some(QuantLayout::Q8_0), Some(QuantLayout::Q4K)] {
            let options = LoadOptions { layout, ..LoadOptions::default() };
            let mut model = load(WeightSource::Dummy { config_json: config }, &options)?;
            let mut cache = KvCache::new(&model.info().kv, 1, 16, &model.info().device)?;
            // The second step has more tokens than the first, the third fewer.
            for (first, ids) in [(0, &[1u32][..]), (1, &[2, 3, 4]), (4, &[5, 6])] {
                let mut batch = Batch::default();
                batch.push(ids, first, &[0], 16, ids.len());
                let logits = model.forward(&batch, &mut cache)?.to_cpu()?;
                assert!(logits.len() == ids.len() * 64 && logits.iter().all(|logit| logit.is_finite()), "{layout:?}");
                assert!(logits.iter().any(|logit| logit.abs() > 1e-3), "{layout:?}");
            }
        }
        Ok(())
    }

    #[test]
    fn what_cannot_be_made_up_is_refused() -> Result<(), ModelError> {
        assert!(DummyWeights::new(QuantLayout::Q6K).is_err());
        assert!(DummyWeights::new(QuantLayout::Q8_0)?.get("a.weight", &[4, 33]).is_err());
        Ok(())
    }
}
