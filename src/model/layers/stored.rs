use candle_core::quantized::QTensor;
use candle_core::{DType, Tensor};

use crate::kernels::{self, BlockFormat, BlockMatrix, Fp8Matrix, PlanarBlocks, Sums, Uploader};
use crate::model::{ModelError, QuantLayout, QuantWeight};

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
    /// Brings `weight` to the device of `uploader`: on a GPU, bf16 and f32 byte by byte as they are stored.
    pub(crate) fn new(weight: &QuantWeight<'_>, uploader: &Uploader) -> Result<Self, ModelError> {
        let device = uploader.device();
        if weight.layout().is_dense() {
            let on_gpu = !device.is_cpu();
            let tensor = match weight.layout() {
                QuantLayout::BF16 if on_gpu => uploader.tensor(&weight.pieces(), DType::BF16, weight.shape())?,
                QuantLayout::F32 if on_gpu => uploader.tensor(&weight.pieces(), DType::F32, weight.shape())?,
                _ => uploader.values(weight.to_f32()?, weight.shape())?,
            };
            return Ok(Self::Dense(tensor, Sums::Fastest));
        }
        if let (QuantLayout::F8E4M3, &[rows, width]) = (weight.layout(), weight.shape())
            && let Some(matrix) = Fp8Matrix::new(&weight.bytes(), rows, width, uploader)?
        {
            return Ok(Self::Fp8(matrix));
        }
        if let (Some(format), &[rows, width]) = (format(weight.layout()), weight.shape()) {
            if !device.is_cpu()
                && let Some(planar) = PlanarBlocks::new(&weight.bytes(), format, rows, width, uploader)?
            {
                return Ok(Self::Planar(planar));
            }
            if device.is_cpu()
                && BlockMatrix::is_fast_here()
                && let Some(blocks) = BlockMatrix::new(&weight.bytes(), format, rows, width)
            {
                return Ok(Self::Blocks(blocks));
            }
        }
        let (bytes, dtype) = weight.ggml_blocks()?;
        Ok(Self::Candle(uploader.blocks(&bytes, dtype, weight.shape())?))
    }

    /// The same, with a say in how a GPU adds up its products.
    ///
    /// # Errors
    /// [`ModelError::NotBatchInvariant`] for a layout of which candle chooses the body.
    pub(crate) fn with_sums(self, sums: Sums) -> Result<Self, ModelError> {
        Ok(match self {
            Self::Dense(weight, _) => Self::Dense(weight, sums),
            Self::Planar(weight) => Self::Planar(weight.with_sums(sums)),
            Self::Fp8(weight) => Self::Fp8(weight.with_sums(sums)),
            Self::Candle(weight) if sums == Sums::BatchInvariant && !weight.device().is_cpu() => {
                return Err(ModelError::NotBatchInvariant { what: format!("weights stored as {:?}", weight.dtype()) });
            }
            other => other,
        })
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
