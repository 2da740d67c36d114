//! What binds a text that is to be judged: the fields of a case of `ananke validate --batch` or of a request, and the IRs
//! they become.
//!
//! Each field becomes an IR of its own, and all of them hold together. The guide and the verifier name parts by IR and
//! field; [`Bindings::part_name`] gives the name that the author wrote.

use serde::Deserialize;
use serde_json::Value;

use crate::braid::{self, BraidError, JudgeOfIrs};
use crate::constraint::{
    Constraint, ConstraintIr, ConstraintSet, ForbiddenText, Grammar, GrammarSyntax, Kind, MatchMode, RegexGroup,
    RegexPattern, Rule,
};

/// The fields as they are written; a reader brings those it has.
#[derive(Debug, Default)]
pub struct BindingFields {
    /// A constraint IR.
    pub ir: Option<Value>,
    /// A constraint set, or a list of constraints.
    pub constraints: Option<Value>,
    /// One rule of a constraint, which binds as a hard one.
    pub rule: Option<Value>,
    /// A JSON Schema.
    pub json_schema: Option<Value>,
    /// A pattern.
    pub regex: Option<String>,
    /// How the pattern binds. Default: the whole text.
    pub match_mode: Option<MatchMode>,
    /// The source of a grammar, only with `syntax`.
    pub grammar: Option<String>,
    /// How the grammar is written.
    pub syntax: Option<GrammarSyntax>,
    /// Strings, or objects as in an IR.
    pub forbidden_text: Option<Vec<Value>>,
}

/// What binds a text; at least one field.
#[derive(Debug)]
pub struct Bindings(Vec<Field>);

/// Why a field gives no IR.
#[derive(Debug, thiserror::Error)]
pub enum BindingFault {
    /// It is not what it should be.
    #[error("{0}")]
    Malformed(String),
    /// Braid refuses it.
    #[error("{0}")]
    Refused(Box<BraidError>),
    /// It would bind nothing, though whoever sent it says that it binds the text.
    #[error("nothing binds the text: {0}")]
    Unbound(String),
}

/// A field that binds the text.
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

impl Bindings {
    /// The fields that are there.
    ///
    /// # Errors
    /// None of them is, or one is there without what it needs.
    pub fn new(fields: BindingFields) -> Result<Self, &'static str> {
        if fields.match_mode.is_some() && fields.regex.is_none() {
            return Err("`match` only goes with `regex`");
        }
        let grammar = match (fields.grammar, fields.syntax) {
            (Some(source), Some(syntax)) => Some(Field::Grammar(source, syntax)),
            (Some(_), None) => return Err("`grammar` needs a `syntax`: lark, ebnf or gbnf"),
            (None, Some(_)) => return Err("`syntax` only goes with `grammar`"),
            (None, None) => None,
        };
        let match_mode = fields.match_mode.unwrap_or(MatchMode::Full);
        let all: Vec<Field> = [
            fields.ir.map(Field::Ir),
            fields.constraints.map(Field::Constraints),
            fields.rule.map(Field::Rule),
            fields.json_schema.map(Field::JsonSchema),
            fields.regex.map(|pattern| Field::Regex(pattern, match_mode)),
            grammar,
            fields.forbidden_text.map(Field::ForbiddenText),
        ]
        .into_iter()
        .flatten()
        .collect();
        if all.is_empty() {
            return Err("nothing binds the text: give `ir`, `constraints`, `rule`, `json_schema`, `regex`, `grammar` \
                        or `forbidden_text`");
        }
        Ok(Self(all))
    }

    /// The IRs that the fields become, in the order of [`Self::part_name`]'s indices.
    ///
    /// `judge` says of what constraints compile to whether any text satisfies it as a whole; where none does, weaker
    /// ones yield.
    ///
    /// # Errors
    /// The name of the first field that gives none, and why.
    pub fn irs(&self, judge: &JudgeOfIrs<'_>) -> Result<Vec<ConstraintIr>, (&'static str, BindingFault)> {
        self.0.iter().map(|field| field.ir(judge).map_err(|why| (field.name(), why))).collect()
    }

    /// The name of the field that became the IR at `index`; empty where none did.
    pub(crate) fn field_name(&self, index: usize) -> &'static str {
        self.0.get(index).map_or("", Field::name)
    }

    /// The name of a part as it was written: `constraints[1].regex_patterns[0]` is `regex` where the second field is
    /// one, and `ir.grammar` is the grammar of a whole IR.
    #[must_use]
    pub fn part_name(&self, part: &str) -> String {
        let indexed = part.strip_prefix("constraints[").and_then(|rest| rest.split_once("]."));
        let (index, rest) = match indexed.and_then(|(index, rest)| Some((index.parse::<usize>().ok()?, rest))) {
            Some(found) => found,
            None => (0, part),
        };
        self.0.get(index).map_or_else(|| part.to_owned(), |field| field.part_name(rest))
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

    fn ir(&self, judge: &JudgeOfIrs<'_>) -> Result<ConstraintIr, BindingFault> {
        let empty = ConstraintIr::default();
        Ok(match self {
            Self::Ir(ir) => read(ir)?,
            Self::Constraints(constraints) => compile(&constraint_set(constraints)?, judge)?,
            Self::Rule(rule) => {
                let rule: Rule = read(rule)?;
                let mut set = ConstraintSet::default();
                set.push(Constraint::stated("rule", Kind::Semantic, rule));
                compile(&set, judge)?
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
                let forbidden_text =
                    texts.map(|(i, text)| forbidden(text).map_err(|why| at(i, why))).collect::<Result<_, _>>()?;
                ConstraintIr { forbidden_text, ..empty }
            }
        })
    }
}

/// A string is a literal; an object says more.
fn forbidden(value: &Value) -> Result<ForbiddenText, BindingFault> {
    match value {
        Value::String(text) => Ok(ForbiddenText::text(text)),
        value => read(value),
    }
}

/// A whole set, or a list of constraints.
fn constraint_set(value: &Value) -> Result<ConstraintSet, BindingFault> {
    let Value::Array(constraints) = value else { return read(value) };
    let mut set = ConstraintSet::default();
    for (i, constraint) in constraints.iter().enumerate() {
        set.push(read(constraint).map_err(|why| at(i, why))?);
    }
    Ok(set)
}

/// The fault of one item of a list.
fn at(index: usize, fault: BindingFault) -> BindingFault {
    BindingFault::Malformed(format!("[{index}]: {fault}"))
}

fn compile(set: &ConstraintSet, judge: &JudgeOfIrs<'_>) -> Result<ConstraintIr, BindingFault> {
    let compiled = braid::compile_judged(set, &braid::CompileOptions::default(), judge);
    let ir = compiled.map_err(|error| BindingFault::Refused(Box::new(error)))?.ir;
    if !ir.is_empty() {
        return Ok(ir);
    }
    let why =
        ir.not_applied.iter().chain(&ir.advisory).next().map_or("there is no constraint", |constraint| &constraint.why);
    Err(BindingFault::Unbound(why.into()))
}

/// A list would be read as the fields in order.
fn read<'de, T: Deserialize<'de>>(value: &'de Value) -> Result<T, BindingFault> {
    if !value.is_object() {
        return Err(BindingFault::Malformed("expected an object".into()));
    }
    T::deserialize(value).map_err(|error| BindingFault::Malformed(error.to_string()))
}
