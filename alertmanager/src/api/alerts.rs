//! `/api/v2/alerts`: taking alerts in, and showing them.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use model::{Alert, Labels, now_ms};
use serde::Deserialize;
use service::http::Params;

use super::rows::{Candidate, Filter, Row, in_background, stream};
use super::{App, Failure};
use crate::matchers::MatcherMode;
use crate::tool::parse_time_ms;

/// An alert as it is posted.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PostedAlert {
    labels: Labels,
    annotations: Option<Labels>,
    starts_at: Option<String>,
    ends_at: Option<String>,
    #[serde(rename = "generatorURL")]
    generator_url: Option<String>,
}

impl PostedAlert {
    /// Fills in what was not sent: a start (the end, or now), an end (assumed: now + resolve_timeout).
    fn complete(self, mode: MatcherMode, now_ms: i64, resolve_timeout_ms: i64) -> Result<Alert, String> {
        let (starts, ends) = (instant("startsAt", &self.starts_at)?, instant("endsAt", &self.ends_at)?);
        let alert = Alert {
            labels: self.labels,
            annotations: self.annotations.unwrap_or_default(),
            starts_at_ms: starts.or(ends).unwrap_or(now_ms),
            ends_at_ms: ends.unwrap_or(now_ms.saturating_add(resolve_timeout_ms)),
            updated_at_ms: now_ms,
            generator_url: self.generator_url.unwrap_or_default(),
            timeout: ends.is_none(),
        };
        if alert.ends_at_ms < alert.starts_at_ms {
            return Err("start time must be before end time".to_owned());
        }
        if alert.labels.is_empty() {
            return Err("at least one label pair required".to_owned());
        }
        check_names(mode, &alert.labels).map_err(|error| format!("invalid label set: {error}"))?;
        check_names(mode, &alert.annotations).map_err(|error| format!("invalid annotations: {error}"))?;
        Ok(alert)
    }
}

fn check_names(mode: MatcherMode, labels: &Labels) -> Result<(), String> {
    match labels.iter().find(|label| !mode.is_valid_name(&label.name)) {
        Some(label) => Err(format!("invalid name {:?}", label.name)),
        None => Ok(()),
    }
}

/// Go's zero time, 0001-01-01T00:00:00Z.
const GO_ZERO_MS: i64 = -62_135_596_800_000;

/// RFC 3339; empty and Go's zero time mean "not sent".
fn instant(field: &str, text: &Option<String>) -> Result<Option<i64>, String> {
    let Some(text) = text.as_deref().filter(|text| !text.is_empty()) else { return Ok(None) };
    let at_ms = parse_time_ms(text).ok_or_else(|| format!("{field}: {text:?} is no RFC 3339 time"))?;
    Ok(Some(at_ms).filter(|ms| *ms != GO_ZERO_MS))
}

/// Takes what is valid, even when the answer is 400 for the rest.
pub async fn post(State(app): State<App>, body: Bytes) -> Result<StatusCode, Failure> {
    let posted: Vec<PostedAlert> =
        serde_json::from_slice(&body).map_err(|error| Failure::bad(format!("parsing alerts body: {error}")))?;
    drop(body);
    let (now_ms, resolve_timeout_ms) = (now_ms(), app.core.lock().config.resolve_timeout_ms);
    let (mut alerts, mut faults) = (Vec::with_capacity(posted.len()), Vec::new());
    for posted in posted {
        match posted.complete(app.options.mode, now_ms, resolve_timeout_ms) {
            Ok(alert) => alerts.push(alert),
            Err(fault) => faults.push(fault),
        }
    }
    app.post(alerts).await.map_err(Failure::unavailable)?;
    if faults.is_empty() { Ok(StatusCode::OK) } else { Err(Failure::bad(faults.join("\n"))) }
}

/// Alerts that fire, filtered, by fingerprint.
pub async fn list(State(app): State<App>, params: Params) -> Result<Response, Failure> {
    let filter = Filter::parse(&app, &params)?;
    let rows = in_background(move || {
        let now_ms = now_ms();
        let mut candidates: Vec<Candidate> = {
            let core = app.core.lock();
            core.state.firing(now_ms).map(|(fingerprint, alert)| (*fingerprint, alert.clone())).collect()
        };
        candidates.retain(|(_, alert)| filter.takes_labels(&alert.labels));
        candidates.sort_unstable_by_key(|(fingerprint, _)| *fingerprint);
        let config = app.core.lock().config.clone();
        let receivers = |row: &mut Row| {
            let routes = config.root.find(&row.alert.labels);
            row.receivers = routes.into_iter().map(|route| route.options.receiver.clone()).collect();
            row.receivers.iter().any(|name| filter.takes_receiver(&config, name))
        };
        let mut rows = filter.rows(&app, candidates, now_ms);
        rows.retain_mut(receivers);
        rows
    });
    Ok(stream(rows.await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Start, end and whether the end is assumed, at 1000 s with a timeout of 5 s.
    fn check(text: &str, expected: Result<(i64, i64, bool), &str>) {
        let posted: PostedAlert = serde_json::from_str(text).expect("JSON");
        let got = posted.complete(MatcherMode::Fallback, 1_000_000, 5_000);
        let got = got.map(|alert| (alert.starts_at_ms, alert.ends_at_ms, alert.timeout));
        assert_eq!(got.as_ref().map_err(String::as_str), expected.as_ref().map_err(|error| *error), "{text}");
    }

    #[test]
    fn what_was_not_sent_is_filled_in() {
        check(r#"{"labels":{"a":"b"}}"#, Ok((1_000_000, 1_005_000, true)));
        check(r#"{"labels":{"a":"b"},"startsAt":"1970-01-01T00:00:01Z"}"#, Ok((1_000, 1_005_000, true)));
        check(r#"{"labels":{"a":"b"},"endsAt":"1970-01-01T00:20:00Z"}"#, Ok((1_200_000, 1_200_000, false)));
        check(
            r#"{"labels":{"a":"b"},"startsAt":"0001-01-01T00:00:00Z","endsAt":"","annotations":null}"#,
            Ok((1_000_000, 1_005_000, true)),
        );
        check(
            r#"{"labels":{"a":"b"},"startsAt":"1970-01-01T00:20:00Z","endsAt":"1970-01-01T00:00:01Z"}"#,
            Err("start time must be before end time"),
        );
        let odd = r#"{"labels":{"a":"b"},"startsAt":"0001-01-01T00:00:01.000Z"}"#;
        check(odd, Ok((GO_ZERO_MS + 1_000, 1_005_000, true)));
        check(r#"{"labels":{"a":""}}"#, Err("at least one label pair required"));
        check(r#"{"labels":{"":"b"}}"#, Err("invalid label set: invalid name \"\""));
        check(r#"{"labels":{"a":"b"},"annotations":{"":"b"}}"#, Err("invalid annotations: invalid name \"\""));
        check(r#"{"labels":{"a":"b"},"startsAt":"noon"}"#, Err("startsAt: \"noon\" is no RFC 3339 time"));
    }
}
