//! How many refusals are written down one by one: strangers can cause as many as they like, and a log that grows with
//! them would be a way to fill a disk. What is over is counted, and the count is in the next line that is written.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering::Relaxed},
};
use std::time::Instant;

/// Seconds' worth of refusals that may come at once.
const BURST_S: f64 = 5.0;

/// A bucket that fills evenly.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    used: Mutex<Option<(f64, Instant)>>,
    num_omitted: AtomicU64,
}

impl Refusals {
    /// Whether one more at `now` is written down.
    pub(super) fn take(&self, per_second: u32, now: Instant) -> bool {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let rate = f64::from(per_second);
        let (before, at) = used.unwrap_or((0.0, now));
        let left = (before - now.saturating_duration_since(at).as_secs_f64() * rate).max(0.0);
        let fits = left + 1.0 <= rate * BURST_S;
        *used = Some((if fits { left + 1.0 } else { left }, now.max(at)));
        fits
    }

    /// Counts one that is not written down.
    pub(super) fn omit(&self, count: u64) {
        self.num_omitted.fetch_add(count, Relaxed);
    }

    /// How many were not written down since the last call.
    pub(super) fn take_omitted(&self) -> u64 {
        self.num_omitted.swap(0, Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_is_written_and_then_so_many_a_second() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        let taken = |at: Duration| (0..100).filter(|_| refusals.take(4, start + at)).count();
        assert_eq!(taken(Duration::ZERO), 20);
        assert_eq!(taken(Duration::ZERO), 0);
        assert_eq!(taken(Duration::from_secs(2)), 8);
        assert_eq!(taken(Duration::from_secs(1)), 0, "a clock that is read late gives nothing twice");
        assert_eq!(taken(Duration::from_secs(3600)), 20);
        assert_eq!((0..10).filter(|_| Refusals::default().take(0, start)).count(), 0, "0 writes none");
    }
}
