//! The agent as a whole where what it relies on does not answer, or breaks.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use bus::{BusError, Offset, Topic};
use disk::{DiskFile, DiskLock, DiskReader, RealDisk};
use futures::FutureExt;
use futures::future::BoxFuture;
use model::Batch;
use service::config::LogSource;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

/// Never answers; counts what it was asked to append.
#[derive(Default)]
struct SilentProducer {
    asked: AtomicUsize,
}

impl Producer for SilentProducer {
    fn partitions(&self, _: Topic) -> u32 {
        1
    }

    fn append(&self, _: Topic, _: u32, _: Arc<Batch>) -> BoxFuture<'_, Result<Offset, BusError>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        futures::future::pending().boxed()
    }
}

/// A disk on which nothing can be created without a panic.
struct PanickingDisk;

impl Disk for PanickingDisk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        RealDisk.create_dir_all(dir)
    }
    fn create(&self, _: &Path) -> io::Result<Box<dyn DiskFile>> {
        panic!("a fault of the disk")
    }
    fn append(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        RealDisk.append(path)
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskReader>> {
        RealDisk.open(path)
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        RealDisk.read(path)
    }
    fn len(&self, path: &Path) -> io::Result<u64> {
        RealDisk.len(path)
    }
    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        RealDisk.truncate(path, len)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }
    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        RealDisk.remove_dir_all(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.sync_dir(dir)
    }
    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        RealDisk.free_bytes(dir)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        RealDisk.lock(path)
    }
}

/// An agent over a directory of its own that tails `*.log` there.
fn agent(dir: &Path, producer: Arc<dyn Producer>, disk: Arc<dyn Disk>, logs_enabled: bool) -> Agent {
    let paths = vec![dir.join("*.log").display().to_string()];
    let options = AgentOptions {
        state_dir: dir.join("state"),
        node: "n".into(),
        tenant: "t".into(),
        logs: LogSetup { sources: vec![LogSource { paths, ..LogSource::default() }], ..LogSetup::default() },
        has_bus: true,
        own_dirs: Vec::new(),
        procfs: dir.join("proc"),
        sysfs: dir.join("sys"),
        rootfs: dir.to_owned(),
        cgroupfs: dir.join("cgroup"),
        textfile_dir: None,
        collect_interval_ms: 100,
        scrape: Default::default(),
        metrics_enabled: !logs_enabled,
        logs_enabled,
    };
    Agent::new(options, producer, disk, &Metrics::default()).expect("it starts")
}

/// Host collection stood still on one stale batch while the server was away, and stopping took twenty seconds.
#[tokio::test]
async fn collection_goes_on_while_nothing_is_taken() {
    let dir = tempfile::tempdir().expect("a directory");
    let producer = Arc::new(SilentProducer::default());
    let stop = CancellationToken::new();
    let running = tokio::spawn(agent(dir.path(), producer.clone(), Arc::new(RealDisk), false).run(stop.clone()));
    let deadline = Instant::now() + PATIENCE;
    // Two of each collection.
    while producer.asked.load(Ordering::Relaxed) < 6 {
        assert!(Instant::now() < deadline, "only {} shipments", producer.asked.load(Ordering::Relaxed));
        tokio::task::yield_now().await;
    }
    stop.cancel();
    let ended = tokio::time::timeout(PATIENCE / 4, running).await.expect("it stops at once");
    ended.expect("no panic").expect("no failure");
}

/// A tailer that died left an agent that looked alive and tailed nothing.
#[tokio::test]
async fn a_tailer_that_ends_by_itself_ends_the_agent() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("a.log"), "a line\n").expect("written");
    let agent = agent(dir.path(), Arc::new(SilentProducer::default()), Arc::new(PanickingDisk), true);
    let ended = tokio::time::timeout(PATIENCE, agent.run(CancellationToken::new())).await;
    let message = ended.expect("it does not go on").expect_err("a failure").to_string();
    assert!(message.contains("ended by itself"), "{message}");
}
