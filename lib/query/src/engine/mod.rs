//! Evaluates PromQL over any [`Series`].
//!
//! A query asks its source once per selector, for the whole range. A series' samples become one column of values over the
//! query's steps while they are at hand, and are dropped; aggregations fold columns into groups as they arrive. What does
//! not depend on the step is evaluated once.
//!
//! Semantics are those of Prometheus 3.14 with its experimental features on (`promql/engine.go`, `docs/querying`):
//! selectors reach over `(t - lookback, t]`, ranges over `(t - range, t]`, a staleness marker ends a series at once.
//! Functions that change the meaning of a value drop the metric's name, but only in the end: until then labels, grouping
//! and matching still see it ([`column::Column`]).

mod aggregate;
mod binary;
mod classic;
mod column;
mod counted;
mod eval;
mod extended;
mod functions;
mod histogram;
mod info;
mod join;
mod labels;
mod math;
mod notes;
mod over_time;
mod quantile;
mod rank;
mod rate;
mod repeats;
mod room;
mod select;
mod sliding;
#[cfg(test)]
mod tests;
mod window;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use model::{Labels, Sample};

use crate::promql::{Expr, ExprKind, ExtendedRange, ValueType, type_of};
use crate::{Answer, Element, Point, QueryError, Row, Series, Value};
use column::{Column, Item, is_present, unique};
use eval::{Columns, Eval, METADATA};

pub(crate) use column::Grid;
pub use counted::Counting;
pub(crate) use math::{mean, quantile, sum, variance};
pub(crate) use rate::counter_rate;
pub use room::{SAMPLE_BYTES, SharedRoom};

/// Settings of an evaluation.
#[derive(Debug, Clone)]
pub struct Engine {
    /// How old a sample an instant selector still takes.
    pub lookback_ms: i64,
    /// How many samples a query may hold at once.
    pub max_samples: usize,
    /// The step of subqueries that name none: the evaluation interval.
    pub subquery_step_ms: i64,
    /// How many threads may work on one query. Results do not depend on it.
    pub threads: usize,
    /// The room that this query shares with others.
    pub shared_room: Option<Arc<SharedRoom>>,
    /// What of the work is counted.
    pub counting: Counting,
    /// Whoever sets it ends the query with [`QueryError::Canceled`].
    pub canceled: Option<Arc<AtomicBool>>,
}

impl Default for Engine {
    fn default() -> Engine {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Engine {
            lookback_ms: 300_000,
            max_samples: 50_000_000,
            subquery_step_ms: 60_000,
            threads,
            shared_room: None,
            counting: Counting::Nothing,
            canceled: None,
        }
    }
}

impl Engine {
    /// Evaluates at one instant.
    pub fn instant(
        &self,
        source: &dyn Series,
        tenant: &str,
        expr: &Expr,
        t_ms: i64,
        deadline: Option<Instant>,
    ) -> Result<Answer, QueryError> {
        let grid = Grid::instant(t_ms);
        let mut eval = Eval::new(self, source, tenant, expr, grid, 0, deadline);
        let value = if type_of(expr) == ValueType::Matrix {
            Value::Matrix(matrix(&mut eval, expr, grid)?)
        } else {
            match eval.eval(expr, grid)? {
                Columns::Scalar(values) => Value::Scalar(Sample { t_ms, value: values[0] }),
                Columns::Text(text) => Value::Text(t_ms, text),
                Columns::Vector(columns) => Value::Vector(vector(named(columns)?, t_ms)),
            }
        };
        Ok(eval.answer(value))
    }

    /// Evaluates at `start_ms`, `start_ms + step_ms`, … up to `end_ms`.
    #[allow(clippy::too_many_arguments)]
    pub fn range(
        &self,
        source: &dyn Series,
        tenant: &str,
        expr: &Expr,
        start_ms: i64,
        end_ms: i64,
        step_ms: i64,
        deadline: Option<Instant>,
    ) -> Result<Answer, QueryError> {
        let bad = |message: &str| QueryError::BadData(message.to_owned());
        if step_ms <= 0 {
            return Err(bad("zero or negative query resolution step widths are not accepted"));
        }
        let length_ms = end_ms.checked_sub(start_ms).filter(|length| *length >= 0);
        let length_ms = length_ms.ok_or_else(|| bad("end timestamp must not be before start time"))?;
        let steps = (length_ms / step_ms) as usize + 1;
        let kind = type_of(expr);
        if !matches!(kind, ValueType::Scalar | ValueType::Vector) {
            let message =
                format!("invalid expression type {:?} for range query, must be Scalar or instant Vector", kind.name());
            return Err(QueryError::BadData(message));
        }
        let grid = Grid { start_ms, step_ms, steps };
        let mut eval = Eval::new(self, source, tenant, expr, grid, step_ms, deadline);
        eval.query_range_ms = length_ms;
        eval.charge(steps)?;
        let columns = match eval.eval(expr, grid)? {
            Columns::Scalar(values) => vec![Column::of_floats(Labels::default(), values)],
            Columns::Text(_) => Vec::new(),
            Columns::Vector(columns) => named(columns)?,
        };
        let mut rows: Vec<Row> = columns.into_iter().map(|column| row(column, grid)).collect();
        rows.retain(|row| !row.is_empty());
        rows.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(eval.answer(Value::Matrix(rows)))
    }
}

/// Drops the names that are to go; series may become one.
fn named(mut columns: Vec<Column>) -> Result<Vec<Column>, QueryError> {
    for column in columns.iter_mut().filter(|column| column.drop_name) {
        column.labels = column.labels.without(&METADATA);
    }
    unique(columns)
}

fn vector(columns: Vec<Column>, t_ms: i64) -> Vec<Element> {
    let point = |column: &Column| match column.item(0) {
        Item::Absent => None,
        Item::Float(value) => Some(Point::Float(value)),
        Item::Histogram(histogram) => Some(Point::Histogram(histogram)),
    };
    let element = |column: Column| Some(Element { t_ms, point: point(&column)?, labels: column.labels });
    columns.into_iter().filter_map(element).collect()
}

fn row(column: Column, grid: Grid) -> Row {
    let floats = grid.times().zip(column.values).filter(|(_, value)| is_present(*value));
    let histograms = grid.times().zip(column.histograms.into_iter().flatten());
    Row {
        labels: column.labels,
        values: floats.map(|(t_ms, value)| Sample { t_ms, value }).collect(),
        histograms: histograms.filter_map(|(t_ms, histogram)| Some((t_ms, histogram?))).collect(),
    }
}

/// A range vector as the result of an instant query.
fn matrix(eval: &mut Eval<'_>, expr: &Expr, grid: Grid) -> Result<Vec<Row>, QueryError> {
    let ranges = eval.ranges(expr, grid, None)?;
    let (end_ms, range_ms) = (ranges.frame.end_ms(grid.start_ms), ranges.frame.range_ms);
    let mut rows: Vec<Row> = Vec::new();
    eval.each_window(&ranges, &mut |i, samples, track| {
        let mut labels = ranges.set.labels(i).clone();
        if ranges.drops_name(i) {
            labels = labels.without(&METADATA);
        }
        let sample = |(t_ms, value): (i64, f64)| Sample { t_ms, value };
        let values = match ranges.extended {
            None => samples.timestamps_ms.iter().copied().zip(samples.values.iter().copied()).map(sample).collect(),
            Some(kind) => {
                if !track.times.is_empty() {
                    let name = if kind == ExtendedRange::Anchored { "anchored" } else { "smoothed" };
                    let message = format!("{name} modifier is not supported with histograms");
                    return Err(QueryError::Execution(message));
                }
                extended::shown(samples, kind, end_ms.saturating_sub(range_ms), end_ms)
                    .into_iter()
                    .map(sample)
                    .collect()
            }
        };
        let histograms = track.times.iter().copied().zip(track.values.iter().cloned()).collect();
        rows.push(Row { labels, values, histograms });
        Ok(())
    })?;
    rows.retain(|row| !row.is_empty());
    rows.sort_by(|a, b| a.labels.cmp(&b.labels));
    if let Some(pair) = rows.windows(2).find(|pair| pair[0].labels == pair[1].labels) {
        assert!(matches!(expr.unwrapped().kind, ExprKind::Subquery(_)), "a source has {} once", pair[0].labels);
        return Err(QueryError::Execution("vector cannot contain metrics with the same labelset".to_owned()));
    }
    Ok(rows)
}
