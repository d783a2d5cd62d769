//! Prometheus' HTTP API: remote write and other protocols in, queries and listings out.

mod admin;
mod chunk;
mod federate;
pub(crate) mod graphite;
pub(crate) mod import;
pub(crate) mod influx;
pub(crate) mod intake;
mod json;
pub(crate) mod json_lines;
mod listing;
pub(crate) mod otlp;
pub(crate) mod pushgateway;
mod query;
mod read;
mod search;
mod status;
mod tree;
pub(crate) mod write;

use std::sync::Arc;
use std::time::Duration;

use ::query::QueryError;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::routing::{get, post, put};
use service::http::{ApiError, MAX_BODY_BYTES, Params, StrongRead, parse_duration_ms, parse_time_ms};

use crate::Tsdb;

type App = Arc<Tsdb>;

impl Tsdb {
    pub fn router(self: Arc<Self>) -> Router {
        Router::new()
            .route("/api/v1/write", post(write::write))
            .route("/api/v1/query", get(query::instant).post(query::instant))
            .route("/api/v1/query_range", get(query::range).post(query::range))
            .route("/api/v1/query_exemplars", get(status::exemplars).post(status::exemplars))
            .route("/api/v1/format_query", get(query::format).post(query::format))
            .route("/api/v1/parse_query", get(query::parse).post(query::parse))
            .route("/api/v1/read", post(read::read))
            .route("/api/v1/search/metric_names", get(search::metric_names).post(search::metric_names))
            .route("/api/v1/search/label_names", get(search::label_names).post(search::label_names))
            .route("/api/v1/search/label_values", get(search::label_values).post(search::label_values))
            .route("/federate", get(federate::federate))
            .route("/api/v1/labels", get(listing::names).post(listing::names))
            .route("/api/v1/label/{name}/values", get(listing::values))
            .route("/api/v1/series", get(listing::series).post(listing::series))
            .route("/api/v1/metadata", get(status::metadata))
            .route("/api/v1/status/buildinfo", get(status::build))
            .route("/api/v1/status/tsdb", get(status::tsdb))
            .route("/api/v1/status/tsdb/blocks", get(status::blocks))
            .route("/api/v1/admin/tsdb/delete_series", post(admin::delete_series).put(admin::delete_series))
            .route("/api/v1/admin/tsdb/clean_tombstones", post(admin::clean_tombstones).put(admin::clean_tombstones))
            .route("/api/v1/admin/tsdb/snapshot", post(admin::snapshot).put(admin::snapshot))
            .merge(intake_router())
            .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
            .with_state(self)
    }

    /// Waits for what was acknowledged before this read, where the read or the mode asks for it.
    async fn catch_up(&self, strong: StrongRead) -> Result<(), ApiError> {
        if strong.0 || self.options.strong_reads {
            self.wait_applied().await.map_err(ApiError::unavailable)?;
        }
        Ok(())
    }

    /// The parameter `timeout`, which may only shorten the default.
    fn timeout(&self, params: &Params) -> Result<Duration, ApiError> {
        let Some(text) = params.get("timeout") else { return Ok(self.options.query_timeout) };
        let timeout_ms = parse_duration_ms("timeout", text)?;
        let asked = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0));
        Ok(asked.min(self.options.query_timeout))
    }
}

/// What brings samples in beside remote write.
fn intake_router() -> Router<App> {
    let influx = Router::new()
        .route("/write", post(influx::write))
        .route("/api/v2/write", post(influx::write))
        .route("/ping", get(influx::ping))
        .route("/query", get(influx::query).post(influx::query));
    let push = put(pushgateway::push).post(pushgateway::push).delete(pushgateway::push);
    Router::new()
        .route("/metrics/job/{*group}", push.clone())
        .route("/metrics/job@base64/{*group}", push)
        .route("/api/v1/metrics", get(pushgateway::list))
        .route("/api/v1/otlp/v1/metrics", post(otlp::metrics))
        .route("/otlp/v1/metrics", post(otlp::metrics))
        .route("/api/v1/import/prometheus", post(import::prometheus))
        .route("/api/v1/import", post(json_lines::import))
        .route("/api/v1/export", get(json_lines::export).post(json_lines::export))
        .merge(influx.clone())
        .nest("/influx", influx)
}

/// A time parameter, or what it defaults to.
fn time_or(params: &Params, name: &str, default_ms: i64) -> Result<i64, ApiError> {
    params.get(name).map_or(Ok(default_ms), |text| parse_time_ms(name, text))
}

/// The parameter `limit`; 0 and absence mean none.
fn limit(params: &Params) -> Result<usize, ApiError> {
    let Some(text) = params.get("limit") else { return Ok(usize::MAX) };
    let limit: usize = text.parse().map_err(|_| {
        ApiError::bad_data(format!("invalid parameter \"limit\": cannot parse \"{text}\" to an integer"))
    })?;
    Ok(if limit == 0 { usize::MAX } else { limit })
}

/// As Prometheus tells query errors.
fn query_error(error: QueryError) -> ApiError {
    let message = match &error {
        QueryError::Parse { .. } => format!("invalid parameter \"query\": {error}"),
        _ => error.to_string(),
    };
    match error {
        QueryError::Parse { .. } | QueryError::BadData(_) => ApiError::bad_data(message),
        QueryError::Execution(_) | QueryError::Limit(_) | QueryError::Refused { .. } => ApiError::execution(message),
        QueryError::Timeout(_) => ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "timeout", message),
        QueryError::Canceled(_) => ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "canceled", message),
        QueryError::Storage(_) => ApiError::internal(message),
    }
}

#[cfg(test)]
mod tests;
