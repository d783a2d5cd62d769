//! Loki's push. Everything is validated before the bus; 204 means that every line is durable there.
//!
//! What is partly bad is answered 400 with the reasons after the good lines were taken; 503 means that the sender should send
//! all again, which is harmless, because pushed lines collapse.

use std::collections::BTreeMap;
use std::io::Read;

use ::query::promql::parse_series_name;
use ::service::http::{MAX_BODY_BYTES, Tenant, decompress_snappy};
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use bus::{BusError, Topic};
use model::{Batch, Labels, LogBatch, MAX_LINE_BYTES, Origin, is_label_name};
use prost::Message;
use serde::Deserialize;

use super::proto::PushRequest;
use super::{Api, LokiError};
use crate::admission::{Refusals, Times, check_labels, check_metadata};

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
struct Pushed {
    streams: Vec<(Result<Labels, String>, Vec<Entry>)>,
}

struct Entry {
    t_ns: Option<i64>,
    line: String,
    metadata: Vec<(String, String)>,
}

pub async fn push(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, LokiError> {
    let pushed = read(&headers, &body)?;
    let mut checked = Checked::new(&tenant, Times::now(&api.store));
    pushed.streams.into_iter().for_each(|(labels, entries)| checked.stream(labels, entries));
    if !checked.batch.is_empty() {
        match bus::append_all(api.bus.as_ref(), Topic::Logs, Batch::Logs(checked.batch)).await {
            Ok(_) => {}
            Err(error @ BusError::TooLarge { .. }) => return Err(LokiError::bad(error.to_string())),
            Err(error) => return Err(LokiError::unavailable(error.to_string())),
        }
    }
    match checked.refusals.lines() {
        0 => Ok(StatusCode::NO_CONTENT),
        refused => {
            let mut message = format!("{refused} lines were refused, the others were taken");
            checked.refusals.reasons().iter().for_each(|reason| message.push_str(&format!("\n{reason}")));
            Err(LokiError::bad(message))
        }
    }
}

fn read(headers: &HeaderMap, body: &[u8]) -> Result<Pushed, LokiError> {
    let header = |name| headers.get(name).and_then(|value: &header::HeaderValue| value.to_str().ok()).unwrap_or("");
    let (kind, encoding) = (header(header::CONTENT_TYPE), header(header::CONTENT_ENCODING));
    let is_json = kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"));
    if !is_json {
        // Loki's protobuf is always snappy, whatever the header says.
        let bytes = decompress_snappy(body)?;
        let request = PushRequest::decode(bytes.as_slice());
        return Ok(from_proto(request.map_err(|error| LokiError::bad(format!("not a push request: {error}")))?));
    }
    let json = match encoding {
        "gzip" => gunzip(body)?,
        "deflate" => inflate(flate2::read::DeflateDecoder::new(body))?,
        "snappy" => decompress_snappy(body)?,
        "" | "identity" => body.to_vec(),
        other => {
            return Err(LokiError {
                status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
                message: format!("Content-Encoding {other:?} is not supported"),
            });
        }
    };
    let push: JsonPush =
        serde_json::from_slice(&json).map_err(|error| LokiError::bad(format!("not a push request: {error}")))?;
    Ok(from_json(push))
}

fn gunzip(body: &[u8]) -> Result<Vec<u8>, LokiError> {
    inflate(flate2::read::MultiGzDecoder::new(body))
}

fn inflate(reader: impl Read) -> Result<Vec<u8>, LokiError> {
    let mut out = Vec::new();
    let read = reader.take(MAX_BODY_BYTES as u64 + 1).read_to_end(&mut out);
    match read {
        Ok(bytes) if bytes > MAX_BODY_BYTES => Err(LokiError {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            message: format!("a body of more than {MAX_BODY_BYTES} bytes"),
        }),
        Ok(_) => Ok(out),
        Err(error) => Err(LokiError::bad(format!("gzip: {error}"))),
    }
}

fn from_json(push: JsonPush) -> Pushed {
    let streams = push.streams.into_iter().map(|stream| {
        let bad = stream.stream.keys().find(|name| !is_label_name(name)).map(|name| format!("bad label name {name:?}"));
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
    Pushed { streams: streams.collect() }
}

fn from_proto(request: PushRequest) -> Pushed {
    let streams = request.streams.into_iter().map(|stream| {
        let labels = match parse_series_name(stream.labels.trim()) {
            Ok((labels, "")) => Ok(labels),
            Ok((_, rest)) => Err(format!("bad labels {:?}: {rest:?} behind them", stream.labels)),
            Err(error) => Err(format!("bad labels {:?}: {error}", stream.labels)),
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
    Pushed { streams: streams.collect() }
}

/// The good lines of a push and what is wrong with the others.
struct Checked {
    batch: LogBatch,
    metadata: BTreeMap<Labels, u32>,
    times: Times,
    refusals: Refusals,
}

impl Checked {
    fn new(tenant: &str, times: Times) -> Checked {
        let batch = LogBatch::new(tenant, Origin::Pushed);
        let metadata = BTreeMap::from([(Labels::default(), 0)]);
        Checked { batch, metadata, times, refusals: Refusals::default() }
    }

    fn stream(&mut self, labels: Result<Labels, String>, entries: Vec<Entry>) {
        let labels = match labels.and_then(|labels| check_labels(&labels).map(|()| labels)) {
            Ok(labels) => labels,
            Err(reason) => return self.refusals.refuse(entries.len().max(1), reason),
        };
        let stream = self.batch.streams.len() as u32;
        self.batch.streams.push(labels.clone());
        for entry in entries {
            if let Err(reason) = self.entry(stream, entry) {
                self.refusals.refuse(1, format!("stream {labels}: {reason}"));
            }
        }
    }

    fn entry(&mut self, stream: u32, entry: Entry) -> Result<(), String> {
        let t_ns = entry.t_ns.ok_or("a line without a timestamp in nanoseconds")?;
        self.times.check(t_ns)?;
        check_metadata(entry.metadata.iter().map(|(name, value)| (name.as_str(), value.as_str())))?;
        let mut metadata = Labels::from_pairs(entry.metadata);
        let mut line = entry.line.as_str();
        if line.len() > MAX_LINE_BYTES {
            line = &line[..line.floor_char_boundary(MAX_LINE_BYTES)];
            metadata = metadata.with("truncated", "true");
        }
        let sets = &mut self.batch.metadata;
        let set = *self.metadata.entry(metadata).or_insert_with_key(|metadata| {
            sets.push(metadata.clone());
            sets.len() as u32 - 1
        });
        self.batch.push(stream, t_ns, line, set, 0);
        Ok(())
    }
}
