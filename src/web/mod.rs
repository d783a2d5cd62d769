//! The one port: every part's API, the page, and what belongs to the process as a whole.

mod openapi;
mod own;
mod rules;
mod runtime;
mod targets;

use std::sync::Arc;

use agent::remote::ORIGIN_HEADER;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use model::Matcher;
use query::promql::{ExprKind, Shift};
use serde_json::{Value, json};
use service::http::{ApiError, MAX_BODY_BYTES};
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::push::push;
use crate::shared::Shared;

pub fn router(shared: Arc<Shared>) -> Router {
    let own = Router::new()
        .route("/-/healthy", get(|| async { "Binnacle is healthy.\n" }))
        .route("/-/ready", get(ready))
        // Where Loki's clients ask.
        .route("/ready", get(ready))
        .route("/-/flush", post(flush).put(flush))
        .route("/-/reload", post(reload).put(reload))
        .route("/metrics", get(metrics))
        .route("/binnacle/v1/push/{topic}/{partition}", post(push))
        .merge(own::router())
        .merge(rules::router())
        .merge(targets::router())
        .merge(runtime::router())
        .merge(openapi::router())
        .with_state(shared.clone());
    let parts = [
        shared.tsdb.clone().map(|tsdb| tsdb.router()),
        shared.indexer.clone().map(|indexer| indexer.router()),
        shared.alertmanager.clone().map(|router| router.router()),
        Some(dashboards::api::router()),
    ];
    let merged = parts.into_iter().flatten().fold(own, Router::merge);
    let greets = shared.indexer.is_some();
    let merged = merged.layer(middleware::from_fn(move |request: Request, next: Next| greet(greets, request, next)));
    let bus = shared.bus.as_ref().map(|bus| bus.id()).unwrap_or_default();
    let merged = merged.layer(middleware::from_fn(move |request: Request, next: Next| {
        let comes_back = request.headers().get(ORIGIN_HEADER).is_some_and(|origin| origin.as_bytes() == bus.as_bytes());
        refuse_own(comes_back, request, next)
    }));
    let prefix = shared.settings.cli.route_prefix.trim_matches('/').to_owned();
    let merged = if prefix.is_empty() { merged } else { Router::new().nest(&format!("/{prefix}"), merged) };
    merged
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(cors())
        .layer(CompressionLayer::new().gzip(true).zstd(true).quality(CompressionLevel::Fastest))
        .fallback(|| async { (StatusCode::NOT_FOUND, "404 page not found\n") })
}

/// What `remote_write` sends from this bus must not enter it again. 400: the sender drops it, counts it and says why.
async fn refuse_own(comes_back: bool, request: Request, next: Next) -> Response {
    if comes_back {
        let reason = "remote_write leads back to the bus that it sends from: the samples are there already\n";
        return (StatusCode::BAD_REQUEST, reason).into_response();
    }
    next.run(request).await
}

/// At `/` there is the page; clients of Elasticsearch find there what they ask for before they send.
async fn greet(is_on: bool, request: Request, next: Next) -> Response {
    if is_on
        && request.uri().path() == "/"
        && let Some(greeting) = indexer::elasticsearch_greeting(request.method(), request.headers())
    {
        return greeting;
    }
    next.run(request).await
}

/// Pages of any origin may ask, as they may of Prometheus.
fn cors() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(AllowOrigin::mirror_request())
        .allow_methods([Method::GET, Method::POST, Method::OPTIONS])
        .allow_headers([header::ACCEPT, header::AUTHORIZATION, header::CONTENT_TYPE, header::ORIGIN])
        .expose_headers([header::DATE])
}

type Process = State<Arc<Shared>>;

/// 400, as Prometheus says it of a parameter.
fn invalid(name: &str, reason: impl std::fmt::Display) -> ApiError {
    ApiError::bad_data(format!("invalid parameter \"{name}\": {reason}"))
}

/// The matchers of a bare selector.
fn selector(text: &str, parameter: &str) -> Result<Vec<Matcher>, ApiError> {
    match query::parse(text).map_err(|error| invalid(parameter, error))?.kind {
        ExprKind::Selector(selector) if selector.shift == Shift::default() => Ok(selector.matchers),
        _ => Err(invalid(parameter, format_args!("{text:?} is not a series selector"))),
    }
}

/// A successful answer in Prometheus' envelope.
fn success(data: Value) -> Json<Value> {
    Json(json!({"status": "success", "data": data}))
}

async fn ready(State(shared): Process) -> Response {
    match shared.ready() {
        Ok(()) => "Binnacle is ready.\n".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason + "\n").into_response(),
    }
}

async fn flush(State(shared): Process) -> Result<StatusCode, ApiError> {
    shared.flush().await.map_err(ApiError::internal)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn reload(State(shared): Process) -> Response {
    match shared.reload().await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("failed to reload config: {error}\n")).into_response()
        }
    }
}

async fn metrics(State(shared): Process) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    (kind, Body::from(shared.metrics.encode())).into_response()
}
