use candle_core::Tensor;

use super::{Epilogue, GroupedLinear, Linear, Loader, Mlp};
use crate::kernels::{self, ExpertChoice, ExpertScaling, PairGroups};
use crate::model::shard::Share;
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
    /// The rank's part of the width inside one expert.
    pub(crate) intermediate: Share,
    pub(crate) num_experts: usize,
    /// The same of the experts that every token takes, which are stored as one of their widths together.
    pub(crate) shared_intermediate: Option<Share>,
    pub(crate) choice: ExpertChoice,
    pub(crate) scaling: ExpertScaling,
}

impl Mixture {
    /// Loads `{prefix}gate`, `{prefix}experts` and `{prefix}shared_experts`. The gate keeps what it is stored with,
    /// bf16 as f32, since a GPU rounds activations beside bf16: rounding would send tokens to other experts.
    pub(crate) fn load(loader: &Loader<'_>, prefix: &str, shape: &MixtureShape) -> Result<Self, ModelError> {
        let MixtureShape { hidden_size, num_experts, choice, scaling, .. } = *shape;
        let inner = &shape.intermediate;
        let mut gate = loader.stored_matrix(&format!("{prefix}gate.weight"), &[num_experts, hidden_size])?;
        if gate.layout().is_dense() {
            gate = QuantWeight::quantize(&gate.to_f32()?, QuantLayout::F32, gate.shape())?;
        }
        let name = |expert_idx: usize, name: &str| format!("{prefix}experts.{expert_idx}.{name}.weight");
        let gate_up = |expert_idx| {
            let matrix = |part| loader.matrix_rows(&name(expert_idx, part), inner, hidden_size);
            Ok::<_, ModelError>(vec![matrix("gate_proj")?, matrix("up_proj")?])
        };
        let down = |expert_idx| {
            Ok::<_, ModelError>(vec![loader.matrix_columns(&name(expert_idx, "down_proj"), hidden_size, inner)?])
        };
        let shared = shape.shared_intermediate.as_ref();
        let shared = shared.map(|inner| Mlp::load(loader, &format!("{prefix}shared_experts."), hidden_size, inner));
        Ok(Self {
            gate: loader.linear_of(prefix, vec![("gate", gate)])?,
            choice,
            scaling,
            gate_up_proj: loader.grouped(
                &format!("{prefix}experts.*.gate_proj, up_proj"),
                (0..num_experts).map(gate_up).collect::<Result<_, _>>()?,
            )?,
            down_proj: loader.grouped(
                &format!("{prefix}experts.*.down_proj"),
                (0..num_experts).map(down).collect::<Result<_, _>>()?,
            )?,
            shared_experts: shared.transpose()?,
        })
    }

    /// `[rows, hidden]`, this rank's term: what the experts make of `xs` (`[rows, hidden]`, contiguous f32).
    pub(crate) fn forward(&self, xs: &Tensor, epilogue: Epilogue<'_>) -> Result<Tensor, ModelError> {
        let scores = self.gate.forward(xs, Epilogue::None)?;
        let experts = PairGroups::new(kernels::choose_experts(&scores, self.choice)?, scores.dims()[1])?;
        let weights = kernels::expert_weights(&scores, experts.ids(), self.scaling)?;
        let gate_up = self.gate_up_proj.forward(xs, &experts)?;
        let ys = self.down_proj.forward(&kernels::silu_mul(&gate_up)?, &experts)?;
        let ys = kernels::weighted_sum(&ys, &weights)?;
        if let Epilogue::Add(residual) = epilogue {
            kernels::add_assign(&ys, residual)?;
        }
        match &self.shared_experts {
            Some(shared_experts) => shared_experts.forward(xs, Epilogue::Add(&ys)),
            None => Ok(ys),
        }
    }
}
