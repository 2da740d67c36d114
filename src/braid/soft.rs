//! Soft rules as biases: what a habit of a code base does to the logits.
//!
//! A rule has a soft form where a text or a pattern tells that it is kept, or broken: what is forbidden is avoided, what
//! is asked for is preferred. A convention of names is told by the keyword that declares. Other rules have none.

use crate::constraint::{
    DeclarationKind, ForbiddenText, Language, MatchMode, NamingConvention, RegexPattern, Rule, SoftBias, TextOrRegex,
};

/// Logit units of a rule that is certain: what is avoided becomes twenty times less likely.
const WEIGHT: f32 = 3.0;

/// The biases that a soft rule becomes, by how sure we are of it; `language` is the one the output is in.
///
/// # Errors
/// Why it has no soft form.
pub(super) fn biases(rule: &Rule, confidence: f32, language: Option<Language>) -> Result<Vec<SoftBias>, String> {
    let weight = WEIGHT * confidence.clamp(0.0, 1.0);
    let avoid = |regex: String| SoftBias { text: None, regex: Some(regex), bias: -weight };
    match rule {
        Rule::ForbiddenText { any_of } => {
            Ok(any_of.iter().filter_map(|forbidden| avoided(forbidden, weight)).collect())
        }
        Rule::Regex { any_of, match_mode: MatchMode::Absent } => Ok(vec![avoid(alternation(any_of))]),
        Rule::Regex { any_of, match_mode: MatchMode::Contains } => {
            Ok(vec![SoftBias { text: None, regex: Some(alternation(any_of)), bias: weight }])
        }
        Rule::Calls { deny, .. } if !deny.is_empty() => Ok(vec![avoid(call_of(deny))]),
        Rule::Names { language: own, declaration, convention: Some(convention), .. } => {
            let language = own.or(language).ok_or("soft: no rule says in which language names are declared")?;
            let keywords = keywords(language, *declaration)
                .ok_or_else(|| format!("soft: no keyword of {language:?} declares a {declaration:?}").to_lowercase())?;
            Ok(vec![avoid(format!(r"(?-u:\b)(?:{keywords})[ \t]+(?:{})", breach(*convention)))])
        }
        rule => Err(format!("soft: a {} rule has no soft form; make it hard or state a bias", rule.type_name())),
    }
}

fn avoided(forbidden: &ForbiddenText, weight: f32) -> Option<SoftBias> {
    let (text, is_plain) = match forbidden.pattern().ok()? {
        TextOrRegex::Text(text) => (text, true),
        TextOrRegex::Regex(regex) => (regex, false),
    };
    if is_plain && !forbidden.ignore_case && !forbidden.whole_word {
        return Some(SoftBias { text: Some(text.to_owned()), regex: None, bias: -weight });
    }
    let pattern = if is_plain { regex_syntax::escape(text) } else { text.to_owned() };
    let pattern = if forbidden.ignore_case { format!("(?i:{pattern})") } else { format!("(?:{pattern})") };
    let edge = if forbidden.whole_word { r"(?-u:\b)" } else { "" };
    Some(SoftBias { text: None, regex: Some(format!("{edge}{pattern}{edge}")), bias: -weight })
}

/// One pattern of several, flags and all.
fn alternation(any_of: &[RegexPattern]) -> String {
    let one = |pattern: &RegexPattern| {
        let flags = pattern.flags.replace('g', "");
        let colon = if flags.is_empty() { "?:".to_owned() } else { format!("?{flags}:") };
        // A comment at the end of a verbose pattern would swallow the bracket.
        let end = if flags.contains('x') { "\n" } else { "" };
        format!("({colon}{}{end})", pattern.pattern)
    };
    any_of.iter().map(one).collect::<Vec<_>>().join("|")
}

/// A call of one of these: `eval` as a whole word, `.unwrap` on whatever it is.
fn call_of(callees: &[String]) -> String {
    let one = |callee: &String| match callee.strip_prefix('.') {
        Some(method) => format!(r"\.{}", regex_syntax::escape(method)),
        None => format!(r"(?-u:\b){}", regex_syntax::escape(callee)),
    };
    format!(r"(?:{})\(", callees.iter().map(one).collect::<Vec<_>>().join("|"))
}

/// The start of a name that does not follow a convention, up to the character that tells.
fn breach(convention: NamingConvention) -> &'static str {
    match convention {
        NamingConvention::SnakeCase => "[a-z0-9_]*[A-Z]",
        NamingConvention::CamelCase => "_*(?:[A-Z]|[a-z][a-zA-Z0-9]*_[a-zA-Z0-9])",
        NamingConvention::PascalCase => "_*(?:[a-z]|[A-Z][a-zA-Z0-9]*_[a-zA-Z0-9])",
        NamingConvention::ScreamingSnakeCase => "[A-Z0-9_]*[a-z]",
    }
}

/// The words of a language that stand before a declared name of this kind; `None` where no word does, or where the word
/// declares other kinds as well.
fn keywords(language: Language, declaration: DeclarationKind) -> Option<&'static str> {
    use DeclarationKind::{Constant, Function, Type, Variable};
    Some(match (language, declaration) {
        (Language::Typescript, Function) => "function",
        (Language::Typescript, Type) => "class|interface|type|enum",
        (Language::Typescript, Variable) => "let|var",
        (Language::Python, Function) => "def",
        (Language::Python, Type) => "class",
        (Language::Rust | Language::Zig, Function) => "fn",
        (Language::Rust, Type) => "struct|enum|trait|type|union",
        (Language::Rust, Variable) => "let|let[ ]+mut",
        (Language::Rust, Constant) => "const|static",
        (Language::Zig, Variable) => "var",
        (Language::Go, Function) => "func",
        (Language::Go, Type) => "type",
        (Language::Go, Variable) => "var",
        _ => return None,
    })
}
