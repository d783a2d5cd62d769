//! `/binnacle/v1/{status,tenants,work}`: what only Binnacle tells, for the page.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, put};
use axum::{Json, Router};
use bus::{Bus, Topic};
use model::{DEFAULT_TENANT, now_ms};
use serde_json::{Value, json};
use service::http::ApiError;
use service::work::Report;

use super::Process;
use crate::shared::Shared;

/// A bus that does not tell its end in this time is shown without.
const END_PATIENCE: Duration = Duration::from_secs(2);

pub fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route("/binnacle/v1/status", get(status))
        .route("/binnacle/v1/tenants", get(tenants))
        .route("/binnacle/v1/work", get(work))
        .route("/binnacle/v1/work/{id}", put(report))
}

async fn status(State(shared): Process) -> Json<Value> {
    let topics = shared.embedded.as_ref().map(|bus| bus.stats()).unwrap_or_default();
    let topics = topics.iter().map(|topic| {
        json!({
            "topic": topic.topic.name(),
            "start": topic.start_offset,
            "end": topic.end_offset,
            "retained_bytes": topic.retained_bytes,
            "refused": topic.refused,
        })
    });
    let files = shared.agent.lock().as_ref().map(|agent| agent.status.get().files).unwrap_or_default();
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "node": shared.settings.node,
        "uptime_seconds": shared.started.elapsed().as_secs_f64(),
        "bus": topics.collect::<Vec<_>>(),
        "stores": stores(&shared).await,
        "files": files,
    }))
}

/// How far each store of this process is: `behind` are the records of its topic that are not applied yet.
async fn stores(shared: &Shared) -> Vec<Value> {
    let Some(bus) = &shared.bus else { return Vec::new() };
    let by_order = |offsets: Vec<u64>| (0..).zip(offsets).collect::<BTreeMap<u32, u64>>();
    let applied = [
        ("tsdb", Topic::Metrics, shared.tsdb.as_ref().map(|tsdb| by_order(tsdb.applied()))),
        ("indexer", Topic::Logs, shared.indexer.as_ref().map(|indexer| indexer.applied())),
        ("alertmanager", Topic::Alerts, shared.alertmanager.as_ref().map(|router| by_order(router.applied()))),
    ];
    let mut stores = Vec::new();
    for (part, topic, applied) in applied {
        let Some(applied) = applied else { continue };
        let behind = tokio::time::timeout(END_PATIENCE, behind(bus.as_ref(), topic, &applied)).await.ok().flatten();
        stores.push(
            json!({"part": part, "topic": topic.name(), "applied": applied.values().sum::<u64>(), "behind": behind}),
        );
    }
    stores
}

/// `None` where the bus does not say.
async fn behind(bus: &dyn Bus, topic: Topic, applied: &BTreeMap<u32, u64>) -> Option<u64> {
    let mut records = 0;
    for (partition, next) in applied {
        records += bus.end_offset(topic, *partition).await.ok()?.saturating_sub(*next);
    }
    Some(records)
}

/// What each tenant has in the stores of this process.
async fn tenants(State(shared): Process) -> Json<Value> {
    let metrics = shared.tsdb.as_ref().map(|tsdb| tsdb.tenants()).unwrap_or_default();
    let logs = shared.indexer.as_ref().map(|indexer| indexer.tenants()).unwrap_or_default();
    let mut names: Vec<&str> = metrics.keys().chain(logs.keys()).map(String::as_str).chain([DEFAULT_TENANT]).collect();
    names.sort_unstable();
    names.dedup();
    let shown = names.into_iter().map(|name| {
        let metrics = metrics.get(name).copied().unwrap_or_default();
        let logs = logs.get(name).copied().unwrap_or_default();
        json!({
            "tenant": name,
            "active_series": metrics.active_series,
            "samples": metrics.samples,
            "sample_bytes": metrics.bytes,
            "lines": logs.lines,
            "text_bytes": logs.text_bytes,
            "line_bytes": logs.bytes,
        })
    });
    Json(json!({"tenants": shown.collect::<Vec<_>>()}))
}

async fn work(State(shared): Process) -> Json<Value> {
    Json(json!({"work": shared.works.list(now_ms())}))
}

/// What a tool says of its work, under a name that it chose.
async fn report(
    State(shared): Process,
    Path(id): Path<String>,
    Json(report): Json<Report>,
) -> Result<StatusCode, ApiError> {
    shared.works.report(&id, report, now_ms()).map_err(ApiError::bad_data)?;
    Ok(StatusCode::NO_CONTENT)
}
