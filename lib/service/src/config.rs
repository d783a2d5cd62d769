//! The configuration file: Prometheus' schema, with `logs`, `bus`, `storage.logs`, `limits` of our own beside it.
//!
//! Raw text → [`Config`] (every field known, every regex compiled) → what each part takes from it. Unknown fields are
//! refused with line and column. Fields of Prometheus' that are accepted but do nothing here yet are listed by
//! [`Config::unsupported`], and said at start.

mod logs;
mod otlp;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use logs::{
    KubernetesMetadata, LinePattern, LogLineFormat, LogSink, LogSource, Logs, Multiline, MultilineRule, RateLimit,
    RateLimitBy, Redact, RedactPreset, SinkEncoding, SinkKind, SyslogListener, SyslogProtocol, Timestamp, Traces,
    Transform,
};
use model::{ByteSize, DurationMs, RelabelConfig};
pub use otlp::{Otlp, TranslationStrategy};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{}: {message}", path.display())]
    Parse { path: PathBuf, message: String },
}

/// Reads a YAML file into `T`, with file, line and column in the error.
pub fn load<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T, ConfigError> {
    parse(path, &read(path)?)
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })
}

/// Parses YAML text that came from `path`.
pub fn parse<T: for<'de> Deserialize<'de>>(path: &Path, text: &str) -> Result<T, ConfigError> {
    serde_saphyr::from_str(text)
        .map_err(|error| ConfigError::Parse { path: path.to_owned(), message: error.to_string() })
}

type Unsupported = Option<IgnoredAny>;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub global: Global,
    pub rule_files: Vec<String>,
    pub scrape_configs: Vec<ScrapeConfig>,
    pub alerting: Alerting,
    pub storage: Storage,
    pub logs: Logs,
    pub bus: Bus,
    pub limits: Limits,
    pub otlp: Otlp,
    runtime: Unsupported,
    scrape_config_files: Unsupported,
    remote_write: Unsupported,
    remote_read: Unsupported,
    tracing: Unsupported,
    tenants: Unsupported,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Global {
    pub scrape_interval: DurationMs,
    pub scrape_timeout: DurationMs,
    pub evaluation_interval: DurationMs,
    pub rule_query_offset: DurationMs,
    pub external_labels: BTreeMap<String, String>,
    pub body_size_limit: Unsupported,
    pub sample_limit: Option<u64>,
    pub label_limit: Unsupported,
    pub label_name_length_limit: Unsupported,
    pub label_value_length_limit: Unsupported,
    pub target_limit: Unsupported,
    pub keep_dropped_targets: Unsupported,
    pub query_log_file: Unsupported,
    pub scrape_failure_log_file: Unsupported,
    pub scrape_protocols: Unsupported,
    pub scrape_native_histograms: Unsupported,
    pub always_scrape_classic_histograms: Unsupported,
    pub convert_classic_histograms_to_nhcb: Unsupported,
    pub extra_scrape_metrics: Unsupported,
    pub metric_name_validation_scheme: Unsupported,
    pub metric_name_escaping_scheme: Unsupported,
}

impl Default for Global {
    fn default() -> Self {
        Global {
            scrape_interval: DurationMs(60_000),
            scrape_timeout: DurationMs(10_000),
            evaluation_interval: DurationMs(60_000),
            rule_query_offset: DurationMs(0),
            external_labels: BTreeMap::new(),
            body_size_limit: None,
            sample_limit: None,
            label_limit: None,
            label_name_length_limit: None,
            label_value_length_limit: None,
            target_limit: None,
            keep_dropped_targets: None,
            query_log_file: None,
            scrape_failure_log_file: None,
            scrape_protocols: None,
            scrape_native_histograms: None,
            always_scrape_classic_histograms: None,
            convert_classic_histograms_to_nhcb: None,
            extra_scrape_metrics: None,
            metric_name_validation_scheme: None,
            metric_name_escaping_scheme: None,
        }
    }
}

/// One scrape job. Service discovery other than `static_configs` is accepted and named by [`Config::unsupported`].
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScrapeConfig {
    pub job_name: String,
    pub scrape_interval: Option<DurationMs>,
    pub scrape_timeout: Option<DurationMs>,
    pub metrics_path: String,
    pub scheme: String,
    pub params: BTreeMap<String, Vec<String>>,
    pub honor_labels: bool,
    pub honor_timestamps: bool,
    pub static_configs: Vec<StaticConfig>,
    pub relabel_configs: Vec<RelabelConfig>,
    pub metric_relabel_configs: Vec<RelabelConfig>,
    pub sample_limit: Option<u64>,
    pub basic_auth: Option<BasicAuth>,
    pub authorization: Option<Authorization>,
    pub bearer_token: Option<String>,
    pub bearer_token_file: Option<PathBuf>,
    #[serde(flatten)]
    pub unsupported: UnsupportedScrape,
}

impl Default for ScrapeConfig {
    fn default() -> Self {
        ScrapeConfig {
            job_name: String::new(),
            scrape_interval: None,
            scrape_timeout: None,
            metrics_path: "/metrics".to_owned(),
            scheme: "http".to_owned(),
            params: BTreeMap::new(),
            honor_labels: false,
            honor_timestamps: true,
            static_configs: Vec::new(),
            relabel_configs: Vec::new(),
            metric_relabel_configs: Vec::new(),
            sample_limit: None,
            basic_auth: None,
            authorization: None,
            bearer_token: None,
            bearer_token_file: None,
            unsupported: UnsupportedScrape::default(),
        }
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StaticConfig {
    pub targets: Vec<String>,
    pub labels: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BasicAuth {
    pub username: String,
    pub username_file: Option<PathBuf>,
    pub password: String,
    pub password_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Authorization {
    #[serde(rename = "type")]
    pub kind: String,
    pub credentials: String,
    pub credentials_file: Option<PathBuf>,
}

impl Default for Authorization {
    fn default() -> Self {
        Authorization { kind: "Bearer".to_owned(), credentials: String::new(), credentials_file: None }
    }
}

/// `alerting`: where alerts go besides the router in this process.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Alerting {
    pub alert_relabel_configs: Vec<RelabelConfig>,
    pub alertmanagers: Vec<AlertmanagerConfig>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AlertmanagerConfig {
    pub static_configs: Vec<StaticConfig>,
    pub scheme: String,
    pub path_prefix: String,
    pub timeout: DurationMs,
    pub api_version: String,
    #[serde(flatten)]
    pub unsupported: UnsupportedAlertmanager,
}

impl Default for AlertmanagerConfig {
    fn default() -> Self {
        AlertmanagerConfig {
            static_configs: Vec::new(),
            scheme: "http".to_owned(),
            path_prefix: "/".to_owned(),
            timeout: DurationMs(10_000),
            api_version: "v2".to_owned(),
            unsupported: UnsupportedAlertmanager::default(),
        }
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Storage {
    pub tsdb: TsdbStorage,
    pub logs: LogStorage,
    exemplars: Unsupported,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TsdbStorage {
    /// Accepted for Prometheus' sake: samples of any age within retention are ordinary here.
    out_of_order_time_window: Unsupported,
    stale_series_compaction_threshold: Unsupported,
    pub retention: Retention,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogStorage {
    pub retention: Retention,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    pub time: Option<DurationMs>,
    /// Of samples; lines are kept by time alone.
    pub size: Option<ByteSize>,
    percentage: Unsupported,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bus {
    pub kafka: Option<Kafka>,
    pub embedded: Embedded,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Kafka {
    pub brokers: String,
    pub topic_prefix: String,
    pub partitions: u32,
    pub replication_factor: u32,
    /// Settings handed to librdkafka as they are.
    pub options: BTreeMap<String, String>,
}

impl Default for Kafka {
    fn default() -> Self {
        Kafka {
            brokers: String::new(),
            topic_prefix: "binnacle.".to_owned(),
            partitions: 1,
            replication_factor: 1,
            options: BTreeMap::new(),
        }
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Embedded {
    pub segment_bytes: Option<u64>,
    pub max_topic_bytes: Option<u64>,
    pub reserve_bytes: Option<u64>,
}

/// Refusals at the edge; what is over a limit is refused alone, with its reason.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    pub max_active_series: usize,
    /// Series of one metric name; 0 for no limit.
    pub max_series_per_metric: usize,
    pub max_streams: usize,
    pub max_labels: usize,
    pub max_label_name_bytes: usize,
    pub max_label_value_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_active_series: 10_000_000,
            max_series_per_metric: 0,
            max_streams: 1_000_000,
            max_labels: 128,
            max_label_name_bytes: 1024,
            max_label_value_bytes: 16 * 1024,
        }
    }
}

macro_rules! unsupported {
    ($(#[$doc:meta])* $name:ident: $($field:ident),* $(,)?) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, Deserialize)]
        #[serde(default)]
        pub struct $name { $($field: Unsupported,)* }

        impl $name {
            fn names(&self) -> Vec<&'static str> {
                let mut names = Vec::new();
                $(if self.$field.is_some() { names.push(stringify!($field)); })*
                names
            }
        }
    };
}

unsupported!(
    /// Fields of a scrape job that are understood but do nothing yet.
    UnsupportedScrape:
    scrape_protocols,
    fallback_scrape_protocol,
    scrape_native_histograms,
    always_scrape_classic_histograms,
    convert_classic_histograms_to_nhcb,
    extra_scrape_metrics,
    track_timestamps_staleness,
    body_size_limit,
    label_limit,
    label_name_length_limit,
    label_value_length_limit,
    target_limit,
    keep_dropped_targets,
    native_histogram_bucket_limit,
    native_histogram_min_bucket_factor,
    metric_name_validation_scheme,
    metric_name_escaping_scheme,
    scrape_failure_log_file,
    enable_compression,
    follow_redirects,
    enable_http2,
    http_headers,
    oauth2,
    tls_config,
    proxy_url,
    no_proxy,
    proxy_from_environment,
    proxy_connect_header,
    azure_sd_configs,
    consul_sd_configs,
    digitalocean_sd_configs,
    dns_sd_configs,
    docker_sd_configs,
    dockerswarm_sd_configs,
    ec2_sd_configs,
    eureka_sd_configs,
    file_sd_configs,
    gce_sd_configs,
    hetzner_sd_configs,
    http_sd_configs,
    ionos_sd_configs,
    kubernetes_sd_configs,
    kuma_sd_configs,
    lightsail_sd_configs,
    linode_sd_configs,
    marathon_sd_configs,
    nerve_sd_configs,
    nomad_sd_configs,
    openstack_sd_configs,
    ovhcloud_sd_configs,
    puppetdb_sd_configs,
    scaleway_sd_configs,
    serverset_sd_configs,
    stackit_sd_configs,
    triton_sd_configs,
    uyuni_sd_configs,
    vultr_sd_configs,
);

unsupported!(
    /// Fields of where alerts go that are understood but do nothing yet.
    UnsupportedAlertmanager:
    relabel_configs,
    alert_relabel_configs,
    basic_auth,
    authorization,
    bearer_token,
    bearer_token_file,
    oauth2,
    sigv4,
    tls_config,
    proxy_url,
    no_proxy,
    proxy_from_environment,
    proxy_connect_header,
    http_headers,
    follow_redirects,
    enable_http2,
    azure_sd_configs,
    consul_sd_configs,
    dns_sd_configs,
    docker_sd_configs,
    ec2_sd_configs,
    eureka_sd_configs,
    file_sd_configs,
    gce_sd_configs,
    http_sd_configs,
    kubernetes_sd_configs,
    marathon_sd_configs,
    nomad_sd_configs,
    openstack_sd_configs,
);

impl Config {
    /// What the file asks for and this version accepts without doing it.
    pub fn unsupported(&self) -> Vec<String> {
        let top = [
            ("runtime", &self.runtime),
            ("scrape_config_files", &self.scrape_config_files),
            ("remote_write", &self.remote_write),
            ("remote_read", &self.remote_read),
            ("tracing", &self.tracing),
            ("tenants", &self.tenants),
            ("storage.exemplars", &self.storage.exemplars),
            ("storage.tsdb.retention.percentage", &self.storage.tsdb.retention.percentage),
        ];
        let mut names: Vec<String> =
            top.iter().filter(|(_, field)| field.is_some()).map(|(name, _)| (*name).to_owned()).collect();
        names.extend(self.storage.logs.retention.size.map(|_| "storage.logs.retention.size".to_owned()));
        for (i, target) in self.alerting.alertmanagers.iter().enumerate() {
            names.extend(target.unsupported.names().iter().map(|field| format!("alerting.alertmanagers[{i}].{field}")));
        }
        for job in &self.scrape_configs {
            names.extend(
                job.unsupported.names().iter().map(|field| format!("scrape_configs[{}].{field}", job.job_name)),
            );
        }
        names
    }

    /// Checks what the types cannot say. Returns every fault, each naming its field.
    pub fn validate(&self) -> Result<(), String> {
        let mut names = std::collections::HashSet::new();
        for (i, job) in self.scrape_configs.iter().enumerate() {
            if job.job_name.is_empty() {
                return Err(format!("scrape_configs[{i}]: job_name is empty"));
            }
            if !names.insert(&job.job_name) {
                return Err(format!(
                    "scrape_configs[{i}]: found multiple scrape configs with job name {:?}",
                    job.job_name
                ));
            }
            let interval = job.scrape_interval.unwrap_or(self.global.scrape_interval);
            if interval.0 == 0 || job.scrape_timeout.is_some_and(|timeout| timeout > interval) {
                return Err(format!("scrape_configs[{}]: scrape timeout greater than scrape interval", job.job_name));
            }
            if !matches!(job.scheme.as_str(), "http" | "https") {
                return Err(format!("scrape_configs[{}].scheme: {:?} is not http or https", job.job_name, job.scheme));
            }
        }
        self.logs.validate()?;
        self.otlp.validate()?;
        if self.bus.kafka.as_ref().is_some_and(|kafka| kafka.brokers.is_empty() || kafka.partitions == 0) {
            return Err("bus.kafka: brokers and at least one partition are needed".to_owned());
        }
        Ok(())
    }
}

/// Loads and validates a configuration file; answers its text too.
pub fn load_config(path: &Path) -> Result<(Config, String), ConfigError> {
    let text = read(path)?;
    let config: Config = parse(path, &text)?;
    config.validate().map_err(|message| ConfigError::Parse { path: path.to_owned(), message })?;
    Ok((config, text))
}

/// Ends of the keys whose values nobody should see.
const SECRETS: [&str; 12] = [
    "password",
    "token",
    "credentials",
    "secret",
    "api_key",
    "secret_key",
    "access_key",
    "routing_key",
    "service_key",
    "user_key",
    "token_id",
    "webhook_url",
];
/// Addresses that let whoever knows them send, by what they are within.
const SECRET_ADDRESSES: [(&str, &str); 3] =
    [("global", "slack_api_url"), ("slack_configs", "api_url"), ("webhook_configs", "url")];
/// Maps of whose values none should be seen.
const SECRET_MAPS: [&str; 3] = ["headers", "http_headers", "proxy_connect_header"];
const MASK: &str = "<secret>";

/// A configuration as YAML without its secrets: passwords and keys, values of headers, passwords in addresses. What cannot
/// be read is not shown at all.
pub fn mask_secrets(text: &str) -> String {
    if text.trim().is_empty() {
        return String::new();
    }
    let Ok(mut tree) = serde_saphyr::from_str::<Value>(text) else { return String::new() };
    mask(&mut tree, "", false);
    serde_saphyr::to_string(&tree).unwrap_or_default()
}

/// `within` is the key that holds the value.
fn mask(value: &mut Value, within: &str, is_secret: bool) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let hides = SECRETS.iter().any(|end| key.ends_with(end))
                    || (SECRET_MAPS.contains(&key.as_str()) && within != "email_configs")
                    || SECRET_ADDRESSES.contains(&(within, key));
                mask(value, key, is_secret || hides);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| mask(item, within, is_secret)),
        Value::Null => {}
        other if is_secret => *other = MASK.into(),
        Value::String(text) => {
            if let Some(masked) = without_password(text) {
                *text = masked;
            }
        }
        Value::Bool(_) | Value::Number(_) => {}
    }
}

/// `scheme://user:password@host…` with `xxxxx` for the password, which keeps it an address.
fn without_password(address: &str) -> Option<String> {
    let (scheme, rest) = address.split_once("://")?;
    let (authority, _) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (user, _) = authority.rsplit_once('@')?;
    let (name, _) = user.split_once(':')?;
    Some(format!("{scheme}://{name}:xxxxx{}", &rest[user.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&[&str], &str>) {
        let parsed = parse::<Config>(Path::new("x.yml"), text).and_then(|config| {
            let checked = config.validate().map(|()| config.unsupported());
            checked.map_err(|message| ConfigError::Parse { path: "x.yml".into(), message })
        });
        match (parsed, expected) {
            (Ok(unsupported), Ok(names)) => assert_eq!(unsupported, names, "{text}"),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error} does not say {part:?}"),
            (got, expected) => panic!("{text}: {got:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let text = "a: {username: u, password: hunter2}\nb:\n  credentials: >-\n    hunter2\n  password_file: /f\nc:\n- \
                    'http://u:hunter2@h:1/x?y'\nhttp_headers: {X: {values: [hunter2]}}\ncommand: hunter2 # shown\n";
        let masked = mask_secrets(text);
        assert_eq!(masked.matches("hunter2").count(), 1, "{masked}");
        for kept in ["username: u", "/f", "http://u:xxxxx@h:1/x?y"] {
            assert!(masked.contains(kept), "{masked}");
        }
        assert_eq!(mask_secrets("a: ["), "");
        let text = "global: {smtp_auth_password: hunter2, slack_api_url: 'http://hunter2', opsgenie_api_url: 'http://shown'}\n\
                    receivers:\n- name: x\n  webhook_configs: [{url: 'http://hunter2', max_alerts: 3}]\n  \
                    pagerduty_configs: [{routing_key: hunter2, url: 'http://shown'}]\n";
        let masked = mask_secrets(text);
        assert_eq!((masked.matches("hunter2").count(), masked.matches("http://shown").count()), (0, 2), "{masked}");
    }

    #[test]
    fn a_prometheus_file_is_understood_and_its_gaps_are_named() {
        check("", Ok(&[]));
        check(
            "global: {scrape_interval: 15s, external_labels: {a: b}}\n\
             scrape_configs:\n- job_name: x\n  static_configs: [{targets: ['a:1']}]\n  kubernetes_sd_configs: [{role: pod}]\n\
             remote_write: [{url: 'http://x'}]\n",
            Ok(&["remote_write", "scrape_configs[x].kubernetes_sd_configs"]),
        );
        check("storage: {tsdb: {out_of_order_time_window: 30m}, logs: {retention: {time: 3d}}}", Ok(&[]));
        check("storage: {tsdb: {retention: {size: 10GB}}}", Ok(&[]));
        check("storage: {logs: {retention: {size: 10GB}}}", Ok(&["storage.logs.retention.size"]));
    }

    #[test]
    fn mistakes_are_refused_with_their_place() {
        check("globl: {}", Err("globl"));
        check("global:\n  scrape_interval: 15x", Err("line 2"));
        check("storage: {tsdb: {retention: {size: much}}}", Err("is no size"));
        check("scrape_configs:\n- job_name: x\n  nonsense: 1", Err("nonsense"));
        check("scrape_configs: [{job_name: x}, {job_name: x}]", Err("multiple scrape configs"));
        check("scrape_configs:\n- job_name: x\n  relabel_configs: [{regex: '('}]", Err("unclosed group"));
        check("logs: {sources: [{format: cri}]}", Err("paths is empty"));
    }
}
