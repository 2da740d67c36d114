//! Import rules as the terminal of the modules that may be named.

use std::collections::BTreeSet;

use super::lark::{any_of, without};
use crate::constraint::ImportRule;

/// The terminal's body: the roots allowed and not denied, or all but the denied.
pub(super) fn modules(rule: &ImportRule) -> String {
    let denied: BTreeSet<String> = rule.deny.iter().cloned().collect();
    match &rule.allow {
        None => without("MODULE_ROOT", &denied),
        Some(allow) => {
            let allowed: Vec<&String> = allow.iter().filter(|module| !denied.contains(*module)).collect();
            // No text at all: what is left are imports that need no permission.
            if allowed.is_empty() { "MODULE_ROOT & ~MODULE_ROOT".to_owned() } else { any_of(allowed) }
        }
    }
}

/// Two rules as one that says what both say.
pub(super) fn meet(first: Option<ImportRule>, second: ImportRule) -> ImportRule {
    let Some(first) = first else { return second };
    let allow = match (first.allow, second.allow) {
        (Some(a), Some(b)) => Some(a.into_iter().filter(|module| b.contains(module)).collect()),
        (a, b) => a.or(b),
    };
    let deny: BTreeSet<String> = first.deny.into_iter().chain(second.deny).collect();
    ImportRule { allow, deny: deny.into_iter().collect() }
}
