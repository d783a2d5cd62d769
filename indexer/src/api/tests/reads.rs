//! What Grafana's datasource and Logs Drilldown ask.

use super::*;

/// Two streams: logfmt with metadata, and JSON.
async fn with_lines() -> (Server, i64) {
    let server = server(FakeDisk::new());
    let base_ns = (model::now_ns() / 1_000_000_000 - 100) * 1_000_000_000;
    let at = |second: i64| (base_ns + second * 1_000_000_000).to_string();
    let web: Vec<Value> = (0..10)
        .map(|i| {
            let status = if i % 5 == 0 { 500 } else { 200 };
            let line = format!("method=GET path=/u/{i} status={status} took={}ms size={i}KB", i * 3);
            json!([at(i), line, {"trace": format!("t{i}")}])
        })
        .collect();
    let db: Vec<Value> =
        (0..4).map(|i| json!([at(i), json!({"lvl": "warn", "user": {"id": i}}).to_string()])).collect();
    let body = json!({"streams": [
        {"stream": {"app": "web", "env": "prod"}, "values": web},
        {"stream": {"app": "db", "env": "prod", "pod": "7"}, "values": db},
    ]});
    assert_eq!(server.push_json(body).await, (StatusCode::NO_CONTENT, String::new()));
    (server, base_ns)
}

impl Server {
    async fn json(&self, path: &str, params: &[(&str, &str)]) -> Value {
        let (status, text) = self.get(path, params).await;
        assert_eq!(status, StatusCode::OK, "{text}");
        serde_json::from_str(&text).expect("JSON")
    }
}

#[tokio::test]
async fn lines_with_their_categories() {
    let (server, base_ns) = with_lines().await;
    let escaped = "%7Bapp%3D%22web%22%7D%7Clogfmt%7Cstatus%3D%22500%22%7Ckeep%20app%2Cstatus%2Ctrace";
    let uri = format!("/loki/api/v1/query_range?query={escaped}&limit=1&direction=forward");
    let request = Request::get(uri).header("X-Loki-Response-Encoding-Flags", "categorize-labels");
    let (status, text) = server.send(request.body(Body::empty()).expect("a request")).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    let answer: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(answer["data"]["encodingFlags"], json!(["categorize-labels"]));
    let line = "method=GET path=/u/0 status=500 took=0ms size=0KB";
    let categories = json!({"structuredMetadata": {"trace": "t0"}, "parsed": {"status": "500"}});
    let expected = json!([{"stream": {"app": "web"}, "values": [[base_ns.to_string(), line, categories]]}]);
    assert_eq!(answer["data"]["result"], expected);
    let summary = &answer["data"]["stats"]["summary"];
    assert_eq!((summary["totalEntriesReturned"].clone(), summary["totalLinesProcessed"].clone()), (json!(1), json!(1)));
}

#[tokio::test]
async fn lines_at_intervals() {
    let (server, _) = with_lines().await;
    let params = [("query", r#"{app="web"}"#), ("interval", "4"), ("direction", "forward"), ("limit", "5")];
    let result = server.data("query_range", &params).await["result"].clone();
    assert_eq!(result.as_array().map(Vec::len), Some(3));
}

#[tokio::test]
async fn labels_that_are_detected() {
    let (server, _) = with_lines().await;
    let expected = json!({"detectedLabels": [{"label": "app", "cardinality": 2}, {"label": "env", "cardinality": 1}]});
    assert_eq!(server.json("detected_labels", &[]).await, expected);
    let all = server.data("series", &[]).await;
    assert_eq!(all.as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn fields_that_are_detected() {
    let (server, _) = with_lines().await;
    let check = async |query: &str, expected: Value| {
        assert_eq!(server.json("detected_fields", &[("query", query)]).await["fields"], expected, "{query}");
    };
    let logfmt = |name: &str, kind: &str, cardinality: i64| json!({"label": name, "type": kind, "cardinality": cardinality, "parsers": ["logfmt"]});
    let trace = json!({"label": "trace", "type": "string", "cardinality": 10, "parsers": null});
    let web = json!([
        logfmt("method", "string", 1),
        logfmt("path", "string", 10),
        logfmt("size", "bytes", 10),
        logfmt("status", "int", 2),
        logfmt("took", "duration", 10),
        trace,
    ]);
    check(r#"{app="web"}"#, web).await;
    check(r#"{app="web"} | logfmt s="status""#, json!([logfmt("s", "int", 2), trace])).await;
    let db = json!([
        {"label": "lvl", "type": "string", "cardinality": 1, "parsers": ["json"], "jsonPath": ["lvl"]},
        {"label": "user_id", "type": "int", "cardinality": 4, "parsers": ["json"], "jsonPath": ["user", "id"]},
    ]);
    check(r#"{app="db"}"#, db).await;
    let values = server.json("detected_field/status/values", &[("query", r#"{app="web"}"#)]).await;
    assert_eq!(values["values"], json!(["200", "500"]));
}

#[tokio::test]
async fn patterns_of_lines() {
    let (server, base_ns) = with_lines().await;
    let answer = server.data("patterns", &[("query", r#"{app="web"}"#), ("step", "3600")]).await;
    assert_eq!(answer[0]["pattern"], "method=GET path=<_> status=<_> took=<_> size=<_>");
    let samples = answer[0]["samples"].as_array().expect("samples");
    assert_eq!(samples.iter().filter_map(|sample| sample[1].as_u64()).sum::<u64>(), 10);
    assert_eq!(samples[0][0], base_ns / 1_000_000_000 / 3600 * 3600);
}

#[tokio::test]
async fn volumes() {
    let (server, _) = with_lines().await;
    let query = ("query", r#"{app=~".+"}"#);
    let bytes =
        |i: i64| format!("method=GET path=/u/{i} status=200 took={}ms size={i}KB", i * 3).len() + "trace".len() + 2;
    let web: usize = (0..10).map(bytes).sum();
    let db = 4 * json!({"lvl": "warn", "user": {"id": 0}}).to_string().len();
    let rows = |answer: &Value| -> Vec<(Value, Value)> {
        let rows = answer["result"].as_array().expect("rows").iter();
        rows.map(|row| (row["metric"].clone(), row["value"][1].clone())).collect()
    };
    let by_series = server.data("index/volume", &[query]).await;
    let expected = vec![(json!({"app": "web"}), json!(web.to_string())), (json!({"app": "db"}), json!(db.to_string()))];
    assert_eq!(rows(&by_series), expected);
    let by_label = server.data("index/volume", &[query, ("aggregateBy", "labels"), ("limit", "1")]).await;
    assert_eq!(rows(&by_label), vec![(json!({"app": ""}), json!((web + db).to_string()))]);
    let over_time = server.data("index/volume_range", &[query, ("step", "7d"), ("targetLabels", "env")]).await;
    assert_eq!(
        (over_time["resultType"].clone(), over_time["result"][0]["metric"].clone()),
        (json!("matrix"), json!({"env": "prod"}))
    );
    let values = over_time["result"][0]["values"].as_array().expect("points");
    let total: usize = values.iter().filter_map(|point| point[1].as_str()?.parse::<usize>().ok()).sum();
    assert_eq!(total, web + db);
}

#[tokio::test]
async fn deleted_lines_are_not_seen_again() {
    let (server, _) = with_lines().await;
    let count = || async {
        let data = server.data("query", &[("query", r#"sum(count_over_time({app=~".+"}[1h]))"#)]).await;
        data["result"][0]["value"][1].as_str().map(str::to_owned)
    };
    assert_eq!(count().await.as_deref(), Some("14"));
    let query = r#"{app=~".+"} |~ "path=/u/[0-3]|warn""#;
    let (status, text) = server.ask("POST", "delete", &[("query", query), ("start", "0")]).await;
    assert_eq!((status, text.as_str()), (StatusCode::NO_CONTENT, ""));
    assert_eq!(count().await.as_deref(), Some("6"));
    let listed = server.json("delete", &[]).await;
    assert_eq!((&listed[0]["query"], &listed[0]["start_time"]), (&json!(query), &json!(0.0)));
    let id = listed[0]["request_id"].as_str().expect("an id");
    assert_eq!(server.ask("DELETE", "delete", &[("request_id", id)]).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(server.ask("DELETE", "delete", &[("request_id", "other")]).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_export_has_no_end_but_its_own() {
    let (server, base_ns) = with_lines().await;
    let (status, text) = server.get("export", &[("query", r#"{app=~".+"} | drop trace"#), ("limit", "3")]).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    let objects: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(objects.len(), 4, "{text}");
    assert_eq!(objects[0]["timestamp"], base_ns.to_string());
    assert_eq!(objects[2]["labels"]["env"], "prod");
    let cursor = objects[3]["cursor"].as_str().expect("a cursor");
    let (_, rest) = server.get("export", &[("query", r#"{app=~".+"} | drop trace"#), ("cursor", cursor)]).await;
    assert_eq!(rest.lines().count(), 11);
    assert!(!rest.contains("cursor"), "{rest}");
}

#[tokio::test]
async fn queries_are_formatted_and_limits_told() {
    let (server, _) = with_lines().await;
    let formatted = server.data("format_query", &[("query", r#"sum(rate({app="a"}|="x"[5m]))"#)]).await;
    assert_eq!(formatted, r#"sum(rate({app="a"} |= "x" [5m]))"#);
    let limits = server.json("drilldown-limits", &[]).await;
    assert_eq!(limits["limits"]["volume_enabled"], true);
}
