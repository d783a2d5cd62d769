//! What scripts expect of a query, and whether an answer is that.

use std::collections::BTreeMap;

use model::{Labels, Sample};
use regex::Regex;

use super::notation::{WrittenLine, label_set, line};
use crate::logql::LogStream;
use crate::script::parse_values;
use crate::{Element, Row, Value};

/// Difference, absolute or relative, of values that count as equal.
const EPSILON: f64 = 1e-9;

#[derive(Debug)]
pub(super) enum Failure {
    Any,
    Text(String),
    Regex(Regex),
}

/// The block behind an `eval`.
#[derive(Debug, Default)]
pub(super) struct Expected {
    fails: Option<Failure>,
    is_empty: bool,
    is_ordered: bool,
    scalar: Option<f64>,
    series: Vec<(Labels, Vec<Option<f64>>)>,
    lines: Vec<WrittenLine>,
}

impl Expected {
    pub fn parse(block: &[&str]) -> Result<Expected, String> {
        let mut expected = Expected::default();
        for text in block {
            match text.split_once(' ') {
                Some(("expect", rest)) => expected.directive(rest.trim())?,
                // Loki's own execution stacks, of which there is one here.
                Some(("skip", rest)) if rest.starts_with("values-comparison") => {}
                _ if text.starts_with('{') => expected.row(text)?,
                _ => expected.scalar = Some(numbers(text)?.first().copied().flatten().ok_or("expected a number")?),
            }
        }
        let kinds = [
            expected.fails.is_some(),
            expected.is_empty,
            expected.scalar.is_some(),
            !expected.series.is_empty(),
            !expected.lines.is_empty(),
        ];
        match kinds.into_iter().filter(|is| *is).count() {
            1 => Ok(expected),
            0 => Err("nothing is expected: write `expect empty`".to_owned()),
            _ => Err("expectations of several kinds".to_owned()),
        }
    }

    fn directive(&mut self, text: &str) -> Result<(), String> {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        match word {
            "empty" => self.is_empty = true,
            "ordered" => self.is_ordered = true,
            "values-toleration" => {}
            "fail" => {
                let rest = rest.trim();
                self.fails = Some(match (rest.strip_prefix("msg:"), rest.strip_prefix("regex:")) {
                    (Some(message), _) => Failure::Text(message.trim().replace("\\\"", "\"")),
                    (_, Some(regex)) => Failure::Regex(Regex::new(regex.trim()).map_err(|error| error.to_string())?),
                    _ if rest.is_empty() => Failure::Any,
                    _ => return Err("expected `expect fail [msg: TEXT|regex: RE]`".to_owned()),
                });
            }
            _ => return Err(format!("unknown expectation {text:?}")),
        }
        Ok(())
    }

    fn row(&mut self, text: &str) -> Result<(), String> {
        let (labels, rest) = label_set(text)?;
        if rest.starts_with(['"', '`']) {
            self.lines.push(line(text)?);
        } else {
            self.series.push((labels, numbers(rest)?));
        }
        Ok(())
    }

    pub fn is_ordered(&self) -> bool {
        self.is_ordered
    }

    /// Whether a failure was expected; what else is said of it.
    pub fn failed(&self, error: &str) -> Result<(), String> {
        let is_expected = match &self.fails {
            None => return Err(format!("unexpected error: {error}")),
            Some(Failure::Any) => true,
            Some(Failure::Text(text)) => error.contains(text.as_str()),
            Some(Failure::Regex(regex)) => regex.is_match(error),
        };
        if is_expected { Ok(()) } else { Err(format!("expected {:?}, but it failed with: {error}", self.fails)) }
    }

    fn check_success(&self) -> Result<(), String> {
        if self.fails.is_some() { Err("expected to fail, but it succeeded".to_owned()) } else { Ok(()) }
    }

    /// `grid`: start, end and step of a range query, in milliseconds.
    pub fn value(&self, value: Value, grid: [i64; 3]) -> Result<(), String> {
        self.check_success()?;
        let rows = match value {
            Value::Scalar(sample) => {
                let wanted = self.scalar.ok_or_else(|| format!("unexpected scalar {}", sample.value))?;
                let is = is_close(Some(sample.value), Some(wanted));
                return if is { Ok(()) } else { Err(format!("expected {wanted}, got {}", sample.value)) };
            }
            Value::Vector(elements) => elements.into_iter().map(of_element).collect::<Vec<_>>(),
            Value::Matrix(rows) if self.scalar.is_some() => return self.constant(&rows),
            Value::Matrix(rows) => rows.into_iter().map(|row| of_row(&row, grid)).collect(),
            Value::Text(..) => return Err("unexpected text".to_owned()),
        };
        if self.is_ordered {
            let is_same = rows.len() == self.series.len() && rows.iter().zip(&self.series).all(|(a, b)| is_same(a, b));
            return if is_same {
                Ok(())
            } else {
                Err(format!("expected {:?} in this order, got {rows:?}", self.series))
            };
        }
        let found = |wanted| rows.iter().any(|row| is_same(row, wanted));
        match rows.len() == self.series.len() && self.series.iter().all(found) {
            true => Ok(()),
            false => Err(format!("expected {:?}, got {rows:?}", self.series)),
        }
    }

    fn constant(&self, rows: &[Row]) -> Result<(), String> {
        let is = |sample: &Sample| is_close(Some(sample.value), self.scalar);
        let all = rows.len() == 1 && rows[0].values.iter().all(is);
        if all { Ok(()) } else { Err(format!("expected {:?} at every step, got {rows:?}", self.scalar)) }
    }

    pub fn streams(&self, streams: Vec<LogStream>, epoch_ns: i64) -> Result<(), String> {
        self.check_success()?;
        let mut wanted: BTreeMap<Labels, Vec<WrittenLine>> = BTreeMap::new();
        for line in &self.lines {
            wanted.entry(line.labels.clone()).or_default().push(line.clone());
        }
        let written = |stream: LogStream| {
            let labels = stream.labels;
            let lines = stream.entries.into_iter().map(|entry| WrittenLine {
                labels: labels.clone(),
                text: entry.line,
                t_ns: entry.t_ns - epoch_ns,
                metadata: entry.metadata,
                parsed: entry.parsed,
                every_ns: 0,
                count: 1,
            });
            (labels.clone(), lines.collect::<Vec<_>>())
        };
        let got: BTreeMap<_, _> = streams.into_iter().map(written).collect();
        if got == wanted { Ok(()) } else { Err(format!("expected {wanted:?}, got {got:?}")) }
    }
}

type Series = (Labels, Vec<Option<f64>>);

fn of_element(element: Element) -> Series {
    (element.labels, vec![element.point.float()])
}

fn of_row(row: &Row, [start_ms, end_ms, step_ms]: [i64; 3]) -> Series {
    let value = |t_ms: i64| row.values.iter().find(|sample| sample.t_ms == t_ms).map(|sample| sample.value);
    let steps = (end_ms - start_ms) / step_ms.max(1);
    (row.labels.clone(), (0..=steps).map(|i| value(start_ms + i * step_ms)).collect())
}

fn numbers(text: &str) -> Result<Vec<Option<f64>>, String> {
    let values = parse_values(text)?;
    Ok(values.into_iter().map(|value| value.and_then(|value| value.point.float())).collect())
}

fn is_same(a: &Series, b: &Series) -> bool {
    a.0 == b.0 && a.1.len() == b.1.len() && a.1.iter().zip(&b.1).all(|(a, b)| is_close(*a, *b))
}

fn is_close(a: Option<f64>, b: Option<f64>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) if a.is_nan() || b.is_nan() => a.is_nan() && b.is_nan(),
        (Some(a), Some(b)) => a == b || (a - b).abs() <= EPSILON.max(EPSILON * a.abs().max(b.abs())),
        (a, b) => a == b,
    }
}
