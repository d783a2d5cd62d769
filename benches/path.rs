//! `make bench`: the whole path on this machine, from outside the process.
//!
//! Prints lines/s and MB/s from a file to searchable, and samples/s by remote write, with the server's CPU seconds and
//! peak memory for each. Every part runs in a process of its own with an empty data directory.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

#[path = "support/cost.rs"]
mod cost;
#[expect(dead_code, reason = "the tests use the rest")]
#[path = "../tests/end_to_end/harness.rs"]
mod harness;
#[expect(dead_code, reason = "the tests use the rest")]
#[path = "../tests/end_to_end/remote_write.rs"]
mod remote_write;

use cost::cost;
use harness::{Binnacle, temp_dir, wait_for};
use remote_write::{Sender, series};

const LINES: usize = 500_000;
const SERIES: u64 = 20_000;
const SERIES_PER_REQUEST: u64 = 2_000;
const SAMPLES_PER_SERIES: i64 = 100;

fn main() {
    println!("{} cores; the server is a release build, the embedded log fsyncs before it acknowledges\n", cores());
    tail_to_searchable();
    remote_write_samples();
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn report(what: &str, unit: &str, count: f64, bytes: f64, took: Duration, pid: u32) {
    let (cpu_s, peak_mib) = cost(pid);
    let seconds = took.as_secs_f64();
    println!("{what}");
    println!("  {:>12.0} {unit}/s   {:>8.1} MB/s   {seconds:.2} s wall", count / seconds, bytes / seconds / 1e6);
    println!("  {:>12.2} CPU seconds ({:.2} µs per {})", cpu_s, cpu_s * 1e6 / count, unit.trim_end_matches('s'));
    println!("  {peak_mib:>12.0} MiB peak memory\n");
}

/// Lines in the shape of a web server's access log.
fn access_log() -> String {
    let mut text = String::with_capacity(LINES * 200);
    let agents = [
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
        "curl/8.5.0",
        "Googlebot/2.1 (+http://www.google.com/bot.html)",
    ];
    let mut x = 88_172_645_463_325_252u64;
    for i in 0..LINES {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        let (ip, path, status) = (x % 5000, x / 5000 % 2000, [200, 200, 200, 200, 304, 404, 500][(x / 7 % 7) as usize]);
        let agent = agents[(x / 11 % 3) as usize];
        let _ = writeln!(
            text,
            "10.0.{}.{} - - [20/Nov/2026:06:{:02}:{:02} +0000] \"GET /articles/{path}/view?session={x:016x} HTTP/1.1\" {status} {} \"-\" \"{agent}\"",
            ip / 256,
            ip % 256,
            i / 60 % 60,
            i % 60,
            x % 50_000,
        );
    }
    text
}

fn tail_to_searchable() {
    let dir = temp_dir();
    let logs = dir.path().join("logs");
    std::fs::create_dir_all(&logs).expect("created");
    let text = access_log();
    let files = 4;
    let mut parts: Vec<String> = vec![String::new(); files];
    text.split_inclusive('\n').enumerate().for_each(|(i, line)| parts[i % files].push_str(line));
    for (i, part) in parts.iter().enumerate() {
        std::fs::write(logs.join(format!("access-{i}.log")), part).expect("written");
    }
    let start = Instant::now();
    let binnacle = Binnacle::start(dir.path(), &[&format!("--agent.logs.path={}/*.log", logs.display())]);
    wait_for("every line", || (binnacle.count_lines("{filename=~\".+\"}") >= LINES as u64).then_some(()));
    let took = start.elapsed();
    report(
        "Tailed to searchable, process start included",
        "lines",
        LINES as f64,
        text.len() as f64,
        took,
        binnacle.pid(),
    );
    let search = Instant::now();
    let found = binnacle.count_lines("{filename=~\".+\"} |= \"/articles/1234/view\"");
    println!("  {found} lines hold \"/articles/1234/view\": found in {:.0} ms\n", search.elapsed().as_secs_f64() * 1e3);
    binnacle.stop();
}

/// Requests of remote write 1.0: every series once per instant, 15 s apart, counters and gauges with some noise.
fn write_requests() -> Vec<Vec<u8>> {
    let start_ms = model::now_ms() - SAMPLES_PER_SERIES * 15_000;
    let value = |t: i64, s: u64| {
        let noise = (s ^ t as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 54;
        if s.is_multiple_of(2) { (t * 40) as f64 + noise as f64 } else { noise as f64 / 1000.0 }
    };
    let body = |t: i64, first: u64| {
        let lanes = first..first + SERIES_PER_REQUEST;
        Sender::body(lanes.map(|s| series("bench_total", s, &[(start_ms + t * 15_000, value(t, s))])))
    };
    let firsts = || (0..SERIES / SERIES_PER_REQUEST).map(|r| r * SERIES_PER_REQUEST);
    (0..SAMPLES_PER_SERIES).flat_map(|t| firsts().map(move |first| body(t, first))).collect()
}

/// Sends all requests over four connections, instants in order; every one must be acknowledged.
fn send_all(url: &str, requests: &[Vec<u8>]) -> Duration {
    const LANES: usize = 4;
    let client = reqwest::blocking::Client::new();
    let start = Instant::now();
    for instant in requests.chunks((SERIES / SERIES_PER_REQUEST) as usize) {
        std::thread::scope(|scope| {
            for lane in 0..LANES {
                let client = &client;
                scope.spawn(move || {
                    for body in instant.iter().skip(lane).step_by(LANES) {
                        let request = client.post(url).header("content-encoding", "snappy").body(body.clone());
                        let answer = request.send().expect("an answer");
                        assert_eq!(answer.status().as_u16(), 204);
                    }
                });
            }
        });
    }
    start.elapsed()
}

const SAMPLES: f64 = SERIES as f64 * SAMPLES_PER_SERIES as f64;

fn remote_write_samples() {
    let dir = temp_dir();
    let binnacle = Binnacle::start(dir.path(), &["--agent.disabled"]);
    let requests = write_requests();
    let bytes: usize = requests.iter().map(Vec::len).sum();
    let took = send_all(&binnacle.url("/api/v1/write"), &requests);
    report("Remote write, every request acknowledged durable", "samples", SAMPLES, bytes as f64, took, binnacle.pid());
    let query = Instant::now();
    let sum = binnacle.query("sum(rate(bench_total[5m]))");
    println!("  sum(rate(bench_total[5m])) over {SERIES} series: {:.0} ms", query.elapsed().as_secs_f64() * 1e3);
    assert_eq!(sum.len(), 1);
    binnacle.flush();
    let on_disk = directory_bytes(&dir.path().join("data/tsdb"));
    println!("  {:.2} bytes per sample on disk after a flush\n", on_disk as f64 / SAMPLES);
    binnacle.stop();
    if let Some(prometheus) = std::env::var_os("BINNACLE_BENCH_PROMETHEUS") {
        remote_write_to_peer(&prometheus, &requests, bytes);
    }
}

/// The same requests to a Prometheus server (2.33 or later), for comparison in one run.
fn remote_write_to_peer(prometheus: &std::ffi::OsStr, requests: &[Vec<u8>], bytes: usize) {
    let dir = temp_dir();
    let config = dir.path().join("prometheus.yml");
    std::fs::write(&config, "global: {}\n").expect("written");
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
    let mut child = std::process::Command::new(prometheus)
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .arg("--web.enable-remote-write-receiver")
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("Prometheus starts");
    let url = format!("http://127.0.0.1:{port}");
    let is_ready = || reqwest::blocking::get(format!("{url}/-/ready")).is_ok_and(|answer| answer.status().is_success());
    wait_for("Prometheus", || is_ready().then_some(()));
    let took = send_all(&format!("{url}/api/v1/write"), requests);
    report(
        "The same to Prometheus (its log is not fsynced per request)",
        "samples",
        SAMPLES,
        bytes as f64,
        took,
        child.id(),
    );
    child.kill().expect("killed");
    child.wait().expect("reaped");
}

fn directory_bytes(dir: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| {
            if entry.path().is_dir() { directory_bytes(&entry.path()) } else { entry.metadata().map_or(0, |m| m.len()) }
        })
        .sum()
}
