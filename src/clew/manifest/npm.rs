//! `package.json`.

use serde_json::Value;

use super::names::npm_modules;
use super::{Fault, Found};
use crate::clew::json::{self, keys};

/// The tables that declare something code may import.
const TABLES: [&str; 4] = ["dependencies", "devDependencies", "peerDependencies", "optionalDependencies"];

pub(super) fn read(text: &str) -> Result<Found, Fault> {
    let package: Value = json::parse(text).map_err(|(offset, message)| Fault::new(offset, message))?;
    let keys = keys(text);
    let Some(fields) = package.as_object() else { return Err(Fault::new(0, "a package is an object")) };
    if let Some(table) = TABLES.iter().find(|table| fields.get(**table).is_some_and(|value| !value.is_object())) {
        let key = keys.iter().find(|key| key.depth == 1 && key.name == *table);
        return Err(Fault::new(key.map_or(0, |key| key.offset), format!("`{table}` must be an object")));
    }
    let mut found = Found { package: package["name"].as_str().map(str::to_owned), ..Found::default() };
    let mut table = "";
    for key in &keys {
        match key.depth {
            1 => table = &key.name,
            2 if TABLES.contains(&table) => {
                found.dependencies.extend(npm_modules(&key.name).into_iter().map(|module| (module, key.offset)));
            }
            _ => {}
        }
    }
    Ok(found)
}
