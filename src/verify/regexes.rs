//! Regex groups, judged by the `regex` crate over bytes.
//!
//! Each pattern of a group is compiled by itself and the answers are combined, so that nothing depends on how an
//! alternation is spliced together.

use regex::bytes::{Regex, RegexBuilder};

use super::Judgement;
use crate::constraint::{MatchMode, RegexGroup, RegexPattern};

/// Size of one compiled pattern; compiling up to it takes some tens of milliseconds.
const MAX_REGEX_BYTES: usize = 8 << 20;
/// Transition cache of one pattern; past it the search is slower, never wrong.
const MAX_REGEX_CACHE_BYTES: usize = 8 << 20;

/// Whether the group holds for `text`.
pub(super) fn check_group(text: &[u8], group: &RegexGroup) -> Judgement {
    let (open, close) = match group.match_mode {
        MatchMode::Full => (r"\A", r"\z"),
        MatchMode::Prefix => (r"\A", ""),
        MatchMode::Contains | MatchMode::Absent => ("", ""),
    };
    let compile = |RegexPattern { pattern, flags }: &RegexPattern| compile(pattern, Flags::parse(flags)?, open, close);
    let regexes = match group.any_of.iter().map(compile).collect::<Result<Vec<_>, _>>() {
        Ok(regexes) => regexes,
        Err(why) => return Judgement::Unknown(why),
    };
    if regexes.is_empty() {
        return Judgement::Unknown("the group has no pattern".into());
    }
    if group.match_mode == MatchMode::Absent {
        return check_absent(text, &regexes);
    }
    if regexes.iter().any(|regex| regex.is_match(text)) {
        return Judgement::Holds;
    }
    Judgement::Fails(match group.match_mode {
        MatchMode::Full => "the whole output does not match".into(),
        MatchMode::Prefix => "the output does not begin with a match".into(),
        MatchMode::Contains | MatchMode::Absent => "the output contains no match".into(),
    })
}

fn check_absent(text: &[u8], regexes: &[Regex]) -> Judgement {
    if regexes.iter().any(|regex| regex.is_match(b"")) {
        return Judgement::Unknown("a pattern matches the empty string, which nothing can avoid".into());
    }
    let Some((regex, found)) = regexes.iter().find_map(|regex| Some((regex, regex.find(text)?))) else {
        return Judgement::Holds;
    };
    let why = format!("bytes {}..{} match", found.start(), found.end());
    if survives_more_text(regex, text, 0) { Judgement::Violated(why) } else { Judgement::Fails(why) }
}

/// Whether `text` has a match from `start` on that stays one whatever follows, as `$` and `\b` at the end do not.
pub(super) fn survives_more_text(regex: &Regex, text: &[u8], start: usize) -> bool {
    [b'a', b' ', b'\n'].into_iter().all(|next| {
        let longer = [text, &[next]].concat();
        regex.find_at(&longer, start).is_some_and(|found| found.end() <= text.len())
    })
}

/// The flags of a pattern.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flags {
    pub(super) ignore_case: bool,
    pub(super) multi_line: bool,
    pub(super) dot_all: bool,
    pub(super) extended: bool,
}

impl Flags {
    /// Reads `i`, `m`, `s`, `x` and, without effect, `g`.
    fn parse(flags: &str) -> Result<Self, String> {
        let mut parsed = Self::default();
        for flag in flags.chars() {
            match flag {
                'i' => parsed.ignore_case = true,
                'm' => parsed.multi_line = true,
                's' => parsed.dot_all = true,
                'x' => parsed.extended = true,
                'g' => {}
                other => return Err(format!("flag `{other}` is unknown; use i, m, s or x")),
            }
        }
        Ok(parsed)
    }
}

/// Compiles `open(?:pattern)close`, where the pattern must be well-formed by itself.
pub(super) fn compile(pattern: &str, flags: Flags, open: &str, close: &str) -> Result<Regex, String> {
    build(pattern, flags).map_err(|error| format!("the pattern does not compile: {error}"))?;
    build(&format!("{open}(?:{pattern}){close}"), flags)
        // A pattern in verbose mode may end in a comment, which would swallow the parenthesis.
        .or_else(|_| build(&format!("{open}(?:{pattern}\n){close}"), flags))
        .map_err(|error| format!("the pattern does not compile: {error}"))
}

fn build(pattern: &str, flags: Flags) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern)
        .case_insensitive(flags.ignore_case)
        .multi_line(flags.multi_line)
        .dot_matches_new_line(flags.dot_all)
        .ignore_whitespace(flags.extended)
        .size_limit(MAX_REGEX_BYTES)
        .dfa_size_limit(MAX_REGEX_CACHE_BYTES)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLDS: &str = "holds";
    const FAILS: &str = "fails";
    const VIOLATED: &str = "violated";
    const UNKNOWN: &str = "unknown";

    fn judge(any_of: &[(&str, &str)], match_mode: MatchMode, text: &str) -> &'static str {
        let any_of =
            any_of.iter().map(|&(pattern, flags)| RegexPattern { pattern: pattern.into(), flags: flags.into() });
        match check_group(text.as_bytes(), &RegexGroup { any_of: any_of.collect(), match_mode }) {
            Judgement::Holds => HOLDS,
            Judgement::Fails(_) => FAILS,
            Judgement::Violated(_) => VIOLATED,
            Judgement::Unknown(_) => UNKNOWN,
            Judgement::Enforced => "enforced",
        }
    }

    #[test]
    fn match_modes_and_flags_mean_what_the_ir_says() {
        use MatchMode::{Absent, Contains, Full, Prefix};
        for (pattern, flags, mode, text, expected) in [
            ("a|ab", "", Full, "ab", HOLDS),
            ("a|ab", "", Full, "abc", FAILS),
            ("a|b", "", Full, "ab", FAILS),
            ("^a$", "m", Full, "a\nb", FAILS),
            ("a+", "", Full, "a\n", FAILS),
            ("", "", Full, "", HOLDS),
            ("ab", "", Prefix, "abc", HOLDS),
            ("ab", "", Prefix, "cab", FAILS),
            ("^b", "", Contains, "a\nb", FAILS),
            ("^b", "m", Contains, "a\nb", HOLDS),
            ("a.b", "", Contains, "a\nb", FAILS),
            ("a.b", "s", Contains, "a\nb", HOLDS),
            ("A", "i", Contains, "a", HOLDS),
            ("A", "g", Contains, "a", FAILS),
            ("a b # c", "x", Full, "ab", HOLDS),
            ("(?x)a b # c", "", Full, "ab", HOLDS),
            ("é.", "", Full, "éß", HOLDS),
            ("x", "", Absent, "abc", HOLDS),
            ("b", "", Absent, "abc", VIOLATED),
            ("c$", "", Absent, "abc", FAILS),
            ("c$", "", Absent, "abcd", HOLDS),
            (r"c\b", "", Absent, "abc", FAILS),
            (r"b\b", "", Absent, "ab c", VIOLATED),
            ("a*", "", Absent, "bbb", UNKNOWN),
            ("a", "y", Full, "a", UNKNOWN),
            ("(", "", Full, "(", UNKNOWN),
            ("a)(b", "", Full, "ab", UNKNOWN),
            (r"(?=a)", "", Full, "", UNKNOWN),
            ("(?:(?:[a-z]{1,1000}){1,1000}){1,1000}", "", Full, "a", UNKNOWN),
        ] {
            assert_eq!(judge(&[(pattern, flags)], mode, text), expected, "{pattern:?} {flags:?} {mode:?} {text:?}");
        }
    }

    #[test]
    fn a_group_is_one_alternation() {
        let group = [("yes", ""), ("NO", "i")];
        for (mode, text, expected) in [
            (MatchMode::Full, "no", HOLDS),
            (MatchMode::Full, "Yes", FAILS),
            (MatchMode::Contains, "oh yes", HOLDS),
            (MatchMode::Absent, "oh no", VIOLATED),
            (MatchMode::Absent, "maybe", HOLDS),
        ] {
            assert_eq!(judge(&group, mode, text), expected, "{mode:?} {text:?}");
        }
        assert_eq!(judge(&[], MatchMode::Full, ""), UNKNOWN);
    }

    #[test]
    fn text_that_is_not_utf8_matches_no_character() {
        let any_of = vec![RegexPattern { pattern: ".*".into(), flags: "s".into() }];
        let group = RegexGroup { any_of, match_mode: MatchMode::Full };
        assert!(matches!(check_group(b"a\xff", &group), Judgement::Fails(_)));
    }
}
