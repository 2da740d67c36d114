//! Where the tiers are and what they may cost, and why they cannot be opened.

use std::{
    fmt, io,
    net::IpAddr,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

/// Where results are kept beyond this process, and what that may cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheConfig {
    /// A folder of this machine; made where it is missing.
    pub dir: Option<PathBuf>,
    /// A Redis, which several servers may share.
    pub redis: Option<RedisUrl>,
    /// The authorities, in PEM, of whom one has signed the certificate of a Redis that is reached with TLS.
    pub redis_ca: Option<PathBuf>,
    /// The file of the secret that entries are authenticated with; a Redis needs one.
    pub key: Option<PathBuf>,
    /// Bytes of one entry; a larger one is neither stored nor read. Default 4 MiB.
    pub entry_bytes_max: usize,
    /// Bytes of all entries of the folder, in blocks of 4 KiB; beyond it the oldest are removed. Default 1 GiB.
    pub disk_bytes_max: u64,
    /// How long one question to Redis may take, connecting included. Default 50 ms; a request may wait for so long, and
    /// no longer, for each of at most three entries.
    pub redis_time_max: Duration,
    /// How long Redis keeps an entry. Default 7 days.
    pub redis_ttl: Duration,
    /// Connections to Redis at once; who finds them all in use goes on without. Default 8.
    pub num_connections_max: usize,
    /// Failures in a row after which a tier is left alone. Default 3.
    pub num_failures_max: u32,
    /// How long a tier is left alone before one request tries it again. Default 5 s.
    pub retry_after: Duration,
    /// Entries that wait to be stored; over it they are dropped. Default 256, of at most `entry_bytes_max` each.
    pub write_queue_len_max: usize,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            dir: None,
            redis: None,
            redis_ca: None,
            key: None,
            entry_bytes_max: 4 << 20,
            disk_bytes_max: 1 << 30,
            redis_time_max: Duration::from_millis(50),
            redis_ttl: Duration::from_secs(7 * 24 * 3600),
            num_connections_max: 8,
            num_failures_max: 3,
            retry_after: Duration::from_secs(5),
            write_queue_len_max: 256,
        }
    }
}

/// The address of a Redis: `redis://[[USER]:PASSWORD@]HOST[:PORT][/DB]`, or `rediss://` for TLS. Its password is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    pub(super) is_tls: bool,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) database: u32,
}

/// Port of a Redis when none is named.
const PORT_DEFAULT: u16 = 6379;
/// Longest address, in bytes.
const URL_BYTES_MAX: usize = 2_048;

impl RedisUrl {
    /// Host and port, as they may be shown.
    #[must_use]
    pub fn host(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Whether it is reached with TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// Whether it is a loopback address in digits, which takes neither a network nor a look-up to reach.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

impl FromStr for RedisUrl {
    type Err = BadRedisUrl;

    fn from_str(url: &str) -> Result<Self, BadRedisUrl> {
        if url.len() > URL_BYTES_MAX {
            return Err(BadRedisUrl("it is longer than 2,048 bytes"));
        }
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        let is_tls = match scheme {
            "redis" => false,
            "rediss" => true,
            _ => return Err(BadRedisUrl("it begins with neither redis:// nor rediss://")),
        };
        if rest.contains(['?', '#']) {
            return Err(BadRedisUrl("it has a query or a fragment; those characters are %3F and %23 in a password"));
        }
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let database = match database {
            "" => 0,
            digits => digits.parse().map_err(|_| BadRedisUrl("what follows the host is no number of a database"))?,
        };
        let (login, place) =
            authority.rsplit_once('@').map_or((None, authority), |(login, place)| (Some(login), place));
        let (user, password) = login.map(login_of).transpose()?.unwrap_or_default();
        let (host, port) = place_of(place)?;
        Ok(Self { is_tls, host, port, user, password, database })
    }
}

/// User and password, of which a user without a password is none.
fn login_of(login: &str) -> Result<(Option<String>, Option<String>), BadRedisUrl> {
    let (user, password) =
        login.split_once(':').ok_or(BadRedisUrl("before the @ stands no `:PASSWORD` or `USER:PASSWORD`"))?;
    let some = |text: &str| if text.is_empty() { Ok(None) } else { decoded(text).map(Some) };
    Ok((some(user)?, some(password)?))
}

fn place_of(place: &str) -> Result<(String, u16), BadRedisUrl> {
    let bad_port = BadRedisUrl("the port is no number from 1 to 65535");
    let port_of = |digits: &str| digits.parse().ok().filter(|&port: &u16| port > 0).ok_or(bad_port);
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or(BadRedisUrl("an IPv6 address has no closing bracket"))?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| BadRedisUrl("in brackets stands no IPv6 address"))?;
            (host, port.strip_prefix(':').map_or(Ok(PORT_DEFAULT), port_of)?)
        }
        None => match place.split_once(':') {
            Some((host, port)) => (host, port_of(port)?),
            None => (place, PORT_DEFAULT),
        },
    };
    let is_host = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    match !host.is_empty() && host.chars().all(is_host) {
        true => Ok((host.to_owned(), port)),
        false => Err(BadRedisUrl("it names no host")),
    }
}

/// Text with `%XX` for bytes that mean something in an address.
fn decoded(text: &str) -> Result<String, BadRedisUrl> {
    let bad = BadRedisUrl("a % is not followed by two hexadecimal digits of UTF-8");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (digits, after) = rest.split_first_chunk::<2>().ok_or(bad)?;
        let digits = std::str::from_utf8(digits).ok().filter(|digits| digits.chars().all(|c| c.is_ascii_hexdigit()));
        bytes.push(u8::from_str_radix(digits.ok_or(bad)?, 16).map_err(|_| bad)?);
        rest = after;
    }
    String::from_utf8(bytes).map_err(|_| bad)
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({})", self.host())
    }
}

/// What is wrong with the address of a Redis; never what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the address of the Redis cannot be used: {0}")]
pub struct BadRedisUrl(&'static str);

/// Why the tiers cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// Neither a folder nor a Redis was named.
    #[error("no tier was named")]
    NoTier,
    /// A Redis without a key: whoever can write to it could make constraints up.
    #[error("a Redis was named without a key that its entries are authenticated with")]
    NoKey,
    /// The file of the key could not be read.
    #[error("cannot read the key of the cache, {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The file of the key holds something else.
    #[error("the key of the cache, {}, is not 64 hex digits on one line", path.display())]
    KeyMalformed {
        /// The file.
        path: PathBuf,
    },
    /// Others than the owner may read the key.
    #[error("the key of the cache, {}, may be read by others (mode {mode:03o}); run `chmod 600` on it", path.display())]
    KeyReadable {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A Redis with TLS, and no authority to know it by.
    #[error("a Redis with TLS was named without the authorities that its certificate is known by")]
    NoAuthorities,
    /// The file of authorities cannot be used.
    #[error("the authorities in {} cannot be used for the Redis: {reason}", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
    /// The folder cannot be made, or not be looked at.
    #[error("cannot {action} the folder of the cache, {}: {source}", path.display())]
    Folder {
        /// What was to be done.
        action: &'static str,
        /// The folder.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// Others may write to the folder, and no key would tell.
    #[error("others may write to the folder of the cache, {} (mode {mode:03o}), and there is no key", path.display())]
    FolderWritable {
        /// The folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The digest of this program, which entries depend on, cannot be had.
    #[error("cannot read this program's own file, which entries of the cache depend on: {source}")]
    Program {
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The thread that stores entries cannot be started.
    #[error("the thread that stores entries of the cache cannot be started: {source}")]
    Thread {
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
}

impl CacheError {
    pub(super) fn folder(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Folder { action, path: path.into(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_whole_and_its_password_never_shown() {
        let read = |text: &str| text.parse::<RedisUrl>();
        let url = read("redis://ci:p%40ss%3aword@[::1]:7000/3").expect("an address");
        assert_eq!((url.host.as_str(), url.port, url.database), ("::1", 7000, 3));
        assert_eq!((url.user.as_deref(), url.password.as_deref()), (Some("ci"), Some("p@ss:word")));
        assert!(url.is_loopback() && format!("{url:?}") == "RedisUrl(::1:7000)");
        let url = read("redis://:a:b@redis.lan").expect("an address");
        assert_eq!((url.host().as_str(), url.user, url.password.as_deref()), ("redis.lan:6379", None, Some("a:b")));
        assert!(read("redis://127.0.0.1/").is_ok_and(|url| url.database == 0 && url.password.is_none()));
        assert!(read("rediss://redis.lan").is_ok_and(|url| url.is_tls()));
        for wrong in [
            "",
            "redis://",
            "redis:///1",
            "http://hunter2",
            "redis://hunter2@host",
            "redis://:hunter2@host:0",
            "redis://:hunter2@host:port",
            "redis://:hunter2@host:99999",
            "redis://:hunter2@host/one",
            "redis://:hunter2@host/1?a=b",
            "redis://:hunter2@[::1",
            "redis://:hunter2@[host]",
            "redis://:hunter2%4@host",
            "redis://:hunter2%+1@host",
            "redis://:hunter2%ff@host",
            "redis://:hunter2@a b",
            &format!("redis://{}", "a".repeat(URL_BYTES_MAX)),
        ] {
            let error = read(wrong).expect_err(wrong);
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{wrong}: {error}");
        }
    }
}
