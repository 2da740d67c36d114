//! The command line: arguments in, exit status out.

use std::process::ExitCode;

use ananke::cli::Cli;
use ananke::config::ConfigError;
use clap::Parser;

#[path = "embedded.rs"]
mod embedded;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(tracing_subscriber::EnvFilter::from_env("ANANKE_LOG"))
        .init();
    ananke::panics::log_in_one_line();
    let outcome = Cli::parse().run(embedded::model(), &mut std::io::stdout());
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {}", message(&error));
        if let Some(error) = error.downcast_ref::<ConfigError>() {
            eprintln!("hint: {}", error.hint());
        }
        ExitCode::FAILURE
    })
}

/// The error and its causes, without what an error already says of its own cause.
fn message(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |text, cause| match text.contains(&cause) {
        true => text,
        false if text.is_empty() => cause,
        false => format!("{text}: {cause}"),
    })
}
