//! `tsdb`: work on a data directory that no server uses. Opening takes the directory's locks, so a running server
//! refuses it; everything that the bus holds is applied first.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use agent::exposition::{TextFormat, parse};
use anyhow::{Context, bail};
use bus::{EmbeddedBus, EmbeddedOptions};
use clap::{Args, Subcommand};
use disk::{Disk, RealDisk};
use model::{
    DEFAULT_TENANT, Exemplar, Labels, METRIC_NAME, Matcher, MetricBatch, Sample, SeriesSamples, format_duration,
    format_rfc3339_ms, is_stale,
};
use query::promql::ExprKind;
use query::{Samples, SeriesSelect, Wants, format_number};
use service::config::Limits;
use service::metrics::Metrics;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use super::print_table;

/// Samples handed over at once.
const BATCH_SAMPLES: usize = 50_000;
/// Nothing that is imported is too old.
const FOREVER_MS: i64 = i64::MAX / 4;

#[derive(Debug, Subcommand)]
pub enum Indexer {
    /// Read every block of every segment and say what is damaged.
    Verify {
        #[arg(default_value = "data")]
        dir: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub enum Tsdb {
    /// List parts.
    List {
        #[arg(default_value = "data")]
        dir: PathBuf,
        /// Times and sizes for people.
        #[arg(long, short = 'r')]
        human_readable: bool,
    },
    /// Which metrics and labels carry most series.
    Analyze {
        #[arg(default_value = "data")]
        dir: PathBuf,
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// Read every part and say what is damaged.
    Verify {
        #[arg(default_value = "data")]
        dir: PathBuf,
    },
    /// Print samples, one a line.
    Dump {
        #[command(flatten)]
        picked: Picked,
        /// `prom` or `seriesjson`.
        #[arg(long, default_value = "prom", value_parser = ["prom", "seriesjson"])]
        format: String,
    },
    /// Print samples as OpenMetrics text, without histograms and staleness markers.
    DumpOpenmetrics {
        #[command(flatten)]
        picked: Picked,
    },
    /// Import samples.
    #[command(subcommand)]
    CreateBlocksFrom(Import),
}

/// Samples of a data directory.
#[derive(Debug, Args)]
pub struct Picked {
    #[arg(default_value = "data")]
    dir: PathBuf,
    #[arg(long = "match")]
    matches: Vec<String>,
    /// In ms since 1970.
    #[arg(long, default_value_t = i64::MIN, allow_hyphen_values = true)]
    min_time: i64,
    #[arg(long, default_value_t = i64::MAX, allow_hyphen_values = true)]
    max_time: i64,
}

#[derive(Debug, Subcommand)]
pub enum Import {
    /// From OpenMetrics text whose samples have timestamps.
    Openmetrics {
        file: PathBuf,
        #[arg(default_value = "data")]
        dir: PathBuf,
        /// Label to add, `name=value`.
        #[arg(long = "label")]
        labels: Vec<String>,
        #[arg(long, short = 'q')]
        quiet: bool,
        #[arg(long, short = 'r', hide = true)]
        human_readable: bool,
    },
    /// From what recording rules give on a server's data.
    Rules {
        #[arg(required = true)]
        files: Vec<PathBuf>,
        #[arg(long, default_value = "http://localhost:9090")]
        url: String,
        /// RFC 3339 or Unix seconds.
        #[arg(long)]
        start: String,
        /// Three hours ago when left out.
        #[arg(long)]
        end: Option<String>,
        #[arg(long, default_value = "data")]
        output_dir: PathBuf,
        #[arg(long, default_value = "60s")]
        eval_interval: String,
    },
}

/// A store without a server.
struct Offline {
    runtime: Runtime,
    tsdb: Arc<tsdb::Tsdb>,
    stop: CancellationToken,
}

impl Offline {
    fn open(dir: &Path, create: bool) -> anyhow::Result<Offline> {
        if !create && !dir.join("tsdb").is_dir() {
            bail!("{} is no data directory: it has no tsdb inside", dir.display());
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let bus = Arc::new(EmbeddedBus::open(disk.clone(), dir.join("bus"), EmbeddedOptions::default())?);
        let options = tsdb::Options {
            dir: dir.join("tsdb"),
            retention: tsdb::Retention::of_all(FOREVER_MS),
            limits: Limits::default(),
            otlp: service::config::Otlp::default(),
            external_labels: Labels::default(),
            strong_reads: true,
            query_timeout: std::time::Duration::from_secs(3600),
            query_max_samples: usize::MAX,
            query_max_total_bytes: usize::MAX,
            query_max_concurrency: 20,
            lookback_ms: 300_000,
            evaluation_interval_ms: 60_000,
            accept_loss: false,
            works: Default::default(),
        };
        let stop = CancellationToken::new();
        let tsdb = runtime.block_on(tsdb::Tsdb::open(options, bus, disk, &Metrics::default()))?;
        runtime.spawn(tsdb.clone().run(stop.clone()));
        runtime.block_on(tsdb.wait_applied()).map_err(anyhow::Error::msg)?;
        Ok(Offline { runtime, tsdb, stop })
    }

    fn append(&self, batch: MetricBatch) -> anyhow::Result<()> {
        let appended = self.runtime.block_on(self.tsdb.append(&batch.tenant, batch.series));
        appended.map_err(|error| anyhow::Error::msg(error.to_string()))
    }

    fn flush(&self) -> anyhow::Result<()> {
        Ok(self.runtime.block_on(self.tsdb.flush())?)
    }

    /// Hands every series that a selector accepts to `visit`.
    fn each(
        &self,
        matches: &[String],
        (start_ms, end_ms): (i64, i64),
        visit: &mut dyn FnMut(&Labels, &Samples),
    ) -> anyhow::Result<()> {
        let mut selectors = matches.iter().map(|text| selector(text)).collect::<anyhow::Result<Vec<_>>>()?;
        if selectors.is_empty() {
            selectors.push(Vec::new());
        }
        for matchers in selectors {
            let request = SeriesSelect {
                tenant: DEFAULT_TENANT,
                matchers: &matchers,
                start_ms,
                end_ms,
                wants: Wants::Values,
                deadline: None,
            };
            let set = self.tsdb.source().select(&request)?;
            let mut samples = Samples::default();
            for i in 0..set.len() {
                set.read(i, &mut samples)?;
                visit(set.labels(i), &samples);
            }
        }
        Ok(())
    }
}

impl Drop for Offline {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn selector(text: &str) -> anyhow::Result<Vec<Matcher>> {
    match query::parse(text)?.kind {
        ExprKind::Selector(selector) => Ok(selector.matchers),
        _ => bail!("{text:?} is not a series selector"),
    }
}

pub fn tsdb(what: Tsdb) -> anyhow::Result<ExitCode> {
    match what {
        Tsdb::List { dir, human_readable } => list(&Offline::open(&dir, false)?, human_readable),
        Tsdb::Analyze { dir, limit } => analyze(&Offline::open(&dir, false)?, limit)?,
        Tsdb::Verify { dir } => return verify(&dir),
        Tsdb::Dump { picked, format } => dump(&picked, if format == "prom" { dump_line } else { dump_json }, "")?,
        Tsdb::DumpOpenmetrics { picked } => dump(&picked, dump_open_metrics, "# EOF\n")?,
        Tsdb::CreateBlocksFrom(Import::Openmetrics { file, dir, labels, quiet, .. }) => {
            import_text(&file, &dir, &labels, quiet)?;
        }
        Tsdb::CreateBlocksFrom(Import::Rules { files, url, start, end, output_dir, eval_interval }) => {
            import_rules(&files, &url, (&start, end.as_deref()), &output_dir, &eval_interval)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints what selectors match. A reader that has seen enough ends it.
fn dump(picked: &Picked, print: Dump, end: &str) -> anyhow::Result<()> {
    let store = Offline::open(&picked.dir, false)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut written = Ok(());
    store.each(&picked.matches, (picked.min_time, picked.max_time), &mut |labels, samples| {
        if written.is_ok() {
            written = print(&mut out, labels, samples);
        }
    })?;
    match written.and_then(|()| out.write_all(end.as_bytes())).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn list(store: &Offline, human_readable: bool) {
    let time = |t_ms: i64| if human_readable { format_rfc3339_ms(t_ms) } else { t_ms.to_string() };
    let row = |part: tsdb::PartInfo| {
        let size = if human_readable { bytes(part.bytes) } else { part.bytes.to_string() };
        let (samples, series) = (part.samples.to_string(), part.series.to_string());
        let length = format_duration(part.max_ms - part.min_ms);
        vec![part.name, part.tenant, time(part.min_ms), time(part.max_ms), length, samples, series, size]
    };
    let rows: Vec<Vec<String>> = store.tsdb.parts().into_iter().map(row).collect();
    let head = ["PART", "TENANT", "MIN TIME", "MAX TIME", "DURATION", "NUM SAMPLES", "NUM SERIES", "SIZE"];
    print_table(&head, &rows);
}

fn verify(dir: &Path) -> anyhow::Result<ExitCode> {
    let verified = tsdb::verify(&RealDisk, &dir.join("tsdb"))?;
    Ok(tell_damage("parts", verified.parts, verified.bytes, &verified.damage))
}

pub fn verify_logs(dir: &Path) -> anyhow::Result<ExitCode> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let verified = indexer::verify(&disk, &dir.join("logs"))?;
    Ok(tell_damage("segments", verified.segments, verified.bytes, &verified.damage))
}

fn tell_damage(what: &str, count: usize, size: u64, damage: &[impl std::fmt::Display]) -> ExitCode {
    damage.iter().for_each(|error| eprintln!("{error}"));
    println!("{count} {what}, {}: {} damaged places", bytes(size), damage.len());
    if damage.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn bytes(size: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut size = size as f64;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < units.len() {
        size /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{size}B") } else { format!("{size:.1}{}", units[unit]) }
}

fn analyze(store: &Offline, limit: usize) -> anyhow::Result<()> {
    let stats = store.tsdb.cardinality(DEFAULT_TENANT, limit)?;
    println!("Total Series: {}", stats.series);
    println!("Duration: {}", format_duration((stats.max_ms - stats.min_ms).max(0)));
    println!("Postings (unique label pairs): {}", stats.label_pairs);
    let lists = [
        ("Most common label pairs", stats.series_by_pair),
        ("Label names with highest cumulative label value length", stats.bytes_by_label),
        ("Highest cardinality labels", stats.values_by_label),
        ("Highest cardinality metric names", stats.series_by_metric),
    ];
    for (title, list) in lists {
        println!("\n{title}:");
        list.iter().for_each(|(name, count)| println!("{count} {name}"));
    }
    Ok(())
}

/// Time and value of every sample; a histogram in its test notation.
fn shown(samples: &Samples) -> impl Iterator<Item = (i64, f64, String)> + '_ {
    let mut histograms = samples.histograms.iter().peekable();
    samples.timestamps_ms.iter().zip(&samples.values).enumerate().map(move |(i, (t_ms, value))| {
        let histogram = histograms.next_if(|(at, _)| *at as usize == i);
        let text = histogram.map_or_else(|| format_number(*value), |(_, histogram)| histogram.to_string());
        (*t_ms, *value, text)
    })
}

type Dump = fn(&mut dyn Write, &Labels, &Samples) -> io::Result<()>;

fn dump_line(out: &mut dyn Write, labels: &Labels, samples: &Samples) -> io::Result<()> {
    shown(samples).try_for_each(|(t_ms, _, value)| writeln!(out, "{labels} {value} {t_ms}"))
}

fn dump_json(out: &mut dyn Write, labels: &Labels, samples: &Samples) -> io::Result<()> {
    if samples.is_empty() { Ok(()) } else { writeln!(out, "{}", serde_json::json!(labels)) }
}

fn dump_open_metrics(out: &mut dyn Write, labels: &Labels, samples: &Samples) -> io::Result<()> {
    let name = labels.get(METRIC_NAME).unwrap_or("").to_owned();
    let others = labels.without(&[METRIC_NAME]);
    let pairs: Vec<String> = others.iter().map(|label| format!("{}={:?}", label.name, &*label.value)).collect();
    let pairs = if pairs.is_empty() { String::new() } else { format!("{{{}}}", pairs.join(",")) };
    let histograms: Vec<u32> = samples.histograms.iter().map(|(at, _)| *at).collect();
    for (i, (t_ms, value, text)) in shown(samples).enumerate() {
        if !is_stale(value) && histograms.binary_search(&(i as u32)).is_err() {
            writeln!(out, "{name}{pairs} {text} {:.3}", t_ms as f64 / 1000.0)?;
        }
    }
    Ok(())
}

fn import_text(file: &Path, dir: &Path, labels: &[String], quiet: bool) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let exposition = parse(&text, TextFormat::OpenMetrics).with_context(|| file.display().to_string())?;
    let added =
        labels.iter().map(|pair| pair.split_once('=').with_context(|| format!("--label {pair}: expected name=value")));
    let added = added.collect::<anyhow::Result<Vec<_>>>()?;
    let store = Offline::open(dir, true)?;
    let mut series: Vec<SeriesSamples> = Vec::new();
    let mut held = 0;
    for sample in exposition.samples {
        let labels = added.iter().fold(sample.labels, |labels, (name, value)| labels.with(name, value));
        let t_ms = sample.t_ms.with_context(|| format!("expected timestamp for series {labels}, got none"))?;
        let point = Sample { t_ms, value: sample.value };
        let exemplar = sample.exemplar.map(|exemplar| Exemplar { t_ms: exemplar.t_ms.max(t_ms), ..exemplar });
        match series.last_mut().filter(|last| last.labels == labels) {
            Some(last) => {
                last.samples.push(point);
                last.exemplars.extend(exemplar);
            }
            None => {
                let exemplars = exemplar.into_iter().collect();
                series.push(SeriesSamples { exemplars, ..SeriesSamples::new(labels, vec![point]) });
            }
        }
        held += 1;
        if held >= BATCH_SAMPLES {
            store.append(MetricBatch::new(DEFAULT_TENANT, std::mem::take(&mut series)))?;
            held = 0;
        }
    }
    store.append(MetricBatch::new(DEFAULT_TENANT, series))?;
    store.flush()?;
    if !quiet {
        list(&store, true);
    }
    Ok(())
}

fn import_rules(
    files: &[PathBuf],
    url: &str,
    (start, end): (&str, Option<&str>),
    dir: &Path,
    interval: &str,
) -> anyhow::Result<()> {
    let time = |name: &str, text: &str| {
        service::http::parse_time_ms(name, text).map_err(|error| anyhow::Error::msg(error.message))
    };
    let start_ms = time("start", start)?;
    let end_ms = end.map_or(Ok(model::now_ms() - 3 * 3_600_000), |text| time("end", text))?;
    if end_ms < start_ms {
        bail!("start time is not before end time");
    }
    let interval_ms = model::parse_duration(interval).context("--eval-interval")?;
    let store = Offline::open(dir, true)?;
    for file in files {
        let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let groups = rules::parse(&file.display().to_string(), &text, interval_ms, 0).map_err(anyhow::Error::msg)?;
        for group in groups {
            for rule in group.rules.iter().filter(|rule| !rule.is_alert) {
                println!("{}: {}", group.name, rule.name);
                import_rule(&store, url, rule, (start_ms, end_ms), group.interval_ms)?;
            }
        }
    }
    store.flush()?;
    list(&store, true);
    Ok(())
}

/// Asks for a rule's expression piece by piece, on whole multiples of its interval.
fn import_rule(
    store: &Offline,
    url: &str,
    rule: &rules::RuleSpec,
    (start_ms, end_ms): (i64, i64),
    interval_ms: i64,
) -> anyhow::Result<()> {
    const STEPS: i64 = 10_000;
    let mut from_ms = (start_ms + interval_ms - 1).div_euclid(interval_ms) * interval_ms;
    while from_ms <= end_ms {
        let to_ms = end_ms.min(from_ms + interval_ms * STEPS);
        let seconds = |ms: i64| (ms as f64 / 1000.0).to_string();
        let params = [
            ("query", rule.expr.clone()),
            ("start", seconds(from_ms)),
            ("end", seconds(to_ms)),
            ("step", seconds(interval_ms)),
        ];
        let answer = super::query::get(url, "/api/v1/query_range", &params, &[])?;
        let rows = answer["data"]["result"].as_array().cloned().unwrap_or_default();
        let series = rows.iter().map(|row| recorded(row, rule)).collect();
        store.append(MetricBatch::new(DEFAULT_TENANT, series))?;
        from_ms = to_ms + interval_ms;
    }
    Ok(())
}

/// A row of a range query as the series that a rule records.
pub fn recorded(row: &serde_json::Value, rule: &rules::RuleSpec) -> SeriesSamples {
    let pairs = row["metric"].as_object().into_iter().flatten();
    let labels = Labels::from_pairs(pairs.map(|(name, value)| (name.as_str(), value.as_str().unwrap_or(""))));
    let labels = labels.with(METRIC_NAME, &rule.name);
    let labels = rule.labels.iter().fold(labels, |labels, (name, value)| labels.with(name, value));
    let sample = |pair: &serde_json::Value| {
        let value = pair[1].as_str()?.replace("Inf", "inf").parse().ok()?;
        Some(Sample { t_ms: (pair[0].as_f64()? * 1000.0).round() as i64, value })
    };
    let samples: Vec<Sample> = row["values"].as_array().into_iter().flatten().filter_map(sample).collect();
    SeriesSamples::new(labels, samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_imported_can_be_dumped() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("in.prom");
        let text = "# TYPE a counter\na_total{x=\"1\"} 1 1600000000\na_total{x=\"1\"} 2 1600000060\nb 3.5 1500000000.5\n# EOF\n";
        std::fs::write(&file, text).expect("written");
        let data = dir.path().join("data");
        import_text(&file, &data, &["dc=z".to_owned()], true).expect("imported");
        let store = Offline::open(&data, false).expect("opened");
        let mut lines = Vec::new();
        let all = ["{__name__=~\".+\"}".to_owned()];
        store
            .each(&all, (i64::MIN, i64::MAX), &mut |labels, samples| {
                lines.extend(shown(samples).map(|(t_ms, _, value)| format!("{labels} {value} {t_ms}")));
            })
            .expect("read");
        let expected = [
            r#"{__name__="a_total", dc="z", x="1"} 1 1600000000000"#,
            r#"{__name__="a_total", dc="z", x="1"} 2 1600000060000"#,
            r#"{__name__="b", dc="z"} 3.5 1500000000500"#,
        ];
        assert_eq!(lines, expected);
        let stats = store.tsdb.cardinality(DEFAULT_TENANT, 5).expect("counted");
        assert_eq!((stats.series, stats.series_by_metric), (1, vec![("a_total".to_owned(), 1)]), "of the newest day");
        assert!(Offline::open(dir.path(), false).is_err(), "not a data directory");
    }

    #[test]
    fn sizes_are_for_people() {
        assert_eq!((bytes(12), bytes(1536), bytes(3 << 30)), ("12B".into(), "1.5KiB".into(), "3.0GiB".into()));
    }
}
