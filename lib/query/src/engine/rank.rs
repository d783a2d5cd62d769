//! Aggregations that choose among their group's series, or need all its values at once: `topk`, `bottomk`, `limitk`,
//! `limit_ratio`, `quantile`.

use std::cmp::Ordering;
use std::collections::HashMap;

use model::Labels;
use xxhash_rust::xxh64::xxh64;

use super::aggregate::{group_key, place_of};
use super::column::{Column, Grid, is_present};
use super::eval::Eval;
use super::math::quantile;
use super::notes::Note;
use crate::QueryError;
use crate::literal::format_number;
use crate::promql::{Aggregate, AggregateOp, Expr};

impl Eval<'_> {
    pub fn ranked(
        &mut self,
        expr: &Expr,
        aggregate: &Aggregate,
        param: &Expr,
        grid: Grid,
    ) -> Result<Vec<Column>, QueryError> {
        let op = aggregate.op;
        let params = self.scalar(param, grid)?;
        let mut columns = self.vector(&aggregate.operand, grid)?;
        if !self.check_param(op, param, &params)? {
            return Ok(Vec::new());
        }
        let span = if op == AggregateOp::Quantile { aggregate.operand.unwrapped().span } else { expr.span };
        let takes_histograms = matches!(op, AggregateOp::Limitk | AggregateOp::LimitRatio);
        if !takes_histograms && columns.iter().any(|column| column.histograms.is_some()) {
            self.note(Note::ignored_in_aggregation(op.as_str(), span));
            columns.iter_mut().for_each(|column| column.histograms = None);
            columns.retain(|column| !column.is_empty());
        }
        let (mut places, mut groups): (_, Vec<(Labels, Vec<Column>)>) = (HashMap::new(), Vec::new());
        for column in columns {
            let key = group_key(&aggregate.grouping, &column.labels);
            let place = place_of(&mut places, key.clone());
            if place == groups.len() {
                groups.push((key, Vec::new()));
            }
            groups[place].1.push(column);
        }
        let mut result = Vec::new();
        for (key, members) in groups {
            self.check_room(0)?;
            match op {
                AggregateOp::Quantile => result.push(quantiles(key, &members, &params)),
                op => result.extend(chosen(op, members, &params)),
            }
        }
        Ok(result)
    }

    /// Whether there is anything to choose.
    fn check_param(&mut self, op: AggregateOp, param: &Expr, params: &[f64]) -> Result<bool, QueryError> {
        let failed = |message: String| Err(QueryError::Execution(message));
        let span = param.unwrapped().span;
        let has_nan = params.iter().any(|value| value.is_nan());
        let least = params.iter().copied().fold(f64::INFINITY, f64::min);
        let most = params.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        match op {
            AggregateOp::Quantile => {
                if has_nan {
                    self.note(Note::invalid_quantile(f64::NAN, span));
                }
                if most > 1.0 {
                    self.note(Note::invalid_quantile(most, span));
                }
                if least < 0.0 {
                    self.note(Note::invalid_quantile(least, span));
                }
            }
            AggregateOp::LimitRatio if has_nan => return failed("Ratio value is NaN".to_owned()),
            AggregateOp::LimitRatio => {
                if most > 1.0 {
                    self.note(Note::invalid_ratio(most, 1.0, span));
                }
                if least < -1.0 {
                    self.note(Note::invalid_ratio(least, -1.0, span));
                }
                return Ok(least != 0.0 || most != 0.0);
            }
            _ if has_nan => return failed("Parameter value is NaN".to_owned()),
            _ if most < 1.0 => return Ok(false),
            _ if least <= i64::MIN as f64 => {
                return failed(format!("Scalar value {} underflows int64", format_number(least)));
            }
            _ if most >= i64::MAX as f64 => {
                return failed(format!("Scalar value {} overflows int64", format_number(most)));
            }
            _ => {}
        }
        Ok(true)
    }
}

fn quantiles(labels: Labels, members: &[Column], params: &[f64]) -> Column {
    let mut column = Column::empty(labels, params.len());
    column.drop_name = members.iter().any(|member| member.drop_name);
    let mut values = Vec::new();
    for (step, q) in params.iter().enumerate() {
        values.clear();
        values.extend(members.iter().map(|member| member.values[step]).filter(|value| is_present(*value)));
        if !values.is_empty() {
            column.values[step] = quantile(*q, &mut values);
        }
    }
    column
}

/// Keeps the members that `topk` and its kin choose at each step. With a single step they come out in their rank.
fn chosen(op: AggregateOp, members: Vec<Column>, params: &[f64]) -> Vec<Column> {
    let steps = params.len();
    let places: Vec<f64> = match op {
        AggregateOp::LimitRatio => members.iter().map(|member| place_in_unit(&member.labels)).collect(),
        _ => Vec::new(),
    };
    let empty = |member: &Column| Column { drop_name: member.drop_name, ..Column::empty(member.labels.clone(), steps) };
    let mut kept: Vec<Option<Column>> = members.iter().map(|_| None).collect();
    // Values beside the places of their series: choosing then stays within one piece of memory.
    let mut ranks: Vec<(f64, usize)> = Vec::new();
    for (step, param) in params.iter().enumerate() {
        ranks.clear();
        let present = members.iter().enumerate().filter(|(_, member)| member.has(step));
        ranks.extend(present.map(|(i, member)| (member.values[step], i)));
        match op {
            AggregateOp::LimitRatio => ranks.retain(|(_, i)| is_sampled(places[*i], param.clamp(-1.0, 1.0))),
            AggregateOp::Limitk => ranks.truncate(param.max(0.0) as usize),
            op => best(&mut ranks, param.max(0.0) as usize, op == AggregateOp::Topk),
        }
        for (_, i) in &ranks {
            kept[*i].get_or_insert_with(|| empty(&members[*i])).set(step, members[*i].item(step));
        }
    }
    if steps == 1 {
        return ranks.into_iter().filter_map(|(_, i)| kept[i].take()).collect();
    }
    kept.into_iter().flatten().collect()
}

/// Leaves the `k` best, in order: NaN last, the earlier of equals first.
fn best(ranks: &mut Vec<(f64, usize)>, k: usize, is_descending: bool) {
    let order = |(x, a): &(f64, usize), (y, b): &(f64, usize)| {
        let by_value = x.partial_cmp(y).unwrap_or(Ordering::Equal);
        let by_value = if is_descending { by_value.reverse() } else { by_value };
        x.is_nan().cmp(&y.is_nan()).then(by_value).then(a.cmp(b))
    };
    if k < ranks.len() {
        ranks.select_nth_unstable_by(k, order);
        ranks.truncate(k);
    }
    ranks.sort_unstable_by(order);
}

/// A positive ratio takes from below, a negative one its complement from above.
fn is_sampled(place: f64, ratio: f64) -> bool {
    if ratio >= 0.0 { place < ratio } else { place >= 1.0 + ratio }
}

/// A place between 0 and 1 that depends on the labels only: their hash in Prometheus, so that both choose the same.
fn place_in_unit(labels: &Labels) -> f64 {
    let mut bytes = Vec::new();
    for text in labels.iter().flat_map(|label| [&label.name, &label.value]) {
        match u8::try_from(text.len()) {
            Ok(short) if short < u8::MAX => bytes.push(short),
            _ => {
                bytes.push(u8::MAX);
                bytes.extend_from_slice(&(text.len() as u32).to_le_bytes()[..3]);
            }
        }
        bytes.extend_from_slice(text.as_bytes());
    }
    xxh64(&bytes, 0) as f64 / u64::MAX as f64
}
