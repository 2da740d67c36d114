use candle_core::Tensor;

use super::{Epilogue, Linear, Loader};
use crate::kernels;
use crate::model::ModelError;
use crate::model::shard::Share;

/// A SwiGLU feed-forward layer: `down(silu(gate(x)) * up(x))`.
pub(crate) struct Mlp {
    gate_up_proj: Linear,
    down_proj: Linear,
}

impl Mlp {
    /// Loads this rank's part of `{prefix}gate_proj`, `{prefix}up_proj` and `{prefix}down_proj`, without biases.
    pub(crate) fn load(
        loader: &Loader<'_>,
        prefix: &str,
        hidden_size: usize,
        intermediate: &Share,
    ) -> Result<Self, ModelError> {
        let gate_up = [("gate_proj", intermediate), ("up_proj", intermediate)];
        Ok(Self {
            gate_up_proj: loader.linear(prefix, &gate_up, hidden_size, false)?,
            down_proj: loader.term(prefix, ("down_proj", hidden_size), intermediate, false)?,
        })
    }

    /// `[rows, hidden]`, this rank's term, of `xs` (`[rows, hidden]`, contiguous f32).
    pub(crate) fn forward(&self, xs: &Tensor, epilogue: Epilogue<'_>) -> Result<Tensor, ModelError> {
        let gate_up = self.gate_up_proj.forward(xs, Epilogue::None)?;
        self.down_proj.forward(&kernels::silu_mul(&gate_up)?, epilogue)
    }
}
