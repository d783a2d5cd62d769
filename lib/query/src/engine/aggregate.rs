//! Aggregations. Those that need only running totals fold each column as it arrives; the others keep their group's columns.

use std::collections::HashMap;

use model::{Labels, METRIC_NAME};

use super::column::{Column, Grid, absent, is_present, or_absent, unique};
use super::eval::{Columns, Eval};
use super::math::{KahanSum, MEAN_SCALE, quantile};
use crate::QueryError;
use crate::promql::{Aggregate, AggregateOp, Expr, Grouping};

/// Running totals of one group, per step. What `a` and `b` mean depends on the operator.
struct Fold {
    count: Vec<u32>,
    a: Vec<f64>,
    b: Vec<f64>,
}

impl Fold {
    fn new(steps: usize) -> Fold {
        Fold { count: vec![0; steps], a: vec![0.0; steps], b: vec![0.0; steps] }
    }

    fn add(&mut self, op: AggregateOp, step: usize, value: f64) {
        self.count[step] += 1;
        let (a, b) = (&mut self.a[step], &mut self.b[step]);
        match op {
            AggregateOp::Sum | AggregateOp::Avg => {
                let mut total = KahanSum { sum: *a, lost: *b };
                total.add(if op == AggregateOp::Avg { value * MEAN_SCALE } else { value });
                (*a, *b) = (total.sum, total.lost);
            }
            AggregateOp::Min if self.count[step] == 1 || value < *a || a.is_nan() => *a = value,
            AggregateOp::Max if self.count[step] == 1 || value > *a || a.is_nan() => *a = value,
            // Welford: `a` is the mean so far, `b` the sum of squared deviations.
            AggregateOp::Stddev | AggregateOp::Stdvar => {
                let deviation = value - *a;
                *a += deviation / f64::from(self.count[step]);
                *b += deviation * (value - *a);
            }
            _ => {}
        }
    }

    fn result(&self, op: AggregateOp, step: usize) -> f64 {
        let (a, b, count) = (self.a[step], self.b[step], f64::from(self.count[step]));
        let total = KahanSum { sum: a, lost: b }.total();
        match op {
            _ if self.count[step] == 0 => absent(),
            AggregateOp::Sum => total,
            AggregateOp::Avg => total / count / MEAN_SCALE,
            AggregateOp::Count => count,
            AggregateOp::Group => 1.0,
            AggregateOp::Stddev => (b / count).sqrt(),
            AggregateOp::Stdvar => b / count,
            _ => a,
        }
    }
}

fn group_key(grouping: &Grouping, labels: &Labels) -> Labels {
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
fn place_of(places: &mut HashMap<Labels, usize>, key: Labels) -> usize {
    let next = places.len();
    *places.entry(key).or_insert(next)
}

impl Eval<'_> {
    pub fn aggregate(&mut self, aggregate: &Aggregate, grid: Grid) -> Result<Vec<Column>, QueryError> {
        if let (AggregateOp::CountValues, Some(param)) = (aggregate.op, &aggregate.param) {
            return self.count_values(aggregate, param, grid);
        }
        match &aggregate.param {
            Some(param) => self.ranked(aggregate, param, grid),
            None => self.folded(aggregate, grid),
        }
    }

    fn folded(&mut self, aggregate: &Aggregate, grid: Grid) -> Result<Vec<Column>, QueryError> {
        let op = aggregate.op;
        let (mut places, mut folds): (HashMap<Labels, usize>, Vec<Fold>) = Default::default();
        let room = self.engine.max_samples / grid.steps.max(1);
        self.stream(&aggregate.operand, grid, &mut |column| {
            let place = place_of(&mut places, group_key(&aggregate.grouping, &column.labels));
            if place == folds.len() {
                if place >= room {
                    return Err(QueryError::Limit("load too many samples into memory in query execution".to_owned()));
                }
                folds.push(Fold::new(grid.steps));
            }
            for (step, value) in column.values.into_iter().enumerate() {
                if is_present(value) {
                    folds[place].add(op, step, value);
                }
            }
            Ok(())
        })?;
        self.charge(folds.len() * grid.steps)?;
        let mut columns: Vec<Column> = places
            .into_iter()
            .map(|(labels, place)| {
                let values = (0..grid.steps).map(|step| folds[place].result(op, step)).collect();
                Column { labels, values }
            })
            .collect();
        columns.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(columns)
    }

    fn ranked(&mut self, aggregate: &Aggregate, param: &Expr, grid: Grid) -> Result<Vec<Column>, QueryError> {
        let params = self.scalar(param, grid)?;
        self.check_param(aggregate, param, &params)?;
        let columns = self.vector(&aggregate.operand, grid)?;
        let mut places = HashMap::new();
        let mut groups: Vec<(Labels, Vec<Column>)> = Vec::new();
        for column in columns {
            let key = group_key(&aggregate.grouping, &column.labels);
            let place = place_of(&mut places, key.clone());
            if place == groups.len() {
                groups.push((key, Vec::new()));
            }
            groups[place].1.push(column);
        }
        groups.sort_by(|a, b| a.0.cmp(&b.0));
        let mut result = Vec::new();
        for (key, members) in groups {
            self.check_room(0)?;
            match aggregate.op {
                AggregateOp::Quantile => result.push(quantiles(key, &members, &params)),
                op => result.extend(chosen(op, members, &params)),
            }
        }
        Ok(result)
    }

    fn check_param(&mut self, aggregate: &Aggregate, param: &Expr, params: &[f64]) -> Result<(), QueryError> {
        match aggregate.op {
            AggregateOp::Quantile => self.check_quantiles(params, param),
            AggregateOp::LimitRatio => {
                if params.iter().any(|ratio| ratio.is_nan()) {
                    return Err(QueryError::Execution("ratio value is NaN".to_owned()));
                }
                if let Some(wrong) = params.iter().find(|ratio| !(-1.0..=1.0).contains(*ratio)) {
                    let (wrong, capped) = (*wrong, wrong.clamp(-1.0, 1.0));
                    let message = format!("ratio value should be between -1 and 1, got {wrong}, capping to {capped}");
                    self.warn(&message, param.span);
                }
            }
            _ => {
                if let Some(wrong) = params.iter().find(|k| k.is_nan() || **k >= 9.2e18) {
                    let message = format!("Parameter value {wrong} is NaN or overflows int64");
                    return Err(QueryError::Execution(message));
                }
            }
        }
        Ok(())
    }

    fn count_values(&mut self, aggregate: &Aggregate, param: &Expr, grid: Grid) -> Result<Vec<Column>, QueryError> {
        let Columns::Text(label) = self.eval(param, grid)? else { unreachable!("the type check saw a string") };
        if label.is_empty() {
            return Err(QueryError::Execution(format!("invalid label name {label:?}")));
        }
        let columns = self.vector(&aggregate.operand, grid)?;
        let (mut places, mut counts): (HashMap<Labels, usize>, Vec<Column>) = Default::default();
        let mut texts: HashMap<u64, String> = HashMap::new();
        for column in columns {
            let key = group_key(&aggregate.grouping, &column.labels);
            for (step, value) in column.values.iter().enumerate().filter(|(_, value)| is_present(**value)) {
                let text = texts.entry(value.to_bits()).or_insert_with(|| plain_number(*value));
                let labels = key.with(&label, text);
                let place = place_of(&mut places, labels.clone());
                if place == counts.len() {
                    self.charge(grid.steps)?;
                    counts.push(Column::empty(labels, grid.steps));
                }
                let slot = &mut counts[place].values[step];
                *slot = if is_present(*slot) { *slot + 1.0 } else { 1.0 };
            }
        }
        counts.sort_by(|a, b| a.labels.cmp(&b.labels));
        unique(counts)
    }
}

/// All digits, never an exponent.
fn plain_number(value: f64) -> String {
    if value.is_finite() { format!("{value}") } else { crate::literal::format_number(value) }
}

fn quantiles(labels: Labels, members: &[Column], params: &[f64]) -> Column {
    let mut values = Vec::new();
    let at_step = |(step, q): (usize, &f64)| {
        values.clear();
        values.extend(members.iter().map(|member| member.values[step]).filter(|value| is_present(*value)));
        or_absent((!values.is_empty()).then(|| quantile(*q, &mut values)))
    };
    let column = params.iter().enumerate().map(at_step).collect();
    Column { labels, values: column }
}

/// Keeps the members that `topk` and its kin choose at each step. With a single step they come out in their rank.
fn chosen(op: AggregateOp, members: Vec<Column>, params: &[f64]) -> Vec<Column> {
    let steps = params.len();
    let mut kept: Vec<Column> = members.iter().map(|member| Column::empty(member.labels.clone(), steps)).collect();
    let mut ranks = Vec::new();
    for (step, param) in params.iter().enumerate() {
        let value = |i: usize| members[i].values[step];
        ranks = (0..members.len()).filter(|i| is_present(value(*i))).collect();
        let by =
            |a: f64, b: f64| a.is_nan().cmp(&b.is_nan()).then(a.partial_cmp(&b).unwrap_or(std::cmp::Ordering::Equal));
        match op {
            AggregateOp::Topk => {
                ranks.sort_by(|a, b| value(*a).is_nan().cmp(&value(*b).is_nan()).then(by(value(*b), value(*a))))
            }
            AggregateOp::Bottomk => ranks.sort_by(|a, b| by(value(*a), value(*b))),
            AggregateOp::LimitRatio => ranks.retain(|i| is_sampled(&members[*i].labels, param.clamp(-1.0, 1.0))),
            _ => {}
        }
        if op != AggregateOp::LimitRatio {
            ranks.truncate(param.max(0.0) as usize);
        }
        for i in &ranks {
            kept[*i].values[step] = value(*i);
        }
    }
    if steps == 1 {
        return ranks.into_iter().map(|i| kept[i].clone()).collect();
    }
    kept.retain(|column| !column.is_empty());
    kept
}

/// A series' hash places it between 0 and 1; a positive ratio takes from below, a negative one its complement from above.
fn is_sampled(labels: &Labels, ratio: f64) -> bool {
    let place = labels.hash("") as f64 / u64::MAX as f64;
    if ratio >= 0.0 { place < ratio } else { place >= 1.0 + ratio }
}
