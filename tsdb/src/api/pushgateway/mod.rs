//! Pushgateway's API: `PUT|POST|DELETE /metrics/job/<job>{/<label>/<value>}`, and its listing `GET /api/v1/metrics`.
//!
//! PUT replaces a group, POST the families of the names that it brings, DELETE ends the group. 200 once the group is on
//! disk and its samples are on the bus, which they are again every 15 s, so that they stay current; what a group no longer
//! has ends with a staleness marker. `push_time_seconds` and `push_failure_time_seconds` are kept beside it. A push that is
//! malformed, has timestamps or disagrees with itself is refused whole, and noted.

mod groups;
mod protobuf;
mod route;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use bus::BusError;
use model::exposition::{Exposition, TextFormat, parse};
use model::{Labels, METRIC_NAME, MetricBatch, MetricKind, Sample, SeriesSamples, now_ms, stale_marker};
use serde_json::{Value, json};
use service::body::decompress;
use service::http::{ApiError, Tenant};
use tokio_util::sync::CancellationToken;

use super::App;
use super::intake::not_taken;
use crate::Tsdb;
use crate::ingest::{Refusals, label_fault};
pub(crate) use groups::Groups;
use groups::{Change, Family, Group, GroupKey};
#[cfg(any(test, feature = "fuzz"))]
pub(crate) use protobuf::read as read_protobuf;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) use route::grouping;

/// How often what was pushed is written again.
const REPEAT: Duration = Duration::from_secs(15);
const PUSH_TIME: &str = "push_time_seconds";
const PUSH_FAILURE_TIME: &str = "push_failure_time_seconds";
/// Series of one batch when all groups are written again.
const BATCH_SERIES: usize = 10_000;

pub async fn push(
    State(app): State<App>,
    Tenant(tenant): Tenant,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, ApiError> {
    let labels = route::grouping(uri.path()).map_err(ApiError::bad_data)?;
    let key = GroupKey { tenant, labels };
    let t_ms = now_ms();
    if method == Method::DELETE {
        app.change_group(&key, t_ms, |_| None).await?;
        return Ok(StatusCode::ACCEPTED);
    }
    let pushed = decompress(&headers, body).and_then(|body| {
        let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        let read = match kind.starts_with(protobuf::CONTENT_TYPE) {
            true => protobuf::read(&body),
            false => parse(&String::from_utf8_lossy(&body), TextFormat::of_content_type(kind))
                .map_err(|error| error.to_string()),
        };
        let families = read.and_then(|exposition| families(exposition, &key.labels, t_ms));
        families.and_then(|families| app.check_families(families)).map_err(ApiError::bad_data)
    });
    let families = match pushed {
        Ok(families) => families,
        Err(error) => {
            app.change_group(&key, t_ms, |before| Some(Group { failed_ms: t_ms, ..before.unwrap_or_default() }))
                .await?;
            return Err(error);
        }
    };
    let replaces = method == Method::PUT;
    app.change_group(&key, t_ms, |before| {
        let mut group = before.unwrap_or_default();
        if replaces {
            group.families.clear();
        }
        group.families.extend(families);
        Some(Group { pushed_ms: t_ms, ..group })
    })
    .await?;
    Ok(StatusCode::OK)
}

/// A text as families with the grouping labels, or why it cannot be a group's.
fn families(exposition: Exposition, grouping: &Labels, t_ms: i64) -> Result<BTreeMap<String, Family>, String> {
    let described: HashMap<&str, &model::MetricMetadata> =
        exposition.metadata.iter().map(|one| (one.name.as_str(), one)).collect();
    let mut families = BTreeMap::<String, Family>::new();
    let mut seen = std::collections::HashSet::new();
    for sample in exposition.samples {
        if sample.t_ms.is_some() {
            return Err("pushed metrics must not have timestamps".to_owned());
        }
        let name = sample.labels.metric_name().unwrap_or("");
        if matches!(name, PUSH_TIME | PUSH_FAILURE_TIME) {
            return Err(format!("pushed metric {name:?} is the gateway's own"));
        }
        let described = family_of(name).find_map(|(name, suffix)| {
            let found = described.get(name)?;
            has_suffix(found.kind, suffix).then_some(*found)
        });
        let family = families.entry(described.map_or(name, |one| one.name.as_str()).to_owned()).or_default();
        if let Some(one) = described {
            (family.kind, family.help, family.unit) = (one.kind, one.help.clone(), one.unit.clone());
        }
        family.pushed_ms = t_ms;
        let mut labels = sample.labels.to_builder();
        for label in grouping {
            labels.set(label.name.clone(), label.value.clone());
        }
        let labels = labels.build();
        if !seen.insert(labels.clone()) {
            return Err(format!("pushed metrics are invalid or inconsistent: {labels} was collected before"));
        }
        family.samples.push((labels, sample.value.to_bits()));
    }
    Ok(families)
}

/// The names that a sample's family may have, with what the sample's adds.
fn family_of(name: &str) -> impl Iterator<Item = (&str, &'static str)> {
    ["", "_bucket", "_count", "_sum", "_total", "_created", "_info"]
        .into_iter()
        .filter_map(move |suffix| Some((name.strip_suffix(suffix)?, suffix)))
}

fn has_suffix(kind: MetricKind, suffix: &str) -> bool {
    match kind {
        MetricKind::Histogram | MetricKind::GaugeHistogram => {
            matches!(suffix, "_bucket" | "_count" | "_sum" | "_created")
        }
        MetricKind::Summary => matches!(suffix, "" | "_count" | "_sum" | "_created"),
        MetricKind::Counter => matches!(suffix, "" | "_total" | "_created"),
        MetricKind::Info => matches!(suffix, "" | "_info"),
        MetricKind::Gauge | MetricKind::Unknown | MetricKind::StateSet => suffix.is_empty(),
    }
}

impl Tsdb {
    /// What no series may be is refused now, not every 15 s.
    fn check_families(&self, families: BTreeMap<String, Family>) -> Result<BTreeMap<String, Family>, String> {
        let mut samples = families.values().flat_map(|family| &family.samples);
        let fault = samples.find_map(|(labels, _)| Some((label_fault(labels, &self.options.limits)?, labels)));
        let fault = fault.map(|(reason, labels)| format!("{reason}: {labels}"));
        fault.map_or(Ok(families), Err)
    }

    /// Changes a group in memory, on disk and in the store.
    async fn change_group(
        &self,
        key: &GroupKey,
        t_ms: i64,
        change: impl FnOnce(Option<Group>) -> Option<Group>,
    ) -> Result<(), ApiError> {
        let groups = &self.intake.groups;
        let changed = groups.change(key, change).map_err(ApiError::bad_data)?;
        groups.save().await.map_err(ApiError::unavailable)?;
        let mut batch = changed.after.as_ref().map(|group| written(key, group, t_ms)).unwrap_or_default();
        batch.tenant = key.tenant.clone();
        batch.series.extend(ended(key, &changed, t_ms));
        match self.append_batch(batch, Refusals::default()).await {
            // What is over a limit now is tried again with the group.
            Ok(appended) => appended.refused.map_or(Ok(()), |reasons| Err(ApiError::bad_data(reasons))),
            Err(error) => Err(not_taken(&error)),
        }
    }

    /// Writes what was pushed again and again, until stopped.
    pub async fn repeat_pushed(self: Arc<Self>, stop: CancellationToken) {
        let mut beat = tokio::time::interval_at(tokio::time::Instant::now() + REPEAT, REPEAT);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = beat.tick() => {}
            }
            if let Err(error) = self.write_groups(now_ms()).await {
                tracing::warn!(%error, "pushed groups could not be written again");
            }
        }
    }

    async fn write_groups(&self, t_ms: i64) -> Result<(), BusError> {
        let mut batch = MetricBatch::default();
        for (key, group) in self.intake.groups.all() {
            let more = written(&key, &group, t_ms);
            if batch.tenant != more.tenant || batch.series.len() >= BATCH_SERIES {
                self.append_batch(std::mem::take(&mut batch), Refusals::default()).await?;
            }
            batch.tenant = more.tenant;
            batch.series.extend(more.series);
            batch.metadata.extend(more.metadata);
        }
        self.append_batch(batch, Refusals::default()).await.map(drop)
    }
}

fn times(key: &GroupKey, group: &Group) -> [(Labels, f64); 2] {
    let one = |name: &str, ms: i64| (key.labels.with(METRIC_NAME, name), ms as f64 / 1000.0);
    [one(PUSH_TIME, group.pushed_ms), one(PUSH_FAILURE_TIME, group.failed_ms)]
}

/// A group's samples at a time.
fn written(key: &GroupKey, group: &Group, t_ms: i64) -> MetricBatch {
    let own = times(key, group);
    let all = group.samples().chain(own.iter().map(|(labels, value)| (labels, *value)));
    let series = all.map(|(labels, value)| SeriesSamples::new(labels.clone(), vec![Sample { t_ms, value }])).collect();
    let metadata = group.families.iter().map(|(name, family)| family.described(name));
    let metadata = metadata.filter(|one| one.kind != MetricKind::Unknown || !one.help.is_empty()).collect();
    MetricBatch { metadata, ..MetricBatch::new(key.tenant.clone(), series) }
}

/// The ends of series that a group had and has no more.
fn ended(key: &GroupKey, change: &Change, t_ms: i64) -> Vec<SeriesSamples> {
    let labels_of = |group: &Option<Group>| {
        let group = group.as_ref();
        let own = group.into_iter().flat_map(|group| times(key, group)).map(|(labels, _)| labels);
        let pushed = group.into_iter().flat_map(Group::samples).map(|(labels, _)| labels.clone());
        own.chain(pushed).collect::<std::collections::HashSet<_>>()
    };
    let (before, after) = (labels_of(&change.before), labels_of(&change.after));
    let marker = Sample { t_ms, value: stale_marker() };
    before.difference(&after).map(|labels| SeriesSamples::new(labels.clone(), vec![marker])).collect()
}

/// All groups of the tenant, as Pushgateway lists them.
pub async fn list(State(app): State<App>, Tenant(tenant): Tenant) -> Json<Value> {
    let groups = app.intake.groups.all().into_iter().filter(|(key, _)| key.tenant == tenant);
    let data: Vec<Value> = groups.map(|(key, group)| listed(&key, &group)).collect();
    Json(json!({"status": "success", "data": data}))
}

fn listed(key: &GroupKey, group: &Group) -> Value {
    let time = model::format_rfc3339_ms;
    let mut shown = serde_json::Map::new();
    for (name, family) in &group.families {
        let metric = |(labels, bits): &(Labels, u64)| {
            let is_family = labels.metric_name() == Some(name);
            let labels = if is_family { labels.without(&[METRIC_NAME]) } else { labels.clone() };
            json!({"labels": labels, "value": query::format_number(f64::from_bits(*bits))})
        };
        let kind =
            if family.kind == MetricKind::Unknown { "UNTYPED".to_owned() } else { family.kind.as_str().to_uppercase() };
        let metrics: Vec<Value> = family.samples.iter().map(metric).collect();
        let family =
            json!({"time_stamp": time(family.pushed_ms), "type": kind, "help": family.help, "metrics": metrics});
        shown.insert(name.clone(), family);
    }
    for (labels, value) in times(key, group) {
        let name = labels.metric_name().unwrap_or("").to_owned();
        let metric = json!({"labels": key.labels, "value": query::format_number(value)});
        let at = time(group.pushed_ms.max(group.failed_ms));
        shown.insert(name, json!({"time_stamp": at, "type": "GAUGE", "metrics": [metric]}));
    }
    shown.insert("labels".to_owned(), json!(key.labels));
    shown.insert("last_push_successful".to_owned(), json!(group.pushed_ms >= group.failed_ms));
    Value::Object(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&[(&str, &str, usize)], &str>) {
        let grouping = Labels::from_pairs([("job", "j")]);
        let read = parse(text, TextFormat::Prometheus).map_err(|error| error.to_string());
        match (read.and_then(|read| families(read, &grouping, 7)), expected) {
            (Ok(families), Ok(expected)) => {
                let shown: Vec<_> = families
                    .iter()
                    .map(|(name, family)| (name.as_str(), family.kind.as_str(), family.samples.len()))
                    .collect();
                assert_eq!(shown, expected);
                let mut all = families.values().flat_map(|family| &family.samples);
                assert!(all.all(|(labels, _)| labels.get("job") == Some("j")));
            }
            (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
            (got, expected) => panic!("{got:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn samples_stand_in_families() {
        let text = "# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n# TYPE g gauge\ng{job=\"other\"} 1\ng_sum 2\nc_total 3\n";
        let all = [("c_total", "unknown", 1), ("g", "gauge", 1), ("g_sum", "unknown", 1), ("h", "histogram", 3)];
        check(text, Ok(&all));
        check("x 1 1000\n", Err("must not have timestamps"));
        check("x{job=\"a\"} 1\nx{job=\"b\"} 1\n", Err("collected before"));
        check("push_time_seconds 1\n", Err("the gateway's own"));
        check("1x\n", Err("line 1"));
    }

    #[test]
    fn what_a_group_has_no_more_ends() {
        let key = GroupKey { tenant: "t".into(), labels: Labels::from_pairs([("job", "j")]) };
        let group = |name: &str| {
            let samples = vec![(Labels::from_pairs([("__name__", name), ("job", "j")]), 1f64.to_bits())];
            let family = Family { samples, ..Family::default() };
            Some(Group { families: BTreeMap::from([(name.to_owned(), family)]), pushed_ms: 1500, failed_ms: 0 })
        };
        let names = |series: Vec<SeriesSamples>| {
            let mut names: Vec<String> =
                series.iter().filter_map(|one| one.labels.metric_name()).map(str::to_owned).collect();
            names.sort();
            names
        };
        let replaced = Change { before: group("a"), after: group("b") };
        assert_eq!(names(ended(&key, &replaced, 7)), ["a"]);
        let deleted = Change { before: group("a"), after: None };
        assert_eq!(names(ended(&key, &deleted, 7)), ["a", PUSH_FAILURE_TIME, PUSH_TIME]);
        let group = group("a").expect("made");
        assert_eq!(names(written(&key, &group, 7).series), ["a", PUSH_FAILURE_TIME, PUSH_TIME]);
        assert_eq!(times(&key, &group)[0].1, 1.5);
    }
}
