//! Functions that change or order by labels, and the labels of what is absent.

use std::cmp::Ordering;

use model::{Labels, LabelsBuilder, METRIC_NAME, MatchOp};
use regex::Regex;

use super::column::{Column, unique};
use crate::QueryError;
use crate::promql::{Expr, ExprKind, VectorSelector};

/// `label_replace(v, target, replacement, source, pattern)`.
pub(super) struct Replacement<'a> {
    target: &'a str,
    replacement: &'a str,
    source: &'a str,
    regex: Regex,
}

impl Replacement<'_> {
    pub fn new(args: &[String]) -> Result<Replacement<'_>, QueryError> {
        let [target, replacement, source, pattern] = args else { unreachable!("the type check counts arguments") };
        let bad = |_| QueryError::Execution(format!("invalid regular expression in label_replace(): {pattern}"));
        let regex = Regex::new(&format!("^(?s:{pattern})$")).map_err(bad)?;
        check_label("label_replace", "destination ", target)?;
        Ok(Replacement { target, replacement, source, regex })
    }

    pub fn apply(&self, mut columns: Vec<Column>) -> Result<Vec<Column>, QueryError> {
        for column in &mut columns {
            let value = column.labels.get(self.source).unwrap_or("");
            if let Some(captures) = self.regex.captures(value) {
                let mut replaced = String::new();
                captures.expand(self.replacement, &mut replaced);
                column.labels = column.labels.with(self.target, &replaced);
                column.drop_name &= self.target != METRIC_NAME;
            }
        }
        unique(columns)
    }
}

/// `label_join(v, target, separator, sources…)`.
pub(super) fn join(mut columns: Vec<Column>, args: &[String]) -> Result<Vec<Column>, QueryError> {
    let [target, separator, sources @ ..] = args else { unreachable!("the type check counts arguments") };
    for column in &mut columns {
        let values: Vec<&str> = sources.iter().map(|source| column.labels.get(source).unwrap_or("")).collect();
        column.labels = column.labels.with(target, &values.join(separator));
        column.drop_name &= target != METRIC_NAME;
    }
    unique(columns)
}

pub(super) fn check_join(args: &[String]) -> Result<(), QueryError> {
    let [target, _, sources @ ..] = args else { unreachable!("the type check counts arguments") };
    for source in sources {
        check_label("label_join", "source ", source)?;
    }
    check_label("label_join", "destination ", target)
}

fn check_label(function: &str, what: &str, name: &str) -> Result<(), QueryError> {
    if name.is_empty() {
        return Err(QueryError::Execution(format!("invalid {what}label name in {function}(): {name}")));
    }
    Ok(())
}

/// By the named labels, digits within values compared as numbers, then by all labels.
pub(super) fn sort_by_label(columns: &mut [Column], names: &[String], is_descending: bool) {
    columns.sort_by(|a, b| {
        let value = |labels: &Labels, name: &String| labels.get(name).unwrap_or("").to_owned();
        let mut by_names = names.iter().map(|name| natural(&value(&a.labels, name), &value(&b.labels, name)));
        let order = by_names.find(|order| order.is_ne()).unwrap_or_else(|| a.labels.cmp(&b.labels));
        if is_descending { order.reverse() } else { order }
    });
}

/// Runs of digits, by value where both sides have one, and of other characters.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (runs(a), runs(b));
    loop {
        let (a, b) = match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(a), Some(b)) => (a, b),
        };
        let order = match (a.parse::<i64>(), b.parse::<i64>()) {
            (Ok(a), Ok(b)) => a.cmp(&b),
            _ => a.cmp(b),
        };
        if order.is_ne() {
            return order;
        }
    }
}

fn runs(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let is_digit = rest.chars().next()?.is_ascii_digit();
        let len = rest.find(|c: char| c.is_ascii_digit() != is_digit).unwrap_or(rest.len());
        let (run, after) = rest.split_at(len);
        rest = after;
        Some(run)
    })
}

/// The labels that `absent` gives to what is not there: those that a selector demands exactly, and only once.
pub(super) fn of_absent(expr: &Expr) -> Labels {
    let selector: &VectorSelector = match &expr.unwrapped().kind {
        ExprKind::Selector(selector) | ExprKind::Range { selector, .. } => selector,
        _ => return Labels::default(),
    };
    let mut builder = LabelsBuilder::default();
    let mut demanded: Vec<&str> = Vec::new();
    for matcher in selector.matchers.iter().filter(|matcher| matcher.name != METRIC_NAME) {
        let name = matcher.name.as_str();
        if matcher.op == MatchOp::Equal && !demanded.contains(&name) {
            builder.set(name, matcher.value.as_str());
            demanded.push(name);
        } else {
            builder.remove(name);
        }
    }
    builder.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn natural_order() {
        let check = |a: &str, b: &str, expected: Ordering| assert_eq!(natural(a, b), expected, "{a} {b}");
        check("cpu2", "cpu10", Ordering::Less);
        check("a10b", "a10a", Ordering::Greater);
        check("", "0", Ordering::Less);
        check("01", "1", Ordering::Equal);
        check("1", "a", Ordering::Less);
    }
}
