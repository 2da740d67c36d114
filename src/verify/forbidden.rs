//! Forbidden text: a plain search, one byte at a time, and the `regex` crate for patterns.
//!
//! What counts is an occurrence that ends in the output: with `scope: document` it may begin in the prompt, but one
//! that lies wholly in the prompt was not generated. Where a suffix follows, an occurrence may also end in it, if it
//! begins before it.

use std::borrow::Cow;

use regex::bytes::Regex;

use super::regexes::{self, Flags};
use super::{Judgement, Output};
use crate::constraint::{ForbiddenText, Scope, TextOrRegex};

/// Bytes read while looking for a pattern's match across the border of prompt and output; about half a second.
const MAX_BORDER_BYTES: usize = 256 << 20;
/// Bytes after a match that an assertion in it can see: one character.
const LOOK_AHEAD_BYTES: usize = 4;

/// Whether the text is absent from the output.
pub(super) fn check(output: &Output<'_>, forbidden: &ForbiddenText) -> Judgement {
    let document = match forbidden.scope {
        Scope::Output => Document { bytes: output.text.into(), border: 0, end: output.text.len() },
        Scope::Document => {
            let border = output.prompt.len();
            // Whether the suffix will follow an unfinished output, nobody knows.
            let suffix = if output.finished { output.suffix } else { b"" };
            let bytes = [output.prompt, output.text, suffix].concat().into();
            Document { bytes, border, end: border + output.text.len() }
        }
    };
    match forbidden.pattern() {
        Ok(TextOrRegex::Text("")) => Judgement::Unknown("the empty text is in every output".into()),
        Ok(TextOrRegex::Text(text)) => document.check_literal(text.as_bytes(), forbidden),
        Ok(TextOrRegex::Regex(pattern)) => document.check_pattern(pattern, forbidden),
        Err(error) => Judgement::Unknown(error.to_string()),
    }
}

/// The bytes searched; those from `border` to `end` are the output, and a suffix follows.
struct Document<'a> {
    bytes: Cow<'a, [u8]>,
    border: usize,
    end: usize,
}

impl Document<'_> {
    fn check_literal(&self, text: &[u8], how: &ForbiddenText) -> Judgement {
        let first = (self.border + 1).saturating_sub(text.len());
        let occurrences = (first..self.end).filter(|&start| self.occurs_at(start, text, how));
        let mut found = None;
        for start in occurrences {
            let end = start + text.len();
            // More text could turn a word that ends the output into part of a longer one.
            if !how.whole_word || end < self.bytes.len() {
                return Judgement::Violated(self.describe(start, end));
            }
            found = Some(Judgement::Fails(self.describe(start, end)));
        }
        found.unwrap_or(Judgement::Holds)
    }

    fn occurs_at(&self, start: usize, text: &[u8], how: &ForbiddenText) -> bool {
        let Some(here) = self.bytes.get(start..start + text.len()) else { return false };
        let same = if how.ignore_case { here.eq_ignore_ascii_case(text) } else { here == text };
        let before = start.checked_sub(1).map(|i| self.bytes[i]);
        let after = self.bytes.get(start + text.len()).copied();
        same && !(how.whole_word && (before.is_some_and(is_word) || after.is_some_and(is_word)))
    }

    fn check_pattern(&self, pattern: &str, how: &ForbiddenText) -> Judgement {
        let exactly = self.search(pattern, Flags::default(), how.whole_word);
        if !how.ignore_case || !matches!(exactly, Judgement::Holds) {
            return exactly;
        }
        let folded = self.search(pattern, Flags { ignore_case: true, ..Flags::default() }, how.whole_word);
        if self.folds_only_ascii(pattern) {
            return folded;
        }
        match folded {
            Judgement::Holds if !pattern.contains("[^") => Judgement::Holds,
            _ => {
                Judgement::Unknown("letters outside ASCII may differ in case, which `ignore_case` does not fold".into())
            }
        }
    }

    /// Whether the engine's Unicode case folding is the same as ASCII's for this pattern and these bytes.
    fn folds_only_ascii(&self, pattern: &str) -> bool {
        let names_characters = [r"\x", r"\u", r"\U", r"\p", r"\P"].iter().any(|escape| pattern.contains(escape));
        let has = |letter: char| {
            let mut utf8 = [0; 4];
            let utf8 = letter.encode_utf8(&mut utf8).as_bytes();
            self.bytes.windows(utf8.len()).any(|window| window == utf8)
        };
        pattern.is_ascii() && !names_characters && !has('\u{17f}') && !has('\u{212a}')
    }

    fn search(&self, pattern: &str, flags: Flags, whole_word: bool) -> Judgement {
        self.find(pattern, flags, whole_word).unwrap_or_else(Judgement::Unknown)
    }

    fn find(&self, pattern: &str, flags: Flags, whole_word: bool) -> Result<Judgement, String> {
        let (open, close) = if whole_word { (r"(?-u:\b{start-half})", r"(?-u:\b{end-half})") } else { ("", "") };
        let regex = regexes::compile(pattern, flags, open, close)?;
        if regex.is_match(b"") {
            return Err("the pattern matches the empty string, which is in every output".into());
        }
        if let Some(found) = first_not_empty(&regex, &self.bytes, self.border).filter(|found| found.0 < self.end) {
            let why = self.describe(found.0, found.1);
            let definite = regexes::survives_more_text(&regex, &self.bytes, self.border);
            return Ok(if definite { Judgement::Violated(why) } else { Judgement::Fails(why) });
        }
        let has_both_sides = self.border > 0 || self.end < self.bytes.len();
        if !has_both_sides || !regex.is_match(&self.bytes) {
            return Ok(Judgement::Holds);
        }
        self.find_across_border(pattern, flags, open, close)
    }

    /// Looks for a match that begins in the prompt, at each end it may have in the output.
    ///
    /// The engine reports one match per start, not the longest; to ask for each end, what follows it is matched too,
    /// as far as an assertion can see.
    fn find_across_border(&self, pattern: &str, flags: Flags, open: &str, close: &str) -> Result<Judgement, String> {
        let len = self.bytes.len();
        if (len - self.border).saturating_mul(len) > MAX_BORDER_BYTES {
            return Err(format!("prompt and output are too long to search across their border ({len} bytes)"));
        }
        let ending_before =
            |num_bytes| regexes::compile(pattern, flags, open, &format!(r"{close}(?s-u:.{{{num_bytes}}})\z"));
        let regexes = (0..=LOOK_AHEAD_BYTES).map(ending_before).collect::<Result<Vec<_>, _>>()?;
        for end in self.border + 1..=len {
            let num_after = LOOK_AHEAD_BYTES.min(len - end);
            let (regex, bytes) = (&regexes[num_after], &self.bytes[..end + num_after]);
            // Where the suffix by itself ends a match, nobody can tell another that ends there too.
            let is_suffixes_own = end > self.end && regex.is_match_at(bytes, self.end);
            if regex.is_match(bytes) && !is_suffixes_own {
                let why = format!("a match begins in the prompt and ends at byte {} of the output", end - self.border);
                return Ok(if end < len { Judgement::Violated(why) } else { Judgement::Fails(why) });
            }
        }
        Ok(Judgement::Holds)
    }

    fn describe(&self, start: usize, end: usize) -> String {
        let end = end - self.border;
        match start.checked_sub(self.border) {
            Some(start) => format!("bytes {start}..{end} of the output"),
            None => format!("from {} bytes before the output to byte {end} of it", self.border - start),
        }
    }
}

/// The first match that begins at or after `start` and is not empty.
fn first_not_empty(regex: &Regex, bytes: &[u8], mut start: usize) -> Option<(usize, usize)> {
    while let Some(found) = regex.find_at(bytes, start) {
        if !found.is_empty() {
            return Some((found.start(), found.end()));
        }
        start = found.end() + 1;
        if start > bytes.len() {
            break;
        }
    }
    None
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn judge(forbidden: &Value, prompt: &str, text: &str) -> &'static str {
        judge_in(forbidden, prompt, text, "")
    }

    fn judge_in(forbidden: &Value, prompt: &str, text: &str, suffix: &str) -> &'static str {
        let forbidden: ForbiddenText = serde_json::from_value(forbidden.clone()).expect("well-formed");
        let (prompt, suffix) = (prompt.as_bytes(), suffix.as_bytes());
        let output = Output { text: text.as_bytes(), prompt, suffix, finished: true, ..Output::default() };
        match check(&output, &forbidden) {
            Judgement::Holds => "absent",
            Judgement::Violated(_) => "present",
            Judgement::Fails(_) => "at the end",
            Judgement::Unknown(_) => "unknown",
            Judgement::Enforced => "enforced",
        }
    }

    #[test]
    fn literals_are_found_wherever_they_end_in_the_output() {
        for (forbidden, prompt, text, expected) in [
            (json!({"text": "eval"}), "", "an eval here", "present"),
            (json!({"text": "eval"}), "", "an Eval here", "absent"),
            (json!({"text": "eval"}), "", "the eval", "present"),
            (json!({"text": "eval"}), "", "eva", "absent"),
            (json!({"text": "EVAL", "ignore_case": true}), "", "an eVal here", "present"),
            (json!({"text": "É", "ignore_case": true}), "", "é", "absent"),
            (json!({"text": "eval", "whole_word": true}), "", "evaluate, medieval_eval", "absent"),
            (json!({"text": "eval", "whole_word": true}), "", "(eval)", "present"),
            (json!({"text": "eval", "whole_word": true}), "", "éevalé", "present"),
            (json!({"text": "eval", "whole_word": true}), "", "an eval", "at the end"),
            (json!({"text": "eval"}), "x = ev", "al(1)", "absent"),
            (json!({"text": "eval", "scope": "document"}), "x = ev", "al(1)", "present"),
            (json!({"text": "eval", "scope": "document"}), "eval", "(1)", "absent"),
            (json!({"text": "eval", "scope": "document"}), "eval ev", "(1)", "absent"),
            (json!({"text": "eval", "scope": "document"}), "medi", "eval ", "present"),
            (json!({"text": "eval", "scope": "document", "whole_word": true}), "medi", "eval ", "absent"),
            (json!({"text": "eval", "scope": "output", "whole_word": true}), "medi", "eval ", "present"),
            (json!({"text": ""}), "", "", "unknown"),
            (json!({}), "", "", "unknown"),
        ] {
            assert_eq!(judge(&forbidden, prompt, text), expected, "{forbidden} in {prompt:?} + {text:?}");
        }
    }

    #[test]
    fn the_seam_behind_a_hole_is_looked_at_and_the_suffix_itself_is_not() {
        let document = |mut how: Value| {
            how["scope"] = json!("document");
            how
        };
        for (how, prompt, text, suffix, expected) in [
            (json!({"text": "eval("}), "x = ", "ev", "al(1)", "present"),
            (json!({"text": "eval("}), "x = ev", "", "al(1)", "present"),
            (json!({"text": "eval("}), "x = ev", "e", "al(1)", "absent"),
            (json!({"text": "eval("}), "x = ", "f", "eval(1)", "absent"),
            (json!({"text": "eval", "whole_word": true}), "", "eval", "uate", "absent"),
            (json!({"text": "eval", "whole_word": true}), "", "eval", "(1)", "present"),
            (json!({"regex": r"ev\w+\("}), "x = ", "ev", "al(1)", "present"),
            (json!({"regex": r"ev\w+\("}), "x = ev", "", "al(1)", "present"),
            (json!({"regex": r"ev\w+\("}), "x = ", "f", " eval(1)", "absent"),
            (json!({"regex": r"eval\b"}), "x = ", "eval", "uate", "absent"),
            (json!({"regex": r"eval\b"}), "x = ", "eval", "", "at the end"),
        ] {
            let how = document(how);
            assert_eq!(judge_in(&how, prompt, text, suffix), expected, "{how} in {prompt:?} + {text:?} + {suffix:?}");
        }
        assert_eq!(judge_in(&json!({"text": "eval("}), "", "ev", "al(1)"), "absent", "the output's own scope");
    }

    #[test]
    fn patterns_are_found_wherever_they_end_in_the_output() {
        for (forbidden, prompt, text, expected) in [
            (json!({"regex": r"ev\w+"}), "", "an eval here", "present"),
            (json!({"regex": r"ev\w+"}), "", "ev", "absent"),
            (json!({"regex": "EVAL"}), "", "eval", "absent"),
            (json!({"regex": "EVAL", "ignore_case": true}), "", "eVal", "present"),
            (json!({"regex": "É", "ignore_case": true}), "", "é", "unknown"),
            (json!({"regex": "É", "ignore_case": true}), "", "É", "present"),
            (json!({"regex": "É", "ignore_case": true}), "", "e", "absent"),
            (json!({"regex": "k", "ignore_case": true}), "", "\u{212a}", "unknown"),
            (json!({"regex": "a|ab", "whole_word": true}), "", "x ab y", "present"),
            (json!({"regex": "a|ab", "whole_word": true}), "", "x abc y", "absent"),
            (json!({"regex": "a|ab", "whole_word": true}), "", "ab", "at the end"),
            (json!({"regex": "ab$"}), "", "ab", "at the end"),
            (json!({"regex": "eval|ev"}), "x = ev", "al(1)", "absent"),
            (json!({"regex": "eval|ev", "scope": "document"}), "x = ev", "al(1)", "present"),
            (json!({"regex": "ev|eval", "scope": "document"}), "x = ev", "al(1)", "present"),
            (json!({"regex": "eval", "scope": "document"}), "eval", "(1)", "absent"),
            (json!({"regex": r"eval\b", "scope": "document"}), "ev", "aluate", "absent"),
            (json!({"regex": r"eval\b", "scope": "document"}), "ev", "al ", "present"),
            (json!({"regex": r"eval\b", "scope": "document"}), "ev", "alé", "absent"),
            (json!({"regex": r"\beval", "scope": "document"}), "medi", "eval", "absent"),
            (json!({"regex": "a*"}), "", "b", "unknown"),
            (json!({"regex": "("}), "", "b", "unknown"),
        ] {
            assert_eq!(judge(&forbidden, prompt, text), expected, "{forbidden} in {prompt:?} + {text:?}");
        }
    }

    #[test]
    fn a_border_search_that_would_take_too_long_is_not_done() {
        let forbidden = json!({"regex": "ev(al)?", "scope": "document"});
        assert_eq!(judge(&forbidden, "ev", &"x".repeat(20_000)), "unknown");
    }
}
