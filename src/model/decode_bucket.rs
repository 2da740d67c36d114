//! Which decode steps share recorded work, and how a step is filled up to the size that was recorded: the part that
//! needs no device.

use super::{Batch, BatchSequence, ModelError};

/// Decode steps that a GPU records once and replays: for which sizes, and how many are kept.
///
/// A step whose sequences run one token each takes the smallest sizes that hold it, and is filled up with rows that
/// nobody reads. Everything else runs launch by launch. Both ways give the same bits where products of as many rows
/// have one body, which f32 weights of five rows and more have not; so 4, where the body changes, should be a size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphConfig {
    /// Numbers of sequences, ascending. Default 1, 2, 4, 8, 16, 32 and 64; at most so many rows are computed for
    /// nobody as a size is larger than the one before.
    pub batch_buckets: Vec<usize>,
    /// Positions of the longest context, ascending. Default 256, 1,024, 4,096 and 16,384; a longer one costs blocks of
    /// threads that find nothing to do, and a table of angles: half a KiB per position where heads are of 128.
    pub context_buckets: Vec<usize>,
    /// Graphs that are kept; past it the one that was used longest ago goes. Default 32.
    pub num_graphs_max: usize,
    /// Bytes on the device that they may hold together, beside weights and KV cache. Default 512 MiB.
    pub bytes_max: usize,
}

impl Default for GraphConfig {
    fn default() -> Self {
        Self {
            batch_buckets: vec![1, 2, 4, 8, 16, 32, 64],
            context_buckets: vec![256, 1024, 4096, 16_384],
            num_graphs_max: 32,
            bytes_max: 512 << 20,
        }
    }
}

impl GraphConfig {
    /// # Errors
    /// [`ModelError::GraphConfig`] with the first field that cannot be.
    pub(crate) fn check(&self) -> Result<(), ModelError> {
        let ascends =
            |sizes: &[usize]| sizes.first().is_some_and(|&first| first > 0) && sizes.is_sorted_by(|a, b| a < b);
        for (field, sizes) in [("batch_buckets", &self.batch_buckets), ("context_buckets", &self.context_buckets)] {
            if !ascends(sizes) {
                let expected = "one or more numbers over 0, each larger than the one before";
                return Err(ModelError::GraphConfig { field, found: format!("{sizes:?}"), expected });
            }
        }
        match self.num_graphs_max {
            0 => Err(ModelError::GraphConfig { field: "num_graphs_max", found: "0".into(), expected: "1 or more" }),
            _ => Ok(()),
        }
    }

    /// The sizes that a step takes, or why it has none.
    pub(crate) fn bucket(&self, batch: &Batch) -> Result<Bucket, EagerReason> {
        let num_seqs = batch.sequences.len();
        if batch.num_tokens() != num_seqs || batch.logit_rows.len() > num_seqs {
            return Err(EagerReason::Chunk);
        }
        let context_len = batch.sequences.iter().map(|sequence| sequence.context_len).max().unwrap_or(0);
        let smallest = |sizes: &[usize], needed| sizes.iter().copied().find(|&size| size >= needed);
        Ok(Bucket {
            num_seqs: smallest(&self.batch_buckets, num_seqs).ok_or(EagerReason::BatchSize)?,
            context_len: smallest(&self.context_buckets, context_len).ok_or(EagerReason::ContextLen)?,
        })
    }

    /// The most sequences of any size.
    pub(crate) fn num_seqs_max(&self) -> usize {
        self.batch_buckets.last().copied().unwrap_or(0)
    }

    /// The longest context of any size.
    pub(crate) fn context_len_max(&self) -> usize {
        self.context_buckets.last().copied().unwrap_or(0)
    }
}

/// The sizes of one graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bucket {
    /// Sequences, those filled up included.
    pub(crate) num_seqs: usize,
    /// Positions of the longest context.
    pub(crate) context_len: usize,
}

impl Bucket {
    /// `batch` with as many sequences and rows of logits as this has. A row that is added runs token 0 at position 0 of
    /// `scratch_block`, which is no sequence's; those of one step write the same there. The rows of `batch` come first.
    pub(crate) fn fill_up(self, batch: &Batch, scratch_block: u32, block_len: usize) -> Batch {
        let mut filled = batch.clone();
        for query_start in batch.num_tokens()..self.num_seqs {
            filled.token_ids.push(0);
            filled.positions.push(0);
            filled.slots.push(scratch_block * block_len as u32);
            let block_table = vec![scratch_block];
            filled.sequences.push(BatchSequence { query_start, query_len: 1, context_len: 1, block_table });
        }
        filled.logit_rows.resize(self.num_seqs, 0);
        filled
    }
}

/// How a forward pass was run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// On a CPU.
    Cpu,
    /// On a GPU, as work that was recorded before.
    Replayed,
    /// On a GPU, launch by launch.
    Eager(EagerReason),
}

/// Why a GPU ran a step launch by launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EagerReason {
    /// Recording is switched off.
    Off,
    /// A sequence ran more than one token: a prompt, a chunk, or forced tokens.
    Chunk,
    /// There are more sequences than the largest size has.
    BatchSize,
    /// A context is longer than the largest size.
    ContextLen,
    /// The step was the first of its sizes: it ran, and was recorded.
    Recording,
    /// Recording a step of its sizes failed; the log has why.
    Failed,
    /// A graph of its sizes alone takes more memory than all may.
    Memory,
}

impl EagerReason {
    /// All of them, each at its own index.
    pub const ALL: [Self; 7] =
        [Self::Off, Self::Chunk, Self::BatchSize, Self::ContextLen, Self::Recording, Self::Failed, Self::Memory];

    /// Its name, as metrics have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Chunk => "chunk",
            Self::BatchSize => "batch_size",
            Self::ContextLen => "context_len",
            Self::Recording => "recording",
            Self::Failed => "failed",
            Self::Memory => "memory",
        }
    }
}

/// What was recorded for each [`Bucket`], or why nothing is.
pub(crate) struct Kept<G> {
    /// The one used last comes last.
    graphs: Vec<(Bucket, usize, G)>,
    /// At most one for each bucket of the configuration.
    refused: Vec<(Bucket, EagerReason)>,
}

impl<G> Kept<G> {
    pub(crate) fn new() -> Self {
        Self { graphs: Vec::new(), refused: Vec::new() }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        *self = Self::new();
    }

    /// The graph of a bucket, which now is the one used last.
    pub(crate) fn get(&mut self, bucket: Bucket) -> Option<&mut G> {
        let index = self.graphs.iter().position(|(other, ..)| *other == bucket)?;
        let found = self.graphs.remove(index);
        self.graphs.push(found);
        self.graphs.last_mut().map(|(_, _, graph)| graph)
    }

    /// Why there is no graph of a bucket and will be none.
    pub(crate) fn refusal(&self, bucket: Bucket) -> Option<EagerReason> {
        self.refused.iter().find(|(other, _)| *other == bucket).map(|&(_, reason)| reason)
    }

    pub(crate) fn refuse(&mut self, bucket: Bucket, reason: EagerReason) {
        self.refused.push((bucket, reason));
    }

    /// Keeps a graph of `num_bytes` that is the first of its bucket, and lets those used longest ago go until
    /// `config`'s bounds hold. `shared_bytes` says what graphs hold beside their own; it is asked once, and again after
    /// each that has gone. A graph that breaks the bounds alone is refused.
    pub(crate) fn keep(
        &mut self,
        bucket: Bucket,
        num_bytes: usize,
        graph: G,
        config: &GraphConfig,
        mut shared_bytes: impl FnMut() -> usize,
    ) {
        self.graphs.push((bucket, num_bytes, graph));
        loop {
            let own_bytes: usize = self.graphs.iter().map(|(_, num_bytes, _)| num_bytes).sum();
            let num_bytes = own_bytes + shared_bytes();
            let is_over = self.graphs.len() > config.num_graphs_max || num_bytes > config.bytes_max;
            match self.graphs.len() {
                _ if !is_over => return,
                0 => return,
                1 => self.refuse(bucket, EagerReason::Memory),
                _ => {}
            }
            self.graphs.remove(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{KvCache, LoadOptions, QuantLayout, WeightSource, load};

    const BLOCK_LEN: usize = 16;

    fn step(context_lens: &[usize]) -> Batch {
        let mut batch = Batch::default();
        for &context_len in context_lens {
            batch.push(&[1], context_len - 1, &vec![0; context_len.div_ceil(BLOCK_LEN)], BLOCK_LEN, 1);
        }
        batch
    }

    #[test]
    fn a_step_takes_the_smallest_sizes_that_hold_it() {
        let config = GraphConfig::default();
        let bucket = |lens: &[usize]| config.bucket(&step(lens)).map(|bucket| (bucket.num_seqs, bucket.context_len));
        assert_eq!(bucket(&[1]), Ok((1, 256)));
        assert_eq!(bucket(&[256, 3, 7]), Ok((4, 256)));
        assert_eq!(bucket(&[257, 3, 7, 9, 1]), Ok((8, 1024)));
        assert_eq!(bucket(&[16_384; 64]), Ok((64, 16_384)));
        assert_eq!(bucket(&[1; 65]), Err(EagerReason::BatchSize));
        assert_eq!(bucket(&[16_385]), Err(EagerReason::ContextLen));
        let mut chunk = step(&[5]);
        chunk.push(&[1, 2], 0, &[1], BLOCK_LEN, 1);
        assert_eq!(config.bucket(&chunk), Err(EagerReason::Chunk));
    }

    #[test]
    fn sizes_that_do_not_ascend_are_refused_by_name() {
        assert!(GraphConfig::default().check().is_ok());
        for (config, field) in [
            (GraphConfig { batch_buckets: vec![], ..GraphConfig::default() }, "batch_buckets"),
            (GraphConfig { batch_buckets: vec![0, 1], ..GraphConfig::default() }, "batch_buckets"),
            (GraphConfig { context_buckets: vec![4, 4], ..GraphConfig::default() }, "context_buckets"),
            (GraphConfig { num_graphs_max: 0, ..GraphConfig::default() }, "num_graphs_max"),
        ] {
            match config.check() {
                Err(ModelError::GraphConfig { field: found, .. }) => assert_eq!(found, field),
                other => panic!("{config:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn every_reason_has_its_own_name_and_index() {
        let names: std::collections::BTreeSet<_> = EagerReason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(names.len(), EagerReason::ALL.len());
        for (index, reason) in EagerReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
    }

    #[test]
    fn the_graph_used_longest_ago_goes_first_and_one_that_is_too_large_is_refused() {
        let bucket = |num_seqs| Bucket { num_seqs, context_len: 256 };
        let config = GraphConfig { num_graphs_max: 3, bytes_max: 100, ..GraphConfig::default() };
        let mut kept = Kept::new();
        for num_seqs in [1, 2, 4] {
            kept.keep(bucket(num_seqs), 10, num_seqs, &config, || 0);
        }
        assert_eq!(kept.get(bucket(1)), Some(&mut 1));
        kept.keep(bucket(8), 10, 8, &config, || 0);
        assert_eq!((kept.get(bucket(2)).copied(), kept.get(bucket(1)).copied()), (None, Some(1)));
        // Three graphs of 10 bytes, and 90 that they share until one has gone.
        let mut shared = [90, 40].into_iter();
        kept.keep(bucket(16), 45, 16, &config, || shared.next().unwrap_or(40));
        assert_eq!((kept.get(bucket(16)).copied(), kept.graphs.len()), (Some(16), 2));
        kept.keep(bucket(32), 101, 32, &config, || 0);
        assert_eq!((kept.get(bucket(32)).copied(), kept.graphs.len()), (None, 0));
        assert_eq!((kept.refusal(bucket(32)), kept.refusal(bucket(1))), (Some(EagerReason::Memory), None));
        kept.clear();
        assert_eq!(kept.refusal(bucket(32)), None);
    }

    /// A filled-up step, over a cache with a block that is nobody's, gives the rows of the step alone, to the bit, and
    /// leaves the same keys and values.
    #[test]
    fn rows_that_are_filled_up_change_no_bit_of_the_others() -> Result<(), ModelError> {
        let qwen2 = br#"{"model_type": "qwen2", "vocab_size": 64, "hidden_size": 128, "intermediate_size": 192,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512,
            "rms_norm_eps": 1e-6, "rope_theta": 10000, "tie_word_embeddings": true}"#;
        let deepseek_v2 = br#"{"model_type": "deepseek_v2", "vocab_size": 64, "hidden_size": 128,
            "intermediate_size": 192, "moe_intermediate_size": 64, "num_hidden_layers": 2, "first_k_dense_replace": 1,
            "n_shared_experts": 1, "n_routed_experts": 8, "num_experts_per_tok": 3, "routed_scaling_factor": 1.0,
            "topk_method": "greedy", "n_group": 1, "topk_group": 1, "norm_topk_prob": false,
            "num_attention_heads": 4, "num_key_value_heads": 4, "q_lora_rank": null, "kv_lora_rank": 64,
            "qk_nope_head_dim": 32, "qk_rope_head_dim": 32, "v_head_dim": 32, "max_position_embeddings": 512,
            "rms_norm_eps": 1e-6, "rope_theta": 10000, "tie_word_embeddings": false}"#;
        let lens = [1, 17, 300, 40, 5];
        let configs: [&[u8]; 2] = [qwen2, deepseek_v2];
        let cases = configs.map(|config| [QuantLayout::F32, QuantLayout::Q8_0].map(|layout| (config, layout)));
        for (config, layout) in cases.into_iter().flatten() {
            let options = LoadOptions { layout: Some(layout), ..LoadOptions::default() };
            let mut model = load(WeightSource::Dummy { config_json: config }, &options)?;
            let mut run = |num_seqs: usize, fills_up: bool| -> Result<(Vec<f32>, Vec<Vec<f32>>), ModelError> {
                let kv = model.info().kv.clone();
                let (tables, num_blocks) = tables(&lens);
                // The last one is what on a GPU is the scratch block.
                let mut cache = KvCache::new(&kv, num_blocks + 1, BLOCK_LEN, &model.info().device)?;
                for (i, (&len, table)) in lens.iter().zip(&tables).enumerate().filter(|(_, (len, _))| **len > 1) {
                    let mut prompt = Batch::default();
                    let ids: Vec<u32> = (0..len as u32 - 1).map(|at| (at * 7 + i as u32) % 64).collect();
                    prompt.push(&ids, 0, table, BLOCK_LEN, 0);
                    model.forward(&prompt, &mut cache)?;
                }
                let mut batch = Batch::default();
                for (i, (&len, table)) in lens.iter().zip(&tables).take(num_seqs).enumerate() {
                    // One of them wants no logits.
                    batch.push(&[i as u32 + 3], len - 1, table, BLOCK_LEN, usize::from(i != 1));
                }
                let num_values = batch.logit_rows.len() * 64;
                if fills_up {
                    let bucket = GraphConfig::default().bucket(&batch).expect("it is a decode step");
                    batch = bucket.fill_up(&batch, num_blocks as u32, BLOCK_LEN);
                    assert_eq!((batch.num_tokens(), batch.logit_rows.len()), (bucket.num_seqs, bucket.num_seqs));
                }
                let mut logits = model.forward(&batch, &mut cache)?.to_cpu()?;
                logits.truncate(num_values);
                let planes = (0..kv.num_layers)
                    .flat_map(|layer_idx| cache.layer(layer_idx))
                    .map(|plane| Ok(plane.narrow(0, 0, num_blocks * BLOCK_LEN)?.flatten_all()?.to_vec1()?));
                Ok((logits, planes.collect::<Result<_, ModelError>>()?))
            };
            for num_seqs in 1..=lens.len() {
                assert!(run(num_seqs, true)? == run(num_seqs, false)?, "{layout:?}, {num_seqs} sequences");
            }
        }
        Ok(())
    }

    /// Blocks of sequences of `lens`, interleaved, and how many they are.
    fn tables(lens: &[usize]) -> (Vec<Vec<u32>>, usize) {
        let mut tables = vec![Vec::new(); lens.len()];
        let mut num_blocks = 0;
        for index in 0..lens.iter().max().map_or(0, |len| len.div_ceil(BLOCK_LEN)) {
            for (table, len) in tables.iter_mut().zip(lens) {
                if index < len.div_ceil(BLOCK_LEN) {
                    table.push(num_blocks as u32);
                    num_blocks += 1;
                }
            }
        }
        (tables, num_blocks)
    }
}
