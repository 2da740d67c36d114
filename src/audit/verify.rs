//! Reads a log and says what became of it, a line at a time, in memory that does not grow with it.
//!
//! A line by itself is authentic or not, and an authentic one knows its number. So a line that is not authentic was
//! changed; a number that comes too late was moved or copied; a number that never comes was removed, unless a changed
//! line stands in its place. Numbers that follow each other must agree on the MAC between them, or two logs under one
//! key were mixed.

use std::{
    fmt,
    fs::File,
    io::{self, BufReader},
    path::{Path, PathBuf},
};

use blake3::Hash;
use serde::Serialize;

use super::{
    AuditError, AuditKey, Head, folder,
    line::{self, Authentic, Piece},
};

/// Runs of missing records that are kept in mind, in case they turn up further down. Past it the oldest is reported.
const GAPS_MAX: usize = 1_024;

/// Something found in a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The segment's file.
    pub file: PathBuf,
    /// The line in it, from 1.
    pub line: u64,
    /// What kind of thing.
    pub kind: FindingKind,
    /// What exactly.
    pub detail: String,
}

/// What can be wrong with a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// A line is not what was written there, or was never written.
    Changed,
    /// Records are missing in the middle, or at the beginning.
    Removed,
    /// A record stands at another place than where it was written, or at two.
    Reordered,
    /// The end of the log or of a segment is missing.
    CutOff,
    /// The last line is incomplete, as a crash leaves it. Not tampering.
    TornTail,
    /// A segment was written under another key.
    ForeignKey,
    /// Records that are authentic, of two logs under one key.
    Forked,
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Changed => "changed",
            Self::Removed => "removed",
            Self::Reordered => "reordered",
            Self::CutOff => "cut off",
            Self::TornTail => "torn tail",
            Self::ForeignKey => "foreign key",
            Self::Forked => "forked",
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.file.display(), self.line, self.kind, self.detail)
    }
}

/// What is to be said of a log as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Nothing was found.
    Whole,
    /// Only an incomplete last line.
    TornTail,
    /// Something else.
    Tampered,
}

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// What is to be said of it all.
    pub outcome: Outcome,
    /// Files.
    pub segments: u64,
    /// Authentic records.
    pub records: u64,
    /// Findings.
    pub findings: u64,
    /// The last authentic record.
    pub last: Option<Head>,
    /// Whether that is the checkpoint of a server that was stopped; without it the server runs, or was killed, or
    /// records were cut off.
    pub closed: bool,
}

/// Checks a folder from its first record on, or one segment by itself, and hands each finding to `found`.
///
/// With a `head`, the record that it names must be there. Costs one pass over the files, and at most one line (16 MiB)
/// of memory.
///
/// # Errors
/// A file cannot be read, there is none, or the head is of another segment than the only one.
pub fn verify(
    path: &Path,
    key: &AuditKey,
    head: Option<&Head>,
    found: impl FnMut(Finding),
) -> Result<Summary, AuditError> {
    let is_folder = path.is_dir();
    let segments = folder::segments_at(path)?;
    if let (false, Some(head), [(Some(checked), _)]) = (is_folder, head, segments.as_slice())
        && head.segment != *checked
    {
        return Err(AuditError::HeadElsewhere { head: head.segment, checked: *checked });
    }
    let mut verifier = Verifier::new(key, head, is_folder.then_some(1), found);
    verifier.segments(&segments)?;
    Ok(verifier.finish().0)
}

/// A log on the way through.
pub(super) struct Verifier<'a, F> {
    key: &'a AuditKey,
    head: Option<&'a Head>,
    found: F,
    /// The number that comes next; `None` where any may be the first.
    next_seq: Option<u64>,
    /// The MAC of the record before it, where that was read.
    last_mac: Option<Hash>,
    /// Lines since the last authentic record that are not authentic.
    num_changed: u64,
    gaps: Vec<Gap>,
    num_torn: u64,
    head_seen: bool,
    place: Place,
    /// The file and last line of the segment before.
    previous: Option<(PathBuf, u64, u64)>,
    summary: Summary,
    /// How the last file ends, for who goes on writing it.
    end: FileEnd,
}

/// Where the reader stands.
#[derive(Default)]
struct Place {
    file: PathBuf,
    number: Option<u64>,
    line: u64,
    is_last: bool,
    /// Whether an authentic record was read in this file.
    has_record: bool,
    /// Lines from the first on under what claims to be another key, and its name.
    foreign: Option<(u64, String)>,
}

/// Where a file ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FileEnd {
    /// Bytes of complete lines, and of a last record that lacks nothing but its end of line.
    pub(super) whole_bytes: u64,
    /// That last record is there.
    pub(super) lacks_newline: bool,
    /// Bytes of a torn line after it.
    pub(super) torn_bytes: u64,
    /// Authentic records in this file.
    pub(super) records: u64,
}

/// Records that were not there when the next was read.
struct Gap {
    kind: FindingKind,
    file: PathBuf,
    line: u64,
    first: u64,
    last: u64,
    /// How many of them turned up later, or have a changed line in their place.
    explained: u64,
    note: String,
}

impl<'a, F: FnMut(Finding)> Verifier<'a, F> {
    pub(super) fn new(key: &'a AuditKey, head: Option<&'a Head>, first_seq: Option<u64>, found: F) -> Self {
        Self {
            key,
            head,
            found,
            next_seq: first_seq,
            last_mac: (first_seq == Some(1)).then_some(line::NO_MAC),
            num_changed: 0,
            gaps: Vec::new(),
            num_torn: 0,
            head_seen: false,
            place: Place::default(),
            previous: None,
            summary: Summary {
                outcome: Outcome::Whole,
                segments: 0,
                records: 0,
                findings: 0,
                last: None,
                closed: false,
            },
            end: FileEnd::default(),
        }
    }

    pub(super) fn segments(&mut self, segments: &[(Option<u64>, PathBuf)]) -> Result<(), AuditError> {
        for (i, (number, path)) in segments.iter().enumerate() {
            let is_last = i + 1 == segments.len();
            self.segment(*number, path, is_last).map_err(AuditError::io("read", path))?;
        }
        Ok(())
    }

    fn segment(&mut self, number: Option<u64>, path: &Path, is_last: bool) -> io::Result<()> {
        let mut reader = BufReader::new(File::open(path)?);
        let mut buffer = Vec::new();
        self.place = Place { file: path.into(), number, is_last, ..Place::default() };
        self.end = FileEnd::default();
        self.summary.segments += 1;
        loop {
            let (piece, len) = line::read(&mut reader, &mut buffer)?;
            if piece == Piece::End {
                break;
            }
            self.place.line += 1;
            match piece {
                Piece::Tail => self.tail(&buffer, len),
                Piece::Line => self.line(&buffer, len),
                Piece::TooLong | Piece::End => self.changed(&[], "longer than any line of a log"),
            }
        }
        self.end_segment();
        Ok(())
    }

    fn line(&mut self, bytes: &[u8], len: u64) {
        self.end.whole_bytes += len;
        match line::open(self.key, bytes) {
            Some(record) => self.record(&record),
            None => self.changed(bytes, "the bytes of this line do not fit its mac"),
        }
    }

    /// Bytes without an end of line, at the end of a file.
    fn tail(&mut self, bytes: &[u8], len: u64) {
        let text = line::without_zeros(bytes);
        let opening = self.next_seq.zip(self.last_mac).map(|(seq, mac)| line::opening(seq, &mac));
        if let Some(record) = line::open(self.key, text) {
            self.end.whole_bytes += text.len() as u64;
            self.end.torn_bytes = len - text.len() as u64;
            self.end.lacks_newline = true;
            self.record(&record);
            self.torn("the last record is complete and lacks its end of line");
        } else if line::is_torn(bytes, opening.as_deref()) {
            self.end.torn_bytes = len;
            self.torn(&format!("{len} bytes of a line that was not written to its end"));
        } else {
            self.changed(bytes, "the last line has no end, and is not the beginning of a record");
        }
    }

    fn torn(&mut self, detail: &str) {
        if self.place.is_last {
            self.num_torn += 1;
            self.report(FindingKind::TornTail, detail.into());
        } else {
            self.num_changed += 1;
            self.report(FindingKind::CutOff, format!("{detail}, and another segment follows"));
        }
    }

    /// A line that is not authentic. The first of a segment may say that it is of another key; then so are those that
    /// follow, until one proves the opposite.
    fn changed(&mut self, bytes: &[u8], detail: &str) {
        self.num_changed += 1;
        if let Some((lines, _)) = &mut self.place.foreign {
            *lines += 1;
            return;
        }
        if self.place.line == 1
            && let Some(id) = line::claimed_key_id(bytes)
            && id != self.key.id()
        {
            self.place.foreign = Some((1, id));
            return;
        }
        self.report(FindingKind::Changed, detail.into());
    }

    fn record(&mut self, record: &Authentic) {
        let seq = record.content.seq;
        if let Some((lines, _)) = self.place.foreign.take() {
            let detail = "the bytes of this line do not fit its mac";
            for line in 1..=lines {
                self.report_at(line, FindingKind::Changed, detail.into());
            }
        }
        self.check_segment_line(record);
        self.check_head(record);
        self.summary.records += 1;
        self.end.records += 1;
        match self.next_seq {
            Some(next) if seq < next => return self.out_of_place(seq),
            Some(next) if seq > next => self.gap(next, record),
            Some(_) => self.check_link(record),
            None if record.content.segment.is_none() && self.num_changed == 0 => {
                self.report(FindingKind::Removed, "the first line of the segment is missing".into());
            }
            None => {}
        }
        self.accept(record);
    }

    /// Only the first line of a segment says that it is one, and which.
    fn check_segment_line(&mut self, record: &Authentic) {
        let is_first = !std::mem::replace(&mut self.place.has_record, true);
        let Some(claimed) = record.content.segment else { return };
        if !is_first {
            let detail = format!("the first line of segment {claimed} stands inside another");
            self.report(FindingKind::Reordered, detail);
        } else if *self.place.number.get_or_insert(claimed) != claimed {
            self.report(FindingKind::Reordered, format!("this file holds segment {claimed}"));
        }
    }

    fn check_head(&mut self, record: &Authentic) {
        let Some(head) = self.head.filter(|head| head.seq == record.content.seq) else { return };
        self.head_seen = true;
        if record.mac.to_hex().as_str() != head.mac {
            let detail = format!("record {} is another than the one that the head names", head.seq);
            self.report(FindingKind::Forked, detail);
        }
    }

    fn check_link(&mut self, record: &Authentic) {
        if self.last_mac.is_some_and(|mac| mac != record.prev) {
            let detail = format!("record {} was written after another than the one before it", record.content.seq);
            self.report(FindingKind::Forked, detail);
        }
    }

    fn out_of_place(&mut self, seq: u64) {
        let gap = self.gaps.iter_mut().find(|gap| (gap.first..=gap.last).contains(&seq));
        let detail = match gap {
            Some(gap) => {
                gap.explained += 1;
                format!("record {seq} stands after records that were written later")
            }
            None => format!("record {seq} stands here again"),
        };
        self.report(FindingKind::Reordered, detail);
    }

    /// The record comes too early: those between are missing, or changed lines stand for them, or they come later.
    fn gap(&mut self, next: u64, record: &Authentic) {
        let seq = record.content.seq;
        if seq - next <= self.num_changed {
            return;
        }
        let (mut file, mut line, mut kind) = (self.place.file.clone(), self.place.line, FindingKind::Removed);
        let mut note = String::new();
        if let Some(segment) = record.content.segment {
            match &self.previous {
                Some((path, number, lines)) if number + 1 == segment => {
                    (file, line, kind) = (path.clone(), *lines, FindingKind::CutOff);
                    note = format!(" at the end of segment {number}");
                }
                previous => {
                    let first = previous.as_ref().map_or(1, |(_, number, _)| number + 1);
                    note = format!(" with segments {first} to {}", segment - 1);
                }
            }
        }
        if self.gaps.len() == GAPS_MAX {
            let oldest = self.gaps.remove(0);
            self.report_gap(oldest);
        }
        self.gaps.push(Gap { kind, file, line, first: next, last: seq - 1, explained: self.num_changed, note });
    }

    fn report_gap(&mut self, gap: Gap) {
        let missing = (gap.last - gap.first + 1).saturating_sub(gap.explained);
        if missing == 0 {
            return;
        }
        let Gap { kind, file, line, first, last, note, .. } = gap;
        let range = if first == last { format!("record {first}") } else { format!("records {first} to {last}") };
        let detail = if missing == last - first + 1 {
            format!("{range} missing{note}")
        } else {
            format!("{missing} of {range} missing{note}")
        };
        self.summary.findings += 1;
        (self.found)(Finding { file, line, kind, detail });
    }

    fn accept(&mut self, record: &Authentic) {
        let content = &record.content;
        if content.event == "checkpoint" && content.records.is_none_or(|records| records + 1 != content.seq) {
            self.report(FindingKind::Changed, "the checkpoint states another number of records than its own".into());
        }
        self.num_changed = 0;
        self.next_seq = Some(content.seq + 1);
        self.last_mac = Some(record.mac);
        self.summary.closed = content.event == "checkpoint" && content.reason.as_deref() == Some("close");
        let segment = self.place.number.unwrap_or(0);
        self.summary.last = Some(Head { segment, seq: content.seq, mac: record.mac.to_string() });
    }

    fn end_segment(&mut self) {
        if let Some((lines, id)) = self.place.foreign.take() {
            let detail = format!("{lines} lines under key {id}; the key given is {}", self.key.id());
            self.report_at(1, FindingKind::ForeignKey, detail);
        }
        if self.place.line == 0 {
            self.place.line = 1;
            self.torn("a segment without a line");
        }
        if let Some(number) = self.place.number {
            self.previous = Some((self.place.file.clone(), number, self.place.line));
        }
    }

    /// What can be said only at the end.
    pub(super) fn finish(mut self) -> (Summary, Tip) {
        for gap in std::mem::take(&mut self.gaps) {
            self.report_gap(gap);
        }
        let last_seq = self.next_seq.map_or(0, |next| next - 1);
        if let Some(head) = self.head.filter(|_| !self.head_seen) {
            if head.seq > last_seq + self.num_changed {
                let detail = format!("the log ends with record {last_seq}, and the head names record {}", head.seq);
                self.report(FindingKind::CutOff, detail);
            } else if self.summary.findings == 0 {
                let detail = format!("record {}, which the head names, is not among these", head.seq);
                self.report(FindingKind::Removed, detail);
            }
        }
        self.summary.outcome = match self.summary.findings {
            0 => Outcome::Whole,
            findings if findings == self.num_torn => Outcome::TornTail,
            _ => Outcome::Tampered,
        };
        let tip = Tip { seq: last_seq, mac: self.last_mac.unwrap_or(line::NO_MAC), end: self.end };
        (self.summary, tip)
    }

    fn report(&mut self, kind: FindingKind, detail: String) {
        self.report_at(self.place.line, kind, detail);
    }

    fn report_at(&mut self, line: u64, kind: FindingKind, detail: String) {
        self.summary.findings += 1;
        (self.found)(Finding { file: self.place.file.clone(), line, kind, detail });
    }
}

/// Where a log ends, for who goes on writing it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tip {
    pub(super) seq: u64,
    pub(super) mac: Hash,
    pub(super) end: FileEnd,
}
