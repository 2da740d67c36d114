//! Who may import whom, and which module owns which external crate: the table below is the architecture, and this
//! test holds the sources to it.
//!
//! Read are `use` trees, paths in types, expressions, attributes and re-exports, and the words of macro calls.
//! Test modules keep to the same layers, but may use any crate.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use syn::visit::{self, Visit};
use syn::{Attribute, Item, UseTree};

/// Each module, and the modules it may import. `bin`, `cli` and `config` compose: they may import all.
const LAYERS: &[(&str, &str)] = &[
    ("constraint", ""),
    ("clew", "constraint"),
    ("braid", "constraint"),
    ("text", ""),
    ("guide", "constraint text"),
    ("kernels", ""),
    ("model", "kernels"),
    ("idle", ""),
    ("panics", ""),
    ("engine", "guide model kernels idle"), // of kernels, the sampler's parameters and results
    ("verify", "constraint clew"),          // Clew reads finished code again
    ("hub", ""),
    ("authorities", ""),
    ("circuit", ""),
    ("remote", "authorities circuit"),
    ("otlp", "remote"), // the client, and what an address is
    ("cache", "authorities circuit"),
    ("maze", "constraint clew braid text guide kernels model engine verify hub cache remote idle"),
    ("audit", ""),
    ("server", "maze audit otlp"),
    ("config", "*"),
    ("cli", "*"),
    ("bin", "*"),
];

/// Each external crate, and the modules that own it.
const CRATES: &[(&str, &str)] = &[
    // Shared on purpose.
    ("serde", "*"),
    ("serde_json", "*"),
    ("thiserror", "*"),
    ("tracing", "*"),
    // What may be said.
    ("schemars", "constraint server"), // of the IR, and of what goes over the wire
    ("blake3", "constraint text audit cache server maze"), // of audit lines, entries, API keys, and weights
    ("tree_sitter", "clew"),
    ("tree_sitter_go", "clew"),
    ("tree_sitter_python", "clew"),
    ("tree_sitter_rust", "clew"),
    ("tree_sitter_typescript", "clew"),
    ("tree_sitter_zig", "clew"),
    ("petgraph", "braid"),
    ("tokenizers", "text"),
    ("minijinja", "text"),
    ("minijinja_contrib", "text"),
    ("toktrie", "text guide"),
    ("foldhash", "guide"),
    ("llguidance", "guide panics"),
    ("regex_automata", "guide braid"),
    ("regex_syntax", "guide braid"),
    // How it is computed.
    ("candle_core", "kernels model"),
    ("half", "kernels model"),
    ("safetensors", "model"),
    ("memmap2", "model"),
    // Above both.
    ("crossbeam_channel", "engine maze audit cache idle"),
    ("tokio", "engine maze audit remote otlp server bin cli"),
    ("rustls", "authorities cache remote server"),
    ("tokio_rustls", "server"),
    ("tokio_stream", "maze server"),
    ("futures_core", "maze server"),
    ("futures_util", "maze server"),
    ("rustix", "engine maze server"), // of engine, its tests
    ("libc", "engine"),
    ("jsonschema", "verify"),
    ("regex", "clew verify"),
    ("hf_hub", "hub"),
    ("ureq", "hub remote"),
    ("indicatif", "hub cli"),
    ("ignore", "cli"),
    ("rayon", "cli guide"),
    ("axum", "server"),
    ("hyper", "remote server"),
    ("hyper_util", "remote server"),
    ("hyper_rustls", "remote"),
    ("http_body_util", "remote"),
    ("getrandom", "server"),
    ("prometheus", "maze cache otlp server"),
    ("prost", "otlp"),
    ("serde_path_to_error", "server"),
    ("clap", "config bin cli"),
    ("cpu_time", "cli guide"), // of guide, its tests
    ("toml", "clew server config bin cli"),
    ("anyhow", "config bin cli"),
    ("mimalloc", "bin"),
    ("libmimalloc_sys", "bin"),
    ("tracing_subscriber", "bin cli"),
];

/// Crates of which a module may use only these parts.
const ONLY: &[(&str, &str, &[&str])] =
    &[("engine", "tokio", &["sync::mpsc", "sync::oneshot"]), ("audit", "tokio", &["sync::oneshot"])];

/// Words that have no place in a module: the engine's thread owns its state.
const FORBIDDEN_WORDS: &[(&str, &str)] = &[("engine", "Mutex"), ("engine", "RwLock")];

/// Where `unsafe` may stand, and in how many files at most: the kernels, one memory map, what the
/// engine's thread asks of the scheduler, and an option of the allocator.
const UNSAFE: &[(&str, usize)] = &[("kernels", usize::MAX), ("model", 1), ("engine", 1), ("bin", 1)];

#[test]
fn sources_keep_to_the_table() {
    let sources = read_sources(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")));
    assert!(sources.len() > 20, "only {} source files were found", sources.len());
    let violations = check(&sources);
    assert!(violations.is_empty(), "{} violations:\n{}", violations.len(), violations.join("\n"));
}

#[test]
fn the_table_names_each_module_and_each_dependency_once() {
    let source = include_str!("../src/lib.rs");
    let file = syn::parse_file(source).expect("lib.rs parses");
    let declared = file.items.iter().filter_map(|item| match item {
        Item::Mod(module) => Some(module.ident.to_string()),
        _ => None,
    });
    let modules: BTreeSet<_> = declared.chain(["bin".to_owned()]).collect();
    let rows: BTreeSet<_> = LAYERS.iter().map(|row| row.0.to_owned()).collect();
    assert!(modules.is_subset(&rows), "no row for {:?}", modules.difference(&rows));
    assert_eq!(rows.len(), LAYERS.len(), "a module has two rows");

    let dependencies: BTreeSet<_> = dependencies().into_iter().collect();
    let rows: BTreeSet<_> = CRATES.iter().map(|row| row.0.to_owned()).collect();
    assert_eq!(dependencies, rows, "left: Cargo.toml, right: the table");
    assert_eq!(rows.len(), CRATES.len(), "a crate has two rows");
}

#[test]
fn the_layers_have_no_circle() {
    let mut below: BTreeSet<&str> = BTreeSet::new();
    for (module, imports) in LAYERS.iter().filter(|row| row.1 != "*") {
        for import in imports.split_whitespace() {
            assert!(below.contains(import), "{module} imports {import}, which has no row above it");
        }
        below.insert(module);
    }
}

#[test]
fn planted_violations_are_found() {
    for (path, source, expected) in [
        ("guide/mask.rs", "use crate::engine::Engine;", "guide may not import engine"),
        ("guide/mask.rs", "use crate::{text, model::Logits};", "guide may not import model"),
        ("guide/mask.rs", "fn f(_: crate::maze::Error) {}", "guide may not import maze"),
        ("guide/mask.rs", "fn f() { let x = vec![crate::verify::check()]; }", "guide may not import verify"),
        ("guide/mask.rs", "use super::super::server as text;", "guide may not import server"),
        ("guide/mod.rs", "use super::server;", "guide may not import server"),
        ("guide/mod.rs", "mod a { use super::super::server; }", "guide may not import server"),
        ("guide.rs", "pub use ananke::server::*;", "guide may not import server"),
        ("guide/mask.rs", "#[cfg(test)] mod tests { use crate::engine; }", "guide may not import engine"),
        ("audit/mod.rs", "use crate::server::App;", "audit may not import server"),
        ("server/mod.rs", "use crate::engine::Engine;", "server may not import engine"),
        ("text/mod.rs", "use candle_core::Tensor;", "text may not use the crate candle_core"),
        ("text/mod.rs", "fn f(x: &::candle_core::Tensor) {}", "text may not use the crate candle_core"),
        ("clew/semantic.rs", "use crate::remote::Endpoint;", "clew may not import remote"),
        ("clew/semantic.rs", "fn f() { ureq::get(\"http://a\"); }", "clew may not use the crate ureq"),
        ("remote/mod.rs", "use crate::maze::Maze;", "remote may not import maze"),
        ("text/mod.rs", "extern crate regex;", "text may not use the crate regex"),
        ("text/mod.rs", "#[derive(schemars::JsonSchema)] struct A;", "text may not use the crate schemars"),
        ("guide/mod.rs", "fn f() { regex::Regex::new(); }", "guide may not use the crate regex"),
        ("engine/mod.rs", "use tokio::runtime::Runtime;", "engine may only use sync::mpsc"),
        ("engine/mod.rs", "use tokio::sync;", "engine may only use sync::mpsc"),
        ("engine/mod.rs", "use std::sync::{Arc, Mutex};", "engine may not contain `Mutex`"),
        ("engine/mod.rs", "struct A { b: std::sync::RwLock<u8> }", "engine may not contain `RwLock`"),
        ("engine/mod.rs", "fn f() { println!(\"{}\", Mutex::new(1)); }", "engine may not contain `Mutex`"),
        ("text/mod.rs", "fn f() { unsafe { g() } }", "`unsafe` is not for text"),
        ("text/mod.rs", "unsafe impl Send for A {}", "`unsafe` is not for text"),
        ("text/mod.rs", "unsafe fn f() {}", "`unsafe` is not for text"),
        ("text/mod.rs", "fn f() { assert!(unsafe { g() }); }", "`unsafe` is not for text"),
        ("unknown/mod.rs", "", "has no row"),
    ] {
        let found = check(&BTreeMap::from([(path.to_owned(), source.to_owned())]));
        assert!(found.len() == 1 && found[0].contains(expected), "{source:?} in {path} gave {found:?}");
    }
    let in_model = |name: &str| (format!("model/{name}.rs"), "fn f() { unsafe { g() } }".to_owned());
    assert_eq!(check(&[in_model("map")].into()), Vec::<String>::new());
    assert_eq!(check(&[in_model("map"), in_model("other")].into()).len(), 1);
}

#[test]
fn what_the_table_allows_is_not_found() {
    for (path, source) in [
        ("guide/mask.rs", "use crate::{constraint::ConstraintIr, text::Vocabulary}; use super::GuideError;"),
        ("guide/mod.rs", "mod regex; use regex::Group; fn f() { regex::g(); }"),
        ("guide/mask.rs", "use super::regex; fn f() { regex::g(); }"),
        ("guide/mask.rs", "/// Not like [`crate::engine`].\nfn f() { log(\"crate::engine::X\"); }"),
        ("guide/mask.rs", "fn f() { info!(\"crate::engine::X unsafe {}\", 1); }"),
        ("guide/mask.rs", "#[cfg(test)] mod tests { use proptest::prelude::*; use candle_core::Tensor; }"),
        ("guide/tests/oracle.rs", "use regex::Regex;"),
        ("guide/mask.rs", "#![deny(unsafe_code)]"),
        ("engine/mod.rs", "use tokio::sync::{mpsc, oneshot::Sender}; #[cfg(test)] mod tests { use std::sync::Mutex; }"),
        ("bin/ananke.rs", "use ananke::maze; use ananke::engine::Engine; use clap::Parser;"),
        ("lib.rs", "pub mod braid; pub use crate::engine::Engine;"),
    ] {
        let found = check(&BTreeMap::from([(path.to_owned(), source.to_owned())]));
        assert_eq!(found, Vec::<String>::new(), "{source:?} in {path}");
    }
}

/// All violations in files named by their path below `src`.
fn check(sources: &BTreeMap<String, String>) -> Vec<String> {
    let crates: BTreeSet<&str> = CRATES.iter().map(|row| row.0).collect();
    let mut violations = BTreeSet::new();
    let mut unsafe_files: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (path, source) in sources.iter().filter(|(path, _)| *path != "lib.rs") {
        let file = syn::parse_file(source).unwrap_or_else(|error| panic!("{path} does not parse: {error}"));
        let mut reader = Reader::new(path, &crates, &file);
        reader.visit_file(&file);
        let module = reader.module[0].clone();
        if reader.has_unsafe {
            unsafe_files.entry(module.clone()).or_default().push(path);
        }
        let Some((_, imports)) = LAYERS.iter().find(|row| row.0 == module) else {
            violations.insert(format!("{path}: module {module} has no row in the table"));
            continue;
        };
        let found = reader.found.iter().filter_map(|found| found.judge(&module, imports));
        violations.extend(found.map(|why| format!("{path}: {why}")));
    }
    for (module, paths) in unsafe_files {
        let limit = UNSAFE.iter().find(|row| row.0 == module).map_or(0, |row| row.1);
        for path in paths.iter().skip(limit) {
            violations.insert(format!("{path}: `unsafe` is not for {module}, in more than {limit} files"));
        }
    }
    violations.into_iter().collect()
}

/// Something a file uses.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Found {
    Module(String),
    /// A crate, and the path inside it.
    Crate(String, String),
    Word(String),
}

impl Found {
    /// What is wrong with this being in `module`.
    fn judge(&self, module: &str, imports: &str) -> Option<String> {
        match self {
            Self::Module(other) if other == module || lists(imports, other) => None,
            Self::Module(other) => Some(format!("{module} may not import {other}")),
            Self::Crate(name, path) => {
                let owners = CRATES.iter().find(|row| row.0 == name).map_or("", |row| row.1);
                if !lists(owners, module) {
                    return Some(format!("{module} may not use the crate {name}"));
                }
                let (_, _, parts) = ONLY.iter().find(|row| row.0 == module && row.1 == name)?;
                let allowed = parts.iter().any(|part| format!("{path}::").starts_with(&format!("{part}::")));
                (!allowed).then(|| format!("{module} may only use {} of {name}, not {path}", parts.join(", ")))
            }
            Self::Word(word) => {
                let forbidden = FORBIDDEN_WORDS.contains(&(module, word));
                forbidden.then(|| format!("{module} may not contain `{word}`"))
            }
        }
    }
}

fn lists(row: &str, name: &str) -> bool {
    row == "*" || row.split_whitespace().any(|word| word == name)
}

/// Reads one file.
struct Reader<'a> {
    crates: &'a BTreeSet<&'a str>,
    /// Path of the module being read, from the crate's root.
    module: Vec<String>,
    /// Names in this file that are modules of ours, although a crate has the same name.
    own_names: BTreeSet<String>,
    in_test: bool,
    found: BTreeSet<Found>,
    has_unsafe: bool,
}

impl<'a> Reader<'a> {
    fn new(path: &str, crates: &'a BTreeSet<&'a str>, file: &syn::File) -> Self {
        let parts = path.trim_end_matches(".rs").split('/').filter(|part| *part != "mod");
        let module: Vec<_> = parts.map(String::from).collect();
        let in_test = module.iter().any(|name| name == "tests");
        let mut names = OwnNames(BTreeSet::new());
        names.visit_file(file);
        Self { crates, module, own_names: names.0, in_test, found: BTreeSet::new(), has_unsafe: false }
    }

    /// Takes in a path as written; `is_use` if it comes from a `use`, where one segment is enough.
    fn path(&mut self, segments: &[String], is_use: bool) {
        let num_supers = segments.iter().take_while(|segment| *segment == "super").count();
        let Some(first) = segments.first() else { return };
        let rest = || segments[1..].join("::");
        if first == "crate" || first == "ananke" {
            self.root_path(&segments[1..]);
        } else if num_supers > 0 && num_supers >= self.module.len() {
            self.root_path(&segments[num_supers..]);
        } else if self.crates.contains(first.as_str())
            && !self.own_names.contains(first)
            && !self.in_test
            && (is_use || segments.len() > 1)
        {
            self.found.insert(Found::Crate(first.clone(), rest()));
        }
        for segment in segments {
            self.word(segment);
        }
    }

    fn root_path(&mut self, segments: &[String]) {
        if let Some(module) = segments.first().filter(|name| LAYERS.iter().any(|row| row.0 == *name)) {
            self.found.insert(Found::Module(module.clone()));
        }
    }

    fn word(&mut self, word: &str) {
        self.has_unsafe |= word == "unsafe";
        if !self.in_test && FORBIDDEN_WORDS.iter().any(|row| row.1 == word) {
            self.found.insert(Found::Word(word.into()));
        }
    }

    /// Takes in what a macro call or an attribute was given, which syn leaves unread.
    fn tokens(&mut self, tokens: &str) {
        for path in paths_in(tokens) {
            self.path(&path, false);
        }
    }

    fn use_tree(&mut self, tree: &UseTree, prefix: &[String]) {
        for path in flatten(tree, prefix) {
            self.path(&path, true);
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        let before = self.in_test;
        self.in_test |= attributes(item).iter().any(is_cfg_test);
        visit::visit_item(self, item);
        self.in_test = before;
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.use_tree(&item.tree, &[]);
    }

    fn visit_item_extern_crate(&mut self, item: &'ast syn::ItemExternCrate) {
        self.path(&[item.ident.to_string()], true);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.path(&segments, path.leading_colon.is_some());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.tokens(&call.tokens.to_string());
        visit::visit_macro(self, call);
    }

    fn visit_meta_list(&mut self, list: &'ast syn::MetaList) {
        self.tokens(&list.tokens.to_string());
        visit::visit_meta_list(self, list);
    }

    fn visit_expr_unsafe(&mut self, block: &'ast syn::ExprUnsafe) {
        self.has_unsafe = true;
        visit::visit_expr_unsafe(self, block);
    }

    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        self.has_unsafe |= signature.unsafety.is_some();
        visit::visit_signature(self, signature);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        self.has_unsafe |= item.unsafety.is_some();
        visit::visit_item_impl(self, item);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.has_unsafe |= item.unsafety.is_some();
        visit::visit_item_trait(self, item);
    }

    fn visit_item_foreign_mod(&mut self, item: &'ast syn::ItemForeignMod) {
        self.has_unsafe = true;
        visit::visit_item_foreign_mod(self, item);
    }
}

/// The names of modules that a file declares or imports from our own crate.
struct OwnNames(BTreeSet<String>);

impl<'ast> Visit<'ast> for OwnNames {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.0.insert(item.ident.to_string());
        visit::visit_item_mod(self, item);
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let own = |path: &Vec<String>| matches!(path[0].as_str(), "crate" | "super" | "self" | "ananke");
        self.0.extend(flatten(&item.tree, &[]).into_iter().filter(own).filter_map(|mut path| path.pop()));
    }
}

/// Every path of a `use`, as the name it ends in.
fn flatten(tree: &UseTree, prefix: &[String]) -> Vec<Vec<String>> {
    let with = |name: String| [prefix, &[name]].concat();
    match tree {
        UseTree::Path(path) => flatten(&path.tree, &with(path.ident.to_string())),
        UseTree::Name(name) if name.ident == "self" => vec![prefix.to_vec()],
        UseTree::Name(name) => vec![with(name.ident.to_string())],
        UseTree::Rename(rename) => vec![with(rename.ident.to_string())],
        UseTree::Glob(_) => vec![prefix.to_vec()],
        UseTree::Group(group) => group.items.iter().flat_map(|tree| flatten(tree, prefix)).collect(),
    }
}

/// Names joined by `::` in printed tokens; what stands in quotes is left out.
fn paths_in(tokens: &str) -> Vec<Vec<String>> {
    let mut paths: Vec<Vec<String>> = Vec::new();
    let mut joined = false;
    let mut rest = tokens;
    while let Some(c) = rest.chars().next() {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let len = match c {
            '"' => 1 + quoted_len(&rest[1..]),
            ':' if rest.starts_with("::") => 2,
            _ if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            _ => c.len_utf8(),
        };
        if is_word(c) {
            let word = rest[..len].to_owned();
            match paths.last_mut() {
                Some(path) if joined => path.push(word),
                _ => paths.push(vec![word]),
            }
        }
        if !c.is_whitespace() {
            joined = rest.starts_with("::");
        }
        rest = &rest[len..];
    }
    paths
}

/// Bytes up to and including the quote that closes a string.
fn quoted_len(text: &str) -> usize {
    let mut escaped = false;
    for (i, c) in text.char_indices() {
        if c == '"' && !escaped {
            return i + 1;
        }
        escaped = !escaped && c == '\\';
    }
    text.len()
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn is_cfg_test(attribute: &Attribute) -> bool {
    let list = attribute.meta.require_list();
    list.is_ok_and(|list| list.path.is_ident("cfg") && list.tokens.to_string() == "test")
}

/// The names of `[dependencies]`, as they are written in code.
fn dependencies() -> Vec<String> {
    let manifest = include_str!("../Cargo.toml");
    let section = manifest.split("\n[").find(|section| section.starts_with("dependencies]")).expect("a section");
    let names = section.lines().skip(1).filter_map(|line| line.split_once('=').map(|(name, _)| name.trim()));
    names.filter(|name| !name.starts_with('#')).map(|name| name.replace('-', "_")).collect()
}

fn read_sources(root: &Path) -> BTreeMap<String, String> {
    let mut sources = BTreeMap::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a source folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).expect("below src").to_string_lossy().replace('\\', "/");
                sources.insert(name, std::fs::read_to_string(&path).expect("a source file"));
            }
        }
    }
    sources
}
