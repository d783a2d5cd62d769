//! Evaluates one group at one slot.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt;
use model::{HistogramSample, Labels, LabelsBuilder, METRIC_NAME, Sample, SeriesSamples, stale_marker};
use query::{Element, Point};
use template::{Functions, Kv, Mode, PrometheusContext, Templates, Value, prometheus_functions};
use tokio::runtime::Handle;

use crate::Evaluator;
use crate::alerting::{AlertingState, Candidate, State};
use crate::file::{GroupSpec, Kind, PRELUDE, RuleSpec};
use crate::lines;
use crate::notify::AlertQueue;
use crate::order::waves;
use crate::seams::Seams;
use crate::status::{AlertStatus, GroupStatus, RuleStatus};

/// An alert is sent again when this has passed, so that a router that restarted hears of it.
const RESEND_DELAY_MS: i64 = 60_000;
const OUTAGE_TOLERANCE_MS: i64 = 3_600_000;
const GRACE_PERIOD_MS: i64 = 600_000;
/// Rules of one group evaluated at once, where none needs the other.
const CONCURRENT_RULES: usize = 4;

/// What a rule remembers between evaluations.
#[derive(Debug, Clone, Default)]
struct RuleState {
    alerting: AlertingState,
    /// Series of the last evaluation, to mark as stale what vanishes.
    series: BTreeSet<Labels>,
    error: Option<String>,
    evaluated_at_ms: i64,
    took_s: f64,
}

#[derive(Debug, Clone)]
pub struct Group {
    pub spec: GroupSpec,
    /// Rules by number, those together that may run at once.
    waves: Vec<Vec<usize>>,
    states: Vec<RuleState>,
    evaluations: u64,
    evaluated_at_ms: i64,
    took_s: f64,
}

impl Group {
    pub fn new(spec: GroupSpec) -> Group {
        let states = vec![RuleState::default(); spec.rules.len()];
        let waves = waves(&spec);
        Group { spec, waves, states, evaluations: 0, evaluated_at_ms: 0, took_s: 0.0 }
    }

    /// A group whose alerts have nothing to be restored from.
    pub fn restored(spec: GroupSpec) -> Group {
        let mut group = Group::new(spec);
        group.states.iter_mut().for_each(|state| state.alerting.restored = true);
        group
    }

    /// Takes over the state of rules that were there before, by name and labels. The series of those that are gone
    /// are returned: they go stale.
    pub fn adopt(&mut self, old: Group) -> Vec<Labels> {
        self.evaluations = old.evaluations;
        let mut left: Vec<(RuleSpec, Option<RuleState>)> =
            old.spec.rules.into_iter().zip(old.states.into_iter().map(Some)).collect();
        for (rule, state) in self.spec.rules.iter().zip(&mut self.states) {
            let same = |known: &RuleSpec| {
                known.name == rule.name && known.is_alert == rule.is_alert && known.labels == rule.labels
            };
            if let Some((_, slot)) = left.iter_mut().find(|(known, slot)| slot.is_some() && same(known)) {
                *state = slot.take().unwrap_or_default();
            }
        }
        left.into_iter().filter_map(|(_, state)| state).flat_map(|state| state.series).collect()
    }

    /// One evaluation at `ts_ms`: rules in order, those that do not need each other at once. Failures are kept per rule; one rule's failure does not stop the others.
    pub async fn evaluate(&mut self, ts_ms: i64, seams: &Seams, queue: &AlertQueue) {
        let start = Instant::now();
        for wave in &self.waves {
            let states = wave.iter().map(|i| (*i, std::mem::take(&mut self.states[*i]))).collect::<Vec<_>>();
            let work = states.into_iter().map(|(i, state)| run_rule(&self.spec, i, state, ts_ms, seams, queue));
            let done: Vec<(usize, RuleState)> =
                futures::stream::iter(work).buffer_unordered(CONCURRENT_RULES).collect().await;
            done.into_iter().for_each(|(i, state)| self.states[i] = state);
        }
        self.evaluations += 1;
        self.evaluated_at_ms = ts_ms;
        self.took_s = start.elapsed().as_secs_f64();
        // As in Prometheus, two evaluations come before restoring: only then is there enough data to know what is active.
        if self.evaluations == 2 {
            self.restore(ts_ms, seams).await;
        }
    }

    async fn restore(&mut self, ts_ms: i64, seams: &Seams) {
        for (rule, state) in self.spec.rules.iter().zip(&mut self.states) {
            if rule.is_alert && !state.alerting.restored {
                let needs_history = rule.hold_ms >= GRACE_PERIOD_MS && state.alerting.alerts().next().is_some();
                let earlier = if needs_history { earlier_states(rule, ts_ms, seams).await } else { Vec::new() };
                state.alerting.restore(rule, &earlier, ts_ms, GRACE_PERIOD_MS);
            }
        }
    }

    pub fn status(&self) -> GroupStatus {
        let rules =
            self.spec.rules.iter().zip(&self.states).map(|(rule, state)| rule_status(rule, state, self.spec.kind));
        GroupStatus {
            name: self.spec.name.clone(),
            file: self.spec.file.clone(),
            interval_ms: self.spec.interval_ms,
            limit: self.spec.limit,
            rules: rules.collect(),
            evaluation_s: self.took_s,
            last_evaluation_ms: self.evaluated_at_ms,
        }
    }

    /// All series this group keeps alive; they go stale when it is removed.
    pub fn series(&self) -> Vec<Labels> {
        self.states.iter().flat_map(|state| state.series.iter().cloned()).collect()
    }
}

/// One rule's turn; its state goes in and comes back.
async fn run_rule(
    spec: &GroupSpec,
    i: usize,
    mut state: RuleState,
    ts_ms: i64,
    seams: &Seams,
    queue: &AlertQueue,
) -> (usize, RuleState) {
    let (start, rule) = (Instant::now(), &spec.rules[i]);
    let result = evaluate_rule(spec, rule, &mut state, ts_ms, seams, queue).await;
    state.took_s = start.elapsed().as_secs_f64();
    state.evaluated_at_ms = ts_ms;
    state.error = result.err();
    seams.stats.count_evaluation(state.error.is_some());
    if let Some(error) = &state.error {
        tracing::warn!(group = spec.name, rule = rule.name, error, "rule evaluation failed");
    }
    (i, state)
}

async fn evaluate_rule(
    spec: &GroupSpec,
    rule: &RuleSpec,
    state: &mut RuleState,
    ts_ms: i64,
    seams: &Seams,
    queue: &AlertQueue,
) -> Result<(), String> {
    let t_ms = ts_ms - spec.query_offset_ms;
    let vector = seams.evaluator.instant(&seams.tenant, spec.kind, &rule.expr, t_ms).await?;
    let mut failure = None;
    let series = if rule.is_alert {
        let candidates = fill_in_templates(rule.clone(), spec.kind, vector, t_ms, seams).await?;
        failure = state.alerting.update(rule, candidates, ts_ms, spec.limit).err();
        let due = state.alerting.due(ts_ms, RESEND_DELAY_MS, spec.interval_ms, &seams.generator_url(&rule.expr));
        queue.push(due.into_iter().filter_map(|alert| seams.outgoing(alert)));
        state.alerting.series(t_ms)
    } else {
        match recorded(rule, vector, t_ms, spec.limit) {
            Ok(series) => series,
            Err(message) => {
                failure = Some(message);
                Vec::new()
            }
        }
    };
    append(state, series, t_ms, seams).await?;
    failure.map_or(Ok(()), Err)
}

fn rule_status(rule: &RuleSpec, state: &RuleState, kind: Kind) -> RuleStatus {
    let alerts = state.alerting.alerts().filter(|alert| alert.state != State::Inactive).map(|alert| AlertStatus {
        labels: alert.labels.clone(),
        annotations: alert.annotations.clone(),
        state: alert.state,
        active_at_ms: alert.active_at_ms,
        keep_firing_since_ms: alert.keep_firing_since_ms,
        value: alert.value,
    });
    RuleStatus {
        name: rule.name.clone(),
        is_alert: rule.is_alert,
        kind,
        expr: rule.expr.clone(),
        hold_ms: rule.hold_ms,
        keep_firing_ms: rule.keep_firing_ms,
        labels: rule.labels.clone(),
        annotations: rule.annotations.clone(),
        alerts: alerts.collect(),
        state: state.alerting.state(),
        error: state.error.clone(),
        evaluation_s: state.took_s,
        last_evaluation_ms: state.evaluated_at_ms,
    }
}

/// The series that a recording rule writes.
fn recorded(rule: &RuleSpec, vector: Vec<Element>, t_ms: i64, limit: usize) -> Result<Vec<SeriesSamples>, String> {
    if limit > 0 && vector.len() > limit {
        return Err(format!("exceeded limit of {limit} with {} series", vector.len()));
    }
    let mut series: BTreeMap<Labels, Point> = BTreeMap::new();
    for Element { labels, point, .. } in vector {
        let mut labels = labels.to_builder();
        labels.set(METRIC_NAME, rule.name.as_str());
        for (name, value) in &rule.labels {
            labels.set(name.as_str(), value.as_str());
        }
        if series.insert(labels.build(), point).is_some() {
            return Err("vector contains metrics with the same labelset after applying rule labels".to_owned());
        }
    }
    let one = |(labels, point)| match point {
        Point::Float(value) => SeriesSamples::new(labels, vec![Sample { t_ms, value }]),
        Point::Histogram(histogram) => {
            let histograms = vec![HistogramSample { t_ms, start_ms: 0, histogram }];
            SeriesSamples { histograms, ..SeriesSamples::new(labels, Vec::new()) }
        }
    };
    Ok(series.into_iter().map(one).collect())
}

/// Makes a rule's series durable, with stale markers for those that are not there any more.
async fn append(state: &mut RuleState, mut series: Vec<SeriesSamples>, t_ms: i64, seams: &Seams) -> Result<(), String> {
    let now: BTreeSet<Labels> = series.iter().map(|one| one.labels.clone()).collect();
    series.extend(stale(state.series.difference(&now), t_ms));
    if !series.is_empty() {
        seams.appender.append(&seams.tenant, series).await?;
    }
    state.series = now;
    Ok(())
}

/// Stale markers for series.
pub fn stale<'a>(series: impl Iterator<Item = &'a Labels>, t_ms: i64) -> Vec<SeriesSamples> {
    let marker = Sample { t_ms, value: stale_marker() };
    series.map(|labels| SeriesSamples::new(labels.clone(), vec![marker])).collect()
}

/// Fills in labels and annotations of every element. Runs off the async threads, for a template may itself query.
async fn fill_in_templates(
    rule: RuleSpec,
    kind: Kind,
    vector: Vec<Element>,
    t_ms: i64,
    seams: &Seams,
) -> Result<Vec<Candidate>, String> {
    if vector.is_empty() {
        return Ok(Vec::new());
    }
    let (evaluator, tenant, runtime) = (seams.evaluator.clone(), seams.tenant.clone(), Handle::current());
    let newest = Newest { evaluator: evaluator.clone(), tenant: tenant.clone(), runtime: runtime.clone(), t_ms };
    let query: template::Query = Arc::new(move |expr: &str| {
        let vector = runtime.block_on(evaluator.instant(&tenant, kind, expr, t_ms))?;
        Ok(query::float_samples(vector))
    });
    let context = PrometheusContext { external_url: seams.external_url.clone(), now_ms: t_ms, query };
    let external = seams.external_labels.clone();
    let work = move || {
        let mut functions = prometheus_functions(&context);
        // As in Prometheus, an alert about a histogram has the value 0.
        let fill = |element: Element| {
            if kind == Kind::Logql {
                newest.offer(&mut functions, rule.expr.clone(), element.labels.clone());
            }
            let sample = Sample { t_ms: element.t_ms, value: element.point.float().unwrap_or(0.0) };
            candidate(&rule, &element.labels, sample, &external, &context.external_url, &functions)
        };
        vector.into_iter().map(fill).collect()
    };
    tokio::task::spawn_blocking(work).await.map_err(|error| format!("templates: {error}"))
}

/// Where the lines behind an alert come from.
#[derive(Clone)]
struct Newest {
    evaluator: Arc<dyn Evaluator>,
    tenant: String,
    runtime: Handle,
    t_ms: i64,
}

impl Newest {
    /// Gives templates the lines of one element of an expression.
    fn offer(&self, functions: &mut Functions, expr: String, labels: Labels) {
        let this = self.clone();
        lines::add(functions, move |limit| {
            this.runtime.block_on(this.evaluator.lines(&this.tenant, &expr, &labels, this.t_ms, limit))
        });
    }
}

fn candidate(
    rule: &RuleSpec,
    labels: &Labels,
    sample: Sample,
    external: &Labels,
    external_url: &str,
    functions: &Functions,
) -> Candidate {
    let dot = Value::map([
        ("Labels", Value::object(Kv(labels.clone()))),
        ("ExternalLabels", Value::object(Kv(external.clone()))),
        ("ExternalURL", external_url.into()),
        ("Value", Value::Float(sample.value)),
    ]);
    let expand = |name: &str, text: &str| {
        let expanded = Templates::new().expand(&format!("{PRELUDE}{text}"), &dot, functions, Mode::Text);
        expanded.unwrap_or_else(|error| {
            tracing::warn!(rule = rule.name, field = name, %error, "expanding an alert template failed");
            format!("<error expanding template: {error}>")
        })
    };
    let mut alert: LabelsBuilder = labels.without(&[METRIC_NAME]).to_builder();
    for (name, text) in &rule.labels {
        alert.set(name.as_str(), expand(name, text));
    }
    alert.set("alertname", rule.name.as_str());
    let annotations = rule.annotations.iter().map(|(name, text)| (name.as_str(), expand(name, text)));
    Candidate { labels: alert.build(), annotations: Labels::from_pairs(annotations), value: sample.value }
}

/// What `ALERTS_FOR_STATE` says of a rule's alerts: labels, its last instant, and since when they had been active.
async fn earlier_states(rule: &RuleSpec, ts_ms: i64, seams: &Seams) -> Vec<(Labels, i64, i64)> {
    let selector = format!("ALERTS_FOR_STATE{{alertname={:?}}}[{}ms]", rule.name, OUTAGE_TOLERANCE_MS);
    let ask = |function: &str| {
        let expr = format!("{function}({selector})");
        async move {
            let vector = seams.evaluator.instant(&seams.tenant, Kind::Promql, &expr, ts_ms).await;
            vector.map(query::float_samples)
        }
    };
    let (since, at) = match (ask("last_over_time").await, ask("ts_of_last_over_time").await) {
        (Ok(since), Ok(at)) => (since, at),
        (Err(error), _) | (_, Err(error)) => {
            tracing::warn!(rule = rule.name, error, "the time an alert had been pending could not be restored");
            return Vec::new();
        }
    };
    let at: BTreeMap<Labels, f64> =
        at.into_iter().map(|(labels, sample)| (labels.without(&[METRIC_NAME]), sample.value)).collect();
    let found = since.into_iter().filter_map(|(labels, sample)| {
        let labels = labels.without(&[METRIC_NAME]);
        let down_at_s = *at.get(&labels)?;
        Some((labels, (down_at_s * 1000.0) as i64, (sample.value * 1000.0) as i64))
    });
    found.collect()
}
