//! Alertmanager's HTTP API, version 2.

mod alerts;
mod beyond;
mod groups;
mod rows;
mod silences;

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use model::Matcher;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use service::http::Params;

use crate::Alertmanager;

type App = Arc<Alertmanager>;

impl Alertmanager {
    pub fn router(self: Arc<Self>) -> Router {
        Router::new()
            .route("/api/v2/status", get(status))
            .route("/api/v2/receivers", get(receivers))
            .route("/api/v2/alerts", get(alerts::list).post(alerts::post))
            .route("/api/v1/alerts", post(alerts::post))
            .route("/api/v2/alerts/groups", get(groups::groups))
            .route("/api/v2/silences", get(silences::list).post(silences::post))
            .route("/api/v2/silences/preview", post(silences::preview))
            .route("/api/v2/silence/{id}", get(silences::get).delete(silences::delete))
            .route("/api/v2/history", get(beyond::history))
            .route("/api/v2/acks", get(beyond::acks).post(beyond::post_acks))
            .route("/api/v2/acks/{fingerprint}", delete(beyond::delete_ack))
            .route("/api/v2/routes", get(beyond::routes))
            .route("/api/v2/routes/test", post(beyond::test_route))
            .with_state(self)
    }
}

/// An error as version 2 says it: the message as a JSON string.
struct Failure(StatusCode, String);

impl Failure {
    fn bad(message: impl Into<String>) -> Failure {
        Failure(StatusCode::BAD_REQUEST, message.into())
    }

    fn internal(error: impl ToString) -> Failure {
        Failure(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
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

/// The matchers of a repeated parameter; all must hold.
fn matchers_of(app: &App, params: &Params, name: &str) -> Result<Vec<Matcher>, String> {
    let brackets = format!("{name}[]");
    let mut matchers = Vec::new();
    for text in params.get_all(name).chain(params.get_all(&brackets)).filter(|text| !text.is_empty()) {
        matchers.push(app.options.mode.one(text)?);
    }
    Ok(matchers)
}

/// A count that is above 0.
fn number(params: &Params, name: &str) -> Result<Option<usize>, Failure> {
    let parse = |text: &str| text.parse::<usize>().ok().filter(|count| *count > 0);
    let bad = |text: &str| Failure::bad(format!("{name}: {text:?} is no count"));
    params.get(name).map(|text| parse(text).ok_or_else(|| bad(text))).transpose()
}

/// A body of JSON, whatever its content type says.
fn body<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(bytes).map_err(|error| Failure::bad(format!("parsing body: {error}")))
}

/// A boolean parameter; absent means yes.
fn wants(params: &Params, name: &str) -> bool {
    params.get(name) != Some("false")
}

async fn status(State(app): State<App>) -> Json<Value> {
    let original = service::config::mask_secrets(&app.core.lock().config.original);
    let uptime_ms = app.started.elapsed().as_millis() as i64;
    // There is no gossip; where clustering is on, clients wait for at least one peer, which is this one. Routers that
    // share a topic know each other by name alone.
    let cluster = match &app.options.cluster_address {
        Some(address) => {
            let name = &app.options.cluster_name;
            let own = app.peer_name();
            let others = app.core.lock();
            let others = others.state.members.iter().filter(|(router, _)| *router != own);
            let others = others.map(|(router, _)| json!({"name": router, "address": ""}));
            let peers: Vec<Value> = [json!({"name": name, "address": address})].into_iter().chain(others).collect();
            json!({"name": name, "status": "ready", "peers": peers})
        }
        None => json!({"status": "disabled", "peers": []}),
    };
    Json(json!({
        "cluster": cluster,
        "config": {"original": original},
        "uptime": model::format_rfc3339_ms(model::now_ms() - uptime_ms),
        "versionInfo": {
            "version": env!("CARGO_PKG_VERSION"), "revision": "", "branch": "", "buildUser": "", "buildDate": "", "goVersion": "",
        },
    }))
}

async fn receivers(State(app): State<App>, params: Params) -> Result<Json<Value>, Failure> {
    let matchers = matchers_of(&app, &params, "receiver_matchers");
    let matchers =
        matchers.map_err(|error| Failure::bad(format!("failed to parse receiver_matchers param: {error}")))?;
    let core = app.core.lock();
    let labels = core.config.receiver_labels.iter().filter(|(_, labels)| model::matches_all(&matchers, labels));
    Ok(Json(labels.map(|(name, labels)| json!({"name": name, "labels": labels})).collect()))
}
