//! Self-metrics: one registry per process, `binnacle_<part>_<what>_<unit>`.
//!
//! A part keeps its counters (they are cheap shared handles) and registers them once at start.

use std::sync::Arc;

use parking_lot::Mutex;
pub use prometheus_client::collector::Collector;
pub use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::EncodeMetric;
use prometheus_client::metrics::counter::ConstCounter;
pub use prometheus_client::metrics::counter::Counter;
pub use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
pub use prometheus_client::metrics::gauge::Gauge;
pub use prometheus_client::registry::Registry;

/// Counters told apart by labels: `by.get_or_create(&vec![("reason", "full".to_owned())])`.
pub type CounterBy = Family<Vec<(&'static str, String)>, Counter>;

/// Encodes counters that are kept elsewhere, for a [`Collector`].
pub fn encode_counters(mut encoder: DescriptorEncoder, counters: &[(&str, u64)]) -> Result<(), std::fmt::Error> {
    for (name, value) in counters {
        let counter = ConstCounter::new(*value);
        let metric = encoder.encode_descriptor(name, "Counted since the start", None, counter.metric_type())?;
        counter.encode(metric)?;
    }
    Ok(())
}

/// Encodes a gauge that is kept elsewhere, for a [`Collector`].
pub fn encode_gauge(
    mut encoder: DescriptorEncoder,
    name: &str,
    help: &str,
    value: usize,
) -> Result<(), std::fmt::Error> {
    let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
    let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
    gauge.encode(metric)
}

/// The process's registry; clones share it.
#[derive(Clone)]
pub struct Metrics(Arc<Mutex<Registries>>);

struct Registries {
    own: Registry,
    /// Under names that users' rules and dashboards know from Prometheus.
    known: Registry,
}

impl Default for Metrics {
    fn default() -> Self {
        let registries =
            Registries { own: Registry::with_prefix("binnacle"), known: Registry::with_prefix("prometheus") };
        Metrics(Arc::new(Mutex::new(registries)))
    }
}

impl Metrics {
    /// Registers metrics. Names get the prefix `binnacle_`; counters end in `_total` by themselves.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.0.lock().own);
    }

    /// Registers metrics that Prometheus has too: their names get the prefix `prometheus_`.
    pub fn register_known(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.0.lock().known);
    }

    /// OpenMetrics text, version 1.0.0.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        let registries = self.0.lock();
        let encoded = prometheus_client::encoding::text::encode_registry(&mut text, &registries.known)
            .and_then(|()| prometheus_client::encoding::text::encode(&mut text, &registries.own));
        if let Err(error) = encoded {
            tracing::error!(%error, "self-metrics could not be encoded");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_exposed_under_our_prefix() {
        let metrics = Metrics::default();
        let lines: Counter = Counter::default();
        metrics.register(|registry| registry.register("agent_lines", "Lines", lines.clone()));
        lines.inc_by(3);
        metrics.register_known(|registry| registry.register("sd_updates", "Updates", lines.clone()));
        let text = metrics.encode();
        assert!(
            text.contains("binnacle_agent_lines_total 3") && text.contains("prometheus_sd_updates_total 3"),
            "{text}"
        );
        assert_eq!(text.matches("# EOF").count(), 1, "{text}");
    }
}
