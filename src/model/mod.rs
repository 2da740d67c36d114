//! Token ids to logits: the models, their weights and the planes of their KV cache.
//!
//! A model is loaded once ([`load`]) and then driven one [`Batch`] at a time ([`LanguageModel::forward`]). It knows
//! nothing of requests, masks or sampling: the engine decides which tokens run and where their keys and values lie,
//! the model fills those slots of the [`KvCache`] and answers with [`Logits`], which stay on the device. On a GPU a
//! decode step is work that was recorded once and is replayed ([`GraphConfig`]).
//! On CPU a row of logits is the same, to the bit, whatever else is in the batch and however the prompt is cut into
//! chunks.

mod batch;
mod kv_cache;
mod logits;

mod decode_bucket;
mod decode_graphs;

mod config;
mod dummy;
mod gguf;
mod load;
mod mapped;
mod quantize;
mod safetensors;
mod scripted;
mod superblocks;
mod weight;

mod shard;

mod layers;
mod llama;

mod deepseek_config;
mod deepseek_v2;

mod error;

pub use batch::Batch;
pub use candle_core::{DType, Device};

pub use crate::kernels::gpu::{GpuError, GpuId, GpuMemory, memory as gpu_memory, open as open_gpu};
pub use crate::kernels::{BatchSequence, StagingConfig};
pub use decode_bucket::{EagerReason, GraphConfig, Pass};
pub use error::ModelError;
pub use gguf::{GgufFile, GgufTokenizer};
pub use kv_cache::{KvCache, KvSpec, PlaneSpec};
pub use load::{LoadOptions, LoadProgress, LoadReport, ModelFiles, WeightSource, load};
pub use logits::{Logits, Sampling};
pub use quantize::{Quantization, QuantizationReport};
pub use scripted::{Script, ScriptedModel};
pub use shard::{Collective, OneRank, Shard};
pub use weight::{QuantLayout, QuantWeight};

/// A loaded model. One thread drives it.
pub trait LanguageModel: Send {
    /// What it is and what it needs.
    fn info(&self) -> &ModelInfo;

    /// Runs one step: writes the keys and values of all tokens of `batch` into `cache`, and returns a row of logits
    /// for every entry of `batch.logit_rows`.
    ///
    /// # Errors
    /// [`ModelError::InvalidBatch`] before anything is computed; otherwise the device's own failure.
    fn forward(&mut self, batch: &Batch, cache: &mut KvCache) -> Result<Logits, ModelError>;

    /// Whether [`LanguageModel::forward_ahead`] may run a step: where a device works while the host does something else.
    fn runs_ahead(&self) -> bool {
        false
    }

    /// As [`LanguageModel::forward`], for a step whose tokens are still being sampled: row `i` of `sampling` gives the
    /// token of sequence `i`, each of which runs one, and the ids in `batch` say nothing. `None` where this step has to
    /// wait for its tokens; then nothing was run.
    ///
    /// # Errors
    /// As [`LanguageModel::forward`].
    fn forward_ahead(
        &mut self,
        _batch: &Batch,
        _sampling: &Sampling,
        _cache: &mut KvCache,
    ) -> Result<Option<Logits>, ModelError> {
        Ok(None)
    }
}

/// What a model is: fixed once it is loaded.
#[derive(Clone, Debug)]
pub struct ModelInfo {
    /// The architecture's name as checkpoints spell it: `llama`, `qwen2`, `deepseek_v2`.
    pub architecture: String,
    /// Rows of the logits, those past the tokenizer's end included.
    pub vocab_len: usize,
    /// Positions the model was made for.
    pub context_len: usize,
    /// What a token leaves in the KV cache.
    pub kv: KvSpec,
    /// Where it runs.
    pub device: Device,
    /// Bytes its weights take on the device.
    pub weight_bytes: usize,
    /// Numbers it was trained to hold, on this rank; a tied head counts once.
    pub num_parameters: usize,
    /// What loading it took.
    pub load: LoadReport,
    /// What rounding its matrices on load changed, where that was asked for.
    pub quantization: Option<QuantizationReport>,
}
