//! `limits` and `tenants`: what is refused at the edge. Only what is over a limit is, with its reason.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{ByteSize, DurationMs, LEVEL_FIELDS};
use serde::Deserialize;

/// Of metrics, and under `logs` of lines.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    pub max_active_series: usize,
    /// Series of one metric name; 0 for no limit.
    pub max_series_per_metric: usize,
    pub max_labels: usize,
    pub max_label_name_bytes: usize,
    pub max_label_value_bytes: usize,
    pub logs: GivenLogLimits,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_active_series: 10_000_000,
            max_series_per_metric: 0,
            max_labels: 128,
            max_label_name_bytes: 1024,
            max_label_value_bytes: 16 * 1024,
            logs: GivenLogLimits::default(),
        }
    }
}

/// `tenants.NAME`: what is different for one tenant.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TenantConfig {
    pub limits: TenantLimits,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TenantLimits {
    pub logs: GivenLogLimits,
}

/// Names of labels of which the first that a stream has is its service, as Loki has them.
const SERVICE_LABELS: [&str; 13] = [
    "service",
    "app",
    "application",
    "app_name",
    "name",
    "app_kubernetes_io_name",
    "container",
    "container_name",
    "k8s_container_name",
    "component",
    "workload",
    "job",
    "k8s_job_name",
];

macro_rules! log_limits {
    ($($(#[$doc:meta])* $name:ident: $kind:ty = $default:expr,)*) => {
        /// Limits of one tenant's lines and of its queries for them.
        #[derive(Debug, Clone, PartialEq)]
        pub struct LogLimits { $($(#[$doc])* pub $name: $kind,)* }

        impl Default for LogLimits {
            fn default() -> LogLimits {
                LogLimits { $($name: $default,)* }
            }
        }

        /// What a file says of [`LogLimits`].
        #[derive(Debug, Clone, Default, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct GivenLogLimits { $($name: Option<$kind>,)* }

        impl GivenLogLimits {
            /// Limits with those that are given changed.
            fn over(&self, base: &LogLimits) -> LogLimits {
                LogLimits { $($name: self.$name.clone().unwrap_or_else(|| base.$name.clone()),)* }
            }
        }
    };
}

log_limits! {
    /// Bytes of lines and their structured metadata a second; 0 for no limit.
    ingestion_rate: ByteSize = ByteSize(0),
    /// What may come at once; 0: what may come in a second.
    ingestion_burst: ByteSize = ByteSize(0),
    /// Longer lines are cut, or refused where `truncate_long_lines` is off.
    max_line_size: ByteSize = ByteSize(model::MAX_LINE_BYTES as u64),
    truncate_long_lines: bool = true,
    /// Streams that had a line within the hour; 0 for no limit.
    max_streams: usize = 1_000_000,
    max_labels: usize = 64,
    max_label_name_bytes: usize = 1024,
    max_label_value_bytes: usize = 4096,
    max_metadata_labels: usize = 128,
    max_metadata_size: ByteSize = ByteSize(64 * 1024),
    /// The first of these labels that a stream has is its `service_name`; empty to add none.
    discover_service_name: Vec<String> = SERVICE_LABELS.map(str::to_owned).to_vec(),
    /// Whether lines get `detected_level`.
    discover_log_levels: bool = true,
    /// Labels, structured metadata and fields that hold it.
    log_level_fields: Vec<String> = LEVEL_FIELDS.map(str::to_owned).to_vec(),
    /// 0: as long as `--query.timeout`.
    query_timeout: DurationMs = DurationMs(0),
    /// Bytes of text of the blocks that one query may read; 0 for no limit.
    max_query_bytes_read: ByteSize = ByteSize(0),
    /// Bytes of lines or values that one query may hold.
    max_query_memory: ByteSize = ByteSize(1 << 30),
    /// Series that one query may have.
    max_query_series: usize = 100_000,
    /// Between the start and the end of a query; 0 for no limit.
    max_query_length: DurationMs = DurationMs(0),
    /// Lines of one answer.
    max_entries_per_query: usize = 100_000,
}

/// Something of every tenant, mostly the same.
#[derive(Debug, Clone, Default)]
pub struct ByTenant<T> {
    others: Arc<T>,
    named: BTreeMap<String, Arc<T>>,
}

impl ByTenant<LogLimits> {
    pub fn new(limits: &Limits, tenants: &BTreeMap<String, TenantConfig>) -> ByTenant<LogLimits> {
        let others = Arc::new(limits.logs.over(&LogLimits::default()));
        let named = tenants.iter().map(|(name, tenant)| (name.clone(), Arc::new(tenant.limits.logs.over(&others))));
        ByTenant { named: named.collect(), others }
    }
}

impl<T> ByTenant<T> {
    pub fn of(&self, tenant: &str) -> &Arc<T> {
        self.named.get(tenant).unwrap_or(&self.others)
    }

    pub fn map<U>(&self, make: impl Fn(&T) -> U) -> ByTenant<U> {
        let named = self.named.iter().map(|(name, one)| (name.clone(), Arc::new(make(one))));
        ByTenant { others: Arc::new(make(&self.others)), named: named.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;

    #[test]
    fn a_tenant_has_its_own_and_the_rest_of_all() {
        let text = "limits: {max_labels: 7, logs: {max_labels: 5, max_line_size: 1KB}}\n\
                    tenants: {a: {limits: {logs: {max_labels: 9, discover_service_name: []}}}}";
        let config: Config = super::super::parse("x.yml".as_ref(), text).expect("it parses");
        let limits = config.log_limits();
        let of = |tenant: &str| {
            let limits = limits.of(tenant);
            (limits.max_labels, limits.max_line_size.0, limits.discover_service_name.len(), limits.max_streams)
        };
        assert_eq!(of("a"), (9, 1024, 0, 1_000_000));
        assert_eq!(of("b"), (5, 1024, 13, 1_000_000));
        assert_eq!(config.limits.max_labels, 7);
        let wrong = super::super::parse::<Config>("x.yml".as_ref(), "tenants: {a: {limits: {logs: {max_lable: 1}}}}");
        assert!(wrong.is_err_and(|error| error.to_string().contains("max_lable")));
    }
}
