//! What every kernel asks of its operands: a matrix whose rows are contiguous, however far apart they lie.

use candle_core::{CpuStorage, DType, Layout, Result, WithDType, bail};

/// The place of a `[rows, width]` matrix in a storage: rows are contiguous, `stride` elements apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Matrix {
    pub(crate) offset: usize,
    pub(crate) rows: usize,
    pub(crate) width: usize,
    pub(crate) stride: usize,
}

impl Matrix {
    /// # Errors
    /// When the layout is not two-dimensional with contiguous rows.
    pub(crate) fn of(layout: &Layout, op: &'static str) -> Result<Self> {
        let (&[rows, width], &[stride, step]) = (layout.dims(), layout.stride()) else {
            bail!("{op}: expected a matrix, got shape {:?}", layout.dims())
        };
        if step != 1 && width > 1 {
            bail!("{op}: the rows of a {rows} x {width} matrix are not contiguous")
        }
        Ok(Self { offset: layout.start_offset(), rows, width, stride: if rows > 1 { stride } else { width } })
    }

    /// # Errors
    /// When its last row ends past the `len` elements of its storage.
    pub(crate) fn check_end(&self, len: usize, op: &'static str) -> Result<()> {
        let end = self.offset + self.rows.saturating_sub(1) * self.stride + self.width;
        if self.rows > 0 && end > len {
            bail!("{op}: a matrix that ends at {end} lies in a storage of {len}")
        }
        Ok(())
    }

    /// One row of it.
    #[inline(always)]
    pub(crate) fn row<'a, T>(&self, values: &'a [T], row_idx: usize) -> &'a [T] {
        let start = self.offset + row_idx * self.stride;
        &values[start..start + self.width]
    }
}

/// The elements behind a matrix, checked to reach to its last row.
///
/// # Errors
/// When the type differs from `T`'s or the storage is too short.
pub(crate) fn elements<'a, T: WithDType>(
    storage: &'a CpuStorage,
    matrix: &Matrix,
    op: &'static str,
) -> Result<&'a [T]> {
    let values = storage.as_slice::<T>()?;
    matrix.check_end(values.len(), op)?;
    Ok(values)
}

/// # Errors
/// When the layout is not a contiguous vector of `len` elements.
pub(crate) fn vector<'a, T: WithDType>(
    storage: &'a CpuStorage,
    layout: &Layout,
    len: usize,
    op: &'static str,
) -> Result<&'a [T]> {
    let values = storage.as_slice::<T>()?;
    match layout.contiguous_offsets() {
        Some((start, end)) if end - start == len => Ok(&values[start..end]),
        _ => bail!("{op}: expected a contiguous vector of {len}, got shape {:?}", layout.dims()),
    }
}

/// The mutable f32 elements of an in-place operand.
///
/// # Errors
/// When it holds another type.
pub(crate) fn elements_mut<'a>(storage: &'a mut CpuStorage, op: &'static str) -> Result<&'a mut [f32]> {
    match storage {
        CpuStorage::F32(values) => Ok(values),
        other => {
            use candle_core::backend::BackendStorage;
            bail!("{op}: expected {:?}, got {:?}", DType::F32, other.dtype())
        }
    }
}
