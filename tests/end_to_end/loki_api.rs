//! Lines in by every way, out by the command line; what was acknowledged survives `kill -9`.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::json;

use crate::end_to_end::harness::{Binnacle, temp_dir};

const LINES: usize = 2500;

/// What `binnacle logs` prints.
fn logs(server: &Binnacle, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_binnacle"));
    let output = command.arg("logs").args(arguments).args(["--addr", &server.url("")]).output().expect("the tool runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn now_ns() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_nanos()).expect("before 2262")
}

#[test]
fn the_command_line_shows_every_line_once() {
    let dir = temp_dir();
    let server = Binnacle::start(dir.path(), &["--agent.disabled"]);
    let base_ns = now_ns() - 60_000_000_000;
    // Seven lines share a time, so that pages meet within them.
    let time = |i: usize| base_ns + (i / 7) as i64 * 1_000_000;
    let values: Vec<_> = (0..LINES).map(|i| json!([time(i).to_string(), format!("line {i}")])).collect();
    let body = json!({"streams": [{"stream": {"app": "a", "env": "test"}, "values": values}]});
    let pushed = server.client().post(server.url("/loki/api/v1/push")).json(&body).send().expect("an answer");
    assert_eq!(pushed.status().as_u16(), 204);
    let query = r#"{app="a"}"#;
    for direction in [&["--forward"][..], &[]] {
        let shown = logs(&server, &[&[query, "--limit", "0", "-o", "raw"], direction].concat());
        let mut numbers: Vec<usize> =
            shown.lines().filter_map(|line| line.strip_prefix("line ")?.parse().ok()).collect();
        let times: Vec<i64> = numbers.iter().map(|i| time(*i)).collect();
        assert!(if direction.is_empty() { times.is_sorted_by(|a, b| a >= b) } else { times.is_sorted() });
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..LINES));
    }
    assert_eq!(logs(&server, &[query, "--limit", "3", "-o", "json"]).lines().count(), 3);
    assert_eq!(logs(&server, &["labels"]), "app\nenv\nservice_name\n");
    assert_eq!(logs(&server, &["labels", "app"]), "a\n");
    assert_eq!(logs(&server, &["series", query]), "{app=\"a\", env=\"test\", service_name=\"a\"}\n");
    assert!(logs(&server, &["stats", query]).contains(&format!("entries: {LINES}")));
    assert!(logs(&server, &["patterns", query]).contains("line <_>"));
    assert!(logs(&server, &["sum(count_over_time({app=\"a\"}[1h]))", "--step", "1h"]).contains("values"));
    let exported = server.client().get(server.url("/loki/api/v1/export")).query(&[("query", query)]).send();
    assert_eq!(exported.expect("an answer").text().expect("text").lines().count(), LINES);
    server.stop();
}

#[test]
fn what_came_in_by_any_way_survives_a_kill() {
    let dir = temp_dir();
    let server = Binnacle::start(dir.path(), &["--agent.disabled"]);
    let post = |path: &str, kind: &str, body: String| {
        let request = server.client().post(server.url(path)).header("content-type", kind).body(body);
        let answer = request.send().expect("an answer");
        let (status, text) = (answer.status().as_u16(), answer.text().expect("text"));
        assert!(matches!(status, 200 | 204), "{path}: {status} {text}");
        text
    };
    let record = json!({"timeUnixNano": now_ns().to_string(), "body": {"stringValue": "by OTLP"}});
    let otlp = json!({"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]});
    assert_eq!(post("/otlp/v1/logs", "application/json", otlp.to_string()), "{}");
    let bulk = "{\"create\":{\"_index\":\"logs\"}}\n{\"message\":\"by bulk\"}\n".to_owned();
    assert!(post("/elasticsearch/_bulk", "application/x-ndjson", bulk).contains("\"errors\":false"));
    // Shippers that are pointed at the root find the same there, and browsers the page.
    let root = |name: &str, value: &str| {
        let answer = server.client().get(server.url("/")).header(name, value).send().expect("an answer");
        let is_product = answer.headers().get("x-elastic-product").is_some_and(|product| product == "Elasticsearch");
        (is_product, answer.text().expect("text"))
    };
    let (is_product, about) = root("user-agent", "Elastic-filebeat/8.15.0");
    assert!(is_product && about.contains("You Know, for Search"), "{about}");
    let (is_product, page) = root("accept", "text/html,*/*");
    assert!(!is_product && page.contains("<html"), "{page}");
    post("/insert/jsonline?_stream_fields=app", "application/json", "{\"msg\":\"by line\",\"app\":\"x\"}\n".to_owned());
    server.kill();
    let server = Binnacle::start(dir.path(), &["--agent.disabled"]);
    server.wait_ready();
    for (selector, line) in [
        (r#"{service_name="unknown_service", index=""}"#, "by OTLP\n"),
        (r#"{index="logs"}"#, "by bulk\n"),
        (r#"{app="x", source="jsonline"}"#, "by line\n"),
    ] {
        assert_eq!(logs(&server, &[selector, "-o", "raw"]), line);
    }
    server.stop();
}

/// A tail that asked again and again saw lines late, and those between two of its questions that were older never.
#[test]
fn the_command_line_follows_lines_as_they_come() {
    let dir = temp_dir();
    let server = Binnacle::start(dir.path(), &["--agent.disabled"]);
    let push = |line: &str, t_ns: i64| {
        let body = json!({"streams": [{"stream": {"app": "f"}, "values": [[t_ns.to_string(), line]]}]});
        let pushed = server.client().post(server.url("/loki/api/v1/push")).json(&body).send().expect("an answer");
        assert_eq!(pushed.status().as_u16(), 204);
    };
    let base_ns = now_ns() - 10_000_000_000;
    push("before", base_ns);
    let mut command = Command::new(env!("CARGO_BIN_EXE_binnacle"));
    command.args(["logs", r#"{app="f"}"#, "-f", "-o", "raw", "--addr", &server.url("")]).stdout(Stdio::piped());
    let mut following = command.spawn().expect("the tool runs");
    let mut shown = BufReader::new(following.stdout.take().expect("piped")).lines();
    let mut next = || shown.next().expect("a line").expect("text");
    assert_eq!(next(), "before");
    for n in 0..5 {
        push(&format!("line {n}"), base_ns + 1_000_000 * (n + 1));
        assert_eq!(next(), format!("line {n}"));
    }
    following.kill().expect("it was running");
    following.wait().expect("it ended");
    // What the server does not understand is said once.
    let refused =
        Command::new(env!("CARGO_BIN_EXE_binnacle")).args(["logs", "{", "-f", "--addr", &server.url("")]).output();
    assert!(!refused.expect("the tool runs").status.success());
    server.stop();
}
