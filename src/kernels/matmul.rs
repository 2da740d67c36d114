//! `y = x w^T` in f32, for weights stored one output per row.
//!
//! Work is split by blocks of weight rows, so that each weight is read from memory once per step, whatever the number
//! of rows of `x`; a block stays in the first cache levels while the rows of `x` pass by, four at a time.
#![allow(unsafe_code)]

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};

use super::Sums;
use super::lanes::{Lanes, WithLanes, dispatch};
use super::operand::{Matrix, elements};
use super::parallel::{Shared, for_each_range};
use super::tile::{TILE_COLS, TILE_ROWS_MAX, dots};

const OP: &str = "matmul";

/// Weight rows that pass over all rows of `x` together: 16 rows of 1,024 are 64 KiB.
const BLOCK_COLS: usize = 16;

/// The product `[rows, outputs]` of `xs` (`[rows, inputs]`) and the transpose of `weight` (`[outputs, inputs]`), f32.
///
/// Each element is one dot product, summed in the same order whatever the number of rows.
///
/// On a GPU the weight may be bf16; rows are multiplied as f32 while they are few, and rounded to bf16 too from the fifth
/// on.
///
/// # Errors
/// When shapes or types are not these.
pub fn matmul(xs: &Tensor, weight: &Tensor) -> Result<Tensor> {
    matmul_with(xs, weight, None, Sums::Fastest)
}

/// As [`matmul`], with `residual` (`[rows, outputs]`, f32, rows contiguous) added: one pass less over the outputs on a
/// GPU.
///
/// # Errors
/// When shapes or types are not these.
pub fn matmul_add(xs: &Tensor, weight: &Tensor, residual: &Tensor) -> Result<Tensor> {
    matmul_with(xs, weight, Some(residual), Sums::Fastest)
}

/// As [`matmul`], or [`matmul_add`] where there is a `residual`, with a say in how a GPU adds up. Of batch-invariant
/// sums, rows of `xs` lie as far apart as they are wide, and bf16 weights whose width is a multiple of 32 take rows that
/// are rounded to bf16, however many there are.
///
/// # Errors
/// When shapes or types are not these.
pub fn matmul_with(xs: &Tensor, weight: &Tensor, residual: Option<&Tensor>, sums: Sums) -> Result<Tensor> {
    match residual {
        Some(residual) => xs.apply_op3_no_bwd(weight, residual, &MatmulAdd(sums)),
        None => xs.apply_op2_no_bwd(weight, &Matmul(sums)),
    }
}

struct Matmul(#[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "a CPU has one body"))] Sums);

impl CustomOp2 for Matmul {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(
        &self,
        xs: &CpuStorage,
        xs_l: &Layout,
        weight: &CpuStorage,
        w_l: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (xs_m, w_m) = (Matrix::of(xs_l, OP)?, Matrix::of(w_l, OP)?);
        let (xs, weight) = (elements::<f32>(xs, &xs_m, OP)?, elements::<f32>(weight, &w_m, OP)?);
        if xs_m.width != w_m.width {
            bail!("{OP}: rows of {} times weights of {}", xs_m.width, w_m.width)
        }
        let mut ys = vec![0f32; xs_m.rows * w_m.rows];
        let shared = Shared::new(&mut ys);
        let ops_per_block = BLOCK_COLS * w_m.width * xs_m.rows;
        for_each_range(w_m.rows.div_ceil(BLOCK_COLS), ops_per_block, |blocks| {
            let cols = blocks.start * BLOCK_COLS..w_m.rows.min(blocks.end * BLOCK_COLS);
            dispatch(Columns { xs, xs_m, weight, w_m, cols, ys: shared });
        });
        Ok((CpuStorage::F32(ys), Shape::from((xs_m.rows, w_m.rows))))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        xs: &candle_core::CudaStorage,
        xs_l: &Layout,
        weight: &candle_core::CudaStorage,
        w_l: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        super::cuda::matmul(xs, xs_l, weight, w_l, None, self.0)
    }
}

struct MatmulAdd(Sums);

impl CustomOp3 for MatmulAdd {
    fn name(&self) -> &'static str {
        "matmul_add"
    }

    fn cpu_fwd(
        &self,
        xs: &CpuStorage,
        xs_l: &Layout,
        weight: &CpuStorage,
        w_l: &Layout,
        residual: &CpuStorage,
        residual_l: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (ys, shape) = Matmul(self.0).cpu_fwd(xs, xs_l, weight, w_l)?;
        let residual_m = Matrix::of(residual_l, self.name())?;
        let residual = elements::<f32>(residual, &residual_m, self.name())?;
        if shape.dims() != [residual_m.rows, residual_m.width] {
            bail!("{}: {} x {} to {shape:?}", self.name(), residual_m.rows, residual_m.width)
        }
        let CpuStorage::F32(mut ys) = ys else { bail!("{}: products are f32", self.name()) };
        for (row_idx, ys) in ys.chunks_exact_mut(residual_m.width.max(1)).enumerate() {
            ys.iter_mut().zip(residual_m.row(residual, row_idx)).for_each(|(y, x)| *y += x);
        }
        Ok((CpuStorage::F32(ys), shape))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        xs: &candle_core::CudaStorage,
        xs_l: &Layout,
        weight: &candle_core::CudaStorage,
        w_l: &Layout,
        residual: &candle_core::CudaStorage,
        residual_l: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        super::cuda::matmul(xs, xs_l, weight, w_l, Some((residual, residual_l)), self.0)
    }
}

/// The outputs `cols` of all rows. Both matrices lie inside their slices, and have the same width.
struct Columns<'a> {
    xs: &'a [f32],
    xs_m: Matrix,
    weight: &'a [f32],
    w_m: Matrix,
    cols: std::ops::Range<usize>,
    ys: Shared<'a, f32>,
}

impl WithLanes for Columns<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let rows_at_once = L::TILE_ROWS.min(TILE_ROWS_MAX);
        for block in self.cols.clone().step_by(BLOCK_COLS) {
            let block_end = self.cols.end.min(block + BLOCK_COLS);
            for row in (0..self.xs_m.rows).step_by(rows_at_once) {
                for col in (block..block_end).step_by(TILE_COLS) {
                    // SAFETY: the instructions of `L` are the caller's.
                    unsafe {
                        match (self.xs_m.rows - row).min(rows_at_once) {
                            1 => self.tile::<L, 1>(row, col, block_end),
                            2 => self.tile::<L, 2>(row, col, block_end),
                            3 => self.tile::<L, 3>(row, col, block_end),
                            _ => self.tile::<L, 4>(row, col, block_end),
                        }
                    }
                }
            }
        }
    }
}

impl Columns<'_> {
    /// # Safety
    /// The machine must have the instructions of `L`.
    #[inline(always)]
    unsafe fn tile<L: Lanes, const R: usize>(&self, row: usize, col: usize, col_end: usize) {
        let num_cols = TILE_COLS.min(col_end - col);
        let x_rows = std::array::from_fn::<_, R, _>(|r| self.xs_m.row(self.xs, row + r).as_ptr());
        // A tile at the edge repeats its last weight row; the copies are not stored.
        let w_rows = std::array::from_fn(|c| self.w_m.row(self.weight, col + c.min(num_cols - 1)).as_ptr());
        // SAFETY: every pointer is a row of the common width; each output belongs to the one thread that got its
        // column.
        unsafe {
            let dots = dots::<L, R>(x_rows, w_rows, self.xs_m.width);
            for (r, dots) in dots.iter().enumerate() {
                let ys = self.ys.part((row + r) * self.w_m.rows + col, num_cols);
                ys.copy_from_slice(&dots[..num_cols]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::kernels::testing::{assert_close, devices, noise};

    #[test]
    fn every_device_multiplies_as_the_cpu_does() -> Result<()> {
        const SHAPES: [(usize, usize, usize); 12] = [
            (1, 1, 1),
            (1, 64, 33),
            (1, 2048, 100),
            (2, 96, 40),
            (3, 17, 5),
            (4, 4096, 64),
            (5, 96, 18),
            (8, 256, 16),
            (9, 200, 40),
            (33, 512, 70),
            (64, 1056, 48),
            (70, 576, 100),
        ];
        for device in devices() {
            for (rows, inputs, outputs) in SHAPES {
                let what = format!("{rows} x {inputs} x {outputs}");
                let xs = Tensor::from_vec(noise(rows * inputs, 1), (rows, inputs), &Device::Cpu)?;
                let weight = Tensor::from_vec(noise(outputs * inputs, 2), (outputs, inputs), &Device::Cpu)?;
                let residual = Tensor::from_vec(noise(rows * outputs, 3), (rows, outputs), &Device::Cpu)?;
                let (expected, sum) = (matmul(&xs, &weight)?, matmul_add(&xs, &weight, &residual)?);
                assert_close(&sum, &(&expected + &residual)?, 1e-6, &what)?;
                let (xs, weight) = (xs.to_device(&device)?, weight.to_device(&device)?);
                let residual = residual.to_device(&device)?;
                assert_close(&matmul(&xs, &weight)?, &expected, 1e-5, &format!("{what}, f32"))?;
                assert_close(&matmul_add(&xs, &weight, &residual)?, &sum, 1e-5, &format!("{what}, f32, added"))?;
                if !device.is_cpu() {
                    let weight = weight.to_dtype(DType::BF16)?;
                    assert_close(&matmul(&xs, &weight)?, &expected, 1e-2, &format!("{what}, bf16"))?;
                    assert_close(&matmul_add(&xs, &weight, &residual)?, &sum, 1e-2, &format!("{what}, bf16, added"))?;
                }
            }
        }
        Ok(())
    }

    fn ramp(rows: usize, width: usize, step: usize) -> Result<Tensor> {
        let values: Vec<f32> = (0..rows * width).map(|i| ((i * step) % 97) as f32 / 48.0 - 1.0).collect();
        Tensor::from_vec(values, (rows, width), &Device::Cpu)
    }

    #[test]
    fn every_shape_agrees_with_candles_product() -> Result<()> {
        for (rows, inputs, outputs) in [(1, 1, 1), (1, 64, 33), (3, 17, 5), (5, 96, 18), (9, 200, 40), (70, 576, 100)] {
            let (xs, weight) = (ramp(rows, inputs, 31)?, ramp(outputs, inputs, 53)?);
            let expected = xs.matmul(&weight.t()?)?;
            let worst = (matmul(&xs, &weight)? - expected)?.abs()?.max_all()?.to_scalar::<f32>()?;
            assert!(worst < 1e-4, "{rows} x {inputs} x {outputs}: off by {worst}");
        }
        Ok(())
    }

    #[test]
    fn a_row_is_the_same_to_the_bit_alone_and_in_company() -> Result<()> {
        let (xs, weight) = (ramp(37, 200, 31)?, ramp(50, 200, 53)?);
        let together = matmul(&xs, &weight)?.to_vec2::<f32>()?;
        for (row_idx, row) in together.iter().enumerate() {
            let alone = matmul(&xs.narrow(0, row_idx, 1)?, &weight)?.to_vec2::<f32>()?;
            assert_eq!(&alone[0], row, "row {row_idx}");
        }
        Ok(())
    }

    #[test]
    fn batch_invariant_rows_are_the_same_on_every_device_and_close_to_the_cpus() -> Result<()> {
        for device in devices() {
            for (inputs, dtype, tolerance) in
                [(256, DType::BF16, 1e-2), (256, DType::F32, 1e-5), (17, DType::F32, 1e-5), (40, DType::BF16, 1e-2)]
            {
                if device.is_cpu() && dtype == DType::BF16 {
                    continue;
                }
                let (xs, weight, residual) = (ramp(130, inputs, 31)?, ramp(50, inputs, 53)?, ramp(130, 50, 7)?);
                let expected = matmul_add(&xs, &weight, &residual)?;
                let (xs, residual) = (xs.to_device(&device)?, residual.to_device(&device)?);
                let weight = weight.to_device(&device)?.to_dtype(dtype)?;
                let rows = |first: usize, count: usize| {
                    let residual = residual.narrow(0, first, count)?;
                    matmul_with(&xs.narrow(0, first, count)?, &weight, Some(&residual), Sums::BatchInvariant)
                };
                let together = rows(0, 130)?;
                assert_close(&together, &expected, tolerance, &format!("{inputs} inputs, {dtype:?}"))?;
                for (first, count) in [(0, 1), (129, 1), (5, 3), (64, 8), (60, 64), (1, 65)] {
                    let found = rows(first, count)?.to_vec2::<f32>()?;
                    assert_eq!(
                        found,
                        together.narrow(0, first, count)?.to_vec2::<f32>()?,
                        "{first} + {count}, {dtype:?}"
                    );
                }
            }
        }
        Ok(())
    }
}
