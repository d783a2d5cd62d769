//! The same over gRPC: the one unary method `MetricsService/Export`.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response as HttpResponse;
use axum::routing::post;
use prost::Message;
use service::grpc::{INVALID_ARGUMENT, answered, failed, message, refused};
use service::http::{ApiError, Tenant};

use super::{App, Encoding, not_taken};
use crate::Tsdb;

const EXPORT: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

impl Tsdb {
    /// OpenTelemetry's metrics over gRPC.
    pub fn otlp_grpc_router(self: Arc<Self>) -> Router {
        Router::new().route(EXPORT, post(export)).with_state(self)
    }
}

async fn export(
    State(app): State<App>,
    tenant: Result<Tenant, ApiError>,
    headers: HeaderMap,
    body: Bytes,
) -> HttpResponse {
    let Tenant(tenant) = match tenant {
        Ok(tenant) => tenant,
        Err(error) => return refused(&error),
    };
    let request = match message(&headers, body) {
        Ok(message) => Encoding::Protobuf.decode(&message),
        Err(error) => return refused(&error),
    };
    let request = match request {
        Ok(request) => request,
        Err(reason) => return failed(INVALID_ARGUMENT, &reason),
    };
    match app.take_otlp(&tenant, request).await {
        Ok(response) => answered(&response.encode_to_vec()),
        Err(error) => refused(&not_taken(&error)),
    }
}
