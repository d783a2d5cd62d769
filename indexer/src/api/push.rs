//! Loki's push. Everything is validated before the bus; 204 means that every line is durable there.
//!
//! What is partly bad is answered 400 with the reasons after the good lines were taken; 429 and 503 mean that the sender should send
//! all again, which is harmless, because pushed lines collapse.

use std::collections::BTreeMap;

use ::query::promql::parse_series_name;
use ::service::http::Tenant;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use model::{Labels, is_label_name};
use prost::Message;
use serde::Deserialize;

use super::intake::{Entry, Intake, decode};
use super::proto::PushRequest;
use super::{Api, LokiError};

#[derive(Deserialize)]
struct JsonPush {
    streams: Vec<JsonStream>,
}

#[derive(Deserialize)]
struct JsonStream {
    stream: BTreeMap<String, String>,
    values: Vec<JsonEntry>,
}

/// `["nanoseconds", "line"]` or `["nanoseconds", "line", {"metadata": "…"}]`.
#[derive(Deserialize)]
#[serde(untagged)]
enum JsonEntry {
    WithMetadata(String, String, BTreeMap<String, String>),
    Plain(String, String),
}

/// A push in either notation.
type Pushed = Vec<(Result<Labels, String>, Vec<Entry>)>;

pub async fn push(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, LokiError> {
    let pushed = read(&headers, &body)?;
    let mut intake = Intake::new(&api, &tenant);
    pushed.into_iter().for_each(|(labels, entries)| intake.stream(labels, entries));
    let outcome = intake.append(&api).await?;
    outcome.refusal().map_or(Ok(StatusCode::NO_CONTENT), Err)
}

fn read(headers: &HeaderMap, body: &[u8]) -> Result<Pushed, LokiError> {
    let header = |name| headers.get(name).and_then(|value: &header::HeaderValue| value.to_str().ok()).unwrap_or("");
    let (kind, encoding) = (header(header::CONTENT_TYPE), header(header::CONTENT_ENCODING));
    let is_json = kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"));
    read_push(is_json, encoding, body)
}

/// A push as it comes over the wire.
pub fn read_push(is_json: bool, encoding: &str, body: &[u8]) -> Result<Pushed, LokiError> {
    let bad = |error: String| LokiError::bad(format!("not a push request: {error}"));
    if is_json {
        let json = decode(encoding, body)?;
        return Ok(from_json(serde_json::from_slice(&json).map_err(|error| bad(error.to_string()))?));
    }
    // Loki's protobuf is snappy unless the header says something else that it is not always true of.
    let encoding = if matches!(encoding, "gzip" | "deflate" | "zstd") { encoding } else { "snappy" };
    let bytes = decode(encoding, body)?;
    Ok(from_proto(PushRequest::decode(bytes).map_err(|error| bad(error.to_string()))?))
}

fn from_json(push: JsonPush) -> Pushed {
    let streams = push.streams.into_iter().map(|stream| {
        let bad = stream.stream.keys().find(|name| !is_label_name(name));
        let bad =
            bad.map(|name| format!("error parsing labels '{:?}' with error: bad label name {name:?}", stream.stream));
        let labels = bad.map_or_else(|| Ok(Labels::from_pairs(stream.stream)), Err);
        let entries = stream.values.into_iter().map(|entry| {
            let (time, line, metadata) = match entry {
                JsonEntry::WithMetadata(time, line, metadata) => (time, line, metadata),
                JsonEntry::Plain(time, line) => (time, line, BTreeMap::new()),
            };
            Entry { t_ns: time.parse().ok(), line, metadata: metadata.into_iter().collect() }
        });
        (labels, entries.collect())
    });
    streams.collect()
}

fn from_proto(request: PushRequest) -> Pushed {
    let streams = request.streams.into_iter().map(|stream| {
        let bad = |error: String| format!("error parsing labels '{}' with error: {error}", stream.labels);
        let labels = match parse_series_name(stream.labels.trim()) {
            Ok((labels, "")) => Ok(labels),
            Ok((_, rest)) => Err(bad(format!("{rest:?} behind them"))),
            Err(error) => Err(bad(error.to_string())),
        };
        let entries = stream.entries.into_iter().map(|entry| {
            let t_ns = entry
                .timestamp
                .and_then(|time| time.seconds.checked_mul(1_000_000_000)?.checked_add(i64::from(time.nanos)));
            let metadata = entry.structured_metadata.into_iter().map(|pair| (pair.name, pair.value)).collect();
            Entry { t_ns, line: entry.line, metadata }
        });
        (labels, entries.collect())
    });
    streams.collect()
}
