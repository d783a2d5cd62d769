//! Calls: everything but functions of range vectors.

use std::cmp::Ordering;

use chrono::{DateTime, Datelike, Timelike, Utc};
use model::Labels;

use super::column::{Column, Grid, absent, is_present};
use super::eval::{Columns, Eval};
use super::labels;
use super::math::{go_max, go_min};
use super::notes::Note;
use super::select::{Fate, Look};
use super::window::range_arg;
use crate::QueryError;
use crate::promql::{Call, Expr, ExprKind};

fn of_value(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "abs" => f64::abs,
        "ceil" => f64::ceil,
        "floor" => f64::floor,
        "exp" => f64::exp,
        "sqrt" => f64::sqrt,
        "ln" => f64::ln,
        "log2" => f64::log2,
        "log10" => f64::log10,
        "sin" => f64::sin,
        "cos" => f64::cos,
        "tan" => f64::tan,
        "asin" => f64::asin,
        "acos" => f64::acos,
        "atan" => f64::atan,
        "sinh" => f64::sinh,
        "cosh" => f64::cosh,
        "tanh" => f64::tanh,
        "asinh" => f64::asinh,
        "acosh" => f64::acosh,
        "atanh" => f64::atanh,
        "deg" => f64::to_degrees,
        "rad" => f64::to_radians,
        "sgn" => |value| if value == 0.0 || value.is_nan() { value } else { value.signum() },
        _ => return None,
    })
}

fn of_date(name: &str) -> Option<fn(DateTime<Utc>) -> u32> {
    Some(match name {
        "minute" => |date| date.minute(),
        "hour" => |date| date.hour(),
        "day_of_week" => |date| date.weekday().num_days_from_sunday(),
        "day_of_month" => |date| date.day(),
        "day_of_year" => |date| date.ordinal(),
        "days_in_month" => |date| u32::from(date.num_days_in_month()),
        "month" => |date| date.month(),
        "year" => |date| date.year().unsigned_abs(),
        _ => return None,
    })
}

fn dated(seconds: f64, part: fn(DateTime<Utc>) -> u32) -> f64 {
    if !seconds.is_finite() {
        return f64::NAN;
    }
    DateTime::from_timestamp(seconds as i64, 0).map_or(f64::NAN, |date| f64::from(part(date)))
}

impl Eval<'_> {
    pub fn call(&mut self, expr: &Expr, call: &Call, grid: Grid) -> Result<Columns, QueryError> {
        let name = call.function.name;
        if name == "absent_over_time" {
            return self.absent(call, grid);
        }
        if Self::is_window_function(name) {
            let mut columns = Vec::new();
            self.stream_windows(call, grid, Fate::Kept, &mut |column| {
                columns.push(column);
                Ok(())
            })?;
            return self.kept(columns);
        }
        if let Some(compute) = of_value(name) {
            return self.mapped(&call.args[0], grid, |_, value| compute(value));
        }
        if let Some(part) = of_date(name) {
            return match call.args.first() {
                Some(arg) => self.mapped(arg, grid, |_, value| dated(value, part)),
                None => Ok(one_column(grid.times().map(|t_ms| dated(t_ms.div_euclid(1000) as f64, part)).collect())),
            };
        }
        match name {
            "time" | "pi" | "start" | "end" | "step" | "range" | "min_of" | "max_of" | "scalar" => {
                self.scalar_call(call, grid).map(Columns::Scalar)
            }
            "vector" => Ok(one_column(self.scalar(&call.args[0], grid)?)),
            "round" | "clamp" | "clamp_min" | "clamp_max" => self.bounded(call, grid),
            "timestamp" => self.timestamp(&call.args[0], Look::Time, grid),
            "start_timestamp" => self.timestamp(&call.args[0], Look::Start, grid),
            "absent" => self.absent(call, grid),
            "sort" | "sort_desc" | "sort_by_label" | "sort_by_label_desc" => self.sorted(expr, call, grid),
            "label_replace" => {
                let texts = self.texts(&call.args[1..], grid)?;
                let replacement = labels::Replacement::new(&texts)?;
                replacement.apply(self.vector(&call.args[0], grid)?).map(Columns::Vector)
            }
            "label_join" => {
                let texts = self.texts(&call.args[1..], grid)?;
                labels::check_join(&texts)?;
                labels::join(self.vector(&call.args[0], grid)?, &texts).map(Columns::Vector)
            }
            "info" => self.info(call, grid).map(Columns::Vector),
            "histogram_quantile" | "histogram_quantiles" | "histogram_fraction" => self.bucketed(call, grid),
            name => self.of_histograms(name, &call.args[0], grid),
        }
    }

    fn scalar_call(&mut self, call: &Call, grid: Grid) -> Result<Vec<f64>, QueryError> {
        let seconds = |ms: i64| vec![ms as f64 / 1000.0; grid.steps];
        let (first_ms, last_ms) = (self.query.start_ms, self.query.start_ms + self.query_range_ms);
        Ok(match call.function.name {
            "time" => grid.times().map(|t_ms| t_ms as f64 / 1000.0).collect(),
            "start" => seconds(first_ms),
            "end" => seconds(last_ms),
            "range" => seconds(last_ms - first_ms),
            "step" => seconds(if first_ms == last_ms { 0 } else { self.query_step_ms }),
            "scalar" => self.only_value(&call.args[0], grid)?,
            "min_of" | "max_of" => {
                let (left, right) = (self.scalar(&call.args[0], grid)?, self.scalar(&call.args[1], grid)?);
                let pick = if call.function.name == "min_of" { go_min } else { go_max };
                left.into_iter().zip(right).map(|(left, right)| pick(left, right)).collect()
            }
            _ => vec![std::f64::consts::PI; grid.steps],
        })
    }

    /// The one float of each step, for `scalar()`.
    fn only_value(&mut self, expr: &Expr, grid: Grid) -> Result<Vec<f64>, QueryError> {
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

    fn mapped(&mut self, arg: &Expr, grid: Grid, compute: impl Fn(usize, f64) -> f64) -> Result<Columns, QueryError> {
        let mut columns = self.vector(arg, grid)?;
        for column in &mut columns {
            column.map_floats(&compute);
            column.drop_name = true;
        }
        columns.retain(|column| !column.is_empty());
        self.joined(columns, grid).map(Columns::Vector)
    }

    fn bounded(&mut self, call: &Call, grid: Grid) -> Result<Columns, QueryError> {
        let mut bounds = Vec::new();
        for arg in &call.args[1..] {
            bounds.push(self.scalar(arg, grid)?);
        }
        self.mapped(&call.args[0], grid, |step, value| match (call.function.name, bounds.as_slice()) {
            ("clamp", [least, most]) if least[step] > most[step] => absent(),
            ("clamp", [least, most]) => go_max(least[step], go_min(most[step], value)),
            ("clamp_min", [least]) => go_max(least[step], value),
            ("clamp_max", [most]) => go_min(most[step], value),
            (_, [to]) => (value * (1.0 / to[step]) + 0.5).floor() / (1.0 / to[step]),
            _ => (value + 0.5).floor(),
        })
    }

    /// Of a plain selector, when its sample was taken or its counting began. Of anything else the evaluation's own time;
    /// where counting began is not known there.
    fn timestamp(&mut self, arg: &Expr, look: Look, grid: Grid) -> Result<Columns, QueryError> {
        let mut columns = Vec::new();
        if let ExprKind::Selector(selector) = &arg.unwrapped().kind {
            self.stream_latest(selector, grid, look, Fate::Kept, &mut |column| {
                columns.push(column.without_name());
                Ok(())
            })?;
            return self.kept(columns);
        }
        for mut column in self.vector(arg, grid)? {
            for step in (0..grid.steps).filter(|step| look == Look::Time && column.has(*step)).collect::<Vec<_>>() {
                column.values[step] = grid.time(step) as f64 / 1000.0;
            }
            column.histograms = None;
            if look == Look::Time {
                columns.push(column.without_name());
            }
        }
        self.joined(columns, grid).map(Columns::Vector)
    }

    fn absent(&mut self, call: &Call, grid: Grid) -> Result<Columns, QueryError> {
        let mut values = vec![1.0; grid.steps];
        let mut hide = |column: Column| {
            (0..grid.steps).filter(|step| column.has(*step)).for_each(|step| values[step] = absent());
            Ok(())
        };
        let arg = if call.function.name == "absent" {
            self.stream(&call.args[0], grid, &mut hide)?;
            &call.args[0]
        } else {
            self.stream_windows(call, grid, Fate::Passed, &mut hide)?;
            range_arg(call)
        };
        let column = Column::of_floats(labels::of_absent(arg), values);
        Ok(Columns::Vector(if column.is_empty() { Vec::new() } else { vec![column] }))
    }

    /// Orders an instant query's floats by value, NaN last, or all by labels; a range query's result has an order of its
    /// own.
    fn sorted(&mut self, expr: &Expr, call: &Call, grid: Grid) -> Result<Columns, QueryError> {
        let mut columns = self.vector(&call.args[0], grid)?;
        if grid.steps > 1 {
            self.note(Note::sort_in_range_query(expr.span));
        }
        let name = call.function.name;
        let is_descending = name.ends_with("_desc");
        if name.starts_with("sort_by_label") {
            let names = self.texts(&call.args[1..], grid)?;
            labels::sort_by_label(&mut columns, &names, is_descending);
            return Ok(Columns::Vector(columns));
        }
        columns.iter_mut().for_each(|column| column.histograms = None);
        columns.retain(|column| !column.is_empty());
        if grid.steps == 1 {
            columns.sort_by(|a, b| {
                let (a, b) = (a.values[0], b.values[0]);
                let order = a.partial_cmp(&b).unwrap_or(Ordering::Equal);
                a.is_nan().cmp(&b.is_nan()).then(if is_descending { order.reverse() } else { order })
            });
        }
        Ok(Columns::Vector(columns))
    }

    fn texts(&mut self, args: &[Expr], grid: Grid) -> Result<Vec<String>, QueryError> {
        args.iter().map(|arg| self.text(arg, grid)).collect()
    }
}

fn one_column(values: Vec<f64>) -> Columns {
    Columns::Vector(vec![Column::of_floats(Labels::default(), values)])
}
