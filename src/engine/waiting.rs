//! Who is taken in next: a line for each tenant, and the lines take turns.
//!
//! A turn is as many sequences as the tenant's weight, so whoever sends few requests waits for one turn of each other
//! tenant at most, however many requests those send. Sequences without a tenant share one line. What was
//! preempted comes before all lines, in the order in which it was admitted.
//!
//! A tenant's line ends where as many of its sequences wait as there are free places in the queue, so that no tenant
//! fills it: one alone gets half, and there is always room for one more who comes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::sequence::SequenceId;

/// Whose sequences wait in one line; the same value for all of them.
#[derive(Debug)]
pub struct Tenant {
    /// Unlike that of any other tenant of this process; 0 is nobody's.
    id: u64,
    /// Sequences of one turn, at least 1.
    weight: AtomicUsize,
    /// Sequences that wait to be scheduled for the first time.
    pub(super) num_queued: AtomicUsize,
}

impl Tenant {
    /// Sequences of one turn when nothing else is said.
    pub const WEIGHT_DEFAULT: u32 = 1;

    /// A tenant whose turn is `weight` sequences; 0 counts as 1.
    #[must_use]
    pub fn new(weight: u32) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let tenant = Self { id, weight: AtomicUsize::new(1), num_queued: AtomicUsize::new(0) };
        tenant.set_weight(weight);
        Arc::new(tenant)
    }

    /// Changes the weight; its next turn keeps to it.
    pub fn set_weight(&self, weight: u32) {
        self.weight.store(weight.max(1) as usize, Ordering::Relaxed);
    }
}

impl PartialEq for Tenant {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Tenant {}

/// The sequences that wait.
#[derive(Debug, Default)]
pub(super) struct WaitingLines {
    preempted: VecDeque<SequenceId>,
    /// None is empty.
    lines: BTreeMap<u64, Line>,
    /// The tenants with a line, the one whose turn it is in front.
    turns: VecDeque<u64>,
    /// Sequences that are left of the turn.
    num_left: usize,
    len: usize,
}

#[derive(Debug)]
struct Line {
    tenant: Option<Arc<Tenant>>,
    ids: VecDeque<SequenceId>,
}

impl Line {
    fn weight(&self) -> usize {
        self.tenant.as_ref().map_or(1, |tenant| tenant.weight.load(Ordering::Relaxed))
    }
}

impl WaitingLines {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// To the end of the line of its tenant.
    pub(super) fn push_back(&mut self, tenant: Option<Arc<Tenant>>, id: SequenceId) {
        let key = tenant.as_ref().map_or(0, |tenant| tenant.id);
        self.len += 1;
        if let Some(line) = self.lines.get_mut(&key) {
            line.ids.push_back(id);
            return;
        }
        let line = Line { tenant, ids: VecDeque::from([id]) };
        if self.turns.is_empty() {
            self.num_left = line.weight();
        }
        self.turns.push_back(key);
        self.lines.insert(key, line);
    }

    /// Before all lines.
    pub(super) fn push_front(&mut self, id: SequenceId) {
        self.len += 1;
        self.preempted.push_front(id);
    }

    /// Who is next.
    pub(super) fn front(&self) -> Option<SequenceId> {
        let first = self.turns.front().and_then(|key| self.lines.get(key)?.ids.front());
        self.preempted.front().or(first).copied()
    }

    /// Lets the next one go.
    pub(super) fn pop_front(&mut self) {
        if self.preempted.pop_front().is_some() {
            self.len -= 1;
            return;
        }
        let Some(&key) = self.turns.front() else { return };
        let Some(line) = self.lines.get_mut(&key) else { return };
        if line.ids.pop_front().is_some() {
            self.len -= 1;
        }
        let is_empty = line.ids.is_empty();
        self.num_left = self.num_left.saturating_sub(1);
        if is_empty {
            self.lines.remove(&key);
            self.turns.pop_front();
            self.begin_turn();
        } else if self.num_left == 0 {
            self.turns.rotate_left(1);
            self.begin_turn();
        }
    }

    /// Takes one out wherever it stands.
    pub(super) fn remove(&mut self, id: SequenceId) {
        let len = self.preempted.len();
        self.preempted.retain(|&other| other != id);
        self.len -= len - self.preempted.len();
        let Some((&key, line)) = self.lines.iter_mut().find(|(_, line)| line.ids.contains(&id)) else { return };
        line.ids.retain(|&other| other != id);
        self.len -= 1;
        if !line.ids.is_empty() {
            return;
        }
        self.lines.remove(&key);
        let was_first = self.turns.front() == Some(&key);
        self.turns.retain(|&other| other != key);
        if was_first {
            self.begin_turn();
        }
    }

    fn begin_turn(&mut self) {
        self.num_left = self.turns.front().and_then(|key| self.lines.get(key)).map_or(0, Line::weight);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The order in which sequences go, each named by its tenant and its number.
    fn order(lines: &mut WaitingLines) -> Vec<u64> {
        std::iter::from_fn(|| {
            let id = lines.front()?;
            lines.pop_front();
            Some(id.0)
        })
        .collect()
    }

    #[test]
    fn a_flood_waits_in_its_own_line() {
        let (flood, quiet) = (Tenant::new(1), Tenant::new(1));
        let mut lines = WaitingLines::default();
        (0..5).for_each(|i| lines.push_back(Some(flood.clone()), SequenceId(100 + i)));
        (0..2).for_each(|i| lines.push_back(Some(quiet.clone()), SequenceId(200 + i)));
        lines.push_back(None, SequenceId(1));
        assert_eq!(lines.len(), 8);
        assert_eq!(order(&mut lines), [100, 200, 1, 101, 201, 102, 103, 104]);
        assert_eq!((lines.len(), lines.front()), (0, None));
    }

    #[test]
    fn weights_are_the_lengths_of_turns() {
        let (heavy, light) = (Tenant::new(3), Tenant::new(0));
        let mut lines = WaitingLines::default();
        for i in 0..6 {
            lines.push_back(Some(light.clone()), SequenceId(200 + i));
            lines.push_back(Some(heavy.clone()), SequenceId(100 + i));
        }
        assert_eq!(order(&mut lines), [200, 100, 101, 102, 201, 103, 104, 105, 202, 203, 204, 205]);
    }

    #[test]
    fn without_tenants_it_is_one_line_and_the_preempted_come_first() {
        let mut lines = WaitingLines::default();
        (1..=3).for_each(|i| lines.push_back(None, SequenceId(i)));
        lines.push_front(SequenceId(9));
        lines.push_front(SequenceId(8));
        lines.remove(SequenceId(2));
        lines.remove(SequenceId(77));
        assert_eq!(lines.len(), 4);
        assert_eq!(order(&mut lines), [8, 9, 1, 3]);
    }

    #[test]
    fn who_leaves_gives_up_the_turn() {
        let (one, other) = (Tenant::new(5), Tenant::new(2));
        let mut lines = WaitingLines::default();
        lines.push_back(Some(one), SequenceId(1));
        (2..=4).for_each(|i| lines.push_back(Some(other.clone()), SequenceId(i)));
        lines.push_back(None, SequenceId(9));
        lines.remove(SequenceId(1));
        assert_eq!(order(&mut lines), [2, 3, 9, 4]);
    }
}
