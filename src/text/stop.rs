//! Stop strings: where a text is cut although the model goes on.
//!
//! A stop string may lie across the borders of tokens, so the matcher holds back the end of the text for as long as
//! it may begin one. What it holds is always shorter than the longest stop string.

use std::sync::Arc;

use super::TextError;

/// How many stop strings one request may have; each costs a search per token.
pub const NUM_STOP_STRINGS_MAX: usize = 16;
/// How long one stop string may be, in bytes; this much text may be held back.
pub const STOP_STRING_LEN_MAX: usize = 1024;

/// The stop strings of one request: none empty, few and short.
#[derive(Debug, Clone, Default)]
pub struct StopStrings(Arc<[String]>);

impl StopStrings {
    /// Checks the strings that a client gave.
    ///
    /// # Errors
    /// If one is empty or too long, or there are too many.
    pub fn new(strings: Vec<String>) -> Result<Self, TextError> {
        if strings.len() > NUM_STOP_STRINGS_MAX {
            return Err(TextError::TooManyStopStrings { count: strings.len(), limit: NUM_STOP_STRINGS_MAX });
        }
        for string in &strings {
            match string.len() {
                0 => return Err(TextError::EmptyStopString),
                len if len > STOP_STRING_LEN_MAX => {
                    return Err(TextError::StopStringTooLong { len, limit: STOP_STRING_LEN_MAX });
                }
                _ => {}
            }
        }
        Ok(Self(strings.into()))
    }

    /// The strings, in the order given.
    #[must_use]
    pub fn strings(&self) -> &[String] {
        &self.0
    }

    /// A matcher at the start of a text.
    #[must_use]
    pub fn matcher(&self) -> StopMatcher {
        StopMatcher { strings: self.clone(), held: String::new(), stopped: false }
    }

    /// The stop that is complete first in `text`: where it starts. Of several that end together the longest counts.
    fn find(&self, text: &str) -> Option<usize> {
        let places = self.0.iter().filter_map(|stop| text.find(stop.as_str()).map(|start| (start + stop.len(), start)));
        places.min().map(|(_, start)| start)
    }

    /// The length of the longest end of `text` that begins a stop string without completing it.
    fn beginning_len(&self, text: &str) -> usize {
        let beginning = |stop: &String| {
            let longest = text.len().min(stop.len() - 1);
            (1..=longest).rev().find(|&len| text.as_bytes().ends_with(&stop.as_bytes()[..len])).unwrap_or(0)
        };
        self.0.iter().map(beginning).max().unwrap_or(0)
    }
}

/// Watches one text for stop strings as it comes.
#[derive(Debug, Clone)]
pub struct StopMatcher {
    strings: StopStrings,
    held: String,
    stopped: bool,
}

/// What one more piece of text gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopStep {
    /// The text that may be sent now; it never holds a stop string or part of one that follows.
    pub text: String,
    /// Whether a stop string is complete; the text ends before it.
    pub stopped: bool,
}

impl StopMatcher {
    /// Takes the next piece of text. After a stop nothing more comes.
    pub fn push(&mut self, piece: &str) -> StopStep {
        if self.stopped {
            return StopStep { text: String::new(), stopped: true };
        }
        self.held.push_str(piece);
        if let Some(start) = self.strings.find(&self.held) {
            self.stopped = true;
            self.held.truncate(start);
            return StopStep { text: std::mem::take(&mut self.held), stopped: true };
        }
        let rest = self.held.split_off(self.held.len() - self.strings.beginning_len(&self.held));
        StopStep { text: std::mem::replace(&mut self.held, rest), stopped: false }
    }

    /// Ends the text and returns what was held back.
    #[must_use = "the returned text is not kept"]
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Whether a stop string was met.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matcher(strings: &[&str]) -> StopMatcher {
        StopStrings::new(strings.iter().map(ToString::to_string).collect()).expect("valid stop strings").matcher()
    }

    fn step(text: &str, stopped: bool) -> StopStep {
        StopStep { text: text.into(), stopped }
    }

    #[test]
    fn only_what_may_begin_a_stop_is_held_back() {
        let mut matcher = matcher(&["\n\n", "###"]);
        assert_eq!(matcher.push("a#b"), step("a#b", false));
        assert_eq!(matcher.push("c#"), step("c", false));
        assert_eq!(matcher.push("#"), step("", false));
        assert_eq!(matcher.push("\n"), step("##", false));
        assert_eq!(matcher.push("\nrest"), step("", true));
        assert_eq!(matcher.push("more"), step("", true));
        assert_eq!(matcher.finish(), "");
    }

    #[test]
    fn an_unfinished_stop_is_text_in_the_end() {
        let mut matcher = matcher(&["</code>"]);
        assert_eq!(matcher.push("x</co"), step("x", false));
        assert_eq!(matcher.finish(), "</co");
    }

    #[test]
    fn bad_stop_strings_are_refused() {
        assert!(matches!(StopStrings::new(vec![String::new()]), Err(TextError::EmptyStopString)));
        assert!(matches!(
            StopStrings::new(vec!["x".repeat(1025)]),
            Err(TextError::StopStringTooLong { len: 1025, .. })
        ));
        assert!(matches!(StopStrings::new(vec!["x".into(); 17]), Err(TextError::TooManyStopStrings { count: 17, .. })));
        assert_eq!(StopStrings::default().matcher().push("anything"), step("anything", false));
    }

    /// The text before the stop that is complete first: tries every end, then every start.
    fn naive(text: &str, stops: &[String]) -> (String, bool) {
        for end in 0..=text.len() {
            let start =
                stops.iter().filter_map(|stop| text.get(..end)?.strip_suffix(stop.as_str())).min_by_key(|s| s.len());
            if let Some(start) = start {
                return (start.to_string(), true);
            }
        }
        (text.to_string(), false)
    }

    proptest! {
        #[test]
        fn every_split_gives_what_a_naive_search_gives(
            pieces in prop::collection::vec("[abé]{0,4}", 0..12),
            stops in prop::collection::vec("[abé]{1,4}", 0..4),
        ) {
            let mut matcher = StopStrings::new(stops.clone()).expect("valid stop strings").matcher();
            let longest = stops.iter().map(String::len).max().unwrap_or(1);
            let mut out = String::new();
            for piece in &pieces {
                out += &matcher.push(piece).text;
                prop_assert!(matcher.held.len() < longest);
            }
            out += &matcher.finish();
            prop_assert_eq!((out, matcher.is_stopped()), naive(&pieces.concat(), &stops));
        }
    }
}
