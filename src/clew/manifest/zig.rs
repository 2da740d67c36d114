//! `build.zig.zon`.

use super::{Fault, Found};

/// The keys of `.dependencies`. The name that `build.zig` gives a dependency's module is usually the same; a different
/// one is not seen here.
pub(super) fn read(text: &str) -> Result<Found, Fault> {
    let mut found = Found::default();
    let (mut open, mut table) = (Vec::new(), String::new());
    let mut tokens = Tokens { text, at: 0 };
    while let Some((offset, token)) = tokens.next()? {
        match token {
            Token::Open => open.push(offset),
            Token::Close if open.pop().is_none() => return Err(Fault::new(offset, "`}` closes nothing")),
            Token::Name(name) if tokens.is_assigned()? => match open.len() {
                1 => table = name,
                2 if table == "dependencies" => found.dependencies.push((name, offset)),
                _ => {}
            },
            Token::Name(value) | Token::Text(value) if open.len() == 1 && table == "name" => {
                found.package.get_or_insert(value);
            }
            _ => {}
        }
    }
    match open.pop() {
        Some(offset) => Err(Fault::new(offset, "`{` is not closed")),
        None => Ok(found),
    }
}

enum Token {
    Open,
    Close,
    /// `.name` or `.@"name"`
    Name(String),
    Text(String),
    Assign,
    Other,
}

/// As much of Zig's tokens as tells keys from what stands in strings and comments.
#[derive(Clone, Copy)]
struct Tokens<'a> {
    text: &'a str,
    at: usize,
}

impl Tokens<'_> {
    fn next(&mut self) -> Result<Option<(usize, Token)>, Fault> {
        loop {
            let rest = &self.text[self.at..];
            let trimmed = rest.trim_start();
            self.at += rest.len() - trimmed.len();
            if !trimmed.starts_with("//") && !trimmed.starts_with("\\\\") {
                break;
            }
            self.at += trimmed.find('\n').unwrap_or(trimmed.len());
        }
        let (start, rest) = (self.at, &self.text[self.at..]);
        let Some(first) = rest.chars().next() else { return Ok(None) };
        self.at += first.len_utf8();
        let token = match first {
            '{' => Token::Open,
            '}' => Token::Close,
            '=' => Token::Assign,
            '"' => Token::Text(self.quoted(start)?),
            '.' if rest[1..].starts_with("@\"") => {
                self.at += 2;
                Token::Name(self.quoted(start)?)
            }
            '.' if rest[1..].starts_with(|c: char| c.is_alphabetic() || c == '_') => Token::Name(self.word()),
            _ => Token::Other,
        };
        Ok(Some((start, token)))
    }

    fn is_assigned(mut self) -> Result<bool, Fault> {
        Ok(matches!(self.next()?, Some((_, Token::Assign))))
    }

    fn word(&mut self) -> String {
        let rest = &self.text[self.at..];
        let word = &rest[..rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())];
        self.at += word.len();
        word.to_owned()
    }

    /// What stands up to the closing quote, which has to be on the same line.
    fn quoted(&mut self, start: usize) -> Result<String, Fault> {
        let rest = &self.text[self.at..];
        let mut escaped = false;
        for (at, c) in rest.char_indices().take_while(|(_, c)| *c != '\n') {
            if c == '"' && !escaped {
                self.at += at + 1;
                return Ok(rest[..at].to_owned());
            }
            escaped = c == '\\' && !escaped;
        }
        Err(Fault::new(start, "a string without its closing quote"))
    }
}
