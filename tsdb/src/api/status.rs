//! What the store knows beside samples: exemplars, metadata, its build, its parts and its head.

use std::fmt::Write;

use ::query::format_number;
use axum::extract::State;
use axum::response::Response;
use model::MetricMetadata;
use serde_json::{Value, json};
use service::http::{ApiError, Params, StrongRead, Tenant};

use super::{App, json, query_error, time_or};

/// The version of Prometheus whose API this is: clients (Grafana) switch features by it.
const API_VERSION: &str = "3.14.0";
const DEFAULT_TOP: usize = 10;
const MAX_TOP: usize = 10_000;

/// Exemplars of the series that an expression's selectors match.
pub async fn exemplars(
    State(app): State<App>,
    Tenant(tenant): Tenant,
    strong: StrongRead,
    params: Params,
) -> Result<Response, ApiError> {
    let (start_ms, end_ms) = (time_or(&params, "start", i64::MIN)?, time_or(&params, "end", i64::MAX)?);
    if end_ms < start_ms {
        return Err(ApiError::bad_data("end timestamp must not be before start timestamp"));
    }
    let expr = ::query::parse(params.get("query").unwrap_or("")).map_err(query_error)?;
    let selectors: Vec<_> = ::query::selectors(&expr).into_iter().map(|one| one.matchers.clone()).collect();
    let timeout = app.timeout(&params)?;
    app.catch_up(strong).await?;
    let found = app.evaluate(app.engine(), timeout, move |_, store, deadline| {
        store.exemplars(&tenant, &selectors, start_ms, end_ms, Some(deadline))
    });
    let found = found.await.map_err(query_error)?;
    Ok(json::success(&[], &[], |out| {
        json::array(out, &found, |out, (labels, exemplars)| {
            out.push_str("{\"seriesLabels\":");
            json::labels(out, labels);
            out.push_str(",\"exemplars\":");
            json::array(out, exemplars, |out, one| {
                out.push_str("{\"labels\":");
                json::labels(out, &one.labels);
                let _ = write!(out, ",\"value\":\"{}\",\"timestamp\":", format_number(one.value));
                json::seconds(out, one.t_ms);
                out.push('}');
            });
            out.push('}');
        });
    }))
}

/// What is known of metrics.
pub async fn metadata(
    State(app): State<App>,
    Tenant(tenant): Tenant,
    strong: StrongRead,
    params: Params,
) -> Result<Response, ApiError> {
    let number = |name: &str| match params.get(name) {
        None => Ok(-1),
        Some(text) => text.parse::<i64>().map_err(|_| ApiError::bad_data(format!("{name} must be a number"))),
    };
    let limit = usize::try_from(number("limit")?).unwrap_or(usize::MAX);
    let per_metric = usize::try_from(number("limit_per_metric")?).ok().filter(|n| *n > 0).unwrap_or(usize::MAX);
    app.catch_up(strong).await?;
    let found = app.store.metadata(&tenant, params.get("metric"), limit, per_metric);
    let one = |one: &MetricMetadata| json!({"type": one.kind.as_str(), "help": one.help, "unit": one.unit});
    let all = found.iter().map(|(name, known)| (name.clone(), known.iter().map(one).collect::<Value>()));
    Ok(json::success(&[], &[], |out| out.push_str(&Value::Object(all.collect()).to_string())))
}

/// What is on disk, as Prometheus shows its blocks.
pub async fn blocks(State(app): State<App>) -> Response {
    let block = |part: crate::PartInfo| {
        json!({
            "ulid": part.name,
            "minTime": part.min_ms,
            "maxTime": part.max_ms,
            "stats": {"numSamples": part.samples, "numSeries": part.series, "numBytes": part.bytes},
            "compaction": {"level": 1, "sources": [part.name]},
            "version": 2,
            "tenant": part.tenant,
        })
    };
    let blocks: Vec<Value> = app.parts().into_iter().map(block).collect();
    json::success(&[], &[], |out| out.push_str(&json!({"blocks": blocks}).to_string()))
}

pub async fn build() -> Response {
    json::success(&[], &[], |out| {
        let version = concat!("binnacle-", env!("CARGO_PKG_VERSION"));
        let _ = write!(
            out,
            r#"{{"version":"{API_VERSION}","revision":"{version}","branch":"","buildUser":"","buildDate":"","goVersion":""}}"#
        );
    })
}

/// Statistics of the head: how many series, and which names and values carry most.
pub async fn tsdb(
    State(app): State<App>,
    Tenant(tenant): Tenant,
    strong: StrongRead,
    params: Params,
) -> Result<Response, ApiError> {
    let top = match params.get("limit").map(str::parse::<usize>) {
        None => DEFAULT_TOP,
        Some(Ok(0) | Err(_)) => return Err(ApiError::bad_data("limit must be a positive number")),
        Some(Ok(top)) if top > MAX_TOP => return Err(ApiError::bad_data(format!("limit must not exceed {MAX_TOP}"))),
        Some(Ok(top)) => top,
    };
    let timeout = app.timeout(&params)?;
    app.catch_up(strong).await?;
    let stats = app.evaluate(app.engine(), timeout, move |_, store, _| store.cardinality(&tenant, top));
    let stats = stats.await.map_err(query_error)?;
    let is_more = app.store.read_metric_counts().1 > 0;
    let warnings: Vec<String> =
        is_more.then(|| "more metrics were read than are remembered".to_owned()).into_iter().collect();
    Ok(json::success(&warnings, &[], |out| {
        let _ = write!(
            out,
            r#"{{"headStats":{{"numSeries":{},"numLabelPairs":{},"chunkCount":0,"minTime":{},"maxTime":{}}}"#,
            stats.series, stats.label_pairs, stats.min_ms, stats.max_ms
        );
        let lists = [
            ("seriesCountByMetricName", &stats.series_by_metric),
            ("labelValueCountByLabelName", &stats.values_by_label),
            ("memoryInBytesByLabelName", &stats.bytes_by_label),
            ("seriesCountByLabelValuePair", &stats.series_by_pair),
            ("seriesCountByUnreadMetricName", &stats.series_by_unread_metric),
        ];
        for (name, list) in lists {
            let _ = write!(out, ",\"{name}\":");
            json::array(out, list, |out, (name, value)| {
                out.push_str("{\"name\":");
                json::string(out, name);
                let _ = write!(out, ",\"value\":{value}}}");
            });
        }
        out.push_str(",\"seriesCountByFirstHour\":");
        json::array(out, &stats.series_by_first_hour, |out, (hour_ms, series)| {
            out.push_str("{\"time\":");
            json::seconds(out, *hour_ms);
            let _ = write!(out, ",\"value\":{series}}}");
        });
        out.push_str(",\"readSince\":");
        json::seconds(out, app.opened_ms);
        out.push('}');
    }))
}

impl crate::Tsdb {
    /// Type, help and unit of a metric.
    pub(super) fn metadata_of(&self, tenant: &str, metric: &str) -> Option<(Value, Value, Value)> {
        let known = self.store.metadata(tenant, Some(metric), 1, 1).remove(metric)?;
        let one = known.first()?;
        Some((one.kind.as_str().into(), one.help.as_str().into(), one.unit.as_str().into()))
    }
}
