//! Matrices of 8-bit floats (E4M3: four bits of exponent, three of mantissa), 128 along a row under one f32 scale.
//!
//! A weight is its number times its block's scale, and products are sums of f32: activations are not rounded, unlike those
//! of [`block_matmul`](super::block_matmul). The CPU body is the specification; it decodes four rows at a time and
//! multiplies them as [`matmul`](super::matmul) does, so that it costs about what f32 weights cost.
//! On a device the numbers of all rows come first, then all scales, so that neighbouring lanes load neighbouring bytes.
#![allow(unsafe_code)]

use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor, bail};

use super::lanes::{Lanes, WithLanes, dispatch};
use super::operand::{Matrix, elements, vector};
use super::parallel::{Shared, for_each_range};
use super::tile::{TILE_COLS, dots};
use super::{Sums, Uploader};

const OP: &str = "fp8_matmul";

/// Weights under one scale.
pub const FP8_BLOCK_LEN: usize = 128;
/// Bytes of a block as weights are stored: the scale (f32, little-endian), then the numbers.
pub const FP8_BLOCK_BYTES: usize = 4 + FP8_BLOCK_LEN;
/// The largest number in E4M3.
const LARGEST: f32 = 448.0;
/// Between the exponents of f32 and of E4M3: with its bits at the upper end of an f32's, a number is this much too small.
const SCALE_OF_BITS: f32 = f32::from_bits((120 + 127) << 23);
const MANTISSA_SHIFT: u32 = 20;

/// The number that a byte of E4M3 stands for. There is no infinity; the two bytes that stand for no number are read as
/// 480 and -480, and nothing here writes them.
fn fp8_to_f32(byte: u8) -> f32 {
    let (sign, rest) = (u32::from(byte & 0x80) << 24, u32::from(byte & 0x7f) << MANTISSA_SHIFT);
    f32::from_bits(sign | rest) * SCALE_OF_BITS
}

/// The nearest number in E4M3, the largest beyond it; ties go to the even one.
fn fp8_of(x: f32) -> u8 {
    let bits = (x.abs().min(LARGEST) / SCALE_OF_BITS).to_bits();
    let half = (1 << (MANTISSA_SHIFT - 1)) - 1 + (bits >> MANTISSA_SHIFT & 1);
    (x.to_bits() >> 24) as u8 & 0x80 | ((bits + half) >> MANTISSA_SHIFT) as u8
}

/// `values` as blocks; the largest of a block becomes 448.
///
/// # Panics
/// When they are not whole blocks.
pub fn fp8_blocks(values: &[f32]) -> Vec<u8> {
    assert!(values.len().is_multiple_of(FP8_BLOCK_LEN), "{} values are not whole blocks", values.len());
    let mut bytes = Vec::with_capacity(values.len() / FP8_BLOCK_LEN * FP8_BLOCK_BYTES);
    for block in values.as_chunks::<FP8_BLOCK_LEN>().0 {
        let largest = block.iter().fold(0f32, |largest, x| largest.max(x.abs()));
        let inverse = if largest > 0.0 { LARGEST / largest } else { 0.0 };
        bytes.extend((largest / LARGEST).to_le_bytes());
        bytes.extend(block.iter().map(|x| fp8_of(x * inverse)));
    }
    bytes
}

/// The values of blocks.
pub fn fp8_values(blocks: &[u8]) -> Vec<f32> {
    let parts = blocks.as_chunks::<FP8_BLOCK_BYTES>().0.iter().map(|block| block.split_at(4));
    parts.flat_map(|(scale, numbers)| numbers.iter().map(move |&byte| scale_of(scale) * fp8_to_f32(byte))).collect()
}

fn scale_of(bytes: &[u8]) -> f32 {
    f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// A `[rows, width]` matrix on a device.
pub struct Fp8Matrix {
    bytes: Tensor,
    shape: Fp8Shape,
    sums: Sums,
}

/// How its bytes are divided: `rows * width` numbers, then a scale for each block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fp8Shape {
    pub(super) rows: usize,
    pub(super) width: usize,
}

impl Fp8Shape {
    /// Where the scales begin: at a whole number of blocks.
    pub(super) fn scales(&self) -> usize {
        self.rows * self.width
    }

    pub(super) fn num_bytes(&self) -> usize {
        self.scales() + self.scales() / FP8_BLOCK_LEN * size_of::<f32>()
    }

    /// Decodes a row into `out`.
    fn decode(&self, bytes: &[u8], row_idx: usize, out: &mut [f32]) {
        let first = row_idx * self.width;
        let numbers = bytes[first..first + self.width].chunks_exact(FP8_BLOCK_LEN);
        let scales = bytes[self.scales() + first / FP8_BLOCK_LEN * 4..].chunks_exact(4);
        for ((out, numbers), scale) in out.chunks_exact_mut(FP8_BLOCK_LEN).zip(numbers).zip(scales) {
            let scale = scale_of(scale);
            out.iter_mut().zip(numbers).for_each(|(out, &byte)| *out = scale * fp8_to_f32(byte));
        }
    }
}

impl Fp8Matrix {
    /// Brings blocks, row after row, to a device; `None` when they are not the size that the shape implies.
    ///
    /// # Errors
    /// When the device cannot hold them.
    pub fn new(blocks: &[u8], rows: usize, width: usize, uploader: &Uploader) -> Result<Option<Self>> {
        let shape = Fp8Shape { rows, width };
        if !width.is_multiple_of(FP8_BLOCK_LEN) || blocks.len() != shape.scales() / FP8_BLOCK_LEN * FP8_BLOCK_BYTES {
            return Ok(None);
        }
        let mut bytes = Vec::with_capacity(shape.num_bytes());
        let parts = || blocks.chunks_exact(FP8_BLOCK_BYTES).map(|block| block.split_at(4));
        parts().for_each(|(_, numbers)| bytes.extend_from_slice(numbers));
        parts().for_each(|(scale, _)| bytes.extend_from_slice(scale));
        let bytes = uploader.tensor(&[&bytes], DType::U8, &[bytes.len()])?;
        Ok(Some(Self { bytes, shape, sums: Sums::Fastest }))
    }

    /// The same, with a say in how a GPU adds up its products. Of batch-invariant sums, all rows are multiplied by the
    /// weights as they lie, by one body.
    #[must_use]
    pub fn with_sums(self, sums: Sums) -> Self {
        Self { sums, ..self }
    }

    /// Bytes it takes.
    pub fn num_bytes(&self) -> usize {
        self.shape.num_bytes()
    }
}

/// The product `[rows, outputs]` of `xs` (`[rows, inputs]`, f32) and the transpose of `weight`.
///
/// On a GPU, from the 17th row on, both are rounded to bf16 first; not for batch-invariant sums.
///
/// # Errors
/// When shape or type is not this, or the two are on different devices.
pub fn fp8_matmul(xs: &Tensor, weight: &Fp8Matrix) -> Result<Tensor> {
    xs.apply_op2_no_bwd(&weight.bytes, &Fp8Matmul(weight.shape, weight.sums))
}

/// The rows `ids` (`[n]`, u32, each below the number of rows) of `weight`, as f32.
///
/// # Errors
/// When the ids are not such a vector on the weights' device.
pub fn fp8_rows(ids: &Tensor, weight: &Fp8Matrix) -> Result<Tensor> {
    weight.bytes.apply_op2_no_bwd(ids, &Fp8Rows(weight.shape))
}

struct Fp8Matmul(Fp8Shape, #[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "a CPU has one body"))] Sums);

impl CustomOp2 for Fp8Matmul {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(
        &self,
        xs: &CpuStorage,
        xs_l: &Layout,
        weight: &CpuStorage,
        _w_l: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let shape = self.0;
        let xs_m = Matrix::of(xs_l, OP)?;
        let (xs, bytes) = (elements::<f32>(xs, &xs_m, OP)?, weight.as_slice::<u8>()?);
        if xs_m.width != shape.width {
            bail!("{OP}: rows of {} times weights of {}", xs_m.width, shape.width)
        }
        let mut ys = vec![0f32; xs_m.rows * shape.rows];
        let shared = Shared::new(&mut ys);
        for_each_range(shape.rows.div_ceil(TILE_COLS), TILE_COLS * shape.width * xs_m.rows, |tiles| {
            let mut decoded = vec![0f32; TILE_COLS * shape.width];
            for tile in tiles {
                let outputs = tile * TILE_COLS..shape.rows.min((tile + 1) * TILE_COLS);
                for (output, row) in outputs.clone().zip(decoded.chunks_exact_mut(shape.width)) {
                    shape.decode(bytes, output, row);
                }
                dispatch(Tile { xs, xs_m, decoded: &decoded, outputs, num_outputs: shape.rows, ys: shared });
            }
        });
        Ok((CpuStorage::F32(ys), Shape::from((xs_m.rows, shape.rows))))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        xs: &candle_core::CudaStorage,
        xs_l: &Layout,
        weight: &candle_core::CudaStorage,
        w_l: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        super::cuda::fp8_matmul(&self.0, self.1, xs, xs_l, weight, w_l)
    }
}

/// At most four outputs of all rows. `decoded` holds four rows of the width of `xs`, of which those past `outputs` count
/// for nothing.
struct Tile<'a> {
    xs: &'a [f32],
    xs_m: Matrix,
    decoded: &'a [f32],
    outputs: std::ops::Range<usize>,
    num_outputs: usize,
    ys: Shared<'a, f32>,
}

impl WithLanes for Tile<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let width = self.xs_m.width;
        let weights = std::array::from_fn(|col| self.decoded[col * width..(col + 1) * width].as_ptr());
        for row_idx in 0..self.xs_m.rows {
            let x = self.xs_m.row(self.xs, row_idx).as_ptr();
            // SAFETY: all five are rows of the same width, and the instructions of `L` are the caller's; each output
            // belongs to the one thread that got its tile.
            unsafe {
                let [dots] = dots::<L, 1>([x], weights, width);
                let ys = self.ys.part(row_idx * self.num_outputs + self.outputs.start, self.outputs.len());
                ys.copy_from_slice(&dots[..self.outputs.len()]);
            }
        }
    }
}

struct Fp8Rows(Fp8Shape);

impl CustomOp2 for Fp8Rows {
    fn name(&self) -> &'static str {
        "fp8_rows"
    }

    fn cpu_fwd(
        &self,
        weight: &CpuStorage,
        _w_l: &Layout,
        ids: &CpuStorage,
        ids_l: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let shape = self.0;
        let num_ids = ids_l.shape().elem_count();
        let (bytes, ids) = (weight.as_slice::<u8>()?, vector::<u32>(ids, ids_l, num_ids, self.name())?);
        if let Some(id) = ids.iter().find(|&&id| id as usize >= shape.rows) {
            bail!("{}: row {id} of {}", self.name(), shape.rows)
        }
        let mut ys = vec![0f32; num_ids * shape.width];
        for (&id, row) in ids.iter().zip(ys.chunks_exact_mut(shape.width.max(1))) {
            shape.decode(bytes, id as usize, row);
        }
        Ok((CpuStorage::F32(ys), Shape::from((num_ids, shape.width))))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        weight: &candle_core::CudaStorage,
        w_l: &Layout,
        ids: &candle_core::CudaStorage,
        ids_l: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        super::cuda::fp8_rows(&self.0, weight, w_l, ids, ids_l)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::kernels::matmul;
    use crate::kernels::testing::{assert_close, devices, noise, uploader};

    /// The definition: sign, exponent less 7, mantissa with its hidden bit; below the least exponent without.
    fn defined(byte: u8) -> f64 {
        let (sign, exponent, mantissa) = (byte >> 7, i32::from(byte >> 3 & 15), f64::from(byte & 7));
        let magnitude = match exponent {
            0 => mantissa / 8.0 * 2f64.powi(-6),
            _ => (1.0 + mantissa / 8.0) * 2f64.powi(exponent - 7),
        };
        if sign == 1 { -magnitude } else { magnitude }
    }

    #[test]
    fn every_number_is_the_one_it_is_defined_as_and_its_own_nearest() {
        for byte in (0..=255u8).filter(|byte| byte & 0x7f != 0x7f) {
            assert_eq!(f64::from(fp8_to_f32(byte)), defined(byte), "{byte:#x}");
            assert_eq!(fp8_of(fp8_to_f32(byte)), byte, "{byte:#x}");
        }
        assert_eq!((fp8_to_f32(0x7e), fp8_to_f32(1)), (448.0, 2f32.powi(-9)));
    }

    #[test]
    fn rounding_takes_the_nearest_and_of_two_the_even_one() {
        let numbers: Vec<f32> = (0..0x7f).map(fp8_to_f32).collect();
        for (low, pair) in numbers.windows(2).enumerate() {
            let (low, middle) = (low as u8, (pair[0] + pair[1]) / 2.0);
            assert_eq!(fp8_of(middle), low + low % 2, "between {pair:?}");
            assert_eq!((fp8_of(middle * 0.9999), fp8_of(middle * 1.0001)), (low, low + 1), "between {pair:?}");
            assert_eq!(fp8_of(-middle * 1.0001), 0x80 | (low + 1));
        }
        assert_eq!((fp8_of(1e9), fp8_of(-1e9), fp8_of(0.0)), (0x7e, 0xfe, 0));
    }

    #[test]
    fn blocks_hold_their_largest_value_and_are_near_the_others() {
        let mut values = noise(3 * FP8_BLOCK_LEN, 5);
        values[FP8_BLOCK_LEN..2 * FP8_BLOCK_LEN].fill(0.0);
        values[2 * FP8_BLOCK_LEN + 7] = -1e-3;
        let found = fp8_values(&fp8_blocks(&values));
        for (block, found) in values.chunks(FP8_BLOCK_LEN).zip(found.chunks(FP8_BLOCK_LEN)) {
            let largest = block.iter().fold(0f32, |largest, x| largest.max(x.abs()));
            for (x, y) in block.iter().zip(found) {
                // Half of the last of four bits, or half of the least number.
                let bound = (x.abs() / 16.0).max(largest / LARGEST * 2f32.powi(-10)) * 1.0001;
                assert!((x - y).abs() <= bound, "{y} for {x}");
                assert!(x.abs() < largest || (x - y).abs() <= 1e-6 * largest, "{y} for the largest, {x}");
            }
        }
    }

    #[test]
    fn batch_invariant_rows_are_the_same_alone_and_in_company() -> Result<()> {
        for device in devices() {
            let weight =
                Fp8Matrix::new(&fp8_blocks(&noise(33 * 256, 5)), 33, 256, &uploader(&device)?)?.expect("whole blocks");
            let weight = weight.with_sums(Sums::BatchInvariant);
            let xs = Tensor::from_vec(noise(130 * 256, 3), (130, 256), &device)?;
            let together = fp8_matmul(&xs, &weight)?.to_vec2::<f32>()?;
            for (first, count) in [(0, 1), (129, 1), (5, 3), (64, 8), (60, 64), (1, 65)] {
                let found = fp8_matmul(&xs.narrow(0, first, count)?, &weight)?.to_vec2::<f32>()?;
                assert_eq!(found, together[first..first + count], "{first} + {count}");
            }
        }
        Ok(())
    }

    #[test]
    fn products_and_rows_are_those_of_the_decoded_matrix() -> Result<()> {
        for device in devices() {
            for (rows, width, outputs) in
                [(1, 128, 1), (2, 384, 37), (3, 4096, 48), (9, 128, 5), (16, 640, 6), (70, 256, 33)]
            {
                let blocks = fp8_blocks(&noise(outputs * width, 7));
                let weight = Fp8Matrix::new(&blocks, outputs, width, &uploader(&device)?)?.expect("the size is right");
                assert_eq!(weight.num_bytes(), blocks.len());
                let decoded = Tensor::from_vec(fp8_values(&blocks), (outputs, width), &Device::Cpu)?;
                let xs = Tensor::from_vec(noise(rows * width, 3), (rows, width), &Device::Cpu)?;
                let what = format!("{rows} rows of {width} to {outputs}");
                // Many rows go through cuBLAS on a GPU, with weights and activations rounded to bf16.
                let tolerance = if device.is_cpu() || rows <= 16 { 1e-5 } else { 1e-2 };
                let ys = fp8_matmul(&xs.to_device(&device)?, &weight)?;
                assert_close(&ys, &matmul(&xs, &decoded)?, tolerance, &what)?;
                let ids: Vec<u32> = [outputs - 1, 0, outputs / 2].map(|id| id as u32).to_vec();
                let expected = decoded.index_select(&Tensor::new(ids.as_slice(), &Device::Cpu)?, 0)?;
                assert_close(&fp8_rows(&Tensor::new(ids.as_slice(), &device)?, &weight)?, &expected, 0.0, &what)?;
            }
        }
        Ok(())
    }

    #[test]
    fn a_row_that_begins_anywhere_is_multiplied_too() -> Result<()> {
        for device in devices() {
            let blocks = fp8_blocks(&noise(5 * 128, 7));
            let weight = Fp8Matrix::new(&blocks, 5, 128, &uploader(&device)?)?.expect("the size is right");
            let wide = Tensor::from_vec(noise(2 * 131, 3), (2, 131), &Device::Cpu)?;
            let xs = wide.narrow(1, 1, 128)?.contiguous()?;
            let ys = fp8_matmul(&wide.to_device(&device)?.narrow(1, 1, 128)?, &weight)?;
            let tolerance = if device.is_cpu() { 0.0 } else { 1e-2 };
            let alone = Fp8Matrix::new(&blocks, 5, 128, &uploader(&Device::Cpu)?)?.expect("the size is right");
            assert_close(&ys, &fp8_matmul(&xs, &alone)?, tolerance, "rows 131 apart")?;
        }
        Ok(())
    }

    #[test]
    fn a_row_is_the_same_to_the_bit_alone_and_in_company() -> Result<()> {
        let blocks = fp8_blocks(&noise(50 * 256, 7));
        let weight = Fp8Matrix::new(&blocks, 50, 256, &uploader(&Device::Cpu)?)?.expect("the size is right");
        let xs = Tensor::from_vec(noise(13 * 256, 3), (13, 256), &Device::Cpu)?;
        let together = fp8_matmul(&xs, &weight)?.to_vec2::<f32>()?;
        for (row_idx, row) in together.iter().enumerate() {
            assert_eq!(&fp8_matmul(&xs.narrow(0, row_idx, 1)?, &weight)?.to_vec2::<f32>()?[0], row, "row {row_idx}");
        }
        Ok(())
    }

    #[test]
    fn bytes_of_another_size_and_rows_that_are_not_there_are_refused() -> Result<()> {
        let cpu = uploader(&Device::Cpu)?;
        assert!(Fp8Matrix::new(&[0; 131], 1, 128, &cpu)?.is_none());
        assert!(Fp8Matrix::new(&[0; 132], 1, 127, &cpu)?.is_none());
        let weight = Fp8Matrix::new(&[0; 132], 1, 128, &cpu)?.expect("the size is right");
        assert!(fp8_rows(&Tensor::new(&[1u32], &Device::Cpu)?, &weight).is_err());
        assert!(fp8_matmul(&Tensor::zeros((1, 64), candle_core::DType::F32, &Device::Cpu)?, &weight).is_err());
        Ok(())
    }
}
