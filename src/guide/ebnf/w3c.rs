//! The notation of W3C's recommendations: `Name ::= 'text' [a-z] #x20 (A | B)* - C`.

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
        skip_number(&mut reader)?;
        let offset = reader.at;
        let name = name(&mut reader)?.to_owned();
        skip_space(&mut reader)?;
        reader.expect("::=", "`::=`")?;
        let body = choice(&mut reader)?;
        GuideError::check_size(reader.part, "number of rules", grammar.rules.len() + 1, reader.config.max_rules)?;
        grammar.rules.push(Rule { name, offset, body });
    }
}

fn skip_space(reader: &mut Reader<'_>) -> Result<(), GuideError> {
    reader.skip_space_and_comments("/*", "*/")
}

/// The `[12]` that the recommendations print before a rule.
fn skip_number(reader: &mut Reader<'_>) -> Result<(), GuideError> {
    if starts_rule(reader, true) {
        reader.take_while(|c| c != ']');
        reader.eat("]");
        skip_space(reader)?;
    }
    Ok(())
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':')
}

fn name<'a>(reader: &mut Reader<'a>) -> Result<&'a str, GuideError> {
    let rest = reader.rest();
    let len = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
    // `::=` may follow without a space; it is no part of the name.
    let name = rest[..len].split("::").next().unwrap_or_default();
    if name.is_empty() || !name.starts_with(|c: char| c.is_alphabetic() || c == '_') {
        return Err(reader.unexpected("the name of a rule expected"));
    }
    reader.at += name.len();
    Ok(name)
}

/// Whether a rule begins here, numbered or not.
fn starts_rule(reader: &Reader<'_>, numbered: bool) -> bool {
    let mut probe = reader.clone();
    if numbered {
        if !probe.eat("[") || probe.take_while(|c| c.is_ascii_alphanumeric()).is_empty() || !probe.eat("]") {
            return false;
        }
        if skip_space(&mut probe).is_err() {
            return false;
        }
    }
    name(&mut probe).is_ok() && skip_space(&mut probe).is_ok() && probe.rest().starts_with("::=")
}

fn choice(reader: &mut Reader<'_>) -> Result<Expr, GuideError> {
    let mut options = vec![sequence(reader)?];
    while reader.eat("|") {
        options.push(sequence(reader)?);
    }
    Ok(Expr::Choice(options))
}

fn sequence(reader: &mut Reader<'_>) -> Result<Expr, GuideError> {
    let mut items = Vec::new();
    loop {
        skip_space(reader)?;
        match reader.peek() {
            None | Some('|' | ')') => return Ok(Expr::Sequence(items)),
            _ if !reader.is_nested() && (starts_rule(reader, false) || starts_rule(reader, true)) => {
                return Ok(Expr::Sequence(items));
            }
            _ => items.push(difference(reader)?),
        }
    }
}

fn difference(reader: &mut Reader<'_>) -> Result<Expr, GuideError> {
    let mut left = repeated(reader)?;
    for depth in 0.. {
        reader.check_depth(depth)?;
        skip_space(reader)?;
        let offset = reader.at;
        if !reader.eat("-") {
            return Ok(left);
        }
        skip_space(reader)?;
        let right = repeated(reader)?;
        left = Expr::Except(Box::new(left), Box::new(right), offset);
    }
    Ok(left)
}

fn repeated(reader: &mut Reader<'_>) -> Result<Expr, GuideError> {
    let mut item = primary(reader)?;
    for depth in 0.. {
        reader.check_depth(depth)?;
        skip_space(reader)?;
        let (min, max) = match reader.peek() {
            Some('?') => (0, Some(1)),
            Some('*') => (0, None),
            Some('+') => (1, None),
            _ => return Ok(item),
        };
        reader.bump();
        item = Expr::Repeat(Box::new(item), min, max);
    }
    Ok(item)
}

fn primary(reader: &mut Reader<'_>) -> Result<Expr, GuideError> {
    match reader.peek() {
        Some('"' | '\'') => {
            let from = reader.at;
            let string = reader.plain_string()?;
            // A line break is written #xA, so a string that reaches one was not closed.
            if reader.source[from..reader.at].contains('\n') {
                return Err(reader.error(from, "the string does not end"));
            }
            Ok(string)
        }
        Some('#') => Ok(single(character(reader)?)),
        Some('[') => reader.class(class_character),
        Some('(') => {
            reader.bump();
            let inner = reader.nested(choice)?;
            reader.expect(")", "`)`")?;
            Ok(inner)
        }
        _ => {
            let offset = reader.at;
            Ok(Expr::Rule(name(reader)?.to_owned(), offset))
        }
    }
}

fn single(c: char) -> Expr {
    Expr::Chars(vec![(c, c)])
}

/// `#xN`.
fn character(reader: &mut Reader<'_>) -> Result<char, GuideError> {
    let from = reader.at;
    reader.expect("#x", "`#x` and hexadecimal digits")?;
    let digits = reader.take_while(|c| c.is_ascii_hexdigit());
    reader.code_point(digits, from)
}

fn class_character(reader: &mut Reader<'_>, class_at: usize) -> Result<char, GuideError> {
    if reader.rest().starts_with("#x") {
        return character(reader);
    }
    match reader.bump() {
        None | Some('\n') => Err(reader.error(class_at, "the class does not end")),
        Some('\\') if !reader.rest().starts_with([']', '-']) => {
            let message = "EBNF has no escapes; write #x5C for a backslash, or use the syntax gbnf";
            Err(reader.error(reader.at - 1, message))
        }
        Some(c) => Ok(c),
    }
}
