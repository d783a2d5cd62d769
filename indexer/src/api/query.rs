//! Queries: parsed at once, evaluated on a blocking thread with a deadline, a bounded number at a time.

use std::time::Instant;

use ::query::QueryError;
use ::query::logql::{LogEngine, LogExpr, LogQuery, parse, parse_duration_ns};
use ::service::http::{Params, StrongRead, Tenant};
use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use model::NS_PER_MS;
use serde_json::{Value as JsonValue, json};

use super::answer::{self, Counted};
use super::params::{HOUR_NS, MAX_LIMIT, is_backward, limit, required, step_ms, time_or, time_range};
use super::{Api, LokiError};
use crate::Indexer;

const MAX_STEPS: i64 = 11_000;

pub type Answer = Result<Json<JsonValue>, LokiError>;

impl Indexer {
    /// Waits for what was acknowledged, where the read asks for it.
    pub(super) async fn strong(&self, strong: StrongRead) -> Result<(), LokiError> {
        match strong.0 || self.options.strong_reads_always {
            true => self.wait_applied().await.map_err(LokiError::unavailable),
            false => Ok(()),
        }
    }

    /// Runs a query where it may take its time.
    pub(super) async fn evaluate<T: Send + 'static>(
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

/// `X-Loki-Response-Encoding-Flags: categorize-labels`: a line's own labels apart from its stream's.
pub struct Categorize(pub bool);

impl<S: Send + Sync> FromRequestParts<S> for Categorize {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let values = parts.headers.get_all("x-loki-response-encoding-flags").into_iter();
        let mut flags = values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
        Ok(Categorize(flags.any(|flag| flag.trim() == "categorize-labels")))
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
    let evaluate = move |deadline| {
        let source = Counted::new(store.as_ref());
        let value = LogEngine::default().instant(&source, &tenant, &expr, t_ms, Some(deadline))?;
        Ok(answer::value(value, source.stats(0)))
    };
    Ok(Json(api.evaluate(evaluate).await?))
}

pub async fn range(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    strong: StrongRead,
    Categorize(categorize): Categorize,
    params: Params,
) -> Answer {
    let (start_ns, end_ns) = time_range(&params, HOUR_NS)?;
    let expr = parse(required(&params, "query")?)?;
    let (limit, backward, step_ms) = (limit(&params)?, is_backward(&params)?, step_ms(&params, start_ns, end_ns)?);
    let interval_ns = interval_ns(&params)?;
    api.strong(strong).await?;
    let store = api.store.clone();
    let engine = LogEngine::default();
    match expr {
        LogExpr::Log(selector) => {
            let evaluate = move |deadline| {
                let source = Counted::new(store.as_ref());
                let deadline = Some(deadline);
                let query = LogQuery {
                    start_ns,
                    end_ns,
                    backward,
                    limit,
                    interval_ns,
                    categorize,
                    deadline,
                    ..LogQuery::new(&tenant, &selector)
                };
                let streams = engine.log(&source, &query)?;
                let stats = source.stats(streams.iter().map(|stream| stream.entries.len()).sum());
                Ok(answer::streams(streams, categorize, stats))
            };
            Ok(Json(api.evaluate(evaluate).await?))
        }
        LogExpr::Metric(expr) => {
            let (start_ms, end_ms) = (start_ns.div_euclid(NS_PER_MS), end_ns.div_euclid(NS_PER_MS));
            if end_ms.saturating_sub(start_ms) / step_ms > MAX_STEPS {
                return Err(LokiError::bad(format!(
                    "exceeded maximum resolution of {MAX_STEPS} points per timeseries. Try increasing the value of the step parameter"
                )));
            }
            let evaluate = move |deadline| {
                let source = Counted::new(store.as_ref());
                let value = engine.range(&source, &tenant, &expr, start_ms, end_ms, step_ms, Some(deadline))?;
                Ok(answer::value(value, source.stats(0)))
            };
            Ok(Json(api.evaluate(evaluate).await?))
        }
    }
}

/// `interval`: seconds or a duration that lines keep apart.
fn interval_ns(params: &Params) -> Result<i64, LokiError> {
    let Some(text) = params.get("interval") else { return Ok(0) };
    let seconds = text.parse::<f64>().ok().map(|seconds| (seconds * 1e9) as i64);
    let interval = seconds.or_else(|| parse_duration_ns(text)).filter(|ns| *ns >= 0);
    interval.ok_or_else(|| LokiError::bad(format!("cannot parse {text:?} to a valid duration")))
}

pub async fn format_query(params: Params) -> Answer {
    let expr = parse(required(&params, "query")?)?;
    Ok(Json(answer::success(json!(expr.pretty()))))
}

/// Clients choose features by the version: that of the Loki whose API this is.
pub async fn build_info() -> Json<JsonValue> {
    Json(json!({
        "version": "3.5.0", "revision": "binnacle", "branch": "", "buildDate": "", "buildUser": "", "goVersion": "",
    }))
}

/// What Logs Drilldown wants to know before it asks.
pub async fn drilldown_limits(State(api): State<Api>, Tenant(tenant): Tenant) -> Json<JsonValue> {
    let seconds = |ns: i64| format!("{}s", ns / 1_000_000_000);
    Json(json!({
        "limits": {
            "discover_log_levels": false,
            "discover_service_name": [],
            "log_level_fields": ["level", "LEVEL", "Level", "severity", "SEVERITY", "Severity", "lvl", "LVL", "Lvl", "severity_text"],
            "max_entries_limit_per_query": MAX_LIMIT,
            "max_line_size_truncate": true,
            "max_query_bytes_read": "0B",
            "max_query_length": "0s",
            "max_query_lookback": "0s",
            "max_query_range": "0s",
            "max_query_series": LogEngine::default().max_series,
            "metric_aggregation_enabled": false,
            "pattern_persistence_enabled": false,
            "query_timeout": format!("{}s", api.options.query_timeout.as_secs()),
            "retention_period": seconds(api.store.options().retention.of_tenant_ns(&tenant)),
            "volume_enabled": true,
            "volume_max_series": super::params::VOLUME_SERIES,
        },
        "pattern_ingester_enabled": true,
        "version": "3.5.0",
    }))
}
