//! The calls that Grafana's own Prometheus, Loki and Alertmanager datasources make, as they make them: method, path,
//! parameters, encoding. Each must be answered with what the datasource then reads.

use serde_json::{Value, json};

use crate::end_to_end::harness::{Binnacle, temp_dir, wait_for};

/// One call and where in its answer there must be something.
struct Call {
    method: &'static str,
    path: &'static str,
    /// A query string of a GET, a form of a POST.
    parameters: &'static [(&'static str, &'static str)],
    /// JSON pointers to what must be there and not be empty.
    needs: &'static [&'static str],
}

const fn get(
    path: &'static str,
    parameters: &'static [(&'static str, &'static str)],
    needs: &'static [&'static str],
) -> Call {
    Call { method: "GET", path, parameters, needs }
}

const fn post(
    path: &'static str,
    parameters: &'static [(&'static str, &'static str)],
    needs: &'static [&'static str],
) -> Call {
    Call { method: "POST", path, parameters, needs }
}

/// Times are filled in: `START` and `END` in seconds, `STARTNS` and `ENDNS` in nanoseconds.
const CALLS: &[Call] = &[
    // Prometheus: the health check, what the server is, and what it can.
    post("/api/v1/query", &[("query", "1+1"), ("time", "END")], &["/data/result"]),
    get("/api/v1/status/buildinfo", &[], &["/data/version"]),
    get("/api/v1/rules", &[], &["/data"]),
    get("/api/v1/metadata", &[("limit", "40000")], &["/data"]),
    // The editor: names of metrics, of labels, and values, narrowed by what is typed already.
    get("/api/v1/label/__name__/values", &[("start", "START"), ("end", "END")], &["/data/0"]),
    get(
        "/api/v1/label/__name__/values",
        &[("start", "START"), ("end", "END"), ("limit", "40000"), ("match[]", r#"{__name__=~".*node_cpu.*"}"#)],
        &["/data/0"],
    ),
    post(
        "/api/v1/labels",
        &[
            ("start", "START"),
            ("end", "END"),
            ("limit", "40000"),
            ("match[]", r#"{__name__="node_cpu_seconds_total"}"#),
        ],
        &["/data/0"],
    ),
    get(
        "/api/v1/label/mode/values",
        &[("start", "START"), ("end", "END"), ("match[]", "node_cpu_seconds_total{cpu=\"0\"}")],
        &["/data/0"],
    ),
    post(
        "/api/v1/series",
        &[("start", "START"), ("end", "END"), ("match[]", "node_cpu_seconds_total")],
        &["/data/0/mode"],
    ),
    // Panels: range and instant queries as forms, exemplars beside them.
    post(
        "/api/v1/query_range",
        &[
            ("query", "sum by (mode) (rate(node_cpu_seconds_total[1m0s]))"),
            ("start", "START"),
            ("end", "END"),
            ("step", "15"),
        ],
        &["/data/resultType", "/data/result"],
    ),
    post("/api/v1/query", &[("query", "node_load1"), ("time", "END")], &["/data/result/0/value/1"]),
    post("/api/v1/query_exemplars", &[("query", "node_load1"), ("start", "START"), ("end", "END")], &["/status"]),
    // Loki: the health check, labels, values, series.
    get(
        "/loki/api/v1/query",
        &[("query", "vector(1)+vector(1)"), ("time", "ENDNS"), ("direction", "backward"), ("limit", "4000")],
        &["/data/result/0/value/1"],
    ),
    get("/loki/api/v1/labels", &[("start", "STARTNS"), ("end", "ENDNS")], &["/data/0"]),
    get(
        "/loki/api/v1/label/filename/values",
        &[("start", "STARTNS"), ("end", "ENDNS"), ("query", r#"{app="web"}"#)],
        &["/data/0"],
    ),
    get(
        "/loki/api/v1/series",
        &[("match[]", r#"{app="web"}"#), ("start", "STARTNS"), ("end", "ENDNS")],
        &["/data/0/app"],
    ),
    get(
        "/loki/api/v1/index/stats",
        &[("query", r#"{app="web"}"#), ("start", "STARTNS"), ("end", "ENDNS")],
        &["/entries"],
    ),
    get("/loki/api/v1/status/buildinfo", &[], &["/version"]),
    // Explore: lines, their volume, the context of one.
    get(
        "/loki/api/v1/query_range",
        &[
            ("query", r#"{app="web"} |= "line""#),
            ("start", "STARTNS"),
            ("end", "ENDNS"),
            ("limit", "1000"),
            ("direction", "backward"),
            ("step", "2000ms"),
        ],
        &["/data/result/0/values/0/1"],
    ),
    get(
        "/loki/api/v1/query_range",
        &[
            ("query", r#"sum by (level, detected_level) (count_over_time({app="web"}[1m]))"#),
            ("start", "STARTNS"),
            ("end", "ENDNS"),
            ("step", "15000ms"),
            ("direction", "backward"),
            ("limit", "1000"),
        ],
        &["/data/result/0/values"],
    ),
    get(
        "/loki/api/v1/query_range",
        &[
            ("query", r#"{app="web",filename="/var/log/web.log"}"#),
            ("start", "STARTNS"),
            ("end", "ENDNS"),
            ("limit", "100"),
            ("direction", "forward"),
        ],
        &["/data/result/0/stream/app"],
    ),
    // Drilldown: how much there is of what, and what lines are made of.
    get(
        "/loki/api/v1/index/volume",
        &[("query", r#"{app="web"}"#), ("start", "STARTNS"), ("end", "ENDNS"), ("limit", "5000")],
        &["/data/result/0/value"],
    ),
    get(
        "/loki/api/v1/index/volume_range",
        &[("query", r#"{app="web"}"#), ("start", "STARTNS"), ("end", "ENDNS"), ("limit", "5000"), ("step", "15")],
        &["/data/result/0/values"],
    ),
    get(
        "/loki/api/v1/detected_labels",
        &[("query", r#"{app="web"}"#), ("start", "STARTNS"), ("end", "ENDNS")],
        &["/detectedLabels/0/label"],
    ),
    get(
        "/loki/api/v1/detected_fields",
        &[
            ("query", r#"{app="web"}"#),
            ("start", "STARTNS"),
            ("end", "ENDNS"),
            ("line_limit", "1000"),
            ("limit", "1000"),
        ],
        &["/limit"],
    ),
    get(
        "/loki/api/v1/patterns",
        &[("query", r#"{app="web"}"#), ("start", "STARTNS"), ("end", "ENDNS"), ("step", "15s")],
        &["/status"],
    ),
    get("/loki/api/v1/format_query", &[("query", r#"{app="web"}|="x""#)], &["/data"]),
    // Alertmanager, which Grafana's alert list and silences read.
    get("/api/v2/status", &[], &["/config/original", "/versionInfo/version"]),
    get("/api/v2/receivers", &[], &["/0/name"]),
    get(
        "/api/v2/alerts",
        &[("silenced", "true"), ("active", "true"), ("inhibited", "true"), ("filter", "alertname=\"Replayed\"")],
        &["/0/fingerprint", "/0/status/state"],
    ),
    get(
        "/api/v2/alerts/groups",
        &[("silenced", "true"), ("active", "true"), ("inhibited", "true")],
        &["/0/alerts/0/labels", "/0/receiver/name"],
    ),
    get("/api/v2/silences", &[("filter", "alertname=\"Replayed\"")], &["/0/id", "/0/status/state", "/0/updatedAt"]),
];

fn fill_in(value: &str, now_s: i64) -> String {
    match value {
        "START" => (now_s - 300).to_string(),
        "END" => (now_s + 15).to_string(),
        "STARTNS" => format!("{}000000000", now_s - 300),
        "ENDNS" => format!("{}000000000", now_s + 1),
        other => other.to_owned(),
    }
}

fn is_there(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => false,
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(list)) => !list.is_empty(),
        Some(_) => true,
    }
}

/// What is wrong with the answer to a call, if anything is.
fn fault(binnacle: &Binnacle, call: &Call, now_s: i64) -> Option<String> {
    let parameters: Vec<(&str, String)> =
        call.parameters.iter().map(|(name, value)| (*name, fill_in(value, now_s))).collect();
    let request = match call.method {
        "POST" => binnacle.client().post(binnacle.url(call.path)).form(&parameters),
        _ => binnacle.client().get(binnacle.url(call.path)).query(&parameters),
    };
    let response = request.send().expect("an answer");
    let (status, text) = (response.status(), response.text().expect("a body"));
    let said =
        || format!("{} {} {:?}: {status} {}", call.method, call.path, call.parameters, &text[..text.len().min(300)]);
    let answer: Value = match serde_json::from_str(&text) {
        Ok(answer) if status.is_success() => answer,
        _ => return Some(said()),
    };
    let missing = call.needs.iter().find(|pointer| !is_there(answer.pointer(pointer)))?;
    Some(format!("{missing} is missing in {}", said()))
}

fn prepare(binnacle: &Binnacle, now_s: i64) {
    let values: Vec<Value> = (0..5).map(|i| json!([format!("{}000000000", now_s - i), format!("line {i}")])).collect();
    let labels = json!({"app": "web", "filename": "/var/log/web.log", "level": "info"});
    let ends_at = model::format_rfc3339_ms((now_s + 3600) * 1000);
    let posts = [
        ("/loki/api/v1/push", json!({"streams": [{"stream": labels, "values": values}]})),
        ("/api/v2/alerts", json!([{"labels": {"alertname": "Replayed"}, "endsAt": ends_at}])),
        (
            "/api/v2/silences",
            json!({"matchers": [{"name": "alertname", "value": "Replayed", "isRegex": false, "isEqual": true}],
                   "startsAt": model::format_rfc3339_ms(now_s * 1000), "endsAt": ends_at, "createdBy": "Grafana", "comment": "a replay"}),
        ),
    ];
    for (path, body) in posts {
        let response = binnacle.client().post(binnacle.url(path)).json(&body).send().expect("an answer");
        assert!(response.status().is_success(), "{path}: {}", response.text().unwrap_or_default());
    }
}

#[test]
fn the_calls_of_grafanas_datasources_are_answered() {
    let dir = temp_dir();
    let binnacle = Binnacle::start(dir.path(), &["--agent.logs.path=/nonexistent/*.log"]);
    binnacle.wait_ready();
    let now_s = model::now_ms() / 1000;
    prepare(&binnacle, now_s);
    wait_for("rates of this machine", || {
        (!binnacle.query("rate(node_cpu_seconds_total[1m])").is_empty()).then_some(())
    });
    let now_s = model::now_ms() / 1000;
    wait_for("the alert in a group", || {
        binnacle.get("/api/v2/alerts/groups", &[]).as_array().filter(|groups| !groups.is_empty()).map(|_| ())
    });
    let faults: Vec<String> = CALLS.iter().filter_map(|call| fault(&binnacle, call, now_s)).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    binnacle.stop();
}
