//! Loki's HTTP API (Loki 3, `docs/sources/reference/loki-http-api.md`), and what else brings lines in: OTLP, Elasticsearch's
//! `_bulk`, JSON lines. Errors are plain text with Loki's status codes.

mod answer;
pub(crate) mod bulk;
mod delete;
pub(crate) mod documents;
mod export;
mod fields;
pub(crate) mod intake;
pub(crate) mod otlp;
mod params;
mod patterns;
mod proto;
pub(crate) mod push;
mod query;
mod sheet;
mod streams;
mod tail;
#[cfg(test)]
mod tests;
mod volume;

use std::sync::Arc;

use ::query::QueryError;
use ::query::logql::describe;
use ::service::http::{ApiError, MAX_BODY_BYTES};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::handler::Handler;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any, get, post};

use crate::Indexer;

type Api = Arc<Indexer>;

/// GET and POST alike.
fn ask<H: Handler<T, Api>, T: 'static>(handler: H) -> MethodRouter<Api> {
    get(handler.clone()).post(handler)
}

impl Indexer {
    /// Everything under `/loki/api/v1`, and the other ways in.
    pub fn router(self: Arc<Self>) -> Router {
        Router::new()
            .route("/loki/api/v1/push", post(push::push))
            .route("/otlp/v1/logs", post(otlp::logs))
            .merge(delete::router())
            .merge(bulk::router())
            .merge(Indexer::reads())
            .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
            .with_state(self)
    }

    fn reads() -> Router<Api> {
        let routes = [
            ("query", ask(query::instant)),
            ("query_range", ask(query::range)),
            ("format_query", ask(query::format_query)),
            ("labels", ask(streams::labels)),
            ("label", ask(streams::labels)),
            ("label/{name}/values", ask(streams::label_values)),
            ("series", ask(streams::series)),
            ("detected_labels", ask(streams::detected_labels)),
            ("index/stats", ask(streams::index_stats)),
            ("index/volume", ask(volume::volume)),
            ("index/volume_range", ask(volume::volume_range)),
            ("detected_fields", ask(fields::detected_fields)),
            ("detected_field/{name}/values", ask(fields::values)),
            ("patterns", ask(patterns::patterns)),
            ("drilldown-limits", ask(query::drilldown_limits)),
            ("status/buildinfo", get(query::build_info)),
            ("export", ask(export::export)),
            ("tail", any(tail::tail)),
        ];
        routes
            .into_iter()
            .fold(Router::new(), |router, (path, route)| router.route(&format!("/loki/api/v1/{path}"), route))
    }
}

/// An error as Loki answers it.
#[derive(Debug)]
pub(crate) struct LokiError {
    status: StatusCode,
    message: String,
}

impl LokiError {
    fn bad(message: impl Into<String>) -> LokiError {
        LokiError { status: StatusCode::BAD_REQUEST, message: message.into() }
    }

    /// 429: nothing was taken, and all of it may be sent again.
    fn too_much(message: impl Into<String>) -> LokiError {
        LokiError { status: StatusCode::TOO_MANY_REQUESTS, message: message.into() }
    }

    fn unavailable(message: impl Into<String>) -> LokiError {
        LokiError { status: StatusCode::SERVICE_UNAVAILABLE, message: message.into() }
    }

    fn internal(message: impl Into<String>) -> LokiError {
        LokiError { status: StatusCode::INTERNAL_SERVER_ERROR, message: message.into() }
    }
}

impl From<QueryError> for LokiError {
    fn from(error: QueryError) -> LokiError {
        let status = match error {
            QueryError::Parse { .. }
            | QueryError::BadData(_)
            | QueryError::Execution(_)
            | QueryError::Limit(_)
            | QueryError::Refused { .. } => StatusCode::BAD_REQUEST,
            QueryError::Timeout(_) => StatusCode::GATEWAY_TIMEOUT,
            QueryError::Canceled(_) => StatusCode::SERVICE_UNAVAILABLE,
            QueryError::Storage(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        LokiError { status, message: describe(&error) }
    }
}

impl From<ApiError> for LokiError {
    fn from(error: ApiError) -> LokiError {
        LokiError { status: error.status, message: error.message }
    }
}

impl IntoResponse for LokiError {
    fn into_response(self) -> Response {
        (self.status, self.message).into_response()
    }
}
