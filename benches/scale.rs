//! `cargo bench --bench scale`: many series, kills under load, and series that come and go.
//!
//! - restart: so many active series (20,280 and 1,000,311), `kill -9` while scrapes are under way, then the time until the
//!   server is ready again and answers with every series.
//! - churn: 20,280 series, every one replaced each 10 minutes for 6 hours; memory hour by hour, and the bytes of the parts'
//!   directories beside those of the labels as text.
//!
//! `BINNACLE_BENCH_RECORDING` as in `benches/ingest.rs`; `BINNACLE_BENCH_ONLY` chooses one.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

#[expect(dead_code, reason = "the tests use the rest")]
#[path = "../tests/end_to_end/harness.rs"]
mod harness;
#[path = "support/recording.rs"]
mod recording;
#[expect(dead_code, reason = "the tests use the rest")]
#[path = "../tests/end_to_end/remote_write.rs"]
mod remote_write;
#[expect(dead_code, reason = "the other benchmark uses the rest")]
#[path = "support/servers.rs"]
mod servers;

use harness::temp_dir;
use recording::Recording;
use remote_write::{Label, Sample, Sender, TimeSeries};
use servers::{Server, directory_bytes};

const STEP_MS: i64 = 15_000;
const SAMPLES_PER_BODY: usize = 2_000;

fn main() {
    let Some(dir) = std::env::var_os("BINNACLE_BENCH_RECORDING") else {
        println!("BINNACLE_BENCH_RECORDING names no recording; benches/record.sh makes one");
        return;
    };
    let recording = Recording::read(&PathBuf::from(dir));
    let only = std::env::var("BINNACLE_BENCH_ONLY").unwrap_or_default();
    let binaries = servers::binaries();
    let binary = &binaries[0].1;
    for (name, machines, scrapes) in [("restart", 40, 100), ("million", 1_973, 8)] {
        if name.contains(&only) {
            restart(binary, &Load { recording: &recording, machines }, scrapes);
        }
    }
    if "churn".contains(&only) {
        churn(binary, &Load { recording: &recording, machines: 40 });
    }
}

struct Load<'a> {
    recording: &'a Recording,
    machines: usize,
}

impl Load<'_> {
    fn series(&self) -> usize {
        self.machines * self.recording.series.len()
    }

    /// Sends one scrape over two connections; answers whether all of it was acknowledged.
    fn send(&self, url: &str, generation: usize, scrape: usize, t_ms: i64) -> bool {
        let good = AtomicBool::new(true);
        std::thread::scope(|scope| {
            for lane in 0..2 {
                let (good, client) = (&good, reqwest::blocking::Client::new());
                scope.spawn(move || {
                    let firsts = (0..self.series()).step_by(SAMPLES_PER_BODY).skip(lane).step_by(2);
                    for first in firsts {
                        let range = first..self.series().min(first + SAMPLES_PER_BODY);
                        let body = Sender::body(range.map(|i| self.sample(i, generation, scrape, t_ms)));
                        let request = client.post(url).header("content-encoding", "snappy").body(body);
                        if !request.send().is_ok_and(|answer| answer.status().is_success()) {
                            good.store(false, Ordering::Relaxed);
                            return;
                        }
                    }
                });
            }
        });
        good.into_inner()
    }

    fn labels(&self, i: usize, generation: usize) -> Vec<Label> {
        let own = self.recording.series.len();
        let label = |name: &str, value: &str| Label { name: name.to_owned(), value: value.to_owned() };
        let mut labels: Vec<Label> =
            self.recording.series[i % own].iter().map(|(name, value)| label(name, value)).collect();
        labels.push(label("instance", &format!("node-{}-{generation}.example.org:9100", i / own)));
        labels.push(label("job", "node"));
        labels.sort_by(|a, b| a.name.cmp(&b.name));
        labels
    }

    fn sample(&self, i: usize, generation: usize, scrape: usize, timestamp: i64) -> TimeSeries {
        let own = self.recording.series.len();
        let value = self.recording.values(i / own, scrape)[i % own];
        TimeSeries { labels: self.labels(i, generation), samples: vec![Sample { value, timestamp }] }
    }
}

fn restart(binary: &Path, load: &Load<'_>, scrapes: usize) {
    let base = temp_dir();
    let mut server = servers::start("binnacle", binary, base.path());
    let url = format!("{}/api/v1/write", server.url);
    let start_ms = model::now_ms() / STEP_MS * STEP_MS - scrapes as i64 * STEP_MS;
    for scrape in 0..scrapes {
        assert!(load.send(&url, 0, scrape, start_ms + scrape as i64 * STEP_MS));
    }
    println!("{} series, {scrapes} scrapes: {:.0} MiB peak", load.series(), server.peak_mib());
    let acknowledged_ms = start_ms + (scrapes as i64 - 1) * STEP_MS;
    std::thread::scope(|scope| {
        // Requests are under way when it is killed.
        let url = &url;
        scope.spawn(move || load.send(url, 0, scrapes, start_ms + scrapes as i64 * STEP_MS));
        std::thread::sleep(Duration::from_millis(150));
        server.child.kill().expect("killed");
        server.child.wait().expect("reaped");
    });
    let begin = Instant::now();
    let server = servers::start("binnacle", binary, base.path());
    let ready = begin.elapsed();
    let found = count(&server, acknowledged_ms);
    println!(
        "  ready {:.2} s after kill -9; {found} of {} series answer after {:.2} s; {:.0} MiB peak",
        ready.as_secs_f64(),
        load.series(),
        begin.elapsed().as_secs_f64(),
        server.peak_mib()
    );
    assert_eq!(found as usize, load.series());
}

/// How many series there are at an instant.
fn count(server: &Server, t_ms: i64) -> u64 {
    let client = reqwest::blocking::Client::builder().timeout(Duration::from_secs(120)).build().expect("a client");
    let params = [("query", r#"count({__name__=~".+"})"#.to_owned()), ("time", (t_ms / 1000).to_string())];
    let answer = client.get(format!("{}/api/v1/query", server.url)).query(&params).send().expect("an answer");
    let answer: serde_json::Value = serde_json::from_str(&answer.text().expect("a body")).expect("JSON");
    answer["data"]["result"][0]["value"][1].as_str().and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn churn(binary: &Path, load: &Load<'_>) {
    const GENERATIONS: usize = 36;
    const SCRAPES: usize = 40;
    let base = temp_dir();
    let server = servers::start("binnacle", binary, base.path());
    let url = format!("{}/api/v1/write", server.url);
    let start_ms = model::now_ms() / STEP_MS * STEP_MS - (GENERATIONS * SCRAPES) as i64 * STEP_MS;
    println!("{} series, all replaced every 10 minutes", load.series());
    for generation in 0..GENERATIONS {
        for scrape in 0..SCRAPES {
            let t_ms = start_ms + (generation * SCRAPES + scrape) as i64 * STEP_MS;
            assert!(load.send(&url, generation, scrape, t_ms));
        }
        if generation % 6 == 5 {
            println!("  hour {}: {:.0} MiB resident", (generation + 1) / 6, server.resident_mib());
        }
    }
    let client = reqwest::blocking::Client::builder().timeout(Duration::from_secs(600)).build().expect("a client");
    server.flush(&client);
    println!("  write amplification {:.2}", server.write_amplification(&client));
    let parts = server.dir.join("data/tsdb/parts");
    let directories: u64 = std::fs::read_dir(&parts).expect("parts").flatten().map(|e| directory_of(&e.path())).sum();
    let text: String = (0..GENERATIONS)
        .flat_map(|generation| (0..load.series()).map(move |i| (i, generation)))
        .flat_map(|(i, generation)| load.labels(i, generation))
        .map(|label| format!("{}={}\n", label.name, label.value))
        .collect();
    let packed = zstd::bulk::compress(text.as_bytes(), 3).expect("compressed").len();
    println!(
        "  {} bytes of parts; directories {directories} bytes, labels as text at zstd 3 {packed} bytes: {:.2}; {:.0} MiB peak",
        directory_bytes(&parts),
        directories as f64 / packed as f64,
        server.peak_mib()
    );
}

/// The bytes of a part that are its directory (`docs/format/part.md`).
fn directory_of(part: &Path) -> u64 {
    const FOOTER_BYTES: usize = 24;
    let bytes = std::fs::read(part).expect("a part");
    let footer = bytes.len() - FOOTER_BYTES;
    let offset: [u8; 8] = bytes[footer..footer + 8].try_into().expect("eight bytes");
    footer as u64 - u64::from_le_bytes(offset)
}
