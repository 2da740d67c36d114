//! Results beyond one process: what was extracted, compiled and judged, in a folder of this machine and in a Redis that
//! several servers share.
//!
//! Nothing here is needed for an answer. What cannot be had in time, is broken, or was not written under our key is a
//! miss: the result is computed anew. An entry is filed under a digest of all that its value depends on, the program's
//! own bytes among it, and carries a MAC over that name and the value; so neither an altered entry nor one that was moved
//! is ever believed. Reading a tier is on a request's path and bounded in time; writing is done by a thread of its own.
//! What this is not: a store of compiled constraints. Those live in memory alone.

mod config;
mod disk;
mod redis;
mod seal;
mod wire;

use std::{
    fmt,
    fs::File,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use crossbeam_channel::{Receiver, Sender, bounded};
use prometheus::{IntCounterVec, Opts, core::Collector, proto::MetricFamily};
use serde::{Serialize, de::DeserializeOwned};

use crate::circuit::Circuit;
pub use config::{BadRedisUrl, CacheConfig, CacheError, RedisUrl};
use disk::Disk;
use redis::Redis;
use seal::Seal;

/// What can become of a question to a tier.
const OUTCOMES: [&str; 7] = ["hit", "miss", "refused", "error", "skipped", "stored", "dropped"];

/// What an entry holds; entries of different kinds never share a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The constraint set mined from a source.
    Extraction,
    /// The IR that a set was compiled to.
    Ir,
    /// What is known of a constraint at admission.
    Admission,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Extraction => "extraction",
            Self::Ir => "ir",
            Self::Admission => "admission",
        }
    }
}

/// What an entry is filed under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryName([u8; 32]);

impl fmt::Display for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

/// The tiers, nearest first. Cheap to share behind an [`Arc`]; its thread ends after it is dropped.
pub struct Tiers {
    shared: Arc<Shared>,
    writes: Sender<Write>,
}

struct Shared {
    seal: Seal,
    /// Digest of this program: another build may extract and judge otherwise.
    program: [u8; 32],
    levels: Vec<Level>,
    operations: IntCounterVec,
    entry_bytes_max: usize,
}

/// A tier, and whether it is to be asked.
struct Level {
    tier: Tier,
    circuit: Circuit,
    /// A refused entry is logged once for each tier; the metric counts all.
    has_refused: AtomicBool,
}

enum Tier {
    Disk(Disk),
    Redis(Redis),
}

/// An entry on its way to the first so many tiers.
struct Write {
    name: EntryName,
    sealed: Vec<u8>,
    num_levels: usize,
}

/// Why a tier did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
enum TierError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("it was not done in time")]
    Timeout,
    #[error("the name of its host is not resolved")]
    Unresolved,
    #[error("all connections are in use")]
    Busy,
    #[error("the entry is larger than the whole folder may be")]
    NoRoom,
    #[error("it answers what no Redis would: {0}")]
    Protocol(&'static str),
    /// The first word alone: what follows may repeat what it was sent, a password among it.
    #[error("it answers with the error {0}")]
    Server(String),
}

impl Tiers {
    /// Reads the key, opens the folder and starts the thread that writes. A Redis is first asked when there is a need.
    ///
    /// Costs a digest of this program's file: some 50 ms.
    ///
    /// # Errors
    /// [`CacheError`]: a key or folder that cannot be used, no tier at all, or a Redis without a key.
    pub fn open(config: &CacheConfig) -> Result<Self, CacheError> {
        if config.redis.is_some() && config.key.is_none() {
            return Err(CacheError::NoKey);
        }
        let seal = Seal::open(config.key.as_deref())?;
        let disk = config.dir.as_deref().map(|dir| Disk::open(dir, config)).transpose()?.map(Tier::Disk);
        let redis = config.redis.as_ref().map(|url| Redis::open(url.clone(), config)).transpose()?.map(Tier::Redis);
        let levels: Vec<_> = disk.into_iter().chain(redis).map(|tier| Level::new(tier, config)).collect();
        if levels.is_empty() {
            return Err(CacheError::NoTier);
        }
        let options = Opts::new(
            "ananke_cache_tier_operations_total",
            "Entries asked for and stored beyond this process, by tier and outcome.",
        );
        let operations = IntCounterVec::new(options, &["tier", "outcome"]).expect("the names are valid");
        // A series that appears with its first event has no rate.
        for (level, outcome) in levels.iter().flat_map(|level| OUTCOMES.map(|outcome| (level, outcome))) {
            operations.with_label_values(&[level.tier.name(), outcome]);
        }
        let program = program_digest().map_err(|source| CacheError::Program { source })?;
        let entry_bytes_max = config.entry_bytes_max;
        let shared = Arc::new(Shared { seal, program, levels, operations, entry_bytes_max });
        let (writes, receiver) = bounded(config.write_queue_len_max);
        let writer = shared.clone();
        std::thread::Builder::new()
            .name("cache-writer".into())
            .spawn(move || writer.write_all(&receiver))
            .map_err(|source| CacheError::Thread { source })?;
        let (dir, redis) = (config.dir.as_deref(), config.redis.as_ref());
        tracing::info!(?dir, ?redis, "results are kept beyond this process");
        Ok(Self { shared, writes })
    }

    /// The name of an entry: what kind it is, and all that its value depends on but the program itself.
    #[must_use]
    pub fn name(&self, kind: Kind, parts: &[&[u8]]) -> EntryName {
        let program: &[u8] = &self.shared.program;
        let parts = [kind.as_str().as_bytes(), program].into_iter().chain(parts.iter().copied());
        EntryName(self.shared.seal.name(parts))
    }

    /// The value of an entry, from the nearest tier that has it; those before it get it too. Blocks: at most the time
    /// bound of each tier.
    #[must_use]
    pub fn get<T: DeserializeOwned>(&self, name: EntryName) -> Option<T> {
        for (index, level) in self.shared.levels.iter().enumerate() {
            let Some(sealed) = self.shared.read(level, name) else { continue };
            let text = self.shared.seal.unseal(name, &sealed);
            let Some(value) = text.and_then(|text| serde_json::from_slice(text).ok()) else {
                self.shared.refuse(level, name);
                continue;
            };
            self.shared.count(level, "hit");
            if index > 0 {
                self.write(Write { name, sealed, num_levels: index });
            }
            return Some(value);
        }
        None
    }

    /// Hands an entry to the thread that stores it in every tier. What is too large, or does not read back as the same
    /// value, is not stored; neither is what finds the queue full.
    pub fn put<T: Serialize + DeserializeOwned + PartialEq>(&self, name: EntryName, value: &T) {
        let text = serde_json::to_vec(value).ok().filter(|text| text.len() <= self.shared.entry_bytes_max);
        let text = text.filter(|text| serde_json::from_slice::<T>(text).is_ok_and(|same| same == *value));
        let num_levels = self.shared.levels.len();
        match text {
            Some(text) => self.write(Write { name, sealed: self.shared.seal.seal(name, &text), num_levels }),
            None => self.shared.count_all(num_levels, "dropped"),
        }
    }

    /// How often each tier was asked, and with what outcome.
    #[must_use]
    pub fn metrics(&self) -> Vec<MetricFamily> {
        self.shared.operations.collect()
    }

    /// How often a tier, `disk` or `redis`, came to an outcome: `hit`, `miss`, `refused`, `error`, `skipped`, `stored` or
    /// `dropped`.
    #[must_use]
    pub fn num_operations(&self, tier: &str, outcome: &str) -> u64 {
        self.shared.operations.with_label_values(&[tier, outcome]).get()
    }

    fn write(&self, write: Write) {
        if let Err(error) = self.writes.try_send(write) {
            self.shared.count_all(error.into_inner().num_levels, "dropped");
        }
    }
}

impl Shared {
    /// What a tier has under a name. Failures are counted, and a tier that keeps failing is left alone for a while.
    fn read(&self, level: &Level, name: EntryName) -> Option<Vec<u8>> {
        match self.attempt(level, |tier| tier.read(name))? {
            Some(sealed) => Some(sealed),
            None => {
                self.count(level, "miss");
                None
            }
        }
    }

    fn write_all(&self, writes: &Receiver<Write>) {
        for Write { name, sealed, num_levels } in writes {
            for level in &self.levels[..num_levels] {
                if self.attempt(level, |tier| tier.write(name, &sealed)).is_some() {
                    self.count(level, "stored");
                }
            }
        }
    }

    /// Does something with a tier, unless it is to be left alone.
    fn attempt<T>(&self, level: &Level, work: impl FnOnce(&Tier) -> Result<T, TierError>) -> Option<T> {
        let Some(turn) = level.circuit.turn() else {
            self.count(level, "skipped");
            return None;
        };
        match work(&level.tier) {
            Ok(done) => {
                if turn.succeeded() {
                    tracing::info!(tier = level.tier.name(), "a cache tier answers again");
                }
                Some(done)
            }
            // That many of our own requests at once, and entries that large, say nothing of the tier.
            Err(TierError::Busy | TierError::NoRoom) => {
                drop(turn);
                self.count(level, "skipped");
                None
            }
            Err(error) => {
                self.count(level, "error");
                if turn.failed() {
                    let retry_after_s = level.circuit.retry_after().as_secs_f64();
                    tracing::warn!(tier = level.tier.name(), %error, retry_after_s, "a cache tier fails; going on without it");
                }
                None
            }
        }
    }

    /// An entry that was not written under our key, was altered, or cannot be read.
    fn refuse(&self, level: &Level, name: EntryName) {
        self.count(level, "refused");
        if !level.has_refused.swap(true, Ordering::Relaxed) {
            let tier = level.tier.name();
            tracing::warn!(
                tier,
                "an entry was refused: it was altered, or not written under this key; more are only counted"
            );
        }
        if let Tier::Disk(disk) = &level.tier {
            disk.forget(name);
        }
    }

    fn count(&self, level: &Level, outcome: &str) {
        self.operations.with_label_values(&[level.tier.name(), outcome]).inc();
    }

    fn count_all(&self, num_levels: usize, outcome: &str) {
        self.levels[..num_levels].iter().for_each(|level| self.count(level, outcome));
    }
}

impl Level {
    fn new(tier: Tier, config: &CacheConfig) -> Self {
        let circuit = Circuit::new(config.num_failures_max, config.retry_after);
        Self { tier, circuit, has_refused: AtomicBool::new(false) }
    }
}

impl Tier {
    fn name(&self) -> &'static str {
        match self {
            Self::Disk(_) => "disk",
            Self::Redis(_) => "redis",
        }
    }

    fn read(&self, name: EntryName) -> Result<Option<Vec<u8>>, TierError> {
        match self {
            Self::Disk(disk) => disk.read(name),
            Self::Redis(redis) => redis.get(name),
        }
    }

    fn write(&self, name: EntryName, sealed: &[u8]) -> Result<(), TierError> {
        match self {
            Self::Disk(disk) => disk.write(name, sealed),
            Self::Redis(redis) => redis.set(name, sealed),
        }
    }
}

fn program_digest() -> std::io::Result<[u8; 32]> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(std::env::current_exe()?)?)?;
    Ok(*hasher.finalize().as_bytes())
}
