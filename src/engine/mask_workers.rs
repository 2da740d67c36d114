//! Threads that compute masks while the model computes logits.
//!
//! A pilot travels to a worker with a row buffer and comes home with the row filled and its advice. One that stays
//! away too long is aborted, which costs its request and nobody else's.
//! The workers are no part of the pool that matrix products run in, so neither starves the other.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::EngineConfig;
use super::sequence::{MaskRow, SequenceId};
use crate::guide::{AbortHandle, Advice, GuideError, Pilot};
use crate::idle;

/// What a worker is given.
enum Job {
    /// A mask to compute.
    Fill(Fill),
    /// A pilot whose sequence has ended: what it has learned is kept for the next ones, or given back to the system.
    Retire(Pilot),
}

struct Fill {
    id: SequenceId,
    pilot: Pilot,
    row: MaskRow,
    /// Set when a worker begins.
    begun: Arc<OnceLock<Instant>>,
}

/// A pilot that came home with the mask of the next token.
pub(super) struct Steered {
    pub(super) pilot: Pilot,
    pub(super) row: MaskRow,
    /// What soft biases add to the next token's logits.
    pub(super) bias: Arc<[(u32, f32)]>,
    /// What becomes of the tokens before it.
    pub(super) advice: Advice,
}

/// A computed mask, or why there is none; then the pilot is gone too.
pub(super) struct Mask {
    pub(super) id: SequenceId,
    pub(super) outcome: Result<Steered, GuideError>,
    pub(super) time: Duration,
}

/// A pilot to lend.
pub(super) struct Lent {
    pub(super) id: SequenceId,
    pub(super) pilot: Pilot,
    /// How long the mask is expected to take.
    pub(super) expected_mask_time: Duration,
}

/// A pilot that is with a worker, or waits for one.
struct Away {
    id: SequenceId,
    /// When a worker began; unset while it waits for one.
    begun: Arc<OnceLock<Instant>>,
    abort: AbortHandle,
    lane: Lane,
    /// Whether it was lent in the step under way, which may wait for it.
    is_fresh: bool,
}

impl Away {
    /// How long a worker has been computing it.
    fn elapsed(&self) -> Duration {
        self.begun.get().map_or(Duration::ZERO, Instant::elapsed)
    }
}

/// Which workers compute a mask: none waits behind masks of a slower lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    Fast,
    Slow,
    /// More than [`STUCK_FACTOR`] times as long as a mask of the fast lane.
    Stuck,
}

/// Lanes of their own begin at so many times `mask_late_after`: at 100 ms, which only grammars made for it take.
const STUCK_FACTOR: u32 = 50;

/// How often a step that waits for masks beside a device looks whether the device is done.
const DEVICE_CHECK_INTERVAL: Duration = Duration::from_micros(50);

/// The workers and the bounded channels to them.
pub(super) struct MaskWorkers {
    /// To each [`Lane`].
    jobs: Option<[Sender<Job>; 3]>,
    masks: Receiver<Mask>,
    num_seqs_max: usize,
    num_words: usize,
    spare_rows: Vec<MaskRow>,
    away: Vec<Away>,
    /// Computed on the spot, because nothing binds the output.
    done: Vec<Mask>,
    /// Whether the step under way has rows that need not wait for anyone.
    has_ready_rows: bool,
    late_after: Duration,
    wait_share: f32,
    abort_after: Duration,
    threads: Vec<JoinHandle<()>>,
}

impl MaskWorkers {
    /// Starts the threads, for rows of `num_words` words; as many masks as there are sequences may be under way.
    pub(super) fn start(config: &EngineConfig, num_words: usize) -> std::io::Result<Self> {
        let (mask_sender, masks) = bounded::<Mask>(config.num_seqs_max);
        let mut threads = Vec::new();
        let mut lane = |name: &str, num_workers: usize| -> std::io::Result<Sender<Job>> {
            let (sender, receiver) = bounded::<Job>(2 * config.num_seqs_max);
            for index in 0..num_workers.max(1) {
                threads.push(worker(format!("{name}-{index}"), receiver.clone(), mask_sender.clone())?);
            }
            Ok(sender)
        };
        let jobs = [lane("mask", config.num_mask_workers)?, lane("slow-mask", 1)?, lane("stuck-mask", 1)?];
        Ok(Self {
            jobs: Some(jobs),
            masks,
            num_seqs_max: config.num_seqs_max,
            num_words,
            spare_rows: Vec::new(),
            away: Vec::new(),
            done: Vec::new(),
            has_ready_rows: false,
            late_after: config.mask_late_after,
            wait_share: config.mask_wait_share,
            abort_after: config.mask_abort_after,
            threads,
        })
    }

    /// Hands out the pilots of a step; their masks are computed from now on. `num_ready` rows have theirs already.
    pub(super) fn compute(&mut self, lent: Vec<Lent>, num_ready: usize) {
        self.away.iter_mut().for_each(|away| away.is_fresh = false);
        self.has_ready_rows = num_ready > 0;
        for Lent { id, pilot, expected_mask_time } in lent {
            let row = self.spare_rows.pop().unwrap_or_else(|| vec![0; self.num_words]);
            if pilot.is_free() {
                self.has_ready_rows = true;
                self.done.push(Fill { id, pilot, row, begun: Arc::default() }.run());
                continue;
            }
            let lane = self.lane(expected_mask_time);
            let begun = Arc::<OnceLock<Instant>>::default();
            self.away.push(Away { id, begun: begun.clone(), abort: pilot.abort_handle(), lane, is_fresh: true });
            let jobs = self.jobs.as_ref().expect("the workers live as long as the engine");
            let fill = Fill { id, pilot, row, begun };
            jobs[lane as usize].send(Job::Fill(fill)).expect("workers outlive their channel");
        }
    }

    /// Masks that are ready, after a wait for those of this step, whose forward pass began at `started`.
    ///
    /// As long as a device computes, nobody loses time. From then on rows that need not wait lose at most
    /// `mask_wait_share` of the step; where all rows wait, they wait together up to `mask_late_after`, but not for one
    /// whose last mask was slower than that.
    pub(super) fn collect(&mut self, started: Instant, is_computed: impl Fn() -> bool) -> Vec<Mask> {
        let mut collected = std::mem::take(&mut self.done);
        while self.away.iter().any(|away| away.is_fresh && away.lane == Lane::Fast) && !is_computed() {
            if let Ok(mask) = self.masks.recv_timeout(DEVICE_CHECK_INTERVAL) {
                collected.extend(self.came_home(mask));
            }
        }
        let share = started.elapsed().mul_f32(self.wait_share);
        let wait = if self.has_ready_rows { share.min(self.late_after) } else { self.late_after };
        let deadline = Instant::now() + wait;
        loop {
            let is_anyone_ready = self.has_ready_rows || !collected.is_empty();
            let waits_for = |away: &Away| away.is_fresh && (away.lane == Lane::Fast || !is_anyone_ready);
            let mask = match self.away.iter().any(waits_for) {
                true => self.masks.recv_deadline(deadline).ok(),
                false => self.masks.try_recv().ok(),
            };
            let Some(mask) = mask else { break };
            collected.extend(self.came_home(mask));
        }
        self.abort_overdue();
        collected
    }

    /// Has pilots dropped by a worker; on the spot where that costs nothing, or all workers have their hands full.
    pub(super) fn retire(&self, pilots: Vec<(Pilot, Duration)>) {
        let jobs = self.jobs.as_ref().expect("the workers live as long as the engine");
        for (pilot, expected_mask_time) in pilots {
            let lane = &jobs[self.lane(expected_mask_time) as usize];
            // Room for a mask of every sequence is left, so that handing those out never waits.
            if !pilot.is_free() && lane.len() < self.num_seqs_max {
                lane.send(Job::Retire(pilot)).expect("workers outlive their channel");
            }
        }
    }

    /// Stops slow masks that nobody waits for any more, so that they do not hold up those that somebody does.
    pub(super) fn abort_unwanted(&self, is_wanted: impl Fn(SequenceId) -> bool) {
        let slow = self.away.iter().filter(|away| away.lane != Lane::Fast || away.elapsed() > self.late_after);
        slow.filter(|away| !is_wanted(away.id)).for_each(|away| away.abort.abort());
    }

    fn lane(&self, expected_mask_time: Duration) -> Lane {
        match expected_mask_time {
            time if time <= self.late_after => Lane::Fast,
            time if time <= STUCK_FACTOR * self.late_after => Lane::Slow,
            _ => Lane::Stuck,
        }
    }

    /// Stops the masks that take too long; each comes home with an error.
    pub(super) fn abort_overdue(&self) {
        let overdue = self.away.iter().filter(|away| away.elapsed() > self.abort_after);
        overdue.for_each(|away| away.abort.abort());
    }

    /// Keeps used rows for the next masks.
    pub(super) fn recycle(&mut self, rows: Vec<MaskRow>) {
        self.spare_rows.extend(rows);
    }

    /// A receiver that becomes ready when a mask does; for waiting on masks and submissions at once.
    pub(super) fn receiver(&self) -> &Receiver<Mask> {
        &self.masks
    }

    /// Counts a mask that was received directly.
    pub(super) fn came_home(&mut self, mask: Mask) -> Vec<Mask> {
        self.away.retain(|away| away.id != mask.id);
        vec![mask]
    }
}

/// A thread that computes the masks of one lane until the engine has gone.
fn worker(name: String, jobs: Receiver<Job>, masks: Sender<Mask>) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name).stack_size(MASK_STACK_BYTES).spawn(move || {
        while let Ok(job) = idle::recv(&jobs) {
            match job {
                Job::Fill(fill) => {
                    if masks.send(fill.run()).is_err() {
                        return;
                    }
                }
                Job::Retire(pilot) => drop_isolated(pilot),
            }
        }
    })
}

/// Stack of a mask worker: derivatives of deep regexes recurse. Default 64 MiB of address space each.
const MASK_STACK_BYTES: usize = 64 << 20;

/// Drops a pilot; a panic in it costs what it had learned and nothing else.
fn drop_isolated(pilot: Pilot) {
    if catch_unwind(AssertUnwindSafe(|| drop(pilot))).is_err() {
        tracing::error!("a matcher panicked when its sequence had ended");
    }
}

impl Fill {
    fn run(mut self) -> Mask {
        let begun = *self.begun.get_or_init(Instant::now);
        let steered = catch_unwind(AssertUnwindSafe(|| {
            let advice = self.pilot.next(&mut self.row)?;
            Ok((advice, self.pilot.bias()))
        }));
        let outcome = match steered {
            Ok(Ok((advice, bias))) => Ok(Steered { pilot: self.pilot, row: self.row, bias, advice }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(GuideError::Internal { part: "mask".into(), message: "computing it panicked".into() }),
        };
        Mask { id: self.id, outcome, time: begun.elapsed() }
    }
}

impl Drop for MaskWorkers {
    fn drop(&mut self) {
        self.jobs = None;
        self.away.iter().for_each(|away| away.abort.abort());
        while self.masks.recv().is_ok() {}
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a mask worker panicked outside a mask");
            }
        }
    }
}
