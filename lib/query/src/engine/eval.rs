//! Walks the tree: every node becomes columns over a grid of steps.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use model::METRIC_NAME;

use super::Engine;
use super::column::{Column, Grid, unique};
use super::counted::Counted;
use super::notes::{Note, Notes};
use super::repeats::Repeats;
use super::room::Room;
use super::select::{Depth, Fate};
use crate::promql::{At, Call, DurationExpr, Expr, ExprKind};
use crate::{Answer, QueryError, Series, Value};

/// Labels that say what a metric is; what changes that drops them with the name.
pub(super) const METADATA: [&str; 3] = [METRIC_NAME, "__type__", "__unit__"];

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
    /// From the start to the end that were asked for: the last step may lie before that.
    pub query_range_ms: i64,
    pub deadline: Option<Instant>,
    pub notes: Notes,
    /// What the calls around ask of histograms.
    pub depth: Depth,
    repeats: Repeats<'a>,
    room: Room,
    pub counted: Arc<Counted>,
}

impl<'a> Eval<'a> {
    pub fn new(
        engine: &'a Engine,
        source: &'a dyn Series,
        tenant: &'a str,
        expr: &'a Expr,
        query: Grid,
        query_step_ms: i64,
        deadline: Option<Instant>,
    ) -> Eval<'a> {
        let (notes, query_range_ms) = Default::default();
        let room = Room::new(engine.max_samples, engine.shared_room.clone());
        let counted = Arc::new(Counted::new(engine.counting, query));
        let (depth, repeats) = (Depth::Unknown, Repeats::of(expr));
        Eval {
            engine,
            source,
            tenant,
            query,
            query_step_ms,
            query_range_ms,
            deadline,
            notes,
            depth,
            repeats,
            room,
            counted,
        }
    }

    pub fn answer(self, value: Value) -> Answer {
        let (warnings, infos) = self.notes.into_texts();
        let work = self.counted.work(self.room.peak());
        Answer { value, warnings, infos, work }
    }

    /// Whether so many series of so many steps could be held.
    pub fn check_estimate(&self, series: usize, steps: usize) -> Result<(), QueryError> {
        self.room.check_estimate(series, steps)
    }

    pub fn note(&mut self, note: Note) {
        self.notes.add(note);
    }

    /// Evaluates what stands within something that asks for totals or for buckets.
    pub fn deeper<T>(
        &mut self,
        inner: Depth,
        evaluate: impl FnOnce(&mut Self) -> Result<T, QueryError>,
    ) -> Result<T, QueryError> {
        let outer = self.depth;
        self.depth = outer.within(inner);
        let result = evaluate(self);
        self.depth = outer;
        result
    }

    /// Counts samples that stay in memory.
    pub fn charge(&mut self, samples: usize) -> Result<(), QueryError> {
        self.room.take(samples)?;
        self.check_room(0)
    }

    pub fn release(&mut self, samples: usize) {
        self.room.give_back(samples);
    }

    /// Whether this many more could be held for a moment, and the deadline has not passed.
    pub fn check_room(&self, samples: usize) -> Result<(), QueryError> {
        self.room.check(samples)?;
        if self.engine.canceled.as_ref().is_some_and(|canceled| canceled.load(Ordering::Relaxed)) {
            return Err(QueryError::Canceled("expression evaluation"));
        }
        match self.deadline {
            Some(deadline) if Instant::now() > deadline => Err(QueryError::Timeout("expression evaluation")),
            _ => Ok(()),
        }
    }

    pub fn duration_ms(&self, duration: &DurationExpr) -> Result<i64, QueryError> {
        let failed = |message: &str| QueryError::Execution(message.to_owned());
        let seconds = duration.seconds(self.query_step_ms as f64 / 1000.0, self.query_range_ms as f64 / 1000.0);
        let ms = seconds.ok_or_else(|| failed("division by zero"))? * 1000.0;
        if !ms.is_finite() {
            return Err(failed("duration is NaN or infinite"));
        }
        // Literals are whole milliseconds that seconds only approximate; what is computed is cut.
        let ms =
            if matches!(duration, DurationExpr::Seconds(_)) { ms.round() } else { (ms + 1e-6 * ms.signum()).trunc() };
        if ms.abs() < 9.2e12 { Ok(ms as i64) } else { Err(failed("duration is out of range")) }
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
            At::End => self.query.start_ms + self.query_range_ms,
        })
    }

    pub fn eval(&mut self, expr: &Expr, grid: Grid) -> Result<Columns, QueryError> {
        let Some((class, last)) = self.repeats.class(expr) else { return self.eval_node(expr, grid) };
        if let Some(kept) = self.repeats.find(class, grid, self.depth) {
            let columns = kept.to_vec();
            return self.kept(columns);
        }
        let result = self.eval_node(last, grid)?;
        if let Columns::Vector(columns) = &result {
            let weight: usize = columns.iter().map(Column::weight).sum();
            if self.room.is_ample(weight) && self.charge(weight).is_ok() {
                self.repeats.keep(class, grid, self.depth, columns.clone());
            }
        }
        Ok(result)
    }

    fn eval_node(&mut self, expr: &Expr, grid: Grid) -> Result<Columns, QueryError> {
        if grid.steps > 1 && is_invariant(expr) {
            let once = self.eval(expr, Grid::instant(grid.start_ms))?;
            return self.repeat(once, grid.steps);
        }
        match &expr.kind {
            ExprKind::Number { value, .. } => Ok(Columns::Scalar(vec![*value; grid.steps])),
            ExprKind::Text(text) => Ok(Columns::Text(text.clone())),
            ExprKind::Paren(inner) => self.eval(inner, grid),
            ExprKind::Unary { negative, operand } => self.unary(*negative, operand, grid),
            ExprKind::Binary(binary) => self.binary(expr, binary, grid),
            ExprKind::Aggregate(aggregate) => self.aggregate(expr, aggregate, grid).map(Columns::Vector),
            ExprKind::Call(call) => self.call(expr, call, grid),
            ExprKind::Selector(selector) => {
                let mut columns = Vec::new();
                self.stream_selector(selector, grid, Fate::Kept, &mut |column| {
                    columns.push(column);
                    Ok(())
                })?;
                self.kept(columns)
            }
            ExprKind::Range { .. } | ExprKind::Subquery(_) => unreachable!("ranges are evaluated by their function"),
        }
    }

    /// Counts columns from a source, which are in order.
    pub fn kept(&mut self, columns: Vec<Column>) -> Result<Columns, QueryError> {
        self.charge(columns.iter().map(Column::weight).sum())?;
        Ok(Columns::Vector(columns))
    }

    /// Joins columns that have the same labels now. An instant query does so only in the end, as Prometheus does.
    pub fn joined(&self, columns: Vec<Column>, grid: Grid) -> Result<Vec<Column>, QueryError> {
        if grid.steps == 1 { Ok(columns) } else { unique(columns) }
    }

    fn repeat(&mut self, once: Columns, steps: usize) -> Result<Columns, QueryError> {
        Ok(match once {
            Columns::Scalar(values) => Columns::Scalar(vec![values[0]; steps]),
            Columns::Text(text) => Columns::Text(text),
            Columns::Vector(columns) => {
                self.charge(columns.len() * steps)?;
                let spread = |column: Column| Column {
                    values: vec![column.values[0]; steps],
                    histograms: column.histograms.map(|histograms| vec![histograms[0].clone(); steps]),
                    ..column
                };
                Columns::Vector(columns.into_iter().map(spread).collect())
            }
        })
    }

    /// Hands out a vector's columns one by one; straight from the source where the shape allows it.
    pub fn stream(&mut self, expr: &Expr, grid: Grid, sink: Sink<'_>) -> Result<(), QueryError> {
        let from_source = grid.steps == 1 || !is_invariant(expr);
        match &expr.kind {
            ExprKind::Paren(inner) => self.stream(inner, grid, sink),
            ExprKind::Selector(selector) if from_source => self.stream_selector(selector, grid, Fate::Passed, sink),
            ExprKind::Call(call) if from_source && Self::is_streamed(call) => {
                self.stream_windows(call, grid, Fate::Passed, sink)
            }
            _ => {
                let columns = self.vector(expr, grid)?;
                self.release(columns.iter().map(Column::weight).sum());
                columns.into_iter().try_for_each(sink)
            }
        }
    }

    /// Whether a call makes one column of each series. `absent_over_time` makes one of all.
    fn is_streamed(call: &Call) -> bool {
        Self::is_window_function(call.function.name) && call.function.name != "absent_over_time"
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

    pub fn text(&mut self, expr: &Expr, grid: Grid) -> Result<String, QueryError> {
        match self.eval(expr, grid)? {
            Columns::Text(text) => Ok(text),
            Columns::Scalar(_) | Columns::Vector(_) => unreachable!("the type check saw a string"),
        }
    }

    fn unary(&mut self, negative: bool, operand: &Expr, grid: Grid) -> Result<Columns, QueryError> {
        let mut columns = self.eval(operand, grid)?;
        match &mut columns {
            _ if !negative => {}
            Columns::Scalar(values) => values.iter_mut().for_each(|value| *value = -*value),
            Columns::Vector(vector) => vector.iter_mut().for_each(negate),
            Columns::Text(_) => unreachable!("the type check refuses signs before strings"),
        }
        Ok(columns)
    }
}

fn negate(column: &mut Column) {
    let histograms = column.histograms.take();
    column.map_floats(|_, value| -value);
    column.histograms = histograms;
    for histogram in column.histograms.iter_mut().flatten().flatten() {
        std::sync::Arc::make_mut(histogram).mul(-1.0);
    }
    column.drop_name = true;
}

/// Functions whose result depends on the instant even where their arguments do not.
const TIMELY: [&str; 10] = [
    "time",
    "predict_linear",
    "days_in_month",
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "hour",
    "minute",
    "month",
    "year",
];

/// Whether every step gives the same: all selectors are pinned by `@`, and nothing asks for the time.
pub(super) fn is_invariant(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Number { .. } | ExprKind::Text(_) => true,
        ExprKind::Paren(inner) | ExprKind::Unary { operand: inner, .. } => is_invariant(inner),
        ExprKind::Binary(binary) => is_invariant(&binary.left) && is_invariant(&binary.right),
        ExprKind::Aggregate(aggregate) => {
            is_invariant(&aggregate.operand) && aggregate.param.as_ref().is_none_or(is_invariant)
        }
        ExprKind::Call(call) if call.function.name == "timestamp" => {
            let is_selector = matches!(call.args[0].unwrapped().kind, ExprKind::Selector(_));
            is_selector && is_invariant(&call.args[0])
        }
        ExprKind::Call(call) => !TIMELY.contains(&call.function.name) && call.args.iter().all(is_invariant),
        ExprKind::Selector(selector) | ExprKind::Range { selector, .. } => selector.shift.at.is_some(),
        ExprKind::Subquery(subquery) => subquery.shift.at.is_some(),
    }
}
