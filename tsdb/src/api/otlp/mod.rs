//! `POST /otlp/v1/metrics` and `/api/v1/otlp/v1/metrics`: OpenTelemetry's metrics as protobuf or JSON.
//!
//! 200 only after the bus acknowledged; `partial_success` says how many data points were refused, and why. Failures are
//! `google.rpc.Status` in the request's encoding: 400 where the body is no request, 503 where nothing can be said to be
//! taken.

mod delta;
mod grpc;
mod json;
mod message;
mod name;
mod native;
#[cfg(test)]
mod tests;
mod translate;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response as HttpResponse};
use bus::BusError;
use model::now_ms;
use prost::Message;
use serde::Serialize;
use service::body::decompress;
use service::grpc::{INVALID_ARGUMENT, UNAVAILABLE};
use service::http::{ApiError, Tenant};

use super::App;
use super::intake::not_taken;
use crate::Tsdb;
pub(crate) use delta::{Changes, Deltas};
pub(crate) use message::Request;
use message::{PartialSuccess, Response, Status};
pub(crate) use translate::{has_delta, translate};

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Protobuf,
    Json,
}

impl Encoding {
    fn of(headers: &HeaderMap) -> Option<Encoding> {
        let text = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        match text.split(';').next().unwrap_or("").trim() {
            PROTOBUF => Some(Encoding::Protobuf),
            JSON => Some(Encoding::Json),
            _ => None,
        }
    }

    pub(crate) fn decode(self, body: &[u8]) -> Result<Request, String> {
        match self {
            Encoding::Protobuf => Request::decode(body).map_err(|error| error.to_string()),
            Encoding::Json => serde_json::from_slice(body).map_err(|error| error.to_string()),
        }
    }

    fn answer<T: Message + Serialize>(self, status: StatusCode, message: &T) -> HttpResponse {
        match self {
            Encoding::Protobuf => (status, [(header::CONTENT_TYPE, PROTOBUF)], message.encode_to_vec()).into_response(),
            Encoding::Json => (status, axum::Json(message)).into_response(),
        }
    }

    fn failure(self, error: ApiError) -> HttpResponse {
        let code = if error.status == StatusCode::SERVICE_UNAVAILABLE { UNAVAILABLE } else { INVALID_ARGUMENT };
        self.answer(error.status, &Status { code, message: error.message })
    }
}

pub async fn metrics(State(app): State<App>, Tenant(tenant): Tenant, headers: HeaderMap, body: Bytes) -> HttpResponse {
    let Some(encoding) = Encoding::of(&headers) else {
        let reason = format!("expected {PROTOBUF} or {JSON} as the content type");
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, reason).into_response();
    };
    let body = match decompress(&headers, body) {
        Ok(body) => body,
        Err(error) => return encoding.failure(error),
    };
    let request = match encoding.decode(&body) {
        Ok(request) => request,
        Err(reason) => return encoding.failure(ApiError::bad_data(reason)),
    };
    match app.take_otlp(&tenant, request).await {
        Ok(response) => encoding.answer(StatusCode::OK, &response),
        Err(error) => encoding.failure(not_taken(&error)),
    }
}

impl Tsdb {
    /// Makes durable what is good of a request, and says what was not.
    async fn take_otlp(&self, tenant: &str, request: Request) -> Result<Response, BusError> {
        let config = self.intake.otlp.read().clone();
        let mut deltas = match has_delta(&request) {
            true => Some(self.intake.deltas.lock().await),
            false => None,
        };
        if let Some(deltas) = &mut deltas {
            deltas.make_room(now_ms());
        }
        let changes = deltas.as_deref().map(|deltas| Changes::new(deltas, tenant));
        let mut translated = translate(request, &config, self.options.lookback_ms, changes);
        translated.batch.tenant = tenant.to_owned();
        let given = translated.batch.sample_count() as u64;
        let appended = self.append_batch(translated.batch, translated.refusals).await?;
        if let Some(deltas) = &mut deltas {
            deltas.apply(tenant, translated.totals);
            self.intake.delta_series.set(deltas.series() as i64);
        }
        let not_stored = given.saturating_sub(appended.written.samples + appended.written.histograms);
        let partial_success = appended.refused.map(|error_message| {
            let rejected = translated.refused_points.saturating_add(not_stored);
            PartialSuccess { rejected_data_points: i64::try_from(rejected).unwrap_or(i64::MAX), error_message }
        });
        Ok(Response { partial_success })
    }
}
