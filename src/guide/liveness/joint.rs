//! Texts that join the two sides of a hole, by a search over the parts themselves.
//!
//! Best first over the product of the structural parts, followed exactly, and the automata (weighted A*, Pohl,
//! "Heuristic search viewed as path finding in a graph", 1970). A step is a shortest text of a lexeme that may come
//! next, or a phrase of several ([`Seam::pieces`]); whether the suffix goes through is asked in every place by reading it,
//! also behind a text that begins a lexeme which the suffix completes. The guess of how far it still is comes from the
//! brackets and texts that one side leaves open and the other closes ([`Seam`]): a guess that is wrong costs time, or the
//! joint, and no more.

use std::collections::BTreeMap;
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};
use llguidance::earley::lexerspec::LexemeIdx;

use super::course::Course;
use crate::guide::GuideError;
use crate::guide::automaton::DEAD;
use crate::guide::compiled::CompiledConstraint;
use crate::guide::seam::Seam;

/// What a piece costs, in bytes that go on with one, of which no more than so many count.
const PIECE_COST: u32 = 8;
const PIECE_BYTES_MAX: u32 = 8;
/// What a bracket or text is taken to cost that is still to be opened or closed: first as much as it does at most, which
/// goes straight on and may go astray, then as much as it does at least.
const GAP_COSTS: [u32; 2] = [24, 12];
/// Brackets open on both sides that may be closed and opened anew.
const MAX_REOPENED: usize = 2;
/// What it costs to make a text or a comment of the suffix's beginning.
const TEXT_COST: u32 = 24;

/// The search from one place of a sequence; ask it for one joint after another.
pub(crate) struct JointSearch<'a> {
    compiled: &'a CompiledConstraint,
    course: &'a mut Course,
    reads_document: &'a [bool],
    seam: &'a Seam,
    suffix: &'a [u8],
    nodes: Vec<Node>,
    known: HashMap<Box<[u32]>, u32>,
    /// Nodes to look at, by the guess of what a joint through them costs.
    open: BTreeMap<u32, Vec<u32>>,
    /// Whether the suffix goes through, by part and state.
    goes_through: HashMap<(usize, u32), bool>,
    /// What begins a lexeme that the suffix completes.
    openings: HashMap<LexemeIdx, Vec<Arc<str>>>,
    /// Joints that were found, by their costs.
    found: BTreeMap<u32, Vec<String>>,
    bounds: JointBounds,
}

/// How far a search goes, and what it takes for granted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JointBounds {
    /// States of the product that are looked at, at some 10 us each.
    max_states: usize,
    /// Brackets open on both sides of the hole that are taken to be closed and opened anew.
    num_reopened: usize,
    gap_cost: u32,
}

impl JointBounds {
    /// What is guessed one after another where `num_common` brackets are open on both sides, the likeliest first; all
    /// together look at no more than `max_states`.
    pub(crate) fn guesses(max_states: usize, num_common: usize) -> impl Iterator<Item = Self> {
        GAP_COSTS.into_iter().flat_map(move |gap_cost| {
            (0..=num_common.min(MAX_REOPENED)).map(move |num_reopened| Self {
                max_states: max_states >> (num_reopened + 2),
                num_reopened,
                gap_cost,
            })
        })
    }
}

/// A place, with how it was reached.
struct Node {
    /// Those of the structural parts, then those of the automata.
    states: Box<[u32]>,
    parent: Option<u32>,
    piece: Arc<str>,
    cost: u32,
    /// Brackets and texts that are still to be opened or closed.
    gap: u32,
    /// Automata that do not take the suffix from here.
    num_refusing: u32,
}

impl<'a> JointSearch<'a> {
    /// From where `course` and `automata` stand, as far as `bounds` go.
    pub(crate) fn new(
        compiled: &'a CompiledConstraint,
        course: &'a mut Course,
        reads_document: &'a [bool],
        automata: &[u32],
        (seam, suffix): (&'a Seam, &'a [u8]),
        bounds: JointBounds,
    ) -> Self {
        let states: Box<[u32]> = [course.here().1, automata].concat().into();
        let mut search = Self {
            compiled,
            course,
            reads_document,
            seam,
            suffix,
            nodes: Vec::new(),
            known: HashMap::new(),
            open: BTreeMap::new(),
            goes_through: HashMap::new(),
            openings: HashMap::new(),
            found: BTreeMap::new(),
            bounds,
        };
        search.push(Node {
            states,
            parent: None,
            piece: "".into(),
            cost: 0,
            gap: seam.gap("", bounds.num_reopened).num_open,
            num_refusing: 0,
        });
        search
    }

    /// The next joint, cheap ones first; `None` where there is none left within the bounds. `may_end` says whether an
    /// automaton lets the output end in a state.
    ///
    /// # Errors
    /// Those of `may_end` and of the automata.
    pub(crate) fn next(
        &mut self,
        mut may_end: impl FnMut(usize, u32) -> Result<bool, GuideError>,
    ) -> Result<Option<String>, GuideError> {
        loop {
            let is_over = self.nodes.len() > self.bounds.max_states || self.course.has_failed();
            let nearest = self.open.keys().next().filter(|_| !is_over);
            if nearest.is_none_or(|nearest| self.found.keys().next().is_some_and(|found| found <= nearest)) {
                return Ok(pop_first(&mut self.found));
            }
            let Some(at) = pop_first(&mut self.open) else { return Ok(None) };
            let node = &self.nodes[at as usize];
            if self.known[&node.states] < node.cost {
                continue;
            }
            self.look_for_end(at, &mut may_end)?;
            self.expand(at, &mut may_end)?;
        }
    }

    /// Notes the joints that end here with the beginning of one more lexeme.
    fn look_for_end(
        &mut self,
        at: u32,
        may_end: &mut impl FnMut(usize, u32) -> Result<bool, GuideError>,
    ) -> Result<(), GuideError> {
        if self.nodes[at as usize].gap > 1 {
            return Ok(());
        }
        let (states, cost) = (self.nodes[at as usize].states.clone(), self.nodes[at as usize].cost);
        let text = self.text(at);
        for opening in self.openings(at) {
            let joint = [&text, &*opening].concat();
            let gap = self.seam.gap(&joint, self.bounds.num_reopened);
            if gap.num_open > 0 {
                continue;
            }
            let Some(ends) = self.step(&states, &opening)? else { continue };
            if self.may_end(&ends, may_end)? {
                let opening_cost = match opening.len() {
                    0 => 0,
                    _ if gap.is_in_text => PIECE_COST + TEXT_COST,
                    _ => price(&opening),
                };
                self.found.entry(cost + opening_cost).or_default().push(joint);
            }
        }
        Ok(())
    }

    /// What may begin a lexeme here that the suffix completes; at the start also nothing.
    fn openings(&mut self, at: u32) -> Vec<Arc<str>> {
        let Self { course, reads_document, suffix, nodes, openings, .. } = self;
        let node = &nodes[at as usize];
        let (parsers, _) = course.here();
        let mut all: Vec<Arc<str>> = Vec::new();
        if node.parent.is_none() {
            all.push("".into());
        }
        for ((parser, &state), _) in
            parsers.iter_mut().zip(&node.states).zip(*reads_document).filter(|(_, reads)| **reads)
        {
            for lexeme in parser.next_lexemes(state) {
                let begun = || parser.openings(lexeme, suffix).into_iter().map(Arc::from).collect();
                all.extend_from_slice(openings.entry(lexeme).or_insert_with(begun));
            }
            if node.parent.is_none() {
                all.extend(parser.rests(state, suffix).into_iter().map(Arc::from));
            }
        }
        all.sort_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
        all.dedup();
        all
    }

    /// Whether every part lets the output end in these states.
    fn may_end(
        &mut self,
        states: &[u32],
        may_end: &mut impl FnMut(usize, u32) -> Result<bool, GuideError>,
    ) -> Result<bool, GuideError> {
        let num_parsers = self.reads_document.len();
        for (idx, &state) in states[num_parsers..].iter().enumerate() {
            if !may_end(idx, state)? {
                return Ok(false);
            }
        }
        let (parsers, _) = self.course.here();
        Ok(parsers.iter_mut().enumerate().all(|(idx, parser)| {
            let state = states[idx];
            if !self.reads_document[idx] {
                return parser.is_accepting(state);
            }
            *self.goes_through.entry((idx, state)).or_insert_with(|| {
                let end = self.suffix.iter().try_fold(state, |state, &byte| parser.step(state, byte));
                end.is_some_and(|end| parser.is_accepting(end))
            })
        }))
    }

    fn expand(
        &mut self,
        at: u32,
        may_end: &mut impl FnMut(usize, u32) -> Result<bool, GuideError>,
    ) -> Result<(), GuideError> {
        let (states, cost, gap) = {
            let node = &self.nodes[at as usize];
            (node.states.clone(), node.cost, node.gap)
        };
        let text = self.text(at);
        for piece in self.pieces(at, &text) {
            let Some(next) = self.step(&states, &piece)? else { continue };
            let cost = cost + price(&piece);
            if self.known.get(&next).is_some_and(|&known| known <= cost) {
                continue;
            }
            let is_plain = piece.bytes().all(|byte| is_word(byte) || byte == b' ');
            let gap = if is_plain {
                gap
            } else {
                self.seam.gap(&[&text, &*piece].concat(), self.bounds.num_reopened).num_open
            };
            let mut num_refusing = 0;
            for (idx, &state) in next[self.reads_document.len()..].iter().enumerate() {
                num_refusing += u32::from(!may_end(idx, state)?);
            }
            // Asked now, not when its turn comes: where the suffix goes through there is nothing left to guess.
            if gap == 0 && num_refusing == 0 && self.may_end(&next, may_end)? {
                self.found.entry(cost).or_default().push([&text, &*piece].concat());
            }
            self.push(Node { states: next, parent: Some(at), piece, cost, gap, num_refusing });
        }
        Ok(())
    }

    /// What may come next: a shortest text of each lexeme, what completes one that was begun before the hole, and the
    /// seam's own pieces.
    fn pieces(&mut self, at: u32, text: &str) -> Vec<Arc<str>> {
        let node = &self.nodes[at as usize];
        let mut all: Vec<Arc<str>> = self.seam.pieces().to_vec();
        let (parsers, _) = self.course.here();
        for ((parser, &state), _) in
            parsers.iter_mut().zip(&node.states).zip(self.reads_document).filter(|(_, reads)| **reads)
        {
            for lexeme in parser.next_lexemes(state) {
                all.extend(parser.sample(lexeme));
            }
            if node.parent.is_none() {
                all.extend(parser.completions(state).into_iter().map(Arc::from));
            }
        }
        let ends_in_word = node.parent.is_none() || text.bytes().last().is_some_and(is_word);
        if ends_in_word {
            let apart = all.iter().filter(|piece| piece.bytes().next().is_some_and(is_word));
            let apart: Vec<Arc<str>> = apart.map(|piece| format!(" {piece}").into()).collect();
            all.extend(apart);
        }
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The states after a text; `None` where a part refuses it.
    fn step(&mut self, states: &[u32], text: &str) -> Result<Option<Box<[u32]>>, GuideError> {
        let (parsers, _) = self.course.here();
        let mut next = Vec::with_capacity(states.len());
        for (parser, &state) in parsers.iter_mut().zip(states) {
            let Some(to) = text.bytes().try_fold(state, |state, byte| parser.step(state, byte)) else {
                return Ok(None);
            };
            next.push(to);
        }
        for (automaton, &state) in self.compiled.automata.iter().zip(&states[parsers.len()..]) {
            match automaton.run(state, text.as_bytes())? {
                DEAD => return Ok(None),
                to => next.push(to),
            }
        }
        Ok(Some(next.into()))
    }

    fn push(&mut self, node: Node) {
        let number = self.nodes.len() as u32;
        self.known.insert(node.states.clone(), node.cost);
        self.open.entry(node.cost + self.bounds.gap_cost * (node.gap + node.num_refusing)).or_default().push(number);
        self.nodes.push(node);
    }

    /// The text on the way to a node.
    fn text(&self, at: u32) -> String {
        let way = std::iter::successors(Some(at), |&at| self.nodes[at as usize].parent);
        let mut pieces: Vec<&str> = way.map(|at| &*self.nodes[at as usize].piece).collect();
        pieces.reverse();
        pieces.concat()
    }
}

/// What a piece costs. A line break is a little dearer than a sign that does the same.
fn price(piece: &str) -> u32 {
    let num_bytes = (piece.trim().len() as u32).clamp(1, PIECE_BYTES_MAX);
    PIECE_COST + num_bytes - 1 + u32::from(piece.contains('\n'))
}

/// Takes the last of those that come first.
fn pop_first<T>(open: &mut BTreeMap<u32, Vec<T>>) -> Option<T> {
    let mut first = open.first_entry()?;
    let taken = first.get_mut().pop();
    if first.get().is_empty() {
        first.remove();
    }
    taken
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}
