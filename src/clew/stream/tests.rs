use super::super::{combine, language_of, read_file};
use super::*;
use crate::constraint::Strength;

const TYPESCRIPT: &str = r#"import a from 'a'
// of A
@dec({
  x: 1,
})
export class A {
  m() { return `}${ {a: `}`} }
const x` }
}

/* type
type No = 1
*/
type B =
| {
a: 1 }
const re = /[/{"]{/, q = 4 / 2
let s = 'it\'s {', t = "{"
if (s) {
}
else {
}
export const f =
async () => {}
function g() {}
"#;

const PYTHON: &str = r#""""Doc.
def no(): it's
"""
import os
# of f
@wraps(
  a,
)
def f(x,
y={'a': "}"}):
    a = '''
def no():
'''
# still f
    return r'\'  # it's
if x:
    pass
elif y:
    pass
else:
    pass
y = 1 + \
2
z = [
1,
]
"#;

const RUST: &str = r###"//! Crate.
use a::{
    b,
};
/// Of A.
#[derive(
    Debug
)]
struct A<'a>(&'a str);
impl<'a> A<'a>
where
    A<'a>: B,
{
    fn f() -> char { '{' }
    const Q: char = '\'';
    const U: char = '\u{7f}';
}
/* a /* nested */
fn no() {}
*/
const S: &str = r#""{
fn no()
"#;
static T: &str = "\"{
fn no()
";
pub
fn g() {}
macro_rules! m { () => {} }
"###;

const GO: &str = r#"package a

import (
	"fmt"
)

// T is.
type T struct {
	a int `json:"{"`
}
var r = '{'
var s = `
func no() {
`
/*
func no()
*/
func f() {
}
"#;

const ZIG: &str = r#"//! File.
const std = @import("std");
/// Of A.
pub const A = struct {
    s: []const u8 =
        \\ it's { "
        \\fn no()
    ,
    c: u8 = '{',
};
const @"{" = 1;
test "{" {
}
fn f() void {}
"#;

/// Cuts `source`, which arrives `block` bytes at a time, and says where the chunks begin.
fn cut(language: Language, source: &str, chunk_bytes: usize, block: usize) -> Vec<(u32, String)> {
    let mut cutter = Cutter::new(language, chunk_bytes);
    let mut chunks = Vec::new();
    for block in source.as_bytes().chunks(block) {
        chunks.extend(cutter.push(block).expect("UTF-8"));
    }
    chunks.extend(cutter.finish().expect("UTF-8"));
    let text = |chunk| match chunk {
        Chunk::Text { text, line } => (line, text),
        Chunk::TooLong { line } => panic!("line {line} begins nothing long"),
    };
    chunks.into_iter().map(text).collect()
}

#[test]
fn sources_are_cut_at_declarations() {
    for (language, source, lines) in [
        (Language::Typescript, TYPESCRIPT, &[1, 2, 11, 17, 18, 23, 25][..]),
        (Language::Python, PYTHON, &[1, 4, 5, 16, 22, 24]),
        (Language::Rust, RUST, &[1, 5, 10, 18, 24, 27, 29]),
        (Language::Go, GO, &[1, 3, 7, 11, 12, 15]),
        (Language::Zig, ZIG, &[1, 3, 11, 12, 14]),
    ] {
        for block in [1, 7, source.len()] {
            let chunks = cut(language, source, 1, block);
            assert_eq!(chunks.iter().map(|(line, _)| *line).collect::<Vec<_>>(), lines, "{language:?} by {block}");
            assert_eq!(chunks.into_iter().map(|(_, text)| text).collect::<String>(), source);
        }
    }
}

#[test]
fn a_chunk_is_as_large_as_it_may_be() {
    let source = "type A = {\n};\n".repeat(100);
    let chunks = cut(Language::Typescript, &source, 140, 33);
    assert!(chunks.len() == 10 && chunks.iter().all(|(_, text)| text.len() == 140));
    assert_eq!(chunks, cut(Language::Typescript, &source, 140, source.len()));
}

#[test]
fn what_is_too_long_is_skipped_and_the_rest_is_read() {
    let mut cutter = Cutter::new(Language::Typescript, 100);
    let mut chunks = Vec::new();
    let num_rows = SOURCE_BYTES_MAX / 1_000 + 1;
    let row = format!("{},\n", "1".repeat(998));
    chunks.extend(cutter.push(b"type A = 1;\nconst long = [\n").expect("UTF-8"));
    for _ in 0..num_rows {
        chunks.extend(cutter.push(row.as_bytes()).expect("UTF-8"));
    }
    chunks.extend(cutter.push(b"];\ntype B = 2;\n").expect("UTF-8"));
    chunks.extend(cutter.finish().expect("UTF-8"));
    let line = u32::try_from(num_rows + 4).expect("a small number");
    let expected = [
        Chunk::Text { text: "type A = 1;\n".to_owned(), line: 1 },
        Chunk::TooLong { line: 2 },
        Chunk::Text { text: "type B = 2;\n".to_owned(), line },
    ];
    assert_eq!(chunks, expected);
}

#[test]
fn a_bad_byte_is_reported_with_its_offset_in_the_file() {
    let mut stream = Stream::with_chunks(Language::Python, "a.py", 1).expect("Python is read");
    let found = stream.push(b"a = 1\nb = 2\nc = '\xff'\nd = 1\ne = 1\n").and_then(|()| stream.finish());
    assert_eq!(found, Err(ClewError::NotUtf8 { offset: 17, byte: 0xff }));
}

/// The same file whole and in chunks of so many bytes.
fn check_streamed(name: &str, source: &str, chunk_bytes: usize) {
    let language = language_of(name.as_ref()).expect("a source file");
    let mut stream = Stream::with_chunks(language, name, chunk_bytes).expect("the language is read");
    stream.push(source.as_bytes()).expect("UTF-8");
    let whole = combine(&[read_file(source, language, name).expect("small")], &[]);
    assert!(!whole.constraints.is_empty(), "{name}");
    assert_eq!(combine(&[stream.finish().expect("UTF-8")], &[]), whole, "{name}");
}

#[test]
fn a_streamed_file_gives_what_the_whole_file_gives() {
    for (name, source) in [
        ("order.ts", include_str!("../../../tests/data/order.ts")),
        ("objects.ts", include_str!("../../../tests/data/clew/objects.ts")),
        ("generics.ts", include_str!("../../../tests/data/clew/generics.ts")),
        ("recursive.ts", include_str!("../../../tests/data/clew/recursive.ts")),
        ("dataclasses.py", include_str!("../../../tests/data/clew/dataclasses.py")),
    ] {
        for chunk_bytes in [1, 300] {
            check_streamed(name, source, chunk_bytes);
        }
    }
}

/// A class may be a model through its base alone, and that may stand in another chunk.
#[test]
fn what_a_streamed_file_lacks_is_not_made_up() {
    for source in
        [include_str!("../../../tests/data/clew/models.py"), include_str!("../../../tests/data/clew/typed.py")]
    {
        let mut stream = Stream::with_chunks(Language::Python, "a.py", 1).expect("Python is read");
        stream.push(source.as_bytes()).expect("UTF-8");
        let whole = combine(&[read_file(source, Language::Python, "a.py").expect("small")], &[]);
        let streamed = combine(&[stream.finish().expect("UTF-8")], &[]);
        assert!(streamed.constraints.len() > 2);
        for one in streamed.constraints.iter().filter(|one| one.strength == Strength::Hard) {
            assert!(whole.constraints.contains(one), "{}", one.name);
        }
    }
}

#[test]
fn of_too_many_types_the_first_are_kept() {
    let source: String = (0..1_500).map(|idx| format!("interface T{idx} {{ a: {idx} }}\n")).collect();
    let mut stream = Stream::with_chunks(Language::Typescript, "a.ts", 1_000).expect("TypeScript is read");
    stream.push(source.as_bytes()).expect("UTF-8");
    let facts = stream.finish().expect("UTF-8");
    assert_eq!(facts.types.declarations.len(), CONSTRAINTS_MAX);
    assert!(facts.types.diagnostics[0].message.starts_with("500 further types"));
}
