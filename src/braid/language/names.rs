//! Naming rules as terminals.

use std::collections::{BTreeMap, HashSet};
use std::sync::LazyLock;

use super::lark::{any_of, regex};
use super::template::Template;
use crate::constraint::{DeclarationKind, Language, NameRule, NamingConvention};

/// Names of this convention, as a regex of the whole name. Underscores at either end do not count, and a name of
/// nothing but them is of every convention.
#[must_use]
pub fn pattern_of(convention: NamingConvention) -> &'static str {
    match convention {
        NamingConvention::SnakeCase => "_*[a-z][a-z0-9]*(_+[a-z0-9]+)*_*|_+",
        NamingConvention::CamelCase => "[_$]*[a-z][a-zA-Z0-9]*_*|[_$]+",
        NamingConvention::PascalCase => "_*[A-Z][a-zA-Z0-9]*_*|_+",
        NamingConvention::ScreamingSnakeCase => "_*[A-Z][A-Z0-9]*(_+[A-Z0-9]+)*_*|_+",
    }
}

/// Where such names are declared; the second where a keyword may be one.
fn terminals_of(declaration: DeclarationKind) -> &'static [&'static str] {
    match declaration {
        DeclarationKind::Function => &["FUNCTION_NAME", "FUNCTION_KEYWORD"],
        DeclarationKind::Type => &["TYPE_NAME"],
        DeclarationKind::Variable => &["VARIABLE_NAME"],
        DeclarationKind::Constant => &["CONSTANT_NAME"],
        DeclarationKind::Field => &["FIELD_NAME", "FIELD_KEYWORD"],
    }
}

/// Whether the grammar has declarations of this kind: Python does not tell constants from variables.
pub(super) fn is_declared(language: Language, declaration: DeclarationKind) -> bool {
    // The grammars are constants, and reading one takes as long as lowering some hundred rules.
    static DECLARED: LazyLock<HashSet<(Language, DeclarationKind)>> = LazyLock::new(|| {
        let declared_in = |language| {
            let template = Template::new(language);
            DeclarationKind::ALL
                .map(|kind| (language, kind))
                .into_iter()
                .filter(move |(_, kind)| template.is_used(terminals_of(*kind)[0]))
        };
        Language::ALL.into_iter().flat_map(declared_in).collect()
    });
    DECLARED.contains(&(language, declaration))
}

/// Narrows the terminals of declared names; several rules for one kind all hold. A kind that the language does not
/// declare has no terminal, and nothing to bind.
pub(super) fn bind(template: &mut Template, rules: &[NameRule]) {
    let mut bodies: BTreeMap<&str, String> = BTreeMap::new();
    let declared =
        rules.iter().flat_map(|rule| terminals_of(rule.declaration).iter().map(move |terminal| (rule, *terminal)));
    for (rule, terminal) in declared {
        let Some(base) = template.body(terminal) else { continue };
        let body = bodies.entry(terminal).or_insert_with(|| format!("({base})"));
        if let Some(convention) = rule.convention {
            body.push_str(" & ");
            body.push_str(&regex(pattern_of(convention)));
        }
        if let Some(allow) = &rule.allow {
            body.push_str(&format!(" & ({})", any_of(allow)));
        }
    }
    for (terminal, body) in bodies {
        template.set(terminal, &body);
    }
}
