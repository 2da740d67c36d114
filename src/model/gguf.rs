//! Weights, configuration and tokenizer from a GGUF file.
//!
//! Candle reads the header; tensors are cut from the mapped bytes. GGUF has its own names, and for the `llama`
//! architecture its own order of the query and key rows: both are turned back into those of Hugging Face here, so
//! that the model code knows one of each.

use std::io::Cursor;
use std::ops::Range;
use std::path::Path;

use candle_core::quantized::gguf_file::{Content, TensorInfo, Value};

use super::ModelError;
use super::config::{Biases, LlamaConfig, RopeScaling};
use super::layers::Weights;
use super::mapped::MappedFile;
use super::weight::{QuantLayout, QuantWeight, byte_len};

/// Architectures that a GGUF file may name.
const ARCHITECTURES: &[&str] = &["llama", "qwen2", "deepseek2"];

/// An open GGUF file: its header in memory, its tensors mapped.
pub struct GgufFile {
    file: MappedFile,
    content: Content,
}

/// What a GGUF file says of its tokenizer, as plain values. Token ids that it does not name are `None`.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs, reason = "the fields are the file's `tokenizer.ggml.*` keys")]
pub struct GgufTokenizer {
    pub model: String,
    pub pre: Option<String>,
    pub tokens: Vec<String>,
    pub token_types: Vec<i32>,
    pub scores: Vec<f32>,
    pub merges: Vec<String>,
    pub bos: Option<u32>,
    pub eos: Option<u32>,
    pub eot: Option<u32>,
    pub eom: Option<u32>,
    pub unknown: Option<u32>,
    pub padding: Option<u32>,
    pub fim_prefix: Option<u32>,
    pub fim_suffix: Option<u32>,
    pub fim_middle: Option<u32>,
    pub add_bos: Option<bool>,
    pub add_space_prefix: Option<bool>,
    pub chat_template: Option<String>,
}

impl GgufFile {
    /// Opens `path` and reads its header.
    ///
    /// # Errors
    /// [`ModelError::Read`], or [`ModelError::Damaged`] when it is not a GGUF file or ends early.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let file = MappedFile::open(path)?;
        let content = Content::read(&mut Cursor::new(&file[..]))
            .map_err(|error| ModelError::Damaged { file: file.name(), detail: explain(&error) })?;
        let opened = Self { file, content };
        opened.content.tensor_infos.iter().try_for_each(|(name, info)| opened.bytes(name, info).map(|_| ()))?;
        Ok(opened)
    }

    /// The tokenizer the file carries.
    ///
    /// # Errors
    /// When it has none, or a value of another type.
    pub fn tokenizer(&self) -> Result<GgufTokenizer, ModelError> {
        let id = |name: &str| self.unsigned(&format!("tokenizer.ggml.{name}_token_id"));
        let id = |name: &str| Ok::<_, ModelError>(id(name)?.map(|id| id as u32));
        let strings = |key| self.list(key, "text", |value| value.to_string().ok().cloned());
        let tokens = strings("tokenizer.ggml.tokens")?;
        Ok(GgufTokenizer {
            model: self.needed(self.text("tokenizer.ggml.model")?, "tokenizer.ggml.model")?,
            pre: self.text("tokenizer.ggml.pre")?,
            tokens: self.needed(tokens, "tokenizer.ggml.tokens")?,
            token_types: self
                .list("tokenizer.ggml.token_type", "whole numbers", |value| match value {
                    Value::U32(kind) => i32::try_from(*kind).ok(),
                    value => value.to_i32().ok(),
                })?
                .unwrap_or_default(),
            scores: self.list("tokenizer.ggml.scores", "numbers", |value| value.to_f32().ok())?.unwrap_or_default(),
            merges: strings("tokenizer.ggml.merges")?.unwrap_or_default(),
            bos: id("bos")?,
            eos: id("eos")?,
            eot: id("eot")?,
            eom: id("eom")?,
            unknown: id("unknown")?,
            padding: id("padding")?,
            fim_prefix: id("fim_pre")?.or(id("prefix")?),
            fim_suffix: id("fim_suf")?.or(id("suffix")?),
            fim_middle: id("fim_mid")?.or(id("middle")?),
            add_bos: self.flag("tokenizer.ggml.add_bos_token")?,
            add_space_prefix: self.flag("tokenizer.ggml.add_space_prefix")?,
            chat_template: self.text("tokenizer.chat_template")?,
        })
    }

    /// Rows of the model's logits; `None` in a file that holds a vocabulary and no weights.
    #[must_use]
    pub fn num_rows(&self) -> Option<usize> {
        self.vocab_size().ok()
    }

    /// The architecture's name, one that this build runs.
    ///
    /// # Errors
    /// When it is absent or another one.
    pub(super) fn architecture(&self) -> Result<String, ModelError> {
        let key = "general.architecture";
        let found = self.needed(self.text(key)?, key)?;
        if !ARCHITECTURES.contains(&found.as_str()) {
            let (file, supported) = (self.file.name(), ARCHITECTURES);
            return Err(ModelError::UnsupportedArchitecture { file, found, supported });
        }
        Ok(found)
    }

    /// The shape of a model of the Llama family.
    ///
    /// # Errors
    /// Names the key that is absent, unusable or unsupported.
    pub(crate) fn config(&self) -> Result<LlamaConfig, ModelError> {
        let architecture = self.architecture()?;
        let named = |name: &str| format!("{architecture}.{name}");
        let optional_count = |name: &str| self.unsigned(&named(name));
        let count = |name: &str| self.count(&named(name));
        let num_attention_heads = count("attention.head_count")?;
        let hidden_size = count("embedding_length")?;
        let head_dim = optional_count("attention.key_length")?.unwrap_or(hidden_size / num_attention_heads);
        let has = |name: &str| self.has(name);
        let eps_key = named("attention.layer_norm_rms_epsilon");
        let config = LlamaConfig {
            vocab_size: self.vocab_size()?,
            hidden_size,
            intermediate_size: count("feed_forward_length")?,
            num_hidden_layers: count("block_count")?,
            num_attention_heads,
            num_key_value_heads: match optional_count("attention.head_count_kv")? {
                Some(0) | None => num_attention_heads,
                Some(heads) => heads,
            },
            head_dim,
            max_position_embeddings: count("context_length")?,
            rms_norm_eps: self.needed(self.number(&eps_key)?, &eps_key)?,
            rope_theta: self.number(&named("rope.freq_base"))?.unwrap_or(10_000.0),
            rope_scaling: self.rope_scaling(&architecture, head_dim)?,
            tie_word_embeddings: !has("output.weight"),
            biases: Biases {
                qkv_proj: architecture == "qwen2" || has("blk.0.attn_q.bias"),
                o_proj: has("blk.0.attn_output.bias"),
                mlp: has("blk.0.ffn_down.bias"),
            },
            architecture: architecture.clone(),
        };
        match optional_count("rope.dimension_count")? {
            Some(dims) if dims != config.head_dim => {
                let expected = format!("{}, the width of a head", config.head_dim);
                Err(self.invalid(&named("rope.dimension_count"), dims.to_string(), &expected))
            }
            _ => config.check(&self.file.name()).map(|()| config),
        }
    }

    /// The weights under Hugging Face's names.
    pub(crate) fn weights(&self, config: &LlamaConfig) -> GgufWeights<'_> {
        let interleaved = config.architecture == "llama";
        GgufWeights { file: self, head_dim: interleaved.then_some(config.head_dim), num_experts: 0 }
    }

    /// The weights of a mixture of `num_experts` experts under Hugging Face's names, rows as they are stored.
    pub(crate) fn expert_weights(&self, num_experts: usize) -> GgufWeights<'_> {
        GgufWeights { file: self, head_dim: None, num_experts }
    }

    /// The file's path, for messages.
    pub(super) fn name(&self) -> String {
        self.file.name()
    }

    /// True when it has the tensor `name`.
    pub(super) fn has(&self, name: &str) -> bool {
        self.content.tensor_infos.contains_key(name)
    }

    pub(super) fn vocab_size(&self) -> Result<usize, ModelError> {
        let name = "token_embd.weight";
        match self.content.tensor_infos.get(name).map(|info| info.shape.dims()) {
            Some(&[rows, _]) => Ok(rows),
            Some(dims) => Err(ModelError::TensorShape {
                file: self.file.name(),
                tensor: name.into(),
                expected: vec![0, 0],
                found: dims.into(),
            }),
            None => Err(ModelError::MissingTensor { file: self.file.name(), tensor: name.into(), expected: vec![] }),
        }
    }

    fn rope_scaling(&self, architecture: &str, head_dim: usize) -> Result<RopeScaling, ModelError> {
        if let Some(info) = self.content.tensor_infos.get("rope_freqs.weight") {
            return Ok(RopeScaling::Factors(self.tensor("rope_freqs.weight", info, &[head_dim / 2])?.to_f32()?));
        }
        let type_key = format!("{architecture}.rope.scaling.type");
        let factor_key = format!("{architecture}.rope.scaling.factor");
        // Before the type had a key of its own, a factor alone meant linear scaling.
        let factor = match self.number(&factor_key)? {
            Some(factor) => Some(factor),
            None => self.number(&format!("{architecture}.rope.scale_linear"))?,
        };
        match (self.text(&type_key)?.as_deref(), factor) {
            (None | Some("none"), None) | (Some("none"), _) => Ok(RopeScaling::Default),
            (None | Some("linear"), Some(factor)) => Ok(RopeScaling::Linear { factor }),
            (Some("linear"), None) => Err(ModelError::MissingKey { file: self.file.name(), key: factor_key }),
            (Some(found), _) => Err(ModelError::UnsupportedRope {
                file: self.file.name(),
                found: found.into(),
                supported: &["none", "linear", "factors in rope_freqs.weight"],
            }),
        }
    }

    fn tensor(&self, name: &str, info: &TensorInfo, shape: &[usize]) -> Result<QuantWeight<'_>, ModelError> {
        self.check_shape(name, info, shape)?;
        self.wrap(name, self.bytes(name, info)?, info, shape)
    }

    /// The matrix of one of the `num_experts` experts that lie behind each other in one tensor.
    fn expert(
        &self,
        name: &str,
        info: &TensorInfo,
        (expert, num_experts): (usize, usize),
        shape: &[usize],
    ) -> Result<QuantWeight<'_>, ModelError> {
        let whole: Vec<usize> = [&[num_experts], shape].concat();
        self.check_shape(name, info, &whole)?;
        let bytes = self.bytes(name, info)?;
        let len = bytes.len() / num_experts.max(1);
        let bytes = bytes.get(expert * len..(expert + 1) * len).unwrap_or_default();
        self.wrap(name, bytes, info, shape)
    }

    fn check_shape(&self, name: &str, info: &TensorInfo, expected: &[usize]) -> Result<(), ModelError> {
        let found = info.shape.dims();
        if found != expected {
            let (file, tensor) = (self.file.name(), name.into());
            return Err(ModelError::TensorShape { file, tensor, expected: expected.into(), found: found.into() });
        }
        Ok(())
    }

    fn wrap<'a>(
        &self,
        name: &str,
        bytes: &'a [u8],
        info: &TensorInfo,
        shape: &[usize],
    ) -> Result<QuantWeight<'a>, ModelError> {
        QuantWeight::new(bytes, QuantLayout::from_ggml(info.ggml_dtype), shape)
            .ok_or_else(|| self.damaged(format!("tensor `{name}` of shape {shape:?} holds {} bytes", bytes.len())))
    }

    fn bytes(&self, name: &str, info: &TensorInfo) -> Result<&[u8], ModelError> {
        let layout = QuantLayout::from_ggml(info.ggml_dtype);
        let len = byte_len(layout, info.shape.dims())
            .ok_or_else(|| self.damaged(format!("tensor `{name}` has no whole number of blocks")))?;
        let start = self.content.tensor_data_offset.checked_add(info.offset).and_then(|at| usize::try_from(at).ok());
        let range = start.and_then(|start| Some(start..start.checked_add(len)?));
        range.and_then(|range| self.file.get(range)).ok_or_else(|| {
            self.damaged(format!("tensor `{name}` ({len} bytes) reaches past the file's {} bytes", self.file.len()))
        })
    }

    fn damaged(&self, detail: String) -> ModelError {
        ModelError::Damaged { file: self.file.name(), detail }
    }

    pub(super) fn invalid(&self, key: &str, found: String, expected: &str) -> ModelError {
        ModelError::InvalidKey { file: self.file.name(), key: key.into(), found, expected: expected.into() }
    }

    pub(super) fn needed<T>(&self, value: Option<T>, key: &str) -> Result<T, ModelError> {
        value.ok_or_else(|| ModelError::MissingKey { file: self.file.name(), key: key.into() })
    }

    fn value<T>(&self, key: &str, expected: &str, read: impl Fn(&Value) -> Option<T>) -> Result<Option<T>, ModelError> {
        let Some(value) = self.content.metadata.get(key) else { return Ok(None) };
        let found = || format!("a {:?}", value.value_type());
        read(value).map(Some).ok_or_else(|| self.invalid(key, found(), expected))
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<String>, ModelError> {
        self.value(key, "text", |value| value.to_string().ok().cloned())
    }

    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, ModelError> {
        self.value(key, "true or false", |value| value.to_bool().ok())
    }

    /// A whole number above 0 that must be there.
    pub(super) fn count(&self, key: &str) -> Result<usize, ModelError> {
        match self.unsigned(key)? {
            Some(0) => Err(self.invalid(key, "0".into(), "a whole number above 0")),
            found => self.needed(found, key),
        }
    }

    pub(super) fn unsigned(&self, key: &str) -> Result<Option<usize>, ModelError> {
        self.value(key, "a whole number below 2^32", |value| {
            let number = value.to_u64().ok().or_else(|| u64::try_from(value.to_i32().ok()?).ok())?;
            u32::try_from(number).ok().map(|number| number as usize)
        })
    }

    pub(super) fn number(&self, key: &str) -> Result<Option<f64>, ModelError> {
        self.value(key, "a number above 0", |value| {
            let number = value.to_f32().map(f64::from).or_else(|_| value.to_f64()).ok()?;
            (number > 0.0 && number.is_finite()).then_some(number)
        })
    }

    fn list<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<Vec<T>>, ModelError> {
        let expected = format!("a list of {expected}");
        self.value(key, &expected, |value| value.to_vec().ok()?.iter().map(&read).collect())
    }
}

/// A GGUF file's tensors under Hugging Face's names and in Hugging Face's order of rows.
pub(crate) struct GgufWeights<'a> {
    file: &'a GgufFile,
    /// The width of a head, where its rows of queries and keys lie in another order here.
    head_dim: Option<usize>,
    num_experts: usize,
}

impl Weights for GgufWeights<'_> {
    fn has(&self, name: &str) -> bool {
        self.file.has(&gguf_name(name).0)
    }

    fn num_bytes(&self) -> Option<u64> {
        Some((self.file.file.len() as u64).saturating_sub(self.file.content.tensor_data_offset))
    }

    fn get(&self, name: &str, shape: &[usize]) -> Result<QuantWeight<'_>, ModelError> {
        self.rows(name, shape, 0..shape[0])
    }

    fn rows(&self, name: &str, shape: &[usize], rows: Range<usize>) -> Result<QuantWeight<'_>, ModelError> {
        let (gguf_name, expert) = gguf_name(name);
        let Some(info) = self.file.content.tensor_infos.get(&gguf_name) else {
            let file = self.file.file.name();
            return Err(ModelError::MissingTensor { file, tensor: gguf_name, expected: shape.into() });
        };
        if let Some(expert) = expert {
            let weight = self.file.expert(&gguf_name, info, (expert, self.num_experts), shape)?;
            return Ok(weight.into_rows(rows));
        }
        // Rows change places within a head only, and parts are whole heads.
        let weight = self.file.tensor(&gguf_name, info, shape)?.into_rows(rows);
        let turned = gguf_name.contains(".attn_q.") || gguf_name.contains(".attn_k.");
        match self.head_dim.filter(|_| turned) {
            Some(head_dim) => Ok(weight.permute_rows(|row_idx| interleaved_row(row_idx, head_dim))),
            None => Ok(weight),
        }
    }
}

/// Where a row lies whose head pairs neighbours, when this one pairs halves: GGUF's `llama` does where Hugging Face
/// does not, and DeepSeek-V2 does in all files.
pub(super) fn interleaved_row(row_idx: usize, head_dim: usize) -> usize {
    let (head, row) = (row_idx / head_dim, row_idx % head_dim);
    let half = head_dim / 2;
    head * head_dim + 2 * (row % half) + row / half
}

/// `model.layers.3.self_attn.q_proj.weight` is `blk.3.attn_q.weight`, and
/// `model.layers.3.mlp.experts.5.up_proj.weight` is the sixth matrix of `blk.3.ffn_up_exps.weight`.
fn gguf_name(name: &str) -> (String, Option<usize>) {
    const PARTS: [(&str, &str); 21] = [
        ("input_layernorm", "attn_norm"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("self_attn.q_a_proj", "attn_q_a"),
        ("self_attn.q_a_layernorm", "attn_q_a_norm"),
        ("self_attn.q_b_proj", "attn_q_b"),
        ("self_attn.kv_a_proj_with_mqa", "attn_kv_a_mqa"),
        ("self_attn.kv_a_layernorm", "attn_kv_a_norm"),
        ("self_attn.kv_b_proj", "attn_kv_b"),
        ("self_attn.k_b_proj", "attn_k_b"),
        ("self_attn.v_b_proj", "attn_v_b"),
        ("post_attention_layernorm", "ffn_norm"),
        ("mlp.gate.", "ffn_gate_inp."),
        ("mlp.shared_experts.gate_proj", "ffn_gate_shexp"),
        ("mlp.shared_experts.up_proj", "ffn_up_shexp"),
        ("mlp.shared_experts.down_proj", "ffn_down_shexp"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
    ];
    match name {
        "model.embed_tokens.weight" => return ("token_embd.weight".into(), None),
        "model.norm.weight" => return ("output_norm.weight".into(), None),
        "lm_head.weight" => return ("output.weight".into(), None),
        _ => {}
    }
    let name = name.replacen("model.layers.", "blk.", 1);
    if let Some((gguf, expert)) = expert_name(&name) {
        return (gguf, Some(expert));
    }
    let part = PARTS.iter().find(|(part, _)| name.contains(part));
    (part.map_or(name.clone(), |(part, gguf)| name.replacen(part, gguf, 1)), None)
}

/// The tensor of all experts, and which of them `blk.3.mlp.experts.5.up_proj.weight` is.
fn expert_name(name: &str) -> Option<(String, usize)> {
    let (layer, rest) = name.split_once("mlp.experts.")?;
    let (expert, rest) = rest.split_once('.')?;
    let (part, rest) = rest.split_once("_proj.")?;
    Some((format!("{layer}ffn_{part}_exps.{rest}"), expert.parse().ok()?))
}

/// Candle's message without its backtrace.
fn explain(error: &candle_core::Error) -> String {
    match error {
        candle_core::Error::WithBacktrace { inner, .. } => explain(inner),
        candle_core::Error::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            "it ends inside its header".into()
        }
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::quantized::{GgmlDType, QTensor, gguf_file};
    use candle_core::{Device, Tensor};

    use super::*;

    #[test]
    fn a_part_of_the_queries_has_the_rows_that_the_whole_has_there() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("queries.gguf");
        let rows = Tensor::arange(0f32, 24f32, &Device::Cpu)?.reshape((12, 2))?;
        let stored = QTensor::quantize(&rows, GgmlDType::F32)?;
        gguf_file::write(&mut std::fs::File::create(&path)?, &[], &[("blk.0.attn_q.weight", &stored)])?;
        let file = GgufFile::open(&path)?;
        let weights = GgufWeights { file: &file, head_dim: Some(4), num_experts: 0 };
        let (name, shape) = ("model.layers.0.self_attn.q_proj.weight", [12, 2]);
        // Three heads of four rows, whose neighbours are paired in the file and whose halves are here.
        let whole = weights.get(name, &shape)?.to_f32()?;
        assert_eq!(whole[..8], [0.0, 1.0, 4.0, 5.0, 2.0, 3.0, 6.0, 7.0]);
        for (first, end) in [(0, 4), (4, 12), (8, 12)] {
            let part = weights.rows(name, &shape, first..end)?;
            assert_eq!((part.shape(), part.to_f32()?), (&[end - first, 2][..], whole[2 * first..2 * end].to_vec()));
        }
        assert_eq!(weights.num_bytes(), Some(96));
        Ok(())
    }
}
