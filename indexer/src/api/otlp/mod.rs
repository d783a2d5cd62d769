//! OpenTelemetry's logs over HTTP, protobuf or JSON, at `/otlp/v1/logs`, and over gRPC.
//!
//! As Loki maps them: the resource attributes that say where a thing runs are the stream's labels; all other attributes, of
//! resource, scope and record, are the line's structured metadata, and so are severity, trace and span. The body is the
//! line. 200 means that all records but those counted in `partialSuccess` are durable.

mod grpc;
pub(super) mod proto;

use ::query::format_number;
use ::service::http::Tenant;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use model::Labels;
use prost::Message;
use serde_json::{Value as Json, json};

use super::intake::{Entry, Intake, Outcome, decode};
use super::{Api, LokiError};
use proto::{Any, AnyValue, KeyValue, PartialSuccess, Record, Request};

/// Resource attributes that are labels.
const INDEXED: [&str; 18] = [
    "service.name",
    "service.namespace",
    "service.instance.id",
    "deployment.environment",
    "deployment.environment.name",
    "cloud.region",
    "cloud.availability_zone",
    "k8s.cluster.name",
    "k8s.namespace.name",
    "k8s.pod.name",
    "k8s.container.name",
    "container.name",
    "k8s.replicaset.name",
    "k8s.deployment.name",
    "k8s.statefulset.name",
    "k8s.daemonset.name",
    "k8s.cronjob.name",
    "k8s.job.name",
];

const SERVICE_NAME: &str = "service_name";
const MAX_DEPTH: usize = 32;

type Pairs = Vec<(String, String)>;

pub async fn logs(State(api): State<Api>, Tenant(tenant): Tenant, headers: HeaderMap, body: Bytes) -> Response {
    let header = |name| headers.get(name).and_then(|value: &header::HeaderValue| value.to_str().ok()).unwrap_or("");
    let is_json = header(header::CONTENT_TYPE).starts_with("application/json");
    match take(&api, &tenant, is_json, header(header::CONTENT_ENCODING), &body).await {
        Ok(outcome) => answer(is_json, &outcome),
        Err(error) => refusal(is_json, &error),
    }
}

async fn take(api: &Api, tenant: &str, is_json: bool, encoding: &str, body: &[u8]) -> Result<Outcome, LokiError> {
    let request = read(is_json, encoding, body)?;
    let mut intake = Intake::new(api, tenant);
    for (labels, entry) in entries(request, model::now_ns()) {
        // Why a record is refused is in the outcome.
        let _ = intake.line(&labels, entry);
    }
    let outcome = intake.append(api).await?;
    // Senders of OpenTelemetry send again what is refused as a whole, and never what is in a partial success.
    if outcome.is_for_later { Err(LokiError::too_much(outcome.reasons)) } else { Ok(outcome) }
}

/// A request as it comes over the wire.
pub fn read(is_json: bool, encoding: &str, body: &[u8]) -> Result<Request, LokiError> {
    let body = decode(encoding, body)?;
    let request = match is_json {
        true => proto::from_json(&body),
        false => Request::decode(body).map_err(|error| error.to_string()),
    };
    request.map_err(|error| LokiError::bad(format!("not an export request: {error}")))
}

fn answer(is_json: bool, outcome: &Outcome) -> Response {
    let rejected = outcome.refused as i64;
    if is_json {
        let partial = json!({"rejectedLogRecords": rejected.to_string(), "errorMessage": outcome.reasons});
        let body = if rejected > 0 { json!({"partialSuccess": partial}) } else { json!({}) };
        return axum::Json(body).into_response();
    }
    ([(header::CONTENT_TYPE, "application/x-protobuf")], partial(outcome).encode_to_vec()).into_response()
}

fn partial(outcome: &Outcome) -> proto::Response {
    let rejected = outcome.refused as i64;
    let partial = PartialSuccess { rejected_log_records: rejected, error_message: outcome.reasons.clone() };
    proto::Response { partial_success: (rejected > 0).then_some(partial) }
}

fn refusal(is_json: bool, error: &LokiError) -> Response {
    // The codes of gRPC: unavailable is worth another try.
    let code = if is_for_later(error) { 14 } else { 3 };
    if is_json {
        return (error.status, axum::Json(json!({"code": code, "message": error.message}))).into_response();
    }
    let body = proto::Status { code, message: error.message.clone() }.encode_to_vec();
    (error.status, [(header::CONTENT_TYPE, "application/x-protobuf")], body).into_response()
}

/// Whether the same request may be taken later.
fn is_for_later(error: &LokiError) -> bool {
    matches!(error.status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS)
}

/// The records of a request as lines of streams.
pub fn entries(request: Request, now_ns: i64) -> Vec<(Labels, Entry)> {
    let mut found = Vec::new();
    for logs in request.resource_logs {
        let attributes = logs.resource.map(|resource| resource.attributes).unwrap_or_default();
        let (indexed, others): (Vec<KeyValue>, _) =
            attributes.into_iter().partition(|attribute| INDEXED.contains(&attribute.key.as_str()));
        let mut labels = Pairs::new();
        flatten(&indexed, "", 0, &mut labels);
        if labels.iter().all(|(name, value)| name != SERVICE_NAME || value.is_empty()) {
            labels.push((SERVICE_NAME.to_owned(), "unknown_service".to_owned()));
        }
        let labels = Labels::from_pairs(labels);
        let mut of_resource = Pairs::new();
        flatten(&others, "", 0, &mut of_resource);
        for logs in logs.scope_logs {
            let mut shared = of_resource.clone();
            if let Some(scope) = logs.scope {
                flatten(&scope.attributes, "", 0, &mut shared);
                shared.push(("scope_name".to_owned(), scope.name));
                shared.push(("scope_version".to_owned(), scope.version));
            }
            found.extend(logs.log_records.into_iter().map(|record| (labels.clone(), entry(record, &shared, now_ns))));
        }
    }
    found
}

fn entry(record: Record, shared: &Pairs, now_ns: i64) -> Entry {
    let time = |ns: u64| i64::try_from(ns).ok().filter(|ns| *ns > 0);
    let t_ns = time(record.time_unix_nano).or(time(record.observed_time_unix_nano)).unwrap_or(now_ns);
    let mut metadata = Pairs::new();
    flatten(&record.attributes, "", 0, &mut metadata);
    let mut add = |name: &str, value: String| metadata.push((name.to_owned(), value));
    if record.observed_time_unix_nano != 0 {
        add("observed_timestamp", record.observed_time_unix_nano.to_string());
    }
    if record.severity_number != 0 {
        add("severity_number", record.severity_number.to_string());
    }
    add("severity_text", record.severity_text);
    if record.dropped_attributes_count != 0 {
        add("dropped_attributes_count", record.dropped_attributes_count.to_string());
    }
    if record.flags != 0 {
        add("flags", record.flags.to_string());
    }
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    add("trace_id", hex(&record.trace_id));
    add("span_id", hex(&record.span_id));
    metadata.extend(shared.iter().cloned());
    metadata.retain(|(_, value)| !value.is_empty());
    let line = record.body.map(|body| text(&body, 0)).unwrap_or_default();
    Entry { t_ns: Some(t_ns), line, metadata }
}

/// A label's name from an attribute's key.
fn name_of(key: &str) -> String {
    let mut name: String = key.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        name.insert_str(0, "key_");
    }
    name
}

/// Attributes as labels; a map is its members, under its name.
fn flatten(attributes: &[KeyValue], prefix: &str, depth: usize, into: &mut Pairs) {
    for attribute in attributes {
        let mut name = name_of(&attribute.key);
        if !prefix.is_empty() {
            name = format!("{prefix}_{name}");
        }
        match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
            Some(Any::Map(pairs)) if depth < MAX_DEPTH => flatten(&pairs.values, &name, depth + 1, into),
            Some(_) => into.push((name, attribute.value.as_ref().map(|value| text(value, 0)).unwrap_or_default())),
            None => {}
        }
    }
}

/// A value as text: what is not one is JSON.
fn text(value: &AnyValue, depth: usize) -> String {
    match &value.value {
        Some(Any::Text(text)) => text.clone(),
        Some(Any::Double(value)) => format_number(*value),
        None => String::new(),
        Some(_) => as_json(value, depth).to_string(),
    }
}

fn as_json(value: &AnyValue, depth: usize) -> Json {
    if depth > MAX_DEPTH {
        return Json::Null;
    }
    match &value.value {
        None => Json::Null,
        Some(Any::Text(text)) => json!(text),
        Some(Any::Bool(value)) => json!(value),
        Some(Any::Int(value)) => json!(value),
        Some(Any::Double(value)) => json!(value),
        Some(Any::Bytes(bytes)) => json!(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
        Some(Any::Array(list)) => list.values.iter().map(|item| as_json(item, depth + 1)).collect(),
        Some(Any::Map(pairs)) => {
            let member = |pair: &KeyValue| {
                let value = pair.value.as_ref().map_or(Json::Null, |value| as_json(value, depth + 1));
                (pair.key.clone(), value)
            };
            Json::Object(pairs.values.iter().map(member).collect())
        }
    }
}
