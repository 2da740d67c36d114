//! Threads that compute masks while the model computes logits.
//!
//! A pilot travels to a worker with a row buffer and comes home with the row filled and its advice. One that stays
//! away too long is aborted, which costs its request and nobody else's.
//! The workers are no part of the pool that matrix products run in, so neither starves the other.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::EngineConfig;
use super::sequence::{MaskRow, SequenceId};
use crate::guide::{AbortHandle, Advice, GuideError, Pilot};

/// A mask to compute.
struct Job {
    id: SequenceId,
    pilot: Pilot,
    row: MaskRow,
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

/// A pilot that is with a worker, or waits for one.
struct Away {
    id: SequenceId,
    since: Instant,
    abort: AbortHandle,
}

/// The workers and the two bounded channels to them.
pub(super) struct MaskWorkers {
    jobs: Option<Sender<Job>>,
    masks: Receiver<Mask>,
    num_words: usize,
    spare_rows: Vec<MaskRow>,
    away: Vec<Away>,
    abort_after: Duration,
    threads: Vec<JoinHandle<()>>,
}

impl MaskWorkers {
    /// Starts the threads, for rows of `num_words` words; as many masks as there are sequences may be under way.
    pub(super) fn start(config: &EngineConfig, num_words: usize) -> std::io::Result<Self> {
        let EngineConfig { num_mask_workers, num_seqs_max: num_jobs_max, .. } = *config;
        let (jobs, job_receiver) = bounded::<Job>(num_jobs_max);
        let (mask_sender, masks) = bounded::<Mask>(num_jobs_max);
        let threads = (0..num_mask_workers.max(1))
            .map(|index| {
                let (jobs, masks) = (job_receiver.clone(), mask_sender.clone());
                std::thread::Builder::new().name(format!("mask-{index}")).stack_size(MASK_STACK_BYTES).spawn(
                    move || {
                        for job in jobs {
                            if masks.send(job.run()).is_err() {
                                return;
                            }
                        }
                    },
                )
            })
            .collect::<Result<_, _>>()?;
        let abort_after = config.mask_abort_after;
        let (spare_rows, away) = (Vec::new(), Vec::new());
        Ok(Self { jobs: Some(jobs), masks, num_words, spare_rows, away, abort_after, threads })
    }

    /// Hands out pilots; their masks are computed from now on.
    pub(super) fn compute(&mut self, lent: impl IntoIterator<Item = (SequenceId, Pilot)>) {
        for (id, pilot) in lent {
            self.away.push(Away { id, since: Instant::now(), abort: pilot.abort_handle() });
            let row = self.spare_rows.pop().unwrap_or_else(|| vec![0; self.num_words]);
            let jobs = self.jobs.as_ref().expect("the workers live as long as the engine");
            jobs.send(Job { id, pilot, row }).expect("workers outlive their channel");
        }
    }

    /// Masks that are ready, waiting at most until `deadline` for those still away.
    pub(super) fn collect(&mut self, deadline: Instant) -> Vec<Mask> {
        let mut collected = Vec::with_capacity(self.away.len());
        while !self.away.is_empty() {
            let Ok(mask) = self.masks.recv_deadline(deadline) else { break };
            self.away.retain(|away| away.id != mask.id);
            collected.push(mask);
        }
        self.abort_overdue();
        collected
    }

    /// Stops the masks that take too long; each comes home with an error.
    pub(super) fn abort_overdue(&self) {
        let overdue = self.away.iter().filter(|away| away.since.elapsed() > self.abort_after);
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

/// Stack of a mask worker: derivatives of deep regexes recurse. Default 64 MiB of address space each.
const MASK_STACK_BYTES: usize = 64 << 20;

impl Job {
    fn run(mut self) -> Mask {
        let start = Instant::now();
        let steered = catch_unwind(AssertUnwindSafe(|| {
            let advice = self.pilot.next(&mut self.row)?;
            Ok((advice, self.pilot.bias()))
        }));
        let outcome = match steered {
            Ok(Ok((advice, bias))) => Ok(Steered { pilot: self.pilot, row: self.row, bias, advice }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(GuideError::Internal { part: "mask".into(), message: "computing it panicked".into() }),
        };
        Mask { id: self.id, outcome, time: start.elapsed() }
    }
}

impl Drop for MaskWorkers {
    fn drop(&mut self) {
        self.jobs = None;
        while self.masks.recv().is_ok() {}
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a mask worker panicked outside a mask");
            }
        }
    }
}
