use serde_json::json;

use super::super::{Action, Conflict, Joint, Outcome, Resolution, Strategy, compile_judged};
use super::{all_of, rule, set, stated};
use crate::braid::{BraidError, CompileOptions, Compiled, compile};
use crate::constraint::{Constraint, ConstraintIr, Origin, Priority, Severity, Source};

fn regex(pattern: &str) -> crate::constraint::Rule {
    rule(json!({"type": "regex", "any_of": [{"pattern": pattern}], "match": "full"}))
}

fn mined(name: &str, pattern: &str) -> Constraint {
    Constraint {
        source: Source::AstPattern,
        severity: Severity::Warning,
        priority: Priority::Low,
        ..stated(name, regex(pattern))
    }
}

fn with(constraints: &[Constraint], options: &CompileOptions) -> Result<Compiled, BraidError> {
    compile(&set(constraints.to_vec()), options)
}

fn loser(constraints: &[Constraint]) -> String {
    let compiled = all_of(constraints.to_vec());
    let turned = all_of(constraints.iter().rev().cloned().collect());
    assert_eq!(compiled.ir.digest, turned.ir.digest, "order matters");
    let [lost] = &compiled.ir.lost[..] else { panic!("{:?}", compiled.ir.lost) };
    constraints.iter().find(|constraint| constraint.id == lost.id).expect("it is in the set").name.clone()
}

#[test]
fn the_weaker_one_yields() {
    let strong = mined("strong", "[a-z]+");
    let weak = mined("weak", "[0-9]+");
    assert_eq!(loser(&[stated("stated", regex("[A-Z]+")), strong.clone()]), "strong");
    let origin = |line| Some(Origin { file: "a.ts".to_owned(), line, column: 1 });
    let cases = [
        (
            Constraint { severity: Severity::Error, priority: Priority::Low, ..strong.clone() },
            Constraint { priority: Priority::Critical, ..weak.clone() },
        ),
        (Constraint { priority: Priority::Medium, confidence: 0.1, ..strong.clone() }, weak.clone()),
        (
            Constraint { confidence: 0.9, origin: origin(9), ..strong.clone() },
            Constraint { confidence: 0.8, origin: origin(1), ..weak.clone() },
        ),
        (Constraint { origin: origin(1), ..strong.clone() }, Constraint { origin: origin(2), ..weak.clone() }),
        (Constraint { origin: origin(7), ..strong.clone() }, weak.clone()),
    ];
    for (strong, weak) in cases {
        assert_eq!(loser(&[strong, weak]), "weak");
    }
    let (first, second) = if strong.id < weak.id { (strong, weak) } else { (weak, strong) };
    assert_eq!(loser(&[first, second.clone()]), second.name);
}

#[test]
fn what_is_soft_or_advisory_never_conflicts() {
    use crate::constraint::Strength;
    for strength in [Strength::Soft, Strength::Advisory] {
        let gentle = Constraint { strength, ..stated("gentle", regex("[0-9]+")) };
        let compiled = all_of(vec![stated("stated", regex("[a-z]+")), gentle]);
        assert!(compiled.ir.lost.is_empty() && compiled.conflicts.is_empty());
    }
}

#[test]
fn stated_rules_in_conflict_are_refused_by_name() {
    let set = [stated("letters", regex("[a-z]+")), stated("digits", regex("[0-9]+")), mined("free", "[a-z0-9]+")];
    let Err(error @ BraidError::Conflicts { .. }) = with(&set, &CompileOptions::default()) else { panic!("refused") };
    let text = error.to_string();
    assert!(text.contains("`letters`") && text.contains("`digits`") && !text.contains("`free`"), "{text}");
    assert!(text.contains(&set[0].id) && text.contains("no text satisfies both"), "{text}");
}

#[test]
fn refuse_refuses_everything() {
    let set = [stated("letters", regex("[a-z]+")), mined("digits", "[0-9]+"), mined("dots", "\\.+")];
    let options = CompileOptions { strategy: Strategy::Refuse, ..CompileOptions::default() };
    let Err(BraidError::Conflicts { conflicts }) = with(&set, &options) else { panic!("refused") };
    assert_eq!(conflicts.len(), 2);
    let narrowing = [
        stated("allow", rule(json!({"type": "tokens", "allow": [1, 2]}))),
        stated("deny", rule(json!({"type": "tokens", "deny": [1]}))),
    ];
    let compiled = with(&narrowing, &options).expect("both hold");
    assert!(matches!(&compiled.conflicts[..], [Conflict { outcome: Outcome::AllHold, .. }]));
}

fn suggest(between: &[&Constraint], action: Action) -> Resolution {
    Resolution {
        between: between.iter().map(|constraint| constraint.id.clone()).collect(),
        action,
        by: "a model".to_owned(),
    }
}

/// Compiles with one suggestion; says why it was not taken, if it was not.
fn assisted(constraints: &[Constraint], resolution: Resolution) -> (Compiled, Option<String>) {
    let options = CompileOptions { resolutions: vec![resolution], ..CompileOptions::default() };
    let compiled = with(constraints, &options).expect("nothing stated is in conflict");
    let [ruling] = &compiled.rulings[..] else { panic!("{:?}", compiled.rulings) };
    let refused = ruling.refused.clone();
    (compiled, refused)
}

#[test]
fn suggestions_are_taken_where_they_settle_a_conflict() {
    let strong = Constraint { severity: Severity::Error, ..mined("strong", "[a-z]+") };
    let weak = mined("weak", "[0-9]+");
    let both = [strong.clone(), weak.clone()];
    let carries = |compiled: &Compiled, pattern: &str| {
        compiled.ir.regex_patterns.iter().map(|group| &*group.any_of[0].pattern).collect::<Vec<_>>() == [pattern]
    };

    let (compiled, refused) = assisted(&both, suggest(&[&strong, &weak], Action::Disable(strong.id.clone())));
    assert!(refused.is_none() && carries(&compiled, "[0-9]+"));
    assert!(compiled.ir.lost[0].id == strong.id && compiled.ir.lost[0].why.contains("a model suggests"));

    let merge = Action::Merge { into: regex("[a-z0-9]+") };
    let (compiled, refused) = assisted(&both, suggest(&[&weak, &strong], merge));
    assert!(refused.is_none() && carries(&compiled, "[a-z0-9]+"));
    assert_eq!(compiled.ir.lost.len(), 2);

    let keep = Action::Merge { into: strong.rule.clone() };
    let (compiled, refused) = assisted(&both, suggest(&[&weak, &strong], keep));
    assert!(refused.is_none() && carries(&compiled, "[a-z]+"));
    assert_eq!(compiled.ir.lost.len(), 1);

    let modify = Action::Modify { id: weak.id.clone(), rule: regex("[0-9a-z]+") };
    let (compiled, refused) = assisted(&both, suggest(&[&weak, &strong], modify));
    assert!(refused.is_none());
    assert_eq!((compiled.ir.regex_patterns.len(), compiled.ir.lost.len()), (2, 1));
    assert_eq!(compiled.order.len(), 3);
}

#[test]
fn wrong_suggestions_are_reported_and_priority_decides() {
    let law = stated("law", regex("[a-z]+"));
    let weak = mined("weak", "[0-9]+");
    let free = mined("free", "[a-z0-9]+");
    let all = [law.clone(), weak.clone(), free.clone()];
    let wrong = [
        (suggest(&[&law, &weak], Action::Disable(law.id.clone())), "stated as hard"),
        (suggest(&[&law, &weak], Action::Modify { id: law.id.clone(), rule: regex("[a-z0-9]+") }), "stated as hard"),
        (suggest(&[&law, &weak], Action::Modify { id: weak.id.clone(), rule: regex("[.]+") }), "the conflict remains"),
        (suggest(&[&law, &weak], Action::Merge { into: regex("[0-9]*[0-9]") }), "the conflict remains"),
        (suggest(&[&law, &weak], Action::Merge { into: regex("[a-z][") }), "cannot be read"),
        (suggest(&[&law, &weak], Action::Disable(free.id.clone())), "not in the conflict"),
        (suggest(&[&law, &free], Action::Disable(free.id.clone())), "in no conflict"),
        (
            suggest(
                &[&law, &weak],
                Action::Merge { into: rule(json!({"type": "regex", "any_of": [], "match": "full"})) },
            ),
            "no pattern",
        ),
    ];
    for (resolution, why) in wrong {
        let (compiled, refused) = assisted(&all, resolution.clone());
        assert!(refused.as_deref().is_some_and(|refused| refused.contains(why)), "{resolution:?}: {refused:?}");
        assert_eq!(compiled.ir.lost.iter().map(|lost| &lost.id).collect::<Vec<_>>(), [&weak.id]);
    }
}

#[test]
fn suggestions_are_read_from_json() {
    let read: Vec<Resolution> = serde_json::from_value(json!([
        {"between": ["a", "b"], "action": {"disable": "a"}, "by": "me"},
        {"between": ["a", "b"], "action": {"merge": {"into": {"type": "prose", "text": "x"}}}, "by": "me"},
        {"between": ["a", "b"], "action": {"modify": {"id": "a", "rule": {"type": "prose", "text": "x"}}}, "by": "me"},
    ]))
    .expect("three resolutions");
    assert_eq!(read.len(), 3);
    assert!(serde_json::from_value::<Resolution>(json!({"between": [], "action": {"drop": "a"}, "by": ""})).is_err());
}

/// Judges as the guide would: the grammar and the three-letter pattern have nothing in common.
fn judge(ir: &ConstraintIr) -> Joint {
    let group = ir.regex_patterns.iter().position(|group| group.any_of[0].pattern == "[a-z]{3}");
    match (&ir.grammar, group) {
        (Some(_), Some(group)) => {
            Joint::Empty { parts: vec!["constraints[0].grammar".to_owned(), format!("regex_patterns[{group}]")] }
        }
        (None, _) => Joint::Unknown,
        (Some(_), None) => Joint::Satisfiable,
    }
}

#[test]
fn what_the_guide_proves_empty_is_settled_among_its_parts() {
    let grammar =
        stated("digits", rule(json!({"type": "grammar", "grammar": {"syntax": "lark", "source": "start: /[0-9]+/"}})));
    let letters = mined("letters", "[a-z]{3}");
    let free = mined("free", "[a-z0-9]+");
    let all = set(vec![grammar.clone(), letters.clone(), free]);
    let compiled = compile_judged(&all, &CompileOptions::default(), &judge).expect("letters yield");
    assert_eq!(compiled.ir.lost.iter().map(|lost| &lost.id).collect::<Vec<_>>(), [&letters.id]);
    assert_eq!(compiled.ir.lost[0].to, std::slice::from_ref(&grammar.id));
    assert!(compiled.ir.lost[0].why.contains("proven"), "{}", compiled.ir.lost[0].why);

    let stated = set(vec![grammar.clone(), stated("letters", letters.rule.clone())]);
    let error = compile_judged(&stated, &CompileOptions::default(), &judge).expect_err("both are stated");
    assert!(matches!(error, BraidError::Conflicts { .. }), "{error}");

    let options = CompileOptions {
        resolutions: vec![suggest(&[&grammar, &letters], Action::Disable(letters.id.clone()))],
        ..CompileOptions::default()
    };
    let compiled = compile_judged(&all, &options, &judge).expect("as suggested");
    assert_eq!(compiled.rulings[0].refused, None);

    // A judge that never stops, or names parts that nobody carries, is not followed for ever.
    let stubborn = |_: &ConstraintIr| Joint::Empty { parts: vec!["regions".to_owned()] };
    let compiled = compile_judged(&all, &CompileOptions::default(), &stubborn).expect("nothing to settle");
    assert_eq!(compiled.joint, Joint::Empty { parts: vec!["regions".to_owned()] });
}

/// Whether `needle` is forbidden, as one of many.
fn forbids(ir: &ConstraintIr, needle: &str) -> bool {
    ir.forbidden_text.iter().any(|forbidden| forbidden.text.as_deref() == Some(needle))
}

/// Judges as the guide would: a grammar of `x`, `y` or `z` has nothing left where all three are forbidden. It names parts,
/// and forbidden text is one part whatever is in it.
fn judge_of_three(ir: &ConstraintIr) -> Joint {
    match ir.grammar.is_some() && ["x", "y", "z"].iter().all(|needle| forbids(ir, needle)) {
        true => Joint::Empty { parts: vec!["grammar".to_owned(), "forbidden_text".to_owned()] },
        false => Joint::Unknown,
    }
}

#[test]
fn a_joint_conflict_names_only_those_it_takes() {
    let forbidden = |text: &str| rule(json!({"type": "forbidden_text", "any_of": [{"text": text}]}));
    let grammar = |constraint: Constraint| Constraint { name: "grammar".to_owned(), ..constraint };
    let source = json!({"type": "grammar", "grammar": {"syntax": "lark", "source": "start: /[xyz]/"}});
    let grammar = grammar(stated("grammar", rule(source)));
    let weak = |text: &str| Constraint {
        source: Source::AstPattern,
        severity: Severity::Warning,
        priority: Priority::Low,
        ..stated(text, forbidden(text))
    };
    let strong = |text: &str| Constraint { priority: Priority::High, ..weak(text) };
    // Twenty that have nothing to do with it, some weaker than those that have.
    let others = (0..20).map(|number| Constraint { confidence: 0.5, ..weak(&format!("other {number}")) });
    let mined = [strong("x"), strong("y"), weak("z")];
    let all = set(others.chain(mined.clone()).chain([grammar.clone()]).collect());
    let compiled = compile_judged(&all, &CompileOptions::default(), &judge_of_three).expect("z yields");
    let lost: Vec<_> = compiled.ir.lost.iter().map(|lost| &lost.id).collect();
    assert_eq!(lost, [&mined[2].id]);
    assert_eq!(compiled.conflicts[0].between.len(), 4, "{:?}", compiled.conflicts);
    assert_eq!(compiled.joint, Joint::Unknown);

    let refuse = CompileOptions { strategy: Strategy::Refuse, ..CompileOptions::default() };
    let Err(BraidError::Conflicts { conflicts }) = compile_judged(&all, &refuse, &judge_of_three) else {
        panic!("the strategy lets nothing yield")
    };
    let mut names: Vec<_> = conflicts[0].between.iter().map(|party| party.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["grammar", "x", "y", "z"]);
}
