//! PromQL that was printed reads as the same tree, on one line and on several. Matchers are printed sorted.

#![no_main]

use libfuzzer_sys::fuzz_target;
use query::promql::{ExprKind, VectorSelector, pretty};
use query::{Expr, parse};

fn sort_selector(selector: &mut VectorSelector) {
    selector.matchers.sort_by_key(ToString::to_string);
}

fn sort(expr: &mut Expr) {
    match &mut expr.kind {
        ExprKind::Number { .. } | ExprKind::Text(_) => {}
        ExprKind::Selector(selector) | ExprKind::Range { selector, .. } => sort_selector(selector),
        ExprKind::Paren(operand) | ExprKind::Unary { operand, .. } => sort(operand),
        ExprKind::Binary(binary) => {
            sort(&mut binary.left);
            sort(&mut binary.right);
        }
        ExprKind::Aggregate(aggregate) => {
            aggregate.param.iter_mut().for_each(sort);
            sort(&mut aggregate.operand);
        }
        ExprKind::Call(call) => call.args.iter_mut().for_each(sort),
        ExprKind::Subquery(subquery) => sort(&mut subquery.operand),
    }
}

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let Ok(mut expr) = parse(&text) else { return };
    let printed = [expr.to_string(), pretty(&expr)];
    sort(&mut expr);
    for printed in printed {
        match parse(&printed) {
            Ok(mut again) => {
                sort(&mut again);
                assert!(again == expr, "{text:?} printed as {printed:?}: {expr:?} became {again:?}");
            }
            Err(error) => panic!("{text:?} printed as {printed:?}: {error}"),
        }
    }
});
