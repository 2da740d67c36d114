//! What a DeepSeek-V2 checkpoint says of itself, in config.json or in a GGUF file of architecture `deepseek2`.

use super::ModelError;
use super::config::{Keys, RopeScaling, Yarn};
use super::gguf::GgufFile;

/// Widths and counts that are multiplied with each other; far above any model, and no product of three overflows.
const DIM_MAX: usize = 1 << 20;

/// The shape of a DeepSeek-V2 model. Field names are those of Hugging Face's config.json.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DeepseekV2Config {
    pub(crate) vocab_size: usize,
    pub(crate) hidden_size: usize,
    pub(crate) num_hidden_layers: usize,
    pub(crate) num_attention_heads: usize,
    /// Width of the queries' latent; without one they are projected at once.
    pub(crate) q_lora_rank: Option<usize>,
    pub(crate) kv_lora_rank: usize,
    pub(crate) qk_nope_head_dim: usize,
    pub(crate) qk_rope_head_dim: usize,
    pub(crate) v_head_dim: usize,
    /// Layers in front whose feed-forward part is dense.
    pub(crate) first_k_dense_replace: usize,
    pub(crate) intermediate_size: usize,
    pub(crate) moe_intermediate_size: usize,
    pub(crate) n_routed_experts: usize,
    pub(crate) n_shared_experts: usize,
    pub(crate) num_experts_per_tok: usize,
    /// Groups that experts are chosen from: 1 where any may be chosen.
    pub(crate) n_group: usize,
    pub(crate) topk_group: usize,
    pub(crate) norm_topk_prob: bool,
    pub(crate) routed_scaling_factor: f64,
    pub(crate) max_position_embeddings: usize,
    pub(crate) rms_norm_eps: f64,
    pub(crate) rope_theta: f64,
    pub(crate) rope_scaling: RopeScaling,
    /// YaRN's factor on the scores, before it is squared; 1 without YaRN.
    pub(crate) attention_mscale: f64,
    pub(crate) tie_word_embeddings: bool,
}

impl DeepseekV2Config {
    /// Reads a config.json.
    ///
    /// # Errors
    /// Names the key that is absent, unusable or unsupported.
    pub(crate) fn from_json(keys: &Keys<'_>) -> Result<Self, ModelError> {
        refuse_what_is_not_computed(keys)?;
        let grouped = keys.get("topk_method").is_some_and(|method| method == "group_limited_greedy");
        let (rope_theta, rope_scaling) = keys.rope()?;
        let config = Self {
            vocab_size: keys.count("vocab_size")?,
            hidden_size: keys.count("hidden_size")?,
            num_hidden_layers: keys.count("num_hidden_layers")?,
            num_attention_heads: keys.count("num_attention_heads")?,
            q_lora_rank: keys.optional_count("q_lora_rank")?,
            kv_lora_rank: keys.count("kv_lora_rank")?,
            qk_nope_head_dim: keys.count("qk_nope_head_dim")?,
            qk_rope_head_dim: keys.count("qk_rope_head_dim")?,
            v_head_dim: keys.count("v_head_dim")?,
            first_k_dense_replace: keys.optional_whole("first_k_dense_replace")?.unwrap_or(0),
            intermediate_size: keys.count("intermediate_size")?,
            moe_intermediate_size: keys.count("moe_intermediate_size")?,
            n_routed_experts: keys.count("n_routed_experts")?,
            n_shared_experts: keys.optional_whole("n_shared_experts")?.unwrap_or(0),
            num_experts_per_tok: keys.count("num_experts_per_tok")?,
            n_group: if grouped { keys.count("n_group")? } else { 1 },
            topk_group: if grouped { keys.count("topk_group")? } else { 1 },
            norm_topk_prob: keys.flag("norm_topk_prob")?.unwrap_or(false),
            routed_scaling_factor: keys.number("routed_scaling_factor")?.unwrap_or(1.0),
            max_position_embeddings: keys.count("max_position_embeddings")?,
            rms_norm_eps: keys.needed("rms_norm_eps")?,
            rope_theta,
            attention_mscale: attention_mscale(keys, &rope_scaling)?,
            rope_scaling,
            tie_word_embeddings: keys.flag("tie_word_embeddings")?.unwrap_or(false),
        };
        if let Some(heads) = keys.optional_count("num_key_value_heads")?
            && heads != config.num_attention_heads
        {
            let expected = format!("{}, the number of attention heads", config.num_attention_heads);
            return Err(invalid(keys.file, "num_key_value_heads", &heads, &expected));
        }
        config.check(keys.file, &|key| key.to_owned())?;
        Ok(config)
    }

    /// Reads the metadata of a GGUF file, of converters before and after they split `kv_b_proj`.
    ///
    /// # Errors
    /// Names the key that is absent, unusable or unsupported.
    pub(crate) fn from_gguf(file: &GgufFile) -> Result<Self, ModelError> {
        let count = |key: &str| file.count(&named(key));
        let optional = |key: &str| file.unsigned(&named(key));
        let number = |key: &str| file.number(&named(key));
        // 1 is softmax, 2 is DeepSeek-V3's sigmoid; 0 is what files have that say nothing.
        if let Some(function @ 2..) = optional("expert_gating_func")? {
            return Err(file.invalid(&named("expert_gating_func"), function.to_string(), "1, softmax"));
        }
        // In files since the split, the plain lengths are those of the latent that all heads share.
        let head_len = |mla: &str, plain: &str| match optional(mla)? {
            Some(len) => Ok::<_, ModelError>(len),
            None => count(plain),
        };
        let qk_head_dim = head_len("attention.key_length_mla", "attention.key_length")?;
        let qk_rope_head_dim = count("rope.dimension_count")?;
        let Some(qk_nope_head_dim) = qk_head_dim.checked_sub(qk_rope_head_dim).filter(|&dim| dim > 0) else {
            let expected = format!("less than {qk_head_dim}, the width of a head");
            return Err(file.invalid(&named("rope.dimension_count"), qk_rope_head_dim.to_string(), &expected));
        };
        let eps_key = named("attention.layer_norm_rms_epsilon");
        let n_group = optional("expert_group_count")?.unwrap_or(1).max(1);
        let (rope_scaling, attention_mscale) = gguf_rope(file)?;
        let config = Self {
            vocab_size: file.vocab_size()?,
            hidden_size: count("embedding_length")?,
            num_hidden_layers: count("block_count")?,
            num_attention_heads: count("attention.head_count")?,
            q_lora_rank: optional("attention.q_lora_rank")?.filter(|&rank| rank > 0),
            kv_lora_rank: count("attention.kv_lora_rank")?,
            qk_nope_head_dim,
            qk_rope_head_dim,
            v_head_dim: head_len("attention.value_length_mla", "attention.value_length")?,
            first_k_dense_replace: optional("leading_dense_block_count")?.unwrap_or(0),
            intermediate_size: count("feed_forward_length")?,
            moe_intermediate_size: count("expert_feed_forward_length")?,
            n_routed_experts: count("expert_count")?,
            n_shared_experts: optional("expert_shared_count")?.unwrap_or(0),
            num_experts_per_tok: count("expert_used_count")?,
            n_group,
            topk_group: if n_group > 1 { count("expert_group_used_count")? } else { 1 },
            norm_topk_prob: file.flag(&named("expert_weights_norm"))?.unwrap_or(false),
            routed_scaling_factor: number("expert_weights_scale")?.unwrap_or(1.0),
            max_position_embeddings: count("context_length")?,
            rms_norm_eps: file.needed(file.number(&eps_key)?, &eps_key)?,
            rope_theta: number("rope.freq_base")?.unwrap_or(10_000.0),
            rope_scaling,
            attention_mscale,
            tie_word_embeddings: !file.has("output.weight"),
        };
        config.check(&file.name(), &|key| gguf_key(key))?;
        Ok(config)
    }

    /// Width of a head's queries and keys.
    pub(crate) fn qk_head_dim(&self) -> usize {
        self.qk_nope_head_dim + self.qk_rope_head_dim
    }

    /// Factor on the scores.
    pub(crate) fn softmax_scale(&self) -> f64 {
        self.attention_mscale * self.attention_mscale / (self.qk_head_dim() as f64).sqrt()
    }

    /// Checks what shapes and the choice of experts rely on; `name` is how the file calls a key.
    ///
    /// # Errors
    /// [`ModelError::InvalidKey`] naming the key at fault.
    fn check(&self, file: &str, name: &dyn Fn(&str) -> String) -> Result<(), ModelError> {
        let invalid = |key: &str, found: &dyn ToString, expected: &str| Err(invalid(file, &name(key), found, expected));
        for (key, dim) in [
            ("num_attention_heads", self.num_attention_heads),
            ("hidden_size", self.hidden_size),
            ("q_lora_rank", self.q_lora_rank.unwrap_or(0)),
            ("kv_lora_rank", self.kv_lora_rank),
            ("qk_nope_head_dim", self.qk_nope_head_dim),
            ("qk_rope_head_dim", self.qk_rope_head_dim),
            ("v_head_dim", self.v_head_dim),
            ("moe_intermediate_size", self.moe_intermediate_size),
            ("n_routed_experts", self.n_routed_experts),
            ("n_shared_experts", self.n_shared_experts),
        ] {
            if dim > DIM_MAX {
                return invalid(key, &dim, &format!("at most {DIM_MAX}"));
            }
        }
        if !self.qk_rope_head_dim.is_multiple_of(2) {
            return invalid("qk_rope_head_dim", &self.qk_rope_head_dim, "an even number");
        }
        if !self.n_routed_experts.is_multiple_of(self.n_group) {
            let expected = format!("a divisor of the {} routed experts", self.n_routed_experts);
            return invalid("n_group", &self.n_group, &expected);
        }
        if self.topk_group > self.n_group {
            return invalid("topk_group", &self.topk_group, &format!("at most the {} groups", self.n_group));
        }
        let num_open = self.n_routed_experts / self.n_group * self.topk_group;
        if self.num_experts_per_tok > num_open {
            let expected = format!("at most the {num_open} experts that may be chosen");
            return invalid("num_experts_per_tok", &self.num_experts_per_tok, &expected);
        }
        // DeepSeek's own code then leaves the factor out, llama.cpp and vLLM do not, and transformers does not
        // normalize: no file with both is known.
        if self.norm_topk_prob && self.routed_scaling_factor != 1.0 {
            let expected = "1 where the weights of a token's experts are normalized";
            return invalid("routed_scaling_factor", &self.routed_scaling_factor, expected);
        }
        Ok(())
    }
}

fn invalid(file: &str, key: &str, found: &dyn ToString, expected: &str) -> ModelError {
    ModelError::InvalidKey { file: file.into(), key: key.into(), found: found.to_string(), expected: expected.into() }
}

fn refuse_what_is_not_computed(keys: &Keys<'_>) -> Result<(), ModelError> {
    keys.refuse_what_is_not_computed()?;
    keys.only("attention_bias", |value| value == false, "false")?;
    keys.only("mlp_bias", |value| value == false, "false")?;
    keys.only("moe_layer_freq", |value| value == 1, "1")?;
    keys.only("scoring_func", |value| value == "softmax", "\"softmax\"")?;
    let methods = "\"greedy\" or \"group_limited_greedy\"";
    keys.only("topk_method", |value| value == "greedy" || value == "group_limited_greedy", methods)
}

/// What any scaled rope multiplies the scores with, before it is squared.
fn attention_mscale(keys: &Keys<'_>, scaling: &RopeScaling) -> Result<f64, ModelError> {
    match (scaling, keys.rope_parameters()) {
        (RopeScaling::Default, _) | (_, None) => Ok(1.0),
        (_, Some(rope)) => match rope.number("mscale_all_dim")? {
            Some(mscale) => Ok(Yarn::mscale(rope.needed("factor")?, mscale)),
            None => Ok(1.0),
        },
    }
}

fn named(key: &str) -> String {
    format!("deepseek2.{key}")
}

/// GGUF's name of a key of config.json.
fn gguf_key(key: &str) -> String {
    named(match key {
        "num_attention_heads" => "attention.head_count",
        "hidden_size" => "embedding_length",
        "q_lora_rank" => "attention.q_lora_rank",
        "kv_lora_rank" => "attention.kv_lora_rank",
        "qk_nope_head_dim" => "attention.key_length_mla",
        "qk_rope_head_dim" => "rope.dimension_count",
        "v_head_dim" => "attention.value_length_mla",
        "moe_intermediate_size" => "expert_feed_forward_length",
        "n_routed_experts" => "expert_count",
        "n_shared_experts" => "expert_shared_count",
        "n_group" => "expert_group_count",
        "topk_group" => "expert_group_used_count",
        "num_experts_per_tok" => "expert_used_count",
        "routed_scaling_factor" => "expert_weights_scale",
        other => other,
    })
}

/// Rope's scaling, and its factor on the scores before it is squared.
///
/// GGUF's YaRN has one magnitude, on the scores: its cosines and sines are those of the angles.
fn gguf_rope(file: &GgufFile) -> Result<(RopeScaling, f64), ModelError> {
    const SUPPORTED: &[&str] = &["none", "yarn"];
    let number = |key: &str| file.number(&named(key));
    match file.text(&named("rope.scaling.type"))?.as_deref() {
        None if number("rope.scaling.factor")?.is_none() => return Ok((RopeScaling::Default, 1.0)),
        Some("none") => return Ok((RopeScaling::Default, 1.0)),
        Some("yarn") => {}
        found => {
            let (file, found) = (file.name(), found.unwrap_or("linear").into());
            return Err(ModelError::UnsupportedRope { file, found, supported: SUPPORTED });
        }
    }
    for key in ["rope.scaling.attn_factor", "rope.scaling.yarn_attn_factor", "rope.scaling.yarn_ext_factor"] {
        if let Some(found) = number(key)?.filter(|&factor| factor != 1.0) {
            return Err(file.invalid(&named(key), found.to_string(), "1"));
        }
    }
    let factor = file.needed(number("rope.scaling.factor")?, &named("rope.scaling.factor"))?;
    let yarn = Yarn {
        factor,
        original_max_position_embeddings: file.count(&named("rope.scaling.original_context_length"))? as f64,
        beta_fast: number("rope.scaling.yarn_beta_fast")?.unwrap_or(Yarn::BETA_FAST),
        beta_slow: number("rope.scaling.yarn_beta_slow")?.unwrap_or(Yarn::BETA_SLOW),
        truncate: true,
        attention_factor: 1.0,
    };
    // The file has a tenth of `mscale_all_dim`.
    let mscale = number("rope.scaling.yarn_log_multiplier")?.map_or(1.0, |tenth| Yarn::mscale(factor, 10.0 * tenth));
    Ok((RopeScaling::Yarn(yarn), mscale))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn lite() -> Value {
        json!({
            "model_type": "deepseek_v2", "attention_bias": false, "first_k_dense_replace": 1, "hidden_act": "silu",
            "hidden_size": 2048, "intermediate_size": 10944, "kv_lora_rank": 512, "max_position_embeddings": 163840,
            "moe_intermediate_size": 1408, "moe_layer_freq": 1, "n_group": 1, "n_routed_experts": 64,
            "n_shared_experts": 2, "norm_topk_prob": false, "num_attention_heads": 16, "num_experts_per_tok": 6,
            "num_hidden_layers": 27, "num_key_value_heads": 16, "q_lora_rank": null, "qk_nope_head_dim": 128,
            "qk_rope_head_dim": 64, "rms_norm_eps": 1e-6, "rope_theta": 10000, "routed_scaling_factor": 1.0,
            "rope_scaling": {
                "type": "yarn", "factor": 40, "original_max_position_embeddings": 4096, "beta_fast": 32,
                "beta_slow": 1, "mscale": 0.707, "mscale_all_dim": 0.707
            },
            "scoring_func": "softmax", "tie_word_embeddings": false, "topk_group": 1, "topk_method": "greedy",
            "v_head_dim": 128, "vocab_size": 102400,
        })
    }

    fn read(changes: Value) -> Result<DeepseekV2Config, ModelError> {
        let mut config = lite();
        for (key, value) in changes.as_object().expect("changes are an object") {
            config[key] = value.clone();
        }
        DeepseekV2Config::from_json(&Keys::new(&config, "config.json"))
    }

    #[test]
    fn the_lite_models_own_configuration_is_read() -> Result<(), ModelError> {
        let config = read(json!({}))?;
        assert_eq!((config.qk_head_dim(), config.q_lora_rank, config.n_group), (192, None, 1));
        let RopeScaling::Yarn(yarn) = &config.rope_scaling else { panic!("{:?}", config.rope_scaling) };
        assert_eq!(yarn.attention_factor, 1.0, "both magnitudes are equal and cancel");
        let mscale = 0.1 * 0.707 * 40f64.ln() + 1.0;
        assert_eq!(config.softmax_scale(), mscale * mscale / 192f64.sqrt());
        assert_eq!(read(json!({"rope_scaling": null}))?.softmax_scale(), 1.0 / 192f64.sqrt());
        Ok(())
    }

    #[test]
    fn groups_are_read_where_the_method_uses_them() -> Result<(), ModelError> {
        let grouped = |method| read(json!({"topk_method": method, "n_group": 8, "topk_group": 3}));
        let config = grouped("group_limited_greedy")?;
        assert_eq!((config.n_group, config.topk_group), (8, 3));
        assert_eq!(grouped("greedy")?.n_group, 1);
        Ok(())
    }

    #[test]
    fn errors_name_the_key_and_what_would_do() {
        let grouped = |n_group: u32, topk_group: u32| json!({"topk_method": "group_limited_greedy", "n_group": n_group, "topk_group": topk_group});
        let cases = [
            (json!({"kv_lora_rank": null}), "config.json has no `kv_lora_rank`"),
            (json!({"n_routed_experts": null}), "config.json has no `n_routed_experts`"),
            (json!({"first_k_dense_replace": -1}), "`first_k_dense_replace` is -1, expected a whole number"),
            (json!({"qk_rope_head_dim": 63}), "`qk_rope_head_dim` is 63, expected an even number"),
            (json!({"v_head_dim": 4_000_000_000u32}), "`v_head_dim` is 4000000000, expected at most 1048576"),
            (json!({"attention_bias": true}), "`attention_bias` is true, expected false"),
            (json!({"moe_layer_freq": 2}), "`moe_layer_freq` is 2, expected 1"),
            (json!({"scoring_func": "sigmoid"}), "`scoring_func` is \"sigmoid\", expected \"softmax\""),
            (
                json!({"topk_method": "noaux_tc"}),
                "`topk_method` is \"noaux_tc\", expected \"greedy\" or \"group_limited_greedy\"",
            ),
            (
                json!({"num_key_value_heads": 4}),
                "`num_key_value_heads` is 4, expected 16, the number of attention heads",
            ),
            (grouped(7, 1), "`n_group` is 7, expected a divisor of the 64 routed experts"),
            (grouped(8, 9), "`topk_group` is 9, expected at most the 8 groups"),
            (grouped(32, 2), "`num_experts_per_tok` is 6, expected at most the 4 experts that may be chosen"),
            (
                json!({"norm_topk_prob": true, "routed_scaling_factor": 16.0}),
                "`routed_scaling_factor` is 16, expected 1 where the weights of a token's experts are normalized",
            ),
            (json!({"rope_scaling": {"type": "yarn", "factor": 40}}), "has no `original_max_position_embeddings`"),
        ];
        for (changes, message) in cases {
            let error = read(changes).expect_err(message).to_string();
            assert!(error.contains(message), "{error}, expected {message}");
        }
    }
}
