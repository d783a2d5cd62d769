//! Parsing, printing and refusing.

use proptest::prelude::*;

use super::{Expr, ExprKind, parse};

fn check(text: &str, expected: &str) {
    let printed = parse(text).map_or_else(|error| error.to_string(), |expr| expr.to_string());
    assert_eq!(printed, expected, "{text}");
}

/// What prints as itself.
fn check_same(text: &str) {
    check(text, text);
}

/// A second name within the braces was printed as the first, or the first before the braces, where no second may follow.
#[test]
fn two_names_are_printed_as_two() {
    check(r#"{__name__="a","b"}"#, r#"{"b",__name__="a"}"#);
    check(r#"{"b c",__name__=~"a.*"}"#, r#"{"b c",__name__=~"a.*"}"#);
    check(r#"{"b"}"#, "b");
}

#[test]
fn literals() {
    check("0x1F", "31");
    check("1_000", "1000");
    check("-1", "-1");
    check("+Inf", "+Inf");
    check("nan", "NaN");
    check("90s", "1m30s");
    check("'a\\'b'", "\"a'b\"");
    check_same("1000000000000000000000000000000");
}

#[test]
fn selectors() {
    check_same("up");
    check("up{job='a',}", r#"up{job="a"}"#);
    check_same(r#"{"my.metric","a.b"="c"}"#);
    check(r#"{__name__="up"}"#, r#"{__name__="up"}"#);
    check_same(r#"sum{by="x",le=~"z.*",offset!~"q",on!="y"}"#);
    check_same("rate:sum5m");
    check("start + end", "start + end");
    check_same("up offset -5m");
    check_same("up @ 12.500 offset 1h");
    check("up offset 1h @ start()", "up @ start() offset 1h");
    check_same("up[5m] @ end()");
    check("up[300] anchored", "up[5m] anchored");
    check_same("up smoothed");
}

#[test]
fn durations_are_computed() {
    check("up[5m + step() * 2]", "up[5m + step() * 2s]");
    check_same("up[min_of(5m, range())]");
    check_same("up offset (1h + 5m)");
    check_same("up offset -(1h - step())");
    check_same("up[5m:max_of(step(), 1s)]");
    check("up[(1m - 2m) ^ 2]", "up[(1m - 2m) ^ 2s]");
    check("up[1m - 1m]", "1:4: parse error: duration must be greater than 0");
    check("up[1m / 0]", "1:7: parse error: division by zero");
}

/// The tree with every grouping written out.
fn grouped(expr: &Expr) -> String {
    match &expr.kind {
        ExprKind::Paren(inner) => grouped(inner),
        ExprKind::Unary { operand, .. } => format!("-{}", grouped(operand)),
        ExprKind::Binary(binary) => {
            format!("({} {} {})", grouped(&binary.left), binary.op.as_str(), grouped(&binary.right))
        }
        _ => expr.to_string(),
    }
}

#[test]
fn operators_bind_as_they_should() {
    let check = |text: &str, expected: &str| {
        assert_eq!(grouped(&parse(text).expect("a good query")), expected, "{text}");
    };
    check("-a ^ 2", "-(a ^ 2)");
    check("-a * 2", "(-a * 2)");
    check("2 ^ -a * 3", "((2 ^ -a) * 3)");
    check("a or b and c", "(a or (b and c))");
    check("a + b * c ^ d ^ e", "(a + (b * (c ^ (d ^ e))))");
    check("a - b - c", "((a - b) - c)");
    check("a > b + c", "(a > (b + c))");
    check("a atan2 b * c", "((a atan2 b) * c)");
    check("a </ 2 >/ 1", "((a </ 2) >/ 1)");
}

#[test]
fn matching_and_grouping() {
    check("a + on(x) group_left b", "a + on (x) group_left () b");
    check_same(r#"a / ignoring (x, "y.z") group_right (v) b"#);
    check_same("a == bool on () b");
    check_same("a + on (x) fill (0) b");
    check_same("a + fill_left (1) fill_right (NaN) b");
    check("sum(a) by (x, on)", "sum by (x, on) (a)");
    check("SUM without (x) (a)", "sum without (x) (a)");
    check_same("topk by (job) (3, up)");
    check_same(r#"count_values("v", up)"#);
    check_same("limit_ratio(-0.5, up)");
    check_same(r#"info(up, {k8s_cluster=~".*"})"#);
    check("sum # total\n(a)", "sum(a)");
}

#[test]
fn what_is_wrong_is_said_where() {
    check("", "1:1: parse error: no expression found in input");
    check("up up", "1:4: parse error: unexpected identifier \"up\"");
    check("sum(", "1:5: parse error: unclosed left parenthesis");
    check("1 +", "1:4: parse error: unexpected end of input");
    check("rate(up)", r#"1:6: parse error: expected type range vector in call to function "rate", got instant vector"#);
    check("foo(up)", r#"1:1: parse error: unknown function with name "foo""#);
    check("{}", "1:1: parse error: vector selector must contain at least one non-empty matcher");
    check("1 == 1", "1:3: parse error: comparisons between scalars must use BOOL modifier");
    check("a and 1", r#"1:1: parse error: set operator "and" not allowed in binary scalar expression"#);
    check("a + bool b", "1:3: parse error: bool modifier can only be used on comparison operators");
    check("1 + on(x) a", "1:1: parse error: vector matching only allowed between instant vectors");
    check("a and on(x) group_left b", r#"1:1: parse error: no grouping allowed for "and" operation"#);
    check("a + on(x) group_left(x) b", r#"1:3: parse error: label "x" must not occur in ON and GROUP clause at once"#);
    check("a[5m] + 1", "1:1: parse error: binary expression must contain only scalar and instant vector types");
    check("sum(a)[5m]", "1:7: parse error: ranges only allowed for vector selectors");
    check("a offset 1m [5m]", "1:13: parse error: no offset modifiers allowed before range");
    check("a offset 1m offset 1m", "1:1: parse error: offset may not be set multiple times");
    check(
        "1 offset 1m",
        "1:1: parse error: offset modifier must be preceded by an instant vector selector or range vector selector or a subquery",
    );
    check("a[5m][5m:1m]", "1:1: parse error: subquery is only allowed on instant vector, got matrix instead");
    check("clamp(a)", r#"1:1: parse error: expected 3 argument(s) in call to "clamp", got 1"#);
    check("round()", r#"1:1: parse error: expected at least 1 argument(s) in call to "round", got 0"#);
    check(
        "topk(a)",
        "1:1: parse error: wrong number of arguments for aggregate expression provided, expected 2, got 1",
    );
    check("m{__name__=\"n\"}", r#"1:1: parse error: metric name must not be set twice: "m" or "n""#);
    check("a + on(b) ignoring(c) d", "1:11: parse error: unexpected <ignoring>");
    check("foo @ +Inf", "1:1: parse error: timestamp out of bounds for @ modifier: +Inf");
    check("topk(1,)", "1:7: parse error: trailing commas not allowed in function call args");
    check("info(a, b{c=\"d\"})", "1:9: parse error: expected label selectors only, got vector selector instead");
    check("a offset 9.5e10", "1:10: parse error: duration out of range");
    check("count_values(\"\\xff\", a)", "invalid label name \"\\xff\"");
    assert!(parse("a{x=~'('}").is_err());
}

#[test]
fn nesting_is_limited() {
    for text in ["(".repeat(100_000), "-".repeat(100_000) + "1", "1".to_owned() + &"+1".repeat(100_000)] {
        assert!(parse(&text).is_err());
    }
    let deep = "(".repeat(150) + "1" + &")".repeat(150);
    assert!(parse(&deep).is_ok());
}

pub(crate) fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("up".to_owned()),
        Just(r#"m{a="b",c!~"d.*"}"#.to_owned()),
        Just(r#"{"a.b","c d"="\"\n"}"#.to_owned()),
        Just("m offset -5m".to_owned()),
        Just("m @ end() offset 1h".to_owned()),
        any::<f64>().prop_map(|value| format!("vector({value:e})").replace("inf", "Inf")),
        (1u32..1_000_000).prop_map(|ms| format!("rate(m[{ms}ms])")),
    ];
    leaf.prop_recursive(5, 40, 3, |inner| {
        let op = prop::sample::select(vec![
            "+",
            "-",
            "*",
            "/",
            "%",
            "^",
            "atan2",
            "== bool",
            ">",
            "or",
            "and on (x)",
            "/ ignoring (z) group_left (y)",
            "+ fill (1)",
        ]);
        prop_oneof![
            (inner.clone(), op, inner.clone()).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
            inner.clone().prop_map(|a| format!("({a})")),
            inner.clone().prop_map(|a| format!("-{a}")),
            inner.clone().prop_map(|a| format!("sum by (x) ({a})")),
            inner.clone().prop_map(|a| format!("quantile without (x) (0.5, {a})")),
            inner.clone().prop_map(|a| format!("max_over_time(({a})[5m:step() + 1s] offset 1m)")),
            inner.prop_map(|a| format!("label_replace({a}, \"x\", '$1', `y`, \"(.*)\")")),
        ]
    })
}

proptest! {
    #[test]
    fn any_text_is_parsed_or_refused(text in "\\PC*") {
        let _ = parse(&text);
    }

    #[test]
    fn any_tokens_are_parsed_or_refused(tokens in prop::collection::vec(prop::sample::select(vec![
        "sum", "by", "(", ")", "{", "}", "[", "]", "5m", "1", "+", "-", "^", "offset", "@", "start", "foo", "\"x\"", "=",
        "=~", ",", ":", "rate", "on", "bool", "group_left", "fill", "and", "é", "step", "min_of", "anchored", "'", "\\",
    ]), 0..30)) {
        if let Ok(expr) = parse(&tokens.join(" ")) {
            prop_assert_eq!(parse(&expr.to_string()).ok(), Some(expr));
        }
    }

    #[test]
    fn printing_and_parsing_are_inverse(text in expression()) {
        let expr = parse(&text).map_err(|error| TestCaseError::fail(format!("{text}: {error}")))?;
        let printed = expr.to_string();
        let again = parse(&printed).map_err(|error| TestCaseError::fail(format!("{printed}: {error}")))?;
        prop_assert_eq!(again, expr);
    }
}

#[test]
fn a_caret_stands_under_the_mistake() {
    let text = "sum(up)\n  / ä on(x";
    let error = parse(text).expect_err("no expression");
    let shown = error.pointed(text);
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!((lines[1], lines[2]), ("    / ä on(x", "      ^"));
}

/// Found by fuzzing: `+Inf ^ x` reads as a sign before the power `Inf ^ x`.
#[test]
fn an_infinite_base_is_printed_without_a_sign() {
    for text in ["Inf ^ mn", "-Inf ^ mn", "+Inf + 1"] {
        let expr = parse(text).expect("an expression");
        assert_eq!(expr.to_string(), text);
        let long = format!("{text} + {}", "a_metric_with_a_long_name + ".repeat(5) + "b");
        let expr = parse(&long).expect("an expression");
        assert_eq!(parse(&super::pretty(&expr)).ok(), Some(expr), "{long}");
    }
}
