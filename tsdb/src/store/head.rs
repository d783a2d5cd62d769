//! The head: samples applied from the bus and not yet published, queryable at once.
//!
//! Samples of a series lie in the order they came; out of order and of any age is ordinary. A series that is not in
//! rising order is sorted when it is read, and the later sample of an instant wins. Histograms lie between floats.
//!
//! Scrapes bring the same series in the same order again and again: the next one is looked for behind the last, then by
//! the address of the label set that its producer keeps, and only then by its labels.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use model::{Exemplar, Histogram, HistogramSample, IdMap, Labels, MS_PER_DAY, MetricBatch, Sample, SeriesSamples};

use super::columns::{self, Samples};
use super::deletions::Deletion;
use super::exemplars::thin;
use super::postings::Postings;

/// What a series costs beside its label strings and samples, roughly.
const SERIES_BYTES: usize = 280;
const LABEL_BYTES: usize = 40;
const SAMPLE_BYTES: usize = 16;
const EXEMPLAR_BYTES: usize = 200;
/// Past so many exemplars a series' are thinned out.
const MAX_EXEMPLARS: usize = 64;

#[derive(Debug, Default)]
pub struct Head {
    tenants: HashMap<String, TenantHead>,
    samples: usize,
    bytes: usize,
}

#[derive(Debug, Default)]
pub struct TenantHead {
    /// Where a producer keeps the label set that a series holds too → that series.
    by_address: IdMap<usize, u32>,
    /// Hash of the labels → the newest series of that hash; others follow by `same_hash`.
    by_hash: IdMap<u64, u32>,
    series: Vec<HeadSeries>,
    postings: Postings,
    /// The series behind the one that was met last.
    expected: u32,
    /// First and last instant, once there is a sample.
    time_range: Option<(i64, i64)>,
}

/// Most have floats alone, and should lie in one line of the processor's cache.
#[derive(Debug)]
struct HeadSeries {
    labels: Labels,
    same_hash: Option<u32>,
    /// The samples are strictly rising in time.
    is_sorted: bool,
    /// In the order they came, of an instant that repeats at once only the last.
    floats: Vec<Sample>,
    /// Of a series that has more than floats: all it has.
    rich: Option<Box<Rich>>,
}

#[derive(Debug, Default)]
struct Rich {
    samples: Samples,
    exemplars: Vec<Exemplar>,
}

impl Head {
    /// Applies one record; samples before `oldest_ms` are past retention. Hands each series new here, with its hash, to `on_new`.
    pub fn apply(&mut self, batch: &MetricBatch, oldest_ms: i64, mut on_new: impl FnMut(u64, &Labels)) {
        let tenant = self.tenants.entry(batch.tenant.clone()).or_default();
        for series in &batch.series {
            let is_kept = |t_ms: i64| t_ms >= oldest_ms;
            let has_samples = series.samples.iter().any(|sample| is_kept(sample.t_ms))
                || series.histograms.iter().any(|sample| is_kept(sample.t_ms));
            if !has_samples && !series.exemplars.iter().any(|one| is_kept(one.t_ms)) {
                continue;
            }
            let id = tenant.find(&series.labels).unwrap_or_else(|hash| {
                on_new(hash, &series.labels);
                self.bytes += SERIES_BYTES + LABEL_BYTES * series.labels.len();
                tenant.add(hash, &series.labels)
            });
            let (samples, bytes) = tenant.extend(id, series, oldest_ms);
            self.samples += samples;
            self.bytes += bytes;
        }
    }

    /// Forgets what a deletion covers.
    pub fn delete(&mut self, tenant: &str, deletion: &Deletion) {
        let Some(head) = self.tenants.get_mut(tenant) else { return };
        for matchers in deletion.selectors() {
            for id in &head.postings.select(matchers) {
                let series = &mut head.series[id as usize];
                if deletion.is_home(tenant, &series.labels) {
                    self.samples -= series.delete(deletion.start_ms, deletion.end_ms);
                }
            }
        }
    }

    pub fn samples(&self) -> usize {
        self.samples
    }

    pub fn bytes(&self) -> usize {
        let indexes: usize = self.tenants.values().map(|tenant| tenant.postings.bytes()).sum();
        self.bytes + self.samples * SAMPLE_BYTES + indexes
    }

    pub fn series(&self) -> usize {
        self.tenants.values().map(|tenant| tenant.series.len()).sum()
    }

    pub fn tenant(&self, name: &str) -> Option<&TenantHead> {
        self.tenants.get(name)
    }

    pub fn tenants(&self) -> impl Iterator<Item = (&String, &TenantHead)> {
        self.tenants.iter()
    }
}

impl TenantHead {
    /// The series with these labels, or else their hash.
    fn find(&mut self, labels: &Labels) -> Result<u32, u64> {
        let address = labels.address();
        let expected = self.series.get(self.expected as usize).filter(|series| series.labels.address() == address);
        if expected.is_some() {
            self.expected += 1;
            return Ok(self.expected - 1);
        }
        if let Some(id) = self.by_address.get(&address) {
            self.expected = id + 1;
            return Ok(*id);
        }
        let hash = labels.hash("");
        let mut next = self.by_hash.get(&hash).copied();
        while let Some(id) = next {
            let series = &mut self.series[id as usize];
            if series.labels == *labels {
                if labels.is_shared() {
                    // From now on it is known by the set that its producer keeps.
                    self.by_address.remove(&series.labels.address());
                    self.by_address.insert(labels.address(), id);
                    series.labels = labels.clone();
                }
                return Ok(id);
            }
            next = series.same_hash;
        }
        Err(hash)
    }

    fn add(&mut self, hash: u64, labels: &Labels) -> u32 {
        let (id, interned) = self.postings.add(labels);
        let is_kept = labels.is_shared();
        let labels = if is_kept { labels.clone() } else { interned };
        if is_kept {
            self.by_address.insert(labels.address(), id);
        }
        let same_hash = self.by_hash.insert(hash, id);
        self.series.push(HeadSeries { labels, same_hash, is_sorted: true, floats: Vec::new(), rich: None });
        id
    }

    pub fn postings(&self) -> &Postings {
        &self.postings
    }

    /// The first and last instant; both 0 without samples.
    pub fn time_range(&self) -> (i64, i64) {
        self.time_range.unwrap_or_default()
    }

    /// Adds what is not before `oldest_ms`. Answers by how many samples, and bytes beside them, the series grew.
    fn extend(&mut self, id: u32, batch: &SeriesSamples, oldest_ms: i64) -> (usize, usize) {
        let series = &mut self.series[id as usize];
        let (before, mut bytes) = (series.len(), 0);
        let mut met = |t_ms: i64| {
            let (min_ms, max_ms) = self.time_range.unwrap_or((t_ms, t_ms));
            self.time_range = Some((min_ms.min(t_ms), max_ms.max(t_ms)));
        };
        for (i, sample) in batch.samples.iter().enumerate().filter(|(_, sample)| sample.t_ms >= oldest_ms) {
            met(sample.t_ms);
            series.push_float(*sample, batch.starts_ms.get(i).copied().unwrap_or(0));
        }
        if batch.histograms.is_empty() && batch.exemplars.is_empty() {
            return (series.len() - before, 0);
        }
        for sample in batch.histograms.iter().filter(|sample| sample.t_ms >= oldest_ms) {
            met(sample.t_ms);
            bytes += sample.histogram.size_bytes();
            series.push_histogram(sample);
        }
        for one in batch.exemplars.iter().filter(|one| one.t_ms >= oldest_ms) {
            bytes += EXEMPLAR_BYTES;
            series.enrich().exemplars.push(one.clone());
        }
        if let Some(rich) = series.rich.as_mut().filter(|rich| rich.exemplars.len() > MAX_EXEMPLARS) {
            thin(&mut rich.exemplars);
        }
        (series.len() - before, bytes)
    }

    pub fn labels(&self, id: u32) -> &Labels {
        &self.series[id as usize].labels
    }

    /// Whether a series has a sample in the inclusive range.
    pub fn has_sample(&self, id: u32, start_ms: i64, end_ms: i64) -> bool {
        self.first_ms(id, start_ms, end_ms).is_some()
    }

    /// A series' first sample within the inclusive range, as they came.
    pub fn first_ms(&self, id: u32, start_ms: i64, end_ms: i64) -> Option<i64> {
        self.series[id as usize].times().find(|t| (start_ms..=end_ms).contains(t))
    }

    /// By UTC day: the series that have samples or exemplars in it, by rising labels.
    pub fn ids_by_day(&self) -> BTreeMap<i64, Vec<u32>> {
        let mut ids: Vec<u32> = (0..self.series.len() as u32).collect();
        ids.sort_unstable_by(|a, b| self.labels(*a).cmp(self.labels(*b)));
        let mut days: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
        for id in ids {
            let series = &self.series[id as usize];
            let exemplars = series.exemplars().iter().map(|one| one.t_ms);
            // Of floats in order the first and the last tell, unless they lie apart.
            let day_of = |t_ms: i64| t_ms.div_euclid(MS_PER_DAY);
            let [first, last] =
                [series.floats.first(), series.floats.last()].map(|one| one.map(|sample| day_of(sample.t_ms)));
            let of_one_day = first.filter(|_| series.is_sorted && first == last);
            if let (Some(day), None) = (of_one_day, &series.rich) {
                days.entry(day).or_default().push(id);
                continue;
            }
            for t_ms in series.times().chain(exemplars) {
                let day = days.entry(day_of(t_ms)).or_default();
                if day.last() != Some(&id) {
                    day.push(id);
                }
            }
        }
        days
    }

    /// A series' samples within the inclusive range.
    pub fn columns(&self, id: u32, start_ms: i64, end_ms: i64) -> Samples {
        self.series[id as usize].within(start_ms, end_ms)
    }

    /// A series' exemplars within the inclusive range.
    pub fn exemplars(&self, id: u32, start_ms: i64, end_ms: i64) -> Vec<Exemplar> {
        let is_wanted = |one: &&Exemplar| (start_ms..=end_ms).contains(&one.t_ms);
        let mut found = self.series[id as usize].exemplars().iter().filter(is_wanted).cloned().collect();
        thin(&mut found);
        found
    }
}

impl HeadSeries {
    fn len(&self) -> usize {
        self.rich.as_ref().map_or(self.floats.len(), |rich| rich.samples.len())
    }

    fn times(&self) -> impl Iterator<Item = i64> + '_ {
        let rich = self.rich.iter().flat_map(|rich| rich.samples.timestamps_ms.iter().copied());
        self.floats.iter().map(|sample| sample.t_ms).chain(rich)
    }

    fn exemplars(&self) -> &[Exemplar] {
        self.rich.as_ref().map_or(&[], |rich| &rich.exemplars)
    }

    /// Makes room for more than floats.
    fn enrich(&mut self) -> &mut Rich {
        let floats = &mut self.floats;
        self.rich.get_or_insert_with(|| {
            let mut rich = Rich::default();
            std::mem::take(floats).into_iter().for_each(|sample| columns::push_float(&mut rich.samples, sample, 0));
            Box::new(rich)
        })
    }

    fn push_float(&mut self, sample: Sample, start_ms: i64) {
        if self.rich.is_none() && start_ms == 0 {
            match self.floats.last_mut().filter(|_| self.is_sorted) {
                Some(last) if last.t_ms == sample.t_ms => *last = sample,
                last => {
                    self.is_sorted = last.map_or(self.is_sorted, |last| last.t_ms < sample.t_ms);
                    self.floats.push(sample);
                }
            }
            return;
        }
        self.prepare(sample.t_ms);
        columns::push_float(&mut self.enrich().samples, sample, start_ms);
    }

    /// Of a marker only that it is one is kept.
    fn push_histogram(&mut self, sample: &HistogramSample) {
        self.prepare(sample.t_ms);
        let samples = &mut self.enrich().samples;
        if sample.histogram.is_stale() {
            let histogram = Arc::new(Histogram { reset_hint: sample.histogram.reset_hint, ..Histogram::stale() });
            columns::push_histogram(samples, &HistogramSample { histogram, ..sample.clone() });
        } else {
            columns::push_histogram(samples, sample);
        }
    }

    /// Makes room for a sample at an instant: takes out the last one where it is of the same.
    fn prepare(&mut self, t_ms: i64) {
        let is_sorted = self.is_sorted;
        let samples = &mut self.enrich().samples;
        let Some(last) = samples.timestamps_ms.last().filter(|_| is_sorted) else { return };
        if *last == t_ms {
            columns::pop(samples);
        } else {
            self.is_sorted = *last < t_ms;
        }
    }

    /// Answers how many samples went.
    fn delete(&mut self, start_ms: i64, end_ms: i64) -> usize {
        let before = self.len();
        let range = start_ms..=end_ms;
        match &mut self.rich {
            None => self.floats.retain(|sample| !range.contains(&sample.t_ms)),
            Some(rich) => {
                if !self.is_sorted {
                    rich.samples = columns::from_arrivals(&rich.samples);
                    self.is_sorted = true;
                }
                columns::remove(&mut rich.samples, start_ms, end_ms);
                rich.exemplars.retain(|one| !range.contains(&one.t_ms));
            }
        }
        before - self.len()
    }

    fn within(&self, start_ms: i64, end_ms: i64) -> Samples {
        match &self.rich {
            Some(rich) if self.is_sorted => columns::slice(&rich.samples, start_ms, end_ms),
            Some(rich) => columns::slice(&columns::from_arrivals(&rich.samples), start_ms, end_ms),
            None => self.floats_within(start_ms, end_ms),
        }
    }

    fn floats_within(&self, start_ms: i64, end_ms: i64) -> Samples {
        let sorted: Vec<Sample>;
        let mut floats = self.floats.as_slice();
        if !self.is_sorted {
            sorted = sorted_floats(floats);
            floats = &sorted;
        }
        let from = floats.partition_point(|sample| sample.t_ms < start_ms);
        let to = floats.partition_point(|sample| sample.t_ms <= end_ms).max(from);
        let (timestamps_ms, values) = floats[from..to].iter().map(|sample| (sample.t_ms, sample.value)).unzip();
        Samples { timestamps_ms, values, ..Samples::default() }
    }
}

/// Sorted by time, of one instant the one that came last.
fn sorted_floats(arrived: &[Sample]) -> Vec<Sample> {
    let mut sorted = arrived.to_vec();
    sorted.sort_by_key(|sample| sample.t_ms);
    // The later of two takes the place of the earlier, which goes.
    sorted.dedup_by(|later, earlier| {
        let is_same = later.t_ms == earlier.t_ms;
        if is_same {
            *earlier = *later;
        }
        is_same
    });
    sorted
}

#[cfg(test)]
mod tests {
    use model::Matcher;

    use super::*;

    fn check(arrivals: &[(i64, f64)], expected: &[(i64, f64)]) {
        let mut head = Head::default();
        let labels = Labels::from_pairs([("__name__", "x")]);
        for (t_ms, value) in arrivals {
            let samples = vec![Sample { t_ms: *t_ms, value: *value }];
            let series = vec![SeriesSamples::new(labels.clone(), samples)];
            head.apply(&MetricBatch::new("t", series), 0, |_, _| {});
        }
        let tenant = head.tenant("t").expect("the tenant");
        let ids: Vec<u32> = tenant.postings().select(&[Matcher::equal("__name__", "x")]).iter().collect();
        assert_eq!(ids, [0]);
        let found = tenant.columns(0, 0, 100);
        let samples: Vec<(i64, f64)> = found.timestamps_ms.into_iter().zip(found.values).collect();
        assert_eq!(samples, expected);
    }

    #[test]
    fn samples_of_any_order_come_out_sorted_and_the_later_wins() {
        check(&[(1, 1.0), (2, 2.0)], &[(1, 1.0), (2, 2.0)]);
        check(&[(2, 2.0), (1, 1.0), (2, 3.0), (200, 0.0)], &[(1, 1.0), (2, 3.0)]);
        check(&[(5, 1.0), (5, 2.0), (-1, 0.0)], &[(5, 2.0)]);
    }

    /// Days of the ends were found by truncation, so that 1969 and 1970 met, and what was of 1970 was not published.
    #[test]
    fn the_days_before_and_after_1970_are_two() {
        let mut head = Head::default();
        let samples = [-1, 1].map(|t_ms| Sample { t_ms, value: 1.0 }).to_vec();
        let series = vec![SeriesSamples::new(Labels::from_pairs([("__name__", "x")]), samples)];
        head.apply(&MetricBatch::new("t", series), i64::MIN, |_, _| {});
        let days = head.tenant("t").expect("the tenant").ids_by_day();
        assert_eq!(days, BTreeMap::from([(-1, vec![0]), (0, vec![0])]));
    }

    #[test]
    fn tenants_do_not_see_each_other() {
        let mut head = Head::default();
        let labels = Labels::from_pairs([("__name__", "x")]);
        let series = vec![SeriesSamples::new(labels, vec![Sample { t_ms: 1, value: 1.0 }])];
        let mut new = 0;
        head.apply(&MetricBatch::new("a", series), 0, |_, _| new += 1);
        assert!(head.tenant("b").is_none());
        assert_eq!((new, head.series(), head.samples()), (1, 1, 1));
    }
}
