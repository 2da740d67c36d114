//! Id lists: which token ids may be sampled, whatever their text. They never govern end tokens.

use super::{GuideConfig, GuideError, mask};
use crate::constraint::{Digest, TokenMasks};
use crate::text::Vocabulary;

/// A row with every id that may be sampled as text.
pub(crate) fn text_row(vocabulary: &Vocabulary) -> Vec<u32> {
    let mut row = vec![0; mask::num_words(vocabulary.num_rows())];
    for token in (0..vocabulary.num_tokens() as u32).filter(|&token| vocabulary.is_text(token)) {
        mask::allow(&mut row, token);
    }
    for &token in vocabulary.end_tokens() {
        mask::forbid(&mut row, token);
    }
    row
}

/// Narrows `row` to what `lists` allow.
///
/// # Errors
/// [`GuideError::OtherVocabulary`], [`GuideError::UnknownToken`], [`GuideError::TooLarge`].
pub(crate) fn restrict(
    row: &mut [u32],
    lists: &TokenMasks,
    vocabulary: &Vocabulary,
    part: &str,
    config: &GuideConfig,
) -> Result<(), GuideError> {
    check_vocabulary(lists, vocabulary, part)?;
    if let Some(allowed) = &lists.allowed_tokens {
        let mut keep = vec![0; row.len()];
        for token in checked(allowed, vocabulary, &format!("{part}.allowed_tokens"), config)? {
            mask::allow(&mut keep, token);
        }
        mask::intersect(row, &keep);
    }
    if let Some(forbidden) = &lists.forbidden_tokens {
        for token in checked(forbidden, vocabulary, &format!("{part}.forbidden_tokens"), config)? {
            mask::forbid(row, token);
        }
    }
    Ok(())
}

fn check_vocabulary(lists: &TokenMasks, vocabulary: &Vocabulary, part: &str) -> Result<(), GuideError> {
    let actual = digest(vocabulary);
    match lists.vocabulary {
        Some(stated) if stated != actual => Err(GuideError::OtherVocabulary { part: part.to_owned(), stated, actual }),
        _ => Ok(()),
    }
}

/// The digest that an IR's `token_masks.vocabulary` must state.
pub(crate) fn digest(vocabulary: &Vocabulary) -> Digest {
    Digest::from_bytes(vocabulary.digest_bytes())
}

fn checked<'a>(
    tokens: &'a [u32],
    vocabulary: &Vocabulary,
    part: &str,
    config: &GuideConfig,
) -> Result<impl Iterator<Item = u32> + 'a, GuideError> {
    GuideError::check_size(part, "number of ids", tokens.len(), config.max_token_ids)?;
    let num_tokens = vocabulary.num_tokens();
    match tokens.iter().find(|&&token| token as usize >= num_tokens) {
        Some(&token) => Err(GuideError::UnknownToken { part: part.to_owned(), token, num_tokens }),
        None => Ok(tokens.iter().copied()),
    }
}
