//! `POST /api/v1/write`: Prometheus remote write, 1.0 and 2.0, snappy-compressed protobuf.
//!
//! 204 only after the bus acknowledged. 400 names what was refused; the good beside it was taken, and for 2.0 the headers
//! say how much. 503: nothing can be said to be taken, send it again. 415: the message or its compression is not known.

mod message;
mod proto;

pub use message::{MessageError, Reading, read_v1, read_v2};
pub use proto::v1::{LabelPair, SamplePair};
#[cfg(test)]
pub use proto::{Count, Histogram, Span, ZeroCount};
#[cfg(test)]
pub use proto::{v1, v2};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bus::BusError;
use model::{MetricBatch, now_ms};
use service::http::{Tenant, decompress_snappy};

use super::App;
use crate::Tsdb;
use crate::ingest::Refusals;
use crate::pairs::PairsVisit;
use crate::service::Written;

const MEDIA_TYPE: &str = "application/x-protobuf";

/// The messages that are spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    V1,
    V2,
}

pub async fn write(State(app): State<App>, Tenant(tenant): Tenant, headers: HeaderMap, body: Bytes) -> Response {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
    let protocol = match protocol_of(&text(header::CONTENT_TYPE)) {
        Ok(protocol) => protocol,
        Err(reason) => return (StatusCode::UNSUPPORTED_MEDIA_TYPE, reason).into_response(),
    };
    let encoding = text(header::CONTENT_ENCODING);
    if !encoding.is_empty() && encoding != "snappy" {
        let reason =
            format!("{encoding} encoding (compression) is not accepted by this server; only snappy is acceptable");
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, reason).into_response();
    }
    let message = match decompress_snappy(&body) {
        Ok(message) => message,
        Err(error) => return (error.status, error.message).into_response(),
    };
    let mut refusals = Refusals::default();
    let mut batch = match app.read_message(&tenant, &message, protocol, &mut refusals) {
        Ok(batch) => batch,
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    };
    batch.tenant = tenant;
    let response = match app.append_known(batch, refusals).await {
        Ok(appended) => {
            let headers = written_headers(appended.written);
            match appended.refused {
                None => (StatusCode::NO_CONTENT, headers).into_response(),
                Some(reasons) => (StatusCode::BAD_REQUEST, headers, reasons).into_response(),
            }
        }
        Err(error @ BusError::TooLarge { .. }) => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
    };
    without_headers_for(protocol, response)
}

impl Tsdb {
    fn read_message(
        &self,
        tenant: &str,
        message: &[u8],
        protocol: Protocol,
        refusals: &mut Refusals,
    ) -> Result<MetricBatch, MessageError> {
        let mut known = self.known.visit();
        let pairs = PairsVisit::new(&self.pairs, tenant, now_ms());
        let mut reading =
            Reading { pairs, known: &mut known, limits: &self.options.limits, refusals, newest_ms: i64::MIN };
        let read = match protocol {
            Protocol::V1 => read_v1(message, &mut reading),
            Protocol::V2 => read_v2(message, &mut reading),
        };
        self.counters.left_out.inc_by(reading.pairs.left_out);
        let newest_ms = reading.newest_ms;
        known.end(newest_ms);
        read
    }
}

/// Which message a content type names; absent parameters mean 1.0.
fn protocol_of(content_type: &str) -> Result<Protocol, String> {
    let mut parts = content_type.trim().split(';').map(str::trim);
    let media = parts.next().unwrap_or("");
    if !media.is_empty() && media != MEDIA_TYPE {
        return Err(format!("expected {MEDIA_TYPE} as the first (media) part, got {content_type} content-type"));
    }
    for parameter in parts {
        let Some((name, value)) = parameter.split_once('=') else {
            return Err(format!(
                "expected parameters to be key-values, got {parameter} in {content_type} content-type"
            ));
        };
        if name == "proto" {
            return match value {
                "prometheus.WriteRequest" => Ok(Protocol::V1),
                "io.prometheus.write.v2.Request" => Ok(Protocol::V2),
                _ => Err(format!(
                    "got {content_type} content type; unknown type for remote write protobuf message {value}, supported: prometheus.WriteRequest, io.prometheus.write.v2.Request"
                )),
            };
        }
    }
    Ok(Protocol::V1)
}

fn written_headers(written: Written) -> [(HeaderName, HeaderValue); 3] {
    let Written { samples, histograms, exemplars } = written;
    [
        (HeaderName::from_static("x-prometheus-remote-write-samples-written"), samples.into()),
        (HeaderName::from_static("x-prometheus-remote-write-histograms-written"), histograms.into()),
        (HeaderName::from_static("x-prometheus-remote-write-exemplars-written"), exemplars.into()),
    ]
}

/// Senders of 1.0 know nothing of the headers.
fn without_headers_for(protocol: Protocol, mut response: Response) -> Response {
    if protocol == Protocol::V1 {
        for (name, _) in written_headers(Written::default()) {
            response.headers_mut().remove(name);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(content_type: &str, expected: Option<Protocol>) {
        assert_eq!(protocol_of(content_type).ok(), expected, "{content_type}");
    }

    #[test]
    fn content_types() {
        check("", Some(Protocol::V1));
        check("application/x-protobuf", Some(Protocol::V1));
        check("application/x-protobuf;proto=prometheus.WriteRequest", Some(Protocol::V1));
        check("application/x-protobuf; proto=io.prometheus.write.v2.Request", Some(Protocol::V2));
        check("application/x-protobuf;a=b;proto=io.prometheus.write.v2.Request", Some(Protocol::V2));
        check("application/x-protobuf;proto=io.prometheus.write.v3.Request", None);
        check("application/x-protobuf;proto", None);
        check("application/json", None);
    }
}
