//! `y += x`, in place: biases and residual connections.
#![allow(unsafe_code)]

use candle_core::{CpuStorage, InplaceOp2, Layout, Result, Tensor, bail};

use super::operand::{Matrix, elements, elements_mut, vector};
use super::parallel::{Shared, for_each_range};

const OP: &str = "add_assign";

/// Adds `xs` to `ys` (`[rows, width]`, f32, on a GPU also bf16): the row of the same index of a `[rows, width]` matrix, or the same
/// `[width]` vector to every row.
///
/// # Errors
/// When shapes or types are not these.
pub fn add_assign(ys: &Tensor, xs: &Tensor) -> Result<()> {
    ys.inplace_op2(xs, &AddAssign)
}

struct AddAssign;

impl InplaceOp2 for AddAssign {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(&self, ys: &mut CpuStorage, ys_l: &Layout, xs: &CpuStorage, xs_l: &Layout) -> Result<()> {
        let matrix = Matrix::of(ys_l, OP)?;
        elements::<f32>(ys, &matrix, OP)?;
        let (xs, xs_m) = match xs_l.dims().len() {
            1 => {
                let xs = vector::<f32>(xs, xs_l, matrix.width, OP)?;
                (xs, Matrix { offset: 0, stride: 0, ..matrix })
            }
            _ => {
                let xs_m = Matrix::of(xs_l, OP)?;
                (elements::<f32>(xs, &xs_m, OP)?, xs_m)
            }
        };
        if (xs_m.rows, xs_m.width) != (matrix.rows, matrix.width) || matrix.stride < matrix.width {
            bail!("{OP}: {} x {} to {} x {}", xs_m.rows, xs_m.width, matrix.rows, matrix.width)
        }
        let shared = Shared::new(elements_mut(ys, OP)?);
        for_each_range(matrix.rows, matrix.width, |rows| {
            for row_idx in rows {
                // SAFETY: rows do not overlap (stride >= width) and each is given to one thread.
                let ys = unsafe { shared.part(matrix.offset + row_idx * matrix.stride, matrix.width) };
                ys.iter_mut().zip(xs_m.row(xs, row_idx)).for_each(|(y, x)| *y += x);
            }
        });
        Ok(())
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        ys: &mut candle_core::CudaStorage,
        ys_l: &Layout,
        xs: &candle_core::CudaStorage,
        xs_l: &Layout,
    ) -> Result<()> {
        super::cuda::add_assign(ys, ys_l, xs, xs_l)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::kernels::testing::{assert_close, devices, noise};

    #[test]
    fn every_device_adds_as_the_cpu_does() -> Result<()> {
        for device in devices() {
            for (rows, width) in [(1, 1), (3, 40), (5, 513)] {
                let ys = Tensor::from_vec(noise(rows * width, 8), (rows, width), &Device::Cpu)?;
                let matrix = Tensor::from_vec(noise(rows * width, 9), (rows, width), &Device::Cpu)?;
                let vector = matrix.narrow(0, 0, 1)?.flatten_all()?;
                let other = ys.to_device(&device)?.copy()?;
                let rounded = other.to_dtype(DType::BF16)?;
                for xs in [&matrix, &vector] {
                    let on_device = xs.to_device(&device)?;
                    add_assign(&other, &on_device)?;
                    if !device.is_cpu() {
                        add_assign(&rounded, &on_device.to_dtype(DType::BF16)?)?;
                    }
                    add_assign(&ys, xs)?;
                }
                assert_close(&other, &ys, 1e-5, &format!("{rows} x {width}, f32"))?;
                if !device.is_cpu() {
                    assert_close(&rounded, &ys, 1e-2, &format!("{rows} x {width}, bf16"))?;
                }
            }
        }
        Ok(())
    }

    #[test]
    fn a_vector_goes_to_every_row_and_a_matrix_row_by_row() -> Result<()> {
        let ys = Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu)?;
        add_assign(&ys, &Tensor::new(&[10f32, 20.0], &Device::Cpu)?)?;
        add_assign(&ys, &Tensor::new(&[[0f32, 1.0], [2.0, 3.0]], &Device::Cpu)?)?;
        assert_eq!(ys.to_vec2::<f32>()?, [[11.0, 23.0], [15.0, 27.0]]);
        assert!(add_assign(&ys, &Tensor::new(&[1f32], &Device::Cpu)?).is_err());
        Ok(())
    }
}
