//! Rotary position embedding, in place: each head's first half is paired with its second half.

use candle_core::{CpuStorage, InplaceOp3, Layout, Result, Tensor, bail};

use super::operand::{Matrix, elements, elements_mut};
use super::parallel::{Shared, for_each_range};

const OP: &str = "rope";

/// Rotates every head of `xs` (`[rows, heads * head_dim]`, f32, on a GPU also bf16, rows contiguous, possibly a view) by
/// its row's angles.
///
/// `cos` and `sin` are `[rows, head_dim / 2]`: element `i` of a head turns with element `i + head_dim / 2`, the order
/// of Hugging Face checkpoints.
///
/// # Errors
/// When shapes or types are not these.
pub fn rope(xs: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<()> {
    xs.inplace_op3(cos, sin, &Rope)
}

struct Rope;

impl InplaceOp3 for Rope {
    fn name(&self) -> &'static str {
        OP
    }

    #[allow(unsafe_code)]
    fn cpu_fwd(
        &self,
        xs: &mut CpuStorage,
        xs_l: &Layout,
        cos: &CpuStorage,
        cos_l: &Layout,
        sin: &CpuStorage,
        sin_l: &Layout,
    ) -> Result<()> {
        let (matrix, cos_m, sin_m) = (Matrix::of(xs_l, OP)?, Matrix::of(cos_l, OP)?, Matrix::of(sin_l, OP)?);
        elements::<f32>(xs, &matrix, OP)?;
        let (cos, sin) = (elements::<f32>(cos, &cos_m, OP)?, elements::<f32>(sin, &sin_m, OP)?);
        let half = cos_m.width;
        if half == 0 || matrix.width % (2 * half) != 0 || sin_m.width != half {
            bail!("{OP}: rows of {} do not hold heads of twice {half} and {}", matrix.width, sin_m.width)
        }
        if [cos_m.rows, sin_m.rows] != [matrix.rows; 2] || matrix.stride < matrix.width {
            bail!("{OP}: {} rows, angles for {} and {}", matrix.rows, cos_m.rows, sin_m.rows)
        }
        let shared = Shared::new(elements_mut(xs, OP)?);
        for_each_range(matrix.rows, 2 * matrix.width, |rows| {
            for row_idx in rows {
                // SAFETY: rows do not overlap (stride >= width) and each is given to one thread.
                let row = unsafe { shared.part(matrix.offset + row_idx * matrix.stride, matrix.width) };
                rotate_row(row, cos_m.row(cos, row_idx), sin_m.row(sin, row_idx));
            }
        });
        Ok(())
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        xs: &mut candle_core::CudaStorage,
        xs_l: &Layout,
        cos: &candle_core::CudaStorage,
        cos_l: &Layout,
        sin: &candle_core::CudaStorage,
        sin_l: &Layout,
    ) -> Result<()> {
        super::cuda::rope(xs, xs_l, (cos, cos_l), (sin, sin_l))
    }
}

fn rotate_row(row: &mut [f32], cos: &[f32], sin: &[f32]) {
    for head in row.chunks_exact_mut(2 * cos.len()) {
        let (first, second) = head.split_at_mut(cos.len());
        for (((a, b), cos), sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
            (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::kernels::testing::{assert_close, devices, noise};

    #[test]
    fn every_device_turns_heads_as_the_cpu_does() -> Result<()> {
        for device in devices() {
            for (rows, heads, head_dim) in [(1, 1, 2), (3, 5, 8), (2, 16, 128), (7, 9, 64)] {
                let (width, half) = (heads * head_dim, head_dim / 2);
                let xs = Tensor::from_vec(noise(rows * (width + 3), 1), (rows, width + 3), &Device::Cpu)?;
                let angles = Tensor::from_vec(noise(rows * half, 2), (rows, half), &Device::Cpu)?;
                let (cos, sin) = (angles.cos()?, angles.sin()?);
                let other = xs.to_device(&device)?.copy()?;
                let rounded = other.to_dtype(DType::BF16)?;
                let (device_cos, device_sin) = (cos.to_device(&device)?, sin.to_device(&device)?);
                rope(&other.narrow(1, 2, width)?, &device_cos, &device_sin)?;
                if !device.is_cpu() {
                    rope(&rounded.narrow(1, 2, width)?, &device_cos, &device_sin)?;
                }
                rope(&xs.narrow(1, 2, width)?, &cos, &sin)?;
                assert_close(&other, &xs, 1e-5, &format!("{rows} x {heads} x {head_dim}, f32"))?;
                if !device.is_cpu() {
                    assert_close(&rounded, &xs, 1e-2, &format!("{rows} x {heads} x {head_dim}, bf16"))?;
                }
            }
        }
        Ok(())
    }

    #[test]
    fn a_view_is_rotated_in_place_and_its_neighbours_are_left() -> Result<()> {
        let xs = Tensor::arange(0f32, 24f32, &Device::Cpu)?.reshape((2, 12))?;
        let cos = Tensor::new(&[[0f32, 1.0], [1.0, 1.0]], &Device::Cpu)?;
        let sin = Tensor::new(&[[1f32, 0.0], [0.0, 0.0]], &Device::Cpu)?;
        rope(&xs.narrow(1, 0, 8)?, &cos, &sin)?;
        let rows = xs.to_vec2::<f32>()?;
        assert_eq!(rows[0], [-2.0, 1.0, 0.0, 3.0, -6.0, 5.0, 4.0, 7.0, 8.0, 9.0, 10.0, 11.0]);
        assert_eq!(rows[1], (12..24).map(|x| x as f32).collect::<Vec<_>>());
        assert!(rope(&xs.narrow(1, 0, 6)?, &cos, &sin).is_err());
        Ok(())
    }
}
