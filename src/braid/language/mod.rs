//! Rules about code, filled into the grammar of its language.
//!
//! The grammars stand in `src/braid/grammars/<language>/`: a base, and features that replace definitions of it. Every
//! rule becomes such a replacement, so that it binds where the grammar says what a piece of text *is*: a module in
//! an import, a name that is declared, a callee, a literal. What a rule means for text that the grammar cannot tell
//! apart (an alias of a denied function, a literal put together from two) is out of its reach, and the rules say so.

mod calls;
mod imports;
mod lark;
mod names;
mod template;

use crate::constraint::{Code, CodeRules, Granularity, ImportRule, Language, Layout, NameRule, Rule};
use template::{Feature, Template};

pub(super) use calls::segments;
pub use names::pattern_of;

/// The code part of an IR: the language's grammar with the rules filled in. Takes about 0.2 ms.
#[must_use]
pub fn code(language: Language, granularity: Granularity, rules: CodeRules) -> Code {
    let mut template = Template::new(language);
    names::bind(&mut template, &rules.names);
    if let Some(imports) = &rules.imports {
        template.fill(Feature::Imports, &imports::modules(imports));
        if template.body("MODULE_DENIED").is_some() && !imports.deny.is_empty() {
            // A path of several segments below a root that is allowed.
            template.set("MODULE_DENIED", &lark::any_of(&imports.deny));
        }
    }
    if !rules.refused_literals.is_empty() {
        template.fill(Feature::Literals, &lark::slashes_escaped(&alternation(&rules.refused_literals)));
    }
    if !rules.secret_names.is_empty() {
        template.fill(Feature::Secrets, &lark::slashes_escaped(&alternation(&rules.secret_names)));
    }
    if let Some(signature) = &rules.signature {
        template.fill(Feature::Signature, &lark::literal(signature));
    }
    // Last: the features have rules of calls of their own.
    if !rules.denied_calls.is_empty() {
        calls::deny(&mut template, &rules.denied_calls);
    }
    // One expression stands on one line, or in brackets.
    let has_layout = language == Language::Python && granularity != Granularity::Expression;
    let layout = has_layout.then_some(Layout::Python);
    Code { language, granularity, document: false, rules, grammar: template.finish(granularity), layout }
}

fn alternation(patterns: &[String]) -> String {
    patterns.iter().map(|pattern| format!("(?:{pattern})")).collect::<Vec<_>>().join("|")
}

/// The rules about code that a set states, as they are collected.
#[derive(Debug, Default)]
pub(super) struct CodeInTheMaking {
    language: Option<(Language, Granularity)>,
    rules: CodeRules,
}

impl CodeInTheMaking {
    /// What the output is written in, when a rule has said so.
    pub(super) fn language(&self) -> Option<Language> {
        self.language.map(|(language, _)| language)
    }

    /// Takes the rule that says what the output is; `false` where another says otherwise.
    pub(super) fn speak(&mut self, language: Language, granularity: Granularity) -> bool {
        *self.language.get_or_insert((language, granularity)) == (language, granularity)
    }

    /// Takes a rule about code of [`Self::language`], and names the part of the IR that carries it.
    ///
    /// # Errors
    /// Why the rule cannot be held by a grammar.
    pub(super) fn bind(&mut self, rule: &Rule) -> Result<&'static str, String> {
        let rules = &mut self.rules;
        match rule {
            Rule::Imports { allow, deny, .. } => {
                check_roots(self.language.map(|(language, _)| language), allow.iter().flatten().chain(deny))?;
                let (mut allow, mut deny) = (allow.clone(), deny.clone());
                allow.iter_mut().for_each(sort);
                sort(&mut deny);
                rules.imports = Some(imports::meet(rules.imports.take(), ImportRule { allow, deny }));
                Ok("code.imports")
            }
            Rule::Names { declaration, convention, allow, .. } => {
                let mut allow = allow.clone();
                allow.iter_mut().for_each(sort);
                if allow.as_ref().is_some_and(Vec::is_empty) {
                    return Err("it allows no name at all".into());
                }
                if let Some((language, _)) =
                    self.language.filter(|(language, _)| !names::is_declared(*language, *declaration))
                {
                    return Err(
                        format!("the grammar of {language:?} knows no declaration of a {declaration:?}").to_lowercase()
                    );
                }
                rules.names.push(NameRule { declaration: *declaration, convention: *convention, allow });
                Ok("code.names")
            }
            Rule::Signature { signature, .. } => match &rules.signature {
                Some(other) if other != signature => Err(format!("`{other}` is to be written already")),
                _ => {
                    rules.signature = Some(signature.clone());
                    Ok("code.signature")
                }
            },
            Rule::Calls { require, .. } if !require.is_empty() => Err(format!(
                "no mask can hold that `{}` is called somewhere; forbid what may not be called, or bias towards it",
                require.join("`, `")
            )),
            Rule::Calls { deny, .. } => {
                check_calls(deny)?;
                unite(&mut rules.denied_calls, deny);
                Ok("code.denied_calls")
            }
            Rule::Literals { refuse, .. } => {
                check_patterns(refuse)?;
                unite(&mut rules.refused_literals, refuse);
                Ok("code.refused_literals")
            }
            Rule::Secrets { names, .. } => {
                check_patterns(names)?;
                unite(&mut rules.secret_names, names);
                Ok("code.secret_names")
            }
            _ => Err(format!("a {} rule is not about code", rule.type_name())),
        }
    }

    /// The part, or none where no rule said what the output is.
    pub(super) fn finish(mut self) -> Option<Code> {
        let (language, granularity) = self.language?;
        self.rules.names.sort_by_key(|rule| (rule.declaration as u8, format!("{rule:?}")));
        self.rules.names.dedup();
        Some(code(language, granularity, self.rules))
    }
}

/// The language that a rule speaks of: `None` is whatever the output is written in.
pub(super) fn language_of(rule: &Rule) -> Option<Language> {
    match rule {
        Rule::Imports { language, .. }
        | Rule::Names { language, .. }
        | Rule::Signature { language, .. }
        | Rule::Calls { language, .. }
        | Rule::Literals { language, .. }
        | Rule::Secrets { language, .. } => *language,
        _ => None,
    }
}

fn sort(texts: &mut Vec<String>) {
    texts.sort();
    texts.dedup();
}

fn unite(all: &mut Vec<String>, more: &[String]) {
    all.extend_from_slice(more);
    sort(all);
}

/// In Python and Rust a root is a name; a path below it would be read name by name.
fn check_roots<'a>(language: Option<Language>, roots: impl Iterator<Item = &'a String>) -> Result<(), String> {
    for root in roots {
        let separator = match language {
            Some(Language::Python) => ".",
            Some(Language::Rust) => "::",
            _ => continue,
        };
        if root.contains(separator) {
            let first = root.split(separator).next().unwrap_or_default();
            return Err(format!("`{root}` is a path; an import rule names whole modules, here `{first}`"));
        }
    }
    Ok(())
}

fn check_calls(calls: &[String]) -> Result<(), String> {
    let is_name = |segment: &str| {
        let mut chars = segment.chars();
        chars.next().is_some_and(|c| c.is_alphabetic() || matches!(c, '_' | '$' | '@'))
            && chars.all(|c| c.is_alphanumeric() || matches!(c, '_' | '$'))
    };
    match calls.iter().find(|call| !calls::segments(call.strip_prefix('.').unwrap_or(call)).all(is_name)) {
        Some(call) => Err(format!("`{call}` is no callee; write `eval`, `os.system` or `.unwrap`")),
        None => Ok(()),
    }
}

fn check_patterns(patterns: &[String]) -> Result<(), String> {
    for pattern in patterns {
        regex_syntax::parse(pattern).map_err(|error| format!("`{pattern}` is no regex: {error}"))?;
    }
    Ok(())
}
