//! Query tests as scripts that people can read, in the notation of Prometheus' `promqltest`.
//!
//! ```text
//! load 1m                                     # one value per minute from time 0
//!   requests_total{job="a"} 0+60x10 _ stale   # 0, 60, … 600, nothing, the end
//!
//! eval instant at 10m rate(requests_total[5m])
//!   {job="a"} 1
//!
//! eval range from 0 to 2m step 1m requests_total
//!   requests_total{job="a"} 0 60 120
//!
//! eval instant at 0 1 + on(x) up
//!   expect fail msg: vector matching only allowed between instant vectors
//!
//! clear
//! ```
//!
//! Further expectations: `ordered`, `warn`, `info` (with `msg:` or `regex:`), `no_warn`, `no_info`, `string "…"`,
//! `range vector from A to B step C`. A lone number is a scalar. `load_with_nhcb` adds a native histogram with custom
//! buckets to every classic one. A block ends at an empty line, a comment, or the next command.
//!
//! Every instant case runs also with `@` on its selectors at other times, and as the middle step of a range query.

mod compare;
mod expect;
mod load;
mod notation;
mod pin;

use model::{Labels, parse_duration};

pub use load::load;
pub use notation::{Written, WrittenSeries, parse_series, parse_values};

use crate::{Element, Engine, Expr, MemorySeries, Point, Row, Series, Value, parse};
use compare::{Times, compare};
use expect::Expected;

const MINUTE_MS: i64 = 60_000;
const TENANT: &str = "default";

/// What scripts load their samples into.
pub trait ScriptStore {
    fn clear(&mut self);
    fn push(&mut self, labels: &Labels, t_ms: i64, point: Point, start_ms: Option<i64>) -> Result<(), String>;
    fn source(&self) -> &dyn Series;
}

impl ScriptStore for MemorySeries {
    fn clear(&mut self) {
        *self = MemorySeries::default();
    }

    fn push(&mut self, labels: &Labels, t_ms: i64, point: Point, start_ms: Option<i64>) -> Result<(), String> {
        MemorySeries::push(self, labels, t_ms, point, start_ms);
        Ok(())
    }

    fn source(&self) -> &dyn Series {
        self
    }
}

/// What a script's evaluations came to.
#[derive(Debug, Default)]
pub struct Report {
    pub evaluations: usize,
    pub failures: Vec<Failure>,
}

/// An evaluation that gave something else than expected.
#[derive(Debug)]
pub struct Failure {
    /// Of the command, from 1.
    pub line: usize,
    pub command: String,
    pub message: String,
}

/// Runs a script. A script that cannot be read is an error; evaluations that fail are in the report.
pub fn run(text: &str, engine: &Engine, store: &mut dyn ScriptStore) -> Result<Report, String> {
    let mut script = Script { engine, store, report: Report::default() };
    let lines: Vec<&str> = text.lines().collect();
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        let number = at + 1;
        at += 1;
        if is_blank(line) {
            continue;
        }
        let length = lines[at..].iter().take_while(|line| !is_blank(line) && !is_command(line)).count();
        let block: Vec<&str> = lines[at..at + length].iter().map(|line| line.trim()).collect();
        at += length;
        script.command(number, line.trim(), &block).map_err(|message| format!("line {number}: {line}: {message}"))?;
    }
    Ok(script.report)
}

fn is_blank(line: &str) -> bool {
    let line = line.trim_start();
    line.is_empty() || line.starts_with('#')
}

fn is_command(line: &str) -> bool {
    let word = line.split([' ', '\t']).next().unwrap_or("");
    matches!(word, "clear" | "load" | "load_with_nhcb" | "eval") || word.starts_with("eval_")
}

/// A time or length: a duration, possibly negative, or seconds.
pub(crate) fn time_ms(text: &str) -> Result<i64, String> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Ok((seconds * 1000.0) as i64);
    }
    let (sign, length) = text.strip_prefix('-').map_or((1, text), |length| (-1, length));
    parse_duration(length).map(|ms| sign * ms).map_err(|error| error.to_string())
}

/// The first word, and what follows it.
fn word(text: &str) -> (&str, &str) {
    let (first, rest) = text.split_once([' ', '\t']).unwrap_or((text, ""));
    (first, rest.trim_start())
}

struct Script<'a> {
    engine: &'a Engine,
    store: &'a mut dyn ScriptStore,
    report: Report,
}

impl Script<'_> {
    fn command(&mut self, line: usize, command: &str, block: &[&str]) -> Result<(), String> {
        let (name, rest) = word(command);
        let name = name.to_lowercase();
        match name.as_str() {
            "clear" => self.store.clear(),
            "load" => load::load(self.store, 0, time_ms(rest)?, block, false)?,
            "load_with_nhcb" => load::load(self.store, 0, time_ms(rest)?, block, true)?,
            _ => {
                let modifier = name.strip_prefix("eval").ok_or("unknown command")?;
                let case = Case::parse(rest, Expected::parse(modifier.trim_start_matches('_'), block)?)?;
                self.report.evaluations += 1;
                if let Err(message) = case.run(self.engine, self.store.source()) {
                    let command = command.to_owned();
                    self.report.failures.push(Failure { line, command, message });
                }
            }
        }
        Ok(())
    }
}

/// One evaluation, and what it should give.
struct Case<'a> {
    query: &'a str,
    times: Times,
    is_range: bool,
    expected: Expected,
}

impl Case<'_> {
    /// `instant at T QUERY`, `range from A to B step C QUERY`.
    fn parse(text: &str, expected: Expected) -> Result<Case<'_>, String> {
        let (kind, rest) = word(text);
        if kind == "instant" {
            let (at, query) = match word(rest) {
                ("at", rest) => word(rest),
                _ => ("0", rest),
            };
            let t_ms = time_ms(at)?;
            let range = expected.range_vector.map(|range| (range.start_ms, range.end_ms, range.step_ms));
            let (start_ms, end_ms, step_ms) = range.unwrap_or((t_ms, t_ms, 1));
            return Ok(Case { query, times: Times { start_ms, end_ms, step_ms }, is_range: false, expected });
        }
        let usage = || "expected: eval range from A to B step C QUERY".to_owned();
        let mut rest = (kind == "range").then_some(rest).ok_or_else(usage)?;
        let mut bounds = [0; 3];
        for (keyword, bound) in ["from", "to", "step"].into_iter().zip(&mut bounds) {
            let (found, after) = word(rest);
            let (value, after) = word(after);
            *bound = (found == keyword).then(|| time_ms(value)).ok_or_else(usage)??;
            rest = after;
        }
        let [start_ms, end_ms, step_ms] = bounds;
        Ok(Case { query: rest, times: Times { start_ms, end_ms, step_ms }, is_range: true, expected })
    }

    fn run(&self, engine: &Engine, source: &dyn Series) -> Result<(), String> {
        let expr = match parse(self.query) {
            Ok(expr) => expr,
            Err(error) => return self.expected.check(Err(error)).map(drop),
        };
        if self.is_range {
            let Times { start_ms, end_ms, step_ms } = self.times;
            let answer = engine.range(source, TENANT, &expr, start_ms, end_ms, step_ms, None);
            let Some(answer) = self.expected.check(answer)? else { return Ok(()) };
            return compare(&self.expected, &answer.value, self.times);
        }
        let t_ms = self.times.end_ms;
        self.run_instant(engine, source, &expr, t_ms)?;
        let Some(pinned) = pin::pinned(&expr, t_ms) else { return Ok(()) };
        let others = if t_ms == 0 { vec![-1000, 0, 1000] } else { vec![-10 * t_ms, 0, t_ms / 5, t_ms, 10 * t_ms] };
        for at_ms in others {
            let run = self.run_instant(engine, source, &pinned, at_ms);
            run.map_err(|message| format!("as {pinned} at {at_ms} ms: {message}"))?;
        }
        Ok(())
    }

    fn run_instant(&self, engine: &Engine, source: &dyn Series, expr: &Expr, t_ms: i64) -> Result<(), String> {
        let Some(answer) = self.expected.check(engine.instant(source, TENANT, expr, t_ms, None))? else {
            return Ok(());
        };
        compare(&self.expected, &answer.value, self.times)?;
        let only_instant =
            self.expected.range_vector.is_some() || self.expected.text.is_some() || self.expected.ordered;
        if only_instant || pin::asks_for_query(expr) {
            return Ok(());
        }
        let is_scalar = matches!(answer.value, Value::Scalar(_));
        let range = engine.range(source, TENANT, expr, t_ms - MINUTE_MS, t_ms + MINUTE_MS, MINUTE_MS, None);
        let Value::Matrix(rows) = range.map_err(|error| format!("in range mode: {error}"))?.value else {
            return Err("a range query gave no matrix".to_owned());
        };
        let value = middle(&rows, t_ms, is_scalar);
        compare(&self.expected, &value, self.times).map_err(|message| format!("in range mode: {message}"))
    }
}

/// What a range query says of one of its instants, in the shape of an instant query's answer.
fn middle(rows: &[Row], t_ms: i64, is_scalar: bool) -> Value {
    let mut elements = Vec::new();
    for row in rows {
        let float = row.values.iter().find(|sample| sample.t_ms == t_ms).map(|sample| Point::Float(sample.value));
        let histogram = row.histograms.iter().find(|(at_ms, _)| *at_ms == t_ms);
        let point = float.or_else(|| histogram.map(|(_, histogram)| Point::Histogram(histogram.clone())));
        elements.extend(point.map(|point| Element { labels: row.labels.clone(), t_ms, point }));
    }
    match elements.first().map(|element| &element.point) {
        Some(Point::Float(value)) if is_scalar => Value::Scalar(model::Sample { t_ms, value: *value }),
        _ => Value::Vector(elements),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(script: &str) {
        let report = run(script, &Engine::default(), &mut MemorySeries::default());
        let report = report.unwrap_or_else(|error| panic!("{error}"));
        let shown = report.failures.iter().map(|f| format!("line {}: {}: {}\n", f.line, f.command, f.message));
        assert!(report.failures.is_empty(), "{}", shown.collect::<String>());
        assert!(report.evaluations > 0);
    }

    #[test]
    fn selectors() {
        check(include_str!("../../testdata/selectors.test"));
    }

    #[test]
    fn ranges() {
        check(include_str!("../../testdata/ranges.test"));
    }

    #[test]
    fn operators() {
        check(include_str!("../../testdata/operators.test"));
    }

    #[test]
    fn aggregations() {
        check(include_str!("../../testdata/aggregations.test"));
    }

    #[test]
    fn functions() {
        check(include_str!("../../testdata/functions.test"));
    }

    #[test]
    fn histograms() {
        check(include_str!("../../testdata/histograms.test"));
    }

    #[test]
    fn extended() {
        check(include_str!("../../testdata/extended.test"));
    }

    #[test]
    fn a_wrong_expectation_fails() {
        let wrong = [
            "eval instant at 0 1\n  2",
            "eval instant at 0 1\n  expect fail",
            "eval instant at 0 vector(1)",
            "eval instant at 0 \"a\"\n  expect string \"b\"",
            "eval instant at 0 histogram_quantile(2, vector(1))\n  expect no_warn",
            "eval instant at 0 1\n  expect warn\n  1",
            "eval_fail instant at 0 1",
            "eval range from 0 to 1m step 1m vector(1)\n  {} 1",
            "load 1m\n  m {{sum:1 count:1}}\n\neval instant at 0 m\n  m {{sum:2 count:1}}",
            "load 1m\n  m 1 2\n\neval instant at 1m m[2m]\n  expect range vector from 0 to 1m step 1m\n  m 1 3",
        ];
        for script in wrong {
            let report = run(script, &Engine::default(), &mut MemorySeries::default()).expect("a script");
            assert_eq!((report.evaluations, report.failures.len()), (1, 1), "{script}");
        }
    }

    #[test]
    fn what_is_no_script_is_refused() {
        for bad in ["what", "load x", "eval range from 0 to 1 vector(1)", "load 1m\n  m@st 1m", "eval_x instant at 0 1"]
        {
            assert!(run(bad, &Engine::default(), &mut MemorySeries::default()).is_err(), "{bad}");
        }
    }
}
