//! The fewest tokens that spell a text.

use crate::guide::mask;
use crate::guide::vocabulary::SortedTokens;

/// The split of `bytes` into the fewest tokens of `allowed`, by dynamic programming from the end; of equally long
/// splits the one whose first token is the longest. `None` where no split exists.
///
/// Costs one look into the sorted vocabulary per byte and per byte of the longest token there.
pub(crate) fn fewest_tokens(bytes: &[u8], tokens: &SortedTokens, allowed: &[u32]) -> Option<Vec<u32>> {
    // best[at]: tokens needed from `at` on, and the first of them with its length.
    let mut best: Vec<Option<(u32, u32, usize)>> = vec![None; bytes.len() + 1];
    best[bytes.len()] = Some((0, 0, 0));
    for at in (0..bytes.len()).rev() {
        for (token, len) in tokens.prefixes_of(&bytes[at..]) {
            let Some((rest, ..)) = best[at + len].filter(|_| mask::is_allowed(allowed, token)) else { continue };
            if best[at].is_none_or(|(count, ..)| rest + 1 < count) {
                best[at] = Some((rest + 1, token, len));
            }
        }
    }
    let mut tiling = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let (_, token, len) = best[at]?;
        tiling.push(token);
        at += len;
    }
    Some(tiling)
}
