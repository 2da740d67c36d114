//! One line: `{"seq":N,"prev":"MAC","time_ms":T,"event":"NAME",...,"mac":"MAC"}`.
//!
//! The MAC is over the line as it would stand without the member `mac`, byte for byte, and so over `prev` as well.
//! There is one way to write a line, and no JSON is read before its bytes are known to be authentic.

use std::io::{self, BufRead};

use blake3::Hash;
use serde::{Deserialize, de::IgnoredAny};

use super::AuditKey;

/// `prev` of the first line of a log.
pub(super) const NO_MAC: Hash = Hash::from_bytes([0; 32]);

/// Longest line. Default 16 MiB; the longest that is written is 1 MiB of prompt, six bytes each when all are escaped, a
/// digest for each of 4,096 prompts and 1,024 constraints, and names.
pub(super) const LINE_BYTES_MAX: usize = 16 << 20;

const MAC_OPENS: &[u8] = b",\"mac\":\"";
const MAC_CLOSES: &[u8] = b"\"}";
const MAC_DIGITS: usize = 64;

/// Writes a line and its end to `out`; returns its MAC. `members` are the members after `prev`, without braces.
pub(super) fn seal(key: &AuditKey, seq: u64, prev: &Hash, members: &str, out: &mut Vec<u8>) -> Hash {
    let start = out.len();
    out.extend_from_slice(opening(seq, prev).as_bytes());
    out.extend_from_slice(members.as_bytes());
    let mac = key.mac(&[&out[start..], b"}"]);
    for piece in [MAC_OPENS, mac.to_hex().as_bytes(), MAC_CLOSES, b"\n"] {
        out.extend_from_slice(piece);
    }
    mac
}

/// How the line with this number after this MAC begins.
pub(super) fn opening(seq: u64, prev: &Hash) -> String {
    format!("{{\"seq\":{seq},\"prev\":\"{}\",", prev.to_hex())
}

/// What a reader of the chain needs of an authentic line.
#[derive(Debug)]
pub(super) struct Authentic {
    pub(super) mac: Hash,
    pub(super) prev: Hash,
    pub(super) content: Content,
}

/// The members that the chain is made of; the others are for people.
#[derive(Debug, Deserialize)]
pub(super) struct Content {
    pub(super) seq: u64,
    prev: String,
    pub(super) event: String,
    /// Of a segment's first line: its number.
    pub(super) segment: Option<u64>,
    /// Of a checkpoint: how many records came before it.
    pub(super) records: Option<u64>,
    /// Of a checkpoint: why.
    pub(super) reason: Option<String>,
}

/// Reads a line without its end; `None` unless it is, byte for byte, one that was written under `key`.
pub(super) fn open(key: &AuditKey, line: &[u8]) -> Option<Authentic> {
    let (body, mac) = split(line)?;
    let expected = key.mac(&[body, b"}"]);
    if expected.to_hex().as_bytes() != mac {
        return None;
    }
    let content: Content = serde_json::from_slice(line).ok()?;
    let prev = Hash::from_hex(&content.prev).ok()?;
    Some(Authentic { mac: expected, prev, content })
}

/// Number and MAC of a line that has the shape of one, with nothing checked.
pub(super) fn peek(line: &[u8]) -> Option<(u64, Hash)> {
    let (_, mac) = split(line)?;
    let content: Content = serde_json::from_slice(line).ok()?;
    Some((content.seq, Hash::from_hex(mac).ok()?))
}

/// The name of the key that a segment's first line claims, with nothing checked.
pub(super) fn claimed_key_id(line: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct First {
        key_id: String,
    }
    serde_json::from_slice(line).ok().map(|First { key_id }| key_id)
}

/// The number of the segment that a segment's first line claims, with nothing checked.
pub(super) fn claimed_segment(line: &[u8]) -> Option<u64> {
    serde_json::from_slice::<Content>(line).ok()?.segment
}

/// A line's bytes before the member `mac`, and that member's digits.
fn split(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = line.strip_suffix(MAC_CLOSES)?;
    let (rest, mac) = rest.split_at_checked(rest.len().checked_sub(MAC_DIGITS)?)?;
    Some((rest.strip_suffix(MAC_OPENS)?, mac))
}

/// Whether a crash can have left this where the line that `opening` begins was being written: a beginning of it, with
/// zeros where the disk had not come to.
pub(super) fn is_torn(tail: &[u8], opening: Option<&str>) -> bool {
    let text = without_zeros(tail);
    let opening = opening.unwrap_or("{\"seq\":").as_bytes();
    if !text.starts_with(opening) && !opening.starts_with(text) {
        return false;
    }
    match serde_json::Deserializer::from_slice(text).into_iter::<IgnoredAny>().next() {
        None => true,
        Some(Ok(_)) => false,
        Some(Err(error)) => error.is_eof(),
    }
}

/// The bytes up to the zeros at the end.
pub(super) fn without_zeros(tail: &[u8]) -> &[u8] {
    let len = tail.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    &tail[..len]
}

/// What came of reading a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// A line; its end is not in the buffer.
    Line,
    /// Bytes without an end of line, at the end of the file.
    Tail,
    /// A line or tail longer than [`LINE_BYTES_MAX`], read past.
    TooLong,
    /// Nothing more.
    End,
}

/// Reads a line into `buffer`, which never holds more than [`LINE_BYTES_MAX`]; returns also how many bytes it took.
pub(super) fn read(reader: &mut impl BufRead, buffer: &mut Vec<u8>) -> io::Result<(Piece, u64)> {
    buffer.clear();
    let mut len = 0;
    let mut too_long = false;
    loop {
        let available = reader.fill_buf()?;
        if available.is_empty() {
            let piece = if too_long { Piece::TooLong } else { Piece::Tail };
            return Ok((if len == 0 { Piece::End } else { piece }, len));
        }
        let newline = available.iter().position(|&byte| byte == b'\n');
        let chunk = &available[..newline.unwrap_or(available.len())];
        too_long |= buffer.len() + chunk.len() > LINE_BYTES_MAX;
        if !too_long {
            buffer.extend_from_slice(chunk);
        }
        let taken = newline.map_or(available.len(), |end| end + 1);
        reader.consume(taken);
        len += taken as u64;
        if newline.is_some() {
            return Ok((if too_long { Piece::TooLong } else { Piece::Line }, len));
        }
    }
}
