//! Which declaration a name stands for: scopes, imports and modules over the files that are given, and nothing else.
//!
//! A file is found by its path, as the language finds it: TypeScript's relative modules, Python's packages, Rust's
//! module tree, Go's folders, Zig's files. Packages are those whose manifests are given. What several files may mean
//! is not decided: then the name stands for nothing.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::manifest::Manifest;
use super::shape::{Import, Reach, Reading};
use crate::constraint::Language;

/// Imports and modules followed for one name; code takes two or three.
const STEPS_MAX: usize = 256;
/// Imports and modules followed for all names of one file; about 100 ns each.
const STEPS_PER_FILE_MAX: usize = 1_000_000;

/// The name of the type that a file itself is (Zig).
pub(super) const FILE_TYPE: &str = "@This";

/// One file and what was read in it.
#[derive(Clone, Copy)]
pub(super) struct Given<'a> {
    pub(super) file: &'a str,
    pub(super) language: Language,
    pub(super) reading: &'a Reading,
}

/// Where a name stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) file: usize,
    /// The inner module or type; empty for the file itself.
    pub(super) scope: String,
}

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Found {
    /// A declaration of a file.
    Type {
        file: usize,
        index: usize,
    },
    Module(Place),
}

/// All files, by the ways in which code names them.
pub(super) struct Modules<'a> {
    files: &'a [Given<'a>],
    /// The first file of what shares its top-level names: a package in Go, else a file.
    units: Vec<usize>,
    declared: HashMap<(usize, &'a str, &'a str), Vec<(usize, usize)>>,
    named: HashMap<(usize, &'a str, &'a str), Vec<&'a Import>>,
    /// Imports of all the names there are.
    globs: HashMap<(usize, &'a str), Vec<&'a Import>>,
    /// Scopes that anything stands in.
    scopes: HashSet<(usize, &'a str)>,
    by_path: HashMap<String, usize>,
    /// Go: the first file of a package, by folder and name.
    go_packages: BTreeMap<(String, &'a str), usize>,
    /// Rust: the file of a module below a crate's folder, and the module of a file.
    crate_modules: HashMap<(String, String), usize>,
    crate_of: Vec<(String, String)>,
    /// Packages with a manifest: language, name, folder.
    packages: Vec<(Language, String, String)>,
    steps_left: Cell<usize>,
    steps_left_in_file: Cell<usize>,
}

impl<'a> Modules<'a> {
    /// An index of all files. Linear.
    pub(super) fn new(files: &'a [Given<'a>], manifests: &[Manifest]) -> Self {
        let mut modules = Self {
            files,
            units: Vec::new(),
            declared: HashMap::new(),
            named: HashMap::new(),
            globs: HashMap::new(),
            scopes: HashSet::new(),
            by_path: HashMap::new(),
            go_packages: BTreeMap::new(),
            crate_modules: HashMap::new(),
            crate_of: Vec::new(),
            packages: Vec::new(),
            steps_left: Cell::new(0),
            steps_left_in_file: Cell::new(0),
        };
        for manifest in manifests {
            if let Some(name) = &manifest.package {
                let folder = folder_of(&normal(&manifest.file)).to_owned();
                let name = if manifest.language == Language::Rust { name.replace('-', "_") } else { name.clone() };
                modules.packages.push((manifest.language, name, folder));
            }
        }
        for (number, given) in files.iter().enumerate() {
            let path = normal(given.file);
            let unit = match given.language {
                Language::Go => {
                    let package = (folder_of(&path).to_owned(), given.reading.package.as_str());
                    *modules.go_packages.entry(package).or_insert(number)
                }
                _ => number,
            };
            modules.units.push(unit);
            modules.crate_of.push(if given.language == Language::Rust {
                crate_module(&path)
            } else {
                Default::default()
            });
            modules.by_path.entry(path).or_insert(number);
            modules.index(number, unit, given.reading);
        }
        modules.index_crates();
        modules
    }

    fn index(&mut self, number: usize, unit: usize, reading: &'a Reading) {
        for (index, declaration) in reading.declarations.iter().enumerate() {
            let key = (unit, declaration.scope.as_str(), declaration.name.as_str());
            self.declared.entry(key).or_default().push((number, index));
            self.scopes.extend(scopes_up(&declaration.scope).map(|scope| (number, scope)));
        }
        for import in &reading.imports {
            match &import.name {
                Some(name) => self.named.entry((number, &import.scope, name)).or_default().push(import),
                None => self.globs.entry((number, &import.scope)).or_default().push(import),
            }
            self.scopes.extend(scopes_up(&import.scope).map(|scope| (number, scope)));
        }
    }

    /// Of `lib.rs` and `main.rs`, the library is what a module's `crate` means.
    fn index_crates(&mut self) {
        for (number, given) in self.files.iter().enumerate() {
            if given.language == Language::Rust {
                let is_main = given.file.ends_with("main.rs");
                let present = self.crate_modules.entry(self.crate_of[number].clone()).or_insert(number);
                if !is_main {
                    *present = number;
                }
            }
        }
    }

    /// Grants a file its effort.
    pub(super) fn begin_file(&self) {
        self.steps_left_in_file.set(STEPS_PER_FILE_MAX);
    }

    /// What a path means at a place; `None` if no given file says, or several do.
    pub(super) fn resolve(&self, place: &Place, path: &[String]) -> Option<Found> {
        self.steps_left.set(STEPS_MAX.min(self.steps_left_in_file.get()));
        let before = self.steps_left.get();
        let found = self.walk(place, path, Reach::Inside, &mut Vec::new());
        self.steps_left_in_file.set(self.steps_left_in_file.get() - (before - self.steps_left.get()));
        found
    }

    /// The type that a file itself is.
    pub(super) fn file_type(&self, place: &Place) -> Option<(usize, usize)> {
        match self.declaration(place, FILE_TYPE)? {
            Found::Type { file, index } => Some((file, index)),
            Found::Module(_) => None,
        }
    }

    /// `from`: whether the path is written at the place or comes from another file. `open`: the imports it came by.
    fn walk(&self, place: &Place, path: &[String], from: Reach, open: &mut Vec<*const Import>) -> Option<Found> {
        self.steps_left.set(self.steps_left.get().checked_sub(1)?);
        let Some((first, rest)) = path.split_first() else { return Some(Found::Module(place.clone())) };
        let language = self.files[place.file].language;
        if language == Language::Rust
            && let Some(next) = self.keyword(place, first)
        {
            return self.walk(&next?, rest, Reach::Outside, open);
        }
        if let Some(found) = self.declaration(place, first) {
            let (Found::Type { file, .. }, false) = (&found, rest.is_empty()) else { return Some(found) };
            return self.walk(&Place { file: *file, scope: inner(&place.scope, first) }, rest, Reach::Outside, open);
        }
        for import in self.named.get(&(place.file, &place.scope, first)).into_iter().flatten() {
            let usable = import.reach == Reach::Both || import.reach == from;
            if usable && !open.contains(&std::ptr::from_ref(*import)) {
                return self.follow(place, import, rest, open);
            }
        }
        if language == Language::Rust
            && let Some(module) = self.child(place, first)
        {
            return self.walk(&module, rest, Reach::Outside, open);
        }
        if let Some(found) = self.through_globs(place, path, from, open) {
            return Some(found);
        }
        match language {
            Language::Zig if from == Reach::Inside && !place.scope.is_empty() => {
                self.walk(&Place { file: place.file, scope: outer(&place.scope).to_owned() }, path, from, open)
            }
            Language::Rust if from == Reach::Inside => self.walk(&self.other_crate(first)?, rest, Reach::Outside, open),
            _ => None,
        }
    }

    /// What an import stands for, and the path from there.
    fn follow(
        &self,
        place: &Place,
        import: &'a Import,
        rest: &[String],
        open: &mut Vec<*const Import>,
    ) -> Option<Found> {
        self.steps_left.set(self.steps_left.get().checked_sub(1)?);
        let path: Vec<String> = import.path.iter().chain(rest).cloned().collect();
        open.push(std::ptr::from_ref(import));
        let found = match &import.module {
            None => self.walk(place, &path, Reach::Inside, open),
            Some(module) => self.modules(place, module, &path).into_iter().find_map(|(module, num_taken)| {
                self.walk(&Place { file: module, scope: String::new() }, &path[num_taken..], Reach::Outside, open)
            }),
        };
        open.pop();
        found
    }

    /// What exactly one of the imports of all names gives.
    fn through_globs(
        &self,
        place: &Place,
        path: &[String],
        from: Reach,
        open: &mut Vec<*const Import>,
    ) -> Option<Found> {
        let mut found = BTreeSet::new();
        for glob in self.globs.get(&(place.file, &place.scope)).into_iter().flatten() {
            let usable = glob.reach == Reach::Both || glob.reach == from;
            if usable && !open.contains(&std::ptr::from_ref(*glob)) {
                found.extend(self.follow(place, glob, path, open));
            }
        }
        if found.len() == 1 { found.pop_first() } else { None }
    }

    /// The declaration of a name at a place, unless several files declare it.
    fn declaration(&self, place: &Place, name: &str) -> Option<Found> {
        let all = self.declared.get(&(self.units[place.file], &place.scope, name))?;
        let &(file, index) = all.first()?;
        all.iter().all(|(other, _)| *other == file).then_some(Found::Type { file, index })
    }

    /// The files that a module's name may mean, the best first, and how much of the path is part of that name.
    fn modules(&self, place: &Place, module: &str, path: &[String]) -> Vec<(usize, usize)> {
        let folder = folder_of(&normal(self.files[place.file].file)).to_owned();
        let found = match self.files[place.file].language {
            Language::Typescript if module.starts_with('.') => {
                self.first_path(typescript_paths(&join(&folder, module)))
            }
            Language::Zig if module.ends_with(".zig") => self.first_path(vec![join(&folder, module)]),
            Language::Go => self.go_package(module),
            Language::Python => {
                // `from . import x` may take a module, and `a.b.C` passes through modules.
                let dotted = |num_taken: usize| {
                    let separator = if module.ends_with('.') || num_taken == 0 { "" } else { "." };
                    format!("{module}{separator}{}", path[..num_taken].join("."))
                };
                let lengths = (0..=path.len()).rev();
                return lengths.filter_map(|n| Some((self.python_module(&folder, &dotted(n))?, n))).collect();
            }
            _ => None,
        };
        found.map(|file| (file, 0)).into_iter().collect()
    }

    fn first_path(&self, paths: Vec<String>) -> Option<usize> {
        paths.iter().find_map(|path| self.by_path.get(path).copied())
    }

    fn python_module(&self, folder: &str, module: &str) -> Option<usize> {
        let name = module.trim_start_matches('.');
        let num_dots = module.len() - name.len();
        let below = |root: &str| {
            let base = join(root, &name.replace('.', "/"));
            let paths = [".py", ".pyi", "/__init__.py", "/__init__.pyi"];
            self.first_path(paths.iter().map(|ending| normal(&format!("{base}{ending}"))).collect())
        };
        if num_dots > 0 {
            return below(&join(folder, &"../".repeat(num_dots - 1)));
        }
        // Absolute names begin where packages begin: in a folder that is none itself, or in its `src`.
        let mut found = BTreeSet::new();
        for root in folders_up(folder) {
            if self.first_path(vec![join(root, "__init__.py"), join(root, "__init__.pyi")]).is_none() {
                found.extend(below(root));
                found.extend(below(&join(root, "src")));
            }
        }
        if found.len() == 1 { found.pop_first() } else { None }
    }

    fn go_package(&self, path: &str) -> Option<usize> {
        let of_language = self.packages.iter().filter(|(language, ..)| *language == Language::Go);
        let folders = of_language.filter_map(|(_, name, folder)| {
            let rest = path.strip_prefix(name.as_str())?;
            (rest.is_empty() || rest.starts_with('/')).then(|| join(folder, rest.trim_start_matches('/')))
        });
        let packages = folders.flat_map(|folder| self.go_packages.range((folder.clone(), "")..=(folder, "\u{10ffff}")));
        packages.filter(|((_, package), _)| !package.ends_with("_test")).map(|(_, file)| *file).next()
    }

    /// `crate`, `self` and `super`; the inner `None` is a module that is not given.
    fn keyword(&self, place: &Place, segment: &str) -> Option<Option<Place>> {
        let (root, module) = &self.crate_of[place.file];
        match segment {
            "self" => Some(Some(place.clone())),
            "super" if !place.scope.is_empty() => {
                Some(Some(Place { file: place.file, scope: outer(&place.scope).to_owned() }))
            }
            "super" => Some(self.crate_file(root, outer(module)).filter(|_| !module.is_empty())),
            "crate" if module.is_empty() => Some(Some(Place { file: place.file, scope: String::new() })),
            "crate" => Some(self.crate_file(root, "")),
            _ => None,
        }
    }

    /// A module declared in a module of Rust: inline, or as a file.
    fn child(&self, place: &Place, name: &str) -> Option<Place> {
        let scope = inner(&place.scope, name);
        if self.scopes.contains(&(place.file, scope.as_str())) {
            return Some(Place { file: place.file, scope });
        }
        let (root, module) = &self.crate_of[place.file];
        self.crate_file(root, &inner(module, &scope))
    }

    fn crate_file(&self, root: &str, module: &str) -> Option<Place> {
        let file = *self.crate_modules.get(&(root.to_owned(), module.to_owned()))?;
        Some(Place { file, scope: String::new() })
    }

    fn other_crate(&self, name: &str) -> Option<Place> {
        let (_, _, folder) =
            self.packages.iter().find(|(language, package, _)| *language == Language::Rust && package == name)?;
        self.crate_file(&join(folder, "src"), "")
    }
}

/// A module or type inside another.
pub(super) fn inner(scope: &str, name: &str) -> String {
    if scope.is_empty() { name.to_owned() } else { format!("{scope}::{name}") }
}

fn outer(scope: &str) -> &str {
    scope.rsplit_once("::").map_or("", |(outer, _)| outer)
}

/// A scope and those it lies in, without the file itself.
fn scopes_up(scope: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(scope), |scope| Some(outer(scope))).take_while(|scope| !scope.is_empty())
}

/// The folder of a crate's sources, and the module that a file of it is.
fn crate_module(path: &str) -> (String, String) {
    let (root, below) = match path.rfind("src/").filter(|at| *at == 0 || path[..*at].ends_with('/')) {
        // Each program is a crate of its own.
        Some(at) if path[at + 4..].starts_with("bin/") => (path, ""),
        Some(at) => (&path[..at + 3], &path[at + 4..]),
        None => (folder_of(path), path.rsplit('/').next().unwrap_or(path)),
    };
    let module = below.strip_suffix(".rs").unwrap_or(below);
    let module = module.strip_suffix("/mod").unwrap_or(module);
    let module = if matches!(module, "lib" | "main" | "mod") { "" } else { module };
    (root.to_owned(), module.replace('/', "::"))
}

/// Where TypeScript looks for a relative module.
fn typescript_paths(base: &str) -> Vec<String> {
    const EXTENSIONS: [&str; 9] = ["ts", "tsx", "d.ts", "mts", "cts", "js", "jsx", "mjs", "cjs"];
    let stem = [".js", ".jsx", ".mjs", ".cjs"].iter().find_map(|extension| base.strip_suffix(extension));
    let mut paths: Vec<String> = Vec::new();
    for stem in stem.into_iter().chain([base]) {
        paths.extend(EXTENSIONS.map(|extension| format!("{stem}.{extension}")));
    }
    paths.push(base.to_owned());
    paths.extend(EXTENSIONS.map(|extension| join(base, &format!("index.{extension}"))));
    paths
}

/// A folder and those it lies in, up to the empty one.
fn folders_up(folder: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(folder), |folder| (!folder.is_empty()).then(|| folder_of(folder)))
}

fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn join(folder: &str, path: &str) -> String {
    normal(&format!("{folder}{}{path}", if folder.is_empty() { "" } else { "/" }))
}

/// A path without `.`, `..` and empty parts, as far as it says what those are.
fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let root = if path.starts_with('/') { "/" } else { "" };
    format!("{root}{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_one_form() {
        for (path, expected) in [("./a//b/../c.ts", "a/c.ts"), ("/x/./y", "/x/y"), ("../a", "../a"), ("", "")] {
            assert_eq!(normal(path), expected, "{path}");
        }
        assert_eq!(join("a/b", "../c"), "a/c");
        assert_eq!(join("", "c"), "c");
    }

    #[test]
    fn files_of_rust_are_modules() {
        for (path, root, module) in [
            ("src/lib.rs", "src", ""),
            ("x/src/a/b.rs", "x/src", "a::b"),
            ("x/src/a/mod.rs", "x/src", "a"),
            ("src/bin/tool.rs", "src/bin/tool.rs", ""),
            ("flat.rs", "", "flat"),
        ] {
            assert_eq!(crate_module(path), (root.to_owned(), module.to_owned()), "{path}");
        }
    }
}
