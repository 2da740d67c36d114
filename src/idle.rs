//! What a thread does that has nothing to do.
//!
//! An allocator keeps for each thread what the thread has freed, and what others have freed of its memory, until it
//! allocates again; a worker at rest does not. The programs know their allocator and say here how a thread gives that
//! back; workers wait for their work through this module, so that they do.

use std::sync::OnceLock;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvError, RecvTimeoutError};

/// How long a worker waits for work before it counts as idle. Default 500 ms: giving memory back costs up to some ms,
/// and taking it again as much.
const IDLE_AFTER: Duration = Duration::from_millis(500);

static GIVE_BACK: OnceLock<fn()> = OnceLock::new();

/// Has each worker call `give_back` once when it becomes idle. Only the first of several counts.
pub fn on_idle(give_back: fn()) {
    let _ = GIVE_BACK.set(give_back);
}

/// Waits for the next of `jobs`.
///
/// # Errors
/// When nobody is left who could send one.
pub(crate) fn recv<T>(jobs: &Receiver<T>) -> Result<T, RecvError> {
    match jobs.recv_timeout(IDLE_AFTER) {
        Ok(job) => Ok(job),
        Err(RecvTimeoutError::Disconnected) => Err(RecvError),
        Err(RecvTimeoutError::Timeout) => {
            if let Some(give_back) = GIVE_BACK.get() {
                give_back();
            }
            jobs.recv()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use super::*;

    static NUM_GIVEN_BACK: AtomicUsize = AtomicUsize::new(0);

    #[test]
    fn a_worker_gives_back_once_when_it_becomes_idle_and_loses_no_job() {
        on_idle(|| {
            NUM_GIVEN_BACK.fetch_add(1, SeqCst);
        });
        let (sender, receiver) = crossbeam_channel::bounded(2);
        let worker = std::thread::spawn(move || std::iter::from_fn(|| recv(&receiver).ok()).collect::<Vec<_>>());
        let before = NUM_GIVEN_BACK.load(SeqCst);
        sender.send(1).expect("the worker waits");
        std::thread::sleep(4 * IDLE_AFTER);
        assert!(NUM_GIVEN_BACK.load(SeqCst) > before);
        sender.send(2).expect("the worker waits");
        drop(sender);
        assert_eq!(worker.join().expect("no panic"), [1, 2]);
    }
}
