//! `y = sum of w_i x_i` over the rows that belong together: what a token's experts answer, in the order of choice.
#![allow(unsafe_code)]

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};

use super::operand::{Matrix, elements};
use super::parallel::{Shared, for_each_range};

const OP: &str = "weighted_sum";

/// Of `xs` (`[rows * n, width]`, f32) and `weights` (`[rows, n]`, f32), both with contiguous rows, the sums
/// `[rows, width]` of each `n` neighbouring rows, weighed and added in their order.
///
/// # Errors
/// When shapes or types are not these.
pub fn weighted_sum(xs: &Tensor, weights: &Tensor) -> Result<Tensor> {
    xs.apply_op2_no_bwd(weights, &WeightedSum)
}

struct WeightedSum;

impl CustomOp2 for WeightedSum {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(
        &self,
        xs: &CpuStorage,
        xs_l: &Layout,
        weights: &CpuStorage,
        weights_l: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (xs_m, weights_m) = (Matrix::of(xs_l, OP)?, Matrix::of(weights_l, OP)?);
        let (xs, weights) = (elements::<f32>(xs, &xs_m, OP)?, elements::<f32>(weights, &weights_m, OP)?);
        let Matrix { rows, width: n, .. } = weights_m;
        if xs_m.rows != rows * n {
            bail!("{OP}: {} rows for {rows} x {n} weights", xs_m.rows)
        }
        let mut ys = vec![0f32; rows * xs_m.width];
        let shared = Shared::new(&mut ys);
        for_each_range(rows, n * xs_m.width, |rows| {
            for row_idx in rows {
                // SAFETY: each row is written by the one thread that got its index.
                let ys = unsafe { shared.part(row_idx * xs_m.width, xs_m.width) };
                for (i, weight) in weights_m.row(weights, row_idx).iter().enumerate() {
                    ys.iter_mut().zip(xs_m.row(xs, row_idx * n + i)).for_each(|(y, x)| *y += weight * x);
                }
            }
        });
        Ok((CpuStorage::F32(ys), Shape::from((rows, xs_m.width))))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        xs: &candle_core::CudaStorage,
        xs_l: &Layout,
        weights: &candle_core::CudaStorage,
        weights_l: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        super::cuda::weighted_sum((xs, xs_l), (weights, weights_l))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::kernels::testing::{assert_close, devices, noise};

    #[test]
    fn every_device_sums_as_the_cpu_does() -> Result<()> {
        for device in devices() {
            for (rows, n, width) in [(1, 1, 5), (3, 6, 300), (40, 2, 64)] {
                let matrix = |rows: usize, width: usize, seed| {
                    Tensor::from_vec(noise(rows * width, seed), (rows, width), &Device::Cpu)
                };
                let (xs, weights) = (matrix(rows * n, width + 1, 1)?, matrix(rows, n, 2)?);
                let sum = |device: &Device| {
                    weighted_sum(&xs.to_device(device)?.narrow(1, 1, width)?, &weights.to_device(device)?)
                };
                assert_close(&sum(&device)?, &sum(&Device::Cpu)?, 1e-6, &format!("{rows} x {n} x {width}"))?;
            }
        }
        Ok(())
    }

    #[test]
    fn batch_invariant_rows_are_the_same_alone_and_in_company() -> Result<()> {
        for device in devices() {
            let (n, width) = (6, 300);
            let xs = Tensor::from_vec(noise(70 * n * width, 1), (70 * n, width), &device)?;
            let weights = Tensor::from_vec(noise(70 * n, 2), (70, n), &device)?;
            let rows = |first: usize, count: usize| {
                weighted_sum(&xs.narrow(0, first * n, count * n)?, &weights.narrow(0, first, count)?)?.to_vec2::<f32>()
            };
            let together = rows(0, 70)?;
            for (first, count) in [(0, 1), (69, 1), (5, 3), (2, 64)] {
                assert_eq!(rows(first, count)?, together[first..first + count], "{first} + {count}");
            }
        }
        Ok(())
    }

    #[test]
    fn neighbouring_rows_are_weighed_and_added() -> Result<()> {
        let xs = Tensor::new(&[[1f32, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]], &Device::Cpu)?;
        let weights = Tensor::new(&[[1f32, 10.0], [0.0, -1.0]], &Device::Cpu)?;
        assert_eq!(weighted_sum(&xs, &weights)?.to_vec2::<f32>()?, [[31.0, 42.0], [-7.0, -8.0]]);
        assert!(weighted_sum(&xs.narrow(0, 0, 3)?, &weights).is_err());
        Ok(())
    }
}
