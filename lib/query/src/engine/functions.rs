//! Calls: everything but functions of range vectors.

use std::cmp::Ordering;

use chrono::{DateTime, Datelike, Timelike, Utc};
use model::Labels;

use super::column::{Column, Grid, absent, is_present, unique};
use super::eval::{Columns, Eval, without_name};
use super::labels;
use crate::QueryError;
use crate::literal::format_number;
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
        if Self::is_window_function(name) {
            let mut columns = Vec::new();
            self.stream_windows(expr, call, grid, &mut |column| {
                columns.push(column);
                Ok(())
            })?;
            return self.kept(unique(columns)?, grid);
        }
        if let Some(compute) = of_value(name) {
            return self.mapped(&call.args[0], grid, |_, value| compute(value));
        }
        if let Some(part) = of_date(name) {
            return match call.args.first() {
                Some(arg) => self.mapped(arg, grid, |_, value| dated(value, part)),
                None => Ok(one_column(grid.times().map(|t_ms| dated(t_ms as f64 / 1000.0, part)).collect())),
            };
        }
        match name {
            "time" | "pi" | "start" | "end" | "step" | "range" | "min_of" | "max_of" | "scalar" => {
                self.scalar_call(call, grid).map(Columns::Scalar)
            }
            "vector" => Ok(one_column(self.scalar(&call.args[0], grid)?)),
            "round" | "clamp" | "clamp_min" | "clamp_max" => self.bounded(call, grid),
            "timestamp" => self.timestamp(&call.args[0], grid),
            "absent" | "absent_over_time" => self.absent(call, grid),
            "sort" | "sort_desc" => self.sorted(call, grid),
            "sort_by_label" | "sort_by_label_desc" => {
                let (mut columns, names) = (self.vector(&call.args[0], grid)?, self.texts(&call.args[1..], grid)?);
                labels::sort_by_label(&mut columns, &names, name.ends_with("_desc"));
                Ok(Columns::Vector(columns))
            }
            "label_replace" | "label_join" => {
                let (columns, texts) = (self.vector(&call.args[0], grid)?, self.texts(&call.args[1..], grid)?);
                let change = if name == "label_join" { labels::join } else { labels::replace };
                change(columns, &texts).map(Columns::Vector)
            }
            "histogram_quantile" => {
                let quantiles = self.scalar(&call.args[0], grid)?;
                self.check_quantiles(&quantiles, &call.args[0]);
                let buckets = self.vector(&call.args[1], grid)?;
                self.classic_quantile(&quantiles, &buckets, &call.args[1], grid).map(Columns::Vector)
            }
            "histogram_quantiles" => self.quantile_rows(call, grid).map(Columns::Vector),
            name if name.starts_with("histogram_") => {
                let message = format!("{name}() needs native histograms, which are not stored yet");
                Err(QueryError::Execution(message))
            }
            name => Err(QueryError::Execution(format!("{name}() is not evaluated yet"))),
        }
    }

    /// `histogram_quantiles(v, label, q…)`: one series per quantile, which stands in the label.
    fn quantile_rows(&mut self, call: &Call, grid: Grid) -> Result<Vec<Column>, QueryError> {
        let buckets = self.vector(&call.args[0], grid)?;
        let label = self.texts(&call.args[1..2], grid)?.concat();
        let mut rows = Vec::new();
        for arg in &call.args[2..] {
            let quantiles = self.scalar(arg, grid)?;
            self.check_quantiles(&quantiles, arg);
            for column in self.classic_quantile(&quantiles, &buckets, &call.args[0], grid)? {
                for run in (0..grid.steps).collect::<Vec<_>>().chunk_by(|a, b| quantiles[*a] == quantiles[*b]) {
                    let labels = column.labels.with(&label, &format_number(quantiles[run[0]]));
                    let mut row = Column::empty(labels, grid.steps);
                    run.iter().for_each(|step| row.values[*step] = column.values[*step]);
                    self.check_room(rows.len() * grid.steps)?;
                    rows.push(row);
                }
            }
        }
        unique(rows)
    }

    fn scalar_call(&mut self, call: &Call, grid: Grid) -> Result<Vec<f64>, QueryError> {
        let seconds = |ms: i64| vec![ms as f64 / 1000.0; grid.steps];
        let (first_ms, last_ms) = (self.query.start_ms, self.query.end_ms());
        Ok(match call.function.name {
            "time" => grid.times().map(|t_ms| t_ms as f64 / 1000.0).collect(),
            "start" => seconds(first_ms),
            "end" => seconds(last_ms),
            "range" => seconds(last_ms - first_ms),
            "step" => seconds(self.query_step_ms),
            "scalar" => self.only_value(&call.args[0], grid)?,
            "min_of" | "max_of" => {
                let (left, right) = (self.scalar(&call.args[0], grid)?, self.scalar(&call.args[1], grid)?);
                let pick = if call.function.name == "min_of" { f64::min } else { f64::max };
                left.into_iter().zip(right).map(|(left, right)| pick(left, right)).collect()
            }
            _ => vec![std::f64::consts::PI; grid.steps],
        })
    }

    fn mapped(&mut self, arg: &Expr, grid: Grid, compute: impl Fn(usize, f64) -> f64) -> Result<Columns, QueryError> {
        let mut columns = self.vector(arg, grid)?;
        for column in &mut columns {
            column.map(&compute);
            column.labels = without_name(&column.labels);
        }
        unique(columns).map(Columns::Vector)
    }

    fn bounded(&mut self, call: &Call, grid: Grid) -> Result<Columns, QueryError> {
        let mut bounds = Vec::new();
        for arg in &call.args[1..] {
            bounds.push(self.scalar(arg, grid)?);
        }
        let low = |value: f64, bound: f64| if bound.is_nan() { bound } else { value.max(bound) };
        let high = |value: f64, bound: f64| if bound.is_nan() { bound } else { value.min(bound) };
        let of_number = |value: f64, result: f64| if value.is_nan() { value } else { result };
        self.mapped(&call.args[0], grid, |step, value| {
            of_number(
                value,
                match (call.function.name, bounds.as_slice()) {
                    ("clamp", [least, most]) if least[step] > most[step] => absent(),
                    ("clamp", [least, most]) => low(high(value, most[step]), least[step]),
                    ("clamp_min", [least]) => low(value, least[step]),
                    ("clamp_max", [most]) => high(value, most[step]),
                    (_, [to]) => (value * (1.0 / to[step]) + 0.5).floor() / (1.0 / to[step]),
                    _ => (value + 0.5).floor(),
                },
            )
        })
    }

    /// Of a plain selector, when its sample was taken; of anything else, the evaluation's own time.
    fn timestamp(&mut self, arg: &Expr, grid: Grid) -> Result<Columns, QueryError> {
        let ExprKind::Selector(selector) = &arg.unwrapped().kind else {
            return self.mapped(arg, grid, |step, _| grid.time(step) as f64 / 1000.0);
        };
        let mut columns = Vec::new();
        self.stream_selector(selector, grid, true, &mut |column| {
            columns.push(Column { labels: without_name(&column.labels), ..column });
            Ok(())
        })?;
        self.kept(unique(columns)?, grid)
    }

    fn absent(&mut self, call: &Call, grid: Grid) -> Result<Columns, QueryError> {
        let arg = &call.args[0];
        let mut values = vec![1.0; grid.steps];
        let mut hide = |column: Column| {
            for (slot, value) in values.iter_mut().zip(column.values) {
                if is_present(value) {
                    *slot = absent();
                }
            }
        };
        if call.function.name == "absent" {
            self.stream(arg, grid, &mut |column| {
                hide(column);
                Ok(())
            })?;
        } else {
            self.each_range(arg, grid, &mut |samples, frame| {
                hide(samples.slide(grid, frame, |_, _| Some(1.0)));
                Ok(())
            })?;
        }
        let column = Column { labels: labels::of_absent(arg), values };
        Ok(Columns::Vector(if column.is_empty() { Vec::new() } else { vec![column] }))
    }

    /// Orders an instant query's result by value, NaN last; a range query's result has an order of its own.
    fn sorted(&mut self, call: &Call, grid: Grid) -> Result<Columns, QueryError> {
        let mut columns = self.vector(&call.args[0], grid)?;
        let descending = call.function.name == "sort_desc";
        if grid.steps == 1 {
            columns.sort_by(|a, b| {
                let (a, b) = (a.values[0], b.values[0]);
                let order = a.partial_cmp(&b).unwrap_or(Ordering::Equal);
                a.is_nan().cmp(&b.is_nan()).then(if descending { order.reverse() } else { order })
            });
        }
        Ok(Columns::Vector(columns))
    }

    fn texts(&mut self, args: &[Expr], grid: Grid) -> Result<Vec<String>, QueryError> {
        let mut texts = Vec::new();
        for arg in args {
            match self.eval(arg, grid)? {
                Columns::Text(text) => texts.push(text),
                Columns::Scalar(_) | Columns::Vector(_) => unreachable!("the type check saw a string"),
            }
        }
        Ok(texts)
    }
}

fn one_column(values: Vec<f64>) -> Columns {
    Columns::Vector(vec![Column { labels: Labels::default(), values }])
}
