//! From the many ways a request says what binds its answer to one list of IRs, all of which hold.
//!
//! Each IR remembers the field it came from, so that an error about `constraints[1].grammar` reaches the client as
//! `structured_outputs.grammar`, the path that it wrote.

use serde_json::{Value, json};

use super::{
    body::{join, parse_value},
    error::HttpError,
    openai::{ContextField, JsonSchemaFormat, ResponseFormat, ResponseFormatKind, StructuredOutputs},
    structural_tag::{self, StructuralTag},
};
use crate::maze::{self, ConstraintIr, Grammar, GrammarSyntax, MatchMode, RegexGroup, RegexPattern, SourceContext};

/// What binds an answer, with where in the request each IR came from.
#[derive(Debug, Default)]
pub(crate) struct Constraints {
    pub(crate) irs: Vec<ConstraintIr>,
    pub(crate) context: Option<SourceContext>,
    pub(crate) origins: Origins,
}

/// Where each IR of a request came from, by index.
#[derive(Debug, Default)]
pub(crate) struct Origins(Vec<Origin>);

/// Where an IR stood in the request.
#[derive(Debug)]
enum Origin {
    /// A whole IR, written by the client.
    Ir(String),
    /// A field that became the one part of an IR.
    Part(String),
    /// A structural tag, and where its structures stand below it.
    StructuralTag { path: String, list: String },
    /// Tools, and the place in `tools` of each structure's function.
    Tools { places: Vec<usize> },
}

impl Constraints {
    /// The IRs of `response_format`, `structured_outputs` and `constraint_ir`, in this order, and the context.
    ///
    /// # Errors
    /// A field that has the wrong shape, or asks for what is not supported.
    pub(crate) fn from_openai(
        response_format: Option<ResponseFormat>,
        structured_outputs: Option<StructuredOutputs>,
        constraint_ir: Option<Value>,
        context: Option<ContextField>,
    ) -> Result<Self, HttpError> {
        let mut constraints = Self::default();
        if let Some(format) = response_format {
            constraints.add_response_format(format)?;
        }
        if let Some(outputs) = structured_outputs {
            constraints.add_structured_outputs(outputs)?;
        }
        constraints.add_irs(constraint_ir, "constraint_ir")?;
        constraints.add_context(context);
        Ok(constraints)
    }

    /// The IRs of `constraints` in `POST /generate`, and the context.
    ///
    /// # Errors
    /// A value that is not an IR.
    pub(crate) fn from_generate(constraints: Option<Value>, context: Option<ContextField>) -> Result<Self, HttpError> {
        let mut all = Self::default();
        all.add_irs(constraints, "constraints")?;
        all.add_context(context);
        Ok(all)
    }

    /// Whether nothing binds the answer.
    pub(crate) fn is_empty(&self) -> bool {
        self.irs.is_empty() && self.context.is_none()
    }

    fn add_response_format(&mut self, format: ResponseFormat) -> Result<(), HttpError> {
        const SCHEMA: &str = "response_format.json_schema";
        if format.kind == ResponseFormatKind::StructuralTag {
            return self.add_structural_tag("response_format", format.structural_tag()?);
        }
        if let Some(field) = format.tag_field() {
            let param = format!("response_format.{field}");
            return Err(HttpError::invalid_value(param, "only goes with `type: structural_tag`"));
        }
        match (format.kind, format.json_schema) {
            (ResponseFormatKind::Text, None) => Ok(()),
            (ResponseFormatKind::JsonObject, None) => {
                self.add_schema("response_format", json!({"type": "object"}));
                Ok(())
            }
            (ResponseFormatKind::JsonSchema, Some(JsonSchemaFormat { name, schema, .. })) => {
                let ir = ConstraintIr { name, ..ConstraintIr::from_json_schema(schema) };
                self.add_part(&format!("{SCHEMA}.schema"), ir);
                Ok(())
            }
            (ResponseFormatKind::JsonSchema, None) => Err(HttpError::MissingParameter { param: SCHEMA.into() }),
            (_, Some(_)) => Err(HttpError::invalid_value(SCHEMA, "only goes with `type: json_schema`")),
            (ResponseFormatKind::StructuralTag, None) => Ok(()),
        }
    }

    fn add_structured_outputs(&mut self, outputs: StructuredOutputs) -> Result<(), HttpError> {
        const FIELD: &str = "structured_outputs";
        refuse_unsupported(&outputs)?;
        if let Some(schema) = outputs.json {
            let path = format!("{FIELD}.json");
            let schema = schema_of(schema, &path)?;
            self.add_schema(&path, schema);
        }
        if outputs.json_object == Some(true) {
            self.add_schema("structured_outputs.json_object", json!({"type": "object"}));
        }
        if let Some(pattern) = outputs.regex {
            self.add_regex("structured_outputs.regex", vec![pattern]);
        }
        if let Some(choices) = outputs.choice {
            if choices.is_empty() {
                return Err(HttpError::invalid_value("structured_outputs.choice", "needs at least one choice"));
            }
            self.add_regex("structured_outputs.choice", choices.iter().map(|choice| escape(choice)).collect());
        }
        if let Some(source) = outputs.grammar {
            let grammar = Grammar { syntax: syntax_of(&source), source, start: None };
            self.add_part("structured_outputs.grammar", ConstraintIr { grammar: Some(grammar), ..Default::default() });
        }
        if let Some(tag) = outputs.structural_tag.filter(|tag| !tag.is_null()) {
            self.add_structural_tag("structured_outputs.structural_tag", tag)?;
        }
        Ok(())
    }

    /// Adds what a structural tag asks for; an IR that binds nothing is left out.
    fn add_structural_tag(&mut self, path: &str, tag: Value) -> Result<(), HttpError> {
        let StructuralTag { ir, list } = structural_tag::read(tag, path)?;
        if ir.is_empty() {
            return Ok(());
        }
        let has_regions = ir.regions.is_some();
        self.irs.push(ConstraintIr { name: path.into(), ..ir });
        let path = path.to_owned();
        self.origins.0.push(if has_regions { Origin::StructuralTag { path, list } } else { Origin::Part(path) });
        Ok(())
    }

    fn add_irs(&mut self, value: Option<Value>, field: &str) -> Result<(), HttpError> {
        match value {
            None | Some(Value::Null) => Ok(()),
            Some(Value::Array(values)) => {
                values.iter().enumerate().try_for_each(|(index, value)| self.add_ir(value, format!("{field}[{index}]")))
            }
            Some(value) => self.add_ir(&value, field.into()),
        }
    }

    fn add_ir(&mut self, value: &Value, path: String) -> Result<(), HttpError> {
        if !value.is_object() {
            return Err(HttpError::InvalidType { param: path, reason: "expected a constraint IR, an object".into() });
        }
        self.irs.push(parse_value(value, &path)?);
        self.origins.0.push(Origin::Ir(path));
        Ok(())
    }

    /// What binds calls of tools: one structure for each function that may be called, whose place in `tools` is given.
    pub(crate) fn add_tools(&mut self, ir: ConstraintIr, places: Vec<usize>) {
        self.irs.push(ir);
        self.origins.0.push(Origin::Tools { places });
    }

    /// The maze mines the context and adds its IR behind those that are here.
    pub(crate) fn add_context(&mut self, field: Option<ContextField>) {
        let Some(ContextField { source, language, file, type_name }) = field else { return };
        let file = file.unwrap_or_else(|| "context".into());
        self.context = Some(SourceContext { source, language, file, type_name });
        self.origins.0.push(Origin::Part("context".into()));
    }

    fn add_schema(&mut self, path: &str, schema: Value) {
        self.add_part(path, ConstraintIr::from_json_schema(schema));
    }

    fn add_regex(&mut self, path: &str, patterns: Vec<String>) {
        let any_of = patterns.into_iter().map(|pattern| RegexPattern { pattern, flags: String::new() }).collect();
        let group = RegexGroup { any_of, match_mode: MatchMode::Full };
        self.add_part(path, ConstraintIr { regex_patterns: vec![group], ..Default::default() });
    }

    /// Adds an IR that `path` alone stands behind; unless it has a name, it is called by that path.
    fn add_part(&mut self, path: &str, mut ir: ConstraintIr) {
        if ir.name.is_empty() {
            ir.name = path.into();
        }
        self.irs.push(ir);
        self.origins.0.push(Origin::Part(path.into()));
    }
}

impl Origins {
    /// The error of the maze with the path that the client wrote.
    pub(crate) fn locate(&self, source: maze::Error) -> HttpError {
        let param = source.param().map(|param| self.path(&param).unwrap_or(param));
        HttpError::Maze { param, source: Box::new(source) }
    }

    /// `constraints[1].grammar.source` as the client wrote it; `None` for a path that is not about a constraint.
    ///
    /// Where there is only one IR, the maze names its parts without an index.
    fn path(&self, param: &str) -> Option<String> {
        let (index, rest) = match param.strip_prefix("constraints[").and_then(|rest| rest.split_once(']')) {
            Some((index, rest)) => (index.parse::<usize>().ok()?, rest.strip_prefix('.').unwrap_or(rest)),
            None if IR_PARTS.contains(&part_of(param)) => (0, param),
            None => return None,
        };
        match self.0.get(index)? {
            Origin::Ir(path) => Some(join(path, rest)),
            Origin::Part(path) => Some(join(path, rest.strip_prefix("json_schema").unwrap_or_default())),
            Origin::StructuralTag { path, list } => {
                let idx = rest.strip_prefix("regions.structures").filter(|_| !list.is_empty());
                let idx = idx.and_then(|rest| Some(&rest[..=rest.find(']')?]));
                Some(idx.map_or_else(|| path.clone(), |idx| format!("{path}.{list}{idx}")))
            }
            Origin::Tools { places } => {
                let idx =
                    rest.strip_prefix("regions.structures[").and_then(|rest| rest.split(']').next()?.parse().ok());
                let place = idx.and_then(|idx: usize| places.get(idx));
                Some(place.map_or_else(|| "tools".into(), |at| format!("tools[{at}].function.parameters")))
            }
        }
    }
}

/// The fields of an IR that an error may be about.
const IR_PARTS: [&str; 10] = [
    "version",
    "json_schema",
    "grammar",
    "regions",
    "regex_patterns",
    "token_masks",
    "forbidden_text",
    "soft",
    "limits",
    "digest",
];

/// `regex_patterns` of `regex_patterns[0].any_of`.
fn part_of(path: &str) -> &str {
    path.split(['[', '.', '#']).next().unwrap_or_default()
}

fn refuse_unsupported(outputs: &StructuredOutputs) -> Result<(), HttpError> {
    let unsupported = [
        ("whitespace_pattern", &outputs.whitespace_pattern, "send `limits.json_whitespace` in a `constraint_ir`"),
        ("disable_fallback", &outputs.disable_fallback, "there is no fallback: a constraint holds or is refused"),
        (
            "disable_any_whitespace",
            &outputs.disable_any_whitespace,
            "send `limits.json_whitespace` in a `constraint_ir`",
        ),
        ("disable_additional_properties", &outputs.disable_additional_properties, "say so in the schema"),
    ];
    match unsupported.iter().find(|(_, value, _)| value.as_ref().is_some_and(|value| !value.is_null())) {
        Some((field, _, reason)) => Err(HttpError::unsupported(format!("structured_outputs.{field}"), *reason)),
        None => Ok(()),
    }
}

/// vLLM takes a schema also as the text of one.
pub(super) fn schema_of(value: Value, path: &str) -> Result<Value, HttpError> {
    let Value::String(text) = value else { return Ok(value) };
    serde_json::from_str(&text).map_err(|error| HttpError::invalid_value(path, format!("not a JSON Schema: {error}")))
}

/// vLLM's `grammar` does not say how it is written.
pub(super) fn syntax_of(source: &str) -> GrammarSyntax {
    let mut definitions = source.lines().filter_map(|line| line.split_once("::=")).map(|(name, _)| name.trim());
    if !source.contains("::=") {
        GrammarSyntax::Lark
    } else if definitions.any(|name| name == "root") {
        GrammarSyntax::Gbnf
    } else {
        GrammarSyntax::Ebnf
    }
}

/// The pattern that matches `text` and nothing else.
pub(super) fn escape(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for character in text.chars() {
        if r"\.+*?()|[]{}^$#&-~".contains(character) {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outputs(value: Value) -> Result<Constraints, HttpError> {
        Constraints::from_openai(None, Some(parse_value(&value, "structured_outputs")?), None, None)
    }

    #[test]
    fn fields_given_together_all_become_irs() {
        let format = parse_value(
            &json!({"type": "json_schema", "json_schema": {"name": "order", "schema": {"type": "object"}}}),
            "response_format",
        )
        .expect("well-formed");
        let structured = parse_value(&json!({"regex": "[a-z]+", "choice": ["a.b", "c"]}), "structured_outputs")
            .expect("well-formed");
        let ir = json!([{"forbidden_text": [{"text": "TODO"}]}, {"token_masks": {"forbidden_tokens": [5]}}]);
        let all = Constraints::from_openai(Some(format), Some(structured), Some(ir), None).expect("all valid");
        assert_eq!(all.irs.len(), 5);
        assert_eq!(all.irs[0].name, "order");
        assert_eq!(all.irs[2].regex_patterns[0].any_of[0].pattern, r"a\.b");
        assert_eq!(all.irs[2].regex_patterns[0].match_mode, MatchMode::Full);
        for (inner, outer) in [
            ("constraints[0].json_schema.properties.a", "response_format.json_schema.schema.properties.a"),
            ("constraints[1].regex_patterns[0]", "structured_outputs.regex"),
            ("constraints[3].forbidden_text[0].text", "constraint_ir[0].forbidden_text[0].text"),
            ("constraints[4]", "constraint_ir[1]"),
        ] {
            assert_eq!(all.origins.path(inner).as_deref(), Some(outer));
        }
        assert_eq!(all.origins.path("max_tokens"), None);
    }

    #[test]
    fn a_structural_tag_is_named_by_where_its_structures_were_written() {
        let structure = json!({"begin": "<a>", "schema": {}, "end": "</a>"});
        let legacy = json!({"structural_tag": {"structures": [structure], "triggers": ["<a>"]}});
        let all = outputs(legacy).expect("well-formed");
        assert!(all.irs[0].regions.is_some());
        let path = |inner| all.origins.path(inner);
        assert_eq!(
            path("regions.structures[0].json_schema").as_deref(),
            Some("structured_outputs.structural_tag.structures[0]")
        );
        assert_eq!(path("regions").as_deref(), Some("structured_outputs.structural_tag"));
        let nothing = outputs(json!({"structural_tag": {"format": {"type": "any_text"}}})).expect("well-formed");
        assert!(nothing.is_empty());
    }

    #[test]
    fn the_syntax_of_a_grammar_is_told_by_its_definitions() {
        for (source, syntax) in [
            ("root ::= \"a\"", GrammarSyntax::Gbnf),
            ("item ::= \"a\"\nroot  ::= item+", GrammarSyntax::Gbnf),
            ("start ::= \"a\"", GrammarSyntax::Ebnf),
            ("start: \"a\"", GrammarSyntax::Lark),
        ] {
            assert_eq!(syntax_of(source), syntax, "{source}");
        }
    }

    #[test]
    fn what_is_not_supported_is_named() {
        for (value, param) in [
            (
                json!({"structural_tag": {"format": {"type": "or"}}}),
                "structured_outputs.structural_tag.format.elements",
            ),
            (json!({"whitespace_pattern": " "}), "structured_outputs.whitespace_pattern"),
            (json!({"choice": []}), "structured_outputs.choice"),
            (json!({"json": "{"}), "structured_outputs.json"),
            (json!({"jsn": {}}), "structured_outputs.jsn"),
        ] {
            let wire = serde_json::to_value(outputs(value).expect_err(param).body()).expect("errors serialize");
            assert_eq!(wire["error"]["param"], param);
        }
    }

    #[test]
    fn an_ir_is_checked_with_its_path() {
        let error = Constraints::from_generate(Some(json!([{}, {"grammar": {"syntax": "peg", "source": ""}}])), None)
            .expect_err("peg is not a syntax");
        let wire = serde_json::to_value(error.body()).expect("errors serialize");
        assert_eq!(wire["error"]["param"], "constraints[1].grammar.syntax");
    }
}
