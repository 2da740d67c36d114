//! `limits.max_chars`: how many code points an output may still get.
//!
//! A code point is counted by its first byte, so a token that only continues a character costs nothing. That count is
//! the number of code points only where the bytes are UTF-8; the automaton that [`utf8`] makes sees to it.

use std::cmp::Reverse;
use std::sync::{Arc, OnceLock};

use regex_syntax::hir::{Dot, Hir, Repetition};

use super::automaton::RawDfa;
use super::{GuideConfig, GuideError, mask, regex};
use crate::constraint::MatchMode;
use crate::text::Vocabulary;

/// Code points left for which the row of allowed tokens is kept; most tokens are shorter.
const NUM_ROWS: usize = 8;

/// How many code points each text token begins.
pub(crate) struct CharCounts {
    /// Number of code points and id, the longest first.
    longest: Vec<(u32, u32)>,
    /// Rows of the tokens that fit, by the code points left.
    rows: [OnceLock<Box<[u32]>>; NUM_ROWS],
}

impl CharCounts {
    /// Counts every token of `text`: about 10 ms at 129k ids, once per model.
    pub(crate) fn new(vocabulary: &Vocabulary, text: &[u32]) -> Self {
        let count = |token| (num_chars(vocabulary.bytes(token)) as u32, token);
        let mut longest: Vec<(u32, u32)> = mask::allowed_tokens(text).map(count).collect();
        longest.sort_unstable_by_key(|&(count, token)| (Reverse(count), token));
        Self { longest, rows: Default::default() }
    }

    /// Keeps in `row` the tokens of at most `left` code points.
    fn intersect_mask(&self, left: usize, row: &mut [u32]) {
        let Some(cell) = self.rows.get(left) else { return self.forbid_longer(left, row) };
        let fits = cell.get_or_init(|| {
            let mut fits = vec![u32::MAX; row.len()];
            self.forbid_longer(left, &mut fits);
            fits.into()
        });
        mask::intersect(row, fits);
    }

    fn forbid_longer(&self, left: usize, row: &mut [u32]) {
        let longer = self.longest.iter().take_while(|(count, _)| *count as usize > left);
        longer.for_each(|&(_, token)| mask::forbid(row, token));
    }
}

/// The tightest `limits.max_chars` of a request.
pub(crate) struct CharLimit {
    pub(crate) part: String,
    pub(crate) max_chars: usize,
    pub(crate) counts: Arc<CharCounts>,
}

impl CharLimit {
    /// Keeps in `row` what fits after `num_chars` code points: at most 1 us per thousand tokens of more than seven.
    pub(crate) fn intersect_mask(&self, num_chars: usize, row: &mut [u32]) {
        self.counts.intersect_mask(self.max_chars.saturating_sub(num_chars), row);
    }

    /// Whether `bytes` fit after `num_chars` code points.
    pub(crate) fn allows(&self, so_far: usize, bytes: &[u8]) -> bool {
        so_far + num_chars(bytes) <= self.max_chars
    }
}

/// Code points that begin in `bytes`.
pub(crate) fn num_chars(bytes: &[u8]) -> usize {
    bytes.iter().filter(|&&byte| byte & 0xC0 != 0x80).count()
}

/// The automaton of all UTF-8 texts.
///
/// # Errors
/// [`GuideError::Internal`] if it cannot be built.
pub(crate) fn utf8(part: &str) -> Result<RawDfa, GuideError> {
    let any = Box::new(Hir::dot(Dot::AnyChar));
    let text = Hir::repetition(Repetition { min: 0, max: None, greedy: true, sub: any });
    // Always the same nine states, whatever a request may cost.
    regex::automaton(part, &text, MatchMode::Full, &GuideConfig::default())
}
