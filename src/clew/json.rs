//! Places in JSON, which serde does not keep.

use serde::de::DeserializeOwned;

use super::lines::Lines;

/// Reads a value; the error is a byte and what is wrong there.
pub(super) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, (usize, String)> {
    serde_json::from_str(text).map_err(|error| {
        let offset = Lines::of(text).offset(error.line(), error.column());
        let message = error.to_string();
        (offset.min(text.len()), message.split(" at line ").next().unwrap_or_default().to_owned())
    })
}

/// A key of an object, `depth` brackets deep.
pub(super) struct Key {
    pub(super) depth: usize,
    pub(super) name: String,
    pub(super) offset: usize,
}

/// Every key of a text that is known to be JSON, in order; serde keeps no places.
pub(super) fn keys(json: &str) -> Vec<Key> {
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
