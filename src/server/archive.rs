//! `GET /v1/provenance/{id}`: what made a reply what it is, kept for a while after the reply.
//!
//! A record is kept in memory from the end of its reply on, until newer ones need the room. Only the key that got the
//! reply may read it; for every other it does not exist. Texts are not in it, only their digests and the constraints.

use std::{
    collections::{HashMap, VecDeque},
    io,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{Json, extract::State};
use serde::Serialize;

use super::{App, access::Caller, error::HttpError, id::Id};
use crate::maze::{ChoiceRecord, Finish, GenerateRequest, Generation, RequestRecord};

/// The record of one reply.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ReplyRecord {
    object: &'static str,
    /// The path that the request went to.
    endpoint: String,
    /// One for each prompt of the request.
    requests: Vec<RequestRecord>,
}

#[derive(Debug, Serialize)]
pub(crate) struct ProvenanceReply {
    id: String,
    #[serde(flatten)]
    record: ReplyRecord,
}

/// The records of the last replies.
pub(crate) struct Archive {
    num_records_max: usize,
    num_bytes_max: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    entries: HashMap<String, Entry>,
    /// The oldest first.
    order: VecDeque<String>,
    num_bytes: usize,
}

struct Entry {
    owner: Option<Arc<str>>,
    record: Arc<ReplyRecord>,
    num_bytes: usize,
}

pub(crate) async fn get(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id,
) -> Result<Json<ProvenanceReply>, HttpError> {
    let Some(record) = app.archive.find(&id, caller.name()) else {
        return Err(HttpError::NoProvenance { id });
    };
    let mut record = ReplyRecord::clone(&record);
    let weights = app.maze.weights_digest_when_known().await;
    for request in &mut record.requests {
        request.provenance.weights_digest = weights;
    }
    Ok(Json(ProvenanceReply { id, record }))
}

/// What the ids of a reply have in common: `cmpl-0123` and `chatcmpl-0123` are the same generation's.
fn key_of(id: &str) -> &str {
    id.rsplit(['-', '_']).next().unwrap_or(id)
}

impl Archive {
    /// Keeps so many records, of so many bytes as JSON together; none where one of them is 0.
    pub(crate) fn new(num_records_max: usize, num_bytes_max: usize) -> Self {
        Self { num_records_max, num_bytes_max, kept: Mutex::default() }
    }

    fn find(&self, id: &str, owner: Option<&Arc<str>>) -> Option<Arc<ReplyRecord>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = kept.entries.get(key_of(id))?;
        (entry.owner.as_ref() == owner).then(|| entry.record.clone())
    }

    fn insert(&self, key: String, owner: Option<Arc<str>>, record: ReplyRecord) {
        let num_bytes = json_len(&record);
        if num_bytes > self.num_bytes_max {
            tracing::warn!(num_bytes, "a provenance record is larger than all of them may be, and is not kept");
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = Entry { owner, record: Arc::new(record), num_bytes };
        kept.num_bytes += num_bytes;
        match kept.entries.insert(key.clone(), entry) {
            // The same id twice is not to be expected; then the newer one counts.
            Some(before) => kept.num_bytes -= before.num_bytes,
            None => kept.order.push_back(key),
        }
        while kept.order.len() > self.num_records_max || kept.num_bytes > self.num_bytes_max {
            let Some(oldest) = kept.order.pop_front() else { return };
            let freed = kept.entries.remove(&oldest).map_or(0, |entry| entry.num_bytes);
            kept.num_bytes -= freed;
        }
    }
}

/// Bytes of a value as JSON, without writing it anywhere.
fn json_len(value: &impl Serialize) -> usize {
    struct Counter(usize);
    impl io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut counter = Counter(0);
    serde_json::to_writer(&mut counter, value).expect("records are plain data");
    counter.0
}

/// The record of a reply under way; it is kept once the last choice has ended.
pub(crate) struct Draft {
    archive: Arc<Archive>,
    open: Mutex<Option<Open>>,
}

struct Open {
    key: String,
    owner: Option<Arc<str>>,
    record: ReplyRecord,
    /// Choices that have not ended.
    num_choices: u32,
}

impl Draft {
    /// Begins the record of a reply; `None` where none are kept.
    pub(crate) fn begin(
        archive: &Arc<Archive>,
        caller: &Caller,
        endpoint: &str,
        requests: &[GenerateRequest],
        generations: &[Generation],
    ) -> Option<Arc<Self>> {
        let first = generations.first().filter(|_| archive.num_records_max > 0 && archive.num_bytes_max > 0)?;
        let records = requests.iter().zip(generations);
        let open = Open {
            key: key_of(first.id()).to_owned(),
            owner: caller.name().cloned(),
            record: ReplyRecord {
                object: "provenance",
                endpoint: endpoint.to_owned(),
                requests: records.map(|(request, generation)| RequestRecord::new(request, generation)).collect(),
            },
            num_choices: requests.iter().map(|request| request.num_choices).sum(),
        };
        Some(Arc::new(Self { archive: archive.clone(), open: Mutex::new(Some(open)) }))
    }

    /// Notes how choice `choice` of prompt `prompt` ended.
    pub(crate) fn note(&self, prompt: usize, choice: u32, finish: &Finish) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(draft) = open.as_mut() else { return };
        if let Some(request) = draft.record.requests.get_mut(prompt) {
            request.choices.push(ChoiceRecord::new(choice, finish));
        }
        draft.num_choices = draft.num_choices.saturating_sub(1);
        if draft.num_choices == 0
            && let Some(Open { key, owner, record, .. }) = open.take()
        {
            self.archive.insert(key, owner, record);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> ReplyRecord {
        ReplyRecord { object: "provenance", endpoint: "/generate".into(), requests: Vec::new() }
    }

    #[test]
    fn the_oldest_records_make_room_and_nobody_else_sees_one() {
        let len = json_len(&record());
        let owner: Option<Arc<str>> = Some("ci".into());
        for archive in [Archive::new(2, usize::MAX), Archive::new(9, 2 * len + 1)] {
            for key in ["a", "b", "c"] {
                archive.insert(key.into(), owner.clone(), record());
            }
            let found = |id: &str| archive.find(id, owner.as_ref()).is_some();
            assert_eq!([found("gen-a"), found("chatcmpl-b"), found("resp_c")], [false, true, true]);
            assert!(archive.find("gen-b", None).is_none());
            assert!(archive.find("gen-b", Some(&"other".into())).is_none());
        }
        let small = Archive::new(9, len - 1);
        small.insert("a".into(), None, record());
        assert!(small.find("a", None).is_none());
    }
}
