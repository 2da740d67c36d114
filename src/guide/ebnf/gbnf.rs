//! GBNF, the notation of llama.cpp: `root ::= "a\n" [^"\\]{1,3} (x | y)*`, comments from `#` to the end of the line.

use super::super::GuideError;
use super::reader::Reader;
use super::{Expr, Grammar, Rule};

/// Reads a whole grammar.
pub(super) fn read(mut reader: Reader<'_>) -> Result<Grammar, GuideError> {
    let mut grammar = Grammar::default();
    loop {
        skip_space(&mut reader);
        if reader.peek().is_none() {
            return Ok(grammar);
        }
        let offset = reader.at;
        let name = name(&mut reader)?.to_owned();
        skip_space(&mut reader);
        reader.expect("::=", "`::=`")?;
        let body = choice(&mut reader)?;
        if reader.peek().is_some() && !starts_rule(&reader) {
            return Err(reader.unexpected("a rule or the end of the grammar expected"));
        }
        GuideError::check_size(reader.part, "number of rules", grammar.rules.len() + 1, reader.config.max_rules)?;
        grammar.rules.push(Rule { name, offset, body });
    }
}

fn skip_space(reader: &mut Reader<'_>) {
    loop {
        reader.take_while(char::is_whitespace);
        if reader.peek() != Some('#') {
            return;
        }
        reader.take_while(|c| c != '\n');
    }
}

fn name<'a>(reader: &mut Reader<'a>) -> Result<&'a str, GuideError> {
    let from = reader.at;
    let name = reader.take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    if name.is_empty() {
        return Err(reader.unexpected("the name of a rule expected"));
    }
    if name.starts_with('-') {
        return Err(reader.error(from, "a name cannot begin with `-`"));
    }
    Ok(name)
}

fn starts_rule(reader: &Reader<'_>) -> bool {
    let mut probe = reader.clone();
    name(&mut probe).is_ok() && {
        skip_space(&mut probe);
        probe.rest().starts_with("::=")
    }
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
        skip_space(reader);
        match reader.peek() {
            None | Some('|' | ')') => return Ok(Expr::Sequence(items)),
            _ if !reader.is_nested() && starts_rule(reader) => return Ok(Expr::Sequence(items)),
            _ => items.push(repeated(reader)?),
        }
    }
}

fn repeated(reader: &mut Reader<'_>) -> Result<Expr, GuideError> {
    let mut item = primary(reader)?;
    for depth in 0.. {
        reader.check_depth(depth)?;
        skip_space(reader);
        let (min, max) = match reader.peek() {
            Some('?') => (0, Some(1)),
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('{') => {
                item = counted(reader, item)?;
                continue;
            }
            _ => return Ok(item),
        };
        reader.bump();
        item = Expr::Repeat(Box::new(item), min, max);
    }
    Ok(item)
}

/// `{m}`, `{m,}`, `{,n}` or `{m,n}`.
fn counted(reader: &mut Reader<'_>, item: Expr) -> Result<Expr, GuideError> {
    let from = reader.at;
    reader.bump();
    skip_space(reader);
    let min = if reader.rest().starts_with(',') { 0 } else { reader.number()? };
    skip_space(reader);
    let mut max = Some(min);
    if reader.eat(",") {
        skip_space(reader);
        max = if reader.rest().starts_with('}') { None } else { Some(reader.number()?) };
        skip_space(reader);
    }
    reader.expect("}", "`}`")?;
    if max.is_some_and(|max| max < min) {
        return Err(reader.error(from, "the repetition's maximum is below its minimum"));
    }
    Ok(Expr::Repeat(Box::new(item), min, max))
}

fn primary(reader: &mut Reader<'_>) -> Result<Expr, GuideError> {
    match reader.peek() {
        Some('"') => string(reader),
        Some('[') => reader.class(|reader, _| character(reader)),
        Some('.') => {
            reader.bump();
            Ok(Expr::Chars(vec![('\0', char::MAX)]))
        }
        Some('(') => {
            reader.bump();
            let inner = reader.nested(choice)?;
            reader.expect(")", "`)`")?;
            Ok(inner)
        }
        Some('<' | '!') => Err(reader.error(reader.at, "token ids in a grammar are not supported; use `token_masks`")),
        Some('\'') => Err(reader.error(reader.at, "strings are written with double quotes")),
        _ => {
            let offset = reader.at;
            Ok(Expr::Rule(name(reader)?.to_owned(), offset))
        }
    }
}

fn string(reader: &mut Reader<'_>) -> Result<Expr, GuideError> {
    let from = reader.at;
    reader.bump();
    let mut text = String::new();
    loop {
        match reader.peek() {
            None | Some('\n') => return Err(reader.error(from, "the string does not end")),
            Some('"') => {
                reader.bump();
                return Ok(Expr::Literal(text));
            }
            Some(_) => text.push(character(reader)?),
        }
    }
}

/// One character of a string or a class, with llama.cpp's escapes.
fn character(reader: &mut Reader<'_>) -> Result<char, GuideError> {
    let from = reader.at;
    if !reader.eat("\\") {
        return reader.bump().ok_or_else(|| reader.unexpected("a character expected"));
    }
    let num_digits = match reader.bump() {
        Some('n') => return Ok('\n'),
        Some('r') => return Ok('\r'),
        Some('t') => return Ok('\t'),
        Some(c @ ('\\' | '"' | '[' | ']' | '-' | '^')) => return Ok(c),
        Some('x') => 2,
        Some('u') => 4,
        Some('U') => 8,
        _ => return Err(reader.error(from, r#"the escape is unknown; known are \n \r \t \\ \" \[ \] \x \u \U"#)),
    };
    let digits = reader.rest().get(..num_digits).unwrap_or_default();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(reader.error(from, &format!("{num_digits} hexadecimal digits are expected")));
    }
    reader.at += num_digits;
    reader.code_point(digits, from)
}
