//! Tests that go through all query files.

#![allow(clippy::print_stdout, reason = "counts and timings are printed for people")]
use std::collections::{BTreeMap, BTreeSet};

use super::idiom::{ALL, Idiom};
use super::*;

/// An example of a pattern, and what is nearly one.
struct Example {
    name: &'static str,
    positive: &'static str,
    near_miss: &'static str,
}

fn examples(idiom: &Idiom) -> Vec<Example> {
    let text = match idiom.name {
        "TypeScript" => include_str!("../testdata/patterns/typescript.txt"),
        "Python" => include_str!("../testdata/patterns/python.txt"),
        "Rust" => include_str!("../testdata/patterns/rust.txt"),
        "Go" => include_str!("../testdata/patterns/go.txt"),
        "Zig" => include_str!("../testdata/patterns/zig.txt"),
        other => panic!("{other} has no examples"),
    };
    let example = |block: &'static str| {
        let (name, sources) = block.split_once('\n').expect("a name stands on its line");
        let (positive, near_miss) = sources.split_once("---\n").expect("an example has a near miss");
        Example { name, positive, near_miss }
    };
    text.split("=== ").skip(1).map(example).collect()
}

fn read(idiom: &'static Idiom, text: &str) -> FileCode {
    let tree = idiom.dialect.parse(text).expect("a few lines parse");
    Collector::new(idiom, SourceFile { text, name: "", first_line: 1 }).read(&tree)
}

fn is_pattern(capture: &str) -> bool {
    let roles = ["import", "argument", "path", "name", "signature", "value", "test", "doc"];
    capture.split_once('.').is_some_and(|(role, _)| !role.starts_with('_') && !roles.contains(&role))
}

#[test]
fn every_pattern_finds_its_example_and_not_the_near_miss() {
    let (mut num_patterns, mut distinct, mut categories) = (0, BTreeSet::new(), BTreeMap::<&str, usize>::new());
    let mut wrong = Vec::new();
    for idiom in ALL {
        let patterns: BTreeSet<&str> =
            idiom.dialect.capture_names().iter().copied().filter(|name| is_pattern(name)).collect();
        let examples = examples(idiom);
        let shown: BTreeSet<&str> = examples.iter().map(|example| example.name).collect();
        assert_eq!(patterns, shown, "{}: every pattern has an example, and every example a pattern", idiom.name);
        for example in examples {
            for (text, is_expected) in [(example.positive, true), (example.near_miss, false)] {
                let code = read(idiom, text);
                if code.facts.has_errors || code.patterns.contains_key(example.name) != is_expected {
                    wrong.push(format!("{} {}: {text}", idiom.name, example.name));
                }
            }
        }
        num_patterns += patterns.len();
        for pattern in patterns {
            distinct.insert(pattern);
            *categories.entry(pattern.split('.').next().unwrap_or_default()).or_default() += 1;
        }
    }
    assert!(wrong.is_empty(), "does not parse, or is found or not where it should not be:\n{}", wrong.join("\n"));
    println!("{num_patterns} patterns, {} distinct: {categories:?}", distinct.len());
    assert!(distinct.len() >= 60);
    assert_eq!(categories.len(), 8);
}

/// The imports of a text: root and form, `?` for a root that is computed, and `local` beside those of the program.
fn imports(language: Language, text: &str) -> Vec<String> {
    let facts = facts_of_code(text, language, Granularity::File);
    let said = |import: Import| {
        let local = if import.is_local { " local" } else { "" };
        format!("{} {}{local}", import.root.as_deref().unwrap_or("?"), import.form)
    };
    facts.imports.into_iter().map(said).collect()
}

#[test]
fn every_form_of_import_is_known() {
    for (language, text, expected) in [
        (Language::Typescript, r#"import a, { b } from "react";"#, "react static"),
        (Language::Typescript, r#"import type { A } from '@scope/a/b';"#, "@scope/a static"),
        (Language::Typescript, r#"import "./a";"#, "./a static local"),
        (Language::Typescript, r#"import a = require("b");"#, "b import_require"),
        (Language::Typescript, r#"export * from "a";"#, "a re_export"),
        (Language::Typescript, r#"export { b as c } from "a";"#, "a re_export"),
        (Language::Typescript, r#"const a = require("node:fs/promises");"#, "node:fs require"),
        (Language::Typescript, "const a = require(`b`);", "b require"),
        (Language::Typescript, "const a = require(b);", "? require"),
        (Language::Typescript, r#"module.require("a");"#, "a require"),
        (Language::Typescript, r#"require.resolve("a");"#, "a require_resolve"),
        (Language::Typescript, r#"import.meta.resolve("a");"#, "a import_meta_resolve"),
        (Language::Typescript, r#"process.getBuiltinModule("fs");"#, "fs get_builtin_module"),
        (Language::Typescript, r#"await import("a");"#, "a dynamic"),
        (Language::Typescript, r#"import("\x61b");"#, "ab dynamic"),
        (Language::Typescript, "import(`a${b}`);", "? dynamic"),
        (Language::Typescript, r#"import("a" + b);"#, "? dynamic"),
        (Language::Typescript, r#"let a: import("b").C;"#, "b dynamic"),
        (Language::Typescript, r#"let a: typeof import("b");"#, "b dynamic"),
        (Language::Typescript, r#"new Worker("./a.js");"#, "./a.js worker local"),
        (Language::Typescript, r#"importScripts("https://a.b/c.js");"#, "https://a.b require"),
        (Language::Typescript, r#"vi.mock("a");"#, "a mock"),
        (Language::Typescript, r#"eval("a");"#, "? eval"),
        (Language::Typescript, r#"new Function("a");"#, "? eval"),
        (Language::Typescript, "const a = require;", "? alias"),
        (Language::Typescript, "a(require);", "? alias"),
        (Language::Typescript, "module.createRequire(a);", "? create_require"),
        (Language::Python, "import a.b", "a import"),
        (Language::Python, "import a as b", "a import"),
        (Language::Python, "from a.b import c", "a from"),
        (Language::Python, "from a import *", "a from"),
        (Language::Python, "from . import a", " from local"),
        (Language::Python, "from ..a import b", " from local"),
        (Language::Python, "from __future__ import annotations", "__future__ future"),
        (Language::Python, "__import__('a')", "a dunder_import"),
        (Language::Python, "__import__(a)", "? dunder_import"),
        (Language::Python, "importlib.import_module('a.b')", "a import_module"),
        (Language::Python, "importlib.import_module(f'{a}')", "? import_module"),
        (Language::Python, "il.import_module('a' 'b')", "ab import_module"),
        (Language::Python, "import_module('a')", "a dunder_import"),
        (Language::Python, "runpy.run_module('a')", "a import_module"),
        (Language::Python, "pytest.importorskip('a')", "a import_module"),
        (Language::Python, "sys.modules['a']", "a sys_modules"),
        (Language::Python, "sys.modules[a]", "? sys_modules"),
        (Language::Python, "exec('import a')", "? eval"),
        (Language::Python, "a = __import__", "? alias"),
        (Language::Python, "getattr(b, '__import__')", "? alias"),
        (Language::Python, "__builtins__['a']", "? alias"),
        (Language::Rust, "use a;", "a use"),
        (Language::Rust, "use ::a::b;", "a use"),
        (Language::Rust, "use a::{b, c::d};", "a use"),
        (Language::Rust, "use a::b as c;", "a use"),
        (Language::Rust, "use a::*;", "a use"),
        (Language::Rust, "pub(crate) use crate::a;", "crate use local"),
        (Language::Rust, "use super::a;", "super use local"),
        (Language::Rust, "extern crate a as b;", "a extern_crate"),
        (Language::Rust, "fn f() { a::b(); }", "a path"),
        (Language::Rust, "fn f() { ::a::b(); }", "a path"),
        (Language::Rust, "fn f(a: b::C) {}", "b path"),
        (Language::Rust, "fn f() { x!(a::b(1)); }", "a path"),
        (Language::Rust, "#[a::b]\nfn f() {}", "a path"),
        (Language::Rust, "#[derive(a::B)]\nstruct C;", "a path"),
        (Language::Go, "package a\nimport \"net/http\"", "net/http import"),
        (Language::Go, "package a\nimport b \"github.com/c/d/e\"", "github.com/c/d/e import"),
        (Language::Go, "package a\nimport _ `b`", "b import"),
        (Language::Go, "package a\nfunc f() { plugin.Open(b) }", "? plugin"),
        (Language::Zig, "const a = @import(\"std\");", "std import"),
        (Language::Zig, "const a = @import(\"b.zig\").c;", "b.zig import local"),
        (Language::Zig, "const a = @embedFile(\"b.txt\");", "b.txt embed_file local"),
    ] {
        assert_eq!(imports(language, text), [expected], "{text}");
    }
    assert_eq!(imports(Language::Rust, "use {a::b, c};"), ["a use", "c use"]);
    assert_eq!(imports(Language::Python, "import a, b.c"), ["a import", "b import"]);
    assert_eq!(imports(Language::Zig, "const c = @cImport(@cInclude(\"a.h\"));"), ["? c_import", "? c_import"]);
}

#[test]
fn what_a_file_binds_itself_is_no_import() {
    let text = "use std::{fs, io::{self, Read as R}};\nuse anyhow::anyhow;\nmod own;\n\
        fn f() { fs::read(a); io::stdin(); R::x(); own::y(); anyhow::bail!(z); u8::MAX; Self::g(); T::h(); }";
    assert_eq!(imports(Language::Rust, text), ["std use", "anyhow use", "anyhow path"]);
    assert_eq!(imports(Language::Typescript, "import_a('b'); a.import('c'); required('d');"), Vec::<String>::new());
    assert_eq!(imports(Language::Python, "a.exec(b); x = imported['c']"), Vec::<String>::new());
}

#[test]
fn fragments_are_read_where_they_stand() {
    for (language, granularity, text, call) in [
        (Language::Typescript, Granularity::Statements, "const a = 1;\nreturn await b.c(a);", "b.c"),
        (Language::Typescript, Granularity::FunctionBody, "const a = 1;\nreturn await b.c(a);", "b.c"),
        (Language::Typescript, Granularity::Expression, "[1].map(\n  b.c(1))", "b.c"),
        (Language::Python, Granularity::Statements, "a = 1\nb.c(a)\n", "b.c"),
        (Language::Python, Granularity::FunctionBody, "    a = 1\n    return b.c(a)\n", "b.c"),
        (Language::Python, Granularity::Expression, "[1,\n b.c(a)]", "b.c"),
        (Language::Rust, Granularity::Statements, "let a = 1;\nb::c(a);", "b::c"),
        (Language::Rust, Granularity::FunctionBody, "let a = 1;\nb::c(a)", "b::c"),
        (Language::Rust, Granularity::Expression, "x(1) +\nb::c(1)", "b::c"),
        (Language::Go, Granularity::Statements, "a := 1\nb.c(a)", "b.c"),
        (Language::Go, Granularity::Expression, "1 +\nb.c(1)", "b.c"),
        (Language::Zig, Granularity::FunctionBody, "const a = 1;\ntry b.c(a);", "b.c"),
        (Language::Zig, Granularity::Expression, "1 +\nb.c(1)", "b.c"),
    ] {
        let facts = facts_of_code(text, language, granularity);
        assert!(!facts.has_errors, "{language:?} {granularity:?}: {text}");
        let found = facts.calls.iter().find(|found| found.path == call).expect("the call is found");
        assert_eq!(found.place.line, 2, "{language:?} {granularity:?}");
        assert!(facts.declared.iter().all(|declared| declared.name == "a"), "{:?}", facts.declared);
    }
}

#[test]
fn constants_that_make_a_type_are_types() {
    for (language, text, name, kind) in [
        (Language::Python, "Handler = typing.Callable[[A], B]\n", "Handler", DeclarationKind::Type),
        (Language::Python, "Value = A | None\n", "Value", DeclarationKind::Type),
        (Language::Python, "value: TypeAlias = 'A'\n", "value", DeclarationKind::Type),
        (Language::Python, "value = table['a']\n", "value", DeclarationKind::Variable),
        (Language::Python, "VALUE = table['a']\n", "VALUE", DeclarationKind::Constant),
        (Language::Python, "def f():\n    Value = table['a']\n", "Value", DeclarationKind::Variable),
        (Language::Zig, "const Map = std.StringHashMap(u8);", "Map", DeclarationKind::Type),
        (Language::Zig, "const map = std.StringHashMap(u8);", "map", DeclarationKind::Constant),
        (Language::Zig, "const Map = std.makeMap(u8);", "Map", DeclarationKind::Constant),
        (Language::Zig, "pub const size: u8 = 4;", "size", DeclarationKind::Constant),
        (Language::Zig, "const S = struct { const size = 4; };", "size", DeclarationKind::Constant),
        (Language::Zig, "fn f() void { const size = 4; }", "size", DeclarationKind::Variable),
        (Language::Zig, "var size: u8 = 4;", "size", DeclarationKind::Variable),
    ] {
        let facts = facts_of_code(text, language, Granularity::File);
        let declared = facts.declared.iter().find(|declared| declared.name == name).expect("it is declared");
        assert_eq!(declared.kind, kind, "{text}");
    }
}

#[test]
fn paths_of_lints_and_tools_import_nothing() {
    let text = "#![allow(a::b)]\n#[expect(clippy::c)]\nfn f() {}\n#[rustfmt::skip]\n#[derive(d::E)]\nstruct G;\n\
        #[h::test]\nfn i() { clippy::j() }\n";
    let facts = facts_of_code(text, Language::Rust, Granularity::File);
    let roots: Vec<_> = facts.imports.iter().map(|import| import.root.as_deref().unwrap_or("?")).collect();
    assert_eq!(roots, ["d", "h", "clippy"]);
}

#[test]
fn callees_are_paths_of_names() {
    for (language, text, path) in [
        (Language::Typescript, "a?.b!.c<string>(1);", "a.b.c"),
        (Language::Typescript, "(eval)(a);", "eval"),
        (Language::Typescript, "(0, eval)(a);", "eval"),
        (Language::Typescript, "new a.B(1);", "a.B"),
        (Language::Typescript, "a`b`;", "a"),
        (Language::Typescript, "@a class B {}", "a"),
        (Language::Typescript, "a[0].b();", ".b"),
        (Language::Python, "os . system(a)", "os.system"),
        (Language::Python, "@a.b\ndef c():\n    pass\n", "a.b"),
        (Language::Rust, "fn f() { std::process::exit(1); }", "std::process::exit"),
        (Language::Rust, "fn f() { a.collect::<Vec<_>>(); }", "a.collect"),
        (Language::Rust, "fn f() { panic!(); }", "panic"),
        (Language::Rust, "fn f() { vec![a.unwrap()]; }", "a.unwrap"),
        (Language::Rust, "fn f() { println!(\"{}\", 'x'.collect::<Vec<_>>()); }", ".collect"),
        (Language::Go, "package a\nfunc f() { go b.c(1) }", "b.c"),
        (Language::Zig, "fn f() void { @panic(\"a\"); }", "@panic"),
    ] {
        let calls = facts_of_code(text, language, Granularity::File).calls;
        assert!(calls.iter().any(|call| call.path == path), "{text}: {calls:?}");
    }
    let chain = facts_of_code("a().b().c();", Language::Typescript, Granularity::File).calls;
    assert_eq!(chain.iter().map(|call| call.path.as_str()).collect::<Vec<_>>(), ["a", ".b", ".c"]);
}

#[test]
fn names_that_are_given_text_are_found() {
    for (language, text, names) in [
        (Language::Typescript, "const a = 'x'; b.c = `y`; const d = { e: 'z', 'f': 'w', g: ['x'] };", "a c e f"),
        (Language::Typescript, "class A { b = 'x'; c({ d = 'y' }, e = 'z', f = g('w')) {} }", "b d e"),
        (
            Language::Python,
            "a = 'x'\nself.b = 'y' + z\nc, d = 'x', 1\nf(g='z')\nh = {'i': 'w'}\nj = k('x')",
            "a b c g i",
        ),
        (
            Language::Rust,
            "const A: &str = \"x\"; fn f() { let b = \"y\"; c.d = \"z\"; S { e: \"w\", g: h(\"x\") }; }",
            "A b d e",
        ),
        (
            Language::Go,
            "package p\nconst a = \"x\"\nfunc f() { b, c := 1, `y`; d.e = \"z\"; S{F: \"w\", G: h(\"x\")} }",
            "a c e F",
        ),
        (
            Language::Zig,
            "const a: []const u8 = \"x\"; fn f() void { b.c = \"y\"; const d = .{ .e = \"z\", .g = h(\"w\") }; }",
            "a c e",
        ),
    ] {
        let values = facts_of_code(text, language, Granularity::File).literal_values;
        assert_eq!(values.iter().map(|value| value.name.as_str()).collect::<Vec<_>>().join(" "), names, "{text}");
    }
}

#[test]
fn signatures_stand_on_one_line() {
    for (language, text, signature, is_stub) in [
        (
            Language::Typescript,
            "export async function a(\n  b: string, // b\n  c = 1,\n): Promise<void> { d(); }",
            "export async function a(b: string, c = 1): Promise<void>",
            false,
        ),
        (Language::Typescript, "function a() { throw new Error('not implemented'); }", "function a()", true),
        (Language::Typescript, "const a = (b: number): string => c;", "const a = (b: number): string =>", false),
        (
            Language::Python,
            "def a(b: int,\n      c=1) -> int:\n    '''D.'''\n    ...",
            "def a(b: int, c=1) -> int:",
            true,
        ),
        (Language::Python, "async def a():\n    raise NotImplementedError", "async def a():", true),
        (
            Language::Rust,
            "pub fn a<T>(b: T) -> u8\nwhere\n    T: C,\n{\n    todo!()\n}",
            "pub fn a<T>(b: T) -> u8 where T: C",
            true,
        ),
        (Language::Go, "package a\nfunc (b *B) c(d int) (e error) { return }", "func (b *B) c(d int) (e error)", false),
        (Language::Go, "package a\nfunc b() { panic(\"not implemented\") }", "func b()", true),
        (Language::Zig, "pub fn a(b: u8) !void {\n    @panic(\"TODO\");\n}", "pub fn a(b: u8) !void", true),
    ] {
        let signatures = facts_of_code(text, language, Granularity::File).signatures;
        let found: Vec<(&str, bool)> = signatures.iter().map(|one| (one.text.as_str(), one.is_stub)).collect();
        assert_eq!(found, [(signature, is_stub)], "{text}");
    }
}

#[test]
fn a_syntax_error_costs_the_broken_subtree() {
    for (language, broken, whole) in [
        (Language::Typescript, "function a( { ]]\n", "import b from \"c\";\nfunction d(e: string) { f.g(); }\n"),
        (Language::Python, "def a(:\n    )(\n\n", "import c\ndef d(e):\n    f.g()\n"),
        (Language::Rust, "fn a( { ]\n", "use c::b;\nfn d(e: u8) { f.g(); }\n"),
        (Language::Go, "package p\n\nfunc a( { ]\n\n", "func d(e int) { f.g() }\n"),
        (Language::Zig, "fn a( { ]\n", "const b = @import(\"c\");\nfn d(e: u8) void { f.g(); }\n"),
    ] {
        let facts = facts_of_code(&[whole, broken].concat(), language, Granularity::File);
        assert!(facts.has_errors, "{language:?}");
        let (d, call) =
            (facts.declared.iter().any(|name| name.name == "d"), facts.calls.iter().any(|c| c.path == "f.g"));
        assert!(d && call, "{language:?}: {facts:?}");
    }
    assert!(!facts_of_code("const A = struct {};\n", Language::Zig, Granularity::File).has_errors);
}

#[test]
fn nesting_without_end_is_read_in_linear_time() {
    const DEPTH: usize = 20_000;
    for (language, text) in [
        (Language::Typescript, "a(".repeat(DEPTH) + &")".repeat(DEPTH)),
        (Language::Typescript, "a".to_owned() + &".b()".repeat(DEPTH)),
        (Language::Typescript, "a".to_owned() + &".b".repeat(DEPTH) + "()"),
        (Language::Typescript, "function a() {".repeat(DEPTH)),
        (Language::Typescript, "const a = b;\n".repeat(DEPTH)),
        (Language::Typescript, format!("const a = [{}];", "{ a: 'x', b() {} },".repeat(DEPTH))),
        (Language::Python, "a = b\n".repeat(DEPTH)),
        (Language::Python, format!("a = [{}]", "'x' 'y',".repeat(DEPTH))),
        (Language::Python, "def a(b):\n    pass\n".repeat(DEPTH)),
        (Language::Rust, format!("fn a() {{ b!({}); }}", "c::d(e), ".repeat(DEPTH))),
        (Language::Rust, format!("fn a() {{ b!{}{} }}", "(".repeat(DEPTH), ")".repeat(DEPTH))),
        (Language::Rust, "use a::b;\n".repeat(DEPTH)),
        (Language::Rust, format!("use a::{{{}}};", "b, ".repeat(DEPTH))),
        (Language::Go, format!("package a\nvar b = []int{{{}}}", "1, ".repeat(DEPTH))),
        (Language::Zig, "const a = b;\n".repeat(DEPTH)),
    ] {
        let started = std::time::Instant::now();
        let facts = facts_of_code(&text, language, Granularity::File);
        println!("{} bytes, {} calls: {:?}", text.len(), facts.calls.len(), started.elapsed());
        assert!(started.elapsed().as_secs() < 10, "{language:?} {}", &text[..40]);
    }
    let hidden = "a(".repeat(DEPTH) + "eval(b)" + &")".repeat(DEPTH);
    assert!(
        facts_of_code(&hidden, Language::Typescript, Granularity::File).has_errors,
        "what is too deep is not judged"
    );
}

#[test]
fn every_folder_has_the_files_of_the_recipe() {
    let recipe = include_str!("../queries/README.md");
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/clew/queries");
    for name in ["typescript", "python", "rust", "go", "zig"] {
        for entry in std::fs::read_dir(folder.join(name)).into_iter().flatten().flatten() {
            let file = entry.file_name().to_string_lossy().into_owned();
            let is_query = file.ends_with(".scm");
            assert!(!is_query || recipe.contains(&format!("`{file}`")), "{name}/{file} is not in the recipe");
        }
    }
}

#[test]
fn a_further_language_is_a_folder_of_queries_and_an_idiom() {
    static FURTHER: Idiom = Idiom {
        name: "Further",
        dialect: crate::clew::syntax::Dialect::new(
            || tree_sitter_go::LANGUAGE.into(),
            concat!(
                include_str!("../testdata/recipe/patterns.scm"),
                include_str!("../testdata/recipe/imports.scm"),
                include_str!("../testdata/recipe/names.scm"),
                include_str!("../testdata/recipe/signatures.scm"),
                include_str!("../testdata/recipe/calls.scm"),
                include_str!("../testdata/recipe/literals.scm"),
                include_str!("../testdata/recipe/tests.scm"),
            ),
        ),
        modules: modules::Modules::Paths,
        text_kinds: &["interpreted_string_literal"],
        computed_kinds: &[],
        body: ("func _() {\n", "\n}"),
        expression: ("var _ = (\n", ")"),
        makes_up_members: false,
        has_free_statements: false,
        has_two_quotes: false,
        builtin_roots: &[],
        dangers: "",
    };
    let code = read(&FURTHER, "package a\nimport \"b\"\nfunc f() int { c := \"d\"; go e.g(c) }\n");
    assert_eq!(code.facts.imports[0].root.as_deref(), Some("b"));
    assert_eq!(code.facts.declared.iter().map(|name| name.name.as_str()).collect::<Vec<_>>(), ["f", "c"]);
    assert_eq!(code.facts.signatures[0].text, "func f() int");
    assert_eq!(code.facts.calls[0].path, "e.g");
    assert_eq!(code.facts.literals[1].text, "d");
    assert!(code.patterns.contains_key("async.started_task"));
}

#[test]
fn rust_roots_are_found_behind_colons_comments_and_raw_names() {
    for (text, expected) in [
        ("use ::anyhow::x;", "anyhow use"),
        ("use ::/* c */anyhow::x;", "anyhow use"),
        ("use :: // c\n anyhow :: x;", "anyhow use"),
        ("use /* a::b */ anyhow /* d */::x as y;", "anyhow use"),
        ("use r#type::x;", "type use"),
        ("use anyhow as a;", "anyhow use"),
        ("use ::/* c */r#type;", "type use"),
        ("use r#type /* c */ as /* d */ t;", "type use"),
        ("use ::{anyhow::x};", "anyhow use"),
        ("use {{anyhow::x}};", "anyhow use"),
        ("extern crate r#type;", "type extern_crate"),
        ("fn f() { ::/* c */anyhow::x(); }", "anyhow path"),
        ("fn f() { r#type::x(); }", "type path"),
        // A module of the file is not what `::` asks for.
        ("mod anyhow {}\nuse ::anyhow::x;", "anyhow use"),
        ("mod anyhow {}\nfn f() { ::anyhow::x(); }", "anyhow path"),
        ("mod anyhow {}\nuse anyhow::x;", "anyhow use local"),
        ("mod r#type {}\nuse r#type::x;", "type use local"),
    ] {
        assert_eq!(imports(Language::Rust, text), [expected], "{text}");
    }
    assert_eq!(imports(Language::Rust, "mod anyhow {}\nfn f() { anyhow::x(); }"), [""; 0]);
    assert_eq!(imports(Language::Rust, "mod r#type {}\nfn f() { r#type::x(); }"), [""; 0]);
}

#[test]
fn the_first_error_is_placed_in_the_piece_itself() {
    for (language, granularity, text, at) in [
        (Language::Rust, Granularity::File, "fn f() {}\nfn g( {}\n", 10..19),
        (Language::Rust, Granularity::Expression, "1 + + 2", 0..8),
        (Language::Go, Granularity::FunctionBody, "x := 1\ny := )\n", 0..15),
        (Language::Typescript, Granularity::Expression, "`${}`", 0..6),
        (Language::Python, Granularity::Expression, "[1, 2", 0..6),
    ] {
        let (syntax, facts) = read_code(text, language, granularity);
        let Syntax::Error { at: found } = syntax else { panic!("{text}: {syntax:?}") };
        assert!(at.contains(&found) && facts.has_errors, "{text}: {found}");
    }
    let (syntax, facts) = read_code("const A = struct {};\n", Language::Zig, Granularity::File);
    assert!(syntax == Syntax::WellFormed && !facts.has_errors, "a member of Zig's that only the grammar misses");
    // Rows of commas are not looked through, and still known to be wrong.
    let (syntax, facts) = read_code(&format!("x = [1{}", ",".repeat(5_000)), Language::Python, Granularity::File);
    assert!(matches!(syntax, Syntax::Error { .. }) && facts.has_errors);
}
