//! Modules inside a file, imports of what is not given, types that no JSON holds.

use std::collections::*;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid as Id;

use crate::elsewhere::Thing;

pub mod inner {
    use super::Outer;
    use serde::Deserialize;

    #[derive(Deserialize)]
    pub struct Deep {
        pub outer: Option<Box<Outer>>,
        pub same: Same,
    }

    #[derive(Deserialize)]
    pub struct Same(u8);

    pub mod more {
        #[derive(serde::Deserialize)]
        pub struct Deepest {
            pub up: super::super::Same,
            pub all: Vec<crate::inner::Deep>,
        }
    }
}

#[derive(Serialize, Deserialize)]
pub struct Same(String);

#[derive(Serialize, Deserialize)]
pub struct Outer {
    pub deep: inner::more::Deepest,
    pub id: Id,
    pub at: DateTime<Utc>,
    pub map: BTreeMap<String, serde_json::Value>,
}

#[derive(Deserialize)]
struct Unknowing {
    thing: Thing,
    callback: fn(u8) -> u8,
    other: foreign::Type,
}

#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "PascalCase"))]
struct Conditional<'a> {
    text_of: std::borrow::Cow<'a, str>,
    bytes: &'a [u8],
}

#[derive(Serialize, Deserialize)]
#[serde(try_from = "String")]
struct Checked(String);

#[derive(Serialize, Deserialize)]
#[serde(from = "Wire", into = "Wire")]
struct Converted(u8);

#[derive(Clone, Serialize, Deserialize)]
struct Wire {
    x: std::num::NonZeroU8,
}

struct ByHand;

impl<'de> Deserialize<'de> for ByHand {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Ok(ByHand)
    }
}

#[derive(Deserialize)]
struct HasByHand {
    it: ByHand,
}

#[derive(serde_repr::Serialize_repr, serde_repr::Deserialize_repr)]
#[repr(u8)]
enum Small {
    One = 1,
    Two,
    Nine = 9,
}

fn local() {
    #[derive(Deserialize)]
    struct Local {
        x: u8,
    }
}
