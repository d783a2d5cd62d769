//! Alerts on their way to the router: bounded, sent in batches, repeated until taken.
//!
//! What waits is kept by fingerprint: a newer state of an alert takes the place of one that was not sent yet, so that
//! a router that was away hears the truth of now, not the history.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use model::{Alert, Fingerprint};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{Notifier, Stats};

const MAX_WAITING: usize = 10_000;
const BATCH: usize = 256;
const RETRY: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Waiting {
    alerts: BTreeMap<Fingerprint, Alert>,
    order: VecDeque<Fingerprint>,
}

pub struct AlertQueue {
    waiting: Mutex<Waiting>,
    more: Notify,
    stats: Arc<Stats>,
}

impl AlertQueue {
    pub fn new(stats: Arc<Stats>) -> AlertQueue {
        AlertQueue { waiting: Mutex::default(), more: Notify::new(), stats }
    }

    /// Never waits; past the bound the oldest alert is dropped and counted.
    pub fn push(&self, alerts: impl Iterator<Item = Alert>) {
        let mut waiting = self.waiting.lock();
        for alert in alerts {
            let fingerprint = alert.fingerprint();
            if waiting.alerts.insert(fingerprint, alert).is_none() {
                waiting.order.push_back(fingerprint);
            }
            if waiting.order.len() > MAX_WAITING
                && let Some(oldest) = waiting.order.pop_front()
            {
                waiting.alerts.remove(&oldest);
                self.stats.alerts_dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.more.notify_one();
    }

    fn take(&self) -> Vec<Alert> {
        let mut waiting = self.waiting.lock();
        let count = waiting.order.len().min(BATCH);
        let fingerprints: Vec<Fingerprint> = waiting.order.drain(..count).collect();
        fingerprints.iter().filter_map(|fingerprint| waiting.alerts.remove(fingerprint)).collect()
    }

    /// Puts a batch that was not taken back in front, except where something newer waits already.
    fn put_back(&self, alerts: Vec<Alert>) {
        let mut waiting = self.waiting.lock();
        for alert in alerts.into_iter().rev() {
            let fingerprint = alert.fingerprint();
            if let std::collections::btree_map::Entry::Vacant(slot) = waiting.alerts.entry(fingerprint) {
                slot.insert(alert);
                waiting.order.push_front(fingerprint);
            }
        }
    }

    /// Sends until stopped.
    pub async fn run(&self, notifier: Arc<dyn Notifier>, stop: CancellationToken) {
        loop {
            let batch = self.take();
            if batch.is_empty() {
                tokio::select! {
                    () = self.more.notified() => continue,
                    () = stop.cancelled() => return,
                }
            }
            if let Err(error) = notifier.send(batch.clone()).await {
                tracing::warn!(error, alerts = batch.len(), "alerts could not be handed to the router; trying again");
                self.put_back(batch);
                tokio::select! {
                    () = tokio::time::sleep(RETRY) => {}
                    () = stop.cancelled() => return,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use model::Labels;

    use super::*;

    fn alert(name: &str, updated_at_ms: i64) -> Alert {
        Alert {
            labels: Labels::from_pairs([("alertname", name)]),
            annotations: Labels::default(),
            starts_at_ms: 0,
            ends_at_ms: 0,
            updated_at_ms,
            generator_url: String::new(),
            timeout: false,
        }
    }

    #[test]
    fn a_newer_state_replaces_one_that_waits() {
        let queue = AlertQueue::new(Arc::default());
        queue.push([alert("a", 1), alert("b", 1)].into_iter());
        let batch = queue.take();
        queue.push([alert("a", 2)].into_iter());
        queue.put_back(batch);
        let again = queue.take();
        let seen: Vec<_> = again.iter().map(|alert| (alert.name(), alert.updated_at_ms)).collect();
        assert_eq!(seen, [("b", 1), ("a", 2)]);
    }

    #[test]
    fn past_the_bound_the_oldest_is_dropped_and_counted() {
        let stats = Arc::new(Stats::default());
        let queue = AlertQueue::new(stats.clone());
        queue.push((0..MAX_WAITING + 3).map(|i| alert(&i.to_string(), 0)));
        assert_eq!(stats.counters()[3], ("rules_alerts_dropped", 3));
        assert_eq!(queue.take()[0].name(), "3");
    }
}
