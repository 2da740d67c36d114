//! What a named type says about its values, between the syntax of a language and JSON Schema.
//!
//! The readers of the languages build shapes; `lower` turns them into schemas. A shape may name a type that is not
//! declared in the file, or say something JSON cannot: that is kept as [`Shape::Unknown`] and decided when lowered.

use std::rc::Rc;

use serde_json::Value;

use crate::constraint::{Diagnostic, Origin};

/// A declared type.
#[derive(Debug)]
pub(super) struct Declaration {
    /// Its name.
    pub(super) name: String,
    /// What declares it: `interface`, `dataclass`.
    pub(super) kind: &'static str,
    /// Where.
    pub(super) origin: Origin,
    /// Its documentation.
    pub(super) doc: String,
    /// What its values look like.
    pub(super) shape: Shape,
}

/// What a reader found in one file.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// The types, in source order.
    pub(super) declarations: Vec<Declaration>,
    /// What was left out, and where.
    pub(super) diagnostics: Vec<Diagnostic>,
}

/// The values of a type.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Shape {
    /// Any JSON value, because the source says so.
    Any,
    /// No value.
    Never,
    /// Absent: TypeScript's `undefined` and `void`.
    Undefined,
    Null,
    Boolean,
    Integer,
    Number,
    Text,
    /// Text in a format of JSON Schema.
    Format(&'static str),
    /// Text that matches a pattern.
    Pattern(String),
    /// Any JSON object.
    AnyObject,
    /// One value.
    Literal(Value),
    /// Named values.
    Enum(Vec<(String, Value)>),
    /// One value of a declared enum.
    Member {
        declared: String,
        member: String,
        at: Origin,
    },
    /// A declared type.
    Named(String),
    List(Box<Shape>),
    Tuple {
        items: Vec<Shape>,
        num_required: usize,
        rest: Option<Box<Shape>>,
    },
    /// An object whose keys are values of a type.
    Map {
        keys: Box<Shape>,
        values: Box<Shape>,
        /// Where the keys can be listed: whether all of them must be there.
        all_keys: bool,
    },
    Object(Object),
    /// An object that adds fields to those of other types, or replaces them.
    Extends {
        bases: Vec<Shape>,
        own: Object,
    },
    Union(Vec<Shape>),
    Intersection(Vec<Shape>),
    /// `Partial<T>`, `Pick<T, K>` and their like.
    Reshaped {
        base: Box<Shape>,
        how: Reshape,
    },
    /// The names of an object type's fields.
    KeysOf(Box<Shape>),
    /// The type of an object type's field, or of an array's elements.
    FieldOf {
        base: Box<Shape>,
        key: Box<Shape>,
    },
    Bounded(Box<Shape>, Vec<Bound>),
    /// A shape that several places share: an argument of a generic type.
    Shared(Rc<Shape>),
    /// Not known, or nothing that JSON can hold; the diagnostic says what and where.
    Unknown(Diagnostic),
}

/// An object type.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Object {
    /// In source order.
    pub(super) fields: Vec<Field>,
    /// Types of further keys and their values.
    pub(super) index: Option<(Box<Shape>, Box<Shape>)>,
}

/// A field of an object type.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) shape: Shape,
    pub(super) optional: bool,
    pub(super) doc: String,
}

/// How a type is derived from an object type.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Reshape {
    Partial,
    Required,
    Pick(Box<Shape>),
    Omit(Box<Shape>),
    NonNullable,
}

/// A bound on values, beside their type.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bound {
    pub(super) keyword: Keyword,
    pub(super) value: Value,
    /// Where it is written.
    pub(super) at: Origin,
}

/// What a bound bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keyword {
    Minimum,
    Maximum,
    ExclusiveMinimum,
    ExclusiveMaximum,
    MultipleOf,
    MinLength,
    MaxLength,
    MinItems,
    MaxItems,
    /// Length of text or number of items, whichever the type has.
    MinSize,
    /// Length of text or number of items, whichever the type has.
    MaxSize,
    Pattern,
    Format,
    /// Numbers are whole.
    Whole,
}

impl Keyword {
    /// JSON Schema's keyword for values of a JSON type, where the bound speaks of such values at all.
    pub(super) fn for_type(self, json_type: &str) -> Option<&'static str> {
        let keyword = match (self, json_type) {
            (Self::Minimum, "number" | "integer") => "minimum",
            (Self::Maximum, "number" | "integer") => "maximum",
            (Self::ExclusiveMinimum, "number" | "integer") => "exclusiveMinimum",
            (Self::ExclusiveMaximum, "number" | "integer") => "exclusiveMaximum",
            (Self::MultipleOf, "number" | "integer") => "multipleOf",
            (Self::Whole, "number" | "integer") => "type",
            (Self::MinLength | Self::MinSize, "string") => "minLength",
            (Self::MaxLength | Self::MaxSize, "string") => "maxLength",
            (Self::Pattern, "string") => "pattern",
            (Self::Format, "string") => "format",
            (Self::MinItems | Self::MinSize, "array") => "minItems",
            (Self::MaxItems | Self::MaxSize, "array") => "maxItems",
            _ => return None,
        };
        Some(keyword)
    }
}

/// String formats that a decoder can enforce.
pub(super) const FORMATS: [&str; 10] =
    ["date-time", "date", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"];

impl Shape {
    /// A shape with bounds, or the shape itself where there are none.
    pub(super) fn bounded(self, bounds: Vec<Bound>) -> Self {
        if bounds.is_empty() { self } else { Self::Bounded(Box::new(self), bounds) }
    }
}
