//! `remote_write`: where samples go besides our own store.

use std::collections::BTreeMap;
use std::path::Path;

use model::{DurationMs, RelabelConfig};
use serde::Deserialize;

use super::Unsupported;
use super::http_fields::with_http;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum RemoteMessage {
    #[default]
    #[serde(rename = "prometheus.WriteRequest")]
    V1,
    #[serde(rename = "io.prometheus.write.v2.Request")]
    V2,
}

with_http!(
    RemoteWrite {
        url: String = String::new(),
        remote_timeout: DurationMs = DurationMs(30_000),
        headers: BTreeMap<String, String> = BTreeMap::new(),
        write_relabel_configs: Vec<RelabelConfig> = Vec::new(),
        name: String = String::new(),
        send_exemplars: bool = false,
        send_native_histograms: bool = false,
        queue_config: QueueConfig = QueueConfig::default(),
        metadata_config: MetadataConfig = MetadataConfig::default(),
        protobuf_message: RemoteMessage = RemoteMessage::V1,
        /// Refused: see [`RemoteWrite::validate`].
        sigv4: Unsupported = None,
        azuread: Unsupported = None,
        google_iam: Unsupported = None,
        /// Accepted for Prometheus' sake: what is sent is not rounded.
        round_robin_dns: bool = false,
    }
);

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueueConfig {
    /// Samples that may be under way together.
    pub capacity: usize,
    pub max_shards: usize,
    pub min_shards: usize,
    pub max_samples_per_send: usize,
    pub batch_send_deadline: DurationMs,
    pub min_backoff: DurationMs,
    pub max_backoff: DurationMs,
    pub retry_on_http_429: bool,
    /// Older samples are not sent; 0: all are.
    pub sample_age_limit: DurationMs,
}

impl Default for QueueConfig {
    fn default() -> Self {
        QueueConfig {
            capacity: 10_000,
            max_shards: 50,
            min_shards: 1,
            max_samples_per_send: 2_000,
            batch_send_deadline: DurationMs(5_000),
            min_backoff: DurationMs(30),
            max_backoff: DurationMs(5_000),
            retry_on_http_429: false,
            sample_age_limit: DurationMs(0),
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetadataConfig {
    pub send: bool,
    /// Accepted for Prometheus' sake: descriptions go with the samples they came with.
    pub send_interval: DurationMs,
    pub max_samples_per_send: usize,
}

impl Default for MetadataConfig {
    fn default() -> Self {
        MetadataConfig { send: true, send_interval: DurationMs(60_000), max_samples_per_send: 2_000 }
    }
}

impl RemoteWrite {
    pub fn validate(&self, base: &Path) -> Result<(), String> {
        if self.url.is_empty() {
            return Err("url for remote_write is empty".to_owned());
        }
        if !self.url.starts_with("http://") && !self.url.starts_with("https://") {
            return Err(format!("url: {:?} is no http or https address", self.url));
        }
        if self.sigv4.is_some() || self.azuread.is_some() || self.google_iam.is_some() {
            return Err("sigv4, azuread and google_iam are not supported".to_owned());
        }
        let queue = &self.queue_config;
        if queue.max_samples_per_send == 0 || queue.max_shards == 0 || queue.min_shards > queue.max_shards {
            return Err(
                "queue_config: at least one sample per send and one shard, min_shards at most max_shards".into()
            );
        }
        self.http(base).map(drop)
    }
}
