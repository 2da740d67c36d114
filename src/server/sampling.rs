//! The numbers of a request that say how tokens are drawn, as the sampler takes them.

use std::collections::BTreeMap;

use super::error::HttpError;
use crate::maze::SamplingParams;

/// What the endpoints have in common; absent numbers are the sampler's defaults.
#[derive(Debug, Default)]
pub(crate) struct SamplingFields {
    pub(crate) temperature: Option<f64>,
    pub(crate) top_p: Option<f64>,
    pub(crate) top_k: Option<u32>,
    pub(crate) min_p: Option<f64>,
    pub(crate) repetition_penalty: Option<f64>,
    pub(crate) frequency_penalty: Option<f64>,
    pub(crate) presence_penalty: Option<f64>,
    pub(crate) logit_bias: Option<BTreeMap<String, f64>>,
}

impl SamplingFields {
    /// The numbers as they stand: the maze holds each to its range, and names the one that is outside.
    ///
    /// # Errors
    /// A `logit_bias` on what is no token id below `vocab_len`.
    pub(crate) fn params(self, vocab_len: usize) -> Result<SamplingParams, HttpError> {
        let default = SamplingParams::default();
        Ok(SamplingParams {
            temperature: number(self.temperature, default.temperature),
            top_k: self.top_k.unwrap_or(default.top_k),
            top_p: number(self.top_p, default.top_p),
            min_p: number(self.min_p, default.min_p),
            repetition_penalty: number(self.repetition_penalty, default.repetition_penalty),
            frequency_penalty: number(self.frequency_penalty, default.frequency_penalty),
            presence_penalty: number(self.presence_penalty, default.presence_penalty),
            logit_bias: logit_bias(self.logit_bias, vocab_len)?,
        })
    }
}

/// A number as the sampler takes it; what `f32` cannot hold becomes infinite, which no range allows.
fn number(value: Option<f64>, default: f32) -> f32 {
    value.map_or(default, |value| value as f32)
}

/// OpenAI's map of token ids, as strings, to biases.
fn logit_bias(map: Option<BTreeMap<String, f64>>, vocab_len: usize) -> Result<Vec<(u32, f32)>, HttpError> {
    let entries = map.unwrap_or_default().into_iter().map(|(id, bias)| {
        let token = id.parse::<u32>().ok().filter(|&token| (token as usize) < vocab_len).ok_or_else(|| {
            let reason = format!("not a token id of this model, which has {vocab_len}");
            HttpError::invalid_value(format!("logit_bias.{id}"), reason)
        })?;
        Ok((token, bias as f32))
    });
    entries.collect()
}
