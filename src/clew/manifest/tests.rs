use super::*;

/// Checks what a manifest declares, as `name@line:column`.
fn check(file_name: &str, text: &str, package: Option<&str>, expected: &[&str]) {
    let manifest = read_manifest(text, file_name, file_name).expect("the manifest is well-formed");
    let found = manifest.dependencies.iter();
    let found: Vec<_> = found.map(|one| format!("{}@{}:{}", one.name, one.origin.line, one.origin.column)).collect();
    assert_eq!(found, expected, "{file_name}");
    assert_eq!(manifest.package.as_deref(), package, "{file_name}");
}

/// Checks where and why a manifest is refused.
fn refused(file_name: &str, text: &str, place: (u32, u32), why: &str) {
    match read_manifest(text, file_name, "there") {
        Err(ClewError::Malformed { file, line, column, message }) => {
            assert_eq!((file.as_str(), (line, column)), ("there", place), "{message}");
            assert!(message.contains(why), "{message}");
        }
        other => panic!("{text:?} gave {other:?}"),
    }
}

#[test]
fn package_json_has_four_tables() {
    let text = r#"{
  "name": "shop",
  "scripts": { "react": "no dependency", "x": ["dependencies"] },
  "dependencies": { "react": "^19", "@scope/pkg": "1", "alias": "npm:other@1" },
  "devDependencies": {
    "@types/node": "20",
    "@types/babel__core": "7"
  },
  "peerDependencies": {"q\"uote": "1"},
  "peerDependenciesMeta": {"vue": {"optional": true}},
  "optionalDependencies": {"fsevents" : "2", "nested": {"dependencies": {"not": 1}}}
}"#;
    let expected = [
        "react@4:21",
        "@scope/pkg@4:37",
        "alias@4:56",
        "@types/node@6:5",
        "node@6:5",
        "@types/babel__core@7:5",
        "@babel/core@7:5",
        "q\"uote@9:24",
        "fsevents@11:28",
        "nested@11:46",
    ];
    check("package.json", text, Some("shop"), &expected);
    check("package.json", "\u{feff}{}", None, &[]);
    refused("package.json", "{\n  \"a\": x\n}", (2, 8), "expected value");
    refused("package.json", "[]", (1, 1), "object");
    refused("package.json", "{\"name\": 1,\n \"dependencies\": []}", (2, 2), "`dependencies` must be an object");
}

#[test]
fn pyproject_has_standard_tables_and_poetrys() {
    let text = r#"
[project]
name = "My-Shop"
dependencies = ["PyYAML>=6", "requests[socks] ; python_version > '3'",
  "scikit-learn", "zope.event", "my-lib @ https://example.com/x.whl"]
[project.optional-dependencies]
images = ["pillow~=10.0"]
[dependency-groups]
test = ["pytest", {include-group = "images"}]
[tool.poetry]
name = "ignored"
[tool.poetry.dependencies]
python = "^3.11"
Django = {version = "5"}
[tool.poetry.group.dev.dependencies]
ruff = "*"
"#;
    let expected = [
        "yaml@4:17",
        "requests@4:30",
        "sklearn@5:3",
        "zope@5:19",
        "my_lib@5:33",
        "PIL@7:11",
        "_pytest@9:9",
        "pytest@9:9",
        "django@14:1",
        "Django@14:1",
        "ruff@16:1",
    ];
    check("pyproject.toml", text, Some("my_shop"), &expected);
    check(
        "pyproject.toml",
        "[tool.poetry]\nname = 'a'\n[tool.poetry.dev-dependencies]\nb = '1'\n",
        Some("a"),
        &["b@4:1"],
    );
    refused("pyproject.toml", "[project]\ndependencies = [\"a\", \"b c\"]", (2, 22), "no requirement");
    refused("pyproject.toml", "[project]\ndependencies = 3", (2, 16), "list");
    refused("pyproject.toml", "project = 1", (1, 11), "`project` must be a table");
    refused("pyproject.toml", "[project\n", (1, 9), "");
}

#[test]
fn requirements_are_lines() {
    let text = "# all\n-r base.txt\n--index-url https://example.com/simple\nPyYAML==6.0 \\\n    --hash=sha256:00\n\
                  requests[socks]>=2 ; python_version>'3' # why\n-e git+https://example.com/x.git#egg=thing&sub=1\n-e .\n\
                ./local.whl\nhttps://example.com/a.zip\nflask @ https://example.com/f.whl\nnumpy\n";
    let expected = ["yaml@4:1", "requests@6:1", "thing@7:1", "flask@11:1", "numpy@12:1"];
    check("requirements.txt", text, None, &expected);
    check("dev-requirements.txt", "a\r\n  b\r\n", None, &["a@1:1", "b@2:3"]);
    refused("requirements_dev.txt", "a\n  {{ b }}\n", (2, 3), "no requirement");
    refused("requirements.txt", "two words", (1, 1), "no requirement");
}

#[test]
fn cargo_tables_and_renames() {
    let text = r#"
[package]
name = "my-shop"
[dependencies]
serde_json = "1"
md-5 = "0.10"
renamed-one = { package = "md-5", version = "0.10" }
shared.workspace = true
sha-1 = { workspace = true }
[dependencies.long-name]
version = "1"
[dev-dependencies]
proptest = "1"
[build-dependencies]
cc = "1"
[target.'cfg(unix)'.dependencies]
rustix = "1"
[workspace.dependencies]
offered = "1"
shared = "1"
sha-1 = { package = "other", version = "1" }
"#;
    let expected = [
        "serde_json@5:1",
        "md5@6:1",
        "renamed_one@7:1",
        "shared@8:1",
        "sha_1@9:1",
        "long_name@10:15",
        "proptest@13:1",
        "cc@15:1",
        "rustix@17:1",
    ];
    check("Cargo.toml", text, Some("my_shop"), &expected);
    check("Cargo.toml", "[package]\nname = 'a-b'\n[lib]\nname = 'c'\n", Some("c"), &[]);
    check("Cargo.toml", "[workspace]\nmembers = []\n", None, &[]);
    refused("Cargo.toml", "[dependencies]\na = \n", (2, 5), "");
    refused("Cargo.toml", "dependencies = []", (1, 16), "`dependencies` must be a table");
}

#[test]
fn go_mod_requires() {
    let text = "module example.com/shop // ours\n\ngo 1.22\ntoolchain go1.22.1\n\nrequire github.com/a/b v1.2.3\nrequire (\n\
                \tgolang.org/x/net v0.1.0 // indirect\n\t\"quoted.org/c\" v1.0.0\n)\nreplace github.com/a/b => ../b\n\
                replace (\n\tx.org/y v1 => z.org/y v2\n)\nretract [v1.0.0, v1.9.9]\nexclude x.org/y v1.1.1\n";
    let expected = ["github.com/a/b@6:9", "golang.org/x/net@8:2", "quoted.org/c@9:2"];
    check("go.mod", text, Some("example.com/shop"), &expected);
    refused("go.mod", "module a\nrequires x v1\n", (2, 1), "`requires` is no directive");
    refused("go.mod", "require (\n x v1\n", (1, 1), "not closed");
    refused("go.mod", "require x\n", (1, 9), "does not take `x`");
    refused("go.mod", "replace (\n\tx y\n)\n", (2, 2), "does not take `x y`");
}

#[test]
fn zig_packages_are_keys() {
    let text = ".{\n    .name = .shop, // .dependencies = .{ .no = 1 }\n    .version = \"0.1.0\",\n    .dependencies = .{\n\
                \x20       .zap = .{ .url = \"https://example.com/.{\", .hash = \"x\" },\n        .@\"my-lib\" = .{ .path = \"lib\" },\n\
                \x20   },\n    .paths = .{\"src\"},\n}\n";
    check("build.zig.zon", text, Some("shop"), &["zap@5:9", "my-lib@6:9"]);
    check("build.zig.zon", ".{ .name = \"old\" }", Some("old"), &[]);
    refused("build.zig.zon", ".{\n .a = .{\n}", (1, 2), "not closed");
    refused("build.zig.zon", ".{}}", (1, 4), "closes nothing");
    refused("build.zig.zon", ".{ .a = \"b\n }", (1, 9), "closing quote");
}

#[test]
fn other_files_are_no_manifests() {
    assert!(!is_manifest("package-lock.json") && !is_manifest("Cargo.lock") && is_manifest("requirements-dev.txt"));
    assert!(
        matches!(read_manifest("", "x.json", "a/x.json"), Err(ClewError::UnknownManifest { file }) if file == "a/x.json")
    );
    let large = " ".repeat(MANIFEST_BYTES_MAX + 1);
    assert!(matches!(read_manifest(&large, "go.mod", ""), Err(ClewError::TooLarge { .. })));
}

#[test]
fn the_table_of_names_is_sorted_and_normalized() {
    for text in [include_str!("python_names.txt"), include_str!("rust_names.txt")] {
        let names: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert!(names.is_sorted() && names.iter().all(|row| row.split(' ').count() > 1));
    }
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "(?s)[a-z.@{}\\[\\]\"'=,:/#\\\\() \n$-]{0,80}", which in 0_usize..6) {
        let names = ["package.json", "pyproject.toml", "Cargo.toml", "go.mod", "build.zig.zon", "requirements.txt"];
        let _ = read_manifest(&text, names[which], "x");
    }
}
