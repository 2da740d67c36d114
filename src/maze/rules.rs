//! Rule sets: constraints that a request or the server states, compiled as `ananke compile` does and judged over the
//! loaded vocabulary.
//!
//! The rules of a request and what is mined from its context are one set, in which what is stated never yields. A
//! profile is compiled by itself, once: it binds beside whatever a request brings, so no request can loosen it.

use std::sync::Arc;

use super::{Client, Error, GenerateRequest, Maze, MazeConfig, beside};
use crate::braid::{CompileOptions, Compiled};
use crate::constraint::{ConstraintIr, ConstraintSet, NotApplied};

/// Constraints to compile, with what decides how.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuleSet {
    /// The constraints.
    pub set: ConstraintSet,
    /// The type that the output is a value of, and what becomes of conflicts.
    pub options: CompileOptions,
}

/// A named rule set of the server, compiled.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// Its name.
    pub name: Arc<str>,
    /// What it demands.
    pub ir: ConstraintIr,
}

impl RuleSet {
    fn check(&self, config: &MazeConfig) -> Result<(), Error> {
        let (count, limit) = (self.set.constraints.len(), config.num_rules_max);
        if count > limit {
            return Err(Error::TooManyRules { count, limit });
        }
        let limit = config.description_bytes_max;
        let long = self.set.constraints.iter().position(|constraint| constraint.description.len() > limit);
        match long {
            Some(index) => {
                let size = self.set.constraints[index].description.len();
                Err(Error::DescriptionTooLong { index, size, limit })
            }
            None => Ok(()),
        }
    }
}

impl Maze {
    /// Compiles the rules of a profile and has the guide judge them.
    ///
    /// # Errors
    /// What Braid or the guide refuses, as for a request.
    pub async fn compile_profile(&self, name: &str, rules: RuleSet) -> Result<Profile, Error> {
        let maze = self.clone();
        // An account of its own: that of nameless clients is not to pay for it.
        let set_name = format!("profile {name}");
        let client = Client::from(set_name.as_str());
        let (ir, lookup) = beside(move || {
            let RuleSet { mut set, options } = rules;
            set.name = set_name;
            let rules = RuleSet { set, options };
            rules.check(maze.config())?;
            let pool = &maze.inner.constraints;
            let compile = || pool.compile_set(&rules.set, &rules.options, Some(&client));
            let ir = pool.kept().ir(&rules.set, &rules.options, None, compile)?;
            let lookup = pool.look_up(&vec![ir.clone()].into(), Some(&client))?;
            Ok((ir, lookup))
        })
        .await?;
        self.inner.constraints.wait(lookup).await?;
        Ok(Profile { name: name.into(), ir })
    }

    /// What the rules and the context of a request compile to; `None` where it has neither. Beside the async workers.
    pub(super) fn compile_rules(&self, request: &GenerateRequest) -> Result<Option<ConstraintIr>, Error> {
        if request.rules.is_none() && request.context.is_none() {
            return Ok(None);
        }
        let (pool, client) = (&self.inner.constraints, request.client.as_ref());
        let salt = client.and_then(|client| client.salt);
        let RuleSet { mut set, mut options } = request.rules.clone().unwrap_or_default();
        if let Some(rules) = &request.rules {
            rules.check(self.config())?;
        }
        if let Some(context) = &request.context {
            let extract = || Ok(crate::clew::extract(&context.source, context.language, &context.file)?);
            let mined = pool.kept().set(context, salt, extract)?;
            // As they are, and not by `push`: of equal rules the one that binds more is to stand, which Braid sees to.
            set.constraints.extend(mined.constraints);
            set.diagnostics.extend(mined.diagnostics);
            options.root_type = context.type_name.clone().or(options.root_type);
            if set.name.is_empty() {
                set.name = mined.name;
            }
        }
        let ir = pool.kept().ir(&set, &options, salt, || pool.compile_set(&set, &options, client));
        let ir = ir.map_err(|error| of_rules(error, request))?;
        match &request.context {
            Some(context) if request.rules.is_none() && ir.is_empty() => {
                Err(Error::NothingMined { file: context.file.clone() })
            }
            _ => Ok(Some(ir)),
        }
    }
}

/// The IR, in which suggestions that were not taken are told as not applied.
pub(super) fn recorded(compiled: Compiled) -> ConstraintIr {
    let Compiled { mut ir, rulings, .. } = compiled;
    let refused = rulings.into_iter().filter_map(|ruling| {
        let id = format!("resolution of {}", ruling.resolution.between.join(", "));
        ruling.refused.map(|why| NotApplied { id, why })
    });
    let num_before = ir.not_applied.len();
    ir.not_applied.extend(refused);
    if ir.not_applied.len() == num_before { ir } else { ir.sealed() }
}

/// Says of an error of Braid which IR of the request it is about; what is wrong with the choice of a mined type is an
/// error of the context.
fn of_rules(error: Error, request: &GenerateRequest) -> Error {
    match error {
        Error::Braid(source) if request.rules.is_some() && !(source.is_of_root() && request.context.is_some()) => {
            Error::Rules { index: request.constraints.len(), source }
        }
        error => error,
    }
}

/// Names the parts of an error that come from a profile by the profile, and those of the request's rules by the rule
/// that they carry. `request` has all IRs that were compiled: its own, that of its rules, those of its profiles.
pub(super) fn name_parts(error: Error, request: &GenerateRequest) -> Error {
    match error {
        Error::Guide(error) => Error::Guide(error.map_parts(|part| name_of(part, request))),
        error => error,
    }
}

fn name_of(part: &str, request: &GenerateRequest) -> String {
    let indexed = part.strip_prefix("constraints[").and_then(|rest| rest.split_once(']'));
    let (index, rest) = match indexed {
        Some((index, rest)) => (index.parse().unwrap_or(usize::MAX), rest.strip_prefix('.').unwrap_or(rest)),
        // The parts of an IR that stands alone have no index.
        None => (0, part),
    };
    let num_before = request.constraints.len().saturating_sub(request.profiles.len());
    let Some(ir) = request.constraints.get(index) else { return part.to_owned() };
    let mut carried = ir.sources.iter().filter(|source| rest.starts_with(source.part.as_str()));
    // A part that carries several rules names none of them.
    let rule = carried.next().filter(|_| carried.next().is_none());
    match (index.checked_sub(num_before), rule) {
        (Some(place), rule) => {
            let name = &request.profiles[place].name;
            let what = rule.map_or(rest, |rule| &rule.name);
            format!("profile `{name}` ({what})")
        }
        (None, Some(rule)) if request.rules.is_some() && index + 1 == num_before => {
            format!("constraints[{index}].sources.{}", rule.id)
        }
        _ => part.to_owned(),
    }
}
