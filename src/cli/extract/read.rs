//! One file to what stands in it, within its limits.

use std::fs::File;
use std::io::Read;

use thiserror::Error;

use super::cache::Cache;
use super::walk::{Input, What};
use crate::clew::{self, CHUNK_BYTES, ClewError, FileFacts, Manifest, SOURCE_BYTES_MAX, Stream};
use crate::constraint::{Diagnostic, Language, Origin};
use crate::maze::{EXTRACTION_TIME_MAX, Interrupted, within};

/// What was read in a file.
#[derive(Debug)]
pub(super) enum Facts {
    Source(Box<FileFacts>),
    Manifest(Manifest),
}

/// Why a file was not read.
#[derive(Debug, Error)]
pub(super) enum FileError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Clew(#[from] ClewError),
    #[error("{0}")]
    Interrupted(#[from] Interrupted),
}

impl FileError {
    /// The error as something that costs one file.
    pub(super) fn diagnostic(&self, name: &str) -> Diagnostic {
        match self {
            Self::Clew(ClewError::Malformed { file, line, column, message }) => {
                let origin = Origin { file: file.clone(), line: *line, column: *column };
                Diagnostic { origin, message: message.clone() }
            }
            error => {
                Diagnostic { origin: Origin { file: name.to_owned(), line: 1, column: 1 }, message: error.to_string() }
            }
        }
    }
}

/// How files are read.
pub(super) struct Reader<'a> {
    pub(super) cache: Option<&'a Cache>,
    pub(super) streams: bool,
}

impl Reader<'_> {
    /// Reads one file.
    pub(super) fn read(&self, input: &Input) -> Result<Facts, FileError> {
        match input.what {
            What::Manifest => {
                let text = clew::decode(read_at_most(input, clew::MANIFEST_BYTES_MAX)?)?;
                let file_name = input.path.file_name().unwrap_or_default().to_string_lossy();
                Ok(Facts::Manifest(clew::read_manifest(&text, &file_name, &input.name)?))
            }
            What::Source(language) if self.streams => stream(input, language).map(|facts| Facts::Source(facts.into())),
            What::Source(language) => self.source(input, language).map(|facts| Facts::Source(facts.into())),
        }
    }

    fn source(&self, input: &Input, language: Language) -> Result<FileFacts, FileError> {
        let text = clew::decode(read_at_most(input, SOURCE_BYTES_MAX)?)?;
        let name = input.name.clone();
        let Some(cache) = self.cache else {
            return Ok(within(EXTRACTION_TIME_MAX, move || clew::read_file(&text, language, &name))??);
        };
        let key = cache.key(&text, language, &name);
        if let Some(facts) = cache.get(&key) {
            return Ok(facts);
        }
        let facts = within(EXTRACTION_TIME_MAX, move || clew::read_file(&text, language, &name))??;
        cache.put(&key, &facts);
        Ok(facts)
    }
}

/// Reads a file of any size, [`CHUNK_BYTES`] at a time, each within the time of a file.
fn stream(input: &Input, language: Language) -> Result<FileFacts, FileError> {
    let mut file = File::open(&input.path)?;
    let mut stream = Stream::new(language, &input.name)?;
    loop {
        let mut block = Vec::with_capacity(CHUNK_BYTES);
        if Read::by_ref(&mut file).take(CHUNK_BYTES as u64).read_to_end(&mut block)? == 0 {
            return Ok(within(EXTRACTION_TIME_MAX, move || stream.finish())??);
        }
        stream = within(EXTRACTION_TIME_MAX, move || stream.push(&block).map(|()| stream))??;
    }
}

/// The bytes of a file, which is not read to its end if it is too large.
fn read_at_most(input: &Input, limit: usize) -> Result<Vec<u8>, FileError> {
    let file = File::open(&input.path)?;
    let size = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    let mut bytes = Vec::new();
    file.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > limit {
        return Err(ClewError::TooLarge { size: size.max(bytes.len()), limit }.into());
    }
    Ok(bytes)
}
