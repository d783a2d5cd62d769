//! OpenTelemetry's metrics as Prometheus' series, as Prometheus 3.14 translates them.
//!
//! What a data point or a metric cannot say is refused alone, with its reason. Deltas become totals ([`super::delta`]).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use model::{
    Exemplar, HistogramSample, Label, Labels, LabelsBuilder, METRIC_NAME, MetricBatch, MetricKind, MetricMetadata,
    Sample, stale_marker,
};
use service::config::Otlp;

use super::delta::{Changes, Running, Total};
use super::message::{self, CUMULATIVE, DELTA, KeyValue, Metric, NumberPoint, Request, Resource, Scope, has_no_value};
use super::name::{Kind, label_name, metric_name, unit_name};
use super::native;
use crate::api::intake::Gathered;
use crate::ingest::Refusals;

const SERVICE_NAME: &str = "service.name";
const SERVICE_NAMESPACE: &str = "service.namespace";
const SERVICE_INSTANCE: &str = "service.instance.id";
const IDENTIFYING: [&str; 3] = [SERVICE_NAMESPACE, SERVICE_NAME, SERVICE_INSTANCE];
/// Characters that an exemplar's labels may have together.
const MAX_EXEMPLAR_CHARS: usize = 128;
/// Samples of `target_info` for the span of one resource's points, and those of all resources of a request.
const MAX_TARGET_INFO_SAMPLES: i64 = 1_000;
const MAX_REPEATED_TARGET_INFO: i64 = 100_000;
/// A metric's name, and what a resource and a scope add to all their points.
const MAX_SHARED_BYTES: usize = 16 * 1024;
const NS_PER_MS: u64 = 1_000_000;

/// What a request says.
pub struct Translated {
    pub batch: MetricBatch,
    pub refusals: Refusals,
    /// Data points among the refused.
    pub refused_points: u64,
    pub totals: HashMap<Labels, Running>,
}

/// Reads a request. A message with deltas needs the totals.
pub fn translate(request: Request, config: &Otlp, lookback_ms: i64, deltas: Option<Changes<'_>>) -> Translated {
    let mut translator = Translator {
        config,
        deltas,
        gathered: Gathered::default(),
        metadata: Vec::new(),
        refusals: Refusals::default(),
        refused_points: 0,
        label_names: HashMap::new(),
        context: Context::default(),
        seen_targets: HashSet::new(),
        target_room: MAX_REPEATED_TARGET_INFO,
    };
    for resource in request.resource_metrics {
        let attributes = resource.resource.unwrap_or_default();
        translator.context = translator.context_of(&attributes);
        let mut span = None;
        for scope in resource.scope_metrics {
            translator.context.scope = translator.scope_labels(scope.scope.as_ref(), &scope.schema_url);
            if translator.context.len() > MAX_SHARED_BYTES {
                let points = scope.metrics.iter().map(point_count).sum();
                translator.refuse("attributes of resource or scope are too long", points, String::new);
                continue;
            }
            for metric in scope.metrics {
                widen(&mut span, &metric);
                translator.metric(metric);
            }
        }
        if let Some((first_ms, last_ms)) = span {
            translator.target_info(&attributes, first_ms, last_ms, lookback_ms);
        }
    }
    let Translator { gathered, mut metadata, refusals, refused_points, deltas, .. } = translator;
    metadata.sort();
    metadata.dedup();
    let batch = MetricBatch { metadata, ..MetricBatch::new("", gathered.into_series()) };
    Translated { batch, refusals, refused_points, totals: deltas.map_or_else(HashMap::new, |deltas| deltas.changed) }
}

pub fn has_delta(request: &Request) -> bool {
    let metrics = request.resource_metrics.iter().flat_map(|one| &one.scope_metrics).flat_map(|one| &one.metrics);
    metrics.into_iter().any(|metric| temporality_of(metric) == Some(DELTA))
}

fn temporality_of(metric: &Metric) -> Option<i32> {
    let sum = metric.sum.as_ref().map(|one| one.aggregation_temporality);
    let explicit = metric.histogram.as_ref().map(|one| one.aggregation_temporality);
    sum.or(explicit).or(metric.exponential_histogram.as_ref().map(|one| one.aggregation_temporality))
}

/// What all points of a resource and scope get as labels.
#[derive(Default)]
struct Context {
    promoted: Labels,
    job: Arc<str>,
    instance: Arc<str>,
    scope: Labels,
}

impl Context {
    /// Bytes of all texts.
    fn len(&self) -> usize {
        let pairs = self.promoted.iter().chain(&self.scope).map(|label| label.name.len() + label.value.len());
        self.job.len() + self.instance.len() + pairs.sum::<usize>()
    }
}

/// A metric's name, and those of its parts.
struct Names {
    plain: Arc<str>,
    sum: Arc<str>,
    count: Arc<str>,
    bucket: Arc<str>,
}

impl Names {
    fn of(name: &str) -> Names {
        let with = |suffix: &str| Arc::from(format!("{name}{suffix}"));
        Names { plain: with(""), sum: with("_sum"), count: with("_count"), bucket: with("_bucket") }
    }
}

struct Translator<'a> {
    config: &'a Otlp,
    deltas: Option<Changes<'a>>,
    gathered: Gathered,
    metadata: Vec<MetricMetadata>,
    refusals: Refusals,
    refused_points: u64,
    /// Names that were built before.
    label_names: HashMap<String, Result<String, String>>,
    context: Context,
    /// `target_info` is said once for its labels and time.
    seen_targets: HashSet<(Labels, i64)>,
    /// How often it may still be repeated.
    target_room: i64,
}

/// The times of a point.
#[derive(Clone, Copy)]
struct Times {
    start_ms: i64,
    t_ms: i64,
}

impl Times {
    fn of(start_ns: u64, t_ns: u64) -> Times {
        Times { start_ms: (start_ns / NS_PER_MS) as i64, t_ms: (t_ns / NS_PER_MS) as i64 }
    }
}

impl Translator<'_> {
    fn refuse(&mut self, reason: &'static str, points: usize, example: impl FnOnce() -> String) {
        self.refused_points += points as u64;
        self.refusals.add(reason, points as u64, example);
    }

    fn context_of(&mut self, resource: &Resource) -> Context {
        let find = |name: &str| text_of(&resource.attributes, name);
        let job = find(SERVICE_NAME).map(|name| match find(SERVICE_NAMESPACE) {
            Some(namespace) => format!("{namespace}/{name}"),
            None => name,
        });
        let config = self.config;
        let named = |list: &[String], key: &str| list.iter().any(|name| name.trim() == key);
        // Of those whose names become one the last stays.
        let mut promoted = LabelsBuilder::default();
        for attribute in &resource.attributes {
            let is_promoted = match config.promote_all_resource_attributes {
                true => !named(&config.ignore_resource_attributes, &attribute.key),
                false => named(&config.promote_resource_attributes, &attribute.key),
            };
            // A name that cannot be a label is named by target_info.
            if let Some(name) = is_promoted.then(|| self.label_name(&attribute.key).ok()).flatten() {
                promoted.set(name, text(attribute));
            }
        }
        let instance = find(SERVICE_INSTANCE).unwrap_or_default().into();
        Context { promoted: promoted.build(), job: job.unwrap_or_default().into(), instance, scope: Labels::default() }
    }

    fn scope_labels(&mut self, scope: Option<&Scope>, schema_url: &str) -> Labels {
        let Some(scope) = scope.filter(|scope| self.config.promote_scope_metadata && !scope.name.is_empty()) else {
            return Labels::default();
        };
        let mut labels = LabelsBuilder::default();
        for attribute in &scope.attributes {
            if let Ok(name) = self.label_name(&format!("otel_scope_{}", attribute.key)) {
                labels.set(name, text(attribute));
            }
        }
        let own = [("name", scope.name.as_str()), ("version", &scope.version), ("schema_url", schema_url)];
        for (name, value) in own {
            labels.set(format!("otel_scope_{name}"), value);
        }
        labels.build()
    }

    fn label_name(&mut self, name: &str) -> Result<String, String> {
        if let Some(built) = self.label_names.get(name) {
            return built.clone();
        }
        let built = label_name(name, self.config);
        self.label_names.insert(name.to_owned(), built.clone());
        built
    }

    /// Attributes as labels. Those whose names become one are joined in the order of their keys.
    fn attribute_labels(&mut self, attributes: &[KeyValue], left_out: &[&str]) -> Result<LabelsBuilder, String> {
        let kept = attributes.iter().filter(|one| !left_out.contains(&one.key.as_str()));
        let mut kept: Vec<&KeyValue> = kept.collect();
        kept.sort_by(|a, b| a.key.cmp(&b.key));
        let mut labels = LabelsBuilder::default();
        for one in kept {
            let (name, value) = (self.label_name(&one.key)?, text(one));
            let value = match labels.get(&name) {
                Some(before) => format!("{before};{value}"),
                None => value,
            };
            labels.set(name, value);
        }
        Ok(labels)
    }

    /// The labels of a point without its name.
    fn labels(&mut self, attributes: &[KeyValue]) -> Result<LabelsBuilder, String> {
        let mut labels = self.attribute_labels(attributes, &[METRIC_NAME])?;
        let Context { promoted, job, instance, scope } = &self.context;
        for Label { name, value } in promoted {
            if labels.get(name).is_none() {
                labels.set(name.clone(), value.clone());
            }
        }
        for (name, value) in [("job", job), ("instance", instance)] {
            if !value.is_empty() {
                labels.set(name, value.clone());
            }
        }
        for Label { name, value } in scope {
            labels.set(name.clone(), value.clone());
        }
        Ok(labels)
    }

    fn metric(&mut self, metric: Metric) {
        let points = point_count(&metric);
        if points == 0 {
            return self.refuse("empty data points", 0, || format!("{} is dropped", metric.name));
        }
        if temporality_of(&metric).is_some_and(|given| given != CUMULATIVE && given != DELTA) {
            return self.refuse("no aggregation temporality", points, || metric.name);
        }
        let is_monotonic = metric.sum.as_ref().is_some_and(|sum| sum.is_monotonic);
        let (kind, described) = match &metric {
            Metric { sum: Some(_), .. } if is_monotonic => (Kind::Counter, MetricKind::Counter),
            Metric { gauge: Some(_), .. } => (Kind::Gauge, MetricKind::Gauge),
            Metric { sum: Some(_), .. } => (Kind::Other, MetricKind::Gauge),
            Metric { summary: Some(_), .. } => (Kind::Other, MetricKind::Summary),
            _ => (Kind::Other, MetricKind::Histogram),
        };
        let name = match metric_name(&metric.name, &metric.unit, kind, self.config.translation_strategy) {
            Ok(name) => name,
            Err(reason) => return self.refuse("no metric name", points, || reason),
        };
        if name.len() > MAX_SHARED_BYTES {
            return self.refuse("metric name too long", points, String::new);
        }
        let unit = unit_name(&metric.unit);
        let names = Names::of(&name);
        self.metadata.push(MetricMetadata { name, kind: described, help: metric.description, unit });
        let Metric { gauge, sum, histogram, exponential_histogram, summary, .. } = metric;
        for point in gauge.into_iter().flat_map(|gauge| gauge.data_points) {
            self.number(&names, point, false);
        }
        if let Some(sum) = sum {
            let is_delta = sum.aggregation_temporality == DELTA;
            sum.data_points.into_iter().for_each(|point| self.number(&names, point, is_delta));
        }
        if let Some(histogram) = histogram {
            let is_delta = histogram.aggregation_temporality == DELTA;
            histogram.data_points.into_iter().for_each(|point| self.explicit(&names, point, is_delta));
        }
        if let Some(histogram) = exponential_histogram {
            let is_delta = histogram.aggregation_temporality == DELTA;
            histogram.data_points.into_iter().for_each(|point| self.exponential(&names, point, is_delta));
        }
        summary.into_iter().flat_map(|summary| summary.data_points).for_each(|point| self.summary(&names, point));
    }

    /// A point's labels with its name; none, and a refusal, where an attribute cannot be a label.
    fn named(&mut self, name: &Arc<str>, attributes: &[KeyValue]) -> Option<Labels> {
        match self.labels(attributes) {
            Ok(mut labels) => {
                labels.set(METRIC_NAME, name.clone());
                Some(labels.build())
            }
            Err(reason) => {
                self.refuse("no label name", 1, || format!("{reason}, of {name}"));
                None
            }
        }
    }

    /// The total after a delta; none, and a refusal, where it cannot be added.
    fn total(&mut self, labels: &Labels, times: Times, more: Total) -> Option<(i64, Total)> {
        let deltas = self.deltas.as_mut()?;
        match deltas.add(labels, times.start_ms, times.t_ms, more) {
            Ok(running) => Some((running.start_ms, running.total.clone())),
            Err(reason) => {
                self.refuse(reason, 1, || labels.to_string());
                None
            }
        }
    }

    fn number(&mut self, names: &Names, point: NumberPoint, is_delta: bool) {
        let Some(labels) = self.named(&names.plain, &point.attributes) else { return };
        let mut times = Times::of(point.start_time_unix_nano, point.time_unix_nano);
        let mut value = point.as_double.or(point.as_int.map(|value| value as f64)).unwrap_or(0.0);
        if has_no_value(point.flags) {
            value = stale_marker();
        } else if is_delta {
            let Some((start_ms, Total::Number(total))) = self.total(&labels, times, Total::Number(value)) else {
                return;
            };
            (times.start_ms, value) = (start_ms, total);
        }
        let exemplars = exemplars(point.exemplars);
        self.gathered.float(labels, Sample { t_ms: times.t_ms, value }, times.start_ms, exemplars);
    }

    fn explicit(&mut self, names: &Names, mut point: message::HistogramPoint, is_delta: bool) {
        let Some(labels) = self.named(&names.plain, &point.attributes) else { return };
        let mut times = Times::of(point.start_time_unix_nano, point.time_unix_nano);
        if is_delta && !has_no_value(point.flags) {
            let (bounds, counts) = (point.explicit_bounds.clone(), point.bucket_counts.clone());
            let more = Total::Explicit { bounds, counts, count: point.count, sum: point.sum };
            let Some((start_ms, Total::Explicit { counts, count, sum, .. })) = self.total(&labels, times, more) else {
                return;
            };
            times.start_ms = start_ms;
            (point.bucket_counts, point.count, point.sum) = (counts, count, sum);
        }
        if self.config.convert_histograms_to_nhcb {
            let exemplars = exemplars(std::mem::take(&mut point.exemplars));
            return match native::of_explicit(&point) {
                Ok(histogram) => self.native(labels, times, histogram, exemplars),
                Err(reason) => self.refuse("malformed histogram", 1, || format!("{reason}, of {labels}")),
            };
        }
        self.classic(names, &labels, times, point);
    }

    /// `_sum`, `_count`, and a cumulative `_bucket` per bound with the exemplars that fall into it.
    fn classic(&mut self, names: &Names, labels: &Labels, times: Times, point: message::HistogramPoint) {
        let is_absent = has_no_value(point.flags);
        let mut add = |name: &Arc<str>, le: Option<String>, value: f64, exemplars: Vec<Exemplar>| {
            let mut labels = labels.to_builder();
            labels.set(METRIC_NAME, name.clone());
            if let Some(le) = le {
                labels.set("le", le);
            }
            let value = if is_absent { stale_marker() } else { value };
            self.gathered.float(labels.build(), Sample { t_ms: times.t_ms, value }, times.start_ms, exemplars);
        };
        if let Some(sum) = point.sum {
            add(&names.sum, None, sum, Vec::new());
        }
        add(&names.count, None, point.count as f64, Vec::new());
        let (mut below, mut rest) = (0u64, exemplars(point.exemplars));
        for (bound, count) in point.explicit_bounds.iter().zip(&point.bucket_counts) {
            below = below.saturating_add(*count);
            let inside = rest.iter().take_while(|one| one.value <= *bound).count();
            let exemplars = rest.drain(..inside).collect();
            add(&names.bucket, Some(plain(*bound)), below as f64, exemplars);
        }
        add(&names.bucket, Some("+Inf".to_owned()), point.count as f64, rest);
    }

    fn exponential(&mut self, names: &Names, mut point: message::ExponentialPoint, is_delta: bool) {
        let Some(labels) = self.named(&names.plain, &point.attributes) else { return };
        let mut times = Times::of(point.start_time_unix_nano, point.time_unix_nano);
        let exemplars = exemplars(std::mem::take(&mut point.exemplars));
        let mut histogram = match native::of_exponential(point) {
            Ok(histogram) => histogram,
            Err(reason) => return self.refuse("malformed histogram", 1, || format!("{reason}, of {labels}")),
        };
        if is_delta && !histogram.is_stale() {
            let Some((start_ms, Total::Native(total))) = self.total(&labels, times, Total::Native(histogram)) else {
                return;
            };
            (times.start_ms, histogram) = (start_ms, total);
        }
        self.native(labels, times, histogram, exemplars);
    }

    fn native(&mut self, labels: Labels, times: Times, histogram: model::Histogram, exemplars: Vec<Exemplar>) {
        let series = self.gathered.series(labels);
        let Times { start_ms, t_ms } = times;
        series.histograms.push(HistogramSample { t_ms, start_ms, histogram: Arc::new(histogram) });
        series.exemplars.extend(exemplars);
    }

    fn summary(&mut self, names: &Names, point: message::SummaryPoint) {
        let Some(labels) = self.named(&names.plain, &point.attributes) else { return };
        let times = Times::of(point.start_time_unix_nano, point.time_unix_nano);
        let is_absent = has_no_value(point.flags);
        let mut add = |labels: Labels, value: f64| {
            let value = if is_absent { stale_marker() } else { value };
            self.gathered.float(labels, Sample { t_ms: times.t_ms, value }, times.start_ms, Vec::new());
        };
        add(labels.with(METRIC_NAME, &names.sum), point.sum);
        add(labels.with(METRIC_NAME, &names.count), point.count as f64);
        for one in point.quantile_values {
            add(labels.with("quantile", &plain(one.quantile)), one.value);
        }
    }

    /// What a resource says beside job and instance, for as long as its points reach.
    fn target_info(&mut self, resource: &Resource, first_ms: i64, last_ms: i64, lookback_ms: i64) {
        let Context { job, instance, .. } = &self.context;
        let (job, instance) = (job.clone(), instance.clone());
        let says_more = resource.attributes.iter().any(|one| !IDENTIFYING.contains(&one.key.as_str()));
        if !says_more {
            return;
        }
        let left_out: &[&str] = if self.config.keep_identifying_resource_attributes { &[] } else { &IDENTIFYING };
        let mut labels = match self.attribute_labels(&resource.attributes, left_out) {
            Ok(labels) => labels,
            Err(reason) => return self.refuse("no label name", 0, || format!("{reason}, of target_info")),
        };
        for (name, value) in [("job", job), ("instance", instance)] {
            if !value.is_empty() {
                labels.set(name, value);
            }
        }
        if labels.get("job").is_none() && labels.get("instance").is_none() {
            return;
        }
        labels.set(METRIC_NAME, "target_info");
        let labels = labels.build();
        let help = "Target metadata".to_owned();
        let (name, kind) = ("target_info".to_owned(), MetricKind::Gauge);
        self.metadata.push(MetricMetadata { name, kind, help, unit: String::new() });
        let interval_ms = (lookback_ms / 2).max(1);
        let span_ms = last_ms.saturating_sub(first_ms);
        let step_ms = interval_ms.max(span_ms / self.target_room.clamp(1, MAX_TARGET_INFO_SAMPLES) + 1);
        self.target_room = (self.target_room - span_ms / step_ms).max(0);
        let steps = (0..=span_ms / step_ms).map(|step| first_ms + step * step_ms).filter(|t_ms| *t_ms < last_ms);
        for t_ms in steps.chain([last_ms]) {
            if self.seen_targets.insert((labels.clone(), t_ms)) {
                self.gathered.float(labels.clone(), Sample { t_ms, value: 1.0 }, 0, Vec::new());
            }
        }
    }
}

fn point_count(metric: &Metric) -> usize {
    let numbers = metric.gauge.as_ref().map_or(0, |one| one.data_points.len())
        + metric.sum.as_ref().map_or(0, |one| one.data_points.len());
    let histograms = metric.histogram.as_ref().map_or(0, |one| one.data_points.len())
        + metric.exponential_histogram.as_ref().map_or(0, |one| one.data_points.len());
    numbers + histograms + metric.summary.as_ref().map_or(0, |one| one.data_points.len())
}

/// Makes the span hold the times of a metric's points.
fn widen(span: &mut Option<(i64, i64)>, metric: &Metric) {
    let mut hold = |t_ns: u64| {
        let t_ms = (t_ns / NS_PER_MS) as i64;
        let (first_ms, last_ms) = span.unwrap_or((t_ms, t_ms));
        *span = Some((first_ms.min(t_ms), last_ms.max(t_ms)));
    };
    let numbers = metric.gauge.iter().flat_map(|one| &one.data_points);
    let numbers = numbers.chain(metric.sum.iter().flat_map(|one| &one.data_points));
    numbers.for_each(|point| hold(point.time_unix_nano));
    metric.histogram.iter().flat_map(|one| &one.data_points).for_each(|point| hold(point.time_unix_nano));
    metric.exponential_histogram.iter().flat_map(|one| &one.data_points).for_each(|point| hold(point.time_unix_nano));
    metric.summary.iter().flat_map(|one| &one.data_points).for_each(|point| hold(point.time_unix_nano));
}

/// Trace and span first; filtered attributes only where all fits.
fn exemplars(given: Vec<message::Exemplar>) -> Vec<Exemplar> {
    let hex = |id: &[u8]| id.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let one = |one: message::Exemplar| {
        let ids = [("trace_id", &one.trace_id), ("span_id", &one.span_id)];
        let ids = ids.into_iter().filter(|(_, id)| id.iter().any(|byte| *byte != 0));
        let mut labels: Vec<(String, String)> = ids.map(|(name, id)| (name.to_owned(), hex(id))).collect();
        let filtered = one.filtered_attributes.iter().map(|attribute| (attribute.key.clone(), text(attribute)));
        let filtered: Vec<_> = filtered.collect();
        let chars = |pairs: &[(String, String)]| {
            pairs.iter().map(|(name, value)| name.chars().count() + value.chars().count()).sum::<usize>()
        };
        if chars(&labels) + chars(&filtered) <= MAX_EXEMPLAR_CHARS {
            labels.extend(filtered);
        }
        let value = one.as_double.or(one.as_int.map(|value| value as f64))?;
        let t_ms = (one.time_unix_nano / NS_PER_MS) as i64;
        Some(Exemplar { labels: Labels::from_pairs(labels), value, t_ms })
    };
    given.into_iter().filter_map(one).collect()
}

fn text(attribute: &KeyValue) -> String {
    attribute.value.as_ref().map_or_else(String::new, message::AnyValue::text)
}

fn text_of(attributes: &[KeyValue], name: &str) -> Option<String> {
    attributes.iter().find(|one| one.key == name).map(text)
}

/// A bound without an exponent.
fn plain(bound: f64) -> String {
    if bound.is_finite() { bound.to_string() } else { query::format_number(bound) }
}
