//! JSON Schema: everything that is checked before llguidance sees a schema, and the Lark source it becomes.
//!
//! llguidance recurses over a schema, ignores what its draft does not know, and leaves holes where two spellings of a
//! key are one key. So the schema is walked here first, with an explicit stack: sizes, nesting and reference chains are
//! bounded, keywords that assert something and cannot be enforced are refused with a JSON pointer, and white space and
//! escapes are narrowed.

use std::cell::Cell;
use std::collections::HashSet;

use llguidance::regex_to_lark;
use serde_json::{Map, Value, json};

use super::structural::Rejection;
use super::{GuideConfig, GuideError, classes, regex};
use crate::constraint::JsonWhitespace;

/// A schema that has passed every check of ours, as Lark source.
#[derive(Debug)]
pub(crate) struct CheckedSchema {
    part: String,
    pub(crate) lark: String,
    located: Vec<Located>,
}

/// Where a keyword stands that llguidance may yet refuse.
#[derive(Debug)]
struct Located {
    keyword: &'static str,
    pointer: String,
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
        let mut schema = match schema {
            Value::Bool(true) => json!({}),
            Value::Bool(false) => return Err(GuideError::Unsatisfiable { parts: vec![part.to_owned()] }),
            other => other.clone(),
        };
        let walk = Walk::over(part, &schema, config)?;
        let Walk { located, no_ops, open_objects, .. } = walk;
        for (pointer, keyword) in no_ops {
            if let Some(Value::Object(object)) = schema.pointer_mut(&pointer) {
                object.shift_remove(keyword);
            }
        }
        let escapes = if style.text_is_forbidden || open_objects { "nrbtf\\\"" } else { "nrbtf\\\"u" };
        let options = guidance_options(style.whitespace, escapes);
        let Value::Object(root) = &mut schema else {
            return Err(invalid(part, "", "a schema is an object or a boolean"));
        };
        root.insert("x-guidance".to_owned(), options);
        let lark = format!("%llguidance {{\"no_forcing\": true}}\nstart: %json {schema}\n");
        Ok(Self { part: part.to_owned(), lark, located })
    }

    /// Turns llguidance's refusal into one with a place in the schema.
    pub(crate) fn explain(&self, rejection: Rejection) -> GuideError {
        let message = match rejection {
            Rejection::Unsatisfiable => return GuideError::Unsatisfiable { parts: vec![self.part.clone()] },
            Rejection::TooLarge(what) => {
                return GuideError::TooLarge { part: self.part.clone(), what, size: 1, limit: 0 };
            }
            Rejection::Panic(message) => return GuideError::internal(&self.part, message),
            Rejection::Source { message, .. } => message,
        };
        let message = message.trim_start_matches("failed to compile JSON schema: ").to_owned();
        let named = self.located.iter().find(|located| message.contains(located.keyword));
        let (keyword, pointer, message) = match named {
            Some(Located { keyword: "oneOf", pointer }) => (
                "oneOf",
                pointer.as_str(),
                "its branches are not provably disjoint; tell them apart by type or by a required constant, or write anyOf"
                    .to_owned(),
            ),
            Some(located) => (located.keyword, located.pointer.as_str(), message),
            None => ("schema", "", message),
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

/// Keywords that assert something and cannot be enforced by a mask here.
const REFUSED: [(&str, &str); 20] = [
    ("not", "say what is allowed instead"),
    ("if", "write the cases as anyOf"),
    ("then", "write the cases as anyOf"),
    ("else", "write the cases as anyOf"),
    ("contains", "describe every item by `items`"),
    ("minContains", "describe every item by `items`"),
    ("maxContains", "describe every item by `items`"),
    ("propertyNames", "use `patternProperties` with `additionalProperties: false`"),
    ("dependencies", "write the cases as anyOf"),
    ("dependentRequired", "write the cases as anyOf"),
    ("dependentSchemas", "write the cases as anyOf"),
    ("unevaluatedItems", "use `items`"),
    ("unevaluatedProperties", "use `additionalProperties`"),
    ("uniqueItems", "a mask cannot compare items"),
    ("$recursiveRef", "use `$ref`"),
    ("$recursiveAnchor", "use `$ref`"),
    ("$dynamicRef", "use `$ref`"),
    ("$dynamicAnchor", "use `$ref`"),
    ("$vocabulary", "it belongs into a meta-schema"),
    ("x-guidance", "use the IR's `limits`"),
];

/// Formats that are enforced, by regular expressions.
const FORMATS: [&str; 10] =
    ["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"];

const COUNTS: [&str; 6] = ["minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"];

const DRAFTS: [&str; 5] = [
    "http://json-schema.org/draft-04/schema",
    "http://json-schema.org/draft-06/schema",
    "http://json-schema.org/draft-07/schema",
    "https://json-schema.org/draft/2019-09/schema",
    "https://json-schema.org/draft/2020-12/schema",
];

/// The walk over every schema that can be reached from the root.
struct Walk<'a> {
    part: &'a str,
    root: &'a Value,
    config: &'a GuideConfig,
    seen: HashSet<String>,
    num_refs: usize,
    /// Characters in the classes of all patterns so far.
    class_chars: Cell<u64>,
    located: Vec<Located>,
    no_ops: Vec<(String, &'static str)>,
    /// Whether some object has named properties and open ones beside them.
    open_objects: bool,
    stack: Vec<Frame<'a>>,
}

struct Frame<'a> {
    pointer: String,
    schema: &'a Value,
    ref_chain: usize,
}

impl<'a> Walk<'a> {
    fn over(part: &'a str, root: &'a Value, config: &'a GuideConfig) -> Result<Self, GuideError> {
        let mut walk = Self {
            part,
            root,
            config,
            seen: HashSet::new(),
            num_refs: 0,
            class_chars: Cell::new(0),
            located: Vec::new(),
            no_ops: Vec::new(),
            open_objects: false,
            stack: vec![Frame { pointer: String::new(), schema: root, ref_chain: 0 }],
        };
        while let Some(frame) = walk.stack.pop() {
            if walk.seen.insert(frame.pointer.clone()) {
                let before = walk.stack.len();
                walk.visit(&frame)?;
                // Children were pushed in order; the walk follows llguidance's, first child first.
                walk.stack[before..].reverse();
            }
        }
        Ok(walk)
    }

    fn visit(&mut self, frame: &Frame<'a>) -> Result<(), GuideError> {
        let schema = match frame.schema {
            Value::Bool(_) => return Ok(()),
            Value::Object(schema) => schema,
            _ => return Err(invalid(self.part, &frame.pointer, "a schema is an object or a boolean")),
        };
        for (keyword, value) in schema {
            let pointer = format!("{}/{}", frame.pointer, escape(keyword));
            self.keyword(frame, &pointer, keyword, value)?;
        }
        self.object_shape(frame, schema)
    }

    fn keyword(&mut self, frame: &Frame<'a>, pointer: &str, keyword: &str, value: &'a Value) -> Result<(), GuideError> {
        if keyword == "uniqueItems" && value == &Value::Bool(false) {
            self.no_ops.push((frame.pointer.clone(), "uniqueItems"));
            return Ok(());
        }
        if let Some((_, hint)) = REFUSED.iter().find(|(refused, _)| *refused == keyword) {
            return Err(self.unsupported(pointer, keyword, hint));
        }
        match keyword {
            "$schema" => self.draft(pointer, value),
            "$id" | "id"
                if !frame.pointer.is_empty() && value.is_string() && (keyword == "$id" || self.is_draft_4()) =>
            {
                Err(self.unsupported(pointer, keyword, "only the root may have an identifier"))
            }
            "$ref" => self.reference(frame, pointer, value),
            "allOf" | "anyOf" | "oneOf" | "prefixItems" => {
                if keyword == "prefixItems" && !self.is_draft_2020() {
                    return Err(self.unsupported(
                        pointer,
                        keyword,
                        "its draft has no such keyword; use an `items` array",
                    ));
                }
                if keyword == "oneOf" {
                    self.located.push(Located { keyword: "oneOf", pointer: pointer.to_owned() });
                }
                self.children_of_array(frame, pointer, value)
            }
            "items" if value.is_array() => self.children_of_array(frame, pointer, value),
            "items" | "additionalItems" | "additionalProperties" => {
                self.push(frame, pointer.to_owned(), value);
                Ok(())
            }
            "properties" | "patternProperties" => self.children_of_object(frame, pointer, keyword, value),
            "enum" => self.members(pointer, value),
            "pattern" => self.pattern(pointer, value),
            "format" => match value.as_str() {
                Some(format) if FORMATS.contains(&format) => Ok(()),
                _ => Err(self.unsupported(pointer, keyword, &format!("known are {}", FORMATS.join(", ")))),
            },
            _ if COUNTS.contains(&keyword) => self.count(pointer, keyword, value),
            _ if keyword.starts_with('$') && !["$defs", "$comment", "$anchor", "$id"].contains(&keyword) => {
                Err(self.unsupported(pointer, keyword, "it is no keyword of JSON Schema"))
            }
            _ => Ok(()),
        }
    }

    fn push(&mut self, parent: &Frame<'a>, pointer: String, schema: &'a Value) {
        self.stack.push(Frame { pointer, schema, ref_chain: parent.ref_chain });
    }

    fn children_of_array(&mut self, frame: &Frame<'a>, pointer: &str, value: &'a Value) -> Result<(), GuideError> {
        let Some(items) = value.as_array() else {
            return Err(invalid(self.part, pointer, "an array of schemas is expected"));
        };
        GuideError::check_size(
            self.part,
            &format!("number of members of {pointer}"),
            items.len(),
            self.config.max_schema_members,
        )?;
        for (idx, item) in items.iter().enumerate() {
            self.push(frame, format!("{pointer}/{idx}"), item);
        }
        Ok(())
    }

    fn children_of_object(
        &mut self,
        frame: &Frame<'a>,
        pointer: &str,
        keyword: &str,
        value: &'a Value,
    ) -> Result<(), GuideError> {
        let Some(members) = value.as_object() else {
            return Err(invalid(self.part, pointer, "an object of schemas is expected"));
        };
        GuideError::check_size(
            self.part,
            &format!("number of members of {pointer}"),
            members.len(),
            self.config.max_schema_members,
        )?;
        for (name, schema) in members {
            let pointer = format!("{pointer}/{}", escape(name));
            if keyword == "patternProperties" {
                self.located.push(Located { keyword: "patternProperty", pointer: pointer.clone() });
                self.check_pattern(&pointer, name)?;
            }
            self.push(frame, pointer, schema);
        }
        Ok(())
    }

    fn members(&self, pointer: &str, value: &Value) -> Result<(), GuideError> {
        let Some(members) = value.as_array() else {
            return Err(invalid(self.part, pointer, "an array of values is expected"));
        };
        GuideError::check_size(
            self.part,
            &format!("number of members of {pointer}"),
            members.len(),
            self.config.max_schema_members,
        )
    }

    fn pattern(&self, pointer: &str, value: &Value) -> Result<(), GuideError> {
        match value.as_str() {
            Some(pattern) => self.check_pattern(pointer, pattern),
            None => Err(invalid(self.part, pointer, "a pattern is a string")),
        }
    }

    /// `pattern` in the dialect that llguidance reads: ECMA with ASCII `\d` and `\w`, anchors at the ends only.
    fn check_pattern(&self, pointer: &str, pattern: &str) -> Result<(), GuideError> {
        let place = format!("{}#{pointer}", self.part);
        GuideError::check_size(&place, "bytes of the pattern", pattern.len(), self.config.max_regex_bytes)?;
        let pattern = regex_to_lark(pattern, "dw");
        classes::charge(&place, &pattern, false, &self.class_chars, self.config)?;
        let hir = regex_syntax::parse(&pattern)
            .map_err(|error| self.unsupported(pointer, "pattern", &regex::syntax_message(&error).1))?;
        regex::check_repetition(&place, &hir, self.config)?;
        if hir.properties().look_set().contains_word() {
            return Err(self.unsupported(pointer, "pattern", "word boundaries have no exact meaning inside a string"));
        }
        Ok(())
    }

    fn count(&mut self, pointer: &str, keyword: &str, value: &Value) -> Result<(), GuideError> {
        // `2.0` is an integer to JSON Schema; llguidance wants `2`.
        let Some(count) = value.as_u64() else {
            return Err(invalid(self.part, pointer, "a non-negative integer is expected"));
        };
        if count > self.config.max_schema_count {
            return Err(GuideError::TooLarge {
                part: format!("{}#{pointer}", self.part),
                what: keyword.to_owned(),
                size: count,
                limit: self.config.max_schema_count,
            });
        }
        if keyword.ends_with("Properties") {
            self.located.push(Located { keyword: "min/maxProperties", pointer: pointer.to_owned() });
        }
        Ok(())
    }

    /// What only the keywords of one object together tell.
    fn object_shape(&mut self, frame: &Frame<'a>, schema: &'a Map<String, Value>) -> Result<(), GuideError> {
        let is_open = schema.get("additionalProperties") != Some(&Value::Bool(false));
        let has_patterns =
            schema.get("patternProperties").and_then(Value::as_object).is_some_and(|map| !map.is_empty());
        let has_names = has_patterns
            || ["properties", "required"].iter().any(|keyword| match schema.get(*keyword) {
                Some(Value::Object(members)) => !members.is_empty(),
                Some(Value::Array(names)) => !names.is_empty(),
                _ => false,
            });
        self.open_objects |= has_names && (is_open || has_patterns);
        let min = schema.get("minProperties").and_then(Value::as_u64).unwrap_or(0);
        let num_required = schema.get("required").and_then(Value::as_array).map_or(0, Vec::len) as u64;
        if (is_open || has_patterns) && min > num_required + 1 {
            // Nothing keeps an open key from being written twice, which counts once.
            let pointer = format!("{}/minProperties", frame.pointer);
            return Err(self.unsupported(
                &pointer,
                "minProperties",
                "keys of open objects could repeat; require names",
            ));
        }
        Ok(())
    }

    fn reference(&mut self, frame: &Frame<'a>, pointer: &str, value: &Value) -> Result<(), GuideError> {
        let Some(reference) = value.as_str() else {
            return Err(invalid(self.part, pointer, "a reference is a string"));
        };
        let Some(target) = self.resolve(reference) else {
            let (keyword, why) = ("$ref", "it leads nowhere in this schema, and references are never fetched");
            return Err(self.unsupported(pointer, keyword, why));
        };
        let Some(schema) = self.root.pointer(&target) else {
            return Err(invalid(self.part, pointer, "the reference leads nowhere in this schema"));
        };
        let ref_chain = frame.ref_chain + 1;
        GuideError::check_size(self.part, "length of a chain of references", ref_chain, self.config.max_ref_chain)?;
        if !self.seen.contains(&target) {
            self.num_refs += 1;
            GuideError::check_size(self.part, "number of references", self.num_refs, self.config.max_refs)?;
            self.stack.push(Frame { pointer: target, schema, ref_chain });
        }
        Ok(())
    }

    /// The JSON pointer that a reference stands for, if it stays in this document.
    fn resolve(&self, reference: &str) -> Option<String> {
        let id = self.root.get("$id").and_then(Value::as_str).unwrap_or_default().trim_end_matches('#');
        let fragment = match reference.split_once('#') {
            Some((base, fragment)) if base.is_empty() || base == id => fragment,
            None if reference == id && !id.is_empty() => "",
            _ => return None,
        };
        let fragment = percent_decode(fragment)?;
        if fragment.is_empty() || fragment.starts_with('/') {
            return Some(fragment);
        }
        find_anchor(self.root, &fragment)
    }

    fn draft(&self, pointer: &str, value: &Value) -> Result<(), GuideError> {
        match value.as_str() {
            Some(draft) if pointer == "/$schema" && DRAFTS.contains(&draft.trim_end_matches('#')) => Ok(()),
            Some(_) if pointer != "/$schema" => {
                Err(self.unsupported(pointer, "$schema", "only the root may name its draft"))
            }
            _ => Err(self.unsupported(pointer, "$schema", &format!("known are {}", DRAFTS.join(", ")))),
        }
    }

    fn is_draft_2020(&self) -> bool {
        self.root.get("$schema").and_then(Value::as_str).is_none_or(|draft| draft.contains("2020-12"))
    }

    fn is_draft_4(&self) -> bool {
        self.root.get("$schema").and_then(Value::as_str).is_some_and(|draft| draft.contains("draft-04"))
    }

    fn unsupported(&self, pointer: &str, keyword: &str, message: &str) -> GuideError {
        GuideError::UnsupportedSchema {
            part: self.part.to_owned(),
            pointer: pointer.to_owned(),
            keyword: keyword.to_owned(),
            message: message.to_owned(),
        }
    }
}

/// A member's name as a step of a JSON pointer.
fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, tail @ ..] = rest {
        rest = tail;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let [high, low, tail @ ..] = rest else { return None };
        let digit = |byte: &u8| char::from(*byte).to_digit(16);
        bytes.push((digit(high)? * 16 + digit(low)?) as u8);
        rest = tail;
    }
    String::from_utf8(bytes).ok()
}

fn find_anchor(root: &Value, anchor: &str) -> Option<String> {
    let mut stack = vec![(String::new(), root)];
    while let Some((pointer, value)) = stack.pop() {
        match value {
            Value::Object(members) => {
                if members.get("$anchor").and_then(Value::as_str) == Some(anchor) {
                    return Some(pointer);
                }
                stack.extend(members.iter().map(|(name, value)| (format!("{pointer}/{}", escape(name)), value)));
            }
            Value::Array(items) => {
                stack.extend(items.iter().enumerate().map(|(idx, value)| (format!("{pointer}/{idx}"), value)));
            }
            _ => {}
        }
    }
    None
}

/// Checks a schema that stands inside a grammar as `%json {...}`.
pub(crate) fn check_nested(part: &str, schema: &Value, config: &GuideConfig) -> Result<(), GuideError> {
    check_size(part, schema, config)?;
    let walk = Walk::over(part, schema, config)?;
    if walk.open_objects {
        let message = "inside a grammar, an object with named properties needs `additionalProperties: false`";
        return Err(walk.unsupported("", "additionalProperties", message));
    }
    Ok(())
}
