//! Query tests as scripts that people can read, in the notation of Prometheus' `promqltest`.
//!
//! ```text
//! load 1m                                     # one value per minute from time 0
//!   requests_total{job="a"} 0+60x10 _ stale   # 0, 60, … 600, nothing, the end
//! eval instant at 10m rate(requests_total[5m])
//!   {job="a"} 1
//! eval range from 0 to 2m step 1m requests_total
//!   requests_total{job="a"} 0 60 120
//! eval instant at 0 1 + on(x) up
//!   expect fail msg: vector matching only allowed between instant vectors
//! clear
//! ```
//!
//! Further expectations: `ordered`, `warn`, `info`, `no_warn`, `no_info`, `string "…"`. A lone number is a scalar.

use std::collections::BTreeMap;

use model::{Labels, Sample, parse_duration, stale_marker};

use crate::literal::{parse_number, unquote};
use crate::promql::parse_series_name;
use crate::{Answer, Engine, MemorySeries, QueryError, Value, parse};

/// No series notation expands to more values.
const MAX_VALUES: usize = 1_000_000;

/// Runs a script; counts its evaluations, or says at which line what went wrong.
pub fn run(text: &str, engine: &Engine) -> Result<usize, String> {
    let mut script = Script { engine, series: MemorySeries::default(), evaluations: 0 };
    let mut lines = text
        .lines()
        .enumerate()
        .map(|(i, line)| (i + 1, line))
        .filter(|(_, line)| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
        .peekable();
    while let Some((number, command)) = lines.next() {
        let mut block = Vec::new();
        while let Some((_, line)) = lines.next_if(|(_, line)| line.starts_with([' ', '\t'])) {
            block.push(line.trim());
        }
        script.command(command.trim(), &block).map_err(|message| format!("line {number}: {command}: {message}"))?;
    }
    Ok(script.evaluations)
}

/// Parses `name{labels} values…`; `None` is a value left out.
pub fn parse_series(line: &str) -> Result<(Labels, Vec<Option<f64>>), String> {
    let (labels, rest) = parse_series_name(line).map_err(|error| error.to_string())?;
    let mut values = Vec::new();
    for item in rest.split_whitespace() {
        expand(item, &mut values)?;
    }
    Ok((labels, values))
}

/// `5`, `_`, `_x3`, `stale`, `1x4` (five ones), `1+2x3` (1, 3, 5, 7).
fn expand(item: &str, values: &mut Vec<Option<f64>>) -> Result<(), String> {
    let bad = || format!("not a value: {item:?}");
    if item == "stale" {
        values.push(Some(stale_marker()));
        return Ok(());
    }
    if let Some(number) = parse_number(item.trim_start_matches('+')) {
        values.push(Some(number));
        return Ok(());
    }
    let (term, times) = item.rsplit_once('x').unwrap_or((item, ""));
    let times: usize = if times.is_empty() { 0 } else { times.parse().map_err(|_| bad())? };
    if values.len().saturating_add(times) >= MAX_VALUES {
        return Err(format!("more than {MAX_VALUES} values"));
    }
    if term == "_" {
        values.extend(vec![None; times.max(1)]);
        return Ok(());
    }
    let is_sign = |(i, c): &(usize, char)| *i > 0 && matches!(c, '+' | '-') && !term[..*i].ends_with('e');
    let split = term.char_indices().find(is_sign).map_or(term.len(), |(i, _)| i);
    let first = parse_number(&term[..split]).ok_or_else(bad)?;
    let step = if split == term.len() { 0.0 } else { parse_number(&term[split..]).ok_or_else(bad)? };
    values.extend((0..=times).map(|i| Some(first + step * i as f64)));
    Ok(())
}

fn time_ms(text: &str) -> Result<i64, String> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Ok((seconds * 1000.0) as i64);
    }
    let (sign, length) = text.strip_prefix('-').map_or((1, text), |length| (-1, length));
    parse_duration(length).map(|ms| sign * ms).map_err(|error| error.to_string())
}

struct Script<'a> {
    engine: &'a Engine,
    series: MemorySeries,
    evaluations: usize,
}

#[derive(Default)]
struct Expected {
    /// `Some("")` takes any failure.
    fail: Option<String>,
    ordered: bool,
    warn: Option<bool>,
    info: Option<bool>,
    text: Option<String>,
    scalar: Option<f64>,
    rows: Vec<(Labels, Vec<Option<f64>>)>,
}

impl Script<'_> {
    fn command(&mut self, command: &str, block: &[&str]) -> Result<(), String> {
        let word = |text: &'_ str| text.split_whitespace().next().unwrap_or("").to_owned();
        let after = |prefix: &str| command.strip_prefix(prefix).map(str::trim_start);
        if command == "clear" {
            self.series = MemorySeries::default();
            return Ok(());
        }
        if let Some(step) = after("load ") {
            return self.load(time_ms(step)?, block);
        }
        if let Some(rest) = after("eval instant at ") {
            let at = word(rest);
            return self.instant(time_ms(&at)?, rest[at.len()..].trim(), block);
        }
        let Some(rest) = after("eval range from ") else { return Err("unknown command".to_owned()) };
        let words: Vec<&str> = rest.splitn(6, ' ').collect();
        let [from, "to", to, "step", step, query] = words[..] else {
            return Err("expected: eval range from A to B step C QUERY".to_owned());
        };
        self.range(time_ms(from)?, time_ms(to)?, time_ms(step)?, query, block)
    }

    fn load(&mut self, step_ms: i64, block: &[&str]) -> Result<(), String> {
        for line in block {
            let (labels, values) = parse_series(line)?;
            for (i, value) in values.into_iter().enumerate() {
                if let Some(value) = value {
                    self.series.push(&labels, i as i64 * step_ms, value, None);
                }
            }
        }
        Ok(())
    }

    fn instant(&mut self, t_ms: i64, query: &str, block: &[&str]) -> Result<(), String> {
        let expected = expectations(block)?;
        let answer = parse(query).and_then(|expr| self.engine.instant(&self.series, "default", &expr, t_ms, None));
        self.evaluations += 1;
        let Some(answer) = checked(answer, &expected)? else { return Ok(()) };
        match answer.value {
            Value::Scalar(sample) => match expected.scalar {
                Some(wanted) if is_close(sample.value, wanted) => Ok(()),
                wanted => Err(format!("expected scalar {wanted:?}, got {}", sample.value)),
            },
            Value::Text(_, text) if expected.text.as_deref() == Some(&text) => Ok(()),
            Value::Text(_, text) => Err(format!("expected {:?}, got the string {text:?}", expected.text)),
            Value::Vector(vector) => {
                let rows = vector.into_iter().map(|row| (row.labels, vec![row.point.float()])).collect();
                compare(expected.rows, rows, expected.ordered)
            }
            Value::Matrix(matrix) => {
                let values = |samples: Vec<Sample>| samples.into_iter().map(|sample| Some(sample.value)).collect();
                compare(expected.rows, matrix.into_iter().map(|row| (row.labels, values(row.values))).collect(), false)
            }
        }
    }

    fn range(&mut self, start: i64, end: i64, step: i64, query: &str, block: &[&str]) -> Result<(), String> {
        let expected = expectations(block)?;
        let answer =
            parse(query).and_then(|expr| self.engine.range(&self.series, "default", &expr, start, end, step, None));
        self.evaluations += 1;
        let Some(answer) = checked(answer, &expected)? else { return Ok(()) };
        let Value::Matrix(matrix) = answer.value else { return Err("expected a matrix".to_owned()) };
        let steps = ((end - start) / step) as usize + 1;
        let rows = matrix.into_iter().map(|series| {
            let mut row = vec![None; steps];
            for sample in series.values {
                row[((sample.t_ms - start) / step) as usize] = Some(sample.value);
            }
            (series.labels, row)
        });
        let mut wanted = expected.rows;
        wanted.iter_mut().for_each(|(_, row)| row.resize(steps, None));
        compare(wanted, rows.collect(), false)
    }
}

fn expectations(block: &[&str]) -> Result<Expected, String> {
    let mut expected = Expected::default();
    for line in block {
        let Some(what) = line.strip_prefix("expect ") else {
            match parse_number(line.trim_start_matches('+')) {
                Some(number) => expected.scalar = Some(number),
                None if line.starts_with('-') => {
                    expected.scalar = Some(parse_number(line).ok_or_else(|| format!("not a value: {line}"))?);
                }
                None => expected.rows.push(parse_series(line)?),
            }
            continue;
        };
        match what.split_once(' ').unwrap_or((what, "")) {
            ("fail", message) => {
                expected.fail = Some(message.strip_prefix("msg:").unwrap_or(message).trim().to_owned());
            }
            ("string", quoted) => expected.text = Some(unquote(quoted.trim())?),
            ("ordered", _) => expected.ordered = true,
            ("warn", _) => expected.warn = Some(true),
            ("no_warn", _) => expected.warn = Some(false),
            ("info", _) => expected.info = Some(true),
            ("no_info", _) => expected.info = Some(false),
            (other, _) => return Err(format!("unknown expectation {other:?}")),
        }
    }
    Ok(expected)
}

/// The answer, unless failing was what it should do.
fn checked(answer: Result<Answer, QueryError>, expected: &Expected) -> Result<Option<Answer>, String> {
    let answer = match (answer, &expected.fail) {
        (Err(error), Some(wanted)) if error.to_string().contains(wanted.as_str()) => return Ok(None),
        (Err(error), wanted) => return Err(format!("failed with {error:?}, expected failure: {wanted:?}")),
        (Ok(answer), Some(_)) => return Err(format!("should have failed, got {:?}", answer.value)),
        (Ok(answer), None) => answer,
    };
    for (wanted, found, what) in
        [(expected.warn, &answer.warnings, "warnings"), (expected.info, &answer.infos, "infos")]
    {
        if wanted.is_some_and(|wanted| wanted == found.is_empty()) {
            return Err(format!("unexpected {what}: {found:?}"));
        }
    }
    Ok(Some(answer))
}

/// To six digits, as Prometheus' tests compare.
fn is_close(a: f64, b: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-6 * a.abs().max(b.abs())
}

type Rows = Vec<(Labels, Vec<Option<f64>>)>;

fn compare(expected: Rows, got: Rows, ordered: bool) -> Result<(), String> {
    let fail = |expected: &Rows| Err(format!("expected {expected:?}, got {got:?}"));
    let same = |a: &[Option<f64>], b: &[Option<f64>]| {
        a.len() == b.len()
            && a.iter().zip(b).all(|(a, b)| match (a, b) {
                (Some(a), Some(b)) => is_close(*a, *b),
                (a, b) => a == b,
            })
    };
    if ordered && expected.iter().map(|row| &row.0).ne(got.iter().map(|row| &row.0)) || expected.len() != got.len() {
        return fail(&expected);
    }
    let by_labels: BTreeMap<&Labels, &Vec<Option<f64>>> = got.iter().map(|row| (&row.0, &row.1)).collect();
    let all_same = expected.iter().all(|(labels, row)| by_labels.get(labels).is_some_and(|other| same(row, other)));
    if all_same { Ok(()) } else { fail(&expected) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(script: &str) {
        let evaluations = run(script, &Engine::default()).unwrap_or_else(|error| panic!("{error}"));
        assert!(evaluations > 0);
    }

    #[test]
    fn selectors() {
        check(include_str!("../testdata/selectors.test"));
    }

    #[test]
    fn ranges() {
        check(include_str!("../testdata/ranges.test"));
    }

    #[test]
    fn operators() {
        check(include_str!("../testdata/operators.test"));
    }

    #[test]
    fn aggregations() {
        check(include_str!("../testdata/aggregations.test"));
    }

    #[test]
    fn functions() {
        check(include_str!("../testdata/functions.test"));
    }

    #[test]
    fn a_wrong_expectation_fails() {
        for wrong in ["eval instant at 0 1\n  2", "eval instant at 0 1\n  expect fail", "eval instant at 0 vector(1)"] {
            assert!(run(wrong, &Engine::default()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn notation_expands() {
        let (_, values) = parse_series("m 1+2x2 5x1 _x2 -1 1e-3").expect("good notation");
        let expected = [Some(1.0), Some(3.0), Some(5.0), Some(5.0), Some(5.0), None, None, Some(-1.0), Some(1e-3)];
        assert_eq!(values, expected);
        assert!(parse_series("m 1x99999999999").is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_notation_is_parsed_or_refused(line in "(m|\\{\"?a\"?=\"\\PC{0,3}\"\\}|\\PC{0,5}) [-+0-9x_ea.]{0,8} \\PC{0,8}") {
            let _ = parse_series(&line);
        }
    }
}
