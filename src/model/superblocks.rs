//! Superblocks taken apart: Q4_K and Q5_K as Q4_1 and Q5_1, Q3_K and Q6_K as signed bytes with a scale for each 16.
//!
//! A superblock is eight blocks of 32 weights, or 16 of 16, whose scales and minima are multiples, of six or eight
//! bits, of one or two f16 numbers that all of them share. As f16 numbers of their own they are rounded by at most
//! 2^-11 of themselves, the quants stay as they are, and 32 weights take 20 or 24 bytes instead of 18 or 22, and 36
//! instead of about 14 or 26. Layouts are those of ggml's `block_q3_K`, `block_q4_K`, `block_q5_K`, `block_q6_K`, `block_q4_1` and
//! `block_q5_1`.

use half::f16;

use super::weight::{QuantLayout, QuantWeight};
use crate::kernels::fill_ranges;

/// Blocks of a superblock.
const BLOCKS: usize = 8;

/// Weights of a superblock.
const LEN: usize = 256;
/// Weights of a superblock of Q3_K or Q6_K that share a scale.
const HALF_LEN: usize = 16;

/// Signed weights, row after row, and the f16 scale of each 16 of them.
pub(crate) struct Halves {
    pub(crate) weights: Vec<u8>,
    pub(crate) scales: Vec<u8>,
}

/// The same weights with a scale for each 16; `None` where they are neither Q3_K nor Q6_K.
pub(crate) fn halves(weight: &QuantWeight<'_>) -> Option<Halves> {
    let push_superblock = match weight.layout() {
        QuantLayout::Q3K => push_q3k,
        QuantLayout::Q6K => push_q6k,
        _ => return None,
    };
    let stored = weight.bytes();
    let superblock_bytes = weight.layout().block_bytes();
    let num_superblocks = stored.len() / superblock_bytes;
    let scale_bytes = LEN / HALF_LEN * size_of::<f16>();
    let mut halves = Halves { weights: vec![0; num_superblocks * LEN], scales: vec![0; num_superblocks * scale_bytes] };
    let outs = [(&mut *halves.weights, LEN), (&mut *halves.scales, scale_bytes)];
    fill_ranges(num_superblocks, LEN, outs, |range, [weights, scales]| {
        let mut made = Halves { weights: Vec::with_capacity(weights.len()), scales: Vec::with_capacity(scales.len()) };
        let superblocks =
            stored[range.start * superblock_bytes..range.end * superblock_bytes].chunks_exact(superblock_bytes);
        superblocks.for_each(|superblock| push_superblock(superblock, &mut made));
        weights.copy_from_slice(&made.weights);
        scales.copy_from_slice(&made.scales);
    });
    Some(halves)
}

impl Halves {
    fn push(&mut self, weights: impl Iterator<Item = i8>, d: [u8; 2], scales: impl Iterator<Item = i8>) {
        let d = f16::from_le_bytes(d).to_f32();
        self.weights.extend(weights.map(|weight| weight as u8));
        self.scales.extend(scales.flat_map(|scale| f16::from_f32(d * f32::from(scale)).to_le_bytes()));
    }
}

/// 32 bytes with the third bit of each weight, 64 with the lower two, 12 with the scales, and what these are multiples
/// of. A clear third bit takes 4 from the weight.
fn push_q3k(superblock: &[u8], halves: &mut Halves) {
    let (third_bits, quants, packed) = (&superblock[..32], &superblock[32..96], &superblock[96..108]);
    let weight = |i: usize| {
        let (run, at) = (i / 32, i % 32);
        let low = quants[i / 128 * 32 + at] >> (run % 4 * 2) & 3;
        low as i8 - if third_bits[at] >> run & 1 == 1 { 0 } else { 4 }
    };
    let scale = |i: usize| {
        let low = packed[i % 8] >> (i / 8 * 4) & 0x0f;
        let high = packed[8 + i % 4] >> (i / 4 * 2) & 3;
        (low | high << 4) as i8 - 32
    };
    halves.push((0..LEN).map(weight), [superblock[108], superblock[109]], (0..LEN / HALF_LEN).map(scale));
}

/// 128 bytes with the lower four bits of each weight, 64 with the upper two, 16 scales, and what these are multiples
/// of.
fn push_q6k(superblock: &[u8], halves: &mut Halves) {
    let (lower, upper, scales) = (&superblock[..128], &superblock[128..192], &superblock[192..208]);
    let weight = |i: usize| {
        let (half, run, at) = (i / 128, i / 32 % 4, i % 32);
        let low = lower[half * 64 + run % 2 * 32 + at] >> (run / 2 * 4) & 0x0f;
        let high = upper[half * 32 + at] >> (run * 2) & 3;
        (low | high << 4) as i8 - 32
    };
    let scales = scales.iter().map(|&scale| scale as i8);
    halves.push((0..LEN).map(weight), [superblock[208], superblock[209]], scales);
}

/// The same weights as plain blocks of 32; `None` where they are neither Q4_K nor Q5_K.
pub(crate) fn take_apart(weight: &QuantWeight<'_>) -> Option<QuantWeight<'static>> {
    let (layout, has_fifth_bits) = match weight.layout() {
        QuantLayout::Q4K => (QuantLayout::Q4_1, false),
        QuantLayout::Q5K => (QuantLayout::Q5_1, true),
        _ => return None,
    };
    let stored = weight.bytes();
    let superblock_bytes = weight.layout().block_bytes();
    let num_superblocks = stored.len() / superblock_bytes;
    let apart_bytes = BLOCKS * layout.block_bytes();
    let mut bytes = vec![0; num_superblocks * apart_bytes];
    fill_ranges(num_superblocks, LEN, [(&mut bytes, apart_bytes)], |range, [out]| {
        let mut made = Vec::with_capacity(out.len());
        for superblock in
            stored[range.start * superblock_bytes..range.end * superblock_bytes].chunks_exact(superblock_bytes)
        {
            (0..BLOCKS).for_each(|block| push_block(superblock, block, has_fifth_bits, &mut made));
        }
        out.copy_from_slice(&made);
    });
    QuantWeight::new(bytes, layout, weight.shape())
}

fn push_block(superblock: &[u8], block: usize, has_fifth_bits: bool, bytes: &mut Vec<u8>) {
    let half = |at: usize| f16::from_le_bytes([superblock[at], superblock[at + 1]]).to_f32();
    let (scale, min) = scale_and_min(&superblock[4..16], block);
    bytes.extend(f16::from_f32(half(0) * f32::from(scale)).to_le_bytes());
    bytes.extend(f16::from_f32(-half(2) * f32::from(min)).to_le_bytes());
    let (fifth_bits, quants) = superblock[16..].split_at(if has_fifth_bits { 32 } else { 0 });
    if has_fifth_bits {
        let bits = (0..32).fold(0u32, |bits, i| bits | u32::from(fifth_bits[i] >> block & 1) << i);
        bytes.extend(bits.to_le_bytes());
    }
    // Two neighbouring blocks share their bytes; in a plain block, weights `i` and `i + 16` do.
    let quant = |i: usize| quants[block / 2 * 32 + i] >> (block % 2 * 4) & 0x0f;
    bytes.extend((0..16).map(|i| quant(i) | quant(i + 16) << 4));
}

/// The six bits each of a block's scale and minimum: of the first four blocks in one byte each, of the last four apart.
fn scale_and_min(packed: &[u8], block: usize) -> (u8, u8) {
    match block.checked_sub(4) {
        None => (packed[block] & 63, packed[block + 4] & 63),
        Some(i) => (packed[i + 8] & 0x0f | packed[i] >> 6 << 4, packed[i + 8] >> 4 | packed[i + 4] >> 6 << 4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ModelError;

    #[test]
    fn plain_blocks_hold_the_same_numbers() -> Result<(), ModelError> {
        let values: Vec<f32> =
            (0..3 * 512).map(|i| ((i * 7919 % 1009) as f32 / 504.0 - 0.7) * (1 + i / 100) as f32).collect();
        for layout in [QuantLayout::Q4K, QuantLayout::Q5K] {
            let weight = QuantWeight::quantize(&values, layout, &[3, 512])?;
            let apart = take_apart(&weight).expect("it is of superblocks");
            assert_eq!(apart.shape(), weight.shape());
            let (found, expected) = (apart.to_f32()?, weight.to_f32()?);
            for (found, expected) in found.chunks_exact(32).zip(expected.chunks_exact(32)) {
                let largest = expected.iter().fold(0f32, |largest, y| largest.max(y.abs()));
                for (y, expected) in found.iter().zip(expected) {
                    assert!((y - expected).abs() <= largest / 512.0, "{layout:?}: {y} for {expected} in {largest}");
                }
            }
        }
        assert!(take_apart(&QuantWeight::quantize(&values, QuantLayout::Q6K, &[3, 512])?).is_none());
        Ok(())
    }

    #[test]
    fn halves_hold_the_same_numbers() -> Result<(), ModelError> {
        let values: Vec<f32> =
            (0..3 * 512).map(|i| ((i * 7919 % 1009) as f32 / 504.0 - 0.7) * (1 + i / 100) as f32).collect();
        for layout in [QuantLayout::Q3K, QuantLayout::Q6K] {
            let weight = QuantWeight::quantize(&values, layout, &[3, 512])?;
            let Halves { weights, scales } = halves(&weight).expect("it is of superblocks");
            assert_eq!((weights.len(), scales.len()), (3 * 512, 3 * 512 / 8));
            let expected = weight.to_f32()?;
            for (i, (weight, expected)) in weights.iter().zip(expected).enumerate() {
                let scale = f16::from_le_bytes([scales[i / 16 * 2], scales[i / 16 * 2 + 1]]).to_f32();
                let found = f32::from(*weight as i8) * scale;
                assert!((found - expected).abs() <= expected.abs() / 2048.0, "{layout:?}, {i}: {found} for {expected}");
            }
        }
        assert!(halves(&QuantWeight::quantize(&values, QuantLayout::Q4K, &[3, 512])?).is_none());
        Ok(())
    }
}
