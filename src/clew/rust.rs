//! Rust's structs, enums and type aliases to shapes, as serde writes and reads them.
//!
//! A type is what it reads if it derives `Deserialize`, else what it writes; one that derives neither is only
//! advisory. Aliases of names (`alias`) are accepted by serde and not by the schema, which may always accept less.
//! 64-bit integers and wider ones are held to 64 bits.

use std::collections::{HashMap, HashSet};

use serde_json::Value;
use tree_sitter::{Node, Tree};

use super::TYPE_DEPTH_MAX;
use super::literal::number;
use super::modules::inner;
use super::serde_attributes::{Attributes, field_name, last, variant_name};
use super::shape::{Bound, Declaration, Field, Import, Keyword, Object, Parameter, Reach, Reading, Shape, integer};
use super::syntax::{Dialect, SourceFile, SyntaxErrors, children};

/// Rust.
pub(super) static RUST: Dialect = Dialect::new(
    || tree_sitter_rust::LANGUAGE.into(),
    concat!(include_str!("queries/rust/types.scm"), include_str!("queries/errors.scm")),
);

/// Reads every named data type of a file that is declared at the top of a module.
pub(super) fn read(dialect: &'static Dialect, file: SourceFile<'_>, tree: &Tree) -> Reading {
    let mut reader = Reader {
        file,
        scope: String::new(),
        declaring: String::new(),
        parameters: HashSet::new(),
        declared: HashSet::new(),
        imported: HashMap::new(),
        globs: HashMap::new(),
        reading: Reading::default(),
    };
    let found = reader.collect(dialect, tree);
    for item in &found {
        reader.scope.clone_from(&item.scope);
        reader.declare(item);
    }
    reader.reading
}

struct Item<'t> {
    node: Node<'t>,
    scope: String,
    attributes: Vec<Node<'t>>,
}

struct Reader<'s> {
    file: SourceFile<'s>,
    scope: String,
    /// The type that is being read: what `Self` means.
    declaring: String,
    parameters: HashSet<&'s str>,
    declared: HashSet<(String, &'s str)>,
    /// What imported names stand for, as paths.
    imported: HashMap<(String, String), Vec<String>>,
    /// The paths whose every name is imported.
    globs: HashMap<String, Vec<Vec<String>>>,
    reading: Reading,
}

impl<'s> Reader<'s> {
    /// Runs the query: finds the types with their attributes and modules, and keeps the imports.
    fn collect<'t>(&mut self, dialect: &'static Dialect, tree: &'t Tree) -> Vec<Item<'t>> {
        let (mut found, mut attributes) = (Vec::new(), Vec::new());
        let mut modules: Vec<(usize, String)> = Vec::new();
        let mut errors = SyntaxErrors::new();
        for captures in dialect.matches(tree, self.file.text) {
            let [(name, node)] = captures[..] else { continue };
            if name != "item" {
                errors.report(self.file, node, &mut self.reading.diagnostics);
                continue;
            }
            while modules.last().is_some_and(|(end, _)| *end <= node.start_byte()) {
                modules.pop();
            }
            let scope = modules.last().map_or(String::new(), |(_, scope)| scope.clone());
            match node.kind() {
                "attribute_item" => attributes.push(node),
                "line_comment" | "block_comment" => {}
                kind => {
                    let attributes = std::mem::take(&mut attributes);
                    let name = node.child_by_field_name("name").map_or("", |name| self.file.text_of(name));
                    match kind {
                        // Modules nest a few levels; deeper ones are read as if they were their parents.
                        "mod_item" if modules.len() < TYPE_DEPTH_MAX => {
                            modules.push((node.end_byte(), inner(&scope, name)));
                        }
                        "struct_item" | "enum_item" | "type_item" if !node.has_error() => {
                            self.declared.insert((scope.clone(), name));
                            found.push(Item { node, scope, attributes });
                        }
                        "use_declaration" if !node.has_error() => self.import(node, &scope),
                        "impl_item" => self.implementation(node, scope),
                        _ => {}
                    }
                }
            }
        }
        errors.finish(self.file, tree, &mut self.reading.diagnostics);
        found
    }

    /// `use a::{b::{self, C as D}, e::*};`
    fn import(&mut self, node: Node<'_>, scope: &str) {
        let mut open: Vec<(Node<'_>, Vec<String>)> =
            children(node).into_iter().map(|tree| (tree, Vec::new())).collect();
        while let Some((tree, prefix)) = open.pop() {
            let longer = |more: Option<Node<'_>>| {
                let segments = more.map_or("", |more| self.file.text_of(more)).split("::").map(str::trim);
                let segments = segments.filter(|segment| !segment.is_empty()).map(str::to_owned);
                prefix.iter().cloned().chain(segments).collect::<Vec<_>>()
            };
            let (name, path) = match tree.kind() {
                "use_list" => {
                    open.extend(children(tree).into_iter().map(|part| (part, prefix.clone())));
                    continue;
                }
                "scoped_use_list" => {
                    let prefix = longer(tree.child_by_field_name("path"));
                    open.extend(tree.child_by_field_name("list").map(|list| (list, prefix)));
                    continue;
                }
                "use_wildcard" => (None, longer(tree.named_child(0))),
                "self" => (prefix.last().cloned(), prefix),
                "use_as_clause" => {
                    let mut path = longer(tree.child_by_field_name("path"));
                    if path.last().is_some_and(|last| last == "self") && path.len() > 1 {
                        path.pop();
                    }
                    (tree.child_by_field_name("alias").map(|alias| self.file.text_of(alias).to_owned()), path)
                }
                "identifier" | "scoped_identifier" | "crate" | "super" => {
                    let path = longer(Some(tree));
                    (path.last().cloned(), path)
                }
                _ => continue,
            };
            match &name {
                Some(name) => _ = self.imported.insert((scope.to_owned(), name.clone()), path.clone()),
                None => self.globs.entry(scope.to_owned()).or_default().push(path.clone()),
            }
            let scope = scope.to_owned();
            self.reading.imports.push(Import { scope, name, module: None, path, reach: Reach::Both });
        }
    }

    /// A type that is read by code.
    fn implementation(&mut self, node: Node<'_>, scope: String) {
        let text = |field| node.child_by_field_name(field).map_or("", |node| self.file.text_of(node));
        let bare = |text: &'s str| text.split('<').next().unwrap_or_default();
        if last(bare(text("trait"))) == "Deserialize" {
            self.reading.by_code.push((scope, segments(bare(text("type")))));
        }
    }

    fn declare(&mut self, item: &Item<'_>) {
        let node = item.node;
        let Some(name) = node.child_by_field_name("name").map(|name| self.file.text_of(name)) else { return };
        self.declaring = name.to_owned();
        let attributes = Attributes::read(self.file, &item.attributes);
        let parameters = self.type_parameters(node);
        let (kind, shape) = match node.kind() {
            "struct_item" => ("struct", self.structure(node, name, &attributes)),
            "enum_item" => ("enum", self.enumeration(node, &attributes)),
            _ => ("type", self.field_type(node, "type", 0)),
        };
        let by_serde = ["Serialize", "Deserialize", "Serialize_repr", "Deserialize_repr"];
        let plain = kind != "type" && !by_serde.iter().any(|derived| attributes.derives(derived));
        self.parameters.clear();
        self.reading.declare(Declaration {
            name: name.to_owned(),
            kind: kind.into(),
            origin: self.file.origin(node),
            doc: self.file.doc_before(node, "///"),
            shape,
            scope: self.scope.clone(),
            parameters,
            doubt: plain.then(|| self.file.diagnostic(node, "derives neither `Serialize` nor `Deserialize`")),
        });
    }

    fn type_parameters(&mut self, node: Node<'_>) -> Vec<Parameter> {
        let mut parameters = Vec::new();
        for parameter in node.child_by_field_name("type_parameters").map(children).unwrap_or_default() {
            let name = parameter.child_by_field_name("name").filter(|_| parameter.kind() != "lifetime_parameter");
            let Some(name) = name.map(|name| self.file.text_of(name)) else { continue };
            let default = parameter.child_by_field_name("default_type").map(|default| self.shape(default, 0));
            self.parameters.insert(name);
            parameters.push(Parameter { name: name.to_owned(), default });
        }
        parameters
    }

    fn structure(&mut self, node: Node<'_>, name: &str, attributes: &Attributes) -> Shape {
        if let Some(shape) = self.converted(node, attributes) {
            return shape;
        }
        let rule = Naming::of(attributes, "rename_all");
        let Some(body) = node.child_by_field_name("body") else { return Shape::Null };
        let mut shape = self.body(body, &rule);
        if let (Shape::Object(object), true) = (&mut shape, attributes.has("transparent")) {
            let held = object.fields.drain(..).map(|field| field.shape).find(|shape| *shape != Shape::Null);
            return held.unwrap_or(Shape::Null);
        }
        let Some(tag) = attributes.text("tag", rule.reads) else { return shape };
        if rule.reads && attributes.has("deny_unknown_fields") {
            return self.file.unknown(node, "is tagged and denies unknown fields");
        }
        let name = attributes.text("rename", rule.reads).unwrap_or(name);
        Shape::Intersection(vec![tagged(tag, name), shape])
    }

    /// What `from`, `into` and their like say a type is as JSON.
    fn converted(&mut self, node: Node<'_>, attributes: &Attributes) -> Option<Shape> {
        let reads = attributes.reads();
        let by_code = ["remote", "variant_identifier", "field_identifier"];
        if attributes.has("try_from") && reads || by_code.iter().any(|name| attributes.has(name)) {
            return Some(self.file.unknown(node, "is read by code"));
        }
        let other = attributes.text(if reads { "from" } else { "into" }, reads)?;
        let is_path = other.chars().all(|letter| letter.is_alphanumeric() || "_:".contains(letter));
        if !is_path {
            return Some(self.file.unknown(node, "is converted from a type that is not read"));
        }
        Some(self.path(node, segments(other), Vec::new()))
    }

    /// The fields of a struct or of a variant.
    fn body(&mut self, body: Node<'_>, rule: &Naming) -> Shape {
        if body.kind() == "field_declaration_list" { self.record(body, rule) } else { self.tuple(body, rule.reads) }
    }

    fn record(&mut self, body: Node<'_>, rule: &Naming) -> Shape {
        let (mut parts, mut own, mut pending) = (Vec::new(), Object::default(), Vec::new());
        for child in children(body) {
            if child.kind() == "attribute_item" {
                pending.push(child);
                continue;
            }
            let attributes = Attributes::read(self.file, &std::mem::take(&mut pending));
            let Some(name) = child.child_by_field_name("name").map(|name| self.file.text_of(name)) else { continue };
            if attributes.skips(rule.reads) {
                continue;
            }
            let (shape, optional) = self.field(child, &attributes, rule);
            if attributes.has("flatten") {
                parts.push(Shape::Object(std::mem::take(&mut own)));
                parts.push(flattened(shape));
                continue;
            }
            let name = name.strip_prefix("r#").unwrap_or(name);
            let name =
                attributes.text("rename", rule.reads).map_or_else(|| field_name(name, &rule.rule), str::to_owned);
            own.fields.push(Field { name, shape, optional, doc: self.file.doc_before(child, "///") });
        }
        if parts.is_empty() {
            return Shape::Object(own);
        }
        parts.push(Shape::Object(own));
        Shape::Intersection(parts)
    }

    /// The shape of a field, and whether it may be absent.
    fn field(&mut self, node: Node<'_>, attributes: &Attributes, rule: &Naming) -> (Shape, bool) {
        if attributes.by_code(rule.reads) {
            return (
                self.file.unknown(node, "is written or read by code"),
                rule.has_default || attributes.has("default"),
            );
        }
        let shape = self.field_type(node, "type", 0);
        let is_option = matches!(&shape, Shape::Union(parts) if parts.last() == Some(&Shape::Null));
        let optional = match rule.reads {
            true => is_option || rule.has_default || attributes.has("default"),
            false => attributes.has("skip_serializing_if"),
        };
        (shape, optional)
    }

    fn tuple(&mut self, body: Node<'_>, reads: bool) -> Shape {
        let (mut items, mut pending, mut num_declared) = (Vec::new(), Vec::new(), 0);
        for child in children(body) {
            match child.kind() {
                "attribute_item" => pending.push(child),
                "visibility_modifier" => {}
                _ => {
                    num_declared += 1;
                    let attributes = Attributes::read(self.file, &std::mem::take(&mut pending));
                    if attributes.by_code(reads) {
                        items.push(self.file.unknown(child, "is written or read by code"));
                    } else if !attributes.skips(reads) {
                        items.push(self.shape(child, 0));
                    }
                }
            }
        }
        match items.len() {
            1 if num_declared == 1 => items.remove(0),
            num_required => Shape::Tuple { items, num_required, rest: None },
        }
    }

    fn enumeration(&mut self, node: Node<'_>, attributes: &Attributes) -> Shape {
        if let Some(shape) = self.converted(node, attributes) {
            return shape;
        }
        let body = node.child_by_field_name("body").map(children).unwrap_or_default();
        if attributes.derives("Serialize_repr") || attributes.derives("Deserialize_repr") {
            return self.numbered(&body);
        }
        let names = Naming::of(attributes, "rename_all");
        let fields = Naming::of(attributes, "rename_all_fields");
        let (mut shapes, mut pending) = (Vec::new(), Vec::new());
        for child in body {
            if child.kind() == "attribute_item" {
                pending.push(child);
                continue;
            }
            let own = Attributes::read(self.file, &std::mem::take(&mut pending));
            let Some(name) = child.child_by_field_name("name").map(|name| self.file.text_of(name)) else { continue };
            if own.skips(names.reads) {
                continue;
            }
            let name = own.text("rename", names.reads).map_or_else(|| variant_name(name, &names.rule), str::to_owned);
            let rule = match own.text("rename_all", names.reads) {
                Some(rule) => Naming { rule: rule.to_owned(), ..fields.clone() },
                None => fields.clone(),
            };
            let content = match child.child_by_field_name("body") {
                _ if own.by_code(names.reads) => Some(self.file.unknown(child, "is written or read by code")),
                Some(body) => Some(self.body(body, &rule)),
                None => None,
            };
            let untagged = attributes.has("untagged") || own.has("untagged");
            shapes.push(self.variant(child, name, content, untagged, attributes));
        }
        let unit = |shape: &Shape| match shape {
            Shape::Literal(Value::String(name)) => Some((name.clone(), Value::from(name.as_str()))),
            _ => None,
        };
        match shapes.iter().map(unit).collect::<Option<Vec<_>>>() {
            Some(members) => Shape::Enum(members),
            None => Shape::Union(shapes),
        }
    }

    fn variant(
        &self,
        node: Node<'_>,
        name: String,
        content: Option<Shape>,
        untagged: bool,
        attributes: &Attributes,
    ) -> Shape {
        let reads = attributes.reads();
        let is_tuple = matches!(content, Some(Shape::Tuple { .. }));
        match (attributes.text("tag", reads), attributes.text("content", reads), content) {
            (_, _, content) if untagged => content.unwrap_or(Shape::Null),
            (None, _, None) => Shape::Literal(Value::String(name)),
            (None, _, Some(content)) => object([(name.as_str(), content)]),
            (Some(tag), _, None) => tagged(tag, &name),
            (Some(tag), Some(key), Some(content)) => {
                object([(tag, Shape::Literal(Value::String(name))), (key, content)])
            }
            (Some(_), None, Some(_)) if is_tuple => self.file.unknown(node, "has no JSON form with a tag"),
            (Some(tag), None, Some(content)) => Shape::Intersection(vec![tagged(tag, &name), content]),
        }
    }

    /// An enum that is written as its numbers.
    fn numbered(&self, body: &[Node<'_>]) -> Shape {
        let (mut members, mut next) = (Vec::new(), Some(0_i64));
        for variant in body.iter().filter(|child| child.kind() == "enum_variant") {
            let value = match variant.child_by_field_name("value") {
                Some(value) => number(self.file.text_of(value)).and_then(|value| value.as_i64()),
                None => next,
            };
            let Some(value) = value else { return self.file.unknown(*variant, "has a value that is not a literal") };
            next = value.checked_add(1);
            members.push((String::new(), Value::from(value)));
        }
        Shape::Enum(members)
    }

    fn field_type(&mut self, node: Node<'_>, field: &str, depth: usize) -> Shape {
        match node.child_by_field_name(field) {
            Some(inner) => self.shape(inner, depth + 1),
            None => self.file.unknown(node, "is not understood"),
        }
    }

    fn shape(&mut self, node: Node<'_>, depth: usize) -> Shape {
        if depth > TYPE_DEPTH_MAX {
            return self.file.unknown(node, &format!("is nested deeper than {TYPE_DEPTH_MAX} types"));
        }
        match node.kind() {
            "primitive_type" => {
                primitive(self.file.text_of(node)).unwrap_or_else(|| self.file.unknown(node, "has no JSON form"))
            }
            "unit_type" => Shape::Null,
            "reference_type" => self.field_type(node, "type", depth),
            "tuple_type" => {
                let items: Vec<Shape> = children(node).into_iter().map(|item| self.shape(item, depth + 1)).collect();
                Shape::Tuple { num_required: items.len(), items, rest: None }
            }
            "array_type" => self.array(node, depth),
            "type_identifier" | "scoped_type_identifier" => {
                let text = self.file.text_of(node);
                if self.parameters.contains(text) {
                    return Shape::Parameter(text.to_owned());
                }
                self.path(node, segments(text), Vec::new())
            }
            "generic_type" => {
                let is_type = |node: &Node<'_>| !matches!(node.kind(), "lifetime" | "type_binding");
                let arguments = node.child_by_field_name("type_arguments").map(children).unwrap_or_default();
                let arguments = arguments.into_iter().filter(is_type).map(|node| self.shape(node, depth + 1)).collect();
                let name = node.child_by_field_name("type").map_or("", |name| self.file.text_of(name));
                self.path(node, segments(name), arguments)
            }
            _ => self.file.unknown(node, "is not a type of JSON values, or none that is read"),
        }
    }

    /// `[T; N]` and `[T]`.
    fn array(&mut self, node: Node<'_>, depth: usize) -> Shape {
        let item = Box::new(self.field_type(node, "element", depth));
        let Some(length) = node.child_by_field_name("length") else { return Shape::List(item) };
        match number(self.file.text_of(length).trim_end_matches("usize")).filter(Value::is_u64) {
            Some(length) => Shape::List(item).bounded(vec![
                Bound::known(Keyword::MinItems, length.clone()),
                Bound::known(Keyword::MaxItems, length),
            ]),
            None => self.file.unknown(node, "has a length that is not a literal"),
        }
    }

    /// A type by its path: what is declared, else what a library that is known brings.
    fn path(&self, node: Node<'_>, mut path: Vec<String>, arguments: Vec<Shape>) -> Shape {
        let otherwise = self.file.unknown(node, "is not declared in the files given");
        if path.first().is_some_and(|first| matches!(first.as_str(), "crate" | "self" | "super" | "Self")) {
            if path[0] == "Self" {
                path[0].clone_from(&self.declaring);
            }
            return Shape::Reference { path, arguments, otherwise: Box::new(otherwise) };
        }
        let key = |name: &String| (self.scope.clone(), name.clone());
        let first = path.first().map(String::as_str).unwrap_or_default();
        let known = match path.first().and_then(|first| self.imported.get(&key(first))) {
            Some(import) => library(&[import, &path[1..]].concat(), &arguments),
            None if path.len() > 1 => library(&path, &arguments),
            None if self.declared.contains(&(self.scope.clone(), first)) => None,
            None => library(&["std".to_owned(), first.to_owned()], &arguments)
                .filter(|_| PRELUDE.contains(&first))
                .or_else(|| {
                    let globs = self.globs.get(&self.scope).into_iter().flatten();
                    globs.filter_map(|glob| library(&[glob, &path[..]].concat(), &arguments)).next()
                }),
        };
        known.unwrap_or_else(|| Shape::Reference { path, arguments, otherwise: Box::new(otherwise) })
    }
}

/// What serde's attributes say about the fields or variants of a type.
#[derive(Clone)]
struct Naming {
    rule: String,
    reads: bool,
    has_default: bool,
}

impl Naming {
    fn of(attributes: &Attributes, name: &str) -> Self {
        let reads = attributes.reads();
        let rule = attributes.text(name, reads).unwrap_or_default().to_owned();
        Self { rule, reads, has_default: attributes.has("default") }
    }
}

/// An absent `Option` adds no fields.
fn flattened(shape: Shape) -> Shape {
    match shape {
        Shape::Union(mut parts) if parts.last() == Some(&Shape::Null) => {
            parts.pop();
            parts.push(Shape::Object(Object::default()));
            Shape::Union(parts)
        }
        shape => shape,
    }
}

fn tagged(tag: &str, name: &str) -> Shape {
    object([(tag, Shape::Literal(Value::from(name)))])
}

fn object<const N: usize>(fields: [(&str, Shape); N]) -> Shape {
    let field =
        |(name, shape): (&str, Shape)| Field { name: name.to_owned(), shape, optional: false, doc: String::new() };
    Shape::Object(Object { fields: fields.map(field).into(), index: None })
}

fn segments(path: &str) -> Vec<String> {
    path.split("::").map(|segment| segment.trim().to_owned()).filter(|segment| !segment.is_empty()).collect()
}

fn primitive(name: &str) -> Option<Shape> {
    Some(match name {
        "bool" => Shape::Boolean,
        "str" => Shape::Text,
        "char" => Shape::Text.bounded(vec![
            Bound::known(Keyword::MinLength, Value::from(1)),
            Bound::known(Keyword::MaxLength, Value::from(1)),
        ]),
        "f32" | "f64" => Shape::Number,
        "usize" => integer(64, false),
        "isize" => integer(64, true),
        _ => integer(name.get(1..)?.parse().ok()?, name.starts_with('i')),
    })
}

/// Names of the standard library that need no import.
const PRELUDE: [&str; 5] = ["String", "Vec", "Option", "Box", "Result"];

/// What types of known libraries are as JSON, by their crate and last name.
fn library(path: &[String], arguments: &[Shape]) -> Option<Shape> {
    let (krate, name) = (path.first()?.as_str(), path.last()?.as_str());
    let boxed = |shape: &Shape| Box::new(shape.clone());
    Some(match (krate, name, arguments) {
        ("std" | "core" | "alloc", "String", []) => Shape::Text,
        ("std", "Path" | "PathBuf", []) => Shape::Text,
        (
            "std" | "core" | "alloc" | "parking_lot",
            "Box" | "Rc" | "Arc" | "Cow" | "Cell" | "RefCell" | "Mutex" | "RwLock" | "Wrapping" | "Saturating"
            | "Reverse",
            [inner],
        ) => inner.clone(),
        ("std" | "core", "Option", [inner]) => Shape::Union(vec![inner.clone(), Shape::Null]),
        ("std" | "core", "Result", [ok, error]) => {
            Shape::Union(vec![object([("Ok", ok.clone())]), object([("Err", error.clone())])])
        }
        (
            "std" | "alloc" | "hashbrown" | "indexmap" | "smallvec" | "arrayvec",
            "Vec" | "VecDeque" | "LinkedList" | "BinaryHeap" | "HashSet" | "BTreeSet" | "IndexSet",
            [item, ..],
        ) => Shape::List(boxed(item)),
        ("std" | "alloc" | "hashbrown" | "indexmap", "HashMap" | "BTreeMap" | "IndexMap", [keys, values, ..]) => {
            Shape::Map { keys: boxed(keys), values: boxed(values), all_keys: false }
        }
        ("std" | "core", "PhantomData", _) => Shape::Null,
        ("std" | "core", "Duration", []) => object([("secs", integer(64, false)), ("nanos", integer(32, false))]),
        ("std" | "core", "Ipv4Addr", []) => Shape::Format("ipv4"),
        ("std" | "core", "Ipv6Addr", []) => Shape::Format("ipv6"),
        ("std" | "core", "IpAddr", []) => Shape::Union(vec![Shape::Format("ipv4"), Shape::Format("ipv6")]),
        ("std" | "core", "NonZero", [inner]) => {
            inner.clone().bounded(vec![Bound::known(Keyword::Minimum, Value::from(1))])
        }
        // Of signed ones only the positive: a schema may accept less.
        ("std" | "core", name, []) if name.starts_with("NonZero") => {
            let inner = primitive(&name.strip_prefix("NonZero")?.to_ascii_lowercase())?;
            inner.bounded(vec![Bound::known(Keyword::Minimum, Value::from(1))])
        }
        ("chrono", "DateTime", [_]) => Shape::Format("date-time"),
        ("chrono", "NaiveDate", []) => Shape::Format("date"),
        ("uuid", "Uuid", []) => Shape::Format("uuid"),
        ("url", "Url", []) => Shape::Format("uri"),
        ("serde_json", "Value", []) => Shape::Any,
        ("serde_json", "Map", _) => Shape::AnyObject,
        ("serde_json", "Number", []) => Shape::Number,
        _ => return None,
    })
}
