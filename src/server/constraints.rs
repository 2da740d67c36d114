//! From the many ways a request says what binds its answer to one list of IRs, all of which hold.
//!
//! Each IR remembers the field it came from, so that an error about `constraints[1].grammar` reaches the client as
//! `structured_outputs.grammar`, the path that it wrote. docs/constraints-in-requests.md lists the fields.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

pub(crate) use super::origins::Origins;
use super::{
    body::parse_value,
    dialects::{self, Imported},
    error::HttpError,
    openai::{ContextField, JsonSchemaFormat, ResponseFormat, ResponseFormatKind, StructuredOutputs},
    origins::{Origin, SetOrigin},
    profiles::{Profiles, Words},
    structural_tag::{self, StructuralTag},
};
use crate::maze::{
    CompileOptions, Constraint, ConstraintIr, ConstraintSet, Diagnostic, GenerateRequest, Grammar, GrammarSyntax,
    MatchMode, Profile, RegexGroup, RegexPattern, Resolution, RuleSet, SourceContext, Strategy,
};

/// The fields of a request that say what binds its answer, as they were written.
#[derive(Debug, Default)]
pub(crate) struct ConstraintFields {
    pub(crate) response_format: Option<ResponseFormat>,
    pub(crate) structured_outputs: Option<StructuredOutputs>,
    pub(crate) guided_json: Option<Value>,
    pub(crate) guided_regex: Option<String>,
    pub(crate) guided_choice: Option<Vec<String>>,
    pub(crate) guided_grammar: Option<String>,
    pub(crate) guided_whitespace_pattern: Option<String>,
    pub(crate) grammar: Option<String>,
    pub(crate) json_schema: Option<Value>,
    pub(crate) constraint_ir: Option<Value>,
    pub(crate) constraint_spec: Option<Value>,
    pub(crate) constraints: Option<Value>,
    pub(crate) context: Option<ContextField>,
    pub(crate) profile: Option<String>,
    pub(crate) strict: Option<bool>,
}

/// What binds an answer, with where in the request each IR came from.
#[derive(Debug, Default)]
pub(crate) struct Constraints {
    pub(crate) irs: Vec<ConstraintIr>,
    pub(crate) rules: Option<RuleSet>,
    pub(crate) context: Option<SourceContext>,
    pub(crate) profiles: Vec<Arc<Profile>>,
    pub(crate) origins: Origins,
    /// Whether an older shape is refused when a hard part of it would be lost.
    strict: bool,
}

/// A constraint set in a request, beside it what `ananke compile` is told by flags.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetField {
    #[serde(default)]
    name: String,
    constraints: Vec<Constraint>,
    /// What an extractor skipped; a set may come from one.
    #[serde(default)]
    diagnostics: Vec<Diagnostic>,
    security: Option<Words>,
    #[serde(rename = "type")]
    type_name: Option<String>,
    #[serde(default)]
    strategy: Strategy,
    #[serde(default)]
    resolutions: Vec<Resolution>,
}

impl Constraints {
    /// What the fields ask for, in the order in which they stand in [`ConstraintFields`]. The rules and the context
    /// come behind all IRs, and the profiles behind them.
    ///
    /// # Errors
    /// A field that has the wrong shape, or asks for what is not supported or not there.
    pub(crate) fn read(fields: ConstraintFields, profiles: Option<&Profiles>) -> Result<Self, HttpError> {
        let mut all = Self { strict: fields.strict != Some(false), ..Self::default() };
        if let Some(format) = fields.response_format {
            all.add_response_format(format)?;
        }
        if let Some(outputs) = fields.structured_outputs {
            all.add_structured_outputs(outputs)?;
        }
        if fields.guided_whitespace_pattern.is_some() {
            return Err(HttpError::unsupported("guided_whitespace_pattern", WHITESPACE));
        }
        all.add_json("guided_json", fields.guided_json)?;
        all.add_regex("guided_regex", fields.guided_regex, MatchMode::Full);
        all.add_choice("guided_choice", fields.guided_choice)?;
        all.add_grammar("guided_grammar", fields.guided_grammar.map(guessed));
        // llama.cpp's clients send an empty text where there is no grammar.
        let gbnf = |source| Grammar { syntax: GrammarSyntax::Gbnf, source, start: None };
        all.add_grammar("grammar", fields.grammar.filter(|source| !source.is_empty()).map(gbnf));
        all.add_json("json_schema", fields.json_schema)?;
        all.add_irs(fields.constraint_ir, "constraint_ir")?;
        if let Some(spec) = fields.constraint_spec {
            all.add_spec(spec)?;
        }
        match fields.constraints {
            Some(value) if value.get("constraints").is_some() => all.add_set(&value)?,
            value => all.add_irs(value, "constraints")?,
        }
        all.add_context(fields.context)?;
        all.add_profile(fields.profile, profiles)?;
        Ok(all)
    }

    /// Whether nothing binds the answer.
    pub(crate) fn is_empty(&self) -> bool {
        self.irs.is_empty() && self.rules.is_none() && self.context.is_none() && self.profiles.is_empty()
    }

    /// A request that these bind, and where they were written; `fields` is the rest of it.
    pub(crate) fn bind(self, fields: GenerateRequest) -> (GenerateRequest, Origins) {
        let Self { irs, rules, context, profiles, origins, .. } = self;
        (GenerateRequest { constraints: irs, rules, context, profiles, ..fields }, origins)
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
        refuse_unsupported(&outputs)?;
        self.add_json("structured_outputs.json", outputs.json)?;
        if outputs.json_object == Some(true) {
            self.add_schema("structured_outputs.json_object", json!({"type": "object"}));
        }
        self.add_regex("structured_outputs.regex", outputs.regex, MatchMode::Full);
        self.add_choice("structured_outputs.choice", outputs.choice)?;
        self.add_grammar("structured_outputs.grammar", outputs.grammar.map(guessed));
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
        self.origins.push(if has_regions { Origin::StructuralTag { path, list } } else { Origin::Part(path) });
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
        if dialects::is_maze_json(value) {
            let imported = dialects::maze_json(value, &path)?;
            return self.add_imported(imported, path);
        }
        self.irs.push(parse_value(value, &path)?);
        self.origins.push(Origin::Ir(path));
        Ok(())
    }

    /// Adds what an older shape became, with what it lost among `not_applied`.
    fn add_imported(&mut self, imported: Imported, path: String) -> Result<(), HttpError> {
        let Imported { mut ir, lost } = imported;
        if self.strict && !lost.is_empty() {
            return Err(HttpError::PartLost { param: path, lost });
        }
        ir.not_applied.extend(lost);
        self.irs.push(ir);
        self.origins.push(Origin::Ir(path));
        Ok(())
    }

    fn add_spec(&mut self, value: Value) -> Result<(), HttpError> {
        const FIELD: &str = "constraint_spec";
        let spec = dialects::spec(value, FIELD)?;
        self.add_json("constraint_spec.json_schema", spec.json_schema)?;
        self.add_regex("constraint_spec.regex", spec.regex, MatchMode::Prefix);
        self.add_regex("constraint_spec.negative_regex", spec.negative_regex, MatchMode::Absent);
        self.add_grammar("constraint_spec.ebnf", spec.ebnf);
        if let Some(tag) = spec.structural_tag {
            self.add_structural_tag("constraint_spec.structural_tag", tag)?;
        }
        self.add_imported(spec.rest, FIELD.into())
    }

    /// The maze compiles the set and adds its IR behind those that are here.
    fn add_set(&mut self, value: &Value) -> Result<(), HttpError> {
        const FIELD: &str = "constraints";
        let SetField { name, constraints, diagnostics, security, type_name, strategy, resolutions } =
            parse_value(value, FIELD)?;
        let id_and_name = |rule: &Constraint| (Constraint::id_of(&rule.rule), rule.name.clone());
        let rules = constraints.iter().map(id_and_name).collect();
        let mut set = ConstraintSet { name, constraints, diagnostics };
        if let Some(words) = security {
            words
                .add_to(&mut set)
                .map_err(|error| HttpError::invalid_value("constraints.security", error.to_string()))?;
        }
        let options = CompileOptions { root_type: type_name, strategy, resolutions };
        self.rules = Some(RuleSet { set, options });
        self.origins.set_compiled(Origin::Set(SetOrigin { rules, has_context: false }));
        Ok(())
    }

    /// What binds calls of tools: one structure for each function that may be called, whose place in `tools` is given.
    pub(crate) fn add_tools(&mut self, ir: ConstraintIr, places: Vec<usize>) {
        self.irs.push(ir);
        self.origins.push(Origin::Tools { places });
    }

    /// The maze mines the context, and what it mines becomes one set with the rules.
    fn add_context(&mut self, field: Option<ContextField>) -> Result<(), HttpError> {
        let Some(ContextField { source, language, file, type_name }) = field else { return Ok(()) };
        let wanted = self.rules.as_ref().and_then(|rules| rules.options.root_type.as_ref());
        if type_name.is_some() && wanted.is_some() && type_name.as_ref() != wanted {
            return Err(HttpError::invalid_value("constraints.type", "`context.type` names another type"));
        }
        let file = file.unwrap_or_else(|| "context".into());
        self.context = Some(SourceContext { source, language, file, type_name });
        self.origins.add_context();
        Ok(())
    }

    fn add_profile(&mut self, name: Option<String>, profiles: Option<&Profiles>) -> Result<(), HttpError> {
        let Some(name) = name else { return Ok(()) };
        let found = profiles.and_then(|profiles| profiles.find(&name));
        let unknown = || HttpError::invalid_value("profile", format!("this server has no profile `{name}`"));
        self.profiles.push(found.ok_or_else(unknown)?);
        Ok(())
    }

    fn add_json(&mut self, path: &str, schema: Option<Value>) -> Result<(), HttpError> {
        if let Some(schema) = schema {
            let schema = schema_of(schema, path)?;
            self.add_schema(path, schema);
        }
        Ok(())
    }

    fn add_schema(&mut self, path: &str, schema: Value) {
        self.add_part(path, ConstraintIr::from_json_schema(schema));
    }

    fn add_choice(&mut self, path: &str, choices: Option<Vec<String>>) -> Result<(), HttpError> {
        let Some(choices) = choices else { return Ok(()) };
        if choices.is_empty() {
            return Err(HttpError::invalid_value(path, "needs at least one choice"));
        }
        self.add_regexes(path, choices.iter().map(|choice| escape(choice)).collect(), MatchMode::Full);
        Ok(())
    }

    fn add_regex(&mut self, path: &str, pattern: Option<String>, match_mode: MatchMode) {
        if let Some(pattern) = pattern {
            self.add_regexes(path, vec![pattern], match_mode);
        }
    }

    fn add_regexes(&mut self, path: &str, patterns: Vec<String>, match_mode: MatchMode) {
        let any_of = patterns.into_iter().map(|pattern| RegexPattern { pattern, flags: String::new() }).collect();
        let group = RegexGroup { any_of, match_mode };
        self.add_part(path, ConstraintIr { regex_patterns: vec![group], ..Default::default() });
    }

    fn add_grammar(&mut self, path: &str, grammar: Option<Grammar>) {
        if grammar.is_some() {
            self.add_part(path, ConstraintIr { grammar, ..Default::default() });
        }
    }

    /// Adds an IR that `path` alone stands behind; unless it has a name, it is called by that path.
    fn add_part(&mut self, path: &str, mut ir: ConstraintIr) {
        if ir.name.is_empty() {
            ir.name = path.into();
        }
        self.irs.push(ir);
        self.origins.push(Origin::Part(path.into()));
    }
}

/// Why a pattern of white space is not taken.
const WHITESPACE: &str = "send `limits.json_whitespace` in a `constraint_ir`";

/// A grammar that does not say how it is written.
fn guessed(source: String) -> Grammar {
    Grammar { syntax: syntax_of(&source), source, start: None }
}

fn refuse_unsupported(outputs: &StructuredOutputs) -> Result<(), HttpError> {
    let unsupported = [
        ("whitespace_pattern", &outputs.whitespace_pattern, WHITESPACE),
        ("disable_fallback", &outputs.disable_fallback, "there is no fallback: a constraint holds or is refused"),
        ("disable_any_whitespace", &outputs.disable_any_whitespace, WHITESPACE),
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

    fn read(fields: ConstraintFields) -> Result<Constraints, HttpError> {
        Constraints::read(fields, None)
    }

    fn param(error: HttpError) -> Value {
        serde_json::to_value(error.body()).expect("errors serialize")["error"]["param"].take()
    }

    fn outputs(value: Value) -> Result<Constraints, HttpError> {
        let structured_outputs = Some(parse_value(&value, "structured_outputs")?);
        read(ConstraintFields { structured_outputs, ..Default::default() })
    }

    #[test]
    fn fields_given_together_all_become_irs() {
        let format = json!({"type": "json_schema", "json_schema": {"name": "order", "schema": {"type": "object"}}});
        let structured = json!({"regex": "[a-z]+", "choice": ["a.b", "c"]});
        let all = read(ConstraintFields {
            response_format: Some(parse_value(&format, "response_format").expect("well-formed")),
            structured_outputs: Some(parse_value(&structured, "structured_outputs").expect("well-formed")),
            constraint_ir: Some(
                json!([{"forbidden_text": [{"text": "TODO"}]}, {"token_masks": {"forbidden_tokens": [5]}}]),
            ),
            ..Default::default()
        })
        .expect("all valid");
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
    fn older_fields_and_llama_cpps_are_read_as_they_are_meant() {
        let all = read(ConstraintFields {
            guided_json: Some(json!("{\"type\": \"object\"}")),
            guided_regex: Some("a+".into()),
            guided_choice: Some(vec!["a|b".into()]),
            guided_grammar: Some("start: \"a\"".into()),
            grammar: Some("root ::= \"a\"".into()),
            json_schema: Some(json!({"type": "string"})),
            ..Default::default()
        })
        .expect("all valid");
        let names: Vec<_> = all.irs.iter().map(|ir| ir.name.as_str()).collect();
        let fields = ["guided_json", "guided_regex", "guided_choice", "guided_grammar", "grammar", "json_schema"];
        assert_eq!(names, fields);
        assert_eq!(all.irs[0].json_schema, Some(json!({"type": "object"})));
        assert_eq!(all.irs[1].regex_patterns[0].match_mode, MatchMode::Full);
        assert_eq!(all.irs[2].regex_patterns[0].any_of[0].pattern, r"a\|b");
        let syntax = |ir: &ConstraintIr| ir.grammar.as_ref().map(|grammar| grammar.syntax);
        assert_eq!(syntax(&all.irs[3]), Some(GrammarSyntax::Lark));
        assert_eq!(syntax(&all.irs[4]), Some(GrammarSyntax::Gbnf));
        assert_eq!(all.origins.path("constraints[4].grammar").as_deref(), Some("grammar"));
        assert_eq!(all.origins.path("constraints[5].json_schema.type").as_deref(), Some("json_schema.type"));
        assert!(
            read(ConstraintFields { grammar: Some(String::new()), ..Default::default() }).expect("none").is_empty()
        );
        let pattern = ConstraintFields { guided_whitespace_pattern: Some(" ?".into()), ..Default::default() };
        assert_eq!(param(read(pattern).expect_err("it cannot be exact")), "guided_whitespace_pattern");
    }

    #[test]
    fn a_set_is_told_from_irs_and_its_rules_keep_their_places() {
        let rule = |text: &str| {
            json!({"name": text, "kind": "security", "source": "user_defined",
            "rule": {"type": "forbidden_text", "any_of": [{"text": text}]}})
        };
        let set = json!({"constraints": [rule("a"), rule("b")], "security": "sql=text", "strategy": "refuse"});
        let all = read(ConstraintFields { constraints: Some(set), ..Default::default() }).expect("a set");
        let rules = all.rules.expect("a set");
        assert!(all.irs.is_empty() && rules.set.constraints.len() > 2);
        assert_eq!(rules.options.strategy, Strategy::Refuse);
        let id = Constraint::id_of(&rules.set.constraints[1].rule);
        let path = |part: &str| all.origins.path(&format!("constraints[0].{part}"));
        assert_eq!(path(&format!("sources.{id}")).as_deref(), Some("constraints.constraints[1]"));
        assert_eq!(path("forbidden_text[7]").as_deref(), Some("constraints"));
        let irs = json!([{}, {"forbidden_text": [{"text": "a"}]}]);
        let all = read(ConstraintFields { constraints: Some(irs), ..Default::default() }).expect("two IRs");
        assert!(all.irs.len() == 2 && all.rules.is_none());
        for (set, place) in [
            (json!({"constraints": [], "strategy": "assisted"}), "constraints.strategy"),
            (json!({"constraints": [], "security": "sqli"}), "constraints.security"),
            (json!({"constraints": [rule("a"), {"name": "b"}]}), "constraints.constraints[1].kind"),
            (json!({"constraints": [], "rules": []}), "constraints.rules"),
        ] {
            let fields = ConstraintFields { constraints: Some(set), ..Default::default() };
            assert_eq!(param(read(fields).expect_err(place)), place);
        }
    }

    #[test]
    fn an_older_shape_that_would_lose_a_hard_part_is_refused_unless_told_otherwise() {
        let spec = json!({"regex": "^a", "forbidden_imports": ["os"]});
        let maze = json!({"grammar": {"start_symbol": "a", "rules": [{"lhs": "a", "rhs": ["NAME"]}]}});
        for (spec, maze, path, lost) in
            [(Some(spec), None, "constraint_spec", "forbidden_imports"), (None, Some(maze), "constraint_ir", "grammar")]
        {
            let fields = |strict| ConstraintFields {
                constraint_spec: spec.clone(),
                constraint_ir: maze.clone(),
                strict,
                ..Default::default()
            };
            for strict in [None, Some(true)] {
                let error = read(fields(strict)).expect_err("a hard part is lost");
                assert!(error.to_string().contains(lost), "{error}");
                assert_eq!(param(error), path);
            }
            let all = read(fields(Some(false))).expect("it is told to go on");
            assert_eq!(all.irs.last().expect("an IR").not_applied[0].id, lost);
        }
    }

    #[test]
    fn a_profile_that_is_not_there_is_an_error() {
        let fields = ConstraintFields { profile: Some("strict".into()), ..Default::default() };
        assert_eq!(param(read(fields).expect_err("there is none")), "profile");
    }

    #[test]
    fn an_ir_is_checked_with_its_path() {
        let irs = Some(json!([{}, {"grammar": {"syntax": "peg", "source": ""}}]));
        let error = read(ConstraintFields { constraints: irs, ..Default::default() }).expect_err("peg is not a syntax");
        assert_eq!(param(error), "constraints[1].grammar.syntax");
    }
}
