//! What rules say of themselves, in the shape of Prometheus' `/api/v1/rules` and `/api/v1/alerts`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use model::{Labels, format_rfc3339_ms};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::alerting::State;
use crate::file::Kind;

#[derive(Debug, Clone)]
pub struct GroupStatus {
    pub name: String,
    pub file: String,
    pub interval_ms: i64,
    pub limit: usize,
    pub rules: Vec<RuleStatus>,
    pub evaluation_s: f64,
    pub last_evaluation_ms: i64,
}

#[derive(Debug, Clone)]
pub struct RuleStatus {
    pub name: String,
    pub is_alert: bool,
    pub kind: Kind,
    pub expr: String,
    pub hold_ms: i64,
    pub keep_firing_ms: i64,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub alerts: Vec<AlertStatus>,
    pub state: State,
    pub error: Option<String>,
    pub evaluation_s: f64,
    pub last_evaluation_ms: i64,
}

#[derive(Debug, Clone)]
pub struct AlertStatus {
    pub labels: Labels,
    pub annotations: Labels,
    pub state: State,
    pub active_at_ms: i64,
    pub keep_firing_since_ms: Option<i64>,
    pub value: f64,
}

fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

impl Serialize for GroupStatus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", &self.name)?;
        map.serialize_entry("file", &self.file)?;
        map.serialize_entry("interval", &seconds(self.interval_ms))?;
        map.serialize_entry("limit", &self.limit)?;
        map.serialize_entry("rules", &self.rules)?;
        map.serialize_entry("evaluationTime", &self.evaluation_s)?;
        map.serialize_entry("lastEvaluation", &format_rfc3339_ms(self.last_evaluation_ms))?;
        map.end()
    }
}

impl Serialize for RuleStatus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if self.is_alert {
            map.serialize_entry("state", &self.state)?;
            map.serialize_entry("duration", &seconds(self.hold_ms))?;
            map.serialize_entry("keepFiringFor", &seconds(self.keep_firing_ms))?;
            map.serialize_entry("annotations", &self.annotations)?;
            map.serialize_entry("alerts", &self.alerts)?;
        }
        map.serialize_entry("name", &self.name)?;
        map.serialize_entry("query", &self.expr)?;
        map.serialize_entry("labels", &self.labels)?;
        let health = match (&self.error, self.last_evaluation_ms) {
            (Some(_), _) => "err",
            (None, 0) => "unknown",
            (None, _) => "ok",
        };
        map.serialize_entry("health", health)?;
        if let Some(error) = &self.error {
            map.serialize_entry("lastError", error)?;
        }
        map.serialize_entry("evaluationTime", &self.evaluation_s)?;
        map.serialize_entry("lastEvaluation", &format_rfc3339_ms(self.last_evaluation_ms))?;
        map.serialize_entry("type", if self.is_alert { "alerting" } else { "recording" })?;
        if self.kind == Kind::Logql {
            map.serialize_entry("language", "logql")?;
        }
        map.end()
    }
}

impl Serialize for AlertStatus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("labels", &self.labels)?;
        map.serialize_entry("annotations", &self.annotations)?;
        map.serialize_entry("state", &self.state)?;
        map.serialize_entry("activeAt", &format_rfc3339_ms(self.active_at_ms))?;
        if let Some(since_ms) = self.keep_firing_since_ms {
            map.serialize_entry("keepFiringSince", &format_rfc3339_ms(since_ms))?;
        }
        map.serialize_entry("value", &query::format_number(self.value))?;
        map.end()
    }
}

/// Counters of all groups together.
#[derive(Debug, Default)]
pub struct Stats {
    evaluations: AtomicU64,
    failures: AtomicU64,
    missed: AtomicU64,
    pub(crate) alerts_dropped: AtomicU64,
}

impl Stats {
    pub(crate) fn count_evaluation(&self, failed: bool) {
        self.evaluations.fetch_add(1, Ordering::Relaxed);
        self.failures.fetch_add(u64::from(failed), Ordering::Relaxed);
    }

    pub(crate) fn count_missed(&self, slots: u64) {
        self.missed.fetch_add(slots, Ordering::Relaxed);
    }

    /// Names (without prefix) and values, for the process's self-metrics.
    pub fn counters(&self) -> [(&'static str, u64); 4] {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("rules_evaluations", read(&self.evaluations)),
            ("rules_evaluation_failures", read(&self.failures)),
            ("rules_slots_missed", read(&self.missed)),
            ("rules_alerts_dropped", read(&self.alerts_dropped)),
        ]
    }
}
