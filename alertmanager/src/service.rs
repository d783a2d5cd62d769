//! The running router: events in from the bus, flushes out to receivers.
//!
//! One task per partition consumes the topic and applies events in offset order; one loop starts the flushes that are due, each in a
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
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, ConfigError};
use crate::dispatch::Dispatcher;
use crate::history::History;
use crate::inhibit::Inhibitor;
use crate::journal::Journal;
use crate::matchers::MatcherMode;
use crate::peer::Peer;
use crate::position::{self, PARTITION, Position};
use crate::posted::{Plain, Reading};
use crate::silence::SilenceLimits;
use crate::snapshot::{self, Header, Image};
use crate::state::{Event, State};

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
    /// Whether other routers may share the bus.
    pub is_shared: bool,
    /// Whether somebody indexes the log lines of this bus: then history goes there too.
    pub has_index: bool,
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
            is_shared: false,
            has_index: false,
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
    /// Messages of others on the topic, and those of them that could not be used as a whole.
    pub plain: Counter,
    pub dead: Counter,
    pub routers: Gauge,
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
            registry.register("alertmanager_plain_messages", "Messages of others on the topic", self.plain.clone());
            registry.register("alertmanager_dead_letters", "Messages put aside", self.dead.clone());
            registry.register("alertmanager_routers", "Routers that share the topic", self.routers.clone());
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

    /// Takes the alerts out of somebody else's message, where there is room for them; says why it cannot be used as a whole.
    fn apply_plain(&mut self, plain: &Plain, options: &Options, offset: Offset, now_ms: i64) -> Option<String> {
        let reading = Reading { mode: options.mode, now_ms, resolve_timeout_ms: self.config.resolve_timeout_ms };
        let (mut alerts, fault) = plain.read(&self.state, &reading);
        let read = alerts.len();
        if options.alerts_per_name > 0 {
            self.drop_excess(&mut alerts, options.alerts_per_name);
        }
        let room = MAX_ALERTS.saturating_sub(self.state.alerts.len());
        alerts.truncate(room);
        let left_out = read - alerts.len();
        alerts.into_iter().for_each(|alert| self.apply(Event::Alert(Arc::new(alert)), offset, now_ms));
        let over = (left_out > 0).then(|| format!("{left_out} alerts are over a limit"));
        fault.or(over)
    }

    /// Leaves out new alerts of names that have enough.
    fn drop_excess(&self, alerts: &mut Vec<Alert>, limit: usize) {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for (_, alert) in self.state.firing(now_ms()) {
            *counts.entry(alert.name()).or_default() += 1;
        }
        let mut added: HashMap<String, usize> = HashMap::new();
        alerts.retain(|alert| {
            let count = added.entry(alert.name().to_owned()).or_default();
            let has_room = counts.get(alert.name()).copied().unwrap_or(0) + *count < limit;
            let is_known = self.state.alerts.contains_key(&alert.fingerprint());
            *count += usize::from(!is_known && has_room);
            is_known || has_room
        });
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
    /// By partition.
    positions: Vec<Position>,
    /// Where other routers may share the bus.
    pub(crate) peer: Option<Peer>,
    journal: Option<Arc<Journal>>,
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
    offsets: Vec<Offset>,
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
        let mut history = History::open(disk.clone(), dir, header.history_end, options.retention_ms).map_err(fail)?;
        history.journal = options.has_index.then(Arc::default);
        let journal = history.journal.clone();
        let (positions, failed) = position::open(bus.as_ref(), &header, options.accept_loss).await?;
        let peer = options.is_shared.then(|| Peer::open(disk.as_ref(), &options.dir)).transpose().map_err(fail)?;
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
            positions,
            peer,
            journal,
            wake: Notify::new(),
            counters,
            failed: Mutex::new(failed),
            lanes: Mutex::default(),
            saving: Mutex::new(Saved { at: Instant::now(), offsets: Vec::new() }),
            _lock: lock,
        });
        Ok(router)
    }

    /// 200 of `/-/ready` once everything acknowledged before the start is applied.
    pub fn ready(&self) -> Result<(), String> {
        if let Some(reason) = self.failed.lock().clone() {
            return Err(reason);
        }
        match self.positions.iter().find(|position| !position.is_caught_up()) {
            None => Ok(()),
            Some(position) => {
                Err(format!("alertmanager: applied {} of {} events", position.get(), position.end_at_start))
            }
        }
    }

    /// The next offset to apply, by partition.
    pub fn applied(&self) -> Vec<Offset> {
        self.positions.iter().map(Position::get).collect()
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
            let posted = alerts.len();
            self.core.lock().drop_excess(&mut alerts, self.options.alerts_per_name);
            self.counters.limited.inc_by((posted - alerts.len()) as u64);
        }
        if self.core.lock().state.alerts.len() + alerts.len() > MAX_ALERTS {
            return Err(BusError::Unavailable(format!("more than {MAX_ALERTS} alerts")));
        }
        self.record(alerts.into_iter().map(|alert| Event::Alert(Arc::new(alert))).collect()).await
    }

    /// Makes events durable, and waits until they are applied here.
    pub(crate) async fn record(&self, events: Vec<Event>) -> Result<(), BusError> {
        if events.is_empty() {
            return Ok(());
        }
        let end = self.append(events).await?;
        self.positions[PARTITION as usize].reaches(end).await
    }

    /// Makes events durable; the offset after them.
    pub(crate) async fn append(&self, events: Vec<Event>) -> Result<Offset, BusError> {
        if let Some(reason) = self.failed.lock().clone() {
            return Err(BusError::Unavailable(reason));
        }
        let events = events.iter().map(|event| serde_json::to_string(event).expect("events are plain data")).collect();
        let batch = Batch::Alerts(AlertEvents { tenant: model::DEFAULT_TENANT.to_owned(), events });
        let offsets = append_all(self.bus.as_ref(), Topic::Alerts, batch).await?;
        Ok(offsets.iter().map(|(_, offset)| offset + 1).max().unwrap_or(0))
    }

    /// Runs until stopped: applies events, starts flushes, writes snapshots.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        if self.failed.lock().is_none() {
            let partitions = 0..self.positions.len() as u32;
            let consuming = async {
                tokio::select! {
                    _ = futures::future::join_all(partitions.map(|partition| self.consume(partition))) => {
                        stop.cancelled().await;
                    }
                    () = self.beat() => {}
                    () = self.write_journal() => {}
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
            self.leave().await;
            // A snapshot waits for history's lines, so these go on meanwhile.
            let this = self.clone();
            let saving = tokio::task::spawn_blocking(move || this.save_and_warn());
            tokio::select! {
                _ = saving => {}
                () = self.write_journal() => {}
            }
        }
        stop.cancelled().await;
    }

    async fn write_journal(&self) {
        match &self.journal {
            Some(journal) => journal.run(self.bus.as_ref()).await,
            None => std::future::pending().await,
        }
    }

    /// Applies events as they come. What may pass is tried again; what may not leaves the router not ready.
    async fn consume(&self, partition: u32) {
        loop {
            let Err(error) = self.follow(partition).await;
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

    /// What cannot be used is put aside before the position moves past it: it may be there twice, but is never lost.
    async fn follow(&self, partition: u32) -> Result<Infallible, BusError> {
        let position = &self.positions[partition as usize];
        let mut consumer = self.bus.subscribe(Topic::Alerts, partition, position.get()).await?;
        loop {
            let delivery = consumer.next().await?;
            if let Batch::Alerts(events) = delivery.batch.as_ref() {
                // History is in the order of our own events.
                let own = &self.positions[PARTITION as usize];
                let offset = if partition == PARTITION { delivery.offset } else { own.get() };
                for letter in self.apply(events, offset) {
                    self.bus.put_aside(Topic::Alerts, letter).await?;
                    self.counters.dead.inc();
                }
            }
            position.applied.send_replace(delivery.offset + 1);
            self.wake.notify_one();
        }
    }

    /// When everything acknowledged before the start is applied.
    pub(crate) async fn caught_up(&self) {
        for position in &self.positions {
            // The sender lives as long as this.
            let _ = position.reaches(position.end_at_start).await;
        }
    }

    /// Applies events; answers what of other people's cannot be used.
    fn apply(&self, events: &AlertEvents, offset: Offset) -> Vec<String> {
        let mut letters = Vec::new();
        let now_ms = now_ms();
        let parsed = events.events.iter().map(|text| serde_json::from_str::<Event>(text));
        let parsed: Vec<_> = parsed.collect();
        let mut core = self.core.lock();
        for event in parsed {
            self.counters.events.inc();
            match event {
                Ok(Event::Plain(plain)) => {
                    self.counters.plain.inc();
                    let fault = core.apply_plain(&plain, &self.options, offset, now_ms);
                    letters.extend(fault.map(|reason| plain.letter(&reason)));
                }
                Ok(event) => core.apply(event, offset, now_ms),
                Err(error) => tracing::error!(%error, "an event on the bus cannot be read; it is left out"),
            }
        }
        self.count(&core);
        letters
    }

    /// Starts flushes as they fall due.
    async fn route(self: Arc<Self>, stop: CancellationToken) {
        let may_begin = async {
            self.caught_up().await;
            tokio::time::sleep(self.options.start_delay.saturating_sub(self.started.elapsed())).await;
            if let Some(peer) = &self.peer {
                peer.joined().await;
            }
        };
        tokio::select! {
            () = may_begin => {}
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
                        this.core.lock().dispatcher.finish(&flush, &HashSet::new(), i64::MAX);
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
        let (image, lines) = {
            let mut core = self.core.lock();
            let offsets = self.applied();
            core.tidy_up(offsets[PARTITION as usize], self.options.retention_ms);
            core.history.sync(now_ms()).map_err(fail)?;
            let (next_offset, further_offsets) = (offsets[PARTITION as usize], offsets[1..].to_vec());
            let header =
                Header { bus_id: self.bus.id(), next_offset, further_offsets, history_end: core.history.end() };
            let lines = self.journal.as_ref().map_or(0, |journal| journal.queued());
            (Image::of(&core.state, header), lines)
        };
        if self.journal.as_ref().is_some_and(|journal| !journal.reaches(lines)) {
            let message = "the bus does not take history's lines: it is saved later".to_owned();
            return Err(AlertmanagerError::Snapshot { path, message });
        }
        let Header { next_offset, further_offsets, .. } = image.header().clone();
        image.write(self.disk.as_ref(), &path).map_err(fail)?;
        let offsets: Vec<Offset> = [next_offset].into_iter().chain(further_offsets).collect();
        for (partition, offset) in (0..).zip(&offsets) {
            self.bus.release(Topic::Alerts, partition, *offset);
        }
        *saved = Saved { at: Instant::now(), offsets };
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
        set(&self.counters.routers, core.state.members.iter().count());
    }

    /// What has to be done now and then, off the async threads.
    async fn upkeep(self: Arc<Self>) {
        let this = self.clone();
        let work = move || {
            let (applied, is_due) = {
                let saved = this.saving.lock();
                let alerts = u32::try_from(this.core.lock().state.alerts.len()).unwrap_or(u32::MAX);
                let interval = SAVE_INTERVAL * (1 + alerts / ALERTS_PER_SAVE_INTERVAL);
                let applied = this.applied();
                let is_due = saved.at.elapsed() >= interval && saved.offsets != applied;
                (applied[PARTITION as usize], is_due)
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
