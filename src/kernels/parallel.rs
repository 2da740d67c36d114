//! Work over the model's threads: candle's own pool, whose workers spin briefly between products, so that a decode
//! step of some hundred small kernels does not pay a wake-up for each.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ops::Range;

/// Work below this many multiply-adds is done on the calling thread.
const PARALLEL_MIN_OPS: usize = 1 << 15;

/// Calls `work` on ranges that together are `0..num_items`, on all model threads if there is work enough for them.
///
/// Which thread gets which range is left open: `work` must give the same result for an item in any range.
pub(crate) fn for_each_range(num_items: usize, ops_per_item: usize, work: impl Fn(Range<usize>) + Sync) {
    if num_items < 2 || num_items.saturating_mul(ops_per_item) < PARALLEL_MIN_OPS {
        if num_items > 0 {
            work(0..num_items);
        }
        return;
    }
    candle_core::utils::barrier_pool().execute_chunked(num_items, work);
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
