use candle_core::quantized::QTensor;
use candle_core::{Device, Tensor};

use crate::kernels;
use crate::model::{ModelError, QuantWeight};

/// A matrix as the device computes with it: repacked once, when it is loaded.
pub(crate) enum StoredWeight {
    /// f32, one output per row.
    Dense(Tensor),
    /// Blocks in the layout of the file, multiplied by candle.
    Blocks(QTensor),
}

impl StoredWeight {
    pub(crate) fn new(weight: &QuantWeight<'_>, device: &Device) -> Result<Self, ModelError> {
        match weight.layout().is_dense() {
            true => Ok(Self::Dense(Tensor::from_vec(weight.to_f32()?, weight.shape(), device)?)),
            false => Ok(Self::Blocks(weight.to_qtensor(device)?)),
        }
    }

    /// `[rows, outputs]` of `xs` (`[rows, inputs]`).
    pub(crate) fn product(&self, xs: &Tensor) -> Result<Tensor, ModelError> {
        Ok(match self {
            Self::Dense(weight) if weight.device().is_cpu() => kernels::matmul(xs, weight)?,
            Self::Dense(weight) => xs.matmul(&weight.t()?)?,
            Self::Blocks(weight) => xs.apply_op1_no_bwd(weight)?,
        })
    }

    /// The rows `ids` (`[n]`, u32) as f32, `[n, inputs]`.
    pub(crate) fn rows(&self, ids: &Tensor) -> Result<Tensor, ModelError> {
        Ok(match self {
            Self::Dense(weight) => weight.index_select(ids, 0)?,
            Self::Blocks(weight) => weight.embedding(ids)?,
        })
    }

    /// Bytes on the device.
    pub(crate) fn num_bytes(&self) -> usize {
        match self {
            Self::Dense(weight) => weight.elem_count() * weight.dtype().size_in_bytes(),
            Self::Blocks(weight) => weight.storage_size_in_bytes(),
        }
    }
}
