//! From the messages of a request to those that a chat template takes.

use std::collections::BTreeSet;

use super::super::error::HttpError;
use super::tools::{Tools, call_text, result_text};
use super::wire::{ChatMessage, Content, Part, Role};
use crate::maze::Message;

/// The messages as a template takes them: every part a text, calls and their results in the form of `tools.rs`, and
/// what is to be known of the tools in the system message.
///
/// Results of calls are said by the user, because few templates know another role for them; results that follow each
/// other are one message.
///
/// # Errors
/// A message that cannot be read, with its place.
pub(crate) fn read(messages: Vec<ChatMessage>, tools: Option<&Tools>) -> Result<Vec<Message>, HttpError> {
    if messages.is_empty() {
        return Err(HttpError::invalid_value("messages", "the list of messages is empty"));
    }
    let mut all: Vec<Message> = Vec::new();
    let mut call_ids = BTreeSet::new();
    let mut was_result = false;
    for (idx, message) in messages.into_iter().enumerate() {
        let path = format!("messages[{idx}]");
        check(&message, &path)?;
        let is_result = message.role == Role::Tool;
        let text = message.content.map(|content| text_of(content, &path)).transpose()?;
        let calls = message.tool_calls.unwrap_or_default();
        let said = match (text, calls.is_empty()) {
            (None, true) => return Err(HttpError::MissingParameter { param: format!("{path}.content") }),
            (text, _) => text.unwrap_or_default(),
        };
        match message.role {
            Role::System | Role::Developer => all.push(Message::new("system", said)),
            Role::User => all.push(Message::new("user", said)),
            Role::Assistant => {
                let mut parts = Vec::from_iter(Some(said).filter(|said| !said.is_empty()));
                for call in calls {
                    parts.push(call_text(&call.function.name, &call.function.arguments));
                    call_ids.insert(call.id);
                }
                all.push(Message::new("assistant", parts.join("\n")));
            }
            Role::Tool => {
                let Some(id) = message.tool_call_id else {
                    return Err(HttpError::MissingParameter { param: format!("{path}.tool_call_id") });
                };
                if !call_ids.contains(&id) {
                    let reason = format!("no call of an earlier message has the id `{id}`");
                    return Err(HttpError::invalid_value(format!("{path}.tool_call_id"), reason));
                }
                let result = result_text(&said);
                match all.last_mut().filter(|_| was_result) {
                    Some(before) => before.content.push_str(&format!("\n{result}")),
                    None => all.push(Message::new("user", result)),
                }
            }
        }
        was_result = is_result;
    }
    if let Some(tools) = tools {
        let prompt = tools.prompt();
        match all.first_mut().filter(|first| first.role == "system") {
            Some(system) => system.content.push_str(&format!("\n\n{prompt}")),
            None => all.insert(0, Message::new("system", prompt)),
        }
    }
    Ok(all)
}

/// Refuses fields that do not go with the role, or that a prompt has no place for.
fn check(message: &ChatMessage, path: &str) -> Result<(), HttpError> {
    if message.tool_calls.is_some() && message.role != Role::Assistant {
        return Err(HttpError::invalid_value(format!("{path}.tool_calls"), "only goes with `role: assistant`"));
    }
    if message.tool_call_id.is_some() && message.role != Role::Tool {
        return Err(HttpError::invalid_value(format!("{path}.tool_call_id"), "only goes with `role: tool`"));
    }
    if message.refusal.as_ref().is_some_and(|refusal| !refusal.is_empty()) {
        return Err(HttpError::unsupported(format!("{path}.refusal"), "a template has no place for it"));
    }
    let others = [("function_call", &message.function_call), ("audio", &message.audio)];
    match others.iter().find(|(_, value)| value.as_ref().is_some_and(|value| !value.is_null())) {
        Some((field, _)) => Err(HttpError::unsupported(format!("{path}.{field}"), "send text and `tool_calls`")),
        None => Ok(()),
    }
}

fn text_of(content: Content, path: &str) -> Result<String, HttpError> {
    let parts = match content {
        Content::Text(text) => return Ok(text),
        Content::Parts(parts) => parts,
    };
    let mut whole = String::new();
    for (idx, Part { kind, text, others }) in parts.into_iter().enumerate() {
        let path = format!("{path}.content[{idx}]");
        match (kind.as_str(), text) {
            ("text", Some(text)) => match others.into_keys().next() {
                None => whole.push_str(&text),
                Some(field) => {
                    let accepted = "only `type` and `text`".into();
                    return Err(HttpError::UnknownParameter { param: format!("{path}.{field}"), accepted });
                }
            },
            ("text", None) => return Err(HttpError::MissingParameter { param: format!("{path}.text") }),
            (other, _) => {
                let reason = format!("parts of type `{other}` cannot be read; this model reads text");
                return Err(HttpError::unsupported(format!("{path}.type"), reason));
            }
        }
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read_json(messages: Value, tools: Option<&Tools>) -> Result<Vec<Message>, HttpError> {
        read(serde_json::from_value(messages).expect("well-formed"), tools)
    }

    #[test]
    fn calls_and_their_results_are_shown_in_the_form_of_calls() {
        let call = |id: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": "add", "arguments": arguments}});
        let messages = json!([
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "1+2"}, {"type": "text", "text": "?"}]},
            {"role": "assistant", "content": null, "tool_calls": [call("a", "{\"x\": 1}"), call("b", "{}")]},
            {"role": "tool", "tool_call_id": "a", "content": "3"},
            {"role": "tool", "tool_call_id": "b", "content": "4"},
            {"role": "user", "content": "Thanks"}
        ]);
        let tools = json!([{"type": "function", "function": {"name": "add"}}]);
        let tools = Tools::new(Some(serde_json::from_value(tools).expect("well-formed")), None, None);
        let tools = tools.expect("good").expect("offered");
        let all = read_json(messages, Some(&tools)).expect("good");
        let roles: Vec<&str> = all.iter().map(|message| message.role.as_str()).collect();
        assert_eq!(roles, ["system", "user", "assistant", "user", "user"]);
        assert!(all[0].content.starts_with("Be brief.\n\nYou may call these functions:\n{\"name\":\"add\""));
        assert_eq!(all[1].content, "1+2?");
        assert_eq!(all[2].content, [call_text("add", "{\"x\": 1}"), call_text("add", "{}")].join("\n"));
        assert_eq!(all[3].content, [result_text("3"), result_text("4")].join("\n"));
        let alone = read_json(json!([{"role": "user", "content": "Hi"}]), Some(&tools)).expect("good");
        assert_eq!((alone.len(), alone[0].role.as_str()), (2, "system"));
    }

    #[test]
    fn what_is_wrong_with_a_message_is_named() {
        for (message, param) in [
            (json!({"role": "user"}), "messages[0].content"),
            (json!({"role": "assistant", "content": null}), "messages[0].content"),
            (json!({"role": "user", "content": [{"type": "image_url"}]}), "messages[0].content[0].type"),
            (json!({"role": "user", "content": [{"type": "text"}]}), "messages[0].content[0].text"),
            (
                json!({"role": "user", "content": [{"type": "text", "text": "x", "cache_control": {}}]}),
                "messages[0].content[0].cache_control",
            ),
            (json!({"role": "user", "content": "x", "tool_calls": []}), "messages[0].tool_calls"),
            (json!({"role": "user", "content": "x", "tool_call_id": "a"}), "messages[0].tool_call_id"),
            (json!({"role": "tool", "content": "x"}), "messages[0].tool_call_id"),
            (json!({"role": "tool", "content": "x", "tool_call_id": "a"}), "messages[0].tool_call_id"),
            (json!({"role": "assistant", "content": "x", "audio": {"id": "a"}}), "messages[0].audio"),
            (json!({"role": "assistant", "content": "x", "refusal": "no"}), "messages[0].refusal"),
        ] {
            let error = read_json(json!([message]), None).expect_err(param);
            let wire = serde_json::to_value(error.body()).expect("errors serialize");
            assert_eq!(wire["error"]["param"], param, "{message}");
        }
        assert!(read_json(json!([]), None).is_err());
    }
}
