//! What a call calls.

use tree_sitter::Node;

/// Segments of a callee that are looked at; code has a few.
const SEGMENTS_MAX: usize = 64;

/// The path of a callee: `os.system`, `std::process::exit`; with a dot or `::` before it where its beginning has no
/// name, as in `.unwrap`; `None` where nothing in it has a name.
///
/// In every grammar a member is a node of an object, a separator and a name, so no table of kinds is needed. Type
/// arguments, parentheses and TypeScript's `!` do not end a path.
pub(super) fn path(callee: Node<'_>, source: &str) -> Option<String> {
    let mut segments: Vec<String> = Vec::new();
    let mut node = callee;
    for _ in 0..SEGMENTS_MAX {
        let parts = parts(node);
        match parts[..] {
            [] => {
                let name = text(node, source);
                if !is_name(name) {
                    break;
                }
                segments.push(name.to_owned());
                return Some(joined(segments));
            }
            [only] => node = only,
            [open, inner, _] if open.kind() == "(" => node = inner,
            [inner, mark] if mark.kind() == "!" => node = inner,
            [.., last] if node.kind() == "sequence_expression" => node = last,
            [separator, name] | [.., separator, name] => {
                let (separator, name) = (separator_of(separator, source), text(name, source));
                let (Some(separator), true) = (separator, is_name(name)) else { break };
                segments.push(format!("{separator}{name}"));
                match parts[..] {
                    [object, _, _] => node = object,
                    _ => break,
                }
            }
        }
    }
    if segments.is_empty() { None } else { Some(joined(segments)) }
}

/// The last name of a path.
pub(super) fn last_name(path: &str) -> &str {
    path.rsplit(['.', ':']).next().unwrap_or(path)
}

fn joined(segments: Vec<String>) -> String {
    segments.into_iter().rev().collect()
}

/// The children of a node, without comments and type arguments. A name has none.
fn parts(node: Node<'_>) -> Vec<Node<'_>> {
    if node.kind().ends_with("identifier") && node.named_child_count() == 0 {
        return Vec::new();
    }
    let mut cursor = node.walk();
    let is_part = |child: &Node<'_>| !child.is_extra() && child.kind() != "type_arguments";
    let mut parts: Vec<Node<'_>> = node.children(&mut cursor).filter(is_part).collect();
    // Rust's `collect::<T>` keeps the `::` of its type arguments.
    if parts.last().is_some_and(|last| last.kind() == "::") {
        parts.pop();
    }
    parts
}

fn separator_of(node: Node<'_>, source: &str) -> Option<&'static str> {
    match text(node, source) {
        "." | "?." => Some("."),
        "::" => Some("::"),
        _ => None,
    }
}

/// Whether a token is a name as a path may have it; `@` begins the builtin functions of Zig.
fn is_name(text: &str) -> bool {
    let mut characters = text.strip_prefix('@').unwrap_or(text).chars();
    characters.next().is_some_and(|first| first.is_alphabetic() || matches!(first, '_' | '$' | '#'))
        && characters.all(|next| next.is_alphanumeric() || matches!(next, '_' | '$' | '#'))
}

fn text<'s>(node: Node<'_>, source: &'s str) -> &'s str {
    source.get(node.byte_range()).unwrap_or_default()
}
