//! Elasticsearch's `_bulk`, and JSON lines.
//!
//! `index` and `create` add a line; what else an action may be is refused, item by item. An item's status 201 means that its
//! line is durable; 429 for all means that none is. Around it stand the answers that shippers ask for before they send
//! (Filebeat, Fluent Bit, Fluentd, Logstash, Vector): who is there, licences, templates, pipelines, policies. At the root they
//! get the same ([`greeting`]), where browsers get the page.

use ::service::http::{Params, Tenant};
use axum::body::Bytes;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Json as Body, Router};
use serde_json::{Map, Value as Json, json};

use super::documents::Reading;
use super::intake::{Intake, decode};
use super::{Api, LokiError};
use crate::admission::Refusal;

/// What clients take this for.
const VERSION: &str = "8.15.0";
/// The reason of what is no document.
const MALFORMED: &str = "malformed";
/// Documents of one request.
const MAX_ITEMS: usize = 1_000_000;

/// Parameters of the query string alone: the body is documents.
pub struct Query(Params);

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Query(Params::parse(parts.uri.query().unwrap_or(""))))
    }
}

/// At the root, as shippers write it, and under `/elasticsearch` and `/insert/elasticsearch`.
pub fn router() -> Router<Api> {
    let mut router = Router::new()
        .route("/insert/jsonline", post(json_lines))
        .route("/elasticsearch", get(about).head(about))
        .route("/elasticsearch/", get(about).head(about));
    for prefix in ["", "/elasticsearch", "/insert/elasticsearch"] {
        let at = |path: &str| format!("{prefix}{path}");
        router =
            router.route(&at("/_bulk"), post(bulk).put(bulk)).route(&at("/{index}/_bulk"), post(bulk_of).put(bulk_of));
        for path in [
            "/_license",
            "/_cluster/{*rest}",
            "/_cat/{*rest}",
            "/_nodes",
            "/_nodes/{*rest}",
            "/_ilm/{*rest}",
            "/_template",
            "/_template/{*rest}",
            "/_index_template",
            "/_index_template/{*rest}",
            "/_component_template/{*rest}",
            "/_ingest/{*rest}",
            "/_data_stream/{*rest}",
            "/_alias/{*rest}",
            "/_aliases",
            "/_logstash",
            "/_logstash/{*rest}",
            "/_xpack",
        ] {
            router = router.route(&at(path), any(stub));
        }
    }
    router.route("/insert/elasticsearch/", get(about).head(about))
}

/// Parts of the names by which Elasticsearch's clients call themselves.
const CLIENTS: [&str; 6] = ["elastic", "beat", "logstash", "fluent", "vector", "opensearch"];

/// Whether `/` is asked for by a shipper that wants to know which Elasticsearch this is, and not by somebody who wants the
/// page: it says so by its name or its headers, or takes nothing but JSON.
fn is_client(headers: &HeaderMap) -> bool {
    let values = |name: HeaderName| headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    let accepts = |kind: &str| values(header::ACCEPT).any(|value| value.contains(kind));
    if accepts("text/html") {
        return false;
    }
    let agent = values(header::USER_AGENT).collect::<String>().to_ascii_lowercase();
    let is_named = CLIENTS.iter().any(|client| agent.contains(client));
    is_named || accepts("json") || headers.keys().any(|name| name.as_str().starts_with("x-elastic-"))
}

/// What a request for `/` is answered, if it is one of Elasticsearch's clients that asks.
pub fn greeting(method: &Method, headers: &HeaderMap) -> Option<Response> {
    (matches!(*method, Method::GET | Method::HEAD) && is_client(headers)).then(answer_about)
}

/// With the header without which Elastic's own clients go away.
fn answer(status: StatusCode, body: Json) -> Response {
    let product = (HeaderName::from_static("x-elastic-product"), HeaderValue::from_static("Elasticsearch"));
    (status, [product], Body(body)).into_response()
}

async fn about() -> Response {
    answer_about()
}

fn answer_about() -> Response {
    let body = json!({
        "name": "binnacle",
        "cluster_name": "binnacle",
        "cluster_uuid": "binnacle",
        "version": {
            "number": VERSION,
            "build_flavor": "default",
            "lucene_version": "9.11.1",
            "minimum_wire_compatibility_version": "7.17.0",
            "minimum_index_compatibility_version": "7.0.0",
        },
        "tagline": "You Know, for Search",
    });
    answer(StatusCode::OK, body)
}

/// What shippers set up before they send is there already.
async fn stub(parts: Parts) -> Response {
    let path = parts.uri.path();
    let body = if path.ends_with("/_license") {
        json!({"license": {"uid": "binnacle", "type": "basic", "mode": "basic", "status": "active", "expiry_date_in_millis": 4_000_000_000_000_i64}})
    } else if path.ends_with("/_xpack") {
        json!({"license": {"type": "basic", "mode": "basic", "status": "active"}, "features": {"ilm": {"available": true, "enabled": true}}})
    } else if path.contains("/_cluster/health") {
        json!({"cluster_name": "binnacle", "status": "green", "timed_out": false, "number_of_nodes": 1, "number_of_data_nodes": 1})
    } else if path.contains("/_nodes") {
        json!({"cluster_name": "binnacle", "nodes": {"binnacle": {"name": "binnacle", "version": VERSION, "roles": ["data", "ingest", "master"]}}})
    } else if parts.method == "GET" || parts.method == "HEAD" {
        json!({})
    } else {
        json!({"acknowledged": true})
    };
    answer(StatusCode::OK, body)
}

async fn bulk(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    Query(params): Query,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    take(&api, &tenant, "", &params, &headers, &body).await.unwrap_or_else(failure)
}

async fn bulk_of(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    Path(index): Path<String>,
    Query(params): Query,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    take(&api, &tenant, &index, &params, &headers, &body).await.unwrap_or_else(failure)
}

fn failure(error: LokiError) -> Response {
    // Shippers try again after 429.
    let status =
        if error.status == StatusCode::SERVICE_UNAVAILABLE { StatusCode::TOO_MANY_REQUESTS } else { error.status };
    let reason = json!({"type": "illegal_argument_exception", "reason": error.message});
    answer(status, json!({"error": reason, "status": status.as_u16()}))
}

fn header_of(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

async fn take(
    api: &Api,
    tenant: &str,
    index: &str,
    params: &Params,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Response, LokiError> {
    let started = std::time::Instant::now();
    let encoding = header_of(headers, header::CONTENT_ENCODING.as_str()).unwrap_or_default();
    let body = decode(&encoding, body)?;
    let reading = Reading::of(params, |name| header_of(headers, name)).map_err(LokiError::bad)?;
    let mut intake = Intake::new(api, tenant);
    let mut items = Vec::new();
    let now_ns = model::now_ns();
    for item in items_of(&body, index)? {
        let taken = match item.document {
            Ok(document) => {
                let (labels, entry) = reading.line(document, ("index", &item.index), now_ns);
                intake.line(&labels, entry)
            }
            Err(reason) => {
                let refusal = Refusal::new(MALFORMED, reason);
                intake.refuse(1, 0, refusal.clone());
                Err(refusal)
            }
        };
        items.push(outcome(&item.action, &item.index, taken));
    }
    let outcome = intake.append(api).await?;
    let took_ms = started.elapsed().as_millis() as u64;
    Ok(answer(StatusCode::OK, json!({"took": took_ms, "errors": outcome.refused > 0, "items": items})))
}

fn outcome(action: &str, index: &str, taken: Result<(), Refusal>) -> Json {
    let body = match taken {
        Ok(()) => json!({"_index": index, "_id": "", "_version": 1, "result": "created", "status": 201}),
        Err(refusal) => {
            let (kind, status) = match refusal.passes() {
                true => ("es_rejected_execution_exception", 429),
                false => ("document_parsing_exception", 400),
            };
            let error = json!({"type": kind, "reason": refusal.message});
            json!({"_index": index, "_id": "", "status": status, "error": error})
        }
    };
    json!({action: body})
}

/// An action and its document.
#[derive(Debug, PartialEq)]
pub struct Item {
    action: String,
    index: String,
    pub document: Result<Map<String, Json>, String>,
}

/// The items of a body: lines of an action and, where it has one, its document. A body that loses its step is refused whole.
pub fn items_of(body: &[u8], index: &str) -> Result<Vec<Item>, LokiError> {
    let text = std::str::from_utf8(body).map_err(|error| LokiError::bad(format!("the body is no UTF-8: {error}")))?;
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let mut items = Vec::new();
    while let Some(line) = lines.next() {
        if items.len() >= MAX_ITEMS {
            return Err(LokiError::bad(format!("more than {MAX_ITEMS} actions")));
        }
        let action: Map<String, Json> = serde_json::from_str(line).map_err(|error| {
            LokiError::bad(format!("Malformed action/metadata line [{}]: {error}", items.len() * 2 + 1))
        })?;
        let Some((name, settings)) = action.into_iter().next() else {
            return Err(LokiError::bad("Malformed action/metadata line: no action"));
        };
        let index = settings.get("_index").and_then(Json::as_str).unwrap_or(index).to_owned();
        let document = match name.as_str() {
            "index" | "create" => {
                let document = lines.next().ok_or_else(|| LokiError::bad("the last action has no document"))?;
                serde_json::from_str(document).map_err(|error| format!("failed to parse: {error}"))
            }
            "delete" => Err("lines cannot be deleted by _bulk".to_owned()),
            "update" => {
                lines.next();
                Err("lines cannot be updated".to_owned())
            }
            other => return Err(LokiError::bad(format!("Malformed action/metadata line: unknown action [{other}]"))),
        };
        items.push(Item { action: name, index, document });
    }
    Ok(items)
}

/// A document per line. Bad ones are refused with 400 and the reasons, the others taken.
async fn json_lines(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    Query(params): Query,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, LokiError> {
    let encoding = header_of(&headers, header::CONTENT_ENCODING.as_str()).unwrap_or_default();
    let body = decode(&encoding, &body)?;
    let reading = Reading::of(&params, |name| header_of(&headers, name)).map_err(LokiError::bad)?;
    let mut intake = Intake::new(&api, &tenant);
    let now_ns = model::now_ns();
    for line in body.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
        match serde_json::from_slice(line) {
            Ok(document) => {
                let (labels, entry) = reading.line(document, ("source", "jsonline"), now_ns);
                // Why a line is refused is in the outcome.
                let _ = intake.line(&labels, entry);
            }
            Err(error) => {
                intake.refuse(1, line.len(), Refusal::new(MALFORMED, format!("not a JSON object: {error}")));
            }
        }
    }
    let outcome = intake.append(&api).await?;
    outcome.refusal().map_or(Ok(StatusCode::NO_CONTENT), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_from_browsers() {
        let check = |headers: &[(&'static str, &'static str)], expected: bool| {
            let headers =
                headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
            assert_eq!(is_client(&headers.clone().collect()), expected, "{:?}", headers.collect::<Vec<_>>());
        };
        check(&[("user-agent", "Elastic-filebeat/8.15.0 (linux; amd64)"), ("accept", "application/json")], true);
        check(&[("user-agent", "filebeat/7.17.0")], true);
        check(&[("user-agent", "logstash/8.15.0 (OS=Linux; JVM=OpenJDK) logstash-output-elasticsearch/11.22")], true);
        check(&[("user-agent", "elasticsearch-ruby/8.15.0 (RUBY_VERSION: 3.3.0; linux x86_64; Faraday v2.9.0)")], true);
        check(&[("user-agent", "Vector/0.50.0 (x86_64-unknown-linux-gnu)")], true);
        check(&[("user-agent", "Fluent-Bit")], true);
        check(&[("x-elastic-client-meta", "es=8.15.0")], true);
        check(&[("accept", "application/vnd.elasticsearch+json;compatible-with=8")], true);
        check(&[("user-agent", "Mozilla/5.0"), ("accept", "text/html,application/xhtml+xml,*/*;q=0.8")], false);
        check(&[("user-agent", "Mozilla/5.0 Vector/1"), ("accept", "text/html,application/json")], false);
        check(&[("user-agent", "curl/8.5.0"), ("accept", "*/*")], false);
        check(&[], false);
    }

    #[test]
    fn items() {
        let check = |body: &str, expected: Result<&[(&str, &str, bool)], &str>| match (
            items_of(body.as_bytes(), "dflt"),
            expected,
        ) {
            (Ok(items), Ok(expected)) => {
                let got: Vec<_> = items
                    .iter()
                    .map(|item| (item.action.as_str(), item.index.as_str(), item.document.is_ok()))
                    .collect();
                assert_eq!(got, expected);
            }
            (Err(error), Err(part)) => assert!(error.message.contains(part), "{}", error.message),
            (got, expected) => panic!("{got:?}, not {expected:?}"),
        };
        check(
            "{\"create\":{\"_index\":\"a\"}}\n{\"m\":1}\n\n{\"index\":{}}\nbroken\n{\"delete\":{}}\n{\"update\":{}}\n{}\n",
            Ok(&[
                ("create", "a", true),
                ("index", "dflt", false),
                ("delete", "dflt", false),
                ("update", "dflt", false),
            ]),
        );
        check("", Ok(&[]));
        check("{\"index\":{}}", Err("no document"));
        check("{}", Err("no action"));
        check("{\"x\":{}}", Err("unknown action [x]"));
        check("nonsense", Err("Malformed action/metadata line [1]"));
        check("[1]", Err("Malformed"));
    }
}
