//! Groups over a scripted query engine: every instant is given, nothing waits.

use std::collections::HashMap;

use futures::FutureExt;
use futures::future::BoxFuture;
use model::{Alert, Histogram, SeriesSamples, is_stale};
use query::Element;

use super::*;
use crate::file::{Kind, parse};

type Vector = Vec<Element>;

/// Answers what the test put there, remembers what was asked, appended and sent.
#[derive(Default)]
struct Script {
    answers: Mutex<HashMap<String, Result<Vector, String>>>,
    asked: Mutex<Vec<(String, i64)>>,
    appended: Mutex<Vec<SeriesSamples>>,
    sent: Mutex<Vec<Alert>>,
}

impl Script {
    fn answer(&self, expr: &str, values: &[(&str, f64)]) {
        let element = |(job, value): &(&str, f64)| {
            let labels = Labels::from_pairs([("__name__", "m"), ("job", job)]);
            Element { labels, t_ms: 0, point: (*value).into() }
        };
        self.answers.lock().insert(expr.to_owned(), Ok(values.iter().map(element).collect()));
    }

    /// The series appended since the last look, as text with their values.
    fn take_appended(&self) -> Vec<String> {
        let mut series: Vec<String> = self
            .appended
            .lock()
            .drain(..)
            .map(|one| {
                if let Some(one_histogram) = one.histograms.first() {
                    return format!("{} {} @{}", one.labels, one_histogram.histogram, one_histogram.t_ms);
                }
                let sample = one.samples[0];
                let value = if is_stale(sample.value) { "stale".to_owned() } else { sample.value.to_string() };
                format!("{} {value} @{}", one.labels, sample.t_ms)
            })
            .collect();
        series.sort();
        series
    }
}

impl Evaluator for Script {
    fn instant<'a>(&'a self, _: &'a str, _: Kind, expr: &'a str, t_ms: i64) -> BoxFuture<'a, Result<Vector, String>> {
        self.asked.lock().push((expr.to_owned(), t_ms));
        let answer = self.answers.lock().get(expr).cloned().unwrap_or(Ok(Vec::new()));
        futures::future::ready(answer).boxed()
    }
}

impl Appender for Script {
    fn append<'a>(&'a self, _: &'a str, series: Vec<SeriesSamples>) -> BoxFuture<'a, Result<(), String>> {
        self.appended.lock().extend(series);
        futures::future::ready(Ok(())).boxed()
    }
}

impl Notifier for Script {
    fn send(&self, alerts: Vec<Alert>) -> BoxFuture<'_, Result<(), String>> {
        self.sent.lock().extend(alerts);
        futures::future::ready(Ok(())).boxed()
    }
}

struct Stage {
    script: Arc<Script>,
    seams: Seams,
    queue: AlertQueue,
    group: Group,
}

impl Stage {
    fn new(rules: &str) -> Stage {
        let spec = spec(rules);
        let script = Arc::new(Script::default());
        let stats = Arc::new(Stats::default());
        let seams = Seams {
            evaluator: script.clone(),
            appender: script.clone(),
            stats: stats.clone(),
            tenant: "t".into(),
            external_labels: Labels::from_pairs([("cluster", "c1")]),
            external_url: "http://b".into(),
            alert_relabel: Vec::new(),
        };
        Stage { script, seams, queue: AlertQueue::new(stats), group: Group::new(spec) }
    }

    async fn at(&mut self, t_s: i64) -> Vec<String> {
        self.group.evaluate(t_s * 1000, &self.seams, &self.queue).await;
        self.script.take_appended()
    }

    /// Alerts queued since the last look: name, job and whether they are resolved at `t_s`.
    async fn sent(&self, t_s: i64) -> Vec<(String, bool)> {
        let stop = CancellationToken::new();
        stop.cancel();
        let notifier: Arc<dyn Notifier> = self.script.clone();
        self.queue.run(notifier, stop).await;
        let describe =
            |alert: Alert| (alert.labels.get("job").unwrap_or("").to_owned(), alert.is_resolved_at(t_s * 1000));
        self.script.sent.lock().drain(..).map(describe).collect()
    }

    fn error(&self) -> Option<String> {
        self.group.status().rules[0].error.clone()
    }
}

fn spec(rules: &str) -> GroupSpec {
    let text = format!("groups:\n- name: g\n  interval: 60s\n{rules}");
    parse("f", &text, 60_000, 0).expect("good rules").remove(0)
}

#[tokio::test]
async fn a_recording_rule_writes_its_name_and_labels_and_marks_what_vanishes() {
    let mut stage = Stage::new("  query_offset: 10s\n  rules: [{record: r, expr: e, labels: {x: y}}]");
    stage.script.answer("e", &[("a", 1.0), ("b", 2.0)]);
    let first = stage.at(100).await;
    assert_eq!(first, [r#"{__name__="r", job="a", x="y"} 1 @90000"#, r#"{__name__="r", job="b", x="y"} 2 @90000"#,]);
    assert_eq!(stage.script.asked.lock()[0], ("e".to_owned(), 90_000));
    stage.script.answer("e", &[("b", 3.0)]);
    assert_eq!(
        stage.at(160).await,
        [r#"{__name__="r", job="a", x="y"} stale @150000"#, r#"{__name__="r", job="b", x="y"} 3 @150000"#,]
    );
    stage.script.answer("e", &[("b", 3.0), ("b", 4.0)]);
    stage.at(220).await;
    assert!(stage.error().expect("an error").contains("same labelset"));
}

#[tokio::test]
async fn a_recording_rule_writes_histograms() {
    let mut stage = Stage::new("  rules: [{record: r, expr: e}]");
    let histogram = Histogram { count: 2.0, sum: 3.0, ..Histogram::default() };
    let element = Element { labels: Labels::default(), t_ms: 0, point: histogram.into() };
    stage.script.answers.lock().insert("e".to_owned(), Ok(vec![element]));
    assert_eq!(stage.at(60).await, [r#"{__name__="r"} {count:2, sum:3} @60000"#]);
}

#[tokio::test]
async fn an_alert_waits_for_its_time_fires_is_resent_and_resolves() {
    let mut stage =
        Stage::new("  rules: [{alert: A, expr: e, for: 3m, annotations: {s: '{{ $labels.job }}={{ $value }}'}}]");
    stage.script.answer("e", &[("a", 7.0)]);
    assert_eq!(stage.at(0).await, [] as [&str; 0], "nothing is written before the state is restored");
    assert_eq!(stage.at(60).await, [] as [&str; 0]);
    let pending = stage.at(120).await;
    assert_eq!(
        pending,
        [
            r#"{__name__="ALERTS", alertname="A", alertstate="pending", job="a"} 1 @120000"#,
            r#"{__name__="ALERTS_FOR_STATE", alertname="A", job="a"} 0 @120000"#,
        ]
    );
    assert_eq!(stage.sent(120).await, []);
    let firing = stage.at(180).await;
    assert!(firing[0].contains(r#"alertstate="firing""#), "{firing:?}");
    assert!(firing.iter().any(|line| line.contains("pending") && line.contains("stale")), "{firing:?}");
    assert_eq!(stage.group.status().rules[0].alerts[0].annotations.get("s"), Some("a=7"));
    assert_eq!(stage.sent(180).await, [("a".to_owned(), false)]);
    stage.at(240).await;
    assert_eq!(stage.sent(240).await, [], "not before the resend delay has passed");
    stage.at(300).await;
    assert_eq!(stage.sent(300).await, [("a".to_owned(), false)]);
    stage.script.answer("e", &[]);
    stage.at(360).await;
    assert_eq!(stage.sent(360).await, [("a".to_owned(), true)]);
    stage.at(480).await;
    assert_eq!(stage.sent(480).await, [("a".to_owned(), true)], "a resolved alert is told about again");
    stage.at(360 + 16 * 60).await;
    assert_eq!(stage.sent(360 + 16 * 60).await, [], "and forgotten after 15 minutes");
}

#[tokio::test]
async fn keep_firing_for_bridges_a_gap() {
    let mut stage = Stage::new("  rules: [{alert: A, expr: e, keep_firing_for: 2m}]");
    stage.script.answer("e", &[("a", 1.0)]);
    stage.at(0).await;
    stage.script.answer("e", &[]);
    stage.at(60).await;
    assert_eq!(stage.group.status().rules[0].state, crate::alerting::State::Firing);
    stage.at(180).await;
    assert_eq!(stage.group.status().rules[0].state, crate::alerting::State::Inactive);
}

#[tokio::test]
async fn past_the_limit_nothing_is_active() {
    let mut stage = Stage::new("  limit: 1\n  rules: [{alert: A, expr: e}]");
    stage.script.answer("e", &[("a", 1.0), ("b", 1.0)]);
    stage.at(0).await;
    assert_eq!(stage.error().as_deref(), Some("exceeded limit of 1 with 2 alerts"));
    assert!(stage.group.status().rules[0].alerts.is_empty());
}

#[tokio::test]
async fn the_time_an_alert_was_pending_survives_a_restart() {
    let selector = r#"(ALERTS_FOR_STATE{alertname="A"}[3600000ms])"#;
    let mut stage = Stage::new("  rules: [{alert: A, expr: e, for: 1h}]");
    stage.script.answer("e", &[("a", 1.0)]);
    let known = |value: f64| {
        let labels = Labels::from_pairs([("__name__", "ALERTS_FOR_STATE"), ("alertname", "A"), ("job", "a")]);
        Ok(vec![Element { labels, t_ms: 0, point: value.into() }])
    };
    // Active since 1,000 s, last seen at 3,400 s; the process is back and restores at 4,060 s: 660 s of outage do not count.
    stage.script.answers.lock().insert(format!("last_over_time{selector}"), known(1_000.0));
    stage.script.answers.lock().insert(format!("ts_of_last_over_time{selector}"), known(3_400.0));
    stage.at(4_000).await;
    assert_eq!(stage.group.status().rules[0].alerts.len(), 1);
    stage.at(4_060).await;
    assert_eq!(stage.group.status().rules[0].alerts[0].active_at_ms, 1_660_000);
    stage.at(1_660 + 3_600).await;
    assert_eq!(stage.group.status().rules[0].state, crate::alerting::State::Firing);
}

#[tokio::test]
async fn a_bad_template_becomes_text_and_labels_are_expanded() {
    let mut stage = Stage::new(
        "  rules: [{alert: A, expr: e, labels: {l: 'x-{{ $labels.job }}'}, annotations: {s: '{{ humanize \"x\" }}'}}]",
    );
    stage.script.answer("e", &[("a", 1.0)]);
    stage.at(0).await;
    let alert = stage.group.status().rules[0].alerts[0].clone();
    assert_eq!(alert.labels.get("l"), Some("x-a"));
    assert!(alert.annotations.get("s").expect("there").starts_with("<error expanding template:"));
}

#[tokio::test]
async fn a_changed_group_keeps_the_state_of_rules_that_stay() {
    let mut stage = Stage::new("  rules: [{alert: A, expr: e, for: 2m}, {record: r, expr: e}]");
    stage.script.answer("e", &[("a", 1.0)]);
    stage.at(0).await;
    let mut changed = Group::new(spec("  rules: [{alert: A, expr: e2, for: 2m}]"));
    let gone = changed.adopt(stage.group.clone());
    assert_eq!(gone.iter().map(ToString::to_string).collect::<Vec<_>>(), [r#"{__name__="r", job="a"}"#]);
    stage.group = changed;
    stage.script.answer("e2", &[("a", 1.0)]);
    stage.at(120).await;
    assert_eq!(stage.group.status().rules[0].state, crate::alerting::State::Firing);
}
