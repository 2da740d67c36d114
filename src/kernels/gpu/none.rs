use std::convert::Infallible;

use candle_core::{Device, Error};

use super::{GpuError, GpuId, GpuMemory};

/// Work that a GPU does again at one call: in this build there is none.
pub struct Graph(Infallible);

impl Graph {
    /// Refuses: this build has no GPU code.
    ///
    /// # Errors
    /// Always.
    pub fn record<E: From<Error>>(
        _device: &Device,
        _work: impl FnOnce() -> std::result::Result<(), E>,
    ) -> std::result::Result<Self, E> {
        Err(Error::NotCompiledWithCudaSupport.into())
    }

    /// There is none to replay.
    ///
    /// # Errors
    /// Never.
    pub fn replay(&mut self) -> candle_core::Result<()> {
        match self.0 {}
    }
}

/// A place in the order of a GPU's work: in this build there is none.
pub struct Mark(Infallible);

impl Mark {
    /// On the CPU work is done when a call returns.
    ///
    /// # Errors
    /// Never.
    pub fn new(_device: &Device) -> candle_core::Result<Option<Self>> {
        Ok(None)
    }

    /// There is none to reach.
    #[must_use]
    pub fn is_reached(&self) -> bool {
        match self.0 {}
    }
}

/// Runs `work`; there is nothing to prepare.
///
/// # Errors
/// What `work` answers.
pub fn warm_up<T, E: From<Error>>(
    _device: &Device,
    work: impl FnOnce() -> std::result::Result<T, E>,
) -> std::result::Result<T, E> {
    work()
}

/// No graph holds anything.
#[must_use]
pub fn graph_memory(_device: &Device) -> usize {
    0
}

/// Nothing to give back.
///
/// # Errors
/// Never.
pub fn trim_graph_memory(_device: &Device) -> candle_core::Result<()> {
    Ok(())
}

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

/// There is nothing to copy to.
///
/// # Errors
/// Never.
pub fn pinned_copy_rate(_device: &Device, _num_bytes: usize) -> candle_core::Result<Option<f64>> {
    Ok(None)
}
