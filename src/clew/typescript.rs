//! TypeScript's `interface`, `type` and `enum` to shapes.
//!
//! Methods have no JSON form and are left out with a remark. Classes, `typeof` and conditional types are not read:
//! a type that needs them is [`Shape::Unknown`] there.

use std::collections::{HashMap, HashSet};

use serde_json::Value;
use tree_sitter::{Node, Tree};

use super::TYPE_DEPTH_MAX;
use super::jsdoc::JsDoc;
use super::literal::{StrayBackslash, number, unescape};
use super::shape::{Declaration, Field, Import, Object, Parameter, Reach, Reading, Reshape, Shape};
use super::syntax::{Dialect, SourceFile, SyntaxErrors, children, excerpt, has_token};

const QUERY: &str = concat!(
    include_str!("queries/typescript/types.scm"),
    include_str!("queries/comments.scm"),
    include_str!("queries/errors.scm"),
);

/// TypeScript.
pub(super) static TYPESCRIPT: Dialect = Dialect::new(|| tree_sitter_typescript::LANGUAGE_TYPESCRIPT.into(), QUERY);
/// TypeScript with JSX, which reads `<T>x` otherwise.
pub(super) static TSX: Dialect = Dialect::new(|| tree_sitter_typescript::LANGUAGE_TSX.into(), QUERY);

/// Reads every named type of a file.
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
struct Found<'t> {
    kind: &'static str,
    name: Node<'t>,
    node: Node<'t>,
}

struct Reader<'s, 't> {
    file: SourceFile<'s>,
    /// JSDoc comments by the byte they end at.
    comments: HashMap<usize, Node<'t>>,
    enums: HashSet<&'s str>,
    /// Names of all types of the file.
    declared: HashSet<&'s str>,
    /// Names of types without type parameters.
    named: HashSet<&'s str>,
    /// The type parameters in scope.
    parameters: HashSet<&'s str>,
    /// The keys of mapped types in scope, whose values are not followed.
    keys: Vec<&'s str>,
    imported: HashSet<String>,
    reading: Reading,
}

impl<'s, 't> Reader<'s, 't> {
    fn new(file: SourceFile<'s>) -> Self {
        Self {
            file,
            comments: HashMap::new(),
            enums: HashSet::new(),
            declared: HashSet::new(),
            named: HashSet::new(),
            parameters: HashSet::new(),
            keys: Vec::new(),
            imported: HashSet::new(),
            reading: Reading::default(),
        }
    }

    /// Runs the query: keeps comments, reports syntax errors, and returns the declarations that are whole.
    fn collect(&mut self, dialect: &'static Dialect, tree: &'t Tree) -> Vec<Found<'t>> {
        let mut found = Vec::new();
        let mut errors = SyntaxErrors::new();
        for captures in dialect.matches(tree, self.file.text) {
            match captures[..] {
                [("comment", node)] => self.keep_comment(node),
                [("import" | "export", node)] if !node.has_error() => self.import(node),
                [("error" | "missing", node)] => errors.report(self.file, node, &mut self.reading.diagnostics),
                [(kind, node), (_, name)] if !node.has_error() => {
                    self.note_name(kind, node, name);
                    found.push(Found { kind, name, node });
                }
                _ => {}
            }
        }
        errors.finish(self.file, tree, &mut self.reading.diagnostics);
        found
    }

    fn keep_comment(&mut self, node: Node<'t>) {
        if self.file.text_of(node).starts_with("/**") {
            self.comments.insert(node.end_byte(), node);
        }
    }

    fn note_name(&mut self, kind: &'static str, node: Node<'t>, name: Node<'t>) {
        let name = self.file.text_of(name);
        if kind == "enum" {
            self.enums.insert(name);
        }
        self.declared.insert(name);
        if node.child_by_field_name("type_parameters").is_none() {
            self.named.insert(name);
        }
    }

    /// What an `import` takes, or what an `export` hands on.
    fn import(&mut self, node: Node<'t>) {
        let module = node.child_by_field_name("source").and_then(|source| self.string(source));
        let is_export = node.kind() == "export_statement";
        let reach = if is_export { Reach::Outside } else { Reach::Inside };
        let mut open = children(node);
        while let Some(part) = open.pop() {
            let name = |field| part.child_by_field_name(field).map(|name| self.file.text_of(name).to_owned());
            let (given, taken) = match part.kind() {
                "import_clause" | "named_imports" | "export_clause" => {
                    open.extend(children(part));
                    continue;
                }
                "import_specifier" | "export_specifier" => (name("alias").or_else(|| name("name")), name("name")),
                "identifier" if !is_export => (Some(self.file.text_of(part).to_owned()), Some("default".to_owned())),
                // `export default X`
                "identifier" => (Some("default".to_owned()), Some(self.file.text_of(part).to_owned())),
                "interface_declaration" if has_token(node, "default") => (Some("default".to_owned()), name("name")),
                "namespace_import" | "namespace_export" => {
                    (children(part).first().map(|name| self.file.text_of(*name).to_owned()), None)
                }
                _ => continue,
            };
            let scope = String::new();
            let path = taken.into_iter().collect();
            self.imported.extend(given.clone().filter(|_| !is_export));
            self.reading.imports.push(Import { scope, name: given, module: module.clone(), path, reach });
        }
        if is_export && has_token(node, "*") {
            self.reading.imports.push(Import { scope: String::new(), name: None, module, path: Vec::new(), reach });
        }
    }

    fn declare(&mut self, found: Found<'t>) {
        let name = self.file.text_of(found.name);
        let parameters = self.type_parameters(found.node);
        let doc = self.doc_before(found.node);
        let shape = match found.kind {
            "enum" => self.enumeration(found.node),
            _ => self.declared_shape(found.node, 0).bounded(doc.bounds),
        };
        self.parameters.clear();
        self.reading.declare(Declaration {
            name: name.to_owned(),
            kind: if found.kind == "alias" { "type" } else { found.kind }.into(),
            origin: self.file.origin(found.node),
            doc: doc.description,
            shape,
            scope: String::new(),
            parameters,
            doubt: None,
        });
    }

    /// The type parameters of a declaration, which are in scope from here on.
    fn type_parameters(&mut self, node: Node<'t>) -> Vec<Parameter> {
        let mut parameters = Vec::new();
        for parameter in node.child_by_field_name("type_parameters").map(children).unwrap_or_default() {
            let Some(name) = parameter.child_by_field_name("name") else { continue };
            let default = parameter.child_by_field_name("value").map(|value| self.shape(value, 0));
            let name = self.file.text_of(name);
            self.parameters.insert(name);
            parameters.push(Parameter { name: name.to_owned(), default });
        }
        parameters
    }

    /// The shape of an interface's or alias's right-hand side.
    fn declared_shape(&mut self, node: Node<'t>, depth: usize) -> Shape {
        if node.kind() == "type_alias_declaration" {
            return match node.child_by_field_name("value") {
                Some(value) => self.shape(value, depth),
                None => self.unknown(node, "has no type"),
            };
        }
        let Some(body) = node.child_by_field_name("body") else { return self.unknown(node, "has no body") };
        let own = self.object(body, depth);
        let Some(extends) = children(node).into_iter().find(|child| child.kind() == "extends_type_clause") else {
            return own;
        };
        match own {
            Shape::Object(own) => {
                let bases = children(extends).into_iter().map(|base| self.shape(base, depth + 1)).collect();
                Shape::Extends { bases, own }
            }
            mapped => mapped,
        }
    }

    fn shape(&mut self, node: Node<'t>, depth: usize) -> Shape {
        if depth > TYPE_DEPTH_MAX {
            return self.unknown(node, &format!("is nested deeper than {TYPE_DEPTH_MAX} types"));
        }
        match node.kind() {
            "parenthesized_type"
            | "readonly_type"
            | "type_annotation"
            | "opting_type_annotation"
            | "omitting_type_annotation"
            | "adding_type_annotation"
            | "default_type" => self.first(node, depth),
            "predefined_type" => self.predefined(node),
            "type_identifier" => self.named(node),
            "nested_type_identifier" => self.member(node),
            "generic_type" => self.generic(node, depth),
            "object_type" | "interface_body" => self.object(node, depth),
            "array_type" => Shape::List(Box::new(self.first(node, depth))),
            "tuple_type" => self.tuple(node, depth),
            "literal_type" => self.literal(node),
            "template_literal_type" => self.template(node),
            "union_type" => Shape::Union(self.operands(node, depth)),
            "intersection_type" => Shape::Intersection(self.operands(node, depth)),
            "index_type_query" => Shape::KeysOf(Box::new(self.first(node, depth))),
            "lookup_type" => match children(node)[..] {
                [base, key] => Shape::FieldOf {
                    base: Box::new(self.shape(base, depth + 1)),
                    key: Box::new(self.shape(key, depth + 1)),
                },
                _ => self.unknown(node, "is not understood"),
            },
            _ => self.unknown(node, "is not a type of JSON values, or none that is read"),
        }
    }

    fn first(&mut self, node: Node<'t>, depth: usize) -> Shape {
        match node.named_child(0) {
            Some(child) => self.shape(child, depth + 1),
            None => self.unknown(node, "is not understood"),
        }
    }

    fn unknown(&self, node: Node<'_>, why: &str) -> Shape {
        self.file.unknown(node, why)
    }

    fn predefined(&self, node: Node<'_>) -> Shape {
        match self.file.text_of(node) {
            "string" => Shape::Text,
            "number" => Shape::Number,
            "boolean" => Shape::Boolean,
            "any" | "unknown" => Shape::Any,
            "object" => Shape::AnyObject,
            "void" => Shape::Undefined,
            "never" => Shape::Never,
            _ => self.unknown(node, "has no JSON form"),
        }
    }

    fn named(&self, node: Node<'_>) -> Shape {
        let name = self.file.text_of(node);
        if self.keys.contains(&name) {
            return self.unknown(node, "is a type parameter");
        }
        if self.parameters.contains(name) {
            return Shape::Parameter(name.to_owned());
        }
        if self.named.contains(name) {
            return Shape::Named(name.to_owned());
        }
        let otherwise = match name {
            "Date" => Shape::Format("date-time"),
            "String" => Shape::Text,
            "Number" => Shape::Number,
            "Boolean" => Shape::Boolean,
            _ => self.unknown(node, "is not declared in this file"),
        };
        Shape::reference([name], Vec::new(), otherwise)
    }

    /// `Status.Active` of an enum, or a type of a module.
    fn member(&self, node: Node<'_>) -> Shape {
        let text = self.file.text_of(node);
        let Some((declared, member)) = text.rsplit_once('.') else {
            return self.unknown(node, "is not understood");
        };
        let at = self.file.origin(node);
        let as_member = Shape::Member { declared: declared.to_owned(), member: member.to_owned(), at };
        if self.enums.contains(declared) {
            return as_member;
        }
        Shape::reference(text.split('.'), Vec::new(), as_member)
    }

    fn generic(&mut self, node: Node<'t>, depth: usize) -> Shape {
        let name = node.child_by_field_name("name").map_or("", |name| self.file.text_of(name));
        let arguments = node.child_by_field_name("type_arguments").map(children).unwrap_or_default();
        let read: Vec<Shape> = arguments.iter().map(|argument| self.shape(*argument, depth + 1)).collect();
        let is_imported = self.imported.contains(name);
        match builtin(name, &read).filter(|_| !is_imported && !self.declared.contains(name)) {
            Some(shape) => shape,
            None => Shape::reference(name.split('.'), read, self.unknown(node, "is not declared in this file")),
        }
    }

    fn tuple(&mut self, node: Node<'t>, depth: usize) -> Shape {
        let (mut items, mut rest, mut num_required) = (Vec::new(), None, 0);
        for item in children(node) {
            if rest.is_some() {
                return self.unknown(item, "stands after the rest of a tuple");
            }
            match item.kind() {
                "rest_type" => match self.first(item, depth) {
                    Shape::List(inner) => rest = Some(inner),
                    _ => return self.unknown(item, "is not an array"),
                },
                "optional_type" => items.push(self.first(item, depth)),
                "required_parameter" | "optional_parameter" => {
                    let annotation = item.child_by_field_name("type").unwrap_or(item);
                    let shape = self.first(annotation, depth);
                    let name = item.child_by_field_name("name").or_else(|| item.named_child(0));
                    match (name.is_some_and(|name| name.kind() == "rest_pattern"), shape) {
                        (true, Shape::List(inner)) => rest = Some(inner),
                        (true, _) => return self.unknown(item, "is not an array"),
                        (false, shape) => items.push(shape),
                    }
                    num_required += usize::from(item.kind() == "required_parameter" && rest.is_none());
                }
                _ => {
                    items.push(self.shape(item, depth + 1));
                    num_required += 1;
                }
            }
        }
        Shape::Tuple { items, num_required, rest }
    }

    fn literal(&self, node: Node<'_>) -> Shape {
        let Some(child) = node.named_child(0) else { return self.unknown(node, "is not understood") };
        match child.kind() {
            "null" => Shape::Null,
            "undefined" => Shape::Undefined,
            "true" => Shape::Literal(Value::Bool(true)),
            "false" => Shape::Literal(Value::Bool(false)),
            _ => match self.value(child) {
                Some(value) => Shape::Literal(value),
                None => self.unknown(node, "is not a literal that JSON can hold"),
            },
        }
    }

    /// The value of a literal expression.
    fn value(&self, node: Node<'_>) -> Option<Value> {
        let text = self.file.text_of(node);
        match node.kind() {
            "string" => self.string(node).map(Value::String),
            "template_string" if !text.contains("${") => {
                unescape(text.trim_matches('`'), StrayBackslash::Dropped).map(Value::String)
            }
            "number" | "unary_expression" => number(&text.replace(char::is_whitespace, "")),
            _ => None,
        }
    }

    fn string(&self, node: Node<'_>) -> Option<String> {
        let text = self.file.text_of(node);
        let inside = text.get(1..text.len().checked_sub(1)?)?;
        unescape(inside, StrayBackslash::Dropped)
    }

    /// A template literal type as a pattern for the whole text.
    fn template(&self, node: Node<'t>) -> Shape {
        let mut pattern = String::from("^");
        let mut cursor = node.walk();
        for part in node.named_children(&mut cursor) {
            match part.kind() {
                "string_fragment" | "escape_sequence" => {
                    match unescape(self.file.text_of(part), StrayBackslash::Dropped) {
                        Some(text) => push_literal(&mut pattern, &text),
                        None => return self.unknown(node, "has an escape that names no character"),
                    }
                }
                _ => match self.hole(part) {
                    Some(hole) => pattern.push_str(&hole),
                    None => return self.unknown(node, "has a part that no pattern can state"),
                },
            }
        }
        pattern.push('$');
        Shape::Pattern(pattern)
    }

    /// The pattern for `${T}` in a template literal type.
    fn hole(&self, node: Node<'t>) -> Option<String> {
        let inner = node.named_child(0)?;
        match inner.kind() {
            "predefined_type" => match self.file.text_of(inner) {
                "string" => Some(".*".to_owned()),
                "number" => Some(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?".to_owned()),
                "boolean" => Some("(true|false)".to_owned()),
                _ => None,
            },
            "literal_type" | "union_type" => {
                let mut alternatives = Vec::new();
                for operand in flat_operands(inner) {
                    let value = self.value(operand.named_child(0).filter(|_| operand.kind() == "literal_type")?)?;
                    let mut alternative = String::new();
                    push_literal(&mut alternative, value.as_str().map_or(value.to_string(), str::to_owned).as_str());
                    alternatives.push(alternative);
                }
                Some(format!("({})", alternatives.join("|")))
            }
            _ => None,
        }
    }

    fn operands(&mut self, node: Node<'t>, depth: usize) -> Vec<Shape> {
        flat_operands(node).into_iter().map(|operand| self.shape(operand, depth + 1)).collect()
    }

    fn object(&mut self, node: Node<'t>, depth: usize) -> Shape {
        let mut object = Object::default();
        for member in children(node) {
            match member.kind() {
                "property_signature" => {
                    if let Some(field) = self.property(member, depth) {
                        object.fields.push(field);
                    }
                }
                "index_signature" => match children(member).into_iter().find(|n| n.kind() == "mapped_type_clause") {
                    Some(clause) => return self.mapped(member, clause, depth),
                    None => object.index = self.index(member, depth),
                },
                "method_signature" | "call_signature" | "construct_signature" => {
                    let message = format!(
                        "`{}` is a function: it has no JSON form and is left out",
                        excerpt(self.file.text_of(member))
                    );
                    self.reading.diagnostics.push(self.file.diagnostic(member, message));
                }
                _ => return self.unknown(member, "is not understood"),
            }
        }
        Shape::Object(object)
    }

    /// A property; `None` for one that holds a function.
    fn property(&mut self, node: Node<'t>, depth: usize) -> Option<Field> {
        let name_node = node.child_by_field_name("name")?;
        let annotation = node.child_by_field_name("type");
        if annotation.and_then(|annotation| annotation.named_child(0)).is_some_and(|n| n.kind() == "function_type") {
            let message =
                format!("`{}` holds a function: it has no JSON form and is left out", self.file.text_of(name_node));
            self.reading.diagnostics.push(self.file.diagnostic(node, message));
            return None;
        }
        let doc = self.doc_before(node);
        let name = self.property_name(name_node);
        let shape = match (&name, annotation) {
            (None, _) => self.unknown(name_node, "is a computed name"),
            (_, None) => Shape::Any,
            (_, Some(annotation)) => self.shape(annotation, depth),
        };
        Some(Field {
            name: name.unwrap_or_else(|| self.file.text_of(name_node).to_owned()),
            shape: shape.bounded(doc.bounds),
            optional: has_token(node, "?"),
            doc: doc.description,
        })
    }

    fn property_name(&self, node: Node<'_>) -> Option<String> {
        match node.kind() {
            "property_identifier" => Some(self.file.text_of(node).to_owned()),
            "string" => self.string(node),
            "number" => number(self.file.text_of(node)).map(|value| value.to_string()),
            _ => None,
        }
    }

    fn index(&mut self, node: Node<'t>, depth: usize) -> Option<(Box<Shape>, Box<Shape>)> {
        let keys = self.shape(node.child_by_field_name("index_type")?, depth + 1);
        let values = self.shape(node.child_by_field_name("type")?, depth);
        Some((Box::new(keys), Box::new(values)))
    }

    /// `{ [K in Keys]: Values }`, where the values do not depend on `K`.
    fn mapped(&mut self, member: Node<'t>, clause: Node<'t>, depth: usize) -> Shape {
        let (Some(name), Some(keys), Some(values), None) = (
            clause.child_by_field_name("name"),
            clause.child_by_field_name("type"),
            member.child_by_field_name("type"),
            clause.child_by_field_name("alias"),
        ) else {
            return self.unknown(member, "is a mapped type that is not read");
        };
        let keys = Box::new(self.shape(keys, depth + 1));
        self.keys.push(self.file.text_of(name));
        let all_keys = values.kind() != "opting_type_annotation";
        let values = Box::new(self.shape(values, depth));
        self.keys.pop();
        Shape::Map { keys, values, all_keys }
    }

    fn enumeration(&mut self, node: Node<'t>) -> Shape {
        let mut members: Vec<(String, Value)> = Vec::new();
        let mut next = Some(0);
        for member in node.child_by_field_name("body").map(children).unwrap_or_default() {
            let (name, value) = match member.kind() {
                "enum_assignment" => match children(member)[..] {
                    [name, initializer] => (name, self.enum_value(initializer, &members)),
                    _ => (member, None),
                },
                _ => (member, next.map(Value::from)),
            };
            let Some((name, value)) = self.property_name(name).zip(value) else {
                return self.unknown(member, "has a value that is computed where the code runs");
            };
            next = value.as_i64().and_then(|value| value.checked_add(1));
            members.push((name, value));
        }
        Shape::Enum(members)
    }

    /// The value of an enum member's initializer: a literal, another member, or a shift or union of bits.
    fn enum_value(&self, node: Node<'_>, members: &[(String, Value)]) -> Option<Value> {
        let member = |name: &str| members.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        match node.kind() {
            "identifier" => member(self.file.text_of(node)),
            "binary_expression" => {
                let [left, right] = children(node)[..] else { return None };
                // Operands are not themselves operations: no recursion into a long chain.
                let operand = |node: Node<'_>| match node.kind() {
                    "identifier" => member(self.file.text_of(node)),
                    _ => self.value(node),
                };
                let (left, right) = (operand(left)?.as_i64()?, operand(right)?.as_i64()?);
                match self.file.text_of(node.child_by_field_name("operator")?) {
                    // JavaScript shifts 32-bit integers.
                    "<<" => Some(Value::from(i32::try_from(left).ok()?.checked_shl(u32::try_from(right).ok()?)?)),
                    "|" => Some(Value::from(i32::try_from(left).ok()? | i32::try_from(right).ok()?)),
                    _ => None,
                }
            }
            _ => self.value(node),
        }
    }

    /// The JSDoc comment directly before a declaration or property.
    fn doc_before(&mut self, node: Node<'_>) -> JsDoc {
        let mut before = self.file.text.get(..node.start_byte()).unwrap_or_default().trim_end();
        while let Some(shorter) = ["export", "default", "declare"].iter().find_map(|word| before.strip_suffix(word)) {
            before = shorter.trim_end();
        }
        match self.comments.get(&before.len()).copied() {
            Some(comment) => {
                JsDoc::read(self.file.text_of(comment), &self.file.origin(comment), &mut self.reading.diagnostics)
            }
            None => JsDoc::default(),
        }
    }
}

/// Generic types that TypeScript brings along.
fn builtin(name: &str, arguments: &[Shape]) -> Option<Shape> {
    let boxed = |shape: &Shape| Box::new(shape.clone());
    let reshaped = |base: &Shape, how| Shape::Reshaped { base: boxed(base), how };
    Some(match (name, arguments) {
        ("Array" | "ReadonlyArray", [item]) => Shape::List(boxed(item)),
        ("Record", [keys, values]) => Shape::Map { keys: boxed(keys), values: boxed(values), all_keys: true },
        ("Readonly", [base]) => base.clone(),
        ("Partial", [base]) => reshaped(base, Reshape::Partial),
        ("Required", [base]) => reshaped(base, Reshape::Required),
        ("NonNullable", [base]) => reshaped(base, Reshape::NonNullable),
        ("Pick", [base, keys]) => reshaped(base, Reshape::Pick(boxed(keys))),
        ("Omit", [base, keys]) => reshaped(base, Reshape::Omit(boxed(keys))),
        _ => return None,
    })
}

/// The operands of a union or intersection, which the grammar nests to the left: however many, without recursion.
fn flat_operands(node: Node<'_>) -> Vec<Node<'_>> {
    let mut operands = Vec::new();
    let mut current = node;
    while current.kind() == node.kind() {
        let mut sides = children(current);
        let Some(first) = (if sides.len() > 1 { Some(sides.remove(0)) } else { sides.pop() }) else { break };
        operands.extend(sides.into_iter().rev());
        current = first;
    }
    if current.kind() != node.kind() {
        operands.push(current);
    }
    operands.reverse();
    operands
}

/// Appends `text` to a pattern so that it matches only itself.
fn push_literal(pattern: &mut String, text: &str) {
    for character in text.chars() {
        if r"\^$.|?*+()[]{}/".contains(character) {
            pattern.push('\\');
        }
        pattern.push(character);
    }
}
