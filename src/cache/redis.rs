//! Entries in a Redis: GET and SET of RESP2 over blocking sockets, for the threads that compile and extract.
//!
//! Two commands need no client library, and this one keeps what none promises: a question has one deadline, looking up
//! and connecting included, and no reply is taken that is larger than an entry, whatever the other side says it will
//! send. A name is looked up by a thread apart, since no look-up can be bounded in time.

use std::{
    net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    CacheConfig, CacheError, EntryName, RedisUrl, TierError,
    seal::MAC_LEN,
    wire::{Deadline, TlsClient, Wire},
};

/// Longest line of a reply, in bytes; values come after lines.
const LINE_BYTES_MAX: usize = 512;
/// Bytes asked of the system at once.
const READ_BYTES: usize = 16 << 10;
/// Longest first word of an error that is shown.
const ERROR_WORD_MAX: usize = 16;

pub(super) struct Redis {
    url: RedisUrl,
    tls: Option<TlsClient>,
    place: Arc<Place>,
    idle: Mutex<Vec<Connection>>,
    num_open: AtomicUsize,
    num_connections_max: usize,
    value_bytes_max: usize,
    time_max: Duration,
    ttl: Duration,
}

impl Redis {
    pub(super) fn open(url: RedisUrl, config: &CacheConfig) -> Result<Self, CacheError> {
        let tls = match (url.is_tls, config.redis_ca.as_deref()) {
            (true, Some(path)) => Some(TlsClient::open(&url.host, path)?),
            (true, None) => return Err(CacheError::NoAuthorities),
            (false, _) => None,
        };
        let place = Arc::new(Place::new(&url));
        place.look_up();
        Ok(Self {
            url,
            tls,
            place,
            idle: Mutex::default(),
            num_open: AtomicUsize::new(0),
            num_connections_max: config.num_connections_max,
            value_bytes_max: config.entry_bytes_max + MAC_LEN,
            time_max: config.redis_time_max,
            ttl: config.redis_ttl,
        })
    }

    pub(super) fn get(&self, name: EntryName) -> Result<Option<Vec<u8>>, TierError> {
        match self.ask(&[b"GET", &key(name)])? {
            Reply::Value(value) => Ok(value),
            Reply::Done => Err(TierError::Protocol("a status where a value was asked for")),
        }
    }

    pub(super) fn set(&self, name: EntryName, sealed: &[u8]) -> Result<(), TierError> {
        let ttl_ms = self.ttl.as_millis().to_string();
        match self.ask(&[b"SET", &key(name), sealed, b"PX", ttl_ms.as_bytes()])? {
            Reply::Done => Ok(()),
            Reply::Value(_) => Err(TierError::Protocol("a value where a status was due")),
        }
    }

    /// One command on a connection that is kept, or on a fresh one. A kept one may have been closed meanwhile, as by a
    /// restart, which is no failure while there is time for another.
    fn ask(&self, command: &[&[u8]]) -> Result<Reply, TierError> {
        let deadline = Deadline(Instant::now() + self.time_max);
        // By itself, so that the lock is free before the connection comes back.
        let idle = self.lock_idle().pop();
        if let Some(connection) = idle {
            match self.ask_on(Held { connection: Some(connection), redis: self }, command, deadline) {
                Err(TierError::Io(_)) => {}
                done => return done,
            }
        }
        let place_is_free = |num_open: usize| (num_open < self.num_connections_max).then_some(num_open + 1);
        let taken = self.num_open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, place_is_free);
        if taken.is_err() {
            return Err(TierError::Busy);
        }
        let mut held = Held { connection: None, redis: self };
        held.connection = Some(self.connect(deadline)?);
        self.ask_on(held, command, deadline)
    }

    fn ask_on(&self, mut held: Held<'_>, command: &[&[u8]], deadline: Deadline) -> Result<Reply, TierError> {
        let mut connection = held.connection.take().ok_or(TierError::Busy)?;
        connection.wire.until(deadline);
        connection.send(command)?;
        let reply = connection.reply(self.value_bytes_max)?;
        // Only one that is in step with its replies is used again.
        held.connection = Some(connection);
        Ok(reply)
    }

    fn connect(&self, deadline: Deadline) -> Result<Connection, TierError> {
        let mut failure = TierError::Unresolved;
        for address in self.place.addresses() {
            match TcpStream::connect_timeout(&address, deadline.left()?) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    let wire = Wire::new(stream, self.tls.as_ref(), deadline)?;
                    let mut connection = Connection { wire, unread: Vec::new() };
                    self.log_in(&mut connection)?;
                    return Ok(connection);
                }
                Err(error) => failure = error.into(),
            }
        }
        // Whoever answers to the name may have moved.
        self.place.look_up();
        Err(failure)
    }

    fn log_in(&self, connection: &mut Connection) -> Result<(), TierError> {
        let database = self.url.database.to_string();
        let mut commands: Vec<Vec<&[u8]>> = Vec::new();
        if let Some(password) = &self.url.password {
            let user = self.url.user.as_deref().map(str::as_bytes);
            commands.push([&b"AUTH"[..]].into_iter().chain(user).chain([password.as_bytes()]).collect());
        }
        if self.url.database != 0 {
            commands.push(vec![b"SELECT", database.as_bytes()]);
        }
        for command in commands {
            connection.send(&command)?;
            if !matches!(connection.reply(0)?, Reply::Done) {
                return Err(TierError::Protocol("a value where a status was due"));
            }
        }
        Ok(())
    }

    fn lock_idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(name: EntryName) -> Vec<u8> {
    format!("ananke:1:{name}").into_bytes()
}

/// A connection's place under the bound: it goes back to the idle ones, or is free again.
struct Held<'a> {
    connection: Option<Connection>,
    redis: &'a Redis,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        match self.connection.take() {
            Some(connection) => self.redis.lock_idle().push(connection),
            None => {
                self.redis.num_open.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

/// What a command came to.
enum Reply {
    Done,
    Value(Option<Vec<u8>>),
}

struct Connection {
    wire: Wire,
    /// What came beyond the last reply that was read.
    unread: Vec<u8>,
}

impl Connection {
    fn send(&mut self, command: &[&[u8]]) -> Result<(), TierError> {
        let mut bytes = format!("*{}\r\n", command.len()).into_bytes();
        for word in command {
            bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            bytes.extend_from_slice(word);
            bytes.extend_from_slice(b"\r\n");
        }
        self.wire.send(&bytes)
    }

    fn reply(&mut self, value_bytes_max: usize) -> Result<Reply, TierError> {
        let line = self.line()?;
        let (kind, text) = line.split_first().ok_or(TierError::Protocol("an empty line"))?;
        match kind {
            b'+' => Ok(Reply::Done),
            b'-' => Err(TierError::Server(first_word(text))),
            b'$' if text == b"-1" => Ok(Reply::Value(None)),
            b'$' => {
                let len = std::str::from_utf8(text).ok().and_then(|digits| digits.parse().ok());
                let len: usize = len.ok_or(TierError::Protocol("a value without a length"))?;
                if len > value_bytes_max {
                    return Err(TierError::Protocol("a value larger than any entry"));
                }
                self.value(len).map(|value| Reply::Value(Some(value)))
            }
            _ => Err(TierError::Protocol("neither a status, an error nor a value")),
        }
    }

    /// A line without its end.
    fn line(&mut self) -> Result<Vec<u8>, TierError> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|pair| pair == b"\r\n") {
                let line = self.unread[..end].to_vec();
                self.unread.drain(..end + 2);
                return Ok(line);
            }
            if self.unread.len() > LINE_BYTES_MAX {
                return Err(TierError::Protocol("a line without an end"));
            }
            self.read_more()?;
        }
    }

    fn value(&mut self, len: usize) -> Result<Vec<u8>, TierError> {
        while self.unread.len() < len + 2 {
            self.read_more()?;
        }
        if &self.unread[len..len + 2] != b"\r\n" {
            return Err(TierError::Protocol("a value longer than it said"));
        }
        let value = self.unread[..len].to_vec();
        self.unread.drain(..len + 2);
        Ok(value)
    }

    fn read_more(&mut self) -> Result<(), TierError> {
        let mut buffer = [0; READ_BYTES];
        let num_read = self.wire.receive(&mut buffer)?;
        self.unread.extend_from_slice(&buffer[..num_read]);
        Ok(())
    }
}

/// The code of an error, such as `NOAUTH`.
fn first_word(text: &[u8]) -> String {
    let word = text.split(|byte| *byte == b' ').next().unwrap_or_default();
    let is_code = word.len() <= ERROR_WORD_MAX && !word.is_empty() && word.iter().all(u8::is_ascii_uppercase);
    if is_code { String::from_utf8_lossy(word).into_owned() } else { "without a name".into() }
}

/// Where a Redis is.
struct Place {
    host: String,
    port: u16,
    addresses: Mutex<Vec<SocketAddr>>,
    is_looking_up: AtomicBool,
}

impl Place {
    fn new(url: &RedisUrl) -> Self {
        let known = url.host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, url.port));
        Self {
            host: url.host.clone(),
            port: url.port,
            addresses: Mutex::new(known.into_iter().collect()),
            is_looking_up: AtomicBool::new(false),
        }
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has a name looked up, unless that is under way; an address in digits has nothing to look up.
    fn look_up(self: &Arc<Self>) {
        if self.host.parse::<IpAddr>().is_ok() || self.is_looking_up.swap(true, Ordering::Acquire) {
            return;
        }
        let place = Arc::clone(self);
        let thread = std::thread::Builder::new().name("cache-look-up".into());
        let started = thread.spawn(move || {
            match (place.host.as_str(), place.port).to_socket_addrs() {
                Ok(found) => {
                    *place.addresses.lock().unwrap_or_else(PoisonError::into_inner) = found.collect();
                }
                Err(error) => tracing::debug!(%error, host = place.host, "the host of the Redis was not found"),
            }
            place.is_looking_up.store(false, Ordering::Release);
        });
        if started.is_err() {
            self.is_looking_up.store(false, Ordering::Release);
        }
    }
}
