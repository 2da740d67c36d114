//! Literals of source code to JSON values.

use serde_json::{Number, Value};

/// A number as TypeScript and Python write it (`1_000`, `0xff`, `1e3`, `.5`); `None` if JSON cannot hold it exactly.
pub(super) fn number(text: &str) -> Option<Value> {
    let plain = text.replace('_', "").to_ascii_lowercase();
    let (negative, digits) = match plain.strip_prefix('-') {
        Some(digits) => (true, digits.trim_start()),
        None => (false, plain.strip_prefix('+').unwrap_or(&plain)),
    };
    let whole = match digits.get(..2) {
        Some("0x") => i64::from_str_radix(&digits[2..], 16).ok(),
        Some("0o") => i64::from_str_radix(&digits[2..], 8).ok(),
        Some("0b") => i64::from_str_radix(&digits[2..], 2).ok(),
        _ => digits.parse().ok(),
    };
    if let Some(whole) = whole {
        return Some(Value::from(if negative { -whole } else { whole }));
    }
    if !digits.bytes().any(|byte| matches!(byte, b'.' | b'e')) || digits.starts_with("0x") {
        return None;
    }
    let value = digits.parse::<f64>().ok().filter(|value| value.is_finite())?;
    let value = if negative { -value } else { value };
    if value.fract() == 0.0 && value.abs() < 9e15 {
        #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
        return Some(Value::from(value as i64));
    }
    Number::from_f64(value).map(Value::Number)
}

/// What to do with a backslash before a character that has no meaning after it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum StrayBackslash {
    /// Python keeps it.
    Kept,
    /// TypeScript drops it.
    Dropped,
}

/// The text that the inside of a quoted literal stands for; `None` for escapes that name no character.
pub(super) fn unescape(raw: &str, stray: StrayBackslash) -> Option<String> {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw.chars();
    while let Some(character) = rest.next() {
        if character != '\\' {
            text.push(character);
            continue;
        }
        let escaped = rest.next()?;
        match escaped {
            'n' => text.push('\n'),
            't' => text.push('\t'),
            'r' => text.push('\r'),
            'b' => text.push('\u{8}'),
            'f' => text.push('\u{c}'),
            'v' => text.push('\u{b}'),
            '0' => text.push('\0'),
            '\\' | '\'' | '"' | '`' => text.push(escaped),
            '\n' => {}
            'x' => text.push(hex(&mut rest, 2)?),
            'u' if rest.as_str().starts_with('{') => {
                let (digits, tail) = rest.as_str()[1..].split_once('}')?;
                text.push(char::from_u32(u32::from_str_radix(digits, 16).ok()?)?);
                rest = tail.chars();
            }
            'u' => text.push(hex(&mut rest, 4)?),
            'U' if stray == StrayBackslash::Kept => text.push(hex(&mut rest, 8)?),
            'N' if stray == StrayBackslash::Kept => return None,
            other => {
                if stray == StrayBackslash::Kept {
                    text.push('\\');
                }
                text.push(other);
            }
        }
    }
    Some(text)
}

fn hex(rest: &mut std::str::Chars<'_>, num_digits: usize) -> Option<char> {
    let digits = rest.as_str().get(..num_digits)?;
    let character = char::from_u32(u32::from_str_radix(digits, 16).ok()?)?;
    *rest = rest.as_str()[num_digits..].chars();
    Some(character)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_read_exactly_or_not_at_all() {
        for (text, value) in [
            ("1_000", Some(json!(1000))),
            ("-7", Some(json!(-7))),
            ("0xff", Some(json!(255))),
            ("1e3", Some(json!(1000))),
            (".5", Some(json!(0.5))),
            ("99999999999999999999", None),
            ("1n", None),
            ("1e999", None),
            ("", None),
        ] {
            assert_eq!(number(text), value, "{text}");
        }
    }

    #[test]
    fn escapes_become_characters() {
        let js = |raw| unescape(raw, StrayBackslash::Dropped);
        assert_eq!(js(r"a\n\u00e9\u{1F600}\x41\q").as_deref(), Some("a\né😀Aq"));
        assert_eq!(js(r"\ud800"), None);
        assert_eq!(unescape(r"\d", StrayBackslash::Kept).as_deref(), Some(r"\d"));
    }
}
