//! Products in which every row chooses its matrix: the experts of a mixture, and projections with a matrix per head.
//!
//! Pairs are sorted by their group, so that each matrix is read from memory once per step, however many pairs chose it,
//! and matrices that nobody chose are not read. An element is one dot product, whatever else is in the step.
#![allow(unsafe_code)]

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};

use super::Sums;
use super::block_matrix::{Activations, BlockMatrix, ROWS_AT_ONCE, TILE, tile_dots};
use super::lanes::{Lanes, WithLanes, dispatch};
use super::operand::{Matrix, elements, vector};
use super::pair_groups::{Groups, PairGroups, outputs_of_group, pairs_per_row};
use super::parallel::{Shared, for_each_range};
use super::tile::{TILE_COLS, TILE_ROWS_MAX, dots};

const OP: &str = "grouped_matmul";

/// Rows of a matrix that pass over all of its pairs together.
const BLOCK_COLS: usize = 16;

/// For each pair, the product of its row of `xs` and the transpose of its group's matrix: `[pairs, outputs]`, f32.
///
/// `xs` is `[rows, inputs]`, f32, rows contiguous; pair `p` is of row `p / (pairs / rows)`. `weights` are the
/// matrices of all groups on top of each other, `[num_groups * outputs, inputs]`, f32; on a GPU bf16 too, where from
/// five tokens on activations are rounded to bf16.
///
/// # Errors
/// When shapes or types are not these, or on the CPU an id is no group.
pub fn grouped_matmul(xs: &Tensor, weights: &Tensor, groups: &PairGroups) -> Result<Tensor> {
    grouped_matmul_with(xs, weights, groups, Sums::Fastest)
}

/// As [`grouped_matmul`], with a say in how a GPU adds up. Of batch-invariant sums, rows of `xs` lie as far apart as
/// they are wide, and bf16 weights whose width is a multiple of 32 take rows that are rounded to bf16, however many
/// there are.
///
/// # Errors
/// As [`grouped_matmul`].
pub fn grouped_matmul_with(xs: &Tensor, weights: &Tensor, groups: &PairGroups, sums: Sums) -> Result<Tensor> {
    xs.apply_op3_no_bwd(weights, groups.ids(), &GroupedMatmul { groups, sums })
}

/// The same for matrices in blocks, one [`BlockMatrix`] per group, all of one shape.
///
/// Activations are rounded to 8 bits as in [`super::block_matmul`], whose elements these are.
///
/// # Errors
/// When shapes or types are not these, or an id is no group.
pub fn grouped_block_matmul(xs: &Tensor, weights: &[BlockMatrix], groups: &PairGroups) -> Result<Tensor> {
    xs.apply_op2_no_bwd(groups.ids(), &GroupedBlockMatmul(weights))
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
        Ok(Self { groups: Groups::new(ids, num_groups)?, per_row: pairs_per_row(num_pairs, rows, OP)? })
    }

    fn len(&self) -> usize {
        self.groups.order().len()
    }
}

struct GroupedMatmul<'a> {
    groups: &'a PairGroups,
    #[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "a CPU has one body"))]
    sums: Sums,
}

impl CustomOp3 for GroupedMatmul<'_> {
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
        let num_groups = self.groups.num_groups();
        let outputs = outputs_of_group([xs_m.width, w_m.width], w_m.rows, num_groups, OP)?;
        let pairs = Pairs::new(ids, ids_l, xs_m.rows, num_groups)?;
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
                    pairs: &pairs.groups.order()[range.clone()],
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

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        xs: &candle_core::CudaStorage,
        xs_l: &Layout,
        weights: &candle_core::CudaStorage,
        w_l: &Layout,
        _ids: &candle_core::CudaStorage,
        _ids_l: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        super::cuda::grouped_matmul(self.groups, self.sums, (xs, xs_l), (weights, w_l))
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
        let rows = pairs.groups.order().iter().map(|&pair| pair as usize / pairs.per_row);
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
                    for (&pair, dots) in pairs.groups.order()[first..first + rows].iter().zip(&dots) {
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
    use candle_core::quantized::{GgmlDType, QTensor};
    use candle_core::{DType, Device};

    use super::*;
    use crate::kernels::testing::{assert_close, devices, noise};
    use crate::kernels::{BlockFormat, block_matmul, matmul};

    fn ramp(rows: usize, width: usize, step: usize) -> Result<Tensor> {
        let values: Vec<f32> = (0..rows * width).map(|i| ((i * step) % 197) as f32 / 98.0 - 0.9).collect();
        Tensor::from_vec(values, (rows, width), &Device::Cpu)
    }

    /// Choices of `num_groups` groups that leave some out and take others often.
    fn ids(num_pairs: usize, num_groups: usize) -> Vec<u32> {
        (0..num_pairs).map(|pair| (pair * pair % 7 % num_groups) as u32).collect()
    }

    fn groups(ids: &[u32], shape: (usize, usize), num_groups: usize) -> Result<PairGroups> {
        PairGroups::new(Tensor::from_slice(ids, shape, &Device::Cpu)?, num_groups)
    }

    #[test]
    fn every_pair_has_the_bits_of_its_own_product() -> Result<()> {
        for (rows, per_row, num_groups, inputs, outputs) in [(1, 1, 1, 5, 3), (1, 3, 5, 64, 33), (19, 2, 4, 96, 40)] {
            let (xs, weights) =
                (ramp(rows, inputs + 3, 31)?.narrow(1, 2, inputs)?, ramp(num_groups * outputs, inputs, 53)?);
            let ids = ids(rows * per_row, num_groups);
            let groups = groups(&ids, (rows, per_row), num_groups)?;
            let ys = grouped_matmul(&xs, &weights, &groups)?.to_vec2::<f32>()?;
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
            let ys = grouped_block_matmul(&xs, &weights, &groups(&ids, (rows, per_row), num_groups)?)?;
            for (pair, y) in ys.to_vec2::<f32>()?.iter().enumerate() {
                let x = xs.narrow(0, pair / per_row, 1)?;
                let alone = block_matmul(&x, &weights[ids[pair] as usize])?.to_vec2::<f32>()?;
                assert_eq!(&alone[0], y, "{format:?}, pair {pair}");
            }
        }
        Ok(())
    }

    #[test]
    fn every_device_multiplies_as_the_cpu_does() -> Result<()> {
        let shapes =
            [(1, 6, 9, 512, 40), (4, 3, 5, 96, 33), (30, 6, 16, 128, 18), (90, 2, 4, 64, 48), (7, 3, 4, 13, 5)];
        for device in devices() {
            for (rows, per_row, num_groups, inputs, outputs) in shapes {
                let matrix = |rows: usize, width: usize, seed| {
                    Tensor::from_vec(noise(rows * width, seed), (rows, width), &Device::Cpu)
                };
                let (xs, weights) = (matrix(rows, inputs + 4, 1)?, matrix(num_groups * outputs, inputs, 2)?);
                let ids = Tensor::from_vec(ids(rows * per_row, num_groups), (rows, per_row), &Device::Cpu)?;
                let multiply = |device: &Device, weights: &Tensor| -> Result<Tensor> {
                    let groups = PairGroups::new(ids.to_device(device)?, num_groups)?;
                    let xs = xs.to_device(device)?.narrow(1, 4, inputs)?;
                    // Twice, as a layer does: the second call finds the pairs sorted.
                    grouped_matmul(&xs, &weights.to_device(device)?, &groups)?;
                    grouped_matmul(&xs, &weights.to_device(device)?, &groups)
                };
                let what = format!("{rows} x {per_row} of {num_groups} x {inputs} x {outputs}");
                assert_close(&multiply(&device, &weights)?, &multiply(&Device::Cpu, &weights)?, 1e-5, &what)?;
                if !device.is_cpu() {
                    let rounded = weights.to_dtype(DType::BF16)?;
                    let expected = multiply(&Device::Cpu, &rounded.to_dtype(DType::F32)?)?;
                    // From five tokens on activations are rounded too.
                    let tolerance = if rows <= 4 { 1e-5 } else { 1e-2 };
                    assert_close(&multiply(&device, &rounded)?, &expected, tolerance, &format!("{what}, bf16"))?;
                }
            }
        }
        Ok(())
    }

    #[test]
    fn batch_invariant_pairs_are_the_same_alone_and_in_company_and_close_to_the_cpus() -> Result<()> {
        const ROWS: usize = 130;
        let (per_row, num_groups, outputs) = (3, 5, 18);
        for device in devices() {
            for (inputs, dtype, tolerance) in [
                (256, DType::F32, 1e-5),
                (17, DType::F32, 1e-5),
                (256, DType::BF16, 1e-2),
                (40, DType::BF16, 1e-2),
                (17, DType::BF16, 1e-2),
            ] {
                if device.is_cpu() && dtype == DType::BF16 {
                    continue;
                }
                let (xs, weights) = (ramp(ROWS, inputs, 31)?, ramp(num_groups * outputs, inputs, 53)?);
                let ids = ids(ROWS * per_row, num_groups);
                let expected = grouped_matmul(&xs, &weights, &groups(&ids, (ROWS, per_row), num_groups)?)?;
                let (xs, weights) = (xs.to_device(&device)?, weights.to_device(&device)?.to_dtype(dtype)?);
                let rows = |first: usize, count: usize| {
                    let ids = Tensor::new(&ids[first * per_row..(first + count) * per_row], &device)?;
                    let groups = PairGroups::new(ids.reshape((count, per_row))?, num_groups)?;
                    grouped_matmul_with(&xs.narrow(0, first, count)?, &weights, &groups, Sums::BatchInvariant)
                };
                let together = rows(0, ROWS)?;
                assert_close(&together, &expected, tolerance, &format!("{inputs} inputs, {dtype:?}"))?;
                let together = together.to_vec2::<f32>()?;
                // One, four, 16 and 64 pairs to an item.
                for (first, count) in [(0, 1), (129, 1), (5, 3), (64, 4), (60, 12), (1, 109)] {
                    let found = rows(first, count)?.to_vec2::<f32>()?;
                    assert_eq!(
                        found,
                        together[first * per_row..(first + count) * per_row],
                        "{inputs} inputs, {dtype:?}, {first} + {count}"
                    );
                }
            }
        }
        Ok(())
    }

    #[test]
    fn operands_that_do_not_fit_are_refused() -> Result<()> {
        let (xs, weights) = (ramp(2, 8, 3)?, ramp(6, 8, 5)?);
        let call = |ids: &[u32], num_groups| grouped_matmul(&xs, &weights, &groups(ids, (1, ids.len()), num_groups)?);
        assert!(call(&[0, 2], 3).is_ok());
        assert!(call(&[0, 3], 3).is_err(), "no such group");
        assert!(call(&[0, 1, 2], 3).is_err(), "pairs of part of a row");
        assert!(call(&[0, 0], 4).is_err(), "six rows are not four groups");
        assert!(grouped_block_matmul(&xs, &[], &groups(&[0, 0], (2, 1), 1)?).is_err());
        Ok(())
    }
}
