//! What a named type says about its values, between the syntax of a language and JSON Schema.
//!
//! The readers of the languages build shapes; `lower` turns them into schemas. A shape may name a type that is not
//! declared in the file, or say something JSON cannot: that is kept as [`Shape::Unknown`] and decided when lowered.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::SCHEMA_NODES_MAX;

use crate::constraint::{Diagnostic, Origin};

/// A declared type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Declaration {
    /// Its name.
    pub(super) name: String,
    /// What declares it: `interface`, `dataclass`.
    pub(super) kind: Cow<'static, str>,
    /// Where.
    pub(super) origin: Origin,
    /// Its documentation.
    pub(super) doc: String,
    /// What its values look like.
    pub(super) shape: Shape,
}

/// What a reader found in one file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Reading {
    /// The types, in source order.
    pub(super) declarations: Vec<Declaration>,
    /// What was left out, and where.
    pub(super) diagnostics: Vec<Diagnostic>,
}

impl Reading {
    /// Keeps a file's shapes at a size that lowering would take anyway: a generic type that doubles at every use is
    /// small while its arguments are shared, and astronomical once written out.
    pub(super) fn bounded(mut self) -> Self {
        let mut sizes = HashMap::new();
        let mut left = SCHEMA_NODES_MAX;
        for declaration in &mut self.declarations {
            match left.checked_sub(size(&declaration.shape, &mut sizes)) {
                Some(rest) => left = rest,
                None => {
                    let message = "needs a schema beyond the budget of the file".to_owned();
                    declaration.shape = Shape::Unknown(Diagnostic { origin: declaration.origin.clone(), message });
                }
            }
        }
        self
    }
}

/// How many shapes a shape is when written out. Linear: what is shared is counted once and remembered.
fn size(shape: &Shape, sizes: &mut HashMap<*const Shape, usize>) -> usize {
    let mut fields = |object: &Object| {
        let own: Vec<&Shape> = object.fields.iter().map(|field| &field.shape).collect();
        let index = object.index.iter().flat_map(|(keys, values)| [&**keys, &**values]);
        own.into_iter().chain(index).fold(0_usize, |sum, inner| sum.saturating_add(size(inner, sizes)))
    };
    let inside = match shape {
        Shape::Object(object) => fields(object),
        Shape::Extends { bases, own } => {
            let own = fields(own);
            bases.iter().fold(own, |sum, base| sum.saturating_add(size(base, sizes)))
        }
        Shape::Tuple { items: parts, .. } | Shape::Union(parts) | Shape::Intersection(parts) => {
            parts.iter().fold(0_usize, |sum, part| sum.saturating_add(size(part, sizes)))
        }
        Shape::List(inner) | Shape::KeysOf(inner) | Shape::Bounded(inner, _) => size(inner, sizes),
        Shape::Reshaped { base, how: Reshape::Pick(keys) | Reshape::Omit(keys) } => {
            size(base, sizes).saturating_add(size(keys, sizes))
        }
        Shape::Reshaped { base, .. } => size(base, sizes),
        Shape::FieldOf { base: one, key: two } | Shape::Map { keys: one, values: two, .. } => {
            size(one, sizes).saturating_add(size(two, sizes))
        }
        Shape::Enum(members) => members.len(),
        Shape::Shared(shared) => match sizes.get(&Arc::as_ptr(shared)) {
            Some(known) => *known,
            None => {
                let size = size(shared, sizes);
                sizes.insert(Arc::as_ptr(shared), size);
                size
            }
        },
        _ => 0,
    };
    inside.saturating_add(1)
}

/// A name that the code knows; alone, so that deriving does not mistake it for text borrowed from the input.
type Known = &'static str;

fn known_format<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Known, D::Error> {
    let name = String::deserialize(deserializer)?;
    let known = FORMATS.into_iter().find(|format| *format == name);
    known.ok_or_else(|| serde::de::Error::custom(format!("`{name}` is no format of text")))
}

/// Shared shapes are written out where they are used; [`Reading::bounded`] sees to it that this ends.
mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Shape;

    pub(super) fn serialize<S: Serializer>(shape: &Arc<Shape>, serializer: S) -> Result<S::Ok, S::Error> {
        shape.as_ref().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<Shape>, D::Error> {
        Shape::deserialize(deserializer).map(Arc::new)
    }
}

/// The values of a type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    Format(#[serde(deserialize_with = "known_format")] Known),
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
    Shared(#[serde(with = "shared")] Arc<Shape>),
    /// Not known, or nothing that JSON can hold; the diagnostic says what and where.
    Unknown(Diagnostic),
}

/// An object type.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Object {
    /// In source order.
    pub(super) fields: Vec<Field>,
    /// Types of further keys and their values.
    pub(super) index: Option<(Box<Shape>, Box<Shape>)>,
}

/// A field of an object type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) shape: Shape,
    pub(super) optional: bool,
    pub(super) doc: String,
}

/// How a type is derived from an object type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Reshape {
    Partial,
    Required,
    Pick(Box<Shape>),
    Omit(Box<Shape>),
    NonNullable,
}

/// A bound on values, beside their type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Bound {
    pub(super) keyword: Keyword,
    pub(super) value: Value,
    /// Where it is written.
    pub(super) at: Origin,
}

/// What a bound bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
