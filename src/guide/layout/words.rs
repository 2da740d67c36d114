//! The words that a line may begin with and that mean something for the lines after it.

/// A word that a line of Python begins with, by what it does to the lines after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Keyword {
    If,
    Elif,
    Else,
    For,
    While,
    Try,
    Except,
    Finally,
    With,
    Def,
    Class,
    Async,
    Match,
    Case,
}

impl Keyword {
    /// As a member of a [`Keywords`].
    pub(super) const fn set(self) -> Keywords {
        Keywords(1 << self as u16)
    }
}

/// A set of keywords.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Keywords(u16);

impl Keywords {
    pub(super) const NONE: Self = Self(0);

    pub(super) const fn of(keywords: &[Keyword]) -> Self {
        let (mut set, mut at) = (0, 0);
        while at < keywords.len() {
            set |= keywords[at].set().0;
            at += 1;
        }
        Self(set)
    }

    pub(super) const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(super) const fn contains(self, keyword: Keyword) -> bool {
        self.meets(keyword.set())
    }
}

const AT_LINE_START: [(&str, Keyword); 14] = [
    ("if", Keyword::If),
    ("elif", Keyword::Elif),
    ("else", Keyword::Else),
    ("for", Keyword::For),
    ("while", Keyword::While),
    ("try", Keyword::Try),
    ("except", Keyword::Except),
    ("finally", Keyword::Finally),
    ("with", Keyword::With),
    ("def", Keyword::Def),
    ("class", Keyword::Class),
    ("async", Keyword::Async),
    ("match", Keyword::Match),
    ("case", Keyword::Case),
];
const AFTER_ASYNC: [(&str, Keyword); 3] = [("def", Keyword::Def), ("for", Keyword::For), ("with", Keyword::With)];

/// Both lists of words as one trie.
pub(super) struct Words {
    nodes: Vec<Node>,
}

#[derive(Clone, Default)]
struct Node {
    /// The letters that lead on, and where to.
    children: Vec<(u8, u8)>,
    /// The word that ends here.
    keyword: Option<Keyword>,
    /// The words that begin so.
    below: Keywords,
}

impl Words {
    /// Before the first letter of a line.
    pub(super) const LINE: u8 = 0;
    /// Before the first letter of the word after `async`.
    pub(super) const ASYNC: u8 = 1;

    pub(super) fn new() -> Self {
        let mut words = Self { nodes: vec![Node::default(); 2] };
        AT_LINE_START.iter().for_each(|&(word, keyword)| words.insert(Self::LINE, word, keyword));
        AFTER_ASYNC.iter().for_each(|&(word, keyword)| words.insert(Self::ASYNC, word, keyword));
        words
    }

    fn insert(&mut self, root: u8, word: &str, keyword: Keyword) {
        let end = word.bytes().fold(root, |at, letter| {
            self.nodes[at as usize].below = self.nodes[at as usize].below.union(keyword.set());
            self.child(at, letter).unwrap_or_else(|| {
                let child = self.nodes.len() as u8;
                self.nodes.push(Node::default());
                self.nodes[at as usize].children.push((letter, child));
                child
            })
        });
        let end = &mut self.nodes[end as usize];
        end.below = end.below.union(keyword.set());
        end.keyword = Some(keyword);
    }

    pub(super) fn child(&self, node: u8, letter: u8) -> Option<u8> {
        let children = &self.nodes[node as usize].children;
        children.iter().find(|child| child.0 == letter).map(|child| child.1)
    }

    pub(super) fn keyword(&self, node: u8) -> Option<Keyword> {
        self.nodes[node as usize].keyword
    }

    /// The words that begin with what was read.
    pub(super) fn below(&self, node: u8) -> Keywords {
        self.nodes[node as usize].below
    }

    /// Whether some word holds the letter.
    pub(super) fn has_letter(&self, letter: u8) -> bool {
        self.nodes.iter().any(|node| node.children.iter().any(|child| child.0 == letter))
    }
}
