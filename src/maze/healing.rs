//! Token healing: a prompt that ends inside a word is given up to the last token that no longer one could begin with,
//! and the output begins with the bytes that were taken away, in whatever tokens the model writes them.
//!
//! Those bytes are part of the prompt to everyone outside: they are not returned, and no stop string is looked for in
//! them. The tokens that write them count as generated.

use super::{Error, TokenInfo};
use crate::constraint::{ConstraintIr, MatchMode, RegexGroup, RegexPattern};
use crate::text::Tokenizer;

/// Last tokens of a prompt that are looked at together for a longer token that begins with them.
const NUM_HEALED_MAX: usize = 4;

/// Takes the open tokens off the end of `ids`, which are those of `text`, and returns what they say. At least one token
/// stays.
pub(super) fn take_open_end(ids: &mut Vec<u32>, text: &str, tokenizer: &Tokenizer) -> String {
    let vocabulary = tokenizer.vocabulary();
    let env = vocabulary.tok_env();
    let most = NUM_HEALED_MAX.min(ids.len().saturating_sub(1));
    let open = (1..=most).rev().find_map(|count| {
        let tail = &ids[ids.len() - count..];
        let bytes = vocabulary.decode(tail);
        let is_open = tail.iter().all(|&id| vocabulary.is_text(id)) && env.tok_trie().has_extensions(&bytes);
        let said = String::from_utf8(bytes).ok().filter(|said| is_open && text.ends_with(said.as_str()))?;
        Some((count, said))
    });
    let Some((count, said)) = open else { return String::new() };
    ids.truncate(ids.len() - count);
    said
}

/// What holds of an output that begins with `healed`.
///
/// # Errors
/// [`Error::HealingWithConstraints`] where something else binds the output: it would judge those bytes too.
pub(super) fn bind(healed: &str, is_bound: bool) -> Result<Option<ConstraintIr>, Error> {
    if is_bound {
        return Err(Error::HealingWithConstraints);
    }
    if healed.is_empty() {
        return Ok(None);
    }
    // Every character by its number, so that none means anything.
    let pattern = healed.chars().map(|c| format!("\\x{{{:x}}}", u32::from(c))).collect();
    let any_of = vec![RegexPattern { pattern, flags: String::new() }];
    let group = RegexGroup { any_of, match_mode: MatchMode::Prefix };
    Ok(Some(ConstraintIr { name: "token_healing".into(), regex_patterns: vec![group], ..ConstraintIr::default() }))
}

/// What is left of one choice's healed bytes, to be kept from the client.
#[derive(Clone, Debug, Default)]
pub(super) struct Healing {
    text: String,
    tokens: Vec<u8>,
}

impl Healing {
    pub(super) fn new(healed: &str) -> Self {
        Self { text: healed.to_owned(), tokens: healed.as_bytes().to_vec() }
    }

    /// New text of the output without what is healed.
    pub(super) fn strip(&mut self, text: String) -> String {
        if self.text.is_empty() {
            return text;
        }
        let shared = self.text.chars().zip(text.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum();
        self.text.drain(..shared);
        text[shared..].to_owned()
    }

    /// A token of the output without what is healed; `None` where nothing of it is left. Alternatives that do not go on
    /// from the prompt either are left out.
    pub(super) fn strip_token(&mut self, mut token: TokenInfo) -> Option<TokenInfo> {
        if self.tokens.is_empty() {
            return Some(token);
        }
        let healed = self.tokens.clone();
        let count = healed.len().min(token.bytes.len());
        self.tokens.drain(..count);
        if count < healed.len() || token.bytes.len() == count {
            return None;
        }
        token.bytes.drain(..count);
        token.text = String::from_utf8_lossy(&token.bytes).into_owned();
        token.top.retain_mut(|other| {
            let goes_on = other.bytes.len() > count && other.bytes.starts_with(&healed);
            if goes_on {
                other.bytes.drain(..count);
                other.text = String::from_utf8_lossy(&other.bytes).into_owned();
            }
            goes_on
        });
        Some(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::maze::Alternative;

    fn nano() -> Tokenizer {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models/ananke-nano");
        crate::maze::open_tokenizer(&folder).expect("the embedded model is in the repository")
    }

    #[test]
    fn what_a_longer_token_could_begin_with_is_taken_off() {
        let tokenizer = nano();
        for text in ["def f(x):\n    retu", "import ", "x = \"héllo", "a", "print(items[0"] {
            let whole = tokenizer.encode(text, true).expect("text");
            let mut ids = whole.clone();
            let healed = take_open_end(&mut ids, text, &tokenizer);
            assert!(!ids.is_empty() && whole.starts_with(&ids), "{text:?}");
            let left = String::from_utf8(tokenizer.decode(&ids)).expect("whole characters");
            assert_eq!(format!("{left}{healed}"), text);
        }
        let mut ids = tokenizer.encode("    retu", true).expect("text");
        assert!(take_open_end(&mut ids, "    retu", &tokenizer).ends_with("retu"), "`return` is a token");
        let mut ids = vec![tokenizer.encode("a", false).expect("text")[0]];
        assert_eq!(take_open_end(&mut ids, "a", &tokenizer), "", "a prompt is never empty");
    }

    #[test]
    fn healed_text_is_kept_back_however_it_comes() {
        let mut healing = Healing::new("é(");
        assert_eq!(["é", "", "(x", "y"].map(|text| healing.strip(text.to_owned())), ["", "", "x", "y"]);
        let token = |text: &str, top: &[&str]| TokenInfo {
            id: 0,
            text: text.into(),
            bytes: text.into(),
            logprob: -1.0,
            top: top
                .iter()
                .map(|text| Alternative { text: (*text).into(), bytes: (*text).into(), logprob: -1.0 })
                .collect(),
        };
        let mut healing = Healing::new("ret");
        assert_eq!(healing.strip_token(token("re", &[])), None);
        let rest = healing.strip_token(token("turn", &["turn", "t", "x", "ty"])).expect("more than was healed");
        assert_eq!((rest.text.as_str(), rest.top.len()), ("urn", 2));
        assert_eq!(rest.top.iter().map(|other| other.text.as_str()).collect::<Vec<_>>(), ["urn", "y"]);
        assert_eq!(healing.strip_token(token("t", &[])).map(|token| token.text), Some("t".into()));
    }
}
