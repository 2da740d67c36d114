//! Scatters the step's keys or values into their slots of a paged plane.

use candle_core::{CpuStorage, InplaceOp3, Layout, Result, Tensor, bail};

use super::operand::{Matrix, elements, elements_mut, vector};

const OP: &str = "kv_write";

/// Copies row `i` of `rows` (`[n, width]`, f32, rows contiguous, possibly a view) to row `slots[i]` of `plane`
/// (`[num_slots, width]`, f32). `slots` is `[n]`, u32.
///
/// # Errors
/// When shapes or types are not these, or a slot lies outside the plane; then nothing was written.
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
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

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
