//! The store: a head and immutable parts under one manifest. Synchronous; time is an argument.
//!
//! # Contracts
//! - **Visible at once.** What [`Store::apply`] took is in every answer that begins after it returned.
//! - **Once.** A sample is its series and timestamp. Whatever lies in head, frozen head and parts, an answer holds it once,
//!   and of several the one that came last on the bus.
//! - **Durable together.** [`Store::publish`] freezes the head, writes and fsyncs its parts, and only then replaces the
//!   manifest, which names the parts and the offsets that they cover. A crash at any moment leaves the old manifest or the
//!   new one; what the manifest does not cover is replayed from the bus, what it does not name is deleted at the start.
//! - **Damage** is refused by checksum, with its file and place; what lies elsewhere answers. A part that cannot be opened is
//!   said and counted, and left where it is. Opening reads every directory through for its checksum and keeps none
//!   ([`directories`]).
//! - **One process.** A lock in the directory is held as long as the store lives.
//! - **Order.** Parts of one tenant and day lie in the manifest in the order of the bus, and merges keep it.

mod active;
mod cardinality;
mod columns;
mod deletions;
mod directories;
mod exemplars;
mod head;
mod listing;
mod manifest;
mod merge;
mod metadata;
mod part;
mod postings;
mod publish;
mod read_metrics;
mod select;
mod snapshot;
mod turns;
mod verify;

#[cfg(test)]
mod script_tests;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bus::Offset;
use disk::{Disk, DiskLock};
use model::{Deletes, MS_PER_DAY, MetricBatch};
use parking_lot::{Mutex, RwLock};

use active::Active;
pub use cardinality::Cardinality;
use deletions::Deletion;
use directories::Directories;
use head::Head;
pub use listing::Listing;
use manifest::{Manifest, PartEntry};
pub use merge::Effort;
use merge::Failures;
use metadata::Metadata;
use part::Part;
#[cfg(any(test, feature = "fuzz"))]
pub use part::read_any_part;
use read_metrics::ReadMetrics;
use turns::Turns;
pub use verify::verify;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{context}: {}: {source}", path.display())]
    Io { context: &'static str, path: PathBuf, source: io::Error },
    /// The byte is where what is damaged begins.
    #[error("{} is damaged at byte {offset}: {reason}", path.display())]
    Corrupt { path: PathBuf, offset: u64, reason: &'static str },
}

impl StoreError {
    fn io(context: &'static str, path: &Path, source: io::Error) -> StoreError {
        StoreError::Io { context, path: path.to_owned(), source }
    }
}

pub struct Store {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    view: RwLock<View>,
    /// What is published. Locked before `view`, and while the manifest is replaced.
    manifest: Mutex<Manifest>,
    /// Its own lock, never held with another.
    metadata: Mutex<Metadata>,
    /// Held by the one merge at a time.
    merging: Mutex<Failures>,
    directories: Directories,
    turns: Turns,
    read_metrics: ReadMetrics,
    /// Series that were met as new and not active.
    created_series: AtomicU64,
    written: WrittenBytes,
    _lock: Box<dyn DiskLock>,
}

/// What the lock protects: what queries see, and the offsets it stands for. Never held during I/O.
#[derive(Default)]
struct View {
    head: Head,
    /// The head that is being published; it stays until its parts are in the manifest.
    frozen: Option<Arc<Frozen>>,
    /// What has been deleted of the frozen head, by tenant.
    frozen_deletions: Vec<(String, Arc<Deletion>)>,
    /// In the manifest's order.
    parts: Vec<LivePart>,
    /// Parts of the manifest that could not be opened.
    unreadable: usize,
    /// Parts below this number are to be written again without what was deleted of them.
    clean_below: u64,
    /// The next offset to apply, by partition.
    next: BTreeMap<u32, Offset>,
    /// By tenant.
    active: HashMap<String, Active>,
}

/// A head that takes no more samples, and the offsets below which everything is in it or in parts.
struct Frozen {
    head: Head,
    next: BTreeMap<u32, Offset>,
}

#[derive(Clone)]
struct LivePart {
    entry: PartEntry,
    part: Arc<Part>,
}

impl LivePart {
    /// Notes a deletion that may cover something in it.
    fn delete(&mut self, deletion: &Arc<Deletion>) {
        // Its exemplars may lie outside the times of its samples.
        let first_ms = self.entry.day.saturating_mul(MS_PER_DAY);
        let last_ms = first_ms.saturating_add(MS_PER_DAY - 1);
        if deletion.reaches(first_ms, last_ms) && !self.entry.deletions.contains(deletion) {
            self.entry.deletions.push(deletion.clone());
        }
    }
}

/// One part, for people.
#[derive(Debug, Clone, PartialEq)]
pub struct PartInfo {
    pub name: String,
    pub tenant: String,
    pub min_ms: i64,
    pub max_ms: i64,
    pub series: u64,
    pub samples: u64,
    pub bytes: u64,
}

/// What a tenant has here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TenantStats {
    pub active_series: usize,
    /// Of its parts.
    pub samples: u64,
    pub bytes: u64,
}

/// Bytes of parts written by this process. How often a byte is written is the sum of both over the first.
#[derive(Debug, Default)]
pub struct WrittenBytes {
    /// From heads.
    pub flushed: AtomicU64,
    /// From other parts.
    pub merged: AtomicU64,
}

/// Sizes of what is not yet published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HeadStats {
    pub series: usize,
    pub samples: usize,
    pub bytes: usize,
}

impl Store {
    /// Opens the parts that the manifest names and deletes every other file. Offsets of another bus are forgotten: it is
    /// replayed from its start.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, bus_id: &str) -> Result<Store, StoreError> {
        let parts_dir = dir.join("parts");
        disk.create_dir_all(&parts_dir).map_err(|error| StoreError::io("cannot create", &parts_dir, error))?;
        let lock_path = dir.join("lock");
        let lock = disk.lock(&lock_path).map_err(|error| StoreError::io("cannot lock the store", &lock_path, error))?;
        let mut manifest = Manifest::load(disk.as_ref(), dir)?.unwrap_or_else(|| Manifest::new(bus_id.to_owned()));
        if manifest.bus_id != bus_id {
            tracing::warn!(was = manifest.bus_id, is = bus_id, "the store is of another bus, which is replayed whole");
            manifest.next.clear();
            manifest.bus_id = bus_id.to_owned();
        }
        remove_unnamed(disk.as_ref(), &parts_dir, &manifest)?;
        let mut parts = Vec::new();
        for entry in &manifest.parts {
            match Part::open(disk.as_ref(), &part_path(dir, entry.number), &entry.summary) {
                Ok(part) => parts.push(LivePart { entry: entry.clone(), part: Arc::new(part) }),
                // What else there is answers without it. Nobody deletes it before its time.
                Err(error) => tracing::error!(%error, samples = entry.summary.samples, "a part cannot be read"),
            }
        }
        let unreadable = manifest.parts.len() - parts.len();
        let metadata = Mutex::new(Metadata::load(disk.as_ref(), dir)?);
        let view = View { parts, unreadable, next: manifest.next.clone(), ..View::default() };
        let (dir, view, manifest) = (dir.to_owned(), RwLock::new(view), Mutex::new(manifest));
        Ok(Store {
            disk,
            dir,
            view,
            manifest,
            metadata,
            merging: Mutex::default(),
            directories: Directories::default(),
            turns: Turns::default(),
            read_metrics: ReadMetrics::default(),
            created_series: AtomicU64::new(0),
            written: WrittenBytes::default(),
            _lock: lock,
        })
    }

    /// The next offset to apply of a partition, if it was ever published.
    pub fn next(&self, partition: u32) -> Option<Offset> {
        self.view.read().next.get(&partition).copied()
    }

    /// Goes on elsewhere in a partition's log: records before `next` are lost, or come again.
    pub fn restart_at(&self, partition: u32, next: Offset) {
        self.view.write().next.insert(partition, next);
    }

    /// Applies one record of a partition.
    pub fn apply(&self, partition: u32, offset: Offset, batch: &MetricBatch, oldest_ms: i64, now_ms: i64) {
        if !batch.metadata.is_empty() {
            self.metadata.lock().add(&batch.tenant, &batch.metadata);
        }
        let mut view = self.view.write();
        let View { head, next, active, .. } = &mut *view;
        let active = active.entry(batch.tenant.clone()).or_default();
        let mut created = 0;
        head.apply(batch, oldest_ms, |hash, labels| created += u64::from(active.meet(hash, labels, now_ms)));
        self.created_series.fetch_add(created, Ordering::Relaxed);
        next.insert(partition, offset + 1);
    }

    /// Applies the deletion in one record of a partition: to all that was applied before it.
    pub fn delete(&self, partition: u32, offset: Offset, deletes: &Deletes) {
        let deletion = Arc::new(Deletion::of(deletes));
        let mut view = self.view.write();
        view.head.delete(&deletes.tenant, &deletion);
        if view.frozen.is_some() {
            view.frozen_deletions.push((deletes.tenant.clone(), deletion.clone()));
        }
        let of_tenant = view.parts.iter_mut().filter(|live| live.entry.tenant == deletes.tenant);
        of_tenant.for_each(|live| live.delete(&deletion));
        view.next.insert(partition, offset + 1);
    }

    /// How many series of a tenant are active.
    pub fn active_series(&self, tenant: &str) -> usize {
        self.view.read().active.get(tenant).map_or(0, Active::len)
    }

    pub fn is_active(&self, tenant: &str, hash: u64) -> bool {
        self.view.read().active.get(tenant).is_some_and(|active| active.contains(hash))
    }

    /// How many series of a metric are active.
    pub fn active_of_metric(&self, tenant: &str, metric: &str) -> usize {
        self.view.read().active.get(tenant).map_or(0, |active| active.of_metric(metric))
    }

    /// Forgets series that no head met for a while.
    pub fn forget_inactive(&self, now_ms: i64) {
        self.view.write().active.values_mut().for_each(|active| active.forget(now_ms));
    }

    /// How many series were new, or active again, since the start.
    pub fn created_series(&self) -> u64 {
        self.created_series.load(Ordering::Relaxed)
    }

    /// Of the head and, as long as it is not published, the frozen one.
    pub fn head_stats(&self) -> HeadStats {
        let view = self.view.read();
        let heads = || view.frozen.iter().map(|frozen| &frozen.head).chain([&view.head]);
        HeadStats {
            series: heads().map(Head::series).sum(),
            samples: heads().map(Head::samples).sum(),
            bytes: heads().map(Head::bytes).sum(),
        }
    }

    /// Whether a head waits to be published that could not be before.
    pub fn has_frozen(&self) -> bool {
        self.view.read().frozen.is_some()
    }

    /// The parts in the manifest's order.
    pub fn part_list(&self) -> Vec<PartInfo> {
        let info = |live: &LivePart| {
            let (entry, summary) = (&live.entry, live.entry.summary);
            PartInfo {
                name: format!("{:016}", entry.number),
                tenant: entry.tenant.clone(),
                min_ms: summary.min_ms,
                max_ms: summary.max_ms,
                series: summary.series,
                samples: summary.samples,
                bytes: summary.bytes,
            }
        };
        self.view.read().parts.iter().map(info).collect()
    }

    /// What each tenant has.
    pub fn tenants(&self) -> BTreeMap<String, TenantStats> {
        let view = self.view.read();
        let mut tenants: BTreeMap<String, TenantStats> = BTreeMap::new();
        for (tenant, active) in view.active.iter().filter(|(_, active)| active.len() > 0) {
            tenants.entry(tenant.clone()).or_default().active_series = active.len();
        }
        for live in &view.parts {
            let stats = tenants.entry(live.entry.tenant.clone()).or_default();
            stats.samples += live.entry.summary.samples;
            stats.bytes += live.entry.summary.bytes;
        }
        tenants
    }

    /// Parts that could not be opened.
    pub fn unreadable_parts(&self) -> usize {
        self.view.read().unreadable
    }

    pub fn written_bytes(&self) -> &WrittenBytes {
        &self.written
    }

    /// Number, samples and bytes of the parts.
    pub fn part_stats(&self) -> (usize, u64, u64) {
        let view = self.view.read();
        let summaries = || view.parts.iter().map(|live| live.entry.summary);
        (view.parts.len(), summaries().map(|s| s.samples).sum(), summaries().map(|s| s.bytes).sum())
    }
}

fn part_path(dir: &Path, number: u64) -> PathBuf {
    dir.join("parts").join(format!("{number:016}.part"))
}

fn remove_unnamed(disk: &dyn Disk, parts_dir: &Path, manifest: &Manifest) -> Result<(), StoreError> {
    let named: BTreeSet<String> = manifest.parts.iter().map(|entry| format!("{:016}.part", entry.number)).collect();
    let names = disk.list(parts_dir).map_err(|error| StoreError::io("cannot list", parts_dir, error))?;
    for name in names.into_iter().filter(|name| !named.contains(name)) {
        let path = parts_dir.join(name);
        disk.remove(&path).map_err(|error| StoreError::io("cannot remove a part that nobody names", &path, error))?;
    }
    Ok(())
}
