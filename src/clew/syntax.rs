//! Source text to a syntax tree, and query files to the nodes they name: all that Clew knows of tree-sitter.
//!
//! Parsing is error-tolerant and bounded by effort, counted in steps of the parser and not in time, so that the
//! same source gives the same tree everywhere.

use std::ops::ControlFlow;
use std::sync::OnceLock;

use tree_sitter::{Node, ParseOptions, Parser, Query, QueryCursor, StreamingIterator, Tree};

use super::DESCRIPTION_BYTES_MAX;
use super::shape::Shape;
use crate::constraint::{Diagnostic, Origin};

/// Steps of the parser (in hundreds) granted to every source, however small.
const PARSE_EFFORT_BASE: usize = 2_000;
/// Bytes of source for which a further hundred steps are granted.
///
/// Ordinary code takes a hundred steps per 20 to 50 bytes, so this is five times what it needs; only readings that
/// stay ambiguous for long, over hostile input, are cut off. A hundred such steps take up to 50 us.
const BYTES_PER_PARSE_EFFORT: usize = 4;
/// Syntax errors reported per file; further ones are only counted.
const SYNTAX_ERRORS_MAX: usize = 100;

/// How deep in the tree declarations, comments and errors are looked for.
///
/// Code nests some tens of levels. Past 65,535 levels a query cursor's cost per node is no longer constant.
const QUERY_DEPTH_MAX: u32 = 1_024;

/// Longest run of tokens without a node between them, below one node.
///
/// A query cursor looks ahead to the next named sibling at each of them: about 2 ns each, squared. Code has runs of a
/// few; only error recovery and lists of nothing but commas make long ones.
const TOKEN_RUN_MAX: usize = 1_000;

/// A grammar with its compiled query, built once per process (compiling a query takes milliseconds).
pub(super) struct Dialect {
    language: fn() -> tree_sitter::Language,
    query: &'static str,
    compiled: OnceLock<(tree_sitter::Language, Query)>,
}

impl Dialect {
    /// A dialect from a grammar and the text of its query files.
    pub(super) const fn new(language: fn() -> tree_sitter::Language, query: &'static str) -> Self {
        Self { language, query, compiled: OnceLock::new() }
    }

    fn compiled(&self) -> &(tree_sitter::Language, Query) {
        self.compiled.get_or_init(|| {
            let language = (self.language)();
            let query = Query::new(&language, self.query).expect("the query files fit the pinned grammar");
            (language, query)
        })
    }

    /// Parses `source`; `None` when that, or looking through the tree, would take more effort than is granted.
    pub(super) fn parse(&'static self, source: &str) -> Option<Tree> {
        self.parse_only(source).filter(|tree| !has_long_token_run(tree))
    }

    /// Parses `source`; `None` when that would take more effort than is granted. No query should look through the tree
    /// where [`has_long_token_run`].
    pub(super) fn parse_only(&'static self, source: &str) -> Option<Tree> {
        let mut parser = Parser::new();
        parser.set_language(&self.compiled().0).expect("the pinned grammar has an ABI this tree-sitter reads");
        let mut effort = PARSE_EFFORT_BASE + source.len() / BYTES_PER_PARSE_EFFORT;
        let mut spend = |_: &_| {
            effort = effort.saturating_sub(1);
            if effort == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let options = ParseOptions::new().progress_callback(&mut spend);
        let mut read = |offset: usize, _| &source.as_bytes()[offset.min(source.len())..];
        parser.parse_with_options(&mut read, None, Some(options))
    }

    /// Every match of the query, in source order, as (capture name, node) pairs.
    pub(super) fn matches<'t>(&'static self, tree: &'t Tree, source: &str) -> Vec<Vec<(&'static str, Node<'t>)>> {
        let mut found = Vec::new();
        self.for_each_match(tree, source, |captures| found.push(captures.to_vec()));
        found
    }

    /// Calls `take` with every match of the query, in source order, as (capture name, node) pairs.
    pub(super) fn for_each_match<'t>(
        &'static self,
        tree: &'t Tree,
        source: &str,
        mut take: impl FnMut(&[(&'static str, Node<'t>)]),
    ) {
        let query = &self.compiled().1;
        let names = query.capture_names();
        let mut cursor = QueryCursor::new();
        cursor.set_max_start_depth(Some(QUERY_DEPTH_MAX));
        let mut matches = cursor.matches(query, tree.root_node(), source.as_bytes());
        let mut captures = Vec::new();
        while let Some(one) = matches.next() {
            captures.clear();
            captures.extend(one.captures().iter().map(|capture| (names[capture.index as usize], capture.node)));
            take(&captures);
        }
    }

    /// The names of the query's captures.
    #[cfg(test)]
    pub(super) fn capture_names(&'static self) -> &'static [&'static str] {
        self.compiled().1.capture_names()
    }
}

/// Whether some node has more than [`TOKEN_RUN_MAX`] tokens in a row as children. One walk over the tree.
pub(super) fn has_long_token_run(tree: &Tree) -> bool {
    let mut cursor = tree.walk();
    let mut run_at_depth = vec![0];
    loop {
        let run = run_at_depth.last_mut().expect("one entry per level, and the root's is never popped");
        *run = if cursor.node().is_named() { 0 } else { *run + 1 };
        if *run > TOKEN_RUN_MAX {
            return true;
        }
        if cursor.goto_first_child() {
            run_at_depth.push(0);
            continue;
        }
        while !cursor.goto_next_sibling() {
            if !cursor.goto_parent() {
                return false;
            }
            run_at_depth.pop();
        }
    }
}

/// Whether the tree nests deeper than [`QUERY_DEPTH_MAX`], so that queries do not see all of it. One walk over the tree.
pub(super) fn is_deeper_than_queries(tree: &Tree) -> bool {
    let mut cursor = tree.walk();
    loop {
        if cursor.depth() > QUERY_DEPTH_MAX {
            return true;
        }
        if cursor.goto_first_child() {
            continue;
        }
        while !cursor.goto_next_sibling() {
            if !cursor.goto_parent() {
                return false;
            }
        }
    }
}

/// A source file, and how places in it are named.
#[derive(Clone, Copy)]
pub(super) struct SourceFile<'a> {
    /// The text.
    pub(super) text: &'a str,
    /// The name the caller gave it.
    pub(super) name: &'a str,
    /// The number of its first line: 1, unless it is a part of a file.
    pub(super) first_line: u32,
}

impl<'a> SourceFile<'a> {
    /// The text of a node.
    pub(super) fn text_of(&self, node: Node<'_>) -> &'a str {
        self.text.get(node.byte_range()).unwrap_or_default()
    }

    /// Where a node begins.
    pub(super) fn origin(&self, node: Node<'_>) -> Origin {
        let start = node.start_position();
        let line = place(start.row).saturating_add(self.first_line - 1);
        Origin { file: self.name.to_owned(), line, column: place(start.column) }
    }

    /// A remark about a node.
    pub(super) fn diagnostic(&self, node: Node<'_>, message: impl Into<String>) -> Diagnostic {
        Diagnostic { origin: self.origin(node), message: message.into() }
    }

    /// A shape that is not known, and why.
    pub(super) fn unknown(&self, node: Node<'_>, why: &str) -> Shape {
        Shape::Unknown(self.diagnostic(node, format!("`{}` {why}", excerpt(self.text_of(node)))))
    }

    /// The text of the comment lines directly before a node, which begin with `marker`; attributes may stand between.
    pub(super) fn doc_before(&self, node: Node<'_>, marker: &str) -> String {
        let before = self.text.get(..node.start_byte()).unwrap_or_default();
        let indented = before.trim_end_matches([' ', '\t']);
        let Some(before) = indented.strip_suffix('\n') else { return String::new() };
        let (mut lines, mut num_bytes) = (Vec::new(), 0);
        for line in before.rsplit('\n').map(str::trim) {
            match line.strip_prefix(marker) {
                Some(text) if num_bytes <= DESCRIPTION_BYTES_MAX => {
                    num_bytes += text.len();
                    lines.push(text.trim());
                }
                None if line.starts_with("#[") => {}
                _ => break,
            }
        }
        lines.reverse();
        lines.join(" ").trim().to_owned()
    }

    /// The remark that a file as a whole could not be read.
    pub(super) fn whole(&self, message: impl Into<String>) -> Diagnostic {
        let origin = Origin { file: self.name.to_owned(), line: self.first_line, column: 1 };
        Diagnostic { origin, message: message.into() }
    }
}

/// Rows and columns from 0 to numbers from 1.
fn place(from_zero: usize) -> u32 {
    u32::try_from(from_zero).unwrap_or(u32::MAX).saturating_add(1)
}

/// Collects the outermost syntax errors.
pub(super) struct SyntaxErrors {
    reported_to: usize,
    num_errors: usize,
}

impl SyntaxErrors {
    pub(super) fn new() -> Self {
        Self { reported_to: 0, num_errors: 0 }
    }

    /// Reports an `ERROR` or `MISSING` node, unless an outer one was reported already or there are too many.
    pub(super) fn report(&mut self, file: SourceFile<'_>, node: Node<'_>, diagnostics: &mut Vec<Diagnostic>) {
        if node.end_byte() <= self.reported_to && !node.is_missing() {
            return;
        }
        self.reported_to = self.reported_to.max(node.end_byte());
        self.num_errors += 1;
        if self.num_errors > SYNTAX_ERRORS_MAX {
            return;
        }
        let message = if node.is_missing() {
            format!("syntax error: `{}` is missing", node.kind())
        } else {
            format!("syntax error at `{}`", excerpt(file.text_of(node)))
        };
        diagnostics.push(file.diagnostic(node, message));
    }

    /// Says what was not reported one by one.
    pub(super) fn finish(self, file: SourceFile<'_>, tree: &Tree, diagnostics: &mut Vec<Diagnostic>) {
        if self.num_errors == 0 && tree.root_node().has_error() {
            diagnostics.push(file.whole("a syntax error where the source nests too deep to say where"));
        }
        if let Some(more @ 1..) = self.num_errors.checked_sub(SYNTAX_ERRORS_MAX) {
            diagnostics.push(file.whole(format!("{more} further syntax errors")));
        }
    }
}

/// The first line of `text`, shortened to something a message can quote.
pub(super) fn excerpt(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default().trim();
    match line.char_indices().nth(40) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line.to_owned(),
    }
}

/// The named children of a node, comments left out.
pub(super) fn children<'t>(node: Node<'t>) -> Vec<Node<'t>> {
    let mut cursor = node.walk();
    node.named_children(&mut cursor).filter(|child| !child.kind().ends_with("comment")).collect()
}

/// Whether a node has a direct child that is this token.
pub(super) fn has_token(node: Node<'_>, token: &str) -> bool {
    let mut cursor = node.walk();
    node.children(&mut cursor).any(|child| child.kind() == token)
}
