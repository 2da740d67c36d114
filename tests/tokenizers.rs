//! Real tokenizers against the vectors that llama.cpp ships beside their vocabularies.
//!
//! The files come from `scripts/fetch_tokenizers.sh`; without them these tests fail and say so.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::Instant;

use ananke::text::{Detokenizer, GgufVocab, TextError, Tokenizer, TokenizerConfig};
use candle_core::quantized::gguf_file::{Content, Value};

/// Vectors in each file; the last is the empty text.
const NUM_VECTORS: usize = 47;
/// What DeepSeek-Coder's control tokens are called.
const DEEPSEEK_CONTROL: [&str; 9] = [
    "<｜begin▁of▁sentence｜>",
    "<｜end▁of▁sentence｜>",
    "<｜fim▁hole｜>",
    "<｜fim▁begin｜>",
    "<｜fim▁end｜>",
    "<pad>",
    "<|User|>",
    "<|Assistant|>",
    "<|EOT|>",
];

fn fetched(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tokenizers").join(name);
    assert!(path.exists(), "{} is missing; run scripts/fetch_tokenizers.sh", path.display());
    path
}

fn deepseek_json() -> Vec<u8> {
    fs::read(fetched("deepseek-coder.tokenizer.json")).expect("the file can be read")
}

/// DeepSeek-Coder from its tokenizer.json, configured as its model folder says.
fn deepseek() -> Tokenizer {
    let config = TokenizerConfig {
        num_rows: Some(32256),
        bos: Some(32013.into()),
        add_bos: Some(true),
        end_tokens: vec![32014.into()],
        chat_template: None,
        fim: None,
    };
    Tokenizer::from_json(&deepseek_json(), config).expect("a valid tokenizer")
}

fn gguf_vocab(name: &str) -> GgufVocab {
    let mut file = BufReader::new(File::open(fetched(&format!("{name}.gguf"))).expect("the file can be read"));
    let content = Content::read(&mut file).expect("a valid GGUF");
    let get = |key: &str| content.metadata.get(&format!("tokenizer.{key}"));
    let text = |value: &Value| value.to_string().expect("a string").clone();
    let id = |key: &str| get(key).map(|value| value.to_u32().expect("an id"));
    let list = |key: &str| get(key).map_or(&[][..], |value| value.to_vec().expect("a list"));
    GgufVocab {
        model: get("ggml.model").map(text).unwrap_or_default(),
        pre: get("ggml.pre").map(text).unwrap_or_default(),
        tokens: list("ggml.tokens").iter().map(text).collect(),
        token_types: list("ggml.token_type").iter().map(|value| value.to_i32().expect("a type")).collect(),
        merges: list("ggml.merges").iter().map(text).collect(),
        bos: id("ggml.bos_token_id"),
        eos: id("ggml.eos_token_id"),
        eot: id("ggml.eot_token_id"),
        eom: id("ggml.eom_token_id"),
        add_bos: get("ggml.add_bos_token").map(|value| value.to_bool().expect("a flag")),
        chat_template: get("chat_template").map(text),
        fim: None,
        num_rows: None,
    }
}

fn gguf(name: &str) -> Tokenizer {
    Tokenizer::from_gguf(gguf_vocab(name)).expect("a valid tokenizer")
}

/// The texts of a vocabulary's vectors with the ids they must give.
fn vectors(name: &str) -> Vec<(String, Vec<u32>)> {
    let read = |suffix| fs::read_to_string(fetched(&format!("{name}.gguf.{suffix}"))).expect("the file can be read");
    let (texts, ids) = (read("inp"), read("out"));
    let ids = ids.split('\n').map(|line| line.split_whitespace().map(|id| id.parse().expect("an id")).collect());
    texts.split("\n__ggml_vocab_test__\n").map(str::to_string).zip(ids).collect()
}

/// Every vector gives its ids, and the ids give the text back.
fn check_vectors(tokenizer: &Tokenizer, name: &str) {
    let vectors = vectors(name);
    assert_eq!(vectors.len(), NUM_VECTORS);
    for (text, ids) in vectors {
        assert_eq!(tokenizer.encode(&text, false).expect("text can be encoded"), ids, "{name}: {text:?}");
        assert_eq!(String::from_utf8_lossy(&tokenizer.decode(&ids)), text, "{name}");
    }
}

/// The trie, the vocabulary and the detokenizer agree on every id.
fn check_bytes(tokenizer: &Tokenizer) {
    let vocabulary = tokenizer.vocabulary();
    let env = vocabulary.tok_env();
    for id in (0u32..).take(vocabulary.num_rows()) {
        let mut detokenizer = Detokenizer::new(vocabulary.clone());
        let shown = detokenizer.push(id) + &detokenizer.finish();
        assert_eq!(shown, String::from_utf8_lossy(vocabulary.bytes(id)), "{id}");
        let in_trie = env.tok_trie().token(id);
        assert!(in_trie == vocabulary.bytes(id) || (in_trie[0] == 0xff && vocabulary.is_control(id)), "{id}");
    }
    let ends = vocabulary.end_tokens();
    assert!(ends.iter().all(|&id| vocabulary.is_control(id)) && env.tok_trie().eos_tokens() == ends);
}

#[test]
fn deepseek_coder_passes_its_vectors_through_tokenizer_json() {
    check_vectors(&deepseek(), "deepseek-coder");
}

#[test]
fn deepseek_coder_passes_its_vectors_through_the_gguf() {
    check_vectors(&gguf("deepseek-coder"), "deepseek-coder");
}

#[test]
fn deepseek_llm_passes_its_vectors_through_the_gguf() {
    check_vectors(&gguf("deepseek-llm"), "deepseek-llm");
}

#[test]
fn llama_3_passes_its_vectors_through_the_gguf() {
    check_vectors(&gguf("llama-bpe"), "llama-bpe");
}

#[test]
fn qwen_2_passes_its_vectors_through_the_gguf() {
    check_vectors(&gguf("qwen2"), "qwen2");
}

#[test]
fn smollms_rules_pass_the_vectors_of_starcoder_which_shares_them() {
    let vocab = GgufVocab { pre: "smollm".into(), ..gguf_vocab("starcoder") };
    check_vectors(&Tokenizer::from_gguf(vocab).expect("a valid tokenizer"), "starcoder");
}

#[test]
fn both_files_of_deepseek_coder_give_one_vocabulary() {
    let (json, gguf) = (deepseek(), gguf("deepseek-coder"));
    assert_eq!(json.vocabulary().num_tokens(), 32022);
    assert_eq!(json.vocabulary().digest_bytes(), gguf.vocabulary().digest_bytes());
    assert_eq!((json.bos(), json.adds_bos()), (gguf.bos(), gguf.adds_bos()));
    assert_eq!(json.vocabulary().end_tokens(), [32014, 32021]);
}

#[test]
fn every_id_means_the_same_to_masks_and_output() {
    check_bytes(&deepseek());
    for name in ["deepseek-coder", "deepseek-llm", "llama-bpe", "qwen2"] {
        check_bytes(&gguf(name));
    }
}

#[test]
fn deepseek_coders_ids_decode_as_in_the_tokenizers_crate() {
    let theirs = tokenizers::Tokenizer::from_bytes(deepseek_json()).expect("a valid tokenizer");
    let ours = deepseek();
    let text = |id| String::from_utf8_lossy(ours.vocabulary().bytes(id));
    for id in 0..32000 {
        assert_eq!(text(id), theirs.decode(&[id], false).expect("a valid id"), "{id}");
    }
    // The 13 added characters are encoded as themselves but decoded as invalid bytes there; here they survive.
    for id in 32000..32013 {
        assert_eq!(theirs.decode(&[id], false).expect("a valid id"), "\u{fffd}");
        assert_eq!(theirs.encode_fast(&*text(id), false).expect("valid text").get_ids(), [id]);
        assert_eq!(ours.encode(&text(id), false).expect("text can be encoded"), [id]);
    }
}

#[test]
fn deepseek_coders_control_tokens_act_only_in_trusted_text() -> Result<(), TextError> {
    let theirs = tokenizers::Tokenizer::from_bytes(deepseek_json()).expect("a valid tokenizer");
    for tokenizer in [deepseek(), gguf("deepseek-coder")] {
        let vocabulary = tokenizer.vocabulary();
        assert_eq!(vocabulary.control_tokens().collect::<Vec<_>>(), (32013..32022).collect::<Vec<_>>());
        for name in DEEPSEEK_CONTROL {
            let text = format!("x{name}{name}\nõ {name}");
            let ids = tokenizer.encode(&text, false)?;
            assert!(ids.iter().all(|&id| vocabulary.is_text(id)), "{name}");
            assert_eq!(tokenizer.decode(&ids), text.as_bytes());
            let expected = theirs.encode_fast(&*text, false).expect("valid text");
            assert_eq!(tokenizer.encode_with_control(&text, false)?, expected.get_ids());
        }
        let padding = tokenizer.encode("[PAD32022]", false)?;
        assert!(padding.iter().all(|&id| id < 32000));
    }
    Ok(())
}

#[test]
fn beginnings_and_ends_are_those_of_the_models() {
    let facts = |name| {
        let tokenizer = gguf(name);
        (tokenizer.bos().filter(|_| tokenizer.adds_bos()), tokenizer.vocabulary().end_tokens().to_vec())
    };
    assert_eq!(facts("deepseek-coder"), (Some(32013), vec![32014, 32021]));
    assert_eq!(facts("deepseek-llm"), (Some(100_000), vec![100_001]));
    assert_eq!(facts("llama-bpe"), (Some(128_000), vec![128_001, 128_009]));
    assert_eq!(facts("qwen2"), (None, vec![151_643, 151_645]));
}

/// A hundred kilobytes that invite backtracking; where an expression did, each would take a minute.
#[test]
fn no_text_takes_long_to_encode() -> Result<(), TextError> {
    for name in ["deepseek-coder", "deepseek-llm", "llama-bpe", "qwen2"] {
        let tokenizer = gguf(name);
        for (unit, tail) in
            [(" ", "█"), (" ", "7"), ("\t\n ", "x"), ("a", ""), ("<", ""), ("<|EO", ""), ("é\u{301}", "")]
        {
            let text = unit.repeat(100_000 / unit.len()) + tail;
            let start = Instant::now();
            tokenizer.encode(&text, false)?;
            tokenizer.encode_with_control(&text, false)?;
            assert!(start.elapsed().as_secs() < 15, "{name}: {unit:?} took {:?}", start.elapsed());
        }
    }
    Ok(())
}

#[test]
fn a_broken_gguf_vocabulary_is_told_apart() {
    let vocab = gguf_vocab("deepseek-coder");
    let read = |change: &dyn Fn(&mut GgufVocab)| {
        let mut vocab = vocab.clone();
        change(&mut vocab);
        Tokenizer::from_gguf(vocab).expect_err("a broken vocabulary")
    };
    let pre = read(&|vocab| vocab.pre = "bloom".into());
    assert!(pre.to_string().contains("\"bloom\"") && pre.to_string().contains("deepseek-coder"), "{pre}");
    assert!(matches!(read(&|vocab| vocab.model = "llama".into()), TextError::NotByteLevelBpe { .. }));
    assert!(matches!(read(&|vocab| vocab.token_types.truncate(9)), TextError::TokenTypesMismatch { num_types: 9, .. }));
    assert!(matches!(read(&|vocab| vocab.merges[3] = "nospace".into()), TextError::BadMerge { index: 3, .. }));
    assert!(matches!(read(&|vocab| vocab.merges[3] = "no such".into()), TextError::Build(_)));
    assert!(matches!(read(&|vocab| vocab.eos = Some(99_999)), TextError::TokenOutOfRange { role: "end", .. }));
}
