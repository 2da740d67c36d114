//! Which weights a model has: BLAKE3 of their files, read beside the loading.
//!
//! A thread of its own reads the files once, while the model is being loaded from the same pages, so a start does not
//! wait for it. Until it is done the digest is not known, which is what provenance then says.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use tokio::sync::watch;

use super::{Error, Maze};
use crate::constraint::Digest;
use crate::model::{ModelFiles, Quantization};

/// The digest of a model's weights, as soon as it is known.
#[derive(Clone, Debug)]
pub(super) struct WeightsDigest(watch::Receiver<Option<Digest>>);

impl WeightsDigest {
    /// Of weights in memory, and of what they are rounded to.
    pub(super) fn of_bytes(bytes: &'static [u8], quantize: Option<Quantization>) -> Self {
        Self::start(move || Ok(rounded(Digest::of_bytes(bytes), quantize)))
    }

    /// Of the weights of the model at `path`: one file's own digest, as `b3sum` prints it, or, of several, the digest of
    /// their digests in the order of their names. Rounded weights are others: theirs is the digest of this one and of the
    /// name of what they are rounded to.
    ///
    /// # Errors
    /// When there is no model.
    pub(super) fn of_model(path: &Path, quantize: Option<Quantization>) -> Result<Self, Error> {
        let files = match ModelFiles::locate(path)? {
            ModelFiles::Gguf(file) => vec![file],
            ModelFiles::Safetensors { weights, .. } => weights,
        };
        Ok(Self::start(move || of_files(&files).map(|digest| rounded(digest, quantize))))
    }

    fn start(read: impl FnOnce() -> io::Result<Digest> + Send + 'static) -> Self {
        let (sender, receiver) = watch::channel(None);
        let work = move || match read() {
            Ok(digest) => {
                sender.send_replace(Some(digest));
            }
            Err(error) => tracing::error!(%error, "the weights could not be read again, so their digest is not known"),
        };
        if let Err(error) = std::thread::Builder::new().name("weights-digest".into()).spawn(work) {
            tracing::error!(%error, "a thread could not be started, so the digest of the weights is not known");
        }
        Self(receiver)
    }

    fn now(&self) -> Option<Digest> {
        *self.0.borrow()
    }
}

fn rounded(digest: Digest, quantize: Option<Quantization>) -> Digest {
    match quantize {
        Some(quantization) => Digest::of_digests([&digest, &Digest::of_bytes(quantization.as_str().as_bytes())]),
        None => digest,
    }
}

fn of_files(files: &[PathBuf]) -> io::Result<Digest> {
    let digests = files.iter().map(|path| of_file(path)).collect::<io::Result<Vec<_>>>()?;
    Ok(match &digests[..] {
        [one] => *one,
        several => Digest::of_digests(several),
    })
}

fn of_file(path: &Path) -> io::Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path)?)?;
    Ok(Digest::from_bytes(*hasher.finalize().as_bytes()))
}

impl Maze {
    /// BLAKE3 of the model's weights; `None` while they are being read for it, and for a model that has no files.
    #[must_use]
    pub fn weights_digest(&self) -> Option<Digest> {
        self.inner.weights.get().and_then(WeightsDigest::now)
    }

    /// [`Self::weights_digest`], once it is known; `None` only where it never will be.
    pub async fn weights_digest_when_known(&self) -> Option<Digest> {
        let mut known = self.inner.weights.get()?.0.clone();
        // The thread that cannot say drops its sender, which ends the wait.
        let digest = known.wait_for(Option::is_some).await.ok()?;
        *digest
    }

    /// Names the digest that [`Self::weights_digest`] gives; the first one counts.
    pub(super) fn with_weights(self, weights: WeightsDigest) -> Self {
        let _ = self.inner.weights.set(weights);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_its_own_digest_and_several_have_one_of_theirs() {
        let folder = tempfile::tempdir().expect("a folder");
        let paths = ["a", "b"].map(|name| folder.path().join(name));
        std::fs::write(&paths[0], b"one").expect("it can be written");
        std::fs::write(&paths[1], b"two").expect("it can be written");
        let (one, two) = (Digest::of_bytes(b"one"), Digest::of_bytes(b"two"));
        assert_eq!(of_files(&paths[..1]).expect("readable"), one);
        assert_eq!(of_files(&paths).expect("readable"), Digest::of_digests([&one, &two]));
        assert!(of_files(&[folder.path().join("c")]).is_err());
    }

    #[test]
    fn rounded_weights_are_other_weights() {
        let digest = Digest::of_bytes(b"weights");
        let digests = [None, Some(Quantization::Q8_0), Some(Quantization::Q4K)].map(|how| rounded(digest, how));
        assert_eq!(digests[0], digest);
        assert!(digests[1] != digest && digests[2] != digest && digests[1] != digests[2]);
    }
}
