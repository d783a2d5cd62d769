//! `POST /api/v1/write`: Prometheus remote write 1.0, snappy-compressed protobuf.
//!
//! 204 only after the bus acknowledged. 400 names what was refused; the good samples beside it were taken. 503: nothing
//! can be said to be taken, send it again. Message shapes: prometheus `prompb/remote.proto` and `types.proto`.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bus::BusError;
use model::{Labels, Sample, SeriesSamples};
use prost::Message;
use service::http::{Tenant, decompress_snappy};

use super::App;
use crate::ingest::{AppendError, Refusals};

#[derive(Clone, PartialEq, Message)]
pub struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    pub timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, Message)]
pub struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<LabelPair>,
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<SamplePair>,
    /// Native histograms, only counted: they are not kept yet.
    #[prost(bytes = "vec", repeated, tag = "4")]
    pub histograms: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub struct LabelPair {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub struct SamplePair {
    #[prost(double, tag = "1")]
    pub value: f64,
    #[prost(int64, tag = "2")]
    pub t_ms: i64,
}

pub async fn write(State(app): State<App>, Tenant(tenant): Tenant, headers: HeaderMap, body: Bytes) -> Response {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    if kind.contains("io.prometheus.write.v2") {
        let message = "remote write 2.0 is not spoken here yet; send prometheus.WriteRequest (1.0)";
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, message).into_response();
    }
    let message = match decompress_snappy(&body) {
        Ok(message) => message,
        Err(error) => return (error.status, error.message).into_response(),
    };
    let request = match WriteRequest::decode(message.as_slice()) {
        Ok(request) => request,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("protobuf: {error}")).into_response(),
    };
    let mut refusals = Refusals::default();
    let series = request.timeseries.into_iter().filter_map(|series| read_series(series, &mut refusals)).collect();
    match app.append_noting(&tenant, series, refusals).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(AppendError::Refused(reasons)) => (StatusCode::BAD_REQUEST, reasons).into_response(),
        Err(AppendError::Bus(error @ BusError::TooLarge { .. })) => {
            (StatusCode::BAD_REQUEST, error.to_string()).into_response()
        }
        Err(AppendError::Bus(error)) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
    }
}

fn read_series(series: TimeSeries, refusals: &mut Refusals) -> Option<SeriesSamples> {
    let TimeSeries { labels: pairs, samples, histograms } = series;
    let mut names: Vec<&str> = pairs.iter().map(|pair| pair.name.as_str()).collect();
    names.sort_unstable();
    let repeated = names.windows(2).find(|two| two[0] == two[1]).map(|two| two[0].to_owned());
    let labels = Labels::from_pairs(pairs.into_iter().map(|pair| (pair.name, pair.value)));
    if let Some(name) = repeated {
        let count = (samples.len() + histograms.len()) as u64;
        refusals.add("a label name repeats", count, || format!("{name} in {labels}"));
        return None;
    }
    if !histograms.is_empty() {
        refusals.add("native histograms are not kept yet", histograms.len() as u64, || labels.to_string());
    }
    if samples.is_empty() {
        return None;
    }
    let samples = samples.into_iter().map(|SamplePair { t_ms, value }| Sample { t_ms, value }).collect();
    Some(SeriesSamples::new(labels, samples))
}
