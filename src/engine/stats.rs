//! Counters that other threads may read while the engine runs.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use serde::Serialize;

/// The engine's counters; each is written by the engine thread alone.
#[derive(Debug, Default)]
pub struct EngineStats {
    pub(super) num_running: AtomicU64,
    pub(super) num_waiting: AtomicU64,
    pub(super) num_blocks: AtomicU64,
    pub(super) num_blocks_free: AtomicU64,
    pub(super) num_steps: AtomicU64,
    pub(super) num_prefill_tokens: AtomicU64,
    pub(super) num_generated_tokens: AtomicU64,
    pub(super) num_prefix_hit_tokens: AtomicU64,
    pub(super) num_forced_tokens: AtomicU64,
    pub(super) num_retracted_tokens: AtomicU64,
    pub(super) num_masks: AtomicU64,
    pub(super) num_masks_late: AtomicU64,
    pub(super) num_preemptions: AtomicU64,
    pub(super) num_restarts: AtomicU64,
    pub(super) has_stopped: AtomicBool,
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct StatsSnapshot {
    /// Sequences that hold KV blocks.
    pub running: u64,
    /// Sequences that wait for admission or were preempted.
    pub waiting: u64,
    /// KV blocks in the pool.
    pub blocks_total: u64,
    /// KV blocks that no sequence uses.
    pub blocks_free: u64,
    /// Steps since the start.
    pub steps: u64,
    /// Prompt tokens computed.
    pub prefill_tokens: u64,
    /// Tokens of output, sampled or forced.
    pub generated_tokens: u64,
    /// Tokens appended without sampling, because the constraint determines them.
    pub forced_tokens: u64,
    /// Sampled tokens taken back before they were sent, because no end could be reached after them.
    pub retracted_tokens: u64,
    /// Prompt tokens found in the prefix cache.
    pub prefix_hit_tokens: u64,
    /// Masks computed.
    pub masks: u64,
    /// Masks that came after their step.
    pub masks_late: u64,
    /// Sequences that lost their blocks to others and were computed again.
    pub preemptions: u64,
    /// Times the engine failed and started afresh with the weights kept.
    pub restarts: u64,
}

impl EngineStats {
    /// Whether the engine thread has ended; nothing is generated any more.
    #[must_use]
    pub fn has_stopped(&self) -> bool {
        self.has_stopped.load(Relaxed)
    }

    /// The counters now.
    #[must_use]
    pub fn snapshot(&self) -> StatsSnapshot {
        StatsSnapshot {
            running: self.num_running.load(Relaxed),
            waiting: self.num_waiting.load(Relaxed),
            blocks_total: self.num_blocks.load(Relaxed),
            blocks_free: self.num_blocks_free.load(Relaxed),
            steps: self.num_steps.load(Relaxed),
            prefill_tokens: self.num_prefill_tokens.load(Relaxed),
            generated_tokens: self.num_generated_tokens.load(Relaxed),
            forced_tokens: self.num_forced_tokens.load(Relaxed),
            retracted_tokens: self.num_retracted_tokens.load(Relaxed),
            prefix_hit_tokens: self.num_prefix_hit_tokens.load(Relaxed),
            masks: self.num_masks.load(Relaxed),
            masks_late: self.num_masks_late.load(Relaxed),
            preemptions: self.num_preemptions.load(Relaxed),
            restarts: self.num_restarts.load(Relaxed),
        }
    }
}

/// Adds to a counter.
pub(super) fn add(counter: &AtomicU64, amount: usize) {
    counter.fetch_add(amount as u64, Relaxed);
}

/// Sets a gauge.
pub(super) fn set(gauge: &AtomicU64, value: usize) {
    gauge.store(value as u64, Relaxed);
}
