//! What requests see of the running parts, and what is done to all of them at once.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Instant;

use agent::remote::RemoteWriter;
use agent::{AgentHandle, AgentStatus};
use alertmanager::Alertmanager;
use bus::{Bus, EmbeddedBus};
use indexer::Indexer;
use parking_lot::RwLock;
use service::config::{self, Config};
use service::metrics::{Gauge, Metrics};
use service::work::Works;
use tokio::sync::watch;
use tsdb::Tsdb;

use crate::rules;
use crate::settings::{Settings, load_config};

pub struct Shared {
    pub settings: Settings,
    pub metrics: Metrics,
    pub works: Works,
    pub started: Instant,
    /// `None` in an agent that ships over HTTP.
    pub bus: Option<Arc<dyn Bus>>,
    pub embedded: Option<Arc<EmbeddedBus>>,
    pub tsdb: Option<Arc<Tsdb>>,
    pub indexer: Option<Arc<Indexer>>,
    pub alertmanager: Option<Arc<Alertmanager>>,
    pub rules: Option<Arc<::rules::Manager>>,
    /// `None` where another process sends.
    pub remote: Option<RemoteWriter>,
    pub agent: parking_lot::Mutex<Option<RunningAgent>>,
    /// Exposed as `binnacle_config_last_reload_successful`.
    pub reload_ok: Gauge,
    /// Told of every reload's outcome.
    pub reloads: watch::Sender<bool>,
    pub config: RwLock<Arc<LoadedConfig>>,
}

/// The configuration in force.
pub struct LoadedConfig {
    config: Config,
    /// The file's text, its secrets masked.
    pub masked_text: String,
    pub loaded_at_ms: i64,
}

impl LoadedConfig {
    pub fn new((config, text): (Config, String)) -> LoadedConfig {
        LoadedConfig { config, masked_text: config::mask_secrets(&text), loaded_at_ms: model::now_ms() }
    }
}

impl Deref for LoadedConfig {
    type Target = Config;

    fn deref(&self) -> &Config {
        &self.config
    }
}

/// What is known of the agent in this process, and what can be told to it.
pub struct RunningAgent {
    pub status: AgentStatus,
    pub handle: AgentHandle,
    /// Where this process listens.
    pub address: String,
}

impl Shared {
    /// The configuration in force: that of the last reload that was taken.
    pub fn config(&self) -> Arc<LoadedConfig> {
        self.config.read().clone()
    }

    /// Reads the configuration again: scrape jobs, rules and the router's file. A mistake keeps everything as it was.
    pub async fn reload(&self) -> Result<(), String> {
        let outcome = self.try_reload().await;
        self.reload_ok.set(i64::from(outcome.is_ok()));
        self.reloads.send_replace(outcome.is_ok());
        match &outcome {
            Ok(()) => tracing::info!("configuration reloaded"),
            Err(error) => tracing::warn!(error, "reload refused; the old configuration stays"),
        }
        outcome
    }

    async fn try_reload(&self) -> Result<(), String> {
        let config = load_config(&self.settings.cli).map_err(|error| format!("{error:#}"))?;
        let config = Arc::new(LoadedConfig::new(config));
        let groups = match &self.rules {
            Some(_) => rules::load(&self.settings, &config).map_err(|error| format!("{error:#}"))?,
            None => Vec::new(),
        };
        let logs = self.settings.log_setup(&config);
        if let Some(agent) = self.agent.lock().as_ref() {
            agent.handle.check_logs(&logs).map_err(|error| error.to_string())?;
        }
        if let Some(router) = &self.alertmanager {
            router.reload()?;
        }
        if let Some(tsdb) = &self.tsdb {
            tsdb.set_otlp(config.otlp.clone());
        }
        if let Some(indexer) = &self.indexer {
            indexer.set_log_limits(&config.log_limits());
        }
        if let Some(agent) = self.agent.lock().as_ref().filter(|_| self.settings.cli.config_file.is_some()) {
            agent.handle.set_logs(logs);
            let jobs = self.settings.scrape_jobs(&config, &agent.address);
            agent.handle.set_scrape(&config.global, &jobs);
        }
        if let Some(remote) = &self.remote {
            let labels = config.global.external_labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            let labels = model::Labels::from_pairs(labels);
            remote.set(&config.remote_write, &labels, &self.settings.config_dir());
        }
        if let Some(manager) = &self.rules {
            let labels = config.global.external_labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            let relabel = config.alerting.alert_relabel_configs.clone();
            manager.set_outgoing(model::Labels::from_pairs(labels), relabel);
            manager.reload(groups).await;
        }
        *self.config.write() = config;
        Ok(())
    }

    /// Why this process is not ready, if it is not.
    pub fn ready(&self) -> Result<(), String> {
        self.tsdb.as_ref().map_or(Ok(()), |tsdb| tsdb.ready())?;
        self.indexer.as_ref().map_or(Ok(()), |indexer| indexer.ready())?;
        self.alertmanager.as_ref().map_or(Ok(()), |router| router.ready())
    }

    /// Publishes every head, finishes merges and lets the bus go of what is published.
    pub async fn flush(&self) -> Result<(), String> {
        if let Some(tsdb) = &self.tsdb {
            tsdb.flush().await.map_err(|error| error.to_string())?;
        }
        if let Some(indexer) = &self.indexer {
            indexer.flush().await?;
        }
        if let Some(router) = &self.alertmanager {
            let router = router.clone();
            let saved = tokio::task::spawn_blocking(move || router.save()).await.map_err(|error| error.to_string())?;
            saved.map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}
