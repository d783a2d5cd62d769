//! `test`: scripts of queries, and unit tests of rules.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Subcommand;
use query::logql::LogEngine;
use query::script::{Report, run};
use query::{Engine, MemoryLines, MemorySeries, run_log_script};
use regex::Regex;
use rules::{UnitOptions, UnitOutcome, run_unit_tests};

#[derive(Debug, Subcommand)]
pub enum Test {
    /// Scripts in the notation of Prometheus' promqltest.
    Promql {
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Also write the results as JUnit XML.
        #[arg(long)]
        junit: Option<PathBuf>,
    },
    /// Scripts in the notation of Loki's logqltest.
    Logql {
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Also write the results as JUnit XML.
        #[arg(long)]
        junit: Option<PathBuf>,
    },
    /// Unit tests of rules, in promtool's format.
    Rules {
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Only tests whose name matches; may be repeated.
        #[arg(long)]
        run: Vec<String>,
        /// Show what differs line by line.
        #[arg(long)]
        diff: bool,
        #[arg(long, hide = true)]
        debug: bool,
        #[arg(long = "ignore-unknown-fields", hide = true)]
        ignore_unknown: bool,
        /// Also write the results as JUnit XML.
        #[arg(long)]
        junit: Option<PathBuf>,
    },
}

/// The results of one file.
struct Suite {
    name: String,
    /// Why it could not be run.
    aborted: Option<String>,
    cases: Vec<UnitOutcome>,
}

impl Suite {
    fn failed(&self) -> bool {
        self.aborted.is_some() || self.cases.iter().any(|case| !case.failures.is_empty())
    }
}

pub fn test(what: Test) -> anyhow::Result<ExitCode> {
    let (suites, junit) = match what {
        Test::Promql { files, junit } => (files.iter().map(|file| script(file, promql)).collect::<Vec<_>>(), junit),
        Test::Logql { files, junit } => (files.iter().map(|file| script(file, logql)).collect(), junit),
        Test::Rules { files, run, diff, junit, .. } => {
            let run = run.iter().map(|pattern| Regex::new(pattern)).collect::<Result<_, _>>().context("--run")?;
            let options = UnitOptions { run, diff };
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            (files.iter().map(|file| runtime.block_on(unit(file, &options))).collect(), junit)
        }
    };
    if let Some(path) = junit {
        std::fs::write(&path, xml(&suites)).with_context(|| format!("--junit {}", path.display()))?;
    }
    Ok(if suites.iter().any(Suite::failed) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn promql(text: &str) -> Result<Report, String> {
    run(text, &Engine::default(), &mut MemorySeries::default())
}

fn logql(text: &str) -> Result<Report, String> {
    run_log_script(text, &LogEngine::default(), &mut MemoryLines::default())
}

fn script(path: &Path, run: fn(&str) -> Result<Report, String>) -> Suite {
    let name = path.display().to_string();
    println!("Testing {name}");
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string());
    let report = text.and_then(|text| run(&text));
    match report {
        Err(error) => {
            println!("  FAILED:\n{error}\n");
            Suite { name, aborted: Some(error), cases: Vec::new() }
        }
        Ok(report) => {
            let failed = report.failures.len();
            let case = |failure: &query::script::Failure| UnitOutcome {
                name: format!("line {}: {}", failure.line, failure.command),
                failures: vec![failure.message.clone()],
            };
            for failure in &report.failures {
                println!("  {name}:{}: {}\n    {}", failure.line, failure.command, failure.message);
            }
            let word = if failed == 0 { "SUCCESS" } else { "FAILED" };
            println!("  {word}: {} of {} evaluations as expected\n", report.evaluations - failed, report.evaluations);
            let mut cases: Vec<UnitOutcome> = report.failures.iter().map(case).collect();
            let passed = |_| UnitOutcome { name: "evaluation".to_owned(), failures: Vec::new() };
            cases.extend((failed..report.evaluations).map(passed));
            Suite { name, aborted: None, cases }
        }
    }
}

async fn unit(path: &Path, options: &UnitOptions) -> Suite {
    let name = path.display().to_string();
    println!("Unit Testing:  {name}");
    let suite = match run_unit_tests(path, options).await {
        Ok(cases) => Suite { name, aborted: None, cases },
        Err(error) => Suite { name, aborted: Some(error), cases: Vec::new() },
    };
    if suite.failed() {
        eprintln!("  FAILED:");
        let failures = suite.cases.iter().flat_map(|case| &case.failures).chain(&suite.aborted);
        failures.for_each(|failure| eprintln!("{failure}\n"));
    } else {
        println!("  SUCCESS\n");
    }
    suite
}

/// JUnit's report: a suite per file, a case per test.
fn xml(suites: &[Suite]) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for suite in suites {
        let failures = suite.cases.iter().filter(|case| !case.failures.is_empty()).count();
        let (name, errors) = (escape(&suite.name), usize::from(suite.aborted.is_some()));
        let tests = suite.cases.len();
        let _ = writeln!(
            out,
            "  <testsuite name=\"{name}\" tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\">"
        );
        for case in &suite.cases {
            let name = escape(&case.name);
            if case.failures.is_empty() {
                let _ = writeln!(out, "    <testcase name=\"{name}\"/>");
                continue;
            }
            let _ = writeln!(out, "    <testcase name=\"{name}\">");
            for failure in &case.failures {
                let _ = writeln!(out, "      <failure>{}</failure>", escape(failure));
            }
            out.push_str("    </testcase>\n");
        }
        if let Some(error) = &suite.aborted {
            let _ = writeln!(out, "    <system-err>{}</system-err>", escape(error));
        }
        out.push_str("  </testsuite>\n");
    }
    out.push_str("</testsuites>\n");
    out
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn junit_says_what_failed() {
        let case = |name: &str, failures: &[&str]| UnitOutcome {
            name: name.to_owned(),
            failures: failures.iter().map(|failure| (*failure).to_owned()).collect(),
        };
        let suite =
            Suite { name: "a.yml".into(), aborted: None, cases: vec![case("good", &[]), case("bad", &["1 < 2"])] };
        let xml = xml(&[suite]);
        assert!(xml.contains("<testsuite name=\"a.yml\" tests=\"2\" failures=\"1\" errors=\"0\">"), "{xml}");
        assert!(xml.contains("<testcase name=\"good\"/>") && xml.contains("<failure>1 &lt; 2</failure>"), "{xml}");
    }
}
