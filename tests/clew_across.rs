//! Types across files: names are followed through imports over the files that are given, and no further.

use ananke::clew::{self, FileFacts, Manifest};
use ananke::constraint::{Constraint, ConstraintSet, Language, Rule, Strength};
use serde_json::{Value, json};

fn facts(files: &[(&str, &str)]) -> Vec<FileFacts> {
    let read = |(file, source): &(&str, &str)| {
        let language = clew::language_of(std::path::Path::new(file)).expect("a source file");
        clew::read_file(source, language, file).expect("the language is read")
    };
    files.iter().map(read).collect()
}

fn manifest(file: &str, language: Language, package: &str) -> Manifest {
    Manifest { file: file.to_owned(), language, dependencies: Vec::new(), package: Some(package.to_owned()) }
}

fn types(set: &ConstraintSet) -> impl Iterator<Item = &Constraint> {
    set.constraints.iter().filter(|constraint| matches!(constraint.rule, Rule::JsonSchema { .. }))
}

/// The schema of a type, if it is hard.
fn hard<'a>(set: &'a ConstraintSet, name: &str) -> Option<&'a Value> {
    let constraint = set.find(name).unwrap_or_else(|| panic!("no constraint for {name}"));
    let Rule::JsonSchema { schema } = &constraint.rule else { panic!("{name} is a schema") };
    (constraint.strength == Strength::Hard).then_some(schema)
}

/// Checks that a type is known with all files and accepts and refuses these values, that it is only advisory with the
/// file it stands in alone, and that the order of files does not matter.
fn check(files: &[(&str, &str)], manifests: &[Manifest], name: &str, valid: &[Value], invalid: &[Value]) {
    let mut facts = facts(files);
    let set = clew::combine(&facts, manifests);
    let schema = hard(&set, name).unwrap_or_else(|| panic!("{name} is advisory: {:#?}", set.diagnostics));
    let validator = jsonschema::validator_for(schema).expect("a valid schema");
    for value in valid {
        assert!(validator.is_valid(value), "{name} must accept {value}: {schema:#}");
    }
    for value in invalid {
        assert!(!validator.is_valid(value), "{name} must refuse {value}: {schema:#}");
    }
    let alone = clew::combine(&facts[..1], manifests);
    assert_eq!(hard(&alone, name), None, "{name} needs what is not given");
    facts.reverse();
    assert_eq!(clew::combine(&facts, manifests), set, "the order of files does not matter");
    let kept: Vec<FileFacts> = facts
        .iter()
        .map(|one| serde_json::from_value(serde_json::to_value(one).expect("plain")).expect("plain"))
        .collect();
    assert_eq!(clew::combine(&kept, manifests), set, "facts that were kept are the same");
}

#[test]
fn typescript_imports_are_followed() {
    let files = [
        (
            "src/order.ts",
            "import { User as Person, Status } from './users';\nimport type Item from '../lib/item.js';\n\
             import * as money from './money';\nimport { Page } from './barrel';\n\
             export interface Order { by: Person; status: Status.Open; items: Page<Item>; price: money.Price; \
             level: money.Level.High }",
        ),
        (
            "src/users/index.ts",
            "export interface User { name: string }\nexport enum Status { Open = 'open', Shut = 'shut' }",
        ),
        ("lib/item.ts", "interface Item { id: number }\nexport default Item;"),
        ("src/money.ts", "export type Price = number;\nexport enum Level { Low, High }"),
        ("src/barrel.ts", "export * from './nothing';\nexport * from './pages';"),
        ("src/pages.ts", "interface Sheet<T> { all: T[]; next?: Sheet<T> }\nexport { Sheet as Page };"),
    ];
    let order = |status: &str, item: Value| json!({"by": {"name": "a"}, "status": status, "items": {"all": [item], "next": {"all": []}}, "price": 1.5, "level": 1});
    check(
        &files,
        &[],
        "Order",
        &[order("open", json!({"id": 1}))],
        &[order("shut", json!({"id": 1})), order("open", json!(1))],
    );
}

#[test]
fn python_imports_are_followed() {
    let files = [
        (
            "project/shop/orders.py",
            "from dataclasses import dataclass\nfrom .users import User as Person\nfrom shop.items import *\n\
             from . import money\nimport shop.levels\n@dataclass\nclass Order:\n    by: Person\n    items: list[Item]\n    \
             price: money.Price\n    level: shop.levels.Level\n",
        ),
        ("project/shop/__init__.py", ""),
        ("project/shop/users.py", "from dataclasses import dataclass\n@dataclass\nclass User:\n    name: str\n"),
        ("project/shop/items.py", "from typing import TypedDict\nclass Item(TypedDict):\n    id: int\n"),
        ("project/shop/money.py", "from typing import NewType\nPrice = NewType('Price', int)\n"),
        ("project/shop/levels.py", "from enum import Enum\nclass Level(Enum):\n    HIGH = 'high'\n"),
    ];
    let order = |level: &str| json!({"by": {"name": "a"}, "items": [{"id": 1}], "price": 3, "level": level});
    check(&files, &[], "Order", &[order("high")], &[order("low")]);
}

#[test]
fn rust_paths_are_followed() {
    let files = [
        (
            "core/src/api/order.rs",
            "use crate::users::{self, User as Person};\nuse super::item::*;\nuse other_crate::Price;\n\
             #[derive(serde::Deserialize)]\npub struct Order { by: Person, role: users::roles::Role, items: Vec<Item>, price: \
             Price, id: crate::Id, page: crate::Page<Item> }",
        ),
        (
            "core/src/lib.rs",
            "pub mod api; mod users; pub use api::order::Order; pub type Id = u8; pub use users::Page;",
        ),
        ("core/src/api/mod.rs", "pub mod order; pub mod item;"),
        ("core/src/api/item.rs", "#[derive(serde::Deserialize)] pub struct Item { n: i8 }"),
        (
            "core/src/users.rs",
            "#[derive(serde::Deserialize)] pub struct User { name: String }\npub mod roles { #[derive(serde::Deserialize)] \
             pub enum Role { Admin, Guest } }\n#[derive(serde::Deserialize)] pub struct Page<T> { all: Vec<T> }",
        ),
        ("other/src/lib.rs", "mod money; pub use money::Price;"),
        ("other/src/money.rs", "#[derive(serde::Deserialize)] pub struct Price(u16);"),
    ];
    let manifests = [manifest("other/Cargo.toml", Language::Rust, "other-crate")];
    let order = |role: &str, price: i64| json!({"by": {"name": "a"}, "role": role, "items": [{"n": -1}], "price": price, "id": 255, "page": {"all": [{"n": 1}]}});
    check(&files, &manifests, "Order", &[order("Admin", 7)], &[order("admin", 7), order("Guest", -1)]);
}

#[test]
fn go_packages_are_folders() {
    let files = [
        (
            "app/api/order.go",
            "package api\nimport (\n\t\"x.y/app/models\"\n\tm \"x.y/app/money/v2\"\n)\ntype Order struct {\n\tBy models.User\n\t\
             Item Item\n\tPrice m.Price\n\tAll models.Page[Item]\n}\n",
        ),
        ("app/api/item.go", "package api\ntype Item struct { N int8 }\n"),
        ("app/api/item_test.go", "package api_test\ntype Item struct { Other string }\n"),
        (
            "app/models/user.go",
            "package models\ntype User struct { Name string `json:\"name\"` }\ntype Page[T any] struct { All []T }\n",
        ),
        ("app/money/v2/price.go", "package money\ntype Price uint8\n"),
    ];
    let manifests = [manifest("app/go.mod", Language::Go, "x.y/app")];
    let order = |n: i64| json!({"By": {"name": "a"}, "Item": {"N": n}, "Price": 1, "All": {"All": [{"N": 2}]}});
    check(&files, &manifests, "Order", &[order(1)], &[order(128)]);
}

#[test]
fn a_method_in_another_file_decides_the_json_of_a_type_in_go() {
    let files = [
        ("a/type.go", "package a\ntype Amount struct { N int }\n"),
        ("a/json.go", "package a\nfunc (a *Amount) UnmarshalJSON(b []byte) error { return nil }\n"),
    ];
    assert_eq!(hard(&clew::combine(&facts(&files), &[]), "Amount"), None);
    assert!(hard(&clew::combine(&facts(&files[..1]), &[]), "Amount").is_some());
}

#[test]
fn a_slice_of_bytes_is_text_in_go_whatever_its_items_are_called() {
    let files = [
        (
            "a/order.go",
            "package a\nimport \"x.y/app/money\"\ntype Order struct { Raw []Octet; Far []money.Kind; Own []Own; \
             Held Held[uint8]; Kept Held[Octet]; Fixed [2]Octet; Keys map[string][]Octet }\ntype Held[T any] struct { All []T }\n",
        ),
        ("a/octet.go", "package a\ntype Octet Byte\ntype Byte byte\ntype Own byte\n"),
        ("money/kind.go", "package money\ntype Kind uint8\nconst (\n\tCash Kind = iota\n\tCard\n)\n"),
    ];
    let manifests = [manifest("go.mod", Language::Go, "x.y/app")];
    let order = |raw: serde_json::Value| {
        json!({"Raw": raw, "Far": "AAE=", "Own": "", "Held": {"All": "AAEC"}, "Kept": {"All": "AAEC"},
        "Fixed": [1, 2], "Keys": {"a": "AA=="}})
    };
    check(&files, &manifests, "Order", &[order(json!("AAEC"))], &[order(json!([0, 1, 2])), order(json!("AAE"))]);
    let written = ("a/own.go", "package a\nfunc (o Own) MarshalText() ([]byte, error) { return nil, nil }\n");
    assert_eq!(hard(&clew::combine(&facts(&[&files[..], &[written]].concat()), &manifests), "Order"), None);
}

#[test]
fn zig_files_are_imported() {
    let files = [
        (
            "src/order.zig",
            "const models = @import(\"models/all.zig\");\nconst User = models.User;\nconst Item = @import(\"item.zig\");\n\
             const Page = @import(\"models/all.zig\").Page;\nconst Order = struct { by: User, items: []Item, page: Page(Item), \
             role: models.User.Role };\n",
        ),
        ("src/item.zig", "n: i8,\n"),
        (
            "src/models/all.zig",
            "pub const User = @import(\"user.zig\").User;\npub usingnamespace @import(\"page.zig\");\n",
        ),
        (
            "src/models/user.zig",
            "pub const User = struct { name: []const u8, pub const Role = enum { admin, guest }; };\n",
        ),
        ("src/models/page.zig", "pub fn Page(comptime T: type) type { return struct { all: []T }; }\n"),
    ];
    let order =
        |role: &str| json!({"by": {"name": "a"}, "items": [{"n": 1}], "page": {"all": [{"n": -1}]}, "role": role});
    check(&files, &[], "Order", &[order("admin")], &[order("root")]);
}

#[test]
fn types_of_one_name_in_several_files_are_kept_apart() {
    let files = [
        ("a.ts", "import { User as Other } from './b';\nexport interface User { friend: Other; same?: User }"),
        ("b.ts", "export interface User { name: string }"),
    ];
    check(
        &files,
        &[],
        "User",
        &[json!({"friend": {"name": "a"}}), json!({"friend": {"name": "a"}, "same": {"friend": {"name": "b"}}})],
        &[json!({"friend": {"friend": {}}}), json!({"name": "a"})],
    );
}

#[test]
fn circles_of_imports_end() {
    let files = [
        (
            "a.ts",
            "export * from './b';\nimport { X } from './b';\ninterface A { x: X; y: Y }\nexport { Y } from './b';",
        ),
        ("b.ts", "export * from './a';\nexport { X } from './a';\nimport { Y } from './a';\nexport { Y };"),
        ("a.rs", "pub use crate::b::*; pub use crate::b::Y; use Z as Z; type A = (Y, Z, self::W);"),
        ("b.rs", "pub use crate::a::*; pub use crate::a::Y; type B = super::a::Y;"),
        ("a.py", "from b import *\nfrom b import X\nfrom typing import Optional\nA = Optional[X]\n"),
        ("b.py", "from a import *\nfrom a import X\n"),
        (
            "a.zig",
            "const b = @import(\"b.zig\");\npub const X = b.X;\nconst Y = Y;\nconst A = struct { x: X, y: Y };\n",
        ),
        ("b.zig", "pub const X = @import(\"a.zig\").X;\npub usingnamespace @import(\"a.zig\");\n"),
    ];
    let set = clew::combine(&facts(&files), &[]);
    assert!(types(&set).all(|constraint| constraint.strength == Strength::Advisory));
}

#[test]
fn many_files_that_hand_on_all_names_take_bounded_time() {
    let started = std::time::Instant::now();
    let everything: String = (0..60).map(|n| format!("export * from './f{n}';\n")).collect();
    let sources: Vec<(String, String)> = (0..60)
        .map(|n| {
            (
                format!("f{n}.ts"),
                format!(
                    "{everything}interface I{n} {{ {} }}",
                    (0..60).map(|m| format!("a{m}: Unknown{m};")).collect::<String>()
                ),
            )
        })
        .collect();
    let files: Vec<(&str, &str)> = sources.iter().map(|(file, source)| (file.as_str(), source.as_str())).collect();
    let set = clew::combine(&facts(&files), &[]);
    assert_eq!(types(&set).count(), 60);
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
}
