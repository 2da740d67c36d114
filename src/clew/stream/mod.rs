//! Files of any size, one chunk of top-level declarations at a time.
//!
//! The source arrives in pieces of any size and is cut where the scanner sees declarations begin. Each chunk is read by
//! itself, as if it stood alone but with the lines of the whole, and its facts are added to those before. So memory
//! depends on [`CHUNK_BYTES`] and [`FACTS_BYTES_MAX`], and not on the file. What differs from reading the file as a
//! whole: only the first [`CONSTRAINTS_MAX`] types are kept, so one that refers to a later one is only advisory; of facts
//! over [`FACTS_BYTES_MAX`] nothing is kept but their number; and what a reader decides while it reads, it decides by
//! the chunk: a type of the standard library that an earlier chunk imports is unknown (its users are only advisory), and
//! a class of Python that is a model through a base in an earlier chunk is none.

mod scan;
#[cfg(test)]
mod tests;

use scan::{Line, Scanner};

use super::{CONSTRAINTS_MAX, ClewError, FileFacts, SOURCE_BYTES_MAX, read_lines};
use crate::constraint::{Diagnostic, Language, Origin};

/// Bytes of source that are parsed at a time, more only for a declaration that is longer; parsing takes 20 times that.
pub const CHUNK_BYTES: usize = 1024 * 1024;
/// Facts kept of a streamed file, in bytes as they are written to a cache; in memory they take a few times that.
pub const FACTS_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Diagnostics kept of a streamed file; further ones are counted.
const DIAGNOSTICS_MAX: usize = 1_000;

/// A file that is being read in pieces.
pub struct Stream {
    cutter: Cutter,
    facts: FileFacts,
    facts_bytes: usize,
    num_types: usize,
    num_diagnostics: usize,
    num_chunks_lost: usize,
}

impl Stream {
    /// Begins a file.
    ///
    /// # Errors
    /// Those of [`super::read_file`]; none today.
    pub fn new(language: Language, file: &str) -> Result<Self, ClewError> {
        Self::with_chunks(language, file, CHUNK_BYTES)
    }

    /// Begins a file that is cut into chunks of about this many bytes.
    ///
    /// # Errors
    /// Those of [`super::read_file`]; none today.
    pub fn with_chunks(language: Language, file: &str, chunk_bytes: usize) -> Result<Self, ClewError> {
        let facts = read_lines("", language, file, 1)?;
        let cutter = Cutter::new(language, chunk_bytes.clamp(1, SOURCE_BYTES_MAX));
        Ok(Self { cutter, facts, facts_bytes: 0, num_types: 0, num_diagnostics: 0, num_chunks_lost: 0 })
    }

    /// Takes the next bytes of the file; as slow as reading a file of that size.
    ///
    /// # Errors
    /// [`ClewError::NotUtf8`]; the file is then lost.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), ClewError> {
        for block in bytes.chunks(self.cutter.chunk_bytes) {
            for chunk in self.cutter.push(block)? {
                self.read(chunk)?;
            }
        }
        Ok(())
    }

    /// What the whole file holds.
    ///
    /// # Errors
    /// [`ClewError::NotUtf8`].
    pub fn finish(mut self) -> Result<FileFacts, ClewError> {
        if let Some(chunk) = self.cutter.finish()? {
            self.read(chunk)?;
        }
        for (all, limit, what) in [
            (self.num_types, CONSTRAINTS_MAX, "types, of which nothing is kept"),
            (self.num_diagnostics, DIAGNOSTICS_MAX, "diagnostics"),
            (self.num_chunks_lost, 0, "chunks of the file, of whose facts nothing is kept"),
        ] {
            if let Some(more @ 1..) = all.checked_sub(limit) {
                let message = format!("{more} further {what}");
                self.facts.types.diagnostics.push(at_line(self.facts.file(), 1, message));
            }
        }
        Ok(self.facts)
    }

    fn read(&mut self, chunk: Chunk) -> Result<(), ClewError> {
        let facts = match chunk {
            Chunk::Text { text, line } => read_lines(&text, self.facts.language, &self.facts.file, line)?,
            Chunk::TooLong { line } => {
                let message =
                    format!("a declaration of more than {SOURCE_BYTES_MAX} bytes begins here; it is not read");
                let mut facts = read_lines("", self.facts.language, &self.facts.file, line)?;
                facts.types.diagnostics.push(at_line(&self.facts.file, line, message));
                facts
            }
        };
        self.keep(facts);
        Ok(())
    }

    fn keep(&mut self, mut facts: FileFacts) {
        let kept = &mut self.facts.types;
        self.num_types += facts.types.declarations.len();
        self.num_diagnostics += facts.types.diagnostics.len();
        facts.types.declarations.truncate(CONSTRAINTS_MAX - kept.declarations.len());
        facts.types.diagnostics.truncate(DIAGNOSTICS_MAX - kept.diagnostics.len());
        facts.code.forget_known(&self.facts.code);
        let bytes = serde_json::to_string(&facts).map_or(usize::MAX, |text| text.len());
        if bytes > FACTS_BYTES_MAX - self.facts_bytes {
            self.num_chunks_lost += 1;
            return;
        }
        self.facts_bytes += bytes;
        self.facts.append(facts);
    }
}

fn at_line(file: &str, line: u32, message: String) -> Diagnostic {
    Diagnostic { origin: Origin { file: file.to_owned(), line, column: 1 }, message }
}

/// A piece of a file that can be read by itself.
#[derive(Debug, PartialEq, Eq)]
enum Chunk {
    /// Whole declarations; the first line of the file has number 1.
    Text { text: String, line: u32 },
    /// A declaration over [`SOURCE_BYTES_MAX`], of which nothing is kept.
    TooLong { line: u32 },
}

/// Cuts bytes into chunks.
struct Cutter {
    scanner: Scanner,
    language: Language,
    chunk_bytes: usize,
    /// What has not been cut off yet.
    pending: Vec<u8>,
    /// How much of it has been scanned: whole lines.
    scanned: usize,
    /// Where it may be cut.
    border: usize,
    /// Where it looks as if it could be cut.
    doubtful: usize,
    /// The line that `pending` begins with, and its byte in the file.
    line: u32,
    offset: usize,
    /// Inside a declaration that is too long.
    is_skipping: bool,
}

impl Cutter {
    fn new(language: Language, chunk_bytes: usize) -> Self {
        let scanner = Scanner::new(language);
        let (pending, is_skipping) = (Vec::new(), false);
        let (scanned, border, doubtful, line, offset) = (0, 0, 0, 1, 0);
        Self { scanner, language, chunk_bytes, pending, scanned, border, doubtful, line, offset, is_skipping }
    }

    fn push(&mut self, bytes: &[u8]) -> Result<Vec<Chunk>, ClewError> {
        self.pending.extend_from_slice(bytes);
        let mut chunks = Vec::new();
        while let Some(len) = self.pending[self.scanned..].iter().position(|byte| *byte == b'\n') {
            let (start, end) = (self.scanned, self.scanned + len + 1);
            self.scanned = end;
            match self.scanner.line(&self.pending[start..end], start) {
                Line::Border(at) => chunks.extend(self.at_border(at)?),
                Line::Doubtful if self.is_skipping => {
                    self.take(start);
                    (self.is_skipping, self.scanned) = (false, 0);
                    self.scanner = Scanner::new(self.language);
                }
                Line::Doubtful => self.doubtful = start,
                Line::Other => {}
            }
        }
        while self.pending.len() > SOURCE_BYTES_MAX {
            chunks.extend(self.overflow()?);
        }
        Ok(chunks)
    }

    /// Cuts before the border that made the chunk too large, so that a chunk depends on the text and not on the pieces.
    fn at_border(&mut self, mut at: usize) -> Result<Vec<Chunk>, ClewError> {
        if std::mem::take(&mut self.is_skipping) {
            self.take(at);
            at = 0;
        }
        let mut chunks = Vec::new();
        while at > self.chunk_bytes {
            let cut = if self.border == 0 { at } else { self.border };
            chunks.push(self.cut(cut)?);
            at -= cut;
        }
        self.border = at;
        Ok(chunks)
    }

    /// Nothing was cut for too long: cuts where it may be, else where it looks like it, and else skips what there is.
    fn overflow(&mut self) -> Result<Option<Chunk>, ClewError> {
        if self.border > 0 {
            return self.cut(self.border).map(Some);
        }
        if self.doubtful > 0 && !self.is_skipping {
            let chunk = self.cut(self.doubtful)?;
            (self.scanner, self.scanned) = (Scanner::new(self.language), 0);
            return Ok(Some(chunk));
        }
        let line = self.line;
        let skips = !std::mem::replace(&mut self.is_skipping, true);
        self.take(self.pending.len());
        Ok(skips.then_some(Chunk::TooLong { line }))
    }

    fn finish(&mut self) -> Result<Option<Chunk>, ClewError> {
        if self.is_skipping || self.pending.is_empty() {
            return Ok(None);
        }
        self.cut(self.pending.len()).map(Some)
    }

    fn cut(&mut self, len: usize) -> Result<Chunk, ClewError> {
        let (line, offset) = (self.line, self.offset);
        if len > SOURCE_BYTES_MAX {
            self.take(len);
            return Ok(Chunk::TooLong { line });
        }
        let text = String::from_utf8(self.take(len)).map_err(|error| ClewError::not_utf8(&error, offset))?;
        Ok(Chunk::Text { text, line })
    }

    /// Removes the first bytes of what is pending.
    fn take(&mut self, len: usize) -> Vec<u8> {
        let rest = self.pending.split_off(len);
        let taken = std::mem::replace(&mut self.pending, rest);
        let num_lines = taken.iter().filter(|byte| **byte == b'\n').count();
        self.line = self.line.saturating_add(u32::try_from(num_lines).unwrap_or(u32::MAX));
        self.offset += len;
        self.scanner.rebase(len);
        for place in [&mut self.scanned, &mut self.border, &mut self.doubtful] {
            *place = place.saturating_sub(len);
        }
        taken
    }
}
