//! Older shapes of constraints: the JSON that Maze sent to its remote service, and the `ConstraintSpec` of a patched
//! SGLang.
//!
//! What an IR says exactly is carried over; nothing is approximated. What it cannot say is listed: a hard part that is
//! lost refuses the request unless it says `strict: false`, and is then among `not_applied` in the reply.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    body::{join, parse_value},
    constraints::{schema_of, syntax_of},
    error::HttpError,
};
use crate::maze::{
    ConstraintIr, Grammar, GrammarSyntax, Language, Limits, MatchMode, NotApplied, RegexGroup, RegexPattern, TokenMasks,
};

/// An IR from an older shape, with what of it binds nothing any more.
#[derive(Debug, Default)]
pub(super) struct Imported {
    pub(super) ir: ConstraintIr,
    /// Hard parts that the IR lacks.
    pub(super) lost: Vec<NotApplied>,
}

/// Whether a value is Maze's JSON and no IR: a part of it is written as only that shape has it.
pub(super) fn is_maze_json(value: &Value) -> bool {
    let has = |part: &str, field: &str| value.get(part).is_some_and(|part| part.get(field).is_some());
    let patterns = value.get("regex_patterns").and_then(Value::as_array);
    has("json_schema", "schema_type")
        || has("grammar", "rules")
        || has("grammar", "start_symbol")
        || patterns.is_some_and(|patterns| patterns.iter().any(|pattern| pattern.get("pattern").is_some()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MazeIr {
    #[serde(default)]
    name: String,
    json_schema: Option<MazeSchema>,
    grammar: Option<MazeGrammar>,
    /// The whole output matches one of them.
    #[serde(default)]
    regex_patterns: Vec<RegexPattern>,
    token_masks: Option<TokenMasks>,
    #[serde(default)]
    priority: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MazeSchema {
    schema_type: String,
    #[serde(default)]
    properties: Map<String, Value>,
    #[serde(default)]
    required: Vec<String>,
    #[serde(default)]
    additional_properties: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MazeGrammar {
    rules: Vec<MazeRule>,
    start_symbol: String,
}

/// One way to write `lhs`: the symbols of `rhs` one after another, none for the empty text.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MazeRule {
    lhs: String,
    rhs: Vec<String>,
}

/// Reads Maze's JSON at `path`.
///
/// # Errors
/// A field of the wrong shape.
pub(super) fn maze_json(value: &Value, path: &str) -> Result<Imported, HttpError> {
    let MazeIr { name, json_schema, grammar, regex_patterns, token_masks, priority } = parse_value(value, path)?;
    let mut imported =
        Imported { ir: ConstraintIr { name, priority, token_masks, ..Default::default() }, lost: Vec::new() };
    imported.ir.json_schema = json_schema.map(|schema| schema.lower(&join(path, "json_schema"))).transpose()?;
    if !regex_patterns.is_empty() {
        imported.ir.regex_patterns.push(RegexGroup { any_of: regex_patterns, match_mode: MatchMode::Full });
    }
    if let Some(grammar) = grammar {
        match grammar.lower(&join(path, "grammar"))? {
            Ok(source) => {
                imported.ir.grammar = Some(Grammar { syntax: GrammarSyntax::Gbnf, source, start: None });
            }
            Err(why) => imported.lost.push(NotApplied { id: "grammar".into(), why }),
        }
    }
    Ok(imported)
}

impl MazeSchema {
    fn lower(self, path: &str) -> Result<Value, HttpError> {
        const TYPES: [&str; 7] = ["object", "array", "string", "number", "integer", "boolean", "null"];
        let Self { schema_type, properties, required, additional_properties } = self;
        if !TYPES.contains(&schema_type.as_str()) {
            let reason = format!("`{schema_type}` is none of {}", TYPES.join(", "));
            return Err(HttpError::invalid_value(join(path, "schema_type"), reason));
        }
        if schema_type != "object" {
            return Ok(json!({"type": schema_type}));
        }
        Ok(json!({
            "type": schema_type, "properties": properties, "required": required,
            "additionalProperties": additional_properties
        }))
    }
}

impl MazeGrammar {
    /// The grammar as GBNF, or why it has none.
    fn lower(&self, path: &str) -> Result<Result<String, String>, HttpError> {
        let names = self.names();
        let Some(start) = names.iter().position(|name| *name == self.start_symbol) else {
            let reason = format!("no rule says what `{}` is", self.start_symbol);
            return Err(HttpError::invalid_value(join(path, "start_symbol"), reason));
        };
        let mut source = format!("root ::= r{start}\n");
        for (index, name) in names.iter().enumerate() {
            let mut ways = Vec::new();
            for rule in self.rules.iter().filter(|rule| rule.lhs == *name) {
                let symbols: Result<Vec<_>, _> = rule.rhs.iter().map(|symbol| lower_symbol(symbol, &names)).collect();
                match symbols {
                    Ok(symbols) if symbols.is_empty() => ways.push("\"\"".to_owned()),
                    Ok(symbols) => ways.push(symbols.join(" ")),
                    Err(why) => return Ok(Err(why)),
                }
            }
            source.push_str(&format!("r{index} ::= {}\n", ways.join(" | ")));
        }
        Ok(Ok(source))
    }

    /// What the rules define, each name once.
    fn names(&self) -> Vec<&str> {
        let mut seen = std::collections::BTreeSet::new();
        self.rules.iter().map(|rule| rule.lhs.as_str()).filter(|name| seen.insert(*name)).collect()
    }
}

/// A symbol in GBNF: a rule, or a literal in quotes. The words that stood for lexers' terminals (`IDENTIFIER`) were
/// never said to mean any text.
fn lower_symbol(symbol: &str, names: &[&str]) -> Result<String, String> {
    if let Some(index) = names.iter().position(|name| *name == symbol) {
        return Ok(format!("r{index}"));
    }
    let text = match symbol.chars().next() {
        Some('"') => serde_json::from_str::<String>(symbol).ok(),
        Some('\'') => symbol
            .strip_prefix('\'')
            .and_then(|rest| rest.strip_suffix('\''))
            .filter(|text| !text.contains('\\'))
            .map(str::to_owned),
        _ => None,
    };
    let text = text.ok_or_else(|| format!("no rule says what `{symbol}` is, and it is no text in quotes"))?;
    Ok(gbnf_literal(&text))
}

fn gbnf_literal(text: &str) -> String {
    let mut literal = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => literal.extend(['\\', character]),
            '\n' => literal.push_str("\\n"),
            '\r' => literal.push_str("\\r"),
            '\t' => literal.push_str("\\t"),
            character => literal.push(character),
        }
    }
    literal.push('"');
    literal
}

/// The parts of a `ConstraintSpec`, each under its own path.
#[derive(Debug, Default)]
pub(super) struct Spec {
    /// What has no part of its own: language, limits, and what is not applied.
    pub(super) rest: Imported,
    pub(super) json_schema: Option<Value>,
    /// The output begins with a match.
    pub(super) regex: Option<String>,
    /// No match anywhere.
    pub(super) negative_regex: Option<String>,
    pub(super) ebnf: Option<Grammar>,
    pub(super) structural_tag: Option<Value>,
}

/// Fields of a `ConstraintSpec` that say what code may be written, which an IR says in other ways.
const SPEC_HARD: [(&str, &str); 12] = [
    ("type_bindings", TYPES),
    ("function_signatures", TYPES),
    ("class_definitions", TYPES),
    ("expected_type", TYPES),
    ("type_aliases", TYPES),
    ("imports", IMPORTS),
    ("available_modules", IMPORTS),
    ("forbidden_imports", IMPORTS),
    ("module_stubs", IMPORTS),
    ("control_flow", "control flow is not checked"),
    ("semantic_constraints", "expressions about the program's meaning are not checked"),
    ("language_stack", "an output is of one language; `regions` in a `constraint_ir` bind parts of it"),
];
const TYPES: &str =
    "types of code are not checked; send the source as `context`, or a `signature` rule in `constraints`";
const IMPORTS: &str = "send `language` and `imports` rules in `constraints`";

/// Fields of a `ConstraintSpec` that ask how to decode, not what.
const SPEC_MANNER: [(&str, &str); 10] = [
    ("language_detection", "a language is stated, not guessed"),
    ("enabled_domains", "every part is enforced"),
    ("disabled_domains", "every part is enforced"),
    ("domain_configs", "there are no domains to configure"),
    ("intensity", "every part is enforced at every token"),
    ("intensity_config", "every part is enforced at every token"),
    ("allow_relaxation", "nothing is relaxed"),
    ("relaxation_threshold", "nothing is relaxed"),
    ("relaxation_domains", "nothing is relaxed"),
    ("enable_early_termination", "an output ends where the model ends it; `stop` and `max_tokens` end it before"),
];

/// Fields of a `ConstraintSpec` that ask for nothing.
const SPEC_LABELS: [&str; 5] = ["version", "cache_scope", "context_hash", "source", "source_uri"];

/// Reads a `ConstraintSpec` at `path`.
///
/// # Errors
/// A field of the wrong shape, or one that the spec does not have.
pub(super) fn spec(value: Value, path: &str) -> Result<Spec, HttpError> {
    let Value::Object(mut fields) = value else {
        return Err(HttpError::InvalidType {
            param: path.into(),
            reason: "expected a ConstraintSpec, an object".into(),
        });
    };
    let mut take = |field: &str| fields.remove(field).filter(|value| !value.is_null());
    let text = |value: Option<Value>, field: &str| -> Result<Option<String>, HttpError> {
        value.map(|value| parse_value(&value, &join(path, field))).transpose()
    };
    let json_schema = take("json_schema").map(|schema| schema_of(schema, &join(path, "json_schema"))).transpose()?;
    let mut spec = Spec {
        json_schema,
        regex: text(take("regex"), "regex")?,
        negative_regex: text(take("negative_regex"), "negative_regex")?,
        ebnf: text(take("ebnf"), "ebnf")?.map(|source| Grammar { syntax: syntax_of(&source), source, start: None }),
        structural_tag: take("structural_tag"),
        rest: Imported { ir: ConstraintIr { name: path.into(), ..Default::default() }, lost: Vec::new() },
    };
    let max_tokens = take("max_tokens").map(|value| parse_value(&value, &join(path, "max_tokens"))).transpose()?;
    spec.rest.ir.limits = Limits { max_tokens, ..Limits::default() };
    if let Some(language) = take("language") {
        match serde_json::from_value::<Language>(language) {
            Ok(language) => spec.rest.ir.language = Some(language),
            Err(error) => spec.rest.note("language", &error.to_string()),
        }
    }
    for (field, value) in fields {
        if let Some((_, why)) = SPEC_HARD.iter().find(|(name, _)| *name == field) {
            if !asks_for_nothing(&value) {
                spec.rest.lost.push(NotApplied { id: field, why: (*why).into() });
            }
        } else if let Some((_, why)) = SPEC_MANNER.iter().find(|(name, _)| *name == field) {
            if !asks_for_nothing(&value) {
                spec.rest.note(&field, why);
            }
        } else if !SPEC_LABELS.contains(&field.as_str()) {
            let accepted = "no field of a ConstraintSpec".into();
            return Err(HttpError::UnknownParameter { param: join(path, &field), accepted });
        }
    }
    Ok(spec)
}

impl Imported {
    fn note(&mut self, id: &str, why: &str) {
        self.ir.not_applied.push(NotApplied { id: id.into(), why: why.into() });
    }
}

fn asks_for_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(values) => values.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mazes_json_becomes_an_ir() {
        let value = json!({
            "name": "user", "priority": 7,
            "json_schema": {"schema_type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]},
            "grammar": {"start_symbol": "pair", "rules": [
                {"lhs": "pair", "rhs": ["\"a\\n\"", "rest"]}, {"lhs": "rest", "rhs": []},
                {"lhs": "rest", "rhs": ["'\"'", "pair"]}]},
            "regex_patterns": [{"pattern": "a+", "flags": "i"}, {"pattern": "b"}],
            "token_masks": {"forbidden_tokens": [3]}
        });
        assert!(is_maze_json(&value));
        let Imported { ir, lost } = maze_json(&value, "constraint_ir").expect("well-formed");
        assert!(lost.is_empty());
        assert_eq!((ir.name.as_str(), ir.priority), ("user", 7));
        assert_eq!(ir.json_schema.expect("a schema")["additionalProperties"], false);
        let grammar = ir.grammar.expect("a grammar");
        assert_eq!(grammar.source, "root ::= r0\nr0 ::= \"a\\n\" r1\nr1 ::= \"\" | \"\\\"\" r0\n");
        assert_eq!((ir.regex_patterns.len(), ir.regex_patterns[0].any_of.len()), (1, 2));
        assert_eq!(ir.regex_patterns[0].match_mode, MatchMode::Full);
        assert_eq!(ir.token_masks.expect("masks").forbidden_tokens, Some(vec![3]));
    }

    #[test]
    fn an_ir_is_not_taken_for_mazes_json() {
        for ir in [
            json!({}),
            json!({"json_schema": {"type": "object", "properties": {"rules": {}}}}),
            json!({"grammar": {"syntax": "lark", "source": "start: \"rules\""}}),
            json!({"regex_patterns": [{"any_of": [{"pattern": "a"}], "match": "full"}]}),
        ] {
            assert!(!is_maze_json(&ir), "{ir}");
        }
    }

    #[test]
    fn a_terminal_that_nothing_defines_loses_the_grammar() {
        for symbol in ["IDENTIFIER", "(", "\"open", "a*"] {
            let grammar = json!({"grammar": {"start_symbol": "a", "rules": [{"lhs": "a", "rhs": [symbol]}]}});
            let Imported { ir, lost } = maze_json(&grammar, "constraint_ir").expect("well-formed");
            assert!(ir.grammar.is_none());
            assert!(lost[0].id == "grammar" && lost[0].why.contains(symbol), "{lost:?}");
        }
        for (value, param) in [
            (json!({"json_schema": {"schema_type": "map"}}), "constraint_ir.json_schema.schema_type"),
            (json!({"grammar": {"start_symbol": "b", "rules": []}}), "constraint_ir.grammar.start_symbol"),
            (json!({"grammar": {"start_symbol": "b", "rules": [{"lhs": "b"}]}}), "constraint_ir.grammar.rules[0].rhs"),
        ] {
            let wire = serde_json::to_value(maze_json(&value, "constraint_ir").expect_err(param).body());
            assert_eq!(wire.expect("errors serialize")["error"]["param"], param);
        }
    }

    #[test]
    fn a_spec_is_carried_or_listed() {
        let read = spec(
            json!({
                "version": "1.0", "json_schema": "{\"type\": \"object\"}", "regex": "^a", "negative_regex": "b",
                "ebnf": "root ::= \"a\"", "language": "python", "max_tokens": 9, "forbidden_imports": ["os"],
                "imports": [], "allow_relaxation": true, "expected_type": "str", "cache_scope": "syntax_only"
            }),
            "constraint_spec",
        )
        .expect("well-formed");
        assert_eq!(read.json_schema, Some(json!({"type": "object"})));
        assert_eq!((read.regex.as_deref(), read.negative_regex.as_deref()), (Some("^a"), Some("b")));
        assert_eq!(read.ebnf.expect("a grammar").syntax, GrammarSyntax::Gbnf);
        assert_eq!((read.rest.ir.language, read.rest.ir.limits.max_tokens), (Some(Language::Python), Some(9)));
        let mut lost: Vec<_> = read.rest.lost.iter().map(|part| part.id.as_str()).collect();
        lost.sort_unstable();
        assert_eq!(lost, ["expected_type", "forbidden_imports"]);
        assert_eq!(read.rest.ir.not_applied[0].id, "allow_relaxation");
    }

    #[test]
    fn a_field_that_a_spec_does_not_have_is_refused() {
        for (value, param) in [
            (json!({"regx": "a"}), "constraint_spec.regx"),
            (json!({"regex": 1}), "constraint_spec.regex"),
            (json!([]), "constraint_spec"),
        ] {
            let wire = serde_json::to_value(spec(value, "constraint_spec").expect_err(param).body());
            assert_eq!(wire.expect("errors serialize")["error"]["param"], param);
        }
    }
}
