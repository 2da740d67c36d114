//! Requests that are refused before they are admitted, in the audit log: who was turned away, and why.
//!
//! What is admitted has its own record and end (`recorder.rs`). Everything else that is answered with an error gets one
//! line, as far as the log's bound on such lines goes; nobody waits for it.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use axum::{extract::Request, middleware::Next, response::Response};

use super::{RequestId, access::route};
use crate::audit::{AuditLog, Refusal};

/// How far a request has come; where there is a log, it is an extension of the request.
#[derive(Debug, Default)]
pub(crate) struct Course {
    /// Its record is in the log, or could not be written there.
    is_recorded: AtomicBool,
    /// The name of its key.
    client: OnceLock<Arc<str>>,
}

impl Course {
    pub(crate) fn set_recorded(&self) {
        self.is_recorded.store(true, Relaxed);
    }

    pub(crate) fn set_client(&self, name: &Arc<str>) {
        // A request has one key.
        let _ = self.client.set(name.clone());
    }
}

/// The code of an error, as an extension of the reply that it became.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Code(pub(crate) &'static str);

/// Notes what is refused.
pub(crate) async fn record(mut request: Request, next: Next) -> Response {
    let Some(log) = request.extensions().get::<AuditLog>().cloned() else { return next.run(request).await };
    let course = Arc::<Course>::default();
    request.extensions_mut().insert(course.clone());
    let endpoint = route(&request).to_owned();
    let id = request.extensions().get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default();
    let response = next.run(request).await;
    if let Some(Code(code)) = response.extensions().get()
        && !course.is_recorded.load(Relaxed)
    {
        let client = course.client.get().map(ToString::to_string);
        log.note_refusal(Refusal { id, endpoint, client, status: response.status().as_u16(), code, omitted: 0 });
    }
    response
}
