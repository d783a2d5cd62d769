//! `/api/v2/silences`.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use model::{now_ms, parse_rfc3339_ns};
use serde::Deserialize;
use serde_json::{Value, json};
use service::http::Params;
use uuid::Uuid;

use super::{App, Failure, filters};
use crate::silence::{ApiMatcher, PlanError, Silence, SilenceState, expire, to_api};
use crate::state::Event;

/// A silence as it is posted.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PostedSilence {
    #[serde(default)]
    id: Option<String>,
    matchers: Vec<ApiMatcher>,
    starts_at: String,
    ends_at: String,
    #[serde(default)]
    created_by: String,
    #[serde(default)]
    comment: String,
}

impl PostedSilence {
    fn read(self) -> Result<Silence, Failure> {
        let instant = |field: &str, text: &str| {
            let ns =
                parse_rfc3339_ns(text).ok_or_else(|| Failure::bad(format!("{field}: {text:?} is no RFC 3339 time")));
            ns.map(|ns| ns.div_euclid(model::NS_PER_MS))
        };
        Ok(Silence {
            id: self.id.unwrap_or_default(),
            starts_at_ms: instant("startsAt", &self.starts_at)?,
            ends_at_ms: instant("endsAt", &self.ends_at)?,
            updated_at_ms: 0,
            matchers: self.matchers,
            created_by: self.created_by,
            comment: self.comment,
        })
    }
}

/// Creates or changes a silence; answers the id under which it is known from now on.
pub async fn post(State(app): State<App>, Json(posted): Json<PostedSilence>) -> Result<Json<Value>, Failure> {
    let wanted = posted.read()?;
    let plan = app.core.lock().state.silences.plan(wanted, now_ms(), Uuid::new_v4().to_string());
    let writes = plan.map_err(|error| match error {
        PlanError::Unknown(id) => Failure(StatusCode::NOT_FOUND, format!("silence {id} not found")),
        PlanError::Invalid(reason) => Failure::bad(reason),
    })?;
    let id = writes.last().map(|silence| silence.id.clone()).unwrap_or_default();
    let events = writes.into_iter().map(|silence| Event::Silence { silence }).collect();
    app.record(events).await.map_err(Failure::unavailable)?;
    Ok(Json(json!({"silenceID": id})))
}

/// Active ones first, soonest to end first; then pending, then expired.
pub async fn list(State(app): State<App>, params: Params) -> Result<Json<Vec<Value>>, Failure> {
    let (wanted, now_ms) = (filters(&params)?, now_ms());
    let core = app.core.lock();
    let has_all = |silence: &&Silence| {
        wanted.iter().all(|matcher| {
            let same = |own: &ApiMatcher| own.compile().is_ok_and(|own| own == *matcher);
            silence.matchers.iter().any(|own| same(own) || (own.name == matcher.name && matcher.matches(&own.value)))
        })
    };
    let mut found: Vec<&Silence> = core.state.silences.iter().filter(has_all).collect();
    let order = |silence: &&Silence| match silence.state_at(now_ms) {
        SilenceState::Active => (0, silence.ends_at_ms),
        SilenceState::Pending => (1, silence.starts_at_ms),
        SilenceState::Expired => (2, -silence.ends_at_ms),
    };
    found.sort_by_key(order);
    Ok(Json(found.into_iter().map(|silence| to_api(silence, now_ms)).collect()))
}

pub async fn get(State(app): State<App>, Path(id): Path<String>) -> Result<Json<Value>, Failure> {
    let core = app.core.lock();
    let silence = core.state.silences.get(&id).ok_or_else(|| not_found(&id))?;
    Ok(Json(to_api(silence, now_ms())))
}

fn not_found(id: &str) -> Failure {
    Failure(StatusCode::NOT_FOUND, format!("silence {id} not found"))
}

/// Ends a silence now; it stays visible as expired.
pub async fn delete(State(app): State<App>, Path(id): Path<String>) -> Result<StatusCode, Failure> {
    let ended = {
        let core = app.core.lock();
        expire(core.state.silences.get(&id).ok_or_else(|| not_found(&id))?, now_ms())
    };
    let silence = ended.ok_or_else(|| Failure::bad(format!("silence {id} already expired")))?;
    app.record(vec![Event::Silence { silence }]).await.map_err(Failure::unavailable)?;
    Ok(StatusCode::OK)
}
