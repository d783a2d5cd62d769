//! Range aggregations: from the lines in `(t - range, t]` to a value per series and step.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::time::Instant;

use model::{Labels, LabelsBuilder, MatchOp, NS_PER_MS};

use super::filter::{LabelFilter, Unit};
use super::row::{ERROR, Row};
use super::selector::LogSelector;
use crate::engine::{Grid, counter_rate, mean, quantile, sum, variance};
use crate::promql::Grouping;
use crate::{LineSelect, Lines, QueryError, Samples, SelectedLine};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RangeOp {
    Rate,
    RateCounter,
    Count,
    BytesRate,
    Bytes,
    Avg,
    Sum,
    Min,
    Max,
    Stdvar,
    Stddev,
    Quantile,
    First,
    Last,
    Absent,
}

impl RangeOp {
    pub const ALL: [(&str, RangeOp); 15] = [
        ("rate", RangeOp::Rate),
        ("rate_counter", RangeOp::RateCounter),
        ("count_over_time", RangeOp::Count),
        ("bytes_rate", RangeOp::BytesRate),
        ("bytes_over_time", RangeOp::Bytes),
        ("avg_over_time", RangeOp::Avg),
        ("sum_over_time", RangeOp::Sum),
        ("min_over_time", RangeOp::Min),
        ("max_over_time", RangeOp::Max),
        ("stdvar_over_time", RangeOp::Stdvar),
        ("stddev_over_time", RangeOp::Stddev),
        ("quantile_over_time", RangeOp::Quantile),
        ("first_over_time", RangeOp::First),
        ("last_over_time", RangeOp::Last),
        ("absent_over_time", RangeOp::Absent),
    ];

    pub fn needs_unwrap(self) -> bool {
        !self.counts_lines() && !matches!(self, RangeOp::Rate | RangeOp::Absent)
    }

    pub fn takes_unwrap(self) -> bool {
        !self.counts_lines()
    }

    pub fn takes_grouping(self) -> bool {
        self.needs_unwrap() && !matches!(self, RangeOp::Sum | RangeOp::RateCounter)
    }

    fn counts_lines(self) -> bool {
        matches!(self, RangeOp::Count | RangeOp::Bytes | RangeOp::BytesRate)
    }

    /// Whether the sum over series equals the value of their lines together.
    pub fn is_additive(self) -> bool {
        self.counts_lines() || matches!(self, RangeOp::Rate | RangeOp::Sum)
    }
}

/// `| unwrap duration(label)`: the number of a line.
#[derive(Debug, Clone)]
pub(super) struct Unwrap {
    pub label: String,
    pub unit: Unit,
}

#[derive(Debug, Clone)]
pub struct RangeAggregation {
    pub(super) op: RangeOp,
    pub selector: LogSelector,
    pub(super) unwrap: Option<Unwrap>,
    /// Filters behind `unwrap`.
    pub(super) after: Vec<LabelFilter>,
    pub range_ns: i64,
    pub offset_ns: i64,
    pub(super) grouping: Option<Grouping>,
    /// The φ of `quantile_over_time`.
    pub(super) param: f64,
}

/// Bounds of an evaluation.
pub(super) struct Limits {
    pub max_series: usize,
    pub max_samples: usize,
    pub deadline: Option<Instant>,
}

#[derive(Default)]
struct Points {
    t_ns: Vec<i64>,
    values: Vec<f64>,
}

/// The series of a range aggregation while lines arrive.
struct Collected<'a> {
    range: &'a RangeAggregation,
    limits: &'a Limits,
    places: HashMap<Labels, usize>,
    series: Vec<(Labels, Points)>,
    /// The labels of the line before and the series that they fell in.
    last: Option<(Labels, usize)>,
    samples: usize,
}

impl RangeAggregation {
    /// Its series over the steps of a grid; reads the lines once.
    pub(super) fn evaluate(
        &self,
        source: &dyn Lines,
        tenant: &str,
        grid: Grid,
        limits: &Limits,
    ) -> Result<Vec<(Labels, Samples)>, QueryError> {
        let out_of_range = || QueryError::BadData("timestamp out of range".to_owned());
        let at_ns = |t_ms: i64| t_ms.checked_mul(NS_PER_MS)?.checked_sub(self.offset_ns);
        let first_ns = at_ns(grid.start_ms).and_then(|t| t.checked_sub(self.range_ns)).ok_or_else(out_of_range)?;
        let last_ns = at_ns(grid.end_ms()).ok_or_else(out_of_range)?;
        let contains = self.selector.pipeline.literals();
        let request = LineSelect {
            tenant,
            matchers: &self.selector.matchers,
            start_ns: first_ns.saturating_add(1),
            end_ns: last_ns.saturating_add(1),
            backward: false,
            contains: &contains,
            deadline: limits.deadline,
        };
        let (places, series) = Default::default();
        let mut collected = Collected { range: self, limits, places, series, last: None, samples: 0 };
        let mut runner = self.selector.pipeline.runner();
        let mut failure = None;
        source.select(&request, &mut |line| {
            let Some(processed) = runner.run(&line) else { return ControlFlow::Continue(()) };
            let value = match self.op {
                RangeOp::Bytes | RangeOp::BytesRate => processed.line.len() as f64,
                _ => 1.0,
            };
            match collected.take(&line, processed.labels, value) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    failure = Some(error);
                    ControlFlow::Break(())
                }
            }
        })?;
        match failure {
            Some(error) => Err(error),
            None => Ok(self.over_steps(collected.series, grid)),
        }
    }

    fn over_steps(&self, series: Vec<(Labels, Points)>, grid: Grid) -> Vec<(Labels, Samples)> {
        let shift_ns = |t_ms: i64| t_ms * NS_PER_MS - self.offset_ns;
        if self.op == RangeOp::Absent {
            let mut t_ns: Vec<i64> = series.into_iter().flat_map(|(_, points)| points.t_ns).collect();
            t_ns.sort_unstable();
            let is_absent = |t_ms: &i64| {
                let end = t_ns.partition_point(|t| *t <= shift_ns(*t_ms));
                end == 0 || t_ns[end - 1] <= shift_ns(*t_ms) - self.range_ns
            };
            let timestamps_ms: Vec<i64> = grid.times().filter(is_absent).collect();
            let values = vec![1.0; timestamps_ms.len()];
            return vec![(self.absent_labels(), Samples { timestamps_ms, values, ..Samples::default() })];
        }
        let mut result = Vec::with_capacity(series.len());
        for (labels, points) in series {
            let (mut timestamps_ms, mut values) = (Vec::new(), Vec::new());
            let (mut start, mut end) = (0, 0);
            for t_ms in grid.times() {
                let t_ns = shift_ns(t_ms);
                end += points.t_ns[end..].partition_point(|t| *t <= t_ns);
                start += points.t_ns[start..].partition_point(|t| *t <= t_ns - self.range_ns);
                if let Some(value) = (start < end).then(|| self.value(&points, start, end, t_ns)).flatten() {
                    timestamps_ms.push(t_ms);
                    values.push(value);
                }
            }
            result.push((labels, Samples { timestamps_ms, values, ..Samples::default() }));
        }
        result
    }

    /// The value of at least one point.
    fn value(&self, points: &Points, start: usize, end: usize, t_ns: i64) -> Option<f64> {
        let range_s = self.range_ns as f64 / 1e9;
        let count = (end - start) as f64;
        // Counting keeps no values.
        let values = points.values.get(start..end).unwrap_or_default();
        Some(match self.op {
            RangeOp::Count => count,
            RangeOp::Rate if self.unwrap.is_none() => count / range_s,
            RangeOp::Rate | RangeOp::BytesRate => sum(values.iter().copied()) / range_s,
            RangeOp::Bytes | RangeOp::Sum => sum(values.iter().copied()),
            RangeOp::RateCounter => {
                let ms: Vec<i64> = points.t_ns[start..end].iter().map(|t| t.div_euclid(NS_PER_MS)).collect();
                return counter_rate(&ms, values, (t_ns - self.range_ns) / NS_PER_MS, t_ns / NS_PER_MS);
            }
            RangeOp::Avg => mean(values),
            RangeOp::Min => values.iter().copied().fold(f64::NAN, f64::min),
            RangeOp::Max => values.iter().copied().fold(f64::NAN, f64::max),
            RangeOp::Stdvar => variance(values),
            RangeOp::Stddev => variance(values).sqrt(),
            RangeOp::Quantile => quantile(self.param, &mut values.to_vec()),
            RangeOp::First => *values.first()?,
            RangeOp::Last => *values.last()?,
            RangeOp::Absent => return None,
        })
    }

    fn absent_labels(&self) -> Labels {
        let equal = self.selector.matchers.iter().filter(|matcher| matcher.op == MatchOp::Equal);
        Labels::from_pairs(equal.map(|matcher| (matcher.name.as_str(), matcher.value.as_str())))
    }

    /// The labels of a line's series.
    fn series_labels(&self, labels: LabelsBuilder) -> Labels {
        let labels = labels.build();
        match &self.grouping {
            None => labels,
            Some(grouping) => {
                let names: Vec<&str> = grouping.labels.iter().map(String::as_str).collect();
                if grouping.without { labels.without(&names) } else { labels.only(&names) }
            }
        }
    }
}

impl Collected<'_> {
    fn take(&mut self, line: &SelectedLine<'_>, labels: Labels, counted: f64) -> Result<(), QueryError> {
        let mut value = counted;
        let place = match (&self.last, &self.range.unwrap) {
            (Some((last, place)), None) if *last == labels => *place,
            _ => {
                let mut row = Row::of(line.labels, &labels, line.t_ns);
                if let Some(unwrap) = &self.range.unwrap {
                    let text = row.get(&unwrap.label).to_owned();
                    if text.is_empty() {
                        return Ok(());
                    }
                    value = unwrap.unit.parse(&text).unwrap_or_else(|| {
                        row.fail("SampleExtractionErr", &format!("{}={text:?} is no {:?}", unwrap.label, unwrap.unit));
                        0.0
                    });
                    if self.range.unwrap_keeps(&mut row) {
                        row.labels.remove(&unwrap.label);
                    } else {
                        return Ok(());
                    }
                }
                let place = self.place(row)?;
                self.last = Some((labels, place));
                place
            }
        };
        self.samples += 1;
        if self.samples > self.limits.max_samples {
            return Err(QueryError::Limit("load too many lines into memory in query execution".to_owned()));
        }
        let points = &mut self.series[place].1;
        points.t_ns.push(line.t_ns);
        if !matches!(self.range.op, RangeOp::Count | RangeOp::Absent) {
            points.values.push(value);
        }
        Ok(())
    }

    fn place(&mut self, row: Row<'_>) -> Result<usize, QueryError> {
        if row.has_error() {
            let kind = row.get(ERROR).to_owned();
            let message = format!(
                "pipeline error: '{kind}' for series: '{}'.\nUse a label filter to intentionally skip this error. (e.g | __error__!=\"{kind}\").",
                row.labels.build()
            );
            return Err(QueryError::Execution(message));
        }
        let labels = self.range.series_labels(row.labels);
        if let Some(place) = self.places.get(&labels) {
            return Ok(*place);
        }
        if self.series.len() >= self.limits.max_series {
            return Err(QueryError::Limit(format!("pass the limit of {} series", self.limits.max_series)));
        }
        self.places.insert(labels.clone(), self.series.len());
        self.series.push((labels, Points::default()));
        Ok(self.series.len() - 1)
    }
}

impl RangeAggregation {
    fn unwrap_keeps(&self, row: &mut Row<'_>) -> bool {
        self.after.iter().all(|filter| filter.keeps(row))
    }
}
