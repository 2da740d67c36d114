//! Security profiles: families of patterns that generated code does not contain, each switchable by name.
//!
//! A pattern has two strengths. As `text` its bytes never appear, whatever they mean. As `code` it is refused where the
//! language's grammar says that it is a call, a text literal or a credential that is given one; a comment, and a longer
//! word such as `tokenizer`, pass. What a literal hides behind escapes or joins from two is out of reach of `code`.

use serde::{Deserialize, Serialize};

use crate::constraint::{Constraint, ForbiddenText, Kind, Rule};

/// What a pattern is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// SQL statements that change data or tables.
    Sql,
    /// Execution of commands and of code made at run time.
    Commands,
    /// Credentials written into the source.
    Credentials,
    /// Addresses.
    Urls,
    /// Paths outside the project.
    Paths,
}

/// Where a pattern is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PatternStrength {
    /// Anywhere, byte for byte (ASCII letters in either case where the pattern says so).
    Text,
    /// Where the grammar says that it is code.
    Code,
}

/// A pattern of a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// What it is about.
    pub family: Family,
    /// Its name within the family: `sql.drop` is `drop`.
    pub name: &'static str,
    /// The bytes refused as text; any of them.
    pub texts: &'static [&'static str],
    /// Whether ASCII letters of the texts stand for both cases.
    pub ignore_case: bool,
    /// What it is in code.
    pub code: InCode,
    /// The strength where none is asked for.
    pub default: PatternStrength,
}

/// What a pattern is in code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InCode {
    /// A call of this function, or of a method of this name.
    Call(&'static str),
    /// A word of a text literal, in either case.
    WordInLiteral(&'static str),
    /// A regex over a text literal.
    InLiteral(&'static str),
    /// A name that is given a text literal, as its words in snake case.
    AssignedName(&'static str),
}

const fn pattern(family: Family, name: &'static str, texts: &'static [&'static str], code: InCode) -> Pattern {
    Pattern { family, name, texts, ignore_case: false, code, default: PatternStrength::Code }
}

const fn sql(name: &'static str, texts: &'static [&'static str]) -> Pattern {
    let word = InCode::WordInLiteral(texts[0]);
    Pattern { ignore_case: true, ..pattern(Family::Sql, name, texts, word) }
}

const fn text(of: Pattern) -> Pattern {
    Pattern { default: PatternStrength::Text, ..of }
}

/// All patterns, by family.
pub const PATTERNS: &[Pattern] = &[
    sql("drop", &["DROP"]),
    sql("delete", &["DELETE"]),
    sql("insert", &["INSERT"]),
    sql("update", &["UPDATE"]),
    sql("truncate", &["TRUNCATE"]),
    sql("alter", &["ALTER"]),
    pattern(Family::Commands, "eval", &["eval"], InCode::Call("eval")),
    pattern(Family::Commands, "exec", &["exec"], InCode::Call("exec")),
    pattern(Family::Commands, "system", &["system("], InCode::Call("system")),
    pattern(Family::Commands, "spawn", &["spawn("], InCode::Call("spawn")),
    text(pattern(Family::Commands, "shell", &["sh -c"], InCode::InLiteral("sh -c"))),
    credential("password", &["password"], "password"),
    credential("api_key", &["api_key", "apikey"], "api_?key"),
    credential("token", &["token"], "token"),
    credential("secret", &["secret"], "secret"),
    text(pattern(Family::Urls, "http", &["http://"], InCode::InLiteral("http://"))),
    text(pattern(Family::Urls, "https", &["https://"], InCode::InLiteral("https://"))),
    text(pattern(Family::Urls, "ftp", &["ftp://"], InCode::InLiteral("ftp://"))),
    text(pattern(Family::Paths, "etc", &["/etc/"], InCode::InLiteral("/etc/"))),
    text(pattern(Family::Paths, "root", &["/root/"], InCode::InLiteral("/root/"))),
    text(Pattern {
        ignore_case: true,
        ..pattern(
            Family::Paths,
            "windows",
            &["C:\\Windows\\", "C:\\\\Windows\\\\"],
            InCode::InLiteral(r"(?i:C:\\{1,2}Windows\\)"),
        )
    }),
    pattern(Family::Paths, "parent", &["../"], InCode::InLiteral(r"\.\./")),
];

const fn credential(name: &'static str, texts: &'static [&'static str], word: &'static str) -> Pattern {
    Pattern { ignore_case: true, ..pattern(Family::Credentials, name, texts, InCode::AssignedName(word)) }
}

/// Why a profile cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// Neither a family nor a pattern has the name.
    #[error("there is no security pattern `{name}`; there are the families {}, and patterns such as `sql.drop`", families().join(", "))]
    UnknownPattern {
        /// The name asked for.
        name: String,
    },
    /// The strength is not one.
    #[error("`{strength}` is no strength; `text` refuses the bytes anywhere, `code` where the grammar says it is code")]
    UnknownStrength {
        /// What was asked for.
        strength: String,
    },
}

fn families() -> Vec<String> {
    let mut names: Vec<String> = PATTERNS.iter().map(|pattern| family_name(pattern.family).to_owned()).collect();
    names.dedup();
    names
}

fn family_name(family: Family) -> &'static str {
    match family {
        Family::Sql => "sql",
        Family::Commands => "commands",
        Family::Credentials => "credentials",
        Family::Urls => "urls",
        Family::Paths => "paths",
    }
}

impl Pattern {
    /// Family and name: `sql.drop`.
    #[must_use]
    pub fn full_name(&self) -> String {
        format!("{}.{}", family_name(self.family), self.name)
    }

    /// The rule that holds the pattern at a strength.
    #[must_use]
    pub fn rule(&self, strength: PatternStrength) -> Rule {
        if strength == PatternStrength::Text {
            let forbid = |text: &&str| ForbiddenText { ignore_case: self.ignore_case, ..ForbiddenText::text(*text) };
            return Rule::ForbiddenText { any_of: self.texts.iter().map(forbid).collect() };
        }
        let literals = |pattern: String| Rule::Literals { language: None, refuse: vec![pattern] };
        match self.code {
            InCode::Call(name) => {
                Rule::Calls { language: None, deny: vec![name.into(), format!(".{name}")], require: Vec::new() }
            }
            // A literal begins and ends with a quote, so a border always is a character.
            InCode::WordInLiteral(word) => literals(format!("[^0-9A-Za-z_](?i:{word})[^0-9A-Za-z_]")),
            InCode::InLiteral(pattern) => literals(pattern.to_owned()),
            InCode::AssignedName(word) => Rule::Secrets { language: None, names: vec![name_with(word)] },
        }
    }
}

/// Names of which `word` (a regex in lower case) is a word: `password`, `db_password`, `dbPassword`, `PASSWORDS`, and
/// not `passwordless`.
fn name_with(word: &str) -> String {
    let mut letters = word.chars();
    let capital: String = letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect();
    let capital = capital.replace("_?key", "_?[kK]ey");
    let lower = word.replace("_?key", "_?[kK]ey");
    let snake = format!("(?i:_*(?:[a-z0-9]+_+)*{word}s?(?:_+[a-z0-9]+)*_*)");
    format!("{snake}|{lower}s?[A-Z][A-Za-z0-9]*|[A-Za-z0-9]*[a-z0-9]{capital}s?(?:[A-Z][A-Za-z0-9]*)?")
}

/// The constraints of a profile, one per pattern, hard and stated: `sql,commands=text,paths.etc=code`, or `all`.
///
/// A later word speaks over an earlier one.
///
/// # Errors
/// [`ProfileError`] for a name or a strength that does not exist.
pub fn profile(words: &str) -> Result<Vec<Constraint>, ProfileError> {
    let mut chosen: Vec<Option<PatternStrength>> = vec![None; PATTERNS.len()];
    for word in words.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let (name, strength) = match word.split_once('=') {
            None => (word, None),
            Some((name, "text")) => (name, Some(PatternStrength::Text)),
            Some((name, "code")) => (name, Some(PatternStrength::Code)),
            Some((_, strength)) => return Err(ProfileError::UnknownStrength { strength: strength.into() }),
        };
        let is_meant =
            |pattern: &Pattern| name == "all" || name == family_name(pattern.family) || name == pattern.full_name();
        if !PATTERNS.iter().any(is_meant) {
            return Err(ProfileError::UnknownPattern { name: name.into() });
        }
        for (pattern, chosen) in PATTERNS.iter().zip(&mut chosen).filter(|(pattern, _)| is_meant(pattern)) {
            *chosen = Some(strength.unwrap_or(pattern.default));
        }
    }
    let constraint = |(pattern, strength): (&Pattern, Option<PatternStrength>)| {
        let strength = strength?;
        let name = format!("security.{}", pattern.full_name());
        let mut constraint = Constraint::stated(name, Kind::Security, pattern.rule(strength));
        constraint.description = match strength {
            PatternStrength::Text => format!("{} never appears, as text", pattern.texts.join(" or ")),
            PatternStrength::Code => format!("{} is refused where it is code", pattern.texts.join(" or ")),
        };
        Some(constraint)
    };
    Ok(PATTERNS.iter().zip(chosen).filter_map(constraint).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_words_speak_over_earlier_ones() {
        let constraints = profile("sql, sql.drop=text, urls=code").expect("known names");
        let find = |name: &str| constraints.iter().find(|constraint| constraint.name == name).expect("chosen");
        assert_eq!(constraints.len(), 9);
        assert_eq!(find("security.sql.drop").rule.type_name(), "forbidden_text");
        assert_eq!(find("security.sql.alter").rule.type_name(), "literals");
        assert_eq!(find("security.urls.ftp").rule.type_name(), "literals");
        assert_eq!(profile("all").expect("all").len(), PATTERNS.len());
    }

    #[test]
    fn what_does_not_exist_is_named() {
        let unknown = profile("sqli").expect_err("no such family").to_string();
        assert!(unknown.contains("`sqli`") && unknown.contains("credentials"), "{unknown}");
        assert!(profile("sql=weak").expect_err("no such strength").to_string().contains("`weak`"));
    }

    #[test]
    fn a_credential_is_a_word_of_a_name() {
        for (word, names, others) in [
            (
                "token",
                &["token", "TOKEN", "auth_token", "authToken", "tokens", "token_id", "_token"][..],
                &["tokenizer", "tokenize", "retokened"][..],
            ),
            (
                "api_?key",
                &["api_key", "API_KEY", "apikey", "apiKey", "myApiKey", "api_keys"],
                &["apikeyboard", "keyapi"],
            ),
        ] {
            let pattern = regex_automata::meta::Regex::new(&format!("^(?:{})$", name_with(word))).expect("a regex");
            names.iter().for_each(|name| assert!(pattern.is_match(name), "{name}"));
            others.iter().for_each(|name| assert!(!pattern.is_match(name), "{name}"));
        }
    }
}
