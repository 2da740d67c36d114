//! A driver for models in tests: sequences with block tables of their own over one cache, and no engine.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

use std::error::Error;
use std::path::{Path, PathBuf};

use ananke::model::{Batch, KvCache, LanguageModel, LoadOptions, WeightSource, load};

pub type TestResult = Result<(), Box<dyn Error>>;

pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A model and a cache in which block `i` of sequence `s` is block `i * num_sequences + s`: never contiguous.
pub struct Driver {
    pub model: Box<dyn LanguageModel>,
    cache: KvCache,
    block_len: usize,
    num_sequences: usize,
}

/// One sequence's part of a step: which sequence, its new tokens, how many it has run, how many rows of logits.
pub struct Part<'a> {
    pub sequence_idx: usize,
    pub token_ids: &'a [u32],
    pub num_computed: usize,
    pub num_logits: usize,
}

impl Driver {
    pub fn new(path: &Path, options: &LoadOptions, num_sequences: usize, len: usize) -> Result<Self, Box<dyn Error>> {
        let model = load(WeightSource::Path(path), options)?;
        let block_len = 4;
        let num_blocks = len.div_ceil(block_len) * num_sequences;
        let cache = KvCache::new(&model.info().kv, num_blocks, block_len, &options.device)?;
        Ok(Self { model, cache, block_len, num_sequences })
    }

    /// Runs one step and returns the rows of logits.
    pub fn step(&mut self, parts: &[Part<'_>]) -> Result<Vec<Vec<f32>>, Box<dyn Error>> {
        let mut batch = Batch::default();
        for part in parts {
            let num_blocks = (part.num_computed + part.token_ids.len()).div_ceil(self.block_len);
            let block = |i| (i * self.num_sequences + part.sequence_idx) as u32;
            let table: Vec<u32> = (0..num_blocks).map(block).collect();
            batch.push(part.token_ids, part.num_computed, &table, self.block_len, part.num_logits);
        }
        let logits = self.model.forward(&batch, &mut self.cache)?;
        let (rows, width) = (logits.num_rows(), logits.vocab_len());
        let values = logits.to_cpu()?;
        assert_eq!(values.len(), rows * width);
        Ok(values.chunks(width).map(<[f32]>::to_vec).collect())
    }

    /// Runs `token_ids` of sequence 0 from the start, at most `chunk_len` a step, and returns every row of logits.
    pub fn prefill(&mut self, token_ids: &[u32], chunk_len: usize) -> Result<Vec<Vec<f32>>, Box<dyn Error>> {
        let mut rows = Vec::new();
        for token_ids in token_ids.chunks(chunk_len) {
            let num_computed = rows.len();
            rows.extend(self.step(&[Part {
                sequence_idx: 0,
                token_ids,
                num_computed,
                num_logits: token_ids.len(),
            }])?);
        }
        Ok(rows)
    }

    /// The last row of logits of every greedy step after `prompt`, the first right after the prompt.
    pub fn greedy(&mut self, prompt: &[u32], num_tokens: usize) -> Result<Vec<Vec<f32>>, Box<dyn Error>> {
        let mut rows = Vec::new();
        let mut pending = prompt.to_vec();
        let mut num_computed = 0;
        while rows.len() < num_tokens {
            let part = Part { sequence_idx: 0, token_ids: &pending, num_computed, num_logits: 1 };
            let row = self.step(&[part])?.remove(0);
            num_computed += pending.len();
            pending = vec![argmax(&row)];
            rows.push(row);
        }
        Ok(rows)
    }
}

pub fn argmax(row: &[f32]) -> u32 {
    let best = row.iter().enumerate().max_by(|(i, a), (j, b)| a.total_cmp(b).then(j.cmp(i)));
    best.expect("a row of logits is not empty").0 as u32
}

pub fn worst_difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// The tokenizer of the embedded model.
pub fn nano_tokenizer() -> ananke::text::Tokenizer {
    let folder = repository("models/ananke-nano");
    let read = |name: &str| std::fs::read(folder.join(name)).expect("the embedded model is in the repository");
    let files = [read("config.json"), read("tokenizer_config.json"), read("generation_config.json")];
    let files = ananke::text::ConfigFiles {
        config: Some(&files[0]),
        tokenizer_config: Some(&files[1]),
        generation_config: Some(&files[2]),
        ..ananke::text::ConfigFiles::default()
    };
    let config = ananke::text::TokenizerConfig::from_files(&files).expect("the model's files agree");
    ananke::text::Tokenizer::from_json(&read("tokenizer.json"), config).expect("the tokenizer loads")
}
