//! Calls and paths inside the arguments of a macro, which the parser leaves as a tree of tokens.

use tree_sitter::Node;

use super::facts::Place;
use crate::clew::syntax::SourceFile;

/// What a run of tokens says.
pub(super) struct Said {
    /// A path, as in [`super::Call`].
    pub(super) path: String,
    /// Whether it is called; otherwise it is a path of several segments.
    pub(super) is_call: bool,
    /// Where it begins.
    pub(super) at: usize,
    /// The same for people.
    pub(super) place: Place,
}

/// Reads a token tree: `a::b(..)`, `.c(..)`, `d!(..)`, and paths. Linear.
pub(super) fn read(tree: Node<'_>, file: SourceFile<'_>, say: &mut impl FnMut(Said)) {
    let mut open = vec![tree];
    while let Some(tree) = open.pop() {
        let mut cursor = tree.walk();
        let tokens: Vec<Node<'_>> = tree.children(&mut cursor).filter(|token| !token.is_extra()).collect();
        open.extend(tokens.iter().copied().filter(|token| token.kind() == "token_tree"));
        let mut at = 0;
        while at < tokens.len() {
            at = if is_name(tokens[at]) { run(&tokens, at, file, say) } else { at + 1 };
        }
    }
}

/// Reads the path that begins at `start`; returns where it ends.
fn run(tokens: &[Node<'_>], start: usize, file: SourceFile<'_>, say: &mut impl FnMut(Said)) -> usize {
    let kind = |at: usize| tokens.get(at).map_or("", |token| token.kind());
    let (at_byte, place) = (tokens[start].start_byte(), Place::of(tokens[start]));
    let before = start.checked_sub(1).map_or("", kind);
    let is_member = matches!(before, "." | "::");
    let mut path = if is_member { before.to_owned() } else { String::new() };
    path.push_str(file.text_of(tokens[start]));
    let mut at = start + 1;
    while matches!(kind(at), "." | "::") && tokens.get(at + 1).is_some_and(|next| is_name(*next)) {
        path.push_str(kind(at));
        path.push_str(file.text_of(tokens[at + 1]));
        at += 2;
    }
    if !is_member && path.contains("::") {
        say(Said { path: path.clone(), is_call: false, at: at_byte, place });
    }
    let arguments = match kind(at) {
        "!" => at + 1,
        "::" => after_type_arguments(tokens, at + 1),
        _ => at,
    };
    let is_call = tokens
        .get(arguments)
        .is_some_and(|next| next.kind() == "token_tree" && (kind(at) == "!" || file.text_of(*next).starts_with('(')));
    if is_call {
        say(Said { path, is_call: true, at: at_byte, place });
    }
    at
}

/// The token after `<...>`.
fn after_type_arguments(tokens: &[Node<'_>], start: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(start) {
        match token.kind() {
            "<" => depth += 1,
            ">" => depth = depth.saturating_sub(1),
            ">>" => depth = depth.saturating_sub(2),
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

fn is_name(token: Node<'_>) -> bool {
    matches!(token.kind(), "identifier" | "crate" | "self" | "super")
}
