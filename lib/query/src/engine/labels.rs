//! Functions that change or order by labels, and the labels of what is absent.

use model::{Labels, LabelsBuilder, METRIC_NAME, MatchOp};
use regex::Regex;

use super::column::{Column, unique};
use crate::QueryError;
use crate::promql::{Expr, ExprKind, VectorSelector};

/// `label_replace(v, target, replacement, source, pattern)`.
pub(super) fn replace(mut columns: Vec<Column>, args: &[String]) -> Result<Vec<Column>, QueryError> {
    let [target, replacement, source, pattern] = args else { unreachable!("the type check counts arguments") };
    let regex = Regex::new(&format!("^(?s:{pattern})$"))
        .map_err(|_| QueryError::Execution(format!("invalid regular expression in label_replace(): {pattern}")))?;
    check_label("label_replace", "destination ", target)?;
    for column in &mut columns {
        let value = column.labels.get(source).unwrap_or("");
        if let Some(captures) = regex.captures(value) {
            let mut replaced = String::new();
            captures.expand(replacement, &mut replaced);
            column.labels = column.labels.with(target, &replaced);
        }
    }
    unique(columns)
}

/// `label_join(v, target, separator, sources…)`.
pub(super) fn join(mut columns: Vec<Column>, args: &[String]) -> Result<Vec<Column>, QueryError> {
    let [target, separator, sources @ ..] = args else { unreachable!("the type check counts arguments") };
    check_label("label_join", "destination ", target)?;
    for source in sources {
        check_label("label_join", "source ", source)?;
    }
    for column in &mut columns {
        let values: Vec<&str> = sources.iter().map(|source| column.labels.get(source).unwrap_or("")).collect();
        column.labels = column.labels.with(target, &values.join(separator));
    }
    unique(columns)
}

fn check_label(function: &str, what: &str, name: &str) -> Result<(), QueryError> {
    if name.is_empty() {
        return Err(QueryError::Execution(format!("invalid {what}label name in {function}(): {name}")));
    }
    Ok(())
}

/// By the named labels, digits within values compared as numbers, then by all labels.
pub(super) fn sort_by_label(columns: &mut [Column], names: &[String], descending: bool) {
    columns.sort_by(|a, b| {
        let values = |labels: &Labels, name: &String| natural_key(labels.get(name).unwrap_or(""));
        let keys = |labels: &Labels| names.iter().map(|name| values(labels, name)).collect::<Vec<_>>();
        let order = keys(&a.labels).cmp(&keys(&b.labels)).then_with(|| a.labels.cmp(&b.labels));
        if descending { order.reverse() } else { order }
    });
}

/// Splits into runs of digits (by value: fewer digits first) and of other characters.
fn natural_key(text: &str) -> Vec<(usize, String)> {
    let mut runs: Vec<(bool, String)> = Vec::new();
    for c in text.chars() {
        match runs.last_mut() {
            Some((is_digits, run)) if *is_digits == c.is_ascii_digit() => run.push(c),
            _ => runs.push((c.is_ascii_digit(), c.to_string())),
        }
    }
    let key = |(is_digits, run): (bool, String)| {
        let trimmed = if is_digits { run.trim_start_matches('0').to_owned() } else { run };
        (if is_digits { trimmed.len() } else { usize::MAX }, trimmed)
    };
    runs.into_iter().map(key).collect()
}

/// The labels that `absent` gives to what is not there: those that a selector demands exactly, and only once.
pub(super) fn of_absent(expr: &Expr) -> Labels {
    let selector: &VectorSelector = match &expr.unwrapped().kind {
        ExprKind::Selector(selector) | ExprKind::Range { selector, .. } => selector,
        _ => return Labels::default(),
    };
    let mut builder = LabelsBuilder::default();
    for matcher in selector.matchers.iter().filter(|matcher| matcher.name != METRIC_NAME) {
        let is_only = selector.matchers.iter().filter(|other| other.name == matcher.name).count() == 1;
        if matcher.op == MatchOp::Equal && is_only {
            builder.set(matcher.name.as_str(), matcher.value.as_str());
        }
    }
    builder.build()
}
