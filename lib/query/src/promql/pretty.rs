//! Prints an expression over several lines where one would be longer than 100 characters: the layout of Prometheus'
//! `format_query` and `promtool promql format`.

use super::ast::{Aggregate, Expr, ExprKind};
use super::display::{grouping, infinite_base, matching, subquery_suffix};

const MAX_LINE_CHARS: usize = 100;

/// The expression as canonical text, indented by two blanks a level.
pub fn pretty(expr: &Expr) -> String {
    let mut out = String::new();
    write(expr, 0, &mut out);
    out
}

fn indent(level: usize) -> String {
    "  ".repeat(level)
}

fn write(expr: &Expr, level: usize, out: &mut String) {
    let line = expr.to_string();
    let margin = indent(level);
    if line.len() <= MAX_LINE_CHARS {
        out.push_str(&margin);
        out.push_str(&line);
        return;
    }
    match &expr.kind {
        ExprKind::Aggregate(aggregate) => write_aggregate(aggregate, level, out),
        ExprKind::Binary(binary) => {
            match infinite_base(binary) {
                Some(base) => out.push_str(&format!("{}{base}", indent(level + 1))),
                None => write(&binary.left, level + 1, out),
            }
            out.push_str(&format!("\n{margin}{}\n", matching(binary)));
            write(&binary.right, level + 1, out);
        }
        ExprKind::Call(call) => {
            out.push_str(&format!("{margin}{}(\n", call.function.name));
            write_list(call.args.iter(), level, out);
        }
        ExprKind::Paren(inner) => {
            out.push_str(&format!("{margin}(\n"));
            write_list([inner.as_ref()].into_iter(), level, out);
        }
        ExprKind::Subquery(subquery) => {
            write(&subquery.operand, level, out);
            out.push_str(&subquery_suffix(subquery));
        }
        ExprKind::Unary { negative, operand } => {
            let mut inner = String::new();
            write(operand, level, &mut inner);
            out.push_str(&format!("{margin}{}{}", if *negative { '-' } else { '+' }, inner.trim()));
        }
        ExprKind::Number { .. } | ExprKind::Text(_) | ExprKind::Selector(_) | ExprKind::Range { .. } => {
            out.push_str(&margin);
            out.push_str(&line);
        }
    }
}

fn write_aggregate(aggregate: &Aggregate, level: usize, out: &mut String) {
    out.push_str(&format!("{}{}{}(\n", indent(level), aggregate.op.as_str(), grouping(&aggregate.grouping)));
    write_list(aggregate.param.iter().chain([&aggregate.operand]), level, out);
}

/// One argument a line, and the parenthesis that closes them.
fn write_list<'a>(args: impl Iterator<Item = &'a Expr>, level: usize, out: &mut String) {
    for (i, arg) in args.enumerate() {
        if i > 0 {
            out.push_str(",\n");
        }
        write(arg, level + 1, out);
    }
    out.push_str(&format!("\n{})", indent(level)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;

    fn check(text: &str, expected: &str) {
        let expr = parse(text).expect("an expression");
        let printed = pretty(&expr);
        assert_eq!(printed, expected);
        let again = parse(&printed).expect("what was printed is an expression");
        assert_eq!(again.to_string(), expr.to_string());
    }

    #[test]
    fn what_fits_stays_on_a_line() {
        check("sum by(a) (rate(x[5m]))", "sum by (a) (rate(x[5m]))");
    }

    #[test]
    fn what_does_not_fit_is_broken_up() {
        let long = "a_metric_with_quite_a_long_name_of_its_own";
        check(
            &format!("sum by (job) (rate({long}{{job=\"one\"}}[5m])) / on (job) group_left () {long}{{job=\"two\"}}"),
            &format!(
                "  sum by (job) (rate({long}{{job=\"one\"}}[5m]))\n/ on (job) group_left ()\n  {long}{{job=\"two\"}}"
            ),
        );
        check(
            &format!(
                "topk(5, label_replace({long}, \"a_label\", \"$1\", \"another_label\", \"(.*)-(.*)-(.*)-(.*)-(.*)\"))"
            ),
            &format!(
                "topk(\n  5,\n  label_replace(\n    {long},\n    \"a_label\",\n    \"$1\",\n    \"another_label\",\n    \
                 \"(.*)-(.*)-(.*)-(.*)-(.*)\"\n  )\n)"
            ),
        );
        check(&format!("-({long} + {long} + {long})"), &format!("-(\n    {long} + {long}\n  +\n    {long}\n)"));
    }
}
