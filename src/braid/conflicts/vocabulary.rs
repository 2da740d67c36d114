//! Allow-lists and deny-lists of one thing: modules, names, token ids. Together they allow what every allow-list has and
//! no deny-list takes away.
//!
//! They conflict where allow-lists were stated and nothing is left of them. Where something is left, both hold, and what
//! was taken away is only noted.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use super::{Clash, Note};

/// What an entry of a deny-list takes away: itself and what lies below it.
pub(super) trait Entry: Clone + Ord + Hash + ToString {
    /// The entries that would take this one away, itself first.
    fn covers(&self) -> Vec<Self>;
}

impl Entry for u32 {
    fn covers(&self) -> Vec<Self> {
        vec![*self]
    }
}

impl Entry for String {
    /// `net/http` lies below `net`, `os.path` below `os`, `std::fs` below `std`.
    fn covers(&self) -> Vec<Self> {
        let bytes = self.as_bytes();
        let borders = (1..bytes.len()).filter(|&at| matches!(bytes[at], b'/' | b'.') || bytes[at..].starts_with(b"::"));
        std::iter::once(self.clone()).chain(borders.map(|at| self[..at].to_owned())).collect()
    }
}

/// Allow-lists that one denied entry is noted against.
const NOTED_MAX: usize = 8;

/// The lists that were admitted so far.
pub(super) struct Vocabulary<T> {
    lists: Vec<List<T>>,
    /// What is still allowed; `None` while there is no allow-list.
    left: Option<BTreeSet<T>>,
    /// Each denied entry with who denied it first.
    denied: HashMap<T, usize>,
    /// What allow-lists name, under everything that would take it away: the entry, and whose it is.
    named: HashMap<T, Vec<(T, usize)>>,
}

#[derive(Clone)]
struct List<T> {
    owner: usize,
    allow: Option<BTreeSet<T>>,
    deny: BTreeSet<T>,
}

impl<T> Default for Vocabulary<T> {
    fn default() -> Self {
        Self { lists: Vec::new(), left: None, denied: HashMap::new(), named: HashMap::new() }
    }
}

impl<T: Entry> Vocabulary<T> {
    /// What the lists of `owner` would clash with.
    pub(super) fn clash(&self, owner: usize, allow: Option<&[T]>, deny: &[T], what: &str) -> Option<Clash> {
        let list = List::new(owner, allow, deny);
        // An empty allow-list says that there is nothing, which is no contradiction.
        let says_nothing = |allow: &Option<BTreeSet<T>>| allow.as_ref().is_some_and(BTreeSet::is_empty);
        if says_nothing(&list.allow) || says_nothing(&self.left) || !self.leaves_nothing(&list) {
            return None;
        }
        let with = self.needed(&list);
        let why = match (&list.allow, with.len()) {
            (Some(allow), 0) => {
                format!("it denies every {what} that it allows ({})", some_of(allow.iter().map(T::to_string)))
            }
            _ => format!("together they leave no {what} that is allowed"),
        };
        Some(Clash { with, why })
    }

    /// Admits the lists of `owner`; says what they take from lists of others, and those from theirs.
    pub(super) fn admit(&mut self, owner: usize, allow: Option<&[T]>, deny: &[T], what: &str) -> Vec<Note> {
        let list = List::new(owner, allow, deny);
        let why = |entry: &T| format!("{what} `{}` is denied", entry.to_string());
        let mut notes = Vec::new();
        for denied in &list.deny {
            for (entry, other) in self.named.get(denied).into_iter().flatten().take(NOTED_MAX) {
                notes.push(Note { between: [owner, *other], why: why(entry) });
            }
        }
        for entry in list.allow.iter().flatten() {
            let covers = entry.covers();
            if let Some(&other) = covers.iter().find_map(|cover| self.denied.get(cover)) {
                notes.push(Note { between: [owner, other], why: why(entry) });
            }
            covers.into_iter().for_each(|cover| self.named.entry(cover).or_default().push((entry.clone(), owner)));
        }
        match (self.left_of(&list), &mut self.left) {
            (Some(left), _) => self.left = Some(left),
            (None, Some(left)) => {
                let named = list.deny.iter().filter_map(|denied| self.named.get(denied)).flatten();
                named.for_each(|(entry, _)| {
                    left.remove(entry);
                });
            }
            (None, None) => {}
        }
        list.deny.iter().for_each(|entry| {
            self.denied.entry(entry.clone()).or_insert(owner);
        });
        self.lists.push(list);
        notes
    }

    fn leaves_nothing(&self, list: &List<T>) -> bool {
        match (self.left_of(list), &self.left) {
            (Some(left), _) => left.is_empty(),
            (None, Some(left)) => {
                let named = list.deny.iter().filter_map(|denied| self.named.get(denied)).flatten();
                let taken: BTreeSet<&T> = named.map(|(entry, _)| entry).filter(|entry| left.contains(entry)).collect();
                taken.len() == left.len()
            }
            (None, None) => false,
        }
    }

    /// What an allow-list leaves of what was allowed before; `None` for lists that only deny.
    fn left_of(&self, list: &List<T>) -> Option<BTreeSet<T>> {
        let is_denied = |entry: &T| {
            let is_denied = |cover: &T| list.deny.contains(cover) || self.denied.contains_key(cover);
            entry.covers().iter().any(is_denied)
        };
        let was_allowed = |entry: &T| self.left.as_ref().is_none_or(|left| left.contains(entry));
        let allow = list.allow.as_ref()?;
        Some(allow.iter().filter(|entry| was_allowed(entry) && !is_denied(entry)).cloned().collect())
    }

    /// Owners that are needed for nothing to be left: one where one suffices, else what remains when no more can go.
    fn needed(&self, list: &List<T>) -> Vec<usize> {
        if Self::default().leaves_nothing(list) {
            return Vec::new();
        }
        let with = |lists: &[&List<T>]| {
            let mut vocabulary = Self::default();
            for list in lists {
                vocabulary.admit(list.owner, list.allow_vec().as_deref(), &list.deny_vec(), "");
            }
            vocabulary.leaves_nothing(list)
        };
        let mut needed: Vec<&List<T>> = self.lists.iter().filter(|other| other.concerns(list)).collect();
        if let Some(one) = needed.iter().find(|other| with(&[other])) {
            return vec![one.owner];
        }
        for at in (0..needed.len()).rev() {
            let left_out = needed.remove(at);
            if !with(&needed) {
                needed.insert(at, left_out);
            }
        }
        needed.iter().map(|list| list.owner).collect()
    }
}

impl<T: Entry> List<T> {
    fn new(owner: usize, allow: Option<&[T]>, deny: &[T]) -> Self {
        Self { owner, allow: allow.map(|allow| allow.iter().cloned().collect()), deny: deny.iter().cloned().collect() }
    }

    fn allow_vec(&self) -> Option<Vec<T>> {
        self.allow.as_ref().map(|allow| allow.iter().cloned().collect())
    }

    fn deny_vec(&self) -> Vec<T> {
        self.deny.iter().cloned().collect()
    }

    /// Whether it could help to leave nothing of another: it allows, or denies what that one allows.
    fn concerns(&self, other: &Self) -> bool {
        self.allow.is_some()
            || other.allow.is_none()
            || other.allow.iter().flatten().any(|entry| entry.covers().iter().any(|cover| self.deny.contains(cover)))
    }
}

/// The first few of a list, for a sentence.
pub(super) fn some_of<T: ToString>(entries: impl Iterator<Item = T>) -> String {
    const SHOWN_MAX: usize = 5;
    let mut shown: Vec<String> = entries.take(SHOWN_MAX + 1).map(|entry| entry.to_string()).collect();
    if shown.len() > SHOWN_MAX {
        shown[SHOWN_MAX] = "...".to_owned();
    }
    shown.join(", ")
}
