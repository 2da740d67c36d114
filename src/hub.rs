//! Weights by repository name, from a model hub that speaks Hugging Face's protocol.
//!
//! A fetch pins the commit that the revision names, brings the few files a model needs into the standard cache folder
//! and names the revision there only when all of them are complete: what `offline` finds is whole.
//! Broken downloads resume where they stopped. Sizes are checked against the hub's word; what the files contain is
//! for the model loader to judge.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use hf_hub::api::Progress;
use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, CacheRepo, Repo, RepoType};
use indicatif::{ProgressBar, ProgressDrawTarget};
use serde_json::Value;

/// How often a file is asked for when the connection breaks; each attempt goes on where the last one stopped.
const NUM_ATTEMPTS: usize = 5;
/// Files that a model needs if they exist.
const OPTIONAL_FILES: [&str; 2] = ["tokenizer_config.json", "generation_config.json"];
const CONFIG: &str = "config.json";
const TOKENIZER: &str = "tokenizer.json";
const WEIGHTS: &str = "model.safetensors";
const WEIGHTS_INDEX: &str = "model.safetensors.index.json";
const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// Where and how to fetch; the default is what the hub's own tools do.
#[derive(Clone, Debug, Default)]
pub struct HubOptions {
    /// Branch, tag or commit; default `main`.
    pub revision: Option<String>,
    /// The one weight file to take, where a repository holds several GGUF files.
    pub file: Option<String>,
    /// The cache folder; default `$HF_HUB_CACHE`, else `$HF_HOME/hub`, else `~/.cache/huggingface/hub`.
    pub cache_dir: Option<PathBuf>,
    /// Address of the hub; default `$HF_ENDPOINT`, else huggingface.co.
    pub endpoint: Option<String>,
    /// Open no connection: only the cache. `$HF_HUB_OFFLINE=1` does the same.
    pub offline: bool,
    /// Access token; default `$HF_TOKEN`, else the token file beside the cache.
    pub token: Option<String>,
}

/// Why a repository's files are not there.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// Not a repository name.
    #[error("`{repo}` is not a repository name; write OWNER/NAME, or a path that exists")]
    RepoName {
        /// What was given.
        repo: String,
    },
    /// Not a revision.
    #[error("`{revision}` is not a branch, tag or commit of {repo}")]
    Revision {
        /// The repository.
        repo: String,
        /// What was given.
        revision: String,
    },
    /// Not an address.
    #[error("the hub's address `{endpoint}` is not a http:// or https:// address")]
    Endpoint {
        /// What was given.
        endpoint: String,
    },
    /// No cache folder is named and there is no home folder.
    #[error("no folder for downloads: there is no home folder; set HF_HOME")]
    NoCacheFolder,
    /// The hub does not know the repository or revision (404).
    #[error("the hub has no repository {repo} with revision {revision} (404); check the name")]
    NotFound {
        /// The repository.
        repo: String,
        /// The revision.
        revision: String,
    },
    /// The hub wants a token, or a better one (401). It answers so, too, for names that do not exist.
    #[error("the hub wants a token for {repo} (401): it is private or does not exist; check the name or set HF_TOKEN")]
    Unauthorized {
        /// The repository.
        repo: String,
    },
    /// The token does not open the repository (403).
    #[error("access to {repo} is refused (403): accept its terms on the hub, or use a token that may read it")]
    Forbidden {
        /// The repository.
        repo: String,
    },
    /// The hub answered with another error status.
    #[error("the hub answered {status} for {file} of {repo}")]
    Status {
        /// The repository.
        repo: String,
        /// The file, or `the file list`.
        file: String,
        /// The HTTP status.
        status: u16,
    },
    /// A file that a model needs is not in the repository.
    #[error("{repo} has no {file}, which the model needs")]
    MissingFile {
        /// The repository.
        repo: String,
        /// The file.
        file: String,
    },
    /// The repository holds neither safetensors nor GGUF weights.
    #[error("{repo} has no weights that can be read: no {WEIGHTS}, no {WEIGHTS_INDEX}, no .gguf file")]
    NoWeights {
        /// The repository.
        repo: String,
    },
    /// The repository holds several GGUF files and none was named.
    #[error("{repo} has several weight files; name one of them: {}", files.join(", "))]
    SeveralWeights {
        /// The repository.
        repo: String,
        /// The candidates.
        files: Vec<String>,
    },
    /// An answer of the hub, or a file from it, does not make sense.
    #[error("{file} of {repo} cannot be used: {why}")]
    Malformed {
        /// The repository.
        repo: String,
        /// The file, or `the file list`.
        file: String,
        /// What is wrong.
        why: String,
    },
    /// A complete download has another size than the hub said.
    #[error("{file} of {repo} came with {actual} bytes instead of {expected}; it was removed, fetch it again")]
    Size {
        /// The repository.
        repo: String,
        /// The file.
        file: String,
        /// The hub's word.
        expected: u64,
        /// What came.
        actual: u64,
    },
    /// The connection failed, or the file could not be written.
    #[error("{file} of {repo} could not be fetched; run the command again and it goes on where it stopped")]
    Download {
        /// The repository.
        repo: String,
        /// The file, or `the file list`.
        file: String,
        /// The cause.
        #[source]
        source: Box<ApiError>,
    },
    /// The cache lacks something and no connection may be opened.
    #[error(
        "offline, and the cache {} lacks {missing} of {repo}, revision {revision}; \
         fetch it once without --offline, or copy the cache folder from a machine that has it",
        cache.display()
    )]
    Offline {
        /// The repository.
        repo: String,
        /// The revision.
        revision: String,
        /// The file, or what else is missing.
        missing: String,
        /// The cache folder searched.
        cache: PathBuf,
    },
    /// The cache folder cannot be read or written.
    #[error("cannot use {}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
}

/// Brings a model's files and returns the path to load it from: the snapshot folder, or the `.gguf` file in it.
///
/// Taken are `config.json`, `tokenizer.json`, `tokenizer_config.json`, `generation_config.json`, and the weights:
/// `model.safetensors`, or all shards of its index, or one `.gguf` file (which then needs no other file).
/// Files that the cache has are not fetched again. A progress bar goes to stderr if that is a terminal; otherwise the
/// log has a line per file. Blocks for as long as the download takes.
///
/// # Errors
/// A [`HubError`] that names the repository, the file and what to do.
pub fn fetch(repo: &str, options: &HubOptions) -> Result<PathBuf, HubError> {
    let options = options.clone().with_environment(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
    let place = Place::new(repo, &options)?;
    if options.offline { place.find_cached() } else { place.download(&options) }
}

impl HubOptions {
    /// Fills what is not given from the environment variables that the hub's own tools read.
    fn with_environment(self, variable: impl Fn(&str) -> Option<String>) -> Self {
        let home = || variable("HF_HOME").map(|home| Path::new(&home).join("hub"));
        let offline = || matches!(variable("HF_HUB_OFFLINE").as_deref(), Some("1" | "true" | "TRUE" | "yes" | "on"));
        Self {
            cache_dir: self.cache_dir.or_else(|| variable("HF_HUB_CACHE").map(PathBuf::from)).or_else(home),
            endpoint: self.endpoint.or_else(|| variable("HF_ENDPOINT")),
            token: self.token.or_else(|| variable("HF_TOKEN")),
            offline: self.offline || offline(),
            ..self
        }
    }
}

/// A revision of a repository, and the cache it lives in.
struct Place {
    repo: String,
    revision: String,
    file: Option<String>,
    cache: Cache,
}

impl Place {
    fn new(repo: &str, options: &HubOptions) -> Result<Self, HubError> {
        let revision = options.revision.clone().unwrap_or_else(|| "main".into());
        if repo.split('/').count() > 2 || !repo.split('/').all(is_plain_name) {
            return Err(HubError::RepoName { repo: repo.into() });
        }
        if !revision.split('/').all(is_plain_name) {
            return Err(HubError::Revision { repo: repo.into(), revision });
        }
        let cache_dir = match &options.cache_dir {
            Some(folder) => folder.clone(),
            None => std::env::home_dir().ok_or(HubError::NoCacheFolder)?.join(".cache/huggingface/hub"),
        };
        // The crate compares paths that must be absolute.
        let cache_dir =
            std::path::absolute(&cache_dir).map_err(|source| HubError::Io { path: cache_dir.clone(), source })?;
        Ok(Self { repo: repo.into(), revision, file: options.file.clone(), cache: Cache::new(cache_dir) })
    }

    fn at(&self, revision: &str) -> Repo {
        Repo::with_revision(self.repo.clone(), RepoType::Model, revision.into())
    }

    fn cached(&self, revision: &str) -> CacheRepo {
        self.cache.repo(self.at(revision))
    }

    fn find_cached(&self) -> Result<PathBuf, HubError> {
        let missing = |missing: String| HubError::Offline {
            repo: self.repo.clone(),
            revision: self.revision.clone(),
            missing,
            cache: self.cache.path().clone(),
        };
        let reference = self.cache.path().join(self.at("main").folder_name()).join("refs").join(&self.revision);
        let commit = std::fs::read_to_string(reference).unwrap_or_else(|_| self.revision.clone());
        let snapshot = self.cached(&commit).pointer_path(commit.trim());
        let Ok(entries) = std::fs::read_dir(&snapshot) else {
            return Err(missing("all files".into()));
        };
        let whole = entries.flatten().filter(|entry| entry.path().exists());
        let names: BTreeSet<String> = whole.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        let plan = self.plan(&names, |file| Ok(snapshot.join(file)));
        let plan = plan.map_err(|error| match error {
            HubError::MissingFile { file, .. } => missing(file),
            HubError::NoWeights { .. } => missing("the weights".into()),
            other => other,
        })?;
        Ok(plan.load_from(&snapshot))
    }

    fn download(&self, options: &HubOptions) -> Result<PathBuf, HubError> {
        let api = self.api(options)?;
        let info = guarded(|| api.repo(self.at(&self.revision)).info());
        let info = info.map_err(|cause| self.explain(cause, None))?;
        let commit = info.sha;
        if !is_plain_name(&commit) {
            return Err(self.malformed("the file list", format!("`{commit}` is no commit")));
        }
        let snapshot = Snapshot {
            place: self,
            folder: self.cached(&commit).pointer_path(&commit),
            remote: api.repo(self.at(&commit)),
            api,
            commit,
        };
        let names = info.siblings.into_iter().map(|sibling| sibling.rfilename).collect();
        let plan = self.plan(&names, |file| snapshot.bring(file))?;
        for file in &plan.files {
            snapshot.bring(file)?;
        }
        let reference = self.cached(&self.revision).create_ref(&snapshot.commit);
        reference.map_err(|source| HubError::Io { path: self.cache.path().clone(), source })?;
        Ok(plan.load_from(&snapshot.folder))
    }

    fn api(&self, options: &HubOptions) -> Result<Api, HubError> {
        let endpoint = options.endpoint.as_deref().unwrap_or(DEFAULT_ENDPOINT).trim_end_matches('/');
        let host = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"));
        if !host.is_some_and(|host| !host.is_empty() && host.chars().all(|c| c.is_ascii_graphic())) {
            return Err(HubError::Endpoint { endpoint: endpoint.into() });
        }
        let mut builder = ApiBuilder::from_cache(self.cache.clone())
            .with_endpoint(endpoint.into())
            .with_user_agent("ananke", env!("CARGO_PKG_VERSION"));
        if options.token.is_some() {
            builder = builder.with_token(options.token.clone());
        }
        guarded(|| builder.build()).map_err(|cause| self.explain(cause, None))
    }

    /// Which of the files named `names` to take. `bring` makes one of them readable.
    fn plan(
        &self,
        names: &BTreeSet<String>,
        bring: impl Fn(&str) -> Result<PathBuf, HubError>,
    ) -> Result<Plan, HubError> {
        let missing = |file: &str| HubError::MissingFile { repo: self.repo.clone(), file: file.into() };
        let require = |file: &str| if names.contains(file) { Ok(file.to_owned()) } else { Err(missing(file)) };
        let mut files: Vec<String> =
            OPTIONAL_FILES.iter().filter(|&&file| names.contains(file)).map(|&file| file.into()).collect();
        if let Some(gguf) = self.choose_gguf(names)? {
            require(&gguf)?;
            files.extend([CONFIG, TOKENIZER].into_iter().filter(|&file| names.contains(file)).map(String::from));
            files.push(gguf.clone());
            return Ok(Plan { files, gguf: Some(gguf) });
        }
        files.extend([require(CONFIG)?, require(TOKENIZER)?]);
        if names.contains(WEIGHTS) {
            files.push(WEIGHTS.into());
        } else {
            for shard in self.read_shards(&bring(WEIGHTS_INDEX)?)? {
                files.push(require(&shard)?);
            }
            files.push(WEIGHTS_INDEX.into());
        }
        Ok(Plan { files, gguf: None })
    }

    /// The GGUF file to take; none if the weights are safetensors.
    fn choose_gguf(&self, names: &BTreeSet<String>) -> Result<Option<String>, HubError> {
        if let Some(file) = &self.file {
            if !is_plain_name(file) || !file.ends_with(".gguf") {
                return Err(self.malformed(file, "only a .gguf file at the top of a repository can be named".into()));
            }
            return Ok(Some(file.clone()));
        }
        if names.contains(WEIGHTS) || names.contains(WEIGHTS_INDEX) {
            return Ok(None);
        }
        let files: Vec<_> = names.iter().filter(|name| is_plain_name(name) && name.ends_with(".gguf")).collect();
        match files[..] {
            [] => Err(HubError::NoWeights { repo: self.repo.clone() }),
            [file] => Ok(Some(file.clone())),
            _ => Err(HubError::SeveralWeights { repo: self.repo.clone(), files: files.into_iter().cloned().collect() }),
        }
    }

    /// The shards that the index at `path` names, once each.
    fn read_shards(&self, path: &Path) -> Result<BTreeSet<String>, HubError> {
        let bytes = std::fs::read(path).map_err(|source| HubError::Io { path: path.into(), source })?;
        let malformed = |why: String| self.malformed(WEIGHTS_INDEX, why);
        let index: Value = serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?;
        let map = index.get("weight_map").and_then(Value::as_object);
        let map = map.ok_or_else(|| malformed("it has no `weight_map`".into()))?;
        let shards = map.values().map(|shard| match shard.as_str() {
            Some(shard) if is_plain_name(shard) && shard.ends_with(".safetensors") => Ok(shard.to_owned()),
            _ => Err(malformed(format!("{shard} is not the name of a shard"))),
        });
        shards.collect()
    }

    fn malformed(&self, file: &str, why: String) -> HubError {
        HubError::Malformed { repo: self.repo.clone(), file: file.into(), why }
    }

    /// The crate's error in our words; `file` is none for the list of files.
    fn explain(&self, cause: Cause, file: Option<&str>) -> HubError {
        let repo = self.repo.clone();
        let name = file.unwrap_or("the file list").to_owned();
        let source = match cause {
            Cause::Panic => return self.malformed(&name, "the hub's answer is not one the client can read".into()),
            Cause::Error(source) => source,
        };
        match (status_of(&source), file) {
            (Some(401), _) => HubError::Unauthorized { repo },
            (Some(403), _) => HubError::Forbidden { repo },
            (Some(404), None) => HubError::NotFound { repo, revision: self.revision.clone() },
            (Some(404), Some(file)) => HubError::MissingFile { repo, file: file.into() },
            (Some(status), _) => HubError::Status { repo, file: name, status },
            (None, _) => HubError::Download { repo, file: name, source },
        }
    }
}

/// The files to take.
struct Plan {
    files: Vec<String>,
    gguf: Option<String>,
}

impl Plan {
    fn load_from(&self, snapshot: &Path) -> PathBuf {
        self.gguf.as_ref().map_or_else(|| snapshot.into(), |file| snapshot.join(file))
    }
}

/// One commit of a repository, on its way into the cache.
struct Snapshot<'a> {
    place: &'a Place,
    folder: PathBuf,
    remote: ApiRepo,
    api: Api,
    commit: String,
}

impl Snapshot<'_> {
    /// Fetches the file unless the cache has it, and checks its size.
    fn bring(&self, file: &str) -> Result<PathBuf, HubError> {
        let path = self.folder.join(file);
        if path.exists() {
            return Ok(path);
        }
        let metadata = guarded(|| self.api.metadata(&self.remote.url(file)));
        let metadata = metadata.map_err(|cause| self.place.explain(cause, Some(file)))?;
        if !is_plain_name(metadata.etag()) || metadata.commit_hash() != self.commit {
            let why = format!("the hub answers with tag {} at {}", metadata.etag(), metadata.commit_hash());
            return Err(self.place.malformed(file, why));
        }
        let blob = self.place.cached(&self.commit).blob_path(metadata.etag());
        self.download(file, &blob).map_err(|cause| self.place.explain(cause, Some(file)))?;
        self.check_size(file, &path, &blob, metadata.size() as u64)?;
        Ok(path)
    }

    /// Downloads with resumption, as often as [`NUM_ATTEMPTS`] while the connection breaks.
    fn download(&self, file: &str, blob: &Path) -> Result<(), Cause> {
        let mut attempt = 1;
        loop {
            let Err(cause) = guarded(|| self.remote.download_with_progress(file, Report::new(file))) else {
                return Ok(());
            };
            if attempt == NUM_ATTEMPTS || !cause.may_pass() {
                return Err(cause);
            }
            if cause.is_bad_resume() {
                // What an earlier attempt left is longer than the file, or already all of it.
                let _ = std::fs::remove_file(blob.with_extension("part"));
            }
            tracing::warn!(file, attempt, "the connection broke; going on");
            attempt += 1;
        }
    }

    fn check_size(&self, file: &str, path: &Path, blob: &Path, expected: u64) -> Result<(), HubError> {
        let metadata = std::fs::metadata(path).map_err(|source| HubError::Io { path: path.into(), source })?;
        let actual = metadata.len();
        if actual == expected {
            return Ok(());
        }
        let _ = std::fs::remove_file(path);
        let _ = std::fs::remove_file(blob);
        Err(HubError::Size { repo: self.place.repo.clone(), file: file.into(), expected, actual })
    }
}

/// Why a call into the hub's crate gave nothing.
enum Cause {
    Error(Box<ApiError>),
    Panic,
}

impl Cause {
    /// Whether another attempt may succeed.
    fn may_pass(&self) -> bool {
        match self {
            Self::Error(error) => {
                self.is_bad_resume()
                    || matches!(**error, ApiError::IoError(_))
                    || matches!(**error, ApiError::RequestError(_)) && status_of(error).is_none()
            }
            Self::Panic => false,
        }
    }

    fn is_bad_resume(&self) -> bool {
        let Self::Error(error) = self else { return false };
        matches!(**error, ApiError::InvalidResume) || status_of(error) == Some(416)
    }
}

/// Calls into the hub's crate, which unwraps some of what a server sends.
fn guarded<T>(call: impl FnOnce() -> Result<T, ApiError>) -> Result<T, Cause> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|error| Cause::Error(Box::new(error))),
        Err(_) => Err(Cause::Panic),
    }
}

fn status_of(error: &ApiError) -> Option<u16> {
    match error {
        ApiError::RequestError(request) => match **request {
            ureq::Error::StatusCode(status) => Some(status),
            _ => None,
        },
        ApiError::TooManyRetries(inner) => status_of(inner),
        _ => None,
    }
}

/// Whether a name from outside is one plain path component.
fn is_plain_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty() && name != "." && name != ".." && name.chars().all(is_plain)
}

/// Progress of one file: a bar on a terminal, else two lines in the log.
enum Report {
    Bar(ProgressBar),
    Log { file: String, begun: bool },
}

impl Report {
    fn new(file: &str) -> Self {
        if std::io::stderr().is_terminal() {
            Self::Bar(ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()))
        } else {
            Self::Log { file: file.into(), begun: false }
        }
    }
}

impl Progress for Report {
    fn init(&mut self, size: usize, filename: &str) {
        match self {
            Self::Bar(bar) => Progress::init(bar, size, filename),
            // The crate announces a file twice: once as a whole, once per request.
            Self::Log { file, begun } if !*begun => {
                *begun = true;
                tracing::info!(file, size_bytes = size, "downloading");
            }
            Self::Log { .. } => {}
        }
    }

    fn update(&mut self, size: usize) {
        if let Self::Bar(bar) = self {
            Progress::update(bar, size);
        }
    }

    fn finish(&mut self) {
        match self {
            Self::Bar(bar) => Progress::finish(bar),
            Self::Log { file, .. } => tracing::info!(file, "downloaded"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_fills_what_is_not_given() {
        let variables = |name: &str| {
            let value = match name {
                "HF_HOME" => "/hf",
                "HF_ENDPOINT" => "https://mirror",
                "HF_TOKEN" => "secret",
                "HF_HUB_OFFLINE" => "1",
                _ => return None,
            };
            Some(value.to_owned())
        };
        let options = HubOptions::default().with_environment(variables);
        assert_eq!(options.cache_dir, Some("/hf/hub".into()));
        assert_eq!(options.endpoint.as_deref(), Some("https://mirror"));
        assert_eq!(options.token.as_deref(), Some("secret"));
        assert!(options.offline);

        let given =
            HubOptions { cache_dir: Some("/c".into()), endpoint: Some("http://e".into()), ..Default::default() };
        let options = given.with_environment(variables);
        assert_eq!(options.cache_dir, Some("/c".into()));
        assert_eq!(options.endpoint.as_deref(), Some("http://e"));
        let options = HubOptions::default().with_environment(|name| (name == "HF_HUB_CACHE").then(|| "/hub".into()));
        assert_eq!(options.cache_dir, Some("/hub".into()));
        assert!(!options.offline);
    }

    #[test]
    fn names_that_could_leave_the_cache_are_refused() {
        for repo in ["", "a/b/c", "../x", "a/..", "/a", "a b", "a\\b", "a/"] {
            let error = fetch(repo, &HubOptions { cache_dir: Some("/nowhere".into()), ..Default::default() });
            assert!(matches!(error, Err(HubError::RepoName { .. })), "{repo:?}");
        }
        let options =
            HubOptions { cache_dir: Some("/nowhere".into()), revision: Some("../main".into()), ..Default::default() };
        assert!(matches!(fetch("a/b", &options), Err(HubError::Revision { .. })));
    }

    #[test]
    fn an_address_must_be_one() {
        for endpoint in ["huggingface.co", "ftp://hub", "http://", "http://a b"] {
            let options = HubOptions {
                cache_dir: Some("/nowhere".into()),
                endpoint: Some(endpoint.into()),
                ..Default::default()
            };
            assert!(matches!(fetch("a/b", &options), Err(HubError::Endpoint { .. })), "{endpoint}");
        }
    }
}
