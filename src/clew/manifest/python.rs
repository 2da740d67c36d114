//! `pyproject.toml` and `requirements.txt`.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::names::python_modules;
use super::{Fault, Found, table_at, toml_table};

/// The standard tables, and Poetry's own.
pub(super) fn read_pyproject(text: &str) -> Result<Found, Fault> {
    let document = toml_table(text)?;
    let mut found = Found::default();
    if let Some(project) = table_at(&document, "project")? {
        found.package = name(project);
        project.get("dependencies").map_or(Ok(()), |list| requirements(list, &mut found))?;
        for (_, list) in table_at(project, "optional-dependencies")?.into_iter().flatten() {
            requirements(list, &mut found)?;
        }
    }
    for (_, list) in table_at(&document, "dependency-groups")?.into_iter().flatten() {
        requirements(list, &mut found)?;
    }
    let tool = table_at(&document, "tool")?;
    if let Some(poetry) = tool.map(|tool| table_at(tool, "poetry")).transpose()?.flatten() {
        found.package = found.package.or_else(|| name(poetry));
        poetry_tables(poetry, &mut found)?;
    }
    Ok(found)
}

fn name(table: &DeTable<'_>) -> Option<String> {
    python_modules(table.get("name")?.get_ref().as_str()?).into_iter().next()
}

/// A list of requirements; what is no text in it includes another group, which is read where it stands.
fn requirements(list: &Spanned<DeValue<'_>>, found: &mut Found) -> Result<(), Fault> {
    let fault = || Fault::new(list.span().start, "must be a list of requirements");
    for item in list.get_ref().as_array().ok_or_else(fault)? {
        if let Some(text) = item.get_ref().as_str() {
            let Some(name) = distribution(text) else {
                return Err(Fault::new(item.span().start, format!("`{text}` is no requirement")));
            };
            found.add(name, item.span().start);
        }
    }
    Ok(())
}

/// Poetry's tables have the distributions as keys, and Python's own version among them.
fn poetry_tables(poetry: &DeTable<'_>, found: &mut Found) -> Result<(), Fault> {
    let mut tables = vec![table_at(poetry, "dependencies")?, table_at(poetry, "dev-dependencies")?];
    for (_, group) in table_at(poetry, "group")?.into_iter().flatten() {
        tables.push(group.get_ref().as_table().map(|group| table_at(group, "dependencies")).transpose()?.flatten());
    }
    for (key, _) in tables.into_iter().flatten().flatten().filter(|(key, _)| key.get_ref() != "python") {
        found.add(key.get_ref(), key.span().start);
    }
    Ok(())
}

/// One requirement a line; options, and files and addresses that do not say what they hold, give nothing.
pub(super) fn read_requirements(text: &str) -> Result<Found, Fault> {
    let mut found = Found::default();
    let (mut start, mut continues) = (0, false);
    for whole in text.split_inclusive('\n') {
        let line = without_comment(whole).trim();
        let offset = start + whole.len() - whole.trim_start().len();
        if !continues && let Some(name) = requirement(line, offset)? {
            found.add(name, offset);
        }
        continues = line.ends_with('\\');
        start += whole.len();
    }
    Ok(found)
}

/// A comment begins a line or follows white space, so that `#egg=` in an address is none.
fn without_comment(line: &str) -> &str {
    let starts_comment = |(at, _): &(usize, _)| line[..*at].chars().next_back().is_none_or(char::is_whitespace);
    line.match_indices('#').find(starts_comment).map_or(line, |(at, _)| &line[..at])
}

fn requirement(line: &str, offset: usize) -> Result<Option<&str>, Fault> {
    let is_editable = line.starts_with("-e ") || line.starts_with("--editable");
    if line.is_empty() || line == "\\" || (line.starts_with('-') && !is_editable) {
        return Ok(None);
    }
    if let Some((_, egg)) = line.split_once("#egg=") {
        return Ok(distribution_prefix(egg).map(|(name, _)| name));
    }
    let word = line.split_whitespace().next().unwrap_or(line);
    let is_file = [".whl", ".zip", ".tar.gz", ".tar.bz2"].iter().any(|end| word.ends_with(end));
    if is_editable || is_file || word.contains("://") || word.starts_with(['.', '/', '$', '~']) {
        return Ok(None);
    }
    match distribution(line.trim_end_matches('\\')) {
        Some(name) => Ok(Some(name)),
        None => Err(Fault::new(offset, format!("`{line}` is no requirement"))),
    }
}

/// The distribution that a requirement (PEP 508) names.
fn distribution(requirement: &str) -> Option<&str> {
    let (name, rest) = distribution_prefix(requirement.trim())?;
    let follows = rest.trim_start().chars().next();
    follows.is_none_or(|next| "[(<>=!~;@".contains(next)).then_some(name)
}

/// The name that a text begins with, and what follows it.
fn distribution_prefix(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c))).unwrap_or(text.len());
    let is_name = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    is_name.then(|| text.split_at(end))
}

impl Found {
    fn add(&mut self, distribution: &str, offset: usize) {
        self.dependencies.extend(python_modules(distribution).into_iter().map(|module| (module, offset)));
    }
}
