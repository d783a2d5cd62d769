//! Loki's HTTP API (Loki 3, `docs/sources/reference/loki-http-api.md`). Errors are plain text with Loki's status codes.

mod json;
mod params;
mod proto;
mod push;
mod query;
mod tail;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use ::query::QueryError;
use ::query::logql::describe;
use ::service::http::{ApiError, MAX_BODY_BYTES};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};

use crate::Indexer;

type Api = Arc<Indexer>;

impl Indexer {
    /// Everything under `/loki/api/v1`.
    pub fn router(self: Arc<Self>) -> Router {
        Router::new()
            .route("/loki/api/v1/push", post(push::push))
            .route("/loki/api/v1/query", get(query::instant).post(query::instant))
            .route("/loki/api/v1/query_range", get(query::range).post(query::range))
            .route("/loki/api/v1/labels", get(query::labels).post(query::labels))
            .route("/loki/api/v1/label", get(query::labels).post(query::labels))
            .route("/loki/api/v1/label/{name}/values", get(query::label_values).post(query::label_values))
            .route("/loki/api/v1/series", get(query::series).post(query::series))
            .route("/loki/api/v1/index/stats", get(query::index_stats).post(query::index_stats))
            .route("/loki/api/v1/status/buildinfo", get(query::build_info))
            .route("/loki/api/v1/tail", any(tail::tail))
            .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
            .with_state(self)
    }
}

/// An error as Loki answers it.
#[derive(Debug)]
struct LokiError {
    status: StatusCode,
    message: String,
}

impl LokiError {
    fn bad(message: impl Into<String>) -> LokiError {
        LokiError { status: StatusCode::BAD_REQUEST, message: message.into() }
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
            QueryError::Parse { .. } | QueryError::BadData(_) | QueryError::Execution(_) | QueryError::Limit(_) => {
                StatusCode::BAD_REQUEST
            }
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
