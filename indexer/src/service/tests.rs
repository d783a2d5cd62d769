//! A service that goes on by itself after faults of the bus and of the disk, and says so when it cannot.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::time::Instant;

use bus::{EmbeddedBus, EmbeddedOptions, Offset, Producer};
use disk::FakeDisk;
use futures::FutureExt;
use futures::future::BoxFuture;
use model::{Batch, Labels, LogBatch, Origin};

use super::*;

const DAY_NS: i64 = 86_400_000_000_000;

#[derive(Clone, Copy)]
enum Fault {
    None,
    Io,
    Panic,
}

/// A bus whose first subscriptions and first answers about its end go wrong as told.
struct FaultyBus {
    inner: EmbeddedBus,
    subscriptions: Mutex<VecDeque<Fault>>,
    ends: Mutex<VecDeque<Fault>>,
}

fn strike(faults: &Mutex<VecDeque<Fault>>) -> Result<(), BusError> {
    let fault = faults.lock().pop_front();
    match fault.unwrap_or(Fault::None) {
        Fault::None => Ok(()),
        Fault::Io => {
            Err(BusError::Io { context: "reading", path: "/bus/1".into(), source: io::Error::from_raw_os_error(5) })
        }
        Fault::Panic => panic!("a fault of the bus"),
    }
}

impl Producer for FaultyBus {
    fn partitions(&self, topic: Topic) -> u32 {
        self.inner.partitions(topic)
    }

    fn append(&self, topic: Topic, partition: u32, batch: Arc<Batch>) -> BoxFuture<'_, Result<Offset, BusError>> {
        self.inner.append(topic, partition, batch)
    }
}

impl Bus for FaultyBus {
    fn id(&self) -> String {
        self.inner.id()
    }

    fn end_offset(&self, topic: Topic, partition: u32) -> BoxFuture<'_, Result<Offset, BusError>> {
        async move {
            strike(&self.ends)?;
            self.inner.end_offset(topic, partition).await
        }
        .boxed()
    }

    fn start_offset(&self, topic: Topic, partition: u32) -> BoxFuture<'_, Result<Offset, BusError>> {
        self.inner.start_offset(topic, partition)
    }

    fn subscribe(
        &self,
        topic: Topic,
        partition: u32,
        from: Offset,
    ) -> BoxFuture<'_, Result<Box<dyn Consumer>, BusError>> {
        async move {
            strike(&self.subscriptions)?;
            self.inner.subscribe(topic, partition, from).await
        }
        .boxed()
    }

    fn release(&self, topic: Topic, partition: u32, upto: Offset) {
        self.inner.release(topic, partition, upto);
    }
}

fn line(text: &str, t_ns: i64) -> Arc<Batch> {
    let mut batch = LogBatch::new("t", Origin::Pushed);
    batch.streams.push(Labels::from_pairs([("app", "a")]));
    batch.push(0, t_ns, text, 0, 0);
    Arc::new(Batch::Logs(batch))
}

fn options() -> IndexerOptions {
    IndexerOptions { retry_delay: Duration::from_millis(5), ..IndexerOptions::new("/logs") }
}

struct Running {
    indexer: Arc<Indexer>,
    bus: Arc<FaultyBus>,
    stop: CancellationToken,
}

impl Running {
    fn start(disk: &FakeDisk, options: IndexerOptions, subscriptions: &[Fault], ends: &[Fault]) -> Running {
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        let bus = Arc::new(FaultyBus {
            inner: EmbeddedBus::open(disk.clone(), "/bus", EmbeddedOptions::default()).expect("a bus"),
            subscriptions: Mutex::new(subscriptions.iter().copied().collect()),
            ends: Mutex::new(ends.iter().copied().collect()),
        });
        let indexer = Indexer::open(options, bus.clone(), disk, &Metrics::default()).expect("opens");
        let stop = CancellationToken::new();
        tokio::spawn(indexer.clone().run(stop.clone()));
        Running { indexer, bus, stop }
    }

    async fn append(&self, text: &str) {
        self.bus.append(Topic::Logs, 0, line(text, model::now_ns())).await.expect("appended");
    }

    async fn wait(&self, what: &str, condition: impl Fn(&Indexer) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !condition(&self.indexer) {
            assert!(Instant::now() < deadline, "{what}: {:?}", self.indexer.ready());
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// EIO or EMFILE once ended reading for good, while the process looked alive.
#[tokio::test]
async fn an_io_error_of_the_bus_passes() {
    let running = Running::start(&FakeDisk::new(), options(), &[Fault::Io, Fault::Io], &[]);
    running.append("one").await;
    running.wait("read in the end", |indexer| indexer.ready().is_ok() && indexer.store.stats().lines_taken == 1).await;
    running.indexer.wait_applied().await.expect("no failure is left");
}

/// The bus not telling its end at the start made the service unready for ever.
#[tokio::test]
async fn an_end_that_is_not_told_at_once_is_asked_for_again() {
    let running = Running::start(&FakeDisk::new(), options(), &[], &[Fault::Io, Fault::Io]);
    running.wait("ready in the end", |indexer| indexer.ready().is_ok()).await;
}

/// A thread that panicked was noticed only when stopping.
#[tokio::test]
async fn a_panic_while_reading_is_told() {
    let running = Running::start(&FakeDisk::new(), options(), &[Fault::Panic], &[]);
    let told = |indexer: &Indexer| indexer.ready().is_err_and(|reason| reason.contains("panicked: a fault of the bus"));
    running.wait("told", told).await;
}

/// A disk whose manifest asks for record 99 of a bus that has none.
fn ahead() -> FakeDisk {
    let disk = FakeDisk::new();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let id = EmbeddedBus::open(shared.clone(), "/bus", EmbeddedOptions::default()).expect("a bus").id();
    let clock = Arc::new(model::now_ns);
    let store = LogStore::open(shared, Path::new("/logs"), &id, StoreOptions::default(), clock).expect("opens");
    store.apply(0, 98, &line("kept", model::now_ns()));
    store.publish().expect("published");
    disk
}

/// There was no way on for a store ahead of its bus but to delete it.
#[tokio::test]
async fn lost_records_are_gone_on_without_only_when_accepted() {
    let running = Running::start(&ahead(), options(), &[], &[]);
    let refused = |indexer: &Indexer| indexer.ready().is_err_and(|reason| reason.contains("outside the log"));
    running.wait("not ready", refused).await;
    drop(running);

    let running = Running::start(&ahead(), IndexerOptions { accept_loss: true, ..options() }, &[], &[]);
    running.wait("ready", |indexer| indexer.ready().is_ok()).await;
    running.append("new").await;
    running.wait("read on", |indexer| indexer.store.stats().lines_taken == 1).await;
    running.indexer.flush().await.expect("flushed");
    assert_eq!(running.indexer.store.published_offsets(), BTreeMap::from([(0, 1)]));
}

/// Expiry came after publication, so that a full disk, on which nothing can be published, never healed.
#[test]
fn a_full_disk_heals_by_expiry() {
    let disk = FakeDisk::new();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let bus: Arc<dyn Bus> =
        Arc::new(EmbeddedBus::open(shared.clone(), "/bus", EmbeddedOptions::default()).expect("a bus"));
    let store = StoreOptions { publish_after_ns: 0, ..StoreOptions::default() };
    let options = IndexerOptions { store, ..options() };
    let indexer = Indexer::open(options, bus, shared, &Metrics::default()).expect("opens");
    indexer.store.apply(0, 0, &line("old", model::now_ns() - 30 * DAY_NS));
    indexer.store.publish().expect("published");
    indexer.store.apply(0, 1, &line("new", model::now_ns()));
    disk.set_free_bytes(Some(1_000));
    assert_eq!(indexer.maintain_once(), Upkeep { published: false, tidied: true });
    assert_eq!(indexer.store.stats().segments, 0);
    disk.set_free_bytes(None);
    assert_eq!(indexer.maintain_once(), Upkeep { published: true, tidied: true });
    assert_eq!(indexer.store.stats().segments, 1);
}
