//! What finished sequences leave for the next ones, within a bound that all constraints of a guide share.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many spares a guide's constraints may still keep, all together.
#[derive(Clone, Debug)]
pub(crate) struct Room(Arc<AtomicUsize>);

impl Room {
    pub(crate) fn new(places: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(places)))
    }

    fn take(&self) -> bool {
        let less = |places: usize| places.checked_sub(1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }

    fn give_back(&self, places: usize) {
        self.0.fetch_add(places, Ordering::Relaxed);
    }
}

/// The spares of one constraint; its places are given back with it.
pub(crate) struct Spares<T> {
    kept: Mutex<Vec<T>>,
    max: usize,
    room: Room,
}

impl<T> Spares<T> {
    /// At most `max`, as long as there is room.
    pub(crate) fn new(max: usize, room: &Room) -> Self {
        Self { kept: Mutex::default(), max, room: room.clone() }
    }

    /// The one that was kept last.
    pub(crate) fn take(&self) -> Option<T> {
        let spare = self.lock().pop();
        self.room.give_back(usize::from(spare.is_some()));
        spare
    }

    /// Keeps one, if there is room for it.
    pub(crate) fn keep(&self, spare: T) {
        let mut kept = self.lock();
        if kept.len() < self.max && self.room.take() {
            kept.push(spare);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<T>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Drop for Spares<T> {
    fn drop(&mut self) {
        let num_kept = self.lock().len();
        self.room.give_back(num_kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constraints_share_the_room_and_give_it_back() {
        let room = Room::new(3);
        let (one, two) = (Spares::new(2, &room), Spares::new(2, &room));
        (0..3).for_each(|spare| one.keep(spare));
        (3..6).for_each(|spare| two.keep(spare));
        assert_eq!((one.take(), one.take(), one.take()), (Some(1), Some(0), None));
        assert_eq!((two.take(), two.take()), (Some(3), None), "two places were taken by the other one");
        (0..2).for_each(|spare| one.keep(spare));
        drop(one);
        (3..6).for_each(|spare| two.keep(spare));
        assert_eq!((two.take(), two.take(), two.take()), (Some(4), Some(3), None));
    }
}
