//! Binary operators: scalars, a scalar and a vector, two vectors matched by labels.

use std::collections::HashMap;

use model::{Labels, METRIC_NAME};

use super::column::{Column, Grid, absent, is_present, unique};
use super::eval::{Columns, Eval, without_name};
use crate::QueryError;
use crate::promql::{Binary, BinaryOp, Cardinality, Matching};

/// The value of an arithmetic operator, 1 or 0 for a comparison.
fn apply(op: BinaryOp, left: f64, right: f64) -> f64 {
    let truth = |holds: bool| f64::from(u8::from(holds));
    match op {
        BinaryOp::Add => left + right,
        BinaryOp::Sub => left - right,
        BinaryOp::Mul => left * right,
        BinaryOp::Div => left / right,
        BinaryOp::Mod => left % right,
        BinaryOp::Pow => left.powf(right),
        BinaryOp::Atan2 => left.atan2(right),
        BinaryOp::Equal => truth(left == right),
        BinaryOp::NotEqual => truth(left != right),
        BinaryOp::Less => truth(left < right),
        BinaryOp::LessEqual => truth(left <= right),
        BinaryOp::Greater => truth(left > right),
        BinaryOp::GreaterEqual => truth(left >= right),
        BinaryOp::Or | BinaryOp::And | BinaryOp::Unless | BinaryOp::TrimUpper | BinaryOp::TrimLower => {
            unreachable!("set operators and histogram trims have no scalar form")
        }
    }
}

/// What an operator leaves of two values: a filtering comparison keeps `kept` or nothing.
fn outcome(binary: &Binary, left: f64, right: f64, kept: f64) -> f64 {
    let value = apply(binary.op, left, right);
    match binary.op.is_comparison() && !binary.returns_bool {
        true if value == 0.0 => absent(),
        true => kept,
        false => value,
    }
}

fn keeps_name(binary: &Binary) -> bool {
    binary.op.is_comparison() && !binary.returns_bool
}

impl Eval<'_> {
    pub fn binary(&mut self, binary: &Binary, grid: Grid) -> Result<Columns, QueryError> {
        if binary.op.is_trim() {
            let message =
                format!("the operator {:?} needs native histograms, which are not stored yet", binary.op.as_str());
            return Err(QueryError::Execution(message));
        }
        let left = self.eval(&binary.left, grid)?;
        let right = self.eval(&binary.right, grid)?;
        match (left, right) {
            (Columns::Scalar(left), Columns::Scalar(right)) => {
                let pairs = left.into_iter().zip(right);
                Ok(Columns::Scalar(pairs.map(|(left, right)| apply(binary.op, left, right)).collect()))
            }
            (Columns::Vector(columns), Columns::Scalar(scalar)) => {
                with_scalar(binary, columns, |step, value| outcome(binary, value, scalar[step], value))
            }
            (Columns::Scalar(scalar), Columns::Vector(columns)) => {
                with_scalar(binary, columns, |step, value| outcome(binary, scalar[step], value, value))
            }
            (Columns::Vector(left), Columns::Vector(right)) => {
                let before = (left.len() + right.len()) * grid.steps;
                let result = match binary.op.is_set() {
                    true => set_operation(binary, left, right, grid.steps)?,
                    false => self.matched(binary, left, right, grid)?,
                };
                self.release(before);
                self.charge(result.len() * grid.steps)?;
                Ok(Columns::Vector(result))
            }
            _ => unreachable!("the type check refuses strings"),
        }
    }

    fn matched(
        &mut self,
        binary: &Binary,
        left: Vec<Column>,
        right: Vec<Column>,
        grid: Grid,
    ) -> Result<Vec<Column>, QueryError> {
        let swapped = binary.matching.cardinality == Cardinality::OneToMany;
        let (many, one) = if swapped { (right, left) } else { (left, right) };
        let mut join = Join { binary, swapped, steps: grid.steps, places: HashMap::new(), result: Vec::new() };
        let groups = grouped(&binary.matching, &one);
        if join.fill_one().is_some() || many.iter().any(|column| !column.is_empty()) {
            join.check_one_side(&groups, &one, &many)?;
        }
        for column in &many {
            self.check_room(join.result.len() * grid.steps)?;
            let partners = groups.get(&signature(&binary.matching, &column.labels)).map_or(&[][..], Vec::as_slice);
            join.pair(column, partners, &one)?;
        }
        if join.fill_many().is_some() {
            join.fill_unmatched(&one, &grouped(&binary.matching, &many), &many)?;
        }
        join.result.retain(|column| !column.is_empty());
        Ok(join.result)
    }
}

fn with_scalar(
    binary: &Binary,
    mut columns: Vec<Column>,
    compute: impl Fn(usize, f64) -> f64,
) -> Result<Columns, QueryError> {
    for column in &mut columns {
        column.map(&compute);
        if !keeps_name(binary) {
            column.labels = without_name(&column.labels);
        }
    }
    if !keeps_name(binary) {
        columns = unique(columns)?;
    }
    columns.retain(|column| !column.is_empty());
    Ok(Columns::Vector(columns))
}

fn names<'a>(labels: &'a [String], more: &[&'a str]) -> Vec<&'a str> {
    labels.iter().map(String::as_str).chain(more.iter().copied()).collect()
}

/// The labels by which sides are matched.
fn signature(matching: &Matching, labels: &Labels) -> Labels {
    if matching.on {
        labels.only(&names(&matching.labels, &[]))
    } else {
        labels.without(&names(&matching.labels, &[METRIC_NAME]))
    }
}

fn grouped(matching: &Matching, columns: &[Column]) -> HashMap<Labels, Vec<usize>> {
    let mut groups: HashMap<Labels, Vec<usize>> = HashMap::with_capacity(columns.len());
    for (i, column) in columns.iter().enumerate() {
        groups.entry(signature(matching, &column.labels)).or_default().push(i);
    }
    groups
}

/// One arithmetic or comparison between two vectors in the making. `many` is the left side unless swapped by
/// `group_right`; one-to-one treats it as many and refuses the second match.
struct Join<'a> {
    binary: &'a Binary,
    swapped: bool,
    steps: usize,
    places: HashMap<Labels, usize>,
    result: Vec<Column>,
}

impl Join<'_> {
    fn fill_one(&self) -> Option<f64> {
        let fill = self.binary.matching.fill;
        if self.swapped { fill.left } else { fill.right }
    }

    fn fill_many(&self) -> Option<f64> {
        let fill = self.binary.matching.fill;
        if self.swapped { fill.right } else { fill.left }
    }

    /// On the one side no two series of a group may have a value at the same step.
    fn check_one_side(
        &self,
        groups: &HashMap<Labels, Vec<usize>>,
        one: &[Column],
        many: &[Column],
    ) -> Result<(), QueryError> {
        let mut checked_steps: Option<Vec<bool>> = None;
        for (labels, members) in groups.iter().filter(|(_, members)| members.len() > 1) {
            let matters = checked_steps.get_or_insert_with(|| {
                let any = |step: usize| many.iter().any(|column| is_present(column.values[step]));
                (0..self.steps).map(any).collect()
            });
            for step in (0..self.steps).filter(|step| matters[*step]) {
                let mut present = members.iter().filter(|i| is_present(one[**i].values[step]));
                if let (Some(first), Some(second)) = (present.next(), present.next()) {
                    let side = if self.swapped { "left" } else { "right" };
                    return Err(QueryError::Execution(format!(
                        "found duplicate series for the match group {labels} on the {side} hand-side of the operation: \
                         [{}, {}];many-to-many matching not allowed: matching labels must be unique on one side",
                        one[*second].labels, one[*first].labels
                    )));
                }
            }
        }
        Ok(())
    }

    fn pair(&mut self, column: &Column, partners: &[usize], one: &[Column]) -> Result<(), QueryError> {
        for partner in partners {
            let partner = &one[*partner];
            let place = self.place(self.labels(&column.labels, Some(&partner.labels)));
            for step in 0..self.steps {
                let (many, one) = (column.values[step], partner.values[step]);
                if is_present(many) && is_present(one) {
                    self.put(place, step, many, one)?;
                }
            }
        }
        let Some(fill) = self.fill_one() else { return Ok(()) };
        let place = self.place(self.labels(&column.labels, None));
        for step in 0..self.steps {
            let unmatched = partners.iter().all(|i| !is_present(one[*i].values[step]));
            if is_present(column.values[step]) && unmatched {
                self.put(place, step, column.values[step], fill)?;
            }
        }
        Ok(())
    }

    /// What is only on the one side meets the fill value.
    fn fill_unmatched(
        &mut self,
        one: &[Column],
        groups: &HashMap<Labels, Vec<usize>>,
        many: &[Column],
    ) -> Result<(), QueryError> {
        let Some(fill) = self.fill_many() else { return Ok(()) };
        for column in one {
            let key = signature(&self.binary.matching, &column.labels);
            let partners = groups.get(&key).map_or(&[][..], Vec::as_slice);
            let place = self.place(self.labels(&key, Some(&column.labels)));
            for step in 0..self.steps {
                let unmatched = partners.iter().all(|i| !is_present(many[*i].values[step]));
                if is_present(column.values[step]) && unmatched {
                    self.put(place, step, fill, column.values[step])?;
                }
            }
        }
        Ok(())
    }

    /// The labels of a result.
    fn labels(&self, many: &Labels, one: Option<&Labels>) -> Labels {
        let matching = &self.binary.matching;
        let base = if keeps_name(self.binary) { many.clone() } else { without_name(many) };
        if matching.cardinality == Cardinality::OneToOne {
            let listed = names(&matching.labels, &[]);
            return if matching.on { base.only(&listed) } else { base.without(&listed) };
        }
        let mut builder = base.to_builder();
        for name in &matching.include {
            builder.set(name.as_str(), one.and_then(|labels| labels.get(name)).unwrap_or(""));
        }
        builder.build()
    }

    fn place(&mut self, labels: Labels) -> usize {
        if let Some(place) = self.places.get(&labels) {
            return *place;
        }
        self.places.insert(labels.clone(), self.result.len());
        self.result.push(Column::empty(labels, self.steps));
        self.result.len() - 1
    }

    fn put(&mut self, place: usize, step: usize, many: f64, one: f64) -> Result<(), QueryError> {
        let (left, right) = if self.swapped { (one, many) } else { (many, one) };
        let value = outcome(self.binary, left, right, left);
        if !is_present(value) {
            return Ok(());
        }
        let slot = &mut self.result[place].values[step];
        if is_present(*slot) {
            return Err(QueryError::Execution(
                match self.binary.matching.cardinality {
                    Cardinality::OneToOne => {
                        "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"
                    }
                    _ => "multiple matches for labels: grouping labels must ensure unique matches",
                }
                .to_owned(),
            ));
        }
        *slot = value;
        Ok(())
    }
}

/// Per match group: at which steps any series has a value.
fn presence(matching: &Matching, columns: &[Column], steps: usize) -> HashMap<Labels, Vec<bool>> {
    let mut groups: HashMap<Labels, Vec<bool>> = HashMap::new();
    for column in columns {
        let group = groups.entry(signature(matching, &column.labels)).or_insert_with(|| vec![false; steps]);
        for (present, value) in group.iter_mut().zip(&column.values) {
            *present |= is_present(*value);
        }
    }
    groups
}

fn set_operation(
    binary: &Binary,
    mut left: Vec<Column>,
    mut right: Vec<Column>,
    steps: usize,
) -> Result<Vec<Column>, QueryError> {
    let matching = &binary.matching;
    let keep_where = |columns: &mut Vec<Column>, groups: &HashMap<Labels, Vec<bool>>, wanted: bool| {
        for column in columns.iter_mut() {
            let group = groups.get(&signature(matching, &column.labels));
            for (step, value) in column.values.iter_mut().enumerate() {
                if group.is_some_and(|group| group[step]) != wanted {
                    *value = absent();
                }
            }
        }
        columns.retain(|column| !column.is_empty());
    };
    match binary.op {
        BinaryOp::And => keep_where(&mut left, &presence(matching, &right, steps), true),
        BinaryOp::Unless => keep_where(&mut left, &presence(matching, &right, steps), false),
        _ => {
            keep_where(&mut right, &presence(matching, &left, steps), false);
            left.append(&mut right);
            return unique(left);
        }
    }
    Ok(left)
}
