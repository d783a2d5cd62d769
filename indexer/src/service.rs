//! The indexer as a service: consumes the logs topic into a [`LogStore`] and keeps the store in shape.
//!
//! # Contracts
//! - One thread consumes each partition, from the offset in the store's manifest on. A line can be queried as soon as its
//!   record is applied.
//! - Records are released on the bus only once the manifest on disk covers them.
//! - [`Indexer::ready`] fails, with the reason, until everything that was acknowledged before the start is applied; while
//!   the bus cannot be read; and for good where it cannot give the records that the manifest asks for, unless
//!   [`IndexerOptions::accept_loss`] says to go on without them.
//! - Expiry, publication and merging do not depend on one another: whichever fails, the others are done.
//! - [`Indexer::wait_applied`] returns when every record acknowledged before the call is applied: a strong read.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ::service::config::{ByTenant, LogLimits};
use ::service::metrics::{Counter, CounterBy, Gauge, Metrics};
use ::service::work::{Work, Works};
use bus::{Bus, BusError, Consumer, Topic};
use disk::Disk;
use parking_lot::Mutex;
use query::{LineSelect, LineVisitor, Lines, QueryError, SelectedLine, Tally, Visit};
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::admission::Admission;
use crate::store::{LogStore, Snapshot, StoreError, StoreOptions, TenantStats};

const MAINTENANCE_PERIOD: Duration = Duration::from_secs(1);
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
    pub limits: ByTenant<LogLimits>,
    /// Where the bus does not hold the records that the manifest asks for: go on without them instead of not being ready.
    pub accept_loss: bool,
    /// Where long work is shown.
    pub works: Works,
    /// After failed maintenance or a broken subscription.
    pub retry_delay: Duration,
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
            limits: ByTenant::default(),
            accept_loss: false,
            works: Works::default(),
            retry_delay: Duration::from_secs(5),
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
    unreadable_segments: Gauge,
    read_failures: Gauge,
    due_erasures: Gauge,
    active_streams: Gauge,
    queries_refused: CounterBy,
}

/// What keeps a strong read or readiness from being true for ever.
#[derive(Debug, Clone, Default)]
struct Progress {
    /// The next offset to apply, per partition that is being read.
    positions: BTreeMap<u32, u64>,
    /// What must be applied before the service is ready; known once the bus has answered.
    targets: Option<BTreeMap<u32, u64>>,
    /// Why partitions cannot be read, now or any more.
    failed: BTreeMap<u32, String>,
}

impl Progress {
    fn has_reached(&self, targets: &BTreeMap<u32, u64>) -> bool {
        targets.iter().all(|(partition, target)| self.positions.get(partition).copied().unwrap_or(0) >= *target)
    }

    /// Whether every partition is being read.
    fn is_reading(&self, targets: &BTreeMap<u32, u64>) -> bool {
        targets.keys().all(|partition| self.positions.contains_key(partition))
    }

    fn failure(&self) -> Option<&String> {
        self.failed.values().next()
    }
}

/// What maintenance managed to do.
#[derive(Debug, PartialEq)]
struct Upkeep {
    /// Published, or had no need to.
    published: bool,
    /// Expired and merged, or had no need to.
    tidied: bool,
}

pub struct Indexer {
    pub(crate) options: IndexerOptions,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) store: Arc<LogStore>,
    pub(crate) admission: Admission,
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
            let unreadable = own.unreadable_segments.clone();
            registry.register("indexer_unreadable_segments", "Segments that could not be opened", unreadable);
            let failures = own.read_failures.clone();
            registry.register("indexer_read_failures", "Reads of damaged blocks of open segments", failures);
            let due = own.due_erasures.clone();
            registry.register("indexer_due_erasures", "Deletes of lines that are not carried out yet", due);
            let active = own.active_streams.clone();
            registry.register("indexer_active_streams", "Streams with a line within the hour", active);
            let refused = own.queries_refused.clone();
            registry.register("indexer_queries_refused", "Queries over a limit of their tenant", refused);
            registry.register("indexer_publish_failures", "Failed publications", own.publish_failures.clone());
        });
        Ok(Arc::new(Indexer {
            admission: Admission::new(&options.limits, metrics),
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

    /// The store as a source of queries, within the limits of the tenants that they are for.
    pub fn lines(self: &Arc<Self>) -> Arc<dyn Lines> {
        Arc::new(Bounded(self.clone()))
    }

    /// The store at this moment, of which a query of this tenant reads.
    pub(crate) fn source(&self, tenant: &str) -> Snapshot {
        self.store.snapshot(tenant).within(self.admission.rules(tenant).limits.max_query_bytes_read.0)
    }

    /// Counts a query that was over a limit.
    pub(crate) fn count_refused(&self, limit: &str) {
        self.metrics.queries_refused.get_or_create(&vec![("limit", limit.to_owned())]).inc();
    }

    pub fn store(&self) -> &Arc<LogStore> {
        &self.store
    }

    /// Consumes, publishes, merges and expires until stopped; then publishes what is left.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let partitions = self.bus.partitions(Topic::Logs);
        for partition in 0..partitions {
            let (indexer, stop) = (self.clone(), stop.clone());
            let name = format!("indexer-{partition}");
            let spawned =
                std::thread::Builder::new().name(name).spawn(move || indexer.consume_thread(partition, &stop));
            match spawned {
                Ok(thread) => self.threads.lock().push(thread),
                Err(error) => self.fail(partition, format!("no thread for partition {partition}: {error}")),
            }
        }
        tokio::join!(self.learn_targets(partitions, &stop), self.maintain(&stop));
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

    /// Finds out what must be applied before the service is ready, however long the bus takes to answer.
    async fn learn_targets(&self, partitions: u32, stop: &CancellationToken) {
        loop {
            match self.end_offsets(partitions).await {
                Ok(targets) => return self.progress.send_modify(|progress| progress.targets = Some(targets)),
                Err(error) => tracing::warn!(%error, "the bus does not tell its end; trying again"),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.options.retry_delay) => {}
            }
        }
    }

    fn consume_thread(&self, partition: u32, stop: &CancellationToken) {
        // Caught, because a thread that died unnoticed would leave a service that looks alive.
        let reading = AssertUnwindSafe(|| self.keep_consuming(partition, stop));
        if let Err(panic) = std::panic::catch_unwind(reading) {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no text");
            self.fail(partition, format!("reading partition {partition} of the logs panicked: {text}"));
        }
    }

    fn keep_consuming(&self, partition: u32, stop: &CancellationToken) {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return self.fail(partition, format!("no runtime for partition {partition}: {error}")),
        };
        runtime.block_on(async {
            while let Err(error) = self.consume(partition, stop).await {
                if stop.is_cancelled() || !self.can_go_on(partition, &error) {
                    return;
                }
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(self.options.retry_delay) => {}
                }
            }
        });
    }

    /// Whether reading is worth trying again after this error.
    fn can_go_on(&self, partition: u32, error: &BusError) -> bool {
        let reason = format!("partition {partition} of the logs cannot be read: {error}");
        match error {
            BusError::Unavailable(_) | BusError::Full { .. } => {
                tracing::warn!(%error, partition, "reading the bus failed; trying again");
            }
            // EIO, EMFILE and the like pass; until then a read must not pretend to be complete.
            BusError::Io { .. } => {
                tracing::warn!(%error, partition, "reading the bus failed; trying again");
                self.progress.send_modify(|progress| drop(progress.failed.insert(partition, reason)));
            }
            BusError::OutOfRange { wanted, start, end, .. } if self.options.accept_loss => {
                let next =
                    if wanted < start { Some(*start) } else { self.end_at_start(partition).map(|at| at.min(*end)) };
                // Not known yet: what comes in meanwhile must not be passed over.
                let Some(next) = next else { return true };
                tracing::warn!(partition, wanted, next, "records are lost; going on without them, as was accepted");
                self.store.skip_to(partition, next);
            }
            BusError::OutOfRange { .. } | BusError::Corrupt(_) | BusError::TooLarge { .. } | BusError::Closed => {
                self.fail(partition, reason);
                return false;
            }
        }
        true
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

    /// Where the log ended when this service began.
    fn end_at_start(&self, partition: u32) -> Option<u64> {
        self.progress.borrow().targets.as_ref()?.get(&partition).copied()
    }

    fn advance(&self, partition: u32, next: u64) {
        self.progress.send_modify(|progress| {
            progress.positions.insert(partition, next);
            progress.failed.remove(&partition);
        });
    }

    fn fail(&self, partition: u32, reason: String) {
        tracing::error!(reason, "the indexer stopped reading");
        self.progress.send_modify(|progress| drop(progress.failed.insert(partition, reason)));
    }

    async fn maintain(self: &Arc<Self>, stop: &CancellationToken) {
        let (mut pause, mut can_publish) = (MAINTENANCE_PERIOD, true);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.full.notified(), if can_publish => {}
                () = tokio::time::sleep(pause) => {}
            }
            let indexer = self.clone();
            pause = self.options.retry_delay;
            match tokio::task::spawn_blocking(move || indexer.maintain_once()).await {
                Ok(Upkeep { published, tidied }) => {
                    can_publish = published;
                    if published && tidied {
                        pause = MAINTENANCE_PERIOD;
                    }
                }
                Err(error) => tracing::error!(%error, "maintenance of the log store panicked"),
            }
        }
    }

    /// Expiry comes first: on a full disk it is what makes room for the rest.
    fn maintain_once(&self) -> Upkeep {
        self.count();
        let expired = self.store.expire();
        let published = if self.store.wants_publish() { self.store.publish() } else { Ok(false) };
        if matches!(published, Ok(true)) {
            self.release();
        }
        let merged = self.store.merge();
        if let Err(error) = &published {
            tracing::warn!(%error, "publishing logs failed; trying again");
            self.metrics.publish_failures.inc();
        }
        if let Err(error) = &expired {
            tracing::warn!(%error, "dropping logs beyond retention failed; trying again");
        }
        if let Err(error) = &merged {
            tracing::warn!(%error, "merging logs failed; trying again");
        }
        Upkeep { published: published.is_ok(), tidied: expired.is_ok() && merged.is_ok() }
    }

    fn count(&self) {
        let stats = self.store.stats();
        self.metrics.lines_taken.inner().store(stats.lines_taken, Ordering::Relaxed);
        self.metrics.lines_repeated.inner().store(stats.lines_repeated, Ordering::Relaxed);
        self.metrics.head_bytes.set(stats.head_bytes as i64);
        self.metrics.segments.set(stats.segments as i64);
        self.metrics.segment_bytes.set(stats.segment_bytes as i64);
        self.metrics.unreadable_segments.set(stats.unreadable_segments as i64);
        self.metrics.read_failures.set(stats.read_failures as i64);
        self.metrics.due_erasures.set(stats.due_erasures as i64);
        self.metrics.active_streams.set(self.admission.active_streams() as i64);
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
        let work = Arc::new(self.options.works.begin("flush", "lines: published and merged"));
        let (indexer, merging) = (self.clone(), work.clone());
        let flushed = async {
            self.wait_applied().await?;
            let flushed = tokio::task::spawn_blocking(move || indexer.flush_applied(&merging)).await;
            flushed.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
        };
        let flushed = flushed.await;
        work.end(flushed)
    }

    fn flush_applied(&self, work: &Work) -> Result<(), StoreError> {
        self.store.expire()?;
        self.publish_all()?;
        let mut merges = 0;
        while self.store.merge()? {
            merges += 1;
            work.is_at(merges, 0, "merges");
        }
        Ok(())
    }

    /// What each tenant has.
    pub fn tenants(&self) -> BTreeMap<String, TenantStats> {
        self.store.tenants()
    }

    /// The next offset to apply, by partition that is being read.
    pub fn applied(&self) -> BTreeMap<u32, u64> {
        self.progress.borrow().positions.clone()
    }

    /// `Ok` once everything acknowledged before the start can be queried.
    pub fn ready(&self) -> Result<(), String> {
        let progress = self.progress.borrow();
        match (progress.failure(), &progress.targets) {
            (Some(reason), _) => Err(reason.clone()),
            (None, None) => Err("logs: the bus has not told its end yet".to_owned()),
            (None, Some(targets)) if !progress.is_reading(targets) || !progress.has_reached(targets) => {
                Err(format!("logs: replaying, at {:?} of {targets:?}", progress.positions))
            }
            _ => Ok(()),
        }
    }

    /// Waits until everything that was acknowledged before the call is applied.
    pub async fn wait_applied(&self) -> Result<(), String> {
        let targets = self.end_offsets(self.bus.partitions(Topic::Logs)).await.map_err(|error| error.to_string())?;
        let mut progress = self.progress.subscribe();
        let reached = progress.wait_for(|progress| progress.failure().is_some() || progress.has_reached(&targets));
        match tokio::time::timeout(self.options.strong_read_timeout, reached).await {
            Ok(Ok(progress)) => progress.failure().cloned().map_or(Ok(()), Err),
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

/// Lines of the store, as much as each tenant may read at once.
struct Bounded(Arc<Indexer>);

impl Lines for Bounded {
    fn select(
        &self,
        request: &LineSelect<'_>,
        visit: &mut dyn FnMut(SelectedLine<'_>) -> Visit,
    ) -> Result<(), QueryError> {
        self.0.source(request.tenant).select(request, visit)
    }

    fn tally(
        &self,
        request: &LineSelect<'_>,
        edges: &[i64],
        with_bytes: bool,
        visit: &mut (dyn FnMut(Tally<'_>) -> Visit + Send),
    ) -> Result<(), QueryError> {
        self.0.source(request.tenant).tally(request, edges, with_bytes, visit)
    }

    fn scan(&self, request: &LineSelect<'_>, visitors: &mut [LineVisitor<'_>]) -> Result<(), QueryError> {
        self.0.source(request.tenant).scan(request, visitors)
    }
}

#[cfg(test)]
mod tests;
