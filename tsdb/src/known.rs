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

use model::{IdMap, Label, Labels, MetricKind, MetricMetadata};
use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::pairs::Sender;

const GENERATION: Duration = Duration::from_secs(1800);
/// Series that are scraped more seldom may be forgotten.
const GENERATION_MS: i64 = 600_000;
const MAX_SETS: usize = 4_000_000;
/// A generation has room for so many more sets at least.
const MIN_GROWTH: usize = 1 << 16;
/// Descriptions remembered as passed on; beyond it all are passed on again.
const MAX_DESCRIBED: usize = 200_000;
/// Tells fingerprints of descriptions from all others.
const DESCRIPTION: u64 = 1 << 32;

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
        is_old || (has_grown && is_later) || self.sets.len() >= MAX_SETS
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
        Visit { known: self, held: self.held.read(), expected: 0, sets: Vec::new() }
    }

    /// Label sets held.
    pub fn len(&self) -> usize {
        self.held.read().sets.len()
    }

    /// Keeps of a tenant's descriptions those that are news, each once, and answers their fingerprints for
    /// [`KnownSeries::passed_on`].
    pub fn keep_news(&self, tenant: &str, metadata: &mut Vec<MetricMetadata>) -> Vec<u128> {
        let mut news = Vec::new();
        if !metadata.is_empty() {
            let (visit, mut met) = (self.visit(), HashSet::new());
            metadata.retain(|one| {
                let fingerprint = visit.description(tenant, one.kind, &one.name, &one.help, &one.unit);
                !visit.held.described.contains_key(&fingerprint) && met.insert(fingerprint)
            });
            news.extend(met);
        }
        news
    }

    /// Descriptions are durable.
    pub fn passed_on(&self, news: Vec<u128>) {
        if news.is_empty() {
            return;
        }
        let Held { described, generation, .. } = &mut *self.held.write();
        if described.len() + news.len() > MAX_DESCRIBED {
            described.clear();
        }
        described.extend(news.into_iter().map(|fingerprint| (fingerprint, *generation)));
    }

    fn add(&self, sets: Vec<(u128, Labels, Option<Arc<Sender>>)>, newest_ms: i64) {
        if sets.is_empty() {
            return;
        }
        let mut held = self.held.write();
        if held.is_over(newest_ms) {
            held.turn(newest_ms);
            if held.sets.len() >= MAX_SETS {
                // All of it is in use: better to begin anew than to look through it again and again.
                (held.sets, held.places) = Default::default();
            }
            self.strings.lock().retain(|text| Arc::strong_count(text) > 1);
        }
        let Held { generation, sets: known, places, .. } = &mut *held;
        for (fingerprint, labels, sender) in sets {
            // Another request may have brought it meanwhile.
            if let Entry::Vacant(place) = places.entry(fingerprint) {
                place.insert(known.len() as u32);
                known.push(Set { fingerprint, labels, sender, met: AtomicU32::new(*generation) });
            }
        }
    }
}

/// One request's look at what is known. What it finds anew is kept when [`Visit::end`] is called.
pub struct Visit<'a> {
    known: &'a KnownSeries,
    held: RwLockReadGuard<'a, Held>,
    /// Where the next set probably lies.
    expected: u32,
    sets: Vec<(u128, Labels, Option<Arc<Sender>>)>,
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

    /// Whether a tenant's description of a metric family was passed on before.
    pub fn is_described(&self, tenant: &str, kind: MetricKind, name: &str, help: &str, unit: &str) -> bool {
        self.held.described.contains_key(&self.description(tenant, kind, name, help, unit))
    }

    fn description(&self, tenant: &str, kind: MetricKind, name: &str, help: &str, unit: &str) -> u128 {
        let parts = [tenant, name, help, unit].map(|part| self.fingerprint(part.as_bytes(), DESCRIPTION).to_le_bytes());
        self.fingerprint(parts.as_flattened(), DESCRIPTION + 1 + kind as u64)
    }

    /// `newest_ms` is the time of the newest sample that was read.
    pub fn end(self, newest_ms: i64) {
        let Visit { known, held, sets, .. } = self;
        drop(held);
        known.add(sets, newest_ms);
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

    /// What was to be passed on and was not is news still; and what one tenant said is news of another, which was
    /// forgotten once: the second tenant's metrics stayed without description.
    #[test]
    fn a_description_is_news_once_for_each_tenant() {
        let known = KnownSeries::default();
        let one = MetricMetadata {
            name: "a".into(),
            kind: MetricKind::Gauge,
            help: "What it is.".into(),
            unit: String::new(),
        };
        let other = MetricMetadata { kind: MetricKind::Counter, ..one.clone() };
        let news_of = |tenant: &str, metadata: &[&MetricMetadata]| {
            let mut metadata = metadata.iter().map(|one| (*one).clone()).collect();
            let news = known.keep_news(tenant, &mut metadata);
            (metadata, news)
        };
        assert_eq!(news_of("t", &[&one, &one]).0, std::slice::from_ref(&one));
        let (kept, news) = news_of("t", &[&one, &other]);
        assert_eq!(kept, [one.clone(), other]);
        known.passed_on(news);
        assert_eq!(news_of("t", &[&one]), (vec![], vec![]));
        let is_described = |tenant| known.visit().is_described(tenant, one.kind, &one.name, &one.help, &one.unit);
        assert!(is_described("t") && !is_described("u"));
        assert_eq!(news_of("u", &[&one]).0, [one]);
    }
}
