//! Rules as numbered productions: sequences of character sets and rule numbers, nothing nested.

use std::collections::HashMap;

use super::notation::{CharSet, Expression, RepeatCount, Rule};

/// Symbols a grammar may grow to once repetitions are written out; 8 bytes each.
const MAX_SYMBOLS: usize = 1 << 20;

/// A grammar ready to be recognized.
pub(super) struct Productions {
    /// All right sides behind each other, each closed by [`Symbol::End`].
    pub(super) symbols: Vec<Symbol>,
    /// For each rule, where its alternatives begin in `symbols`.
    pub(super) alternatives: Vec<Vec<u32>>,
    /// Whether each rule derives the empty text.
    pub(super) nullable: Vec<bool>,
    /// The character sets.
    pub(super) sets: Vec<CharSet>,
    /// The rule that a sentence derives from.
    pub(super) start: u32,
}

/// One place in a right side.
#[derive(Clone, Copy, Debug)]
pub(super) enum Symbol {
    /// One character of the set.
    Set(u32),
    /// A sentence of the rule.
    Rule(u32),
    /// The right side of the rule is complete.
    End(u32),
}

/// Numbers the rules; `start` defaults to the first.
pub(super) fn number(rules: &[Rule], start: Option<&str>) -> Result<Productions, String> {
    let mut numbers = HashMap::new();
    for (i, rule) in rules.iter().enumerate() {
        if numbers.insert(rule.name.as_str(), i as u32).is_some() {
            return Err(rule.place.says(format_args!("rule `{}` is defined twice", rule.name)));
        }
    }
    let start = match start {
        Some(name) => *numbers.get(name).ok_or_else(|| format!("the grammar has no rule `{name}` to start from"))?,
        None => 0,
    };
    let mut numbering = Numbering { numbers, bodies: vec![Vec::new(); rules.len()], sets: Vec::new(), num_symbols: 0 };
    for (i, rule) in rules.iter().enumerate() {
        numbering.bodies[i] = numbering.alternatives(&rule.body)?;
    }
    Ok(numbering.finish(start))
}

struct Numbering<'a> {
    numbers: HashMap<&'a str, u32>,
    bodies: Vec<Vec<Vec<Symbol>>>,
    sets: Vec<CharSet>,
    num_symbols: usize,
}

impl Numbering<'_> {
    fn alternatives(&mut self, expression: &Expression) -> Result<Vec<Vec<Symbol>>, String> {
        match expression {
            Expression::Choice(alternatives) => alternatives.iter().map(|one| self.sequence(one)).collect(),
            one => Ok(vec![self.sequence(one)?]),
        }
    }

    fn sequence(&mut self, expression: &Expression) -> Result<Vec<Symbol>, String> {
        let mut symbols = Vec::new();
        match expression {
            Expression::Sequence(items) => {
                for item in items {
                    symbols.extend(self.sequence(item)?);
                }
            }
            Expression::Set(set) => symbols.push(self.set(set)?),
            Expression::Rule(name, place) => match self.numbers.get(name.as_str()) {
                Some(&rule) => symbols.push(Symbol::Rule(rule)),
                None => return Err(place.says(format_args!("rule `{name}` is not defined"))),
            },
            Expression::Choice(_) => {
                let body = self.alternatives(expression)?;
                symbols.push(self.rule(body)?);
            }
            Expression::Repeat(item, count) => symbols = self.repeat(item, *count)?,
        }
        self.count(symbols.len())?;
        Ok(symbols)
    }

    /// `min` copies, then a left-recursive rule for "any number more", or nested rules for "up to `max`".
    fn repeat(&mut self, item: &Expression, RepeatCount { min, max }: RepeatCount) -> Result<Vec<Symbol>, String> {
        let body = self.alternatives(item)?;
        let item = self.rule(body)?;
        let mut symbols = vec![item; min as usize];
        match max {
            None => {
                let rest = Symbol::Rule(self.bodies.len() as u32);
                symbols.push(self.rule(vec![vec![], vec![rest, item]])?);
            }
            Some(max) => {
                let mut rest = None;
                for _ in min..max {
                    let more = [Some(item), rest].into_iter().flatten().collect();
                    rest = Some(self.rule(vec![vec![], more])?);
                }
                symbols.extend(rest);
            }
        }
        Ok(symbols)
    }

    fn rule(&mut self, body: Vec<Vec<Symbol>>) -> Result<Symbol, String> {
        self.count(body.iter().map(|alternative| alternative.len() + 1).sum())?;
        self.bodies.push(body);
        Ok(Symbol::Rule(self.bodies.len() as u32 - 1))
    }

    fn set(&mut self, set: &CharSet) -> Result<Symbol, String> {
        self.count(1)?;
        self.sets.push(set.clone());
        Ok(Symbol::Set(self.sets.len() as u32 - 1))
    }

    fn count(&mut self, num_symbols: usize) -> Result<(), String> {
        self.num_symbols += num_symbols;
        if self.num_symbols > MAX_SYMBOLS {
            return Err(format!("the grammar grows to more than {MAX_SYMBOLS} symbols"));
        }
        Ok(())
    }

    fn finish(self, start: u32) -> Productions {
        let mut symbols = Vec::new();
        let mut alternatives = Vec::new();
        let nullable = nullable(&self.bodies);
        for (rule, body) in self.bodies.into_iter().enumerate() {
            let mut begins = Vec::new();
            for alternative in body {
                begins.push(symbols.len() as u32);
                symbols.extend(alternative);
                symbols.push(Symbol::End(rule as u32));
            }
            alternatives.push(begins);
        }
        Productions { symbols, alternatives, nullable, sets: self.sets, start }
    }
}

/// Which rules derive the empty text: the least fixed point.
fn nullable(bodies: &[Vec<Vec<Symbol>>]) -> Vec<bool> {
    let mut nullable = vec![false; bodies.len()];
    // Helper rules follow what they use, or close a circle that has an empty alternative, so few rounds are needed.
    loop {
        let mut changed = false;
        for (rule, body) in bodies.iter().enumerate().rev() {
            let is_nullable = |symbol: &Symbol| matches!(symbol, Symbol::Rule(used) if nullable[*used as usize]);
            if !nullable[rule] && body.iter().any(|alternative| alternative.iter().all(is_nullable)) {
                nullable[rule] = true;
                changed = true;
            }
        }
        if !changed {
            return nullable;
        }
    }
}
