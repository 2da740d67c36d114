//! Bytes to and from a Redis, in clear or under TLS, with a deadline over every single read and write: a side that drips
//! gets no more time than one that is silent.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::TcpStream,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{ClientConfig, ClientConnection, StreamOwned, crypto::ring, pki_types::ServerName};

use super::{CacheError, TierError};
use crate::authorities;

/// When a question is given up.
#[derive(Clone, Copy)]
pub(super) struct Deadline(pub(super) Instant);

impl Deadline {
    /// What is left, which is never zero: the system takes that for no limit.
    pub(super) fn left(self) -> Result<Duration, TierError> {
        let left = self.0.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(TierError::Timeout) } else { Ok(left) }
    }

    fn left_io(self) -> io::Result<Duration> {
        self.left().map_err(|_| ErrorKind::TimedOut.into())
    }
}

/// A socket whose reads and writes end at a deadline.
pub(super) struct Timed {
    stream: TcpStream,
    deadline: Deadline,
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.deadline.left_io()?))?;
        self.stream.read(buffer)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.deadline.left_io()?))?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// A connection's bytes.
pub(super) enum Wire {
    Clear(Timed),
    Tls(Box<StreamOwned<ClientConnection, Timed>>),
}

impl Wire {
    /// Over a socket that is connected. With TLS nothing is sent before the first write, and so the handshake counts
    /// to the deadline of that question.
    pub(super) fn new(stream: TcpStream, tls: Option<&TlsClient>, deadline: Deadline) -> Result<Self, TierError> {
        let timed = Timed { stream, deadline };
        let Some(TlsClient { config, name }) = tls else { return Ok(Self::Clear(timed)) };
        let client = ClientConnection::new(config.clone(), name.clone()).map_err(io::Error::other)?;
        Ok(Self::Tls(Box::new(StreamOwned::new(client, timed))))
    }

    /// Sets when the reads and writes to come end.
    pub(super) fn until(&mut self, deadline: Deadline) {
        let timed = match self {
            Self::Clear(timed) => timed,
            Self::Tls(stream) => &mut stream.sock,
        };
        timed.deadline = deadline;
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), TierError> {
        let sent = match self {
            Self::Clear(timed) => timed.write_all(bytes),
            Self::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        };
        sent.map_err(in_time)
    }

    /// Some of what comes next; never nothing.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> Result<usize, TierError> {
        loop {
            let received = match self {
                Self::Clear(timed) => timed.read(buffer),
                Self::Tls(stream) => stream.read(buffer),
            };
            match received {
                Ok(0) => return Err(io::Error::from(ErrorKind::UnexpectedEof).into()),
                Ok(num_bytes) => return Ok(num_bytes),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(in_time(error)),
            }
        }
    }
}

/// A socket says that its time is up in one of two ways.
fn in_time(error: io::Error) -> TierError {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => TierError::Timeout,
        _ => error.into(),
    }
}

/// How TLS is spoken with one host.
pub(super) struct TlsClient {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl TlsClient {
    /// Trusts the authorities in a PEM file, and a certificate for `host` alone.
    pub(super) fn open(host: &str, path: &Path) -> Result<Self, CacheError> {
        let bad = |reason| CacheError::Authorities { path: path.into(), reason };
        let roots = authorities::read(path).map_err(bad)?;
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().map_err(|_| bad("TLS cannot be set up"))?;
        let config = Arc::new(builder.with_root_certificates(roots).with_no_client_auth());
        let name = ServerName::try_from(host.to_owned()).map_err(|_| bad("the host cannot stand in a certificate"))?;
        Ok(Self { config, name })
    }
}
