//! Byte automata of our own: every regex group and every list of forbidden text becomes one.
//!
//! A [`ByteDfa`] is a plain transition table without dead ends: each of its states can reach an end, so a prefix that
//! cannot be completed is never allowed. It is immutable; a sequence's state is one `u32`. [`AutomatonPart`] walks it
//! over the sorted vocabulary, once for each state that is met, and keeps the masks in a bounded mask cache that all
//! sequences share.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use super::vocabulary::SortedTokens;
use super::{GuideConfig, mask};

/// The state from which nothing is accepted.
pub(crate) const DEAD: u32 = 0;

/// An automaton as it was built, with states that may be hopeless.
pub(crate) struct RawDfa {
    /// Byte to column.
    pub(crate) classes: Box<[u8; 256]>,
    pub(crate) num_classes: usize,
    /// `[num_states, num_classes]`.
    pub(crate) next: Vec<u32>,
    /// States that must not be entered.
    pub(crate) refused: Vec<bool>,
    /// States in which the output may end.
    pub(crate) accepting: Vec<bool>,
    pub(crate) start: u32,
    /// Whether `refused` speaks of what ended one byte earlier.
    pub(crate) delayed: bool,
}

impl RawDfa {
    fn num_states(&self) -> usize {
        self.accepting.len()
    }

    fn row(&self, state: u32) -> &[u32] {
        &self.next[state as usize * self.num_classes..][..self.num_classes]
    }

    /// Follows `bytes` from the start, whatever is refused on the way.
    fn run(&self, bytes: &[u8]) -> u32 {
        bytes.iter().fold(self.start, |state, &byte| self.row(state)[self.classes[byte as usize] as usize])
    }

    /// The states from which an end can be reached, by walking the edges backwards from the accepting ones.
    fn hopeful(&self) -> Vec<bool> {
        let num_states = self.num_states();
        let mut first = vec![0usize; num_states + 1];
        let edges = || (0..num_states as u32).flat_map(|from| self.row(from).iter().map(move |&to| (from, to)));
        let open = |to: u32| !self.refused[to as usize];
        edges().filter(|&(_, to)| open(to)).for_each(|(_, to)| first[to as usize + 1] += 1);
        for state in 0..num_states {
            first[state + 1] += first[state];
        }
        let mut fill = first.clone();
        let mut sources = vec![0u32; first[num_states]];
        for (from, to) in edges().filter(|&(_, to)| open(to)) {
            sources[fill[to as usize]] = from;
            fill[to as usize] += 1;
        }
        let mut hopeful = self.accepting.clone();
        let mut stack: Vec<u32> = (0..num_states as u32).filter(|&state| hopeful[state as usize]).collect();
        while let Some(state) = stack.pop() {
            for &from in &sources[first[state as usize]..first[state as usize + 1]] {
                if !std::mem::replace(&mut hopeful[from as usize], true) {
                    stack.push(from);
                }
            }
        }
        hopeful
    }

    /// The automaton for text that begins with the output.
    pub(crate) fn prune(&self) -> ByteDfa {
        let hopeful = self.hopeful();
        let goes_on = |to: u32| hopeful[to as usize] && !self.refused[to as usize];
        let mut number = HashMap::new();
        let mut order = Vec::new();
        if hopeful[self.start as usize] {
            number.insert(self.start, 1);
            order.push(self.start);
        }
        let mut next = vec![DEAD; self.num_classes];
        let mut accepting = vec![false];
        let mut at = 0;
        while at < order.len() {
            let state = order[at];
            at += 1;
            accepting.push(self.accepting[state as usize]);
            for &to in self.row(state) {
                let renumbered = goes_on(to).then(|| {
                    *number.entry(to).or_insert_with(|| {
                        order.push(to);
                        order.len() as u32
                    })
                });
                next.push(renumbered.unwrap_or(DEAD));
            }
        }
        let start = u32::from(!order.is_empty());
        ByteDfa { classes: self.classes.clone(), num_classes: self.num_classes, next, accepting, start }
    }

    /// The automaton for text that continues a prompt, with every state kept: `1 + state` after a byte of output, and
    /// `1 + num_states + state` before the first one, where what ended with the prompt does not count.
    fn layered(&self) -> ByteDfa {
        let hopeful = self.hopeful();
        let num_states = self.num_states();
        let mut next = vec![DEAD; self.num_classes];
        for fresh in [false, true] {
            for &to in &self.next {
                let goes_on = hopeful[to as usize] && (!self.refused[to as usize] || (fresh && self.delayed));
                next.push(if goes_on { to + 1 } else { DEAD });
            }
        }
        let mut accepting = vec![false; 1 + 2 * num_states];
        accepting[1..=num_states].copy_from_slice(&self.accepting);
        accepting[1 + num_states..].fill(true);
        let start = (1 + num_states) as u32 + self.start;
        ByteDfa { classes: self.classes.clone(), num_classes: self.num_classes, next, accepting, start }
    }
}

/// A byte automaton without dead ends.
pub(crate) struct ByteDfa {
    classes: Box<[u8; 256]>,
    num_classes: usize,
    next: Vec<u32>,
    accepting: Vec<bool>,
    pub(crate) start: u32,
}

impl ByteDfa {
    /// The state after one more byte, [`DEAD`] if it is not allowed.
    #[inline]
    pub(crate) fn step(&self, state: u32, byte: u8) -> u32 {
        self.next[state as usize * self.num_classes + self.classes[byte as usize] as usize]
    }

    /// The state after `bytes`.
    pub(crate) fn run(&self, state: u32, bytes: &[u8]) -> u32 {
        bytes.iter().fold(state, |state, &byte| self.step(state, byte))
    }

    /// Bytes of one class do the same in every state.
    pub(crate) fn class(&self, byte: u8) -> usize {
        usize::from(self.classes[byte as usize])
    }

    /// Whether the output may end here.
    pub(crate) fn is_accepting(&self, state: u32) -> bool {
        self.accepting[state as usize]
    }

    /// Per state, bytes of the shortest text to an accepting one, `u32::MAX` where there is none: breadth first,
    /// against the edges.
    fn distances_to_end(&self) -> Box<[u32]> {
        let num_states = self.accepting.len();
        let mut distances = vec![u32::MAX; num_states];
        if self.accepting[1..].iter().all(|&accepting| accepting) {
            distances[1..].fill(0);
            return distances.into();
        }
        let mut sources = vec![Vec::new(); num_states];
        for (idx, &to) in self.next.iter().enumerate().filter(|&(_, &to)| to != DEAD) {
            sources[to as usize].push((idx / self.num_classes) as u32);
        }
        let mut queue: VecDeque<u32> = (1..num_states as u32).filter(|&state| self.is_accepting(state)).collect();
        queue.iter().for_each(|&state| distances[state as usize] = 0);
        while let Some(state) = queue.pop_front() {
            let distance = distances[state as usize] + 1;
            for &from in &sources[state as usize] {
                if distances[from as usize] == u32::MAX {
                    distances[from as usize] = distance;
                    queue.push_back(from);
                }
            }
        }
        distances.into()
    }

    /// Whether nothing at all is accepted.
    pub(crate) fn is_empty(&self) -> bool {
        self.start == DEAD
    }

    /// The automaton for text that both accept; `None` when it has more than `max_states` states.
    pub(crate) fn product(&self, other: &Self, max_states: usize) -> Option<Self> {
        let (classes, columns) = common_classes(self, other);
        let mut number: HashMap<(u32, u32), u32> = HashMap::from([((DEAD, DEAD), 0)]);
        let mut order = vec![(DEAD, DEAD)];
        let mut next = Vec::new();
        let mut accepting = Vec::new();
        let mut at = 0;
        let start = (self.start, other.start);
        if start.0 != DEAD && start.1 != DEAD {
            number.insert(start, 1);
            order.push(start);
        }
        while at < order.len() {
            let (left, right) = order[at];
            at += 1;
            accepting.push(self.is_accepting(left) && other.is_accepting(right));
            for &(a, b) in &columns {
                let to = (
                    self.next[left as usize * self.num_classes + a as usize],
                    other.next[right as usize * other.num_classes + b as usize],
                );
                let to = if to.0 == DEAD || to.1 == DEAD { (DEAD, DEAD) } else { to };
                let renumbered = *number.entry(to).or_insert_with(|| {
                    order.push(to);
                    order.len() as u32 - 1
                });
                next.push(renumbered);
            }
            if order.len() > max_states {
                return None;
            }
        }
        let mut refused = vec![false; order.len()];
        refused[DEAD as usize] = true;
        let start = u32::from(order.len() > 1);
        let raw = RawDfa { classes, num_classes: columns.len(), next, refused, accepting, start, delayed: false };
        Some(raw.prune())
    }
}

/// Columns for the bytes that neither automaton tells apart.
fn common_classes(left: &ByteDfa, right: &ByteDfa) -> (Box<[u8; 256]>, Vec<(u8, u8)>) {
    let mut columns: Vec<(u8, u8)> = Vec::new();
    let mut classes = Box::new([0; 256]);
    for byte in 0..256 {
        let pair = (left.classes[byte], right.classes[byte]);
        let column = columns.iter().position(|known| *known == pair).unwrap_or_else(|| {
            columns.push(pair);
            columns.len() - 1
        });
        classes[byte] = column as u8;
    }
    (classes, columns)
}

/// One automaton of a compiled constraint, with its masks.
pub(crate) struct AutomatonPart {
    /// The parts of the IR that this automaton is the product of.
    pub(crate) parts: Vec<String>,
    pub(crate) dfa: ByteDfa,
    /// For `scope: document`: the automaton that reads the prompt.
    seed: Option<RawDfa>,
    masks: RwLock<HashMap<u32, Arc<[u32]>>>,
    max_masks: usize,
    /// Per state, bytes to the nearest end; filled when first asked for.
    distances: OnceLock<Box<[u32]>>,
}

impl AutomatonPart {
    /// A part that judges the output alone.
    pub(crate) fn new(parts: Vec<String>, dfa: ByteDfa, num_words: usize, config: &GuideConfig) -> Self {
        let max_masks = (config.mask_cache_bytes / (4 * num_words.max(1))).max(1);
        Self { parts, dfa, seed: None, masks: RwLock::default(), max_masks, distances: OnceLock::new() }
    }

    /// A part that judges the output as the continuation of a prompt.
    pub(crate) fn continuing(part: String, raw: RawDfa, num_words: usize, config: &GuideConfig) -> Self {
        let layered = raw.layered();
        Self { seed: Some(raw), ..Self::new(vec![part], layered, num_words, config) }
    }

    /// Whether the prompt matters.
    pub(crate) fn is_continuing(&self) -> bool {
        self.seed.is_some()
    }

    /// The state before the first byte of output. Costs one step per byte of `prompt`, and only for `scope: document`.
    pub(crate) fn start(&self, prompt: &[u8], config: &GuideConfig) -> u32 {
        match &self.seed {
            None => self.dfa.start,
            Some(raw) => {
                let tail = &prompt[prompt.len().saturating_sub(config.max_seed_bytes)..];
                (1 + raw.num_states()) as u32 + raw.run(tail)
            }
        }
    }

    /// Bytes of the shortest text from `state` to an accepting state; `None` where no text leads there.
    pub(crate) fn min_bytes_to_end(&self, state: u32) -> Option<u32> {
        let distances = self.distances.get_or_init(|| self.dfa.distances_to_end());
        Some(distances[state as usize]).filter(|&distance| distance != u32::MAX)
    }

    /// Keeps in `row` the tokens that may follow `state`: about 1 us when the state was met before.
    pub(crate) fn intersect_mask(&self, state: u32, tokens: &SortedTokens, row: &mut [u32]) {
        if let Some(known) = self.masks.read().unwrap_or_else(PoisonError::into_inner).get(&state) {
            return mask::intersect(row, known);
        }
        let mut allowed = vec![0; row.len()];
        tokens.walk(&self.dfa, state, &mut allowed);
        mask::intersect(row, &allowed);
        let mut masks = self.masks.write().unwrap_or_else(PoisonError::into_inner);
        if masks.len() >= self.max_masks {
            masks.clear();
        }
        masks.insert(state, allowed.into());
    }
}
