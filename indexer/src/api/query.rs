//! Queries: parsed at once, evaluated on a blocking thread with a deadline, a bounded number at a time.

use std::collections::BTreeSet;
use std::time::Instant;

use ::query::logql::{LogEngine, LogExpr, parse};
use ::query::{LineSelect, QueryError};
use ::service::http::{Params, StrongRead, Tenant};
use axum::Json;
use axum::extract::{Path, State};
use model::{Labels, Matcher, NS_PER_MS};
use serde_json::{Value as JsonValue, json};

use super::params::{is_backward, limit, log_selector, required, step_ms, time_or, time_range};
use super::{Api, LokiError, json as answer};
use crate::Indexer;

const HOUR_NS: i64 = 3_600_000_000_000;
const MAX_STEPS: i64 = 11_000;
/// Selectors of one request for series.
const MAX_SELECTORS: usize = 100;

type Answer = Result<Json<JsonValue>, LokiError>;

impl Indexer {
    /// Waits for what was acknowledged, where the read asks for it.
    pub(super) async fn strong(&self, strong: StrongRead) -> Result<(), LokiError> {
        match strong.0 || self.options.strong_reads_always {
            true => self.wait_applied().await.map_err(LokiError::unavailable),
            false => Ok(()),
        }
    }

    /// Runs a query where it may take its time.
    async fn evaluate<T: Send + 'static>(
        &self,
        query: impl FnOnce(Instant) -> Result<T, QueryError> + Send + 'static,
    ) -> Result<T, LokiError> {
        let deadline = Instant::now() + self.options.query_timeout;
        let slot = tokio::time::timeout(self.options.query_timeout, self.query_slots.clone().acquire_owned()).await;
        let Ok(Ok(slot)) = slot else { return Err(LokiError::unavailable("too many queries at once")) };
        // The slot is held as long as the thread works, also when the client has gone.
        let evaluate = move || {
            let _slot = slot;
            query(deadline)
        };
        let evaluated = tokio::task::spawn_blocking(evaluate).await;
        Ok(evaluated.map_err(|error| LokiError::internal(format!("the query failed: {error}")))??)
    }
}

pub async fn instant(State(api): State<Api>, Tenant(tenant): Tenant, strong: StrongRead, params: Params) -> Answer {
    let t_ns = time_or(&params, "time", model::now_ns())?;
    let LogExpr::Metric(expr) = parse(required(&params, "query")?)? else {
        let message =
            "log queries are not supported as an instant query type, please change your query to a range query type";
        return Err(LokiError::bad(message));
    };
    api.strong(strong).await?;
    let store = api.store.clone();
    // Up to the millisecond after the instant, so that a line of this very moment counts.
    let t_ms = t_ns.saturating_add(NS_PER_MS - 1).div_euclid(NS_PER_MS);
    let evaluate = move |deadline| LogEngine::default().instant(store.as_ref(), &tenant, &expr, t_ms, Some(deadline));
    Ok(Json(answer::value(api.evaluate(evaluate).await?)))
}

pub async fn range(State(api): State<Api>, Tenant(tenant): Tenant, strong: StrongRead, params: Params) -> Answer {
    let (start_ns, end_ns) = time_range(&params, HOUR_NS)?;
    let expr = parse(required(&params, "query")?)?;
    let (limit, backward, step_ms) = (limit(&params)?, is_backward(&params)?, step_ms(&params, start_ns, end_ns)?);
    api.strong(strong).await?;
    let store = api.store.clone();
    let engine = LogEngine::default();
    match expr {
        LogExpr::Log(selector) => {
            let evaluate = move |deadline| {
                engine.log(store.as_ref(), &tenant, &selector, start_ns, end_ns, limit, backward, Some(deadline))
            };
            Ok(Json(answer::streams(api.evaluate(evaluate).await?)))
        }
        LogExpr::Metric(expr) => {
            let (start_ms, end_ms) = (start_ns.div_euclid(NS_PER_MS), end_ns.div_euclid(NS_PER_MS));
            if end_ms.saturating_sub(start_ms) / step_ms > MAX_STEPS {
                return Err(LokiError::bad(format!(
                    "exceeded maximum resolution of {MAX_STEPS} points per timeseries. Try increasing the value of the step parameter"
                )));
            }
            let evaluate =
                move |deadline| engine.range(store.as_ref(), &tenant, &expr, start_ms, end_ms, step_ms, Some(deadline));
            Ok(Json(answer::value(api.evaluate(evaluate).await?)))
        }
    }
}

/// The label sets of streams with lines in the request's time that any of the selectors takes.
async fn streams_of(
    api: &Api,
    tenant: String,
    params: &Params,
    selectors: Vec<Vec<Matcher>>,
) -> Result<BTreeSet<Labels>, LokiError> {
    let (start_ns, end_ns) = time_range(params, 6 * HOUR_NS)?;
    let store = api.store.clone();
    let find = move |deadline| {
        let snapshot = store.snapshot(&tenant);
        let mut found = BTreeSet::new();
        for matchers in selectors {
            found.append(&mut snapshot.streams(&select(&tenant, &matchers, start_ns, end_ns, deadline))?);
        }
        Ok(found)
    };
    api.evaluate(find).await
}

fn select<'a>(
    tenant: &'a str,
    matchers: &'a [Matcher],
    start_ns: i64,
    end_ns: i64,
    deadline: Instant,
) -> LineSelect<'a> {
    let end_ns = end_ns.saturating_add(1);
    LineSelect { tenant, matchers, start_ns, end_ns, backward: false, contains: &[], deadline: Some(deadline) }
}

/// The selector of the parameter `query`, where there is one; `{}` means all.
fn optional_selector(params: &Params) -> Result<Vec<Matcher>, LokiError> {
    match params.get("query").filter(|query| *query != "{}") {
        Some(query) => Ok(log_selector(query)?.matchers),
        None => Ok(Vec::new()),
    }
}

pub async fn labels(State(api): State<Api>, Tenant(tenant): Tenant, strong: StrongRead, params: Params) -> Answer {
    let selector = optional_selector(&params)?;
    api.strong(strong).await?;
    let streams = streams_of(&api, tenant, &params, vec![selector]).await?;
    let names: BTreeSet<&str> = streams.iter().flatten().map(|label| label.name.as_ref()).collect();
    Ok(Json(answer::success(json!(names))))
}

pub async fn label_values(
    State(api): State<Api>,
    Path(name): Path<String>,
    Tenant(tenant): Tenant,
    strong: StrongRead,
    params: Params,
) -> Answer {
    let selector = optional_selector(&params)?;
    api.strong(strong).await?;
    let streams = streams_of(&api, tenant, &params, vec![selector]).await?;
    let values: BTreeSet<&str> = streams.iter().filter_map(|labels| labels.get(&name)).collect();
    Ok(Json(answer::success(json!(values))))
}

pub async fn series(State(api): State<Api>, Tenant(tenant): Tenant, strong: StrongRead, params: Params) -> Answer {
    let given: Vec<&str> = params.get_all("match[]").chain(params.get_all("match")).collect();
    if given.is_empty() {
        return Err(LokiError::bad("0 matcher groups supplied: match[] is missing"));
    }
    if given.len() > MAX_SELECTORS {
        return Err(LokiError::bad(format!("more than {MAX_SELECTORS} selectors")));
    }
    let selectors = given.into_iter().map(|text| match text {
        "{}" => Ok(Vec::new()),
        _ => log_selector(text).map(|selector| selector.matchers),
    });
    let selectors = selectors.collect::<Result<Vec<_>, LokiError>>()?;
    api.strong(strong).await?;
    Ok(Json(answer::success(json!(streams_of(&api, tenant, &params, selectors).await?))))
}

pub async fn index_stats(State(api): State<Api>, Tenant(tenant): Tenant, strong: StrongRead, params: Params) -> Answer {
    let (start_ns, end_ns) = time_range(&params, HOUR_NS)?;
    let matchers = optional_selector(&params)?;
    api.strong(strong).await?;
    let store = api.store.clone();
    let volume =
        move |deadline| store.snapshot(&tenant).volume(&select(&tenant, &matchers, start_ns, end_ns, deadline));
    let volume = api.evaluate(volume).await?;
    let (streams, chunks, entries, bytes) = (volume.streams, volume.chunks, volume.entries, volume.bytes);
    Ok(Json(json!({"streams": streams, "chunks": chunks, "entries": entries, "bytes": bytes})))
}

/// Clients choose features by the version: that of the Loki whose API this is.
pub async fn build_info() -> Json<JsonValue> {
    Json(json!({
        "version": "3.5.0", "revision": "binnacle", "branch": "", "buildDate": "", "buildUser": "", "goVersion": "",
    }))
}
