//! Of which metrics samples were read since the start, by tenant: what is stored and never read can be left out. Queries,
//! rules, exports and other servers count, listings do not. Only names that were found are remembered, and so many at most.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use model::{Labels, METRIC_NAME, MatchOp, Matcher};
use parking_lot::Mutex;

use super::Store;

/// Names of all tenants together.
const MAX_NAMES: usize = 200_000;

#[derive(Default)]
pub struct ReadMetrics {
    names: Mutex<Names>,
}

#[derive(Default)]
struct Names {
    by_tenant: HashMap<String, HashSet<Arc<str>>>,
    count: usize,
    refused: u64,
}

impl ReadMetrics {
    /// Notes the metrics of series that a selector found.
    pub fn note<'l>(&self, tenant: &str, matchers: &[Matcher], found: impl Iterator<Item = &'l Labels>) {
        let is_one = matchers.iter().any(|one| one.name == METRIC_NAME && one.op == MatchOp::Equal);
        let found = found.take(if is_one { 1 } else { usize::MAX });
        let metric = |labels: &'l Labels| labels.iter().find(|label| label.name.as_ref() == METRIC_NAME);
        let mut last: Option<&Arc<str>> = None;
        let mut names = self.names.lock();
        for label in found.filter_map(metric) {
            // Rows come by rising labels, so that a metric's mostly lie together.
            if last != Some(&label.value) {
                names.add(tenant, &label.value);
                last = Some(&label.value);
            }
        }
    }

    pub fn contains(&self, tenant: &str, metric: &str) -> bool {
        self.names.lock().by_tenant.get(tenant).is_some_and(|names| names.contains(metric))
    }
}

impl Names {
    fn add(&mut self, tenant: &str, metric: &Arc<str>) {
        if self.by_tenant.get(tenant).is_some_and(|names| names.contains(metric)) {
            return;
        }
        if self.count >= MAX_NAMES {
            self.refused += 1;
            return;
        }
        self.count += 1;
        // A copy, since the text belongs to a head or a part.
        self.by_tenant.entry(tenant.to_owned()).or_default().insert(Arc::from(metric.as_ref()));
    }
}

impl Store {
    /// How many metrics were read since the start, and how often one found no room to be remembered.
    pub fn read_metric_counts(&self) -> (usize, u64) {
        let names = self.read_metrics.names.lock();
        (names.count, names.refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(metric: &str) -> Labels {
        Labels::from_pairs([(METRIC_NAME, metric), ("a", "b")])
    }

    #[test]
    fn metrics_that_were_found_are_remembered_by_tenant_and_bounded() {
        let read = ReadMetrics::default();
        let found = [series("x"), series("x"), series("y"), Labels::from_pairs([("a", "b")])];
        read.note("t", &[Matcher::equal(METRIC_NAME, "x")], found[..2].iter());
        assert!(read.contains("t", "x") && !read.contains("t", "y") && !read.contains("u", "x"));
        read.note("t", &[Matcher::equal("a", "b")], found.iter());
        assert!(read.contains("t", "y"));
        let many: Vec<Labels> = (0..MAX_NAMES + 5).map(|i| series(&i.to_string())).collect();
        read.note("u", &[], many.iter());
        let names = read.names.lock();
        assert_eq!((names.count, names.refused), (MAX_NAMES, 7));
    }
}
