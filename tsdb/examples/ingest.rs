//! Measures the store: samples per second applied, bytes per sample published, and a query over them.
//!
//! `cargo run --release -p binnacle-tsdb --example ingest -- [SERIES] [STEPS]`

use std::sync::Arc;
use std::time::{Duration, Instant};

use binnacle_tsdb::{Options, Retention, Tsdb};
use bus::{EmbeddedBus, EmbeddedOptions};
use disk::RealDisk;
use model::{Labels, Sample, SeriesSamples, now_ms};
use service::config::Limits;
use service::metrics::Metrics;
use tokio_util::sync::CancellationToken;

const INTERVAL_MS: i64 = 15_000;

/// Series as a node has them: counters of integers, counters of seconds, gauges that move a little, and constants.
fn value(series: usize, step: usize) -> f64 {
    let noise = (noise(series as u64, step as u64) % 1000) as usize;
    match series % 4 {
        0 => (step * 1500 + noise) as f64,
        1 => (step * 1500 + noise) as f64 / 100.0,
        2 => 4e9 + (noise * 4096) as f64,
        _ => (series % 3) as f64,
    }
}

/// SplitMix64 of both numbers: nothing for a compressor to find.
fn noise(series: u64, step: u64) -> u64 {
    let mut z = (series << 32 | step).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn labels(series: usize) -> Labels {
    Labels::from_pairs([
        ("__name__", format!("node_metric_{}", series % 200)),
        ("instance", "localhost:9100".to_owned()),
        ("job", "node".to_owned()),
        ("device", format!("sd{}", series / 200)),
    ])
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<usize>());
    let (series, steps) = (args.next().unwrap_or(Ok(5000))?, args.next().unwrap_or(Ok(1000))?);
    let dir = tempfile::tempdir()?;
    let disk: Arc<dyn disk::Disk> = Arc::new(RealDisk);
    let bus = Arc::new(EmbeddedBus::open(disk.clone(), dir.path().join("bus"), EmbeddedOptions::default())?);
    let options = Options {
        dir: dir.path().join("tsdb"),
        retention: Retention::of_all(15 * model::MS_PER_DAY),
        external_labels: Default::default(),
        limits: Limits::default(),
        otlp: service::config::Otlp::default(),
        strong_reads: true,
        query_timeout: Duration::from_secs(120),
        query_max_samples: 50_000_000,
        query_max_total_bytes: usize::MAX,
        query_max_concurrency: 20,
        lookback_ms: 300_000,
        evaluation_interval_ms: 60_000,
        accept_loss: false,
        works: Default::default(),
    };
    let metrics = Metrics::default();
    let tsdb = Tsdb::open(options, bus, disk, &metrics).await?;
    let stop = CancellationToken::new();
    let running = tokio::spawn(tsdb.clone().run(stop.clone()));
    let names: Vec<Labels> = (0..series).map(labels).collect();
    let start_ms = now_ms() - steps as i64 * INTERVAL_MS;
    let began = Instant::now();
    for step in 0..steps {
        let t_ms = start_ms + step as i64 * INTERVAL_MS;
        let one = |(i, labels): (usize, &Labels)| {
            SeriesSamples::new(labels.clone(), vec![Sample { t_ms, value: value(i, step) }])
        };
        tsdb.append("default", names.iter().enumerate().map(one).collect()).await?;
    }
    tsdb.wait_applied().await?;
    let samples = (series * steps) as f64;
    println!("applied: {:.0} samples/s", samples / began.elapsed().as_secs_f64());
    let flushing = Instant::now();
    tsdb.flush().await?;
    println!("flushed in {:.2} s", flushing.elapsed().as_secs_f64());
    let bytes: u64 = std::fs::read_dir(dir.path().join("tsdb/parts"))?
        .map(|entry| Ok::<u64, std::io::Error>(entry?.metadata()?.len()))
        .sum::<Result<u64, _>>()?;
    println!("parts: {:.3} bytes/sample", bytes as f64 / samples);
    for expr in [
        "count(node_metric_0)",
        "sum(rate(node_metric_0[1h]))",
        "sum(count_over_time(node_metric_1[1d]))",
        "sum(rate({__name__=~\"node_metric_1?.?\"}[1h]))",
        "count(count_over_time({__name__=~\"node_metric.+\"}[1h]))",
    ] {
        let mut took_ms = Vec::new();
        let mut value = None;
        for _ in 0..10 {
            let asking = Instant::now();
            let answer = tsdb.instant("default", expr, now_ms()).await?;
            took_ms.push(asking.elapsed().as_secs_f64() * 1000.0);
            value = answer.first().map(|(_, sample)| sample.value);
        }
        let least = took_ms.iter().copied().fold(f64::INFINITY, f64::min);
        println!("{expr} = {value:?} in {:.1} ms at first, {least:.1} ms at best", took_ms[0]);
    }
    stop.cancel();
    Ok(running.await??)
}
