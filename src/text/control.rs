//! Which tokens are control tokens, and where they stand in trusted text.
//!
//! # The rule
//! A token is a control token if any of these holds:
//! 1. its file says so: `special` in tokenizer.json, type control or unknown in a GGUF;
//! 2. the model's configuration names it as beginning or end;
//! 3. it was added to the learned vocabulary and **looks** like one, because DeepSeek marks its markers
//!    `special=false`: `<|...|>`, `<｜...｜>` (U+FF5C), or one of a few older names (`<pad>`, `<s>`, `<fim_prefix>`, ...).
//!
//! Every other added token (DeepSeek-Coder's `õ`, Qwen's `<tool_call>`) is text: users may write it, models may emit it.

use tokenizers::AddedToken;

/// Markers without bars in their brackets.
const BARE_MARKERS: [&str; 16] = [
    "<s>",
    "</s>",
    "<unk>",
    "<pad>",
    "<bos>",
    "<eos>",
    "<mask>",
    "<fim_prefix>",
    "<fim_middle>",
    "<fim_suffix>",
    "<fim_pad>",
    "<fim-prefix>",
    "<fim-middle>",
    "<fim-suffix>",
    "[PAD]",
    "[UNK]",
];

/// Control tokens that end an output in every model that has them, whether its configuration says so or not.
pub(crate) const END_MARKERS: [&str; 8] = [
    "<|EOT|>",
    "<｜end▁of▁sentence｜>",
    "<|im_end|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<end_of_turn>",
];

/// Part 3 of the rule: whether an added token looks like a control token.
pub(crate) fn looks_like_control(token: &str) -> bool {
    let between = |open, close| token.strip_prefix(open).and_then(|rest| rest.strip_suffix(close));
    let name = between("<|", "|>").or_else(|| between("<｜", "｜>"));
    BARE_MARKERS.contains(&token) || name.is_some_and(|name| !name.is_empty() && !name.contains(char::is_whitespace))
}

/// Finds control tokens in text: leftmost first, then longest.
pub(crate) struct ControlTokens {
    /// Longest first, so that the first that fits is the longest.
    tokens: Vec<(u32, AddedToken)>,
    /// What a control token can begin with.
    first_chars: Vec<char>,
}

/// A stretch of text between control tokens, or one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Span<'a> {
    Text(&'a str),
    Control(u32),
}

impl ControlTokens {
    pub(crate) fn new(mut tokens: Vec<(u32, AddedToken)>) -> Self {
        tokens.retain(|(_, token)| !token.content.is_empty());
        tokens.sort_by_key(|(id, token)| (std::cmp::Reverse(token.content.len()), *id));
        let mut first_chars: Vec<char> = tokens.iter().filter_map(|(_, token)| token.content.chars().next()).collect();
        first_chars.sort_unstable();
        first_chars.dedup();
        Self { tokens, first_chars }
    }

    /// Cuts `text` at its control tokens. Whitespace that a token absorbs (`lstrip`, `rstrip`) is dropped.
    pub(crate) fn split<'a>(&self, text: &'a str) -> Vec<Span<'a>> {
        let mut spans = Vec::new();
        let mut rest = text;
        while let Some((start, id, token)) = self.find(rest) {
            let before = &rest[..start];
            let after = &rest[start + token.content.len()..];
            push_text(&mut spans, if token.lstrip { before.trim_end() } else { before });
            spans.push(Span::Control(id));
            rest = if token.rstrip { after.trim_start() } else { after };
        }
        push_text(&mut spans, rest);
        spans
    }

    /// `text` with `guard` put into every control token, and next to anything at its borders that could become one
    /// together with its surroundings. With the guard taken out it is the same text; until then it holds no control
    /// token.
    pub(crate) fn defuse(&self, text: &str, guard: char) -> String {
        let mut out = String::with_capacity(text.len());
        if self.tokens.iter().any(|(_, token)| begins_with_end_of(text, &token.content)) {
            out.push(guard);
        }
        let mut rest = text;
        while let Some((start, ..)) = self.find(rest) {
            let first = rest[start..].chars().next().map_or(0, char::len_utf8);
            out.push_str(&rest[..start + first]);
            out.push(guard);
            rest = &rest[start + first..];
        }
        out.push_str(rest);
        if self.tokens.iter().any(|(_, token)| ends_with_beginning_of(text, &token.content)) {
            out.push(guard);
        }
        out
    }

    /// The id of a control token by its text.
    pub(crate) fn id_of(&self, text: &str) -> Option<u32> {
        self.tokens.iter().find(|(_, token)| token.content == text).map(|(id, _)| *id)
    }

    fn find(&self, text: &str) -> Option<(usize, u32, &AddedToken)> {
        text.char_indices().filter(|(_, c)| self.first_chars.contains(c)).find_map(|(start, _)| {
            let here = |token: &AddedToken| text[start..].starts_with(&token.content);
            let (id, token) = self.tokens.iter().find(|(_, token)| here(token))?;
            Some((start, *id, token))
        })
    }
}

fn push_text<'a>(spans: &mut Vec<Span<'a>>, text: &'a str) {
    if !text.is_empty() {
        spans.push(Span::Text(text));
    }
}

fn ends_with_beginning_of(text: &str, token: &str) -> bool {
    token.char_indices().skip(1).any(|(cut, _)| text.ends_with(&token[..cut]))
}

fn begins_with_end_of(text: &str, token: &str) -> bool {
    token.char_indices().skip(1).any(|(cut, _)| text.starts_with(&token[cut..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn controls() -> ControlTokens {
        let token = |text: &str| AddedToken::from(text, true);
        ControlTokens::new(vec![(1, token("<|a|>")), (2, token("<|a|>b")), (3, token("</s>").rstrip(true))])
    }

    #[test]
    fn markers_are_told_from_words() {
        let control = ["<|EOT|>", "<｜fim▁hole｜>", "<|im_start|>", "<pad>", "<fim_prefix>"];
        assert!(control.into_iter().all(looks_like_control));
        let text = ["õ", "<tool_call>", "<||>", "<| |>", "<|a b|>", "|>", "<think>", "  "];
        assert!(!text.into_iter().any(looks_like_control));
    }

    #[test]
    fn the_longest_control_token_is_found() {
        let spans = controls().split("x<|a|>b <|a|</s>  y");
        assert_eq!(spans, [Span::Text("x"), Span::Control(2), Span::Text(" <|a|"), Span::Control(3), Span::Text("y")]);
        assert_eq!(controls().split(""), []);
    }

    #[test]
    fn defused_text_holds_no_control_token_whatever_stands_around_it() {
        let controls = controls();
        for text in ["<|a|>b", "<<|a|><|a|>", "|>b x <|a", "></s", "plain", "<|a|>b</s>"] {
            let defused = controls.defuse(text, '\u{fdd0}');
            assert_eq!(defused.replace('\u{fdd0}', ""), text);
            for (before, after) in [("", ""), ("<|a", "|>"), ("<", ">"), ("</", "s>")] {
                let whole = format!("{before}{defused}{after}");
                assert_eq!(controls.split(&whole), [Span::Text(&whole)]);
            }
        }
    }
}
