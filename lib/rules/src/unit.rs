//! Unit tests of rules, in promtool's format: series as they are scraped, and what alerts and expressions must give.
//!
//! Groups are evaluated on the file's interval over a store in memory that shows nothing newer than the evaluation.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use model::{DurationMs, Labels, SeriesSamples};
use parking_lot::RwLock;
use query::script::{load, parse_series, parse_values};
use query::{Element, Engine, MemorySeries, Point, QueryError, Series, SeriesSelect, SeriesSet, Value};
use regex::Regex;
use serde::Deserialize;

use crate::alerting::State;
use crate::group::Group;
use crate::notify::AlertQueue;
use crate::seams::Seams;
use crate::status::Stats;
use crate::{Appender, Evaluator, Kind};

const DEFAULT_INTERVAL_MS: i64 = 60_000;
const TENANT: &str = "default";
/// No test evaluates its groups more often.
const MAX_EVALUATIONS: i64 = 10_000_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TestFile {
    #[serde(default)]
    rule_files: Vec<String>,
    evaluation_interval: Option<DurationMs>,
    #[serde(default)]
    group_eval_order: Vec<String>,
    #[serde(default)]
    fuzzy_compare: bool,
    #[serde(default)]
    tests: Vec<TestGroup>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TestGroup {
    interval: Option<DurationMs>,
    #[serde(default)]
    input_series: Vec<InputSeries>,
    name: Option<String>,
    start_timestamp: Option<StartTime>,
    #[serde(default)]
    alert_rule_test: Vec<AlertTest>,
    #[serde(default)]
    promql_expr_test: Vec<ExprTest>,
    #[serde(default)]
    external_labels: BTreeMap<String, String>,
    #[serde(default)]
    external_url: String,
}

/// Unix seconds, or RFC 3339.
#[derive(Deserialize)]
#[serde(untagged)]
enum StartTime {
    Seconds(f64),
    Text(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InputSeries {
    series: String,
    values: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AlertTest {
    eval_time: DurationMs,
    #[serde(default)]
    alertname: String,
    #[serde(default)]
    exp_alerts: Vec<ExpectedAlert>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectedAlert {
    #[serde(default)]
    exp_labels: BTreeMap<String, String>,
    #[serde(default)]
    exp_annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExprTest {
    expr: String,
    eval_time: DurationMs,
    #[serde(default)]
    exp_samples: Vec<ExpectedSample>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectedSample {
    #[serde(default)]
    labels: String,
    #[serde(default)]
    value: f64,
    histogram: Option<String>,
}

/// How tests are run and told.
#[derive(Debug, Clone, Default)]
pub struct UnitOptions {
    /// Only tests whose name one of these matches.
    pub run: Vec<Regex>,
    /// Show what differs line by line.
    pub diff: bool,
}

/// One test group's result.
#[derive(Debug)]
pub struct UnitOutcome {
    pub name: String,
    /// Empty where all was as expected.
    pub failures: Vec<String>,
}

/// Runs the tests of one file. An error says why the file cannot be run at all.
pub async fn run_unit_tests(path: &Path, options: &UnitOptions) -> Result<Vec<UnitOutcome>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let file: TestFile = serde_saphyr::from_str(&text).map_err(|error| error.to_string())?;
    let interval_ms = file.evaluation_interval.map_or(DEFAULT_INTERVAL_MS, |interval| interval.0);
    if interval_ms <= 0 {
        return Err("evaluation_interval must be above 0".to_owned());
    }
    let mut order = BTreeMap::new();
    for (place, name) in file.group_eval_order.iter().enumerate() {
        if order.insert(name.clone(), place).is_some() {
            return Err(format!("group name repeated in evaluation order: {name}"));
        }
    }
    let base = path.parent().unwrap_or(Path::new(".")).to_owned();
    let setting = Setting { base, file: &file, interval_ms, order, options };
    let mut outcomes = Vec::new();
    for (i, group) in file.tests.iter().enumerate() {
        let name = group.name.clone().unwrap_or_default();
        if !options.run.is_empty() && !options.run.iter().any(|pattern| pattern.is_match(&name)) {
            continue;
        }
        let failures = setting.run(group).await.unwrap_or_else(|failures| failures);
        let name = if name.is_empty() { format!("unnamed#{i}") } else { name };
        outcomes.push(UnitOutcome { name, failures });
    }
    Ok(outcomes)
}

/// What the tests of a file share.
struct Setting<'a> {
    base: PathBuf,
    file: &'a TestFile,
    interval_ms: i64,
    order: BTreeMap<String, usize>,
    options: &'a UnitOptions,
}

impl Setting<'_> {
    /// Runs one test; what it found wrong. `Err` where it could not go on.
    async fn run(&self, test: &TestGroup) -> Result<Vec<String>, Vec<String>> {
        let one = |error: String| vec![error];
        if let Some(nameless) = test.alert_rule_test.iter().find(|alert| alert.alertname.is_empty()) {
            let at = model::format_duration(nameless.eval_time.0);
            let group = test.name.as_ref().map_or(String::new(), |name| format!(" (in TestGroup {name})"));
            let message = "an item under alert_rule_test misses required attribute alertname at eval_time";
            return Err(one(format!("{message} {at}{group}")));
        }
        let start_ms = start_ms(test.start_timestamp.as_ref()).map_err(one)?;
        let step_ms = test.interval.map_or(self.interval_ms, |interval| interval.0);
        let engine = Engine { subquery_step_ms: self.interval_ms, ..Engine::default() };
        let store = Arc::new(Store { engine, series: RwLock::default(), until_ms: RwLock::new(i64::MIN) });
        let lines: Vec<String> =
            test.input_series.iter().map(|InputSeries { series, values }| format!("{series} {values}")).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        load(&mut *store.series.write(), start_ms, step_ms, &lines, false).map_err(one)?;
        let mut groups = self.groups(step_ms).map_err(one)?;
        let seams = seams(&store, test);
        let queue = AlertQueue::new(seams.stats.clone());
        let times = test.alert_rule_test.iter().map(|alert| alert.eval_time.0);
        let last_ms = times.chain(test.promql_expr_test.iter().map(|test| test.eval_time.0)).max().unwrap_or(0);
        if last_ms / self.interval_ms > MAX_EVALUATIONS {
            return Err(one(format!("more than {MAX_EVALUATIONS} evaluations")));
        }
        let mut failures = Vec::new();
        for after_ms in (0..=last_ms).step_by(self.interval_ms as usize) {
            let ts_ms = start_ms + after_ms;
            *store.until_ms.write() = ts_ms;
            for group in &mut groups {
                group.evaluate(ts_ms, &seams, &queue).await;
            }
            let errors = rule_errors(&groups, ts_ms);
            if !errors.is_empty() {
                failures.extend(errors);
                return Err(failures);
            }
            let until_ms = after_ms + self.interval_ms;
            let due = |alert: &&AlertTest| (after_ms..until_ms).contains(&alert.eval_time.0);
            for alert in test.alert_rule_test.iter().filter(due) {
                failures.extend(self.check_alert(test, alert, &groups));
            }
        }
        for expr in &test.promql_expr_test {
            failures.extend(self.check_expr(&store, expr, start_ms).err());
        }
        Ok(failures)
    }

    fn groups(&self, interval_ms: i64) -> Result<Vec<Group>, String> {
        let specs = crate::load_files(&self.file.rule_files, &self.base, interval_ms, 0);
        let mut specs = specs.map_err(|error| error.to_string())?;
        specs.sort_by_key(|spec| self.order.get(&spec.name).copied().unwrap_or(0));
        Ok(specs.into_iter().map(Group::restored).collect())
    }

    fn check_alert(&self, test: &TestGroup, alert: &AlertTest, groups: &[Group]) -> Option<String> {
        let rules = groups.iter().flat_map(|group| group.status().rules);
        let firing = rules.filter(|rule| rule.is_alert && rule.name == alert.alertname).flat_map(|rule| rule.alerts);
        let mut got: Vec<(Labels, Labels)> = firing
            .filter(|alert| alert.state == State::Firing)
            .map(|alert| (alert.labels, alert.annotations))
            .collect();
        let to_labels = |map: &BTreeMap<String, String>| {
            Labels::from_pairs(map.iter().map(|(name, value)| (name.as_str(), value.as_str())))
        };
        let expected = alert.exp_alerts.iter().map(|expected| {
            let labels = to_labels(&expected.exp_labels).with("alertname", &alert.alertname);
            (labels, to_labels(&expected.exp_annotations))
        });
        let mut expected: Vec<(Labels, Labels)> = expected.collect();
        got.sort();
        expected.sort();
        if got == expected {
            return None;
        }
        let name = test.name.as_ref().map_or(String::new(), |name| format!("    name: {name},\n"));
        let at = model::format_duration(alert.eval_time.0);
        let head = format!("{name}    alertname: {}, time: {at}, ", alert.alertname);
        let (expected, got) = (show_alerts(&expected), show_alerts(&got));
        Some(if self.options.diff {
            format!("{head}\n        diff:\n{}", diff(&expected, &got))
        } else {
            format!("{head}\n        exp:{expected}, \n        got:{got}")
        })
    }

    fn check_expr(&self, store: &Store, test: &ExprTest, start_ms: i64) -> Result<(), String> {
        let at = model::format_duration(test.eval_time.0);
        let head = format!("    expr: {:?}, time: {at},", test.expr);
        let got = store.vector(&test.expr, start_ms.saturating_add(test.eval_time.0));
        let mut got = got.map_err(|error| format!("{head} err: {error}"))?;
        let expected = test.exp_samples.iter().map(expected_sample).collect::<Result<Vec<_>, _>>();
        let mut expected = expected.map_err(|error| format!("{head} err: {error}"))?;
        got.sort_by(|a, b| a.0.cmp(&b.0));
        expected.sort_by(|a, b| a.0.cmp(&b.0));
        let same =
            got.len() == expected.len() && got.iter().zip(&expected).all(|(a, b)| a.0 == b.0 && self.same(&a.1, &b.1));
        if same {
            return Ok(());
        }
        let (expected, got) = (show_samples(&expected), show_samples(&got));
        Err(format!("{head}\n        exp: {expected}\n        got: {got}"))
    }

    /// Floats to the bit, or to the last bit where the file says so; NaN equals NaN as it does in promtool.
    fn same(&self, a: &Point, b: &Point) -> bool {
        match (a, b) {
            (Point::Float(a), Point::Float(b)) => {
                let close = self.file.fuzzy_compare && (a.next_up() == *b || a.next_down() == *b);
                a == b || a.is_nan() && b.is_nan() || close
            }
            (Point::Histogram(a), Point::Histogram(b)) => a.test_expression() == b.test_expression(),
            _ => false,
        }
    }
}

fn start_ms(start: Option<&StartTime>) -> Result<i64, String> {
    match start {
        None => Ok(0),
        Some(StartTime::Seconds(seconds)) => Ok((seconds * 1000.0) as i64),
        Some(StartTime::Text(text)) => match text.parse::<f64>() {
            Ok(seconds) => Ok((seconds * 1000.0) as i64),
            Err(_) => model::parse_rfc3339_ns(text)
                .map(|ns| ns.div_euclid(model::NS_PER_MS))
                .ok_or_else(|| format!("cannot parse {text:?} to a valid timestamp")),
        },
    }
}

fn seams(store: &Arc<Store>, test: &TestGroup) -> Seams {
    let labels = test.external_labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    Seams {
        evaluator: store.clone(),
        appender: store.clone(),
        stats: Arc::new(Stats::default()),
        tenant: TENANT.to_owned(),
        external_labels: Labels::from_pairs(labels),
        external_url: test.external_url.clone(),
        alert_relabel: Vec::new(),
    }
}

fn rule_errors(groups: &[Group], ts_ms: i64) -> Vec<String> {
    let rules = groups.iter().flat_map(|group| group.status().rules);
    let describe =
        |name: &str, error: &str| format!("    rule: {name}, time: {}, err: {error}", model::format_duration(ts_ms));
    rules.filter_map(|rule| Some(describe(&rule.name, rule.error.as_ref()?))).collect()
}

fn expected_sample(sample: &ExpectedSample) -> Result<(Labels, Point), String> {
    let bad = |error: String| format!("labels {:?}: {error}", sample.labels);
    let (labels, _) = parse_series(&sample.labels).map_err(bad)?;
    let Some(text) = sample.histogram.as_deref().filter(|text| !text.is_empty()) else {
        return Ok((labels, Point::Float(sample.value)));
    };
    match parse_values(text).map_err(bad)?.as_slice() {
        [Some(written)] if written.point.float().is_none() => Ok((labels, written.point.clone())),
        other => Err(bad(format!("expected one histogram, got {other:?}"))),
    }
}

fn show_alerts(alerts: &[(Labels, Labels)]) -> String {
    if alerts.is_empty() {
        return "[]".to_owned();
    }
    let show = |(i, (labels, annotations)): (usize, &(Labels, Labels))| {
        format!("                {i}:\n                  Labels:{labels}\n                  Annotations:{annotations}")
    };
    let all: Vec<String> = alerts.iter().enumerate().map(show).collect();
    format!("[\n{}\n            ]", all.join(",\n"))
}

fn show_samples(samples: &[(Labels, Point)]) -> String {
    if samples.is_empty() {
        return "nil".to_owned();
    }
    let value = |point: &Point| match point {
        Point::Float(value) => format!("{value:E}"),
        Point::Histogram(histogram) => histogram.test_expression(),
    };
    samples.iter().map(|(labels, point)| format!("{labels} {}", value(point))).collect::<Vec<_>>().join(", ")
}

/// Lines that only one side has, marked; the common ones between them as they are.
fn diff(expected: &str, got: &str) -> String {
    let (expected, got): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), got.lines().collect());
    let mut lines: Vec<String> = Vec::new();
    let mut rest = got.as_slice();
    for line in expected {
        match rest.iter().position(|other| *other == line) {
            Some(at) => {
                lines.extend(rest[..at].iter().map(|line| format!("        + {line}")));
                lines.push(format!("          {line}"));
                rest = &rest[at + 1..];
            }
            None => lines.push(format!("        - {line}")),
        }
    }
    lines.extend(rest.iter().map(|line| format!("        + {line}")));
    lines.join("\n")
}

/// The series of a test: what was scraped and recorded until now.
struct Store {
    engine: Engine,
    series: RwLock<MemorySeries>,
    until_ms: RwLock<i64>,
}

/// Hides what is newer than the evaluation.
struct Visible<'a> {
    series: &'a MemorySeries,
    until_ms: i64,
}

impl Series for Visible<'_> {
    fn select<'s>(&'s self, request: &SeriesSelect<'_>) -> Result<Box<dyn SeriesSet + 's>, QueryError> {
        self.series.select(&SeriesSelect { end_ms: request.end_ms.min(self.until_ms), ..*request })
    }
}

impl Store {
    fn vector(&self, expr: &str, t_ms: i64) -> Result<Vec<(Labels, Point)>, String> {
        let expr = query::parse(expr).map_err(|error| error.to_string())?;
        let series = self.series.read();
        let visible = Visible { series: &series, until_ms: *self.until_ms.read() };
        let answer = self.engine.instant(&visible, TENANT, &expr, t_ms, None).map_err(|error| error.to_string())?;
        match answer.value {
            Value::Vector(elements) => {
                Ok(elements.into_iter().map(|Element { labels, point, .. }| (labels, point)).collect())
            }
            Value::Scalar(sample) => Ok(vec![(Labels::default(), Point::Float(sample.value))]),
            Value::Text(..) | Value::Matrix(_) => Err("rule result is not a vector or scalar".to_owned()),
        }
    }
}

impl Evaluator for Store {
    fn instant<'a>(
        &'a self,
        _tenant: &'a str,
        _kind: Kind,
        expr: &'a str,
        t_ms: i64,
    ) -> BoxFuture<'a, Result<Vec<Element>, String>> {
        let element = |(labels, point)| Element { labels, t_ms, point };
        let found = self.vector(expr, t_ms).map(|vector| vector.into_iter().map(element).collect());
        async move { found }.boxed()
    }
}

impl Appender for Store {
    fn append<'a>(&'a self, _tenant: &'a str, series: Vec<SeriesSamples>) -> BoxFuture<'a, Result<(), String>> {
        let mut store = self.series.write();
        for SeriesSamples { labels, samples, histograms, .. } in series {
            samples.iter().for_each(|sample| store.push(&labels, sample.t_ms, sample.value, None));
            histograms.into_iter().for_each(|one| store.push(&labels, one.t_ms, Point::Histogram(one.histogram), None));
        }
        async { Ok(()) }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = "groups:\n- name: g\n  rules:\n  - record: job:up:sum\n    expr: sum by (job) (up)\n  \
                         - alert: Down\n    expr: job:up:sum == 0\n    for: 2m\n    labels: {severity: page}\n    \
                         annotations: {summary: '{{ $labels.job }} is down in {{ $externalLabels.dc }}'}\n";

    /// The failures of all tests, joined.
    async fn run(tests: &str, options: &UnitOptions) -> Result<String, String> {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("rules.yml"), RULES).expect("written");
        let path = dir.path().join("tests.yml");
        std::fs::write(&path, format!("rule_files: [rules.yml]\ntests:\n{tests}")).expect("written");
        let outcomes = run_unit_tests(&path, options).await?;
        let failures: Vec<String> = outcomes.into_iter().flat_map(|outcome| outcome.failures).collect();
        Ok(failures.join("\n"))
    }

    async fn check(tests: &str, expected: &str) {
        let failures = run(tests, &UnitOptions::default()).await.unwrap_or_else(|error| error);
        assert!(failures.contains(expected) && failures.is_empty() == expected.is_empty(), "{failures}");
    }

    fn test(name: &str, cases: &str) -> String {
        format!(
            "- name: {name}\n  interval: 1m\n  external_labels: {{dc: x}}\n  \
             input_series:\n  - {{series: 'up{{job=\"a\"}}', values: '1 0x9'}}\n{cases}"
        )
    }

    const FIRES: &str = "  alert_rule_test:\n  - {eval_time: 2m, alertname: Down}\n  - eval_time: 3m\n    alertname: Down\n    \
                         exp_alerts:\n    - exp_labels: {severity: page, job: a}\n      \
                         exp_annotations: {summary: a is down in x}\n";

    #[tokio::test(flavor = "multi_thread")]
    async fn alerts_fire_when_they_should() {
        check(&test("t", FIRES), "").await;
        let late = FIRES.replace("eval_time: 3m", "eval_time: 2m59s");
        check(&test("t", &late), "alertname: Down, time: 2m59s").await;
        check(&test("t", &FIRES.replace("a is down", "b is down")), "a is down in x").await;
        check(&test("t", "  alert_rule_test:\n  - {eval_time: 2m}\n"), "misses required attribute alertname").await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn expressions_see_what_was_scraped_and_recorded() {
        let cases = |value: &str| {
            format!(
                "  start_timestamp: 2021-01-01T00:00:00Z\n  promql_expr_test:\n  - expr: job:up:sum + time()\n    \
                 eval_time: 1m\n    exp_samples: [{{labels: '{{job=\"a\"}}', value: {value}}}]\n"
            )
        };
        check(&test("t", &cases("1609459260")), "").await;
        check(&test("t", &cases("1")), "got: {job=\"a\"} 1.60945926E9").await;
    }

    /// As of what a server stores, it is known of a histogram that it goes on from the one before.
    #[tokio::test(flavor = "multi_thread")]
    async fn histograms_know_that_they_go_on() {
        let series =
            "- name: t\n  interval: 1m\n  input_series:\n  - {series: h, values: '{{sum:1 count:1 buckets:[1]}}x3'}\n";
        let hint = "counter_reset_hint:not_reset";
        let case = |hint: &str| {
            format!(
                "{series}  promql_expr_test:\n  - expr: h\n    eval_time: 2m\n    exp_samples: [{{labels: h, \
                 histogram: '{{{{sum:1 count:1 {hint} buckets:[1]}}}}'}}]\n"
            )
        };
        check(&case(hint), "").await;
        check(&case("counter_reset_hint:gauge"), "not_reset").await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn only_the_tests_that_are_named_run() {
        let failing = test("bad", "  promql_expr_test:\n  - {expr: vector(1), eval_time: 0}\n");
        let both = failing + &test("good", FIRES);
        let options = UnitOptions { run: vec![Regex::new("go.d").expect("a pattern")], diff: true };
        assert_eq!(run(&both, &options).await, Ok(String::new()));
        assert!(run(&both, &UnitOptions::default()).await.expect("it runs").contains("exp: nil"));
    }
}
