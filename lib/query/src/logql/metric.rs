//! Metric queries: a PromQL tree whose selectors stand for range aggregations.

use model::{METRIC_NAME, Matcher};

use super::range::RangeAggregation;
use crate::promql::{Expr, ExprKind, Shift, VectorSelector};
use crate::{SeriesSelect, Span};

/// A parsed metric query.
#[derive(Debug, Clone)]
pub struct MetricExpr {
    pub(super) expr: Expr,
    /// The leaves, by the number that their selector in `expr` carries as a name.
    pub(super) ranges: Vec<RangeAggregation>,
}

impl MetricExpr {
    pub fn ranges(&self) -> &[RangeAggregation] {
        &self.ranges
    }
}

/// The selector that stands for the leaf of this number.
pub(super) fn leaf(index: usize, span: Span) -> Expr {
    let name = index.to_string();
    let matchers = vec![Matcher::equal(METRIC_NAME, name.as_str())];
    let selector = VectorSelector { name: Some(name), matchers, shift: Shift::default(), extended: None, span };
    Expr { kind: ExprKind::Selector(selector), span }
}

/// The number of the leaf that an expression is, directly or in parentheses.
pub(super) fn leaf_index(expr: &Expr) -> Option<usize> {
    match &expr.unwrapped().kind {
        ExprKind::Selector(selector) => selector.name.as_ref()?.parse().ok(),
        _ => None,
    }
}

/// The number of the leaf that the engine asks for.
pub(super) fn asked_leaf(request: &SeriesSelect<'_>) -> Option<usize> {
    request.matchers.iter().find(|matcher| matcher.name == METRIC_NAME)?.value.parse().ok()
}
