//! Clew's schemas of Rust types against serde itself: what serde writes is valid under the mined schema, and what the
//! schema accepts serde reads.
#![allow(clippy::print_stdout, reason = "counts are printed for people")]

use std::collections::{BTreeMap, HashMap, HashSet};

use ananke::clew;
use ananke::constraint::{Language, Rule, Strength};
use jsonschema::Validator;
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

#[allow(
    dead_code,
    unreachable_pub,
    reason = "a file of a library as it would be written, whose fields are only written and read"
)]
#[path = "data/clew/serde_types.rs"]
mod serde_types;

use serde_types::*;

const SOURCE: &str = include_str!("data/clew/serde_types.rs");

fn validator(name: &str) -> Validator {
    let set = clew::extract(SOURCE, Language::Rust, "serde_types.rs").expect("Rust is read");
    let constraint = set.find(name).unwrap_or_else(|| panic!("no constraint for {name}"));
    let Rule::JsonSchema { schema } = &constraint.rule else { panic!("{name} is a schema") };
    assert_eq!(constraint.strength, Strength::Hard, "{name}: {:?}", set.diagnostics);
    jsonschema::options().should_validate_formats(true).build(schema).expect("a valid schema")
}

/// Mutated values that schema and serde accept, that both refuse, that only the schema refuses.
type Tally = (usize, usize, usize);

/// Checks a type against serde with these values and mutations of them.
fn check<T: Serialize + DeserializeOwned>(tally: &mut Tally, name: &str, values: &[T]) {
    let validator = validator(name);
    for value in values {
        let written = serde_json::to_value(value).expect("a value serde can write");
        let error = validator.validate(&written).err().map(|error| error.to_string());
        assert_eq!(error, None, "{name}: what serde writes: {written}");
        for mutated in mutations(&written) {
            let read = serde_json::from_value::<T>(mutated.clone());
            match (validator.is_valid(&mutated), read) {
                (true, Err(error)) => panic!("{name}: the schema accepts {mutated}, serde says {error}"),
                (true, Ok(_)) => tally.0 += 1,
                (false, Err(_)) => tally.1 += 1,
                // A field too many, an alias: a schema may accept less.
                (false, Ok(_)) => tally.2 += 1,
            }
        }
    }
}

/// Every value that differs in one place: another value there, a field more or less, an item more or less.
fn mutations(value: &Value) -> Vec<Value> {
    let others = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(1.5),
        json!(255),
        json!(256),
        json!(65_536),
        json!(-129),
        json!(4_294_967_296_u64),
        json!(u64::MAX),
        json!(""),
        json!("a"),
        json!("NORMAL-USER"),
        json!("started"),
        json!([]),
        json!({}),
        json!({"x": 1.0, "y": 2.0}),
    ];
    let mut mutated = others.to_vec();
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                let with = |inner: Option<Value>| {
                    let mut map = map.clone();
                    match inner {
                        Some(inner) => _ = map.insert(key.clone(), inner),
                        None => _ = map.remove(key),
                    }
                    Value::Object(map)
                };
                mutated.push(with(None));
                mutated.extend(mutations(inner).into_iter().map(|inner| with(Some(inner))));
            }
            for extra in ["extra", "7", "300", "x"] {
                for inner in [json!(true), json!("a"), json!(1)] {
                    let mut map = map.clone();
                    map.insert(extra.to_owned(), inner);
                    mutated.push(Value::Object(map));
                }
            }
        }
        Value::Array(items) => {
            for (index, inner) in items.iter().enumerate() {
                mutated.extend(mutations(inner).into_iter().map(|inner| {
                    let mut items = items.clone();
                    items[index] = inner;
                    Value::Array(items)
                }));
            }
            let mut longer = items.clone();
            longer.extend(items.last().cloned());
            mutated.push(Value::Array(longer));
            mutated.push(Value::Array(items.iter().skip(1).cloned().collect()));
        }
        _ => {}
    }
    mutated
}

fn person(name: &str, kind: Kind, manager: Option<Person>) -> Person {
    Person {
        full_name: name.to_owned(),
        age: 41,
        nick_names: vec!["a".to_owned()],
        e_mail: None,
        kind,
        cached: 3,
        manager: manager.map(Box::new),
    }
}

#[test]
fn schemas_agree_with_serde() {
    let mut tally = (0, 0, 0);
    let point = Point { x: 0.5, y: -2.0 };
    let boss = person("Ada", Kind::Admin, None);
    check(&mut tally, "Person", &[boss.clone(), person("Grace", Kind::NormalUser, Some(boss.clone()))]);
    check(&mut tally, "Kind", &[Kind::NormalUser, Kind::Admin]);
    check(
        &mut tally,
        "Shape",
        &[Shape::Nothing, Shape::Circle(1.5), Shape::Line(-1, i32::MAX), Shape::Box { width: 0, height: 65_535 }],
    );
    let joined = Event::UserJoined { user_name: "a".to_owned(), at_second: u64::MAX };
    check(&mut tally, "Event", &[Event::Started, joined, Event::Moved(point.clone())]);
    check(
        &mut tally,
        "Message",
        &[Message::Ping, Message::Text("a".to_owned()), Message::Pair(-128, 127), Message::Form { id: 0 }],
    );
    check(&mut tally, "Loose", &[Loose::Number(i64::MAX), Loose::Text(String::new()), Loose::Point(point.clone())]);
    check(&mut tally, "Point", std::slice::from_ref(&point));
    check(&mut tally, "Meters", &[Meters(1.0)]);
    check(&mut tally, "Wrapper", &[Wrapper { inner: vec![Meters(1.0), Meters(2.0)] }]);
    check(&mut tally, "Pair", &[Pair("a".to_owned(), true)]);
    check(&mut tally, "Unit", &[Unit]);
    check(
        &mut tally,
        "People",
        &[Page { items: vec![boss.clone()], next: Some(3) }, Page { items: vec![], next: None }],
    );
    check(&mut tally, "Settings", &[Settings::default(), Settings { verbose: true, level: -1, initial: 'é' }]);
    check(&mut tally, "Open", &[Open { id: 7, rest: BTreeMap::from([("a".to_owned(), true)]) }]);
    let leaf = Tree { value: Kind::Admin, children: Vec::new() };
    let everything = Everything {
        first: -(1 << 62),
        settings: Settings { verbose: true, level: 3, initial: 'x' },
        point: Some(point),
        tree: Tree { value: Kind::NormalUser, children: vec![leaf] },
        people: Page { items: vec![boss], next: None },
        by_number: HashMap::from([(7, "seven".to_owned())]),
        by_name: BTreeMap::from([("a".to_owned(), Box::new(Shape::Circle(2.0)))]),
        set: HashSet::from([-128]),
        triple: [0, 1, 255],
        tuple: (true, Some(65_535)),
        outcome: Err("no".to_owned()),
        huge: u64::MAX,
        unit: Unit,
    };
    let without = Everything { point: None, outcome: Ok(0), ..everything.clone() };
    check(&mut tally, "Everything", &[everything, without]);
    println!("mutations: {} accepted, {} refused by both, {} refused by the schema alone", tally.0, tally.1, tally.2);
    assert!(tally.0 > 100 && tally.1 > 1_000, "too few mutations decide anything: {tally:?}");
}

#[test]
fn what_is_only_written_is_valid_as_it_is_written() {
    let validator = validator("Written");
    for note in [None, Some("a".to_owned())] {
        let written = serde_json::to_value(Written { value: 3, note }).expect("a value serde can write");
        assert!(validator.is_valid(&written), "{written}");
    }
    assert!(!validator.is_valid(&json!({"in": 3})));
    assert!(!validator.is_valid(&json!({"out": 128})));
}

#[test]
fn what_code_decides_is_only_advisory() {
    let set = clew::extract(SOURCE, Language::Rust, "serde_types.rs").expect("Rust is read");
    for name in ["Plain", "Odd"] {
        assert_eq!(set.find(name).map(|constraint| constraint.strength), Some(Strength::Advisory), "{name}");
    }
}

fn arbitrary_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-300_i64..300).prop_map(Value::from),
        "[a-z]{0,3}".prop_map(Value::from),
        prop::sample::select(vec!["started", "user_joined", "moved", "Ping", "Text", "Pair", "root"])
            .prop_map(Value::from),
    ];
    let key =
        prop::sample::select(vec!["kind", "t", "c", "x", "y", "id", "user-name", "at-second", "width", "Line", "Box"]);
    leaf.prop_recursive(3, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..4)
                .prop_map(|entries| entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn serde_reads_whatever_the_schemas_accept(value in arbitrary_json()) {
        fn sound<T: DeserializeOwned>(validator: &Validator, value: &Value) -> bool {
            !validator.is_valid(value) || serde_json::from_value::<T>(value.clone()).is_ok()
        }
        thread_local! {
            static VALIDATORS: Vec<Validator> = ["Event", "Message", "Loose", "Shape", "Point"].map(validator).into();
        }
        VALIDATORS.with(|validators| {
            let [event, message, loose, shape, point] = &validators[..] else { unreachable!("five are made") };
            prop_assert!(sound::<Event>(event, &value), "{value}");
            prop_assert!(sound::<Message>(message, &value), "{value}");
            prop_assert!(sound::<Loose>(loose, &value), "{value}");
            prop_assert!(sound::<Shape>(shape, &value), "{value}");
            prop_assert!(sound::<Point>(point, &value), "{value}");
            Ok(())
        })?;
    }
}
