//! Schemas with their instances, from the files of a folder.
//!
//! Three shapes are known: a bare schema; `{"schema", "tests"}`, as MaskBench writes it; and a list of these, as the
//! JSON-Schema-Test-Suite does. A test has `valid`, and `data` (any JSON value) or `text` (a document as it stands).

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::Value;

/// A schema, and what is known of some instances.
pub(super) struct Schema {
    /// The file, and in a list of several, the place.
    pub(super) name: String,
    pub(super) schema: Value,
    pub(super) instances: Vec<Instance>,
}

/// A document that is known to be valid or not.
pub(super) struct Instance {
    pub(super) document: Document,
    pub(super) is_valid: bool,
}

pub(super) enum Document {
    /// Written without white space.
    Value(Value),
    /// Taken as it stands.
    Text(String),
}

/// The .json files of `folder` and those below it, sorted by their paths.
pub(super) fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "json") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// The schemas of one file; none where it is not JSON, or holds something else.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<Schema>> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let name = path.display().to_string();
    let Ok(content) = serde_json::from_slice::<Value>(&bytes) else { return Ok(Vec::new()) };
    Ok(match content {
        Value::Array(groups) => {
            let groups = groups.iter().enumerate();
            groups.filter_map(|(idx, group)| with_tests(format!("{name}#/{idx}"), group)).collect()
        }
        Value::Object(_) => match with_tests(name.clone(), &content) {
            Some(schema) => vec![schema],
            None => vec![Schema { name, schema: content, instances: Vec::new() }],
        },
        Value::Bool(_) => vec![Schema { name, schema: content, instances: Vec::new() }],
        _ => Vec::new(),
    })
}

fn with_tests(name: String, group: &Value) -> Option<Schema> {
    let schema = group.get("schema")?.clone();
    let instances = group.get("tests")?.as_array()?.iter().filter_map(instance).collect();
    Some(Schema { name, schema, instances })
}

fn instance(test: &Value) -> Option<Instance> {
    let document = match test.get("text") {
        Some(text) => Document::Text(text.as_str()?.to_owned()),
        None => Document::Value(test.get("data")?.clone()),
    };
    Some(Instance { document, is_valid: test.get("valid")?.as_bool()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_shapes_are_read_and_other_files_are_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, content: &str| std::fs::write(folder.path().join(name), content).expect("written");
        std::fs::create_dir(folder.path().join("a")).expect("a folder");
        write("bare.json", r#"{"type": "object"}"#);
        write(
            "a/mask.json",
            r#"{"schema": {}, "tests": [{"data": [1], "valid": true}, {"text": "[ ]", "valid": false}]}"#,
        );
        write(
            "suite.json",
            r#"[{"schema": true, "tests": []}, {"schema": {}, "tests": [{"data": null, "valid": true}]}]"#,
        );
        write("list.json", "[1, 2]");
        write("broken.json", "{");
        write("note.txt", "{}");
        let found: Vec<(String, usize)> = files(folder.path())
            .expect("a folder")
            .iter()
            .flat_map(|path| read(path).expect("a file"))
            .map(|schema| (schema.name.rsplit('/').next().unwrap_or_default().to_owned(), schema.instances.len()))
            .collect();
        let expected = [("mask.json", 2), ("bare.json", 0), ("0", 0), ("1", 1)];
        assert_eq!(found, expected.map(|(name, count)| (name.to_owned(), count)));
    }
}
