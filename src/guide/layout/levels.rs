//! The stack of indentations: what is open, how wide, and what may follow in it.

use std::collections::HashMap;

use super::words::{Keyword, Keywords};

/// What stands in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Body {
    Lines,
    /// Clauses of `match` only.
    Cases,
    /// Nothing: the place that a function's body is indented from.
    Floor,
}

/// What a level's last line is while it is read, and what may follow it and its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Clause {
    /// A line without a block, or whose block needs nothing after it.
    Done,
    /// A header whose block needs nothing after it.
    Header,
    /// `if`, `elif`.
    If,
    /// `for`, `while`.
    Loop,
    /// `try`: a clause has to follow.
    Try,
    Except,
    ExceptStar,
    /// The `else` of a `try`.
    TryElse,
    /// `match`, which is a header only where a colon ends the line.
    Match,
    /// `case`, before its colon.
    Case,
    /// A decorator: a definition has to follow.
    Decorated,
}

use Keyword as K;

/// What may begin a line anywhere.
const STATEMENTS: Keywords =
    Keywords::of(&[K::If, K::For, K::While, K::Try, K::With, K::Def, K::Class, K::Async, K::Match, K::Case]);
const DEFINITIONS: Keywords = Keywords::of(&[K::Def, K::Class, K::Async]);

impl Clause {
    /// Whether the level cannot end here.
    pub(super) fn needs_more(self) -> bool {
        matches!(self, Self::Try | Self::Decorated)
    }

    /// Bytes of the shortest line that brings what is missing.
    pub(super) fn min_bytes_of_rest(self) -> u32 {
        let word = match self {
            Self::Try => "except",
            Self::Decorated => "def",
            _ => "",
        };
        word.len() as u32
    }

    /// The block that a colon at the line's end opens.
    pub(super) fn body(self) -> Option<Body> {
        match self {
            Self::Done | Self::Case | Self::Decorated => None,
            Self::Match => Some(Body::Cases),
            _ => Some(Body::Lines),
        }
    }

    /// What is left of it when its line has ended.
    pub(super) fn after_line(self) -> Self {
        if matches!(self, Self::Header | Self::Match) { Self::Done } else { self }
    }

    /// The words of the clauses that may follow.
    fn clauses(self) -> Keywords {
        Keywords::of(match self {
            Self::If => &[K::Elif, K::Else],
            Self::Loop => &[K::Else],
            Self::Try => &[K::Except, K::Finally],
            Self::Except | Self::ExceptStar => &[K::Except, K::Else, K::Finally],
            Self::TryElse => &[K::Finally],
            Self::Done | Self::Header | Self::Match | Self::Case | Self::Decorated => &[],
        })
    }
}

/// The character that an indentation is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Blank {
    Space,
    Tab,
}

/// The top of a stack; what is below it is another stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Level {
    pub(super) below: Option<u32>,
    /// Columns, or [`super::PENDING`].
    pub(super) width: u8,
    /// What the levels so far are made of; `None` at the margin.
    pub(super) blank: Option<Blank>,
    pub(super) body: Body,
    pub(super) clause: Clause,
    /// Levels below.
    pub(super) depth: u8,
    /// Whether nothing is missing below.
    pub(super) is_closable_below: bool,
}

impl Level {
    pub(super) fn at_margin(body: Body) -> Self {
        Self { below: None, width: 0, blank: None, body, clause: Clause::Done, depth: 0, is_closable_below: true }
    }

    /// Whether a line may begin with anything that is no keyword of ours.
    pub(super) fn takes_any(&self) -> bool {
        self.body == Body::Lines && !self.clause.needs_more()
    }

    /// The keywords a line may begin with.
    pub(super) fn keywords(&self) -> Keywords {
        match (self.body, self.clause) {
            (Body::Floor, _) => Keywords::NONE,
            (Body::Cases, _) => Keyword::Case.set(),
            (_, Clause::Decorated) => DEFINITIONS,
            (_, Clause::Try) => Clause::Try.clauses(),
            (_, clause) => STATEMENTS.union(clause.clauses()),
        }
    }
}

/// All stacks that were met; those of equal content are one.
pub(super) struct Levels {
    levels: Vec<Level>,
    number: HashMap<Level, u32>,
    max: usize,
}

impl Levels {
    pub(super) fn new(max: usize) -> Self {
        Self { levels: Vec::new(), number: HashMap::new(), max }
    }

    pub(super) fn get(&self, stack: u32) -> Level {
        self.levels[stack as usize - 1]
    }

    pub(super) fn find(&self, level: &Level) -> Option<u32> {
        self.number.get(level).copied()
    }

    /// The stack of this content, counted from 1; `None` when there is no room for a new one.
    pub(super) fn intern(&mut self, level: Level) -> Option<u32> {
        if let Some(known) = self.find(&level) {
            return Some(known);
        }
        if self.levels.len() >= self.max {
            return None;
        }
        self.levels.push(level);
        let number = self.levels.len() as u32;
        self.number.insert(level, number);
        Some(number)
    }
}
