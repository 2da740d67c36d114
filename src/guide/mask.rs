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
        let mut row = [0; num_words(70)];
        assert!(is_empty(&row));
        for token in [0, 31, 32, 69] {
            allow(&mut row, token);
        }
        forbid(&mut row, 31);
        assert_eq!(allowed_tokens(&row).collect::<Vec<_>>(), [0, 32, 69]);
        assert!(!is_allowed(&row, 31) && !is_allowed(&row, 4_000));
    }

    #[test]
    fn a_shorter_mask_counts_as_zero_beyond_its_end() {
        let mut row = [u32::MAX; 3];
        intersect(&mut row, &[0b101, u32::MAX]);
        assert_eq!(row, [0b101, u32::MAX, 0]);
    }
}
