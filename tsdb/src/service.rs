//! The running store: opened, run, written to and asked.
//!
//! Offsets applied are watched by strong reads.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bus::{Bus, BusError, Offset, Topic, append_all};
use disk::Disk;
use model::{Batch, Deletes, Exemplar, Labels, Matcher, MetricBatch, MetricMetadata, Sample, SeriesSamples, now_ms};
use query::{Element, Engine, MixedExpr, QueryError, SAMPLE_BYTES, Series, SharedRoom, Sources, Value};
use service::config::{Limits, Otlp};
use service::metrics::{Collector, Counter, CounterBy, DescriptorEncoder, Gauge, Metrics};
use service::work::Works;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::api::intake::Intake;
use crate::consume::{Progress, RETRY_PAUSE};
use crate::ingest::{Admission, AppendError, Refusals, admit_metadata};
use crate::known::KnownSeries;
use crate::pairs::Pairs;
use crate::retention::Retention;
use crate::store::{Cardinality, Effort, PartInfo, Store, StoreError, TenantStats};

/// How long a strong read waits for the store to catch up.
const APPLY_DEADLINE: Duration = Duration::from_secs(30);
/// Between queries the directories of parts that they use may be held up to this share of what queries may hold: of half
/// the machine's memory, where nobody says more.
const DIRECTORIES_SHARE: usize = 16;

pub struct Options {
    pub dir: PathBuf,
    pub retention: Retention,
    pub limits: Limits,
    /// How OpenTelemetry's metrics are translated.
    pub otlp: Otlp,
    /// Added to what other Prometheus servers read from here, where it is lacking.
    pub external_labels: Labels,
    /// Every read waits for what was acknowledged before it.
    pub strong_reads: bool,
    pub query_timeout: Duration,
    pub query_max_samples: usize,
    /// What all queries together may hold in memory.
    pub query_max_total_bytes: usize,
    pub query_max_concurrency: usize,
    pub lookback_ms: i64,
    /// The step of subqueries that name none.
    pub evaluation_interval_ms: i64,
    /// Goes on from the log's start when the manifest's offset is outside the log, instead of halting.
    pub accept_loss: bool,
    /// Where long work is shown.
    pub works: Works,
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
    /// A task panicked, which is a bug.
    #[error("a task of the store failed: {0}")]
    Task(#[from] JoinError),
}

/// What an edge made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Written {
    pub samples: u64,
    pub histograms: u64,
    pub exemplars: u64,
}

impl Written {
    fn of(batch: &MetricBatch) -> Written {
        batch.series.iter().fold(Written::default(), |sum, one| Written {
            samples: sum.samples + one.samples.len() as u64,
            histograms: sum.histograms + one.histograms.len() as u64,
            exemplars: sum.exemplars + one.exemplars.len() as u64,
        })
    }
}

/// What became of a batch: how much was taken, and why the rest was not, a line per reason.
pub(crate) struct Appended {
    pub written: Written,
    pub refused: Option<String>,
}

#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) applied: Counter,
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
    pub(crate) failed_merges: Counter,
    pub(crate) metadata_refused: Gauge,
    pub(crate) known_series: Gauge,
    pub(crate) unreadable_parts: Gauge,
    pub(crate) read_failures: Counter,
    pub(crate) left_out: Counter,
    pub(crate) flushed_bytes: Counter,
    pub(crate) merged_bytes: Counter,
    pub(crate) directory_bytes: Gauge,
    pub(crate) directory_loads: Counter,
    pub(crate) directory_evictions: Counter,
    pub(crate) merges_waited_ms: Counter,
    pub(crate) created_series: Counter,
    pub(crate) read_metrics: Gauge,
    pub(crate) read_metrics_refused: Counter,
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
            registry.register("tsdb_merge_failures", "Merges that failed", self.failed_merges.clone());
            let metadata = self.metadata_refused.clone();
            let left_out = self.left_out.clone();
            registry.register("tsdb_samples_left_out", "Samples of senders whose pair is taken", left_out);
            let failures = self.read_failures.clone();
            registry.register("tsdb_read_failures", "Reads that met damage or an I/O error", failures);
            let unreadable = self.unreadable_parts.clone();
            registry.register("tsdb_unreadable_parts", "Parts that could not be opened", unreadable);
            let (flushed, merged) = (self.flushed_bytes.clone(), self.merged_bytes.clone());
            registry.register("tsdb_part_flushed_bytes", "Bytes of parts written from heads", flushed);
            registry.register("tsdb_part_merged_bytes", "Bytes of parts written from other parts", merged);
            let held = self.directory_bytes.clone();
            registry.register("tsdb_directory_bytes", "Directories of parts that are held for queries", held);
            let (loads, evictions) = (self.directory_loads.clone(), self.directory_evictions.clone());
            registry.register("tsdb_directory_loads", "Directories of parts that queries loaded", loads);
            registry.register("tsdb_directory_evictions", "Directories of parts that found no room", evictions);
            let waited = self.merges_waited_ms.clone();
            registry.register("tsdb_merge_waited_ms", "How long merges stood still for queries", waited);
            let created = self.created_series.clone();
            registry.register("tsdb_series_created", "Series that were new, or active again", created);
            let (read, refused) = (self.read_metrics.clone(), self.read_metrics_refused.clone());
            registry.register("tsdb_read_metrics", "Metrics that were read since the start", read);
            registry.register("tsdb_read_metrics_refused", "Reads of metrics that found no room there", refused);
            let known = self.known_series.clone();
            registry.register("tsdb_known_series", "Label sets of remote write that are recognized", known);
            registry.register("tsdb_metadata_refused", "Descriptions of metrics that found no room", metadata);
        });
    }
}

pub struct Tsdb {
    pub(crate) store: Arc<Store>,
    pub(crate) options: Options,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) progress: watch::Sender<Progress>,
    /// Cancelled when the store halts.
    pub(crate) halt: CancellationToken,
    pub(crate) retry_pause: Duration,
    /// The ends of the partitions when this process opened them.
    ends_at_start: Vec<Offset>,
    queries: Arc<Semaphore>,
    room: Arc<SharedRoom>,
    /// Told after every publishing.
    pub(crate) published: Notify,
    /// Asks for a publishing at once.
    pub(crate) head_is_full: Notify,
    pub(crate) counters: Counters,
    /// What remote write has brought before.
    pub(crate) known: KnownSeries,
    pub(crate) pairs: Pairs,
    /// What protocols keep between requests.
    pub(crate) intake: Intake,
    logs: std::sync::OnceLock<Logs>,
    pub(crate) opened_ms: i64,
}

type Waiting = std::pin::Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// The logs that expressions may ask for, where this process has some.
pub struct Logs {
    pub lines: Arc<dyn query::Lines>,
    /// Returns when what was acknowledged before the call can be read.
    pub caught_up: Box<dyn Fn() -> Waiting + Send + Sync>,
}

impl Tsdb {
    /// Told once, before anyone asks.
    pub fn set_logs(&self, logs: Logs) {
        assert!(self.logs.set(logs).is_ok(), "logs are set once");
    }

    pub(crate) fn lines(&self) -> Option<Arc<dyn query::Lines>> {
        self.logs.get().map(|logs| logs.lines.clone())
    }

    /// Waits for logs that an expression asks for.
    pub(crate) async fn logs_caught_up(&self, expr: &MixedExpr) -> Result<(), QueryError> {
        match self.logs.get().filter(|_| expr.reads_logs()) {
            Some(logs) => (logs.caught_up)().await.map_err(QueryError::Execution),
            None => Ok(()),
        }
    }

    /// Opens the store. Records after its manifest are applied by [`Tsdb::run`].
    pub async fn open(
        options: Options,
        bus: Arc<dyn Bus>,
        disk: Arc<dyn Disk>,
        metrics: &Metrics,
    ) -> Result<Arc<Tsdb>, TsdbError> {
        let store = Arc::new(Store::open(disk.clone(), &options.dir, &bus.id())?);
        store.hold_directories((options.query_max_total_bytes / DIRECTORIES_SHARE).clamp(64 << 20, 1 << 30));
        let (progress, ends_at_start) = Progress::at_start(&store, bus.as_ref(), &options).await?;
        let halt = CancellationToken::new();
        if progress.halted.is_some() {
            halt.cancel();
        }
        let counters = Counters::default();
        counters.register(metrics);
        let queries = Arc::new(Semaphore::new(options.query_max_concurrency.max(1)));
        let room = Arc::new(SharedRoom::new(options.query_max_total_bytes / SAMPLE_BYTES));
        metrics.register(|registry| registry.register_collector(Box::new(HeldByQueries(room.clone()))));
        let intake = Intake::open(&options, disk.clone(), metrics);
        Ok(Arc::new(Tsdb {
            store,
            intake,
            logs: std::sync::OnceLock::new(),
            opened_ms: now_ms(),
            room,
            options,
            bus,
            progress: watch::Sender::new(progress),
            halt,
            retry_pause: RETRY_PAUSE,
            ends_at_start,
            queries,
            published: Notify::new(),
            head_is_full: Notify::new(),
            counters,
            known: KnownSeries::default(),
            pairs: Pairs::default(),
        }))
    }

    /// 200 of `/-/ready` once everything acknowledged before the start is applied, unless the store has halted.
    pub fn ready(&self) -> Result<(), String> {
        let progress = self.progress.borrow();
        if let Some(reason) = &progress.halted {
            return Err(reason.clone());
        }
        let behind: u64 =
            self.ends_at_start.iter().zip(&progress.next).map(|(end, next)| end.saturating_sub(*next)).sum();
        if behind == 0 { Ok(()) } else { Err(format!("tsdb: {behind} records to apply")) }
    }

    /// Of what the bus held at the start: how many records are applied, and how many there were.
    pub fn replay(&self) -> (u64, u64) {
        let next = &self.progress.borrow().next;
        let applied = self.ends_at_start.iter().zip(next).map(|(end, next)| *next.min(end)).sum();
        (applied, self.ends_at_start.iter().sum())
    }

    /// The next offset to apply, by partition.
    pub fn applied(&self) -> Vec<Offset> {
        self.progress.borrow().next.clone()
    }

    /// The series of all tenants, as queries see them.
    pub fn source(&self) -> &dyn Series {
        self.store.as_ref()
    }

    /// What is on disk, oldest first.
    pub fn parts(&self) -> Vec<PartInfo> {
        self.store.part_list()
    }

    /// What each tenant has.
    pub fn tenants(&self) -> BTreeMap<String, TenantStats> {
        self.store.tenants()
    }

    /// How many series there are, and which names and values carry most.
    pub fn cardinality(&self, tenant: &str, top: usize) -> Result<Cardinality, QueryError> {
        self.store.cardinality(tenant, top)
    }

    /// Runs until stopped. Ends early only when the bus is closed or a task panics.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) -> Result<(), TsdbError> {
        let mut tasks = JoinSet::new();
        for partition in 0..self.ends_at_start.len() {
            tasks.spawn(self.clone().consume(partition as u32, stop.clone()));
        }
        tasks.spawn(self.clone().maintain(stop.clone()));
        let mut result = Ok(());
        while let Some(ended) = tasks.join_next().await {
            let ended = ended.unwrap_or_else(|error| Err(error.into()));
            if ended.is_err() {
                stop.cancel();
                result = result.and(ended);
            }
        }
        result
    }

    /// Waits until everything acknowledged before the call is applied. A halted store says why it never will be.
    pub async fn wait_applied(&self) -> Result<(), String> {
        let waiting = async {
            for partition in 0..self.ends_at_start.len() {
                let end = self.bus.end_offset(Topic::Metrics, partition as u32).await;
                let end = end.map_err(|error| error.to_string())?;
                let mut progress = self.progress.subscribe();
                let reached = progress.wait_for(|now| now.halted.is_some() || now.next[partition] >= end).await;
                let reached = reached.map_err(|_| "the store is closed".to_owned())?;
                reached.halted.clone().map_or(Ok(()), Err)?;
            }
            Ok(())
        };
        let late = || Err("the store has not caught up with the bus in time".to_owned());
        tokio::time::timeout(APPLY_DEADLINE.min(self.options.query_timeout), waiting).await.unwrap_or_else(|_| late())
    }

    /// Publishes all that was acknowledged before the call, merges every day, and lets the bus drop what it holds.
    pub async fn flush(&self) -> Result<(), TsdbError> {
        let work = self.options.works.begin("flush", "samples: published and merged");
        let flushed = async {
            self.wait_applied().await.map_err(TsdbError::Behind)?;
            self.publish().await?;
            self.merge(Effort::All, Some(&work)).await
        };
        let flushed = flushed.await;
        work.end(flushed)
    }

    /// Makes samples durable; what is malformed or over a limit is refused with the reasons, the rest is taken.
    pub async fn append(&self, tenant: &str, series: Vec<SeriesSamples>) -> Result<(), AppendError> {
        let appended = self.append_batch(MetricBatch::new(tenant, series), Refusals::default()).await?;
        appended.refused.map_or(Ok(()), |reasons| Err(AppendError::Refused(reasons)))
    }

    /// Makes what is good of a batch durable, and says how much that was. `refusals` are those that the edge found by
    /// itself.
    pub(crate) async fn append_batch(
        &self,
        mut batch: MetricBatch,
        mut refusals: Refusals,
    ) -> Result<Appended, BusError> {
        self.admission(&batch.tenant, |admission| admission.admit(&mut batch.series, &mut refusals));
        self.make_durable(batch, refusals).await
    }

    /// Like [`Tsdb::append_batch`], of series whose label sets are good.
    pub(crate) async fn append_known(
        &self,
        mut batch: MetricBatch,
        mut refusals: Refusals,
    ) -> Result<Appended, BusError> {
        self.admission(&batch.tenant, |admission| admission.admit_known(&mut batch.series, &mut refusals));
        self.make_durable(batch, refusals).await
    }

    async fn make_durable(&self, mut batch: MetricBatch, refusals: Refusals) -> Result<Appended, BusError> {
        let news = self.known.keep_news(&batch.tenant, &mut batch.metadata);
        batch.metadata = admit_metadata(batch.metadata, &self.options.limits);
        let written = Written::of(&batch);
        if !batch.series.is_empty() || !batch.metadata.is_empty() {
            append_all(self.bus.as_ref(), Topic::Metrics, Batch::Metrics(batch)).await?;
        }
        self.known.passed_on(news);
        self.counters.received.inc_by(written.samples + written.histograms);
        self.count(&refusals);
        let refused = (!refusals.is_empty()).then(|| refusals.lines().collect::<Vec<_>>().join("\n"));
        Ok(Appended { written, refused })
    }

    /// Forgets the samples of series that a selector accepts, within an inclusive range: those that were acknowledged before
    /// the call, and not those that come after it. Durable when it returns.
    pub async fn delete_series(
        &self,
        tenant: &str,
        selectors: Vec<Vec<Matcher>>,
        start_ms: i64,
        end_ms: i64,
    ) -> Result<(), BusError> {
        let deletes = Deletes { tenant: tenant.to_owned(), selectors, start_ms, end_ms, partitions: 1, partition: 0 };
        append_all(self.bus.as_ref(), Topic::Metrics, Batch::Deletes(deletes)).await.map(drop)
    }

    /// The exemplars of series that a selector accepts, within an inclusive range, by rising labels and in time.
    pub async fn exemplars(
        &self,
        tenant: &str,
        selectors: Vec<Vec<Matcher>>,
        start_ms: i64,
        end_ms: i64,
        timeout: Duration,
    ) -> Result<Vec<(Labels, Vec<Exemplar>)>, QueryError> {
        let tenant = tenant.to_owned();
        let found = self.evaluate(self.engine(), timeout, move |_, store, deadline| {
            store.exemplars(&tenant, &selectors, start_ms, end_ms, Some(deadline))
        });
        found.await
    }

    /// What is known of metrics, or of one, by their names: at most `limit` of them, each with at most `limit_per_metric`
    /// descriptions.
    pub fn metadata(
        &self,
        tenant: &str,
        metric: Option<&str>,
        limit: usize,
        limit_per_metric: usize,
    ) -> BTreeMap<String, Vec<MetricMetadata>> {
        self.store.metadata(tenant, metric, limit, limit_per_metric)
    }

    /// Writes the parts again of which something was deleted before the call, without it.
    pub async fn clean_tombstones(&self) -> Result<(), TsdbError> {
        let work = self.options.works.begin("delete", "samples: parts written again without what was deleted");
        let cleaned = async {
            self.wait_applied().await.map_err(TsdbError::Behind)?;
            self.publish().await?;
            self.store.clean_deletions();
            self.merge(Effort::Due, Some(&work)).await
        };
        let cleaned = cleaned.await;
        work.end(cleaned)
    }

    /// Links everything published, and unless `skip_head` all that was acknowledged before the call, into
    /// `<directory>/snapshots/<name>`, which a store can be opened on.
    pub async fn snapshot(&self, name: &str, skip_head: bool) -> Result<(), TsdbError> {
        let work = self.options.works.begin("snapshot", name);
        let linked = async {
            if !skip_head {
                self.wait_applied().await.map_err(TsdbError::Behind)?;
                self.publish().await?;
            }
            let (store, name) = (self.store.clone(), name.to_owned());
            Ok(tokio::task::spawn_blocking(move || store.snapshot(&name)).await??)
        };
        let linked: Result<(), TsdbError> = linked.await;
        work.end(linked)
    }

    /// Takes out of a batch what must not enter the bus, as [`Tsdb::append`] does. Answers one line per reason, none when
    /// all of it may enter.
    pub fn admit_batch(&self, batch: &mut MetricBatch) -> Vec<String> {
        let mut refusals = Refusals::default();
        self.admission(&batch.tenant, |admission| admission.admit(&mut batch.series, &mut refusals));
        batch.metadata = admit_metadata(std::mem::take(&mut batch.metadata), &self.options.limits);
        self.count(&refusals);
        refusals.lines().collect()
    }

    fn count(&self, refusals: &Refusals) {
        for (reason, count) in refusals.counts() {
            self.counters.refused.get_or_create(&vec![("reason", reason.to_owned())]).inc_by(count);
        }
    }

    fn admission(&self, tenant: &str, admit: impl FnOnce(&Admission<'_>)) {
        let limits = &self.options.limits;
        let now_ms = now_ms();
        admit(&Admission {
            limits,
            oldest_ms: self.options.retention.oldest_ms(tenant, now_ms),
            now_ms,
            room: limits.max_active_series.saturating_sub(self.store.active_series(tenant)),
            is_active: &|labels: &Labels| self.store.is_active(tenant, labels.hash("")),
            of_metric: &|metric: &str| self.store.active_of_metric(tenant, metric),
        });
    }

    /// The floats of [`App::elements`].
    pub async fn instant(&self, tenant: &str, expr: &str, t_ms: i64) -> Result<Vec<(Labels, Sample)>, QueryError> {
        self.elements(tenant, expr, t_ms).await.map(query::float_samples)
    }

    /// Evaluates at one instant, after all that was acknowledged before; a scalar is one element without labels.
    pub async fn elements(&self, tenant: &str, expr: &str, t_ms: i64) -> Result<Vec<Element>, QueryError> {
        let expr = query::parse_mixed(expr)?;
        self.wait_applied().await.map_err(QueryError::Storage)?;
        self.logs_caught_up(&expr).await?;
        let (tenant, lines) = (tenant.to_owned(), self.lines());
        let answer = self
            .evaluate(self.engine(), self.options.query_timeout, move |engine, store, deadline| {
                let sources =
                    Sources { series: store, lines: lines.as_deref(), tenant: &tenant, deadline: Some(deadline) };
                expr.instant(engine, sources, t_ms)
            })
            .await?;
        match answer.value {
            Value::Scalar(sample) => Ok(vec![Element::of_scalar(sample)]),
            Value::Vector(vector) => Ok(vector),
            Value::Text(..) | Value::Matrix(_) => {
                Err(QueryError::Execution("a rule's expression must give a vector or a scalar".to_owned()))
            }
        }
    }

    /// The engine with this store's settings.
    pub(crate) fn engine(&self) -> Engine {
        let Options { lookback_ms, query_max_samples, .. } = self.options;
        let shared_room = Some(self.room.clone());
        let subquery_step_ms = self.options.evaluation_interval_ms;
        let max_samples = query_max_samples;
        Engine { lookback_ms, max_samples, subquery_step_ms, shared_room, ..Engine::default() }
    }

    /// Runs an evaluation on a thread of its own, once there is room, within a deadline. It ends early when nobody waits
    /// for it any more.
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
        let canceled = Arc::new(AtomicBool::new(false));
        let engine = Engine { canceled: Some(canceled.clone()), ..engine };
        let _cancel = CancelOnDrop(canceled);
        let store = self.store.clone();
        let worked = tokio::task::spawn_blocking(move || {
            let (_permit, _turn) = (permit, store.begin_query());
            work(&engine, &store, deadline)
        });
        let answer =
            worked.await.unwrap_or_else(|error| Err(QueryError::Storage(format!("the evaluation failed: {error}"))));
        if let Err(QueryError::Storage(reason)) = &answer {
            self.counters.read_failures.inc();
            tracing::error!(reason, "a query could not read");
        }
        answer
    }
}

/// Tells an evaluation that the client has left.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct HeldByQueries(Arc<SharedRoom>);

impl Collector for HeldByQueries {
    fn encode(&self, encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let bytes = self.0.held().saturating_mul(SAMPLE_BYTES);
        service::metrics::encode_gauge(encoder, "tsdb_queries_held_bytes", "Memory that queries hold, roughly", bytes)
    }
}
