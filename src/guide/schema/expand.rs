//! From schemas that hold together to cases: for one type of value, every way in which they can hold.
//!
//! Keywords that apply other schemas in place are taken apart (`oneOf` into each branch without the others, `if` into
//! its two sides, `not` by turning every keyword over); what is left of each case is a [`Shape`]. Asking type by type
//! keeps cases few, as a keyword says nothing about values of other types. There is no recursion: goals wait on a list.

use std::collections::HashMap;
use std::rc::Rc;

use serde_json::{Map, Value};

use super::language::{Bounds, Language};
use super::pattern::from_ecma;
use super::shape::{
    ArrayShape, Contains, Decimal, End, Key, Literal, Location, Members, ObjectShape, PatternUse, Shape, SomeKey, Type,
};
use super::walk::count_of;
use super::{escape, format};
use crate::guide::{GuideConfig, GuideError};

/// Integers beyond this are not told apart by the numbers that llguidance computes with.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// A schema or a constant in the document.
struct Place<'a> {
    pointer: String,
    value: &'a Value,
    is_constant: bool,
}

/// Who asked for the opposite of a schema, for what has to be refused.
#[derive(Clone, Debug)]
struct Cause {
    pointer: String,
    keyword: &'static str,
}

#[derive(Clone, Copy)]
enum What<'a> {
    Whole(Location),
    Keyword(Location, &'a str),
}

#[derive(Clone, Copy)]
struct Goal<'a> {
    what: What<'a>,
    negated: bool,
    /// The literals that led here, as an index into the trail; what leads back to itself never holds.
    trail: usize,
    cause: Option<usize>,
}

/// One case under work.
#[derive(Clone)]
struct State<'a> {
    goals: Vec<Goal<'a>>,
    assumed: Vec<Literal>,
    shape: Shape,
    problem: Option<GuideError>,
}

/// One case: what is left of it, and why it cannot be enforced where it cannot.
#[derive(Clone, Debug)]
pub(super) struct Expanded {
    pub(super) shape: Shape,
    pub(super) problem: Option<GuideError>,
}

/// Everything that lowering one schema shares.
pub(super) struct Expander<'a> {
    pub(super) part: &'a str,
    pub(super) config: &'a GuideConfig,
    pub(super) bounds: Bounds,
    root: &'a Value,
    /// From the pointer of a `$ref` to what it means.
    targets: &'a HashMap<String, String>,
    places: Vec<Place<'a>>,
    numbers: HashMap<(String, bool), Location>,
    causes: Vec<Cause>,
    cause_of: HashMap<Literal, usize>,
    languages: HashMap<Rc<str>, Option<Rc<Language>>>,
    disjoint: HashMap<(Location, Location), bool>,
    num_cases: usize,
}

type Trail = Vec<(Literal, usize)>;
const NO_TRAIL: usize = usize::MAX;

impl<'a> Expander<'a> {
    pub(super) fn new(
        part: &'a str,
        root: &'a Value,
        targets: &'a HashMap<String, String>,
        config: &'a GuideConfig,
    ) -> Self {
        let bounds = Bounds { max_states: config.max_pattern_states, max_regex_bytes: config.max_regex_bytes };
        Self {
            part,
            config,
            bounds,
            root,
            targets,
            places: Vec::new(),
            numbers: HashMap::new(),
            causes: Vec::new(),
            cause_of: HashMap::new(),
            languages: HashMap::new(),
            disjoint: HashMap::new(),
            num_cases: 0,
        }
    }

    /// The key of one schema.
    pub(super) fn key(&mut self, pointer: String, value: &'a Value) -> Key {
        match value {
            Value::Bool(true) => Key::ALWAYS,
            Value::Bool(false) => Key::NEVER,
            Value::Object(schema) if schema.is_empty() => Key::ALWAYS,
            _ => Key(Some(vec![self.literal(pointer, value, false)])),
        }
    }

    fn literal(&mut self, pointer: String, value: &'a Value, is_constant: bool) -> Literal {
        let fresh = self.places.len();
        let at = *self.numbers.entry((pointer.clone(), is_constant)).or_insert(fresh);
        if at == fresh {
            self.places.push(Place { pointer, value, is_constant });
        }
        Literal { at, negated: false }
    }

    fn constant(&mut self, pointer: String, value: &'a Value) -> Literal {
        self.literal(pointer, value, true)
    }

    /// The key of the opposite of a schema, remembering who asked.
    fn negated_key(&mut self, pointer: String, value: &'a Value, cause: Option<usize>) -> Key {
        match self.key(pointer, value) {
            Key(None) => Key::ALWAYS,
            Key(Some(literals)) if literals.is_empty() => Key::NEVER,
            Key(Some(literals)) => Key(Some(vec![self.opposite(literals[0], cause)])),
        }
    }

    fn opposite(&mut self, literal: Literal, cause: Option<usize>) -> Literal {
        let opposite = literal.not();
        if let (true, Some(cause)) = (opposite.negated, cause) {
            self.cause_of.entry(opposite).or_insert(cause);
        }
        opposite
    }

    fn inner_key(&mut self, goal: Goal<'a>, pointer: String, value: &'a Value) -> Key {
        if goal.negated { self.negated_key(pointer, value, goal.cause) } else { self.key(pointer, value) }
    }

    /// Charges one unit of [`GuideConfig::max_schema_expansion`] for each case.
    pub(super) fn charge(&mut self, num_cases: usize) -> Result<(), GuideError> {
        self.num_cases = self.num_cases.saturating_add(num_cases);
        GuideError::check_size(
            self.part,
            "number of cases that the schema's keywords make together",
            self.num_cases,
            self.config.max_schema_expansion,
        )
    }

    fn cause(&mut self, pointer: String, keyword: &'static str) -> usize {
        self.causes.push(Cause { pointer, keyword });
        self.causes.len() - 1
    }

    fn problem(&self, goal: Goal<'a>, message: &str) -> GuideError {
        let (pointer, keyword) = match goal.what {
            What::Whole(at) => (self.places[at].pointer.clone(), "schema"),
            What::Keyword(at, keyword) => (format!("{}/{}", self.places[at].pointer, escape(keyword)), keyword),
        };
        self.refusal(pointer, keyword, goal.cause.filter(|_| goal.negated), message)
    }

    fn refusal(&self, pointer: String, keyword: &str, cause: Option<usize>, message: &str) -> GuideError {
        let (pointer, keyword, message) = match cause.map(|cause| &self.causes[cause]) {
            None => (pointer, keyword.to_owned(), message.to_owned()),
            Some(cause) => {
                let advice = match cause.keyword {
                    "oneOf" => {
                        "its branches are not provably disjoint; tell them apart by type or by a required \
                                constant, or write anyOf"
                    }
                    "not" => "say what is allowed instead",
                    _ => "write the cases as anyOf",
                };
                let why = format!("{advice} (the opposite of `{keyword}` at `{pointer}` is needed: {message})");
                (cause.pointer.clone(), cause.keyword.to_owned(), why)
            }
        };
        GuideError::UnsupportedSchema { part: self.part.to_owned(), pointer, keyword, message }
    }

    /// Every case in which all of `key` holds for a value of one type.
    ///
    /// # Errors
    /// [`GuideError::TooLarge`] for too many cases, [`GuideError::UnsupportedSchema`] for a schema that denies itself.
    pub(super) fn expand(&mut self, key: &Key, kind: Type) -> Result<Vec<Expanded>, GuideError> {
        let Some(literals) = &key.0 else { return Ok(Vec::new()) };
        if literals.iter().any(|&literal| !self.may_admit(literal, kind)) {
            return Ok(Vec::new());
        }
        let mut trail = Trail::new();
        let goals = literals.iter().rev().map(|&literal| Goal {
            what: What::Whole(literal.at),
            negated: literal.negated,
            trail: NO_TRAIL,
            cause: self.cause_of.get(&literal).copied(),
        });
        let first = State { goals: goals.collect(), assumed: Vec::new(), shape: Shape::of(kind), problem: None };
        let mut stack = vec![first];
        let mut found: Vec<Expanded> = Vec::new();
        while let Some(mut state) = stack.pop() {
            let Some(goal) = state.goals.pop() else {
                found.push(Expanded { shape: state.shape, problem: state.problem });
                continue;
            };
            self.charge(1)?;
            let before = stack.len();
            match goal.what {
                What::Whole(at) => self.whole(goal, at, kind, state, &mut trail, &mut stack)?,
                What::Keyword(at, keyword) => self.keyword(goal, at, keyword, kind, state, &mut stack)?,
            }
            // Cases were pushed in order; the first is taken up first.
            stack[before..].reverse();
        }
        Ok(found)
    }

    /// What `type` alone says, at no charge.
    fn may_admit(&self, literal: Literal, kind: Type) -> bool {
        let place = &self.places[literal.at];
        match place.value {
            value if place.is_constant => literal.negated || Type::of(value) == kind,
            Value::Object(schema) => literal.negated || type_admits(schema, kind),
            _ => true,
        }
    }

    fn whole(
        &mut self,
        goal: Goal<'a>,
        at: Location,
        kind: Type,
        mut state: State<'a>,
        trail: &mut Trail,
        stack: &mut Vec<State<'a>>,
    ) -> Result<(), GuideError> {
        let literal = Literal { at, negated: goal.negated };
        let mut above = goal.trail;
        while above != NO_TRAIL {
            let (seen, next) = trail[above];
            if seen.at == at {
                if seen.negated || literal.negated {
                    let message = "the schema leads back to itself through a negation";
                    return Err(self.problem(goal, message));
                }
                return Ok(());
            }
            above = next;
        }
        if state.assumed.contains(&literal) {
            stack.push(state);
            return Ok(());
        }
        if state.assumed.contains(&literal.not()) {
            return Ok(());
        }
        state.assumed.push(literal);
        trail.push((literal, goal.trail));
        let goal = Goal { trail: trail.len() - 1, ..goal };
        if self.places[at].is_constant {
            return self.constant_holds(goal, at, kind, state, stack);
        }
        let schema = match self.places[at].value {
            Value::Bool(holds) => {
                if *holds != goal.negated {
                    stack.push(state);
                }
                return Ok(());
            }
            Value::Object(schema) => schema,
            _ => return Ok(()),
        };
        let mut keywords = relevant(schema, kind);
        if goal.negated {
            if !type_admits(schema, kind) {
                stack.push(state);
                return Ok(());
            }
            for keyword in keywords {
                let mut case = state.clone();
                case.goals.push(Goal { what: What::Keyword(at, keyword), ..goal });
                stack.push(case);
            }
            return Ok(());
        }
        if !type_admits(schema, kind) {
            return Ok(());
        }
        // What depends on other keywords comes last, so that properties keep the order of the schema itself.
        keywords.sort_by_key(|keyword| is_conditional(keyword));
        for keyword in keywords.into_iter().rev() {
            state.goals.push(Goal { what: What::Keyword(at, keyword), ..goal });
        }
        stack.push(state);
        Ok(())
    }

    fn below(&self, at: Location, steps: &str) -> String {
        format!("{}/{steps}", self.places[at].pointer)
    }

    fn schema_of(&self, at: Location) -> &'a Map<String, Value> {
        match self.places[at].value {
            Value::Object(schema) => schema,
            _ => unreachable!("only objects have keywords"),
        }
    }

    /// A goal for a schema below `goal`; `None` where it trivially holds, an error in `Err(())` where it never does.
    fn sub(&mut self, goal: Goal<'a>, pointer: String, value: &'a Value, negated: bool) -> Sub<'a> {
        match self.key(pointer, value) {
            Key(None) => {
                if negated {
                    Sub::Holds
                } else {
                    Sub::Fails
                }
            }
            Key(Some(literals)) => match literals.first() {
                None => {
                    if negated {
                        Sub::Fails
                    } else {
                        Sub::Holds
                    }
                }
                Some(literal) => Sub::Goal(Goal { what: What::Whole(literal.at), negated, ..goal }),
            },
        }
    }

    /// Pushes `state` with more goals; the first of them is taken up first.
    fn with(state: &State<'a>, subs: Vec<Sub<'a>>, stack: &mut Vec<State<'a>>) {
        let mut case = state.clone();
        for sub in subs.into_iter().rev() {
            match sub {
                Sub::Fails => return,
                Sub::Holds => {}
                Sub::Goal(goal) => case.goals.push(goal),
            }
        }
        stack.push(case);
    }

    fn keyword(
        &mut self,
        goal: Goal<'a>,
        at: Location,
        keyword: &'a str,
        kind: Type,
        mut state: State<'a>,
        stack: &mut Vec<State<'a>>,
    ) -> Result<(), GuideError> {
        let schema = self.schema_of(at);
        let value = &schema[keyword];
        let pointer = self.below(at, &escape(keyword));
        let negated = goal.negated;
        match keyword {
            "type" => {
                // Whether the type is admitted at all was asked before; integers are left.
                let only_integers = !names_type(value, "number");
                if let Shape::Number(number) = &mut state.shape {
                    match (only_integers, negated) {
                        (true, false) => number.is_integer = true,
                        (true, true) => {
                            let message = "numbers that are no integers have no bounded form";
                            let problem = self.problem(goal, message);
                            if let Shape::Number(number) = &mut state.shape {
                                number.is_fraction = Some(problem);
                            }
                        }
                        (false, true) => return Ok(()),
                        (false, false) => {}
                    }
                    stack.push(state);
                } else if !negated {
                    stack.push(state);
                }
            }
            "const" => {
                let literal = self.constant(pointer, value);
                state.goals.push(Goal { what: What::Whole(literal.at), ..goal });
                stack.push(state);
            }
            "enum" => {
                let members: Vec<Literal> = value
                    .as_array()
                    .into_iter()
                    .flatten()
                    .enumerate()
                    .filter(|(_, member)| Type::of(member) == kind)
                    .map(|(idx, member)| self.constant(format!("{pointer}/{idx}"), member))
                    .collect();
                self.enumerated(goal, &members, kind, state, stack);
            }
            "allOf" | "anyOf" | "oneOf" => self.branches(goal, at, keyword, kind, &state, stack)?,
            "not" => {
                let cause = self.cause(pointer.clone(), "not");
                let goal = if negated { goal } else { Goal { cause: Some(cause), ..goal } };
                let sub = self.sub(goal, pointer, value, !negated);
                Self::with(&state, vec![sub], stack);
            }
            "$ref" => {
                let target = self.targets.get(&pointer).cloned().unwrap_or_default();
                let root = self.root;
                let Some(value) = root.pointer(&target) else {
                    return Err(GuideError::internal(self.part, "a reference was not resolved"));
                };
                let sub = self.sub(goal, target, value, negated);
                Self::with(&state, vec![sub], stack);
            }
            "if" => {
                let cause = self.cause(pointer.clone(), "if");
                for (side, holds) in [("then", true), ("else", false)] {
                    let condition = match self.sub(goal, pointer.clone(), value, !holds) {
                        Sub::Goal(goal) if !holds => Sub::Goal(Goal { cause: goal.cause.or(Some(cause)), ..goal }),
                        condition => condition,
                    };
                    let outcome = match schema.get(side) {
                        Some(value) => self.sub(goal, self.below(at, side), value, negated),
                        None if negated => Sub::Fails,
                        None => Sub::Holds,
                    };
                    Self::with(&state, vec![condition, outcome], stack);
                }
            }
            "dependentRequired" | "dependentSchemas" | "dependencies" => {
                self.dependent(goal, at, keyword, &state, stack);
            }
            _ => self.assertion(goal, at, keyword, state, stack)?,
        }
        Ok(())
    }

    fn enumerated(
        &mut self,
        goal: Goal<'a>,
        members: &[Literal],
        kind: Type,
        mut state: State<'a>,
        stack: &mut Vec<State<'a>>,
    ) {
        let whole = |literal: &Literal| Goal { what: What::Whole(literal.at), ..goal };
        if goal.negated {
            state.goals.extend(members.iter().rev().map(whole));
            stack.push(state);
        } else if members.is_empty() {
            // No value of this type.
        } else if matches!(kind, Type::Array | Type::Object) {
            for member in members {
                let mut case = state.clone();
                case.goals.push(whole(member));
                stack.push(case);
            }
        } else {
            let values: Vec<&'a Value> = members.iter().map(|member| self.places[member.at].value).collect();
            let inexact = restrict(&mut state.shape, &values);
            self.note(&mut state, inexact, goal, "an integer beyond 2^53 has no exact form");
            stack.push(state);
        }
    }

    fn note(&self, state: &mut State<'a>, happened: bool, goal: Goal<'a>, message: &str) {
        if happened && state.problem.is_none() {
            state.problem = Some(self.problem(goal, message));
        }
    }

    fn branches(
        &mut self,
        goal: Goal<'a>,
        at: Location,
        keyword: &'a str,
        kind: Type,
        state: &State<'a>,
        stack: &mut Vec<State<'a>>,
    ) -> Result<(), GuideError> {
        let pointer = self.below(at, keyword);
        let schemas: Vec<&'a Value> = self.schema_of(at)[keyword].as_array().into_iter().flatten().collect();
        let sub = |this: &mut Self, idx: usize, negated: bool, cause: Option<usize>| {
            let goal = Goal { cause: cause.or(goal.cause), ..goal };
            this.sub(goal, format!("{pointer}/{idx}"), schemas[idx], negated)
        };
        let num = schemas.len();
        match (keyword, goal.negated) {
            ("allOf", false) | ("anyOf", true) => {
                let subs = (0..num).map(|idx| sub(self, idx, goal.negated, None)).collect();
                Self::with(state, subs, stack);
            }
            ("allOf", true) | ("anyOf", false) => {
                for idx in 0..num {
                    let branch = sub(self, idx, goal.negated, None);
                    Self::with(state, vec![branch], stack);
                }
            }
            (_, false) => {
                let cause = self.cause(self.below(at, keyword), "oneOf");
                for idx in 0..num {
                    let mut subs = vec![sub(self, idx, false, None)];
                    for other in (0..num).filter(|&other| other != idx) {
                        if !self.are_disjoint(at, idx, other, &schemas, kind)? {
                            subs.push(sub(self, other, true, Some(cause)));
                        }
                    }
                    Self::with(state, subs, stack);
                }
            }
            (_, true) => {
                let subs = (0..num).map(|idx| sub(self, idx, true, None)).collect();
                Self::with(state, subs, stack);
                for idx in 0..num {
                    for other in idx + 1..num {
                        let both = vec![sub(self, idx, false, None), sub(self, other, false, None)];
                        Self::with(state, both, stack);
                    }
                }
            }
        }
        Ok(())
    }

    fn are_disjoint(
        &mut self,
        at: Location,
        a: usize,
        b: usize,
        schemas: &[&'a Value],
        kind: Type,
    ) -> Result<bool, GuideError> {
        // Types that only one of both admits need no look inside.
        let admits = |value: &Value| value.as_object().is_none_or(|schema| type_admits(schema, kind));
        if !admits(schemas[a]) || !admits(schemas[b]) {
            return Ok(true);
        }
        let pointer = self.below(at, "oneOf");
        let (a, b) = (a.min(b), a.max(b));
        let mut both = self.key(format!("{pointer}/{a}"), schemas[a]);
        both.add_all(&self.key(format!("{pointer}/{b}"), schemas[b]));
        let known = match &both.0 {
            None => return Ok(true),
            Some(literals) if literals.len() < 2 => return Ok(false),
            Some(literals) => (literals[0].at, literals[1].at),
        };
        // For all types at once: the answer is asked for again with the next type.
        if let Some(&disjoint) = self.disjoint.get(&known) {
            return Ok(disjoint);
        }
        // Within its own proof, a pair is not taken for disjoint.
        self.disjoint.insert(known, false);
        let disjoint = self.is_provably_empty(&both, self.config.max_disjoint_depth)?;
        self.disjoint.insert(known, disjoint);
        Ok(disjoint)
    }

    /// `dependentRequired`, `dependentSchemas` and their elder `dependencies`, one key after another.
    fn dependent(
        &mut self,
        goal: Goal<'a>,
        at: Location,
        keyword: &'a str,
        state: &State<'a>,
        stack: &mut Vec<State<'a>>,
    ) {
        let pointer = self.below(at, keyword);
        let Some(entries) = self.schema_of(at)[keyword].as_object() else { return };
        let mut states = vec![state.clone()];
        for (name, needed) in entries {
            let name: Rc<str> = name.as_str().into();
            let pointer = format!("{pointer}/{}", escape(&name));
            let mut cases = Vec::new();
            // Turned over, one entry after another may be the one that fails.
            let sources = if goal.negated { vec![state.clone()] } else { std::mem::take(&mut states) };
            for source in &sources {
                let with = |change: &dyn Fn(&mut ObjectShape)| {
                    let mut case = source.clone();
                    if let Shape::Object(object) = &mut case.shape {
                        change(object);
                    }
                    case
                };
                if !goal.negated {
                    cases.push(with(&|object| object.absent.push(Rc::clone(&name))));
                }
                let present = with(&|object| object.require(&name));
                match needed {
                    Value::Array(names) => {
                        let names: Vec<Rc<str>> = names.iter().filter_map(Value::as_str).map(Into::into).collect();
                        if goal.negated {
                            cases.extend(names.iter().map(|needed| {
                                with(&|object| {
                                    object.require(&name);
                                    object.absent.push(Rc::clone(needed));
                                })
                            }));
                        } else {
                            cases.push(with(&|object| {
                                object.require(&name);
                                names.iter().for_each(|needed| object.require(needed));
                            }));
                        }
                    }
                    schema => {
                        let sub = self.sub(goal, pointer.clone(), schema, goal.negated);
                        Self::with(&present, vec![sub], &mut cases);
                    }
                }
            }
            if goal.negated {
                stack.append(&mut cases);
            } else {
                states = cases;
                if self.num_cases + states.len() > self.config.max_schema_expansion {
                    // Charged by the caller with the next goal.
                    self.num_cases += states.len();
                    break;
                }
            }
        }
        if !goal.negated {
            states.retain(|state| !matches!(&state.shape, Shape::Object(object) if contradicts(object)));
            stack.append(&mut states);
        }
    }

    /// A constant, or anything but it.
    fn constant_holds(
        &mut self,
        goal: Goal<'a>,
        at: Location,
        kind: Type,
        mut state: State<'a>,
        stack: &mut Vec<State<'a>>,
    ) -> Result<(), GuideError> {
        let (value, pointer) = (self.places[at].value, self.places[at].pointer.clone());
        if Type::of(value) != kind {
            if goal.negated {
                stack.push(state);
            }
            return Ok(());
        }
        match (value, goal.negated) {
            (Value::Array(items), false) => {
                let keys: Vec<Key> = (0..items.len())
                    .map(|idx| Key(Some(vec![self.constant(format!("{pointer}/{idx}"), &items[idx])])))
                    .collect();
                if let Shape::Array(array) = &mut state.shape {
                    for (idx, key) in keys.iter().enumerate() {
                        array.at(idx).add_all(key);
                    }
                    array.min = array.min.max(items.len() as u64);
                    array.cap(items.len() as u64);
                }
                stack.push(state);
            }
            (Value::Array(items), true) => {
                let len = items.len() as u64;
                for (min, max) in [(0, len.checked_sub(1)), (len + 1, None)] {
                    let mut case = state.clone();
                    if let (Shape::Array(array), true) = (&mut case.shape, min > 0 || max.is_some()) {
                        array.min = array.min.max(min);
                        max.into_iter().for_each(|max| array.cap(max));
                        stack.push(case);
                    }
                }
                for (idx, item) in items.iter().enumerate() {
                    let item = self.constant(format!("{pointer}/{idx}"), item);
                    let other = self.opposite(item, goal.cause);
                    let mut case = state.clone();
                    if let Shape::Array(array) = &mut case.shape {
                        array.at(idx).add(other);
                        array.min = array.min.max(idx as u64 + 1);
                    }
                    stack.push(case);
                }
            }
            (Value::Object(members), negated) => {
                let mut named = Vec::new();
                for (name, member) in members {
                    let literal = self.constant(format!("{pointer}/{}", escape(name)), member);
                    named.push((Rc::<str>::from(name.as_str()), literal));
                }
                if negated {
                    self.other_than_object(goal, &named, &state, stack);
                    return Ok(());
                }
                if let Shape::Object(object) = &mut state.shape {
                    for (name, _) in &named {
                        object.mention(name);
                        object.require(name);
                    }
                    let named = named.into_iter().map(|(name, literal)| (name, Key(Some(vec![literal])))).collect();
                    object.members.push(Members { named, patterns: Vec::new(), rest: Key::NEVER });
                }
                stack.push(state);
            }
            (_, false) => {
                let inexact = restrict(&mut state.shape, &[value]);
                self.note(&mut state, inexact, goal, "an integer beyond 2^53 has no exact form");
                stack.push(state);
            }
            (_, true) => {
                let (holds, inexact) = exclude(&mut state.shape, value);
                self.note(&mut state, inexact, goal, "an integer beyond 2^53 has no exact form");
                if holds {
                    stack.push(state);
                }
            }
        }
        Ok(())
    }

    fn other_than_object(
        &mut self,
        goal: Goal<'a>,
        named: &[(Rc<str>, Literal)],
        state: &State<'a>,
        stack: &mut Vec<State<'a>>,
    ) {
        let problem = self.problem(goal, "a further key cannot be asked for beside open ones");
        let others: Vec<Literal> = named.iter().map(|(_, literal)| self.opposite(*literal, goal.cause)).collect();
        let mut push = |change: &dyn Fn(&mut ObjectShape)| {
            let mut case = state.clone();
            if let Shape::Object(object) = &mut case.shape {
                change(object);
            }
            stack.push(case);
        };
        for ((name, _), other) in named.iter().zip(others) {
            push(&|object| object.absent.push(Rc::clone(name)));
            push(&|object| {
                object.mention(name);
                object.require(name);
                object.values.push((Rc::clone(name), Key(Some(vec![other]))));
            });
        }
        push(&|object| {
            named.iter().for_each(|(name, _)| object.require(name));
            object.some_key.push(SomeKey {
                names: named.iter().map(|(name, _)| Rc::clone(name)).collect(),
                patterns: Vec::new(),
                only: None,
                value: Key::ALWAYS,
                problem: problem.clone(),
            });
        });
    }

    /// A keyword that says something about values of one type alone.
    fn assertion(
        &mut self,
        goal: Goal<'a>,
        at: Location,
        keyword: &'a str,
        mut state: State<'a>,
        stack: &mut Vec<State<'a>>,
    ) -> Result<(), GuideError> {
        let schema = self.schema_of(at);
        let value = &schema[keyword];
        let negated = goal.negated;
        match &mut state.shape {
            Shape::Number(_) => return self.number(goal, schema, keyword, state, stack),
            Shape::String(_) => return self.text(goal, keyword, value, state, stack),
            Shape::Array(array) => match (keyword, count_of(value)) {
                ("minItems", Some(count)) if negated => {
                    let Some(max) = count.checked_sub(1) else { return Ok(()) };
                    array.cap(max);
                }
                ("minItems", Some(count)) => array.min = array.min.max(count),
                ("maxItems", Some(count)) if negated => array.min = array.min.max(count + 1),
                ("maxItems", Some(count)) => array.cap(count),
                ("uniqueItems", _) if negated => {
                    let problem = self.problem(goal, "a mask cannot compare items");
                    state.problem.get_or_insert(problem);
                }
                ("uniqueItems", _) => {
                    array.unique = Some(self.problem(
                        goal,
                        "a mask cannot compare items; bound \
                    the array by `maxItems: 1`, or give its items few constants by `enum`",
                    ))
                }
                ("contains", _) => return self.contains(goal, at, state, stack),
                _ => return self.elements(goal, at, keyword, state, stack),
            },
            Shape::Object(_) => return self.object(goal, at, keyword, state, stack),
            Shape::Null | Shape::Boolean(_) => {}
        }
        stack.push(state);
        Ok(())
    }

    fn number(
        &mut self,
        goal: Goal<'a>,
        schema: &'a Map<String, Value>,
        keyword: &'a str,
        mut state: State<'a>,
        stack: &mut Vec<State<'a>>,
    ) -> Result<(), GuideError> {
        let value = &schema[keyword];
        let exclusive = |keyword: &str| schema.get(keyword) == Some(&Value::Bool(true));
        let (is_min, excluded) = match keyword {
            "minimum" => (true, exclusive("exclusiveMinimum")),
            "maximum" => (false, exclusive("exclusiveMaximum")),
            "exclusiveMinimum" => (true, true),
            "exclusiveMaximum" => (false, true),
            _ => {
                let step = value.as_number().and_then(Decimal::read);
                let problem = self.problem(goal, "what is no multiple has no bounded form");
                let too_long = self.problem(goal, "the number has too many digits");
                let Shape::Number(number) = &mut state.shape else { return Ok(()) };
                match step {
                    Some(step) if goal.negated => number.no_multiples.push((step, problem)),
                    Some(step) => {
                        number.multiples.push(step);
                        number.too_long = Some(too_long);
                    }
                    None => state.problem = Some(too_long),
                }
                stack.push(state);
                return Ok(());
            }
        };
        let at = value.as_f64().unwrap_or(f64::NAN);
        self.note(&mut state, at.is_nan() || at.abs() >= MAX_EXACT, goal, "a bound beyond 2^53 has no exact form");
        let Shape::Number(number) = &mut state.shape else { return Ok(()) };
        // Turned over, a lower end is an upper one that takes in what the other left out.
        let end = End { at, excluded: excluded != goal.negated };
        if is_min != goal.negated {
            number.min = Some(
                number.min.map_or(end, |old| if (old.at, old.excluded) >= (end.at, end.excluded) { old } else { end }),
            );
        } else {
            number.max = Some(
                number.max.map_or(
                    end,
                    |old| {
                        if (old.at, !old.excluded) <= (end.at, !end.excluded) { old } else { end }
                    },
                ),
            );
        }
        stack.push(state);
        Ok(())
    }

    fn text(
        &mut self,
        goal: Goal<'a>,
        keyword: &'a str,
        value: &'a Value,
        mut state: State<'a>,
        stack: &mut Vec<State<'a>>,
    ) -> Result<(), GuideError> {
        let too_complex = self.problem(goal, "the patterns together are too complex for an exact automaton");
        let unknown = self.problem(goal, "what does not have this format has no form here");
        let Shape::String(text) = &mut state.shape else { return Ok(()) };
        let mut pattern = |pattern: String| {
            text.patterns.push(PatternUse { text: pattern.into(), negated: goal.negated });
            text.too_complex.get_or_insert(too_complex.clone());
        };
        match (keyword, count_of(value), value.as_str()) {
            ("minLength", Some(count), _) if goal.negated => {
                let Some(max) = count.checked_sub(1) else { return Ok(()) };
                text.max = Some(text.max.map_or(max, |old| old.min(max)));
            }
            ("minLength", Some(count), _) => text.min = text.min.max(count),
            ("maxLength", Some(count), _) if goal.negated => text.min = text.min.max(count + 1),
            ("maxLength", Some(count), _) => text.max = Some(text.max.map_or(count, |old| old.min(count))),
            ("pattern", _, Some(source)) => pattern(from_ecma(source)),
            (_, _, Some(name)) => match format::lookup(name) {
                Some(format::Format::Pattern(source)) => pattern(source),
                Some(format::Format::Named) if goal.negated => {
                    state.problem.get_or_insert(unknown);
                }
                _ => text.formats.push(name.to_owned()),
            },
            _ => {}
        }
        stack.push(state);
        Ok(())
    }

    /// `items`, `prefixItems` and `additionalItems` of one schema.
    fn elements(
        &mut self,
        goal: Goal<'a>,
        at: Location,
        keyword: &'a str,
        mut state: State<'a>,
        stack: &mut Vec<State<'a>>,
    ) -> Result<(), GuideError> {
        let schema = self.schema_of(at);
        let (prefix, rest) = tuple(schema);
        let items: Vec<&'a Value> = prefix.and_then(|prefix| schema[prefix].as_array()).into_iter().flatten().collect();
        // The group is one goal; `unevaluatedItems` has its own.
        let rest = if keyword == "unevaluatedItems" { Some(keyword) } else { rest };
        let skip = keyword == "unevaluatedItems";
        let from = if skip {
            match self.evaluated_items(at) {
                Some(Some(from)) => from,
                Some(None) => {
                    if !goal.negated {
                        stack.push(state);
                    }
                    return Ok(());
                }
                None => {
                    let message = "it depends on which branches hold; use `items`";
                    state.problem.get_or_insert(self.problem(goal, message));
                    stack.push(state);
                    return Ok(());
                }
            }
        } else {
            items.len()
        };
        let mut keys = Vec::new();
        for (idx, item) in items.iter().enumerate().take(if skip { 0 } else { items.len() }) {
            let pointer = self.below(at, &format!("{}/{idx}", prefix.unwrap_or_default()));
            keys.push(self.inner_key(goal, pointer, item));
        }
        let tail = match rest {
            Some(rest) => self.inner_key(goal, self.below(at, rest), &schema[rest]),
            None if goal.negated => Key::NEVER,
            None => Key::ALWAYS,
        };
        let problem = self.problem(goal, "bound the array by `maxItems`");
        if !goal.negated {
            if let Shape::Array(array) = &mut state.shape {
                conjoin(array, from, &keys, &tail);
            }
            stack.push(state);
            return Ok(());
        }
        for (idx, key) in keys.iter().enumerate().filter(|(_, key)| !key.is_never()) {
            let mut case = state.clone();
            if let Shape::Array(array) = &mut case.shape {
                array.at(idx).add_all(key);
                array.min = array.min.max(idx as u64 + 1);
            }
            stack.push(case);
        }
        match tail.0.as_deref() {
            None => {}
            Some([]) => {
                if let Shape::Array(array) = &mut state.shape {
                    array.min = array.min.max(from as u64 + 1);
                }
                stack.push(state);
            }
            Some(literals) => {
                let literal = literals[0];
                if let Shape::Array(array) = &mut state.shape {
                    array.contains.push(Contains { literal, from, min: 1, max: None, problem });
                }
                stack.push(state);
            }
        }
        Ok(())
    }

    fn contains(
        &mut self,
        goal: Goal<'a>,
        at: Location,
        mut state: State<'a>,
        stack: &mut Vec<State<'a>>,
    ) -> Result<(), GuideError> {
        let schema = self.schema_of(at);
        let min = schema.get("minContains").and_then(count_of).unwrap_or(1);
        let max = schema.get("maxContains").and_then(count_of);
        let problem = self.problem(goal, "bound the array by a small `maxItems`, or describe every item by `items`");
        let key = self.key(self.below(at, "contains"), &schema["contains"]);
        let cases: Vec<(u64, Option<u64>)> = if goal.negated {
            let fewer = min.checked_sub(1).map(|max| (0, Some(max)));
            fewer.into_iter().chain(max.map(|max| (max + 1, None))).collect()
        } else {
            vec![(min, max)]
        };
        // Who needs the items that do not match is this keyword.
        let cause = self.cause(self.below(at, "contains"), "contains");
        for (min, max) in cases {
            let mut case = state.clone();
            let Shape::Array(array) = &mut case.shape else { return Ok(()) };
            match key.0.as_deref() {
                None if min > 0 => continue,
                None => {}
                Some([]) => {
                    array.min = array.min.max(min);
                    max.into_iter().for_each(|max| array.cap(max));
                }
                Some(literals) => {
                    let literal = literals[0];
                    self.opposite(literal, Some(cause));
                    array.contains.push(Contains { literal, from: 0, min, max, problem: problem.clone() });
                }
            }
            stack.push(case);
        }
        state.goals.clear();
        Ok(())
    }

    fn object(
        &mut self,
        goal: Goal<'a>,
        at: Location,
        keyword: &'a str,
        mut state: State<'a>,
        stack: &mut Vec<State<'a>>,
    ) -> Result<(), GuideError> {
        let value = &self.schema_of(at)[keyword];
        let counted = self.problem(goal, "keys of open objects could repeat; require names");
        let names_problem = self.problem(
            goal,
            "the keys are too complex for an exact automaton; use \
            `patternProperties` with `additionalProperties: false`",
        );
        let pointer = self.below(at, keyword);
        let Shape::Object(object) = &mut state.shape else { return Ok(()) };
        match (keyword, count_of(value)) {
            ("minProperties", Some(count)) | ("maxProperties", Some(count)) => {
                if (keyword == "minProperties") != goal.negated {
                    let min = if goal.negated { count + 1 } else { count };
                    object.min = object.min.max(min);
                    object.counted.get_or_insert(counted);
                } else {
                    let max = if goal.negated { count.checked_sub(1) } else { Some(count) };
                    let Some(max) = max else { return Ok(()) };
                    object.max = Some(object.max.map_or(max, |old| old.min(max)));
                }
            }
            ("required", _) => {
                let names = value.as_array().into_iter().flatten().filter_map(Value::as_str);
                let names: Vec<Rc<str>> = names.map(Into::into).collect();
                if goal.negated {
                    for name in names {
                        let mut case = state.clone();
                        if let Shape::Object(object) = &mut case.shape {
                            object.absent.push(name);
                        }
                        stack.push(case);
                    }
                    return Ok(());
                }
                names.iter().for_each(|name| object.require(name));
            }
            ("propertyNames", _) => match self.key(pointer, value).0.as_deref() {
                Some([]) if goal.negated => return Ok(()),
                Some([]) => {}
                Some(literals) => {
                    let literal = Literal { negated: goal.negated, ..literals[0] };
                    if let Shape::Object(object) = &mut state.shape {
                        object.names.push((literal, names_problem));
                    }
                }
                None => {
                    if let Shape::Object(object) = &mut state.shape {
                        if goal.negated {
                            object.min = object.min.max(1);
                            object.counted.get_or_insert(counted);
                        } else {
                            object.max = Some(0);
                        }
                    }
                }
            },
            _ => return self.members(goal, at, keyword, state, stack),
        }
        stack.push(state);
        Ok(())
    }

    /// `properties`, `patternProperties` and `additionalProperties` of one schema, or its `unevaluatedProperties`.
    fn members(
        &mut self,
        goal: Goal<'a>,
        at: Location,
        keyword: &'a str,
        mut state: State<'a>,
        stack: &mut Vec<State<'a>>,
    ) -> Result<(), GuideError> {
        let schema = self.schema_of(at);
        let mut named: Vec<(Rc<str>, Key)> = Vec::new();
        let mut patterns: Vec<(Rc<str>, Key)> = Vec::new();
        let holds = if goal.negated { Key::NEVER } else { Key::ALWAYS };
        let rest = if keyword == "unevaluatedProperties" {
            match self.evaluated_names(at) {
                Some(Some((names, found))) => {
                    named.extend(names.into_iter().map(|name| (name, holds.clone())));
                    patterns.extend(found.into_iter().map(|pattern| (pattern, holds.clone())));
                }
                Some(None) => {
                    if !goal.negated {
                        stack.push(state);
                    }
                    return Ok(());
                }
                None => {
                    let message = "it depends on which branches hold; use `additionalProperties`";
                    state.problem.get_or_insert(self.problem(goal, message));
                    stack.push(state);
                    return Ok(());
                }
            }
            self.inner_key(goal, self.below(at, keyword), &schema[keyword])
        } else {
            for (name, value) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
                let pointer = self.below(at, &format!("properties/{}", escape(name)));
                named.push((name.as_str().into(), self.inner_key(goal, pointer, value)));
            }
            for (pattern, value) in schema.get("patternProperties").and_then(Value::as_object).into_iter().flatten() {
                let pointer = self.below(at, &format!("patternProperties/{}", escape(pattern)));
                patterns.push((from_ecma(pattern).into(), self.inner_key(goal, pointer, value)));
            }
            match schema.get("additionalProperties") {
                Some(value) => self.inner_key(goal, self.below(at, "additionalProperties"), value),
                None => holds,
            }
        };
        let problem = self.problem(goal, "a further key cannot be asked for beside open ones");
        if !goal.negated {
            if let Shape::Object(object) = &mut state.shape {
                if keyword != "unevaluatedProperties" {
                    named.iter().for_each(|(name, _)| object.mention(name));
                }
                object.members.push(Members { named, patterns, rest });
            }
            stack.push(state);
            return Ok(());
        }
        let mut push = |change: &dyn Fn(&mut ObjectShape)| {
            let mut case = state.clone();
            if let Shape::Object(object) = &mut case.shape {
                change(object);
            }
            stack.push(case);
        };
        for (name, key) in named.iter().filter(|(_, key)| !key.is_never()) {
            push(&|object| {
                object.mention(name);
                object.require(name);
                object.values.push((Rc::clone(name), key.clone()));
            });
        }
        let some_key = |only: Option<&Rc<str>>, value: &Key| SomeKey {
            names: if only.is_some() { Vec::new() } else { named.iter().map(|(name, _)| Rc::clone(name)).collect() },
            patterns: if only.is_some() {
                Vec::new()
            } else {
                patterns.iter().map(|(text, _)| Rc::clone(text)).collect()
            },
            only: only.cloned(),
            value: value.clone(),
            problem: problem.clone(),
        };
        for (pattern, key) in patterns.iter().filter(|(_, key)| !key.is_never()) {
            push(&|object| object.some_key.push(some_key(Some(pattern), key)));
        }
        if !rest.is_never() {
            push(&|object| object.some_key.push(some_key(None, &rest)));
        }
        Ok(())
    }

    /// Names and patterns that keywords beside `unevaluatedProperties` evaluate: `Some(None)` for all keys, `None`
    /// where it depends on the value.
    #[expect(clippy::type_complexity, reason = "two lists")]
    fn evaluated_names(&self, at: Location) -> Option<Option<(Vec<Rc<str>>, Vec<Rc<str>>)>> {
        let (mut names, mut patterns) = (Vec::new(), Vec::new());
        for (pointer, schema) in self.in_place(at)? {
            if schema.contains_key("additionalProperties")
                || (!pointer.is_empty() && schema.contains_key("unevaluatedProperties"))
            {
                return Some(None);
            }
            let keys = |keyword: &str| schema.get(keyword).and_then(Value::as_object).into_iter().flatten();
            names.extend(keys("properties").map(|(name, _)| Rc::<str>::from(name.as_str())));
            patterns.extend(keys("patternProperties").map(|(pattern, _)| Rc::<str>::from(from_ecma(pattern))));
        }
        Some(Some((names, patterns)))
    }

    /// Items that keywords beside `unevaluatedItems` evaluate: `Some(None)` for all.
    fn evaluated_items(&self, at: Location) -> Option<Option<usize>> {
        let mut from = 0;
        for (pointer, schema) in self.in_place(at)? {
            let (prefix, rest) = tuple(schema);
            if rest.is_some() || (!pointer.is_empty() && schema.contains_key("unevaluatedItems")) {
                return Some(None);
            }
            if schema.contains_key("contains") {
                return None;
            }
            let len = prefix.and_then(|prefix| schema[prefix].as_array()).map_or(0, Vec::len);
            from = from.max(len);
        }
        Some(Some(from))
    }

    /// The schema and all that `allOf` and `$ref` put beside it; `None` where another keyword may or may not hold.
    /// The schema itself has an empty pointer.
    fn in_place(&self, at: Location) -> Option<Vec<(String, &'a Map<String, Value>)>> {
        const DEPENDING: [&str; 6] = ["anyOf", "oneOf", "if", "dependentSchemas", "dependencies", "$dynamicRef"];
        let mut found: Vec<(String, &'a Map<String, Value>)> = Vec::new();
        let mut stack = vec![(self.places[at].pointer.clone(), self.places[at].value)];
        let own = self.places[at].pointer.clone();
        let root = self.root;
        let mut seen: Vec<String> = Vec::new();
        while let Some((pointer, value)) = stack.pop() {
            let Some(schema) = value.as_object() else { continue };
            if seen.contains(&pointer) {
                continue;
            }
            if DEPENDING.iter().any(|keyword| schema.contains_key(*keyword)) || seen.len() > self.config.max_ref_chain {
                return None;
            }
            seen.push(pointer.clone());
            for (idx, value) in schema.get("allOf").and_then(Value::as_array).into_iter().flatten().enumerate() {
                stack.push((format!("{pointer}/allOf/{idx}"), value));
            }
            if schema.contains_key("$ref") {
                let target = self.targets.get(&format!("{pointer}/$ref"))?.clone();
                let value = root.pointer(&target)?;
                stack.push((target, value));
            }
            found.push((if pointer == own { String::new() } else { pointer }, schema));
        }
        Some(found)
    }

    /// The strings in which a pattern is found, kept for the next time.
    pub(super) fn language(&mut self, pattern: &Rc<str>) -> Option<Rc<Language>> {
        if let Some(known) = self.languages.get(pattern) {
            return known.clone();
        }
        let hir = regex_syntax::parse(pattern).ok();
        let language = hir.and_then(|hir| Language::found(&hir, self.bounds)).map(Rc::new);
        self.languages.insert(Rc::clone(pattern), language.clone());
        language
    }
}

enum Sub<'a> {
    Holds,
    Fails,
    Goal(Goal<'a>),
}

/// Keywords that only make sense once others are known.
fn is_conditional(keyword: &str) -> bool {
    matches!(
        keyword,
        "if" | "not"
            | "dependentRequired"
            | "dependentSchemas"
            | "dependencies"
            | "unevaluatedProperties"
            | "unevaluatedItems"
    )
}

pub(super) fn contradicts(object: &ObjectShape) -> bool {
    object.absent.iter().any(|name| object.required.contains(name))
}

/// Which keyword lists the first items, and which describes the others.
fn tuple(schema: &Map<String, Value>) -> (Option<&'static str>, Option<&'static str>) {
    let has = |keyword: &'static str| schema.contains_key(keyword).then_some(keyword);
    match schema.get("items") {
        Some(Value::Array(_)) => (Some("items"), has("additionalItems")),
        _ => (has("prefixItems"), has("items")),
    }
}

fn names_type(value: &Value, name: &str) -> bool {
    match value {
        Value::String(found) => found == name,
        Value::Array(names) => names.iter().any(|found| found == name),
        _ => false,
    }
}

/// Whether `type` lets values of this type through at all; some numbers are enough.
fn type_admits(schema: &Map<String, Value>, kind: Type) -> bool {
    schema
        .get("type")
        .is_none_or(|value| names_type(value, kind.name()) || (kind == Type::Number && names_type(value, "integer")))
}

/// The keywords of a schema that say something about values of one type, groups by their first member.
fn relevant<'a>(schema: &'a Map<String, Value>, kind: Type) -> Vec<&'a str> {
    const MEMBERS: [&str; 3] = ["properties", "patternProperties", "additionalProperties"];
    const ELEMENTS: [&str; 3] = ["prefixItems", "items", "additionalItems"];
    let mut found: Vec<&'a str> = Vec::new();
    let (mut has_members, mut has_elements) = (false, false);
    for (keyword, value) in schema {
        let keyword = keyword.as_str();
        let is_relevant = match keyword {
            "type" => kind == Type::Number && !names_type(value, "number"),
            "const" | "enum" | "allOf" | "anyOf" | "oneOf" | "not" | "$ref" => true,
            "if" => schema.contains_key("then") || schema.contains_key("else"),
            "minimum" | "maximum" | "multipleOf" => kind == Type::Number,
            "exclusiveMinimum" | "exclusiveMaximum" => kind == Type::Number && value.is_number(),
            "minLength" | "maxLength" | "pattern" | "format" => kind == Type::String,
            "minItems" | "maxItems" | "contains" | "unevaluatedItems" => kind == Type::Array,
            "uniqueItems" => kind == Type::Array && value == &Value::Bool(true),
            "required"
            | "minProperties"
            | "maxProperties"
            | "propertyNames"
            | "dependentRequired"
            | "dependentSchemas"
            | "dependencies"
            | "unevaluatedProperties" => kind == Type::Object,
            _ if MEMBERS.contains(&keyword) => kind == Type::Object && !std::mem::replace(&mut has_members, true),
            _ if ELEMENTS.contains(&keyword) => {
                let counts = keyword != "additionalItems" || schema.get("items").is_some_and(Value::is_array);
                kind == Type::Array && counts && !std::mem::replace(&mut has_elements, true)
            }
            _ => false,
        };
        if is_relevant {
            found.push(keyword);
        }
    }
    found
}

/// Lays the items of one schema over those known: `keys` from the start, `tail` from `from` on.
fn conjoin(array: &mut ArrayShape, from: usize, keys: &[Key], tail: &Key) {
    if from > 0 {
        array.at(from - 1);
    }
    for (idx, key) in array.prefix.iter_mut().enumerate() {
        match keys.get(idx) {
            Some(key_here) => key.add_all(key_here),
            None if idx >= from => key.add_all(tail),
            None => {}
        }
    }
    array.rest.add_all(tail);
}

/// Leaves only the values given; says whether one of them has no exact number.
fn restrict(shape: &mut Shape, values: &[&Value]) -> bool {
    let mut inexact = false;
    match shape {
        Shape::Boolean(left) => {
            for value in [false, true] {
                left[usize::from(value)] &= values.contains(&&Value::Bool(value));
            }
        }
        Shape::Number(number) => {
            let mut found = Vec::new();
            for value in values.iter().filter_map(|value| value.as_f64()) {
                inexact |= value.abs() >= MAX_EXACT;
                if !found.contains(&value) && number.values.as_ref().is_none_or(|old| old.contains(&value)) {
                    found.push(value);
                }
            }
            number.values = Some(found);
        }
        Shape::String(text) => {
            let mut found: Vec<String> = Vec::new();
            for value in values.iter().filter_map(|value| value.as_str()) {
                let is_left = text.values.as_ref().is_none_or(|old| old.iter().any(|old| old == value));
                if is_left && !found.iter().any(|known| known == value) {
                    found.push(value.to_owned());
                }
            }
            text.values = Some(found);
        }
        Shape::Null | Shape::Array(_) | Shape::Object(_) => {}
    }
    inexact
}

/// Takes one value out; whether anything is left as far as is known here, and whether the number was not exact.
fn exclude(shape: &mut Shape, value: &Value) -> (bool, bool) {
    match (shape, value) {
        (Shape::Boolean(left), Value::Bool(value)) => {
            left[usize::from(*value)] = false;
            (left[0] || left[1], false)
        }
        (Shape::Number(number), Value::Number(value)) => {
            let value = value.as_f64().unwrap_or(f64::NAN);
            number.excluded.push(value);
            (true, value.is_nan() || value.abs() >= MAX_EXACT)
        }
        (Shape::String(text), Value::String(value)) => {
            text.excluded.push(value.clone());
            (true, false)
        }
        (_, Value::Null) => (false, false),
        _ => (true, false),
    }
}
