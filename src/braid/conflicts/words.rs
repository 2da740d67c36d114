//! Rules about code: modules, names, calls, signatures, and the language itself.

use std::collections::{HashMap, HashSet};

use super::vocabulary::Vocabulary;
use super::{Clash, Note};
use crate::constraint::{DeclarationKind, Granularity, Language, NamingConvention, Rule};

/// The rules about code that were admitted so far.
///
/// A rule that speaks of no language in particular speaks of all of them.
#[derive(Default)]
pub(super) struct Words {
    language: Option<(usize, Language, Granularity)>,
    imports: HashMap<Language, Vocabulary<String>>,
    names: HashMap<(Language, DeclarationKind), Names>,
    denied_calls: HashMap<(Language, String), usize>,
    /// By the whole callee, and by `.` and its last segment, as deny-lists name them.
    required_calls: HashMap<(Language, String), usize>,
    signatures: HashMap<(Language, String), (usize, String)>,
}

#[derive(Default)]
struct Names {
    convention: Option<(usize, NamingConvention)>,
    allow: Vocabulary<String>,
    lists: Vec<(usize, Vec<String>)>,
}

impl Words {
    /// What a rule would clash with among those admitted.
    pub(super) fn clash(&self, owner: usize, rule: &Rule) -> Option<Clash> {
        match rule {
            Rule::Language { language, granularity } => match self.language {
                Some((other, known, known_granularity)) if (known, known_granularity) != (*language, *granularity) => {
                    Some(Clash::pair(other, "the output is code of one language and one granularity"))
                }
                _ => None,
            },
            Rule::Imports { language, allow, deny } => {
                spoken(*language).find_map(|language| match self.imports.get(&language) {
                    Some(known) => known.clash(owner, allow.as_deref(), deny, "module"),
                    None => Vocabulary::default().clash(owner, allow.as_deref(), deny, "module"),
                })
            }
            Rule::Names { language, declaration, convention, allow } => spoken(*language).find_map(|language| {
                let fallback = Names::default();
                let known = self.names.get(&(language, *declaration)).unwrap_or(&fallback);
                known.clash(owner, *convention, allow.as_deref())
            }),
            Rule::Signature { language, signature } => {
                let name = function_name(signature)?;
                spoken(*language).find_map(|language| match self.signatures.get(&(language, name.to_owned())) {
                    Some((other, text)) if text != signature => {
                        Some(Clash::pair(*other, &format!("both give the signature of `{name}`, and not the same")))
                    }
                    _ => None,
                })
            }
            Rule::Calls { language, deny, require } => spoken(*language).find_map(|language| {
                let key = |name: &str| (language, name.to_owned());
                let why = |name: &str| format!("`{name}` is required and denied");
                let own_deny: HashSet<&String> = deny.iter().collect();
                let own = require.iter().find(|name| ways_to_deny(name).any(|way| own_deny.contains(&way)));
                if let Some(name) = own {
                    return Some(Clash { with: Vec::new(), why: why(name) });
                }
                let denied = require.iter().find_map(|name| {
                    let other = ways_to_deny(name).find_map(|way| self.denied_calls.get(&key(&way)))?;
                    Some(Clash::pair(*other, &why(name)))
                });
                denied.or_else(|| {
                    deny.iter().find_map(|name| Some(Clash::pair(*self.required_calls.get(&key(name))?, &why(name))))
                })
            }),
            _ => None,
        }
    }

    /// Admits a rule.
    pub(super) fn admit(&mut self, owner: usize, rule: &Rule) -> Vec<Note> {
        let mut notes = Vec::new();
        match rule {
            Rule::Language { language, granularity } => self.language = Some((owner, *language, *granularity)),
            Rule::Imports { language, allow, deny } => {
                for language in spoken(*language) {
                    let known = self.imports.entry(language).or_default();
                    notes.extend(known.admit(owner, allow.as_deref(), deny, "module"));
                }
            }
            Rule::Names { language, declaration, convention, allow } => {
                for language in spoken(*language) {
                    let known = self.names.entry((language, *declaration)).or_default();
                    notes.extend(known.admit(owner, *convention, allow.as_deref()));
                }
            }
            Rule::Signature { language, signature } => {
                for (language, name) in spoken(*language).zip(std::iter::repeat(function_name(signature))) {
                    let Some(name) = name else { break };
                    self.signatures.entry((language, name.to_owned())).or_insert((owner, signature.clone()));
                }
            }
            Rule::Calls { language, deny, require } => {
                for language in spoken(*language) {
                    deny.iter().for_each(|name| {
                        self.denied_calls.entry((language, name.clone())).or_insert(owner);
                    });
                    require.iter().flat_map(|name| ways_to_deny(name)).for_each(|way| {
                        self.required_calls.entry((language, way)).or_insert(owner);
                    });
                }
            }
            _ => {}
        }
        notes.sort();
        notes.dedup();
        notes
    }
}

impl Names {
    fn clash(&self, owner: usize, convention: Option<NamingConvention>, allow: Option<&[String]>) -> Option<Clash> {
        let effective = convention.map(|convention| (owner, convention)).or(self.convention);
        if let (Some(ours), Some((other, theirs))) = (convention, self.convention)
            && ours != theirs
        {
            return Some(Clash::pair(other, "names of one kind follow one convention"));
        }
        let follows = |names: &[String]| {
            let Some((_, convention)) = effective else { return true };
            names.is_empty() || names.iter().any(|name| convention.fits(name))
        };
        let why = "no name that is allowed follows the convention";
        match allow {
            Some(allow) if !follows(allow) => {
                let with = effective.map(|(other, _)| other).filter(|&other| other != owner);
                return Some(Clash { with: with.into_iter().collect(), why: why.to_owned() });
            }
            _ => {}
        }
        if let Some((other, _)) = self.lists.iter().find(|(_, names)| convention.is_some() && !follows(names)) {
            return Some(Clash::pair(*other, why));
        }
        self.allow.clash(owner, allow, &[], "name")
    }

    fn admit(&mut self, owner: usize, convention: Option<NamingConvention>, allow: Option<&[String]>) -> Vec<Note> {
        if let Some(convention) = convention {
            self.convention.get_or_insert((owner, convention));
        }
        let Some(allow) = allow else { return Vec::new() };
        self.lists.push((owner, allow.to_vec()));
        self.allow.admit(owner, Some(allow), &[], "name")
    }
}

/// The languages that a rule speaks of.
fn spoken(language: Option<Language>) -> impl Iterator<Item = Language> {
    Language::ALL.into_iter().filter(move |known| language.is_none_or(|language| language == *known))
}

/// How deny-lists name a call: in full, and as a method of whatever it is.
fn ways_to_deny(callee: &str) -> impl Iterator<Item = String> {
    let last = callee.rsplit(['.', ':']).next().filter(|last| *last != callee).map(|last| format!(".{last}"));
    std::iter::once(callee.to_owned()).chain(last)
}

/// The name of the function that a signature declares, in any of the languages; `None` where it cannot be told.
fn function_name(signature: &str) -> Option<&str> {
    let mut head = signature;
    loop {
        let (before, rest) = head.split_once('(')?;
        let before = before.trim_end();
        // Go's receiver stands in brackets of its own, before the name.
        if before.ends_with("func") {
            head = rest.split_once(')')?.1;
            continue;
        }
        let before = before.strip_suffix("async").unwrap_or(before).trim_end();
        // `const total: Total = (items) =>`
        let bound = before.strip_suffix('=').map(|bound| bound.split(':').next().unwrap_or(bound).trim_end());
        let named = bound.unwrap_or(before);
        let named = if bound.is_none() { without_generics(named) } else { named };
        let start = named
            .rfind(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$'))
            .map_or(0, |at| at + named[at..].chars().next().map_or(1, char::len_utf8));
        return Some(&named[start..]).filter(|name| !name.is_empty());
    }
}

/// Without the type parameters at the end: `max<T: Ord>`, `max[T any]`.
fn without_generics(head: &str) -> &str {
    let open = match head.as_bytes().last() {
        Some(b'>') => '<',
        Some(b']') => '[',
        _ => return head,
    };
    head.find(open).map_or(head, |at| head[..at].trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_names_its_function() {
        for (signature, name) in [
            ("export function total(items: Item[]): number", Some("total")),
            ("const total: Total = async (items: Item[]) =>", Some("total")),
            ("def total(items: list[Item]) -> float:", Some("total")),
            ("pub fn largest<T: Ord>(items: &[T]) -> Option<&T>", Some("largest")),
            ("func (s *Store) Read(name string) (int, error)", Some("Read")),
            ("func Map[T any](items []T) []T", Some("Map")),
            ("pub fn init(allocator: Allocator) !Self", Some("init")),
            ("type Total = number", None),
        ] {
            assert_eq!(function_name(signature), name, "{signature}");
        }
    }
}
