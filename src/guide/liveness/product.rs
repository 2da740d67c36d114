//! The shortest text that several regular languages share, or the proof that there is none.
//!
//! Best first over the product of their states, which is made only where the search goes (A*, Hart, Nilsson and
//! Raphael, 1968). Where no state is left to look at, the languages have nothing in common.

use std::collections::BTreeMap;

use foldhash::{HashMap, HashMapExt};

use super::left_corner::LeftCorner;
use super::outline::{Outline, representatives};
use super::spelling::Spelling;
use crate::guide::GuideError;
use crate::guide::automaton::{AutomatonPart, DEAD};

/// One of the languages.
pub(crate) enum Factor<'a> {
    /// An automaton of our own, exact.
    Automaton(&'a AutomatonPart),
    /// A regular superset of a structural part.
    Outline(&'a mut Outline),
    /// A structural part, but for conditions.
    LeftCorner(&'a mut LeftCorner),
    /// What a list of ids can spell.
    Spelling(Spelling<'a>),
}

/// The state of an automaton that could not be built any further.
const BEYOND_BOUND: u32 = u32::MAX;

/// What the product says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Intersection {
    /// A text that all languages contain, the shortest as far as bounds on what is left are right.
    Text(Vec<u8>),
    /// No such text exists.
    Empty,
    /// A bound was reached first.
    TooLarge,
}

/// What makes one text shorter than another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    Bytes,
    /// Tokens, as a [`Factor::Spelling`] among the factors splits the text; none is longer than so many bytes. Texts
    /// with anything between lexemes are left out.
    Tokens {
        max_len: u32,
    },
}

/// A state of the product, with how it was reached.
struct Node {
    states: Box<[u32]>,
    parent: Option<u32>,
    byte: Option<u8>,
    depth: u32,
    /// Least length of a text through here.
    bound: u32,
}

/// Searches at most `max_states` states of the product, at about 1 us each, and [`STEPS_PER_STATE`] times as many steps.
pub(crate) fn intersect(factors: &mut [Factor<'_>], length: Length, max_states: usize) -> Intersection {
    let mut starts: Vec<Vec<u32>> = vec![Vec::new()];
    for factor in factors.iter_mut() {
        let states = factor.starts();
        starts =
            starts.iter().flat_map(|start| states.iter().map(|&state| [start.as_slice(), &[state]].concat())).collect();
    }
    Search::new(factors, length, starts).next_text(factors, max_states)
}

/// The first text from the states `from` on, shortest first, of which `is_real` makes something: the factors may promise
/// more than their parts keep. At most `max_texts` are tried, and `max_states` states of the product looked at.
///
/// # Errors
/// Those of `is_real`.
pub(crate) fn complete<T>(
    factors: &mut [Factor<'_>],
    from: Vec<u32>,
    (max_states, max_texts): (usize, usize),
    mut is_real: impl FnMut(Vec<u8>) -> Result<Option<T>, GuideError>,
) -> Result<Option<T>, GuideError> {
    let mut search = Search::new(factors, Length::Bytes, vec![from]);
    for _ in 0..max_texts {
        let Intersection::Text(text) = search.next_text(factors, max_states) else { break };
        if let Some(made) = is_real(text)? {
            return Ok(Some(made));
        }
    }
    Ok(None)
}

/// Steps that each state of the bound allows, known states included, at 0.1-1 us each.
const STEPS_PER_STATE: usize = 20;

struct Search {
    length: Length,
    num_steps: usize,
    bytes: Vec<u8>,
    nodes: Vec<Node>,
    known: HashMap<Box<[u32]>, u32>,
    /// Nodes to look at, by the least length of a text through them; of equals the last comes first.
    open: BTreeMap<u32, Vec<u32>>,
}

impl Search {
    fn new(factors: &[Factor<'_>], length: Length, starts: Vec<Vec<u32>>) -> Self {
        let bytes = common_classes(factors);
        let mut search =
            Self { length, num_steps: 0, bytes, nodes: Vec::new(), known: HashMap::new(), open: BTreeMap::new() };
        for start in starts {
            search.push(factors, start, None, None, 0);
        }
        search
    }

    /// The next text that all factors share, none shorter than the last.
    fn next_text(&mut self, factors: &mut [Factor<'_>], max_states: usize) -> Intersection {
        // Where a factor has failed before there was a state, none being left proves nothing.
        if factors.iter().any(Factor::has_failed) {
            return Intersection::TooLarge;
        }
        while let Some(at) = self.pop() {
            if self.nodes.len() > max_states || self.num_steps > max_states.saturating_mul(STEPS_PER_STATE) {
                return Intersection::TooLarge;
            }
            let states = self.nodes[at as usize].states.clone();
            let is_text = factors.iter_mut().zip(&states).all(|(factor, &state)| factor.is_accepting(state));
            self.expand(factors, at, &states);
            if factors.iter().any(Factor::has_failed) {
                return Intersection::TooLarge;
            }
            if is_text {
                return Intersection::Text(self.text(at));
            }
        }
        Intersection::Empty
    }

    fn expand(&mut self, factors: &mut [Factor<'_>], at: u32, states: &[u32]) {
        let depth = self.nodes[at as usize].depth;
        let (byte_len, token_len) = match self.length {
            Length::Bytes => (1, 0),
            Length::Tokens { .. } => (0, 1),
        };
        for idx in 0..factors.len() {
            for to in factors[idx].free_steps(states[idx]) {
                // What stands between lexemes hardly ever saves a token, and looking at it all costs much.
                if matches!(&factors[idx], Factor::Outline(outline) if token_len == 1 && outline.is_between(to)) {
                    continue;
                }
                let mut next = states.to_vec();
                next[idx] = to;
                let len = if matches!(factors[idx], Factor::Spelling(_)) { token_len } else { 0 };
                self.push(factors, next, Some(at), None, depth + len);
            }
        }
        let forced = factors.iter_mut().zip(states).find_map(|(factor, &state)| factor.forced(state));
        let bytes = match forced {
            Some(byte) => vec![byte],
            None => self.bytes.clone(),
        };
        // The last pushed is looked at first.
        for &byte in bytes.iter().rev() {
            let steps = factors.iter_mut().zip(states).map(|(factor, &state)| factor.step(state, byte));
            if let Some(next) = steps.collect::<Option<Vec<u32>>>() {
                self.push(factors, next, Some(at), Some(byte), depth + byte_len);
            }
        }
    }

    fn push(&mut self, factors: &[Factor<'_>], states: Vec<u32>, parent: Option<u32>, byte: Option<u8>, depth: u32) {
        self.num_steps += 1;
        let states: Box<[u32]> = states.into();
        let is_better = |&known: &u32| self.nodes[known as usize].depth > depth;
        if self.known.get(&states).is_some_and(|known| !is_better(known)) {
            return;
        }
        let left = factors.iter().zip(&states).map(|(factor, &state)| factor.left(state)).max().unwrap_or(0);
        let left = match self.length {
            Length::Bytes => left,
            Length::Tokens { max_len } => left.div_ceil(max_len.max(1)),
        };
        // What a factor forgets on the way is still true.
        let known = parent.map_or(0, |parent| self.nodes[parent as usize].bound);
        let bound = depth.saturating_add(left).max(known);
        let number = self.nodes.len() as u32;
        self.known.insert(states.clone(), number);
        self.nodes.push(Node { states, parent, byte, depth, bound });
        self.open.entry(bound).or_default().push(number);
    }

    fn pop(&mut self) -> Option<u32> {
        let mut nearest = self.open.first_entry()?;
        let node = nearest.get_mut().pop();
        if nearest.get().is_empty() {
            nearest.remove();
        }
        node
    }

    /// The bytes on the way to a node.
    fn text(&self, at: u32) -> Vec<u8> {
        let way = std::iter::successors(Some(at), |&at| self.nodes[at as usize].parent);
        let mut text: Vec<u8> = way.filter_map(|at| self.nodes[at as usize].byte).collect();
        text.reverse();
        text
    }
}

/// One byte for all that no factor tells apart.
fn common_classes(factors: &[Factor<'_>]) -> Vec<u8> {
    representatives(|byte| factors.iter().map(|factor| factor.class(byte)).collect::<Vec<_>>())
}

impl Factor<'_> {
    fn starts(&mut self) -> Vec<u32> {
        match self {
            Self::Automaton(part) => vec![part.start_of_output()].into_iter().filter(|&start| start != DEAD).collect(),
            Self::Outline(outline) => outline.starts(),
            Self::LeftCorner(parser) => vec![parser.start()],
            Self::Spelling(_) => vec![0],
        }
    }

    fn step(&mut self, state: u32, byte: u8) -> Option<u32> {
        match self {
            // Where a lazily built automaton meets a bound, it is taken to allow everything: a superset, as outlines are.
            Self::Automaton(_) if state == BEYOND_BOUND => Some(BEYOND_BOUND),
            Self::Automaton(part) => Some(part.run(state, &[byte]).unwrap_or(BEYOND_BOUND)).filter(|&to| to != DEAD),
            Self::Outline(outline) => outline.step(state, byte),
            Self::LeftCorner(parser) => parser.step(state, byte),
            Self::Spelling(spelling) => spelling.step(state, byte),
        }
    }

    fn free_steps(&mut self, state: u32) -> Vec<u32> {
        match self {
            Self::Automaton(_) | Self::LeftCorner(_) => Vec::new(),
            Self::Outline(outline) => outline.ends_of_lexeme(state),
            Self::Spelling(spelling) => {
                if spelling.ends_token(state) {
                    vec![0]
                } else {
                    Vec::new()
                }
            }
        }
    }

    fn is_accepting(&mut self, state: u32) -> bool {
        match self {
            Self::Automaton(part) => state == BEYOND_BOUND || part.is_accepting(state),
            Self::Outline(outline) => outline.is_accepting(state),
            Self::LeftCorner(parser) => parser.is_accepting(state),
            Self::Spelling(_) => state == 0,
        }
    }

    fn left(&self, state: u32) -> u32 {
        match self {
            Self::Automaton(_) if state == BEYOND_BOUND => 0,
            Self::Automaton(part) => part.min_bytes_to_end(state).unwrap_or(0),
            Self::Outline(outline) => outline.left(state),
            Self::LeftCorner(parser) => parser.left(state),
            Self::Spelling(_) => 0,
        }
    }

    /// Whether only one byte leads on; what needs no byte is not counted.
    fn forced(&mut self, state: u32) -> Option<u8> {
        match self {
            Self::Outline(outline) => outline.forced(state),
            Self::LeftCorner(parser) => parser.forced(state),
            Self::Automaton(_) | Self::Spelling(_) => None,
        }
    }

    fn class(&self, byte: u8) -> usize {
        match self {
            Self::Automaton(part) => part.class(byte),
            Self::Outline(outline) => outline.class(byte),
            Self::LeftCorner(parser) => parser.class(byte),
            Self::Spelling(_) => usize::from(byte),
        }
    }

    fn has_failed(&self) -> bool {
        match self {
            Self::Outline(outline) => outline.has_failed(),
            Self::LeftCorner(parser) => parser.has_failed(),
            Self::Automaton(_) | Self::Spelling(_) => false,
        }
    }
}
