//! A weight as a checkpoint stores it: the seam between file formats and the products that use it.

use std::borrow::Cow;
use std::ops::Range;

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
    /// One behind the other: of matrices that were stacked, each has its own.
    pieces: Vec<Cow<'a, [u8]>>,
    layout: QuantLayout,
    shape: Vec<usize>,
}

impl<'a> QuantWeight<'a> {
    /// Wraps `bytes`; `None` when they are not the size that layout and shape imply, or rows are not whole blocks.
    pub fn new(bytes: impl Into<Cow<'a, [u8]>>, layout: QuantLayout, shape: &[usize]) -> Option<Self> {
        let bytes = bytes.into();
        let size = byte_len(layout, shape)?;
        (bytes.len() == size).then(|| Self::of(bytes, layout, shape.to_vec()))
    }

    fn of(bytes: Cow<'a, [u8]>, layout: QuantLayout, shape: Vec<usize>) -> Self {
        Self { pieces: vec![bytes], layout, shape }
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
        Ok(Self::of(Cow::Owned(bytes), layout, shape.to_vec()))
    }

    /// The stored bytes, row after row; those of matrices that were stacked are copied.
    pub fn bytes(&self) -> Cow<'_, [u8]> {
        match self.pieces.as_slice() {
            [bytes] => Cow::Borrowed(bytes),
            pieces => Cow::Owned(pieces.concat()),
        }
    }

    /// The stored bytes as they lie: pieces, one behind the other.
    pub(crate) fn pieces(&self) -> Vec<&[u8]> {
        self.pieces.iter().map(AsRef::as_ref).collect()
    }

    /// How many bytes there are.
    pub(crate) fn num_bytes(&self) -> usize {
        self.pieces.iter().map(|piece| piece.len()).sum()
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
        let bytes = self.bytes();
        Ok(match self.layout {
            QuantLayout::F32 => decode(&bytes, f32::from_le_bytes),
            QuantLayout::F16 => decode(&bytes, |bytes| f16::from_le_bytes(bytes).to_f32()),
            QuantLayout::BF16 => decode(&bytes, |bytes| bf16::from_le_bytes(bytes).to_f32()),
            QuantLayout::F8E4M3 => fp8_values(&bytes),
            _ => {
                let (bytes, dtype) = self.ggml_blocks()?;
                let blocks = QTensor::new(QStorage::from_data(bytes, &Device::Cpu, dtype)?, self.shape.as_slice())?;
                blocks.dequantize(&Device::Cpu)?.flatten_all()?.to_vec1()?
            }
        })
    }

    /// The bytes as candle reads them, in place: they begin at a multiple of 8, which a slice of a file need not.
    ///
    /// # Errors
    /// When candle does not have the layout.
    pub(crate) fn ggml_blocks(&self) -> Result<(Cow<'_, [u8]>, GgmlDType), ModelError> {
        let Some(dtype) = self.layout.ggml() else {
            return Err(candle_core::Error::Msg(format!("candle has no {:?}", self.layout)).into());
        };
        let bytes = self.bytes();
        let is_aligned = bytes.as_ptr().addr().is_multiple_of(8);
        Ok((if is_aligned { bytes } else { Cow::Owned(bytes.into_owned()) }, dtype))
    }

    /// The matrix with its rows in another order: row `i` of the result is row `order(i)`.
    pub(crate) fn permute_rows(&self, order: impl Fn(usize) -> usize) -> Self {
        let bytes = self.bytes();
        let rows = self.shape[0];
        let row_bytes = bytes.len() / rows.max(1);
        let mut permuted = Vec::with_capacity(bytes.len());
        for row_idx in (0..rows).map(order) {
            permuted.extend_from_slice(&bytes[row_idx * row_bytes..(row_idx + 1) * row_bytes]);
        }
        Self::of(Cow::Owned(permuted), self.layout, self.shape.clone())
    }

    /// The rows `rows` of it, taken over all of its leading dimensions.
    ///
    /// # Panics
    /// When there are no such rows.
    pub(crate) fn rows(&self, rows: Range<usize>) -> QuantWeight<'_> {
        let (leading, width) = (&self.shape[..self.shape.len() - 1], self.shape[self.shape.len() - 1]);
        let row_bytes = self.num_bytes() / leading.iter().product::<usize>().max(1);
        let bytes = part(self.bytes(), rows.start * row_bytes..rows.end * row_bytes);
        QuantWeight::of(bytes, self.layout, vec![rows.len(), width])
    }

    /// The rows `rows` of a matrix, or elements of a vector; bytes that are borrowed stay so.
    ///
    /// # Panics
    /// When there are no such rows.
    pub(crate) fn into_rows(self, rows: Range<usize>) -> Self {
        if rows == (0..self.shape[0]) {
            return self;
        }
        let row_bytes = self.num_bytes() / self.shape[0].max(1);
        let (layout, mut shape) = (self.layout, self.shape.clone());
        shape[0] = rows.len();
        Self::of(part(self.into_bytes(), rows.start * row_bytes..rows.end * row_bytes), layout, shape)
    }

    /// The columns `columns` of a matrix; `None` when they cut a block. Other columns are not read.
    ///
    /// # Panics
    /// When there are no such columns.
    pub(crate) fn into_columns(self, columns: Range<usize>) -> Option<Self> {
        let width = self.shape[self.shape.len() - 1];
        if columns == (0..width) {
            return Some(self);
        }
        let block_len = self.layout.block_len();
        if !columns.start.is_multiple_of(block_len) || !columns.end.is_multiple_of(block_len) {
            return None;
        }
        let bytes_of = |columns: usize| columns / block_len * self.layout.block_bytes();
        let range = bytes_of(columns.start)..bytes_of(columns.end);
        let all = self.bytes();
        let rows = all.chunks_exact(bytes_of(width).max(1));
        let mut bytes = Vec::with_capacity(rows.len() * range.len());
        rows.for_each(|row| bytes.extend_from_slice(&row[range.clone()]));
        let mut shape = self.shape.clone();
        *shape.last_mut()? = columns.len();
        Some(Self::of(Cow::Owned(bytes), self.layout, shape))
    }

    /// The same weight, with bytes of its own.
    pub(crate) fn into_owned(self) -> QuantWeight<'static> {
        let (layout, shape) = (self.layout, self.shape.clone());
        QuantWeight::of(Cow::Owned(self.into_bytes().into_owned()), layout, shape)
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
        Ok(QuantWeight::of(Cow::Owned(bytes), QuantLayout::F32, vec![width, rows]))
    }

    /// Whether the matrices `parts` can stand on top of each other: there are some, stored alike and of one width.
    pub(crate) fn are_alike(parts: &[Self]) -> bool {
        let [first, rest @ ..] = parts else { return false };
        rest.iter().all(|part| part.layout == first.layout && part.shape[1..] == first.shape[1..])
    }

    /// The matrices `parts` on top of each other, if they are alike. No bytes are copied.
    pub(crate) fn stack(parts: Vec<Self>) -> Option<Self> {
        if !Self::are_alike(&parts) {
            return None;
        }
        let (layout, mut shape) = (parts[0].layout, parts[0].shape.clone());
        shape[0] = parts.iter().map(|part| part.shape[0]).sum();
        Some(Self { pieces: parts.into_iter().flat_map(|part| part.pieces).collect(), layout, shape })
    }

    fn into_bytes(mut self) -> Cow<'a, [u8]> {
        match self.pieces.len() {
            1 => self.pieces.swap_remove(0),
            _ => Cow::Owned(self.pieces.concat()),
        }
    }
}

fn part(bytes: Cow<'_, [u8]>, range: Range<usize>) -> Cow<'_, [u8]> {
    match bytes {
        Cow::Borrowed(bytes) => Cow::Borrowed(&bytes[range]),
        Cow::Owned(mut bytes) => {
            bytes.truncate(range.end);
            bytes.drain(..range.start);
            Cow::Owned(bytes)
        }
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
        let stacked = QuantWeight::stack(vec![weight.clone(), swapped]).expect("both are Q8_0");
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
