//! What JSON documents a schema allows at most: its shape. Two shapes meet in what both allow.
//!
//! A shape is a superset of the schema: keywords it does not know say nothing. So where nothing is left of a meet,
//! no document is valid under both schemas; where something is left, that is no promise.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::automaton::{Automaton, Common, Effort, intersect, parse};
use crate::constraint::{MatchMode, RegexPattern};

/// How deep a schema is read; what lies deeper says nothing.
const DEPTH_MAX: usize = 24;
/// Parts of one schema that are read, references followed; what comes later says nothing.
const PARTS_MAX: usize = 2_000;
/// Branches of an `anyOf` that are read.
const BRANCHES_MAX: usize = 32;
/// Values of an `enum` that are read; two lists are compared each with each.
const VALUES_MAX: usize = 500;
/// Patterns of one string that are compared, all at once.
const PATTERNS_MAX: usize = 6;
/// From here on, floating point no longer tells neighbours apart.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

const NULL: u8 = 1;
const BOOLEAN: u8 = 2;
const INTEGER: u8 = 4;
/// Numbers that are no integers.
const FRACTION: u8 = 8;
const STRING: u8 = 16;
const ARRAY: u8 = 32;
const OBJECT: u8 = 64;
const ANY: u8 = 127;

/// Types as words; a number that may be a fraction may be an integer.
const TYPES: [(&str, u8); 7] = [
    ("null", NULL),
    ("boolean", BOOLEAN),
    ("integer", INTEGER),
    ("number", INTEGER | FRACTION),
    ("string", STRING),
    ("array", ARRAY),
    ("object", OBJECT),
];

/// What a schema allows at most.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Shape {
    types: u8,
    /// Only these, when given.
    values: Option<Vec<Value>>,
    number: Range,
    chars: Range,
    items: Range,
    num_properties: Range,
    patterns: Vec<String>,
    required: Vec<String>,
    properties: BTreeMap<String, Shape>,
    /// What other properties are; `None`: anything.
    others: Option<Box<Shape>>,
    item: Option<Box<Shape>>,
    /// Of each list, one holds as well.
    branches: Vec<Vec<Shape>>,
}

/// An interval of numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Range {
    min: f64,
    max: f64,
    is_min_open: bool,
    is_max_open: bool,
}

impl Range {
    const ALL: Self = Self { min: f64::NEG_INFINITY, max: f64::INFINITY, is_min_open: false, is_max_open: false };
    const COUNTS: Self = Self { min: 0.0, ..Self::ALL };

    fn meet(self, other: Self) -> Self {
        let (min, max) = (self.min.max(other.min), self.max.min(other.max));
        let is_min_open = [self, other].iter().any(|range| range.min == min && range.is_min_open);
        let is_max_open = [self, other].iter().any(|range| range.max == max && range.is_max_open);
        Self { min, max, is_min_open, is_max_open }
    }

    fn is_empty(self) -> bool {
        let is_point = self.min >= self.max && self.min.abs() < EXACT_MAX;
        self.min > self.max || is_point && (self.is_min_open || self.is_max_open)
    }

    fn has_integer(self) -> bool {
        let is_inside = self.min.abs() < EXACT_MAX && self.max.abs() < EXACT_MAX;
        let least = self.min.ceil() + f64::from(u8::from(self.is_min_open && self.min.fract() == 0.0));
        let greatest = self.max.floor() - f64::from(u8::from(self.is_max_open && self.max.fract() == 0.0));
        !self.is_empty() && (!is_inside || least <= greatest)
    }

    fn contains(self, number: f64) -> bool {
        let below = number < self.min || self.is_min_open && number <= self.min && number.abs() < EXACT_MAX;
        let above = number > self.max || self.is_max_open && number >= self.max && number.abs() < EXACT_MAX;
        !below && !above
    }
}

impl Shape {
    const fn anything() -> Self {
        Self {
            types: ANY,
            values: None,
            number: Range::ALL,
            chars: Range::COUNTS,
            items: Range::COUNTS,
            num_properties: Range::COUNTS,
            patterns: Vec::new(),
            required: Vec::new(),
            properties: BTreeMap::new(),
            others: None,
            item: None,
            branches: Vec::new(),
        }
    }

    fn nothing() -> Self {
        Self { types: 0, ..Self::anything() }
    }

    /// Reads a schema with what its local references lead to.
    pub(super) fn of(schema: &Value) -> Self {
        Reader { root: schema, num_parts: 0 }.read(schema, 0)
    }

    /// What both allow.
    pub(super) fn meet(&self, other: &Self) -> Self {
        let mut both = self.clone();
        both.types &= other.types;
        both.values = match (&self.values, &other.values) {
            (Some(some), Some(others)) => {
                Some(some.iter().filter(|value| others.iter().any(|other| same(value, other))).cloned().collect())
            }
            (some, others) => some.as_ref().or(others.as_ref()).cloned(),
        };
        both.number = self.number.meet(other.number);
        both.chars = self.chars.meet(other.chars);
        both.items = self.items.meet(other.items);
        both.num_properties = self.num_properties.meet(other.num_properties);
        both.patterns.extend(other.patterns.iter().filter(|pattern| !self.patterns.contains(pattern)).cloned());
        both.required.extend(other.required.iter().cloned());
        both.required.sort();
        both.required.dedup();
        both.others = meet_boxes(self.others.as_deref(), other.others.as_deref());
        both.item = meet_boxes(self.item.as_deref(), other.item.as_deref());
        let mut names: Vec<&String> = self.properties.keys().chain(other.properties.keys()).collect();
        names.sort();
        names.dedup();
        both.properties = names
            .into_iter()
            .map(|name| {
                let shape = match (self.property(name), other.property(name)) {
                    (Some(one), Some(two)) => one.meet(two),
                    (one, two) => one.or(two).cloned().unwrap_or_else(Self::anything),
                };
                (name.clone(), shape)
            })
            .collect();
        both.branches.extend(other.branches.iter().filter(|branches| !self.branches.contains(branches)).cloned());
        both
    }

    /// What it costs to copy and look through, as [`Effort`].
    pub(super) fn units(&self) -> u64 {
        const PER_SHAPE: u64 = 1_500;
        let boxed = self.others.iter().chain(&self.item).map(AsRef::as_ref);
        let parts = self.properties.values().chain(boxed).chain(self.branches.iter().flatten());
        PER_SHAPE + parts.map(Self::units).sum::<u64>()
    }

    /// What a property with this name is at most; `None`: anything.
    fn property(&self, name: &str) -> Option<&Self> {
        self.properties.get(name).or(self.others.as_deref())
    }

    /// Why no document has this shape; `None` where one may.
    pub(super) fn why_empty(&self, effort: &mut Effort) -> Option<String> {
        self.emptiness("", effort)
    }

    fn emptiness(&self, place: &str, effort: &mut Effort) -> Option<String> {
        effort.take(1_000)?;
        let here = if place.is_empty() { "the document".to_owned() } else { format!("`{place}`") };
        if self.types == 0 {
            return Some(format!("no type is left for {here}"));
        }
        if let Some(values) = &self.values
            && !values.iter().any(|value| self.accepts(value, effort))
        {
            return Some(format!("no value is left for {here}"));
        }
        let own_types = (0..7).map(|shift| 1 << shift).filter(|bit| self.types & bit != 0);
        let reasons: Vec<Option<String>> = own_types.map(|bit| self.type_emptiness(bit, place, effort)).collect();
        if reasons.iter().all(Option::is_some) {
            return reasons.into_iter().next_back().flatten().map(|why| format!("{here}: {why}"));
        }
        let units = self.units();
        let is_empty = |branch: &Self, effort: &mut Effort| {
            if effort.take(units + branch.units()).is_none() {
                return false;
            }
            let base = Self { branches: Vec::new(), ..self.clone() };
            base.meet(branch).emptiness(place, effort).is_some()
        };
        let fails = |branches: &Vec<Self>, effort: &mut Effort| branches.iter().all(|branch| is_empty(branch, effort));
        self.branches
            .iter()
            .any(|branches| fails(branches, effort))
            .then(|| format!("no alternative is left for {here}"))
    }

    /// Why no value of one type has this shape.
    fn type_emptiness(&self, bit: u8, place: &str, effort: &mut Effort) -> Option<String> {
        let range = |range: Range, what: &str| {
            range.is_empty().then(|| format!("{what} would be at least {} and at most {}", range.min, range.max))
        };
        match bit {
            INTEGER if !self.number.has_integer() => {
                Some(format!("no integer lies between {} and {}", self.number.min, self.number.max))
            }
            FRACTION => range(self.number, "it"),
            STRING => range(self.chars, "its length").or_else(|| self.pattern_emptiness(effort)),
            ARRAY => range(self.items, "its length").or_else(|| {
                let item = self.item.as_deref().filter(|_| self.items.min >= 1.0)?;
                item.emptiness(&format!("{place}/items"), effort)
            }),
            OBJECT => {
                let mut range_of = self.num_properties;
                range_of.min = range_of.min.max(self.required.len() as f64);
                range(range_of, "the number of its properties")
                    .or_else(|| self.required.iter().find_map(|name| self.required_emptiness(name, place, effort)))
            }
            _ => None,
        }
    }

    fn required_emptiness(&self, name: &str, place: &str, effort: &mut Effort) -> Option<String> {
        let shape = self.property(name)?;
        let why = shape.emptiness(&format!("{place}/{name}"), effort)?;
        let is_closed_out = shape.types == 0 && !self.properties.contains_key(name);
        Some(if is_closed_out { format!("`{name}` is required and not allowed") } else { why })
    }

    /// Why no string matches all patterns.
    fn pattern_emptiness(&self, effort: &mut Effort) -> Option<String> {
        if self.patterns.len() < 2 {
            return None;
        }
        let patterns = self.patterns.iter().take(PATTERNS_MAX);
        let automata: Vec<Automaton> = patterns.filter_map(|pattern| searching(pattern, effort)).collect();
        let is_nothing = intersect(&automata.iter().collect::<Vec<_>>(), effort) == Common::Nothing;
        is_nothing.then(|| format!("no text matches all of {}", super::vocabulary::some_of(self.patterns.iter())))
    }

    /// Whether a value may have this shape.
    fn accepts(&self, value: &Value, effort: &mut Effort) -> bool {
        match value {
            Value::Null => self.types & NULL != 0,
            Value::Bool(_) => self.types & BOOLEAN != 0,
            Value::Number(number) => {
                let Some(number) = number.as_f64() else { return true };
                let bit = if number.fract() == 0.0 { INTEGER } else { FRACTION };
                self.types & bit != 0 && self.number.contains(number)
            }
            Value::String(text) => {
                self.types & STRING != 0
                    && self.chars.contains(text.chars().count() as f64)
                    && self.patterns.iter().all(|pattern| {
                        searching(pattern, effort).is_none_or(|automaton| automaton.accepts(text.as_bytes()))
                    })
            }
            Value::Array(items) => {
                self.types & ARRAY != 0
                    && self.items.contains(items.len() as f64)
                    && self.item.as_deref().is_none_or(|shape| items.iter().all(|item| shape.accepts(item, effort)))
            }
            Value::Object(properties) => {
                self.types & OBJECT != 0
                    && self.num_properties.contains(properties.len() as f64)
                    && self.required.iter().all(|name| properties.contains_key(name))
                    && properties
                        .iter()
                        .all(|(name, value)| self.property(name).is_none_or(|shape| shape.accepts(value, effort)))
            }
        }
    }

    /// Code points that every document has at least, written as JSON.
    pub(super) fn fewest_chars(&self) -> u32 {
        if let Some(values) = &self.values {
            let lengths = values.iter().map(|value| value.to_string().chars().count() as u32);
            // `1.0` may be written as `1`.
            return lengths.min().map_or(0, |length| if values.iter().any(contains_number) { 1 } else { length });
        }
        let count = |range: Range| if range.min.is_finite() { range.min as u32 } else { 0 };
        let of_type = |bit: u8| match bit {
            NULL | BOOLEAN => 4,
            INTEGER | FRACTION => 1,
            STRING => 2u32.saturating_add(count(self.chars)),
            ARRAY => {
                let num_items = count(self.items);
                let item = self.item.as_deref().map_or(1, Self::fewest_chars).max(1);
                2u32.saturating_add(num_items.saturating_mul(item)).saturating_add(num_items.saturating_sub(1))
            }
            _ => {
                let value = |name: &String| self.property(name).map_or(1, Self::fewest_chars).max(1);
                let member = |name: &String| (name.chars().count() as u32).saturating_add(3 + value(name));
                let members = self.required.iter().map(member).fold(0, u32::saturating_add);
                2u32.saturating_add(members).saturating_add((self.required.len() as u32).saturating_sub(1))
            }
        };
        (0..7).map(|shift| 1 << shift).filter(|bit| self.types & bit != 0).map(of_type).min().unwrap_or(0)
    }

    /// A regular superset of the documents: what their outermost brackets and types say.
    pub(super) fn outline(&self) -> String {
        let alternatives: Vec<&str> = [
            (NULL, "null"),
            (BOOLEAN, "true|false"),
            (INTEGER | FRACTION, "-?[0-9][-+.eE0-9]*"),
            (STRING, "\"(?s-u:.)*\""),
            (ARRAY, r"\[(?s-u:.)*\]"),
            (OBJECT, r"\{(?s-u:.)*\}"),
        ]
        .into_iter()
        .filter(|(bit, _)| self.types & bit != 0)
        .map(|(_, pattern)| pattern)
        .collect();
        format!(r"[ \t\r\n]*(?:{})[ \t\r\n]*", alternatives.join("|"))
    }

    /// Texts that stand in each document, as JSON writes them: of each list, one does.
    pub(super) fn texts(&self) -> Vec<Vec<String>> {
        let mut texts = Vec::new();
        self.collect_texts(&mut texts);
        texts
    }

    fn collect_texts(&self, texts: &mut Vec<Vec<String>>) {
        if let Some(values) = &self.values {
            let written: Option<Vec<String>> =
                values.iter().map(|value| value.as_str().map(|text| Value::from(text).to_string())).collect();
            texts.extend(written.filter(|written| !written.is_empty()));
        } else if self.types == OBJECT {
            for name in &self.required {
                texts.push(vec![Value::from(name.as_str()).to_string()]);
                if let Some(shape) = self.property(name) {
                    shape.collect_texts(texts);
                }
            }
        }
    }
}

fn meet_boxes(one: Option<&Shape>, two: Option<&Shape>) -> Option<Box<Shape>> {
    match (one, two) {
        (Some(one), Some(two)) => Some(Box::new(one.meet(two))),
        (one, two) => one.or(two).cloned().map(Box::new),
    }
}

/// Whether two values may be one: 1 and 1.0 are.
fn same(one: &Value, two: &Value) -> bool {
    match (one.as_f64(), two.as_f64()) {
        (Some(one), Some(two)) => one == two,
        _ => one == two || std::mem::discriminant(one) == std::mem::discriminant(two) && contains_number(one),
    }
}

/// Whether numbers lie inside, whose spelling could differ.
fn contains_number(value: &Value) -> bool {
    match value {
        Value::Number(_) => true,
        Value::Array(items) => items.iter().any(contains_number),
        Value::Object(properties) => properties.values().any(contains_number),
        _ => false,
    }
}

/// The strings that a schema's pattern is found in; `None` where Rust and ECMA may read it differently.
fn searching(pattern: &str, effort: &mut Effort) -> Option<Automaton> {
    let pattern = RegexPattern { pattern: translated(pattern)?, flags: String::new() };
    Automaton::new(parse(&[pattern], effort)?, MatchMode::Contains, effort)
}

fn translated(pattern: &str) -> Option<String> {
    let mut ours = String::with_capacity(pattern.len());
    let mut is_in_class = false;
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next()? {
                'd' if is_in_class => ours.push_str("0-9"),
                'd' => ours.push_str("[0-9]"),
                'w' if is_in_class => ours.push_str("0-9A-Za-z_"),
                'w' => ours.push_str("[0-9A-Za-z_]"),
                escaped if "nrt".contains(escaped) || escaped.is_ascii_punctuation() => ours.extend([c, escaped]),
                _ => return None,
            },
            // What Rust reads as nested classes and operators on them.
            '[' | '&' | '~' if is_in_class => return None,
            '-' if is_in_class && chars.peek() == Some(&'-') => return None,
            '(' if chars.peek() == Some(&'?') => return None,
            _ => {
                is_in_class = c == '[' || is_in_class && c != ']';
                ours.push(c);
            }
        }
    }
    Some(ours)
}

struct Reader<'a> {
    root: &'a Value,
    num_parts: usize,
}

impl<'a> Reader<'a> {
    fn read(&mut self, schema: &Value, depth: usize) -> Shape {
        self.num_parts += 1;
        let keywords = match schema {
            Value::Bool(false) => return Shape::nothing(),
            Value::Object(keywords) if depth < DEPTH_MAX && self.num_parts < PARTS_MAX => keywords,
            _ => return Shape::anything(),
        };
        let mut shape = self.own(keywords, depth);
        if let Some(target) = keywords.get("$ref").and_then(Value::as_str).and_then(|place| self.target(place)) {
            shape = shape.meet(&self.read(target, depth + 1));
        }
        for all in keywords.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            shape = shape.meet(&self.read(all, depth + 1));
        }
        for keyword in ["anyOf", "oneOf"] {
            if let Some(branches) = keywords.get(keyword).and_then(Value::as_array)
                && (1..=BRANCHES_MAX).contains(&branches.len())
            {
                let branches: Vec<Shape> = branches.iter().map(|branch| self.read(branch, depth + 1)).collect();
                shape.types &= branches.iter().fold(0, |types, branch| types | branch.types);
                shape.branches.push(branches);
            }
        }
        shape
    }

    /// The place of a reference within the same document.
    fn target(&self, reference: &str) -> Option<&'a Value> {
        self.root.pointer(reference.strip_prefix('#')?)
    }

    fn own(&mut self, keywords: &Map<String, Value>, depth: usize) -> Shape {
        let mut shape = Shape::anything();
        let number = |keyword: &str| keywords.get(keyword).and_then(Value::as_f64);
        if let Some(types) = keywords.get("type") {
            let bit = |name: &Value| TYPES.iter().find(|(word, _)| name == word).map_or(0, |(_, bit)| *bit);
            shape.types = match types {
                Value::Array(types) => types.iter().map(bit).fold(0, |types, bit| types | bit),
                name => bit(name),
            };
        }
        shape.values = match (keywords.get("const"), keywords.get("enum")) {
            (Some(value), _) => Some(vec![value.clone()]),
            (None, Some(Value::Array(values))) if values.len() <= VALUES_MAX => Some(values.clone()),
            _ => None,
        };
        let range = |min: &str, max: &str| Range {
            min: number(min).unwrap_or(0.0),
            max: number(max).unwrap_or(f64::INFINITY),
            is_min_open: false,
            is_max_open: false,
        };
        shape.chars = range("minLength", "maxLength");
        shape.items = range("minItems", "maxItems");
        shape.num_properties = range("minProperties", "maxProperties");
        let closed = Range {
            min: number("minimum").unwrap_or(f64::NEG_INFINITY),
            max: number("maximum").unwrap_or(f64::INFINITY),
            ..Range::ALL
        };
        let open = Range {
            min: number("exclusiveMinimum").unwrap_or(f64::NEG_INFINITY),
            max: number("exclusiveMaximum").unwrap_or(f64::INFINITY),
            is_min_open: true,
            is_max_open: true,
        };
        shape.number = closed.meet(open);
        shape.patterns.extend(keywords.get("pattern").and_then(Value::as_str).map(str::to_owned));
        if let Some(Value::Array(required)) = keywords.get("required") {
            shape.required = required.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        }
        if let Some(Value::Object(properties)) = keywords.get("properties") {
            shape.properties =
                properties.iter().map(|(name, schema)| (name.clone(), self.read(schema, depth + 1))).collect();
        }
        // Beside patterns, other properties are not told apart by name.
        if !keywords.contains_key("patternProperties") {
            shape.others = keywords.get("additionalProperties").map(|schema| Box::new(self.read(schema, depth + 1)));
        }
        if !keywords.contains_key("prefixItems") && keywords.get("items").is_some_and(|items| !items.is_array()) {
            shape.item = keywords.get("items").map(|schema| Box::new(self.read(schema, depth + 1)));
        }
        shape
    }
}
