//! See `ananke_fuzz`.

#![cfg_attr(feature = "libfuzzer", no_main)]

use ananke_fuzz::Kind;

#[cfg(feature = "libfuzzer")]
libfuzzer_sys::fuzz_target!(|data: &[u8]| ananke_fuzz::one(Kind::Forbidden, data));

#[cfg(not(feature = "libfuzzer"))]
fn main() -> std::process::ExitCode {
    ananke_fuzz::drive(Kind::Forbidden)
}
