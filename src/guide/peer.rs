//! llguidance by itself, as a bench compares against it: its own factory with its default options and slices, a JSON
//! Schema as it stands, none of our lowering, checks or conjunction.
//!
//! No request is ever served by it; it is here because this module alone may name the crate.

use llguidance::ParserFactory;
use llguidance::api::TopLevelGrammar;
use serde_json::Value;

use super::{GuideError, on_big_stack};
use crate::text::Vocabulary;

/// llguidance over one vocabulary.
pub struct Peer {
    factory: ParserFactory,
    compile_stack_bytes: usize,
}

/// A schema that llguidance took, at its start; or one sequence's way through it.
pub struct PeerMatcher(llguidance::Matcher);

impl Peer {
    /// Slices the vocabulary by llguidance's defaults: about 0.5 s at 129k ids.
    ///
    /// # Errors
    /// [`GuideError::Internal`] when the vocabulary cannot be sliced.
    pub fn new(vocabulary: &Vocabulary, compile_stack_bytes: usize) -> Result<Self, GuideError> {
        let factory = ParserFactory::new_simple(&vocabulary.tok_env());
        let mut factory = factory.map_err(|error| GuideError::internal("vocabulary", error.to_string()))?;
        factory.quiet();
        Ok(Self { factory, compile_stack_bytes })
    }

    /// Compiles a schema, on a big stack, because a deep one would end the process.
    ///
    /// # Errors
    /// What llguidance said.
    pub fn compile(&self, schema: &Value) -> Result<PeerMatcher, String> {
        let compiled = on_big_stack(self.compile_stack_bytes, || {
            Ok(self.factory.create_parser(TopLevelGrammar::from_json_schema(schema.clone())))
        });
        let parser = compiled.map_err(|error| error.to_string())?;
        parser.map(|parser| PeerMatcher(llguidance::Matcher::new(Ok(parser)))).map_err(|error| format!("{error:#}"))
    }
}

impl PeerMatcher {
    /// A matcher at the same place that shares nothing with this one.
    #[must_use]
    pub fn deep_clone(&self) -> Self {
        Self(self.0.deep_clone())
    }

    /// Overwrites `row` with what may follow, end tokens included.
    ///
    /// # Errors
    /// What llguidance said; the matcher is lost then.
    pub fn fill(&mut self, row: &mut [u32]) -> Result<(), String> {
        let mask = self.0.compute_mask_or_eos().map_err(|error| error.to_string())?;
        let common = row.len().min(mask.as_slice().len());
        row[..common].copy_from_slice(&mask.as_slice()[..common]);
        row[common..].fill(0);
        Ok(())
    }

    /// Moves on by `token`.
    ///
    /// # Errors
    /// What llguidance said; the matcher is lost then.
    pub fn accept(&mut self, token: u32) -> Result<(), String> {
        self.0.consume_token(token).map_err(|error| error.to_string())
    }
}
