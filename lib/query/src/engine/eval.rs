//! Walks the tree: every node becomes columns over a grid of steps.

use std::collections::BTreeSet;
use std::time::Instant;

use model::{Labels, METRIC_NAME};

use super::Engine;
use super::column::{Column, Grid, is_present, unique};
use crate::promql::{At, DurationExpr, Expr, ExprKind};
use crate::{Answer, QueryError, Series, Span, Value};

pub(super) enum Columns {
    /// One value per step.
    Scalar(Vec<f64>),
    Text(String),
    Vector(Vec<Column>),
}

pub(super) type Sink<'s> = &'s mut dyn FnMut(Column) -> Result<(), QueryError>;

pub(super) struct Eval<'a> {
    pub engine: &'a Engine,
    pub source: &'a dyn Series,
    pub tenant: &'a str,
    /// The query's own instants, which `start()`, `end()`, `step()` and `range()` mean everywhere.
    pub query: Grid,
    /// 0 for an instant query.
    pub query_step_ms: i64,
    pub deadline: Option<Instant>,
    live_samples: usize,
    warnings: BTreeSet<String>,
    infos: BTreeSet<String>,
}

impl<'a> Eval<'a> {
    pub fn new(
        engine: &'a Engine,
        source: &'a dyn Series,
        tenant: &'a str,
        query: Grid,
        query_step_ms: i64,
        deadline: Option<Instant>,
    ) -> Eval<'a> {
        let (warnings, infos) = Default::default();
        Eval { engine, source, tenant, query, query_step_ms, deadline, live_samples: 0, warnings, infos }
    }

    pub fn answer(self, value: Value) -> Answer {
        Answer { value, warnings: self.warnings.into_iter().collect(), infos: self.infos.into_iter().collect() }
    }

    pub fn warn(&mut self, message: &str, span: Span) {
        self.warnings.insert(format!("PromQL warning: {message} ({span})"));
    }

    pub fn inform(&mut self, message: &str, span: Span) {
        self.infos.insert(format!("PromQL info: {message} ({span})"));
    }

    /// Counts samples that stay in memory.
    pub fn charge(&mut self, samples: usize) -> Result<(), QueryError> {
        self.live_samples = self.live_samples.saturating_add(samples);
        self.check_room(0)
    }

    pub fn release(&mut self, samples: usize) {
        self.live_samples = self.live_samples.saturating_sub(samples);
    }

    /// Whether this many more could be held for a moment, and the deadline has not passed.
    pub fn check_room(&self, samples: usize) -> Result<(), QueryError> {
        if self.live_samples.saturating_add(samples) > self.engine.max_samples {
            return Err(QueryError::Limit("load too many samples into memory in query execution".to_owned()));
        }
        match self.deadline {
            Some(deadline) if Instant::now() > deadline => Err(QueryError::Timeout("expression evaluation")),
            _ => Ok(()),
        }
    }

    pub fn duration_ms(&self, duration: &DurationExpr) -> Result<i64, QueryError> {
        let range_ms = self.query.end_ms() - self.query.start_ms;
        let seconds = duration.seconds(self.query_step_ms as f64 / 1000.0, range_ms as f64 / 1000.0);
        let ms = seconds.map(|seconds| (seconds * 1000.0).round()).filter(|ms| ms.abs() < 9.2e15);
        ms.map(|ms| ms as i64).ok_or_else(|| QueryError::Execution("duration out of range".to_owned()))
    }

    /// As [`Eval::duration_ms`], for what must be longer than nothing.
    pub fn positive_ms(&self, duration: &DurationExpr) -> Result<i64, QueryError> {
        let ms = self.duration_ms(duration)?;
        if ms > 0 { Ok(ms) } else { Err(QueryError::Execution("duration must be greater than 0".to_owned())) }
    }

    pub fn at_ms(&self, at: Option<At>) -> Option<i64> {
        at.map(|at| match at {
            At::TimeMs(ms) => ms,
            At::Start => self.query.start_ms,
            At::End => self.query.end_ms(),
        })
    }

    pub fn eval(&mut self, expr: &Expr, grid: Grid) -> Result<Columns, QueryError> {
        if grid.steps > 1 && is_invariant(expr) {
            let once = self.eval(expr, Grid::instant(grid.start_ms))?;
            return self.repeat(once, grid.steps);
        }
        match &expr.kind {
            ExprKind::Number { value, .. } => Ok(Columns::Scalar(vec![*value; grid.steps])),
            ExprKind::Text(text) => Ok(Columns::Text(text.clone())),
            ExprKind::Paren(inner) => self.eval(inner, grid),
            ExprKind::Unary { negative, operand } => self.unary(*negative, operand, grid),
            ExprKind::Binary(binary) => self.binary(binary, grid),
            ExprKind::Aggregate(aggregate) => self.aggregate(aggregate, grid).map(Columns::Vector),
            ExprKind::Call(call) => self.call(expr, call, grid),
            ExprKind::Selector(selector) => {
                let mut columns = Vec::new();
                self.stream_selector(selector, grid, false, &mut |column| {
                    columns.push(column);
                    Ok(())
                })?;
                self.kept(columns, grid)
            }
            ExprKind::Range { .. } | ExprKind::Subquery(_) => unreachable!("ranges are evaluated by their function"),
        }
    }

    /// Counts columns from a source, and puts them in order.
    pub fn kept(&mut self, mut columns: Vec<Column>, grid: Grid) -> Result<Columns, QueryError> {
        self.charge(columns.len() * grid.steps)?;
        columns.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(Columns::Vector(columns))
    }

    fn repeat(&mut self, once: Columns, steps: usize) -> Result<Columns, QueryError> {
        Ok(match once {
            Columns::Scalar(values) => Columns::Scalar(vec![values[0]; steps]),
            Columns::Text(text) => Columns::Text(text),
            Columns::Vector(columns) => {
                self.charge(columns.len() * steps)?;
                let spread = |column: Column| Column { values: vec![column.values[0]; steps], ..column };
                Columns::Vector(columns.into_iter().map(spread).collect())
            }
        })
    }

    /// Hands out a vector's columns one by one; straight from the source where the shape allows it.
    pub fn stream(&mut self, expr: &Expr, grid: Grid, sink: Sink<'_>) -> Result<(), QueryError> {
        let from_source = grid.steps == 1 || !is_invariant(expr);
        match &expr.kind {
            ExprKind::Paren(inner) => self.stream(inner, grid, sink),
            ExprKind::Selector(selector) if from_source => self.stream_selector(selector, grid, false, sink),
            ExprKind::Call(call) if from_source && self.can_stream(call) => self.stream_windows(expr, call, grid, sink),
            _ => {
                let columns = self.vector(expr, grid)?;
                self.release(columns.len() * grid.steps);
                columns.into_iter().try_for_each(sink)
            }
        }
    }

    pub fn vector(&mut self, expr: &Expr, grid: Grid) -> Result<Vec<Column>, QueryError> {
        match self.eval(expr, grid)? {
            Columns::Vector(columns) => Ok(columns),
            Columns::Scalar(_) | Columns::Text(_) => unreachable!("the type check saw an instant vector"),
        }
    }

    pub fn scalar(&mut self, expr: &Expr, grid: Grid) -> Result<Vec<f64>, QueryError> {
        match self.eval(expr, grid)? {
            Columns::Scalar(values) => Ok(values),
            Columns::Vector(_) | Columns::Text(_) => unreachable!("the type check saw a scalar"),
        }
    }

    fn unary(&mut self, negative: bool, operand: &Expr, grid: Grid) -> Result<Columns, QueryError> {
        let mut columns = self.eval(operand, grid)?;
        match &mut columns {
            _ if !negative => {}
            Columns::Scalar(values) => values.iter_mut().for_each(|value| *value = -*value),
            Columns::Vector(vector) => {
                for column in vector.iter_mut() {
                    column.map(|_, value| -value);
                    column.labels = without_name(&column.labels);
                }
                return unique(std::mem::take(vector)).map(Columns::Vector);
            }
            Columns::Text(_) => unreachable!("the type check refuses signs before strings"),
        }
        Ok(columns)
    }

    /// The one value of each step, for `scalar()`.
    pub fn only_value(&mut self, expr: &Expr, grid: Grid) -> Result<Vec<f64>, QueryError> {
        let mut only = vec![(0usize, f64::NAN); grid.steps];
        self.stream(expr, grid, &mut |column| {
            for (slot, value) in only.iter_mut().zip(column.values) {
                if is_present(value) {
                    *slot = (slot.0 + 1, value);
                }
            }
            Ok(())
        })?;
        Ok(only.into_iter().map(|(count, value)| if count == 1 { value } else { f64::NAN }).collect())
    }
}

pub(super) fn without_name(labels: &Labels) -> Labels {
    labels.without(&[METRIC_NAME])
}

/// Functions whose result depends on the instant even where their arguments do not.
const TIMELY: [&str; 12] = [
    "time",
    "timestamp",
    "predict_linear",
    "days_in_month",
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "hour",
    "minute",
    "month",
    "year",
    "info",
];

/// Whether every step gives the same: all selectors are pinned by `@`, and nothing asks for the time.
fn is_invariant(expr: &Expr) -> bool {
    let all = |exprs: &[&Expr]| exprs.iter().all(|expr| is_invariant(expr));
    match &expr.kind {
        ExprKind::Number { .. } | ExprKind::Text(_) => true,
        ExprKind::Paren(inner) | ExprKind::Unary { operand: inner, .. } => is_invariant(inner),
        ExprKind::Binary(binary) => all(&[&binary.left, &binary.right]),
        ExprKind::Aggregate(aggregate) => {
            is_invariant(&aggregate.operand) && aggregate.param.as_ref().is_none_or(is_invariant)
        }
        ExprKind::Call(call) => !TIMELY.contains(&call.function.name) && call.args.iter().all(is_invariant),
        ExprKind::Selector(selector) | ExprKind::Range { selector, .. } => selector.shift.at.is_some(),
        ExprKind::Subquery(subquery) => subquery.shift.at.is_some(),
    }
}
