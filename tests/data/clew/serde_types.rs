//! Types that serde reads and writes: `tests/clew_serde.rs` compiles this file and reads it.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Serialize};

/// A person.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Person {
    /// What they are called.
    pub full_name: String,
    pub age: u8,
    #[serde(default)]
    pub nick_names: Vec<String>,
    pub e_mail: Option<String>,
    #[serde(rename = "type")]
    pub kind: Kind,
    #[serde(skip)]
    pub cached: u64,
    #[serde(alias = "boss")]
    pub manager: Option<Box<Person>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING-KEBAB-CASE")]
pub enum Kind {
    NormalUser,
    #[serde(rename = "root")]
    Admin,
}

/// Externally tagged.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Shape {
    Nothing,
    Circle(f64),
    Line(i32, i32),
    Box { width: u16, height: u16 },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", rename_all_fields = "kebab-case")]
pub enum Event {
    Started,
    UserJoined { user_name: String, at_second: u64 },
    Moved(Point),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "t", content = "c")]
pub enum Message {
    Ping,
    Text(String),
    Pair(i8, i8),
    Form { id: u32 },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Loose {
    Number(i64),
    Text(String),
    Point(Point),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    pub x: f32,
    pub y: f32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Meters(pub f64);

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Wrapper {
    pub inner: Vec<Meters>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Pair(pub String, pub bool);

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Unit;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Page<T> {
    pub items: Vec<T>,
    pub next: Option<u32>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tree<T> {
    pub value: T,
    pub children: Vec<Tree<T>>,
}

pub type People = Page<Person>;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    pub verbose: bool,
    pub level: i16,
    pub initial: char,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Everything {
    pub first: i64,
    #[serde(flatten)]
    pub settings: Settings,
    #[serde(flatten)]
    pub point: Option<Point>,
    pub tree: Tree<Kind>,
    pub people: People,
    pub by_number: HashMap<u8, String>,
    pub by_name: BTreeMap<String, Box<Shape>>,
    pub set: HashSet<i8>,
    pub triple: [u8; 3],
    pub tuple: (bool, Option<u16>),
    pub outcome: Result<u8, String>,
    pub huge: u64,
    pub unit: Unit,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Open {
    pub id: u32,
    #[serde(flatten)]
    pub rest: BTreeMap<String, bool>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Written {
    #[serde(rename(serialize = "out", deserialize = "in"))]
    pub value: i8,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

#[derive(Clone, Debug)]
pub struct Plain {
    pub x: u8,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Odd {
    #[serde(with = "as_text")]
    pub number: u32,
}

mod as_text {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(number: &u32, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&number.to_string())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
