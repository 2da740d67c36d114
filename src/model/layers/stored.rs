use candle_core::quantized::QTensor;
use candle_core::{Device, Tensor};

use crate::kernels::{self, BlockFormat, BlockMatrix};
use crate::model::{ModelError, QuantLayout, QuantWeight};

/// A matrix as the device computes with it: repacked once, when it is loaded.
pub(crate) enum StoredWeight {
    /// f32, one output per row.
    Dense(Tensor),
    /// Repacked for this processor.
    Blocks(BlockMatrix),
    /// In the layout of the file, multiplied by candle: K-quants, and what this processor has no kernel for.
    Candle(QTensor),
}

impl StoredWeight {
    pub(crate) fn new(weight: &QuantWeight<'_>, device: &Device) -> Result<Self, ModelError> {
        if weight.layout().is_dense() {
            return Ok(Self::Dense(Tensor::from_vec(weight.to_f32()?, weight.shape(), device)?));
        }
        match blocks(weight, device) {
            Some(blocks) => Ok(Self::Blocks(blocks)),
            None => Ok(Self::Candle(weight.to_qtensor(device)?)),
        }
    }

    /// `[rows, outputs]` of `xs` (`[rows, inputs]`).
    pub(crate) fn product(&self, xs: &Tensor) -> Result<Tensor, ModelError> {
        Ok(match self {
            Self::Dense(weight) if weight.device().is_cpu() => kernels::matmul(xs, weight)?,
            Self::Dense(weight) => xs.matmul(&weight.t()?)?,
            Self::Blocks(weight) => kernels::block_matmul(xs, weight)?,
            Self::Candle(weight) => xs.apply_op1_no_bwd(weight)?,
        })
    }

    /// The rows `ids`, each below the number of rows, as f32: `[ids, inputs]`.
    pub(crate) fn rows(&self, ids: &[u32], device: &Device) -> Result<Tensor, ModelError> {
        Ok(match self {
            Self::Dense(weight) => weight.index_select(&Tensor::new(ids, device)?, 0)?,
            Self::Candle(weight) => weight.embedding(&Tensor::new(ids, device)?)?,
            Self::Blocks(weight) => {
                let rows = ids.iter().flat_map(|&id| weight.row(id as usize)).collect();
                Tensor::from_vec(rows, (ids.len(), weight.width()), device)?
            }
        })
    }

    /// Bytes on the device.
    pub(crate) fn num_bytes(&self) -> usize {
        match self {
            Self::Dense(weight) => weight.elem_count() * weight.dtype().size_in_bytes(),
            Self::Blocks(weight) => weight.num_bytes(),
            Self::Candle(weight) => weight.storage_size_in_bytes(),
        }
    }
}

fn blocks(weight: &QuantWeight<'_>, device: &Device) -> Option<BlockMatrix> {
    let format = match weight.layout() {
        QuantLayout::Q4_0 => BlockFormat::Q4_0,
        QuantLayout::Q4_1 => BlockFormat::Q4_1,
        QuantLayout::Q5_0 => BlockFormat::Q5_0,
        QuantLayout::Q5_1 => BlockFormat::Q5_1,
        QuantLayout::Q8_0 => BlockFormat::Q8_0,
        _ => return None,
    };
    let &[rows, width] = weight.shape() else { return None };
    (device.is_cpu() && BlockMatrix::is_fast_here()).then(|| BlockMatrix::new(weight.bytes(), format, rows, width))?
}
