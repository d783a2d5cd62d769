//! `check`: configurations, rule files, exposed metrics, and whether a server is well.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use model::{DurationMs, format_duration};
use rules::GroupSpec;
use service::config::{self, Config};

use super::{LINT_CODE, lint};

const INTERVAL_MS: i64 = 60_000;

#[derive(Debug, Args)]
pub struct Lint {
    /// `duplicate-rules`, `too-long-scrape-interval`, `all` or `none`.
    #[arg(long = "lint", default_value = "duplicate-rules")]
    lint: String,
    /// Exit with 3 where the linter finds something.
    #[arg(long = "lint-fatal")]
    fatal: bool,
    /// Accepted as promtool's.
    #[arg(long = "ignore-unknown-fields", hide = true)]
    _ignore_unknown: bool,
}

impl Lint {
    fn wants(&self, what: &str) -> bool {
        self.lint == "all" || self.lint.split(',').any(|one| one.trim() == what)
    }
}

#[derive(Debug, Subcommand)]
pub enum Check {
    /// Configuration files, and the rule files that they name.
    Config {
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Only the file itself.
        #[arg(long)]
        syntax_only: bool,
        #[arg(long, hide = true)]
        agent: bool,
        /// Scrape intervals must be shorter.
        #[arg(long = "query.lookback-delta", default_value = "5m", value_parser = duration)]
        lookback: DurationMs,
        #[command(flatten)]
        lint: Lint,
    },
    /// Rule files; standard input when none is given.
    Rules {
        files: Vec<PathBuf>,
        #[command(flatten)]
        lint: Lint,
    },
    /// Exposed metrics on standard input: mistakes and bad habits.
    Metrics {
        /// Show how many series each metric has.
        #[arg(long)]
        extended: bool,
        /// `all` or `none`.
        #[arg(long, default_value = "all")]
        lint: String,
    },
    /// Whether a server is healthy.
    Healthy {
        #[arg(long, default_value = "http://localhost:9090")]
        url: String,
    },
    /// Whether a server is ready.
    Ready {
        #[arg(long, default_value = "http://localhost:9090")]
        url: String,
    },
}

fn duration(text: &str) -> Result<DurationMs, String> {
    model::parse_duration(text).map(DurationMs).map_err(|error| error.to_string())
}

/// What checks found: what is wrong, and what is only bad style.
#[derive(Default)]
struct Findings {
    errors: bool,
    lint: bool,
}

impl Findings {
    fn code(&self, lint_is_fatal: bool) -> ExitCode {
        match () {
            () if self.errors => ExitCode::FAILURE,
            () if self.lint && lint_is_fatal => ExitCode::from(LINT_CODE),
            () => ExitCode::SUCCESS,
        }
    }
}

pub fn check(what: Check) -> anyhow::Result<ExitCode> {
    match what {
        Check::Config { files, syntax_only, lookback, lint, .. } => {
            let mut findings = Findings::default();
            for file in &files {
                check_config(file, syntax_only, lookback, &lint, &mut findings);
            }
            Ok(findings.code(lint.fatal))
        }
        Check::Rules { files, lint } => {
            let mut findings = Findings::default();
            if files.is_empty() {
                let mut text = String::new();
                std::io::stdin().read_to_string(&mut text)?;
                println!("Checking standard input");
                check_rules(rules::parse("standard input", &text, INTERVAL_MS, 0), &lint, &mut findings);
            }
            files.iter().for_each(|file| check_rule_file(file, &lint, &mut findings));
            Ok(findings.code(lint.fatal))
        }
        Check::Metrics { extended, lint } => check_metrics(extended, &lint),
        Check::Healthy { url } => is_well(&url, "healthy"),
        Check::Ready { url } => is_well(&url, "ready"),
    }
}

fn check_config(file: &Path, syntax_only: bool, lookback: DurationMs, lint: &Lint, findings: &mut Findings) {
    println!("Checking {}", file.display());
    let config = match config::load_config(file) {
        Ok((config, _)) => config,
        Err(error) => {
            eprintln!("  FAILED: {error}\n");
            findings.errors = true;
            return;
        }
    };
    let base = file.parent().unwrap_or(Path::new("."));
    let rule_files = match rules::files(&config.rule_files, base) {
        Ok(files) => files,
        Err(error) => {
            eprintln!("  FAILED: {error}\n");
            findings.errors = true;
            return;
        }
    };
    if !rule_files.is_empty() {
        println!("  SUCCESS: {} rule files found", rule_files.len());
    }
    println!(" SUCCESS: {} is valid prometheus config file syntax\n", file.display());
    if syntax_only {
        return;
    }
    if lint.wants("too-long-scrape-interval") {
        long_intervals(&config, lookback, findings);
    }
    rule_files.iter().for_each(|file| check_rule_file(file, lint, findings));
}

fn long_intervals(config: &Config, lookback: DurationMs, findings: &mut Findings) {
    for job in &config.scrape_configs {
        let interval = job.scrape_interval.unwrap_or(config.global.scrape_interval);
        if interval.0 >= lookback.0 {
            let message = "too long scrape interval found, data point will be marked as stale";
            eprintln!("  FAILED: {message} - job: {}, interval: {}", job.job_name, format_duration(interval.0));
            findings.lint = true;
        }
    }
}

fn check_rule_file(file: &Path, lint: &Lint, findings: &mut Findings) {
    println!("Checking {}", file.display());
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string());
    let groups = text.and_then(|text| rules::parse(&file.display().to_string(), &text, INTERVAL_MS, 0));
    check_rules(groups, lint, findings);
}

fn check_rules(groups: Result<Vec<GroupSpec>, String>, lint: &Lint, findings: &mut Findings) {
    match groups {
        Err(error) => {
            eprintln!("  FAILED:\n{error}");
            findings.errors = true;
        }
        Ok(groups) => {
            let repeated = if lint.wants("duplicate-rules") { repeated_rules(&groups) } else { Vec::new() };
            if repeated.is_empty() {
                println!("  SUCCESS: {} rules found", groups.iter().map(|group| group.rules.len()).sum::<usize>());
            } else {
                eprintln!("  FAILED:\nlint error {} duplicate rule(s) found.", repeated.len());
                repeated.iter().for_each(|rule| eprint!("{rule}"));
                eprintln!("Might cause inconsistency while recording expressions");
                findings.lint = true;
            }
        }
    }
    println!();
}

/// Rules of one name and the same labels.
fn repeated_rules(groups: &[GroupSpec]) -> Vec<String> {
    let mut seen: BTreeMap<_, usize> = BTreeMap::new();
    for rule in groups.iter().flat_map(|group| &group.rules) {
        *seen.entry((&rule.name, &rule.labels)).or_default() += 1;
    }
    let shown = seen.into_iter().filter(|(_, count)| *count > 1).map(|((name, labels), _)| {
        let labels: String = labels.iter().map(|(name, value)| format!("\t{name}: {value}\n")).collect();
        format!("Metric: {name}\nLabel(s):\n{labels}")
    });
    shown.collect()
}

fn check_metrics(extended: bool, wanted: &str) -> anyhow::Result<ExitCode> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let is_open = text.trim_end().ends_with("# EOF");
    let format =
        if is_open { agent::exposition::TextFormat::OpenMetrics } else { agent::exposition::TextFormat::Prometheus };
    let exposition = agent::exposition::parse(&text, format).context("error while linting")?;
    let problems = if wanted == "none" { Vec::new() } else { lint::problems(&exposition) };
    problems.iter().for_each(|(metric, problem)| eprintln!("{metric} {problem}"));
    if extended {
        let (rows, total) = lint::cardinality(&exposition);
        let share = |count: usize| format!("{:.2}%", count as f64 * 100.0 / total.max(1) as f64);
        let row = |(name, count): (String, usize)| vec![name, count.to_string(), share(count)];
        let all = vec!["Total".to_owned(), total.to_string(), "100%".to_owned()];
        let rows: Vec<Vec<String>> = rows.into_iter().map(row).chain([all]).collect();
        super::print_table(&["Metric", "Cardinality", "Percentage"], &rows);
    }
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(LINT_CODE) })
}

fn is_well(url: &str, what: &str) -> anyhow::Result<ExitCode> {
    service::http::install_tls_provider();
    let asked = format!("{}/-/{what}", url.trim_end_matches('/'));
    let response = reqwest::blocking::get(&asked).with_context(|| format!("cannot ask {asked}"))?;
    if response.status().is_success() {
        println!("  SUCCESS: {}", response.text()?.trim());
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("  FAILED: check failed: URL={asked}, status={}", response.status().as_u16());
    Ok(ExitCode::FAILURE)
}
