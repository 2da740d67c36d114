//! Writes a grammar as Lark in which every terminal is one character.
//!
//! Groups become rules of their own, so that brackets never nest. Alternatives that no sentence can use are left out,
//! so that a prefix is never allowed only to end nowhere.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::fmt::Write;

use super::super::GuideError;
use super::reader::{Reader, difference, normalize};
use super::{Converted, Expr, Grammar, Rule};

/// Ranges of characters, ascending.
type CharSet = Vec<(char, char)>;

/// The grammar with its names resolved.
pub(super) struct Emitter<'a> {
    /// For places in errors.
    reader: Reader<'a>,
    rules: HashMap<&'a str, (usize, &'a Rule)>,
    start: &'a Rule,
    productive: HashSet<&'a str>,
    nullable: HashSet<&'a str>,
    /// The characters of the rules looked at so far; `None` also for a rule that is being looked at.
    char_sets: RefCell<HashMap<&'a str, Option<CharSet>>>,
    classes: Vec<Vec<(char, char)>>,
    class_idx: HashMap<Vec<(char, char)>, usize>,
    lines: Vec<String>,
    num_groups: usize,
}

impl<'a> Emitter<'a> {
    pub(super) fn new(reader: Reader<'a>, grammar: &'a Grammar, start: Option<&str>) -> Result<Self, GuideError> {
        let mut rules = HashMap::new();
        for (idx, rule) in grammar.rules.iter().enumerate() {
            if rules.insert(rule.name.as_str(), (idx, rule)).is_some() {
                return Err(reader.error(rule.offset, &format!("the rule `{}` is defined twice", rule.name)));
            }
        }
        let found = match start {
            Some(name) => rules.get(name).map(|(_, rule)| *rule),
            None => grammar.rules.first(),
        };
        let Some(found) = found else {
            let message = match start {
                Some(name) => format!("the start rule `{name}` is not defined"),
                None => "the grammar has no rule".to_owned(),
            };
            return Err(reader.error(0, &message));
        };
        for rule in &grammar.rules {
            check(&reader, &rules, &rule.body, 1)?;
        }
        let mut emitter = Self {
            reader,
            rules,
            start: found,
            productive: HashSet::new(),
            nullable: HashSet::new(),
            char_sets: RefCell::default(),
            classes: Vec::new(),
            class_idx: HashMap::new(),
            lines: Vec::new(),
            num_groups: 0,
        };
        emitter.settle(grammar);
        Ok(emitter)
    }

    /// The whole grammar as Lark source.
    pub(super) fn lark(mut self) -> Result<Converted, GuideError> {
        if !self.productive.contains(self.start.name.as_str()) {
            return Err(GuideError::Unsatisfiable { parts: vec![self.reader.part.to_owned()] });
        }
        self.lines.push("%llguidance {\"no_forcing\": true}".to_owned());
        self.lines.push(format!("start: r{}", self.rules[self.start.name.as_str()].0));
        let mut queue = vec![(self.start, 1)];
        let mut seen = HashSet::from([self.start.name.as_str()]);
        while let Some((rule, chain)) = queue.pop() {
            let part = self.reader.part;
            GuideError::check_size(part, "length of a chain of rules", chain, self.reader.config.max_rule_chain)?;
            let options = self.options(&rule.body)?;
            self.lines.push(format!("r{}: {options}", self.rules[rule.name.as_str()].0));
            let mut names = Vec::new();
            references(&rule.body, &mut names);
            for name in names.into_iter().rev() {
                let next = self.rules[name].1;
                if self.productive.contains(name) && seen.insert(next.name.as_str()) {
                    queue.push((next, chain + 1));
                }
            }
        }
        for (idx, ranges) in self.classes.iter().enumerate() {
            let mut line = format!("C{idx}: /[");
            for (from, to) in ranges {
                let written = write!(line, "\\x{{{:X}}}-\\x{{{:X}}}", *from as u32, *to as u32);
                debug_assert!(written.is_ok(), "a string takes everything");
            }
            self.lines.push(line + "]/");
        }
        self.lines.push(String::new());
        Ok(Converted { lark: self.lines.join("\n"), chars: normalize(self.classes.concat()) })
    }

    /// Alternatives, on one line.
    fn options(&mut self, expr: &Expr) -> Result<String, GuideError> {
        let options: &[Expr] = match expr {
            Expr::Choice(options) => options,
            other => std::slice::from_ref(other),
        };
        let mut written = Vec::with_capacity(options.len());
        for option in options {
            if self.is_productive(option) {
                written.push(self.items(option)?);
            }
        }
        Ok(written.join(" | "))
    }

    /// One alternative: symbols in a row.
    fn items(&mut self, expr: &Expr) -> Result<String, GuideError> {
        let Expr::Sequence(items) = expr else { return self.symbol(expr) };
        if items.is_empty() {
            return Ok("\"\"".to_owned());
        }
        let symbols: Result<Vec<_>, _> = items.iter().map(|item| self.symbol(item)).collect();
        Ok(symbols?.join(" "))
    }

    /// One symbol, or the name of a new rule that stands for a group.
    fn symbol(&mut self, expr: &Expr) -> Result<String, GuideError> {
        match expr {
            Expr::Chars(ranges) => Ok(self.class(ranges)),
            Expr::Literal(text) if text.is_empty() => Ok("\"\"".to_owned()),
            Expr::Literal(text) => {
                let chars: Vec<String> = text.chars().map(|c| self.class(&[(c, c)])).collect();
                Ok(chars.join(" "))
            }
            Expr::Rule(name, _) => Ok(format!("r{}", self.rules[name.as_str()].0)),
            Expr::Sequence(items) if items.is_empty() => Ok("\"\"".to_owned()),
            Expr::Sequence(_) | Expr::Choice(_) => self.group(expr),
            Expr::Repeat(inner, min, max) => self.repeat(inner, *min, *max),
            Expr::Except(left, right, offset) => {
                let (Some(left), Some(right)) = (self.char_set(left), self.char_set(right)) else {
                    let message = "`-` is exact only between single characters; write the difference out";
                    return Err(self.reader.error(*offset, message));
                };
                Ok(self.class(&difference(&left, &right)))
            }
            Expr::NonEmpty(inner, offset) => {
                if self.is_nullable(inner) {
                    let message = "what is repeated can be empty, so `-` cannot exclude the empty text; write it out";
                    return Err(self.reader.error(*offset, message));
                }
                self.repeat(inner, 1, None)
            }
        }
    }

    fn repeat(&mut self, inner: &Expr, min: u32, max: Option<u32>) -> Result<String, GuideError> {
        if max == Some(0) || !self.is_productive(inner) {
            return Ok("\"\"".to_owned());
        }
        let symbol = match inner {
            Expr::Chars(_) | Expr::Rule(..) => self.symbol(inner)?,
            _ => self.group(inner)?,
        };
        Ok(match (min, max) {
            (0, None) => format!("{symbol}*"),
            (1, None) => format!("{symbol}+"),
            (0, Some(1)) => format!("{symbol}?"),
            (min, None) => format!("{symbol}{{{min},}}"),
            (min, Some(max)) => format!("{symbol}{{{min},{max}}}"),
        })
    }

    fn group(&mut self, expr: &Expr) -> Result<String, GuideError> {
        let name = format!("g{}", self.num_groups);
        self.num_groups += 1;
        let options = self.options(expr)?;
        self.lines.push(format!("{name}: {options}"));
        Ok(name)
    }

    fn class(&mut self, ranges: &[(char, char)]) -> String {
        let next = self.classes.len();
        let idx = *self.class_idx.entry(ranges.to_vec()).or_insert(next);
        if idx == next {
            self.classes.push(ranges.to_vec());
        }
        format!("C{idx}")
    }

    /// The characters an expression stands for, if it is always exactly one.
    fn char_set(&self, expr: &Expr) -> Option<CharSet> {
        match expr {
            Expr::Chars(ranges) => Some(ranges.clone()),
            Expr::Literal(text) => {
                let mut chars = text.chars();
                let only = chars.next()?;
                chars.next().is_none().then(|| vec![(only, only)])
            }
            Expr::Rule(name, _) => self.char_set_of(name),
            Expr::Sequence(items) => match items.as_slice() {
                [only] => self.char_set(only),
                _ => None,
            },
            Expr::Choice(options) => {
                let sets: Option<Vec<_>> = options.iter().map(|option| self.char_set(option)).collect();
                Some(normalize(sets?.concat()))
            }
            Expr::Except(left, right, _) => Some(difference(&self.char_set(left)?, &self.char_set(right)?)),
            Expr::Repeat(..) | Expr::NonEmpty(..) => None,
        }
    }

    /// Each rule is looked at once: alternatives that name rules twice would double the work at every step.
    fn char_set_of(&self, name: &str) -> Option<CharSet> {
        let (_, rule) = self.rules[name];
        let key = rule.name.as_str();
        if let Some(known) = self.char_sets.borrow().get(key) {
            return known.clone();
        }
        self.char_sets.borrow_mut().insert(key, None);
        let set = self.char_set(&rule.body);
        self.char_sets.borrow_mut().insert(key, set.clone());
        set
    }

    /// Finds the productive and the nullable rules.
    fn settle(&mut self, grammar: &'a Grammar) {
        let productive = Conditions::solve(grammar, |expr| self.productive_when(expr));
        let nullable = Conditions::solve(grammar, nullable_when);
        self.productive = productive;
        self.nullable = nullable;
    }

    fn productive_when<'e>(&self, expr: &'e Expr) -> When<'e> {
        match expr {
            Expr::Chars(_) | Expr::Literal(_) | Expr::Except(..) => When::Known(self.is_productive(expr)),
            Expr::Rule(name, _) => When::Rule(name),
            Expr::Sequence(items) => When::All(items),
            Expr::Choice(options) => When::Any(options),
            Expr::Repeat(_, 0, _) => When::Known(true),
            Expr::Repeat(inner, ..) | Expr::NonEmpty(inner, _) => When::All(std::slice::from_ref(inner)),
        }
    }

    /// Whether some text matches.
    fn is_productive(&self, expr: &Expr) -> bool {
        match expr {
            Expr::Chars(ranges) => !ranges.is_empty(),
            Expr::Literal(_) => true,
            Expr::Rule(name, _) => self.productive.contains(name.as_str()),
            Expr::Sequence(items) => items.iter().all(|item| self.is_productive(item)),
            Expr::Choice(options) => options.iter().any(|option| self.is_productive(option)),
            Expr::Repeat(inner, min, _) => *min == 0 || self.is_productive(inner),
            Expr::NonEmpty(inner, _) => self.is_productive(inner),
            Expr::Except(left, right, _) => match (self.char_set(left), self.char_set(right)) {
                (Some(left), Some(right)) => !difference(&left, &right).is_empty(),
                // Writing it out will say what is wrong.
                _ => true,
            },
        }
    }

    /// Whether the empty text matches.
    fn is_nullable(&self, expr: &Expr) -> bool {
        match expr {
            Expr::Chars(_) | Expr::Except(..) | Expr::NonEmpty(..) => false,
            Expr::Literal(text) => text.is_empty(),
            Expr::Rule(name, _) => self.nullable.contains(name.as_str()),
            Expr::Sequence(items) => items.iter().all(|item| self.is_nullable(item)),
            Expr::Choice(options) => options.iter().any(|option| self.is_nullable(option)),
            Expr::Repeat(inner, min, _) => *min == 0 || self.is_nullable(inner),
        }
    }
}

fn nullable_when(expr: &Expr) -> When<'_> {
    match expr {
        Expr::Chars(_) | Expr::Except(..) | Expr::NonEmpty(..) => When::Known(false),
        Expr::Literal(text) => When::Known(text.is_empty()),
        Expr::Rule(name, _) => When::Rule(name),
        Expr::Sequence(items) => When::All(items),
        Expr::Choice(options) => When::Any(options),
        Expr::Repeat(_, 0, _) => When::Known(true),
        Expr::Repeat(inner, ..) => When::All(std::slice::from_ref(inner)),
    }
}

/// When an expression has a property.
enum When<'a> {
    Known(bool),
    /// When this rule has it.
    Rule(&'a str),
    All(&'a [Expr]),
    Any(&'a [Expr]),
}

/// Which rules have a property, found in time linear in the grammar: each expression counts what it still lacks
/// (W. F. Dowling, J. H. Gallier, *Linear-time algorithms for testing the satisfiability of propositional Horn formulae*,
/// 1984).
#[derive(Default)]
struct Conditions<'a> {
    /// For each expression, how many of its children must yet be found to have the property.
    lacking: Vec<usize>,
    parents: Vec<Option<usize>>,
    /// The expressions that name a rule.
    waiting: HashMap<&'a str, Vec<usize>>,
    ready: Vec<usize>,
}

impl<'a> Conditions<'a> {
    fn solve(grammar: &'a Grammar, when: impl Fn(&'a Expr) -> When<'a>) -> HashSet<&'a str> {
        let mut conditions = Self::default();
        let mut rule_of = HashMap::new();
        for rule in &grammar.rules {
            rule_of.insert(conditions.lacking.len(), rule.name.as_str());
            conditions.add(&rule.body, None, &when);
        }
        let mut found = HashSet::new();
        while let Some(idx) = conditions.ready.pop() {
            if let Some(parent) = conditions.parents[idx] {
                conditions.lower(parent);
            } else if let Some(&name) = rule_of.get(&idx)
                && found.insert(name)
            {
                for waiting in conditions.waiting.remove(name).unwrap_or_default() {
                    conditions.lower(waiting);
                }
            }
        }
        found
    }

    /// Recursion is bounded: brackets nest at most `max_rule_nesting` deep.
    fn add(&mut self, expr: &'a Expr, parent: Option<usize>, when: &impl Fn(&'a Expr) -> When<'a>) {
        let idx = self.lacking.len();
        self.parents.push(parent);
        let (lacking, children): (usize, &[Expr]) = match when(expr) {
            When::Known(true) => (0, &[]),
            When::Known(false) => (usize::MAX, &[]),
            When::All(children) => (children.len(), children),
            When::Any(children) => (1, children),
            When::Rule(name) => {
                self.waiting.entry(name).or_default().push(idx);
                (1, &[])
            }
        };
        self.lacking.push(lacking);
        if lacking == 0 {
            self.ready.push(idx);
        }
        for child in children {
            self.add(child, Some(idx), when);
        }
    }

    fn lower(&mut self, idx: usize) {
        // What has the property already lacks nothing more.
        if self.lacking[idx] > 0 {
            self.lacking[idx] -= 1;
            if self.lacking[idx] == 0 {
                self.ready.push(idx);
            }
        }
    }
}

/// Undefined names, and repetitions that multiply to too much.
fn check(
    reader: &Reader<'_>,
    rules: &HashMap<&str, (usize, &Rule)>,
    expr: &Expr,
    times: u64,
) -> Result<(), GuideError> {
    match expr {
        Expr::Chars(_) | Expr::Literal(_) => Ok(()),
        Expr::Rule(name, offset) if !rules.contains_key(name.as_str()) => {
            Err(reader.error(*offset, &format!("the rule `{name}` is not defined")))
        }
        Expr::Rule(..) => Ok(()),
        Expr::Sequence(items) | Expr::Choice(items) => {
            items.iter().try_for_each(|item| check(reader, rules, item, times))
        }
        Expr::Repeat(inner, min, max) => {
            let times = times.saturating_mul(u64::from(max.unwrap_or(*min).max(1)));
            let limit = reader.config.max_repetition;
            if times > limit {
                let what = "product of nested repetitions".to_owned();
                return Err(GuideError::TooLarge { part: reader.part.to_owned(), what, size: times, limit });
            }
            check(reader, rules, inner, times)
        }
        Expr::Except(left, right, _) => {
            check(reader, rules, left, times)?;
            check(reader, rules, right, times)
        }
        Expr::NonEmpty(inner, _) => check(reader, rules, inner, times),
    }
}

/// The rules that an expression names, in order.
fn references<'a>(expr: &'a Expr, names: &mut Vec<&'a str>) {
    match expr {
        Expr::Chars(_) | Expr::Literal(_) => {}
        Expr::Rule(name, _) => names.push(name),
        Expr::Sequence(items) | Expr::Choice(items) => items.iter().for_each(|item| references(item, names)),
        Expr::Repeat(inner, _, _) | Expr::NonEmpty(inner, _) => references(inner, names),
        // Both sides are written as one class.
        Expr::Except(..) => {}
    }
}
