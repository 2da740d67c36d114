//! References: which schema of the same document `$ref` means, by `$id`, anchors and JSON pointers.
//!
//! Nothing is ever fetched. Identifiers and anchors count only where a schema stands, not inside a constant.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::escape;

/// The identified schemas and anchors of one document.
pub(super) struct Resources {
    /// The draft that the root names: 4, 6, 7, 2019, or 2020, which is assumed where none is named.
    pub(super) draft: u32,
    /// Pointer of each identified schema, by its absolute or relative URI; the document itself has one.
    pointers: HashMap<String, String>,
    /// Base URI below each identified schema, by its pointer.
    bases: HashMap<String, String>,
    /// Pointer of each anchor, by base URI and name.
    anchors: HashMap<(String, String), String>,
}

impl Resources {
    pub(super) fn of(root: &Value) -> Self {
        let named = root.get("$schema").and_then(Value::as_str).unwrap_or("2020-12");
        let drafts = [("draft-04", 4), ("draft-06", 6), ("draft-07", 7), ("2019-09", 2019)];
        let draft = drafts.iter().find(|(name, _)| named.contains(name)).map_or(2020, |(_, number)| *number);
        let mut found = Self {
            draft,
            pointers: HashMap::from([(String::new(), String::new())]),
            bases: HashMap::from([(String::new(), String::new())]),
            anchors: HashMap::new(),
        };
        let mut stack = vec![(String::new(), root, String::new())];
        while let Some((pointer, value, base)) = stack.pop() {
            let Value::Object(schema) = value else { continue };
            let base = found.identify(&pointer, schema, base);
            for (pointer, value) in children(&pointer, schema) {
                stack.push((pointer, value, base.clone()));
            }
        }
        found
    }

    /// Notes the identifier and the anchors of one schema; its base URI.
    fn identify(&mut self, pointer: &str, schema: &Map<String, Value>, mut base: String) -> String {
        // Before 2019, a reference hides what stands beside it.
        if self.draft < 2019 && schema.contains_key("$ref") && !pointer.is_empty() {
            return base;
        }
        let keyword = if self.draft == 4 { "id" } else { "$id" };
        if let Some(id) = schema.get(keyword).and_then(Value::as_str) {
            let (uri, fragment) = id.split_once('#').unwrap_or((id, ""));
            if !uri.is_empty() {
                base = join(&base, uri);
                self.pointers.insert(base.clone(), pointer.to_owned());
                self.bases.insert(pointer.to_owned(), base.clone());
            }
            if !fragment.is_empty() && !fragment.starts_with('/') {
                self.anchors.insert((base.clone(), fragment.to_owned()), pointer.to_owned());
            }
        }
        if let Some(anchor) = schema.get("$anchor").and_then(Value::as_str) {
            self.anchors.insert((base.clone(), anchor.to_owned()), pointer.to_owned());
        }
        base
    }

    /// The JSON pointer of what `reference` means in the schema at `pointer`, if it stays in this document.
    pub(super) fn resolve(&self, pointer: &str, reference: &str) -> Option<String> {
        let mut above = pointer;
        let base = loop {
            match (self.bases.get(above), above.rfind('/')) {
                (Some(base), _) => break base,
                (None, Some(end)) => above = &above[..end],
                (None, None) => return None,
            }
        };
        let (uri, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let uri = if uri.is_empty() { base.clone() } else { join(base, uri) };
        let start = self.pointers.get(&uri)?;
        let fragment = percent_decode(fragment)?;
        if fragment.is_empty() || fragment.starts_with('/') {
            return Some(format!("{start}{fragment}"));
        }
        self.anchors.get(&(uri, fragment)).cloned()
    }
}

/// The schemas that stand directly below a schema.
fn children<'a>(pointer: &str, schema: &'a Map<String, Value>) -> Vec<(String, &'a Value)> {
    let mut found = Vec::new();
    for (keyword, value) in schema {
        let pointer = format!("{pointer}/{}", escape(keyword));
        match (keyword.as_str(), value) {
            ("const" | "enum" | "default" | "examples", _) => {}
            (
                "properties" | "patternProperties" | "$defs" | "definitions" | "dependentSchemas" | "dependencies",
                Value::Object(members),
            ) => {
                found.extend(members.iter().map(|(name, value)| (format!("{pointer}/{}", escape(name)), value)));
            }
            ("allOf" | "anyOf" | "oneOf" | "prefixItems" | "items", Value::Array(items)) => {
                found.extend(items.iter().enumerate().map(|(idx, value)| (format!("{pointer}/{idx}"), value)));
            }
            (
                "items"
                | "additionalItems"
                | "additionalProperties"
                | "not"
                | "if"
                | "then"
                | "else"
                | "contains"
                | "propertyNames"
                | "unevaluatedItems"
                | "unevaluatedProperties",
                value,
            ) => found.push((pointer, value)),
            _ => {}
        }
    }
    found
}

/// A URI reference without fragment against a base, by RFC 3986, section 5.2.
fn join(base: &str, reference: &str) -> String {
    let is_scheme = |scheme: &str| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.chars().all(|next| next.is_ascii_alphanumeric() || "+-.".contains(next))
    };
    if reference.split_once(':').is_some_and(|(scheme, _)| is_scheme(scheme)) {
        return reference.to_owned();
    }
    let scheme_len = base.find(':').filter(|&end| is_scheme(&base[..end])).map_or(0, |end| end + 1);
    if reference.starts_with("//") {
        return format!("{}{reference}", &base[..scheme_len]);
    }
    let after_scheme = &base[scheme_len..];
    let authority_len = match after_scheme.strip_prefix("//") {
        Some(rest) => 2 + rest.find('/').unwrap_or(rest.len()),
        None => 0,
    };
    let (head, path) = base.split_at(scheme_len + authority_len);
    let path = path.split('?').next().unwrap_or_default();
    let whole = if reference.starts_with('/') {
        reference.to_owned()
    } else {
        let folder = path.rfind('/').map_or(if authority_len > 0 { "/" } else { "" }, |end| &path[..=end]);
        format!("{folder}{reference}")
    };
    let mut steps: Vec<&str> = Vec::new();
    for step in whole.split('/') {
        match step {
            "." => {}
            ".." => drop(steps.pop()),
            _ => steps.push(step),
        }
    }
    format!("{head}{}", steps.join("/"))
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, tail @ ..] = rest {
        rest = tail;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let [high, low, tail @ ..] = rest else { return None };
        let digit = |byte: &u8| char::from(*byte).to_digit(16);
        bytes.push((digit(high)? * 16 + digit(low)?) as u8);
        rest = tail;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn references_are_joined_as_the_rfc_says() {
        for (base, reference, expected) in [
            ("http://a/b/c", "d", "http://a/b/d"),
            ("http://a/b/c", "/d", "http://a/d"),
            ("http://a/b/c", "../d", "http://a/d"),
            ("http://a/b/", "./d", "http://a/b/d"),
            ("http://a", "d", "http://a/d"),
            ("http://a/b", "//c/d", "http://c/d"),
            ("http://a/b", "urn:x:y", "urn:x:y"),
            ("", "d.json", "d.json"),
        ] {
            assert_eq!(join(base, reference), expected, "{base} {reference}");
        }
    }

    #[test]
    fn identifiers_and_anchors_count_only_where_schemas_stand() {
        let root = json!({
            "$id": "http://a/root.json",
            "$defs": {
                "x": {"$id": "folder/x.json", "$anchor": "top", "$defs": {"y": {"$anchor": "inner"}}},
                "z": {"enum": [{"$anchor": "top", "$id": "z.json"}]},
            },
        });
        let resources = Resources::of(&root);
        let resolve = |pointer: &str, reference: &str| resources.resolve(pointer, reference);
        assert_eq!(resolve("", "#"), Some(String::new()));
        assert_eq!(resolve("", "folder/x.json").as_deref(), Some("/$defs/x"));
        assert_eq!(resolve("", "folder/x.json#inner").as_deref(), Some("/$defs/x/$defs/y"));
        assert_eq!(resolve("/$defs/x/$defs/y", "#top").as_deref(), Some("/$defs/x"));
        assert_eq!(resolve("/$defs/x/$defs/y", "#/$defs/y").as_deref(), Some("/$defs/x/$defs/y"));
        assert_eq!(resolve("/$defs/x/$defs/y", "../root.json").as_deref(), Some(""));
        assert_eq!(resolve("", "#top"), None);
        assert_eq!(resolve("", "z.json"), None);
        assert_eq!(resolve("", "http://b/elsewhere.json"), None);
    }
}
