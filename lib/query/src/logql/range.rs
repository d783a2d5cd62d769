//! Range aggregations: from the lines in `(t - range, t]` to a value per series and step.
//!
//! A line that a stage failed on stays a series of its own, whatever the grouping, and fails the query where a step sees
//! it, unless the query asks for such lines by a filter on `__error__`.

use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

use model::{Labels, MatchOp, NS_PER_MS};
use template::convert;
use xxhash_rust::xxh3::xxh3_64;

use super::collect::Collected;
use super::fault;
use super::filter::LabelFilter;
use super::row::{ERROR, ERROR_DETAILS, Field, Origin, PRESERVE_ERROR, Row};
use super::selector::LogSelector;
use crate::engine::{Grid, counter_rate, mean, quantile, sum, variance};
use crate::promql::Grouping;
use crate::{LineSelect, LineVisitor, Lines, QueryError, Samples};

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
    CountDistinct,
}

impl RangeOp {
    pub const ALL: [(&str, RangeOp); 16] = [
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
        ("approx_count_distinct", RangeOp::CountDistinct),
    ];

    pub fn as_str(self) -> &'static str {
        let found = RangeOp::ALL.into_iter().find(|(_, op)| *op == self);
        found.map_or("", |(name, _)| name)
    }

    fn needs_unwrap(self) -> bool {
        !self.counts_lines() && !matches!(self, RangeOp::Rate | RangeOp::Absent)
    }

    fn takes_grouping(self) -> bool {
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

/// How a label's text becomes the number of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Conversion {
    Float,
    Bytes,
    Duration,
    DurationSeconds,
}

impl Conversion {
    pub const ALL: [(&str, Conversion); 3] = [
        ("bytes", Conversion::Bytes),
        ("duration", Conversion::Duration),
        ("duration_seconds", Conversion::DurationSeconds),
    ];

    fn of(self, text: &str) -> Result<f64, String> {
        match self {
            Conversion::Float => convert::float(text),
            Conversion::Bytes => convert::bytes(text).map(|bytes| bytes as f64),
            Conversion::Duration | Conversion::DurationSeconds => convert::duration_ns(text).map(|ns| ns as f64 / 1e9),
        }
    }
}

/// `| unwrap duration(label)`: the number of a line.
#[derive(Debug, Clone)]
pub(super) struct Unwrap {
    pub label: String,
    pub conversion: Conversion,
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
    /// The label of `approx_count_distinct`.
    pub(super) counted: String,
    /// The grouping of the sum that takes its series, which needs no finer ones.
    pub(super) summed: Option<Grouping>,
}

/// Threads that read lines for an evaluation.
const MAX_THREADS: usize = 8;

/// Bounds of an evaluation.
pub(super) struct Limits {
    pub max_series: usize,
    pub max_samples: usize,
    pub deadline: Option<Instant>,
}

/// Times and values of lines.
#[derive(Default)]
pub(super) struct Points {
    pub t_ns: Vec<i64>,
    pub values: Vec<f64>,
    /// Of lines that add up: their sum by the edge of windows that they come before.
    pub sums: BTreeMap<usize, f64>,
}

impl Points {
    /// By time; those of one instant as they came.
    fn sort(&mut self) {
        if self.t_ns.is_sorted() {
            return;
        }
        let mut order: Vec<usize> = (0..self.t_ns.len()).collect();
        order.sort_by_key(|place| self.t_ns[*place]);
        self.t_ns = order.iter().map(|place| self.t_ns[*place]).collect();
        self.values = order.iter().map(|place| self.values[*place]).collect();
    }
}

impl RangeAggregation {
    /// Whether its parts go together.
    pub(super) fn check(&self) -> Result<(), QueryError> {
        let name = self.op.as_str();
        if self.op == RangeOp::CountDistinct {
            return self.check_distinct();
        }
        if self.grouping.is_some() && !self.op.takes_grouping() {
            return Err(fault(format!("grouping not allowed for {name} aggregation")));
        }
        match &self.unwrap {
            None if self.op.needs_unwrap() => Err(fault(format!("invalid aggregation {name} without unwrap"))),
            Some(_) if self.op.counts_lines() => Err(fault(format!("invalid aggregation {name} with unwrap"))),
            _ => Ok(()),
        }
    }

    fn check_distinct(&self) -> Result<(), QueryError> {
        let name = self.op.as_str();
        if self.unwrap.is_some() {
            return Err(fault(format!("unwrap is not supported for {name}()")));
        }
        match &self.grouping {
            Some(grouping) if grouping.without => Err(fault(format!("without is not supported for {name}()"))),
            Some(grouping) if grouping.labels.contains(&self.counted) => {
                Err(fault(format!("cannot group by the counted field {:?}", self.counted)))
            }
            _ => Ok(()),
        }
    }

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
        let (contains, words) = (self.selector.pipeline.literals(), self.selector.pipeline.word_tests());
        let request = LineSelect {
            tenant,
            matchers: &self.selector.matchers,
            start_ns: first_ns.saturating_add(1),
            end_ns: last_ns.saturating_add(1),
            backward: false,
            contains: &contains,
            words: &words,
            told_by: self.told_by(),
            deadline: limits.deadline,
        };
        let edges = if self.adds_up() { self.edges(grid) } else { Vec::new() };
        let mut collected = Collected::new(self, limits, &edges);
        if self.needs_no_text() {
            collected.tally(source, &request)?;
        } else if self.needs_order() {
            source.select(&request, &mut collected.visitor())?;
        } else {
            let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
            let mut others: Vec<Collected<'_>> = (1..threads).map(|_| Collected::new(self, limits, &edges)).collect();
            let all = std::iter::once(&mut collected).chain(&mut others);
            let mut visitors: Vec<LineVisitor<'_>> =
                all.map(|one| Box::new(one.visitor()) as LineVisitor<'_>).collect();
            source.scan(&request, &mut visitors)?;
            drop(visitors);
            others.into_iter().try_for_each(|other| collected.join(other))?;
        }
        self.over_steps(collected.finish()?, grid)
    }

    /// The labels that its series have at most, where it names them.
    fn told_by(&self) -> Option<&[String]> {
        let grouping = self.grouping.as_ref().or(self.summed.as_ref()).filter(|grouping| !grouping.without)?;
        Some(&grouping.labels)
    }

    /// Whether faulty lines are wanted.
    pub(super) fn asks_for_errors(&self) -> bool {
        self.selector.pipeline.names_error() || self.after.iter().any(LabelFilter::names_error)
    }

    /// Whether lines of a window are but added up: each counts one, or its length.
    pub(super) fn adds_up(&self) -> bool {
        let adds = self.op.counts_lines() || matches!(self.op, RangeOp::Rate | RangeOp::Absent);
        adds && self.unwrap.is_none()
    }

    /// Where the windows of a grid begin and end, rising.
    pub(super) fn edges(&self, grid: Grid) -> Vec<i64> {
        let ends = grid.times().map(|t_ms| t_ms * NS_PER_MS - self.offset_ns);
        let mut edges: Vec<i64> = ends.flat_map(|end| [end - self.range_ns, end]).collect();
        edges.sort_unstable();
        edges.dedup();
        edges
    }

    /// Whether lines count by their times and lengths alone.
    fn needs_no_text(&self) -> bool {
        self.adds_up() && self.selector.pipeline.is_told()
    }

    /// Whether it matters which of two lines of the same instant comes first.
    fn needs_order(&self) -> bool {
        matches!(self.op, RangeOp::First | RangeOp::Last | RangeOp::RateCounter)
    }

    fn over_steps(&self, series: Vec<(Labels, Points)>, grid: Grid) -> Result<Vec<(Labels, Samples)>, QueryError> {
        let shift_ns = |t_ms: i64| t_ms * NS_PER_MS - self.offset_ns;
        if self.op == RangeOp::Absent {
            return Ok(vec![self.absent(series, grid)]);
        }
        let mut result = Vec::with_capacity(series.len());
        for (labels, mut points) in series {
            points.sort();
            let (mut timestamps_ms, mut values) = (Vec::new(), Vec::new());
            let (mut start, mut end) = (0, 0);
            for t_ms in grid.times() {
                let t_ns = shift_ns(t_ms);
                end += points.t_ns[end..].partition_point(|t| *t <= t_ns);
                start += points.t_ns[start..].partition_point(|t| *t <= t_ns - self.range_ns);
                if start < end {
                    timestamps_ms.push(t_ms);
                    values.push(self.value(&points, start, end, t_ns));
                }
            }
            if !values.is_empty() && is_unwanted_error(&labels) {
                return Err(QueryError::Execution(pipeline_error(&labels)));
            }
            result.push((labels, Samples { timestamps_ms, values, ..Samples::default() }));
        }
        Ok(result)
    }

    fn absent(&self, series: Vec<(Labels, Points)>, grid: Grid) -> (Labels, Samples) {
        let mut t_ns: Vec<i64> = series.into_iter().flat_map(|(_, points)| points.t_ns).collect();
        t_ns.sort_unstable();
        let is_absent = |t_ms: &i64| {
            let last = t_ms * NS_PER_MS - self.offset_ns;
            let end = t_ns.partition_point(|t| *t <= last);
            end == 0 || t_ns[end - 1] <= last - self.range_ns
        };
        let timestamps_ms: Vec<i64> = grid.times().filter(is_absent).collect();
        let values = vec![1.0; timestamps_ms.len()];
        (self.absent_labels(), Samples { timestamps_ms, values, ..Samples::default() })
    }

    /// The value of at least one point.
    fn value(&self, points: &Points, start: usize, end: usize, t_ns: i64) -> f64 {
        let range_s = self.range_ns as f64 / 1e9;
        let values = &points.values[start..end];
        match self.op {
            RangeOp::Rate | RangeOp::BytesRate => sum(values.iter().copied()) / range_s,
            RangeOp::Count | RangeOp::Bytes | RangeOp::Sum => sum(values.iter().copied()),
            RangeOp::RateCounter => {
                let ms: Vec<i64> = points.t_ns[start..end].iter().map(|t| t.div_euclid(NS_PER_MS)).collect();
                let rate = counter_rate(&ms, values, (t_ns - self.range_ns) / NS_PER_MS, t_ns / NS_PER_MS);
                rate.unwrap_or(0.0)
            }
            RangeOp::Avg => mean(values),
            RangeOp::Min => values.iter().copied().fold(f64::NAN, f64::min),
            RangeOp::Max => values.iter().copied().fold(f64::NAN, f64::max),
            RangeOp::Stdvar => variance(values),
            RangeOp::Stddev => variance(values).sqrt(),
            RangeOp::Quantile => quantile(self.param, &mut values.to_vec()),
            RangeOp::First => values.first().copied().unwrap_or(f64::NAN),
            RangeOp::Last => values.last().copied().unwrap_or(f64::NAN),
            RangeOp::CountDistinct => values.iter().map(|value| value.to_bits()).collect::<HashSet<_>>().len() as f64,
            RangeOp::Absent => unreachable!("what is absent has no points"),
        }
    }

    fn absent_labels(&self) -> Labels {
        let equal = self.selector.matchers.iter().filter(|matcher| matcher.op == MatchOp::Equal);
        Labels::from_pairs(equal.map(|matcher| (matcher.name.as_str(), matcher.value.as_str())))
    }

    /// Whether a line's series keeps a label.
    pub(super) fn keeps(&self, field: &Field) -> bool {
        let name = &*field.label.name;
        if matches!(name, ERROR | ERROR_DETAILS | PRESERVE_ERROR) {
            return true;
        }
        let chosen = |grouping: &Grouping| grouping.labels.iter().any(|label| label == name) != grouping.without;
        let is_unwrapped = self.unwrap.as_ref().is_some_and(|unwrap| unwrap.label == name);
        match self.grouping.as_ref().or(self.summed.as_ref()) {
            Some(grouping) => chosen(grouping) && !(grouping.without && is_unwrapped),
            None if self.op == RangeOp::CountDistinct => field.origin == Origin::Stream && self.counted != name,
            None => !is_unwrapped,
        }
    }

    /// The number of a row; `None` where it has none, or a filter behind `unwrap` drops it.
    pub(super) fn number(&self, row: &mut Row<'_>) -> Option<f64> {
        if self.op == RangeOp::CountDistinct {
            let text = row.text(&self.counted);
            return (!text.is_empty() || row.has_error()).then(|| f64::from_bits(xxh3_64(text.as_bytes())));
        }
        let unwrap = self.unwrap.as_ref()?;
        let text = row.text(&unwrap.label).to_owned();
        if text.is_empty() {
            return None;
        }
        let value = unwrap.conversion.of(&text).unwrap_or_else(|details| {
            row.fail("SampleExtractionErr", &details);
            0.0
        });
        self.after.iter().all(|filter| filter.keeps(row)).then_some(value)
    }
}

fn is_unwanted_error(labels: &Labels) -> bool {
    labels.get(ERROR).is_some_and(|kind| !kind.is_empty()) && labels.get(PRESERVE_ERROR) != Some("true")
}

fn pipeline_error(labels: &Labels) -> String {
    let kind = labels.get(ERROR).unwrap_or("");
    format!(
        "pipeline error: '{kind}' for series: '{labels}'.\n\
         Use a label filter to intentionally skip this error. (e.g | __error__!=\"{kind}\").\n\
         To skip all potential errors you can match empty errors.(e.g __error__=\"\")\n\
         The label filter can also be specified after unwrap. (e.g | unwrap latency | __error__=\"\" )\n"
    )
}
