//! The key of a log: read from a file that only its owner may read, never shown.

use std::{
    fmt,
    fs::{File, Metadata},
    io::Read,
    path::Path,
};

use super::AuditError;

/// A file of a key is no longer than this: 64 digits and an end of line.
const KEY_FILE_BYTES_MAX: u64 = 80;

/// What the two derived keys are for; changing a text makes old logs unreadable.
const LINE_CONTEXT: &str = "ananke 2026-11 audit log: mac of a line";
const ID_CONTEXT: &str = "ananke 2026-11 audit log: name of the key";

/// The key under which lines are authenticated.
#[derive(Clone)]
pub struct AuditKey {
    line: [u8; 32],
    id: String,
}

impl AuditKey {
    /// Reads a key: 64 hex digits, in a file that nobody but its owner may read.
    ///
    /// # Errors
    /// [`AuditError::KeyReadable`], [`AuditError::KeyMalformed`], or the file cannot be read.
    pub fn read(path: &Path) -> Result<Self, AuditError> {
        let file = File::open(path).map_err(AuditError::io("open the key", path))?;
        let metadata = file.metadata().map_err(AuditError::io("look at the key", path))?;
        if let Some(mode) = mode_for_others(&metadata) {
            return Err(AuditError::KeyReadable { path: path.into(), mode });
        }
        let mut text = String::new();
        let read = file.take(KEY_FILE_BYTES_MAX).read_to_string(&mut text);
        let hex = blake3::Hash::from_hex(text.trim_end());
        match (read, hex) {
            (Ok(_), Ok(hex)) => Ok(Self::from_bytes(hex.as_bytes())),
            _ => Err(AuditError::KeyMalformed { path: path.into() }),
        }
    }

    pub(super) fn from_bytes(bytes: &[u8; 32]) -> Self {
        let id = blake3::Hash::from_bytes(blake3::derive_key(ID_CONTEXT, bytes)).to_hex();
        Self { line: blake3::derive_key(LINE_CONTEXT, bytes), id: id[..16].to_owned() }
    }

    /// Names the key without giving anything of it away: 16 hex digits.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The MAC of a text that comes in pieces.
    pub(super) fn mac(&self, pieces: &[&[u8]]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.line);
        for piece in pieces {
            hasher.update(piece);
        }
        hasher.finalize()
    }
}

impl fmt::Debug for AuditKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuditKey({})", self.id)
    }
}

/// The permission bits, where they let others in.
#[cfg(unix)]
fn mode_for_others(metadata: &Metadata) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt;
    let mode = metadata.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then_some(mode)
}

#[cfg(not(unix))]
fn mode_for_others(_: &Metadata) -> Option<u32> {
    None
}
