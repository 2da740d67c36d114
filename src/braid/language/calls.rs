//! Calls that are never made, as rules of a grammar.
//!
//! Every grammar reads a call as an atom and its trailers: `postfix: NAME trailer* | other_atom trailer*`. The denied
//! paths make a trie; its nodes become rules that follow a path word for word and leave out the call where one ends.
//! A name that is denied may still be written, passed on and compared: what is refused is calling it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::lark::{any_of, literal, without};
use super::template::Template;

/// Paths of denied calls by their segments.
#[derive(Default)]
struct Node {
    /// Whether calling this path is denied.
    is_denied: bool,
    children: BTreeMap<String, Node>,
}

/// What is denied: paths from a name, members of whatever it is, and paths that a language spells as one lexeme.
struct Denied {
    paths: Node,
    members: BTreeSet<String>,
    /// Rust's `std::process::exit`, which is refused where it is named.
    spelled: BTreeSet<String>,
}

impl Denied {
    fn new(calls: &[String]) -> Self {
        let mut denied = Self { paths: Node::default(), members: BTreeSet::new(), spelled: BTreeSet::new() };
        for call in calls {
            if let Some(member) = call.strip_prefix('.') {
                denied.members.insert(member.to_owned());
                continue;
            }
            if call.contains("::") {
                denied.spelled.insert(call.clone());
                continue;
            }
            let mut node = &mut denied.paths;
            for segment in segments(call) {
                node = node.children.entry(segment.to_owned()).or_default();
            }
            node.is_denied = true;
        }
        denied
    }

    /// Names that are denied by themselves.
    fn single(&self) -> BTreeSet<String> {
        let denied = self.paths.children.iter().filter(|(_, node)| node.is_denied);
        denied.map(|(name, _)| name.clone()).collect()
    }
}

/// `os.system` and `std::process::exit` by their names.
pub(super) fn segments(call: &str) -> impl Iterator<Item = &str> {
    call.split("::").flat_map(|part| part.split('.'))
}

/// Replaces the rules of calls so that none of `calls` can be made.
pub(super) fn deny(template: &mut Template, calls: &[String]) {
    let denied = Denied::new(calls);
    let mut writer = Writer { template, denied: &denied, num_nodes: 0 };
    writer.members();
    writer.postfixes();
    if writer.template.body("PATH_BASE").is_some() {
        writer.spelled_paths();
    }
}

struct Writer<'a> {
    template: &'a mut Template,
    denied: &'a Denied,
    num_nodes: usize,
}

impl Writer<'_> {
    /// What may follow an atom that is no denied path.
    fn members(&mut self) {
        let members = &self.denied.members;
        self.template.set("FREE_MEMBER", &without("MEMBER", members));
        let step = "member_op FREE_MEMBER | call_trailer | transparent_trailer | other_trailer";
        self.template.set("trailer", step);
        if members.is_empty() {
            return self.template.set("trailers", "trailer*");
        }
        self.template.set("DENIED_MEMBER", &format!("MEMBER & ({})", any_of(members)));
        self.template.set("trailers", "trailer* denied_member?");
        self.template.set("denied_member", "member_op DENIED_MEMBER guarded");
        let guarded = "transparent_trailer* ((other_trailer | member_op FREE_MEMBER) trailers | denied_member)?";
        self.template.set("guarded", guarded);
    }

    /// Each rule that reads an atom with its trailers.
    fn postfixes(&mut self) {
        let roots: BTreeSet<String> = self.denied.paths.children.keys().cloned().collect();
        self.template.set("FREE_NAME", &names_without(&roots));
        let mut paths = String::new();
        for (name, node) in &self.denied.paths.children {
            let (terminal, rule) = self.node(name, "NAME", node);
            let _ = write!(paths, " | {terminal} {rule}");
        }
        for name in self.template.names("postfix") {
            let other = name.replacen("postfix", "other_atom", 1);
            self.template.set(&name, &format!("FREE_NAME trailers | {other} trailers{paths}"));
        }
    }

    /// Where paths are lexemes of their own, and macros take any tokens: Rust.
    fn spelled_paths(&mut self) {
        let single = self.denied.single();
        let paths = self.denied.spelled.iter();
        let generic = paths.clone().chain(&single).map(|path| format!("{path}::")).collect();
        let last = paths.filter_map(|path| path.rsplit("::").next().map(str::to_owned));
        let words: BTreeSet<String> = last.chain(single.iter().cloned()).chain(self.denied.members.clone()).collect();
        self.template.set("PATH", &without("PATH_BASE", &self.denied.spelled));
        self.template.set("PATH_GENERIC", &without("PATH_GENERIC_BASE", &generic));
        self.template.set("PATH_MEMBER", &without("SEGMENT", &self.denied.members));
        self.template.set("MACRO_NAME", &without("IDENTIFIER", &single));
        self.template.set("TREE_RESERVED", &any_of(&words));
    }

    /// The terminal that spells a segment, and the rule of what may follow it.
    fn node(&mut self, segment: &str, kind: &str, node: &Node) -> (String, String) {
        let number = self.num_nodes;
        self.num_nodes += 1;
        let (terminal, rule) = (format!("DENIED_{number}"), format!("denied_{number}"));
        let text = if kind == "NAME" { spelled([segment]) } else { literal(segment) };
        self.template.set(&terminal, &format!("{kind} & {text}"));
        let is_denied = node.is_denied || (kind == "MEMBER" && self.denied.members.contains(segment));
        let mut named: BTreeSet<String> = node.children.keys().cloned().collect();
        named.extend(self.denied.members.iter().cloned());
        let other = format!("OTHER_{number}");
        self.template.set(&other, &without("MEMBER", &named));
        let mut next = format!("(other_trailer | member_op {other}");
        if !is_denied {
            next.push_str(" | call_trailer");
        }
        next.push_str(") trailers");
        if !self.denied.members.is_empty() {
            // A child that is denied as a member of anything is followed below, not here.
            next.push_str(" | denied_member");
        }
        for (child, below) in &node.children {
            let (terminal, rule) = self.node(child, "MEMBER", below);
            let _ = write!(next, " | member_op {terminal} {rule}");
        }
        self.template.set(&rule, &format!("transparent_trailer* ({next})?"));
        (terminal, rule)
    }
}

/// A name may have white space before it, where a grammar reads it as part of the token.
fn spelled<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.into_iter().map(regex_syntax::escape).collect();
    super::lark::regex(&format!(r"[ \t\r\n]*({})", names.join("|")))
}

fn names_without(names: &BTreeSet<String>) -> String {
    if names.is_empty() {
        return "NAME".to_owned();
    }
    format!("NAME & ~{}", spelled(names.iter().map(String::as_str)))
}
