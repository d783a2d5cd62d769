//! A scrape job: its configuration with everything filled in, and the client that it shares among its targets.

use parking_lot::Mutex;
use service::client::HttpClient;
use service::config::{EscapingScheme, Global, ScrapeConfig, ScrapeProtocol, ValidationScheme};
use xxhash_rust::xxh3::xxh3_128;

pub struct Job {
    /// With all that `global` says.
    pub config: ScrapeConfig,
    pub http: HttpClient,
    /// What it proposes to targets.
    pub accept: String,
    /// The finest resolution of native histograms, where that is limited.
    pub max_schema: Option<i8>,
    pub wants_legacy_names: bool,
    /// Names all of the configuration: another one is another job.
    pub identity: u128,
    /// Why no target is scraped, if that is so.
    pub refusal: Mutex<Option<String>>,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Job({})", self.config.job_name)
    }
}

impl Job {
    pub fn new(global: &Global, config: &ScrapeConfig) -> Result<Job, String> {
        let config = config.with_global(global);
        let http = HttpClient::new(config.http(&config.base)?);
        let wants_legacy_names = config.metric_name_validation_scheme == Some(ValidationScheme::Legacy);
        let escaping = config.metric_name_escaping_scheme.unwrap_or(EscapingScheme::AllowUtf8);
        let accept = accept_header(config.scrape_protocols.as_deref().unwrap_or(&[]), escaping);
        let max_schema = max_schema(config.native_histogram_min_bucket_factor);
        let identity = xxh3_128(format!("{config:?}").as_bytes());
        Ok(Job { config, http, accept, max_schema, wants_legacy_names, identity, refusal: Mutex::default() })
    }
}

/// As Prometheus weighs protocols: the first most, anything else least.
fn accept_header(protocols: &[ScrapeProtocol], escaping: EscapingScheme) -> String {
    let mut accepted = Vec::new();
    let mut weight = 6;
    for protocol in protocols {
        let escapes = format!(";escaping={}", escaping.as_str());
        let (media, escapes) = match protocol {
            ScrapeProtocol::PrometheusProto => {
                ("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited", "")
            }
            ScrapeProtocol::PrometheusText004 => ("text/plain;version=0.0.4", ""),
            ScrapeProtocol::PrometheusText100 => ("text/plain;version=1.0.0", escapes.as_str()),
            ScrapeProtocol::OpenMetricsText001 => ("application/openmetrics-text;version=0.0.1", ""),
            ScrapeProtocol::OpenMetricsText100 => ("application/openmetrics-text;version=1.0.0", escapes.as_str()),
        };
        accepted.push(format!("{media}{escapes};q=0.{weight}"));
        weight -= 1;
    }
    accepted.push(format!("*/*;q=0.{weight}"));
    accepted.join(",")
}

/// The finest schema whose buckets grow by at least `factor`; none for factors of no meaning.
fn max_schema(factor: f64) -> Option<i8> {
    (factor > 1.0).then(|| (-factor.log2().log2()).floor().clamp(-4.0, 8.0) as i8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_weighed() {
        let protocols = [ScrapeProtocol::PrometheusProto, ScrapeProtocol::OpenMetricsText100];
        assert_eq!(
            accept_header(&protocols, EscapingScheme::AllowUtf8),
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,\
             application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,*/*;q=0.4"
        );
    }

    #[test]
    fn a_factor_bounds_the_schema() {
        for (factor, schema) in [
            (0.0, None),
            (1.002, Some(8)),
            (1.09, Some(3)),
            (1.1, Some(2)),
            (1.4, Some(1)),
            (2.0, Some(0)),
            (1e9, Some(-4)),
        ] {
            assert_eq!(max_schema(factor), schema, "{factor}");
        }
    }
}
