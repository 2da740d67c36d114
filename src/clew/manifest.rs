//! Manifests: what a project declares that it depends on.

use serde::{Deserialize, Serialize};

use crate::constraint::{Language, Origin};

/// What a manifest declares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The file, as it was named to the reader.
    pub file: String,
    /// The language whose packages it names.
    pub language: Language,
    /// The packages it declares, in source order, whatever they are needed for.
    pub dependencies: Vec<Dependency>,
    /// The name of the package itself.
    pub package: Option<String>,
}

/// A declared package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    /// Its name, as code imports it where the manifest says so, else as the manifest writes it.
    pub name: String,
    /// Where it is declared.
    pub origin: Origin,
}
