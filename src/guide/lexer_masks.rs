//! Masks of structural parts, kept by the state of their lexer.
//!
//! A token meets a grammar in two halves. While its bytes go on inside the lexeme that is being read, the lexer alone is
//! asked, and nothing but its state decides; only where a byte ends a lexeme is the parser asked. llguidance follows the
//! whole vocabulary for each mask all the same, unless one of its slices holds. Here the first half is kept for states
//! that come back: which tokens stay inside, and at which bytes others leave. Such a mask asks the parser about those
//! bytes and what is behind them, and nothing else, in the order in which a whole walk would.

use std::cell::RefCell;
use std::collections::HashMap;
use std::mem::discriminant;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use llguidance::derivre::StateID;
use llguidance::earley::{BiasComputer, ParserRecognizer, SlicedBiasComputer};
use llguidance::toktrie::{Recognizer, SimpleVob, TokTrie};

use super::GuideConfig;
use super::vocabulary::SortedTokens;

/// Nodes between two looks at whether the mask is still wanted: some 10 us.
const NODES_PER_LOOK: usize = 1024;
/// Below a node with fewer nodes, all are followed: some 2 us.
const MIN_NODES_TO_KEEP: usize = 200;

/// What becomes of the tokens below one node of the trie from one state of a lexer, as far as the lexer alone knows.
struct Split {
    /// Those that go on inside the lexeme.
    inside: Tokens,
    /// Where the others leave it, in preorder, the nodes on the way there among them.
    places: Box<[Place]>,
    room: Arc<AtomicUsize>,
}

/// Tokens in whichever form is smaller.
enum Tokens {
    Bits(SimpleVob),
    Ids(Box<[u32]>),
}

/// A node of the trie, and whether the byte that leads to it ends a lexeme.
#[derive(Clone, Copy)]
struct Place(u32);

impl Place {
    fn new(node: usize, leaves: bool) -> Self {
        Self((node as u32) << 1 | u32::from(leaves))
    }

    fn node(self) -> usize {
        (self.0 >> 1) as usize
    }

    fn leaves(self) -> bool {
        self.0 & 1 == 1
    }
}

impl Split {
    fn num_bytes(&self) -> usize {
        let inside = match &self.inside {
            Tokens::Bits(bits) => size_of_val(bits.as_slice()),
            Tokens::Ids(ids) => size_of_val(&**ids),
        };
        size_of::<Self>() + inside + size_of_val(&*self.places)
    }
}

impl Drop for Split {
    fn drop(&mut self) {
        self.room.fetch_add(self.num_bytes(), Ordering::Relaxed);
    }
}

/// What one lexer's states have in keeping. A lexer numbers its states as it meets them, so the numbers mean nothing to
/// another one; a copy of a lexer knows those that it was made with, and so takes a copy of this.
#[derive(Clone, Default)]
pub(crate) struct LexerMasks(Arc<Mutex<Kept>>);

#[derive(Clone, Default)]
struct Kept {
    states: HashMap<(StateID, Below), Known>,
    num_bytes: usize,
}

/// The nodes below one, itself not among them: a range in preorder.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Below {
    first: u32,
    end: u32,
}

#[derive(Clone)]
enum Known {
    /// Its mask took a walk that is worth keeping.
    Costly,
    Split(Arc<Split>),
    NoRoom,
}

thread_local! {
    /// Of the lexer whose mask this thread is computing: llguidance does not say which lexer it asks about.
    static CURRENT: RefCell<Option<LexerMasks>> = const { RefCell::new(None) };
}

impl LexerMasks {
    /// For a copy of the lexer that shares nothing with it.
    pub(crate) fn deep_clone(&self) -> Self {
        Self(Arc::new(Mutex::new(self.lock().clone())))
    }

    /// Computes a mask of this lexer's matcher.
    pub(crate) fn while_computing<T>(&self, compute: impl FnOnce() -> T) -> T {
        struct Leave;
        impl Drop for Leave {
            fn drop(&mut self) {
                CURRENT.set(None);
            }
        }
        CURRENT.set(Some(self.clone()));
        let _leave = Leave;
        compute()
    }

    #[cfg(test)]
    pub(crate) fn num_kept(&self) -> usize {
        self.lock().states.values().filter(|known| matches!(known, Known::Split(_))).count()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Computes masks of structural parts over one vocabulary.
pub(crate) struct MasksByLexer {
    slices: Arc<SlicedBiasComputer>,
    tokens: Arc<SortedTokens>,
    /// Bytes that may still be kept, by all lexers together.
    room: Arc<AtomicUsize>,
    bytes_per_lexer: usize,
    min_walk: usize,
}

impl MasksByLexer {
    pub(crate) fn new(slices: Arc<SlicedBiasComputer>, tokens: Arc<SortedTokens>, config: &GuideConfig) -> Self {
        let room = Arc::new(AtomicUsize::new(config.all_lexer_mask_bytes));
        let (bytes_per_lexer, min_walk) = (config.lexer_mask_bytes, config.min_lexer_mask_walk);
        Self { slices, tokens, room, bytes_per_lexer, min_walk }
    }

    #[cfg(test)]
    pub(crate) fn room(&self) -> usize {
        self.room.load(Ordering::Relaxed)
    }

    /// As llguidance does it; remembers the state where that took a long walk.
    fn sliced(&self, rec: &mut ParserRecognizer<'_>, kept: &LexerMasks, key: (StateID, Below)) -> SimpleVob {
        let num_walked = rec.stats_mut().trie_nodes_walked;
        let mask = self.slices.compute_bias(rec, &[]);
        if rec.stats_mut().trie_nodes_walked - num_walked >= self.min_walk {
            kept.lock().states.entry(key).or_insert(Known::Costly);
        }
        mask
    }

    fn below(&self, node: usize) -> Below {
        Below { first: node as u32 + 1, end: self.tokens.end_of(node) as u32 }
    }

    fn all(&self) -> Below {
        Below { first: 0, end: self.tokens.num_nodes() as u32 }
    }

    /// Follows tokens through the lexer alone; `None` where the mask is no longer wanted.
    fn split(&self, rec: &mut ParserRecognizer<'_>, from: StateID, below: Below) -> Option<Split> {
        let tokens = &*self.tokens;
        let no_end = discriminant(&rec.lexer_mut().try_lexeme_end(StateID::DEAD));
        let (mut inside, mut places) = (Vec::new(), Vec::new());
        let mut at = below.first as usize;
        let base = if at == 0 { 0 } else { tokens.depth_and_byte(at - 1).0 };
        // The state after each byte of the way to a node, and the nodes of that way, of which the first ones are noted.
        let (mut states, mut way, mut num_noted) = (vec![from], Vec::new(), 0);
        let mut num_steps = 0_usize;
        while at < below.end as usize {
            num_steps += 1;
            if num_steps.is_multiple_of(NODES_PER_LOOK) && rec.cancellation_requested() {
                return None;
            }
            let (depth, byte) = tokens.depth_and_byte(at);
            let depth = depth - base;
            states.truncate(depth);
            way.truncate(depth - 1);
            num_noted = num_noted.min(depth - 1);
            let state = states[depth - 1];
            let lexer = rec.lexer_mut();
            let next = lexer.transition_start_state(state, Some(byte), &None);
            if !next.is_dead() && !next.has_lowest_match() {
                inside.extend_from_slice(tokens.tokens_at(at));
                states.push(next);
                way.push(at);
                at += 1;
                continue;
            }
            if !next.is_dead() || discriminant(&lexer.try_lexeme_end(state)) != no_end {
                places.extend(way[num_noted..].iter().map(|&node| Place::new(node, false)));
                places.push(Place::new(at, true));
                num_noted = way.len();
            }
            at = tokens.end_of(at);
        }
        rec.save_stats(num_steps);
        let mut bits = self.trie().alloc_token_set();
        let inside = if inside.len() > bits.as_slice().len() {
            inside.iter().for_each(|&token| bits.allow_token(token));
            Tokens::Bits(bits)
        } else {
            Tokens::Ids(inside.into())
        };
        // As long as it is not kept, nothing is given back.
        Some(Split { inside, places: places.into(), room: Arc::default() })
    }

    /// Keeps it, if there is room.
    fn keep(&self, kept: &LexerMasks, key: (StateID, Below), mut split: Split) -> Arc<Split> {
        let num_bytes = split.num_bytes();
        let mut kept = kept.lock();
        let less = |room: usize| room.checked_sub(num_bytes);
        let has_room = kept.num_bytes + num_bytes <= self.bytes_per_lexer
            && self.room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok();
        if has_room {
            split.room = Arc::clone(&self.room);
            kept.num_bytes += num_bytes;
        }
        let split = Arc::new(split);
        let known = if has_room { Known::Split(Arc::clone(&split)) } else { Known::NoRoom };
        kept.states.insert(key, known);
        split
    }
}

impl BiasComputer for MasksByLexer {
    fn compute_bias(&self, rec: &mut ParserRecognizer<'_>, start: &[u8]) -> SimpleVob {
        let Some(kept) = CURRENT.with_borrow(Option::clone).filter(|_| start.is_empty()) else {
            return self.slices.compute_bias(rec, start);
        };
        let key = (rec.lexer_state(), self.all());
        let known = kept.lock().states.get(&key).cloned();
        match known {
            Some(Known::NoRoom) => self.slices.compute_bias(rec, start),
            None if self.min_walk > 0 => self.sliced(rec, &kept, key),
            _ => Walk::mask(self, rec, &kept),
        }
    }

    fn trie(&self) -> &TokTrie {
        self.slices.trie()
    }
}

/// A walk over the trie with the parser.
struct Walk<'a, 'b> {
    masks: &'a MasksByLexer,
    kept: &'a LexerMasks,
    rec: &'a mut ParserRecognizer<'b>,
    mask: SimpleVob,
    /// Bytes that the parser has been given.
    depth: usize,
    num_walked: usize,
    is_wanted: bool,
}

impl<'a, 'b> Walk<'a, 'b> {
    fn mask(masks: &'a MasksByLexer, rec: &'a mut ParserRecognizer<'b>, kept: &'a LexerMasks) -> SimpleVob {
        let mask = masks.trie().alloc_token_set();
        let mut walk = Self { masks, kept, rec, mask, depth: 0, num_walked: 0, is_wanted: true };
        walk.rec.trie_started("lexer state");
        walk.allow_below(masks.all());
        walk.rec.pop_bytes(walk.depth);
        walk.rec.trie_finished();
        walk.rec.save_stats(walk.num_walked);
        walk.mask
    }

    /// Allows what may follow in the trie below what the parser has taken.
    fn allow_below(&mut self, below: Below) {
        if below.end as usize - (below.first as usize) < self.masks.min_walk.min(MIN_NODES_TO_KEEP) {
            return self.follow(below);
        }
        let key = (self.rec.lexer_state(), below);
        let known = self.kept.lock().states.get(&key).cloned();
        match known {
            Some(Known::Split(split)) => self.ask_where_left(&split),
            Some(Known::NoRoom) => self.follow(below),
            None if self.masks.min_walk > 0 => {
                self.kept.lock().states.insert(key, Known::Costly);
                self.follow(below);
            }
            Some(Known::Costly) | None => match self.masks.split(self.rec, key.0, below) {
                Some(split) => {
                    let split = self.masks.keep(self.kept, key, split);
                    self.ask_where_left(&split);
                }
                None => self.is_wanted = false,
            },
        }
    }

    /// Allows what goes on inside the lexeme, and asks the parser about what leaves it.
    fn ask_where_left(&mut self, split: &Split) {
        match &split.inside {
            Tokens::Bits(bits) => self.mask.or(bits),
            Tokens::Ids(ids) => ids.iter().for_each(|&token| self.mask.allow_token(token)),
        }
        // What is below a node that was refused.
        let mut refused_to = 0;
        for &place in &split.places {
            let node = place.node();
            if node < refused_to {
                continue;
            }
            if !self.is_wanted {
                return;
            }
            let is_let_through = self.push(node);
            if !is_let_through {
                refused_to = self.masks.tokens.end_of(node);
            } else if place.leaves() {
                self.allow(node);
                self.allow_below(self.masks.below(node));
            }
        }
    }

    /// Gives the parser every byte.
    fn follow(&mut self, below: Below) {
        let mut at = below.first as usize;
        while at < below.end as usize && self.is_wanted {
            if self.push(at) {
                self.allow(at);
                at += 1;
            } else {
                at = self.masks.tokens.end_of(at);
            }
        }
    }

    /// Gives the parser the byte of a node, whose parent was the last one on this way that it took.
    fn push(&mut self, node: usize) -> bool {
        let (depth, byte) = self.masks.tokens.depth_and_byte(node);
        if self.depth >= depth {
            self.rec.pop_bytes(self.depth + 1 - depth);
        }
        let is_let_through = self.rec.try_push_byte(byte);
        self.depth = depth - usize::from(!is_let_through);
        self.num_walked += 1;
        if self.num_walked.is_multiple_of(NODES_PER_LOOK) {
            self.is_wanted &= !self.rec.cancellation_requested();
        }
        is_let_through
    }

    fn allow(&mut self, node: usize) {
        self.masks.tokens.tokens_at(node).iter().for_each(|&token| self.mask.allow_token(token));
    }
}
