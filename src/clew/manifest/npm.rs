//! `package.json`.

use serde_json::Value;

use super::names::npm_modules;
use super::{Fault, Found};
use crate::clew::lines::Lines;

/// The tables that declare something code may import.
const TABLES: [&str; 4] = ["dependencies", "devDependencies", "peerDependencies", "optionalDependencies"];

pub(super) fn read(text: &str) -> Result<Found, Fault> {
    let package: Value = serde_json::from_str(text).map_err(|error| {
        let offset = Lines::of(text).offset(error.line(), error.column());
        let message = error.to_string();
        Fault::new(offset.min(text.len()), message.split(" at line ").next().unwrap_or_default())
    })?;
    let keys = keys(text);
    let Some(fields) = package.as_object() else { return Err(Fault::new(0, "a package is an object")) };
    for table in TABLES.iter().filter(|table| fields.get(**table).is_some_and(|value| !value.is_object())) {
        let key = keys.iter().find(|key| key.depth == 1 && key.name == *table);
        return Err(Fault::new(key.map_or(0, |key| key.offset), format!("`{table}` must be an object")));
    }
    let mut found = Found { package: package["name"].as_str().map(str::to_owned), ..Found::default() };
    let mut table = "";
    for key in &keys {
        match key.depth {
            1 => table = &key.name,
            2 if TABLES.contains(&table) => {
                found.dependencies.extend(npm_modules(&key.name).into_iter().map(|module| (module, key.offset)));
            }
            _ => {}
        }
    }
    Ok(found)
}

/// A key of an object, `depth` brackets deep.
struct Key {
    depth: usize,
    name: String,
    offset: usize,
}

/// Every key of a text that is known to be JSON, in order; serde keeps no places.
fn keys(json: &str) -> Vec<Key> {
    let (mut keys, mut depth, mut at) = (Vec::new(), 0_usize, 0);
    while let Some(next) = json[at..].find(['{', '[', '}', ']', '"']) {
        let start = at + next;
        at = start + 1;
        match json.as_bytes()[start] {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {
                at = string_end(json, start);
                if json[at..].trim_start().starts_with(':') {
                    let name = serde_json::from_str(&json[start..at]).unwrap_or_default();
                    keys.push(Key { depth, name, offset: start });
                }
            }
        }
    }
    keys
}

/// The byte after the string that begins at `start`.
fn string_end(json: &str, start: usize) -> usize {
    let mut at = start + 1;
    while let Some(next) = json[at..].find(['"', '\\']) {
        at += next;
        match json.as_bytes()[at] {
            b'"' => return at + 1,
            _ => at += 2, // what is escaped is one ASCII character
        }
    }
    json.len()
}
