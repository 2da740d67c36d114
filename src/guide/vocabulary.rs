//! The vocabulary in the order in which automata walk it.

use std::sync::OnceLock;

use super::mask;
use crate::text::Vocabulary;

/// All text tokens as a trie, in the order of their bytes.
///
/// The nodes stand in preorder, so that a walk is one pass over an array: one step of the automaton for each node, and
/// one jump over everything that begins with a refused prefix.
pub(crate) struct SortedTokens {
    nodes: Vec<Node>,
    /// The tokens by their bytes; those of one node stand together.
    ids: Vec<u32>,
    max_len: usize,
    /// Tokens that begin with each byte.
    num_by_first_byte: Box<[u32; 256]>,
    split: OnceLock<Box<SplitTokens>>,
}

/// The tokens in two, for automata that refuse hardly anything inside a line.
pub(crate) struct SplitTokens {
    /// Those without line feeds, backslashes and `#`.
    pub(crate) plain: SortedTokens,
    /// The same as a mask.
    pub(crate) plain_row: Vec<u32>,
    /// The most brackets that one of them opens.
    pub(crate) max_opened: usize,
    /// The others.
    pub(crate) other: SortedTokens,
}

/// What becomes of all tokens that begin with the same bytes.
#[derive(Clone, Copy)]
pub(crate) enum Way<S> {
    /// None of them is let through.
    Refused,
    /// Each is followed further.
    On(S),
    /// All of them are let through.
    All,
}

/// The end of one byte of one or more tokens.
struct Node {
    /// The next node that is not below this one.
    end: u32,
    /// The first token at this node or after it.
    first_id: u32,
    /// Number of bytes up to and including this one, above the byte itself in the lowest eight bits.
    depth_and_byte: u32,
}

impl Node {
    fn depth(&self) -> usize {
        (self.depth_and_byte >> 8) as usize
    }

    fn byte(&self) -> u8 {
        self.depth_and_byte as u8
    }
}

impl SortedTokens {
    /// Sorts the ids that may be sampled as text: about 50 ms and 5 MB at 129k ids, once per model.
    pub(crate) fn new(vocabulary: &Vocabulary) -> Self {
        let text = super::tokens::text_row(vocabulary);
        let mut ids: Vec<u32> = mask::allowed_tokens(&text).collect();
        ids.sort_by_key(|&token| vocabulary.bytes(token));
        let texts: Vec<&[u8]> = ids.iter().map(|&token| vocabulary.bytes(token)).collect();
        Self::of_sorted(&texts, ids)
    }

    /// The trie of tokens that are sorted by their bytes.
    fn of_sorted(texts: &[impl AsRef<[u8]>], ids: Vec<u32>) -> Self {
        let (mut nodes, mut open, mut before) = (Vec::<Node>::new(), Vec::<usize>::new(), &[][..]);
        let mut num_by_first_byte = Box::new([0; 256]);
        let mut max_len = 0;
        for (first_id, bytes) in (0u32..).zip(texts) {
            let bytes = bytes.as_ref();
            let shared = before.iter().zip(bytes).take_while(|(a, b)| a == b).count();
            for closed in open.drain(shared..) {
                nodes[closed].end = nodes.len() as u32;
            }
            for (depth, &byte) in (1u32..).zip(bytes).skip(shared) {
                open.push(nodes.len());
                nodes.push(Node { end: 0, first_id, depth_and_byte: (depth << 8) | u32::from(byte) });
            }
            num_by_first_byte[bytes[0] as usize] += 1;
            max_len = max_len.max(bytes.len());
            before = bytes;
        }
        for closed in open {
            nodes[closed].end = nodes.len() as u32;
        }
        // Every node's tokens end where the next node's begin.
        nodes.push(Node { end: 0, first_id: ids.len() as u32, depth_and_byte: 0 });
        Self { nodes, ids, max_len, num_by_first_byte, split: OnceLock::new() }
    }

    /// The tokens in two: about as much work and memory as the trie itself, the first time.
    pub(crate) fn split(&self) -> &SplitTokens {
        self.split.get_or_init(|| Box::new(self.make_split()))
    }

    fn make_split(&self) -> SplitTokens {
        let (mut plain, mut other) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
        let mut plain_row = vec![0; mask::num_words(self.ids.iter().max().map_or(0, |&id| id as usize + 1))];
        let mut max_opened = 0;
        let mut text = Vec::new();
        for at in 0..self.nodes.len() - 1 {
            text.truncate(self.nodes[at].depth() - 1);
            text.push(self.nodes[at].byte());
            let is_plain = !text.iter().any(|byte| b"\n\\#".contains(byte));
            let (texts, ids): &mut (Vec<Vec<u8>>, Vec<u32>) = if is_plain { &mut plain } else { &mut other };
            for &id in self.tokens_at(at) {
                texts.push(text.clone());
                ids.push(id);
                if is_plain {
                    mask::allow(&mut plain_row, id);
                    max_opened = max_opened.max(text.iter().filter(|byte| b"([{".contains(byte)).count());
                }
            }
        }
        let plain = Self::of_sorted(&plain.0, plain.1);
        SplitTokens { plain, plain_row, max_opened, other: Self::of_sorted(&other.0, other.1) }
    }

    /// The place one byte further inside a token: places are counted from 1, and 0 stands before any byte.
    pub(crate) fn child(&self, place: u32, byte: u8) -> Option<u32> {
        let (mut at, end) = match (place as usize).checked_sub(1) {
            None => (0, self.nodes.len() - 1),
            Some(node) => (node + 1, self.nodes[node].end as usize),
        };
        while at < end && self.nodes[at].byte() != byte {
            at = self.nodes[at].end as usize;
        }
        (at < end).then_some(at as u32 + 1)
    }

    /// Whether a token that `row` allows ends at a place.
    pub(crate) fn ends_allowed(&self, place: u32, row: &[u32]) -> bool {
        let node = (place as usize).checked_sub(1);
        node.is_some_and(|node| self.tokens_at(node).iter().any(|&token| mask::is_allowed(row, token)))
    }

    /// The tokens that `text` begins with, with their lengths in bytes, longest first.
    pub(crate) fn prefixes_of(&self, text: &[u8]) -> Vec<(u32, usize)> {
        let mut found = Vec::new();
        let mut place = 0;
        for (len, &byte) in (1..).zip(text) {
            let Some(child) = self.child(place, byte) else { break };
            place = child;
            found.extend(self.tokens_at(place as usize - 1).iter().map(|&token| (token, len)));
        }
        found.reverse();
        found
    }

    /// Bytes of the longest token.
    pub(crate) fn max_len(&self) -> usize {
        self.max_len
    }

    pub(crate) fn num_tokens(&self) -> usize {
        self.ids.len()
    }

    /// Tokens that begin with each byte.
    pub(crate) fn num_by_first_byte(&self) -> &[u32; 256] {
        &self.num_by_first_byte
    }

    pub(crate) fn num_nodes(&self) -> usize {
        self.nodes.len() - 1
    }

    /// How many bytes there are up to and including a node's, and its byte.
    pub(crate) fn depth_and_byte(&self, node: usize) -> (usize, u8) {
        (self.nodes[node].depth(), self.nodes[node].byte())
    }

    /// The next node that is not below one.
    pub(crate) fn end_of(&self, node: usize) -> usize {
        self.nodes[node].end as usize
    }

    /// The tokens that end at a node.
    pub(crate) fn tokens_at(&self, node: usize) -> &[u32] {
        &self.ids[self.nodes[node].first_id as usize..self.nodes[node + 1].first_id as usize]
    }

    /// Follows every token from `start` and calls `visit` with the tokens that `step` lets through and the state after
    /// them.
    pub(crate) fn walk<S: Copy>(
        &self,
        start: S,
        mut step: impl FnMut(S, u8) -> Option<S>,
        mut visit: impl FnMut(&[u32], S),
    ) {
        // states[depth] is the state after `depth` bytes of the current token.
        let mut states = vec![start; self.max_len + 1];
        let mut at = 0;
        while at + 1 < self.nodes.len() {
            let node = &self.nodes[at];
            let Some(state) = step(states[node.depth() - 1], node.byte()) else {
                at = node.end as usize;
                continue;
            };
            states[node.depth()] = state;
            visit(self.tokens_at(at), state);
            at += 1;
        }
    }

    /// Follows every token from `start` and calls `allow` with those that are let through; where all are, none is
    /// followed further.
    pub(crate) fn walk_ways<S: Copy>(
        &self,
        start: S,
        mut step: impl FnMut(S, u8) -> Way<S>,
        mut allow: impl FnMut(&[u32]),
    ) {
        let mut states = vec![start; self.max_len + 1];
        let mut at = 0;
        while at + 1 < self.nodes.len() {
            let node = &self.nodes[at];
            let below = node.end as usize;
            match step(states[node.depth() - 1], node.byte()) {
                Way::Refused => at = below,
                Way::All => {
                    allow(&self.ids[node.first_id as usize..self.nodes[below].first_id as usize]);
                    at = below;
                }
                Way::On(state) => {
                    states[node.depth()] = state;
                    allow(self.tokens_at(at));
                    at += 1;
                }
            }
        }
    }

    /// Follows every token from two states at once, skips what begins with bytes that lead both to the same state, and
    /// calls `visit` with the other tokens and the two states after them.
    ///
    /// For states of an automaton that forgets, that is some hundred nodes of hundreds of thousands.
    pub(crate) fn walk_pair<S: Copy + PartialEq>(
        &self,
        starts: (S, S),
        mut step: impl FnMut(S, u8) -> S,
        mut visit: impl FnMut(&[u32], S, S),
    ) {
        let mut states = vec![starts; self.max_len + 1];
        let mut at = 0;
        while at + 1 < self.nodes.len() {
            let node = &self.nodes[at];
            let (left, right) = states[node.depth() - 1];
            let pair = (step(left, node.byte()), step(right, node.byte()));
            if pair.0 == pair.1 {
                at = node.end as usize;
                continue;
            }
            states[node.depth()] = pair;
            visit(self.tokens_at(at), pair.0, pair.1);
            at += 1;
        }
    }
}
