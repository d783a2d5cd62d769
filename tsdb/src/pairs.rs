//! Pairs of senders: servers that scrape the same targets and write the same series, told apart by the label `__replica__`,
//! and belonging together by the label `cluster`. One of them is taken, until it is silent for [`FAILOVER_MS`]; what others
//! write meanwhile is left out and counted, not refused. What is taken loses `__replica__`, so that the series is one.
//!
//! Who is taken is known to this edge alone and is forgotten with the process: after a start the first to write is taken.
//! Where the times of both happen to be equal, a sample is its series and timestamp anyway.

use std::collections::HashMap;
use std::sync::Arc;

use model::Labels;
use parking_lot::Mutex;

/// As long as Mimir waits by default.
const FAILOVER_MS: i64 = 30_000;
const CLUSTER: &str = "cluster";
const REPLICA: &str = "__replica__";
/// Of a tenant. Past it the clusters that were silent longest are forgotten.
const MAX_CLUSTERS: usize = 10_000;

/// Who wrote a series.
#[derive(Debug, PartialEq, Eq)]
pub struct Sender {
    cluster: Arc<str>,
    replica: Arc<str>,
}

/// The sender that a series names, and the series without it.
pub fn sender_of(labels: &Labels) -> Option<(Labels, Arc<Sender>)> {
    let find = |name: &str| labels.iter().find(|label| label.name.as_ref() == name).map(|label| label.value.clone());
    let (replica, cluster) = (find(REPLICA)?, find(CLUSTER)?);
    Some((labels.without(&[REPLICA]), Arc::new(Sender { cluster, replica })))
}

#[derive(Debug, Default)]
pub struct Pairs {
    /// By tenant and cluster.
    taken: Mutex<HashMap<String, HashMap<Arc<str>, Taken>>>,
}

#[derive(Debug)]
struct Taken {
    replica: Arc<str>,
    last_ms: i64,
}

impl Pairs {
    /// Whether what a sender writes now is taken.
    pub fn takes(&self, tenant: &str, sender: &Sender, now_ms: i64) -> bool {
        let mut tenants = self.taken.lock();
        if !tenants.contains_key(tenant) {
            tenants.insert(tenant.to_owned(), HashMap::new());
        }
        let Some(clusters) = tenants.get_mut(tenant) else { return true };
        if clusters.len() >= MAX_CLUSTERS && !clusters.contains_key(&sender.cluster) {
            let oldest = clusters.iter().min_by_key(|(_, taken)| taken.last_ms).map(|(cluster, _)| cluster.clone());
            oldest.map(|cluster| clusters.remove(&cluster));
        }
        let begun = || Taken { replica: sender.replica.clone(), last_ms: now_ms };
        let taken = clusters.entry(sender.cluster.clone()).or_insert_with(begun);
        if taken.replica != sender.replica {
            if now_ms - taken.last_ms < FAILOVER_MS {
                return false;
            }
            tracing::info!(cluster = %sender.cluster, was = %taken.replica, is = %sender.replica, "another replica is taken");
            taken.replica = sender.replica.clone();
        }
        taken.last_ms = now_ms;
        true
    }
}

/// One request's look at the pairs: a sender is asked for once.
pub struct PairsVisit<'a> {
    pairs: &'a Pairs,
    pub tenant: &'a str,
    now_ms: i64,
    last: Option<(Arc<Sender>, bool)>,
    /// Samples left out.
    pub left_out: u64,
}

impl<'a> PairsVisit<'a> {
    pub fn new(pairs: &'a Pairs, tenant: &'a str, now_ms: i64) -> PairsVisit<'a> {
        PairsVisit { pairs, tenant, now_ms, last: None, left_out: 0 }
    }

    /// Whether so many samples of a sender are taken.
    pub fn takes(&mut self, sender: &Arc<Sender>, samples: usize) -> bool {
        let known = self.last.as_ref().filter(|(last, _)| last == sender).map(|(_, taken)| *taken);
        let is_taken = known.unwrap_or_else(|| self.pairs.takes(self.tenant, sender, self.now_ms));
        if known.is_none() {
            self.last = Some((sender.clone(), is_taken));
        }
        self.left_out += if is_taken { 0 } else { samples as u64 };
        is_taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What senders write at some second must be taken or not.
    fn check(writes: &[(&str, &str, i64, bool)]) {
        let pairs = Pairs::default();
        for (cluster, replica, second, expected) in writes {
            let labels = Labels::from_pairs([("a", "b"), (CLUSTER, *cluster), (REPLICA, *replica)]);
            let (series, sender) = sender_of(&labels).expect("it names one");
            assert_eq!(series, Labels::from_pairs([("a", "b"), (CLUSTER, *cluster)]));
            assert_eq!(pairs.takes("t", &sender, second * 1000), *expected, "{second} in {writes:?}");
            assert!(pairs.takes(replica, &sender, second * 1000), "tenants are apart");
        }
    }

    #[test]
    fn one_of_a_pair_is_taken() {
        check(&[("x", "a", 0, true), ("x", "b", 5, false), ("x", "a", 15, true), ("x", "b", 20, false)]);
        check(&[("x", "a", 0, true), ("x", "b", 29, false), ("x", "b", 30, true), ("x", "a", 31, false)]);
        check(&[("x", "a", 0, true), ("y", "b", 0, true), ("x", "b", 0, false), ("y", "a", 0, false)]);
    }

    #[test]
    fn a_series_without_both_labels_has_no_sender() {
        assert!(sender_of(&Labels::from_pairs([("a", "b"), (CLUSTER, "x")])).is_none());
        assert!(sender_of(&Labels::from_pairs([("a", "b"), (REPLICA, "x")])).is_none());
    }

    #[test]
    fn clusters_are_bounded() {
        let pairs = Pairs::default();
        for i in 0..MAX_CLUSTERS as i64 + 5 {
            let sender = Sender { cluster: i.to_string().into(), replica: "a".into() };
            assert!(pairs.takes("t", &sender, i));
        }
        assert_eq!(pairs.taken.lock()["t"].len(), MAX_CLUSTERS);
    }
}
