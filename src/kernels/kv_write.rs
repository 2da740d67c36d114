//! Scatters the step's keys or values into their slots of a paged plane.

use candle_core::{CpuStorage, InplaceOp3, Layout, Result, Tensor, bail};

use super::operand::{Matrix, elements, elements_mut, vector};

const OP: &str = "kv_write";

/// Copies row `i` of `rows` (`[n, width]`, f32, rows contiguous, possibly a view) to row `slots[i]` of `plane`
/// (`[num_slots, width]`, f32). `slots` is `[n]`, u32. On a GPU the plane may be bf16, and the rows too.
///
/// # Errors
/// When shapes or types are not these, or a slot lies outside the plane; then nothing was written. A GPU does not read
/// slots back: there a row whose slot lies outside is left out, and it is the batch that was checked.
pub fn kv_write(plane: &Tensor, rows: &Tensor, slots: &Tensor) -> Result<()> {
    plane.inplace_op3(rows, slots, &KvWrite)
}

struct KvWrite;

impl InplaceOp3 for KvWrite {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(
        &self,
        plane: &mut CpuStorage,
        plane_l: &Layout,
        rows: &CpuStorage,
        rows_l: &Layout,
        slots: &CpuStorage,
        slots_l: &Layout,
    ) -> Result<()> {
        let (plane_m, rows_m) = (Matrix::of(plane_l, OP)?, Matrix::of(rows_l, OP)?);
        elements::<f32>(plane, &plane_m, OP)?;
        let rows = elements::<f32>(rows, &rows_m, OP)?;
        let slots = vector::<u32>(slots, slots_l, rows_m.rows, OP)?;
        if plane_m.width != rows_m.width {
            bail!("{OP}: rows of {} into a plane of {}", rows_m.width, plane_m.width)
        }
        if let Some(slot) = slots.iter().find(|&&slot| slot as usize >= plane_m.rows) {
            bail!("{OP}: slot {slot} of {}", plane_m.rows)
        }
        let plane = elements_mut(plane, OP)?;
        for (row_idx, &slot) in slots.iter().enumerate() {
            let start = plane_m.offset + slot as usize * plane_m.stride;
            plane[start..start + plane_m.width].copy_from_slice(rows_m.row(rows, row_idx));
        }
        Ok(())
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        plane: &mut candle_core::CudaStorage,
        plane_l: &Layout,
        rows: &candle_core::CudaStorage,
        rows_l: &Layout,
        slots: &candle_core::CudaStorage,
        slots_l: &Layout,
    ) -> Result<()> {
        super::cuda::kv_write(plane, plane_l, (rows, rows_l), (slots, slots_l))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::kernels::testing::{assert_close, devices, noise};

    #[test]
    fn every_device_writes_the_planes_of_the_cpu() -> Result<()> {
        for device in devices() {
            for (rows, width) in [(1, 1), (3, 40), (5, 512)] {
                let types: &[DType] = if device.is_cpu() { &[DType::F32] } else { &[DType::F32, DType::BF16] };
                let wide = Tensor::from_vec(noise(rows * (width + 8), 4), (rows, width + 8), &Device::Cpu)?;
                let slots = Tensor::new((0..rows as u32).map(|i| (i * 5 + 3) % 11).collect::<Vec<_>>(), &Device::Cpu)?;
                let expected = Tensor::zeros((11, width), DType::F32, &Device::Cpu)?;
                kv_write(&expected, &wide.narrow(1, 4, width)?, &slots)?;
                for &dtype in types {
                    let plane = Tensor::zeros((11, width), dtype, &device)?;
                    let rows = wide.to_device(&device)?.narrow(1, 4, width)?;
                    kv_write(&plane, &rows, &slots.to_device(&device)?)?;
                    let tolerance = if dtype == DType::F32 { 0.0 } else { 1e-2 };
                    assert_close(&plane, &expected, tolerance, &format!("rows of {width}, {dtype:?}"))?;
                }
            }
        }
        Ok(())
    }

    #[test]
    fn rows_land_in_their_slots_and_a_slot_outside_writes_nothing() -> Result<()> {
        let plane = Tensor::zeros((4, 2), DType::F32, &Device::Cpu)?;
        let rows = Tensor::arange(1f32, 7f32, &Device::Cpu)?.reshape((2, 3))?.narrow(1, 1, 2)?;
        kv_write(&plane, &rows, &Tensor::new(&[3u32, 0], &Device::Cpu)?)?;
        let expected = [[5.0, 6.0], [0.0, 0.0], [0.0, 0.0], [2.0, 3.0]];
        assert_eq!(plane.to_vec2::<f32>()?, expected);
        assert!(kv_write(&plane, &rows, &Tensor::new(&[1u32, 4], &Device::Cpu)?).is_err());
        assert_eq!(plane.to_vec2::<f32>()?, expected);
        Ok(())
    }
}
