//! Superblocks taken apart: Q4_K and Q5_K as Q4_1 and Q5_1.
//!
//! A superblock is eight blocks of 32 weights, whose scales and minima are multiples, of six bits, of two f16 numbers
//! that all eight share. As f16 numbers of their own they are rounded by at most 2^-11 of themselves, the quants stay
//! as they are, and a block takes 20 or 24 bytes instead of 18 or 22. Layouts are those of ggml's `block_q4_K`,
//! `block_q5_K`, `block_q4_1` and `block_q5_1`.

use half::f16;

use super::weight::{QuantLayout, QuantWeight};

/// Blocks of a superblock.
const BLOCKS: usize = 8;

/// The same weights as plain blocks of 32; `None` where they are neither Q4_K nor Q5_K.
pub(crate) fn take_apart(weight: &QuantWeight<'_>) -> Option<QuantWeight<'static>> {
    let (layout, has_fifth_bits) = match weight.layout() {
        QuantLayout::Q4K => (QuantLayout::Q4_1, false),
        QuantLayout::Q5K => (QuantLayout::Q5_1, true),
        _ => return None,
    };
    let stored = weight.bytes();
    let superblocks = stored.chunks_exact(weight.layout().block_bytes());
    let mut bytes = Vec::with_capacity(superblocks.len() * BLOCKS * layout.block_bytes());
    for superblock in superblocks {
        (0..BLOCKS).for_each(|block| push_block(superblock, block, has_fifth_bits, &mut bytes));
    }
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
}
