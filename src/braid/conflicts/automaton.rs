//! Regular languages of whole outputs as byte automata, and what several of them have in common.
//!
//! Only proofs are made here: what is too big, or not known to have an exact automaton, gives `None`, and the constraint
//! it comes from is left to the guide's verdict.

use std::collections::{HashMap, VecDeque};

use regex_automata::dfa::{Automaton as _, StartKind, dense};
use regex_automata::nfa::thompson::{self, WhichCaptures};
use regex_automata::util::start;
use regex_automata::{Anchored, MatchKind};
use regex_syntax::hir::{Dot, Hir, HirKind, Repetition};

use crate::constraint::{MatchMode, RegexPattern};

/// Bytes of one expression; longer ones are not judged. Building its automaton takes microseconds per byte.
const PATTERN_BYTES_MAX: usize = 4_096;
/// Bytes of an expression's tables while they are built. Default 1 MiB: a few thousand states.
const TABLE_BYTES_MAX: usize = 1 << 20;
/// Product of nested repetition counts: `(a{1000}){1000}` is a million.
const REPETITION_MAX: u64 = 2_000;
/// States of a product that are looked at; each costs about a microsecond.
const PRODUCT_STATES_MAX: usize = 20_000;
/// What a class like `\w` or `\p{L}` costs when cases are folded, in units of [`Effort`].
const FOLDED_CLASS: u64 = 130_000;

/// No accepting state lies ahead.
const NEVER: u32 = u32::MAX;

/// How much work may still be done: a count, so that the same set is always judged the same way.
pub(super) struct Effort {
    left: u64,
    is_used_up: bool,
}

impl Effort {
    /// Of a set; a unit is about a nanosecond.
    pub(super) fn of(num_constraints: usize) -> Self {
        const BASE: u64 = 200_000_000;
        const PER_CONSTRAINT: u64 = 100_000;
        Self { left: BASE + PER_CONSTRAINT * num_constraints as u64, is_used_up: false }
    }

    /// Takes `units`; `None` from when they do not suffice.
    pub(super) fn take(&mut self, units: u64) -> Option<()> {
        self.is_used_up |= units > self.left;
        self.left = self.left.saturating_sub(units);
        (!self.is_used_up).then_some(())
    }

    /// Whether work was left undone.
    pub(super) fn is_used_up(&self) -> bool {
        self.is_used_up
    }
}

/// Reads an alternation of patterns; `None` for what the guide refuses or no automaton says exactly.
pub(super) fn parse(any_of: &[RegexPattern], effort: &mut Effort) -> Option<Hir> {
    let alternatives =
        any_of.iter().map(|one| parse_one(&one.pattern, &one.flags, effort)).collect::<Option<Vec<_>>>()?;
    (!alternatives.is_empty()).then(|| Hir::alternation(alternatives))
}

fn parse_one(pattern: &str, flags: &str, effort: &mut Effort) -> Option<Hir> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return None;
    }
    let folds =
        flags.contains('i') || pattern.match_indices("(?").any(|(at, _)| group_flags(&pattern[at + 2..]).contains('i'));
    let num_classes = pattern.matches(['\\', '[']).count() as u64;
    effort.take(num_classes * if folds { FOLDED_CLASS } else { 1_000 })?;
    let mut builder = regex_syntax::ParserBuilder::new();
    builder.utf8(false);
    for flag in flags.chars() {
        match flag {
            'i' => builder.case_insensitive(true),
            'm' => builder.multi_line(true),
            's' => builder.dot_matches_new_line(true),
            'x' => builder.ignore_whitespace(true),
            'g' => &mut builder,
            _ => return None,
        };
    }
    let hir = builder.build().parse(pattern).ok()?;
    let is_exact = !hir.properties().look_set().contains_word_unicode() && repetition(&hir) <= REPETITION_MAX;
    is_exact.then_some(hir)
}

/// The flags at the start of a group, `i` of `(?i-u:...)`.
fn group_flags(group: &str) -> &str {
    let end = group.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(group.len());
    &group[..end]
}

/// Recursion is bounded: the parser refuses patterns nested deeper than 250.
fn repetition(hir: &Hir) -> u64 {
    match hir.kind() {
        HirKind::Repetition(Repetition { min, max, sub, .. }) => {
            u64::from(max.unwrap_or(*min).max(1)).saturating_mul(repetition(sub))
        }
        HirKind::Capture(capture) => repetition(&capture.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts.iter().map(repetition).max().unwrap_or(1),
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) | HirKind::Look(_) => 1,
    }
}

/// The outputs that one rule allows, as a total automaton over bytes.
pub(super) struct Automaton {
    classes: Box<[u8; 256]>,
    num_classes: usize,
    next: Vec<u32>,
    accepting: Vec<bool>,
    /// Bytes to the nearest accepting state.
    distance: Vec<u32>,
}

impl Automaton {
    /// The outputs that an expression allows under a match mode; `None` where that is too big.
    pub(super) fn new(hir: Hir, mode: MatchMode, effort: &mut Effort) -> Option<Self> {
        let any =
            || Hir::repetition(Repetition { min: 0, max: None, greedy: true, sub: Box::new(Hir::dot(Dot::AnyByte)) });
        let whole = match mode {
            MatchMode::Full => hir,
            MatchMode::Prefix => Hir::concat(vec![hir, any()]),
            MatchMode::Contains | MatchMode::Absent => Hir::concat(vec![any(), hir, any()]),
        };
        let config = thompson::Config::new();
        let config = config.utf8(false).which_captures(WhichCaptures::None).nfa_size_limit(Some(TABLE_BYTES_MAX));
        let nfa = thompson::Compiler::new().configure(config).build_from_hir(&whole).ok()?;
        let config = dense::Config::new().match_kind(MatchKind::All).start_kind(StartKind::Anchored).accelerate(false);
        let config = config.dfa_size_limit(Some(TABLE_BYTES_MAX)).determinize_size_limit(Some(TABLE_BYTES_MAX));
        // Each state of the table is made by walking through the states of the expression.
        effort.take(20 * nfa.states().len() as u64)?;
        let dfa = dense::Builder::new().configure(config).build_from_nfa(&nfa).ok()?;
        effort.take(dfa.memory_usage() as u64 * 4)?;
        Some(Self::tabulate(&dfa, mode == MatchMode::Absent)?.with_distances())
    }

    /// The reachable part of a dense DFA. A match shows one byte late, or at the end of input.
    fn tabulate(dfa: &dense::DFA<Vec<u32>>, negated: bool) -> Option<Self> {
        let mut classes = Box::new([0u8; 256]);
        for byte in 0..=255u8 {
            classes[byte as usize] = dfa.byte_classes().get(byte);
        }
        // The last unit of the alphabet is the end of input.
        let num_classes = dfa.byte_classes().alphabet_len() - 1;
        let mut representative = vec![0u8; num_classes];
        (0..=255u8).for_each(|byte| representative[classes[byte as usize] as usize] = byte);
        let start = dfa.start_state(&start::Config::new().anchored(Anchored::Yes)).ok()?;
        let mut number = HashMap::from([(start, 0u32)]);
        let mut order = vec![start];
        let (mut next, mut accepting) = (Vec::new(), Vec::new());
        let mut at = 0;
        while at < order.len() {
            let state = order[at];
            at += 1;
            accepting.push(dfa.is_match_state(dfa.next_eoi_state(state)) != negated);
            for &byte in &representative {
                let to = dfa.next_state(state, byte);
                next.push(*number.entry(to).or_insert_with(|| {
                    order.push(to);
                    order.len() as u32 - 1
                }));
            }
        }
        Some(Self { classes, num_classes, next, accepting, distance: Vec::new() })
    }

    fn with_distances(mut self) -> Self {
        let mut before = vec![Vec::new(); self.accepting.len()];
        for (at, to) in self.next.iter().enumerate() {
            before[*to as usize].push((at / self.num_classes) as u32);
        }
        let mut distance: Vec<u32> = self.accepting.iter().map(|&accepts| if accepts { 0 } else { NEVER }).collect();
        let mut queue: VecDeque<u32> =
            (0..distance.len() as u32).filter(|&state| self.accepting[state as usize]).collect();
        while let Some(state) = queue.pop_front() {
            for &previous in &before[state as usize] {
                if distance[previous as usize] == NEVER {
                    distance[previous as usize] = distance[state as usize] + 1;
                    queue.push_back(previous);
                }
            }
        }
        self.distance = distance;
        self
    }

    fn step(&self, state: u32, byte: u8) -> u32 {
        self.next[state as usize * self.num_classes + usize::from(self.classes[usize::from(byte)])]
    }

    /// Whether the whole text is one of the outputs.
    pub(super) fn accepts(&self, text: &[u8]) -> bool {
        let end = text.iter().fold(0, |state, &byte| self.step(state, byte));
        self.accepting[end as usize]
    }

    /// A shortest output, the same every time.
    pub(super) fn shortest(&self) -> Option<Vec<u8>> {
        let mut state = 0;
        if self.distance[0] == NEVER {
            return None;
        }
        let mut text = Vec::with_capacity(self.distance[0] as usize);
        while self.distance[state as usize] > 0 {
            let nearer = |byte: &u8| self.distance[self.step(state, *byte) as usize] < self.distance[state as usize];
            // Readable witnesses read better in reports.
            let byte = (b'a'..=b'z').chain(b' '..=b'~').chain(0..=255).find(nearer)?;
            state = self.step(state, byte);
            text.push(byte);
        }
        Some(text)
    }

    /// Code points of an output with the fewest of them.
    pub(super) fn fewest_chars(&self) -> Option<u32> {
        let mut fewest = vec![NEVER; self.accepting.len()];
        let mut queue = VecDeque::from([0u32]);
        fewest[0] = 0;
        while let Some(state) = queue.pop_front() {
            let so_far = fewest[state as usize];
            if self.accepting[state as usize] {
                return Some(so_far);
            }
            let mut last = NEVER;
            for byte in 0..=255u8 {
                let to = self.step(state, byte);
                let begins_char = byte & 0xC0 != 0x80;
                if to == last && begins_char {
                    continue;
                }
                last = if begins_char { to } else { NEVER };
                let chars = so_far + u32::from(begins_char);
                if self.distance[to as usize] != NEVER && chars < fewest[to as usize] {
                    fewest[to as usize] = chars;
                    if begins_char { queue.push_back(to) } else { queue.push_front(to) }
                }
            }
        }
        None
    }
}

/// What several automata have in common.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Common {
    /// This text.
    Text(Vec<u8>),
    /// Nothing: a proof.
    Nothing,
    /// The bound was reached.
    Unknown,
}

/// A shortest text that all automata accept, by their product; breadth first, dead states left out.
pub(super) fn intersect(automata: &[&Automaton], effort: &mut Effort) -> Common {
    if automata.iter().any(|automaton| automaton.distance[0] == NEVER) {
        return Common::Nothing;
    }
    let bytes = representatives(automata);
    let start = vec![0u32; automata.len()];
    let mut seen: HashMap<Vec<u32>, usize> = HashMap::from([(start.clone(), 0)]);
    let mut states = vec![(start, 0usize, 0u8)];
    let mut at = 0;
    while at < states.len() {
        if states.len() > PRODUCT_STATES_MAX || effort.take((bytes.len() * (40 + 15 * automata.len())) as u64).is_none()
        {
            return Common::Unknown;
        }
        let state = states[at].0.clone();
        if state.iter().zip(automata).all(|(&state, automaton)| automaton.accepting[state as usize]) {
            return Common::Text(path(&states, at));
        }
        for &byte in &bytes {
            let to: Vec<u32> =
                state.iter().zip(automata).map(|(&state, automaton)| automaton.step(state, byte)).collect();
            let is_alive =
                to.iter().zip(automata).all(|(&state, automaton)| automaton.distance[state as usize] != NEVER);
            if is_alive && !seen.contains_key(&to) {
                seen.insert(to.clone(), states.len());
                states.push((to, at, byte));
            }
        }
        at += 1;
    }
    Common::Nothing
}

/// One byte of each class that no automaton tells apart.
fn representatives(automata: &[&Automaton]) -> Vec<u8> {
    let mut seen = std::collections::HashSet::new();
    let tells_apart =
        |byte: u8| automata.iter().map(|automaton| automaton.classes[usize::from(byte)]).collect::<Vec<_>>();
    (b'a'..=b'z').chain(b' '..=b'~').chain(0..=255).filter(|&byte| seen.insert(tells_apart(byte))).collect()
}

fn path(states: &[(Vec<u32>, usize, u8)], end: usize) -> Vec<u8> {
    let (mut text, mut at) = (Vec::new(), end);
    while at != 0 {
        let (_, before, byte) = &states[at];
        text.push(*byte);
        at = *before;
    }
    text.reverse();
    text
}
