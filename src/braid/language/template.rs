//! A language's grammar as it is kept in files: a base, and features that replace definitions of it.
//!
//! A file is a list of definitions in llguidance's dialect of Lark, each `name: body`, continued on lines that begin
//! with a blank. A feature's definition replaces the base's of the same name, or is new. Two features never replace
//! the same name; that is checked where a template is made.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::constraint::{Granularity, Language};

/// The files of one language.
struct Files {
    base: &'static str,
    imports: &'static str,
    literals: &'static str,
    secrets: &'static str,
    signature: &'static str,
}

macro_rules! files {
    ($language:literal) => {
        Files {
            base: include_str!(concat!("../grammars/", $language, "/base.lark")),
            imports: include_str!(concat!("../grammars/", $language, "/imports.lark")),
            literals: include_str!(concat!("../grammars/", $language, "/literals.lark")),
            secrets: include_str!(concat!("../grammars/", $language, "/secrets.lark")),
            signature: include_str!(concat!("../grammars/", $language, "/signature.lark")),
        }
    };
}

fn files(language: Language) -> Files {
    match language {
        Language::Typescript => files!("typescript"),
        Language::Python => files!("python"),
        Language::Rust => files!("rust"),
        Language::Zig => files!("zig"),
        Language::Go => files!("go"),
    }
}

/// What may be filled into a grammar, each with the text that takes its placeholder's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Feature {
    /// `{modules}`: a terminal of the roots that may be imported.
    Imports,
    /// `{refused}`: a regex that no text literal contains.
    Literals,
    /// `{secrets}`: a regex of whole names that are given no text literal.
    Secrets,
    /// `{signature}`: a literal, the signature word for word.
    Signature,
}

impl Feature {
    fn placeholder(self) -> &'static str {
        match self {
            Self::Imports => "{modules}",
            Self::Literals => "{refused}",
            Self::Secrets => "{secrets}",
            Self::Signature => "{signature}",
        }
    }
}

/// A grammar in the making.
pub(super) struct Template {
    files: Files,
    /// Lines that define nothing (directives), and definitions, in the base's order.
    lines: Vec<String>,
    /// Where each name is defined in `lines`.
    places: HashMap<String, usize>,
}

impl Template {
    pub(super) fn new(language: Language) -> Self {
        let files = files(language);
        let mut template = Self { lines: Vec::new(), places: HashMap::new(), files };
        for text in definitions(template.files.base) {
            match name_of(&text).map(str::to_owned) {
                Some(name) => template.define(name, text),
                None => template.lines.push(text),
            }
        }
        template
    }

    /// Fills a feature in.
    pub(super) fn fill(&mut self, feature: Feature, text: &str) {
        let file = match feature {
            Feature::Imports => self.files.imports,
            Feature::Literals => self.files.literals,
            Feature::Secrets => self.files.secrets,
            Feature::Signature => self.files.signature,
        };
        for definition in definitions(file) {
            if let Some(name) = name_of(&definition).map(str::to_owned) {
                self.define(name, definition.replace(feature.placeholder(), text));
            }
        }
    }

    /// Defines `name` anew.
    pub(super) fn set(&mut self, name: &str, body: &str) {
        self.define(name.to_owned(), format!("{name}: {body}"));
    }

    /// The body of a definition.
    pub(super) fn body(&self, name: &str) -> Option<&str> {
        let text = &self.lines[*self.places.get(name)?];
        Some(text.split_once(':')?.1.trim())
    }

    /// Whether a definition of another name speaks of `name`.
    pub(super) fn is_used(&self, name: &str) -> bool {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let speaks = |text: &String| text.split(|c| !is_word(c)).any(|word| word == name);
        self.lines.iter().filter(|line| name_of(line) != Some(name)).any(speaks)
    }

    /// The names defined so far that begin with `prefix`, sorted.
    pub(super) fn names(&self, prefix: &str) -> Vec<String> {
        let mut names: Vec<_> = self.places.keys().filter(|name| name.starts_with(prefix)).cloned().collect();
        names.sort();
        names
    }

    /// The grammar of outputs of this size.
    pub(super) fn finish(mut self, granularity: Granularity) -> String {
        let start = match granularity {
            Granularity::File => "file",
            Granularity::Statements => "statements",
            Granularity::FunctionBody => "function_body",
            Granularity::Expression => "expression",
        };
        self.lines.push(format!("start: {start}"));
        self.lines.push(String::new());
        self.lines.join("\n")
    }

    fn define(&mut self, name: String, text: String) {
        match self.places.entry(name) {
            Entry::Occupied(place) => self.lines[*place.get()] = text,
            Entry::Vacant(place) => {
                place.insert(self.lines.len());
                self.lines.push(text);
            }
        }
    }
}

/// The definitions and directives of a file, each with the lines that continue it; comments and blank lines are left
/// out.
fn definitions(file: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for line in file.lines() {
        let is_nothing = line.trim().is_empty() || line.starts_with("//");
        let begins = line.starts_with('%') || name_of(line).is_some();
        match found.last_mut() {
            _ if is_nothing => {}
            Some(last) if !begins => {
                last.push('\n');
                last.push_str(line);
            }
            _ => found.push(line.to_owned()),
        }
    }
    found
}

/// The name that a definition defines: `name:`, or `NAME[options]:`.
fn name_of(text: &str) -> Option<&str> {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))?;
    let (name, rest) = text.split_at(end);
    let rest = match rest.strip_prefix('[') {
        Some(options) => options.split_once(']')?.1,
        None => rest,
    };
    let begins_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    (begins_well && rest.trim_start().starts_with(':')).then_some(name)
}
