//! ISO 14977: `rule name = "text", { other } | [ option ], 3 * digit ;`.

use super::super::GuideError;
use super::reader::Reader;
use super::{Expr, Grammar, Rule};

/// Reads a whole grammar.
pub(super) fn read(mut reader: Reader<'_>) -> Result<Grammar, GuideError> {
    let mut grammar = Grammar::default();
    loop {
        skip_space(&mut reader)?;
        if reader.peek().is_none() {
            return Ok(grammar);
        }
        let offset = reader.at;
        let name = name(&mut reader)?;
        reader.expect("=", "`=`")?;
        let body = choice(&mut reader)?;
        if !reader.eat(";") {
            reader.expect(".", "`,` or `|` or the `;` that ends the rule")?;
        }
        GuideError::check_size(reader.part, "number of rules", grammar.rules.len() + 1, reader.config.max_rules)?;
        grammar.rules.push(Rule { name, offset, body });
    }
}

fn skip_space(reader: &mut Reader<'_>) -> Result<(), GuideError> {
    reader.skip_space_and_comments("(*", "*)")
}

/// A name may consist of several words; `,` is what separates things.
fn name(reader: &mut Reader<'_>) -> Result<String, GuideError> {
    let mut words = Vec::new();
    while reader.peek().is_some_and(|c| c.is_alphabetic() || c == '_' || (c.is_alphanumeric() && !words.is_empty())) {
        words.push(reader.take_while(|c| c.is_alphanumeric() || c == '_'));
        skip_space(reader)?;
    }
    if words.is_empty() {
        return Err(reader.unexpected("the name of a rule expected"));
    }
    Ok(words.join(" "))
}

fn choice(reader: &mut Reader<'_>) -> Result<Expr, GuideError> {
    let mut options = vec![sequence(reader)?];
    while is_bar(reader) {
        reader.bump();
        options.push(sequence(reader)?);
    }
    Ok(Expr::Choice(options))
}

/// `|`, or one of its two other spellings.
fn is_bar(reader: &Reader<'_>) -> bool {
    matches!(reader.peek(), Some('|' | '/' | '!'))
}

fn sequence(reader: &mut Reader<'_>) -> Result<Expr, GuideError> {
    let mut items = Vec::new();
    loop {
        items.push(term(reader)?);
        if !reader.eat(",") {
            return Ok(Expr::Sequence(items));
        }
    }
}

fn term(reader: &mut Reader<'_>) -> Result<Expr, GuideError> {
    let left = factor(reader)?;
    let offset = reader.at;
    if !reader.eat("-") {
        return Ok(left);
    }
    skip_space(reader)?;
    if ends_term(reader) {
        return match left {
            Expr::Repeat(inner, 0, None) => Ok(Expr::NonEmpty(inner, offset)),
            _ => Err(reader.error(offset, "an exception is expected after `-`")),
        };
    }
    let right = factor(reader)?;
    Ok(Expr::Except(Box::new(left), Box::new(right), offset))
}

fn ends_term(reader: &Reader<'_>) -> bool {
    is_bar(reader) || matches!(reader.peek(), None | Some(',' | ';' | '.' | ')' | ']' | '}'))
}

fn factor(reader: &mut Reader<'_>) -> Result<Expr, GuideError> {
    skip_space(reader)?;
    let item = if reader.peek().is_some_and(|c| c.is_ascii_digit()) {
        let count = reader.number()?;
        skip_space(reader)?;
        reader.expect("*", "`*` after a count")?;
        skip_space(reader)?;
        Expr::Repeat(Box::new(primary(reader)?), count, Some(count))
    } else {
        primary(reader)?
    };
    skip_space(reader)?;
    Ok(item)
}

fn primary(reader: &mut Reader<'_>) -> Result<Expr, GuideError> {
    if ends_term(reader) {
        return Ok(Expr::Sequence(Vec::new()));
    }
    match reader.peek() {
        Some('"' | '\'') => reader.plain_string(),
        Some('(') => bracketed(reader, ")"),
        Some('[') => Ok(Expr::Repeat(Box::new(bracketed(reader, "]")?), 0, Some(1))),
        Some('{') => Ok(Expr::Repeat(Box::new(bracketed(reader, "}")?), 0, None)),
        Some('?') => Err(reader.error(reader.at, "a special sequence has no meaning here; write rules instead")),
        Some('-') => Err(reader.unexpected("something to except from expected")),
        _ => {
            let offset = reader.at;
            Ok(Expr::Rule(name(reader)?, offset))
        }
    }
}

fn bracketed(reader: &mut Reader<'_>, close: &str) -> Result<Expr, GuideError> {
    reader.bump();
    let inner = reader.nested(choice)?;
    reader.expect(close, &format!("`{close}`"))?;
    Ok(inner)
}
