//! Budgets of a running service, imported as advisory rules: nothing here can be enforced on text, so each is a
//! sentence for the prompt and the report.
//!
//! ```json
//! {
//!   "service": "shop",
//!   "budgets": [
//!     {"operation": "POST /orders", "latency_ms": {"p50": 20, "p95": 80, "p99": 250}, "error_rate": 0.001,
//!      "samples": 120000}
//!   ]
//! }
//! ```
//!
//! `service` and `samples` (how many requests the budget was measured or agreed on) may be missing, and so may
//! `latency_ms`, each of its percentiles, or `error_rate` (a share of requests, 0 to 1), but not all of a budget. Keys
//! that are not listed here are refused.

use serde::Deserialize;

use super::json::{self, keys};
use super::lines::Lines;
use super::{CONSTRAINTS_MAX, ClewError, DESCRIPTION_BYTES_MAX};
use crate::constraint::{Constraint, ConstraintSet, Kind, Origin, Priority, Rule, Severity, Source, Strength};

/// Longest telemetry file that is read, in bytes; one takes about 10 ms per MB.
pub const TELEMETRY_BYTES_MAX: usize = 1024 * 1024;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Telemetry {
    service: Option<String>,
    budgets: Vec<Budget>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Budget {
    operation: String,
    #[serde(default)]
    latency_ms: Latency,
    error_rate: Option<f64>,
    samples: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Latency {
    p50: Option<f64>,
    p95: Option<f64>,
    p99: Option<f64>,
}

/// Reads a telemetry file: one advisory constraint per budget of latency and one per budget of errors.
///
/// # Errors
/// [`ClewError::TooLarge`] over [`TELEMETRY_BYTES_MAX`], or [`ClewError::Malformed`] with the place of what is no such
/// file: an unknown key, a negative time, percentiles that fall, a share over 1, more than [`CONSTRAINTS_MAX`] rules.
pub fn read_telemetry(text: &str, file: &str) -> Result<ConstraintSet, ClewError> {
    if text.len() > TELEMETRY_BYTES_MAX {
        return Err(ClewError::TooLarge { size: text.len(), limit: TELEMETRY_BYTES_MAX });
    }
    let lines = Lines::of(text);
    let malformed = |offset: usize, message: String| {
        let (line, column) = lines.place(offset);
        ClewError::Malformed { file: file.to_owned(), line, column, message }
    };
    let telemetry: Telemetry = json::parse(text).map_err(|(offset, message)| malformed(offset, message))?;
    let keys = keys(text);
    let mut places = keys.iter().filter(|key| key.depth == 3 && key.name == "operation").map(|key| key.offset);
    let mut set = ConstraintSet { name: file.to_owned(), ..ConstraintSet::default() };
    for budget in &telemetry.budgets {
        let offset = places.next().unwrap_or_default();
        budget.check().map_err(|why| malformed(offset, format!("`{}`: {why}", budget.operation)))?;
        let (line, column) = lines.place(offset);
        let origin = Origin { file: file.to_owned(), line, column };
        for (what, sentence) in budget.sentences(telemetry.service.as_deref()) {
            set.push(advisory(format!("telemetry.{what}.{}", budget.operation), sentence, origin.clone()));
        }
        if set.constraints.len() > CONSTRAINTS_MAX {
            return Err(malformed(offset, format!("more than {CONSTRAINTS_MAX} rules; split the file")));
        }
    }
    Ok(set)
}

impl Budget {
    fn check(&self) -> Result<(), &'static str> {
        let percentiles: Vec<f64> = self.percentiles().map(|(_, time)| time).collect();
        if self.operation.is_empty() || self.operation.len() > DESCRIPTION_BYTES_MAX / 2 {
            return Err("an operation's name has 1 to 512 bytes");
        }
        if percentiles.iter().any(|time| !time.is_finite() || *time < 0.0) {
            return Err("a latency is a number of milliseconds, 0 or more");
        }
        if !percentiles.is_sorted() {
            return Err("a higher percentile is at least as slow as a lower one");
        }
        if self.error_rate.is_some_and(|rate| !(0.0..=1.0).contains(&rate)) {
            return Err("an error rate is a share of requests, 0 to 1");
        }
        if percentiles.is_empty() && self.error_rate.is_none() {
            return Err("neither a latency nor an error rate is given");
        }
        Ok(())
    }

    fn percentiles(&self) -> impl Iterator<Item = (&'static str, f64)> {
        let latency = &self.latency_ms;
        let all = [("p50", latency.p50), ("p95", latency.p95), ("p99", latency.p99)];
        all.into_iter().filter_map(|(name, time)| Some((name, time?)))
    }

    fn sentences(&self, service: Option<&str>) -> Vec<(&'static str, String)> {
        let of_service = service.map_or_else(String::new, |service| format!(" of {service}"));
        let samples = self.samples.map_or_else(String::new, |samples| format!(", over {samples} requests"));
        let times: Vec<_> = self.percentiles().map(|(name, time)| format!("{name} within {time} ms")).collect();
        let subject = format!("{}{of_service}", self.operation);
        let latency =
            (!times.is_empty()).then(|| ("latency", format!("{subject} answers {}{samples}", times.join(", "))));
        let rate = self
            .error_rate
            .map(|rate| ("error_rate", format!("{subject} fails for at most {} % of requests{samples}", rate * 100.0)));
        latency.into_iter().chain(rate).collect()
    }
}

fn advisory(name: String, sentence: String, origin: Origin) -> Constraint {
    Constraint {
        name,
        description: sentence[..sentence.floor_char_boundary(DESCRIPTION_BYTES_MAX)].to_owned(),
        kind: Kind::Operational,
        source: Source::Telemetry,
        severity: Severity::Info,
        priority: Priority::Medium,
        strength: Strength::Advisory,
        origin: Some(origin),
        ..Constraint::stated("", Kind::Operational, Rule::Prose { text: sentence })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_advisory_sentences_with_their_places() {
        let text = "{\"service\": \"shop\", \"budgets\": [\n {\"operation\": \"POST /orders\", \"latency_ms\": \
                    {\"p50\": 20, \"p99\": 250.5}, \"error_rate\": 0.001, \"samples\": 120},\n {\"error_rate\": 0, \
                    \"operation\": \"GET /\"}]}";
        let set = read_telemetry(text, "t.json").expect("a telemetry file");
        let found: Vec<_> = set.constraints.iter().map(|one| (one.name.as_str(), one.description.as_str())).collect();
        let expected = [
            (
                "telemetry.latency.POST /orders",
                "POST /orders of shop answers p50 within 20 ms, p99 within 250.5 ms, over 120 requests",
            ),
            (
                "telemetry.error_rate.POST /orders",
                "POST /orders of shop fails for at most 0.1 % of requests, over 120 requests",
            ),
            ("telemetry.error_rate.GET /", "GET / of shop fails for at most 0 % of requests"),
        ];
        assert_eq!(found, expected);
        for one in &set.constraints {
            assert_eq!(
                (one.kind, one.source, one.strength),
                (Kind::Operational, Source::Telemetry, Strength::Advisory)
            );
            assert!(matches!(&one.rule, Rule::Prose { text } if *text == one.description));
        }
        let lines: Vec<_> = set.constraints.iter().filter_map(|one| one.origin.as_ref()).map(|at| at.line).collect();
        assert_eq!(lines, [2, 2, 3]);
    }

    #[test]
    fn what_is_no_telemetry_is_refused_with_its_place() {
        for (text, line, why) in [
            ("{\"budgets\": [],\n\"more\": 1}", 2, "unknown field `more`"),
            ("{\"budgets\": [\n{\"operation\": \"a\", \"latency\": {}}]}", 2, "unknown field `latency`"),
            ("{\"budgets\": [\n\n{\"operation\": \"a\"}]}", 3, "neither"),
            ("{\"budgets\": [{\"operation\": \"a\", \"error_rate\": 2}]}", 1, "share"),
            ("{\"budgets\": [{\"operation\": \"a\", \"latency_ms\": {\"p50\": -1}}]}", 1, "milliseconds"),
            ("{\"budgets\": [{\"operation\": \"a\", \"latency_ms\": {\"p50\": 2, \"p95\": 1}}]}", 1, "slow"),
            ("{\"budgets\": [{\"operation\": \"\", \"error_rate\": 0}]}", 1, "512"),
            ("[", 1, "EOF"),
        ] {
            match read_telemetry(text, "t.json") {
                Err(ClewError::Malformed { line: at, message, .. }) => {
                    assert!(at == line && message.contains(why), "{text} gave {at}: {message}");
                }
                other => panic!("{text} gave {other:?}"),
            }
        }
    }
}
