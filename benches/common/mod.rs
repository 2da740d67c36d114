//! What several benches need: the tokenizers of the models, shapes to make weights up for, streams that decode together,
//! and figures from samples.
#![allow(dead_code, reason = "each bench uses a part of it")]

pub(crate) mod streams;

use std::error::Error;
use std::path::{Path, PathBuf};

use ananke::model::GgufFile;
use ananke::text::{ConfigFiles, GgufVocab, Tokenizer, TokenizerConfig};

/// Rows of the logits of the embedded model.
pub(crate) const NANO_ROWS: usize = 4160;

/// Rows of the logits of a shape: DeepSeek-Coder's.
pub(crate) const SHAPE_ROWS: usize = 32_256;

/// The folder of the models.
pub(crate) fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models")
}

/// The file that scripts/fetch_model.sh brings, if it has been run.
pub(crate) fn smollm2() -> Option<PathBuf> {
    let file = models().join("smollm2-135m/SmolLM2-135M-Instruct.Q4_1.gguf");
    file.is_file().then_some(file)
}

/// The tokenizer of the embedded model.
pub(crate) fn nano_tokenizer() -> Result<Tokenizer, Box<dyn Error>> {
    let folder = models().join("ananke-nano");
    let config = std::fs::read(folder.join("config.json"))?;
    let tokenizer_config = std::fs::read(folder.join("tokenizer_config.json"))?;
    let files = ConfigFiles {
        config: Some(&config),
        tokenizer_config: Some(&tokenizer_config),
        generation_config: None,
        chat_template: None,
    };
    let config = TokenizerConfig { num_rows: Some(NANO_ROWS), ..TokenizerConfig::from_files(&files)? };
    Ok(Tokenizer::from_json(&std::fs::read(folder.join("tokenizer.json"))?, config)?)
}

/// The tokenizer in a GGUF file.
pub(crate) fn gguf_tokenizer(path: &Path) -> Result<Tokenizer, Box<dyn Error>> {
    gguf_tokenizer_with_rows(path, None)
}

/// The tokenizer in a GGUF file, for a model whose logits have `num_rows` rows.
pub(crate) fn gguf_tokenizer_with_rows(path: &Path, num_rows: Option<usize>) -> Result<Tokenizer, Box<dyn Error>> {
    let found = GgufFile::open(path)?.tokenizer()?;
    Ok(Tokenizer::from_gguf(GgufVocab {
        model: found.model,
        pre: found.pre.unwrap_or_default(),
        tokens: found.tokens,
        token_types: found.token_types,
        merges: found.merges,
        eos: found.eos,
        num_rows,
        ..GgufVocab::default()
    })?)
}

/// config.json of a shape to make weights up for: DeepSeek-Coder 1.3B and 6.7B, and one for a CPU.
pub(crate) fn config_json(shape: &str) -> Result<String, Box<dyn Error>> {
    let (hidden, intermediate, layers, heads) = match shape {
        "tiny" => (512, 1408, 4, 4),
        "1.3b" => (2048, 5504, 24, 16),
        "6.7b" => (4096, 11_008, 32, 32),
        other => return Err(format!("shape `{other}`; expected tiny, 1.3b or 6.7b").into()),
    };
    Ok(format!(
        r#"{{"model_type": "llama", "vocab_size": {SHAPE_ROWS}, "hidden_size": {hidden}, "intermediate_size": {intermediate},
            "num_hidden_layers": {layers}, "num_attention_heads": {heads}, "num_key_value_heads": {heads},
            "max_position_embeddings": 16384, "rms_norm_eps": 1e-6, "rope_theta": 100000,
            "rope_scaling": {{"type": "linear", "factor": 4.0}}, "tie_word_embeddings": false}}"#
    ))
}

/// The value below which the share `quantile` of `values` lies; `values` must not be empty.
pub(crate) fn quantile(values: &[f64], quantile: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * quantile).round() as usize]
}

/// The mean of `values` and half the width of its 95 % confidence interval (normal approximation).
pub(crate) fn mean_and_margin(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0).max(1.0);
    (mean, 1.96 * (variance / count).sqrt())
}
