//! vLLM's structural tags, in both shapes: `{structures, triggers}`, and xgrammar's `{format}`.
//!
//! A format that says exactly what an IR can say becomes that IR. One that does not is refused by name: nothing is
//! approximated.

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    body::parse_value,
    constraints::{escape, schema_of, syntax_of},
    error::HttpError,
};
use crate::maze::{ConstraintIr, FreeText, Grammar, MatchMode, RegexGroup, RegexPattern, Regions, Structure};

/// What a structural tag asks for.
#[derive(Debug)]
pub(crate) struct StructuralTag {
    /// The IR; empty for a format that binds nothing.
    pub(crate) ir: ConstraintIr,
    /// Where its structures were written, below the tag: `structures`, `format.tags`; empty: they are one, or none.
    pub(crate) list: String,
}

/// Reads the structural tag at `path`, an object or the text of one.
///
/// # Errors
/// A field of the wrong shape, or a format that an IR cannot say exactly.
pub(crate) fn read(value: Value, path: &str) -> Result<StructuralTag, HttpError> {
    let value = match value {
        Value::String(text) => serde_json::from_str(&text)
            .map_err(|error| HttpError::invalid_value(path, format!("not a structural tag: {error}")))?,
        value => value,
    };
    let Tag { format, structures, triggers, .. } = parse_value(&value, path)?;
    match (format, structures, triggers) {
        (Some(format), None, None) => read_format(&format, &format!("{path}.format")),
        (None, Some(structures), Some(triggers)) => {
            let structures: Result<_, _> = structures
                .into_iter()
                .enumerate()
                .map(|(idx, structure)| structure.lower(&format!("{path}.structures[{idx}]")))
                .collect();
            let regions = Regions { triggers, structures: structures?, ..Regions::default() };
            Ok(StructuralTag { ir: of_regions(regions), list: "structures".into() })
        }
        (Some(_), ..) => Err(HttpError::invalid_value(path, "give either `format`, or `structures` and `triggers`")),
        (None, None, _) => Err(HttpError::MissingParameter { param: format!("{path}.structures") }),
        (None, _, None) => Err(HttpError::MissingParameter { param: format!("{path}.triggers") }),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tag {
    #[serde(rename = "type")]
    _kind: Option<TagKind>,
    format: Option<Value>,
    structures: Option<Vec<LegacyStructure>>,
    triggers: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum TagKind {
    StructuralTag,
}

/// One of the older shape's `structures`; without a schema its content is any JSON document.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LegacyStructure {
    begin: String,
    schema: Option<Value>,
    end: String,
}

impl LegacyStructure {
    fn lower(self, path: &str) -> Result<Structure, HttpError> {
        let schema = schema_of(self.schema.unwrap_or_else(|| json!({})), &format!("{path}.schema"))?;
        Ok(Structure { begin: self.begin, end: self.end, json_schema: Some(schema), ..Structure::default() })
    }
}

/// xgrammar's `type` of a format, which says what its other fields are.
fn kind_of<'a>(format: &'a Value, path: &str) -> Result<&'a str, HttpError> {
    match format.get("type") {
        Some(Value::String(kind)) => Ok(kind),
        Some(_) => Err(HttpError::InvalidType { param: format!("{path}.type"), reason: "expected a string".into() }),
        None => Err(HttpError::MissingParameter { param: format!("{path}.type") }),
    }
}

/// The fields of a format, without its type.
fn fields<T: DeserializeOwned>(format: &Value, path: &str) -> Result<T, HttpError> {
    let mut format = format.clone();
    if let Value::Object(fields) = &mut format {
        fields.shift_remove("type");
    }
    parse_value(&format, path)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TriggeredTags {
    triggers: Vec<String>,
    tags: Vec<Value>,
    #[serde(default)]
    at_least_one: bool,
    #[serde(default)]
    stop_after_first: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TagsWithSeparator {
    tags: Vec<Value>,
    separator: String,
    #[serde(default)]
    at_least_one: bool,
    #[serde(default)]
    stop_after_first: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Elements {
    elements: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OneTag {
    begin: String,
    content: Value,
    end: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonSchema {
    json_schema: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Regex {
    pattern: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GrammarSource {
    grammar: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConstString {
    value: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnyText {}

fn read_format(format: &Value, path: &str) -> Result<StructuralTag, HttpError> {
    let with_list = |ir, list: &str| Ok(StructuralTag { ir, list: list.into() });
    let whole = Regions { free_text: FreeText::None, at_least_one: true, stop_after_first: true, ..Regions::default() };
    match kind_of(format, path)? {
        "triggered_tags" => {
            let TriggeredTags { triggers, tags, at_least_one, stop_after_first } = fields(format, path)?;
            // There, the tag that must be is the first thing of the output.
            let free_text = if at_least_one { FreeText::AfterFirst } else { FreeText::Anywhere };
            let structures = read_tags(&tags, &format!("{path}.tags"))?;
            let regions = Regions { triggers, structures, free_text, at_least_one, stop_after_first };
            with_list(of_regions(regions), "format.tags")
        }
        "tags_with_separator" => {
            let TagsWithSeparator { tags, separator, at_least_one, stop_after_first } = fields(format, path)?;
            if !(separator.is_empty() || stop_after_first) {
                let reason = "text between tags is not supported; write it into the `end` or the `begin`";
                return Err(HttpError::unsupported(format!("{path}.separator"), reason));
            }
            let structures = read_tags(&tags, &format!("{path}.tags"))?;
            with_list(of_regions(Regions { structures, at_least_one, stop_after_first, ..whole }), "format.tags")
        }
        "or" => {
            let Elements { elements } = fields(format, path)?;
            let structures = read_tags(&elements, &format!("{path}.elements"))?;
            with_list(of_regions(Regions { structures, ..whole }), "format.elements")
        }
        "tag" => {
            let structures = vec![read_tag(format, path)?];
            with_list(of_regions(Regions { structures, ..whole }), "")
        }
        "sequence" => {
            let Elements { elements } = fields(format, path)?;
            match elements.as_slice() {
                [only] => read_format(only, &format!("{path}.elements[0]")),
                _ => Err(HttpError::unsupported(
                    path,
                    "a sequence of several formats has no exact form; send a `grammar`",
                )),
            }
        }
        _ => match read_content(format, path)? {
            Structure { json_schema: Some(schema), .. } => with_list(ConstraintIr::from_json_schema(schema), ""),
            Structure { text: true, .. } => with_list(ConstraintIr::default(), ""),
            Structure { grammar, regex, .. } => {
                let group = |pattern| RegexGroup { any_of: vec![pattern], match_mode: MatchMode::Full };
                let regex_patterns = regex.into_iter().map(group).collect();
                with_list(ConstraintIr { grammar, regex_patterns, ..ConstraintIr::default() }, "")
            }
        },
    }
}

fn of_regions(regions: Regions) -> ConstraintIr {
    ConstraintIr { regions: Some(regions), ..ConstraintIr::default() }
}

fn read_tags(tags: &[Value], path: &str) -> Result<Vec<Structure>, HttpError> {
    tags.iter().enumerate().map(|(idx, tag)| read_tag(tag, &format!("{path}[{idx}]"))).collect()
}

/// A tag; where only tags may stand, its `type` may be left out.
fn read_tag(tag: &Value, path: &str) -> Result<Structure, HttpError> {
    if tag.get("type").is_some() && kind_of(tag, path)? != "tag" {
        return Err(HttpError::unsupported(format!("{path}.type"), "only a `tag` can stand here"));
    }
    let OneTag { begin, content, end } = fields(tag, path)?;
    Ok(Structure { begin, end, ..read_content(&content, &format!("{path}.content"))? })
}

/// A format without parts, as the content of a structure.
fn read_content(format: &Value, path: &str) -> Result<Structure, HttpError> {
    let structure = Structure::default();
    Ok(match kind_of(format, path)? {
        "json_schema" => {
            let JsonSchema { json_schema } = fields(format, path)?;
            Structure { json_schema: Some(json_schema), ..structure }
        }
        "regex" => {
            let Regex { pattern } = fields(format, path)?;
            Structure { regex: Some(RegexPattern { pattern, flags: String::new() }), ..structure }
        }
        "const_string" => {
            let ConstString { value } = fields(format, path)?;
            Structure { regex: Some(RegexPattern { pattern: escape(&value), flags: String::new() }), ..structure }
        }
        "grammar" => {
            let GrammarSource { grammar: source } = fields(format, path)?;
            Structure { grammar: Some(Grammar { syntax: syntax_of(&source), source, start: None }), ..structure }
        }
        "any_text" => {
            let AnyText {} = fields(format, path)?;
            Structure { text: true, ..structure }
        }
        other => {
            let reason = format!("a format `{other}` has no exact form here; send a `grammar` or a `constraint_ir`");
            return Err(HttpError::unsupported(format!("{path}.type"), reason));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regions(value: Value) -> Value {
        let tag = read(value, "structural_tag").unwrap_or_else(|error| panic!("{error}"));
        serde_json::to_value(tag.ir.regions.expect("regions")).expect("plain data")
    }

    #[test]
    fn both_shapes_become_regions() {
        let schema = json!({"type": "object", "properties": {"z": {}, "a": {}}});
        let expected = json!({"triggers": ["<f="], "structures": [
            {"begin": "<f=a>", "end": "</f>", "json_schema": schema}, {"begin": "<f=b>", "end": "</f>", "json_schema": {}}]});
        let legacy = json!({"type": "structural_tag", "triggers": ["<f="], "structures": [
            {"begin": "<f=a>", "schema": schema, "end": "</f>"}, {"begin": "<f=b>", "end": "</f>"}]});
        assert_eq!(regions(legacy.clone()), expected);
        assert_eq!(regions(Value::String(legacy.to_string())), expected);
        let tag = |name: &str, schema: Value| json!({"begin": format!("<f={name}>"), "content": {"type": "json_schema", "json_schema": schema}, "end": "</f>"});
        let mut format = json!({"type": "triggered_tags", "triggers": ["<f="],
            "tags": [tag("a", schema.clone()), tag("b", json!({}))]});
        assert_eq!(regions(json!({"type": "structural_tag", "format": format})), expected);
        format["at_least_one"] = json!(true);
        let first = regions(json!({"format": {"type": "sequence", "elements": [format]}}));
        assert_eq!((&first["at_least_one"], &first["free_text"]), (&json!(true), &json!("after_first")));
        let mut tag = tag("a", schema);
        tag["type"] = json!("tag");
        for format in [tag.clone(), json!({"type": "or", "elements": [tag]})] {
            let whole = regions(json!({ "format": format }));
            assert_eq!((&whole["free_text"], &whole["stop_after_first"]), (&json!("none"), &json!(true)));
        }
    }

    #[test]
    fn a_format_that_binds_the_whole_output_needs_no_regions() {
        let ir = |format: Value| {
            let tag = read(json!({ "format": format }), "tag").unwrap_or_else(|error| panic!("{error}"));
            tag.ir
        };
        assert!(ir(json!({"type": "any_text"})).is_empty());
        assert_eq!(ir(json!({"type": "json_schema", "json_schema": {"a": 1}})).json_schema, Some(json!({"a": 1})));
        assert_eq!(ir(json!({"type": "regex", "pattern": "a+"})).regex_patterns[0].any_of[0].pattern, "a+");
        assert_eq!(ir(json!({"type": "const_string", "value": "a+"})).regex_patterns[0].any_of[0].pattern, r"a\+");
        assert_eq!(
            ir(json!({"type": "grammar", "grammar": "start: \"a\""})).grammar.expect("one").source,
            "start: \"a\""
        );
    }

    #[test]
    fn what_has_no_exact_form_is_named() {
        let any = json!({"type": "any_text"});
        let tag = json!({"begin": "<", "content": any, "end": ">"});
        for (value, code, param) in [
            (json!({}), "missing_required_parameter", "t.structures"),
            (json!({"structures": []}), "missing_required_parameter", "t.triggers"),
            (
                json!({"structures": [{"begin": "a"}], "triggers": []}),
                "missing_required_parameter",
                "t.structures[0].end",
            ),
            (json!({"type": "json_object"}), "invalid_value", "t.type"),
            (json!({"format": {}}), "missing_required_parameter", "t.format.type"),
            (json!({"format": {"type": "qwen_xml_parameter"}}), "unsupported_parameter", "t.format.type"),
            (json!({"format": {"type": "any_text", "excludes": ["a"]}}), "unknown_parameter", "t.format.excludes"),
            (json!({"format": {"type": "sequence", "elements": [any, any]}}), "unsupported_parameter", "t.format"),
            (
                json!({"format": {"type": "or", "elements": [any]}}),
                "unsupported_parameter",
                "t.format.elements[0].type",
            ),
            (
                json!({"format": {"type": "tags_with_separator", "tags": [tag], "separator": ","}}),
                "unsupported_parameter",
                "t.format.separator",
            ),
            (
                json!({"format": {"type": "triggered_tags", "triggers": ["<"], "tags": [{"begin": "<", "end": ">",
                    "content": {"type": "sequence", "elements": []}}]}}),
                "unsupported_parameter",
                "t.format.tags[0].content.type",
            ),
            (json!("{"), "invalid_value", "t"),
        ] {
            let error = read(value.clone(), "t").expect_err(&value.to_string());
            let wire = serde_json::to_value(error.body()).expect("errors serialize");
            assert_eq!(
                (&wire["error"]["code"], &wire["error"]["param"]),
                (&json!(code), &json!(param)),
                "{value}: {wire}"
            );
        }
    }
}
