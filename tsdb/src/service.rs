//! The running store: consumes the bus, publishes, answers.
//!
//! One task per partition applies records in offset order. Offsets applied are watched by strong reads.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bus::{Bus, BusError, Offset, Topic, append_all};
use disk::Disk;
use model::{Batch, Labels, MetricBatch, Sample, SeriesSamples, now_ms};
use query::{Engine, QueryError, Value};
use service::config::Limits;
use service::metrics::{Counter, CounterBy, Gauge, Metrics};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::ingest::{Admission, AppendError, Refusals};
use crate::store::{Store, StoreError};

/// Queries evaluated at the same time; others wait, within their deadline.
const MAX_CONCURRENT_QUERIES: usize = 20;
/// How long a strong read waits for the store to catch up.
const APPLY_DEADLINE: Duration = Duration::from_secs(30);

pub struct Options {
    pub dir: PathBuf,
    pub retention_ms: i64,
    pub limits: Limits,
    /// Every read waits for what was acknowledged before it.
    pub strong_reads: bool,
    pub query_timeout: Duration,
    pub query_max_samples: usize,
    pub lookback_ms: i64,
}

#[derive(Debug, thiserror::Error)]
pub enum TsdbError {
    #[error(transparent)]
    Bus(#[from] BusError),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store is behind the bus.
    #[error("{0}")]
    Behind(String),
}

#[derive(Default)]
pub(crate) struct Counters {
    applied: Counter,
    received: Counter,
    refused: CounterBy,
    queries: Counter,
    pub(crate) head_series: Gauge,
    pub(crate) head_samples: Gauge,
    pub(crate) head_bytes: Gauge,
    pub(crate) parts: Gauge,
    pub(crate) part_bytes: Gauge,
    pub(crate) part_samples: Gauge,
    pub(crate) publishings: Counter,
    pub(crate) failed_publishings: Counter,
    pub(crate) merges: Counter,
}

impl Counters {
    fn register(&self, metrics: &Metrics) {
        metrics.register(|registry| {
            registry.register("tsdb_samples_received", "Samples made durable by this edge", self.received.clone());
            registry.register("tsdb_samples_applied", "Samples taken from the bus", self.applied.clone());
            registry.register("tsdb_samples_refused", "Samples refused before the bus", self.refused.clone());
            registry.register("tsdb_queries", "Queries evaluated", self.queries.clone());
            registry.register("tsdb_head_series", "Series in the head", self.head_series.clone());
            registry.register("tsdb_head_samples", "Samples in the head", self.head_samples.clone());
            registry.register("tsdb_head_bytes", "Memory of the head, roughly", self.head_bytes.clone());
            registry.register("tsdb_parts", "Parts on disk", self.parts.clone());
            registry.register("tsdb_part_bytes", "Bytes of all parts", self.part_bytes.clone());
            registry.register("tsdb_part_samples", "Samples in all parts", self.part_samples.clone());
            registry.register("tsdb_publishings", "Heads published", self.publishings.clone());
            registry.register("tsdb_publish_failures", "Publishings that failed", self.failed_publishings.clone());
            registry.register("tsdb_merges", "Merges of parts", self.merges.clone());
        });
    }
}

pub struct Tsdb {
    pub(crate) store: Arc<Store>,
    pub(crate) options: Options,
    pub(crate) bus: Arc<dyn Bus>,
    /// The next offset to apply, by partition.
    applied: watch::Sender<Vec<Offset>>,
    /// The ends of the partitions when this process opened them.
    ends_at_start: Vec<Offset>,
    queries: Arc<Semaphore>,
    /// Told after every publishing.
    pub(crate) published: Notify,
    /// Asks for a publishing at once.
    pub(crate) head_is_full: Notify,
    pub(crate) counters: Counters,
}

impl Tsdb {
    /// Opens the store. Records after its manifest are applied by [`Tsdb::run`].
    pub async fn open(
        options: Options,
        bus: Arc<dyn Bus>,
        disk: Arc<dyn Disk>,
        metrics: &Metrics,
    ) -> Result<Arc<Tsdb>, TsdbError> {
        let store = Arc::new(Store::open(disk, &options.dir, &bus.id())?);
        let (mut next, mut ends_at_start) = (Vec::new(), Vec::new());
        for partition in 0..bus.partitions(Topic::Metrics) {
            let start = bus.start_offset(Topic::Metrics, partition).await?;
            let end = bus.end_offset(Topic::Metrics, partition).await?;
            let wanted = store.next(partition).unwrap_or(start);
            if !(start..=end).contains(&wanted) {
                return Err(BusError::OutOfRange { topic: Topic::Metrics, wanted, start, end }.into());
            }
            next.push(wanted);
            ends_at_start.push(end);
        }
        let counters = Counters::default();
        counters.register(metrics);
        Ok(Arc::new(Tsdb {
            store,
            options,
            bus,
            applied: watch::Sender::new(next),
            ends_at_start,
            queries: Arc::new(Semaphore::new(MAX_CONCURRENT_QUERIES)),
            published: Notify::new(),
            head_is_full: Notify::new(),
            counters,
        }))
    }

    /// 200 of `/-/ready` once everything acknowledged before the start is applied.
    pub fn ready(&self) -> Result<(), String> {
        let applied = self.applied.borrow();
        let behind: u64 =
            self.ends_at_start.iter().zip(applied.iter()).map(|(end, applied)| end.saturating_sub(*applied)).sum();
        if behind == 0 { Ok(()) } else { Err(format!("tsdb: {behind} records to apply")) }
    }

    /// Runs until stopped. Ends early only when the bus or a record of it fails.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) -> Result<(), TsdbError> {
        let mut tasks = JoinSet::new();
        let from = self.applied.borrow().clone();
        for (partition, from) in from.into_iter().enumerate() {
            tasks.spawn(self.clone().consume(partition as u32, from, stop.clone()));
        }
        tasks.spawn(self.clone().maintain(stop.clone()));
        let mut result = Ok(());
        while let Some(ended) = tasks.join_next().await {
            let ended = ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
            if ended.is_err() {
                stop.cancel();
                result = result.and(ended);
            }
        }
        result
    }

    async fn consume(self: Arc<Self>, partition: u32, from: Offset, stop: CancellationToken) -> Result<(), TsdbError> {
        let mut consumer = self.bus.subscribe(Topic::Metrics, partition, from).await?;
        loop {
            let delivery = tokio::select! {
                delivery = async { self.room_in_head().await; consumer.next().await } => delivery?,
                () = stop.cancelled() => return Ok(()),
            };
            if let Batch::Metrics(batch) = delivery.batch.as_ref() {
                let now_ms = now_ms();
                let oldest_ms = now_ms.saturating_sub(self.options.retention_ms);
                self.store.apply(partition, delivery.offset, batch, oldest_ms, now_ms);
                self.counters.applied.inc_by(batch.sample_count() as u64);
            }
            self.applied.send_modify(|applied| applied[partition as usize] = delivery.offset + 1);
        }
    }

    /// Waits until everything acknowledged before the call is applied.
    pub async fn wait_applied(&self) -> Result<(), String> {
        let waiting = async {
            for partition in 0..self.ends_at_start.len() {
                let end = self.bus.end_offset(Topic::Metrics, partition as u32).await;
                let end = end.map_err(|error| error.to_string())?;
                let mut applied = self.applied.subscribe();
                let reached = applied.wait_for(|applied| applied[partition] >= end).await;
                reached.map_err(|_| "the store is closed".to_owned())?;
            }
            Ok(())
        };
        let late = || Err("the store has not caught up with the bus in time".to_owned());
        tokio::time::timeout(APPLY_DEADLINE.min(self.options.query_timeout), waiting).await.unwrap_or_else(|_| late())
    }

    /// Publishes all that was acknowledged before the call, finishes merges, and lets the bus drop what it holds.
    pub async fn flush(&self) -> Result<(), TsdbError> {
        self.wait_applied().await.map_err(TsdbError::Behind)?;
        self.publish().await?;
        self.merge().await
    }

    /// Makes samples durable; what is malformed or over a limit is refused with the reasons, the rest is taken.
    pub async fn append(&self, tenant: &str, series: Vec<SeriesSamples>) -> Result<(), AppendError> {
        self.append_noting(tenant, series, Refusals::default()).await
    }

    /// Like [`Tsdb::append`], with refusals that the edge found by itself.
    pub(crate) async fn append_noting(
        &self,
        tenant: &str,
        series: Vec<SeriesSamples>,
        mut refusals: Refusals,
    ) -> Result<(), AppendError> {
        let series = self.admit(tenant, series, &mut refusals);
        let batch = MetricBatch { tenant: tenant.to_owned(), series };
        let samples = batch.sample_count();
        if samples > 0 {
            append_all(self.bus.as_ref(), Topic::Metrics, Batch::Metrics(batch)).await?;
            self.counters.received.inc_by(samples as u64);
        }
        for (reason, count) in refusals.counts() {
            self.counters.refused.get_or_create(&vec![("reason", reason.to_owned())]).inc_by(count);
        }
        if refusals.is_empty() { Ok(()) } else { Err(AppendError::Refused(refusals.describe())) }
    }

    fn admit(&self, tenant: &str, series: Vec<SeriesSamples>, refusals: &mut Refusals) -> Vec<SeriesSamples> {
        let limits = &self.options.limits;
        let admission = Admission {
            limits,
            retention_ms: self.options.retention_ms,
            now_ms: now_ms(),
            room: limits.max_active_series.saturating_sub(self.store.active_series(tenant)),
            is_active: &|labels: &Labels| self.store.is_active(tenant, labels.hash(tenant)),
        };
        admission.admit(series, refusals)
    }

    /// Evaluates at one instant, after all that was acknowledged before; a scalar is one element without labels.
    pub async fn instant(&self, tenant: &str, expr: &str, t_ms: i64) -> Result<Vec<(Labels, Sample)>, QueryError> {
        let expr = query::parse(expr)?;
        self.wait_applied().await.map_err(QueryError::Storage)?;
        let tenant = tenant.to_owned();
        let answer = self
            .evaluate(self.engine(), self.options.query_timeout, move |engine, store, deadline| {
                engine.instant(store, &tenant, &expr, t_ms, Some(deadline))
            })
            .await?;
        match answer.value {
            Value::Scalar(sample) => Ok(vec![(Labels::default(), sample)]),
            Value::Vector(vector) => Ok(vector),
            Value::Text(..) | Value::Matrix(_) => {
                Err(QueryError::Execution("a rule's expression must give a vector or a scalar".to_owned()))
            }
        }
    }

    /// The engine with this store's settings.
    pub(crate) fn engine(&self) -> Engine {
        let Options { lookback_ms, query_max_samples, .. } = self.options;
        Engine { lookback_ms, max_samples: query_max_samples, ..Engine::default() }
    }

    /// Runs an evaluation on a thread of its own, once there is room, within a deadline.
    pub(crate) async fn evaluate<T: Send + 'static>(
        &self,
        engine: Engine,
        timeout: Duration,
        work: impl FnOnce(&Engine, &Store, Instant) -> Result<T, QueryError> + Send + 'static,
    ) -> Result<T, QueryError> {
        let deadline = Instant::now() + timeout;
        let room = tokio::time::timeout(timeout, self.queries.clone().acquire_owned()).await;
        let Ok(Ok(permit)) = room else { return Err(QueryError::Timeout("the queue")) };
        self.counters.queries.inc();
        let store = self.store.clone();
        let worked = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work(&engine, &store, deadline)
        });
        worked.await.unwrap_or_else(|error| Err(QueryError::Storage(format!("the evaluation failed: {error}"))))
    }
}
