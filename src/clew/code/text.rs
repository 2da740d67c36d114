//! Text literals, and what begins with one.

use tree_sitter::Node;

use crate::clew::literal::{StrayBackslash, unescape};

/// How a literal is quoted: what stands before, between and after the quotes.
struct Quoted<'s> {
    prefix: &'s str,
    quote: char,
    inside: &'s str,
}

fn quoted(raw: &str) -> Option<Quoted<'_>> {
    let start = raw.find(['"', '\'', '`'])?;
    let (prefix, rest) = raw.split_at(start);
    let quote = rest.chars().next()?;
    let rest = rest.trim_end_matches('#');
    let is_triple = rest.len() >= 6 && quote != '`' && rest.bytes().take(3).all(|byte| byte == rest.as_bytes()[0]);
    let quotes = if is_triple { 3 } else { 1 };
    // A literal that is not closed is broken code, and still a literal.
    let inside = rest.get(quotes..rest.len() - quotes.min(rest.len())).unwrap_or_default();
    Some(Quoted { prefix, quote, inside })
}

/// The text that a literal stands for; what is computed in it stays as it is written.
pub(super) fn value(raw: &str) -> String {
    if raw.starts_with("\\\\") {
        // Zig's lines of text.
        let lines: Vec<&str> = raw.lines().map(|line| line.trim_start().trim_start_matches("\\\\")).collect();
        return lines.join("\n");
    }
    let Some(quoted) = quoted(raw) else { return raw.to_owned() };
    if quoted.prefix.contains(['r', 'R']) {
        return quoted.inside.to_owned();
    }
    unescape(quoted.inside, StrayBackslash::Kept).unwrap_or_else(|| quoted.inside.to_owned())
}

/// The quote of a plain literal of one line, where the author could have used the other one.
pub(super) fn free_quote(raw: &str) -> Option<char> {
    let quoted = quoted(raw).filter(|quoted| quoted.quote != '`')?;
    let is_triple = raw.len() - quoted.prefix.len() - quoted.inside.len() >= 6;
    (!is_triple && !quoted.inside.contains(['"', '\''])).then_some(quoted.quote)
}

/// Whether the value of an expression begins with a text literal: `"a"`, `("a" + b)`, `"a".repeat(2)`.
pub(super) fn begins_with_text(node: Node<'_>, text_kinds: &[&str]) -> bool {
    let mut node = node;
    loop {
        if text_kinds.contains(&node.kind()) {
            return true;
        }
        let is_open = node.kind() == "parenthesized_expression";
        match node.named_child(0) {
            Some(first) if is_open || first.start_byte() == node.start_byte() => node = first,
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_of_every_language_are_read() {
        for (raw, text) in [
            (r#""a\nb""#, "a\nb"),
            ("'a'", "a"),
            ("`a${b}`", "a${b}"),
            (r#"r"\d""#, r"\d"),
            (r##"r#"a"b"#"##, "a\"b"),
            ("'''a'b'''", "a'b"),
            ("f\"{a}\"", "{a}"),
            ("\\\\one\n    \\\\two", "one\ntwo"),
            ("\"", ""),
            ("", ""),
        ] {
            assert_eq!(value(raw), text, "{raw}");
        }
        assert_eq!(free_quote("'a'"), Some('\''));
        assert_eq!(free_quote("\"it's\""), None);
        assert_eq!(free_quote("\"\"\"a\"\"\""), None);
    }
}
