//! Selectors and ranges: from samples to columns and windows.

use model::{Labels, Sample, is_stale};

use super::column::{Column, Grid, absent, is_present};
use super::eval::{Eval, Sink};
use super::window::Window;
use crate::promql::{Expr, ExprKind, Shift, Subquery, VectorSelector};
use crate::{QueryError, Row, SeriesSelect, Wants};

/// Where the window of each step lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    offset_ms: i64,
    at_ms: Option<i64>,
    pub range_ms: i64,
}

impl Frame {
    /// The last instant that the window of a step includes.
    pub fn end_ms(&self, t_ms: i64) -> i64 {
        self.at_ms.unwrap_or(t_ms).saturating_sub(self.offset_ms)
    }
}

/// One series as the source has it.
pub(super) struct SelectedSeries {
    labels: Labels,
    timestamps_ms: Vec<i64>,
    values: Vec<f64>,
}

/// All samples of one series that any step's window may need, without staleness markers.
pub(super) struct Samples {
    pub labels: Labels,
    pub timestamps_ms: Vec<i64>,
    pub values: Vec<f64>,
}

impl Samples {
    /// Computes a value per step from the samples in the step's window.
    pub fn slide(
        &self,
        grid: Grid,
        frame: Frame,
        mut compute: impl FnMut(usize, &Window<'_>) -> Option<f64>,
    ) -> Column {
        let mut column = Column::empty(self.labels.clone(), grid.steps);
        let (mut first, mut past) = (0, 0);
        for (step, t_ms) in grid.times().enumerate() {
            let end_ms = frame.end_ms(t_ms);
            let start_ms = end_ms.saturating_sub(frame.range_ms);
            let times = &self.timestamps_ms;
            while past < times.len() && times[past] <= end_ms {
                past += 1;
            }
            while first < past && times[first] <= start_ms {
                first += 1;
            }
            let window = Window {
                timestamps_ms: &times[first..past],
                values: &self.values[first..past],
                start_ms,
                end_ms,
                t_ms,
            };
            if first < past
                && let Some(value) = compute(step, &window)
            {
                column.values[step] = value;
            }
        }
        column
    }
}

impl Eval<'_> {
    pub fn frame(&self, shift: &Shift, range_ms: i64) -> Result<Frame, QueryError> {
        let offset_ms = shift.offset.as_ref().map_or(Ok(0), |offset| self.duration_ms(offset))?;
        Ok(Frame { offset_ms, at_ms: self.at_ms(shift.at), range_ms })
    }

    fn select(
        &mut self,
        selector: &VectorSelector,
        frame: Frame,
        grid: Grid,
        visit: &mut dyn FnMut(&mut Self, SelectedSeries) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        if selector.extended.is_some() {
            let message = "anchored and smoothed selectors are not evaluated yet";
            return Err(QueryError::Execution(message.to_owned()));
        }
        let request = SeriesSelect {
            tenant: self.tenant,
            matchers: &selector.matchers,
            start_ms: frame.end_ms(grid.start_ms).saturating_sub(frame.range_ms).saturating_add(1),
            end_ms: frame.end_ms(grid.end_ms()),
            wants: Wants::Values,
            deadline: self.deadline,
        };
        let set = self.source.select(&request)?;
        let mut samples = crate::Samples::default();
        for i in 0..set.len() {
            set.read(i, &mut samples)?;
            if samples.is_empty() {
                continue;
            }
            self.check_room(samples.len() + grid.steps)?;
            let series = SelectedSeries {
                labels: set.labels(i).clone(),
                timestamps_ms: samples.timestamps_ms.clone(),
                values: samples.values.clone(),
            };
            visit(self, series)?;
        }
        Ok(())
    }

    /// The latest value within the lookback at each step; or its time, in seconds.
    pub fn stream_selector(
        &mut self,
        selector: &VectorSelector,
        grid: Grid,
        wants_time: bool,
        sink: Sink<'_>,
    ) -> Result<(), QueryError> {
        let frame = self.frame(&selector.shift, self.engine.lookback_ms)?;
        let mut held = 0;
        self.select(selector, frame, grid, &mut |eval, series| {
            let column = latest_values(&series, grid, frame, wants_time);
            if column.is_empty() {
                return Ok(());
            }
            held += grid.steps;
            eval.check_room(held)?;
            sink(column)
        })
    }

    /// Hands out the samples of every series that a range covers.
    pub fn each_range(
        &mut self,
        expr: &Expr,
        grid: Grid,
        visit: &mut dyn FnMut(Samples, Frame) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        match &expr.kind {
            ExprKind::Paren(inner) => self.each_range(inner, grid, visit),
            ExprKind::Range { selector, range } => {
                let frame = self.frame(&selector.shift, self.positive_ms(range)?)?;
                self.select(selector, frame, grid, &mut |_, series| visit(without_stale(series), frame))
            }
            ExprKind::Subquery(subquery) => self.each_subquery(subquery, grid, visit),
            _ => unreachable!("the type check saw a range vector"),
        }
    }

    /// A subquery's steps lie on whole multiples of its step since the epoch.
    fn each_subquery(
        &mut self,
        subquery: &Subquery,
        grid: Grid,
        visit: &mut dyn FnMut(Samples, Frame) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let frame = self.frame(&subquery.shift, self.positive_ms(&subquery.range)?)?;
        let step_ms = match &subquery.step {
            Some(step) => self.positive_ms(step)?,
            None => self.engine.subquery_step_ms.max(1),
        };
        let after_ms = frame.end_ms(grid.start_ms).saturating_sub(frame.range_ms);
        let start_ms = (after_ms.div_euclid(step_ms) + 1).saturating_mul(step_ms);
        let end_ms = frame.end_ms(grid.end_ms());
        if start_ms > end_ms {
            return Ok(());
        }
        let steps = ((end_ms - start_ms) / step_ms) as usize + 1;
        self.check_room(steps)?;
        let inner = Grid { start_ms, step_ms, steps };
        let columns = self.vector(&subquery.operand, inner)?;
        self.release(columns.len() * steps);
        for column in columns {
            let (mut timestamps_ms, mut values) = (Vec::new(), Vec::new());
            for (t_ms, value) in inner.times().zip(column.values) {
                if is_present(value) {
                    timestamps_ms.push(t_ms);
                    values.push(value);
                }
            }
            if !values.is_empty() {
                visit(Samples { labels: column.labels, timestamps_ms, values }, frame)?;
            }
        }
        Ok(())
    }

    /// A range vector as the result of an instant query.
    pub fn matrix(&mut self, expr: &Expr, grid: Grid) -> Result<Vec<Row>, QueryError> {
        let mut rows = Vec::new();
        let mut held = 0;
        let limit = self.engine.max_samples;
        self.each_range(expr, grid, &mut |samples, _| {
            held += samples.values.len();
            if held > limit {
                return Err(QueryError::Limit("load too many samples into memory in query execution".to_owned()));
            }
            let row = samples.timestamps_ms.iter().zip(&samples.values);
            let values = row.map(|(&t_ms, &value)| Sample { t_ms, value }).collect();
            rows.push(Row { labels: samples.labels.clone(), values, histograms: Vec::new() });
            Ok(())
        })?;
        rows.retain(|row: &Row| !row.is_empty());
        rows.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(rows)
    }
}

fn latest_values(series: &SelectedSeries, grid: Grid, frame: Frame, wants_time: bool) -> Column {
    let mut column = Column::empty(series.labels.clone(), grid.steps);
    let mut past = 0;
    for (step, t_ms) in grid.times().enumerate() {
        let end_ms = frame.end_ms(t_ms);
        while past < series.timestamps_ms.len() && series.timestamps_ms[past] <= end_ms {
            past += 1;
        }
        if past == 0 {
            continue;
        }
        let (sample_ms, value) = (series.timestamps_ms[past - 1], series.values[past - 1]);
        let is_recent = sample_ms > end_ms.saturating_sub(frame.range_ms);
        column.values[step] = match () {
            () if !is_recent || is_stale(value) => absent(),
            () if wants_time => sample_ms as f64 / 1000.0,
            () => value,
        };
    }
    column
}

fn without_stale(series: SelectedSeries) -> Samples {
    let SelectedSeries { labels, mut timestamps_ms, mut values } = series;
    if values.iter().any(|value| is_stale(*value)) {
        let mut keep = values.iter().map(|value| !is_stale(*value));
        timestamps_ms.retain(|_| keep.next().unwrap_or(true));
        values.retain(|value| !is_stale(*value));
    }
    Samples { labels, timestamps_ms, values }
}
