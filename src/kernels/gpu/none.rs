use candle_core::Device;

use super::{GpuError, GpuId, GpuMemory};

/// Refuses: this build has no GPU code.
///
/// # Errors
/// Always [`GpuError::NotBuilt`].
pub fn open(wanted: &GpuId) -> Result<Device, GpuError> {
    Err(GpuError::NotBuilt { wanted: wanted.clone() })
}

/// What is free on `device`; `None` on the CPU, which is all there is.
#[must_use]
pub fn memory(_device: &Device) -> Option<GpuMemory> {
    None
}
