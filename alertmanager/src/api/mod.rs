//! Alertmanager's HTTP API, version 2.

mod alerts;
mod silences;

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use model::Matcher;
use serde_json::{Value, json};
use service::http::Params;

use crate::Alertmanager;
use crate::matchers::parse_list;

type App = Arc<Alertmanager>;

impl Alertmanager {
    pub fn router(self: Arc<Self>) -> Router {
        Router::new()
            .route("/api/v2/status", get(status))
            .route("/api/v2/receivers", get(receivers))
            .route("/api/v2/alerts", get(alerts::list).post(alerts::post))
            .route("/api/v1/alerts", post(alerts::post))
            .route("/api/v2/alerts/groups", get(alerts::groups))
            .route("/api/v2/silences", get(silences::list).post(silences::post))
            .route("/api/v2/silence/{id}", get(silences::get).delete(silences::delete))
            .with_state(self)
    }
}

/// An error as version 2 says it: the message as a JSON string.
struct Failure(StatusCode, String);

impl Failure {
    fn bad(message: impl Into<String>) -> Failure {
        Failure(StatusCode::BAD_REQUEST, message.into())
    }

    /// The bus did not take it: worth sending again.
    fn unavailable(error: impl ToString) -> Failure {
        Failure(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0, Json(self.1)).into_response()
    }
}

/// The matchers of `filter` parameters; all must hold.
fn filters(params: &Params) -> Result<Vec<Matcher>, Failure> {
    let mut matchers = Vec::new();
    for name in ["filter", "filter[]"] {
        for text in params.get_all(name).filter(|text| !text.is_empty()) {
            matchers.extend(parse_list(text).map_err(|error| Failure::bad(format!("bad matcher format: {error}")))?);
        }
    }
    Ok(matchers)
}

/// A boolean parameter; absent means yes.
fn wants(params: &Params, name: &str) -> bool {
    params.get(name) != Some("false")
}

async fn status(State(app): State<App>) -> Json<Value> {
    let original = service::config::mask_secrets(&app.core.lock().config.original);
    let uptime_ms = app.started.elapsed().as_millis() as i64;
    Json(json!({
        "cluster": {"status": "disabled", "peers": []},
        "config": {"original": original},
        "uptime": model::format_rfc3339_ms(model::now_ms() - uptime_ms),
        "versionInfo": {
            "version": env!("CARGO_PKG_VERSION"), "revision": "", "branch": "", "buildUser": "", "buildDate": "", "goVersion": "",
        },
    }))
}

async fn receivers(State(app): State<App>) -> Json<Value> {
    let core = app.core.lock();
    Json(core.config.receivers.keys().map(|name| json!({"name": name})).collect())
}
