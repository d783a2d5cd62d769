//! `POST /binnacle/v1/push/{topic}/{partition}`: bus records from agents that have no Kafka.
//!
//! The answer `{"offset": N}` is given once the record is durable on this process's bus. A record is decoded and checked
//! before it gets there; what is on the bus is never refused later.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bus::{BusError, Topic, append_all};
use model::Batch;
use serde_json::json;
use service::http::ApiError;

use crate::shared::Shared;

pub async fn push(
    State(shared): State<Arc<Shared>>,
    Path((topic, _partition)): Path<(String, u32)>,
    body: Bytes,
) -> Result<Response, ApiError> {
    let bus = shared.bus.as_ref().ok_or_else(|| ApiError::unavailable("this process has no bus"))?;
    let topic = match topic.as_str() {
        "metrics" => Topic::Metrics,
        "logs" => Topic::Logs,
        other => return Err(ApiError::bad_data(format!("no records are pushed to topic {other:?}"))),
    };
    let batch = bus::decode(&body).map_err(|error| ApiError::bad_data(error.to_string()))?;
    let fits = match (&batch, topic) {
        (Batch::Metrics(_), Topic::Metrics) | (Batch::Logs(_) | Batch::ForgetFiles(_), Topic::Logs) => true,
        (Batch::Metrics(_) | Batch::Logs(_) | Batch::ForgetFiles(_) | Batch::Alerts(_), _) => false,
    };
    if !fits {
        return Err(ApiError::bad_data("the record does not belong to this topic"));
    }
    // The sender knows nothing of our partitions: the record is divided anew.
    let offsets = append_all(bus.as_ref(), topic, batch).await.map_err(refusal)?;
    let offset = offsets.iter().map(|(_, offset)| *offset).max().unwrap_or(0);
    Ok((StatusCode::OK, axum::Json(json!({"offset": offset}))).into_response())
}

/// Why the bus did not take it, and whether that passes.
fn refusal(error: BusError) -> ApiError {
    match error {
        BusError::TooLarge { .. } | BusError::Corrupt(_) => ApiError::bad_data(error.to_string()),
        BusError::Full { .. }
        | BusError::Unavailable(_)
        | BusError::Closed
        | BusError::Io { .. }
        | BusError::OutOfRange { .. } => ApiError::unavailable(error.to_string()),
    }
}
