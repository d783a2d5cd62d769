//! Whether an answer holds the values that a script expects.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{Histogram, Labels, is_stale};

use super::expect::Expected;
use super::notation::Written;
use crate::{Element, Point, Row, Value};

/// Relative difference between values that count as equal.
const EPSILON: f64 = 1e-6;

/// Where the values of expected rows lie in time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub start_ms: i64,
    pub end_ms: i64,
    pub step_ms: i64,
}

pub(super) fn compare(expected: &Expected, value: &Value, times: Times) -> Result<(), String> {
    match value {
        Value::Scalar(sample) => match expected.scalar {
            Some(wanted) if is_close(sample.value, wanted) => Ok(()),
            Some(wanted) => Err(format!("expected scalar {wanted}, but got {}", sample.value)),
            None => Err(format!("expected vector or matrix result, but got scalar {}", sample.value)),
        },
        Value::Text(_, text) if expected.text.as_deref() == Some(text) => Ok(()),
        Value::Text(_, text) => Err(format!("expected {:?}, but got the string {text:?}", expected.text)),
        Value::Vector(_) | Value::Matrix(_) if expected.scalar.is_some() => {
            Err("expected scalar result, but got a vector".to_owned())
        }
        Value::Vector(elements) => vector(expected, elements),
        Value::Matrix(_) if expected.ordered => Err("expected ordered result, but query returned a matrix".to_owned()),
        Value::Matrix(rows) => matrix(expected, rows, times),
    }
}

/// Every expected series by its labels; of lines that say the same series the last counts.
fn by_labels(expected: &Expected) -> BTreeMap<&Labels, (usize, &[Option<Written>])> {
    expected.rows.iter().enumerate().map(|(place, (labels, values))| (labels, (place, values.as_slice()))).collect()
}

fn vector(expected: &Expected, elements: &[Element]) -> Result<(), String> {
    let mut missing = by_labels(expected);
    for (place, element) in elements.iter().enumerate() {
        let Element { labels, point, .. } = element;
        let Some((wanted_place, values)) = missing.remove(labels) else {
            return Err(format!("unexpected metric {labels} in result, has value {}", show(point)));
        };
        if expected.ordered && wanted_place != place {
            return Err(format!("expected metric {labels} at position {}, but was at {}", wanted_place + 1, place + 1));
        }
        match values {
            [Some(wanted)] if same(wanted, point) => {}
            [Some(wanted)] => {
                return Err(format!("expected {} for {labels} but got {}", show(&wanted.point), show(point)));
            }
            _ => return Err(format!("expected {} values for {labels}, where one is possible", values.len())),
        }
    }
    missing.keys().next().map_or(Ok(()), |labels| Err(format!("expected metric {labels} not found")))
}

fn matrix(expected: &Expected, rows: &[Row], times: Times) -> Result<(), String> {
    if let Some(pair) = rows.windows(2).find(|pair| pair[0].labels > pair[1].labels) {
        return Err(format!("matrix is not sorted: {} before {}", pair[0].labels, pair[1].labels));
    }
    let mut missing = by_labels(expected);
    for row in rows {
        let labels = &row.labels;
        let found = points(row);
        let shown = || found.iter().map(|(t_ms, point)| format!("{t_ms}:{}", show(point))).collect::<Vec<_>>();
        let Some((_, values)) = missing.remove(labels) else {
            return Err(format!("unexpected metric {labels} in result, has {:?}", shown()));
        };
        let mut wanted = Vec::new();
        for (i, value) in values.iter().enumerate() {
            let t_ms = times.start_ms + i as i64 * times.step_ms;
            if t_ms > times.end_ms {
                return Err(format!("expected {} points for {labels}, but the range has less", values.len()));
            }
            wanted.extend(value.as_ref().map(|value| (t_ms, value)));
        }
        let fits = wanted.len() == found.len()
            && wanted.iter().zip(&found).all(|((t, wanted), (t_ms, point))| t == t_ms && same(wanted, point));
        if !fits {
            let wanted: Vec<_> =
                wanted.iter().map(|(t_ms, wanted)| format!("{t_ms}:{}", show(&wanted.point))).collect();
            return Err(format!("expected {wanted:?} for {labels}, but got {:?}", shown()));
        }
    }
    missing.keys().next().map_or(Ok(()), |labels| Err(format!("expected metric {labels} not found")))
}

/// Floats and histograms of a row by time.
fn points(row: &Row) -> Vec<(i64, Point)> {
    let floats = row.values.iter().map(|sample| (sample.t_ms, Point::Float(sample.value)));
    let histograms = row.histograms.iter().map(|(t_ms, histogram)| (*t_ms, Point::Histogram(Arc::clone(histogram))));
    let mut all: Vec<_> = floats.chain(histograms).collect();
    all.sort_by_key(|(t_ms, _)| *t_ms);
    all
}

fn show(point: &Point) -> String {
    match point {
        Point::Float(value) => value.to_string(),
        Point::Histogram(histogram) => histogram.test_expression(),
    }
}

fn same(wanted: &Written, found: &Point) -> bool {
    match (&wanted.point, found) {
        (Point::Float(wanted), Point::Float(found)) => is_close(*wanted, *found),
        (Point::Histogram(expected), Point::Histogram(found)) => {
            let hints_agree = !wanted.states_hint || expected.reset_hint == found.reset_hint;
            hints_agree && same_histogram(expected, found)
        }
        _ => false,
    }
}

fn same_histogram(a: &Histogram, b: &Histogram) -> bool {
    let mut a = a.clone();
    let mut b = b.clone();
    a.compact();
    b.compact();
    let numbers = [(a.count, b.count), (a.sum, b.sum), (a.zero_count, b.zero_count)];
    let counts = |a: &[f64], b: &[f64]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_close(*a, *b));
    a.schema == b.schema
        && a.zero_threshold == b.zero_threshold
        && a.custom_bounds == b.custom_bounds
        && numbers.iter().all(|(a, b)| is_close(*a, *b))
        && a.positive.spans == b.positive.spans
        && a.negative.spans == b.negative.spans
        && counts(&a.positive.counts, &b.positive.counts)
        && counts(&a.negative.counts, &b.negative.counts)
}

fn is_close(a: f64, b: f64) -> bool {
    if is_stale(a) || is_stale(b) {
        return is_stale(a) && is_stale(b);
    }
    let difference = (a - b).abs();
    let size = a.abs() + b.abs();
    match () {
        () if a == b || (a.is_nan() && b.is_nan()) => true,
        () if a == 0.0 || b == 0.0 || size < f64::MIN_POSITIVE => difference < EPSILON * f64::MIN_POSITIVE,
        () => difference / size.min(f64::MAX) < EPSILON,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closeness_is_relative() {
        let check = |a: f64, b: f64, expected: bool| assert_eq!(is_close(a, b), expected, "{a} {b}");
        check(1.0, 1.0 + 1e-7, true);
        check(1.0, 1.0 + 1e-5, false);
        check(1e300, 1e300 * (1.0 + 1e-7), true);
        check(0.0, 1e-300, false);
        check(f64::NAN, f64::NAN, true);
        check(f64::NAN, model::stale_marker(), false);
        check(f64::INFINITY, f64::INFINITY, true);
        check(f64::INFINITY, 1.0, false);
    }
}
