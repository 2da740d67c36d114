use std::sync::Arc;

use candle_core::Tensor;

use super::StoredWeight;
use crate::kernels;
use crate::model::ModelError;

/// `y = x W^T + b`, possibly of several matrices whose outputs stand side by side.
pub(crate) struct Linear {
    parts: Vec<Arc<StoredWeight>>,
    bias: Option<Tensor>,
}

/// What is done with the outputs while they are at hand.
pub(crate) enum Epilogue<'a> {
    None,
    /// Adds a matrix of the outputs' shape: a residual connection.
    Add(&'a Tensor),
}

impl Linear {
    pub(crate) fn new(parts: Vec<Arc<StoredWeight>>, bias: Option<Tensor>) -> Self {
        Self { parts, bias }
    }

    /// `[rows, outputs]` of `xs` (`[rows, inputs]`, contiguous f32).
    pub(crate) fn forward(&self, xs: &Tensor, epilogue: Epilogue<'_>) -> Result<Tensor, ModelError> {
        if let ([weight], None, Epilogue::Add(residual)) = (self.parts.as_slice(), &self.bias, &epilogue) {
            return weight.product_added(xs, residual);
        }
        let ys = match self.parts.as_slice() {
            [weight] => weight.product(xs)?,
            parts => {
                let parts: Vec<Tensor> = parts.iter().map(|weight| weight.product(xs)).collect::<Result<_, _>>()?;
                Tensor::cat(&parts, 1)?
            }
        };
        if let Some(bias) = &self.bias {
            kernels::add_assign(&ys, bias)?;
        }
        if let Epilogue::Add(residual) = epilogue {
            kernels::add_assign(&ys, residual)?;
        }
        Ok(ys)
    }
}
