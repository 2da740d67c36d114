//! Patterns: ECMA-262 expressions, as JSON Schema writes them, in the syntax of the `regex` crate.
//!
//! `\d` and `\w` are ASCII, `\s` and `.` are ECMA's, brackets and braces that are literal there are escaped here.
//! Look-around and back-references are left as they are, and refused by the parser that reads the result.

const SPACE: &str = r"\t-\r \x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}\x{feff}";
const NEWLINES: &str = r"\n\r\x{2028}\x{2029}";

/// Rewrites an ECMA pattern. What it does not understand is left for the parser to refuse.
pub(super) fn from_ecma(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut rest = pattern.chars().peekable();
    let mut in_class = false;
    // Whether a class's last member can begin a range.
    let mut is_single = false;
    while let Some(next) = rest.next() {
        if in_class && next == '-' {
            let is_range = std::mem::take(&mut is_single) && rest.peek().is_some_and(|&next| next != ']');
            out.push_str(if is_range { "-" } else { r"\-" });
            if is_range && rest.next_if_eq(&'-').is_some() {
                out.push_str(r"\-");
            }
            continue;
        }
        is_single = in_class && !matches!((next, rest.peek()), ('\\', Some('d' | 'D' | 'w' | 'W' | 's' | 'S')));
        match next {
            '\\' => escape(&mut out, &mut rest, in_class),
            '[' if in_class => out.push_str(r"\["),
            '[' => {
                in_class = open_class(&mut out, &mut rest);
            }
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            '&' | '~' if in_class => out.extend(['\\', next]),
            '.' if !in_class => out.push_str(&format!("[^{NEWLINES}]")),
            '{' if !in_class && !is_count(rest.clone()) => out.push_str(r"\{"),
            _ => out.push(next),
        }
    }
    out
}

/// Writes the head of a class; `[^]` is any character at once. Returns whether a class is open.
fn open_class(out: &mut String, rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> bool {
    let negated = rest.next_if_eq(&'^').is_some();
    match (negated, rest.peek()) {
        (true, Some(']')) => {
            rest.next();
            out.push_str(r"[\s\S]");
            false
        }
        (false, Some(']')) => {
            rest.next();
            out.push_str(r"[^\s\S]");
            false
        }
        _ => {
            out.push_str(if negated { "[^" } else { "[" });
            true
        }
    }
}

fn is_count(mut rest: std::iter::Peekable<std::str::Chars<'_>>) -> bool {
    let mut num_digits = 0;
    while rest.next_if(char::is_ascii_digit).is_some() {
        num_digits += 1;
    }
    if rest.next_if_eq(&',').is_some() {
        while rest.next_if(char::is_ascii_digit).is_some() {}
    }
    num_digits > 0 && rest.next() == Some('}')
}

fn escape(out: &mut String, rest: &mut std::iter::Peekable<std::str::Chars<'_>>, in_class: bool) {
    let Some(escaped) = rest.next() else {
        out.push('\\');
        return;
    };
    match escaped {
        'd' => out.push_str("[0-9]"),
        'D' => out.push_str("[^0-9]"),
        'w' => out.push_str("[0-9A-Za-z_]"),
        'W' => out.push_str("[^0-9A-Za-z_]"),
        's' => out.push_str(&format!("[{SPACE}]")),
        'S' => out.push_str(&format!("[^{SPACE}]")),
        '/' => out.push('/'),
        'b' if in_class => out.push_str(r"\x08"),
        '0' if !rest.peek().is_some_and(char::is_ascii_digit) => out.push_str(r"\x00"),
        'c' if rest.peek().is_some_and(char::is_ascii_alphabetic) => {
            let letter = rest.next().unwrap_or('@');
            out.push_str(&format!("\\x{:02x}", letter as u32 % 32));
        }
        'p' | 'P' | 'u' | 'x' | 'k' if rest.peek() == Some(&'{') => {
            out.extend(['\\', escaped]);
            let end = rest.clone().position(|next| next == '}').map_or(usize::MAX, |end| end + 1);
            out.extend(rest.by_ref().take(end));
        }
        // Anchors, bells and hexadecimal digits of other dialects: `\A`, `\z`, `\a`, `\h`, `\U`.
        'A' | 'z' | 'Z' | 'a' | 'h' | 'U' | '<' | '>' => out.push_str(&format!(r"\p{{no such escape: {escaped}}}")),
        _ => out.extend(['\\', escaped]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        regex::Regex::new(&from_ecma(pattern)).unwrap_or_else(|error| panic!("{pattern}: {error}")).is_match(text)
    }

    #[test]
    fn ecma_means_what_ecma_says() {
        for (pattern, text, expected) in [
            (r"^\d$", "٣", false),
            (r"^\w$", "é", false),
            (r"^\W$", "é", true),
            (r"^\s$", "\u{feff}", true),
            (r"^\s$", "\u{85}", false),
            (r"^\S$", "\u{feff}", false),
            (r"^[\s\S]$", "\n", true),
            (r"^[\d-]+$", "1-2", true),
            (r"^.$", "\r", false),
            (r"^.$", "\u{2028}", false),
            (r"^.$", "é", true),
            (r"^[.]$", "a", false),
            (r"^[^]$", "\n", true),
            (r"[]", "a", false),
            (r"^[[]$", "[", true),
            (r"^[a&&b]$", "&", true),
            (r"^a{,2}$", "a{,2}", true),
            (r"^a{2,}$", "aaa", true),
            (r"^\cC$", "\u{3}", true),
            (r"^[\b]$", "\u{8}", true),
            (r"^\/$", "/", true),
            (r"^\0$", "\0", true),
            (r"^a-b$", "a-b", true),
            (r"^[+--]$", ",", true),
            (r"^\p{Letter}+$", "é", true),
            (r"^\u0041\u{42}$", "AB", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text:?}");
        }
        for pattern in [r"\Aa", r"a\Z", r"\a", "(?=a)", r"(a)\1"] {
            assert!(regex::Regex::new(&from_ecma(pattern)).is_err(), "{pattern}");
        }
    }
}
