//! A regular superset of what a structural part generates, read from the very grammar that llguidance compiled.
//!
//! Its states are places in the rules with the state of the lexeme that is being read. A rule of another cycle of the
//! grammar is entered and left exactly, with a stack; inside one cycle a rule that ends may go on wherever the cycle
//! uses it (Mohri and Nederhof, "Regular approximation of context-free grammars through transformation", 2001), which
//! is exact for repetition and for what does not recurse. That longer lexemes win and that white space comes once are
//! left out. All of this only adds texts: what is empty here is empty there.

use std::sync::Arc;

use foldhash::{HashMap, HashMapExt, HashSet, HashSetExt};
use llguidance::api::ParserLimits;
use llguidance::derivre::{NextByte, StateID};
use llguidance::earley::lexerspec::LexemeIdx;
use llguidance::earley::regexvec::{LexemeSet, RegexVec};
use llguidance::earley::{CGrammar, CSymIdx};

use super::left_corner::LeftCorner;

/// Bytes that a lower bound counts for text of unknown length.
pub(super) const UNREACHABLE: u32 = 1 << 24;

/// The regular superset of one structural part, explored as far as it is asked for.
pub(crate) struct Outline {
    grammar: Arc<Rules>,
    lexer: RegexVec,
    /// Initial lexer state of each terminal, and of the text that may stand between lexemes.
    initial: Vec<StateID>,
    between: StateID,
    no_lexemes: LexemeSet,
    /// Least bytes from a lexer state to the end of its lexeme, as far as known.
    lexeme_left: HashMap<u32, u32>,
    stacks: Interned<Frame>,
    states: Interned<State>,
    /// What may begin once a lexeme has ended before an item: `[stack, item]` to states.
    settled: HashMap<(u32, u32), Vec<u32>>,
    /// Places seen on the way there.
    num_visited: usize,
}

/// Places that may be seen to find out what may begin behind lexemes, at about 100 ns each. A language's grammar takes
/// less than a thousand of them, an object of 2,000 optional members 2,000,000, and 1,200 lexemes in a row that may all
/// be empty, in a loop, would take 700,000,000.
const MAX_VISITED: usize = 4_000_000;

/// The rules, flattened: an item is a place in `symbols`, and each rule ends with [`END`].
pub(super) struct Rules {
    pub(super) symbols: Vec<u32>,
    /// Left-hand side of the rule that an item belongs to.
    pub(super) lhs: Vec<u32>,
    /// First items of each symbol's rules.
    pub(super) rules: Vec<Vec<u32>>,
    pub(super) is_nullable: Vec<bool>,
    pub(super) lexeme: Vec<Option<LexemeIdx>>,
    /// Which cycle of the grammar a symbol is in, and whether it really is one.
    cycle: Vec<u32>,
    is_cyclic: Vec<bool>,
    /// Items of a cycle whose symbol is this one, of the same cycle.
    uses: Vec<Vec<u32>>,
    start: u32,
    /// Least bytes from an item to the end of its rule.
    pub(super) left: Vec<u32>,
    /// A symbol for the whole output and the first item of its only rule, which is the start symbol; in no cycle.
    pub(super) whole: (u32, u32),
    /// What may stand between lexemes, by class of lexemes; and the class of each lexeme.
    pub(super) skips: Vec<LexemeIdx>,
    class: Vec<usize>,
}

pub(super) const END: u32 = u32::MAX;

/// Where to go on when a symbol that was entered from another cycle ends; stack 0 is empty.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Frame {
    below: u32,
    symbol: u32,
    item: u32,
    left: u32,
}

/// What is being read.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum State {
    /// The lexeme at an item.
    Lexeme { stack: u32, item: u32, lexer: StateID },
    /// Text between lexemes, before an item.
    Between { stack: u32, item: u32, lexer: StateID },
    /// The end of the output.
    End,
}

impl Outline {
    /// Reads a compiled grammar: about as long as it takes to copy it, and one shortest text for each lexeme.
    ///
    /// `None` inside when its lexemes need more than `fuel` units of llguidance's lexer (about 10 per us).
    ///
    /// # Errors
    /// Where more than `row_items` ways of going on begin with the same symbol. The parser would refuse the place after
    /// that symbol, but only once it has compared its items with each other, which for 50,000 of them takes 20 s.
    pub(crate) fn new(grammar: &CGrammar, fuel: u64, row_items: usize) -> Result<Option<Self>, Crowded> {
        let rules = Rules::read(grammar);
        rules.check_crowds(row_items)?;
        Ok(Self::of(rules, grammar, fuel))
    }

    fn of(mut rules: Rules, grammar: &CGrammar, fuel: u64) -> Option<Self> {
        let spec = grammar.lexer_spec();
        let mut limits = ParserLimits { initial_lexer_fuel: fuel, ..ParserLimits::default() };
        let mut lexer = spec.to_regex_vec(&mut limits).ok()?;
        lexer.set_fuel(fuel);
        let mut between = spec.alloc_lexeme_set();
        spec.skip_by_class.iter().for_each(|&skip| between.add(skip));
        let between = lexer.initial_state(&between);
        let mut lexeme_left = HashMap::new();
        let mut initial = vec![StateID::DEAD; rules.lexeme.len()];
        let mut least = vec![UNREACHABLE; rules.lexeme.len()];
        for symbol in 0..rules.lexeme.len() {
            let Some(lexeme) = rules.lexeme[symbol] else { continue };
            let mut set = spec.alloc_lexeme_set();
            set.add(lexeme);
            let state = lexer.initial_state(&set);
            initial[symbol] = state;
            if !state.is_dead() {
                least[symbol] = shortest(&mut lexer, state, &mut lexeme_left)?;
            }
        }
        rules.measure(&mut least);
        let mut outline = Self {
            grammar: Arc::new(rules),
            lexer,
            initial,
            between,
            no_lexemes: spec.alloc_lexeme_set(),
            lexeme_left,
            stacks: Interned::default(),
            states: Interned::default(),
            settled: HashMap::new(),
            num_visited: 0,
        };
        outline.states.number(State::End);
        outline.stacks.number(Frame { below: 0, symbol: outline.grammar.start, item: END, left: 0 });
        Some(outline)
    }

    /// The same part followed exactly, from its start; takes a copy of the lexer.
    pub(crate) fn left_corner(&self) -> LeftCorner {
        LeftCorner::new(Arc::clone(&self.grammar), self.lexer.clone(), self.no_lexemes.clone())
    }

    /// States before the first byte.
    pub(crate) fn starts(&mut self) -> Vec<u32> {
        let mut starts = Vec::new();
        let mut seen = Vec::new();
        self.enter(0, self.grammar.start, &mut starts, &mut seen);
        if !self.between.is_dead() {
            let initial = starts.clone();
            // Before the first lexeme as between two.
            for state in initial {
                if let State::Lexeme { stack, item, .. } = self.states.values[state as usize] {
                    starts.push(self.states.number(State::Between { stack, item, lexer: self.between }));
                }
            }
        }
        starts.sort_unstable();
        starts.dedup();
        starts
    }

    /// The state after one more byte; `None` where none may follow.
    pub(crate) fn step(&mut self, state: u32, byte: u8) -> Option<u32> {
        let mut next = self.states.values[state as usize];
        match &mut next {
            State::End => return None,
            State::Lexeme { lexer, .. } | State::Between { lexer, .. } => {
                let from = *lexer;
                *lexer = self.lexer.transition(from, byte);
                if lexer.is_dead() {
                    return None;
                }
                let left = self.lexeme_left.get(&from.as_u32()).copied().unwrap_or(0).saturating_sub(1);
                let known = self.lexeme_left.entry(lexer.as_u32()).or_insert(left);
                *known = left.max(*known);
            }
        }
        Some(self.states.number(next))
    }

    /// The states that can be had from `state` without a byte.
    pub(crate) fn ends_of_lexeme(&mut self, state: u32) -> Vec<u32> {
        let (stack, item, lexer) = match self.states.values[state as usize] {
            State::End => return Vec::new(),
            State::Lexeme { stack, item, lexer } => (stack, item + 1, lexer),
            State::Between { stack, item, lexer } => (stack, item, lexer),
        };
        if self.accepts(lexer) { self.settle(stack, item) } else { Vec::new() }
    }

    /// Whether the state stands in text between lexemes.
    pub(crate) fn is_between(&self, state: u32) -> bool {
        matches!(self.states.values[state as usize], State::Between { .. })
    }

    /// Whether the output may end here.
    pub(crate) fn is_accepting(&self, state: u32) -> bool {
        self.states.values[state as usize] == State::End
    }

    /// Bytes that are needed at least to end the output as the grammar wants it.
    pub(crate) fn left(&self, state: u32) -> u32 {
        match self.states.values[state as usize] {
            State::End => 0,
            State::Lexeme { stack, item, lexer } => {
                let lexeme = self.lexeme_left.get(&lexer.as_u32()).copied().unwrap_or(0);
                lexeme + self.grammar.left[item as usize + 1] + self.stack_left(stack)
            }
            State::Between { stack, item, lexer } => {
                let between = u32::from(!self.accepts(lexer));
                between + self.grammar.left[item as usize] + self.stack_left(stack)
            }
        }
    }

    /// The only byte that may follow, where it is known to be the only one.
    pub(crate) fn forced(&mut self, state: u32) -> Option<u8> {
        match self.states.values[state as usize] {
            State::End => None,
            State::Lexeme { lexer, .. } | State::Between { lexer, .. } => match self.lexer.next_byte(lexer) {
                NextByte::ForcedByte(byte) => Some(byte),
                _ => None,
            },
        }
    }

    /// Bytes of one class do the same everywhere.
    pub(crate) fn class(&self, byte: u8) -> usize {
        self.lexer.alpha().map(byte)
    }

    /// Whether the lexer ran out of fuel or too many places were seen, after which nothing it says holds.
    pub(crate) fn has_failed(&self) -> bool {
        self.lexer.has_error() || self.num_visited > MAX_VISITED
    }

    fn accepts(&self, lexer: StateID) -> bool {
        is_accepting(&self.lexer, lexer)
    }

    fn stack_left(&self, stack: u32) -> u32 {
        self.stacks.values[stack as usize].left
    }

    /// What may be read from `item` on: lexemes, text between them, or nothing more.
    fn settle(&mut self, stack: u32, item: u32) -> Vec<u32> {
        if let Some(known) = self.settled.get(&(stack, item)) {
            return known.clone();
        }
        let mut found = Vec::new();
        let mut seen = Vec::new();
        self.visit(stack, item, &mut found, &mut seen);
        if !self.between.is_dead() {
            found.push(self.states.number(State::Between { stack, item, lexer: self.between }));
        }
        found.sort_unstable();
        found.dedup();
        self.settled.insert((stack, item), found.clone());
        found
    }

    /// Follows everything that costs no byte, with an explicit list of what is still to be seen.
    fn visit(&mut self, stack: u32, item: u32, found: &mut Vec<u32>, seen: &mut Vec<(u32, u32)>) {
        let mut known = HashSet::new();
        seen.push((stack, item));
        while let Some((stack, item)) = seen.pop() {
            if !known.insert((stack, item)) {
                continue;
            }
            self.num_visited += 1;
            if self.num_visited > MAX_VISITED {
                return;
            }
            match self.grammar.symbols[item as usize] {
                END => self.leave(stack, self.grammar.lhs[item as usize], found, seen),
                symbol => {
                    if self.grammar.is_nullable[symbol as usize] {
                        seen.push((stack, item + 1));
                    }
                    if self.grammar.lexeme[symbol as usize].is_some() {
                        self.begin(stack, item, symbol, found, seen);
                    } else {
                        let frame = self.frame(stack, item, symbol);
                        seen.extend(self.grammar.rules[symbol as usize].iter().map(|&rule| (frame, rule)));
                    }
                }
            }
        }
    }

    /// The start symbol, before anything is read.
    fn enter(&mut self, stack: u32, symbol: u32, found: &mut Vec<u32>, seen: &mut Vec<(u32, u32)>) {
        if self.grammar.lexeme[symbol as usize].is_some() {
            return;
        }
        if self.grammar.is_nullable[symbol as usize] {
            found.push(self.states.number(State::End));
        }
        for idx in 0..self.grammar.rules[symbol as usize].len() {
            let rule = self.grammar.rules[symbol as usize][idx];
            self.visit(stack, rule, found, seen);
        }
    }

    fn begin(&mut self, stack: u32, item: u32, symbol: u32, found: &mut Vec<u32>, seen: &mut Vec<(u32, u32)>) {
        let lexer = self.initial[symbol as usize];
        if lexer.is_dead() {
            return;
        }
        found.push(self.states.number(State::Lexeme { stack, item, lexer }));
        if self.accepts(lexer) {
            seen.push((stack, item + 1));
        }
    }

    /// The stack inside `symbol` when it is entered at `item`.
    fn frame(&mut self, stack: u32, item: u32, symbol: u32) -> u32 {
        let lhs = self.grammar.lhs[item as usize];
        if self.grammar.cycle[lhs as usize] == self.grammar.cycle[symbol as usize] {
            return stack;
        }
        let left = self.grammar.left[item as usize + 1].saturating_add(self.stack_left(stack));
        self.stacks.number(Frame { below: stack, symbol, item: item + 1, left })
    }

    /// What follows a rule of `symbol` that has ended.
    fn leave(&mut self, stack: u32, symbol: u32, found: &mut Vec<u32>, seen: &mut Vec<(u32, u32)>) {
        let frame = self.stacks.values[stack as usize];
        if frame.symbol == symbol {
            match frame.item {
                END => found.push(self.states.number(State::End)),
                item => seen.push((frame.below, item)),
            }
        }
        if self.grammar.is_cyclic[symbol as usize] {
            seen.extend(self.grammar.uses[symbol as usize].iter().map(|&item| (stack, item + 1)));
        }
    }
}

fn is_accepting(lexer: &RegexVec, state: StateID) -> bool {
    let desc = lexer.state_desc(state);
    desc.greedy_accepting.is_some() || desc.lazy_accepting.is_some()
}

/// Bytes of a shortest text of a lexeme, breadth first; notes on the way what is left from each state.
fn shortest(lexer: &mut RegexVec, initial: StateID, left: &mut HashMap<u32, u32>) -> Option<u32> {
    let mut classes: Vec<u8> = Vec::new();
    let mut layer = vec![initial];
    let mut depth_of: HashMap<_, _> = [(initial.as_u32(), 0u32)].into_iter().collect();
    let mut depth = 0;
    while !layer.is_empty() && !layer.iter().any(|&state| is_accepting(lexer, state)) {
        depth += 1;
        let mut next = Vec::new();
        for &state in &layer {
            let forced = match lexer.next_byte(state) {
                NextByte::ForcedByte(byte) => Some([byte]),
                _ => None,
            };
            if forced.is_none() && classes.is_empty() {
                classes = representatives(|byte| lexer.alpha().map(byte));
            }
            for &byte in forced.as_ref().map_or(classes.as_slice(), |forced| forced) {
                let to = lexer.transition(state, byte);
                if lexer.has_error() {
                    return None;
                }
                if !to.is_dead() && !depth_of.contains_key(&to.as_u32()) {
                    depth_of.insert(to.as_u32(), depth);
                    next.push(to);
                }
            }
        }
        layer = next;
    }
    // By the triangle inequality, what was reached after n bytes lacks at least the rest.
    for (state, at) in depth_of {
        let known = left.entry(state).or_insert(0);
        *known = (*known).max(depth - at);
    }
    Some(if layer.is_empty() { UNREACHABLE } else { depth })
}

/// One byte for each value of `class`, preferring what reads well.
pub(super) fn representatives<C: std::hash::Hash + Eq>(class: impl Fn(u8) -> C) -> Vec<u8> {
    let letters = (b'a'..=b'z').chain(b'0'..=b'9').chain(b'A'..=b'Z').chain([b'"', b'}', b']', b')']);
    let mut seen = HashSet::new();
    letters.chain(0..=u8::MAX).filter(|&byte| seen.insert(class(byte))).collect()
}

/// Why a grammar has a place at which too much may go on in too many ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crowded {
    /// More than the limit begin with the same symbol.
    Place,
    /// Counting them took this many steps, and was not done.
    Work(usize),
}

/// Items looked at for [`Rules::check_crowds`], at about 5 ns each; a language's grammar with every rule takes 3 % of it.
const MAX_CROWD_WORK: usize = 100_000_000;

impl Rules {
    /// Counts, for each symbol that may be expected, the items before each symbol that it may begin with: they all move
    /// on at once, when that one has been read.
    fn check_crowds(&self, limit: usize) -> Result<(), Crowded> {
        let num_symbols = self.rules.len();
        let is_kernel = |item: usize| item > 0 && self.symbols[item - 1] != END;
        let mut is_expected = vec![false; num_symbols];
        is_expected[self.start as usize] = true;
        for (item, &symbol) in self.symbols.iter().enumerate().filter(|&(_, &symbol)| symbol != END) {
            is_expected[symbol as usize] |= is_kernel(item);
        }
        // By symbol, and behind them by lexeme: whose count it is, and the count.
        let mut counts = vec![(u32::MAX, 0); num_symbols + self.class.len()];
        let mut seen = vec![u32::MAX; num_symbols];
        let mut work = 0;
        for expected in (0..num_symbols as u32).filter(|&symbol| is_expected[symbol as usize]) {
            let mut open = vec![expected];
            seen[expected as usize] = expected;
            while let Some(symbol) = open.pop() {
                for &first in &self.rules[symbol as usize] {
                    for &begun in self.symbols[first as usize..].iter().take_while(|&&symbol| symbol != END) {
                        work += 1;
                        let lexeme = self.lexeme[begun as usize];
                        let place = lexeme.map_or(begun as usize, |lexeme| num_symbols + lexeme.as_usize());
                        let count = &mut counts[place];
                        *count = if count.0 == expected { (expected, count.1 + 1) } else { (expected, 1) };
                        if count.1 > limit {
                            return Err(Crowded::Place);
                        }
                        if lexeme.is_none() && seen[begun as usize] != expected {
                            seen[begun as usize] = expected;
                            open.push(begun);
                        }
                        if !self.is_nullable[begun as usize] {
                            break;
                        }
                    }
                }
                if work > MAX_CROWD_WORK {
                    return Err(Crowded::Work(work));
                }
            }
        }
        Ok(())
    }

    fn read(grammar: &CGrammar) -> Self {
        let spec = grammar.lexer_spec();
        let mut rules = Self {
            symbols: Vec::new(),
            lhs: Vec::new(),
            rules: Vec::new(),
            is_nullable: Vec::new(),
            lexeme: Vec::new(),
            cycle: Vec::new(),
            is_cyclic: Vec::new(),
            uses: Vec::new(),
            start: 0,
            left: Vec::new(),
            whole: (0, 0),
            skips: spec.skip_by_class.clone(),
            class: spec.lexemes.iter().map(|lexeme| lexeme.class().as_usize()).collect(),
        };
        // Symbols are numbered as they are met, from the start symbol on.
        let mut number = HashMap::new();
        let mut order = Vec::new();
        let mut meet = |symbol: CSymIdx, order: &mut Vec<CSymIdx>| {
            *number.entry(symbol).or_insert_with(|| {
                order.push(symbol);
                order.len() as u32 - 1
            })
        };
        rules.start = meet(grammar.start(), &mut order);
        let mut at = 0;
        while at < order.len() {
            let symbol = grammar.sym_data(order[at]);
            rules.is_nullable.push(symbol.is_nullable || !symbol.cond_nullable.is_empty());
            rules.lexeme.push(symbol.lexeme);
            let mut firsts = Vec::with_capacity(symbol.rules.len());
            for &rule in &symbol.rules {
                firsts.push(rules.symbols.len() as u32);
                for &symbol in grammar.rule_rhs(rule).0 {
                    rules.symbols.push(meet(symbol, &mut order));
                    rules.lhs.push(at as u32);
                }
                rules.symbols.push(END);
                rules.lhs.push(at as u32);
            }
            rules.rules.push(firsts);
            at += 1;
        }
        rules.find_cycles();
        rules.add_whole();
        rules
    }

    /// Adds the symbol of the whole output behind all others.
    fn add_whole(&mut self) {
        let (symbol, item) = (self.rules.len() as u32, self.symbols.len() as u32);
        self.symbols.extend([self.start, END]);
        self.lhs.extend([symbol, symbol]);
        self.rules.push(vec![item]);
        self.is_nullable.push(self.is_nullable[self.start as usize]);
        self.lexeme.push(None);
        self.cycle.push(symbol);
        self.is_cyclic.push(false);
        self.uses.push(Vec::new());
        self.whole = (symbol, item);
    }

    /// Memory in bytes, about: what is kept for each item and each symbol.
    pub(super) fn memory_bytes(&self) -> usize {
        const ITEM_BYTES: usize = 16;
        const SYMBOL_BYTES: usize = 96;
        self.symbols.len() * ITEM_BYTES + self.rules.len() * SYMBOL_BYTES
    }

    /// Whether a lexeme is what may stand between others.
    pub(super) fn is_skip(&self, lexeme: LexemeIdx) -> bool {
        self.skips.contains(&lexeme)
    }

    /// What may stand before a lexeme.
    pub(super) fn skip_beside(&self, lexeme: LexemeIdx) -> LexemeIdx {
        self.skips[self.class[lexeme.as_usize()]]
    }

    /// Strongly connected symbols (Tarjan's algorithm, with a list instead of recursion).
    fn find_cycles(&mut self) {
        let num_symbols = self.rules.len();
        let mut edges = vec![Vec::new(); num_symbols];
        for (item, &symbol) in self.symbols.iter().enumerate().filter(|&(_, &symbol)| symbol != END) {
            edges[self.lhs[item] as usize].push(symbol as usize);
        }
        let (mut index, mut low) = (vec![usize::MAX; num_symbols], vec![0; num_symbols]);
        let (mut open, mut on_stack, mut count) = (Vec::new(), vec![false; num_symbols], 0);
        self.cycle = vec![0; num_symbols];
        let mut work = vec![(self.start as usize, 0)];
        while let Some((symbol, edge)) = work.pop() {
            if edge == 0 {
                index[symbol] = count;
                low[symbol] = count;
                count += 1;
                open.push(symbol);
                on_stack[symbol] = true;
            }
            if let Some(&to) = edges[symbol].get(edge) {
                work.push((symbol, edge + 1));
                if index[to] == usize::MAX {
                    work.push((to, 0));
                } else if on_stack[to] {
                    low[symbol] = low[symbol].min(index[to]);
                }
                continue;
            }
            if let Some(&(parent, _)) = work.last() {
                low[parent] = low[parent].min(low[symbol]);
            }
            if low[symbol] == index[symbol] {
                let first = open.iter().rposition(|&member| member == symbol).unwrap_or(0);
                for member in open.drain(first..) {
                    on_stack[member] = false;
                    self.cycle[member] = symbol as u32;
                }
            }
        }
        self.is_cyclic = vec![false; num_symbols];
        self.uses = vec![Vec::new(); num_symbols];
        for (item, &symbol) in self.symbols.iter().enumerate().filter(|&(_, &symbol)| symbol != END) {
            if self.cycle[symbol as usize] == self.cycle[self.lhs[item] as usize] {
                self.is_cyclic[symbol as usize] = true;
                self.uses[symbol as usize].push(item as u32);
            }
        }
    }

    /// Computes `left` from the least bytes of each lexeme, to a fixed point.
    fn measure(&mut self, least: &mut [u32]) {
        for (symbol, least) in least.iter_mut().enumerate() {
            if self.is_nullable[symbol] {
                *least = 0;
            }
        }
        self.left = vec![0; self.symbols.len() + 1];
        let mut changed = true;
        while changed {
            changed = false;
            for item in (0..self.symbols.len()).rev() {
                self.left[item] = match self.symbols[item] {
                    END => 0,
                    symbol => (least[symbol as usize] + self.left[item + 1]).min(UNREACHABLE),
                };
            }
            for (rules, least) in self.rules.iter().zip(&mut *least) {
                let best = rules.iter().map(|&rule| self.left[rule as usize]).min();
                if let Some(best) = best.filter(|best| best < least) {
                    *least = best;
                    changed = true;
                }
            }
        }
    }
}

/// Values with the numbers they were given.
#[derive(Clone)]
pub(super) struct Interned<T> {
    pub(super) values: Vec<T>,
    numbers: HashMap<T, u32>,
}

impl<T> Default for Interned<T> {
    fn default() -> Self {
        Self { values: Vec::new(), numbers: HashMap::new() }
    }
}

impl<T: Clone + Eq + std::hash::Hash> Interned<T> {
    pub(super) fn number(&mut self, value: T) -> u32 {
        if let Some(&known) = self.numbers.get(&value) {
            return known;
        }
        let number = self.values.len() as u32;
        self.values.push(value.clone());
        self.numbers.insert(value, number);
        number
    }
}
