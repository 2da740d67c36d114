//! How text is cut before merging, for the pre-tokenizers that a GGUF only names.
//!
//! A GGUF says `tokenizer.ggml.pre = "deepseek-coder"` and leaves the rules to its reader. The expressions here are
//! those of the models' own tokenizer.json files, which llama.cpp's `llama-vocab.cpp` documents name by name.

use tokenizers::normalizers::{NFC, NormalizerWrapper};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{PreTokenizerWrapper, SplitDelimiterBehavior};

use super::TextError;

/// The values of `tokenizer.ggml.pre` that are supported.
pub const SUPPORTED_PRE_TOKENIZERS: &[&str] = &["smollm", "deepseek-coder", "deepseek-llm", "llama-bpe", "qwen2"];

/// What a name of a pre-tokenizer stands for.
pub(crate) struct PreTokenizer {
    pub(crate) normalizer: Option<NormalizerWrapper>,
    pub(crate) splits: PreTokenizerWrapper,
    /// Whether a piece that is a token as a whole is taken without merging.
    pub(crate) ignore_merges: bool,
    /// Whether texts begin with the beginning-of-text token unless the file says otherwise.
    pub(crate) adds_bos: bool,
}

impl PreTokenizer {
    /// The rules behind a name.
    ///
    /// # Errors
    /// If the name is not one of [`SUPPORTED_PRE_TOKENIZERS`].
    pub(crate) fn named(pre: &str) -> Result<Self, TextError> {
        let plain = |splits| Self { normalizer: None, splits, ignore_merges: false, adds_bos: false };
        match pre {
            "smollm" => Ok(plain(sequence(vec![digits(), byte_level(true)]))),
            "deepseek-coder" => Ok(plain(deepseek(&DEEPSEEK_CODER)?)),
            "deepseek-llm" => Ok(plain(deepseek(&DEEPSEEK_LLM)?)),
            "llama-bpe" => Ok(Self { ignore_merges: true, adds_bos: true, ..plain(words(LLAMA_3)?) }),
            "qwen2" => Ok(Self { normalizer: Some(NormalizerWrapper::NFC(NFC)), ..plain(words(QWEN_2)?) }),
            _ => Err(TextError::UnsupportedPreTokenizer { found: pre.into(), supported: SUPPORTED_PRE_TOKENIZERS }),
        }
    }
}

const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN_2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

const DEEPSEEK_CODER: [&str; 4] = [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", CJK];
/// Letters of cased scripts only, listed one by one in the original; and only ASCII and full-width punctuation.
const DEEPSEEK_LLM: [&str; 5] = [
    r"[\r\n]",
    "\\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛ\
     ὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-\
     ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+",
    "\\s?[!-/:-~！-／：-～‘-‟\u{3000}-。]+",
    LINE_END,
    CJK,
];
/// `\s+$` for text that holds no line breaks within: from every start of a run of whitespace `\s+$` looks at the whole
/// run, which makes a prompt of spaces take time in its square; this looks once.
const LINE_END: &str = r"(?<!\s)\s++$";
const CJK: &str = "[一-龥\u{800}-一가-\u{d7ff}]+";

/// `splits` with [`LINE_END`] for `\s+$` where line breaks were split off before, so that both give the same pieces.
///
/// # Errors
/// If an expression of `splits` is not valid, which cannot be as it was read before.
pub(crate) fn in_linear_time(splits: PreTokenizerWrapper) -> Result<PreTokenizerWrapper, TextError> {
    let PreTokenizerWrapper::Sequence(steps) = splits else { return Ok(splits) };
    let mut lines_apart = false;
    let steps = steps.into_iter().map(|step| match &step {
        PreTokenizerWrapper::Split(split_step) if lines_apart && is_isolating(split_step, &[r"\s+$"]) => {
            split(LINE_END)
        }
        PreTokenizerWrapper::Split(split_step) => {
            lines_apart |= is_isolating(split_step, &[r"[\r\n]", "[\r\n]"]);
            Ok(step)
        }
        _ => Ok(step),
    });
    steps.collect::<Result<_, _>>().map(sequence)
}

/// Whether a step sets apart what one of these expressions matches.
fn is_isolating(split: &Split, expressions: &[&str]) -> bool {
    let SplitPattern::Regex(regex) = &split.pattern else { return false };
    matches!(split.behavior, SplitDelimiterBehavior::Isolated) && !split.invert && expressions.contains(&&**regex)
}

fn deepseek(expressions: &[&str]) -> Result<PreTokenizerWrapper, TextError> {
    let mut steps = expressions.iter().map(|expression| split(expression)).collect::<Result<Vec<_>, _>>()?;
    steps.extend([digits(), byte_level(false)]);
    Ok(sequence(steps))
}

fn words(expression: &str) -> Result<PreTokenizerWrapper, TextError> {
    Ok(sequence(vec![split(expression)?, byte_level(false)]))
}

fn sequence(steps: Vec<PreTokenizerWrapper>) -> PreTokenizerWrapper {
    PreTokenizerWrapper::Sequence(Sequence::new(steps))
}

fn split(expression: &str) -> Result<PreTokenizerWrapper, TextError> {
    let pattern = SplitPattern::Regex(expression.to_string());
    let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false).map_err(TextError::Build)?;
    Ok(PreTokenizerWrapper::Split(split))
}

fn digits() -> PreTokenizerWrapper {
    PreTokenizerWrapper::Digits(Digits::new(true))
}

fn byte_level(use_regex: bool) -> PreTokenizerWrapper {
    PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, true, use_regex))
}

#[cfg(test)]
mod tests {
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _};

    use super::*;

    fn pieces(splits: &PreTokenizerWrapper, text: &str) -> Vec<String> {
        let mut pieces = PreTokenizedString::from(text);
        splits.pre_tokenize(&mut pieces).expect("text can be split");
        let splits = pieces.get_splits(OffsetReferential::Original, OffsetType::Byte);
        splits.into_iter().map(|(piece, ..)| piece.to_string()).collect()
    }

    #[test]
    fn the_linear_expression_gives_the_same_pieces() -> Result<(), TextError> {
        let original = sequence(vec![split(r"[\r\n]")?, split(r"\s?[a-z]+")?, split(r"\s+$")?]);
        let linear = in_linear_time(original.clone())?;
        assert_ne!(linear, original);
        let alphabet = [" ", "\t", "\n", "\u{2028}", "a", "7"];
        for code in 0..6usize.pow(6) {
            let text: String = (0..6).map(|i| alphabet[code / 6usize.pow(i) % 6]).collect();
            assert_eq!(pieces(&linear, &text), pieces(&original, &text), "{text:?}");
        }
        Ok(())
    }

    #[test]
    fn an_expression_over_several_lines_is_left_alone() -> Result<(), TextError> {
        let steps = sequence(vec![split(r"\s+$")?]);
        assert_eq!(in_linear_time(steps.clone())?, steps);
        Ok(())
    }

    #[test]
    fn every_supported_name_has_rules_and_no_other() {
        assert!(SUPPORTED_PRE_TOKENIZERS.iter().all(|pre| PreTokenizer::named(pre).is_ok()));
        let error = PreTokenizer::named("bloom").map(|_| ()).expect_err("not supported").to_string();
        assert!(error.contains("\"bloom\"") && error.contains("smollm, deepseek-coder"), "{error}");
    }
}
