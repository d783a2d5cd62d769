//! What Alertmanager lacks: history, acknowledgements, and where an alert would go (`docs/alerting.md`).

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use model::{Fingerprint, Labels, format_duration, now_ms, parse_rfc3339_ns};
use serde::Deserialize;
use serde_json::{Value, json};
use service::http::Params;

use super::rows::{ShownAck, in_background};
use super::{App, Failure, body, matchers_of, number};
use crate::history::{Id, Query};
use crate::notify;
use crate::route::{Route, RouteOptions};
use crate::state::{Ack, Event};

const DEFAULT_ENTRIES: usize = 100;
const MAX_ENTRIES: usize = 1_000;
/// Alerts acknowledged at once, and what may be said about it.
const MAX_ACKS: usize = 10_000;
const MAX_NOTE_BYTES: usize = 16 << 10;

fn instant(field: &str, text: &str) -> Result<i64, Failure> {
    let ns = parse_rfc3339_ns(text).ok_or_else(|| Failure::bad(format!("{field}: {text:?} is no RFC 3339 time")))?;
    Ok(ns.div_euclid(model::NS_PER_MS))
}

pub async fn history(State(app): State<App>, params: Params) -> Result<Json<Value>, Failure> {
    let time = |name: &str| params.get(name).map(|text| instant(name, text)).transpose();
    let cursor = |text: &str| Id::parse(text).ok_or_else(|| Failure::bad("bad cursor"));
    let query = Query {
        start_ms: time("start")?,
        end_ms: time("end")?,
        kinds: params.get_all("kind").map(str::to_owned).collect(),
        receiver: params.get("receiver").map(str::to_owned),
        matchers: matchers_of(&app, &params, "filter").map_err(Failure::bad)?,
        before: params.get("cursor").map(cursor).transpose()?,
        limit: number(&params, "limit")?.unwrap_or(DEFAULT_ENTRIES).min(MAX_ENTRIES),
    };
    let search = app.core.lock().history.snapshot(&query);
    let (entries, next) = in_background(move || search.run(&query)).await?.map_err(Failure::internal)?;
    Ok(Json(json!({"entries": entries, "next": next.map(|id| id.to_string())})))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PostedAck {
    fingerprints: Vec<String>,
    owner: String,
    #[serde(default)]
    note: String,
    ends_at: Option<String>,
}

/// Acknowledges alerts that fire.
pub async fn post_acks(State(app): State<App>, bytes: Bytes) -> Result<Json<Value>, Failure> {
    let posted: PostedAck = body(&bytes)?;
    let now_ms = now_ms();
    if posted.owner.is_empty() {
        return Err(Failure::bad("an acknowledgement needs an owner"));
    }
    if posted.fingerprints.len() > MAX_ACKS || posted.owner.len() + posted.note.len() > MAX_NOTE_BYTES {
        return Err(Failure::bad("too long"));
    }
    let ends_at_ms = posted.ends_at.as_deref().map(|text| instant("endsAt", text)).transpose()?;
    if ends_at_ms.is_some_and(|ends_at_ms| ends_at_ms <= now_ms) {
        return Err(Failure::bad("endsAt is in the past"));
    }
    let (mut events, mut known, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
    {
        let core = app.core.lock();
        for text in posted.fingerprints {
            let alert = Fingerprint::parse(&text).and_then(|fingerprint| core.state.alerts.get(&fingerprint));
            let Some(alert) = alert.filter(|alert| !alert.is_resolved_at(now_ms)) else {
                unknown.push(text);
                continue;
            };
            events.push(Event::Ack(Ack {
                fingerprint: alert.fingerprint(),
                labels: alert.labels.clone(),
                owner: posted.owner.clone(),
                note: posted.note.clone(),
                created_at_ms: now_ms,
                ends_at_ms,
            }));
            known.push(text);
        }
    }
    if events.is_empty() {
        return Err(Failure(StatusCode::NOT_FOUND, "no such alert fires".to_owned()));
    }
    app.record(events).await.map_err(Failure::unavailable)?;
    Ok(Json(json!({"acknowledged": known, "unknown": unknown})))
}

pub async fn acks(State(app): State<App>) -> Json<Vec<Value>> {
    let (core, now_ms) = (app.core.lock(), now_ms());
    let mut acks: Vec<&Ack> = core.state.acks.values().filter(|ack| ack.holds_at(now_ms)).collect();
    acks.sort_by_key(|ack| (ack.created_at_ms, ack.fingerprint));
    let show = |ack: &&Ack| {
        let mut shown = json!(ShownAck::from(*ack));
        shown["fingerprint"] = ack.fingerprint.to_string().into();
        shown["labels"] = json!(ack.labels);
        shown
    };
    Json(acks.iter().map(show).collect())
}

pub async fn delete_ack(State(app): State<App>, Path(id): Path<String>) -> Result<StatusCode, Failure> {
    let not_found = || Failure(StatusCode::NOT_FOUND, "no such acknowledgement".to_owned());
    let fingerprint = Fingerprint::parse(&id).ok_or_else(not_found)?;
    if !app.core.lock().state.acks.contains_key(&fingerprint) {
        return Err(not_found());
    }
    let event = Event::Unack { fingerprint, at_ms: now_ms() };
    app.record(vec![event]).await.map_err(Failure::unavailable)?;
    Ok(StatusCode::OK)
}

#[derive(Deserialize)]
struct Probe {
    labels: Labels,
}

/// Where an alert would go, and whether it would be told now.
pub async fn test_route(State(app): State<App>, bytes: Bytes) -> Result<Json<Value>, Failure> {
    let Probe { labels } = body(&bytes)?;
    let (core, now_ms) = (app.core.lock(), now_ms());
    let config = &core.config;
    let show = |route: &Route| {
        let options = &*route.options;
        let group_labels = options.group_labels(&labels);
        let alert = model::Alert {
            labels: labels.clone(),
            annotations: Labels::default(),
            starts_at_ms: now_ms,
            ends_at_ms: i64::MAX,
            updated_at_ms: now_ms,
            generator_url: String::new(),
            timeout: false,
        };
        let alerts = || vec![alert];
        let route_labels = notify::route_labels_of(options, &group_labels, alerts, &config.templates, now_ms);
        let muted_by = config.muting_intervals(options, now_ms);
        let mut shown = timings(options);
        shown["receiver"] = options.receiver.as_str().into();
        shown["route"] = options.key.as_str().into();
        shown["groupKey"] = options.group_key(&group_labels).into();
        shown["groupLabels"] = json!(group_labels);
        shown["routeLabels"] = json!(route_labels);
        shown["muted"] = (!muted_by.is_empty()).into();
        shown["mutedBy"] = json!(muted_by);
        shown
    };
    let routes: Vec<Value> = config.root.find(&labels).into_iter().map(show).collect();
    let inhibited_by: Vec<String> = core.inhibited_by(&labels, now_ms).iter().map(Fingerprint::to_string).collect();
    Ok(Json(json!({
        "routes": routes, "silencedBy": core.silenced_by(&labels, now_ms), "inhibitedBy": inhibited_by,
    })))
}

fn timings(options: &RouteOptions) -> Value {
    json!({
        "groupWait": format_duration(options.group_wait_ms),
        "groupInterval": format_duration(options.group_interval_ms),
        "repeatInterval": format_duration(options.repeat_interval_ms),
    })
}

/// The routing tree.
pub async fn routes(State(app): State<App>) -> Json<Value> {
    Json(tree(&app.core.lock().config.root))
}

fn tree(route: &Route) -> Value {
    let options = &*route.options;
    let mut shown = timings(options);
    shown["receiver"] = options.receiver.as_str().into();
    shown["matchers"] = route.matchers.iter().map(ToString::to_string).collect();
    shown["continue"] = route.go_on.into();
    shown["groupBy"] = json!(options.group_by.clone().unwrap_or_else(|| vec!["...".to_owned()]));
    shown["muteTimeIntervals"] = json!(options.mute_time_intervals);
    shown["activeTimeIntervals"] = json!(options.active_time_intervals);
    shown["routes"] = route.children.iter().map(tree).collect();
    shown
}
