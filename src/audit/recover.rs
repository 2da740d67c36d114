//! Opening a log that may be there: its last two segments must verify, and a torn last line is taken away.

use std::path::Path;

use super::{
    AuditError, AuditKey, FindingKind,
    folder::{self, Folder},
    line,
    verify::{Tip, Verifier},
};

/// Where writing goes on.
pub(super) struct Opened {
    pub(super) folder: Folder,
    /// The last segment; `None` where the log is new.
    pub(super) segment: Option<Segment>,
    /// The last record.
    pub(super) seq: u64,
    pub(super) mac: blake3::Hash,
    /// How the log ended: `new`, `closed` or `killed`.
    pub(super) after: &'static str,
    /// Bytes of a torn line that were taken away; `Some(0)` where only the end of a line was added.
    pub(super) cut_bytes: Option<u64>,
}

/// A segment that is there.
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) len: u64,
    /// It has no line yet, not even its first.
    pub(super) is_blank: bool,
}

/// Opens the folder at `dir`, and makes its end whole.
///
/// Segments before the last two are not read: this is a start, not `ananke audit verify`.
///
/// # Errors
/// The folder is in use or cannot be read or written, or its end does not verify.
pub(super) fn open(dir: &Path, key: &AuditKey) -> Result<Opened, AuditError> {
    let folder = Folder::open(dir)?;
    let segments = match folder::segments_at(dir) {
        Ok(segments) => segments,
        Err(AuditError::NoSegments { .. }) => {
            return Ok(Opened { folder, segment: None, seq: 0, mac: line::NO_MAC, after: "new", cut_bytes: None });
        }
        Err(error) => return Err(error),
    };
    let last_two = &segments[segments.len().saturating_sub(2)..];
    let first_seq = (last_two.first().and_then(|(number, _)| *number) == Some(1)).then_some(1);
    let mut first_finding = None;
    let mut verifier = Verifier::new(key, None, first_seq, |finding| {
        if finding.kind != FindingKind::TornTail {
            first_finding.get_or_insert(finding);
        }
    });
    verifier.segments(last_two)?;
    let (summary, tip) = verifier.finish();
    if let Some(finding) = first_finding {
        return Err(AuditError::NotWhole { finding: Box::new(finding) });
    }
    let (number, path) = last_two.last().expect("a list that is not empty has a last entry");
    let number = number.expect("files of a folder are listed by their numbers");
    if summary.records == 0 && number != 1 {
        // Nothing says what this segment was to follow.
        return Err(AuditError::NoRecord { path: path.clone() });
    }
    let cut_bytes = mend(&folder, number, path, tip)?;
    let len = tip.end.whole_bytes + u64::from(tip.end.lacks_newline);
    let after = if summary.closed { "closed" } else { "killed" };
    let segment = Some(Segment { number, len, is_blank: tip.end.records == 0 });
    Ok(Opened { folder, segment, seq: tip.seq, mac: tip.mac, after, cut_bytes })
}

/// Takes a torn line away, or ends a complete one; returns how many bytes went.
fn mend(folder: &Folder, number: u64, path: &Path, tip: Tip) -> Result<Option<u64>, AuditError> {
    let end = tip.end;
    if end.torn_bytes == 0 && !end.lacks_newline {
        return Ok(None);
    }
    tracing::warn!(
        file = %path.display(),
        bytes = end.torn_bytes,
        whole_bytes = end.whole_bytes,
        "the audit log ends inside a line, as a crash leaves it: the torn bytes are taken away"
    );
    let mut file = folder.append_to(number).map_err(AuditError::io("open", path))?;
    file.set_len(end.whole_bytes).map_err(AuditError::io("shorten", path))?;
    if end.lacks_newline {
        std::io::Write::write_all(&mut file, b"\n").map_err(AuditError::io("write", path))?;
    }
    file.sync_all().map_err(AuditError::io("sync", path))?;
    Ok(Some(end.torn_bytes))
}
