//! Which matrix a row takes: pairs of a row and the group it chose, and their order by group.
//!
//! A row may choose several groups. The CPU sorts the pairs of each product it runs; on a GPU, where the choice stays
//! on the device, a kernel sorts them once for all products of a step that share it.

use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, bail};

use super::operand::vector;

const OP: &str = "sort_pairs";

/// Words of an item: its group, where its pairs begin in the order, and how many they are.
const ITEM_WORDS: usize = 3;

/// The group that each pair chose, and on a GPU the pairs sorted by it.
#[derive(Debug)]
pub struct PairGroups {
    ids: Tensor,
    num_groups: usize,
    #[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "only a GPU keeps them sorted"))]
    sorted: OnceLock<Tensor>,
}

impl PairGroups {
    /// The pairs of `ids` (`[tokens, per_token]`, contiguous u32), token after token, each id below `num_groups`.
    ///
    /// # Errors
    /// When the ids are not such a matrix, or there are no groups. An id that is too large is an error of the product
    /// that meets it, on the CPU; on a GPU, where nobody looks, it stands for the last group.
    pub fn new(ids: Tensor, num_groups: usize) -> Result<Self> {
        if ids.dims().len() != 2 || ids.dtype() != DType::U32 || !ids.is_contiguous() || num_groups == 0 {
            bail!("pairs of {num_groups} groups: ids are {:?} of {:?}", ids.dtype(), ids.dims())
        }
        Ok(Self { ids, num_groups, sorted: OnceLock::new() })
    }

    /// The ids, `[tokens, per_token]`.
    pub fn ids(&self) -> &Tensor {
        &self.ids
    }

    /// How many groups there are.
    pub fn num_groups(&self) -> usize {
        self.num_groups
    }
}

#[cfg(feature = "cuda")]
impl PairGroups {
    /// Tokens that chose.
    pub(super) fn num_tokens(&self) -> usize {
        self.ids.dims()[0]
    }

    pub(super) fn num_pairs(&self) -> usize {
        self.ids.elem_count()
    }

    /// Pairs of an item, at most: one for a single token, whose choices differ; as many as a warp takes for a few; and
    /// one or several tiles of the matrix units, by how many pairs a group has on average.
    pub(super) fn tile(&self) -> usize {
        const ROWS_MAX: usize = 4;
        match (self.num_tokens(), self.num_pairs() / self.num_groups) {
            (0 | 1, _) => 1,
            (2..=ROWS_MAX, _) => ROWS_MAX,
            (_, ..=8) => 16,
            _ => 64,
        }
    }

    /// How many items there may be.
    pub(super) fn num_items(&self) -> usize {
        num_items(self.num_pairs(), self.num_groups, self.tile())
    }

    /// What [`sort_pairs`] makes of them with this tile, made at the first call.
    pub(super) fn sorted(&self) -> Result<&Tensor> {
        if let Some(sorted) = self.sorted.get() {
            return Ok(sorted);
        }
        let sorted = sort_pairs(&self.ids, self.num_groups, self.tile())?;
        Ok(self.sorted.get_or_init(|| sorted))
    }
}

/// The pairs of `ids` (contiguous u32, each below `num_groups`) in the order of their groups, and then the items they
/// make: up to `tile` pairs of one group each, as many as there could be. All u32: an index of a pair is one word, an
/// item its group, its first place in the order, and its number of pairs; what is left over is zero.
///
/// # Errors
/// When the type is not this, `num_groups` or `tile` is zero, there are more groups than a GPU sorts by (512), or on
/// the CPU an id is no group.
pub fn sort_pairs(ids: &Tensor, num_groups: usize, tile: usize) -> Result<Tensor> {
    ids.apply_op1_no_bwd(&SortPairs { num_groups, tile })
}

#[derive(Clone, Copy, Debug)]
pub(super) struct SortPairs {
    pub(super) num_groups: usize,
    pub(super) tile: usize,
}

impl SortPairs {
    /// Words of the pairs and the items.
    pub(super) fn num_words(&self, num_pairs: usize) -> Result<usize> {
        if self.num_groups == 0 || self.tile == 0 {
            bail!("{OP}: {} groups in items of {}", self.num_groups, self.tile)
        }
        Ok(num_pairs + ITEM_WORDS * num_items(num_pairs, self.num_groups, self.tile))
    }
}

/// The most items that so many pairs can make: no group but its last item is less than whole.
pub(super) fn num_items(num_pairs: usize, num_groups: usize, tile: usize) -> usize {
    (num_pairs + num_pairs.min(num_groups) * (tile - 1)) / tile
}

impl CustomOp1 for SortPairs {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(&self, ids: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let num_pairs = layout.shape().elem_count();
        let ids = vector::<u32>(ids, layout, num_pairs, OP)?;
        let num_words = self.num_words(num_pairs)?;
        let groups = Groups::new(ids, self.num_groups)?;
        let mut words = groups.order().to_vec();
        for (group, places) in groups.chosen() {
            for first in places.clone().step_by(self.tile) {
                words.extend([group, first, self.tile.min(places.end - first)].map(|word| word as u32));
            }
        }
        words.resize(num_words, 0);
        Ok((CpuStorage::U32(words), Shape::from(num_words)))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, ids: &candle_core::CudaStorage, layout: &Layout) -> Result<(candle_core::CudaStorage, Shape)> {
        super::cuda::sort_pairs(self, ids, layout)
    }
}

/// Pairs sorted by the group they chose; pairs of one group keep their order.
pub struct Groups {
    order: Vec<u32>,
    /// Where each group begins in `order`, and one end.
    starts: Vec<usize>,
}

impl Groups {
    /// Sorts the pairs whose groups are `group_ids`, each below `num_groups`.
    ///
    /// # Errors
    /// When an id is not below `num_groups`.
    pub fn new(group_ids: &[u32], num_groups: usize) -> Result<Self> {
        let mut starts = vec![0usize; num_groups + 1];
        for &id in group_ids {
            match starts.get_mut(id as usize + 1) {
                Some(count) => *count += 1,
                None => bail!("group {id} of {num_groups}"),
            }
        }
        for group in 0..num_groups {
            starts[group + 1] += starts[group];
        }
        let mut next = starts.clone();
        let mut order = vec![0u32; group_ids.len()];
        for (pair, &id) in group_ids.iter().enumerate() {
            let place = &mut next[id as usize];
            order[*place] = pair as u32;
            *place += 1;
        }
        Ok(Self { order, starts })
    }

    /// The pairs, group after group.
    pub fn order(&self) -> &[u32] {
        &self.order
    }

    /// The groups that were chosen, and where their pairs lie in [`Self::order`].
    pub fn chosen(&self) -> impl Iterator<Item = (usize, std::ops::Range<usize>)> {
        let groups = self.starts.windows(2).map(|ends| ends[0]..ends[1]).enumerate();
        groups.filter(|(_, pairs)| !pairs.is_empty())
    }
}

/// Pairs of each of `rows` rows.
///
/// # Errors
/// When the pairs are not equally many per row.
pub(super) fn pairs_per_row(num_pairs: usize, rows: usize, op: &'static str) -> Result<usize> {
    if rows == 0 || !num_pairs.is_multiple_of(rows) {
        bail!("{op}: {num_pairs} pairs of {rows} rows")
    }
    Ok(num_pairs / rows)
}

/// Outputs of each group, whose matrices have `rows` rows together; `widths` are those of the activations and weights.
///
/// # Errors
/// When the widths differ, or the groups would not be of one size.
pub(super) fn outputs_of_group(widths: [usize; 2], rows: usize, num_groups: usize, op: &'static str) -> Result<usize> {
    if widths[0] != widths[1] || !rows.is_multiple_of(num_groups) {
        bail!("{op}: rows of {} times {num_groups} groups in {rows} x {}", widths[0], widths[1])
    }
    Ok(rows / num_groups)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::kernels::testing::devices;

    #[test]
    fn groups_keep_the_order_of_their_pairs_and_leave_out_those_that_nobody_chose() -> Result<()> {
        let groups = Groups::new(&[3, 0, 3, 1, 0], 5)?;
        assert_eq!(groups.order(), [1, 4, 3, 0, 2]);
        assert_eq!(groups.chosen().collect::<Vec<_>>(), [(0, 0..2), (1, 2..3), (3, 3..5)]);
        assert!(Groups::new(&[5], 5).is_err());
        Ok(())
    }

    #[test]
    fn every_device_sorts_the_pairs_alike() -> Result<()> {
        for device in devices() {
            for (num_pairs, num_groups, tile) in [(1, 1, 4), (21, 5, 4), (600, 64, 16), (2100, 9, 64), (640, 512, 16)] {
                let ids: Vec<u32> = (0..num_pairs).map(|i| (i * i % 97 % num_groups) as u32).collect();
                let ids = Tensor::new(ids, &device)?;
                let sorted = sort_pairs(&ids, num_groups, tile)?.to_vec1::<u32>()?;
                assert_eq!(sorted, sort_pairs(&ids.to_device(&Device::Cpu)?, num_groups, tile)?.to_vec1::<u32>()?);
            }
        }
        Ok(())
    }

    #[test]
    fn items_tile_the_pairs_of_each_group() -> Result<()> {
        let ids = Tensor::new(&[2u32, 0, 2, 2, 0, 2, 2], &Device::Cpu)?;
        let sorted = sort_pairs(&ids, 4, 2)?.to_vec1::<u32>()?;
        assert_eq!(sorted[..7], [1, 4, 0, 2, 3, 5, 6]);
        assert_eq!(sorted[7..], [0, 0, 2, 2, 2, 2, 2, 4, 2, 2, 6, 1, 0, 0, 0]);
        assert!(sort_pairs(&ids, 2, 2).is_err(), "group 2 of 2");
        assert!(sort_pairs(&ids, 4, 0).is_err());
        Ok(())
    }

    #[test]
    fn ids_that_are_no_matrix_of_groups_are_refused() -> Result<()> {
        let ids = Tensor::zeros((2, 3), DType::U32, &Device::Cpu)?;
        assert!(PairGroups::new(ids.clone(), 1).is_ok());
        assert!(PairGroups::new(ids.clone(), 0).is_err());
        assert!(PairGroups::new(ids.t()?, 1).is_err());
        assert!(PairGroups::new(ids.to_dtype(DType::F32)?, 1).is_err());
        assert!(PairGroups::new(ids.flatten_all()?, 1).is_err());
        Ok(())
    }
}
