//! Masked sampling: one row of logits and one row of mask bits to one token.
//!
//! The CPU body here is the specification. Order: penalties, logit bias, mask, temperature, top-k, top-p, min-p, draw.
//! The draw is counter-based (Philox 4x32-10, Salmon et al., SC 2011) on (seed, choice, position), so a token depends
//! on nothing but its own row: not on the batch, not on time. Ties go to the lowest id.

use std::sync::OnceLock;

use candle_core::{Device, Storage, Tensor, bail};
use serde::{Deserialize, Serialize};

use super::operand::{Matrix, elements};
use super::parallel::for_each_range;

/// How one sequence's next token is chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SamplingParams {
    /// Softmax temperature; 0 takes the best token.
    pub temperature: f32,
    /// Keep the `top_k` best tokens; 0 keeps all.
    pub top_k: u32,
    /// Keep the smallest set of best tokens whose probability reaches this; 1 keeps all.
    pub top_p: f32,
    /// Drop tokens below this share of the best token's probability; 0 keeps all.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of tokens already in prompt or output; 1 changes nothing.
    pub repetition_penalty: f32,
    /// Subtracted per occurrence in the output.
    pub frequency_penalty: f32,
    /// Subtracted once for tokens that occur in the output.
    pub presence_penalty: f32,
    /// Added to single logits.
    pub logit_bias: Vec<(u32, f32)>,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            logit_bias: Vec::new(),
        }
    }
}

/// Everything one row's choice depends on besides its logits.
#[derive(Clone, Copy, Debug)]
pub struct SamplingRow<'a> {
    /// Mask bits, `[num_words]` u32: bit `id % 32` of word `id / 32` is set where `id` may be sampled.
    pub mask: &'a [u32],
    /// What soft biases add to single logits, ascending by id.
    pub bias: &'a [(u32, f32)],
    /// The parameters.
    pub params: &'a SamplingParams,
    /// How often each token stands in the output so far, ascending by id.
    pub output_counts: &'a [(u32, u32)],
    /// Distinct token ids of the prompt, for the repetition penalty.
    pub prompt_ids: &'a [u32],
    /// The request's seed.
    pub seed: u64,
    /// Which of the request's choices this is.
    pub choice: u32,
    /// How many tokens the choice has generated.
    pub position: u32,
    /// How many alternatives to report with log-probabilities; `None` for no log-probabilities at all.
    pub num_logprobs: Option<u32>,
}

/// A sampled token.
#[derive(Clone, Debug, PartialEq)]
pub struct SampledToken {
    /// Its id.
    pub id: u32,
    /// Its log-probability and the best alternatives', when asked for.
    pub logprobs: Option<TokenLogprobs>,
}

/// Log-probabilities under the raw logits: before penalties, bias, mask and temperature.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLogprobs {
    /// The sampled token's.
    pub logprob: f32,
    /// The best tokens', best first.
    pub top: Vec<(u32, f32)>,
}

/// Why a row has no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SamplingError {
    /// No bit of the mask is set; an empty row is never softmaxed.
    #[error("the mask allows no token")]
    EmptyMask,
    /// The model gave a NaN for an allowed token.
    #[error("the logit of token {id} is not a number")]
    NotANumber {
        /// The token.
        id: u32,
    },
}

/// Chooses one token from `logits` (`[vocab_len]`, f32), which is used as scratch space.
///
/// Cost: one pass over the row for greedy; sampling sorts only the allowed tokens that survive top-k.
///
/// # Errors
/// [`SamplingError`] when nothing is allowed or the model's output is broken.
pub fn sample(logits: &mut [f32], row: &SamplingRow<'_>) -> Result<SampledToken, SamplingError> {
    let raw_norm = row.num_logprobs.map(|_| log_sum_exp(logits));
    let top = row.num_logprobs.zip(raw_norm).map(|(count, norm)| top_logprobs(logits, count as usize, norm));
    let raw = raw_norm.map(|norm| (logits.to_vec(), norm));
    for edit in edits(row) {
        edit.apply(logits);
    }
    let id = if row.params.temperature == 0.0 { best(logits, row.mask)? } else { draw(logits, row)? };
    let logprobs = raw.zip(top).map(|((raw, norm), top)| TokenLogprobs { logprob: raw[id as usize] - norm, top });
    Ok(SampledToken { id, logprobs })
}

/// Rows that a GPU is sampling.
#[cfg(feature = "cuda")]
pub use super::cuda::Started;

/// Starts to sample from rows of logits (`[num_rows, vocab_len]`, f32) on a GPU, and leaves them as they are; the same
/// tokens as [`sample`] gives for the same rows.
///
/// Cost: the masks and what edits logits go to the device, only ids come back; of a row that asks for log-probabilities
/// all logits do.
///
/// # Errors
/// When the device fails.
#[cfg(feature = "cuda")]
pub fn start_on_gpu(logits: &candle_core::Tensor, rows: &[(usize, &SamplingRow<'_>)]) -> candle_core::Result<Started> {
    super::cuda::start(logits, rows)
}

/// The log-probability of `id` and of the `count` best tokens under one row of raw logits.
#[must_use]
pub fn score(logits: &[f32], id: u32, count: u32) -> TokenLogprobs {
    let norm = log_sum_exp(logits);
    TokenLogprobs { logprob: logits[id as usize] - norm, top: top_logprobs(logits, count as usize, norm) }
}

/// A row of logits and the token that stands after it already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownToken {
    /// Which row.
    pub row_idx: usize,
    /// The token.
    pub id: u32,
    /// How many alternatives to report.
    pub num_logprobs: u32,
}

/// The log-probabilities of known tokens, each under its row of raw `logits` (`[num_rows, vocab_len]`, f32), as
/// [`score`] has them; the outcome of a token is that token's alone.
///
/// Cost: two passes over each row asked for, on all model threads; from a GPU those rows are copied off, and those
/// between them.
///
/// # Errors
/// When the device fails, `logits` is no matrix of f32, or a row or an id is outside of it.
pub fn score_known(
    logits: &Tensor,
    tokens: &[KnownToken],
) -> candle_core::Result<Vec<Result<TokenLogprobs, SamplingError>>> {
    const OP: &str = "score_known";
    let rows = tokens.iter().map(|token| token.row_idx);
    let (Some(first), Some(last)) = (rows.clone().min(), rows.max()) else { return Ok(Vec::new()) };
    let (_, vocab_len) = logits.dims2()?;
    if let Some(token) = tokens.iter().find(|token| token.id as usize >= vocab_len) {
        bail!("{OP}: id {} is outside the vocabulary of {vocab_len}", token.id)
    }
    let mut logits = logits.narrow(0, first, last + 1 - first)?;
    if !logits.device().is_cpu() {
        // Copying off a device takes the whole of a storage.
        logits = logits.force_contiguous()?.to_device(&Device::Cpu)?;
    }
    let (storage, layout) = logits.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else { bail!("{OP}: the rows are not in the CPU's memory") };
    let matrix = Matrix::of(layout, OP)?;
    let values = elements::<f32>(storage, &matrix, OP)?;
    let outcomes: Vec<OnceLock<_>> = tokens.iter().map(|_| OnceLock::new()).collect();
    for_each_range(tokens.len(), vocab_len, |range| {
        for (token, outcome) in tokens[range.clone()].iter().zip(&outcomes[range]) {
            let scored = score(matrix.row(values, token.row_idx - first), token.id, token.num_logprobs);
            let is_number = !scored.logprob.is_nan();
            outcome.get_or_init(|| is_number.then_some(scored).ok_or(SamplingError::NotANumber { id: token.id }));
        }
    });
    Ok(outcomes.into_iter().map(|outcome| outcome.into_inner().expect("every range is worked on")).collect())
}

/// Ids of the set bits of a mask row, ascending, below `vocab_len`.
fn allowed(mask: &[u32], vocab_len: usize) -> impl Iterator<Item = u32> + '_ {
    mask.iter()
        .enumerate()
        .flat_map(|(word_idx, &word)| {
            let mut bits = word;
            std::iter::from_fn(move || {
                (bits != 0).then(|| {
                    let bit = bits.trailing_zeros();
                    bits &= bits - 1;
                    word_idx as u32 * 32 + bit
                })
            })
        })
        .take_while(move |&id| (id as usize) < vocab_len)
}

/// A change to one logit, as `Edit` of `kernels/sampling.cu`. Those of one id are made in order.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub(super) struct Edit {
    pub(super) id: u32,
    kind: u32,
    value: f32,
}

impl Edit {
    const REPETITION: u32 = 0;
    const ADD: u32 = 1;

    fn apply(self, logits: &mut [f32]) {
        let Some(logit) = logits.get_mut(self.id as usize) else { return };
        *logit = match self.kind {
            Self::REPETITION if *logit > 0.0 => *logit / self.value,
            Self::REPETITION => *logit * self.value,
            _ => *logit + self.value,
        };
    }
}

/// Penalties, then biases.
pub(super) fn edits(row: &SamplingRow<'_>) -> Vec<Edit> {
    let params = row.params;
    let mut edits = Vec::new();
    if params.repetition_penalty != 1.0 {
        let in_output = row.output_counts.iter().map(|&(id, _)| id);
        let only_in_prompt = row
            .prompt_ids
            .iter()
            .copied()
            .filter(|id| row.output_counts.binary_search_by_key(id, |&(other, _)| other).is_err());
        let repetition = |id| Edit { id, kind: Edit::REPETITION, value: params.repetition_penalty };
        edits.extend(in_output.chain(only_in_prompt).map(repetition));
    }
    let add = |id, value| Edit { id, kind: Edit::ADD, value };
    if params.frequency_penalty != 0.0 || params.presence_penalty != 0.0 {
        let penalty = |count: u32| params.frequency_penalty * count as f32 + params.presence_penalty;
        edits.extend(row.output_counts.iter().map(|&(id, count)| add(id, -penalty(count))));
    }
    edits.extend(params.logit_bias.iter().chain(row.bias).map(|&(id, bias)| add(id, bias)));
    edits
}

fn best(logits: &[f32], mask: &[u32]) -> Result<u32, SamplingError> {
    let mut best: Option<(u32, f32)> = None;
    for id in allowed(mask, logits.len()) {
        let logit = logits[id as usize];
        if logit.is_nan() {
            return Err(SamplingError::NotANumber { id });
        }
        if best.is_none_or(|(_, top)| logit > top) {
            best = Some((id, logit));
        }
    }
    best.map(|(id, _)| id).ok_or(SamplingError::EmptyMask)
}

fn draw(logits: &[f32], row: &SamplingRow<'_>) -> Result<u32, SamplingError> {
    let params = row.params;
    let best = best(logits, row.mask)?;
    let max = logits[best as usize] / params.temperature;
    if max == f32::NEG_INFINITY {
        return Ok(best);
    }
    let weigh = |id: u32| (id, weight(logits[id as usize] / params.temperature, max));
    let mut candidates: Vec<(u32, f32)> =
        allowed(row.mask, logits.len()).map(weigh).filter(|&(_, weight)| units(weight) > 0).collect();
    keep_top_k(&mut candidates, params.top_k as usize);
    keep_top_p(&mut candidates, params.top_p);
    if params.min_p > 0.0 {
        // The best weighs 1 and stays.
        candidates.retain(|&(_, weight)| weight >= params.min_p.min(1.0));
    }
    Ok(pick(&candidates, uniform_bits(row.seed, row.choice, row.position)))
}

/// How likely a logit is against the largest, which weighs 1.
fn weight(logit: f32, max: f32) -> f32 {
    if logit == max { 1.0 } else { exp(logit - max) }
}

/// A weight in whole units of 2^-40, so that sums are the same in any order. What weighs less than one is never drawn.
fn units(weight: f32) -> u64 {
    (weight * (1_u64 << 40) as f32) as u64
}

/// `e` to the power of `x`, at most 0, to about 2 ulp: Cephes' `expf`, written out in operations that every machine
/// rounds alike, so that a GPU finds the same weights. `kernels/sampling.cu` has its twin.
#[allow(clippy::excessive_precision, reason = "the coefficients as they were published")]
fn exp(x: f32) -> f32 {
    // Whatever is added to it is rounded to a whole number.
    const MAGIC: f32 = 12_582_912.0;
    let x = x.max(-88.0);
    let n = (x * std::f32::consts::LOG2_E + MAGIC) - MAGIC;
    let r = (x - n * 0.693_359_375) + n * 2.121_944_40e-4;
    let mut p = 1.987_569_150_0e-4_f32;
    for coefficient in
        [1.398_199_950_7e-3, 8.333_451_907_3e-3, 4.166_579_589_4e-2, 1.666_666_545_9e-1, 5.000_000_120_1e-1]
    {
        p = p * r + coefficient;
    }
    let p = ((r * r) * p + r) + 1.0;
    p * f32::from_bits(((n as i32 + 127) as u32) << 23)
}

/// Best first; ties by id.
fn by_weight(a: &(u32, f32), b: &(u32, f32)) -> std::cmp::Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

fn keep_top_k(candidates: &mut Vec<(u32, f32)>, top_k: usize) {
    if top_k > 0 && top_k < candidates.len() {
        candidates.select_nth_unstable_by(top_k - 1, by_weight);
        candidates.truncate(top_k);
        candidates.sort_unstable_by_key(|&(id, _)| id);
    }
}

fn keep_top_p(candidates: &mut Vec<(u32, f32)>, top_p: f32) {
    if top_p >= 1.0 {
        return;
    }
    let needed = f64::from(top_p) * sum(candidates) as f64;
    candidates.sort_unstable_by(by_weight);
    let mut reached = 0;
    let kept = candidates
        .iter()
        .position(|&(_, weight)| {
            reached += units(weight);
            reached as f64 >= needed
        })
        .map_or(candidates.len(), |last| last + 1);
    candidates.truncate(kept.max(1));
    candidates.sort_unstable_by_key(|&(id, _)| id);
}

fn sum(candidates: &[(u32, f32)]) -> u64 {
    candidates.iter().map(|&(_, weight)| units(weight)).sum()
}

/// Walks the weights in id order to the point `uniform_bits / 2^53` of their sum.
fn pick(candidates: &[(u32, f32)], uniform_bits: u64) -> u32 {
    let mut rest = ((u128::from(uniform_bits) * u128::from(sum(candidates))) >> 53) as u64;
    let passes = |&&(_, weight): &&(u32, f32)| match rest.checked_sub(units(weight)) {
        Some(less) => {
            rest = less;
            false
        }
        None => true,
    };
    candidates.iter().find(passes).map_or(candidates[0].0, |&(id, _)| id)
}

fn log_sum_exp(logits: &[f32]) -> f32 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| f64::from((logit - max).exp())).sum();
    max + sum.ln() as f32
}

fn top_logprobs(logits: &[f32], count: usize, norm: f32) -> Vec<(u32, f32)> {
    let mut top: Vec<(u32, f32)> = logits.iter().enumerate().map(|(id, &logit)| (id as u32, logit - norm)).collect();
    let count = count.min(top.len());
    if count == 0 {
        return Vec::new();
    }
    top.select_nth_unstable_by(count - 1, by_weight);
    top.truncate(count);
    top.sort_unstable_by(by_weight);
    top
}

/// A number in `0.0..1.0` that depends on nothing but its arguments: 53 bits of one Philox block.
#[must_use]
pub fn uniform(seed: u64, choice: u32, position: u32) -> f64 {
    uniform_bits(seed, choice, position) as f64 / (1_u64 << 53) as f64
}

/// The 53 bits of [`uniform`].
fn uniform_bits(seed: u64, choice: u32, position: u32) -> u64 {
    let block = philox([position, choice, 0, 0], [seed as u32, (seed >> 32) as u32]);
    (u64::from(block[0]) << 32 | u64::from(block[1])) >> 11
}

/// Philox 4x32 with ten rounds.
fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let low = u64::from(counter[0]) * 0xD251_1F53;
        let high = u64::from(counter[2]) * 0xCD9E_8D57;
        counter = [
            (high >> 32) as u32 ^ counter[1] ^ key[0],
            high as u32,
            (low >> 32) as u32 ^ counter[3] ^ key[1],
            low as u32,
        ];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row<'a>(mask: &'a [u32], params: &'a SamplingParams, position: u32) -> SamplingRow<'a> {
        SamplingRow {
            mask,
            bias: &[],
            params,
            output_counts: &[],
            prompt_ids: &[],
            seed: 7,
            choice: 0,
            position,
            num_logprobs: None,
        }
    }

    /// Known answers published with Random123 (kat_vectors, philox4x32 with 10 rounds).
    #[test]
    fn philox_gives_the_published_vectors() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox([u32::MAX; 4], [u32::MAX; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
    }

    #[test]
    fn a_masked_token_is_never_sampled() {
        let params = SamplingParams::default();
        for position in 0..1000 {
            let mut logits = vec![5.0, 0.0, 1.0, 9.0];
            let token = sample(&mut logits, &row(&[0b0110], &params, position)).expect("two tokens are allowed");
            assert!(token.id == 1 || token.id == 2);
        }
    }

    #[test]
    fn an_empty_mask_is_an_error_at_every_temperature() {
        for temperature in [0.0, 1.0] {
            let params = SamplingParams { temperature, ..SamplingParams::default() };
            assert_eq!(sample(&mut [1.0, 2.0], &row(&[0], &params, 0)), Err(SamplingError::EmptyMask));
        }
    }

    #[test]
    fn greedy_takes_the_lowest_id_among_equals() {
        let params = SamplingParams { temperature: 0.0, ..SamplingParams::default() };
        let token = sample(&mut [1.0, 3.0, 3.0], &row(&[0b111], &params, 0)).expect("all are allowed");
        assert_eq!(token.id, 1);
    }

    #[test]
    fn frequencies_follow_the_probabilities() {
        let params = SamplingParams::default();
        let mut counts = [0_u32; 3];
        for position in 0..20_000 {
            let mut logits = [0.5_f32.ln(), 0.3_f32.ln(), 0.2_f32.ln()];
            counts[sample(&mut logits, &row(&[0b111], &params, position)).expect("allowed").id as usize] += 1;
        }
        for (count, share) in counts.iter().zip([0.5, 0.3, 0.2]) {
            assert!((f64::from(*count) / 20_000.0 - share).abs() < 0.015, "{counts:?}");
        }
    }

    #[test]
    fn the_exponential_is_right_to_a_few_units_in_the_last_place() {
        for i in 0..=90_000 {
            let x = i as f32 / -1000.0;
            let expected = f64::from(x.max(-88.0)).exp();
            let found = f64::from(exp(x));
            // Below the smallest normal number it is 0.
            assert!((found - expected).abs() <= 4e-7 * expected || expected < 1.2e-38, "{x}: {found} for {expected}");
        }
    }

    #[test]
    fn top_k_top_p_and_min_p_cut_the_tail() {
        let cases = [
            SamplingParams { top_k: 2, ..SamplingParams::default() },
            SamplingParams { top_p: 0.79, ..SamplingParams::default() },
            SamplingParams { min_p: 0.5, ..SamplingParams::default() },
        ];
        for params in cases {
            for position in 0..500 {
                let mut logits = [0.2_f32.ln(), 0.5_f32.ln(), 0.3_f32.ln()];
                let token = sample(&mut logits, &row(&[0b111], &params, position)).expect("allowed");
                assert_ne!(token.id, 0, "{params:?}");
            }
        }
    }

    #[test]
    fn penalties_count_what_was_said() {
        let params = SamplingParams {
            temperature: 0.0,
            repetition_penalty: 2.0,
            frequency_penalty: 0.5,
            presence_penalty: 0.25,
            ..SamplingParams::default()
        };
        let mut logits = [4.0, 3.0, -1.0];
        let request = SamplingRow { output_counts: &[(0, 2)], prompt_ids: &[0, 2], ..row(&[0b111], &params, 0) };
        edits(&request).into_iter().for_each(|edit| edit.apply(&mut logits));
        assert_eq!(logits, [4.0 / 2.0 - 1.25, 3.0, -2.0]);
    }

    #[test]
    fn log_probabilities_are_of_the_raw_logits() {
        let params = SamplingParams { logit_bias: vec![(0, 100.0)], temperature: 0.0, ..SamplingParams::default() };
        let mut logits = [0.25_f32.ln(), 0.75_f32.ln()];
        let request = SamplingRow { num_logprobs: Some(1), ..row(&[0b11], &params, 0) };
        let token = sample(&mut logits, &request).expect("allowed");
        assert_eq!(token.id, 0);
        let logprobs = token.logprobs.expect("they were asked for");
        assert!((logprobs.logprob - 0.25_f32.ln()).abs() < 1e-6);
        assert_eq!(logprobs.top[0].0, 1);
    }

    #[test]
    fn known_tokens_are_scored_by_their_rows_in_any_order_on_every_device() -> candle_core::Result<()> {
        let vocab_len = 1000;
        let mut logits = crate::kernels::testing::noise(9 * vocab_len, 5);
        logits[4 * vocab_len + 7] = f32::NAN;
        let known = |row_idx, id, num_logprobs| KnownToken { row_idx, id, num_logprobs };
        let tokens = [known(8, 0, 0), known(2, 999, 4), known(4, 3, 1), known(2, 500, 2000), known(3, 1, 20)];
        for device in crate::kernels::testing::devices() {
            // A part of a larger matrix, as a GPU keeps logits.
            let rows = Tensor::from_slice(&logits, (9, vocab_len), &device)?.narrow(0, 2, 7)?;
            let shifted = tokens.map(|token| KnownToken { row_idx: token.row_idx - 2, ..token });
            let scored = score_known(&rows, &shifted)?;
            assert_eq!(scored.len(), tokens.len());
            for (token, scored) in tokens.iter().zip(scored) {
                let row = &logits[token.row_idx * vocab_len..][..vocab_len];
                let expected = match token.row_idx {
                    4 => Err(SamplingError::NotANumber { id: token.id }),
                    _ => Ok(score(row, token.id, token.num_logprobs)),
                };
                assert_eq!(scored, expected, "{token:?}");
            }
            assert!(score_known(&rows, &[])?.is_empty());
            assert!(
                score_known(&rows, &[known(7, 0, 0)]).is_err() && score_known(&rows, &[known(0, 1000, 0)]).is_err()
            );
        }
        Ok(())
    }

    /// Random rows of every kind: the ids must be equal, not close.
    #[test]
    #[cfg(feature = "cuda")]
    fn a_gpu_draws_the_same_ids() -> candle_core::Result<()> {
        use candle_core::{Device, Tensor};

        use crate::kernels::testing::{devices, noise};

        for device in devices().into_iter().filter(Device::is_cuda) {
            for vocab_len in [5_usize, 32, 1000, 4160, 32_256, 102_400] {
                for case in 0..48_u32 {
                    let logits: Vec<f32> = noise(vocab_len, case).iter().map(|x| (x * 40.0).round() / 4.0).collect();
                    let mut mask: Vec<u32> =
                        noise(vocab_len.div_ceil(32), case + 100).iter().map(|x| x.to_bits() << 3).collect();
                    if case % 3 == 0 {
                        mask.fill(u32::MAX);
                    }
                    let params = SamplingParams {
                        temperature: [0.0, 1.0, 0.7, 3.0][case as usize % 4],
                        top_k: [0, 1, 7, 900][case as usize / 4 % 4],
                        top_p: [1.0, 0.0, 0.5, 0.97][case as usize / 2 % 4],
                        min_p: [0.0, 0.1, 1.0][case as usize % 3],
                        repetition_penalty: [1.0, 1.3][case as usize % 2],
                        frequency_penalty: [0.0, 0.25][case as usize / 2 % 2],
                        presence_penalty: 0.0,
                        logit_bias: vec![(2, 1.5), (2, -0.25), (4, 3.0)],
                    };
                    let request = SamplingRow {
                        output_counts: &[(0, 3), (2, 1)],
                        prompt_ids: &[2, 3],
                        ..row(&mask, &params, case)
                    };
                    let expected = sample(&mut logits.clone(), &request);
                    let rows = Tensor::from_slice(&logits, (1, vocab_len), &device)?;
                    let found = start_on_gpu(&rows, &[(0, &request)])?.finish()?;
                    assert_eq!(found[0], expected, "case {case} of {vocab_len}");
                }
            }
        }
        Ok(())
    }
}
