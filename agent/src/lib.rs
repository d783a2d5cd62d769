//! The agent: what runs on every node. It tails logs, collects host and container metrics, scrapes targets, and ships all
//! of it over a [`Producer`]: an embedded bus, Kafka, or another Binnacle over HTTP.
//!
//! Lines are shipped at least once and recognised by their byte ranges ([`logs`] states what holds after `kill -9`);
//! samples are of now and are tried once, for no longer than until the next ones come.

pub mod cgroup;
mod collection;
mod cursor;
pub mod discovery;
pub mod host;
pub mod intake;
pub mod journal;
pub mod kubernetes;
pub mod logs;
mod metrics;
mod push;
pub mod remote;
pub mod scrape;
pub mod sinks;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bus::Producer;
use disk::Disk;
use model::Labels;
use service::config::{Global, ScrapeConfig};
use service::metrics::Metrics;
use tokio_util::sync::CancellationToken;

use collection::{Collection, Fixed, LogControl};
pub use collection::{CollectionError, LogSetup};
use host::Roots;
pub use logs::FileStatus;
use metrics::Gathered;
pub use push::{HttpOptions, HttpProducer};
pub use scrape::Dropped;
pub use scrape::TargetStatus;
use scrape::{ScrapeControl, Scraper, TargetList};
pub use sinks::blackhole;

#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error(transparent)]
    Logs(#[from] CollectionError),
}

/// What the agent is told. `logs` holds the resolved list: [`default_sources`] where nothing is configured.
#[derive(Debug, Clone)]
pub struct AgentOptions {
    pub state_dir: PathBuf,
    pub node: String,
    pub tenant: String,
    pub logs: LogSetup,
    /// Never tailed: our own data.
    pub own_dirs: Vec<PathBuf>,
    pub procfs: PathBuf,
    pub sysfs: PathBuf,
    pub rootfs: PathBuf,
    pub cgroupfs: PathBuf,
    /// Where others leave metrics.
    pub textfile_dir: Option<PathBuf>,
    pub collect_interval_ms: u64,
    pub scrape: (Global, Vec<ScrapeConfig>),
    pub metrics_enabled: bool,
    pub logs_enabled: bool,
    /// Whether the producer leads to a bus: without, lines go to sinks alone.
    pub has_bus: bool,
}

pub use logs::discover::default_sources;
pub use logs::dry_run::dry_run;
pub use scrape::text as exposition;

/// What the agent is doing, for people.
#[derive(Debug, Clone, Default)]
pub struct Status {
    pub files: Vec<FileStatus>,
    pub targets: Vec<TargetStatus>,
    pub dropped: Dropped,
}

/// A handle on the status that outlives [`Agent::run`].
#[derive(Clone)]
pub struct AgentStatus {
    files: Option<LogControl>,
    targets: TargetList,
    scrape: ScrapeControl,
}

impl AgentStatus {
    pub fn get(&self) -> Status {
        let targets = self.targets.lock().iter().map(|target| target.lock().clone()).collect();
        let files = self.files.as_ref().map(LogControl::files).unwrap_or_default();
        Status { files, targets, dropped: self.scrape.dropped() }
    }
}

/// Changes what an agent does while it runs; outlives [`Agent::run`].
#[derive(Clone)]
pub struct AgentHandle {
    scrape: ScrapeControl,
    logs: Option<LogControl>,
}

impl AgentHandle {
    /// Replaces the targets that are scraped. Unchanged ones go on, on their beat.
    pub fn set_scrape(&self, global: &Global, jobs: &[ScrapeConfig]) {
        self.scrape.set(global, jobs);
    }

    /// What is wrong with a setup for lines, before anything is changed.
    pub fn check_logs(&self, setup: &LogSetup) -> Result<(), CollectionError> {
        self.logs.as_ref().map_or(Ok(()), |logs| logs.check(setup))
    }

    /// Reads and ships lines as this says from now on; it was checked.
    pub fn set_logs(&self, setup: LogSetup) {
        if let Some(logs) = &self.logs {
            logs.set(setup);
        }
    }
}

pub struct Agent {
    options: AgentOptions,
    logs: Option<Collection>,
    scraper: Scraper,
    producer: Arc<dyn Producer>,
    status: AgentStatus,
}

impl Agent {
    /// Reads the checkpoint and compiles what was configured; opens no log file yet.
    pub fn new(
        options: AgentOptions,
        producer: Arc<dyn Producer>,
        disk: Arc<dyn Disk>,
        metrics: &Metrics,
    ) -> Result<Agent, AgentError> {
        raise_descriptor_limit();
        let fixed = Fixed {
            state_dir: options.state_dir.clone(),
            node: options.node.clone(),
            tenant: options.tenant.clone(),
            own_dirs: options.own_dirs.clone(),
            bus: options.has_bus.then(|| producer.clone()),
            disk,
        };
        let collect = || Collection::new(fixed, options.logs.clone(), metrics);
        let logs = options.logs_enabled.then(collect).transpose()?;
        let (global, configs) = &options.scrape;
        let scraper = Scraper::new(global, configs, options.tenant.clone(), producer.clone(), metrics);
        let files = logs.as_ref().map(|logs| logs.control.clone());
        let status = AgentStatus { files, targets: scraper.status.clone(), scrape: scraper.control.clone() };
        Ok(Agent { options, logs, scraper, producer, status })
    }

    pub fn status(&self) -> AgentStatus {
        self.status.clone()
    }

    pub fn handle(&self) -> AgentHandle {
        AgentHandle { scrape: self.scraper.control.clone(), logs: self.status.files.clone() }
    }

    /// Runs until `stop`; then waits a little for what is on its way and saves the checkpoint. Where tailing ends by
    /// itself all else is stopped too, and that is an error.
    pub async fn run(self, stop: CancellationToken) -> Result<(), AgentError> {
        let stop = stop.child_token();
        let logs = async {
            let Some(logs) = self.logs else { return Ok(()) };
            let ended = logs.run(stop.clone()).await;
            if ended.is_err() {
                stop.cancel();
            }
            ended
        };
        let collected = async {
            if self.options.metrics_enabled {
                collect(&self.options, self.producer.as_ref(), &stop).await;
            }
        };
        let (tailed, (), ()) = tokio::join!(logs, collected, self.scraper.run(stop.clone()));
        Ok(tailed?)
    }
}

/// Collects host and container metrics at every interval, the first time at once.
async fn collect(options: &AgentOptions, producer: &dyn Producer, stop: &CancellationToken) {
    let interval = Duration::from_millis(options.collect_interval_ms.max(100));
    let mut beat = tokio::time::interval(interval);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = beat.tick() => {}
            () = stop.cancelled() => return,
        }
        let gathering = options.clone();
        let gathered = tokio::task::spawn_blocking(move || gather(&gathering));
        match gathered.await {
            Ok(batches) => {
                let ship = |gathered: Gathered| {
                    metrics::ship(producer, gathered.into_batch(&options.tenant), "host metrics", interval)
                };
                tokio::select! {
                    biased;
                    _ = futures::future::join_all(batches.map(ship)) => {}
                    () = stop.cancelled() => return,
                }
            }
            Err(error) => tracing::error!(%error, "collecting host metrics failed"),
        }
    }
}

fn gather(options: &AgentOptions) -> [Gathered; 2] {
    let AgentOptions { procfs, sysfs, rootfs, cgroupfs, node, .. } = options;
    let roots = Roots {
        procfs: procfs.clone(),
        sysfs: sysfs.clone(),
        rootfs: rootfs.clone(),
        textfile_dir: options.textfile_dir.clone(),
    };
    let t_ms = model::now_ms();
    let job = |job: &str, collect: &dyn Fn(&mut Gathered)| {
        let start = Instant::now();
        let mut out = Gathered::new(t_ms, Labels::from_pairs([("job", job), ("instance", node)]));
        collect(&mut out);
        out.add("up", &[], 1.0);
        out.add("scrape_duration_seconds", &[], start.elapsed().as_secs_f64());
        out
    };
    [job("node", &|out| host::collect(&roots, out)), job("cadvisor", &|out| cgroup::collect(cgroupfs, &roots, out))]
}

/// Every tailed file holds a descriptor: as many as the system allows.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

#[cfg(test)]
mod tests;
