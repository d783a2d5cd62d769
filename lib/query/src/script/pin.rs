//! The same expression with every selector fixed at one instant by `@`: it must give the same whenever it is evaluated.

use crate::Expr;
use crate::promql::{At, ExprKind, Shift};

/// Functions whose result depends on the time of evaluation even where their arguments do not.
const TIMELY: [&str; 15] = [
    "days_in_month",
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "end",
    "hour",
    "minute",
    "month",
    "predict_linear",
    "range",
    "start",
    "step",
    "time",
    "timestamp",
    "year",
];

/// `None` where the expression asks for the time of its evaluation.
pub(super) fn pinned(expr: &Expr, t_ms: i64) -> Option<Expr> {
    if calls_any(expr, &TIMELY) {
        return None;
    }
    let mut pinned = expr.clone();
    pin(&mut pinned, At::TimeMs(t_ms));
    Some(pinned)
}

/// Whether an expression asks for the start, end, step or range of the query.
pub(super) fn asks_for_query(expr: &Expr) -> bool {
    let text = expr.to_string();
    ["start()", "end()", "range()", "step()"].iter().any(|call| text.contains(call))
}

fn calls_any(expr: &Expr, names: &[&str]) -> bool {
    let mut found = false;
    expr.walk(&mut |node| {
        if let ExprKind::Call(call) = &node.kind {
            found |= names.contains(&call.function.name);
        }
    });
    found
}

fn pin(expr: &mut Expr, at: At) {
    let fix = |shift: &mut Shift| shift.at = shift.at.or(Some(at));
    match &mut expr.kind {
        ExprKind::Number { .. } | ExprKind::Text(_) => {}
        ExprKind::Paren(inner) => pin(inner, at),
        ExprKind::Unary { operand, .. } => pin(operand, at),
        ExprKind::Binary(binary) => {
            pin(&mut binary.left, at);
            pin(&mut binary.right, at);
        }
        ExprKind::Aggregate(aggregate) => {
            aggregate.param.iter_mut().for_each(|param| pin(param, at));
            pin(&mut aggregate.operand, at);
        }
        ExprKind::Call(call) => call.args.iter_mut().for_each(|arg| pin(arg, at)),
        ExprKind::Selector(selector) | ExprKind::Range { selector, .. } => fix(&mut selector.shift),
        // What is inside a subquery is evaluated at the subquery's own steps.
        ExprKind::Subquery(subquery) => fix(&mut subquery.shift),
    }
}
