//! The numbers of a request, each held to its range by an error that names it.

use std::{collections::BTreeMap, ops::RangeInclusive};

use super::error::HttpError;

/// `value` if it lies in `range`, `default` if it is absent. NaN lies in no range.
pub(crate) fn in_range(
    param: &str,
    value: Option<f64>,
    range: RangeInclusive<f64>,
    default: f32,
) -> Result<f32, HttpError> {
    match value {
        None => Ok(default),
        Some(value) if range.contains(&value) => Ok(value as f32),
        Some(value) => {
            Err(HttpError::invalid_value(param, format!("{value} is not in {}..={}", range.start(), range.end())))
        }
    }
}

/// A share that must be more than nothing: 0 would leave no token, or divide by zero.
pub(crate) fn positive(param: &str, value: Option<f64>, max: f64, default: f32) -> Result<f32, HttpError> {
    match in_range(param, value, 0.0..=max, default)? {
        0.0 => Err(HttpError::invalid_value(param, format!("must be more than 0 and at most {max}"))),
        value => Ok(value),
    }
}

/// `value` if it is in `1..=max`, `default` if it is absent.
pub(crate) fn count(param: &str, value: Option<u32>, max: u32, default: u32) -> Result<u32, HttpError> {
    match value.unwrap_or(default) {
        0 => Err(HttpError::invalid_value(param, "must be at least 1")),
        value if value > max => Err(HttpError::invalid_value(param, format!("{value} is more than {max}"))),
        value => Ok(value),
    }
}

/// OpenAI's map of token ids, as strings, to -100..=100.
pub(crate) fn logit_bias(map: Option<BTreeMap<String, f64>>, vocab_len: usize) -> Result<Vec<(u32, f32)>, HttpError> {
    map.unwrap_or_default()
        .into_iter()
        .map(|(id, bias)| {
            let param = format!("logit_bias.{id}");
            let token = id.parse::<u32>().ok().filter(|&token| (token as usize) < vocab_len).ok_or_else(|| {
                HttpError::invalid_value(&param, format!("not a token id of this model, which has {vocab_len}"))
            })?;
            Ok((token, in_range(&param, Some(bias), -100.0..=100.0, 0.0)?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_outside_their_range_are_refused() {
        assert!(in_range("temperature", Some(f64::NAN), 0.0..=2.0, 1.0).is_err());
        assert!(in_range("temperature", Some(f64::INFINITY), 0.0..=2.0, 1.0).is_err());
        assert!(in_range("temperature", Some(-0.1), 0.0..=2.0, 1.0).is_err());
        assert!(positive("top_p", Some(0.0), 1.0, 1.0).is_err());
        assert!(count("n", Some(0), 4, 1).is_err());
        assert!(count("n", Some(5), 4, 1).is_err());
        for bad in [("x", 1.0), ("-1", 1.0), ("10", 1.0), ("1", 101.0)] {
            assert!(logit_bias(Some(BTreeMap::from([(bad.0.to_owned(), bad.1)])), 10).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn numbers_inside_their_range_pass() {
        assert_eq!(in_range("temperature", Some(2.0), 0.0..=2.0, 1.0).ok(), Some(2.0));
        assert_eq!(in_range("temperature", None, 0.0..=2.0, 1.0).ok(), Some(1.0));
        assert_eq!(logit_bias(Some(BTreeMap::from([("9".to_owned(), -100.0)])), 10).ok(), Some(vec![(9, -100.0)]));
    }
}
