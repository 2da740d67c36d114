//! Earley's recognizer, with nullable rules advanced over when they are predicted (Aycock and Horspool, *Practical
//! Earley Parsing*, 2002).
//!
//! An item says: at this place of a right side, begun at that character. Linear for left-recursive and
//! unambiguous-by-one-character grammars, quadratic for right recursion, cubic at worst, and never past
//! [`MAX_ITEMS`].

use std::collections::HashSet;

use super::productions::{Productions, Symbol};

/// Items that one recognition may make; about 100 ns and at most 40 bytes each.
const MAX_ITEMS: usize = 4_000_000;

/// What a text is to a grammar.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A sentence.
    Sentence,
    /// Not a sentence, but no character is out of place.
    Prefix,
    /// No sentence begins with the text up to and including the character at this byte.
    Dead { byte: usize },
}

/// Where in `symbols`, and at which character the right side began.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Item {
    dot: u32,
    origin: u32,
}

impl Item {
    fn next(self) -> Self {
        Self { dot: self.dot + 1, ..self }
    }
}

/// Decides what `text` is to the grammar.
///
/// # Errors
/// If the text needs more than [`MAX_ITEMS`] items.
pub(super) fn recognize(grammar: &Productions, text: &str) -> Result<Outcome, String> {
    let mut recognizer = Recognizer::new(grammar);
    recognizer.predict(grammar.start);
    recognizer.close()?;
    for (byte, c) in text.char_indices() {
        if !recognizer.scan(c) {
            return Ok(Outcome::Dead { byte });
        }
        recognizer.close()?;
    }
    Ok(if recognizer.accepts { Outcome::Sentence } else { Outcome::Prefix })
}

struct Recognizer<'a> {
    grammar: &'a Productions,
    /// The items after the characters read so far, without duplicates.
    items: Vec<Item>,
    seen: HashSet<Item>,
    /// The items before each character that wait for a rule, sorted by it.
    waiting: Vec<Vec<(u32, Item)>>,
    /// For each rule, one past the last character before which it was predicted.
    predicted: Vec<u32>,
    num_items: usize,
    accepts: bool,
}

impl<'a> Recognizer<'a> {
    fn new(grammar: &'a Productions) -> Self {
        Self {
            grammar,
            items: Vec::new(),
            seen: HashSet::new(),
            waiting: Vec::new(),
            predicted: vec![0; grammar.alternatives.len()],
            num_items: 0,
            accepts: false,
        }
    }

    /// The number of characters read.
    fn position(&self) -> u32 {
        self.waiting.len() as u32
    }

    fn add(&mut self, item: Item) {
        if self.seen.insert(item) {
            self.items.push(item);
        }
    }

    fn predict(&mut self, rule: u32) {
        let origin = self.position();
        let predicted = &mut self.predicted[rule as usize];
        if *predicted != origin + 1 {
            *predicted = origin + 1;
            for &dot in &self.grammar.alternatives[rule as usize] {
                self.add(Item { dot, origin });
            }
        }
    }

    /// Adds all that follows from the items at this position without reading a character.
    fn close(&mut self) -> Result<(), String> {
        let position = self.position();
        let mut waiting = Vec::new();
        self.accepts = false;
        let mut i = 0;
        while let Some(&item) = self.items.get(i) {
            i += 1;
            if self.num_items + i > MAX_ITEMS {
                return Err(format!("recognition needs more than {MAX_ITEMS} Earley items"));
            }
            match self.grammar.symbols[item.dot as usize] {
                Symbol::Set(_) => {}
                Symbol::Rule(rule) => {
                    waiting.push((rule, item));
                    self.predict(rule);
                    if self.grammar.nullable[rule as usize] {
                        self.add(item.next());
                    }
                }
                Symbol::End(rule) => {
                    self.accepts |= rule == self.grammar.start && item.origin == 0;
                    // An empty derivation was already stepped over by those that wait for it here.
                    if item.origin < position {
                        self.complete(rule, item.origin);
                    }
                }
            }
        }
        self.num_items += i;
        waiting.sort_unstable_by_key(|&(rule, _)| rule);
        self.waiting.push(waiting);
        Ok(())
    }

    fn complete(&mut self, rule: u32, origin: u32) {
        let waiting = std::mem::take(&mut self.waiting[origin as usize]);
        let first = waiting.partition_point(|&(waits_for, _)| waits_for < rule);
        for &(_, item) in waiting[first..].iter().take_while(|&&(waits_for, _)| waits_for == rule) {
            self.add(item.next());
        }
        self.waiting[origin as usize] = waiting;
    }

    /// Reads one character; false if no item can.
    fn scan(&mut self, c: char) -> bool {
        let items = std::mem::take(&mut self.items);
        self.seen.clear();
        for item in items {
            if let Symbol::Set(set) = self.grammar.symbols[item.dot as usize]
                && self.grammar.sets[set as usize].contains(c)
            {
                self.add(item.next());
            }
        }
        !self.items.is_empty()
    }
}
