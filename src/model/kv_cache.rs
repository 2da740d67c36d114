use std::sync::atomic::{AtomicU64, Ordering};

use candle_core::{DType, Device, Tensor};

use super::ModelError;
use crate::kernels::gpu::{self, GpuMemory};

/// What one token leaves behind in every layer: the planes a model keeps, declared by the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvSpec {
    /// Layers that keep planes; all keep the same ones.
    pub num_layers: usize,
    /// The planes of one layer: keys and values, or a latent with its rotary part behind it.
    pub planes: Vec<PlaneSpec>,
    /// How elements are stored.
    pub dtype: DType,
}

/// One plane of a [`KvSpec`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlaneSpec {
    /// What it holds, for messages.
    pub name: &'static str,
    /// Elements per token and layer.
    pub width: usize,
}

impl KvSpec {
    /// Bytes that one token takes over all layers and planes.
    pub fn bytes_per_token(&self) -> usize {
        let width: usize = self.planes.iter().map(|plane| plane.width).sum();
        self.num_layers * width * self.dtype.size_in_bytes()
    }

    /// Bytes that one block of `block_len` tokens takes over all layers and planes.
    pub fn bytes_per_block(&self, block_len: usize) -> usize {
        self.bytes_per_token() * block_len
    }
}

/// The planes themselves, on the model's device: `[num_blocks * block_len, width]` per layer and plane.
///
/// Which blocks are free, shared or cached is the engine's business; here are only the bytes.
///
/// On a GPU there is one block more, for rows that nobody asked for: a decode step is filled up to a size that was
/// recorded.
pub struct KvCache {
    id: u64,
    spec: KvSpec,
    num_blocks: usize,
    block_len: usize,
    planes: Vec<Vec<Tensor>>,
}

/// Numbers caches, so that what was recorded over one is never replayed over another.
static NUM_CACHES: AtomicU64 = AtomicU64::new(0);

impl KvCache {
    /// Allocates zeroed planes: `num_blocks * spec.bytes_per_block(block_len)` bytes, which on CPU the system
    /// commits only as they are written.
    ///
    /// # Errors
    /// [`ModelError::NotEnoughMemory`] when the device cannot hold them.
    pub fn new(spec: &KvSpec, num_blocks: usize, block_len: usize, device: &Device) -> Result<Self, ModelError> {
        let num_kept = num_blocks + Self::num_scratch_blocks(device);
        let needed = num_kept.saturating_mul(spec.bytes_per_block(block_len));
        if let Some(GpuMemory { free, total }) = gpu::memory(device)
            && needed > free
        {
            let bytes = spec.bytes_per_token();
            let what = format!("a KV cache of {num_blocks} blocks of {block_len} tokens at {bytes} bytes each");
            let advice = "give --kv-memory less, or --max-num-seqs and --max-model-len";
            return Err(ModelError::NotEnoughMemory { what, needed, free, total, advice });
        }
        let plane = |plane: &PlaneSpec| Tensor::zeros((num_kept * block_len, plane.width), spec.dtype, device);
        let layer = |_| spec.planes.iter().map(plane).collect::<Result<Vec<_>, _>>();
        let planes = (0..spec.num_layers).map(layer).collect::<Result<_, _>>()?;
        let id = NUM_CACHES.fetch_add(1, Ordering::Relaxed);
        Ok(Self { id, spec: spec.clone(), num_blocks, block_len, planes })
    }

    /// Blocks that a cache on `device` has beside those asked for.
    #[must_use]
    pub fn num_scratch_blocks(device: &Device) -> usize {
        usize::from(!device.is_cpu())
    }

    /// The block that no sequence has; on a CPU there is none.
    pub(crate) fn scratch_block(&self) -> u32 {
        self.num_blocks as u32
    }

    /// Different for every cache of the process.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Copies every plane of block `from` over block `to` in every layer: the copy of copy-on-write.
    ///
    /// # Errors
    /// [`ModelError::BlockOutOfRange`], or the device's own failure.
    pub fn copy_block(&mut self, from: u32, to: u32) -> Result<(), ModelError> {
        for block_idx in [from, to] {
            if block_idx as usize >= self.num_blocks {
                return Err(ModelError::BlockOutOfRange { block_idx, num_blocks: self.num_blocks });
            }
        }
        if from == to {
            return Ok(());
        }
        let (from, to) = (from as usize * self.block_len, to as usize * self.block_len);
        for plane in self.planes.iter().flatten() {
            let rows = plane.narrow(0, from, self.block_len)?.copy()?;
            plane.slice_set(&rows, 0, to)?;
        }
        Ok(())
    }

    /// How many blocks there are.
    pub fn num_blocks(&self) -> usize {
        self.num_blocks
    }

    /// Tokens per block.
    pub fn block_len(&self) -> usize {
        self.block_len
    }

    /// What the planes hold.
    pub fn spec(&self) -> &KvSpec {
        &self.spec
    }

    /// The planes of one layer, in the order of [`KvSpec::planes`].
    pub(crate) fn layer(&self, layer_idx: usize) -> &[Tensor] {
        &self.planes[layer_idx]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> KvSpec {
        let planes = vec![PlaneSpec { name: "keys", width: 3 }, PlaneSpec { name: "values", width: 3 }];
        KvSpec { num_layers: 2, planes, dtype: DType::F32 }
    }

    #[test]
    fn a_block_costs_every_plane_of_every_layer() {
        assert_eq!(spec().bytes_per_token(), 2 * 6 * 4);
        assert_eq!(spec().bytes_per_block(16), 16 * 48);
    }

    #[test]
    fn a_copied_block_holds_the_same_rows_and_leaves_the_others() -> Result<(), ModelError> {
        let mut cache = KvCache::new(&spec(), 3, 2, &Device::Cpu)?;
        let rows = Tensor::arange(1f32, 7f32, &Device::Cpu)?.reshape((2, 3))?;
        cache.layer(1)[0].slice_set(&rows, 0, 0)?;
        cache.copy_block(0, 2)?;
        let plane = cache.layer(1)[0].to_vec2::<f32>()?;
        assert_eq!(plane[4..6], plane[0..2]);
        assert_eq!(plane[2..4], [[0.0; 3], [0.0; 3]]);
        assert!(matches!(cache.copy_block(0, 3), Err(ModelError::BlockOutOfRange { block_idx: 3, num_blocks: 3 })));
        Ok(())
    }
}
