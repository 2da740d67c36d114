#![allow(unsafe_code)]

use std::sync::Arc;

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::sys::{
    self, CUgraphInstantiate_flags, CUgraphMem_attribute, CUstreamCaptureMode,
};
use candle_core::cuda_backend::cudarc::driver::{CudaGraph, CudaStream};
use candle_core::{Device, Error, Result};

/// What is still allocated when a graph is launched again is freed first.
const FLAGS: CUgraphInstantiate_flags = CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;

/// Work that a GPU has been told once and does again at one call.
///
/// It reads and writes the addresses that it was recorded with: who replays it keeps what lies there.
pub struct Graph(CudaGraph);

// SAFETY: the driver asks that calls on one graph do not overlap; each takes it by `&mut`, as its drop does.
unsafe impl Send for Graph {}

impl Graph {
    /// Records what `work` launches on `device`, without running it.
    ///
    /// Everything that it needs must have been loaded and uploaded before ([`warm_up`] does so), and whatever it
    /// allocates has to be dropped when it returns. Cost: about that of launching the work, once.
    ///
    /// # Errors
    /// What `work` answered, or what the driver says: most often that something in it cannot be recorded.
    pub fn record<E: From<Error>>(
        device: &Device,
        work: impl FnOnce() -> std::result::Result<(), E>,
    ) -> std::result::Result<Self, E> {
        let cuda = device.as_cuda_device()?;
        let _known_uploads = cuda.enable_cuda_graph_htod_cache();
        let recording = Recording::begin(cuda.cuda_stream())?;
        work()?;
        let graph = recording.end()?;
        graph.upload().w()?;
        Ok(Self(graph))
    }

    /// Does the work again, after all that was launched before. Returns before it is done.
    ///
    /// # Errors
    /// When the driver refuses, or an earlier launch failed.
    pub fn replay(&mut self) -> Result<()> {
        self.0.launch().w()
    }
}

/// Runs `work` as [`Graph::record`] will find it: what it uploads is kept, and found there when it is recorded.
///
/// # Errors
/// What `work` answers.
pub fn warm_up<T, E: From<Error>>(
    device: &Device,
    work: impl FnOnce() -> std::result::Result<T, E>,
) -> std::result::Result<T, E> {
    let cuda = device.as_cuda_device()?;
    let _known_uploads = cuda.enable_cuda_graph_htod_cache();
    let outcome = work()?;
    cuda.cuda_stream().synchronize().w()?;
    Ok(outcome)
}

/// Bytes that the graphs of a device hold for what they allocate while they run; they share them.
#[must_use]
pub fn graph_memory(device: &Device) -> usize {
    let Device::Cuda(cuda) = device else { return 0 };
    let mut bytes = 0_u64;
    let attribute = CUgraphMem_attribute::CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT;
    // SAFETY: the device is the context's own; the attribute is one u64.
    let asked = unsafe {
        sys::cuDeviceGetGraphMemAttribute(cuda.cuda_stream().context().cu_device(), attribute, (&raw mut bytes).cast())
    };
    // Who does not know it counts what it knows itself.
    asked.result().map_or(0, |()| bytes as usize)
}

/// Gives back what graphs held that are gone.
///
/// # Errors
/// When the driver refuses.
pub fn trim_graph_memory(device: &Device) -> Result<()> {
    let cuda = device.as_cuda_device()?;
    // SAFETY: the device is the context's own.
    unsafe { sys::cuDeviceGraphMemTrim(cuda.cuda_stream().context().cu_device()) }.result().w()
}

/// A stream that records. However it ends, the stream runs again what it is given.
struct Recording(Option<Arc<CudaStream>>);

impl Recording {
    fn begin(stream: Arc<CudaStream>) -> Result<Self> {
        stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED).w()?;
        Ok(Self(Some(stream)))
    }

    fn end(mut self) -> Result<CudaGraph> {
        let Some(stream) = self.0.take() else { candle_core::bail!("graph: it was recorded before") };
        // What a drop could not report; left there, the stream would not be told to stop recording.
        let dropped = stream.context().check_err();
        let ended = stream.end_capture(FLAGS);
        dropped.w()?;
        match ended.w()? {
            Some(graph) => Ok(graph),
            None => candle_core::bail!("graph: nothing was recorded"),
        }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let Some(stream) = self.0.take() else { return };
        // The caller has the error that led here; what follows from it is not the next call's.
        let _ = stream.context().check_err();
        drop(stream.end_capture(FLAGS));
        let _ = stream.context().check_err();
    }
}
