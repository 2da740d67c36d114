//! A checked schema in llguidance's own subset: one definition for each set of schemas that must hold together.
//!
//! What must hold together is a [`Key`], and every key is worked out once into plain cases that name the keys of their
//! items and members; so recursion in a schema is a circle of definitions. Keys that no finite document can satisfy are
//! found by a fixed point and taken out, so that the grammar has no blind alleys. The result says the same as the
//! schema, or there is none: what has no exact form is refused with its place.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value, json};

use super::expand::Expander;
use super::shape::{Case, End, Key, Named, Plain, Type};
use crate::guide::{GuideConfig, GuideError};

/// A schema in llguidance's subset.
pub(super) struct Lowered {
    pub(super) schema: Map<String, Value>,
    /// Whether some object has named properties and open ones beside them.
    pub(super) open_objects: bool,
}

/// Rewrites `root`, which [`Walk`](super::walk::Walk) has checked; `None` where no document satisfies it.
///
/// # Errors
/// [`GuideError::UnsupportedSchema`] for what has no exact form, [`GuideError::TooLarge`].
pub(super) fn lower(
    part: &str,
    root: &Value,
    targets: &HashMap<String, String>,
    config: &GuideConfig,
) -> Result<Option<Lowered>, GuideError> {
    let mut expander = Expander::new(part, root, targets, config);
    let start = expander.key(String::new(), root);
    let nodes = Nodes::of(&mut expander, &start)?;
    let possible = nodes.possible();
    if start.is_always() {
        return Ok(Some(Lowered { schema: Map::new(), open_objects: false }));
    }
    let Some(root_idx) = nodes.number.get(&start).copied().filter(|&idx| possible[idx]) else { return Ok(None) };
    nodes.write(root_idx, &possible, part, config).map(Some)
}

struct Nodes {
    number: HashMap<Key, usize>,
    cases: Vec<Vec<Case>>,
}

impl Nodes {
    /// Works out every key that can be reached.
    fn of(expander: &mut Expander<'_>, start: &Key) -> Result<Self, GuideError> {
        let mut nodes = Self { number: HashMap::new(), cases: Vec::new() };
        let mut waiting = vec![start.clone()];
        let mut order = Vec::new();
        while let Some(key) = waiting.pop() {
            if key.is_never() || key.is_always() || nodes.number.contains_key(&key) {
                continue;
            }
            let mut cases = Vec::new();
            for kind in Type::ALL {
                cases.extend(expander.cases(&key, kind)?);
            }
            let before = waiting.len();
            cases.iter().for_each(|case| waiting.extend(keys_of(&case.plain).cloned()));
            waiting[before..].reverse();
            nodes.number.insert(key.clone(), order.len());
            order.push(key);
            nodes.cases.push(cases);
        }
        Ok(nodes)
    }

    fn is_possible(&self, key: &Key, possible: &[bool]) -> bool {
        key.is_always() || self.number.get(key).is_some_and(|&idx| possible[idx])
    }

    /// Which keys some finite document satisfies: the least fixed point.
    fn possible(&self) -> Vec<bool> {
        let mut users: Vec<Vec<usize>> = vec![Vec::new(); self.cases.len()];
        for (idx, cases) in self.cases.iter().enumerate() {
            for key in cases.iter().flat_map(|case| keys_of(&case.plain)) {
                if let Some(&used) = self.number.get(key) {
                    users[used].push(idx);
                }
            }
        }
        let mut possible = vec![false; self.cases.len()];
        let mut stack: Vec<usize> = (0..self.cases.len()).collect();
        while let Some(idx) = stack.pop() {
            if !possible[idx] && self.cases[idx].iter().any(|case| self.is_possible_case(&case.plain, &possible)) {
                possible[idx] = true;
                stack.extend(&users[idx]);
            }
        }
        possible
    }

    fn is_possible_case(&self, plain: &Plain, possible: &[bool]) -> bool {
        match plain {
            Plain::Array { prefix, rest, min, .. } => {
                let needed = usize::try_from(*min).unwrap_or(usize::MAX);
                prefix.iter().take(needed).all(|key| self.is_possible(key, possible))
                    && (needed <= prefix.len() || self.is_possible(rest, possible))
            }
            Plain::Object { named, patterns, rest, min_open, .. } => {
                named.iter().all(|member| !member.is_required || self.is_possible(&member.value, possible))
                    && (*min_open == 0
                        || patterns.iter().map(|(_, key)| key).chain([rest]).any(|key| self.is_possible(key, possible)))
            }
            _ => true,
        }
    }

    /// Whether values may have items or members.
    fn has_parts(&self, idx: usize) -> bool {
        self.cases[idx].iter().any(|case| keys_of(&case.plain).next().is_some())
    }

    /// Writes the definitions that are used, in the order in which llguidance comes to them.
    fn write(&self, root: usize, possible: &[bool], part: &str, config: &GuideConfig) -> Result<Lowered, GuideError> {
        let mut writer = Writer { nodes: self, possible, open_objects: false };
        let mut definitions = Map::new();
        let mut seen = HashSet::from([root]);
        let mut stack = vec![(root, 1usize)];
        let mut schema = Map::new();
        while let Some((idx, depth)) = stack.pop() {
            // llguidance recurses over the definitions.
            GuideError::check_size(
                part,
                "nesting of the lowered schema",
                depth,
                config.max_schema_nesting + config.max_ref_chain,
            )?;
            let written = writer.node(idx)?;
            let keys = self.cases[idx].iter().flat_map(|case| keys_of(&case.plain));
            let next: Vec<usize> =
                keys.filter_map(|key| self.number.get(key)).copied().filter(|&idx| possible[idx]).collect();
            for next in next.into_iter().rev() {
                if seen.insert(next) {
                    stack.push((next, depth + 1));
                }
            }
            if idx == root {
                schema.clone_from(&written);
            }
            if self.has_parts(idx) {
                definitions.insert(name(idx), Value::Object(written));
            }
        }
        schema.insert("$defs".to_owned(), Value::Object(definitions));
        Ok(Lowered { schema, open_objects: writer.open_objects })
    }
}

fn name(idx: usize) -> String {
    format!("s{idx}")
}

fn keys_of(plain: &Plain) -> impl Iterator<Item = &Key> {
    let (array, object) = match plain {
        Plain::Array { prefix, rest, .. } => (Some(prefix.iter().chain([rest])), None),
        Plain::Object { named, patterns, rest, .. } => {
            let named = named.iter().map(|member| &member.value);
            (None, Some(named.chain(patterns.iter().map(|(_, key)| key)).chain([rest])))
        }
        _ => (None, None),
    };
    array.into_iter().flatten().chain(object.into_iter().flatten())
}

struct Writer<'a> {
    nodes: &'a Nodes,
    possible: &'a [bool],
    open_objects: bool,
}

impl Writer<'_> {
    fn node(&mut self, idx: usize) -> Result<Map<String, Value>, GuideError> {
        let mut branches: Vec<Value> = Vec::new();
        for case in &self.nodes.cases[idx] {
            if !self.nodes.is_possible_case(&case.plain, self.possible) {
                continue;
            }
            if let Some(problem) = &case.problem {
                return Err(problem.clone());
            }
            let branch = self.case(&case.plain)?;
            if !branches.contains(&branch) {
                branches.push(branch);
            }
        }
        if Type::ALL.iter().all(|kind| branches.iter().any(|branch| is_every(branch, *kind))) {
            return Ok(Map::new());
        }
        match branches.pop() {
            Some(Value::Object(branch)) if branches.is_empty() => Ok(branch),
            last => {
                branches.extend(last);
                Ok(Map::from_iter([("anyOf".to_owned(), Value::Array(branches))]))
            }
        }
    }

    /// Scalars are written where they are used, as llguidance forgives an empty one there; the rest by reference.
    fn reference(&mut self, key: &Key) -> Result<Value, GuideError> {
        if key.is_always() {
            return Ok(Value::Bool(true));
        }
        match self.nodes.number.get(key).copied().filter(|&idx| self.possible[idx]) {
            None => Ok(Value::Bool(false)),
            Some(idx) if !self.nodes.has_parts(idx) => self.node(idx).map(Value::Object),
            Some(idx) => Ok(json!({"$ref": format!("#/$defs/{}", name(idx))})),
        }
    }

    fn case(&mut self, plain: &Plain) -> Result<Value, GuideError> {
        Ok(match plain {
            Plain::Null => json!({"type": "null"}),
            Plain::Boolean([true, true]) => json!({"type": "boolean"}),
            Plain::Boolean([_, value]) => json!({"const": value}),
            Plain::Values(values) if values.len() == 1 => json!({"const": values[0]}),
            Plain::Values(values) => json!({"enum": values}),
            Plain::Number { is_integer, min, max, multiple } => {
                let mut schema = of_type(if *is_integer { "integer" } else { "number" });
                write_end(&mut schema, *min, "minimum", "exclusiveMinimum");
                write_end(&mut schema, *max, "maximum", "exclusiveMaximum");
                schema.extend(multiple.clone().map(|multiple| ("multipleOf".to_owned(), multiple)));
                Value::Object(schema)
            }
            Plain::String { min, max, patterns, formats } => text(*min, *max, patterns, formats),
            Plain::Array { prefix, rest, min, max } => self.array(prefix, rest, *min, *max)?,
            Plain::Object { named, patterns, rest, min_open, max_open } => {
                self.object(named, patterns, rest, (*min_open, *max_open))?
            }
        })
    }

    fn array(&mut self, prefix: &[Key], rest: &Key, min: u64, max: Option<u64>) -> Result<Value, GuideError> {
        let mut schema = of_type("array");
        let prefix = prefix.iter().map(|key| self.reference(key)).collect::<Result<Vec<_>, _>>()?;
        let rest = self.reference(rest)?;
        let end = prefix.iter().position(|item| item == &Value::Bool(false)).map(|first| first as u64);
        let max = end.into_iter().chain(max).min();
        if !prefix.is_empty() {
            schema.insert("prefixItems".to_owned(), Value::Array(prefix));
        }
        if rest != Value::Bool(true) {
            schema.insert("items".to_owned(), rest);
        }
        if min > 0 {
            schema.insert("minItems".to_owned(), json!(min));
        }
        schema.extend(max.map(|max| ("maxItems".to_owned(), json!(max))));
        Ok(Value::Object(schema))
    }

    fn object(
        &mut self,
        named: &[Named],
        patterns: &[(String, Key)],
        rest: &Key,
        open: (u64, Option<u64>),
    ) -> Result<Value, GuideError> {
        let (min_open, max_open) = open;
        let mut schema = of_type("object");
        let mut properties = Map::new();
        let mut required = Vec::new();
        for member in named {
            properties.insert(member.name.to_string(), self.reference(&member.value)?);
            if member.is_required {
                required.push(json!(*member.name));
            }
        }
        let mut pattern_properties = Map::new();
        for (pattern, key) in patterns {
            pattern_properties.insert(pattern.clone(), self.reference(key)?);
        }
        let rest = self.reference(rest)?;
        let has_names = !properties.is_empty() || !pattern_properties.is_empty();
        let is_open =
            rest != Value::Bool(false) || pattern_properties.values().any(|value| value != &Value::Bool(false));
        self.open_objects |= has_names && is_open;
        let num_required = required.len() as u64;
        for (keyword, members) in [("properties", properties), ("patternProperties", pattern_properties)] {
            if !members.is_empty() {
                schema.insert(keyword.to_owned(), Value::Object(members));
            }
        }
        if rest != Value::Bool(true) {
            schema.insert("additionalProperties".to_owned(), rest);
        }
        if !required.is_empty() {
            schema.insert("required".to_owned(), Value::Array(required));
        }
        if min_open > 0 {
            schema.insert("minProperties".to_owned(), json!(num_required + min_open));
        }
        schema.extend(max_open.map(|max| ("maxProperties".to_owned(), json!(num_required + max))));
        Ok(Value::Object(schema))
    }
}

fn of_type(name: &str) -> Map<String, Value> {
    Map::from_iter([("type".to_owned(), json!(name))])
}

/// Whether a branch lets every value of a type through.
fn is_every(branch: &Value, kind: Type) -> bool {
    branch.as_object().is_some_and(|branch| branch.len() == 1 && branch.get("type") == Some(&json!(kind.name())))
}

fn write_end(schema: &mut Map<String, Value>, end: Option<End>, included: &str, excluded: &str) {
    if let Some(end) = end {
        let keyword = if end.excluded { excluded } else { included };
        let at = if end.at.fract() == 0.0 { json!(end.at as i64) } else { json!(end.at) };
        schema.insert(keyword.to_owned(), at);
    }
}

fn text(min: u64, max: Option<u64>, patterns: &[String], formats: &[String]) -> Value {
    let mut schema = of_type("string");
    if min > 0 {
        schema.insert("minLength".to_owned(), json!(min));
    }
    schema.extend(max.map(|max| ("maxLength".to_owned(), json!(max))));
    let further = |keyword: &str, value: &String| json!({"type": "string", keyword: value});
    let mut all: Vec<Value> = Vec::new();
    for (keyword, values) in [("pattern", patterns), ("format", formats)] {
        for value in values {
            if schema.contains_key(keyword) {
                all.push(further(keyword, value));
            } else {
                schema.insert(keyword.to_owned(), json!(value));
            }
        }
    }
    if !all.is_empty() {
        schema.insert("allOf".to_owned(), Value::Array(all));
    }
    Value::Object(schema)
}
