//! Small answers that clients of Prometheus expect: build, head statistics, and what there is none of.

use std::fmt::Write;

use axum::extract::State;
use axum::response::Response;
use service::http::{ApiError, Params, StrongRead, Tenant};

use super::{App, json, limit, query_error};

/// The version of Prometheus whose API this is: clients (Grafana) switch features by it.
const API_VERSION: &str = "3.14.0";
const DEFAULT_TOP: usize = 10;

pub async fn no_exemplars() -> Response {
    json::success(&[], &[], |out| out.push_str("[]"))
}

pub async fn no_metadata() -> Response {
    json::success(&[], &[], |out| out.push_str("{}"))
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
    let top = limit(&params)?.min(10_000);
    let top = if params.get("limit").is_none() { DEFAULT_TOP } else { top };
    let timeout = app.timeout(&params)?;
    app.catch_up(strong).await?;
    let stats = app.evaluate(app.engine(), timeout, move |_, store, _| Ok(store.cardinality(&tenant, top)));
    let stats = stats.await.map_err(query_error)?;
    Ok(json::success(&[], &[], |out| {
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
        ];
        for (name, list) in lists {
            let _ = write!(out, ",\"{name}\":");
            json::array(out, list, |out, (name, value)| {
                out.push_str("{\"name\":");
                json::string(out, name);
                let _ = write!(out, ",\"value\":{value}}}");
            });
        }
        out.push('}');
    }))
}

impl crate::Tsdb {
    /// Type, help and unit of a metric.
    pub(super) fn metadata_of(
        &self,
        _tenant: &str,
        _metric: &str,
    ) -> Option<(serde_json::Value, serde_json::Value, serde_json::Value)> {
        None
    }
}
