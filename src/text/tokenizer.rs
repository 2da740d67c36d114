//! The tokenizer: text to ids and back, by the model's own rules.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use tokenizers::models::bpe::BPE;
use tokenizers::{AddedToken, NormalizerWrapper, PreTokenizerWrapper};

use super::control::{ControlTokens, END_MARKERS, Span};
use super::encoder::{Encoder, EncoderParts};
use super::{ChatTemplate, FimMarkers, GgufVocab, Message, TextError, Token, TokenRef, TokenizerConfig, Vocabulary};
use super::{gguf_vocab, tokenizer_json};

/// Noncharacters, of which one that the messages do not contain marks their control tokens as plain text.
const GUARDS: std::ops::RangeInclusive<char> = '\u{fdd0}'..='\u{fdef}';

/// A model's tokenizer. Cheap to clone; one serves all threads.
#[derive(Clone)]
pub struct Tokenizer(Arc<Inner>);

struct Inner {
    encoder: Arc<Encoder>,
    control: ControlTokens,
    vocabulary: Arc<Vocabulary>,
    bos: Option<u32>,
    adds_bos: bool,
    chat_template: Option<ChatTemplate>,
    fim: Option<FimMarkers>,
}

/// A tokenizer file, taken apart, before the model's configuration has spoken.
pub(crate) struct TokenizerParts {
    pub(crate) bpe: BPE,
    pub(crate) normalizer: Option<NormalizerWrapper>,
    pub(crate) pre_tokenizer: PreTokenizerWrapper,
    /// Ids and what they are; of entries with the same id the last counts.
    pub(crate) entries: Vec<(u32, Entry)>,
    /// The token that the file itself puts before texts.
    pub(crate) own_bos: Option<u32>,
}

/// One id of a tokenizer file.
pub(crate) struct Entry {
    /// The token as the file writes it.
    pub(crate) text: String,
    pub(crate) kind: Kind,
}

/// What a tokenizer file makes of an id.
pub(crate) enum Kind {
    /// Learned from text; stands for these bytes.
    Learned(Vec<u8>),
    /// Added to the learned ones; stands for its own text.
    Added(AddedToken),
    /// Steers the model; see the rule in `control.rs`.
    Control(AddedToken),
    /// In the list but never used.
    Unused,
}

impl Tokenizer {
    /// A tokenizer from the bytes of a tokenizer.json. Indexes the whole vocabulary: build it once per model.
    ///
    /// # Errors
    /// If the file is not a byte-level BPE, or `config` names tokens that it does not have.
    pub fn from_json(tokenizer_json: &[u8], config: TokenizerConfig) -> Result<Self, TextError> {
        Self::assemble(tokenizer_json::read(tokenizer_json)?, config)
    }

    /// A tokenizer from a GGUF's own metadata.
    ///
    /// # Errors
    /// If the metadata is not a byte-level BPE with a known pre-tokenizer, or contradicts itself.
    pub fn from_gguf(vocab: GgufVocab) -> Result<Self, TextError> {
        let (parts, config) = gguf_vocab::read(vocab)?;
        Self::assemble(parts, config)
    }

    fn assemble(parts: TokenizerParts, config: TokenizerConfig) -> Result<Self, TextError> {
        let mut entries: BTreeMap<u32, Entry> = parts.entries.into_iter().collect();
        let num_tokens = entries.last_key_value().map_or(0, |(id, _)| *id as usize + 1);
        let num_rows = config.num_rows.unwrap_or(num_tokens);
        let find = |role, token: &TokenRef| find(&entries, num_rows, role, token);
        let bos = config.bos.as_ref().map(|token| find("beginning", token)).transpose()?.or(parts.own_bos);
        let named_ends = config.end_tokens.iter().map(|token| find("end", token)).collect::<Result<Vec<_>, _>>()?;
        let end_tokens = with_end_markers(named_ends, &entries);
        let [prefix, suffix, middle] = ["fim prefix", "fim suffix", "fim middle"];
        let named_markers = match &config.fim {
            Some([a, b, c]) => FimMarkers::of_ids([find(prefix, a)?, find(suffix, b)?, find(middle, c)?]),
            None => None,
        };
        let markers = named_markers.iter().flat_map(|fim| [fim.prefix, fim.suffix, fim.middle]);
        for id in end_tokens.iter().copied().chain(bos).chain(markers).collect::<Vec<_>>() {
            entries.entry(id).and_modify(Entry::become_control);
        }

        let added = select(&entries, |kind| if let Kind::Added(token) = kind { Some(token) } else { None });
        let control = select(&entries, |kind| if let Kind::Control(token) = kind { Some(token) } else { None });
        let (bpe, normalizer, pre_tokenizer) = (parts.bpe, parts.normalizer, parts.pre_tokenizer);
        let encoder = Arc::new(Encoder::new(EncoderParts { bpe, normalizer, pre_tokenizer, added })?);
        let tokens = (0u32..).take(num_tokens).map(|id| entries.remove(&id).map_or(Token::Masked, Entry::into_token));
        let vocabulary = Vocabulary::with_encoder(tokens.collect(), num_rows, end_tokens, Some(encoder.clone()))?;
        let control = ControlTokens::new(control);
        Ok(Self(Arc::new(Inner {
            fim: named_markers.or_else(|| FimMarkers::find(|name| control.id_of(name))),
            encoder,
            control,
            vocabulary: Arc::new(vocabulary),
            bos,
            adds_bos: bos.is_some() && config.add_bos.unwrap_or(parts.own_bos.is_some()),
            chat_template: config.chat_template.as_deref().map(ChatTemplate::new).transpose()?,
        })))
    }

    /// The ids of ordinary text, such as a prompt from a client.
    ///
    /// Control tokens in the text are spelled out in ordinary tokens and have no effect. With `add_bos`, the ids begin
    /// with the beginning-of-text token if the model wants one ([`Self::adds_bos`]).
    ///
    /// # Errors
    /// If the tokenizer fails on the text.
    pub fn encode(&self, text: &str, add_bos: bool) -> Result<Vec<u32>, TextError> {
        let mut ids = self.start(add_bos);
        self.encode_text(text, &mut ids)?;
        Ok(ids)
    }

    /// The ids of trusted text, such as a template's, in which control tokens mean what they say.
    ///
    /// A beginning-of-text token that the text already starts with is not added again.
    ///
    /// # Errors
    /// If the tokenizer fails on the text.
    pub fn encode_with_control(&self, text: &str, add_bos: bool) -> Result<Vec<u32>, TextError> {
        self.encode_guarded(text, add_bos, None)
    }

    /// The ids of a chat, by the model's template; control tokens inside roles and contents have no effect.
    ///
    /// # Errors
    /// If there is no template, or it fails on the messages.
    pub fn encode_chat(&self, messages: &[Message], add_generation_prompt: bool) -> Result<Vec<u32>, TextError> {
        let template = self.chat_template().ok_or(TextError::NoChatTemplate)?;
        let guard = free_guard(messages).ok_or(TextError::NoFreeGuard)?;
        let defuse = |text: &str| self.0.control.defuse(text, guard);
        let defused: Vec<_> = messages.iter().map(|m| Message::new(defuse(&m.role), defuse(&m.content))).collect();
        let text = template.render(&defused, add_generation_prompt, self.bos_text(), self.end_text())?;
        self.encode_guarded(&text, true, Some(guard))
    }

    fn encode_guarded(&self, text: &str, add_bos: bool, guard: Option<char>) -> Result<Vec<u32>, TextError> {
        let spans = self.0.control.split(text);
        let has_bos = matches!(spans.first(), Some(Span::Control(id)) if Some(*id) == self.bos());
        let mut ids = self.start(add_bos && !has_bos);
        for span in spans {
            match (span, guard) {
                (Span::Control(id), _) => ids.push(id),
                (Span::Text(text), Some(guard)) => self.encode_text(&text.replace(guard, ""), &mut ids)?,
                (Span::Text(text), None) => self.encode_text(text, &mut ids)?,
            }
        }
        Ok(ids)
    }

    fn encode_text(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), TextError> {
        let encoded = self.0.encoder.encode(text)?;
        match encoded.iter().find(|&&id| self.0.vocabulary.is_control(id)) {
            Some(&id) => Err(TextError::ControlTokenInText { id }),
            None => {
                ids.extend(encoded);
                Ok(())
            }
        }
    }

    fn start(&self, add_bos: bool) -> Vec<u32> {
        self.0.bos.filter(|_| add_bos && self.0.adds_bos).into_iter().collect()
    }

    /// The concatenated bytes of `ids`; control tokens give nothing.
    #[must_use]
    pub fn decode(&self, ids: &[u32]) -> Vec<u8> {
        self.0.vocabulary.decode(ids)
    }

    /// What each id stands for.
    #[must_use]
    pub fn vocabulary(&self) -> &Arc<Vocabulary> {
        &self.0.vocabulary
    }

    /// The beginning-of-text token.
    #[must_use]
    pub fn bos(&self) -> Option<u32> {
        self.0.bos
    }

    /// Whether the model wants its texts to begin with [`Self::bos`].
    #[must_use]
    pub fn adds_bos(&self) -> bool {
        self.0.adds_bos
    }

    /// The id of a token as its file writes it (`Ġdef`, `<|EOT|>`).
    #[must_use]
    pub fn id_of(&self, token: &str) -> Option<u32> {
        self.0.control.id_of(token).or_else(|| self.0.encoder.id_of(token))
    }

    /// The model's chat template.
    #[must_use]
    pub fn chat_template(&self) -> Option<&ChatTemplate> {
        self.0.chat_template.as_ref()
    }

    /// The control tokens around a hole; `None` for a model that was not trained to fill one.
    #[must_use]
    pub fn fim(&self) -> Option<FimMarkers> {
        self.0.fim
    }

    /// The text of the beginning-of-text token as templates write it; empty if there is none.
    #[must_use]
    pub fn bos_text(&self) -> &str {
        self.0.bos.and_then(|id| self.0.vocabulary.control_name(id)).unwrap_or_default()
    }

    /// The text of the principal end token as templates write it.
    #[must_use]
    pub fn end_text(&self) -> &str {
        self.0.vocabulary.control_name(self.0.vocabulary.end_tokens()[0]).unwrap_or_default()
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer")
            .field("vocabulary", &self.0.vocabulary)
            .field("bos", &self.0.bos)
            .field("adds_bos", &self.0.adds_bos)
            .finish_non_exhaustive()
    }
}

impl Entry {
    fn become_control(&mut self) {
        self.kind = match std::mem::replace(&mut self.kind, Kind::Unused) {
            Kind::Added(token) | Kind::Control(token) => Kind::Control(token),
            Kind::Learned(_) | Kind::Unused => Kind::Control(AddedToken::from(self.text.as_str(), true)),
        };
    }

    fn into_token(self) -> Token {
        match self.kind {
            Kind::Learned(bytes) => Token::Text(bytes),
            Kind::Added(_) => Token::Text(self.text.into_bytes()),
            Kind::Control(_) => Token::Control(self.text),
            Kind::Unused => Token::Masked,
        }
    }
}

/// The id of a token that a configuration names.
fn find(
    entries: &BTreeMap<u32, Entry>,
    num_rows: usize,
    role: &'static str,
    token: &TokenRef,
) -> Result<u32, TextError> {
    match token {
        TokenRef::Id(id) if entries.contains_key(id) => Ok(*id),
        TokenRef::Id(id) if (*id as usize) < num_rows => {
            Err(TextError::UnknownToken { role, token: format!("id {id}") })
        }
        TokenRef::Id(id) => Err(TextError::TokenOutOfRange { role, id: *id, num_rows }),
        TokenRef::Name(name) => entries
            .iter()
            .find(|(_, entry)| entry.text == *name)
            .map(|(id, _)| *id)
            .ok_or_else(|| TextError::UnknownToken { role, token: name.clone() }),
    }
}

/// The named end tokens, and after them the end markers among the control tokens.
fn with_end_markers(named: Vec<u32>, entries: &BTreeMap<u32, Entry>) -> Vec<u32> {
    let is_marker = |entry: &Entry| matches!(entry.kind, Kind::Control(_)) && END_MARKERS.contains(&&*entry.text);
    let markers = entries.iter().filter(|(_, entry)| is_marker(entry)).map(|(id, _)| *id);
    let mut ends = Vec::new();
    for id in named.into_iter().chain(markers) {
        if !ends.contains(&id) {
            ends.push(id);
        }
    }
    ends
}

fn select(entries: &BTreeMap<u32, Entry>, pick: impl Fn(&Kind) -> Option<&AddedToken>) -> Vec<(u32, AddedToken)> {
    entries.iter().filter_map(|(id, entry)| pick(&entry.kind).map(|token| (*id, token.clone()))).collect()
}

/// A noncharacter that no message contains.
fn free_guard(messages: &[Message]) -> Option<char> {
    GUARDS.into_iter().find(|&guard| messages.iter().all(|m| !m.role.contains(guard) && !m.content.contains(guard)))
}

#[cfg(test)]
mod tests {
    use super::super::ConfigFiles;
    use super::*;

    const JSON: &[u8] = include_bytes!("../../models/ananke-nano/tokenizer.json");

    fn nano() -> Tokenizer {
        let config = TokenizerConfig::from_files(&ConfigFiles {
            config: Some(include_bytes!("../../models/ananke-nano/config.json")),
            tokenizer_config: Some(include_bytes!("../../models/ananke-nano/tokenizer_config.json")),
            generation_config: Some(include_bytes!("../../models/ananke-nano/generation_config.json")),
            chat_template: None,
        });
        Tokenizer::from_json(JSON, config.expect("valid JSON")).expect("a valid tokenizer")
    }

    fn reference() -> tokenizers::Tokenizer {
        tokenizers::Tokenizer::from_bytes(JSON).expect("a valid tokenizer")
    }

    /// Pieces of text that are awkward for tokenizers, with and without control tokens.
    const PIECES: [&str; 14] = [
        "def f(x):\n",
        "\t\t  ",
        "    ",
        "héllo ",
        "世界",
        "🦀\u{200d}",
        "12345",
        "\r\n",
        "x\u{301}",
        "<|",
        "|>",
        "<tool_call>",
        " ...!?",
        "\u{a0}\u{fdd0}",
    ];
    const CONTROL: [&str; 4] = ["<|EOT|>", "<｜fim▁hole｜>", "<｜begin▁of▁sentence｜>", "<pad>"];

    #[test]
    fn text_is_encoded_as_by_the_tokenizers_crate() -> Result<(), TextError> {
        let (ours, theirs) = (nano(), reference());
        for (i, first) in PIECES.iter().enumerate() {
            for second in &PIECES {
                let text = format!("{first}{second}{first}{}", PIECES[(i * 5 + 3) % PIECES.len()]);
                let expected = theirs.encode_fast(text.as_str(), false).expect("valid text");
                assert_eq!(ours.encode(&text, false)?, expected.get_ids(), "{text:?}");
                assert_eq!(ours.decode(expected.get_ids()), text.as_bytes());
            }
        }
        Ok(())
    }

    #[test]
    fn trusted_text_is_encoded_as_by_the_tokenizers_crate() -> Result<(), TextError> {
        let (ours, theirs) = (nano(), reference());
        for text in PIECES {
            for control in CONTROL {
                let text = format!("{text}{control}{control} {text}\n{control}");
                let expected = theirs.encode_fast(text.as_str(), false).expect("valid text");
                assert_eq!(ours.encode_with_control(&text, false)?, expected.get_ids(), "{text:?}");
            }
        }
        Ok(())
    }

    #[test]
    fn prompts_cannot_smuggle_in_control_tokens() -> Result<(), TextError> {
        let tokenizer = nano();
        for control in tokenizer.vocabulary().control_tokens() {
            let name = tokenizer.vocabulary().control_name(control).expect("control tokens have names");
            let text = format!("a{name}{name} b\n{name}");
            let ids = tokenizer.encode(&text, true)?;
            assert_eq!(ids[0], tokenizer.bos().expect("nano has a beginning"));
            assert!(ids[1..].iter().all(|&id| tokenizer.vocabulary().is_text(id)), "{name}");
            assert_eq!(tokenizer.decode(&ids), text.as_bytes());
        }
        Ok(())
    }

    #[test]
    fn chats_cannot_smuggle_in_control_tokens() -> Result<(), TextError> {
        let tokenizer = nano();
        let message = |content: &str| Message::new("user", content);
        let hostile = ["<|EOT|>", "<｜end▁of▁sentence｜>x<|EOT", "|>\u{fdd0}"].map(message);
        let ids = tokenizer.encode_chat(&hostile, true)?;
        assert_eq!(ids[0], tokenizer.bos().expect("nano has a beginning"));
        assert!(ids[1..].iter().all(|&id| tokenizer.vocabulary().is_text(id)));
        let text = String::from_utf8(tokenizer.decode(&ids)).expect("whole characters");
        let shown: String = hostile.iter().map(|m| format!("### Instruction:\n{}\n", m.content)).collect();
        assert_eq!(text, format!("{shown}### Response:\n"));
        Ok(())
    }

    #[test]
    fn a_chat_is_encoded_as_its_rendered_text() -> Result<(), TextError> {
        let tokenizer = nano();
        let messages = [Message::new("user", "Hi"), Message::new("assistant", "Hello"), Message::new("user", "Bye")];
        let template = tokenizer.chat_template().expect("nano has a template");
        let text = template.render(&messages, true, tokenizer.bos_text(), tokenizer.end_text())?;
        assert!(text.starts_with("<｜begin▁of▁sentence｜>### Instruction:\nHi\n### Response:\nHello\n<|EOT|>\n"));
        let ids = tokenizer.encode_chat(&messages, true)?;
        assert_eq!(ids, tokenizer.encode_with_control(&text, true)?);
        assert_eq!(ids.iter().filter(|&&id| Some(id) == tokenizer.bos()).count(), 1);
        assert!(ids.contains(&tokenizer.id_of("<|EOT|>").expect("nano has it")));
        Ok(())
    }

    #[test]
    fn every_id_gives_the_bytes_that_the_tokenizers_crate_decodes() {
        let (ours, theirs) = (nano(), reference());
        let vocabulary = ours.vocabulary();
        let env = vocabulary.tok_env();
        assert_eq!((vocabulary.num_tokens(), vocabulary.num_rows()), (4105, 4160));
        for id in 0..4160 {
            let bytes = vocabulary.bytes(id);
            let mut detokenizer = super::super::Detokenizer::new(vocabulary.clone());
            let shown = detokenizer.push(id) + &detokenizer.finish();
            assert_eq!(shown, String::from_utf8_lossy(bytes));
            if vocabulary.is_text(id) {
                assert_eq!(env.tok_trie().token(id), bytes);
                assert_eq!(shown, theirs.decode(&[id], false).expect("a valid id"), "{id}");
            } else {
                assert!(env.tok_trie().token(id).is_empty() || env.tok_trie().is_special_token(id));
            }
        }
        let masked = (0..4096).filter(|&id| !vocabulary.is_text(id)).count();
        assert_eq!(masked, 13, "the bytes that UTF-8 does not use");
    }

    #[test]
    fn nano_is_encoded_as_by_transformers() -> Result<(), Box<dyn std::error::Error>> {
        let tokenizer = nano();
        let reference: serde_json::Value = serde_json::from_str(include_str!("../../tests/data/nano_reference.json"))?;
        let ids = |value: &serde_json::Value| serde_json::from_value::<Vec<u32>>(value["ids"].clone());
        let text = |value: &serde_json::Value, key: &str| value[key].as_str().map(str::to_string).ok_or("no text");
        for vector in reference["vectors"].as_array().ok_or("no vectors")? {
            assert_eq!(tokenizer.encode_with_control(&text(vector, "prompt")?, true)?, ids(vector)?);
        }
        let plain = &reference["tokenizer"];
        assert_eq!(tokenizer.encode_with_control(&text(plain, "text")?, false)?, ids(plain)?);
        let template = tokenizer.chat_template().ok_or("no template")?;
        let rendered =
            template.render(&[Message::new("user", "Hi")], true, tokenizer.bos_text(), tokenizer.end_text())?;
        assert_eq!(rendered, text(&reference["chat"], "text")?);
        Ok(())
    }

    #[test]
    fn nano_knows_its_markers() {
        let tokenizer = nano();
        let id = |name: &str| tokenizer.id_of(name).expect("nano has it");
        let [prefix, suffix, middle] = ["<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"].map(id);
        assert_eq!(tokenizer.fim(), Some(FimMarkers { prefix, suffix, middle }));
        let named = [suffix, prefix, middle].map(TokenRef::Id);
        let other = Tokenizer::from_json(JSON, TokenizerConfig { fim: Some(named), ..TokenizerConfig::default() });
        assert_eq!(other.expect("the ids exist").fim().map(|fim| fim.prefix), Some(suffix), "what a file names wins");
    }

    #[test]
    fn nano_ends_with_either_of_its_end_tokens() {
        let tokenizer = nano();
        assert_eq!(tokenizer.vocabulary().end_tokens(), [4097, 4104]);
        assert_eq!(tokenizer.vocabulary().control_tokens().collect::<Vec<_>>(), (4096..4105).collect::<Vec<_>>());
        assert_eq!((tokenizer.bos(), tokenizer.adds_bos()), (Some(4096), true));
        assert_eq!(tokenizer.id_of("Ġdef").map(|id| tokenizer.decode(&[id])), Some(b" def".to_vec()));
    }

    #[test]
    fn forced_bytes_are_tokenized_as_the_model_would() -> Result<(), TextError> {
        let tokenizer = nano();
        let env = tokenizer.vocabulary().tok_env();
        assert!(env.tokenize_is_canonical());
        let text = "def add(a, b):\n    return a + b\n";
        assert_eq!(env.tokenize_bytes(text.as_bytes()), tokenizer.encode(text, false)?);
        let cut = &"a世".as_bytes()[..3];
        assert_eq!(tokenizer.decode(&env.tokenize_bytes(cut)), cut);
        Ok(())
    }

    #[test]
    fn wrong_configurations_are_refused() {
        let build = |config| Tokenizer::from_json(JSON, config).expect_err("a wrong configuration");
        let plain = TokenizerConfig::default;
        let rows = TokenizerConfig { num_rows: Some(4000), ..plain() };
        assert!(matches!(build(rows), TextError::VocabularyTooSmall { num_rows: 4000, num_tokens: 4105 }));
        let end = TokenizerConfig { end_tokens: vec![9999.into()], ..plain() };
        assert!(matches!(build(end), TextError::TokenOutOfRange { role: "end", id: 9999, .. }));
        let bos = TokenizerConfig { bos: Some("<begin>".into()), ..plain() };
        assert!(matches!(build(bos), TextError::UnknownToken { role: "beginning", .. }));
        assert!(matches!(Tokenizer::from_json(b"{", plain()), Err(TextError::Json { file: "tokenizer.json", .. })));
        let unigram = br#"{"model": {"type": "Unigram", "vocab": []}}"#;
        assert!(matches!(Tokenizer::from_json(unigram, plain()), Err(TextError::NotByteLevelBpe { .. })));
    }
}
