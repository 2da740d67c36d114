//! What a model folder says about its tokens: where texts begin and end, how chats are written.

use serde_json::Value;

use super::TextError;

/// A token as configuration files name it: by id or by its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenRef {
    /// Its id.
    Id(u32),
    /// Its text.
    Name(String),
}

impl From<u32> for TokenRef {
    fn from(id: u32) -> Self {
        Self::Id(id)
    }
}

impl From<&str> for TokenRef {
    fn from(name: &str) -> Self {
        Self::Name(name.to_string())
    }
}

/// What is known of a model's tokens besides its tokenizer.json.
#[derive(Debug, Clone, Default)]
pub struct TokenizerConfig {
    /// Rows of the model's logits; without it, as many as there are tokens.
    pub num_rows: Option<usize>,
    /// The beginning-of-text token; without it, the one that tokenizer.json itself puts before texts.
    pub bos: Option<TokenRef>,
    /// Whether texts begin with it; without it, as tokenizer.json itself does.
    pub add_bos: Option<bool>,
    /// Tokens that end an output, the principal one first. End markers that every model means so (`<|EOT|>`,
    /// `<|im_end|>`, ...) are found by themselves.
    pub end_tokens: Vec<TokenRef>,
    /// Source of the chat template.
    pub chat_template: Option<String>,
    /// The markers around a hole, in the order prefix, suffix, middle; without them, those of a known family are found
    /// by their names.
    pub fim: Option<[TokenRef; 3]>,
}

/// The files beside a tokenizer.json, as far as they exist.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConfigFiles<'a> {
    /// `config.json`
    pub config: Option<&'a [u8]>,
    /// `tokenizer_config.json`
    pub tokenizer_config: Option<&'a [u8]>,
    /// `generation_config.json`
    pub generation_config: Option<&'a [u8]>,
    /// `chat_template.jinja`, which newer models have in place of a key in tokenizer_config.json
    pub chat_template: Option<&'a str>,
}

impl TokenizerConfig {
    /// Reads the files of a model folder.
    ///
    /// End tokens are all that any file names. The beginning is tokenizer_config.json's `bos_token`, where an explicit
    /// `null` means none, else `bos_token_id`. Texts begin with it if `add_bos_token` says so or, when it says nothing,
    /// if the tokenizer is of a Llama class, whose default that is.
    ///
    /// # Errors
    /// If a file is not JSON.
    pub fn from_files(files: &ConfigFiles<'_>) -> Result<Self, TextError> {
        let config = parse("config.json", files.config)?;
        let tokenizer = parse("tokenizer_config.json", files.tokenizer_config)?;
        let generation = parse("generation_config.json", files.generation_config)?;
        let text_config = config.get("text_config").unwrap_or(&config);
        let num_rows = [&config, text_config].into_iter().find_map(|c| c.get("vocab_size")?.as_u64());
        Ok(Self {
            num_rows: num_rows.and_then(|rows| usize::try_from(rows).ok()),
            bos: bos(&tokenizer, &[&config, text_config, &generation]),
            add_bos: tokenizer.get("add_bos_token").and_then(Value::as_bool).or_else(|| class_default(&tokenizer)),
            end_tokens: end_tokens(&tokenizer, &[&config, text_config, &generation]),
            chat_template: files.chat_template.map(str::to_string).or_else(|| chat_template(&tokenizer)),
            fim: None,
        })
    }
}

fn parse(file: &'static str, bytes: Option<&[u8]>) -> Result<Value, TextError> {
    let Some(bytes) = bytes else { return Ok(Value::Null) };
    serde_json::from_slice(bytes).map_err(|source| TextError::Json { file, source })
}

fn bos(tokenizer: &Value, configs: &[&Value]) -> Option<TokenRef> {
    match tokenizer.get("bos_token") {
        Some(token) => token_name(token).map(TokenRef::Name),
        None => configs.iter().find_map(|config| token_ids(config.get("bos_token_id")?).next()),
    }
}

fn class_default(tokenizer: &Value) -> Option<bool> {
    let class = tokenizer.get("tokenizer_class")?.as_str()?;
    (class.starts_with("Llama") || class.starts_with("CodeLlama")).then_some(true)
}

fn end_tokens(tokenizer: &Value, configs: &[&Value]) -> Vec<TokenRef> {
    let named = tokenizer.get("eos_token").and_then(token_name).map(TokenRef::Name);
    let ids = configs.iter().filter_map(|config| config.get("eos_token_id")).flat_map(token_ids);
    let mut tokens = Vec::new();
    for token in ids.chain(named) {
        if !tokens.contains(&token) {
            tokens.push(token);
        }
    }
    tokens
}

/// A token's text: a string, or an object with its `content`.
fn token_name(token: &Value) -> Option<String> {
    token.as_str().or_else(|| token.get("content")?.as_str()).map(str::to_string)
}

/// One id or a list of them.
fn token_ids(ids: &Value) -> impl Iterator<Item = TokenRef> {
    let list = ids.as_array().map_or(std::slice::from_ref(ids), Vec::as_slice);
    list.iter().filter_map(|id| u32::try_from(id.as_u64()?).ok().map(TokenRef::Id))
}

/// The template: a string, or the one called `default` in a list.
fn chat_template(tokenizer: &Value) -> Option<String> {
    let template = tokenizer.get("chat_template")?;
    let is_default = |entry: &&Value| entry.get("name").and_then(Value::as_str) == Some("default");
    let named = || template.as_array()?.iter().find(is_default)?.get("template")?.as_str();
    template.as_str().or_else(named).map(str::to_string)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(config: &Value, tokenizer: &Value, generation: &Value) -> TokenizerConfig {
        let bytes = [config, tokenizer, generation].map(|v| v.to_string().into_bytes());
        TokenizerConfig::from_files(&ConfigFiles {
            config: Some(&bytes[0]),
            tokenizer_config: Some(&bytes[1]),
            generation_config: Some(&bytes[2]),
            chat_template: None,
        })
        .expect("valid JSON")
    }

    #[test]
    fn end_tokens_come_from_every_file_once() {
        let config = read(
            &json!({"eos_token_id": 7, "vocab_size": 10}),
            &json!({"eos_token": {"content": "<|im_end|>"}}),
            &json!({"eos_token_id": [7, 8]}),
        );
        assert_eq!(config.end_tokens, [7.into(), 8.into(), "<|im_end|>".into()]);
        assert_eq!(config.num_rows, Some(10));
    }

    #[test]
    fn an_explicit_null_means_no_beginning() {
        let ids = json!({"bos_token_id": 1});
        assert_eq!(read(&ids, &json!({"bos_token": null}), &json!({})).bos, None);
        assert_eq!(read(&ids, &json!({}), &json!({})).bos, Some(1.into()));
        assert_eq!(read(&ids, &json!({"bos_token": "<s>"}), &json!({})).bos, Some("<s>".into()));
    }

    #[test]
    fn the_beginning_is_added_as_the_files_or_the_class_say() {
        let add_bos = |tokenizer| read(&json!({}), &tokenizer, &json!({})).add_bos;
        assert_eq!(add_bos(json!({"add_bos_token": false, "tokenizer_class": "LlamaTokenizer"})), Some(false));
        assert_eq!(add_bos(json!({"tokenizer_class": "LlamaTokenizerFast"})), Some(true));
        assert_eq!(add_bos(json!({"tokenizer_class": "PreTrainedTokenizerFast"})), None);
    }

    #[test]
    fn the_default_template_is_taken_from_a_list() {
        let list = json!([{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]);
        assert_eq!(read(&json!({}), &json!({"chat_template": list}), &json!({})).chat_template, Some("d".into()));
    }

    #[test]
    fn a_broken_file_is_named() {
        let files = ConfigFiles { generation_config: Some(b"{"), ..ConfigFiles::default() };
        let error = TokenizerConfig::from_files(&files).expect_err("not JSON").to_string();
        assert!(error.starts_with("generation_config.json cannot be read"), "{error}");
    }
}
