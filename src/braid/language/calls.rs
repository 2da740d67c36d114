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
pub(in crate::braid) fn segments(call: &str) -> impl Iterator<Item = &str> {
    call.split("::").flat_map(|part| part.split('.'))
}

/// Replaces the rules of calls so that none of `calls` can be made.
pub(super) fn deny(template: &mut Template, calls: &[String]) {
    let (builtins, calls): (Vec<_>, Vec<_>) = calls.iter().cloned().partition(|call| call.starts_with('@'));
    let denied = Denied::new(&calls);
    let places = if template.body("NAME_I").is_some() { &[OUTSIDE, INSIDE][..] } else { &[OUTSIDE] };
    for &place in places {
        let mut writer = Writer { template, denied: &denied, place, num_nodes: 0 };
        writer.members();
        writer.postfixes();
    }
    let last_words: BTreeSet<String> =
        calls.iter().filter_map(|call| segments(call).last()).map(str::to_owned).collect();
    if template.body("PATH_BASE").is_some() {
        spelled_paths(template, &denied, &last_words);
    }
    if template.body("FIELD_DENIED").is_some() && !last_words.is_empty() {
        // The fields of Python's f-strings are text to the grammar.
        template.set("FIELD_DENIED", &any_of(&last_words));
    }
    if template.body("RESERVED_BUILTIN").is_some() {
        // `@call` calls whatever it is given.
        let builtins: BTreeSet<String> = builtins.into_iter().chain(["@call".to_owned()]).collect();
        template.set("RESERVED_BUILTIN", &any_of(&builtins));
    }
}

/// Where paths are lexemes of their own, and macros take any tokens: Rust.
fn spelled_paths(template: &mut Template, denied: &Denied, last_words: &BTreeSet<String>) {
    let single = denied.single();
    let generic = denied.spelled.iter().chain(&single).map(|path| format!("{path}::")).collect();
    template.set("PATH", &without("PATH_BASE", &denied.spelled));
    template.set("PATH_GENERIC", &without("PATH_GENERIC_BASE", &generic));
    template.set("PATH_MEMBER", &without("SEGMENT", &denied.members));
    template.set("MACRO_NAME", &without("IDENTIFIER", &single));
    if !last_words.is_empty() {
        template.set("TREE_RESERVED", &any_of(last_words));
    }
}

/// A copy of the rules: Python has one for lines and one for brackets, where every token may be followed by a gap.
#[derive(Clone, Copy)]
struct Place {
    /// What the names of its rules end in.
    rule: &'static str,
    /// What the names of its terminals end in.
    terminal: &'static str,
    /// What follows a terminal.
    gap: &'static str,
}

const OUTSIDE: Place = Place { rule: "", terminal: "", gap: "" };
const INSIDE: Place = Place { rule: "_i", terminal: "_I", gap: " GAP_I" };

struct Writer<'a> {
    template: &'a mut Template,
    denied: &'a Denied,
    place: Place,
    num_nodes: usize,
}

impl Writer<'_> {
    /// What may follow an atom that is no denied path.
    fn members(&mut self) {
        let members = &self.denied.members;
        self.terminal("FREE_MEMBER", &without("MEMBER", members));
        self.rule(
            "trailer",
            &format!(
                "@member_op #FREE_MEMBER{} | @call_trailer | {}@other_trailer",
                self.generic(),
                self.transparent(" | ")
            ),
        );
        if members.is_empty() {
            return self.rule("trailers", "@trailer*");
        }
        self.terminal("DENIED_MEMBER", &format!("MEMBER & ({})", any_of(members)));
        self.rule("trailers", "@trailer* @denied_member?");
        self.rule("denied_member", "@member_op #DENIED_MEMBER @guarded");
        let guarded =
            format!("((@other_trailer | @member_op #FREE_MEMBER{}) @trailers | @denied_member)?", self.generic());
        self.rule("guarded", &format!("{}{guarded}", self.transparent("* ")));
    }

    /// Each rule that reads an atom with its trailers.
    fn postfixes(&mut self) {
        let roots: BTreeSet<String> = self.denied.paths.children.keys().cloned().collect();
        self.terminal("FREE_NAME", &names_without(&roots));
        let mut named = "#FREE_NAME @trailers".to_owned();
        for (name, node) in &self.denied.paths.children {
            let (terminal, rule) = self.node(name, "NAME", node);
            let _ = write!(named, " | {terminal} {rule}");
        }
        let name_terminal = format!("NAME{}", self.place.terminal);
        for rule in self.template.names("postfix") {
            if rule.ends_with(INSIDE.rule) != (self.place.rule == INSIDE.rule) {
                continue;
            }
            let takes_names =
                self.template.body(&rule).is_some_and(|body| body.split_whitespace().any(|word| word == name_terminal));
            let other = rule.replacen("postfix", "other_atom", 1);
            let own = if takes_names { format!(" | {named}") } else { String::new() };
            let body = self.placed(&format!("{other} @trailers{own}"));
            self.template.set(&rule, &body);
        }
    }

    /// The terminal that spells a segment, and the rule of what may follow it.
    fn node(&mut self, segment: &str, kind: &str, node: &Node) -> (String, String) {
        let number = self.num_nodes;
        self.num_nodes += 1;
        let (terminal, rule) = (format!("DENIED_{number}"), format!("denied_{number}"));
        let text = if kind == "NAME" { spelled([segment]) } else { literal(segment) };
        self.terminal(&terminal, &format!("{kind} & {text}"));
        let is_denied = node.is_denied || (kind == "MEMBER" && self.denied.members.contains(segment));
        let mut named: BTreeSet<String> = node.children.keys().cloned().collect();
        named.extend(self.denied.members.iter().cloned());
        let other = format!("OTHER_{number}");
        self.terminal(&other, &without("MEMBER", &named));
        let mut next = format!("(@other_trailer | @member_op #{other}{}", self.generic());
        if !is_denied {
            next.push_str(" | @call_trailer");
            if kind == "MEMBER" && !self.generic().is_empty() {
                next.push_str(" | @generic_call");
            }
        }
        next.push_str(") @trailers");
        if !self.denied.members.is_empty() {
            // A child that is denied as a member of anything is followed below, not here.
            next.push_str(" | @denied_member");
        }
        for (child, below) in &node.children {
            let (terminal, rule) = self.node(child, "MEMBER", below);
            let _ = write!(next, " | @member_op {terminal} {rule}");
        }
        self.rule(&rule, &format!("{}({next})?", self.transparent("* ")));
        (format!("#{terminal}"), format!("@{rule}"))
    }

    /// The trailers that do not end a path, where the language has them, with what follows in a rule.
    fn transparent(&self, then: &str) -> String {
        let exists = self.template.body("transparent_trailer").is_some();
        if exists { format!("@transparent_trailer{then}") } else { String::new() }
    }

    /// The call with type arguments that may follow a member, where the language has it: `.collect::<T>()`.
    fn generic(&self) -> &'static str {
        if self.template.body("generic_call").is_some() { " @generic_call?" } else { "" }
    }

    fn rule(&mut self, name: &str, body: &str) {
        let body = self.placed(body);
        self.template.set(&format!("{name}{}", self.place.rule), &body);
    }

    fn terminal(&mut self, name: &str, body: &str) {
        let body = if self.place.gap.is_empty() { body.to_owned() } else { format!("({body}){}", self.place.gap) };
        self.template.set(&format!("{name}{}", self.place.terminal), &body);
    }

    /// A body whose `@rules` and `#TERMINALS` are those of the place.
    fn placed(&self, body: &str) -> String {
        let mut placed = String::with_capacity(body.len());
        let mut rest = body;
        while let Some(at) = rest.find(['@', '#']) {
            let suffix = if rest.as_bytes()[at] == b'@' { self.place.rule } else { self.place.terminal };
            placed.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
            placed.push_str(&rest[..end]);
            placed.push_str(suffix);
            rest = &rest[end..];
        }
        placed.push_str(rest);
        placed
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
