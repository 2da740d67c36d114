//! Tools: how the model is told of them, what binds its calls, and how calls are read from its answer.
//!
//! A call is written in the answer's text as
//!
//! ```text
//! <tool_call>
//! {"name": "NAME", "arguments": ARGUMENTS}
//! </tool_call>
//! ```
//!
//! the form that Hermes and Qwen models were trained on. It is the convention for every model here: the functions are
//! listed in the system message with these words, earlier calls and their results are shown in the same form, and the
//! answer is bound by [`Regions`]: a call begins with exactly these bytes for a function that exists, its arguments are
//! valid under that function's schema, and it ends with exactly those bytes. So reading a call is no guess.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::super::error::HttpError;
use super::wire::{NamedTool, Tool, ToolChoice, ToolFunction, ToolMode};
use crate::maze::{ConstraintIr, FreeText, Regions, Structure};

/// Functions of one request; each is a structure of the grammar that binds the answer. OpenAI's own limit.
const TOOLS_MAX: usize = 128;
/// Bytes of a function's name. OpenAI's own limit.
const NAME_BYTES_MAX: usize = 64;

const CALL_BEGIN: &str = "<tool_call>";
const CALL_END: &str = "}\n</tool_call>";

/// What comes before a call's arguments.
fn begin_of(name: &str) -> String {
    format!("{CALL_BEGIN}\n{{\"name\": \"{name}\", \"arguments\": ")
}

/// A call as it stands in a text.
pub(crate) fn call_text(name: &str, arguments: &str) -> String {
    format!("{}{arguments}{CALL_END}", begin_of(name))
}

/// A function's result as it is shown to the model.
pub(crate) fn result_text(content: &str) -> String {
    format!("<tool_response>\n{content}\n</tool_response>")
}

/// The tools of a request that may be called.
#[derive(Clone, Debug)]
pub(crate) struct Tools {
    functions: Vec<Function>,
    /// Whether the answer is calls and nothing else.
    is_required: bool,
    /// Whether the answer ends after its first call.
    is_single: bool,
}

#[derive(Clone, Debug)]
struct Function {
    name: String,
    description: Option<String>,
    parameters: Value,
    /// Whether `tool_choice` leaves it.
    is_chosen: bool,
}

impl Tools {
    /// The tools that a request offers; `None` where it offers none, or says that none is to be called.
    ///
    /// # Errors
    /// A name that is no name or is given twice, too many functions, or a `tool_choice` of what is not there.
    pub(crate) fn new(
        tools: Option<Vec<Tool>>,
        choice: Option<ToolChoice>,
        parallel: Option<bool>,
    ) -> Result<Option<Self>, HttpError> {
        let tools = tools.unwrap_or_default();
        if tools.is_empty() {
            return match (choice, parallel) {
                (None | Some(ToolChoice::Mode(ToolMode::None)), None) => Ok(None),
                (Some(_), _) => Err(HttpError::invalid_value("tool_choice", "only goes with `tools`")),
                (None, Some(_)) => Err(HttpError::invalid_value("parallel_tool_calls", "only goes with `tools`")),
            };
        }
        if tools.len() > TOOLS_MAX {
            let reason = format!("{} functions are given; at most {TOOLS_MAX} are taken", tools.len());
            return Err(HttpError::invalid_value("tools", reason));
        }
        let mut known = BTreeSet::new();
        for (idx, tool) in tools.iter().enumerate() {
            let name = &tool.function.name;
            let is_name = (1..=NAME_BYTES_MAX).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
            if !is_name || !known.insert(name.as_str()) {
                let reason = match is_name {
                    true => format!("`{name}` is given more than once"),
                    false => format!("a name is 1 to {NAME_BYTES_MAX} letters, digits, `_` and `-`"),
                };
                return Err(HttpError::invalid_value(format!("tools[{idx}].function.name"), reason));
            }
        }
        let chosen = match &choice {
            Some(ToolChoice::Named(NamedTool { function, .. })) => Some(function.name.clone()),
            Some(ToolChoice::Mode(_)) | None => None,
        };
        if let Some(name) = chosen.as_ref().filter(|name| !known.contains(name.as_str())) {
            let reason = format!("`{name}` is none of the functions in `tools`");
            return Err(HttpError::invalid_value("tool_choice.function.name", reason));
        }
        if matches!(choice, Some(ToolChoice::Mode(ToolMode::None))) {
            return Ok(None);
        }
        let function = |tool: Tool| {
            let ToolFunction { name, description, parameters, .. } = tool.function;
            let is_chosen = chosen.as_ref().is_none_or(|chosen| *chosen == name);
            let nothing = || json!({"type": "object", "properties": {}, "additionalProperties": false});
            Function { name, description, parameters: parameters.unwrap_or_else(nothing), is_chosen }
        };
        Ok(Some(Self {
            is_required: chosen.is_some() || matches!(choice, Some(ToolChoice::Mode(ToolMode::Required))),
            is_single: chosen.is_some() || parallel == Some(false),
            functions: tools.into_iter().map(function).collect(),
        }))
    }

    /// What the system message says of them.
    pub(crate) fn prompt(&self) -> String {
        let mut text = String::from("You may call these functions:\n");
        for Function { name, description, parameters, .. } in &self.functions {
            let mut shown = json!({"name": name});
            if let Some(description) = description {
                shown["description"] = json!(description);
            }
            shown["parameters"] = parameters.clone();
            text.push_str(&format!("{shown}\n"));
        }
        text.push_str("To call one, write exactly this, with the function's name and its arguments as JSON:\n");
        text.push_str(&format!("{CALL_BEGIN}\n{{\"name\": NAME, \"arguments\": ARGUMENTS{CALL_END}"));
        text
    }

    /// What binds the answer; the index of a structure is that of its function among the chosen ones.
    pub(crate) fn ir(&self) -> ConstraintIr {
        let structures = self.chosen().map(|function| Structure {
            begin: begin_of(&function.name),
            end: CALL_END.into(),
            json_schema: Some(function.parameters.clone()),
            ..Structure::default()
        });
        let regions = Regions {
            triggers: if self.is_required { Vec::new() } else { vec![CALL_BEGIN.into()] },
            structures: structures.collect(),
            free_text: if self.is_required { FreeText::None } else { FreeText::Anywhere },
            at_least_one: self.is_required,
            stop_after_first: self.is_single,
        };
        ConstraintIr { name: "tools".into(), regions: Some(regions), ..ConstraintIr::default() }
    }

    /// A reader of one answer.
    pub(crate) fn reader(&self) -> CallReader {
        let begins = self.chosen().map(|function| (function.name.clone(), begin_of(&function.name))).collect();
        CallReader { begins, held: String::new(), is_inside: false, num_calls: 0 }
    }

    /// Where the chosen functions stand in `tools`, in the order of the structures.
    pub(crate) fn places(&self) -> Vec<usize> {
        self.functions.iter().enumerate().filter(|(_, function)| function.is_chosen).map(|(idx, _)| idx).collect()
    }

    fn chosen(&self) -> impl Iterator<Item = &Function> {
        self.functions.iter().filter(|function| function.is_chosen)
    }
}

/// What is new in an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Text outside calls.
    Content(String),
    /// A call begins, the `index`-th of the answer.
    Begin { index: u32, name: String },
    /// More of that call's arguments.
    Arguments { index: u32, text: String },
}

/// Takes an answer apart as it comes, into text and calls.
///
/// What may be the beginning of a call, or of its end, is held back until it is decided.
#[derive(Clone, Debug)]
pub(crate) struct CallReader {
    /// Names, and what their calls begin with. No beginning starts another: a name ends with its quote.
    begins: Vec<(String, String)>,
    held: String,
    is_inside: bool,
    num_calls: u32,
}

impl CallReader {
    /// Calls that have begun.
    pub(crate) fn num_calls(&self) -> u32 {
        self.num_calls
    }

    /// Whether a call has begun and not ended.
    pub(crate) fn is_inside(&self) -> bool {
        self.is_inside
    }

    /// More of the answer.
    pub(crate) fn push(&mut self, text: &str) -> Vec<Piece> {
        self.held.push_str(text);
        let mut pieces = Vec::new();
        while self.step(&mut pieces) {}
        pieces
    }

    /// The end of the answer: what was held back is what it looks like.
    pub(crate) fn finish(&mut self) -> Vec<Piece> {
        let rest = std::mem::take(&mut self.held);
        self.give(rest).into_iter().collect()
    }

    /// Decides as much as can be; true when a call has begun or ended and there may be more.
    fn step(&mut self, pieces: &mut Vec<Piece>) -> bool {
        let mark = if self.is_inside { CALL_END } else { CALL_BEGIN };
        let Some(at) = self.held.find(mark) else {
            let keep = overlap(&self.held, mark);
            let rest = self.held.split_off(self.held.len() - keep);
            let known = std::mem::replace(&mut self.held, rest);
            pieces.extend(self.give(known));
            return false;
        };
        if self.is_inside {
            let rest = self.held.split_off(at + CALL_END.len());
            self.held.truncate(at);
            let arguments = std::mem::replace(&mut self.held, rest);
            pieces.extend(self.give(arguments));
            self.is_inside = false;
            return true;
        }
        let after = self.held.split_off(at);
        let before = std::mem::replace(&mut self.held, after);
        pieces.extend(self.give(before));
        let begun = self.begins.iter().find(|(_, begin)| self.held.starts_with(begin.as_str())).cloned();
        if let Some((name, begin)) = begun {
            self.held.drain(..begin.len());
            self.is_inside = true;
            pieces.push(Piece::Begin { index: self.num_calls, name });
            self.num_calls += 1;
            return true;
        }
        if self.begins.iter().any(|(_, begin)| begin.starts_with(self.held.as_str())) {
            return false;
        }
        // Not a call of ours: an answer that nothing bound could hold this.
        let mark: String = self.held.drain(..CALL_BEGIN.len()).collect();
        pieces.push(Piece::Content(mark));
        true
    }

    fn give(&self, text: String) -> Option<Piece> {
        if text.is_empty() {
            return None;
        }
        Some(match self.is_inside {
            true => Piece::Arguments { index: self.num_calls - 1, text },
            false => Piece::Content(text),
        })
    }
}

/// Bytes at the end of `text` that `mark` begins with.
fn overlap(text: &str, mark: &str) -> usize {
    (1..mark.len()).rev().find(|&len| text.ends_with(&mark[..len])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tools(choice: Value, parallel: Option<bool>) -> Result<Option<Tools>, HttpError> {
        let tools = json!([
            {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {
                "type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": false}}},
            {"type": "function", "function": {"name": "add_all"}}
        ]);
        let tools = serde_json::from_value(tools).expect("well-formed");
        Tools::new(Some(tools), serde_json::from_value(choice).expect("well-formed"), parallel)
    }

    fn read_split(text: &str, split: &[usize]) -> (Vec<Piece>, u32) {
        let mut reader = tools(json!("auto"), None).expect("good").expect("offered").reader();
        let mut pieces = Vec::new();
        let mut from = 0;
        for &to in split {
            pieces.extend(reader.push(&text[from..to]));
            from = to;
        }
        pieces.extend(reader.push(&text[from..]));
        pieces.extend(reader.finish());
        (merged(pieces), reader.num_calls())
    }

    /// Neighbours of one kind as one.
    fn merged(pieces: Vec<Piece>) -> Vec<Piece> {
        let mut all: Vec<Piece> = Vec::new();
        for piece in pieces {
            match (all.last_mut(), piece) {
                (Some(Piece::Content(before)), Piece::Content(more)) => before.push_str(&more),
                (Some(Piece::Arguments { text, .. }), Piece::Arguments { text: more, .. }) => text.push_str(&more),
                (_, piece) => all.push(piece),
            }
        }
        all
    }

    #[test]
    fn an_answer_is_taken_apart_however_it_is_split() {
        let text = format!("é <b {}\n{}!", call_text("add", r#"{"a": 1}"#), call_text("add_all", "{}"));
        let expected = vec![
            Piece::Content("é <b ".into()),
            Piece::Begin { index: 0, name: "add".into() },
            Piece::Arguments { index: 0, text: r#"{"a": 1}"#.into() },
            Piece::Content("\n".into()),
            Piece::Begin { index: 1, name: "add_all".into() },
            Piece::Arguments { index: 1, text: "{}".into() },
            Piece::Content("!".into()),
        ];
        let places: Vec<usize> = (0..=text.len()).filter(|&at| text.is_char_boundary(at)).collect();
        for &first in &places {
            assert_eq!(read_split(&text, &[first]), (expected.clone(), 2), "split at {first}");
        }
        assert_eq!(read_split(&text, &places), (expected, 2));
    }

    #[test]
    fn nothing_of_an_answer_that_is_cut_off_is_lost() {
        let call = call_text("add", r#"{"a": 12}"#);
        for end in (0..=call.len()).filter(|&at| call.is_char_boundary(at)) {
            let (pieces, num_calls) = read_split(&call[..end], &[]);
            let begin = begin_of("add").len();
            match end {
                0 => assert!(pieces.is_empty()),
                end if end < begin => assert_eq!(pieces, [Piece::Content(call[..end].into())]),
                _ => assert_eq!((pieces[0].clone(), num_calls), (Piece::Begin { index: 0, name: "add".into() }, 1)),
            }
        }
        assert_eq!(read_split("<tool_call>x", &[]).0, [Piece::Content("<tool_call>x".into())]);
    }

    #[test]
    fn the_choice_of_tools_is_what_binds() {
        let of =
            |choice, parallel| tools(choice, parallel).expect("good").map(|tools| tools.ir().regions.expect("regions"));
        let auto = of(json!("auto"), None).expect("offered");
        assert_eq!((auto.free_text, auto.structures.len(), auto.at_least_one), (FreeText::Anywhere, 2, false));
        let required = of(json!("required"), Some(false)).expect("offered");
        assert_eq!(
            (required.free_text, required.at_least_one, required.stop_after_first),
            (FreeText::None, true, true)
        );
        let named = of(json!({"type": "function", "function": {"name": "add_all"}}), None).expect("offered");
        assert_eq!((named.structures.len(), named.stop_after_first), (1, true));
        assert_eq!(named.structures[0].begin, begin_of("add_all"));
        assert_eq!(of(json!("none"), None), None);
    }

    #[test]
    fn what_is_wrong_with_tools_is_named() {
        let error = |tools: Value, choice: Value| {
            let tools = serde_json::from_value(tools).expect("well-formed");
            let error = Tools::new(tools, serde_json::from_value(choice).expect("well-formed"), None).expect_err("bad");
            serde_json::to_value(error.body()).expect("errors serialize")["error"]["param"].clone()
        };
        let tool = |name: &str| json!({"type": "function", "function": {"name": name}});
        assert_eq!(error(json!([tool("a"), tool("a")]), Value::Null), "tools[1].function.name");
        assert_eq!(error(json!([tool("a b")]), Value::Null), "tools[0].function.name");
        assert_eq!(error(json!([tool(&"a".repeat(65))]), Value::Null), "tools[0].function.name");
        assert_eq!(error(json!(vec![tool("a"); 129]), Value::Null), "tools");
        assert_eq!(error(Value::Null, json!("required")), "tool_choice");
        assert_eq!(error(json!([tool("a")]), tool("b")), "tool_choice.function.name");
    }
}
