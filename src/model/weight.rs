//! A weight as a checkpoint stores it: the seam between file formats and the products that use it.

use std::borrow::Cow;

use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{Device, Tensor};
use half::{bf16, f16};

use super::ModelError;
use crate::kernels::{FP8_BLOCK_BYTES, FP8_BLOCK_LEN, fp8_blocks, fp8_values};

/// How the elements of a [`QuantWeight`] are stored. Names are those of ggml; K-quants have superblocks of 256. `F8E4M3`
/// is not ggml's: blocks of 128 under one f32 scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are the definition")]
pub enum QuantLayout {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q8_1,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
    Q8K,
    F8E4M3,
}

impl QuantLayout {
    /// Elements that are stored together; a row is a whole number of them.
    pub fn block_len(self) -> usize {
        self.ggml().map_or(FP8_BLOCK_LEN, |dtype| dtype.block_size())
    }

    /// Bytes of one block.
    pub fn block_bytes(self) -> usize {
        self.ggml().map_or(FP8_BLOCK_BYTES, |dtype| dtype.type_size())
    }

    /// This layout if rows of `row_len` are whole blocks of it; otherwise the nearest of blocks of 32 that has at least as
    /// many bits, if they are whole blocks of that.
    pub(crate) fn fitting(self, row_len: usize) -> Option<Self> {
        let smaller = match self {
            Self::Q2K | Self::Q3K => Self::Q4_0,
            Self::Q4K => Self::Q5_0,
            Self::Q5K => Self::Q5_1,
            Self::Q6K | Self::Q8K => Self::Q8_0,
            _ => self,
        };
        [self, smaller].into_iter().find(|layout| row_len.is_multiple_of(layout.block_len()))
    }

    /// True when every element is a number of its own.
    pub fn is_dense(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::BF16)
    }

    /// As ggml has it, where it does.
    fn ggml(self) -> Option<GgmlDType> {
        Some(match self {
            Self::F8E4M3 => return None,
            Self::F32 => GgmlDType::F32,
            Self::F16 => GgmlDType::F16,
            Self::BF16 => GgmlDType::BF16,
            Self::Q4_0 => GgmlDType::Q4_0,
            Self::Q4_1 => GgmlDType::Q4_1,
            Self::Q5_0 => GgmlDType::Q5_0,
            Self::Q5_1 => GgmlDType::Q5_1,
            Self::Q8_0 => GgmlDType::Q8_0,
            Self::Q8_1 => GgmlDType::Q8_1,
            Self::Q2K => GgmlDType::Q2K,
            Self::Q3K => GgmlDType::Q3K,
            Self::Q4K => GgmlDType::Q4K,
            Self::Q5K => GgmlDType::Q5K,
            Self::Q6K => GgmlDType::Q6K,
            Self::Q8K => GgmlDType::Q8K,
        })
    }

    pub(crate) fn from_ggml(dtype: GgmlDType) -> Self {
        match dtype {
            GgmlDType::F32 => Self::F32,
            GgmlDType::F16 => Self::F16,
            GgmlDType::BF16 => Self::BF16,
            GgmlDType::Q4_0 => Self::Q4_0,
            GgmlDType::Q4_1 => Self::Q4_1,
            GgmlDType::Q5_0 => Self::Q5_0,
            GgmlDType::Q5_1 => Self::Q5_1,
            GgmlDType::Q8_0 => Self::Q8_0,
            GgmlDType::Q8_1 => Self::Q8_1,
            GgmlDType::Q2K => Self::Q2K,
            GgmlDType::Q3K => Self::Q3K,
            GgmlDType::Q4K => Self::Q4K,
            GgmlDType::Q5K => Self::Q5K,
            GgmlDType::Q6K => Self::Q6K,
            GgmlDType::Q8K => Self::Q8K,
        }
    }
}

/// A matrix or vector of weights: its bytes, borrowed from the file where possible, how they are laid out, its shape.
#[derive(Clone, Debug)]
pub struct QuantWeight<'a> {
    bytes: Cow<'a, [u8]>,
    layout: QuantLayout,
    shape: Vec<usize>,
}

impl<'a> QuantWeight<'a> {
    /// Wraps `bytes`; `None` when they are not the size that layout and shape imply, or rows are not whole blocks.
    pub fn new(bytes: impl Into<Cow<'a, [u8]>>, layout: QuantLayout, shape: &[usize]) -> Option<Self> {
        let bytes = bytes.into();
        let size = byte_len(layout, shape)?;
        (bytes.len() == size).then(|| Self { bytes, layout, shape: shape.to_vec() })
    }

    /// Rounds `values`, row by row, to `layout`.
    ///
    /// # Errors
    /// When rows are not whole blocks of `layout`, or it is one that cannot be rounded to.
    pub fn quantize(values: &[f32], layout: QuantLayout, shape: &[usize]) -> Result<Self, ModelError> {
        let bytes = match layout.ggml() {
            Some(dtype) => {
                let values = Tensor::from_slice(values, shape, &Device::Cpu)?;
                QTensor::quantize(&values, dtype)?.data()?.into_owned()
            }
            None if byte_len(layout, shape).is_some() && values.len() == shape.iter().product::<usize>() => {
                fp8_blocks(values)
            }
            None => {
                let text = format!("{} values of shape {shape:?} are not whole blocks of {layout:?}", values.len());
                return Err(candle_core::Error::Msg(text).into());
            }
        };
        Ok(Self { bytes: Cow::Owned(bytes), layout, shape: shape.to_vec() })
    }

    /// The stored bytes, row after row.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How they are laid out.
    pub fn layout(&self) -> QuantLayout {
        self.layout
    }

    /// Its shape: `[outputs, inputs]` for a matrix.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Every element as f32.
    ///
    /// # Errors
    /// When candle cannot decode the layout.
    pub fn to_f32(&self) -> Result<Vec<f32>, ModelError> {
        Ok(match self.layout {
            QuantLayout::F32 => decode(&self.bytes, f32::from_le_bytes),
            QuantLayout::F16 => decode(&self.bytes, |bytes| f16::from_le_bytes(bytes).to_f32()),
            QuantLayout::BF16 => decode(&self.bytes, |bytes| bf16::from_le_bytes(bytes).to_f32()),
            QuantLayout::F8E4M3 => fp8_values(&self.bytes),
            _ => self.to_qtensor(&Device::Cpu)?.dequantize(&Device::Cpu)?.flatten_all()?.to_vec1()?,
        })
    }

    /// As candle holds it, for the layouts whose products are candle's.
    pub(crate) fn to_qtensor(&self, device: &Device) -> Result<QTensor, ModelError> {
        // Candle reads blocks in place and wants them aligned; a slice of a file may lie anywhere.
        let aligned = self.bytes.as_ptr().addr().is_multiple_of(8);
        let bytes = if aligned { Cow::Borrowed(&*self.bytes) } else { Cow::Owned(self.bytes.to_vec()) };
        let Some(dtype) = self.layout.ggml() else {
            return Err(candle_core::Error::Msg(format!("candle has no {:?}", self.layout)).into());
        };
        let storage = QStorage::from_data(bytes, device, dtype)?;
        Ok(QTensor::new(storage, self.shape.as_slice())?)
    }

    /// The matrix with its rows in another order: row `i` of the result is row `order(i)`.
    pub(crate) fn permute_rows(&self, order: impl Fn(usize) -> usize) -> Self {
        let rows = self.shape[0];
        let row_bytes = self.bytes.len() / rows.max(1);
        let row = |row_idx: usize| &self.bytes[row_idx * row_bytes..(row_idx + 1) * row_bytes];
        let bytes: Vec<u8> = (0..rows).flat_map(|row_idx| row(order(row_idx)).iter().copied()).collect();
        Self { bytes: Cow::Owned(bytes), ..self.clone() }
    }

    /// The rows `rows` of it, taken over all of its leading dimensions.
    ///
    /// # Panics
    /// When there are no such rows.
    pub(crate) fn rows(&self, rows: std::ops::Range<usize>) -> QuantWeight<'_> {
        let (leading, width) = (&self.shape[..self.shape.len() - 1], self.shape[self.shape.len() - 1]);
        let row_bytes = self.bytes.len() / leading.iter().product::<usize>().max(1);
        let bytes = &self.bytes[rows.start * row_bytes..rows.end * row_bytes];
        QuantWeight { bytes: Cow::Borrowed(bytes), layout: self.layout, shape: vec![rows.len(), width] }
    }

    /// The same weight, with bytes of its own.
    pub(crate) fn into_owned(self) -> QuantWeight<'static> {
        QuantWeight { bytes: Cow::Owned(self.bytes.into_owned()), layout: self.layout, shape: self.shape }
    }

    /// The matrix with rows and columns exchanged, as f32: a block holds neighbours of one row.
    ///
    /// # Errors
    /// When candle cannot decode the layout.
    pub(crate) fn transposed(&self) -> Result<QuantWeight<'static>, ModelError> {
        let (rows, width) = (self.shape[0], self.shape[1]);
        let values = self.to_f32()?;
        let columns = (0..width).flat_map(|column| values.iter().skip(column).step_by(width));
        let bytes: Vec<u8> = columns.flat_map(|value| value.to_le_bytes()).collect();
        Ok(QuantWeight { bytes: Cow::Owned(bytes), layout: QuantLayout::F32, shape: vec![width, rows] })
    }

    /// The matrices `parts` on top of each other, if all are stored alike.
    pub(crate) fn stack(parts: &[Self]) -> Option<Self> {
        let [first, rest @ ..] = parts else { return None };
        if rest.iter().any(|part| part.layout != first.layout || part.shape[1..] != first.shape[1..]) {
            return None;
        }
        let mut shape = first.shape.clone();
        shape[0] = parts.iter().map(|part| part.shape[0]).sum();
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.bytes.iter().copied()).collect();
        Some(Self { bytes: Cow::Owned(bytes), layout: first.layout, shape })
    }
}

/// Bytes of a tensor of this layout and shape, if its rows are whole blocks and the size is one a machine can have.
pub(crate) fn byte_len(layout: QuantLayout, shape: &[usize]) -> Option<usize> {
    let row_len = shape.last().copied().unwrap_or(1);
    let elements = shape.iter().try_fold(1usize, |product, &dim| product.checked_mul(dim))?;
    let whole = row_len.is_multiple_of(layout.block_len());
    whole.then(|| (elements / layout.block_len()).checked_mul(layout.block_bytes())).flatten()
}

fn decode<const N: usize>(bytes: &[u8], element: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes.as_chunks::<N>().0.iter().map(|&bytes| element(bytes)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_do_not_fill_the_shape_are_refused() {
        assert!(QuantWeight::new(vec![0; 24], QuantLayout::F32, &[2, 3]).is_some());
        assert!(QuantWeight::new(vec![0; 23], QuantLayout::F32, &[2, 3]).is_none());
        assert!(QuantWeight::new(vec![0; 34], QuantLayout::Q8_0, &[1, 32]).is_some());
        assert!(QuantWeight::new(vec![0; 34], QuantLayout::Q8_0, &[2, 16]).is_none());
        assert!(QuantWeight::new(vec![0; 8], QuantLayout::F32, &[usize::MAX, usize::MAX]).is_none());
    }

    #[test]
    fn eight_bit_floats_are_rounded_in_whole_blocks_alone() -> Result<(), ModelError> {
        let values: Vec<f32> = (0..256).map(|i| (i as f32 - 128.0) / 64.0).collect();
        let weight = QuantWeight::quantize(&values, QuantLayout::F8E4M3, &[2, 128])?;
        assert_eq!((weight.bytes().len(), QuantLayout::F8E4M3.block_len()), (264, 128));
        let worst = weight.to_f32()?.iter().zip(&values).map(|(y, x)| (y - x).abs()).fold(0f32, f32::max);
        assert!(worst <= 2.0 / 16.0, "{worst}");
        assert!(QuantWeight::quantize(&values, QuantLayout::F8E4M3, &[4, 64]).is_err());
        assert!(QuantWeight::quantize(&values[..128], QuantLayout::F8E4M3, &[2, 128]).is_err());
        Ok(())
    }

    #[test]
    fn rows_move_and_stack_without_being_decoded() -> Result<(), ModelError> {
        let values: Vec<f32> = (0..128).map(|i| i as f32).collect();
        let weight = QuantWeight::quantize(&values, QuantLayout::Q8_0, &[4, 32])?;
        let swapped = weight.permute_rows(|row_idx| 3 - row_idx);
        let stacked = QuantWeight::stack(&[weight.clone(), swapped]).expect("both are Q8_0");
        assert_eq!(stacked.shape(), [8, 32]);
        let (values, stacked) = (weight.to_f32()?, stacked.to_f32()?);
        assert_eq!(stacked[..128], values);
        assert_eq!(stacked[7 * 32..], values[..32]);
        Ok(())
    }

    #[test]
    fn rows_are_cut_over_all_leading_dimensions_and_a_matrix_turns() -> Result<(), ModelError> {
        let values: Vec<f32> = (0..24).map(|i| i as f32).collect();
        let weight = QuantWeight::quantize(&values, QuantLayout::F32, &[2, 3, 4])?;
        let rows = weight.rows(2..4);
        assert_eq!((rows.shape(), rows.to_f32()?), (&[2, 4][..], values[8..16].to_vec()));
        let turned = rows.transposed()?;
        assert_eq!(turned.shape(), [4, 2]);
        assert_eq!(turned.to_f32()?, [8.0, 12.0, 9.0, 13.0, 10.0, 14.0, 11.0, 15.0]);
        Ok(())
    }
}
