//! Mask rows: one bit per row of the logits, 32 to a word, lowest id in the lowest bit; set means allowed.

/// Words of one row for `vocab_len` rows of the logits.
#[must_use]
pub const fn num_words(vocab_len: usize) -> usize {
    vocab_len.div_ceil(u32::BITS as usize)
}

/// Whether `row` allows `token`.
#[must_use]
pub fn is_allowed(row: &[u32], token: u32) -> bool {
    row.get(token as usize / 32).is_some_and(|word| word & (1 << (token % 32)) != 0)
}

/// The ids that `row` allows, lowest first.
pub fn allowed_tokens(row: &[u32]) -> impl Iterator<Item = u32> + '_ {
    row.iter().enumerate().flat_map(|(word_idx, &word)| {
        (0..u32::BITS).filter(move |bit| word & (1 << bit) != 0).map(move |bit| word_idx as u32 * 32 + bit)
    })
}

/// Allows `token`, which must lie inside the row.
pub(crate) fn allow(row: &mut [u32], token: u32) {
    row[token as usize / 32] |= 1 << (token % 32);
}

/// Forbids `token`, which must lie inside the row.
pub(crate) fn forbid(row: &mut [u32], token: u32) {
    row[token as usize / 32] &= !(1 << (token % 32));
}

/// Keeps what `other` allows too; words that `other` lacks count as zero.
pub(crate) fn intersect(row: &mut [u32], other: &[u32]) {
    let common = row.len().min(other.len());
    for (word, &keep) in row[..common].iter_mut().zip(other) {
        *word &= keep;
    }
    row[common..].fill(0);
}

/// Whether nothing is allowed.
pub(crate) fn is_empty(row: &[u32]) -> bool {
    row.iter().all(|&word| word == 0)
}

/// The masks of one step: `[num_rows, num_words]` words in one buffer that is reused from step to step.
///
/// Bits past the tokenizer's end are zero in every row that a [`Matcher`](super::Matcher) has filled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenMask {
    words: Vec<u32>,
    row_len: usize,
}

impl TokenMask {
    /// `num_rows` rows for logits of `vocab_len` rows, nothing allowed.
    #[must_use]
    pub fn new(num_rows: usize, vocab_len: usize) -> Self {
        let row_len = num_words(vocab_len);
        Self { words: vec![0; num_rows * row_len], row_len }
    }

    /// Makes room for `num_rows` rows; what they hold is unspecified.
    pub fn resize(&mut self, num_rows: usize) {
        self.words.resize(num_rows * self.row_len, 0);
    }

    /// Number of rows.
    #[must_use]
    pub fn num_rows(&self) -> usize {
        self.words.len().checked_div(self.row_len).unwrap_or(0)
    }

    /// Words of one row.
    #[must_use]
    pub fn num_words(&self) -> usize {
        self.row_len
    }

    /// One row.
    #[must_use]
    pub fn row(&self, row_idx: usize) -> &[u32] {
        &self.words[row_idx * self.row_len..][..self.row_len]
    }

    /// One row, to be filled.
    pub fn row_mut(&mut self, row_idx: usize) -> &mut [u32] {
        &mut self.words[row_idx * self.row_len..][..self.row_len]
    }

    /// All rows, to be filled in parallel.
    pub fn rows_mut(&mut self) -> std::slice::ChunksExactMut<'_, u32> {
        self.words.chunks_exact_mut(self.row_len.max(1))
    }

    /// All words, row after row, as they go to a device.
    #[must_use]
    pub fn words(&self) -> &[u32] {
        &self.words
    }
}

/// The fault that a `planted-fault` build plants: one wrong bit in every filled row.
#[cfg(feature = "planted-fault")]
pub(crate) fn plant_fault(row: &mut [u32], text: &[u32]) -> Option<u32> {
    let wrong = allowed_tokens(text).find(|&token| !is_allowed(row, token))?;
    allow(row, wrong);
    Some(wrong)
}

/// No fault is planted in this build.
#[cfg(not(feature = "planted-fault"))]
pub(crate) fn plant_fault(_row: &mut [u32], _text: &[u32]) -> Option<u32> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_room_for_every_id_and_no_more() {
        for (vocab_len, words) in [(0, 0), (1, 1), (32, 1), (33, 2), (32_256, 1_008)] {
            assert_eq!(num_words(vocab_len), words, "{vocab_len}");
        }
    }

    #[test]
    fn what_is_allowed_is_what_is_listed() {
        let mut mask = TokenMask::new(2, 70);
        for token in [0, 31, 32, 69] {
            allow(mask.row_mut(1), token);
        }
        forbid(mask.row_mut(1), 31);
        assert!(is_empty(mask.row(0)));
        assert_eq!(allowed_tokens(mask.row(1)).collect::<Vec<_>>(), [0, 32, 69]);
        assert!(!is_allowed(mask.row(1), 31) && !is_allowed(mask.row(1), 4_000));
    }

    #[test]
    fn a_shorter_mask_counts_as_zero_beyond_its_end() {
        let mut row = [u32::MAX; 3];
        intersect(&mut row, &[0b101, u32::MAX]);
        assert_eq!(row, [0b101, u32::MAX, 0]);
    }
}
