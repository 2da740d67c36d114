//! `POST /v1/tokenize` and `POST /v1/detokenize`: text to ids and back, in vLLM's shape and in llama.cpp's.
//!
//! `prompt` and `messages` are vLLM's, `content`, `add_special` and `with_pieces` llama.cpp's; a request has one text.
//! Control tokens in a text are ordinary characters, as in every prompt here.

use axum::{Json, extract::State};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    App,
    body::Body,
    chat::{messages, wire::ChatMessage},
    error::HttpError,
};
use crate::maze::{self, Maze};

/// `POST /v1/tokenize`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenizeRequest {
    /// The loaded model's id, or absent.
    model: Option<String>,
    prompt: Option<String>,
    /// As `prompt`, but by default without the token that begins a text.
    content: Option<String>,
    messages: Option<Vec<ChatMessage>>,
    /// Whether ids begin as the model wants its texts to. Default: true for `prompt`, false for `content`.
    add_special_tokens: Option<bool>,
    add_special: Option<bool>,
    /// Of `messages`: up to where the answer begins. Default: true.
    add_generation_prompt: Option<bool>,
    /// Adds `token_strs`.
    return_token_strs: Option<bool>,
    /// Adds `token_bytes`.
    return_token_bytes: Option<bool>,
    /// Makes `tokens` a list of `{"id", "piece"}`.
    with_pieces: Option<bool>,
    /// Only `false`.
    parse_special: Option<bool>,
}

/// What is to be tokenized.
#[derive(Debug)]
enum Source {
    Text { param: &'static str, text: String, add_bos: bool },
    Chat { messages: Vec<maze::Message>, add_generation_prompt: bool },
}

impl Source {
    fn param(&self) -> &'static str {
        match self {
            Self::Text { param, .. } => param,
            Self::Chat { .. } => "messages",
        }
    }
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct TokenizeReply {
    count: usize,
    max_model_len: usize,
    tokens: Tokens,
    /// What each token is as text; a broken character reads U+FFFD.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_strs: Option<Vec<String>>,
    /// What each token stands for; none for a control token.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_bytes: Option<Vec<Vec<u8>>>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
enum Tokens {
    Ids(Vec<u32>),
    Pieces(Vec<Piece>),
}

#[derive(Debug, Serialize, JsonSchema)]
struct Piece {
    id: u32,
    piece: PieceText,
}

/// A token's text, or its bytes where they are no whole characters.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
enum PieceText {
    Text(String),
    Bytes(Vec<u8>),
}

/// `POST /v1/detokenize`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DetokenizeRequest {
    /// The loaded model's id, or absent.
    model: Option<String>,
    tokens: Vec<u32>,
}

/// The text under both names; what is no whole character reads U+FFFD.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct DetokenizeReply {
    prompt: String,
    content: String,
}

pub(crate) async fn tokenize(
    State(app): State<App>,
    Body(request): Body<TokenizeRequest>,
) -> Result<Json<TokenizeReply>, HttpError> {
    app.expect_model(request.model.as_deref())?;
    let (strs, bytes) = (request.return_token_strs == Some(true), request.return_token_bytes == Some(true));
    let with_pieces = request.with_pieces == Some(true);
    let source = request.source()?;
    let param = source.param();
    let ids = match source {
        Source::Text { text, add_bos, .. } => app.maze.encode(text, add_bos).await,
        Source::Chat { messages, add_generation_prompt } => app.maze.encode_chat(messages, add_generation_prompt).await,
    };
    let (ids, maze) = (ids.map_err(|error| HttpError::maze(param, error))?, &app.maze);
    Ok(Json(TokenizeReply {
        count: ids.len(),
        max_model_len: maze.model().context_len,
        token_strs: strs.then(|| ids.iter().map(|&id| maze.token_text(id)).collect()),
        token_bytes: bytes.then(|| ids.iter().map(|&id| maze.token_bytes(id).to_vec()).collect()),
        tokens: match with_pieces {
            true => Tokens::Pieces(ids.into_iter().map(|id| piece(id, maze)).collect()),
            false => Tokens::Ids(ids),
        },
    }))
}

pub(crate) async fn detokenize(
    State(app): State<App>,
    Body(request): Body<DetokenizeRequest>,
) -> Result<Json<DetokenizeReply>, HttpError> {
    app.expect_model(request.model.as_deref())?;
    let bytes = app.maze.decode(request.tokens).await.map_err(|error| HttpError::maze("tokens", error))?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(Json(DetokenizeReply { prompt: text.clone(), content: text }))
}

fn piece(id: u32, maze: &Maze) -> Piece {
    let text = maze.token_text(id);
    let bytes = maze.token_bytes(id);
    let is_whole = bytes.is_empty() || bytes == text.as_bytes();
    Piece { id, piece: if is_whole { PieceText::Text(text) } else { PieceText::Bytes(bytes.to_vec()) } }
}

impl TokenizeRequest {
    fn source(self) -> Result<Source, HttpError> {
        if self.parse_special == Some(true) {
            return Err(HttpError::unsupported(
                "parse_special",
                "control tokens in a text are ordinary characters here",
            ));
        }
        if self.add_special.is_some() && self.add_special_tokens.is_some() {
            return Err(HttpError::invalid_value("add_special", "says the same as `add_special_tokens`; give one"));
        }
        let add_special = self.add_special_tokens.or(self.add_special);
        if self.add_generation_prompt.is_some() && self.messages.is_none() {
            return Err(HttpError::invalid_value("add_generation_prompt", "only goes with `messages`"));
        }
        match (self.prompt, self.content, self.messages) {
            (Some(text), None, None) => {
                Ok(Source::Text { param: "prompt", text, add_bos: add_special.unwrap_or(true) })
            }
            (None, Some(text), None) => {
                Ok(Source::Text { param: "content", text, add_bos: add_special.unwrap_or(false) })
            }
            (None, None, Some(_)) if add_special == Some(true) => Err(HttpError::unsupported(
                "add_special_tokens",
                "the chat template says how a chat begins; leave it out",
            )),
            (None, None, Some(messages)) => Ok(Source::Chat {
                messages: messages::read(messages, None)?,
                add_generation_prompt: self.add_generation_prompt.unwrap_or(true),
            }),
            (None, None, None) => Err(HttpError::MissingParameter { param: "prompt".into() }),
            (prompt, ..) => {
                let param = if prompt.is_some() { "prompt" } else { "content" };
                Err(HttpError::invalid_value(param, "one text at a time: `prompt`, `content` or `messages`"))
            }
        }
    }
}
