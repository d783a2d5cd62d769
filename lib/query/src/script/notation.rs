//! The notation of series in test scripts and rule tests: `name{labels} values…`.
//!
//! A value is `5`, `1x4` (five ones), `1+2x3` (1 3 5 7), `_` (none), `_x3`, `stale`, or a histogram
//! `{{schema:1 sum:3 count:22 buckets:[5 10 7]}}`, which repeats and grows like a number. A line whose name ends in `@st`
//! gives the start timestamps of the next line's samples, as durations from each sample's own time.

use model::{BucketSpan, Buckets, Histogram, Labels, ResetHint, parse_duration, stale_marker};

use crate::Point;
use crate::literal;
use crate::promql::parse_series_name;

/// No line expands to more values.
const MAX_VALUES: usize = 1_000_000;

/// One sample of a series, as written.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    pub point: Point,
    /// The counter reset hint of the histogram was written, and is to be compared.
    pub states_hint: bool,
}

impl From<f64> for Written {
    fn from(value: f64) -> Written {
        Written { point: Point::Float(value), states_hint: false }
    }
}

/// One line: labels and values; `None` is a value left out.
pub type WrittenSeries = (Labels, Vec<Option<Written>>);

pub fn parse_series(line: &str) -> Result<WrittenSeries, String> {
    let (labels, rest) = parse_series_name(line).map_err(|error| error.to_string())?;
    Ok((labels, parse_values(rest)?))
}

/// The values alone.
pub fn parse_values(text: &str) -> Result<Vec<Option<Written>>, String> {
    let mut values = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (item, after) = rest.split_at(item_len(rest)?);
        expand(item, &mut values)?;
        rest = after.trim_start();
    }
    Ok(values)
}

/// Up to the next blank outside of a histogram.
fn item_len(text: &str) -> Result<usize, String> {
    let mut at = 0;
    while let Some(next) = text[at..].find(|c: char| c.is_whitespace() || c == '{') {
        at += next;
        if !text[at..].starts_with('{') {
            return Ok(at);
        }
        at += text[at..].find("}}").ok_or_else(|| format!("a histogram without end: {text:?}"))? + 2;
    }
    Ok(text.len())
}

/// No hexadecimal ones: `0x4` is five times 0.
fn parse_number(text: &str) -> Option<f64> {
    if text.contains(['x', 'X']) { None } else { literal::parse_number(text) }
}

fn expand(item: &str, values: &mut Vec<Option<Written>>) -> Result<(), String> {
    if let Some(number) = parse_number(item) {
        values.push(Some(number.into()));
        return Ok(());
    }
    // The last x that follows a digit, a histogram or `_` separates the count.
    let (term, times) = match item.rsplit_once('x') {
        Some((term, times)) => (term, Some(times.parse::<usize>().map_err(|_| format!("not a value: {item:?}"))?)),
        None => (item, None),
    };
    if values.len().saturating_add(times.unwrap_or(0)) >= MAX_VALUES {
        return Err(format!("more than {MAX_VALUES} values"));
    }
    match term {
        "_" => values.extend(vec![None; times.unwrap_or(1)]),
        "stale" => values.extend(vec![Some(stale_marker().into()); times.unwrap_or(0) + 1]),
        _ if term.starts_with("{{") => values.extend(histograms(term, times.unwrap_or(0))?.into_iter().map(Some)),
        _ => {
            let (first, step) = number_and_step(term).ok_or_else(|| format!("not a value: {item:?}"))?;
            let mut value = first;
            for _ in 0..=times.unwrap_or(0) {
                values.push(Some(value.into()));
                value += step;
            }
        }
    }
    Ok(())
}

fn number_and_step(term: &str) -> Option<(f64, f64)> {
    if let Some(number) = parse_number(term) {
        return Some((number, 0.0));
    }
    let is_sign = |(i, c): &(usize, char)| *i > 0 && matches!(c, '+' | '-') && !term[..*i].ends_with(['e', 'E']);
    let (split, _) = term.char_indices().find(is_sign)?;
    Some((parse_number(&term[..split])?, parse_number(&term[split..])?))
}

/// `{{…}}`, or `{{…}}+{{…}}` and `{{…}}-{{…}}`, which grow and shrink.
fn histograms(term: &str, times: usize) -> Result<Vec<Written>, String> {
    let end = term.find("}}").map_or(term.len(), |at| at + 2);
    let (first, states_hint) = parse_histogram(&term[..end])?;
    let written = |histogram: Histogram, states_hint| Written { point: histogram.into(), states_hint };
    let Some(sign) = term[end..].chars().next() else {
        return Ok(vec![written(first, states_hint); times + 1]);
    };
    let (step, states_hint) = parse_histogram(&term[end + sign.len_utf8()..])?;
    let mut all = vec![written(first.clone(), states_hint)];
    let mut current = first;
    for _ in 0..times {
        if current.schema > step.schema {
            let (from, to) = (step.schema, current.schema);
            return Err(format!("error combining histograms: cannot merge from schema {from} to {to}"));
        }
        let combined = match sign {
            '+' => current.add(&step),
            '-' => current.sub(&step),
            other => return Err(format!("{other:?} between histograms")),
        };
        combined.map_err(|error| error.to_string())?;
        all.push(written(current.clone(), states_hint));
    }
    Ok(all)
}

/// One `{{…}}`, and whether it states its counter reset hint.
fn parse_histogram(text: &str) -> Result<(Histogram, bool), String> {
    let inner = text.strip_prefix("{{").and_then(|text| text.strip_suffix("}}"));
    let mut rest = inner.ok_or_else(|| format!("not a histogram: {text:?}"))?.trim();
    let (mut histogram, mut states_hint) = (Histogram::default(), false);
    let (mut offset, mut negative_offset) = (0, 0);
    while !rest.is_empty() {
        let (key, after) = rest.split_once(':').ok_or_else(|| format!("expected key:value, got {rest:?}"))?;
        let closing = if after.starts_with('[') { after.find(']').map(|at| at + 1) } else { after.find(' ') };
        let (value, after) = after.split_at(closing.unwrap_or(after.len()));
        let number = || parse_number(value).ok_or_else(|| format!("{key}: not a number: {value:?}"));
        let integer = || value.parse::<i32>().map_err(|error| format!("{key}: {error}"));
        match key {
            "schema" => histogram.schema = value.parse().map_err(|error| format!("schema: {error}"))?,
            "sum" => histogram.sum = number()?,
            "count" => histogram.count = number()?,
            "z_bucket" => histogram.zero_count = number()?,
            "z_bucket_w" => histogram.zero_threshold = number()?,
            "custom_values" => histogram.custom_bounds = numbers(value)?,
            "buckets" => histogram.positive = buckets(value)?,
            "n_buckets" => histogram.negative = buckets(value)?,
            "offset" => offset = integer()?,
            "n_offset" => negative_offset = integer()?,
            "counter_reset_hint" => (histogram.reset_hint, states_hint) = (reset_hint(value)?, true),
            _ => return Err(format!("unknown histogram field {key:?}")),
        }
        rest = after.trim_start();
    }
    histogram.positive.spans.iter_mut().for_each(|span| span.offset = offset);
    histogram.negative.spans.iter_mut().for_each(|span| span.offset = negative_offset);
    Ok((histogram, states_hint))
}

fn reset_hint(text: &str) -> Result<ResetHint, String> {
    Ok(match text {
        "unknown" => ResetHint::Unknown,
        "reset" => ResetHint::Reset,
        "not_reset" => ResetHint::NotReset,
        "gauge" => ResetHint::Gauge,
        _ => return Err(format!("unknown counter reset hint {text:?}")),
    })
}

fn numbers(list: &str) -> Result<Vec<f64>, String> {
    let inner = list.strip_prefix('[').and_then(|list| list.strip_suffix(']'));
    let inner = inner.ok_or_else(|| format!("expected a list in brackets, got {list:?}"))?;
    let number = |text: &str| parse_number(text).ok_or_else(|| format!("not a number: {text:?}"));
    inner.split_whitespace().map(number).collect()
}

fn buckets(list: &str) -> Result<Buckets, String> {
    let counts = numbers(list)?;
    let span = BucketSpan { offset: 0, length: u32::try_from(counts.len()).map_err(|error| error.to_string())? };
    Ok(Buckets { spans: if counts.is_empty() { Vec::new() } else { vec![span] }, counts })
}

/// What is left of a line that gives start timestamps, without its mark.
pub(super) fn start_line(line: &str) -> Option<(&str, &str)> {
    let (series, values) = line.split_once(char::is_whitespace)?;
    Some((series.strip_suffix("@st")?, values))
}

/// The offsets of start timestamps in ms: `-1m`, `-1mx3` (four), `-1m+10sx3`, `_`, `_x3`.
pub(super) fn parse_starts(text: &str) -> Result<Vec<Option<i64>>, String> {
    let mut offsets = Vec::new();
    for item in text.split_whitespace() {
        let bad = || format!("invalid start timestamp {item:?}");
        let (term, times) = match item.split_once('x') {
            Some((term, times)) => (term, Some(times.parse::<usize>().map_err(|_| bad())?)),
            None => (item, None),
        };
        if offsets.len().saturating_add(times.unwrap_or(0)) >= MAX_VALUES {
            return Err(format!("more than {MAX_VALUES} values"));
        }
        if term == "_" {
            offsets.extend(vec![None; times.unwrap_or(1)]);
            continue;
        }
        let split = term.char_indices().find(|(i, c)| *i > 0 && matches!(c, '+' | '-')).map_or(term.len(), |(i, _)| i);
        let mut offset_ms = signed_duration(&term[..split]).ok_or_else(bad)?;
        let step_ms = if split == term.len() { 0 } else { signed_duration(&term[split..]).ok_or_else(bad)? };
        for _ in 0..=times.unwrap_or(0) {
            offsets.push(Some(offset_ms));
            offset_ms = offset_ms.saturating_add(step_ms);
        }
    }
    Ok(offsets)
}

fn signed_duration(text: &str) -> Option<i64> {
    let (sign, length) = match text.strip_prefix('-') {
        Some(length) => (-1, length),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    Some(sign * parse_duration(length).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(line: &str) -> Vec<Option<f64>> {
        let (_, values) = parse_series(line).expect("good notation");
        let float = |written: Written| match written.point {
            Point::Float(value) => value,
            Point::Histogram(histogram) => histogram.sum,
        };
        values.into_iter().map(|value| value.map(float)).collect()
    }

    #[test]
    fn notation_expands() {
        let check = |line: &str, expected: &[Option<f64>]| assert_eq!(floats(line), expected, "{line}");
        check("m 1+2x2 5x1", &[Some(1.0), Some(3.0), Some(5.0), Some(5.0), Some(5.0)]);
        check(
            "m _x2 -1 1e-3 0x1 1e-1-1e-1x1",
            &[None, None, Some(-1.0), Some(1e-3), Some(0.0), Some(0.0), Some(0.1), Some(0.0)],
        );
        check("m Inf -Inf _", &[Some(f64::INFINITY), Some(f64::NEG_INFINITY), None]);
        check("m {{sum:1 count:1}} {{sum:2}}x1", &[Some(1.0), Some(2.0), Some(2.0)]);
        check("m {{sum:1}}+{{sum:2}}x2", &[Some(1.0), Some(3.0), Some(5.0)]);
        for bad in ["m 1x99999999999", "m {{sum:1", "m {{sum:}}", "m {{a:1}}", "m {{sum:1}}*{{sum:1}}x1", "m stalex"] {
            assert!(parse_series(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn histograms_have_all_their_fields() {
        let text = "{{schema:1 sum:-0.3 count:3.1 z_bucket:7.1 z_bucket_w:0.05 buckets:[5.1 10 7] offset:-3 \
                    n_buckets:[4.1 5] n_offset:-5 counter_reset_hint:gauge}}";
        let (histogram, states_hint) = parse_histogram(text).expect("a histogram");
        assert!(states_hint);
        assert_eq!((histogram.schema, histogram.sum, histogram.count), (1, -0.3, 3.1));
        assert_eq!((histogram.zero_count, histogram.zero_threshold), (7.1, 0.05));
        assert_eq!(histogram.positive.spans, [BucketSpan { offset: -3, length: 3 }]);
        assert_eq!(histogram.negative.spans, [BucketSpan { offset: -5, length: 2 }]);
        assert_eq!(histogram.negative.counts, [4.1, 5.0]);
        assert_eq!(histogram.reset_hint, ResetHint::Gauge);
    }

    #[test]
    fn start_timestamps_expand() {
        let starts = parse_starts("-1m+10sx2 _ 0s _x2").expect("good notation");
        assert_eq!(starts, [Some(-60_000), Some(-50_000), Some(-40_000), None, Some(0), None, None]);
        assert_eq!(start_line("m{a=\"b\"}@st -1m"), Some(("m{a=\"b\"}", "-1m")));
        assert_eq!(start_line("m 1"), None);
    }

    proptest::proptest! {
        #[test]
        fn any_notation_is_parsed_or_refused(
            line in "(m|\\{\"?a\"?=\"\\PC{0,3}\"\\}|\\PC{0,5}) [-+0-9x_ea.{}:\\[\\]sum]{0,12} \\PC{0,8}"
        ) {
            let _ = parse_series(&line);
            let _ = parse_starts(&line);
        }
    }
}
