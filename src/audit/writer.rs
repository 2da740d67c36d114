//! The thread that writes: records into lines, lines into the segment, the segment to the disk, and again until it is
//! there.
//!
//! What was made into lines and is not known to be on the disk stays in memory, byte for byte, until it is: a write that
//! stops in the middle goes on where it stopped, and after an fsync that failed everything since the last good one is
//! written again, because the operating system may have given it up.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use blake3::Hash;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use tokio::sync::oneshot;

use super::{
    AuditConfig, AuditError, AuditKey, FsyncPolicy,
    folder::{Sink, Storage},
    line,
    log::{Room, Shared},
    record::{CheckpointReason, Event, FORMAT},
};

/// Records that are written together, and under [`FsyncPolicy::Always`] share an fsync.
const BATCH_RECORDS_MAX: usize = 256;
/// Bytes that are kept for writing them again after a failed fsync; more of them do not wait for the interval.
const UNSYNCED_BYTES_MAX: usize = 1 << 20;
/// Nothing to do for so long makes the thread look around once.
const IDLE: Duration = Duration::from_secs(60);

/// What the thread is told.
pub(super) enum Message {
    Record(Record),
    /// Write everything that came before, a last checkpoint, and end.
    Close(crossbeam_channel::Sender<Result<(), AuditError>>),
}

/// A record on its way.
pub(super) struct Record {
    /// The members of its line after `prev`.
    pub(super) members: String,
    /// What of the queue it takes until it is written.
    pub(super) room: Room,
    /// Told once it is written, as the policy means it, or once that has failed: the record then stays on its way.
    pub(super) done: Option<Done>,
}

pub(super) type Done = oneshot::Sender<Result<(), String>>;

/// The end of the log, and what is not there yet.
pub(super) struct Writer {
    key: AuditKey,
    config: AuditConfig,
    shared: Arc<Shared>,
    storage: Box<dyn Storage>,
    sink: Box<dyn Sink>,
    segment: u64,
    /// The last line that was made.
    seq: u64,
    mac: Hash,
    since_checkpoint: u64,
    /// Bytes of the file that are known to be on the disk, or with [`FsyncPolicy::Never`] to be written.
    settled_len: u64,
    /// The lines after them, of which the first `num_written` bytes were written.
    tail: Vec<u8>,
    num_written: usize,
    /// The file may hold more than it should, or less.
    must_rewind: bool,
    /// The last line ends the segment.
    is_full: bool,
    last_sync: Instant,
    /// Why the last attempt failed.
    failure: Option<String>,
}

/// Where a writer begins.
pub(super) struct Start {
    pub(super) storage: Box<dyn Storage>,
    pub(super) sink: Box<dyn Sink>,
    pub(super) segment: u64,
    pub(super) len: u64,
    pub(super) seq: u64,
    pub(super) mac: Hash,
}

impl Writer {
    pub(super) fn new(key: AuditKey, config: AuditConfig, shared: Arc<Shared>, start: Start) -> Self {
        let Start { storage, sink, segment, len, seq, mac } = start;
        Self {
            key,
            config,
            shared,
            storage,
            sink,
            segment,
            seq,
            mac,
            since_checkpoint: 0,
            settled_len: len,
            tail: Vec::new(),
            num_written: 0,
            must_rewind: false,
            is_full: false,
            last_sync: Instant::now(),
            failure: None,
        }
    }

    /// The first lines after a start, on the disk before anything else happens.
    pub(super) fn begin(&mut self, is_new_segment: bool, events: &[Event<'_>]) -> io::Result<()> {
        if is_new_segment {
            self.push_segment_line();
        }
        for event in events {
            self.push(&event.members());
        }
        self.settle(true)
    }

    /// Writes until it is told to close, or nobody is left who could tell it anything.
    pub(super) fn run(mut self, messages: &Receiver<Message>) {
        let mut held = VecDeque::new();
        let mut in_hand = InHand::default();
        let closing = loop {
            let closing = self.collect(messages, &mut held);
            while self.write(&mut held, &mut in_hand) && (!held.is_empty() || self.shared.has_refused()) {}
            match closing {
                Some(Closing::Asked(done)) => break Some(done),
                Some(Closing::Alone) => break None,
                None => {}
            }
        };
        let result = self.close(messages, held, in_hand);
        self.shared.is_failed.store(true, Relaxed);
        for message in messages.try_iter() {
            if let Message::Record(record) = message {
                tracing::error!(members = record.members, "the audit log has ended; this record is not in it");
            }
        }
        // Whoever waits may open the log again at once: the folder is let go first.
        drop(self);
        match closing {
            Some(done) => drop(done.send(result)),
            None => {
                if let Err(error) = result {
                    tracing::error!(%error, "the audit log was not ended");
                }
            }
        }
    }

    /// Waits for messages, but no longer than until something else is due.
    ///
    /// After a failure everything that comes until the next attempt is answered at once; how much may come is bounded
    /// by the places in the queue.
    fn collect(&mut self, messages: &Receiver<Message>, held: &mut VecDeque<Record>) -> Option<Closing> {
        let deadline = Instant::now() + self.until_due();
        loop {
            let is_well = self.failure.is_none();
            if is_well && held.len() >= BATCH_RECORDS_MAX {
                return None;
            }
            let has_work = is_well && !held.is_empty();
            let wait = deadline.saturating_duration_since(Instant::now());
            match messages.recv_timeout(if has_work { Duration::ZERO } else { wait }) {
                Ok(Message::Record(mut record)) => {
                    if let Some(failure) = &self.failure {
                        tell(record.done.take(), &Err(failure.clone()));
                    }
                    held.push_back(record);
                }
                Ok(Message::Close(done)) => return Some(Closing::Asked(done)),
                Err(RecvTimeoutError::Timeout) => return None,
                Err(RecvTimeoutError::Disconnected) => return Some(Closing::Alone),
            }
        }
    }

    fn until_due(&self) -> Duration {
        match self.config.fsync {
            _ if self.failure.is_some() => self.config.retry_every,
            FsyncPolicy::Interval(interval) if !self.tail.is_empty() => {
                interval.saturating_sub(self.last_sync.elapsed())
            }
            _ => IDLE,
        }
    }

    /// Makes lines of what is held, as far as the segment goes, and writes them; returns whether that succeeded.
    fn write(&mut self, held: &mut VecDeque<Record>, in_hand: &mut InHand) -> bool {
        self.push_refused();
        // While nothing can be written, lines are not made: their records keep their places in the queue.
        while self.failure.is_none() && !self.is_full && in_hand.room.records < BATCH_RECORDS_MAX {
            let Some(record) = held.pop_front() else { break };
            let len = self.segment_len() + record.members.len() as u64 + ENDING_BYTES;
            if len > self.config.segment_bytes && self.has_records() {
                self.push_checkpoint(CheckpointReason::Rotation);
                self.is_full = true;
                held.push_front(record);
                break;
            }
            in_hand.take(&record);
            self.push(&record.members);
            in_hand.done.extend(record.done);
        }
        let result = self.settle(false).map_err(|error| error.to_string());
        match &result {
            Ok(()) => {
                self.shared.give_back(std::mem::take(&mut in_hand.room));
                self.succeed();
            }
            Err(reason) => {
                held.iter_mut().for_each(|record| tell(record.done.take(), &result));
                self.fail(reason);
            }
        }
        in_hand.done.drain(..).for_each(|done| tell(Some(done), &result));
        result.is_ok()
    }

    fn succeed(&mut self) {
        if self.failure.take().is_some() {
            tracing::info!("the audit log can be written again; requests are admitted");
        }
        self.shared.is_failed.store(false, Relaxed);
    }

    fn fail(&mut self, reason: &str) {
        if self.failure.is_none() {
            tracing::error!(reason, "the audit log cannot be written; no request is admitted until it can");
        }
        self.failure = Some(reason.to_owned());
        self.shared.is_failed.store(true, Relaxed);
    }

    /// Writes what is in hand and the last checkpoint, for as long as that may take.
    fn close(
        &mut self,
        messages: &Receiver<Message>,
        mut held: VecDeque<Record>,
        mut in_hand: InHand,
    ) -> Result<(), AuditError> {
        let deadline = Instant::now() + self.config.close_wait_max;
        held.extend(messages.try_iter().filter_map(|message| match message {
            Message::Record(record) => Some(record),
            Message::Close(_) => None,
        }));
        while !self.write(&mut held, &mut in_hand) || !held.is_empty() {
            if let Some(reason) = &self.failure {
                self.wait_until(deadline, held.len() + in_hand.room.records, reason)?;
            }
        }
        self.push_refused();
        let refusals = self.shared.take_omitted();
        if refusals > 0 {
            self.push(&Event::Omitted { refusals }.members());
        }
        self.push_checkpoint(CheckpointReason::Close);
        while let Err(error) = self.settle(true) {
            self.wait_until(deadline, 1, &error.to_string())?;
        }
        Ok(())
    }

    fn wait_until(&self, deadline: Instant, records: usize, reason: &str) -> Result<(), AuditError> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(AuditError::NotWritten { records, reason: reason.into() });
        }
        std::thread::sleep(self.config.retry_every.min(left));
        Ok(())
    }

    // --- lines ---

    fn push(&mut self, members: &str) {
        self.seal(members);
        if self.since_checkpoint >= self.config.checkpoint_records {
            self.push_checkpoint(CheckpointReason::Interval);
        }
    }

    /// A line about requests that were refused meanwhile, once it can be written.
    fn push_refused(&mut self) {
        if self.failure.is_none() && !self.is_full {
            let refused = self.shared.take_refused();
            if refused > 0 {
                self.push(&Event::Unavailable { refused }.members());
            }
        }
    }

    fn push_segment_line(&mut self) {
        let key_id = self.key.id().to_owned();
        self.seal(&Event::Segment { segment: self.segment, format: FORMAT, key_id: &key_id }.members());
    }

    fn push_checkpoint(&mut self, reason: CheckpointReason) {
        self.seal(&Event::Checkpoint { records: self.seq, head: self.mac.to_string(), reason }.members());
        self.since_checkpoint = 0;
        tracing::info!(segment = self.segment, seq = self.seq, mac = %self.mac, ?reason, "audit checkpoint");
    }

    fn seal(&mut self, members: &str) {
        self.seq += 1;
        self.since_checkpoint += 1;
        self.mac = line::seal(&self.key, self.seq, &self.mac, members, &mut self.tail);
    }

    fn segment_len(&self) -> u64 {
        self.settled_len + self.tail.len() as u64
    }

    /// Whether the segment has anything that makes ending it worth while.
    fn has_records(&self) -> bool {
        self.segment_len() > FIRST_LINE_BYTES_MAX
    }

    // --- to the disk; each of these may fail at any point and be called again ---

    /// Brings all lines into the file, begins the next segment where this one is full, and syncs where the policy, or
    /// `must_sync`, asks for it.
    fn settle(&mut self, must_sync: bool) -> io::Result<()> {
        self.write_out()?;
        if self.is_full {
            self.sync()?;
            self.sink = self.storage.create(self.segment + 1)?;
            self.segment += 1;
            (self.settled_len, self.num_written) = (0, 0);
            self.is_full = false;
            self.push_segment_line();
            self.write_out()?;
            return self.sync();
        }
        let is_due = match self.config.fsync {
            FsyncPolicy::Always => true,
            FsyncPolicy::Interval(interval) => {
                self.last_sync.elapsed() >= interval || self.tail.len() > UNSYNCED_BYTES_MAX
            }
            FsyncPolicy::Never => true, // which only lets go of what was written
        };
        if is_due || must_sync { self.sync() } else { Ok(()) }
    }

    fn write_out(&mut self) -> io::Result<()> {
        if self.must_rewind {
            self.sink.rewind(self.settled_len)?;
            (self.must_rewind, self.num_written) = (false, 0);
        }
        while self.num_written < self.tail.len() {
            match self.sink.write(&self.tail[self.num_written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(len) => self.num_written += len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.tail.is_empty() {
            self.last_sync = Instant::now();
            return Ok(());
        }
        if self.config.fsync != FsyncPolicy::Never
            && let Err(error) = self.sink.sync()
        {
            self.must_rewind = true;
            return Err(error);
        }
        self.settled_len += self.tail.len() as u64;
        self.tail.clear();
        self.num_written = 0;
        self.last_sync = Instant::now();
        Ok(())
    }
}

/// What a record adds to a segment beside its members: its MACs, and perhaps two checkpoints.
const ENDING_BYTES: u64 = 1 << 10;
/// A segment with less than this has at most its first line.
const FIRST_LINE_BYTES_MAX: u64 = 512;

/// Why the thread ends.
enum Closing {
    Asked(crossbeam_channel::Sender<Result<(), AuditError>>),
    Alone,
}

/// Records that were made into lines and are not written yet.
#[derive(Default)]
struct InHand {
    room: Room,
    done: Vec<Done>,
}

impl InHand {
    fn take(&mut self, record: &Record) {
        self.room.records += record.room.records;
        self.room.bytes += record.room.bytes;
    }
}

fn tell(done: Option<Done>, result: &Result<(), String>) {
    if let Some(done) = done {
        // Who asked may have left.
        let _ = done.send(result.clone());
    }
}
