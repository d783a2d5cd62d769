//! Arithmetic and comparisons between two vectors, whose series find each other by labels.
//!
//! `many` is the left side unless swapped by `group_right`; one-to-one treats it as many and refuses the second match.

use std::collections::{BTreeMap, HashMap};

use model::Labels;

use super::binary::{Refused, changes_meaning, names, of_floats, operate, signature};
use super::column::{Column, Grid, Item, is_present};
use super::eval::{Eval, METADATA};
use super::notes::Note;
use crate::promql::{Binary, Cardinality, Expr, Matching};
use crate::{QueryError, Span};

/// The columns of both sides that share a signature.
struct Group {
    signature: Labels,
    many: Vec<usize>,
    one: Vec<usize>,
}

fn grouped(matching: &Matching, many: &[Column], one: &[Column]) -> Vec<Group> {
    let mut places: HashMap<Labels, usize> = HashMap::with_capacity(many.len());
    let mut groups: Vec<Group> = Vec::new();
    for (side, columns) in [many, one].into_iter().enumerate() {
        for (i, column) in columns.iter().enumerate() {
            let signature = signature(matching, &column.labels);
            let place = *places.entry(signature).or_insert_with_key(|signature| {
                groups.push(Group { signature: signature.clone(), many: Vec::new(), one: Vec::new() });
                groups.len() - 1
            });
            let members = if side == 0 { &mut groups[place].many } else { &mut groups[place].one };
            members.push(i);
        }
    }
    groups
}

impl Eval<'_> {
    pub fn matched(
        &mut self,
        expr: &Expr,
        binary: &Binary,
        left: Vec<Column>,
        right: Vec<Column>,
        grid: Grid,
    ) -> Result<Vec<Column>, QueryError> {
        let swapped = binary.matching.cardinality == Cardinality::OneToMany;
        let (many, one) = if swapped { (right, left) } else { (left, right) };
        let groups = grouped(&binary.matching, &many, &one);
        let mut join = Join::new(binary, swapped, &many, &one, grid, expr.span);
        join.check_one_side(&groups)?;
        for group in &groups {
            self.check_room(join.result.len() * grid.steps)?;
            join.group(group)?;
        }
        let Join { notes, mut result, .. } = join;
        notes.into_values().for_each(|(_, note)| self.notes.add(note));
        result.retain(|column| !column.is_empty());
        Ok(result)
    }
}

struct Join<'a> {
    binary: &'a Binary,
    swapped: bool,
    many: &'a [Column],
    one: &'a [Column],
    grid: Grid,
    span: Span,
    places: HashMap<Labels, usize>,
    result: Vec<Column>,
    /// Of each step the last, by the place of its series on the many side.
    notes: BTreeMap<usize, (usize, Note)>,
}

/// What is already decided within a group.
#[derive(Default)]
struct Decided {
    /// Steps at which a pair of the group was matched.
    matched: Vec<bool>,
    /// The same per result, where several series of the many side may come to the same labels.
    by_place: HashMap<usize, Vec<bool>>,
}

impl<'a> Join<'a> {
    fn new(
        binary: &'a Binary,
        swapped: bool,
        many: &'a [Column],
        one: &'a [Column],
        grid: Grid,
        span: Span,
    ) -> Join<'a> {
        let (places, result, notes) = Default::default();
        Join { binary, swapped, many, one, grid, span, places, result, notes }
    }

    /// What stands in for a missing series on the one side. With `group_right` Prometheus swaps the sides but not the fill
    /// values: `fill_right` then fills the left side.
    fn fill_one(&self) -> Option<f64> {
        self.binary.matching.fill.right
    }

    fn fill_many(&self) -> Option<f64> {
        self.binary.matching.fill.left
    }

    /// On the one side no two series of a group may have a value at the same step, at which there is anything to match.
    fn check_one_side(&self, groups: &[Group]) -> Result<(), QueryError> {
        let fills = self.fill_one().is_some() || self.fill_many().is_some();
        let mut matters: Option<Vec<bool>> = None;
        for group in groups.iter().filter(|group| group.one.len() > 1) {
            let matters = matters.get_or_insert_with(|| {
                let any = |step: usize| fills || self.many.iter().any(|column| column.has(step));
                (0..self.grid.steps).map(any).collect()
            });
            for step in (0..self.grid.steps).filter(|step| matters[*step]) {
                let mut present = group.one.iter().filter(|i| self.one[**i].has(step));
                if let (Some(first), Some(second)) = (present.next(), present.next()) {
                    let side = if self.swapped { "left" } else { "right" };
                    return Err(QueryError::Execution(format!(
                        "found duplicate series for the match group {} on the {side} hand-side of the operation: \
                         [{}, {}];many-to-many matching not allowed: matching labels must be unique on one side",
                        group.signature, self.one[*second].labels, self.one[*first].labels
                    )));
                }
            }
        }
        Ok(())
    }

    fn group(&mut self, group: &Group) -> Result<(), QueryError> {
        let (many, one, steps) = (self.many, self.one, self.grid.steps);
        let mut decided = Decided { matched: vec![false; steps], ..Decided::default() };
        let has_rivals = group.many.len() > 1;
        for i in &group.many {
            let column = &many[*i];
            for partner in group.one.iter().map(|partner| &one[*partner]) {
                let known = self.result.len();
                let place = self.place(self.labels(&column.labels, &partner.labels), column.drop_name);
                if place == known && self.is_plain(column, partner) {
                    self.put_floats(place, &column.values, &partner.values, &mut decided);
                    continue;
                }
                for step in (0..steps).filter(|step| column.has(*step) && partner.has(*step)) {
                    let pair = (column.item(step), partner.item(step));
                    self.put(*i, place, step, pair, has_rivals, &mut decided)?;
                }
            }
            let Some(fill) = self.fill_one() else { continue };
            let alone = |step: &usize| column.has(*step) && !group.one.iter().any(|i| one[*i].has(*step));
            let place = self.place(self.labels(&column.labels, &group.signature), column.drop_name);
            for step in (0..steps).filter(alone) {
                let pair = (column.item(step), Item::Float(fill));
                self.put(*i, place, step, pair, has_rivals, &mut decided)?;
            }
        }
        let Some(fill) = self.fill_many() else { return Ok(()) };
        for (i, column) in group.one.iter().map(|i| (*i, &one[*i])) {
            let place = self.place(self.labels(&group.signature, &column.labels), column.drop_name);
            for step in (0..steps).filter(|step| column.has(*step)) {
                if !decided.matched[step] {
                    let pair = (Item::Float(fill), column.item(step));
                    self.put(many.len() + i, place, step, pair, false, &mut Decided::default())?;
                }
            }
        }
        Ok(())
    }

    /// The labels of a result.
    fn labels(&self, many: &Labels, one: &Labels) -> Labels {
        let matching = &self.binary.matching;
        let is_arithmetic = !self.binary.op.is_comparison() && !self.binary.op.is_trim();
        let base = if is_arithmetic { many.without(&METADATA) } else { many.clone() };
        let base = match matching.cardinality {
            Cardinality::OneToOne if matching.on => base.only(&names(&matching.labels, &[])),
            Cardinality::OneToOne => base.without(&names(&matching.labels, &[])),
            _ => base,
        };
        if matching.include.is_empty() {
            return base;
        }
        let mut builder = base.to_builder();
        for name in &matching.include {
            builder.set(name.as_str(), one.get(name).unwrap_or(""));
        }
        builder.build()
    }

    fn place(&mut self, labels: Labels, drop_name: bool) -> usize {
        if let Some(place) = self.places.get(&labels) {
            return *place;
        }
        self.places.insert(labels.clone(), self.result.len());
        let drop_name = drop_name || changes_meaning(self.binary);
        self.result.push(Column { drop_name, ..Column::empty(labels, self.grid.steps) });
        self.result.len() - 1
    }

    /// Whether every pair of values has a result and nothing to note; and rivals are told by their labels.
    fn is_plain(&self, column: &Column, partner: &Column) -> bool {
        let op = self.binary.op;
        !(op.is_comparison() || op.is_trim())
            && self.binary.matching.cardinality != Cardinality::OneToOne
            && column.histograms.is_none()
            && partner.histograms.is_none()
    }

    /// As [`Join::put`] for all steps of a result that nothing was put into yet.
    fn put_floats(&mut self, place: usize, many: &[f64], one: &[f64], decided: &mut Decided) {
        let op = self.binary.op;
        let seen = decided.by_place.entry(place).or_insert_with(|| vec![false; many.len()]);
        let result = &mut self.result[place].values;
        for (step, (many, one)) in many.iter().zip(one).enumerate() {
            if is_present(*many) && is_present(*one) {
                let (left, right) = if self.swapped { (*one, *many) } else { (*many, *one) };
                result[step] = of_floats(op, left, right);
                decided.matched[step] = true;
                seen[step] = true;
            }
        }
    }

    fn put(
        &mut self,
        i: usize,
        place: usize,
        step: usize,
        (many, one): (Item, Item),
        has_rivals: bool,
        decided: &mut Decided,
    ) -> Result<(), QueryError> {
        let (left, right) = if self.swapped { (one, many) } else { (many, one) };
        let outcome = match operate(self.binary.op, left, right, self.span) {
            Ok(outcome) => outcome,
            Err(Refused(note)) => {
                self.note(i, step, note);
                return Ok(());
            }
        };
        if let Some(note) = outcome.note {
            self.note(i, step, note);
        }
        if has_rivals {
            self.check_rivals(place, step, decided)?;
        }
        if let Some(matched) = decided.matched.get_mut(step) {
            *matched = true;
        }
        let item = match self.binary.returns_bool {
            true => Item::Float(f64::from(u8::from(outcome.holds))),
            false if !outcome.holds => return Ok(()),
            false => outcome.item,
        };
        if self.result[place].has(step) {
            let message = "vector cannot contain metrics with the same labelset";
            return Err(QueryError::Execution(message.to_owned()));
        }
        self.result[place].set(step, item);
        Ok(())
    }

    fn check_rivals(&self, place: usize, step: usize, decided: &mut Decided) -> Result<(), QueryError> {
        let failed = |message: &str| Err(QueryError::Execution(format!("multiple matches for labels: {message}")));
        if self.binary.matching.cardinality == Cardinality::OneToOne {
            if decided.matched[step] {
                return failed("many-to-one matching must be explicit (group_left/group_right)");
            }
            return Ok(());
        }
        let steps = self.grid.steps;
        let seen = &mut decided.by_place.entry(place).or_insert_with(|| vec![false; steps])[step];
        if std::mem::replace(seen, true) {
            return failed("grouping labels must ensure unique matches");
        }
        Ok(())
    }

    fn note(&mut self, i: usize, step: usize, note: Note) {
        match self.notes.get(&step) {
            Some((later, _)) if *later > i => {}
            _ => drop(self.notes.insert(step, (i, note))),
        }
    }
}
