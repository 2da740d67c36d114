//! `Cargo.toml`.

use toml::de::{DeTable, DeValue};

use super::names::rust_crate;
use super::{Fault, Found, table_at, toml_table};

/// The tables that declare something code may import; cargo still reads the older spellings.
const TABLES: [&str; 5] =
    ["dependencies", "dev-dependencies", "build-dependencies", "dev_dependencies", "build_dependencies"];

/// A member's `name.workspace = true` counts under its own key, the key of `[workspace.dependencies]` alone does not:
/// a workspace offers it, a package has to take it.
pub(super) fn read(text: &str) -> Result<Found, Fault> {
    let manifest = toml_table(text)?;
    let offered = match table_at(&manifest, "workspace")? {
        Some(workspace) => table_at(workspace, "dependencies")?,
        None => None,
    };
    let mut found = Found { package: package(&manifest)?, ..Found::default() };
    declare(&manifest, offered, &mut found)?;
    for (_, target) in table_at(&manifest, "target")?.into_iter().flatten() {
        let Some(target) = target.get_ref().as_table() else { continue };
        declare(target, offered, &mut found)?;
    }
    Ok(found)
}

fn package(manifest: &DeTable<'_>) -> Result<Option<String>, Fault> {
    let name = |table: Option<&DeTable<'_>>| Some(table?.get("name")?.get_ref().as_str()?.to_owned());
    let library = name(table_at(manifest, "lib")?);
    Ok(library.or_else(|| name(table_at(manifest, "package").ok()?).map(|package| rust_crate(&package))))
}

/// Adds what the tables of `section` declare. A key that renames a package is what code imports.
fn declare(section: &DeTable<'_>, offered: Option<&DeTable<'_>>, found: &mut Found) -> Result<(), Fault> {
    let renames = |value: &DeValue<'_>| value.as_table().is_some_and(|table| table.contains_key("package"));
    for table in TABLES {
        for (key, value) in table_at(section, table)?.into_iter().flatten() {
            let name = key.get_ref();
            let is_offered =
                |value: &DeValue<'_>| value.as_table().is_some_and(|table| table.contains_key("workspace"));
            let is_renamed = renames(value.get_ref())
                || is_offered(value.get_ref())
                    && offered.and_then(|offered| offered.get(name.as_ref())).is_some_and(|of| renames(of.get_ref()));
            let name = if is_renamed { name.replace('-', "_") } else { rust_crate(name) };
            found.dependencies.push((name, key.span().start));
        }
    }
    Ok(())
}
