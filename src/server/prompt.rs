//! What the body of a chat request says to the model: for whoever runs a recorded request again.

use super::{
    body::parse,
    chat::{
        Tools, messages,
        wire::{ChatMessage, ChatRequest},
    },
    error::HttpError,
    responses,
};
use crate::maze::Message;

/// The messages that a chat template is given for the body of `POST /v1/chat/completions` or `POST /v1/responses`, or for
/// a list of messages alone. Fields that do not enter the prompt change nothing.
///
/// # Errors
/// What cannot be read, and where.
pub fn messages_of_body(body: &[u8]) -> Result<Vec<Message>, String> {
    read(body).map_err(|error| error.message())
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
