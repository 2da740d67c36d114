//! What tests and documentation say about a function or field, as sentences.
//!
//! The sentences are machine-made from a few forms that can be read without understanding prose: expected values,
//! raised errors, ranges. They are advisory; nobody checks that a comment is true.

use std::sync::OnceLock;

use regex::Regex;
use serde::{Deserialize, Serialize};

use super::facts::Place;

/// Longest documentation of one declaration that is read, in bytes.
const DOC_BYTES_MAX: usize = 16 * 1024;
/// Sentences taken from one documentation.
const SENTENCES_MAX: usize = 16;
/// Longest piece of code or prose that is quoted, in bytes.
const QUOTE_BYTES_MAX: usize = 160;

/// A sentence about something declared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Finding {
    /// Whether a test says it; otherwise documentation does.
    pub(super) is_tested: bool,
    /// What it is about.
    pub(super) about: String,
    /// The sentence.
    pub(super) text: String,
    /// Where.
    pub(super) place: Place,
}

/// A bound that prose states: the words, and the sentence made of them. `{0}` is the subject, `{1}`... the groups.
const RANGES: [(&str, &str); 7] = [
    (r"(?i)\bbetween (NUM) and (NUM)", "{0} lies between {1} and {2}"),
    (r"(?i)\bfrom (NUM) to (NUM)", "{0} lies between {1} and {2}"),
    (
        r"(?i)\b(?:in|range|interval|within):?(?: the)?(?: range)? [\[(](NUM), ?(NUM)[\])]",
        "{0} lies between {1} and {2}",
    ),
    (r"(?i)\b(?:at least|no less than|minimum(?: of| is)?:?|>=) ?(NUM)", "{0} is at least {1}"),
    (r"(?i)\b(?:at most|no more than|maximum(?: of| is)?:?|up to|<=) ?(NUM)", "{0} is at most {1}"),
    (
        r"(?i)\b(?:must be|should be|is always|has to be) (positive|negative|non-?negative|non-?zero|non-?empty|unique|sorted|finite)\b",
        "{0} is {1}",
    ),
    (r"(?i)\b(?:must not|may not|cannot|can't|never) be (negative|zero|empty|null|None|nil|NaN)\b", "{0} is never {1}"),
];

/// What fails, and how it is said: a tag, a heading's entry, or a sentence.
const FAILURES: [(&str, &str); 5] = [
    (r"(?m)^\s*@(?:throws|exception) \{?([\w.]+)\}?", "{0} throws {1}"),
    (r"(?m)^\s*:raises? ([\w.]+)\s*:", "{0} raises {1}"),
    (r"(?i)\b(?:throws|raises) (?:an? )?`?([A-Z]\w*(?:Error|Exception))`?", "{0} raises {1}"),
    (
        r"(?i)\b(?:returns|gives|yields) (?:an?|the) (?:non-nil )?\[?`?(\w*(?:Error|Err)\w*(?:::\w+)?)`?\]? (?:if|when|on|for|unless)\b",
        "{0} returns {1} on failure",
    ),
    (r"(?i)\b(panics) (?:if|when|on|unless)\b", "{0} panics in the cases its documentation names"),
];

/// Headings whose entries name errors: Google's and NumPy's `Raises`, Rust's `# Errors` and `# Panics`.
const HEADINGS: [(&str, &str); 3] = [
    (r"(?ms)^\s*Raises:?\s*\n(?:\s*-+\s*\n)?(.*?)(?:\n\s*\n|\z)", r"(?m)^\s*`?([A-Z]\w*(?:\.\w+)*)`?\s*(?::|$)"),
    (r"(?ms)^\s*# Errors\s*\n(.*?)(?:^\s*# |\z)", r"[\[`]([A-Z]\w*(?:::\w+)*)[\]`]"),
    (r"(?ms)^\s*# Panics\s*\n(.*?)(?:^\s*# |\z)", r"(?i)\b(panics)\b"),
];

struct Compiled {
    ranges: Vec<(Regex, &'static str)>,
    failures: Vec<(Regex, &'static str)>,
    headings: Vec<(Regex, Regex)>,
    parameter: Regex,
}

fn compiled() -> &'static Compiled {
    static COMPILED: OnceLock<Compiled> = OnceLock::new();
    COMPILED.get_or_init(|| {
        let number = r"[`'(]?-?\d[\d_,]*(?:\.\d+)?%?[`')]?";
        let regex = |pattern: &str| Regex::new(&pattern.replace("NUM", number)).expect("the patterns are constants");
        Compiled {
            ranges: RANGES.map(|(pattern, text)| (regex(pattern), text)).into(),
            failures: FAILURES.map(|(pattern, text)| (regex(pattern), text)).into(),
            headings: HEADINGS.map(|(heading, entry)| (regex(heading), regex(entry))).into(),
            parameter: regex(
                r"^\s*(?:@param (?:\{[^}]*\} )?\[?(\w+)|:param (?:\w+ )?(\w+):|[-*] `(\w+)`|(\w+)(?: ?\([^)]*\))?: \S)",
            ),
        }
    })
}

/// The sentences that documentation gives.
pub(super) fn documented(about: &str, doc: &str, place: Place) -> Vec<Finding> {
    let doc = &doc[..doc.floor_char_boundary(DOC_BYTES_MAX)];
    let compiled = compiled();
    let mut texts: Vec<String> = Vec::new();
    for line in doc.lines() {
        let parameter = compiled.parameter.captures(line).and_then(|found| found.iter().skip(1).flatten().next());
        let subject = match parameter.map(|name| name.as_str()) {
            Some("returns" | "return" | "Returns" | "Return") => format!("the result of `{about}`"),
            Some(name) => format!("`{name}` of `{about}`"),
            None => format!("`{about}`"),
        };
        for (pattern, sentence) in &compiled.ranges {
            texts.extend(pattern.captures(line).map(|found| filled(sentence, &subject, &found)));
        }
    }
    for (pattern, sentence) in &compiled.failures {
        texts.extend(pattern.captures_iter(doc).map(|found| filled(sentence, &format!("`{about}`"), &found)));
    }
    for (heading, entry) in &compiled.headings {
        let Some(body) = heading.captures(doc).and_then(|found| found.get(1)) else { continue };
        for name in entry.captures_iter(body.as_str()).filter_map(|found| found.get(1)) {
            let panics = name.as_str().eq_ignore_ascii_case("panics");
            texts.push(match panics {
                true => format!("`{about}` panics in the cases its documentation names"),
                false => format!("`{about}` fails with {}", name.as_str()),
            });
        }
    }
    let mut seen = std::collections::HashSet::new();
    texts.retain(|text| seen.insert(text.clone()));
    texts.truncate(SENTENCES_MAX);
    let finding = |text| Finding { is_tested: false, about: about.to_owned(), text, place };
    texts.into_iter().map(finding).collect()
}

fn filled(sentence: &str, subject: &str, found: &regex::Captures<'_>) -> String {
    let mut text = sentence.replace("{0}", subject);
    for (number, group) in found.iter().enumerate().skip(1) {
        let group = group.map_or("", |group| group.as_str()).trim_matches(['`', '\'', '(', ')']);
        text = text.replace(&format!("{{{number}}}"), group.trim_end_matches(','));
    }
    text
}

/// What a test expects of a call: a value, or an error when `value` names one that is raised.
pub(super) fn expected(call: &str, about: &str, value: &str, is_raised: bool, place: Place) -> Finding {
    let verb = if is_raised { "raises" } else { "gives" };
    let text = match (call.len() + value.len() <= QUOTE_BYTES_MAX, value.is_empty()) {
        (true, false) => format!("a test expects that `{}` {verb} `{}`", one_line(call), one_line(value)),
        (true, true) => format!("a test expects that `{}` {verb} an error", one_line(call)),
        (false, _) => format!("a test covers `{about}` with values too long to quote"),
    };
    Finding { is_tested: true, about: about.to_owned(), text, place }
}

/// Text without its line breaks and what indents them.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The comment that ends on the line above `row`, without its marks; attributes and decorators may stand between.
pub(super) fn comment_above(lines: &[&str], row: usize) -> String {
    let mut above: Vec<&str> = Vec::new();
    for line in lines[..row.min(lines.len())].iter().rev() {
        let line = line.trim();
        let is_comment = ["//", "/*", "*"].iter().any(|mark| line.starts_with(mark)) || line.ends_with("*/");
        if is_comment {
            above.push(line);
        } else if !line.starts_with(['@', '#']) {
            break;
        }
    }
    let bare = |line: &&str| {
        let line = line.trim_end_matches("*/").trim_start_matches(['/', '!', '*']);
        line.strip_prefix(' ').unwrap_or(line).trim_end().to_owned()
    };
    above.iter().rev().map(bare).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(doc: &str) -> Vec<String> {
        let place = Place { line: 1, column: 1 };
        documented("f", doc, place).into_iter().map(|finding| finding.text).collect()
    }

    #[test]
    fn ranges_and_failures_are_read_from_the_usual_forms() {
        for (doc, expected) in [
            ("@param share how much, between 0 and 100", "`share` of `f` lies between 0 and 100"),
            ("Args:\n    rate (float): in [0.0, 1.0]", "`rate` of `f` lies between 0.0 and 1.0"),
            ("The count must be positive.", "`f` is positive"),
            (":param size: at least 1", "`size` of `f` is at least 1"),
            ("@throws {RangeError} when it is not", "`f` throws RangeError"),
            ("Raises:\n    ValueError: if so\n    KeyError: else\n", "`f` fails with KeyError"),
            ("Raises\n------\nOSError\n    when closed", "`f` fails with OSError"),
            (":raises TypeError: if not a number", "`f` raises TypeError"),
            ("# Errors\n[`Error::Closed`] once closed.", "`f` fails with Error::Closed"),
            ("# Panics\nPanics if empty.", "`f` panics in the cases its documentation names"),
            ("It returns an ErrClosed if closed.", "`f` returns ErrClosed on failure"),
        ] {
            let texts = texts(doc);
            assert!(texts.iter().any(|text| text == expected), "{doc}: {texts:?}");
        }
    }

    #[test]
    fn other_prose_says_nothing() {
        for doc in
            ["Moves between two places.", "From here to there.", "Returns the sum of a and b.", "Raises the bar."]
        {
            assert!(texts(doc).is_empty(), "{doc}: {:?}", texts(doc));
        }
    }

    #[test]
    fn a_comment_is_found_above_attributes() {
        let lines = ["fn x() {}", "", "/// At least 1.", "#[inline]", "fn f() {}"];
        assert_eq!(comment_above(&lines, 4), "At least 1.");
        assert_eq!(comment_above(&["/**", " * One.", " * @x", " */", "f"], 4), "\nOne.\n@x\n");
    }
}
