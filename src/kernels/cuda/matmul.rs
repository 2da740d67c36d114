//! `y = x w^T` on the device: own kernels where reading the weights is the cost, cuBLAS where the arithmetic is.

use std::ffi::c_void;

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::cublas::{result, sys};
use candle_core::cuda_backend::cudarc::driver::CudaSlice;
use candle_core::{CudaDevice, CudaStorage, DType, Layout, Result, Shape, bail};

use super::launch::{Arguments, Grid, launch};
use super::operand::{Operand, address, output, output_of};
use crate::kernels::Sums;

const OP: &str = "matmul";

/// Rows of x up to which each output is one warp's.
const GEMV_ROWS_MAX: usize = 4;
/// Rows of x up to which bf16 weights go through the matrix units from registers; more are cuBLAS's.
const SKINNY_ROWS_MAX: usize = 64;
/// Outputs of a block, and inputs of a step, of `skinny`.
pub(super) const SKINNY_OUTPUTS: usize = 16;
pub(super) const SKINNY_STEP: usize = 32;
/// Threads of a block of `skinny`.
pub(super) const SKINNY_THREADS: usize = 256;
/// Outputs of a block of `gemv`, one warp's each.
pub(super) const GEMV_OUTPUTS: usize = 4;

#[derive(Clone, Copy)]
#[repr(C)]
struct GemvArgs {
    xs: u64,
    weight: u64,
    residual: u64,
    ys: u64,
    xs_stride: i64,
    rows: i32,
    inputs: i32,
    outputs: i32,
    unused: i32,
}
const _: () = assert!(size_of::<GemvArgs>() == 56);
// SAFETY: as `GemvArgs` of kernels/gemv.cu; `Operand` checked where the rows end.
unsafe impl Arguments for GemvArgs {}

#[derive(Clone, Copy)]
#[repr(C)]
struct RoundArgs {
    xs: u64,
    ys: u64,
    stride: i64,
    width: i32,
    unused: i32,
}
const _: () = assert!(size_of::<RoundArgs>() == 32);
// SAFETY: as `RoundArgs` of kernels/rows.cu; `Operand` checked where the rows end.
unsafe impl Arguments for RoundArgs {}

/// The product of f32 rows and f32 or bf16 weights, with `residual` added where there is one.
///
/// Up to [`GEMV_ROWS_MAX`] rows are multiplied in f32. More rows with bf16 weights are rounded to bf16 first and summed
/// in f32. Batch-invariant sums take one of these ways by type and width alone.
pub(crate) fn matmul(
    xs: &CudaStorage,
    xs_l: &Layout,
    weight: &CudaStorage,
    w_l: &Layout,
    residual: Option<(&CudaStorage, &Layout)>,
    sums: Sums,
) -> Result<(CudaStorage, Shape)> {
    let device = &xs.device;
    let xs = Operand::of(xs, xs_l, &[DType::F32], OP)?;
    if sums == Sums::BatchInvariant && xs.stride as usize != xs.width {
        bail!("{OP}: rows of {} that lie {} apart have no batch-invariant sums", xs.width, xs.stride)
    }
    let weight = Operand::of(weight, w_l, &[DType::F32, DType::BF16], OP)?;
    if xs.width != weight.width || weight.stride as usize != weight.width {
        bail!("{OP}: rows of {} times weights of {} that lie {} apart", xs.width, weight.width, weight.stride)
    }
    let residual = residual.map(|(storage, layout)| Operand::of(storage, layout, &[DType::F32], OP)).transpose()?;
    if let Some(residual) = residual
        && ((residual.rows, residual.width) != (xs.rows, weight.rows) || residual.stride as usize != residual.width)
    {
        bail!("{OP}: {} x {} to {} x {}", residual.rows, residual.width, xs.rows, weight.rows)
    }
    let (ys, ys_address) = output_of(device, DType::F32, xs.rows * weight.rows)?;
    let product = Product { device, xs, weight, residual: residual.map(|residual| residual.address), ys: ys_address };
    match sums {
        Sums::Fastest => product.run()?,
        Sums::BatchInvariant => product.run_invariant()?,
    }
    Ok((ys, Shape::from((xs.rows, weight.rows))))
}

/// A checked product, and where it goes.
#[derive(Clone, Copy)]
pub(super) struct Product<'a> {
    pub(super) device: &'a CudaDevice,
    pub(super) xs: Operand,
    pub(super) weight: Operand,
    pub(super) residual: Option<u64>,
    pub(super) ys: u64,
}

impl Product<'_> {
    fn run(self) -> Result<()> {
        let is_packed = self.xs.is_packed() && self.weight.is_packed();
        match (self.weight.dtype, self.xs.rows) {
            _ if self.xs.rows == 0 || self.weight.rows == 0 => Ok(()),
            (_, 1..=GEMV_ROWS_MAX) => self.gemv(is_packed),
            (DType::BF16, _) => self.rounded(),
            _ => self.cublas(),
        }
    }

    /// Whether x, rounded to bf16, can go through `skinny`.
    fn is_skinny(&self) -> bool {
        self.weight.dtype == DType::BF16 && self.xs.width.is_multiple_of(SKINNY_STEP) && self.weight.is_packed()
    }

    /// By a body that type and width choose. Blocks along the grid's second side take further rows; the kernels add up
    /// a row's products in one order, in whichever place of a block it is.
    fn run_invariant(self) -> Result<()> {
        if self.xs.rows == 0 || self.weight.rows == 0 {
            return Ok(());
        }
        if self.is_skinny() {
            let (xs, _buffer) = rounded(self.device, self.xs)?;
            return Self { xs, ..self }.skinny();
        }
        match self.xs.is_packed() && self.weight.is_packed() {
            true => self.gemv_by("4", GEMV_ROWS_MAX),
            false => self.gemv_by("any", 1),
        }
    }

    fn gemv(self, is_packed: bool) -> Result<()> {
        match is_packed {
            true => self.gemv_by(rows_variant(self.xs.rows), GEMV_ROWS_MAX),
            false => self.gemv_by("any", 1),
        }
    }

    /// Through the variant that takes so many rows at once.
    fn gemv_by(self, variant: &str, rows_at_once: usize) -> Result<()> {
        let blocks = [self.weight.rows.div_ceil(GEMV_OUTPUTS), self.xs.rows.div_ceil(rows_at_once), 1];
        let name = format!("gemv_{}_{variant}", self.weight.name());
        launch(self.device, "gemv", &name, Grid::new(blocks, 32 * GEMV_OUTPUTS), self.arguments())
    }

    /// With x rounded to bf16: through `skinny` while rows are few, else through cuBLAS.
    fn rounded(self) -> Result<()> {
        if self.xs.rows > SKINNY_ROWS_MAX || !self.is_skinny() {
            return self.rounded_cublas();
        }
        // The buffer is given back in the order of the stream: after the product.
        let (xs, _buffer) = rounded(self.device, self.xs)?;
        Self { xs, ..self }.skinny()
    }

    /// With x rounded to bf16, through cuBLAS.
    pub(super) fn rounded_cublas(self) -> Result<()> {
        let (xs, _buffer) = rounded(self.device, self.xs)?;
        Self { xs, ..self }.cublas()
    }

    fn skinny(self) -> Result<()> {
        let tiles = self.xs.rows.min(SKINNY_ROWS_MAX).div_ceil(8).next_power_of_two();
        let blocks = [self.weight.rows.div_ceil(SKINNY_OUTPUTS), self.xs.rows.div_ceil(SKINNY_ROWS_MAX), 1];
        let grid = Grid::new(blocks, SKINNY_THREADS);
        launch(self.device, "gemv", &format!("skinny_bf16_{tiles}"), grid, self.arguments())
    }

    fn arguments(&self) -> GemvArgs {
        GemvArgs {
            xs: self.xs.address,
            weight: self.weight.address,
            residual: self.residual.unwrap_or(0),
            ys: self.ys,
            xs_stride: self.xs.stride,
            rows: self.xs.rows as i32,
            inputs: self.xs.width as i32,
            outputs: self.weight.rows as i32,
            unused: 0,
        }
    }

    /// Both operands of one type, sums and result in f32; f32 is multiplied as f32, never as tf32.
    fn cublas(self) -> Result<()> {
        if let Some(residual) = self.residual {
            copy(self.device, residual, self.ys, self.xs.rows * self.weight.rows * size_of::<f32>())?;
        }
        let (alpha, beta) = (1f32, if self.residual.is_some() { 1f32 } else { 0f32 });
        let kind = |dtype| match dtype {
            DType::BF16 => sys::cudaDataType::CUDA_R_16BF,
            _ => sys::cudaDataType::CUDA_R_32F,
        };
        let (outputs, rows, inputs) = (self.weight.rows as i32, self.xs.rows as i32, self.xs.width as i32);
        let handle = self.device.cublas_handle();
        // In cuBLAS's order of columns: ys^T [outputs, rows] = weight [outputs, inputs] times xs^T.
        // SAFETY: the matrices were checked to have these sizes; all addresses are of this device.
        unsafe {
            result::gemm_ex(
                *handle.handle(),
                sys::cublasOperation_t::CUBLAS_OP_T,
                sys::cublasOperation_t::CUBLAS_OP_N,
                outputs,
                rows,
                inputs,
                (&raw const alpha).cast::<c_void>(),
                self.weight.address as *const c_void,
                kind(self.weight.dtype),
                inputs,
                self.xs.address as *const c_void,
                kind(self.xs.dtype),
                self.xs.stride as i32,
                (&raw const beta).cast::<c_void>(),
                self.ys as *mut c_void,
                sys::cudaDataType::CUDA_R_32F,
                outputs,
                sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
                sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )
        }
        .w()
    }
}

/// x as bf16, and the buffer that holds it.
pub(super) fn rounded(device: &CudaDevice, xs: Operand) -> Result<(Operand, CudaSlice<half::bf16>)> {
    let Operand { rows, width, .. } = xs;
    let buffer = output::<half::bf16>(device, rows * width)?;
    let to = address(&buffer, device);
    let arguments = RoundArgs { xs: xs.address, ys: to, stride: xs.stride, width: width as i32, unused: 0 };
    launch(device, "rows", "round_bf16", Grid::rows(rows, width, 1), arguments)?;
    Ok((Operand { address: to, dtype: DType::BF16, rows, width, stride: width as i64 }, buffer))
}

/// The kernel variant for so many rows, at most four.
pub(super) fn rows_variant(rows: usize) -> &'static str {
    match rows {
        1 => "1",
        2 => "2",
        _ => "4",
    }
}

/// Copies `len` bytes on the device, in the order of its stream.
pub(super) fn copy(device: &CudaDevice, from: u64, to: u64, len: usize) -> Result<()> {
    let stream = device.cuda_stream();
    // SAFETY: both are buffers of at least `len` bytes of this device.
    unsafe {
        candle_core::cuda_backend::cudarc::driver::result::memcpy_dtod_async(to, from, len, stream.cu_stream()).w()
    }
}
