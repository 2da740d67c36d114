//! Matrices of 4- to 8-bit weights as a GPU reads them: all quants, then all scales, then all minima.
//!
//! What is computed is what [`block_matmul`](super::block_matmul) computes: activations rounded to 8 bits in blocks of
//! 32, whole sums exact, blocks in order. Only the place of the weights differs: planes, each row after row, so that
//! neighbouring lanes load neighbouring 16 bytes. The CPU body is the specification, not a fast product.
//!
//! Superblocks scale runs of 16 weights. As *halves*, each half of a block has its own scale, and counts by itself.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Tensor, bail};
use half::f16;

use super::block_matrix::{BLOCK_LEN, round_row};
use super::operand::{Matrix, elements, vector};
use super::pair_groups::{PairGroups, outputs_of_group, pairs_per_row};
use super::parallel::fill_ranges;
use super::{BlockFormat, Sums, Uploader};

const OP: &str = "planar_matmul";

/// Weights under one scale of halves.
const HALF_LEN: usize = 16;

/// Where planes begin: at multiples of this many bytes.
const PLANE_ALIGN: usize = 16;

/// A `[rows, width]` matrix of weights in planes, on a device. 5-bit formats take 8 bits.
pub struct PlanarBlocks {
    bytes: Tensor,
    planes: Planes,
    sums: Sums,
}

/// How the bytes are divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Planes {
    pub(super) rows: usize,
    /// Blocks of a row.
    pub(super) blocks: usize,
    /// Two weights share a byte: of each block, weights `i` and `i + 16`.
    pub(super) is_packed: bool,
    pub(super) has_min: bool,
    /// Each half of a block has its own scale; such weights are whole signed bytes, without minima.
    pub(super) has_halves: bool,
    /// What is taken from each weight.
    pub(super) zero: i32,
    /// Where the scales begin, f16: one of a block, or two.
    pub(super) scales: usize,
    /// Where the minima begin, f16; for formats without, where they would.
    pub(super) mins: usize,
}

impl Planes {
    fn new(format: BlockFormat, rows: usize, blocks: usize) -> Self {
        let is_packed = format.is_packed();
        let quant_bytes = rows * blocks * if is_packed { BLOCK_LEN / 2 } else { BLOCK_LEN };
        let scales = quant_bytes.next_multiple_of(PLANE_ALIGN);
        let mins = (scales + 2 * rows * blocks).next_multiple_of(PLANE_ALIGN);
        // Whole bytes are signed: those of Q8_0 as in the file, where they have no zero point.
        let zero = if format == BlockFormat::Q8_0 { 0 } else { format.zero() };
        Self { rows, blocks, is_packed, has_min: format.has_min(), has_halves: false, zero, scales, mins }
    }

    fn of_halves(rows: usize, blocks: usize) -> Self {
        let scales = rows * blocks * BLOCK_LEN;
        let mins = scales + rows * blocks * (BLOCK_LEN / HALF_LEN) * size_of::<f16>();
        Self { rows, blocks, is_packed: false, has_min: false, has_halves: true, zero: 0, scales, mins }
    }

    pub(super) fn num_bytes(&self) -> usize {
        let (start, per_block) = if self.has_min { (self.mins, 1) } else { (self.scales, self.scales_per_block()) };
        start + self.rows * self.blocks * per_block * size_of::<f16>()
    }

    fn scales_per_block(&self) -> usize {
        if self.has_halves { BLOCK_LEN / HALF_LEN } else { 1 }
    }

    /// The blocks of a file, row after row, in planes. All model threads decode; some 10 ns for each block of one.
    fn lay_out(&self, file: &[u8], format: BlockFormat) -> Vec<u8> {
        let (block_bytes, quant_bytes) = (format.block_bytes(), if self.is_packed { BLOCK_LEN / 2 } else { BLOCK_LEN });
        let num_blocks = file.len() / block_bytes;
        // `decode` gives Q8_0 an offset of 128, which is its top bit.
        let flip = if format == BlockFormat::Q8_0 { 0x80 } else { 0 };
        let mut laid = vec![0u8; self.num_bytes()];
        let (quants, rest) = laid.split_at_mut(self.scales);
        let (scales, mins) = rest.split_at_mut(if self.has_min { self.mins - self.scales } else { 2 * num_blocks });
        let planes = [
            (&mut quants[..num_blocks * quant_bytes], quant_bytes),
            (&mut scales[..2 * num_blocks], 2),
            (mins, if self.has_min { 2 } else { 0 }),
        ];
        fill_ranges(num_blocks, BLOCK_LEN, planes, |range, [quants, scales, mins]| {
            let blocks = file[range.start * block_bytes..range.end * block_bytes].chunks_exact(block_bytes);
            for ((i, block), quants) in blocks.enumerate().zip(quants.chunks_exact_mut(quant_bytes)) {
                let (scale, min, weights) = format.decode(block);
                scales[2 * i..][..2].copy_from_slice(&scale.to_le_bytes());
                if self.has_min {
                    mins[2 * i..][..2].copy_from_slice(&min.to_le_bytes());
                }
                match self.is_packed {
                    true => (0..16).for_each(|j| quants[j] = weights[j] | weights[j + 16] << 4),
                    false => (0..BLOCK_LEN).for_each(|j| quants[j] = weights[j] ^ flip),
                }
            }
        });
        laid
    }

    fn weight(&self, bytes: &[u8], block: usize, i: usize) -> i32 {
        let quant = match self.is_packed {
            true => i32::from(bytes[block * 16 + i % 16] >> if i < 16 { 0 } else { 4 } & 0x0f),
            false => i32::from(bytes[block * BLOCK_LEN + i] as i8),
        };
        quant - self.zero
    }

    fn half(&self, bytes: &[u8], plane: usize, block: usize) -> f32 {
        f16::from_le_bytes([bytes[plane + 2 * block], bytes[plane + 2 * block + 1]]).to_f32()
    }

    /// Of weight `i` of a block.
    fn scale(&self, bytes: &[u8], block: usize, i: usize) -> f32 {
        let per_block = self.scales_per_block();
        self.half(bytes, self.scales, per_block * block + i * per_block / BLOCK_LEN)
    }

    fn min(&self, bytes: &[u8], block: usize) -> Option<f32> {
        self.has_min.then(|| self.half(bytes, self.mins, block))
    }

    /// The product of one row of weights and one of activations.
    fn dot(&self, bytes: &[u8], row: usize, x: &RoundedRow) -> f32 {
        let mut dot = 0f32;
        let run_len = BLOCK_LEN / self.scales_per_block();
        for (block, quants) in x.quants.as_chunks::<BLOCK_LEN>().0.iter().enumerate() {
            let at = row * self.blocks + block;
            for (run, quants) in quants.chunks_exact(run_len).enumerate() {
                let first = run * run_len;
                let products =
                    quants.iter().enumerate().map(|(i, &x)| self.weight(bytes, at, first + i) * i32::from(x));
                let whole = products.sum::<i32>();
                dot = (whole as f32).mul_add(self.scale(bytes, at, first) * x.scales[block], dot);
            }
            if let Some(min) = self.min(bytes, at) {
                dot = min.mul_add(x.scales[block] * x.sums[block] as f32, dot);
            }
        }
        dot
    }
}

/// A row of activations in blocks of 8 bits.
struct RoundedRow {
    quants: Vec<i8>,
    scales: Vec<f32>,
    sums: Vec<i32>,
}

impl RoundedRow {
    fn new(blocks: usize) -> Self {
        Self { quants: vec![0; blocks * BLOCK_LEN], scales: vec![0.0; blocks], sums: vec![0; blocks] }
    }

    fn round(&mut self, row: &[f32]) {
        round_row(row, &mut self.quants, &mut self.scales, &mut self.sums);
    }
}

impl PlanarBlocks {
    /// Brings the `bytes` of a file to a device; `None` when they are not the size that format and shape imply.
    ///
    /// # Errors
    /// When the device cannot hold them.
    pub fn new(
        bytes: &[u8],
        format: BlockFormat,
        rows: usize,
        width: usize,
        uploader: &Uploader,
    ) -> Result<Option<Self>> {
        let blocks = width / BLOCK_LEN;
        if !width.is_multiple_of(BLOCK_LEN) || bytes.len() != rows * blocks * format.block_bytes() {
            return Ok(None);
        }
        let planes = Planes::new(format, rows, blocks);
        let laid = planes.lay_out(bytes, format);
        let bytes = uploader.tensor(&[&laid], DType::U8, &[laid.len()])?;
        Ok(Some(Self { bytes, planes, sums: Sums::Fastest }))
    }

    /// Brings signed 8-bit `weights`, row after row, to a device, with the f16 `scales` (little-endian) of each 16 of
    /// them; `None` when they are not the sizes that the shape implies, or rows are no multiples of 32. Nothing is
    /// copied on the way.
    ///
    /// # Errors
    /// When the device cannot hold them.
    pub fn of_halves(
        weights: &[u8],
        scales: &[u8],
        rows: usize,
        width: usize,
        uploader: &Uploader,
    ) -> Result<Option<Self>> {
        let planes = Planes::of_halves(rows, width / BLOCK_LEN);
        let is_whole = width.is_multiple_of(BLOCK_LEN) && weights.len() == planes.scales;
        if !is_whole || scales.len() != planes.num_bytes() - planes.scales {
            return Ok(None);
        }
        let bytes = uploader.tensor(&[weights, scales], DType::U8, &[planes.num_bytes()])?;
        Ok(Some(Self { bytes, planes, sums: Sums::Fastest }))
    }

    /// The same, with a say in how a GPU adds up its products. Of batch-invariant sums, all rows are multiplied by the
    /// weights as they lie, those of groups too; otherwise weights are decoded to bf16 for many rows.
    #[must_use]
    pub fn with_sums(self, sums: Sums) -> Self {
        Self { sums, ..self }
    }

    /// Elements of a row.
    pub fn width(&self) -> usize {
        self.planes.blocks * BLOCK_LEN
    }

    /// Bytes it takes.
    pub fn num_bytes(&self) -> usize {
        self.planes.num_bytes()
    }
}

/// The product `[rows, outputs]` of `xs` (`[rows, inputs]`, f32) and the transpose of `weight`.
///
/// # Errors
/// When shape or type is not this, or the two are on different devices.
pub fn planar_matmul(xs: &Tensor, weight: &PlanarBlocks) -> Result<Tensor> {
    xs.apply_op2_no_bwd(&weight.bytes, &PlanarMatmul(weight.planes, weight.sums))
}

/// The rows `ids` (`[n]`, u32, each below the number of rows) of `weight`, as f32.
///
/// # Errors
/// When the ids are not such a vector on the weights' device.
pub fn planar_rows(ids: &Tensor, weight: &PlanarBlocks) -> Result<Tensor> {
    weight.bytes.apply_op2_no_bwd(ids, &PlanarRows(weight.planes))
}

/// For each pair, the product of its row of `xs` (`[rows, inputs]`, f32) and the transpose of its group's matrix:
/// `[pairs, outputs]`. `weight` is the matrices of all groups on top of each other, pair `p` is of row
/// `p / (pairs / rows)`. On a GPU more than 64 tokens are rounded to bf16 instead of 8 bits, and the weights with them;
/// not for batch-invariant sums.
///
/// # Errors
/// When shapes or types are not these, on the CPU an id is no group, on a GPU the weights are halves, or the operands
/// are on different devices.
pub fn grouped_planar_matmul(xs: &Tensor, weight: &PlanarBlocks, groups: &PairGroups) -> Result<Tensor> {
    let PlanarBlocks { bytes, planes, sums } = weight;
    xs.apply_op3_no_bwd(bytes, groups.ids(), &GroupedPlanarMatmul { planes: *planes, sums: *sums, groups })
}

struct PlanarMatmul(Planes, #[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "a CPU has one body"))] Sums);

impl CustomOp2 for PlanarMatmul {
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
        let planes = self.0;
        let xs_m = Matrix::of(xs_l, OP)?;
        let (xs, bytes) = (elements::<f32>(xs, &xs_m, OP)?, weight.as_slice::<u8>()?);
        if xs_m.width != planes.blocks * BLOCK_LEN {
            bail!("{OP}: rows of {} times weights of {}", xs_m.width, planes.blocks * BLOCK_LEN)
        }
        let mut ys = Vec::with_capacity(xs_m.rows * planes.rows);
        let mut x = RoundedRow::new(planes.blocks);
        for row_idx in 0..xs_m.rows {
            x.round(xs_m.row(xs, row_idx));
            ys.extend((0..planes.rows).map(|output| planes.dot(bytes, output, &x)));
        }
        Ok((CpuStorage::F32(ys), Shape::from((xs_m.rows, planes.rows))))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        xs: &candle_core::CudaStorage,
        xs_l: &Layout,
        weight: &candle_core::CudaStorage,
        w_l: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        super::cuda::planar_matmul(&self.0, self.1, xs, xs_l, weight, w_l)
    }
}

struct GroupedPlanarMatmul<'a> {
    planes: Planes,
    #[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "a CPU has one body"))]
    sums: Sums,
    groups: &'a PairGroups,
}

impl CustomOp3 for GroupedPlanarMatmul<'_> {
    fn name(&self) -> &'static str {
        "grouped_planar_matmul"
    }

    fn cpu_fwd(
        &self,
        xs: &CpuStorage,
        xs_l: &Layout,
        weight: &CpuStorage,
        _w_l: &Layout,
        ids: &CpuStorage,
        ids_l: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (op, planes) = (self.name(), self.planes);
        let xs_m = Matrix::of(xs_l, op)?;
        let (xs, bytes) = (elements::<f32>(xs, &xs_m, op)?, weight.as_slice::<u8>()?);
        let (num_pairs, num_groups) = (ids_l.shape().elem_count(), self.groups.num_groups());
        let ids = vector::<u32>(ids, ids_l, num_pairs, op)?;
        let outputs = outputs_of_group([xs_m.width, planes.blocks * BLOCK_LEN], planes.rows, num_groups, op)?;
        let per_row = pairs_per_row(num_pairs, xs_m.rows, op)?;
        if let Some(id) = ids.iter().find(|&&id| id as usize >= num_groups) {
            bail!("{op}: group {id} of {num_groups}")
        }
        let mut ys = Vec::with_capacity(num_pairs * outputs);
        let mut x = RoundedRow::new(planes.blocks);
        for (pair, &id) in ids.iter().enumerate() {
            if pair % per_row == 0 {
                x.round(xs_m.row(xs, pair / per_row));
            }
            let first = id as usize * outputs;
            ys.extend((first..first + outputs).map(|row| planes.dot(bytes, row, &x)));
        }
        Ok((CpuStorage::F32(ys), Shape::from((num_pairs, outputs))))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        xs: &candle_core::CudaStorage,
        xs_l: &Layout,
        weight: &candle_core::CudaStorage,
        w_l: &Layout,
        _ids: &candle_core::CudaStorage,
        _ids_l: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        super::cuda::grouped_planar_matmul(&self.planes, self.sums, self.groups, (xs, xs_l), (weight, w_l))
    }
}

struct PlanarRows(Planes);

impl CustomOp2 for PlanarRows {
    fn name(&self) -> &'static str {
        "planar_rows"
    }

    fn cpu_fwd(
        &self,
        weight: &CpuStorage,
        _w_l: &Layout,
        ids: &CpuStorage,
        ids_l: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let planes = self.0;
        let num_ids = ids_l.shape().elem_count();
        let (bytes, ids) = (weight.as_slice::<u8>()?, vector::<u32>(ids, ids_l, num_ids, self.name())?);
        if let Some(id) = ids.iter().find(|&&id| id as usize >= planes.rows) {
            bail!("{}: row {id} of {}", self.name(), planes.rows)
        }
        let row = |&id: &u32| {
            (0..planes.blocks * BLOCK_LEN).map(move |i| {
                let block = id as usize * planes.blocks + i / BLOCK_LEN;
                let i = i % BLOCK_LEN;
                let weight = planes.weight(bytes, block, i) as f32 * planes.scale(bytes, block, i);
                weight + planes.min(bytes, block).unwrap_or(0.0)
            })
        };
        let ys = ids.iter().flat_map(row).collect();
        Ok((CpuStorage::F32(ys), Shape::from((num_ids, planes.blocks * BLOCK_LEN))))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        weight: &candle_core::CudaStorage,
        w_l: &Layout,
        ids: &candle_core::CudaStorage,
        ids_l: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        super::cuda::planar_rows(&self.0, weight, w_l, ids, ids_l)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::kernels::testing::{assert_close, devices, noise, uploader};
    use crate::kernels::{BlockMatrix, block_matmul, grouped_block_matmul};

    const FORMATS: [BlockFormat; 5] =
        [BlockFormat::Q4_0, BlockFormat::Q4_1, BlockFormat::Q5_0, BlockFormat::Q5_1, BlockFormat::Q8_0];

    /// Bytes of a file whose scales and minima are small numbers.
    fn file(format: BlockFormat, rows: usize, width: usize, seed: u32) -> Vec<u8> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 8
        };
        let mut bytes = Vec::new();
        for _ in 0..rows * width / BLOCK_LEN {
            let start = bytes.len();
            bytes.extend((0..format.block_bytes()).map(|_| next() as u8));
            let mut put = |at: usize, value: f32| {
                bytes[start + at..][..2].copy_from_slice(&f16::from_f32(value).to_le_bytes());
            };
            put(0, next() as f32 / 1e9);
            if format.has_min() {
                put(2, next() as f32 / -1e8);
            }
        }
        bytes
    }

    #[test]
    fn products_are_those_of_the_other_layout() -> Result<()> {
        for device in devices() {
            for format in FORMATS {
                for (rows, width, outputs) in [(1, 32, 1), (2, 96, 37), (3, 4096, 48), (9, 160, 5), (70, 256, 33)] {
                    let bytes = file(format, outputs, width, 7);
                    let oracle = BlockMatrix::new(&bytes, format, outputs, width).expect("the size is right");
                    let weight =
                        PlanarBlocks::new(&bytes, format, outputs, width, &uploader(&device)?)?.expect("it is");
                    let xs = Tensor::from_vec(noise(rows * width, 3), (rows, width), &Device::Cpu)?;
                    let expected = block_matmul(&xs, &oracle)?;
                    let ys = planar_matmul(&xs.to_device(&device)?, &weight)?.to_device(&Device::Cpu)?;
                    let largest = expected.abs()?.max_all()?.to_scalar::<f32>()?;
                    let worst = (ys - expected)?.abs()?.max_all()?.to_scalar::<f32>()?;
                    // Many rows go through cuBLAS on a GPU, with weights and activations rounded to bf16.
                    let tolerance = if device.is_cpu() || rows <= 64 { 1e-5 } else { 1e-2 };
                    assert!(
                        worst <= tolerance * largest,
                        "{format:?}, {rows} rows of {width}: off by {worst} of {largest}"
                    );
                }
            }
        }
        Ok(())
    }

    #[test]
    fn grouped_products_are_those_of_the_other_layout() -> Result<()> {
        let shapes = [(1, 6, 9, 96, 5), (3, 4, 5, 160, 7), (21, 3, 4, 96, 37), (90, 2, 3, 128, 18)];
        for device in devices() {
            for format in FORMATS {
                for (rows, per_row, num_groups, width, outputs) in shapes {
                    let bytes = file(format, num_groups * outputs, width, 5);
                    let group_bytes = bytes.len() / num_groups;
                    let matrix = |bytes| BlockMatrix::new(bytes, format, outputs, width).expect("the size is right");
                    let oracle: Vec<BlockMatrix> = bytes.chunks_exact(group_bytes).map(matrix).collect();
                    let weight = PlanarBlocks::new(&bytes, format, num_groups * outputs, width, &uploader(&device)?)?;
                    let weight = weight.expect("the size is right");
                    let ids: Vec<u32> = (0..rows * per_row).map(|i| (i * i % 11 % num_groups) as u32).collect();
                    let ids = Tensor::from_vec(ids, (rows, per_row), &Device::Cpu)?;
                    let xs = Tensor::from_vec(noise(rows * width, 3), (rows, width), &Device::Cpu)?;
                    let groups = |device: &Device| PairGroups::new(ids.to_device(device)?, num_groups);
                    let expected = grouped_block_matmul(&xs, &oracle, &groups(&Device::Cpu)?)?;
                    let ys = grouped_planar_matmul(&xs.to_device(&device)?, &weight, &groups(&device)?)?;
                    // More tokens are multiplied as bf16 on a GPU.
                    let tolerance = if device.is_cpu() || rows <= 64 { 1e-5 } else { 1e-2 };
                    let what = format!("{format:?}, {rows} x {per_row} of {num_groups} x {width} x {outputs}");
                    assert_close(&ys, &expected, tolerance, &what)?;
                }
            }
        }
        Ok(())
    }

    #[test]
    fn rows_are_those_of_the_other_layout() -> Result<()> {
        for device in devices() {
            for format in FORMATS {
                let bytes = file(format, 9, 96, 11);
                let oracle = BlockMatrix::new(&bytes, format, 9, 96).expect("the size is right");
                let weight = PlanarBlocks::new(&bytes, format, 9, 96, &uploader(&device)?)?.expect("it is");
                let ids = [8u32, 0, 3];
                let rows = planar_rows(&Tensor::new(&ids, &device)?, &weight)?.to_vec2::<f32>()?;
                for (row, id) in rows.iter().zip(ids) {
                    for (y, expected) in row.iter().zip(oracle.row(id as usize)) {
                        assert!(
                            (y - expected).abs() <= 1e-6 * expected.abs().max(1.0),
                            "{format:?}: {y} for {expected}"
                        );
                    }
                }
            }
        }
        Ok(())
    }

    /// Signed weights, and as many small f16 scales as halves take.
    fn halves(rows: usize, width: usize) -> (Vec<u8>, Vec<u8>) {
        let weights = noise(rows * width, 7).iter().map(|x| (x * 127.0) as i8 as u8).collect();
        let scales = noise(rows * width / HALF_LEN, 9);
        (weights, scales.iter().flat_map(|x| f16::from_f32(x / 100.0).to_le_bytes()).collect())
    }

    /// A product of halves is one of the lower ones and one of the upper ones, which Q8_0 can hold apart.
    #[test]
    fn products_and_rows_of_halves_are_those_of_two_matrices() -> Result<()> {
        for device in devices() {
            for (rows, width, outputs) in [(1, 32, 1), (2, 96, 37), (3, 4096, 48), (9, 160, 5), (70, 256, 33)] {
                let (weights, scales) = halves(outputs, width);
                let weight = PlanarBlocks::of_halves(&weights, &scales, outputs, width, &uploader(&device)?)?;
                let weight = weight.expect("the sizes are right");
                assert_eq!(weight.num_bytes(), weights.len() + scales.len());
                let apart = [0, 1].map(|half| {
                    let blocks = weights.as_chunks::<BLOCK_LEN>().0.iter().zip(scales.chunks_exact(4));
                    let file: Vec<u8> = blocks
                        .flat_map(|(weights, scales)| {
                            let own = |(i, &weight): (usize, &u8)| if i / HALF_LEN == half { weight } else { 0 };
                            let weights = weights.iter().enumerate().map(own);
                            [scales[2 * half], scales[2 * half + 1]].into_iter().chain(weights).collect::<Vec<_>>()
                        })
                        .collect();
                    BlockMatrix::new(&file, BlockFormat::Q8_0, outputs, width).expect("the size is right")
                });
                let xs = Tensor::from_vec(noise(rows * width, 3), (rows, width), &Device::Cpu)?;
                let expected = (block_matmul(&xs, &apart[0])? + block_matmul(&xs, &apart[1])?)?;
                let ys = planar_matmul(&xs.to_device(&device)?, &weight)?;
                // Many rows go through cuBLAS on a GPU, with weights and activations rounded to bf16.
                let tolerance = if device.is_cpu() || rows <= 64 { 1e-5 } else { 1e-2 };
                assert_close(&ys, &expected, tolerance, &format!("{rows} rows of {width} to {outputs}"))?;
                let last = outputs - 1;
                let found = planar_rows(&Tensor::new(&[last as u32], &device)?, &weight)?.to_vec2::<f32>()?;
                let sums = apart[0].row(last).zip(apart[1].row(last)).map(|(low, high)| low + high);
                assert_eq!(found[0], sums.collect::<Vec<_>>());
            }
        }
        Ok(())
    }

    #[test]
    fn batch_invariant_rows_are_the_same_alone_and_in_company() -> Result<()> {
        for device in devices() {
            let uploader = uploader(&device)?;
            let (halves, scales) = halves(33, 256);
            let halves = (None, PlanarBlocks::of_halves(&halves, &scales, 33, 256, &uploader)?);
            let mut weights = vec![halves];
            for format in FORMATS {
                weights.push((Some(format), PlanarBlocks::new(&file(format, 33, 256, 5), format, 33, 256, &uploader)?));
            }
            for (format, weight) in weights {
                let weight = weight.expect("the size is right").with_sums(Sums::BatchInvariant);
                let xs = Tensor::from_vec(noise(130 * 256, 3), (130, 256), &device)?;
                let together = planar_matmul(&xs, &weight)?.to_vec2::<f32>()?;
                for (first, count) in [(0, 1), (129, 1), (5, 3), (64, 8), (60, 64), (1, 65)] {
                    let found = planar_matmul(&xs.narrow(0, first, count)?, &weight)?.to_vec2::<f32>()?;
                    assert_eq!(found, together[first..first + count], "{format:?}, {first} + {count}");
                }
            }
        }
        Ok(())
    }

    #[test]
    fn batch_invariant_pairs_are_the_same_alone_and_in_company() -> Result<()> {
        let (per_row, num_groups, outputs, width) = (3, 4, 18, 160);
        for device in devices() {
            for format in FORMATS {
                let bytes = file(format, num_groups * outputs, width, 5);
                let weight = PlanarBlocks::new(&bytes, format, num_groups * outputs, width, &uploader(&device)?)?;
                let weight = weight.expect("the size is right").with_sums(Sums::BatchInvariant);
                let xs = Tensor::from_vec(noise(130 * width, 3), (130, width), &device)?;
                let ids: Vec<u32> = (0..130 * per_row).map(|i| (i * i % 11 % num_groups) as u32).collect();
                let rows = |first: usize, count: usize| -> Result<Vec<Vec<f32>>> {
                    let ids = Tensor::new(&ids[first * per_row..(first + count) * per_row], &device)?;
                    let groups = PairGroups::new(ids.reshape((count, per_row))?, num_groups)?;
                    grouped_planar_matmul(&xs.narrow(0, first, count)?, &weight, &groups)?.to_vec2()
                };
                let together = rows(0, 130)?;
                for (first, count) in [(0, 1), (129, 1), (5, 3), (64, 4), (60, 64), (1, 65)] {
                    let expected = &together[first * per_row..(first + count) * per_row];
                    assert_eq!(rows(first, count)?, expected, "{format:?}, {first} + {count}");
                }
            }
        }
        Ok(())
    }

    #[test]
    fn bytes_of_another_size_are_refused() -> Result<()> {
        let cpu = uploader(&Device::Cpu)?;
        assert!(PlanarBlocks::new(&[0; 34], BlockFormat::Q8_0, 1, 32, &cpu)?.is_some());
        assert!(PlanarBlocks::new(&[0; 33], BlockFormat::Q8_0, 1, 32, &cpu)?.is_none());
        assert!(PlanarBlocks::new(&[0; 34], BlockFormat::Q8_0, 1, 31, &cpu)?.is_none());
        assert!(PlanarBlocks::of_halves(&[0; 32], &[0; 4], 1, 32, &cpu)?.is_some());
        assert!(PlanarBlocks::of_halves(&[0; 32], &[0; 2], 1, 32, &cpu)?.is_none());
        assert!(PlanarBlocks::of_halves(&[0; 33], &[0; 4], 1, 33, &cpu)?.is_none());
        Ok(())
    }
}
