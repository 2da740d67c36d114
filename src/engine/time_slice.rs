//! How soon the engine's thread runs once it wakes.
//!
//! A step waits for the device or for masks many times a second, and on a busy machine each wake-up waits for whoever
//! has the core: Linux lets a thread finish its time slice, some 3 ms, before it lets in one that has just woken,
//! except one that has asked for a shorter slice (`PREEMPT_SHORT` of the EEVDF scheduler, Linux 6.12). A shorter slice
//! takes no more of the processor; it takes it in smaller pieces.

use std::time::Duration;

/// Asks for time slices of `slice` for the calling thread, which Linux takes between 0.1 and 100 ms; older kernels do
/// nothing.
///
/// # Errors
/// Those of `sched_setattr(2)`, which sandboxes may forbid.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "neither std nor rustix knows these two calls")]
pub(super) fn request(slice: Duration) -> std::io::Result<()> {
    const SIZE: u32 = size_of::<libc::sched_attr>() as u32;
    let checked = |status: libc::c_long| match status {
        -1 => Err(std::io::Error::last_os_error()),
        _ => Ok(()),
    };
    let mut attributes = libc::sched_attr {
        size: SIZE,
        sched_policy: 0,
        sched_flags: 0,
        sched_nice: 0,
        sched_priority: 0,
        sched_runtime: 0,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: thread 0 is the calling one; the call writes at most SIZE bytes, which the structure has.
    checked(unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, SIZE, 0) })?;
    attributes.sched_runtime = slice.as_nanos() as u64;
    // SAFETY: the call reads a structure whose size it says, and changes the calling thread alone.
    checked(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) })
}

/// Other systems have no such request.
///
/// # Errors
/// Never.
#[cfg(not(target_os = "linux"))]
pub(super) fn request(_: Duration) -> std::io::Result<()> {
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_asked_for_without_changing_what_else_the_thread_was_given() {
        std::thread::spawn(|| {
            let before = rustix::process::getpriority_process(None).expect("a priority");
            request(Duration::from_micros(100)).expect("any thread may ask for a shorter slice");
            request(Duration::from_millis(50)).expect("and for a longer one");
            assert_eq!(rustix::process::getpriority_process(None).expect("a priority"), before);
        })
        .join()
        .expect("no panic");
    }
}
