//! Counters that other threads may read while the engine runs.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde::Serialize;

use crate::model::{EagerReason, Pass};

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
    pub(super) num_steps_ahead: AtomicU64,
    num_graph_replays: AtomicU64,
    /// By the index of the reason.
    num_eager_steps: [AtomicU64; EagerReason::ALL.len()],
    pub(super) has_stopped: AtomicBool,
    pub(super) mask_time: MaskTime,
    pub(super) step_len: StepLen,
}

/// How long masks took, in nanoseconds.
pub(super) type MaskTime = Buckets<{ MASK_NS_BOUNDS.len() }>;
/// How many sequences steps had.
pub(super) type StepLen = Buckets<{ STEP_LEN_BOUNDS.len() }>;

const MASK_NS_BOUNDS: [u64; 12] = [
    10_000,
    30_000,
    100_000,
    300_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    30_000_000,
    100_000_000,
    1_000_000_000,
    10_000_000_000,
];
const STEP_LEN_BOUNDS: [u64; 10] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 1024];

/// How many values were at most so large, and their sum; written by one thread.
#[derive(Debug)]
pub(super) struct Buckets<const N: usize> {
    counts: [AtomicU64; N],
    num_larger: AtomicU64,
    sum: AtomicU64,
}

impl<const N: usize> Default for Buckets<N> {
    fn default() -> Self {
        Self {
            counts: std::array::from_fn(|_| AtomicU64::new(0)),
            num_larger: AtomicU64::new(0),
            sum: AtomicU64::new(0),
        }
    }
}

impl<const N: usize> Buckets<N> {
    fn record(&self, value: u64, bounds: &[u64; N]) {
        let place = bounds.iter().position(|&bound| value <= bound);
        add(place.map_or(&self.num_larger, |index| &self.counts[index]), 1);
        self.sum.fetch_add(value, Relaxed);
    }

    fn read(&self, bounds: &[u64; N]) -> Distribution {
        let counts = bounds.iter().zip(&self.counts).map(|(&bound, count)| (bound, count.load(Relaxed))).collect();
        Distribution { counts, num_larger: self.num_larger.load(Relaxed), sum: self.sum.load(Relaxed) }
    }
}

/// Values by size at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribution {
    /// Upper bounds, and how many values are at most so large and larger than the bound before.
    pub counts: Vec<(u64, u64)>,
    /// Values over the last bound.
    pub num_larger: u64,
    /// All values together.
    pub sum: u64,
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
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
    /// Steps that a GPU ran as work recorded before.
    pub graph_replays: u64,
    /// Forward passes that began before the tokens of the step before were known.
    pub steps_ahead: u64,
}

impl EngineStats {
    /// Whether the engine thread has ended; nothing is generated any more.
    #[must_use]
    pub fn has_stopped(&self) -> bool {
        self.has_stopped.load(Relaxed)
    }

    /// How long masks took, in nanoseconds.
    #[must_use]
    pub fn mask_time(&self) -> Distribution {
        self.mask_time.read(&MASK_NS_BOUNDS)
    }

    /// How many sequences steps had.
    #[must_use]
    pub fn step_len(&self) -> Distribution {
        self.step_len.read(&STEP_LEN_BOUNDS)
    }

    /// How many steps a GPU ran launch by launch, by why, in the order of [`EagerReason::ALL`].
    pub fn eager_steps(&self) -> impl Iterator<Item = (EagerReason, u64)> + '_ {
        EagerReason::ALL.into_iter().zip(self.num_eager_steps.iter().map(|count| count.load(Relaxed)))
    }

    pub(super) fn record_pass(&self, pass: Pass) {
        match pass {
            Pass::Cpu => {}
            Pass::Replayed => add(&self.num_graph_replays, 1),
            Pass::Eager(reason) => add(&self.num_eager_steps[reason as usize], 1),
        }
    }

    pub(super) fn record_mask(&self, time: Duration) {
        self.mask_time.record(time.as_nanos() as u64, &MASK_NS_BOUNDS);
    }

    pub(super) fn record_step(&self, num_seqs: usize) {
        self.step_len.record(num_seqs as u64, &STEP_LEN_BOUNDS);
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
            graph_replays: self.num_graph_replays.load(Relaxed),
            steps_ahead: self.num_steps_ahead.load(Relaxed),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_on_a_gpu_counts_as_replayed_or_under_its_reason() {
        let stats = EngineStats::default();
        let eager = [EagerReason::Chunk, EagerReason::Recording, EagerReason::Chunk].map(Pass::Eager);
        for pass in [Pass::Cpu, Pass::Replayed, Pass::Replayed].into_iter().chain(eager) {
            stats.record_pass(pass);
        }
        assert_eq!(stats.snapshot().graph_replays, 2);
        let counted: Vec<_> = stats.eager_steps().filter(|entry| entry.1 > 0).collect();
        assert_eq!(counted, [(EagerReason::Chunk, 2), (EagerReason::Recording, 1)]);
    }

    #[test]
    fn a_value_is_counted_once_under_the_first_bound_that_holds_it() {
        let stats = EngineStats::default();
        for num_seqs in [1, 1, 2, 3, 4, 1024, 1025] {
            stats.record_step(num_seqs);
        }
        let steps = stats.step_len();
        let counted: Vec<_> = steps.counts.iter().copied().filter(|entry| entry.1 > 0).collect();
        assert_eq!(counted, [(1, 2), (2, 1), (4, 2), (1024, 1)]);
        assert_eq!((steps.num_larger, steps.sum), (1, 2060));
    }
}
