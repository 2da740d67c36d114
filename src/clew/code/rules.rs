//! Facts of many files to rules: what is a fact, what is a habit, and how sure we are.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::facts::{Import, Place, Signature};
use super::idiom::{Idiom, idiom};
use super::names::{KINDS, Tally, confidence};
use super::style::Indent;
use super::{FileCode, finding};
use crate::clew::DESCRIPTION_BYTES_MAX;
use crate::clew::manifest::Manifest;
use crate::clew::standard::std_modules;
use crate::constraint::{
    Constraint, ForbiddenText, Kind, Language, Origin, Priority, Rule, Scope, Severity, Source, Strength,
};

/// Calls of a code base below which the absence of one says nothing.
const SUGGESTION_CALLS_MIN: usize = 20;
/// Exceptions from a habit that are named.
const EXCEPTIONS_NAMED_MAX: usize = 5;
/// The share of files or literals that make a style.
const STYLE_SHARE_MIN: f32 = 0.8;
/// The share of places where errors are handled one way, above which that is the way.
const ERROR_STYLE_SHARE_MIN: f32 = 0.6;
/// Literals whose quotes were free, below which they say nothing.
const QUOTES_MIN: u32 = 5;
/// Logit units against what a style avoids, and for what it wants.
const STYLE_BIAS: f32 = 1.0;

/// A file that was read: its name, language and code.
#[derive(Clone, Copy)]
pub(in crate::clew) struct File<'a> {
    pub(in crate::clew) name: &'a str,
    pub(in crate::clew) language: Language,
    pub(in crate::clew) code: &'a FileCode,
}

/// The rules of a set of files.
#[derive(Default)]
pub(in crate::clew) struct Rules {
    /// Those of the set as a whole: a few hundred at most.
    pub(in crate::clew) habits: Vec<Constraint>,
    /// Those of single places.
    pub(in crate::clew) items: Vec<Constraint>,
}

/// The categories of patterns, and what kind of rule their use is.
const CATEGORIES: [(&str, Kind); 8] = [
    ("functions", Kind::Syntactic),
    ("types", Kind::TypeSafety),
    ("async", Kind::Semantic),
    ("errors", Kind::Semantic),
    ("imports", Kind::Architectural),
    ("classes", Kind::Architectural),
    ("metadata", Kind::Syntactic),
    ("memory", Kind::Operational),
];

/// Ways to handle errors, and the patterns that show them.
const ERROR_STYLES: [(&str, &[&str]); 5] = [
    (
        "exceptions",
        &["throw", "raise", "try_catch", "try_except", "promise_catch", "error_class", "exception_class", "finally"],
    ),
    ("results", &["result", "result_type", "question_mark", "mapped_error", "error_context", "matched_error"]),
    (
        "error returns",
        &["error_result", "value_and_error_result", "error_check", "scoped_error_check", "wrapped_error"],
    ),
    ("error unions", &["error_union", "try", "catch", "catch_with_payload", "error_set"]),
    ("panics", &["panic", "unwrap", "expect", "unreachable", "fatal_log"]),
];

/// Mines what is common to the files. They must be sorted by name; linear in their facts.
pub(in crate::clew) fn mine(files: &[File<'_>], manifests: &[Manifest]) -> Rules {
    let mut rules = Rules::default();
    let mut by_language: BTreeMap<Language, Vec<File<'_>>> = BTreeMap::new();
    for file in files {
        by_language.entry(file.language).or_default().push(*file);
    }
    for (language, files) in by_language {
        let group = Group { language, idiom: idiom(language, ""), files };
        rules.habits.extend(group.imports(manifests));
        rules.habits.extend(group.names());
        rules.habits.extend(group.style());
        rules.habits.extend(group.patterns());
        rules.habits.extend(group.suggestions());
        rules.items.extend(group.signatures());
        rules.items.extend(group.findings());
    }
    rules
}

/// The files of one language.
struct Group<'a> {
    language: Language,
    idiom: &'static Idiom,
    files: Vec<File<'a>>,
}

impl Group<'_> {
    /// `python`, as it stands in the names of rules.
    fn tag(&self) -> String {
        self.idiom.name.to_lowercase()
    }

    fn constraint(&self, name: String, description: String, source: Source, rule: Rule) -> Constraint {
        let mut constraint = Constraint::stated(name, Kind::Syntactic, rule);
        constraint.description = cut(description);
        constraint.source = source;
        constraint.severity = Severity::Hint;
        constraint.priority = Priority::Medium;
        constraint.strength = Strength::Advisory;
        constraint
    }

    /// The modules that may be imported: in use, declared, or of the standard library. A fact where a manifest states
    /// what is declared, else a habit.
    fn imports(&self, manifests: &[Manifest]) -> Option<Constraint> {
        let modules = self.idiom.modules;
        let manifests: Vec<&Manifest> =
            manifests.iter().filter(|manifest| manifest.language == self.language).collect();
        let declared: BTreeSet<String> = manifests
            .iter()
            .flat_map(|manifest| {
                manifest.dependencies.iter().map(|dependency| &dependency.name).chain(&manifest.package)
            })
            .map(|package| modules.imported_as(package))
            .collect();
        let standard: BTreeSet<&str> = std_modules(self.language).collect();
        let (mut used, mut num_imports, mut first) = (BTreeSet::new(), 0, None);
        for file in &self.files {
            for import in file.code.facts.imports.iter().filter(|import| names_a_module(import)) {
                num_imports += 1;
                first = first.or(Some(import.place.in_file(file.name)));
                used.extend(import.root.as_deref());
            }
        }
        if used.is_empty() && manifests.is_empty() {
            return None;
        }
        let is_covered = |root: &str| {
            let mut parts = root.match_indices('/').map(|(end, _)| &root[..end]);
            parts.any(|above| modules.is_below(root, above) && (declared.contains(above) || standard.contains(above)))
        };
        let (num_used, num_declared, num_standard) = (used.len(), declared.len(), standard.len());
        used.retain(|root| !is_covered(root));
        let mut allow: BTreeSet<String> = used.into_iter().map(str::to_owned).collect();
        allow.extend(declared);
        allow.extend(standard.iter().map(|&module| module.to_owned()));
        let description = format!(
            "{} may import {} in use ({num_imports} imports in {}), {num_declared} declared and {num_standard} of the standard library",
            self.idiom.name,
            counted(num_used, "module"),
            counted(self.files.len(), "file"),
        );
        let rule =
            Rule::Imports { language: Some(self.language), allow: Some(allow.into_iter().collect()), deny: Vec::new() };
        let mut constraint = self.constraint(format!("imports.{}", self.tag()), description, Source::AstPattern, rule);
        constraint.kind = Kind::Architectural;
        constraint.frequency = frequency(num_imports.max(1));
        constraint.origin =
            manifests.iter().find_map(|manifest| manifest.dependencies.first().map(|one| one.origin.clone()));
        constraint.origin = constraint.origin.or(first);
        (constraint.strength, constraint.severity, constraint.confidence) = match manifests.is_empty() {
            true => (Strength::Soft, Severity::Warning, confidence(num_imports, num_imports)),
            false => (Strength::Hard, Severity::Error, 1.0),
        };
        Some(constraint)
    }

    /// How names are written, where most agree.
    fn names(&self) -> Vec<Constraint> {
        KINDS
            .into_iter()
            .filter_map(|(kind, one, many)| {
                let (mut tally, mut first, mut names) = (Tally::default(), None, Vec::new());
                for file in &self.files {
                    let mut seen = HashSet::new();
                    let declared = file.code.facts.declared.iter().filter(|name| name.kind == kind && !name.is_exempt);
                    for declared in declared.filter(|declared| seen.insert(declared.name.as_str())) {
                        tally.count(&declared.name);
                        first.get_or_insert((file.name, declared.place));
                        names.push(declared.name.as_str());
                    }
                }
                let habit = tally.habit()?;
                let exceptions: BTreeSet<&str> =
                    names.into_iter().filter(|name| !habit.convention.fits(name)).collect();
                let named: Vec<&str> = exceptions.iter().copied().take(EXCEPTIONS_NAMED_MAX).collect();
                let mut description = format!(
                    "{} of {} {} {many} are {}",
                    habit.num_fitting, tally.num_names, self.idiom.name, habit.written
                );
                if !named.is_empty() {
                    let more = if exceptions.len() > named.len() { ", ..." } else { "" };
                    description.push_str(&format!("; not {}{more}", named.join(", ")));
                }
                let rule = Rule::Names {
                    language: Some(self.language),
                    declaration: kind,
                    convention: Some(habit.convention),
                    allow: None,
                };
                let name = format!("names.{}.{one}", self.tag());
                let mut constraint = self.constraint(name, description, Source::AstPattern, rule);
                constraint.strength = Strength::Soft;
                constraint.severity = Severity::Warning;
                constraint.confidence = confidence(habit.num_fitting, tally.num_names);
                constraint.frequency = frequency(habit.num_fitting);
                constraint.origin = first.map(|(file, place): (&str, Place)| place.in_file(file));
                Some(constraint)
            })
            .collect()
    }

    fn style(&self) -> Vec<Constraint> {
        [self.tabs(), self.indentation(), self.quotes(), self.error_style()].into_iter().flatten().collect()
    }

    /// The indentation of most files, and how many that is.
    fn usual_indent(&self) -> Option<(Indent, usize, usize)> {
        let mut votes: BTreeMap<Indent, usize> = BTreeMap::new();
        for indent in self.files.iter().filter_map(|file| file.code.style.indent()) {
            *votes.entry(indent).or_default() += 1;
        }
        let num_files = votes.values().sum();
        let (indent, num_agreeing) =
            votes.into_iter().max_by_key(|(indent, count)| (*count, std::cmp::Reverse(*indent)))?;
        (share(num_agreeing, num_files) >= STYLE_SHARE_MIN).then_some((indent, num_agreeing, num_files))
    }

    fn indentation(&self) -> Option<Constraint> {
        let (indent, num_agreeing, num_files) = self.usual_indent()?;
        let how = match indent {
            Indent::Tabs => "tabs".to_owned(),
            Indent::Spaces(width) => format!("{width} spaces"),
        };
        let text = format!("{} is indented by {how}", self.idiom.name);
        Some(self.habit("indentation", text, "files", num_agreeing, num_files, None))
    }

    /// A tab where lines begin, wanted or not.
    fn tabs(&self) -> Option<Constraint> {
        let (indent, num_agreeing, num_files) = self.usual_indent()?;
        let (name, text, bias) = match indent {
            Indent::Tabs => ("tabs", "\n\t", STYLE_BIAS),
            Indent::Spaces(_) => ("no_tabs", "\t", -STYLE_BIAS),
        };
        let rule = Rule::Bias { text: Some(text.to_owned()), regex: None, bias };
        let what = if bias > 0.0 { "lines begin with tabs" } else { "no tabs stand in the code" };
        Some(self.habit(name, what.to_owned(), "files", num_agreeing, num_files, Some(rule)))
    }

    fn quotes(&self) -> Option<Constraint> {
        let sum =
            |count: fn(&FileCode) -> u32| self.files.iter().map(|file| count(file.code)).fold(0, u32::saturating_add);
        let (single, double) = (sum(|code| code.style.num_single), sum(|code| code.style.num_double));
        let (usual, other, most) = if single > double { ("single", '"', single) } else { ("double", '\'', double) };
        let all = single.saturating_add(double);
        let (num_agreeing, num_literals) = (most as usize, all as usize);
        if !self.idiom.has_two_quotes || all < QUOTES_MIN || share(num_agreeing, num_literals) < STYLE_SHARE_MIN {
            return None;
        }
        let rule = Rule::Bias { text: Some(other.to_string()), regex: None, bias: -STYLE_BIAS };
        let text = format!("text stands in {usual} quotes");
        Some(self.habit("quotes", text, "literals", num_agreeing, num_literals, Some(rule)))
    }

    fn error_style(&self) -> Option<Constraint> {
        let patterns = self.counted_patterns();
        let count = |names: &[&str]| -> usize {
            names
                .iter()
                .filter_map(|name| patterns.get(format!("errors.{name}").as_str()))
                .map(|found| found.count)
                .sum()
        };
        let counts = ERROR_STYLES.map(|(style, names)| (style, count(names)));
        let num_places: usize = counts.iter().map(|(_, count)| count).sum();
        // Of two ways that are as frequent, the first.
        let (style, most) = counts.into_iter().rev().max_by_key(|(_, count)| *count)?;
        let is_style = most > 0 && share(most, num_places) >= ERROR_STYLE_SHARE_MIN;
        let text = format!("{} handles errors by {style}", self.idiom.name);
        is_style.then(|| self.habit("errors", text, "places", most, num_places, None))
    }

    /// A habit of style: soft where a rule can express it, else a sentence.
    fn habit(&self, name: &str, what: String, of: &str, part: usize, whole: usize, rule: Option<Rule>) -> Constraint {
        let description = format!("{what}: {part} of {whole} {of}");
        let strength = if rule.is_some() { Strength::Soft } else { Strength::Advisory };
        let rule = rule.unwrap_or(Rule::Prose { text: description.clone() });
        let name = format!("style.{}.{name}", self.tag());
        let mut constraint = self.constraint(name, description, Source::AstPattern, rule);
        constraint.strength = strength;
        constraint.confidence = confidence(part, whole);
        constraint.frequency = frequency(part);
        constraint
    }

    fn counted_patterns(&self) -> BTreeMap<&str, Counted> {
        let mut counted: BTreeMap<&str, Counted> = BTreeMap::new();
        for file in &self.files {
            for (name, (count, place)) in &file.code.patterns {
                let entry = counted.entry(name).or_insert_with(|| Counted {
                    count: 0,
                    num_files: 0,
                    first: place.in_file(file.name),
                });
                entry.count += *count as usize;
                entry.num_files += 1;
            }
        }
        counted
    }

    /// That a pattern is in use: a sentence, so that nobody mistakes it for a rule that is enforced.
    fn patterns(&self) -> Vec<Constraint> {
        let sentence = |(pattern, found): (&str, Counted)| {
            let (category, name) = pattern.split_once('.').unwrap_or(("", pattern));
            let text = format!(
                "this {} code uses {} ({} in {})",
                self.idiom.name,
                name.replace('_', " "),
                counted(found.count, "place"),
                counted(found.num_files, "file"),
            );
            let rule = Rule::Prose { text: text.clone() };
            let mut constraint = self.constraint(format!("pattern.{pattern}"), text, Source::AstPattern, rule);
            let kind = CATEGORIES.iter().find(|(known, _)| *known == category);
            constraint.kind = kind.map_or(Kind::Syntactic, |(_, kind)| *kind);
            if category == "errors" {
                constraint.source = Source::ControlFlow;
            }
            constraint.confidence = confidence(found.num_files, self.files.len());
            constraint.frequency = frequency(found.count);
            constraint.origin = Some(found.first);
            constraint
        };
        self.counted_patterns().into_iter().map(sentence).collect()
    }

    /// What the code base does without, and might want refused.
    fn suggestions(&self) -> Vec<Constraint> {
        let called: HashSet<&str> =
            self.files.iter().flat_map(|file| &file.code.facts.calls).map(|call| call.path.as_str()).collect();
        let last_names: HashSet<&str> = called.iter().map(|path| super::callee::last_name(path)).collect();
        let used = self.counted_patterns();
        let num_calls: usize = self.files.iter().map(|file| file.code.facts.calls.len()).sum();
        if num_calls < SUGGESTION_CALLS_MIN {
            return Vec::new();
        }
        let mut suggestions = Vec::new();
        for danger in self.idiom.dangers.lines().filter_map(Danger::read) {
            let is_used = match danger.pattern {
                Some(pattern) => used.contains_key(pattern),
                // `.unwrap` is called on anything; `exec.Command` and `Command` may be the same.
                None => called.contains(danger.what) || last_names.contains(super::callee::last_name(danger.what)),
            };
            if is_used {
                continue;
            }
            let what = danger.what.to_owned();
            let rule = match danger.pattern {
                None => Rule::Calls { language: Some(self.language), deny: vec![what], require: Vec::new() },
                Some(_) => Rule::ForbiddenText { any_of: vec![word(what)] },
            };
            let description = format!(
                "suggested: none of {} uses `{}` ({})",
                counted(self.files.len(), &format!("{} file", self.idiom.name)),
                danger.what,
                danger.why
            );
            let name = format!("suggested.{}.{}", self.tag(), danger.what.trim_start_matches(['.', '@']));
            let mut constraint = self.constraint(name, description, Source::AstPattern, rule);
            constraint.kind = Kind::Security;
            constraint.confidence = confidence(num_calls, num_calls);
            constraint.frequency = frequency(num_calls);
            suggestions.push(constraint);
        }
        suggestions
    }

    /// Functions that are to be written, word for word. A stub of a file is a fact; members of a type, and functions
    /// whose body stands elsewhere, only tell.
    fn signatures(&self) -> Vec<Constraint> {
        let mut open = Vec::new();
        for file in &self.files {
            let is_declaration = [".d.ts", ".d.mts", ".d.cts", ".pyi"].iter().any(|end| file.name.ends_with(end));
            let all = &file.code.facts.signatures;
            // An overload is written where the function is.
            let written: HashSet<&str> = all
                .iter()
                .filter(|one| one.has_body && !one.is_stub && !one.is_nested)
                .map(|one| one.name.as_str())
                .collect();
            let is_open = |one: &&Signature| (one.is_stub || !one.has_body) && !written.contains(one.name.as_str());
            for signature in all.iter().filter(is_open) {
                let to_write = signature.is_stub && !signature.is_nested && !is_declaration;
                let what = if to_write { "is still to be written" } else { "is declared without a body" };
                let rule = Rule::Signature { language: Some(self.language), signature: signature.text.clone() };
                let description = format!("{} `{}` {what}", self.idiom.name, signature.name);
                let name = format!("signature.{}", signature.name);
                let mut constraint = self.constraint(name, description, Source::TypeSystem, rule);
                constraint.kind = Kind::TypeSafety;
                if to_write {
                    constraint.strength = Strength::Hard;
                    constraint.severity = Severity::Error;
                }
                constraint.origin = Some(signature.place.in_file(file.name));
                open.push(constraint);
            }
        }
        open
    }

    fn findings(&self) -> Vec<Constraint> {
        let mut found = Vec::new();
        for file in &self.files {
            for finding::Finding { is_tested, about, text, place } in &file.code.findings {
                // A test runs; whether a comment is true, nobody knows.
                let (prefix, source, confidence) = match is_tested {
                    true => ("test", Source::TestMining, 0.9),
                    false => ("doc", Source::Documentation, 0.5),
                };
                let rule = Rule::Prose { text: text.clone() };
                let mut constraint = self.constraint(format!("{prefix}.{about}"), text.clone(), source, rule);
                constraint.kind = Kind::Semantic;
                constraint.severity = Severity::Info;
                constraint.confidence = confidence;
                constraint.origin = Some(place.in_file(file.name));
                found.push(constraint);
            }
        }
        found
    }
}

/// A pattern over all files.
struct Counted {
    count: usize,
    num_files: usize,
    first: Origin,
}

/// A line of `dangers.txt`: `call os.system: why`, or `word any types.any_type: why` with the pattern that finds it.
struct Danger<'a> {
    what: &'a str,
    pattern: Option<&'a str>,
    why: &'a str,
}

impl<'a> Danger<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let (head, why) = line.split_once(": ")?;
        let mut words = head.split(' ');
        let (kind, what, pattern) = (words.next()?, words.next()?, words.next());
        matches!((kind, pattern), ("call", None) | ("word", Some(_))).then_some(Self { what, pattern, why })
    }
}

fn word(text: String) -> ForbiddenText {
    let whole_word = text.chars().all(|c| c.is_alphanumeric() || c == '_');
    ForbiddenText { text: Some(text), regex: None, whole_word, ignore_case: false, scope: Scope::default() }
}

/// Whether an import names a module that others could import too.
fn names_a_module(import: &Import) -> bool {
    !import.is_local && import.root.as_ref().is_some_and(|root| !root.is_empty()) && import.form != "embed_file"
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

fn frequency(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn share(part: usize, whole: usize) -> f32 {
    part as f32 / whole.max(1) as f32
}

/// At most [`DESCRIPTION_BYTES_MAX`] bytes.
fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(DESCRIPTION_BYTES_MAX));
    text
}

#[cfg(test)]
mod tests {
    use super::super::idiom::ALL;
    use super::*;

    #[test]
    fn every_danger_is_read_and_every_word_has_a_pattern_that_finds_it() {
        for idiom in ALL {
            let known = idiom.dialect.capture_names();
            for line in idiom.dangers.lines() {
                let danger = Danger::read(line).unwrap_or_else(|| panic!("{}: {line}", idiom.name));
                assert!(danger.pattern.is_none_or(|pattern| known.contains(&pattern)), "{}: {line}", idiom.name);
            }
        }
    }

    #[test]
    fn every_pattern_of_an_error_style_exists() {
        for name in ERROR_STYLES.iter().flat_map(|(_, names)| *names) {
            let capture = format!("errors.{name}");
            assert!(ALL.iter().any(|idiom| idiom.dialect.capture_names().contains(&capture.as_str())), "{name}");
        }
    }
}
