//! Aggregations. Those that need only running totals fold each column as it arrives; the others keep their group's columns.

use std::collections::HashMap;

use model::{Labels, METRIC_NAME};

use super::column::{Column, Grid, Item, absent, is_present};
use super::eval::Eval;
use super::math::{KahanSum, Mean};
use super::notes::{Combining, Note, Notes};
use super::over_time::HistogramTotal;
use super::room::too_many_samples;
use crate::promql::{Aggregate, AggregateOp, Expr, Grouping};
use crate::{QueryError, Span};

/// Running totals of one group's floats, per step.
enum Totals {
    /// The only member so far, for the operators that give back a single value as it is; empty while there is none.
    Single(Vec<f64>),
    Means(Vec<Mean>),
    /// What `a` and `b` mean depends on the operator.
    Pairs {
        count: Vec<u32>,
        a: Vec<f64>,
        b: Vec<f64>,
    },
}

impl Totals {
    fn new(op: AggregateOp, steps: usize) -> Totals {
        match op {
            AggregateOp::Avg => Totals::Means(vec![Mean::default(); steps]),
            _ => Totals::Pairs { count: vec![0; steps], a: vec![0.0; steps], b: vec![0.0; steps] },
        }
    }

    /// Adds one member.
    fn add_member(&mut self, op: AggregateOp, values: Vec<f64>) {
        if let Totals::Single(first) = self {
            let gives_back = matches!(op, AggregateOp::Sum | AggregateOp::Avg | AggregateOp::Min | AggregateOp::Max);
            if first.is_empty() && gives_back {
                *first = values;
                return;
            }
            let first = std::mem::take(first);
            *self = Totals::new(op, values.len());
            self.add_all(op, &first);
        }
        self.add_all(op, &values);
    }

    /// Adds the values that are there.
    fn add_all(&mut self, op: AggregateOp, values: &[f64]) {
        let Totals::Pairs { count, a, b } = self else {
            return values.iter().enumerate().for_each(|(step, value)| self.add(op, step, *value));
        };
        // The commonest have loops of their own, for speed.
        match op {
            AggregateOp::Sum => {
                for (((count, a), b), value) in count.iter_mut().zip(a).zip(b).zip(values) {
                    if is_present(*value) {
                        let mut total = KahanSum { sum: *a, lost: *b };
                        total.add(*value);
                        (*count, *a, *b) = (*count + 1, total.sum, total.lost);
                    }
                }
            }
            AggregateOp::Count | AggregateOp::Group => {
                count.iter_mut().zip(values).for_each(|(count, value)| *count += u32::from(is_present(*value)));
            }
            _ => values.iter().enumerate().for_each(|(step, value)| self.add(op, step, *value)),
        }
    }

    fn add(&mut self, op: AggregateOp, step: usize, value: f64) {
        if !is_present(value) {
            return;
        }
        let (count, a, b) = match self {
            Totals::Single(_) => unreachable!("what is added to has room"),
            Totals::Means(means) => return means[step].add(value),
            Totals::Pairs { count, a, b } => (&mut count[step], &mut a[step], &mut b[step]),
        };
        *count += 1;
        match op {
            AggregateOp::Min if *count == 1 || value < *a || a.is_nan() => *a = value,
            AggregateOp::Max if *count == 1 || value > *a || a.is_nan() => *a = value,
            // Welford: `a` is the mean so far, `b` the sum of squared deviations.
            AggregateOp::Stddev | AggregateOp::Stdvar => {
                let deviation = value - *a;
                *a += deviation / f64::from(*count);
                *b += deviation * (value - *a);
            }
            _ => {}
        }
    }

    fn has(&self, step: usize) -> bool {
        match self {
            Totals::Single(values) => is_present(values[step]),
            Totals::Means(means) => means[step].count > 0.0,
            Totals::Pairs { count, .. } => count[step] > 0,
        }
    }

    fn result(&self, op: AggregateOp, step: usize) -> f64 {
        let (count, a, b) = match self {
            Totals::Single(values) if matches!(op, AggregateOp::Sum | AggregateOp::Avg) => {
                return from_zero(values[step]);
            }
            Totals::Single(values) => return values[step],
            Totals::Means(means) => return means[step].result(),
            Totals::Pairs { count, a, b } => (f64::from(count[step]), a[step], b[step]),
        };
        match op {
            AggregateOp::Sum => a + b,
            AggregateOp::Count => count,
            AggregateOp::Group => 1.0,
            AggregateOp::Stddev => (b / count).sqrt(),
            AggregateOp::Stdvar => b / count,
            _ => a,
        }
    }

    fn into_values(mut self, op: AggregateOp, steps: usize) -> Vec<f64> {
        if let Totals::Single(values) = &mut self {
            if matches!(op, AggregateOp::Sum | AggregateOp::Avg) {
                values.iter_mut().filter(|value| is_present(**value)).for_each(|value| *value = from_zero(*value));
            }
            return std::mem::take(values);
        }
        (0..steps).map(|step| if self.has(step) { self.result(op, step) } else { absent() }).collect()
    }
}

/// A sum of one value begins at zero all the same: it is never -0.
fn from_zero(value: f64) -> f64 {
    value + 0.0
}

/// The histograms of one group at one step.
#[derive(Default)]
struct HistogramFold {
    total: HistogramTotal,
    /// Two did not go together.
    is_broken: bool,
}

struct Fold {
    labels: Labels,
    drop_name: bool,
    floats: Totals,
    histograms: Option<Vec<Option<Box<HistogramFold>>>>,
}

impl Fold {
    fn add(&mut self, op: AggregateOp, mut column: Column, span: Span, notes: &mut Notes) {
        self.drop_name |= column.drop_name;
        self.floats.add_member(op, std::mem::take(&mut column.values));
        for (step, histogram) in column.histograms.iter().flatten().enumerate() {
            let Some(histogram) = histogram else { continue };
            match op {
                AggregateOp::Count | AggregateOp::Group => self.floats.add(op, step, 0.0),
                AggregateOp::Sum | AggregateOp::Avg => {
                    let steps = column.histograms.as_ref().map_or(0, Vec::len);
                    let folds = self.histograms.get_or_insert_with(|| (0..steps).map(|_| None).collect());
                    let fold = folds[step].get_or_insert_default();
                    if !fold.is_broken && !fold.total.add(histogram, op == AggregateOp::Avg) {
                        notes.add(Note::mixed_schemas(column.labels.metric_name().unwrap_or(""), span));
                        fold.is_broken = true;
                    }
                }
                _ => notes.add(Note::ignored_in_aggregation(op.as_str(), span)),
            }
        }
    }

    fn finish(mut self, op: AggregateOp, steps: usize, span: Span, notes: &mut Notes) -> Column {
        if self.histograms.is_none() {
            let values = self.floats.into_values(op, steps);
            return Column { drop_name: self.drop_name, ..Column::of_floats(self.labels, values) };
        }
        let mut column = Column { drop_name: self.drop_name, ..Column::empty(self.labels, steps) };
        for step in 0..steps {
            let histogram = self.histograms.as_mut().and_then(|folds| folds[step].take());
            let item = match (self.floats.has(step), histogram) {
                (true, None) => Item::Float(self.floats.result(op, step)),
                (false, Some(fold)) => finish_histograms(*fold, op, span, notes),
                (true, Some(_)) => {
                    notes.add(Note::mixed_kinds_in_aggregation(span));
                    Item::Absent
                }
                (false, None) => Item::Absent,
            };
            match item {
                Item::Float(value) => column.values[step] = value,
                item => column.set(step, item),
            }
        }
        column
    }
}

fn finish_histograms(fold: HistogramFold, op: AggregateOp, span: Span, notes: &mut Notes) -> Item {
    if fold.total.was_reconciled {
        notes.add(Note::bounds_reconciled(Combining::Aggregation, span));
    }
    if fold.is_broken {
        return Item::Absent;
    }
    if fold.total.hints_collide() {
        notes.add(Note::resets_collide(Combining::Aggregation, span));
    }
    let result = fold.total.result(op == AggregateOp::Avg);
    result.map_or(Item::Absent, |mut histogram| {
        histogram.compact();
        histogram.into()
    })
}

pub(super) fn group_key(grouping: &Grouping, labels: &Labels) -> Labels {
    if !grouping.without && grouping.labels.is_empty() {
        return Labels::default();
    }
    let mut names: Vec<&str> = grouping.labels.iter().map(String::as_str).collect();
    if grouping.without {
        names.push(METRIC_NAME);
        labels.without(&names)
    } else {
        labels.only(&names)
    }
}

/// Members of groups, in the order in which the groups were first seen.
pub(super) fn place_of(places: &mut HashMap<Labels, usize>, key: Labels) -> usize {
    let next = places.len();
    *places.entry(key).or_insert(next)
}

impl Eval<'_> {
    pub fn aggregate(&mut self, expr: &Expr, aggregate: &Aggregate, grid: Grid) -> Result<Vec<Column>, QueryError> {
        match &aggregate.param {
            Some(param) if aggregate.op == AggregateOp::CountValues => self.count_values(aggregate, param, grid),
            Some(param) => self.ranked(expr, aggregate, param, grid),
            None => self.folded(aggregate, grid),
        }
    }

    fn folded(&mut self, aggregate: &Aggregate, grid: Grid) -> Result<Vec<Column>, QueryError> {
        let (op, span) = (aggregate.op, aggregate.operand.unwrapped().span);
        let (mut places, mut folds): (HashMap<Labels, usize>, Vec<Fold>) = Default::default();
        let room = self.engine.max_samples / grid.steps.max(1);
        let mut notes = Notes::default();
        self.stream(&aggregate.operand, grid, &mut |column| {
            let key = group_key(&aggregate.grouping, &column.labels);
            let place = place_of(&mut places, key.clone());
            if place == folds.len() {
                if place >= room {
                    return Err(too_many_samples());
                }
                let floats = Totals::Single(Vec::new());
                folds.push(Fold { labels: key, drop_name: false, floats, histograms: None });
            }
            folds[place].add(op, column, span, &mut notes);
            Ok(())
        })?;
        self.notes.append(notes);
        self.charge(folds.len() * grid.steps)?;
        let finish = |fold: Fold| fold.finish(op, grid.steps, span, &mut self.notes);
        let mut columns: Vec<Column> = folds.into_iter().map(finish).collect();
        columns.retain(|column| !column.is_empty());
        columns.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(columns)
    }

    fn count_values(&mut self, aggregate: &Aggregate, param: &Expr, grid: Grid) -> Result<Vec<Column>, QueryError> {
        let label = self.text(param, grid)?;
        if label.is_empty() {
            return Err(QueryError::Execution("invalid label name \"\"".to_owned()));
        }
        let mut grouping = aggregate.grouping.clone();
        if !grouping.without {
            grouping.labels.push(label.clone());
        }
        let columns = self.vector(&aggregate.operand, grid)?;
        let (mut places, mut counts): (HashMap<Labels, usize>, Vec<Column>) = Default::default();
        for column in columns {
            for step in 0..grid.steps {
                let text = match column.item(step) {
                    Item::Absent => continue,
                    Item::Float(value) => plain_number(value),
                    Item::Histogram(histogram) => histogram.to_string(),
                };
                let labels = group_key(&grouping, &column.labels.with(&label, &text));
                let place = place_of(&mut places, labels.clone());
                if place == counts.len() {
                    self.charge(grid.steps)?;
                    counts.push(Column::of_floats(labels, vec![absent(); grid.steps]));
                }
                let slot = &mut counts[place].values[step];
                *slot = if is_present(*slot) { *slot + 1.0 } else { 1.0 };
            }
        }
        counts.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(counts)
    }
}

/// All digits, never an exponent.
fn plain_number(value: f64) -> String {
    if value.is_finite() { format!("{value}") } else { crate::literal::format_number(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One member alone gives what it gives beside another that is absent.
    fn check(op: AggregateOp, values: &[f64]) {
        let mut single = Totals::Single(Vec::new());
        single.add_member(op, values.to_vec());
        let mut one_of_two = Totals::new(op, values.len());
        one_of_two.add_all(op, values);
        one_of_two.add_all(op, &vec![absent(); values.len()]);
        let bits = |values: Vec<f64>| values.into_iter().map(f64::to_bits).collect::<Vec<_>>();
        let by_step = (0..values.len()).filter(|step| single.has(*step)).map(|step| single.result(op, step)).collect();
        let present = one_of_two.into_values(op, values.len());
        assert_eq!(bits(by_step), bits(present.iter().copied().filter(|value| is_present(*value)).collect()), "{op:?}");
        assert_eq!(bits(single.into_values(op, values.len())), bits(present), "{op:?}");
    }

    #[test]
    fn a_group_of_one_is_a_group() {
        for op in [AggregateOp::Sum, AggregateOp::Avg, AggregateOp::Min, AggregateOp::Max, AggregateOp::Stdvar] {
            check(op, &[1.5, absent(), -0.0, f64::INFINITY, f64::NEG_INFINITY]);
        }
    }
}
