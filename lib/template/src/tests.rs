use std::sync::Arc;

use model::{Labels, Sample};
use proptest::prelude::*;

use super::*;

fn data() -> Value {
    let labels = Labels::from_pairs([("alertname", "Down"), ("job", "node"), ("zone", "a<b")]);
    let alert = |n: i64| Value::map([("Labels", Value::from(&labels)), ("Value", Value::Int(n))]);
    Value::map([
        ("Labels", Value::from(&labels)),
        ("Alerts", Value::list([alert(1), alert(2), alert(3)])),
        ("Empty", Value::list([])),
        ("Name", "x".into()),
        ("Count", Value::Int(3)),
        ("StartsAt", Value::object(TimeValue::from_ms(1_763_620_000_250))),
    ])
}

fn prometheus() -> Functions {
    let query: Query = Arc::new(|expr| match expr {
        "up" => Ok(vec![(Labels::from_pairs([("job", "a")]), Sample { t_ms: 0, value: 2.0 })]),
        _ => Err("no such metric".to_owned()),
    });
    prometheus_functions(&PrometheusContext { external_url: "http://host/prefix".into(), now_ms: 1500, query })
}

fn check(text: &str, expected: &str) {
    let got = Templates::new().expand(text, &data(), &prometheus(), Mode::Text);
    match got {
        Ok(got) => assert_eq!(got, expected, "{text}"),
        Err(error) => assert!(error.to_string().contains(expected), "{text}: {error} does not say {expected:?}"),
    }
}

#[test]
fn control_structures() {
    check("{{ if .Name }}yes{{ else }}no{{ end }}", "yes");
    check("{{ if not .Name }}a{{ else if eq .Count 3 }}b{{ else }}c{{ end }}", "b");
    check("{{ range .Alerts }}{{ .Value }},{{ end }}", "1,2,3,");
    check("{{ range $i, $a := .Alerts }}{{ $i }}:{{ $a.Value }} {{ end }}", "0:1 1:2 2:3 ");
    check("{{ range .Empty }}x{{ else }}none{{ end }}", "none");
    check("{{ range $k, $v := .Labels }}{{ $k }}={{ $v }};{{ end }}", "alertname=Down;job=node;zone=a<b;");
    check("{{ range .Alerts }}{{ if eq .Value 2 }}{{ continue }}{{ end }}{{ .Value }}{{ end }}", "13");
    check("{{ range .Alerts }}{{ if eq .Value 2 }}{{ break }}{{ end }}{{ .Value }}{{ end }}", "1");
    check("{{ range 3 }}{{ . }}{{ end }}", "012");
    check("{{ with .Labels.job }}{{ . }}{{ end }}{{ with .Empty }}x{{ else }}y{{ end }}", "nodey");
    check("{{ with $x := 5 }}{{ $x }}{{ end }}", "5");
    check("{{ $x := 1 }}{{ range .Alerts }}{{ $x = .Value }}{{ end }}{{ $x }}", "3");
    check(
        "{{ define \"a\" }}<{{ . }}>{{ end }}{{ template \"a\" .Name }}{{ block \"b\" 7 }}[{{ . }}]{{ end }}",
        "<x>[7]",
    );
}

#[test]
fn pipelines_members_and_methods() {
    check("{{ .Labels.SortedPairs.Names }}", "[alertname job zone]");
    check("{{ (.Labels.Remove (args \"x\")).job }}", "node");
    check("{{ .Labels.Values | len }}", "3");
    check("{{ range .Labels.SortedPairs }}{{ .Name }}={{ .Value }} {{ end }}", "alertname=Down job=node zone=a<b ");
    check("{{ .Labels.missing }}|{{ .Nothing }}", "|");
    check("{{ index .Alerts 1 | printf \"%v\" | len | lt 5 }}", "true");
    check("{{ (index .Alerts 0).Labels.job }}", "node");
    check("{{ .StartsAt.Format \"2006-01-02\" }} {{ .StartsAt.Year }}", "2025-11-20 2025");
    check("{{ printf \"%s-%d\" .Name .Count | toUpper }}", "X-3");
    check("{{ and .Name .Empty | len }}{{ or .Empty .Name }}", "0x");
    check("{{ eq .Name \"a\" \"x\" }} {{ ne 1 2 }} {{ le 1.5 2.5 }}", "true true true");
    check("{{ slice .Name 0 1 }}{{ html \"<a>\" }}{{ urlquery \"a b&c\" }}", "x&lt;a&gt;a+b%26c");
}

#[test]
fn trimming_comments_and_literals() {
    check("a {{- 1 -}} b", "a1b");
    check("a {{- /* gone */ -}} b{{/* x */}}c", "abc");
    check("{{ `raw \\n` }}{{ \"tab\\t\\u00e9\" }}{{ 'a' }}{{ 0x1f }}{{ -2 }}{{ 1.5e3 }}", "raw \\ntab\té9731-21500");
    check("{{ true }}{{ nil | printf \"%v\" }}", "true<nil>");
}

#[test]
fn prometheus_functions_do_what_its_page_says() {
    check(
        "{{ 1234567 | humanize }} {{ \"0.5\" | humanizePercentage }} {{ humanizeDuration 3725.0 }}",
        "1.235M 50% 1h 2m 5s",
    );
    check("{{ query \"up\" | first | value }} {{ query \"up\" | first | label \"job\" }}", "2 a");
    check("{{ reReplaceAll \"(.*):.*\" \"$1\" \"host:90\" }} {{ match \"h.*\" \"host\" }}", "host true");
    check(
        "{{ stripPort \"[::1]:80\" }} {{ stripDomain \"a.b.c:80\" }} {{ stripDomain \"10.0.0.1:80\" }}",
        "::1 a:80 10.0.0.1:80",
    );
    check(
        "{{ title \"hello big world\" }} {{ externalURL }} {{ pathPrefix }} {{ now }}",
        "Hello Big World http://host/prefix /prefix 1.5",
    );
    check("{{ 0 | humanizeTimestamp }} {{ parseDuration \"1m30s\" }}", "1970-01-01 00:00:00 +0000 UTC 90");
}

#[test]
fn errors_point_at_their_place() {
    check("line\n {{ nofunc }}", "template: :2:2: function \"nofunc\" not defined");
    check("{{ query \"down\" }}", "error calling query: no such metric");
    check("{{ if .Name }}", "unexpected EOF");
    check("{{ end }}", "unexpected {{end}}");
    check("{{ .Name", "unclosed action");
    check("{{ template \"nope\" }}", "template \"nope\" not defined");
    check("{{ .Name.x }}", "can't evaluate field x in type string");
    check("{{ $y }}", "undefined variable: $y");
    check("{{ lt 1 \"a\" }}", "incompatible types");
}

#[test]
fn what_is_not_there_is_refused_before_it_runs() {
    let check = |text: &str, expected: Result<(), &str>| match (
        Templates::check("t", text, &prometheus(), &["labels"]),
        expected,
    ) {
        (Ok(()), Ok(())) => {}
        (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
        (got, _) => panic!("{text}: {got:?}"),
    };
    check("{{ $labels.x | toUpper | printf \"%s\" }}{{ with $y := 1 }}{{ $y }}{{ end }}", Ok(()));
    check("{{ if true }}{{ nosuch 1 }}{{ end }}", Err("function \"nosuch\" not defined"));
    check("\n {{ $nosuch }}", Err("t:2:2: undefined variable: $nosuch"));
    check("{{ with $y := 1 }}{{ end }}{{ $y }}", Err("undefined variable: $y"));
    check(
        "{{ range $i, $v := .x }}{{ $i }}{{ ($v) }}{{ end }}{{ define \"d\" }}{{ f }}{{ end }}",
        Err("function \"f\""),
    );
}

#[test]
fn html_mode_escapes_all_but_what_is_called_safe() {
    let check = |text: &str, expected: &str| {
        let got = Templates::new().expand(text, &data(), &alertmanager_functions(0), Mode::Html).expect("expands");
        assert_eq!(got, expected);
    };
    check("<b>{{ .Labels.zone }}</b>{{ \"<i>\" | safeHtml }}", "<b>a&lt;b</b><i>");
    check("{{ .Labels.Values | join \", \" }}", "Down, node, a&lt;b");
}

#[test]
fn a_template_cannot_hold_the_process_up() {
    check("{{ define \"a\" }}{{ template \"a\" }}{{ end }}{{ template \"a\" }}", "maximum template depth");
    check("{{ range 100000 }}{{ range 100000 }}x{{ end }}{{ end }}", "more than");
    check(&"{{ if true }}".repeat(500), "nested too deeply");
    check(&format!("{{{{ {}1 }}}}", "(".repeat(500)), "nested too deeply");
}

proptest! {
    #[test]
    fn no_text_panics(text in "(\\{\\{|\\}\\}|-|[ .$()|:=,\"'`a-z0-9\\\\]|if |end|range |with |define |/\\*|\\*/|\n|é){0,40}") {
        let _ = Templates::new().expand(&text, &data(), &prometheus(), Mode::Html);
    }
}
