//! What several benches need: the tokenizers of the two models, and figures from samples.
#![allow(dead_code, reason = "each bench uses a part of it")]

use std::error::Error;
use std::path::{Path, PathBuf};

use ananke::model::GgufFile;
use ananke::text::{ConfigFiles, GgufVocab, Tokenizer, TokenizerConfig};

/// Rows of the logits of the embedded model.
pub(crate) const NANO_ROWS: usize = 4160;

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
    let found = GgufFile::open(path)?.tokenizer()?;
    Ok(Tokenizer::from_gguf(GgufVocab {
        model: found.model,
        pre: found.pre.unwrap_or_default(),
        tokens: found.tokens,
        token_types: found.token_types,
        merges: found.merges,
        eos: found.eos,
        ..GgufVocab::default()
    })?)
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
