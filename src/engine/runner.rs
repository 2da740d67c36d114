//! The model and its KV cache: a batch in, tokens out.

use super::scheduler::{RowToSample, RowToScore};
use super::sequence::SequenceId;
use super::{EngineConfig, EngineError};
use crate::kernels::sampling::{SampledToken, SamplingError, TokenLogprobs};
use crate::model::{Batch, KvCache, LanguageModel, Logits, Sampling};

/// Whose row was sampled, and what came of it; an error of one row is that row's alone.
pub(super) type SampledRow = (SequenceId, Result<SampledToken, SamplingError>);

/// Whose prompt has a token that was scored, and how; an error of one token is that sequence's alone.
pub(super) type ScoredRow = (SequenceId, Result<TokenLogprobs, SamplingError>);

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

    /// Whether a step's forward pass may begin before the tokens of the last one are known.
    pub(super) fn runs_ahead(&self) -> bool {
        self.model.runs_ahead()
    }

    /// The forward pass of a step whose tokens are still being sampled; `None` where it has to wait for them.
    pub(super) fn forward_ahead(&mut self, batch: &Batch, sampling: &Sampling) -> Result<Option<Logits>, EngineError> {
        Ok(self.model.forward_ahead(batch, sampling, &mut self.cache)?)
    }

    /// What the model says of tokens that stand in prompts.
    pub(super) fn score(logits: &Logits, rows: &[RowToScore]) -> Result<Vec<ScoredRow>, EngineError> {
        let known: Vec<_> = rows.iter().map(|row| row.token).collect();
        Ok(rows.iter().map(|row| row.id).zip(logits.score(&known)?).collect())
    }

    /// Starts to sample the rows whose masks are here.
    pub(super) fn start_sampling(logits: &Logits, rows: &[RowToSample<'_>]) -> Result<Sampling, EngineError> {
        Ok(logits.start_sampling(rows.iter().map(|row| (row.logit_row, &row.row)))?)
    }
}
