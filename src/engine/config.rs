//! The engine's bounds, each with its default and its price.

use std::time::Duration;

/// How much the engine takes on at once.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineConfig {
    /// Sequences in one step. Default 32; each costs one matcher (up to 3 MB under a large grammar).
    pub num_seqs_max: usize,
    /// Tokens in one step, over all sequences. Default 512; bounds a step's activations and every other row's wait.
    pub num_batched_tokens_max: usize,
    /// Tokens in a KV block. Default 16; a sequence wastes half a block on average.
    pub block_len: usize,
    /// KV blocks in the pool. Default 1,024, which is 16,384 tokens.
    pub num_blocks: usize,
    /// Requests that may wait for admission. Default 256; past it a request is refused.
    pub queue_len_max: usize,
    /// Threads that compute masks. Default 2.
    pub num_mask_workers: usize,
    /// Tokens of one sequence that follow each other without being sampled and run in one step. Default 64; 1 computes
    /// the same output one forward pass at a time.
    pub forced_block_len_max: usize,
    /// Tokens of prompts in one step whose log-probabilities are asked for. Default 128; each costs a row of logits,
    /// which is 4 bytes for each id of the vocabulary, and such a prompt runs in chunks of no more than this.
    pub num_scored_tokens_max: usize,
    /// How long a step whose rows all wait for masks waits after its forward pass; a later row samples in a later step,
    /// and one that is later than this once is computed apart from the others. Default 2 ms.
    pub mask_late_after: Duration,
    /// How much longer a step may get, as a share of its time, for rows whose masks are late while others are ready.
    /// Default 0.01.
    pub mask_wait_share: f32,
    /// How long one mask may take at all, once it is begun; past it that one request fails. Default 2 s.
    pub mask_abort_after: Duration,
    /// The slice of the processor that the engine's thread asks for, so that it runs soon after it wakes, whatever else
    /// the machine computes. Default 0.1 ms, the least that Linux grants; from Linux 6.12 on, elsewhere without effect.
    pub engine_time_slice: Duration,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            num_seqs_max: 32,
            num_batched_tokens_max: 512,
            block_len: 16,
            num_blocks: 1024,
            queue_len_max: 256,
            num_mask_workers: 2,
            forced_block_len_max: 64,
            num_scored_tokens_max: 128,
            mask_late_after: Duration::from_millis(2),
            mask_wait_share: 0.01,
            mask_abort_after: Duration::from_secs(2),
            engine_time_slice: Duration::from_micros(100),
        }
    }
}

impl EngineConfig {
    /// Tokens that the whole pool holds.
    #[must_use]
    pub fn num_tokens_max(&self) -> usize {
        self.num_blocks * self.block_len
    }
}
