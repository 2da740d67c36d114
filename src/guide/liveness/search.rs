//! The search for a witness over the real masks: depth first, byte by byte, what closes soonest first.
//!
//! It knows nothing of grammars. What the automata still need is known exactly; of the rest, the masks tell: closing
//! brackets go before openers, and a kind of byte that has just led back to the same mask waits its turn.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use super::tiling;
use crate::guide::compiled::CompiledConstraint;
use crate::guide::matcher::Matcher;
use crate::guide::{GuideError, mask};

/// Choices after which a cycle is known as one.
const LONGEST_CYCLE: usize = 8;

/// Closing brackets.
const BRACKETS: &[u8] = b"}])";

/// Earley items and lexer steps of one unit of fuel: about 12 us.
const WORK_OF_AN_EASY_MASK: usize = 256;

/// Forced bytes that are followed for one unit of fuel.
const FORCED_BYTES_PER_UNIT: usize = 16;

/// One search from where a matcher stands; the matcher is where it was when the search is over.
pub(crate) struct Search<'m> {
    matcher: &'m mut Matcher,
    compiled: Arc<CompiledConstraint>,
    row: Vec<u32>,
    max_tokens: usize,
    fuel: usize,
    /// Tokens accepted since the search began.
    path: Vec<u32>,
    frames: Vec<Frame>,
    /// Where the output must end, because `max_tokens` cannot spell more.
    max_bytes: usize,
    /// Whether something was left out because of a bound, so that finding nothing proves nothing.
    was_bounded: bool,
}

/// What a search found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A complete continuation.
    Found(Vec<u32>),
    /// Every continuation was tried, and none is complete.
    Exhausted,
    /// A bound was reached first.
    GaveUp,
}

impl Outcome {
    /// The continuation, where there is one.
    pub(crate) fn tokens(self) -> Option<Vec<u32>> {
        match self {
            Self::Found(tokens) => Some(tokens),
            Self::Exhausted | Self::GaveUp => None,
        }
    }
}

/// A place where the search chose, with what it has not tried.
struct Frame {
    /// Tokens accepted before the choice.
    depth: usize,
    /// Digest of the steps that were allowed.
    mask: u64,
    /// Whether brackets of several kinds may be closed, as inside a string or a comment.
    is_wide: bool,
    /// Best last.
    untried: Vec<u32>,
    /// First byte of the step taken.
    tried: Option<u8>,
}

impl<'m> Search<'m> {
    pub(crate) fn new(matcher: &'m mut Matcher, max_tokens: usize, fuel: usize) -> Self {
        let compiled = Arc::clone(matcher.compiled());
        let row = vec![0; compiled.text.len()];
        let longest = max_tokens.saturating_mul(compiled.tokens.max_len());
        let max_bytes = matcher.num_bytes().saturating_add(longest);
        Self {
            matcher,
            compiled,
            row,
            max_tokens,
            fuel,
            path: Vec::new(),
            frames: Vec::new(),
            max_bytes,
            was_bounded: false,
        }
    }

    /// Searches, and takes back whatever it accepted.
    pub(crate) fn run(mut self) -> Result<Outcome, GuideError> {
        if self.matcher.has_ended() {
            return Ok(Outcome::Found(Vec::new()));
        }
        let outcome = self.dive();
        self.matcher.rollback(self.path.len())?;
        outcome
    }

    fn dive(&mut self) -> Result<Outcome, GuideError> {
        let mut has_moved = true;
        loop {
            if has_moved && let Some(outcome) = self.arrive()? {
                return Ok(outcome);
            }
            has_moved = match self.next()? {
                Some(accepted) => accepted,
                None if self.was_bounded => return Ok(Outcome::GaveUp),
                None => return Ok(Outcome::Exhausted),
            };
        }
    }

    /// Looks around in a new place: a complete output ends the search, and so does the end of the fuel.
    fn arrive(&mut self) -> Result<Option<Outcome>, GuideError> {
        if !self.follow_forced()? {
            return Ok(None);
        }
        if self.matcher.is_complete()? {
            if let Some(tokens) = self.tiled()? {
                return Ok(Some(Outcome::Found(tokens)));
            }
            self.was_bounded = true;
        }
        if self.fuel == 0 {
            return Ok(Some(Outcome::GaveUp));
        }
        self.choose()?;
        // An easy mask is one unit; a hard one counts as the easy ones that could be had for it.
        self.fuel = self.fuel.saturating_sub(1 + self.matcher.last_mask_work() / WORK_OF_AN_EASY_MASK);
        Ok(None)
    }

    /// The path in as few tokens as it takes, where that is few enough.
    fn tiled(&mut self) -> Result<Option<Vec<u32>>, GuideError> {
        let compiled = Arc::clone(&self.compiled);
        let tiling = tiling::fewest_tokens(&self.text(), &compiled.tokens, &compiled.allowed);
        let Some(tiling) = tiling.filter(|tiling| tiling.len() <= self.max_tokens) else { return Ok(None) };
        // Parts judge bytes, so that any split of the text is as good; walking it makes sure.
        self.matcher.rollback(self.path.len())?;
        let path = std::mem::take(&mut self.path);
        let holds = self.accept_all(&tiling)? && self.matcher.is_complete()?;
        self.matcher.rollback(self.path.len())?;
        self.path.clear();
        if !self.accept_all(&path)? {
            return Err(GuideError::internal("constraints", "a path that was taken is refused"));
        }
        Ok(if holds { Some(tiling) } else { Some(path).filter(|path| path.len() <= self.max_tokens) })
    }

    /// Text of the tokens on the path.
    fn text(&self) -> Vec<u8> {
        self.path.iter().flat_map(|&token| self.compiled.vocabulary.bytes(token)).copied().collect()
    }

    fn accept_all(&mut self, tokens: &[u32]) -> Result<bool, GuideError> {
        for &token in tokens {
            if !self.accept(token)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn accept(&mut self, token: u32) -> Result<bool, GuideError> {
        match self.matcher.accept(token) {
            Ok(()) => self.path.push(token),
            Err(GuideError::NotAllowed { .. }) => return Ok(false),
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    /// Takes the bytes that a structural part forces; `false` where another part refuses one of them.
    fn follow_forced(&mut self) -> Result<bool, GuideError> {
        // The first step is by a mask, because forced bytes stay with the library until a token is taken back.
        while !self.path.is_empty() && !self.matcher.is_complete()? {
            let forced = self.matcher.forced_bytes();
            let tokens: Option<Vec<u32>> = forced.iter().map(|&byte| self.compiled.alphabet().token(byte)).collect();
            match tokens {
                Some(tokens) if !tokens.is_empty() => {
                    // A text that is forced all the way may still be a million bytes long.
                    self.fuel = self.fuel.saturating_sub(1 + tokens.len() / FORCED_BYTES_PER_UNIT);
                    if self.fuel == 0 {
                        break;
                    }
                    if !self.accept_all(&tokens)? {
                        return Ok(false);
                    }
                }
                _ => break,
            }
        }
        Ok(true)
    }

    /// Lists what may follow here.
    fn choose(&mut self) -> Result<(), GuideError> {
        self.matcher.fill_text(&mut self.row)?;
        let mut untried: Vec<u32> = self.compiled.alphabet().steps(&self.row).collect();
        // Longer tokens would tell places apart that only differ in how often something can still follow.
        let digest = BuildHasherDefault::<DefaultHasher>::default().hash_one(&untried);
        // In code only the innermost bracket can be closed.
        let closes = |byte: &&u8| {
            let token = self.compiled.alphabet().token(**byte);
            token.is_some_and(|token| mask::is_allowed(&self.row, token))
        };
        let is_wide = BRACKETS.iter().filter(closes).count() > 1;
        let taken = self.taken_in_vain(digest, is_wide);
        if self.matcher.num_bytes() >= self.max_bytes {
            self.was_bounded |= !untried.is_empty();
            untried.clear();
        }
        let mut taken_by_kind = [0; 256];
        for byte in 0..=u8::MAX {
            taken_by_kind[usize::from(kind(&[byte]))] += taken[usize::from(byte)];
        }
        untried.sort_by_cached_key(|&token| {
            let bytes = self.compiled.vocabulary.bytes(token);
            let kind = kind(bytes);
            // Outside of text, what is closed again and again is what was opened.
            let patience = if !is_wide && BRACKETS.contains(&kind) { 16 } else { 1 };
            // Rarely taken and often taken differ in magnitude only, so that long texts are runs of one byte.
            let weariness = |taken: u32| u32::BITS - (taken / patience).leading_zeros();
            let of_kind = weariness(taken_by_kind[usize::from(kind)]);
            let of_byte = bytes.first().map_or(0, |&byte| weariness(taken[usize::from(byte)]));
            std::cmp::Reverse((self.matcher.min_bytes_to_end(token), of_kind, of_byte, rank(bytes, is_wide), token))
        });
        self.frames.push(Frame { depth: self.path.len(), mask: digest, is_wide, untried, tried: None });
        Ok(())
    }

    /// How often each byte was taken, just before, without getting away from this mask: at once, or by way of
    /// a few steps that were repeated to the byte.
    fn taken_in_vain(&self, mask: u64, is_wide: bool) -> [u32; 256] {
        let mut taken = [0; 256];
        for period in 1..=LONGEST_CYCLE {
            let (mut at, mut end) = (self.frames.len(), self.path.len());
            let mut cycle = None;
            while let Some(frame) = at.checked_sub(period).map(|from| &self.frames[from]) {
                let steps = &self.path[frame.depth..end];
                let is_same = if period == 1 {
                    frame.mask == mask || (is_wide && frame.is_wide)
                } else {
                    frame.mask == mask && *cycle.get_or_insert(steps) == steps
                };
                if !is_same {
                    break;
                }
                // What came about once by several steps may be another place that looks the same.
                let is_loop = period == 1 || end < self.path.len();
                if let Some(byte) = frame.tried.filter(|_| is_loop) {
                    taken[usize::from(byte)] += 1;
                }
                (at, end) = (at - period, frame.depth);
            }
        }
        taken
    }

    /// Goes on with the best choice not yet tried, back along the path if need be; `None` when all were tried, `false`
    /// when the choice was refused.
    fn next(&mut self) -> Result<Option<bool>, GuideError> {
        while let Some(frame) = self.frames.last_mut() {
            let (depth, token) = (frame.depth, frame.untried.pop());
            self.matcher.rollback(self.path.len() - depth)?;
            self.path.truncate(depth);
            let Some(token) = token else {
                self.frames.pop();
                continue;
            };
            let compiled = Arc::clone(&self.compiled);
            let bytes = compiled.vocabulary.bytes(token);
            if let Some(frame) = self.frames.last_mut() {
                frame.tried = bytes.first().copied();
            }
            return self.accept(token).map(Some);
        }
        Ok(None)
    }
}

/// Bytes that do the same to most grammars: letters are alike, every sign is its own kind.
type Kind = u8;

fn kind(bytes: &[u8]) -> Kind {
    match bytes.first() {
        Some(byte) if byte.is_ascii_lowercase() => b'a',
        Some(byte) if byte.is_ascii_uppercase() => b'A',
        Some(byte) if byte.is_ascii_digit() => b'0',
        Some(0x80..=0xbf) => 0x80,
        Some(0xc0..) => 0xc0,
        Some(&byte) => byte,
        None => 0,
    }
}

/// How late a token is tried: what closes comes first, what opens something comes last.
fn rank(bytes: &[u8], is_wide: bool) -> u32 {
    const CLOSING: &[u8] = b"}]);>,\"";
    const OPENING: &[u8] = b"([{<'`/ \n\t\r\\";
    /// Inside a string or a comment; `*` before `/`, so that the first attempt to close a comment does.
    const CLOSING_TEXT: &[u8] = b"\"'`*/\n";
    let Some(&byte) = bytes.first() else { return u32::MAX };
    let place = |list: &[u8]| list.iter().position(|&listed| listed == byte).map(|at| at as u32);
    match (place(if is_wide { CLOSING_TEXT } else { CLOSING }), place(OPENING)) {
        (Some(at), _) => at,
        (_, Some(at)) => 800 + at,
        _ if byte.is_ascii_alphanumeric() => 100 + u32::from(byte),
        _ if byte.is_ascii_graphic() => 400 + u32::from(byte),
        _ => 900 + u32::from(byte),
    }
}
