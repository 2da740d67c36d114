use candle_core::Tensor;

use super::StoredWeight;
use super::stored::format;
use crate::kernels::{self, BlockMatrix, Groups, PairGroups, PlanarBlocks, Sums, Uploader};
use crate::model::superblocks::take_apart;
use crate::model::{ModelError, QuantLayout, QuantWeight};

/// A matrix per group, of which every row takes the one it names: the experts of a mixture, or the heads of a
/// projection. Possibly several matrices per group, whose outputs stand side by side.
pub(crate) struct GroupedLinear {
    parts: Vec<GroupedWeight>,
}

/// One matrix per group, all of one shape.
pub(crate) enum GroupedWeight {
    /// On top of each other: f32, and on a GPU bf16 where the file has bf16, or quants without a kernel.
    Dense(Tensor, Sums),
    /// Repacked for this processor.
    Blocks(Vec<BlockMatrix>),
    /// Repacked for a GPU, on top of each other.
    Planar(PlanarBlocks),
    /// Multiplied group by group: K-quants on a CPU, and what this processor has no kernel for.
    Each(Vec<StoredWeight>),
}

impl GroupedLinear {
    pub(super) fn new(parts: Vec<GroupedWeight>) -> Self {
        Self { parts }
    }

    /// `[pairs, outputs]` of `xs` (`[rows, inputs]`, contiguous f32): pair `p` is row `p / (pairs / rows)` times the
    /// matrix of its group.
    pub(crate) fn forward(&self, xs: &Tensor, groups: &PairGroups) -> Result<Tensor, ModelError> {
        match self.parts.as_slice() {
            [weight] => weight.product(xs, groups),
            parts => {
                let parts: Vec<Tensor> =
                    parts.iter().map(|weight| weight.product(xs, groups)).collect::<Result<_, _>>()?;
                Ok(Tensor::cat(&parts, 1)?)
            }
        }
    }
}

impl GroupedWeight {
    /// What a GPU has kernels for: all groups alike, superblocks with minima taken apart, and other K-quants as bf16,
    /// which holds their values to eight bits.
    pub(super) fn for_gpu(groups: Vec<QuantWeight<'_>>) -> Result<Vec<QuantWeight<'_>>, ModelError> {
        let groups: Vec<QuantWeight<'_>> =
            groups.into_iter().map(|group| take_apart(&group).unwrap_or(group)).collect();
        let layout_of = |group: &QuantWeight<'_>| group.layout();
        let is_alike = groups.windows(2).all(|pair| layout_of(&pair[0]) == layout_of(&pair[1]));
        if is_alike && groups.first().map(layout_of).is_none_or(has_kernel) {
            return Ok(groups);
        }
        let is_wide = |group: &QuantWeight<'_>| matches!(group.layout(), QuantLayout::F32 | QuantLayout::F16);
        let layout = if groups.iter().any(is_wide) { QuantLayout::F32 } else { QuantLayout::BF16 };
        groups.iter().map(|group| QuantWeight::quantize(&group.to_f32()?, layout, group.shape())).collect()
    }

    /// Brings one matrix per group to the device; all must have one shape. A GPU takes them in one buffer.
    pub(super) fn new(groups: Vec<QuantWeight<'_>>, sums: Sums, uploader: &Uploader) -> Result<Self, ModelError> {
        if !uploader.device().is_cpu() && QuantWeight::are_alike(&groups) && has_kernel(groups[0].layout()) {
            let stacked = QuantWeight::stack(groups).expect("they are alike");
            return match StoredWeight::new(&stacked, sums, uploader)? {
                StoredWeight::Dense(weights, sums) => Ok(Self::Dense(weights, sums)),
                StoredWeight::Planar(weights) => Ok(Self::Planar(weights)),
                StoredWeight::Blocks(_) | StoredWeight::Fp8(_) | StoredWeight::Candle(_) => {
                    let text = format!("a GPU has no kernel for groups stored as {:?}", stacked.layout());
                    Err(candle_core::Error::Msg(text).into())
                }
            };
        }
        if groups.iter().all(|group| group.layout().is_dense()) {
            let mut values =
                Vec::with_capacity(groups.iter().map(|group| group.shape().iter().product::<usize>()).sum());
            groups.iter().try_for_each(|group| group.to_f32().map(|group| values.extend(group)))?;
            let width = groups.first().map_or(1, |group| group.shape()[1]);
            let rows = values.len() / width.max(1);
            return Ok(Self::Dense(uploader.values(values, &[rows, width])?, sums));
        }
        let stored: Vec<StoredWeight> =
            groups.iter().map(|group| StoredWeight::new(group, sums, uploader)).collect::<Result<_, _>>()?;
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
            Self::Dense(weights, _) => weights.elem_count() * weights.dtype().size_in_bytes(),
            Self::Blocks(weights) => weights.iter().map(BlockMatrix::num_bytes).sum(),
            Self::Planar(weights) => weights.num_bytes(),
            Self::Each(weights) => weights.iter().map(StoredWeight::num_bytes).sum(),
        }
    }

    fn product(&self, xs: &Tensor, groups: &PairGroups) -> Result<Tensor, ModelError> {
        Ok(match self {
            Self::Dense(weights, sums) => kernels::grouped_matmul_with(xs, weights, groups, *sums)?,
            Self::Blocks(weights) => kernels::grouped_block_matmul(xs, weights, groups)?,
            Self::Planar(weights) => kernels::grouped_planar_matmul(xs, weights, groups)?,
            Self::Each(weights) => each(xs, weights, groups)?,
        })
    }
}

/// Whether a GPU multiplies groups of a layout.
fn has_kernel(layout: QuantLayout) -> bool {
    layout.is_dense() || format(layout).is_some()
}

/// The product by one call per group that was chosen, put back in the order of the pairs.
fn each(xs: &Tensor, weights: &[StoredWeight], groups: &PairGroups) -> Result<Tensor, ModelError> {
    let ids = groups.ids().flatten_all()?.to_vec1::<u32>()?;
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
    use candle_core::Device;

    use super::*;
    use crate::kernels::StagingConfig;

    #[test]
    fn a_gpu_gets_groups_of_one_layout_that_it_has_kernels_for() -> Result<(), ModelError> {
        let values: Vec<f32> = (0..512).map(|i| i as f32 / 256.0 - 1.0).collect();
        let laid = |layouts: &[QuantLayout]| {
            let groups = layouts.iter().map(|&layout| QuantWeight::quantize(&values, layout, &[2, 256]));
            GroupedWeight::for_gpu(groups.collect::<Result<_, _>>()?)
        };
        use QuantLayout::{BF16, F32, Q4_1, Q4K, Q5_1, Q5K, Q6K, Q8_0};
        for (stored, expected) in [
            ([BF16; 2], BF16),
            ([Q8_0; 2], Q8_0),
            ([Q4K; 2], Q4_1),
            ([Q5K; 2], Q5_1),
            ([Q6K; 2], BF16),
            ([Q8_0, Q4K], BF16),
        ] {
            assert!(laid(&stored)?.iter().all(|group| group.layout() == expected), "{stored:?}");
        }
        let mixed = laid(&[F32, Q4K])?;
        assert!(mixed.iter().all(|group| group.layout() == F32));
        assert_eq!(mixed[0].to_f32()?, values);
        let decoded = QuantWeight::quantize(&values, Q6K, &[2, 256])?.to_f32()?;
        for (y, expected) in laid(&[Q6K])?[0].to_f32()?.iter().zip(decoded) {
            assert!((y - expected).abs() <= expected.abs() / 256.0, "{y} for {expected}");
        }
        Ok(())
    }

    #[test]
    fn k_quants_give_each_pair_the_bits_of_its_own_product() -> Result<(), ModelError> {
        let (num_groups, outputs, inputs) = (3, 5, 256);
        let values =
            |step: usize, len: usize| (0..len).map(|i| ((i * step) % 197) as f32 / 98.0 - 0.9).collect::<Vec<_>>();
        let quantize = |group: usize| {
            QuantWeight::quantize(&values(53 + 2 * group, outputs * inputs), QuantLayout::Q4K, &[outputs, inputs])
        };
        let groups: Vec<_> = (0..num_groups).map(quantize).collect::<Result<_, _>>()?;
        let uploader = Uploader::new(&Device::Cpu, &StagingConfig::default())?;
        let weight = GroupedWeight::new(groups.clone(), Sums::Fastest, &uploader)?;
        assert!(matches!(weight, GroupedWeight::Each(_)));
        let xs = Tensor::from_vec(values(31, 4 * inputs), (4, inputs), &Device::Cpu)?;
        let ids = [2u32, 0, 2, 2, 0, 1, 1, 0];
        let pairs = PairGroups::new(Tensor::from_slice(&ids, (4, 2), &Device::Cpu)?, num_groups)?;
        let ys = weight.product(&xs, &pairs)?.to_vec2::<f32>()?;
        for (pair, y) in ys.iter().enumerate() {
            let alone = StoredWeight::new(&groups[ids[pair] as usize], Sums::Fastest, &uploader)?;
            let alone = alone.product(&xs.narrow(0, pair / 2, 1)?.contiguous()?)?.to_vec2::<f32>()?;
            assert_eq!(&alone[0], y, "pair {pair}");
        }
        Ok(())
    }
}
