//! The walk over a schema before anything else touches it: sizes, references, and which keywords may stand.
//!
//! It keeps an explicit stack. What it lets through is well-formed, of one known draft, and leads nowhere outside the
//! document.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};

use llguidance::regex_to_lark;
use serde_json::{Map, Value};

use super::pattern::from_ecma;
use super::reference::Resources;
use super::shape::Decimal;
use super::{escape, format, invalid};
use crate::guide::{GuideConfig, GuideError, classes, regex};

/// Where a keyword stands that llguidance may yet refuse.
#[derive(Debug)]
pub(super) struct Located {
    pub(super) keyword: &'static str,
    pub(super) pointer: String,
}

/// Keywords that are refused.
const REFUSED: [(&str, &str); 10] = [
    ("$recursiveRef", "use `$ref`"),
    ("$recursiveAnchor", "use `$ref`"),
    ("$dynamicRef", "use `$ref`"),
    ("$dynamicAnchor", "use `$ref`"),
    ("$vocabulary", "it belongs into a meta-schema"),
    ("x-guidance", "use the IR's `limits`"),
    ("disallow", "it is of draft 3; use `not`"),
    ("divisibleBy", "it is of draft 3; use `multipleOf`"),
    ("extends", "it is of draft 3; use `allOf`"),
    ("nullable", "it is of OpenAPI and not of JSON Schema; add \"null\" to `type`"),
];

/// Keywords that are lowered, which a schema inside a grammar is not.
const LOWERED: [(&str, &str); 14] = [
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
];

/// Keywords that a draft before the one named here does not know.
const SINCE: [(&str, u32); 16] = [
    ("const", 6),
    ("contains", 6),
    ("propertyNames", 6),
    ("if", 7),
    ("then", 7),
    ("else", 7),
    ("$anchor", 2019),
    ("$defs", 2019),
    ("dependentRequired", 2019),
    ("dependentSchemas", 2019),
    ("maxContains", 2019),
    ("minContains", 2019),
    ("unevaluatedItems", 2019),
    ("unevaluatedProperties", 2019),
    ("prefixItems", 2020),
    ("$dynamicRef", 2020),
];

/// Keywords that say nothing without another.
const COMPANIONS: [(&str, &str); 4] =
    [("then", "if"), ("else", "if"), ("minContains", "contains"), ("maxContains", "contains")];

/// Keywords that say nothing about a value.
const SILENT: [&str; 14] = [
    "$ref",
    "$defs",
    "definitions",
    "$schema",
    "$id",
    "id",
    "$comment",
    "title",
    "description",
    "default",
    "readOnly",
    "writeOnly",
    "examples",
    "deprecated",
];

const COUNTS: [&str; 8] =
    ["minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties", "minContains", "maxContains"];

/// Formats that llguidance knows, for schemas inside a grammar.
const NESTED_FORMATS: [&str; 10] =
    ["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"];

const TYPES: [&str; 7] = ["null", "boolean", "integer", "number", "string", "array", "object"];

const DRAFTS: [&str; 5] = [
    "http://json-schema.org/draft-04/schema",
    "http://json-schema.org/draft-06/schema",
    "http://json-schema.org/draft-07/schema",
    "https://json-schema.org/draft/2019-09/schema",
    "https://json-schema.org/draft/2020-12/schema",
];

/// Which keywords may stand in a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Those that are lowered.
    Lowered,
    /// Those that llguidance reads itself.
    Nested,
}

/// The walk over every schema that can be reached from the root.
pub(super) struct Walk<'a> {
    part: &'a str,
    root: &'a Value,
    config: &'a GuideConfig,
    dialect: Dialect,
    resources: Resources,
    seen: HashSet<String>,
    num_refs: usize,
    pub(super) located: Vec<Located>,
    /// From the pointer of a `$ref` to that of its target.
    pub(super) targets: HashMap<String, String>,
    /// Characters in the classes of all patterns so far.
    class_chars: Cell<u64>,
    /// Whether some object has named properties and open ones beside them.
    pub(super) open_objects: bool,
    stack: Vec<Frame<'a>>,
}

struct Frame<'a> {
    pointer: String,
    schema: &'a Value,
    ref_chain: usize,
}

impl<'a> Walk<'a> {
    pub(super) fn over(
        part: &'a str,
        root: &'a Value,
        dialect: Dialect,
        config: &'a GuideConfig,
    ) -> Result<Self, GuideError> {
        let mut walk = Self {
            part,
            root,
            config,
            dialect,
            resources: Resources::of(root),
            seen: HashSet::new(),
            num_refs: 0,
            class_chars: Cell::new(0),
            located: Vec::new(),
            targets: HashMap::new(),
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
            self.may_stand(schema, &pointer, keyword, value)?;
            self.keyword(frame, &pointer, keyword, value)?;
        }
        match self.dialect {
            Dialect::Nested => self.object_shape(frame, schema),
            Dialect::Lowered => Ok(()),
        }
    }

    /// Whether this draft, and we, know the keyword.
    fn may_stand(
        &self,
        schema: &Map<String, Value>,
        pointer: &str,
        keyword: &str,
        value: &Value,
    ) -> Result<(), GuideError> {
        if value == &Value::Bool(false) && ["uniqueItems", "nullable"].contains(&keyword) {
            return Ok(());
        }
        let lowered = LOWERED.iter().filter(|_| self.dialect == Dialect::Nested);
        if let Some((_, hint)) = REFUSED.iter().chain(lowered).find(|(refused, _)| *refused == keyword) {
            return Err(self.unsupported(pointer, keyword, hint));
        }
        if SINCE.iter().any(|(since, draft)| *since == keyword && self.resources.draft < *draft) && keyword != "$defs" {
            return Err(self.unsupported(
                pointer,
                keyword,
                "its draft has no such keyword; name a later one by `$schema`",
            ));
        }
        if let Some((_, other)) =
            COMPANIONS.iter().find(|(alone, other)| *alone == keyword && !schema.contains_key(*other))
        {
            return Err(self.unsupported(
                pointer,
                keyword,
                &format!("it says nothing without `{other}`; leave it out"),
            ));
        }
        if self.resources.draft < 2019 && ["contentEncoding", "contentMediaType"].contains(&keyword) {
            let hint = "its draft lets validators assert it, and a mask cannot; leave it out, or name a later draft";
            return Err(self.unsupported(pointer, keyword, hint));
        }
        let is_lost = schema.contains_key("$ref") && self.resources.draft < 2019 && self.dialect == Dialect::Lowered;
        if is_lost && !SILENT.contains(&keyword) {
            let hint = "its draft ignores what stands beside `$ref`; put both into `allOf`, or name a later draft";
            return Err(self.unsupported(pointer, keyword, hint));
        }
        Ok(())
    }

    fn keyword(&mut self, frame: &Frame<'a>, pointer: &str, keyword: &str, value: &'a Value) -> Result<(), GuideError> {
        match keyword {
            "$schema" => self.draft(pointer, value),
            "$ref" => self.reference(frame, pointer, value),
            "allOf" | "anyOf" | "oneOf" | "prefixItems" => self.children_of_array(frame, pointer, value),
            "items" if value.is_array() => self.children_of_array(frame, pointer, value),
            "items"
            | "additionalItems"
            | "additionalProperties"
            | "not"
            | "if"
            | "then"
            | "else"
            | "contains"
            | "propertyNames"
            | "unevaluatedItems"
            | "unevaluatedProperties" => {
                self.push(frame, pointer.to_owned(), value);
                Ok(())
            }
            "properties" | "patternProperties" | "dependentSchemas" => {
                self.children_of_object(frame, pointer, keyword, value)
            }
            "dependencies" | "dependentRequired" => self.dependencies(frame, pointer, value),
            "enum" => self.members(pointer, value),
            "required" => self.names(pointer, value),
            "type" => self.types(pointer, value),
            "minimum" | "maximum" | "multipleOf" if !value.is_number() => {
                Err(invalid(self.part, pointer, "a number is expected"))
            }
            "multipleOf" if value.as_f64().is_none_or(|step| step <= 0.0) => {
                Err(invalid(self.part, pointer, "a positive number is expected"))
            }
            // Lowered, what counts is the common multiple of all steps.
            "multipleOf" if self.dialect == Dialect::Nested => {
                let step = value.as_number().and_then(Decimal::read);
                match step.filter(|step| step.digits <= self.config.max_multiple) {
                    Some(_) => Ok(()),
                    None => Err(self.unsupported(pointer, keyword, "the number has too many digits")),
                }
            }
            "exclusiveMinimum" | "exclusiveMaximum" if !value.is_number() && !value.is_boolean() => {
                Err(invalid(self.part, pointer, "a number is expected"))
            }
            "uniqueItems" if !value.is_boolean() => Err(invalid(self.part, pointer, "true or false is expected")),
            "pattern" => self.pattern(pointer, value),
            "format" => match value.as_str() {
                Some(name) if self.dialect == Dialect::Lowered && format::lookup(name).is_some() => Ok(()),
                Some(name) if self.dialect == Dialect::Nested && NESTED_FORMATS.contains(&name) => Ok(()),
                _ => {
                    let known = if self.dialect == Dialect::Nested { NESTED_FORMATS.to_vec() } else { format::names() };
                    Err(self.unsupported(pointer, keyword, &format!("known are {}", known.join(", "))))
                }
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

    fn dependencies(&mut self, frame: &Frame<'a>, pointer: &str, value: &'a Value) -> Result<(), GuideError> {
        let Some(members) = value.as_object() else {
            return Err(invalid(self.part, pointer, "an object is expected"));
        };
        let what = format!("number of members of {pointer}");
        GuideError::check_size(self.part, &what, members.len(), self.config.max_schema_members)?;
        for (name, needed) in members {
            let pointer = format!("{pointer}/{}", escape(name));
            if needed.is_array() {
                self.names(&pointer, needed)?;
            } else {
                self.push(frame, pointer, needed);
            }
        }
        Ok(())
    }

    fn names(&self, pointer: &str, value: &Value) -> Result<(), GuideError> {
        match value.as_array() {
            Some(names) if names.iter().all(Value::is_string) => self.members(pointer, value),
            _ => Err(invalid(self.part, pointer, "an array of names is expected")),
        }
    }

    fn types(&self, pointer: &str, value: &Value) -> Result<(), GuideError> {
        let is_type = |value: &Value| value.as_str().is_some_and(|name| TYPES.contains(&name));
        match value {
            Value::Array(types) if types.iter().all(is_type) => Ok(()),
            one if is_type(one) => Ok(()),
            _ => Err(invalid(self.part, pointer, &format!("known types are {}", TYPES.join(", ")))),
        }
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
        let translated = match self.dialect {
            Dialect::Lowered => from_ecma(pattern),
            Dialect::Nested => regex_to_lark(pattern, "dw"),
        };
        classes::charge(&place, &translated, false, &self.class_chars, self.config)?;
        let hir = regex_syntax::parse(&translated)
            .map_err(|error| self.unsupported(pointer, "pattern", &regex::syntax_message(&error).1))?;
        regex::check_repetition(&place, &hir, self.config)?;
        if hir.properties().look_set().contains_word() {
            return Err(self.unsupported(pointer, "pattern", "word boundaries have no exact meaning inside a string"));
        }
        Ok(())
    }

    fn count(&mut self, pointer: &str, keyword: &str, value: &Value) -> Result<(), GuideError> {
        // `2.0` is an integer to JSON Schema; llguidance wants `2`.
        let Some(count) = count_of(value).filter(|_| value.is_u64() || self.dialect == Dialect::Lowered) else {
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
        let Some(target) = self.resources.resolve(&frame.pointer, reference) else {
            let (keyword, why) = ("$ref", "it leads nowhere in this schema, and references are never fetched");
            return Err(self.unsupported(pointer, keyword, why));
        };
        let Some(schema) = self.root.pointer(&target) else {
            return Err(invalid(self.part, pointer, "the reference leads nowhere in this schema"));
        };
        self.targets.insert(pointer.to_owned(), target.clone());
        let ref_chain = frame.ref_chain + 1;
        GuideError::check_size(self.part, "length of a chain of references", ref_chain, self.config.max_ref_chain)?;
        if !self.seen.contains(&target) {
            self.num_refs += 1;
            GuideError::check_size(self.part, "number of references", self.num_refs, self.config.max_refs)?;
            self.stack.push(Frame { pointer: target, schema, ref_chain });
        }
        Ok(())
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

    pub(super) fn unsupported(&self, pointer: &str, keyword: &str, message: &str) -> GuideError {
        GuideError::UnsupportedSchema {
            part: self.part.to_owned(),
            pointer: pointer.to_owned(),
            keyword: keyword.to_owned(),
            message: message.to_owned(),
        }
    }
}

/// A count, also one that is written with a point, as JSON Schema allows.
pub(super) fn count_of(value: &Value) -> Option<u64> {
    let whole = |number: f64| number >= 0.0 && number.fract() == 0.0 && number < 9e15;
    value.as_u64().or_else(|| value.as_f64().filter(|&number| whole(number)).map(|number| number as u64))
}
