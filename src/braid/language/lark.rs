//! Pieces of Lark.

use std::collections::BTreeSet;

/// A literal string.
pub(super) fn literal(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A regex between slashes.
pub(super) fn regex(pattern: &str) -> String {
    format!("/{}/", slashes_escaped(pattern))
}

/// A pattern as it may stand within a regex between slashes.
pub(super) fn slashes_escaped(pattern: &str) -> String {
    let mut escaped = String::with_capacity(pattern.len());
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                escaped.push(c);
                escaped.extend(chars.next());
            }
            '/' => escaped.push_str("\\/"),
            '\n' => escaped.push_str("\\n"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// One of these literals.
pub(super) fn any_of<'a>(texts: impl IntoIterator<Item = &'a String>) -> String {
    texts.into_iter().map(|text| literal(text)).collect::<Vec<_>>().join(" | ")
}

/// A terminal without some of its texts.
pub(super) fn without(terminal: &str, texts: &BTreeSet<String>) -> String {
    if texts.is_empty() { terminal.to_owned() } else { format!("{terminal} & ~({})", any_of(texts)) }
}
