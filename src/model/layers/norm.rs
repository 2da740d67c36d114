use candle_core::Tensor;

use crate::kernels;
use crate::model::ModelError;

/// Root-mean-square normalization with a learned scale per element.
pub(crate) struct RmsNorm {
    weight: Tensor,
    eps: f64,
}

impl RmsNorm {
    pub(crate) fn new(weight: Tensor, eps: f64) -> Self {
        Self { weight, eps }
    }

    /// Normalizes every row of `xs` (`[rows, width]`, f32).
    pub(crate) fn forward(&self, xs: &Tensor) -> Result<Tensor, ModelError> {
        Ok(kernels::rms_norm(xs, &self.weight, self.eps)?)
    }
}
