//! Server-sent events: `data: {...}` per chunk, `data: [DONE]` at the end, and an `error` event instead of it when
//! something fails on the way.
//!
//! The chunks are pulled as the client reads. When it hangs up, the stream is dropped, and with it the generation.

use std::{convert::Infallible, pin::Pin, time::Duration};

use axum::response::{
    IntoResponse, Response, Sse,
    sse::{Event, KeepAlive},
};
use futures_core::Stream;
use futures_util::stream;
use serde::Serialize;
use tokio_stream::StreamExt;

use super::{Deadline, error::HttpError};

/// The chunks of one reply.
pub(crate) type Chunks<T> = Pin<Box<dyn Stream<Item = Result<T, HttpError>> + Send>>;

/// Answers with the chunks as events, and with a comment whenever `keep_alive` passes without one. At the deadline an
/// error ends the events, and the chunks are dropped.
pub(crate) fn respond<T: Serialize + 'static>(chunks: Chunks<T>, keep_alive: Duration, deadline: Deadline) -> Response {
    let events = stream::unfold(Some(chunks), move |chunks| next_event(chunks, deadline)).map(Ok::<_, Infallible>);
    Sse::new(events).keep_alive(KeepAlive::new().interval(keep_alive)).into_response()
}

/// An event with a name of its own, which says in its data what it is.
#[derive(Debug)]
pub(crate) struct NamedEvent {
    name: &'static str,
    data: String,
}

impl NamedEvent {
    pub(crate) fn new<T: Serialize>(name: &'static str, value: &T) -> Self {
        Self { name, data: serde_json::to_string(value).expect("events are plain data") }
    }
}

/// Answers with events that end by themselves, and with a comment whenever `keep_alive` passes without one.
pub(crate) fn respond_named(events: impl Stream<Item = NamedEvent> + Send + 'static, keep_alive: Duration) -> Response {
    let events = events.map(|event| Ok::<_, Infallible>(Event::default().event(event.name).data(event.data)));
    Sse::new(events).keep_alive(KeepAlive::new().interval(keep_alive)).into_response()
}

/// The next event, and the chunks after it; `None` in their place after the last event.
async fn next_event<T: Serialize>(chunks: Option<Chunks<T>>, deadline: Deadline) -> Option<(Event, Option<Chunks<T>>)> {
    let mut chunks = chunks?;
    let next = tokio::time::timeout_at(deadline.at, chunks.next()).await;
    let next = next.unwrap_or(Some(Err(HttpError::RequestTimeout { limit_s: deadline.limit_s })));
    let chunk = match next {
        Some(Ok(chunk)) => chunk,
        Some(Err(error)) => return Some((failure(&error), None)),
        None => return Some((Event::default().data("[DONE]"), None)),
    };
    match Event::default().json_data(chunk) {
        Ok(event) => Some((event, Some(chunks))),
        Err(error) => {
            tracing::error!(%error, "a chunk did not serialize");
            Some((Event::default().event("error").data("{}"), None))
        }
    }
}

fn failure(error: &HttpError) -> Event {
    tracing::warn!(%error, "a stream failed");
    let body = serde_json::to_string(&error.body()).unwrap_or_default();
    Event::default().event("error").data(body)
}
