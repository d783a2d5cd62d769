//! `parse_query`: an expression as the tree that Prometheus' `translateAST` gives, which plan views draw.

use ::query::logql::RangeAggregation;
use ::query::promql::{
    Arity, At, Binary, BinaryOp, Call, Cardinality, DurationExpr, DurationOp, ExprKind, ExtendedRange, Function, Shift,
    Subquery, ValueType, VectorSelector, type_of,
};
use ::query::{Expr, MixedExpr};
use model::{Matcher, NS_PER_MS};
use serde_json::{Value, json};

pub fn tree(mixed: &MixedExpr) -> Value {
    node(mixed, mixed.expr())
}

fn node(mixed: &MixedExpr, expr: &Expr) -> Value {
    match &expr.kind {
        ExprKind::Number { value, .. } => json!({"type": "numberLiteral", "val": number(*value)}),
        ExprKind::Text(text) => json!({"type": "stringLiteral", "val": text}),
        ExprKind::Paren(inner) => json!({"type": "parenExpr", "expr": node(mixed, inner)}),
        ExprKind::Unary { negative, operand } => {
            json!({"type": "unaryExpr", "op": if *negative { "-" } else { "+" }, "expr": node(mixed, operand)})
        }
        ExprKind::Binary(binary) => binary_tree(mixed, binary),
        ExprKind::Aggregate(aggregate) => json!({
            "type": "aggregation",
            "op": aggregate.op.as_str(),
            "expr": node(mixed, &aggregate.operand),
            "param": aggregate.param.as_ref().map(|param| node(mixed, param)),
            "grouping": aggregate.grouping.labels,
            "without": aggregate.grouping.without,
        }),
        ExprKind::Call(call) => call_tree(mixed, call),
        ExprKind::Selector(selector) => match mixed.log_range(selector) {
            Some(range) => log_range_tree(range),
            None => selector_tree("vectorSelector", selector),
        },
        ExprKind::Range { selector, range } => {
            let mut node = selector_tree("matrixSelector", selector);
            node["range"] = milliseconds(Some(range));
            node["rangeExpr"] = computed(Some(range));
            node
        }
        ExprKind::Subquery(subquery) => subquery_tree(mixed, subquery),
    }
}

fn number(value: f64) -> String {
    if value.is_finite() { value.to_string() } else { ::query::format_number(value) }
}

fn binary_tree(mixed: &MixedExpr, binary: &Binary) -> Value {
    let matching = &binary.matching;
    let is_scalar = |side: &Expr| type_of(side) == ValueType::Scalar;
    let between_vectors = !is_scalar(&binary.left) && !is_scalar(&binary.right);
    let card = match matching.cardinality {
        Cardinality::OneToOne => "one-to-one",
        Cardinality::ManyToOne => "many-to-one",
        Cardinality::OneToMany => "one-to-many",
        Cardinality::ManyToMany => "many-to-many",
    };
    let matching = between_vectors.then(|| {
        json!({
            "card": card,
            "labels": matching.labels,
            "on": matching.on,
            "include": matching.include,
            "fillValues": {"lhs": matching.fill.left, "rhs": matching.fill.right},
        })
    });
    json!({
        "type": "binaryExpr",
        "op": BinaryOp::as_str(binary.op),
        "lhs": node(mixed, &binary.left),
        "rhs": node(mixed, &binary.right),
        "matching": matching,
        "bool": binary.returns_bool,
    })
}

fn call_tree(mixed: &MixedExpr, call: &Call) -> Value {
    let Function { name, args, arity, returns } = call.function;
    let variadic = match arity {
        Arity::Exact => 0,
        Arity::LastOptional => 1,
        Arity::LastRepeated(most) => i64::try_from(*most).map_or(-1, |most| most - 1),
    };
    json!({
        "type": "call",
        "func": {
            "name": name,
            "argTypes": args.iter().map(type_name).collect::<Vec<_>>(),
            "variadic": variadic,
            "returnType": type_name(returns),
        },
        "args": call.args.iter().map(|arg| node(mixed, arg)).collect::<Vec<_>>(),
    })
}

fn type_name(kind: &ValueType) -> &'static str {
    match kind {
        ValueType::Scalar => "scalar",
        ValueType::Text => "string",
        ValueType::Vector => "vector",
        ValueType::Matrix => "matrix",
    }
}

fn selector_tree(kind: &str, selector: &VectorSelector) -> Value {
    let matcher =
        |matcher: &Matcher| json!({"name": matcher.name, "value": matcher.value, "type": matcher.op.as_str()});
    // The matcher that the name stands for comes last, as in Prometheus.
    let is_name = |matcher: &&Matcher| selector.name.is_some() && matcher.name == model::METRIC_NAME;
    let others = selector.matchers.iter().filter(|matcher| !is_name(matcher));
    let name = selector.matchers.iter().filter(is_name);
    let mut node = json!({
        "type": kind,
        "name": selector.name.as_deref().unwrap_or(""),
        "matchers": others.chain(name).map(matcher).collect::<Vec<_>>(),
        "anchored": selector.extended == Some(ExtendedRange::Anchored),
        "smoothed": selector.extended == Some(ExtendedRange::Smoothed),
    });
    shift(&mut node, &selector.shift);
    node
}

/// What counts lines beside metrics; Prometheus has no such node.
fn log_range_tree(range: &RangeAggregation) -> Value {
    json!({
        "type": "logRange",
        "text": range.to_string(),
        "selector": range.selector.to_string(),
        "range": range.range_ns / NS_PER_MS,
        "offset": range.offset_ns / NS_PER_MS,
    })
}

fn subquery_tree(mixed: &MixedExpr, subquery: &Subquery) -> Value {
    let mut node = json!({
        "type": "subquery",
        "expr": node(mixed, &subquery.operand),
        "range": milliseconds(Some(&subquery.range)),
        "rangeExpr": computed(Some(&subquery.range)),
        "step": milliseconds(subquery.step.as_ref()),
        "stepExpr": computed(subquery.step.as_ref()),
    });
    shift(&mut node, &subquery.shift);
    node
}

fn shift(node: &mut Value, shift: &Shift) {
    node["offset"] = milliseconds(shift.offset.as_ref());
    node["offsetExpr"] = computed(shift.offset.as_ref());
    (node["timestamp"], node["startOrEnd"]) = match shift.at {
        Some(At::TimeMs(t_ms)) => (t_ms.into(), Value::Null),
        Some(At::Start) => (Value::Null, "start".into()),
        Some(At::End) => (Value::Null, "end".into()),
        None => (Value::Null, Value::Null),
    };
}

/// The length of what is written as a plain duration, 0 for what must be computed.
fn milliseconds(duration: Option<&DurationExpr>) -> Value {
    match duration {
        Some(DurationExpr::Seconds(seconds)) => ((seconds * 1000.0).round() as i64).into(),
        Some(DurationExpr::Negative(inner)) => match **inner {
            DurationExpr::Seconds(seconds) => ((seconds * -1000.0).round() as i64).into(),
            _ => 0.into(),
        },
        _ => 0.into(),
    }
}

/// The tree of a length that must be computed.
fn computed(duration: Option<&DurationExpr>) -> Value {
    match duration {
        None | Some(DurationExpr::Seconds(_)) => Value::Null,
        Some(DurationExpr::Negative(inner)) if matches!(**inner, DurationExpr::Seconds(_)) => Value::Null,
        Some(duration) => duration_tree(duration, false),
    }
}

fn duration_tree(duration: &DurationExpr, wrapped: bool) -> Value {
    let node = |op: &str, left: Value, right: Value| json!({"type": "durationExpr", "op": op, "lhs": left, "rhs": right, "wrapped": wrapped});
    match duration {
        DurationExpr::Seconds(seconds) => json!({"type": "numberLiteral", "val": number(*seconds), "duration": true}),
        DurationExpr::Step => node("step", Value::Null, Value::Null),
        DurationExpr::Range => node("range", Value::Null, Value::Null),
        DurationExpr::Negative(inner) => node("-", Value::Null, duration_tree(inner, false)),
        DurationExpr::Paren(inner) => duration_tree(inner, true),
        DurationExpr::Pair(op, left, right) => {
            node(DurationOp::as_str(*op), duration_tree(left, false), duration_tree(right, false))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Value) {
        assert_eq!(tree(&::query::parse_mixed(text).expect("an expression")), expected, "{text}");
    }

    fn up(kind: &str) -> Value {
        json!({"type": kind, "name": "up", "matchers": [{"name": "__name__", "value": "up", "type": "="}],
            "anchored": false, "smoothed": false, "offset": 0, "offsetExpr": null, "timestamp": null, "startOrEnd": null})
    }

    #[test]
    fn every_node_has_its_shape() {
        let mut ranged = up("matrixSelector");
        (ranged["range"], ranged["rangeExpr"], ranged["offset"]) = (300_000.into(), Value::Null, (-60_000).into());
        let func = json!({"name": "rate", "argTypes": ["matrix"], "variadic": 0, "returnType": "vector"});
        let rate = json!({"type": "call", "func": func, "args": [ranged]});
        check(
            "sum by (job) (rate(up[5m] offset -1m))",
            json!({"type": "aggregation", "op": "sum", "expr": rate, "param": null, "grouping": ["job"], "without": false}),
        );
        let matching = json!({"card": "many-to-one", "labels": ["a"], "on": true, "include": [],
            "fillValues": {"lhs": null, "rhs": null}});
        check(
            "up * on (a) group_left () up",
            json!({"type": "binaryExpr", "op": "*", "lhs": up("vectorSelector"), "rhs": up("vectorSelector"),
                "matching": matching, "bool": false}),
        );
        check(
            "-(1) > bool 2",
            json!({"type": "binaryExpr", "op": ">", "lhs": {"type": "unaryExpr", "op": "-", "expr": {"type": "parenExpr",
                "expr": {"type": "numberLiteral", "val": "1"}}}, "rhs": {"type": "numberLiteral", "val": "2"},
                "matching": null, "bool": true}),
        );
    }

    #[test]
    fn what_counts_lines_is_a_node_of_its_own() {
        let lines = json!({"type": "logRange", "text": "rate({app=\"a\"} |= \"x\" [1m] offset 5s)",
            "selector": "{app=\"a\"} |= \"x\"", "range": 60_000, "offset": 5_000});
        check(r#"-rate({app="a"} |= "x" [1m] offset 5s)"#, json!({"type": "unaryExpr", "op": "-", "expr": lines}));
    }
}
