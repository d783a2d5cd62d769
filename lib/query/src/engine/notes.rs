//! Annotations: what makes a result or a query doubtful. Texts are Prometheus' own, for its users' tests compare them.
//!
//! Annotations of one text are one; the place of the last one counts.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat};

use crate::Span;
use crate::literal::{go_general, quote};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Warning,
    Info,
}

/// What annotations of one text gather as they meet.
#[derive(Debug, Clone)]
enum Detail {
    None,
    Fixed(Fixed),
    Overlaps(usize),
}

/// How far classic buckets had to be changed to rise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Fixed {
    pub from_ms: i64,
    pub to_ms: i64,
    pub min_bucket: f64,
    pub max_bucket: f64,
    pub max_diff: f64,
    pub samples: usize,
}

impl Fixed {
    /// Both together.
    pub fn and(self, more: Fixed) -> Fixed {
        Fixed {
            from_ms: self.from_ms.min(more.from_ms),
            to_ms: self.to_ms.max(more.to_ms),
            min_bucket: self.min_bucket.min(more.min_bucket),
            max_bucket: self.max_bucket.max(more.max_bucket),
            max_diff: self.max_diff.max(more.max_diff),
            samples: self.samples + more.samples,
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Note {
    level: Level,
    text: String,
    span: Span,
    detail: Detail,
}

/// What a histogram was combined with others for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Combining {
    Addition,
    Subtraction,
    Aggregation,
}

impl Combining {
    fn name(self) -> &'static str {
        match self {
            Combining::Addition => "addition",
            Combining::Subtraction => "subtraction",
            Combining::Aggregation => "aggregation",
        }
    }
}

fn for_metric(metric: &str) -> String {
    if metric.is_empty() { String::new() } else { format!(" for metric name {}", quote(metric)) }
}

impl Note {
    pub fn warning(text: String, span: Span) -> Note {
        Note { level: Level::Warning, text, span, detail: Detail::None }
    }

    pub fn info(text: String, span: Span) -> Note {
        Note { level: Level::Info, text, span, detail: Detail::None }
    }

    pub fn invalid_quantile(q: f64, span: Span) -> Note {
        Note::warning(format!("quantile value should be between 0 and 1, got {}", go_general(q, None)), span)
    }

    pub fn invalid_ratio(ratio: f64, capped: f64, span: Span) -> Note {
        let (ratio, capped) = (go_general(ratio, None), go_general(capped, None));
        Note::warning(format!("ratio value should be between -1 and 1, got {ratio}, capping to {capped}"), span)
    }

    pub fn bad_bucket_label(metric: &str, label: &str, span: Span) -> Note {
        let (label, metric) = (quote(label), for_metric(metric));
        Note::warning(format!("bucket label \"le\" is missing or has a malformed value of {label}{metric}"), span)
    }

    pub fn mixed_kinds(metric: &str, span: Span) -> Note {
        let metric = quote(metric);
        Note::warning(format!("encountered a mix of histograms and floats for metric name {metric}"), span)
    }

    pub fn mixed_kinds_in_aggregation(span: Span) -> Note {
        Note::warning("encountered a mix of histograms and floats for aggregation".to_owned(), span)
    }

    pub fn mixed_classic_native(metric: &str, span: Span) -> Note {
        let metric = for_metric(metric);
        Note::warning(format!("vector contains a mix of classic and native histograms{metric}"), span)
    }

    pub fn not_a_counter(metric: &str, span: Span) -> Note {
        Note::warning(format!("this native histogram metric is not a counter: {}", quote(metric)), span)
    }

    pub fn not_a_gauge(metric: &str, span: Span) -> Note {
        Note::warning(format!("this native histogram metric is not a gauge: {}", quote(metric)), span)
    }

    pub fn mixed_schemas(metric: &str, span: Span) -> Note {
        let what = "vector contains a mix of histograms with exponential and custom buckets schemas for metric name";
        Note::warning(format!("{what} {}", quote(metric)), span)
    }

    pub fn incompatible_layout(op: &str, span: Span) -> Note {
        Note::warning(format!("incompatible bucket layout encountered for binary operator {op}"), span)
    }

    pub fn sort_in_range_query(span: Span) -> Note {
        let text = "sort is ineffective for range queries since results are always ordered by labels";
        Note::warning(text.to_owned(), span)
    }

    pub fn resets_collide(combining: Combining, span: Span) -> Note {
        Note::warning(format!("conflicting counter resets during histogram {}", combining.name()), span)
    }

    pub fn bounds_reconciled(combining: Combining, span: Span) -> Note {
        Note::info(format!("mismatched custom buckets were reconciled during {}", combining.name()), span)
    }

    pub fn start_overlap(metric: &str, span: Span) -> Note {
        let text =
            format!("sample has start time that overlaps with previous sample timestamp for metric {}", quote(metric));
        Note { detail: Detail::Overlaps(1), ..Note::warning(text, span) }
    }

    pub fn perhaps_no_counter(metric: &str, span: Span) -> Note {
        let what = "metric might not be a counter, name does not end in _total/_sum/_count/_bucket:";
        Note::info(format!("{what} {}", quote(metric)), span)
    }

    pub fn incompatible_types(left: &str, op: &str, right: &str, span: Span) -> Note {
        let what = "incompatible sample types encountered for binary operator";
        Note::info(format!("{what} {}: {left} {op} {right}", quote(op)), span)
    }

    pub fn ignored_in_aggregation(op: &str, span: Span) -> Note {
        Note::info(format!("ignored histogram in {op} aggregation"), span)
    }

    pub fn ignored_in_range(metric: &str, span: Span) -> Note {
        let what = "ignored histograms in a range containing both floats and histograms for metric name";
        Note::info(format!("{what} {}", quote(metric)), span)
    }

    pub fn quantile_is_nan(metric: &str, span: Span) -> Note {
        let metric = for_metric(metric);
        Note::info(format!("input to histogram_quantile has NaN observations, result is NaN{metric}"), span)
    }

    pub fn quantile_is_skewed(metric: &str, span: Span) -> Note {
        let metric = for_metric(metric);
        Note::info(format!("input to histogram_quantile has NaN observations, result is skewed higher{metric}"), span)
    }

    pub fn fraction_without_nan(metric: &str, span: Span) -> Note {
        let what = "input to histogram_fraction has NaN observations, which are excluded from all fractions";
        Note::info(format!("{what}{}", for_metric(metric)), span)
    }

    pub fn made_monotonic(metric: &str, fixed: Fixed, span: Span) -> Note {
        let what = "input to histogram_quantile needed to be fixed for monotonicity \
                    (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)";
        Note { detail: Detail::Fixed(fixed), ..Note::info(format!("{what}{}", for_metric(metric)), span) }
    }

    fn merge(&mut self, later: Note) {
        self.span = later.span;
        match (&mut self.detail, later.detail) {
            (Detail::Overlaps(count), Detail::Overlaps(more)) => *count += more,
            (Detail::Fixed(all), Detail::Fixed(more)) => *all = all.and(more),
            _ => {}
        }
    }
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let level = if self.level == Level::Warning { "warning" } else { "info" };
        write!(f, "PromQL {level}: {}", self.text)?;
        match &self.detail {
            Detail::Fixed(fixed) => {
                let at = |t_ms: i64| {
                    let time = DateTime::from_timestamp(t_ms.div_euclid(1000), 0).unwrap_or_default();
                    time.to_rfc3339_opts(SecondsFormat::Secs, true)
                };
                let (low, high) = (go_general(fixed.min_bucket, None), go_general(fixed.max_bucket, None));
                let diff = go_general(fixed.max_diff, Some(2));
                write!(f, ", from buckets {low} to {high}, with a max diff of {diff}, over {} samples", fixed.samples)?;
                write!(f, " from {} to {}", at(fixed.from_ms), at(fixed.to_ms))?;
            }
            Detail::Overlaps(count) if *count > 1 => write!(f, " ({count} occurrences)")?,
            Detail::Overlaps(_) | Detail::None => {}
        }
        write!(f, " ({})", self.span)
    }
}

/// The annotations of one evaluation, or of a part of it on its own thread.
#[derive(Debug, Default)]
pub(super) struct Notes(BTreeMap<(Level, String), Note>);

impl Notes {
    pub fn add(&mut self, note: Note) {
        match self.0.get_mut(&(note.level, note.text.clone())) {
            Some(before) => before.merge(note),
            None => drop(self.0.insert((note.level, note.text.clone()), note)),
        }
    }

    /// Takes over what was noted later.
    pub fn append(&mut self, later: Notes) {
        later.0.into_values().for_each(|note| self.add(note));
    }

    /// As texts: warnings, and infos.
    pub fn into_texts(self) -> (Vec<String>, Vec<String>) {
        let (warnings, infos): (Vec<Note>, Vec<Note>) =
            self.0.into_values().partition(|note| note.level == Level::Warning);
        let texts = |notes: Vec<Note>| notes.iter().map(Note::to_string).collect();
        (texts(warnings), texts(infos))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(notes: Vec<Note>, expected: &[&str]) {
        let mut all = Notes::default();
        notes.into_iter().for_each(|note| all.add(note));
        let (warnings, infos) = all.into_texts();
        assert_eq!([warnings, infos].concat(), expected);
    }

    #[test]
    fn one_text_is_one_annotation() {
        let at = |column| Span { line: 1, column, ..Span::default() };
        check(
            vec![Note::not_a_gauge("m", at(2)), Note::ignored_in_range("", at(1)), Note::not_a_gauge("m", at(5))],
            &[
                "PromQL warning: this native histogram metric is not a gauge: \"m\" (1:5)",
                "PromQL info: ignored histograms in a range containing both floats and histograms for metric name \"\" \
                 (1:1)",
            ],
        );
        check(
            vec![Note::start_overlap("m", at(1)), Note::start_overlap("m", at(1))],
            &[
                "PromQL warning: sample has start time that overlaps with previous sample timestamp for metric \"m\" (2 \
               occurrences) (1:1)",
            ],
        );
        let fixed = |t_ms, bucket| Fixed {
            from_ms: t_ms,
            to_ms: t_ms,
            min_bucket: bucket,
            max_bucket: bucket,
            max_diff: 0.123,
            samples: 1,
        };
        check(
            vec![Note::made_monotonic("m", fixed(60_000, 2.0), at(3)), Note::made_monotonic("m", fixed(0, 1.0), at(3))],
            &["PromQL info: input to histogram_quantile needed to be fixed for monotonicity \
               (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile) for metric \
               name \"m\", from buckets 1 to 2, with a max diff of 0.12, over 2 samples from 1970-01-01T00:00:00Z to \
               1970-01-01T00:01:00Z (1:3)"],
        );
    }
}
