//! The head: samples applied from the bus and not yet published, queryable at once.
//!
//! Samples of a series lie in the order they came; out of order and of any age is ordinary. A series that is not in
//! rising order is sorted when it is read, and the later sample of an instant wins. Histograms lie between floats.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use model::{Exemplar, Histogram, HistogramSample, Labels, MS_PER_DAY, MetricBatch, Sample, SeriesSamples};

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
    /// Hash of the labels → the newest series of that hash; others follow by `same_hash`.
    by_hash: HashMap<u64, u32>,
    series: Vec<HeadSeries>,
    postings: Postings,
    /// First and last instant, once there is a sample.
    time_range: Option<(i64, i64)>,
}

#[derive(Debug)]
struct HeadSeries {
    labels: Labels,
    same_hash: Option<u32>,
    /// In the order they came, of an instant that repeats at once only the last.
    samples: Samples,
    /// The samples are strictly rising in time.
    is_sorted: bool,
    exemplars: Vec<Exemplar>,
}

impl Head {
    /// Applies one record; samples before `oldest_ms` are past retention. Hands the hash of each series new here to `on_new`.
    pub fn apply(&mut self, batch: &MetricBatch, oldest_ms: i64, mut on_new: impl FnMut(u64)) {
        let tenant = self.tenants.entry(batch.tenant.clone()).or_default();
        for series in &batch.series {
            let is_kept = |t_ms: i64| t_ms >= oldest_ms;
            let has_samples = series.samples.iter().any(|sample| is_kept(sample.t_ms))
                || series.histograms.iter().any(|sample| is_kept(sample.t_ms));
            if !has_samples && !series.exemplars.iter().any(|one| is_kept(one.t_ms)) {
                continue;
            }
            let hash = series.labels.hash(&batch.tenant);
            let id = tenant.find(hash, &series.labels).unwrap_or_else(|| {
                on_new(hash);
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
    fn find(&self, hash: u64, labels: &Labels) -> Option<u32> {
        let mut next = self.by_hash.get(&hash).copied();
        while let Some(id) = next {
            let series = &self.series[id as usize];
            if series.labels == *labels {
                return Some(id);
            }
            next = series.same_hash;
        }
        None
    }

    fn add(&mut self, hash: u64, labels: &Labels) -> u32 {
        let (id, labels) = self.postings.add(labels);
        let same_hash = self.by_hash.insert(hash, id);
        let (samples, exemplars) = (Samples::default(), Vec::new());
        self.series.push(HeadSeries { labels, same_hash, samples, is_sorted: true, exemplars });
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
        let (before, mut bytes) = (series.samples.len(), 0);
        let mut met = |t_ms: i64| {
            let (min_ms, max_ms) = self.time_range.unwrap_or((t_ms, t_ms));
            self.time_range = Some((min_ms.min(t_ms), max_ms.max(t_ms)));
        };
        for (i, sample) in batch.samples.iter().enumerate().filter(|(_, sample)| sample.t_ms >= oldest_ms) {
            met(sample.t_ms);
            series.push_float(*sample, batch.starts_ms.get(i).copied().unwrap_or(0));
        }
        for sample in batch.histograms.iter().filter(|sample| sample.t_ms >= oldest_ms) {
            met(sample.t_ms);
            bytes += sample.histogram.size_bytes();
            series.push_histogram(sample);
        }
        for one in batch.exemplars.iter().filter(|one| one.t_ms >= oldest_ms) {
            bytes += EXEMPLAR_BYTES;
            series.exemplars.push(one.clone());
        }
        if series.exemplars.len() > MAX_EXEMPLARS {
            thin(&mut series.exemplars);
        }
        (series.samples.len() - before, bytes)
    }

    pub fn labels(&self, id: u32) -> &Labels {
        &self.series[id as usize].labels
    }

    /// Whether a series has a sample in the inclusive range.
    pub fn has_sample(&self, id: u32, start_ms: i64, end_ms: i64) -> bool {
        self.series[id as usize].samples.timestamps_ms.iter().any(|t| (start_ms..=end_ms).contains(t))
    }

    /// By UTC day: the series that have samples or exemplars in it, by rising labels.
    pub fn ids_by_day(&self) -> BTreeMap<i64, Vec<u32>> {
        let mut ids: Vec<u32> = (0..self.series.len() as u32).collect();
        ids.sort_unstable_by(|a, b| self.labels(*a).cmp(self.labels(*b)));
        let mut days: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
        for id in ids {
            let series = &self.series[id as usize];
            let exemplars = series.exemplars.iter().map(|one| &one.t_ms);
            for t_ms in series.samples.timestamps_ms.iter().chain(exemplars) {
                let day = days.entry(t_ms.div_euclid(MS_PER_DAY)).or_default();
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
        let mut found = self.series[id as usize].exemplars.iter().filter(is_wanted).cloned().collect();
        thin(&mut found);
        found
    }
}

impl HeadSeries {
    /// Makes room for a sample at an instant: takes out the last one where it is of the same.
    fn prepare(&mut self, t_ms: i64) {
        let Some(last) = self.samples.timestamps_ms.last().filter(|_| self.is_sorted) else { return };
        if *last == t_ms {
            columns::pop(&mut self.samples);
        } else {
            self.is_sorted = *last < t_ms;
        }
    }

    fn push_float(&mut self, sample: Sample, start_ms: i64) {
        self.prepare(sample.t_ms);
        columns::push_float(&mut self.samples, sample, start_ms);
    }

    /// Of a marker only that it is one is kept.
    fn push_histogram(&mut self, sample: &HistogramSample) {
        self.prepare(sample.t_ms);
        if sample.histogram.is_stale() {
            let histogram = Arc::new(Histogram { reset_hint: sample.histogram.reset_hint, ..Histogram::stale() });
            columns::push_histogram(&mut self.samples, &HistogramSample { histogram, ..sample.clone() });
        } else {
            columns::push_histogram(&mut self.samples, sample);
        }
    }

    /// Answers how many samples went.
    fn delete(&mut self, start_ms: i64, end_ms: i64) -> usize {
        let before = self.samples.len();
        if !self.is_sorted {
            self.samples = columns::from_arrivals(&self.samples);
            self.is_sorted = true;
        }
        columns::remove(&mut self.samples, start_ms, end_ms);
        self.exemplars.retain(|one| !(start_ms..=end_ms).contains(&one.t_ms));
        before - self.samples.len()
    }

    fn within(&self, start_ms: i64, end_ms: i64) -> Samples {
        if !self.is_sorted {
            return columns::slice(&columns::from_arrivals(&self.samples), start_ms, end_ms);
        }
        columns::slice(&self.samples, start_ms, end_ms)
    }
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
            head.apply(&MetricBatch::new("t", series), 0, |_| {});
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

    #[test]
    fn tenants_do_not_see_each_other() {
        let mut head = Head::default();
        let labels = Labels::from_pairs([("__name__", "x")]);
        let series = vec![SeriesSamples::new(labels, vec![Sample { t_ms: 1, value: 1.0 }])];
        let mut new = 0;
        head.apply(&MetricBatch::new("a", series), 0, |_| new += 1);
        assert!(head.tenant("b").is_none());
        assert_eq!((new, head.series(), head.samples()), (1, 1, 1));
    }
}
