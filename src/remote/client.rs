//! The pooled client below everything that is asked without blocking: HTTP/1.1, with or without TLS, no redirect, no
//! proxy.

use std::error::Error;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Body, Bytes, Incoming};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{CertificateError, ClientConfig, crypto::ring};

use super::{Key, RemoteError, excerpt};
use crate::authorities;

/// An idle connection is closed after this.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// Idle connections that are kept.
const NUM_IDLE_MAX: usize = 32;

pub(super) type HttpClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Prepares to ask servers that the authorities in the file vouch for, or without one those of the web; opens no
/// connection.
pub(super) fn open(authorities: Option<&Path>, connect_timeout: Duration) -> Result<HttpClient, RemoteError> {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(connect_timeout));
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls(authorities)?);
    let connector = connector.https_or_http().enable_http1().wrap_connector(http);
    Ok(Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_MAX)
        .pool_max_idle_per_host(NUM_IDLE_MAX)
        .build(connector))
}

/// Why there is no connection to `host`, or none any more.
pub(super) fn broken(host: String, error: &(dyn Error + 'static), key: Option<&Key>) -> RemoteError {
    if let Some(distrust) = distrust(error) {
        return RemoteError::Untrusted { host, why: distrust.to_string() };
    }
    let mut why = error.to_string();
    let causes = std::iter::successors(error.source(), |&error| error.source());
    causes.for_each(|cause| why = format!("{why}: {cause}"));
    RemoteError::Broken { host, why: excerpt(&why, key) }
}

/// The next bytes of a body; its trailers are skipped.
pub(super) async fn next_bytes(body: &mut Incoming) -> Option<Result<Bytes, hyper::Error>> {
    loop {
        let frame = std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await?;
        match frame.map(|frame| frame.into_data()) {
            Ok(Ok(bytes)) => return Some(Ok(bytes)),
            Ok(Err(_)) => {}
            Err(error) => return Some(Err(error)),
        }
    }
}

/// How TLS is spoken: with whom the authorities of the web vouch for, or those in a file alone.
fn tls(authorities: Option<&Path>) -> Result<ClientConfig, RemoteError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().expect("ring has all that these versions need");
    let builder = match authorities {
        None => builder.with_webpki_roots(),
        Some(path) => {
            let roots = authorities::read(path);
            let roots = roots.map_err(|why| RemoteError::Authorities { path: path.into(), why })?;
            builder.with_root_certificates(roots)
        }
    };
    Ok(builder.with_no_client_auth())
}

/// What was wrong with a server's certificate, where that is why there is no connection.
fn distrust<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a CertificateError> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(rustls::Error::InvalidCertificate(why)) = error.downcast_ref::<rustls::Error>() {
            return Some(why);
        }
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            // Its source would be the source of what it holds, which is passed over.
            Some(held) => Some(held),
            None => error.source(),
        };
    }
    None
}
