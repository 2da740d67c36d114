//! From a request for a response to the chat that it asks for, and from the chat's fields back to those of the request.

use serde_json::Value;

use super::super::{
    body::parse_value,
    chat::wire::{
        ChatMessage, ChatRequest, Content, FunctionWord, NamedFunction, NamedTool, Part, PastCall, PastFunction, Role,
        Tool, ToolChoice, ToolFunction, ToolMode,
    },
    error::HttpError,
    openai::{JsonSchemaFormat, ResponseFormat, ResponseFormatKind},
};
use super::wire::{
    CallItem, ChosenFunction, FormatField, FormatKind, FunctionTool, InputField, ItemText, MessageItem,
    ResponsesRequest, ResultItem, TextField,
};

/// A chat, and where each of its messages stands in the request.
#[derive(Debug, Default)]
pub(super) struct Chat {
    messages: Vec<ChatMessage>,
    places: Vec<String>,
}

/// Where the parts of a chat request stand in the request that became it.
#[derive(Debug)]
pub(super) struct Places(Vec<String>);

/// The chat request that asks for the same, and where its parts come from.
///
/// # Errors
/// A field that cannot be read, or asks for what is not offered.
pub(super) fn chat(request: &mut ResponsesRequest) -> Result<(ChatRequest, Places), HttpError> {
    refuse_unsupported(request)?;
    let mut chat = Chat::default();
    if let Some(instructions) = &request.instructions {
        chat.push(ChatMessage::new(Role::System, Some(Content::Text(instructions.clone()))), "instructions".into());
    }
    match std::mem::replace(&mut request.input, InputField::Items(Vec::new())) {
        InputField::Text(text) => chat.push(ChatMessage::new(Role::User, Some(Content::Text(text))), "input".into()),
        InputField::Items(items) if items.is_empty() => {
            return Err(HttpError::invalid_value("input", "the list of items is empty"));
        }
        InputField::Items(items) => {
            items.iter().enumerate().try_for_each(|(idx, item)| chat.item(item, format!("input[{idx}]")))?;
        }
    }
    let tools = request.tools.as_deref().map(tools).transpose()?;
    let (sampling, mut constraints) = (request.take_sampling(), request.take_constraints());
    if constraints.response_format.is_some() {
        return Err(HttpError::unsupported("response_format", "it is called `text.format` here"));
    }
    constraints.response_format = request.text.as_ref().map(response_format).transpose()?.flatten();
    let mut chat_request = ChatRequest {
        model: request.model.clone(),
        messages: chat.messages,
        max_tokens: request.max_output_tokens,
        seed: request.seed,
        stream: request.stream,
        // An empty list is what clients send for no tools, and then the rest means nothing.
        tool_choice: request.tool_choice.as_ref().map(tool_choice).transpose()?.filter(|_| tools.is_some()),
        parallel_tool_calls: request.parallel_tool_calls.filter(|_| tools.is_some()),
        tools: tools.filter(|tools| !tools.is_empty()),
        ..ChatRequest::default()
    };
    chat_request.put(sampling, constraints);
    Ok((chat_request, Places(chat.places)))
}

impl Places {
    /// The error with the path that the client wrote in place of the chat's.
    pub(super) fn locate(&self, error: HttpError) -> HttpError {
        error.map_param(|param| self.path(param))
    }

    fn path(&self, param: &str) -> String {
        const SCHEMA: &str = "response_format.json_schema";
        if let Some((index, rest)) = param.strip_prefix("messages[").and_then(|rest| rest.split_once(']'))
            && let Some(place) = index.parse::<usize>().ok().and_then(|index| self.0.get(index))
        {
            let rest = rest.replace(".tool_call_id", ".call_id");
            // A text has no parts to speak of.
            return if place.starts_with("input[") { format!("{place}{rest}") } else { place.clone() };
        }
        match param {
            "max_tokens" | "max_completion_tokens" => "max_output_tokens".into(),
            _ if param.starts_with("tools[") => param.replacen("].function", "]", 1),
            _ if param.starts_with("tool_choice.") => param.replacen(".function", "", 1),
            _ if param.starts_with(SCHEMA) => param.replacen(SCHEMA, "text.format", 1),
            _ => param.replacen("response_format", "text.format", 1),
        }
    }
}

fn refuse_unsupported(request: &ResponsesRequest) -> Result<(), HttpError> {
    let not_kept = "responses are not kept; send the whole conversation as `input`";
    let fields = [
        ("previous_response_id", &request.previous_response_id, not_kept),
        ("conversation", &request.conversation, not_kept),
        ("prompt", &request.prompt, "prompts are not kept; send `instructions` and `input`"),
        ("reasoning", &request.reasoning, "it has no effect on a model like this; leave it out"),
        ("max_tool_calls", &request.max_tool_calls, "there are no built-in tools, which is what it counts"),
        ("top_logprobs", &request.top_logprobs, "log-probabilities come with chat completions"),
        ("stream_options", &request.stream_options, "events are sent as they are; leave it out"),
    ];
    if let Some((field, _, reason)) = fields.iter().find(|(_, value, _)| value.as_ref().is_some_and(|v| !v.is_null())) {
        return Err(HttpError::unsupported(*field, *reason));
    }
    if request.store == Some(true) {
        return Err(HttpError::unsupported("store", not_kept));
    }
    if request.background == Some(true) {
        return Err(HttpError::unsupported("background", "a response is made while its request is open"));
    }
    if request.include.as_ref().is_some_and(|include| !include.is_empty()) {
        return Err(HttpError::unsupported("include", "there is nothing beside what a response always has"));
    }
    if request.truncation.as_deref().is_some_and(|truncation| truncation != "disabled") {
        return Err(HttpError::unsupported("truncation", "an input that is too long is refused, never cut"));
    }
    match request.service_tier.as_deref().filter(|tier| !matches!(*tier, "auto" | "default")) {
        Some(tier) => Err(HttpError::unsupported("service_tier", format!("there is no tier `{tier}`; one serves all"))),
        None => Ok(()),
    }
}

impl Chat {
    fn push(&mut self, message: ChatMessage, place: String) {
        self.messages.push(message);
        self.places.push(place);
    }

    fn item(&mut self, item: &Value, path: String) -> Result<(), HttpError> {
        match item.get("type").map_or(Some("message"), Value::as_str) {
            Some("message") => {
                let MessageItem { role, content, .. } = parse_value(item, &path)?;
                if role == Role::Tool {
                    let reason = "results of calls are items of type `function_call_output`";
                    return Err(HttpError::invalid_value(format!("{path}.role"), reason));
                }
                self.push(ChatMessage::new(role, Some(content.into_content())), path);
                Ok(())
            }
            Some("function_call") => {
                let CallItem { call_id, name, arguments, .. } = parse_value(item, &path)?;
                self.call(
                    PastCall {
                        id: call_id,
                        _kind: FunctionWord::Function,
                        function: PastFunction { name, arguments },
                        _index: None,
                    },
                    path,
                );
                Ok(())
            }
            Some("function_call_output") => {
                let ResultItem { call_id, output, .. } = parse_value(item, &path)?;
                let mut message = ChatMessage::new(Role::Tool, Some(output.into_content()));
                message.tool_call_id = Some(call_id);
                self.push(message, path);
                Ok(())
            }
            Some(other) => {
                let reason = format!("items of type `{other}` cannot be read; messages, calls and their results can");
                Err(HttpError::unsupported(format!("{path}.type"), reason))
            }
            None => {
                let reason = "expected a string".into();
                Err(HttpError::InvalidType { param: format!("{path}.type"), reason })
            }
        }
    }

    /// A call belongs to what the assistant said right before it.
    fn call(&mut self, call: PastCall, path: String) {
        match self.messages.last_mut().filter(|message| message.role == Role::Assistant) {
            Some(message) => message.tool_calls.get_or_insert_default().push(call),
            None => {
                let mut message = ChatMessage::new(Role::Assistant, None);
                message.tool_calls = Some(vec![call]);
                self.push(message, path);
            }
        }
    }
}

impl ItemText {
    /// The parts as a chat names them.
    fn into_content(self) -> Content {
        let parts = match self {
            Self::Text(text) => return Content::Text(text),
            Self::Parts(parts) => parts,
        };
        let rename = |mut part: Part| {
            if matches!(part.kind.as_str(), "input_text" | "output_text") {
                part.kind = "text".into();
                // What an earlier answer carries back beside its text.
                part.others.retain(|field, _| !matches!(field.as_str(), "annotations" | "logprobs"));
            }
            part
        };
        Content::Parts(parts.into_iter().map(rename).collect())
    }
}

fn tools(tools: &[Value]) -> Result<Vec<Tool>, HttpError> {
    let tool = |(idx, tool): (usize, &Value)| {
        let path = format!("tools[{idx}]");
        expect_function(tool, &path)?;
        let FunctionTool { name, description, parameters, strict, .. } = parse_value(tool, &path)?;
        let parameters = parameters.filter(|parameters| !parameters.is_null());
        let function = ToolFunction { name, description, parameters, _strict: strict };
        Ok(Tool { _kind: FunctionWord::Function, function })
    };
    tools.iter().enumerate().map(tool).collect()
}

fn tool_choice(choice: &Value) -> Result<ToolChoice, HttpError> {
    const PARAM: &str = "tool_choice";
    if choice.is_string() {
        return parse_value::<ToolMode>(choice, PARAM).map(ToolChoice::Mode);
    }
    expect_function(choice, PARAM)?;
    let ChosenFunction { name, .. } = parse_value(choice, PARAM)?;
    Ok(ToolChoice::Named(NamedTool { _kind: FunctionWord::Function, function: NamedFunction { name } }))
}

fn expect_function(value: &Value, path: &str) -> Result<(), HttpError> {
    match value.get("type").and_then(Value::as_str) {
        Some("function") => Ok(()),
        Some(other) => {
            let reason = format!("there is no `{other}` here; the type is `function`");
            Err(HttpError::unsupported(format!("{path}.type"), reason))
        }
        None if value.is_object() => Err(HttpError::MissingParameter { param: format!("{path}.type") }),
        None => Err(HttpError::InvalidType { param: path.into(), reason: "expected an object".into() }),
    }
}

fn response_format(text: &Value) -> Result<Option<ResponseFormat>, HttpError> {
    const PARAM: &str = "text.format";
    let TextField { format, verbosity } = parse_value(text, "text")?;
    if verbosity.is_some_and(|verbosity| !verbosity.is_null()) {
        return Err(HttpError::unsupported("text.verbosity", "it has no effect on a model like this; leave it out"));
    }
    let Some(FormatField { kind, name, schema, strict, description }) = format else { return Ok(None) };
    let missing = |field: &str| HttpError::MissingParameter { param: format!("{PARAM}.{field}") };
    let (kind, schema) = match (kind, schema) {
        (FormatKind::JsonSchema, Some(schema)) => {
            let name = name.ok_or_else(|| missing("name"))?;
            let schema = JsonSchemaFormat { name, schema, _strict: strict, _description: description };
            (ResponseFormatKind::JsonSchema, Some(schema))
        }
        (FormatKind::JsonSchema, None) => return Err(missing("schema")),
        (_, Some(_)) => {
            return Err(HttpError::invalid_value(format!("{PARAM}.schema"), "only goes with `type: json_schema`"));
        }
        (FormatKind::Text, None) => (ResponseFormatKind::Text, None),
        (FormatKind::JsonObject, None) => (ResponseFormatKind::JsonObject, None),
    };
    Ok(Some(ResponseFormat::new(kind, schema)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> Result<(ChatRequest, Places), HttpError> {
        chat(&mut serde_json::from_value(value).expect("well-formed"))
    }

    #[test]
    fn items_become_the_messages_of_a_chat() {
        let (request, places) = read(json!({
            "instructions": "Be brief.",
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": "1+2?"}]},
                {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant",
                 "content": [{"type": "output_text", "text": "Let me see.", "annotations": [], "logprobs": []}]},
                {"type": "function_call", "id": "fc_1", "call_id": "a", "name": "add", "arguments": "{}", "status": "completed"},
                {"type": "function_call_output", "call_id": "a", "output": "3"}
            ],
            "tools": [], "tool_choice": "auto", "parallel_tool_calls": true
        }))
        .expect("good");
        let roles: Vec<Role> = request.messages.iter().map(|message| message.role).collect();
        assert_eq!(roles, [Role::System, Role::User, Role::Assistant, Role::Tool]);
        let calls = request.messages[2].tool_calls.as_ref().expect("a call");
        assert_eq!((calls[0].id.as_str(), calls[0].function.name.as_str()), ("a", "add"));
        assert!(request.tools.is_none());
        for (chat, ours) in [
            ("messages[1].content[0].type", "input[0].content[0].type"),
            ("messages[3].tool_call_id", "input[3].call_id"),
            ("messages[0].content", "instructions"),
            ("tools[2].function.parameters", "tools[2].parameters"),
            ("tool_choice.function.name", "tool_choice.name"),
            ("response_format.json_schema.schema.properties.a", "text.format.schema.properties.a"),
            ("max_tokens", "max_output_tokens"),
            ("temperature", "temperature"),
        ] {
            assert_eq!(places.path(chat), ours);
        }
    }

    #[test]
    fn what_is_not_offered_is_named() {
        for (fields, param) in [
            (json!({"previous_response_id": "resp_1"}), "previous_response_id"),
            (json!({"store": true}), "store"),
            (json!({"background": true}), "background"),
            (json!({"include": ["reasoning.encrypted_content"]}), "include"),
            (json!({"truncation": "auto"}), "truncation"),
            (json!({"tools": [{"type": "web_search"}]}), "tools[0].type"),
            (json!({"tool_choice": {"type": "allowed_tools"}}), "tool_choice.type"),
            (json!({"text": {"verbosity": "low"}}), "text.verbosity"),
            (json!({"text": {"format": {"type": "json_schema", "name": "a"}}}), "text.format.schema"),
            (json!({"input": [{"type": "reasoning", "summary": []}]}), "input[0].type"),
            (json!({"input": [{"role": "tool", "content": "x"}]}), "input[0].role"),
            (json!({"input": []}), "input"),
        ] {
            let mut request = json!({"input": "x"});
            request.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
            let wire = serde_json::to_value(read(request).expect_err(param).body()).expect("errors serialize");
            assert_eq!(wire["error"]["param"], param);
        }
    }
}
