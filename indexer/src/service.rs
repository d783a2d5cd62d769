//! The indexer as a service: consumes the logs topic into a [`LogStore`] and keeps the store in shape.
//!
//! # Contracts
//! - One thread consumes each partition, from the offset in the store's manifest on. A line can be queried as soon as its
//!   record is applied.
//! - Records are released on the bus only once the manifest on disk covers them.
//! - [`Indexer::ready`] fails, with the reason, until everything that was acknowledged before the start is applied; and for
//!   good where the bus cannot give the records that the manifest asks for.
//! - [`Indexer::wait_applied`] returns when every record acknowledged before the call is applied: a strong read.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ::service::metrics::{Counter, Gauge, Metrics};
use bus::{Bus, BusError, Consumer, Topic};
use disk::Disk;
use parking_lot::Mutex;
use query::Lines;
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::store::{LogStore, StoreError, StoreOptions};

const MAINTENANCE_PERIOD: Duration = Duration::from_secs(1);
/// After a failed publication or a broken subscription.
const RETRY_DELAY: Duration = Duration::from_secs(5);
const FULL_HEAD_CHECK: Duration = Duration::from_millis(50);

#[derive(Debug, Clone)]
pub struct IndexerOptions {
    pub dir: PathBuf,
    pub store: StoreOptions,
    /// Every read waits for what was acknowledged before it, as with `X-Read-Consistency: strong`.
    pub strong_reads_always: bool,
    /// How long a strong read waits before 503.
    pub strong_read_timeout: Duration,
    pub query_timeout: Duration,
    pub max_concurrent_queries: usize,
}

impl IndexerOptions {
    pub fn new(dir: impl Into<PathBuf>) -> IndexerOptions {
        IndexerOptions {
            dir: dir.into(),
            store: StoreOptions::default(),
            strong_reads_always: false,
            strong_read_timeout: Duration::from_secs(10),
            query_timeout: Duration::from_secs(30),
            max_concurrent_queries: 8,
        }
    }
}

#[derive(Default)]
struct SelfMetrics {
    lines_taken: Counter,
    lines_repeated: Counter,
    head_bytes: Gauge,
    segments: Gauge,
    segment_bytes: Gauge,
    publish_failures: Counter,
}

/// What keeps a strong read or readiness from being true for ever.
#[derive(Debug, Clone, Default)]
struct Progress {
    /// The next offset to apply, per partition that is being read.
    positions: BTreeMap<u32, u64>,
    /// What must be applied before the service is ready; known once the bus has answered.
    targets: Option<BTreeMap<u32, u64>>,
    /// A partition cannot be read any more.
    failed: Option<String>,
}

impl Progress {
    fn has_reached(&self, targets: &BTreeMap<u32, u64>) -> bool {
        targets.iter().all(|(partition, target)| self.positions.get(partition).copied().unwrap_or(0) >= *target)
    }
}

pub struct Indexer {
    pub(crate) options: IndexerOptions,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) store: Arc<LogStore>,
    pub(crate) query_slots: Arc<Semaphore>,
    progress: watch::Sender<Progress>,
    /// Wakes maintenance when the head is full.
    full: Notify,
    metrics: SelfMetrics,
    threads: Mutex<Vec<std::thread::JoinHandle<()>>>,
}

impl Indexer {
    /// Opens the store. Nothing is consumed before [`Indexer::run`].
    pub fn open(
        options: IndexerOptions,
        bus: Arc<dyn Bus>,
        disk: Arc<dyn Disk>,
        metrics: &Metrics,
    ) -> Result<Arc<Indexer>, StoreError> {
        let store = LogStore::open(disk, &options.dir, &bus.id(), options.store.clone(), Arc::new(model::now_ns))?;
        let own = SelfMetrics::default();
        metrics.register(|registry| {
            registry.register("indexer_lines_taken", "Lines applied since the start", own.lines_taken.clone());
            let help = "Lines that had been applied before and were cut or collapsed";
            registry.register("indexer_lines_repeated", help, own.lines_repeated.clone());
            registry.register("indexer_head_bytes", "Bytes of lines that no segment holds", own.head_bytes.clone());
            registry.register("indexer_segments", "Segments", own.segments.clone());
            registry.register("indexer_segment_bytes", "Bytes of all segments", own.segment_bytes.clone());
            registry.register("indexer_publish_failures", "Failed publications", own.publish_failures.clone());
        });
        Ok(Arc::new(Indexer {
            query_slots: Arc::new(Semaphore::new(options.max_concurrent_queries.max(1))),
            options,
            bus,
            store: Arc::new(store),
            progress: watch::Sender::new(Progress::default()),
            full: Notify::new(),
            metrics: own,
            threads: Mutex::default(),
        }))
    }

    /// The store as a source of queries.
    pub fn lines(&self) -> Arc<dyn Lines> {
        self.store.clone()
    }

    pub fn store(&self) -> &Arc<LogStore> {
        &self.store
    }

    /// Consumes, publishes, merges and expires until stopped; then publishes what is left.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let partitions = self.bus.partitions(Topic::Logs);
        match self.end_offsets(partitions).await {
            Ok(targets) => self.progress.send_modify(|progress| progress.targets = Some(targets)),
            Err(error) => self.fail(&format!("the bus does not tell its end: {error}")),
        }
        for partition in 0..partitions {
            let (indexer, stop) = (self.clone(), stop.clone());
            let name = format!("indexer-{partition}");
            let spawned =
                std::thread::Builder::new().name(name).spawn(move || indexer.consume_thread(partition, &stop));
            match spawned {
                Ok(thread) => self.threads.lock().push(thread),
                Err(error) => self.fail(&format!("no thread for partition {partition}: {error}")),
            }
        }
        self.maintain(&stop).await;
        let threads: Vec<_> = self.threads.lock().drain(..).collect();
        let indexer = self.clone();
        let last = tokio::task::spawn_blocking(move || {
            for thread in threads {
                if thread.join().is_err() {
                    tracing::error!("a thread of the indexer panicked");
                }
            }
            indexer.publish_all()
        });
        if let Ok(Err(error)) = last.await {
            tracing::warn!(%error, "the last publication failed; the bus keeps the lines");
        }
    }

    fn consume_thread(&self, partition: u32, stop: &CancellationToken) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => runtime.block_on(async {
                while let Err(error) = self.consume(partition, stop).await {
                    if !matches!(error, BusError::Unavailable(_) | BusError::Full { .. }) {
                        if !stop.is_cancelled() {
                            self.fail(&format!("partition {partition} of the logs cannot be read: {error}"));
                        }
                        return;
                    }
                    tracing::warn!(%error, partition, "reading the bus failed; trying again");
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(RETRY_DELAY) => {}
                    }
                }
            }),
            Err(error) => self.fail(&format!("no runtime for partition {partition}: {error}")),
        }
    }

    async fn consume(&self, partition: u32, stop: &CancellationToken) -> Result<(), BusError> {
        let from = match self.store.next_offset(partition) {
            Some(offset) => offset,
            None => self.bus.start_offset(Topic::Logs, partition).await?,
        };
        let mut consumer: Box<dyn Consumer> = self.bus.subscribe(Topic::Logs, partition, from).await?;
        self.advance(partition, from);
        loop {
            let delivery = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                delivery = consumer.next() => delivery?,
            };
            self.store.apply(partition, delivery.offset, &delivery.batch);
            self.advance(partition, delivery.offset + 1);
            while self.store.head_bytes() >= self.options.store.max_head_bytes {
                self.full.notify_one();
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    () = tokio::time::sleep(FULL_HEAD_CHECK) => {}
                }
            }
        }
    }

    fn advance(&self, partition: u32, next: u64) {
        self.progress.send_modify(|progress| {
            progress.positions.insert(partition, next);
        });
    }

    fn fail(&self, reason: &str) {
        tracing::error!(reason, "the indexer stopped reading");
        self.progress.send_modify(|progress| progress.failed = Some(reason.to_owned()));
    }

    async fn maintain(self: &Arc<Self>, stop: &CancellationToken) {
        let mut pause = MAINTENANCE_PERIOD;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.full.notified(), if pause == MAINTENANCE_PERIOD => {}
                () = tokio::time::sleep(pause) => {}
            }
            let indexer = self.clone();
            let done = tokio::task::spawn_blocking(move || indexer.maintain_once()).await;
            pause = MAINTENANCE_PERIOD;
            match done {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!(%error, "publishing logs failed; trying again");
                    self.metrics.publish_failures.inc();
                    pause = RETRY_DELAY;
                }
                Err(error) => tracing::error!(%error, "maintenance of the log store panicked"),
            }
        }
    }

    fn maintain_once(&self) -> Result<(), StoreError> {
        let stats = self.store.stats();
        self.metrics.lines_taken.inner().store(stats.lines_taken, Ordering::Relaxed);
        self.metrics.lines_repeated.inner().store(stats.lines_repeated, Ordering::Relaxed);
        self.metrics.head_bytes.set(stats.head_bytes as i64);
        self.metrics.segments.set(stats.segments as i64);
        self.metrics.segment_bytes.set(stats.segment_bytes as i64);
        if self.store.wants_publish() {
            self.store.publish()?;
            self.release();
        }
        self.store.merge()?;
        self.store.expire()?;
        Ok(())
    }

    /// Publishes everything that was applied before the call.
    fn publish_all(&self) -> Result<(), StoreError> {
        // The first may publish only a head that failed before.
        if self.store.publish()? {
            self.store.publish()?;
        }
        self.release();
        Ok(())
    }

    fn release(&self) {
        for (partition, upto) in self.store.published_offsets() {
            self.bus.release(Topic::Logs, partition, upto);
        }
    }

    /// Publishes all that was acknowledged before the call, finishes merges, expires and releases.
    pub async fn flush(self: &Arc<Self>) -> Result<(), String> {
        self.wait_applied().await?;
        let indexer = self.clone();
        let flushed = tokio::task::spawn_blocking(move || {
            indexer.publish_all()?;
            while indexer.store.merge()? {}
            indexer.store.expire()
        });
        match flushed.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// `Ok` once everything acknowledged before the start can be queried.
    pub fn ready(&self) -> Result<(), String> {
        let progress = self.progress.borrow();
        match (&progress.failed, &progress.targets) {
            (Some(reason), _) => Err(reason.clone()),
            (None, None) => Err("logs: the bus has not told its end yet".to_owned()),
            (None, Some(targets)) if !progress.has_reached(targets) => {
                Err(format!("logs: replaying, at {:?} of {targets:?}", progress.positions))
            }
            _ => Ok(()),
        }
    }

    /// Waits until everything that was acknowledged before the call is applied.
    pub async fn wait_applied(&self) -> Result<(), String> {
        let targets = self.end_offsets(self.bus.partitions(Topic::Logs)).await.map_err(|error| error.to_string())?;
        let mut progress = self.progress.subscribe();
        let reached = progress.wait_for(|progress| progress.failed.is_some() || progress.has_reached(&targets));
        match tokio::time::timeout(self.options.strong_read_timeout, reached).await {
            Ok(Ok(progress)) => progress.failed.clone().map_or(Ok(()), Err),
            Ok(Err(_)) => Err("the indexer is stopping".to_owned()),
            Err(_) => Err("the logs acknowledged before this read are not applied yet".to_owned()),
        }
    }

    async fn end_offsets(&self, partitions: u32) -> Result<BTreeMap<u32, u64>, BusError> {
        let mut ends = BTreeMap::new();
        for partition in 0..partitions {
            ends.insert(partition, self.bus.end_offset(Topic::Logs, partition).await?);
        }
        Ok(ends)
    }
}
