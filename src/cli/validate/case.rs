//! One case of a batch: the shape of its line, and the IRs that its fields become.
//!
//! Each field becomes an IR of its own, and all of them hold together. The guide and the verifier name parts by IR and
//! field; [`Case::part_name`] gives the name that the case's author wrote.

use serde::Deserialize;
use serde_json::Value;

use crate::braid;
use crate::constraint::{
    Constraint, ConstraintIr, ConstraintSet, ForbiddenText, Grammar, GrammarSyntax, Kind, MatchMode, RegexGroup,
    RegexPattern, Rule,
};

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
    fields: Vec<Field>,
}

/// A field of the line that binds the text.
#[derive(Debug)]
enum Field {
    Ir(Value),
    Constraints(Value),
    Rule(Value),
    JsonSchema(Value),
    Regex(String, MatchMode),
    Grammar(String, GrammarSyntax),
    ForbiddenText(Vec<Value>),
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
        let mut line: Line = serde_json::from_slice(line).map_err(|error| malformed(explain(&error)))?;
        if !(line.id.is_string() || line.id.is_number()) {
            return Err(Malformed { id: Value::Null, message: "`id` must be a string or a number".into() });
        }
        let (id, text) = (line.id.take(), std::mem::take(&mut line.text));
        match line.fields() {
            Ok(fields) => Ok(Self { id, text, fields }),
            Err(message) => Err(Malformed { id, message: message.into() }),
        }
    }

    /// The IRs that the fields become, in the order of [`Case::part_name`]'s indices.
    ///
    /// # Errors
    /// Which field is not what it should be, or what Braid refuses.
    pub(super) fn irs(&self) -> Result<Vec<ConstraintIr>, String> {
        let lower = |field: &Field| field.ir().map_err(|why| format!("{}: {why}", field.name()));
        self.fields.iter().map(lower).collect()
    }

    /// The name of a part as the case has it: `constraints[1].regex_patterns[0]` is `regex` where the second field is
    /// one, and `ir.grammar` is the grammar of a whole IR.
    pub(super) fn part_name(&self, part: &str) -> String {
        let indexed = part.strip_prefix("constraints[").and_then(|rest| rest.split_once("]."));
        let (index, rest) = match indexed.and_then(|(index, rest)| Some((index.parse::<usize>().ok()?, rest))) {
            Some(found) => found,
            None => (0, part),
        };
        self.fields.get(index).map_or_else(|| part.to_owned(), |field| field.part_name(rest))
    }
}

impl Line {
    /// The fields that bind the text; at least one.
    fn fields(self) -> Result<Vec<Field>, &'static str> {
        if self.match_mode.is_some() && self.regex.is_none() {
            return Err("`match` only goes with `regex`");
        }
        let grammar = match (self.grammar, self.syntax) {
            (Some(source), Some(syntax)) => Some(Field::Grammar(source, syntax)),
            (Some(_), None) => return Err("`grammar` needs a `syntax`: lark, ebnf or gbnf"),
            (None, Some(_)) => return Err("`syntax` only goes with `grammar`"),
            (None, None) => None,
        };
        let match_mode = self.match_mode.unwrap_or(MatchMode::Full);
        let fields: Vec<Field> = [
            self.ir.map(Field::Ir),
            self.constraints.map(Field::Constraints),
            self.rule.map(Field::Rule),
            self.json_schema.map(Field::JsonSchema),
            self.regex.map(|pattern| Field::Regex(pattern, match_mode)),
            grammar,
            self.forbidden_text.map(Field::ForbiddenText),
        ]
        .into_iter()
        .flatten()
        .collect();
        if fields.is_empty() {
            return Err("nothing binds the text: give `ir`, `constraints`, `rule`, `json_schema`, `regex`, `grammar` \
                        or `forbidden_text`");
        }
        Ok(fields)
    }
}

impl Field {
    fn name(&self) -> &'static str {
        match self {
            Self::Ir(_) => "ir",
            Self::Constraints(_) => "constraints",
            Self::Rule(_) => "rule",
            Self::JsonSchema(_) => "json_schema",
            Self::Regex(..) => "regex",
            Self::Grammar(..) => "grammar",
            Self::ForbiddenText(_) => "forbidden_text",
        }
    }

    /// A whole IR keeps its own paths behind the field's name; a field that is one part is called by its name.
    fn part_name(&self, part: &str) -> String {
        let name = self.name();
        if part == "ir" {
            return name.to_owned();
        }
        let own = match self {
            Self::Ir(_) | Self::Constraints(_) | Self::Rule(_) => return format!("{name}.{part}"),
            Self::Regex(..) => "regex_patterns[0]",
            Self::JsonSchema(_) | Self::Grammar(..) | Self::ForbiddenText(_) => name,
        };
        part.strip_prefix(own).map_or_else(|| part.to_owned(), |rest| format!("{name}{rest}"))
    }

    fn ir(&self) -> Result<ConstraintIr, String> {
        let empty = ConstraintIr::default();
        Ok(match self {
            Self::Ir(ir) => read(ir)?,
            Self::Constraints(constraints) => compile(&constraint_set(constraints)?)?,
            Self::Rule(rule) => {
                let rule: Rule = read(rule)?;
                let mut set = ConstraintSet::default();
                set.push(Constraint::stated("rule", Kind::Semantic, rule));
                compile(&set)?
            }
            Self::JsonSchema(schema) => ConstraintIr::from_json_schema(schema.clone()),
            Self::Regex(pattern, match_mode) => {
                let pattern = RegexPattern { pattern: pattern.clone(), flags: String::new() };
                let group = RegexGroup { any_of: vec![pattern], match_mode: *match_mode };
                ConstraintIr { regex_patterns: vec![group], ..empty }
            }
            Self::Grammar(source, syntax) => {
                let grammar = Grammar { syntax: *syntax, source: source.clone(), start: None };
                ConstraintIr { grammar: Some(grammar), ..empty }
            }
            Self::ForbiddenText(texts) => {
                let texts = texts.iter().enumerate();
                let forbidden_text = texts
                    .map(|(i, text)| forbidden(text).map_err(|why| format!("[{i}]: {why}")))
                    .collect::<Result<_, _>>()?;
                ConstraintIr { forbidden_text, ..empty }
            }
        })
    }
}

/// A string is a literal; an object says more.
fn forbidden(value: &Value) -> Result<ForbiddenText, String> {
    match value {
        Value::String(text) => Ok(ForbiddenText::text(text)),
        value => read(value),
    }
}

/// A whole set, or a list of constraints.
fn constraint_set(value: &Value) -> Result<ConstraintSet, String> {
    let Value::Array(constraints) = value else { return read(value) };
    let mut set = ConstraintSet::default();
    for (i, constraint) in constraints.iter().enumerate() {
        set.push(read(constraint).map_err(|why| format!("[{i}]: {why}"))?);
    }
    Ok(set)
}

/// What would bind nothing is an error, for the case says that it binds the text.
fn compile(set: &ConstraintSet) -> Result<ConstraintIr, String> {
    let ir = braid::compile(set, &braid::CompileOptions::default()).map_err(|error| error.to_string())?.ir;
    if !ir.is_empty() {
        return Ok(ir);
    }
    let why =
        ir.not_applied.iter().chain(&ir.advisory).next().map_or("there is no constraint", |constraint| &constraint.why);
    Err(format!("nothing binds the text: {why}"))
}

/// A list would be read as the fields in order.
fn read<'de, T: Deserialize<'de>>(value: &'de Value) -> Result<T, String> {
    if !value.is_object() {
        return Err("expected an object".into());
    }
    T::deserialize(value).map_err(|error| error.to_string())
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
