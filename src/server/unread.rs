//! Bodies that nobody has read when the reply is there.
//!
//! What is refused by its head alone (no such path, no key, a wrong content type) is answered while the client may still
//! be sending. A connection that closes then breaks its pipe, and it never sees the reply that says why; so the rest is
//! read past first, within the bounds that bodies have.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes},
    extract::{Request, State},
    http::StatusCode,
    middleware::Next,
    response::Response,
};
use futures_util::StreamExt;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use super::{App, ServerConfig};

/// Answers, and reads past what is left of the body of a request that was refused.
pub(crate) async fn read_past(State(app): State<App>, request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    let body = Arc::new(Mutex::new(body));
    let lent = Body::new(Lent(body.clone()));
    let response = next.run(Request::from_parts(head, lent)).await;
    // Where these were answered, so much was read or waited for already.
    let is_past = matches!(response.status(), StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT);
    if response.status().is_client_error() && !is_past {
        let rest = std::mem::take(&mut *body.lock().unwrap_or_else(PoisonError::into_inner));
        drain(rest, &app.config).await;
    }
    response
}

/// Up to `max_drained_bytes`, and no longer than a body may take.
async fn drain(body: Body, config: &ServerConfig) {
    let mut num_read = 0;
    let mut chunks = body.into_data_stream();
    let past = async {
        while let Some(Ok(chunk)) = chunks.next().await {
            num_read += chunk.len();
            if num_read > config.max_drained_bytes {
                break;
            }
        }
    };
    // A body that takes longer is cut, as it would be where it is read.
    let _ = tokio::time::timeout(config.read_timeout(), past).await;
}

/// A body that can be taken back from whoever has it.
struct Lent(Arc<Mutex<Body>>);

impl Lent {
    fn body(&self) -> MutexGuard<'_, Body> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut *self.body()).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body().size_hint()
    }
}
