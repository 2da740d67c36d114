//! A byte automaton that is built as it is walked, for expressions whose transition table would be too big.
//!
//! Its states are sets of states of a Thompson NFA from which everything that cannot reach a match was taken away. So a
//! state is hopeless exactly where its set is empty, and like a table without dead ends it never allows a prefix that
//! cannot be completed. Where a match may begin anywhere the NFA's start stands in every set and is not written down.
//!
//! All sequences share what was built. It is bounded in bytes and by fuel for each mask; a request that meets a bound
//! fails alone with a typed error. Look-around has no place in these sets and is refused before.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use regex_automata::nfa::thompson::{self, State, WhichCaptures};
use regex_syntax::hir::Hir;

use super::automaton::{DEAD, Stepper};
use super::{GuideConfig, GuideError};
use crate::constraint::MatchMode;

/// A match was found and nothing can undo it.
const ALL: u32 = 1;
/// A transition that nobody has asked for.
const UNKNOWN: u32 = u32::MAX;
/// What a state costs beside its set and its transitions: two allocations, a map entry, a flag.
const STATE_BYTES: usize = 96;

/// An automaton whose states are made on demand.
pub(crate) struct LazyDfa {
    part: String,
    nfa: TrimmedNfa,
    mode: MatchMode,
    /// Byte to column, and one byte of each column.
    classes: Box<[u8; 256]>,
    representative: Vec<u8>,
    table: RwLock<Table>,
    pub(crate) start: u32,
    max_bytes: usize,
    step_fuel: u64,
}

/// What was built so far.
#[derive(Default)]
struct Table {
    /// `[num_states, num_classes]`.
    next: Vec<u32>,
    sets: Vec<Arc<[u32]>>,
    /// Whether a match ends in the state.
    hits: Vec<bool>,
    number: HashMap<Arc<[u32]>, u32>,
    /// For each column, where the NFA's start leads to.
    from_start: Vec<Option<Arc<[u32]>>>,
    num_bytes: usize,
    seen: Seen,
}

impl LazyDfa {
    /// Prepares an expression without look-around; nothing is determinised yet.
    ///
    /// # Errors
    /// [`GuideError::TooLarge`] when even the NFA does not fit, [`GuideError::InvalidRegex`] when there is none.
    pub(crate) fn new(part: &str, hir: &Hir, mode: MatchMode, config: &GuideConfig) -> Result<Self, GuideError> {
        debug_assert!(hir.properties().look_set().is_empty(), "look-around is refused before");
        let (nfa, (classes, representative)) = TrimmedNfa::new(part, hir, config)?;
        let mut lazy = Self {
            part: part.to_owned(),
            nfa,
            mode,
            classes,
            representative,
            table: RwLock::default(),
            start: DEAD,
            max_bytes: config.max_lazy_bytes,
            step_fuel: config.lazy_step_fuel,
        };
        let seen = Seen::for_states(lazy.nfa.states.len());
        let mut table = Table { from_start: vec![None; lazy.representative.len()], seen, ..Table::default() };
        // The dead state, and the one that accepts everything.
        for (hit, next) in [(false, DEAD), (true, ALL)] {
            table.sets.push(Arc::default());
            table.hits.push(hit);
            table.next.extend(vec![next; lazy.representative.len()]);
        }
        let start = if lazy.searches() { Vec::new() } else { lazy.nfa.start.clone() };
        let is_done = lazy.nfa.start.contains(&lazy.nfa.matched);
        lazy.start = match mode {
            MatchMode::Prefix | MatchMode::Contains if is_done => ALL,
            MatchMode::Contains if lazy.nfa.start.is_empty() => DEAD,
            _ => lazy.number(&mut table, start).ok_or_else(|| lazy.exceeded())?,
        };
        lazy.table = RwLock::new(table);
        Ok(lazy)
    }

    /// Whether a match may begin anywhere.
    fn searches(&self) -> bool {
        matches!(self.mode, MatchMode::Contains | MatchMode::Absent)
    }

    fn exceeded(&self) -> GuideError {
        GuideError::LimitExceeded { part: self.part.clone() }
    }

    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// A walk with its own fuel.
    pub(crate) fn walker(&self) -> LazyWalker<'_> {
        LazyWalker { lazy: self, table: None, fuel: self.step_fuel, failed: false }
    }

    /// The state after `bytes`, [`DEAD`] if they are not allowed.
    ///
    /// # Errors
    /// [`GuideError::LimitExceeded`] when a bound is met.
    pub(crate) fn run(&self, state: u32, bytes: &[u8]) -> Result<u32, GuideError> {
        let mut walker = self.walker();
        let end = bytes.iter().fold(state, |state, &byte| walker.step(state, byte));
        walker.check().map(|()| end)
    }

    /// The state before an output that continues `prompt`: what ended in the prompt is not the output's fault.
    ///
    /// # Errors
    /// [`GuideError::LimitExceeded`] when a bound is met.
    pub(crate) fn start_after(&self, prompt: &[u8]) -> Result<u32, GuideError> {
        let mut walker = self.walker();
        let end = prompt.iter().fold(self.start, |state, &byte| walker.step_over(state, byte));
        walker.check().map(|()| end)
    }

    /// Whether `suffix` may follow `state` without a match that begins before it; what the suffix holds by itself is not
    /// looked at.
    ///
    /// # Errors
    /// [`GuideError::LimitExceeded`] when a bound is met.
    pub(crate) fn seam_holds(&self, mut state: u32, suffix: &[u8]) -> Result<bool, GuideError> {
        let mut walker = self.walker();
        let mut alone = self.start;
        for &byte in suffix {
            if state == alone {
                break;
            }
            state = walker.step(state, byte);
            alone = walker.step_over(alone, byte);
            walker.check()?;
            if state == DEAD {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Bytes of one class do the same in every state.
    pub(crate) fn class(&self, byte: u8) -> usize {
        usize::from(self.classes[byte as usize])
    }

    /// Whether the output may end here.
    pub(crate) fn is_accepting(&self, state: u32) -> bool {
        match self.mode {
            MatchMode::Full => self.read().hits[state as usize],
            MatchMode::Prefix | MatchMode::Contains => state == ALL,
            // A match is never entered, but it may stand in the prompt.
            MatchMode::Absent => state != DEAD,
        }
    }

    /// Bytes of the shortest text from `state` to an accepting state.
    pub(crate) fn min_bytes_to_end(&self, state: u32) -> Option<u32> {
        if self.is_accepting(state) {
            return Some(0);
        }
        let set = Arc::clone(self.read().sets.get(state as usize)?);
        let start: &[u32] = if self.searches() { &self.nfa.start } else { &[] };
        set.iter().chain(start).map(|&member| self.nfa.distances[member as usize]).min().filter(|_| state != DEAD)
    }

    /// Memory that this automaton may come to hold, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.nfa.memory_bytes() + self.max_bytes
    }

    /// Makes the transition of `state` under a column; `None` when a bound is met.
    fn build(&self, table: &mut Table, state: u32, class: usize, fuel: &mut u64) -> Option<u32> {
        let at = state as usize * self.representative.len() + class;
        if table.next[at] != UNKNOWN {
            return Some(table.next[at]);
        }
        let byte = self.representative[class];
        let set = Arc::clone(&table.sets[state as usize]);
        let mut members = self.nfa.step(&set, byte, fuel, &mut table.seen)?;
        if self.searches() {
            let from_start = match &table.from_start[class] {
                Some(known) => Arc::clone(known),
                None => {
                    let made: Arc<[u32]> = self.nfa.step(&self.nfa.start, byte, fuel, &mut table.seen)?.into();
                    table.num_bytes += size_of_val(&*made);
                    table.from_start[class] = Some(Arc::clone(&made));
                    made
                }
            };
            *fuel = fuel.checked_sub(from_start.len() as u64)?;
            members.extend_from_slice(&from_start);
            members.sort_unstable();
            members.dedup();
        }
        let next = self.number(table, members)?;
        table.next[at] = next;
        Some(next)
    }

    /// The state of a set; `None` when there is no room for a new one.
    fn number(&self, table: &mut Table, members: Vec<u32>) -> Option<u32> {
        let hit = members.contains(&self.nfa.matched);
        match self.mode {
            MatchMode::Prefix | MatchMode::Contains if hit => return Some(ALL),
            MatchMode::Full | MatchMode::Prefix if members.is_empty() => return Some(DEAD),
            _ => {}
        }
        if let Some(&known) = table.number.get(members.as_slice()) {
            return Some(known);
        }
        let num_bytes = STATE_BYTES + size_of_val(&*members) + size_of::<u32>() * self.representative.len();
        if table.num_bytes + num_bytes > self.max_bytes {
            return None;
        }
        table.num_bytes += num_bytes;
        let number = table.sets.len() as u32;
        let set: Arc<[u32]> = members.into();
        table.sets.push(Arc::clone(&set));
        table.hits.push(hit);
        table.number.insert(set, number);
        table.next.extend(vec![UNKNOWN; self.representative.len()]);
        Some(number)
    }
}

/// One walk: it reads what is known, and lets go of it for as long as it adds something.
pub(crate) struct LazyWalker<'a> {
    lazy: &'a LazyDfa,
    table: Option<RwLockReadGuard<'a, Table>>,
    fuel: u64,
    failed: bool,
}

impl LazyWalker<'_> {
    /// # Errors
    /// [`GuideError::LimitExceeded`] if a bound was met; no state of the walk means anything then.
    pub(crate) fn check(&self) -> Result<(), GuideError> {
        if self.failed { Err(self.lazy.exceeded()) } else { Ok(()) }
    }

    /// The next state, also where a match ends that must not be there.
    fn step_over(&mut self, state: u32, byte: u8) -> u32 {
        if self.failed || state == DEAD {
            return DEAD;
        }
        let class = self.lazy.classes[byte as usize] as usize;
        let at = state as usize * self.lazy.representative.len() + class;
        let known = self.table.get_or_insert_with(|| self.lazy.read()).next[at];
        if known != UNKNOWN {
            return known;
        }
        self.table = None;
        let mut table = self.lazy.table.write().unwrap_or_else(PoisonError::into_inner);
        let built = self.lazy.build(&mut table, state, class, &mut self.fuel);
        self.failed = built.is_none();
        built.unwrap_or(DEAD)
    }
}

impl Stepper for LazyWalker<'_> {
    fn step(&mut self, state: u32, byte: u8) -> u32 {
        let next = self.step_over(state, byte);
        let is_hit = || self.table.get_or_insert_with(|| self.lazy.read()).hits[next as usize];
        if self.lazy.mode == MatchMode::Absent && { is_hit }() { DEAD } else { next }
    }

    fn is_sound(&self) -> bool {
        !self.failed
    }
}

/// A Thompson NFA in which every state can reach the match.
struct TrimmedNfa {
    states: Vec<NfaState>,
    /// The states before any byte, as a set.
    start: Vec<u32>,
    /// The one state in which a match has ended.
    matched: u32,
    /// Bytes of the shortest way from each state to the match.
    distances: Vec<u32>,
}

/// Byte to column, and one byte of each column.
type Columns = (Box<[u8; 256]>, Vec<u8>);

enum NfaState {
    /// From one of these inclusive ranges of bytes to the next state.
    Bytes(Box<[(u8, u8, u32)]>),
    /// On to all of these without a byte.
    Union(Box<[u32]>),
    Match,
}

impl TrimmedNfa {
    /// The NFA of an expression, and its columns.
    fn new(part: &str, hir: &Hir, config: &GuideConfig) -> Result<(Self, Columns), GuideError> {
        let limit = config.max_lazy_nfa_bytes;
        let too_large = || GuideError::TooLarge {
            part: part.to_owned(),
            what: "bytes of the expression".to_owned(),
            size: limit as u64 + 1,
            limit: limit as u64,
        };
        let invalid = |message: String| GuideError::InvalidRegex { part: part.to_owned(), offset: 0, message };
        let thompson = thompson::Compiler::new()
            .configure(
                thompson::Config::new().utf8(false).which_captures(WhichCaptures::None).nfa_size_limit(Some(limit)),
            )
            .build_from_hir(hir)
            .map_err(|error| if error.size_limit().is_some() { too_large() } else { invalid(error.to_string()) })?;
        let (mut classes, mut representative) = (Box::new([0u8; 256]), Vec::new());
        for byte in 0..=255u8 {
            classes[byte as usize] = thompson.byte_classes().get(byte);
            if classes[byte as usize] as usize == representative.len() {
                representative.push(byte);
            }
        }
        let states: Vec<NfaState> = thompson.states().iter().map(NfaState::read).collect();
        Ok((Self::trim(states, thompson.start_anchored().as_u32()), (classes, representative)))
    }

    /// Takes away every edge to a state that cannot reach the match.
    fn trim(mut states: Vec<NfaState>, start: u32) -> Self {
        let distances = distances(&states);
        let can_match = |state: u32| distances[state as usize] != u32::MAX;
        for state in &mut states {
            match state {
                NfaState::Bytes(ranges) => {
                    *ranges = ranges.iter().copied().filter(|range| can_match(range.2)).collect()
                }
                NfaState::Union(nexts) => *nexts = nexts.iter().copied().filter(|&next| can_match(next)).collect(),
                NfaState::Match => {}
            }
        }
        let matched = states.iter().position(|state| matches!(state, NfaState::Match)).unwrap_or(states.len()) as u32;
        let mut nfa = Self { states, start: Vec::new(), matched, distances };
        if nfa.distances[start as usize] != u32::MAX {
            let (mut members, mut seen) = (Vec::new(), Seen::for_states(nfa.states.len()));
            seen.forget();
            nfa.close(start, &mut members, &mut seen);
            members.sort_unstable();
            nfa.start = members;
        }
        nfa
    }

    /// Where a set leads under `byte`, in order; `None` when the fuel runs out.
    fn step(&self, set: &[u32], byte: u8, fuel: &mut u64, seen: &mut Seen) -> Option<Vec<u32>> {
        let mut members = Vec::new();
        seen.forget();
        *fuel = fuel.checked_sub(set.len() as u64)?;
        for &member in set {
            let NfaState::Bytes(ranges) = &self.states[member as usize] else { continue };
            let idx = ranges.partition_point(|&(_, last, _)| last < byte);
            if let Some(&(_, _, next)) = ranges.get(idx).filter(|(first, _, _)| *first <= byte) {
                let num_visited = self.close(next, &mut members, seen);
                *fuel = fuel.checked_sub(num_visited)?;
            }
        }
        members.sort_unstable();
        Some(members)
    }

    /// Adds what can be reached from `from` without a byte; the number of states looked at.
    fn close(&self, from: u32, members: &mut Vec<u32>, seen: &mut Seen) -> u64 {
        let mut stack = vec![from];
        let mut num_visited = 0;
        while let Some(state) = stack.pop() {
            num_visited += 1;
            if !seen.insert(state) {
                continue;
            }
            match &self.states[state as usize] {
                NfaState::Union(nexts) => stack.extend(nexts.iter()),
                NfaState::Bytes(_) | NfaState::Match => members.push(state),
            }
        }
        num_visited
    }

    fn memory_bytes(&self) -> usize {
        let edges = |state: &NfaState| match state {
            NfaState::Bytes(ranges) => size_of_val(&**ranges),
            NfaState::Union(nexts) => size_of_val(&**nexts),
            NfaState::Match => 0,
        };
        let states = size_of_val(&*self.states) + size_of_val(&*self.distances);
        states + self.states.iter().map(edges).sum::<usize>()
    }
}

/// States that were met, forgotten all at once.
#[derive(Default)]
struct Seen {
    marks: Vec<u32>,
    now: u32,
}

impl Seen {
    fn for_states(num_states: usize) -> Self {
        Self { marks: vec![0; num_states], now: 0 }
    }

    fn forget(&mut self) {
        self.now = self.now.checked_add(1).unwrap_or_else(|| {
            self.marks.fill(0);
            1
        });
    }

    /// Whether the state was not met before.
    fn insert(&mut self, state: u32) -> bool {
        std::mem::replace(&mut self.marks[state as usize], self.now) != self.now
    }
}

impl NfaState {
    fn read(state: &State) -> Self {
        let range = |transition: &thompson::Transition| (transition.start, transition.end, transition.next.as_u32());
        match state {
            State::ByteRange { trans } => Self::Bytes(Box::new([range(trans)])),
            State::Sparse(sparse) => Self::Bytes(sparse.transitions.iter().map(range).collect()),
            State::Dense(dense) => {
                let next = |byte| Some((byte, byte, dense.matches_byte(byte)?.as_u32()));
                Self::Bytes((0..=255u8).filter_map(next).collect())
            }
            State::Union { alternates } => Self::Union(alternates.iter().map(|next| next.as_u32()).collect()),
            State::BinaryUnion { alt1, alt2 } => Self::Union(Box::new([alt1.as_u32(), alt2.as_u32()])),
            // Without look-around and captures these lead on; they do not occur.
            State::Look { next, .. } | State::Capture { next, .. } => Self::Union(Box::new([next.as_u32()])),
            State::Fail => Self::Union(Box::default()),
            State::Match { .. } => Self::Match,
        }
    }

    /// The next states, and how many bytes it takes to get there.
    fn edges(&self) -> (u32, Vec<u32>) {
        match self {
            Self::Bytes(ranges) => (1, ranges.iter().map(|range| range.2).collect()),
            Self::Union(nexts) => (0, nexts.to_vec()),
            Self::Match => (0, Vec::new()),
        }
    }
}

/// Bytes from each state to a match, `u32::MAX` where there is no way; a search back from the matches that takes free
/// edges first.
fn distances(states: &[NfaState]) -> Vec<u32> {
    let mut sources: Vec<Vec<(u32, u32)>> = vec![Vec::new(); states.len()];
    for (from, state) in (0u32..).zip(states) {
        let (num_bytes, nexts) = state.edges();
        nexts.into_iter().for_each(|to| sources[to as usize].push((from, num_bytes)));
    }
    let mut distances = vec![u32::MAX; states.len()];
    let mut queue: VecDeque<(u32, u32)> = VecDeque::new();
    queue.extend((0u32..).zip(states).filter(|(_, state)| matches!(state, NfaState::Match)).map(|(idx, _)| (idx, 0)));
    while let Some((state, distance)) = queue.pop_front() {
        if distances[state as usize] <= distance {
            continue;
        }
        distances[state as usize] = distance;
        for &(from, num_bytes) in &sources[state as usize] {
            if num_bytes == 0 {
                queue.push_front((from, distance));
            } else {
                queue.push_back((from, distance + 1));
            }
        }
    }
    distances
}
