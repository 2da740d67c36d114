//! The official JSON-Schema-Test-Suite, drafts 7 and 2020-12, against the masks.
//!
//! Every instance is written as JSON, split by the embedded model's tokenizer and walked through the masks token by
//! token. No invalid instance may get through. A valid one must, once its keys stand in the schema's order, as order
//! inside a schema is meaning here; what also needs another spelling of its numbers is counted apart. A schema may be
//! refused, with its place. llguidance alone judges the same files beside it.
//!
//! The files come from `scripts/fetch_json_schema_suite.sh`; without them this test fails and says so.

#![allow(clippy::print_stdout, reason = "the figures are what it is run for")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use ananke::constraint::ConstraintIr;
use ananke::guide::{CompiledConstraint, Guide, GuideConfig, GuideError, is_allowed, num_words};
use ananke::text::{ConfigFiles, Tokenizer, TokenizerConfig};
use common::repository;
use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::ApproximateTokEnv;
use llguidance::{Matcher, ParserFactory};
use serde_json::{Map, Value, json};

const DRAFTS: [(&str, &str); 2] = [
    ("draft7", "http://json-schema.org/draft-07/schema#"),
    ("draft2020-12", "https://json-schema.org/draft/2020-12/schema"),
];

/// Valid instances that the masks refuse on purpose: file, description of the group (a part of it), why.
const REFUSED_ON_PURPOSE: [(&str, &str, &str); 3] = [
    ("/format.json", "", "formats are asserted here; this file holds a validator to take them for annotations"),
    ("bignum.json", "integer", "an integer is written in digits; this one comes with an exponent"),
    ("float-overflow.json", "", "an integer is written in digits; this one comes with an exponent"),
];

#[derive(serde::Deserialize)]
struct Group {
    description: String,
    schema: Value,
    tests: Vec<Case>,
}

#[derive(serde::Deserialize)]
struct Case {
    description: String,
    data: Value,
    valid: bool,
}

/// What happened to the schemas and instances of one file.
#[derive(Clone, Copy, Default)]
struct Row {
    supported: usize,
    refused: usize,
    cases: usize,
    as_written: usize,
    in_order: usize,
    in_other_order: usize,
    respelled: usize,
    on_purpose: usize,
    valid_refused: usize,
    invalid_accepted: usize,
    alone_refused: usize,
    alone_wrong: usize,
}

impl Row {
    fn add(&mut self, other: Self) {
        let pairs: [(&mut usize, usize); 12] = [
            (&mut self.supported, other.supported),
            (&mut self.refused, other.refused),
            (&mut self.cases, other.cases),
            (&mut self.as_written, other.as_written),
            (&mut self.in_order, other.in_order),
            (&mut self.in_other_order, other.in_other_order),
            (&mut self.respelled, other.respelled),
            (&mut self.on_purpose, other.on_purpose),
            (&mut self.valid_refused, other.valid_refused),
            (&mut self.invalid_accepted, other.invalid_accepted),
            (&mut self.alone_refused, other.alone_refused),
            (&mut self.alone_wrong, other.alone_wrong),
        ];
        pairs.into_iter().for_each(|(sum, more)| *sum += more);
    }

    fn print(&self, name: &str) {
        println!(
            "{name:<44} {:>6} {:>6} {:>6} {:>6} {:>6} {:>6} {:>6} {:>6} {:>6} {:>6} | {:>6} {:>6}",
            self.supported,
            self.refused,
            self.cases,
            self.as_written,
            self.in_order,
            self.in_other_order,
            self.respelled,
            self.on_purpose,
            self.valid_refused,
            self.invalid_accepted,
            self.alone_refused,
            self.alone_wrong
        );
    }
}

struct Suite {
    guide: Guide,
    tokenizer: Tokenizer,
    alone: ParserFactory,
}

impl Suite {
    fn new() -> Self {
        let folder = repository("models/ananke-nano");
        let read = |name: &str| std::fs::read(folder.join(name)).expect("the embedded model is in the repository");
        let files = [read("config.json"), read("tokenizer_config.json"), read("generation_config.json")];
        let files = ConfigFiles {
            config: Some(&files[0]),
            tokenizer_config: Some(&files[1]),
            generation_config: Some(&files[2]),
            ..ConfigFiles::default()
        };
        let config = TokenizerConfig::from_files(&files).expect("the model's files agree");
        let tokenizer = Tokenizer::from_json(&read("tokenizer.json"), config).expect("the tokenizer loads");
        let guide = Guide::new(Arc::clone(tokenizer.vocabulary()), GuideConfig::default()).expect("a guide");
        let mut alone = ParserFactory::new_simple(&ApproximateTokEnv::single_byte_env()).expect("a factory");
        alone.quiet();
        Self { guide, tokenizer, alone }
    }

    fn compile(&self, schema: &Value) -> Result<Option<Arc<CompiledConstraint>>, GuideError> {
        let ir: ConstraintIr = serde_json::from_value(json!({"json_schema": schema})).expect("an IR");
        match self.guide.compile(&[ir]) {
            Ok(compiled) => Ok(Some(compiled)),
            // Nothing is valid: every instance is refused.
            Err(GuideError::Unsatisfiable { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn accepts(&self, compiled: Option<&Arc<CompiledConstraint>>, text: &str) -> bool {
        let Some(compiled) = compiled else { return false };
        let mut matcher = compiled.matcher(b"").expect("a matcher");
        let mut row = vec![0; num_words(self.tokenizer.vocabulary().num_rows())];
        for token in self.tokenizer.encode(text, false).expect("text has tokens") {
            if matcher.fill(&mut row).is_err() || !is_allowed(&row, token) {
                return false;
            }
            matcher.accept(token).expect("the mask allows it");
        }
        matcher.is_complete().expect("a live matcher")
    }

    /// llguidance by itself, with its defaults: `None` where it refuses the schema.
    fn alone(&self, schema: &Value) -> Option<Matcher> {
        let grammar = TopLevelGrammar::from_json_schema(schema.clone());
        self.alone.create_parser(grammar).ok().map(|parser| Matcher::new(Ok(parser)))
    }

    fn run(&self, file: &str, group: &Group, schema: &Value, failures: &mut Vec<String>) -> Row {
        let mut row = Row { cases: group.tests.len(), ..Row::default() };
        self.run_alone(group, schema, &mut row);
        let compiled = match self.compile(schema) {
            Ok(compiled) => compiled,
            Err(error @ (GuideError::UnsupportedSchema { .. } | GuideError::TooLarge { .. })) => {
                if std::env::var_os("SUITE_REFUSALS").is_some() {
                    println!("{file}: {}: {error}", group.description);
                }
                row.refused = 1;
                return row;
            }
            Err(error) => {
                failures.push(format!("{file}: {}: {error}\n  {schema}", group.description));
                return row;
            }
        };
        row.supported = 1;
        for case in &group.tests {
            self.judge(file, group, schema, compiled.as_ref(), case, &mut row, failures);
        }
        row
    }

    #[expect(clippy::too_many_arguments, reason = "a case and where it goes")]
    fn judge(
        &self,
        file: &str,
        group: &Group,
        schema: &Value,
        compiled: Option<&Arc<CompiledConstraint>>,
        case: &Case,
        row: &mut Row,
        failures: &mut Vec<String>,
    ) {
        let ordered = in_schema_order(schema, &case.data);
        let plain = respelled(&ordered);
        let accepts = |value: &Value| self.accepts(compiled, &value.to_string());
        let complain = |what: &str, failures: &mut Vec<String>| {
            failures.push(format!(
                "{file}: {}: {}: {what}: {}\n  {schema}",
                group.description, case.description, case.data
            ));
        };
        if !case.valid {
            if [&case.data, &ordered, &plain].into_iter().any(accepts) {
                row.invalid_accepted += 1;
                complain("invalid and accepted", failures);
            }
            return;
        }
        if accepts(&case.data) {
            row.as_written += 1;
        } else if accepts(&ordered) {
            row.in_order += 1;
        } else if accepts(&plain) {
            row.respelled += 1;
        } else if orders(&plain).iter().any(accepts) {
            row.in_other_order += 1;
            complain("valid and accepted in another order only", failures);
        } else if REFUSED_ON_PURPOSE
            .iter()
            .any(|(name, part, _)| file.ends_with(name) && group.description.contains(part))
        {
            row.on_purpose += 1;
        } else {
            row.valid_refused += 1;
            complain("valid and refused", failures);
        }
    }

    fn run_alone(&self, group: &Group, schema: &Value, row: &mut Row) {
        let Some(matcher) = self.alone(schema) else {
            row.alone_refused = 1;
            return;
        };
        for case in &group.tests {
            let plain = respelled(&in_schema_order(schema, &case.data));
            let accepts = |value: &Value| {
                let mut matcher = matcher.deep_clone();
                let tokens: Vec<u32> = value.to_string().bytes().map(u32::from).collect();
                matcher.try_consume_tokens(&tokens).is_ok_and(|num| num == tokens.len())
                    && matcher.is_accepting().unwrap_or(false)
            };
            let accepted = accepts(&case.data) || accepts(&plain);
            row.alone_wrong += usize::from(accepted != case.valid);
        }
    }
}

/// The instance with its keys in the order in which the schema names them, all the way down.
fn in_schema_order(root: &Value, instance: &Value) -> Value {
    reorder(root, instance, &[root])
}

fn reorder(root: &Value, instance: &Value, schemas: &[&Value]) -> Value {
    let mut flat = Vec::new();
    for schema in schemas {
        flatten(root, schema, &mut flat);
    }
    match instance {
        Value::Object(members) => {
            let named = |keyword| move |schema: &&Map<String, Value>| schema.get(keyword).cloned();
            let mut order: Vec<String> = Vec::new();
            for members in flat.iter().filter_map(named("properties")) {
                order.extend(members.as_object().into_iter().flat_map(|members| members.keys().cloned()));
            }
            for constant in flat.iter().flat_map(|schema| {
                schema
                    .get("const")
                    .into_iter()
                    .chain(schema.get("enum").into_iter().filter_map(Value::as_array).flatten())
            }) {
                order.extend(constant.as_object().into_iter().flat_map(|members| members.keys().cloned()));
            }
            for names in flat.iter().filter_map(named("required")) {
                order.extend(names.as_array().into_iter().flatten().filter_map(Value::as_str).map(ToOwned::to_owned));
            }
            for dependents in ["dependentRequired", "dependencies", "dependentSchemas"] {
                for members in flat.iter().filter_map(named(dependents)) {
                    for (name, needed) in members.as_object().into_iter().flatten() {
                        order.push(name.clone());
                        order.extend(
                            needed.as_array().into_iter().flatten().filter_map(Value::as_str).map(ToOwned::to_owned),
                        );
                    }
                }
            }
            let rank = |name: &str| order.iter().position(|known| known == name).unwrap_or(usize::MAX);
            let mut names: Vec<&String> = members.keys().collect();
            names.sort_by_key(|name| rank(name));
            let inner = |name: &str| -> Vec<&Value> {
                let own = |schema: &&Map<String, Value>| {
                    schema.get("properties").and_then(|members| members.get(name)).is_some()
                };
                flat.iter()
                    .flat_map(|schema| {
                        let found = schema.get("properties").and_then(|members| members.get(name));
                        let patterns = schema.get("patternProperties").and_then(Value::as_object);
                        let rest = schema.get("additionalProperties").filter(|_| !own(schema));
                        found.into_iter().chain(patterns.into_iter().flat_map(|members| members.values())).chain(rest)
                    })
                    .collect()
            };
            names.into_iter().map(|name| (name.clone(), reorder(root, &members[name], &inner(name)))).collect()
        }
        Value::Array(items) => {
            let inner = |idx: usize| -> Vec<&Value> {
                flat.iter()
                    .flat_map(|schema| {
                        let prefix =
                            schema.get("prefixItems").or_else(|| schema.get("items").filter(|items| items.is_array()));
                        let own = prefix.and_then(|prefix| prefix.get(idx));
                        let rest = schema
                            .get("items")
                            .filter(|items| !items.is_array())
                            .or_else(|| schema.get("additionalItems"));
                        own.or(rest).into_iter().chain(schema.get("contains"))
                    })
                    .collect()
            };
            items.iter().enumerate().map(|(idx, item)| reorder(root, item, &inner(idx))).collect()
        }
        other => other.clone(),
    }
}

/// A schema and those it applies in place, in the order in which they name properties.
fn flatten<'a>(root: &'a Value, schema: &'a Value, found: &mut Vec<&'a Map<String, Value>>) {
    let Value::Object(schema) = schema else { return };
    if found.iter().any(|known| std::ptr::eq(*known, schema)) {
        return;
    }
    let place = found.len();
    found.push(schema);
    let mut has_named = false;
    for (keyword, value) in schema {
        has_named |= keyword == "properties";
        let before = found.len();
        match keyword.as_str() {
            "allOf" | "anyOf" | "oneOf" => {
                value.as_array().into_iter().flatten().for_each(|schema| flatten(root, schema, found));
            }
            "$ref" => {
                let target = value.as_str().and_then(|reference| reference.strip_prefix('#'));
                let target = target.and_then(|pointer| root.pointer(pointer));
                target.into_iter().for_each(|schema| flatten(root, schema, found));
            }
            _ => {}
        }
        // What is applied before the schema's own properties comes before them.
        if !has_named && schema.contains_key("properties") && found.len() > before {
            let place = found.iter().position(|known| std::ptr::eq(*known, schema)).unwrap_or(place);
            found[place..].rotate_left(1);
        }
    }
    for keyword in ["if", "then", "else", "not"] {
        schema.get(keyword).into_iter().for_each(|schema| flatten(root, schema, found));
    }
    for keyword in ["dependentSchemas", "dependencies"] {
        let members = schema.get(keyword).and_then(Value::as_object);
        members.into_iter().flatten().for_each(|(_, schema)| flatten(root, schema, found));
    }
}

/// The same numbers as a mask lets them through: integers without a point, others without an exponent.
fn respelled(value: &Value) -> Value {
    match value {
        Value::Number(number) => match number.as_f64() {
            Some(float) if float.fract() == 0.0 && float.abs() <= 9_007_199_254_740_992.0 => json!(float as i64),
            _ => value.clone(),
        },
        Value::Array(items) => items.iter().map(respelled).collect(),
        Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), respelled(value))).collect(),
        other => other.clone(),
    }
}

/// The instance with the keys of its outermost object in every order, for at most five of them.
fn orders(value: &Value) -> Vec<Value> {
    let Value::Object(members) = value else { return Vec::new() };
    if members.len() > 5 {
        return Vec::new();
    }
    let mut orders: Vec<Vec<&String>> = vec![Vec::new()];
    for _ in 0..members.len() {
        orders = orders
            .into_iter()
            .flat_map(|order| {
                let left = members.keys().filter(|name| !order.contains(name)).collect::<Vec<_>>();
                left.into_iter().map(move |name| order.iter().copied().chain([name]).collect())
            })
            .collect();
    }
    orders
        .into_iter()
        .map(|order| order.into_iter().map(|name| (name.clone(), members[name].clone())).collect())
        .collect()
}

fn files(draft: &str) -> Vec<(String, Vec<Group>)> {
    let folder = repository("tests/data/json_schema_suite").join(draft);
    let mut found = Vec::new();
    for part in ["", "optional/", "optional/format/"] {
        let entries = std::fs::read_dir(folder.join(part))
            .unwrap_or_else(|_| panic!("{} is missing; run scripts/fetch_json_schema_suite.sh", folder.display()));
        for entry in entries {
            let name = entry.expect("a file").file_name().into_string().expect("a name");
            if name.ends_with(".json") {
                let bytes = std::fs::read(folder.join(part).join(&name)).expect("a file");
                // Lone surrogates and numbers beyond f64 have no value here.
                if let Ok(groups) = serde_json::from_slice(&bytes) {
                    found.push((format!("{draft}/{part}{name}"), groups));
                }
            }
        }
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    found
}

#[test]
fn no_invalid_instance_gets_through_and_every_valid_one_does() {
    let work = || {
        let suite = Suite::new();
        let mut failures = Vec::new();
        let mut all = Row::default();
        let mut by_keyword: BTreeMap<String, Row> = BTreeMap::new();
        println!(
            "columns: schemas supported, refused; instances; valid ones as written, in schema order, in another order,"
        );
        println!(
            "with numbers respelled, refused on purpose, refused; invalid ones accepted | llguidance alone: schemas refused,"
        );
        println!("instances wrong");
        let only = std::env::var("SUITE_ONLY").unwrap_or_default();
        for (draft, name) in DRAFTS {
            for (file, groups) in files(draft).into_iter().filter(|(file, _)| file.contains(&only)) {
                let row = by_keyword.entry(file.clone()).or_default();
                for group in groups {
                    let mut schema = group.schema.clone();
                    if let Value::Object(schema) = &mut schema {
                        schema.entry("$schema").or_insert_with(|| json!(name));
                    }
                    row.add(suite.run(&file, &group, &schema, &mut failures));
                }
                row.print(&file);
                all.add(*row);
            }
        }
        all.print("all");
        for failure in failures.iter().take(200) {
            println!("{failure}");
        }
        assert!(failures.is_empty(), "{} failures", failures.len());
        assert!(all.refused < all.alone_refused || !only.is_empty(), "llguidance alone refuses {}", all.alone_refused);
    };
    // llguidance recurses over a schema when it is alone, too.
    std::thread::Builder::new().stack_size(256 << 20).spawn(work).expect("a thread").join().expect("the suite holds");
}
