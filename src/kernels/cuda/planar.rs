use candle_core::cuda_backend::cudarc::driver::CudaSlice;
use candle_core::{CudaDevice, CudaStorage, DType, Layout, Result, Shape, bail};

use super::launch::{Arguments, Grid, launch};
use super::matmul::{Product, rows_variant};
use super::operand::{Operand, address, output, output_of};
use crate::kernels::Sums;
use crate::kernels::block_matrix::BLOCK_LEN;
use crate::kernels::planar::Planes;

const OP: &str = "planar_matmul";

/// Rows of x up to which weights are multiplied as they lie; for more they are decoded to bf16, once, for cuBLAS.
pub(super) const ROWS_MAX: usize = 64;
/// Rows of x that one pass over the weights serves.
const ROWS_AT_ONCE: usize = 8;
/// Outputs of a block.
pub(super) const OUTPUTS: usize = 4;

#[derive(Clone, Copy)]
#[repr(C)]
struct RoundBlocksArgs {
    xs: u64,
    quants: u64,
    scales: u64,
    sums: u64,
    stride: i64,
    inputs: i32,
    unused: i32,
}
const _: () = assert!(size_of::<RoundBlocksArgs>() == 48);
// SAFETY: as `RoundBlocksArgs` of kernels/blocks.cu; buffers are made for the rows.
unsafe impl Arguments for RoundBlocksArgs {}

#[derive(Clone, Copy)]
#[repr(C)]
struct BlocksArgs {
    weight: u64,
    x_quants: u64,
    x_scales: u64,
    x_sums: u64,
    residual: u64,
    ys: u64,
    scales: i64,
    mins: i64,
    rows: i32,
    blocks: i32,
    outputs: i32,
    zero: i32,
}
const _: () = assert!(size_of::<BlocksArgs>() == 80);
// SAFETY: as `BlocksArgs` of kernels/blocks.cu; `weight_address` checked the planes' size.
unsafe impl Arguments for BlocksArgs {}

#[derive(Clone, Copy)]
#[repr(C)]
struct DecodeArgs {
    weight: u64,
    ids: u64,
    ys: u64,
    scales: i64,
    mins: i64,
    blocks: i32,
    num_rows: i32,
    zero: i32,
    unused: i32,
}
const _: () = assert!(size_of::<DecodeArgs>() == 56);
// SAFETY: as `DecodeArgs` of kernels/blocks.cu; `weight_address` checked the planes' size, the kernel checks ids.
unsafe impl Arguments for DecodeArgs {}

/// `planar_matmul` of f32 rows.
pub(crate) fn planar_matmul(
    planes: &Planes,
    sums: Sums,
    xs: &CudaStorage,
    xs_l: &Layout,
    weight: &CudaStorage,
    w_l: &Layout,
) -> Result<(CudaStorage, Shape)> {
    let device = &xs.device;
    let xs = Operand::of(xs, xs_l, &[DType::F32], OP)?;
    if xs.width != planes.blocks * BLOCK_LEN {
        bail!("{OP}: rows of {} times weights of {}", xs.width, planes.blocks * BLOCK_LEN)
    }
    let weight = weight_address(planes, weight, w_l)?;
    let (ys, ys_address) = output_of(device, DType::F32, xs.rows * planes.rows)?;
    match sums == Sums::Fastest && xs.rows > ROWS_MAX {
        true => decoded_product(planes, device, xs, weight, ys_address)?,
        false => product(planes, device, xs, weight, ys_address)?,
    }
    Ok((ys, Shape::from((xs.rows, planes.rows))))
}

/// Rows of x in blocks of 8 bits, and the buffers that hold them.
pub(super) struct RoundedBlocks {
    pub(super) quants: u64,
    pub(super) scales: u64,
    pub(super) sums: u64,
    _buffers: (CudaSlice<u8>, CudaSlice<f32>, CudaSlice<i32>),
}

/// Rounds the rows of `xs`, whole blocks each.
pub(super) fn rounded_blocks(device: &CudaDevice, xs: Operand) -> Result<RoundedBlocks> {
    let blocks = xs.width / BLOCK_LEN;
    let num_blocks = xs.rows * blocks;
    let quants = output::<u8>(device, num_blocks * BLOCK_LEN)?;
    let (scales, sums) = (output::<f32>(device, num_blocks)?, output::<i32>(device, num_blocks)?);
    let rounding = RoundBlocksArgs {
        xs: xs.address,
        quants: address(&quants, device),
        scales: address(&scales, device),
        sums: address(&sums, device),
        stride: xs.stride,
        inputs: xs.width as i32,
        unused: 0,
    };
    launch(device, "blocks", "round_blocks", Grid::new([xs.rows, blocks.div_ceil(8), 1], 256), rounding)?;
    Ok(RoundedBlocks {
        quants: rounding.quants,
        scales: rounding.scales,
        sums: rounding.sums,
        _buffers: (quants, scales, sums),
    })
}

fn product(planes: &Planes, device: &CudaDevice, xs: Operand, weight: u64, ys: u64) -> Result<()> {
    let x = rounded_blocks(device, xs)?;
    let arguments = BlocksArgs {
        weight,
        x_quants: x.quants,
        x_scales: x.scales,
        x_sums: x.sums,
        residual: 0,
        ys,
        scales: planes.scales as i64,
        mins: planes.mins as i64,
        rows: xs.rows as i32,
        blocks: planes.blocks as i32,
        outputs: planes.rows as i32,
        zero: planes.zero,
    };
    let (variant, rows) = if xs.rows > 4 { ("8", ROWS_AT_ONCE) } else { (rows_variant(xs.rows), 4) };
    let grid = Grid::new([planes.rows.div_ceil(OUTPUTS), xs.rows.div_ceil(rows), 1], 32 * OUTPUTS);
    launch(device, "blocks", &format!("blocks_{}_{variant}", layout_name(planes)), grid, arguments)
}

/// Decodes all weights to bf16 and lets cuBLAS multiply: for prompts, where the arithmetic is the cost.
fn decoded_product(planes: &Planes, device: &CudaDevice, xs: Operand, weight: u64, ys: u64) -> Result<()> {
    let decoded = output::<half::bf16>(device, planes.rows * xs.width)?;
    let to = address(&decoded, device);
    decode(planes, device, weight, None, (to, "bf16"), planes.rows)?;
    let weight =
        Operand { address: to, dtype: DType::BF16, rows: planes.rows, width: xs.width, stride: xs.width as i64 };
    Product { device, xs, weight, residual: None, ys }.rounded_cublas()
}

/// `planar_rows` to f32. An id past the rows, which is not read back, gives zeros.
pub(crate) fn planar_rows(
    planes: &Planes,
    weight: &CudaStorage,
    w_l: &Layout,
    ids: &CudaStorage,
    ids_l: &Layout,
) -> Result<(CudaStorage, Shape)> {
    let device = &weight.device;
    let num_ids = ids_l.shape().elem_count();
    let ids = Operand::vector(ids, ids_l, &[DType::U32], num_ids, OP)?;
    let weight = weight_address(planes, weight, w_l)?;
    let width = planes.blocks * BLOCK_LEN;
    let (ys, ys_address) = output_of(device, DType::F32, num_ids * width)?;
    decode(planes, device, weight, Some(ids), (ys_address, "f32"), num_ids)?;
    Ok((ys, Shape::from((num_ids, width))))
}

fn decode(
    planes: &Planes,
    device: &CudaDevice,
    weight: u64,
    ids: Option<u64>,
    to: (u64, &str),
    rows: usize,
) -> Result<()> {
    let arguments = DecodeArgs {
        weight,
        ids: ids.unwrap_or(0),
        ys: to.0,
        scales: planes.scales as i64,
        mins: planes.mins as i64,
        blocks: planes.blocks as i32,
        num_rows: planes.rows as i32,
        zero: planes.zero,
        unused: 0,
    };
    let name = format!("decode_{}_{}", layout_name(planes), to.1);
    launch(device, "blocks", &name, Grid::rows(rows, planes.blocks * BLOCK_LEN, 1), arguments)
}

/// The planes' layout as the kernels' names spell it.
pub(super) fn layout_name(planes: &Planes) -> &'static str {
    match (planes.is_packed, planes.has_min) {
        _ if planes.has_halves => "halves",
        (true, false) => "packed",
        (true, true) => "packed_min",
        (false, false) => "bytes",
        (false, true) => "bytes_min",
    }
}

pub(super) fn weight_address(planes: &Planes, weight: &CudaStorage, layout: &Layout) -> Result<u64> {
    let address = Operand::vector(weight, layout, &[DType::U8], planes.num_bytes(), OP)?;
    if !address.is_multiple_of(16) {
        bail!("{OP}: the planes do not begin at a multiple of 16 bytes")
    }
    Ok(address)
}
