//! Regions: constraints that bind only parts of an output, with free text around them.
//!
//! A chatty answer with a fenced code block, a tool call in the middle of prose, the text after a marker: each is a
//! [`Structure`] between a `begin` and an `end`, entered where a trigger appears in free text.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Grammar, IrError, RegexPattern};

/// Which parts of the output are bound, each by what.
///
/// The output is free text and structures in turns. Free text is read from its beginning, which is the beginning of the
/// output or the end of a structure; where the first trigger appears in it, the free text ends and one of the
/// structures whose `begin` starts with that trigger follows, begun by those very bytes. So free text never contains a
/// trigger, and a trigger that is not followed by the rest of a `begin` is not written. Inside a structure triggers
/// mean nothing. Free text is UTF-8, like everything a structure holds.
///
/// ```json
/// {"triggers": ["```json\n"], "structures": [{"begin": "```json\n", "json_schema": {"type": "object"}, "end": "\n```"}]}
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Regions {
    /// Texts that end free text. None lies inside another, and each starts the `begin` of some structure. Empty exactly
    /// where `free_text` is `none`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub triggers: Vec<String>,
    /// What may stand in the output besides free text; at least one. No `begin` starts another.
    pub structures: Vec<Structure>,
    /// Where free text may stand.
    #[serde(default, skip_serializing_if = "FreeText::is_default")]
    pub free_text: FreeText,
    /// Whether the output holds a structure at all; without it, free text alone is an output, and so is nothing.
    #[serde(default, skip_serializing_if = "is_false")]
    pub at_least_one: bool,
    /// Whether the output ends where its first structure does.
    #[serde(default, skip_serializing_if = "is_false")]
    pub stop_after_first: bool,
}

/// `begin`, the content, `end`. Exactly one of `json_schema`, `grammar`, `regex` and `text` is given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Structure {
    /// The bytes that open it, not empty; with triggers, it starts with one of them.
    pub begin: String,
    /// The bytes that close it; empty: it runs to the end of the output. The content must not leave open where it
    /// ends: what could be read in two ways is refused.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub end: String,
    /// The content is one JSON document valid under this schema. Properties are generated in the schema's order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json_schema: Option<Value>,
    /// The content is a sentence of this grammar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grammar: Option<Grammar>,
    /// The whole content matches; anchors speak of the content's ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regex: Option<RegexPattern>,
    /// The content is any text, up to the first `end`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub text: bool,
}

/// What binds the content of a [`Structure`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Content<'a> {
    /// A document valid under this schema.
    JsonSchema(&'a Value),
    /// A sentence of this grammar.
    Grammar(&'a Grammar),
    /// A match of this pattern.
    Regex(&'a RegexPattern),
    /// Any text that does not contain the `end`.
    Text,
}

/// Where free text may stand among the structures of [`Regions`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FreeText {
    /// Before, between and behind them.
    #[default]
    Anywhere,
    /// Between and behind them: an output that is not empty begins with a structure.
    AfterFirst,
    /// Nowhere: structure follows structure.
    None,
}

impl FreeText {
    fn is_default(&self) -> bool {
        *self == Self::Anywhere
    }
}

impl Structure {
    /// What binds the content; `None` unless exactly one field says so.
    #[must_use]
    pub fn content(&self) -> Option<Content<'_>> {
        let mut stated = [
            self.json_schema.as_ref().map(Content::JsonSchema),
            self.grammar.as_ref().map(Content::Grammar),
            self.regex.as_ref().map(Content::Regex),
            self.text.then_some(Content::Text),
        ]
        .into_iter()
        .flatten();
        let first = stated.next()?;
        stated.next().is_none().then_some(first)
    }
}

impl Regions {
    /// Checks what serde cannot: that every place of an output has one reading. Costs a sort of the texts.
    ///
    /// Whether a trigger lies inside another is [`Self::check_triggers`]' business.
    ///
    /// # Errors
    /// The first [`IrError::Regions`] found, with its place.
    pub(super) fn validate(&self) -> Result<(), IrError> {
        if self.structures.is_empty() {
            return Err(invalid("regions.structures", "give at least one structure"));
        }
        match (self.free_text, self.triggers.is_empty()) {
            (FreeText::None, false) => {
                return Err(invalid("regions.triggers", "without free text nothing can trigger; leave them out"));
            }
            (FreeText::Anywhere | FreeText::AfterFirst, true) => {
                return Err(invalid("regions.triggers", "free text needs a trigger to end at; give at least one"));
            }
            _ => {}
        }
        for (idx, structure) in self.structures.iter().enumerate() {
            if structure.content().is_none() {
                let message = "give exactly one of `json_schema`, `grammar`, `regex` and `text`";
                return Err(invalid(&format!("regions.structures[{idx}]"), message));
            }
            if structure.begin.is_empty() {
                return Err(invalid(&format!("regions.structures[{idx}].begin"), "it is empty"));
            }
        }
        self.validate_begins()
    }

    /// No `begin` starts another: in sorted order, what starts with a text follows it at once.
    fn validate_begins(&self) -> Result<(), IrError> {
        let mut sorted: Vec<(&str, usize)> =
            self.structures.iter().enumerate().map(|(idx, structure)| (structure.begin.as_str(), idx)).collect();
        sorted.sort_unstable();
        match sorted.windows(2).find(|pair| pair[1].0.starts_with(pair[0].0)) {
            None => Ok(()),
            Some(pair) => Err(invalid(
                &format!("regions.structures[{}].begin", pair[0].1),
                &format!("structures[{}] begins with it; tell them apart within `begin`", pair[1].1),
            )),
        }
    }

    /// Checks that no trigger is empty or lies inside another, that each starts the `begin` of some structure, and that
    /// each `begin` starts with one. Compares every two triggers, and every trigger with every `begin`: bound them first.
    ///
    /// # Errors
    /// The first [`IrError::Regions`] found, with its place.
    pub(crate) fn check_triggers(&self) -> Result<(), IrError> {
        for (idx, trigger) in self.triggers.iter().enumerate() {
            let place = format!("regions.triggers[{idx}]");
            if trigger.is_empty() {
                return Err(invalid(&place, "it is empty"));
            }
            let mut others = self.triggers.iter().enumerate().filter(|(other_idx, _)| *other_idx != idx);
            if let Some((other_idx, _)) = others.find(|(_, other)| other.contains(trigger.as_str())) {
                return Err(invalid(&place, &format!("triggers[{other_idx}] contains it and could never be finished")));
            }
            if !self.structures.iter().any(|structure| structure.begin.starts_with(trigger.as_str())) {
                return Err(invalid(&place, "no structure begins with it; to keep a text out, use `forbidden_text`"));
            }
        }
        for (idx, Structure { begin, .. }) in self.structures.iter().enumerate() {
            if !self.triggers.is_empty() && !self.triggers.iter().any(|trigger| begin.starts_with(trigger.as_str())) {
                return Err(invalid(&format!("regions.structures[{idx}].begin"), "it does not start with a trigger"));
            }
        }
        Ok(())
    }
}

fn invalid(place: &str, message: &str) -> IrError {
    IrError::Regions { place: place.to_owned(), message: message.to_owned() }
}

fn is_false(value: &bool) -> bool {
    !*value
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::constraint::ConstraintIr;

    fn place_of_fault(regions: Value) -> Option<String> {
        let ir: ConstraintIr = serde_json::from_value(json!({ "regions": regions })).expect("well-formed");
        let triggers = |()| ir.regions.as_ref().map_or(Ok(()), Regions::check_triggers);
        match ir.validate().and_then(triggers) {
            Ok(()) => None,
            Err(IrError::Regions { place, .. }) => Some(place),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn what_would_have_two_readings_or_none_is_refused_with_its_place() {
        let text = |begin: &str| json!({"begin": begin, "end": ">", "text": true});
        for (regions, place) in [
            (json!({"triggers": ["<a", "```"], "structures": [text("<a="), text("<ab="), text("```")]}), None),
            (json!({"free_text": "none", "structures": [text("a"), text("b")]}), None),
            (json!({"triggers": ["<"], "structures": []}), Some("regions.structures")),
            (json!({"structures": [text("<")]}), Some("regions.triggers")),
            (json!({"triggers": ["<"], "free_text": "none", "structures": [text("<")]}), Some("regions.triggers")),
            (json!({"triggers": [""], "structures": [text("<")]}), Some("regions.triggers[0]")),
            (json!({"triggers": ["<", "a<b"], "structures": [text("<"), text("a<b")]}), Some("regions.triggers[0]")),
            (json!({"triggers": ["<", "<"], "structures": [text("<")]}), Some("regions.triggers[0]")),
            (json!({"triggers": ["<", "["], "structures": [text("<")]}), Some("regions.triggers[1]")),
            (json!({"triggers": ["<"], "structures": [text("<"), text("[")]}), Some("regions.structures[1].begin")),
            (json!({"triggers": ["<"], "structures": [text("<ab"), text("<a")]}), Some("regions.structures[1].begin")),
            (json!({"triggers": ["<"], "structures": [text("<a"), text("<a")]}), Some("regions.structures[0].begin")),
            (json!({"free_text": "none", "structures": [text("")]}), Some("regions.structures[0].begin")),
            (json!({"triggers": ["<"], "structures": [{"begin": "<"}]}), Some("regions.structures[0]")),
            (
                json!({"triggers": ["<"], "structures": [{"begin": "<", "text": true, "regex": {"pattern": "a"}}]}),
                Some("regions.structures[0]"),
            ),
        ] {
            assert_eq!(place_of_fault(regions.clone()).as_deref(), place, "{regions}");
        }
    }

    #[test]
    fn unknown_keys_are_refused_and_the_order_of_structures_and_properties_is_meaning() {
        let unknown = json!({"triggers": ["<"], "structures": [{"begin": "<", "text": true, "stop": ">"}]});
        assert!(serde_json::from_value::<Regions>(unknown).is_err());
        let digest = |regions: Value| {
            let regions = serde_json::from_value(regions).expect("well-formed");
            ConstraintIr { regions: Some(regions), ..ConstraintIr::default() }.compute_digest()
        };
        let schema = |names: [&str; 2]| {
            let properties: serde_json::Map<String, Value> =
                names.iter().map(|name| ((*name).to_owned(), json!({}))).collect();
            json!({"begin": "a", "json_schema": {"properties": properties}})
        };
        let regions = |structures: Value| json!({"free_text": "none", "structures": structures});
        let text = json!({"begin": "b", "text": true});
        let one = digest(regions(json!([schema(["x", "y"]), text])));
        assert_ne!(one, digest(regions(json!([text, schema(["x", "y"])]))));
        assert_ne!(one, digest(regions(json!([schema(["y", "x"]), text]))));
    }
}
