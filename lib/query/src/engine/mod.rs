//! Evaluates PromQL over any [`Series`].
//!
//! A query asks its source once per selector, for the whole range. A series' samples become one column of values over the
//! query's steps while they are at hand, and are dropped; aggregations fold columns into groups as they arrive. What does
//! not depend on the step is evaluated once.
//!
//! Semantics are those of Prometheus 3 (`promql/engine.go`, `docs/querying`): selectors reach over `(t - lookback, t]`,
//! ranges over `(t - range, t]`, a staleness marker ends a series at once, and functions that change the meaning of a
//! value drop the metric's name.

mod aggregate;
mod binary;
mod column;
mod eval;
mod functions;
mod histogram;
mod labels;
mod math;
mod select;
#[cfg(test)]
mod tests;
mod window;

use std::time::Instant;

use model::{Labels, Sample};

use crate::promql::{Expr, ValueType, type_of};
use crate::{Answer, Element, Point, QueryError, Row, Series, Value};
use column::is_present;
use eval::{Columns, Eval};

pub(crate) use column::Grid;
pub(crate) use math::{mean, quantile, sum, variance};
pub(crate) use window::counter_rate;

/// Settings of an evaluation.
#[derive(Debug, Clone)]
pub struct Engine {
    /// How old a sample an instant selector still takes.
    pub lookback_ms: i64,
    /// How many samples a query may hold at once.
    pub max_samples: usize,
    /// The step of subqueries that name none: the evaluation interval.
    pub subquery_step_ms: i64,
}

impl Default for Engine {
    fn default() -> Engine {
        Engine { lookback_ms: 300_000, max_samples: 50_000_000, subquery_step_ms: 60_000 }
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
        let mut eval = Eval::new(self, source, tenant, grid, 0, deadline);
        let value = if type_of(expr) == ValueType::Matrix {
            Value::Matrix(eval.matrix(expr, grid)?)
        } else {
            let sample = |value| Sample { t_ms, value };
            match eval.eval(expr, grid)? {
                Columns::Scalar(values) => Value::Scalar(sample(values[0])),
                Columns::Text(text) => Value::Text(t_ms, text),
                Columns::Vector(columns) => {
                    let present = columns.into_iter().filter(|column| is_present(column.values[0]));
                    let element = |column: column::Column| Element {
                        labels: column.labels,
                        t_ms,
                        point: Point::Float(column.values[0]),
                    };
                    Value::Vector(present.map(element).collect())
                }
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
        if step_ms <= 0 {
            return Err(QueryError::BadData(
                "zero or negative query resolution step widths are not accepted".to_owned(),
            ));
        }
        let length_ms = end_ms.checked_sub(start_ms).filter(|length| *length >= 0);
        let Some(length_ms) = length_ms else {
            return Err(QueryError::BadData("end timestamp must not be before start time".to_owned()));
        };
        let steps = (length_ms / step_ms) as usize + 1;
        let kind = type_of(expr);
        if !matches!(kind, ValueType::Scalar | ValueType::Vector) {
            let message =
                format!("invalid expression type {:?} for range query, must be Scalar or instant Vector", kind.name());
            return Err(QueryError::BadData(message));
        }
        let grid = Grid { start_ms, step_ms, steps };
        let mut eval = Eval::new(self, source, tenant, grid, step_ms, deadline);
        eval.charge(steps)?;
        let samples = |values: Vec<f64>| -> Vec<Sample> {
            let all = grid.times().zip(values).map(|(t_ms, value)| Sample { t_ms, value });
            all.filter(|sample| is_present(sample.value)).collect()
        };
        let row = |labels: Labels, values: Vec<f64>| Row { labels, values: samples(values), histograms: Vec::new() };
        let mut series: Vec<Row> = match eval.eval(expr, grid)? {
            Columns::Scalar(values) => vec![row(Labels::default(), values)],
            Columns::Text(_) => Vec::new(),
            Columns::Vector(columns) => columns.into_iter().map(|column| row(column.labels, column.values)).collect(),
        };
        series.retain(|row| !row.is_empty());
        series.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(eval.answer(Value::Matrix(series)))
    }
}
