//! Which names and values carry most series, when series came, and which of them nobody reads.

use std::collections::{BTreeMap, HashMap};

use model::{Labels, METRIC_NAME, MS_PER_DAY};
use query::QueryError;

use super::{Listing, Store};

/// Names with a number, largest first.
pub type Ranking = Vec<(String, u64)>;

#[derive(Debug, Default)]
pub struct Cardinality {
    pub series: u64,
    pub label_pairs: u64,
    pub min_ms: i64,
    pub max_ms: i64,
    pub series_by_metric: Ranking,
    pub values_by_label: Ranking,
    pub bytes_by_label: Ranking,
    pub series_by_pair: Ranking,
    /// By the hour of its first sample of the day, in ms. What goes on from the day before begins the day.
    pub series_by_first_hour: BTreeMap<i64, u64>,
    /// Metrics whose samples nobody read since the start, with their series.
    pub series_by_unread_metric: Ranking,
}

const MS_PER_HOUR: i64 = 3_600_000;

impl Store {
    /// The `top` of each ranking for one tenant, over the series of its newest day: of head and parts, each once.
    pub fn cardinality(&self, tenant: &str, top: usize) -> Result<Cardinality, QueryError> {
        let newest_ms = {
            let view = self.view.read();
            let of_head = view.head.tenant(tenant).map(|head| head.time_range().1);
            let of_parts = view.parts.iter().filter(|live| live.entry.tenant == tenant);
            of_parts.map(|live| live.entry.summary.max_ms).chain(of_head).max()
        };
        let Some(max_ms) = newest_ms else { return Ok(Cardinality::default()) };
        let min_ms = max_ms.div_euclid(MS_PER_DAY).saturating_mul(MS_PER_DAY);
        let selectors = [Vec::new()];
        let day = Listing { tenant, selectors: &selectors, start_ms: min_ms, end_ms: i64::MAX, deadline: None };
        let is_read = |metric: &str| self.read_metrics.contains(tenant, metric);
        let stats = Cardinality { min_ms, max_ms, ..Cardinality::default() };
        Ok(rank(&self.series_since(&day)?, is_read, stats, top))
    }
}

fn rank(
    all: &BTreeMap<Labels, i64>,
    is_read: impl Fn(&str) -> bool,
    mut stats: Cardinality,
    top: usize,
) -> Cardinality {
    for first_ms in all.values() {
        let hour_ms = first_ms.div_euclid(MS_PER_HOUR).saturating_mul(MS_PER_HOUR);
        *stats.series_by_first_hour.entry(hour_ms).or_default() += 1;
    }
    let mut by_pair: HashMap<(&str, &str), u64> = HashMap::new();
    for label in all.keys().flatten() {
        *by_pair.entry((&label.name, &label.value)).or_default() += 1;
    }
    let (mut values, mut bytes): (HashMap<&str, u64>, HashMap<&str, u64>) = Default::default();
    for ((name, value), series) in &by_pair {
        *values.entry(name).or_default() += 1;
        *bytes.entry(name).or_default() += value.len() as u64 * series;
    }
    let named = |counts: HashMap<&str, u64>| largest(counts.into_iter().map(|(name, n)| (name.to_owned(), n)), top);
    stats.series = all.len() as u64;
    stats.label_pairs = by_pair.len() as u64;
    let metrics = by_pair.iter().filter(|((name, _), _)| *name == METRIC_NAME);
    let metrics: Vec<(&str, u64)> = metrics.map(|((_, value), series)| (*value, *series)).collect();
    let of_metrics = |chosen: &dyn Fn(&str) -> bool| {
        let chosen = metrics.iter().filter(|(metric, _)| chosen(metric));
        largest(chosen.map(|(metric, series)| ((*metric).to_owned(), *series)), top)
    };
    stats.series_by_metric = of_metrics(&|_| true);
    stats.series_by_unread_metric = of_metrics(&|metric| !is_read(metric));
    stats.values_by_label = named(values);
    stats.bytes_by_label = named(bytes);
    let pairs = by_pair.iter().map(|((name, value), series)| (format!("{name}={value}"), *series));
    stats.series_by_pair = largest(pairs, top);
    stats
}

fn largest(all: impl Iterator<Item = (String, u64)>, top: usize) -> Ranking {
    let mut ranking: Ranking = all.collect();
    ranking.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    ranking.truncate(top);
    ranking
}

#[cfg(test)]
mod tests {
    use disk::FakeDisk;
    use model::{Matcher, MetricBatch, Sample, SeriesSamples};
    use query::{Series, SeriesSelect, Wants};

    use super::super::tests::{NOW_MS, open};
    use super::*;

    /// Metric, series, hour before now.
    fn apply(store: &Store, offset: u64, sent: &[(&str, &str, i64)]) {
        let one = |(metric, series, hour): &(&str, &str, i64)| {
            let samples = vec![Sample { t_ms: NOW_MS - hour * MS_PER_HOUR, value: 1.0 }];
            SeriesSamples::new(Labels::from_pairs([(METRIC_NAME, *metric), ("s", *series)]), samples)
        };
        store.apply(0, offset, &MetricBatch::new("t", sent.iter().map(one).collect()), i64::MIN, NOW_MS);
    }

    fn ranking(expected: &[(&str, u64)]) -> Ranking {
        expected.iter().map(|(name, series)| ((*name).to_owned(), *series)).collect()
    }

    /// Wherever a series lies, it counts for the hour of its first sample, and once.
    #[test]
    fn series_count_for_their_first_hour_and_as_unread_until_they_are_read() {
        let store = open(&FakeDisk::new());
        apply(&store, 0, &[("a", "1", 3), ("old", "1", 24)]);
        store.publish().expect("published");
        apply(&store, 1, &[("a", "1", 2), ("b", "1", 2), ("b", "2", 2)]);
        store.publish().expect("published");
        apply(&store, 2, &[("a", "1", 1), ("b", "2", 1), ("b", "3", 1)]);
        let hours = BTreeMap::from([3, 2, 1].map(|hour| (NOW_MS - hour * MS_PER_HOUR, if hour == 2 { 2 } else { 1 })));
        let check = |unread: &[(&str, u64)]| {
            let found = store.cardinality("t", 10).expect("counted");
            assert_eq!(found.series_by_first_hour, hours);
            assert_eq!(found.series_by_unread_metric, ranking(unread));
            assert_eq!(found.series_by_metric, ranking(&[("b", 3), ("a", 1)]));
        };
        check(&[("b", 3), ("a", 1)]);
        for (tenant, metric, start_ms) in [("u", "b", i64::MIN), ("t", "b", NOW_MS), ("t", "a", i64::MIN)] {
            let matchers = [Matcher::equal(METRIC_NAME, metric)];
            let wants = Wants::Values;
            let request =
                SeriesSelect { tenant, matchers: &matchers, start_ms, end_ms: i64::MAX, wants, deadline: None };
            store.select(&request).map(drop).expect("selected");
        }
        check(&[("b", 3)]);
        assert_eq!((store.created_series(), store.read_metric_counts()), (5, (1, 0)));
    }
}
