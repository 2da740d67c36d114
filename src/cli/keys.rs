//! `ananke keys`: API keys for the server.
//!
//! The entry for the server's file goes to standard output, so that it can be appended there; the key itself goes to
//! standard error, once, and is kept nowhere.

use std::io::Write;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::server::{NewKey, Scope};

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Make a fresh key: `ananke keys new --name NAME >> keys.toml`.
    New(NewKeyArgs),
}

#[derive(Debug, Args)]
pub(crate) struct NewKeyArgs {
    /// Whose key it is; the name stands in logs, the key never does.
    #[arg(long)]
    name: String,
    /// What it may do: generate, constraints, metrics, admin.
    #[arg(long, value_delimiter = ',', default_value = "generate")]
    scopes: Vec<Scope>,
}

pub(crate) fn run(command: &KeysCommand, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let KeysCommand::New(args) = command;
    let key = NewKey::generate(&args.name, &args.scopes)?;
    writeln!(out, "{}", key.entry)?;
    out.flush()?;
    eprintln!("key of {}, shown this once: {}", args.name, key.secret);
    eprintln!(
        "the lines on standard output go into the file of `ananke-serve --api-keys FILE`, which SIGHUP reads again"
    );
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::cli::Cli;
    use crate::server::ApiKeys;

    #[test]
    fn what_is_printed_is_a_file_of_keys() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let mut out = Vec::new();
        for name in ["ci", "lab"] {
            let flags = ["ananke", "keys", "new", "--name", name, "--scopes", "metrics,generate"];
            Cli::parse_from(flags).run(None, &mut out).expect("a key");
        }
        let text = String::from_utf8(out).expect("UTF-8");
        assert!(!text.contains("ananke_"), "the key itself is not for the file");
        std::fs::write(file.path(), text).expect("it can be written");
        assert_eq!(ApiKeys::open(file.path()).and_then(|keys| keys.reload()).expect("both entries"), 2);
        assert!(Cli::try_parse_from(["ananke", "keys", "new", "--name", "ci", "--scopes", "root"]).is_err());
    }
}
