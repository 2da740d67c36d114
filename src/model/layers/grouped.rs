use candle_core::{Device, Tensor};

use super::StoredWeight;
use crate::kernels::{self, BlockMatrix, Groups};
use crate::model::{ModelError, QuantWeight};

/// A matrix per group, of which every row takes the one it names: the experts of a mixture, or the heads of a
/// projection. Possibly several matrices per group, whose outputs stand side by side.
pub(crate) struct GroupedLinear {
    parts: Vec<GroupedWeight>,
}

/// One matrix per group, all of one shape.
pub(crate) enum GroupedWeight {
    /// f32, on top of each other.
    Dense { weights: Tensor, num_groups: usize },
    /// Repacked for this processor.
    Blocks(Vec<BlockMatrix>),
    /// Multiplied group by group: K-quants, and what this processor has no kernel for.
    Each(Vec<StoredWeight>),
}

impl GroupedLinear {
    pub(super) fn new(parts: Vec<GroupedWeight>) -> Self {
        Self { parts }
    }

    /// `[pairs, outputs]` of `xs` (`[rows, inputs]`, contiguous f32): pair `p` is row `p / (pairs / rows)` times the
    /// matrix of group `group_ids[p]`. `group_ids` is contiguous u32 of any shape.
    pub(crate) fn forward(&self, xs: &Tensor, group_ids: &Tensor) -> Result<Tensor, ModelError> {
        match self.parts.as_slice() {
            [weight] => weight.product(xs, group_ids),
            parts => {
                let parts: Vec<Tensor> =
                    parts.iter().map(|weight| weight.product(xs, group_ids)).collect::<Result<_, _>>()?;
                Ok(Tensor::cat(&parts, 1)?)
            }
        }
    }
}

impl GroupedWeight {
    /// Brings one matrix per group to the device; all must have one shape.
    pub(super) fn new(groups: &[QuantWeight<'_>], device: &Device) -> Result<Self, ModelError> {
        if groups.iter().all(|group| group.layout().is_dense()) {
            let mut values =
                Vec::with_capacity(groups.iter().map(|group| group.shape().iter().product::<usize>()).sum());
            groups.iter().try_for_each(|group| group.to_f32().map(|group| values.extend(group)))?;
            let width = groups.first().map_or(1, |group| group.shape()[1]);
            let weights = Tensor::from_vec(values, ((), width), device)?;
            return Ok(Self::Dense { weights, num_groups: groups.len() });
        }
        let stored: Vec<StoredWeight> =
            groups.iter().map(|group| StoredWeight::new(group, device)).collect::<Result<_, _>>()?;
        if !stored.iter().all(|weight| matches!(weight, StoredWeight::Blocks(_))) {
            return Ok(Self::Each(stored));
        }
        let blocks = stored.into_iter().filter_map(|weight| match weight {
            StoredWeight::Blocks(blocks) => Some(blocks),
            _ => None,
        });
        Ok(Self::Blocks(blocks.collect()))
    }

    /// Bytes on the device.
    pub(super) fn num_bytes(&self) -> usize {
        match self {
            Self::Dense { weights, .. } => weights.elem_count() * weights.dtype().size_in_bytes(),
            Self::Blocks(weights) => weights.iter().map(BlockMatrix::num_bytes).sum(),
            Self::Each(weights) => weights.iter().map(StoredWeight::num_bytes).sum(),
        }
    }

    fn product(&self, xs: &Tensor, group_ids: &Tensor) -> Result<Tensor, ModelError> {
        Ok(match self {
            Self::Dense { weights, num_groups } => kernels::grouped_matmul(xs, weights, group_ids, *num_groups)?,
            Self::Blocks(weights) => kernels::grouped_block_matmul(xs, weights, group_ids)?,
            Self::Each(weights) => each(xs, weights, group_ids)?,
        })
    }
}

/// The product by one call per group that was chosen, put back in the order of the pairs.
fn each(xs: &Tensor, weights: &[StoredWeight], group_ids: &Tensor) -> Result<Tensor, ModelError> {
    let ids = group_ids.flatten_all()?.to_vec1::<u32>()?;
    let groups = Groups::new(&ids, weights.len())?;
    let per_row = (ids.len() / xs.dims()[0].max(1)).max(1) as u32;
    let mut ys = Vec::new();
    for (group, pairs) in groups.chosen() {
        let rows: Vec<u32> = groups.order()[pairs].iter().map(|pair| pair / per_row).collect();
        let xs = xs.index_select(&Tensor::new(rows, xs.device())?, 0)?;
        ys.push(weights[group].product(&xs)?);
    }
    let mut places = vec![0u32; ids.len()];
    for (place, &pair) in groups.order().iter().enumerate() {
        places[pair as usize] = place as u32;
    }
    Ok(Tensor::cat(&ys, 0)?.index_select(&Tensor::new(places, xs.device())?, 0)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::QuantLayout;

    #[test]
    fn k_quants_give_each_pair_the_bits_of_its_own_product() -> Result<(), ModelError> {
        let (num_groups, outputs, inputs) = (3, 5, 256);
        let values =
            |step: usize, len: usize| (0..len).map(|i| ((i * step) % 197) as f32 / 98.0 - 0.9).collect::<Vec<_>>();
        let quantize = |group: usize| {
            QuantWeight::quantize(&values(53 + 2 * group, outputs * inputs), QuantLayout::Q4K, &[outputs, inputs])
        };
        let groups: Vec<_> = (0..num_groups).map(quantize).collect::<Result<_, _>>()?;
        let weight = GroupedWeight::new(&groups, &Device::Cpu)?;
        assert!(matches!(weight, GroupedWeight::Each(_)));
        let xs = Tensor::from_vec(values(31, 4 * inputs), (4, inputs), &Device::Cpu)?;
        let ids = [2u32, 0, 2, 2, 0, 1, 1, 0];
        let ys = weight.product(&xs, &Tensor::new(&ids, &Device::Cpu)?)?.to_vec2::<f32>()?;
        for (pair, y) in ys.iter().enumerate() {
            let alone = StoredWeight::new(&groups[ids[pair] as usize], &Device::Cpu)?;
            let alone = alone.product(&xs.narrow(0, pair / 2, 1)?.contiguous()?)?.to_vec2::<f32>()?;
            assert_eq!(&alone[0], y, "pair {pair}");
        }
        Ok(())
    }
}
