//! The PromQL of Prometheus 3.14: tree, parser, type check, printer.

mod ast;
mod display;
mod functions;
mod lexer;
mod modifiers;
mod parser;
mod pretty;
#[cfg(test)]
pub(crate) mod tests;
mod types;
mod value_type;

pub use ast::{
    Aggregate, AggregateOp, At, Binary, BinaryOp, Call, Cardinality, DurationExpr, DurationOp, Expr, ExprKind,
    ExtendedRange, Fill, Grouping, Matching, Shift, Subquery, ValueType, VectorSelector,
};
pub use functions::{Arity, Function, function, functions};
pub use parser::{parse, parse_series_name};
pub use pretty::pretty;
pub(crate) use types::check_types;
pub use types::type_of;

/// Every vector selector of an expression, from left to right; those of range selectors too.
pub fn selectors(expr: &Expr) -> Vec<&VectorSelector> {
    let mut found = Vec::new();
    expr.walk(&mut |node| {
        if let ExprKind::Selector(selector) | ExprKind::Range { selector, .. } = &node.kind {
            found.push(selector);
        }
    });
    found
}
