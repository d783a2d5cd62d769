//! Sending about itself, under the names that rules for Prometheus know, by receiver.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use service::metrics::{Counter, CounterBy, Family, Gauge, Metrics};

use super::Remote;

type GaugeBy = Family<Vec<(&'static str, String)>, Gauge>;
type SecondsBy = Family<Vec<(&'static str, String)>, Gauge<f64, AtomicU64>>;

#[derive(Clone, Default)]
pub struct Counters {
    samples: CounterBy,
    histograms: CounterBy,
    exemplars: CounterBy,
    metadata: CounterBy,
    failed: CounterBy,
    retried: CounterBy,
    dropped: CounterBy,
    bytes: CounterBy,
    skipped: CounterBy,
    pending: GaugeBy,
    shards: GaugeBy,
    desired: GaugeBy,
    max_shards: GaugeBy,
    min_shards: GaugeBy,
    sent_time: SecondsBy,
    pub highest_time: Gauge<f64, AtomicU64>,
}

impl Counters {
    pub fn register(&self, metrics: &Metrics) {
        metrics.register_known(|registry| {
            let counters = [
                ("samples", "Samples sent", &self.samples),
                ("histograms", "Histograms sent", &self.histograms),
                ("exemplars", "Exemplars sent", &self.exemplars),
                ("metadata", "Descriptions sent", &self.metadata),
                ("samples_failed", "Samples that the receiver refused", &self.failed),
                ("samples_retried", "Samples sent again", &self.retried),
                ("samples_dropped", "Samples not sent, by relabelling or age", &self.dropped),
                ("bytes", "Bytes sent, compressed", &self.bytes),
            ];
            for (name, help, counter) in counters {
                registry.register(format!("remote_storage_{name}"), help, counter.clone());
            }
            let gauges = [
                ("samples_pending", "Samples read and not sent", &self.pending),
                ("shards", "Shards", &self.shards),
                ("shards_desired", "Shards wanted", &self.desired),
                ("shards_max", "Shards at most", &self.max_shards),
                ("shards_min", "Shards at least", &self.min_shards),
            ];
            for (name, help, gauge) in gauges {
                registry.register(format!("remote_storage_{name}"), help, gauge.clone());
            }
            let help = "The newest sample that was sent";
            registry.register("remote_storage_queue_highest_sent_timestamp_seconds", help, self.sent_time.clone());
            let help = "The newest sample that came in";
            registry.register("remote_storage_highest_timestamp_in_seconds", help, self.highest_time.clone());
        });
        metrics.register(|registry| {
            let help = "Records of the bus that were gone before they were sent";
            registry.register("agent_remote_write_records_skipped", help, self.skipped.clone());
        });
    }

    /// Those of one receiver.
    pub fn of(&self, remote: &Remote, shards: usize) -> RemoteCounters {
        let labels = vec![("remote_name", remote.name.clone()), ("url", shown_url(&remote.config.url))];
        let counter = |family: &CounterBy| family.get_or_create(&labels).clone();
        let gauge = |family: &GaugeBy, value: usize| {
            family.get_or_create(&labels).set(value as i64);
        };
        let queue = &remote.config.queue_config;
        gauge(&self.shards, shards);
        gauge(&self.desired, shards);
        gauge(&self.max_shards, queue.max_shards);
        gauge(&self.min_shards, queue.min_shards);
        RemoteCounters {
            samples: counter(&self.samples),
            histograms: counter(&self.histograms),
            exemplars: counter(&self.exemplars),
            metadata: counter(&self.metadata),
            failed: counter(&self.failed),
            retried: counter(&self.retried),
            dropped: counter(&self.dropped),
            bytes: counter(&self.bytes),
            skipped: counter(&self.skipped),
            pending: self.pending.get_or_create(&labels).clone(),
            sent_time: Arc::new(self.sent_time.get_or_create(&labels).clone()),
        }
    }
}

/// Without what only the receiver is to know.
fn shown_url(url: &str) -> String {
    let without_query = url.split('?').next().unwrap_or(url);
    match without_query.split_once("://") {
        Some((scheme, rest)) => {
            let host = rest.split('/').next().unwrap_or(rest);
            let user = host.rfind('@').map_or(0, |at| at + 1);
            format!("{scheme}://{}", &rest[user..])
        }
        None => without_query.to_owned(),
    }
}

#[derive(Clone)]
pub struct RemoteCounters {
    pub samples: Counter,
    pub histograms: Counter,
    pub exemplars: Counter,
    pub metadata: Counter,
    pub failed: Counter,
    pub retried: Counter,
    pub dropped: Counter,
    pub bytes: Counter,
    pub skipped: Counter,
    pub pending: Gauge,
    pub sent_time: Arc<Gauge<f64, AtomicU64>>,
}
