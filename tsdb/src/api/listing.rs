//! `labels`, `label/{name}/values`, `series`.

use std::time::Instant;

use ::query::promql::ExprKind;
use axum::extract::{Path, State};
use axum::response::Response;
use model::Matcher;
use service::http::{ApiError, Params, StrongRead, Tenant};

use super::{App, json, limit, query_error, time_or};
use crate::store::{Listing, Store};

/// One listing's request, owned, so that it can cross to the thread that answers it.
struct Request {
    tenant: String,
    selectors: Vec<Vec<Matcher>>,
    start_ms: i64,
    end_ms: i64,
    limit: usize,
}

impl Request {
    fn parse(tenant: String, params: &Params) -> Result<Request, ApiError> {
        let start_ms = time_or(params, "start", i64::MIN)?;
        let end_ms = time_or(params, "end", i64::MAX)?;
        if end_ms < start_ms {
            return Err(ApiError::bad_data("invalid parameter \"end\": end timestamp must not be before start time"));
        }
        let selectors = params.get_all("match[]").map(selector).collect::<Result<Vec<_>, _>>()?;
        Ok(Request { tenant, selectors, start_ms, end_ms, limit: limit(params)? })
    }

    fn listing(&self, deadline: Instant) -> Listing<'_> {
        let Request { tenant, selectors, start_ms, end_ms, .. } = self;
        Listing { tenant, selectors, start_ms: *start_ms, end_ms: *end_ms, deadline: Some(deadline) }
    }
}

/// A bare selector that does not match everything.
pub fn selector(text: &str) -> Result<Vec<Matcher>, ApiError> {
    let bad = |reason: String| ApiError::bad_data(format!("invalid parameter \"match[]\": {reason}"));
    let expr = ::query::parse(text).map_err(|error| bad(error.to_string()))?;
    match expr.kind {
        ExprKind::Selector(selector) if selector.shift == Default::default() => Ok(selector.matchers),
        _ => Err(bad(format!("{text:?} is not a series selector"))),
    }
}

pub async fn series(
    State(app): State<App>,
    Tenant(tenant): Tenant,
    strong: StrongRead,
    params: Params,
) -> Result<Response, ApiError> {
    let request = Request::parse(tenant, &params)?;
    if request.selectors.is_empty() {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    list(&app, strong, &params, request, |store, listing| store.series(listing), json::labels).await
}

pub async fn names(
    State(app): State<App>,
    Tenant(tenant): Tenant,
    strong: StrongRead,
    params: Params,
) -> Result<Response, ApiError> {
    let request = Request::parse(tenant, &params)?;
    let names = |store: &Store, listing: &Listing<'_>| store.label_names(listing);
    list(&app, strong, &params, request, names, |out, name| json::string(out, name)).await
}

pub async fn values(
    State(app): State<App>,
    Path(name): Path<String>,
    Tenant(tenant): Tenant,
    strong: StrongRead,
    params: Params,
) -> Result<Response, ApiError> {
    let request = Request::parse(tenant, &params)?;
    let name = model::unescape_name(&name);
    let values = move |store: &Store, listing: &Listing<'_>| store.label_values(listing, &name);
    list(&app, strong, &params, request, values, |out, value| json::string(out, value)).await
}

async fn list<T: Send + 'static>(
    app: &App,
    strong: StrongRead,
    params: &Params,
    request: Request,
    find: impl FnOnce(&Store, &Listing<'_>) -> Result<std::collections::BTreeSet<T>, ::query::QueryError> + Send + 'static,
    write_one: impl Fn(&mut String, &T),
) -> Result<Response, ApiError> {
    let (limit, timeout) = (request.limit, app.timeout(params)?);
    app.catch_up(strong).await?;
    let found = app.evaluate(app.engine(), timeout, move |_, store, deadline| find(store, &request.listing(deadline)));
    let found = found.await.map_err(query_error)?;
    let warnings: Vec<String> =
        (found.len() > limit).then(|| "results truncated due to limit".to_owned()).into_iter().collect();
    Ok(json::success(&warnings, &[], |out| {
        json::array(out, found.iter().take(limit), |out, one| write_one(out, one));
    }))
}
