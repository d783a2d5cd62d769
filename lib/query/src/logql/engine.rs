//! Evaluates LogQL over any [`Lines`].
//!
//! A log query reads until its limit is full and stops. A metric query reads each of its selectors once, for all steps,
//! and hands the values of its range aggregations to the PromQL engine as series with a sample at every step.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::time::Instant;

use model::Labels;

use super::metric::{MetricExpr, asked_leaf};
use super::range::{Limits, RangeAggregation};
use super::selector::LogSelector;
use crate::engine::Grid;
use crate::{Engine, LineSelect, Lines, QueryError, Series, SeriesSelect, SeriesSet, Value};

/// Settings of an evaluation.
#[derive(Debug, Clone)]
pub struct LogEngine {
    /// Series that a range aggregation may have.
    pub max_series: usize,
    /// Lines that a range aggregation may count at once.
    pub max_samples: usize,
}

impl Default for LogEngine {
    fn default() -> LogEngine {
        LogEngine { max_series: 100_000, max_samples: 50_000_000 }
    }
}

/// Lines of one label set, in the order of the query's direction.
#[derive(Debug, Clone, PartialEq)]
pub struct LogStream {
    /// Of the stream, the structured metadata and what the pipeline parsed.
    pub labels: Labels,
    pub entries: Vec<LogEntry>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct LogEntry {
    pub t_ns: i64,
    pub line: String,
    /// The structured metadata alone; also among the stream's labels.
    pub metadata: Labels,
}

impl LogEngine {
    /// At most `limit` lines in `start_ns..end_ns`, newest first when `backward`. Streams are in the order of their first line.
    #[allow(clippy::too_many_arguments)]
    pub fn log(
        &self,
        source: &dyn Lines,
        tenant: &str,
        selector: &LogSelector,
        start_ns: i64,
        end_ns: i64,
        limit: usize,
        backward: bool,
        deadline: Option<Instant>,
    ) -> Result<Vec<LogStream>, QueryError> {
        let contains = selector.pipeline.literals();
        let matchers = &selector.matchers;
        let request = LineSelect { tenant, matchers, start_ns, end_ns, backward, contains: &contains, deadline };
        let (mut places, mut streams): (HashMap<Labels, usize>, Vec<LogStream>) = Default::default();
        let (mut runner, mut taken) = (selector.pipeline.runner(), 0);
        if limit == 0 {
            return Ok(streams);
        }
        source.select(&request, &mut |line| {
            let Some(processed) = runner.run(&line) else { return ControlFlow::Continue(()) };
            let place = *places.entry(processed.labels).or_insert_with_key(|labels| {
                streams.push(LogStream { labels: labels.clone(), entries: Vec::new() });
                streams.len() - 1
            });
            let entry =
                LogEntry { t_ns: line.t_ns, line: processed.line.into_owned(), metadata: line.metadata.clone() };
            streams[place].entries.push(entry);
            taken += 1;
            if taken < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        Ok(streams)
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
        Ok(self.operators().instant(&leaves, tenant, &expr.expr, t_ms, deadline)?.value)
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
        Ok(self.operators().range(&leaves, tenant, &expr.expr, start_ms, end_ms, step_ms, deadline)?.value)
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
