//! Which series of a tenant are active, and how many of each metric: what limits are held against.

use std::collections::HashMap;
use std::sync::Arc;

use model::{IdMap, Labels, METRIC_NAME};

/// A series counts as active for this long after a head last met it as new.
const ACTIVE_MS: i64 = 3_600_000;

#[derive(Debug, Default)]
pub struct Active {
    /// By the hash of the labels.
    series: IdMap<u64, One>,
    by_metric: HashMap<Arc<str>, usize>,
}

#[derive(Debug)]
struct One {
    met_ms: i64,
    metric: Arc<str>,
}

impl Active {
    /// A head met a series as new. Answers whether it was not active.
    pub fn meet(&mut self, hash: u64, labels: &Labels, now_ms: i64) -> bool {
        let before = self.series.len();
        let by_metric = &mut self.by_metric;
        let one = self.series.entry(hash).or_insert_with(|| {
            let name = labels.iter().find(|label| label.name.as_ref() == METRIC_NAME);
            let metric = name.map_or_else(|| Arc::from(""), |label| label.value.clone());
            *by_metric.entry(metric.clone()).or_default() += 1;
            One { met_ms: now_ms, metric }
        });
        one.met_ms = now_ms;
        self.series.len() > before
    }

    /// Forgets series that no head met for a while.
    pub fn forget(&mut self, now_ms: i64) {
        let by_metric = &mut self.by_metric;
        self.series.retain(|_, one| {
            let stays = one.met_ms >= now_ms - ACTIVE_MS;
            if !stays && let Some(count) = by_metric.get_mut(&one.metric) {
                *count -= 1;
            }
            stays
        });
        by_metric.retain(|_, count| *count > 0);
    }

    pub fn len(&self) -> usize {
        self.series.len()
    }

    pub fn contains(&self, hash: u64) -> bool {
        self.series.contains_key(&hash)
    }

    pub fn of_metric(&self, metric: &str) -> usize {
        self.by_metric.get(metric).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_counted_by_metric_until_they_are_forgotten() {
        let mut active = Active::default();
        for (hash, metric, met_ms, is_new) in
            [(1, "a", 0, true), (2, "a", 5, true), (3, "b", 0, true), (1, "a", 10, false)]
        {
            assert_eq!(active.meet(hash, &Labels::from_pairs([(METRIC_NAME, metric)]), met_ms), is_new);
        }
        assert_eq!((active.len(), active.of_metric("a"), active.of_metric("b")), (3, 2, 1));
        active.forget(ACTIVE_MS + 6);
        assert_eq!((active.len(), active.of_metric("a"), active.of_metric("b")), (1, 1, 0));
        assert!(active.contains(1) && !active.contains(2));
    }
}
