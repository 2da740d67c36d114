//! Opening a model: from a name or a path to a running [`Maze`].

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::backend::Backend;
use super::weights::WeightsDigest;
use super::{Error, Maze, MazeConfig, ModelCard};
use crate::cache::{CacheConfig, Tiers};
use crate::constraint::Digest;
use crate::engine::{Engine, EngineConfig};
use crate::guide::{Guide, GuideConfig};
use crate::hub::{self, HubOptions};
use crate::model::{
    self, GgufFile, GpuId, GraphConfig, KvCache, LanguageModel, LoadOptions, LoadProgress, ModelFiles, ModelInfo,
    Quantization, WeightSource,
};
use crate::remote::{self, BackendConfig};
use crate::text::{ConfigFiles, GgufVocab, Tokenizer, TokenizerConfig};

/// KV memory on the CPU when nothing else is said: 2 GiB.
const KV_BYTES_DEFAULT: u64 = 2 << 30;
/// Of what a GPU has left beside the weights, the KV cache takes this many hundredths when nothing else is said; the
/// rest is for a step's activations.
const KV_GPU_PERCENT: u64 = 85;

/// Where a model comes from.
#[derive(Clone, Debug)]
pub enum ModelSource {
    /// Compiled into the program.
    Embedded(EmbeddedModel),
    /// A folder or a .gguf file.
    Path(PathBuf),
    /// A repository of a model hub, such as `deepseek-ai/deepseek-coder-1.3b-instruct`.
    Repository(String),
    /// A model behind an address.
    Remote(Box<BackendConfig>),
    /// A folder with config.json and a tokenizer, whose weights are made up: for timing.
    Dummy(PathBuf),
}

/// The files of a model that is compiled into the program.
#[derive(Clone, Copy)]
pub struct EmbeddedModel {
    /// Its name.
    pub name: &'static str,
    /// config.json
    pub config: &'static [u8],
    /// generation_config.json
    pub generation_config: &'static [u8],
    /// tokenizer.json
    pub tokenizer: &'static [u8],
    /// tokenizer_config.json
    pub tokenizer_config: &'static [u8],
    /// model.safetensors
    pub weights: &'static [u8],
}

impl std::fmt::Debug for EmbeddedModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EmbeddedModel({}, {} bytes)", self.name, self.weights.len())
    }
}

/// How to open a model.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// Which.
    pub source: ModelSource,
    /// The GPU to run on; `None` runs on the CPU.
    pub gpu: Option<GpuId>,
    /// What weights are rounded to while they are loaded; `None` keeps them as they are stored.
    pub quantize: Option<Quantization>,
    /// Decode steps that the GPU records and replays; `None` runs every step launch by launch.
    pub decode_graphs: Option<GraphConfig>,
    /// Whether a row's bits must not depend on what runs beside it, on a GPU too.
    pub batch_invariant: bool,
    /// Who hears how far the weights are loaded; nobody by default.
    pub progress: Option<Arc<dyn LoadProgress>>,
    /// Never open a connection.
    pub offline: bool,
    /// Positions of a sequence; at most, and by default, the model's own.
    pub context_len_max: Option<usize>,
    /// Bytes of the KV cache; by default enough for all sequences at full length, at most 2 GiB.
    pub kv_bytes: Option<u64>,
    /// The engine's bounds; `num_blocks` follows from `kv_bytes`.
    pub engine: EngineConfig,
    /// The guide's bounds.
    pub guide: GuideConfig,
    /// The bounds on requests.
    pub maze: MazeConfig,
    /// Where results are kept beyond this process; nowhere by default.
    pub cache: Option<CacheConfig>,
}

impl OpenOptions {
    /// Everything at its default.
    #[must_use]
    pub fn new(source: ModelSource) -> Self {
        Self {
            source,
            gpu: None,
            quantize: None,
            decode_graphs: Some(GraphConfig::default()),
            batch_invariant: false,
            progress: None,
            offline: false,
            context_len_max: None,
            kv_bytes: None,
            engine: EngineConfig::default(),
            guide: GuideConfig::default(),
            maze: MazeConfig::default(),
            cache: None,
        }
    }
}

impl ModelSource {
    /// What a person means by `name`: a path that exists, or else `owner/repository`.
    ///
    /// # Errors
    /// [`Error::NoSuchModel`] when it is neither.
    pub fn parse(name: &str) -> Result<Self, Error> {
        let path = Path::new(name);
        if path.exists() {
            return Ok(Self::Path(path.to_owned()));
        }
        let is_word = |word: &str| {
            !word.is_empty()
                && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
                && word.chars().any(|c| c != '.')
        };
        match name.split('/').collect::<Vec<_>>()[..] {
            [owner, repository] if is_word(owner) && is_word(repository) && owner != "models" => {
                Ok(Self::Repository(name.to_owned()))
            }
            _ => Err(Error::NoSuchModel { name: name.to_owned() }),
        }
    }
}

/// Loads a model and its tokenizer and starts an engine on them.
///
/// # Errors
/// Whatever is missing or broken, with the file and the place.
pub fn open(options: OpenOptions) -> Result<Maze, Error> {
    if let ModelSource::Remote(backend) = &options.source {
        let backend = BackendConfig::clone(backend);
        return open_remote(backend, options);
    }
    let device = device(options.gpu.as_ref())?;
    // Before the model: a key that cannot be read is known at once.
    let tiers = options.cache.as_ref().map(Tiers::open).transpose()?;
    let (quantize, graphs) = (options.quantize, options.decode_graphs.clone());
    let batch_invariant = options.batch_invariant;
    let progress = options.progress.clone();
    let load = LoadOptions { device, quantize, graphs, batch_invariant, progress, ..LoadOptions::default() };
    let (weights, opened) = match &options.source {
        ModelSource::Embedded(files) => {
            (WeightsDigest::of_bytes(files.weights, quantize), open_embedded(files, &load)?)
        }
        ModelSource::Path(path) => (WeightsDigest::of_model(path, quantize)?, open_path(path, name_of(path), &load)?),
        ModelSource::Dummy(folder) => {
            (WeightsDigest::of_bytes(b"made-up weights", quantize), open_dummy(folder, &load)?)
        }
        ModelSource::Repository(repository) => {
            let hub_options = HubOptions { offline: options.offline, ..HubOptions::default() };
            let path = hub::fetch(repository, &hub_options)?;
            (WeightsDigest::of_model(&path, quantize)?, open_path(&path, repository.clone(), &load)?)
        }
        ModelSource::Remote(_) => return Err(Error::Internal { message: "a remote model has no weights".into() }),
    };
    let maze = start(opened, options)?.with_weights(weights);
    Ok(match tiers {
        Some(tiers) => maze.with_tiers(tiers),
        None => maze,
    })
}

/// A maze before a remote model: constraints are compiled over bytes, and nothing is loaded.
fn open_remote(backend: BackendConfig, options: OpenOptions) -> Result<Maze, Error> {
    let tiers = options.cache.as_ref().map(Tiers::open).transpose()?;
    let tokenizer = Tokenizer::of_bytes()?;
    let guide = Guide::new(tokenizer.vocabulary().clone(), options.guide)?;
    let card = ModelCard {
        id: backend.model.clone(),
        architecture: ModelCard::REMOTE.into(),
        context_len: options.context_len_max.unwrap_or(0),
        num_parameters: 0,
        weight_bytes: 0,
        quantization: None,
        vocab_len: tokenizer.vocabulary().num_rows(),
        tokenizer_digest: Digest::from_bytes(tokenizer.vocabulary().digest_bytes()),
        created: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        embedded: false,
        has_chat_template: true,
    };
    let backend = Backend::Remote(Arc::new(remote::Backend::open(backend)?));
    let maze = Maze::over(backend, guide, tokenizer, card, options.maze);
    Ok(match tiers {
        Some(tiers) => maze.with_tiers(tiers),
        None => maze,
    })
}

struct Opened {
    name: String,
    model: Box<dyn LanguageModel>,
    tokenizer: Tokenizer,
    embedded: bool,
}

fn start(opened: Opened, options: OpenOptions) -> Result<Maze, Error> {
    let Opened { name, model, tokenizer, embedded } = opened;
    tracing::info!("loaded {}", model.info().load);
    let card = card(name, model.info(), &tokenizer, embedded, options.context_len_max);
    if let Some(report) = &card.quantization {
        tracing::info!("{report}");
        for (matrix, layout) in &report.other_layouts {
            tracing::debug!("{matrix} is stored as {layout:?}");
        }
        report.kept.iter().for_each(|matrix| tracing::debug!("{matrix} is kept as it is stored"));
    }
    let engine = EngineConfig { num_blocks: num_blocks(model.info(), &card, &options), ..options.engine };
    let guide = Guide::new(tokenizer.vocabulary().clone(), options.guide)?;
    let (engine, _) = Engine::start(model, tokenizer.vocabulary().end_tokens(), engine)?;
    Ok(Maze::new(engine, guide, tokenizer, card, options.maze))
}

fn card(
    id: String,
    info: &ModelInfo,
    tokenizer: &Tokenizer,
    embedded: bool,
    context_len_max: Option<usize>,
) -> ModelCard {
    ModelCard {
        id,
        architecture: info.architecture.clone(),
        context_len: info.context_len.min(context_len_max.unwrap_or(usize::MAX)),
        num_parameters: info.num_parameters as u64,
        weight_bytes: info.weight_bytes,
        quantization: info.quantization.clone(),
        vocab_len: info.vocab_len,
        tokenizer_digest: Digest::from_bytes(tokenizer.vocabulary().digest_bytes()),
        created: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        embedded,
        has_chat_template: tokenizer.chat_template().is_some(),
    }
}

/// As many blocks as the memory holds, and no more than all sequences at full length can use.
fn num_blocks(info: &ModelInfo, card: &ModelCard, options: &OpenOptions) -> usize {
    let bytes_per_block = info.kv.bytes_per_block(options.engine.block_len).max(1);
    let affordable = options.kv_bytes.unwrap_or_else(|| kv_bytes_default(info)) as usize / bytes_per_block;
    let affordable = affordable.saturating_sub(KvCache::num_scratch_blocks(&info.device));
    let useful = options.engine.num_seqs_max * card.context_len.div_ceil(options.engine.block_len);
    affordable.min(useful).max(1)
}

fn kv_bytes_default(info: &ModelInfo) -> u64 {
    match model::gpu_memory(&info.device) {
        Some(memory) => memory.free as u64 / 100 * KV_GPU_PERCENT,
        None => KV_BYTES_DEFAULT,
    }
}

fn open_embedded(files: &EmbeddedModel, load: &LoadOptions) -> Result<Opened, Error> {
    let source = WeightSource::Bytes { config_json: files.config, safetensors: files.weights };
    let model = model::load(source, load)?;
    let tokenizer = embedded_tokenizer(files, Some(model.info().vocab_len))?;
    Ok(Opened { name: files.name.into(), model, tokenizer, embedded: true })
}

/// The tokenizer of an embedded model; none of its weights are read.
///
/// # Errors
/// When the files contradict each other.
pub fn open_embedded_tokenizer(files: &EmbeddedModel) -> Result<Tokenizer, Error> {
    embedded_tokenizer(files, None)
}

/// The tokenizer at `path`: a tokenizer.json, a model folder, or a `.gguf` file. No weights are read.
///
/// A file of the name tokenizer.json is read with the configuration beside it, as its folder would be.
///
/// # Errors
/// Whatever is missing or broken, with the file.
pub fn open_tokenizer(path: &Path) -> Result<Tokenizer, Error> {
    let is = |path: &Path, name: &str| path.file_name().is_some_and(|found| found == name);
    let is_file = path.is_file();
    if is_file && is(path, "tokenizer.json") {
        return folder_tokenizer(path.parent().unwrap_or(Path::new("")), None);
    }
    if is_file && path.extension().is_some_and(|extension| extension == "json") {
        return tokenizer_from_json(&read(path)?, &ConfigFiles::default(), None);
    }
    if path.join("tokenizer.json").is_file() {
        return folder_tokenizer(path, None);
    }
    match ModelFiles::locate(path)? {
        ModelFiles::Gguf(file) => gguf_tokenizer(&file),
        ModelFiles::Safetensors { folder, .. } => folder_tokenizer(&folder, None),
    }
}

fn embedded_tokenizer(files: &EmbeddedModel, num_rows: Option<usize>) -> Result<Tokenizer, Error> {
    let config_files = ConfigFiles {
        config: Some(files.config),
        tokenizer_config: Some(files.tokenizer_config),
        generation_config: Some(files.generation_config),
        chat_template: None,
    };
    tokenizer_from_json(files.tokenizer, &config_files, num_rows)
}

/// A folder with config.json and the tokenizer's files; the weights are made up.
fn open_dummy(folder: &Path, load: &LoadOptions) -> Result<Opened, Error> {
    let config = read(&folder.join("config.json"))?;
    let model = model::load(WeightSource::Dummy { config_json: &config }, load)?;
    let tokenizer = folder_tokenizer(folder, Some(model.info().vocab_len))?;
    Ok(Opened { name: name_of(folder), model, tokenizer, embedded: false })
}

fn open_path(path: &Path, name: String, load: &LoadOptions) -> Result<Opened, Error> {
    let model = model::load(WeightSource::Path(path), load)?;
    let tokenizer = match ModelFiles::locate(path)? {
        ModelFiles::Gguf(file) => gguf_tokenizer(&file)?,
        ModelFiles::Safetensors { folder, .. } => folder_tokenizer(&folder, Some(model.info().vocab_len))?,
    };
    Ok(Opened { name, model, tokenizer, embedded: false })
}

fn folder_tokenizer(folder: &Path, num_rows: Option<usize>) -> Result<Tokenizer, Error> {
    let json = read(&folder.join("tokenizer.json"))?;
    let config = read_optional(&folder.join("config.json"))?;
    let tokenizer_config = read_optional(&folder.join("tokenizer_config.json"))?;
    let generation_config = read_optional(&folder.join("generation_config.json"))?;
    let template = read_optional(&folder.join("chat_template.jinja"))?;
    let template = template.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let files = ConfigFiles {
        config: config.as_deref(),
        tokenizer_config: tokenizer_config.as_deref(),
        generation_config: generation_config.as_deref(),
        chat_template: template.as_deref(),
    };
    tokenizer_from_json(&json, &files, num_rows)
}

/// `num_rows` is what the model has; without one, what its configuration says.
fn tokenizer_from_json(json: &[u8], files: &ConfigFiles<'_>, num_rows: Option<usize>) -> Result<Tokenizer, Error> {
    let mut config = TokenizerConfig::from_files(files)?;
    config.num_rows = num_rows.or(config.num_rows);
    Ok(Tokenizer::from_json(json, config)?)
}

/// The tokenizer that a GGUF carries in its metadata.
fn gguf_tokenizer(path: &Path) -> Result<Tokenizer, Error> {
    let file = GgufFile::open(path)?;
    let found = file.tokenizer()?;
    let markers = match (found.fim_prefix, found.fim_suffix, found.fim_middle) {
        (Some(prefix), Some(suffix), Some(middle)) => Some([prefix, suffix, middle]),
        _ => None,
    };
    Ok(Tokenizer::from_gguf(GgufVocab {
        model: found.model,
        pre: found.pre.unwrap_or_else(|| "default".into()),
        tokens: found.tokens,
        token_types: found.token_types,
        merges: found.merges,
        bos: found.bos,
        eos: found.eos,
        eot: found.eot,
        eom: found.eom,
        add_bos: found.add_bos,
        chat_template: found.chat_template,
        fim: markers,
        num_rows: file.num_rows(),
    })?)
}

/// Where the model runs. A device that was asked for and is not there is an error, never a silent CPU.
fn device(gpu: Option<&GpuId>) -> Result<model::Device, Error> {
    match gpu {
        None => Ok(model::Device::Cpu),
        Some(gpu) => Ok(model::open_gpu(gpu)?),
    }
}

fn name_of(path: &Path) -> String {
    let stem = if path.is_dir() { path.file_name() } else { path.file_stem() };
    stem.map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::Read { path: path.display().to_string(), source })
}

fn read_optional(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Read { path: path.display().to_string(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_a_path_or_a_repository() {
        assert!(matches!(ModelSource::parse("src"), Ok(ModelSource::Path(_))));
        assert!(matches!(
            ModelSource::parse("deepseek-ai/deepseek-coder-1.3b-instruct"),
            Ok(ModelSource::Repository(_))
        ));
        for name in ["", "no-such-file.gguf", "models/smollm3", "a/b/c", "../weights", "owner/"] {
            assert!(matches!(ModelSource::parse(name), Err(Error::NoSuchModel { .. })), "{name}");
        }
    }
}
