//! The same over gRPC: the one unary method `LogsService/Export`.

use std::sync::Arc;

use ::service::grpc::{answered, message, refused};
use ::service::http::{ApiError, Tenant};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::post;
use prost::Message;

use super::{Api, partial, take};
use crate::Indexer;
use crate::api::LokiError;

const EXPORT: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

impl Indexer {
    /// OpenTelemetry's logs over gRPC.
    pub fn otlp_grpc_router(self: Arc<Self>) -> Router {
        Router::new().route(EXPORT, post(export)).with_state(self)
    }
}

async fn export(State(api): State<Api>, tenant: Result<Tenant, ApiError>, headers: HeaderMap, body: Bytes) -> Response {
    match taken(&api, tenant, &headers, body).await {
        Ok(message) => answered(&message),
        Err(error) => refused(&error),
    }
}

async fn taken(
    api: &Api,
    tenant: Result<Tenant, ApiError>,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<Vec<u8>, ApiError> {
    let Tenant(tenant) = tenant?;
    let message = message(headers, body)?;
    let outcome = take(api, &tenant, false, "", &message).await;
    let outcome = outcome.map_err(|LokiError { status, message }| ApiError::new(status, "not_taken", message))?;
    Ok(partial(&outcome).encode_to_vec())
}
