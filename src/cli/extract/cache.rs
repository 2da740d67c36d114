//! What was read in files, kept on disk: a file that has not changed is not read again.
//!
//! An entry is found by the digest of the extractor, the language, the file's name and its content, so it is never out
//! of date. A cache never fails: an entry that is broken or cannot be written counts as missing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::UNIX_EPOCH;

use crate::clew::FileFacts;
use crate::constraint::{Digest, Language};

/// How large a cache grows, in bytes; the oldest entries go first.
pub(super) const CACHE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// A folder of entries, one file each.
#[derive(Debug)]
pub(super) struct Cache {
    folder: PathBuf,
    bytes_max: u64,
    extractor: Digest,
    num_written: AtomicUsize,
}

impl Cache {
    /// Opens a cache in `folder`, which is made if it is not there.
    pub(super) fn open(folder: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        Ok(Self { folder, bytes_max: CACHE_BYTES_MAX, extractor: extractor(), num_written: AtomicUsize::new(0) })
    }

    /// The cache in the user's cache folder, if that can be written.
    pub(super) fn of_user() -> Option<Self> {
        let caches = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|folder| folder.is_absolute());
        let caches = caches.or_else(|| Some(std::env::home_dir()?.join(".cache")))?;
        Self::open(caches.join("ananke").join("extract")).ok()
    }

    /// What tells this file's entry from all others. The name is a part of it because origins and dialects come of it.
    pub(super) fn key(&self, text: &str, language: Language, name: &str) -> Digest {
        let parts = [Digest::of_value(&(language, name)), Digest::of_bytes(text.as_bytes())];
        Digest::of_digests([&self.extractor].into_iter().chain(&parts))
    }

    /// The entry, if it is there and whole.
    pub(super) fn get(&self, key: &Digest) -> Option<FileFacts> {
        let entry = fs::read_to_string(self.path(key)).ok()?;
        let (digest, facts) = entry.split_once('\n')?;
        let is_whole = digest == Digest::of_bytes(facts.as_bytes()).to_string();
        if is_whole { serde_json::from_str(facts).ok() } else { None }
    }

    /// Writes an entry beside its place and then moves it there, so that nobody sees half of one.
    pub(super) fn put(&self, key: &Digest, facts: &FileFacts) {
        let Ok(facts) = serde_json::to_string(facts) else { return };
        let number = self.num_written.fetch_add(1, Ordering::Relaxed);
        let draft = self.folder.join(format!("{}-{number}.draft", std::process::id()));
        let entry = format!("{}\n{facts}", Digest::of_bytes(facts.as_bytes()));
        let written = fs::write(&draft, entry).and_then(|()| fs::rename(&draft, self.path(key)));
        if written.is_err() {
            let _ = fs::remove_file(&draft);
        }
    }

    /// Removes the oldest entries over the limit. Linear in the entries, and only done when some were written.
    pub(super) fn trim(&self) {
        if self.num_written.load(Ordering::Relaxed) == 0 {
            return;
        }
        let Ok(folder) = fs::read_dir(&self.folder) else { return };
        let mut entries: Vec<_> = folder
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let metadata = entry.metadata().ok().filter(fs::Metadata::is_file)?;
                Some((metadata.modified().ok()?, entry.path(), metadata.len()))
            })
            .filter(|(_, path, _)| is_ours(path))
            .collect();
        entries.sort();
        let mut size: u64 = entries.iter().map(|(_, _, len)| len).sum();
        for (_, path, len) in entries {
            if size <= self.bytes_max {
                break;
            }
            let _ = fs::remove_file(path);
            size -= len;
        }
    }

    fn path(&self, key: &Digest) -> PathBuf {
        self.folder.join(format!("{key}.facts"))
    }
}

/// The folder may be one that a person named, with other things in it.
fn is_ours(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "facts" || extension == "draft")
}

/// This very program: another build may read files differently.
fn extractor() -> Digest {
    let program = std::env::current_exe().and_then(fs::metadata);
    let built = program.ok().map(|program| {
        let changed = program.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        (program.len(), changed.map(|since| since.as_nanos().to_string()))
    });
    Digest::of_value(&(env!("CARGO_PKG_VERSION"), built))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clew;

    fn facts(name: &str) -> FileFacts {
        clew::read_file("interface A { a: string }\n", Language::Typescript, name).expect("TypeScript is read")
    }

    #[test]
    fn an_entry_comes_back_and_a_broken_one_is_written_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache::open(folder.path().join("a/b")).expect("the folder can be made");
        let key = cache.key("text", Language::Typescript, "a.ts");
        assert_eq!(cache.get(&key), None);
        cache.put(&key, &facts("a.ts"));
        assert_eq!(cache.get(&key), Some(facts("a.ts")));

        let whole = fs::read_to_string(cache.path(&key)).expect("an entry");
        for broken in [&whole[..whole.len() - 1], &whole.replace("Text", "Null"), "", "\n"] {
            fs::write(cache.path(&key), broken).expect("the entry can be written");
            assert_eq!(cache.get(&key), None);
        }
        fs::write(cache.path(&key), b"\xff\xfe").expect("the entry can be written");
        assert_eq!(cache.get(&key), None);
        cache.put(&key, &facts("a.ts"));
        assert_eq!(cache.get(&key), Some(facts("a.ts")));
    }

    #[test]
    fn everything_that_matters_is_in_the_key() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut cache = Cache::open(folder.path().to_owned()).expect("a folder");
        let mut keys = vec![
            cache.key("text", Language::Typescript, "a.ts"),
            cache.key("next", Language::Typescript, "a.ts"),
            cache.key("text", Language::Python, "a.ts"),
            cache.key("text", Language::Typescript, "a.tsx"),
        ];
        cache.extractor = Digest::of_bytes(b"another build");
        keys.push(cache.key("text", Language::Typescript, "a.ts"));
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), 5);
    }

    #[test]
    fn the_oldest_entries_go_first_and_only_ours() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut cache = Cache::open(folder.path().to_owned()).expect("a folder");
        fs::write(folder.path().join("notes.txt"), vec![b'x'; 10_000]).expect("a file");
        let keys: Vec<_> = (0..4).map(|idx| cache.key(&idx.to_string(), Language::Typescript, "a.ts")).collect();
        for (age, key) in keys.iter().enumerate() {
            cache.put(key, &facts("a.ts"));
            let time = UNIX_EPOCH + std::time::Duration::from_secs(1_000 * (age as u64 + 1));
            let entry = fs::File::options().write(true).open(cache.path(key)).expect("an entry");
            entry.set_modified(time).expect("a time");
        }
        let size = fs::metadata(cache.path(&keys[0])).expect("an entry").len();
        cache.bytes_max = 2 * size + 1;
        cache.trim();
        let kept: Vec<_> = keys.iter().map(|key| cache.get(key).is_some()).collect();
        assert_eq!(kept, [false, false, true, true]);
        assert!(folder.path().join("notes.txt").exists());
    }
}
