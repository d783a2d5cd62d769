//! The protobuf messages of OpenTelemetry's logs (`opentelemetry/proto/collector/logs/v1`), and the same out of JSON.

use prost::Message;
use serde_json::{Map, Value as Json};

/// Values within values that are read.
const MAX_DEPTH: usize = 32;

#[derive(Clone, PartialEq, Message)]
pub struct Request {
    #[prost(message, repeated, tag = "1")]
    pub resource_logs: Vec<ResourceLogs>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ResourceLogs {
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    pub scope_logs: Vec<ScopeLogs>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Resource {
    #[prost(message, repeated, tag = "1")]
    pub attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ScopeLogs {
    #[prost(message, optional, tag = "1")]
    pub scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    pub log_records: Vec<Record>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Scope {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub version: String,
    #[prost(message, repeated, tag = "3")]
    pub attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Record {
    #[prost(fixed64, tag = "1")]
    pub time_unix_nano: u64,
    #[prost(fixed64, tag = "11")]
    pub observed_time_unix_nano: u64,
    #[prost(int32, tag = "2")]
    pub severity_number: i32,
    #[prost(string, tag = "3")]
    pub severity_text: String,
    #[prost(message, optional, tag = "5")]
    pub body: Option<AnyValue>,
    #[prost(message, repeated, tag = "6")]
    pub attributes: Vec<KeyValue>,
    #[prost(uint32, tag = "7")]
    pub dropped_attributes_count: u32,
    #[prost(fixed32, tag = "8")]
    pub flags: u32,
    #[prost(bytes = "vec", tag = "9")]
    pub trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "10")]
    pub span_id: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct KeyValue {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(message, optional, tag = "2")]
    pub value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub struct AnyValue {
    #[prost(oneof = "Any", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub value: Option<Any>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Any {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(bool, tag = "2")]
    Bool(bool),
    #[prost(int64, tag = "3")]
    Int(i64),
    #[prost(double, tag = "4")]
    Double(f64),
    #[prost(message, tag = "5")]
    Array(List),
    #[prost(message, tag = "6")]
    Map(Pairs),
    #[prost(bytes, tag = "7")]
    Bytes(Vec<u8>),
}

#[derive(Clone, PartialEq, Message)]
pub struct List {
    #[prost(message, repeated, tag = "1")]
    pub values: Vec<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Pairs {
    #[prost(message, repeated, tag = "1")]
    pub values: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Response {
    #[prost(message, optional, tag = "1")]
    pub partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
pub struct PartialSuccess {
    #[prost(int64, tag = "1")]
    pub rejected_log_records: i64,
    #[prost(string, tag = "2")]
    pub error_message: String,
}

/// `google.rpc.Status`, the body of an error.
#[derive(Clone, PartialEq, Message)]
pub struct Status {
    #[prost(int32, tag = "1")]
    pub code: i32,
    #[prost(string, tag = "2")]
    pub message: String,
}

/// A request in OTLP's JSON: camelCase, 64-bit numbers as text or numbers, ids in hexadecimal digits.
pub fn from_json(body: &[u8]) -> Result<Request, String> {
    let json: Json = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let resources = list(&json, "resourceLogs").map(|logs| ResourceLogs {
        resource: logs.get("resource").map(|resource| Resource { attributes: attributes(resource) }),
        scope_logs: list(logs, "scopeLogs").map(scope_logs).collect(),
    });
    Ok(Request { resource_logs: resources.collect() })
}

fn scope_logs(logs: &Json) -> ScopeLogs {
    let scope = |scope: &Json| Scope {
        name: text(scope, "name"),
        version: text(scope, "version"),
        attributes: attributes(scope),
    };
    ScopeLogs { scope: logs.get("scope").map(scope), log_records: list(logs, "logRecords").map(record).collect() }
}

fn record(json: &Json) -> Record {
    Record {
        time_unix_nano: number(json, "timeUnixNano"),
        observed_time_unix_nano: number(json, "observedTimeUnixNano"),
        severity_number: i32::try_from(number(json, "severityNumber")).unwrap_or(0),
        severity_text: text(json, "severityText"),
        body: json.get("body").map(|body| any(body, 0)),
        attributes: attributes(json),
        dropped_attributes_count: u32::try_from(number(json, "droppedAttributesCount")).unwrap_or(0),
        flags: u32::try_from(number(json, "flags")).unwrap_or(0),
        trace_id: hex(&text(json, "traceId")),
        span_id: hex(&text(json, "spanId")),
    }
}

fn list<'a>(json: &'a Json, name: &str) -> impl Iterator<Item = &'a Json> + use<'a> {
    json.get(name).and_then(Json::as_array).into_iter().flatten()
}

fn text(json: &Json, name: &str) -> String {
    json.get(name).and_then(Json::as_str).unwrap_or("").to_owned()
}

fn number(json: &Json, name: &str) -> u64 {
    match json.get(name) {
        Some(Json::String(text)) => text.parse().unwrap_or(0),
        Some(value) => value.as_u64().unwrap_or(0),
        None => 0,
    }
}

fn hex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let pair = |pair: &[u8]| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?);
    text.as_bytes().chunks(2).map(pair).collect::<Option<Vec<u8>>>().unwrap_or_default()
}

fn attributes(json: &Json) -> Vec<KeyValue> {
    key_values(json.get("attributes"), 0)
}

fn key_values(pairs: Option<&Json>, depth: usize) -> Vec<KeyValue> {
    let pairs = pairs.and_then(Json::as_array).into_iter().flatten();
    pairs
        .map(|pair| KeyValue { key: text(pair, "key"), value: pair.get("value").map(|value| any(value, depth)) })
        .collect()
}

fn any(json: &Json, depth: usize) -> AnyValue {
    let Some((name, value)) = json.as_object().and_then(|object: &Map<String, Json>| object.iter().next()) else {
        return AnyValue::default();
    };
    let value = match name.as_str() {
        _ if depth > MAX_DEPTH => None,
        "stringValue" => value.as_str().map(|text| Any::Text(text.to_owned())),
        "boolValue" => value.as_bool().map(Any::Bool),
        "intValue" => value.as_i64().or_else(|| value.as_str()?.parse().ok()).map(Any::Int),
        "doubleValue" => value.as_f64().map(Any::Double),
        "bytesValue" => value.as_str().map(|text| Any::Text(text.to_owned())),
        "arrayValue" => {
            Some(Any::Array(List { values: list(value, "values").map(|item| any(item, depth + 1)).collect() }))
        }
        "kvlistValue" => Some(Any::Map(Pairs { values: key_values(value.get("values"), depth + 1) })),
        _ => None,
    };
    AnyValue { value }
}
