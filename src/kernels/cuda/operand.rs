//! Operands on the device: what the kernels ask of them, and where they lie.

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::driver::result::memset_d8_async;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DevicePtr, DeviceRepr};
use candle_core::cuda_backend::{CudaDType, CudaStorageSlice, WrapErr};
use candle_core::{CudaDevice, CudaStorage, DType, Layout, Result, Storage, Tensor, bail};

use crate::kernels::operand::Matrix;

/// A matrix on the device.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operand {
    /// Of its first element.
    pub(super) address: u64,
    pub(super) dtype: DType,
    pub(super) rows: usize,
    pub(super) width: usize,
    /// Elements from row to row.
    pub(super) stride: i64,
}

impl Operand {
    /// A matrix whose rows are contiguous, of one of `dtypes`.
    pub(super) fn of(storage: &CudaStorage, layout: &Layout, dtypes: &[DType], op: &'static str) -> Result<Self> {
        let matrix = Matrix::of(layout, op)?;
        let (address, len) = place(storage, dtypes, op)?;
        matrix.check_end(len, op)?;
        let dtype = storage.dtype();
        Ok(Self {
            address: address + (matrix.offset * dtype.size_in_bytes()) as u64,
            dtype,
            rows: matrix.rows,
            width: matrix.width,
            stride: matrix.stride as i64,
        })
    }

    /// As [`Operand::of`], of a tensor, whose owner keeps it.
    pub(super) fn of_tensor(tensor: &Tensor, dtypes: &[DType], op: &'static str) -> Result<Self> {
        let (storage, layout) = tensor.storage_and_layout();
        let Storage::Cuda(storage) = &*storage else { bail!("{op}: an operand is not on the GPU") };
        Self::of(storage, layout, dtypes, op)
    }

    /// As [`Operand::vector`], of a tensor, whose owner keeps it.
    pub(super) fn vector_of(tensor: &Tensor, dtypes: &[DType], len: usize, op: &'static str) -> Result<u64> {
        let (storage, layout) = tensor.storage_and_layout();
        let Storage::Cuda(storage) = &*storage else { bail!("{op}: an operand is not on the GPU") };
        Self::vector(storage, layout, dtypes, len, op)
    }

    /// A contiguous vector of `len` elements of one of `dtypes`.
    pub(super) fn vector(
        storage: &CudaStorage,
        layout: &Layout,
        dtypes: &[DType],
        len: usize,
        op: &'static str,
    ) -> Result<u64> {
        let (address, _) = place(storage, dtypes, op)?;
        match layout.contiguous_offsets() {
            Some((start, end)) if end - start == len => Ok(address + (start * storage.dtype().size_in_bytes()) as u64),
            _ => bail!("{op}: expected a contiguous vector of {len}, got shape {:?}", layout.dims()),
        }
    }

    /// True when every row begins and ends at a multiple of 16 bytes.
    pub(super) fn is_packed(&self) -> bool {
        let bytes = self.dtype.size_in_bytes();
        self.address.is_multiple_of(16)
            && (self.width * bytes).is_multiple_of(16)
            && (self.stride as usize * bytes).is_multiple_of(16)
    }

    /// The dtype as the kernels' names spell it.
    pub(super) fn name(&self) -> &'static str {
        dtype_name(self.dtype)
    }
}

/// A dtype as the kernels' names spell it.
pub(super) fn dtype_name(dtype: DType) -> &'static str {
    match dtype {
        DType::BF16 => "bf16",
        _ => "f32",
    }
}

/// The address of a storage's first element, and how many there are.
fn place(storage: &CudaStorage, dtypes: &[DType], op: &'static str) -> Result<(u64, usize)> {
    if !dtypes.contains(&storage.dtype()) {
        bail!("{op}: expected one of {dtypes:?}, got {:?}", storage.dtype())
    }
    let stream = storage.device.cuda_stream();
    // The guards that come with an address order streams among each other; there is one.
    Ok(match &storage.slice {
        CudaStorageSlice::F32(slice) => (slice.device_ptr(&stream).0, slice.len()),
        CudaStorageSlice::BF16(slice) => (slice.device_ptr(&stream).0, slice.len()),
        CudaStorageSlice::U32(slice) => (slice.device_ptr(&stream).0, slice.len()),
        CudaStorageSlice::U8(slice) => (slice.device_ptr(&stream).0, slice.len()),
        _ => bail!("{op}: {:?} has no kernel", storage.dtype()),
    })
}

/// The address of a buffer made here.
pub(super) fn address<T>(slice: &CudaSlice<T>, device: &CudaDevice) -> u64 {
    slice.device_ptr(&device.cuda_stream()).0
}

/// A buffer that a kernel will fill. In tests it holds ones in every bit, which read as NaN: what is not written shows.
pub(super) fn output<T: DeviceRepr + Copy + 'static>(device: &CudaDevice, len: usize) -> Result<CudaSlice<T>> {
    // SAFETY: the kernel that is launched next writes all of it.
    let buffer = unsafe { device.alloc::<T>(len.max(1))? };
    if cfg!(test) {
        let stream = device.cuda_stream();
        // SAFETY: the buffer has these bytes; the types made here (f32, bf16, u32, i32, u8) take any bits.
        unsafe { memset_d8_async(address(&buffer, device), 0xff, buffer.num_bytes(), stream.cu_stream()) }.w()?;
    }
    Ok(buffer)
}

/// A matrix that a kernel will fill, of `dtype` (f32 or bf16), with its address.
pub(super) fn output_of(device: &CudaDevice, dtype: DType, len: usize) -> Result<(CudaStorage, u64)> {
    match dtype {
        DType::BF16 => wrapped::<half::bf16>(device, len),
        _ => wrapped::<f32>(device, len),
    }
}

fn wrapped<T: CudaDType + DeviceRepr + Copy + 'static>(device: &CudaDevice, len: usize) -> Result<(CudaStorage, u64)> {
    let slice = output::<T>(device, len)?;
    let address = address(&slice, device);
    Ok((CudaStorage::wrap_cuda_slice(slice, device.clone()), address))
}
