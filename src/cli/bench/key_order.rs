//! An instance with its keys in the order in which its schema names them.
//!
//! A decoder writes properties in schema order, so a valid instance in another order is one that it would not write.
//! This puts the keys in order as far as the schema's own words go: `properties`, through local references and the
//! keywords that apply other schemas in place, and the values of `const` and `enum`. Keys that no schema names keep their
//! places behind those.

use serde_json::{Map, Value};

/// References followed at one place; a loop ends here.
const NUM_SCHEMAS_MAX: usize = 200;

/// `instance` with the keys of each object in the order of `schema`.
pub(super) fn in_schema_order(instance: &Value, schema: &Value) -> Value {
    order(instance, &[schema], schema)
}

fn order(instance: &Value, schemas: &[&Value], root: &Value) -> Value {
    let schemas = applied(schemas, root);
    if let Some(value) = schemas.iter().find_map(|schema| listed(schema, instance)) {
        return value.clone();
    }
    match instance {
        Value::Object(object) => {
            let mut ordered = Map::new();
            let named = schemas.iter().filter_map(|schema| schema.get("properties")?.as_object());
            for key in named.flat_map(Map::keys).chain(object.keys()) {
                if let Some(value) = object.get(key)
                    && !ordered.contains_key(key)
                {
                    ordered.insert(key.clone(), order(value, &of_member(&schemas, key), root));
                }
            }
            Value::Object(ordered)
        }
        Value::Array(items) => {
            let items = items.iter().enumerate().map(|(idx, item)| order(item, &of_item(&schemas, idx), root));
            Value::Array(items.collect())
        }
        scalar => scalar.clone(),
    }
}

/// The value of `const` or `enum` that is the instance, whatever the order of its keys.
fn listed<'a>(schema: &'a Value, instance: &Value) -> Option<&'a Value> {
    let members = schema.get("enum").and_then(Value::as_array).into_iter().flatten();
    schema.get("const").into_iter().chain(members).find(|value| *value == instance)
}

/// The schemas and all that they apply in place, each once.
fn applied<'a>(schemas: &[&'a Value], root: &'a Value) -> Vec<&'a Value> {
    let mut all: Vec<&Value> = Vec::new();
    let mut open: Vec<&Value> = schemas.iter().rev().copied().collect();
    while let Some(schema) = open.pop() {
        if all.len() == NUM_SCHEMAS_MAX || all.iter().any(|known| std::ptr::eq(*known, schema)) {
            continue;
        }
        all.push(schema);
        let reference = ["$ref", "$dynamicRef", "$recursiveRef"].iter().find_map(|key| schema.get(key)?.as_str());
        let target = reference.and_then(|reference| root.pointer(reference.strip_prefix('#')?));
        let lists = ["allOf", "anyOf", "oneOf"].iter().filter_map(|key| schema.get(key)?.as_array()).flatten();
        let single = ["if", "then", "else"].iter().filter_map(|key| schema.get(key));
        let next: Vec<&Value> = target.into_iter().chain(lists).chain(single).collect();
        open.extend(next.into_iter().rev());
    }
    all
}

fn of_member<'a>(schemas: &[&'a Value], key: &str) -> Vec<&'a Value> {
    let property = |schema: &&'a Value| schema.get("properties")?.get(key);
    let named: Vec<&Value> = schemas.iter().filter_map(property).collect();
    if !named.is_empty() {
        return named;
    }
    let patterns = schemas.iter().filter_map(|schema| schema.get("patternProperties")?.as_object());
    let others = schemas.iter().filter_map(|schema| schema.get("additionalProperties"));
    patterns.flat_map(Map::values).chain(others).collect()
}

fn of_item<'a>(schemas: &[&'a Value], idx: usize) -> Vec<&'a Value> {
    let item = |schema: &&'a Value| {
        let prefix = schema.get("prefixItems").and_then(Value::as_array).and_then(|items| items.get(idx));
        match (prefix, schema.get("items")) {
            (Some(prefix), _) => Some(prefix),
            (None, Some(Value::Array(items))) => items.get(idx).or_else(|| schema.get("additionalItems")),
            (None, items) => items,
        }
    };
    schemas.iter().filter_map(item).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_follow_the_schema_through_references_and_lists() {
        let schema = json!({
            "$defs": {"point": {"properties": {"x": {}, "y": {}}}, "loop": {"$ref": "#/$defs/loop"}},
            "allOf": [{"properties": {"b": {"$ref": "#/$defs/point"}}}, {"$ref": "#/$defs/loop"}],
            "properties": {"a": {"type": "array", "items": {"$ref": "#/$defs/point"}}},
            "additionalProperties": {"$ref": "#/$defs/point"}
        });
        let instance = json!({"z": {"y": 1, "x": 2}, "b": {"w": 0, "y": 1, "x": 2}, "a": [{"y": 1, "x": 2}, 3]});
        assert_eq!(
            in_schema_order(&instance, &schema).to_string(),
            r#"{"a":[{"x":2,"y":1},3],"b":{"x":2,"y":1,"w":0},"z":{"x":2,"y":1}}"#
        );
    }

    #[test]
    fn a_listed_value_is_written_as_the_schema_writes_it() {
        let schema = json!({"items": {"enum": [1, {"b": {"d": 1, "c": 2}, "a": 0}]}});
        let instance = json!([{"a": 0, "b": {"c": 2, "d": 1}}, {"a": 0}]);
        let ordered = in_schema_order(&instance, &schema);
        assert_eq!(ordered.to_string(), r#"[{"b":{"d":1,"c":2},"a":0},{"a":0}]"#);
    }

    #[test]
    fn an_instance_of_a_boolean_schema_stays_as_it_is() {
        let instance = json!({"b": 1, "a": [true]});
        assert_eq!(in_schema_order(&instance, &json!(true)).to_string(), instance.to_string());
    }
}
