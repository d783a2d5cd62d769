//! The running store over a bus that fails as told.

use std::collections::VecDeque;
use std::future::{Future, ready};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, BusError, Consumer, Delivery, EmbeddedBus, EmbeddedOptions, Offset, Producer, Topic};
use disk::{Disk, FakeDisk};
use model::{Batch, Labels, MetricBatch, Sample, SeriesSamples, now_ms};
use parking_lot::Mutex;
use service::config::Limits;
use service::metrics::Metrics;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::maintenance::Duties;
use crate::store::Store;
use crate::{Options, Retention, Tsdb, TsdbError};

type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, BusError>> + Send + 'a>>;

enum Fault {
    Subscribing(BusError),
    Reading(BusError),
    Panic,
}

/// An embedded bus whose next subscriptions meet the faults in turn.
struct FaultyBus {
    inner: EmbeddedBus,
    faults: Mutex<VecDeque<Fault>>,
    released: Mutex<Vec<Offset>>,
}

struct FaultyConsumer(Option<BusError>);

impl Consumer for FaultyConsumer {
    fn next(&mut self) -> Answer<'_, Delivery> {
        let error = self.0.take().expect("a consumer that failed is not asked again");
        Box::pin(ready(Err(error)))
    }
}

impl Producer for FaultyBus {
    fn partitions(&self, topic: Topic) -> u32 {
        self.inner.partitions(topic)
    }

    fn append(&self, topic: Topic, partition: u32, batch: Arc<Batch>) -> Answer<'_, Offset> {
        self.inner.append(topic, partition, batch)
    }
}

impl Bus for FaultyBus {
    fn id(&self) -> String {
        "faulty".to_owned()
    }

    fn end_offset(&self, topic: Topic, partition: u32) -> Answer<'_, Offset> {
        self.inner.end_offset(topic, partition)
    }

    fn start_offset(&self, topic: Topic, partition: u32) -> Answer<'_, Offset> {
        self.inner.start_offset(topic, partition)
    }

    fn subscribe(&self, topic: Topic, partition: u32, from: Offset) -> Answer<'_, Box<dyn Consumer>> {
        match self.faults.lock().pop_front() {
            Some(Fault::Subscribing(error)) => Box::pin(ready(Err(error))),
            Some(Fault::Reading(error)) => Box::pin(ready(Ok(Box::new(FaultyConsumer(Some(error))) as _))),
            Some(Fault::Panic) => panic!("as told"),
            None => self.inner.subscribe(topic, partition, from),
        }
    }

    fn release(&self, _topic: Topic, _partition: u32, upto: Offset) {
        self.released.lock().push(upto);
    }
}

fn bus(faults: Vec<Fault>) -> Arc<FaultyBus> {
    let options = EmbeddedOptions { reserve_bytes: 0, ..EmbeddedOptions::default() };
    let inner = EmbeddedBus::open(Arc::new(FakeDisk::new()), "bus", options).expect("the bus opens");
    Arc::new(FaultyBus { inner, faults: Mutex::new(faults.into()), released: Mutex::default() })
}

async fn open(bus: Arc<FaultyBus>, disk: &FakeDisk, accept_loss: bool) -> Arc<Tsdb> {
    let options = Options {
        dir: "tsdb".into(),
        retention: Retention::of_all(model::MS_PER_DAY),
        limits: Limits { max_active_series: 3, ..Limits::default() },
        otlp: service::config::Otlp::default(),
        external_labels: Labels::default(),
        strong_reads: false,
        query_timeout: Duration::from_secs(10),
        query_max_samples: 1_000_000,
        query_max_total_bytes: usize::MAX,
        query_max_concurrency: 20,
        lookback_ms: 300_000,
        evaluation_interval_ms: 60_000,
        accept_loss,
        works: Default::default(),
    };
    let mut tsdb = Tsdb::open(options, bus, Arc::new(disk.clone()), &Metrics::default()).await.expect("it opens");
    Arc::get_mut(&mut tsdb).expect("nobody else has it").retry_pause = Duration::from_millis(1);
    tsdb
}

fn series(name: &str, t_ms: i64) -> SeriesSamples {
    SeriesSamples::new(Labels::from_pairs([("__name__", name)]), vec![Sample { t_ms, value: 1.0 }])
}

fn batch(name: &str, t_ms: i64) -> MetricBatch {
    MetricBatch::new("t", vec![series(name, t_ms)])
}

/// A disk with a store that has read this bus up to an offset and holds one sample of `old`.
fn disk_at(next: Offset) -> FakeDisk {
    let disk = FakeDisk::new();
    let store = Store::open(Arc::new(disk.clone()), Path::new("tsdb"), "faulty").expect("opened");
    store.apply(0, next - 1, &batch("old", now_ms()), i64::MIN, now_ms());
    store.publish().expect("published");
    disk
}

/// Runs the store, appends a sample of `new`, and answers whether it is ready and what it counts of both series.
async fn run(tsdb: &Arc<Tsdb>) -> (Result<(), String>, Result<f64, String>) {
    let stop = CancellationToken::new();
    let running = tokio::spawn(tsdb.clone().run(stop.clone()));
    tsdb.append("t", vec![series("new", now_ms())]).await.expect("appended");
    let counted = tsdb.instant("t", r#"count({__name__=~"old|new"})"#, now_ms()).await;
    let ready = tsdb.ready();
    stop.cancel();
    running.await.expect("no panic").expect("a store that halted still runs");
    (ready, counted.map(|found| found[0].1.value).map_err(|error| error.to_string()))
}

/// A store whose offset lies outside the log must do as told: halt with this reason, or count this much.
async fn check_loss(bus: Arc<FaultyBus>, disk: &FakeDisk, accept_loss: bool, expected: Result<f64, &str>) {
    let tsdb = open(bus, disk, accept_loss).await;
    let (ready, counted) = run(&tsdb).await;
    let expected = expected.map_err(str::to_owned);
    assert_eq!((ready, counted), (expected.clone().map(drop), expected));
}

/// Kafka's retention overtook a store, or its log was lost: the process refused to start at all.
#[tokio::test]
async fn an_offset_outside_the_log_halts_the_store_until_the_loss_is_accepted() {
    let reason = "metrics: offset 500 is outside the log, which holds 0..0; start with --accept-loss to go on";
    let disk = disk_at(500);
    check_loss(bus(vec![]), &disk, false, Err(reason)).await;
    let halted = open(bus(vec![]), &disk, false).await;
    let (engine, timeout) = (halted.engine(), Duration::from_secs(10));
    let expr = query::parse("old").expect("an expression");
    let kept = halted
        .evaluate(engine, timeout, move |engine, store, deadline| {
            engine.instant(store, "t", &expr, now_ms(), Some(deadline))
        })
        .await;
    assert!(matches!(kept.expect("an answer").value, query::Value::Vector(found) if found.len() == 1));
    drop(halted);
    check_loss(bus(vec![]), &disk, true, Ok(2.0)).await;
    check_loss(bus(vec![]), &disk, false, Ok(2.0)).await;
}

/// The same, met while it runs.
#[tokio::test]
async fn a_log_that_shrinks_under_the_store_halts_it_until_the_loss_is_accepted() {
    let fault = || Fault::Reading(BusError::OutOfRange { topic: Topic::Metrics, wanted: 0, start: 0, end: 9 });
    let reason = "metrics: offset 0 is outside the log, which holds 0..9; start with --accept-loss to go on";
    check_loss(bus(vec![fault()]), &FakeDisk::new(), false, Err(reason)).await;
    check_loss(bus(vec![fault()]), &FakeDisk::new(), true, Ok(1.0)).await;
}

/// A broker that was away for a moment ended the process.
#[tokio::test]
async fn a_bus_that_fails_for_a_while_is_tried_again() {
    let away = || BusError::Unavailable("away".to_owned());
    let io = BusError::Io { context: "reading", path: "bus".into(), source: std::io::ErrorKind::Other.into() };
    let faults = vec![Fault::Subscribing(away()), Fault::Reading(away()), Fault::Reading(io)];
    check_loss(bus(faults), &FakeDisk::new(), false, Ok(1.0)).await;
}

#[tokio::test]
async fn a_corrupt_record_halts_the_store() {
    let faults = vec![Fault::Reading(BusError::Corrupt("bits".to_owned()))];
    let reason = "metrics: a record of partition 0 is corrupt: bits";
    check_loss(bus(faults), &FakeDisk::new(), false, Err(reason)).await;
}

/// A panic in a task went through whoever waited for the store.
#[tokio::test]
async fn a_panic_in_a_task_is_an_error_of_the_run() {
    let tsdb = open(bus(vec![Fault::Panic]), &FakeDisk::new(), false).await;
    let ended = tokio::spawn(tsdb.run(CancellationToken::new())).await.expect("the run itself does not panic");
    assert!(matches!(ended, Err(TsdbError::Task(error)) if error.is_panic()));
}

/// A head that was published after a failure was not released while the next one failed, so a full disk stayed full.
#[tokio::test]
async fn what_a_full_disk_takes_is_released_at_once() {
    let (bus, disk) = (bus(vec![]), FakeDisk::new());
    let tsdb = open(bus.clone(), &disk, false).await;
    let apply = |offset| tsdb.store.apply(0, offset, &batch("x", now_ms()), i64::MIN, now_ms());
    let plenty = 1 << 20;
    apply(0);
    disk.set_free_bytes(Some(plenty));
    tsdb.publish().await.expect("published");
    let one_head = plenty - disk.free_bytes(Path::new("tsdb")).expect("known");
    apply(1);
    disk.set_free_bytes(Some(10));
    tsdb.publish().await.expect_err("full");
    apply(2);
    // Enough for the next head and its larger manifest, not for one more.
    disk.set_free_bytes(Some(one_head * 3 / 2));
    let published = tsdb.published.notified();
    tsdb.publish().await.expect_err("the second of them finds no room");
    assert_eq!(*bus.released.lock(), [1, 2]);
    published.await;
    disk.set_free_bytes(None);
    tsdb.publish().await.expect("published");
    assert_eq!(bus.released.lock().last(), Some(&3));
}

/// Retention waited for a publishing that failed, which waited for the room that retention would have made.
#[tokio::test]
async fn expired_days_go_while_publishing_fails() {
    let disk = FakeDisk::new();
    let tsdb = open(bus(vec![]), &disk, false).await;
    let apply = |offset, t_ms| tsdb.store.apply(0, offset, &batch("x", t_ms), i64::MIN, now_ms());
    apply(0, now_ms() - 3 * model::MS_PER_DAY);
    tsdb.publish().await.expect("published");
    apply(1, now_ms());
    disk.remove_dir_all(Path::new("tsdb/parts")).expect("no part can be created any more");
    let start = Instant::now();
    let mut duties = Duties::new(start);
    assert!(tsdb.look_after(&mut duties, start).await.expect("no panic"));
    assert_eq!(tsdb.store.part_stats().0, 1);
    assert!(!tsdb.look_after(&mut duties, start + Duration::from_secs(600)).await.expect("no panic"));
    assert_eq!((tsdb.store.part_stats().0, tsdb.store.head_stats().samples), (0, 1));
}

/// What agents pushed went to the bus unchecked.
#[tokio::test]
async fn batches_of_agents_are_admitted_like_any_write() {
    let tsdb = open(bus(vec![]), &FakeDisk::new(), false).await;
    let now_ms = now_ms();
    let long = "x".repeat(Limits::default().max_label_value_bytes + 1);
    let all = [("a", now_ms), ("b", now_ms), ("c", now_ms), ("d", now_ms), ("a", 5), ("a", i64::MAX), (&long, now_ms)];
    let mut batch = MetricBatch::new("t", all.iter().map(|(name, t_ms)| series(name, *t_ms)).collect());
    let reasons = tsdb.admit_batch(&mut batch);
    let kept: Vec<_> = batch.series.iter().filter_map(|one| one.labels.get("__name__")).collect();
    assert_eq!(kept, ["a", "b", "c"]);
    for expected in ["label value too long", "more than a day ahead", "older than the retention", "too many active"] {
        assert!(reasons.iter().any(|reason| reason.contains(expected)), "{expected:?} in {reasons:?}");
    }
    assert_eq!((reasons.len(), tsdb.admit_batch(&mut batch)), (4, Vec::new()));
}
