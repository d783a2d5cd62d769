//! Label sets that senders repeat, by a fingerprint of the bytes they wrote them in: what a scrape brings again costs one
//! look-up, no text is read and nothing allocated. A set is here only after it was found good.
//!
//! Fingerprints are 128 bits under a seed of this process, so that nobody can make two sets meet. Sets lie in the order they
//! came first, which is mostly that in which they come again: the next one is looked for behind the last. What is not met
//! for a generation is forgotten. A generation lasts until samples are [`GENERATION_MS`] newer and there are half as many sets
//! again, so that series that come and go do not pile up, and no longer than [`GENERATION`].

use std::collections::HashSet;
use std::collections::hash_map::Entry;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use model::{IdMap, Label, Labels};
use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::pairs::Sender;

const GENERATION: Duration = Duration::from_secs(1800);
/// Series that are scraped more seldom may be forgotten.
const GENERATION_MS: i64 = 600_000;
const MAX_SETS: usize = 4_000_000;
/// A generation has room for so many more sets at least.
const MIN_GROWTH: usize = 1 << 16;

pub struct KnownSeries {
    seed: u64,
    held: RwLock<Held>,
    /// Strings of the sets, each once.
    strings: Mutex<HashSet<Arc<str>>>,
}

#[derive(Default)]
struct Held {
    /// When the generation began.
    began: Option<Instant>,
    generation: u32,
    /// How many sets this generation began with, and the newest sample then.
    kept: usize,
    began_ms: i64,
    sets: Vec<Set>,
    /// By fingerprint, the place among the sets.
    places: IdMap<u128, u32>,
    /// Descriptions of metrics that have been passed on, and in which generation.
    described: IdMap<u128, u32>,
}

struct Set {
    fingerprint: u128,
    labels: Labels,
    sender: Option<Arc<Sender>>,
    /// The generation in which it was met last.
    met: AtomicU32,
}

impl Held {
    fn is_over(&mut self, newest_ms: i64) -> bool {
        let is_old = self.began.get_or_insert_with(Instant::now).elapsed() > GENERATION;
        let has_grown = self.sets.len() >= self.kept + MIN_GROWTH.max(self.kept / 2);
        let is_later = newest_ms.saturating_sub(self.began_ms) > GENERATION_MS;
        is_old || (has_grown && is_later) || self.sets.len() >= MAX_SETS || self.described.len() >= MAX_SETS
    }

    /// Forgets what was not met in this generation, descriptions after two, and begins another.
    fn turn(&mut self, newest_ms: i64) {
        let generation = self.generation;
        self.sets.retain(|set| set.met.load(Ordering::Relaxed) == generation);
        self.places = self.sets.iter().zip(0..).map(|(set, place)| (set.fingerprint, place)).collect();
        self.described.retain(|_, passed_on| *passed_on + 1 >= generation);
        self.generation += 1;
        (self.kept, self.began_ms) = (self.sets.len(), newest_ms);
        self.began = Some(Instant::now());
    }
}

impl Default for KnownSeries {
    fn default() -> KnownSeries {
        let seed = std::hash::RandomState::new().hash_one(0);
        KnownSeries { seed, held: RwLock::default(), strings: Mutex::default() }
    }
}

impl KnownSeries {
    /// Begins to read a request.
    pub fn visit(&self) -> Visit<'_> {
        Visit { known: self, held: self.held.read(), expected: 0, sets: Vec::new(), described: IdMap::default() }
    }

    /// Label sets held.
    pub fn len(&self) -> usize {
        self.held.read().sets.len()
    }

    /// Descriptions were passed on in vain.
    pub fn forget_descriptions(&self) {
        self.held.write().described.clear();
    }

    fn add(&self, sets: Vec<(u128, Labels, Option<Arc<Sender>>)>, described: IdMap<u128, ()>, newest_ms: i64) {
        if sets.is_empty() && described.is_empty() {
            return;
        }
        let mut held = self.held.write();
        if held.is_over(newest_ms) {
            held.turn(newest_ms);
            if held.sets.len() >= MAX_SETS || held.described.len() >= MAX_SETS {
                // All of it is in use: better to begin anew than to look through it again and again.
                (held.sets, held.places, held.described) = Default::default();
            }
            self.strings.lock().retain(|text| Arc::strong_count(text) > 1);
        }
        let Held { generation, sets: known, places, described: known_descriptions, .. } = &mut *held;
        for (fingerprint, labels, sender) in sets {
            // Another request may have brought it meanwhile.
            if let Entry::Vacant(place) = places.entry(fingerprint) {
                place.insert(known.len() as u32);
                known.push(Set { fingerprint, labels, sender, met: AtomicU32::new(*generation) });
            }
        }
        known_descriptions.extend(described.into_keys().map(|fingerprint| (fingerprint, *generation)));
    }
}

/// One request's look at what is known. What it finds anew is kept when [`Visit::end`] is called.
pub struct Visit<'a> {
    known: &'a KnownSeries,
    held: RwLockReadGuard<'a, Held>,
    /// Where the next set probably lies.
    expected: u32,
    sets: Vec<(u128, Labels, Option<Arc<Sender>>)>,
    described: IdMap<u128, ()>,
}

impl Visit<'_> {
    /// The fingerprint of bytes; `domain` tells apart what means different things.
    pub fn fingerprint(&self, bytes: &[u8], domain: u64) -> u128 {
        xxh3_128_with_seed(bytes, self.known.seed ^ domain)
    }

    pub fn get(&mut self, fingerprint: u128) -> Option<(Labels, Option<Arc<Sender>>)> {
        let Held { generation, sets, places, .. } = &*self.held;
        let expected = sets.get(self.expected as usize).filter(|set| set.fingerprint == fingerprint);
        let place = if expected.is_some() { self.expected } else { *places.get(&fingerprint)? };
        let set = &sets[place as usize];
        if set.met.load(Ordering::Relaxed) != *generation {
            set.met.store(*generation, Ordering::Relaxed);
        }
        self.expected = place + 1;
        Some((set.labels.clone(), set.sender.clone()))
    }

    /// Keeps a set that was found good, made of strings that are held once, and who sends it where that matters.
    pub fn keep(&mut self, fingerprint: u128, labels: &Labels, sender: Option<Arc<Sender>>) -> Labels {
        let mut strings = self.known.strings.lock();
        let mut once = |text: &Arc<str>| match strings.get(text) {
            Some(held) => held.clone(),
            None => {
                strings.insert(text.clone());
                text.clone()
            }
        };
        let labels = labels.iter().map(|label| Label { name: once(&label.name), value: once(&label.value) });
        let labels = Labels::from_sorted(labels);
        self.sets.push((fingerprint, labels.clone(), sender));
        labels
    }

    /// Whether this is the first time that a description is met.
    pub fn is_news(&mut self, fingerprint: u128) -> bool {
        !self.held.described.contains_key(&fingerprint) && self.described.insert(fingerprint, ()).is_none()
    }

    /// `newest_ms` is the time of the newest sample that was read.
    pub fn end(self, newest_ms: i64) {
        let Visit { known, held, sets, described, .. } = self;
        drop(held);
        known.add(sets, described, newest_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn age(known: &KnownSeries) {
        known.held.write().began = Instant::now().checked_sub(GENERATION * 2);
    }

    /// Begins another generation with one more set.
    fn turn(known: &KnownSeries, fingerprint: u128) {
        age(known);
        let mut visit = known.visit();
        visit.keep(fingerprint, &Labels::from_pairs([("a", fingerprint.to_string())]), None);
        visit.end(0);
    }

    #[test]
    fn sets_are_kept_while_they_are_met() {
        let known = KnownSeries::default();
        let labels = |value: &str| Labels::from_pairs([("a", value), ("b", "same")]);
        let mut visit = known.visit();
        let one = visit.fingerprint(b"one", 0);
        assert!(visit.get(one).is_none() && one != visit.fingerprint(b"one", 1));
        let (first, second) = (visit.keep(one, &labels("x"), None), visit.keep(2, &labels("y"), None));
        assert!(Arc::ptr_eq(&first.as_slice()[1].value, &second.as_slice()[1].value), "strings are held once");
        visit.end(0);
        for generation in 0..3 {
            turn(&known, 100 + generation);
            let mut visit = known.visit();
            assert_eq!(visit.get(one).map(|(labels, _)| labels.address()), Some(first.address()), "{generation}");
            visit.end(0);
        }
        assert!(known.visit().get(2).is_none(), "it was not met for long");
        for more in 0..3 {
            turn(&known, 200 + more);
        }
        assert!(known.visit().get(one).is_none());
    }

    #[test]
    fn sets_are_found_in_any_order() {
        let known = KnownSeries::default();
        let mut visit = known.visit();
        let sets: Vec<Labels> =
            (0..9).map(|i| visit.keep(i, &Labels::from_pairs([("i", i.to_string())]), None)).collect();
        visit.end(0);
        let mut visit = known.visit();
        for i in [0usize, 1, 2, 8, 7, 3, 4, 5, 0, 6] {
            assert_eq!(visit.get(i as u128), Some((sets[i].clone(), None)));
        }
        assert_eq!(visit.get(9), None);
    }

    /// Twenty thousand series, all replaced again and again, were all remembered for half an hour.
    #[test]
    fn series_that_come_and_go_do_not_pile_up() {
        let known = KnownSeries::default();
        let steady = Labels::from_pairs([("a", "steady")]);
        let all_along = known.visit().keep(1, &steady, None);
        for round in 0..60u128 {
            let mut visit = known.visit();
            let _ = visit.get(1).unwrap_or_else(|| (visit.keep(1, &all_along, None), None));
            for i in 0..5_000u128 {
                visit.keep(2 + round * 5_000 + i, &steady, None);
            }
            visit.end(round as i64 * 300_000);
        }
        assert!((5_000..150_000).contains(&known.len()), "{}", known.len());
        assert_eq!(known.visit().get(1).map(|(labels, _)| labels), Some(steady));
    }

    #[test]
    fn a_description_is_news_once() {
        let known = KnownSeries::default();
        let mut visit = known.visit();
        assert!(visit.is_news(7) && !visit.is_news(7));
        visit.end(0);
        assert!(!known.visit().is_news(7));
        known.forget_descriptions();
        assert!(known.visit().is_news(7));
    }
}
