//! Compiled constraints by the digest of what they were compiled from, refusals for a while, and compiles under way.
//!
//! One cache belongs to one vocabulary, so the vocabulary is no part of the key. What was used least recently goes
//! first, by number and by bytes. Whoever asks for what is being compiled waits for that one compile.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::watch;

use super::{Error, MazeConfig};
use crate::constraint::Digest;
use crate::guide::{CompiledConstraint, GuideError};

/// What became of a compile.
pub(super) type Outcome = Result<Arc<CompiledConstraint>, Refusal>;

/// A compile under way; holds its outcome once there is one.
pub(super) type Flight = watch::Receiver<Option<Outcome>>;

/// The other end of a [`Flight`].
pub(super) type FlightEnd = watch::Sender<Option<Outcome>>;

/// Why a constraint was not compiled: the errors that any number of requests may be told.
#[derive(Clone, Debug)]
pub(super) enum Refusal {
    Guide(GuideError),
    ProbeCrashed { how: String },
    ProbeTimeout { limit_ms: u64 },
    ProbeUnavailable { why: String },
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Guide(error) => Self::Guide(error),
            Refusal::ProbeCrashed { how } => Self::ProbeCrashed { how },
            Refusal::ProbeTimeout { limit_ms } => Self::ProbeTimeout { limit_ms },
            Refusal::ProbeUnavailable { why } => Self::ProbeUnavailable { why },
        }
    }
}

/// What a cache knows of a key.
pub(super) enum Found {
    Ready(Arc<CompiledConstraint>),
    Failed(Refusal),
    /// Someone else's compile.
    Joined(Flight),
    /// A compile that has just been handed in.
    Started(Flight),
}

/// How full a cache is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fill {
    pub(super) num_ready: usize,
    pub(super) num_bytes: usize,
    pub(super) num_flights: usize,
    pub(super) num_evicted: u64,
}

pub(super) struct ConstraintCache {
    state: Mutex<State>,
    config: MazeConfig,
}

#[derive(Default)]
struct State {
    /// Most recently used last. The list is short; a scan costs less than a linked map would.
    ready: Vec<Entry>,
    num_bytes: usize,
    num_evicted: u64,
    /// Oldest first.
    failed: VecDeque<(Digest, Refusal, Instant)>,
    flights: Vec<(Digest, Flight)>,
}

struct Entry {
    key: Digest,
    compiled: Arc<CompiledConstraint>,
    num_bytes: usize,
}

impl ConstraintCache {
    pub(super) fn new(config: &MazeConfig) -> Self {
        Self { state: Mutex::default(), config: config.clone() }
    }

    /// What is known of `key`; where that is nothing, `start` hands the compile in, and others wait for it from then on.
    ///
    /// # Errors
    /// What `start` failed with.
    pub(super) fn find_or_start(
        &self,
        key: Digest,
        start: impl FnOnce(FlightEnd) -> Result<(), Error>,
    ) -> Result<Found, Error> {
        let mut state = self.lock();
        if let Some(compiled) = state.get(key) {
            return Ok(Found::Ready(compiled));
        }
        let now = Instant::now();
        state.failed.retain(|(_, _, since)| now.duration_since(*since) < self.config.failure_cached_for);
        if let Some((_, refusal, _)) = state.failed.iter().find(|(failed, ..)| *failed == key) {
            return Ok(Found::Failed(refusal.clone()));
        }
        if let Some((_, flight)) = state.flights.iter().find(|(flying, _)| *flying == key) {
            return Ok(Found::Joined(flight.clone()));
        }
        let (end, flight) = watch::channel(None);
        start(end)?;
        state.flights.push((key, flight.clone()));
        Ok(Found::Started(flight))
    }

    /// Keeps the outcome of a compile, which is then no longer under way.
    pub(super) fn settle(&self, key: Digest, outcome: &Outcome) {
        let mut state = self.lock();
        state.flights.retain(|(flying, _)| *flying != key);
        match outcome {
            Ok(compiled) => state.insert(key, compiled.clone(), &self.config),
            Err(refusal) => {
                state.failed.push_back((key, refusal.clone(), Instant::now()));
                if state.failed.len() > self.config.num_cached_failures_max {
                    state.failed.pop_front();
                }
            }
        }
    }

    pub(super) fn fill(&self) -> Fill {
        let state = self.lock();
        Fill {
            num_ready: state.ready.len(),
            num_bytes: state.num_bytes,
            num_flights: state.flights.len(),
            num_evicted: state.num_evicted,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn get(&mut self, key: Digest) -> Option<Arc<CompiledConstraint>> {
        let index = self.ready.iter().position(|entry| entry.key == key)?;
        self.ready[index..].rotate_left(1);
        self.ready.last().map(|entry| entry.compiled.clone())
    }

    fn insert(&mut self, key: Digest, compiled: Arc<CompiledConstraint>, config: &MazeConfig) {
        let num_bytes = compiled.memory_bytes();
        if num_bytes > config.cached_constraint_bytes_max || config.num_cached_constraints_max == 0 {
            return;
        }
        self.num_bytes += num_bytes;
        self.ready.push(Entry { key, compiled, num_bytes });
        while self.ready.len() > config.num_cached_constraints_max
            || self.num_bytes > config.cached_constraint_bytes_max
        {
            self.num_bytes -= self.ready.remove(0).num_bytes;
            self.num_evicted += 1;
        }
    }
}
