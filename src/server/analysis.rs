//! `POST /v1/constraints/extract`, `compile` and `validate`: what the commands of `ananke` do, for whoever has no files
//! here.
//!
//! Only so many of these requests are under way at once; more are told to try again. Nothing is generated.

use axum::{
    Json,
    extract::{FromRequestParts, State},
    http::request::Parts,
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;

use super::{
    App,
    access::Caller,
    body::{Body, SourceBody, parse_value},
    error::HttpError,
};
use crate::maze::{
    self, BindingFields, Bindings, CONSTRAINTS_MAX, CompileRequest, Constraint, ConstraintSet, DESCRIPTION_BYTES_MAX,
    GrammarSyntax, JudgeRequest, Judged, Language, MatchMode, Maze, Resolution, SourceText, Strategy, Verdict,
};

/// Files of one request to extract.
const FILES_MAX: usize = 1_000;
/// Texts of one request to validate.
const TEXTS_MAX: usize = 100;

/// A place among the requests that are analysed at once; taken before the body is read, because bodies are large.
pub(crate) struct Place(OwnedSemaphorePermit);

impl FromRequestParts<App> for Place {
    type Rejection = HttpError;

    async fn from_request_parts(_: &mut Parts, app: &App) -> Result<Self, HttpError> {
        let place = app.analyses.clone().try_acquire_owned();
        place.map(Self).map_err(|_| HttpError::Busy { limit: app.config.max_analyses })
    }
}

/// `POST /v1/constraints/extract`: one source, or `files`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExtractRequest {
    source: Option<String>,
    file: Option<String>,
    language: Option<Language>,
    files: Option<Vec<FileField>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FileField {
    source: String,
    file: String,
    language: Option<Language>,
}

/// `POST /v1/constraints/compile`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CompileBody {
    /// A constraint set, or a list of constraints.
    constraints: Value,
    #[serde(rename = "type")]
    type_name: Option<String>,
    security: Option<String>,
    #[schemars(with = "Option<String>")]
    strategy: Option<Strategy>,
    #[schemars(with = "Option<Vec<serde_json::Value>>")]
    resolutions: Option<Vec<Resolution>>,
}

/// `POST /v1/constraints/validate`: the fields of a case of `ananke validate --batch`, with one text or several.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ValidateBody {
    text: Option<String>,
    texts: Option<Vec<String>>,
    /// Seeds the random split. Default: 0.
    seed: Option<u64>,
    ir: Option<Value>,
    constraints: Option<Value>,
    rule: Option<Value>,
    json_schema: Option<Value>,
    regex: Option<String>,
    #[serde(rename = "match")]
    match_mode: Option<MatchMode>,
    grammar: Option<String>,
    syntax: Option<GrammarSyntax>,
    forbidden_text: Option<Vec<Value>>,
}

/// One result for each text, in their order.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ValidateReply {
    results: Vec<TextResult>,
}

/// What masks and independent engines say of one text.
#[derive(Debug, Serialize, JsonSchema)]
struct TextResult {
    /// Everything below says yes.
    all_satisfied: bool,
    /// In the tokenizer's own split, to an end token; null where a mask could not be computed.
    masks_accept: Option<bool>,
    masks_accept_random_split: Option<bool>,
    /// The first byte that the masks refuse; the text's length where only the end is.
    refused_at: Option<usize>,
    /// The part that refuses it.
    refused_by: Option<String>,
    /// What the independent engines find of all parts; null where a part has none.
    verified: Option<bool>,
    /// Why a mask could not be computed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[schemars(with = "Vec<serde_json::Value>")]
    verdicts: Vec<Verdict>,
}

pub(crate) async fn extract(
    Place(place): Place,
    SourceBody(request): SourceBody<ExtractRequest>,
) -> Result<Response, HttpError> {
    let files = request.files()?;
    let param = |error: &maze::Error| match error {
        maze::Error::UnknownLanguage { .. } => "language",
        _ => "source",
    };
    let set = Maze::extract(files, place).await.map_err(|error| HttpError::maze(param(&error), error))?;
    large(set).await
}

pub(crate) async fn compile(
    State(app): State<App>,
    Place(place): Place,
    caller: Caller,
    Body(body): Body<CompileBody>,
) -> Result<Response, HttpError> {
    let request = CompileRequest {
        set: constraint_set(&body.constraints)?,
        root_type: body.type_name,
        security: body.security,
        strategy: body.strategy.unwrap_or_default(),
        resolutions: body.resolutions.unwrap_or_default(),
        client: caller.client,
    };
    let param = |error: &maze::Error| match error {
        maze::Error::Profile(_) => "security",
        _ => "constraints",
    };
    let compiled = app.maze.compile(request, place).await;
    large(compiled.map_err(|error| HttpError::maze(param(&error), error))?).await
}

pub(crate) async fn validate(
    State(app): State<App>,
    Place(place): Place,
    caller: Caller,
    Body(mut body): Body<ValidateBody>,
) -> Result<Json<ValidateReply>, HttpError> {
    let (texts, seed) = (body.texts()?, body.seed.unwrap_or(0));
    let bindings = Bindings::new(body.fields()).map_err(|why| HttpError::invalid_value("", why))?;
    let request = JudgeRequest { texts, bindings, seed, client: caller.client };
    let judged = app
        .maze
        .judge(request, place)
        .await
        .map_err(|source| HttpError::Maze { param: source.param(), source: Box::new(source) })?;
    Ok(Json(ValidateReply { results: judged.into_iter().map(TextResult::new).collect() }))
}

/// A reply that may be megabytes, written beside the async workers.
async fn large<T: Serialize + Send + 'static>(value: T) -> Result<Response, HttpError> {
    let written = tokio::task::spawn_blocking(move || Json(value).into_response()).await;
    written.map_err(HttpError::panicked)
}

impl ExtractRequest {
    fn files(self) -> Result<Vec<SourceText>, HttpError> {
        match (self.source, self.files) {
            (Some(source), None) => {
                let Some(file) = self.file.or_else(|| self.language.map(|_| "source".into())) else {
                    return Err(HttpError::MissingParameter { param: "language".into() });
                };
                Ok(vec![SourceText { file, language: self.language, source }])
            }
            (None, Some(_)) if self.file.is_some() || self.language.is_some() => {
                Err(HttpError::invalid_value("files", "each of them has its own `file` and `language`"))
            }
            (None, Some(files)) if files.is_empty() || files.len() > FILES_MAX => {
                Err(HttpError::invalid_value("files", format!("{} files; 1 to {FILES_MAX} are taken", files.len())))
            }
            (None, Some(files)) => {
                let text = |FileField { source, file, language }| SourceText { file, language, source };
                Ok(files.into_iter().map(text).collect())
            }
            (Some(_), Some(_)) => Err(HttpError::invalid_value("files", "only goes without `source`")),
            (None, None) => Err(HttpError::MissingParameter { param: "source".into() }),
        }
    }
}

/// A set or a list of constraints, within the bounds of what extraction gives.
fn constraint_set(value: &Value) -> Result<ConstraintSet, HttpError> {
    const PARAM: &str = "constraints";
    let (set, path): (ConstraintSet, _) = match value {
        Value::Array(list) => {
            let mut set = ConstraintSet::default();
            for (idx, constraint) in list.iter().enumerate().take(CONSTRAINTS_MAX + 1) {
                let path = format!("{PARAM}[{idx}]");
                check_object(constraint, &path)?;
                let constraint: Constraint = parse_value(constraint, &path)?;
                set.push(constraint);
            }
            (set, PARAM.to_owned())
        }
        value => {
            check_object(value, PARAM)?;
            (parse_value(value, PARAM)?, format!("{PARAM}.{PARAM}"))
        }
    };
    let given = value.as_array().map_or(set.constraints.len(), Vec::len);
    if given > CONSTRAINTS_MAX {
        let reason = format!("{given} constraints; at most {CONSTRAINTS_MAX} are compiled at once");
        return Err(HttpError::invalid_value(path, reason));
    }
    match set.constraints.iter().position(|constraint| constraint.description.len() > DESCRIPTION_BYTES_MAX) {
        Some(idx) => {
            let reason = format!("a description has at most {DESCRIPTION_BYTES_MAX} bytes");
            Err(HttpError::invalid_value(format!("{path}[{idx}].description"), reason))
        }
        None => Ok(set),
    }
}

/// serde alone would take a list by position.
fn check_object(value: &Value, param: &str) -> Result<(), HttpError> {
    let reason = "expected an object";
    value.is_object().then_some(()).ok_or_else(|| HttpError::InvalidType { param: param.into(), reason: reason.into() })
}

impl ValidateBody {
    fn texts(&mut self) -> Result<Vec<String>, HttpError> {
        match (self.text.take(), self.texts.take()) {
            (Some(text), None) => Ok(vec![text]),
            (None, Some(texts)) if (1..=TEXTS_MAX).contains(&texts.len()) => Ok(texts),
            (None, Some(texts)) => {
                Err(HttpError::invalid_value("texts", format!("{} texts; 1 to {TEXTS_MAX} are judged", texts.len())))
            }
            (Some(_), Some(_)) => Err(HttpError::invalid_value("texts", "only goes without `text`")),
            (None, None) => Err(HttpError::MissingParameter { param: "text".into() }),
        }
    }

    fn fields(self) -> BindingFields {
        BindingFields {
            ir: self.ir,
            constraints: self.constraints,
            rule: self.rule,
            json_schema: self.json_schema,
            regex: self.regex,
            match_mode: self.match_mode,
            grammar: self.grammar,
            syntax: self.syntax,
            forbidden_text: self.forbidden_text,
        }
    }
}

impl TextResult {
    fn new(judged: Judged) -> Self {
        let refusal = judged.refusal();
        Self {
            all_satisfied: judged.is_satisfied(),
            masks_accept: judged.canonical.is_accepted(),
            masks_accept_random_split: judged.random_split.is_accepted(),
            refused_at: refusal.map(|refusal| refusal.at),
            refused_by: refusal.map(|refusal| refusal.part.clone()),
            verified: judged.verified(),
            error: judged.failure().map(ToString::to_string),
            verdicts: judged.verdicts,
        }
    }
}
