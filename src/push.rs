//! `POST /binnacle/v1/push/{topic}/{partition}`: bus records from agents that have no Kafka.
//!
//! The answer `{"offset": N}` is given once the record is durable on this process's bus. A record is decoded and checked
//! before it gets there; what is on the bus is never refused later.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bus::{BusError, Offset, Topic, append_all};
use model::Batch;
use serde_json::json;
use service::http::{ApiError, is_tenant};

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
    let (admitted, refused) = admit(&shared, topic, batch)?;
    let Some(batch) = admitted else { return Ok(answer(0, &refused)) };
    // The sender knows nothing of our partitions: the record is divided anew.
    let offsets = append_all(bus.as_ref(), topic, batch).await.map_err(refusal)?;
    Ok(answer(offsets.iter().map(|(_, offset)| *offset).max().unwrap_or(0), &refused))
}

/// 200 also where something was refused: it never will be taken, so it must not come again.
fn answer(offset: Offset, refused: &[String]) -> Response {
    (StatusCode::OK, axum::Json(json!({"offset": offset, "refused": refused}))).into_response()
}

/// What may go on the bus, and why the rest may not; the stores of this process decide.
fn admit(shared: &Shared, topic: Topic, batch: Batch) -> Result<(Option<Batch>, Vec<String>), ApiError> {
    let absent = || ApiError::unavailable(format!("this process has no store for {}", topic.name()));
    match (batch, topic) {
        (Batch::Metrics(mut batch), Topic::Metrics) => {
            check_tenant(&batch.tenant)?;
            let refused = shared.tsdb.as_ref().ok_or_else(absent)?.admit_batch(&mut batch);
            Ok(((!batch.series.is_empty() || !batch.metadata.is_empty()).then_some(Batch::Metrics(batch)), refused))
        }
        (Batch::Logs(batch), Topic::Logs) => {
            check_tenant(&batch.tenant)?;
            let admitted = shared.indexer.as_ref().ok_or_else(absent)?.admit_batch(batch);
            let too_fast = |reason| ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", reason);
            let (admitted, refused) = admitted.map_err(too_fast)?;
            Ok((admitted.map(Batch::Logs), refused))
        }
        (Batch::ForgetFiles(batch), Topic::Logs) => Ok((Some(Batch::ForgetFiles(batch)), Vec::new())),
        (
            Batch::Metrics(_)
            | Batch::Logs(_)
            | Batch::ForgetFiles(_)
            | Batch::Alerts(_)
            | Batch::Deletes(_)
            | Batch::LineDeletes(_),
            _,
        ) => Err(ApiError::bad_data("the record does not belong to this topic")),
    }
}

fn check_tenant(tenant: &str) -> Result<(), ApiError> {
    if is_tenant(tenant) { Ok(()) } else { Err(ApiError::bad_data(format!("{tenant:?} is no tenant's name"))) }
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
