mod complete;
mod conflicts;
mod proofs;
mod resolution;

use proptest::prelude::{Just, ProptestConfig, Strategy as _, prop_assert_eq, proptest};
use serde_json::{Value, json};

use super::*;
use crate::constraint::{
    Constraint, ForbiddenText, Grammar, GrammarSyntax, Kind, Language, MatchMode, RegexPattern, Rule, Source, Strength,
};

fn stated(name: &str, rule: Rule) -> Constraint {
    Constraint::stated(name, Kind::Semantic, rule)
}

fn rule(value: Value) -> Rule {
    serde_json::from_value(value).expect("a well-formed rule")
}

/// A mined type; `depends_on` by index into what was made before.
fn mined(name: &str, schema: Value, depends_on: &[&Constraint]) -> Constraint {
    let mut constraint = stated(name, Rule::JsonSchema { schema });
    constraint.source = Source::TypeSystem;
    constraint.depends_on = depends_on.iter().map(|other| other.id.clone()).collect();
    constraint
}

fn set(constraints: Vec<Constraint>) -> ConstraintSet {
    ConstraintSet { constraints, ..ConstraintSet::default() }
}

fn compiled(constraints: Vec<Constraint>) -> ConstraintIr {
    all_of(constraints).ir
}

fn all_of(constraints: Vec<Constraint>) -> Compiled {
    compile(&set(constraints), &CompileOptions::default()).expect("the set compiles")
}

fn error(constraints: Vec<Constraint>, root: Option<&str>) -> BraidError {
    let options = CompileOptions { root_type: root.map(str::to_owned), ..CompileOptions::default() };
    compile(&set(constraints), &options).expect_err("the set must be refused")
}

/// One of everything that lowers, with types that depend on each other.
fn everything() -> Vec<Constraint> {
    let item = mined("Item", json!({"title": "Item", "type": "object"}), &[]);
    let customer = mined("Customer", json!({"title": "Customer", "type": "object"}), &[]);
    let order = mined(
        "Order",
        json!({"title": "Order", "type": "object", "properties": {"b": {"$ref": "#/$defs/Item"}, "a": {}}, "$defs": {"Item": {"type": "object"}}}),
        &[&item, &customer],
    );
    let mut advisory = stated("gentle", rule(json!({"type": "length", "max_chars": 5})));
    advisory.strength = Strength::Advisory;
    let mut soft = stated("soft regex", rule(json!({"type": "regex", "any_of": [{"pattern": "s"}], "match": "full"})));
    soft.strength = Strength::Soft;
    let mut language =
        stated("in ts", rule(json!({"type": "language", "language": "typescript", "granularity": "file"})));
    language.strength = Strength::Soft;
    vec![
        item,
        customer,
        order,
        stated("paid", rule(json!({"type": "json_schema", "schema": {"properties": {"b": {"type": "object"}}}}))),
        stated("lark", rule(json!({"type": "grammar", "grammar": {"syntax": "lark", "source": "start: \"a\""}}))),
        stated("ascii", rule(json!({"type": "regex", "any_of": [{"pattern": "[ -~]*"}], "match": "full"}))),
        stated("braces", rule(json!({"type": "regex", "any_of": [{"pattern": "\\{"}], "match": "prefix"}))),
        stated("no eval", rule(json!({"type": "forbidden_text", "any_of": [{"text": "eval("}, {"text": "exec("}]}))),
        stated("allow", rule(json!({"type": "tokens", "allow": [5, 3, 1, 2], "deny": [9]}))),
        stated("allow less", rule(json!({"type": "tokens", "allow": [3, 2, 8], "deny": [7, 9]}))),
        stated("short", rule(json!({"type": "length", "max_tokens": 90, "max_chars": 300}))),
        stated("shorter", rule(json!({"type": "length", "max_tokens": 80}))),
        stated("prefer", rule(json!({"type": "bias", "text": "const ", "bias": 1.5}))),
        stated("hint", rule(json!({"type": "prose", "text": "be kind"}))),
        stated("nothing", rule(json!({"type": "forbidden_text", "any_of": []}))),
        advisory,
        soft,
        language,
    ]
}

#[test]
fn each_rule_becomes_its_part() {
    let ir = compiled(everything());
    assert_eq!(ir.name, "Order");
    let masks = ir.token_masks.as_ref().expect("token rules were stated");
    assert_eq!(masks.allowed_tokens.as_deref(), Some(&[2, 3][..]));
    assert_eq!(masks.forbidden_tokens.as_deref(), Some(&[7, 9][..]));
    assert_eq!((ir.limits.max_tokens, ir.limits.max_chars), (Some(80), Some(300)));
    assert_eq!(ir.regex_patterns.len(), 2);
    assert_eq!(ir.forbidden_text, [ForbiddenText::text("eval("), ForbiddenText::text("exec(")]);
    assert_eq!(ir.soft.len(), 1);
    assert!(ir.grammar.is_some());
    assert_eq!(ir.validate(), Ok(()));
    let part_of = |name: &str| -> Vec<_> {
        ir.sources.iter().filter(|source| source.name == name).map(|source| source.part.as_str()).collect()
    };
    assert_eq!(part_of("no eval"), ["forbidden_text[0]", "forbidden_text[1]"]);
    assert_eq!(part_of("short"), ["limits.max_tokens", "limits.max_chars"]);
    assert_eq!(part_of("braces"), ["regex_patterns[1]"]);
    assert_eq!(part_of("Order"), ["json_schema"]);
    assert_eq!(ir.sources.iter().find(|source| source.name == "prefer").map(|s| s.strength), Some(Strength::Soft));
}

#[test]
fn every_constraint_is_enforced_or_says_why_not_but_never_both() {
    let constraints = everything();
    let ir = compiled(constraints.clone());
    for constraint in &constraints {
        let carried = ir.sources.iter().any(|source| source.id == constraint.id);
        let skipped = ir.not_applied.iter().chain(&ir.advisory).filter(|skipped| skipped.id == constraint.id).count();
        let lost = ir.lost.iter().filter(|lost| lost.id == constraint.id).count();
        assert_eq!(usize::from(carried) + skipped + lost, 1, "{}", constraint.name);
    }
    let why = |name: &str| {
        let id = &constraints.iter().find(|constraint| constraint.name == name).expect("stated above").id;
        ir.not_applied.iter().chain(&ir.advisory).find(|skipped| skipped.id == *id).map(|skipped| skipped.why.as_str())
    };
    assert_eq!(why("Item"), Some("part of Order"));
    assert_eq!(why("nothing"), Some("the rule demands nothing"));
    assert!(why("gentle").is_some_and(|why| why.starts_with("advisory")));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn order_of_the_set_does_not_matter(shuffled in Just(everything()).prop_shuffle()) {
        prop_assert_eq!(compiled(shuffled).digest, compiled(everything()).digest);
    }

    #[test]
    fn duplicates_and_circles_in_any_order_give_one_ir(order in Just((0..6).collect::<Vec<usize>>()).prop_shuffle()) {
        let mut a = mined("A", json!({"title": "A"}), &[]);
        let mut b = mined("B", json!({"title": "B"}), &[&a]);
        a.depends_on = vec![b.id.clone()];
        b.frequency = 3;
        let root = mined("Root", json!({"title": "Root", "type": "object"}), &[&a]);
        let mut weak = stated("weak", rule(json!({"type": "length", "max_tokens": 5})));
        weak.strength = Strength::Advisory;
        let strong = stated("strong", weak.rule.clone());
        let all = [a, b, root, weak, strong, stated("other", rule(json!({"type": "length", "max_tokens": 7})))];
        let ir = compiled(order.iter().map(|index| all[*index].clone()).collect());
        prop_assert_eq!(ir.limits.max_tokens, Some(5));
        prop_assert_eq!(ir.digest, compiled(all.to_vec()).digest);
    }
}

#[test]
fn properties_keep_their_order() {
    let one = compiled(vec![mined("A", json!({"properties": {"b": {}, "a": {}}}), &[])]);
    let other = compiled(vec![mined("A", json!({"properties": {"a": {}, "b": {}}}), &[])]);
    assert_eq!(one.json_schema, Some(json!({"properties": {"b": {}, "a": {}}})));
    assert_ne!(one.digest, other.digest);
}

#[test]
fn the_root_is_the_type_that_no_other_is_made_of_or_the_one_chosen() {
    let item = mined("Item", json!({"title": "Item"}), &[]);
    let order = mined("Order", json!({"title": "Order"}), &[&item]);
    let other = mined("Other", json!({"title": "Other"}), &[]);
    assert_eq!(compiled(vec![item.clone(), order.clone()]).name, "Order");
    let all = vec![item, order, other];
    let several = error(all.clone(), None);
    assert_eq!(several, BraidError::SeveralRoots { names: vec!["Order".to_owned(), "Other".to_owned()] });
    assert!(several.to_string().contains("--type NAME"));
    let chosen =
        compile(&set(all.clone()), &CompileOptions { root_type: Some("Item".to_owned()), ..CompileOptions::default() });
    assert_eq!(chosen.expect("Item is there").ir.json_schema, Some(json!({"title": "Item"})));
    assert!(matches!(error(all, Some("Itme")), BraidError::UnknownRoot { names, .. } if names.len() == 3));
}

#[test]
fn recursive_types_are_legal_and_reported_by_name() {
    let mut tree = mined("Tree", json!({"title": "Tree"}), &[]);
    tree.depends_on = vec![tree.id.clone()];
    assert_eq!(compiled(vec![tree.clone()]).name, "Tree");
    let mut a = mined("A", json!({"title": "A"}), &[]);
    let b = mined("B", json!({"title": "B"}), &[&a]);
    a.depends_on = vec![b.id.clone()];
    let circles = cycles(&set(vec![tree, b.clone(), a.clone()])).expect("the set is closed");
    assert_eq!(circles, [vec!["A".to_owned(), "B".to_owned()], vec!["Tree".to_owned()]]);
    assert!(matches!(error(vec![a, b], None), BraidError::SeveralRoots { .. }));
}

#[test]
fn an_advisory_type_is_never_a_root() {
    let mut vague = mined("Vague", json!({"title": "Vague"}), &[]);
    vague.strength = Strength::Advisory;
    assert_eq!(error(vec![vague.clone()], None), BraidError::AdvisoryRoot { name: "Vague".to_owned() });
    assert_eq!(error(vec![vague], Some("Vague")), BraidError::AdvisoryRoot { name: "Vague".to_owned() });
}

#[test]
fn schemas_that_bind_together_keep_their_references() {
    let root = mined(
        "Order",
        json!({"type": "object", "properties": {"item": {"$ref": "#/$defs/X"}, "$ref": {"const": "#/x"}},
               "required": ["item"], "additionalProperties": false, "$defs": {"X": {"type": "integer"}}}),
        &[],
    );
    let list = json!({"properties": {"item": {"$ref": "#/$defs/X"}}, "$defs": {"X": {"maximum": 9}}});
    let ir = compiled(vec![root, stated("small", Rule::JsonSchema { schema: list })]);
    let schema = ir.json_schema.expect("two schemas bind");
    let validator = jsonschema::validator_for(&schema).expect("a valid schema");
    assert!(validator.is_valid(&json!({"item": 9})));
    assert!(validator.is_valid(&json!({"item": 9, "$ref": "#/x"})), "a property called $ref is no reference");
    assert!(!validator.is_valid(&json!({"item": 10})));
    assert!(!validator.is_valid(&json!({"item": 1.5})));
    assert!(!validator.is_valid(&json!({"item": 9, "more": 1})));

    let anchored = rule(json!({"type": "json_schema", "schema": {"$id": "https://example.com/a"}}));
    let plain = rule(json!({"type": "json_schema", "schema": {"type": "object"}}));
    let refused = error(vec![stated("anchored", anchored), stated("plain", plain)], None);
    assert!(matches!(refused, BraidError::NotMergeable { keyword: "$id", .. }), "{refused}");
}

#[test]
fn two_grammars_are_refused_and_equal_ones_are_one() {
    let grammar = |source: &str| Rule::Grammar {
        grammar: Grammar { syntax: GrammarSyntax::Lark, source: source.to_owned(), start: None },
    };
    let both = vec![stated("one", grammar("start: \"a\"")), stated("two", grammar("start: \"b\""))];
    assert!(matches!(error(both, None), BraidError::Conflicts { .. }));
    let equal = compiled(vec![stated("one", grammar("start: \"a\"")), stated("two", grammar("start: \"a\""))]);
    assert_eq!(equal.sources.len(), 1);
}

#[test]
fn rules_about_code_need_a_language_and_become_one_part() {
    let imports = stated("imports", rule(json!({"type": "imports", "allow": ["fs"]})));
    let language = stated(
        "ts",
        Rule::Language { language: Language::Typescript, granularity: crate::constraint::Granularity::File },
    );
    assert!(matches!(error(vec![imports.clone()], None), BraidError::NeedsLanguage { rule: "imports", .. }));
    let ir = compile(&set(vec![imports, language]), &CompileOptions::default()).expect("a language is given").ir;
    let code = ir.code.expect("the output is code");
    assert_eq!(code.rules.imports.expect("a rule").allow.expect("a list"), ["fs"]);
    assert_eq!(
        ir.sources.iter().map(|source| source.part.as_str()).collect::<Vec<_>>(),
        ["code.language", "code.imports"]
    );
}

#[test]
fn payloads_that_no_part_accepts_are_refused() {
    let empty = Rule::Regex { any_of: Vec::<RegexPattern>::new(), match_mode: MatchMode::Full };
    assert!(matches!(error(vec![stated("empty", empty)], None), BraidError::Ir(_)));
    let mut dangling = stated("dangling", rule(json!({"type": "prose", "text": "x"})));
    dangling.depends_on = vec!["0123456789abcdef".to_owned()];
    assert!(matches!(error(vec![dangling], None), BraidError::UnknownDependency { .. }));
}
