//! Runs PromQL test scripts against the store in memory: `cargo run -p binnacle-query --example script FILE…`.

use std::process::ExitCode;

use binnacle_query::script::run;
use binnacle_query::{Engine, MemorySeries};

fn main() -> ExitCode {
    let mut failed = false;
    for path in std::env::args().skip(1) {
        let read = std::fs::read_to_string(&path).map_err(|error| error.to_string());
        match read.and_then(|text| run(&text, &Engine::default(), &mut MemorySeries::default())) {
            Ok(report) => {
                println!("{path}: {} of {} evaluations failed", report.failures.len(), report.evaluations);
                for failure in &report.failures {
                    println!("  {path}:{}: {}\n      {}", failure.line, failure.command, failure.message);
                }
                failed |= !report.failures.is_empty();
            }
            Err(error) => {
                println!("{path}: {error}");
                failed = true;
            }
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
