//! What the tests of kernels share: every device there is, and numbers for inputs.

use candle_core::{Device, Result, Tensor};

use super::gpu::{self, GpuId};
use super::{StagingConfig, Uploader};

/// The CPU, and on a machine with a GPU of the build's capability that GPU: one test body for both.
pub(crate) fn devices() -> Vec<Device> {
    let mut devices = vec![Device::Cpu];
    match gpu::open(&GpuId::Index(0)) {
        Ok(gpu) => devices.push(gpu),
        // Where a GPU is what the run is about, its absence is no success.
        Err(error) => assert!(std::env::var_os("ANANKE_REQUIRE_GPU").is_none(), "{error}"),
    }
    devices
}

/// An uploader to `device`, with small buffers.
///
/// # Errors
/// When the device refuses.
pub(crate) fn uploader(device: &Device) -> Result<Uploader> {
    Uploader::new(device, &StagingConfig { num_buffers: 2, buffer_bytes: 64 << 10 })
}

/// `len` numbers between -1 and 1.
pub(crate) fn noise(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// Holds `ys` to `expected`: the largest difference over the largest expected value is at most `tolerance`, and NaN
/// never passes.
///
/// # Panics
/// When it does not hold.
pub(crate) fn assert_close(ys: &Tensor, expected: &Tensor, tolerance: f32, what: &str) -> Result<()> {
    let flat = |xs: &Tensor| -> Result<Vec<f32>> {
        xs.to_device(&Device::Cpu)?.to_dtype(candle_core::DType::F32)?.flatten_all()?.to_vec1()
    };
    assert_eq!(ys.dims(), expected.dims(), "{what}");
    let (ys, expected) = (flat(ys)?, flat(expected)?);
    let largest = expected.iter().fold(0f32, |largest, y| largest.max(y.abs()));
    let worst = ys
        .iter()
        .zip(&expected)
        .map(|(y, expected)| (y - expected).abs())
        .fold(0f32, |worst, difference| if difference.is_nan() { f32::INFINITY } else { worst.max(difference) });
    assert!(worst <= tolerance * largest, "{what}: off by {worst} of {largest}");
    Ok(())
}
