use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::result::memcpy_htod_async;
use candle_core::cuda_backend::cudarc::driver::{CudaEvent, PinnedHostSlice};
use candle_core::{CudaDevice, DType, Result, Tensor, bail};

use super::operand::Operand;

/// Pages of the host that the device copies from while the host goes on.
pub(crate) struct Staging {
    pages: PinnedHostSlice<u32>,
    /// When the last copy has read them.
    copied: CudaEvent,
    device: CudaDevice,
}

impl Staging {
    /// Pages for `len` words.
    pub(crate) fn new(len: usize, device: &CudaDevice) -> Result<Self> {
        let context = device.cuda_stream().context().clone();
        // SAFETY: words take any bits, and none is read before it was written.
        let pages = unsafe { context.alloc_pinned(len.max(1)) }.w()?;
        Ok(Self { pages, copied: context.new_event(None).w()?, device: device.clone() })
    }

    /// Copies `words` over the vector `to` of as many, in the order of the device's stream; returns before it is done.
    pub(crate) fn copy(&mut self, words: &[u32], to: &Tensor) -> Result<()> {
        let address = Operand::vector_of(to, &[DType::U32], words.len(), "staging")?;
        self.copied.synchronize().w()?;
        let Some(pages) = self.pages.as_mut_slice().w()?.get_mut(..words.len()) else {
            bail!("staging: {} words in pages for {}", words.len(), self.pages.len())
        };
        pages.copy_from_slice(words);
        let stream = self.device.cuda_stream();
        // SAFETY: the vector was checked to have as many words. The pages stay as they are until `copied` says that
        // they were read: `self` writes them only after that, and its drop waits.
        unsafe { memcpy_htod_async(address, pages, stream.cu_stream()) }.w()?;
        self.copied.record(&stream).w()
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // A device that failed reads nothing any more.
        let _ = self.copied.synchronize();
    }
}
