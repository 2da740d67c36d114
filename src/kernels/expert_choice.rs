//! Which experts a token is sent to, and how much each counts.
//!
//! Two kernels over the same scores: the choice is integers that products group by, the weights are f32 that the
//! experts' outputs are summed with. Both look at one row only.
#![allow(unsafe_code)]

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, bail};

use super::operand::{Matrix, elements};
use super::parallel::{Shared, for_each_range};

const CHOOSE: &str = "choose_experts";

/// How many experts are chosen, and from where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpertChoice {
    /// Experts per token.
    pub num_chosen: usize,
    /// Groups of equally many neighbouring experts; 1 where any may be chosen.
    pub num_groups: usize,
    /// Groups that stay open: those whose best expert scores highest.
    pub num_open_groups: usize,
}

/// What the scores of the chosen experts are turned into.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExpertScaling {
    /// Divides by their sum, so that a token's weights add up to 1.
    pub normalize: bool,
    /// Factor on every weight, unless they are normalized.
    pub factor: f32,
}

/// The experts with the highest of `scores` (`[rows, experts]`, f32, rows contiguous), best first:
/// `[rows, num_chosen]`, u32. Of equal scores the expert with the lower id is taken; NaN counts as the lowest.
///
/// # Errors
/// When shape or type is not this, there are too few experts in the open groups, or on a GPU more than 1024 of them.
pub fn choose_experts(scores: &Tensor, choice: ExpertChoice) -> Result<Tensor> {
    scores.apply_op1_no_bwd(&choice)
}

/// The weights of the chosen experts: the softmax of their row of `scores`, scaled. `ids` are [`choose_experts`]'s;
/// returns their shape, f32.
///
/// # Errors
/// When shapes or types are not these, or on the CPU an id is no expert; on a GPU, where nobody looks, it
/// weighs nothing.
pub fn expert_weights(scores: &Tensor, ids: &Tensor, scaling: ExpertScaling) -> Result<Tensor> {
    scores.apply_op2_no_bwd(ids, &scaling)
}

impl CustomOp1 for ExpertChoice {
    fn name(&self) -> &'static str {
        CHOOSE
    }

    fn cpu_fwd(&self, scores: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let matrix = Matrix::of(layout, CHOOSE)?;
        let scores = elements::<f32>(scores, &matrix, CHOOSE)?;
        self.check(matrix.width)?;
        let num_chosen = self.num_chosen;
        let mut ids = vec![0u32; matrix.rows * num_chosen];
        let shared = Shared::new(&mut ids);
        for_each_range(matrix.rows, num_chosen * matrix.width, |rows| {
            for row_idx in rows {
                // SAFETY: each row is written by the one thread that got its index.
                let ids = unsafe { shared.part(row_idx * num_chosen, num_chosen) };
                self.choose(matrix.row(scores, row_idx), ids);
            }
        });
        Ok((CpuStorage::U32(ids), Shape::from((matrix.rows, num_chosen))))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        scores: &candle_core::CudaStorage,
        layout: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        super::cuda::choose_experts(self, scores, layout)
    }
}

impl ExpertChoice {
    /// Checks that so many can be chosen among `num_experts`.
    pub(super) fn check(&self, num_experts: usize) -> Result<()> {
        let Self { num_chosen, num_groups, num_open_groups } = *self;
        if num_groups == 0 || !num_experts.is_multiple_of(num_groups) || num_open_groups > num_groups {
            bail!("{CHOOSE}: {num_open_groups} of {num_groups} groups of {num_experts} experts")
        }
        if num_chosen > num_experts / num_groups * num_open_groups {
            bail!("{CHOOSE}: {num_chosen} of {num_experts} experts, {num_open_groups} of {num_groups} groups open")
        }
        Ok(())
    }

    fn choose(&self, scores: &[f32], ids: &mut [u32]) {
        let group_len = scores.len() / self.num_groups;
        let mut is_open = vec![self.num_open_groups == self.num_groups; scores.len()];
        if self.num_open_groups < self.num_groups {
            let best = |group: &[f32]| group.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let group_scores: Vec<f32> = scores.chunks_exact(group_len).map(best).collect();
            let mut groups = vec![true; self.num_groups];
            for _ in 0..self.num_open_groups {
                let group = take_best(&group_scores, &mut groups);
                is_open[group * group_len..(group + 1) * group_len].fill(true);
            }
        }
        ids.fill_with(|| take_best(scores, &mut is_open) as u32);
    }
}

/// Closes the open place with the highest score, and returns it. At least one must be open.
fn take_best(scores: &[f32], is_open: &mut [bool]) -> usize {
    let mut best: Option<usize> = None;
    // `max` passes NaN over.
    let score = |place: usize| scores[place].max(f32::NEG_INFINITY);
    for place in (0..scores.len()).filter(|&place| is_open[place]) {
        if best.is_none_or(|best| score(place) > score(best)) {
            best = Some(place);
        }
    }
    let best = best.expect("the caller checked that enough places are open");
    is_open[best] = false;
    best
}

impl CustomOp2 for ExpertScaling {
    fn name(&self) -> &'static str {
        "expert_weights"
    }

    fn cpu_fwd(
        &self,
        scores: &CpuStorage,
        scores_l: &Layout,
        ids: &CpuStorage,
        ids_l: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let op = "expert_weights";
        let (scores_m, ids_m) = (Matrix::of(scores_l, op)?, Matrix::of(ids_l, op)?);
        let (scores, ids) = (elements::<f32>(scores, &scores_m, op)?, elements::<u32>(ids, &ids_m, op)?);
        if scores_m.rows != ids_m.rows {
            bail!("{op}: scores of {} rows, choices of {}", scores_m.rows, ids_m.rows)
        }
        let mut rows = (0..ids_m.rows).flat_map(|row_idx| ids_m.row(ids, row_idx));
        if let Some(id) = rows.find(|&&id| id as usize >= scores_m.width) {
            bail!("{op}: expert {id} of {}", scores_m.width)
        }
        let width = ids_m.width;
        let mut weights = vec![0f32; ids_m.rows * width];
        let shared = Shared::new(&mut weights);
        for_each_range(ids_m.rows, 8 * scores_m.width, |rows| {
            for row_idx in rows {
                // SAFETY: each row is written by the one thread that got its index.
                let weights = unsafe { shared.part(row_idx * width, width) };
                self.weigh(scores_m.row(scores, row_idx), ids_m.row(ids, row_idx), weights);
            }
        });
        Ok((CpuStorage::F32(weights), Shape::from((ids_m.rows, width))))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        scores: &candle_core::CudaStorage,
        scores_l: &Layout,
        ids: &candle_core::CudaStorage,
        ids_l: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        super::cuda::expert_weights(self, (scores, scores_l), (ids, ids_l))
    }
}

impl ExpertScaling {
    fn weigh(&self, scores: &[f32], ids: &[u32], weights: &mut [f32]) {
        let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = scores.iter().map(|score| (score - max).exp()).sum();
        for (weight, &id) in weights.iter_mut().zip(ids) {
            *weight = (scores[id as usize] - max).exp() / sum;
        }
        let factor = match self.normalize {
            true => 1.0 / weights.iter().sum::<f32>(),
            false => self.factor,
        };
        weights.iter_mut().for_each(|weight| *weight *= factor);
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::kernels::testing::{assert_close, devices, noise};

    const ANY: ExpertChoice = ExpertChoice { num_chosen: 3, num_groups: 1, num_open_groups: 1 };

    fn chosen(scores: &[f32], choice: ExpertChoice) -> Result<Vec<u32>> {
        let scores = Tensor::from_slice(scores, (1, scores.len()), &Device::Cpu)?;
        choose_experts(&scores, choice)?.flatten_all()?.to_vec1()
    }

    #[test]
    fn the_best_are_chosen_in_order_and_ties_go_to_the_lower_id() -> Result<()> {
        assert_eq!(chosen(&[0.1, 3.0, -1.0, 3.0, 2.0, 3.0], ANY)?, [1, 3, 5]);
        assert_eq!(chosen(&[-7.0, -9.0, -8.0, -5.0], ANY)?, [3, 0, 2]);
        assert_eq!(chosen(&[f32::NAN, f32::NAN, 1.0, f32::NEG_INFINITY], ANY)?, [2, 0, 1]);
        Ok(())
    }

    #[test]
    fn only_the_groups_with_the_best_experts_are_open() -> Result<()> {
        // Groups of two: their best are 5, 4, 6, 3. With two open, 4.0 and 3.9 stay closed.
        let scores = [5.0, 1.0, 4.0, 3.9, 0.5, 6.0, 3.0, 2.0];
        let choice = ExpertChoice { num_chosen: 3, num_groups: 4, num_open_groups: 2 };
        assert_eq!(chosen(&scores, choice)?, [5, 0, 1]);
        assert_eq!(chosen(&scores, ANY)?, [5, 0, 2]);
        assert!(chosen(&scores, ExpertChoice { num_chosen: 5, ..choice }).is_err());
        assert!(chosen(&scores, ExpertChoice { num_groups: 3, ..choice }).is_err());
        Ok(())
    }

    #[test]
    fn every_device_chooses_the_cpus_experts_and_weighs_them_alike() -> Result<()> {
        for device in devices() {
            for (num_experts, num_chosen, num_groups, num_open_groups) in
                [(64, 6, 1, 1), (160, 6, 8, 3), (8, 8, 1, 1), (12, 4, 6, 2)]
            {
                let width = num_experts + 2;
                // In steps of an eighth, so that there are ties.
                let scores: Vec<f32> = noise(9 * width, 3).iter().map(|score| (score * 32.0).round() / 8.0).collect();
                let scores = Tensor::from_vec(scores, (9, width), &Device::Cpu)?;
                let choice = ExpertChoice { num_chosen, num_groups, num_open_groups };
                let (own, there) = (scores.narrow(1, 2, num_experts)?, scores.to_device(&device)?);
                let there = there.narrow(1, 2, num_experts)?;
                let ids = choose_experts(&own, choice)?;
                let found = choose_experts(&there, choice)?;
                assert_eq!(found.to_vec2::<u32>()?, ids.to_vec2::<u32>()?, "{choice:?}");
                for scaling in
                    [ExpertScaling { normalize: false, factor: 16.0 }, ExpertScaling { normalize: true, factor: 1.0 }]
                {
                    let expected = expert_weights(&own, &ids, scaling)?;
                    assert_close(&expert_weights(&there, &found, scaling)?, &expected, 1e-6, &format!("{scaling:?}"))?;
                }
            }
        }
        Ok(())
    }

    #[test]
    fn batch_invariant_rows_are_the_same_alone_and_in_company() -> Result<()> {
        for device in devices() {
            let scores = Tensor::from_vec(noise(70 * 160, 3), (70, 160), &device)?;
            let choice = ExpertChoice { num_chosen: 6, num_groups: 8, num_open_groups: 3 };
            let scaling = ExpertScaling { normalize: true, factor: 1.0 };
            let rows = |first: usize, count: usize| -> Result<_> {
                let scores = scores.narrow(0, first, count)?;
                let ids = choose_experts(&scores, choice)?;
                Ok((expert_weights(&scores, &ids, scaling)?.to_vec2::<f32>()?, ids.to_vec2::<u32>()?))
            };
            let (weights, ids) = rows(0, 70)?;
            for (first, count) in [(0, 1), (69, 1), (5, 3), (2, 64)] {
                let (found, found_ids) = rows(first, count)?;
                assert_eq!(found_ids, ids[first..first + count], "{first} + {count}");
                assert_eq!(found, weights[first..first + count], "{first} + {count}");
            }
        }
        Ok(())
    }

    #[test]
    fn weights_are_the_softmax_over_all_experts_scaled_or_normalized() -> Result<()> {
        let scores = Tensor::new(&[[1f32, 3.0, -2.0, 2.0], [100.0, 0.0, 0.0, 99.0]], &Device::Cpu)?;
        let ids = Tensor::new(&[[1u32, 3], [0, 3]], &Device::Cpu)?;
        let softmax = |row: [f64; 4], id: usize| row[id].exp() / row.iter().map(|score| score.exp()).sum::<f64>();
        let expected = [softmax([1.0, 3.0, -2.0, 2.0], 1), softmax([1.0, 3.0, -2.0, 2.0], 3)];
        let scaled = expert_weights(&scores, &ids, ExpertScaling { normalize: false, factor: 16.0 })?;
        let normal = expert_weights(&scores, &ids, ExpertScaling { normalize: true, factor: 1.0 })?;
        let (scaled, normal) = (scaled.to_vec2::<f32>()?, normal.to_vec2::<f32>()?);
        for i in 0..2 {
            assert!((f64::from(scaled[0][i]) - 16.0 * expected[i]).abs() < 1e-5, "{scaled:?}");
            assert!((f64::from(normal[0][i]) - expected[i] / (expected[0] + expected[1])).abs() < 1e-6, "{normal:?}");
        }
        assert!((normal[1][0] + normal[1][1] - 1.0).abs() < 1e-6);
        let outside = Tensor::new(&[[1u32, 4], [0, 3]], &Device::Cpu)?;
        assert!(expert_weights(&scores, &outside, ExpertScaling { normalize: true, factor: 1.0 }).is_err());
        Ok(())
    }
}
