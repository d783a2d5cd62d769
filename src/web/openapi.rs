//! `/api/v1/openapi.yaml`: the metrics API described in OpenAPI 3.1, for those who generate clients or read it in a
//! viewer. One table; a test compares it with the routes.

use std::sync::Arc;

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use serde_json::{Map, Value, json};
use service::http::ApiError;

use crate::shared::Shared;

pub fn router() -> Router<Arc<Shared>> {
    Router::new().route("/api/v1/openapi.yaml", get(serve))
}

async fn serve() -> Result<impl IntoResponse, ApiError> {
    let text = serde_saphyr::to_string(&document()).map_err(|error| ApiError::internal(error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, "application/yaml; charset=utf-8")], text))
}

const ENVELOPE: &str = "application/json";
const LINES: &str = "application/x-ndjson";
const PROTOBUF: &str = "application/x-protobuf";
const EVENTS: &str = "text/event-stream";
const TEXT: &str = "text/plain";
/// Done, and nothing to say: 204.
const NOTHING: &str = "";

/// Path, methods, what it does, parameters (`!` behind those that are needed), and the kind of the answer.
type Endpoint = (&'static str, &'static str, &'static str, &'static str, &'static str);

const SEARCH: &str = "search[] match[] fuzz_threshold fuzz_alg case_sensitive sort_by sort_dir include_score \
                      include_metadata start end limit batch_size";
const SEARCH_VALUES: &str = "label! search[] match[] fuzz_threshold fuzz_alg case_sensitive sort_by sort_dir include_score \
                             start end limit batch_size";

const ENDPOINTS: &[Endpoint] = &[
    ("query", "get post", "Evaluate at one moment", "query! time timeout lookback_delta limit stats", ENVELOPE),
    (
        "query_range",
        "get post",
        "Evaluate over a range of time",
        "query! start! end! step! timeout lookback_delta limit stats",
        ENVELOPE,
    ),
    ("query_exemplars", "get post", "Exemplars of the series that an expression selects", "query! start end", ENVELOPE),
    ("format_query", "get post", "An expression, formatted", "query!", ENVELOPE),
    ("parse_query", "get post", "An expression as a tree", "query!", ENVELOPE),
    ("labels", "get post", "Names of labels", "match[] start end limit", ENVELOPE),
    ("label/{name}/values", "get", "Values of a label", "match[] start end limit", ENVELOPE),
    ("series", "get post", "The label sets of the selected series", "match[]! start end limit", ENVELOPE),
    ("metadata", "get", "Types, units and descriptions of metrics", "metric limit limit_per_metric", ENVELOPE),
    ("search/metric_names", "get post", "Names of metrics that resemble a text", SEARCH, LINES),
    ("search/label_names", "get post", "Names of labels that resemble a text", SEARCH, LINES),
    ("search/label_values", "get post", "Values of a label that resemble a text", SEARCH_VALUES, LINES),
    ("read", "post", "Remote read, as samples or as streamed chunks", "", PROTOBUF),
    ("write", "post", "Remote write 1.0 and 2.0", "", NOTHING),
    ("otlp/v1/metrics", "post", "OTLP metrics, as protobuf or JSON", "", PROTOBUF),
    ("import", "post", "Samples as JSON lines", "extra_label", NOTHING),
    ("import/prometheus", "post", "Samples in a text format that is scraped", "timestamp extra_label", NOTHING),
    ("export", "get post", "Samples as JSON lines", "match[]! start end max_rows_per_line", LINES),
    ("metrics", "get", "Groups that were pushed as to a Pushgateway", "", ENVELOPE),
    (
        "rules",
        "get",
        "Rules and their states",
        "type rule_name[] rule_group[] file[] match[] exclude_alerts group_limit group_next_token",
        ENVELOPE,
    ),
    ("alerts", "get", "Alerts of rules, pending and firing", "", ENVELOPE),
    ("alertmanagers", "get", "Where alerts are sent", "", ENVELOPE),
    ("targets", "get", "Targets with their last scrape and its error", "state scrapePool", ENVELOPE),
    ("targets/metadata", "get", "What targets say of their metrics", "match_target metric limit", ENVELOPE),
    ("targets/relabel_steps", "get", "What each rule makes of a target's labels", "scrapePool! labels!", ENVELOPE),
    ("scrape_pools", "get", "Names of scrape pools", "", ENVELOPE),
    ("status/config", "get", "The configuration in force, its secrets masked", "", ENVELOPE),
    ("status/flags", "get", "Flags and their values", "", ENVELOPE),
    ("status/runtimeinfo", "get", "The process", "", ENVELOPE),
    ("status/buildinfo", "get", "The build", "", ENVELOPE),
    ("status/walreplay", "get", "How far the start has come", "", ENVELOPE),
    ("status/self_metrics", "get", "Our own metrics", "metric_name_pattern", ENVELOPE),
    ("status/tsdb", "get", "Cardinality: the largest metrics, labels and values", "limit", ENVELOPE),
    ("status/tsdb/blocks", "get", "Stored parts", "", ENVELOPE),
    ("features", "get", "What is supported", "", ENVELOPE),
    ("notifications", "get", "What an operator should know now", "", ENVELOPE),
    ("notifications/live", "get", "The same, as it changes", "", EVENTS),
    ("openapi.yaml", "get", "This document", "", TEXT),
    ("admin/tsdb/delete_series", "post put", "Delete samples of the selected series", "match[]! start end", NOTHING),
    ("admin/tsdb/clean_tombstones", "post put", "Carry deletes out now", "", NOTHING),
    ("admin/tsdb/snapshot", "post put", "A snapshot by hard links", "skip_head", ENVELOPE),
];

fn document() -> Value {
    let paths: Map<String, Value> =
        ENDPOINTS.iter().map(|endpoint| (format!("/api/v1/{}", endpoint.0), operations(endpoint))).collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Binnacle: metrics",
            "description": "Prometheus' HTTP API. Unknown parameters are ignored; `X-Scope-OrgID` names a tenant.",
            "version": env!("CARGO_PKG_VERSION"),
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": {"Success": success(), "Error": error()},
            "responses": {"Error": answer("What went wrong", ENVELOPE, "Error")},
        },
    })
}

fn operations((path, methods, summary, parameters, kind): &Endpoint) -> Value {
    let operation = |method: &str| {
        let words = path.split(['/', '_', '{', '}', '.']).filter(|word| !word.is_empty());
        let id = words.fold(method.to_owned(), |id, word| id + "-" + word);
        let in_path = path.contains("{name}").then(|| parameter("name!", "path"));
        let asked = parameters.split_whitespace().map(|name| parameter(name, "query"));
        let done = match *kind {
            NOTHING => json!({"204": {"description": "Done"}}),
            kind => json!({"200": answer("The answer", kind, "Success")}),
        };
        let mut operation = json!({"operationId": id, "summary": summary, "responses": done});
        operation["responses"]["default"] = json!({"$ref": "#/components/responses/Error"});
        match method {
            "post" if methods.contains("get") => operation["requestBody"] = form(parameters),
            _ => operation["parameters"] = in_path.into_iter().chain(asked).collect(),
        }
        operation
    };
    methods.split(' ').map(|method| (method.to_owned(), operation(method))).collect()
}

/// `NAME` or, where it is needed, `NAME!`; those in brackets are repeated.
fn parameter(name: &str, place: &str) -> Value {
    json!({"name": name.trim_end_matches('!'), "in": place, "required": name.ends_with('!'), "schema": schema(name)})
}

fn schema(name: &str) -> Value {
    let text = json!({"type": "string"});
    match name.trim_end_matches('!').ends_with("[]") {
        true => json!({"type": "array", "items": text}),
        false => text,
    }
}

/// The parameters as a form, which may be longer than an address.
fn form(parameters: &str) -> Value {
    let names = || parameters.split_whitespace();
    let properties: Map<String, Value> =
        names().map(|name| (name.trim_end_matches('!').to_owned(), schema(name))).collect();
    let required: Vec<&str> = names().filter_map(|name| name.strip_suffix('!')).collect();
    let schema = json!({"type": "object", "properties": properties, "required": required});
    json!({"content": {"application/x-www-form-urlencoded": {"schema": schema}}})
}

fn answer(description: &str, kind: &str, envelope: &str) -> Value {
    let schema = match kind {
        ENVELOPE => json!({"$ref": format!("#/components/schemas/{envelope}")}),
        _ => json!({"type": "string"}),
    };
    json!({"description": description, "content": {kind: {"schema": schema}}})
}

fn success() -> Value {
    let texts = json!({"type": "array", "items": {"type": "string"}});
    json!({
        "type": "object",
        "required": ["status", "data"],
        "properties": {"status": {"const": "success"}, "data": {}, "warnings": texts, "infos": texts},
    })
}

fn error() -> Value {
    json!({
        "type": "object",
        "required": ["status", "errorType", "error"],
        "properties": {"status": {"const": "error"}, "errorType": {"type": "string"}, "error": {"type": "string"}},
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    /// `.route("/api/v1/…", …` in the files of a directory.
    fn routes(dir: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path()) {
            if entry.is_dir() {
                routes(&entry, found);
            } else {
                let text = std::fs::read_to_string(&entry).expect("a source");
                let after = text.split(".route(\"/api/v1/").skip(1);
                found.extend(after.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())));
            }
        }
    }

    #[test]
    fn every_route_is_described() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut found = BTreeSet::new();
        routes(&root.join("src/web"), &mut found);
        routes(&root.join("tsdb/src/api"), &mut found);
        // What this test itself looks for.
        found.remove("");
        found.retain(|path| !path.starts_with('…') && !path.ends_with('\\'));
        let described: BTreeSet<String> = ENDPOINTS.iter().map(|endpoint| endpoint.0.to_owned()).collect();
        assert_eq!(described, found);
    }

    #[test]
    fn an_operation_has_its_parameters() {
        let document = document();
        let range = &document["paths"]["/api/v1/query_range"];
        assert_eq!(range["get"]["parameters"][3]["name"], "step");
        assert_eq!(range["get"]["parameters"][3]["required"], true);
        let form = &range["post"]["requestBody"]["content"]["application/x-www-form-urlencoded"]["schema"];
        assert_eq!(form["required"], json!(["query", "start", "end", "step"]));
        let values = &document["paths"]["/api/v1/label/{name}/values"]["get"]["parameters"];
        assert_eq!((&values[0]["in"], &values[1]["schema"]["type"]), (&json!("path"), &json!("array")));
        assert_eq!(document["paths"]["/api/v1/write"]["post"]["responses"]["204"]["description"], "Done");
    }
}
