//! The modules that need no declaration: a list per language in `std/`.

use crate::constraint::Language;

/// The root modules of the language's standard library, as imports name them, in order.
///
/// Versions: Python 3.11, Node.js 20, Go up to 1.25; newer modules are not in the lists.
pub fn std_modules(language: Language) -> impl Iterator<Item = &'static str> {
    let list = match language {
        Language::Typescript => include_str!("std/typescript.txt"),
        Language::Python => include_str!("std/python.txt"),
        Language::Rust => include_str!("std/rust.txt"),
        Language::Zig => include_str!("std/zig.txt"),
        Language::Go => include_str!("std/go.txt"),
    };
    list.lines().filter(|line| !line.starts_with('#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_language_knows_its_own_modules_once() {
        for (language, known) in [
            (Language::Typescript, &["fs", "node:fs", "node:test"][..]),
            (Language::Python, &["os", "json", "__future__", "tomllib"]),
            (Language::Rust, &["std", "core", "alloc"]),
            (Language::Zig, &["std", "builtin", "root"]),
            (Language::Go, &["fmt", "net/http", "slices"]),
        ] {
            let modules: Vec<_> = std_modules(language).collect();
            for name in known {
                assert_eq!(modules.iter().filter(|module| *module == name).count(), 1, "{name} in {language:?}");
            }
            assert!(modules.iter().all(|name| !name.is_empty() && !name.contains(char::is_whitespace)));
        }
    }
}
