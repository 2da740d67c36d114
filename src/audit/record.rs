//! What lines say: the events, and how they become the members of a line.

use std::{
    borrow::Cow,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::Serialize;

use super::PromptPolicy;

/// Bytes of prompt text in one record, under [`PromptPolicy::Text`]; what is over is left out and marked.
const PROMPT_TEXT_BYTES_MAX: usize = 1 << 20;
/// Bytes of a name that a client or a model brings.
const NAME_BYTES_MAX: usize = 256;

/// What a line records.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Event<'a> {
    /// The first line of a segment; its `prev` is the head of the segment before.
    Segment {
        segment: u64,
        format: u32,
        key_id: &'a str,
    },
    /// A server began to write.
    Open {
        ananke_version: &'static str,
        prompts: &'static str,
        fsync: &'static str,
        /// How the log ended before: `new`, `closed`, or `killed` where no closing checkpoint was written.
        after: &'static str,
    },
    /// A torn last line was taken away.
    Recovered {
        cut_bytes: u64,
    },
    Request(&'a Request),
    Reply(&'a Reply),
    Refused(&'a Refusal),
    /// Refusals that were too many to be written down one by one, and no other came after them.
    Omitted {
        refusals: u64,
    },
    /// Requests that were answered with 503 because this log could not take them.
    Unavailable {
        refused: u64,
    },
    /// What the chain has come to.
    Checkpoint {
        records: u64,
        head: String,
        reason: CheckpointReason,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum CheckpointReason {
    Interval,
    Rotation,
    Close,
}

/// The version of the lines' form.
pub(super) const FORMAT: u32 = 1;

impl Event<'_> {
    /// The members of a line after `prev`, without braces, with the time of now.
    pub(super) fn members(&self) -> String {
        #[derive(Serialize)]
        struct Timed<'a> {
            time_ms: u64,
            #[serde(flatten)]
            event: &'a Event<'a>,
        }
        let time_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        let json = serde_json::to_string(&Timed { time_ms, event: self }).expect("events are plain data");
        json[1..json.len() - 1].to_owned()
    }
}

/// A request, before anything is generated for it.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Request {
    /// As in the reply's `x-request-id`.
    pub(crate) id: String,
    pub(crate) endpoint: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) client: Option<String>,
    pub(crate) model: String,
    pub(crate) prompts: Vec<PromptRecord>,
    /// Digests of the IRs that came with it.
    pub(crate) constraints: Vec<String>,
    /// BLAKE3 of the source code in `context`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) context: Option<String>,
    pub(crate) num_choices: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_tokens: Option<u32>,
}

impl Request {
    /// Names that a client chose, cut to their bound.
    pub(super) fn bounded(mut self) -> Self {
        for name in [&mut self.endpoint, &mut self.model].into_iter().chain(&mut self.client) {
            name.truncate(name.floor_char_boundary(NAME_BYTES_MAX));
        }
        self
    }
}

/// What is kept of a prompt.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct PromptRecord {
    /// Of the text in UTF-8, or of the token ids as 32-bit little-endian numbers.
    blake3: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// The text is longer than what is kept of it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    text_cut: bool,
}

/// A prompt as it came.
pub(crate) enum PromptSource<'a> {
    Text(Cow<'a, str>),
    Tokens(&'a [u32]),
}

impl PromptRecord {
    /// The records of all prompts of a request.
    pub(crate) fn all<'a>(policy: PromptPolicy, prompts: impl IntoIterator<Item = PromptSource<'a>>) -> Vec<Self> {
        let mut room = match policy {
            PromptPolicy::Hash => None,
            PromptPolicy::Text => Some(PROMPT_TEXT_BYTES_MAX),
        };
        prompts.into_iter().map(|prompt| Self::new(&prompt, room.as_mut())).collect()
    }

    fn new(prompt: &PromptSource<'_>, room: Option<&mut usize>) -> Self {
        let (bytes, tokens, text): (Cow<'_, [u8]>, _, _) = match prompt {
            PromptSource::Text(text) => (text.as_bytes().into(), None, text.clone()),
            PromptSource::Tokens(ids) => {
                let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
                let text = if room.is_some() { format!("{ids:?}") } else { String::new() };
                (bytes.into(), Some(ids.len()), text.into())
            }
        };
        let mut record = Self {
            blake3: hash_of(&bytes),
            bytes: tokens.is_none().then_some(bytes.len()),
            tokens,
            text: None,
            text_cut: false,
        };
        if let Some(room) = room {
            let kept = &text[..text.floor_char_boundary(*room)];
            *room -= kept.len();
            record.text_cut = kept.len() < text.len();
            record.text = Some(kept.to_owned());
        }
        record
    }
}

/// BLAKE3 as 64 hex digits.
pub(crate) fn hash_of(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// A request that was answered with an error before it was admitted.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Refusal {
    /// As in the reply's `x-request-id`.
    pub(crate) id: String,
    /// The route, `unmatched` for a path that is none.
    pub(crate) endpoint: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) client: Option<String>,
    /// The HTTP status.
    pub(crate) status: u16,
    /// The error's code.
    pub(crate) code: &'static str,
    /// Refusals before this one that were too many to be written down.
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) omitted: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// How a request ended.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Reply {
    /// As in the request's record.
    pub(crate) id: String,
    pub(crate) status: ReplyStatus,
    /// The error's code, of what was refused or failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<String>,
    pub(crate) ms: u64,
    pub(crate) num_prompt_tokens: u32,
    /// Tokens of the choices that ended.
    pub(crate) num_tokens: u32,
    /// Bytes of text that were given to the connection.
    pub(crate) text_bytes: u64,
    /// Digests of the IRs that were enforced, in order; known once a choice has ended.
    pub(crate) constraints: Vec<String>,
    /// The choices that ended.
    pub(crate) choices: Vec<ChoiceRecord>,
}

/// How far it got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ReplyStatus {
    /// Every choice ended.
    Complete,
    /// It was admitted, and then found wrong, or there was no room; nothing was generated.
    Refused,
    /// An error on the way.
    Failed,
    /// The client left, or the server stopped, before the end.
    #[default]
    Dropped,
}

/// The end of a choice.
#[derive(Debug, Serialize)]
pub(crate) struct ChoiceRecord {
    pub(crate) index: u32,
    pub(crate) finish_reason: &'static str,
    pub(crate) num_tokens: u32,
    pub(crate) all_satisfied: bool,
    /// How many verdicts of each kind.
    pub(crate) verdicts: std::collections::BTreeMap<&'static str, u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_is_hashed_and_its_text_kept_only_when_asked() {
        let source = || [PromptSource::Text("naïve".into()), PromptSource::Tokens(&[1, 256])];
        let hashed = PromptRecord::all(PromptPolicy::Hash, source());
        assert_eq!(hashed[0].blake3, blake3::hash("naïve".as_bytes()).to_hex().as_str());
        assert_eq!(hashed[1].blake3, blake3::hash(&[1, 0, 0, 0, 0, 1, 0, 0]).to_hex().as_str());
        let json = serde_json::to_string(&hashed).expect("plain data");
        assert!(!json.contains("naïve") && !json.contains("256"), "{json}");
        let kept = PromptRecord::all(PromptPolicy::Text, source());
        assert_eq!((kept[0].text.as_deref(), kept[1].text.as_deref()), (Some("naïve"), Some("[1, 256]")));
    }

    #[test]
    fn kept_text_is_bounded_over_all_prompts_of_a_request() {
        let long = "é".repeat(PROMPT_TEXT_BYTES_MAX);
        let prompts = ["ab", &long, "c"].map(|text| PromptSource::Text(text.into()));
        let kept = PromptRecord::all(PromptPolicy::Text, prompts);
        let lens: Vec<_> = kept.iter().map(|record| record.text.as_ref().map_or(0, String::len)).collect();
        assert_eq!(lens.iter().sum::<usize>(), PROMPT_TEXT_BYTES_MAX);
        assert_eq!(kept.iter().map(|record| record.text_cut).collect::<Vec<_>>(), [false, true, true]);
        assert_eq!(kept[1].bytes, Some(long.len()));
    }
}
