//! The configuration file: Prometheus' schema, with `logs`, `bus`, `storage.logs`, `limits`, `tenants` of our own beside
//! it.
//!
//! Raw text → [`Config`] (every field known, every regex compiled) → what each part takes from it. Unknown fields are
//! refused with line and column. Fields of Prometheus' that are accepted but do nothing here yet are listed by
//! [`Config::unsupported`], and said at start.

/// Fields that are understood but do nothing yet.
macro_rules! unsupported {
    ($(#[$doc:meta])* $name:ident: $($field:ident),* $(,)?) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, Deserialize)]
        #[serde(default)]
        pub struct $name { $($field: Unsupported,)* }

        impl $name {
            pub(crate) fn names(&self) -> Vec<&'static str> {
                let mut names = Vec::new();
                $(if self.$field.is_some() { names.push(stringify!($field)); })*
                names
            }
        }
    };
}

mod discovery;
mod http_fields;
mod limits;
mod logs;
mod otlp;
mod remote;
mod scrape;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use discovery::{
    DnsSd, FileSd, HttpSd, KubernetesNamespaces, KubernetesRole, KubernetesSd, KubernetesSelector, RecordType,
    SdConfigs,
};
pub use limits::{ByTenant, GivenLogLimits, Limits, LogLimits, TenantConfig, TenantLimits};
pub use logs::{
    KubernetesApi, KubernetesMetadata, KubernetesSource, LinePattern, LogLineFormat, LogSink, LogSource, Logs,
    Multiline, MultilineRule, RateLimit, RateLimitBy, Redact, RedactPreset, SinkEncoding, SinkKind, SyslogListener,
    SyslogProtocol, Timestamp, Traces, Transform,
};
use model::{ByteSize, DurationMs, RelabelConfig};
pub use otlp::{Otlp, TranslationStrategy};
pub use remote::{MetadataConfig, QueueConfig, RemoteMessage, RemoteWrite};
pub use scrape::{EscapingScheme, Global, ScrapeConfig, ScrapeProtocol, ValidationScheme};
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
    /// Files of more `scrape_configs`; the last part of a path may hold `*`.
    pub scrape_config_files: Vec<String>,
    pub remote_write: Vec<RemoteWrite>,
    runtime: Unsupported,
    remote_read: Unsupported,
    /// What is different for some, by name.
    pub tenants: BTreeMap<String, TenantConfig>,
    tracing: Unsupported,
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
    pub retention: LogRetention,
}

/// How long lines are kept: of a stream as the first of `streams` says that it matches, else as its tenant, else `time`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogRetention {
    pub time: Option<DurationMs>,
    /// The oldest lines go above this.
    pub size: Option<ByteSize>,
    pub tenants: BTreeMap<String, DurationMs>,
    pub streams: Vec<StreamRetention>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamRetention {
    /// Of all tenants where none is named.
    pub tenant: Option<String>,
    /// A stream selector, in LogQL.
    pub selector: String,
    pub period: DurationMs,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    pub time: Option<DurationMs>,
    pub size: Option<ByteSize>,
    /// Of tenants for which another time holds.
    pub tenants: BTreeMap<String, DurationMs>,
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
            ("remote_read", &self.remote_read),
            ("tracing", &self.tracing),
            ("storage.exemplars", &self.storage.exemplars),
            ("storage.tsdb.retention.percentage", &self.storage.tsdb.retention.percentage),
        ];
        let mut names: Vec<String> =
            top.iter().filter(|(_, field)| field.is_some()).map(|(name, _)| (*name).to_owned()).collect();
        for (i, target) in self.alerting.alertmanagers.iter().enumerate() {
            names.extend(target.unsupported.names().iter().map(|field| format!("alerting.alertmanagers[{i}].{field}")));
        }
        for job in &self.scrape_configs {
            names.extend(job.unsupported().iter().map(|field| format!("scrape_configs[{}].{field}", job.job_name)));
        }
        names
    }

    /// What each tenant may send and ask of lines.
    pub fn log_limits(&self) -> ByTenant<LogLimits> {
        ByTenant::new(&self.limits, &self.tenants)
    }

    /// Checks what the types cannot say. Returns every fault, each naming its field.
    pub fn validate(&self, base: &Path) -> Result<(), String> {
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
            job.validate(&self.global, base).map_err(|fault| format!("scrape_configs[{}]: {fault}", job.job_name))?;
        }
        let mut names = std::collections::HashSet::new();
        for (i, remote) in self.remote_write.iter().enumerate() {
            remote.validate(base).map_err(|fault| format!("remote_write[{i}]: {fault}"))?;
            if !remote.name.is_empty() && !names.insert(&remote.name) {
                return Err(format!("found multiple remote write configs with job name {:?}", remote.name));
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
    let mut config: Config = parse(path, &text)?;
    let base = path.parent().unwrap_or(Path::new("")).to_owned();
    config.read_scrape_files(&base)?;
    config.scrape_configs.iter_mut().for_each(|job| job.base.clone_from(&base));
    config.validate(&base).map_err(|message| ConfigError::Parse { path: path.to_owned(), message })?;
    Ok((config, text))
}

/// Files of `scrape_configs` alone.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ScrapeFile {
    scrape_configs: Vec<ScrapeConfig>,
}

impl Config {
    /// Adds the jobs of `scrape_config_files`, relative to `base`.
    fn read_scrape_files(&mut self, base: &Path) -> Result<(), ConfigError> {
        for pattern in &self.scrape_config_files {
            for path in matching_files(&base.join(pattern)) {
                self.scrape_configs.extend(load::<ScrapeFile>(&path)?.scrape_configs);
            }
        }
        Ok(())
    }
}

/// The files of a path whose last part may hold `*`, sorted; a path without one is itself.
pub fn matching_files(pattern: &Path) -> Vec<PathBuf> {
    let name = pattern.file_name().and_then(|name| name.to_str()).unwrap_or("");
    if !name.contains('*') {
        return vec![pattern.to_owned()];
    }
    let dir = pattern.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let matches = |found: &str| {
        let mut parts = name.split('*');
        let (first, last) = (parts.next().unwrap_or(""), name.rsplit('*').next().unwrap_or(""));
        let inner: Vec<&str> = parts.collect();
        let Some(mut rest) = found.strip_prefix(first).and_then(|rest| rest.strip_suffix(last)) else { return false };
        inner.split_last().map_or(&[][..], |(_, inner)| inner).iter().all(|part| match rest.find(part) {
            Some(at) => {
                rest = &rest[at + part.len()..];
                true
            }
            None => false,
        })
    };
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut found: Vec<PathBuf> = names.filter(|name| matches(name)).map(|name| dir.join(name)).collect();
    found.sort();
    found
}

/// Ends of the keys whose values nobody should see.
const SECRETS: [&str; 13] = [
    "client_certificate_key",
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
const SECRET_ADDRESSES: [(&str, &str); 4] =
    [("global", "slack_api_url"), ("slack_configs", "api_url"), ("webhook_configs", "url"), ("tls_config", "key")];
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
            let checked = config.validate(Path::new("")).map(|()| config.unsupported());
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
                    pagerduty_configs: [{routing_key: hunter2, url: 'http://shown', http_config: {tls_config: {key: hunter2}}}]\n";
        let masked = mask_secrets(text);
        assert_eq!((masked.matches("hunter2").count(), masked.matches("http://shown").count()), (0, 2), "{masked}");
    }

    #[test]
    fn a_prometheus_file_is_understood_and_its_gaps_are_named() {
        check("", Ok(&[]));
        check(
            "global: {scrape_interval: 15s, external_labels: {a: b}}\n\
             scrape_configs:\n- job_name: x\n  static_configs: [{targets: ['a:1']}]\n  kubernetes_sd_configs: [{role: pod}]\n  \
             consul_sd_configs: [{server: x}]\n\
             remote_write: [{url: 'http://x'}]\n",
            Ok(&["scrape_configs[x].consul_sd_configs"]),
        );
        check("storage: {tsdb: {out_of_order_time_window: 30m}, logs: {retention: {time: 3d}}}", Ok(&[]));
        check("storage: {tsdb: {retention: {size: 10GB, tenants: {a: 90d}}}}", Ok(&[]));
        check("storage: {logs: {retention: {size: 10GB, tenants: {a: 3d}}}}", Ok(&[]));
        check("storage: {logs: {retention: {streams: [{selector: '{a=\"b\"}', period: 1d}]}}}", Ok(&[]));
        check("storage: {logs: {retention: {streams: [{selector: x}]}}}", Err("missing field `period`"));
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
