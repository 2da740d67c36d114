//! The model and its KV cache: a batch in, tokens out.

use super::scheduler::RowToSample;
use super::sequence::SequenceId;
use super::{EngineConfig, EngineError};
use crate::kernels::sampling::{SampledToken, SamplingError};
use crate::model::{Batch, KvCache, LanguageModel, Logits};

/// Whose row was sampled, and what came of it.
pub(super) type SampledRow = (SequenceId, Result<SampledToken, SamplingError>);

pub(super) struct ModelRunner {
    model: Box<dyn LanguageModel>,
    cache: KvCache,
}

impl ModelRunner {
    pub(super) fn new(model: Box<dyn LanguageModel>, config: &EngineConfig) -> Result<Self, EngineError> {
        let info = model.info();
        let cache = KvCache::new(&info.kv, config.num_blocks, config.block_len, &info.device)?;
        Ok(Self { model, cache })
    }

    pub(super) fn vocab_len(&self) -> usize {
        self.model.info().vocab_len
    }

    pub(super) fn forward(&mut self, batch: &Batch) -> Result<Logits, EngineError> {
        Ok(self.model.forward(batch, &mut self.cache)?)
    }

    /// Samples the rows whose masks are here; an error of one row is that row's alone.
    pub(super) fn sample(&self, logits: &Logits, rows: &[RowToSample<'_>]) -> Result<Vec<SampledRow>, EngineError> {
        let sampled = logits.sample(rows.iter().map(|row| (row.logit_row, &row.row)))?;
        Ok(rows.iter().map(|row| row.id).zip(sampled).collect())
    }
}
