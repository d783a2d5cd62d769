//! `/api/v2/silences`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use model::{Matcher, now_ms, parse_rfc3339_ns};
use serde::Deserialize;
use serde_json::{Value, json};
use service::http::Params;
use uuid::Uuid;

use super::rows::{Candidate, Filter, in_background};
use super::{App, Failure, body, matchers_of, wants};
use crate::silence::{ApiMatcher, Compiled, PlanError, Silence, SilenceState, check_names, compile_sets, expire};
use crate::state::Event;

/// A preview shows no more alerts.
const MAX_PREVIEW: usize = 100;

/// A silence as it is posted.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PostedSilence {
    #[serde(default)]
    id: Option<String>,
    #[serde(flatten)]
    what: What,
    #[serde(default)]
    time_intervals: Vec<Value>,
    #[serde(default)]
    starts_at: Option<String>,
    ends_at: String,
    #[serde(default)]
    created_by: String,
    #[serde(default)]
    comment: String,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

/// What is silenced: one set of matchers, or several.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct What {
    #[serde(default)]
    matchers: Vec<ApiMatcher>,
    #[serde(default)]
    matcher_sets: Vec<Vec<ApiMatcher>>,
}

impl What {
    fn sets(self) -> Vec<Vec<ApiMatcher>> {
        if self.matcher_sets.is_empty() { vec![self.matchers] } else { self.matcher_sets }
    }
}

impl PostedSilence {
    fn read(self, now_ms: i64) -> Result<Silence, Failure> {
        let instant = |field: &str, text: &str| {
            let ns =
                parse_rfc3339_ns(text).ok_or_else(|| Failure::bad(format!("{field}: {text:?} is no RFC 3339 time")));
            ns.map(|ns| ns.div_euclid(model::NS_PER_MS))
        };
        let starts_at = self.starts_at.filter(|text| !text.is_empty());
        Ok(Silence {
            id: self.id.unwrap_or_default(),
            matcher_sets: self.what.sets(),
            time_intervals: self.time_intervals,
            starts_at_ms: starts_at.map_or(Ok(now_ms), |text| instant("startsAt", &text))?,
            ends_at_ms: instant("endsAt", &self.ends_at)?,
            updated_at_ms: 0,
            created_by: self.created_by,
            comment: self.comment,
            annotations: self.annotations.unwrap_or_default(),
        })
    }
}

/// Creates or changes a silence; answers the id under which it is known from now on.
pub async fn post(State(app): State<App>, bytes: Bytes) -> Result<Json<Value>, Failure> {
    let now_ms = now_ms();
    let wanted = body::<PostedSilence>(&bytes)?.read(now_ms)?;
    check_names(&wanted.matcher_sets, app.options.mode)
        .map_err(|error| Failure::bad(format!("invalid silence: {error}")))?;
    let limits = app.options.silence_limits;
    let plan = app.core.lock().state.silences.plan(wanted, limits, now_ms, Uuid::new_v4().to_string());
    let writes = plan.map_err(|error| match error {
        PlanError::Unknown => not_found(),
        PlanError::Invalid(reason) => Failure::bad(reason),
    })?;
    let id = writes.last().map(|silence| silence.id.clone()).unwrap_or_default();
    let events = writes.into_iter().map(Event::Silence).collect();
    app.record(events).await.map_err(Failure::unavailable)?;
    Ok(Json(json!({"silenceID": id})))
}

/// Active ones first, soonest to end first; then pending, then expired.
pub async fn list(State(app): State<App>, params: Params) -> Result<Json<Vec<Value>>, Failure> {
    let (wanted, now_ms) = (matchers_of(&app, &params, "filter").map_err(Failure::bad)?, now_ms());
    let all: Vec<Arc<Compiled>> = app.core.lock().state.silences.iter().cloned().collect();
    let has_all = |set: &Vec<Matcher>| wanted.iter().all(|matcher| set.contains(matcher));
    let is_wanted = |silence: &Arc<Compiled>| {
        let state = match silence.state_at(now_ms) {
            SilenceState::Active => "active",
            SilenceState::Pending => "pending",
            SilenceState::Expired => "expired",
        };
        wants(&params, state) && silence.sets.iter().any(has_all)
    };
    let mut found: Vec<Arc<Compiled>> = all.into_iter().filter(is_wanted).collect();
    found.sort_by_key(|one| match one.state_at(now_ms) {
        SilenceState::Active => (0, one.silence.ends_at_ms),
        SilenceState::Pending => (1, one.silence.starts_at_ms),
        SilenceState::Expired => (2, -one.silence.ends_at_ms),
    });
    Ok(Json(found.iter().map(|silence| silence.to_api(now_ms)).collect()))
}

pub async fn get(State(app): State<App>, Path(id): Path<String>) -> Result<Json<Value>, Failure> {
    let core = app.core.lock();
    let silence = core.state.silences.get(&id).ok_or_else(not_found)?;
    Ok(Json(silence.to_api(now_ms())))
}

fn not_found() -> Failure {
    Failure(StatusCode::NOT_FOUND, "silence not found".to_owned())
}

/// Ends a silence now; it stays visible as expired. One that has ended stays as it is.
pub async fn delete(State(app): State<App>, Path(id): Path<String>) -> Result<StatusCode, Failure> {
    let ended = {
        let core = app.core.lock();
        expire(core.state.silences.get(&id).ok_or_else(not_found)?, now_ms())
    };
    app.record(ended.into_iter().map(Event::Silence).collect()).await.map_err(Failure::unavailable)?;
    Ok(StatusCode::OK)
}

/// What a silence would hold back now.
pub async fn preview(State(app): State<App>, bytes: Bytes) -> Result<Json<Value>, Failure> {
    let sets = compile_sets(&body::<What>(&bytes)?.sets());
    let sets = sets.map_err(|error| Failure::bad(format!("invalid silence: {error}")))?;
    let found = in_background(move || {
        let now_ms = now_ms();
        let is_held_back = |alert: &model::Alert| sets.iter().any(|set| model::matches_all(set, &alert.labels));
        let mut found: Vec<Candidate> = {
            let core = app.core.lock();
            let firing = core.state.firing(now_ms).filter(|(_, alert)| is_held_back(alert));
            firing.map(|(fingerprint, alert)| (*fingerprint, alert.clone())).collect()
        };
        let count = found.len();
        found.sort_unstable_by_key(|(fingerprint, _)| *fingerprint);
        found.truncate(MAX_PREVIEW);
        Filter::parse(&app, &Params::default())
            .map(|filter| json!({"count": count, "alerts": filter.rows(&app, found, now_ms)}))
    });
    Ok(Json(found.await??))
}
