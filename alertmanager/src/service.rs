//! The running router: events in from the bus, flushes out to receivers.
//!
//! One task consumes the topic and applies events in offset order; one loop starts the flushes that are due, each in a
//! task of its own. Whoever adds an event waits until it is durable *and* applied, so that a client reads its own
//! writes. Nothing is sent before everything acknowledged before the start has been applied: the notification log must
//! be complete before it can say what is news.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bus::{Bus, BusError, Offset, Topic, append_all};
use disk::{Disk, DiskLock, write_atomically};
use model::{Alert, AlertEvents, Batch, Fingerprint, Labels, now_ms};
use parking_lot::Mutex;
use service::metrics::{Counter, CounterBy, Metrics};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, ConfigError};
use crate::dedup::{LogEntry, needs_update};
use crate::dispatch::{Dispatcher, Flush};
use crate::inhibit::inhibited_by;
use crate::notify::{Integration, Memory, Notice, attempt};
use crate::state::{Event, RETENTION_MS, Snapshot, State};

const PARTITION: u32 = 0;
const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(30);
/// However short group_interval is, delivery is tried for at least this long.
const MIN_RETRY_MS: i64 = 10_000;
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
/// After the bus failed.
const RETRY: Duration = Duration::from_secs(5);
const MAX_BACKOFF: Duration = Duration::from_secs(60);

pub struct Options {
    pub dir: PathBuf,
    /// Alertmanager's configuration; `None` sends nothing.
    pub config_path: Option<PathBuf>,
    /// Where people reach this process.
    pub external_url: String,
    /// Go on where the bus no longer holds what comes after the snapshot.
    pub accept_loss: bool,
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
struct Counters {
    sent: CounterBy,
    failed: CounterBy,
    events: Counter,
}

/// What the lock protects: the view, and the groups made of it.
pub(crate) struct Core {
    pub state: State,
    pub dispatcher: Dispatcher,
    pub config: Arc<Config>,
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
    wake: Notify,
    counters: Counters,
    /// Why nothing is consumed, if so; then nothing is sent either.
    failed: Mutex<Option<String>>,
    _lock: Box<dyn DiskLock>,
}

impl Alertmanager {
    /// Loads configuration and snapshot. Events after the snapshot are applied by [`Alertmanager::run`].
    pub async fn open(
        options: Options,
        bus: Arc<dyn Bus>,
        disk: Arc<dyn Disk>,
        metrics: &Metrics,
    ) -> Result<Arc<Alertmanager>, AlertmanagerError> {
        let config = Arc::new(load(options.config_path.as_deref())?);
        let lock = lock(disk.as_ref(), &options.dir)?;
        let snapshot = load_snapshot(disk.as_ref(), &options.dir)?.unwrap_or_default();
        let start = bus.start_offset(Topic::Alerts, PARTITION).await?;
        let end_at_start = bus.end_offset(Topic::Alerts, PARTITION).await?;
        // Another bus is replayed from its start, over what is known: events carry whole states, a repeat changes nothing.
        let mut next = if snapshot.bus_id == bus.id() { snapshot.next_offset } else { start };
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
        let state = State::restore(snapshot);
        let mut dispatcher = Dispatcher::default();
        regroup(&mut dispatcher, &config, &state);
        let counters = Counters::default();
        metrics.register(|registry| {
            registry.register("alertmanager_notifications", "Notifications delivered", counters.sent.clone());
            registry.register("alertmanager_notification_failures", "Notifications given up", counters.failed.clone());
            registry.register("alertmanager_events", "Events applied", counters.events.clone());
        });
        Ok(Arc::new(Alertmanager {
            core: Mutex::new(Core { state, dispatcher, config }),
            options,
            started: Instant::now(),
            bus,
            disk,
            applied: watch::Sender::new(next),
            end_at_start,
            wake: Notify::new(),
            counters,
            failed: Mutex::new(failed),
            _lock: lock,
        }))
    }

    /// 200 of `/-/ready` once everything acknowledged before the start is applied.
    pub fn ready(&self) -> Result<(), String> {
        if let Some(reason) = self.failed.lock().clone() {
            return Err(reason);
        }
        let (applied, end) = (*self.applied.borrow(), self.end_at_start);
        if applied >= end { Ok(()) } else { Err(format!("alertmanager: applied {applied} of {end} events")) }
    }

    /// Reads the configuration again; on a mistake the old one stays.
    pub fn reload(&self) -> Result<(), String> {
        let config = load(self.options.config_path.as_deref()).map_err(|error| error.to_string())?;
        let mut core = self.core.lock();
        core.config = Arc::new(config);
        let mut dispatcher = Dispatcher::default();
        regroup(&mut dispatcher, &core.config, &core.state);
        core.dispatcher = dispatcher;
        drop(core);
        self.wake.notify_one();
        Ok(())
    }

    /// Accepts alerts; returns when they are durable and visible.
    pub async fn post(&self, alerts: Vec<Alert>) -> Result<(), BusError> {
        self.record(alerts.into_iter().map(|alert| Event::Alert { alert }).collect()).await
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
                let mut ticks = tokio::time::interval(SNAPSHOT_INTERVAL);
                loop {
                    tokio::select! {
                        _ = ticks.tick() => self.save_and_warn(),
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
                self.apply(events);
            }
            self.applied.send_replace(delivery.offset + 1);
            self.wake.notify_one();
        }
    }

    fn apply(&self, events: &AlertEvents) {
        let now_ms = now_ms();
        let mut core = self.core.lock();
        for text in &events.events {
            self.counters.events.inc();
            let event = match serde_json::from_str::<Event>(text) {
                Ok(event) => event,
                Err(error) => {
                    tracing::error!(%error, "an event on the bus cannot be read; it is left out");
                    continue;
                }
            };
            if let Some(fingerprint) = core.state.apply(event) {
                let Core { state, dispatcher, config } = &mut *core;
                dispatcher.insert(&config.root, &state.alerts[&fingerprint], now_ms);
            }
        }
    }

    /// Starts flushes as they fall due.
    async fn route(self: Arc<Self>, stop: CancellationToken) {
        let mut applied = self.applied.subscribe();
        tokio::select! {
            _ = applied.wait_for(|applied| *applied >= self.end_at_start) => {}
            () = stop.cancelled() => return,
        }
        let mut flushes = JoinSet::new();
        loop {
            for flush in self.core.lock().dispatcher.take_due(now_ms()) {
                flushes.spawn(self.clone().flush(flush));
            }
            let due_ms = self.core.lock().dispatcher.next_due_ms();
            let wait_ms = due_ms.map_or(60_000, |due_ms| (due_ms - now_ms()).clamp(0, 60_000));
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(wait_ms as u64)) => {}
                () = self.wake.notified() => {}
                Some(ended) = flushes.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "a flush failed");
                    }
                }
                () = stop.cancelled() => return flushes.shutdown().await,
            }
        }
    }

    /// One flush of one group: mutes, then every integration of its receiver.
    async fn flush(self: Arc<Self>, flush: Flush) {
        let now_ms = now_ms();
        let (alerts, resolved, config) = self.alerts_of(&flush, now_ms);
        let integrations = config.receivers.get(&flush.options.receiver).map_or(&[][..], Vec::as_slice);
        let told = integrations.iter().enumerate().map(|(i, integration)| {
            let name = format!("{}/{}[{i}]", flush.options.receiver, integration.kind());
            self.tell(integration, name, &flush, &alerts, &config, now_ms)
        });
        let everybody = futures::future::join_all(told).await.into_iter().all(|told| told);
        let mut core = self.core.lock();
        // An alert that fired again, or was updated, while the flush was under way stays.
        let unchanged = |alert: &&Alert| core.state.alerts.get(&alert.fingerprint()).is_none_or(|now| now == *alert);
        let leaving: Vec<Fingerprint> = match everybody {
            true => resolved.iter().filter(unchanged).map(Alert::fingerprint).collect(),
            false => Vec::new(),
        };
        core.dispatcher.finish(&flush.key, &leaving);
        drop(core);
        self.wake.notify_one();
    }

    /// The alerts of a group that are not muted, firing ones first; and all its resolved ones.
    fn alerts_of(&self, flush: &Flush, now_ms: i64) -> (Vec<Alert>, Vec<Alert>, Arc<Config>) {
        let core = self.core.lock();
        let all = flush.alerts.iter().filter_map(|fingerprint| core.state.alerts.get(fingerprint));
        let mut alerts: Vec<Alert> = all.cloned().collect();
        let resolved = alerts.iter().filter(|alert| alert.is_resolved_at(now_ms)).cloned().collect();
        if is_muted_now(&core.config, flush, now_ms) {
            alerts.clear();
        }
        alerts.retain(|alert| {
            core.silenced_by(&alert.labels, now_ms).is_empty() && core.inhibited_by(&alert.labels, now_ms).is_empty()
        });
        alerts.sort_by_key(|alert| (alert.is_resolved_at(now_ms), alert.starts_at_ms, alert.labels.clone()));
        (alerts, resolved, core.config.clone())
    }

    /// Tells one integration, if this is news to it; answers whether it knows all now.
    async fn tell(
        &self,
        integration: &Integration,
        name: String,
        flush: &Flush,
        alerts: &[Alert],
        config: &Config,
        now_ms: i64,
    ) -> bool {
        let ids = |is_resolved: bool| -> BTreeSet<Fingerprint> {
            let wanted = alerts.iter().filter(|alert| alert.is_resolved_at(now_ms) == is_resolved);
            wanted.map(Alert::fingerprint).collect()
        };
        let (firing, resolved) = (ids(false), ids(true));
        let (send_resolved, repeat_ms) = (integration.send_resolved(), flush.options.repeat_interval_ms);
        let last = self.core.lock().state.last_told(&flush.key, &name).cloned();
        let reason = needs_update(last.as_ref(), &firing, &resolved, send_resolved, repeat_ms, now_ms);
        let Some(reason) = reason else { return true };
        let shown: Vec<Alert> =
            alerts.iter().filter(|alert| send_resolved || !alert.is_resolved_at(now_ms)).cloned().collect();
        let notice = Notice {
            receiver: flush.options.receiver.clone(),
            group_key: flush.key.clone(),
            group_labels: flush.labels.clone(),
            route_labels: flush.options.labels.clone(),
            external_url: self.options.external_url.clone(),
            reason,
            alerts: shown,
            // What was said of an earlier incident is not taken up again.
            memory: last.filter(|last| !last.firing.is_empty()).map(|last| last.memory).unwrap_or_default(),
            now_ms,
        };
        // Where resolved alerts are not sent, a batch of them alone counts as told.
        let give_up_ms = now_ms + flush.options.group_interval_ms.max(MIN_RETRY_MS);
        let mut memory = notice.memory.clone();
        if !notice.alerts.is_empty() {
            match self.deliver(integration, &name, &notice, config, give_up_ms).await {
                Some(learned) => memory = learned,
                None => return false,
            }
        }
        let expires_at_ms = now_ms + RETENTION_MS.min(2 * repeat_ms);
        let entry = LogEntry {
            group_key: flush.key.clone(),
            integration: name,
            firing,
            resolved,
            memory,
            at_ms: now_ms,
            expires_at_ms,
        };
        if let Err(error) = self.record(vec![Event::Notified { entry: entry.clone() }]).await {
            // It was delivered: remembered here at least, so that a full disk does not repeat every page.
            tracing::error!(%error, "the notification log could not be written");
            self.core.lock().state.apply(Event::Notified { entry });
        }
        true
    }

    /// Tries until it is taken, refused for good, or time is up; answers what to remember of the group.
    async fn deliver(
        &self,
        integration: &Integration,
        name: &str,
        notice: &Notice,
        config: &Config,
        give_up_ms: i64,
    ) -> Option<Memory> {
        let label = ("integration", integration.kind().to_owned());
        let mut backoff = FIRST_BACKOFF;
        loop {
            let failure = match attempt(integration, notice, &config.templates).await {
                Ok(memory) => {
                    self.counters.sent.get_or_create(&vec![label]).inc();
                    return Some(memory);
                }
                Err(failure) => failure,
            };
            let is_over = now_ms() + backoff.as_millis() as i64 > give_up_ms;
            tracing::warn!(integration = name, group = notice.group_key, error = %failure, gives_up = is_over || !failure.retry, "notification failed");
            if is_over || !failure.retry {
                let reason = ("reason", failure.reason.name().to_owned());
                self.counters.failed.get_or_create(&vec![label, reason]).inc();
                return None;
            }
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(MAX_BACKOFF);
        }
    }

    /// Writes the snapshot and lets the bus drop what it holds.
    pub fn save(&self) -> Result<(), AlertmanagerError> {
        let snapshot = {
            let mut core = self.core.lock();
            core.state.forget(now_ms());
            core.state.snapshot(self.bus.id(), *self.applied.borrow())
        };
        let path = snapshot_path(&self.options.dir);
        let fail = |message: String| AlertmanagerError::Snapshot { path: path.clone(), message };
        let bytes = serde_json::to_vec(&snapshot).map_err(|error| fail(error.to_string()))?;
        write_atomically(self.disk.as_ref(), &path, &bytes).map_err(|error| fail(error.to_string()))?;
        self.bus.release(Topic::Alerts, PARTITION, snapshot.next_offset);
        Ok(())
    }

    fn save_and_warn(&self) {
        if let Err(error) = self.save() {
            tracing::warn!(%error, "the state could not be saved; the bus keeps it");
        }
    }
}

impl Core {
    pub fn silenced_by(&self, labels: &Labels, now_ms: i64) -> Vec<String> {
        self.state.silences.matching(labels, now_ms)
    }

    pub fn inhibited_by(&self, labels: &Labels, now_ms: i64) -> Vec<Fingerprint> {
        inhibited_by(&self.config.inhibit_rules, self.state.firing(now_ms), labels)
    }
}

/// Whether the route is quiet now: outside its active times, or inside a muted one.
fn is_muted_now(config: &Config, flush: &Flush, now_ms: i64) -> bool {
    let holds = |name: &String| {
        config.time_intervals.get(name).is_some_and(|intervals| intervals.iter().any(|one| one.contains(now_ms)))
    };
    let (active, muted) = (&flush.options.active_time_intervals, &flush.options.mute_time_intervals);
    (!active.is_empty() && !active.iter().any(holds)) || muted.iter().any(holds)
}

/// Groups everything that is known, after a start or a change of routes.
fn regroup(dispatcher: &mut Dispatcher, config: &Config, state: &State) {
    let now_ms = now_ms();
    for alert in state.alerts.values() {
        dispatcher.insert(&config.root, alert, now_ms);
    }
}

fn snapshot_path(dir: &Path) -> PathBuf {
    dir.join("state.json")
}

/// The configuration, with everything that its connections need.
fn load(path: Option<&Path>) -> Result<Config, ConfigError> {
    let config = Config::load(path)?;
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

fn load_snapshot(disk: &dyn Disk, dir: &Path) -> Result<Option<Snapshot>, AlertmanagerError> {
    let path = snapshot_path(dir);
    let fail = |message: String| AlertmanagerError::Snapshot { path: path.clone(), message };
    match disk.read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| fail(error.to_string())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(fail(error.to_string())),
    }
}

#[cfg(test)]
mod tests;
