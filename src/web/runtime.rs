//! `/api/v1/status/{config,flags,runtimeinfo,walreplay,self_metrics}`, `/api/v1/features`, `/api/v1/notifications`.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::routing::get;
use axum::{Json, Router};
use clap::{Arg, CommandFactory};
use futures::StreamExt;
use model::{format_duration, format_rfc3339_ms, now_ms};
use serde_json::{Map, Value, json};
use service::http::{ApiError, Params};

use super::{Process, success};
use crate::cli::Cli;
use crate::shared::Shared;

pub fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route("/api/v1/status/config", get(config))
        .route("/api/v1/status/flags", get(flags))
        .route("/api/v1/status/runtimeinfo", get(runtime))
        .route("/api/v1/status/walreplay", get(replay))
        .route("/api/v1/status/self_metrics", get(self_metrics))
        .route("/api/v1/features", get(features))
        .route("/api/v1/notifications", get(notifications))
        .route("/api/v1/notifications/live", get(live_notifications))
}

/// The configuration in force, its secrets masked.
async fn config(State(shared): Process) -> Json<Value> {
    success(json!({"yaml": shared.config().masked_text}))
}

async fn flags(State(shared): Process) -> Json<Value> {
    success(flags_of(&shared.settings.args))
}

/// Every flag by name: as it was given, else its default.
fn flags_of(args: &[String]) -> Value {
    let command = Cli::command();
    let matches = command.clone().try_get_matches_from(args).ok();
    let value = |arg: &Arg| {
        let raw = matches.as_ref().and_then(|matches| matches.get_raw(arg.get_id().as_str()));
        let given = raw.into_iter().flatten().map(|value| value.to_string_lossy()).collect::<Vec<_>>().join(",");
        if !given.is_empty() || arg.get_action().takes_values() {
            return given;
        }
        matches.as_ref().is_some_and(|matches| matches.get_flag(arg.get_id().as_str())).to_string()
    };
    let named = command.get_arguments().filter_map(|arg| Some((arg.get_long()?, arg)));
    let flags: Map<String, Value> = named
        .filter(|(name, _)| !matches!(*name, "help" | "version"))
        .map(|(name, arg)| (name.to_owned(), value(arg).into()))
        .collect();
    Value::Object(flags)
}

async fn runtime(State(shared): Process) -> Json<Value> {
    let config = shared.config();
    let start_ms = now_ms() - i64::try_from(shared.started.elapsed().as_millis()).unwrap_or(0);
    let directory = std::env::current_dir().unwrap_or_default();
    success(json!({
        "startTime": format_rfc3339_ms(start_ms),
        "CWD": directory.to_string_lossy(),
        "hostname": shared.settings.node,
        "serverTime": format_rfc3339_ms(now_ms()),
        "reloadConfigSuccess": shared.reload_ok.get() == 1,
        "lastConfigTime": format_rfc3339_ms(config.loaded_at_ms),
        "corruptionCount": 0,
        // What Go's runtime has and this one has not.
        "goroutineCount": 0,
        "GOMAXPROCS": std::thread::available_parallelism().map_or(1, usize::from),
        "GOMEMLIMIT": 0,
        "GOGC": "",
        "GODEBUG": "",
        "storageRetention": format_duration(shared.settings.tsdb_retention.default_ms),
    }))
}

/// How far the stores are in applying what the bus held at the start.
async fn replay(State(shared): Process) -> Json<Value> {
    let (applied, end) = shared.tsdb.as_ref().map_or((0, 0), |tsdb| tsdb.replay());
    success(json!({"min": 0, "max": end, "current": applied}))
}

/// This process's own metrics as families, in the JSON form of Prometheus' protobuf.
async fn self_metrics(State(shared): Process, params: Params) -> Result<Json<Value>, ApiError> {
    let pattern = params.get("metric_name_pattern").unwrap_or(".*");
    let pattern = regex::Regex::new(&format!("^(?:{pattern})$"))
        .map_err(|error| ApiError::bad_data(format!("invalid metric_name_pattern: {error}")))?;
    let wanted = families(&shared.metrics.encode()).into_iter();
    Ok(success(wanted.filter(|family| pattern.is_match(family["name"].as_str().unwrap_or(""))).collect()))
}

/// The metric families of our own OpenMetrics text.
fn families(text: &str) -> Vec<Value> {
    let mut families: Vec<Value> = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", "HELP", name, help] => families.push(json!({"name": name, "help": help, "metric": []})),
            ["#", "TYPE", _, kind] => {
                families.iter_mut().last().into_iter().for_each(|family| family["type"] = kind.to_uppercase().into());
            }
            ["#", ..] => {}
            _ => {
                let (Ok((labels, value)), Some(family)) = (query::promql::parse_series_name(line), families.last_mut())
                else {
                    continue;
                };
                let is_public = |label: &&model::Label| &*label.name != model::METRIC_NAME;
                let pair = |label: &model::Label| json!({"name": label.name, "value": label.value});
                let pairs: Vec<Value> = labels.iter().filter(is_public).map(pair).collect();
                let kind = if family["type"] == "COUNTER" { "counter" } else { "gauge" };
                let value: f64 = value.trim().parse().unwrap_or(f64::NAN);
                let metric = json!({"label": pairs, kind: {"value": value}});
                family["metric"].as_array_mut().into_iter().for_each(|metrics| metrics.push(metric.clone()));
            }
        }
    }
    families
}

/// What this server can do, by Prometheus' names.
async fn features(State(shared): Process) -> Json<Value> {
    let all = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), true.into())).collect::<Map<_, _>>();
    let functions: Vec<&str> = query::promql::functions().map(|function| function.name).collect();
    let operators: Vec<&str> = query::promql::BinaryOp::ALL.iter().map(|op| op.as_str()).collect();
    success(json!({
        "api": all(&[
            "admin", "exclude_alerts", "label_values_match", "lifecycle", "query_stats", "query_warnings", "query_infos",
            "remote_write_receiver", "search", "time_range_labels", "time_range_series",
        ]),
        "prometheus": {"agent_mode": shared.tsdb.is_none(), "server_mode": shared.tsdb.is_some(), "binnacle": true},
        "promql": all(&[
            "anchored", "at_modifier", "bool", "by", "delayed_name_removal", "duration_expr", "fill", "fill_left",
            "fill_right", "group_left", "group_right", "ignoring", "negative_offset", "offset", "on", "per_step_stats",
            "per_query_lookback_delta", "smoothed", "subqueries", "without",
        ]),
        "promql_functions": all(&functions),
        "promql_operators": all(&operators),
        "rules": all(&["keep_firing_for", "query_offset", "group_labels"]),
        "service_discovery_providers": all(&["static"]),
        "tsdb": all(&["delete_series", "exemplars", "native_histograms", "out_of_order", "snapshot"]),
    }))
}

/// What an operator should know of now.
fn current_notifications(shared: &Shared) -> Vec<Value> {
    let failed = shared.reload_ok.get() != 1;
    let note = |text: &str| json!({"text": text, "date": format_rfc3339_ms(now_ms()), "active": true});
    failed.then(|| note("Configuration reload has failed.")).into_iter().collect()
}

async fn notifications(State(shared): Process) -> Json<Value> {
    success(current_notifications(&shared).into())
}

/// The same as server-sent events: what there is at first, and every change of it.
async fn live_notifications(State(shared): Process) -> Sse<impl futures::Stream<Item = Result<Event, Infallible>>> {
    let mut reloads = shared.reloads.subscribe();
    reloads.mark_changed();
    let events = futures::stream::unfold((shared, reloads), |(shared, mut reloads)| async move {
        reloads.changed().await.ok()?;
        let notes = current_notifications(&shared);
        let events: Vec<_> = notes.into_iter().map(|note| Ok(Event::default().data(note.to_string()))).collect();
        Some((futures::stream::iter(events), (shared, reloads)))
    });
    Sse::new(events.flatten()).keep_alive(KeepAlive::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_metrics_are_families() {
        let text = "# HELP a_lines Lines.\n# TYPE a_lines counter\na_lines_total{k=\"v w\"} 3\n# EOF\n";
        let expected = json!([{"name": "a_lines", "help": "Lines.", "type": "COUNTER",
            "metric": [{"label": [{"name": "k", "value": "v w"}], "counter": {"value": 3.0}}]}]);
        assert_eq!(Value::from(families(text)), expected);
    }

    #[test]
    fn flags_are_shown_as_given_or_by_default() {
        let args = ["binnacle", "--query.timeout=3m", "--accept-loss"].map(str::to_owned);
        let flags = flags_of(&args);
        assert_eq!(flags["query.timeout"], "3m");
        assert_eq!(flags["accept-loss"], "true");
        assert_eq!(flags["agent.disabled"], "false");
        assert_eq!(flags["web.listen-address"], "127.0.0.1:9090");
    }
}
