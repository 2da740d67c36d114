//! The masks of one automaton, by state: a few whole rows, and for all other states how they differ from one of them.
//!
//! After most bytes an automaton of forbidden text is where it would be from its start, so nearly all bits of a state's
//! mask are those of the start's. Such a mask is kept as the words or the ids that differ, whichever is smaller, and
//! found by a walk that skips what does not differ.

use std::sync::{Arc, PoisonError, RwLock};

use super::automaton::{DEAD, Stepper};
use super::clock::ClockCache;
use super::mask;
use super::vocabulary::SortedTokens;

/// Rows that others are differences from; more would hardly make those smaller.
const NUM_ROOTS_MAX: usize = 4;

/// Masks by state, shared by all sequences of a compiled constraint.
pub(crate) struct MaskCache {
    max_bytes: usize,
    inner: RwLock<Inner>,
}

struct Inner {
    roots: Vec<Root>,
    masks: ClockCache<u32, StoredMask>,
}

/// A whole row that masks are differences from.
#[derive(Clone)]
struct Root {
    state: u32,
    row: Arc<[u32]>,
}

/// A mask; positions ascend.
enum StoredMask {
    Row(Box<[u32]>),
    /// These words of the root's row are different.
    Words(usize, Box<[(u32, u32)]>),
    /// These bits of the root's row are the other way.
    Ids(usize, Box<[u32]>),
}

impl MaskCache {
    /// A cache of at most `max_bytes`; a mask that does not fit is computed each time.
    pub(crate) fn new(max_bytes: usize) -> Self {
        let inner = Inner { roots: Vec::new(), masks: ClockCache::new(max_bytes) };
        Self { max_bytes, inner: RwLock::new(inner) }
    }

    pub(crate) fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    #[cfg(test)]
    pub(crate) fn num_bytes(&self) -> usize {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        inner.masks.num_bytes() + inner.roots.iter().map(|root| size_of_val(&*root.row)).sum::<usize>()
    }

    /// Keeps in `row` the tokens that `stepper` lets through from `state`; what it says when it is no longer sound is
    /// not kept.
    ///
    /// Costs about 1 us when the state is known, some microseconds when it is like a root, and otherwise a walk over the
    /// vocabulary: 1-5 ms at 129k ids.
    pub(crate) fn intersect_mask(
        &self,
        state: u32,
        tokens: &SortedTokens,
        row: &mut [u32],
        stepper: &mut impl Stepper,
    ) {
        let roots = {
            let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(mask) = inner.masks.get(&state) {
                return mask.intersect_into(row, &inner.roots);
            }
            inner.roots.clone()
        };
        let nearest = nearest_root(state, &roots, tokens, stepper);
        if let Some(root) = nearest {
            let mut toggled = Vec::new();
            let step = |state, byte| stepper.step(state, byte);
            tokens.walk_pair((state, roots[root].state), step, |ids, a, b| {
                if (a == DEAD) != (b == DEAD) {
                    toggled.extend_from_slice(ids);
                }
            });
            toggled.sort_unstable();
            let mask = StoredMask::from_toggled(root, &roots[root].row, toggled);
            mask.intersect_into(row, &roots);
            if stepper.is_sound() {
                self.keep(state, mask);
            }
            return;
        }
        let mut allowed = vec![0; row.len()];
        tokens.walk(
            state,
            |state, byte| Some(stepper.step(state, byte)).filter(|&next| next != DEAD),
            |ids, _| ids.iter().for_each(|&id| mask::allow(&mut allowed, id)),
        );
        mask::intersect(row, &allowed);
        if stepper.is_sound() {
            self.keep_row(state, allowed, &roots);
        }
    }

    /// Keeps in `row` the tokens that `compute` allows for `state`, which it says whether to keep.
    ///
    /// Costs about 1 us when the state is known.
    pub(crate) fn intersect_computed(&self, state: u32, row: &mut [u32], compute: impl FnOnce(&mut [u32]) -> bool) {
        let roots = {
            let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(mask) = inner.masks.get(&state) {
                return mask.intersect_into(row, &inner.roots);
            }
            inner.roots.clone()
        };
        let mut allowed = vec![0; row.len()];
        let is_sound = compute(&mut allowed);
        mask::intersect(row, &allowed);
        if is_sound {
            self.keep_row(state, allowed, &roots);
        }
    }

    /// Keeps a whole row: as a root while there is room for more, else as it is smallest.
    fn keep_row(&self, state: u32, allowed: Vec<u32>, known: &[Root]) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let Inner { roots, masks } = &mut *inner;
        // Another thread may just have added the root that this row should have been compared with.
        let may_add = roots.len() < NUM_ROOTS_MAX && roots.len() == known.len();
        if may_add && masks.reserve(size_of_val(&*allowed)) {
            roots.push(Root { state, row: allowed.into() });
            return masks.insert(state, StoredMask::Ids(roots.len() - 1, Box::default()), 0);
        }
        let num_differing = |root: &Root| root.row.iter().zip(&allowed).map(|(a, b)| (a ^ b).count_ones()).sum::<u32>();
        let nearest = roots.iter().enumerate().min_by_key(|(_, root)| num_differing(root));
        let smallest = match nearest {
            Some((idx, root)) => StoredMask::smaller(idx, &root.row, &allowed),
            None => StoredMask::Row(allowed.into()),
        };
        let num_bytes = smallest.num_bytes();
        masks.insert(state, smallest, num_bytes);
    }

    fn keep(&self, state: u32, mask: StoredMask) {
        let num_bytes = mask.num_bytes();
        self.inner.write().unwrap_or_else(PoisonError::into_inner).masks.insert(state, mask, num_bytes);
    }
}

impl StoredMask {
    fn num_bytes(&self) -> usize {
        match self {
            Self::Row(row) => size_of_val(&**row),
            Self::Words(_, words) => size_of_val(&**words),
            Self::Ids(_, ids) => size_of_val(&**ids),
        }
    }

    /// The smallest form of the row that differs from `root` in the bits of `toggled`, which ascend.
    fn from_toggled(root_idx: usize, root: &[u32], toggled: Vec<u32>) -> Self {
        let num_words = toggled.chunk_by(|a, b| a / 32 == b / 32).count();
        if num_words * 2 < toggled.len() {
            let words = toggled.chunk_by(|a, b| a / 32 == b / 32).map(|ids| {
                let word = ids[0] / 32;
                (word, ids.iter().fold(root[word as usize], |bits, id| bits ^ (1 << (id % 32))))
            });
            let words: Box<[(u32, u32)]> = words.collect();
            return Self::Words(root_idx, words).or_row(root);
        }
        Self::Ids(root_idx, toggled.into()).or_row(root)
    }

    /// The smallest form of `row` by its difference from `root`.
    fn smaller(root_idx: usize, root: &[u32], row: &[u32]) -> Self {
        let differing: Vec<u32> = root.iter().zip(row).map(|(a, b)| a ^ b).collect();
        let num_ids: u32 = differing.iter().map(|bits| bits.count_ones()).sum();
        // As many differences would not be smaller than the row, and to list them takes longest.
        if num_ids as usize > 16 * row.len() {
            return Self::Row(row.into());
        }
        Self::from_toggled(root_idx, root, mask::allowed_tokens(&differing).collect())
    }

    /// A difference as big as the row is kept as a row.
    fn or_row(self, root: &[u32]) -> Self {
        if self.num_bytes() < size_of_val(root) {
            return self;
        }
        let mut row = root.to_vec();
        self.each_word(root, |word, bits| row[word] = bits);
        Self::Row(row.into())
    }

    /// The words that differ from `root`, in order.
    fn each_word(&self, root: &[u32], mut visit: impl FnMut(usize, u32)) {
        match self {
            Self::Row(row) => row.iter().enumerate().for_each(|(word, &bits)| visit(word, bits)),
            Self::Words(_, words) => words.iter().for_each(|&(word, bits)| visit(word as usize, bits)),
            Self::Ids(_, ids) => {
                for ids in ids.chunk_by(|a, b| a / 32 == b / 32) {
                    let word = ids[0] as usize / 32;
                    visit(word, ids.iter().fold(root[word], |bits, id| bits ^ (1 << (id % 32))));
                }
            }
        }
    }

    fn intersect_into(&self, row: &mut [u32], roots: &[Root]) {
        let root = match self {
            Self::Row(own) => return mask::intersect(row, own),
            Self::Words(root, _) | Self::Ids(root, _) => &roots[*root].row,
        };
        let mut from = 0;
        self.each_word(root, |word, bits| {
            mask::intersect(&mut row[from..word], &root[from..word]);
            row[word] &= bits;
            from = word + 1;
        });
        mask::intersect(&mut row[from..], &root[from..]);
    }
}

/// The root from which most tokens go on as they do from `state`; `None` when that is less than half of them.
fn nearest_root(state: u32, roots: &[Root], tokens: &SortedTokens, stepper: &mut impl Stepper) -> Option<usize> {
    let mut agreeing = [0usize; NUM_ROOTS_MAX];
    for (byte, &num_tokens) in (0..=255u8).zip(tokens.num_by_first_byte()).filter(|&(_, &num_tokens)| num_tokens > 0) {
        let next = stepper.step(state, byte);
        for (agreeing, root) in agreeing.iter_mut().zip(roots) {
            if stepper.step(root.state, byte) == next {
                *agreeing += num_tokens as usize;
            }
        }
    }
    let (nearest, &most) = agreeing[..roots.len()].iter().enumerate().max_by_key(|&(_, most)| most)?;
    (2 * most >= tokens.num_tokens()).then_some(nearest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(row: &[u32]) -> Vec<Root> {
        vec![Root { state: 1, row: row.into() }]
    }

    #[test]
    fn every_form_gives_the_same_row() {
        let roots = root(&[0xFFFF_0000, 0, u32::MAX, 7]);
        let row = [0xFFFF_0001, 0, 0, 7];
        let forms = [
            StoredMask::Row(row.into()),
            StoredMask::smaller(0, &roots[0].row, &row),
            StoredMask::Words(0, [(0, row[0]), (2, 0)].into()),
            StoredMask::Ids(0, [0].into_iter().chain(64..96).collect()),
        ];
        for (idx, form) in forms.iter().enumerate() {
            let mut into = [0x00FF_00FF, u32::MAX, 5, 6];
            form.intersect_into(&mut into, &roots);
            assert_eq!(into, [0x00FF_0001, 0, 0, 6], "form {idx}");
        }
    }

    #[test]
    fn the_smallest_form_is_chosen() {
        let root = vec![0u32; 64];
        assert!(matches!(StoredMask::from_toggled(0, &root, vec![3, 900]), StoredMask::Ids(..)));
        assert!(matches!(StoredMask::from_toggled(0, &root, (32..64).collect()), StoredMask::Words(..)));
        assert!(matches!(StoredMask::from_toggled(0, &root, (0..2048).collect()), StoredMask::Row(..)));
    }
}
