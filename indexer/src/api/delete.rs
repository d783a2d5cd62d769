//! `/loki/api/v1/delete`: lines that are to be forgotten, by a selector with filters and a range of time.
//!
//! A request is answered once it is durable on the bus. From then on no strong read shows such a line; merges take them off
//! the disk. Nothing is waited for first, so that a request cannot be taken back.

use std::hash::{BuildHasher, RandomState};

use ::service::http::{Params, StrongRead, Tenant};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use bus::{Topic, append_all};
use model::{Batch, LineDeletes, NS_PER_MS, now_ms};
use serde_json::{Value, json};

use super::params::parse_time_ns;
use super::{Api, LokiError};
use crate::store::erasure::{Request, selector};

/// Every read goes through those that are not carried out yet.
const MAX_DUE: usize = 1000;
const MAX_QUERY_BYTES: usize = 64 * 1024;

pub fn router() -> Router<Api> {
    Router::new().route("/loki/api/v1/delete", get(list).post(add).put(add).delete(cancel))
}

async fn add(State(api): State<Api>, Tenant(tenant): Tenant, params: Params) -> Result<StatusCode, LokiError> {
    let deletes = read(&tenant, &params, now_ms())?;
    if api.store.erasures(&tenant).0.len() >= MAX_DUE {
        let message = format!("{MAX_DUE} delete requests are waiting to be processed");
        return Err(LokiError { status: StatusCode::TOO_MANY_REQUESTS, message });
    }
    let appended = append_all(api.bus.as_ref(), Topic::Logs, Batch::LineDeletes(deletes)).await;
    appended.map_err(|error| LokiError::unavailable(error.to_string()))?;
    Ok(StatusCode::NO_CONTENT)
}

fn read(tenant: &str, params: &Params, created_ms: i64) -> Result<LineDeletes, LokiError> {
    let query = params.get("query").ok_or_else(|| LokiError::bad("query not set"))?;
    if query.len() > MAX_QUERY_BYTES {
        return Err(LokiError::bad(format!("the query is over {MAX_QUERY_BYTES} bytes")));
    }
    selector(query).map_err(LokiError::bad)?;
    let time = |name: &str, text: &str| {
        let wrong = || LokiError::bad(format!("invalid {name} time: require unix seconds or RFC3339 format"));
        parse_time_ns(name, text).map_err(|_| wrong())
    };
    let start_ns = time("start", params.get("start").ok_or_else(|| LokiError::bad("start time not set"))?)?;
    let now_ns = created_ms.saturating_mul(NS_PER_MS);
    let end_ns = params.get("end").map_or(Ok(now_ns), |text| time("end", text))?;
    if end_ns > now_ns {
        return Err(LokiError::bad("deletes in the future are not allowed"));
    }
    if start_ns >= end_ns {
        return Err(LokiError::bad("start time can't be greater than or equal to end time"));
    }
    let id = format!("{:016x}", RandomState::new().hash_one((tenant, query, created_ms)));
    Ok(LineDeletes { id, tenant: tenant.to_owned(), query: query.to_owned(), start_ns, end_ns, created_ms })
}

async fn list(State(api): State<Api>, Tenant(tenant): Tenant, strong: StrongRead) -> Result<Json<Value>, LokiError> {
    api.strong(strong).await?;
    let (due, done) = api.store.erasures(&tenant);
    let listed = due.iter().map(|one| shown(one, "received")).chain(done.iter().map(|one| shown(one, "processed")));
    Ok(Json(listed.collect()))
}

/// Times are seconds.
fn shown(request: &Request, status: &str) -> Value {
    let seconds = |ms: i64| ms as f64 / 1000.0;
    json!({
        "request_id": request.id,
        "start_time": seconds(request.start_ns.div_euclid(NS_PER_MS)),
        "end_time": seconds(request.end_ns.div_euclid(NS_PER_MS)),
        "query": request.query,
        "status": status,
        "created_at": seconds(request.created_ms),
    })
}

/// What was asked for has been done already.
async fn cancel(State(api): State<Api>, Tenant(tenant): Tenant, params: Params) -> Result<Response, LokiError> {
    let id = params.get("request_id").unwrap_or("");
    let (due, done) = api.store.erasures(&tenant);
    match due.iter().chain(&done).any(|request| request.id == id) {
        true => Err(LokiError::bad("deletion of request which is in process or already processed is not allowed")),
        false => {
            let message = "could not find delete request with given id".to_owned();
            Err(LokiError { status: StatusCode::NOT_FOUND, message })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_700_000_000_000;

    #[track_caller]
    fn check(query: &str, expected: Result<(i64, i64), &str>) {
        let read = read("t", &Params::parse(query), NOW_MS).map(|deletes| (deletes.start_ns, deletes.end_ns));
        assert_eq!(read.map_err(|error| error.message), expected.map_err(str::to_owned), "{query}");
    }

    #[test]
    fn requests_are_checked() {
        let now_ns = NOW_MS * NS_PER_MS;
        check("query={a=\"b\"}&start=0", Ok((0, now_ns)));
        check("query={a=\"b\"}|=\"c\"&start=0&end=1", Ok((0, 1_000_000_000)));
        check(
            "query={a=\"b\"}&start=1970-01-01T00:00:01Z&end=1600000000.5",
            Ok((1_000_000_000, 1_600_000_000_500_000_000)),
        );
        check("start=0", Err("query not set"));
        check("query=not a query&start=0", Err("invalid query expression"));
        check("query=rate({a=\"b\"}[1m])&start=0", Err("invalid query expression"));
        check("query={a=\"b\"}", Err("start time not set"));
        check("query={a=\"b\"}&start=x", Err("invalid start time: require unix seconds or RFC3339 format"));
        check("query={a=\"b\"}&start=0&end=x", Err("invalid end time: require unix seconds or RFC3339 format"));
        check("query={a=\"b\"}&start=0&end=1700000001", Err("deletes in the future are not allowed"));
        check("query={a=\"b\"}&start=2&end=1", Err("start time can't be greater than or equal to end time"));
    }
}
