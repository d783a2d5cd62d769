//! Evaluates LogQL over any [`Lines`].
//!
//! A log query reads until its limit is full and stops. A metric query reads each of its selectors once, for all steps,
//! and hands the values of its range aggregations to the PromQL engine as series with a sample at every step.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::time::Instant;

use model::Labels;

use super::metric::{MetricExpr, asked_leaf};
use super::pipeline::Processed;
use super::range::{Limits, RangeAggregation};
use super::selector::LogSelector;
use crate::engine::Grid;
use crate::{
    Engine, LineSelect, Lines, QueryError, Samples, SelectedLine, Series, SeriesSelect, SeriesSet, Value, Visit,
};

/// Settings of an evaluation.
#[derive(Debug, Clone)]
pub struct LogEngine {
    /// Series that a range aggregation may have.
    pub max_series: usize,
    /// Lines that a range aggregation may count at once.
    pub max_samples: usize,
    /// Bytes of lines that an answer may have.
    pub max_bytes: usize,
}

impl Default for LogEngine {
    fn default() -> LogEngine {
        LogEngine { max_series: 100_000, max_samples: 50_000_000, max_bytes: 1 << 30 }
    }
}

/// A query for lines.
#[derive(Debug, Clone)]
pub struct LogQuery<'a> {
    pub tenant: &'a str,
    pub selector: &'a LogSelector,
    /// `start_ns` is inclusive, `end_ns` exclusive.
    pub start_ns: i64,
    pub end_ns: i64,
    /// Newest first.
    pub backward: bool,
    pub limit: usize,
    /// At least this between two lines; 0 takes all.
    pub interval_ns: i64,
    /// Streams by their own labels; what else a line has is with the line.
    pub categorize: bool,
    pub deadline: Option<Instant>,
}

impl<'a> LogQuery<'a> {
    /// All lines of all time, oldest first.
    pub fn new(tenant: &'a str, selector: &'a LogSelector) -> LogQuery<'a> {
        LogQuery {
            tenant,
            selector,
            start_ns: 0,
            end_ns: i64::MAX,
            backward: false,
            limit: usize::MAX,
            interval_ns: 0,
            categorize: false,
            deadline: None,
        }
    }
}

/// Lines of one label set, in the order of the query's direction.
#[derive(Debug, Clone, PartialEq)]
pub struct LogStream {
    /// Of the stream alone where the query categorizes, otherwise also the structured metadata and what was parsed.
    pub labels: Labels,
    pub entries: Vec<LogEntry>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct LogEntry {
    pub t_ns: i64,
    pub line: String,
    /// Where the query categorizes.
    pub metadata: Labels,
    pub parsed: Labels,
}

/// Lines in the order they came, those of one label set together.
#[derive(Default)]
pub struct Grouped {
    places: HashMap<Labels, usize>,
    pub streams: Vec<LogStream>,
}

impl Grouped {
    /// Adds a line that passed a pipeline.
    pub fn push(&mut self, line: &SelectedLine<'_>, processed: Processed<'_>, categorize: bool) {
        let (labels, metadata, parsed) = match categorize {
            true => {
                let categories = processed.categories(line);
                (categories.stream, categories.metadata, categories.parsed)
            }
            false => (processed.labels, Labels::default(), Labels::default()),
        };
        let streams = &mut self.streams;
        let place = *self.places.entry(labels).or_insert_with_key(|labels| {
            streams.push(LogStream { labels: labels.clone(), entries: Vec::new() });
            streams.len() - 1
        });
        let entry = LogEntry { t_ns: line.t_ns, line: processed.line.into_owned(), metadata, parsed };
        streams[place].entries.push(entry);
    }
}

impl LogEngine {
    /// Hands the lines of a query to `visit`, in the order of its direction, until its limit is full.
    pub fn visit(
        &self,
        source: &dyn Lines,
        query: &LogQuery<'_>,
        visit: &mut dyn FnMut(&SelectedLine<'_>, Processed<'_>) -> Visit,
    ) -> Result<(), QueryError> {
        let LogQuery { tenant, selector, start_ns, end_ns, backward, deadline, .. } = *query;
        if query.limit == 0 {
            return Ok(());
        }
        let (contains, words) = (selector.pipeline.literals(), selector.pipeline.word_tests());
        let matchers = &selector.matchers;
        let request = LineSelect {
            tenant,
            matchers,
            start_ns,
            end_ns,
            backward,
            contains: &contains,
            words: &words,
            told_by: None,
            deadline,
        };
        let (mut runner, mut taken, mut last_ns) = (selector.pipeline.runner(), 0, None);
        source.select(&request, &mut |line| {
            let Some(processed) = runner.run(&line) else { return ControlFlow::Continue(()) };
            let is_near = |last: i64| line.t_ns.abs_diff(last) < query.interval_ns.unsigned_abs();
            if last_ns.is_some_and(is_near) {
                return ControlFlow::Continue(());
            }
            last_ns = Some(line.t_ns);
            taken += 1;
            visit(&line, processed)?;
            if taken < query.limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })
    }

    /// The lines of a query; streams are in the order of their first line.
    pub fn log(&self, source: &dyn Lines, query: &LogQuery<'_>) -> Result<Vec<LogStream>, QueryError> {
        let (mut grouped, mut bytes) = (Grouped::default(), 0);
        self.visit(source, query, &mut |line, processed| {
            bytes += size_of::<LogEntry>() + processed.line.len();
            grouped.push(line, processed, query.categorize);
            if bytes <= self.max_bytes { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        match bytes > self.max_bytes {
            true => Err(QueryError::Limit(format!(
                "hold more than {} bytes of lines in memory: lower the limit or narrow the selector",
                self.max_bytes
            ))),
            false => Ok(grouped.streams),
        }
    }

    /// Evaluates at one instant: a scalar or a vector.
    pub fn instant(
        &self,
        source: &dyn Lines,
        tenant: &str,
        expr: &MetricExpr,
        t_ms: i64,
        deadline: Option<Instant>,
    ) -> Result<Value, QueryError> {
        let leaves = self.leaves(source, tenant, expr, Grid::instant(t_ms), deadline);
        let answer = self.operators().instant(&leaves, tenant, &expr.expr, t_ms, deadline);
        Ok(answer.map_err(in_lokis_words)?.value)
    }

    /// Evaluates at `start_ms`, `start_ms + step_ms`, … up to `end_ms`: a matrix.
    #[allow(clippy::too_many_arguments)]
    pub fn range(
        &self,
        source: &dyn Lines,
        tenant: &str,
        expr: &MetricExpr,
        start_ms: i64,
        end_ms: i64,
        step_ms: i64,
        deadline: Option<Instant>,
    ) -> Result<Value, QueryError> {
        let steps = (end_ms.saturating_sub(start_ms).max(0) / step_ms.max(1)) as usize + 1;
        let leaves = self.leaves(source, tenant, expr, Grid { start_ms, step_ms, steps }, deadline);
        let answer = self.operators().range(&leaves, tenant, &expr.expr, start_ms, end_ms, step_ms, deadline);
        Ok(answer.map_err(in_lokis_words)?.value)
    }

    /// A range aggregation alone, over the steps of a grid.
    pub(crate) fn leaf(
        &self,
        source: &dyn Lines,
        tenant: &str,
        range: &RangeAggregation,
        grid: Grid,
        deadline: Option<Instant>,
    ) -> Result<Vec<(Labels, Samples)>, QueryError> {
        let limits = Limits { max_series: self.max_series, max_samples: self.max_samples, deadline };
        range.evaluate(source, tenant, grid, &limits)
    }

    /// The engine for everything above the leaves. Leaves have their samples at the very instants of the query.
    fn operators(&self) -> Engine {
        Engine { lookback_ms: 1, max_samples: self.max_samples, ..Engine::default() }
    }

    fn leaves<'a>(
        &self,
        source: &'a dyn Lines,
        tenant: &'a str,
        expr: &'a MetricExpr,
        grid: Grid,
        deadline: Option<Instant>,
    ) -> Leaves<'a> {
        let limits = Limits { max_series: self.max_series, max_samples: self.max_samples, deadline };
        Leaves { source, tenant, ranges: &expr.ranges, grid, limits }
    }
}

/// Loki names the side, not the series.
fn in_lokis_words(error: QueryError) -> QueryError {
    let QueryError::Execution(message) = &error else { return error };
    if !message.starts_with("found duplicate series for the match group") {
        return error;
    }
    let side = if message.contains("on the left hand-side") { "left" } else { "right" };
    QueryError::Execution(format!(
        "found duplicate series on the {side} hand-side;many-to-many matching not allowed: matching labels must be \
         unique on one side"
    ))
}

/// Range aggregations as the series of a PromQL tree.
struct Leaves<'a> {
    source: &'a dyn Lines,
    tenant: &'a str,
    ranges: &'a [RangeAggregation],
    grid: Grid,
    limits: Limits,
}

impl Series for Leaves<'_> {
    fn select<'s>(&'s self, request: &SeriesSelect<'_>) -> Result<Box<dyn SeriesSet + 's>, QueryError> {
        let range = asked_leaf(request).and_then(|index| self.ranges.get(index));
        let range = range.unwrap_or_else(|| unreachable!("the tree holds only selectors that stand for leaves"));
        let mut rows = range.evaluate(self.source, self.tenant, self.grid, &self.limits)?;
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(Box::new(rows))
    }
}
