//! `cargo bench --bench agent`: what collecting lines costs on this machine, from outside the process.
//!
//! An agent alone, with a blackhole for a sink: 1.5 million lines of a container, parsed, parts joined, labelled; 10,000
//! lines a second as they are written; 10,000 files that nobody writes to. CPU seconds and peak memory of each.
//! `BINNACLE_BENCH_LINES` sets how many lines there are; with a broker in `BINNACLE_TEST_KAFKA` (`tests/kafka.sh`) they are
//! also sent there, until all are acknowledged.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

#[path = "support/cost.rs"]
mod cost;
#[expect(dead_code, reason = "the tests use the rest")]
#[path = "../tests/end_to_end/harness.rs"]
mod harness;

use cost::cost;
use harness::{Binnacle, temp_dir, wait_for};

const LINES: usize = 1_500_000;
const IDLE_FILES: usize = 10_000;
const LIVE_LINES_PER_SECOND: u64 = 10_000;
const WATCHED: Duration = Duration::from_secs(20);

fn main() {
    let lines = std::env::var("BINNACLE_BENCH_LINES").ok().and_then(|text| text.parse().ok()).unwrap_or(LINES);
    backlog("nowhere", lines, NOWHERE);
    if let Ok(brokers) = std::env::var("BINNACLE_TEST_KAFKA") {
        let prefix = format!("bench-{}.", std::process::id());
        backlog("Kafka", lines, &format!("bus: {{kafka: {{brokers: '{brokers}', topic_prefix: '{prefix}'}}}}"));
    }
    live();
    idle();
}

const NOWHERE: &str = "logs: {sinks: [{type: blackhole}]}";

/// An agent that reads containers' logs under `dir`, configured so.
fn agent(dir: &Path, config: &str) -> Binnacle {
    let path = dir.join("agent.yml");
    fs::write(&path, config).expect("written");
    let logs = format!("--agent.logs.path={}", dir.join("pods/**/*.log").display());
    Binnacle::start(dir, &["agent", &format!("--config.file={}", path.display()), &logs])
}

/// Lines of about 255 bytes; every hundredth comes in two parts.
fn lines(count: usize) -> String {
    let mut text = String::with_capacity(count * 260);
    let mut x = 88_172_645_463_325_252u64;
    for n in 0..count {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        let (second, nanos) = (n / 1000 % 3600, x % 1_000_000_000);
        let time = format!("2026-11-20T06:{:02}:{:02}.{nanos:09}Z", second / 60, second % 60);
        let part = if n % 100 == 0 { "P" } else { "F" };
        let _ = writeln!(
            text,
            "{time} stdout {part} level=info ts={nanos} caller=handler.go:{} msg=\"request served\" method=GET \
             path=/api/v1/articles/{}/comments status=200 duration_ms={} bytes={} trace_id={x:016x}{:016x} user=u-{}",
            x % 900,
            x % 100_000,
            x % 3000,
            x % 65_536,
            x.rotate_left(17),
            x % 5000,
        );
    }
    text
}

fn pod(dir: &Path, name: &str) -> std::path::PathBuf {
    let dir = dir.join(format!("pods/default_{name}_0f-{name}/app"));
    fs::create_dir_all(&dir).expect("created");
    dir.join("0.log")
}

fn acknowledged(agent: &Binnacle) -> u64 {
    let Ok(response) = agent.client().get(agent.url("/metrics")).send() else { return 0 };
    let text = response.text().unwrap_or_default();
    let found = text.lines().find_map(|line| line.strip_prefix("binnacle_agent_lines_total{stage=\"acknowledged\"} "));
    found.and_then(|value| value.parse().ok()).unwrap_or(0)
}

fn backlog(sink: &str, count: usize, config: &str) {
    let dir = temp_dir();
    let text = lines(count);
    fs::write(pod(dir.path(), "busy"), &text).expect("written");
    let expected = (count - count / 100) as u64;
    let agent = agent(dir.path(), config);
    let start = Instant::now();
    wait_for("all lines", || (acknowledged(&agent) + 1 >= expected).then_some(()));
    let (cpu_s, peak_mib) = cost(agent.pid());
    let mb = text.len() as f64 / 1e6;
    println!("{mb:.0} MB of a container's lines to {sink}, {:.2} s", start.elapsed().as_secs_f64());
    println!("  {:>8.0} MB per CPU second   {cpu_s:.2} CPU s   {peak_mib:.0} MiB peak\n", mb / cpu_s);
}

fn live() {
    let dir = temp_dir();
    let agent = agent(dir.path(), NOWHERE);
    let mut file = OpenOptions::new().create(true).append(true).open(pod(dir.path(), "live")).expect("opens");
    let text = lines(LIVE_LINES_PER_SECOND as usize / 10);
    let (start, before) = (Instant::now(), cost(agent.pid()).0);
    let mut tenths = 0;
    while start.elapsed() < WATCHED {
        file.write_all(text.as_bytes()).expect("written");
        tenths += 1;
        let due = start + Duration::from_millis(100 * tenths);
        std::thread::park_timeout(due.saturating_duration_since(Instant::now()));
    }
    let (cpu_s, peak_mib) = cost(agent.pid());
    println!("{LIVE_LINES_PER_SECOND} lines a second for {} s", WATCHED.as_secs());
    println!("  {:>8.4} of a core   {peak_mib:.0} MiB peak\n", (cpu_s - before) / start.elapsed().as_secs_f64());
}

fn idle() {
    let dir = temp_dir();
    for n in 0..IDLE_FILES {
        fs::write(pod(dir.path(), &format!("idle-{n}")), lines(2)).expect("written");
    }
    let agent = agent(dir.path(), NOWHERE);
    wait_for("all lines", || (acknowledged(&agent) as usize >= IDLE_FILES).then_some(()));
    // The first look has its own price.
    std::thread::park_timeout(Duration::from_secs(5));
    let (start, before) = (Instant::now(), cost(agent.pid()).0);
    std::thread::park_timeout(WATCHED);
    let (cpu_s, peak_mib) = cost(agent.pid());
    println!("{IDLE_FILES} files that nobody writes to, for {} s", WATCHED.as_secs());
    println!("  {:>8.4} of a core   {peak_mib:.0} MiB peak", (cpu_s - before) / start.elapsed().as_secs_f64());
}
