//! Shapes to JSON Schema, and declarations to constraints.
//!
//! A schema uses only what a decoder can enforce: `type`, `properties`, `required`, `additionalProperties`,
//! `patternProperties`, `items`, `prefixItems`, `minItems`, `maxItems`, `enum`, `const`, `anyOf`, `allOf`, `$ref`,
//! `pattern`, `format`, and bounds of length and value. Each type is lowered once, with `$ref` for the types it
//! names; a constraint then collects what its type reaches in `$defs`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::link::{Linked, link};
use super::manifest::Manifest;
use super::modules::Given;
use super::shape::{Bound, Declaration, Field, Keyword, Object, Reshape, Shape};
use super::syntax::SourceFile;
use super::{CONSTRAINTS_MAX, DESCRIPTION_BYTES_MAX, SCHEMA_NODES_MAX, TYPE_DEPTH_MAX};
use crate::constraint::{
    Constraint, ConstraintSet, Diagnostic, Kind, Origin, Priority, Rule, Severity, Source, Strength,
};

/// Intersections of unions are multiplied out up to this many objects.
const ALTERNATIVES_MAX: usize = 64;
/// Problems reported per type; one is enough to make it advisory.
const PROBLEMS_MAX: usize = 16;
/// Names followed to see what a type stands for; about 50 ns each, for every type.
const NAMES_FOLLOWED_MAX: usize = 4_096;

/// The types of all files as constraints, each with the types of other files that it names.
pub(super) fn to_constraints(files: &[Given<'_>], manifests: &[Manifest]) -> ConstraintSet {
    let linked = link(files, manifests);
    let mut diagnostics: Vec<Vec<Diagnostic>> = files.iter().map(|given| given.reading.diagnostics.clone()).collect();
    let types = Types::new(&linked, &mut diagnostics);
    let mut lowering = Lowering::new(&types);
    let mut lowered = Vec::with_capacity(linked.len());
    let mut nodes_left = vec![SCHEMA_NODES_MAX; files.len()];
    for (index, one) in linked.iter().enumerate() {
        lowering.nodes_left = nodes_left[one.file];
        lowered.push(lowering.declaration(index));
        nodes_left[one.file] = lowering.nodes_left;
    }
    // Putting constraints together has a budget of its own, so that a file of very many types still gives the first.
    nodes_left.fill(SCHEMA_NODES_MAX);
    Assembly { types: &types, lowered: &lowered, advisory: advisory(&lowered), nodes_left }.into_set(files, diagnostics)
}

/// The declared types by label. A name that is declared twice stands for neither.
struct Types<'a> {
    linked: &'a [Linked],
    by_label: HashMap<&'a str, usize>,
    by_pointer: HashMap<String, usize>,
    ambiguous: HashSet<&'a str>,
}

impl<'a> Types<'a> {
    fn new(linked: &'a [Linked], diagnostics: &mut [Vec<Diagnostic>]) -> Self {
        let (by_label, by_pointer, ambiguous) = (HashMap::new(), HashMap::new(), HashSet::new());
        let mut types = Self { linked, by_label, by_pointer, ambiguous };
        for (index, one) in linked.iter().enumerate() {
            let label = one.label.as_str();
            let first = *types.by_label.entry(label).or_insert(index);
            types.by_pointer.insert(pointer_to(label), first);
            if first != index && types.ambiguous.insert(label) {
                let name = &one.declaration.name;
                let message = format!("`{name}` is declared more than once, so its constraints are only advisory");
                diagnostics[one.file].push(Diagnostic { origin: one.declaration.origin.clone(), message });
            }
        }
        types
    }

    fn declaration(&self, index: usize) -> &'a Declaration {
        &self.linked[index].declaration
    }

    /// What a label stands for, in words.
    fn name(&self, label: &str) -> &'a str {
        self.by_label.get(label).map_or("", |index| &self.declaration(*index).name)
    }

    fn shape(&self, name: &str) -> Option<&'a Shape> {
        self.by_label.get(name).map(|index| &self.declaration(*index).shape)
    }

    /// The shape behind names.
    fn resolve<'s>(&'s self, shape: &'s Shape, depth: usize) -> &'s Shape {
        match shape {
            Shape::Named(name) if depth < TYPE_DEPTH_MAX => match self.shape(name) {
                Some(shape) => self.resolve(shape, depth + 1),
                None => shape,
            },
            Shape::Shared(shared) if depth < TYPE_DEPTH_MAX => self.resolve(shared, depth + 1),
            _ => shape,
        }
    }
}

/// A type as a schema whose references are not yet collected.
struct Lowered {
    schema: Value,
    num_nodes: usize,
    /// Indices of the types it names, in the order they are named.
    refers_to: Vec<usize>,
    /// What is not known about it; then it is only advisory.
    problems: Vec<Diagnostic>,
    /// Bounds that say nothing about their type.
    remarks: Vec<Diagnostic>,
}

struct Lowering<'a> {
    types: &'a Types<'a>,
    nodes_left: usize,
    /// Which type is being lowered.
    declaration: usize,
    /// Field names from the declaration to where we are.
    path: Vec<String>,
    refers_to: Vec<usize>,
    problems: Vec<Diagnostic>,
    remarks: Vec<Diagnostic>,
}

impl<'a> Lowering<'a> {
    fn new(types: &'a Types<'a>) -> Self {
        Self {
            types,
            nodes_left: SCHEMA_NODES_MAX,
            declaration: 0,
            path: Vec::new(),
            refers_to: Vec::new(),
            problems: Vec::new(),
            remarks: Vec::new(),
        }
    }

    fn declaration(&mut self, index: usize) -> Lowered {
        self.declaration = index;
        let Linked { label, declaration, .. } = &self.types.linked[index];
        let before = self.nodes_left;
        let schema = if self.stands_for_itself(label, &declaration.shape) {
            self.problem(&declaration.origin, "stands for itself")
        } else {
            self.schema(&declaration.shape, 0)
        };
        if self.types.ambiguous.contains(label.as_str()) {
            self.problem(&declaration.origin, "is declared more than once");
        }
        if let Some(doubt) = &declaration.doubt {
            self.problem(&doubt.origin, &doubt.message);
        }
        Lowered {
            schema,
            num_nodes: before - self.nodes_left,
            refers_to: std::mem::take(&mut self.refers_to),
            problems: std::mem::take(&mut self.problems),
            remarks: std::mem::take(&mut self.remarks),
        }
    }

    /// Whether a type is reached from itself without passing through a field or an element: `type A = A | null`.
    /// A type that stands for more names than are followed counts as one.
    fn stands_for_itself(&self, label: &str, shape: &Shape) -> bool {
        let mut seen = HashSet::new();
        let mut open = vec![shape];
        while let Some(shape) = open.pop() {
            match shape {
                Shape::Named(name) if name == label => return true,
                Shape::Named(_) if seen.len() > NAMES_FOLLOWED_MAX => return true,
                Shape::Named(name) if seen.insert(name) => open.extend(self.types.shape(name)),
                Shape::Union(parts) | Shape::Intersection(parts) => open.extend(parts),
                Shape::Extends { bases, .. } => open.extend(bases),
                Shape::Reshaped { base, .. } | Shape::Bounded(base, _) => open.push(base),
                Shape::Shared(shape) => open.push(shape),
                _ => {}
            }
        }
        false
    }

    fn problem(&mut self, at: &Origin, why: &str) -> Value {
        let name = &self.types.declaration(self.declaration).name;
        let mut whole = name.clone();
        for field in &self.path {
            whole.push('.');
            whole.push_str(field);
        }
        let message = format!("{whole}: {why}; the constraint of `{}` is only advisory", name);
        let problem = Diagnostic { origin: at.clone(), message };
        if self.problems.len() < PROBLEMS_MAX && !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
        json!({})
    }

    fn problem_here(&mut self, why: &str) -> Value {
        self.problem(&self.types.declaration(self.declaration).origin, why)
    }

    /// Counts a node; `false` once the budget of the file is used up.
    fn spend(&mut self) -> bool {
        match self.nodes_left.checked_sub(1) {
            Some(left) => {
                self.nodes_left = left;
                true
            }
            None => false,
        }
    }

    fn schema(&mut self, shape: &Shape, depth: usize) -> Value {
        if depth > TYPE_DEPTH_MAX {
            return self.problem_here("is nested too deep");
        }
        if !self.spend() {
            return self.problem_here("needs a schema beyond the budget of the file");
        }
        match shape {
            Shape::Any => json!({}),
            Shape::Never | Shape::Undefined => self.problem_here("has no JSON value"),
            Shape::Null => json!({"type": "null"}),
            Shape::Boolean => json!({"type": "boolean"}),
            Shape::Integer => json!({"type": "integer"}),
            Shape::Number => json!({"type": "number"}),
            Shape::Text => json!({"type": "string"}),
            Shape::Format(format) => json!({"type": "string", "format": format}),
            Shape::Pattern(pattern) => json!({"type": "string", "pattern": pattern}),
            Shape::AnyObject => json!({"type": "object"}),
            Shape::Literal(value) => json!({"const": value}),
            Shape::Enum(members) => self.one_of(members.iter().map(|(_, value)| value.clone())),
            Shape::Member { declared, member, at } => self.member(declared, member, at),
            Shape::Named(name) => self.reference(name),
            Shape::List(item) => {
                let items = self.schema(item, depth + 1);
                json!({"type": "array", "items": items})
            }
            Shape::Tuple { items, num_required, rest } => self.tuple(items, *num_required, rest.as_deref(), depth),
            Shape::Union(_) => self.union(shape, depth),
            Shape::Bounded(inner, bounds) => {
                let mut schema = self.schema(inner, depth + 1);
                for bound in bounds {
                    self.tighten(&mut schema, bound);
                }
                schema
            }
            Shape::Shared(shape) => self.schema(shape, depth),
            Shape::Reference { .. } | Shape::Parameter(_) | Shape::Slice(_) => {
                self.problem_here("is a name that was not looked up")
            }
            Shape::Map { .. } | Shape::Object(_) | Shape::Extends { .. } | Shape::Intersection(_) => {
                self.objects(shape, depth)
            }
            Shape::Reshaped { base, how: Reshape::NonNullable } => self.non_nullable(base, depth),
            Shape::Reshaped { .. } => self.objects(shape, depth),
            Shape::KeysOf(_) => match self.keys(shape, depth) {
                Some(keys) => self.one_of(keys.into_iter().map(Value::String)),
                None => self.problem_here("has keys that cannot be listed"),
            },
            Shape::FieldOf { base, key } => match self.field_of(base, key, depth) {
                Ok(shape) => self.schema(&shape, depth + 1),
                Err(why) => self.problem_here(&why),
            },
            Shape::Unknown(diagnostic) => self.problem(&diagnostic.origin, &diagnostic.message),
        }
    }

    fn one_of(&mut self, values: impl Iterator<Item = Value>) -> Value {
        let mut distinct: Vec<Value> = Vec::new();
        let mut seen = HashSet::new();
        for value in values {
            if self.spend() && seen.insert(value.to_string()) {
                distinct.push(value);
            }
        }
        match distinct.len() {
            0 => self.problem_here("has no JSON value"),
            1 => json!({"const": distinct.remove(0)}),
            _ => json!({"enum": distinct}),
        }
    }

    fn member(&mut self, declared: &str, member: &str, at: &Origin) -> Value {
        let value = match self.types.shape(declared) {
            Some(Shape::Enum(members)) => members.iter().find(|(name, _)| name == member).map(|(_, value)| value),
            _ => None,
        };
        match value {
            Some(value) => json!({"const": value}),
            None => self.problem(at, &format!("`{}.{member}` has no known value", self.types.name(declared))),
        }
    }

    fn reference(&mut self, name: &str) -> Value {
        let Some(&index) = self.types.by_label.get(name) else {
            return self.problem_here("is a type that gives no constraint");
        };
        if !self.refers_to.contains(&index) {
            self.refers_to.push(index);
        }
        json!({"$ref": pointer_to(name)})
    }

    fn tuple(&mut self, items: &[Shape], num_required: usize, rest: Option<&Shape>, depth: usize) -> Value {
        let prefix: Vec<Value> = items.iter().map(|item| self.schema(item, depth + 1)).collect();
        let rest = rest.map(|rest| self.schema(rest, depth + 1));
        let mut schema = json!({"type": "array"});
        if !prefix.is_empty() {
            schema["prefixItems"] = Value::Array(prefix);
        }
        if rest.is_none() {
            schema["maxItems"] = Value::from(items.len());
        }
        schema["items"] = rest.unwrap_or(Value::Bool(false));
        schema["minItems"] = Value::from(num_required);
        schema
    }

    /// Literals become one `enum`; `undefined` and `never` add no JSON value.
    fn union(&mut self, shape: &Shape, depth: usize) -> Value {
        let (mut literals, mut others): (Vec<Value>, Vec<Value>) = (Vec::new(), Vec::new());
        let mut seen = HashSet::new();
        for part in union_parts(shape) {
            match part {
                Shape::Undefined | Shape::Never => {}
                Shape::Any => return json!({}),
                Shape::Literal(value) => literals.push(value.clone()),
                Shape::Null => literals.push(Value::Null),
                other => {
                    let schema = self.schema(other, depth + 1);
                    if seen.insert(schema.to_string()) {
                        others.push(schema);
                    }
                }
            }
        }
        if literals == [Value::Null] && !others.is_empty() {
            others.push(json!({"type": "null"}));
        } else if !literals.is_empty() {
            let literals = self.one_of(literals.into_iter());
            others.push(literals);
        }
        match others.len() {
            0 => self.problem_here("has no JSON value"),
            1 => others.remove(0),
            _ => json!({"anyOf": others}),
        }
    }

    fn non_nullable(&mut self, base: &Shape, depth: usize) -> Value {
        let base = match self.evaluated(base, depth) {
            Ok(base) => base,
            Err(why) => return self.problem_here(&why),
        };
        let (mut kept, mut open, mut num_followed) = (Vec::new(), vec![&base], 0);
        while let Some(shape) = open.pop() {
            num_followed += 1;
            match self.types.resolve(shape, 0) {
                _ if num_followed > NAMES_FOLLOWED_MAX => return self.problem_here("stands for too many types"),
                Shape::Union(parts) => open.extend(parts.iter().rev()),
                Shape::Null | Shape::Undefined => {}
                // What has a name keeps it.
                _ => kept.push(shape.clone()),
            }
        }
        self.schema(&Shape::Union(kept), depth + 1)
    }

    /// The shape that `T["key"]` is, however often; other shapes stay as they are.
    fn evaluated(&mut self, shape: &Shape, depth: usize) -> Result<Shape, String> {
        if depth > TYPE_DEPTH_MAX {
            return Err("is nested too deep".to_owned());
        }
        match self.types.resolve(shape, 0).clone() {
            Shape::FieldOf { base, key } => self.field_of(&base, &key, depth + 1),
            other => Ok(other),
        }
    }

    /// Object types, and whatever is made of them.
    fn objects(&mut self, shape: &Shape, depth: usize) -> Value {
        if let Shape::Intersection(parts) = shape
            && let Some(scalar) = self.branded(parts)
        {
            return self.schema(&scalar, depth + 1);
        }
        match self.alternatives(shape, depth) {
            Err(why) => self.problem(&why.origin, &why.message),
            Ok(mut objects) if objects.len() == 1 => self.object(&objects.remove(0), depth),
            Ok(objects) => {
                let schemas: Vec<Value> = objects.iter().map(|object| self.object(object, depth)).collect();
                json!({"anyOf": schemas})
            }
        }
    }

    /// `string & { __brand: "Id" }` is how TypeScript tells texts apart: as JSON it is the text.
    fn branded(&self, parts: &[Shape]) -> Option<Shape> {
        let (scalars, others): (Vec<_>, Vec<_>) = parts.iter().partition(|part| {
            matches!(
                part,
                Shape::Boolean
                    | Shape::Integer
                    | Shape::Number
                    | Shape::Text
                    | Shape::Format(_)
                    | Shape::Pattern(_)
                    | Shape::Literal(_)
            )
        });
        let brands = others.iter().all(|part| matches!(part, Shape::Object(_) | Shape::AnyObject));
        (scalars.len() == 1 && brands).then(|| scalars[0].clone())
    }

    fn object(&mut self, object: &Object, depth: usize) -> Value {
        let (mut properties, mut required) = (Map::new(), Vec::new());
        for field in &object.fields {
            let optional = field.optional || self.admits_undefined(&field.shape, 0);
            if optional && field.shape == Shape::Never {
                continue;
            }
            self.path.push(field.name.clone());
            let mut schema = self.schema(&field.shape, depth + 1);
            self.path.pop();
            describe(&mut schema, &field.doc);
            properties.insert(field.name.clone(), schema);
            if !optional {
                required.push(Value::from(field.name.as_str()));
            }
        }
        let mut schema = json!({"type": "object"});
        if !properties.is_empty() {
            schema["properties"] = Value::Object(properties);
        }
        if !required.is_empty() {
            schema["required"] = Value::Array(required);
        }
        schema["additionalProperties"] = Value::Bool(false);
        if let Some((keys, values)) = &object.index {
            self.index(&mut schema, keys, values, depth);
        }
        schema
    }

    /// Further keys of an object.
    fn index(&mut self, schema: &mut Value, keys: &Shape, values: &Shape, depth: usize) {
        self.path.push("[key]".to_owned());
        let values = self.schema(values, depth + 1);
        match self.key_pattern(keys) {
            Ok(None) => schema["additionalProperties"] = values,
            Ok(Some(pattern)) => schema["patternProperties"] = json!({ pattern: values }),
            Err(()) => {
                schema["additionalProperties"] = self.problem_here("has keys of a type that no schema states");
            }
        }
        self.path.pop();
    }

    /// The pattern of a map's keys; `None` for any text.
    fn key_pattern(&self, keys: &Shape) -> Result<Option<String>, ()> {
        match self.types.resolve(keys, 0) {
            Shape::Text => Ok(None),
            Shape::Number | Shape::Integer => Ok(Some("^-?(0|[1-9][0-9]*)$".to_owned())),
            Shape::Pattern(pattern) => Ok(Some(pattern.clone())),
            Shape::Bounded(inner, bounds) if matches!(**inner, Shape::Integer) => Ok(Some(integer_keys(bounds))),
            _ => Err(()),
        }
    }

    fn admits_undefined(&self, shape: &Shape, depth: usize) -> bool {
        let resolved = self.types.resolve(shape, depth);
        match resolved {
            Shape::Undefined => true,
            Shape::Bounded(inner, _) => depth < TYPE_DEPTH_MAX && self.admits_undefined(inner, depth + 1),
            Shape::Union(_) => {
                depth < TYPE_DEPTH_MAX
                    && union_parts(resolved).into_iter().any(|part| self.admits_undefined(part, depth + 1))
            }
            _ => false,
        }
    }

    /// The object types that a shape is one of.
    fn alternatives(&mut self, shape: &Shape, depth: usize) -> Result<Vec<Object>, Diagnostic> {
        if depth > TYPE_DEPTH_MAX || !self.spend() {
            return Err(self.trouble("is nested too deep"));
        }
        match shape {
            Shape::Object(object) => Ok(vec![self.copied(object)?]),
            Shape::Named(name) => match self.types.shape(name) {
                Some(_) if self.types.ambiguous.contains(name.as_str()) => {
                    Err(self.trouble(&format!("`{}` is declared more than once", self.types.name(name))))
                }
                Some(shape) => self.alternatives(shape, depth + 1),
                None => Err(self.trouble("is a type that gives no constraint")),
            },
            Shape::Shared(shape) => self.alternatives(shape, depth + 1),
            Shape::Bounded(shape, _) => self.alternatives(shape, depth + 1),
            Shape::Extends { bases, own } => {
                let mut object = Object::default();
                for base in bases {
                    match base {
                        // What a base nobody knows adds is further keys; what the type itself says still holds.
                        Shape::Unknown(why) => {
                            self.problem(&why.origin, &why.message);
                            object.index = Some((Box::new(Shape::Text), Box::new(Shape::Any)));
                        }
                        base => extend(&mut object, self.flat(base, depth + 1)?),
                    }
                }
                extend(&mut object, self.copied(own)?);
                Ok(vec![object])
            }
            Shape::Union(_) => {
                let mut objects = Vec::new();
                for part in union_parts(shape) {
                    objects.extend(self.alternatives(part, depth + 1)?);
                    self.check_count(objects.len())?;
                }
                Ok(objects)
            }
            Shape::Intersection(parts) => self.product(parts, depth),
            Shape::Map { keys, values, all_keys } => Ok(vec![self.map(keys, values, *all_keys, depth)?]),
            Shape::Reshaped { base, how } => {
                let objects = self.alternatives(base, depth + 1)?;
                objects.into_iter().map(|object| self.reshape(object, how, depth)).collect()
            }
            Shape::Unknown(diagnostic) => Err(diagnostic.clone()),
            _ => Err(self.trouble("is made of something that is not an object type")),
        }
    }

    /// The one object type that a shape is.
    fn flat(&mut self, shape: &Shape, depth: usize) -> Result<Object, Diagnostic> {
        let mut objects = self.alternatives(shape, depth)?;
        match objects.len() {
            1 => Ok(objects.remove(0)),
            _ => Err(self.trouble("is made of a union where one object type is needed")),
        }
    }

    fn product(&mut self, parts: &[Shape], depth: usize) -> Result<Vec<Object>, Diagnostic> {
        let mut objects = vec![Object::default()];
        for part in parts {
            let choices = self.alternatives(part, depth + 1)?;
            self.check_count(objects.len() * choices.len())?;
            let mut next = Vec::new();
            for object in &objects {
                for choice in &choices {
                    let mut both = self.copied(object)?;
                    if !meet(&mut both, self.copied(choice)?) {
                        return Err(self.trouble("meets two types of further keys"));
                    }
                    next.push(both);
                }
            }
            objects = next;
        }
        Ok(objects)
    }

    fn map(&mut self, keys: &Shape, values: &Shape, all_keys: bool, depth: usize) -> Result<Object, Diagnostic> {
        let Some(names) = self.keys(keys, depth) else {
            return Ok(Object { fields: Vec::new(), index: Some((Box::new(keys.clone()), Box::new(values.clone()))) });
        };
        let values = Shape::Shared(Arc::new(values.clone()));
        let mut fields = Vec::new();
        for name in names {
            if !self.spend() {
                return Err(self.trouble("has too many keys"));
            }
            fields.push(Field { name, shape: values.clone(), optional: !all_keys, doc: String::new() });
        }
        Ok(Object { fields, index: None })
    }

    fn reshape(&mut self, mut object: Object, how: &Reshape, depth: usize) -> Result<Object, Diagnostic> {
        let mut named = |keys: &Shape| {
            self.keys(keys, depth)
                .map(HashSet::<String>::from_iter)
                .ok_or_else(|| self.trouble("has keys that cannot be listed"))
        };
        match how {
            Reshape::Partial => object.fields.iter_mut().for_each(|field| field.optional = true),
            Reshape::Required => object.fields.iter_mut().for_each(|field| field.optional = false),
            Reshape::Pick(keys) => {
                let keys = named(keys)?;
                object.fields.retain(|field| keys.contains(&field.name));
                object.index = None;
            }
            Reshape::Omit(keys) => {
                let keys = named(keys)?;
                object.fields.retain(|field| !keys.contains(&field.name));
            }
            Reshape::NonNullable => {}
        }
        Ok(object)
    }

    /// The keys a shape lists; `None` when it does not list them.
    fn keys(&mut self, shape: &Shape, depth: usize) -> Option<Vec<String>> {
        if depth > TYPE_DEPTH_MAX || !self.spend() {
            return None;
        }
        match shape {
            Shape::Literal(Value::String(key)) => Some(vec![key.clone()]),
            Shape::Literal(Value::Number(key)) => Some(vec![key.to_string()]),
            Shape::Enum(members) => {
                Some(members.iter().map(|(_, value)| value.as_str().map_or(value.to_string(), str::to_owned)).collect())
            }
            Shape::Union(_) => {
                let mut keys = Vec::new();
                for part in union_parts(shape) {
                    keys.extend(self.keys(part, depth + 1)?);
                }
                Some(keys)
            }
            Shape::Named(name) => self.keys(self.types.shape(name)?, depth + 1),
            Shape::Shared(shape) => self.keys(shape, depth + 1),
            Shape::KeysOf(base) => {
                let object = self.flat(base, depth + 1).ok()?;
                object.index.is_none().then(|| object.fields.into_iter().map(|field| field.name).collect())
            }
            _ => None,
        }
    }

    fn field_of(&mut self, base: &Shape, key: &Shape, depth: usize) -> Result<Shape, String> {
        let base = self.evaluated(base, depth)?;
        if let (Shape::List(item), Shape::Number) = (single(&base), key) {
            return Ok((**item).clone());
        }
        let keys = self.keys(key, depth).ok_or("has keys that cannot be listed")?;
        let object = self.flat(&base, depth + 1).map_err(|why| why.message)?;
        let mut shapes = Vec::new();
        for key in &keys {
            let field = object.fields.iter().find(|field| field.name == *key);
            let field = field.ok_or_else(|| format!("has no field `{key}`"))?;
            shapes.push(field.shape.clone());
            if field.optional {
                shapes.push(Shape::Undefined);
            }
        }
        Ok(Shape::Union(shapes))
    }

    /// A copy of an object, paid for from the budget.
    fn copied(&mut self, object: &Object) -> Result<Object, Diagnostic> {
        match self.nodes_left.checked_sub(object.fields.len()) {
            Some(left) => {
                self.nodes_left = left;
                Ok(object.clone())
            }
            None => Err(self.trouble("needs a schema beyond the budget of the file")),
        }
    }

    fn check_count(&self, num_objects: usize) -> Result<(), Diagnostic> {
        if num_objects <= ALTERNATIVES_MAX {
            return Ok(());
        }
        Err(self.trouble(&format!("multiplies out to more than {ALTERNATIVES_MAX} objects")))
    }

    fn trouble(&self, why: &str) -> Diagnostic {
        let origin = self.types.declaration(self.declaration).origin.clone();
        Diagnostic { origin, message: why.to_owned() }
    }

    /// Adds a bound to every alternative of a schema that it speaks of.
    fn tighten(&mut self, schema: &mut Value, bound: &Bound) {
        if !self.tightened(schema, bound) {
            let message = format!("{:?} says nothing about this type and is left out", bound.keyword);
            self.remarks.push(Diagnostic { origin: bound.at.clone(), message });
        }
    }

    fn tightened(&self, schema: &mut Value, bound: &Bound) -> bool {
        if let Some(Value::Array(alternatives)) = schema.get_mut("anyOf") {
            let num_tightened =
                alternatives.iter_mut().filter_map(|one| self.tightened(one, bound).then_some(())).count();
            return num_tightened > 0;
        }
        let json_type = match (schema.get("type"), schema.get("$ref")) {
            (Some(Value::String(json_type)), _) => json_type.clone(),
            (None, Some(Value::String(pointer))) => match self.json_type_at(pointer) {
                Some(json_type) => json_type.to_owned(),
                None => return false,
            },
            _ => return false,
        };
        let Some(keyword) = bound.keyword.for_type(&json_type) else { return false };
        match (bound.keyword, schema.get(keyword).cloned()) {
            // A sibling of a reference states its type anew.
            (Keyword::Whole, _) | (_, None) => schema[keyword] = bound.value.clone(),
            (_, Some(present)) if present == bound.value => {}
            (_, Some(present)) => schema[keyword] = stricter(keyword, present, &bound.value),
        }
        true
    }

    /// The JSON type of a declared type that is a scalar or a list.
    fn json_type_at(&self, pointer: &str) -> Option<&'static str> {
        let mut shape = &self.types.declaration(*self.types.by_pointer.get(pointer)?).shape;
        for _ in 0..TYPE_DEPTH_MAX {
            shape = match self.types.resolve(shape, 0) {
                Shape::Bounded(inner, _) => inner,
                Shape::Integer => return Some("integer"),
                Shape::Number => return Some("number"),
                Shape::Text | Shape::Format(_) | Shape::Pattern(_) => return Some("string"),
                Shape::List(_) => return Some("array"),
                _ => return None,
            };
        }
        None
    }
}

/// The pattern of bounded whole numbers as keys: those with fewer digits than the bounds, and a sign where it is free.
fn integer_keys(bounds: &[Bound]) -> String {
    let bound = |keyword| bounds.iter().find(|bound| bound.keyword == keyword).map(|bound| bound.value.to_string());
    let minimum = bound(Keyword::Minimum).unwrap_or_default();
    let maximum = bound(Keyword::Maximum).unwrap_or_default();
    let is_signed = minimum.trim_start_matches('-').len() == maximum.len();
    match maximum.len().checked_sub(2) {
        Some(more) => format!("^{}(0|[1-9][0-9]{{0,{more}}})$", if is_signed { "-?" } else { "" }),
        None => "^0$".to_owned(),
    }
}

/// Of two values for one keyword, the one that allows less.
fn stricter(keyword: &str, present: Value, other: &Value) -> Value {
    let (Some(a), Some(b)) = (present.as_f64(), other.as_f64()) else { return other.clone() };
    let keep = if keyword.starts_with("max") || keyword == "exclusiveMaximum" { a <= b } else { a >= b };
    if keep { present } else { other.clone() }
}

/// The alternatives of a union of unions.
fn union_parts(shape: &Shape) -> Vec<&Shape> {
    let (mut parts, mut open) = (Vec::new(), vec![shape]);
    while let Some(shape) = open.pop() {
        match shape {
            Shape::Union(inner) => open.extend(inner.iter().rev()),
            part => parts.push(part),
        }
    }
    parts
}

/// The one part of a union of one, behind its bounds.
fn single(shape: &Shape) -> &Shape {
    match (shape, union_parts(shape).as_slice()) {
        (Shape::Bounded(inner, _), _) => inner,
        (_, [Shape::Bounded(inner, _)]) => inner,
        (_, [part]) => part,
        _ => shape,
    }
}

/// Adds fields to an object; a field of the same name is replaced where it stands.
fn extend(object: &mut Object, more: Object) {
    let mut position: HashMap<String, usize> =
        object.fields.iter().enumerate().map(|(index, field)| (field.name.clone(), index)).collect();
    for field in more.fields {
        match position.get(&field.name) {
            Some(&index) => object.fields[index] = field,
            None => {
                position.insert(field.name.clone(), object.fields.len());
                object.fields.push(field);
            }
        }
    }
    object.index = more.index.or(object.index.take());
}

/// Narrows an object to what is also another; `false` if both allow further keys of different types.
fn meet(object: &mut Object, other: Object) -> bool {
    let position: HashMap<String, usize> =
        object.fields.iter().enumerate().map(|(index, field)| (field.name.clone(), index)).collect();
    for field in other.fields {
        let Some(&index) = position.get(&field.name) else {
            object.fields.push(field);
            continue;
        };
        let present = &mut object.fields[index];
        present.optional &= field.optional;
        if present.shape != field.shape {
            present.shape = Shape::Intersection(vec![present.shape.clone(), field.shape]);
        }
    }
    match (&object.index, other.index) {
        (Some(one), Some(two)) => *one == two,
        (None, Some(index)) => {
            object.index = Some(index);
            true
        }
        (_, None) => true,
    }
}

/// The reference to a declared type. Names of types are identifiers; what a URI does not hold is percent-encoded.
fn pointer_to(name: &str) -> String {
    let mut pointer = String::from("#/$defs/");
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'-' | b'.') {
            pointer.push(char::from(byte));
        } else {
            pointer.push_str(&format!("%{byte:02X}"));
        }
    }
    pointer
}

/// A schema with its references by name.
fn renamed(schema: &Value, names: &HashMap<String, String>) -> Value {
    match schema {
        Value::Object(map) => {
            let entry = |(key, value): (&String, &Value)| match (key.as_str(), value) {
                ("$ref", Value::String(pointer)) if names.contains_key(pointer) => {
                    (key.clone(), Value::from(pointer_to(&names[pointer])))
                }
                _ => (key.clone(), renamed(value, names)),
            };
            Value::Object(map.iter().map(entry).collect())
        }
        Value::Array(items) => items.iter().map(|item| renamed(item, names)).collect(),
        other => other.clone(),
    }
}

fn describe(schema: &mut Value, doc: &str) {
    if !doc.is_empty() {
        schema["description"] = Value::from(cut(doc));
    }
}

/// At most [`DESCRIPTION_BYTES_MAX`] bytes of a description.
fn cut(doc: &str) -> &str {
    &doc[..doc.floor_char_boundary(DESCRIPTION_BYTES_MAX)]
}

/// Puts the lowered types together: what each one reaches, how strongly it binds, what it depends on.
struct Assembly<'a> {
    types: &'a Types<'a>,
    lowered: &'a [Lowered],
    advisory: Vec<bool>,
    /// Per file.
    nodes_left: Vec<usize>,
}

impl Assembly<'_> {
    fn into_set(mut self, files: &[Given<'_>], mut diagnostics: Vec<Vec<Diagnostic>>) -> ConstraintSet {
        let mut ids: Vec<Option<String>> = vec![None; self.lowered.len()];
        let mut emitted = Vec::new();
        let (mut num_emitted, mut num_skipped) = (vec![0_usize; files.len()], vec![0_usize; files.len()]);
        for (index, id) in ids.iter_mut().enumerate() {
            let Linked { file, is_instance, .. } = self.types.linked[index];
            self.report(index, &mut diagnostics[file]);
            if is_instance {
                continue;
            }
            let more = num_skipped[file] == 0 && num_emitted[file] < CONSTRAINTS_MAX;
            let Some(constraint) = more.then(|| self.constraint(index)).flatten() else {
                num_skipped[file] += 1;
                continue;
            };
            num_emitted[file] += 1;
            *id = Some(constraint.id.clone());
            emitted.push((index, constraint));
        }
        let mut set = ConstraintSet::default();
        for ((given, num_skipped), mut diagnostics) in files.iter().zip(num_skipped).zip(diagnostics) {
            if num_skipped > 0 {
                let message = format!(
                    "{num_skipped} further types are left out: a file gives at most {CONSTRAINTS_MAX} constraints and {SCHEMA_NODES_MAX} schema nodes"
                );
                diagnostics.push(SourceFile { text: "", name: given.file, first_line: 1 }.whole(message));
            }
            set.diagnostics.append(&mut diagnostics);
        }
        let mut position = HashMap::new();
        for (index, mut constraint) in emitted {
            let known = *position.entry(constraint.id.clone()).or_insert(set.constraints.len());
            if known < set.constraints.len() {
                set.constraints[known].frequency += 1;
                continue;
            }
            let refers_to = self.lowered[index].refers_to.iter().filter(|other| **other != index);
            constraint.depends_on = refers_to.filter_map(|other| ids[*other].clone()).collect();
            set.constraints.push(constraint);
        }
        set
    }

    fn report(&self, index: usize, diagnostics: &mut Vec<Diagnostic>) {
        let lowered = &self.lowered[index];
        diagnostics.extend_from_slice(&lowered.remarks);
        diagnostics.extend_from_slice(&lowered.problems);
        if self.advisory[index] && lowered.problems.is_empty() {
            let cause = lowered.refers_to.iter().find(|other| self.advisory[**other]);
            let cause = cause.map_or("", |other| self.types.declaration(*other).name.as_str());
            let declaration = self.types.declaration(index);
            let message = format!("{}: refers to `{cause}`, so it is only advisory as well", declaration.name);
            diagnostics.push(Diagnostic { origin: declaration.origin.clone(), message });
        }
    }

    /// The constraint of a type; `None` when the budget for schemas is used up.
    fn constraint(&mut self, index: usize) -> Option<Constraint> {
        let declaration = self.types.declaration(index);
        let rule = Rule::JsonSchema { schema: self.schema(index)? };
        Some(Constraint {
            id: Constraint::id_of(&rule),
            name: declaration.name.clone(),
            description: match cut(&declaration.doc) {
                "" => format!("{} {} as JSON", declaration.kind, declaration.name),
                doc => doc.to_owned(),
            },
            kind: Kind::TypeSafety,
            source: Source::TypeSystem,
            severity: Severity::Error,
            priority: Priority::Medium,
            strength: if self.advisory[index] { Strength::Advisory } else { Strength::Hard },
            confidence: 1.0,
            frequency: 1,
            origin: Some(declaration.origin.clone()),
            depends_on: Vec::new(),
            rule,
        })
    }

    /// The self-contained schema of a type.
    fn schema(&mut self, index: usize) -> Option<Value> {
        let reached = self.reached(index);
        let num_nodes = reached.iter().map(|other| self.lowered[*other].num_nodes + 1).sum::<usize>();
        let left = &mut self.nodes_left[self.types.linked[index].file];
        *left = left.checked_sub(num_nodes + self.lowered[index].num_nodes)?;
        let declaration = self.types.declaration(index);
        let names = self.names(&reached);
        let named = |index: usize| renamed(&self.lowered[index].schema, &names);
        let mut schema = Map::new();
        schema.insert("title".to_owned(), Value::from(declaration.name.as_str()));
        if !declaration.doc.is_empty() {
            schema.insert("description".to_owned(), Value::from(cut(&declaration.doc)));
        }
        if reached.contains(&index) {
            let own = names.get(&pointer_to(&self.types.linked[index].label)).map_or("", String::as_str);
            schema.insert("$ref".to_owned(), Value::from(pointer_to(own)));
        } else if let Value::Object(own) = named(index) {
            schema.extend(own);
        }
        if !reached.is_empty() {
            let definition = |other: &usize| {
                let name = &names[&pointer_to(&self.types.linked[*other].label)];
                (name.clone(), named(*other))
            };
            schema.insert("$defs".to_owned(), Value::Object(reached.iter().map(definition).collect()));
        }
        Some(Value::Object(schema))
    }

    /// What types are called within one schema, by the reference to their label: by their name, or, where an earlier
    /// one has that name, by their name and a number.
    fn names(&self, reached: &[usize]) -> HashMap<String, String> {
        let (mut names, mut num_taken) = (HashMap::new(), HashMap::<&str, usize>::new());
        for &index in reached {
            let name = self.types.declaration(index).name.as_str();
            let taken = num_taken.entry(name).or_default();
            *taken += 1;
            let number = if *taken > 1 { format!(".{taken}") } else { String::new() };
            names.insert(pointer_to(&self.types.linked[index].label), format!("{name}{number}"));
        }
        names
    }

    /// The types that a type refers to, directly or not, in the order a reader meets them; itself if it recurs.
    fn reached(&self, index: usize) -> Vec<usize> {
        let (mut reached, mut seen) = (Vec::new(), HashSet::new());
        let mut open: Vec<usize> = self.lowered[index].refers_to.iter().rev().copied().collect();
        while let Some(other) = open.pop() {
            if seen.insert(other) {
                reached.push(other);
                open.extend(self.lowered[other].refers_to.iter().rev());
            }
        }
        reached
    }
}

/// Which types are only advisory: those with a problem, and those that refer to one.
fn advisory(lowered: &[Lowered]) -> Vec<bool> {
    let mut referred_by = vec![Vec::new(); lowered.len()];
    for (index, one) in lowered.iter().enumerate() {
        for other in &one.refers_to {
            referred_by[*other].push(index);
        }
    }
    let mut advisory: Vec<bool> = lowered.iter().map(|one| !one.problems.is_empty()).collect();
    let mut open: Vec<usize> = (0..lowered.len()).filter(|index| advisory[*index]).collect();
    while let Some(index) = open.pop() {
        for &other in &referred_by[index] {
            if !std::mem::replace(&mut advisory[other], true) {
                open.push(other);
            }
        }
    }
    advisory
}
