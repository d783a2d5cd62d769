//! One request to a target: what comes back within its limits, or why nothing does, in Prometheus' words.

use std::io::ErrorKind;

use model::exposition::TextFormat;
use reqwest::Response;
use service::client::chain;
use service::config::ScrapeProtocol;

use super::counters::Counters;
use super::target::Target;

/// No body may be larger, whatever `body_size_limit` says.
const MAX_BODY_BYTES: u64 = 256 << 20;
pub const BODY_SIZE_LIMIT: &str = "body size limit exceeded";
/// Connections that a job keeps open to one target.
const IDLE_PER_TARGET: usize = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Text(TextFormat),
    Protobuf,
}

/// What a target answered.
#[derive(Debug, Clone)]
pub struct Body {
    pub bytes: Vec<u8>,
    format: Format,
}

impl Body {
    #[cfg(test)]
    pub fn of_text(text: &str, format: TextFormat) -> Body {
        Body { bytes: text.as_bytes().to_vec(), format: Format::Text(format) }
    }

    #[cfg(test)]
    pub fn of_protobuf(bytes: Vec<u8>) -> Body {
        Body { bytes, format: Format::Protobuf }
    }

    /// `None` for protobuf.
    pub fn text_format(&self) -> Option<TextFormat> {
        match self.format {
            Format::Text(format) => Some(format),
            Format::Protobuf => None,
        }
    }

    pub fn text(&self) -> Result<&str, String> {
        std::str::from_utf8(&self.bytes).map_err(|_| "invalid UTF-8 label value".to_owned())
    }
}

/// Asks a target. Takes as long as it takes: the caller has a deadline.
pub async fn fetch(target: &Target, counters: &Counters) -> Result<Body, String> {
    if let Some(refusal) = target.job.refusal.lock().clone() {
        return Err(refusal);
    }
    let config = &target.job.config;
    let compresses = config.enable_compression;
    let client = target.job.http.client(|builder| builder.gzip(compresses).pool_max_idle_per_host(IDLE_PER_TARGET));
    let request = client.map_err(|error| error.to_string())?.get(&target.url);
    let seconds = target.timeout.as_secs_f64().to_string();
    let mut request =
        request.header("accept", &target.job.accept).header("x-prometheus-scrape-timeout-seconds", seconds);
    if !compresses {
        request = request.header("accept-encoding", "identity");
    }
    let request = target.job.http.authorized(request).await.map_err(|error| said(&target.url, error.to_string()))?;
    let mut response = request.send().await.map_err(|error| failure(&target.url, &error))?;
    if response.status() != 200 {
        return Err(format!("server returned HTTP status {}", response.status()));
    }
    let format = format_of(&response, config.fallback_scrape_protocol)?;
    let limit = config.body_size_limit.map_or(MAX_BODY_BYTES, |limit| limit.0.min(MAX_BODY_BYTES));
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| failure(&target.url, &error))? {
        if (bytes.len() + chunk.len()) as u64 > limit {
            counters.over_body_limit.inc();
            return Err(BODY_SIZE_LIMIT.to_owned());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(Body { bytes, format })
}

fn said(url: &str, reason: String) -> String {
    format!("Get {url:?}: {reason}")
}

/// What failed between us and the target.
fn failure(url: &str, error: &reqwest::Error) -> String {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            let address = url.split_once("://").map_or(url, |(_, rest)| rest);
            let address = address.split(['/', '?']).next().unwrap_or(address);
            match io.kind() {
                ErrorKind::ConnectionRefused => {
                    return said(url, format!("dial tcp {address}: connect: connection refused"));
                }
                ErrorKind::UnexpectedEof => return said(url, "EOF".to_owned()),
                _ => {}
            }
        }
        cause = error.source();
    }
    let text = chain(error);
    said(url, text.split_once(": ").map_or(text.as_str(), |(_, reason)| reason).to_owned())
}

fn format_of(response: &Response, fallback: Option<ScrapeProtocol>) -> Result<Format, String> {
    let content_type = response.headers().get("content-type").and_then(|value| value.to_str().ok()).unwrap_or("");
    format_of_type(content_type, fallback)
}

fn format_of_type(content_type: &str, fallback: Option<ScrapeProtocol>) -> Result<Format, String> {
    let fallback = fallback.map(|protocol| match protocol {
        ScrapeProtocol::PrometheusProto => Format::Protobuf,
        ScrapeProtocol::PrometheusText004 | ScrapeProtocol::PrometheusText100 => Format::Text(TextFormat::Prometheus),
        ScrapeProtocol::OpenMetricsText001 | ScrapeProtocol::OpenMetricsText100 => {
            Format::Text(TextFormat::OpenMetrics)
        }
    });
    let media = content_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    match media.as_str() {
        "application/openmetrics-text" => Ok(Format::Text(TextFormat::OpenMetrics)),
        "text/plain" => Ok(Format::Text(TextFormat::Prometheus)),
        "application/vnd.google.protobuf" => Ok(Format::Protobuf),
        "" => fallback.ok_or_else(|| {
            "non-compliant scrape target sending blank Content-Type and no fallback_scrape_protocol specified for target"
                .to_owned()
        }),
        _ => fallback.ok_or_else(|| {
            format!("received unsupported Content-Type {content_type:?} and no fallback_scrape_protocol specified for target")
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(content_type: &str, fallback: Option<ScrapeProtocol>, expected: Result<Format, &str>) {
        match (format_of_type(content_type, fallback), expected) {
            (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
            (got, expected) => assert_eq!(got, expected.map_err(str::to_owned), "{content_type}"),
        }
    }

    #[test]
    fn content_types_name_formats() {
        let fallback = Some(ScrapeProtocol::PrometheusText004);
        check("text/plain; version=0.0.4", None, Ok(Format::Text(TextFormat::Prometheus)));
        check("Application/OpenMetrics-Text;version=1.0.0", None, Ok(Format::Text(TextFormat::OpenMetrics)));
        check("application/vnd.google.protobuf; proto=x", fallback, Ok(Format::Protobuf));
        check("", None, Err("blank Content-Type"));
        check("text/html", None, Err("unsupported Content-Type \"text/html\""));
        check("text/html", fallback, Ok(Format::Text(TextFormat::Prometheus)));
        check("", fallback, Ok(Format::Text(TextFormat::Prometheus)));
    }
}
