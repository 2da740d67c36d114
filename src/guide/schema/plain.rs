//! From shapes to plain cases: every assertion that llguidance lacks is worked into those it has, exactly, or refused.

use std::rc::Rc;

use serde_json::{Value, json};

use super::expand::{Expander, contradicts};
use super::language::Language;
use super::shape::{
    ArrayShape, Case, Contains, Decimal, End, Key, Literal, Named, NumberShape, ObjectShape, Plain, Shape, SomeKey,
    TextShape, Type,
};
use crate::guide::{GuideConfig, GuideError};

impl Expander<'_> {
    /// Every plain case in which all of `key` holds for a value of one type; cases that cannot hold are left out where
    /// that is seen.
    pub(super) fn cases(&mut self, key: &Key, kind: Type) -> Result<Vec<Case>, GuideError> {
        let mut found = Vec::new();
        for expanded in self.expand(key, kind)? {
            let mut cases = Vec::new();
            match expanded.shape {
                Shape::Null => cases.push(Case { plain: Plain::Null, problem: None }),
                Shape::Boolean([false, false]) => {}
                Shape::Boolean(values) => cases.push(Case { plain: Plain::Boolean(values), problem: None }),
                Shape::Number(number) => plain_numbers(number, self.config, &mut cases),
                Shape::String(text) => self.plain_text(text, &mut cases)?,
                Shape::Array(array) => self.plain_arrays(array, &mut cases)?,
                Shape::Object(object) => self.plain_objects(object, &mut cases)?,
            }
            self.charge(cases.len())?;
            for mut case in cases {
                if let Some(problem) = &expanded.problem {
                    case.problem = Some(problem.clone());
                }
                if !found.contains(&case) {
                    found.push(case);
                }
            }
        }
        Ok(found)
    }

    /// Whether no value can satisfy `key`, as far as a bounded look shows.
    pub(super) fn is_provably_empty(&mut self, key: &Key, depth: usize) -> Result<bool, GuideError> {
        if key.is_never() || key.is_always() || depth == 0 {
            return Ok(key.is_never());
        }
        for kind in Type::ALL {
            for case in self.cases(key, kind)? {
                if !self.is_provably_impossible(&case.plain, depth)? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn is_provably_impossible(&mut self, plain: &Plain, depth: usize) -> Result<bool, GuideError> {
        match plain {
            Plain::Array { prefix, rest, min, .. } => {
                let needed = usize::try_from(*min).unwrap_or(usize::MAX);
                for key in prefix.iter().take(needed).chain((needed > prefix.len()).then_some(rest)) {
                    if self.is_provably_empty(key, depth - 1)? {
                        return Ok(true);
                    }
                }
            }
            Plain::Object { named, .. } => {
                for member in named.iter().filter(|member| member.is_required) {
                    if self.is_provably_empty(&member.value, depth - 1)? {
                        return Ok(true);
                    }
                }
            }
            _ => {}
        }
        Ok(false)
    }

    fn plain_text(&mut self, mut text: TextShape, cases: &mut Vec<Case>) -> Result<(), GuideError> {
        if text.max.is_some_and(|max| max < text.min) {
            return Ok(());
        }
        let too_complex = text.too_complex.clone();
        if let Some(values) = text.values.take() {
            let mut left = Vec::new();
            let mut problem = None;
            for value in values {
                let len = value.chars().count() as u64;
                if len < text.min || text.max.is_some_and(|max| len > max) || text.excluded.contains(&value) {
                    continue;
                }
                let mut holds = true;
                for pattern in &text.patterns {
                    match self.language(&pattern.text) {
                        Some(language) => holds &= language.contains(&value) != pattern.negated,
                        None => problem = too_complex.clone(),
                    }
                }
                if holds {
                    left.push(value);
                }
            }
            // llguidance knows which of the values have a format that it enforces by name.
            let plain = match (left.is_empty(), text.formats.is_empty()) {
                (true, _) => return Ok(()),
                (false, true) => Plain::Values(left.into_iter().map(Value::String).collect()),
                (false, false) => {
                    let language = Language::of_texts(&left, self.bounds);
                    match language.and_then(|language| language.to_pattern(self.bounds)) {
                        Some(pattern) => {
                            Plain::String { min: 0, max: None, patterns: vec![pattern], formats: text.formats }
                        }
                        None => return Err(self.too_many_states()),
                    }
                }
            };
            cases.push(Case { plain, problem });
            return Ok(());
        }
        let is_mixed = !text.excluded.is_empty()
            || text.patterns.iter().any(|pattern| pattern.negated || !is_anchored_at_ends(&pattern.text));
        let mut problem = None;
        let language = if is_mixed || text.patterns.len() > 1 || !text.patterns.is_empty() && has_bounds(&text) {
            self.text_language(&text)
        } else {
            Some(Language::all())
        };
        let mut patterns: Vec<String> = Vec::new();
        match language {
            Some(language) if self.is_empty_within(&language, &text) => return Ok(()),
            Some(language) if is_mixed => match language.to_pattern(self.bounds) {
                Some(pattern) => patterns.push(pattern),
                None => problem = too_complex,
            },
            None if is_mixed => {
                problem = Some(too_complex.unwrap_or_else(|| self.too_many_states()));
            }
            _ => {
                for pattern in &text.patterns {
                    if !patterns.iter().any(|known| *known == *pattern.text) {
                        patterns.push(pattern.text.to_string());
                    }
                }
            }
        }
        let plain = Plain::String { min: text.min, max: text.max, patterns, formats: text.formats };
        cases.push(Case { plain, problem });
        Ok(())
    }

    fn is_empty_within(&self, language: &Language, text: &TextShape) -> bool {
        let lengths = Language::of_length(text.min, text.max, self.bounds);
        let both = lengths.and_then(|lengths| language.intersection(&lengths, self.bounds));
        both.as_ref().unwrap_or(language).is_empty()
    }

    fn too_many_states(&self) -> GuideError {
        GuideError::TooLarge {
            part: self.part.to_owned(),
            what: "number of states of the patterns together".to_owned(),
            size: self.bounds.max_states as u64 + 1,
            limit: self.bounds.max_states as u64,
        }
    }

    /// The strings of a shape, formats that llguidance enforces by name left out; long bounds are left to llguidance.
    fn text_language(&mut self, text: &TextShape) -> Option<Language> {
        let bounds = self.bounds;
        let mut language = match &text.values {
            Some(values) => Language::of_texts(values, bounds)?,
            None => Language::all(),
        };
        for pattern in &text.patterns {
            let other = self.language(&pattern.text)?;
            let other = if pattern.negated { (*other).clone().complement() } else { (*other).clone() };
            language = language.intersection(&other, bounds)?;
        }
        if !text.excluded.is_empty() {
            let excluded = Language::of_texts(&text.excluded, bounds)?;
            language = language.intersection(&excluded.complement(), bounds)?;
        }
        Some(language)
    }

    /// The keys that a schema of keys lets through.
    fn key_language(&mut self, literal: Literal) -> Result<Option<Language>, GuideError> {
        let bounds = self.bounds;
        let mut language = Language::all().complement();
        for expanded in self.expand(&Key(Some(vec![literal])), Type::String)? {
            let Shape::String(text) = expanded.shape else { continue };
            if expanded.problem.is_some() || !text.formats.is_empty() {
                return Ok(None);
            }
            let Some(mut one) = self.text_language(&text) else { return Ok(None) };
            if has_bounds(&text) {
                let Some(lengths) = Language::of_length(text.min, text.max, bounds) else { return Ok(None) };
                let Some(both) = one.intersection(&lengths, bounds) else { return Ok(None) };
                one = both;
            }
            let Some(either) = language.union(&one, bounds) else { return Ok(None) };
            language = either;
        }
        Ok(Some(language))
    }

    fn plain_arrays(&mut self, array: ArrayShape, cases: &mut Vec<Case>) -> Result<(), GuideError> {
        let mut stack = vec![array];
        while let Some(mut array) = stack.pop() {
            self.charge(1)?;
            tighten(&mut array);
            if array.max.is_some_and(|max| max < array.min) {
                continue;
            }
            match array.contains.pop() {
                Some(contains) => self.place(array, contains, &mut stack, cases)?,
                None => self.distinct(array, cases)?,
            }
        }
        Ok(())
    }

    /// Works one `contains` into the positions of an array.
    fn place(
        &mut self,
        mut array: ArrayShape,
        contains: Contains,
        stack: &mut Vec<ArrayShape>,
        cases: &mut Vec<Case>,
    ) -> Result<(), GuideError> {
        let Contains { literal, from, min, max, problem } = contains;
        let everywhere = |array: &ArrayShape, literal: Literal| {
            let len = array.max.map_or(usize::MAX, |max| usize::try_from(max).unwrap_or(usize::MAX));
            array.prefix.iter().take(len).skip(from).all(|key| key.has(literal))
                && (len <= array.prefix.len() || array.rest.has(literal))
        };
        if min == 0 && max.is_none() {
            stack.push(array);
        } else if max.is_some_and(|max| max < min) || (min > 0 && everywhere(&array, literal.not())) {
            // No array has that.
        } else if everywhere(&array, literal) {
            array.min = array.min.max(if min > 0 { from as u64 + min } else { 0 });
            max.into_iter().for_each(|max| array.cap(from as u64 + max));
            stack.push(array);
        } else if max == Some(0) {
            if from > 0 {
                array.at(from - 1);
            }
            array.prefix.iter_mut().skip(from).for_each(|key| key.add(literal.not()));
            array.rest.add(literal.not());
            stack.push(array);
        } else {
            let Some(len) = array.max.and_then(|len| usize::try_from(len).ok()) else {
                cases.push(Case { plain: plain_array(array), problem: Some(problem) });
                return Ok(());
            };
            self.charge(len)?;
            let positions: Vec<usize> = (from..len).collect();
            let sizes: Vec<usize> = match max {
                None => vec![usize::try_from(min).unwrap_or(usize::MAX)],
                Some(max) => {
                    let max = usize::try_from(max).unwrap_or(usize::MAX).min(positions.len());
                    (usize::try_from(min).unwrap_or(usize::MAX)..=max).collect()
                }
            };
            for size in sizes {
                for chosen in self.subsets(&positions, size, len)? {
                    let mut case = array.clone();
                    if len > 0 {
                        case.at(len - 1);
                    }
                    for &position in &positions {
                        if chosen.contains(&position) {
                            case.prefix[position].add(literal);
                        } else if max.is_some() {
                            case.prefix[position].add(literal.not());
                        }
                    }
                    case.min = case.min.max(chosen.last().map_or(0, |&last| last as u64 + 1));
                    stack.push(case);
                }
            }
        }
        Ok(())
    }

    /// The subsets of one size, each charged with `price`.
    fn subsets<T: Clone>(&mut self, all: &[T], size: usize, price: usize) -> Result<Vec<Vec<T>>, GuideError> {
        if size > all.len() {
            return Ok(Vec::new());
        }
        let mut picks: Vec<usize> = (0..size).collect();
        let mut found = Vec::new();
        loop {
            self.charge(price.max(1))?;
            found.push(picks.iter().map(|&pick| all[pick].clone()).collect());
            let Some(moving) = (0..size).rev().find(|&idx| picks[idx] < all.len() - size + idx) else {
                return Ok(found);
            };
            picks[moving] += 1;
            for idx in moving + 1..size {
                picks[idx] = picks[idx - 1] + 1;
            }
        }
    }

    /// `uniqueItems`: for nothing where no two items can be equal, by listing where there are few constants.
    fn distinct(&mut self, array: ArrayShape, cases: &mut Vec<Case>) -> Result<(), GuideError> {
        let Some(problem) = array.unique.clone() else {
            cases.push(Case { plain: plain_array(array), problem: None });
            return Ok(());
        };
        if array.max.is_some_and(|max| max <= 1) {
            cases.push(Case { plain: plain_array(array), problem: None });
            return Ok(());
        }
        if let Some(lists) = self.distinct_lists(&array)? {
            if !lists.is_empty() {
                cases.push(Case { plain: Plain::Values(lists), problem: None });
            }
            return Ok(());
        }
        let len = array.max.and_then(|max| usize::try_from(max).ok()).filter(|&max| max <= array.prefix.len());
        let mut are_disjoint = len.is_some();
        for a in 0..len.unwrap_or(0) {
            for b in a + 1..len.unwrap_or(0) {
                let mut both = array.prefix[a].clone();
                both.add_all(&array.prefix[b]);
                let depth = self.config.max_disjoint_depth;
                are_disjoint = are_disjoint && self.is_provably_empty(&both, depth)?;
            }
        }
        let problem = (!are_disjoint).then_some(problem);
        cases.push(Case { plain: plain_array(array), problem });
        Ok(())
    }

    /// Every array without equal items, where each position has few scalar values.
    fn distinct_lists(&mut self, array: &ArrayShape) -> Result<Option<Vec<Value>>, GuideError> {
        let rest = match array.max {
            Some(max) if max <= array.prefix.len() as u64 => Vec::new(),
            _ => match self.values(&array.rest)? {
                Some(values) => values,
                None => return Ok(None),
            },
        };
        let mut prefix = Vec::new();
        for key in &array.prefix {
            let Some(values) = self.values(key)? else { return Ok(None) };
            prefix.push(values);
        }
        let mut found = Vec::new();
        let mut stack: Vec<Vec<Value>> = vec![Vec::new()];
        while let Some(list) = stack.pop() {
            self.charge(1 + list.len())?;
            if list.len() as u64 >= array.min {
                found.push(Value::Array(list.clone()));
            }
            if array.max.is_none_or(|max| (list.len() as u64) < max) {
                let next = prefix.get(list.len()).unwrap_or(&rest);
                for value in next.iter().filter(|value| !list.contains(value)) {
                    stack.push(list.iter().chain([value]).cloned().collect());
                }
            }
        }
        Ok(Some(found))
    }

    /// The values of a key where they are few scalars; numbers are in one spelling.
    fn values(&mut self, key: &Key) -> Result<Option<Vec<Value>>, GuideError> {
        if key.is_always() {
            return Ok(None);
        }
        let mut found = Vec::new();
        for kind in Type::ALL {
            for case in self.cases(key, kind)? {
                match case.plain {
                    _ if case.problem.is_some() => return Ok(None),
                    Plain::Null => found.push(Value::Null),
                    Plain::Boolean(values) => {
                        found.extend(
                            [false, true].into_iter().filter(|&value| values[usize::from(value)]).map(Value::Bool),
                        );
                    }
                    Plain::Values(values) if values.iter().all(|value| !value.is_array()) => found.extend(values),
                    _ => return Ok(None),
                }
            }
        }
        let mut seen: Vec<Value> = Vec::new();
        for value in found {
            if !seen.contains(&value) {
                seen.push(value);
            }
        }
        Ok(Some(seen))
    }

    fn plain_objects(&mut self, object: ObjectShape, cases: &mut Vec<Case>) -> Result<(), GuideError> {
        if contradicts(&object) || object.max.is_some_and(|max| max < object.required.len() as u64) {
            return Ok(());
        }
        let Some(mut keys) = self.keys(&object)? else {
            let problem = object.names.first().map(|(_, problem)| problem.clone());
            let problem = problem.unwrap_or_else(|| self.too_many_states());
            cases.push(Case { plain: Plain::Null, problem: Some(problem) });
            return Ok(());
        };
        if keys.named.iter().any(|member| member.is_required && member.value.is_never()) {
            return Ok(());
        }
        let mut some = object.some_key.clone();
        let mut stack = vec![(std::mem::take(&mut keys.named), 0u64)];
        // Each further key is one of the named ones, or one of the open ones.
        while let Some(wanted) = some.pop() {
            let mut next = Vec::new();
            for (named, min_open) in stack {
                self.some_key(&wanted, &keys, &named, min_open, &mut next, cases)?;
            }
            stack = next;
        }
        for (named, min_open) in stack {
            self.counted(&object, &keys, named, min_open, cases)?;
        }
        Ok(())
    }

    /// One case for each key that `wanted` may be.
    fn some_key(
        &mut self,
        wanted: &SomeKey,
        keys: &Keys,
        named: &[Named],
        min_open: u64,
        next: &mut Vec<(Vec<Named>, u64)>,
        cases: &mut Vec<Case>,
    ) -> Result<(), GuideError> {
        self.charge(named.len() + 1)?;
        for (idx, member) in named.iter().enumerate() {
            if member.value.is_never() || wanted.names.contains(&member.name) {
                continue;
            }
            let mut counts = wanted.only.is_none();
            for pattern in wanted.patterns.iter().chain(&wanted.only) {
                let Some(language) = self.language(pattern) else { return Err(self.too_many_states()) };
                if language.contains(&member.name) {
                    counts = wanted.only.is_some();
                }
            }
            if counts {
                let mut named = named.to_vec();
                named[idx].is_required = true;
                named[idx].value.add_all(&wanted.value);
                if !named[idx].value.is_never() {
                    next.push((named, min_open));
                }
            }
        }
        // Open keys are all of one kind, or which of them counts cannot be said.
        let counting: Vec<bool> = keys
            .open
            .iter()
            .filter(|open| !open.value.is_never())
            .map(|open| match &wanted.only {
                Some(only) => open.inside.contains(only),
                None => !wanted.patterns.iter().any(|pattern| open.inside.contains(pattern)),
            })
            .collect();
        if !counting.contains(&true) {
            return Ok(());
        }
        // A name that does not count stands among the open ones unless it is named here.
        let is_plain = wanted.value.is_always()
            && !counting.contains(&false)
            && wanted.names.iter().all(|name| named.iter().any(|member| member.name == *name));
        let problem = (!is_plain).then(|| wanted.problem.clone());
        if let Some(problem) = problem {
            cases.push(Case { plain: Plain::Null, problem: Some(problem) });
        } else {
            next.push((named.to_vec(), min_open.max(1)));
        }
        Ok(())
    }

    /// Works `minProperties` and `maxProperties` in, by choosing which of the optional names are there.
    fn counted(
        &mut self,
        object: &ObjectShape,
        keys: &Keys,
        named: Vec<Named>,
        min_open: u64,
        cases: &mut Vec<Case>,
    ) -> Result<(), GuideError> {
        let is_open = keys.open.iter().any(|open| !open.value.is_never());
        let optional: Vec<usize> =
            (0..named.len()).filter(|&idx| !named[idx].is_required && !named[idx].value.is_never()).collect();
        let num_required = named.iter().filter(|member| member.is_required).count() as u64;
        let missing = object.min.saturating_sub(num_required);
        let most = match object.max {
            Some(max) if max < num_required + min_open => return Ok(()),
            Some(max) => Some(max - num_required),
            None => None,
        };
        let mut push = |this: &mut Self, chosen: &[usize], others: bool, min_open: u64, max_open: Option<u64>| {
            let mut named = named.clone();
            for &idx in &optional {
                if chosen.contains(&idx) {
                    named[idx].is_required = true;
                } else if !others {
                    named[idx].value = Key::NEVER;
                }
            }
            // Nothing keeps an open key from being written twice, which counts once.
            let problem = (min_open > 1).then(|| object.counted.clone().unwrap_or_else(|| this.too_many_states()));
            cases.push(Case { plain: plain_object(named, keys, min_open, max_open), problem });
        };
        let len = named.len();
        let most = if is_open { most } else { most.filter(|&most| most < optional.len() as u64) };
        let min_open = if is_open { min_open } else { 0 };
        match (missing.max(min_open), most) {
            (0, None) => push(self, &[], true, 0, None),
            (_, None) if !is_open => {
                for chosen in self.subsets(&optional, usize::try_from(missing).unwrap_or(usize::MAX), len)? {
                    push(self, &chosen, true, 0, None);
                }
            }
            (_, None) if min_open == 0 => {
                // Enough of the named, whatever else; or all that are there are fewer, and open ones are needed.
                let enough = usize::try_from(missing).unwrap_or(usize::MAX);
                for chosen in self.subsets(&optional, enough, len)? {
                    push(self, &chosen, true, 0, None);
                }
                for size in 0..enough.min(optional.len() + 1) {
                    for chosen in self.subsets(&optional, size, len)? {
                        push(self, &chosen, false, missing - size as u64, None);
                    }
                }
            }
            (_, most) => {
                let largest =
                    most.map_or(optional.len(), |most| optional.len().min(usize::try_from(most).unwrap_or(usize::MAX)));
                for size in 0..=largest {
                    let present = size as u64;
                    let open = missing.saturating_sub(present).max(min_open);
                    let room = most.map(|most| most - present);
                    if room.is_some_and(|room| room < open) || (!is_open && open > 0) {
                        continue;
                    }
                    for chosen in self.subsets(&optional, size, len)? {
                        push(self, &chosen, false, open, room.filter(|_| is_open));
                    }
                }
            }
        }
        Ok(())
    }

    /// What each named key's value must satisfy, and the sets of other keys; `None` where the patterns are too complex.
    fn keys(&mut self, object: &ObjectShape) -> Result<Option<Keys>, GuideError> {
        let mut filters: Vec<Language> = Vec::new();
        for (literal, _) in &object.names {
            // That one key must break a rule of keys is said by no other keyword.
            let Some(language) = (if literal.negated { None } else { self.key_language(*literal)? }) else {
                return Ok(None);
            };
            filters.push(language);
        }
        let mut patterns: Vec<Rc<str>> = Vec::new();
        for (pattern, _) in object.members.iter().flat_map(|members| &members.patterns) {
            if !patterns.contains(pattern) {
                patterns.push(Rc::clone(pattern));
            }
        }
        for some in &object.some_key {
            for pattern in some.patterns.iter().chain(&some.only) {
                if !patterns.contains(pattern) {
                    patterns.push(Rc::clone(pattern));
                }
            }
        }
        let mut names = object.order.clone();
        let further = object.members.iter().flat_map(|members| members.named.iter().map(|(name, _)| name));
        let listed = object.some_key.iter().flat_map(|some| &some.names);
        for name in object.required.iter().chain(&object.absent).chain(further).chain(listed) {
            if !names.contains(name) {
                names.push(Rc::clone(name));
            }
        }
        let mut languages = Vec::new();
        for pattern in &patterns {
            let Some(language) = self.language(pattern) else { return Ok(None) };
            languages.push(language);
        }
        let inside = |name: &str| -> Vec<Rc<str>> {
            let found = patterns.iter().zip(&languages).filter(|(_, language)| language.contains(name));
            found.map(|(pattern, _)| Rc::clone(pattern)).collect()
        };
        let named = names
            .iter()
            .map(|name| {
                let mut value = value_of(object, Some(name), &inside(name));
                if object.absent.contains(name) || filters.iter().any(|filter| !filter.contains(name)) {
                    value = Key::NEVER;
                }
                object.values.iter().filter(|(known, _)| known == name).for_each(|(_, key)| value.add_all(key));
                Named { name: Rc::clone(name), value, is_required: object.required.contains(name) }
            })
            .collect();
        let Some(open) = self.open_keys(object, &patterns, &languages, &filters)? else { return Ok(None) };
        Ok(Some(Keys { named, open, is_filtered: !filters.is_empty() }))
    }

    /// The sets of keys that no name stands for, by which patterns they match.
    fn open_keys(
        &mut self,
        object: &ObjectShape,
        patterns: &[Rc<str>],
        languages: &[Rc<Language>],
        filters: &[Language],
    ) -> Result<Option<Vec<Open>>, GuideError> {
        if let Some(open) = self.apart(object, patterns, languages, filters) {
            return Ok(Some(open));
        }
        let Some(whole) = self.within(Language::all(), filters) else { return Ok(None) };
        let mut sets: Vec<(Language, Vec<Rc<str>>)> = vec![(whole, Vec::new())];
        for (pattern, other) in patterns.iter().zip(languages) {
            let outside = (**other).clone().complement();
            let mut split = Vec::new();
            for (language, inside) in sets {
                self.charge(1)?;
                let Some(out) = language.intersection(&outside, self.bounds) else { return Ok(None) };
                let Some(both) = language.intersection(other, self.bounds) else { return Ok(None) };
                let with = inside.iter().chain([pattern]).map(Rc::clone).collect();
                split.extend([(out, inside), (both, with)].into_iter().filter(|(language, _)| !language.is_empty()));
            }
            sets = split;
            if sets.len() > self.config.max_key_sets {
                return Ok(None);
            }
        }
        let mut open = Vec::new();
        for (language, inside) in sets {
            let value = value_of(object, None, &inside);
            let pattern = if inside.is_empty() && filters.is_empty() {
                None
            } else {
                let Some(pattern) = language.to_pattern(self.bounds) else { return Ok(None) };
                Some(pattern)
            };
            open.push(Open { inside, pattern, value });
        }
        Ok(Some(open))
    }

    fn within(&self, language: Language, filters: &[Language]) -> Option<Language> {
        filters.iter().try_fold(language, |language, filter| language.intersection(filter, self.bounds))
    }

    /// The sets of keys where no two patterns match one key: each pattern stays as it is written.
    fn apart(
        &self,
        object: &ObjectShape,
        patterns: &[Rc<str>],
        languages: &[Rc<Language>],
        filters: &[Language],
    ) -> Option<Vec<Open>> {
        let are_apart = languages.iter().enumerate().all(|(idx, language)| {
            languages[..idx]
                .iter()
                .all(|other| language.intersection(other, self.bounds).is_some_and(|both| both.is_empty()))
        });
        if !filters.is_empty() || !are_apart || !patterns.iter().all(|pattern| is_anchored_at_ends(pattern)) {
            return None;
        }
        let mut open: Vec<Open> = patterns
            .iter()
            .zip(languages)
            .filter(|(_, language)| !language.is_empty())
            .map(|(pattern, _)| {
                let inside = vec![Rc::clone(pattern)];
                let value = value_of(object, None, &inside);
                Open { inside, pattern: Some(pattern.to_string()), value }
            })
            .collect();
        let everything = languages.iter().any(|language| (**language).clone().complement().is_empty());
        if !everything {
            open.push(Open { inside: Vec::new(), pattern: None, value: value_of(object, None, &[]) });
        }
        Some(open)
    }
}

/// The keys of an object, named and not.
struct Keys {
    named: Vec<Named>,
    open: Vec<Open>,
    is_filtered: bool,
}

/// A set of keys that no name stands for; without a pattern, all that no other set has.
struct Open {
    /// The patterns that its keys match.
    inside: Vec<Rc<str>>,
    pattern: Option<String>,
    value: Key,
}

/// What a key's value must satisfy under every schema of the object.
fn value_of(object: &ObjectShape, name: Option<&Rc<str>>, inside: &[Rc<str>]) -> Key {
    let mut value = Key::ALWAYS;
    for members in &object.members {
        let own = members.named.iter().find(|(known, _)| Some(known) == name).map(|(_, key)| key);
        let matched: Vec<&Key> =
            members.patterns.iter().filter(|(pattern, _)| inside.contains(pattern)).map(|(_, key)| key).collect();
        own.iter().for_each(|key| value.add_all(key));
        matched.iter().for_each(|key| value.add_all(key));
        if own.is_none() && matched.is_empty() {
            value.add_all(&members.rest);
        }
    }
    value
}

fn has_bounds(text: &TextShape) -> bool {
    text.min > 0 || text.max.is_some()
}

/// Whether anchors stand only where llguidance looks for them: at the two ends of the whole pattern.
fn is_anchored_at_ends(pattern: &str) -> bool {
    use regex_syntax::hir::{HirKind, Look};
    let Ok(hir) = regex_syntax::parse(pattern) else { return false };
    if hir.properties().look_set().is_empty() {
        return true;
    }
    let HirKind::Concat(parts) = hir.kind() else { return false };
    let inner = parts.iter().enumerate().filter(|(idx, part)| {
        !(*idx == 0 && part.kind() == &HirKind::Look(Look::Start)
            || *idx + 1 == parts.len() && part.kind() == &HirKind::Look(Look::End))
    });
    inner.into_iter().all(|(_, part)| part.properties().look_set().is_empty())
}

/// Brings the length down to what the items allow.
fn tighten(array: &mut ArrayShape) {
    let len = array.prefix.len() as u64;
    if array.rest.is_never() {
        array.cap(len);
    }
    if let Some(first) = array.prefix.iter().position(Key::is_never) {
        array.cap(first as u64);
    }
    if let Some(max) = array.max.and_then(|max| usize::try_from(max).ok()) {
        array.prefix.truncate(max);
    }
}

fn plain_array(array: ArrayShape) -> Plain {
    Plain::Array { prefix: array.prefix, rest: array.rest, min: array.min, max: array.max }
}

fn plain_object(named: Vec<Named>, keys: &Keys, min_open: u64, max_open: Option<u64>) -> Plain {
    let patterns = keys.open.iter().filter_map(|open| Some((open.pattern.clone()?, open.value.clone()))).collect();
    let rest = keys.open.iter().find(|open| open.pattern.is_none()).map(|open| open.value.clone());
    let rest = if keys.is_filtered { Key::NEVER } else { rest.unwrap_or(Key::NEVER) };
    Plain::Object { named, patterns, rest, min_open, max_open }
}

/// Ranges, points and steps of numbers, with every point taken out.
fn plain_numbers(mut number: NumberShape, config: &GuideConfig, cases: &mut Vec<Case>) {
    if let Some(values) = number.values.take() {
        let mut problem = None;
        let left: Vec<Value> = values
            .into_iter()
            .filter(|&value| match admits(&number, value) {
                Some(holds) => holds,
                None => {
                    problem = number.no_multiples.first().map(|(_, problem)| problem.clone());
                    true
                }
            })
            .map(number_value)
            .collect();
        if !left.is_empty() {
            cases.push(Case { plain: Plain::Values(left), problem });
        }
        return;
    }
    if number.is_integer && number.is_fraction.is_some() {
        return;
    }
    let mut problem = number.no_multiples.first().map(|(_, problem)| problem.clone());
    let mut steps = number.multiples.iter().copied();
    let one = number.is_integer.then_some(Decimal { digits: 1, places: 0 });
    let multiple = steps.next().and_then(|first| one.into_iter().chain(steps).try_fold(first, Decimal::lcm));
    let multiple_value = multiple.filter(|step| step.digits <= config.max_multiple).and_then(Decimal::to_json);
    if multiple_value.is_none() && !number.multiples.is_empty() {
        problem = number.too_long.clone();
    }
    let mut ranges = vec![(number.min, number.max)];
    if let Some(unbounded) = number.is_fraction.clone() {
        match (number.min, number.max) {
            (Some(min), Some(max)) if max.at - min.at <= config.max_schema_members as f64 => {
                let first = min.at.floor();
                ranges = (0..(max.at - first).ceil() as usize + 1)
                    .map(|step| first + step as f64)
                    .map(|from| {
                        let low = End { at: from, excluded: true };
                        let high = End { at: from + 1.0, excluded: true };
                        let low = if min.at > from { min } else { low };
                        let high = if max.at < from + 1.0 { max } else { high };
                        (Some(low), Some(high))
                    })
                    .collect();
            }
            _ => problem = Some(unbounded),
        }
    }
    let mut excluded: Vec<f64> = number.excluded.clone();
    excluded.sort_by(f64::total_cmp);
    excluded.dedup();
    for point in excluded {
        ranges = ranges
            .into_iter()
            .flat_map(|(min, max)| {
                let inside = min.is_none_or(|min| min.at <= point) && max.is_none_or(|max| point <= max.at);
                let end = Some(End { at: point, excluded: true });
                if inside { vec![(min, end), (end, max)] } else { vec![(min, max)] }
            })
            .collect();
    }
    for (min, max) in ranges {
        let (min, max) = if number.is_integer { (min.map(up), max.map(down)) } else { (min, max) };
        let is_empty = match (min, max) {
            (Some(min), Some(max)) => {
                min.at > max.at
                    || (min.at == max.at && (min.excluded || max.excluded))
                    || multiple.is_some_and(|step| has_no_multiple(step, min, max))
            }
            _ => false,
        };
        if !is_empty {
            let plain = Plain::Number { is_integer: number.is_integer, min, max, multiple: multiple_value.clone() };
            cases.push(Case { plain, problem: problem.clone() });
        }
    }
}

/// The integer at or above a lower end.
fn up(end: End) -> End {
    let at = if end.excluded && end.at.fract() == 0.0 { end.at + 1.0 } else { end.at.ceil() };
    End { at, excluded: false }
}

fn down(end: End) -> End {
    let at = if end.excluded && end.at.fract() == 0.0 { end.at - 1.0 } else { end.at.floor() };
    End { at, excluded: false }
}

fn has_no_multiple(step: Decimal, min: End, max: End) -> bool {
    let step = step.digits as f64 / 10f64.powi(step.places as i32);
    // Well inside the error of the division, which matters only next to a multiple.
    let first = (min.at / step - 1e-9).ceil();
    first > max.at / step + 1e-9
}

fn admits(number: &NumberShape, value: f64) -> Option<bool> {
    let above = number.min.is_none_or(|min| value > min.at || (value == min.at && !min.excluded));
    let below = number.max.is_none_or(|max| value < max.at || (value == max.at && !max.excluded));
    let is_integer = value.fract() == 0.0;
    let mut holds = above
        && below
        && (!number.is_integer || is_integer)
        && (number.is_fraction.is_none() || !is_integer)
        && !number.excluded.contains(&value);
    for step in &number.multiples {
        holds &= step.divides(value)?;
    }
    for (step, _) in &number.no_multiples {
        holds &= !step.divides(value)?;
    }
    Some(holds)
}

/// A number as llguidance writes it: integers without a point.
fn number_value(value: f64) -> Value {
    if value.fract() == 0.0 { json!(value as i64) } else { json!(value) }
}
