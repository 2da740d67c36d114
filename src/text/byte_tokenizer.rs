//! The tokenizer whose tokens are the bytes: for text whose tokens nobody here knows, such as that of a remote model.

use serde_json::{Map, Value, json};

use super::byte_level;
use super::{TextError, Tokenizer, TokenizerConfig};

/// Stands for the end of a text; no text writes it.
const END: &str = "<|end|>";
/// Its id: the first after the bytes.
const END_ID: u32 = 256;
/// Past the last character of the byte-level alphabet.
const ALPHABET_END: u32 = 0x144;

impl Tokenizer {
    /// The tokenizer in which byte `b` is the token `b`, and 256 the end.
    ///
    /// # Errors
    /// None that a caller could cause: the file it is read from is written here.
    pub fn of_bytes() -> Result<Self, TextError> {
        let letters = (0..ALPHABET_END).filter_map(char::from_u32).map(String::from);
        let vocab: Map<String, Value> = letters
            .filter_map(|letter| {
                let byte = *byte_level::to_bytes(&letter)?.first()?;
                Some((letter, json!(byte)))
            })
            .collect();
        let file = json!({
            "model": {"type": "BPE", "vocab": vocab, "merges": []},
            "pre_tokenizer": {
                "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false,
            },
            "added_tokens": [{
                "id": END_ID, "content": END, "special": true,
                "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            }],
        });
        let config = TokenizerConfig { end_tokens: vec![END_ID.into()], ..TokenizerConfig::default() };
        Self::from_json(file.to_string().as_bytes(), config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_its_own_token() {
        let tokenizer = Tokenizer::of_bytes().expect("the file is well-formed");
        let text = "aé €🦀\n\t\0<|end|>";
        let ids = tokenizer.encode(text, true).expect("text encodes");
        assert_eq!(ids, text.bytes().map(u32::from).collect::<Vec<_>>());
        assert_eq!(tokenizer.decode(&ids), text.as_bytes());
        let vocabulary = tokenizer.vocabulary();
        assert_eq!((vocabulary.num_rows(), vocabulary.end_tokens()), (257, &[END_ID][..]));
        assert!((0..=255u32).all(|id| [&[id as u8][..], &[]].contains(&vocabulary.bytes(id))));
    }
}
