//! Entries as files of a folder, one each, for restarts of a server and for the servers of one machine.
//!
//! A file appears whole, by renaming. None is forced to the disk: after a crash of the machine a file may be torn, which
//! its MAC tells. Files that are not ours are neither counted nor removed.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, ErrorKind, Read, Write},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use super::{CacheConfig, CacheError, EntryName, TierError, seal::MAC_LEN};

/// What a file takes on the disk at least, and in steps of.
const BLOCK_BYTES: u64 = 4 << 10;
/// A file that was never renamed is removed when it is so old.
const TEMPORARY_FOR: Duration = Duration::from_secs(3600);
const ENTRY_SUFFIX: &str = ".entry";
const TEMPORARY_SUFFIX: &str = ".tmp";

pub(super) struct Disk {
    dir: PathBuf,
    file_bytes_max: usize,
    bytes_max: u64,
    /// Bytes of the entries, as far as this process knows.
    num_bytes: Mutex<u64>,
    num_temporary: AtomicU64,
}

/// An entry, as the folder lists it.
struct Listed {
    modified: SystemTime,
    num_bytes: u64,
    path: PathBuf,
}

impl Disk {
    pub(super) fn open(dir: &Path, config: &CacheConfig) -> Result<Self, CacheError> {
        create(dir).map_err(CacheError::folder("make", dir))?;
        let metadata = fs::metadata(dir).map_err(CacheError::folder("look at", dir))?;
        if config.key.is_none()
            && let Some(mode) = mode_that_lets_others_write(&metadata)
        {
            return Err(CacheError::FolderWritable { path: dir.into(), mode });
        }
        let disk = Self {
            dir: dir.into(),
            file_bytes_max: config.entry_bytes_max + MAC_LEN,
            bytes_max: config.disk_bytes_max,
            num_bytes: Mutex::new(0),
            num_temporary: AtomicU64::new(0),
        };
        let mut num_bytes = disk.num_bytes.lock().unwrap_or_else(PoisonError::into_inner);
        *num_bytes = disk.make_room(0).map_err(CacheError::folder("list", dir))?;
        drop(num_bytes);
        Ok(disk)
    }

    pub(super) fn read(&self, name: EntryName) -> Result<Option<Vec<u8>>, TierError> {
        let file = match File::open(self.path(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut sealed = Vec::new();
        // One byte more than an entry has is enough for its MAC to be wrong.
        file.take(self.file_bytes_max as u64 + 1).read_to_end(&mut sealed)?;
        Ok(Some(sealed))
    }

    /// Stores an entry, for which the oldest ones make room.
    pub(super) fn write(&self, name: EntryName, sealed: &[u8]) -> Result<(), TierError> {
        let more = on_disk(sealed.len() as u64);
        if more > self.bytes_max {
            // All others would make room for nothing.
            return Err(TierError::NoRoom);
        }
        // One at a time, so that the count is true.
        let mut num_bytes = self.num_bytes.lock().unwrap_or_else(PoisonError::into_inner);
        if *num_bytes + more > self.bytes_max {
            *num_bytes = self.make_room(more)?;
        }
        let number = self.num_temporary.fetch_add(1, Ordering::Relaxed);
        let temporary = self.dir.join(format!("{}-{number}{TEMPORARY_SUFFIX}", std::process::id()));
        let stored = write_new(&temporary, sealed).and_then(|()| fs::rename(&temporary, self.path(name)));
        if let Err(error) = stored {
            // Half a file of a full disk would stay in the way.
            let _ = fs::remove_file(&temporary);
            return Err(error.into());
        }
        *num_bytes += more;
        Ok(())
    }

    pub(super) fn forget(&self, name: EntryName) {
        if let Err(error) = fs::remove_file(self.path(name)) {
            tracing::debug!(%error, "a refused entry could not be removed");
        }
    }

    fn path(&self, name: EntryName) -> PathBuf {
        self.dir.join(format!("{name}{ENTRY_SUFFIX}"))
    }

    /// Removes the oldest entries until `more` bytes fit, and a tenth beside, so that not every write lists the folder.
    /// Returns the bytes that are left.
    fn make_room(&self, more: u64) -> io::Result<u64> {
        let mut listed = self.list()?;
        let mut num_bytes = listed.iter().map(|entry| entry.num_bytes).sum::<u64>();
        if num_bytes + more <= self.bytes_max {
            return Ok(num_bytes);
        }
        listed.sort_by_key(|entry| entry.modified);
        let goal = (self.bytes_max - self.bytes_max / 10).saturating_sub(more);
        for entry in listed {
            if num_bytes <= goal {
                break;
            }
            // Another server may have been first.
            match fs::remove_file(&entry.path) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => num_bytes -= entry.num_bytes,
            }
        }
        Ok(num_bytes)
    }

    /// The entries of the folder; what was left behind by a crash is removed.
    fn list(&self) -> io::Result<Vec<Listed>> {
        let mut listed = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            // Gone in between: another server makes room too.
            let Ok(metadata) = entry.metadata() else { continue };
            let Ok(modified) = metadata.modified() else { continue };
            if name.ends_with(ENTRY_SUFFIX) {
                listed.push(Listed { modified, num_bytes: on_disk(metadata.len()), path: entry.path() });
            } else if name.ends_with(TEMPORARY_SUFFIX) && modified.elapsed().is_ok_and(|age| age > TEMPORARY_FOR) {
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(listed)
    }
}

fn on_disk(num_bytes: u64) -> u64 {
    num_bytes.max(1).div_ceil(BLOCK_BYTES) * BLOCK_BYTES
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?.write_all(bytes)
}

fn create(dir: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

/// The permission bits, where they let others write.
#[cfg(unix)]
fn mode_that_lets_others_write(metadata: &fs::Metadata) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt;
    let mode = metadata.permissions().mode() & 0o777;
    (mode & 0o022 != 0).then_some(mode)
}

#[cfg(not(unix))]
fn mode_that_lets_others_write(_: &fs::Metadata) -> Option<u32> {
    None
}
