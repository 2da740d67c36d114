//! Where a model is, and what opens it: parsed once, so that a request has nothing left to doubt.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use ureq::http::Uri;

use super::{Dialect, RemoteError};

/// Longest address, in bytes.
const URL_BYTES_MAX: usize = 2_048;
/// Longest key, in bytes.
const KEY_BYTES_MAX: usize = 4_096;

/// The base address of a model server, such as `http://127.0.0.1:8000/v1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    url: String,
    host: String,
}

impl Address {
    /// Reads an address as the dialects' own clients take it; the whole path of the question is taken as well.
    ///
    /// # Errors
    /// [`RemoteError::Address`]: not http or https, no host, a query, or a name and password in front of the host.
    pub fn parse(url: &str) -> Result<Self, RemoteError> {
        let wrong = |why| RemoteError::Address { url: without_user(url), why };
        if url.len() > URL_BYTES_MAX {
            return Err(wrong("it is longer than 2,048 bytes"));
        }
        let scheme = url.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
        if !matches!(scheme.as_deref(), Some("http" | "https")) {
            return Err(wrong("it does not begin with http:// or https://"));
        }
        let uri: Uri = url.parse().map_err(|_| wrong("it cannot be read as a URL"))?;
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        if authority.contains('@') {
            return Err(wrong("credentials do not belong in an address"));
        }
        if uri.query().is_some() || url.contains('#') {
            return Err(wrong("an address has no query and no fragment"));
        }
        match uri.host() {
            Some(host) if !host.is_empty() => {
                Ok(Self { url: url.trim_end_matches('/').to_owned(), host: authority.to_owned() })
            }
            _ => Err(wrong("it names no host")),
        }
    }

    /// Host and port, as they were given.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether it is a loopback address in digits, which takes neither a network nor a look-up to reach.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let uri: Option<Uri> = self.url.parse().ok();
        let host = uri.as_ref().and_then(Uri::host).unwrap_or_default();
        let digits = host.trim_start_matches('[').trim_end_matches(']');
        match digits.parse() {
            Ok(IpAddr::V4(v4)) => v4.is_loopback(),
            Ok(IpAddr::V6(v6)) => v6 == Ipv6Addr::LOCALHOST,
            Err(_) => false,
        }
    }

    /// Whether it names more than a host.
    #[must_use]
    pub fn has_path(&self) -> bool {
        self.url.parse().is_ok_and(|uri: Uri| uri.path().len() > 1)
    }

    /// What lies below it at `path`, which begins with a slash.
    pub(super) fn below(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// Where a dialect's questions go.
    pub(super) fn url_of(&self, dialect: Dialect) -> String {
        let base = &self.url;
        match dialect {
            Dialect::Openai if base.ends_with("/chat/completions") => base.clone(),
            Dialect::Openai => format!("{base}/chat/completions"),
            Dialect::Anthropic if base.ends_with("/v1/messages") => base.clone(),
            Dialect::Anthropic if base.ends_with("/v1") => format!("{base}/messages"),
            Dialect::Anthropic => format!("{base}/v1/messages"),
        }
    }
}

/// An address as it may be shown: a name and password in it are not.
fn without_user(url: &str) -> String {
    let shown: String = url.chars().take(200).map(|c| if c.is_control() { ' ' } else { c }).collect();
    match (shown.find("://"), shown.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => format!("{}://...{}", &shown[..scheme], &shown[at..]),
        (None, Some(at)) => format!("...{}", &shown[at..]),
        _ => shown,
    }
}

/// What opens a server. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(String);

impl Key {
    /// Takes a key; white space around it is not a part of it.
    ///
    /// # Errors
    /// [`RemoteError::Key`] if it is empty, too long, or not one word of visible ASCII.
    pub fn new(text: &str) -> Result<Self, RemoteError> {
        let key = text.trim();
        match key {
            "" => Err(RemoteError::Key { why: "it is empty" }),
            _ if key.len() > KEY_BYTES_MAX => Err(RemoteError::Key { why: "it is longer than 4,096 bytes" }),
            _ if !key.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Err(RemoteError::Key { why: "it is not one word of visible ASCII characters" })
            }
            _ => Ok(Self(key.to_owned())),
        }
    }

    pub(super) fn secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_as_the_dialects_clients_take_them() {
        let url = |text: &str, dialect| Address::parse(text).expect("an address").url_of(dialect);
        for (base, dialect, expected) in [
            ("http://a:1/v1", Dialect::Openai, "http://a:1/v1/chat/completions"),
            ("http://a:1/v1/", Dialect::Openai, "http://a:1/v1/chat/completions"),
            ("https://a/v1/chat/completions", Dialect::Openai, "https://a/v1/chat/completions"),
            ("https://a", Dialect::Anthropic, "https://a/v1/messages"),
            ("https://a/v1", Dialect::Anthropic, "https://a/v1/messages"),
            ("https://a/v1/messages", Dialect::Anthropic, "https://a/v1/messages"),
        ] {
            assert_eq!(url(base, dialect), expected);
        }
    }

    #[test]
    fn only_digits_of_the_loopback_are_this_machine() {
        let is_loopback = |text: &str| Address::parse(text).expect("an address").is_loopback();
        assert!(is_loopback("http://127.0.0.1:8000/v1") && is_loopback("http://[::1]:8000"));
        for other in ["http://localhost:1", "http://127.0.0.1.example.org", "http://10.0.0.1", "https://example.org"] {
            assert!(!is_loopback(other), "{other}");
        }
    }

    #[test]
    fn a_path_is_more_than_a_slash() {
        let has_path = |text: &str| Address::parse(text).expect("an address").has_path();
        assert!(has_path("http://a:1/v1/traces") && has_path("http://a/b/"));
        assert!(!has_path("http://a:1") && !has_path("http://a/"));
    }

    #[test]
    fn what_is_no_address_is_refused_without_showing_a_password() {
        for (url, why) in [
            ("ftp://a/v1", "does not begin"),
            ("a.example/v1", "does not begin"),
            ("http://", "cannot be read"),
            ("http://user:hunter2@a/v1", "credentials"),
            ("http://a/v1?key=1", "query"),
            ("http://a b", "cannot be read"),
        ] {
            let error = Address::parse(url).expect_err(url).to_string();
            assert!(error.contains(why) && !error.contains("hunter2"), "{url}: {error}");
        }
        assert!(Address::parse(&format!("http://a/{}", "b".repeat(URL_BYTES_MAX))).is_err());
    }

    #[test]
    fn a_key_is_one_word_and_is_not_printed() {
        assert_eq!(Key::new(" abc\n").expect("a key").secret(), "abc");
        for bad in ["", " \n", "a b", "a\r\nX-Other: 1", "\u{e9}", &"k".repeat(KEY_BYTES_MAX + 1)] {
            let error = Key::new(bad).expect_err("no key").to_string();
            assert!(bad.trim().is_empty() || !error.contains(bad), "{error}");
        }
    }
}
