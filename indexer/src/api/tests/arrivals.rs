//! Ways in beside Loki's push.

use std::io::Write;

use super::*;

impl Server {
    async fn post(&self, path: &str, kind: &str, body: impl Into<Body>) -> (StatusCode, String) {
        let request = Request::post(path).header("content-type", kind);
        self.send(request.body(body.into()).expect("a request")).await
    }

    /// The lines of a stream selector with all their labels.
    async fn lines(&self, query: &str) -> Value {
        self.data("query_range", &[("query", query), ("direction", "forward")]).await["result"].clone()
    }
}

#[tokio::test]
async fn otlp_as_json() {
    let server = server(FakeDisk::new());
    let now = ago_ns(5);
    let attribute = |key: &str, value: Value| json!({"key": key, "value": value});
    let body = json!({"resourceLogs": [{
        "resource": {"attributes": [
            attribute("service.name", json!({"stringValue": "api"})),
            attribute("host.name", json!({"stringValue": "h"})),
        ]},
        "scopeLogs": [{"scope": {"name": "lib", "version": "1"}, "logRecords": [
            {
                "timeUnixNano": now, "severityNumber": 17, "severityText": "ERROR", "body": {"stringValue": "boom"},
                "traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174",
                "attributes": [
                    attribute("http.status", json!({"intValue": "500"})),
                    attribute("ctx", json!({"kvlistValue": {"values": [attribute("a.b", json!({"boolValue": true}))]}})),
                    attribute("list", json!({"arrayValue": {"values": [{"intValue": 1}, {"stringValue": "x"}]}})),
                ],
            },
            {"timeUnixNano": "1", "body": {"stringValue": "old"}},
        ]}],
    }]});
    let (status, text) = server.post("/otlp/v1/logs", "application/json", body.to_string()).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    assert!(text.contains("\"rejectedLogRecords\":\"1\"") && text.contains("timestamp too old"), "{text}");
    let expected = json!([{
        "stream": {
            "service_name": "api", "host_name": "h", "scope_name": "lib", "scope_version": "1", "severity_number": "17",
            "severity_text": "ERROR", "trace_id": "5b8efff798038103d269b633813fc60c", "span_id": "eee19b7ec3c1b174",
            "http_status": "500", "ctx_a_b": "true", "list": "[1,\"x\"]",
        },
        "values": [[now, "boom"]],
    }]);
    assert_eq!(server.lines(r#"{service_name="api"}"#).await, expected);
    assert_eq!(server.post("/otlp/v1/logs", "application/json", "{").await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn otlp_as_protobuf() {
    use crate::api::otlp::proto::{Any, AnyValue, Record, Request, ResourceLogs, ScopeLogs};
    let server = server(FakeDisk::new());
    let body = Some(AnyValue { value: Some(Any::Text("hello".into())) });
    let record = Record { observed_time_unix_nano: model::now_ns() as u64, body, ..Record::default() };
    let logs = ScopeLogs { scope: None, log_records: vec![record] };
    let request = Request { resource_logs: vec![ResourceLogs { resource: None, scope_logs: vec![logs] }] };
    let (status, text) = server.post("/otlp/v1/logs", "application/x-protobuf", request.encode_to_vec()).await;
    assert_eq!((status, text.as_str()), (StatusCode::OK, ""));
    let lines = server.lines(r#"{service_name="unknown_service"} | drop observed_timestamp"#).await;
    assert_eq!(
        (lines[0]["values"][0][1].clone(), lines[0]["stream"].as_object().map(|set| set.len())),
        (json!("hello"), Some(1))
    );
    assert_eq!(server.post("/otlp/v1/logs", "application/x-protobuf", vec![0xFF]).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn bulk_takes_item_by_item() {
    let server = server(FakeDisk::new());
    let at = model::format_rfc3339_ms(model::now_ms() - 5000);
    let body = format!(
        "{{\"create\":{{\"_index\":\"logs-x\"}}}}\n{{\"@timestamp\":\"{at}\",\"message\":\"hi\",\"log\":{{\"level\":\"warn\"}}}}\n\
         {{\"index\":{{\"_index\":\"logs-x\"}}}}\n{{\"@timestamp\":\"1999-01-01T00:00:00Z\",\"message\":\"old\"}}\n\
         {{\"delete\":{{\"_index\":\"logs-x\",\"_id\":\"1\"}}}}\n"
    );
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(body.as_bytes()).expect("in memory");
    let request = Request::post("/elasticsearch/_bulk").header("content-encoding", "gzip");
    let body = Body::from(gzip.finish().expect("in memory"));
    let (status, text) = server.send(request.body(body).expect("a request")).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    let answer: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(answer["errors"], true);
    let statuses = ["create", "index", "delete"]
        .iter()
        .enumerate()
        .map(|(i, action)| answer["items"][i][action]["status"].clone());
    assert_eq!(statuses.collect::<Vec<_>>(), [201, 400, 400]);
    let lines = server.lines(r#"{index="logs-x"}"#).await;
    assert_eq!(lines[0]["stream"], json!({"index": "logs-x", "log_level": "warn"}));
    assert_eq!(lines[0]["values"].as_array().map(Vec::len), Some(1));
    assert_eq!(server.post("/_bulk", "application/x-ndjson", "{\"index\":{}}").await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn shippers_find_what_they_ask_for() {
    let server = server(FakeDisk::new());
    let check = async |method: &str, path: &str, expected: &str| {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).expect("a request");
        let response = server.indexer.clone().router().oneshot(request).await.expect("answers");
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        assert_eq!(response.headers().get("x-elastic-product").expect("the product"), "Elasticsearch", "{path}");
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.expect("a body");
        assert!(String::from_utf8_lossy(&body).contains(expected), "{path}");
    };
    check("GET", "/elasticsearch/", "8.15.0").await;
    check("HEAD", "/elasticsearch", "").await;
    check("GET", "/elasticsearch/_license", "active").await;
    check("GET", "/_cluster/health?wait_for_status=yellow", "green").await;
    check("GET", "/_nodes/http", "nodes").await;
    check("GET", "/_xpack", "license").await;
    check("PUT", "/_index_template/filebeat", "acknowledged").await;
    check("PUT", "/_ilm/policy/filebeat", "acknowledged").await;
    check("GET", "/_ingest/pipeline/x", "{}").await;
}

#[tokio::test]
async fn json_lines_with_named_fields() {
    let server = server(FakeDisk::new());
    let path = "/insert/jsonline?_msg_field=text&_stream_fields=app&_time_field=t";
    let body = format!("{{\"text\":\"one\",\"app\":\"a\",\"t\":{},\"n\":1}}\n\nbroken\n", ago_ns(5));
    let (status, text) = server.post(path, "application/json", body).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(text.contains("not a JSON object") && text.contains("total ignored: 1 out of 2"), "{text}");
    let lines = server.lines(r#"{app="a"}"#).await;
    assert_eq!(lines[0]["stream"], json!({"app": "a", "source": "jsonline", "n": "1"}));
}

#[tokio::test]
async fn push_in_every_encoding() {
    let server = server(FakeDisk::new());
    let body = |text: &str| json!({"streams": [{"stream": {"app": "e"}, "values": [[ago_ns(5), text]]}]}).to_string();
    let gzip = |text: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(body(text).as_bytes()).expect("in memory");
        encoder.finish().expect("in memory")
    };
    let zlib = |text: &str| {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(body(text).as_bytes()).expect("in memory");
        encoder.finish().expect("in memory")
    };
    let bare = |text: &str| {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(body(text).as_bytes()).expect("in memory");
        encoder.finish().expect("in memory")
    };
    let zstd = |text: &str| zstd::encode_all(body(text).as_bytes(), 1).expect("in memory");
    for (encoding, body) in [("gzip", gzip("1")), ("deflate", zlib("2")), ("deflate", bare("3")), ("zstd", zstd("4"))] {
        assert_eq!(server.push("application/json", encoding, body).await.0, StatusCode::NO_CONTENT, "{encoding}");
    }
    assert_eq!(server.push("application/json", "br", vec![]).await.0, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let count = server.data("query", &[("query", r#"sum(count_over_time({app="e"}[1h]))"#)]).await;
    assert_eq!(count["result"][0]["value"][1], "4");
}
