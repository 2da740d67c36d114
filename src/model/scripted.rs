//! A model without weights: its logits are a function of the context, so that everything above it runs for real in
//! milliseconds.
//!
//! It keeps the tokens themselves in a paged cache of its own and reads its context back through the block tables.
//! A scheduler that mixes up slots, blocks or positions therefore changes the text, which is what tests look for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use candle_core::{DType, Device, Tensor};

use super::{
    Batch, KvCache, KvSpec, LanguageModel, LoadReport, Logits, ModelError, ModelInfo, Pass, PlaneSpec, Sampling,
};
use crate::kernels::sampling::{SampledToken, SamplingError};

/// Gives the scores of the next token after a context: `[vocab_len]` f32.
pub type Script = Arc<dyn Fn(&[u32], &mut [f32]) + Send + Sync>;

/// A [`LanguageModel`] that follows a [`Script`].
pub struct ScriptedModel {
    info: ModelInfo,
    script: Script,
    /// Token by slot, `None` where nothing was written.
    slots: Vec<Option<u32>>,
    time_per_step: Duration,
    device_time: Option<Duration>,
}

impl ScriptedModel {
    /// A model of `vocab_len` rows that follows `script`.
    #[must_use]
    pub fn new(vocab_len: usize, context_len: usize, script: Script) -> Self {
        let kv = KvSpec { num_layers: 1, planes: vec![PlaneSpec { name: "token", width: 1 }], dtype: DType::F32 };
        let info = ModelInfo {
            architecture: "scripted".into(),
            vocab_len,
            context_len,
            kv,
            device: Device::Cpu,
            weight_bytes: 0,
            num_parameters: 0,
            load: LoadReport::default(),
            quantization: None,
        };
        Self { info, script, slots: Vec::new(), time_per_step: Duration::ZERO, device_time: None }
    }

    /// A model whose scores are noise drawn from a seed and the whole context: any change of the context changes them.
    #[must_use]
    pub fn seeded(vocab_len: usize, context_len: usize, seed: u64) -> Self {
        let script = move |context: &[u32], scores: &mut [f32]| {
            let mut state = context.iter().fold(splitmix(seed), |state, &id| splitmix(state ^ u64::from(id)));
            for score in scores {
                state = splitmix(state);
                *score = (state >> 40) as f32 / (1 << 22) as f32;
            }
        };
        Self::new(vocab_len, context_len, Arc::new(script))
    }

    /// Lets every forward pass return at once and its logits be there so much later, as a GPU does.
    #[must_use]
    pub fn with_device_time(mut self, device_time: Duration) -> Self {
        self.device_time = Some(device_time);
        self
    }

    /// Makes every step take this long, as a CPU would.
    #[must_use]
    pub fn with_time_per_step(mut self, time_per_step: Duration) -> Self {
        self.time_per_step = time_per_step;
        self
    }

    fn context(&self, table: &[u32], len: usize, block_len: usize) -> Result<Vec<u32>, ModelError> {
        let slot_of = |position: usize| table[position / block_len] as usize * block_len + position % block_len;
        (0..len)
            .map(|position| {
                self.slots[slot_of(position)].ok_or_else(|| ModelError::InvalidBatch {
                    detail: format!("position {position} is attended to and was never computed"),
                })
            })
            .collect()
    }
}

impl LanguageModel for ScriptedModel {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn forward(&mut self, batch: &Batch, cache: &mut KvCache) -> Result<Logits, ModelError> {
        batch.check(&self.info, cache)?;
        self.slots.resize(cache.num_blocks() * cache.block_len(), None);
        for (&slot, &id) in batch.slots.iter().zip(&batch.token_ids) {
            self.slots[slot as usize] = Some(id);
        }
        let mut scores = vec![0.0; batch.logit_rows.len() * self.info.vocab_len];
        for (row, &token_idx) in scores.chunks_mut(self.info.vocab_len).zip(&batch.logit_rows) {
            let token_idx = token_idx as usize;
            let owner = batch.sequences.iter().rfind(|sequence| sequence.query_start <= token_idx);
            let owner = owner.expect("a checked batch has an owner for every row");
            let context_len = owner.context_len - (owner.query_start + owner.query_len - 1 - token_idx);
            let context = self.context(&owner.block_table, context_len, cache.block_len())?;
            (self.script)(&context, row);
        }
        std::thread::sleep(self.time_per_step);
        let rows = Tensor::from_vec(scores, (batch.logit_rows.len(), self.info.vocab_len), &Device::Cpu)?;
        let logits = Logits::new(rows, Pass::Cpu)?;
        Ok(match self.device_time {
            Some(device_time) => logits.computed_from(Instant::now() + device_time),
            None => logits,
        })
    }

    fn runs_ahead(&self) -> bool {
        self.device_time.is_some()
    }

    /// Rows that were not sampled run token 0, as on a GPU some id.
    fn forward_ahead(
        &mut self,
        batch: &Batch,
        sampling: &Sampling,
        cache: &mut KvCache,
    ) -> Result<Option<Logits>, ModelError> {
        let known = sampling.known().filter(|tokens| tokens.len() == batch.sequences.len());
        let (Some(tokens), Some(_)) = (known, self.device_time) else { return Ok(None) };
        let id = |token: &Result<SampledToken, SamplingError>| token.as_ref().map_or(0, |token| token.id);
        let batch = Batch { token_ids: tokens.iter().map(id).collect(), ..batch.clone() };
        self.forward(&batch, cache).map(Some)
    }
}

/// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
fn splitmix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
