//! What Clew reads in real files against what a person read in them: precision and recall per language and category.
//!
//! The files and their labels are in `data/labelled/`, where `SOURCES.md` says what each label means.
//! Signatures are taken apart here by plain scanning, which shares nothing with Clew.
#![allow(clippy::print_stdout, reason = "figures and misses are printed for people")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use ananke::clew::{self, FileFacts, Import, Signature};
use ananke::constraint::{DeclarationKind, Language, Rule};
use serde::Deserialize;
use serde_json::Value;

/// The least share of what is claimed that is right.
const PRECISION_MIN: f64 = 0.95;
/// The least share of what is there that is found.
const RECALL_MIN: f64 = 0.90;
/// How deep references between types are followed.
const REFS_MAX: usize = 8;

const LANGUAGES: [(Language, &str); 5] = [
    (Language::Typescript, "typescript"),
    (Language::Python, "python"),
    (Language::Rust, "rust"),
    (Language::Go, "go"),
    (Language::Zig, "zig"),
];
const CATEGORIES: [&str; 4] = ["imports", "signatures", "types", "names"];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Split {
    Seen,
    HeldOut,
}

/// What a person read in one file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Labels {
    split: Split,
    imports: Vec<LabelledImport>,
    signatures: Vec<LabelledSignature>,
    names: LabelledNames,
    types: Vec<LabelledType>,
    not_types: BTreeSet<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LabelledImport {
    module: Option<String>,
    root: Option<String>,
    is_local: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LabelledSignature {
    name: String,
    parameters: Vec<String>,
    returns: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LabelledNames {
    function: Vec<String>,
    #[serde(rename = "type")]
    types: Vec<String>,
    variable: Vec<String>,
    constant: Vec<String>,
    field: Vec<String>,
    exempt: BTreeSet<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LabelledType {
    name: String,
    json: Vec<String>,
    fields: Vec<LabelledField>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LabelledField {
    name: String,
    required: bool,
    json: Vec<String>,
    #[serde(default)]
    either: bool,
}

/// Facts of one file and category, as text that is the same exactly where the facts agree.
type Facts = BTreeSet<String>;

fn labelled_imports(labels: &Labels) -> Facts {
    let fact = |import: &LabelledImport| match (&import.module, &import.root) {
        (None, root) => format!("path {}", root.as_deref().unwrap_or_default()),
        (Some(module), _) if import.is_local => format!("{module} (local)"),
        (Some(module), root) => format!("{module} of {}", root.as_deref().unwrap_or_default()),
    };
    labels.imports.iter().map(fact).collect()
}

fn read_imports(facts: &FileFacts) -> Facts {
    let fact = |import: &Import| {
        let module = without_blanks(&import.module).replace(",}", "}");
        match (import.form.as_str(), &import.root) {
            ("path", root) => format!("path {}", root.as_deref().unwrap_or("?")),
            _ if import.is_local => format!("{module} (local)"),
            (_, root) => format!("{module} of {}", root.as_deref().unwrap_or("?")),
        }
    };
    facts.imports().iter().map(fact).collect()
}

fn labelled_signatures(labels: &Labels) -> Facts {
    labels.signatures.iter().map(|one| signature_fact(&one.name, &one.parameters, one.returns.as_deref())).collect()
}

fn read_signatures(facts: &FileFacts) -> Facts {
    let fact = |signature: &Signature| match taken_apart(&signature.text, &signature.name, facts.language()) {
        Some((parameters, returns)) => signature_fact(&signature.name, &parameters, returns.as_deref()),
        None => format!("not a signature of {}: {}", signature.name, signature.text),
    };
    facts.signatures().iter().map(fact).collect()
}

fn signature_fact(name: &str, parameters: &[String], returns: Option<&str>) -> String {
    format!("{name}({}) -> {}", parameters.join(", "), without_blanks(returns.unwrap_or("nothing")))
}

fn labelled_names(labels: &Labels) -> Facts {
    let names = &labels.names;
    let kinds = [
        ("function", &names.function),
        ("type", &names.types),
        ("variable", &names.variable),
        ("constant", &names.constant),
        ("field", &names.field),
    ];
    kinds.into_iter().flat_map(|(kind, names)| names.iter().map(move |name| format!("{kind} {name}"))).collect()
}

/// Names that are exempt by the labels count only where the labels have them otherwise, too.
fn read_names(facts: &FileFacts, labels: &Labels) -> Facts {
    let expected = labelled_names(labels);
    let declared = facts.declared().iter().map(|one| (&one.name, format!("{} {}", kind_name(one.kind), one.name)));
    declared
        .filter(|(name, fact)| !labels.names.exempt.contains(*name) || expected.contains(fact))
        .map(|(_, fact)| fact)
        .collect()
}

fn kind_name(kind: DeclarationKind) -> &'static str {
    match kind {
        DeclarationKind::Function => "function",
        DeclarationKind::Type => "type",
        DeclarationKind::Variable => "variable",
        DeclarationKind::Constant => "constant",
        DeclarationKind::Field => "field",
    }
}

fn labelled_types(labels: &Labels) -> Facts {
    let mut facts = Facts::new();
    for one in &labels.types {
        let name = last_segment(&one.name);
        facts.insert(format!("{name} is {}", kinds_text(labelled_kinds(&one.json, labels, 0))));
        for field in one.fields.iter().filter(|field| !field.either) {
            let kinds = kinds_text(labelled_kinds(&field.json, labels, 0));
            facts.insert(field_fact(name, &field.name, field.required, &kinds));
        }
    }
    facts
}

/// A type that no label promises anything about does not count, nor does a schema that says nothing.
fn read_types(source: &str, language: Language, file: &str, labels: &Labels) -> Facts {
    let set = clew::extract(source, language, file).expect("a small file");
    let mut facts = Facts::new();
    for constraint in &set.constraints {
        let Rule::JsonSchema { schema } = &constraint.rule else { continue };
        let name = last_segment(&constraint.name);
        let kinds = kinds_text(schema_kinds(schema, schema, 0));
        if labels.not_types.contains(name) || kinds == "any" {
            continue;
        }
        facts.insert(format!("{name} is {kinds}"));
        let label = labels.types.iter().find(|label| last_segment(&label.name) == name);
        let is_either =
            |field: &str| label.is_some_and(|label| label.fields.iter().any(|one| one.either && one.name == field));
        let mut fields = BTreeMap::new();
        collect_fields(schema, schema, 0, &mut fields);
        for (field, (required, kinds)) in fields.into_iter().filter(|(field, _)| !is_either(field)) {
            facts.insert(field_fact(name, &field, required, &kinds));
        }
    }
    facts
}

fn field_fact(of: &str, name: &str, required: bool, kinds: &str) -> String {
    format!("{of}.{name} {} {kinds}", if required { "required" } else { "optional" })
}

/// The properties of a schema, and of the schemas that it joins.
fn collect_fields(schema: &Value, root: &Value, depth: usize, fields: &mut BTreeMap<String, (bool, String)>) {
    if depth > REFS_MAX {
        return;
    }
    if let Some(target) = referred(schema, root) {
        collect_fields(target, root, depth + 1, fields);
    }
    for part in schema["allOf"].as_array().into_iter().flatten() {
        collect_fields(part, root, depth + 1, fields);
    }
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let kinds = kinds_text(schema_kinds(property, root, 0));
        fields.insert(name.clone(), (required.contains(&name.as_str()), kinds));
    }
}

fn referred<'v>(schema: &Value, root: &'v Value) -> Option<&'v Value> {
    root.pointer(schema["$ref"].as_str()?.strip_prefix('#')?)
}

/// The kinds of JSON values that a schema accepts.
fn schema_kinds(schema: &Value, root: &Value, depth: usize) -> BTreeSet<String> {
    let any = || BTreeSet::from(["any".to_owned()]);
    if depth > REFS_MAX {
        return any();
    }
    if let Some(target) = referred(schema, root) {
        return schema_kinds(target, root, depth + 1);
    }
    let of_value = |value: &Value| if value.is_null() { "null" } else { "enum" }.to_owned();
    if let Some(value) = schema.get("const") {
        return BTreeSet::from([of_value(value)]);
    }
    if let Some(values) = schema["enum"].as_array() {
        return values.iter().map(of_value).collect();
    }
    if let Some(parts) = schema["anyOf"].as_array() {
        return parts.iter().flat_map(|part| schema_kinds(part, root, depth + 1)).collect();
    }
    if let Some(parts) = schema["allOf"].as_array() {
        let told = parts.iter().map(|part| schema_kinds(part, root, depth + 1)).find(|kinds| !kinds.contains("any"));
        return told.unwrap_or_else(any);
    }
    match &schema["type"] {
        Value::String(kind) => BTreeSet::from([kind.clone()]),
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => any(),
    }
}

fn labelled_kinds(kinds: &[String], labels: &Labels, depth: usize) -> BTreeSet<String> {
    let resolved = |kind: &String| {
        let Some(name) = kind.strip_prefix("ref:") else { return BTreeSet::from([kind.clone()]) };
        let target = labels.types.iter().find(|one| one.name == name);
        let target = target.unwrap_or_else(|| panic!("a label refers to {name}, which has none"));
        assert!(depth < REFS_MAX, "labels refer to one another");
        labelled_kinds(&target.json, labels, depth + 1)
    };
    kinds.iter().flat_map(resolved).collect()
}

/// What accepts anything says nothing else, and a text may be any of those that are listed.
fn kinds_text(mut kinds: BTreeSet<String>) -> String {
    if kinds.contains("any") {
        return "any".to_owned();
    }
    if kinds.contains("string") {
        kinds.remove("enum");
    }
    kinds.into_iter().collect::<Vec<_>>().join("|")
}

fn last_segment(name: &str) -> &str {
    name.rsplit(['.', ':']).next().unwrap_or(name)
}

fn without_blanks(text: &str) -> String {
    text.split_whitespace().collect()
}

/// The names of the parameters of a signature, and its result.
fn taken_apart(text: &str, name: &str, language: Language) -> Option<(Vec<String>, Option<String>)> {
    let after = after_name(text, name)?;
    let (list, rest) = match after.strip_prefix('(') {
        Some(_) => inside_brackets(after, language)?,
        // The one parameter of an arrow function.
        None => after.split_once("=>")?,
    };
    let items = split_list(list, language);
    let parameters = match language {
        Language::Go => go_parameters(&items),
        _ => items.iter().filter_map(|item| parameter_name(item, language)).collect(),
    };
    let rest = rest.trim();
    let returns = match language {
        Language::Typescript => rest.trim_end_matches("=>").trim().strip_prefix(':'),
        Language::Python => rest.trim_end_matches(':').strip_prefix("->"),
        Language::Rust => rest.strip_prefix("->").map(|rest| rest.split(" where ").next().unwrap_or(rest)),
        Language::Go | Language::Zig => Some(rest),
    };
    Some((parameters, returns.map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned)))
}

/// What follows the declared name and its type parameters: where the list of parameters begins.
fn after_name<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '#' | '$');
    text.match_indices(name).find_map(|(at, _)| {
        let rest = &text[at + name.len()..];
        let is_whole = !text[..at].ends_with(is_word) && !rest.starts_with(is_word);
        let mut rest = is_whole.then(|| rest.trim_start().trim_start_matches('?'))?;
        if let Some((_, value)) = rest.starts_with([':', '=']).then(|| rest.split_once('=')).flatten() {
            let value = value.trim_start();
            rest = value.strip_prefix("async").unwrap_or(value).trim_start();
            let is_arrow = rest.starts_with('(') || rest.contains("=>");
            return is_arrow.then_some(rest);
        }
        if rest.starts_with('<') {
            rest = inside_brackets(rest, Language::Rust)?.1;
        } else if rest.starts_with('[') {
            rest = inside_brackets(rest, Language::Go)?.1;
        }
        rest.starts_with('(').then_some(rest)
    })
}

/// What stands between the bracket that text begins with and its partner, and what follows.
fn inside_brackets(text: &str, language: Language) -> Option<(&str, &str)> {
    let mut depth = 0_usize;
    scan(text, language, |c, change| {
        depth = depth.saturating_add_signed(change);
        depth == 0 && matches!(c, ')' | ']' | '}' | '>')
    })
    .map(|end| (&text[1..end], &text[end + 1..]))
}

/// The items of a list, split at commas that stand in no bracket.
fn split_list(text: &str, language: Language) -> Vec<&str> {
    let (mut items, mut rest) = (Vec::new(), text);
    loop {
        let mut depth = 0_usize;
        let comma = scan(rest, language, |c, change| {
            depth = depth.saturating_add_signed(change);
            depth == 0 && c == ','
        });
        items.push(comma.map_or(rest, |at| &rest[..at]).trim());
        match comma {
            Some(at) => rest = &rest[at + 1..],
            None => break,
        }
    }
    items.retain(|item| !item.is_empty());
    items
}

/// Where a character is found that `is_found` takes, outside of texts; it is told how brackets nest.
fn scan(text: &str, language: Language, mut is_found: impl FnMut(char, isize) -> bool) -> Option<usize> {
    let has_angles = matches!(language, Language::Rust | Language::Typescript);
    let quotes: &[char] = match language {
        Language::Python | Language::Typescript => &['"', '\''],
        _ => &['"'],
    };
    let (mut quote, mut before) = (None, ' ');
    for (at, c) in text.char_indices() {
        let is_inside = quote.is_some();
        if quote == Some(c) {
            quote = None;
        } else if !is_inside && quotes.contains(&c) {
            quote = Some(c);
        } else if !is_inside {
            let change = match c {
                '(' | '[' | '{' => 1,
                ')' | ']' | '}' => -1,
                '<' if has_angles => 1,
                '>' if has_angles && !matches!(before, '-' | '=') => -1,
                _ => 0,
            };
            if is_found(c, change) {
                return Some(at);
            }
        }
        before = c;
    }
    None
}

fn parameter_name(item: &str, language: Language) -> Option<String> {
    let end = |ends: &[char]| item.split(ends).next().unwrap_or(item).trim().to_owned();
    match language {
        Language::Rust => {
            let name = end(&[':']);
            let is_self = name.split(|c: char| !c.is_alphanumeric()).any(|word| word == "self");
            Some(if is_self { "self".to_owned() } else { name.trim_start_matches("mut ").to_owned() })
        }
        Language::Python => {
            Some(end(&[':', '=']).trim_start_matches('*').to_owned()).filter(|name| !name.is_empty() && name != "/")
        }
        Language::Typescript => {
            let words = end(&[':', '?', '=']);
            let name = words.rsplit(' ').next().unwrap_or(&words).trim_start_matches("...");
            Some(name.to_owned())
        }
        Language::Zig => item.contains(':').then(|| end(&[':']).rsplit(' ').next().unwrap_or_default().to_owned()),
        Language::Go => None,
    }
}

/// In Go either all parameters have names or none has.
fn go_parameters(items: &[&str]) -> Vec<String> {
    let is_named = |item: &&str| item.split_once(' ').is_some_and(|(name, _)| name.chars().all(char::is_alphanumeric));
    if !items.iter().any(is_named) {
        return Vec::new();
    }
    items.iter().map(|item| item.split(' ').next().unwrap_or(item).to_owned()).collect()
}

/// How many facts were found rightly, claimed wrongly, and missed.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    right: usize,
    wrong: usize,
    missed: usize,
}

impl Count {
    fn add(&mut self, other: Self) {
        self.right += other.right;
        self.wrong += other.wrong;
        self.missed += other.missed;
    }

    fn precision(self) -> f64 {
        share(self.right, self.right + self.wrong)
    }

    fn recall(self) -> f64 {
        share(self.right, self.right + self.missed)
    }
}

#[allow(clippy::cast_precision_loss, reason = "counts of facts are small")]
fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 { 1.0 } else { part as f64 / whole as f64 }
}

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/labelled").join(folder);
    let entries = fs::read_dir(folder).expect("the folder of the language");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension != "json"));
    files.sort();
    files
}

fn labels_of(file: &Path) -> Labels {
    let name = format!("{}.labels.json", file.display());
    let text = fs::read_to_string(&name).unwrap_or_else(|error| panic!("{name}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Compares each category of one file, and prints what differs.
fn compare(file: &Path, language: Language, labels: &Labels) -> [Count; 4] {
    let source = fs::read_to_string(file).expect("UTF-8");
    let name = file.file_name().and_then(|name| name.to_str()).expect("a name");
    let facts = clew::read_file(&source, language, name).expect("a small file");
    let pairs = [
        (labelled_imports(labels), read_imports(&facts)),
        (labelled_signatures(labels), read_signatures(&facts)),
        (labelled_types(labels), read_types(&source, language, name, labels)),
        (labelled_names(labels), read_names(&facts, labels)),
    ];
    let mut counts = [Count::default(); 4];
    for ((category, count), (expected, found)) in CATEGORIES.into_iter().zip(&mut counts).zip(pairs) {
        for fact in expected.difference(&found) {
            println!("{name}: {category}: missed: {fact}");
        }
        for fact in found.difference(&expected) {
            println!("{name}: {category}: wrong: {fact}");
        }
        count.right = found.intersection(&expected).count();
        count.wrong = found.len() - count.right;
        count.missed = expected.len() - count.right;
    }
    counts
}

/// Counts all files of one half, prints the table, and holds the sums of the languages to the bounds.
fn measure(split: Split) {
    let mut rows = Vec::new();
    let mut sums = [Count::default(); 4];
    for (language, folder) in LANGUAGES {
        let mut counts = [Count::default(); 4];
        let mut num_files = 0;
        for file in files(folder) {
            let labels = labels_of(&file);
            if labels.split == split {
                num_files += 1;
                let found = compare(&file, language, &labels);
                counts.iter_mut().zip(found).for_each(|(count, found)| count.add(found));
            }
        }
        assert_eq!(num_files, 4, "{folder}: half of eight files");
        sums.iter_mut().zip(counts).for_each(|(sum, count)| sum.add(count));
        rows.push((folder, counts));
    }
    rows.push(("all", sums));
    println!("\n{split:?}: language, category: right, wrong, missed, precision, recall");
    for (folder, counts) in rows {
        for (category, count) in CATEGORIES.into_iter().zip(counts) {
            let Count { right, wrong, missed } = count;
            let (precision, recall) = (100.0 * count.precision(), 100.0 * count.recall());
            println!("{folder:10} {category:10} {right:4} {wrong:4} {missed:4} {precision:6.1} % {recall:6.1} %");
        }
    }
    for (category, sum) in CATEGORIES.into_iter().zip(sums) {
        assert!(sum.precision() >= PRECISION_MIN, "{category}: precision {:.3}", sum.precision());
        assert!(sum.recall() >= RECALL_MIN, "{category}: recall {:.3}", sum.recall());
    }
}

#[test]
fn what_is_read_in_the_files_that_may_be_looked_at_is_what_a_person_reads() {
    measure(Split::Seen);
}

#[test]
fn what_is_read_in_the_files_held_out_is_what_a_person_reads() {
    measure(Split::HeldOut);
}

#[test]
fn signatures_are_taken_apart() {
    for (language, name, text, parameters, returns) in [
        (
            Language::Typescript,
            "f",
            "export async function f<T>(a: Map<K, V>, ...b: T[]): Promise<T>",
            "a b",
            "Promise<T>",
        ),
        (Language::Typescript, "f", "const f = (a = ',', b?: (x: A) => B) =>", "a b", ""),
        (Language::Typescript, "f", "const f: F<A, B> = async a =>", "a", ""),
        (Language::Typescript, "constructor", "constructor(public readonly a: number)", "a", ""),
        (
            Language::Python,
            "f",
            "async def f(self, a: dict[str, int] = {}, *, b=',', **c) -> 'T':",
            "self a b c",
            "'T'",
        ),
        (
            Language::Rust,
            "f",
            "pub fn f<F: Fn(A) -> B>(&mut self, mut a: &'a str) -> (A, B) where F: Copy",
            "self a",
            "(A, B)",
        ),
        (Language::Go, "F", "func (r *T) F(a, b int, c ...func(d) e) (x, error)", "a b c", "(x, error)"),
        (Language::Go, "F", "F(int, ...string)", "", ""),
        (Language::Zig, "f", "pub fn f(comptime T: type, a: []const T) !T", "T a", "!T"),
    ] {
        let (found, result) = taken_apart(text, name, language).expect("a signature");
        assert_eq!(found.join(" "), parameters, "{text}");
        assert_eq!(result.unwrap_or_default(), returns, "{text}");
    }
}

#[test]
fn kinds_of_values_are_told_from_a_schema() {
    let root = serde_json::json!({"$defs": {"A": {"type": "object"}}});
    for (schema, kinds) in [
        (serde_json::json!({}), "any"),
        (serde_json::json!({"$ref": "#/$defs/A"}), "object"),
        (serde_json::json!({"anyOf": [{"$ref": "#/$defs/A"}, {"type": "null"}]}), "null|object"),
        (serde_json::json!({"enum": ["a", null]}), "enum|null"),
        (serde_json::json!({"anyOf": [{"type": "string"}, {"const": "a"}]}), "string"),
        (serde_json::json!({"allOf": [{}, {"type": "integer"}]}), "integer"),
    ] {
        assert_eq!(kinds_text(schema_kinds(&schema, &root, 0)), kinds, "{schema}");
    }
}
