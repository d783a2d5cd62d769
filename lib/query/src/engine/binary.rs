//! Binary operators: what they make of two values, scalars, a scalar and a vector, sets. [`super::join`] matches two vectors.

use std::collections::HashMap;
use std::sync::Arc;

use model::{Histogram, Labels, METRIC_NAME, ResetHint};

use super::column::{Column, Grid, Item, unique};
use super::eval::{Columns, Eval};
use super::notes::{Combining, Note};
use super::select::Depth;
use crate::promql::{Binary, BinaryOp, Expr, Matching};
use crate::{QueryError, Span};

/// The value of an arithmetic operator, 1 or 0 for a comparison.
pub(super) fn of_floats(op: BinaryOp, left: f64, right: f64) -> f64 {
    match op {
        BinaryOp::Add => left + right,
        BinaryOp::Sub => left - right,
        BinaryOp::Mul => left * right,
        BinaryOp::Div => left / right,
        BinaryOp::Mod => left % right,
        BinaryOp::DivNonzero | BinaryOp::ModNonzero if right == 0.0 => f64::NAN,
        BinaryOp::DivNonzero => left / right,
        BinaryOp::ModNonzero => left % right,
        BinaryOp::Pow => left.powf(right),
        BinaryOp::Atan2 => left.atan2(right),
        op => f64::from(u8::from(holds(op, left, right))),
    }
}

fn holds(op: BinaryOp, left: f64, right: f64) -> bool {
    match op {
        BinaryOp::Equal => left == right,
        BinaryOp::NotEqual => left != right,
        BinaryOp::Less => left < right,
        BinaryOp::LessEqual => left <= right,
        BinaryOp::Greater => left > right,
        BinaryOp::GreaterEqual => left >= right,
        _ => unreachable!("only comparisons hold"),
    }
}

/// What became of two values.
pub(super) struct Outcome {
    /// The result; of a comparison the left value.
    pub item: Item,
    /// Whether a comparison holds; true for all else.
    pub holds: bool,
    pub note: Option<Note>,
}

impl Outcome {
    fn of(item: impl Into<Item>) -> Outcome {
        Outcome { item: item.into(), holds: true, note: None }
    }
}

/// Why two values have no result.
pub(super) struct Refused(pub Note);

/// Computes an operator of two values, one of which at least is there. Errors are notes: the query goes on.
pub(super) fn operate(op: BinaryOp, left: Item, right: Item, span: Span) -> Result<Outcome, Refused> {
    let refused = |left: &str, right: &str| Err(Refused(Note::incompatible_types(left, op.as_str(), right, span)));
    match (left, right) {
        (Item::Float(left), Item::Float(right)) => {
            if op.is_trim() {
                return refused("float", "float");
            }
            if op.is_comparison() {
                return Ok(Outcome { item: Item::Float(left), holds: holds(op, left, right), note: None });
            }
            Ok(Outcome::of(Item::Float(of_floats(op, left, right))))
        }
        (Item::Float(factor), Item::Histogram(histogram)) => match op {
            BinaryOp::Mul => Ok(Outcome::of(changed(&histogram, |histogram| histogram.mul(factor)))),
            _ => refused("float", "histogram"),
        },
        (Item::Histogram(histogram), Item::Float(value)) => match op {
            BinaryOp::Mul => Ok(Outcome::of(changed(&histogram, |histogram| histogram.mul(value)))),
            BinaryOp::Div => Ok(Outcome::of(changed(&histogram, |histogram| histogram.div(value)))),
            BinaryOp::TrimUpper => Ok(Outcome::of(trimmed(&histogram, |histogram| histogram.trim_upper(value)))),
            BinaryOp::TrimLower => Ok(Outcome::of(trimmed(&histogram, |histogram| histogram.trim_lower(value)))),
            _ => refused("histogram", "float"),
        },
        (Item::Histogram(left), Item::Histogram(right)) => match op {
            BinaryOp::Add | BinaryOp::Sub => combine(op, &left, &right, span),
            BinaryOp::Equal | BinaryOp::NotEqual => {
                let holds = left.equals(&right) == (op == BinaryOp::Equal);
                Ok(Outcome { item: Item::Histogram(left), holds, note: None })
            }
            _ => refused("histogram", "histogram"),
        },
        (Item::Absent, _) | (_, Item::Absent) => unreachable!("only values are operated on"),
    }
}

fn trimmed(histogram: &Arc<Histogram>, change: impl FnOnce(&mut Histogram)) -> Histogram {
    let mut result = (**histogram).clone();
    change(&mut result);
    result
}

fn changed(histogram: &Arc<Histogram>, change: impl FnOnce(&mut Histogram)) -> Histogram {
    let mut result = trimmed(histogram, change);
    result.compact();
    result
}

fn combine(op: BinaryOp, left: &Histogram, right: &Histogram, span: Span) -> Result<Outcome, Refused> {
    let mut result = left.clone();
    let (combined, combining) = match op {
        BinaryOp::Add => (result.add(right), Combining::Addition),
        _ => (result.sub(right), Combining::Subtraction),
    };
    let Ok(combined) = combined else { return Err(Refused(Note::incompatible_layout(op.as_str(), span))) };
    if combined.reset_hints_collide {
        return Err(Refused(Note::resets_collide(combining, span)));
    }
    if op == BinaryOp::Sub {
        result.reset_hint = ResetHint::Gauge;
    }
    result.compact();
    let note = combined.bounds_reconciled.then(|| Note::bounds_reconciled(combining, span));
    Ok(Outcome { item: result.into(), holds: true, note })
}

/// Whether what an operator results in is no longer what the metric's name says.
pub(super) fn changes_meaning(binary: &Binary) -> bool {
    binary.returns_bool || !(binary.op.is_comparison() || binary.op.is_trim())
}

impl Eval<'_> {
    pub fn binary(&mut self, expr: &Expr, binary: &Binary, grid: Grid) -> Result<Columns, QueryError> {
        let depth = if binary.op.is_trim() { Depth::Buckets } else { Depth::Unknown };
        let left = self.deeper(depth, |eval| eval.eval(&binary.left, grid))?;
        let right = self.deeper(depth, |eval| eval.eval(&binary.right, grid))?;
        match (left, right) {
            (Columns::Scalar(left), Columns::Scalar(right)) => {
                let pairs = left.into_iter().zip(right);
                Ok(Columns::Scalar(pairs.map(|(left, right)| of_floats(binary.op, left, right)).collect()))
            }
            (Columns::Vector(columns), Columns::Scalar(scalar)) => {
                self.with_scalar(expr, binary, columns, &scalar, false, grid)
            }
            (Columns::Scalar(scalar), Columns::Vector(columns)) => {
                self.with_scalar(expr, binary, columns, &scalar, true, grid)
            }
            (Columns::Vector(left), Columns::Vector(right)) => {
                let before = left.iter().chain(&right).map(Column::weight).sum();
                let result = match binary.op.is_set() {
                    true => set_operation(binary, left, right, grid)?,
                    false => self.matched(expr, binary, left, right, grid)?,
                };
                self.release(before);
                self.charge(result.iter().map(Column::weight).sum())?;
                Ok(Columns::Vector(result))
            }
            _ => unreachable!("the type check refuses strings"),
        }
    }

    /// A vector and a scalar, which is the left side where `is_swapped`.
    fn with_scalar(
        &mut self,
        expr: &Expr,
        binary: &Binary,
        mut columns: Vec<Column>,
        scalar: &[f64],
        is_swapped: bool,
        grid: Grid,
    ) -> Result<Columns, QueryError> {
        for column in &mut columns {
            column.drop_name |= changes_meaning(binary);
            if column.histograms.is_none() && !binary.op.is_trim() {
                float_with_scalar(binary, column, scalar, is_swapped);
                continue;
            }
            for step in (0..grid.steps).filter(|step| column.has(*step)).collect::<Vec<_>>() {
                let own = column.item(step);
                let other = Item::Float(scalar[step]);
                let (left, right) = if is_swapped { (other, own.clone()) } else { (own.clone(), other) };
                let item = match operate(binary.op, left, right, expr.span) {
                    Ok(outcome) if binary.returns_bool => Item::Float(f64::from(u8::from(outcome.holds))),
                    Ok(outcome) if !outcome.holds => Item::Absent,
                    Ok(_) if binary.op.is_comparison() => own,
                    Ok(outcome) => outcome.item,
                    Err(Refused(note)) => {
                        self.notes.add(note);
                        Item::Absent
                    }
                };
                column.set(step, item);
            }
        }
        columns.retain(|column| !column.is_empty());
        self.joined(columns, grid).map(Columns::Vector)
    }
}

/// A vector element keeps its own value in a comparison, on whichever side it stands.
fn float_with_scalar(binary: &Binary, column: &mut Column, scalar: &[f64], is_swapped: bool) {
    let op = binary.op;
    let is_filter = op.is_comparison() && !binary.returns_bool;
    column.map_floats(|step, value| {
        let (left, right) = if is_swapped { (scalar[step], value) } else { (value, scalar[step]) };
        match is_filter {
            true if holds(op, left, right) => value,
            true => super::column::absent(),
            false => of_floats(op, left, right),
        }
    });
}

pub(super) fn names<'a>(labels: &'a [String], more: &[&'a str]) -> Vec<&'a str> {
    labels.iter().map(String::as_str).chain(more.iter().copied()).collect()
}

/// The labels by which sides are matched.
pub(super) fn signature(matching: &Matching, labels: &Labels) -> Labels {
    if matching.on {
        labels.only(&names(&matching.labels, &[]))
    } else {
        labels.without(&names(&matching.labels, &[METRIC_NAME]))
    }
}

/// Per match group: at which steps any series has a value.
fn presence(matching: &Matching, columns: &[Column], steps: usize) -> HashMap<Labels, Vec<bool>> {
    let mut groups: HashMap<Labels, Vec<bool>> = HashMap::new();
    for column in columns {
        let group = groups.entry(signature(matching, &column.labels)).or_insert_with(|| vec![false; steps]);
        group.iter_mut().enumerate().for_each(|(step, present)| *present |= column.has(step));
    }
    groups
}

fn set_operation(
    binary: &Binary,
    mut left: Vec<Column>,
    mut right: Vec<Column>,
    grid: Grid,
) -> Result<Vec<Column>, QueryError> {
    let matching = &binary.matching;
    let keep_where = |columns: &mut Vec<Column>, groups: &HashMap<Labels, Vec<bool>>, wanted: bool| {
        for column in columns.iter_mut() {
            let group = groups.get(&signature(matching, &column.labels));
            for step in 0..grid.steps {
                if group.is_some_and(|group| group[step]) != wanted {
                    column.set(step, Item::Absent);
                }
            }
        }
        columns.retain(|column| !column.is_empty());
    };
    match binary.op {
        BinaryOp::And => keep_where(&mut left, &presence(matching, &right, grid.steps), true),
        BinaryOp::Unless => keep_where(&mut left, &presence(matching, &right, grid.steps), false),
        _ => {
            keep_where(&mut right, &presence(matching, &left, grid.steps), false);
            left.append(&mut right);
            return if grid.steps == 1 { Ok(left) } else { unique(left) };
        }
    }
    Ok(left)
}
