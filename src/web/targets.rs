//! `/api/v1/targets` and what belongs to it: what is scraped, with which outcome, and how relabelling got there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use agent::TargetStatus;
use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use model::{Labels, RelabelConfig, matches_all, relabel};
use serde_json::{Value, json};
use service::config::ScrapeConfig;
use service::http::{ApiError, Params};

use super::{Process, success};
use crate::shared::Shared;

pub fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route("/api/v1/targets", get(list))
        .route("/api/v1/targets/metadata", get(metadata))
        .route("/api/v1/targets/relabel_steps", get(relabel_steps))
        .route("/api/v1/scrape_pools", get(pools))
}

async fn list(State(shared): Process, params: Params) -> Json<Value> {
    let pool = params.get("scrapePool");
    let state = params.get("state").map(str::to_lowercase);
    let shows = |kind: &str| matches!(state.as_deref(), None | Some("any")) || state.as_deref() == Some(kind);
    let of_pool = |name: &str| pool.is_none_or(|pool| pool == name);
    let status = shared.agent.lock().as_ref().map(|agent| agent.status.get()).unwrap_or_default();
    let mut active: Vec<&TargetStatus> = status.targets.iter().filter(|target| of_pool(&target.scrape_pool)).collect();
    active.sort_by(|a, b| a.scrape_pool.cmp(&b.scrape_pool));
    let active: Vec<Value> = if shows("active") { active.into_iter().map(to_json).collect() } else { Vec::new() };
    if !shows("dropped") {
        return success(json!({"activeTargets": active, "droppedTargets": [], "droppedTargetCounts": null}));
    }
    let counts: BTreeMap<&String, usize> = status.dropped.iter().map(|(pool, (count, _))| (pool, *count)).collect();
    let dropped = status.dropped.iter().filter(|(pool, _)| of_pool(pool));
    let dropped: Vec<Value> = dropped
        .flat_map(|(pool, (_, shown))| shown.iter().map(move |labels| (pool, labels)))
        .map(|(pool, labels)| json!({"discoveredLabels": labels, "scrapePool": pool}))
        .collect();
    success(json!({"activeTargets": active, "droppedTargets": dropped, "droppedTargetCounts": counts}))
}

fn to_json(target: &TargetStatus) -> Value {
    json!({
        "discoveredLabels": target.discovered_labels,
        "labels": target.labels,
        "scrapePool": target.scrape_pool,
        "scrapeUrl": target.scrape_url,
        "globalUrl": target.scrape_url,
        "lastError": target.last_error,
        "lastScrape": model::format_rfc3339_ms(target.last_scrape_ms),
        "lastScrapeDuration": target.last_scrape_duration_seconds,
        "health": target.health,
        "scrapeInterval": model::format_duration(target.scrape_interval_ms),
        "scrapeTimeout": model::format_duration(target.scrape_timeout_ms),
    })
}

/// What targets say of their metrics, by target.
async fn metadata(State(shared): Process, params: Params) -> Result<Json<Value>, ApiError> {
    let limit = match params.get("limit") {
        Some(text) => text.parse::<i64>().map_err(|_| ApiError::bad_data("limit must be a number"))?,
        None => -1,
    };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let matchers = match params.get("match_target") {
        Some(text) => super::selector(text, "match_target")?,
        None => Vec::new(),
    };
    let metric = params.get("metric");
    let status = shared.agent.lock().as_ref().map(|agent| agent.status.get()).unwrap_or_default();
    let mut found = Vec::new();
    for target in status.targets.iter().filter(|target| matches_all(&matchers, &target.labels)) {
        for one in target.metadata.iter().filter(|one| metric.is_none_or(|metric| metric == one.name)) {
            let mut item =
                json!({"target": target.labels, "type": one.kind.as_str(), "help": one.help, "unit": one.unit});
            if metric.is_none() {
                item["metric"] = one.name.as_str().into();
            }
            found.push(item);
        }
        if found.len() >= limit {
            break;
        }
    }
    found.truncate(limit);
    Ok(success(found.into()))
}

async fn pools(State(shared): Process) -> Json<Value> {
    let status = shared.agent.lock().as_ref().map(|agent| agent.status.get()).unwrap_or_default();
    let running = status.targets.into_iter().map(|target| target.scrape_pool);
    let names: BTreeSet<String> =
        shared.config().scrape_configs.iter().map(|config| config.job_name.clone()).chain(running).collect();
    success(json!({"scrapePools": names}))
}

/// What each relabelling step of a job makes of a label set.
async fn relabel_steps(State(shared): Process, params: Params) -> Result<Json<Value>, ApiError> {
    let missing = |name: &str| ApiError::bad_data(format!("no {name} parameter provided"));
    let pool = params.get("scrapePool").ok_or_else(|| missing("scrapePool"))?;
    let labels = params.get("labels").ok_or_else(|| missing("labels"))?;
    let labels: BTreeMap<String, String> =
        serde_json::from_str(labels).map_err(|error| ApiError::bad_data(format!("error parsing labels: {error}")))?;
    let config = shared.config();
    let job =
        config.scrape_configs.iter().find(|job: &&ScrapeConfig| job.job_name == pool).ok_or_else(|| {
            ApiError::bad_data(format!("error retrieving scrape config: scrape pool {pool:?} not found"))
        })?;
    let labels = Labels::from_pairs(labels);
    Ok(success(json!({"steps": steps(&job.relabel_configs, labels)})))
}

fn steps(rules: &[RelabelConfig], labels: Labels) -> Vec<Value> {
    let mut current = Some(labels);
    let step = |rule: &RelabelConfig| {
        current = current.take().and_then(|labels| relabel(&labels, std::slice::from_ref(rule)));
        json!({"rule": rule, "output": current.clone().unwrap_or_default(), "keep": current.is_some()})
    };
    rules.iter().map(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_show_where_a_target_is_dropped() {
        let yaml = "scrape_configs:\n- job_name: j\n  relabel_configs:\n  \
                    - {source_labels: [a], target_label: b}\n  - {source_labels: [b], regex: x, action: drop}\n  \
                    - {target_label: c, replacement: d}\n";
        let config: service::config::Config =
            service::config::parse(std::path::Path::new("x.yml"), yaml).expect("a configuration");
        let steps = steps(&config.scrape_configs[0].relabel_configs, Labels::from_pairs([("a", "x")]));
        assert_eq!(steps[0]["output"], json!({"a": "x", "b": "x"}));
        assert_eq!(steps[0]["rule"]["source_labels"], json!(["a"]));
        assert_eq!((&steps[1]["keep"], &steps[1]["output"]), (&json!(false), &json!({})));
        assert_eq!((&steps[2]["keep"], &steps[2]["rule"]["action"]), (&json!(false), &json!("replace")));
    }
}
