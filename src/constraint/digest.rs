//! Identity of a value: BLAKE3 of its canonical JSON.
//!
//! Canonical means that object keys are sorted, except below a key `json_schema` or `schema`, where the order of
//! properties is the order in which a decoder generates them and so is part of the meaning.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A BLAKE3 digest, written as 64 lower-case hex digits.
///
/// The same value gives the same digest in every process, so it serves as cache key, in provenance and in audit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Digest of raw bytes.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// Digest of a value's canonical JSON.
    ///
    /// # Panics
    /// If `value` cannot be written as JSON, which plain data (no non-string map keys) always can.
    #[must_use]
    pub fn of_value<T: Serialize + ?Sized>(value: &T) -> Self {
        let json = serde_json::to_value(value).expect("plain data serializes to JSON");
        let mut canonical = String::new();
        write_canonical(&json, true, &mut canonical);
        Self::of_bytes(canonical.as_bytes())
    }

    /// Digest of several digests, in order.
    #[must_use]
    pub fn of_digests<'a>(digests: impl IntoIterator<Item = &'a Digest>) -> Self {
        let mut hasher = blake3::Hasher::new();
        for digest in digests {
            hasher.update(&digest.0);
        }
        Self(*hasher.finalize().as_bytes())
    }

    /// A digest that was computed elsewhere.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes of the digest.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Writes `value` with sorted keys while `sorted`, and in the given order below a schema.
fn write_canonical(value: &Value, sorted: bool, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            if sorted {
                entries.sort_by_key(|(key, _)| *key);
            }
            out.push('{');
            for (i, (key, item)) in entries.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                write_canonical(item, sorted && key != "json_schema" && key != "schema", out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_canonical(item, sorted, out);
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(blake3::Hash::from_bytes(self.0).to_hex().as_str())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let hex = String::deserialize(deserializer)?;
        blake3::Hash::from_hex(&hex)
            .map(|hash| Self(*hash.as_bytes()))
            .map_err(|error| serde::de::Error::custom(format!("not a digest of 64 hex digits: {error}")))
    }
}

impl schemars::JsonSchema for Digest {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Digest".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "pattern": "^[0-9a-f]{64}$"})
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn key_order_counts_only_below_a_schema() {
        let digest = |value: Value| Digest::of_value(&value);
        assert_eq!(digest(json!({"a": 1, "b": 2})), digest(json!({"b": 2, "a": 1})));
        assert_ne!(digest(json!({"json_schema": {"a": 1, "b": 2}})), digest(json!({"json_schema": {"b": 2, "a": 1}})));
    }

    #[test]
    fn a_digest_survives_json() {
        let digest = Digest::of_bytes(b"ananke");
        let text = serde_json::to_string(&digest).expect("a digest is a string");
        assert_eq!(serde_json::from_str::<Digest>(&text).expect("what was written reads back"), digest);
    }
}
