//! Limits: only what is over one is refused, with its reason in the answer and in a metric.

use super::*;

impl Server {
    /// What a counter says, by its label.
    fn counted(&self, name: &str) -> u64 {
        let text = self.metrics.encode();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0, |count| count.parse().expect("a number"))
    }
}

/// Pushes lines of streams; the answer must have this status and say these words.
async fn check(server: &Server, streams: Value, expected: u16, parts: &[&str]) {
    let (status, text) = server.push_json(json!({ "streams": streams })).await;
    assert_eq!(status.as_u16(), expected, "{text}");
    for part in parts {
        assert!(text.contains(part), "{text} does not say {part:?}");
    }
}

fn stream(labels: Value, lines: &[&str]) -> Value {
    let values: Vec<Value> = lines.iter().map(|line| json!([ago_ns(5), line])).collect();
    json!({"stream": labels, "values": values})
}

#[tokio::test]
async fn each_excess_is_refused_alone() {
    let config = "limits: {logs: {max_labels: 2, max_label_name_bytes: 10, max_label_value_bytes: 5, max_line_size: 8B, \
                  truncate_long_lines: false, max_metadata_labels: 1, max_metadata_size: 20B, max_streams: 2, \
                  discover_service_name: [], discover_log_levels: false}}";
    let server = server_with(FakeDisk::new(), config);
    let with = |metadata: Value| json!({"stream": {"a": "b"}, "values": [[ago_ns(5), "x", metadata]]});
    let streams = json!([
        stream(json!({"a": "b"}), &["good", "a line too long"]),
        stream(json!({"a": "1", "b": "2", "c": "3"}), &["x", "y"]),
        stream(json!({"much_too_long": "1"}), &["x"]),
        stream(json!({"a": "value too long"}), &["x"]),
        with(json!({"k": "twenty bytes and more"})),
        with(json!({"k": "1", "l": "2"})),
        stream(json!({"a": "2"}), &["good too"]),
        stream(json!({"a": "3"}), &["one stream too many"]),
        stream(json!({}), &["of no stream"]),
        json!({"stream": {"a": "b"}, "values": [["1", "old"], ["9000000000000000000", "new"], ["soon", "never"]]}),
    ]);
    let parts = [
        "Max entry size '8' bytes exceeded for stream '{a=\"b\"}' while adding an entry with length '15' bytes",
        "has 3 label names; limit 2",
        "has label name too long: 'much_too_long'",
        "has label value too long: 'value too long'",
        "has structured metadata too large: '22' bytes, limit: '20' bytes",
        "has too many structured metadata labels: '2', limit: '1'",
        "Maximum active stream limit exceeded when trying to create stream {a=\"3\"}",
        "error at least one label pair is required per stream",
        "has timestamp too old",
        "has timestamp too new",
        "total ignored: 12 out of 14",
    ];
    check(&server, streams, 400, &parts).await;
    let lines = server.data("query", &[("query", r#"sum(count_over_time({a=~".+"}[1h]))"#)]).await;
    assert_eq!(lines["result"][0]["value"][1], "2");
    let reasons = [
        ("line_too_long", 1),
        ("max_label_names_per_series", 2),
        ("label_name_too_long", 1),
        ("label_value_too_long", 1),
        ("structured_metadata_too_large", 1),
        ("structured_metadata_too_many", 1),
        ("stream_limit", 1),
        ("missing_labels", 1),
        ("greater_than_max_sample_age", 1),
        ("too_far_in_future", 1),
        ("invalid_timestamp", 1),
    ];
    for (reason, lines) in reasons {
        let counted = server.counted(&format!("binnacle_indexer_lines_refused_total{{reason=\"{reason}\"}}"));
        assert_eq!(counted, lines, "{reason}");
    }
    assert_eq!(server.counted("binnacle_indexer_bytes_refused_total{reason=\"line_too_long\"}"), 15);
    // What would be taken later may be sent again.
    check(&server, json!([stream(json!({"a": "3"}), &["x"])]), 429, &["Maximum active stream limit exceeded"]).await;
}

#[tokio::test]
async fn what_comes_too_fast_comes_again() {
    let config = "limits: {logs: {ingestion_rate: 1000B, ingestion_burst: 100B}}\n\
                  tenants: {default: {limits: {logs: {ingestion_rate: 1B}}}}";
    let server = server_with(FakeDisk::new(), config);
    let line = "x".repeat(60);
    check(&server, json!([stream(json!({"a": "b"}), &[&line])]), 204, &[]).await;
    let limited = "Ingestion rate limit exceeded for user default (limit: 1 bytes/sec) while attempting to ingest '1' lines \
                   totaling '60' bytes";
    check(&server, json!([stream(json!({"a": "b"}), &[&line])]), 429, &[limited]).await;
    assert_eq!(server.counted("binnacle_indexer_lines_refused_total{reason=\"rate_limited\"}"), 1);
    let other = Request::post("/loki/api/v1/push").header("content-type", "application/json");
    let body = json!({"streams": [stream(json!({"a": "b"}), &[&line])]}).to_string();
    let request = other.header("x-scope-orgid", "other").body(Body::from(body)).expect("a request");
    assert_eq!(server.send(request).await.0, StatusCode::NO_CONTENT);
    // The same limit for what agents send as records.
    let mut batch = LogBatch::new("default", Origin::Pushed);
    batch.streams.push(Labels::from_pairs([("a", "b")]));
    batch.push(0, model::now_ns(), &line, 0, 0);
    assert!(server.indexer.admit_batch(batch.clone()).is_err_and(|reason| reason.contains("Ingestion rate limit")));
    server.indexer.set_log_limits(&limits(""));
    assert!(server.indexer.admit_batch(batch).is_ok_and(|(kept, _)| kept.is_some()));
}

#[tokio::test]
async fn long_lines_are_cut_and_marked() {
    let server = server_with(FakeDisk::new(), "limits: {logs: {max_line_size: 5B, discover_service_name: []}}");
    check(&server, json!([stream(json!({"a": "b"}), &["info é and more"])]), 204, &[]).await;
    let lines = server.data("query_range", &[("query", r#"{a="b"}"#)]).await;
    assert_eq!(lines["result"][0]["stream"], json!({"a": "b", "truncated": "true", "detected_level": "info"}));
    assert_eq!(lines["result"][0]["values"][0][1], "info ");
    assert_eq!(server.counted("binnacle_indexer_lines_cut_total"), 1);
}

#[tokio::test]
async fn queries_have_limits() {
    let config = "limits: {logs: {max_query_bytes_read: 40B, max_query_memory: 100B, max_query_series: 1, max_query_length: 1h, \
                  max_entries_per_query: 50}}";
    let server = server_with(FakeDisk::new(), config);
    let (many, text) = (vec!["x"; 3], "y".repeat(50));
    let lines: Vec<Value> = many.iter().zip(5..).map(|(line, ago)| json!([ago_ns(ago), line])).collect();
    let streams = json!([
        {"stream": {"a": "small"}, "values": lines},
        {"stream": {"a": "large"}, "values": [[ago_ns(5), text]]},
        {"stream": {"a": "tiny"}, "values": [[ago_ns(5), "x"]]},
    ]);
    check(&server, streams, 204, &[]).await;
    let check = async |query: &str, more: &[(&str, &str)], part: &str, limit: &str| {
        let (status, text) = server.get("query_range", &[&[("query", query)], more].concat()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{query}: {text}");
        assert!(text.contains(part), "{query}: {text}");
        if !limit.is_empty() {
            assert!(
                server.counted(&format!("binnacle_indexer_queries_refused_total{{limit=\"{limit}\"}}")) > 0,
                "{limit}"
            );
        }
    };
    let too_many = "the query would read too many bytes (query: 50 B, limit: 40 B); consider adding more specific stream \
                    selectors or reduce the time range of the query";
    check(r#"{a="large"}"#, &[], too_many, "bytes_read").await;
    check(r#"{a="small"}"#, &[], "hold more than 100 bytes", "memory").await;
    check(r#"sum by (a) (rate({a=~"small|tiny"}[1m]))"#, &[("step", "30m")], "maximum number of series (1)", "series")
        .await;
    check(r#"{a="small"}"#, &[("since", "2h")], "(query length: 2h, limit: 1h)", "length").await;
    check(
        r#"{a="small"}"#,
        &[("limit", "51")],
        "max entries limit per query exceeded, limit > max_entries_limit (51 > 50)",
        "",
    )
    .await;
    assert_eq!(
        server.data("query_range", &[("query", r#"{a="small"}"#), ("limit", "1")]).await["result"][0]["values"][0][1],
        "x"
    );
    let (_, told) = server.get("drilldown-limits", &[]).await;
    let told: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(told["limits"]["max_query_series"], 1);
    assert_eq!(told["limits"]["max_query_length"], "3600s");
    assert_eq!(told["limits"]["discover_log_levels"], true);
}

#[tokio::test]
async fn services_and_levels_are_found_whatever_way_lines_come_in() {
    let server = server_with(FakeDisk::new(), "");
    check(&server, json!([stream(json!({"app": "api"}), &["level=warn a=b"])]), 204, &[]).await;
    let post = async |path: &str, body: String| {
        let request = Request::post(path).header("content-type", "application/json").body(Body::from(body));
        let (status, text) = server.send(request.expect("a request")).await;
        assert!(status.is_success(), "{path}: {text}");
    };
    let (seconds, bulk) = (model::now_ms() / 1000, r#"{"create":{"_index":"i"}}"#);
    let document = format!(r#"{{"message":"hi","log":{{"level":"ERROR"}},"ts":{seconds},"app":"beat"}}"#);
    post("/_bulk", format!("{bulk}\n{document}\n")).await;
    post("/insert/jsonline", format!(r#"{{"message":"[DEBUG] x","ts":{seconds},"app":"line"}}"#)).await;
    let record = json!({"timeUnixNano": ago_ns(1), "severityNumber": 21, "body": {"stringValue": "info"}});
    let name = json!({"key": "service.name", "value": {"stringValue": "otel"}});
    let logs = json!({"resource": {"attributes": [name]}, "scopeLogs": [{"logRecords": [record]}]});
    post("/otlp/v1/logs", json!({"resourceLogs": [logs]}).to_string()).await;
    let mut batch = LogBatch::new("default", Origin::Tailed { file: FileId(7), start: 0, end: 9 });
    batch.streams.push(Labels::from_pairs([("filename", "/x"), ("container", "tailed")]));
    batch.push(0, model::now_ns(), "INFO x", 0, 9);
    let (batch, refused) = server.indexer.admit_batch(batch).expect("admitted");
    assert!(refused.is_empty(), "{refused:?}");
    let batch = Batch::Logs(batch.expect("a batch"));
    bus::append_all(server.bus.as_ref(), Topic::Logs, batch).await.expect("appended");
    let query = r#"sum by (service_name, detected_level) (count_over_time({service_name=~".+"}[1h]))"#;
    let counts = server.data("query", &[("query", query)]).await;
    let mut found: Vec<(String, String)> = counts["result"]
        .as_array()
        .expect("rows")
        .iter()
        .map(|row| {
            assert_eq!(row["value"][1], "1");
            let label = |name: &str| row["metric"][name].as_str().unwrap_or("").to_owned();
            (label("service_name"), label("detected_level"))
        })
        .collect();
    found.sort();
    let expected = [("api", "warn"), ("beat", "error"), ("line", "debug"), ("otel", "fatal"), ("tailed", "info")];
    assert_eq!(found, expected.map(|(service, level)| (service.to_owned(), level.to_owned())));
    // Counted by stream alone, lines are counted without a look at their levels.
    let by_stream = server.data("query", &[("query", r#"sum by (app) (count_over_time({app=~".+"}[1h]))"#)]).await;
    assert_eq!(by_stream["result"].as_array().map(Vec::len), Some(3));
    let levels = server.data("query_range", &[("query", r#"{app="api"} | detected_level="warn""#)]).await;
    assert_eq!(levels["result"][0]["values"][0][1], "level=warn a=b");
}
