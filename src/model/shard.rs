//! Tensor parallelism: which part of each matrix a rank holds, and where ranks put their results together.
//!
//! The outputs of queries, keys, values, gates and ups are divided among the ranks, and so are the inputs of what follows
//! them: the projection out of attention and that down from the feed-forward layer, of every expert too. Each rank then
//! has a term of the same sum, and [`Ranks::sum_onto`] is the one place where they meet: twice a layer.
//! The embedding and the head stay whole on every rank. Divided, they would save each rank most of two matrices of the
//! vocabulary, and cost a second collective, which gathers logits; whole, every rank has the logits and samples alone.
//!
//! Only one rank ships ([`OneRank`]); a collective over several GPUs does not exist here yet.

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

use candle_core::Tensor;

use super::ModelError;
use super::layers::Epilogue;
use crate::kernels;

/// One of the ranks that a model's matrices are divided among.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    rank: usize,
    num_ranks: usize,
}

impl Shard {
    /// The only rank: it holds everything.
    pub const WHOLE: Self = Self { rank: 0, num_ranks: 1 };

    /// Rank `rank`, from 0, of `num_ranks`.
    ///
    /// # Errors
    /// [`ModelError::InvalidShard`] when there is no such rank.
    pub fn new(rank: usize, num_ranks: usize) -> Result<Self, ModelError> {
        match rank < num_ranks {
            true => Ok(Self { rank, num_ranks }),
            false => Err(ModelError::InvalidShard { rank, num_ranks }),
        }
    }

    /// Which it is, from 0.
    #[must_use]
    pub fn rank(self) -> usize {
        self.rank
    }

    /// How many there are.
    #[must_use]
    pub fn num_ranks(self) -> usize {
        self.num_ranks
    }

    /// An even share of `len` things; `what` is the key of the configuration that counts them.
    ///
    /// # Errors
    /// [`ModelError::UnevenShards`].
    pub(crate) fn share(self, what: &'static str, len: usize) -> Result<Share, ModelError> {
        let Self { rank, num_ranks } = self;
        if !len.is_multiple_of(num_ranks) {
            return Err(ModelError::UnevenShards { what, len, num_ranks });
        }
        let each = len / num_ranks;
        Ok(Share { len, own: rank * each..(rank + 1) * each })
    }

    /// As [`Shard::share`]; of fewer things than ranks, several ranks hold the same one.
    ///
    /// # Errors
    /// [`ModelError::UnevenShards`] when neither count is a multiple of the other.
    pub(crate) fn share_or_copy(self, what: &'static str, len: usize) -> Result<Share, ModelError> {
        if len == 0 || len >= self.num_ranks || !self.num_ranks.is_multiple_of(len) {
            return self.share(what, len);
        }
        let own = self.rank / (self.num_ranks / len);
        Ok(Share { len, own: own..own + 1 })
    }
}

/// The part of a dimension that a rank holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    /// Of the whole dimension.
    pub(crate) len: usize,
    pub(crate) own: Range<usize>,
}

impl Share {
    pub(crate) fn whole(len: usize) -> Self {
        Self { len, own: 0..len }
    }

    /// The same where each thing is `width` wide: rows of heads.
    pub(crate) fn of_width(&self, width: usize) -> Self {
        Self { len: self.len * width, own: self.own.start * width..self.own.end * width }
    }
}

/// How ranks put their terms together.
///
/// Every rank runs the same batches in the same order, so their calls correspond.
pub trait Collective: Debug + Send + Sync {
    /// The rank that this end belongs to.
    fn shard(&self) -> Shard;

    /// The sum over all ranks of `xs` (f32, of one shape on all of them), on this rank's device; the same bits on each.
    ///
    /// # Errors
    /// When a rank cannot be reached, or a device fails.
    fn all_reduce_sum(&self, xs: Tensor) -> Result<Tensor, ModelError>;
}

/// The collective of a model that is not divided.
#[derive(Clone, Copy, Debug, Default)]
pub struct OneRank;

impl Collective for OneRank {
    fn shard(&self) -> Shard {
        Shard::WHOLE
    }

    fn all_reduce_sum(&self, xs: Tensor) -> Result<Tensor, ModelError> {
        Ok(xs)
    }
}

/// The ranks of a model, as its layers use them.
#[derive(Clone, Debug)]
pub(crate) struct Ranks {
    collective: Arc<dyn Collective>,
}

impl Ranks {
    pub(crate) fn new(collective: &Arc<dyn Collective>) -> Self {
        Self { collective: Arc::clone(collective) }
    }

    /// `residual` and the sum of what `term` gives on every rank. A single rank adds while it has the products at hand.
    ///
    /// # Errors
    /// Those of `term` and of the collective.
    pub(crate) fn sum_onto(
        &self,
        residual: &Tensor,
        term: impl FnOnce(Epilogue<'_>) -> Result<Tensor, ModelError>,
    ) -> Result<Tensor, ModelError> {
        if self.collective.shard().num_ranks() == 1 {
            return term(Epilogue::Add(residual));
        }
        let ys = self.collective.all_reduce_sum(term(Epilogue::None)?)?;
        kernels::add_assign(&ys, residual)?;
        Ok(ys)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Barrier, Mutex};

    use candle_core::Device;
    use serde_json::{Value, json};

    use super::*;
    use crate::model::config::{Keys, LlamaConfig};
    use crate::model::deepseek_config::DeepseekV2Config;
    use crate::model::deepseek_v2::DeepseekV2;
    use crate::model::layers::{Loader, Weights};
    use crate::model::llama::Llama;
    use crate::model::safetensors::SafetensorsWeights;
    use crate::model::{Batch, KvCache, LanguageModel, LoadOptions, QuantLayout, QuantWeight};

    const BLOCK_LEN: usize = 4;

    /// Numbers that follow from a tensor's name: norms near 1, matrices whose products are about as large as what they
    /// multiply, biases that show.
    struct Random(QuantLayout);

    impl Weights for Random {
        fn has(&self, name: &str) -> bool {
            !name.ends_with(".k_b_proj.weight")
        }

        fn num_bytes(&self) -> Option<u64> {
            None
        }

        fn get(&self, name: &str, shape: &[usize]) -> Result<QuantWeight<'_>, ModelError> {
            let mut state =
                name.bytes().fold(7u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
            let mut even = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 40) as f32 / (1 << 23) as f32 - 1.0
            };
            let is_matrix = shape.len() > 1;
            let (middle, spread) = match name {
                _ if is_matrix => (0.0, (3.0 / shape[shape.len() - 1] as f32).sqrt()),
                _ if name.ends_with("bias") => (0.0, 0.5),
                _ => (1.0, 0.3),
            };
            let values: Vec<f32> = (0..shape.iter().product()).map(|_| middle + spread * even()).collect();
            let layout = if is_matrix && name.contains("proj") { self.0 } else { QuantLayout::F32 };
            QuantWeight::quantize(&values, layout, shape)
        }
    }

    /// Ranks that are threads of this process: each leaves its term, and adds up those of all in the same order.
    #[derive(Debug)]
    struct Meeting {
        terms: Mutex<Vec<Vec<f32>>>,
        everyone: Barrier,
    }

    #[derive(Debug)]
    struct Thread {
        shard: Shard,
        meeting: Arc<Meeting>,
    }

    impl Collective for Thread {
        fn shard(&self) -> Shard {
            self.shard
        }

        fn all_reduce_sum(&self, xs: Tensor) -> Result<Tensor, ModelError> {
            let lock = || self.meeting.terms.lock().expect("no rank panics while it holds them");
            lock()[self.shard.rank] = xs.flatten_all()?.to_vec1()?;
            self.meeting.everyone.wait();
            let mut sum = vec![0f32; xs.elem_count()];
            for term in lock().iter() {
                sum.iter_mut().zip(term).for_each(|(sum, x)| *sum += x);
            }
            self.meeting.everyone.wait();
            Ok(Tensor::from_vec(sum, xs.shape(), xs.device())?)
        }
    }

    fn meeting(num_ranks: usize) -> Vec<Arc<dyn Collective>> {
        let meeting = Meeting { terms: Mutex::new(vec![Vec::new(); num_ranks]), everyone: Barrier::new(num_ranks) };
        let meeting = Arc::new(meeting);
        let thread = |rank| Thread { shard: Shard { rank, num_ranks }, meeting: Arc::clone(&meeting) };
        (0..num_ranks).map(|rank| Arc::new(thread(rank)) as Arc<dyn Collective>).collect()
    }

    fn load(
        config: &Value,
        weights: &dyn Weights,
        collective: Arc<dyn Collective>,
    ) -> Result<Box<dyn LanguageModel>, ModelError> {
        let options = LoadOptions { collective, ..LoadOptions::default() };
        let (loader, keys) = (Loader::new(weights, &options)?, Keys::new(config, "config.json"));
        Ok(match config["model_type"].as_str() {
            Some("deepseek_v2") => Box::new(DeepseekV2::load(&DeepseekV2Config::from_json(&keys)?, &loader)?),
            _ => Box::new(Llama::load(&LlamaConfig::from_json(&keys)?, &loader)?),
        })
    }

    /// The logits of two sequences: prompts of seven and two tokens, then a chunk and single tokens.
    fn logits(model: &mut dyn LanguageModel) -> Result<Vec<f32>, ModelError> {
        let tables = [[0u32, 1, 2, 3], [4, 5, 6, 7]];
        let mut cache = KvCache::new(&model.info().kv, 8, BLOCK_LEN, &Device::Cpu)?;
        let mut logits = Vec::new();
        for step in [
            [(&[3u32, 9, 27, 17, 50, 2, 6][..], 0), (&[11, 12][..], 0)],
            [(&[8, 7, 1][..], 7), (&[40][..], 2)],
            [(&[33][..], 10), (&[60][..], 3)],
        ] {
            let mut batch = Batch::default();
            for ((ids, first), table) in step.iter().zip(&tables) {
                batch.push(ids, *first, table, BLOCK_LEN, ids.len());
            }
            logits.extend(model.forward(&batch, &mut cache)?.to_cpu()?);
        }
        Ok(logits)
    }

    fn llama(changes: Value) -> Value {
        with(
            json!({
                "model_type": "llama", "vocab_size": 64, "hidden_size": 64, "intermediate_size": 256,
                "num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 16,
                "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "tie_word_embeddings": false,
            }),
            changes,
        )
    }

    fn deepseek_v2(changes: Value) -> Value {
        with(
            json!({
                "model_type": "deepseek_v2", "vocab_size": 64, "hidden_size": 64, "intermediate_size": 96,
                "moe_intermediate_size": 32, "num_hidden_layers": 3, "first_k_dense_replace": 1, "n_routed_experts": 6,
                "num_experts_per_tok": 2, "n_shared_experts": 2, "topk_method": "greedy", "num_attention_heads": 4,
                "kv_lora_rank": 32, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16,
                "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "rope_theta": 10000,
            }),
            changes,
        )
    }

    fn with(mut config: Value, changes: Value) -> Value {
        for (key, value) in changes.as_object().expect("changes are an object") {
            config[key] = value.clone();
        }
        config
    }

    #[test]
    fn ranks_together_give_the_logits_of_one() -> Result<(), ModelError> {
        use QuantLayout::{F32, Q8_0};
        for (name, config, layout, ranks) in [
            ("grouped queries", llama(json!({})), F32, &[2, 4][..]),
            ("key heads on several ranks", llama(json!({"num_key_value_heads": 2})), F32, &[2, 4, 8]),
            ("a tied head", llama(json!({"tie_word_embeddings": true})), F32, &[2]),
            ("biases of queries", llama(json!({"model_type": "qwen2"})), F32, &[2, 4]),
            ("biases everywhere", llama(json!({"attention_bias": true, "mlp_bias": true})), F32, &[2, 4]),
            ("blocks", llama(json!({})), Q8_0, &[2, 4]),
            ("experts", deepseek_v2(json!({})), F32, &[2, 4]),
            ("latents of queries", deepseek_v2(json!({"q_lora_rank": 24})), F32, &[2, 4]),
            ("no shared experts", deepseek_v2(json!({"n_shared_experts": null})), F32, &[2]),
            (
                "experts in blocks",
                deepseek_v2(json!({"moe_intermediate_size": 64, "intermediate_size": 128})),
                Q8_0,
                &[2],
            ),
        ] {
            let weights = Random(layout);
            let mut whole = load(&config, &weights, Arc::new(OneRank))?;
            let expected = logits(&mut *whole)?;
            let largest = expected.iter().fold(0f32, |largest, x| largest.max(x.abs()));
            assert!(largest > 0.5, "{name}: the logits are at most {largest}");
            for &num_ranks in ranks {
                let models = meeting(num_ranks).into_iter().map(|rank| load(&config, &weights, rank));
                let mut models = models.collect::<Result<Vec<_>, _>>()?;
                let sizes = models.iter().map(|model| model.info().weight_bytes).max().unwrap_or_default();
                assert!(sizes < whole.info().weight_bytes, "{name}: {sizes} bytes on one of {num_ranks} ranks");
                let found: Vec<_> = std::thread::scope(|scope| {
                    let threads = models.iter_mut().map(|model| scope.spawn(|| logits(&mut **model)));
                    let threads: Vec<_> = threads.collect();
                    threads.into_iter().map(|thread| thread.join().expect("a rank panicked")).collect()
                });
                for (rank, found) in found.into_iter().enumerate() {
                    for (found, expected) in found?.iter().zip(&expected) {
                        let error = (found - expected).abs() / largest;
                        assert!(error < 1e-4, "{name}: rank {rank} of {num_ranks}: {found} for {expected}");
                    }
                }
            }
        }
        Ok(())
    }

    #[test]
    fn what_ranks_cannot_divide_is_refused_by_name() -> Result<(), ModelError> {
        for (config, layout, num_ranks, message) in [
            (llama(json!({})), QuantLayout::F32, 3, "3 ranks cannot share `num_attention_heads` of 8 evenly"),
            (
                llama(json!({"num_attention_heads": 24, "num_key_value_heads": 4})),
                QuantLayout::F32,
                6,
                "6 ranks cannot share `num_key_value_heads` of 4 evenly",
            ),
            (
                llama(json!({"intermediate_size": 100})),
                QuantLayout::F32,
                8,
                "8 ranks cannot share `intermediate_size` of 100 evenly",
            ),
            (
                llama(json!({})),
                QuantLayout::Q8_0,
                8,
                "tensor `model.layers.0.self_attn.o_proj.weight` is stored as Q8_0, 32 columns to a block, and a rank's \
                 columns 112..128 cut one",
            ),
            (
                deepseek_v2(json!({"intermediate_size": 128})),
                QuantLayout::Q8_0,
                2,
                "tensor `model.layers.1.mlp.experts.0.down_proj.weight` is stored as Q8_0, 32 columns to a block, and a \
                 rank's columns 16..32 cut one",
            ),
        ] {
            let last = meeting(num_ranks).pop().expect("there is a last rank");
            let error = load(&config, &Random(layout), last).err().expect("it is refused").to_string();
            assert!(error.starts_with(message), "{error}");
        }
        for (rank, num_ranks) in [(0, 0), (2, 2)] {
            assert!(matches!(Shard::new(rank, num_ranks), Err(ModelError::InvalidShard { .. })));
        }
        assert_eq!(Shard::new(1, 2)?, Shard { rank: 1, num_ranks: 2 });
        Ok(())
    }

    #[test]
    fn shares_cover_everything_once_or_as_often_as_there_are_ranks_too_many() -> Result<(), ModelError> {
        let shares = |len, num_ranks| {
            let share = |rank| Shard { rank, num_ranks }.share_or_copy("heads", len).map(|share| share.own);
            (0..num_ranks).map(share).collect::<Result<Vec<_>, _>>()
        };
        assert_eq!(shares(8, 4)?, [0..2, 2..4, 4..6, 6..8]);
        assert_eq!(shares(2, 4)?, [0..1, 0..1, 1..2, 1..2]);
        assert!(shares(3, 4).is_err() && shares(6, 4).is_err());
        assert_eq!(Share { len: 4, own: 1..2 }.of_width(16), Share { len: 64, own: 16..32 });
        Ok(())
    }

    #[test]
    fn a_part_of_a_file_is_borrowed_by_rows_and_copied_by_columns() -> Result<(), ModelError> {
        let header = br#"{"a.weight":{"dtype":"F32","shape":[4,6],"data_offsets":[0,96]}}"#;
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend_from_slice(header);
        file.extend((0..24).flat_map(|i| (i as f32).to_le_bytes()));
        let weights = SafetensorsWeights::new([("a file".to_owned(), file.as_slice())])?;
        let rows = weights.rows("a.weight", &[4, 6], 1..3)?;
        assert_eq!((rows.shape(), rows.to_f32()?), (&[2, 6][..], (6..18).map(|i| i as f32).collect()));
        assert!(file.as_ptr_range().contains(&rows.bytes().as_ptr()), "rows were copied");
        let columns = weights.get("a.weight", &[4, 6])?.into_columns(2..4).expect("each element is a block");
        assert_eq!((columns.shape(), columns.bytes().len()), (&[4, 2][..], 32));
        assert_eq!(columns.to_f32()?, [2.0, 3.0, 8.0, 9.0, 14.0, 15.0, 20.0, 21.0]);
        Ok(())
    }
}
