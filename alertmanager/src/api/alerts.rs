//! `/api/v2/alerts`: taking alerts in, and showing them.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use model::{Alert, Labels, format_rfc3339_ms, matches_all, now_ms, parse_rfc3339_ns};
use regex::Regex;
use serde::Deserialize;
use serde_json::{Value, json};
use service::http::Params;

use super::{App, Failure, filters, wants};
use crate::service::Core;

/// An alert as it is posted.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PostedAlert {
    labels: Labels,
    annotations: Labels,
    starts_at: String,
    ends_at: String,
    #[serde(rename = "generatorURL")]
    generator_url: String,
}

impl Default for PostedAlert {
    fn default() -> Self {
        let empty = String::new;
        let (labels, annotations) = (Labels::default(), Labels::default());
        PostedAlert { labels, annotations, starts_at: empty(), ends_at: empty(), generator_url: empty() }
    }
}

impl PostedAlert {
    /// Fills in what was not sent: a start (the end, or now), an end (assumed: now + resolve_timeout).
    fn complete(self, now_ms: i64, resolve_timeout_ms: i64) -> Result<Alert, String> {
        let (starts, ends) = (instant("startsAt", &self.starts_at)?, instant("endsAt", &self.ends_at)?);
        if self.labels.is_empty() {
            return Err("at least one label pair required".to_owned());
        }
        let starts_at_ms = starts.or(ends.filter(|ends_ms| *ends_ms < now_ms)).unwrap_or(now_ms);
        let alert = Alert {
            labels: self.labels,
            annotations: self.annotations,
            starts_at_ms,
            ends_at_ms: ends.unwrap_or(now_ms + resolve_timeout_ms),
            updated_at_ms: now_ms,
            generator_url: self.generator_url,
            timeout: ends.is_none(),
        };
        if alert.ends_at_ms < alert.starts_at_ms {
            return Err("start time must be before end time".to_owned());
        }
        Ok(alert)
    }
}

/// RFC 3339; empty and Go's zero time mean "not sent".
fn instant(field: &str, text: &str) -> Result<Option<i64>, String> {
    if text.is_empty() || text.starts_with("0001-01-01T00:00:00") {
        return Ok(None);
    }
    let ns = parse_rfc3339_ns(text).ok_or_else(|| format!("{field}: {text:?} is no RFC 3339 time"))?;
    Ok(Some(ns.div_euclid(model::NS_PER_MS)))
}

/// Takes what is valid, even when the answer is 400 for the rest.
pub async fn post(State(app): State<App>, body: Bytes) -> Result<StatusCode, Failure> {
    let posted: Vec<Value> =
        serde_json::from_slice(&body).map_err(|error| Failure::bad(format!("parsing alerts body: {error}")))?;
    let (now_ms, resolve_timeout_ms) = (now_ms(), app.core.lock().config.resolve_timeout_ms);
    let (mut alerts, mut faults) = (Vec::new(), Vec::new());
    for value in posted {
        let parsed = serde_json::from_value::<PostedAlert>(value).map_err(|error| error.to_string());
        match parsed.and_then(|posted| posted.complete(now_ms, resolve_timeout_ms)) {
            Ok(alert) => alerts.push(alert),
            Err(fault) => faults.push(fault),
        }
    }
    app.post(alerts).await.map_err(Failure::unavailable)?;
    if faults.is_empty() { Ok(StatusCode::OK) } else { Err(Failure::bad(faults.join("; "))) }
}

fn receiver_filter(params: &Params) -> Result<Option<Regex>, Failure> {
    let compile = |pattern: &str| Regex::new(&format!("^(?:{pattern})$"));
    let regex = params.get("receiver").map(compile).transpose();
    regex.map_err(|error| Failure::bad(format!("failed to parse receiver param: {error}")))
}

/// An alert with its status, as the API shows it; `None` when the request does not want it.
fn shown(core: &Core, params: &Params, alert: &Alert, receivers: &[String], now_ms: i64) -> Option<Value> {
    let silenced_by = core.silenced_by(&alert.labels, now_ms);
    let inhibited_by: Vec<String> = core.inhibited_by(&alert.labels, now_ms).iter().map(ToString::to_string).collect();
    let is_active = silenced_by.is_empty() && inhibited_by.is_empty();
    let is_wanted = (wants(params, "active") || !is_active)
        && (wants(params, "silenced") || silenced_by.is_empty())
        && (wants(params, "inhibited") || inhibited_by.is_empty());
    is_wanted.then(|| {
        json!({
            "labels": alert.labels,
            "annotations": alert.annotations,
            "startsAt": format_rfc3339_ms(alert.starts_at_ms),
            "endsAt": format_rfc3339_ms(alert.ends_at_ms),
            "updatedAt": format_rfc3339_ms(alert.updated_at_ms),
            "fingerprint": alert.fingerprint().to_string(),
            "generatorURL": alert.generator_url,
            "receivers": receivers.iter().map(|name| json!({"name": name})).collect::<Vec<_>>(),
            "status": {
                "state": if is_active { "active" } else { "suppressed" },
                "silencedBy": silenced_by,
                "inhibitedBy": inhibited_by,
                "mutedBy": [],
            },
        })
    })
}

/// Alerts that fire, filtered.
pub async fn list(State(app): State<App>, params: Params) -> Result<Json<Vec<Value>>, Failure> {
    let (matchers, receiver) = (filters(&params)?, receiver_filter(&params)?);
    let (core, now_ms) = (app.core.lock(), now_ms());
    let mut found = Vec::new();
    for alert in core.state.firing(now_ms).filter(|alert| matches_all(&matchers, &alert.labels)) {
        let routes = core.config.root.find(&alert.labels);
        let receivers: Vec<String> = routes.into_iter().map(|route| route.options.receiver.clone()).collect();
        if receiver.as_ref().is_none_or(|regex| receivers.iter().any(|name| regex.is_match(name))) {
            found.extend(shown(&core, &params, alert, &receivers, now_ms));
        }
    }
    Ok(Json(found))
}

/// The same by group.
pub async fn groups(State(app): State<App>, params: Params) -> Result<Json<Vec<Value>>, Failure> {
    let (matchers, receiver) = (filters(&params)?, receiver_filter(&params)?);
    let (core, now_ms) = (app.core.lock(), now_ms());
    let mut found = Vec::new();
    for (_, group) in core.dispatcher.groups() {
        let name = &group.options.receiver;
        if receiver.as_ref().is_some_and(|regex| !regex.is_match(name)) {
            continue;
        }
        let alerts = group.alerts.iter().filter_map(|fingerprint| core.state.alerts.get(fingerprint));
        let firing = alerts.filter(|alert| !alert.is_resolved_at(now_ms) && matches_all(&matchers, &alert.labels));
        let alerts: Vec<Value> =
            firing.filter_map(|alert| shown(&core, &params, alert, std::slice::from_ref(name), now_ms)).collect();
        if !alerts.is_empty() {
            found.push(json!({"labels": group.labels, "receiver": {"name": name}, "alerts": alerts}));
        }
    }
    Ok(Json(found))
}
