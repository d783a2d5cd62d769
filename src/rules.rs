//! The rule engine's seams, filled: the stores answer, the bus takes what is recorded, the router hears of alerts.

mod lines;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use alertmanager::Alertmanager;
use anyhow::Context;
use futures::FutureExt;
use futures::future::BoxFuture;
use indexer::Indexer;
use lines::Wanted;
use model::{Alert, DEFAULT_TENANT, Labels, SeriesSamples, format_rfc3339_ms};
use query::logql::{LogEngine, LogExpr, MetricExpr};
use query::{Element, Value};
use rules::{Appender, Evaluator, GroupSpec, Kind, LogLine, Manager, Notifier, Options, Stats};
use serde_json::json;
use service::config::{AlertmanagerConfig, Config};
use service::metrics::{Collector, Metrics};
use tsdb::Tsdb;

use crate::settings::Settings;

/// The rule engine, where this process has a store to ask.
pub fn manager(
    settings: &Settings,
    tsdb: Option<Arc<Tsdb>>,
    indexer: Option<Arc<Indexer>>,
    router: Option<Arc<Alertmanager>>,
    metrics: &Metrics,
) -> anyhow::Result<Option<Arc<Manager>>> {
    if tsdb.is_none() && indexer.is_none() {
        return Ok(None);
    }
    let stores = Arc::new(Stores {
        tsdb,
        indexer,
        engine: LogEngine::default(),
        settings_timeout: settings.cli.query_timeout.as_std(),
    });
    let elsewhere = settings.config.alerting.alertmanagers.iter().flat_map(alert_urls).collect();
    let client = service::http::client().timeout(std::time::Duration::from_secs(10)).build()?;
    let options = Options {
        tenant: DEFAULT_TENANT.to_owned(),
        external_labels: settings.external_labels(),
        external_url: settings.external_url(),
        alert_relabel: settings.config.alerting.alert_relabel_configs.clone(),
    };
    let manager = Manager::new(stores.clone(), stores, Arc::new(Routers { here: router, elsewhere, client }), options);
    let stats = manager.stats();
    metrics.register(|registry| registry.register_collector(Box::new(RuleStats(stats))));
    Ok(Some(manager))
}

/// Rules of a process that was given no configuration.
const DEFAULT_RULES: &str = include_str!("default_rules.yml");

/// Reads the rule files that a configuration names, relative to it; without a configuration, the built-in rules.
pub fn load(settings: &Settings, config: &Config) -> anyhow::Result<Vec<GroupSpec>> {
    let (is_alone, parts) = (settings.cli.config_file.is_none(), settings.parts);
    if is_alone && parts.tsdb && parts.indexer {
        return rules::parse("built-in", DEFAULT_RULES, 30_000, 0).map_err(anyhow::Error::msg);
    }
    let base = settings.cli.config_file.as_deref().and_then(Path::parent).unwrap_or(Path::new("."));
    let global = &config.global;
    let interval_ms = global.evaluation_interval.0;
    rules::load_files(&config.rule_files, base, interval_ms, global.rule_query_offset.0).context("rule_files")
}

/// Where another Alertmanager takes alerts.
pub fn alert_urls(config: &AlertmanagerConfig) -> Vec<String> {
    let prefix = config.path_prefix.trim_matches('/');
    let slash = if prefix.is_empty() { "" } else { "/" };
    let targets = config.static_configs.iter().flat_map(|group| &group.targets);
    targets.map(|target| format!("{}://{target}{slash}{prefix}/api/v2/alerts", config.scheme)).collect()
}

struct Stores {
    tsdb: Option<Arc<Tsdb>>,
    indexer: Option<Arc<Indexer>>,
    engine: LogEngine,
    settings_timeout: std::time::Duration,
}

impl Stores {
    async fn promql(&self, tenant: &str, expr: &str, t_ms: i64) -> Result<Vec<Element>, String> {
        let tsdb = self.tsdb.as_ref().ok_or("there is no metric store in this process")?;
        tsdb.elements(tenant, expr, t_ms).await.map_err(|error| error.to_string())
    }

    async fn logql(&self, tenant: &str, expr: &str, t_ms: i64) -> Result<Vec<Element>, String> {
        let indexer = self.indexer.as_ref().ok_or("there is no log store in this process")?;
        indexer.wait_applied().await?;
        let expr = metric_expr(expr)?;
        let (lines, engine, tenant) = (indexer.lines(), self.engine.clone(), tenant.to_owned());
        let deadline = Instant::now() + self.settings_timeout;
        let work = move || engine.instant(lines.as_ref(), &tenant, &expr, t_ms, Some(deadline));
        match tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())? {
            Ok(Value::Vector(vector)) => Ok(vector),
            Ok(Value::Scalar(sample)) => Ok(vec![Element::of_scalar(sample)]),
            Ok(_) => Err("a rule's expression must give a vector or a scalar".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}

fn metric_expr(text: &str) -> Result<MetricExpr, String> {
    match query::logql::parse(text).map_err(|error| error.to_string())? {
        LogExpr::Metric(expr) => Ok(expr),
        LogExpr::Log(_) => Err("a log rule needs a metric expression, such as count_over_time".to_owned()),
    }
}

impl Evaluator for Stores {
    fn instant<'a>(
        &'a self,
        tenant: &'a str,
        kind: Kind,
        expr: &'a str,
        t_ms: i64,
    ) -> BoxFuture<'a, Result<Vec<Element>, String>> {
        match kind {
            Kind::Promql => self.promql(tenant, expr, t_ms).boxed(),
            Kind::Logql => self.logql(tenant, expr, t_ms).boxed(),
        }
    }

    /// The rule has just been evaluated, so all that it counted is applied.
    fn lines<'a>(
        &'a self,
        tenant: &'a str,
        expr: &'a str,
        labels: &'a Labels,
        t_ms: i64,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<LogLine>, String>> {
        async move {
            let indexer = self.indexer.as_ref().ok_or("there is no log store in this process")?;
            let (source, engine, expr) = (indexer.lines(), self.engine.clone(), metric_expr(expr)?);
            let (tenant, labels) = (tenant.to_owned(), labels.clone());
            let deadline = Some(Instant::now() + self.settings_timeout);
            let work = move || {
                let wanted = Wanted { tenant: &tenant, expr: &expr, labels: &labels, t_ms, limit, deadline };
                lines::counted(&engine, source.as_ref(), &wanted)
            };
            let found = tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())?;
            found.map_err(|error| error.to_string())
        }
        .boxed()
    }
}

impl Appender for Stores {
    fn append<'a>(&'a self, tenant: &'a str, series: Vec<SeriesSamples>) -> BoxFuture<'a, Result<(), String>> {
        async move {
            match &self.tsdb {
                Some(tsdb) => tsdb.append(tenant, series).await.map_err(|error| error.to_string()),
                // A log store alone has nowhere to write ALERTS; its alerts still go out.
                None => Ok(()),
            }
        }
        .boxed()
    }
}

/// The router in this process, and those that the configuration names.
struct Routers {
    here: Option<Arc<Alertmanager>>,
    elsewhere: Vec<String>,
    client: reqwest::Client,
}

impl Routers {
    async fn post(&self, url: &str, body: &serde_json::Value) -> Result<(), String> {
        let response = self.client.post(url).json(body).send().await.map_err(|error| error.to_string())?;
        let status = response.status();
        if status.is_success() { Ok(()) } else { Err(format!("{url} answered {status}")) }
    }
}

impl Notifier for Routers {
    /// Each router gets them for itself; they are sent again only when nobody took them.
    fn send(&self, alerts: Vec<Alert>) -> BoxFuture<'_, Result<(), String>> {
        async move {
            let body = alerts.iter().map(to_api).collect();
            let elsewhere = self.elsewhere.iter().map(|url| self.post(url, &body));
            let (here, elsewhere) = tokio::join!(
                async {
                    match &self.here {
                        Some(router) => Some(router.post(alerts).await.map_err(|error| error.to_string())),
                        None => None,
                    }
                },
                futures::future::join_all(elsewhere)
            );
            let outcomes: Vec<Result<(), String>> = here.into_iter().chain(elsewhere).collect();
            let is_taken = outcomes.is_empty() || outcomes.iter().any(Result::is_ok);
            let failures: Vec<String> = outcomes.into_iter().filter_map(Result::err).collect();
            if !is_taken {
                return Err(failures.join("; "));
            }
            failures.iter().for_each(|error| tracing::warn!(error, "a router did not take alerts; others did"));
            Ok(())
        }
        .boxed()
    }
}

/// An alert as `POST /api/v2/alerts` takes it.
fn to_api(alert: &Alert) -> serde_json::Value {
    json!({
        "labels": alert.labels,
        "annotations": alert.annotations,
        "startsAt": format_rfc3339_ms(alert.starts_at_ms),
        "endsAt": format_rfc3339_ms(alert.ends_at_ms),
        "generatorURL": alert.generator_url,
    })
}

#[derive(Debug)]
struct RuleStats(Arc<Stats>);

impl Collector for RuleStats {
    fn encode(&self, encoder: service::metrics::DescriptorEncoder) -> Result<(), std::fmt::Error> {
        service::metrics::encode_counters(encoder, &self.0.counters())
    }
}
