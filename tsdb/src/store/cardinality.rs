//! Which names and values carry most series.

use std::collections::{BTreeSet, HashMap};

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
}

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
        Ok(rank(&self.series(&day)?, Cardinality { min_ms, max_ms, ..Cardinality::default() }, top))
    }
}

fn rank(all: &BTreeSet<Labels>, mut stats: Cardinality, top: usize) -> Cardinality {
    let mut by_pair: HashMap<(&str, &str), u64> = HashMap::new();
    for label in all.iter().flatten() {
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
    stats.series_by_metric = largest(metrics.map(|((_, value), series)| ((*value).to_owned(), *series)), top);
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
