//! DeepSeek-V2: multi-head latent attention, and mixtures of experts behind a few dense layers.
//!
//! A token leaves one row per layer in the cache: the latent of its keys and values, and the rotary part of its key.
//! Attention runs in absorbed form, for prompts as for single tokens: each head's query is projected into the latent's
//! space, and what it gathers there is projected to the head's values. So nothing of the context is ever expanded.

use candle_core::{Device, Tensor};

use super::decode_graphs::{DecodeGraphs, Outcome, RecordedAttention, StepInputs};
use super::deepseek_config::DeepseekV2Config;
use super::gguf::interleaved_row;
use super::layers::{
    AngleTable, Embedding, Epilogue, GroupedLinear, Linear, Loader, Mixture, MixtureShape, Mlp, RmsNorm,
    RotaryEmbedding,
};
use super::shard::{Ranks, Share};
use super::{
    Batch, BatchSequence, GraphConfig, KvCache, KvSpec, LanguageModel, Logits, ModelError, ModelInfo, PlaneSpec,
    QuantWeight, Sampling, Shard,
};
use crate::kernels::{self, ExpertChoice, ExpertScaling, MlaAttention, PairGroups, PlanCell, Sums};

/// Added to the mean square of latents before they are normalized, whatever the configuration says of other layers.
const LATENT_NORM_EPS: f64 = 1e-6;

pub(crate) struct DeepseekV2 {
    info: ModelInfo,
    body: Body,
    graphs: DecodeGraphs,
}

/// Everything that computes.
struct Body {
    heads: Heads,
    head_ids: HeadIds,
    rotary: RotaryEmbedding,
    /// For the steps that are recorded.
    fixed: Option<Fixed>,
    embed_tokens: Embedding,
    layers: Vec<Layer>,
    norm: RmsNorm,
    lm_head: Linear,
}

struct Layer {
    input_layernorm: RmsNorm,
    attention: Attention,
    post_attention_layernorm: RmsNorm,
    mlp: FeedForward,
    ranks: Ranks,
}

struct Attention {
    /// Side by side: the queries or their latent, the latent of keys and values, and the keys' rotary part.
    qkv_a_proj: Linear,
    /// From the queries' latent to the queries, where they have one.
    q_b: Option<(RmsNorm, Linear)>,
    kv_a_layernorm: RmsNorm,
    /// Per head, from a query to the latent's space.
    k_b_proj: GroupedLinear,
    /// Per head, from the latent to a value.
    v_b_proj: GroupedLinear,
    o_proj: Linear,
}

enum FeedForward {
    Dense(Mlp),
    Mixture(Mixture),
}

/// What this rank has of the model. Latents are whole on every rank: each of its heads reads all of them.
struct Shares {
    heads: Share,
    /// Of the dense layers.
    intermediate: Share,
    /// Of an expert.
    moe_intermediate: Share,
    shared_intermediate: Option<Share>,
}

/// How queries and the cached rows are divided.
#[derive(Clone, Copy)]
struct Heads {
    num_heads: usize,
    /// Elements of a head's query and key that do not turn.
    nope: usize,
    /// Elements that do.
    rope: usize,
    value: usize,
    latent: usize,
    scale: f32,
    sums: Sums,
}

/// Every head of each token, for as many tokens as any step has had: what never changes is brought to the device once.
struct HeadIds {
    num_heads: usize,
    ids: Option<Tensor>,
}

/// What recorded steps read: it stays where it is for as long as the model lives.
struct Fixed {
    angles: AngleTable,
    /// `[tokens, heads]`, for the most tokens of such a step.
    head_ids: Tensor,
}

/// What one step reads beside weights and cache, on the device.
struct Step<'a> {
    token_ids: Tensor,
    logit_rows: Tensor,
    cos: Tensor,
    sin: Tensor,
    slots: Tensor,
    /// The head of each (query, head) pair.
    heads: PairGroups,
    attention: MlaAttention<'a>,
}

impl DeepseekV2 {
    pub(crate) fn load(config: &DeepseekV2Config, loader: &Loader<'_>) -> Result<Self, ModelError> {
        let shares = Shares::new(config, loader.shard())?;
        let heads = Heads::of(config, &shares, loader.sums());
        let embed_tokens = loader.embedding("model.embed_tokens.weight", config.vocab_size, config.hidden_size)?;
        let layers = (0..config.num_hidden_layers)
            .map(|idx| Layer::load(config, &shares, loader, idx))
            .collect::<Result<_, _>>()?;
        let norm = loader.rms_norm("model.norm.weight", config.hidden_size, config.rms_norm_eps)?;
        let lm_head = match config.tie_word_embeddings {
            true => embed_tokens.tied_head(),
            false => loader.linear("", &[("lm_head", &Share::whole(config.vocab_size))], config.hidden_size, false)?,
        };
        let kv_dtype = loader.kv_dtype(
            "model.layers.0.self_attn.kv_a_proj_with_mqa.weight",
            &[heads.latent + heads.rope, config.hidden_size],
        )?;
        let info = ModelInfo {
            architecture: "deepseek_v2".to_owned(),
            vocab_len: config.vocab_size,
            context_len: config.max_position_embeddings,
            kv: KvSpec {
                num_layers: config.num_hidden_layers,
                planes: vec![PlaneSpec { name: "latents", width: heads.latent + heads.rope }],
                dtype: kv_dtype,
            },
            device: loader.device().clone(),
            weight_bytes: loader.num_bytes(),
            num_parameters: loader.num_parameters(),
            load: loader.finish()?,
            quantization: loader.quantization(),
        };
        let rotary = RotaryEmbedding::new(heads.rope, config.rope_theta, &config.rope_scaling, loader.device());
        let head_ids = HeadIds { num_heads: heads.num_heads, ids: None };
        let graphs = loader.graphs();
        let fixed = match graphs.filter(|_| loader.device().is_cuda()) {
            Some(graphs) => Some(Fixed::new(graphs, config, heads, &rotary, loader.device())?),
            None => None,
        };
        let attention = RecordedAttention {
            group: heads.num_heads,
            tile_rows: kernels::mla_tile_rows(kv_dtype, heads.latent, heads.rope),
            sums: heads.sums,
        };
        let graphs = DecodeGraphs::new(graphs, attention, loader.device())?;
        let body = Body { heads, head_ids, rotary, fixed, embed_tokens, layers, norm, lm_head };
        Ok(Self { info, body, graphs })
    }
}

impl LanguageModel for DeepseekV2 {
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
        let step = body.step(batch, cache, &info.device)?;
        Logits::new(body.forward(&step, cache)?, pass)
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
    fn step<'a>(&mut self, batch: &'a Batch, cache: &KvCache, device: &Device) -> Result<Step<'a>, ModelError> {
        let (cos, sin) = self.rotary.angles(&batch.positions)?;
        Ok(Step {
            token_ids: Tensor::new(batch.token_ids.as_slice(), device)?,
            logit_rows: Tensor::new(batch.logit_rows.as_slice(), device)?,
            cos,
            sin,
            slots: Tensor::new(batch.slots.as_slice(), device)?,
            heads: self.head_ids.of_tokens(batch.num_tokens(), device)?,
            attention: self.heads.attention(&batch.sequences, PlanCell::new(self.heads.sums), cache),
        })
    }

    /// The same of inputs that lie on the device already. Its pairs are sorted anew in each: that is recorded too.
    fn recorded_step<'a>(&self, inputs: &StepInputs<'a>, cache: &KvCache) -> Result<Step<'a>, ModelError> {
        let Some(Fixed { angles, head_ids }) = &self.fixed else {
            return Err(ModelError::InvalidBatch { detail: "a step is recorded without a table of angles".into() });
        };
        let (cos, sin) = angles.at(&inputs.positions)?;
        Ok(Step {
            token_ids: inputs.token_ids.clone(),
            logit_rows: inputs.logit_rows.clone(),
            cos,
            sin,
            slots: inputs.slots.clone(),
            heads: PairGroups::new(head_ids.narrow(0, 0, inputs.sequences.len())?, self.heads.num_heads)?,
            attention: self.heads.attention(inputs.sequences, inputs.plan.clone(), cache),
        })
    }

    /// A row of logits for each of the step's `logit_rows`.
    fn forward(&self, step: &Step<'_>, cache: &KvCache) -> Result<Tensor, ModelError> {
        let mut xs = self.embed_tokens.forward(&step.token_ids)?;
        for (layer_idx, layer) in self.layers.iter().enumerate() {
            xs = layer.forward(&xs, self.heads, step, &cache.layer(layer_idx)[0])?;
        }
        let xs = kernels::gather(&xs, &step.logit_rows)?;
        self.lm_head.forward(&self.norm.forward(&xs)?, Epilogue::None)
    }
}

impl Fixed {
    fn new(
        graphs: &GraphConfig,
        config: &DeepseekV2Config,
        heads: Heads,
        rotary: &RotaryEmbedding,
        device: &Device,
    ) -> Result<Self, ModelError> {
        Ok(Self {
            angles: rotary.table(graphs.context_len_max().min(config.max_position_embeddings))?,
            head_ids: head_ids(graphs.num_seqs_max(), heads.num_heads, device)?,
        })
    }
}

/// `[tokens, heads]`: the heads of each token, in order.
fn head_ids(num_tokens: usize, num_heads: usize, device: &Device) -> Result<Tensor, ModelError> {
    let ids = (0..num_tokens).flat_map(|_| 0..num_heads as u32).collect();
    Ok(Tensor::from_vec(ids, (num_tokens, num_heads), device)?)
}

impl HeadIds {
    fn of_tokens(&mut self, num_tokens: usize, device: &Device) -> Result<PairGroups, ModelError> {
        let ids = match self.ids.take().filter(|ids| ids.dims()[0] >= num_tokens) {
            Some(ids) => ids,
            None => head_ids(num_tokens.next_power_of_two(), self.num_heads, device)?,
        };
        let ids = self.ids.insert(ids);
        Ok(PairGroups::new(ids.narrow(0, 0, num_tokens)?, self.num_heads)?)
    }
}

impl Layer {
    fn load(
        config: &DeepseekV2Config,
        shares: &Shares,
        loader: &Loader<'_>,
        layer_idx: usize,
    ) -> Result<Self, ModelError> {
        let DeepseekV2Config { hidden_size, rms_norm_eps, .. } = *config;
        let prefix = format!("model.layers.{layer_idx}.");
        let norm = |name: &str| loader.rms_norm(&format!("{prefix}{name}.weight"), hidden_size, rms_norm_eps);
        let mlp = format!("{prefix}mlp.");
        Ok(Self {
            input_layernorm: norm("input_layernorm")?,
            attention: Attention::load(config, shares, loader, &format!("{prefix}self_attn."))?,
            post_attention_layernorm: norm("post_attention_layernorm")?,
            mlp: match layer_idx < config.first_k_dense_replace {
                true => FeedForward::Dense(Mlp::load(loader, &mlp, hidden_size, &shares.intermediate)?),
                false => FeedForward::Mixture(Mixture::load(loader, &mlp, &mixture_shape(config, shares))?),
            },
            ranks: loader.ranks(),
        })
    }

    fn forward(&self, xs: &Tensor, heads: Heads, step: &Step<'_>, latents: &Tensor) -> Result<Tensor, ModelError> {
        let normed = self.input_layernorm.forward(xs)?;
        let ys = self.attention.forward(&normed, heads, step, latents)?;
        let xs = self.ranks.sum_onto(xs, |epilogue| self.attention.o_proj.forward(&ys, epilogue))?;
        let normed = self.post_attention_layernorm.forward(&xs)?;
        self.ranks.sum_onto(&xs, |epilogue| match &self.mlp {
            FeedForward::Dense(mlp) => mlp.forward(&normed, epilogue),
            FeedForward::Mixture(mixture) => mixture.forward(&normed, epilogue),
        })
    }
}

fn mixture_shape(config: &DeepseekV2Config, shares: &Shares) -> MixtureShape {
    MixtureShape {
        hidden_size: config.hidden_size,
        intermediate: shares.moe_intermediate.clone(),
        num_experts: config.n_routed_experts,
        shared_intermediate: shares.shared_intermediate.clone(),
        choice: ExpertChoice {
            num_chosen: config.num_experts_per_tok,
            num_groups: config.n_group,
            num_open_groups: config.topk_group,
        },
        scaling: ExpertScaling { normalize: config.norm_topk_prob, factor: config.routed_scaling_factor as f32 },
    }
}

impl Attention {
    fn load(config: &DeepseekV2Config, shares: &Shares, loader: &Loader<'_>, prefix: &str) -> Result<Self, ModelError> {
        let heads = Heads::of(config, shares, loader.sums());
        let hidden_size = config.hidden_size;
        let matrix = |name: &str, outputs, inputs| loader.matrix(&format!("{prefix}{name}.weight"), &[outputs, inputs]);
        let norm = |name: &str, width| loader.rms_norm(&format!("{prefix}{name}.weight"), width, LATENT_NORM_EPS);
        let queries = |name: &str, inputs| {
            let rows = shares.heads.of_width(heads.nope + heads.rope);
            let weight = loader.matrix_rows(&format!("{prefix}{name}.weight"), &rows, inputs)?;
            Ok::<_, ModelError>(weight.permute_rows(|row_idx| heads.query_row(row_idx)))
        };
        let (q_a_name, kv_a_name) =
            (if config.q_lora_rank.is_some() { "q_a_proj" } else { "q_proj" }, "kv_a_proj_with_mqa");
        let kv_a = matrix(kv_a_name, heads.latent + heads.rope, hidden_size)?;
        let kv_a = kv_a.permute_rows(|row_idx| heads.latent_row(row_idx));
        let (q_a, q_b) = match config.q_lora_rank {
            None => (queries(q_a_name, hidden_size)?, None),
            Some(rank) => {
                let q_b = loader.linear_of(prefix, vec![("q_b_proj", queries("q_b_proj", rank)?)])?;
                (matrix(q_a_name, rank, hidden_size)?, Some((norm("q_a_layernorm", rank)?, q_b)))
            }
        };
        let (k_b_proj, v_b_proj) = load_kv_b(heads, &shares.heads, loader, prefix)?;
        Ok(Self {
            qkv_a_proj: loader.linear_of(prefix, vec![(q_a_name, q_a), (kv_a_name, kv_a)])?,
            q_b,
            kv_a_layernorm: norm("kv_a_layernorm", heads.latent)?,
            k_b_proj,
            v_b_proj,
            o_proj: loader.term(prefix, ("o_proj", hidden_size), &shares.heads.of_width(heads.value), false)?,
        })
    }

    /// `[rows, heads * value]`: what the heads gather, for `o_proj`.
    fn forward(&self, xs: &Tensor, heads: Heads, step: &Step<'_>, latents: &Tensor) -> Result<Tensor, ModelError> {
        let Heads { num_heads, nope, rope, value, latent, .. } = heads;
        let num_tokens = xs.dims()[0];
        let qkv = self.qkv_a_proj.forward(xs, Epilogue::None)?;
        let q_a_width = qkv.dims()[1] - latent - rope;
        let kv_latent = self.kv_a_layernorm.forward(&qkv.narrow(1, q_a_width, latent)?)?;
        let k_rope = qkv.narrow(1, q_a_width + latent, rope)?;
        kernels::rope(&k_rope, &step.cos, &step.sin)?;
        kernels::kv_write(&latents.narrow(1, 0, latent)?, &kv_latent, &step.slots)?;
        kernels::kv_write(&latents.narrow(1, latent, rope)?, &k_rope, &step.slots)?;

        let q_a = qkv.narrow(1, 0, q_a_width)?;
        let q = match &self.q_b {
            Some((norm, q_b_proj)) => q_b_proj.forward(&norm.forward(&q_a)?, Epilogue::None)?,
            None => q_a,
        };
        let q_rope = q.narrow(1, num_heads * nope, num_heads * rope)?;
        kernels::rope(&q_rope, &step.cos, &step.sin)?;
        let q_nope = q.narrow(1, 0, num_heads * nope)?.contiguous()?.reshape((num_tokens * num_heads, nope))?;
        let q_latent = self.k_b_proj.forward(&q_nope, &step.heads)?;
        let gathered = kernels::mla_attention(&q_latent, &q_rope, latents, &step.attention)?;
        Ok(self.v_b_proj.forward(&gathered, &step.heads)?.reshape((num_tokens, num_heads * value))?)
    }
}

/// The two halves of `kv_b_proj`, per head of this rank: the keys' turned around, the values' as they are.
///
/// Newer GGUF files have them apart. The keys' half of other quantized files is kept as f32, since a block of it holds
/// neighbours of a row that is now a column.
fn load_kv_b(
    heads: Heads,
    share: &Share,
    loader: &Loader<'_>,
    prefix: &str,
) -> Result<(GroupedLinear, GroupedLinear), ModelError> {
    let Heads { nope, value, latent, .. } = heads;
    let num_heads = share.len;
    let per_head = |name: &str, head_rows: &dyn Fn(usize) -> Result<QuantWeight<'static>, ModelError>| {
        let group = |head| Ok::<_, ModelError>(vec![loader.laid_out(name, head_rows(head)?)?]);
        loader.grouped(name, share.own.clone().map(group).collect::<Result<_, _>>()?)
    };
    let (k_name, v_name) = (format!("{prefix}k_b_proj.weight"), format!("{prefix}v_b_proj.weight"));
    if loader.has(&k_name) {
        let k_b = loader.unread_matrix(&k_name, &[num_heads, latent, nope])?;
        let v_b = loader.unread_matrix(&v_name, &[num_heads, value, latent])?;
        let rows =
            |weight: &QuantWeight<'_>, head, len| Ok(loader.part(weight, head * len..(head + 1) * len).into_owned());
        let k_b_proj = per_head(&k_name, &|head| rows(&k_b, head, latent))?;
        return Ok((k_b_proj, per_head(&v_name, &|head| rows(&v_b, head, value))?));
    }
    let name = format!("{prefix}kv_b_proj.weight");
    let kv_b = loader.unread_matrix(&name, &[num_heads * (nope + value), latent])?;
    let rows = |start, len| loader.part(&kv_b, start..start + len);
    let k_b_proj = per_head(&name, &|head| rows(head * (nope + value), nope).transposed())?;
    let v_b_proj = per_head(&name, &|head| Ok(rows(head * (nope + value) + nope, value).into_owned()))?;
    Ok((k_b_proj, v_b_proj))
}

impl Shares {
    fn new(config: &DeepseekV2Config, shard: Shard) -> Result<Self, ModelError> {
        let moe_intermediate = shard.share("moe_intermediate_size", config.moe_intermediate_size)?;
        let num_shared = config.n_shared_experts;
        // As many columns of a matrix that has the shared experts side by side, wherever they come to lie.
        let shared = shard.share("moe_intermediate_size", num_shared * config.moe_intermediate_size)?;
        Ok(Self {
            heads: shard.share("num_attention_heads", config.num_attention_heads)?,
            intermediate: shard.share("intermediate_size", config.intermediate_size)?,
            moe_intermediate,
            shared_intermediate: (num_shared > 0).then_some(shared),
        })
    }
}

impl Heads {
    fn of(config: &DeepseekV2Config, shares: &Shares, sums: Sums) -> Self {
        Self {
            num_heads: shares.heads.own.len(),
            nope: config.qk_nope_head_dim,
            rope: config.qk_rope_head_dim,
            value: config.v_head_dim,
            latent: config.kv_lora_rank,
            scale: config.softmax_scale() as f32,
            sums,
        }
    }

    /// Where the checkpoint has row `row_idx` of the queries: it keeps each head's parts together and pairs neighbours
    /// to turn, here the turned parts of all heads stand last and pair halves.
    fn query_row(&self, row_idx: usize) -> usize {
        let width = self.nope + self.rope;
        match row_idx.checked_sub(self.num_heads * self.nope) {
            None => row_idx / self.nope * width + row_idx % self.nope,
            Some(row_idx) => row_idx / self.rope * width + self.nope + interleaved_row(row_idx % self.rope, self.rope),
        }
    }

    /// Where the checkpoint has row `row_idx` of the latent and the keys' rotary part.
    fn latent_row(&self, row_idx: usize) -> usize {
        match row_idx.checked_sub(self.latent) {
            None => row_idx,
            Some(row_idx) => self.latent + interleaved_row(row_idx, self.rope),
        }
    }

    fn attention<'a>(&self, sequences: &'a [BatchSequence], plan: PlanCell, cache: &KvCache) -> MlaAttention<'a> {
        MlaAttention { sequences, block_len: cache.block_len(), num_heads: self.num_heads, scale: self.scale, plan }
    }
}
