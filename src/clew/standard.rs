//! The standard libraries: modules that every program of a language may import.

use crate::constraint::Language;

/// The root modules of a language's standard library, as code imports them.
pub(super) fn standard_library(language: Language) -> &'static [&'static str] {
    match language {
        Language::Typescript | Language::Python | Language::Rust | Language::Zig | Language::Go => &[],
    }
}
