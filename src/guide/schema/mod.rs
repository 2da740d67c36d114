//! JSON Schema: what is checked before llguidance sees a schema, the subset it is lowered to, and the Lark source.
//!
//! llguidance recurses over a schema, ignores what its draft does not know, lacks many keywords, and leaves holes where
//! two spellings of a key are one key. So a schema is first walked with an explicit stack ([`walk`]): sizes, nesting and
//! reference chains are bounded and references resolved. Then it is lowered ([`lower`]) to schemas of plain types,
//! whose language is exactly that of the original; what cannot be lowered is refused with a JSON pointer. White space
//! and escapes are narrowed last.

mod expand;
mod format;
mod language;
mod lower;
mod pattern;
mod plain;
mod reference;
mod shape;
mod walk;

use serde_json::{Value, json};

use super::structural::Rejection;
use super::{GuideConfig, GuideError};
use crate::constraint::JsonWhitespace;
use walk::{Dialect, Located, Walk};

/// A schema that has passed every check of ours, as Lark source.
#[derive(Debug)]
pub(crate) struct CheckedSchema {
    part: String,
    pub(crate) lark: String,
    located: Vec<Located>,
}

/// What surrounds a schema and changes how its documents may be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JsonStyle {
    pub(crate) whitespace: JsonWhitespace,
    /// Whether text is forbidden in the output, which an escape could hide.
    pub(crate) text_is_forbidden: bool,
}

impl CheckedSchema {
    /// Checks a schema and writes it as Lark source.
    ///
    /// # Errors
    /// [`GuideError::TooLarge`], [`GuideError::InvalidSchema`], [`GuideError::UnsupportedSchema`],
    /// [`GuideError::Unsatisfiable`] for `false`.
    pub(crate) fn new(part: &str, schema: &Value, style: JsonStyle, config: &GuideConfig) -> Result<Self, GuideError> {
        check_size(part, schema, config)?;
        let unsatisfiable = || GuideError::Unsatisfiable { parts: vec![part.to_owned()] };
        let walk = Walk::over(part, schema, Dialect::Lowered, config)?;
        let Some(lowered) = lower::lower(part, schema, &walk.targets, config)? else { return Err(unsatisfiable()) };
        let escapes = if style.text_is_forbidden || lowered.open_objects { "nrbtf\\\"" } else { "nrbtf\\\"u" };
        let mut root = lowered.schema;
        root.insert("x-guidance".to_owned(), guidance_options(style.whitespace, escapes));
        let schema = Value::Object(root);
        let lark = format!("%llguidance {{\"no_forcing\": true}}\nstart: %json {schema}\n");
        Ok(Self { part: part.to_owned(), lark, located: walk.located })
    }

    /// Turns llguidance's refusal into one with a place in the schema.
    pub(crate) fn explain(&self, rejection: Rejection) -> GuideError {
        let message = match rejection {
            Rejection::Unsatisfiable => return GuideError::Unsatisfiable { parts: vec![self.part.clone()] },
            Rejection::OverLimit(excess) => return excess.of(&self.part),
            Rejection::Panic(message) => return GuideError::internal(&self.part, message),
            Rejection::Source { message, .. } => message,
        };
        let message = message.trim_start_matches("failed to compile JSON schema: ").to_owned();
        let named = self.located.iter().find(|located| message.contains(located.keyword));
        let (keyword, pointer) = match named {
            Some(located) => (located.keyword, located.pointer.as_str()),
            None => ("schema", ""),
        };
        GuideError::UnsupportedSchema {
            part: self.part.clone(),
            pointer: pointer.to_owned(),
            keyword: keyword.to_owned(),
            message,
        }
    }
}

/// White space and escapes in llguidance's own terms.
fn guidance_options(whitespace: JsonWhitespace, escapes: &str) -> Value {
    let JsonWhitespace { max_newlines, max_spaces } = whitespace;
    let line = format!("(\\n[ ]{{0,{max_spaces}}})");
    let pattern = match (max_newlines, max_spaces) {
        (0, 0) => return json!({"whitespace_flexible": false, "json_allowed_escapes": escapes}),
        (0, _) => format!("[ ]{{1,{max_spaces}}}"),
        (_, 0) => format!("{line}{{1,{max_newlines}}}"),
        _ => format!("[ ]{{1,{max_spaces}}}{line}{{0,{max_newlines}}}|{line}{{1,{max_newlines}}}"),
    };
    json!({"whitespace_pattern": pattern, "json_allowed_escapes": escapes})
}

/// Bytes, nodes, nesting and paths, without recursion.
fn check_size(part: &str, schema: &Value, config: &GuideConfig) -> Result<(), GuideError> {
    let mut stack = vec![(schema, 1, 0)];
    let (mut num_nodes, mut num_bytes, mut path_bytes) = (0, 0, 0);
    while let Some((value, depth, path_len)) = stack.pop() {
        num_nodes += 1;
        path_bytes += path_len;
        GuideError::check_size(part, "nesting of the schema", depth, config.max_schema_nesting)?;
        match value {
            Value::Object(members) => {
                num_bytes += members.keys().map(|key| key.len() + 4).sum::<usize>();
                stack.extend(members.iter().map(|(key, value)| (value, depth + 1, path_len + key.len() + 1)));
            }
            Value::Array(items) => stack.extend(items.iter().map(|value| (value, depth + 1, path_len + 4))),
            Value::String(text) => num_bytes += text.len() + 2,
            _ => num_bytes += 4,
        }
        GuideError::check_size(part, "number of nodes of the schema", num_nodes, config.max_schema_nodes)?;
        GuideError::check_size(part, "bytes of the schema", num_bytes, config.max_grammar_bytes)?;
        GuideError::check_size(part, "bytes of all paths in the schema", path_bytes, config.max_schema_path_bytes)?;
    }
    Ok(())
}

fn invalid(part: &str, pointer: &str, message: &str) -> GuideError {
    GuideError::InvalidSchema { part: part.to_owned(), pointer: pointer.to_owned(), message: message.to_owned() }
}

/// A member's name as a step of a JSON pointer.
fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// Checks a schema that stands inside a grammar as `%json {...}`.
pub(crate) fn check_nested(part: &str, schema: &Value, config: &GuideConfig) -> Result<(), GuideError> {
    check_size(part, schema, config)?;
    let walk = Walk::over(part, schema, Dialect::Nested, config)?;
    if walk.open_objects {
        let message = "inside a grammar, an object with named properties needs `additionalProperties: false`";
        return Err(walk.unsupported("", "additionalProperties", message));
    }
    Ok(())
}
