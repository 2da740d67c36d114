//! What a Llama-shaped checkpoint says of itself, whichever file says it; and how any config.json is read.

use serde_json::Value;

use super::ModelError;

/// Architectures that config.json may name as its `model_type`.
pub(crate) const ARCHITECTURES: &[&str] = &["llama", "qwen2", "deepseek_v2"];
const ROPE_TYPES: &[&str] = &["default", "linear", "llama3", "yarn"];

/// The shape of a Llama-family model. Field names are those of Hugging Face's config.json.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LlamaConfig {
    pub(crate) architecture: String,
    pub(crate) vocab_size: usize,
    pub(crate) hidden_size: usize,
    pub(crate) intermediate_size: usize,
    pub(crate) num_hidden_layers: usize,
    pub(crate) num_attention_heads: usize,
    pub(crate) num_key_value_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) max_position_embeddings: usize,
    pub(crate) rms_norm_eps: f64,
    pub(crate) rope_theta: f64,
    pub(crate) rope_scaling: RopeScaling,
    pub(crate) tie_word_embeddings: bool,
    pub(crate) biases: Biases,
}

/// Which linear layers have a bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Biases {
    pub(crate) qkv_proj: bool,
    pub(crate) o_proj: bool,
    pub(crate) mlp: bool,
}

/// How rotary frequencies are stretched beyond the context a model was trained on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum RopeScaling {
    Default,
    /// Every frequency divided by one factor.
    Linear {
        factor: f64,
    },
    /// Long wavelengths divided, short ones kept, a ramp between.
    Llama3 {
        factor: f64,
        low_freq_factor: f64,
        high_freq_factor: f64,
        original_max_position_embeddings: f64,
    },
    /// YaRN: frequencies that turn often over the trained context kept, those that turn rarely divided, a ramp
    /// between; and cosines and sines grown by a factor.
    Yarn(Yarn),
    /// Each frequency divided by its own factor, as GGUF files store them.
    Factors(Vec<f32>),
}

/// The parameters of [`RopeScaling::Yarn`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Yarn {
    pub(crate) factor: f64,
    pub(crate) original_max_position_embeddings: f64,
    /// Turns over the trained context from which on a frequency is kept.
    pub(crate) beta_fast: f64,
    /// Turns below which it is divided.
    pub(crate) beta_slow: f64,
    /// Whether the ends of the ramp are whole dimensions.
    pub(crate) truncate: bool,
    /// Factor on cosines and sines.
    pub(crate) attention_factor: f64,
}

impl Yarn {
    pub(crate) const BETA_FAST: f64 = 32.0;
    pub(crate) const BETA_SLOW: f64 = 1.0;

    /// What YaRN multiplies a magnitude with when the context grows by `factor`; `mscale` weighs it.
    pub(crate) fn mscale(factor: f64, mscale: f64) -> f64 {
        if factor <= 1.0 { 1.0 } else { 0.1 * mscale * factor.ln() + 1.0 }
    }
}

impl LlamaConfig {
    /// Reads a config.json.
    ///
    /// # Errors
    /// Names the key that is absent, unusable or unsupported.
    pub(crate) fn from_json(keys: &Keys<'_>) -> Result<Self, ModelError> {
        let architecture = keys.architecture()?;
        let num_attention_heads = keys.count("num_attention_heads")?;
        let hidden_size = keys.count("hidden_size")?;
        let attention_bias = keys.flag("attention_bias")?.unwrap_or(false);
        let (rope_theta, rope_scaling) = keys.rope()?;
        keys.refuse_what_is_not_computed()?;
        let config = Self {
            vocab_size: keys.count("vocab_size")?,
            hidden_size,
            intermediate_size: keys.count("intermediate_size")?,
            num_hidden_layers: keys.count("num_hidden_layers")?,
            num_attention_heads,
            num_key_value_heads: keys.optional_count("num_key_value_heads")?.unwrap_or(num_attention_heads),
            head_dim: keys.optional_count("head_dim")?.unwrap_or(hidden_size / num_attention_heads),
            max_position_embeddings: keys.count("max_position_embeddings")?,
            rms_norm_eps: keys.number("rms_norm_eps")?.ok_or_else(|| keys.missing("rms_norm_eps"))?,
            rope_theta,
            rope_scaling,
            tie_word_embeddings: keys.flag("tie_word_embeddings")?.unwrap_or(false),
            biases: Biases {
                qkv_proj: architecture == "qwen2" || attention_bias,
                o_proj: architecture != "qwen2" && attention_bias,
                mlp: keys.flag("mlp_bias")?.unwrap_or(false),
            },
            architecture,
        };
        config.check(keys.file)?;
        Ok(config)
    }

    /// Checks what shapes rely on.
    ///
    /// # Errors
    /// [`ModelError::InvalidKey`] naming the key at fault.
    pub(crate) fn check(&self, file: &str) -> Result<(), ModelError> {
        let invalid = |key: &str, found: usize, expected: String| {
            Err(ModelError::InvalidKey { file: file.into(), key: key.into(), found: found.to_string(), expected })
        };
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            let expected = format!("a divisor of the {} attention heads", self.num_attention_heads);
            return invalid("num_key_value_heads", self.num_key_value_heads, expected);
        }
        if self.head_dim == 0 || !self.head_dim.is_multiple_of(2) {
            return invalid("head_dim", self.head_dim, "an even number above 0".into());
        }
        Ok(())
    }
}

/// Typed look-ups in one JSON object.
pub(crate) struct Keys<'a> {
    pub(super) file: &'a str,
    prefix: &'static str,
    object: &'a Value,
}

/// Parses a config.json; `file` names it in errors.
///
/// # Errors
/// [`ModelError::Damaged`] when it is not JSON.
pub(super) fn parse(json: &[u8], file: &str) -> Result<Value, ModelError> {
    serde_json::from_slice(json).map_err(|error| ModelError::Damaged { file: file.into(), detail: error.to_string() })
}

impl<'a> Keys<'a> {
    /// The keys of a whole file.
    pub(super) fn new(object: &'a Value, file: &'a str) -> Self {
        Self { file, prefix: "", object }
    }

    /// The value of a key; null counts as absent, as in Hugging Face's own reader.
    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    fn name(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    pub(super) fn missing(&self, key: &str) -> ModelError {
        ModelError::MissingKey { file: self.file.into(), key: self.name(key) }
    }

    pub(super) fn invalid(&self, key: &str, found: &Value, expected: &str) -> ModelError {
        let (file, found, expected) = (self.file.into(), found.to_string(), expected.into());
        ModelError::InvalidKey { file, key: self.name(key), found, expected }
    }

    pub(super) fn optional_count(&self, key: &str) -> Result<Option<usize>, ModelError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let count = value.as_u64().filter(|count| (1..=u64::from(u32::MAX)).contains(count));
        count.map(|count| Some(count as usize)).ok_or_else(|| self.invalid(key, value, "a whole number above 0"))
    }

    /// A whole number that may be 0.
    pub(super) fn optional_whole(&self, key: &str) -> Result<Option<usize>, ModelError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let whole = value.as_u64().filter(|whole| *whole <= u64::from(u32::MAX));
        whole.map(|whole| Some(whole as usize)).ok_or_else(|| self.invalid(key, value, "a whole number"))
    }

    pub(super) fn count(&self, key: &str) -> Result<usize, ModelError> {
        self.optional_count(key)?.ok_or_else(|| self.missing(key))
    }

    pub(super) fn number(&self, key: &str) -> Result<Option<f64>, ModelError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let number = value.as_f64().filter(|number| *number > 0.0 && number.is_finite());
        number.map(Some).ok_or_else(|| self.invalid(key, value, "a number above 0"))
    }

    pub(super) fn needed(&self, key: &str) -> Result<f64, ModelError> {
        self.number(key)?.ok_or_else(|| self.missing(key))
    }

    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, ModelError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| self.invalid(key, value, "true or false"))
    }

    pub(super) fn architecture(&self) -> Result<String, ModelError> {
        let value = self.get("model_type").ok_or_else(|| self.missing("model_type"))?;
        let found = value.as_str().ok_or_else(|| self.invalid("model_type", value, "a name"))?.to_owned();
        match ARCHITECTURES.contains(&found.as_str()) {
            true => Ok(found),
            false => {
                Err(ModelError::UnsupportedArchitecture { file: self.file.into(), found, supported: ARCHITECTURES })
            }
        }
    }

    /// Rope's base and scaling: newer files nest both in `rope_parameters`, older ones have `rope_theta` at the top
    /// and an optional `rope_scaling`.
    pub(super) fn rope(&self) -> Result<(f64, RopeScaling), ModelError> {
        let parameters = self.rope_parameters();
        let theta = match &parameters {
            Some(parameters) => parameters.number("rope_theta")?,
            None => None,
        };
        let theta = theta.or(self.number("rope_theta")?).unwrap_or(10_000.0);
        let scaling = match parameters {
            Some(parameters) => parameters.rope_scaling(self)?,
            None => RopeScaling::Default,
        };
        Ok((theta, scaling))
    }

    /// The object that says how rope is scaled, if there is one.
    pub(super) fn rope_parameters(&self) -> Option<Self> {
        let nested = |key, prefix| self.get(key).map(|object| Keys { file: self.file, prefix, object });
        nested("rope_parameters", "rope_parameters.").or_else(|| nested("rope_scaling", "rope_scaling."))
    }

    fn rope_scaling(&self, root: &Self) -> Result<RopeScaling, ModelError> {
        let found = self.get("rope_type").or_else(|| self.get("type")).and_then(Value::as_str).unwrap_or("default");
        match found {
            "default" => Ok(RopeScaling::Default),
            "linear" => Ok(RopeScaling::Linear { factor: self.needed("factor")? }),
            "llama3" => Ok(RopeScaling::Llama3 {
                factor: self.needed("factor")?,
                low_freq_factor: self.needed("low_freq_factor")?,
                high_freq_factor: self.needed("high_freq_factor")?,
                original_max_position_embeddings: self.trained_len(root)?,
            }),
            "yarn" => Ok(RopeScaling::Yarn(self.yarn(root)?)),
            found => {
                Err(ModelError::UnsupportedRope { file: self.file.into(), found: found.into(), supported: ROPE_TYPES })
            }
        }
    }

    /// Positions the model was trained on before it was stretched.
    fn trained_len(&self, root: &Self) -> Result<f64, ModelError> {
        let key = "original_max_position_embeddings";
        match self.number(key)? {
            Some(trained) => Ok(trained),
            None => root.needed(key),
        }
    }

    fn yarn(&self, root: &Self) -> Result<Yarn, ModelError> {
        let factor = self.needed("factor")?;
        let mscales = (self.number("mscale")?, self.number("mscale_all_dim")?);
        Ok(Yarn {
            factor,
            original_max_position_embeddings: self.trained_len(root)?,
            beta_fast: self.number("beta_fast")?.unwrap_or(Yarn::BETA_FAST),
            beta_slow: self.number("beta_slow")?.unwrap_or(Yarn::BETA_SLOW),
            truncate: self.flag("truncate")?.unwrap_or(true),
            attention_factor: match (self.number("attention_factor")?, mscales) {
                (Some(stated), _) => stated,
                (None, (Some(mscale), Some(all_dim))) => Yarn::mscale(factor, mscale) / Yarn::mscale(factor, all_dim),
                (None, _) => Yarn::mscale(factor, 1.0),
            },
        })
    }

    /// Options that would change the result and are not computed here.
    pub(super) fn refuse_what_is_not_computed(&self) -> Result<(), ModelError> {
        self.only("hidden_act", |value| value == "silu", "\"silu\"")?;
        self.only("use_sliding_window", |value| value == false, "false")?;
        self.only("partial_rotary_factor", |value| value.as_f64() == Some(1.0), "1.0")
    }

    /// Refuses a value of `key` that is there and not allowed.
    pub(super) fn only(&self, key: &str, allowed: fn(&Value) -> bool, expected: &str) -> Result<(), ModelError> {
        match self.get(key) {
            Some(value) if !allowed(value) => Err(self.invalid(key, value, expected)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn base() -> Value {
        json!({
            "model_type": "llama", "vocab_size": 100, "hidden_size": 64, "intermediate_size": 96,
            "num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 2,
            "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "hidden_act": "silu",
        })
    }

    fn read(changes: Value) -> Result<LlamaConfig, ModelError> {
        let mut config = base();
        for (key, value) in changes.as_object().expect("changes are an object") {
            config[key] = value.clone();
        }
        LlamaConfig::from_json(&Keys::new(&config, "config.json"))
    }

    #[test]
    fn old_and_new_forms_of_rope_say_the_same() -> Result<(), ModelError> {
        let linear = RopeScaling::Linear { factor: 4.0 };
        for form in [
            json!({"rope_theta": 100000, "rope_scaling": {"type": "linear", "factor": 4.0}}),
            json!({"rope_theta": 100000, "rope_scaling": {"rope_type": "linear", "factor": 4}}),
            json!({"rope_parameters": {"rope_type": "linear", "rope_theta": 100000.0, "factor": 4.0}}),
        ] {
            let config = read(form)?;
            assert_eq!((config.rope_theta, &config.rope_scaling), (100_000.0, &linear));
        }
        assert_eq!(read(json!({"rope_scaling": null}))?.rope_scaling, RopeScaling::Default);
        assert_eq!(read(json!({}))?.rope_theta, 10_000.0);
        Ok(())
    }

    #[test]
    fn head_dim_and_key_heads_are_derived_when_absent() -> Result<(), ModelError> {
        let config = read(json!({"num_key_value_heads": null}))?;
        assert_eq!((config.head_dim, config.num_key_value_heads), (8, 8));
        assert_eq!(read(json!({"head_dim": 32}))?.head_dim, 32);
        Ok(())
    }

    #[test]
    fn errors_name_the_key_and_what_would_do() {
        let cases = [
            (json!({"hidden_size": null}), "config.json has no `hidden_size`"),
            (json!({"vocab_size": "many"}), "config.json: `vocab_size` is \"many\", expected a whole number above 0"),
            (
                json!({"model_type": "mamba"}),
                "config.json: architecture `mamba` is not supported; supported: llama, qwen2, deepseek_v2",
            ),
            (
                json!({"rope_scaling": {"rope_type": "longrope", "factor": 4.0}}),
                "config.json: rope type `longrope` is not supported; supported: default, linear, llama3, yarn",
            ),
            (
                json!({"rope_scaling": {"type": "yarn", "factor": 4.0}}),
                "config.json has no `original_max_position_embeddings`",
            ),
            (json!({"rope_scaling": {"type": "linear"}}), "config.json has no `rope_scaling.factor`"),
            (json!({"hidden_act": "gelu"}), "config.json: `hidden_act` is \"gelu\", expected \"silu\""),
            (
                json!({"num_key_value_heads": 3}),
                "config.json: `num_key_value_heads` is 3, expected a divisor of the 8 attention heads",
            ),
            (json!({"head_dim": 7}), "config.json: `head_dim` is 7, expected an even number above 0"),
        ];
        for (changes, message) in cases {
            assert_eq!(read(changes).expect_err(message).to_string(), message);
        }
    }

    #[test]
    fn qwen2_has_biases_on_queries_keys_and_values_only() -> Result<(), ModelError> {
        let biases = read(json!({"model_type": "qwen2"}))?.biases;
        assert_eq!(biases, Biases { qkv_proj: true, o_proj: false, mlp: false });
        let biases = read(json!({"attention_bias": true}))?.biases;
        assert_eq!(biases, Biases { qkv_proj: true, o_proj: true, mlp: false });
        Ok(())
    }
}
