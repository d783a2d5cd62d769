//! Random expressions over random data, asked of the binary and of Prometheus: the answers must be the same.
//!
//! The peer is `BINNACLE_TEST_PROMETHEUS`; of version 2 only what both languages share is asked. `BINNACLE_TEST_CASES`
//! and `BINNACLE_TEST_SEED` make longer and other runs. Samples lie off the grid of evaluation times, for version 2 takes
//! the left end of a range in and version 3 does not.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;

use crate::end_to_end::expressions::{Generator, Random};
use crate::end_to_end::harness::{Binnacle, full, temp_dir};
use crate::end_to_end::peer::Peer;
use crate::end_to_end::remote_write::{Label, Sample, Sender, TimeSeries};

const CASES: u64 = 3_000;
const THREADS: u64 = 4;
/// An hour of samples every 15 s, 7 s off the grid.
const SAMPLES: i64 = 240;
const STEP_MS: i64 = 15_000;
const OFF_GRID_MS: i64 = 7_000;
/// A time of its own, so that a seed gives the same run on every day.
const START_MS: i64 = 1_699_999_200_000;
const RETENTION: &str = "--storage.tsdb.retention.time=100y";
const FAR_FROM_ZERO: f64 = 1e6;

struct Prometheus {
    peer: Peer,
    major: u32,
}

impl Prometheus {
    fn start(binary: &std::ffi::OsStr, dir: &Path) -> Prometheus {
        let config = dir.join("prometheus.yml");
        std::fs::write(&config, "global: {}\n").expect("written");
        let version = Command::new(binary).arg("--version").output().expect("Prometheus is there");
        let version = String::from_utf8_lossy(&version.stdout).into_owned() + &String::from_utf8_lossy(&version.stderr);
        let major = if version.contains("version 2.") { 2 } else { 3 };
        let peer = Peer::start(|address| {
            let mut command = Command::new(binary);
            if major == 3 {
                let features = "promql-experimental-functions,promql-delayed-name-removal,promql-duration-expr";
                command.arg(format!("--enable-feature={features}"));
            }
            command
                .arg(format!("--config.file={}", config.display()))
                .arg(format!("--storage.tsdb.path={}", dir.join("prometheus").display()))
                .arg(format!("--web.listen-address={address}"))
                .args(["--web.enable-remote-write-receiver", RETENTION])
                .args(["--query.max-concurrency=8", "--query.timeout=20s"]);
            command
        });
        Prometheus { peer, major }
    }
}

/// Counters with resets, gauges with odd values, classic histograms, and series that come and go.
fn data(random: &mut Random, start_ms: i64, shared_only: bool) -> Vec<TimeSeries> {
    let mut all = Vec::new();
    for a in ["x", "y", "z"] {
        for b in 0..3 {
            let labels = [("a", a.to_owned()), ("b", b.to_string())];
            let counter = if shared_only { steady_counter } else { counter };
            all.push(one(random, "c_total", &labels, start_ms, counter));
            all.push(one(random, "g", &labels, start_ms, gauge));
            if b == 0 {
                all.push(one(random, "info", &[("a", a.to_owned()), ("name", format!("n{a}"))], start_ms, |_, _| 1.0));
            }
        }
        let first = if shared_only { FAR_FROM_ZERO } else { 0.0 };
        histogram(random, a, first, start_ms, &mut all);
    }
    // `limitk`, and `topk` among equals, take Prometheus' series in the order in which they came.
    all.sort_by(|a, b| pairs(a).cmp(&pairs(b)));
    all
}

fn pairs(series: &TimeSeries) -> Vec<(&str, &str)> {
    series.labels.iter().map(|label| (label.name.as_str(), label.value.as_str())).collect()
}

fn counter(random: &mut Random, before: f64) -> f64 {
    if random.chance(40) { random.below(20) as f64 } else { before + random.below(50) as f64 }
}

/// Never reset, and far from zero.
fn steady_counter(random: &mut Random, before: f64) -> f64 {
    before.max(FAR_FROM_ZERO) + random.below(50) as f64
}

fn gauge(random: &mut Random, _before: f64) -> f64 {
    match random.below(60) {
        0 => f64::NAN,
        1 => f64::INFINITY,
        2 => f64::NEG_INFINITY,
        3 => 0.0,
        _ => (random.below(2_000) as f64 - 1_000.0) / 8.0,
    }
}

fn one(
    random: &mut Random,
    name: &str,
    labels: &[(&str, String)],
    start_ms: i64,
    next: fn(&mut Random, f64) -> f64,
) -> TimeSeries {
    let (mut samples, mut value, mut gap) = (Vec::new(), random.below(100) as f64, 0);
    for i in 0..SAMPLES {
        value = next(random, value);
        if !value.is_finite() && !name.starts_with('g') {
            value = 0.0;
        }
        let timestamp = start_ms + i * STEP_MS + OFF_GRID_MS;
        if gap > 0 {
            gap -= 1;
        } else if random.chance(60) {
            gap = random.below(30);
            samples.push(Sample { value: model::stale_marker(), timestamp });
        } else {
            samples.push(Sample { value, timestamp });
        }
    }
    TimeSeries { labels: to_labels(name, labels), samples }
}

fn to_labels(name: &str, labels: &[(&str, String)]) -> Vec<Label> {
    let mut all = vec![Label { name: "__name__".to_owned(), value: name.to_owned() }];
    all.extend(labels.iter().map(|(name, value)| Label { name: (*name).to_owned(), value: value.clone() }));
    all
}

fn histogram(random: &mut Random, a: &str, first: f64, start_ms: i64, into: &mut Vec<TimeSeries>) {
    let bounds = ["0.1", "0.5", "1", "2.5", "10", "+Inf"];
    let mut counts = vec![first; bounds.len()];
    let mut rows: Vec<Vec<Sample>> = vec![Vec::new(); bounds.len()];
    for i in 0..SAMPLES {
        let at = random.below(bounds.len() as u64) as usize;
        counts[at] += random.below(9) as f64;
        let mut below = 0.0;
        for (row, count) in rows.iter_mut().zip(&counts) {
            below += count;
            row.push(Sample { value: below, timestamp: start_ms + i * STEP_MS + OFF_GRID_MS });
        }
    }
    for (le, samples) in bounds.iter().zip(rows) {
        let labels = [("a", a.to_owned()), ("le", (*le).to_owned())];
        into.push(TimeSeries { labels: to_labels("h_bucket", &labels), samples });
    }
}

/// One request, for both servers.
struct Case {
    path: &'static str,
    params: Vec<(&'static str, String)>,
}

fn case(random: &mut Random, generator: &Generator, start_ms: i64) -> Case {
    let query = generator.expression(random);
    let at = |i: u64| ((start_ms / 1000) + i as i64 * 15).to_string();
    if random.chance(2) {
        let params = vec![("query", query), ("time", at(random.below(SAMPLES as u64)))];
        return Case { path: "query", params };
    }
    let first = random.below(SAMPLES as u64);
    let (start, end) = (at(first), at(first + random.below(40)));
    let step = (15 * (1 + random.below(8))).to_string();
    Case { path: "query_range", params: vec![("query", query), ("start", start), ("end", end), ("step", step)] }
}

fn ask(client: &reqwest::blocking::Client, url: &str, case: &Case) -> Value {
    let answer = client.get(format!("{url}/api/v1/{}", case.path)).query(&case.params).send().expect("an answer");
    answer.json().expect("JSON")
}

/// Series by labels: each its points as (time, value).
type Rows = BTreeMap<String, Vec<(String, f64)>>;

fn rows(answer: &Value) -> Rows {
    let number = |value: &Value| match value.as_str().unwrap_or("") {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        text => text.parse().unwrap_or(f64::NAN),
    };
    let point = |pair: &Value| (pair[0].to_string(), number(&pair[1]));
    let result = &answer["data"]["result"];
    match answer["data"]["resultType"].as_str() {
        Some("scalar" | "string") => BTreeMap::from([(String::new(), vec![point(result)])]),
        _ => {
            let list = result.as_array().into_iter().flatten();
            let row = |row: &Value| {
                let values = row["values"].as_array().cloned().unwrap_or_else(|| vec![row["value"].clone()]);
                (row["metric"].to_string(), values.iter().map(point).collect())
            };
            list.map(row).collect()
        }
    }
}

/// Why two answers differ, if they do. Sums of floats may round differently, relative to the largest number around.
fn difference(ours: &Value, theirs: &Value) -> Option<String> {
    match (ours["status"].as_str(), theirs["status"].as_str()) {
        (Some("error"), Some("error")) => return None,
        (Some("success"), Some("success")) => {}
        _ => return Some(format!("ours: {}\ntheirs: {}", shorten(ours), shorten(theirs))),
    }
    let (ours_rows, theirs_rows) = (rows(ours), rows(theirs));
    let labels: BTreeSet<&String> = ours_rows.keys().chain(theirs_rows.keys()).collect();
    let of = |rows: &Rows, labels: &String| rows.get(labels).cloned().unwrap_or_default();
    let wrong = labels.into_iter().find(|labels| !same_points(&of(&ours_rows, labels), &of(&theirs_rows, labels)))?;
    Some(format!("{wrong}\nours: {:?}\ntheirs: {:?}", of(&ours_rows, wrong), of(&theirs_rows, wrong)))
}

fn same_points(a: &[(String, f64)], b: &[(String, f64)]) -> bool {
    let close = |x: f64, y: f64| {
        x == y || x.is_nan() && y.is_nan() || (x - y).abs() <= 1e-9 * x.abs().max(y.abs()) || (x - y).abs() < 1e-9
    };
    a.len() == b.len() && a.iter().zip(b).all(|((t, x), (u, y))| t == u && close(*x, *y))
}

fn shorten(answer: &Value) -> String {
    let text = answer.to_string();
    text.chars().take(1_500).collect()
}

#[test]
fn random_expressions_give_what_prometheus_gives() {
    let Some(binary) = std::env::var_os("BINNACLE_TEST_PROMETHEUS") else {
        assert!(!full(), "BINNACLE_TEST_PROMETHEUS must name Debian's prometheus for a full run");
        return;
    };
    let number = |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().expect("a number"));
    let (cases, seed) = (number("BINNACLE_TEST_CASES", CASES), number("BINNACLE_TEST_SEED", 1));
    let dir = temp_dir();
    let binnacle = Binnacle::start(dir.path(), &["--agent.disabled", RETENTION]);
    let prometheus = Prometheus::start(&binary, dir.path());
    let mut random = Random::new(seed);
    let body = Sender::body(data(&mut random, START_MS, prometheus.major == 2).into_iter());
    Sender::start(binnacle.url("/api/v1/write"), body.clone()).must_be_acknowledged();
    Sender::start(format!("{}/api/v1/write", prometheus.peer.url), body).must_be_acknowledged();
    let ours = binnacle.url("");
    let generator = Generator { shared_only: prometheus.major == 2 };
    let compared = AtomicU64::new(0);
    let differences: Vec<String> = std::thread::scope(|scope| {
        let run = |thread: u64| {
            let (generator, prometheus, ours, compared) = (&generator, &prometheus, &ours, &compared);
            scope.spawn(move || {
                let client = reqwest::blocking::Client::new();
                let mut random = Random::new(seed.wrapping_mul(1_000_003).wrapping_add(thread));
                let mut found = Vec::new();
                for _ in 0..cases / THREADS {
                    let case = case(&mut random, generator, START_MS);
                    let (a, b) = (ask(&client, ours, &case), ask(&client, &prometheus.peer.url, &case));
                    compared.fetch_add(u64::from(b["status"] == "success"), Ordering::Relaxed);
                    found.extend(difference(&a, &b).map(|why| format!("{:?}\n{why}", case.params)));
                }
                found
            })
        };
        let threads: Vec<_> = (0..THREADS).map(run).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    });
    let successful = compared.into_inner();
    assert!(successful > cases / 2, "only {successful} of {cases} expressions could be evaluated at all");
    let shown = differences.iter().take(12).cloned().collect::<Vec<_>>().join("\n\n");
    assert!(differences.is_empty(), "{} of {cases} differ, {successful} evaluated:\n{shown}", differences.len());
    binnacle.stop();
}
