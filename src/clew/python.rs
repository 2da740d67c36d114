//! Python's data types to shapes: dataclasses, pydantic-style models, `TypedDict`, `NamedTuple`, `Enum`, `NewType`
//! and type aliases.
//!
//! A field with a default need not be in the JSON. Other classes are no data types and are not read. Validators are
//! code and are not read either: a model's schema says what its annotations and `Field` bounds say.

use std::collections::{HashMap, HashSet};

use serde_json::Value;
use tree_sitter::{Node, Tree};

use super::TYPE_DEPTH_MAX;
use super::literal::{StrayBackslash, number, unescape};
use super::shape::{Bound, Declaration, Field, Import, Keyword, Object, Reach, Reading, Shape};
use super::syntax::{Dialect, SourceFile, SyntaxErrors, children};

/// Python.
pub(super) static PYTHON: Dialect = Dialect::new(
    || tree_sitter_python::LANGUAGE.into(),
    concat!(include_str!("queries/python/types.scm"), include_str!("queries/errors.scm")),
);

/// Reads every named data type of a file.
pub(super) fn read(dialect: &'static Dialect, file: SourceFile<'_>, tree: &Tree) -> Reading {
    let mut reader = Reader::new(file);
    let found = reader.collect(dialect, tree);
    for declared in &found {
        reader.declare(*declared);
    }
    reader.reading
}

/// A declaration as the query found it.
#[derive(Clone, Copy)]
enum Found<'t> {
    Class(Node<'t>),
    /// `type X = ...`
    Alias(Node<'t>),
    /// `X = ...`, `X: TypeAlias = ...`
    Assignment(Node<'t>),
}

/// What a class is, as far as its JSON form goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flavor {
    Dataclass,
    Model,
    TypedDict,
    NamedTuple,
    Enum(Auto),
}

/// What `auto()` gives in an enum.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Auto {
    /// The next number.
    Number,
    /// The member's name in lower case.
    Name,
    /// Something that is not followed.
    Other,
}

struct Class<'t> {
    node: Node<'t>,
    bases: Vec<Node<'t>>,
    decorators: Vec<Node<'t>>,
}

struct Reader<'s, 't> {
    file: SourceFile<'s>,
    classes: HashMap<&'s str, Class<'t>>,
    flavors: HashMap<&'s str, Flavor>,
    /// Names that stand for a type of the file.
    named: HashSet<&'s str>,
    /// Imported names, and whether they come from a module beside this one.
    imported: HashMap<&'s str, bool>,
    reading: Reading,
}

impl<'s, 't> Reader<'s, 't> {
    fn new(file: SourceFile<'s>) -> Self {
        Self {
            file,
            classes: HashMap::new(),
            flavors: HashMap::new(),
            named: HashSet::new(),
            imported: HashMap::new(),
            reading: Reading::default(),
        }
    }

    /// Runs the query, and settles which names are types.
    fn collect(&mut self, dialect: &'static Dialect, tree: &'t Tree) -> Vec<Found<'t>> {
        let (mut found, mut decorators) = (Vec::new(), HashMap::<usize, Vec<Node<'t>>>::new());
        let mut errors = SyntaxErrors::new();
        for captures in dialect.matches(tree, self.file.text) {
            match captures[..] {
                [("error" | "missing", node)] => errors.report(self.file, node, &mut self.reading.diagnostics),
                [("decorator", decorator), (_, class)] => decorators.entry(class.id()).or_default().push(decorator),
                [("import", node)] if !node.has_error() => self.import(node),
                [("class", node), _] => found.push(Found::Class(node)),
                [("alias", node), _] if !node.has_error() => found.push(Found::Alias(node)),
                [("assignment", node), _] if !node.has_error() && self.assigns_type(node) => {
                    found.push(Found::Assignment(node));
                }
                _ => {}
            }
        }
        errors.finish(self.file, tree, &mut self.reading.diagnostics);
        self.settle(&found, &mut decorators);
        found
    }

    /// `import a.b`, `import a.b as c`, `from a import b as c`, `from a import *`.
    fn import(&mut self, node: Node<'t>) {
        let module = node.child_by_field_name("module_name");
        let is_relative = module.is_some_and(|module| self.file.text_of(module).starts_with('.'));
        let of_module = |name: &str| Some(name.replace(char::is_whitespace, ""));
        for part in children(node).into_iter().filter(|part| Some(*part) != module) {
            let taken = part.child_by_field_name("name").map_or(part, |name| name);
            let taken = self.file.text_of(taken);
            let alias = part.child_by_field_name("alias").map(|alias| self.file.text_of(alias));
            let (name, from, path) = match (module, part.kind()) {
                (Some(module), "wildcard_import") => (None, of_module(self.file.text_of(module)), Vec::new()),
                (Some(module), _) => (Some(alias.unwrap_or(taken)), of_module(self.file.text_of(module)), vec![taken]),
                (None, _) if alias.is_some() => (alias, of_module(taken), Vec::new()),
                // `import a.b` gives the name `a`.
                (None, _) => {
                    let package = taken.split('.').next().unwrap_or_default();
                    (Some(package), of_module(package), Vec::new())
                }
            };
            self.reading.imports.push(Import {
                scope: String::new(),
                name: name.map(str::to_owned),
                module: from,
                path: path.into_iter().map(str::to_owned).collect(),
                reach: Reach::Both,
            });
            self.imported.extend(name.map(|name| (name, is_relative)));
        }
    }

    fn settle(&mut self, found: &[Found<'t>], decorators: &mut HashMap<usize, Vec<Node<'t>>>) {
        for declared in found {
            let name = self.name_of(*declared);
            if let Found::Class(node) = *declared {
                let bases = node.child_by_field_name("superclasses").map(children).unwrap_or_default();
                let decorators = decorators.remove(&node.id()).unwrap_or_default();
                self.classes.entry(name).or_insert(Class { node, bases, decorators });
            } else {
                self.named.insert(name);
            }
        }
        let names: Vec<&'s str> = self.classes.keys().copied().collect();
        for name in names {
            if let Some(flavor) = self.flavor(name) {
                self.flavors.insert(name, flavor);
                self.named.insert(name);
            }
        }
    }

    fn name_of(&self, declared: Found<'t>) -> &'s str {
        let (node, field) = match declared {
            Found::Class(node) => (node, "name"),
            Found::Alias(node) | Found::Assignment(node) => (node, "left"),
        };
        node.child_by_field_name(field).map_or("", |name| self.file.text_of(name))
    }

    /// Whether an assignment at the top of a module gives a type a name.
    fn assigns_type(&self, node: Node<'t>) -> bool {
        let Some(right) = node.child_by_field_name("right") else { return false };
        if let Some(annotation) = node.child_by_field_name("type") {
            return last_segment(self.file.text_of(annotation)) == "TypeAlias";
        }
        let head = match right.kind() {
            "call" => right.child_by_field_name("function"),
            "subscript" => right.child_by_field_name("value"),
            _ => None,
        };
        let head = head.map_or("", |head| last_segment(self.file.text_of(head)));
        match right.kind() {
            "call" => matches!(head, "NewType" | "TypedDict" | "constr" | "conint" | "confloat" | "conlist"),
            "subscript" => {
                matches!(head, "Optional" | "Union" | "Literal" | "Annotated")
                    || matches!(head, "list" | "List" | "dict" | "Dict" | "tuple" | "Tuple" | "set" | "Set")
            }
            _ => false,
        }
    }

    /// What a class is: by its decorators, its bases, or the bases of those.
    fn flavor(&self, name: &str) -> Option<Flavor> {
        let (mut seen, mut open) = (HashSet::new(), vec![name]);
        while let Some(name) = open.pop() {
            let Some(class) = self.classes.get(name).filter(|class| seen.insert(class.node.id())) else { continue };
            if class.decorators.iter().any(|decorator| self.makes_dataclass(*decorator)) {
                return Some(Flavor::Dataclass);
            }
            for base in class.bases.iter().rev() {
                let base = self.base_name(*base);
                match base {
                    "BaseModel" | "SQLModel" | "BaseSettings" => return Some(Flavor::Model),
                    "TypedDict" => return Some(Flavor::TypedDict),
                    "NamedTuple" => return Some(Flavor::NamedTuple),
                    "StrEnum" => return Some(Flavor::Enum(Auto::Name)),
                    "IntEnum" => return Some(Flavor::Enum(Auto::Number)),
                    // What `auto()` gives is up to the type that is mixed in.
                    "Enum" if class.bases.len() > 1 => return Some(Flavor::Enum(Auto::Other)),
                    "Enum" => return Some(Flavor::Enum(Auto::Number)),
                    "Flag" | "IntFlag" => return Some(Flavor::Enum(Auto::Other)),
                    _ => open.push(base),
                }
            }
        }
        None
    }

    fn makes_dataclass(&self, decorator: Node<'_>) -> bool {
        let text = self.file.text_of(decorator).trim_start_matches('@').trim();
        let name = text.split('(').next().unwrap_or_default().trim();
        last_segment(name) == "dataclass"
    }

    /// The last name of a base class: `Generic` of `typing.Generic[T]`; nothing for `total=False`.
    fn base_name(&self, base: Node<'_>) -> &'s str {
        let head = match base.kind() {
            "identifier" | "attribute" => base,
            "subscript" => base.child_by_field_name("value").unwrap_or(base),
            _ => return "",
        };
        last_segment(self.file.text_of(head))
    }

    fn declare(&mut self, declared: Found<'t>) {
        let name = self.name_of(declared);
        let (node, kind, shape) = match declared {
            Found::Class(node) => {
                let Some(flavor) = self.flavors.get(name).copied() else { return };
                let (kind, shape) = self.class(node, flavor);
                (node, kind, shape)
            }
            Found::Alias(node) => {
                let shape = node.child_by_field_name("right").map(|right| self.shape(right, 0));
                (node, "type", shape.unwrap_or_else(|| self.unknown(node, "has no type")))
            }
            Found::Assignment(node) => (node, "type", self.assigned(node)),
        };
        self.reading.declarations.push(Declaration {
            name: name.to_owned(),
            kind: kind.into(),
            origin: self.file.origin(node),
            doc: String::new(),
            shape,
            scope: String::new(),
            parameters: Vec::new(),
            doubt: None,
        });
    }

    fn assigned(&mut self, node: Node<'t>) -> Shape {
        let Some(right) = node.child_by_field_name("right") else { return self.unknown(node, "has no type") };
        let arguments = right.child_by_field_name("arguments").map(children).unwrap_or_default();
        let function = right.child_by_field_name("function").map_or("", |f| last_segment(self.file.text_of(f)));
        match (function, &arguments[..]) {
            ("NewType", [_, inner]) => self.shape(*inner, 0),
            ("TypedDict", [_, fields, rest @ ..]) if fields.kind() == "dictionary" => {
                let total = !rest.iter().any(|argument| self.is_total_false(*argument));
                Shape::Object(self.functional_fields(*fields, total))
            }
            _ => self.shape(right, 0),
        }
    }

    fn is_total_false(&self, argument: Node<'_>) -> bool {
        argument.kind() == "keyword_argument" && self.file.text_of(argument).replace(' ', "") == "total=False"
    }

    /// The fields of `TypedDict("X", {"a": int})`.
    fn functional_fields(&mut self, dictionary: Node<'t>, total: bool) -> Object {
        let mut object = Object::default();
        for pair in children(dictionary) {
            let (key, value) = (pair.child_by_field_name("key"), pair.child_by_field_name("value"));
            let name = key.and_then(|key| self.string(key));
            let (Some(name), Some(value)) = (name, value) else {
                let shape = self.unknown(pair, "is not a field with a literal name");
                object.fields.push(field(self.file.text_of(pair), shape, false));
                continue;
            };
            let mut note = Note { optional: !total, ..Note::default() };
            let shape = self.noted(value, &mut note, 0);
            object.fields.push(field(&name, shape, note.optional));
        }
        object
    }

    fn class(&mut self, node: Node<'t>, flavor: Flavor) -> (&'static str, Shape) {
        let body = node.child_by_field_name("body").map(children).unwrap_or_default();
        if let Some(broken) = body.iter().find(|statement| breaks_class(**statement)) {
            return ("class", self.unknown(*broken, "is a syntax error"));
        }
        match flavor {
            Flavor::Enum(auto) => ("enum", self.enumeration(&body, auto)),
            Flavor::Dataclass => ("dataclass", self.record(node, &body, flavor)),
            Flavor::Model => ("model", self.record(node, &body, flavor)),
            Flavor::TypedDict => ("TypedDict", self.record(node, &body, flavor)),
            Flavor::NamedTuple => ("NamedTuple", self.named_tuple(&body)),
        }
    }

    fn named_tuple(&mut self, body: &[Node<'t>]) -> Shape {
        let object = self.fields(body, Flavor::NamedTuple, true);
        let num_required = object.fields.iter().filter(|field| !field.optional).count();
        Shape::Tuple { items: object.fields.into_iter().map(|field| field.shape).collect(), num_required, rest: None }
    }

    fn record(&mut self, node: Node<'t>, body: &[Node<'t>], flavor: Flavor) -> Shape {
        let bases = node.child_by_field_name("superclasses").map(children).unwrap_or_default();
        let total = !bases.iter().any(|base| self.is_total_false(*base));
        let own = self.fields(body, flavor, total);
        let inherited: Vec<Shape> = bases.iter().filter_map(|base| self.inherited(*base)).collect();
        if inherited.is_empty() {
            return Shape::Object(own);
        }
        // Of several bases the first wins, so it is applied last.
        Shape::Extends { bases: inherited.into_iter().rev().collect(), own }
    }

    /// What a base class adds; `None` for one that adds no fields.
    fn inherited(&self, base: Node<'t>) -> Option<Shape> {
        let name = self.base_name(base);
        let plain = self.classes.contains_key(name) && !self.named.contains(name);
        match name {
            "" | "object" | "ABC" | "Generic" | "Protocol" | "BaseModel" | "SQLModel" | "BaseSettings"
            | "TypedDict" => None,
            _ if plain => None,
            _ if base.kind() == "subscript" => Some(self.unknown(base, "is a generic base class")),
            _ if self.named.contains(name) => Some(Shape::Named(name.to_owned())),
            _ => {
                let otherwise = self.unknown(base, "is a base class that is not declared in this file");
                Some(Shape::reference(self.file.text_of(base).split('.'), Vec::new(), otherwise))
            }
        }
    }

    fn fields(&mut self, body: &[Node<'t>], flavor: Flavor, total: bool) -> Object {
        let mut object = Object::default();
        for statement in body {
            let Some(assignment) = assignment_in(*statement) else { continue };
            match assignment.child_by_field_name("type") {
                Some(annotation) => object.fields.extend(self.field(assignment, annotation, flavor, total)),
                None => object.fields.extend(self.renaming(assignment, flavor)),
            }
        }
        object
    }

    /// A field; `None` for what is annotated but not a field.
    fn field(&mut self, node: Node<'t>, annotation: Node<'t>, flavor: Flavor, total: bool) -> Option<Field> {
        let name = node.child_by_field_name("left").map(|left| self.file.text_of(left))?;
        let head = last_segment(self.file.text_of(annotation).split('[').next().unwrap_or_default().trim());
        if matches!(head, "ClassVar" | "KW_ONLY") || flavor == Flavor::Model && name.starts_with('_') {
            return None;
        }
        let mut note = Note { optional: flavor == Flavor::TypedDict && !total, ..Note::default() };
        let mut shape = self.noted(annotation, &mut note, 0);
        if let Some(default) = node.child_by_field_name("right") {
            match self.called(default) {
                Some("Field" | "field") => {
                    let mut bounds = Vec::new();
                    note.optional |= self.field_call(default, &mut note, &mut bounds);
                    shape = shape.bounded(bounds);
                }
                Some("PrivateAttr") => return None,
                _ => note.optional |= default.kind() != "ellipsis",
            }
        }
        if let Some(problem) = note.problem {
            shape = problem;
        }
        let name = note.alias.unwrap_or_else(|| name.to_owned());
        Some(Field { name, shape, optional: note.optional, doc: note.description })
    }

    /// A model's configuration may rename every field by code: then no field's name is known.
    fn renaming(&self, node: Node<'t>, flavor: Flavor) -> Option<Field> {
        let text = self.file.text_of(node);
        if flavor != Flavor::Model || !text.starts_with("model_config") || !text.contains("alias_generator") {
            return None;
        }
        Some(field("model_config", self.unknown(node, "renames fields by code"), true))
    }

    /// The last name of what an expression calls.
    fn called(&self, node: Node<'_>) -> Option<&'s str> {
        let function = node.child_by_field_name("function").filter(|_| node.kind() == "call")?;
        Some(last_segment(self.file.text_of(function)))
    }

    /// Reads `Field(...)` or `field(...)`; whether it gives a default.
    fn field_call(&self, call: Node<'t>, note: &mut Note, bounds: &mut Vec<Bound>) -> bool {
        let mut has_default = false;
        let arguments = call.child_by_field_name("arguments").map(children).unwrap_or_default();
        for argument in arguments {
            if argument.kind() != "keyword_argument" {
                has_default |= argument.kind() != "ellipsis";
                continue;
            }
            let (Some(key), Some(value)) =
                (argument.child_by_field_name("name"), argument.child_by_field_name("value"))
            else {
                continue;
            };
            match self.file.text_of(key) {
                "default" => has_default |= value.kind() != "ellipsis",
                "default_factory" | "factory" => has_default = true,
                "description" => note.description = self.string(value).unwrap_or_default(),
                "alias" | "validation_alias" => match self.string(value) {
                    Some(alias) => note.alias = Some(alias),
                    None => note.problem = Some(self.unknown(argument, "names the field by code")),
                },
                key => self.bound(key, argument, value, note, bounds),
            }
        }
        has_default
    }

    /// A bound given as a keyword argument; other arguments are left alone.
    fn bound(&self, key: &str, argument: Node<'t>, value: Node<'t>, note: &mut Note, bounds: &mut Vec<Bound>) {
        let keyword = match key {
            "ge" => Keyword::Minimum,
            "le" => Keyword::Maximum,
            "gt" => Keyword::ExclusiveMinimum,
            "lt" => Keyword::ExclusiveMaximum,
            "multiple_of" => Keyword::MultipleOf,
            "min_length" | "min_items" => Keyword::MinSize,
            "max_length" | "max_items" => Keyword::MaxSize,
            "pattern" | "regex" => Keyword::Pattern,
            "max_digits" | "decimal_places" => {
                note.problem = Some(self.unknown(argument, "is a bound that no schema states"));
                return;
            }
            _ => return,
        };
        self.push_bound(keyword, argument, value, note, bounds);
    }

    fn push_bound(&self, keyword: Keyword, at: Node<'t>, value: Node<'t>, note: &mut Note, bounds: &mut Vec<Bound>) {
        if value.kind() == "none" {
            return;
        }
        let value = self.value(value).filter(|value| match keyword {
            Keyword::Pattern => value.is_string(),
            Keyword::MinSize | Keyword::MaxSize => value.is_u64(),
            Keyword::MultipleOf => value.as_f64() > Some(0.0),
            _ => value.is_number(),
        });
        match value {
            Some(value) => bounds.push(Bound { keyword, value, at: self.file.origin(at) }),
            None => note.problem = Some(self.unknown(at, "is a bound that is not a literal")),
        }
    }

    fn enumeration(&self, body: &[Node<'t>], auto: Auto) -> Shape {
        let mut members: Vec<(String, Value)> = Vec::new();
        for statement in body {
            let Some(assignment) = assignment_in(*statement) else { continue };
            let (Some(left), Some(right)) =
                (assignment.child_by_field_name("left"), assignment.child_by_field_name("right"))
            else {
                continue;
            };
            let name = self.file.text_of(left);
            if name.starts_with('_') {
                continue;
            }
            let value = match right.kind() {
                "call" if self.called(right) == Some("auto") => auto_value(name, auto, &members),
                "identifier" => {
                    let other = self.file.text_of(right);
                    members.iter().find(|(name, _)| name == other).map(|(_, value)| value.clone())
                }
                _ => self.value(right),
            };
            let Some(value) = value else {
                return self.unknown(assignment, "has a value that JSON cannot hold or that is computed");
            };
            members.push((name.to_owned(), value));
        }
        Shape::Enum(members)
    }

    /// A literal's value.
    fn value(&self, node: Node<'_>) -> Option<Value> {
        match node.kind() {
            "string" => self.string(node).map(Value::String),
            "integer" | "float" | "unary_operator" => number(&self.file.text_of(node).replace(char::is_whitespace, "")),
            "true" => Some(Value::Bool(true)),
            "false" => Some(Value::Bool(false)),
            _ => None,
        }
    }

    /// The text of a plain or raw string literal.
    fn string(&self, node: Node<'_>) -> Option<String> {
        if node.kind() != "string" {
            return None;
        }
        let text = self.file.text_of(node);
        let quote = text.find(['"', '\''])?;
        let (prefix, quoted) = text.split_at(quote);
        let quotes = if quoted.starts_with("\"\"\"") || quoted.starts_with("'''") { 3 } else { 1 };
        let inside = quoted.get(quotes..quoted.len().checked_sub(quotes)?)?;
        match prefix.to_ascii_lowercase().as_str() {
            "" | "u" => unescape(inside, StrayBackslash::Kept),
            "r" => Some(inside.to_owned()),
            _ => None,
        }
    }

    fn unknown(&self, node: Node<'_>, why: &str) -> Shape {
        self.file.unknown(node, why)
    }

    /// A type, where nothing beside it matters.
    fn shape(&mut self, node: Node<'t>, depth: usize) -> Shape {
        let mut note = Note::default();
        let shape = self.noted(node, &mut note, depth);
        note.problem.unwrap_or(shape)
    }

    /// A type and what its annotation says about the field: `NotRequired`, an alias in `Annotated`.
    fn noted(&mut self, node: Node<'t>, note: &mut Note, depth: usize) -> Shape {
        if depth > TYPE_DEPTH_MAX {
            return self.unknown(node, &format!("is nested deeper than {TYPE_DEPTH_MAX} types"));
        }
        match node.kind() {
            "type" | "parenthesized_expression" => match node.named_child(0) {
                Some(inner) => self.noted(inner, note, depth + 1),
                None => self.unknown(node, "is not understood"),
            },
            "none" => Shape::Null,
            "identifier" => self.name(node, self.file.text_of(node)),
            "attribute" | "member_type" => {
                let text = self.file.text_of(node);
                let otherwise = builtin(last_segment(text));
                let otherwise = otherwise.unwrap_or_else(|| self.unknown(node, "is not declared in this file"));
                Shape::reference(text.split('.'), Vec::new(), otherwise)
            }
            "string" => self.forward_reference(node),
            "binary_operator" | "union_type" => self.union(node, depth),
            "subscript" | "generic_type" => self.generic(node, note, depth),
            "call" => self.constrained(node, note, depth),
            _ => self.unknown(node, "is not a type of JSON values, or none that is read"),
        }
    }

    fn name(&self, node: Node<'_>, name: &str) -> Shape {
        if self.named.contains(name) {
            return Shape::Named(name.to_owned());
        }
        if self.classes.contains_key(name) {
            return self.unknown(node, "is a class that is no data type");
        }
        let otherwise = builtin(name).filter(|_| self.imported.get(name) != Some(&true));
        let otherwise = otherwise.unwrap_or_else(|| self.unknown(node, "is not declared in this file"));
        Shape::reference([name], Vec::new(), otherwise)
    }

    /// A type written as text. Names, `X | None`, `Optional["X"]` and `list["X"]` cover what is written in practice.
    fn forward_reference(&self, node: Node<'_>) -> Shape {
        let Some(text) = self.string(node) else { return self.unknown(node, "is not understood") };
        let mut parts = Vec::new();
        for part in text.split('|').map(str::trim) {
            let listed = part.strip_prefix("list[").or_else(|| part.strip_prefix("List["));
            let optional = part.strip_prefix("Optional[");
            let inner = listed.or(optional).and_then(|inner| inner.strip_suffix(']'));
            let name = inner.unwrap_or(part);
            if !name.chars().all(|character| character.is_alphanumeric() || character == '_') {
                return self
                    .unknown(node, "is a type in quotes that is not read; use `from __future__ import annotations`");
            }
            let shape = if name == "None" { Shape::Null } else { self.name(node, name) };
            match (listed.and(inner), optional.and(inner)) {
                (Some(_), _) => parts.push(Shape::List(Box::new(shape))),
                (_, Some(_)) => parts.extend([shape, Shape::Null]),
                _ => parts.push(shape),
            }
        }
        if parts.len() == 1 { parts.remove(0) } else { Shape::Union(parts) }
    }

    /// `A | B | C`, which the grammar nests to the left: however many, without recursion.
    fn union(&mut self, node: Node<'t>, depth: usize) -> Shape {
        let (mut operands, mut current) = (Vec::new(), node);
        loop {
            let inner = match current.kind() {
                "type" => current.named_child(0),
                _ => None,
            };
            if let Some(inner) = inner {
                current = inner;
                continue;
            }
            let is_union = match current.child_by_field_name("operator") {
                Some(operator) => self.file.text_of(operator) == "|",
                None => current.kind() == "union_type",
            };
            match children(current)[..] {
                [left, right] if is_union => {
                    operands.push(right);
                    current = left;
                }
                _ => break,
            }
        }
        if operands.is_empty() {
            return self.unknown(node, "is not a type of JSON values, or none that is read");
        }
        operands.push(current);
        Shape::Union(operands.into_iter().rev().map(|operand| self.shape(operand, depth + 1)).collect())
    }

    fn generic(&mut self, node: Node<'t>, note: &mut Note, depth: usize) -> Shape {
        let (head, arguments) = self.head_and_arguments(node);
        if self.named.contains(head) || self.classes.contains_key(head) {
            return self.unknown(node, "is a generic class, which is not read");
        }
        let list = |shape: Shape| Shape::List(Box::new(shape));
        match (head, &arguments[..]) {
            ("Optional", [inner]) => Shape::Union(vec![self.shape(*inner, depth + 1), Shape::Null]),
            ("Union", _) => Shape::Union(arguments.iter().map(|argument| self.shape(*argument, depth + 1)).collect()),
            ("Literal", _) => Shape::Union(arguments.iter().map(|argument| self.literal(*argument)).collect()),
            ("Required", [inner]) => {
                note.optional = false;
                self.noted(*inner, note, depth + 1)
            }
            ("NotRequired", [inner]) => {
                note.optional = true;
                self.noted(*inner, note, depth + 1)
            }
            ("Final" | "InitVar" | "ReadOnly", [inner]) => self.noted(*inner, note, depth + 1),
            ("Annotated", [inner, metadata @ ..]) => {
                let shape = self.noted(*inner, note, depth + 1);
                let mut bounds = Vec::new();
                for argument in metadata {
                    self.metadata(*argument, note, &mut bounds);
                }
                shape.bounded(bounds)
            }
            ("tuple" | "Tuple", [item, rest]) if self.file.text_of(*rest) == "..." => {
                list(self.shape(*item, depth + 1))
            }
            ("tuple" | "Tuple", _) => {
                let mut items = Vec::new();
                for item in arguments {
                    // `tuple[()]` is the empty tuple.
                    if self.file.text_of(item) != "()" {
                        items.push(self.shape(item, depth + 1));
                    }
                }
                Shape::Tuple { num_required: items.len(), items, rest: None }
            }
            (
                "list" | "List" | "set" | "Set" | "frozenset" | "FrozenSet" | "Sequence" | "MutableSequence"
                | "Iterable" | "Collection" | "AbstractSet" | "MutableSet" | "deque" | "Deque",
                [item],
            ) => list(self.shape(*item, depth + 1)),
            (
                "dict" | "Dict" | "Mapping" | "MutableMapping" | "OrderedDict" | "defaultdict" | "DefaultDict",
                [keys, values],
            ) => Shape::Map {
                keys: Box::new(self.shape(*keys, depth + 1)),
                values: Box::new(self.shape(*values, depth + 1)),
                all_keys: false,
            },
            _ => self.unknown(node, "is not declared in this file"),
        }
    }

    /// `Optional` and its arguments, of `Optional[X]` in a type or in an expression.
    fn head_and_arguments(&self, node: Node<'t>) -> (&'s str, Vec<Node<'t>>) {
        let mut parts = children(node);
        if parts.is_empty() {
            return ("", parts);
        }
        let head = last_segment(self.file.text_of(parts.remove(0)));
        match parts[..] {
            [parameters] if parameters.kind() == "type_parameter" => (head, children(parameters)),
            _ => (head, parts),
        }
    }

    /// An argument of `Literal[...]`.
    fn literal(&self, argument: Node<'t>) -> Shape {
        let node = match argument.kind() {
            "type" => argument.named_child(0).unwrap_or(argument),
            _ => argument,
        };
        if node.kind() == "none" {
            return Shape::Null;
        }
        if let Some(value) = self.value(node) {
            return Shape::Literal(value);
        }
        match self.file.text_of(node).split_once('.') {
            Some((declared, member)) if self.named.contains(declared) || self.imported.contains_key(declared) => {
                Shape::Member { declared: declared.to_owned(), member: member.to_owned(), at: self.file.origin(node) }
            }
            _ => self.unknown(node, "is not a literal that JSON can hold"),
        }
    }

    /// What stands beside the type in `Annotated`.
    fn metadata(&self, argument: Node<'t>, note: &mut Note, bounds: &mut Vec<Bound>) {
        let call = match argument.kind() {
            "type" => argument.named_child(0).unwrap_or(argument),
            _ => argument,
        };
        let Some(name) = self.called(call) else { return };
        let keyword = match name {
            "Field" | "StringConstraints" => {
                note.optional |= self.field_call(call, note, bounds);
                return;
            }
            "Ge" => Keyword::Minimum,
            "Le" => Keyword::Maximum,
            "Gt" => Keyword::ExclusiveMinimum,
            "Lt" => Keyword::ExclusiveMaximum,
            "MultipleOf" => Keyword::MultipleOf,
            "MinLen" => Keyword::MinSize,
            "MaxLen" => Keyword::MaxSize,
            _ => return,
        };
        let arguments = call.child_by_field_name("arguments").map(children).unwrap_or_default();
        if let [value] = arguments[..] {
            self.push_bound(keyword, call, value, note, bounds);
        }
    }

    /// `constr(...)`, `conint(...)`, `confloat(...)`, `conlist(T, ...)`.
    fn constrained(&mut self, call: Node<'t>, note: &mut Note, depth: usize) -> Shape {
        let arguments = call.child_by_field_name("arguments").map(children).unwrap_or_default();
        let shape = match (self.called(call), arguments.first()) {
            (Some("constr"), _) => Shape::Text,
            (Some("conint"), _) => Shape::Integer,
            (Some("confloat"), _) => Shape::Number,
            (Some("conlist"), Some(item)) => Shape::List(Box::new(self.shape(*item, depth + 1))),
            _ => return self.unknown(call, "is not a type of JSON values, or none that is read"),
        };
        let mut bounds = Vec::new();
        for argument in arguments.into_iter().filter(|argument| argument.kind() == "keyword_argument") {
            if let (Some(key), Some(value)) =
                (argument.child_by_field_name("name"), argument.child_by_field_name("value"))
            {
                self.bound(self.file.text_of(key), argument, value, note, &mut bounds);
            }
        }
        shape.bounded(bounds)
    }
}

/// What an annotation or a default says about a field beside its type.
#[derive(Default)]
struct Note {
    optional: bool,
    alias: Option<String>,
    description: String,
    /// Why the field is not fully known.
    problem: Option<Shape>,
}

fn field(name: &str, shape: Shape, optional: bool) -> Field {
    Field { name: name.to_owned(), shape, optional, doc: String::new() }
}

/// The assignment that a statement is.
fn assignment_in(statement: Node<'_>) -> Option<Node<'_>> {
    statement
        .named_child(0)
        .filter(|inner| statement.kind() == "expression_statement" && inner.kind() == "assignment")
        .filter(|assignment| assignment.child_by_field_name("left").is_some_and(|left| left.kind() == "identifier"))
}

/// Whether a statement of a class is broken in a way that may hide a field. A broken method hides none.
fn breaks_class(statement: Node<'_>) -> bool {
    statement.is_error()
        || statement.has_error() && !matches!(statement.kind(), "function_definition" | "decorated_definition")
}

fn auto_value(name: &str, auto: Auto, members: &[(String, Value)]) -> Option<Value> {
    match auto {
        Auto::Name => Some(Value::from(name.to_lowercase())),
        Auto::Number => {
            let highest = members.iter().filter_map(|(_, value)| value.as_i64()).max();
            Some(Value::from(highest.map_or(1, |highest| highest.saturating_add(1))))
        }
        Auto::Other => None,
    }
}

/// `c` of `a.b.c`.
fn last_segment(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name).trim()
}

/// Types that Python and its usual libraries bring along, by the JSON they are written as.
fn builtin(name: &str) -> Option<Shape> {
    let number = |keyword, shape: Shape| {
        let at = crate::constraint::Origin { file: String::new(), line: 1, column: 1 };
        shape.bounded(vec![Bound { keyword, value: Value::from(0), at }])
    };
    let shape = match name {
        "str" | "Text" | "StrictStr" | "SecretStr" | "Path" | "PurePath" => Shape::Text,
        "int" | "StrictInt" => Shape::Integer,
        "float" | "StrictFloat" | "Decimal" => Shape::Number,
        "bool" | "StrictBool" => Shape::Boolean,
        "None" | "NoneType" => Shape::Null,
        "Any" | "object" | "JsonValue" => Shape::Any,
        "list" | "List" | "tuple" | "Tuple" | "set" | "Set" | "frozenset" => Shape::List(Box::new(Shape::Any)),
        "dict" | "Dict" | "Mapping" => Shape::AnyObject,
        "datetime" | "AwareDatetime" => Shape::Format("date-time"),
        "date" => Shape::Format("date"),
        "time" => Shape::Format("time"),
        "timedelta" => Shape::Format("duration"),
        "UUID" | "UUID1" | "UUID3" | "UUID4" | "UUID5" => Shape::Format("uuid"),
        "EmailStr" => Shape::Format("email"),
        "AnyUrl" | "AnyHttpUrl" | "HttpUrl" => Shape::Format("uri"),
        "IPv4Address" => Shape::Format("ipv4"),
        "IPv6Address" => Shape::Format("ipv6"),
        "PositiveInt" => number(Keyword::ExclusiveMinimum, Shape::Integer),
        "NonNegativeInt" => number(Keyword::Minimum, Shape::Integer),
        "NegativeInt" => number(Keyword::ExclusiveMaximum, Shape::Integer),
        "NonPositiveInt" => number(Keyword::Maximum, Shape::Integer),
        "PositiveFloat" => number(Keyword::ExclusiveMinimum, Shape::Number),
        "NonNegativeFloat" => number(Keyword::Minimum, Shape::Number),
        "NegativeFloat" => number(Keyword::ExclusiveMaximum, Shape::Number),
        "NonPositiveFloat" => number(Keyword::Maximum, Shape::Number),
        _ => return None,
    };
    Some(shape)
}
