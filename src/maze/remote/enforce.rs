//! What of a request's constraints a remote server can be asked to enforce.
//!
//! Most servers take one thing. It is asked for so that the text that comes back is likely to hold; that it holds is
//! never taken from there: every byte is walked here, whatever was asked for.

use crate::constraint::{ConstraintIr, GrammarSyntax, MatchMode};
use crate::remote::{Enforce, Input, Service};

/// What is asked for, and the parts that it stands for.
pub(super) struct Asked {
    pub(super) enforce: Enforce,
    /// As paths into the IRs.
    pub(super) parts: Vec<String>,
}

/// Picks what `service` can enforce: all IRs where it takes IRs, else the first part that it can, of those that say most.
pub(super) fn pick(irs: &[ConstraintIr], service: Service, input: &Input) -> Asked {
    if service == Service::Ananke {
        let parts = (0..irs.len()).map(|i| format!("constraints[{i}]")).collect();
        let irs: Vec<_> = irs.iter().map(|ir| serde_json::to_value(ir).expect("an IR is plain data")).collect();
        return match irs.is_empty() {
            true => Asked { enforce: Enforce::Nothing, parts: Vec::new() },
            false => Asked { enforce: Enforce::Irs(irs), parts },
        };
    }
    let schemas = parts(irs, |ir| ir.json_schema.clone().map(Enforce::JsonSchema), "json_schema");
    let grammars = parts(irs, grammar, "grammar");
    let regexes = parts(irs, regex, "regex_patterns[0]");
    let found = schemas.chain(grammars).chain(regexes).find(|(_, enforce)| service.enforces(enforce, input));
    match found {
        Some((part, enforce)) => Asked { enforce, parts: vec![part] },
        None => Asked { enforce: Enforce::Nothing, parts: Vec::new() },
    }
}

fn parts(
    irs: &[ConstraintIr],
    part: impl Fn(&ConstraintIr) -> Option<Enforce>,
    name: &'static str,
) -> impl Iterator<Item = (String, Enforce)> {
    irs.iter().enumerate().filter_map(move |(i, ir)| Some((format!("constraints[{i}].{name}"), part(ir)?)))
}

fn grammar(ir: &ConstraintIr) -> Option<Enforce> {
    let grammar = ir.grammar.as_ref()?;
    match (grammar.syntax, grammar.start.as_deref()) {
        (GrammarSyntax::Gbnf, None | Some("root")) => Some(Enforce::Gbnf(grammar.source.clone())),
        (GrammarSyntax::Lark, None | Some("start")) => Some(Enforce::Lark(grammar.source.clone())),
        _ => None,
    }
}

/// The pattern that the whole output matches, where it is one without flags.
fn regex(ir: &ConstraintIr) -> Option<Enforce> {
    let group = ir.regex_patterns.first().filter(|group| group.match_mode == MatchMode::Full)?;
    let [pattern] = &group.any_of[..] else { return None };
    pattern.flags.is_empty().then(|| Enforce::Regex(pattern.pattern.clone()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn irs(all: &[Value]) -> Vec<ConstraintIr> {
        all.iter().map(|ir| serde_json::from_value(ir.clone()).expect("an IR")).collect()
    }

    #[test]
    fn the_first_part_that_a_service_takes_is_asked_for() {
        let text = Input::Text(String::new());
        let regex = json!({"regex_patterns": [{"any_of": [{"pattern": "a+"}], "match": "full"}]});
        let schema = json!({"json_schema": {"type": "object"}});
        let gbnf = json!({"grammar": {"syntax": "gbnf", "source": "root ::= \"a\""}});
        let prefix = json!({"regex_patterns": [{"any_of": [{"pattern": "a+"}], "match": "prefix"}]});
        for (service, all, parts) in [
            (Service::Vllm, vec![regex.clone(), schema.clone()], vec!["constraints[1].json_schema"]),
            (Service::Vllm, vec![regex.clone()], vec!["constraints[0].regex_patterns[0]"]),
            (Service::LlamaCpp, vec![regex.clone(), gbnf.clone()], vec!["constraints[1].grammar"]),
            (Service::Modal, vec![gbnf], vec![]),
            (Service::Vllm, vec![prefix], vec![]),
            (Service::Openai, vec![schema.clone()], vec![]),
            (Service::Ananke, vec![regex, schema], vec!["constraints[0]", "constraints[1]"]),
            (Service::Ananke, vec![], vec![]),
        ] {
            let asked = pick(&irs(&all), service, &text);
            assert_eq!(asked.parts, parts, "{service:?}");
            assert_eq!(asked.enforce == Enforce::Nothing, parts.is_empty(), "{service:?}");
        }
    }
}
