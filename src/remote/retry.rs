//! When a question is asked again: exponential backoff with full jitter, and never before the server said.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

/// The first wait is up to this.
const BASE: Duration = Duration::from_millis(200);
/// No wait of our own is longer.
const WAIT_MAX: Duration = Duration::from_secs(8);
/// A longer wait than this that a server asks for is read as this.
const ASKED_MAX: Duration = Duration::from_secs(3600);

/// How long to wait after attempt number `attempt`, the first of which is 1: a random time up to 200 ms, doubled with
/// each attempt up to 8 s, or what the server `asked` for where that is longer.
#[must_use]
pub fn backoff(attempt: u32, asked: Option<Duration>) -> Duration {
    let limit = BASE.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(WAIT_MAX);
    let random = RandomState::new().hash_one(attempt) >> 11;
    let jittered = limit.mul_f64(random as f64 / (1u64 << 53) as f64);
    jittered.max(asked.unwrap_or_default())
}

/// What a `retry-after` header asks for. Only seconds are read; of a date nothing is known, and it counts as absent.
pub(super) fn retry_after(header: &str) -> Option<Duration> {
    header.trim().parse().ok().map(Duration::from_secs).map(|asked| asked.min(ASKED_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_keep_to_what_was_asked() {
        for attempt in 1..40 {
            let limit = WAIT_MAX.min(BASE * (1 << (attempt - 1).min(10)));
            assert!((0..50).all(|_| backoff(attempt, None) <= limit), "attempt {attempt}");
            assert!(backoff(attempt, Some(Duration::from_secs(20))) == Duration::from_secs(20));
        }
        let waits: std::collections::BTreeSet<_> = (0..50).map(|_| backoff(6, None)).collect();
        assert!(waits.len() > 40, "clients that failed together do not come back together");
    }

    #[test]
    fn only_seconds_are_read() {
        assert_eq!(retry_after(" 7 "), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("99999999999"), Some(ASKED_MAX));
        for other in ["", "-1", "soon", "Wed, 21 Oct 2015 07:28:00 GMT"] {
            assert_eq!(retry_after(other), None, "{other}");
        }
    }
}
