//! Rules about the bytes of an output: what they ask for against what others forbid or ask for.
//!
//! Everything that is asked for has a sample, a shortest text that it allows. A sample that a refusal does not hit, or
//! that another rule accepts, is a witness that the two go together; only where samples fail are automata multiplied.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use regex_syntax::hir::Hir;

use super::automaton::{Automaton, Common, Effort, intersect, parse};
use super::refusals::{Refusals, Spelled};
use super::{Clash, Note};
use crate::constraint::{ForbiddenText, MatchMode, RegexPattern};

/// How often a product is taken again with a refusal that its text ran into.
const REFINEMENTS_MAX: usize = 24;
/// Rules that ask for something and are multiplied all at once.
const JOINT_MAX: usize = 8;

/// Places within a sample where other samples are put on trial.
const PLACES_MAX: usize = 32;

/// All rules about bytes of a set, each under its number.
pub(super) struct Texts {
    demands: BTreeMap<usize, Demand>,
    refusals: Refusals,
    refusers: BTreeSet<usize>,
    spellings: Vec<Spelling>,
    /// Which demands a refuser's entries hit in their samples.
    hit_by: HashMap<usize, Vec<usize>>,
    /// Which spellings a refuser's entries hit.
    spellings_hit_by: HashMap<usize, Vec<usize>>,
    spellings_of: HashMap<usize, Vec<usize>>,
    admitted: Admitted,
}

/// A rule that asks for something.
struct Demand {
    automaton: Automaton,
    mode: MatchMode,
    /// Whether it may look at what is around a match, so that texts cannot simply be strung together.
    looks_around: bool,
    /// A shortest text it allows; `None`: there is none.
    sample: Option<Vec<u8>>,
    /// Owners of the refusals that hit the sample.
    hits: Vec<usize>,
}

/// One of these texts stands in the output.
struct Spelling {
    owner: usize,
    /// Each with the owners of the refusals that hit it.
    alternatives: Vec<(String, Vec<usize>)>,
    /// Whether the output has one of them, and does not merely may.
    is_certain: bool,
}

#[derive(Default)]
struct Admitted {
    rules: BTreeSet<usize>,
    full: Vec<usize>,
    prefix: Vec<usize>,
    contains: Vec<usize>,
}

/// What a set says about bytes, while it is read.
#[derive(Default)]
pub(super) struct TextsBuilder {
    demands: BTreeMap<usize, Demand>,
    refusals: Refusals,
    refusers: BTreeSet<usize>,
    spelled: Vec<(usize, Vec<Vec<Spelled>>, bool)>,
}

impl TextsBuilder {
    /// Adds a regex group; `false` where it is not judged.
    pub(super) fn regex(&mut self, rule: usize, any_of: &[RegexPattern], mode: MatchMode, effort: &mut Effort) -> bool {
        let Some(hir) = parse(any_of, effort) else { return false };
        if mode == MatchMode::Absent {
            self.refusals.add_expression(rule, hir, false);
            self.refusers.insert(rule);
            return true;
        }
        self.demand(rule, hir, mode, effort)
    }

    /// Adds a text that stands in the output.
    pub(super) fn literal(&mut self, rule: usize, text: &str, effort: &mut Effort) -> bool {
        self.demand(rule, Hir::literal(text.as_bytes()), MatchMode::Contains, effort)
    }

    fn demand(&mut self, rule: usize, hir: Hir, mode: MatchMode, effort: &mut Effort) -> bool {
        let looks_around = !hir.properties().look_set().is_empty();
        let Some(automaton) = Automaton::new(hir, mode, effort) else { return false };
        let sample = automaton.shortest();
        self.demands.insert(rule, Demand { automaton, mode, looks_around, sample, hits: Vec::new() });
        true
    }

    /// Adds forbidden text; `false` where some of it is not judged.
    pub(super) fn forbidden(&mut self, rule: usize, any_of: &[ForbiddenText], effort: &mut Effort) -> bool {
        self.refusers.insert(rule);
        let judged = any_of.iter().filter(|forbidden| self.refusals.add_forbidden(rule, forbidden, effort)).count();
        judged == any_of.len()
    }

    /// Adds texts of which one stands in the output, or may, each given by pieces of it.
    pub(super) fn spelled(&mut self, rule: usize, alternatives: Vec<Vec<Spelled>>, is_certain: bool) {
        if !alternatives.is_empty() {
            self.spelled.push((rule, alternatives, is_certain));
        }
    }

    /// Looks every sample and spelling up among all refusals.
    pub(super) fn build(mut self, effort: &mut Effort) -> Texts {
        let mut hit_by: HashMap<usize, Vec<usize>> = HashMap::new();
        for (&rule, demand) in &mut self.demands {
            let Some(sample) = &demand.sample else { continue };
            let owners = self.refusals.hits(sample, effort).into_iter().map(|entry| self.refusals.owner(entry));
            demand.hits = owners.collect::<BTreeSet<_>>().into_iter().collect();
            demand.hits.iter().for_each(|&owner| hit_by.entry(owner).or_default().push(rule));
        }
        hit_by.values_mut().for_each(|demands| demands.sort_unstable());
        let mut texts = Texts {
            demands: self.demands,
            refusals: self.refusals,
            refusers: self.refusers,
            spellings: Vec::new(),
            hit_by,
            spellings_hit_by: HashMap::new(),
            spellings_of: HashMap::new(),
            admitted: Admitted::default(),
        };
        for (owner, alternatives, is_certain) in self.spelled {
            texts.add_spelling(owner, alternatives, is_certain, effort);
        }
        texts
    }
}

impl Texts {
    fn add_spelling(&mut self, owner: usize, alternatives: Vec<Vec<Spelled>>, is_certain: bool, effort: &mut Effort) {
        let number = self.spellings.len();
        let alternatives: Vec<(String, Vec<usize>)> = alternatives
            .into_iter()
            .map(|pieces| {
                let hits = pieces.iter().flat_map(|piece| self.refusals.hits_inside(piece, effort));
                let owners: BTreeSet<usize> = hits.map(|entry| self.refusals.owner(entry)).collect();
                (pieces.iter().map(Spelled::text).collect::<Vec<_>>().join("."), owners.into_iter().collect())
            })
            .collect();
        for refuser in alternatives.iter().flat_map(|(_, hits)| hits).collect::<BTreeSet<_>>() {
            self.spellings_hit_by.entry(*refuser).or_default().push(number);
        }
        self.spellings_of.entry(owner).or_default().push(number);
        self.spellings.push(Spelling { owner, alternatives, is_certain });
    }

    /// What a rule would clash with among those admitted.
    pub(super) fn clash(&self, rule: usize, effort: &mut Effort) -> Option<Clash> {
        self.demand_clash(rule, effort)
            .or_else(|| self.refusal_clash(rule, effort))
            .or_else(|| self.spelling_clash(rule))
    }

    fn demand_clash(&self, rule: usize, effort: &mut Effort) -> Option<Clash> {
        let demand = self.demands.get(&rule)?;
        let Some(sample) = &demand.sample else {
            return Some(Clash { with: Vec::new(), why: "no text satisfies it".to_owned() });
        };
        let Admitted { full, prefix, contains, .. } = &self.admitted;
        let compared: [&[usize]; 3] = match demand.mode {
            MatchMode::Full => [full, prefix, contains],
            _ if demand.looks_around => [full, prefix, contains],
            MatchMode::Prefix => [full, prefix, &[]],
            _ => [full, &[], &[]],
        };
        for other in compared.concat() {
            effort.take(100)?;
            let others = &self.demands[&other];
            let is_witness = others.automaton.accepts(sample)
                || others.sample.as_ref().is_some_and(|sample| demand.automaton.accepts(sample));
            if !is_witness && self.common(&[rule, other], &|_| false, effort).0 == Common::Nothing {
                return Some(Clash { with: vec![other], why: "no text satisfies both".to_owned() });
            }
        }
        let refusers = demand.hits.iter().filter(|refuser| self.admitted.rules.contains(refuser));
        refusers.copied().find(|&refuser| self.is_refused(rule, refuser, effort)).map(|refuser| refused(vec![refuser]))
    }

    fn refusal_clash(&self, rule: usize, effort: &mut Effort) -> Option<Clash> {
        let demands = self.hit_by.get(&rule)?.iter().filter(|demand| self.admitted.rules.contains(demand));
        demands.copied().find(|&demand| self.is_refused(demand, rule, effort)).map(|demand| refused(vec![demand]))
    }

    /// Whether all that a demand allows has something in it that a rule forbids.
    fn is_refused(&self, demand: usize, refuser: usize, effort: &mut Effort) -> bool {
        self.common(&[demand], &|owner| owner == refuser, effort).0 == Common::Nothing
    }

    fn spelling_clash(&self, rule: usize) -> Option<Clash> {
        let own = self.spellings_of.get(&rule).into_iter().flatten();
        let hit = self.spellings_hit_by.get(&rule).into_iter().flatten();
        own.chain(hit).find_map(|&number| {
            let spelling = &self.spellings[number];
            let is_in = |other: usize| other == rule || self.admitted.rules.contains(&other);
            if !is_in(spelling.owner) {
                return None;
            }
            let refusers: Vec<usize> = spelling.refusers(&is_in)?;
            let with = refusers.into_iter().chain([spelling.owner]).filter(|&other| other != rule);
            let texts = super::vocabulary::some_of(spelling.alternatives.iter().map(|(text, _)| text));
            let why = if spelling.is_certain {
                format!("the output has {texts} in it, which is forbidden")
            } else {
                format!("all that it allows is forbidden: {texts}")
            };
            Some(Clash { with: with.collect::<BTreeSet<_>>().into_iter().collect(), why })
        })
    }

    /// Admits a rule, and says which texts it took from others, or others from it.
    pub(super) fn admit(&mut self, rule: usize) -> Vec<Note> {
        self.admitted.rules.insert(rule);
        match self.demands.get(&rule).map(|demand| (demand.mode, demand.looks_around)) {
            Some((MatchMode::Full, _)) => self.admitted.full.push(rule),
            // What looks around is compared with everything.
            Some((_, true)) => self.admitted.full.push(rule),
            Some((MatchMode::Prefix, _)) => self.admitted.prefix.push(rule),
            Some(_) => self.admitted.contains.push(rule),
            None => {}
        }
        let own = self.spellings_of.get(&rule).into_iter().flatten();
        let hit = self.spellings_hit_by.get(&rule).into_iter().flatten();
        own.chain(hit).flat_map(|&number| self.notes(number, rule)).collect()
    }

    /// What else than `rule` is already in, and loses some of its alternatives now.
    fn notes(&self, number: usize, rule: usize) -> Vec<Note> {
        let spelling = &self.spellings[number];
        let is_in = |other: usize| self.admitted.rules.contains(&other);
        let mut notes = Vec::new();
        for (text, hits) in &spelling.alternatives {
            for &refuser in hits.iter().filter(|&&refuser| is_in(refuser) && is_in(spelling.owner)) {
                if refuser == rule || spelling.owner == rule {
                    notes.push(Note { between: [refuser, spelling.owner], why: format!("{text} is forbidden") });
                }
            }
        }
        notes
    }

    /// A clash of more than two among all that were admitted: its rules, ascending.
    pub(super) fn joint_clash(&self, effort: &mut Effort) -> Option<Vec<usize>> {
        let demands: Vec<usize> = self
            .demands
            .keys()
            .copied()
            .filter(|rule| self.admitted.rules.contains(rule))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        if demands.is_empty() || demands.len() > JOINT_MAX {
            return None;
        }
        if self.is_strung_together(&demands, effort) {
            return None;
        }
        let common = |demands: &[usize], refusers: &BTreeSet<usize>, effort: &mut Effort| {
            self.common(demands, &|owner| refusers.contains(&owner), effort)
        };
        let admitted = self.refusers.intersection(&self.admitted.rules).copied().collect();
        let (Common::Nothing, used) = common(&demands, &admitted, effort) else { return None };
        let (mut demands, mut refusers) = (demands, used);
        for rule in demands.clone().into_iter().rev() {
            let fewer: Vec<usize> = demands.iter().copied().filter(|&other| other != rule).collect();
            if !fewer.is_empty() && common(&fewer, &refusers, effort).0 == Common::Nothing {
                demands = fewer;
            }
        }
        for rule in refusers.clone().into_iter().rev() {
            let fewer: BTreeSet<usize> = refusers.iter().copied().filter(|&other| other != rule).collect();
            if common(&demands, &fewer, effort).0 == Common::Nothing {
                refusers = fewer;
            }
        }
        Some(demands.into_iter().chain(refusers).collect::<BTreeSet<_>>().into_iter().collect())
    }

    /// Whether samples strung together are a witness for all that is admitted: what is to lie within the output, put
    /// into what the whole or its beginning may be.
    fn is_strung_together(&self, demands: &[usize], effort: &mut Effort) -> bool {
        let demands: Vec<&Demand> = demands.iter().map(|rule| &self.demands[rule]).collect();
        let samples = |is_inner: bool| {
            let of_kind = demands.iter().filter(move |demand| (demand.mode == MatchMode::Contains) == is_inner);
            of_kind.filter_map(|demand| demand.sample.as_deref()).collect::<Vec<_>>()
        };
        let (inner, mut outer) = (samples(true), samples(false));
        outer.push(b"");
        let is_admitted = |entry: &usize| self.admitted.rules.contains(&self.refusals.owner(*entry));
        let inner = [&b"\n"[..], b" ", b""].map(|between| inner.join(between));
        let places =
            outer.iter().flat_map(|outer| (0..=outer.len().min(PLACES_MAX)).rev().map(move |at| outer.split_at(at)));
        places.flat_map(|(before, after)| inner.iter().map(move |inner| [before, inner, after].concat())).any(|text| {
            demands.iter().all(|demand| demand.automaton.accepts(&text))
                && !self.refusals.hits(&text, effort).iter().any(is_admitted)
        })
    }

    /// Code points that a rule's outputs have at least.
    pub(super) fn fewest_chars(&self, rule: usize) -> u32 {
        self.demands.get(&rule).and_then(|demand| demand.automaton.fewest_chars()).unwrap_or(0)
    }

    /// A text that demands have in common and that the refusals of some owners do not hit; and whose refusals it took.
    ///
    /// Refusals join the product only once a text runs into them.
    fn common(
        &self,
        demands: &[usize],
        is_in: &dyn Fn(usize) -> bool,
        effort: &mut Effort,
    ) -> (Common, BTreeSet<usize>) {
        let mut automata: Vec<&Automaton> = demands.iter().map(|rule| &self.demands[rule].automaton).collect();
        let mut entries = BTreeSet::new();
        let owners = |entries: &BTreeSet<usize>| entries.iter().map(|&entry| self.refusals.owner(entry)).collect();
        for _ in 0..REFINEMENTS_MAX {
            let text = match intersect(&automata, effort) {
                Common::Text(text) => text,
                settled => return (settled, owners(&entries)),
            };
            let hits = self.refusals.hits(&text, effort);
            let hits: Vec<usize> = hits.into_iter().filter(|&entry| is_in(self.refusals.owner(entry))).collect();
            if hits.is_empty() {
                return (Common::Text(text), owners(&entries));
            }
            for entry in hits {
                let Some(without) = self.refusals.automaton(entry, effort) else {
                    return (Common::Unknown, owners(&entries));
                };
                automata.push(without);
                entries.insert(entry);
            }
        }
        (Common::Unknown, owners(&entries))
    }
}

impl Spelling {
    /// Refusers that hit all alternatives: one where one suffices, else one for each; `None` where some are free.
    fn refusers(&self, is_in: &dyn Fn(usize) -> bool) -> Option<Vec<usize>> {
        let (_, first) = self.alternatives.first()?;
        let hits_all = |refuser: &&usize| self.alternatives.iter().all(|(_, hits)| hits.contains(refuser));
        if let Some(one) = first.iter().filter(|&&refuser| is_in(refuser)).find(hits_all) {
            return Some(vec![*one]);
        }
        self.alternatives.iter().map(|(_, hits)| hits.iter().copied().find(|&refuser| is_in(refuser))).collect()
    }
}

fn refused(with: Vec<usize>) -> Clash {
    Clash { with, why: "all that one asks for has something in it that the other forbids".to_owned() }
}
