//! The bounds on a request, each with its default, and the checks against them.

use std::time::Duration;

use super::{Error, GenerateRequest, ProbeConfig};

/// What a request may ask for.
#[derive(Clone, Debug, PartialEq)]
pub struct MazeConfig {
    /// Bytes of a prompt. Default 1 MiB.
    pub prompt_bytes_max: usize,
    /// Choices of one request. Default 32; each is a sequence of its own.
    pub num_choices_max: u32,
    /// Alternatives reported with log-probabilities. Default 20.
    pub num_logprobs_max: u32,
    /// Log-probabilities reported of one prompt: of each token and its alternatives, for every choice. Default 262,144;
    /// each takes some tens of bytes of the reply.
    pub num_prompt_logprobs_max: usize,
    /// Entries of a logit bias. Default 1,024.
    pub num_logit_biases_max: usize,
    /// `max_tokens` of a request that states none. Default 256.
    pub max_tokens_default: u32,
    /// IRs in one request. Default 16.
    pub num_irs_max: usize,
    /// Constraints in one constraint set, of a request or a profile. Default 1,000.
    pub num_rules_max: usize,
    /// Bytes of one constraint's description. Default 1 KiB.
    pub description_bytes_max: usize,
    /// Compiled constraints kept for reuse. Default 64, a few MB each.
    pub num_cached_constraints_max: usize,
    /// Bytes of compiled constraints kept for reuse, by estimate. Default 512 MiB; a larger one is used and not kept.
    pub cached_constraint_bytes_max: usize,
    /// Refusals kept, so that a client that tries again costs nothing. Default 256.
    pub num_cached_failures_max: usize,
    /// How long a refusal is kept. Default 10 s.
    pub failure_cached_for: Duration,
    /// Threads that compile, each with `GuideConfig::compile_stack_bytes` of address space. Default: a quarter of the
    /// cores, at least 1 and at most 4.
    pub num_compile_threads: usize,
    /// Constraints that wait for a compile thread. Default 64; over it a request is told to try again.
    pub compile_queue_len_max: usize,
    /// How long a request waits for its constraint. Default 20 s; over it the request is told to try again, while the
    /// compile goes on and is kept.
    pub compile_wait_max: Duration,
    /// Milliseconds of compiling that one client gets each minute, saved up to a minute's worth. Default `None`: no
    /// bound. Requests without a client share one account.
    pub compile_ms_per_minute: Option<u64>,
    /// Bytes of the texts that one request has judged. Default 256 KiB; each token of them costs two masks.
    pub judged_bytes_max: usize,
    /// How long judging the texts of one request may take. Default 10 s; over it the request is told to try again.
    pub judge_time_max: Duration,
    /// Compiles each new constraint in a child process first, which may crash in the server's stead. Default `None`:
    /// off; a new constraint then compiles once instead of twice.
    pub probe: Option<ProbeConfig>,
}

impl Default for MazeConfig {
    fn default() -> Self {
        Self {
            prompt_bytes_max: 1 << 20,
            num_choices_max: 32,
            num_logprobs_max: 20,
            num_prompt_logprobs_max: 1 << 18,
            num_logit_biases_max: 1024,
            max_tokens_default: 256,
            num_irs_max: 16,
            num_rules_max: 1000,
            description_bytes_max: 1 << 10,
            num_cached_constraints_max: 64,
            cached_constraint_bytes_max: 512 << 20,
            num_cached_failures_max: 256,
            failure_cached_for: Duration::from_secs(10),
            num_compile_threads: num_compile_threads(),
            compile_queue_len_max: 64,
            compile_wait_max: Duration::from_secs(20),
            compile_ms_per_minute: None,
            judged_bytes_max: 256 << 10,
            judge_time_max: Duration::from_secs(10),
            probe: None,
        }
    }
}

fn num_compile_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 4).clamp(1, 4))
}

impl MazeConfig {
    /// Checks every number of a request against its range.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] naming the first parameter that is outside.
    pub fn check(&self, request: &GenerateRequest) -> Result<(), Error> {
        let sampling = &request.sampling;
        within("n", f64::from(request.num_choices), 1.0, f64::from(self.num_choices_max))?;
        for num_logprobs in [request.num_logprobs, request.num_prompt_logprobs].into_iter().flatten() {
            within("logprobs", f64::from(num_logprobs), 0.0, f64::from(self.num_logprobs_max))?;
        }
        within("temperature", f64::from(sampling.temperature), 0.0, 100.0)?;
        within("top_p", f64::from(sampling.top_p), f64::from(f32::MIN_POSITIVE), 1.0)?;
        within("min_p", f64::from(sampling.min_p), 0.0, 1.0)?;
        within("repetition_penalty", f64::from(sampling.repetition_penalty), 0.01, 100.0)?;
        within("frequency_penalty", f64::from(sampling.frequency_penalty), -2.0, 2.0)?;
        within("presence_penalty", f64::from(sampling.presence_penalty), -2.0, 2.0)?;
        within("logit_bias", sampling.logit_bias.len() as f64, 0.0, self.num_logit_biases_max as f64)?;
        for &(_, bias) in &sampling.logit_bias {
            within("logit_bias", f64::from(bias), -100.0, 100.0)?;
        }
        within("constraints", request.constraints.len() as f64, 0.0, self.num_irs_max as f64)
    }
}

impl MazeConfig {
    /// Checks what is asked of a prompt of `prompt_len` tokens.
    ///
    /// # Errors
    /// [`Error::TooManyPromptLogprobs`].
    pub(super) fn check_prompt_logprobs(&self, request: &GenerateRequest, prompt_len: usize) -> Result<(), Error> {
        let Some(num_logprobs) = request.num_prompt_logprobs else { return Ok(()) };
        let per_token = (num_logprobs as usize + 1).saturating_mul(request.num_choices as usize);
        let (count, limit) = (prompt_len.saturating_mul(per_token), self.num_prompt_logprobs_max);
        if count > limit { Err(Error::TooManyPromptLogprobs { count, limit }) } else { Ok(()) }
    }
}

fn within(param: &'static str, value: f64, min: f64, max: f64) -> Result<(), Error> {
    if (min..=max).contains(&value) { Ok(()) } else { Err(Error::OutOfRange { param, value, min, max }) }
}
