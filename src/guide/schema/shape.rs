//! What is left of a schema for one type of value, in one case: plain assertions that hold together.

use std::rc::Rc;

use serde_json::{Number, Value, json};

use crate::guide::GuideError;

/// Where a schema (or a constant) stands; an index into the table of locations.
pub(super) type Location = usize;

/// The types of JSON values; integers are numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Type {
    Null,
    Boolean,
    Number,
    String,
    Array,
    Object,
}

impl Type {
    pub(super) const ALL: [Self; 6] =
        [Self::Null, Self::Boolean, Self::Number, Self::String, Self::Array, Self::Object];

    pub(super) fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(_) => Self::Boolean,
            Value::Number(_) => Self::Number,
            Value::String(_) => Self::String,
            Value::Array(_) => Self::Array,
            Value::Object(_) => Self::Object,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean => "boolean",
            Self::Number => "number",
            Self::String => "string",
            Self::Array => "array",
            Self::Object => "object",
        }
    }
}

/// A schema that must hold, or must not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Literal {
    pub(super) at: Location,
    pub(super) negated: bool,
}

impl Literal {
    pub(super) fn not(self) -> Self {
        Self { negated: !self.negated, ..self }
    }
}

/// Schemas that hold together for one value, in the order in which they name properties; `None` where none can.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key(pub(super) Option<Vec<Literal>>);

impl Key {
    pub(super) const ALWAYS: Self = Self(Some(Vec::new()));
    pub(super) const NEVER: Self = Self(None);

    pub(super) fn add(&mut self, literal: Literal) {
        let Some(literals) = &mut self.0 else { return };
        if literals.contains(&literal.not()) {
            self.0 = None;
        } else if !literals.contains(&literal) {
            literals.push(literal);
        }
    }

    pub(super) fn add_all(&mut self, other: &Self) {
        match &other.0 {
            None => self.0 = None,
            Some(literals) => literals.iter().for_each(|&literal| self.add(literal)),
        }
    }

    pub(super) fn is_never(&self) -> bool {
        self.0.is_none()
    }

    pub(super) fn is_always(&self) -> bool {
        self.0.as_ref().is_some_and(Vec::is_empty)
    }

    pub(super) fn has(&self, literal: Literal) -> bool {
        self.0.as_ref().is_none_or(|literals| literals.contains(&literal))
    }
}

/// One end of a range of numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct End {
    pub(super) at: f64,
    pub(super) excluded: bool,
}

/// A positive decimal: `digits` / 10^`places`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decimal {
    pub(super) digits: u64,
    pub(super) places: u32,
}

impl Decimal {
    /// Reads a number as it is written; `None` where it is not positive or too long to be exact.
    pub(super) fn read(number: &Number) -> Option<Self> {
        let text = number.to_string();
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((&text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let mut digits: u64 = format!("{whole}{fraction}").parse().ok()?;
        let mut places = i32::try_from(fraction.len()).ok()? - exponent.parse::<i32>().ok()?;
        if digits == 0 {
            return None;
        }
        while digits.is_multiple_of(10) {
            (digits, places) = (digits / 10, places - 1);
        }
        while places < 0 {
            (digits, places) = (digits.checked_mul(10)?, places + 1);
        }
        Some(Self { digits, places: u32::try_from(places).ok()? })
    }

    fn scaled(self, places: u32) -> Option<u128> {
        10u128.checked_pow(places - self.places)?.checked_mul(u128::from(self.digits))
    }

    /// The least common multiple.
    pub(super) fn lcm(self, other: Self) -> Option<Self> {
        let places = self.places.max(other.places);
        let (a, b) = (self.scaled(places)?, other.scaled(places)?);
        let mut digits = (a / gcd(a, b)).checked_mul(b)?;
        let mut places = places;
        while places > 0 && digits.is_multiple_of(10) {
            (digits, places) = (digits / 10, places - 1);
        }
        Some(Self { digits: u64::try_from(digits).ok()?, places })
    }

    /// Whether `number` is a multiple; `None` where that cannot be said exactly.
    pub(super) fn divides(self, number: f64) -> Option<bool> {
        if number == 0.0 {
            return Some(true);
        }
        let number = Self::read(&Number::from_f64(number.abs())?)?;
        let places = self.places.max(number.places);
        Some(number.scaled(places)? % self.scaled(places)? == 0)
    }

    pub(super) fn to_json(self) -> Option<Value> {
        // What llguidance can count to.
        if self.digits > u64::from(u32::MAX) || self.places > 9 {
            return None;
        }
        if self.places == 0 {
            return Some(json!(self.digits));
        }
        let number: f64 = format!("{}e-{}", self.digits, self.places).parse().ok()?;
        // llguidance multiplies by ten until nothing is left behind the point, which must give these digits.
        let mut scaled = number;
        for _ in 0..self.places {
            scaled *= 10.0;
        }
        (scaled == self.digits as f64).then(|| json!(number))
    }
}

fn gcd(a: u128, b: u128) -> u128 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// A pattern with its place, for what may have to be refused.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PatternUse {
    /// In the syntax of the `regex` crate.
    pub(super) text: Rc<str>,
    pub(super) negated: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct NumberShape {
    pub(super) values: Option<Vec<f64>>,
    pub(super) excluded: Vec<f64>,
    pub(super) min: Option<End>,
    pub(super) max: Option<End>,
    pub(super) is_integer: bool,
    pub(super) is_fraction: Option<GuideError>,
    pub(super) multiples: Vec<Decimal>,
    /// What to say when the steps have no exact form.
    pub(super) too_long: Option<GuideError>,
    pub(super) no_multiples: Vec<(Decimal, GuideError)>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct TextShape {
    pub(super) values: Option<Vec<String>>,
    pub(super) excluded: Vec<String>,
    pub(super) min: u64,
    pub(super) max: Option<u64>,
    pub(super) patterns: Vec<PatternUse>,
    /// Formats that llguidance enforces by name.
    pub(super) formats: Vec<String>,
    /// What to say when patterns do not fit into an automaton.
    pub(super) too_complex: Option<GuideError>,
}

/// A count of items under a schema, from one position on.
#[derive(Clone, Debug)]
pub(super) struct Contains {
    pub(super) literal: Literal,
    pub(super) from: usize,
    pub(super) min: u64,
    pub(super) max: Option<u64>,
    pub(super) problem: GuideError,
}

#[derive(Clone, Debug)]
pub(super) struct ArrayShape {
    pub(super) min: u64,
    pub(super) max: Option<u64>,
    pub(super) prefix: Vec<Key>,
    pub(super) rest: Key,
    pub(super) contains: Vec<Contains>,
    pub(super) unique: Option<GuideError>,
}

impl Default for ArrayShape {
    fn default() -> Self {
        Self { min: 0, max: None, prefix: Vec::new(), rest: Key::ALWAYS, contains: Vec::new(), unique: None }
    }
}

impl ArrayShape {
    /// The key of one position, as a place of its own.
    pub(super) fn at(&mut self, position: usize) -> &mut Key {
        while self.prefix.len() <= position {
            self.prefix.push(self.rest.clone());
        }
        &mut self.prefix[position]
    }

    pub(super) fn cap(&mut self, max: u64) {
        self.max = Some(self.max.map_or(max, |old| old.min(max)));
    }
}

/// `properties`, `patternProperties` and `additionalProperties` of one schema: what each key's value must satisfy.
#[derive(Clone, Debug)]
pub(super) struct Members {
    pub(super) named: Vec<(Rc<str>, Key)>,
    pub(super) patterns: Vec<(Rc<str>, Key)>,
    pub(super) rest: Key,
}

/// Some key, which the shape must have, of the kind that one schema gives no value.
#[derive(Clone, Debug)]
pub(super) struct SomeKey {
    /// Names that do not count.
    pub(super) names: Vec<Rc<str>>,
    /// Patterns whose keys do not count.
    pub(super) patterns: Vec<Rc<str>>,
    /// The one pattern whose keys count, where only such do.
    pub(super) only: Option<Rc<str>>,
    /// What its value must satisfy.
    pub(super) value: Key,
    pub(super) problem: GuideError,
}

#[derive(Clone, Debug, Default)]
pub(super) struct ObjectShape {
    pub(super) order: Vec<Rc<str>>,
    pub(super) members: Vec<Members>,
    pub(super) required: Vec<Rc<str>>,
    pub(super) absent: Vec<Rc<str>>,
    /// What the value of a key must satisfy beside the members.
    pub(super) values: Vec<(Rc<str>, Key)>,
    pub(super) some_key: Vec<SomeKey>,
    /// Schemas of the keys themselves.
    pub(super) names: Vec<(Literal, GuideError)>,
    pub(super) min: u64,
    pub(super) max: Option<u64>,
    /// What to say when keys cannot be counted.
    pub(super) counted: Option<GuideError>,
}

impl ObjectShape {
    pub(super) fn mention(&mut self, name: &Rc<str>) {
        if !self.order.contains(name) {
            self.order.push(Rc::clone(name));
        }
    }

    pub(super) fn require(&mut self, name: &Rc<str>) {
        if !self.required.contains(name) {
            self.required.push(Rc::clone(name));
        }
    }
}

#[derive(Clone, Debug)]
pub(super) enum Shape {
    Null,
    Boolean([bool; 2]),
    Number(NumberShape),
    String(TextShape),
    Array(ArrayShape),
    Object(ObjectShape),
}

impl Shape {
    pub(super) fn of(kind: Type) -> Self {
        match kind {
            Type::Null => Self::Null,
            Type::Boolean => Self::Boolean([true; 2]),
            Type::Number => Self::Number(NumberShape::default()),
            Type::String => Self::String(TextShape::default()),
            Type::Array => Self::Array(ArrayShape::default()),
            Type::Object => Self::Object(ObjectShape::default()),
        }
    }
}

/// A shape in the terms of llguidance's own subset.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Plain {
    Null,
    Boolean([bool; 2]),
    /// Any of these values.
    Values(Vec<Value>),
    Number {
        is_integer: bool,
        min: Option<End>,
        max: Option<End>,
        multiple: Option<Value>,
    },
    String {
        min: u64,
        max: Option<u64>,
        patterns: Vec<String>,
        formats: Vec<String>,
    },
    Array {
        prefix: Vec<Key>,
        rest: Key,
        min: u64,
        max: Option<u64>,
    },
    Object {
        named: Vec<Named>,
        patterns: Vec<(String, Key)>,
        rest: Key,
        min_open: u64,
        max_open: Option<u64>,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Named {
    pub(super) name: Rc<str>,
    pub(super) value: Key,
    pub(super) is_required: bool,
}

/// A plain shape, or why one cannot be had.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Case {
    pub(super) plain: Plain,
    pub(super) problem: Option<GuideError>,
}
