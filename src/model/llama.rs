//! The Llama family: Llama, its descendants, and Qwen2 (biases on queries, keys and values).

use candle_core::{DType, Device, Tensor};

use super::config::LlamaConfig;
use super::decode_graphs::{DecodeGraphs, Outcome, RecordedAttention, StepInputs};
use super::layers::{AngleTable, Embedding, Epilogue, Linear, Loader, RmsNorm, RotaryEmbedding};
use super::shard::{Ranks, Share};
use super::{
    Batch, BatchSequence, GraphConfig, KvCache, KvSpec, LanguageModel, Logits, ModelError, ModelInfo, PlaneSpec,
    Sampling, Shard,
};
use crate::kernels::{self, PagedAttention, PlanCell, RopeKvWrite, Sums};

pub(crate) struct Llama {
    info: ModelInfo,
    body: Body,
    graphs: DecodeGraphs,
}

/// Everything that computes.
struct Body {
    heads: Heads,
    rotary: RotaryEmbedding,
    /// For the steps that are recorded.
    angles: Option<AngleTable>,
    embed_tokens: Embedding,
    layers: Vec<Layer>,
    norm: RmsNorm,
    lm_head: Linear,
}

struct Layer {
    input_layernorm: RmsNorm,
    qkv_proj: Linear,
    o_proj: Linear,
    post_attention_layernorm: RmsNorm,
    gate_up_proj: Linear,
    down_proj: Linear,
    ranks: Ranks,
}

/// What this rank has of the model.
struct Shares {
    heads: Share,
    kv_heads: Share,
    intermediate: Share,
}

/// How a row of queries, keys and values is divided.
#[derive(Clone, Copy)]
struct Heads {
    num_heads: usize,
    num_kv_heads: usize,
    head_dim: usize,
    sums: Sums,
}

/// What one step reads beside weights and cache, on the device.
struct Step<'a> {
    token_ids: Tensor,
    logit_rows: Tensor,
    cos: Tensor,
    sin: Tensor,
    slots: Tensor,
    attention: PagedAttention<'a>,
}

impl Llama {
    pub(crate) fn load(config: &LlamaConfig, loader: &Loader<'_>) -> Result<Self, ModelError> {
        let shares = Shares::new(config, loader.shard())?;
        let heads = Heads {
            num_heads: shares.heads.own.len(),
            num_kv_heads: shares.kv_heads.own.len(),
            head_dim: config.head_dim,
            sums: loader.sums(),
        };
        let embed_tokens = loader.embedding("model.embed_tokens.weight", config.vocab_size, config.hidden_size)?;
        let layer = |layer_idx| Layer::load(config, &shares, loader, &format!("model.layers.{layer_idx}."));
        let layers = (0..config.num_hidden_layers).map(layer).collect::<Result<_, _>>()?;
        let norm = loader.rms_norm("model.norm.weight", config.hidden_size, config.rms_norm_eps)?;
        let lm_head = match config.tie_word_embeddings {
            true => embed_tokens.tied_head(),
            false => loader.linear("", &[("lm_head", &Share::whole(config.vocab_size))], config.hidden_size, false)?,
        };
        let q_proj = "model.layers.0.self_attn.q_proj.weight";
        let kv_dtype = loader.kv_dtype(q_proj, &[shares.heads.len * config.head_dim, config.hidden_size])?;
        let plane = |name| PlaneSpec { name, width: heads.kv_width() };
        let info = ModelInfo {
            architecture: config.architecture.clone(),
            vocab_len: config.vocab_size,
            context_len: config.max_position_embeddings,
            kv: KvSpec {
                num_layers: config.num_hidden_layers,
                planes: vec![plane("keys"), plane("values")],
                dtype: kv_dtype,
            },
            device: loader.device().clone(),
            weight_bytes: loader.num_bytes(),
            num_parameters: loader.num_parameters(),
            load: loader.finish()?,
            quantization: loader.quantization(),
        };
        let rotary = RotaryEmbedding::new(config.head_dim, config.rope_theta, &config.rope_scaling, loader.device());
        let graphs = loader.graphs();
        let angles = match graphs.filter(|_| loader.device().is_cuda()).map(GraphConfig::context_len_max) {
            Some(len) => Some(rotary.table(len.min(config.max_position_embeddings))?),
            None => None,
        };
        let graphs = DecodeGraphs::new(graphs, heads.recorded(kv_dtype), loader.device())?;
        let body = Body { heads, rotary, angles, embed_tokens, layers, norm, lm_head };
        Ok(Self { info, body, graphs })
    }
}

impl LanguageModel for Llama {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn forward(&mut self, batch: &Batch, cache: &mut KvCache) -> Result<Logits, ModelError> {
        batch.check(&self.info, cache)?;
        let Self { info, body, graphs } = self;
        let recorded = |inputs: &StepInputs<'_>| body.forward(&body.recorded_step(inputs, cache)?, cache);
        let pass = match graphs.run(batch, None, cache, recorded)? {
            Outcome::Done(logits) => return Ok(logits),
            Outcome::Left(pass) => pass,
        };
        let logits = body.forward(&body.step(batch, cache, &info.device)?, cache)?;
        Logits::new(logits, pass)
    }

    fn runs_ahead(&self) -> bool {
        self.graphs.are_on()
    }

    fn forward_ahead(
        &mut self,
        batch: &Batch,
        sampling: &Sampling,
        cache: &mut KvCache,
    ) -> Result<Option<Logits>, ModelError> {
        batch.check(&self.info, cache)?;
        let Some(ids) = sampling.ids_on_gpu()?.filter(|ids| ids.elem_count() == batch.sequences.len()) else {
            return Ok(None);
        };
        let Self { body, graphs, .. } = self;
        let recorded = |inputs: &StepInputs<'_>| body.forward(&body.recorded_step(inputs, cache)?, cache);
        Ok(match graphs.run(batch, Some(&ids), cache, recorded)? {
            Outcome::Done(logits) => Some(logits),
            Outcome::Left(_) => None,
        })
    }
}

impl Body {
    fn step<'a>(&self, batch: &'a Batch, cache: &KvCache, device: &Device) -> Result<Step<'a>, ModelError> {
        let (cos, sin) = self.rotary.angles(&batch.positions)?;
        Ok(Step {
            token_ids: Tensor::new(batch.token_ids.as_slice(), device)?,
            logit_rows: Tensor::new(batch.logit_rows.as_slice(), device)?,
            cos,
            sin,
            slots: Tensor::new(batch.slots.as_slice(), device)?,
            attention: self.heads.attention(&batch.sequences, PlanCell::new(self.heads.sums), cache),
        })
    }

    /// The same of inputs that lie on the device already.
    fn recorded_step<'a>(&self, inputs: &StepInputs<'a>, cache: &KvCache) -> Result<Step<'a>, ModelError> {
        let Some(angles) = &self.angles else {
            return Err(ModelError::InvalidBatch { detail: "a step is recorded without a table of angles".into() });
        };
        let (cos, sin) = angles.at(&inputs.positions)?;
        Ok(Step {
            token_ids: inputs.token_ids.clone(),
            logit_rows: inputs.logit_rows.clone(),
            cos,
            sin,
            slots: inputs.slots.clone(),
            attention: self.heads.attention(inputs.sequences, inputs.plan.clone(), cache),
        })
    }

    /// A row of logits for each of the step's `logit_rows`.
    fn forward(&self, step: &Step<'_>, cache: &KvCache) -> Result<Tensor, ModelError> {
        let mut xs = self.embed_tokens.forward(&step.token_ids)?;
        for (layer_idx, layer) in self.layers.iter().enumerate() {
            xs = layer.forward(&xs, self.heads, step, cache.layer(layer_idx))?;
        }
        let xs = kernels::gather(&xs, &step.logit_rows)?;
        self.lm_head.forward(&self.norm.forward(&xs)?, Epilogue::None)
    }
}

impl Layer {
    fn load(config: &LlamaConfig, shares: &Shares, loader: &Loader<'_>, prefix: &str) -> Result<Self, ModelError> {
        let LlamaConfig { hidden_size, head_dim, rms_norm_eps, biases, .. } = *config;
        let norm = |name: &str| loader.rms_norm(&format!("{prefix}{name}.weight"), hidden_size, rms_norm_eps);
        let linear = |names: &[(&str, &Share)], bias| loader.linear(prefix, names, hidden_size, bias);
        let term = |name, inputs: &Share, bias| loader.term(prefix, (name, hidden_size), inputs, bias);
        let (q, kv) = (shares.heads.of_width(head_dim), shares.kv_heads.of_width(head_dim));
        let inner = &shares.intermediate;
        let qkv = [("self_attn.q_proj", &q), ("self_attn.k_proj", &kv), ("self_attn.v_proj", &kv)];
        Ok(Self {
            input_layernorm: norm("input_layernorm")?,
            qkv_proj: linear(&qkv, biases.qkv_proj)?,
            o_proj: term("self_attn.o_proj", &q, biases.o_proj)?,
            post_attention_layernorm: norm("post_attention_layernorm")?,
            gate_up_proj: linear(&[("mlp.gate_proj", inner), ("mlp.up_proj", inner)], biases.mlp)?,
            down_proj: term("mlp.down_proj", inner, biases.mlp)?,
            ranks: loader.ranks(),
        })
    }

    fn forward(&self, xs: &Tensor, heads: Heads, step: &Step<'_>, planes: &[Tensor]) -> Result<Tensor, ModelError> {
        let q = heads.q_width();
        let qkv = self.qkv_proj.forward(&self.input_layernorm.forward(xs)?, Epilogue::None)?;
        let Step { cos, sin, slots, .. } = step;
        kernels::rope_kv_write(&qkv, &RopeKvWrite { cos, sin, slots, keys: &planes[0], values: &planes[1] })?;
        let ys = kernels::paged_attention(&qkv.narrow(1, 0, q)?, &planes[0], &planes[1], &step.attention)?;
        let xs = self.ranks.sum_onto(xs, |epilogue| self.o_proj.forward(&ys, epilogue))?;
        let gate_up = self.gate_up_proj.forward(&self.post_attention_layernorm.forward(&xs)?, Epilogue::None)?;
        let ys = kernels::silu_mul(&gate_up)?;
        self.ranks.sum_onto(&xs, |epilogue| self.down_proj.forward(&ys, epilogue))
    }
}

impl Shares {
    /// Heads of keys and values that are fewer than ranks are on several of them, beside the queries that read them.
    fn new(config: &LlamaConfig, shard: Shard) -> Result<Self, ModelError> {
        Ok(Self {
            heads: shard.share("num_attention_heads", config.num_attention_heads)?,
            kv_heads: shard.share_or_copy("num_key_value_heads", config.num_key_value_heads)?,
            intermediate: shard.share("intermediate_size", config.intermediate_size)?,
        })
    }
}

impl Heads {
    fn q_width(&self) -> usize {
        self.num_heads * self.head_dim
    }

    fn kv_width(&self) -> usize {
        self.num_kv_heads * self.head_dim
    }

    fn recorded(&self, dtype: DType) -> RecordedAttention {
        let Self { num_heads, num_kv_heads, head_dim, sums } = *self;
        RecordedAttention { group: num_heads / num_kv_heads, tile_rows: kernels::tile_rows(dtype, head_dim), sums }
    }

    fn attention<'a>(&self, sequences: &'a [BatchSequence], plan: PlanCell, cache: &KvCache) -> PagedAttention<'a> {
        PagedAttention {
            sequences,
            block_len: cache.block_len(),
            num_heads: self.num_heads,
            num_kv_heads: self.num_kv_heads,
            scale: 1.0 / (self.head_dim as f32).sqrt(),
            plan,
        }
    }
}
