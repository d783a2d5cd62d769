//! Which series of a tenant are active, and how many of each metric: what limits are held against.

use std::collections::HashMap;
use std::sync::Arc;

use model::{IdMap, Labels, METRIC_NAME};

/// A series counts as active for this long after a head last met it as new.
const ACTIVE_MS: i64 = 3_600_000;

/// Millions of series come and go in an hour, so each is a few numbers.
#[derive(Debug, Default)]
pub struct Active {
    /// By the hash of the labels.
    series: IdMap<u64, One>,
    /// Names with how many series they have. Those without any are free to be given to others.
    metrics: Vec<(Arc<str>, usize)>,
    free: Vec<u32>,
    by_name: HashMap<Arc<str>, u32>,
}

#[derive(Debug)]
struct One {
    met_s: u32,
    /// Place among the metrics.
    metric: u32,
}

fn seconds(ms: i64) -> u32 {
    u32::try_from(ms / 1000).unwrap_or(0)
}

impl Active {
    /// A head met a series as new. Answers whether it was not active.
    pub fn meet(&mut self, hash: u64, labels: &Labels, now_ms: i64) -> bool {
        let met_s = seconds(now_ms);
        if let Some(one) = self.series.get_mut(&hash) {
            one.met_s = met_s;
            return false;
        }
        let name = labels.iter().find(|label| label.name.as_ref() == METRIC_NAME);
        let metric = self.metric(name.map_or_else(|| Arc::from(""), |label| label.value.clone()));
        self.metrics[metric as usize].1 += 1;
        self.series.insert(hash, One { met_s, metric });
        true
    }

    /// The place of a metric, which is given one.
    fn metric(&mut self, name: Arc<str>) -> u32 {
        if let Some(place) = self.by_name.get(&name) {
            return *place;
        }
        let place = self.free.pop().unwrap_or(self.metrics.len() as u32);
        if place as usize == self.metrics.len() {
            self.metrics.push((name.clone(), 0));
        } else {
            self.metrics[place as usize].0 = name.clone();
        }
        self.by_name.insert(name, place);
        place
    }

    /// Forgets series that no head met for a while.
    pub fn forget(&mut self, now_ms: i64) {
        let (metrics, oldest_s) = (&mut self.metrics, seconds(now_ms - ACTIVE_MS));
        self.series.retain(|_, one| {
            let stays = one.met_s >= oldest_s;
            metrics[one.metric as usize].1 -= usize::from(!stays);
            stays
        });
        if self.series.len() < self.series.capacity() / 4 {
            self.series.shrink_to_fit();
        }
        let free = &mut self.free;
        self.by_name.retain(|_, place| {
            let stays = metrics[*place as usize].1 > 0;
            if !stays {
                free.push(*place);
            }
            stays
        });
    }

    pub fn len(&self) -> usize {
        self.series.len()
    }

    pub fn contains(&self, hash: u64) -> bool {
        self.series.contains_key(&hash)
    }

    pub fn of_metric(&self, metric: &str) -> usize {
        self.by_name.get(metric).map_or(0, |place| self.metrics[*place as usize].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_counted_by_metric_until_they_are_forgotten() {
        let mut active = Active::default();
        let sent = [(1, "a", 0, true), (2, "a", 5, true), (3, "b", 0, true), (1, "a", 10, false)];
        for (hash, metric, met_s, is_new) in sent {
            let labels = Labels::from_pairs([(METRIC_NAME, metric)]);
            assert_eq!(active.meet(hash, &labels, met_s * 1000), is_new);
        }
        assert_eq!((active.len(), active.of_metric("a"), active.of_metric("b")), (3, 2, 1));
        active.forget(ACTIVE_MS + 6000);
        assert_eq!((active.len(), active.of_metric("a"), active.of_metric("b")), (1, 1, 0));
        assert!(active.contains(1) && !active.contains(2));
        // The place of a metric that is gone is another's.
        for (hash, metric) in [(4, "c"), (5, "d"), (6, "c")] {
            active.meet(hash, &Labels::from_pairs([(METRIC_NAME, metric)]), ACTIVE_MS);
        }
        let counts = ["a", "b", "c", "d"].map(|metric| active.of_metric(metric));
        assert_eq!((counts, active.metrics.len()), ([1, 0, 2, 1], 3));
    }
}
