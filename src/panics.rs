//! What a process says of a panic.
//!
//! A panic costs one request, never the server: whoever runs foreign code on somebody's input catches it. What is said
//! of it must cost little too. llguidance, whose panics hostile grammars may bring about, installs a hook of its own
//! that writes out a backtrace each time; the tables for that, 30 MB in this binary, stay in memory for good.

use std::panic::{PanicHookInfo, set_hook};

/// Has every panic logged in one line, with its place. What it says, which may quote a text that was generated, is left
/// to the level `debug`. For programs: call it once, when the log is set up.
pub fn log_in_one_line() {
    // Its hook is installed once, by the first such call, over the one that is there.
    let _ = llguidance::panic_utils::catch_unwind(|| Ok(()));
    set_hook(Box::new(log));
}

fn log(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!(thread, place, "a panic");
    tracing::debug!(thread, place, message = panic.payload_as_str().unwrap_or_default(), "a panic");
}
