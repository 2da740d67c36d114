//! The folder of a log: segments by number, and what writing to them takes.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::AuditError;

const PREFIX: &str = "audit-";
const SUFFIX: &str = ".jsonl";
/// Digits of a segment's number in its name; a larger number has more.
const NAME_DIGITS: usize = 6;

/// Where segments come from. A trait so that a test can plant a full disk.
pub(super) trait Storage: Send {
    /// Begins a segment. One that is there and empty is taken: it was begun and nothing more.
    fn create(&mut self, segment: u64) -> io::Result<Box<dyn Sink>>;
}

/// A segment that is written to.
pub(super) trait Sink: Send {
    /// Appends some of the bytes; returns how many.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;
    /// Forces what was written to the disk.
    fn sync(&mut self) -> io::Result<()>;
    /// Takes away everything past the first `len` bytes.
    fn rewind(&mut self, len: u64) -> io::Result<()>;
}

/// A folder on a disk, held by one writer.
pub(super) struct Folder {
    path: PathBuf,
    /// Unlocked when it is dropped, or when the process dies.
    _lock: File,
}

impl Folder {
    /// Makes the folder where it is missing, and holds it.
    pub(super) fn open(path: &Path) -> Result<Self, AuditError> {
        fs::create_dir_all(path).map_err(AuditError::io("make the folder", path))?;
        let lock_path = path.join("audit.lock");
        let lock = private(OpenOptions::new().create(true).append(true))
            .open(&lock_path)
            .map_err(AuditError::io("open", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.into(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(AuditError::Locked { dir: path.into() }),
            Err(TryLockError::Error(source)) => Err(AuditError::io("lock", lock_path)(source)),
        }
    }

    /// The segment's file, to be appended to; made where it is missing.
    pub(super) fn append_to(&self, segment: u64) -> io::Result<File> {
        private(OpenOptions::new().create(true).append(true)).open(self.path.join(file_name(segment)))
    }
}

impl Storage for Folder {
    fn create(&mut self, segment: u64) -> io::Result<Box<dyn Sink>> {
        let file = self.append_to(segment)?;
        if file.metadata()?.len() > 0 {
            let message = format!("{} is there already and holds something", file_name(segment));
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
        }
        // The name must be on the disk before a line in the file can be said to be.
        File::open(&self.path)?.sync_all()?;
        Ok(Box::new(file))
    }
}

impl Sink for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Write::write(self, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn rewind(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }
}

/// For the owner alone: the lines tell who asked what.
#[cfg(unix)]
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600)
}

#[cfg(not(unix))]
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

pub(super) fn file_name(segment: u64) -> String {
    format!("{PREFIX}{segment:0NAME_DIGITS$}{SUFFIX}")
}

/// The number in a segment's name; `None` if it is no such name.
pub(super) fn number_of(path: &Path) -> Option<u64> {
    let digits = path.file_name()?.to_str()?.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    let number = digits.parse().ok()?;
    (number > 0 && file_name(number).len() == PREFIX.len() + digits.len() + SUFFIX.len()).then_some(number)
}

/// The segments of a folder in order; a file stands for itself, with its number where its name says one.
pub(super) fn segments_at(path: &Path) -> Result<Vec<(Option<u64>, PathBuf)>, AuditError> {
    let metadata = fs::metadata(path).map_err(AuditError::io("find", path))?;
    if !metadata.is_dir() {
        return Ok(vec![(number_of(path), path.into())]);
    }
    let mut segments = Vec::new();
    for entry in fs::read_dir(path).map_err(AuditError::io("list", path))? {
        let entry = entry.map_err(AuditError::io("list", path))?.path();
        if let Some(number) = number_of(&entry) {
            segments.push((Some(number), entry));
        }
    }
    segments.sort();
    if segments.is_empty() { Err(AuditError::NoSegments { path: path.into() }) } else { Ok(segments) }
}
