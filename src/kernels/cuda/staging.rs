//! Page-locked memory of the host, and what the device copies from it while the host goes on.

use std::sync::Arc;
use std::time::Instant;

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::result::memcpy_htod_async;
use candle_core::cuda_backend::cudarc::driver::{CudaContext, CudaEvent, CudaStream, PinnedHostSlice};
use candle_core::op::BackpropOp;
use candle_core::quantized::cuda::QCudaStorage;
use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{CudaDevice, CudaStorage, DType, Result, Storage, Tensor, bail};

use super::operand::{Operand, address, output, output_of};
use crate::kernels::staging::{CopyEngine, Ring, StagingConfig};

/// Page-locked bytes, and when the last copy has read them.
struct Pages {
    bytes: PinnedHostSlice<u8>,
    copied: CudaEvent,
}

impl Pages {
    fn new(len: usize, context: &Arc<CudaContext>) -> Result<Self> {
        // SAFETY: bytes take any bits, and none is read before it was written.
        let bytes = unsafe { context.alloc_pinned(len.max(1)) };
        let bytes = bytes.map_err(|error| {
            let text = format!("cannot page-lock {} KiB of host memory: {error}", len.div_ceil(1024));
            candle_core::Error::Msg(text)
        })?;
        Ok(Self { bytes, copied: context.new_event(None).w()? })
    }

    fn wait(&self) -> Result<()> {
        self.copied.synchronize().w()
    }

    /// The bytes, once the last copy has read them.
    fn writable(&mut self) -> Result<&mut [u8]> {
        self.wait()?;
        self.bytes.as_mut_slice().w()
    }

    /// Starts to copy the first `len` bytes, behind what `stream` has to do; returns before it is done.
    ///
    /// # Safety
    /// There are `len` bytes at `to` on the device, and what is before on `stream` makes them usable.
    unsafe fn send(&mut self, len: usize, to: u64, stream: &CudaStream) -> Result<()> {
        let Some(bytes) = self.bytes.as_slice().w()?.get(..len) else {
            bail!("staging: {len} bytes of pages that have {}", self.bytes.len())
        };
        // SAFETY: the caller speaks for `to`. The pages stay as they are until `copied` says that they were read: they
        // are handed out only after that, and their drop waits.
        unsafe { memcpy_htod_async(to, bytes, stream.cu_stream()) }.w()?;
        self.copied.record(stream).w()
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // A device that failed reads nothing any more.
        let _ = self.wait();
    }
}

/// Pages for words that go over a vector, in the order of the device's stream.
pub(crate) struct Staging {
    pages: Pages,
    device: CudaDevice,
}

impl Staging {
    /// Pages for `len` words.
    pub(crate) fn new(len: usize, device: &CudaDevice) -> Result<Self> {
        let pages = Pages::new(len * size_of::<u32>(), device.cuda_stream().context())?;
        Ok(Self { pages, device: device.clone() })
    }

    /// Copies `words` over the vector `to` of as many, in the order of the device's stream; returns before it is done.
    pub(crate) fn copy(&mut self, words: &[u32], to: &Tensor) -> Result<()> {
        let address = Operand::vector_of(to, &[DType::U32], words.len(), "staging")?;
        let len = size_of_val(words);
        let Some(bytes) = self.pages.writable()?.get_mut(..len) else {
            bail!("staging: {} words in pages for {}", words.len(), self.pages.bytes.len() / size_of::<u32>())
        };
        for (bytes, word) in bytes.as_chunks_mut().0.iter_mut().zip(words) {
            *bytes = word.to_le_bytes();
        }
        // SAFETY: the vector was checked to have as many words, and is of this stream.
        unsafe { self.pages.send(len, address, &self.device.cuda_stream()) }
    }
}

/// The buffers of an uploader, and the stream on which they are copied.
pub(crate) struct Copies {
    buffers: Vec<Pages>,
    /// Beside the one on which the device computes.
    stream: Arc<CudaStream>,
    compute: Arc<CudaStream>,
}

/// What an uploader sends through.
pub(crate) type UploadRing = Ring<Copies>;

/// Memory of the device that was allocated on the stream that computes.
pub(crate) struct Destination {
    address: u64,
    len: usize,
}

pub(crate) fn upload_ring(device: &CudaDevice, config: &StagingConfig) -> Result<UploadRing> {
    let compute = device.cuda_stream();
    let context = compute.context();
    let buffers = (0..config.num_buffers).map(|_| Pages::new(config.buffer_bytes, context));
    let buffers = buffers.collect::<Result<_>>()?;
    let stream = context.new_stream().w()?;
    Ok(Ring::new(Copies { buffers, stream, compute }, config.num_buffers))
}

impl Copies {
    /// Copies from now on wait for what was launched so far: the allocation of what they write.
    fn begin(&self) -> Result<()> {
        self.stream.wait(&self.compute.record_event(None).w()?).w()
    }

    /// What is launched from now on waits for the copies so far, giving memory back included.
    fn end(&self) -> Result<()> {
        self.compute.wait(&self.stream.record_event(None).w()?).w()
    }
}

impl CopyEngine for Copies {
    type Target = Destination;

    fn buffer(&mut self, buffer_idx: usize) -> Result<&mut [u8]> {
        self.buffers[buffer_idx].writable()
    }

    fn send(&mut self, buffer_idx: usize, len: usize, target: &Destination, offset: usize) -> Result<()> {
        if offset > target.len || len > target.len - offset {
            bail!("staging: {len} bytes at {offset} of a buffer of {}", target.len)
        }
        // SAFETY: in bounds by the check above. `deliver`, which alone makes targets, has this stream wait for their
        // allocation, and has whatever could use them or give them back wait for this stream.
        unsafe { self.buffers[buffer_idx].send(len, target.address + offset as u64, &self.stream) }
    }

    fn wait(&mut self, buffer_idx: usize) -> Result<()> {
        self.buffers[buffer_idx].wait()
    }
}

/// Sends `pieces` to memory that was just allocated. However it ends, that memory is not used or given back before the
/// copies that were started are done.
fn deliver(ring: &mut UploadRing, pieces: &[&[u8]], target: &Destination) -> Result<()> {
    ring.engine().begin()?;
    let sent = ring.send(pieces, target);
    let ordered = ring.engine().end();
    sent.and(ordered)
}

/// A tensor of the elements whose bytes `pieces` are: as many as `shape` has, which the caller checked.
pub(crate) fn upload(
    ring: &mut UploadRing,
    device: &CudaDevice,
    pieces: &[&[u8]],
    dtype: DType,
    shape: &[usize],
) -> Result<Tensor> {
    let num_elements = shape.iter().product();
    let (storage, address) = match dtype {
        DType::U8 => {
            let slice = output::<u8>(device, num_elements)?;
            let address = address(&slice, device);
            (CudaStorage::wrap_cuda_slice(slice, device.clone()), address)
        }
        DType::F32 | DType::BF16 => output_of(device, dtype, num_elements)?,
        other => bail!("uploader: {other:?} is none of F32, BF16 and U8"),
    };
    deliver(ring, pieces, &Destination { address, len: num_elements * dtype.size_in_bytes() })?;
    Ok(Tensor::from_storage(Storage::Cuda(storage), shape, BackpropOp::none(), false))
}

/// The same of blocks that candle multiplies, with the zeros that it wants behind them.
pub(crate) fn upload_blocks(
    ring: &mut UploadRing,
    device: &CudaDevice,
    bytes: &[u8],
    dtype: GgmlDType,
    shape: &[usize],
) -> Result<QTensor> {
    let num_elements: usize = shape.iter().product();
    let expected = num_elements / dtype.block_size() * dtype.type_size();
    if bytes.len() != expected || !num_elements.is_multiple_of(dtype.block_size()) {
        bail!("uploader: {} bytes for {dtype:?} of shape {shape:?}, which takes {expected}", bytes.len())
    }
    let storage = QCudaStorage::zeros(device, num_elements, dtype)?;
    let target = Destination { address: storage.device_ptr()? as u64, len: expected };
    deliver(ring, &[bytes], &target)?;
    QTensor::new(QStorage::Cuda(storage), shape)
}

/// Bytes per second that page-locked memory goes to the device with, `num_bytes` of them in copies of up to 64 MiB.
pub(crate) fn pinned_copy_rate(device: &CudaDevice, num_bytes: usize) -> Result<f64> {
    const COPY_BYTES: usize = 64 << 20;
    let len = num_bytes.clamp(1, COPY_BYTES);
    let stream = device.cuda_stream();
    let mut pages = Pages::new(len, stream.context())?;
    pages.writable()?.fill(1);
    let target = output::<u8>(device, len)?;
    let to = address(&target, device);
    stream.synchronize().w()?;
    let num_copies = num_bytes.div_ceil(len).max(1);
    let start = Instant::now();
    for _ in 0..num_copies {
        // SAFETY: the target has as many bytes, on this stream; nothing else writes the pages.
        unsafe { pages.send(len, to, &stream) }?;
    }
    stream.synchronize().w()?;
    Ok((num_copies * len) as f64 / start.elapsed().as_secs_f64())
}
