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

/// The lists that were admitted so far.
pub(super) struct Vocabulary<T> {
    lists: Vec<List<T>>,
    /// What is still allowed; `None` while there is no allow-list.
    left: Option<BTreeSet<T>>,
    /// Each denied entry with who denied it first.
    denied: HashMap<T, usize>,
    /// Which lists name an entry, or one below it, as allowed.
    allowed_by: HashMap<T, Vec<usize>>,
}

#[derive(Clone)]
struct List<T> {
    owner: usize,
    allow: Option<BTreeSet<T>>,
    deny: BTreeSet<T>,
}

impl<T> Default for Vocabulary<T> {
    fn default() -> Self {
        Self { lists: Vec::new(), left: None, denied: HashMap::new(), allowed_by: HashMap::new() }
    }
}

impl<T: Entry> Vocabulary<T> {
    /// What the lists of `owner` would clash with.
    pub(super) fn clash(&self, owner: usize, allow: Option<&[T]>, deny: &[T], what: &str) -> Option<Clash> {
        let list = List::new(owner, allow, deny);
        // An empty allow-list says that there is nothing, which is no contradiction.
        if list.allow.as_ref().is_some_and(BTreeSet::is_empty) || self.allows_nothing() {
            return None;
        }
        if !self.leaves_nothing(&list) {
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
        let mut notes = Vec::new();
        for entry in &list.deny {
            for &other in self.allowed_by.get(entry).into_iter().flatten().filter(|&&other| other != owner) {
                notes.push(Note { between: [owner, other], why: format!("{what} `{}` is denied", entry.to_string()) });
            }
        }
        for entry in list.allow.iter().flatten() {
            let covers = entry.covers();
            if let Some(&other) = covers.iter().find_map(|cover| self.denied.get(cover)) {
                notes.push(Note { between: [owner, other], why: format!("{what} `{}` is denied", entry.to_string()) });
            }
            covers.into_iter().for_each(|cover| self.allowed_by.entry(cover).or_default().push(owner));
        }
        if let Some(left) = self.left_after(&list) {
            self.left = Some(left);
        }
        list.deny.iter().for_each(|entry| {
            self.denied.entry(entry.clone()).or_insert(owner);
        });
        self.lists.push(list);
        notes
    }

    fn allows_nothing(&self) -> bool {
        self.left.as_ref().is_some_and(BTreeSet::is_empty)
    }

    fn leaves_nothing(&self, list: &List<T>) -> bool {
        self.left_after(list).is_some_and(|left| left.is_empty())
    }

    /// What is allowed with one more list; `None` where it changes nothing, or there is no allow-list.
    fn left_after(&self, list: &List<T>) -> Option<BTreeSet<T>> {
        let is_denied = |entry: &T| entry.covers().iter().any(|cover| list.deny.contains(cover));
        match (&self.left, &list.allow) {
            (Some(left), Some(allow)) => {
                Some(left.intersection(allow).filter(|entry| !is_denied(entry)).cloned().collect())
            }
            (Some(_), None) if list.deny.is_empty() => None,
            // Denying is cheap where nothing that is allowed is meant, which is what most lists do.
            (Some(_), None) if !list.deny.iter().any(|entry| self.allowed_by.contains_key(entry)) => None,
            (Some(left), None) => Some(left.iter().filter(|entry| !is_denied(entry)).cloned().collect()),
            (None, Some(allow)) => {
                let was_denied = |entry: &T| entry.covers().iter().any(|cover| self.denied.contains_key(cover));
                Some(allow.iter().filter(|entry| !was_denied(entry) && !is_denied(entry)).cloned().collect())
            }
            (None, None) => None,
        }
    }

    /// Owners that are needed for nothing to be left: one where one suffices, else what remains when no more can go.
    fn needed(&self, list: &List<T>) -> Vec<usize> {
        let alone = Self::default();
        if alone.leaves_nothing(list) {
            return Vec::new();
        }
        let with = |lists: &[&List<T>]| {
            let mut vocabulary = Self::default();
            for list in lists {
                vocabulary.admit(list.owner, list.allow_vec().as_deref(), &list.deny_vec(), "");
            }
            vocabulary.leaves_nothing(list)
        };
        if let Some(one) = self.lists.iter().find(|other| with(&[other])) {
            return vec![one.owner];
        }
        let mut needed: Vec<&List<T>> = self.lists.iter().filter(|other| other.concerns(list)).collect();
        let mut at = needed.len();
        while at > 0 && needed.len() > 1 {
            at -= 1;
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
