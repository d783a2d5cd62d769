//! Which names and values carry most series, in the head.

use super::Store;
use super::postings::Postings;

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
    /// The `top` of each ranking for one tenant.
    pub fn cardinality(&self, tenant: &str, top: usize) -> Cardinality {
        let view = self.view.read();
        let Some(head) = view.head.tenant(tenant) else { return Cardinality::default() };
        let (min_ms, max_ms) = head.time_range();
        rank(head.postings(), Cardinality { series: head.len() as u64, min_ms, max_ms, ..Cardinality::default() }, top)
    }
}

fn rank(postings: &Postings, mut stats: Cardinality, top: usize) -> Cardinality {
    let by_metric = postings.values_of(model::METRIC_NAME);
    stats.series_by_metric = largest(by_metric.map(|(name, ids)| (name.to_string(), ids.len())), top);
    stats.values_by_label =
        largest(postings.names().map(|(name, values)| (name.to_string(), values.len() as u64)), top);
    let bytes = postings.names().map(|(name, values)| {
        (name.to_string(), values.iter().map(|(value, ids)| value.len() as u64 * ids.len()).sum())
    });
    stats.bytes_by_label = largest(bytes, top);
    let pairs = postings
        .names()
        .flat_map(|(name, values)| values.iter().map(move |(value, ids)| (format!("{name}={value}"), ids.len())));
    stats.label_pairs = postings.names().map(|(_, values)| values.len() as u64).sum();
    stats.series_by_pair = largest(pairs, top);
    stats
}

fn largest(all: impl Iterator<Item = (String, u64)>, top: usize) -> Ranking {
    let mut ranking: Ranking = all.collect();
    ranking.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    ranking.truncate(top);
    ranking
}
