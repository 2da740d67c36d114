//! Go's types to shapes, as `encoding/json` writes them.
//!
//! Names are those that `Marshal` writes; `Unmarshal` also takes them in other cases. A field is required unless its
//! tag has `omitempty` or `omitzero`, a pointer may be null, and slices and maps are lists and objects, though nil ones
//! are written as null: a schema may accept less. A named text or integer with constants in the file is one of those.

use std::collections::{HashMap, HashSet};

use serde_json::Value;
use tree_sitter::{Node, Tree};

use super::TYPE_DEPTH_MAX;
use super::literal::{StrayBackslash, number, unescape};
use super::shape::{Declaration, Field, Import, Object, Parameter, Reach, Reading, Shape, integer};
use super::syntax::{Dialect, SourceFile, SyntaxErrors, children, has_token};

/// Go.
pub(super) static GO: Dialect = Dialect::new(
    || tree_sitter_go::LANGUAGE.into(),
    concat!(include_str!("queries/go/types.scm"), include_str!("queries/errors.scm")),
);

/// How deep the expressions of constants nest.
const EXPRESSION_DEPTH_MAX: usize = 8;

/// Reads every type that is declared at the top of a file.
pub(super) fn read(dialect: &'static Dialect, file: SourceFile<'_>, tree: &Tree) -> Reading {
    let mut reader = Reader {
        file,
        parameters: HashSet::new(),
        packages: HashMap::new(),
        constants: HashMap::new(),
        reading: Reading::default(),
    };
    for (declaration, spec) in reader.collect(dialect, tree) {
        reader.declare(declaration, spec);
    }
    reader.reading
}

struct Reader<'s> {
    file: SourceFile<'s>,
    parameters: HashSet<&'s str>,
    /// The paths of imported packages, by the names they have here.
    packages: HashMap<String, String>,
    /// The constants of a type, with their values where they are known.
    constants: HashMap<&'s str, Vec<(String, Option<Value>)>>,
    reading: Reading,
}

impl<'s> Reader<'s> {
    /// Runs the query: keeps the package, imports, constants and methods, and returns the types.
    fn collect<'t>(&mut self, dialect: &'static Dialect, tree: &'t Tree) -> Vec<(Node<'t>, Node<'t>)> {
        let (mut found, mut errors) = (Vec::new(), SyntaxErrors::new());
        for captures in dialect.matches(tree, self.file.text) {
            let [(name, node)] = captures[..] else { continue };
            if name != "item" {
                errors.report(self.file, node, &mut self.reading.diagnostics);
                continue;
            }
            match node.kind() {
                "package_clause" => {
                    self.reading.package = node.named_child(0).map_or("", |name| self.file.text_of(name)).to_owned();
                }
                "import_declaration" => self.imports(node),
                "const_declaration" if !node.has_error() => self.constants(node),
                "method_declaration" => self.method(node),
                "type_declaration" => {
                    found.extend(children(node).into_iter().filter(|spec| !spec.has_error()).map(|spec| (node, spec)));
                }
                _ => {}
            }
        }
        errors.finish(self.file, tree, &mut self.reading.diagnostics);
        found
    }

    fn imports(&mut self, node: Node<'_>) {
        for child in children(node) {
            let specs = if child.kind() == "import_spec_list" { children(child) } else { vec![child] };
            for spec in specs {
                let Some(path) = spec.child_by_field_name("path").and_then(|path| self.string(path)) else { continue };
                let name = match spec.child_by_field_name("name").map(|name| self.file.text_of(name)) {
                    Some("_") => continue,
                    Some(".") => None,
                    Some(alias) => Some(alias.to_owned()),
                    None => Some(package_name(&path).to_owned()),
                };
                self.packages.extend(name.clone().map(|name| (name, path.clone())));
                self.reading.imports.push(Import {
                    scope: String::new(),
                    name,
                    module: Some(path),
                    path: Vec::new(),
                    reach: Reach::Inside,
                });
            }
        }
    }

    /// The typed constants of one declaration: a line without a value repeats the line before.
    fn constants(&mut self, node: Node<'_>) {
        let (mut declared, mut values) = (None, Vec::new());
        for (iota, spec) in children(node).into_iter().filter(|spec| spec.kind() == "const_spec").enumerate() {
            if let Some(list) = spec.child_by_field_name("value") {
                declared = spec.child_by_field_name("type").map(|name| self.file.text_of(name));
                values = children(list);
            }
            let Some(declared) = declared else { continue };
            let mut cursor = spec.walk();
            let names = spec.children_by_field_name("name", &mut cursor).filter(Node::is_named);
            for (position, name) in names.enumerate() {
                let value = values.get(position).and_then(|value| self.constant(*value, iota, 0));
                let name = self.file.text_of(name);
                if name != "_" {
                    self.constants.entry(declared).or_default().push((name.to_owned(), value));
                }
            }
        }
    }

    fn constant(&self, node: Node<'_>, iota: usize, depth: usize) -> Option<Value> {
        match node.kind() {
            "iota" => Some(Value::from(iota)),
            "int_literal" | "unary_expression" => number(self.file.text_of(node)).filter(Value::is_i64),
            "interpreted_string_literal" | "raw_string_literal" => self.string(node).map(Value::String),
            "parenthesized_expression" if depth < EXPRESSION_DEPTH_MAX => {
                self.constant(node.named_child(0)?, iota, depth + 1)
            }
            "binary_expression" if depth < EXPRESSION_DEPTH_MAX => {
                let operand = |field| self.constant(node.child_by_field_name(field)?, iota, depth + 1)?.as_i64();
                let (left, right) = (operand("left")?, operand("right")?);
                let value = match self.file.text_of(node.child_by_field_name("operator")?) {
                    "+" => left.checked_add(right)?,
                    "-" => left.checked_sub(right)?,
                    "*" => left.checked_mul(right)?,
                    "|" => left | right,
                    "<<" => left.checked_mul(1_i64.checked_shl(u32::try_from(right).ok()?)?)?,
                    _ => return None,
                };
                Some(Value::from(value))
            }
            _ => None,
        }
    }

    /// A method that writes or reads its type as JSON.
    fn method(&mut self, node: Node<'_>) {
        let name = node.child_by_field_name("name").map_or("", |name| self.file.text_of(name));
        let receiver = node.child_by_field_name("receiver").and_then(|list| list.named_child(0));
        let receiver = receiver.and_then(|receiver| receiver.child_by_field_name("type"));
        let receiver = receiver.map_or("", |receiver| self.file.text_of(receiver));
        if matches!(name, "MarshalJSON" | "UnmarshalJSON" | "MarshalText" | "UnmarshalText") {
            let name = receiver.trim_start_matches('*').split('[').next().unwrap_or_default().trim();
            self.reading.by_code.push((String::new(), vec![name.to_owned()]));
        }
    }

    fn declare(&mut self, declaration: Node<'_>, spec: Node<'_>) {
        let (Some(name), Some(node)) = (spec.child_by_field_name("name"), spec.child_by_field_name("type")) else {
            return;
        };
        let name = self.file.text_of(name);
        let parameters = self.type_parameters(spec);
        let mut shape = self.shape(node, 0);
        if spec.kind() == "type_spec" && node.kind() == "qualified_type" && matches!(shape, Shape::Format(_)) {
            shape = self.file.unknown(node, "gives this type its fields but not its methods");
        }
        if shape == integer(8, false) {
            self.reading.bytes.push(name.to_owned());
        }
        let members = self.constants.get(name).filter(|members| members.len() > 1 && is_plain(&shape));
        let members = members.and_then(|members| {
            members.iter().map(|(name, value)| Some((name.clone(), value.clone()?))).collect::<Option<Vec<_>>>()
        });
        let is_enum = members.is_some();
        let kind = if is_enum {
            "enum"
        } else if node.kind() == "struct_type" {
            "struct"
        } else {
            "type"
        };
        let has_fields = node.named_child(0).is_some_and(|list| list.named_child_count() > 0);
        let is_empty = has_fields && matches!(&shape, Shape::Object(object) if object.fields.is_empty());
        let docs = [spec, declaration].map(|node| self.file.doc_before(node, "//"));
        self.parameters.clear();
        self.reading.declare(Declaration {
            name: name.to_owned(),
            kind: kind.into(),
            origin: self.file.origin(spec),
            doc: docs.into_iter().find(|doc| !doc.is_empty()).unwrap_or_default(),
            shape: members.map_or(shape, Shape::Enum),
            scope: String::new(),
            parameters,
            doubt: is_empty.then(|| self.file.diagnostic(spec, "has no field that JSON holds")),
        });
    }

    fn type_parameters(&mut self, node: Node<'_>) -> Vec<Parameter> {
        let mut parameters = Vec::new();
        for group in node.child_by_field_name("type_parameters").map(children).unwrap_or_default() {
            let mut cursor = group.walk();
            for name in group.children_by_field_name("name", &mut cursor).filter(Node::is_named) {
                let name = self.file.text_of(name);
                self.parameters.insert(name);
                parameters.push(Parameter { name: name.to_owned(), default: None });
            }
        }
        parameters
    }

    fn shape(&mut self, node: Node<'_>, depth: usize) -> Shape {
        if depth > TYPE_DEPTH_MAX {
            return self.file.unknown(node, &format!("is nested deeper than {TYPE_DEPTH_MAX} types"));
        }
        let mut inner = |field| match node.child_by_field_name(field) {
            Some(inner) => self.shape(inner, depth + 1),
            None => self.file.unknown(node, "is not understood"),
        };
        match node.kind() {
            "parenthesized_type" | "type_elem" => self.first(node, depth),
            "pointer_type" => Shape::Union(vec![self.first(node, depth), Shape::Null]),
            "slice_type" => Shape::Slice(Box::new(inner("element"))),
            "map_type" => {
                let (keys, values) = (Box::new(inner("key")), Box::new(inner("value")));
                Shape::Map { keys, values, all_keys: false }
            }
            "array_type" => {
                let item = inner("element");
                let length = node.child_by_field_name("length").and_then(|length| number(self.file.text_of(length)));
                match length.filter(Value::is_u64) {
                    Some(length) => Shape::list_of_length(item, length),
                    None => self.file.unknown(node, "has a length that is not a literal"),
                }
            }
            "struct_type" => self.structure(node, depth),
            "interface_type" if children(node).is_empty() => Shape::Any,
            "type_identifier" | "qualified_type" => self.named(node, Vec::new()),
            "generic_type" => {
                let arguments = node.child_by_field_name("type_arguments").map(children).unwrap_or_default();
                let arguments = arguments.into_iter().map(|argument| self.shape(argument, depth + 1)).collect();
                self.named(node.child_by_field_name("type").unwrap_or(node), arguments)
            }
            _ => self.file.unknown(node, "is not a type of JSON values, or none that is read"),
        }
    }

    fn first(&mut self, node: Node<'_>, depth: usize) -> Shape {
        match node.named_child(0) {
            Some(child) => self.shape(child, depth + 1),
            None => self.file.unknown(node, "is not understood"),
        }
    }

    fn named(&self, node: Node<'_>, arguments: Vec<Shape>) -> Shape {
        let text = self.file.text_of(node);
        if self.parameters.contains(text) {
            return Shape::Parameter(text.to_owned());
        }
        let otherwise = || self.file.unknown(node, "is not declared in the files given");
        let known = match text.split_once('.') {
            Some((package, name)) => self.packages.get(package.trim()).and_then(|path| library(path, name.trim())),
            None => predeclared(text),
        };
        known.unwrap_or_else(|| Shape::reference(text.split('.'), arguments, otherwise()))
    }

    /// A struct: exported fields by their tags, and those of embedded structs.
    fn structure(&mut self, node: Node<'_>, depth: usize) -> Shape {
        let (mut own, mut bases) = (Object::default(), Vec::new());
        for field in node.named_child(0).map(children).unwrap_or_default() {
            let Some(declared) = field.child_by_field_name("type") else { continue };
            let tag = field.child_by_field_name("tag").and_then(|tag| self.string(tag)).unwrap_or_default();
            let tag = json_tag(&tag);
            if tag == "-" {
                continue;
            }
            let (tagged, options) = tag.split_once(',').unwrap_or((tag, ""));
            let has = |option: &str| options.split(',').any(|other| other == option);
            let mut shape = self.shape(declared, depth + 1);
            if has("string") {
                shape = quoted(shape).unwrap_or_else(|| self.file.unknown(field, "is written as text"));
            }
            let mut cursor = field.walk();
            let mut names: Vec<&str> = field
                .children_by_field_name("name", &mut cursor)
                .filter(Node::is_named)
                .map(|name| self.file.text_of(name))
                .collect();
            if names.is_empty() {
                if tagged.is_empty() {
                    bases.push(shape);
                    continue;
                }
                // A tag makes a field of what is embedded, whose name is that of its type.
                names = vec![self.file.text_of(declared).rsplit('.').next().unwrap_or_default()];
                if has_token(field, "*") {
                    shape = Shape::Union(vec![shape, Shape::Null]);
                }
            }
            for name in names.into_iter().filter(|name| name.starts_with(char::is_uppercase)) {
                let name = if tagged.is_empty() { name } else { tagged };
                own.fields.push(Field {
                    name: name.to_owned(),
                    shape: shape.clone(),
                    optional: has("omitempty") || has("omitzero"),
                    doc: self.file.doc_before(field, "//"),
                });
            }
        }
        if bases.is_empty() { Shape::Object(own) } else { Shape::Extends { bases, own } }
    }

    fn string(&self, node: Node<'_>) -> Option<String> {
        let text = self.file.text_of(node);
        let inside = text.get(1..text.len().checked_sub(1)?)?;
        if node.kind() == "raw_string_literal" {
            return Some(inside.to_owned());
        }
        unescape(inside, StrayBackslash::Dropped)
    }
}

/// Slices of bytes are written in base 64.
pub(super) const BASE64: &str = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$";

/// The value of `json:"..."` in a field's tag.
fn json_tag(tag: &str) -> &str {
    let value = tag.split_once("json:\"").filter(|(before, _)| before.is_empty() || before.ends_with(' '));
    value.and_then(|(_, rest)| rest.split_once('"')).map_or("", |(value, _)| value)
}

/// The name a package most likely has, by its path: `yaml` of `gopkg.in/yaml.v3`, `a` of `x.y/a/v2`.
fn package_name(path: &str) -> &str {
    let is_version = |part: &&str| part.strip_prefix('v').is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()));
    let name = path.rsplit('/').find(|part| !is_version(part)).unwrap_or(path);
    name.split(".v").next().unwrap_or(name)
}

/// Whether constants can list the values of a type.
fn is_plain(shape: &Shape) -> bool {
    matches!(shape, Shape::Text) || matches!(shape, Shape::Bounded(inner, _) if **inner == Shape::Integer)
}

/// A value with the option `string`: its JSON, as text.
fn quoted(shape: Shape) -> Option<Shape> {
    match &shape {
        Shape::Boolean => Some(Shape::Pattern("^(true|false)$".to_owned())),
        _ if shape == integer(64, false) => Some(Shape::Pattern("^(0|[1-9][0-9]{0,18})$".to_owned())),
        _ if shape == integer(64, true) => Some(Shape::Pattern("^-?(0|[1-9][0-9]{0,17})$".to_owned())),
        _ => None,
    }
}

fn predeclared(name: &str) -> Option<Shape> {
    Some(match name {
        "string" => Shape::Text,
        "bool" => Shape::Boolean,
        "any" => Shape::Any,
        "float32" | "float64" => Shape::Number,
        "int" => integer(64, true),
        "uint" | "uintptr" => integer(64, false),
        "byte" => integer(8, false),
        "rune" => integer(32, true),
        "int8" | "int16" | "int32" | "int64" => integer(name[3..].parse().ok()?, true),
        "uint8" | "uint16" | "uint32" | "uint64" => integer(name[4..].parse().ok()?, false),
        _ => return None,
    })
}

/// What types of known packages are as JSON.
fn library(package: &str, name: &str) -> Option<Shape> {
    Some(match (package, name) {
        ("time", "Time") => Shape::Format("date-time"),
        ("time", "Duration") => integer(64, true),
        ("encoding/json", "RawMessage") => Shape::Any,
        ("encoding/json", "Number") => Shape::Number,
        ("math/big", "Int") => Shape::Integer,
        ("github.com/google/uuid" | "github.com/gofrs/uuid", "UUID") => Shape::Format("uuid"),
        ("net", "IP") | ("net/netip", "Addr") => Shape::Union(vec![Shape::Format("ipv4"), Shape::Format("ipv6")]),
        _ => return None,
    })
}
