//! Decode steps as work that a GPU records once and replays.
//!
//! Launching a layer takes the host longer than running it takes the device while batches are small; a replay is one
//! launch. What changes from step to step (ids, positions, slots, who attends to what) lies in one vector at a fixed
//! place, filled before the replay; what is computed from it on the way is the device's. [`super::decode_bucket`] says
//! which steps have a size in common.

use candle_core::{Device, Tensor};

use super::decode_bucket::{Bucket, Kept};
use super::{Batch, BatchSequence, EagerReason, GraphConfig, KvCache, Logits, ModelError, Pass};
use crate::kernels::gpu::{self, Graph};
use crate::kernels::{AttentionPlan, FixedVector, PlanCell, PlanShape, Sums};

/// The recorded steps of one model.
pub(crate) struct DecodeGraphs {
    device: Device,
    config: Option<GraphConfig>,
    attention: RecordedAttention,
    /// The cache that they were recorded over.
    cache_id: u64,
    kept: Kept<Recorded>,
}

/// How the model that is recorded attends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordedAttention {
    /// Query heads per key head, or per latent.
    pub(crate) group: usize,
    /// Rows that the matrix units take together, where they take the planes of the KV cache.
    pub(crate) tile_rows: Option<usize>,
    pub(crate) sums: Sums,
}

/// What a decode step reads beside weights and cache. All of it stays where it is while the step's graph lives.
pub(crate) struct StepInputs<'a> {
    /// `[rows]`, u32.
    pub(crate) token_ids: Tensor,
    /// `[rows]`, u32.
    pub(crate) positions: Tensor,
    /// `[rows]`, u32.
    pub(crate) slots: Tensor,
    /// `[rows]`, u32.
    pub(crate) logit_rows: Tensor,
    /// Of as many rows.
    pub(crate) sequences: &'a [BatchSequence],
    /// For these sequences.
    pub(crate) plan: PlanCell,
}

/// What became of a step.
pub(crate) enum Outcome {
    /// It ran.
    Done(Logits),
    /// The caller has to run it, in the way that is said.
    Left(Pass),
}

struct Recorded {
    graph: Graph,
    inputs: FixedVector,
    /// `[rows, vocab_len]`, f32: every replay writes it anew.
    logits: Tensor,
}

impl DecodeGraphs {
    /// For a model on `device`; nothing is recorded before it is asked for.
    ///
    /// # Errors
    /// [`ModelError::GraphConfig`].
    pub(crate) fn new(
        config: Option<&GraphConfig>,
        attention: RecordedAttention,
        device: &Device,
    ) -> Result<Self, ModelError> {
        config.map(GraphConfig::check).transpose()?;
        Ok(Self {
            device: device.clone(),
            config: config.cloned().filter(|_| device.is_cuda()),
            attention,
            cache_id: u64::MAX,
            kept: Kept::new(),
        })
    }

    /// Whether steps are recorded at all.
    pub(crate) fn are_on(&self) -> bool {
        self.config.is_some()
    }

    /// Runs a step that was checked: replays it if its sizes were recorded over this `cache`, or runs and records it.
    ///
    /// `compute` gives the logits of all rows of its inputs, and gives the same whenever it is asked to; it may neither
    /// upload nor read back. Where there are `ids` (`[sequences]`, u32), they take the place of the batch's, and only a
    /// replay is run.
    ///
    /// # Errors
    /// When the device fails. A step that cannot be recorded is none: it ran, and is not tried again.
    pub(crate) fn run(
        &mut self,
        batch: &Batch,
        ids: Option<&Tensor>,
        cache: &KvCache,
        compute: impl Fn(&StepInputs<'_>) -> Result<Tensor, ModelError>,
    ) -> Result<Outcome, ModelError> {
        if self.device.is_cpu() {
            return Ok(Outcome::Left(Pass::Cpu));
        }
        let Some(config) = &self.config else { return Ok(Outcome::Left(Pass::Eager(EagerReason::Off))) };
        if self.cache_id != cache.id() {
            self.kept.clear();
            self.cache_id = cache.id();
        }
        let bucket = config.bucket(batch).and_then(|bucket| match self.kept.refusal(bucket) {
            Some(reason) => Err(reason),
            None => Ok(bucket),
        });
        let bucket = match bucket {
            Ok(bucket) => bucket,
            Err(reason) => return Ok(Outcome::Left(Pass::Eager(reason))),
        };
        let filled = bucket.fill_up(batch, cache.scratch_block(), cache.block_len());
        let RecordedAttention { group, tile_rows, sums } = self.attention;
        let shape = PlanShape { group, tile_rows, context_len: bucket.context_len, block_len: cache.block_len(), sums };
        let plan = AttentionPlan::of_shape(&filled.sequences, &shape);
        let words = [&filled.token_ids, &filled.positions, &filled.slots, &filled.logit_rows, &plan.words]
            .map(Vec::as_slice)
            .concat();
        let (logits, pass) = match self.kept.get(bucket) {
            Some(recorded) => {
                recorded.inputs.fill(&words)?;
                if let Some(ids) = ids {
                    recorded.inputs.tensor().slice_set(ids, 0, 0)?;
                }
                recorded.graph.replay()?;
                (recorded.logits.clone(), Pass::Replayed)
            }
            None if ids.is_some() => return Ok(Outcome::Left(Pass::Eager(EagerReason::Recording))),
            None => {
                let mut inputs = FixedVector::new(words.len(), &self.device)?;
                inputs.fill(&words)?;
                let step = StepInputs::new(&inputs, &filled, bucket, plan)?;
                (self.record(bucket, inputs, &step, compute)?, Pass::Eager(EagerReason::Recording))
            }
        };
        Ok(Outcome::Done(Logits::new(logits.narrow(0, 0, batch.logit_rows.len())?, pass)?))
    }

    /// Runs a step and records it for the next of its bucket. Its logits are where theirs will be.
    fn record(
        &mut self,
        bucket: Bucket,
        inputs: FixedVector,
        step: &StepInputs<'_>,
        compute: impl Fn(&StepInputs<'_>) -> Result<Tensor, ModelError>,
    ) -> Result<Tensor, ModelError> {
        let logits = gpu::warm_up(&self.device, || compute(step))?;
        let recorded =
            Graph::record(&self.device, || -> Result<(), ModelError> { Ok(logits.slice_set(&compute(step)?, 0, 0)?) });
        let Bucket { num_seqs, context_len } = bucket;
        match (recorded, &self.config) {
            (Ok(graph), Some(config)) => {
                let num_bytes = 4 * (inputs.tensor().elem_count() + logits.elem_count());
                let recorded = Recorded { graph, inputs, logits: logits.clone() };
                let (device, mut has_any_gone) = (&self.device, false);
                self.kept.keep(bucket, num_bytes, recorded, config, || {
                    if std::mem::replace(&mut has_any_gone, true)
                        && let Err(error) = gpu::trim_graph_memory(device)
                    {
                        tracing::warn!(%error, "memory of decode graphs that are gone was not given back");
                    }
                    gpu::graph_memory(device)
                });
                tracing::debug!(num_seqs, context_len, "recorded a decode graph");
            }
            (Ok(_), None) => {}
            (Err(error), _) => {
                tracing::warn!(%error, num_seqs, context_len, "decode steps of these sizes run launch by launch");
                self.kept.refuse(bucket, EagerReason::Failed);
            }
        }
        Ok(logits)
    }
}

impl<'a> StepInputs<'a> {
    /// The parts of `inputs`, which holds ids, positions, slots, rows of logits and the plan's words, in this order.
    fn new(inputs: &FixedVector, filled: &'a Batch, bucket: Bucket, plan: AttentionPlan) -> Result<Self, ModelError> {
        let rows = |index| inputs.tensor().narrow(0, index * bucket.num_seqs, bucket.num_seqs);
        let words = inputs.tensor().narrow(0, 4 * bucket.num_seqs, plan.words.len())?;
        Ok(Self {
            token_ids: rows(0)?,
            positions: rows(1)?,
            slots: rows(2)?,
            logit_rows: rows(3)?,
            sequences: &filled.sequences,
            plan: PlanCell::made(plan, words),
        })
    }
}
