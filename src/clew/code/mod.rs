//! What is mined from one file but its types: imports, names, signatures, calls, literals, patterns, style, and what
//! tests and documentation say.
//!
//! All of it is found by the query files in `queries/<language>/`, whose captures say what a node is; the code here
//! only puts texts and places together and knows no language by name. `facts_of_code` reads generated code the same
//! way, which makes it a check that shares nothing with the grammars that generated it.

mod callee;
mod facts;
mod finding;
mod idiom;
mod modules;
mod names;
mod style;
mod text;
mod tokens;

pub(super) mod rules;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

pub use facts::{Call, CodeFacts, Declared, Import, Literal, LiteralValue, Place, Signature, Syntax};
use finding::Finding;
use idiom::Idiom;
use serde::{Deserialize, Serialize};
use style::Style;
use tokens::Said;
use tree_sitter::{Node, Tree};

use super::SOURCE_BYTES_MAX;
use super::syntax::{SourceFile, children, has_long_token_run, is_deeper_than_queries};
use crate::constraint::{DeclarationKind, Granularity, Language};

/// Leaves of an expected value that are looked at, to see whether it is spelled out; larger ones are not quoted.
const VALUE_NODES_MAX: usize = 64;
/// Cases taken from one table of tests.
const TABLE_CASES_MAX: usize = 20;

/// What one file gives, as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct FileCode {
    /// Imports, names, signatures, and each called path once; literals are not kept.
    pub(super) facts: CodeFacts,
    /// How often each pattern occurs, and where first; by `category.pattern`.
    patterns: BTreeMap<String, (u32, Place)>,
    findings: Vec<Finding>,
    style: Style,
    /// Names that the file binds to modules, so that paths may begin with them.
    bound: BTreeSet<String>,
}

impl FileCode {
    /// Reads a file, for combining it with others.
    pub(super) fn read(tree: &Tree, language: Language, file: SourceFile<'_>) -> Self {
        let mut code = Collector::new(idiom::idiom(language, file.name), file).read(tree);
        let mut seen = HashSet::new();
        code.facts.calls.retain(|call| seen.insert(call.path.clone()));
        code.facts.literals = Vec::new();
        code.facts.literal_values = Vec::new();
        code.move_down(file.first_line - 1);
        code.style =
            Style { num_single: code.style.num_single, num_double: code.style.num_double, ..Style::of(file.text) };
        code
    }
}

impl FileCode {
    /// Counts lines from further above.
    fn move_down(&mut self, num_lines: u32) {
        let facts = &mut self.facts;
        let imports = facts.imports.iter_mut().map(|item| &mut item.place);
        let declared = facts.declared.iter_mut().map(|item| &mut item.place);
        let signatures = facts.signatures.iter_mut().map(|item| &mut item.place);
        let calls = facts.calls.iter_mut().map(|item| &mut item.place);
        let patterns = self.patterns.values_mut().map(|(_, place)| place);
        let findings = self.findings.iter_mut().map(|item| &mut item.place);
        for place in imports.chain(declared).chain(signatures).chain(calls).chain(patterns).chain(findings) {
            place.line = place.line.saturating_add(num_lines);
        }
    }

    /// Adds what a later part of the same file holds.
    pub(super) fn append(&mut self, later: Self) {
        self.facts.imports.extend(later.facts.imports);
        self.facts.declared.extend(later.facts.declared);
        self.facts.signatures.extend(later.facts.signatures);
        self.facts.calls.extend(later.facts.calls);
        self.facts.has_errors |= later.facts.has_errors;
        for (name, (count, place)) in later.patterns {
            let known = self.patterns.entry(name).or_insert((0, place));
            known.0 = known.0.saturating_add(count);
        }
        self.findings.extend(later.findings);
        self.bound.extend(later.bound);
        self.style.add(&later.style);
    }

    /// Drops names, calls and imports that an earlier part of the same file has already: a file of any size declares
    /// and calls far fewer names than it has places.
    pub(super) fn forget_known(&mut self, earlier: &Self) {
        let facts = &earlier.facts;
        let declared: HashSet<_> = facts.declared.iter().map(|known| (known.kind, known.name.as_str())).collect();
        self.facts.declared.retain(|one| !declared.contains(&(one.kind, one.name.as_str())));
        let calls: HashSet<&str> = facts.calls.iter().map(|known| known.path.as_str()).collect();
        self.facts.calls.retain(|one| !calls.contains(one.path.as_str()));
        let imports: HashSet<_> = facts.imports.iter().map(|known| (&known.module, &known.form)).collect();
        let is_bound =
            |one: &Import| one.form == "path" && one.root.as_ref().is_some_and(|root| earlier.bound.contains(root));
        self.facts.imports.retain(|one| !imports.contains(&(&one.module, &one.form)) && !is_bound(one));
    }
}

/// Parses a file by its idiom; `None` when that takes more effort than is granted.
pub(super) fn parse(source: &str, language: Language, file: &str) -> Option<Tree> {
    idiom::idiom(language, file).dialect.parse(source)
}

/// Reads code that is a whole file or a fragment, for judging it: linear, about 100 ms per MB.
///
/// A fragment is read inside what makes it a file; places are those of the fragment. Text that cannot be parsed with
/// bounded effort, or is larger than [`SOURCE_BYTES_MAX`], gives no facts but `has_errors`; so does, beside its facts, text
/// that nests deeper than is looked at.
#[must_use]
pub fn facts_of_code(text: &str, language: Language, granularity: Granularity) -> CodeFacts {
    read_code(text, language, granularity).1
}

/// [`facts_of_code`], with where the first syntax error stands, from the same parse.
#[must_use]
pub fn read_code(text: &str, language: Language, granularity: Granularity) -> (Syntax, CodeFacts) {
    let idiom = idiom::idiom(language, "");
    let (before, after) = idiom.around(granularity);
    let unread = || CodeFacts { has_errors: true, ..CodeFacts::default() };
    if text.len() > SOURCE_BYTES_MAX {
        return (Syntax::Unread, unread());
    }
    let whole = [before, text, after].concat();
    let Some(tree) = idiom.dialect.parse_only(&whole) else { return (Syntax::Unread, unread()) };
    let syntax = match first_error(&tree, &whole, idiom) {
        Some(at) => Syntax::Error { at: at.saturating_sub(before.len()).min(text.len()) },
        None => Syntax::WellFormed,
    };
    if has_long_token_run(&tree) {
        return (syntax, unread());
    }
    let mut facts = Collector::new(idiom, SourceFile { text: &whole, name: "", first_line: 1 }).read(&tree).facts;
    // What no query sees is not known to be harmless.
    facts.has_errors |= is_deeper_than_queries(&tree);
    let num_lines_before = u32::try_from(before.lines().count()).unwrap_or(u32::MAX);
    facts.shift(num_lines_before);
    (syntax, facts)
}

/// Whether a whole file is well-formed; its name tells dialects apart. Linear, about 50 ms per MB.
#[must_use]
pub fn syntax_of_file(text: &str, language: Language, file: &str) -> Syntax {
    let idiom = idiom::idiom(language, file);
    if text.len() > SOURCE_BYTES_MAX {
        return Syntax::Unread;
    }
    let Some(tree) = idiom.dialect.parse_only(text) else { return Syntax::Unread };
    first_error(&tree, text, idiom).map_or(Syntax::WellFormed, |at| Syntax::Error { at })
}

/// The first byte of the first error, without recursion.
fn first_error(tree: &Tree, text: &str, idiom: &Idiom) -> Option<usize> {
    let mut cursor = tree.walk();
    loop {
        let node = cursor.node();
        let is_made_up = node.is_missing() && idiom.makes_up_members && is_in_empty_braces(node, text);
        if (node.is_error() || node.is_missing()) && !is_made_up {
            return Some(node.start_byte());
        }
        if node.has_error() && cursor.goto_first_child() {
            continue;
        }
        while !cursor.goto_next_sibling() {
            if !cursor.goto_parent() {
                return None;
            }
        }
    }
}

/// Zig's grammar wants a member in `struct {}`, and makes one up.
fn is_in_empty_braces(node: Node<'_>, text: &str) -> bool {
    let (before, after) = text.split_at(node.start_byte());
    before.trim_end().ends_with('{') && after.trim_start().starts_with('}')
}

impl CodeFacts {
    /// Forgets what stands in the first lines, and counts lines from behind them.
    fn shift(&mut self, num_lines: u32) {
        fn behind<T>(items: &mut Vec<T>, num_lines: u32, place: impl Fn(&mut T) -> &mut Place) {
            items.retain_mut(|item| {
                let place = place(item);
                let is_behind = place.line > num_lines;
                place.line = place.line.saturating_sub(num_lines);
                is_behind
            });
        }
        behind(&mut self.imports, num_lines, |item| &mut item.place);
        behind(&mut self.declared, num_lines, |item| &mut item.place);
        behind(&mut self.signatures, num_lines, |item| &mut item.place);
        behind(&mut self.calls, num_lines, |item| &mut item.place);
        behind(&mut self.literals, num_lines, |item| &mut item.place);
        behind(&mut self.literal_values, num_lines, |item| &mut item.place);
    }
}

/// A match of a query: what its captures say each node is.
type Captures<'t> = [(&'static str, Node<'t>)];

fn captured<'t>(captures: &Captures<'t>, name: &str) -> Option<Node<'t>> {
    captures.iter().find(|(known, _)| *known == name).map(|(_, node)| *node)
}

/// Puts together what the matches say.
struct Collector<'s, 't> {
    idiom: &'static Idiom,
    file: SourceFile<'s>,
    lines: Vec<&'s str>,
    code: FileCode,
    /// Declared names by where they begin: a place that is matched as several kinds is of the most special one.
    names: BTreeMap<usize, (DeclarationKind, Node<'t>)>,
    exempt: HashSet<usize>,
    /// Imports by where they begin.
    imports: BTreeMap<usize, Import>,
    /// Roots of paths outside of import statements, which count unless they name something local.
    paths: Vec<(usize, Import)>,
    /// Import statements, by their extent; paths in them are parts of theirs.
    statements: Vec<(usize, usize)>,
    /// Names that the file itself binds to modules, and where.
    bound: Vec<(&'s str, usize)>,
    modules: HashSet<&'s str>,
    signatures: BTreeMap<usize, (Node<'t>, Option<Node<'t>>, Node<'t>)>,
    /// Functions that say that they are not written yet.
    stubs: HashSet<usize>,
    /// Where the statement around a declaration begins, by where the declaration begins.
    wrapped: HashMap<usize, usize>,
    values: BTreeMap<usize, LiteralValue>,
    calls: BTreeMap<usize, Call>,
    literals: BTreeMap<usize, Literal>,
}

impl<'s, 't> Collector<'s, 't> {
    fn new(idiom: &'static Idiom, file: SourceFile<'s>) -> Self {
        Self {
            idiom,
            file,
            lines: file.text.lines().collect(),
            code: FileCode::default(),
            names: BTreeMap::new(),
            exempt: HashSet::new(),
            imports: BTreeMap::new(),
            paths: Vec::new(),
            statements: Vec::new(),
            bound: Vec::new(),
            modules: HashSet::new(),
            signatures: BTreeMap::new(),
            stubs: HashSet::new(),
            wrapped: HashMap::new(),
            values: BTreeMap::new(),
            calls: BTreeMap::new(),
            literals: BTreeMap::new(),
        }
    }

    fn read(mut self, tree: &'t Tree) -> FileCode {
        let source = self.file.text;
        self.idiom.dialect.for_each_match(tree, source, |captures| self.take(captures));
        self.settle_names();
        self.settle_signatures();
        // A file of one's own that is imported is no text.
        let own_files = self.imports.iter().filter(|(_, import)| import.is_local).map(|(at, _)| *at);
        for at in own_files.collect::<Vec<_>>() {
            self.literals.remove(&at);
        }
        self.settle_imports();
        let facts = &mut self.code.facts;
        facts.calls = self.calls.into_values().collect();
        facts.literals = self.literals.into_values().collect();
        facts.literal_values = self.values.into_values().collect();
        facts.has_errors = first_error(tree, source, self.idiom).is_some();
        self.code
    }

    /// Notes what a match says.
    fn take(&mut self, captures: &Captures<'t>) {
        for &(capture, node) in captures {
            // What the parser made up has no text.
            if node.is_missing() || node.start_byte() == node.end_byte() {
                continue;
            }
            match capture.split_once('.').unwrap_or((capture, "")) {
                (first, _) if first.starts_with('_') => {}
                ("import", form) => self.import(node, form),
                ("argument", form) => self.argument(node, form),
                ("path", "") => self.path(node, ""),
                ("path", "absolute") => self.path(node, "::"),
                ("statement", "") => self.statements.push((node.start_byte(), node.end_byte())),
                ("bound", "") => self.bound.push((self.file.text_of(node), node.start_byte())),
                ("module", "") => {
                    self.modules.insert(self.file.text_of(node));
                }
                ("name", kind) => self.name(node, kind),
                ("exempt", "") => {
                    self.exempt.insert(node.start_byte());
                }
                ("signature", "") => self.signature(node, captures),
                ("stub", "") => {
                    self.stubs.insert(node.start_byte());
                }
                ("wrapped", "") => {
                    if let Some(wrapper) = captured(captures, "wrapper") {
                        self.wrapped.insert(node.start_byte(), wrapper.start_byte());
                    }
                }
                ("call", "") => self.call(node),
                ("tokens", "") => self.tokens(node),
                ("literal", "") => self.literal(node),
                ("value", "") => self.value(node, captures),
                ("doc", "") => self.doc(node, captures),
                ("test", "call") => self.test(node, captures),
                ("test", "pair") => self.pair(node),
                ("test", "rows") => self.table(node, captures),
                (_, "") | ("signature" | "value" | "doc" | "test", _) => {}
                _ => self.pattern(node, capture),
            }
        }
    }

    fn pattern(&mut self, node: Node<'_>, name: &str) {
        match self.code.patterns.get_mut(name) {
            Some((count, _)) => *count += 1,
            None => {
                self.code.patterns.insert(name.to_owned(), (1, Place::of(node)));
            }
        }
    }

    /// What a literal stands for; `None` for other nodes and for literals that are computed in part.
    fn plain_text(&self, node: Node<'_>) -> Option<String> {
        let is_text = self.idiom.text_kinds.contains(&node.kind());
        let is_computed = children(node).iter().any(|part| self.idiom.computed_kinds.contains(&part.kind()));
        if !is_text || is_computed {
            return None;
        }
        // `"a" "b"` is one literal of several parts.
        let parts: Vec<Node<'_>> =
            children(node).into_iter().filter(|part| self.idiom.text_kinds.contains(&part.kind())).collect();
        if parts.is_empty() {
            return Some(text::value(self.file.text_of(node)));
        }
        parts.into_iter().map(|part| self.plain_text(part)).collect()
    }

    /// A module that is named by a literal or a path.
    fn import(&mut self, node: Node<'_>, form: &str) {
        let module = self.plain_text(node).unwrap_or_else(|| finding::one_line(&self.text_without_comments(node)));
        let import = self.import_of(Some(module), form, node);
        self.imports.insert(node.start_byte(), import);
    }

    /// The text of a node, with a blank for each comment in it.
    fn text_without_comments(&self, node: Node<'_>) -> String {
        let (mut text, mut from) = (String::new(), node.start_byte());
        let mut open = vec![node];
        while let Some(node) = open.pop() {
            if node.is_extra() && node.kind().contains("comment") {
                text.push_str(self.file.text.get(from..node.start_byte()).unwrap_or_default());
                text.push(' ');
                from = node.end_byte();
                continue;
            }
            let mut cursor = node.walk();
            let inner: Vec<Node<'_>> = node.children(&mut cursor).collect();
            open.extend(inner.into_iter().rev());
        }
        text + self.file.text.get(from..node.end_byte()).unwrap_or_default()
    }

    /// The argument of something that imports: a literal, or what nobody can tell.
    fn argument(&mut self, node: Node<'_>, form: &str) {
        let import = self.import_of(self.plain_text(node), form, node);
        // What is known about an argument is worth more than that it is one.
        if import.root.is_some() || !self.imports.contains_key(&node.start_byte()) {
            self.imports.insert(node.start_byte(), import);
        }
    }

    fn import_of(&self, module: Option<String>, form: &str, node: Node<'_>) -> Import {
        let place = Place::of(node);
        let Some(module) = module else {
            let module = finding::one_line(self.file.text_of(node));
            return Import { root: None, module, form: form.to_owned(), is_local: false, place };
        };
        let (root, is_local) = self.idiom.modules.root(&module);
        Import { root: Some(root.to_owned()), form: form.to_owned(), is_local, place, module }
    }

    /// The first segment of a path, and what stands before it.
    fn path(&mut self, node: Node<'_>, before: &str) {
        if before.is_empty() && self.idiom.builtin_roots.contains(&self.file.text_of(node)) {
            return;
        }
        let import = self.import_of(Some([before, self.file.text_of(node)].concat()), "path", node);
        self.paths.push((node.start_byte(), import));
    }

    /// Paths whose first segment the file itself binds are no imports; the others are, once per root.
    fn settle_imports(&mut self) {
        self.statements.sort_unstable();
        let statements = std::mem::take(&mut self.statements);
        let statement_at = |at: usize| {
            let before = statements.partition_point(|(start, _)| *start <= at);
            statements[..before].last().filter(|(_, end)| at < *end).map(|(start, _)| *start)
        };
        let root_of = |at: usize| {
            let start = statement_at(at)?;
            self.imports.range(start..).next().and_then(|(_, import)| import.root.clone())
        };
        // `use anyhow::anyhow` binds a name that is its own root.
        let modules = self.idiom.modules;
        let mut local: BTreeSet<String> = self.modules.iter().map(|module| modules.name(module).to_owned()).collect();
        for (name, at) in &self.bound {
            let name = modules.name(name);
            if root_of(*at).is_none_or(|root| root != name) {
                local.insert(name.to_owned());
            }
        }
        let is_local = |import: &Import, root: &String| !modules.is_absolute(&import.module) && local.contains(root);
        for import in self.imports.values_mut() {
            import.is_local |=
                import.form != "extern_crate" && import.root.as_ref().is_some_and(|root| is_local(import, root));
        }
        let mut seen = HashSet::new();
        for (at, import) in std::mem::take(&mut self.paths) {
            let is_known = import.root.as_ref().is_none_or(|root| is_local(&import, root) || seen.contains(root));
            if !is_known && statement_at(at).is_none() {
                seen.extend(import.root.clone());
                self.imports.insert(at, import);
            }
        }
        self.code.facts.imports = std::mem::take(&mut self.imports).into_values().collect();
        self.code.bound = local;
    }

    fn name(&mut self, node: Node<'t>, kind: &str) {
        let Some((kind, ..)) = names::KINDS.into_iter().find(|(_, known, _)| *known == kind) else { return };
        let rank = |kind| names::KINDS.iter().position(|(known, ..)| *known == kind);
        // From the most special to the least: a variable is what has no other role.
        let order = [0, 1, 4, 2, 3];
        let special = |kind| rank(kind).map_or(0, |rank| order[rank]);
        let entry = self.names.entry(node.start_byte()).or_insert((kind, node));
        if special(kind) < special(entry.0) {
            entry.0 = kind;
        }
    }

    fn settle_names(&mut self) {
        for (at, (kind, node)) in std::mem::take(&mut self.names) {
            let raw = self.file.text_of(node);
            let name = self.plain_text(node).unwrap_or_else(|| raw.trim_start_matches("r#").to_owned());
            if name == "_" {
                continue;
            }
            if kind == DeclarationKind::Field {
                self.comment_of(&name, node);
            }
            let is_exempt = self.exempt.contains(&at) || names::is_fixed(&name);
            self.code.facts.declared.push(Declared { kind, name, is_exempt, place: Place::of(node) });
        }
    }

    fn signature(&mut self, node: Node<'t>, captures: &Captures<'t>) {
        let Some(name) = captured(captures, "signature.name") else { return };
        let body = captured(captures, "signature.body");
        let entry = self.signatures.entry(node.start_byte()).or_insert((node, body, name));
        // A pattern without a body also matches what has one.
        entry.1 = entry.1.or(body);
    }

    fn settle_signatures(&mut self) {
        for (at, (node, body, name)) in std::mem::take(&mut self.signatures) {
            let mut start = at;
            while let Some(outer) = self.wrapped.get(&start).filter(|outer| **outer < start) {
                start = *outer;
            }
            let name = self.file.text_of(name).to_owned();
            let column = start - self.file.text[..start].rfind('\n').map_or(0, |end| end + 1);
            let row = node.start_position().row;
            let first_row = row - self.file.text[start..at].matches('\n').count().min(row);
            self.comment_of_row(&name, first_row, Place::of(node));
            self.code.facts.signatures.push(Signature {
                text: self.header(node, start, body.map_or(node.end_byte(), |body| body.start_byte())),
                has_body: body.is_some(),
                is_stub: self.stubs.contains(&at),
                is_nested: column > 0,
                name,
                place: Place::of(node),
            });
        }
    }

    /// The text of a signature on one line, without comments.
    fn header(&self, node: Node<'_>, start: usize, end: usize) -> String {
        let mut raw = String::with_capacity(end.saturating_sub(start));
        let mut from = start;
        let mut open = vec![node];
        while let Some(node) = open.pop() {
            if node.start_byte() >= end {
                continue;
            }
            if node.is_extra() && node.kind().contains("comment") && node.start_byte() >= from {
                raw.push_str(self.file.text.get(from..node.start_byte()).unwrap_or_default());
                // What follows a comment may stand on its own line.
                raw.push('\n');
                from = node.end_byte();
            }
            let mut cursor = node.walk();
            let inner: Vec<Node<'_>> =
                node.children(&mut cursor).take_while(|child| child.start_byte() < end).collect();
            open.extend(inner.into_iter().rev());
        }
        raw.push_str(self.file.text.get(from..end).unwrap_or_default());
        joined_lines(raw.trim().trim_end_matches([';', ',']).trim_end())
    }

    fn call(&mut self, node: Node<'_>) {
        if let Some(path) = callee::path(node, self.file.text) {
            // The calls of a chain begin where it does, and each ends elsewhere.
            self.calls.insert(node.end_byte(), Call { path, place: Place::of(node) });
        }
    }

    fn tokens(&mut self, node: Node<'_>) {
        let (file, idiom) = (self.file, self.idiom);
        let (calls, paths) = (&mut self.calls, &mut self.paths);
        tokens::read(node, file, &mut |Said { path, is_call, at, place }| {
            if is_call {
                calls.insert(at, Call { path, place });
                return;
            }
            let (root, is_local) = idiom.modules.root(&path);
            let is_type = root.starts_with(|first: char| first.is_uppercase());
            if !is_local && !is_type && !idiom.builtin_roots.contains(&root) {
                let (root, form) = (Some(root.to_owned()), "path".to_owned());
                paths.push((at, Import { root, module: path, form, is_local, place }));
            }
        });
    }

    fn literal(&mut self, node: Node<'_>) {
        let raw = self.file.text_of(node);
        if let Some(quote) = text::free_quote(raw) {
            self.code.style.count_quote(quote);
        }
        self.literals.insert(node.start_byte(), Literal { text: text::value(raw), place: Place::of(node) });
    }

    /// A value that is given to a name; lists of both are taken pair by pair.
    fn value(&mut self, value: Node<'_>, captures: &Captures<'t>) {
        let Some(name) = captured(captures, "value.name") else { return };
        let is_list = |node: Node<'_>| node.kind().ends_with("_list") || node.kind() == "tuple";
        let pairs: Vec<(Node<'_>, Node<'_>)> = match (is_list(name), is_list(value)) {
            (true, true) => children(name).into_iter().zip(children(value)).collect(),
            (true, false) => children(name).into_iter().take(1).map(|name| (name, value)).collect(),
            (false, true) => children(value).into_iter().take(1).map(|value| (name, value)).collect(),
            (false, false) => vec![(name, value)],
        };
        for (name, value) in pairs {
            if text::begins_with_text(value, self.idiom.text_kinds) {
                let given = self
                    .plain_text(name)
                    .or_else(|| callee::path(name, self.file.text).map(|path| callee::last_name(&path).to_owned()));
                let Some(name_text) = given else { continue };
                let literal = LiteralValue { name: name_text, place: Place::of(name) };
                self.values.insert(name.start_byte(), literal);
            }
        }
    }

    fn doc(&mut self, node: Node<'_>, captures: &Captures<'t>) {
        let Some(about) = captured(captures, "doc.of") else { return };
        let doc = text::value(self.file.text_of(node));
        self.code.findings.extend(finding::documented(self.file.text_of(about), &doc, Place::of(node)));
    }

    fn comment_of(&mut self, about: &str, node: Node<'_>) {
        self.comment_of_row(about, node.start_position().row, Place::of(node));
    }

    fn comment_of_row(&mut self, about: &str, row: usize, place: Place) {
        let doc = finding::comment_above(&self.lines, row);
        if !doc.is_empty() {
            self.code.findings.extend(finding::documented(about, &doc, place));
        }
    }

    /// `test.call` with what it is expected to give (`test.value`) or to fail with (`test.raised`).
    fn test(&mut self, call: Node<'_>, captures: &Captures<'t>) {
        let raised = captured(captures, "test.raised");
        let value = captured(captures, "test.value").or(raised);
        let mut parts = children(call).into_iter();
        let Some(about) = parts.next().and_then(|function| callee::path(function, self.file.text)) else { return };
        let is_spelled_out = parts.all(|argument| self.is_spelled_out(argument));
        if is_spelled_out && value.is_none_or(|value| raised.is_some() || self.is_spelled_out(value)) {
            let value = value.map_or("", |value| self.file.text_of(value));
            let call_text = self.file.text_of(call);
            let finding = finding::expected(call_text, &about, value, raised.is_some(), Place::of(call));
            self.code.findings.push(finding);
        }
    }

    /// `(call, value)` as tokens.
    fn pair(&mut self, tree: Node<'_>) {
        let mut cursor = tree.walk();
        let tokens: Vec<Node<'_>> = tree.children(&mut cursor).filter(|token| !token.is_extra()).collect();
        let inside = tokens.get(1..tokens.len().saturating_sub(1)).unwrap_or_default();
        let parts: Vec<&[Node<'_>]> =
            inside.split(|token| token.kind() == ",").filter(|part| !part.is_empty()).collect();
        let [call, value, ..] = parts[..] else { return };
        let text = |part: &[Node<'_>]| {
            let (first, last) = (part[0], part[part.len() - 1]);
            self.file.text.get(first.start_byte()..last.end_byte()).unwrap_or_default()
        };
        let (Some((arguments, function)), true) =
            (call.split_last(), value.iter().all(|token| self.is_spelled_out(*token)))
        else {
            return;
        };
        let is_call = arguments.kind() == "token_tree" && !function.is_empty() && self.is_spelled_out(*arguments);
        let is_path = function.iter().all(|token| matches!(token.kind(), "identifier" | "::"));
        if is_call && is_path {
            let finding = finding::expected(text(call), text(function), text(value), false, Place::of(call[0]));
            self.code.findings.push(finding);
        }
    }

    /// The rows of a table of cases, in a test whose name says what is tested.
    fn table(&mut self, rows: Node<'_>, captures: &Captures<'t>) {
        let Some(test) = captured(captures, "test.of") else { return };
        let about = self.file.text_of(test).trim_start_matches("Test").trim_start_matches('_').to_owned();
        for row in children(rows).into_iter().take(TABLE_CASES_MAX) {
            if self.is_spelled_out(row) {
                let case = finding::one_line(self.file.text_of(row));
                let text = format!("a table of tests of `{about}` has the case `{case}`");
                let place = Place::of(row);
                self.code.findings.push(Finding { is_tested: true, about: about.clone(), text, place });
            }
        }
    }

    /// Whether an expression names no variable: names in upper case (`None`, `Some`) and field names may stand in it.
    fn is_spelled_out(&self, node: Node<'_>) -> bool {
        let (mut open, mut num_nodes) = (vec![node], 0);
        while let Some(node) = open.pop() {
            num_nodes += 1;
            let is_name = node.kind() == "identifier" && node.named_child_count() == 0;
            let is_variable = is_name && self.file.text_of(node).starts_with(|c: char| c.is_lowercase() || c == '_');
            if num_nodes > VALUE_NODES_MAX || is_variable {
                return false;
            }
            match node.kind() {
                // A key of a keyed element is a field.
                "keyed_element" => open.extend(node.child_by_field_name("value")),
                _ => open.extend(children(node)),
            }
        }
        true
    }
}

/// Text on one line; the line breaks of a list leave no blanks at its ends.
fn joined_lines(text: &str) -> String {
    let mut joined = String::with_capacity(text.len());
    let mut has_break = false;
    for line in text.lines() {
        let line = finding::one_line(line);
        if line.is_empty() {
            continue;
        }
        let after_open = joined.ends_with(['(', '[', '<']);
        let before_close = line.starts_with([')', ']', '>']);
        if before_close && joined.ends_with(',') {
            joined.pop();
        }
        if has_break && !after_open && !before_close {
            joined.push(' ');
        }
        joined.push_str(&line);
        has_break = true;
    }
    joined
}
