//! One case of a batch: the shape of its line.

use serde::Deserialize;
use serde_json::Value;

use crate::constraint::{GrammarSyntax, MatchMode};
use crate::maze::{BindingFields, Bindings};

/// A line of a batch, as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    id: Value,
    text: String,
    ir: Option<Value>,
    constraints: Option<Value>,
    rule: Option<Value>,
    json_schema: Option<Value>,
    regex: Option<String>,
    #[serde(rename = "match")]
    match_mode: Option<MatchMode>,
    grammar: Option<String>,
    syntax: Option<GrammarSyntax>,
    forbidden_text: Option<Vec<Value>>,
}

/// Only the id of a line that is not a case.
#[derive(Deserialize)]
struct IdOnly {
    id: Option<Value>,
}

/// A text, and what binds it.
#[derive(Debug)]
pub(super) struct Case {
    /// A string or a number, as the line has it.
    pub(super) id: Value,
    pub(super) text: String,
    pub(super) bindings: Bindings,
}

/// A line that is not a case.
#[derive(Debug, PartialEq)]
pub(super) struct Malformed {
    /// The line's id, where it could be read.
    pub(super) id: Value,
    /// What is wrong, with the column.
    pub(super) message: String,
}

impl Case {
    /// Reads a line.
    pub(super) fn read(line: &[u8]) -> Result<Self, Malformed> {
        let malformed = |message: String| Malformed { id: id_of(line), message };
        // A list would be read as the fields in order.
        if !line.trim_ascii_start().starts_with(b"{") {
            return Err(Malformed { id: Value::Null, message: "column 1: a case is an object".into() });
        }
        let line: Line = serde_json::from_slice(line).map_err(|error| malformed(explain(&error)))?;
        if !(line.id.is_string() || line.id.is_number()) {
            return Err(Malformed { id: Value::Null, message: "`id` must be a string or a number".into() });
        }
        let (id, text, fields) = line.apart();
        match Bindings::new(fields) {
            Ok(bindings) => Ok(Self { id, text, bindings }),
            Err(message) => Err(Malformed { id, message: message.into() }),
        }
    }
}

impl Line {
    fn apart(self) -> (Value, String, BindingFields) {
        let Self { id, text, ir, constraints, rule, json_schema, regex, match_mode, grammar, syntax, forbidden_text } =
            self;
        let fields =
            BindingFields { ir, constraints, rule, json_schema, regex, match_mode, grammar, syntax, forbidden_text };
        (id, text, fields)
    }
}

/// The id of a line that is otherwise wrong. Strings that cannot be represented are passed over, not read.
fn id_of(line: &[u8]) -> Value {
    let id = serde_json::from_slice::<IdOnly>(line).ok().and_then(|line| line.id);
    id.filter(|id| id.is_string() || id.is_number()).unwrap_or_default()
}

/// What serde found, with the column; the line is known to the caller.
fn explain(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message);
    format!("column {}: {message}", error.column())
}
