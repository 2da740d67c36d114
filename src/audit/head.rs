//! The end of a log in a few bytes: what an operator keeps elsewhere, to find later that the end was cut off.

use std::{
    fs::File,
    io::{BufReader, Read},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{AuditError, folder, line};

/// A file of a head is no longer than this.
const HEAD_FILE_BYTES_MAX: u64 = 1 << 10;

/// A record by number and MAC: a log in which it stands has not lost anything up to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// The segment in which the record stands.
    pub segment: u64,
    /// The record's number, counted from 1 over all segments.
    pub seq: u64,
    /// Its MAC, as 64 hex digits.
    pub mac: String,
}

impl Head {
    /// Reads what `ananke audit head` printed.
    ///
    /// # Errors
    /// The file cannot be read, or is no head.
    pub fn read(path: &Path) -> Result<Self, AuditError> {
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(AuditError::io("open the head", path))?;
        file.take(HEAD_FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(AuditError::io("read the head", path))?;
        let malformed = |reason| AuditError::HeadMalformed { path: path.into(), reason };
        let head: Self = serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?;
        blake3::Hash::from_hex(&head.mac).map_err(|error| malformed(format!("mac: {error}")))?;
        Ok(head)
    }
}

/// The last complete record of a segment, or of the last segment of a folder that has one, as it stands: nothing is
/// checked, which takes the key and [`super::verify()`].
///
/// # Errors
/// A file cannot be read, or there is no complete record.
pub fn read_head(path: &Path) -> Result<Head, AuditError> {
    let segments: Vec<(Option<u64>, PathBuf)> = folder::segments_at(path)?;
    for (number, segment) in segments.into_iter().rev() {
        if let Some(head) = last_record(number, &segment)? {
            return Ok(head);
        }
    }
    Err(AuditError::NoRecord { path: path.into() })
}

fn last_record(number: Option<u64>, path: &Path) -> Result<Option<Head>, AuditError> {
    let file = File::open(path).map_err(AuditError::io("open", path))?;
    let (mut reader, mut buffer, mut last) = (BufReader::new(file), Vec::new(), None);
    let mut first_line = true;
    let mut segment = number.unwrap_or(0);
    loop {
        let (piece, _) = line::read(&mut reader, &mut buffer).map_err(AuditError::io("read", path))?;
        match piece {
            line::Piece::Line => {
                if let (true, None, Some(claimed)) = (first_line, number, line::claimed_segment(&buffer)) {
                    segment = claimed;
                }
                let record = line::peek(&buffer);
                last = record.map(|(seq, mac)| Head { segment, seq, mac: mac.to_string() }).or(last);
                first_line = false;
            }
            line::Piece::TooLong => first_line = false,
            line::Piece::Tail | line::Piece::End => return Ok(last),
        }
    }
}
