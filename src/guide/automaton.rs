//! Byte automata of our own: every regex group and every list of forbidden text becomes one.
//!
//! A [`ByteDfa`] is a plain transition table without dead ends: each of its states can reach an end, so a prefix that
//! cannot be completed is never allowed. It is immutable; a sequence's state is one `u32`. [`AutomatonPart`] is a table
//! or a lazily built automaton, with the masks of the states that were met, which all sequences share.

use std::collections::{HashMap, VecDeque};
use std::sync::OnceLock;

use super::layout::Layout;
use super::lazy::LazyDfa;
use super::mask_cache::MaskCache;
use super::vocabulary::SortedTokens;
use super::{GuideConfig, GuideError};

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

    /// The state after one more byte, whatever is refused.
    pub(crate) fn step(&self, state: u32, byte: u8) -> u32 {
        self.row(state)[self.classes[byte as usize] as usize]
    }

    /// Follows `bytes` from the start, whatever is refused on the way.
    fn run(&self, bytes: &[u8]) -> u32 {
        bytes.iter().fold(self.start, |state, &byte| self.step(state, byte))
    }

    /// Whether `suffix` may follow `state` without a match that begins before it. What the suffix holds by itself is not
    /// looked at: the walk ends where it is the same as from a fresh start.
    ///
    /// With `is_fresh`, nothing was written since the prompt, and what ended with it does not count.
    fn seam_holds(&self, mut state: u32, is_fresh: bool, suffix: &[u8]) -> bool {
        let mut alone = self.start;
        for (idx, &byte) in suffix.iter().enumerate() {
            if state == alone {
                return true;
            }
            state = self.step(state, byte);
            alone = self.step(alone, byte);
            let is_excused = is_fresh && self.delayed && idx == 0;
            if self.refused[state as usize] && !is_excused {
                return false;
            }
        }
        state == alone || self.accepting[state as usize]
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

    /// Whether the output may end here.
    pub(crate) fn is_accepting(&self, state: u32) -> bool {
        self.accepting[state as usize]
    }

    /// Memory of the tables in bytes.
    fn memory_bytes(&self) -> usize {
        size_of_val(&*self.next) + size_of_val(&*self.accepting)
    }

    /// States, the dead one included.
    #[cfg(test)]
    pub(crate) fn num_states(&self) -> usize {
        self.accepting.len()
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

/// For every state of a table, the bytes of the shortest text from it to a goal; `u32::MAX` where there is none.
pub(crate) fn distances(next: &[u32], num_classes: usize, is_goal: &[bool]) -> Vec<u32> {
    let mut sources: Vec<Vec<u32>> = vec![Vec::new(); is_goal.len()];
    for (at, &to) in next.iter().enumerate() {
        let (from, known) = ((at / num_classes) as u32, &mut sources[to as usize]);
        if known.last() != Some(&from) {
            known.push(from);
        }
    }
    let mut distances = vec![u32::MAX; is_goal.len()];
    let mut queue: VecDeque<u32> = (0u32..).zip(is_goal).filter_map(|(state, &goal)| goal.then_some(state)).collect();
    queue.iter().for_each(|&state| distances[state as usize] = 0);
    while let Some(state) = queue.pop_front() {
        for &from in &sources[state as usize] {
            if distances[from as usize] == u32::MAX {
                distances[from as usize] = distances[state as usize] + 1;
                queue.push_back(from);
            }
        }
    }
    distances
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

/// Something that goes from state to state, byte by byte.
pub(crate) trait Stepper {
    /// The state after one more byte, [`DEAD`] if it is not allowed.
    fn step(&mut self, state: u32, byte: u8) -> u32;

    /// Whether every step so far meant what it said.
    fn is_sound(&self) -> bool {
        true
    }
}

impl Stepper for &ByteDfa {
    #[inline]
    fn step(&mut self, state: u32, byte: u8) -> u32 {
        ByteDfa::step(self, state, byte)
    }
}

/// One automaton of a compiled constraint, with its masks.
pub(crate) struct AutomatonPart {
    /// The parts of the IR that this automaton is the product of.
    pub(crate) parts: Vec<String>,
    engine: Engine,
    /// For `scope: document`: whether the prompt is read first, and by what.
    seed: Seed,
    distances: OnceLock<Vec<u32>>,
    masks: MaskCache,
}

enum Engine {
    Table(ByteDfa),
    Lazy(Box<LazyDfa>),
    Layout(Box<Layout>),
}

enum Seed {
    /// The output is judged alone.
    None,
    /// This automaton reads the prompt.
    Raw(RawDfa),
    /// The automaton reads the prompt itself.
    Own,
}

impl AutomatonPart {
    /// A part that judges the output alone, with this much room for masks.
    pub(crate) fn new(parts: Vec<String>, dfa: ByteDfa, mask_bytes: usize) -> Self {
        Self::with_engine(parts, Engine::Table(dfa), Seed::None, mask_bytes)
    }

    /// A part that judges the output as the continuation of a prompt.
    pub(crate) fn continuing(part: String, raw: RawDfa, mask_bytes: usize) -> Self {
        Self::with_engine(vec![part], Engine::Table(raw.layered()), Seed::Raw(raw), mask_bytes)
    }

    /// A part that is built as it is walked; `continues` a prompt or not.
    pub(crate) fn lazy(part: String, lazy: Box<LazyDfa>, continues: bool, mask_bytes: usize) -> Self {
        let seed = if continues { Seed::Own } else { Seed::None };
        Self::with_engine(vec![part], Engine::Lazy(lazy), seed, mask_bytes)
    }

    /// A part that follows indentation, from the start of the document where it `continues` one.
    pub(crate) fn layout(part: String, layout: Layout, continues: bool, mask_bytes: usize) -> Self {
        let seed = if continues { Seed::Own } else { Seed::None };
        Self::with_engine(vec![part], Engine::Layout(Box::new(layout)), seed, mask_bytes)
    }

    fn with_engine(parts: Vec<String>, engine: Engine, seed: Seed, mask_bytes: usize) -> Self {
        Self { parts, engine, seed, distances: OnceLock::new(), masks: MaskCache::new(mask_bytes) }
    }

    /// The bytes that must follow `state`, at most `max_len`: up to the first choice, or place where the output may end.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub(crate) fn forced_bytes(&self, mut state: u32, max_len: usize) -> Result<Vec<u8>, GuideError> {
        let mut forced = Vec::new();
        while forced.len() < max_len && !self.is_accepting(state) {
            let mut only = None;
            for byte in 0..=u8::MAX {
                let next = self.run(state, &[byte])?;
                if next != DEAD && only.replace((byte, next)).is_some() {
                    return Ok(forced);
                }
            }
            let Some((byte, next)) = only else { break };
            forced.push(byte);
            state = next;
        }
        Ok(forced)
    }

    /// Whether the start depends on the prompt.
    pub(crate) fn is_seeded(&self) -> bool {
        !matches!(self.seed, Seed::None)
    }

    /// The transition table; `None` for an automaton that is built as it is needed.
    #[cfg(test)]
    pub(crate) fn table(&self) -> Option<&ByteDfa> {
        match &self.engine {
            Engine::Table(dfa) => Some(dfa),
            Engine::Lazy(_) | Engine::Layout(_) => None,
        }
    }

    /// The state after `bytes`, [`DEAD`] if they are not allowed.
    ///
    /// # Errors
    /// [`GuideError::LimitExceeded`] when an automaton that is built as it is walked meets a bound.
    pub(crate) fn run(&self, state: u32, bytes: &[u8]) -> Result<u32, GuideError> {
        match &self.engine {
            Engine::Table(dfa) => Ok(dfa.run(state, bytes)),
            Engine::Lazy(lazy) => lazy.run(state, bytes),
            Engine::Layout(layout) => layout.run(state, bytes),
        }
    }

    /// Whether the output may end here.
    pub(crate) fn is_accepting(&self, state: u32) -> bool {
        match &self.engine {
            Engine::Table(dfa) => dfa.is_accepting(state),
            Engine::Lazy(lazy) => lazy.is_accepting(state),
            Engine::Layout(layout) => layout.is_accepting(state),
        }
    }

    /// Whether the output may end in `state` when `suffix` follows it in the document, as far as this part sees that.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub(crate) fn may_end_before(&self, state: u32, suffix: &[u8]) -> Result<bool, GuideError> {
        if suffix.is_empty() || state == DEAD {
            return Ok(self.is_accepting(state));
        }
        match (&self.engine, &self.seed) {
            (Engine::Table(_), Seed::Raw(raw)) => {
                let num_states = raw.num_states() as u32;
                let is_fresh = state > num_states;
                let place = state - 1 - if is_fresh { num_states } else { 0 };
                Ok(raw.seam_holds(place, is_fresh, suffix))
            }
            (Engine::Lazy(lazy), Seed::Own) => lazy.seam_holds(state, suffix),
            (Engine::Layout(layout), Seed::Own) => Ok(layout.is_accepting(layout.run(state, suffix)?)),
            _ => Ok(self.is_accepting(state)),
        }
    }

    /// Bytes of the shortest text from `state` to an accepting state; `None` where there is none or it is unknown.
    ///
    /// The first call looks at the whole table: about 10 ns per transition.
    pub(crate) fn min_bytes_to_end(&self, state: u32) -> Option<u32> {
        match &self.engine {
            Engine::Table(dfa) => {
                let distances = self.distances.get_or_init(|| distances(&dfa.next, dfa.num_classes, &dfa.accepting));
                distances.get(state as usize).copied().filter(|&distance| distance != u32::MAX)
            }
            Engine::Lazy(lazy) => lazy.min_bytes_to_end(state),
            Engine::Layout(layout) => layout.min_bytes_to_end(state),
        }
    }

    /// Memory that this part may come to hold, in bytes: its tables, and its mask cache when full.
    pub(crate) fn memory_bytes(&self) -> usize {
        let engine = match &self.engine {
            Engine::Table(dfa) => dfa.memory_bytes(),
            Engine::Lazy(lazy) => lazy.memory_bytes(),
            Engine::Layout(layout) => layout.memory_bytes(),
        };
        let seed = match &self.seed {
            Seed::Raw(raw) => size_of_val(&*raw.next) + 2 * raw.accepting.len(),
            Seed::None | Seed::Own => 0,
        };
        engine + seed + self.masks.max_bytes()
    }

    /// The state before the first byte of an output that stands alone; [`DEAD`] where nothing is accepted.
    pub(crate) fn start_of_output(&self) -> u32 {
        match &self.engine {
            Engine::Table(dfa) => dfa.start,
            Engine::Lazy(lazy) => lazy.start,
            Engine::Layout(layout) => layout.start,
        }
    }

    /// Bytes of one class do the same in every state.
    pub(crate) fn class(&self, byte: u8) -> usize {
        match &self.engine {
            Engine::Table(dfa) => usize::from(dfa.classes[byte as usize]),
            Engine::Lazy(lazy) => lazy.class(byte),
            Engine::Layout(layout) => layout.class(byte),
        }
    }

    /// The state before the first byte of output; [`DEAD`] for a layout that does not take the prompt. Costs one step per
    /// byte of `prompt`, and only for what sees the document.
    ///
    /// # Errors
    /// [`GuideError::LimitExceeded`] when an automaton that is built as it is walked meets a bound.
    pub(crate) fn start(&self, prompt: &[u8], config: &GuideConfig) -> Result<u32, GuideError> {
        let tail = &prompt[prompt.len().saturating_sub(config.max_seed_bytes)..];
        match (&self.engine, &self.seed) {
            (Engine::Table(_), Seed::Raw(raw)) => Ok((1 + raw.num_states()) as u32 + raw.run(tail)),
            (Engine::Lazy(lazy), Seed::Own) => lazy.start_after(tail),
            (Engine::Layout(layout), Seed::Own) => layout.run(layout.start, prompt),
            (Engine::Table(dfa), _) => Ok(dfa.start),
            (Engine::Lazy(lazy), _) => Ok(lazy.start),
            (Engine::Layout(layout), _) => Ok(layout.start),
        }
    }

    /// Keeps in `row` the tokens that may follow `state`: about 1 us when the state was met before.
    ///
    /// # Errors
    /// [`GuideError::LimitExceeded`] when an automaton that is built as it is walked meets a bound.
    pub(crate) fn intersect_mask(&self, state: u32, tokens: &SortedTokens, row: &mut [u32]) -> Result<(), GuideError> {
        match &self.engine {
            Engine::Table(dfa) => self.masks.intersect_mask(state, tokens, row, &mut &*dfa),
            Engine::Lazy(lazy) => {
                let mut walker = lazy.walker();
                self.masks.intersect_mask(state, tokens, row, &mut walker);
                return walker.check();
            }
            Engine::Layout(layout) => {
                let mut walker = layout.walker();
                self.masks.intersect_computed(state, row, |row| {
                    layout.allow(state, tokens, row, &mut walker);
                    walker.is_sound()
                });
                return walker.check();
            }
        }
        Ok(())
    }

    /// Bytes that the mask cache holds now.
    #[cfg(test)]
    pub(crate) fn num_mask_bytes(&self) -> usize {
        self.masks.num_bytes()
    }
}
