//! Products in which every row chooses its matrix: the experts of a mixture, and projections with a matrix per head.
//!
//! A pair is a row of activations and the group it chose; a row may choose several. Pairs are sorted by their group, so
//! that each matrix is read from memory once per step, however many pairs chose it, and matrices that nobody chose
//! are not read. An element is one dot product, whatever else is in the step.
#![allow(unsafe_code)]

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};

use super::block_matrix::{Activations, BlockMatrix, ROWS_AT_ONCE, TILE, tile_dots};
use super::lanes::{Lanes, WithLanes, dispatch};
use super::operand::{Matrix, elements, vector};
use super::parallel::{Shared, for_each_range};
use super::tile::{TILE_COLS, TILE_ROWS_MAX, dots};

const OP: &str = "grouped_matmul";

/// Rows of a matrix that pass over all of its pairs together.
const BLOCK_COLS: usize = 16;

/// For each pair, the product of its row of `xs` and the transpose of its group's matrix: `[pairs, outputs]`, f32.
///
/// `xs` is `[rows, inputs]`, f32, rows contiguous. `weights` are the matrices of all groups on top of each other,
/// `[num_groups * outputs, inputs]`, f32. `group_ids` (contiguous u32, of any shape) names the group of every pair:
/// pair `p` is of row `p / (pairs / rows)`.
///
/// # Errors
/// When shapes or types are not these, or an id is no group.
pub fn grouped_matmul(xs: &Tensor, weights: &Tensor, group_ids: &Tensor, num_groups: usize) -> Result<Tensor> {
    xs.apply_op3_no_bwd(weights, group_ids, &GroupedMatmul { num_groups })
}

/// The same for matrices in blocks, one [`BlockMatrix`] per group, all of one shape.
///
/// Activations are rounded to 8 bits as in [`super::block_matmul`], whose elements these are.
///
/// # Errors
/// When shapes or types are not these, or an id is no group.
pub fn grouped_block_matmul(xs: &Tensor, weights: &[BlockMatrix], group_ids: &Tensor) -> Result<Tensor> {
    xs.apply_op2_no_bwd(group_ids, &GroupedBlockMatmul(weights))
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
                None => bail!("{OP}: group {id} of {num_groups}"),
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

/// The pairs of one call.
struct Pairs {
    groups: Groups,
    /// Pairs of each row.
    per_row: usize,
}

impl Pairs {
    fn new(ids: &CpuStorage, layout: &Layout, rows: usize, num_groups: usize) -> Result<Self> {
        let num_pairs = layout.shape().elem_count();
        let ids = vector::<u32>(ids, layout, num_pairs, OP)?;
        if rows == 0 || !num_pairs.is_multiple_of(rows) {
            bail!("{OP}: {num_pairs} pairs of {rows} rows")
        }
        Ok(Self { groups: Groups::new(ids, num_groups)?, per_row: num_pairs / rows })
    }

    fn len(&self) -> usize {
        self.groups.order.len()
    }
}

struct GroupedMatmul {
    num_groups: usize,
}

impl CustomOp3 for GroupedMatmul {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(
        &self,
        xs: &CpuStorage,
        xs_l: &Layout,
        weights: &CpuStorage,
        w_l: &Layout,
        ids: &CpuStorage,
        ids_l: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (xs_m, w_m) = (Matrix::of(xs_l, OP)?, Matrix::of(w_l, OP)?);
        let (xs, weights) = (elements::<f32>(xs, &xs_m, OP)?, elements::<f32>(weights, &w_m, OP)?);
        if xs_m.width != w_m.width || self.num_groups == 0 || !w_m.rows.is_multiple_of(self.num_groups) {
            bail!("{OP}: rows of {} times {} groups in {} x {}", xs_m.width, self.num_groups, w_m.rows, w_m.width)
        }
        let pairs = Pairs::new(ids, ids_l, xs_m.rows, self.num_groups)?;
        let outputs = w_m.rows / self.num_groups;
        let mut ys = vec![0f32; pairs.len() * outputs];
        let shared = Shared::new(&mut ys);
        let chosen: Vec<_> = pairs.groups.chosen().collect();
        let blocks = outputs.div_ceil(BLOCK_COLS);
        let ops_per_block = BLOCK_COLS * w_m.width * pairs.len() / chosen.len().max(1);
        for_each_range(chosen.len() * blocks, ops_per_block, |items| {
            for item in items {
                let (group, range) = &chosen[item / blocks];
                let col = item % blocks * BLOCK_COLS;
                dispatch(Block {
                    xs,
                    xs_m,
                    weights,
                    w_m,
                    pairs: &pairs.groups.order[range.clone()],
                    per_row: pairs.per_row,
                    first_row: group * outputs,
                    outputs,
                    cols: col..outputs.min(col + BLOCK_COLS),
                    ys: shared,
                });
            }
        });
        Ok((CpuStorage::F32(ys), Shape::from((pairs.len(), outputs))))
    }
}

/// The outputs `cols` of all pairs of one group. Both matrices lie inside their slices, and have the same width.
struct Block<'a> {
    xs: &'a [f32],
    xs_m: Matrix,
    weights: &'a [f32],
    w_m: Matrix,
    pairs: &'a [u32],
    per_row: usize,
    first_row: usize,
    outputs: usize,
    cols: std::ops::Range<usize>,
    ys: Shared<'a, f32>,
}

impl WithLanes for Block<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        for pairs in self.pairs.chunks(L::TILE_ROWS.min(TILE_ROWS_MAX)) {
            for col in self.cols.clone().step_by(TILE_COLS) {
                // SAFETY: the instructions of `L` are the caller's; each call gets as many pairs as it has rows.
                unsafe {
                    match pairs.len() {
                        1 => self.tile::<L, 1>(pairs, col),
                        2 => self.tile::<L, 2>(pairs, col),
                        3 => self.tile::<L, 3>(pairs, col),
                        _ => self.tile::<L, 4>(pairs, col),
                    }
                }
            }
        }
    }
}

impl Block<'_> {
    /// # Safety
    /// The machine must have the instructions of `L`.
    #[inline(always)]
    unsafe fn tile<L: Lanes, const R: usize>(&self, pairs: &[u32], col: usize) {
        let num_cols = TILE_COLS.min(self.cols.end - col);
        let x_rows =
            std::array::from_fn::<_, R, _>(|r| self.xs_m.row(self.xs, pairs[r] as usize / self.per_row).as_ptr());
        // A tile at the edge repeats its last weight row; the copies are not stored.
        let w_rows =
            std::array::from_fn(|c| self.w_m.row(self.weights, self.first_row + col + c.min(num_cols - 1)).as_ptr());
        // SAFETY: every pointer is a row of the common width; each output of a pair belongs to the one thread that got
        // its group and column.
        unsafe {
            let dots = dots::<L, R>(x_rows, w_rows, self.xs_m.width);
            for (&pair, dots) in pairs.iter().zip(&dots) {
                let ys = self.ys.part(pair as usize * self.outputs + col, num_cols);
                ys.copy_from_slice(&dots[..num_cols]);
            }
        }
    }
}

struct GroupedBlockMatmul<'a>(&'a [BlockMatrix]);

impl CustomOp2 for GroupedBlockMatmul<'_> {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(&self, xs: &CpuStorage, xs_l: &Layout, ids: &CpuStorage, ids_l: &Layout) -> Result<(CpuStorage, Shape)> {
        let xs_m = Matrix::of(xs_l, OP)?;
        let xs = elements::<f32>(xs, &xs_m, OP)?;
        let pairs = Pairs::new(ids, ids_l, xs_m.rows, self.0.len())?;
        let outputs = self.0.first().map_or(0, BlockMatrix::rows);
        if self.0.iter().any(|weight| (weight.rows(), weight.width()) != (outputs, xs_m.width)) {
            bail!("{OP}: rows of {} times matrices that are not all {outputs} x {}", xs_m.width, xs_m.width)
        }
        let rows = pairs.groups.order.iter().map(|&pair| pair as usize / pairs.per_row);
        let xs = Activations::new(xs, &xs_m).gather(rows);
        let mut ys = vec![0f32; pairs.len() * outputs];
        let shared = Shared::new(&mut ys);
        let chosen: Vec<_> = pairs.groups.chosen().collect();
        let tiles = outputs.div_ceil(TILE);
        // A tile's multiply-adds take about an eighth of the time of as many in f32.
        let ops_per_tile = TILE * xs_m.width * pairs.len() / chosen.len().max(1) / 8;
        for_each_range(chosen.len() * tiles, ops_per_tile, |items| {
            for item in items {
                let ((group, range), tile) = (&chosen[item / tiles], item % tiles);
                let cols = TILE.min(outputs - tile * TILE);
                for first in range.clone().step_by(ROWS_AT_ONCE) {
                    let rows = ROWS_AT_ONCE.min(range.end - first);
                    let mut dots = [[0f32; TILE]; ROWS_AT_ONCE];
                    tile_dots(&self.0[*group], &xs, tile, first, &mut dots[..rows]);
                    for (&pair, dots) in pairs.groups.order[first..first + rows].iter().zip(&dots) {
                        // SAFETY: the tile's columns of each pair belong to the one thread that got its group's tile.
                        let ys = unsafe { shared.part(pair as usize * outputs + tile * TILE, cols) };
                        ys.copy_from_slice(&dots[..cols]);
                    }
                }
            }
        });
        Ok((CpuStorage::F32(ys), Shape::from((pairs.len(), outputs))))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use candle_core::quantized::{GgmlDType, QTensor};

    use super::*;
    use crate::kernels::{BlockFormat, block_matmul, matmul};

    fn ramp(rows: usize, width: usize, step: usize) -> Result<Tensor> {
        let values: Vec<f32> = (0..rows * width).map(|i| ((i * step) % 197) as f32 / 98.0 - 0.9).collect();
        Tensor::from_vec(values, (rows, width), &Device::Cpu)
    }

    /// Choices of `num_groups` groups that leave some out and take others often.
    fn ids(num_pairs: usize, num_groups: usize) -> Vec<u32> {
        (0..num_pairs).map(|pair| (pair * pair % 7 % num_groups) as u32).collect()
    }

    #[test]
    fn groups_keep_the_order_of_their_pairs_and_leave_out_those_that_nobody_chose() -> Result<()> {
        let groups = Groups::new(&[3, 0, 3, 1, 0], 5)?;
        assert_eq!(groups.order(), [1, 4, 3, 0, 2]);
        assert_eq!(groups.chosen().collect::<Vec<_>>(), [(0, 0..2), (1, 2..3), (3, 3..5)]);
        assert!(Groups::new(&[5], 5).is_err());
        Ok(())
    }

    #[test]
    fn every_pair_has_the_bits_of_its_own_product() -> Result<()> {
        for (rows, per_row, num_groups, inputs, outputs) in [(1, 1, 1, 5, 3), (1, 3, 5, 64, 33), (19, 2, 4, 96, 40)] {
            let (xs, weights) =
                (ramp(rows, inputs + 3, 31)?.narrow(1, 2, inputs)?, ramp(num_groups * outputs, inputs, 53)?);
            let ids = ids(rows * per_row, num_groups);
            let shaped = Tensor::from_slice(&ids, (rows, per_row), &Device::Cpu)?;
            let ys = grouped_matmul(&xs, &weights, &shaped, num_groups)?.to_vec2::<f32>()?;
            for (pair, y) in ys.iter().enumerate() {
                let weight = weights.narrow(0, ids[pair] as usize * outputs, outputs)?;
                let alone = matmul(&xs.narrow(0, pair / per_row, 1)?, &weight)?.to_vec2::<f32>()?;
                assert_eq!(&alone[0], y, "pair {pair} of {rows} x {per_row}");
            }
        }
        Ok(())
    }

    #[test]
    fn every_pair_of_blocks_has_the_bits_of_its_own_product() -> Result<()> {
        let (rows, per_row, num_groups, inputs, outputs) = (21, 3, 4, 96, 37);
        let xs = ramp(rows, inputs, 31)?;
        for (format, dtype) in [(BlockFormat::Q8_0, GgmlDType::Q8_0), (BlockFormat::Q4_1, GgmlDType::Q4_1)] {
            let matrix = |group: usize| -> Result<BlockMatrix> {
                let weight = QTensor::quantize(&ramp(outputs, inputs, 53 + 2 * group)?, dtype)?;
                Ok(BlockMatrix::new(&weight.data()?, format, outputs, inputs).expect("the size is right"))
            };
            let weights = (0..num_groups).map(matrix).collect::<Result<Vec<_>>>()?;
            let ids = ids(rows * per_row, num_groups);
            let ys = grouped_block_matmul(&xs, &weights, &Tensor::new(ids.as_slice(), &Device::Cpu)?)?;
            for (pair, y) in ys.to_vec2::<f32>()?.iter().enumerate() {
                let x = xs.narrow(0, pair / per_row, 1)?;
                let alone = block_matmul(&x, &weights[ids[pair] as usize])?.to_vec2::<f32>()?;
                assert_eq!(&alone[0], y, "{format:?}, pair {pair}");
            }
        }
        Ok(())
    }

    #[test]
    fn operands_that_do_not_fit_are_refused() -> Result<()> {
        let (xs, weights) = (ramp(2, 8, 3)?, ramp(6, 8, 5)?);
        let call =
            |ids: &[u32], num_groups| grouped_matmul(&xs, &weights, &Tensor::new(ids, &Device::Cpu)?, num_groups);
        assert!(call(&[0, 2], 3).is_ok());
        assert!(call(&[0, 3], 3).is_err(), "no such group");
        assert!(call(&[0, 1, 2], 3).is_err(), "pairs of part of a row");
        assert!(call(&[0, 0], 4).is_err(), "six rows are not four groups");
        assert!(grouped_block_matmul(&xs, &[], &Tensor::new(&[0u32, 0], &Device::Cpu)?).is_err());
        Ok(())
    }
}
