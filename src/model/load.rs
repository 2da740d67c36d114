use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use candle_core::Device;

use super::config::{self, Keys, LlamaConfig};
use super::deepseek_config::DeepseekV2Config;
use super::deepseek_v2::DeepseekV2;
use super::dummy::DummyWeights;
use super::gguf::{GgufFile, GgufWeights};
use super::layers::{Loader, Weights};
use super::llama::Llama;
use super::mapped::MappedFile;
use super::safetensors::{self, SafetensorsWeights};
use super::weight::QuantLayout;
use super::{Collective, GraphConfig, LanguageModel, ModelError, OneRank, Quantization};
use crate::kernels::StagingConfig;

/// Where a model comes from.
#[derive(Clone, Copy, Debug)]
pub enum WeightSource<'a> {
    /// A `.gguf` file, or a folder as [`ModelFiles::locate`] knows it.
    Path(&'a Path),
    /// A config.json and a safetensors file in memory: the embedded model.
    Bytes {
        /// The bytes of config.json.
        config_json: &'a [u8],
        /// The bytes of model.safetensors.
        safetensors: &'a [u8],
    },
    /// A config.json alone: weights of its shapes are made up, for timing. They are bf16, or of the layout that the
    /// options ask for, which is then F32, BF16, Q4_0, Q5_0, Q8_0, Q4K or
    /// F8E4M3.
    Dummy {
        /// The bytes of config.json.
        config_json: &'a [u8],
    },
}

/// How a model is loaded.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Where it will run.
    pub device: Device,
    /// The layout its matrices are turned into; `None` keeps each as it is stored. `F32` dequantizes a GGUF file,
    /// `Q8_0` quantizes any checkpoint whose rows are multiples of 32. K-quants give way to blocks of 32 where rows are no
    /// multiples of 256.
    pub layout: Option<QuantLayout>,
    /// What the matrices are rounded to, from the layout above, which must be one of full precision; what that changed is
    /// in [`ModelInfo::quantization`](super::ModelInfo::quantization).
    pub quantize: Option<Quantization>,
    /// Decode steps that are recorded once and replayed, where the device can; `None` runs every step launch by launch.
    pub graphs: Option<GraphConfig>,
    /// A row's logits must not depend on what else is in the batch, nor on how its prompt is cut. A CPU always holds to
    /// it; a GPU takes one body for any number of rows, which costs prompts and mid-sized batches time, and takes
    /// K-quants apart into blocks of 4 to 16 bits, which costs memory.
    pub batch_invariant: bool,
    /// The ranks that the matrices are divided among, of which this is one; only its part of each is read.
    pub collective: Arc<dyn Collective>,
    /// What tensors pass through on their way to a GPU.
    pub staging: StagingConfig,
    /// Who hears how far it is; nobody by default.
    pub progress: Option<Arc<dyn LoadProgress>>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            device: Device::Cpu,
            layout: None,
            quantize: None,
            graphs: None,
            batch_invariant: false,
            collective: Arc::new(OneRank),
            staging: StagingConfig::default(),
            progress: None,
        }
    }
}

/// Hears how far a model is being loaded, on the thread that loads it; so answers are to come at once.
pub trait LoadProgress: fmt::Debug + Send + Sync {
    /// Of `total` bytes, where that is known, `done` have been asked for; called for every tensor.
    fn advance(&self, done: u64, total: Option<u64>);

    /// Everything is on the device.
    fn finish(&self, report: &LoadReport);
}

/// What loading a model took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LoadReport {
    /// Bytes that were read of its checkpoint, or made up.
    pub num_bytes: u64,
    /// From the first tensor until all were on the device, with what was done to them on the way.
    pub duration: Duration,
}

impl LoadReport {
    /// Bytes per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.num_bytes as f64 / self.duration.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

impl fmt::Display for LoadReport {
    /// Gigabytes, seconds, and gigabytes per second.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (gigabytes, seconds) = (self.num_bytes as f64 / 1e9, self.duration.as_secs_f64());
        write!(f, "{gigabytes:.2} GB in {seconds:.1} s ({:.2} GB/s)", self.rate() / 1e9)
    }
}

/// The files of a model on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelFiles {
    /// One GGUF file, with everything in it.
    Gguf(PathBuf),
    /// A folder with config.json, the tokenizer's files beside it, and its safetensors files.
    Safetensors {
        /// The folder.
        folder: PathBuf,
        /// The weights, in the order of their names.
        weights: Vec<PathBuf>,
    },
}

impl ModelFiles {
    /// Finds the model at `path`: a `.gguf` file, a folder with config.json and safetensors, or a folder with exactly
    /// one `.gguf` file.
    ///
    /// # Errors
    /// [`ModelError::NoModel`] when there is none; [`ModelError::Read`] when the path cannot be read.
    pub fn locate(path: &Path) -> Result<Self, ModelError> {
        let failed = |source| ModelError::Read { path: path.into(), source };
        if std::fs::metadata(path).map_err(failed)?.is_file() {
            return match is_gguf(path) {
                true => Ok(Self::Gguf(path.into())),
                false => Err(ModelError::NoModel { path: path.into() }),
            };
        }
        if path.join("config.json").is_file() {
            return Ok(Self::Safetensors { folder: path.into(), weights: safetensors::files(path)? });
        }
        let entries = std::fs::read_dir(path).map_err(failed)?;
        let paths: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_, _>>().map_err(failed)?;
        let mut ggufs = paths.into_iter().filter(|path| is_gguf(path));
        match (ggufs.next(), ggufs.next()) {
            (Some(gguf), None) => Ok(Self::Gguf(gguf)),
            _ => Err(ModelError::NoModel { path: path.into() }),
        }
    }
}

fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "gguf")
}

/// Loads a model: finds its files, reads its configuration, and brings its weights to the device.
///
/// # Errors
/// Says which file, which key or which tensor, and what was expected.
pub fn load(source: WeightSource<'_>, options: &LoadOptions) -> Result<Box<dyn LanguageModel>, ModelError> {
    match source {
        WeightSource::Bytes { config_json, safetensors } => {
            let shape = ModelShape::from_json(config_json, "embedded config.json")?;
            let weights = SafetensorsWeights::new([("embedded model.safetensors".to_owned(), safetensors)])?;
            shape.build(&weights, options)
        }
        WeightSource::Dummy { config_json } => {
            let shape = ModelShape::from_json(config_json, "config.json")?;
            let weights = DummyWeights::new(options.layout.unwrap_or(QuantLayout::BF16))?;
            shape.build(&weights, options)
        }
        WeightSource::Path(path) => match ModelFiles::locate(path)? {
            ModelFiles::Gguf(path) => {
                let file = GgufFile::open(&path)?;
                let (shape, weights) = ModelShape::from_gguf(&file)?;
                shape.build(&weights, options)
            }
            ModelFiles::Safetensors { folder, weights } => {
                let path = folder.join("config.json");
                let json = std::fs::read(&path).map_err(|source| ModelError::Read { path: path.clone(), source })?;
                let shape = ModelShape::from_json(&json, &path.display().to_string())?;
                let files: Vec<MappedFile> =
                    weights.iter().map(|path| MappedFile::open(path)).collect::<Result<_, _>>()?;
                let weights = SafetensorsWeights::new(files.iter().map(|file| (file.name(), &file[..])))?;
                shape.build(&weights, options)
            }
        },
    }
}

/// What a checkpoint says of its model.
enum ModelShape {
    Llama(LlamaConfig),
    DeepseekV2(DeepseekV2Config),
}

impl ModelShape {
    fn from_json(json: &[u8], file: &str) -> Result<Self, ModelError> {
        let root = config::parse(json, file)?;
        let keys = Keys::new(&root, file);
        Ok(match keys.architecture()?.as_str() {
            "deepseek_v2" => Self::DeepseekV2(DeepseekV2Config::from_json(&keys)?),
            _ => Self::Llama(LlamaConfig::from_json(&keys)?),
        })
    }

    /// A GGUF file's weights have names and an order that depend on the architecture.
    fn from_gguf(file: &GgufFile) -> Result<(Self, GgufWeights<'_>), ModelError> {
        if file.architecture()? == "deepseek2" {
            let config = DeepseekV2Config::from_gguf(file)?;
            let weights = file.expert_weights(config.n_routed_experts);
            return Ok((Self::DeepseekV2(config), weights));
        }
        let config = file.config()?;
        let weights = file.weights(&config);
        Ok((Self::Llama(config), weights))
    }

    fn build(&self, weights: &dyn Weights, options: &LoadOptions) -> Result<Box<dyn LanguageModel>, ModelError> {
        let loader = Loader::new(weights, options)?;
        Ok(match self {
            Self::Llama(config) => Box::new(Llama::load(config, &loader)?),
            Self::DeepseekV2(config) => Box::new(DeepseekV2::load(config, &loader)?),
        })
    }
}
