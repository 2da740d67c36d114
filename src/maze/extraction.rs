//! Sources to a constraint set within a time, and sets to IRs with what became of each constraint: what `ananke extract`
//! and `ananke compile` do, for requests.

use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde::Serialize;

use super::{Error, Maze, Resolution, Strategy, beside, satisfiability};
use crate::braid::{self, CompileOptions, Explanation, Joint};
use crate::clew::{self, ClewError, FileFacts, Manifest, SOURCE_BYTES_MAX};
use crate::constraint::{ConstraintIr, ConstraintSet, Language};
use crate::guide::GuideError;

/// How long the sources of one request, or one file of a folder, may take. Clew counts its own effort and stops long
/// before; this is the net below it.
pub const EXTRACTION_TIME_MAX: Duration = Duration::from_secs(10);
/// Stack of a thread that reads sources.
const STACK_BYTES: usize = 8 << 20;

/// Why work was not waited for to its end.
#[derive(Debug, thiserror::Error)]
pub enum Interrupted {
    /// It took too long.
    #[error("took more than {} s; it is not read", limit.as_secs_f64())]
    TooSlow {
        /// How long it had.
        limit: Duration,
    },
    /// It panicked.
    #[error("the reader failed; please report this file")]
    Panicked,
    /// Its thread could not be started.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// What `work` gives, if it is done in time.
///
/// Work cannot be stopped from outside: what is too slow goes on in its thread until Clew's own bounds end it, and
/// nobody waits for it any more.
///
/// # Errors
/// [`Interrupted`].
pub fn within<T: Send + 'static>(limit: Duration, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Interrupted> {
    let (done, result) = mpsc::channel();
    thread::Builder::new().stack_size(STACK_BYTES).spawn(move || {
        let _ = done.send(work()); // fails when nobody waits any more
    })?;
    result.recv_timeout(limit).map_err(|error| match error {
        mpsc::RecvTimeoutError::Timeout => Interrupted::TooSlow { limit },
        mpsc::RecvTimeoutError::Disconnected => Interrupted::Panicked,
    })
}

/// A source file or manifest as a request brings it.
#[derive(Clone, Debug)]
pub struct SourceText {
    /// What origins call it; its name says whether it is a manifest, and its extension may name a dialect.
    pub file: String,
    /// Its language; `None` where the extension says it.
    pub language: Option<Language>,
    /// The text.
    pub source: String,
}

/// What is to be compiled, and how.
#[derive(Clone, Debug, Default)]
pub struct CompileRequest {
    /// The constraints.
    pub set: ConstraintSet,
    /// The mined type that the output is a value of.
    pub root_type: Option<String>,
    /// Security patterns that bind beside the set, as `ananke compile --security` takes them.
    pub security: Option<String>,
    /// What becomes of conflicts among rules that nobody stated as hard.
    pub strategy: Strategy,
    /// Suggestions how to settle conflicts.
    pub resolutions: Vec<Resolution>,
    /// Whose account pays.
    pub client: Option<super::Client>,
}

/// What a set was compiled to.
#[derive(Clone, Debug, Serialize)]
pub struct CompiledSet {
    /// The IR, sealed with its digest.
    pub ir: ConstraintIr,
    /// Whether a complete output is known to exist: `satisfiable`, or `unknown`.
    pub satisfiability: &'static str,
    /// Tokens of the shortest complete output that was found, the end token not counted.
    pub min_tokens: Option<u32>,
    /// What each constraint became, and why.
    pub explanation: Explanation,
}

/// What a file is read as.
enum What {
    Source(Language),
    Manifest(String),
}

impl Maze {
    /// The constraints of all files together, at most `num_constraints_max`; `held` is dropped once the reading has
    /// really ended, which may be after this has returned.
    ///
    /// # Errors
    /// [`ClewError::TooLarge`] where they have more than 10 MiB together, [`Error::UnknownLanguage`], a manifest that is
    /// not one, or [`Error::ExtractionTimeout`].
    pub async fn extract<H: Send + 'static>(files: Vec<SourceText>, held: H) -> Result<ConstraintSet, Error> {
        let size = files.iter().map(|file| file.source.len()).sum();
        if size > SOURCE_BYTES_MAX {
            return Err(ClewError::TooLarge { size, limit: SOURCE_BYTES_MAX }.into());
        }
        let whats = files.iter().map(SourceText::what).collect::<Result<Vec<_>, _>>()?;
        let work = move || {
            let set = read(&files, &whats);
            drop(held);
            set
        };
        beside(move || within(EXTRACTION_TIME_MAX, work)?).await
    }

    /// Compiles a set, judged as a whole by the guide, and says what became of each constraint; `held` is dropped when the
    /// work has ended.
    ///
    /// # Errors
    /// What Braid or the guide refuses, no output that satisfies it, or no time left to compile.
    pub async fn compile<H: Send + 'static>(&self, request: CompileRequest, held: H) -> Result<CompiledSet, Error> {
        let maze = self.clone();
        beside(move || {
            let _held = held;
            maze.compile_beside(request)
        })
        .await
    }

    fn compile_beside(&self, request: CompileRequest) -> Result<CompiledSet, Error> {
        let CompileRequest { mut set, root_type, security, strategy, resolutions, client } = request;
        if let Some(patterns) = &security {
            braid::security::profile(patterns)?.into_iter().for_each(|constraint| set.push(constraint));
        }
        let options = CompileOptions { root_type, strategy, resolutions };
        let pool = &self.inner.constraints;
        let compiled = pool.compile_set(&set, &options, client.as_ref())?;
        if let Joint::Empty { parts } = &compiled.joint {
            return Err(GuideError::Unsatisfiable { parts: parts.clone() }.into());
        }
        let lookup = pool.look_up(&vec![compiled.ir.clone()].into(), client.as_ref())?;
        let ready = tokio::runtime::Handle::current().block_on(pool.wait(lookup))?;
        Ok(CompiledSet {
            satisfiability: satisfiability(&ready),
            min_tokens: ready.min_tokens(),
            explanation: braid::explain(&set, &compiled),
            ir: compiled.ir,
        })
    }
}

impl SourceText {
    fn what(&self) -> Result<What, Error> {
        let path = Path::new(&self.file);
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        match self.language.or_else(|| clew::language_of(path)) {
            Some(language) => Ok(What::Source(language)),
            None if clew::is_manifest(&name) => Ok(What::Manifest(name)),
            None => Err(Error::UnknownLanguage { file: self.file.clone() }),
        }
    }
}

fn read(files: &[SourceText], whats: &[What]) -> Result<ConstraintSet, Error> {
    let (mut sources, mut manifests): (Vec<FileFacts>, Vec<Manifest>) = (Vec::new(), Vec::new());
    for (SourceText { file, source, .. }, what) in files.iter().zip(whats) {
        match what {
            What::Source(language) => sources.push(clew::read_file(source, *language, file)?),
            What::Manifest(name) => manifests.push(clew::read_manifest(source, name, file)?),
        }
    }
    let mut set = clew::combine_at_most(&sources, &manifests, clew::CONSTRAINTS_MAX);
    set.name = files.iter().map(|file| file.file.as_str()).collect::<Vec<_>>().join(", ");
    Ok(set)
}

impl From<Interrupted> for Error {
    fn from(why: Interrupted) -> Self {
        match why {
            Interrupted::TooSlow { limit } => Self::ExtractionTimeout { limit_ms: limit.as_millis() as u64 },
            Interrupted::Panicked | Interrupted::Io(_) => Self::Internal { message: why.to_string() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_and_failing_work_is_reported() {
        assert_eq!(within(EXTRACTION_TIME_MAX, || 1).expect("in time"), 1);
        let (hold, held) = mpsc::channel::<()>();
        let slow = within(Duration::ZERO, move || held.recv());
        assert!(matches!(slow, Err(Interrupted::TooSlow { limit: Duration::ZERO })));
        drop(hold);
        let failed = within(EXTRACTION_TIME_MAX, || panic!("planted"));
        assert!(matches!(failed, Err::<(), _>(Interrupted::Panicked)));
    }
}
