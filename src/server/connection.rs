//! Connections: how many, how long a client may take to say what it wants, and how long it may take nothing of a reply.
//!
//! axum's own `serve` sets none of hyper's bounds, so the loop that accepts connections is here. TLS lies above the
//! guard against clients that take nothing, so that it holds for them too, and a handshake is bounded like a head.

use std::{
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    time::{Sleep, sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{ServerConfig, tls::Tls};

/// Pause after a connection could not be accepted, which is when the process has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// Serves until `shutdown` is ready, then lets open replies finish for at most `drain_s`.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    config: ServerConfig,
    shutdown: impl Future<Output = ()> + Send + 'static,
) {
    accept(listener, None, router, config, shutdown).await;
}

/// Serves as [`serve`] does, to clients that speak TLS, each of which gets the read timeout for its handshake.
pub async fn serve_tls(
    listener: TcpListener,
    tls: Arc<Tls>,
    router: Router,
    config: ServerConfig,
    shutdown: impl Future<Output = ()> + Send + 'static,
) {
    accept(listener, Some(tls), router, config, shutdown).await;
}

async fn accept(
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    router: Router,
    config: ServerConfig,
    shutdown: impl Future<Output = ()> + Send + 'static,
) {
    let http = http(&config);
    let places = Arc::new(Semaphore::new(config.max_connections));
    let open = GracefulShutdown::new();
    let (closing, _) = watch::channel(());
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = async {
            let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = &mut shutdown => break,
            accepted = accepted => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let stream = StallGuard::new(stream, &config);
        let talk = Talk { http: http.clone(), router: router.clone(), watcher: open.watcher() };
        let limit = config.read_timeout();
        let handshake =
            tls.as_ref().map(|tls| Handshake { acceptor: tls.acceptor(), limit, closing: closing.subscribe() });
        tokio::spawn(async move {
            let _place = place;
            match handshake {
                None => talk.over(stream).await,
                Some(handshake) => {
                    if let Some(stream) = handshake.over(stream).await {
                        talk.over(stream).await;
                    }
                }
            }
        });
    }
    drop(listener);
    drop(closing);
    tokio::select! {
        () = open.shutdown() => {}
        () = sleep(Duration::from_secs(config.drain_s)) => {
            tracing::warn!(drain_s = config.drain_s, "replies were still open at the end of the drain time; cut");
        }
    }
}

/// The HTTP of one connection.
struct Talk {
    http: http1::Builder,
    router: Router,
    watcher: Watcher,
}

impl Talk {
    async fn over(self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
        let connection = self.http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(self.router));
        if let Err(error) = self.watcher.watch(connection).await {
            tracing::debug!(?error, "a connection ended early");
        }
    }
}

/// What comes before it with TLS.
struct Handshake {
    acceptor: TlsAcceptor,
    limit: Duration,
    /// Fails when the server stops: a client that has asked for nothing yet is not waited for.
    closing: watch::Receiver<()>,
}

impl Handshake {
    /// The stream that the client then speaks over, unless it speaks no TLS, is not let in, or takes too long.
    async fn over(mut self, stream: StallGuard) -> Option<TlsStream<StallGuard>> {
        let outcome = tokio::select! {
            _ = self.closing.changed() => return None,
            outcome = timeout(self.limit, self.acceptor.accept(stream)) => outcome,
        };
        match outcome {
            Ok(Ok(stream)) => return Some(stream),
            Ok(Err(error)) => tracing::debug!(%error, "a handshake failed"),
            Err(_) => tracing::debug!(limit_s = self.limit.as_secs(), "a handshake took too long; cut"),
        }
        None
    }
}

fn http(config: &ServerConfig) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(config.read_timeout())
        .max_headers(config.max_headers)
        .max_header_size(config.max_header_bytes)
        .max_buf_size(config.max_header_bytes);
    http
}

/// A connection that fails when its client has taken nothing for too long; whatever the reply holds is dropped with it.
struct StallGuard {
    stream: TcpStream,
    limit: Duration,
    /// Since when the client takes nothing, as the end of its patience.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl StallGuard {
    fn new(stream: TcpStream, config: &ServerConfig) -> Self {
        // Tokens are small writes, each of which a client waits for.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY was refused");
        }
        // The system lets a send buffer grow by the MiB, which each client that does not read would hold.
        let num_bytes = config.send_buffer_bytes;
        if let Err(error) = rustix::net::sockopt::set_socket_send_buffer_size(&stream, num_bytes) {
            tracing::debug!(%error, "SO_SNDBUF was refused");
        }
        Self { stream, limit: config.stalled_stream(), stalled: None }
    }

    /// What a write came to, or the end of the connection when writes have been waiting for too long.
    fn watch<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let limit = self.limit;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(limit)));
        std::task::ready!(stalled.as_mut().poll(context));
        tracing::info!(stalled_stream_s = limit.as_secs(), "a client took nothing of its reply; cut");
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client took nothing of its reply")))
    }
}

impl AsyncRead for StallGuard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for StallGuard {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.watch(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
