//! `ananke extract` as a program: folders, limits, cache, streams, exit status.

#![allow(clippy::print_stdout, reason = "what was measured is printed for people")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ananke::clew::{self, CONSTRAINTS_MAX, ClewError, DESCRIPTION_BYTES_MAX, SOURCE_BYTES_MAX};
use ananke::constraint::{ConstraintSet, Language, Source};
use tempfile::TempDir;

/// A folder with files in it.
struct Tree(TempDir);

impl Tree {
    fn new(files: &[(&str, &[u8])]) -> Self {
        let tree = Self(tempfile::tempdir().expect("a folder"));
        for (name, content) in files {
            tree.write(name, content);
        }
        tree
    }

    fn write(&self, name: &str, content: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("below the root")).expect("a folder");
        fs::write(path, content).expect("a file");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs `ananke extract` in the folder; the cache of whoever runs the test is left alone.
    fn run(&self, arguments: &[&str]) -> Output {
        let cached = arguments.iter().any(|argument| argument.contains("cache"));
        let no_cache: &[&str] = if cached { &[] } else { &["--no-cache"] };
        let command = &mut Command::new(env!("CARGO_BIN_EXE_ananke"));
        command.arg("extract").args(no_cache).args(arguments).current_dir(self.0.path());
        command.env("XDG_CACHE_HOME", self.path(".user-cache")).output().expect("the program starts")
    }

    fn set(&self, arguments: &[&str]) -> ConstraintSet {
        let output = self.run(&[arguments, &["--format", "json"]].concat());
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("a constraint set")
    }

    /// The error of a run that fails with status 1.
    fn error(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(output.stdout.is_empty());
        String::from_utf8(output.stderr).expect("text")
    }
}

/// Files in which types are found.
fn sources(set: &ConstraintSet) -> Vec<String> {
    let types = set.constraints.iter().filter(|one| one.source == Source::TypeSystem);
    let mut files: Vec<_> = types.filter_map(|one| one.origin.as_ref()).map(|at| at.file.clone()).collect();
    files.sort();
    files.dedup();
    files
}

fn interface(name: &str) -> Vec<u8> {
    format!("export interface {name} {{ {}: string }}\n", name.to_lowercase()).into_bytes()
}

#[test]
fn folders_are_walked_with_ignore_rules() {
    let tree = Tree::new(&[
        ("src/.gitignore", b"generated/\n*.gen.ts\n"),
        ("src/a.ts", &interface("A")),
        ("src/deep/b.py", b"from dataclasses import dataclass\n@dataclass\nclass B:\n    b: int\n"),
        ("src/x.gen.ts", &interface("C")),
        ("src/generated/d.ts", &interface("D")),
        ("src/.hidden/e.ts", &interface("E")),
        ("src/node_modules/f.ts", &interface("F")),
        ("src/target/g.ts", &interface("G")),
        ("src/vendor/h.ts", &interface("H")),
        ("src/__pycache__/i.ts", &interface("I")),
        ("src/readme.md", b"no code"),
    ]);
    assert_eq!(sources(&tree.set(&["src"])), ["src/a.ts", "src/deep/b.py"]);
    assert_eq!(sources(&tree.set(&["src/vendor"])), ["src/vendor/h.ts"]);
    assert_eq!(sources(&tree.set(&["src/x.gen.ts", "src/deep", "src/deep/b.py"])), ["src/deep/b.py", "src/x.gen.ts"]);
}

#[test]
fn the_output_depends_on_no_order_and_no_number_of_threads() {
    let files: Vec<_> =
        (0..60).map(|idx| (format!("src/{}/t{idx}.ts", idx % 7), interface(&format!("T{idx}")))).collect();
    let files: Vec<_> = files.iter().map(|(name, content)| (name.as_str(), content.as_slice())).collect();
    let tree = Tree::new(&files);
    let run = |arguments: &[&str]| {
        let output = tree.run(&[arguments, &["--format", "json"]].concat());
        assert!(output.status.success());
        let mut set: ConstraintSet = serde_json::from_slice(&output.stdout).expect("a constraint set");
        set.name.clear();
        set
    };
    let first = run(&["src", "--jobs", "1"]);
    assert!(first.constraints.len() >= 60);
    assert_eq!(run(&["src", "--jobs", "8"]), first);
    assert_eq!(run(&["src"]), first);
    let folders: Vec<String> = (0..7).rev().map(|idx| format!("src/{idx}")).collect();
    assert_eq!(run(&folders.iter().map(String::as_str).collect::<Vec<_>>()), first);
}

#[test]
fn manifests_are_read_on_the_way() {
    let tree = Tree::new(&[
        ("app/package.json", b"{\"dependencies\": {\"left-pad\": \"1\"}}"),
        ("app/a.ts", &interface("A")),
        ("bad/package.json", b"{\n\"dependencies\": 3}"),
        ("bad/b.ts", &interface("B")),
    ]);
    tree.set(&["app/package.json"]);
    tree.set(&["app"]);
    let set = tree.set(&["bad"]);
    let at =
        &set.diagnostics.iter().find(|one| one.message.contains("must be an object")).expect("a diagnostic").origin;
    assert_eq!((at.file.as_str(), at.line, at.column), ("bad/package.json", 2, 1));
    let error = tree.error(&["bad/package.json"]);
    assert!(error.contains("bad/package.json:2:1: `dependencies` must be an object"), "{error}");
}

#[test]
fn one_bad_file_costs_that_file() {
    let large = vec![b' '; SOURCE_BYTES_MAX + 1];
    let tree = Tree::new(&[
        ("src/good.ts", &interface("Good")),
        ("src/bytes.ts", b"type A = '\xff'\n"),
        ("src/large.ts", &large),
        ("only/bytes.py", b"\xfe"),
        ("none/readme.md", b"no code"),
    ]);
    let set = tree.set(&["src"]);
    assert_eq!(sources(&set), ["src/good.ts"]);
    let problem = |file: &str| {
        let of_file = set.diagnostics.iter().find(|one| one.origin.file == file);
        of_file.unwrap_or_else(|| panic!("no diagnostic of {file}")).message.clone()
    };
    assert!(problem("src/bytes.ts").contains("not UTF-8: byte 0xff at offset 10"));
    assert!(problem("src/large.ts").contains("the source has 10485761 bytes, more than the 10485760"));

    assert!(tree.error(&["src/good.ts", "src/bytes.ts"]).contains("cannot read src/bytes.ts"));
    assert!(tree.error(&["src/large.ts"]).contains("10485760"));
    assert!(tree.error(&["only"]).contains("nothing could be read"));
    assert!(tree.error(&["none"]).contains("no source file below none"));
    assert!(tree.error(&["none/readme.md"]).contains("unknown file type"));
    assert!(tree.error(&["missing.ts"]).contains("cannot read missing.ts"));
}

#[test]
fn limits_are_typed_errors() {
    let too_large = vec![b' '; SOURCE_BYTES_MAX + 1];
    let expected = ClewError::TooLarge { size: SOURCE_BYTES_MAX + 1, limit: SOURCE_BYTES_MAX };
    assert_eq!(clew::decode(too_large), Err(expected.clone()));
    let text = " ".repeat(SOURCE_BYTES_MAX + 1);
    assert_eq!(clew::extract(&text, Language::Python, "a.py").map(|_| ()), Err(expected));
    assert_eq!(clew::decode(b"ab\xc3(".to_vec()), Err(ClewError::NotUtf8 { offset: 2, byte: 0xc3 }));

    let types: String = (0..1_200).map(|idx| format!("interface T{idx} {{ a{idx}: string }}\n")).collect();
    let set = clew::extract(&types, Language::Typescript, "many.ts").expect("TypeScript is read");
    assert!(set.constraints.len() <= CONSTRAINTS_MAX);
    assert!(set.diagnostics.iter().any(|one| one.message.contains("further")), "{:?}", set.diagnostics.first());
    let documented = format!("/** {} */\ninterface A {{ a: string }}\n", "\u{e9}".repeat(DESCRIPTION_BYTES_MAX));
    let set = clew::extract(&documented, Language::Typescript, "long.ts").expect("TypeScript is read");
    let longest = set.constraints.iter().map(|one| one.description.len()).max();
    assert!(longest.is_some_and(|len| (1_000..=DESCRIPTION_BYTES_MAX).contains(&len)), "{longest:?}");
}

#[test]
fn the_cache_gives_what_reading_gives() {
    let tree = Tree::new(&[
        ("src/a.ts", &interface("A")),
        ("src/b.py", b"import os\n\ndef f(a: int) -> int:\n    return a\n"),
    ]);
    let anew = tree.set(&["src"]);
    let cached = ["src", "--cache", "kept"];
    assert_eq!(tree.set(&cached), anew);
    let entries = || -> Vec<PathBuf> {
        let folder = fs::read_dir(tree.path("kept")).expect("the cache");
        folder.map(|entry| entry.expect("an entry").path()).collect()
    };
    assert_eq!(entries().len(), 2);
    assert_eq!(tree.set(&cached), anew);

    for entry in entries() {
        fs::write(entry, "broken").expect("an entry");
    }
    assert_eq!(tree.set(&cached), anew);
    assert!(entries().iter().all(|entry| fs::metadata(entry).expect("an entry").len() > 100), "written again");

    tree.write("src/a.ts", &interface("Other"));
    assert_ne!(tree.set(&cached), anew);
    assert_eq!(entries().len(), 3);
    assert!(!tree.path(".user-cache").exists());
}

#[test]
fn without_a_word_the_cache_is_the_users() {
    let tree = Tree::new(&[("a.ts", &interface("A"))]);
    let output = Command::new(env!("CARGO_BIN_EXE_ananke"))
        .args(["extract", "a.ts"])
        .current_dir(tree.0.path())
        .env("XDG_CACHE_HOME", tree.path("caches"))
        .output()
        .expect("the program starts");
    assert!(output.status.success());
    assert_eq!(fs::read_dir(tree.path("caches/ananke/extract")).expect("the cache").count(), 1);
    tree.write("file", b"");
    assert!(tree.error(&["a.ts", "--cache", "file/below"]).contains("--cache file/below"));
}

#[test]
fn telemetry_is_advisory() {
    let tree = Tree::new(&[
        ("a.ts", &interface("A")),
        (
            "t.json",
            b"{\"budgets\": [{\"operation\": \"GET /\", \"latency_ms\": {\"p99\": 250}, \"error_rate\": 0.01}]}",
        ),
        ("bad.json", b"{\"budgets\": [],\n \"extra\": 1}"),
    ]);
    let set = tree.set(&["a.ts", "--telemetry", "t.json"]);
    let of_telemetry = set.constraints.iter().filter(|one| one.source == Source::Telemetry);
    let names: Vec<_> = of_telemetry.map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["telemetry.latency.GET /", "telemetry.error_rate.GET /"]);
    let error = tree.error(&["a.ts", "--telemetry", "bad.json"]);
    assert!(error.contains("bad.json:2:") && error.contains("unknown field `extra`"), "{error}");
}

#[test]
fn the_table_names_categories_and_places() {
    let tree = Tree::new(&[("a.ts", &interface("A"))]);
    let output = tree.run(&["a.ts"]);
    let table = String::from_utf8(output.stdout).expect("text");
    assert!(table.starts_with("NAME") && table.contains("\ntypes (2)\n") && table.contains("a.ts:1:"), "{table}");
    assert!(output.stderr.is_empty(), "no progress bar where nobody sees it");
}

#[test]
fn a_streamed_file_is_read_like_any_other() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let order = fs::read(data.join("order.ts")).expect("a test file");
    let tree = Tree::new(&[("src/order.ts", &order), ("src/bad.py", b"a = 1\nb = '\xff'\n")]);
    let streamed = tree.set(&["src/order.ts", "--stream"]);
    assert_eq!(streamed, tree.set(&["src/order.ts"]));
    let set = tree.set(&["src", "--stream"]);
    assert!(set.diagnostics.iter().any(|one| one.message.contains("byte 0xff at offset 11")));
}

/// 100 MB of declarations, in a fraction of what parsing them all at once would take.
#[cfg(target_os = "linux")]
#[test]
fn a_hundred_megabytes_are_streamed_in_bounded_memory() {
    const BYTES: usize = 100 * 1024 * 1024;
    const MEMORY_KB_MAX: u64 = 300 * 1024;
    let row = format!("  \"{}\",\n", "eight words, none of which matters at all: {[( ".repeat(2));
    let rows = row.repeat(30);
    let mut source = Vec::with_capacity(BYTES + 10_000);
    let mut num_tables = 0;
    while source.len() < BYTES {
        source.extend_from_slice(format!("export const table{num_tables} = [\n{rows}];\n\n").as_bytes());
        num_tables += 1;
    }
    let last_line = source.iter().filter(|byte| **byte == b'\n').count() + 1;
    source.extend_from_slice(&interface("Last"));
    let tree = Tree::new(&[("large.ts", &source)]);
    drop(source);
    assert!(tree.error(&["large.ts"]).contains("10485760"));

    let script = format!(
        "'{}' extract large.ts --stream --no-cache --format json > set.json & child=$!; \
         while kill -0 $child 2>/dev/null; do grep VmHWM /proc/$child/status 2>/dev/null >> memory; sleep 0.1; done; \
         wait $child",
        env!("CARGO_BIN_EXE_ananke")
    );
    let output = Command::new("sh").args(["-c", &script]).current_dir(tree.0.path()).output().expect("a shell");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let memory = fs::read_to_string(tree.path("memory")).expect("what was measured");
    let peak_kb = memory.split_whitespace().filter_map(|word| word.parse::<u64>().ok()).max().expect("a peak");
    println!("{num_tables} tables, {last_line} lines, peak {peak_kb} kB");
    assert!(peak_kb < MEMORY_KB_MAX, "{peak_kb} kB");

    let set = fs::read(tree.path("set.json")).expect("a set");
    let set: ConstraintSet = serde_json::from_slice(&set).expect("a constraint set");
    let last = set.find("Last").and_then(|one| one.origin.as_ref()).expect("the last type is found");
    assert_eq!((last.line as usize, last.column), (last_line, 8));
}
