//! The root of a module's name.

/// How a language writes the names of modules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Modules {
    /// `react`, `@scope/package/part`, `node:fs/promises`, `./here`.
    Packages,
    /// `a.b.c`, `.here`.
    Dotted,
    /// `a::b::c`, `crate::here`.
    Crates,
    /// `net/http`, `github.com/owner/name/part`.
    Paths,
    /// `std`, `here.zig`.
    Files,
}

impl Modules {
    /// The root of a module, and whether the module is a part of the program itself.
    pub(super) fn root(self, module: &str) -> (&str, bool) {
        let first = |separators: &[char]| module.split(separators).next().unwrap_or(module).trim();
        match self {
            // `@/` and `~/` are no scopes; bundlers read them as the project's own folder, and `#` is its own map.
            Self::Packages if module.starts_with(['.', '/', '#', '~']) || module.starts_with("@/") => (module, true),
            Self::Packages if module.starts_with('@') => {
                let end = module.match_indices('/').nth(1).map_or(module.len(), |(end, _)| end);
                (&module[..end], false)
            }
            // The host is what a URL is asked of.
            Self::Packages if module.contains("://") => {
                let end = module.match_indices('/').nth(2).map_or(module.len(), |(end, _)| end);
                (&module[..end], false)
            }
            Self::Packages => (first(&['/']), false),
            Self::Dotted => (first(&['.']), module.starts_with('.')),
            Self::Crates => {
                let module = module.trim_start_matches("::").trim_start();
                // The name ends where `::` begins, or ` as `.
                let first = module.split("::").next().unwrap_or(module);
                let root = self.name(first.split_whitespace().next().unwrap_or_default());
                (root, matches!(root, "crate" | "self" | "super" | "Self" | "$crate"))
            }
            Self::Paths => (module, module.starts_with('.')),
            Self::Files => (module, module.contains(['.', '/'])),
        }
    }

    /// A name without what only keeps it from being a keyword: `r#type` is `type`.
    pub(super) fn name(self, name: &str) -> &str {
        if self == Self::Crates { name.trim_start_matches("r#") } else { name }
    }

    /// Whether a module is named from outside of the program, so that nothing in it goes by that name: `::serde`.
    pub(super) fn is_absolute(self, module: &str) -> bool {
        self == Self::Crates && module.starts_with("::")
    }

    /// The name that code imports a declared package by.
    pub(super) fn imported_as(self, package: &str) -> String {
        match self {
            Self::Packages => package.strip_prefix("@types/").unwrap_or(package).to_owned(),
            Self::Crates => package.replace('-', "_"),
            Self::Dotted => {
                let name = package.to_lowercase().replace(['-', '.'], "_");
                let known = PYTHON_PACKAGES.iter().find(|(package, _)| *package == name);
                known.map_or(name, |(_, module)| (*module).to_owned())
            }
            Self::Paths | Self::Files => package.to_owned(),
        }
    }

    /// Whether a module is `root` or below it.
    pub(super) fn is_below(self, module: &str, root: &str) -> bool {
        module == root || module.strip_prefix(root).is_some_and(|rest| self == Self::Paths && rest.starts_with('/'))
    }
}

/// Python packages whose module has another name, as their own documentation states it.
const PYTHON_PACKAGES: [(&str, &str); 23] = [
    ("attrs", "attr"),
    ("beautifulsoup4", "bs4"),
    ("djangorestframework", "rest_framework"),
    ("faiss_cpu", "faiss"),
    ("gitpython", "git"),
    ("grpcio", "grpc"),
    ("ipython", "IPython"),
    ("msgpack_python", "msgpack"),
    ("mysqlclient", "MySQLdb"),
    ("opencv_python", "cv2"),
    ("pillow", "PIL"),
    ("protobuf", "google"),
    ("psycopg2_binary", "psycopg2"),
    ("pycryptodome", "Crypto"),
    ("pyjwt", "jwt"),
    ("pymysql", "pymysql"),
    ("pyopenssl", "OpenSSL"),
    ("pyserial", "serial"),
    ("python_dateutil", "dateutil"),
    ("python_dotenv", "dotenv"),
    ("pyyaml", "yaml"),
    ("pyzmq", "zmq"),
    ("scikit_learn", "sklearn"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_what_an_import_rule_names() {
        for (modules, module, root) in [
            (Modules::Packages, "react", ("react", false)),
            (Modules::Packages, "lodash/fp", ("lodash", false)),
            (Modules::Packages, "@a/b", ("@a/b", false)),
            (Modules::Packages, "@a/b/c/d", ("@a/b", false)),
            (Modules::Packages, "node:fs/promises", ("node:fs", false)),
            (Modules::Packages, "./a", ("./a", true)),
            (Modules::Packages, "..", ("..", true)),
            (Modules::Packages, "@/a", ("@/a", true)),
            (Modules::Packages, "https://esm.sh/react@18", ("https://esm.sh", false)),
            (Modules::Dotted, "os.path", ("os", false)),
            (Modules::Dotted, "..a.b", ("", true)),
            (Modules::Crates, "serde::de::Error", ("serde", false)),
            (Modules::Crates, "::serde", ("serde", false)),
            (Modules::Crates, ":: r#type :: A", ("type", false)),
            (Modules::Crates, "serde as s", ("serde", false)),
            (Modules::Crates, "crate::a", ("crate", true)),
            (Modules::Paths, "net/http", ("net/http", false)),
            (Modules::Paths, "./here", ("./here", true)),
            (Modules::Files, "std", ("std", false)),
            (Modules::Files, "a.zig", ("a.zig", true)),
        ] {
            assert_eq!(modules.root(module), root, "{module}");
        }
    }

    #[test]
    fn packages_are_imported_under_their_modules_names() {
        assert_eq!(Modules::Dotted.imported_as("PyYAML"), "yaml");
        assert_eq!(Modules::Dotted.imported_as("my-package"), "my_package");
        assert_eq!(Modules::Crates.imported_as("serde-json"), "serde_json");
        assert_eq!(Modules::Packages.imported_as("@types/node"), "node");
        assert!(Modules::Paths.is_below("a.b/c/d", "a.b/c"));
        assert!(!Modules::Paths.is_below("a.b/cd", "a.b/c"));
    }
}
