//! Rows of a matrix by their indices: embeddings, and the rows whose logits are wanted.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};

use super::operand::{Matrix, elements, vector};

const OP: &str = "gather";

/// The rows `ids` (`[n]`, u32) of `rows` (`[num_rows, width]`, f32, on a GPU also bf16), as `[n, width]`, f32.
///
/// # Errors
/// When shapes or types are not these, or an id is not below `num_rows`. A GPU does not read ids back: there such an id
/// gives zeros, and it is the batch that was checked.
pub fn gather(rows: &Tensor, ids: &Tensor) -> Result<Tensor> {
    rows.apply_op2_no_bwd(ids, &Gather)
}

struct Gather;

impl CustomOp2 for Gather {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(
        &self,
        rows: &CpuStorage,
        rows_l: &Layout,
        ids: &CpuStorage,
        ids_l: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let matrix = Matrix::of(rows_l, OP)?;
        let rows = elements::<f32>(rows, &matrix, OP)?;
        let num_ids = ids_l.shape().elem_count();
        let ids = vector::<u32>(ids, ids_l, num_ids, OP)?;
        if let Some(id) = ids.iter().find(|&&id| id as usize >= matrix.rows) {
            bail!("{OP}: row {id} of {}", matrix.rows)
        }
        let mut ys = Vec::with_capacity(num_ids * matrix.width);
        ids.iter().for_each(|&id| ys.extend_from_slice(matrix.row(rows, id as usize)));
        Ok((CpuStorage::F32(ys), Shape::from((num_ids, matrix.width))))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        rows: &candle_core::CudaStorage,
        rows_l: &Layout,
        ids: &candle_core::CudaStorage,
        ids_l: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        super::cuda::gather(rows, rows_l, ids, ids_l)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::kernels::testing::{assert_close, devices, noise};

    #[test]
    fn every_device_finds_the_rows_asked_for() -> Result<()> {
        for device in devices() {
            for (num_rows, width) in [(1, 1), (5, 37), (40, 512)] {
                let rows = Tensor::from_vec(noise(num_rows * width, 2), (num_rows, width), &Device::Cpu)?;
                let ids = Tensor::new((0..7u32).map(|i| (i * 3) % num_rows as u32).collect::<Vec<_>>(), &Device::Cpu)?;
                let expected = rows.index_select(&ids, 0)?;
                let (rows, ids) = (rows.to_device(&device)?, ids.to_device(&device)?);
                assert_close(&gather(&rows, &ids)?, &expected, 0.0, &format!("rows of {width}, f32"))?;
                if !device.is_cpu() {
                    let ys = gather(&rows.to_dtype(DType::BF16)?, &ids)?;
                    assert_close(&ys, &expected, 1e-2, &format!("rows of {width}, bf16"))?;
                }
            }
        }
        Ok(())
    }

    #[test]
    fn a_row_that_is_not_there_is_refused() -> Result<()> {
        let rows = Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?;
        assert!(gather(&rows, &Tensor::new(&[2u32], &Device::Cpu)?).is_err());
        Ok(())
    }
}
