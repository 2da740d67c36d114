use candle_core::{CudaDevice, CudaStorage, DType, Layout, Result, Shape, bail};

use super::launch::{Arguments, Grid, launch};
use super::matmul::{Product, rows_variant};
use super::operand::{Operand, address, output, output_of};
use crate::kernels::Sums;
use crate::kernels::fp8::Fp8Shape;

const OP: &str = "fp8_matmul";

/// Rows of x up to which weights are multiplied as they lie; for more they are decoded to bf16, once, for cuBLAS.
const ROWS_MAX: usize = 16;
/// Rows of x that one pass over the weights serves.
const ROWS_AT_ONCE: usize = 8;
/// Rows of x of the body that batch-invariant sums take.
const ROWS_INVARIANT: usize = 4;
/// Outputs of a block.
const OUTPUTS: usize = 4;

#[derive(Clone, Copy)]
#[repr(C)]
struct Fp8Args {
    weight: u64,
    xs: u64,
    ys: u64,
    xs_stride: i64,
    scales: i64,
    rows: i32,
    inputs: i32,
    outputs: i32,
    unused: i32,
}
const _: () = assert!(size_of::<Fp8Args>() == 56);
// SAFETY: as `Fp8Args` of kernels/fp8.cu; `weight_address` checked the buffer's size, `Operand` where the rows end.
unsafe impl Arguments for Fp8Args {}

#[derive(Clone, Copy)]
#[repr(C)]
struct DecodeArgs {
    weight: u64,
    ids: u64,
    ys: u64,
    scales: i64,
    width: i32,
    num_rows: i32,
}
const _: () = assert!(size_of::<DecodeArgs>() == 40);
// SAFETY: as `DecodeFp8Args` of kernels/fp8.cu; `weight_address` checked the buffer's size, the kernel checks ids.
unsafe impl Arguments for DecodeArgs {}

/// `fp8_matmul` of f32 rows.
pub(crate) fn fp8_matmul(
    shape: &Fp8Shape,
    sums: Sums,
    xs: &CudaStorage,
    xs_l: &Layout,
    weight: &CudaStorage,
    w_l: &Layout,
) -> Result<(CudaStorage, Shape)> {
    let device = &xs.device;
    let xs = Operand::of(xs, xs_l, &[DType::F32], OP)?;
    if xs.width != shape.width {
        bail!("{OP}: rows of {} times weights of {}", xs.width, shape.width)
    }
    let weight = weight_address(shape, weight, w_l)?;
    let (ys, ys_address) = output_of(device, DType::F32, xs.rows * shape.rows)?;
    let product_by = |variant, rows| product(shape, device, xs, weight, ys_address, variant, rows);
    match sums {
        Sums::BatchInvariant if !xs.is_packed() => {
            bail!("{OP}: rows of {} that lie {} apart have no batch-invariant sums", xs.width, xs.stride)
        }
        Sums::BatchInvariant => product_by("4", ROWS_INVARIANT)?,
        Sums::Fastest if xs.rows > ROWS_MAX || !xs.is_packed() => {
            decoded_product(shape, device, xs, weight, ys_address)?
        }
        Sums::Fastest if xs.rows > 4 => product_by("8", ROWS_AT_ONCE)?,
        Sums::Fastest => product_by(rows_variant(xs.rows), 4)?,
    }
    Ok((ys, Shape::from((xs.rows, shape.rows))))
}

/// Through the variant that takes so many rows at once.
fn product(
    shape: &Fp8Shape,
    device: &CudaDevice,
    xs: Operand,
    weight: u64,
    ys: u64,
    variant: &str,
    rows_at_once: usize,
) -> Result<()> {
    let arguments = Fp8Args {
        weight,
        xs: xs.address,
        ys,
        xs_stride: xs.stride,
        scales: shape.scales() as i64,
        rows: xs.rows as i32,
        inputs: xs.width as i32,
        outputs: shape.rows as i32,
        unused: 0,
    };
    let grid = Grid::new([shape.rows.div_ceil(OUTPUTS), xs.rows.div_ceil(rows_at_once), 1], 32 * OUTPUTS);
    launch(device, "fp8", &format!("fp8_{variant}"), grid, arguments)
}

/// Decodes all weights to bf16 and lets cuBLAS multiply: for prompts, where the arithmetic is the cost.
fn decoded_product(shape: &Fp8Shape, device: &CudaDevice, xs: Operand, weight: u64, ys: u64) -> Result<()> {
    let decoded = output::<half::bf16>(device, shape.rows * shape.width)?;
    let to = address(&decoded, device);
    decode(shape, device, weight, None, (to, "bf16"), shape.rows)?;
    let weight =
        Operand { address: to, dtype: DType::BF16, rows: shape.rows, width: shape.width, stride: shape.width as i64 };
    Product { device, xs, weight, residual: None, ys }.rounded_cublas()
}

/// `fp8_rows` to f32. An id past the rows, which is not read back, gives zeros.
pub(crate) fn fp8_rows(
    shape: &Fp8Shape,
    weight: &CudaStorage,
    w_l: &Layout,
    ids: &CudaStorage,
    ids_l: &Layout,
) -> Result<(CudaStorage, Shape)> {
    let device = &weight.device;
    let num_ids = ids_l.shape().elem_count();
    let ids = Operand::vector(ids, ids_l, &[DType::U32], num_ids, OP)?;
    let weight = weight_address(shape, weight, w_l)?;
    let (ys, ys_address) = output_of(device, DType::F32, num_ids * shape.width)?;
    decode(shape, device, weight, Some(ids), (ys_address, "f32"), num_ids)?;
    Ok((ys, Shape::from((num_ids, shape.width))))
}

fn decode(
    shape: &Fp8Shape,
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
        scales: shape.scales() as i64,
        width: shape.width as i32,
        num_rows: shape.rows as i32,
    };
    launch(device, "fp8", &format!("decode_fp8_{}", to.1), Grid::rows(rows, shape.width, 1), arguments)
}

fn weight_address(shape: &Fp8Shape, weight: &CudaStorage, layout: &Layout) -> Result<u64> {
    let address = Operand::vector(weight, layout, &[DType::U8], shape.num_bytes(), OP)?;
    if !address.is_multiple_of(16) {
        bail!("{OP}: the weights do not begin at a multiple of 16 bytes")
    }
    Ok(address)
}
