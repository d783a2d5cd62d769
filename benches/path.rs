//! `make bench`: the whole path on this machine, from outside the process.
//!
//! Prints lines/s and MB/s from a file to searchable, and samples/s by remote write, with the server's CPU seconds and
//! peak memory for each. Every part runs in a process of its own with an empty data directory.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

#[expect(dead_code, reason = "the tests use the rest")]
#[path = "../tests/end_to_end/harness.rs"]
mod harness;
#[expect(dead_code, reason = "the tests use the rest")]
#[path = "../tests/end_to_end/remote_write.rs"]
mod remote_write;

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

/// What a run has cost the server so far: CPU seconds, and peak memory in MiB.
fn cost(pid: u32) -> (f64, f64) {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let stat = read("stat");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    // Fields 14 and 15 of proc(5) stat, counted behind the name: user and system ticks of 10 ms.
    let ticks: f64 = fields.get(11..13).into_iter().flatten().filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
    let status = read("status");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak_kib: f64 = peak.and_then(|text| text.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0.0);
    (ticks / 100.0, peak_kib / 1024.0)
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

fn remote_write_samples() {
    let dir = temp_dir();
    let binnacle = Binnacle::start(dir.path(), &["--agent.disabled"]);
    let start_ms = model::now_ms() - SAMPLES_PER_SERIES * 15_000;
    let body = |t: i64, first: u64| {
        let value = |s: u64| (s * 1000) as f64 + t as f64 * (s % 17) as f64;
        Sender::body(
            (first..first + SERIES_PER_REQUEST).map(|s| series("bench_total", s, &[(start_ms + t * 15_000, value(s))])),
        )
    };
    let requests: Vec<Vec<u8>> = (0..SAMPLES_PER_SERIES)
        .flat_map(|t| (0..SERIES / SERIES_PER_REQUEST).map(move |r| (t, r * SERIES_PER_REQUEST)))
        .map(|(t, first)| body(t, first))
        .collect();
    let bytes: usize = requests.iter().map(Vec::len).sum();
    let start = Instant::now();
    let lanes = 4;
    std::thread::scope(|scope| {
        for lane in 0..lanes {
            let (requests, binnacle) = (&requests, &binnacle);
            scope.spawn(move || {
                for body in requests.iter().skip(lane).step_by(lanes) {
                    let request =
                        binnacle.client().post(binnacle.url("/api/v1/write")).header("content-encoding", "snappy");
                    let answer = request.body(body.clone()).send().expect("an answer");
                    assert_eq!(answer.status().as_u16(), 204);
                }
            });
        }
    });
    let took = start.elapsed();
    let samples = SERIES as f64 * SAMPLES_PER_SERIES as f64;
    report("Remote write, every request acknowledged durable", "samples", samples, bytes as f64, took, binnacle.pid());
    let query = Instant::now();
    let sum = binnacle.query("sum(rate(bench_total[5m]))");
    println!("  sum(rate(bench_total[5m])) over {SERIES} series: {:.0} ms", query.elapsed().as_secs_f64() * 1e3);
    assert_eq!(sum.len(), 1);
    binnacle.flush();
    let on_disk = directory_bytes(&dir.path().join("data/tsdb"));
    println!("  {:.2} bytes per sample on disk after a flush\n", on_disk as f64 / samples);
    binnacle.stop();
}

fn directory_bytes(dir: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| {
            if entry.path().is_dir() { directory_bytes(&entry.path()) } else { entry.metadata().map_or(0, |m| m.len()) }
        })
        .sum()
}
