use std::f32::consts::LOG2_E;

use candle_core::{CudaStorage, DType, Device, Layout, Result, Shape, bail};

use super::launch::{Arguments, Grid, launch};
use super::operand::{Operand, address, output, output_of};
use crate::kernels::PagedAttention;
use crate::kernels::attention_plan::{Items, tile_rows};
use crate::kernels::operand::Matrix;

const OP: &str = "paged_attention";

/// The widest head that the kernel for any head holds in registers.
const HEAD_DIM_MAX: usize = 256;
pub(super) const ROWS_THREADS: usize = 128;

#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct AttentionArgs {
    pub(super) q: u64,
    pub(super) keys: u64,
    pub(super) values: u64,
    pub(super) ys: u64,
    pub(super) partials: u64,
    pub(super) plan: u64,
    pub(super) q_stride: i64,
    pub(super) keys_stride: i64,
    pub(super) values_stride: i64,
    pub(super) block_len: i32,
    pub(super) num_heads: i32,
    pub(super) num_kv_heads: i32,
    pub(super) head_dim: i32,
    pub(super) scale_log2: f32,
    pub(super) items: i32,
}
const _: () = assert!(size_of::<AttentionArgs>() == 96);
// SAFETY: as `AttentionArgs` of kernels/attention.cuh; `PagedAttention::check` holds tables and rows to the operands.
unsafe impl Arguments for AttentionArgs {}

/// `paged_attention` of f32 queries over planes of f32 or bf16, or of bf16 over bf16.
pub(crate) fn paged_attention(
    layout: &PagedAttention<'_>,
    q: (&CudaStorage, &Layout),
    keys: (&CudaStorage, &Layout),
    values: (&CudaStorage, &Layout),
) -> Result<(CudaStorage, Shape)> {
    let head_dim = layout.check(&Matrix::of(q.1, OP)?, &Matrix::of(keys.1, OP)?, &Matrix::of(values.1, OP)?)?;
    if head_dim > HEAD_DIM_MAX {
        bail!("{OP}: heads of {head_dim}, on a GPU at most {HEAD_DIM_MAX}")
    }
    let device = &q.0.device;
    let floats = [DType::F32, DType::BF16];
    let keys = Operand::of(keys.0, keys.1, &floats, OP)?;
    let values = Operand::of(values.0, values.1, &[keys.dtype], OP)?;
    let q = Operand::of(q.0, q.1, if keys.dtype == DType::F32 { &floats[..1] } else { &floats }, OP)?;
    let is_packed = keys.is_packed() && values.is_packed();
    let width = match head_dim {
        64 | 128 if is_packed => Some(head_dim),
        _ => None,
    };
    let tile_rows = tile_rows(keys.dtype, head_dim).filter(|_| is_packed);
    let group = layout.num_heads / layout.num_kv_heads;
    let (plan, words) = layout.plan.plan(&Device::Cuda(device.clone()), layout.sequences, group, tile_rows)?;
    let (ys, ys_address) = output_of(device, q.dtype, q.rows * q.width)?;
    let partials = output::<f32>(device, plan.num_partials * layout.num_kv_heads * (head_dim + 2))?;
    let arguments = AttentionArgs {
        q: q.address,
        keys: keys.address,
        values: values.address,
        ys: ys_address,
        partials: address(&partials, device),
        plan: Operand::vector_of(words, &[DType::U32], words.elem_count(), OP)?,
        q_stride: q.stride,
        keys_stride: keys.stride,
        values_stride: values.stride,
        block_len: layout.block_len as i32,
        num_heads: layout.num_heads as i32,
        num_kv_heads: layout.num_kv_heads as i32,
        head_dim: head_dim as i32,
        scale_log2: layout.scale * LOG2_E,
        items: 0,
    };
    let run = |module: &str, name: String, items: Items, rows: usize, threads: usize, shared_bytes: usize| {
        let blocks = [items.count, layout.num_kv_heads, rows];
        let arguments = AttentionArgs { items: items.start as i32, ..arguments };
        launch(device, module, &name, Grid { blocks, threads, shared_bytes }, arguments)
    };
    let head = width.map_or_else(|| "any".to_owned(), |width| width.to_string());
    for (items, rows) in plan.rows.into_iter().zip([1, 2, 4]) {
        let name = format!("attention_rows_{}_{}_{head}_{rows}", q.name(), keys.name());
        run("attention_rows", name, items, 1, ROWS_THREADS, 0)?;
    }
    let name = format!("attention_tiles_{}_{head}", q.name());
    run("attention_tiles", name, plan.tiles, 1, 128, tile_shared_bytes(head_dim))?;
    let name = format!("attention_combine_{}", q.name());
    run("attention_rows", name, plan.combined, plan.combined.rows_max.max(1), ROWS_THREADS, 0)?;
    Ok((ys, Shape::from((q.rows, q.width))))
}

/// Two buffers each for keys and values: 64 positions of a padded head of bf16.
fn tile_shared_bytes(head_dim: usize) -> usize {
    2 * 2 * 64 * (head_dim + 8) * size_of::<half::bf16>()
}
