use candle_core::{CudaStorage, DType, Layout, Result, Shape, bail};

use super::launch::{Arguments, Grid, launch};
use super::operand::{Operand, output_of};

#[derive(Clone, Copy)]
#[repr(C)]
struct NormArgs {
    xs: u64,
    weight: u64,
    ys: u64,
    xs_stride: i64,
    width: i32,
    eps: f32,
}
const _: () = assert!(size_of::<NormArgs>() == 40);
// SAFETY: as `NormArgs` of kernels/norm.cu; `Operand` checked where the rows end.
unsafe impl Arguments for NormArgs {}

/// Threads of a row: enough that a row of 4,096 takes each two turns.
const THREADS: usize = 512;

/// `rms_norm` of f32 or bf16 rows.
pub(crate) fn rms_norm(
    xs: &CudaStorage,
    xs_l: &Layout,
    weight: &CudaStorage,
    w_l: &Layout,
    eps: f32,
) -> Result<(CudaStorage, Shape)> {
    const OP: &str = "rms_norm";
    let rows = Operand::of(xs, xs_l, &[DType::F32, DType::BF16], OP)?;
    let weight = Operand::vector(weight, w_l, &[DType::F32], rows.width, OP)?;
    if rows.width == 0 {
        bail!("{OP}: rows are empty")
    }
    let (ys, ys_address) = output_of(&xs.device, rows.dtype, rows.rows * rows.width)?;
    let arguments =
        NormArgs { xs: rows.address, weight, ys: ys_address, xs_stride: rows.stride, width: rows.width as i32, eps };
    // One row of a view takes the body that several take, though nothing lies behind it.
    let is_apart_by_packs = xs_l.stride()[0].is_multiple_of(16 / rows.dtype.size_in_bytes());
    let any = if rows.is_packed() && is_apart_by_packs && weight.is_multiple_of(16) { "" } else { "_any" };
    let grid = Grid::new([rows.rows, 1, 1], THREADS);
    launch(&xs.device, "norm", &format!("rms_norm_{}{any}", rows.name()), grid, arguments)?;
    Ok((ys, Shape::from((rows.rows, rows.width))))
}
