//! Formats as regular expressions, each over the whole string.
//!
//! Those of llguidance are kept where they say what the RFC says; the others are written here: `date` knows leap years
//! and `time` leap seconds, which are valid only at 23:59 UTC.

/// Formats that llguidance enforces as their RFC says.
const OF_LLGUIDANCE: [&str; 4] = ["duration", "hostname", "ipv4", "uuid"];

/// What a format becomes.
pub(super) enum Format {
    /// llguidance's own expression for this name.
    Named,
    /// An expression, anchored at both ends.
    Pattern(String),
}

/// What the format of this name becomes; `None` for one that is not known here.
pub(super) fn lookup(name: &str) -> Option<Format> {
    if OF_LLGUIDANCE.contains(&name) {
        return Some(Format::Named);
    }
    let body = match name {
        "date" => date(),
        "time" => time(),
        "date-time" => format!("{}[Tt]{}", group(&date()), group(&time())),
        "email" => email(),
        "json-pointer" => json_pointer(),
        "relative-json-pointer" => format!("(?:0|[1-9][0-9]*)(?:#|{})", json_pointer()),
        "ipv6" => ipv6(),
        "uri" => uri(),
        "uri-reference" => uri_reference(),
        "uri-template" => uri_template(),
        _ => return None,
    };
    Some(Format::Pattern(format!("^{}$", group(&body))))
}

/// Every name that [`lookup`] knows.
pub(super) fn names() -> Vec<&'static str> {
    let own = [
        "date",
        "time",
        "date-time",
        "email",
        "ipv6",
        "json-pointer",
        "relative-json-pointer",
        "uri",
        "uri-reference",
        "uri-template",
    ];
    own.into_iter().chain(OF_LLGUIDANCE).collect()
}

fn group(body: &str) -> String {
    format!("(?:{body})")
}

/// RFC 3339 `full-date`.
fn date() -> String {
    let leap_in_century = "(?:0[48]|[2468][048]|[13579][26])";
    let leap = format!("(?:[0-9]{{2}}{leap_in_century}|(?:[02468][048]|[13579][26])00)");
    format!(
        "[0-9]{{4}}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)\
         |02-(?:0[1-9]|1[0-9]|2[0-8]))|{leap}-02-29"
    )
}

/// RFC 3339 `full-time`: a leap second is valid where the time less its offset is 23:59.
fn time() -> String {
    let fraction = r"(?:\.[0-9]+)?";
    let plain =
        format!("(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]{fraction}(?:[Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])");
    let mut leaps = vec![format!("23:59:60{fraction}[Zz]")];
    for offset in 0..24 * 60u32 {
        let (hour, minute) = (offset / 60, offset % 60);
        for (sign, local) in [("+", (1439 + offset) % 1440), ("-", 1439 - offset)] {
            // Offsets of whole and half hours, the ones that clocks keep, and of three quarters.
            if minute % 15 == 0 {
                let sign = if sign == "+" { r"\+" } else { sign };
                leaps.push(format!("{:02}:{:02}:60{fraction}{sign}{hour:02}:{minute:02}", local / 60, local % 60));
            }
        }
    }
    format!("{plain}|{}", leaps.join("|"))
}

/// RFC 5321 `Mailbox`.
fn email() -> String {
    let atom = r"[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~]+";
    let quoted = r#""(?:[ !\x23-\x5b\x5d-\x7e]|\\[ -\x7e])*""#;
    let label = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?";
    let address = format!(r"\[(?:{}|IPv6:{})\]", ipv4(), ipv6());
    format!(r"(?:{atom}(?:\.{atom})*|{quoted})@(?:{label}(?:\.{label})*|{address})")
}

/// RFC 6901.
fn json_pointer() -> String {
    "(?:/(?:[^/~]|~[01])*)*".to_owned()
}

const UNRESERVED_AND_DELIMITERS: &str = r"A-Za-z0-9\-._~!$&'()*+,;=";
const ENCODED: &str = "%[0-9A-Fa-f]{2}";

/// RFC 3986 `URI`.
fn uri() -> String {
    let Uri { authority, absolute, rootless, tail, .. } = Uri::new();
    format!(r"[A-Za-z][A-Za-z0-9+\-.]*:(?:{authority}|{absolute}|{rootless})?{tail}")
}

/// RFC 3986 `URI-reference`.
fn uri_reference() -> String {
    let Uri { authority, absolute, without_scheme, tail, .. } = Uri::new();
    format!("(?:{}|(?:{authority}|{absolute}|{without_scheme})?{tail})", uri())
}

/// What the expressions of RFC 3986 are put together from.
struct Uri {
    authority: String,
    absolute: String,
    rootless: String,
    without_scheme: String,
    tail: String,
}

impl Uri {
    fn new() -> Self {
        let one_of = |more: &str| format!("(?:[{UNRESERVED_AND_DELIMITERS}{more}]|{ENCODED})");
        let (path, name, user, after) = (one_of(":@"), one_of(""), one_of(":"), one_of(":@/?"));
        let future = format!(r"[Vv][0-9A-Fa-f]+\.[{UNRESERVED_AND_DELIMITERS}:]+");
        let host = format!(r"(?:\[(?:{}|{future})\]|{name}*)", ipv6());
        Self {
            authority: format!("//(?:{user}*@)?{host}(?::[0-9]*)?(?:/{path}*)*"),
            absolute: format!("/(?:{path}+(?:/{path}*)*)?"),
            rootless: format!("{path}+(?:/{path}*)*"),
            without_scheme: format!("{}+(?:/{path}*)*", one_of("@")),
            tail: format!(r"(?:\?{after}*)?(?:\x23{after}*)?"),
        }
    }
}

fn ipv4() -> String {
    let byte = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
    format!(r"{byte}(?:\.{byte}){{3}}")
}

/// RFC 3986 `IPv6address`.
fn ipv6() -> String {
    let group = "[0-9A-Fa-f]{1,4}";
    let last = format!(r"(?:{group}:{group}|{})", ipv4());
    let mut forms = vec![format!("(?:{group}:){{6}}{last}")];
    for before in 0..=7usize {
        let head = match before {
            0 => String::new(),
            _ => format!("(?:(?:{group}:){{0,{}}}{group})?", before - 1),
        };
        forms.push(match before {
            0..=4 => format!("{head}::(?:{group}:){{{}}}{last}", 5 - before),
            5 => format!("{head}::{last}"),
            6 => format!("{head}::{group}"),
            _ => format!("{head}::"),
        });
    }
    group_all(&forms)
}

fn group_all(forms: &[String]) -> String {
    group(&forms.join("|"))
}

/// RFC 6570 `URI-Template`.
fn uri_template() -> String {
    let wide = r"\x{a0}-\x{d7ff}\x{e000}-\x{fdcf}\x{fdf0}-\x{ffef}\x{10000}-\x{1fffd}\x{20000}-\x{2fffd}\x{30000}-\x{3fffd}\x{e1000}-\x{efffd}\x{f0000}-\x{ffffd}\x{100000}-\x{10fffd}";
    let literal = format!(r"[\x21\x23\x24\x26\x28-\x3b\x3d\x3f-\x5b\x5d\x5fa-z\x7e{wide}]");
    let letter = format!("(?:[A-Za-z0-9_]|{ENCODED})");
    let variable = format!(r"{letter}(?:\.?{letter})*(?::[1-9][0-9]{{0,3}}|\*)?");
    format!(r"(?:{literal}|{ENCODED}|\{{[+\x23./;?&=,!@|]?{variable}(?:,{variable})*\}})*")
}
