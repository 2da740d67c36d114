//! A body posted to one address: what it takes to hand something to a server that is not a model.

use std::path::Path;
use std::time::Duration;

use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, USER_AGENT};
use tokio::time::timeout;

use super::client::{self, HttpClient, next_bytes};
use super::{Address, REPLY_BYTES_MAX, RemoteError, excerpt, retry};

/// An address that bodies are posted to, with its connections.
pub struct Post {
    address: Address,
    client: HttpClient,
}

impl Post {
    /// Prepares to post; opens no connection. `authorities` is a PEM file of those that the server is known by; without
    /// one they are those of the web.
    ///
    /// # Errors
    /// [`RemoteError::Authorities`] for a file that cannot be used.
    pub fn open(address: Address, authorities: Option<&Path>, connect_timeout: Duration) -> Result<Self, RemoteError> {
        Ok(Self { client: client::open(authorities, connect_timeout)?, address })
    }

    /// Sends a body once, and gives the reply of a success; all of it ends within `limit`.
    ///
    /// # Errors
    /// [`RemoteError`]: no whole reply in time, one that is no success, or one of more than [`REPLY_BYTES_MAX`] bytes.
    pub async fn send(
        &self,
        content_type: &'static str,
        body: Vec<u8>,
        limit: Duration,
    ) -> Result<Vec<u8>, RemoteError> {
        let sent = timeout(limit, self.exchange(content_type, body)).await;
        sent.unwrap_or_else(|_| Err(RemoteError::Timeout { host: self.host(), limit }))
    }

    async fn exchange(&self, content_type: &'static str, body: Vec<u8>) -> Result<Vec<u8>, RemoteError> {
        let request = Request::post(self.address.below(""))
            .header(USER_AGENT, HeaderValue::from_static(concat!("ananke/", env!("CARGO_PKG_VERSION"))))
            .header(CONTENT_TYPE, HeaderValue::from_static(content_type))
            .body(Full::new(Bytes::from(body)))
            .expect("an address was read as a URL");
        let reply = self.client.request(request).await;
        let reply = reply.map_err(|error| client::broken(self.host(), &error, None))?;
        let status = reply.status();
        let retry_after = reply.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = retry_after.and_then(retry::retry_after);
        let mut bytes = Vec::new();
        let mut body = reply.into_body();
        while let Some(more) = next_bytes(&mut body).await {
            bytes.extend_from_slice(&more.map_err(|error| client::broken(self.host(), &error, None))?);
            if bytes.len() > REPLY_BYTES_MAX {
                return Err(RemoteError::TooLarge { host: self.host(), limit: REPLY_BYTES_MAX });
            }
        }
        if !status.is_success() {
            let said = excerpt(&String::from_utf8_lossy(&bytes), None);
            return Err(RemoteError::Refused { host: self.host(), status: status.as_u16(), said, retry_after });
        }
        Ok(bytes)
    }

    fn host(&self) -> String {
        self.address.host().to_owned()
    }
}
