//! Soft biases: preferences that move logits and never forbid anything.
//!
//! A bias is a potential over the states of an automaton that searches: how many matches have ended so far, and how far
//! the one under way has come (0 at the start, 1 at a match, by the bytes that are missing). A token moves its logit by
//! bias x (potential after - potential before). So the sum over a text does not depend on how it is split into tokens,
//! what an abandoned match had been given is taken back, and every byte at which a match ends counts one.
//!
//! Softmax cancels what is added to every token. The lists here leave out what most tokens get, so they are short.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use super::automaton::{RawDfa, distances};
use super::clock::ClockCache;
use super::vocabulary::SortedTokens;
use super::{GuideConfig, GuideError, forbidden, regex};
use crate::constraint::{MatchMode, SoftBias, TextOrRegex};

/// Sums of biases below this are rounding.
const ROUNDING: f64 = 1e-9;

/// What is added to some logits: ascending by id.
pub(crate) type BiasList = Arc<[(u32, f32)]>;

/// All soft biases of a request.
pub(crate) struct SoftBiases {
    biases: Vec<Bias>,
    end_tokens: Vec<u32>,
    /// What each token gets at the start of an output.
    root: OnceLock<Vec<(u32, f64)>>,
    lists: RwLock<ClockCache<Box<[u32]>, BiasList>>,
    max_bytes: usize,
}

/// One bias as a searching automaton.
struct Bias {
    weight: f64,
    dfa: RawDfa,
    /// Whether a match ends in the state.
    ends: Vec<bool>,
    /// How far a match is under way in the state, from 0 to below 1; 0 where one has just ended.
    progress: Vec<f64>,
}

/// A state, and the matches that ended on the way to it.
type Path = (u32, u32);

impl SoftBiases {
    /// Compiles the biases, each with the part that it is; `None` where there are none.
    ///
    /// # Errors
    /// [`GuideError::InvalidIr`] for an empty text or a bias beyond the bound, [`GuideError::InvalidRegex`],
    /// [`GuideError::TooLarge`].
    pub(crate) fn new<'a>(
        biases: impl Iterator<Item = (String, &'a SoftBias)>,
        end_tokens: &[u32],
        config: &GuideConfig,
    ) -> Result<Option<Self>, GuideError> {
        let biases = biases.map(|(part, soft)| Bias::new(&part, soft, config)).collect::<Result<Vec<_>, _>>()?;
        GuideError::check_size("soft", "number of biases", biases.len(), config.max_soft)?;
        let num_bytes = biases.iter().map(Bias::num_bytes).sum();
        GuideError::check_size("soft", "bytes of the automata", num_bytes, config.max_automaton_bytes)?;
        let max_bytes = config.bias_cache_bytes;
        let lists = RwLock::new(ClockCache::new(max_bytes));
        let end_tokens = end_tokens.to_vec();
        Ok((!biases.is_empty()).then_some(Self { biases, end_tokens, root: OnceLock::new(), lists, max_bytes }))
    }

    /// The states before any byte, one for each bias.
    pub(crate) fn start(&self) -> impl Iterator<Item = u32> + '_ {
        self.biases.iter().map(|bias| bias.dfa.start)
    }

    /// The states after `bytes`.
    pub(crate) fn run<'a>(&'a self, states: &'a [u32], bytes: &'a [u8]) -> impl Iterator<Item = u32> + 'a {
        self.biases
            .iter()
            .zip(states)
            .map(|(bias, &state)| bytes.iter().fold(state, |at, &byte| bias.dfa.step(at, byte)))
    }

    /// What is added to the logits in these states; about 1 us when they were met before, else 10-100 us.
    pub(crate) fn list(&self, states: &[u32], tokens: &SortedTokens) -> BiasList {
        if let Some(known) = self.lists.read().unwrap_or_else(PoisonError::into_inner).get(states) {
            return Arc::clone(known);
        }
        let root = self.root.get_or_init(|| self.root(tokens));
        let mut changes: Vec<(u32, f64)> = Vec::new();
        for (bias, &state) in self.biases.iter().zip(states) {
            bias.changes(state, tokens, &mut changes);
        }
        changes.sort_unstable_by_key(|&(token, _)| token);
        let list: BiasList = sum(root, &changes).into();
        let payload_bytes = size_of_val(states) + size_of_val(&*list);
        let mut lists = self.lists.write().unwrap_or_else(PoisonError::into_inner);
        lists.insert(states.into(), Arc::clone(&list), payload_bytes);
        list
    }

    /// Memory that the biases may come to hold, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.biases.iter().map(Bias::num_bytes).sum::<usize>() + self.max_bytes
    }

    /// What the tokens get at the start beyond what most of them get, for all biases together.
    fn root(&self, tokens: &SortedTokens) -> Vec<(u32, f64)> {
        let mut gains: Vec<(u32, f64)> = Vec::new();
        for bias in &self.biases {
            let mut own = Vec::with_capacity(tokens.num_tokens());
            bias.walk(tokens, |ids, gain| own.extend(ids.iter().map(|&id| (id, gain))));
            let common = most_common(&own);
            // An end token moves nothing on, and gives up what is under way.
            own.extend(self.end_tokens.iter().map(|&token| (token, 0.0)));
            gains.extend(own.into_iter().filter(|&(_, gain)| gain != common).map(|(id, gain)| (id, gain - common)));
        }
        gains.sort_unstable_by_key(|&(token, _)| token);
        let sums = gains.chunk_by(|a, b| a.0 == b.0);
        sums.map(|gains| (gains[0].0, gains.iter().map(|(_, gain)| gain).sum())).collect()
    }
}

impl Bias {
    fn new(part: &str, soft: &SoftBias, config: &GuideConfig) -> Result<Self, GuideError> {
        let invalid = |message: String| GuideError::InvalidIr { part: part.to_owned(), message };
        // Not a number is refused before.
        if f64::from(soft.bias).abs() > f64::from(config.max_bias) {
            return Err(invalid(format!("the bias must lie between -{0} and {0}", config.max_bias)));
        }
        let (dfa, ends) = match soft.pattern().map_err(|error| invalid(error.to_string()))? {
            TextOrRegex::Text("") => return Err(invalid("the text is empty".to_owned())),
            TextOrRegex::Text(text) => {
                GuideError::check_size(part, "bytes of the text", text.len(), config.max_regex_bytes)?;
                let dfa = forbidden::literal_automaton(part, &[text], false, config)?;
                let ends = dfa.refused.clone();
                (dfa, ends)
            }
            TextOrRegex::Regex(pattern) => search(part, pattern, config)?,
        };
        let missing = distances(&dfa.next, dfa.num_classes, &ends);
        let whole = f64::from(missing[dfa.start as usize]);
        let progress = missing.iter().map(|&missing| match missing {
            0 => 0.0,
            missing => (1.0 - f64::from(missing) / whole).max(0.0),
        });
        let progress = progress.collect();
        Ok(Self { weight: f64::from(soft.bias), dfa, ends, progress })
    }

    fn num_bytes(&self) -> usize {
        size_of_val(&*self.dfa.next) + (3 + size_of::<f64>()) * self.ends.len()
    }

    fn step(&self, (state, num_ended): Path, byte: u8) -> Path {
        let next = self.dfa.step(state, byte);
        (next, num_ended + u32::from(self.ends[next as usize]))
    }

    /// What a path from any state is worth, but for what that state itself is.
    fn gain(&self, (state, num_ended): Path) -> f64 {
        self.weight * (f64::from(num_ended) + self.progress[state as usize])
    }

    /// Visits all tokens with what they gain from the start.
    fn walk(&self, tokens: &SortedTokens, mut visit: impl FnMut(&[u32], f64)) {
        let start = (self.dfa.start, 0);
        tokens.walk(start, |path, byte| Some(self.step(path, byte)), |ids, path| visit(ids, self.gain(path)));
    }

    /// How much more or less than from the start the tokens gain from `state`.
    fn changes(&self, state: u32, tokens: &SortedTokens, changes: &mut Vec<(u32, f64)>) {
        let paths = ((state, 0), (self.dfa.start, 0));
        tokens.walk_pair(
            paths,
            |path, byte| self.step(path, byte),
            |ids, here, at_start| {
                let change = self.gain(here) - self.gain(at_start);
                changes.extend(ids.iter().map(|&id| (id, change)));
            },
        );
    }
}

/// The automaton that finds `pattern` anywhere, and the states in which a match ends.
fn search(part: &str, pattern: &str, config: &GuideConfig) -> Result<(RawDfa, Vec<bool>), GuideError> {
    let hir = regex::parse(part, pattern, "", config)?;
    regex::refuse_empty_match(part, &hir)?;
    let dfa = regex::automaton(part, &hir, MatchMode::Absent, config)?;
    let ends: Vec<bool> = dfa.accepting.iter().map(|&accepting| !accepting).collect();
    // The next byte shows whether a match ended here; it must show it whatever it is, and so must the end.
    let is_certain = dfa
        .next
        .chunks(dfa.num_classes)
        .zip(&ends)
        .all(|(nexts, &ends)| nexts.iter().all(|&next| dfa.refused[next as usize] == ends));
    if !is_certain {
        let message = "whether it matches depends on what follows; a bias cannot end with `$` or `\\b`".to_owned();
        return Err(GuideError::InvalidRegex { part: part.to_owned(), offset: 0, message });
    }
    Ok((dfa, ends))
}

/// The gain that most tokens have; of several, the greatest.
fn most_common(gains: &[(u32, f64)]) -> f64 {
    let mut counts: HashMap<u64, usize> = HashMap::new();
    gains.iter().for_each(|(_, gain)| *counts.entry(gain.to_bits()).or_default() += 1);
    let most = counts.into_iter().max_by_key(|&(bits, count)| (count, bits));
    most.map_or(0.0, |(bits, _)| f64::from_bits(bits))
}

/// `root` with `changes`, both ascending; a token may occur several times among the changes.
fn sum(root: &[(u32, f64)], changes: &[(u32, f64)]) -> Vec<(u32, f32)> {
    let mut list = Vec::with_capacity(root.len() + changes.len());
    let (mut root, mut changes) = (root.iter().peekable(), changes.iter().peekable());
    while let Some(token) = root.peek().into_iter().chain(changes.peek()).map(|(token, _)| *token).min() {
        let mut gain = root.next_if(|known| known.0 == token).map_or(0.0, |known| known.1);
        while let Some(change) = changes.next_if(|change| change.0 == token) {
            gain += change.1;
        }
        if gain.abs() > ROUNDING {
            list.push((token, gain as f32));
        }
    }
    list
}
