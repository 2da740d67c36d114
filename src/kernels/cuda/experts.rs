use candle_core::{CudaStorage, DType, Layout, Result, Shape, bail};

use super::launch::{Arguments, Grid, launch};
use super::operand::{Operand, address, output, output_of};
use crate::kernels::{ExpertChoice, ExpertScaling};

/// Experts that the lanes of a warp can keep a bit for.
const EXPERTS_MAX: usize = 1024;
/// Threads of a row: one warp.
const THREADS: usize = 32;

#[derive(Clone, Copy)]
#[repr(C)]
struct ChooseArgs {
    scores: u64,
    ids: u64,
    stride: i64,
    num_experts: i32,
    num_chosen: i32,
    num_groups: i32,
    num_open_groups: i32,
}
const _: () = assert!(size_of::<ChooseArgs>() == 40);
// SAFETY: as `ChooseArgs` of kernels/experts.cu; `Operand` checked where the rows end.
unsafe impl Arguments for ChooseArgs {}

/// `choose_experts` of f32 rows.
pub(crate) fn choose_experts(
    choice: &ExpertChoice,
    scores: &CudaStorage,
    layout: &Layout,
) -> Result<(CudaStorage, Shape)> {
    const OP: &str = "choose_experts";
    let device = &scores.device;
    let scores = Operand::of(scores, layout, &[DType::F32], OP)?;
    choice.check(scores.width)?;
    if scores.width > EXPERTS_MAX {
        bail!("{OP}: {} experts, on a GPU at most {EXPERTS_MAX}", scores.width)
    }
    let ids = output::<u32>(device, scores.rows * choice.num_chosen)?;
    let arguments = ChooseArgs {
        scores: scores.address,
        ids: address(&ids, device),
        stride: scores.stride,
        num_experts: scores.width as i32,
        num_chosen: choice.num_chosen as i32,
        num_groups: choice.num_groups as i32,
        num_open_groups: choice.num_open_groups as i32,
    };
    launch(device, "experts", OP, Grid::new([scores.rows, 1, 1], THREADS), arguments)?;
    let ids = CudaStorage::wrap_cuda_slice(ids, device.clone());
    Ok((ids, Shape::from((scores.rows, choice.num_chosen))))
}

#[derive(Clone, Copy)]
#[repr(C)]
struct WeighArgs {
    scores: u64,
    ids: u64,
    weights: u64,
    scores_stride: i64,
    ids_stride: i64,
    num_experts: i32,
    num_chosen: i32,
    factor: f32,
    normalize: i32,
}
const _: () = assert!(size_of::<WeighArgs>() == 56);
// SAFETY: as `WeighArgs` of kernels/experts.cu; `Operand` checked where the rows end, the kernel checks ids.
unsafe impl Arguments for WeighArgs {}

/// `expert_weights` of f32 rows. Ids are not read back: one that is no expert weighs nothing.
pub(crate) fn expert_weights(
    scaling: &ExpertScaling,
    scores: (&CudaStorage, &Layout),
    ids: (&CudaStorage, &Layout),
) -> Result<(CudaStorage, Shape)> {
    const OP: &str = "expert_weights";
    let device = &scores.0.device;
    let scores = Operand::of(scores.0, scores.1, &[DType::F32], OP)?;
    let ids = Operand::of(ids.0, ids.1, &[DType::U32], OP)?;
    if scores.rows != ids.rows {
        bail!("{OP}: scores of {} rows, choices of {}", scores.rows, ids.rows)
    }
    let (weights, weights_address) = output_of(device, DType::F32, ids.rows * ids.width)?;
    let arguments = WeighArgs {
        scores: scores.address,
        ids: ids.address,
        weights: weights_address,
        scores_stride: scores.stride,
        ids_stride: ids.stride,
        num_experts: scores.width as i32,
        num_chosen: ids.width as i32,
        factor: scaling.factor,
        normalize: i32::from(scaling.normalize),
    };
    launch(device, "experts", OP, Grid::new([ids.rows, 1, 1], THREADS), arguments)?;
    Ok((weights, Shape::from((ids.rows, ids.width))))
}

#[derive(Clone, Copy)]
#[repr(C)]
struct WeightedSumArgs {
    xs: u64,
    weights: u64,
    ys: u64,
    xs_stride: i64,
    weights_stride: i64,
    n: i32,
    width: i32,
}
const _: () = assert!(size_of::<WeightedSumArgs>() == 48);
// SAFETY: as `WeightedSumArgs` of kernels/experts.cu; `Operand` checked where the rows end.
unsafe impl Arguments for WeightedSumArgs {}

/// `weighted_sum` of f32 rows.
pub(crate) fn weighted_sum(
    xs: (&CudaStorage, &Layout),
    weights: (&CudaStorage, &Layout),
) -> Result<(CudaStorage, Shape)> {
    const OP: &str = "weighted_sum";
    let device = &xs.0.device;
    let xs = Operand::of(xs.0, xs.1, &[DType::F32], OP)?;
    let weights = Operand::of(weights.0, weights.1, &[DType::F32], OP)?;
    if xs.rows != weights.rows * weights.width {
        bail!("{OP}: {} rows for {} x {} weights", xs.rows, weights.rows, weights.width)
    }
    let (ys, ys_address) = output_of(device, DType::F32, weights.rows * xs.width)?;
    let arguments = WeightedSumArgs {
        xs: xs.address,
        weights: weights.address,
        ys: ys_address,
        xs_stride: xs.stride,
        weights_stride: weights.stride,
        n: weights.width as i32,
        width: xs.width as i32,
    };
    launch(device, "experts", OP, Grid::rows(weights.rows, xs.width, 1), arguments)?;
    Ok((ys, Shape::from((weights.rows, xs.width))))
}
