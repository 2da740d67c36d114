use std::ops::Deref;
use std::path::{Path, PathBuf};

use super::ModelError;

/// A file's bytes, paged in as they are read.
pub(crate) struct MappedFile {
    path: PathBuf,
    map: memmap2::Mmap,
}

impl MappedFile {
    /// Maps the file at `path`.
    ///
    /// # Errors
    /// [`ModelError::Read`]; [`ModelError::Damaged`] when it is empty.
    pub(crate) fn open(path: &Path) -> Result<Self, ModelError> {
        let failed = |source| ModelError::Read { path: path.into(), source };
        let file = std::fs::File::open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.len() == 0 {
            return Err(ModelError::Damaged { file: path.display().to_string(), detail: "it is empty".into() });
        }
        // SAFETY: the map is private and read-only, and lives only while a model is loaded; a weights file that
        // another process shortens in that time is outside what a loader can defend against.
        #[allow(unsafe_code)]
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(failed)?;
        Ok(Self { path: path.into(), map })
    }

    /// The path, for messages.
    pub(crate) fn name(&self) -> String {
        self.path.display().to_string()
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}
