//! What a person may set, from flags, environment and file, checked into typed options.

use std::path::PathBuf;

use clap::Args;

use crate::maze::{EmbeddedModel, ModelSource, OpenOptions};

/// The flags that choose a model and where it runs; the server and the command line share them.
#[derive(Clone, Debug, Default, Args)]
pub struct ModelArgs {
    /// A model folder, a .gguf file, or a repository name such as deepseek-ai/deepseek-coder-1.3b-instruct;
    /// without it, the model compiled into this program.
    #[arg(long, env = "ANANKE_MODEL", value_name = "PATH|REPO")]
    pub model: Option<String>,
    /// Run on this CUDA device.
    #[arg(long, env = "ANANKE_GPU", value_name = "N")]
    pub gpu: Option<usize>,
    /// Never open a connection: a repository must be in the local cache already.
    #[arg(long, env = "ANANKE_OFFLINE")]
    pub offline: bool,
    /// Positions of a sequence; at most, and by default, the model's own.
    #[arg(long, env = "ANANKE_MAX_MODEL_LEN", value_name = "TOKENS")]
    pub max_model_len: Option<usize>,
    /// Memory of the KV cache, such as 512MiB or 2GiB; by default enough for the sequences, at most 2 GiB.
    #[arg(long, env = "ANANKE_KV_MEMORY", value_name = "SIZE", value_parser = parse_size)]
    pub kv_memory: Option<u64>,
}

impl ModelArgs {
    /// The options to open the model with.
    ///
    /// # Errors
    /// When no model is named and none is compiled in, or the name is neither a path nor a repository.
    pub fn open_options(&self, embedded: Option<EmbeddedModel>) -> anyhow::Result<OpenOptions> {
        let source = match (&self.model, embedded) {
            (Some(name), _) => ModelSource::parse(name)?,
            (None, Some(embedded)) => ModelSource::Embedded(embedded),
            (None, None) => anyhow::bail!("this build has no embedded model; name one with --model PATH|REPO"),
        };
        Ok(OpenOptions {
            gpu: self.gpu,
            offline: self.offline,
            context_len_max: self.max_model_len,
            kv_bytes: self.kv_memory,
            ..OpenOptions::new(source)
        })
    }
}

/// A number of bytes: plain, or with one of the units KB, MB, GB (powers of 1000) and KiB, MiB, GiB (of 1024).
///
/// # Errors
/// What a size looks like, when `text` is none.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        _ => return Err(format!("`{text}` is no size; write bytes, or a unit as in 512MiB or 2GiB")),
    };
    let number: u64 = number.parse().map_err(|_| format!("`{text}` is no size; write it as in 512MiB"))?;
    number.checked_mul(factor).ok_or_else(|| format!("`{text}` is more bytes than there are"))
}

/// The folder that holds fetched models when nothing else is said: `$HF_HOME/hub` or `~/.cache/huggingface/hub`.
#[must_use]
pub fn default_cache_dir() -> Option<PathBuf> {
    if let Some(home) = std::env::var_os("HF_HOME") {
        return Some(PathBuf::from(home).join("hub"));
    }
    std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/huggingface/hub"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_carry_their_units() {
        let cases = [("17", 17), ("2KiB", 2048), ("2 kb", 2000), ("512MiB", 512 << 20), ("3g", 3 << 30)];
        for (text, bytes) in cases {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "GiB", "1.5GiB", "-1", "12 parsecs", "99999999999999999999"] {
            assert!(parse_size(text).is_err(), "{text} must be refused");
        }
    }
}
