//! Prints a tree as canonical PromQL: parsing it again gives an equal tree.

use std::fmt::{Display, Formatter, Result};

use model::{METRIC_NAME, MatchOp};

use super::ast::{
    Aggregate, At, Binary, BinaryOp, Cardinality, DurationExpr, DurationOp, Expr, ExprKind, ExtendedRange, Grouping,
    Matching, Shift, Subquery, VectorSelector,
};
use super::parser::{is_plain_label, is_plain_metric};
use crate::literal::{format_number, format_seconds, quote};

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match &self.kind {
            ExprKind::Number { value, is_duration: true } => f.write_str(&format_seconds(*value)),
            ExprKind::Number { value, .. } => f.write_str(&plain_number(*value)),
            ExprKind::Text(text) => f.write_str(&quote(text)),
            ExprKind::Paren(inner) => write!(f, "({inner})"),
            ExprKind::Unary { negative, operand } => write!(f, "{}{operand}", if *negative { '-' } else { '+' }),
            ExprKind::Binary(binary) => match infinite_base(binary) {
                Some(base) => write!(f, "{base} {} {}", matching(binary), binary.right),
                None => write!(f, "{} {} {}", binary.left, matching(binary), binary.right),
            },
            ExprKind::Aggregate(aggregate) => print_aggregate(aggregate, f),
            ExprKind::Call(call) => {
                let args: Vec<String> = call.args.iter().map(Expr::to_string).collect();
                write!(f, "{}({})", call.function.name, args.join(", "))
            }
            ExprKind::Selector(selector) => write!(f, "{}{}", Series(selector), Modifiers(selector)),
            ExprKind::Range { selector, range } => write!(f, "{}[{range}]{}", Series(selector), Modifiers(selector)),
            ExprKind::Subquery(subquery) => write!(f, "{}{}", subquery.operand, subquery_suffix(subquery)),
        }
    }
}

/// An infinity that is raised to a power has no sign: a sign would be one of the whole power.
pub(super) fn infinite_base(binary: &Binary) -> Option<&'static str> {
    let is_infinite = matches!(binary.left.kind, ExprKind::Number { value, .. } if value == f64::INFINITY);
    (binary.op == BinaryOp::Pow && is_infinite).then_some("Inf")
}

/// An operator with all that says how its sides find each other.
pub(super) fn matching(binary: &Binary) -> String {
    let bool_word = if binary.returns_bool { " bool" } else { "" };
    format!("{}{bool_word}{}", binary.op.as_str(), binary.matching)
}

/// The grouping between an aggregation's name and its parenthesis.
pub(super) fn grouping(grouping: &Grouping) -> String {
    match (grouping.without, grouping.labels.is_empty()) {
        (true, _) => format!(" without ({}) ", label_list(&grouping.labels)),
        (false, false) => format!(" by ({}) ", label_list(&grouping.labels)),
        (false, true) => String::new(),
    }
}

/// `[range:step] @ … offset …`.
pub(super) fn subquery_suffix(subquery: &Subquery) -> String {
    let step = subquery.step.as_ref().map(DurationExpr::to_string).unwrap_or_default();
    format!("[{}:{step}]{}", subquery.range, subquery.shift)
}

/// Without exponent, however long.
fn plain_number(value: f64) -> String {
    if value.is_finite() { value.to_string() } else { format_number(value) }
}

fn print_aggregate(aggregate: &Aggregate, f: &mut Formatter<'_>) -> Result {
    write!(f, "{}{}", aggregate.op.as_str(), grouping(&aggregate.grouping))?;
    match &aggregate.param {
        Some(param) => write!(f, "({param}, {})", aggregate.operand),
        None => write!(f, "({})", aggregate.operand),
    }
}

fn label_name(name: &str) -> String {
    if is_plain_label(name) { name.to_owned() } else { quote(name) }
}

fn label_list(labels: &[String]) -> String {
    labels.iter().map(|label| label_name(label)).collect::<Vec<_>>().join(", ")
}

impl Display for Matching {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let group = match self.cardinality {
            Cardinality::ManyToOne => Some("group_left"),
            Cardinality::OneToMany => Some("group_right"),
            Cardinality::OneToOne | Cardinality::ManyToMany => None,
        };
        if self.on || !self.labels.is_empty() || group.is_some() {
            write!(f, " {} ({})", if self.on { "on" } else { "ignoring" }, label_list(&self.labels))?;
        }
        if let Some(group) = group {
            write!(f, " {group} ({})", label_list(&self.include))?;
        }
        match (self.fill.left, self.fill.right) {
            (Some(left), Some(right)) if left.to_bits() == right.to_bits() => {
                write!(f, " fill ({})", format_number(left))
            }
            (left, right) => {
                left.map_or(Ok(()), |value| write!(f, " fill_left ({})", format_number(value)))?;
                right.map_or(Ok(()), |value| write!(f, " fill_right ({})", format_number(value)))
            }
        }
    }
}

/// Name and matchers of a selector.
struct Series<'a>(&'a VectorSelector);

impl Display for Series<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let named = self.0.matchers.iter().filter(|matcher| matcher.name == METRIC_NAME).count();
        let mut parts = Vec::new();
        let mut skip_name = false;
        if let Some(name) = &self.0.name {
            skip_name = true;
            // Before the braces it must be the only one.
            if is_plain_metric(name) && named == 1 {
                f.write_str(name)?;
            } else {
                parts.push(quote(name));
            }
        }
        let quoted = parts.len();
        for matcher in &self.0.matchers {
            let is_equal = matcher.name == METRIC_NAME && matcher.op == MatchOp::Equal;
            if skip_name && is_equal && self.0.name.as_ref() == Some(&matcher.value) {
                skip_name = false;
                continue;
            }
            parts.push(format!("{}{}{}", label_name(&matcher.name), matcher.op.as_str(), quote(&matcher.value)));
        }
        parts[quoted..].sort_unstable();
        let is_bare = parts.is_empty() && self.0.name.is_some();
        if is_bare { Ok(()) } else { write!(f, "{{{}}}", parts.join(",")) }
    }
}

/// What follows a selector.
struct Modifiers<'a>(&'a VectorSelector);

impl Display for Modifiers<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self.0.extended {
            Some(ExtendedRange::Anchored) => f.write_str(" anchored")?,
            Some(ExtendedRange::Smoothed) => f.write_str(" smoothed")?,
            None => {}
        }
        self.0.shift.fmt(f)
    }
}

impl Display for Shift {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self.at {
            Some(At::TimeMs(ms)) => {
                let sign = if ms < 0 { "-" } else { "" };
                write!(f, " @ {sign}{}.{:03}", ms.unsigned_abs() / 1000, ms.unsigned_abs() % 1000)?;
            }
            Some(At::Start) => f.write_str(" @ start()")?,
            Some(At::End) => f.write_str(" @ end()")?,
            None => {}
        }
        self.offset.as_ref().map_or(Ok(()), |offset| write!(f, " offset {offset}"))
    }
}

impl Display for DurationExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            DurationExpr::Seconds(seconds) => {
                let whole_ms = (seconds * 1000.0).fract() == 0.0;
                f.write_str(&if whole_ms { format_seconds(*seconds) } else { format_number(*seconds) })
            }
            DurationExpr::Step => f.write_str("step()"),
            DurationExpr::Range => f.write_str("range()"),
            DurationExpr::Negative(inner) => write!(f, "-{inner}"),
            DurationExpr::Paren(inner) => write!(f, "({inner})"),
            DurationExpr::Pair(op @ (DurationOp::MinOf | DurationOp::MaxOf), left, right) => {
                write!(f, "{}({left}, {right})", op.as_str())
            }
            DurationExpr::Pair(op, left, right) => write!(f, "{left} {} {right}", op.as_str()),
        }
    }
}
