//! `rules replay`: what recording rules would have recorded, asked of a server and given back to it.
//!
//! Rules run in the order of their file, each over the whole time before the next, so that a rule finds what those before
//! it recorded. What is there already at the same instants is written over.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Subcommand;
use model::{METRIC_NAME, SeriesSamples};
use rules::{GroupSpec, Kind, RuleSpec};
use service::work::{Report, State};

/// Instants asked for at once.
const STEPS: i64 = 5_000;
const TIMEOUT: Duration = Duration::from_secs(120);
const REPORT_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug, Subcommand)]
pub enum Rules {
    /// Backfill the recording rules of files.
    Replay {
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// RFC 3339 or Unix seconds.
        #[arg(long)]
        from: String,
        /// Now when left out.
        #[arg(long)]
        to: Option<String>,
        #[arg(long, default_value = "http://127.0.0.1:9090")]
        url: String,
        /// Of groups that name no interval.
        #[arg(long, default_value = "1m")]
        interval: String,
    },
}

pub fn rules(what: Rules) -> anyhow::Result<ExitCode> {
    let Rules::Replay { files, from, to, url, interval } = what;
    let time = |name: &str, text: &str| {
        service::http::parse_time_ms(name, text).map_err(|error| anyhow::Error::msg(error.message))
    };
    let from_ms = time("from", &from)?;
    let to_ms = to.as_deref().map_or(Ok(model::now_ms()), |text| time("to", text))?;
    if to_ms < from_ms {
        bail!("--from is after --to");
    }
    let interval_ms = model::parse_duration(&interval).context("--interval")?;
    for file in &files {
        let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let groups = rules::parse(&file.display().to_string(), &text, interval_ms, 0).map_err(anyhow::Error::msg)?;
        for group in &groups {
            for rule in group.rules.iter().filter(|rule| !rule.is_alert) {
                let shown = Shown::new(&url, format!("{}: {}", group.name, rule.name));
                let samples = replay(&shown, group, rule, (from_ms, to_ms)).inspect_err(|error| shown.failed(error))?;
                shown.done();
                println!("{}: {}: {samples} samples", group.name, rule.name);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A rule's replay as the server's page shows it. A server that does not take that is given the samples all the same.
struct Shown<'a> {
    url: &'a str,
    id: String,
    detail: String,
}

impl Shown<'_> {
    fn new(url: &str, detail: String) -> Shown<'_> {
        Shown { url, id: format!("replay-{}-{}", std::process::id(), model::now_ms()), detail }
    }

    fn say(&self, state: State, (done, total): (u64, u64), error: String) {
        let (kind, detail, unit) = ("replay".to_owned(), self.detail.clone(), "steps".to_owned());
        let report = Report { kind, detail, done, total, unit, state, error };
        let url = format!("{}/binnacle/v1/work/{}", self.url.trim_end_matches('/'), self.id);
        let sent = reqwest::blocking::Client::new().put(url).timeout(REPORT_TIMEOUT).json(&report).send();
        // Another kind of server has no such page.
        drop(sent);
    }

    fn done(&self) {
        self.say(State::Done, (0, 0), String::new());
    }

    fn failed(&self, error: &anyhow::Error) {
        self.say(State::Failed, (0, 0), format!("{error:#}"));
    }
}

/// Replays one rule; answers how many samples it gave.
fn replay(
    shown: &Shown<'_>,
    group: &GroupSpec,
    rule: &RuleSpec,
    (from_ms, to_ms): (i64, i64),
) -> anyhow::Result<usize> {
    let path = match group.kind {
        Kind::Promql => "/api/v1/query_range",
        Kind::Logql => "/loki/api/v1/query_range",
    };
    let step_ms = group.interval_ms;
    let mut at_ms = (from_ms + step_ms - 1).div_euclid(step_ms) * step_ms;
    let (url, first_ms) = (shown.url, at_ms);
    let steps = |from_ms: i64, to_ms: i64| ((to_ms - from_ms) / step_ms).max(0).unsigned_abs();
    let mut count = 0;
    while at_ms <= to_ms {
        shown.say(State::Running, (steps(first_ms, at_ms), steps(first_ms, to_ms) + 1), String::new());
        let end_ms = to_ms.min(at_ms + step_ms * (STEPS - 1));
        let seconds = |ms: i64| (ms as f64 / 1000.0).to_string();
        let params = [
            ("query", rule.expr.clone()),
            ("start", seconds(at_ms)),
            ("end", seconds(end_ms)),
            ("step", seconds(step_ms)),
        ];
        let answer = super::query::get(url, path, &params, &[])?;
        let rows = answer["data"]["result"].as_array().cloned().unwrap_or_default();
        let mut text = String::new();
        for series in rows.iter().map(|row| super::offline::recorded(row, rule)) {
            count += series.samples.len();
            write_series(&mut text, &series);
        }
        send(url, text)?;
        at_ms = end_ms + step_ms;
    }
    Ok(count)
}

/// Prometheus' text, any name quoted.
fn write_series(text: &mut String, series: &SeriesSamples) {
    let labels = series.labels.iter().map(|label| match &*label.name {
        METRIC_NAME => format!("{:?}", label.value),
        name => format!("{name:?}={:?}", label.value),
    });
    let labels = labels.collect::<Vec<_>>().join(",");
    for sample in &series.samples {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{{{labels}}} {} {}", query::format_number(sample.value), sample.t_ms);
    }
}

fn send(url: &str, text: String) -> anyhow::Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    let url = format!("{}/api/v1/import/prometheus", url.trim_end_matches('/'));
    let client = reqwest::blocking::Client::builder().timeout(TIMEOUT).build()?;
    let answer = client.post(&url).body(text).send().with_context(|| format!("cannot ask {url}"))?;
    let status = answer.status();
    if !status.is_success() {
        bail!("{url} answered {status}: {}", answer.text().unwrap_or_default());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use model::{Labels, Sample};

    use super::*;

    #[test]
    fn series_are_written_with_names_quoted() {
        let labels = Labels::from_pairs([(METRIC_NAME, "job:up:sum"), ("a b", "x\"y"), ("job", "n")]);
        let samples = vec![Sample { t_ms: 1000, value: 1.5 }, Sample { t_ms: 2000, value: f64::INFINITY }];
        let mut text = String::new();
        write_series(&mut text, &SeriesSamples::new(labels, samples));
        let series = r#"{"job:up:sum","a b"="x\"y","job"="n"}"#;
        assert_eq!(text, format!("{series} 1.5 1000\n{series} +Inf 2000\n"));
    }
}
