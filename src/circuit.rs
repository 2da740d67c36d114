//! A circuit breaker: what fails a few times in a row is left alone, and tried again by one request after a while.
//!
//! The tiers of the cache and a remote model each have their own; it knows neither.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Whether something is to be asked.
pub(crate) struct Circuit {
    state: Mutex<State>,
    num_failures_max: u32,
    retry_after: Duration,
}

#[derive(Default)]
struct State {
    /// Failures since the last success.
    num_failures: u32,
    /// When the next one may try, while the circuit is open.
    open_until: Option<Instant>,
}

/// Leave to ask once.
#[must_use]
pub(crate) struct Turn<'a>(&'a Circuit);

impl Circuit {
    pub(crate) fn new(num_failures_max: u32, retry_after: Duration) -> Self {
        Self { state: Mutex::default(), num_failures_max: num_failures_max.max(1), retry_after }
    }

    pub(crate) fn retry_after(&self) -> Duration {
        self.retry_after
    }

    /// Leave to ask, unless it failed too often and too recently. Of those who come when it is time to try again, one
    /// gets leave; the others have to wait as long again.
    pub(crate) fn turn(&self) -> Option<Turn<'_>> {
        let mut state = self.lock();
        if let Some(until) = state.open_until {
            let now = Instant::now();
            if now < until {
                return None;
            }
            state.open_until = Some(now + self.retry_after);
        }
        Some(Turn(self))
    }

    /// Whether it is left alone now.
    pub(crate) fn is_open(&self) -> bool {
        self.lock().open_until.is_some_and(|until| Instant::now() < until)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn<'_> {
    /// Closes the circuit; says whether it was open.
    pub(crate) fn succeeded(self) -> bool {
        let before = std::mem::take(&mut *self.0.lock());
        before.open_until.is_some()
    }

    /// Opens the circuit after too many failures; says whether it was closed before.
    pub(crate) fn failed(self) -> bool {
        let mut state = self.0.lock();
        state.num_failures = state.num_failures.saturating_add(1);
        if state.num_failures < self.0.num_failures_max {
            return false;
        }
        state.open_until.replace(Instant::now() + self.0.retry_after).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_failures_in_a_row_and_one_may_try_again() {
        let circuit = Circuit::new(3, Duration::from_secs(3600));
        let fail = || circuit.turn().expect("it is closed").failed();
        assert!(!fail() && !fail());
        assert!(!circuit.turn().expect("it is closed").succeeded());
        assert!(!fail() && !fail() && fail(), "three in a row, after a success");
        assert!(circuit.turn().is_none() && circuit.turn().is_none());
        assert!(circuit.is_open());
    }

    #[test]
    fn one_success_closes_it() {
        let circuit = Circuit::new(1, Duration::ZERO);
        assert!(circuit.turn().expect("it is closed").failed(), "it opens");
        assert!(!circuit.turn().expect("it is time").failed(), "it was open");
        assert!(circuit.turn().expect("it is time").succeeded(), "it was open");
        assert!(!circuit.turn().expect("it is closed").succeeded());
    }

    #[test]
    fn of_those_who_come_in_time_one_tries() {
        let circuit = Circuit::new(1, Duration::from_millis(200));
        circuit.turn().expect("it is closed").failed();
        assert!(circuit.turn().is_none());
        std::thread::sleep(Duration::from_millis(250));
        assert!(circuit.turn().is_some() && circuit.turn().is_none());
    }
}
