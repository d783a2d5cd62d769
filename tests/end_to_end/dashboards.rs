//! Every panel of every dashboard for Grafana shows something where the metrics and lines it is made for are there.

use std::fs;

use serde_json::{Value, json};

use crate::end_to_end::harness::{Binnacle, root, temp_dir, wait_for};

const STEPS: i64 = 60;
const STEP_MS: i64 = 15_000;

/// Grafana's variables, as it would fill them in.
fn fill_in(expr: &str) -> String {
    let values = [
        ("$__rate_interval", "1m"),
        ("$__auto", "1m"),
        ("$instance", "node-1"),
        ("$namespace", "web"),
        ("$workload", "shop"),
        ("$pod", "shop-7d4b9c6f5d-abcde"),
        ("$job", ".+"),
    ];
    values.iter().fold(expr.to_owned(), |expr, (name, value)| expr.replace(name, value))
}

/// Name of the dashboard and title of the panel, kind of datasource, expression.
fn expressions() -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root().join("dashboards/grafana")).expect("readable") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let board: Value = serde_json::from_str(&fs::read_to_string(&path).expect("readable")).expect("JSON");
        for panel in board["panels"].as_array().expect("panels") {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let text = |value: &Value| value.as_str().expect("text").to_owned();
                let place = format!("{}: {}", text(&board["uid"]), text(&panel["title"]));
                found.push((place, text(&target["datasource"]["type"]), fill_in(&text(&target["expr"]))));
            }
        }
    }
    found
}

#[test]
fn expressions_are_promql_and_logql() {
    let all = expressions();
    assert!(all.len() >= 90, "{}", all.len());
    for (place, kind, expr) in all {
        assert!(!expr.contains('$'), "{place}: a variable that this test does not know: {expr}");
        let error = match kind.as_str() {
            "prometheus" => query::promql::parse(&expr).err().map(|error| error.to_string()),
            _ => query::logql::parse(&expr).err().map(|error| error.to_string()),
        };
        assert_eq!(error, None, "{place}: {expr}");
    }
}

/// The recorded series, growing up to now.
fn import(binnacle: &Binnacle, now_ms: i64) {
    let recorded = fs::read_to_string(root().join("tests/end_to_end/dashboards.prom")).expect("readable");
    let mut body = String::new();
    for line in recorded.lines().filter(|line| !line.starts_with('#')) {
        let (series, slope) = line.rsplit_once(' ').expect("a series and its slope");
        let slope: f64 = slope.parse().expect("a number");
        for step in 1..=STEPS {
            // What does not grow is one, as series of states are.
            let value = if slope == 0.0 { 1.0 } else { slope * step as f64 };
            body.push_str(&format!("{series} {value} {}\n", now_ms - (STEPS - step) * STEP_MS));
        }
    }
    let response = binnacle.client().post(binnacle.url("/api/v1/import/prometheus")).body(body).send().expect("taken");
    assert!(response.status().is_success(), "{}", response.text().unwrap_or_default());
}

fn push_lines(binnacle: &Binnacle, now_ms: i64) {
    let values: Vec<Value> =
        (0..20).map(|i| json!([format!("{}000000", now_ms - i * 1000), format!("line {i}")])).collect();
    let stream = |level: &str| {
        let labels = json!({"filename": "/var/log/shop.log", "node": "node-1", "namespace": "web", "pod": "shop-7d4b9c6f5d-abcde", "level": level});
        json!({"stream": labels, "values": values})
    };
    let body = json!({"streams": [stream("info"), stream("error")]});
    let response = binnacle.client().post(binnacle.url("/loki/api/v1/push")).json(&body).send().expect("taken");
    assert!(response.status().is_success(), "{}", response.text().unwrap_or_default());
}

#[test]
fn no_panel_is_empty() {
    let dir = temp_dir();
    let binnacle = Binnacle::start(dir.path(), &["--agent.logs.path=/nonexistent/*.log"]);
    binnacle.wait_ready();
    let now_ms = model::now_ms();
    import(&binnacle, now_ms);
    push_lines(&binnacle, now_ms);
    let (now, start) = (format!("{}", now_ms / 1000), format!("{}", now_ms / 1000 - 60));
    wait_for("the import", || binnacle.value("count(ALERTS_FOR_STATE)"));
    let mut empty = Vec::new();
    for (place, kind, expr) in expressions() {
        let answer = match kind.as_str() {
            "prometheus" => binnacle.get("/api/v1/query", &[("query", &expr), ("time", &now)]),
            _ => {
                let params = [("query", expr.as_str()), ("start", &start), ("end", &now), ("step", "15")];
                binnacle.get("/loki/api/v1/query_range", &params)
            }
        };
        if answer["data"]["result"].as_array().is_none_or(Vec::is_empty) {
            empty.push(format!("{place}: {expr}"));
        }
    }
    assert!(empty.is_empty(), "nothing to see in\n{}", empty.join("\n"));
    binnacle.stop();
}
