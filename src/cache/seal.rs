//! The MAC of entries: who does not have the key can neither write one nor alter, swap or rename one.

use std::{
    fs::{File, Metadata},
    io::Read,
    path::Path,
};

use super::{CacheError, EntryName};

/// A file of a key is no longer than this: 64 digits and an end of line.
const KEY_FILE_BYTES_MAX: u64 = 80;
/// What the derived keys are for; changing a text makes old entries misses.
const MAC_CONTEXT: &str = "ananke 2026-11 cache tiers: mac of an entry";
const NAME_CONTEXT: &str = "ananke 2026-11 cache tiers: name of an entry";

/// Bytes that a MAC takes in front of a value.
pub(super) const MAC_LEN: usize = 32;

/// What entries are sealed and named with.
pub(super) struct Seal {
    mac: [u8; 32],
    name: [u8; 32],
}

impl Seal {
    /// Reads a key: 64 hex digits, in a file that nobody but its owner may read. Without one the seal only tells what is
    /// damaged, which is enough in a folder that nobody else can write to.
    pub(super) fn open(path: Option<&Path>) -> Result<Self, CacheError> {
        let secret = path.map(read).transpose()?.unwrap_or([0; 32]);
        Ok(Self::of(&secret))
    }

    pub(super) fn of(secret: &[u8; 32]) -> Self {
        Self { mac: blake3::derive_key(MAC_CONTEXT, secret), name: blake3::derive_key(NAME_CONTEXT, secret) }
    }

    /// A digest of parts, each with its length, so that no two lists run together.
    pub(super) fn name<'a>(&self, parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.name);
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        *hasher.finalize().as_bytes()
    }

    /// The value with its MAC in front.
    pub(super) fn seal(&self, name: EntryName, value: &[u8]) -> Vec<u8> {
        [&self.mac(name, value).as_bytes()[..], value].concat()
    }

    /// The value, if the MAC in front of it is the right one. Compares in constant time, as [`blake3::Hash`] promises of
    /// its `==`.
    pub(super) fn unseal<'a>(&self, name: EntryName, sealed: &'a [u8]) -> Option<&'a [u8]> {
        let (mac, value) = sealed.split_first_chunk::<MAC_LEN>()?;
        (self.mac(name, value) == blake3::Hash::from_bytes(*mac)).then_some(value)
    }

    fn mac(&self, name: EntryName, value: &[u8]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.mac);
        hasher.update(&name.0);
        hasher.update(value);
        hasher.finalize()
    }
}

fn read(path: &Path) -> Result<[u8; 32], CacheError> {
    let failed = |source| CacheError::Read { path: path.into(), source };
    let file = File::open(path).map_err(failed)?;
    let mode = mode_for_others(&file.metadata().map_err(failed)?);
    if let Some(mode) = mode {
        return Err(CacheError::KeyReadable { path: path.into(), mode });
    }
    let mut text = String::new();
    let read = file.take(KEY_FILE_BYTES_MAX).read_to_string(&mut text);
    match (read, blake3::Hash::from_hex(text.trim_end())) {
        (Ok(_), Ok(secret)) => Ok(*secret.as_bytes()),
        _ => Err(CacheError::KeyMalformed { path: path.into() }),
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
