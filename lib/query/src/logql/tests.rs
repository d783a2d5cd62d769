//! What scripts do not say: printing, what reaches the store, and texts of any kind. Scripts are in [`crate::logscript`].

use model::Labels;

use super::*;
use crate::AnyOf;
use crate::SelectedLine;

fn parsed(query: &str) -> LogExpr {
    parse(query).unwrap_or_else(|error| panic!("{query}: {}", describe(&error)))
}

#[test]
fn literals_of_line_filters_reach_the_store() {
    let literals = |query: &str| match parsed(query) {
        LogExpr::Log(selector) => selector.pipeline.literals(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        literals(r#"{a="b"} |= "x" != "y" | json |= "z" | line_format "{{.m}}" |= "w""#),
        ["x", "z"].map(AnyOf::one)
    );
    let either = AnyOf { texts: vec!["x".into(), "y".into()], ignore_case: false };
    assert_eq!(literals(r#"{a="b"} |= "x" or "y" |~ "z.""#), [either, AnyOf::one("z")]);
    assert_eq!(literals(r#"{a="b"} |> "<_> took <_> ms""#), [AnyOf::one(" took ")]);
    assert!(literals(r#"{a="b"} |= "x" or ip("::1") |~ ".*" |= "" != "y""#).is_empty());
}

#[test]
fn matchers_may_stand_alone() {
    let check = |text: &str, expected: Option<usize>| {
        assert_eq!(parse_matchers(text).ok().map(|matchers| matchers.len()), expected, "{text}");
    };
    check("{}", Some(0));
    check(r#"{a="b", c!~"d"}"#, Some(2));
    check(r#"{a="b"} |= "x""#, None);
    check("rate", None);
}

/// One query of every kind of node, as it is printed.
const PRINTED: [&str; 16] = [
    r#"{a="b", c=~"d.*", e!="", f!~"g"} |= "x" != "y" or "z" |~ "r+" !~ "s" |> "<_> t" !> "u<_>" |= ip("1.2.3.0/24")"#,
    r#"{a="b"} | json | json x="y[0].z", q="w" | logfmt | logfmt --strict --keep-empty v="w" | unpack | decolorize"#,
    r#"{a="b"} | regexp "(?P<x>.)" | pattern "<y> \"<_>" | line_format "{{ upper .x }}" | label_format u=v, w="{{.x}}""#,
    r#"{a="b"} | drop x, y="z" | keep u, v=~"w" | x="y" | ( x>1.5 , y<=1m30s or z!=ip("::1") ) | s==2000B"#,
    r#"sum by (a, b) (rate({a="b"} |= "x" [5m] offset 1h0m0s))"#,
    r#"avg_over_time({a="b"} | logfmt | unwrap duration(x) | y!="" [1h]) without (z)"#,
    r#"quantile_over_time(0.99, {a="b"} | unwrap bytes(x) [1m30s]) by ()"#,
    r#"approx_count_distinct(x, {a="b"} [5m]) by (a)"#,
    r#"topk(3, count_over_time({a="b"} [5m])) / on (a) group_left (b) sum without () (rate({a="b"} [5m])) > bool 1"#,
    r#"(vector(1) + 2 * -3) ^ 2 ^ 3 and ignoring (x) sort_desc(vector(1)) unless vector(2) or vector(3)"#,
    r#"label_replace(rate({a="b"} [5m]), "x", "$1", "y", "(.*)")"#,
    "1 == 1",
    "-1.5e-7",
    r#"count_over_time({a="b"} | unwrap_not="x" [5m])"#,
    r#"sum(absent_over_time({a="b"} [1d]))"#,
    r#"rate({a="b"} | unwrap x [500ms] offset -1.5s)"#,
];

#[test]
fn queries_print_as_they_are_parsed() {
    for query in PRINTED {
        let expr = parsed(query);
        let printed = expr.to_string();
        assert_eq!(parsed(&printed).to_string(), printed, "{query}");
        let again = parsed(&expr.pretty());
        assert_eq!(again.to_string(), printed, "{}", expr.pretty());
    }
    assert_eq!(parsed(PRINTED[0]).to_string(), PRINTED[0]);
    assert_eq!(parsed(PRINTED[8]).to_string(), PRINTED[8]);
}

#[test]
fn long_queries_are_split() {
    let long = format!(r#"sum by (x) (rate({{app="a"}} | json | line_format "{}" | x > 5 [5m]))"#, "y".repeat(60));
    let pretty = parsed(&long).pretty();
    let lines: Vec<&str> = pretty.lines().collect();
    assert_eq!(
        (lines[0], lines[1], lines[2], lines[3]),
        ("sum by (x) (", "  rate(", "    {app=\"a\"}", "      | json")
    );
    assert_eq!(lines[lines.len() - 3..], ["      [5m]", "  )", ")"]);
}

proptest::proptest! {
    #[test]
    fn any_text_is_parsed_or_refused_and_printing_keeps_it(text in "(\\{a=\"b\"\\}|rate\\(|sum by \\(x\\) ?\\(|\\[5m\\]|\\)|\\| ?(json|logfmt|unwrap|drop|line_format) |[|!][=~>]|\"\\PC{0,3}\"|[a-z]{1,2}|[-+*/(),=<>0-9.]|\\PC){0,12}") {
        if let Ok(expr) = parse(&text) {
            let printed = expr.to_string();
            let again = parse(&printed).map_err(|error| format!("{printed}: {}", describe(&error)));
            proptest::prop_assert_eq!(again.map(|again| again.to_string()), Ok(printed));
        }
    }

    #[test]
    fn parts_of_queries_print_as_they_are_parsed(
        stages in proptest::collection::vec(0..30_usize, 0..5),
        operator in 0..6_usize,
        number in -1e9..1e9_f64,
        text in "\\PC{0,6}",
    ) {
        let stage = |i: usize| PRINTED[1..4][i % 3].split(" | ").skip(1).nth(i / 3 % 4).map_or(String::new(), |s| format!(" | {s}"));
        let stages: String = stages.into_iter().map(stage).collect();
        let operator = ["+", "/", "> bool", "and on (a)", "* on (a) group_left ()", "^"][operator];
        let right = if operator.starts_with("and") || operator.contains("group") { "vector(1)".to_owned() } else { format!("{number}") };
        let query = format!("rate({{a={}}}{stages} |= \"x\" [5m]) {operator} {right}", crate::literal::quote(&format!("x{text}")));
        let printed = parsed(&query).to_string();
        proptest::prop_assert_eq!(parsed(&printed).to_string(), printed);
    }

    #[test]
    fn any_line_runs_through_every_parser(line in "([\"{}:,=<> a-c\\\\]|\\PC){0,40}") {
        let query = r#"{a="b"} | json | json p="a[0].b" | logfmt | logfmt q="a" | pattern "<x>=<y>" | regexp "(?P<z>.)" | unpack | decolorize | z > 5 | x > 5ms | x = ip("::1") | line_format "{{.x | upper}}{{__line__}}{{__timestamp__}}" | label_format q=x | drop y | keep q"#;
        let LogExpr::Log(selector) = parsed(query) else { panic!("a log query") };
        let labels = Labels::from_pairs([("a", "b")]);
        selector.pipeline.runner().run(&SelectedLine { labels: &labels, metadata: &labels, t_ns: 1, text: &line });
    }
}
