//! Scraping: every target on its own beat, its samples and the health series beside them onto the bus.
//!
//! # Contracts
//! - A scrape is one batch with one timestamp (unless the target gives timestamps and they are honoured): samples, `up`,
//!   and the `scrape_*` series of Prometheus. The timestamp is the beat's, not the moment's, where they are a few
//!   milliseconds apart, so that intervals are even.
//! - A series that was in the last scrape and is not in this one, all series when a scrape fails, and all series of a
//!   target that is gone get a staleness marker; series with timestamps of their own only with
//!   `track_timestamps_staleness`. A restart of this process ends nothing.
//! - Jobs may be replaced while running ([`ScrapeControl::set`]): a target that stays keeps its beat and its series.
//!   Discovered targets come and go at most once in [`SETTLE`].
//! - A body is read up to `body_size_limit`; what is over any limit fails the scrape as a whole, with a counter.
//! - A batch is tried once, for an interval at most: samples of now are of little use later.

mod counters;
pub mod fetch;
mod history;
mod job;
mod nhcb;
pub mod protobuf;
mod run;
mod series;
mod target;
mod texts;
pub use model::exposition as text;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bus::Producer;
use model::{Labels, MetricMetadata};
use parking_lot::Mutex;
use serde::Serialize;
use service::config::{Global, ScrapeConfig};
use service::metrics::Metrics;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::discovery::Discovery;
use counters::Counters;
use history::History;
use job::Job;
use run::Loop;
pub use target::escape;
use target::{Target, Targets, static_targets, targets};
use texts::Texts;

/// What discovery tells within this is taken together.
pub const SETTLE: Duration = Duration::from_millis(500);

/// A target's state, as `/api/v1/targets` shows it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetStatus {
    pub discovered_labels: Labels,
    pub labels: Labels,
    pub scrape_pool: String,
    pub scrape_url: String,
    /// `unknown`, `up` or `down`.
    pub health: &'static str,
    pub last_error: String,
    pub last_scrape_ms: i64,
    pub last_scrape_duration_seconds: f64,
    pub scrape_interval_ms: i64,
    pub scrape_timeout_ms: i64,
    /// What the last scrape said of its metrics.
    #[serde(skip)]
    pub metadata: Arc<[MetricMetadata]>,
}

/// The states of the targets that are scraped now.
pub type TargetList = Arc<Mutex<Vec<Arc<Mutex<TargetStatus>>>>>;

/// What relabelling dropped: by job, how many, and the labels before it of those that are shown.
pub type Dropped = BTreeMap<String, (usize, Vec<Labels>)>;

/// Tells a scraper what to scrape, before and while it runs.
#[derive(Clone)]
pub struct ScrapeControl {
    jobs: Arc<watch::Sender<Vec<Arc<Job>>>>,
    dropped: Arc<Mutex<Dropped>>,
    counters: Counters,
}

impl ScrapeControl {
    fn new(global: &Global, configs: &[ScrapeConfig]) -> ScrapeControl {
        let control = ScrapeControl {
            jobs: Arc::new(watch::Sender::new(Vec::new())),
            dropped: Arc::default(),
            counters: Counters::default(),
        };
        control.set(global, configs);
        control
    }

    /// Replaces the jobs. A target that stays as it was goes on undisturbed; one that is scraped otherwise now keeps its
    /// series; one that is gone is ended with staleness markers.
    pub fn set(&self, global: &Global, configs: &[ScrapeConfig]) {
        let before = self.jobs.borrow().clone();
        let mut jobs = Vec::new();
        for config in configs {
            match Job::new(global, config) {
                // Its client and its token stay.
                Ok(job) => match before.iter().find(|known| known.identity == job.identity) {
                    Some(known) => jobs.push(known.clone()),
                    None => jobs.push(Arc::new(job)),
                },
                Err(error) => tracing::error!(error, job = config.job_name, "a job cannot be scraped"),
            }
        }
        self.counters.pools.set(jobs.len() as i64);
        self.counters.reloads.inc();
        self.jobs.send_replace(jobs);
    }

    pub fn dropped(&self) -> Dropped {
        self.dropped.lock().clone()
    }
}

pub struct Scraper {
    pub control: ScrapeControl,
    tenant: String,
    producer: Arc<dyn Producer>,
    pub status: TargetList,
    discovery: Discovery,
    texts: Texts,
}

/// A target that is being scraped, by [`Target::key`].
struct Running {
    stop: CancellationToken,
    status: Arc<Mutex<TargetStatus>>,
    target: watch::Sender<Arc<Target>>,
}

impl Scraper {
    pub fn new(
        global: &Global,
        configs: &[ScrapeConfig],
        tenant: String,
        producer: Arc<dyn Producer>,
        metrics: &Metrics,
    ) -> Scraper {
        let control = ScrapeControl::new(global, configs);
        control.counters.register(metrics);
        let (discovery, texts) = (Discovery::new(metrics), Texts::default());
        Scraper { control, tenant, producer, status: TargetList::default(), discovery, texts }
    }

    /// Scrapes until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut wanted = self.control.jobs.subscribe();
        let mut found = self.discovery.subscribe();
        let (mut running, mut loops) = (HashMap::new(), JoinSet::new());
        while !stop.is_cancelled() {
            let jobs = wanted.borrow_and_update().clone();
            self.discovery.sync(jobs.iter().map(|job| &job.config), &stop);
            found.mark_unchanged();
            self.apply(&jobs, &stop, &mut running, &mut loops);
            loop {
                tokio::select! {
                    changed = wanted.changed() => {
                        assert!(changed.is_ok(), "we hold a sender ourselves");
                        break;
                    }
                    changed = found.changed() => {
                        assert!(changed.is_ok(), "we hold a sender ourselves");
                        tokio::select! {
                            () = tokio::time::sleep(SETTLE) => {}
                            () = stop.cancelled() => {}
                        }
                        break;
                    }
                    () = stop.cancelled() => break,
                    Some(ended) = loops.join_next() => failed(ended),
                }
            }
        }
        self.discovery.stop().await;
        while let Some(ended) = loops.join_next().await {
            failed(ended);
        }
    }

    /// The targets of a job, and whether there are too many.
    fn targets(&self, job: &Arc<Job>) -> Targets {
        let discovered = self.discovery.targets(&job.config.job_name);
        let targets = targets(job, static_targets(&job.config).chain(discovered));
        let (count, limit) = (targets.kept.len() as u64, job.config.target_limit);
        let refusal = (limit > 0 && count > limit)
            .then(|| format!("target_limit exceeded (number of targets: {count}, limit: {limit})"));
        if refusal.is_some() {
            self.control.counters.over_target_limit.inc();
        }
        *job.refusal.lock() = refusal;
        targets
    }

    /// Starts what is new, stops what is not wanted any more.
    fn apply(
        &self,
        jobs: &[Arc<Job>],
        stop: &CancellationToken,
        running: &mut HashMap<u128, Running>,
        loops: &mut JoinSet<()>,
    ) {
        let (mut kept, mut statuses, mut dropped) = (HashMap::new(), Vec::new(), Dropped::new());
        for job in jobs {
            let targets = self.targets(job);
            dropped.insert(job.config.job_name.clone(), (targets.dropped_count, targets.dropped));
            for target in targets.kept {
                let (key, target) = (target.key(), Arc::new(target));
                let one = match running.remove(&key) {
                    Some(one) => {
                        one.retarget(&target);
                        one
                    }
                    None => self.start(target, stop, loops),
                };
                statuses.push(one.status.clone());
                kept.insert(key, one);
            }
        }
        running.values().for_each(|gone| gone.stop.cancel());
        *running = kept;
        self.control.counters.targets.set(statuses.len() as i64);
        *self.control.dropped.lock() = dropped;
        *self.status.lock() = statuses;
    }

    fn start(&self, target: Arc<Target>, stop: &CancellationToken, loops: &mut JoinSet<()>) -> Running {
        let status = Arc::new(Mutex::new(TargetStatus::new(&target)));
        let running =
            Running { stop: stop.child_token(), status: status.clone(), target: watch::Sender::new(target.clone()) };
        let counters = self.control.counters.clone();
        let beat = Loop {
            producer: self.producer.clone(),
            history: History::new(target, self.tenant.clone(), self.texts.clone(), counters.clone()),
            counters,
            target: running.target.subscribe(),
            status,
        };
        loops.spawn(beat.run(running.stop.clone(), stop.clone()));
        running
    }
}

impl Running {
    /// Goes on with what is said of the same target now.
    fn retarget(&self, target: &Arc<Target>) {
        let is_same = self.target.borrow().is_as(target);
        {
            let mut status = self.status.lock();
            status.discovered_labels = target.discovered.clone();
            status.scrape_interval_ms = target.interval.as_millis() as i64;
            status.scrape_timeout_ms = target.timeout.as_millis() as i64;
        }
        if !is_same {
            self.target.send_replace(target.clone());
        }
    }
}

fn failed(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "scraping a target failed");
    }
}

impl TargetStatus {
    fn new(target: &Target) -> TargetStatus {
        TargetStatus {
            discovered_labels: target.discovered.clone(),
            labels: target.labels.clone(),
            scrape_pool: target.job.config.job_name.clone(),
            scrape_url: target.url.clone(),
            health: "unknown",
            last_error: String::new(),
            last_scrape_ms: 0,
            last_scrape_duration_seconds: 0.0,
            scrape_interval_ms: target.interval.as_millis() as i64,
            scrape_timeout_ms: target.timeout.as_millis() as i64,
            metadata: Arc::default(),
        }
    }
}

#[cfg(test)]
mod tests;
