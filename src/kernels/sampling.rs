//! Masked sampling: one row of logits and one row of mask bits to one token.
//!
//! The CPU body here is the specification. Order: penalties, logit bias, mask, temperature, top-k, top-p, min-p, draw.
//! The draw is counter-based (Philox 4x32-10, Salmon et al., SC 2011) on (seed, choice, position), so a token depends
//! on nothing but its own row: not on the batch, not on time. Ties go to the lowest id.

use serde::{Deserialize, Serialize};

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
    penalize(logits, row);
    for &(id, bias) in row.params.logit_bias.iter().chain(row.bias) {
        if let Some(logit) = logits.get_mut(id as usize) {
            *logit += bias;
        }
    }
    let id = if row.params.temperature == 0.0 { best(logits, row.mask)? } else { draw(logits, row)? };
    let logprobs = raw.zip(top).map(|((raw, norm), top)| TokenLogprobs { logprob: raw[id as usize] - norm, top });
    Ok(SampledToken { id, logprobs })
}

/// The log-probability of `id` and of the `count` best tokens under one row of raw logits.
#[must_use]
pub fn score(logits: &[f32], id: u32, count: u32) -> TokenLogprobs {
    let norm = log_sum_exp(logits);
    TokenLogprobs { logprob: logits[id as usize] - norm, top: top_logprobs(logits, count as usize, norm) }
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

fn penalize(logits: &mut [f32], row: &SamplingRow<'_>) {
    let params = row.params;
    if params.repetition_penalty != 1.0 {
        let in_output = row.output_counts.iter().map(|&(id, _)| id);
        let only_in_prompt = row
            .prompt_ids
            .iter()
            .copied()
            .filter(|id| row.output_counts.binary_search_by_key(id, |&(other, _)| other).is_err());
        for id in in_output.chain(only_in_prompt) {
            if let Some(logit) = logits.get_mut(id as usize) {
                *logit =
                    if *logit > 0.0 { *logit / params.repetition_penalty } else { *logit * params.repetition_penalty };
            }
        }
    }
    if params.frequency_penalty != 0.0 || params.presence_penalty != 0.0 {
        for &(id, count) in row.output_counts {
            if let Some(logit) = logits.get_mut(id as usize) {
                *logit -= params.frequency_penalty * count as f32 + params.presence_penalty;
            }
        }
    }
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
    let mut candidates = Vec::new();
    for id in allowed(row.mask, logits.len()) {
        let logit = logits[id as usize];
        if logit.is_nan() {
            return Err(SamplingError::NotANumber { id });
        }
        candidates.push((id, logit / params.temperature));
    }
    let max = candidates.iter().map(|&(_, logit)| logit).fold(f32::NEG_INFINITY, f32::max);
    if candidates.is_empty() {
        return Err(SamplingError::EmptyMask);
    }
    if max == f32::NEG_INFINITY {
        return Ok(candidates[0].0);
    }
    for (_, weight) in &mut candidates {
        *weight = (*weight - max).exp();
    }
    keep_top_k(&mut candidates, params.top_k as usize);
    keep_top_p(&mut candidates, params.top_p);
    if params.min_p > 0.0 {
        candidates.retain(|&(_, weight)| weight >= params.min_p);
    }
    let uniform = uniform(row.seed, row.choice, row.position);
    Ok(pick(&candidates, uniform))
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
    let total: f64 = candidates.iter().map(|&(_, weight)| f64::from(weight)).sum();
    candidates.sort_unstable_by(by_weight);
    let mut reached = 0.0;
    let kept = candidates
        .iter()
        .position(|&(_, weight)| {
            reached += f64::from(weight);
            reached >= f64::from(top_p) * total
        })
        .map_or(candidates.len(), |last| last + 1);
    candidates.truncate(kept.max(1));
    candidates.sort_unstable_by_key(|&(id, _)| id);
}

/// Walks the weights in id order to the point `uniform` of their sum.
fn pick(candidates: &[(u32, f32)], uniform: f64) -> u32 {
    let total: f64 = candidates.iter().map(|&(_, weight)| f64::from(weight)).sum();
    let mut rest = uniform * total;
    let mut last = candidates[0].0;
    for &(id, weight) in candidates {
        if weight > 0.0 {
            last = id;
            rest -= f64::from(weight);
            if rest < 0.0 {
                break;
            }
        }
    }
    last
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
    let block = philox([position, choice, 0, 0], [seed as u32, (seed >> 32) as u32]);
    let bits = (u64::from(block[0]) << 32 | u64::from(block[1])) >> 11;
    bits as f64 / (1_u64 << 53) as f64
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
        penalize(&mut logits, &request);
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
}
