//! Where each IR of a request was written, so that an error about `constraints[1].grammar` reaches the client as
//! `structured_outputs.grammar`, the path that it wrote.

use super::{body::join, error::HttpError};
use crate::maze;

/// Where each IR of a request came from, by index.
#[derive(Debug, Default)]
pub(crate) struct Origins {
    irs: Vec<Origin>,
    /// What the maze compiles itself and puts behind the others.
    compiled: Option<Origin>,
}

/// Where an IR stood in the request.
#[derive(Debug)]
pub(super) enum Origin {
    /// A whole IR, written by the client.
    Ir(String),
    /// A field that became the one part of an IR.
    Part(String),
    /// A structural tag, and where its structures stand below it.
    StructuralTag { path: String, list: String },
    /// Tools, and the place in `tools` of each structure's function.
    Tools { places: Vec<usize> },
    /// A constraint set, with what was mined from a context.
    Set(SetOrigin),
}

/// The constraints of a set, in the order in which the client wrote them.
#[derive(Debug)]
pub(super) struct SetOrigin {
    /// Id and name of each.
    pub(super) rules: Vec<(String, String)>,
    pub(super) has_context: bool,
}

impl Origins {
    pub(super) fn push(&mut self, origin: Origin) {
        self.irs.push(origin);
    }

    pub(super) fn set_compiled(&mut self, origin: Origin) {
        self.compiled = Some(origin);
    }

    /// What is mined from a context stands in the IR of the set, or becomes one.
    pub(super) fn add_context(&mut self) {
        match &mut self.compiled {
            Some(Origin::Set(set)) => set.has_context = true,
            compiled => *compiled = Some(Origin::Part("context".into())),
        }
    }

    /// The error of the maze with the paths that the client wrote.
    pub(crate) fn locate(&self, source: maze::Error) -> HttpError {
        let param = source.param().map(|param| match param.starts_with("profile `") {
            true => "profile".to_owned(),
            false => self.path(&param).unwrap_or(param),
        });
        let source = match source {
            maze::Error::Guide(error) => {
                maze::Error::Guide(error.map_parts(|part| self.path(part).unwrap_or_else(|| part.to_owned())))
            }
            source => source,
        };
        HttpError::Maze { param, source: Box::new(source) }
    }

    /// `constraints[1].grammar.source` as the client wrote it; `None` for a path that is not about a constraint.
    ///
    /// Where there is only one IR, the maze names its parts without an index.
    pub(super) fn path(&self, param: &str) -> Option<String> {
        let (index, rest) = match param.strip_prefix("constraints[").and_then(|rest| rest.split_once(']')) {
            Some((index, rest)) => (index.parse::<usize>().ok()?, rest.strip_prefix('.').unwrap_or(rest)),
            None if IR_PARTS.contains(&part_of(param)) => (0, param),
            None => return None,
        };
        let compiled = self.compiled.as_ref().filter(|_| index == self.irs.len());
        Some(self.irs.get(index).or(compiled)?.path(rest))
    }
}

impl Origin {
    /// The path of a part of the IR.
    fn path(&self, part: &str) -> String {
        match self {
            Self::Ir(path) => join(path, part),
            Self::Part(path) => join(path, part.strip_prefix("json_schema").unwrap_or_default()),
            Self::StructuralTag { path, list } => {
                let idx = part.strip_prefix("regions.structures").filter(|_| !list.is_empty());
                let idx = idx.and_then(|rest| Some(&rest[..=rest.find(']')?]));
                idx.map_or_else(|| path.clone(), |idx| format!("{path}.{list}{idx}"))
            }
            Self::Tools { places } => {
                let idx =
                    part.strip_prefix("regions.structures[").and_then(|rest| rest.split(']').next()?.parse().ok());
                let place = idx.and_then(|idx: usize| places.get(idx));
                place.map_or_else(|| "tools".into(), |at| format!("tools[{at}].function.parameters"))
            }
            Self::Set(set) => set.path(part),
        }
    }
}

impl SetOrigin {
    /// The maze names the part of one rule by the rule: `sources.ID`. One that is not the client's was mined.
    fn path(&self, part: &str) -> String {
        let rule = part.strip_prefix("sources.");
        let place = rule.and_then(|rule| self.rules.iter().position(|(id, name)| id == rule || name == rule));
        match place {
            Some(place) => format!("constraints.constraints[{place}]"),
            None if rule.is_some() && self.has_context => "context".into(),
            None => "constraints".into(),
        }
    }
}

/// The fields of an IR that an error may be about.
const IR_PARTS: [&str; 11] = [
    "version",
    "code",
    "json_schema",
    "grammar",
    "regions",
    "regex_patterns",
    "token_masks",
    "forbidden_text",
    "soft",
    "limits",
    "digest",
];

/// `regex_patterns` of `regex_patterns[0].any_of`.
fn part_of(path: &str) -> &str {
    path.split(['[', '.', '#']).next().unwrap_or_default()
}
