//! The guide as a whole: masks against a brute-force oracle, notations, hostile input, and random walks under several
//! parts at once.

mod automata;
mod composite;
mod document;
mod hostile;
mod layout;
mod lexer_masks;
mod liveness;
mod notations;
mod oracle;
mod parts;
mod regions;
mod soft;

use std::sync::{Arc, LazyLock};

use serde_json::{Value, json};

use super::*;
use crate::text::{ConfigFiles, Token, Tokenizer, TokenizerConfig};

/// A vocabulary of these texts; one control token and one end token come last, and two padded rows.
fn vocabulary(words: &[&[u8]]) -> Arc<Vocabulary> {
    let mut tokens: Vec<Token> = words.iter().map(|word| Token::Text(word.to_vec())).collect();
    tokens.push(Token::Control("<tool>".into()));
    tokens.push(Token::Control("<end>".into()));
    let end = tokens.len() as u32 - 1;
    let num_rows = tokens.len() + 2;
    Arc::new(Vocabulary::new(tokens, num_rows, vec![end]).expect("a valid vocabulary"))
}

fn guide(words: &[&[u8]]) -> Guide {
    Guide::new(vocabulary(words), GuideConfig::default()).expect("the vocabulary can be sliced")
}

/// A guide over single bytes: every text is walked byte by byte.
static BYTES: LazyLock<Guide> = LazyLock::new(|| {
    let bytes: Vec<[u8; 1]> = (0..=255u8).map(|byte| [byte]).collect();
    guide(&bytes.iter().map(<[u8; 1]>::as_slice).collect::<Vec<_>>())
});

/// The tokenizer of the embedded model.
static NANO: LazyLock<Tokenizer> = LazyLock::new(|| {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models/ananke-nano");
    let read = |name: &str| std::fs::read(folder.join(name)).expect("the embedded model is in the repository");
    let files = [read("config.json"), read("tokenizer_config.json"), read("generation_config.json")];
    let files = ConfigFiles {
        config: Some(&files[0]),
        tokenizer_config: Some(&files[1]),
        generation_config: Some(&files[2]),
        ..ConfigFiles::default()
    };
    let config = TokenizerConfig::from_files(&files).expect("the model's files agree");
    Tokenizer::from_json(&read("tokenizer.json"), config).expect("the tokenizer loads")
});

static NANO_GUIDE: LazyLock<Guide> = LazyLock::new(|| {
    Guide::new(Arc::clone(NANO.vocabulary()), GuideConfig::default()).expect("the vocabulary can be sliced")
});

fn ir(value: Value) -> ConstraintIr {
    serde_json::from_value(value).expect("a well-formed IR")
}

fn refusal(guide: &Guide, value: Value) -> GuideError {
    guide.compile(&[ir(value.clone())]).map(drop).expect_err(&format!("{value} must be refused"))
}

fn start(guide: &Guide, irs: &[Value]) -> Matcher {
    let irs: Vec<ConstraintIr> = irs.iter().cloned().map(ir).collect();
    let compiled = guide.compile(&irs).unwrap_or_else(|error| panic!("{irs:?}: {error}"));
    compiled.matcher(b"").expect("a matcher")
}

fn filled(matcher: &mut Matcher) -> Result<Vec<u32>, GuideError> {
    // Stale bits show when a row is not overwritten.
    let mut row = vec![u32::MAX; num_words(matcher.compiled().vocabulary.num_rows())];
    matcher.fill(&mut row).map(|()| row)
}

/// Whether the masks let `text` through byte by byte, to an end; the number of bytes that got through.
fn walk_bytes(value: Value, text: &[u8]) -> (bool, usize) {
    let mut matcher = start(&BYTES, &[value]);
    for (idx, &byte) in text.iter().enumerate() {
        match filled(&mut matcher) {
            Ok(row) if is_allowed(&row, u32::from(byte)) => {
                matcher.accept(u32::from(byte)).expect("the mask allows it")
            }
            _ => return (false, idx),
        }
    }
    (matcher.is_complete().expect("a live matcher"), text.len())
}

/// A small generator with a printed seed: splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }
}
