//! Between a handler and the maze: with an audit log, a request is written down before anything is generated for it,
//! and so is its end, however it comes.
//!
//! A handler takes a [`Recorder`] and calls [`Recorder::generate`] in place of the maze's own; what it gets back is
//! used as a [`Generation`] is. Without a log nothing is written and nothing waits. The provenance of what has ended goes
//! to the [`Archive`] either way, and its figures to the span of the request, if it has one.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{extract::FromRequestParts, http::request::Parts};
use futures_util::future;

use super::{
    App, RequestId,
    access::Caller,
    archive::{Archive, Draft},
    constraints::Origins,
    error::HttpError,
    refusals::Course,
    spans::Notes,
};
use crate::{
    audit::{AuditLog, ChoiceRecord, Entry, PromptRecord, PromptSource, Request, Unavailable, hash_of},
    maze::{self, Completed, ConstraintIr, Delta, Digest, Finish, GenerateRequest, Generation, Hole, Maze, Prompt},
};

/// What records a request: the log, if there is one, what the request is called in it, the archive, and its span.
pub(crate) struct Recorder {
    log: Option<AuditLog>,
    archive: Arc<Archive>,
    id: String,
    endpoint: String,
    course: Option<Arc<Course>>,
    span: Option<Arc<Notes>>,
}

impl FromRequestParts<App> for Recorder {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Infallible> {
        Ok(Self {
            log: parts.extensions.get::<AuditLog>().cloned(),
            archive: app.archive.clone(),
            id: parts.extensions.get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default(),
            endpoint: parts.uri.path().to_owned(),
            course: parts.extensions.get().cloned(),
            span: parts.extensions.get().cloned(),
        })
    }
}

impl Recorder {
    /// Hands the requests of one HTTP request to the maze; when one is refused, the others are dropped.
    ///
    /// # Errors
    /// The maze's, at their place in the body, or [`HttpError::AuditUnavailable`].
    pub(crate) async fn generate(
        &self,
        maze: &Maze,
        caller: &Caller,
        requests: &[GenerateRequest],
        origins: &Origins,
    ) -> Result<Vec<Recorded>, HttpError> {
        let requests: Vec<_> = requests.iter().map(|request| caller.bind(request.clone())).collect();
        if let Some(course) = &self.course {
            course.set_recorded();
        }
        let mut entry = match &self.log {
            Some(log) => Some(log.admit(self.record(maze, &requests, log)).await?),
            None => None,
        };
        let submissions = requests.iter().map(|request| async move {
            let generation = maze.generate(request.clone()).await?;
            Ok(generation.counted(caller.num_tokens.clone()))
        });
        let generations = match future::try_join_all(submissions).await {
            Ok(generations) => generations,
            Err(error) => {
                let error = origins.locate(error);
                if let Some(entry) = &mut entry {
                    entry.refuse(error.code());
                }
                return Err(error);
            }
        };
        if let Some(reply) = entry.as_mut().and_then(Entry::reply_mut) {
            reply.num_prompt_tokens = generations.iter().map(Generation::num_prompt_tokens).sum();
        }
        let draft = Draft::begin(&self.archive, caller, &self.endpoint, &requests, &generations);
        let num_choices = requests.iter().map(|request| request.num_choices).sum();
        if let Some(span) = &self.span {
            span.admitted(&generations, num_choices);
        }
        let ending = entry.map(|entry| Arc::new(Ending(Mutex::new(Open { entry: Some(entry), num_choices }))));
        let first_choices = requests.iter().scan(0, |next, request| {
            *next += request.num_choices;
            Some(*next - request.num_choices)
        });
        let recorded = generations.into_iter().zip(first_choices).enumerate();
        Ok(recorded
            .map(|(prompt, (generation, first_choice))| Recorded {
                generation,
                prompt,
                first_choice,
                draft: draft.clone(),
                ending: ending.clone(),
                span: self.span.clone(),
            })
            .collect())
    }

    fn record(&self, maze: &Maze, requests: &[GenerateRequest], log: &AuditLog) -> Request {
        // All of them are one request but for their prompts.
        let first = requests.first();
        let context = first.and_then(|request| request.context.as_ref());
        Request {
            id: self.id.clone(),
            endpoint: self.endpoint.clone(),
            client: first.and_then(|request| request.client.as_ref()).map(|client| client.name.to_string()),
            model: maze.model().id.clone(),
            prompts: PromptRecord::all(log.prompts(), requests.iter().map(|request| source_of(&request.prompt))),
            constraints: first.map(digests_of).unwrap_or_default(),
            context: context.map(|context| hash_of(context.source.as_bytes())),
            num_choices: requests.iter().map(|request| request.num_choices).sum(),
            max_tokens: first.and_then(|request| request.max_tokens),
        }
    }
}

/// Of each IR, of the profiles, and of the constraint set.
fn digests_of(request: &GenerateRequest) -> Vec<String> {
    let profiles = request.profiles.iter().map(|profile| &profile.ir);
    let irs = request.constraints.iter().chain(profiles).map(ConstraintIr::compute_digest);
    let rules = request.rules.iter().map(|rules| Digest::of_value(&rules.set));
    irs.chain(rules).map(|digest| digest.to_string()).collect()
}

/// A chat is recorded as the JSON of its messages, a hole as the JSON of its two sides.
fn source_of(prompt: &Prompt) -> PromptSource<'_> {
    match prompt {
        Prompt::Text(text) | Prompt::Unfinished(text) => PromptSource::Text(text.into()),
        Prompt::Tokens(ids) => PromptSource::Tokens(ids),
        Prompt::Hole(Hole { prefix, suffix, begun, extra, .. }) => {
            let sides = serde_json::json!({"extra": extra, "prefix": prefix, "begun": begun, "suffix": suffix});
            PromptSource::Text(sides.to_string().into())
        }
        Prompt::Chat(messages) => {
            PromptSource::Text(serde_json::to_string(messages).expect("messages are plain data").into())
        }
    }
}

/// A generation whose end is recorded. Dropping it cancels what has not ended, and records that.
pub(crate) struct Recorded {
    generation: Generation,
    /// Which prompt of the request it continues.
    prompt: usize,
    /// The number of its first choice among those of all prompts.
    first_choice: u32,
    draft: Option<Arc<Draft>>,
    ending: Option<Arc<Ending>>,
    span: Option<Arc<Notes>>,
}

/// What ended a generation early.
#[derive(Debug)]
pub(crate) enum Stopped {
    Maze(maze::Error),
    Audit(Unavailable),
}

impl Stopped {
    fn code(&self) -> &'static str {
        match self {
            Self::Maze(error) => error.code(),
            Self::Audit(_) => "audit_unavailable",
        }
    }

    /// The error at its place in the body.
    pub(crate) fn locate(self, origins: &Origins) -> HttpError {
        match self {
            Self::Maze(error) => origins.locate(error),
            Self::Audit(why) => why.into(),
        }
    }
}

impl Recorded {
    /// Names the reply.
    pub(crate) fn id(&self) -> &str {
        self.generation.id()
    }

    /// When it was admitted, in seconds since 1970.
    pub(crate) fn created(&self) -> u64 {
        self.generation.created()
    }

    /// Tokens of the prompt.
    pub(crate) fn num_prompt_tokens(&self) -> u32 {
        self.generation.num_prompt_tokens()
    }

    /// The next delta of any choice; `None` after all have ended. The last one of a reply comes once its end is
    /// recorded as the log's policy means it.
    pub(crate) async fn next(&mut self) -> Option<Result<Delta, Stopped>> {
        let next = match self.generation.next().await? {
            Ok(delta) => {
                let ended = delta.finish.as_ref().map(|finish| (delta.choice, finish));
                let noted = self.note(delta.text.len(), ended).await;
                if let (Some(draft), Some((choice, finish))) = (&self.draft, ended) {
                    draft.note(self.prompt, choice, finish);
                }
                if let (Some(span), Some((_, finish))) = (&self.span, ended) {
                    span.finished(finish);
                }
                noted.map(|()| delta)
            }
            Err(error) => Err(self.fail(error)),
        };
        if let (Some(span), Err(stopped)) = (&self.span, &next) {
            span.failed(stopped.code());
        }
        Some(next)
    }

    /// Waits for every choice to end.
    ///
    /// # Errors
    /// The first error of any choice, or the end could not be recorded.
    pub(crate) async fn collect(self) -> Result<Vec<Completed>, Stopped> {
        let Self { generation, prompt, first_choice, draft, ending, span } = self;
        let choices = match generation.collect().await {
            Ok(choices) => choices,
            Err(error) => return Err(fail(ending.as_deref(), error)),
        };
        for choice in &choices {
            if let Some(draft) = &draft {
                draft.note(prompt, choice.choice, &choice.finish);
            }
            if let Some(span) = &span {
                span.finished(&choice.finish);
            }
            if let Some(ending) = &ending {
                let ended = Some((first_choice + choice.choice, &choice.finish));
                ending.note(choice.text.len(), ended).await?;
            }
        }
        Ok(choices)
    }

    async fn note(&self, text_bytes: usize, ended: Option<(u32, &Finish)>) -> Result<(), Stopped> {
        match &self.ending {
            Some(ending) => {
                ending.note(text_bytes, ended.map(|(choice, finish)| (self.first_choice + choice, finish))).await
            }
            None => Ok(()),
        }
    }

    fn fail(&self, error: maze::Error) -> Stopped {
        fail(self.ending.as_deref(), error)
    }
}

fn fail(ending: Option<&Ending>, error: maze::Error) -> Stopped {
    if let Some(mut entry) = ending.and_then(Ending::take) {
        entry.fail(error.code());
    }
    Stopped::Maze(error)
}

/// The end of a reply, shared by the generations of its prompts. The last of them to go takes the entry along, which
/// then says that the reply was dropped.
struct Ending(Mutex<Open>);

struct Open {
    /// `None` once the end was recorded.
    entry: Option<Entry>,
    /// Choices that have not ended.
    num_choices: u32,
}

impl Ending {
    fn take(&self) -> Option<Entry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry.take()
    }

    /// Notes what goes to the client, and with the last choice the end of it all.
    async fn note(&self, text_bytes: usize, ended: Option<(u32, &Finish)>) -> Result<(), Stopped> {
        match self.add(text_bytes, ended) {
            Some(entry) => entry.complete().await.map_err(Stopped::Audit),
            None => Ok(()),
        }
    }

    /// The entry, if nothing is open any more.
    fn add(&self, text_bytes: usize, ended: Option<(u32, &Finish)>) -> Option<Entry> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let reply = open.entry.as_mut()?.reply_mut()?;
        reply.text_bytes += text_bytes as u64;
        let (index, finish) = ended?;
        reply.num_tokens += finish.num_tokens;
        reply.num_prompt_tokens += finish.late_prompt_tokens;
        if reply.choices.is_empty() {
            reply.constraints = finish.provenance.constraints.iter().map(|ir| ir.digest.to_string()).collect();
        }
        reply.choices.push(choice_record(index, finish));
        open.num_choices = open.num_choices.saturating_sub(1);
        if open.num_choices == 0 { open.entry.take() } else { None }
    }
}

fn choice_record(index: u32, finish: &Finish) -> ChoiceRecord {
    let mut verdicts = BTreeMap::new();
    for verdict in &finish.validation.verdicts {
        *verdicts.entry(verdict.status.as_str()).or_insert(0) += 1;
    }
    ChoiceRecord {
        index,
        finish_reason: finish.reason.as_str(),
        num_tokens: finish.num_tokens,
        all_satisfied: finish.validation.all_satisfied,
        verdicts,
    }
}
