//! `/api/v1/admin/tsdb/*`: deleting series, snapshots, and merging deletions away.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use model::now_ms;
use service::http::{ApiError, Params, Tenant};

use super::listing::selector;
use super::{App, json, time_or};

pub async fn delete_series(
    State(app): State<App>,
    Tenant(tenant): Tenant,
    params: Params,
) -> Result<StatusCode, ApiError> {
    let selectors = params.get_all("match[]").map(selector).collect::<Result<Vec<_>, _>>()?;
    if selectors.is_empty() {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    let (start_ms, end_ms) = (time_or(&params, "start", i64::MIN)?, time_or(&params, "end", i64::MAX)?);
    let deleted = app.delete_series(&tenant, selectors, start_ms, end_ms).await;
    deleted.map_err(|error| ApiError::unavailable(error.to_string()))?;
    Ok(StatusCode::NO_CONTENT)
}

pub async fn clean_tombstones(State(app): State<App>) -> Result<StatusCode, ApiError> {
    app.clean_tombstones().await.map_err(|error| ApiError::internal(error.to_string()))?;
    Ok(StatusCode::NO_CONTENT)
}

pub async fn snapshot(State(app): State<App>, params: Params) -> Result<Response, ApiError> {
    let skip_head = match params.get("skip_head") {
        None | Some("false" | "f" | "0") => false,
        Some("true" | "t" | "1") => true,
        Some(other) => {
            let message = format!("invalid parameter \"skip_head\": unable to parse boolean: {other:?}");
            return Err(ApiError::bad_data(message));
        }
    };
    let now = model::format_rfc3339_ms(now_ms());
    let stamp: String = now.chars().filter(|c| !matches!(c, '-' | ':')).collect();
    let name = format!("{}-{:016x}", stamp.replace('.', "-"), rand_suffix());
    app.snapshot(&name, skip_head).await.map_err(|error| ApiError::internal(error.to_string()))?;
    Ok(json::success(&[], &[], |out| {
        out.push_str("{\"name\":");
        json::string(out, &name);
        out.push('}');
    }))
}

/// Two snapshots of one millisecond have different names.
fn rand_suffix() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(now_ms())
}
