use candle_core::Tensor;

use super::{Epilogue, GroupedLinear, Linear, Loader, Mlp};
use crate::kernels::{self, ExpertChoice, ExpertScaling, PairGroups};
use crate::model::{ModelError, QuantLayout, QuantWeight};

/// A feed-forward layer of many experts, of which each token takes a few; and one that every token takes.
pub(crate) struct Mixture {
    gate: Linear,
    choice: ExpertChoice,
    scaling: ExpertScaling,
    gate_up_proj: GroupedLinear,
    down_proj: GroupedLinear,
    shared_experts: Option<Mlp>,
}

/// The shape of a [`Mixture`].
pub(crate) struct MixtureShape {
    pub(crate) hidden_size: usize,
    /// Width inside one expert.
    pub(crate) intermediate_size: usize,
    pub(crate) num_experts: usize,
    /// Experts that every token takes, stored as one of their widths together.
    pub(crate) num_shared_experts: usize,
    pub(crate) choice: ExpertChoice,
    pub(crate) scaling: ExpertScaling,
}

impl Mixture {
    /// Loads `{prefix}gate`, `{prefix}experts` and `{prefix}shared_experts`. The gate keeps what it is stored with,
    /// bf16 as f32, since a GPU rounds activations beside bf16: rounding would send tokens to other experts.
    pub(crate) fn load(loader: &Loader<'_>, prefix: &str, shape: &MixtureShape) -> Result<Self, ModelError> {
        let MixtureShape { hidden_size, intermediate_size, num_experts, num_shared_experts, choice, scaling } = *shape;
        let mut gate = loader.stored_matrix(&format!("{prefix}gate.weight"), &[num_experts, hidden_size])?;
        if gate.layout().is_dense() {
            gate = QuantWeight::quantize(&gate.to_f32()?, QuantLayout::F32, gate.shape())?;
        }
        let experts = |names: &[(&str, usize)], inputs| {
            let expert = |expert_idx| {
                let matrix = |&(name, outputs): &(&str, usize)| {
                    loader.matrix(&format!("{prefix}experts.{expert_idx}.{name}.weight"), &[outputs, inputs])
                };
                names.iter().map(matrix).collect()
            };
            loader.grouped((0..num_experts).map(expert).collect::<Result<_, _>>()?)
        };
        let shared = (num_shared_experts > 0).then(|| {
            Mlp::load(loader, &format!("{prefix}shared_experts."), hidden_size, num_shared_experts * intermediate_size)
        });
        Ok(Self {
            gate: loader.linear_of(vec![gate])?,
            choice,
            scaling,
            gate_up_proj: experts(&[("gate_proj", intermediate_size), ("up_proj", intermediate_size)], hidden_size)?,
            down_proj: experts(&[("down_proj", hidden_size)], intermediate_size)?,
            shared_experts: shared.transpose()?,
        })
    }

    /// `[rows, hidden]`: what the experts make of `xs` (`[rows, hidden]`, contiguous f32), added to `residual`.
    pub(crate) fn forward(&self, xs: &Tensor, residual: &Tensor) -> Result<Tensor, ModelError> {
        let scores = self.gate.forward(xs, Epilogue::None)?;
        let experts = PairGroups::new(kernels::choose_experts(&scores, self.choice)?, scores.dims()[1])?;
        let weights = kernels::expert_weights(&scores, experts.ids(), self.scaling)?;
        let gate_up = self.gate_up_proj.forward(xs, &experts)?;
        let ys = self.down_proj.forward(&kernels::silu_mul(&gate_up)?, &experts)?;
        let ys = kernels::weighted_sum(&ys, &weights)?;
        kernels::add_assign(&ys, residual)?;
        match &self.shared_experts {
            Some(shared_experts) => shared_experts.forward(xs, Epilogue::Add(&ys)),
            None => Ok(ys),
        }
    }
}
