//! How tensors come from the host to the device that computes with them.
#![allow(unsafe_code)]

#[cfg(feature = "cuda")]
use std::cell::RefCell;

use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{DType, Device, Result, Tensor};

#[cfg(feature = "cuda")]
use super::cuda;
use super::staging::StagingConfig;

/// Brings tensors to one device, by one thread.
///
/// On a GPU bytes go through page-locked buffers on a stream of their own (see [`StagingConfig`]), and calls return while
/// they are on their way: whatever is launched afterwards finds them there. On a CPU they are copied.
pub struct Uploader {
    device: Device,
    #[cfg(feature = "cuda")]
    ring: Option<RefCell<cuda::UploadRing>>,
}

impl Uploader {
    /// Page-locks the buffers that `config` asks for, on a GPU; they are given back when this is dropped.
    ///
    /// # Errors
    /// When a field of `config` is 0, or the system does not lock as much memory.
    pub fn new(device: &Device, config: &StagingConfig) -> Result<Self> {
        config.check()?;
        Ok(Self {
            device: device.clone(),
            #[cfg(feature = "cuda")]
            ring: match device {
                Device::Cuda(device) => Some(RefCell::new(cuda::upload_ring(device, config)?)),
                _ => None,
            },
        })
    }

    /// Where tensors go.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// A tensor of the elements whose bytes `pieces` are, one behind the other; `dtype` is F32, BF16 or U8.
    ///
    /// # Errors
    /// When they are not as many as `shape` has, the device has no room for them, or a copy failed, this one or an earlier.
    pub fn tensor(&self, pieces: &[&[u8]], dtype: DType, shape: &[usize]) -> Result<Tensor> {
        let (found, expected) = (pieces.iter().map(|piece| piece.len()).sum::<usize>(), num_bytes(dtype, shape));
        if found != expected {
            candle_core::bail!("uploader: {found} bytes for {dtype:?} of shape {shape:?}, which takes {expected}")
        }
        #[cfg(feature = "cuda")]
        if let (Device::Cuda(device), Some(ring)) = (&self.device, &self.ring) {
            return cuda::upload(&mut ring.borrow_mut(), device, pieces, dtype, shape);
        }
        match pieces {
            [bytes] => Tensor::from_raw_buffer(bytes, dtype, shape, &self.device),
            pieces => Tensor::from_raw_buffer(&pieces.concat(), dtype, shape, &self.device),
        }
    }

    /// A tensor of `values`, as many as `shape` has.
    ///
    /// # Errors
    /// As [`Uploader::tensor`].
    pub fn values(&self, values: Vec<f32>, shape: &[usize]) -> Result<Tensor> {
        if self.device.is_cpu() {
            return Tensor::from_vec(values, shape, &self.device);
        }
        // SAFETY: these are the bytes of numbers that live until the call returns, and bytes may hold anything.
        let bytes = unsafe { std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), size_of_val(values.as_slice())) };
        self.tensor(&[bytes], DType::F32, shape)
    }

    /// The same of blocks that candle multiplies; on a CPU they begin at a multiple of 8 bytes.
    ///
    /// # Errors
    /// As [`Uploader::tensor`]; and when rows of `shape` are no whole blocks.
    pub fn blocks(&self, bytes: &[u8], dtype: GgmlDType, shape: &[usize]) -> Result<QTensor> {
        #[cfg(feature = "cuda")]
        if let (Device::Cuda(device), Some(ring)) = (&self.device, &self.ring) {
            return cuda::upload_blocks(&mut ring.borrow_mut(), device, bytes, dtype, shape);
        }
        QTensor::new(QStorage::from_data(bytes.into(), &self.device, dtype)?, shape)
    }

    /// Returns when everything has arrived.
    ///
    /// # Errors
    /// When a copy failed.
    pub fn finish(&self) -> Result<()> {
        #[cfg(feature = "cuda")]
        if let Some(ring) = &self.ring {
            return ring.borrow_mut().drain();
        }
        Ok(())
    }
}

fn num_bytes(dtype: DType, shape: &[usize]) -> usize {
    shape.iter().product::<usize>() * dtype.size_in_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::devices;

    #[test]
    fn tensors_arrive_as_they_were_however_they_are_cut() -> Result<()> {
        let values: Vec<f32> = (0..6000).map(|i| i as f32 / 7.0 - 300.0).collect();
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        // Buffers much smaller than the tensors.
        let config = StagingConfig { num_buffers: 3, buffer_bytes: 1000 };
        for device in devices() {
            let uploader = Uploader::new(&device, &config)?;
            let whole = uploader.tensor(&[&bytes], DType::F32, &[60, 100])?;
            let (first, second) = bytes.split_at(4321);
            let cut = uploader.tensor(&[first, &[], second], DType::F32, &[6000])?;
            let raw = uploader.tensor(&[&bytes[..77]], DType::U8, &[77])?;
            let halves = uploader.tensor(&[&bytes[..24]], DType::BF16, &[3, 4])?;
            // Before `finish`: the device waits for what it needs.
            assert_eq!(whole.flatten_all()?.to_vec1::<f32>()?, values);
            uploader.finish()?;
            assert_eq!(cut.to_vec1::<f32>()?, values);
            assert_eq!(raw.to_vec1::<u8>()?, bytes[..77]);
            assert_eq!((halves.dims(), halves.dtype()), (&[3, 4][..], DType::BF16));
            assert!(uploader.tensor(&[&bytes[..23]], DType::BF16, &[3, 4]).is_err());
        }
        Ok(())
    }

    #[test]
    fn blocks_arrive_as_they_were() -> Result<()> {
        let values = Tensor::arange(0f32, 512f32, &Device::Cpu)?.reshape((2, 256))?;
        let expected = QTensor::quantize(&values, GgmlDType::Q4K)?;
        let bytes = expected.data()?.into_owned();
        for device in devices() {
            let uploader = Uploader::new(&device, &StagingConfig { num_buffers: 2, buffer_bytes: 100 })?;
            let blocks = uploader.blocks(&bytes, GgmlDType::Q4K, &[2, 256])?;
            uploader.finish()?;
            assert_eq!(blocks.data()?, bytes);
        }
        Ok(())
    }
}
