//! `/api/v2/alerts`: taking alerts in, and showing them.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use model::now_ms;
use service::http::Params;

use super::rows::{Candidate, Filter, Row, in_background, stream};
use super::{App, Failure};
use crate::posted::{PostedAlert, Reading};

/// Takes what is valid, even when the answer is 400 for the rest.
pub async fn post(State(app): State<App>, body: Bytes) -> Result<StatusCode, Failure> {
    let posted: Vec<PostedAlert> =
        serde_json::from_slice(&body).map_err(|error| Failure::bad(format!("parsing alerts body: {error}")))?;
    drop(body);
    let reading = Reading {
        mode: app.options.mode,
        now_ms: now_ms(),
        resolve_timeout_ms: app.core.lock().config.resolve_timeout_ms,
    };
    let (mut alerts, mut faults) = (Vec::with_capacity(posted.len()), Vec::new());
    for posted in posted {
        match posted.complete(&reading) {
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
