//! Python's indentation, followed byte by byte beside a grammar that knows nothing of it.
//!
//! The grammar sees a flat sequence of logical lines; this automaton says where a line may begin and with which word:
//! that a header that ends its line gets an indented block, that a dedent returns to a width on the stack, that `else`
//! follows something that takes one, that a block of `match` holds `case` only. It reads just enough of a line for that:
//! its first word, brackets, strings, comments, joined lines, and whether it ends in a colon. Inside a line a state says
//! nothing about the text that was read, so that few states, and few masks, serve whole files.
//!
//! It is exact *together* with the grammar and relies on it for the inside of a line. That a line ends in a colon makes
//! it a header only because no other line of the grammar can; `match` begins a header if its line ends in a colon, and
//! else it is a name. `case` and a blank begin a clause inside a block of `match`, and outside of one they are refused
//! before anything that a pattern may begin with; without a blank, `case(x)` is a call. Brackets are counted but not
//! matched, and a carriage return counts as a blank, because the grammar lets it stand before a line feed only.
//!
//! An indentation is all spaces or all tabs, and all levels that are open at once are of the same kind: what Python
//! compares by two different tab sizes is refused. Lines that are blank or hold a comment only may begin with anything.
//!
//! A state is 32 bits: the mode, what the mode counts, one flag, and the number of the stack. Only stacks are interned.
//! Every state that is entered can be completed: what needs room for a further level is refused where there is none.

mod levels;
mod words;

use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use self::levels::{Blank, Body, Clause, Level, Levels};
use self::words::{Keyword, Words};
use super::automaton::{DEAD, Stepper};
use super::mask;
use super::vocabulary::{SortedTokens, Way};
use super::{GuideConfig, GuideError};
use crate::constraint::Granularity;

/// The width of a level that is yet to be seen.
const PENDING: u8 = u8::MAX;
/// Bits of a state's fields, from the lowest.
const MODE_BITS: u32 = 5;
const COUNT_BITS: u32 = 8;
const FLAG_BITS: u32 = 1;
const STACK_BITS: u32 = u32::BITS - MODE_BITS - COUNT_BITS - FLAG_BITS;
/// What a stack costs: its level, and an entry in the map.
const STACK_BYTES: usize = 64;
/// Where in a line the automaton is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Mode {
    /// In an indentation of so many spaces.
    Spaces,
    /// In an indentation of so many tabs.
    Tabs,
    /// In an indentation after which only a comment or the end of the line may follow.
    Astray,
    /// In a comment on a line of its own.
    BlankComment,
    /// In the first word of a line: a node of the words.
    Word,
    /// After `async`.
    Async,
    /// In the word after it: a node of the words.
    AsyncWord,
    /// After `except`.
    Except,
    /// After `case`.
    Case,
    /// After `case` and a blank.
    CaseBlank,
    /// Anywhere in a line; this and all modes below count brackets. The flag: a colon came last, outside brackets.
    Code,
    Comment,
    /// After a backslash.
    Backslash,
    /// After a backslash and a line feed.
    Joined,
    /// After the first quote of a string; here and below the flag tells `"` from `'`.
    One,
    /// After the second: an empty string, or the beginning of a long one.
    Two,
    Short,
    ShortEscape,
    Long,
    LongEscape,
    /// After a quote in a long string.
    EndOne,
    /// After two.
    EndTwo,
}

impl Mode {
    const ALL: [Self; 22] = [
        Self::Spaces,
        Self::Tabs,
        Self::Astray,
        Self::BlankComment,
        Self::Word,
        Self::Async,
        Self::AsyncWord,
        Self::Except,
        Self::Case,
        Self::CaseBlank,
        Self::Code,
        Self::Comment,
        Self::Backslash,
        Self::Joined,
        Self::One,
        Self::Two,
        Self::Short,
        Self::ShortEscape,
        Self::Long,
        Self::LongEscape,
        Self::EndOne,
        Self::EndTwo,
    ];
}

/// A state, unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    mode: Mode,
    count: u8,
    flag: bool,
    stack: u32,
}

impl State {
    fn of(number: u32) -> Self {
        let field = |shift: u32, bits: u32| (number >> shift) & ((1 << bits) - 1);
        Self {
            mode: Mode::ALL[field(0, MODE_BITS) as usize],
            count: field(MODE_BITS, COUNT_BITS) as u8,
            flag: field(MODE_BITS + COUNT_BITS, FLAG_BITS) != 0,
            stack: number >> (u32::BITS - STACK_BITS),
        }
    }

    /// Never [`DEAD`], because stacks count from 1.
    fn number(self) -> u32 {
        let low = self.mode as u32 | u32::from(self.count) << MODE_BITS;
        low | u32::from(self.flag) << (MODE_BITS + COUNT_BITS) | self.stack << (u32::BITS - STACK_BITS)
    }

    fn line_start(stack: u32) -> Self {
        Self { mode: Mode::Spaces, count: 0, flag: false, stack }
    }

    fn with(self, mode: Mode) -> Self {
        Self { mode, ..self }
    }

    /// The same place with something other than a blank behind it.
    fn code(self) -> Self {
        Self { mode: Mode::Code, flag: false, ..self }
    }

    /// Whether this is behind the first word of a line.
    fn is_inside(self) -> bool {
        self.mode as u8 >= Mode::Code as u8
    }

    /// The blank that the indentation before this place is made of, and how many.
    fn indentation(self) -> Option<(Blank, u8)> {
        match self.mode {
            Mode::Spaces => Some((Blank::Space, self.count)),
            Mode::Tabs => Some((Blank::Tab, self.count)),
            _ => None,
        }
    }
}

/// What the automaton of one constraint is made of, and the stacks that its sequences met.
pub(crate) struct Layout {
    part: String,
    words: Words,
    levels: RwLock<Levels>,
    pub(crate) start: u32,
    max_width: u8,
    max_depth: u8,
    max_brackets: u8,
    max_bytes: usize,
    classes: Box<[u8; 256]>,
}

impl Layout {
    /// The layout of Python code; `None` for a single expression, whose lines are joined by brackets alone.
    pub(crate) fn python(part: &str, granularity: Granularity, config: &GuideConfig) -> Option<Self> {
        let is_body = match granularity {
            Granularity::File | Granularity::Statements => false,
            Granularity::FunctionBody => true,
            Granularity::Expression => return None,
        };
        // The first two are those of the start.
        let max_stacks = config.max_layout_stacks.clamp(2, (1 << STACK_BITS) - 1);
        let words = Words::new();
        let classes = Box::new(std::array::from_fn(|byte| class(byte as u8, &words)));
        let mut layout = Self {
            part: part.to_owned(),
            words,
            levels: RwLock::new(Levels::new(max_stacks)),
            start: DEAD,
            max_width: config.max_indent_width.clamp(1, PENDING - 1),
            max_depth: config.max_indent_depth.max(1),
            max_brackets: config.max_open_brackets,
            max_bytes: max_stacks * STACK_BYTES,
            classes,
        };
        let mut walker = layout.walker();
        let margin = walker.intern(Level::at_margin(if is_body { Body::Floor } else { Body::Lines }));
        let start = margin.and_then(|margin| if is_body { walker.open(margin, Body::Lines) } else { Some(margin) });
        drop(walker);
        layout.start = start.map_or(DEAD, |stack| State::line_start(stack).number());
        Some(layout)
    }

    /// A walk that reads what is known, and lets go of it for as long as it adds something.
    pub(crate) fn walker(&self) -> LayoutWalker<'_> {
        LayoutWalker { layout: self, levels: None, failed: false }
    }

    /// The state after `bytes`, [`DEAD`] if they are not allowed.
    ///
    /// # Errors
    /// [`GuideError::LimitExceeded`] when there is no room for another stack.
    pub(crate) fn run(&self, state: u32, bytes: &[u8]) -> Result<u32, GuideError> {
        let mut walker = self.walker();
        let end = bytes.iter().fold(state, |state, &byte| walker.step(state, byte));
        walker.check().map(|()| end)
    }

    /// Bytes of one class do the same in every state.
    pub(crate) fn class(&self, byte: u8) -> usize {
        usize::from(self.classes[byte as usize])
    }

    /// Whether the output may end here: where the line may end, and nothing is missing after it.
    pub(crate) fn is_accepting(&self, state: u32) -> bool {
        state != DEAD && self.walker().may_end(State::of(state))
    }

    /// At most the bytes of the shortest text from `state` to an accepting state, as far as this automaton alone sees.
    pub(crate) fn min_bytes_to_end(&self, state: u32) -> Option<u32> {
        if state == DEAD {
            return None;
        }
        Some(self.walker().bytes_to_end(State::of(state)))
    }

    /// Memory that this automaton may come to hold, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.max_bytes
    }

    /// Allows in `row`, which allows nothing yet, the tokens that may follow `state`.
    ///
    /// Costs a walk over the tokens with line feeds, backslashes and `#`, and at a line's start over first words too.
    pub(crate) fn allow(&self, state: u32, tokens: &SortedTokens, row: &mut [u32], walker: &mut LayoutWalker<'_>) {
        let split = tokens.split();
        let way = |walker: &mut LayoutWalker<'_>, state, byte| match walker.step(state, byte) {
            DEAD => Way::Refused,
            next => Way::On(next),
        };
        let is_free = |state| self.is_free(State::of(state), split.max_opened);
        if is_free(state) {
            row[..split.plain_row.len()].copy_from_slice(&split.plain_row);
        } else {
            let step = |state, byte| match way(walker, state, byte) {
                Way::On(next) if is_free(next) => Way::All,
                way => way,
            };
            split.plain.walk_ways(state, step, |ids| allow_all(row, ids));
        }
        split.other.walk_ways(state, |state, byte| way(walker, state, byte), |ids| allow_all(row, ids));
    }

    /// Whether every token may follow that holds no line feed, backslash or `#`, and opens at most so many brackets.
    fn is_free(&self, state: State, max_opened: usize) -> bool {
        let has_room = usize::from(state.count) + max_opened <= usize::from(self.max_brackets);
        state.is_inside() && state.mode != Mode::Backslash && has_room
    }
}

fn allow_all(row: &mut [u32], ids: &[u32]) {
    ids.iter().for_each(|&id| mask::allow(row, id));
}

/// A letter, a digit, an underscore, or a byte of a character beyond ASCII.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | 0x0C)
}

/// What a pattern may begin with.
fn begins_pattern(byte: u8) -> bool {
    is_word(byte) || matches!(byte, b'"' | b'\'' | b'(' | b'[' | b'{' | b'-' | b'*' | b'.')
}

/// The class of a byte: all that no mode tells apart has the same.
fn class(byte: u8, words: &Words) -> u8 {
    match byte {
        b'(' | b'[' | b'{' => b'(',
        b')' | b']' | b'}' => b')',
        b'-' | b'.' => b'-',
        _ if words.has_letter(byte) => byte,
        b'0'..=b'9' => b'0',
        _ if is_word(byte) => b'_',
        b'\n' | b'\r' | b' ' | b'\t' | 0x0C | b'#' | b'\\' | b'"' | b'\'' | b':' | b'*' | b'@' => byte,
        _ => 0,
    }
}

/// One walk over bytes or over the vocabulary.
pub(crate) struct LayoutWalker<'a> {
    layout: &'a Layout,
    levels: Option<RwLockReadGuard<'a, Levels>>,
    failed: bool,
}

impl LayoutWalker<'_> {
    /// # Errors
    /// [`GuideError::LimitExceeded`] if there was no room for a stack; no state of the walk means anything then.
    pub(crate) fn check(&self) -> Result<(), GuideError> {
        if self.failed { Err(GuideError::LimitExceeded { part: self.layout.part.clone() }) } else { Ok(()) }
    }

    fn levels(&mut self) -> &Levels {
        let levels = &self.layout.levels;
        self.levels.get_or_insert_with(|| levels.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn level(&mut self, stack: u32) -> Level {
        self.levels().get(stack)
    }

    fn intern(&mut self, level: Level) -> Option<u32> {
        if let known @ Some(_) = self.levels().find(&level) {
            return known;
        }
        self.levels = None;
        let made = self.layout.levels.write().unwrap_or_else(PoisonError::into_inner).intern(level);
        self.failed |= made.is_none();
        made
    }

    /// The stack with another last line on its top level.
    fn set_clause(&mut self, stack: u32, clause: Clause) -> Option<u32> {
        let level = self.level(stack);
        if level.clause == clause { Some(stack) } else { self.intern(Level { clause, ..level }) }
    }

    /// The stack with a further level of unknown width.
    fn open(&mut self, stack: u32, body: Body) -> Option<u32> {
        let top = self.level(stack);
        self.intern(Level {
            below: Some(stack),
            width: PENDING,
            blank: top.blank,
            body,
            clause: Clause::Done,
            depth: top.depth + 1,
            is_closable_below: top.is_closable_below && !top.clause.needs_more(),
        })
    }

    fn has_room(&self, level: &Level) -> bool {
        level.depth < self.layout.max_depth && level.width < self.layout.max_width
    }

    /// The next state; `None` where the byte is refused.
    fn next(&mut self, state: State, byte: u8) -> Option<State> {
        match state.mode {
            Mode::Spaces | Mode::Tabs => self.in_indentation(state, byte),
            Mode::Astray => in_blank_line(state, byte),
            Mode::BlankComment => Some(if byte == b'\n' { State::line_start(state.stack) } else { state }),
            Mode::Word => self.in_word(state, byte),
            Mode::Async => match byte {
                b' ' | b'\t' | 0x0C => Some(state),
                _ => self.in_async_word(State { mode: Mode::AsyncWord, count: Words::ASYNC, ..state }, byte),
            },
            Mode::AsyncWord => self.in_async_word(state, byte),
            Mode::Except => self.after_except(state, byte),
            Mode::Case | Mode::CaseBlank => self.after_case(state, byte),
            Mode::Comment if byte != b'\n' => Some(state),
            Mode::Code | Mode::Comment | Mode::Joined => self.in_code(state, byte),
            Mode::Backslash => match byte {
                b'\n' => Some(state.with(Mode::Joined)),
                b'\r' => Some(state),
                _ => None,
            },
            Mode::Two if byte != state.quote() => self.in_code(state.code(), byte),
            _ => state.in_text(byte),
        }
    }

    fn in_indentation(&mut self, state: State, byte: u8) -> Option<State> {
        let State { mode, count, stack, .. } = state;
        match byte {
            0x0C => Some(State::line_start(stack)),
            b' ' | b'\t' => {
                let own = if byte == b' ' { Mode::Spaces } else { Mode::Tabs };
                let goes_on = (mode == own || count == 0) && count < self.layout.max_width;
                let next = State { mode: own, count: count + u8::from(goes_on), ..state };
                Some(if goes_on { next } else { State { mode: Mode::Astray, count: 0, ..state } })
            }
            b'\r' | b'\n' | b'#' => in_blank_line(state, byte),
            b'\\' => None,
            _ => {
                let stack = self.settle(state)?;
                self.begin_line(State { stack, ..state }, byte)
            }
        }
    }

    /// The stack on whose top level a line of this indentation stands.
    fn settle(&mut self, state: State) -> Option<u32> {
        let (blank, width) = state.indentation()?;
        let mut stack = state.stack;
        let mut level = self.level(stack);
        if level.width == PENDING {
            let below = level.below.map(|below| self.level(below)).filter(|below| below.width < width)?;
            let is_alike = below.blank.is_none_or(|below| below == blank);
            let settled = Level { width, blank: Some(blank), ..level };
            return if is_alike { self.intern(settled) } else { None };
        }
        while level.width > width {
            if level.clause.needs_more() {
                return None;
            }
            stack = level.below?;
            level = self.level(stack);
        }
        let is_alike = width == 0 || level.blank == Some(blank);
        (level.width == width && is_alike && level.body != Body::Floor).then_some(stack)
    }

    /// The first byte of a line.
    fn begin_line(&mut self, state: State, byte: u8) -> Option<State> {
        if is_word(byte) {
            return self.in_word(State { mode: Mode::Word, count: Words::LINE, ..state }, byte);
        }
        let level = self.level(state.stack);
        if byte == b'@' && level.body == Body::Lines && level.clause != Clause::Try {
            return self.begin(state, Clause::Decorated);
        }
        let begun = if level.takes_any() { self.begin(state, Clause::Done) } else { None };
        self.in_code(begun?, byte)
    }

    /// In a line that is what `clause` says.
    fn begin(&mut self, state: State, clause: Clause) -> Option<State> {
        let stack = self.set_clause(state.stack, clause)?;
        Some(State { mode: Mode::Code, count: 0, flag: false, stack })
    }

    fn in_word(&mut self, state: State, byte: u8) -> Option<State> {
        let level = self.level(state.stack);
        if !is_word(byte) {
            return match self.layout.words.keyword(state.count) {
                Some(keyword) => self.after_keyword(state, &level, keyword, byte),
                None if level.takes_any() => {
                    let begun = self.begin(state, Clause::Done)?;
                    self.in_code(begun, byte)
                }
                None => None,
            };
        }
        match self.layout.words.child(state.count, byte) {
            Some(node) if level.takes_any() || self.layout.words.below(node).meets(level.keywords()) => {
                Some(State { count: node, ..state })
            }
            None if level.takes_any() => self.begin(state, Clause::Done),
            _ => None,
        }
    }

    fn after_keyword(&mut self, state: State, level: &Level, keyword: Keyword, byte: u8) -> Option<State> {
        if !level.keywords().contains(keyword) {
            return None;
        }
        let clause = match keyword {
            Keyword::If | Keyword::Elif => Clause::If,
            Keyword::For | Keyword::While => Clause::Loop,
            Keyword::Try => Clause::Try,
            Keyword::Else if matches!(level.clause, Clause::Except | Clause::ExceptStar) => Clause::TryElse,
            Keyword::Else | Keyword::Finally | Keyword::With | Keyword::Def | Keyword::Class => Clause::Header,
            // Were there no room for its cases, a `match` could not be completed.
            Keyword::Match if self.has_room(level) => Clause::Match,
            Keyword::Match => return None,
            Keyword::Async => return self.next(State { mode: Mode::Async, count: 0, ..state }, byte),
            Keyword::Except => return self.after_except(State { mode: Mode::Except, count: 0, ..state }, byte),
            Keyword::Case => return self.after_case(State { mode: Mode::Case, count: 0, ..state }, byte),
        };
        let begun = self.begin(state, clause)?;
        self.in_code(begun, byte)
    }

    fn in_async_word(&mut self, state: State, byte: u8) -> Option<State> {
        let words = &self.layout.words;
        let level = self.level(state.stack);
        if is_word(byte) {
            let node = words.child(state.count, byte)?;
            let fits = words.below(node).meets(level.keywords());
            return fits.then_some(State { count: node, ..state });
        }
        let keyword = words.keyword(state.count).filter(|&keyword| level.keywords().contains(keyword))?;
        let begun = self.begin(state, if keyword == Keyword::For { Clause::Loop } else { Clause::Header })?;
        self.in_code(begun, byte)
    }

    fn after_except(&mut self, state: State, byte: u8) -> Option<State> {
        let before = self.level(state.stack).clause;
        let clause = match byte {
            b' ' | b'\t' | 0x0C => return Some(state),
            b'*' if before == Clause::Except => return None,
            b'*' => Clause::ExceptStar,
            _ if before == Clause::ExceptStar => return None,
            _ => Clause::Except,
        };
        let begun = self.begin(state, clause)?;
        self.in_code(begun, byte)
    }

    fn after_case(&mut self, state: State, byte: u8) -> Option<State> {
        let is_clause = self.level(state.stack).body == Body::Cases;
        let is_apart = state.mode == Mode::CaseBlank;
        match byte {
            b' ' | b'\t' | 0x0C => Some(state.with(Mode::CaseBlank)),
            _ if is_clause != (is_apart && begins_pattern(byte)) => None,
            _ => {
                let begun = self.begin(state, if is_clause { Clause::Case } else { Clause::Done })?;
                self.in_code(begun, byte)
            }
        }
    }

    fn in_code(&mut self, state: State, byte: u8) -> Option<State> {
        match byte {
            b'\n' if state.count == 0 => self.end_line(state),
            b'\n' => Some(state.code()),
            b'#' => self.may_end_line(state).then(|| state.with(Mode::Comment)),
            b'\\' => Some(state.with(Mode::Backslash)),
            b'"' | b'\'' => Some(State { mode: Mode::One, flag: byte == b'"', ..state }),
            b'(' | b'[' | b'{' => {
                (state.count < self.layout.max_brackets).then(|| State { count: state.count + 1, ..state.code() })
            }
            b')' | b']' | b'}' => Some(State { count: state.count.saturating_sub(1), ..state.code() }),
            b':' if state.count == 0 => self.after_colon(state),
            _ if is_blank(byte) => Some(state),
            _ => Some(state.code()),
        }
    }

    /// Whether a comment here can be completed, which only a line feed ends.
    fn may_end_line(&mut self, state: State) -> bool {
        if state.count > 0 {
            return true;
        }
        let level = self.level(state.stack);
        level.clause != Clause::Case && (!state.flag || self.has_room(&level))
    }

    fn after_colon(&mut self, state: State) -> Option<State> {
        let clause = self.level(state.stack).clause;
        let stack = match clause {
            Clause::Case => self.set_clause(state.stack, Clause::Header)?,
            _ => state.stack,
        };
        let opens = clause == Clause::Case || clause.body().is_some();
        Some(State { stack, flag: opens, ..state.code() })
    }

    /// The line feed that ends a logical line.
    fn end_line(&mut self, state: State) -> Option<State> {
        if !self.may_end_line(state) {
            return None;
        }
        let clause = self.level(state.stack).clause;
        let stack = self.set_clause(state.stack, clause.after_line())?;
        let opened = clause.body().filter(|_| state.flag);
        let stack = opened.map_or(Some(stack), |body| self.open(stack, body))?;
        Some(State::line_start(stack))
    }

    fn may_end(&mut self, state: State) -> bool {
        if state.mode == Mode::Joined {
            return false;
        }
        let Some(end) = self.next(state, b'\n').filter(|end| end.mode == Mode::Spaces) else { return false };
        let level = self.level(end.stack);
        level.width != PENDING && level.is_closable_below && !level.clause.needs_more()
    }

    /// What closes strings and brackets, gives a header its block and a `try` its clause; never too much.
    fn bytes_to_end(&mut self, state: State) -> u32 {
        if self.may_end(state) {
            return 0;
        }
        let text = match state.mode {
            Mode::One | Mode::Short | Mode::EndTwo => 1,
            Mode::ShortEscape | Mode::EndOne => 2,
            Mode::Long => 3,
            Mode::LongEscape => 4,
            _ => 0,
        };
        let is_inside = state.is_inside();
        let brackets = if is_inside { u32::from(state.count) } else { 0 };
        let mut level = self.level(state.stack);
        let mut block = 0;
        if level.width == PENDING {
            let typed = state.indentation().map_or(0, |(_, width)| width);
            let wider = level.below.map_or(0, |below| self.level(below).width + 1);
            let line = if level.body == Body::Cases { "case 0:0" } else { "0" };
            block = u32::from(wider.saturating_sub(typed)) + line.len() as u32;
        }
        // A clause that is still missing takes a line of its own, unless this one is it.
        let mut clauses = 0;
        let mut is_own_line = !is_inside && block == 0;
        loop {
            if level.clause.needs_more() && !std::mem::take(&mut is_own_line) {
                clauses += 1 + u32::from(level.width) + level.clause.min_bytes_of_rest();
            }
            let Some(below) = level.below else { break };
            level = self.level(below);
        }
        (text + brackets + block + clauses).max(1)
    }
}

impl State {
    fn quote(self) -> u8 {
        if self.flag { b'"' } else { b'\'' }
    }

    /// Inside a string, whose raw kinds end where others do.
    fn in_text(self, byte: u8) -> Option<Self> {
        let is_long = self.mode as u8 >= Mode::Long as u8;
        let inside = if is_long { Mode::Long } else { Mode::Short };
        match (self.mode, byte) {
            // The line feed of a joined line may have a carriage return before it.
            (Mode::ShortEscape, b'\r') => Some(self),
            (Mode::ShortEscape | Mode::LongEscape, _) => Some(self.with(inside)),
            (_, b'\\') => Some(self.with(if is_long { Mode::LongEscape } else { Mode::ShortEscape })),
            (_, b'\n') if !is_long => None,
            _ if byte != self.quote() => Some(self.with(inside)),
            (Mode::One, _) => Some(self.with(Mode::Two)),
            (Mode::Two, _) => Some(self.with(Mode::Long)),
            (Mode::Long, _) => Some(self.with(Mode::EndOne)),
            (Mode::EndOne, _) => Some(self.with(Mode::EndTwo)),
            _ => Some(self.code()),
        }
    }
}

/// Before the comment or the end of a line that holds nothing else.
fn in_blank_line(state: State, byte: u8) -> Option<State> {
    match byte {
        b'\n' => Some(State::line_start(state.stack)),
        b'#' => Some(State { mode: Mode::BlankComment, count: 0, ..state }),
        // As for Python, a form feed is the beginning of the line.
        0x0C => Some(State::line_start(state.stack)),
        _ if is_blank(byte) => Some(State { mode: Mode::Astray, count: 0, ..state }),
        _ => None,
    }
}

impl Stepper for LayoutWalker<'_> {
    fn step(&mut self, state: u32, byte: u8) -> u32 {
        if self.failed || state == DEAD {
            return DEAD;
        }
        let next = self.next(State::of(state), byte);
        next.filter(|_| !self.failed).map_or(DEAD, State::number)
    }

    fn is_sound(&self) -> bool {
        !self.failed
    }
}
