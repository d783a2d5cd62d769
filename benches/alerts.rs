//! The alert router beside Alertmanager: intake, memory, the page of groups; silences, inhibition and a million alerts;
//! and a thousand rules on one core.
//!
//!     BINNACLE_BENCH_ALERTMANAGER=/usr/bin/prometheus-alertmanager cargo bench --bench alerts [PART…]
//!
//! Parts: `peer`, `mutes`, `million`, `rules`; all without a word. Each prints the figures that the issue asks for.

#[expect(dead_code, reason = "the tests use the rest")]
#[path = "../tests/end_to_end/harness.rs"]
mod harness;
#[expect(dead_code, reason = "the tests use the rest")]
#[path = "../tests/end_to_end/remote_write.rs"]
mod remote_write;
#[expect(dead_code, reason = "the other benchmarks use the rest")]
#[path = "support/servers.rs"]
mod servers;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use harness::{Binnacle, temp_dir, wait_for};
use remote_write::{Sender, series};
use serde_json::{Value, json};
use servers::Server;

const ALERTS: usize = 100_000;
const BATCH: usize = 500;
const NAMES: usize = 1_000;
const LANES: usize = 4;
const SILENCES: usize = 10_000;
const INHIBIT_RULES: usize = 1_000;
const RULES: usize = 1_000;
const SERIES: u64 = 100_000;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let parts: [(&str, fn()); 4] = [("peer", peer), ("mutes", mutes), ("million", million), ("rules", rules)];
    for (name, part) in parts {
        if wanted.is_empty() || wanted.iter().any(|one| one == name) {
            part();
        }
    }
}

/// Nothing is flushed while it is measured: the work is intake and what the API shows.
fn config(inhibit_rules: usize) -> String {
    let mut text = "route: {receiver: none, group_by: [alertname, cluster], group_wait: 2h, group_interval: 2h}\n\
                    receivers: [{name: none}]\n"
        .to_owned();
    if inhibit_rules > 0 {
        text += "inhibit_rules:\n";
    }
    for i in 0..inhibit_rules {
        let _ = writeln!(
            text,
            "- {{source_matchers: ['alertname=\"Alert{i}\"', severity=critical], target_matchers: ['severity=~\"warning|info\"', 'service=\"service-{i}\"'], equal: [cluster]}}"
        );
    }
    text
}

/// An alert of the size that Prometheus sends: nine labels, two annotations.
fn alert(i: usize) -> Value {
    let severity = ["critical", "warning", "info"][i % 3];
    json!({
        "labels": {
            "alertname": format!("Alert{}", i % NAMES), "cluster": format!("eu-{}", i % 7), "namespace": format!("team-{}", i % 50),
            "pod": format!("service-{}-7d9f8b6c5-{i:06}", i % 400), "instance": format!("10.{}.{}.{}:8080", i >> 16, i >> 8 & 255, i & 255),
            "job": "kubernetes-pods", "service": format!("service-{}", i % 400), "severity": severity, "prometheus": "monitoring/k8s",
        },
        "annotations": {
            "summary": format!("Pod service-{}-7d9f8b6c5-{i:06} is not ready", i % 400),
            "description": "The pod has been in a non-ready state for longer than 15 minutes.",
        },
        "startsAt": "2026-01-01T00:00:00Z",
        "endsAt": "2126-01-01T00:00:00Z",
        "generatorURL": "http://prometheus.example.org/graph?g0.expr=kube_pod_status_ready",
    })
}

fn bodies(count: usize) -> Vec<String> {
    let batch = |first: usize| Value::from((first..first + BATCH).map(alert).collect::<Vec<_>>()).to_string();
    (0..count).step_by(BATCH).map(batch).collect()
}

fn start(name: &'static str, binary: &Path, base: &Path, inhibit_rules: usize) -> Server {
    let dir = base.join(name);
    std::fs::create_dir_all(&dir).expect("created");
    let path = dir.join("alertmanager.yml");
    std::fs::write(&path, config(inhibit_rules)).expect("written");
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    let mut command = Command::new(binary);
    if name == "binnacle" {
        command.arg("alertmanager");
    }
    command.args([
        format!("--config.file={}", path.display()),
        format!("--storage.path={}", dir.join("data").display()),
        format!("--web.listen-address=127.0.0.1:{port}"),
        "--cluster.listen-address=".to_owned(),
    ]);
    let log = std::fs::File::create(dir.join("log")).expect("created");
    let child = command.stderr(log).stdout(Stdio::null()).spawn().expect("the server starts");
    let url = format!("http://127.0.0.1:{port}");
    service::http::install_tls_provider();
    let is_ready = || reqwest::blocking::get(format!("{url}/-/ready")).is_ok_and(|answer| answer.status().is_success());
    wait_for(name, || is_ready().then_some(()));
    Server { name, child, url, dir }
}

fn own_binary() -> PathBuf {
    std::env::var_os("BINNACLE_BENCH_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_binnacle").into()).into()
}

fn servers() -> Vec<(&'static str, PathBuf)> {
    let peer = std::env::var_os("BINNACLE_BENCH_ALERTMANAGER").map(|path| ("alertmanager", PathBuf::from(path)));
    [("binnacle", own_binary())].into_iter().chain(peer).collect()
}

/// Posts all bodies over a few connections; seconds and CPU seconds.
fn post(server: &Server, bodies: &[String]) -> (f64, f64) {
    let (start, cpu_s) = (Instant::now(), server.cpu_s());
    std::thread::scope(|scope| {
        for lane in 0..LANES {
            scope.spawn(move || {
                let client = reqwest::blocking::Client::new();
                for body in bodies.iter().skip(lane).step_by(LANES) {
                    let request = client.post(format!("{}/api/v2/alerts", server.url)).body(body.clone());
                    let answer = request.header("content-type", "application/json").send().expect("an answer");
                    assert_eq!(answer.status().as_u16(), 200);
                }
            });
        }
    });
    (start.elapsed().as_secs_f64(), server.cpu_s() - cpu_s)
}

/// The page of groups to its last byte: seconds, and the bytes.
fn groups(server: &Server) -> (f64, Vec<u8>) {
    let client = reqwest::blocking::Client::builder().timeout(None).build().expect("a client");
    let mut best = f64::INFINITY;
    let mut bytes = Vec::new();
    for _ in 0..3 {
        let start = Instant::now();
        let mut answer = client.get(format!("{}/api/v2/alerts/groups", server.url)).send().expect("an answer");
        bytes.clear();
        answer.read_to_end(&mut bytes).expect("all of it");
        best = best.min(start.elapsed().as_secs_f64());
    }
    (best, bytes)
}

/// Groups as their labels and the fingerprints in them.
fn shape(bytes: &[u8]) -> BTreeSet<(String, BTreeSet<String>)> {
    let all: Vec<Value> = serde_json::from_slice(bytes).expect("JSON");
    let fingerprint = |alert: &Value| alert["fingerprint"].as_str().expect("a fingerprint").to_owned();
    let alerts = |group: &Value| group["alerts"].as_array().into_iter().flatten().map(fingerprint).collect();
    all.iter().map(|group| (group["labels"].to_string(), alerts(group))).collect()
}

fn peer() {
    println!("{ALERTS} alerts by POST in batches of {BATCH} over {LANES} connections");
    let (dir, bodies) = (temp_dir(), bodies(ALERTS));
    let mut figures = Vec::new();
    for (name, binary) in servers() {
        let server = start(name, &binary, dir.path(), 0);
        let (took_s, cpu_s) = post(&server, &bodies);
        let after_intake = server.peak_mib();
        let (page_s, page) = groups(&server);
        let (rate, peak_mib) = (ALERTS as f64 / cpu_s, server.peak_mib());
        println!(
            "  {name:<13} {took_s:>6.2} s, {cpu_s:>6.2} CPU s: {rate:>8.0} alerts per CPU second; peak {after_intake:>5.0} MiB, {peak_mib:.0} MiB with pages; groups {page_s:>6.3} s for {:.1} MiB",
            page.len() as f64 / (1 << 20) as f64,
        );
        let (again_s, again_cpu_s) = post(&server, &bodies);
        println!(
            "  {name:<13} the same again: {again_s:>6.2} s, {:.0} alerts per CPU second",
            ALERTS as f64 / again_cpu_s
        );
        figures.push((rate, peak_mib, page_s, shape(&page)));
    }
    if let [ours, theirs] = &figures[..] {
        println!(
            "  ours beside theirs: {:.1}× alerts per CPU second (asked: 2), {:.2} of the memory (0.5), {:.2} of the time (0.25), the same groups: {}\n",
            ours.0 / theirs.0,
            ours.1 / theirs.1,
            ours.2 / theirs.2,
            ours.3 == theirs.3,
        );
    }
}

fn mutes() {
    println!("{SILENCES} silences and {INHIBIT_RULES} inhibit rules beside {ALERTS} alerts");
    let (dir, bodies) = (temp_dir(), bodies(ALERTS));
    let plain = {
        let server = start("binnacle", &own_binary(), &dir.path().join("plain"), 0);
        post(&server, &bodies)
    };
    let server = start("binnacle", &own_binary(), &dir.path().join("muted"), INHIBIT_RULES);
    let client = reqwest::blocking::Client::new();
    std::thread::scope(|scope| {
        for lane in 0..16 {
            let (client, url) = (client.clone(), format!("{}/api/v2/silences", server.url));
            scope.spawn(move || {
                for i in (lane..SILENCES).step_by(16) {
                    let (value, is_regex) =
                        if i % 10 == 0 { (format!("service-{i}|other-{i}"), true) } else { (format!("team-{i}"), false) };
                    let name = if is_regex { "service" } else { "namespace" };
                    let silence = json!({"matchers": [{"name": name, "value": value, "isRegex": is_regex, "isEqual": true}],
                        "startsAt": "2026-01-01T00:00:00Z", "endsAt": "2126-01-01T00:00:00Z", "createdBy": "b", "comment": "c"});
                    let answer = client.post(&url).json(&silence).send().expect("an answer");
                    assert_eq!(answer.status().as_u16(), 200);
                }
            });
        }
    });
    let muted = post(&server, &bodies);
    let (page_s, _) = groups(&server);
    println!(
        "  intake {:.2} s → {:.2} s ({:+.0}%), {:.2} → {:.2} CPU s ({:+.0}%; asked: less than +20%); groups with every status {page_s:.3} s\n",
        plain.0,
        muted.0,
        (muted.0 / plain.0 - 1.0) * 100.0,
        plain.1,
        muted.1,
        (muted.1 / plain.1 - 1.0) * 100.0,
    );
}

fn million() {
    const MILLION: usize = 1_000_000;
    println!("{MILLION} active alerts");
    let dir = temp_dir();
    let server = start("binnacle", &own_binary(), dir.path(), 0);
    let (start, cpu_s) = (Instant::now(), server.cpu_s());
    for first in (0..MILLION).step_by(50 * BATCH) {
        let batch = |first: usize| Value::from((first..first + BATCH).map(alert).collect::<Vec<_>>()).to_string();
        let bodies: Vec<String> = (first..first + 50 * BATCH).step_by(BATCH).map(batch).collect();
        post(&server, &bodies);
    }
    println!(
        "  {:.1} s, {:.1} CPU s; resident {:.0} MiB, peak {:.0} MiB (asked: 2048)",
        start.elapsed().as_secs_f64(),
        server.cpu_s() - cpu_s,
        server.resident_mib(),
        server.peak_mib()
    );
    let flushed = Instant::now();
    let answer = reqwest::blocking::Client::builder().timeout(None).build().expect("a client");
    let answer = answer.post(format!("{}/-/flush", server.url)).send().expect("an answer");
    assert_eq!(answer.status().as_u16(), 204);
    println!("  saved in {:.1} s; peak {:.0} MiB\n", flushed.elapsed().as_secs_f64(), server.peak_mib());
}

/// Half recording, half alerting rules; each reads 100 series, all together every series ten times over.
fn rule_file() -> String {
    let mut text = "groups:\n".to_owned();
    for group in 0..20 {
        let _ = writeln!(text, "- name: g{group}\n  interval: 15s\n  rules:");
        for i in (group * RULES / 20)..((group + 1) * RULES / 20) {
            let selector = format!("bench_total{{s=~\".*{:03}\"}}", i % 1000);
            let _ = match i % 2 {
                0 => writeln!(text, "  - {{record: 'r{i}', expr: 'sum(rate({selector}[1m]))'}}"),
                _ => writeln!(text, "  - {{alert: 'A{i}', expr: '{selector} > 1e12', for: 1m}}"),
            };
        }
    }
    text
}

fn rules() {
    println!("{RULES} rules over {SERIES} series every 15 s on one core");
    let dir = temp_dir();
    std::fs::write(dir.path().join("rules.yml"), rule_file()).expect("written");
    std::fs::write(dir.path().join("binnacle.yml"), "rule_files: [rules.yml]\n").expect("written");
    let mut command = Command::new("taskset");
    command.args(["-c", "0"]).arg(own_binary()).arg("--agent.disabled");
    command.arg(format!("--config.file={}", dir.path().join("binnacle.yml").display()));
    let binnacle = Binnacle::spawn(dir.path(), command);
    let write = |t_ms: i64| {
        for first in (0..SERIES).step_by(2_000) {
            let body =
                Sender::body((first..first + 2_000).map(|s| series("bench_total", s, &[(t_ms, (t_ms / 1000) as f64)])));
            Sender::start(binnacle.url("/api/v1/write"), body).must_be_acknowledged();
        }
    };
    let start = Instant::now();
    let metric = |name: &str| {
        let answer = binnacle.client().get(binnacle.url("/metrics")).send().expect("an answer").text().expect("text");
        let line = answer.lines().find_map(|line| line.strip_prefix(&format!("{name} ")).map(str::to_owned));
        line.and_then(|value| value.trim().parse::<f64>().ok()).unwrap_or(0.0)
    };
    let mut next = 0;
    while start.elapsed().as_secs() < 120 {
        if start.elapsed().as_secs() >= next {
            write(model::now_ms());
            next += 15;
        }
        std::thread::park_timeout(std::time::Duration::from_millis(200));
    }
    let groups = binnacle.get("/api/v1/rules", &[]);
    let groups = groups["data"]["groups"].as_array().expect("groups").clone();
    let evaluation_s: f64 = groups.iter().filter_map(|group| group["evaluationTime"].as_f64()).sum();
    let failed = groups.iter().flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default());
    let failed = failed.filter(|rule| rule["health"] != "ok").count();
    println!(
        "  the last round of all groups took {evaluation_s:.2} s of 15 s; {} evaluations, {} failed, {} slots missed, {failed} rules not ok\n",
        metric("binnacle_rules_evaluations_total"),
        metric("binnacle_rules_evaluation_failures_total"),
        metric("binnacle_rules_slots_missed_total"),
    );
}
