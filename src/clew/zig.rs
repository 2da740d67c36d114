//! Zig's types to shapes, as `std.json` writes and parses them by default.
//!
//! A field may be absent only if it has a default: an optional without one must be there and may be null. Slices and
//! arrays of bytes are text, of which arrays take ASCII only here, so that their length is their number of characters.
//! Enums are the names of their values, tagged unions objects with one field. A type with `jsonStringify` or
//! `jsonParse` is unknown. A file with fields is a type itself; a function that returns a struct is a generic type.

use std::collections::HashMap;

use serde_json::Value;
use tree_sitter::{Node, Tree};

use super::TYPE_DEPTH_MAX;
use super::literal::{StrayBackslash, number, unescape};
use super::modules::{FILE_TYPE, inner};
use super::shape::{Bound, Declaration, Field, Import, Keyword, Object, Parameter, Reach, Reading, Shape, integer};
use super::syntax::{Dialect, SourceFile, SyntaxErrors, children, has_token};

/// Zig.
pub(super) static ZIG: Dialect = Dialect::new(
    || tree_sitter_zig::LANGUAGE.into(),
    concat!(include_str!("queries/zig/types.scm"), include_str!("queries/errors.scm")),
);

/// Reads every type that is declared in the file or in a type of the file.
pub(super) fn read(dialect: &'static Dialect, file: SourceFile<'_>, tree: &Tree) -> Reading {
    let mut reader = Reader {
        file,
        this: FILE_TYPE.to_owned(),
        parameters: Vec::new(),
        imported: HashMap::new(),
        reading: Reading::default(),
    };
    let mut errors = SyntaxErrors::new();
    for captures in dialect.matches(tree, file.text) {
        match captures[..] {
            [("error" | "missing", node)] => errors.report(file, node, &mut reader.reading.diagnostics),
            [("file", node)] => reader.members(node),
            _ => {}
        }
    }
    errors.finish(file, tree, &mut reader.reading.diagnostics);
    reader.reading
}

struct Reader<'s> {
    file: SourceFile<'s>,
    /// The type that is being read: what `@This()` means.
    this: String,
    parameters: Vec<&'s str>,
    /// What names stand for that come from other files and packages, as paths from there.
    imported: HashMap<String, Vec<String>>,
    reading: Reading,
}

/// A declaration inside a file or type, before it is read.
struct Found<'s, 't> {
    scope: String,
    name: &'s str,
    node: Node<'t>,
    value: Node<'t>,
    parameters: Vec<&'s str>,
}

impl<'s> Reader<'s> {
    fn members(&mut self, root: Node<'_>) {
        let (mut found, mut open) = (Vec::new(), vec![(root, String::new(), 0)]);
        while let Some((container, scope, depth)) = open.pop() {
            for member in children(container) {
                match member.kind() {
                    "variable_declaration" if has_token(member, "const") => {
                        let parts = children(member);
                        let (Some(name), Some(value)) = (parts.first(), parts.last()) else { continue };
                        let name = self.file.text_of(*name);
                        if is_container(*value) && depth < TYPE_DEPTH_MAX {
                            open.push((*value, inner(&scope, name), depth + 1));
                        }
                        let scope = scope.clone();
                        if !self.import(*value, &scope, Some(name)) && self.is_type(name, *value) && !member.has_error()
                        {
                            found.push(Found { scope, name, node: member, value: *value, parameters: Vec::new() });
                        }
                    }
                    "using_namespace_declaration" => {
                        member.named_child(0).map(|value| self.import(value, &scope, None));
                    }
                    "function_declaration" if !member.has_error() => {
                        found.extend(self.generic(member).map(|generic| Found { scope: scope.clone(), ..generic }));
                    }
                    _ => {}
                }
            }
        }
        let has_fields = children(root).iter().any(|member| member.kind() == "container_field");
        if has_fields && !root.has_error() {
            let (scope, parameters) = (String::new(), Vec::new());
            found.push(Found { scope, name: FILE_TYPE, node: root, value: root, parameters });
        }
        found.sort_by_key(|found| found.node.start_byte());
        for declared in found {
            self.declare(declared);
        }
    }

    /// Keeps a name that stands for a file or for another name: `@import("x.zig")`, `x.Y`, `@import("x.zig").Y`.
    fn import(&mut self, value: Node<'_>, scope: &str, name: Option<&str>) -> bool {
        let Some((root, path)) = self.path(value) else { return false };
        let module = match root.kind() {
            "builtin_function" if self.file.text_of(root).starts_with("@import") => {
                let text = self.file.text_of(root);
                let Some(module) = text.split('"').nth(1) else { return false };
                Some(module.to_owned())
            }
            "builtin_function" if self.is_this(root) => None,
            "identifier" => None,
            _ => return false,
        };
        let path = match root.kind() {
            "identifier" => [vec![self.name(root)], path].concat(),
            _ if module.is_none() => [vec![FILE_TYPE.to_owned()], path].concat(),
            _ => path,
        };
        if let (Some(name), true) = (name, scope.is_empty()) {
            let from = match (&module, path.split_first()) {
                (Some(module), _) => [vec![module.clone()], path.clone()].concat(),
                (None, Some((first, rest))) => match self.imported.get(first) {
                    Some(from) => [from, rest].concat(),
                    None => Vec::new(),
                },
                (None, None) => Vec::new(),
            };
            self.imported.insert(name.to_owned(), from);
        }
        let (scope, name) = (scope.to_owned(), name.map(str::to_owned));
        self.reading.imports.push(Import { scope, name, module, path, reach: Reach::Both });
        true
    }

    /// What stands before the first dot, and the names after it.
    fn path<'t>(&self, node: Node<'t>) -> Option<(Node<'t>, Vec<String>)> {
        let (mut current, mut path) = (node, Vec::new());
        while current.kind() == "field_expression" {
            path.push(self.name(current.child_by_field_name("member")?));
            current = current.child_by_field_name("object")?;
        }
        path.reverse();
        Some((current, path))
    }

    fn is_this(&self, node: Node<'_>) -> bool {
        node.kind() == "builtin_function" && self.file.text_of(node).starts_with("@This")
    }

    /// An identifier, which may be quoted: `@"a b"`.
    fn name(&self, node: Node<'_>) -> String {
        unquoted(self.file.text_of(node))
    }

    /// Whether a constant is a type: by its value, or by its name where the value is a call.
    fn is_type(&self, name: &str, value: Node<'_>) -> bool {
        match value.kind() {
            "builtin_type" | "nullable_type" | "slice_type" | "array_type" | "pointer_type" => true,
            "call_expression" => name.starts_with(char::is_uppercase),
            _ => is_container(value),
        }
    }

    /// `fn List(comptime T: type) type { return struct { ... }; }`
    fn generic<'t>(&self, node: Node<'t>) -> Option<Found<'s, 't>> {
        let text = |node: Node<'_>, field| node.child_by_field_name(field).map(|inner| self.file.text_of(inner));
        if text(node, "type") != Some("type") {
            return None;
        }
        let list = children(node).into_iter().find(|child| child.kind() == "parameters")?;
        let parameters = children(list).into_iter().map(|parameter| {
            let is_type = has_token(parameter, "comptime") && text(parameter, "type") == Some("type");
            text(parameter, "name").filter(|_| is_type)
        });
        let parameters = parameters.collect::<Option<Vec<_>>>().filter(|parameters| !parameters.is_empty())?;
        let [statement] = children(node.child_by_field_name("body")?)[..] else { return None };
        let returned = statement.named_child(0).filter(|returned| returned.kind() == "return_expression")?;
        let value = returned.named_child(0).filter(|value| is_container(*value))?;
        Some(Found { scope: String::new(), name: text(node, "name")?, node, value, parameters })
    }

    fn declare(&mut self, found: Found<'s, '_>) {
        found.name.clone_into(&mut self.this);
        self.parameters.clone_from(&found.parameters);
        let (kind, shape) = match found.value.kind() {
            "struct_declaration" | "source_file" => ("struct", self.structure(found.value, 0)),
            "enum_declaration" => ("enum", self.enumeration(found.value)),
            "union_declaration" => ("union", self.union(found.value, 0)),
            _ => ("type", self.shape(found.value, 0)),
        };
        self.parameters.clear();
        self.reading.declare(Declaration {
            name: unquoted(found.name),
            kind: kind.into(),
            origin: self.file.origin(found.node),
            doc: self.file.doc_before(found.node, "///"),
            shape,
            scope: found.scope,
            parameters: found
                .parameters
                .iter()
                .map(|name| Parameter { name: (*name).to_owned(), default: None })
                .collect(),
            doubt: None,
        });
    }

    fn shape(&mut self, node: Node<'_>, depth: usize) -> Shape {
        if depth > TYPE_DEPTH_MAX {
            return self.file.unknown(node, &format!("is nested deeper than {TYPE_DEPTH_MAX} types"));
        }
        let parts = children(node);
        match (node.kind(), &parts[..]) {
            ("builtin_type", _) => {
                primitive(self.file.text_of(node)).unwrap_or_else(|| self.file.unknown(node, "has no JSON form"))
            }
            ("struct_declaration", _) => self.structure(node, depth),
            ("enum_declaration", _) => self.enumeration(node),
            ("union_declaration", _) => self.union(node, depth),
            ("nullable_type", [inner]) => Shape::Union(vec![self.shape(*inner, depth + 1), Shape::Null]),
            ("pointer_type", [.., inner]) if self.file.text_of(node).starts_with('*') => self.shape(*inner, depth + 1),
            ("slice_type", [.., item]) if self.file.text_of(*item) == "u8" => Shape::Text,
            ("slice_type", [.., item]) => Shape::List(Box::new(self.shape(*item, depth + 1))),
            ("array_type", [length, item]) => self.array(node, *length, *item, depth),
            ("builtin_function", _) if self.is_this(node) => {
                let arguments = self.parameters.iter().map(|name| Shape::Parameter((*name).to_owned())).collect();
                Shape::reference([self.this.as_str()], arguments, self.file.unknown(node, "is not a type with a name"))
            }
            ("identifier" | "field_expression", _) => self.named(node, Vec::new()),
            ("call_expression", [function, arguments @ ..]) => {
                let arguments = arguments.iter().map(|argument| self.shape(*argument, depth + 1)).collect();
                self.named(*function, arguments)
            }
            _ => self.file.unknown(node, "is not a type of JSON values, or none that is read"),
        }
    }

    fn named(&self, node: Node<'_>, arguments: Vec<Shape>) -> Shape {
        let unknown = self.file.unknown(node, "is not declared in the files given");
        let Some((root, rest)) = self.path(node).filter(|(root, _)| root.kind() == "identifier") else {
            return unknown;
        };
        let first = self.name(root);
        if rest.is_empty() && self.parameters.contains(&first.as_str()) {
            return Shape::Parameter(first);
        }
        if let Some(from) = self.imported.get(&first)
            && let Some(shape) = library(&[from, &rest[..]].concat(), &arguments)
        {
            return shape;
        }
        Shape::Reference { path: [vec![first], rest].concat(), arguments, otherwise: Box::new(unknown) }
    }

    fn array(&mut self, node: Node<'_>, length: Node<'_>, item: Node<'_>, depth: usize) -> Shape {
        let Some(length) = number(self.file.text_of(length)).filter(Value::is_u64) else {
            return self.file.unknown(node, "has a length that is not a literal");
        };
        if self.file.text_of(item) == "u8" {
            return Shape::Pattern(format!("^[\\x00-\\x7f]{{{length}}}$"));
        }
        let bounds = [Keyword::MinItems, Keyword::MaxItems].map(|keyword| Bound::known(keyword, length.clone()));
        Shape::List(Box::new(self.shape(item, depth + 1))).bounded(bounds.into())
    }

    /// A struct, or a tuple, whose fields have only types.
    fn structure(&mut self, node: Node<'_>, depth: usize) -> Shape {
        if let Some(method) = self.json_method(node) {
            return self.file.unknown(method, "decides the JSON form");
        }
        let (mut object, mut items) = (Object::default(), Vec::new());
        for field in children(node).into_iter().filter(|member| member.kind() == "container_field") {
            let Some(name) = field.child_by_field_name("name") else { continue };
            let Some(declared) = field.child_by_field_name("type") else {
                items.push(self.shape(name, depth + 1));
                continue;
            };
            let shape = match has_token(field, "comptime") {
                true => self.file.unknown(field, "has one value"),
                false => self.shape(declared, depth + 1),
            };
            let (name, doc) = (self.name(name), self.file.doc_before(field, "///"));
            object.fields.push(Field { name, shape, optional: has_token(field, "="), doc });
        }
        match (items.is_empty(), object.fields.is_empty()) {
            (true, _) => Shape::Object(object),
            (false, true) => Shape::Tuple { num_required: items.len(), items, rest: None },
            (false, false) => self.file.unknown(node, "mixes fields with and without names"),
        }
    }

    /// A function by which a type writes or parses itself.
    fn json_method<'t>(&self, node: Node<'t>) -> Option<Node<'t>> {
        const NAMES: [&str; 3] = ["jsonStringify", "jsonParse", "jsonParseFromValue"];
        children(node).into_iter().find(|member| {
            let name = member.child_by_field_name("name").filter(|_| member.kind() == "function_declaration");
            name.is_some_and(|name| NAMES.contains(&self.file.text_of(name)))
        })
    }

    fn enumeration(&self, node: Node<'_>) -> Shape {
        if let Some(method) = self.json_method(node) {
            return self.file.unknown(method, "decides the JSON form");
        }
        let fields = children(node).into_iter().filter(|member| member.kind() == "container_field");
        let names = fields.filter_map(|field| field.child_by_field_name("name")).map(|name| self.name(name));
        Shape::Enum(names.filter(|name| name != "_").map(|name| (name.clone(), Value::from(name))).collect())
    }

    /// A tagged union: an object with one field.
    fn union(&mut self, node: Node<'_>, depth: usize) -> Shape {
        if let Some(method) = self.json_method(node) {
            return self.file.unknown(method, "decides the JSON form");
        }
        let members = children(node);
        // `union(enum)`, or `union(Tag)`.
        let is_tagged = has_token(node, "enum") || members.first().is_some_and(|first| first.kind() == "identifier");
        if !is_tagged {
            return self.file.unknown(node, "is a union without a tag");
        }
        let mut shapes = Vec::new();
        for field in members.into_iter().filter(|member| member.kind() == "container_field") {
            let Some(name) = field.child_by_field_name("name").map(|name| self.name(name)) else { continue };
            let shape = match field.child_by_field_name("type") {
                Some(declared) if self.file.text_of(declared) != "void" => self.shape(declared, depth + 1),
                _ => Shape::Object(Object::default()),
            };
            let field = Field { name, shape, optional: false, doc: self.file.doc_before(field, "///") };
            shapes.push(Shape::Object(Object { fields: vec![field], index: None }));
        }
        Shape::Union(shapes)
    }
}

fn unquoted(name: &str) -> String {
    let quoted = name.strip_prefix("@\"").and_then(|name| name.strip_suffix('"'));
    quoted.and_then(|inside| unescape(inside, StrayBackslash::Dropped)).unwrap_or_else(|| name.to_owned())
}

fn is_container(node: Node<'_>) -> bool {
    matches!(node.kind(), "struct_declaration" | "enum_declaration" | "union_declaration")
}

fn primitive(name: &str) -> Option<Shape> {
    Some(match name {
        "bool" => Shape::Boolean,
        "f16" | "f32" | "f64" | "f80" | "f128" => Shape::Number,
        "usize" => integer(64, false),
        "isize" => integer(64, true),
        "c_char" => integer(7, false),
        "c_short" => integer(16, true),
        "c_ushort" => integer(16, false),
        "c_int" | "c_long" => integer(32, true),
        "c_uint" | "c_ulong" => integer(32, false),
        _ if name.starts_with(['u', 'i']) => match name[1..].parse().ok()? {
            0 => return None,
            bits => integer(bits, name.starts_with('i')),
        },
        _ => return None,
    })
}

/// What types of the standard library are as JSON.
fn library(path: &[String], arguments: &[Shape]) -> Option<Shape> {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    Some(match (&path[..], arguments) {
        (["std", "json", "Value"], []) => Shape::Any,
        (["std", "json", "ArrayHashMap"], [values]) => {
            Shape::Map { keys: Box::new(Shape::Text), values: Box::new(values.clone()), all_keys: false }
        }
        _ => return None,
    })
}
