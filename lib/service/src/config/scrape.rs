//! `global` and `scrape_configs`: what is scraped, how often, within which limits.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use model::{ByteSize, DurationMs, RelabelConfig};
use serde::Deserialize;

use super::discovery::{DnsSd, FileSd, HttpSd, KubernetesSd, SdConfigs};
use super::http_fields::with_http;
use super::{StaticConfig, Unsupported};

/// A format of exposition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
pub enum ScrapeProtocol {
    PrometheusProto,
    #[serde(rename = "PrometheusText0.0.4")]
    PrometheusText004,
    #[serde(rename = "PrometheusText1.0.0")]
    PrometheusText100,
    #[serde(rename = "OpenMetricsText0.0.1")]
    OpenMetricsText001,
    #[serde(rename = "OpenMetricsText1.0.0")]
    OpenMetricsText100,
}

/// Which names metrics may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ValidationScheme {
    #[default]
    Utf8,
    Legacy,
}

/// How a target is to write names that the text formats do not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum EscapingScheme {
    #[serde(rename = "allow-utf-8")]
    AllowUtf8,
    #[serde(rename = "underscores")]
    Underscores,
    #[serde(rename = "dots")]
    Dots,
    #[serde(rename = "values")]
    Values,
}

impl EscapingScheme {
    pub fn as_str(self) -> &'static str {
        match self {
            EscapingScheme::AllowUtf8 => "allow-utf-8",
            EscapingScheme::Underscores => "underscores",
            EscapingScheme::Dots => "dots",
            EscapingScheme::Values => "values",
        }
    }
}

/// Limits of 0 are none.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Global {
    pub scrape_interval: DurationMs,
    pub scrape_timeout: DurationMs,
    pub evaluation_interval: DurationMs,
    pub rule_query_offset: DurationMs,
    pub external_labels: BTreeMap<String, String>,
    pub body_size_limit: Option<ByteSize>,
    pub sample_limit: u64,
    pub label_limit: u64,
    pub label_name_length_limit: u64,
    pub label_value_length_limit: u64,
    pub target_limit: u64,
    pub keep_dropped_targets: u64,
    pub query_log_file: Unsupported,
    pub scrape_failure_log_file: Option<PathBuf>,
    pub scrape_protocols: Option<Vec<ScrapeProtocol>>,
    pub scrape_native_histograms: bool,
    pub always_scrape_classic_histograms: bool,
    pub convert_classic_histograms_to_nhcb: bool,
    pub extra_scrape_metrics: bool,
    pub metric_name_validation_scheme: ValidationScheme,
    pub metric_name_escaping_scheme: Option<EscapingScheme>,
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
            sample_limit: 0,
            label_limit: 0,
            label_name_length_limit: 0,
            label_value_length_limit: 0,
            target_limit: 0,
            keep_dropped_targets: 0,
            query_log_file: None,
            scrape_failure_log_file: None,
            scrape_protocols: None,
            scrape_native_histograms: false,
            always_scrape_classic_histograms: false,
            convert_classic_histograms_to_nhcb: false,
            extra_scrape_metrics: false,
            metric_name_validation_scheme: ValidationScheme::Utf8,
            metric_name_escaping_scheme: None,
        }
    }
}

with_http!(
    /// One scrape job. What is not set is taken from [`Global`] by [`ScrapeConfig::with_global`].
    ScrapeConfig {
        job_name: String = String::new(),
        scrape_interval: Option<DurationMs> = None,
        scrape_timeout: Option<DurationMs> = None,
        metrics_path: String = "/metrics".to_owned(),
        scheme: String = "http".to_owned(),
        params: BTreeMap<String, Vec<String>> = BTreeMap::new(),
        honor_labels: bool = false,
        honor_timestamps: bool = true,
        track_timestamps_staleness: bool = false,
        static_configs: Vec<StaticConfig> = Vec::new(),
        file_sd_configs: Vec<FileSd> = Vec::new(),
        http_sd_configs: Vec<HttpSd> = Vec::new(),
        dns_sd_configs: Vec<DnsSd> = Vec::new(),
        kubernetes_sd_configs: Vec<KubernetesSd> = Vec::new(),
        relabel_configs: Vec<RelabelConfig> = Vec::new(),
        metric_relabel_configs: Vec<RelabelConfig> = Vec::new(),
        scrape_protocols: Option<Vec<ScrapeProtocol>> = None,
        fallback_scrape_protocol: Option<ScrapeProtocol> = None,
        scrape_native_histograms: Option<bool> = None,
        always_scrape_classic_histograms: Option<bool> = None,
        convert_classic_histograms_to_nhcb: Option<bool> = None,
        extra_scrape_metrics: Option<bool> = None,
        scrape_failure_log_file: Option<PathBuf> = None,
        enable_compression: bool = true,
        body_size_limit: Option<ByteSize> = None,
        sample_limit: u64 = 0,
        target_limit: u64 = 0,
        label_limit: u64 = 0,
        label_name_length_limit: u64 = 0,
        label_value_length_limit: u64 = 0,
        keep_dropped_targets: u64 = 0,
        native_histogram_bucket_limit: u64 = 0,
        native_histogram_min_bucket_factor: f64 = 0.0,
        metric_name_validation_scheme: Option<ValidationScheme> = None,
        metric_name_escaping_scheme: Option<EscapingScheme> = None,
        /// Where its files are; not a field of the file.
        #[serde(skip)]
        base: PathBuf = PathBuf::new(),
        azure_sd_configs: Unsupported = None,
        consul_sd_configs: Unsupported = None,
        digitalocean_sd_configs: Unsupported = None,
        docker_sd_configs: Unsupported = None,
        dockerswarm_sd_configs: Unsupported = None,
        ec2_sd_configs: Unsupported = None,
        eureka_sd_configs: Unsupported = None,
        gce_sd_configs: Unsupported = None,
        hetzner_sd_configs: Unsupported = None,
        ionos_sd_configs: Unsupported = None,
        kuma_sd_configs: Unsupported = None,
        lightsail_sd_configs: Unsupported = None,
        linode_sd_configs: Unsupported = None,
        marathon_sd_configs: Unsupported = None,
        nerve_sd_configs: Unsupported = None,
        nomad_sd_configs: Unsupported = None,
        openstack_sd_configs: Unsupported = None,
        ovhcloud_sd_configs: Unsupported = None,
        puppetdb_sd_configs: Unsupported = None,
        scaleway_sd_configs: Unsupported = None,
        serverset_sd_configs: Unsupported = None,
        stackit_sd_configs: Unsupported = None,
        triton_sd_configs: Unsupported = None,
        uyuni_sd_configs: Unsupported = None,
        vultr_sd_configs: Unsupported = None,
    }
);

impl ScrapeConfig {
    /// This job with all that `global` says for it: nothing that has a default is left open.
    pub fn with_global(&self, global: &Global) -> ScrapeConfig {
        let or = |own: u64, all: u64| if own == 0 { all } else { own };
        let interval = self.scrape_interval.unwrap_or(global.scrape_interval);
        let native = self.scrape_native_histograms.unwrap_or(global.scrape_native_histograms);
        let mut protocols = vec![
            ScrapeProtocol::OpenMetricsText100,
            ScrapeProtocol::OpenMetricsText001,
            ScrapeProtocol::PrometheusText100,
            ScrapeProtocol::PrometheusText004,
        ];
        if native {
            protocols.insert(0, ScrapeProtocol::PrometheusProto);
        }
        let scheme = self.metric_name_validation_scheme.unwrap_or(global.metric_name_validation_scheme);
        let escaping = self.metric_name_escaping_scheme.or(global.metric_name_escaping_scheme);
        let usual_escaping = match scheme {
            ValidationScheme::Utf8 => EscapingScheme::AllowUtf8,
            ValidationScheme::Legacy => EscapingScheme::Underscores,
        };
        let classic = self.always_scrape_classic_histograms.unwrap_or(global.always_scrape_classic_histograms);
        let converts = self.convert_classic_histograms_to_nhcb.unwrap_or(global.convert_classic_histograms_to_nhcb);
        ScrapeConfig {
            scrape_interval: Some(interval),
            scrape_timeout: Some(self.scrape_timeout.unwrap_or(global.scrape_timeout.min(interval))),
            body_size_limit: self.body_size_limit.or(global.body_size_limit).filter(|limit| limit.0 > 0),
            sample_limit: or(self.sample_limit, global.sample_limit),
            target_limit: or(self.target_limit, global.target_limit),
            label_limit: or(self.label_limit, global.label_limit),
            label_name_length_limit: or(self.label_name_length_limit, global.label_name_length_limit),
            label_value_length_limit: or(self.label_value_length_limit, global.label_value_length_limit),
            keep_dropped_targets: or(self.keep_dropped_targets, global.keep_dropped_targets),
            scrape_protocols: self.scrape_protocols.clone().or(global.scrape_protocols.clone()).or(Some(protocols)),
            scrape_native_histograms: Some(native),
            always_scrape_classic_histograms: Some(classic),
            convert_classic_histograms_to_nhcb: Some(converts),
            extra_scrape_metrics: Some(self.extra_scrape_metrics.unwrap_or(global.extra_scrape_metrics)),
            scrape_failure_log_file: self
                .scrape_failure_log_file
                .clone()
                .or(global.scrape_failure_log_file.clone())
                .map(|path| self.base.join(path)),
            metric_name_validation_scheme: Some(scheme),
            metric_name_escaping_scheme: Some(escaping.unwrap_or(usual_escaping)),
            ..self.clone()
        }
    }

    /// Where targets come from, beside `static_configs`.
    pub fn discovery(&self) -> SdConfigs {
        SdConfigs {
            file: self.file_sd_configs.clone(),
            http: self.http_sd_configs.clone(),
            dns: self.dns_sd_configs.clone(),
            kubernetes: self.kubernetes_sd_configs.clone(),
        }
    }

    /// Fields that are understood but do nothing yet.
    pub(super) fn unsupported(&self) -> Vec<&'static str> {
        let fields = [
            ("azure_sd_configs", &self.azure_sd_configs),
            ("consul_sd_configs", &self.consul_sd_configs),
            ("digitalocean_sd_configs", &self.digitalocean_sd_configs),
            ("docker_sd_configs", &self.docker_sd_configs),
            ("dockerswarm_sd_configs", &self.dockerswarm_sd_configs),
            ("ec2_sd_configs", &self.ec2_sd_configs),
            ("eureka_sd_configs", &self.eureka_sd_configs),
            ("gce_sd_configs", &self.gce_sd_configs),
            ("hetzner_sd_configs", &self.hetzner_sd_configs),
            ("ionos_sd_configs", &self.ionos_sd_configs),
            ("kuma_sd_configs", &self.kuma_sd_configs),
            ("lightsail_sd_configs", &self.lightsail_sd_configs),
            ("linode_sd_configs", &self.linode_sd_configs),
            ("marathon_sd_configs", &self.marathon_sd_configs),
            ("nerve_sd_configs", &self.nerve_sd_configs),
            ("nomad_sd_configs", &self.nomad_sd_configs),
            ("openstack_sd_configs", &self.openstack_sd_configs),
            ("ovhcloud_sd_configs", &self.ovhcloud_sd_configs),
            ("puppetdb_sd_configs", &self.puppetdb_sd_configs),
            ("scaleway_sd_configs", &self.scaleway_sd_configs),
            ("serverset_sd_configs", &self.serverset_sd_configs),
            ("stackit_sd_configs", &self.stackit_sd_configs),
            ("triton_sd_configs", &self.triton_sd_configs),
            ("uyuni_sd_configs", &self.uyuni_sd_configs),
            ("vultr_sd_configs", &self.vultr_sd_configs),
        ];
        fields.into_iter().filter(|(_, field)| field.is_some()).map(|(name, _)| name).collect()
    }

    pub(super) fn validate(&self, global: &Global, base: &Path) -> Result<(), String> {
        let interval = self.scrape_interval.unwrap_or(global.scrape_interval);
        if interval.0 <= 0 || self.scrape_timeout.is_some_and(|timeout| timeout > interval) {
            return Err("scrape timeout greater than scrape interval".to_owned());
        }
        if !matches!(self.scheme.as_str(), "http" | "https") {
            return Err(format!("scheme: {:?} is not http or https", self.scheme));
        }
        for protocols in [&self.scrape_protocols, &global.scrape_protocols].into_iter().flatten() {
            if protocols.is_empty() {
                return Err("scrape_protocols cannot be empty".to_owned());
            }
            let mut seen = HashSet::new();
            if !protocols.iter().all(|protocol| seen.insert(*protocol)) {
                return Err(format!("duplicated protocol in scrape_protocols, got {protocols:?}"));
            }
        }
        let whole = self.with_global(global);
        let has_proto = |protocols: &Vec<ScrapeProtocol>| protocols.contains(&ScrapeProtocol::PrometheusProto);
        if whole.scrape_native_histograms == Some(true) && !whole.scrape_protocols.as_ref().is_some_and(has_proto) {
            return Err("scrape_native_histograms needs PrometheusProto among scrape_protocols".to_owned());
        }
        if whole.metric_name_validation_scheme == Some(ValidationScheme::Legacy)
            && whole.metric_name_escaping_scheme == Some(EscapingScheme::AllowUtf8)
        {
            return Err("utf8 metric names requested but validation scheme is not set to UTF8".to_owned());
        }
        let addresses = self.static_configs.iter().flat_map(|group| &group.targets);
        if self.relabel_configs.is_empty()
            && let Some(address) = addresses.into_iter().find(|address| address.contains('/'))
        {
            return Err(format!("{address:?} is not a valid hostname"));
        }
        self.http(base)?;
        self.discovery().validate(base)
    }
}
