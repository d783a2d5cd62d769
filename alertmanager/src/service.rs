//! The running router: events in from the bus, flushes out to receivers.
//!
//! One task consumes the topic and applies events in offset order; one loop starts the flushes that are due, each in a
//! task of its own. Whoever adds an event waits until it is durable *and* applied, so that a client reads its own
//! writes. Nothing is sent before everything acknowledged before the start has been applied: the notification log must
//! be complete before it can say what is news.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bus::{Bus, BusError, Offset, Topic, append_all};
use disk::{Disk, DiskLock};
use futures::FutureExt;
use model::{Alert, AlertEvents, Batch, Fingerprint, Labels, now_ms};
use parking_lot::Mutex;
use service::metrics::{Counter, CounterBy, Gauge, Metrics};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, ConfigError};
use crate::dispatch::Dispatcher;
use crate::history::History;
use crate::inhibit::Inhibitor;
use crate::matchers::MatcherMode;
use crate::silence::SilenceLimits;
use crate::snapshot::{self, Header, Image};
use crate::state::{Event, State};

const PARTITION: u32 = 0;
/// Between two looks at what has ended and what should be saved.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(10);
const SAVE_INTERVAL: Duration = Duration::from_secs(30);
/// Saving a million alerts is work: with so many more alerts it is done once less often.
const ALERTS_PER_SAVE_INTERVAL: u32 = 100_000;
/// Alerts kept; a post that would add more is refused as a whole, to be sent again.
const MAX_ALERTS: usize = 4_000_000;
/// Flushes to one receiver at a time: a storm of groups must not take every connection, nor a dead receiver the others'.
const FLUSHES_PER_RECEIVER: usize = 128;
/// After the bus failed.
const RETRY: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
pub struct Options {
    pub dir: PathBuf,
    /// Alertmanager's configuration; `None` sends nothing.
    pub config_path: Option<PathBuf>,
    /// Where people reach this process.
    pub external_url: String,
    /// Go on where the bus no longer holds what comes after the snapshot.
    pub accept_loss: bool,
    /// How long expired silences, the notification log and history are kept.
    pub retention_ms: i64,
    pub silence_limits: SilenceLimits,
    /// Alerts of one name that may fire at once; 0 is no limit.
    pub alerts_per_name: usize,
    /// Nothing is sent before this has passed since the start.
    pub start_delay: Duration,
    /// How matchers and label names are read.
    pub mode: MatcherMode,
    /// What `/api/v2/status` shows of a cluster that there is not; `None` where clustering is off.
    pub cluster_address: Option<String>,
    pub cluster_name: String,
}

impl Options {
    /// Alertmanager's defaults.
    pub fn new(dir: PathBuf, external_url: String) -> Options {
        Options {
            dir,
            config_path: None,
            external_url,
            accept_loss: false,
            retention_ms: 120 * 3_600_000,
            silence_limits: SilenceLimits::default(),
            alerts_per_name: 0,
            start_delay: Duration::ZERO,
            mode: MatcherMode::default(),
            cluster_address: None,
            cluster_name: String::new(),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum AlertmanagerError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Bus(#[from] BusError),
    #[error("{}: {message}", path.display())]
    Snapshot { path: PathBuf, message: String },
    #[error("{}: another process has it: {source}", path.display())]
    Locked { path: PathBuf, source: std::io::Error },
}

#[derive(Default)]
pub(crate) struct Counters {
    pub sent: CounterBy,
    pub failed: CounterBy,
    pub events: Counter,
    /// Alerts over the limit per name.
    pub limited: Counter,
    pub alerts: Gauge,
    pub groups: Gauge,
    pub silences: Gauge,
}

impl Counters {
    fn register(&self, metrics: &Metrics) {
        metrics.register(|registry| {
            registry.register("alertmanager_notifications", "Notifications delivered", self.sent.clone());
            registry.register("alertmanager_notification_failures", "Notifications given up", self.failed.clone());
            registry.register("alertmanager_events", "Events applied", self.events.clone());
            registry.register("alertmanager_alerts_limited", "Alerts over the limit per name", self.limited.clone());
            registry.register("alertmanager_alerts", "Alerts kept, resolved ones too", self.alerts.clone());
            registry.register("alertmanager_groups", "Groups of alerts", self.groups.clone());
            registry.register("alertmanager_silences_active", "Silences that are active", self.silences.clone());
        });
    }
}

/// What the lock protects: the view, and what is made of it.
pub(crate) struct Core {
    pub state: State,
    pub dispatcher: Dispatcher,
    pub inhibitor: Inhibitor,
    pub config: Arc<Config>,
    pub history: History,
}

impl Core {
    pub fn silenced_by(&self, labels: &Labels, now_ms: i64) -> Vec<String> {
        self.state.silences.matching(labels, now_ms)
    }

    pub fn inhibited_by(&self, labels: &Labels, now_ms: i64) -> Vec<Fingerprint> {
        self.inhibitor.inhibited_by(labels, &self.state.alerts, now_ms)
    }

    pub fn is_muted(&self, alert: &Alert, now_ms: i64) -> bool {
        self.state.is_silenced(&alert.labels, now_ms) || !self.inhibited_by(&alert.labels, now_ms).is_empty()
    }

    fn use_config(&mut self, config: Arc<Config>) {
        self.dispatcher.regroup(&config.root, self.state.alerts.iter(), now_ms());
        self.inhibitor = Inhibitor::new(&config.inhibit_rules, self.state.alerts.iter());
        self.config = config;
    }

    fn apply(&mut self, event: Event, offset: Offset, now_ms: i64) {
        let applied = self.state.apply(event);
        applied.records.iter().for_each(|record| self.history.add(offset, record));
        let Some((fingerprint, is_new)) = applied.alert else { return };
        let alert = &self.state.alerts[&fingerprint];
        self.dispatcher.insert(&self.config.root, fingerprint, alert, now_ms);
        if is_new {
            self.inhibitor.insert(fingerprint, &alert.labels);
        }
    }

    /// Drops what is too old, and tells history what has ended.
    fn tidy_up(&mut self, offset: Offset, retention_ms: i64) {
        let now_ms = now_ms();
        self.state.sweep(now_ms).iter().for_each(|record| self.history.add(offset, record));
        let gone = self.state.forget(&self.dispatcher.held(), retention_ms, now_ms);
        for alert in gone {
            let fingerprint = alert.fingerprint();
            self.dispatcher.drop_alert(&self.config.root, fingerprint, &alert.labels);
            self.inhibitor.remove(fingerprint, &alert.labels);
        }
    }
}

pub struct Alertmanager {
    pub(crate) core: Mutex<Core>,
    pub(crate) options: Options,
    pub(crate) started: Instant,
    bus: Arc<dyn Bus>,
    disk: Arc<dyn Disk>,
    /// The offset after the last applied event.
    applied: watch::Sender<Offset>,
    /// The end of the topic when this process opened it.
    end_at_start: Offset,
    pub(crate) wake: Notify,
    pub(crate) counters: Counters,
    /// Why nothing is consumed, if so; then nothing is sent either.
    failed: Mutex<Option<String>>,
    saving: Mutex<Saved>,
    /// By receiver.
    lanes: Mutex<HashMap<String, Arc<Semaphore>>>,
    _lock: Box<dyn DiskLock>,
}

/// The last snapshot.
struct Saved {
    at: Instant,
    next_offset: Offset,
}

impl Alertmanager {
    /// Loads configuration and snapshot. Events after the snapshot are applied by [`Alertmanager::run`].
    pub async fn open(
        options: Options,
        bus: Arc<dyn Bus>,
        disk: Arc<dyn Disk>,
        metrics: &Metrics,
    ) -> Result<Arc<Alertmanager>, AlertmanagerError> {
        let config = Arc::new(load(&options)?);
        let lock = lock(disk.as_ref(), &options.dir)?;
        let path = snapshot_path(&options.dir);
        let fail =
            |error: std::io::Error| AlertmanagerError::Snapshot { path: path.clone(), message: error.to_string() };
        let (header, state) = snapshot::read(disk.as_ref(), &path).map_err(fail)?.unwrap_or_default();
        let dir = options.dir.join("history");
        let history = History::open(disk.clone(), dir, header.history_end, options.retention_ms).map_err(fail)?;
        let start = bus.start_offset(Topic::Alerts, PARTITION).await?;
        let end_at_start = bus.end_offset(Topic::Alerts, PARTITION).await?;
        // Another bus is replayed from its start, over what is known: events carry whole states, a repeat changes nothing.
        let mut next = if header.bus_id == bus.id() { header.next_offset } else { start };
        let mut failed = None;
        if !(start..=end_at_start).contains(&next) {
            let lost = format!("alertmanager: offset {next} is outside the log, which holds {start}..{end_at_start}");
            if options.accept_loss {
                tracing::warn!("{lost}; going on at {start}, as --accept-loss says");
                next = start;
            } else {
                failed = Some(format!("{lost}; start with --accept-loss to go on"));
            }
        }
        let (dispatcher, inhibitor) = Default::default();
        let mut core = Core { state, dispatcher, inhibitor, config: config.clone(), history };
        core.use_config(config);
        let counters = Counters::default();
        counters.register(metrics);
        let router = Arc::new(Alertmanager {
            core: Mutex::new(core),
            options,
            started: Instant::now(),
            bus,
            disk,
            applied: watch::Sender::new(next),
            end_at_start,
            wake: Notify::new(),
            counters,
            failed: Mutex::new(failed),
            lanes: Mutex::default(),
            saving: Mutex::new(Saved { at: Instant::now(), next_offset: header.next_offset }),
            _lock: lock,
        });
        Ok(router)
    }

    /// 200 of `/-/ready` once everything acknowledged before the start is applied.
    pub fn ready(&self) -> Result<(), String> {
        if let Some(reason) = self.failed.lock().clone() {
            return Err(reason);
        }
        let (applied, end) = (*self.applied.borrow(), self.end_at_start);
        if applied >= end { Ok(()) } else { Err(format!("alertmanager: applied {applied} of {end} events")) }
    }

    /// The next offset to apply.
    pub fn applied(&self) -> Offset {
        *self.applied.borrow()
    }

    /// Reads the configuration again; on a mistake the old one stays.
    pub fn reload(&self) -> Result<(), String> {
        let config = load(&self.options).map_err(|error| error.to_string())?;
        self.core.lock().use_config(Arc::new(config));
        self.wake.notify_one();
        Ok(())
    }

    /// Accepts alerts; returns when they are durable and visible.
    pub async fn post(&self, mut alerts: Vec<Alert>) -> Result<(), BusError> {
        if self.options.alerts_per_name > 0 {
            self.drop_excess(&mut alerts);
        }
        if self.core.lock().state.alerts.len() + alerts.len() > MAX_ALERTS {
            return Err(BusError::Unavailable(format!("more than {MAX_ALERTS} alerts")));
        }
        self.record(alerts.into_iter().map(|alert| Event::Alert(Arc::new(alert))).collect()).await
    }

    /// Leaves out new alerts of names that have enough.
    fn drop_excess(&self, alerts: &mut Vec<Alert>) {
        let core = self.core.lock();
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for (_, alert) in core.state.firing(now_ms()) {
            *counts.entry(alert.name()).or_default() += 1;
        }
        let counts: HashMap<String, usize> = counts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
        let mut added: HashMap<String, usize> = HashMap::new();
        alerts.retain(|alert| {
            let count = added.entry(alert.name().to_owned()).or_default();
            let has_room = counts.get(alert.name()).copied().unwrap_or(0) + *count < self.options.alerts_per_name;
            let is_known = core.state.alerts.contains_key(&alert.fingerprint());
            *count += usize::from(!is_known && has_room);
            if !is_known && !has_room {
                self.counters.limited.inc();
            }
            is_known || has_room
        });
    }

    /// Makes events durable, and waits until they are applied here.
    pub(crate) async fn record(&self, events: Vec<Event>) -> Result<(), BusError> {
        if events.is_empty() {
            return Ok(());
        }
        if let Some(reason) = self.failed.lock().clone() {
            return Err(BusError::Unavailable(reason));
        }
        let events = events.iter().map(|event| serde_json::to_string(event).expect("events are plain data")).collect();
        let batch = Batch::Alerts(AlertEvents { tenant: model::DEFAULT_TENANT.to_owned(), events });
        let offsets = append_all(self.bus.as_ref(), Topic::Alerts, batch).await?;
        let end = offsets.iter().map(|(_, offset)| offset + 1).max().unwrap_or(0);
        let mut applied = self.applied.subscribe();
        applied.wait_for(|applied| *applied >= end).await.map_err(|_| BusError::Closed)?;
        Ok(())
    }

    /// Runs until stopped: applies events, starts flushes, writes snapshots.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        if self.failed.lock().is_none() {
            let consuming = async {
                tokio::select! {
                    () = self.consume() => stop.cancelled().await,
                    () = stop.cancelled() => {}
                }
            };
            let saving = async {
                let mut ticks = tokio::time::interval(UPKEEP_INTERVAL);
                loop {
                    tokio::select! {
                        _ = ticks.tick() => self.clone().upkeep().await,
                        () = stop.cancelled() => return,
                    }
                }
            };
            tokio::join!(consuming, self.clone().route(stop.clone()), saving);
            self.save_and_warn();
        }
        stop.cancelled().await;
    }

    /// Applies events as they come. What may pass is tried again; what may not leaves the router not ready.
    async fn consume(&self) {
        loop {
            let Err(error) = self.follow().await;
            match error {
                BusError::Unavailable(_) | BusError::Full { .. } | BusError::Io { .. } => {
                    tracing::warn!(%error, "the alerts topic cannot be read; trying again");
                    tokio::time::sleep(RETRY).await;
                }
                BusError::Closed => return,
                BusError::TooLarge { .. } | BusError::OutOfRange { .. } | BusError::Corrupt(_) => {
                    tracing::error!(%error, "the alerts topic cannot be read");
                    *self.failed.lock() = Some(format!("alertmanager: {error}"));
                    return;
                }
            }
        }
    }

    async fn follow(&self) -> Result<Infallible, BusError> {
        let from = *self.applied.borrow();
        let mut consumer = self.bus.subscribe(Topic::Alerts, PARTITION, from).await?;
        loop {
            let delivery = consumer.next().await?;
            if let Batch::Alerts(events) = delivery.batch.as_ref() {
                self.apply(events, delivery.offset);
            }
            self.applied.send_replace(delivery.offset + 1);
            self.wake.notify_one();
        }
    }

    fn apply(&self, events: &AlertEvents, offset: Offset) {
        let now_ms = now_ms();
        let parsed = events.events.iter().map(|text| serde_json::from_str::<Event>(text));
        let parsed: Vec<_> = parsed.collect();
        let mut core = self.core.lock();
        for event in parsed {
            self.counters.events.inc();
            match event {
                Ok(event) => core.apply(event, offset, now_ms),
                Err(error) => tracing::error!(%error, "an event on the bus cannot be read; it is left out"),
            }
        }
        self.count(&core);
    }

    /// Starts flushes as they fall due.
    async fn route(self: Arc<Self>, stop: CancellationToken) {
        let mut applied = self.applied.subscribe();
        tokio::select! {
            _ = applied.wait_for(|applied| *applied >= self.end_at_start) => {}
            () = stop.cancelled() => return,
        }
        tokio::select! {
            () = tokio::time::sleep(self.options.start_delay.saturating_sub(self.started.elapsed())) => {}
            () = stop.cancelled() => return,
        }
        let mut flushes = JoinSet::new();
        loop {
            let due = self.core.lock().dispatcher.take_due(now_ms());
            for flush in due {
                let (this, lane) = (self.clone(), self.lane(&flush.options.receiver));
                flushes.spawn(async move {
                    // Nobody closes a lane.
                    let _permit = lane.acquire_owned().await.ok();
                    let work = AssertUnwindSafe(this.clone().flush(flush.clone()));
                    if work.catch_unwind().await.is_err() {
                        tracing::error!(group = flush.key, "a flush failed; it is tried again at the group's interval");
                        this.core.lock().dispatcher.finish(&flush, &HashSet::new());
                    }
                });
            }
            let due_ms = self.core.lock().dispatcher.next_due_ms();
            let wait_ms = due_ms.map_or(60_000, |due_ms| (due_ms - now_ms()).clamp(0, 60_000));
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(wait_ms as u64)) => {}
                () = self.wake.notified() => {}
                Some(_) = flushes.join_next() => {}
                () = stop.cancelled() => return flushes.shutdown().await,
            }
        }
    }

    fn lane(&self, receiver: &str) -> Arc<Semaphore> {
        let mut lanes = self.lanes.lock();
        if let Some(lane) = lanes.get(receiver) {
            return lane.clone();
        }
        let lane = Arc::new(Semaphore::new(FLUSHES_PER_RECEIVER));
        lanes.insert(receiver.to_owned(), lane.clone());
        lane
    }

    /// Writes the snapshot and lets the bus drop what it holds.
    pub fn save(&self) -> Result<(), AlertmanagerError> {
        let mut saved = self.saving.lock();
        let path = snapshot_path(&self.options.dir);
        let fail =
            |error: std::io::Error| AlertmanagerError::Snapshot { path: path.clone(), message: error.to_string() };
        let image = {
            let mut core = self.core.lock();
            let next_offset = *self.applied.borrow();
            core.tidy_up(next_offset, self.options.retention_ms);
            core.history.sync(now_ms()).map_err(fail)?;
            let header = Header { bus_id: self.bus.id(), next_offset, history_end: core.history.end() };
            Image::of(&core.state, header)
        };
        let next_offset = image.next_offset();
        image.write(self.disk.as_ref(), &path).map_err(fail)?;
        self.bus.release(Topic::Alerts, PARTITION, next_offset);
        *saved = Saved { at: Instant::now(), next_offset };
        Ok(())
    }

    fn save_and_warn(&self) {
        if let Err(error) = self.save() {
            tracing::warn!(%error, "the state could not be saved; the bus keeps it");
        }
    }

    fn count(&self, core: &Core) {
        let set = |gauge: &Gauge, count: usize| gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        set(&self.counters.alerts, core.state.alerts.len());
        set(&self.counters.groups, core.dispatcher.len());
    }

    /// What has to be done now and then, off the async threads.
    async fn upkeep(self: Arc<Self>) {
        let this = self.clone();
        let work = move || {
            let (applied, is_due) = {
                let saved = this.saving.lock();
                let alerts = u32::try_from(this.core.lock().state.alerts.len()).unwrap_or(u32::MAX);
                let interval = SAVE_INTERVAL * (1 + alerts / ALERTS_PER_SAVE_INTERVAL);
                let applied = *this.applied.borrow();
                (applied, saved.at.elapsed() >= interval && saved.next_offset != applied)
            };
            match is_due {
                true => this.save_and_warn(),
                false => this.core.lock().tidy_up(applied, this.options.retention_ms),
            }
        };
        if let Err(error) = tokio::task::spawn_blocking(work).await {
            tracing::error!(%error, "the router's upkeep failed");
        }
        let core = self.core.lock();
        self.count(&core);
        self.counters.silences.set(core.state.active_silences(now_ms()) as i64);
    }
}

fn snapshot_path(dir: &Path) -> PathBuf {
    dir.join("state.jsonl")
}

/// The configuration, with everything that its connections need.
fn load(options: &Options) -> Result<Config, ConfigError> {
    let path = options.config_path.as_deref();
    let config = Config::load(path, options.mode)?;
    let path = path.unwrap_or(Path::new("default")).to_owned();
    config.prepare().map_err(|message| ConfigError { path, message })?;
    Ok(config)
}

/// One process at a time: two would overwrite each other's snapshots.
fn lock(disk: &dyn Disk, dir: &Path) -> Result<Box<dyn DiskLock>, AlertmanagerError> {
    let path = dir.join("lock");
    let locked = disk.create_dir_all(dir).and_then(|()| disk.lock(&path));
    locked.map_err(|source| AlertmanagerError::Locked { path, source })
}

#[cfg(test)]
mod tests;
