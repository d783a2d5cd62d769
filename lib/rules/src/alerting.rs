//! The state of one alerting rule: inactive → pending → firing → resolved.
//!
//! Pure: time comes in as an argument. The order of steps is Prometheus' (`rules/alerting.go`).

use std::collections::BTreeMap;

use model::{Alert, Labels, METRIC_NAME, Sample, SeriesSamples};

use crate::file::RuleSpec;

/// How long a resolved alert is kept, and told about.
const RESOLVED_RETENTION_MS: i64 = 15 * 60_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Inactive,
    Pending,
    Firing,
}

#[derive(Debug, Clone)]
pub struct ActiveAlert {
    pub labels: Labels,
    pub annotations: Labels,
    pub value: f64,
    pub state: State,
    pub active_at_ms: i64,
    pub fired_at_ms: i64,
    pub resolved_at_ms: Option<i64>,
    pub keep_firing_since_ms: Option<i64>,
    last_sent_ms: Option<i64>,
}

/// One element of a rule's result, with its templates filled in.
#[derive(Debug, Clone)]
pub struct Candidate {
    pub labels: Labels,
    pub annotations: Labels,
    pub value: f64,
}

#[derive(Debug, Clone, Default)]
pub struct AlertingState {
    active: BTreeMap<u64, ActiveAlert>,
    /// Until `for` has been restored, `ALERTS*` are not written: they would overwrite what is to be read.
    pub restored: bool,
}

impl AlertingState {
    /// Takes a result in. An error (a repeated label set, the limit) leaves the rule without active alerts only where
    /// Prometheus does so: past the limit.
    pub fn update(
        &mut self,
        rule: &RuleSpec,
        candidates: Vec<Candidate>,
        ts_ms: i64,
        limit: usize,
    ) -> Result<(), String> {
        let mut results: BTreeMap<u64, Candidate> = BTreeMap::new();
        for candidate in candidates {
            if results.insert(candidate.labels.hash(""), candidate).is_some() {
                return Err("vector contains metrics with the same labelset after applying alert labels".to_owned());
            }
        }
        for (fingerprint, candidate) in &results {
            self.see(*fingerprint, candidate, ts_ms);
        }
        self.active.retain(|fingerprint, alert| !alert.expired(results.contains_key(fingerprint), ts_ms));
        for (fingerprint, alert) in &mut self.active {
            alert.advance(rule, results.contains_key(fingerprint), ts_ms);
        }
        let count = self.active.values().filter(|alert| alert.state != State::Inactive).count();
        if limit > 0 && count > limit {
            self.active.clear();
            return Err(format!("exceeded limit of {limit} with {count} alerts"));
        }
        Ok(())
    }

    fn see(&mut self, fingerprint: u64, candidate: &Candidate, ts_ms: i64) {
        match self.active.get_mut(&fingerprint) {
            Some(alert) if alert.state != State::Inactive => {
                alert.value = candidate.value;
                alert.annotations = candidate.annotations.clone();
            }
            _ => {
                let alert = ActiveAlert {
                    labels: candidate.labels.clone(),
                    annotations: candidate.annotations.clone(),
                    value: candidate.value,
                    state: State::Pending,
                    active_at_ms: ts_ms,
                    fired_at_ms: 0,
                    resolved_at_ms: None,
                    keep_firing_since_ms: None,
                    last_sent_ms: None,
                };
                self.active.insert(fingerprint, alert);
            }
        }
    }

    pub fn alerts(&self) -> impl Iterator<Item = &ActiveAlert> {
        self.active.values()
    }

    pub fn state(&self) -> State {
        let states = self.active.values().map(|alert| alert.state);
        states.max_by_key(|state| *state as u8).unwrap_or(State::Inactive)
    }

    /// The alerts that are due to be sent, marked as sent: new, resolved since, or not told about for `resend_ms`.
    pub fn due(&mut self, ts_ms: i64, resend_ms: i64, interval_ms: i64, generator_url: &str) -> Vec<Alert> {
        let mut due = Vec::new();
        for alert in self.active.values_mut().filter(|alert| alert.is_due(ts_ms, resend_ms)) {
            alert.last_sent_ms = Some(ts_ms);
            let valid_until_ms = ts_ms + 4 * interval_ms.max(resend_ms);
            due.push(Alert {
                labels: alert.labels.clone(),
                annotations: alert.annotations.clone(),
                starts_at_ms: alert.fired_at_ms,
                ends_at_ms: alert.resolved_at_ms.unwrap_or(valid_until_ms),
                updated_at_ms: ts_ms,
                generator_url: generator_url.to_owned(),
                timeout: false,
            });
        }
        due
    }

    /// `ALERTS` and `ALERTS_FOR_STATE` of what is pending or firing.
    pub fn series(&self, t_ms: i64) -> Vec<SeriesSamples> {
        let mut series = Vec::new();
        if !self.restored {
            return series;
        }
        for alert in self.active.values().filter(|alert| alert.state != State::Inactive) {
            let state = if alert.state == State::Firing { "firing" } else { "pending" };
            let mut one = |labels: Labels, value: f64| {
                series.push(SeriesSamples::new(labels, vec![Sample { t_ms, value }]));
            };
            one(alert.labels.with(METRIC_NAME, "ALERTS").with("alertstate", state), 1.0);
            let since_s = (alert.active_at_ms as f64 / 1000.0).floor();
            one(alert.labels.with(METRIC_NAME, "ALERTS_FOR_STATE"), since_s);
        }
        series
    }

    /// Gives alerts back the time they had been pending for before a restart. `earlier` is what `ALERTS_FOR_STATE` held:
    /// labels, the instant of the last sample, and since when the alert had been active, in milliseconds.
    pub fn restore(&mut self, rule: &RuleSpec, earlier: &[(Labels, i64, i64)], ts_ms: i64, grace_ms: i64) {
        self.restored = true;
        if rule.hold_ms < grace_ms {
            return;
        }
        for alert in self.active.values_mut() {
            let known = earlier.iter().find(|(labels, _, _)| labels.without(&[METRIC_NAME]) == alert.labels);
            let Some((_, down_at_ms, active_at_ms)) = known else { continue };
            let remaining_ms = rule.hold_ms - (down_at_ms - active_at_ms);
            alert.active_at_ms = if remaining_ms <= 0 {
                *active_at_ms
            } else if remaining_ms < grace_ms {
                ts_ms + grace_ms - rule.hold_ms
            } else {
                active_at_ms + (ts_ms - down_at_ms)
            };
        }
    }
}

impl ActiveAlert {
    /// Whether it can be forgotten: pending and gone, or resolved long ago.
    fn expired(&self, is_in_result: bool, ts_ms: i64) -> bool {
        let resolved_long_ago = self.resolved_at_ms.is_some_and(|at_ms| ts_ms - at_ms > RESOLVED_RETENTION_MS);
        !is_in_result && (self.state == State::Pending || resolved_long_ago)
    }

    fn advance(&mut self, rule: &RuleSpec, is_in_result: bool, ts_ms: i64) {
        if is_in_result {
            self.keep_firing_since_ms = None;
        } else if !self.keeps_firing(rule, ts_ms) {
            if self.state != State::Inactive {
                self.state = State::Inactive;
                self.resolved_at_ms = Some(ts_ms);
            }
            return;
        }
        let held = ts_ms - self.active_at_ms >= rule.hold_ms;
        if self.state == State::Pending && held {
            self.state = State::Firing;
            self.fired_at_ms = ts_ms;
        } else if self.state == State::Firing && !held {
            // The rule was reloaded with a longer `for`.
            self.state = State::Pending;
        }
    }

    fn keeps_firing(&mut self, rule: &RuleSpec, ts_ms: i64) -> bool {
        if self.state != State::Firing || rule.keep_firing_ms == 0 {
            return false;
        }
        let since_ms = *self.keep_firing_since_ms.get_or_insert(ts_ms);
        ts_ms - since_ms < rule.keep_firing_ms
    }

    fn is_due(&self, ts_ms: i64, resend_ms: i64) -> bool {
        if self.state == State::Pending {
            return false;
        }
        match (self.last_sent_ms, self.resolved_at_ms) {
            (None, _) => true,
            (Some(sent_ms), Some(resolved_ms)) if resolved_ms > sent_ms => true,
            (Some(sent_ms), _) => sent_ms + resend_ms < ts_ms,
        }
    }
}
