//! A structural part followed exactly, byte by byte, with the least that is needed to end it.
//!
//! A left-corner parser (Rosenkrantz and Lewis, "Deterministic left corner parsing", 1970) over the very grammar that
//! llguidance compiled, with llguidance's own lexer: all lexemes that may begin at a place are read at once, and the
//! longest wins. A symbol that is expected is a *goal* with a frame on a stack; what a goal may begin with, and what
//! it still lacks once one of its beginnings is read, are tables of the goal. So left recursion, which is how
//! repetition is written, costs no stack, and places that look alike are one place. Unlike an
//! [outline](super::outline) this knows every bracket that is open, and its states are without number.
//!
//! Conditions on rules and limits in tokens are left out, so that what it promises is to be walked through the masks.

use std::collections::BTreeSet;
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt, HashSet};
use llguidance::derivre::{NextByte, StateID};
use llguidance::earley::lexerspec::LexemeIdx;
use llguidance::earley::regexvec::{LexemeSet, RegexVec};

use super::outline::{END, Interned, Rules, UNREACHABLE, representatives};

/// Places that one expected row may stand for; code has some ten.
const MAX_ROW_ITEMS: usize = 1_024;

/// Lexer states that are looked at for texts of a lexeme.
const MAX_TRAIL: usize = 128;
/// Ways to begin a lexeme that are told apart: `"` completes one where `"""` is meant.
const MAX_OPENINGS: usize = 8;
/// Bytes within which a lexeme must end whose beginning is looked for.
const MAX_COMPLETED: usize = 4 << 10;

/// One structural part, with the places that were met so far.
#[derive(Clone)]
pub(crate) struct LeftCorner {
    rules: Arc<Rules>,
    lexer: RegexVec,
    no_lexemes: LexemeSet,
    goals: HashMap<u32, Arc<Goal>>,
    stacks: Interned<Frame>,
    rows: Interned<Row>,
    /// What is known of each row, in their order.
    row_facts: Vec<RowFacts>,
    /// The row after the lexemes that a state has read.
    next_rows: HashMap<u32, Option<u32>>,
    states: Interned<State>,
    /// Least bytes from each state to the end.
    left: Vec<u32>,
    /// Shortest texts of lexemes, as far as they were asked for.
    samples: HashMap<LexemeIdx, Option<Arc<str>>>,
    /// One byte for all that the lexer does not tell apart; empty before it is asked for.
    bytes: Arc<[u8]>,
    has_overflowed: bool,
}

/// A goal that was set, and where to go on once it is met. The bottom frame's goal is the whole output.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Frame {
    below: u32,
    goal: u32,
    item: u32,
    /// Least bytes from there to the end.
    left: u32,
}

/// Places at a border between lexemes: `[stack, item]`, ascending, and whether the output may end.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Row {
    places: Arc<[(u32, u32)]>,
    is_end: bool,
}

#[derive(Clone)]
struct RowFacts {
    initial: StateID,
    /// Least bytes to the end after each lexeme that may stand here.
    after: Arc<[(LexemeIdx, u32)]>,
    /// Least bytes to the end from here.
    left: u32,
}

/// A row, and how far its lexemes are read.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct State {
    row: u32,
    lexer: StateID,
}

/// What a symbol may begin with, and what follows from each of its beginnings.
struct Goal {
    /// By lexeme, ascending: the items that begin with it.
    begins: Vec<(LexemeIdx, Vec<u32>)>,
    /// Items after a symbol that may be the goal's leftmost one.
    uses: HashMap<u32, Vec<u32>>,
    /// Least bytes from the end of such a symbol to the end of the goal.
    climb: HashMap<u32, u32>,
}

impl LeftCorner {
    /// At the start, with a lexer that has been warmed or not; makes no tables yet.
    pub(super) fn new(rules: Arc<Rules>, lexer: RegexVec, no_lexemes: LexemeSet) -> Self {
        Self {
            rules,
            lexer,
            no_lexemes,
            goals: HashMap::new(),
            stacks: Interned::default(),
            rows: Interned::default(),
            row_facts: Vec::new(),
            next_rows: HashMap::new(),
            states: Interned::default(),
            left: Vec::new(),
            samples: HashMap::new(),
            bytes: Arc::default(),
            has_overflowed: false,
        }
    }

    /// Memory at the start in bytes: the lexer, and the rules, which its copies share.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.lexer.num_bytes() + self.rules.memory_bytes()
    }

    /// The state before the first byte.
    pub(crate) fn start(&mut self) -> u32 {
        let (whole, item) = self.rules.whole;
        let bottom = self.stacks.number(Frame { below: 0, goal: whole, item: END, left: 0 });
        let mut border = Border::default();
        self.visit(bottom, item, &mut border);
        let row = self.row(border);
        self.at_border(row)
    }

    /// The state after one more byte; `None` where none may follow.
    pub(crate) fn step(&mut self, state: u32, byte: u8) -> Option<u32> {
        let State { row, lexer } = self.states.values[state as usize];
        if lexer.is_dead() {
            return None;
        }
        let to = self.lexer.transition(lexer, byte);
        if !to.is_dead() {
            return self.arrive(row, to);
        }
        let row = self.next_row(state)?;
        let initial = self.row_facts[row as usize].initial;
        if initial.is_dead() {
            return None;
        }
        let to = self.lexer.transition(initial, byte);
        if to.is_dead() { None } else { self.arrive(row, to) }
    }

    /// Whether the output may end here.
    pub(crate) fn is_accepting(&mut self, state: u32) -> bool {
        let State { row, lexer } = self.states.values[state as usize];
        let is_at_border = lexer == self.row_facts[row as usize].initial;
        if is_at_border && self.rows.values[row as usize].is_end {
            return true;
        }
        !lexer.is_dead() && self.next_row(state).is_some_and(|next| self.rows.values[next as usize].is_end)
    }

    /// Bytes that are needed at least to end the output; exact but for what is left of a lexeme that is being read.
    pub(crate) fn left(&self, state: u32) -> u32 {
        self.left[state as usize]
    }

    /// The only byte that may follow, where it is known to be the only one.
    pub(crate) fn forced(&mut self, state: u32) -> Option<u8> {
        let lexer = self.states.values[state as usize].lexer;
        if lexer.is_dead() || self.lexer.state_desc(lexer).greedy_accepting.is_some() {
            return None;
        }
        match self.lexer.next_byte(lexer) {
            NextByte::ForcedByte(byte) => Some(byte),
            _ => None,
        }
    }

    /// The lexemes that may begin behind what has been read.
    pub(super) fn next_lexemes(&mut self, state: u32) -> Vec<LexemeIdx> {
        let State { row, lexer } = self.states.values[state as usize];
        let is_at_border = lexer == self.row_facts[row as usize].initial;
        let next = if is_at_border || lexer.is_dead() { Some(row) } else { self.next_row(state) };
        let Some(next) = next else { return Vec::new() };
        self.row_facts[next as usize].after.iter().map(|&(lexeme, _)| lexeme).collect()
    }

    /// A shortest text of a lexeme; `None` where none is found within [`MAX_TRAIL`] states.
    pub(super) fn sample(&mut self, lexeme: LexemeIdx) -> Option<Arc<str>> {
        if let Some(known) = self.samples.get(&lexeme) {
            return known.clone();
        }
        let initial = self.initial_of(lexeme);
        let is_whole = |lexer: &mut RegexVec, state| ends(lexer, state).contains(&lexeme);
        let sample = self.texts(initial, 1, is_whole).pop().map(Arc::from);
        self.samples.insert(lexeme, sample.clone());
        sample
    }

    /// Shortest texts that complete what is being read, one for each set of lexemes that it may come to be.
    pub(super) fn completions(&mut self, state: u32) -> Vec<String> {
        let State { lexer: from, .. } = self.states.values[state as usize];
        let mut seen = HashSet::default();
        self.texts(from, MAX_TRAIL, |lexer, state| {
            let ended = ends(lexer, state);
            state != from && !ended.is_empty() && seen.insert(ended)
        })
    }

    /// Shortest texts, none empty, that begin a lexeme which the beginning of `suffix` completes.
    pub(super) fn openings(&mut self, lexeme: LexemeIdx, suffix: &[u8]) -> Vec<String> {
        let initial = self.initial_of(lexeme);
        self.completed_by(initial, suffix)
    }

    /// The same for what is being read.
    pub(super) fn rests(&mut self, state: u32, suffix: &[u8]) -> Vec<String> {
        let State { lexer, .. } = self.states.values[state as usize];
        self.completed_by(lexer, suffix)
    }

    fn completed_by(&mut self, from: StateID, suffix: &[u8]) -> Vec<String> {
        let suffix = &suffix[..suffix.len().min(MAX_COMPLETED)];
        let mut seen = HashSet::default();
        self.texts(from, MAX_OPENINGS, |lexer, state| {
            state != from
                && completes(lexer, state, suffix)
                && suffix.first().is_some_and(|&byte| seen.insert(lexer.transition(state, byte)))
        })
    }

    fn initial_of(&mut self, lexeme: LexemeIdx) -> StateID {
        let mut only = self.no_lexemes.clone();
        only.add(lexeme);
        self.lexer.initial_state(&only)
    }

    /// Texts from a lexer state to such as are wanted, the shortest first, at most `count_max`.
    fn texts(
        &mut self,
        from: StateID,
        count_max: usize,
        mut is_wanted: impl FnMut(&mut RegexVec, StateID) -> bool,
    ) -> Vec<String> {
        if from.is_dead() {
            return Vec::new();
        }
        if self.bytes.is_empty() {
            self.bytes = representatives(|byte| self.lexer.alpha().map(byte)).into();
        }
        let mut way = vec![(from, Vec::new())];
        let mut seen: HashSet<StateID> = [from].into_iter().collect();
        let mut texts = Vec::new();
        let mut at = 0;
        while let Some((state, text)) = way.get(at).cloned().filter(|_| texts.len() < count_max) {
            at += 1;
            if is_wanted(&mut self.lexer, state) {
                texts.extend(String::from_utf8(text.clone()));
            }
            let forced = match self.lexer.next_byte(state) {
                NextByte::ForcedByte(byte) => Some([byte]),
                _ => None,
            };
            for &byte in forced.as_ref().map_or(&*self.bytes, |forced| forced) {
                let to = self.lexer.transition(state, byte);
                if !to.is_dead() && way.len() < MAX_TRAIL && seen.insert(to) {
                    way.push((to, [text.as_slice(), &[byte]].concat()));
                }
            }
        }
        texts
    }

    /// Bytes of one class do the same everywhere.
    pub(crate) fn class(&self, byte: u8) -> usize {
        self.lexer.alpha().map(byte)
    }

    /// Whether a bound was met, after which nothing it says holds.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_overflowed || self.lexer.has_error()
    }

    /// States met so far; each takes about 100 bytes, its row not counted.
    pub(crate) fn num_states(&self) -> usize {
        self.states.values.len()
    }

    /// Grants the lexer fuel for what comes (about 10 units per us where a state is new).
    pub(crate) fn set_fuel(&mut self, fuel: u64) {
        self.lexer.set_fuel(fuel);
    }

    /// After a byte that some lexeme takes: a lexeme that is lazy ends at once.
    fn arrive(&mut self, row: u32, lexer: StateID) -> Option<u32> {
        if !lexer.has_lowest_match() {
            return Some(self.number(State { row, lexer }));
        }
        let lexemes = self.lexer.state_desc(lexer).lazy_accepting.as_slice().to_vec();
        let next = self.advance(row, &lexemes)?;
        Some(self.at_border(next))
    }

    fn at_border(&mut self, row: u32) -> u32 {
        let lexer = self.row_facts[row as usize].initial;
        self.number(State { row, lexer })
    }

    fn number(&mut self, state: State) -> u32 {
        let number = self.states.number(state);
        if number as usize == self.left.len() {
            let left = self.measure(state);
            self.left.push(left);
        }
        number
    }

    fn measure(&self, state: State) -> u32 {
        let facts = &self.row_facts[state.row as usize];
        if state.lexer == facts.initial {
            return facts.left;
        }
        let desc = self.lexer.state_desc(state.lexer);
        let possible = facts.after.iter().filter(|(lexeme, _)| desc.possible.contains(*lexeme));
        let lacking = |lexeme: LexemeIdx| u32::from(!desc.greedy_accepting.contains(lexeme));
        possible.map(|&(lexeme, after)| after.saturating_add(lacking(lexeme))).min().unwrap_or(UNREACHABLE)
    }

    /// The row after the longest lexemes that end in `state`; `None` where none ends here.
    fn next_row(&mut self, state: u32) -> Option<u32> {
        if let Some(&known) = self.next_rows.get(&state) {
            return known;
        }
        let State { row, lexer } = self.states.values[state as usize];
        let lexemes = self.lexer.state_desc(lexer).greedy_accepting.as_slice().to_vec();
        let next = if lexemes.is_empty() { None } else { self.advance(row, &lexemes) };
        self.next_rows.insert(state, next);
        next
    }

    fn advance(&mut self, row: u32, lexemes: &[LexemeIdx]) -> Option<u32> {
        let Row { places, is_end } = self.rows.values[row as usize].clone();
        let mut border = Border::default();
        for (stack, item) in places.iter().copied() {
            let symbol = self.rules.symbols[item as usize];
            match self.rules.lexeme[symbol as usize] {
                Some(lexeme) if lexemes.contains(&lexeme) => self.visit(stack, item + 1, &mut border),
                Some(_) => {}
                None => {
                    let goal = self.goal(symbol);
                    let mut frame = None;
                    for lexeme in lexemes {
                        let at = goal.begins.binary_search_by_key(&lexeme.as_usize(), |(lexeme, _)| lexeme.as_usize());
                        let Ok(at) = at else { continue };
                        let frame = *frame.get_or_insert_with(|| self.push(stack, item, symbol));
                        goal.begins[at].1.iter().for_each(|&begun| self.visit(frame, begun + 1, &mut border));
                    }
                }
            }
        }
        // What may stand between lexemes leaves everything as it is.
        if lexemes.iter().any(|lexeme| self.rules.is_skip(*lexeme)) {
            border.places.extend(places.iter().copied());
            border.is_end |= is_end;
        }
        if border.places.len() > MAX_ROW_ITEMS {
            self.has_overflowed = true;
            return None;
        }
        (border.is_end || !border.places.is_empty()).then(|| self.row(border))
    }

    /// The stack on which `goal` is expected at `item`.
    fn push(&mut self, stack: u32, item: u32, goal: u32) -> u32 {
        let left = self.rules.left[item as usize + 1].saturating_add(self.left_after_rule(stack, item));
        self.stacks.number(Frame { below: stack, goal, item: item + 1, left: left.min(UNREACHABLE) })
    }

    /// Least bytes from the end of an item's rule to the end of the output.
    fn left_after_rule(&mut self, stack: u32, item: u32) -> u32 {
        let Frame { goal, left, .. } = self.stacks.values[stack as usize];
        let climb = self.goal(goal).climb.get(&self.rules.lhs[item as usize]).copied().unwrap_or(UNREACHABLE);
        climb.saturating_add(left).min(UNREACHABLE)
    }

    /// Follows everything that costs no byte.
    fn visit(&mut self, stack: u32, item: u32, border: &mut Border) {
        let mut open = vec![(stack, item)];
        while let Some((stack, item)) = open.pop() {
            if border.seen.len() > 16 * MAX_ROW_ITEMS {
                self.has_overflowed = true;
                return;
            }
            if !border.seen.insert((stack, item)) {
                continue;
            }
            let symbol = self.rules.symbols[item as usize];
            if symbol != END {
                border.places.insert((stack, item));
                if self.rules.is_nullable[symbol as usize] {
                    open.push((stack, item + 1));
                }
                continue;
            }
            let ended = self.rules.lhs[item as usize];
            let frame = self.stacks.values[stack as usize];
            if let Some(uses) = self.goal(frame.goal).uses.get(&ended) {
                open.extend(uses.iter().map(|&item| (stack, item)));
            }
            if ended == frame.goal {
                match frame.item {
                    END => border.is_end = true,
                    item => open.push((frame.below, item)),
                }
            }
        }
    }

    fn row(&mut self, border: Border) -> u32 {
        let places: Arc<[(u32, u32)]> = border.places.into_iter().collect();
        let number = self.rows.number(Row { places: Arc::clone(&places), is_end: border.is_end });
        if number as usize == self.row_facts.len() {
            let facts = self.look_at(&places, border.is_end);
            self.row_facts.push(facts);
        }
        number
    }

    fn look_at(&mut self, places: &[(u32, u32)], is_end: bool) -> RowFacts {
        let mut after: HashMap<LexemeIdx, u32> = HashMap::new();
        let mut left = if is_end { 0 } else { UNREACHABLE };
        for &(stack, item) in places {
            let symbol = self.rules.symbols[item as usize];
            let rest = self.rules.left[item as usize + 1].saturating_add(self.left_after_rule(stack, item));
            left = left.min(self.rules.left[item as usize].saturating_add(self.left_after_rule(stack, item)));
            if let Some(lexeme) = self.rules.lexeme[symbol as usize] {
                lower(&mut after, lexeme, rest);
                continue;
            }
            let goal = self.goal(symbol);
            for (lexeme, items) in &goal.begins {
                let least = items.iter().map(|&begun| {
                    let climb = goal.climb.get(&self.rules.lhs[begun as usize]).copied().unwrap_or(UNREACHABLE);
                    self.rules.left[begun as usize + 1].saturating_add(climb)
                });
                lower(&mut after, *lexeme, rest.saturating_add(least.min().unwrap_or(UNREACHABLE)));
            }
        }
        let mut skips: Vec<LexemeIdx> = after.keys().map(|lexeme| self.rules.skip_beside(*lexeme)).collect();
        if after.is_empty() && is_end {
            skips.extend_from_slice(&self.rules.skips);
        }
        skips.into_iter().for_each(|skip| lower(&mut after, skip, left));
        let mut selected = self.no_lexemes.clone();
        after.keys().for_each(|&lexeme| selected.add(lexeme));
        let initial = if after.is_empty() { StateID::DEAD } else { self.lexer.initial_state(&selected) };
        let mut after: Vec<(LexemeIdx, u32)> = after.into_iter().collect();
        after.sort_unstable_by_key(|(lexeme, _)| lexeme.as_usize());
        RowFacts { initial, after: after.into(), left: left.min(UNREACHABLE) }
    }

    fn goal(&mut self, symbol: u32) -> Arc<Goal> {
        let rules = &self.rules;
        Arc::clone(self.goals.entry(symbol).or_insert_with(|| Arc::new(Goal::new(symbol, rules))))
    }
}

/// The lexemes that end in a lexer state.
fn ends(lexer: &RegexVec, state: StateID) -> Vec<LexemeIdx> {
    let desc = lexer.state_desc(state);
    [desc.greedy_accepting.as_slice(), desc.lazy_accepting.as_slice()].concat()
}

/// Whether the beginning of `suffix` completes a lexeme from a lexer state.
fn completes(lexer: &mut RegexVec, from: StateID, suffix: &[u8]) -> bool {
    let mut at = from;
    let ended = suffix.iter().find_map(|&byte| {
        at = lexer.transition(at, byte);
        if at.is_dead() { Some(false) } else { (!ends(lexer, at).is_empty()).then_some(true) }
    });
    ended == Some(true)
}

/// A row in the making.
#[derive(Default)]
struct Border {
    places: BTreeSet<(u32, u32)>,
    is_end: bool,
    seen: HashSet<(u32, u32)>,
}

fn lower(least: &mut HashMap<LexemeIdx, u32>, lexeme: LexemeIdx, bytes: u32) {
    let known = least.entry(lexeme).or_insert(UNREACHABLE);
    *known = bytes.min(*known);
}

impl Goal {
    /// Looks at all rules that the goal may begin with.
    fn new(goal: u32, rules: &Rules) -> Self {
        let mut begins: HashMap<LexemeIdx, Vec<u32>> = HashMap::new();
        let mut uses: HashMap<u32, Vec<u32>> = HashMap::new();
        let mut seen: HashSet<_> = [goal].into_iter().collect();
        let mut open = vec![goal];
        while let Some(symbol) = open.pop() {
            for &first in &rules.rules[symbol as usize] {
                for item in first.. {
                    let next = rules.symbols[item as usize];
                    if next == END {
                        break;
                    }
                    match rules.lexeme[next as usize] {
                        Some(lexeme) => begins.entry(lexeme).or_default().push(item),
                        None => {
                            uses.entry(next).or_default().push(item + 1);
                            if seen.insert(next) {
                                open.push(next);
                            }
                        }
                    }
                    if !rules.is_nullable[next as usize] {
                        break;
                    }
                }
            }
        }
        let climb = Self::climb(goal, &uses, rules);
        let mut begins: Vec<_> = begins.into_iter().collect();
        begins.sort_unstable_by_key(|(lexeme, _)| lexeme.as_usize());
        Self { begins, uses, climb }
    }

    /// Shortest ways from each leftmost symbol up to the goal (Dijkstra's algorithm, from the goal down).
    fn climb(goal: u32, uses: &HashMap<u32, Vec<u32>>, rules: &Rules) -> HashMap<u32, u32> {
        let mut below: HashMap<u32, Vec<(u32, u32)>> = HashMap::new();
        for (&symbol, items) in uses {
            for &item in items {
                below.entry(rules.lhs[item as usize]).or_default().push((symbol, rules.left[item as usize]));
            }
        }
        let mut climb = HashMap::new();
        let mut open = BTreeSet::from([(0u32, goal)]);
        while let Some((far, symbol)) = open.pop_first() {
            if climb.contains_key(&symbol) {
                continue;
            }
            climb.insert(symbol, far);
            for &(under, left) in below.get(&symbol).into_iter().flatten() {
                open.insert((far.saturating_add(left).min(UNREACHABLE), under));
            }
        }
        climb
    }
}
