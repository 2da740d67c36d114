//! Compiling on threads of its own: big stacks, a bounded queue, and one compile however many requests ask for it.
//!
//! A request that finds nothing in the cache hands its constraints in and waits, beside the async workers and for so
//! long; the compile itself goes on whoever still waits. No clock decides what a constraint is: it only decides who is
//! told to try again.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use prometheus::Histogram;
use serde::Serialize;

use super::constraint_cache::{ConstraintCache, Flight, FlightEnd, Found, Outcome, Refusal};
use super::judge::joint;
use super::kept::Kept;
use super::metrics;
use super::probe::Prober;
use super::{Client, Error, ErrorClass, MazeConfig};
use crate::braid::{self, CompileOptions, Compiled, Joint, JudgeOfIrs};
use crate::constraint::{ConstraintIr, ConstraintSet, Digest};
use crate::guide::{CompiledConstraint, Guide, GuideError};
use crate::idle;

/// Accounts kept for the compile budget; whoever was away longest has a full one again.
const NUM_ACCOUNTS_MAX: usize = 1024;

pub(super) struct CompilePool {
    jobs: Sender<Job>,
    shared: Arc<Shared>,
    /// The constraint of a request that has none: compiled once and never evicted, so that it waits for no one.
    unconstrained: OnceLock<Arc<CompiledConstraint>>,
}

struct Shared {
    guide: Arc<Guide>,
    cache: ConstraintCache,
    kept: Kept,
    accounts: Accounts,
    counters: Counters,
    compile_seconds: Histogram,
    config: MazeConfig,
}

/// Constraints to compile.
struct Job {
    key: Digest,
    irs: Arc<[ConstraintIr]>,
    client: Option<Arc<str>>,
    end: FlightEnd,
}

/// A constraint, or the compile that will bring it.
pub(super) enum Lookup {
    Ready(Arc<CompiledConstraint>),
    Flight(Flight),
}

/// How the constraints of requests were come by, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ConstraintStats {
    /// Look-ups that found the constraint compiled.
    pub hits: u64,
    /// Look-ups that had it compiled.
    pub misses: u64,
    /// Look-ups that joined a compile under way.
    pub waits: u64,
    /// Look-ups that found it refused a moment ago.
    pub failure_hits: u64,
    /// Compiles that ended in a constraint.
    pub compiled: u64,
    /// Compiles that ended in a refusal.
    pub refused: u64,
    /// Time of all compiles together, probes included, in milliseconds.
    pub compile_ms: u64,
    /// Time of all look-ups together, digests included, in microseconds.
    pub lookup_us: u64,
    /// Requests that stopped waiting for their compile.
    pub wait_timeouts: u64,
    /// Requests that found the queue full.
    pub queue_full: u64,
    /// Requests that had no compile time left.
    pub over_budget: u64,
    /// Probes that died of a constraint or did not finish with it.
    pub probe_failures: u64,
    /// Constraints kept.
    pub cached: u64,
    /// Bytes of the constraints kept, by estimate.
    pub cached_bytes: u64,
    /// Constraints that made room for others.
    pub evicted: u64,
    /// Compiles under way or waiting.
    pub pending: u64,
}

#[derive(Default)]
struct Counters {
    hits: AtomicU64,
    misses: AtomicU64,
    waits: AtomicU64,
    failure_hits: AtomicU64,
    compiled: AtomicU64,
    refused: AtomicU64,
    compile_us: AtomicU64,
    lookup_ns: AtomicU64,
    wait_timeouts: AtomicU64,
    queue_full: AtomicU64,
    over_budget: AtomicU64,
    probe_failures: AtomicU64,
}

impl CompilePool {
    /// Starts the threads; they end after the pool is dropped.
    pub(super) fn start(guide: Arc<Guide>, config: &MazeConfig) -> Self {
        let (jobs, receiver) = bounded(config.compile_queue_len_max);
        let shared = Arc::new(Shared {
            cache: ConstraintCache::new(config),
            kept: Kept::new(&guide),
            accounts: Accounts { ms_per_minute: config.compile_ms_per_minute, open: Mutex::default() },
            counters: Counters::default(),
            compile_seconds: metrics::compile_seconds(),
            config: config.clone(),
            guide,
        });
        for index in 0..config.num_compile_threads.max(1) {
            let (shared, receiver) = (shared.clone(), receiver.clone());
            let thread = std::thread::Builder::new()
                .name(format!("compile-{index}"))
                .stack_size(shared.guide.config().compile_stack_bytes);
            // Without any thread the channel has no receiver, and every compile is an error that says so.
            if let Err(error) = thread.spawn(move || shared.work(&receiver)) {
                tracing::error!(%error, "a compile thread could not be started");
            }
        }
        Self { jobs, shared, unconstrained: OnceLock::new() }
    }

    /// What is known of `irs`; hands the compile in where that is nothing. Costs a digest of all IRs.
    ///
    /// # Errors
    /// An IR that is not well-formed or was refused a moment ago, a full queue, a client without compile time.
    pub(super) fn look_up(&self, irs: &Arc<[ConstraintIr]>, client: Option<&Client>) -> Result<Lookup, Error> {
        if irs.is_empty() {
            return self.unconstrained().map(Lookup::Ready);
        }
        for (index, ir) in irs.iter().enumerate() {
            ir.validate().map_err(|source| Error::Ir { index, source })?;
        }
        let begun = Instant::now();
        let key = key_of(irs, client);
        let client = client.map(|client| &client.name);
        let found = self.shared.cache.find_or_start(key, |end| {
            self.shared.accounts.check(client)?;
            self.hand_in(Job { key, irs: irs.clone(), client: client.cloned(), end })
        });
        let counters = &self.shared.counters;
        count(&counters.lookup_ns, begun.elapsed().as_nanos() as u64);
        match found {
            Ok(Found::Ready(compiled)) => {
                count(&counters.hits, 1);
                Ok(Lookup::Ready(compiled))
            }
            Ok(Found::Failed(refusal)) => {
                count(&counters.failure_hits, 1);
                Err(refusal.into())
            }
            Ok(Found::Joined(flight)) => {
                count(&counters.waits, 1);
                Ok(Lookup::Flight(flight))
            }
            Ok(Found::Started(flight)) => {
                count(&counters.misses, 1);
                Ok(Lookup::Flight(flight))
            }
            Err(error) => {
                match error {
                    Error::CompileQueueFull { .. } => count(&counters.queue_full, 1),
                    Error::CompileBudget { .. } => count(&counters.over_budget, 1),
                    _ => {}
                }
                Err(error)
            }
        }
    }

    /// Waits for a compile, at most `compile_wait_max`.
    ///
    /// # Errors
    /// What the constraint was refused for, or [`Error::StillCompiling`].
    pub(super) async fn wait(&self, lookup: Lookup) -> Result<Arc<CompiledConstraint>, Error> {
        let mut flight = match lookup {
            Lookup::Ready(compiled) => return Ok(compiled),
            Lookup::Flight(flight) => flight,
        };
        let limit = self.shared.config.compile_wait_max;
        let Ok(landed) = tokio::time::timeout(limit, flight.wait_for(Option::is_some)).await else {
            count(&self.shared.counters.wait_timeouts, 1);
            return Err(Error::StillCompiling { waited_ms: limit.as_millis() as u64 });
        };
        let outcome = landed.ok().and_then(|outcome| outcome.clone());
        let lost = || Error::Internal { message: "a compile was lost".into() };
        Ok(outcome.ok_or_else(lost)??)
    }

    /// Compiles a set to an IR, with the guide's verdict on sets of which only several constraints together are empty.
    /// Each verdict is a compile like any other, so it waits in the queue, and the last one is found in the cache again
    /// when the IR itself is asked for. To be called beside the async workers, in a runtime.
    ///
    /// # Errors
    /// What Braid refuses, and an [`Error`] that is no verdict on the constraint: a full queue, a compile that takes too
    /// long. A set that the guide refuses for another reason than emptiness is refused when its IR is looked up.
    pub(super) fn compile_set(
        &self,
        set: &ConstraintSet,
        options: &CompileOptions,
        client: Option<&Client>,
    ) -> Result<Compiled, Error> {
        self.judging(client, |judge| Ok(braid::compile_judged(set, options, judge)?))
    }

    /// What `compile` makes with a judge of whole IRs, which compiles through this pool. To be called beside the async
    /// workers, in a runtime.
    ///
    /// # Errors
    /// What `compile` refuses, and an [`Error`] that is no verdict on a constraint.
    pub(super) fn judging<T>(
        &self,
        client: Option<&Client>,
        compile: impl FnOnce(&JudgeOfIrs<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let failure = RefCell::new(None);
        let runtime = tokio::runtime::Handle::current();
        let judge = |ir: &ConstraintIr| {
            let irs: Arc<[ConstraintIr]> = vec![ir.clone()].into();
            let compiled = self.look_up(&irs, client).and_then(|lookup| runtime.block_on(self.wait(lookup)));
            joint(compiled).unwrap_or_else(|error| {
                if error.class() == ErrorClass::Overloaded {
                    failure.replace(Some(error));
                }
                Joint::Unknown
            })
        };
        let compiled = compile(&judge)?;
        failure.into_inner().map_or(Ok(compiled), Err)
    }

    /// What is kept beyond this process.
    pub(super) fn kept(&self) -> &Kept {
        &self.shared.kept
    }

    /// The guide that compiles.
    pub(super) fn guide(&self) -> &Arc<Guide> {
        &self.shared.guide
    }

    /// How long compiles took, refused ones and probes included.
    pub(super) fn compile_seconds(&self) -> &Histogram {
        &self.shared.compile_seconds
    }

    /// The counters now.
    pub(super) fn stats(&self) -> ConstraintStats {
        let (counters, fill) = (&self.shared.counters, self.shared.cache.fill());
        ConstraintStats {
            hits: counters.hits.load(Relaxed),
            misses: counters.misses.load(Relaxed),
            waits: counters.waits.load(Relaxed),
            failure_hits: counters.failure_hits.load(Relaxed),
            compiled: counters.compiled.load(Relaxed),
            refused: counters.refused.load(Relaxed),
            compile_ms: counters.compile_us.load(Relaxed) / 1_000,
            lookup_us: counters.lookup_ns.load(Relaxed) / 1_000,
            wait_timeouts: counters.wait_timeouts.load(Relaxed),
            queue_full: counters.queue_full.load(Relaxed),
            over_budget: counters.over_budget.load(Relaxed),
            probe_failures: counters.probe_failures.load(Relaxed),
            cached: fill.num_ready as u64,
            cached_bytes: fill.num_bytes as u64,
            evicted: fill.num_evicted,
            pending: fill.num_flights as u64,
        }
    }

    fn unconstrained(&self) -> Result<Arc<CompiledConstraint>, Error> {
        if let Some(compiled) = self.unconstrained.get() {
            return Ok(compiled.clone());
        }
        let compiled = self.shared.guide.compile(&[])?;
        Ok(self.unconstrained.get_or_init(|| compiled).clone())
    }

    fn hand_in(&self, job: Job) -> Result<(), Error> {
        self.jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => Error::CompileQueueFull { limit: self.shared.config.compile_queue_len_max },
            TrySendError::Disconnected(_) => Error::Internal { message: "there is no thread to compile on".into() },
        })
    }
}

impl Shared {
    /// One thread's life: it brings its own probe, so that no probe waits for another.
    fn work(&self, jobs: &Receiver<Job>) {
        let probe = self.config.probe.clone();
        let mut prober = probe.map(|config| Prober::new(config, self.guide.clone()));
        while let Ok(Job { key, irs, client, end }) = idle::recv(jobs) {
            let begun = Instant::now();
            // A thread that died here would leave its flight in the air for good.
            let caught = catch_unwind(AssertUnwindSafe(|| self.compile(key, &irs, prober.as_mut())));
            let outcome = caught.unwrap_or_else(|_| {
                let (part, message) = ("constraints".into(), "a compile thread panicked".into());
                Err(Refusal::Guide(GuideError::Internal { part, message }))
            });
            self.book(&outcome, begun.elapsed(), client.as_ref());
            self.cache.settle(key, &outcome);
            // Nobody may be waiting any more.
            end.send_replace(Some(outcome));
        }
    }

    fn compile(&self, key: Digest, irs: &[ConstraintIr], prober: Option<&mut Prober>) -> Outcome {
        if let Some(prober) = prober {
            prober.probe(irs)?;
        }
        let known = self.kept.verdict(key, self.guide.vocabulary());
        let is_new = known.is_none();
        let outcome = self.guide.compile_known(irs, known).map_err(Refusal::Guide);
        if is_new {
            self.kept.keep_verdict(key, &outcome);
        }
        outcome
    }

    fn book(&self, outcome: &Outcome, took: Duration, client: Option<&Arc<str>>) {
        let counters = &self.counters;
        count(&counters.compile_us, took.as_micros() as u64);
        self.compile_seconds.observe(took.as_secs_f64());
        count(if outcome.is_ok() { &counters.compiled } else { &counters.refused }, 1);
        if matches!(outcome, Err(Refusal::ProbeCrashed { .. } | Refusal::ProbeTimeout { .. })) {
            count(&counters.probe_failures, 1);
        }
        if let Err(Refusal::Guide(error @ GuideError::Internal { .. })) = outcome {
            tracing::error!(%error, "a constraint was refused for a fault of ours");
        }
        self.accounts.charge(client, took);
    }
}

/// What a constraint is cached under: of clients that are set apart, only for themselves.
fn key_of(irs: &[ConstraintIr], client: Option<&Client>) -> Digest {
    let digest = Digest::of_value(irs);
    match client.and_then(|client| client.salt) {
        Some(salt) => Digest::of_digests(&[digest, Digest::from_bytes(salt)]),
        None => digest,
    }
}

fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Relaxed);
}

/// How much compile time each client has left. It is paid afterwards, so an account may be overdrawn by one compile.
struct Accounts {
    ms_per_minute: Option<u64>,
    /// Least recently charged first.
    open: Mutex<Vec<Account>>,
}

struct Account {
    client: Option<Arc<str>>,
    left_ms: f64,
    at: Instant,
}

impl Accounts {
    fn check(&self, client: Option<&Arc<str>>) -> Result<(), Error> {
        let Some(limit_ms) = self.ms_per_minute else { return Ok(()) };
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let account = open.iter().find(|account| account.client.as_ref() == client);
        match account.is_none_or(|account| account.left_ms(limit_ms, Instant::now()) > 0.0) {
            true => Ok(()),
            false => Err(Error::CompileBudget { limit_ms }),
        }
    }

    fn charge(&self, client: Option<&Arc<str>>, took: Duration) {
        let Some(limit_ms) = self.ms_per_minute else { return };
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let at = Instant::now();
        let known = open.iter().position(|account| account.client.as_ref() == client);
        let left_ms = known.map_or(limit_ms as f64, |index| open.remove(index).left_ms(limit_ms, at));
        open.push(Account { client: client.cloned(), left_ms: left_ms - took.as_secs_f64() * 1e3, at });
        if open.len() > NUM_ACCOUNTS_MAX {
            open.remove(0);
        }
    }
}

impl Account {
    fn left_ms(&self, limit_ms: u64, now: Instant) -> f64 {
        let limit_ms = limit_ms as f64;
        let earned_ms = now.duration_since(self.at).as_secs_f64() / 60.0 * limit_ms;
        (self.left_ms + earned_ms).min(limit_ms)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::braid::Strategy;
    use crate::constraint::{Constraint, Kind, Source};
    use crate::guide::GuideConfig;
    use crate::text::{Token, Vocabulary};

    fn pool(config: &MazeConfig) -> CompilePool {
        let tokens = (0..=255u8).map(|byte| Token::Text(vec![byte])).chain([Token::Control("<end>".into())]).collect();
        let vocabulary = Vocabulary::new(tokens, 257, vec![256]).expect("a valid vocabulary");
        let guide = Guide::new(Arc::new(vocabulary), GuideConfig::default()).expect("the vocabulary can be sliced");
        CompilePool::start(Arc::new(guide), config)
    }

    fn irs(value: serde_json::Value) -> Arc<[ConstraintIr]> {
        vec![serde_json::from_value(value).expect("a well-formed IR")].into()
    }

    /// Compiles for some milliseconds, differently for each `salt`.
    fn slow(salt: usize) -> Arc<[ConstraintIr]> {
        let words: Vec<_> = (0..2_000).map(|idx| json!({"text": format!("{salt}-{idx}-{}", idx * 7919)})).collect();
        irs(json!({"forbidden_text": words}))
    }

    async fn come_by(
        pool: &CompilePool,
        irs: &Arc<[ConstraintIr]>,
        client: Option<&Client>,
    ) -> Result<Arc<CompiledConstraint>, Error> {
        pool.wait(pool.look_up(irs, client)?).await
    }

    #[tokio::test]
    async fn however_many_ask_it_is_compiled_once() {
        let pool = pool(&MazeConfig::default());
        let lookups: Vec<_> = (0..16).map(|_| pool.look_up(&slow(0), None).expect("room")).collect();
        let mut compiled = Vec::new();
        for lookup in lookups {
            compiled.push(pool.wait(lookup).await.expect("it compiles"));
        }
        assert!(compiled.iter().all(|one| Arc::ptr_eq(one, &compiled[0])));
        assert!(Arc::ptr_eq(&come_by(&pool, &slow(0), None).await.expect("kept"), &compiled[0]));
        let stats = pool.stats();
        assert_eq!((stats.misses, stats.compiled, stats.hits + stats.waits), (1, 1, 16));
        assert_eq!((stats.pending, stats.cached), (0, 1));
    }

    /// Constraints of which any two hold together, and all three do not.
    fn triple(is_stated: bool) -> ConstraintSet {
        let constraint = |name: &str, rule: serde_json::Value| {
            let rule = serde_json::from_value(rule).expect("a rule");
            let stated = Constraint::stated(name, Kind::Semantic, rule);
            if is_stated { stated } else { Constraint { source: Source::AstPattern, ..stated } }
        };
        let mut set = ConstraintSet::default();
        set.push(constraint(
            "letter",
            json!({"type": "grammar", "grammar": {"syntax": "lark", "source": "start: A | B\nA: \"a\"\nB: \"b\""}}),
        ));
        set.push(constraint("no a", json!({"type": "forbidden_text", "any_of": [{"text": "a"}]})));
        set.push(constraint("no b", json!({"type": "forbidden_text", "any_of": [{"text": "b"}]})));
        set.push(constraint("no c", json!({"type": "forbidden_text", "any_of": [{"text": "c"}]})));
        set
    }

    #[tokio::test]
    async fn what_is_only_jointly_empty_is_settled_or_refused_with_those_it_takes() {
        let pool = Arc::new(pool(&MazeConfig::default()));
        let compile = |set: ConstraintSet, strategy: Strategy| {
            let pool = pool.clone();
            let options = CompileOptions { strategy, ..CompileOptions::default() };
            tokio::task::spawn_blocking(move || pool.compile_set(&set, &options, None))
        };
        let mined = compile(triple(false), Strategy::Priority).await.expect("no panic").expect("one yields");
        assert_eq!((mined.ir.lost.len(), &mined.joint), (1, &Joint::Satisfiable));
        assert_eq!(mined.conflicts[0].between.len(), 3, "{:?}", mined.conflicts);
        for (set, strategy) in [(triple(true), Strategy::Priority), (triple(false), Strategy::Refuse)] {
            let error = compile(set, strategy).await.expect("no panic").expect_err("nothing yields").to_string();
            let named = ["letter", "no a", "no b", "no c"].map(|name| error.contains(&format!("`{name}`")));
            assert_eq!(named, [true, true, true, false], "{error}");
        }
        // The verdict on the IR that came out is there when the IR is asked for.
        let irs: Arc<[ConstraintIr]> = vec![mined.ir].into();
        assert!(matches!(pool.look_up(&irs, None), Ok(Lookup::Ready(_))));
    }

    #[tokio::test]
    async fn a_refusal_is_kept_for_a_while() {
        let refused = irs(json!({"regex_patterns": [{"any_of": [{"pattern": "a("}], "match": "full"}]}));
        for (failure_cached_for, failure_hits) in [(Duration::from_secs(600), 2), (Duration::ZERO, 0)] {
            let pool = pool(&MazeConfig { failure_cached_for, ..MazeConfig::default() });
            for _ in 0..3 {
                let error = come_by(&pool, &refused, None).await.expect_err("the bracket is open");
                assert!(matches!(error, Error::Guide(GuideError::InvalidRegex { .. })), "{error}");
            }
            assert_eq!(pool.stats().failure_hits, failure_hits);
        }
    }

    #[tokio::test]
    async fn a_full_queue_is_an_error_and_holds_nobody_else_up() {
        let config = MazeConfig { num_compile_threads: 1, compile_queue_len_max: 1, ..MazeConfig::default() };
        let pool = pool(&config);
        let lookups: Vec<_> = (0..8).map(|salt| pool.look_up(&slow(salt), None)).collect();
        let is_full = |lookup: &Result<Lookup, Error>| matches!(lookup, Err(Error::CompileQueueFull { limit: 1 }));
        assert!(lookups.iter().any(is_full) && !is_full(&lookups[0]));
        assert!(pool.look_up(&Arc::from([]), None).is_ok(), "a request without constraints waits for no one");
        for lookup in lookups.into_iter().flatten() {
            pool.wait(lookup).await.expect("what was taken is compiled");
        }
        assert_eq!(pool.stats().pending, 0);
        come_by(&pool, &slow(9), None).await.expect("there is room again");
    }

    #[tokio::test]
    async fn a_request_that_stops_waiting_finds_the_constraint_later() {
        let pool = pool(&MazeConfig { compile_wait_max: Duration::ZERO, ..MazeConfig::default() });
        let error = come_by(&pool, &slow(0), None).await.expect_err("nothing compiles in no time");
        assert!(matches!(error, Error::StillCompiling { waited_ms: 0 }), "{error}");
        while pool.stats().pending > 0 {
            tokio::task::yield_now().await;
        }
        come_by(&pool, &slow(0), None).await.expect("it was compiled meanwhile");
        assert_eq!((pool.stats().misses, pool.stats().hits), (1, 1));
    }

    #[tokio::test]
    async fn what_is_kept_is_bounded_in_bytes_and_in_number() {
        let one = |salt: usize| irs(json!({"forbidden_text": [{"text": format!("word {salt}")}]}));
        let unbounded = pool(&MazeConfig::default());
        let num_bytes = come_by(&unbounded, &one(0), None).await.expect("it compiles").memory_bytes();
        for config in [
            MazeConfig { cached_constraint_bytes_max: 3 * num_bytes + 1, ..MazeConfig::default() },
            MazeConfig { num_cached_constraints_max: 3, ..MazeConfig::default() },
        ] {
            let pool = pool(&config);
            for salt in [0, 1, 2, 0, 3] {
                come_by(&pool, &one(salt), None).await.expect("it compiles");
            }
            let stats = pool.stats();
            assert_eq!((stats.cached, stats.evicted, stats.cached_bytes), (3, 1, 3 * num_bytes as u64));
            for (salt, hits) in [(0, 2), (2, 3), (1, 3)] {
                come_by(&pool, &one(salt), None).await.expect("it compiles");
                assert_eq!(pool.stats().hits, hits, "the least recently used went, which was 1");
            }
        }
        let none = pool(&MazeConfig { cached_constraint_bytes_max: num_bytes - 1, ..MazeConfig::default() });
        come_by(&none, &one(0), None).await.expect("it is used all the same");
        assert_eq!((none.stats().cached, none.stats().cached_bytes), (0, 0));
    }

    #[tokio::test]
    async fn a_client_that_is_set_apart_shares_no_constraint() {
        let pool = pool(&MazeConfig::default());
        let client = |salt| Client { salt, ..Client::from("x") };
        for (num_compiled, client) in
            [(1, None), (1, Some(client(None))), (2, Some(client(Some([1; 32])))), (3, Some(client(Some([2; 32]))))]
        {
            for _ in 0..2 {
                come_by(&pool, &slow(0), client.as_ref()).await.expect("it compiles");
                assert_eq!(pool.stats().compiled, num_compiled);
            }
        }
    }

    #[tokio::test]
    async fn a_client_pays_for_its_own_compiles() {
        let pool = pool(&MazeConfig { compile_ms_per_minute: Some(1), ..MazeConfig::default() });
        let (greedy, other): (Client, Client) = ("greedy".into(), "other".into());
        come_by(&pool, &slow(0), Some(&greedy)).await.expect("an account may be overdrawn once");
        let error = come_by(&pool, &slow(1), Some(&greedy)).await.expect_err("nothing is left");
        assert!(matches!(error, Error::CompileBudget { limit_ms: 1 }), "{error}");
        come_by(&pool, &slow(0), Some(&greedy)).await.expect("what is compiled costs nothing");
        come_by(&pool, &slow(1), Some(&other)).await.expect("another client has its own account");
        come_by(&pool, &slow(2), None).await.expect("and so have those without a name");
        assert_eq!(pool.stats().over_budget, 1);
    }
}
