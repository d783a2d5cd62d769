//! Scripts of LogQL from the command line, and expressions over logs and metrics.

use std::process::{Command, Output};

use serde_json::json;

use crate::end_to_end::harness::{Binnacle, root, temp_dir};

fn tool(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_binnacle")).args(arguments).output().expect("the tool runs")
}

#[test]
fn scripts_say_what_differs() {
    let scripts = root().join("lib/query/testdata/logql");
    let operators = scripts.join("operators.logqltest").display().to_string();
    let passed = tool(&["test", "logql", &operators]);
    assert!(passed.status.success(), "{}", String::from_utf8_lossy(&passed.stdout));
    let dir = temp_dir();
    let wrong = dir.path().join("wrong.logqltest");
    std::fs::write(&wrong, "eval instant at 0s vector(1)\n  {} 2\n").expect("written");
    let failed = tool(&["test", "logql", &operators, &wrong.display().to_string()]);
    let shown = String::from_utf8_lossy(&failed.stdout);
    assert!(!failed.status.success() && shown.contains("wrong.logqltest:1: eval instant at 0s vector(1)"), "{shown}");
}

#[test]
fn one_expression_reads_lines_and_series() {
    let dir = temp_dir();
    let server = Binnacle::start(dir.path(), &["--agent.disabled"]);
    let now_ns = model_now_ns();
    let lines: Vec<_> =
        (0..10).map(|i| json!([(now_ns - i * 1_000_000_000).to_string(), format!("line {}", i % 2)])).collect();
    let body = json!({"streams": [{"stream": {"app": "a"}, "values": lines}]});
    let pushed = server.client().post(server.url("/loki/api/v1/push")).json(&body).send().expect("an answer");
    assert_eq!(pushed.status().as_u16(), 204);
    let check = |expr: &str, expected: Option<f64>| assert_eq!(server.value(expr), expected, "{expr}");
    check(r#"sum(count_over_time({app="a"} |= "line 1" [5m])) / on () vector(4)"#, Some(1.25));
    check(
        r#"count_over_time({app="a"} |= "line" [5m]) and on (app) label_replace(vector(1), "app", "a", "", "")"#,
        Some(10.0),
    );
    check(r#"count_over_time({app="a"}[5m])"#, None);
    let answer = server.client().get(server.url("/api/v1/query")).query(&[("query", r#"bytes_rate({app="a"}[5m])"#)]);
    let text = answer.send().expect("an answer").text().expect("text");
    assert!(text.contains("it reads log lines"), "{text}");
    server.stop();
}

fn model_now_ns() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_nanos()).expect("before 2262")
}
