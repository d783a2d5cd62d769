//! `cargo bench --bench ingest`: node_exporter's series of 40 machines by remote write, beside peers in one run.
//!
//! `BINNACLE_BENCH_RECORDING` is a directory of scrapes (`benches/record.sh`); the peers' binaries are named as in
//! `benches/support/servers.rs`. Bodies of 2,000 samples over two connections, scrapes in order; made before the server
//! starts. CPU is the server's, until it has worked off what it acknowledged, and once more after everything is written
//! and merged; bytes are those of its directory then.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use prost::Message;

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

/// A number from the environment.
fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The messages of remote write.
#[derive(Clone, Copy, PartialEq)]
enum Protocol {
    V1,
    V2,
}

fn main() {
    let Some(dir) = std::env::var_os("BINNACLE_BENCH_RECORDING") else {
        println!("BINNACLE_BENCH_RECORDING names no recording; benches/record.sh makes one");
        return;
    };
    let (machines, scrapes) = (setting("BINNACLE_BENCH_MACHINES", 40), setting("BINNACLE_BENCH_SCRAPES", 900));
    let load = Load::new(Recording::read(&PathBuf::from(dir)), machines);
    println!("{} series, {scrapes} scrapes", load.series.len());
    println!(
        "{:<20} {:>9} {:>9} {:>12} {:>12} {:>9} {:>9}",
        "server", "wall s", "CPU s", "samples/CPUs", "with merges", "bytes", "peak MiB"
    );
    let only = std::env::var("BINNACLE_BENCH_ONLY").unwrap_or_default();
    for protocol in [Protocol::V1, Protocol::V2] {
        let end_ms = model::now_ms() / STEP_MS * STEP_MS;
        let start_ms = end_ms - (scrapes as i64 - 1) * STEP_MS;
        let bodies: Vec<Vec<Vec<u8>>> =
            (0..scrapes).map(|scrape| load.bodies(scrape, start_ms + scrape as i64 * STEP_MS, protocol)).collect();
        for (name, binary) in servers::binaries() {
            let speaks = protocol == Protocol::V1 || name == "binnacle";
            let label = if protocol == Protocol::V1 { name.to_owned() } else { format!("{name}, 2.0") };
            if speaks && label.contains(&only) {
                let base = temp_dir();
                let server = servers::start(name, &binary, base.path());
                measure(&label, &server, &bodies, protocol, (load.series.len() * scrapes) as f64);
            }
        }
    }
}

fn measure(label: &str, server: &Server, bodies: &[Vec<Vec<u8>>], protocol: Protocol, samples: f64) {
    let client = reqwest::blocking::Client::builder().timeout(Duration::from_secs(600)).build().expect("a client");
    let url = format!("{}/api/v1/write", server.url);
    let begin = Instant::now();
    for scrape in bodies {
        std::thread::scope(|scope| {
            for lane in 0..2 {
                let (client, url) = (&client, &url);
                scope.spawn(move || {
                    for body in scrape.iter().skip(lane).step_by(2) {
                        let mut request = client.post(url).header("content-encoding", "snappy").body(body.clone());
                        if protocol == Protocol::V2 {
                            let kind = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
                            request = request.header("content-type", kind);
                        }
                        let answer = request.send().expect("an answer");
                        assert!(answer.status().is_success(), "{}", answer.text().unwrap_or_default());
                    }
                });
            }
        });
    }
    let wall = begin.elapsed().as_secs_f64();
    let cpu = settled_cpu_s(server);
    server.flush(&client);
    let merged_cpu = settled_cpu_s(server);
    let bytes = directory_bytes(&server.dir.join("data")) as f64;
    println!(
        "{label:<20} {wall:>9.1} {cpu:>9.2} {:>12.0} {:>12.0} {:>9.3} {:>9.0}",
        samples / cpu,
        samples / merged_cpu,
        bytes / samples,
        server.peak_mib()
    );
    if server.name == "binnacle" {
        println!("  write amplification {:.2}", server.write_amplification(&client));
    }
}

/// CPU seconds once they stop rising: until the server has worked off what it acknowledged.
fn settled_cpu_s(server: &Server) -> f64 {
    let mut last = server.cpu_s();
    loop {
        std::thread::sleep(Duration::from_secs(2));
        let now = server.cpu_s();
        if now - last < 0.05 {
            return now;
        }
        last = now;
    }
}

/// The series of all machines.
struct Load {
    recording: Recording,
    /// Machine after machine.
    series: Vec<Vec<Label>>,
}

impl Load {
    fn new(recording: Recording, machines: usize) -> Load {
        let of = |machine: usize| {
            let instance = [("instance".to_owned(), format!("10.0.0.{machine}:9100")), ("job".into(), "node".into())];
            recording
                .series
                .iter()
                .map(move |pairs| {
                    let mut labels: Vec<Label> = pairs
                        .iter()
                        .chain(&instance)
                        .map(|(name, value)| Label { name: name.clone(), value: value.clone() })
                        .collect();
                    labels.sort_by(|a, b| a.name.cmp(&b.name));
                    labels
                })
                .collect::<Vec<_>>()
        };
        let series = (0..machines).flat_map(of).collect();
        Load { recording, series }
    }

    /// The bodies of one scrape of all machines.
    fn bodies(&self, scrape: usize, t_ms: i64, protocol: Protocol) -> Vec<Vec<u8>> {
        let own = self.recording.series.len();
        let value = |i: usize| self.recording.values(i / own, scrape)[i % own];
        let firsts = (0..self.series.len()).step_by(SAMPLES_PER_BODY);
        firsts
            .map(|first| {
                let range = first..self.series.len().min(first + SAMPLES_PER_BODY);
                match protocol {
                    Protocol::V1 => Sender::body(range.map(|i| TimeSeries {
                        labels: self.series[i].clone(),
                        samples: vec![Sample { value: value(i), timestamp: t_ms }],
                    })),
                    Protocol::V2 => v2::body(range.map(|i| (self.series[i].as_slice(), value(i))), t_ms),
                }
            })
            .collect()
    }
}

/// What is used of `io.prometheus.write.v2.Request`.
mod v2 {
    use std::collections::HashMap;

    use super::*;

    #[derive(Clone, PartialEq, Message)]
    struct Request {
        #[prost(string, repeated, tag = "4")]
        symbols: Vec<String>,
        #[prost(message, repeated, tag = "5")]
        timeseries: Vec<Series>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Series {
        #[prost(uint32, repeated, tag = "1")]
        labels: Vec<u32>,
        #[prost(message, repeated, tag = "2")]
        samples: Vec<Sample>,
    }

    pub fn body<'a>(series: impl Iterator<Item = (&'a [Label], f64)>, timestamp: i64) -> Vec<u8> {
        let mut symbols = vec![String::new()];
        let mut ids: HashMap<&'a str, u32> = HashMap::new();
        let mut timeseries = Vec::new();
        for (labels, value) in series {
            let texts = labels.iter().flat_map(|label| [label.name.as_str(), label.value.as_str()]);
            let labels = texts.map(|text| {
                *ids.entry(text).or_insert_with(|| {
                    symbols.push(text.to_owned());
                    symbols.len() as u32 - 1
                })
            });
            timeseries.push(Series { labels: labels.collect(), samples: vec![Sample { value, timestamp }] });
        }
        let message = Request { symbols, timeseries }.encode_to_vec();
        snap::raw::Encoder::new().compress_vec(&message).expect("compresses")
    }
}
