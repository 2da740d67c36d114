use std::f32::consts::LOG2_E;

use candle_core::{CudaStorage, DType, Device, Layout, Result, Shape, bail};

use super::attention::{AttentionArgs, ROWS_THREADS};
use super::launch::{Arguments, Grid, launch};
use super::operand::{Operand, address, output, output_of};
use crate::kernels::MlaAttention;
use crate::kernels::attention_plan::{Items, MLA_TILE_ROWS, MLA_TILE_WIDTHS, mla_tile_rows};
use crate::kernels::operand::Matrix;

const OP: &str = "mla_attention";

/// The widest latent and rotary part that `mla_rows` holds in registers.
const LATENT_MAX: usize = 512;
const ROPE_MAX: usize = 64;
const THREADS: usize = 128;

#[derive(Clone, Copy)]
#[repr(C)]
struct MlaArgs {
    attention: AttentionArgs,
    q_rope: u64,
    q_rope_stride: i64,
    rope: i32,
    unused: i32,
}
const _: () = assert!(size_of::<MlaArgs>() == 120);
// SAFETY: as `MlaArgs` of kernels/mla.cu; `MlaAttention::check` holds tables and rows to the operands.
unsafe impl Arguments for MlaArgs {}

/// `mla_attention` of f32 queries over a plane of f32 or bf16.
pub(crate) fn mla_attention(
    layout: &MlaAttention<'_>,
    q_latent: (&CudaStorage, &Layout),
    q_rope: (&CudaStorage, &Layout),
    plane: (&CudaStorage, &Layout),
) -> Result<(CudaStorage, Shape)> {
    layout.check(&Matrix::of(q_latent.1, OP)?, &Matrix::of(q_rope.1, OP)?, &Matrix::of(plane.1, OP)?)?;
    let device = &q_latent.0.device;
    let q_latent = Operand::of(q_latent.0, q_latent.1, &[DType::F32], OP)?;
    let q_rope = Operand::of(q_rope.0, q_rope.1, &[DType::F32], OP)?;
    let plane = Operand::of(plane.0, plane.1, &[DType::F32, DType::BF16], OP)?;
    let (latent, rope) = (q_latent.width, q_rope.width / layout.num_heads);
    if latent > LATENT_MAX || rope > ROPE_MAX {
        bail!("{OP}: a latent of {latent} and {rope}, on a GPU at most {LATENT_MAX} and {ROPE_MAX}")
    }
    let tile_rows = mla_tile_rows(plane.dtype, latent, rope).filter(|_| plane.is_packed());
    let (plan, words) =
        layout.plan.plan(&Device::Cuda(device.clone()), layout.sequences, layout.num_heads, tile_rows)?;
    let (ys, ys_address) = output_of(device, DType::F32, q_latent.rows * latent)?;
    let partials = output::<f32>(device, plan.num_partials * (latent + 2))?;
    let attention = AttentionArgs {
        q: q_latent.address,
        keys: plane.address,
        values: 0,
        ys: ys_address,
        partials: address(&partials, device),
        plan: Operand::vector_of(words, &[DType::U32], words.elem_count(), OP)?,
        q_stride: q_latent.stride,
        keys_stride: plane.stride,
        values_stride: 0,
        block_len: layout.block_len as i32,
        num_heads: layout.num_heads as i32,
        num_kv_heads: 1,
        head_dim: latent as i32,
        scale_log2: layout.scale * LOG2_E,
        items: 0,
    };
    let of_items = |items: Items| AttentionArgs { items: items.start as i32, ..attention };
    let run = |name: &str, items: Items, shared_bytes: usize| {
        let attention = of_items(items);
        let arguments =
            MlaArgs { attention, q_rope: q_rope.address, q_rope_stride: q_rope.stride, rope: rope as i32, unused: 0 };
        let grid = Grid { blocks: [items.count, 1, 1], threads: THREADS, shared_bytes };
        launch(device, "mla", name, grid, arguments)
    };
    for (items, rows) in plan.rows.into_iter().zip([1, 2, 4]) {
        run(&format!("mla_rows_{}_{rows}", plane.name()), items, 0)?;
    }
    run("mla_tiles_bf16_512_64", plan.tiles, tile_shared_bytes())?;
    let combined = plan.combined;
    let grid = Grid::new([combined.count, 1, combined.rows_max.max(1)], ROWS_THREADS);
    launch(device, "attention_rows", "attention_combine_f32", grid, of_items(combined))?;
    Ok((ys, Shape::from((q_latent.rows, latent))))
}

/// `MlaBuffers<512, 64>` of kernels/mla.cu: 16 queries and two buffers of 32 positions, padded, and the weights of
/// bf16; a float for each of 16 rows and four warps.
fn tile_shared_bytes() -> usize {
    const PADDING: usize = 8;
    const POSITIONS: usize = 32;
    let row = MLA_TILE_WIDTHS.0 + MLA_TILE_WIDTHS.1 + PADDING;
    let elements = (MLA_TILE_ROWS + 2 * POSITIONS) * row + MLA_TILE_ROWS * (POSITIONS + PADDING);
    elements * size_of::<half::bf16>() + MLA_TILE_ROWS * THREADS / 32 * size_of::<f32>()
}
