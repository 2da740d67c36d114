//! The span of each request, where a collector is told of them: how it was answered, and what that took.
//!
//! A span says nothing that a client wrote but the trace that it belongs to: routes are named by their template, and
//! every other word is one of few. Probes and scrapes have none. Names are those of OpenTelemetry's conventions for
//! HTTP and for generative AI; where they have none, they begin with `ananke.`.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use axum::{extract::Request, http::HeaderMap, middleware::Next, response::Response};

use super::{
    RequestId,
    access::{UNMATCHED, route},
    held::until_sent,
    metrics::{OTHER_METHOD, method},
    refusals::Code,
};
use crate::{
    maze::{Finish, Generation},
    otlp::{
        SpanQueue, TraceParent,
        wire::{KeyValue, Span, Status, StatusCode, Value},
    },
};

/// Routes that are asked by machines all the time.
const UNTRACED: [&str; 3] = ["/health", "/ready", "/metrics"];
/// Routes whose text is an answer in a conversation; that of the others goes on from a prompt.
const CHATS: [&str; 2] = ["/v1/chat/completions", "/v1/responses"];
/// What W3C calls the header with the caller's span.
const TRACEPARENT: &str = "traceparent";

/// Makes a span of a request, from its head to the last byte of its reply, or until it is dropped.
pub(crate) async fn trace(mut request: Request, next: Next) -> Response {
    let Some(open) = Open::begin(&request) else { return next.run(request).await };
    request.extensions_mut().insert(open.notes.clone());
    let response = next.run(request).await;
    open.notes.answered(&response);
    until_sent(response, open)
}

/// A span that has begun. Dropping it ends it.
struct Open {
    queue: SpanQueue,
    notes: Arc<Notes>,
}

impl Open {
    /// The span of a request, where there is a collector and the caller does not ask for none.
    fn begin(request: &Request) -> Option<Self> {
        let queue = request.extensions().get::<SpanQueue>()?.clone();
        let route = route(request);
        let parent = parent(request.headers());
        if UNTRACED.contains(&route) || parent.is_some_and(|parent| !parent.is_sampled()) {
            return None;
        }
        let method = method(request.method());
        let (verb, method) = if method == OTHER_METHOD { ("HTTP", "_OTHER") } else { (method, method) };
        let is_known = route != UNMATCHED;
        let name = if is_known { format!("{verb} {route}") } else { verb.to_owned() };
        let mut span = Span::of_server(name, parent.as_ref());
        tracing::Span::current().record("trace_id", span.trace_id_hex());
        span.start_time_unix_nano = nanoseconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
        let mut draft =
            Draft { span, route: route.to_owned(), start: Instant::now(), status: None, error: None, text: None };
        draft.set("http.request.method", method);
        if is_known {
            draft.set("http.route", route);
        }
        if let Some(id) = request.extensions().get::<RequestId>() {
            draft.set("ananke.request_id", id.0.as_str());
        }
        Some(Self { queue, notes: Arc::new(Notes(Mutex::new(draft))) })
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.queue.push(self.notes.lock().end());
    }
}

/// The span that the caller made the request in; several of them are as good as none.
fn parent(headers: &HeaderMap) -> Option<TraceParent> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    TraceParent::parse(value.to_str().ok()?)
}

/// What is noted of a request while it is answered, as an extension of it.
pub(crate) struct Notes(Mutex<Draft>);

struct Draft {
    span: Span,
    route: String,
    start: Instant,
    /// The status of the reply, once it has begun.
    status: Option<u16>,
    /// What ended it early.
    error: Option<&'static str>,
    /// The text that is generated, once it has been admitted.
    text: Option<Text>,
}

/// What is known of the text that a request asked for.
#[derive(Default)]
struct Text {
    /// Choices that have not ended.
    num_open: u32,
    num_prompt_tokens: u64,
    num_tokens: u64,
    finish_reasons: Vec<&'static str>,
    /// From the head of the request until all of it was admitted.
    admission: Duration,
    /// From there to the first token of any choice.
    to_first_token: Option<Duration>,
    masks: Duration,
    is_unsatisfied: bool,
}

impl Notes {
    /// The reply begins.
    fn answered(&self, response: &Response) {
        let mut draft = self.lock();
        draft.status = Some(response.status().as_u16());
        draft.error = response.extensions().get().map(|Code(code)| *code).or(draft.error);
    }

    /// Text is being generated, in so many choices.
    pub(crate) fn admitted(&self, generations: &[Generation], num_choices: u32) {
        let Some(first) = generations.first() else { return };
        let mut draft = self.lock();
        let operation = if CHATS.contains(&draft.route.as_str()) { "chat" } else { "text_completion" };
        draft.set("gen_ai.operation.name", operation);
        draft.set("gen_ai.provider.name", "ananke");
        draft.set("gen_ai.request.model", first.provenance().model.as_str());
        draft.set("gen_ai.response.id", first.id());
        draft.text = Some(Text {
            num_open: num_choices,
            num_prompt_tokens: generations.iter().map(|generation| u64::from(generation.num_prompt_tokens())).sum(),
            admission: draft.start.elapsed(),
            ..Text::default()
        });
    }

    /// A choice has ended.
    pub(crate) fn finished(&self, finish: &Finish) {
        let mut draft = self.lock();
        let Some(text) = &mut draft.text else { return };
        let stats = &finish.stats;
        let to_first_token = Duration::from_millis(stats.time_to_first_token_ms);
        text.num_open = text.num_open.saturating_sub(1);
        text.num_prompt_tokens += u64::from(finish.late_prompt_tokens);
        text.num_tokens += u64::from(finish.num_tokens);
        text.finish_reasons.push(finish.reason.as_str());
        text.to_first_token = Some(text.to_first_token.map_or(to_first_token, |first| first.min(to_first_token)));
        text.masks += Duration::from_micros(stats.avg_constraint_check_us) * stats.constraint_checks;
        text.is_unsatisfied |= !finish.validation.all_satisfied;
    }

    /// The reply cannot be finished.
    pub(crate) fn failed(&self, code: &'static str) {
        self.lock().error = Some(code);
    }

    fn lock(&self) -> MutexGuard<'_, Draft> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Draft {
    fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.span.attributes.push(KeyValue::new(key, value));
    }

    /// The span, now that it is over.
    fn end(&mut self) -> Span {
        self.span.end_time_unix_nano = self.span.start_time_unix_nano + nanoseconds(self.start.elapsed());
        let mut is_cut = self.status.is_none();
        if let Some(text) = self.text.take() {
            is_cut |= text.num_open > 0;
            self.describe(&text);
        }
        if let Some(status) = self.status {
            self.set("http.response.status_code", u64::from(status));
        }
        if let Some(error) = self.error.or(is_cut.then_some("cancelled")) {
            self.set("error.type", error);
        }
        // An error after the head of the reply is not in its status.
        let has_failed = self.status.is_some_and(|status| status >= 500 || status < 400 && self.error.is_some());
        let code = if has_failed { StatusCode::Error } else { StatusCode::Unset };
        self.span.status = Some(Status { code: code.into() });
        mem::take(&mut self.span)
    }

    fn describe(&mut self, text: &Text) {
        self.set("gen_ai.usage.input_tokens", text.num_prompt_tokens);
        self.set("ananke.admission_seconds", text.admission.as_secs_f64());
        let Some(to_first_token) = text.to_first_token else { return };
        self.set("gen_ai.usage.output_tokens", text.num_tokens);
        self.set("gen_ai.response.finish_reasons", text.finish_reasons.as_slice());
        self.set("gen_ai.server.time_to_first_token", (text.admission + to_first_token).as_secs_f64());
        self.set("ananke.mask_seconds", text.masks.as_secs_f64());
        self.set("ananke.all_satisfied", !text.is_unsatisfied);
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
