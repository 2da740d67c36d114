//! Names to declarations, over all files: after this every name of a type is the label of one declaration, every
//! generic type that is named with arguments is a declaration of its own, and what no given file declares is what the
//! language says it is, or unknown.

use std::collections::{HashMap, HashSet};

use super::go::BASE64;
use super::manifest::Manifest;
use super::modules::{FILE_TYPE, Found, Given, Modules, Place, inner};
use super::shape::{Declaration, Shape, integer};
use super::{GENERIC_SHAPES_MAX, TYPE_DEPTH_MAX};
use crate::constraint::{Diagnostic, Language, Origin};

/// Longest name made of a generic type and its arguments, in bytes; the rest is cut.
const INSTANCE_NAME_BYTES_MAX: usize = 80;

/// A declaration whose names are labels.
#[derive(Debug)]
pub(super) struct Linked {
    /// What it is called among all declarations.
    pub(super) label: String,
    /// Which file it counts for.
    pub(super) file: usize,
    /// Whether it is a generic type with arguments, which gives no constraint by itself.
    pub(super) is_instance: bool,
    pub(super) declaration: Declaration,
}

/// Links the declarations of all files, those of a file together, in order; generic ones only where they are named.
///
/// Linear in the shapes, but for generic types, which are bounded per file.
pub(super) fn link(files: &[Given<'_>], manifests: &[Manifest]) -> Vec<Linked> {
    let modules = Modules::new(files, manifests);
    let by_code = by_code(files, &modules);
    let mut linker = Linker {
        files,
        modules,
        by_code,
        bytes: HashSet::new(),
        linked: Vec::new(),
        instances: HashMap::new(),
        open: Vec::new(),
        shapes_left: 0,
    };
    for file in 0..files.len() {
        linker.file(file);
    }
    linker.linked
}

/// The types that code writes or reads as JSON.
fn by_code(files: &[Given<'_>], modules: &Modules<'_>) -> HashSet<(usize, usize)> {
    let mut found = HashSet::new();
    for (file, given) in files.iter().enumerate() {
        modules.begin_file();
        for (scope, path) in &given.reading.by_code {
            match modules.resolve(&Place { file, scope: scope.clone() }, path) {
                Some(Found::Type { file, index }) => _ = found.insert((file, index)),
                Some(Found::Module(place)) => found.extend(modules.file_type(&place)),
                None => {}
            }
        }
    }
    found
}

/// What type parameters stand for, and how many shapes that is.
type Bindings = HashMap<String, (Shape, usize)>;

struct Instance {
    label: String,
    name: String,
    file: usize,
    index: usize,
    bindings: Bindings,
}

struct Linker<'a> {
    files: &'a [Given<'a>],
    modules: Modules<'a>,
    by_code: HashSet<(usize, usize)>,
    /// Labels of the types that are bytes underneath (Go), of those named so far.
    bytes: HashSet<String>,
    linked: Vec<Linked>,
    /// Labels of generic types with arguments.
    instances: HashMap<(usize, usize, String), String>,
    open: Vec<Instance>,
    shapes_left: usize,
}

impl Linker<'_> {
    fn file(&mut self, file: usize) {
        self.modules.begin_file();
        self.shapes_left = GENERIC_SHAPES_MAX;
        for (index, declaration) in self.files[file].reading.declarations.iter().enumerate() {
            if declaration.parameters.is_empty() {
                let label = self.label(file, index);
                self.declaration(
                    Instance { label, name: name_of(declaration), file, index, bindings: Bindings::new() },
                    file,
                );
            }
        }
        while let Some(instance) = self.open.pop() {
            self.declaration(instance, file);
        }
    }

    /// Where the names in a declaration stand: in Zig a type is a scope of its own.
    fn scope_within(&self, file: usize, declaration: &Declaration) -> String {
        match self.files[file].language {
            Language::Zig if declaration.name != FILE_TYPE => inner(&declaration.scope, &declaration.name),
            _ => declaration.scope.clone(),
        }
    }

    fn label(&self, file: usize, index: usize) -> String {
        let declaration = &self.files[file].reading.declarations[index];
        let scope = if declaration.name == FILE_TYPE { FILE_TYPE } else { &declaration.scope };
        format!("{}#{scope}#{}", name_of(declaration), self.files[file].file)
    }

    /// Links a declaration with what its parameters stand for; `counts_for` is the file that asked for it.
    fn declaration(&mut self, instance: Instance, counts_for: usize) {
        let Instance { label, name, file, index, bindings } = instance;
        let generic = &self.files[file].reading.declarations[index];
        let mut declaration = Declaration { name, parameters: Vec::new(), ..generic.clone() };
        if self.by_code.contains(&(file, index)) {
            declaration.shape =
                unknown(&generic.origin, format!("`{}` is written or read as JSON by code", generic.name));
        }
        let place = Place { file, scope: self.scope_within(file, generic) };
        let site = Site { place, at: &generic.origin, bindings: &bindings };
        self.shape(&mut declaration.shape, &site);
        self.linked.push(Linked { label, file: counts_for, is_instance: !bindings.is_empty(), declaration });
    }

    fn shape(&mut self, shape: &mut Shape, site: &Site<'_>) {
        match shape {
            Shape::Named(name) => *name = format!("{name}##{}", self.files[site.place.file].file),
            Shape::Parameter(name) => match site.bindings.get(name) {
                Some((argument, size)) if self.spend(*size) => *shape = argument.clone(),
                Some(_) => *shape = unknown(site.at, "needs too many shapes for generic types".to_owned()),
                None => *shape = unknown(site.at, format!("`{name}` is a type parameter")),
            },
            Shape::Member { declared, member, at } => {
                let path: Vec<String> = declared.split('.').map(|part| part.trim().to_owned()).collect();
                match self.modules.resolve(&site.place, &path) {
                    Some(Found::Type { file, index }) => *declared = self.label(file, index),
                    _ => *shape = unknown(at, format!("`{declared}.{member}` is not declared in this file")),
                }
            }
            Shape::Reference { path, arguments, otherwise } => {
                let found = match self.modules.resolve(&site.place, path) {
                    Some(Found::Type { file, index }) => Some((file, index)),
                    Some(Found::Module(place)) => self.modules.file_type(&place),
                    None => None,
                };
                let mut linked = match found {
                    Some((file, index)) => {
                        arguments.iter_mut().for_each(|argument| self.shape(argument, site));
                        self.named(file, index, std::mem::take(arguments), site)
                    }
                    None => {
                        self.shape(otherwise, site);
                        std::mem::replace(&mut **otherwise, Shape::Any)
                    }
                };
                std::mem::swap(shape, &mut linked);
            }
            Shape::Slice(item) => {
                self.shape(item, site);
                *shape = match std::mem::replace(&mut **item, Shape::Any) {
                    item if item == integer(8, false) => Shape::Pattern(BASE64.to_owned()),
                    Shape::Named(label) if self.bytes.contains(&label) => Shape::Pattern(BASE64.to_owned()),
                    item => Shape::List(Box::new(item)),
                };
            }
            _ => shape.parts_mut().into_iter().for_each(|part| self.shape(part, site)),
        }
    }

    /// Whether a declaration is a byte underneath, and no code of its own writes it.
    fn is_byte(&self, file: usize, index: usize, depth: usize) -> bool {
        let Given { reading, .. } = &self.files[file];
        let declaration = &reading.declarations[index];
        let stands_for_byte = || {
            let Shape::Reference { path, .. } = &declaration.shape else { return false };
            let place = Place { file, scope: declaration.scope.clone() };
            let found = self.modules.resolve(&place, path);
            matches!(found, Some(Found::Type { file, index }) if self.is_byte(file, index, depth + 1))
        };
        !self.by_code.contains(&(file, index))
            && (reading.bytes.contains(&declaration.name) || depth < TYPE_DEPTH_MAX && stands_for_byte())
    }

    /// A declared type, with linked arguments.
    fn named(&mut self, file: usize, index: usize, arguments: Vec<Shape>, site: &Site<'_>) -> Shape {
        let declaration = &self.files[file].reading.declarations[index];
        match (declaration.parameters.is_empty(), arguments.is_empty()) {
            (true, true) => {
                let label = self.label(file, index);
                if self.files[file].language == Language::Go && self.is_byte(file, index, 0) {
                    self.bytes.insert(label.clone());
                }
                Shape::Named(label)
            }
            (true, false) => unknown(site.at, format!("`{}` has no type parameters", declaration.name)),
            (false, _) => self.instance(file, index, arguments, site),
        }
    }

    fn instance(&mut self, file: usize, index: usize, arguments: Vec<Shape>, site: &Site<'_>) -> Shape {
        let generic = &self.files[file].reading.declarations[index];
        let (mut arguments, mut bindings, mut key) = (arguments.into_iter(), Bindings::new(), String::new());
        let mut name = String::new();
        for parameter in &generic.parameters {
            let mut argument = match (arguments.next(), &parameter.default) {
                (Some(argument), _) => argument,
                (None, Some(default)) => {
                    let place = Place { file, scope: generic.scope.clone() };
                    let mut default = default.clone();
                    self.shape(&mut default, &Site { place, at: site.at, bindings: &bindings });
                    default
                }
                (None, None) => unknown(site.at, format!("`{}` lacks a type argument", generic.name)),
            };
            let (size, depth) = measure(&mut argument);
            if depth > TYPE_DEPTH_MAX || !self.spend(size) {
                return unknown(site.at, format!("`{}` has a type argument that is too large", generic.name));
            }
            key += &serde_json::to_string(&argument).expect("a linked shape is plain data");
            name += if name.is_empty() { "" } else { ", " };
            name += &brief(&argument);
            bindings.insert(parameter.name.clone(), (argument, size));
        }
        if let Some(label) = self.instances.get(&(file, index, key.clone())) {
            return Shape::Named(label.clone());
        }
        if !self.spend(measure(&mut generic.shape.clone()).0) {
            return unknown(site.at, format!("`{}` is one use too many of generic types in a file", generic.name));
        }
        name.truncate(name.floor_char_boundary(INSTANCE_NAME_BYTES_MAX));
        let name = format!("{}<{name}>", generic.name);
        let label = format!("{name}#{}#{}", self.instances.len(), self.label(file, index));
        self.instances.insert((file, index, key), label.clone());
        self.open.push(Instance { label: label.clone(), name, file, index, bindings });
        Shape::Named(label)
    }

    /// Counts shapes made for generic types; `false` once the budget of the file is used up.
    fn spend(&mut self, num_shapes: usize) -> bool {
        let left = self.shapes_left.checked_sub(num_shapes);
        self.shapes_left = left.unwrap_or(self.shapes_left);
        left.is_some()
    }
}

/// Where a shape stands: its scope, its declaration, and what the type parameters there stand for.
struct Site<'a> {
    place: Place,
    at: &'a Origin,
    bindings: &'a Bindings,
}

/// The name of a declaration; that of a file which is a type is the file's.
fn name_of(declaration: &Declaration) -> String {
    if declaration.name != FILE_TYPE {
        return declaration.name.clone();
    }
    let file = declaration.origin.file.rsplit('/').next().unwrap_or_default();
    file.split('.').next().unwrap_or_default().to_owned()
}

fn unknown(at: &Origin, message: String) -> Shape {
    Shape::Unknown(Diagnostic { origin: at.clone(), message })
}

/// How many shapes a shape is, and how deep it nests.
fn measure(shape: &mut Shape) -> (usize, usize) {
    let inside = match shape {
        Shape::Enum(members) => (members.len(), 0),
        _ => (0, 0),
    };
    let parts = shape.parts_mut().into_iter().map(measure);
    let (size, depth) = parts.fold(inside, |(size, depth), part| (size + part.0, depth.max(part.1)));
    (size + 1, depth + 1)
}

/// A linked shape in a few words, to name a generic type with.
fn brief(shape: &Shape) -> String {
    match shape {
        Shape::Named(label) => label.split('#').next().unwrap_or_default().to_owned(),
        Shape::Text => "string".to_owned(),
        Shape::Integer => "integer".to_owned(),
        Shape::Number => "number".to_owned(),
        Shape::Boolean => "boolean".to_owned(),
        Shape::Null => "null".to_owned(),
        Shape::Format(format) => (*format).to_owned(),
        Shape::Literal(value) => value.to_string(),
        Shape::List(item) => format!("{}[]", brief(item)),
        Shape::Bounded(inner, _) => brief(inner),
        Shape::Union(parts) => parts.iter().map(brief).collect::<Vec<_>>().join(" | "),
        _ => "...".to_owned(),
    }
}
