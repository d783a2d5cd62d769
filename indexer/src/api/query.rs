//! Queries: parsed at once, evaluated on a blocking thread with a deadline, a bounded number at a time.

use std::time::{Duration, Instant};

use ::query::QueryError;
use ::query::logql::{LogEngine, LogExpr, LogQuery, parse, parse_duration_ns};
use ::service::config::LogLimits;
use ::service::http::{Params, StrongRead, Tenant};
use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use model::{DurationMs, NS_PER_MS};
use serde_json::{Value as JsonValue, json};

use super::answer::{self, Counted};
use super::params::{HOUR_NS, is_backward, limit, required, step_ms, time_or, time_range};
use super::{Api, LokiError};
use crate::Indexer;
use crate::store::Snapshot;

const MAX_STEPS: i64 = 11_000;
/// A time and a value.
const BYTES_PER_SAMPLE: usize = 16;

pub type Answer = Result<Json<JsonValue>, LokiError>;

impl Indexer {
    /// Waits for what was acknowledged, where the read asks for it.
    pub(super) async fn strong(&self, strong: StrongRead) -> Result<(), LokiError> {
        match strong.0 || self.options.strong_reads_always {
            true => self.wait_applied().await.map_err(LokiError::unavailable),
            false => Ok(()),
        }
    }

    /// Runs a query where it may take its time, within its tenant's limits.
    pub(super) async fn evaluate<T: Send + 'static>(
        &self,
        tenant: &str,
        query: impl FnOnce(&Reading) -> Result<T, QueryError> + Send + 'static,
    ) -> Result<T, LokiError> {
        let (rules, timeout) = (self.admission.rules(tenant), self.query_timeout(tenant));
        let deadline = Instant::now() + timeout;
        let Ok(Ok(slot)) = tokio::time::timeout(timeout, self.query_slots.clone().acquire_owned()).await else {
            self.count_refused("concurrency");
            return Err(LokiError::unavailable("too many queries at once"));
        };
        let reading = Reading { source: self.source(tenant), engine: engine(&rules.limits), deadline };
        // The slot is held as long as the thread works, also when the client has gone.
        let evaluate = move || {
            let _slot = slot;
            query(&reading)
        };
        let evaluated = tokio::task::spawn_blocking(evaluate).await;
        let evaluated = evaluated.map_err(|error| LokiError::internal(format!("the query failed: {error}")))?;
        evaluated.map_err(|error| {
            match &error {
                QueryError::Refused { limit, .. } => self.count_refused(limit),
                QueryError::Limit(_) => self.count_refused("memory"),
                QueryError::Timeout(_) => self.count_refused("timeout"),
                _ => {}
            }
            error.into()
        })
    }

    pub(super) fn query_timeout(&self, tenant: &str) -> Duration {
        let own = self.admission.rules(tenant).limits.query_timeout;
        if own.0 > 0 { own.as_std() } else { self.options.query_timeout }
    }

    fn check_length(&self, tenant: &str, start_ns: i64, end_ns: i64) -> Result<(), LokiError> {
        let limit = self.admission.rules(tenant).limits.max_query_length;
        let length = DurationMs(end_ns.saturating_sub(start_ns) / NS_PER_MS);
        if limit.0 <= 0 || length.0 <= limit.0 {
            return Ok(());
        }
        self.count_refused("length");
        let shown = |length: DurationMs| model::format_duration(length.0);
        Err(LokiError::bad(format!(
            "the query time range exceeds the limit (query length: {}, limit: {})",
            shown(length),
            shown(limit)
        )))
    }
}

/// What one query reads, with what, and until when.
pub(super) struct Reading {
    pub source: Snapshot,
    pub engine: LogEngine,
    pub deadline: Instant,
}

fn engine(limits: &LogLimits) -> LogEngine {
    let max_bytes = usize::try_from(limits.max_query_memory.0).unwrap_or(usize::MAX);
    LogEngine { max_series: limits.max_query_series, max_samples: max_bytes / BYTES_PER_SAMPLE, max_bytes }
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
    // Up to the millisecond after the instant, so that a line of this very moment counts.
    let t_ms = t_ns.saturating_add(NS_PER_MS - 1).div_euclid(NS_PER_MS);
    let of_tenant = tenant.clone();
    let evaluate = move |reading: &Reading| {
        let source = Counted::new(&reading.source);
        let value = reading.engine.instant(&source, &of_tenant, &expr, t_ms, Some(reading.deadline))?;
        Ok(answer::value(value, source.stats(0)))
    };
    Ok(Json(api.evaluate(&tenant, evaluate).await?))
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
    api.check_length(&tenant, start_ns, end_ns)?;
    let max_entries = api.admission.rules(&tenant).limits.max_entries_per_query;
    let (limit, backward, step_ms) =
        (limit(&params, max_entries)?, is_backward(&params)?, step_ms(&params, start_ns, end_ns)?);
    let interval_ns = interval_ns(&params)?;
    api.strong(strong).await?;
    let of_tenant = tenant.clone();
    match expr {
        LogExpr::Log(selector) => {
            let evaluate = move |reading: &Reading| {
                let source = Counted::new(&reading.source);
                let deadline = Some(reading.deadline);
                let query = LogQuery {
                    start_ns,
                    end_ns,
                    backward,
                    limit,
                    interval_ns,
                    categorize,
                    deadline,
                    ..LogQuery::new(&of_tenant, &selector)
                };
                let streams = reading.engine.log(&source, &query)?;
                let stats = source.stats(streams.iter().map(|stream| stream.entries.len()).sum());
                Ok(answer::streams(streams, categorize, stats))
            };
            Ok(Json(api.evaluate(&tenant, evaluate).await?))
        }
        LogExpr::Metric(expr) => {
            let (start_ms, end_ms) = (start_ns.div_euclid(NS_PER_MS), end_ns.div_euclid(NS_PER_MS));
            if end_ms.saturating_sub(start_ms) / step_ms > MAX_STEPS {
                return Err(LokiError::bad(format!(
                    "exceeded maximum resolution of {MAX_STEPS} points per timeseries. Try increasing the value of the step parameter"
                )));
            }
            let evaluate = move |reading: &Reading| {
                let (source, deadline) = (Counted::new(&reading.source), Some(reading.deadline));
                let value = reading.engine.range(&source, &of_tenant, &expr, start_ms, end_ms, step_ms, deadline)?;
                Ok(answer::value(value, source.stats(0)))
            };
            Ok(Json(api.evaluate(&tenant, evaluate).await?))
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
    let rules = api.admission.rules(&tenant);
    let limits = &rules.limits;
    Json(json!({
        "limits": {
            "discover_log_levels": limits.discover_log_levels,
            "discover_service_name": limits.discover_service_name,
            "log_level_fields": limits.log_level_fields,
            "max_entries_limit_per_query": limits.max_entries_per_query,
            "max_line_size_truncate": limits.truncate_long_lines,
            "max_query_bytes_read": format!("{}B", limits.max_query_bytes_read.0),
            "max_query_length": seconds(limits.max_query_length.0 * NS_PER_MS),
            "max_query_lookback": "0s",
            "max_query_range": "0s",
            "max_query_series": limits.max_query_series,
            "metric_aggregation_enabled": false,
            "pattern_persistence_enabled": false,
            "query_timeout": format!("{}s", api.query_timeout(&tenant).as_secs()),
            "retention_period": seconds(api.store.options().retention.of_tenant_ns(&tenant)),
            "volume_enabled": true,
            "volume_max_series": super::params::VOLUME_SERIES,
        },
        "pattern_ingester_enabled": true,
        "version": "3.5.0",
    }))
}
