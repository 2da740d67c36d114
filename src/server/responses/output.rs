//! From the pieces of an answer to the items of a response, and the events that tell of them.
//!
//! Text is a message, a call is an item of its own, and an item is done when the next one begins. Line breaks and spaces
//! between calls are no message.

use super::super::chat::Piece;
use super::wire::{Item, OutputText, What};

/// An event without its number.
pub(super) type Told = (&'static str, What);

/// The items of one answer, as far as it has come.
#[derive(Debug)]
pub(super) struct Output {
    /// What the ids of its items have in common.
    key: String,
    items: Vec<Item>,
    /// Whether the last item is still being written.
    is_open: bool,
    /// White space that belongs to the next text, if there is one.
    blank: String,
}

impl Output {
    pub(super) fn new(key: &str) -> Self {
        Self { key: key.to_owned(), items: Vec::new(), is_open: false, blank: String::new() }
    }

    /// Takes in a piece.
    pub(super) fn push(&mut self, piece: Piece) -> Vec<Told> {
        let mut events = Vec::new();
        match piece {
            Piece::Content(text) => self.push_text(text, &mut events),
            Piece::Begin { index, name } => {
                self.close("completed", &mut events);
                self.blank.clear();
                let (id, call_id) = (self.next_id("fc"), format!("call_{}-{index}", self.key));
                let item = Item::FunctionCall { id, status: "in_progress", call_id, name, arguments: String::new() };
                self.open(item, &mut events);
            }
            Piece::Arguments { text, .. } => {
                let output_index = self.items.len().saturating_sub(1);
                if let Some(Item::FunctionCall { id, arguments, .. }) = self.items.last_mut() {
                    arguments.push_str(&text);
                    let what = What::ArgumentsDelta { item_id: id.clone(), output_index, delta: text };
                    events.push(("response.function_call_arguments.delta", what));
                }
            }
        }
        events
    }

    /// The end of the answer; an answer of nothing is an empty message.
    pub(super) fn finish(&mut self, is_complete: bool) -> Vec<Told> {
        let mut events = Vec::new();
        if self.items.is_empty() {
            let blank = std::mem::take(&mut self.blank);
            self.open_message(&mut events);
            self.write(blank, &mut events);
        }
        self.close(if is_complete { "completed" } else { "incomplete" }, &mut events);
        events
    }

    /// The items so far.
    pub(super) fn items(&self) -> &[Item] {
        &self.items
    }

    fn push_text(&mut self, text: String, events: &mut Vec<Told>) {
        let is_in_message = self.is_open && matches!(self.items.last(), Some(Item::Message { .. }));
        if is_in_message {
            return self.write(text, events);
        }
        self.blank.push_str(&text);
        if !self.blank.trim().is_empty() {
            let text = std::mem::take(&mut self.blank);
            self.close("completed", events);
            self.open_message(events);
            self.write(text, events);
        }
    }

    fn open_message(&mut self, events: &mut Vec<Told>) {
        let id = self.next_id("msg");
        let item = Item::Message { id: id.clone(), status: "in_progress", role: "assistant", content: Vec::new() };
        self.open(item, events);
        let output_index = self.items.len() - 1;
        let part = OutputText::new(String::new());
        if let Some(Item::Message { content, .. }) = self.items.last_mut() {
            content.push(part.clone());
        }
        let what = What::Part { item_id: id, output_index, content_index: 0, part };
        events.push(("response.content_part.added", what));
    }

    fn open(&mut self, item: Item, events: &mut Vec<Told>) {
        self.items.push(item.clone());
        self.is_open = true;
        events.push(("response.output_item.added", What::Item { output_index: self.items.len() - 1, item }));
    }

    fn write(&mut self, delta: String, events: &mut Vec<Told>) {
        let output_index = self.items.len().saturating_sub(1);
        let Some(Item::Message { id, content, .. }) = self.items.last_mut() else { return };
        if let Some(part) = content.first_mut().filter(|_| !delta.is_empty()) {
            part.text.push_str(&delta);
            let item_id = id.clone();
            let what = What::TextDelta { item_id, output_index, content_index: 0, delta, logprobs: [] };
            events.push(("response.output_text.delta", what));
        }
    }

    /// Ends the item that is being written, if there is one.
    fn close(&mut self, end: &'static str, events: &mut Vec<Told>) {
        if !std::mem::take(&mut self.is_open) {
            return;
        }
        let output_index = self.items.len() - 1;
        let item = &mut self.items[output_index];
        match item {
            Item::Message { id, status, content, .. } => {
                *status = end;
                for (content_index, part) in content.iter().enumerate() {
                    let (item_id, text) = (id.clone(), part.text.clone());
                    let what = What::Text { item_id: item_id.clone(), output_index, content_index, text, logprobs: [] };
                    events.push(("response.output_text.done", what));
                    let what = What::Part { item_id, output_index, content_index, part: part.clone() };
                    events.push(("response.content_part.done", what));
                }
            }
            Item::FunctionCall { id, status, name, arguments, .. } => {
                *status = end;
                let (item_id, name, arguments) = (id.clone(), name.clone(), arguments.clone());
                let what = What::Arguments { item_id, output_index, name, arguments };
                events.push(("response.function_call_arguments.done", what));
            }
        }
        events.push(("response.output_item.done", What::Item { output_index, item: item.clone() }));
    }

    fn next_id(&self, kind: &str) -> String {
        format!("{kind}_{}-{}", self.key, self.items.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tell(pieces: Vec<Piece>, is_complete: bool) -> (Vec<&'static str>, Vec<Item>) {
        let mut output = Output::new("0");
        let mut events: Vec<Told> = pieces.into_iter().flat_map(|piece| output.push(piece)).collect();
        events.extend(output.finish(is_complete));
        (events.into_iter().map(|(kind, _)| kind).collect(), output.items().to_vec())
    }

    fn text(text: &str) -> Piece {
        Piece::Content(text.into())
    }

    #[test]
    fn text_and_calls_are_items_and_what_is_between_calls_is_not() {
        let call = |index: u32| {
            let (name, text) = (String::from("f"), String::from("{}"));
            [Piece::Begin { index, name }, Piece::Arguments { index, text }]
        };
        let pieces = [vec![text("a"), text(" b")], call(0).into(), vec![text("\n")], call(1).into(), vec![text("\n")]];
        let (kinds, items) = tell(pieces.concat(), true);
        assert_eq!(items.len(), 3);
        assert!(matches!(&items[0], Item::Message { content, .. } if content[0].text == "a b"));
        let calls = |item: &Item| matches!(item, Item::FunctionCall { status: "completed", arguments, .. } if arguments == "{}");
        assert!(items[1..].iter().all(calls));
        let of_call = [
            "response.output_item.added",
            "response.function_call_arguments.delta",
            "response.function_call_arguments.done",
            "response.output_item.done",
        ];
        let of_text = [
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
        ];
        assert_eq!(kinds, [&of_text[..], &of_call, &of_call].concat());
    }

    #[test]
    fn white_space_before_text_is_kept_and_an_empty_answer_is_a_message() {
        let message = |pieces| match &tell(pieces, false).1[..] {
            [Item::Message { content, status: "incomplete", .. }] => content[0].text.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!(message(vec![text("\n "), text("x")]), "\n x");
        assert_eq!(message(vec![text("\n ")]), "\n ");
        assert_eq!(message(Vec::new()), "");
    }
}
