//! A vector of words whose place on its device stays while its content changes: what recorded work reads.

use candle_core::{DType, Device, Result, Tensor, bail};

/// `[len]` u32 on a device.
pub struct FixedVector {
    words: Tensor,
    #[cfg(feature = "cuda")]
    staging: Option<super::cuda::Staging>,
}

impl FixedVector {
    /// Zeros.
    ///
    /// # Errors
    /// When the device cannot hold them.
    pub fn new(len: usize, device: &Device) -> Result<Self> {
        Ok(Self {
            words: Tensor::zeros(len, DType::U32, device)?,
            #[cfg(feature = "cuda")]
            staging: match device {
                Device::Cuda(device) => Some(super::cuda::Staging::new(len, device)?),
                _ => None,
            },
        })
    }

    /// The vector; views of it see what it is filled with.
    pub fn tensor(&self) -> &Tensor {
        &self.words
    }

    /// Writes all of it, after whatever was launched before. On a GPU the copy is one, from pages that are its own, and
    /// the call returns before it is done.
    ///
    /// # Errors
    /// When there are not as many `words`, or the device fails.
    pub fn fill(&mut self, words: &[u32]) -> Result<()> {
        if words.len() != self.words.elem_count() {
            bail!("fixed_vector: {} words for a vector of {}", words.len(), self.words.elem_count())
        }
        #[cfg(feature = "cuda")]
        if let Some(staging) = &mut self.staging {
            return staging.copy(words, &self.words);
        }
        self.words.slice_set(&Tensor::new(words, &Device::Cpu)?, 0, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::devices;

    #[test]
    fn views_see_what_it_is_filled_with() -> Result<()> {
        for device in devices() {
            let mut vector = FixedVector::new(5, &device)?;
            let view = vector.tensor().narrow(0, 2, 2)?;
            for words in [[1, 2, 3, 4, 5], [u32::MAX, 0, 7, 8, 9]] {
                vector.fill(&words)?;
                assert_eq!(view.to_vec1::<u32>()?, words[2..4]);
            }
            assert!(vector.fill(&[1, 2, 3, 4]).is_err());
        }
        Ok(())
    }
}
