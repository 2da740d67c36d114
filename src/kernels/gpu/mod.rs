//! GPUs: which one is meant, whether it can be used, what is free on it, and work that it does again as one graph.
//!
//! A GPU that was asked for and cannot be used is an error that says why; nothing here falls back to the CPU.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "cuda")]
mod graph;
#[cfg(not(feature = "cuda"))]
mod none;

#[cfg(feature = "cuda")]
pub use cuda::{Mark, memory, open, pinned_copy_rate};
#[cfg(feature = "cuda")]
pub use graph::{Graph, graph_memory, trim_graph_memory, warm_up};
#[cfg(not(feature = "cuda"))]
pub use none::{Graph, Mark, graph_memory, memory, open, pinned_copy_rate, trim_graph_memory, warm_up};

/// Which GPU: its index among those that the driver shows this process (`CUDA_VISIBLE_DEVICES` hides and orders them),
/// or its UUID, as `nvidia-smi -L` prints it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum GpuId {
    /// The index, from 0.
    Index(usize),
    /// The UUID, or the beginning of it: `GPU-8932f937`.
    Uuid(String),
}

impl FromStr for GpuId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(index) = text.parse() {
            return Ok(Self::Index(index));
        }
        match text.strip_prefix("GPU-").is_some_and(|rest| rest.chars().any(|c| c.is_ascii_hexdigit())) {
            true => Ok(Self::Uuid(text.to_owned())),
            false => Err(format!("`{text}` is neither an index nor a UUID such as GPU-8932f937")),
        }
    }
}

impl fmt::Display for GpuId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(index) => write!(f, "{index}"),
            Self::Uuid(uuid) => f.write_str(uuid),
        }
    }
}

/// Why a GPU cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GpuError {
    /// This build has no GPU code.
    #[error("GPU {wanted} was asked for, and this build runs on the CPU only; build it with scripts/build_gpu.sh")]
    NotBuilt {
        /// The GPU asked for.
        wanted: GpuId,
    },
    /// The driver's library cannot be loaded.
    #[error(
        "there is no NVIDIA driver here: libcuda.so.1 cannot be loaded; install the driver, or start the container with \
         the GPU (docker run --gpus all)"
    )]
    NoDriver,
    /// The driver is older than the kernels' compiler.
    #[error(
        "the NVIDIA driver knows CUDA {}.{}, and this build needs {}.{} or newer; update the driver",
        found / 1000, found % 1000 / 10, needed / 1000, needed % 1000 / 10
    )]
    OldDriver {
        /// What it knows: 12040 for 12.4.
        found: u32,
        /// What is needed.
        needed: u32,
    },
    /// No GPU that the process can see is the one asked for.
    #[error("there is no GPU {wanted}; the driver shows: {}", if found.is_empty() { "none".into() } else { found.join(", ") })]
    NoSuchGpu {
        /// The GPU asked for.
        wanted: GpuId,
        /// Index, name and UUID of those there are.
        found: Vec<String>,
    },
    /// The kernels were compiled for another generation.
    #[error(
        "{name} has compute capability {}.{}, and this build's kernels are for {}.{}; build for it with \
         scripts/build_gpu.sh {found}",
        found / 10, found % 10, built / 10, built % 10
    )]
    WrongCapability {
        /// The GPU's name.
        name: String,
        /// Its capability: 89 for 8.9.
        found: u32,
        /// The build's.
        built: u32,
    },
    /// CUDA's libraries are not where the loader looks.
    #[error(
        "cannot load {}; install CUDA 13's libraries, or set LD_LIBRARY_PATH to the folder that holds them (with pip's \
         wheels: site-packages/nvidia/cu13/lib)",
        names.join(", ")
    )]
    MissingLibrary {
        /// The libraries.
        names: Vec<&'static str>,
    },
    /// The driver refused.
    #[error("the NVIDIA driver failed: {detail}; `nvidia-smi` says more")]
    Driver {
        /// What it said.
        detail: String,
    },
}

/// Memory of a GPU, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GpuMemory {
    /// What can still be had.
    pub free: usize,
    /// All of it.
    pub total: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_is_named_by_index_or_uuid() {
        assert_eq!("3".parse(), Ok(GpuId::Index(3)));
        assert_eq!("GPU-8932f937".parse(), Ok(GpuId::Uuid("GPU-8932f937".into())));
        for text in ["", "-1", "gpu0", "GPU-", "cuda:0"] {
            assert!(text.parse::<GpuId>().is_err(), "{text}");
        }
    }

    #[test]
    fn errors_say_what_was_found_and_what_to_do() {
        let text = GpuError::OldDriver { found: 12040, needed: 13000 }.to_string();
        assert!(text.contains("12.4") && text.contains("13.0"), "{text}");
        let text = GpuError::WrongCapability { name: "NVIDIA L4".into(), found: 89, built: 90 }.to_string();
        assert!(text.contains("8.9") && text.contains("scripts/build_gpu.sh 89"), "{text}");
    }

    /// Here there may be no driver, no GPU, or one of another generation: then the answer is an error, never the CPU.
    #[test]
    fn what_cannot_be_used_is_an_error() {
        match open(&GpuId::Index(4096)) {
            Ok(device) => panic!("there is no GPU 4096, and yet {device:?}"),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}
