use super::*;

fn check(script: &str) {
    let report = run_log_script(script, &LogEngine::default(), &mut MemoryLines::default());
    let report = report.unwrap_or_else(|error| panic!("{error}"));
    let shown = report.failures.iter().map(|f| format!("line {}: {}: {}\n", f.line, f.command, f.message));
    assert!(report.failures.is_empty(), "{}", shown.collect::<String>());
    assert!(report.evaluations > 0);
}

#[test]
fn selection() {
    check(include_str!("../../testdata/logql/selection.logqltest"));
}

#[test]
fn repeats() {
    check(include_str!("../../testdata/logql/repeats.logqltest"));
}

#[test]
fn line_filters() {
    check(include_str!("../../testdata/logql/line_filters.logqltest"));
}

#[test]
fn parsers() {
    check(include_str!("../../testdata/logql/parsers.logqltest"));
}

#[test]
fn label_filters() {
    check(include_str!("../../testdata/logql/label_filters.logqltest"));
}

#[test]
fn formats() {
    check(include_str!("../../testdata/logql/formats.logqltest"));
}

#[test]
fn ranges() {
    check(include_str!("../../testdata/logql/ranges.logqltest"));
}

#[test]
fn operators() {
    check(include_str!("../../testdata/logql/operators.logqltest"));
}

#[test]
fn faults() {
    check(include_str!("../../testdata/logql/faults.logqltest"));
}

#[test]
fn a_wrong_expectation_fails() {
    let load = "load\n  {a=\"b\"} \"x\" @ 1s\n\n";
    for wrong in [
        "eval instant at 0s vector(1)\n  {} 2",
        "eval instant at 0s vector(1)\n  expect fail",
        "eval instant at 0s vector(1)\n  expect empty",
        "eval instant at 0s vector(\n  {} 1",
        "eval instant at 0s vector(\n  expect fail msg: something else",
        "eval instant at 0s 1\n  2",
        "eval select from 0 to 2s forward {a=\"b\"}\n  {a=\"b\"} \"y\" @ 1s",
        "eval select from 0 to 2s forward {a=\"b\"}\n  {a=\"b\"} \"x\" @ 1s [parsed x=\"\"]",
        "eval select from 0 to 2s forward {a=\"b\"}\n  expect empty",
        "eval range from 0 to 2s step 1s count_over_time({a=\"b\"}[1s])\n  {a=\"b\"} 1 1 1",
    ] {
        let script = format!("{load}{wrong}");
        let report = run_log_script(&script, &LogEngine::default(), &mut MemoryLines::default()).expect("a script");
        assert_eq!((report.evaluations, report.failures.len()), (1, 1), "{wrong}");
    }
}

#[test]
fn what_is_no_script_is_refused() {
    for bad in [
        "what",
        "eval instant 1",
        "eval instant at 0s vector(1)",
        "eval instant at 0s vector(1)\n  {} 1\n  expect empty",
        "eval range from 0 to 1s vector(1)\n  {} 1",
        "load\n  {a=~\"b\"} \"x\" @ 1s",
        "load\n  {a=\"b\"} x @ 1s",
        "load\n  {a=\"b\"} \"x\" @ 1s [parsed k=\"v\"] [metadata k=\"v\"]",
        "load\n  {a=\"b\"} \"x\" @ soon",
    ] {
        let run = run_log_script(bad, &LogEngine::default(), &mut MemoryLines::default());
        assert!(run.is_err(), "{bad}");
    }
}
