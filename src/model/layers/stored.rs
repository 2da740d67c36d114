use candle_core::quantized::QTensor;
use candle_core::{DType, Tensor};

use crate::kernels::{self, BlockFormat, BlockMatrix, Fp8Matrix, PlanarBlocks, Sums, Uploader};
use crate::model::{ModelError, QuantLayout, QuantWeight, superblocks};

/// A matrix as the device computes with it: repacked once, when it is loaded.
pub(crate) enum StoredWeight {
    /// One output per row: f32, and on a GPU bf16 where the file has bf16.
    Dense(Tensor, Sums),
    /// Repacked for this processor.
    Blocks(BlockMatrix),
    /// Repacked for a GPU.
    Planar(PlanarBlocks),
    /// Of 8-bit floats.
    Fp8(Fp8Matrix),
    /// In the layout of the file, multiplied by candle: K-quants, and what this processor has no kernel for.
    Candle(QTensor),
}

impl StoredWeight {
    /// Brings `weight` to the device of `uploader`: on a GPU, bf16 and f32 byte by byte as they are stored. For
    /// batch-invariant sums there, K-quants are taken apart, since candle chooses its body by the number of rows.
    pub(crate) fn new(weight: &QuantWeight<'_>, sums: Sums, uploader: &Uploader) -> Result<Self, ModelError> {
        let device = uploader.device();
        if weight.layout().is_dense() {
            let on_gpu = !device.is_cpu();
            let tensor = match weight.layout() {
                QuantLayout::BF16 if on_gpu => uploader.tensor(&weight.pieces(), DType::BF16, weight.shape())?,
                QuantLayout::F32 if on_gpu => uploader.tensor(&weight.pieces(), DType::F32, weight.shape())?,
                _ => uploader.values(weight.to_f32()?, weight.shape())?,
            };
            return Ok(Self::Dense(tensor, sums));
        }
        if let (QuantLayout::F8E4M3, &[rows, width]) = (weight.layout(), weight.shape())
            && let Some(matrix) = Fp8Matrix::new(&weight.bytes(), rows, width, uploader)?
        {
            return Ok(Self::Fp8(matrix.with_sums(sums)));
        }
        if let (Some(format), &[rows, width]) = (format(weight.layout()), weight.shape()) {
            if !device.is_cpu()
                && let Some(planar) = PlanarBlocks::new(&weight.bytes(), format, rows, width, uploader)?
            {
                return Ok(Self::Planar(planar.with_sums(sums)));
            }
            if device.is_cpu()
                && BlockMatrix::is_fast_here()
                && let Some(blocks) = BlockMatrix::new(&weight.bytes(), format, rows, width)
            {
                return Ok(Self::Blocks(blocks));
            }
        }
        if !device.is_cpu() && sums == Sums::BatchInvariant {
            return Self::taken_apart(weight, sums, uploader);
        }
        let (bytes, dtype) = weight.ggml_blocks()?;
        Ok(Self::Candle(uploader.blocks(&bytes, dtype, weight.shape())?))
    }

    /// As blocks that have a kernel of ours; what can be none is decoded to bf16, which holds its values to eight bits.
    fn taken_apart(weight: &QuantWeight<'_>, sums: Sums, uploader: &Uploader) -> Result<Self, ModelError> {
        if let (Some(halves), &[rows, width]) = (superblocks::halves(weight), weight.shape())
            && let Some(planar) = PlanarBlocks::of_halves(&halves.weights, &halves.scales, rows, width, uploader)?
        {
            return Ok(Self::Planar(planar.with_sums(sums)));
        }
        let plain = match superblocks::take_apart(weight) {
            Some(plain) => plain,
            None => QuantWeight::quantize(&weight.to_f32()?, QuantLayout::BF16, weight.shape())?,
        };
        Self::new(&plain, sums, uploader)
    }

    /// Bytes that `weight` takes on a GPU, for such sums.
    pub(crate) fn num_bytes_on_gpu(weight: &QuantWeight<'_>, sums: Sums) -> usize {
        let num_weights: usize = weight.shape().iter().product();
        match (weight.layout(), sums) {
            (QuantLayout::F16, _) => size_of::<f32>() * num_weights,
            (QuantLayout::Q4K, Sums::BatchInvariant) => num_weights / 32 * 20,
            (QuantLayout::Q3K | QuantLayout::Q5K | QuantLayout::Q6K, Sums::BatchInvariant) => num_weights / 32 * 36,
            (QuantLayout::Q2K | QuantLayout::Q8_1 | QuantLayout::Q8K, Sums::BatchInvariant) => 2 * num_weights,
            _ => weight.num_bytes(),
        }
    }

    /// `[rows, outputs]` of `xs` (`[rows, inputs]`).
    pub(crate) fn product(&self, xs: &Tensor) -> Result<Tensor, ModelError> {
        Ok(match self {
            Self::Dense(weight, sums) => kernels::matmul_with(xs, weight, None, *sums)?,
            Self::Blocks(weight) => kernels::block_matmul(xs, weight)?,
            Self::Planar(weight) => kernels::planar_matmul(xs, weight)?,
            Self::Fp8(weight) => kernels::fp8_matmul(xs, weight)?,
            Self::Candle(weight) => xs.apply_op1_no_bwd(weight)?,
        })
    }

    /// The product with `residual` (`[rows, outputs]`) added.
    pub(crate) fn product_added(&self, xs: &Tensor, residual: &Tensor) -> Result<Tensor, ModelError> {
        if let Self::Dense(weight, sums) = self
            && !weight.device().is_cpu()
        {
            return Ok(kernels::matmul_with(xs, weight, Some(residual), *sums)?);
        }
        let ys = self.product(xs)?;
        kernels::add_assign(&ys, residual)?;
        Ok(ys)
    }

    /// The rows `ids` (`[ids]`, u32, on this device), each below the number of rows, as f32: `[ids, inputs]`.
    pub(crate) fn rows(&self, ids: &Tensor) -> Result<Tensor, ModelError> {
        Ok(match self {
            Self::Dense(weight, _) => kernels::gather(weight, ids)?,
            Self::Planar(weight) => kernels::planar_rows(ids, weight)?,
            Self::Fp8(weight) => kernels::fp8_rows(ids, weight)?,
            Self::Candle(weight) => weight.embedding(ids)?,
            Self::Blocks(weight) => {
                let rows = ids.to_vec1::<u32>()?.into_iter().flat_map(|id| weight.row(id as usize)).collect();
                Tensor::from_vec(rows, (ids.elem_count(), weight.width()), ids.device())?
            }
        })
    }

    /// Bytes on the device.
    pub(crate) fn num_bytes(&self) -> usize {
        match self {
            Self::Dense(weight, _) => weight.elem_count() * weight.dtype().size_in_bytes(),
            Self::Blocks(weight) => weight.num_bytes(),
            Self::Planar(weight) => weight.num_bytes(),
            Self::Fp8(weight) => weight.num_bytes(),
            Self::Candle(weight) => weight.storage_size_in_bytes(),
        }
    }
}

/// The block format that our own products know of a layout.
pub(super) fn format(layout: QuantLayout) -> Option<BlockFormat> {
    match layout {
        QuantLayout::Q4_0 => Some(BlockFormat::Q4_0),
        QuantLayout::Q4_1 => Some(BlockFormat::Q4_1),
        QuantLayout::Q5_0 => Some(BlockFormat::Q5_0),
        QuantLayout::Q5_1 => Some(BlockFormat::Q5_1),
        QuantLayout::Q8_0 => Some(BlockFormat::Q8_0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::kernels::testing::{assert_close, devices, noise, uploader};

    /// On a GPU that is how they are stored; the bodies are the same on both devices.
    #[test]
    fn batch_invariant_k_quants_are_close_to_their_numbers_and_the_same_alone_and_in_company() -> Result<(), ModelError>
    {
        use QuantLayout::{Q2K, Q3K, Q4K, Q5K, Q6K};
        let (outputs, inputs, sums) = (33, 512, Sums::BatchInvariant);
        for device in devices() {
            let uploader = uploader(&device)?;
            for layout in [Q2K, Q3K, Q4K, Q5K, Q6K] {
                let weight = QuantWeight::quantize(&noise(outputs * inputs, 5), layout, &[outputs, inputs])?;
                let stored = StoredWeight::taken_apart(&weight, sums, &uploader)?;
                if !device.is_cpu() {
                    let found = StoredWeight::new(&weight, sums, &uploader)?;
                    assert!(!matches!(found, StoredWeight::Candle(_)), "{layout:?}");
                    assert_eq!(found.num_bytes(), StoredWeight::num_bytes_on_gpu(&weight, sums), "{layout:?}");
                }
                let decoded = Tensor::from_vec(weight.to_f32()?, (outputs, inputs), &Device::Cpu)?;
                let xs = Tensor::from_vec(noise(130 * inputs, 3), (130, inputs), &Device::Cpu)?;
                let expected = kernels::matmul(&xs, &decoded)?;
                let xs = xs.to_device(&device)?;
                let together = stored.product(&xs)?;
                assert_close(&together, &expected, 2e-2, &format!("{layout:?}"))?;
                let together = together.to_vec2::<f32>()?;
                for (first, count) in [(0, 1), (129, 1), (5, 3), (64, 8), (60, 64), (1, 65)] {
                    let found = stored.product(&xs.narrow(0, first, count)?)?.to_vec2::<f32>()?;
                    assert_eq!(found, together[first..first + count], "{layout:?}, {first} + {count}");
                }
                let ids = Tensor::new(&[32u32, 0], &device)?;
                let rows = decoded.index_select(&ids.to_device(&Device::Cpu)?, 0)?;
                assert_close(&stored.rows(&ids)?, &rows, 5e-3, &format!("{layout:?}, rows"))?;
            }
        }
        Ok(())
    }
}
