//! The command line: arguments in, exit status out.

use std::process::ExitCode;

use ananke::cli::Cli;
use clap::Parser;

#[path = "embedded.rs"]
mod embedded;

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(tracing_subscriber::EnvFilter::from_env("ANANKE_LOG"))
        .init();
    let outcome = Cli::parse().run(embedded::model(), &mut std::io::stdout());
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
