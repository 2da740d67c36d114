use std::ops::Range;
use std::path::PathBuf;

use super::{QuantLayout, Quantization};

/// Why a model could not be loaded or run.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A file could not be opened or read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// A path that holds nothing loadable.
    #[error(
        "{} holds no model: give a .gguf file, or a folder with config.json and model.safetensors, \
         model.safetensors.index.json or one .gguf file",
        path.display()
    )]
    NoModel {
        /// The path that was given.
        path: PathBuf,
    },
    /// A file that is not what it should be: not JSON, a broken header, shorter than its header says.
    #[error("{file} is damaged or incomplete: {detail}; fetch it again")]
    Damaged {
        /// The file.
        file: String,
        /// What is wrong.
        detail: String,
    },
    /// A configuration key that is needed and absent.
    #[error("{file} has no `{key}`")]
    MissingKey {
        /// The file.
        file: String,
        /// The key.
        key: String,
    },
    /// A configuration key with a value that cannot be used.
    #[error("{file}: `{key}` is {found}, expected {expected}")]
    InvalidKey {
        /// The file.
        file: String,
        /// The key.
        key: String,
        /// The value found.
        found: String,
        /// What would do.
        expected: String,
    },
    /// An architecture this build cannot run.
    #[error("{file}: architecture `{found}` is not supported; supported: {}", supported.join(", "))]
    UnsupportedArchitecture {
        /// The file that names it.
        file: String,
        /// The name found.
        found: String,
        /// The names that would do.
        supported: &'static [&'static str],
    },
    /// A kind of rotary position scaling this build does not compute.
    #[error("{file}: rope type `{found}` is not supported; supported: {}", supported.join(", "))]
    UnsupportedRope {
        /// The file that names it.
        file: String,
        /// The name found.
        found: String,
        /// The names that would do.
        supported: &'static [&'static str],
    },
    /// A tensor the architecture needs and the file does not have.
    #[error("{file} has no tensor `{tensor}` (expected shape {expected:?})")]
    MissingTensor {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// The shape it should have.
        expected: Vec<usize>,
    },
    /// A tensor whose shape contradicts the configuration.
    #[error("{file}: tensor `{tensor}` has shape {found:?}, the configuration expects {expected:?}")]
    TensorShape {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// The shape the configuration implies.
        expected: Vec<usize>,
        /// The shape in the file.
        found: Vec<usize>,
    },
    /// A tensor stored in a form that cannot be computed with.
    #[error("{file}: tensor `{tensor}` is stored as {found}; supported: {supported}")]
    TensorLayout {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// How it is stored.
        found: String,
        /// What would do.
        supported: &'static str,
    },
    /// Quantization on load, of weights that are quantized already.
    #[error(
        "tensor `{tensor}` is stored as {found:?}: rounding it to {asked} would lose more and save little; \
         leave --quantize out, or take a checkpoint in bf16, f16 or f32"
    )]
    AlreadyQuantized {
        /// The tensor.
        tensor: String,
        /// How it is stored.
        found: QuantLayout,
        /// What was asked for.
        asked: Quantization,
    },
    /// A batch that contradicts itself or the KV cache.
    #[error("invalid batch: {detail}")]
    InvalidBatch {
        /// The contradiction.
        detail: String,
    },
    /// A block index outside the KV cache.
    #[error("block {block_idx} is outside the KV cache of {num_blocks} blocks")]
    BlockOutOfRange {
        /// The index.
        block_idx: u32,
        /// How many blocks there are.
        num_blocks: usize,
    },
    /// A GPU has not the memory for what is to be put there.
    #[error(
        "{what} takes {} MiB, and GPU memory has {} MiB free of {} MiB; {advice}",
        needed >> 20, free >> 20, total >> 20
    )]
    NotEnoughMemory {
        /// What would be put there.
        what: String,
        /// Bytes it takes.
        needed: usize,
        /// Bytes that are free.
        free: usize,
        /// Bytes there are.
        total: usize,
        /// What to change.
        advice: &'static str,
    },
    /// Bounds on recorded decode steps that cannot be kept.
    #[error("decode graphs: `{field}` is {found}, expected {expected}")]
    GraphConfig {
        /// The field of [`super::GraphConfig`].
        field: &'static str,
        /// Its value.
        found: String,
        /// What would do.
        expected: &'static str,
    },
    /// A tensor that did not get to the device.
    #[error("cannot bring {} to the device: {source}", tensors.join(", "))]
    Upload {
        /// The tensor, or those that were to lie together.
        tensors: Vec<String>,
        /// What the device said.
        #[source]
        source: candle_core::Error,
    },
    /// A rank that is none of its ranks.
    #[error("rank {rank} of {num_ranks}: ranks are counted from 0, and there is at least one")]
    InvalidShard {
        /// The rank.
        rank: usize,
        /// How many there are.
        num_ranks: usize,
    },
    /// What ranks cannot divide evenly.
    #[error("{num_ranks} ranks cannot share `{what}` of {len} evenly; take a number of ranks that divides it")]
    UnevenShards {
        /// The key of the configuration.
        what: &'static str,
        /// Its value.
        len: usize,
        /// How many ranks there are.
        num_ranks: usize,
    },
    /// A rank's columns that begin or end inside a block of weights.
    #[error(
        "tensor `{tensor}` is stored as {layout:?}, {} columns to a block, and a rank's columns {}..{} cut one; take fewer \
         ranks, or a checkpoint in bf16, f16 or f32",
        layout.block_len(), columns.start, columns.end
    )]
    ShardCutsBlock {
        /// The tensor.
        tensor: String,
        /// How it is stored.
        layout: QuantLayout,
        /// The columns.
        columns: Range<usize>,
    },
    /// The device failed, or a kernel refused its operands.
    #[error(transparent)]
    Compute(#[from] candle_core::Error),
}

impl ModelError {
    /// The same failure of a device, with the name of the tensor that was on its way.
    pub(crate) fn of_tensor(self, name: &str) -> Self {
        self.of_tensors(name, [""])
    }

    /// The same failure of a device, with the names of the tensors that were on their way: `prefix` and each of `names`.
    pub(crate) fn of_tensors<'a>(self, prefix: &str, names: impl IntoIterator<Item = &'a str>) -> Self {
        match self {
            Self::Compute(source) => {
                Self::Upload { tensors: names.into_iter().map(|name| format!("{prefix}{name}")).collect(), source }
            }
            other => other,
        }
    }
}
