//! Threads that compute masks while the model computes logits.
//!
//! A matcher travels to a worker with a row buffer and comes home with the row filled.
//! The workers are no part of the pool that matrix products run in, so neither starves the other.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::sequence::{MaskRow, SequenceId};
use crate::guide::{GuideError, Matcher};

/// A mask to compute.
struct Job {
    id: SequenceId,
    matcher: Matcher,
    row: MaskRow,
}

/// A computed mask, or why there is none; then the matcher is gone too.
pub(super) struct Mask {
    pub(super) id: SequenceId,
    pub(super) outcome: Result<(Matcher, MaskRow), GuideError>,
    pub(super) time: Duration,
}

/// The workers and the two bounded channels to them.
pub(super) struct MaskWorkers {
    jobs: Option<Sender<Job>>,
    masks: Receiver<Mask>,
    num_words: usize,
    spare_rows: Vec<MaskRow>,
    num_away: usize,
    threads: Vec<JoinHandle<()>>,
}

impl MaskWorkers {
    /// Starts `num_workers` threads for rows of `num_words` words; at most `num_jobs_max` masks are under way.
    pub(super) fn start(num_workers: usize, num_jobs_max: usize, num_words: usize) -> std::io::Result<Self> {
        let (jobs, job_receiver) = bounded::<Job>(num_jobs_max);
        let (mask_sender, masks) = bounded::<Mask>(num_jobs_max);
        let threads = (0..num_workers.max(1))
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
        Ok(Self { jobs: Some(jobs), masks, num_words, spare_rows: Vec::new(), num_away: 0, threads })
    }

    /// Hands out matchers; their masks are computed from now on.
    pub(super) fn compute(&mut self, lent: impl IntoIterator<Item = (SequenceId, Matcher)>) {
        for (id, matcher) in lent {
            let row = self.spare_rows.pop().unwrap_or_else(|| vec![0; self.num_words]);
            let jobs = self.jobs.as_ref().expect("the workers live as long as the engine");
            jobs.send(Job { id, matcher, row }).expect("workers outlive their channel");
            self.num_away += 1;
        }
    }

    /// Masks that are ready, waiting at most until `deadline` for those still away.
    pub(super) fn collect(&mut self, deadline: Instant) -> Vec<Mask> {
        let mut collected = Vec::with_capacity(self.num_away);
        while self.num_away > 0 {
            let Ok(mask) = self.masks.recv_deadline(deadline) else { break };
            self.num_away -= 1;
            collected.push(mask);
        }
        collected
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
        self.num_away -= 1;
        vec![mask]
    }
}

/// Stack of a mask worker: derivatives of deep regexes recurse. Default 64 MiB of address space each.
const MASK_STACK_BYTES: usize = 64 << 20;

impl Job {
    fn run(mut self) -> Mask {
        let start = Instant::now();
        let filled = catch_unwind(AssertUnwindSafe(|| self.matcher.fill(&mut self.row)));
        let outcome = match filled {
            Ok(Ok(())) => Ok((self.matcher, self.row)),
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
