//! What one key has left: requests and tokens per minute, and how many requests run at once.
//!
//! Each limit is a bucket that holds one minute's worth and fills evenly. A request takes its place at once and pays
//! for tokens when it ends, by what was generated: nobody knows before. So a request is admitted while the balance is
//! positive, and may overdraw it once; what is owed is waited for.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// What a key may use; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeyLimits {
    pub(crate) requests_per_minute: Option<u32>,
    /// Tokens generated, over all choices.
    pub(crate) tokens_per_minute: Option<u32>,
    /// Requests that run at once.
    pub(crate) concurrent: Option<u32>,
    /// Tokens of one choice.
    pub(crate) max_tokens: Option<u32>,
}

/// The balance of one key.
#[derive(Debug, Default)]
pub(crate) struct Account(Mutex<Balance>);

#[derive(Debug, Default)]
struct Balance {
    requests: Bucket,
    tokens: Bucket,
    num_running: u32,
}

/// What was used of a minute's worth and has not come back yet.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    used: f64,
    at: Option<Instant>,
}

impl Bucket {
    /// Lets come back what has come back since the last look.
    fn refill(&mut self, per_minute: Option<u32>, now: Instant) {
        let elapsed = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let earned = per_minute.map_or(f64::INFINITY, |limit| elapsed.as_secs_f64() / 60.0 * f64::from(limit));
        self.used = (self.used - earned).max(0.0);
        self.at = self.at.max(Some(now));
    }

    fn meter(self, per_minute: Option<u32>) -> Option<Meter> {
        let limit = per_minute?;
        let per_second = f64::from(limit) / 60.0;
        let left = f64::from(limit) - self.used;
        Some(Meter { limit, left, reset: Duration::from_secs_f64(self.used / per_second) })
    }
}

/// How one limit stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Meter {
    /// Per minute.
    pub(crate) limit: u32,
    /// What is left now; less than nothing where it is overdrawn.
    pub(crate) left: f64,
    /// When all of it is there again.
    pub(crate) reset: Duration,
}

impl Meter {
    /// When `count` will be left.
    fn wait_for(&self, count: f64) -> Duration {
        Duration::from_secs_f64((count - self.left).max(0.0) * 60.0 / f64::from(self.limit))
    }
}

/// How the limits of a key stand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Standing {
    pub(crate) requests: Option<Meter>,
    pub(crate) tokens: Option<Meter>,
}

/// A limit that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reached {
    Requests { limit: u32 },
    Tokens { limit: u32 },
    Concurrent { limit: u32 },
}

/// A refusal: which limit, and when to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) reached: Reached,
    pub(crate) retry_after: Duration,
}

impl Refused {
    /// Whole seconds until it is worth trying again; at least 1.
    pub(crate) fn retry_after_s(&self) -> u64 {
        self.retry_after.as_millis().div_ceil(1000).max(1) as u64
    }
}

impl Account {
    /// Takes a place for one request, or says which limit is reached; and how the limits stand after it.
    pub(crate) fn admit(self: &Arc<Self>, limits: KeyLimits, now: Instant) -> (Result<Ticket, Refused>, Standing) {
        let mut balance = self.lock();
        balance.requests.refill(limits.requests_per_minute, now);
        balance.tokens.refill(limits.tokens_per_minute, now);
        let refused = balance.refuse(&limits);
        if refused.is_none() {
            balance.requests.used += 1.0;
            balance.num_running += 1;
        }
        let standing = balance.standing(&limits);
        let ticket = match refused {
            Some(refused) => Err(refused),
            None => Ok(Ticket { account: self.clone(), limits, num_tokens: Arc::default() }),
        };
        (ticket, standing)
    }

    fn lock(&self) -> MutexGuard<'_, Balance> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Balance {
    fn refuse(&self, limits: &KeyLimits) -> Option<Refused> {
        if let Some(limit) = limits.concurrent.filter(|&limit| self.num_running >= limit) {
            let reached = Reached::Concurrent { limit };
            return Some(Refused { reached, retry_after: Duration::from_secs(1) });
        }
        let Standing { requests, tokens } = self.standing(limits);
        if let Some(meter) = requests.filter(|meter| meter.left < 1.0) {
            let reached = Reached::Requests { limit: meter.limit };
            return Some(Refused { reached, retry_after: meter.wait_for(1.0) });
        }
        let meter = tokens.filter(|meter| meter.left <= 0.0)?;
        let reached = Reached::Tokens { limit: meter.limit };
        Some(Refused { reached, retry_after: meter.wait_for(1.0) })
    }

    fn standing(&self, limits: &KeyLimits) -> Standing {
        Standing {
            requests: self.requests.meter(limits.requests_per_minute),
            tokens: self.tokens.meter(limits.tokens_per_minute),
        }
    }
}

/// A request under way. Dropping it gives its place back and pays for its tokens.
#[derive(Debug)]
pub(crate) struct Ticket {
    account: Arc<Account>,
    limits: KeyLimits,
    /// Tokens generated so far; whoever generates adds to it.
    num_tokens: Arc<AtomicU64>,
}

impl Ticket {
    pub(crate) fn num_tokens(&self) -> Arc<AtomicU64> {
        self.num_tokens.clone()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut balance = self.account.lock();
        balance.num_running = balance.num_running.saturating_sub(1);
        balance.tokens.refill(self.limits.tokens_per_minute, Instant::now());
        balance.tokens.used += self.num_tokens.load(Relaxed) as f64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: KeyLimits =
        KeyLimits { requests_per_minute: Some(2), tokens_per_minute: Some(60), concurrent: Some(2), max_tokens: None };

    fn reached(account: &Arc<Account>, limits: KeyLimits, now: Instant) -> Option<Refused> {
        account.admit(limits, now).0.err()
    }

    #[test]
    fn requests_come_back_evenly() {
        let (account, start) = (Arc::new(Account::default()), Instant::now());
        for _ in 0..2 {
            assert!(account.admit(LIMITS, start).0.is_ok());
        }
        let refused = reached(&account, LIMITS, start).expect("two were taken");
        assert_eq!(refused.reached, Reached::Requests { limit: 2 });
        assert_eq!(refused.retry_after.as_secs_f64().round(), 30.0);
        assert!(reached(&account, LIMITS, start + Duration::from_secs(29)).is_some());
        assert!(reached(&account, LIMITS, start + Duration::from_secs(31)).is_none());
        assert!(reached(&account, LIMITS, start + Duration::from_secs(32)).is_some());
        let (_, standing) = account.admit(LIMITS, start + Duration::from_secs(600));
        assert_eq!(standing.requests.map(|meter| meter.left), Some(1.0), "no more than a minute's worth is saved up");
    }

    #[test]
    fn tokens_are_paid_at_the_end_and_may_be_overdrawn_once() {
        let limits = KeyLimits { requests_per_minute: None, ..LIMITS };
        let (account, start) = (Arc::new(Account::default()), Instant::now());
        let ticket = account.admit(limits, start).0.expect("nothing was used");
        ticket.num_tokens().fetch_add(119, Relaxed);
        assert!(reached(&account, limits, start).is_none(), "what runs is not paid yet");
        drop(ticket);
        let refused = reached(&account, limits, Instant::now()).expect("59 tokens are owed");
        assert_eq!(refused.reached, Reached::Tokens { limit: 60 });
        assert!((59.0..61.0).contains(&refused.retry_after.as_secs_f64()), "{refused:?}");
        assert!(reached(&account, limits, Instant::now() + Duration::from_secs(58)).is_some());
        assert!(reached(&account, limits, Instant::now() + Duration::from_secs(61)).is_none());
    }

    #[test]
    fn a_place_is_free_again_when_its_ticket_goes() {
        let limits = KeyLimits { concurrent: Some(1), ..KeyLimits::default() };
        let (account, now) = (Arc::new(Account::default()), Instant::now());
        let (ticket, standing) = account.admit(limits, now);
        assert_eq!(standing, Standing { requests: None, tokens: None });
        assert_eq!(
            reached(&account, limits, now).map(|refused| refused.reached),
            Some(Reached::Concurrent { limit: 1 })
        );
        drop(ticket);
        assert!(reached(&account, limits, now).is_none());
    }

    #[test]
    fn a_refusal_costs_nothing() {
        let (account, start) = (Arc::new(Account::default()), Instant::now());
        let tickets = [account.admit(LIMITS, start).0, account.admit(LIMITS, start).0];
        for _ in 0..100 {
            assert!(account.admit(LIMITS, start).0.is_err());
        }
        drop(tickets);
        assert!(reached(&account, LIMITS, start + Duration::from_secs(31)).is_none());
    }
}
