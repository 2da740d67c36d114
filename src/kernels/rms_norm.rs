//! `y = x / sqrt(mean(x^2) + eps) * weight`, row by row.
#![allow(unsafe_code)]

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};

use super::lanes::{Lanes, WithLanes, dispatch};
use super::operand::{Matrix, elements, vector};
use super::parallel::{Shared, for_each_range};

const OP: &str = "rms_norm";

/// Normalizes every row of `xs` (`[rows, width]`, f32, on a GPU also bf16, rows contiguous) to unit mean square and
/// scales it by `weight` (`[width]`, f32).
///
/// # Errors
/// When shapes or types are not these.
pub fn rms_norm(xs: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    xs.apply_op2_no_bwd(weight, &RmsNorm { eps: eps as f32 })
}

struct RmsNorm {
    eps: f32,
}

impl CustomOp2 for RmsNorm {
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
        let matrix = Matrix::of(xs_l, OP)?;
        let xs = elements::<f32>(xs, &matrix, OP)?;
        if matrix.width == 0 {
            bail!("{OP}: rows are empty")
        }
        let weight = vector::<f32>(weight, w_l, matrix.width, OP)?;
        let mut ys = vec![0f32; matrix.rows * matrix.width];
        let shared = Shared::new(&mut ys);
        for_each_range(matrix.rows, matrix.width, |rows| {
            for row_idx in rows {
                // SAFETY: each row is written by the one thread that got its index.
                let ys = unsafe { shared.part(row_idx * matrix.width, matrix.width) };
                dispatch(Row { xs: matrix.row(xs, row_idx), weight, eps: self.eps, ys });
            }
        });
        Ok((CpuStorage::F32(ys), Shape::from((matrix.rows, matrix.width))))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        xs: &candle_core::CudaStorage,
        xs_l: &Layout,
        weight: &candle_core::CudaStorage,
        w_l: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        super::cuda::rms_norm(xs, xs_l, weight, w_l, self.eps)
    }
}

/// One row; all slices have its width.
struct Row<'a> {
    xs: &'a [f32],
    weight: &'a [f32],
    eps: f32,
    ys: &'a mut [f32],
}

impl WithLanes for Row<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let width = self.xs.len();
        let whole = width - width % L::WIDTH;
        // SAFETY: loads and stores stay below `whole`, which all three slices reach (vector() and part() checked).
        unsafe {
            let mut squares = L::splat(0.0);
            for i in (0..whole).step_by(L::WIDTH) {
                let x = L::load(self.xs.as_ptr().add(i));
                squares = x.mul_add(x, squares);
            }
            let tail: f32 = self.xs[whole..].iter().map(|x| x * x).sum();
            let scale = 1.0 / ((squares.sum() + tail) / width as f32 + self.eps).sqrt();
            for i in (0..whole).step_by(L::WIDTH) {
                let x = L::load(self.xs.as_ptr().add(i)).mul(L::splat(scale));
                x.mul(L::load(self.weight.as_ptr().add(i))).store(self.ys.as_mut_ptr().add(i));
            }
            for i in whole..width {
                self.ys[i] = self.xs[i] * scale * self.weight[i];
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
    fn every_device_gives_the_rows_of_the_cpu() -> Result<()> {
        for device in devices() {
            for (rows, width, view) in [(1, 1, 0), (3, 7, 2), (5, 64, 0), (2, 576, 4), (4, 2048, 0), (3, 4100, 8)] {
                let wide = Tensor::from_vec(noise(rows * (width + view), 5), (rows, width + view), &Device::Cpu)?;
                let weight = Tensor::from_vec(noise(width, 6), width, &Device::Cpu)?;
                let expected = rms_norm(&wide.narrow(1, view, width)?, &weight, 1e-5)?;
                let (wide, weight) = (wide.to_device(&device)?, weight.to_device(&device)?);
                let ys = rms_norm(&wide.narrow(1, view, width)?, &weight, 1e-5)?;
                assert_close(&ys, &expected, 1e-5, &format!("{rows} x {width}, f32"))?;
                if !device.is_cpu() {
                    let xs = wide.to_dtype(DType::BF16)?.narrow(1, view, width)?;
                    let ys = rms_norm(&xs, &weight, 1e-5)?;
                    assert_close(&ys, &expected, 1e-2, &format!("{rows} x {width}, bf16"))?;
                }
            }
        }
        Ok(())
    }

    /// Of a view, one row lies like a whole matrix, and may be thought to begin and end better than several do.
    #[test]
    fn a_row_of_a_view_is_the_same_alone_and_in_company() -> Result<()> {
        for device in devices() {
            for (width, view) in [(64, 2), (64, 4), (1028, 6), (7, 3)] {
                let wide = Tensor::from_vec(noise(9 * (width + view), 5), (9, width + view), &device)?;
                let weight = Tensor::from_vec(noise(width, 6), width, &device)?;
                let rows = |first: usize, count: usize| {
                    rms_norm(&wide.narrow(0, first, count)?.narrow(1, 0, width)?, &weight, 1e-5)?.to_vec2::<f32>()
                };
                let together = rows(0, 9)?;
                for (first, count) in [(0, 1), (4, 1), (8, 1), (2, 3)] {
                    assert_eq!(rows(first, count)?, together[first..first + count], "{width} of {}", width + view);
                }
            }
        }
        Ok(())
    }

    #[test]
    fn a_row_is_the_textbook_formula_whatever_its_width_and_stride() -> Result<()> {
        for width in [1, 7, 16, 19, 64] {
            let values: Vec<f32> = (0..3 * (width + 5)).map(|i| ((i * 37) % 23) as f32 / 7.0 - 1.5).collect();
            let wide = Tensor::from_vec(values, (3, width + 5), &Device::Cpu)?;
            let xs = wide.narrow(1, 2, width)?;
            let weight = Tensor::arange(0f32, width as f32, &Device::Cpu)?;
            let ys = rms_norm(&xs, &weight, 1e-5)?.to_vec2::<f32>()?;
            for (x, y) in xs.to_vec2::<f32>()?.into_iter().zip(ys) {
                let mean = x.iter().map(|x| x * x).sum::<f32>() / width as f32;
                for (i, (x, y)) in x.iter().zip(y).enumerate() {
                    let expected = x / (mean + 1e-5).sqrt() * i as f32;
                    assert!((y - expected).abs() <= 1e-5 * expected.abs(), "width {width}: {y} for {expected}");
                }
            }
        }
        Ok(())
    }

    #[test]
    fn a_weight_of_another_width_is_refused() -> Result<()> {
        let xs = Tensor::zeros((2, 8), candle_core::DType::F32, &Device::Cpu)?;
        let weight = Tensor::zeros(7, candle_core::DType::F32, &Device::Cpu)?;
        assert!(rms_norm(&xs, &weight, 1e-5).is_err());
        Ok(())
    }
}
