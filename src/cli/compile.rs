//! `ananke compile`: a constraint set to one constraint IR.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use super::{read_text, write_json};
use crate::braid;
use crate::constraint::ConstraintSet;

#[derive(Debug, Args)]
pub(super) struct CompileArgs {
    /// A constraint set as JSON, as `ananke extract --format json` prints it; `-` reads standard input.
    #[arg(value_name = "SET.json")]
    set: String,
    /// The type that the output is a value of.
    #[arg(long = "type", value_name = "NAME")]
    type_name: Option<String>,
    /// Security patterns that bind beside the set: families (sql, commands, credentials, urls, paths) or patterns
    /// (sql.drop), each with `=text` or `=code` for another strength than its own; `all` is every family.
    #[arg(long, value_name = "PATTERNS")]
    security: Option<String>,
}

pub(super) fn run(args: &CompileArgs, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let text = read_text(&args.set)?;
    let mut set: ConstraintSet =
        serde_json::from_str(&text).with_context(|| format!("{} is no constraint set", args.set))?;
    if let Some(patterns) = &args.security {
        braid::security::profile(patterns)?.into_iter().for_each(|constraint| set.push(constraint));
    }
    let options = braid::CompileOptions { root_type: args.type_name.clone() };
    write_json(&braid::compile(&set, &options)?, out)
}
