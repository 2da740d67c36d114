//! A panic that a library catches costs no backtrace.

use ananke::panics;

#[test]
fn a_caught_panic_writes_out_no_backtrace() {
    let caught = || llguidance::panic_utils::catch_unwind::<_, ()>(|| panic!("at once")).expect_err("it panics");
    assert!(caught().to_string().contains("<backtrace>"), "what this is about");
    panics::log_in_one_line();
    assert_eq!(caught().to_string(), "panic: at once");
}
