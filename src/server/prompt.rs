//! What the body of a chat request, or of one with a hole, says to the model: for whoever runs a recorded request again.

use super::{
    body::parse,
    chat::{
        Tools, messages,
        wire::{ChatMessage, ChatRequest},
    },
    completions,
    error::HttpError,
    fim::FimBody,
    infill::InfillBody,
    responses,
};
use crate::maze::{Hole, Message, Prompt};

/// The messages that a chat template is given for the body of `POST /v1/chat/completions` or `POST /v1/responses`, or for
/// a list of messages alone. Fields that do not enter the prompt change nothing.
///
/// # Errors
/// What cannot be read, and where.
pub fn messages_of_body(body: &[u8]) -> Result<Vec<Message>, String> {
    read(body).map_err(|error| error.message())
}

/// The holes that the body of `POST /v1/completions` or `POST /v1/fim/completions`, with a `suffix`, or of `POST /infill`
/// asks to fill, in order.
///
/// # Errors
/// What cannot be read, and where.
pub fn holes_of_body(body: &[u8]) -> Result<Vec<Hole>, String> {
    let is_infill = serde_json::from_slice::<serde_json::Value>(body).is_ok_and(|it| it.get("input_prefix").is_some());
    let holes = match is_infill {
        true => parse::<InfillBody>(body).map(|mut body| vec![body.take_hole()]),
        // Of a body that is neither it is said why it is not the first.
        false => parse(body).and_then(completions::holes).or_else(|error| match parse::<FimBody>(body) {
            Ok(body) => match body.into_prompt()? {
                Prompt::Hole(hole) => Ok(vec![hole]),
                _ => Err(error),
            },
            Err(_) => Err(error),
        }),
    };
    holes.map_err(|error| error.message())
}

fn read(body: &[u8]) -> Result<Vec<Message>, HttpError> {
    if body.trim_ascii_start().starts_with(b"[") {
        let list = serde_json::from_slice::<Vec<ChatMessage>>(body);
        let list = list.map_err(|error| HttpError::invalid_value("messages", error.to_string()))?;
        return messages::read(list, None);
    }
    let chat = match serde_json::from_slice::<serde_json::Value>(body) {
        Ok(value) if value.get("input").is_some() => responses::chat_of(parse(body)?)?,
        _ => parse::<ChatRequest>(body)?,
    };
    let tools = Tools::new(chat.tools, chat.tool_choice, chat.parallel_tool_calls)?;
    messages::read(chat.messages, tools.as_ref())
}
