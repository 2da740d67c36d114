//! Matrices of 4- to 8-bit weights in blocks of 32 along a row, repacked so that one instruction serves 16 outputs.
//!
//! Sixteen rows lie side by side: of each, four neighbouring weights at a time, so that 64 bytes hold what one
//! `vpdpbusd` multiplies with four activations. Weights are unsigned; the formats' zero points and minima are put
//! back through the sums of the activations' blocks, so the integer part is exact. Nothing is rounded anew:
//! scales and minima stay the f16 of the file.
#![allow(unsafe_code)]
#![allow(clippy::needless_range_loop, reason = "counted loops over registers unroll; iterators hide which")]

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use half::f16;

use super::operand::{Matrix, elements};
use super::parallel::{Shared, for_each_range};

const OP: &str = "block_matmul";

/// Weights that share a scale.
pub(super) const BLOCK_LEN: usize = 32;
/// Rows of weights that are multiplied together.
pub(super) const TILE: usize = 16;
/// Rows of activations that share one pass over a tile's weights.
pub(super) const ROWS_AT_ONCE: usize = 8;

/// A file's layout that a [`BlockMatrix`] can hold. Names are those of ggml.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the definition")]
pub enum BlockFormat {
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
}

impl BlockFormat {
    /// Bytes of one block in a file.
    pub fn block_bytes(self) -> usize {
        match self {
            Self::Q4_0 => 2 + 16,
            Self::Q4_1 => 4 + 16,
            Self::Q5_0 => 2 + 4 + 16,
            Self::Q5_1 => 4 + 4 + 16,
            Self::Q8_0 => 2 + 32,
        }
    }

    /// What is taken from each unsigned weight before it is scaled.
    pub(super) fn zero(self) -> i32 {
        match self {
            Self::Q4_0 => 8,
            Self::Q5_0 => 16,
            Self::Q8_0 => 128,
            Self::Q4_1 | Self::Q5_1 => 0,
        }
    }

    pub(super) fn has_min(self) -> bool {
        matches!(self, Self::Q4_1 | Self::Q5_1)
    }

    /// Two weights share a byte.
    pub(super) fn is_packed(self) -> bool {
        matches!(self, Self::Q4_0 | Self::Q4_1)
    }

    /// Vectors of 64 bytes that hold a block of sixteen rows.
    fn vectors(self) -> usize {
        if self.is_packed() { 4 } else { 8 }
    }

    /// Scale, minimum and unsigned weights of one block of a file.
    pub(super) fn decode(self, block: &[u8]) -> (f16, f16, [u8; BLOCK_LEN]) {
        let half = |at: usize| f16::from_le_bytes([block[at], block[at + 1]]);
        let min = if self.has_min() { half(2) } else { f16::ZERO };
        let quants = &block[if self.has_min() { 4 } else { 2 }..];
        let (fifth, quants) = match self {
            Self::Q5_0 | Self::Q5_1 => (u32::from_le_bytes([quants[0], quants[1], quants[2], quants[3]]), &quants[4..]),
            _ => (0, quants),
        };
        let weights = std::array::from_fn(|i| match self {
            // From two's complement to an offset of 128.
            Self::Q8_0 => quants[i] ^ 0x80,
            _ => {
                let nibble = if i < 16 { quants[i] & 0x0f } else { quants[i - 16] >> 4 };
                nibble | ((fifth >> i) as u8 & 1) << 4
            }
        });
        (half(0), min, weights)
    }
}

/// Sixteen rows' worth of bytes that are loaded at once.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Vector([u8; 64]);

/// A repacked `[rows, width]` matrix of weights. About as many bytes as in the file; 5-bit formats take 8 bits.
pub struct BlockMatrix {
    format: BlockFormat,
    rows: usize,
    width: usize,
    /// `[tiles][blocks][16]`.
    scales: Vec<f16>,
    /// As `scales`, for formats with minima; empty for the others.
    mins: Vec<f16>,
    /// `[tiles][blocks][vectors]`.
    quants: Vec<Vector>,
}

impl BlockMatrix {
    /// True when this machine has the instructions that the product is written for.
    pub fn is_fast_here() -> bool {
        #[cfg(target_arch = "x86_64")]
        return is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vnni");
        #[cfg(not(target_arch = "x86_64"))]
        false
    }

    /// Repacks the `bytes` of a file; `None` when they are not the size that format and shape imply.
    pub fn new(bytes: &[u8], format: BlockFormat, rows: usize, width: usize) -> Option<Self> {
        let blocks = width / BLOCK_LEN;
        if !width.is_multiple_of(BLOCK_LEN) || bytes.len() != rows * blocks * format.block_bytes() {
            return None;
        }
        let num_tile_blocks = rows.div_ceil(TILE) * blocks;
        let mut matrix = Self {
            format,
            rows,
            width,
            scales: vec![f16::ZERO; num_tile_blocks * TILE],
            mins: vec![f16::ZERO; if format.has_min() { num_tile_blocks * TILE } else { 0 }],
            quants: vec![Vector([0; 64]); num_tile_blocks * format.vectors()],
        };
        for (i, block) in bytes.chunks_exact(format.block_bytes()).enumerate() {
            let (row, block_idx) = (i / blocks, i % blocks);
            let (scale, min, weights) = format.decode(block);
            let (tile_block, lane) = (row / TILE * blocks + block_idx, row % TILE);
            matrix.scales[tile_block * TILE + lane] = scale;
            if format.has_min() {
                matrix.mins[tile_block * TILE + lane] = min;
            }
            for (j, weight) in weights.into_iter().enumerate() {
                let (vector, byte, shift) = format.place(j);
                matrix.quants[tile_block * format.vectors() + vector].0[lane * 4 + byte] |= weight << shift;
            }
        }
        Some(matrix)
    }

    /// The row `row_idx` as f32.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn row(&self, row_idx: usize) -> impl Iterator<Item = f32> {
        assert!(row_idx < self.rows, "row {row_idx} of {}", self.rows);
        let blocks = self.width / BLOCK_LEN;
        (0..self.width).map(move |i| {
            let (tile_block, lane) = (row_idx / TILE * blocks + i / BLOCK_LEN, row_idx % TILE);
            let weight = self.weight(tile_block, lane, i % BLOCK_LEN) - self.format.zero();
            let min = self.mins.get(tile_block * TILE + lane).map_or(0.0, |min| min.to_f32());
            weight as f32 * self.scales[tile_block * TILE + lane].to_f32() + min
        })
    }

    /// Bytes it takes.
    pub fn num_bytes(&self) -> usize {
        2 * (self.scales.len() + self.mins.len()) + 64 * self.quants.len()
    }

    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Elements of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The unsigned weight `i` of a block, of the row in `lane`.
    fn weight(&self, tile_block: usize, lane: usize, i: usize) -> i32 {
        let (vector, byte, shift) = self.format.place(i);
        let byte = self.quants[tile_block * self.format.vectors() + vector].0[lane * 4 + byte] >> shift;
        i32::from(if self.format.is_packed() { byte & 0x0f } else { byte })
    }
}

impl BlockFormat {
    /// Where weight `i` of a block lies: which vector, which of its row's four bytes, how far up in that byte.
    fn place(self, i: usize) -> (usize, usize, u32) {
        let (group, byte) = (i / 4, i % 4);
        if self.is_packed() { (group / 2, byte, 4 * (group % 2) as u32) } else { (group, byte, 0) }
    }
}

/// The product `[rows, outputs]` of `xs` (`[rows, inputs]`, f32) and the transpose of `weight`.
///
/// Activations are rounded to 8 bits in blocks of 32, with one f32 scale each. Every element sums its blocks in order,
/// whatever the number of rows.
///
/// # Errors
/// When shape or type is not this.
pub fn block_matmul(xs: &Tensor, weight: &BlockMatrix) -> Result<Tensor> {
    xs.apply_op1_no_bwd(&BlockMatmul(weight))
}

struct BlockMatmul<'a>(&'a BlockMatrix);

impl CustomOp1 for BlockMatmul<'_> {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(&self, xs: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let weight = self.0;
        let xs_m = Matrix::of(layout, OP)?;
        let xs = elements::<f32>(xs, &xs_m, OP)?;
        if xs_m.width != weight.width {
            bail!("{OP}: rows of {} times weights of {}", xs_m.width, weight.width)
        }
        let xs = Activations::new(xs, &xs_m);
        let mut ys = vec![0f32; xs_m.rows * weight.rows];
        let shared = Shared::new(&mut ys);
        // A tile's multiply-adds take about an eighth of the time of as many in f32.
        let ops_per_tile = TILE * weight.width * xs_m.rows / 8;
        for_each_range(weight.rows.div_ceil(TILE), ops_per_tile, |tiles| {
            for tile in tiles {
                let cols = TILE.min(weight.rows - tile * TILE);
                for first in (0..xs_m.rows).step_by(ROWS_AT_ONCE) {
                    let rows = ROWS_AT_ONCE.min(xs_m.rows - first);
                    let mut dots = [[0f32; TILE]; ROWS_AT_ONCE];
                    tile_dots(weight, &xs, tile, first, &mut dots[..rows]);
                    for (r, dots) in dots[..rows].iter().enumerate() {
                        // SAFETY: the tile's columns of each row belong to the one thread that got the tile.
                        let ys = unsafe { shared.part((first + r) * weight.rows + tile * TILE, cols) };
                        ys.copy_from_slice(&dots[..cols]);
                    }
                }
            }
        });
        Ok((CpuStorage::F32(ys), Shape::from((xs_m.rows, weight.rows))))
    }
}

/// Rows of activations, rounded to 8 bits.
pub(super) struct Activations {
    /// Blocks of a row.
    blocks: usize,
    /// `[rows][blocks][32]`.
    quants: Vec<i8>,
    /// `[rows][blocks]`.
    scales: Vec<f32>,
    /// Sums of the rounded activations of each block, `[rows][blocks]`.
    sums: Vec<i32>,
}

impl Activations {
    pub(super) fn new(xs: &[f32], matrix: &Matrix) -> Self {
        let (rows, blocks) = (matrix.rows, matrix.width / BLOCK_LEN);
        let mut quants = vec![0i8; rows * matrix.width];
        let mut scales = vec![0f32; rows * blocks];
        let mut sums = vec![0i32; rows * blocks];
        let shared = (Shared::new(&mut quants), Shared::new(&mut scales), Shared::new(&mut sums));
        for_each_range(rows, matrix.width, |range| {
            for row in range {
                // SAFETY: each row is written by the one thread that got its index.
                let (quants, scales, sums) = unsafe {
                    let quants = shared.0.part(row * matrix.width, matrix.width);
                    (quants, shared.1.part(row * blocks, blocks), shared.2.part(row * blocks, blocks))
                };
                round_row(matrix.row(xs, row), quants, scales, sums);
            }
        });
        Self { blocks, quants, scales, sums }
    }

    /// The rows `rows`, in this order.
    pub(super) fn gather(&self, rows: impl Iterator<Item = usize> + Clone) -> Self {
        fn pick<T: Copy>(from: &[T], len: usize, rows: impl Iterator<Item = usize>) -> Vec<T> {
            rows.flat_map(|row| from[row * len..(row + 1) * len].iter().copied()).collect()
        }
        Self {
            blocks: self.blocks,
            quants: pick(&self.quants, self.blocks * BLOCK_LEN, rows.clone()),
            scales: pick(&self.scales, self.blocks, rows.clone()),
            sums: pick(&self.sums, self.blocks, rows),
        }
    }

    fn block(&self, row: usize, block: usize) -> &[i8] {
        let start = (row * self.blocks + block) * BLOCK_LEN;
        &self.quants[start..start + BLOCK_LEN]
    }
}

/// Rounds a row to 8 bits in blocks of 32.
pub(super) fn round_row(xs: &[f32], quants: &mut [i8], scales: &mut [f32], sums: &mut [i32]) {
    #[cfg(target_arch = "x86_64")]
    if BlockMatrix::is_fast_here() {
        // SAFETY: the instructions were just found; the slices are one row's, cut by `Activations::new`.
        return unsafe { x86::round_row(xs, quants, scales, sums) };
    }
    let blocks = xs.as_chunks::<BLOCK_LEN>().0.iter().zip(quants.as_chunks_mut::<BLOCK_LEN>().0);
    for (((xs, quants), scale), sum) in blocks.zip(scales).zip(sums) {
        let largest = xs.iter().fold(0f32, |largest, x| largest.max(x.abs()));
        let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
        *quants = xs.map(|x| (x * inverse).round_ties_even() as i8);
        *scale = largest / 127.0;
        *sum = quants.iter().map(|&quant| i32::from(quant)).sum();
    }
}

/// The products of a tile's sixteen rows with `dots.len()` rows of activations, at most [`ROWS_AT_ONCE`].
pub(super) fn tile_dots(weight: &BlockMatrix, xs: &Activations, tile: usize, first: usize, dots: &mut [[f32; TILE]]) {
    #[cfg(target_arch = "x86_64")]
    if BlockMatrix::is_fast_here() {
        // SAFETY: the instructions were just found.
        return unsafe { x86::tile_dots(weight, xs, tile, first, dots) };
    }
    portable_tile_dots(weight, xs, tile, first, dots);
}

/// The specification: what the vector version computes, in the same order.
fn portable_tile_dots(weight: &BlockMatrix, xs: &Activations, tile: usize, first: usize, dots: &mut [[f32; TILE]]) {
    for (r, dots) in dots.iter_mut().enumerate() {
        *dots = [0.0; TILE];
        for block in 0..xs.blocks {
            let at = (first + r) * xs.blocks + block;
            let (scale, sum, quants) = (xs.scales[at], xs.sums[at], xs.block(first + r, block));
            let tile_block = tile * xs.blocks + block;
            for (lane, dot) in dots.iter_mut().enumerate() {
                let products =
                    quants.iter().enumerate().map(|(i, &x)| weight.weight(tile_block, lane, i) * i32::from(x));
                let whole = products.sum::<i32>() - weight.format.zero() * sum;
                *dot = (whole as f32).mul_add(weight.scales[tile_block * TILE + lane].to_f32() * scale, *dot);
                if let Some(min) = weight.mins.get(tile_block * TILE + lane) {
                    *dot = min.to_f32().mul_add(scale * sum as f32, *dot);
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Activations, BLOCK_LEN, BlockMatrix, TILE};

    /// # Safety
    /// Needs AVX-512 F and BW; `quants` is as long as `xs`, a multiple of 32; the others have one element per 32.
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) unsafe fn round_row(xs: &[f32], quants: &mut [i8], scales: &mut [f32], sums: &mut [i32]) {
        for (block, (scale, sum)) in scales.iter_mut().zip(sums).enumerate() {
            // SAFETY: block `block` of `xs` and of `quants`.
            unsafe {
                let from = xs.as_ptr().add(block * BLOCK_LEN);
                let to = quants.as_mut_ptr().add(block * BLOCK_LEN);
                let (low, high) = (_mm512_loadu_ps(from), _mm512_loadu_ps(from.add(16)));
                let largest = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(low), _mm512_abs_ps(high)));
                let inverse = _mm512_set1_ps(if largest > 0.0 { 127.0 / largest } else { 0.0 });
                let low = _mm512_cvtps_epi32(_mm512_mul_ps(low, inverse));
                let high = _mm512_cvtps_epi32(_mm512_mul_ps(high, inverse));
                _mm_storeu_si128(to.cast(), _mm512_cvtepi32_epi8(low));
                _mm_storeu_si128(to.add(16).cast(), _mm512_cvtepi32_epi8(high));
                *scale = largest / 127.0;
                *sum = _mm512_reduce_add_epi32(_mm512_add_epi32(low, high));
            }
        }
    }

    /// # Safety
    /// Needs AVX-512 F, BW and VNNI.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    pub(super) unsafe fn tile_dots(
        weight: &BlockMatrix,
        xs: &Activations,
        tile: usize,
        first: usize,
        dots: &mut [[f32; TILE]],
    ) {
        // SAFETY: the instructions are this function's.
        unsafe {
            match dots.len() {
                8 => formats::<8>(weight, xs, tile, first, dots),
                len => {
                    let mut at = 0;
                    for (count, run) in [(4, formats::<4> as Run), (2, formats::<2>), (1, formats::<1>)] {
                        while len - at >= count {
                            run(weight, xs, tile, first + at, &mut dots[at..at + count]);
                            at += count;
                        }
                    }
                }
            }
        }
    }

    type Run = unsafe fn(&BlockMatrix, &Activations, usize, usize, &mut [[f32; TILE]]);

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    unsafe fn formats<const R: usize>(
        weight: &BlockMatrix,
        xs: &Activations,
        tile: usize,
        first: usize,
        dots: &mut [[f32; TILE]],
    ) {
        // SAFETY: the instructions are this function's.
        unsafe {
            match (weight.format.is_packed(), weight.format.has_min()) {
                (true, true) => rows::<R, true, true>(weight, xs, tile, first, dots),
                (true, false) => rows::<R, true, false>(weight, xs, tile, first, dots),
                (false, true) => rows::<R, false, true>(weight, xs, tile, first, dots),
                (false, false) => rows::<R, false, false>(weight, xs, tile, first, dots),
            }
        }
    }

    /// `R` rows of activations against one tile.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    unsafe fn rows<const R: usize, const PACKED: bool, const MIN: bool>(
        weight: &BlockMatrix,
        xs: &Activations,
        tile: usize,
        first: usize,
        dots: &mut [[f32; TILE]],
    ) {
        let blocks = xs.blocks;
        let vectors = weight.format.vectors();
        let scales = &weight.scales[tile * blocks * TILE..][..blocks * TILE];
        let mins = if MIN { &weight.mins[tile * blocks * TILE..][..blocks * TILE] } else { &[] };
        let quants = &weight.quants[tile * blocks * vectors..][..blocks * vectors];
        let x_quants = &xs.quants[first * blocks * BLOCK_LEN..][..R * blocks * BLOCK_LEN];
        let x_scales = &xs.scales[first * blocks..][..R * blocks];
        let x_sums = &xs.sums[first * blocks..][..R * blocks];
        let zero = weight.format.zero();
        // SAFETY: the slices above reach to the last block of the last row.
        unsafe {
            let mut sums = [_mm512_setzero_ps(); R];
            for block in 0..blocks {
                let mut wholes = [_mm512_setzero_si512(); R];
                for r in 0..R {
                    wholes[r] = _mm512_set1_epi32(-zero * *x_sums.get_unchecked(r * blocks + block));
                }
                let x = |r: usize, group: usize| {
                    let at = (r * blocks + block) * BLOCK_LEN + 4 * group;
                    _mm512_set1_epi32(x_quants.as_ptr().add(at).cast::<i32>().read_unaligned())
                };
                for v in 0..vectors {
                    let w = _mm512_load_si512(quants.as_ptr().add(block * vectors + v).cast());
                    if PACKED {
                        let nibble = _mm512_set1_epi8(0x0f);
                        let low = _mm512_and_si512(w, nibble);
                        let high = _mm512_and_si512(_mm512_srli_epi16::<4>(w), nibble);
                        for r in 0..R {
                            wholes[r] = _mm512_dpbusd_epi32(wholes[r], low, x(r, 2 * v));
                            wholes[r] = _mm512_dpbusd_epi32(wholes[r], high, x(r, 2 * v + 1));
                        }
                    } else {
                        for r in 0..R {
                            wholes[r] = _mm512_dpbusd_epi32(wholes[r], w, x(r, v));
                        }
                    }
                }
                let halves =
                    |from: &[half::f16]| _mm512_cvtph_ps(_mm256_loadu_si256(from.as_ptr().add(block * TILE).cast()));
                let scale = halves(scales);
                for r in 0..R {
                    let x_scale = *x_scales.get_unchecked(r * blocks + block);
                    let scale = _mm512_mul_ps(scale, _mm512_set1_ps(x_scale));
                    sums[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(wholes[r]), scale, sums[r]);
                    if MIN {
                        let sum = x_scale * *x_sums.get_unchecked(r * blocks + block) as f32;
                        sums[r] = _mm512_fmadd_ps(halves(mins), _mm512_set1_ps(sum), sums[r]);
                    }
                }
            }
            for r in 0..R {
                _mm512_storeu_ps(dots[r].as_mut_ptr(), sums[r]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::quantized::{GgmlDType, QTensor};
    use candle_core::{Device, Module};

    use super::*;

    const FORMATS: [(BlockFormat, GgmlDType); 5] = [
        (BlockFormat::Q4_0, GgmlDType::Q4_0),
        (BlockFormat::Q4_1, GgmlDType::Q4_1),
        (BlockFormat::Q5_0, GgmlDType::Q5_0),
        (BlockFormat::Q5_1, GgmlDType::Q5_1),
        (BlockFormat::Q8_0, GgmlDType::Q8_0),
    ];

    fn ramp(rows: usize, width: usize, step: usize) -> Result<Tensor> {
        let values: Vec<f32> = (0..rows * width).map(|i| ((i * step) % 197) as f32 / 98.0 - 0.9).collect();
        Tensor::from_vec(values, (rows, width), &Device::Cpu)
    }

    fn matrix(dtype: GgmlDType, format: BlockFormat, rows: usize, width: usize) -> Result<(QTensor, BlockMatrix)> {
        let weight = QTensor::quantize(&ramp(rows, width, 53)?, dtype)?;
        let matrix = BlockMatrix::new(&weight.data()?, format, rows, width).expect("the size is right");
        Ok((weight, matrix))
    }

    #[test]
    fn rows_are_what_candle_decodes() -> Result<()> {
        for (format, dtype) in FORMATS {
            let (weight, matrix) = matrix(dtype, format, 21, 96)?;
            for (row_idx, row) in weight.dequantize(&Device::Cpu)?.to_vec2::<f32>()?.iter().enumerate() {
                let worst = row.iter().zip(matrix.row(row_idx)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(worst < 1e-6, "{format:?}, row {row_idx}: off by {worst}");
            }
        }
        Ok(())
    }

    #[test]
    fn products_are_those_of_the_decoded_weights_up_to_the_rounding_of_activations() -> Result<()> {
        for (format, dtype) in FORMATS {
            let (weight, matrix) = matrix(dtype, format, 37, 160)?;
            let xs = ramp(11, 160, 31)?;
            let expected = candle_core::quantized::QMatMul::Tensor(weight.dequantize(&Device::Cpu)?).forward(&xs)?;
            let worst = (block_matmul(&xs, &matrix)? - expected)?.abs()?.max_all()?.to_scalar::<f32>()?;
            // Half a step of 1/127 per activation, weights up to 1.2: 160 errors of up to 0.005 that mostly cancel.
            assert!(worst < 0.15, "{format:?}: off by {worst}");
        }
        Ok(())
    }

    #[test]
    fn a_row_has_the_bits_of_the_specification_in_any_company() -> Result<()> {
        for (format, dtype) in FORMATS {
            let (_, matrix) = matrix(dtype, format, 48, 96)?;
            let xs = ramp(23, 96, 31)?;
            let together = block_matmul(&xs, &matrix)?.to_vec2::<f32>()?;
            for (row_idx, row) in together.iter().enumerate() {
                let x = xs.narrow(0, row_idx, 1)?;
                assert_eq!(&block_matmul(&x, &matrix)?.to_vec2::<f32>()?[0], row, "{format:?}");
                let x = x.flatten_all()?.to_vec1::<f32>()?;
                let alone = Activations::new(&x, &Matrix { offset: 0, rows: 1, width: 96, stride: 96 });
                for tile in 0..3 {
                    let mut dots = [[0f32; TILE]];
                    portable_tile_dots(&matrix, &alone, tile, 0, &mut dots);
                    assert_eq!(dots[0], row[tile * TILE..(tile + 1) * TILE], "{format:?}, row {row_idx}");
                }
            }
        }
        Ok(())
    }
}
