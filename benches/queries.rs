//! `cargo bench --bench queries`: range queries over 20,280 series × 4 h at 15 s, beside peers in one run.
//!
//! `BINNACLE_BENCH_VICTORIA` and `BINNACLE_BENCH_PROMETHEUS` name the peers' binaries. With `BINNACLE_BENCH_DATA` the
//! loaded directories are kept there for the next run. Bodies are read and not parsed; CPU is the server's, from /proc.

use std::path::PathBuf;
use std::time::{Duration, Instant};

#[expect(dead_code, reason = "the tests use the rest")]
#[path = "../tests/end_to_end/harness.rs"]
mod harness;
#[path = "support/node_load.rs"]
mod node_load;
#[expect(dead_code, reason = "the tests use the rest")]
#[path = "../tests/end_to_end/remote_write.rs"]
mod remote_write;
#[expect(dead_code, reason = "the other benchmarks use the rest")]
#[path = "support/servers.rs"]
mod servers;

use harness::temp_dir;
use node_load::{NodeLoad, STEP_MS};
use servers::Server;

const SCRAPES: i64 = 960;
/// Each query runs at least so often and so long.
const RUNS: usize = 15;
const LEAST: Duration = Duration::from_millis(1_500);

const QUERIES: [(&str, &str); 8] = [
    ("sum(rate)", "sum by (instance) (rate(node_cpu_seconds_total[5m]))"),
    ("rate", "rate(node_cpu_seconds_total[5m])"),
    ("topk", "topk(5, sum by (instance,device) (rate(node_network_receive_bytes_total[5m])))"),
    ("count all", "count({__name__=~\".+\"})"),
    ("quantile 1h", "quantile_over_time(0.99, node_load1[1h])"),
    (
        "join",
        "sum by (instance, device) (rate(node_network_receive_bytes_total[5m])) * on (instance) group_left (nodename) \
         node_uname_info",
    ),
    ("histogram", "histogram_quantile(0.99, sum by (instance, le) (rate(http_request_duration_seconds_bucket[5m])))"),
    ("regex", "{__name__=~\"node_network_.*_bytes_total\",device=~\"eth.*|lo\"}"),
];

fn main() {
    let scratch = temp_dir();
    let base = std::env::var_os("BINNACLE_BENCH_DATA").map_or_else(|| scratch.path().to_owned(), PathBuf::from);
    let servers: Vec<Server> =
        servers::binaries().into_iter().map(|(name, binary)| servers::start(name, &binary, &base)).collect();
    let range: Vec<(i64, i64)> = servers.iter().map(load).collect();
    println!("{:<12} {:<18} {:>10} {:>10} {:>10}", "query", "server", "median ms", "CPU ms", "bytes");
    for (label, query) in QUERIES {
        if std::env::var("BINNACLE_BENCH_ONLY").is_ok_and(|only| !label.contains(&only)) {
            continue;
        }
        for (server, range) in servers.iter().zip(&range) {
            let (median, cpu, bytes) = measure(server, query, *range);
            println!("{label:<12} {:<18} {:>10.2} {:>10.2} {bytes:>10}", server.name, median * 1e3, cpu * 1e3);
        }
    }
}

/// Loads the data, unless an earlier run has; answers the range of it.
fn load(server: &Server) -> (i64, i64) {
    let marker = server.dir.join("loaded");
    if let Ok(text) = std::fs::read_to_string(&marker) {
        let start_ms: i64 = text.trim().parse().expect("a number");
        return (start_ms, start_ms + (SCRAPES - 1) * STEP_MS);
    }
    let end_ms = model::now_ms() / STEP_MS * STEP_MS;
    let start_ms = end_ms - (SCRAPES - 1) * STEP_MS;
    let mut load = NodeLoad::new();
    let (client, begin) = (reqwest::blocking::Client::new(), Instant::now());
    let url = format!("{}/api/v1/write", server.url);
    for scrape in 0..SCRAPES {
        let bodies = load.scrape(start_ms + scrape * STEP_MS);
        std::thread::scope(|scope| {
            for lane in 0..2 {
                let (client, url, bodies) = (&client, &url, &bodies);
                scope.spawn(move || {
                    for body in bodies.iter().skip(lane).step_by(2) {
                        let request = client.post(url).header("content-encoding", "snappy").body(body.clone());
                        assert!(request.send().expect("an answer").status().is_success());
                    }
                });
            }
        });
    }
    server.flush(&client);
    println!("{}: loaded in {:.1} s, {:.1} CPU s", server.name, begin.elapsed().as_secs_f64(), server.cpu_s());
    std::fs::write(marker, start_ms.to_string()).expect("written");
    (start_ms, end_ms)
}

/// Median latency and mean CPU in seconds, and the bytes of the answer.
fn measure(server: &Server, query: &str, (start_ms, end_ms): (i64, i64)) -> (f64, f64, usize) {
    let client = reqwest::blocking::Client::builder().no_gzip().build().expect("a client");
    let seconds = |ms: i64| (ms / 1000).to_string();
    let params = [
        ("query", query.to_owned()),
        ("start", seconds(start_ms)),
        ("end", seconds(end_ms)),
        ("step", "15".to_owned()),
        ("nocache", "1".to_owned()),
    ];
    let url = format!("{}/api/v1/query_range", server.url);
    let ask = || {
        let answer = client.get(&url).query(&params).send().expect("an answer");
        assert!(answer.status().is_success(), "{}", answer.text().unwrap_or_default());
        answer.bytes().expect("a body").len()
    };
    let mut bytes = ask();
    let (cpu, begin, mut times) = (server.cpu_s(), Instant::now(), Vec::new());
    while times.len() < RUNS || begin.elapsed() < LEAST {
        let start = Instant::now();
        bytes = ask();
        times.push(start.elapsed().as_secs_f64());
    }
    let cpu = (server.cpu_s() - cpu) / times.len() as f64;
    times.sort_by(f64::total_cmp);
    (times[times.len() / 2], cpu, bytes)
}
