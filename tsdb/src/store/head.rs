//! The head: samples applied from the bus and not yet published, queryable at once.
//!
//! Samples of a series lie in the order they came; out of order and of any age is ordinary. A series that is not in
//! rising order is sorted when it is read, and the later sample of an instant wins.

use std::collections::{BTreeMap, HashMap};

use model::{Labels, MS_PER_DAY, Matcher, MetricBatch, Sample};

use super::columns::{Columns, range_of};
use super::postings::Postings;

/// What a series costs beside its label strings and samples, roughly.
const SERIES_BYTES: usize = 200;
const LABEL_BYTES: usize = 40;
const SAMPLE_BYTES: usize = 16;

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
    timestamps_ms: Vec<i64>,
    values: Vec<f64>,
    /// Strictly rising.
    is_sorted: bool,
}

impl Head {
    /// Applies one record; samples before `oldest_ms` are past retention. Hands the hash of each series new here to `on_new`.
    pub fn apply(&mut self, batch: &MetricBatch, oldest_ms: i64, mut on_new: impl FnMut(u64)) {
        let tenant = self.tenants.entry(batch.tenant.clone()).or_default();
        for series in &batch.series {
            let mut kept = series.samples.iter().filter(|sample| sample.t_ms >= oldest_ms).peekable();
            if kept.peek().is_none() {
                continue;
            }
            let hash = series.labels.hash(&batch.tenant);
            let id = tenant.find(hash, &series.labels).unwrap_or_else(|| {
                on_new(hash);
                self.bytes += SERIES_BYTES + LABEL_BYTES * series.labels.len();
                tenant.add(hash, &series.labels)
            });
            let before = tenant.series[id as usize].values.len();
            kept.for_each(|sample| tenant.push(id, *sample));
            self.samples += tenant.series[id as usize].values.len() - before;
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
        let (timestamps_ms, values) = (Vec::new(), Vec::new());
        self.series.push(HeadSeries { labels, same_hash, timestamps_ms, values, is_sorted: true });
        id
    }

    pub fn postings(&self) -> &Postings {
        &self.postings
    }

    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// The first and last instant; both 0 without samples.
    pub fn time_range(&self) -> (i64, i64) {
        self.time_range.unwrap_or_default()
    }

    fn push(&mut self, id: u32, sample: Sample) {
        let (min_ms, max_ms) = self.time_range.unwrap_or((sample.t_ms, sample.t_ms));
        self.time_range = Some((min_ms.min(sample.t_ms), max_ms.max(sample.t_ms)));
        self.series[id as usize].push(sample);
    }

    pub fn labels(&self, id: u32) -> &Labels {
        &self.series[id as usize].labels
    }

    /// Whether a series has a sample in the inclusive range.
    pub fn has_sample(&self, id: u32, start_ms: i64, end_ms: i64) -> bool {
        self.series[id as usize].timestamps_ms.iter().any(|t| (start_ms..=end_ms).contains(t))
    }

    /// The samples of every matching series that has some in the inclusive range.
    pub fn gather(&self, matchers: &[Matcher], start_ms: i64, end_ms: i64) -> Vec<(Labels, Columns)> {
        let mut found = Vec::new();
        for id in &self.postings.select(matchers) {
            let series = &self.series[id as usize];
            let columns = series.within(start_ms, end_ms);
            if !columns.is_empty() {
                found.push((series.labels.clone(), columns));
            }
        }
        found
    }

    /// By UTC day: the series that have samples in it, by rising labels.
    pub fn ids_by_day(&self) -> BTreeMap<i64, Vec<u32>> {
        let mut ids: Vec<u32> = (0..self.series.len() as u32).collect();
        ids.sort_unstable_by(|a, b| self.labels(*a).cmp(self.labels(*b)));
        let mut days: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
        for id in ids {
            for t_ms in &self.series[id as usize].timestamps_ms {
                let day = days.entry(t_ms.div_euclid(MS_PER_DAY)).or_default();
                if day.last() != Some(&id) {
                    day.push(id);
                }
            }
        }
        days
    }

    /// A series' samples within the inclusive range.
    pub fn columns(&self, id: u32, start_ms: i64, end_ms: i64) -> Columns {
        self.series[id as usize].within(start_ms, end_ms)
    }
}

impl HeadSeries {
    fn push(&mut self, sample: Sample) {
        if let (true, Some(last), Some(last_value)) =
            (self.is_sorted, self.timestamps_ms.last(), self.values.last_mut())
        {
            if *last == sample.t_ms {
                *last_value = sample.value;
                return;
            }
            self.is_sorted = *last < sample.t_ms;
        }
        self.timestamps_ms.push(sample.t_ms);
        self.values.push(sample.value);
    }

    fn within(&self, start_ms: i64, end_ms: i64) -> Columns {
        if !self.is_sorted {
            return Columns::from_arrivals(&self.timestamps_ms, &self.values).slice(start_ms, end_ms);
        }
        let range = range_of(&self.timestamps_ms, start_ms..=end_ms);
        Columns { timestamps_ms: self.timestamps_ms[range.clone()].to_vec(), values: self.values[range].to_vec() }
    }
}

#[cfg(test)]
mod tests {
    use model::SeriesSamples;

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
        let found = tenant.gather(&[Matcher::equal("__name__", "x")], 0, 100);
        let samples: Vec<(i64, f64)> =
            found.iter().flat_map(|(_, c)| c.timestamps_ms.iter().copied().zip(c.values.iter().copied())).collect();
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
