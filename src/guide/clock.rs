//! A cache bounded in bytes that gives up what was not used since the hand of its clock last came by.
//!
//! A hit only sets a flag, so that readers share a lock.

use std::borrow::Borrow;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, Ordering};

/// What an entry costs beside its value: the map, the clock, allocations.
const ENTRY_BYTES: usize = 96;

/// Values by key.
pub(crate) struct ClockCache<K, V> {
    entries: HashMap<K, Entry<V>>,
    /// Keys in the order in which the hand passes them.
    clock: VecDeque<K>,
    num_bytes: usize,
    max_bytes: usize,
}

struct Entry<V> {
    value: V,
    num_bytes: usize,
    used: AtomicBool,
}

impl<K: Hash + Eq + Clone, V> ClockCache<K, V> {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self { entries: HashMap::new(), clock: VecDeque::new(), num_bytes: 0, max_bytes }
    }

    #[cfg(test)]
    pub(crate) fn num_bytes(&self) -> usize {
        self.num_bytes
    }

    pub(crate) fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let entry = self.entries.get(key)?;
        entry.used.store(true, Ordering::Relaxed);
        Some(&entry.value)
    }

    /// Sets room aside for something that is kept elsewhere and never given up; `false` where that would take more than
    /// half of all room.
    pub(crate) fn reserve(&mut self, num_bytes: usize) -> bool {
        let fits = 2 * num_bytes <= self.max_bytes;
        if fits {
            self.max_bytes -= num_bytes;
            self.make_room(0);
        }
        fits
    }

    /// Keeps `value`, whose payload has `payload_bytes`, and gives up others for it; one that is too big is not kept.
    pub(crate) fn insert(&mut self, key: K, value: V, payload_bytes: usize) {
        let num_bytes = payload_bytes + ENTRY_BYTES;
        if num_bytes > self.max_bytes || self.entries.contains_key(&key) {
            return;
        }
        self.make_room(num_bytes);
        self.num_bytes += num_bytes;
        self.clock.push_back(key.clone());
        self.entries.insert(key, Entry { value, num_bytes, used: AtomicBool::new(false) });
    }

    fn make_room(&mut self, num_bytes: usize) {
        while self.num_bytes + num_bytes > self.max_bytes {
            let Some(oldest) = self.clock.pop_front() else { return };
            let spared = self.entries.get(&oldest).is_some_and(|entry| entry.used.swap(false, Ordering::Relaxed));
            if spared {
                self.clock.push_back(oldest);
            } else if let Some(entry) = self.entries.remove(&oldest) {
                self.num_bytes -= entry.num_bytes;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_goes_first_and_the_bound_holds() {
        let mut cache = ClockCache::new(4 * (ENTRY_BYTES + 8));
        (0..4).for_each(|key| cache.insert(key, key, 8));
        assert_eq!(cache.get(&0), Some(&0));
        cache.insert(4, 4, 8);
        let kept = |cache: &ClockCache<i32, i32>| {
            let mut kept: Vec<i32> = cache.entries.keys().copied().collect();
            kept.sort_unstable();
            kept
        };
        assert_eq!(kept(&cache), [0, 2, 3, 4], "1 was the first that nobody used");
        cache.insert(5, 5, 4 * (ENTRY_BYTES + 8));
        assert_eq!(kept(&cache), [0, 2, 3, 4], "too big to keep at all");
        assert!(cache.reserve(2 * (ENTRY_BYTES + 8)) && !cache.reserve(2 * (ENTRY_BYTES + 8)));
        assert_eq!((kept(&cache).len(), cache.num_bytes()), (2, 2 * (ENTRY_BYTES + 8)));
    }
}
