//! What a named type says about its values, between the syntax of a language and JSON Schema.
//!
//! The readers of the languages build shapes; `lower` turns them into schemas. A shape may name a type that is not
//! declared in the file, or say something JSON cannot: that is kept as [`Shape::Unknown`] and decided when lowered.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

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
    /// The inner module or type it is declared in, as a path; empty for the file itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) scope: String,
    /// Its type parameters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) parameters: Vec<Parameter>,
    /// Why its JSON form may be another one; then it is only advisory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) doubt: Option<Diagnostic>,
}

/// A type parameter, and what it stands for where no argument is given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Parameter {
    pub(super) name: String,
    pub(super) default: Option<Shape>,
}

/// A name that a file takes from elsewhere, or hands on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Import {
    /// The inner module it stands in.
    pub(super) scope: String,
    /// The name it gives; `None` for all the names there are.
    pub(super) name: Option<String>,
    /// The module, as it is written; `None` where the path begins in the file itself.
    pub(super) module: Option<String>,
    /// What is taken from there.
    pub(super) path: Vec<String>,
    /// Who can use the name.
    pub(super) reach: Reach,
}

/// Who can use an imported name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Reach {
    /// The file itself.
    Inside,
    /// Files that import this one.
    Outside,
    Both,
}

/// What a reader found in one file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Reading {
    /// The types, in source order.
    pub(super) declarations: Vec<Declaration>,
    /// What was left out, and where.
    pub(super) diagnostics: Vec<Diagnostic>,
    /// The names it takes from other files.
    pub(super) imports: Vec<Import>,
    /// The package it says it belongs to (Go).
    pub(super) package: String,
    /// Types that code writes or reads as JSON, by scope and path.
    pub(super) by_code: Vec<(String, Vec<String>)>,
    /// Types that are bytes under another name (Go).
    pub(super) bytes: Vec<String>,
}

impl Reading {
    /// Adds what a later part of the same file holds.
    pub(super) fn append(&mut self, later: Self) {
        self.declarations.extend(later.declarations);
        self.diagnostics.extend(later.diagnostics);
        self.imports.extend(later.imports);
        self.by_code.extend(later.by_code);
        self.bytes.extend(later.bytes);
        if self.package.is_empty() {
            self.package = later.package;
        }
    }
}

impl Reading {
    /// Adds a declaration; a generic one is kept for the places that name it.
    pub(super) fn declare(&mut self, declaration: Declaration) {
        if !declaration.parameters.is_empty() {
            let name = &declaration.name;
            let message = format!("generic type `{name}` gives no constraint by itself, only where it is instantiated");
            self.diagnostics.push(Diagnostic { origin: declaration.origin.clone(), message });
        }
        self.declarations.push(declaration);
    }
}

/// A name that the code knows; alone, so that deriving does not mistake it for text borrowed from the input.
type Known = &'static str;

fn known_format<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Known, D::Error> {
    let name = String::deserialize(deserializer)?;
    let known = FORMATS.into_iter().find(|format| *format == name);
    known.ok_or_else(|| serde::de::Error::custom(format!("`{name}` is no format of text")))
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
    /// A type declared in the same file; once linked, the label of any declaration.
    Named(String),
    /// A type by the name it has here, which may be imported, with its type arguments.
    Reference {
        path: Vec<String>,
        arguments: Vec<Shape>,
        /// What it is if no given file declares it.
        otherwise: Box<Shape>,
    },
    /// A type parameter of the declaration it stands in.
    Parameter(String),
    List(Box<Shape>),
    /// Go's slice: text where its items turn out to be bytes, else a list. Linking says which.
    Slice(Box<Shape>),
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
    /// A shape that several places share; only lowering makes such.
    #[serde(skip)]
    Shared(Arc<Shape>),
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

impl Object {
    fn parts_mut(&mut self) -> impl Iterator<Item = &mut Shape> {
        let index = self.index.iter_mut().flat_map(|(keys, values)| [&mut **keys, &mut **values]);
        self.fields.iter_mut().map(|field| &mut field.shape).chain(index)
    }
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

impl Bound {
    /// A bound that comes from the type itself and is written nowhere.
    pub(super) fn known(keyword: Keyword, value: Value) -> Self {
        Self { keyword, value, at: Origin { file: String::new(), line: 1, column: 1 } }
    }
}

/// The least number that is stated as a bound: decoders hold bounds as 64-bit floats, which round anything between
/// this and `i64::MIN` down to that, and cannot negate it. A schema may accept less.
const INTEGER_MIN: i64 = i64::MIN + 1_024;

/// Whole numbers of so many bits; wider ones are held to 64 bits.
pub(super) fn integer(num_bits: u32, is_signed: bool) -> Shape {
    let bits = num_bits.clamp(1, 64);
    let (minimum, maximum) = match is_signed {
        true => {
            let minimum = (i64::MIN >> (64 - bits)).max(INTEGER_MIN);
            (Value::from(minimum), Value::from(i64::MAX >> (64 - bits)))
        }
        false => (Value::from(0), Value::from(u64::MAX >> (64 - bits))),
    };
    Shape::Integer.bounded(vec![Bound::known(Keyword::Minimum, minimum), Bound::known(Keyword::Maximum, maximum)])
}

impl Shape {
    /// The shapes it is made of.
    pub(super) fn parts_mut(&mut self) -> Vec<&mut Shape> {
        match self {
            Self::List(one) | Self::Slice(one) | Self::Bounded(one, _) | Self::KeysOf(one) => vec![one],
            Self::Tuple { items, rest, .. } => items.iter_mut().chain(rest.as_deref_mut()).collect(),
            Self::Map { keys: one, values: two, .. } | Self::FieldOf { base: one, key: two } => vec![one, two],
            Self::Object(object) => object.parts_mut().collect(),
            Self::Extends { bases, own } => bases.iter_mut().chain(own.parts_mut()).collect(),
            Self::Union(parts) | Self::Intersection(parts) => parts.iter_mut().collect(),
            Self::Reshaped { base, how: Reshape::Pick(keys) | Reshape::Omit(keys) } => vec![base, keys],
            Self::Reshaped { base, .. } => vec![base],
            Self::Reference { arguments, otherwise, .. } => arguments.iter_mut().chain([&mut **otherwise]).collect(),
            _ => Vec::new(),
        }
    }

    /// A type by its name: the declared one, or what it is if no given file declares it.
    pub(super) fn reference<'a>(
        path: impl IntoIterator<Item = &'a str>,
        arguments: Vec<Self>,
        otherwise: Self,
    ) -> Self {
        let path = path.into_iter().map(|segment| segment.trim().to_owned()).collect();
        Self::Reference { path, arguments, otherwise: Box::new(otherwise) }
    }

    /// A list of so many items.
    pub(super) fn list_of_length(item: Self, length: Value) -> Self {
        let bounds = [Keyword::MinItems, Keyword::MaxItems].map(|keyword| Bound::known(keyword, length.clone()));
        Self::List(Box::new(item)).bounded(bounds.into())
    }

    /// A shape with bounds, or the shape itself where there are none.
    pub(super) fn bounded(self, bounds: Vec<Bound>) -> Self {
        if bounds.is_empty() { self } else { Self::Bounded(Box::new(self), bounds) }
    }
}
