#![allow(unsafe_code)]

use candle_core::Device;
use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::sys::CUdevice_attribute;
use candle_core::cuda_backend::cudarc::driver::{CudaEvent, DriverError, result, sys};

use super::{GpuError, GpuId, GpuMemory};
use crate::kernels::cuda::{CAPABILITY, is_present};

/// The CUDA version that the kernels are compiled with, as drivers count.
const CUDA_NEEDED: u32 = 13_000;

/// Opens a GPU: its context, one stream, and the libraries that candle uses on it.
///
/// Freed memory is kept by the process for its next allocation, so that a step costs no call to the system.
///
/// # Errors
/// [`GpuError`]: the first thing that is missing, in the order driver, GPU, capability, libraries.
pub fn open(wanted: &GpuId) -> Result<Device, GpuError> {
    if !is_present() {
        return Err(GpuError::NoDriver);
    }
    match result::init() {
        Err(DriverError(sys::CUresult::CUDA_ERROR_NO_DEVICE)) => {
            return Err(GpuError::NoSuchGpu { wanted: wanted.clone(), found: Vec::new() });
        }
        started => started.map_err(failed)?,
    }
    let mut version = 0;
    // SAFETY: the driver writes one number.
    unsafe { sys::cuDriverGetVersion(&raw mut version) }.result().map_err(failed)?;
    let found = u32::try_from(version).unwrap_or(0);
    if found < CUDA_NEEDED {
        return Err(GpuError::OldDriver { found, needed: CUDA_NEEDED });
    }
    let gpus = (0..result::device::get_count().map_err(failed)?).map(Gpu::read).collect::<Result<Vec<_>, _>>()?;
    let Some(gpu) = gpus.iter().find(|gpu| gpu.is(wanted)) else {
        let found = gpus.iter().map(|gpu| format!("{} ({}, {})", gpu.ordinal, gpu.name, gpu.uuid)).collect();
        return Err(GpuError::NoSuchGpu { wanted: wanted.clone(), found });
    };
    // Machine code runs on its own generation, from its own minor version on.
    if gpu.capability / 10 != CAPABILITY / 10 || gpu.capability < CAPABILITY {
        return Err(GpuError::WrongCapability { name: gpu.name.clone(), found: gpu.capability, built: CAPABILITY });
    }
    let names = missing_libraries();
    if !names.is_empty() {
        return Err(GpuError::MissingLibrary { names });
    }
    let device = Device::new_cuda_with_stream(gpu.ordinal as usize).map_err(|error| detail(&error))?;
    if let Device::Cuda(cuda) = &device {
        // SAFETY: everything of this device runs on the one stream that was just made, so order needs no events.
        unsafe { cuda.disable_event_tracking() };
    }
    keep_freed_memory(gpu.device)?;
    Ok(device)
}

/// A place in the order of a GPU's work.
pub struct Mark(CudaEvent);

impl Mark {
    /// Behind all that was launched on `device` so far; `None` on the CPU, where work is done when a call returns.
    ///
    /// # Errors
    /// When the driver refuses, or an earlier launch failed.
    pub fn new(device: &Device) -> candle_core::Result<Option<Self>> {
        let Device::Cuda(cuda) = device else { return Ok(None) };
        Ok(Some(Self(cuda.cuda_stream().record_event(None).w()?)))
    }

    /// Whether the device has come so far, or nowhere any more: then the next call says why.
    #[must_use]
    pub fn is_reached(&self) -> bool {
        self.0.try_is_complete().unwrap_or(true)
    }
}

/// What is free on `device`; `None` on the CPU, or where the driver does not say.
#[must_use]
pub fn memory(device: &Device) -> Option<GpuMemory> {
    let Device::Cuda(cuda) = device else { return None };
    let (free, total) = cuda.cuda_stream().context().mem_get_info().ok()?;
    Some(GpuMemory { free, total })
}

/// Bytes per second that page-locked memory goes to `device` with, over `num_bytes` of them: what loading can come up to.
/// `None` on the CPU.
///
/// # Errors
/// When the memory cannot be had, or the device fails.
pub fn pinned_copy_rate(device: &Device, num_bytes: usize) -> candle_core::Result<Option<f64>> {
    let Device::Cuda(cuda) = device else { return Ok(None) };
    crate::kernels::cuda::pinned_copy_rate(cuda, num_bytes).map(Some)
}

struct Gpu {
    ordinal: i32,
    device: sys::CUdevice,
    name: String,
    uuid: String,
    capability: u32,
}

impl Gpu {
    fn read(ordinal: i32) -> Result<Self, GpuError> {
        let device = result::device::get(ordinal).map_err(failed)?;
        // SAFETY: the device was just given by the driver.
        let attribute = |which| unsafe { result::device::get_attribute(device, which) }.map_err(failed);
        let major = attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
        let minor = attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
        Ok(Self {
            ordinal,
            device,
            name: result::device::get_name(device).map_err(failed)?,
            uuid: uuid_text(result::device::get_uuid(device).map_err(failed)?),
            capability: (major * 10 + minor) as u32,
        })
    }

    fn is(&self, wanted: &GpuId) -> bool {
        match wanted {
            GpuId::Index(index) => self.ordinal as usize == *index,
            GpuId::Uuid(uuid) => self.uuid.starts_with(uuid.as_str()),
        }
    }
}

/// As `nvidia-smi -L` prints it.
fn uuid_text(uuid: sys::CUuuid) -> String {
    let hex: String = uuid.bytes.iter().map(|byte| format!("{:02x}", *byte as u8)).collect();
    format!("GPU-{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// Libraries beside the driver's that cannot be loaded. A binary that is linked to them does not start without.
fn missing_libraries() -> Vec<&'static str> {
    #[cfg(cudarc_dynload)]
    {
        use candle_core::cuda_backend::cudarc::{cublas, curand};
        // SAFETY: these only try to open the libraries.
        let found = unsafe {
            [("libcublas.so.13", cublas::sys::is_culib_present()), ("libcurand.so.10", curand::sys::is_culib_present())]
        };
        found.into_iter().filter(|(_, is_present)| !is_present).map(|(name, _)| name).collect()
    }
    #[cfg(not(cudarc_dynload))]
    Vec::new()
}

/// Without this, the driver takes freed memory back whenever the stream is waited for.
fn keep_freed_memory(device: sys::CUdevice) -> Result<(), GpuError> {
    let mut keep = u64::MAX;
    // SAFETY: the device is the driver's own; the attribute is one u64.
    unsafe {
        let pool = result::device::get_default_mem_pool(device).map_err(failed)?;
        let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        sys::cuMemPoolSetAttribute(pool, attribute, (&raw mut keep).cast()).result().map_err(failed)
    }
}

fn failed(error: DriverError) -> GpuError {
    detail(&error)
}

fn detail(error: &dyn std::fmt::Display) -> GpuError {
    GpuError::Driver { detail: error.to_string() }
}
