//! The log as its users hold it: a request is admitted to it, and its entry ends with the reply.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Instant,
};

use crossbeam_channel::Sender;
use tokio::sync::oneshot;

use super::{
    AuditConfig, AuditError, AuditKey, FsyncPolicy, PromptPolicy, Refusal, Reply, ReplyStatus, Request,
    folder::{Folder, Sink, Storage},
    record::Event,
    recover,
    refusals::Refusals,
    writer::{Message, Record, Start, Writer},
};

/// What the end of a reply is counted with: it is made of names, digests and numbers.
const REPLY_ROOM: Room = Room { records: 1, bytes: 1 << 10 };

/// A log that is open for writing. Cheap to clone; the thread behind it ends with the last clone, or with
/// [`AuditLog::close`].
#[derive(Clone)]
pub struct AuditLog {
    inner: Arc<Inner>,
}

struct Inner {
    messages: Sender<Message>,
    shared: Arc<Shared>,
    config: AuditConfig,
}

/// What the thread and those who write to it both see.
#[derive(Default)]
pub(super) struct Shared {
    /// The last write failed.
    pub(super) is_failed: AtomicBool,
    /// Requests that were refused since this was last written down.
    num_refused: AtomicU64,
    /// Requests that were refused before they came here.
    refusals: Refusals,
    /// What of the queue is taken.
    room: Mutex<Room>,
}

/// Places in the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) records: usize,
    pub(super) bytes: usize,
}

impl Shared {
    /// Takes places, if there are as many.
    fn take(&self, wanted: Room, config: &AuditConfig) -> bool {
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        let records = room.records + wanted.records;
        let bytes = room.bytes + wanted.bytes;
        // One record alone always fits, whatever its size.
        let fits = records <= config.queue_records_max && (bytes <= config.queue_bytes_max || room.records == 0);
        if fits {
            *room = Room { records, bytes };
        }
        fits
    }

    pub(super) fn give_back(&self, places: Room) {
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        room.records -= places.records;
        room.bytes -= places.bytes;
    }

    pub(super) fn take_refused(&self) -> u64 {
        self.num_refused.swap(0, Relaxed)
    }

    pub(super) fn take_omitted(&self) -> u64 {
        self.refusals.take_omitted()
    }

    pub(super) fn has_refused(&self) -> bool {
        self.num_refused.load(Relaxed) > 0
    }
}

/// Why a request is not admitted: the log cannot take it now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unavailable {
    #[error("the audit log cannot be written")]
    Failed,
    #[error("the audit log's queue is full: {records} records wait to be written")]
    Full { records: usize },
}

impl AuditLog {
    /// Opens the log at `config.dir`, or begins one, and writes down that it was opened.
    ///
    /// # Errors
    /// The key or the folder cannot be used, another process writes there, or the log's end does not verify.
    pub fn open(config: AuditConfig) -> Result<Self, AuditError> {
        Self::open_in(config, |folder| Box::new(folder))
    }

    /// The same with a storage of the caller's over the folder: a test plants its faults there.
    pub(super) fn open_in(
        config: AuditConfig,
        over: impl FnOnce(Folder) -> Box<dyn Storage>,
    ) -> Result<Self, AuditError> {
        let key = AuditKey::read(&config.key_file)?;
        let opened = recover::open(&config.dir, &key)?;
        let begin_error = || AuditError::io("write to", config.dir.clone());
        let (segment, len, is_blank) =
            opened.segment.as_ref().map_or((1, 0, true), |segment| (segment.number, segment.len, segment.is_blank));
        let existing = opened.segment.as_ref().filter(|segment| !segment.is_blank);
        let existing = existing.map(|segment| opened.folder.append_to(segment.number)).transpose();
        let existing = existing.map_err(begin_error())?;
        let mut storage = over(opened.folder);
        let sink: Box<dyn Sink> = match existing {
            Some(file) => Box::new(file),
            None => storage.create(segment).map_err(begin_error())?,
        };
        let shared = Arc::new(Shared::default());
        let start = Start { storage, sink, segment, len, seq: opened.seq, mac: opened.mac };
        let mut writer = Writer::new(key, config.clone(), shared.clone(), start);
        let open = Event::Open {
            ananke_version: env!("CARGO_PKG_VERSION"),
            prompts: config.prompts.name(),
            fsync: config.fsync.name(),
            after: opened.after,
        };
        let recovered = opened.cut_bytes.map(|cut_bytes| Event::Recovered { cut_bytes });
        let events: Vec<_> = recovered.into_iter().chain([open]).collect();
        writer.begin(is_blank, &events).map_err(begin_error())?;
        // Every record has a place in `room`, so that the channel never fills; `Close` has the one more.
        let (messages, receiver) = crossbeam_channel::bounded(config.queue_records_max + 1);
        let thread = thread::Builder::new().name("ananke-audit".into());
        thread
            .spawn(move || writer.run(&receiver))
            .map_err(AuditError::io("start a thread for", config.dir.clone()))?;
        Ok(Self { inner: Arc::new(Inner { messages, shared, config }) })
    }

    /// Writes down that a request begins, and waits until that is written, and under [`FsyncPolicy::Always`] synced.
    ///
    /// The end of its reply has its place from here on.
    ///
    /// # Errors
    /// [`Unavailable`]: the request must not be served.
    pub(crate) async fn admit(&self, request: Request) -> Result<Entry, Unavailable> {
        let Inner { shared, config, .. } = &*self.inner;
        let request = request.bounded();
        let members = Event::Request(&request).members();
        if shared.is_failed.load(Relaxed) {
            return Err(self.refuse(Unavailable::Failed));
        }
        let room = Room { records: 1, bytes: members.len() };
        let both = Room { records: room.records + REPLY_ROOM.records, bytes: room.bytes + REPLY_ROOM.bytes };
        if !shared.take(both, config) {
            return Err(self.refuse(Unavailable::Full { records: config.queue_records_max }));
        }
        let reply = Reply { id: request.id, ..Reply::default() };
        let mut entry = Entry { log: self.clone(), reply: Some(reply), began: Instant::now() };
        let (done, written) = oneshot::channel();
        self.send(Record { members, room, done: Some(done) });
        match written.await {
            Ok(Ok(())) => Ok(entry),
            // The record itself may still be written: the entry's end then says that it came to nothing.
            _ => {
                entry.refuse("audit_unavailable");
                Err(self.refuse(Unavailable::Failed))
            }
        }
    }

    /// Writes down that a request was refused before it was admitted, as far as the bound goes and there is room; nobody
    /// waits for it, and what has no room is counted in the next such line.
    pub(crate) fn note_refusal(&self, mut refusal: Refusal) {
        let Inner { shared, config, .. } = &*self.inner;
        if shared.is_failed.load(Relaxed) || !shared.refusals.take(config.refusals_per_second_max, Instant::now()) {
            shared.refusals.omit(1);
            return;
        }
        refusal.omitted = shared.refusals.take_omitted();
        let members = Event::Refused(&refusal).members();
        let room = Room { records: 1, bytes: members.len() };
        if shared.take(room, config) {
            self.send(Record { members, room, done: None });
        } else {
            shared.refusals.omit(refusal.omitted + 1);
        }
    }

    /// What is to be kept of prompts.
    pub(crate) fn prompts(&self) -> PromptPolicy {
        self.inner.config.prompts
    }

    /// Writes what is still to be written and a last checkpoint, and ends the log: nothing that comes after is written.
    /// Blocks, for at most `close_wait_max` where the disk takes nothing.
    ///
    /// # Errors
    /// [`AuditError::NotWritten`], with how many records were lost.
    pub fn close(&self) -> Result<(), AuditError> {
        let (done, closed) = crossbeam_channel::bounded(1);
        let gone = || AuditError::NotWritten { records: 0, reason: "its thread has ended".into() };
        self.inner.messages.send(Message::Close(done)).map_err(|_| gone())?;
        closed.recv().map_err(|_| gone())?
    }

    fn refuse(&self, why: Unavailable) -> Unavailable {
        self.inner.shared.num_refused.fetch_add(1, Relaxed);
        why
    }

    /// Hands a record that has its place to the thread.
    fn send(&self, record: Record) {
        if let Err(error) = self.inner.messages.try_send(Message::Record(record))
            && let Message::Record(record) = error.into_inner()
        {
            self.inner.shared.is_failed.store(true, Relaxed);
            tracing::error!(members = record.members, "the audit log has ended; this record is not in it");
        }
    }
}

impl fmt::Debug for AuditLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditLog").field("dir", &self.inner.config.dir).finish_non_exhaustive()
    }
}

/// A request that was admitted. However it ends, its end is recorded: dropped, it says that the client left.
pub(crate) struct Entry {
    log: AuditLog,
    /// `None` once it was recorded.
    reply: Option<Reply>,
    began: Instant,
}

impl Entry {
    /// What is known of the reply so far.
    pub(crate) fn reply_mut(&mut self) -> Option<&mut Reply> {
        self.reply.as_mut()
    }

    /// Records that it was refused or failed, without waiting.
    pub(crate) fn refuse(&mut self, code: &str) {
        self.stop(ReplyStatus::Refused, code);
    }

    /// Records that an error ended it, without waiting.
    pub(crate) fn fail(&mut self, code: &str) {
        self.stop(ReplyStatus::Failed, code);
    }

    fn stop(&mut self, status: ReplyStatus, code: &str) {
        if let Some(reply) = &mut self.reply {
            (reply.status, reply.code) = (status, Some(code.to_owned()));
        }
        self.record(None);
    }

    /// Records that every choice ended; under [`FsyncPolicy::Always`] waits until that is synced.
    ///
    /// # Errors
    /// [`Unavailable`]: the end must not be sent. The record keeps its place, and is written when it can be.
    pub(crate) async fn complete(mut self) -> Result<(), Unavailable> {
        if let Some(reply) = &mut self.reply {
            reply.status = ReplyStatus::Complete;
        }
        if self.log.inner.config.fsync != FsyncPolicy::Always {
            self.record(None);
            return Ok(());
        }
        let (done, written) = oneshot::channel();
        self.record(Some(done));
        match written.await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Unavailable::Failed),
        }
    }

    fn record(&mut self, done: Option<oneshot::Sender<Result<(), String>>>) {
        let Some(mut reply) = self.reply.take() else { return };
        reply.ms = self.began.elapsed().as_millis() as u64;
        self.log.send(Record { members: Event::Reply(&reply).members(), room: REPLY_ROOM, done });
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.record(None);
    }
}
