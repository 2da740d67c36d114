//! One request, from text to text: validate, tokenize, extract, compile, submit, detokenize, verify, record.
//!
//! The maze is the only layer that sees both text and tokens, and both a request and what became of it.
//! It knows no wire format: `server` and the command line turn their own shapes into a [`GenerateRequest`].

mod backend;
mod binding;
mod compile_pool;
mod config;
mod constraint_cache;
mod error;
mod extraction;
mod generation;
mod healing;
mod hole;
mod judge;
mod judging;
mod kept;
mod metrics;
mod open;
mod probe;
mod provenance;
mod record;
mod remote;
mod request;
mod rules;
mod splitter;
mod tokens;
mod weights;

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use serde::Serialize;

pub use binding::{BindingFault, BindingFields, Bindings};
pub use compile_pool::ConstraintStats;
pub use config::MazeConfig;
pub use error::{Error, ErrorClass};
pub use extraction::{CompileRequest, CompiledSet, EXTRACTION_TIME_MAX, Interrupted, SourceText, within};
pub use generation::{
    Alternative, Completed, Delta, Finish, FinishReason, FirstToken, Generation, PromptTokens, TokenInfo,
};
pub use hole::{CodeContext, FimRecord};
pub use judge::{Judge, JudgeConfig, Judged, Refusal, Walk};
pub use judging::JudgeRequest;
pub use open::{EmbeddedModel, ModelSource, OpenOptions, open, open_embedded_tokenizer, open_tokenizer};
pub use probe::{ProbeConfig, serve_probe};
pub use provenance::{ChoiceStats, Provenance, Validation};
pub use record::{ChoiceRecord, PromptRecord, RequestRecord};
pub use remote::{RemoteRecord, RemoteStats};
pub use request::*;
pub use rules::{Profile, RuleSet};

use crate::cache::Tiers;
use crate::engine::{EngineHandle, SequenceRequest, StatsSnapshot};
use crate::guide::{CompiledConstraint, Guide};
use crate::model::QuantizationReport;
use crate::text::{StopStrings, Tokenizer};
use backend::{Backend, ChoiceStream};
use compile_pool::{CompilePool, Lookup};
use generation::Admitted;
use hole::{Admitting, OpenHole};
use metrics::Metrics;
use provenance::satisfiability;
use weights::WeightsDigest;

/// The service: one loaded model, its tokenizer, its guide and its engine. Cheap to clone.
#[derive(Clone)]
pub struct Maze {
    inner: Arc<Inner>,
}

struct Inner {
    backend: Backend,
    tokenizer: Tokenizer,
    card: ModelCard,
    config: MazeConfig,
    constraints: CompilePool,
    metrics: Metrics,
    /// Unset for a model that has no files.
    weights: OnceLock<WeightsDigest>,
    /// Made when the first text is to be judged.
    judge: OnceLock<Judge>,
    started: Instant,
}

/// What is known of the loaded model.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelCard {
    /// The name clients use.
    pub id: String,
    /// The architecture as the checkpoint spells it.
    pub architecture: String,
    /// Positions a sequence may have: the model's own, or fewer where the server was told so. 0 where it is not known, as
    /// of a remote model.
    pub context_len: usize,
    /// Numbers in the weights.
    pub num_parameters: u64,
    /// Bytes of the weights in memory.
    pub weight_bytes: usize,
    /// What rounding the weights on load changed, where that was asked for.
    pub quantization: Option<QuantizationReport>,
    /// Rows of the logits.
    pub vocab_len: usize,
    /// Identity of the vocabulary that masks and token ids refer to.
    pub tokenizer_digest: Digest,
    /// When the model was loaded, in seconds since 1970.
    pub created: u64,
    /// Whether it is the model compiled into the binary.
    pub embedded: bool,
    /// Whether it brought a chat template.
    pub has_chat_template: bool,
}

/// How the service is doing.
#[derive(Clone, Debug, Serialize)]
pub struct Health {
    /// `ok`, or `stopped` after the engine thread has ended.
    pub status: &'static str,
    /// The loaded model.
    pub model: String,
    /// Seconds since the start.
    pub uptime_s: u64,
    /// The engine's counters; all 0 before a remote model.
    #[serde(flatten)]
    pub engine: StatsSnapshot,
    /// How constraints were come by.
    pub constraints: ConstraintStats,
}

/// Whether the next request would find a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// `ready`, `overloaded` while the queue is full, `stopped` after the engine thread has ended, or `left_alone` while
    /// a remote server that keeps failing is not asked.
    pub status: &'static str,
    /// Sequences that wait to be scheduled for the first time; answers of a remote model that are under way.
    pub queued: usize,
    /// How many may.
    pub queue_len_max: usize,
}

impl Readiness {
    /// Whether a request would be admitted now.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.status == "ready"
    }
}

impl ModelCard {
    /// What `architecture` says of a model behind an address.
    pub(crate) const REMOTE: &'static str = "remote";

    /// Whether the model is behind an address.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.architecture == Self::REMOTE
    }
}

impl Maze {
    /// Puts the pieces together; [`open`] is the usual way to get them.
    #[must_use]
    pub fn new(engine: EngineHandle, guide: Guide, tokenizer: Tokenizer, card: ModelCard, config: MazeConfig) -> Self {
        Self::over(Backend::Local(engine), guide, tokenizer, card, config)
    }

    fn over(backend: Backend, guide: Guide, tokenizer: Tokenizer, card: ModelCard, config: MazeConfig) -> Self {
        let constraints = CompilePool::start(Arc::new(guide), &config);
        let started = Instant::now();
        let metrics = Metrics::default();
        let (weights, judge) = (OnceLock::new(), OnceLock::new());
        Self {
            inner: Arc::new(Inner { backend, tokenizer, card, config, constraints, metrics, weights, judge, started }),
        }
    }

    /// Keeps extraction results, IRs and verdicts in `tiers` as well, where other servers and this one's next start find
    /// them.
    #[must_use]
    pub fn with_tiers(self, tiers: Tiers) -> Self {
        self.inner.constraints.kept().keep_in(tiers);
        self
    }

    /// Admits a request: everything about it is checked and compiled before the engine sees it.
    ///
    /// # Errors
    /// Whatever is wrong with the request, or [`Error::Engine`] when there is no room for it now.
    pub async fn generate(&self, request: GenerateRequest) -> Result<Generation, Error> {
        let arrived = Instant::now();
        self.inner.config.check(&request)?;
        let maze = self.clone();
        let read = beside(move || maze.read(request)).await?;
        let Read { request, prompt, stop, lookup } = read;
        let named = |error| rules::name_parts(error, &request);
        let compiled = self.inner.constraints.wait(lookup).await.map_err(named)?;
        let (constraints, client) = (request.constraints.clone(), request.client.clone());
        let admitting = Admitting { constraints, client, prompt, compiled, first: None };
        let admitting = self.settle_context(admitting).await.map_err(named)?;
        let maze = self.clone();
        let prepared = beside(move || maze.prepare(request, admitting, stop)).await?;
        self.submit(prepared, arrived)
    }

    /// The loaded model.
    #[must_use]
    pub fn model(&self) -> &ModelCard {
        &self.inner.card
    }

    /// The tokenizer of the loaded model.
    #[must_use]
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.inner.tokenizer
    }

    /// The bounds on requests.
    #[must_use]
    pub fn config(&self) -> &MazeConfig {
        &self.inner.config
    }

    /// How the service is doing.
    #[must_use]
    pub fn health(&self) -> Health {
        let (status, engine) = match &self.inner.backend {
            Backend::Local(engine) if engine.stats().has_stopped() => ("stopped", engine.stats().snapshot()),
            Backend::Local(engine) => ("ok", engine.stats().snapshot()),
            Backend::Remote(_) => ("ok", StatsSnapshot::default()),
        };
        Health {
            status,
            model: self.inner.card.id.clone(),
            uptime_s: self.inner.started.elapsed().as_secs(),
            engine,
            constraints: self.inner.constraints.stats(),
        }
    }

    /// Whether the next request would find a place. A model that is not loaded yet has no maze to ask.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let (down, queued, queue_len_max) = match &self.inner.backend {
            Backend::Local(engine) => {
                let down = engine.stats().has_stopped().then_some("stopped");
                (down, engine.num_queued(), engine.config().queue_len_max)
            }
            Backend::Remote(remote) => {
                let now = remote.stats();
                let down = now.is_left_alone.then_some("left_alone");
                (down, now.num_answers as usize, remote.config().num_answers_max as usize)
            }
        };
        let full = (queued >= queue_len_max).then_some("overloaded");
        Readiness { status: down.or(full).unwrap_or("ready"), queued, queue_len_max }
    }

    /// Everything before the compile.
    fn read(&self, mut request: GenerateRequest) -> Result<Read, Error> {
        let prompt = self.tokenize(&request)?;
        let stop = StopStrings::new(request.stop.clone())?;
        let rules = self.compile_rules(&request)?;
        let profiles = request.profiles.iter().map(|profile| profile.ir.clone());
        request.constraints.extend(rules.into_iter().chain(profiles));
        if let Backend::Remote(_) = &self.inner.backend {
            remote::check(&request)?;
        }
        if prompt.hole.is_some() {
            hole::bind_document(&mut request.constraints)?;
        }
        let mut irs = request.constraints.clone();
        if let Some(healed) = &prompt.healed {
            irs.extend(healing::bind(healed, !irs.is_empty())?);
        }
        let lookup = self.inner.constraints.look_up(&irs.into(), request.client.as_ref());
        let lookup = lookup.map_err(|error| rules::name_parts(error, &request))?;
        Ok(Read { request, prompt, stop, lookup })
    }

    /// Everything after the compile: one matcher for each choice.
    fn prepare(
        &self,
        mut request: GenerateRequest,
        mut admitting: Admitting,
        stop: StopStrings,
    ) -> Result<Prepared, Error> {
        let seed = request.seed.unwrap_or_else(random_seed);
        let (max_tokens, work) = match &self.inner.backend {
            Backend::Local(_) => {
                self.inner.config.check_prompt_logprobs(&request, admitting.prompt.ids.len())?;
                let by_constraint = admitting.compiled.max_tokens();
                let max_tokens = self.budget(admitting.prompt.ids.len(), request.max_tokens, by_constraint)?;
                (max_tokens, Work::Local(self.sequences(&request, &mut admitting, max_tokens, seed)?))
            }
            Backend::Remote(backend) => {
                let max_tokens = request.max_tokens.unwrap_or(self.inner.config.max_tokens_default);
                let Admitting { prompt, compiled, .. } = &admitting;
                let jobs = remote::prepare(backend, &request, prompt, compiled, (max_tokens, seed))?;
                (max_tokens, Work::Remote(jobs))
            }
        };
        let Admitting { constraints, prompt, compiled, .. } = admitting;
        request.constraints = constraints;
        Ok(Prepared { request, prompt, stop, compiled, max_tokens, seed, work })
    }

    /// The choices as the engine takes them.
    fn sequences(
        &self,
        request: &GenerateRequest,
        admitting: &mut Admitting,
        max_tokens: u32,
        seed: u64,
    ) -> Result<Vec<SequenceRequest>, Error> {
        (0..request.num_choices)
            .map(|choice| {
                Ok(SequenceRequest {
                    prompt: admitting.prompt.ids.clone(),
                    max_tokens,
                    sampling: request.sampling.clone(),
                    seed,
                    choice,
                    num_logprobs: request.num_logprobs,
                    // The prompt is the same for all, and so is what the first is told of it.
                    num_prompt_logprobs: request.num_prompt_logprobs.filter(|_| choice == 0),
                    forced_tokens: !request.sample_forced_tokens && request.num_logprobs.is_none(),
                    matcher: admitting.matcher()?,
                    salt: request.client.as_ref().and_then(|client| client.salt),
                    tenant: request.client.as_ref().and_then(|client| client.tenant.clone()),
                })
            })
            .collect()
    }

    fn submit(&self, prepared: Prepared, arrived: Instant) -> Result<Generation, Error> {
        let Prepared { request, prompt, stop, compiled, max_tokens, seed, work } = prepared;
        let awaits_prompt = request.num_prompt_logprobs.is_some();
        let mut provenance = Provenance::new(self, &request, &compiled, max_tokens, seed);
        provenance.healed_bytes = prompt.healed.as_ref().map(String::len);
        provenance.fim = prompt.hole.as_ref().map(|hole| hole.record.clone());
        let streams = match (work, &self.inner.backend) {
            (Work::Local(sequences), Backend::Local(engine)) => {
                engine.submit(sequences)?.into_iter().map(ChoiceStream::Local).collect()
            }
            (Work::Remote(jobs), _) => {
                provenance.remote = Some(jobs.record());
                // In bytes, which say nothing of the remote model's tokens.
                provenance.min_tokens = None;
                jobs.start()
            }
            (Work::Local(_), Backend::Remote(_)) => {
                return Err(Error::Internal { message: "sequences were made for a remote model".into() });
            }
        };
        let constraints = request.constraints.into();
        let admitted = Admitted { constraints, prompt, awaits_prompt, stop, compiled, provenance, arrived };
        Ok(Generation::new(self.clone(), admitted, streams))
    }

    fn tokenize(&self, request: &GenerateRequest) -> Result<TokenizedPrompt, Error> {
        if let Backend::Remote(_) = &self.inner.backend {
            return remote::read_prompt(self, &request.prompt);
        }
        let tokenizer = &self.inner.tokenizer;
        match &request.prompt {
            Prompt::Text(text) => {
                self.check_prompt_bytes(text.len())?;
                let ids = tokenizer.encode(text, tokenizer.adds_bos())?;
                Ok(TokenizedPrompt { ids, text: text.clone(), ..TokenizedPrompt::default() })
            }
            Prompt::Tokens(ids) => {
                self.check_prompt_bytes(ids.len())?;
                self.check_prompt_ids(ids)?;
                let text = String::from_utf8_lossy(&tokenizer.decode(ids)).into_owned();
                Ok(TokenizedPrompt { ids: ids.clone(), text, ..TokenizedPrompt::default() })
            }
            Prompt::Chat(messages) => {
                self.check_prompt_bytes(messages.iter().map(|message| message.content.len()).sum())?;
                let ids = tokenizer.encode_chat(messages, true)?;
                let text = String::from_utf8_lossy(&tokenizer.decode(&ids)).into_owned();
                Ok(TokenizedPrompt { ids, text, ..TokenizedPrompt::default() })
            }
            Prompt::Unfinished(text) => {
                self.check_prompt_bytes(text.len())?;
                let mut ids = tokenizer.encode(text, tokenizer.adds_bos())?;
                let healed = healing::take_open_end(&mut ids, text, tokenizer);
                Ok(TokenizedPrompt { ids, text: text.clone(), healed: Some(healed), ..TokenizedPrompt::default() })
            }
            Prompt::Hole(hole) => {
                self.check_prompt_bytes(hole.prefix.len() + hole.suffix.len())?;
                self.tokenize_hole(hole, request.max_tokens)
            }
        }
    }

    /// Ids from a client: known, and no control id but the leading BOS.
    fn check_prompt_ids(&self, ids: &[u32]) -> Result<(), Error> {
        let vocabulary = self.inner.tokenizer.vocabulary();
        for (position, &id) in ids.iter().enumerate() {
            let is_bos = position == 0 && self.inner.tokenizer.bos() == Some(id);
            if id as usize >= vocabulary.num_tokens() || (vocabulary.is_control(id) && !is_bos) {
                return Err(Error::PromptToken { position, id });
            }
        }
        Ok(())
    }

    /// How many tokens a sequence may sample.
    fn budget(&self, prompt_len: usize, asked: Option<u32>, by_constraint: Option<u32>) -> Result<u32, Error> {
        let window = self.window();
        let room = window.checked_sub(prompt_len).filter(|&room| asked.unwrap_or(1) as usize <= room);
        let Some(room) = room else {
            return Err(Error::ContextLength { prompt_len, max_tokens: asked, limit: window });
        };
        let wanted = asked.unwrap_or(self.inner.config.max_tokens_default).min(by_constraint.unwrap_or(u32::MAX));
        Ok(wanted.min(room as u32))
    }
}

/// A request whose constraint may still be compiling.
struct Read {
    request: GenerateRequest,
    prompt: TokenizedPrompt,
    stop: StopStrings,
    lookup: Lookup,
}

/// A request with nothing left to go wrong but the engine.
struct Prepared {
    request: GenerateRequest,
    prompt: TokenizedPrompt,
    stop: StopStrings,
    compiled: Arc<CompiledConstraint>,
    max_tokens: u32,
    seed: u64,
    work: Work,
}

/// The choices of a request, as whoever makes them takes them.
enum Work {
    Local(Vec<SequenceRequest>),
    Remote(remote::Jobs),
}

/// A prompt as the model reads it.
#[derive(Default)]
struct TokenizedPrompt {
    ids: Vec<u32>,
    /// What stands before the output in the document.
    text: String,
    /// What stands around it, where it fills a hole.
    hole: Option<OpenHole>,
    /// What was taken off the end of the prompt, where that may be inside a token; the output begins with it.
    healed: Option<String>,
}

/// Runs work of milliseconds beside the async workers; a panic in it is an error of this request alone.
async fn beside<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|panic| Error::Internal { message: panic.to_string() })?
}

/// A seed nobody chose, below 2^53 so that it survives JSON readers with doubles.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish() >> 11
}
