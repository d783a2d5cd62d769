//! A set of samples taken at one moment, and its way to the bus.

use std::time::Duration;

use bus::{Producer, Topic};
use model::{Batch, Labels, LabelsBuilder, METRIC_NAME, MetricBatch, Sample, SeriesSamples};

/// Samples of one collection, all of one instant, with labels that they share.
pub struct Gathered {
    t_ms: i64,
    shared: Labels,
    series: Vec<SeriesSamples>,
}

impl Gathered {
    pub fn new(t_ms: i64, shared: Labels) -> Gathered {
        Gathered { t_ms, shared, series: Vec::new() }
    }

    /// Adds a sample; labels with empty values are left out.
    pub fn add(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let mut builder: LabelsBuilder = self.shared.to_builder();
        builder.set(METRIC_NAME, name);
        for (label, value) in labels {
            builder.set(*label, *value);
        }
        self.series.push(SeriesSamples::new(builder.build(), vec![Sample { t_ms: self.t_ms, value }]));
    }

    pub fn series(&self) -> &[SeriesSamples] {
        &self.series
    }

    /// `name{labels} value` lines, sorted: what tests compare.
    #[cfg(test)]
    pub fn lines(&self) -> Vec<String> {
        let line = |series: &SeriesSamples| {
            let name = series.labels.metric_name().unwrap_or_default();
            let labels = series.labels.without(&[METRIC_NAME, "job", "instance"]);
            format!("{name}{labels} {}", series.samples[0].value)
        };
        let mut lines: Vec<String> = self.series.iter().map(line).collect();
        lines.sort();
        lines
    }

    pub fn into_batch(self, tenant: &str) -> MetricBatch {
        MetricBatch::new(tenant, self.series)
    }
}

/// Appends samples, tried once and for no longer than `limit`: samples of now are of little use later, and the next
/// collection comes soon. Producers wait under pressure, some of them for ever.
pub async fn ship(producer: &dyn Producer, batch: MetricBatch, what: &'static str, limit: Duration) -> bool {
    if batch.series.is_empty() {
        return true;
    }
    let appended = bus::append_all(producer, Topic::Metrics, Batch::Metrics(batch));
    match tokio::time::timeout(limit, appended).await {
        Ok(Ok(_)) => true,
        Ok(Err(error)) => {
            tracing::warn!(%error, what, "samples were refused by the bus");
            false
        }
        Err(_) => {
            tracing::warn!(limit_ms = limit.as_millis() as u64, what, "samples were not taken in time and are dropped");
            false
        }
    }
}
