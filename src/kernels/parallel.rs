//! Work over the model's threads.
//!
//! A decode step is some hundred kernels of tens of microseconds, so workers spin a moment before they sleep, and
//! whoever calls works too. The caller never waits for a worker that has not begun: it closes the job, and a worker
//! that the system did not run in time finds nothing left to do. On a machine that is busy with other things, such as
//! the masks of the same step, a kernel then takes the time of the cores it gets, not that of the slowest to wake.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, TryLockError};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// Work below this many multiply-adds is done on the calling thread.
const PARALLEL_MIN_OPS: usize = 1 << 15;
/// Ranges that each thread's share is cut into, so that a fast thread takes over from a slow one.
const RANGES_PER_THREAD: usize = 8;
/// How long a worker without work keeps its core.
const SPIN_MAX: Duration = Duration::from_micros(50);

/// Calls `work` on ranges that together are `0..num_items`, on all model threads if there is work enough for them.
///
/// Which thread gets which range is left open: `work` must give the same result for an item in any range.
/// There are as many threads as candle uses: physical cores, or `RAYON_NUM_THREADS`.
///
/// # Panics
/// When `work` does.
pub(crate) fn for_each_range(num_items: usize, ops_per_item: usize, work: impl Fn(Range<usize>) + Sync) {
    if num_items == 0 {
        return;
    }
    let enough = num_items > 1 && num_items.saturating_mul(ops_per_item) >= PARALLEL_MIN_OPS;
    match Pool::shared().filter(|_| enough) {
        Some(pool) => pool.run(num_items, &work),
        None => work(0..num_items),
    }
}

/// Fills `outs` on all model threads: `work` gets a range of items and, of each output, the part that is theirs; each
/// output comes with the bytes of an item.
///
/// # Panics
/// When `work` does, or when an output does not have the bytes of `num_items` items.
pub(crate) fn fill_ranges<const N: usize>(
    num_items: usize,
    ops_per_item: usize,
    outs: [(&mut [u8], usize); N],
    work: impl Fn(Range<usize>, [&mut [u8]; N]) + Sync,
) {
    let outs = outs.map(|(out, item_len)| {
        assert_eq!(out.len(), num_items * item_len, "an output has the bytes of its items");
        (Shared::new(out), item_len)
    });
    for_each_range(num_items, ops_per_item, |range| {
        // SAFETY: ranges do not overlap, and so neither do their parts.
        let parts =
            outs.each_ref().map(|(out, item_len)| unsafe { out.part(range.start * item_len, range.len() * item_len) });
        work(range, parts);
    });
}

struct Pool {
    /// [`OPEN`] while workers may begin, a count of jobs above it, and how many workers are at work below it.
    state: AtomicUsize,
    job: UnsafeCell<Option<Job>>,
    next_item: AtomicUsize,
    panicked: AtomicBool,
    num_asleep: AtomicUsize,
    workers: OnceLock<Vec<Thread>>,
    caller: Mutex<()>,
}

const OPEN: usize = 1 << 16;
const ONE_JOB: usize = OPEN << 1;

#[derive(Clone, Copy)]
struct Job {
    work: *const (dyn Fn(Range<usize>) + Sync),
    num_items: usize,
    range_len: usize,
}

// SAFETY: `job` is written only while no worker is at work and none may begin; see `run`.
unsafe impl Sync for Pool {}
// SAFETY: as above.
unsafe impl Send for Pool {}

impl Pool {
    /// The pool of this process; `None` where one thread is all there is.
    fn shared() -> Option<&'static Self> {
        static POOL: OnceLock<Option<&'static Pool>> = OnceLock::new();
        *POOL.get_or_init(|| {
            let num_workers = candle_core::utils::get_num_threads().saturating_sub(1);
            (num_workers > 0).then(|| Self::start(num_workers))
        })
    }

    fn start(num_workers: usize) -> &'static Self {
        let pool: &'static Self = Box::leak(Box::new(Self {
            state: AtomicUsize::new(0),
            job: UnsafeCell::new(None),
            next_item: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            num_asleep: AtomicUsize::new(0),
            workers: OnceLock::new(),
            caller: Mutex::new(()),
        }));
        let spawn = |i| std::thread::Builder::new().name(format!("model-{i}")).spawn(|| pool.serve());
        // Fewer threads than asked for only cost speed.
        let workers = (0..num_workers).filter_map(|i| spawn(i).ok()).map(|handle| handle.thread().clone()).collect();
        pool.workers.get_or_init(|| workers);
        pool
    }

    fn run(&self, num_items: usize, work: &(dyn Fn(Range<usize>) + Sync)) {
        // Another caller has the workers, or a range of this very job asks for more: the calling thread is enough.
        let _caller = match self.caller.try_lock() {
            Ok(caller) => caller,
            // A job that panicked left nothing behind: `Closing` saw to that.
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return work(0..num_items),
        };
        let num_threads = self.workers.get().map_or(1, |workers| workers.len() + 1);
        let range_len = num_items.div_ceil(num_threads * RANGES_PER_THREAD);
        // SAFETY: only the lifetime is changed; `Closing` below keeps this call from returning, or unwinding, while
        // a worker may still use `work`.
        let work = unsafe {
            std::mem::transmute::<&(dyn Fn(Range<usize>) + Sync), *const (dyn Fn(Range<usize>) + Sync)>(work)
        };
        let job = Job { work, num_items, range_len };
        // SAFETY: the state is closed with nobody at work (as it was made, and as `Closing` leaves it), and `caller`
        // is held: nobody else touches `job`.
        unsafe { *self.job.get() = Some(job) };
        self.next_item.store(0, Ordering::Relaxed);
        self.panicked.store(false, Ordering::Relaxed);
        let job_count = self.state.load(Ordering::Relaxed) & !(ONE_JOB - 1);
        // Sequentially consistent with the worker's count of sleepers: one of the two sees the other.
        self.state.store(job_count.wrapping_add(ONE_JOB) | OPEN, Ordering::SeqCst);
        let closing = Closing(self);
        if self.num_asleep.load(Ordering::SeqCst) > 0 {
            self.workers.get().into_iter().flatten().for_each(Thread::unpark);
        }
        self.take_ranges(&job);
        drop(closing);
        if self.panicked.load(Ordering::Relaxed) {
            panic!("a kernel panicked on a model thread");
        }
    }

    fn take_ranges(&self, job: &Job) {
        // SAFETY: the caller of `run` keeps it alive until the job is closed and nobody is at work.
        let work = unsafe { &*job.work };
        loop {
            let start = self.next_item.fetch_add(job.range_len, Ordering::Relaxed);
            if start >= job.num_items {
                return;
            }
            work(start..job.num_items.min(start + job.range_len));
        }
    }

    /// A worker's life.
    fn serve(&self) {
        let mut done = 0;
        loop {
            let state = self.wait_for_job(done);
            if self.state.compare_exchange(state, state + 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
                continue;
            }
            done = state & !(ONE_JOB - 1);
            // SAFETY: this worker is counted as at work, so nobody writes `job` until it is not.
            if let Some(job) = unsafe { *self.job.get() }
                && catch_unwind(AssertUnwindSafe(|| self.take_ranges(&job))).is_err()
            {
                self.panicked.store(true, Ordering::Relaxed);
            }
            self.state.fetch_sub(1, Ordering::Release);
        }
    }

    /// Returns the state once it is open for a job other than `done`.
    fn wait_for_job(&self, done: usize) -> usize {
        let is_new = |state: usize| state & OPEN != 0 && state & !(ONE_JOB - 1) != done;
        let start = Instant::now();
        loop {
            for _ in 0..64 {
                let state = self.state.load(Ordering::Relaxed);
                if is_new(state) {
                    return state;
                }
                std::hint::spin_loop();
            }
            if start.elapsed() > SPIN_MAX {
                self.num_asleep.fetch_add(1, Ordering::SeqCst);
                while !is_new(self.state.load(Ordering::SeqCst)) {
                    std::thread::park();
                }
                self.num_asleep.fetch_sub(1, Ordering::SeqCst);
            }
        }
    }
}

/// Closes the job when it goes, and waits for the workers that have begun.
struct Closing<'a>(&'a Pool);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.fetch_and(!OPEN, Ordering::Acquire) & !OPEN;
        let mut num_spins = 0;
        while state & (OPEN - 1) != 0 {
            num_spins += 1;
            // A worker that is at work and yet does not finish may be waiting for this very core.
            if num_spins % 256 == 0 {
                std::thread::yield_now()
            } else {
                std::hint::spin_loop()
            }
            state = self.0.state.load(Ordering::Acquire);
        }
    }
}

/// An output that several threads fill, each its own part.
#[derive(Clone, Copy)]
pub(crate) struct Shared<'a, T> {
    start: *mut T,
    len: usize,
    owner: PhantomData<&'a mut [T]>,
}

// SAFETY: a `Shared` only hands out ranges, and whoever asks for one promises that nobody else holds it.
unsafe impl<T: Send> Send for Shared<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    pub(crate) fn new(values: &'a mut [T]) -> Self {
        Self { start: values.as_mut_ptr(), len: values.len(), owner: PhantomData }
    }

    /// The part `start..start + len`.
    ///
    /// # Safety
    /// No other thread may hold a part that overlaps it.
    ///
    /// # Panics
    /// When the part reaches past the end.
    #[inline(always)]
    #[expect(clippy::mut_from_ref, reason = "the caller promises disjoint parts")]
    pub(crate) unsafe fn part(&self, start: usize, len: usize) -> &mut [T] {
        assert!(start <= self.len && len <= self.len - start, "part {start}+{len} of {}", self.len);
        // SAFETY: in bounds by the check above; disjoint by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> &'static Pool {
        static POOL: OnceLock<&'static Pool> = OnceLock::new();
        POOL.get_or_init(|| Pool::start(3))
    }

    #[test]
    fn every_item_is_done_exactly_once_in_many_jobs_from_many_callers() {
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for num_items in (1..400).chain((1..2000).map(|i| i % 7 + 1)) {
                        let counts: Vec<AtomicUsize> = (0..num_items).map(|_| AtomicUsize::new(0)).collect();
                        pool().run(num_items, &|range| {
                            range.for_each(|item| {
                                counts[item].fetch_add(1, Ordering::Relaxed);
                            });
                        });
                        assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
                    }
                });
            }
        });
    }

    #[test]
    fn outputs_are_filled_each_with_its_own_items() {
        const NUM_ITEMS: usize = 10_000;
        let (mut bytes, mut pairs) = (vec![0u8; NUM_ITEMS], vec![0u8; 2 * NUM_ITEMS]);
        fill_ranges(NUM_ITEMS, 100, [(&mut bytes, 1), (&mut pairs, 2), (&mut [], 0)], |range, [bytes, pairs, none]| {
            assert!(none.is_empty());
            for (i, (byte, pair)) in range.zip(bytes.iter_mut().zip(pairs.chunks_exact_mut(2))) {
                *byte = i as u8;
                pair.copy_from_slice(&(i as u16).to_le_bytes());
            }
        });
        assert!((0..NUM_ITEMS).all(|i| bytes[i] == i as u8 && pairs[2 * i..][..2] == (i as u16).to_le_bytes()));
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        for _ in 0..20 {
            let run = || pool().run(64, &|range| assert!(!range.contains(&33), "planted"));
            assert!(catch_unwind(run).is_err());
            let sum = AtomicUsize::new(0);
            pool().run(64, &|range| {
                sum.fetch_add(range.sum::<usize>(), Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), 63 * 32);
        }
    }
}
