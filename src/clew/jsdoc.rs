//! JSDoc comments: a description, and the tags that bound a TypeScript type.

use serde_json::{Number, Value};

use super::shape::{Bound, FORMATS, Keyword};
use crate::constraint::{Diagnostic, Origin};

/// What a JSDoc comment says about the declaration after it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct JsDoc {
    /// The text before the first tag.
    pub(super) description: String,
    /// The tags that bound values. Tags with another purpose are left alone.
    pub(super) bounds: Vec<Bound>,
}

impl JsDoc {
    /// Reads a comment from `/**` to `*/`; `at` is where it begins. Tags that cannot be read are reported.
    pub(super) fn read(comment: &str, at: &Origin, diagnostics: &mut Vec<Diagnostic>) -> Self {
        let inside = comment.trim_start_matches("/**").trim_end_matches("*/");
        let mut doc = Self::default();
        let mut in_tags = false;
        for (row, line) in inside.lines().enumerate() {
            let line = line.trim().trim_start_matches('*').trim();
            let at = Origin { line: at.line.saturating_add(u32::try_from(row).unwrap_or(u32::MAX)), ..at.clone() };
            if let Some(tag) = line.strip_prefix('@') {
                in_tags = true;
                doc.tag(tag, &at, diagnostics);
            } else if !in_tags && !line.is_empty() {
                if !doc.description.is_empty() {
                    doc.description.push(' ');
                }
                // Several tags may follow a description on one line: `/** The id. @maxLength 8 */`.
                let (text, tags) = line.split_once(" @").unwrap_or((line, ""));
                doc.description.push_str(text.trim());
                for tag in tags.split(" @").filter(|tag| !tag.is_empty()) {
                    in_tags = true;
                    doc.tag(tag, &at, diagnostics);
                }
            }
        }
        doc
    }

    fn tag(&mut self, tag: &str, at: &Origin, diagnostics: &mut Vec<Diagnostic>) {
        // `@minLength 1 @maxLength 8` on one line are two tags.
        if let Some((first, rest)) = tag.split_once(" @")
            && !tag.starts_with("pattern")
        {
            self.tag(first, at, diagnostics);
            return self.tag(rest, at, diagnostics);
        }
        let (name, argument) = tag.split_once(char::is_whitespace).unwrap_or((tag, ""));
        let argument = argument.trim();
        match bound(name, argument) {
            Some(Ok((keyword, value))) => self.bounds.push(Bound { keyword, value, at: at.clone() }),
            Some(Err(expected)) => {
                let message = format!("@{name} {argument}: expected {expected}; the tag is left out");
                diagnostics.push(Diagnostic { origin: at.clone(), message });
            }
            None => {}
        }
    }
}

/// The bound that a tag states: `None` for tags with another purpose, an error for an argument that does not fit.
fn bound(name: &str, argument: &str) -> Option<Result<(Keyword, Value), &'static str>> {
    let keyword = match name {
        "minimum" => Keyword::Minimum,
        "maximum" => Keyword::Maximum,
        "exclusiveMinimum" => Keyword::ExclusiveMinimum,
        "exclusiveMaximum" => Keyword::ExclusiveMaximum,
        "multipleOf" => Keyword::MultipleOf,
        "minLength" => Keyword::MinLength,
        "maxLength" => Keyword::MaxLength,
        "minItems" => Keyword::MinItems,
        "maxItems" => Keyword::MaxItems,
        "pattern" => Keyword::Pattern,
        "format" => Keyword::Format,
        "integer" => Keyword::Whole,
        "type" | "asType" if argument.trim_matches(['{', '}']) == "integer" => Keyword::Whole,
        _ => return None,
    };
    let value = match keyword {
        Keyword::Minimum | Keyword::Maximum | Keyword::ExclusiveMinimum | Keyword::ExclusiveMaximum => {
            number(argument).ok_or("a number")
        }
        Keyword::MultipleOf => number(argument).filter(|value| value.as_f64() > Some(0.0)).ok_or("a positive number"),
        Keyword::Pattern if argument.is_empty() => Err("a regular expression"),
        Keyword::Pattern => Ok(Value::from(without_slashes(argument))),
        Keyword::Format if FORMATS.contains(&argument) => Ok(Value::from(argument)),
        Keyword::Format => Err("one of date-time, date, time, duration, email, hostname, ipv4, ipv6, uuid, uri"),
        Keyword::Whole => Ok(Value::from("integer")),
        _ => argument.parse::<u32>().map(Value::from).map_err(|_| "a count"),
    };
    Some(value.map(|value| (keyword, value)))
}

fn number(argument: &str) -> Option<Value> {
    serde_json::from_str::<Number>(argument).ok().map(Value::Number)
}

/// `/^a$/` and `^a$` are both in use.
fn without_slashes(pattern: &str) -> &str {
    pattern.strip_prefix('/').and_then(|pattern| pattern.strip_suffix('/')).unwrap_or(pattern)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(comment: &str) -> (JsDoc, Vec<Diagnostic>) {
        let mut diagnostics = Vec::new();
        let at = Origin { file: "a.ts".to_owned(), line: 1, column: 1 };
        (JsDoc::read(comment, &at, &mut diagnostics), diagnostics)
    }

    #[test]
    fn a_comment_is_a_description_and_bounds() {
        let (doc, diagnostics) = read("/**\n * The id\n * of a thing.\n * @minLength 1\n * @pattern ^[a-z @]+$\n */");
        assert_eq!(doc.description, "The id of a thing.");
        let bounds: Vec<_> = doc.bounds.iter().map(|bound| (bound.keyword, bound.value.clone())).collect();
        assert_eq!(bounds, [(Keyword::MinLength, json!(1)), (Keyword::Pattern, json!("^[a-z @]+$"))]);
        assert!(diagnostics.is_empty());
    }

    #[test]
    fn one_line_may_hold_a_description_and_several_tags() {
        let (doc, _) = read("/** How many. @minimum 1 @maximum 9 @integer */");
        assert_eq!(doc.description, "How many.");
        assert_eq!(doc.bounds.len(), 3);
        assert_eq!(doc.bounds[2].keyword, Keyword::Whole);
    }

    #[test]
    fn a_tag_with_a_wrong_argument_is_reported_with_its_line() {
        let (doc, diagnostics) = read("/**\n * @maxLength many\n * @deprecated\n */");
        assert!(doc.bounds.is_empty());
        assert_eq!(diagnostics.len(), 1);
        assert_eq!(diagnostics[0].origin.line, 2);
    }
}
