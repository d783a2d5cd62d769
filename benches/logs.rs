//! `cargo bench --bench logs`: logs of sixteen systems pushed and searched, beside VictoriaLogs in one run.
//!
//! `BINNACLE_BENCH_MB` (500) of text in 192 streams over 90 minutes, pushed as Loki's protobuf in snappy, bodies of 1,000
//! lines over two connections; made as they are sent, by a process that is not measured. CPU is the server's, until it has
//! worked off what it acknowledged, and once more after everything is written and merged. `BINNACLE_BENCH_VICTORIA_LOGS`
//! names the peer's binary. Searches are the median of nine, after one that warms, bodies read and not parsed; and the first
//! after the page cache was dropped, where that may be done. With `BINNACLE_BENCH_DATA` the loaded directories are kept there
//! and searched again by the next run; `BINNACLE_BENCH_ONLY` names a server.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use prost::Message;
use reqwest::blocking::Client;

#[expect(dead_code, reason = "the tests use the rest")]
#[path = "../tests/end_to_end/harness.rs"]
mod harness;
#[path = "support/log_load.rs"]
mod log_load;
#[expect(dead_code, reason = "the other benchmarks use the rest")]
#[path = "support/servers.rs"]
mod servers;

use harness::temp_dir;
use log_load::{Lines, SYSTEMS};
use servers::{Server, directory_bytes};

const LINES_PER_BODY: usize = 1_000;
const PER_SYSTEM: usize = 12;
const SPAN_NS: u64 = 90 * 60 * 1_000_000_000;
const LINE_BYTES: u64 = 165;

#[derive(Clone, PartialEq, Message)]
struct Push {
    #[prost(message, repeated, tag = "1")]
    streams: Vec<PushStream>,
}

#[derive(Clone, PartialEq, Message)]
struct PushStream {
    #[prost(string, tag = "1")]
    labels: String,
    #[prost(message, repeated, tag = "2")]
    entries: Vec<Entry>,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(message, optional, tag = "1")]
    time: Option<Time>,
    #[prost(string, tag = "2")]
    line: String,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Time {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

fn main() {
    let megabytes: u64 = std::env::var("BINNACLE_BENCH_MB").ok().and_then(|text| text.parse().ok()).unwrap_or(500);
    let end_ns = model::now_ns() / 60_000_000_000 * 60_000_000_000 - 60_000_000_000;
    let start_ns = end_ns - SPAN_NS as i64;
    let own = std::env::var_os("BINNACLE_BENCH_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_binnacle").into());
    let mut binaries = vec![("binnacle", PathBuf::from(own))];
    print_level_cost(start_ns);
    let peer = std::env::var_os("BINNACLE_BENCH_VICTORIA_LOGS");
    binaries.extend(peer.map(|binary| ("victoria-logs", PathBuf::from(binary))));
    let only = std::env::var("BINNACLE_BENCH_ONLY").unwrap_or_default();
    for (name, binary) in binaries.into_iter().filter(|(name, _)| name.contains(&only)) {
        let scratch = temp_dir();
        let base = std::env::var_os("BINNACLE_BENCH_DATA").map_or_else(|| scratch.path().to_owned(), PathBuf::from);
        let kept = base.join(name).join("loaded");
        let mut server = servers::start(name, &binary, &base);
        let client = Client::builder().timeout(Duration::from_secs(600)).build().expect("a client");
        println!("{name}");
        let before = std::fs::read_to_string(&kept).ok();
        let (start_ns, marked) = match before.as_deref().and_then(|kept| kept.split_once(' ')) {
            Some((start_ns, marked)) => (start_ns.parse().expect("as it was written"), marked.to_owned()),
            None => {
                let marked = ingest(&server, &client, &Load { megabytes, start_ns });
                std::fs::write(&kept, format!("{start_ns} {marked}")).expect("written");
                if server.name == "binnacle" {
                    server = restarted(server, &binary, &base);
                }
                (start_ns, marked)
            }
        };
        search(&server, &client, start_ns, start_ns + SPAN_NS as i64, &marked);
    }
}

/// What it costs to find the level of a line, over the load's own lines.
fn print_level_cost(start_ns: i64) {
    let (mut all, mut text) = (Lines::new(PER_SYSTEM, start_ns, 1_000_000), String::new());
    let lines: Vec<String> = (0..100_000)
        .map(|_| {
            all.next_line(&mut text);
            text.clone()
        })
        .collect();
    let finder = model::LevelFinder::new(&model::LEVEL_FIELDS.map(str::to_owned));
    let mut found = std::collections::BTreeMap::<&str, usize>::new();
    let begin = Instant::now();
    lines.iter().for_each(|line| *found.entry(finder.of_text(line)).or_default() += 1);
    println!("a line's level is found in {} ns: {found:?}", begin.elapsed().as_nanos() / lines.len() as u128);
}

struct Load {
    megabytes: u64,
    start_ns: i64,
}

/// Starts the server anew on what it has, as searches are not served from what ingestion left in memory.
fn restarted(server: Server, binary: &Path, base: &Path) -> Server {
    let name = server.name;
    drop(server);
    let begin = Instant::now();
    let server = servers::start(name, binary, base);
    println!("  ready after a kill -9 in {:.2} s", begin.elapsed().as_secs_f64());
    server
}

/// Pushes the load; answers an identifier that is in it.
fn ingest(server: &Server, client: &Client, load: &Load) -> String {
    let path = if server.name == "binnacle" { "/loki/api/v1/push" } else { "/insert/loki/api/v1/push" };
    let (url, total_bytes) = (format!("{}{path}", server.url), load.megabytes << 20);
    let (sender, receiver) = sync_channel::<Vec<u8>>(8);
    let receiver = Mutex::new(receiver);
    let (mut text_bytes, mut lines, mut marked) = (0u64, 0u64, String::new());
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let Ok(body) = receiver.lock().expect("no panic").recv() else { return };
                    let request = client.post(&url).header("content-type", "application/x-protobuf");
                    let request = request.header("content-encoding", "snappy").body(body);
                    let answer = request.send().expect("an answer");
                    assert!(answer.status().is_success(), "{}: {:?}", answer.status(), answer.text());
                }
            });
        }
        let mut all = Lines::new(PER_SYSTEM, load.start_ns, SPAN_NS * LINE_BYTES / total_bytes);
        let mut text = String::new();
        while text_bytes < total_bytes {
            let mut streams: Vec<Vec<Entry>> = all.streams.iter().map(|_| Vec::new()).collect();
            for _ in 0..LINES_PER_BODY {
                let (stream, t_ns) = all.next_line(&mut text);
                let time = Time { seconds: t_ns / 1_000_000_000, nanos: (t_ns % 1_000_000_000) as i32 };
                streams[stream].push(Entry { time: Some(time), line: text.clone() });
                text_bytes += text.len() as u64;
            }
            lines += LINES_PER_BODY as u64;
            if text_bytes < total_bytes / 2
                && let Some(at) = text.find("trace_id\":\"")
            {
                marked = text[at + 11..at + 43].to_owned();
            }
            let named = all.streams.iter().zip(streams).filter(|(_, entries)| !entries.is_empty());
            let streams = named.map(|(stream, entries)| PushStream { labels: labels(stream), entries }).collect();
            let body = snap::raw::Encoder::new().compress_vec(&Push { streams }.encode_to_vec()).expect("compresses");
            sender.send(body).expect("somebody sends");
        }
        drop(sender);
    });
    let took = begin.elapsed().as_secs_f64();
    let acknowledged_cpu_s = settled_cpu_s(server);
    flush(server, client);
    let cpu_s = settled_cpu_s(server);
    let megabytes = text_bytes as f64 / 1e6;
    let bytes = directory_bytes(&server.dir.join("data"));
    println!("  {lines} lines, {megabytes:.0} MB of text in {took:.1} s");
    println!(
        "  {:.1} MB per CPU second ({acknowledged_cpu_s:.1} s), {:.1} with everything merged ({cpu_s:.1} s)",
        megabytes / acknowledged_cpu_s,
        megabytes / cpu_s
    );
    println!(
        "  {:.3} bytes per byte on disk, {:.0} MiB peak memory",
        bytes as f64 / text_bytes as f64,
        server.peak_mib()
    );
    marked
}

fn labels(stream: &log_load::Stream) -> String {
    format!("{{app=\"{}\", instance=\"i{}\"}}", SYSTEMS[stream.system].name, stream.instance)
}

/// The CPU that a server has used once it uses hardly any more.
fn settled_cpu_s(server: &Server) -> f64 {
    let mut before = server.cpu_s();
    loop {
        std::thread::sleep(Duration::from_secs(2));
        let now = server.cpu_s();
        if now - before < 0.1 {
            return now;
        }
        before = now;
    }
}

fn flush(server: &Server, client: &Client) {
    let paths: &[&str] = match server.name {
        "binnacle" => &["/-/flush"],
        _ => &["/internal/force_flush", "/internal/force_merge"],
    };
    for path in paths {
        let answer = client.post(format!("{}{path}", server.url)).send().expect("an answer");
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
    }
}

/// What is searched, in LogQL and in the peer's language, and the milliseconds asked for.
fn searches(marked: &str) -> Vec<(&'static str, String, String, f64)> {
    let all = r#"{app=~".+"}"#;
    let per_minute = |filter: &str| format!("sum(count_over_time({all} {filter} [1m]))");
    let counted = |filter: &str| format!("{filter} | stats by (_time:1m) count() hits");
    vec![
        ("unique id", format!("{all} |= \"{marked}\""), format!("\"{marked}\""), 4.0),
        (
            "newest 100 with a common word",
            format!("{all} |= \"error\""),
            "error | sort by (_time desc) limit 100".into(),
            10.0,
        ),
        (
            "volume per label per minute",
            format!("sum by (app) (count_over_time({all} [1m]))"),
            "* | stats by (_time:1m, app) count() hits".into(),
            30.0,
        ),
        ("substring across two tokens", format!("{all} |= \"ection refu\""), "~\"ection refu\"".into(), 80.0),
        ("count of a word per minute", per_minute("|= \"INFO\""), counted("INFO"), 100.0),
        ("count of another per minute", per_minute("|= \"timeout\""), counted("timeout"), 100.0),
        (
            "regex, case ignored, per minute",
            per_minute("|~ \"(?i)connection (refused|closed)\""),
            counted("~\"(?i)connection (refused|closed)\""),
            500.0,
        ),
        ("regex without literals, per minute", per_minute("|~ \"[0-9]{3}ms\""), counted("~\"[0-9]{3}ms\""), 500.0),
    ]
}

fn search(server: &Server, client: &Client, start_ns: i64, end_ns: i64, marked: &str) {
    println!(
        "  {:<36} {:>10} {:>10} {:>10} {:>10} {:>12}",
        "search", "warm ms", "asked", "CPU ms", "cold ms", "answer bytes"
    );
    for (what, ours, theirs, asked_ms) in searches(marked) {
        let ask = || {
            let request = match server.name {
                "binnacle" => client.get(format!("{}/loki/api/v1/query_range", server.url)).query(&[
                    ("query", ours.as_str()),
                    ("start", &start_ns.to_string()),
                    ("end", &end_ns.to_string()),
                    ("step", "60"),
                    ("limit", "100"),
                ]),
                _ => client.get(format!("{}/select/logsql/query", server.url)).query(&[
                    ("query", theirs.as_str()),
                    ("start", &start_ns.to_string()),
                    ("end", &end_ns.to_string()),
                ]),
            };
            let begin = Instant::now();
            let answer = request.send().expect("an answer");
            let status = answer.status();
            let body = answer.bytes().expect("a body");
            assert!(status.is_success(), "{what}: {status}: {}", String::from_utf8_lossy(&body));
            (begin.elapsed().as_secs_f64() * 1e3, body.len())
        };
        ask();
        let cpu_s = server.cpu_s();
        let mut warm: Vec<(f64, usize)> = (0..9).map(|_| ask()).collect();
        let cpu_ms = (server.cpu_s() - cpu_s) * 1e3 / 9.0;
        warm.sort_by(|a, b| a.0.total_cmp(&b.0));
        let dropped = std::fs::write("/proc/sys/vm/drop_caches", "3").is_ok();
        let cold = if dropped { format!("{:.1}", ask().0) } else { "-".to_owned() };
        println!("  {what:<36} {:>10.1} {asked_ms:>10.0} {cpu_ms:>10.1} {cold:>10} {:>12}", warm[4].0, warm[4].1);
    }
    println!("  {:.0} MiB peak memory", server.peak_mib());
}
