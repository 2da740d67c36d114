//! The engine thread and its step.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvError, TryRecvError, bounded, select};

use super::mask_workers::MaskWorkers;
use super::request::Submission;
use super::runner::ModelRunner;
use super::scheduler::{Scheduler, Step};
use super::sequence::SequenceId;
use super::stats::add;
use super::time_slice;
use super::{EngineConfig, EngineError, EngineHandle, EngineStats};
use crate::idle;
use crate::model::{LanguageModel, Logits};

/// How often a step that waits for late masks looks for cancelled requests.
const CANCEL_CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// Stack of the engine thread, address space until it is touched: accepting a token recurses with the grammar's nesting.
const STACK_BYTES: usize = 64 << 20;

/// The loop; one thread owns all of it.
pub struct Engine {
    scheduler: Scheduler,
    masks: MaskWorkers,
    runner: ModelRunner,
    /// The next step, where its forward pass is under way: which sequences it has was guessed.
    ahead: Option<(Step, Logits)>,
    submissions: Receiver<Vec<Submission>>,
    stats: Arc<EngineStats>,
}

impl Engine {
    /// Starts the engine on a thread of its own, with a KV cache of `config.num_blocks` blocks.
    ///
    /// `end_tokens` end a sequence when sampled. The thread ends after the last handle is dropped.
    ///
    /// # Errors
    /// When the KV cache cannot be allocated or a thread not started.
    pub fn start(
        model: Box<dyn LanguageModel>,
        end_tokens: &[u32],
        config: EngineConfig,
    ) -> Result<(EngineHandle, JoinHandle<()>), EngineError> {
        let (sender, submissions) = bounded(config.queue_len_max);
        let stats = Arc::new(EngineStats::default());
        let runner = ModelRunner::new(model, &config)?;
        let engine = Self {
            scheduler: Scheduler::new(config.clone(), end_tokens.to_vec(), stats.clone()),
            masks: MaskWorkers::start(&config, crate::guide::num_words(runner.vocab_len())).map_err(no_thread)?,
            runner,
            ahead: None,
            submissions,
            stats: stats.clone(),
        };
        let thread = std::thread::Builder::new().name("engine".into()).stack_size(STACK_BYTES);
        let time_slice = config.engine_time_slice;
        let thread = thread.spawn(move || engine.run(time_slice)).map_err(no_thread)?;
        let handle = EngineHandle { submissions: sender, num_queued: Arc::new(AtomicUsize::new(0)), stats, config };
        Ok((handle, thread))
    }

    fn run(mut self, time_slice: Duration) {
        if let Err(error) = time_slice::request(time_slice) {
            tracing::debug!(%error, "the engine's thread keeps its usual time slice");
        }
        let _sign_off = SignOff(self.stats.clone());
        while self.wait_for_work() {
            let outcome = catch_unwind(AssertUnwindSafe(|| self.step()));
            let message = match outcome {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => error.to_string(),
                Err(panic) => panic_message(panic.as_ref()),
            };
            tracing::error!(%message, "a step failed; its requests fail, the weights stay");
            add(&self.stats.num_restarts, 1);
            self.ahead = None;
            self.scheduler.fail_all(&message);
        }
    }

    /// One step: every running sequence gains a chunk of its prompt or one token.
    fn step(&mut self) -> Result<(), EngineError> {
        let ahead = self.ahead.take().and_then(|(step, logits)| Some((self.scheduler.adopt(step)?, Some(logits))));
        let Some((step, ahead)) = ahead.or_else(|| Some((self.scheduler.schedule()?, None))) else {
            return self.wait_for_masks();
        };
        let started = Instant::now();
        let (pilots, num_ready) = self.scheduler.lend_pilots(&step);
        self.masks.compute(pilots, num_ready);
        let logits = match ahead {
            Some(logits) => logits,
            None => self.runner.forward(&step.batch)?,
        };
        self.stats.record_pass(logits.pass());
        // Before the masks, with which a sequence may end.
        let scored = ModelRunner::score(&logits, &self.scheduler.rows_to_score(&step))?;
        self.scheduler.commit_scores(&step, scored);
        let masks = self.masks.collect(started, || logits.is_computed());
        self.masks.recycle(self.scheduler.take_back(masks));
        add(&self.stats.num_steps, 1);
        let rows = self.scheduler.rows_to_sample(&step);
        let sampling = ModelRunner::start_sampling(&logits, &rows)?;
        // What asks for log-probabilities reads logits again, where the next ones would be.
        let may_run_ahead = self.runner.runs_ahead() && rows.iter().all(|row| row.row.num_logprobs.is_none());
        let ids: Vec<SequenceId> = rows.iter().map(|row| row.id).collect();
        if may_run_ahead && let Some(next) = self.scheduler.guess_next(&step, &ids) {
            let logits = self.runner.forward_ahead(&next.batch, &sampling)?;
            add(&self.stats.num_steps_ahead, usize::from(logits.is_some()));
            self.ahead = logits.map(|logits| (next, logits));
        }
        let tokens = ids.into_iter().zip(sampling.finish()?).collect();
        self.masks.recycle(self.scheduler.commit(&step, tokens));
        Ok(())
    }

    /// Takes in submissions and drops what was cancelled; blocks while idle. False when no handle is left.
    fn wait_for_work(&mut self) -> bool {
        loop {
            match self.submissions.try_recv() {
                Ok(submissions) => self.add(submissions),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) if self.scheduler.is_idle() => return false,
                Err(TryRecvError::Disconnected) => break,
            }
        }
        self.scheduler.drop_cancelled();
        self.masks.abort_unwanted(|id| self.scheduler.is_wanted(id));
        self.masks.retire(self.scheduler.take_retired());
        if self.scheduler.is_idle() {
            match idle::recv(&self.submissions) {
                Ok(submissions) => self.add(submissions),
                Err(RecvError) => return false,
            }
        }
        true
    }

    /// Every sequence waits for its mask: sleeps until one comes home, or a submission arrives.
    fn wait_for_masks(&mut self) -> Result<(), EngineError> {
        select! {
            recv(self.masks.receiver()) -> mask => {
                let mask = mask.map_err(|_| EngineError::Internal { message: "the mask workers have ended".into() })?;
                let spare = self.scheduler.take_back(self.masks.came_home(mask));
                self.masks.recycle(spare);
            }
            recv(self.submissions) -> submissions => match submissions {
                Ok(submissions) => self.add(submissions),
                Err(RecvError) => std::thread::sleep(Duration::from_millis(1)),
            },
            default(CANCEL_CHECK_INTERVAL) => self.masks.abort_overdue(),
        }
        Ok(())
    }

    fn add(&mut self, submissions: Vec<Submission>) {
        for submission in submissions {
            self.scheduler.add(submission);
        }
    }
}

/// Says that the engine has ended, however it ended.
struct SignOff(Arc<EngineStats>);

impl Drop for SignOff {
    fn drop(&mut self) {
        self.0.has_stopped.store(true, Ordering::Relaxed);
    }
}

fn no_thread(error: std::io::Error) -> EngineError {
    EngineError::Internal { message: format!("cannot start a thread: {error}") }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without a message".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ScriptedModel;

    #[test]
    fn the_engine_ends_with_its_last_handle_and_says_so() {
        let model = Box::new(ScriptedModel::seeded(8, 64, 0));
        let (handle, thread) = Engine::start(model, &[0], EngineConfig::default()).expect("it starts");
        let stats = handle.stats.clone();
        assert!(!stats.has_stopped());
        drop(handle);
        thread.join().expect("it ends without a panic");
        assert!(stats.has_stopped());
    }
}
