//! What the character classes of patterns cost, told before they are expanded.
//!
//! `(?i:\p{L})` is ten bytes of pattern, and folding its case looks at 130,000 characters; a few hundred KB of it took
//! minutes and gigabytes. So the syntax tree is read first, which names classes and does not expand them.

use std::cell::Cell;

use regex_syntax::ast::parse::ParserBuilder;
use regex_syntax::ast::{self, Ast, ClassPerlKind, ClassSetItem};

use super::{GuideConfig, GuideError};

const ALL_CHARS: u64 = 0x11_0000;
/// `\w`, and more than any script.
const WORD_CHARS: u64 = 140_000;

/// Adds to `spent` the characters that the classes of a pattern name.
///
/// # Errors
/// [`GuideError::TooLarge`] when that is more than `max_regex_class_chars`.
pub(crate) fn charge(
    part: &str,
    pattern: &str,
    ignore_whitespace: bool,
    spent: &Cell<u64>,
    config: &GuideConfig,
) -> Result<(), GuideError> {
    let parsed = ParserBuilder::new().ignore_whitespace(ignore_whitespace).build().parse(pattern);
    let num_chars = match parsed.map(|ast| ast::visit(&ast, NumChars(0))) {
        Ok(Ok(num_chars)) => num_chars,
        // Who can read it, or refuse it, comes later; it may hold as many classes as it has marks of one.
        _ => WORD_CHARS * pattern.bytes().filter(|byte| matches!(byte, b'[' | b'\\')).count() as u64,
    };
    spent.set(spent.get().saturating_add(num_chars));
    let (size, limit) = (spent.get(), config.max_regex_class_chars);
    if size <= limit {
        return Ok(());
    }
    let what = "number of characters in the classes of its patterns".to_owned();
    Err(GuideError::TooLarge { part: part.to_owned(), what, size, limit })
}

struct NumChars(u64);

impl ast::Visitor for NumChars {
    type Output = u64;
    type Err = std::convert::Infallible;

    fn finish(self) -> Result<u64, Self::Err> {
        Ok(self.0)
    }

    fn visit_pre(&mut self, ast: &Ast) -> Result<(), Self::Err> {
        self.0 += match ast {
            Ast::ClassUnicode(class) => of_unicode(class),
            Ast::ClassPerl(class) => of_perl(&class.kind),
            Ast::ClassBracketed(_) => 1,
            _ => 0,
        };
        Ok(())
    }

    fn visit_class_set_item_pre(&mut self, item: &ClassSetItem) -> Result<(), Self::Err> {
        self.0 += match item {
            ClassSetItem::Range(range) => u64::from(range.end.c).saturating_sub(u64::from(range.start.c)) + 1,
            ClassSetItem::Unicode(class) => of_unicode(class),
            ClassSetItem::Perl(class) if class.negated => ALL_CHARS,
            ClassSetItem::Perl(class) => of_perl(&class.kind),
            ClassSetItem::Bracketed(class) if class.negated => ALL_CHARS,
            _ => 1,
        };
        Ok(())
    }
}

fn of_unicode(class: &ast::ClassUnicode) -> u64 {
    if class.is_negated() { ALL_CHARS } else { WORD_CHARS }
}

fn of_perl(kind: &ClassPerlKind) -> u64 {
    match kind {
        ClassPerlKind::Digit => 1_000,
        ClassPerlKind::Space => 100,
        ClassPerlKind::Word => WORD_CHARS,
    }
}
