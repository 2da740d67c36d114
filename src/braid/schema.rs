//! Several JSON Schemas that all bind, as one.
//!
//! Each schema moves whole into `$defs` of a common one, and its references move along: `#/$defs/Item` becomes
//! `#/$defs/part0/$defs/Item`. An `allOf` then demands them all, so that properties keep the order of the first.

use serde_json::{Map, Value, json};

use super::BraidError;

/// How deep a schema may nest to be combined; a level costs about 300 bytes of stack.
const SCHEMA_DEPTH_MAX: usize = 512;

/// Keywords that give a schema or its parts another identity, which moving would break.
const IMMOVABLE: [&str; 6] = ["$id", "$anchor", "$dynamicAnchor", "$dynamicRef", "$recursiveRef", "$recursiveAnchor"];

const ONE_SCHEMA: [&str; 11] = [
    "items",
    "additionalItems",
    "additionalProperties",
    "contains",
    "propertyNames",
    "not",
    "if",
    "then",
    "else",
    "unevaluatedItems",
    "unevaluatedProperties",
];
const LIST_OF_SCHEMAS: [&str; 5] = ["allOf", "anyOf", "oneOf", "prefixItems", "items"];
const MAP_OF_SCHEMAS: [&str; 5] = ["properties", "patternProperties", "$defs", "definitions", "dependentSchemas"];

/// One schema that demands all of `schemas` (name of the constraint, schema); a single one stays as it is.
///
/// # Errors
/// [`BraidError::NotMergeable`] and [`BraidError::SchemaTooDeep`], only where there are several.
pub(super) fn all_of(schemas: Vec<(String, Value)>) -> Result<Option<Value>, BraidError> {
    let mut schemas = schemas;
    if schemas.len() < 2 {
        return Ok(schemas.pop().map(|(_, schema)| schema));
    }
    let (mut parts, mut definitions) = (Vec::new(), Map::new());
    for (index, (name, mut schema)) in schemas.into_iter().enumerate() {
        let place = format!("#/$defs/part{index}");
        move_references(&mut schema, &place, &name, 0)?;
        parts.push(json!({"$ref": place}));
        definitions.insert(format!("part{index}"), schema);
    }
    Ok(Some(json!({"allOf": parts, "$defs": definitions})))
}

fn move_references(schema: &mut Value, place: &str, name: &str, depth: usize) -> Result<(), BraidError> {
    if depth > SCHEMA_DEPTH_MAX {
        return Err(BraidError::SchemaTooDeep { name: name.to_owned(), limit: SCHEMA_DEPTH_MAX });
    }
    let Value::Object(keywords) = schema else { return Ok(()) };
    let refuse = |keyword| Err(BraidError::NotMergeable { name: name.to_owned(), keyword });
    if let Some(keyword) = IMMOVABLE.into_iter().find(|keyword| keywords.contains_key(*keyword)) {
        return refuse(keyword);
    }
    for (keyword, value) in keywords.iter_mut() {
        match value {
            Value::String(reference) if keyword == "$ref" => match reference.strip_prefix('#') {
                Some(pointer) if pointer.is_empty() || pointer.starts_with('/') => {
                    *reference = format!("{place}{pointer}");
                }
                _ => return refuse("$ref"),
            },
            Value::String(dialect) if keyword == "$schema" => {
                if !dialect.contains("2020-12") {
                    return refuse("$schema");
                }
            }
            Value::Array(schemas) if LIST_OF_SCHEMAS.contains(&keyword.as_str()) => {
                for schema in schemas {
                    move_references(schema, place, name, depth + 1)?;
                }
            }
            Value::Object(schemas) if MAP_OF_SCHEMAS.contains(&keyword.as_str()) => {
                for (_, schema) in schemas.iter_mut() {
                    move_references(schema, place, name, depth + 1)?;
                }
            }
            schema @ Value::Object(_) if ONE_SCHEMA.contains(&keyword.as_str()) => {
                move_references(schema, place, name, depth + 1)?;
            }
            _ => {}
        }
    }
    keywords.shift_remove("$schema");
    Ok(())
}
