//! The types of expressions, and the check that every argument and operand has the right one.

use super::ast::{Binary, Call, Cardinality, Expr, ExprKind, ValueType};
use super::functions::Arity;
use crate::QueryError;

/// The type of a checked expression.
pub fn type_of(expr: &Expr) -> ValueType {
    match &expr.kind {
        ExprKind::Number { .. } => ValueType::Scalar,
        ExprKind::Text(_) => ValueType::Text,
        ExprKind::Paren(operand) | ExprKind::Unary { operand, .. } => type_of(operand),
        ExprKind::Binary(binary) => match (type_of(&binary.left), type_of(&binary.right)) {
            (ValueType::Scalar, ValueType::Scalar) => ValueType::Scalar,
            _ => ValueType::Vector,
        },
        ExprKind::Aggregate(_) | ExprKind::Selector(_) => ValueType::Vector,
        ExprKind::Call(call) => call.function.returns,
        ExprKind::Range { .. } | ExprKind::Subquery(_) => ValueType::Matrix,
    }
}

pub(crate) fn check_types(expr: &Expr) -> Result<(), QueryError> {
    match &expr.kind {
        ExprKind::Number { .. } | ExprKind::Text(_) | ExprKind::Range { .. } => Ok(()),
        ExprKind::Selector(_) => Ok(()),
        ExprKind::Paren(inner) => check_types(inner),
        ExprKind::Unary { operand, .. } => {
            check_types(operand)?;
            match type_of(operand) {
                ValueType::Scalar | ValueType::Vector => Ok(()),
                other => Err(expr.span.error(format!(
                    "unary expression only allowed on expressions of type scalar or instant vector, got {:?}",
                    other.name()
                ))),
            }
        }
        ExprKind::Binary(binary) => check_binary(expr, binary),
        ExprKind::Aggregate(aggregate) => {
            if let (Some(param), Some(wanted)) = (&aggregate.param, aggregate.op.param_type()) {
                expect_type(param, wanted, "aggregation parameter")?;
            }
            expect_type(&aggregate.operand, ValueType::Vector, "aggregation expression")
        }
        ExprKind::Call(call) => check_call(expr, call),
        ExprKind::Subquery(subquery) => {
            check_types(&subquery.operand)?;
            match type_of(&subquery.operand) {
                ValueType::Vector => Ok(()),
                other => {
                    let message =
                        format!("subquery is only allowed on instant vector, got {} instead", other.short_name());
                    Err(expr.span.error(message))
                }
            }
        }
    }
}

fn expect_type(expr: &Expr, wanted: ValueType, context: &str) -> Result<(), QueryError> {
    check_types(expr)?;
    let got = type_of(expr);
    if got == wanted {
        return Ok(());
    }
    Err(expr.span.error(format!("expected type {} in {context}, got {}", wanted.name(), got.name())))
}

fn check_call(expr: &Expr, call: &Call) -> Result<(), QueryError> {
    let (name, types, count) = (call.function.name, call.function.args, call.args.len());
    let (least, most) = match call.function.arity {
        Arity::Exact => (types.len(), types.len()),
        Arity::LastOptional => (types.len() - 1, types.len()),
        Arity::LastRepeated(most) => (types.len() - 1, most.max(types.len())),
    };
    let problem = match () {
        () if least == most && count != least => format!("expected {least}"),
        () if count < least => format!("expected at least {least}"),
        () if count > most => format!("expected at most {most}"),
        () => String::new(),
    };
    if !problem.is_empty() {
        return Err(expr.span.error(format!("{problem} argument(s) in call to {name:?}, got {count}")));
    }
    for (i, arg) in call.args.iter().enumerate() {
        expect_type(arg, types[i.min(types.len() - 1)], &format!("call to function {name:?}"))?;
    }
    let named = |arg: &&Expr| matches!(&arg.unwrapped().kind, ExprKind::Selector(selector) if selector.name.is_some());
    if let Some(arg) = call.args.get(1).filter(|arg| name == "info" && named(arg)) {
        return Err(arg.span.error("expected label selectors only, got vector selector instead"));
    }
    if name == "info" && call.args.get(1).is_some_and(|arg| !matches!(arg.unwrapped().kind, ExprKind::Selector(_))) {
        return Err(call.args[1].span.error("expected label selectors only"));
    }
    Ok(())
}

fn check_binary(expr: &Expr, binary: &Binary) -> Result<(), QueryError> {
    check_types(&binary.left)?;
    check_types(&binary.right)?;
    let (left, right) = (type_of(&binary.left), type_of(&binary.right));
    for (side, found) in [(&binary.left, left), (&binary.right, right)] {
        if !matches!(found, ValueType::Scalar | ValueType::Vector) {
            return Err(side.span.error("binary expression must contain only scalar and instant vector types"));
        }
    }
    let both_scalars = left == ValueType::Scalar && right == ValueType::Scalar;
    let both_vectors = left == ValueType::Vector && right == ValueType::Vector;
    let matching = &binary.matching;
    let matches_labels = matching.on || !matching.labels.is_empty() || !matching.include.is_empty();
    let fills = matching.fill != Default::default();
    let op = binary.op;
    let at_op = |message: String| Err(binary.op_span.error(message));
    if binary.returns_bool && !op.is_comparison() {
        return at_op("bool modifier can only be used on comparison operators".to_owned());
    }
    if op.is_comparison() && both_scalars && !binary.returns_bool {
        return at_op("comparisons between scalars must use BOOL modifier".to_owned());
    }
    let is_grouped = matches!(matching.cardinality, Cardinality::ManyToOne | Cardinality::OneToMany);
    let problem = match () {
        () if op.is_set() && both_vectors && is_grouped => {
            format!("no grouping allowed for {:?} operation", op.as_str())
        }
        () if !both_vectors && (matches_labels || fills) => {
            "vector matching only allowed between instant vectors".to_owned()
        }
        () if op.is_set() && !both_vectors => {
            format!("set operator {:?} not allowed in binary scalar expression", op.as_str())
        }
        () if op.is_trim() && both_scalars => {
            format!("operator {:?} not allowed for Scalar operations", op.as_str())
        }
        () => return Ok(()),
    };
    Err(expr.span.error(problem))
}
