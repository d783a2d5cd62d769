//! The log store: a head in memory and immutable segments on disk, under one manifest.
//!
//! # Contracts
//! - **Exactly once.** [`LogStore::apply`] takes each partition's records in offset order; one below the next offset is
//!   ignored. Tailed lines whose bytes were covered before are cut ([`ranges`]); pushed lines collapse on stream,
//!   instant, text and metadata: in the head, when segments are built and merged, and while reading.
//! - **Durable.** The store has no log of its own. [`LogStore::publish`] writes the head as segments, fsyncs them, and
//!   replaces the manifest, which names segments, next offsets and covered ranges of one moment. After `kill -9` at any
//!   point the manifest on disk is the state, the bus replays what follows its offsets, and directories that it does not
//!   name are removed. Only what the manifest covers may be released on the bus ([`LogStore::published_offsets`]).
//! - **Visible at once and once.** A line can be queried when `apply` returns. Queries read a snapshot; publication and
//!   merges swap what holds a line in one step.
//! - **Locks.** `state` is held for moments: to apply a batch, take a snapshot, swap. `publishing` is held while segments
//!   are written, so that one publication, merge or retention runs at a time.

pub mod block;
mod candidate;
mod counts;
mod directory;
pub mod erasure;
mod error;
mod grams;
mod head;
mod header;
mod manifest;
mod opened;
mod publish;
pub mod ranges;
pub mod retention;
mod scan;
mod segment;
mod stored;
mod tally;
#[cfg(test)]
mod tests;
mod text;
mod unordered;
mod verify;
mod words;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use disk::{Disk, DiskLock};
use model::{Batch, LineDeletes, Origin};
use parking_lot::{Mutex, RwLock};
use query::{LineSelect, LineVisitor, Lines, QueryError, SelectedLine, Tally, Visit};
use tokio::sync::broadcast;

use erasure::Erasure;
pub use error::StoreError;
use head::Head;
use manifest::{MANIFEST, Manifest, is_segment_dir};
use ranges::Ranges;
use retention::{Kept, Retention};
use scan::HeadRun;
pub use scan::{Snapshot, Volume};
use segment::Segment;
pub use verify::{Verified, verify};

/// Nanoseconds since the Unix epoch.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

const NS_PER_DAY: i64 = model::MS_PER_DAY * model::NS_PER_MS;
/// Applied batches that a live tail may lag behind before it is told that it lost some.
const TAIL_BATCHES: usize = 256;

#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// A head of this size is published at once.
    pub publish_bytes: usize,
    /// A head whose oldest line was applied this long ago is published.
    pub publish_after_ns: i64,
    /// At this size of both heads ingestion waits for publication.
    pub max_head_bytes: usize,
    /// Segments of a tenant and day whose text is below this are merged once there are `merge_count` of them, to at most
    /// `merged_bytes` of text.
    pub merge_below_bytes: u64,
    pub merge_count: usize,
    pub merged_bytes: u64,
    /// Lines beyond it are dropped, by whole segments where it is the same for all streams, and refused at the edge.
    pub retention: Arc<Retention>,
}

impl Default for StoreOptions {
    fn default() -> StoreOptions {
        StoreOptions {
            publish_bytes: 40 << 20,
            publish_after_ns: 300 * 1_000_000_000,
            max_head_bytes: 128 << 20,
            merge_below_bytes: 256 << 20,
            merge_count: 4,
            merged_bytes: 512 << 20,
            retention: Arc::default(),
        }
    }
}

/// A batch as the store took it, for live tails.
#[derive(Debug, Clone)]
pub struct Applied {
    /// Its number, counted from the start of this process.
    pub number: u64,
    pub batch: Arc<Batch>,
    /// The lines that were new.
    pub taken: Arc<[u32]>,
}

/// What a tenant has here, in memory and on disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TenantStats {
    pub lines: u64,
    /// Of the segments' lines, as they came.
    pub text_bytes: u64,
    /// Of the segments' files.
    pub bytes: u64,
}

/// Sizes of the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreStats {
    pub lines_taken: u64,
    pub lines_repeated: u64,
    pub head_bytes: usize,
    pub segments: usize,
    pub unreadable_segments: usize,
    /// Reads of blocks that failed.
    pub read_failures: u64,
    /// Erasures that are not carried out yet.
    pub due_erasures: usize,
    pub segment_bytes: u64,
    pub files: usize,
}

struct State {
    head: Head,
    /// The head that is being published; still queried.
    frozen: Option<Arc<Frozen>>,
    segments: Vec<Arc<Segment>>,
    /// Those that the manifest names and that could not be opened.
    unreadable_segments: usize,
    ranges: Ranges,
    /// Those that segments, or a head that is being published, are read through.
    erasures: Vec<Arc<Erasure>>,
    /// The newest of those that were carried out.
    erased: Vec<erasure::Request>,
    next_erasure: u64,
    next_offset: BTreeMap<u32, u64>,
    /// When the first batch that no publication covers was applied.
    dirty_since_ns: Option<i64>,
    applied: u64,
    lines_taken: u64,
    lines_repeated: u64,
}

struct Frozen {
    head: Head,
    ranges: Ranges,
    erasures: Vec<Arc<Erasure>>,
    next_erasure: u64,
    next_offset: BTreeMap<u32, u64>,
}

impl State {
    /// Forgets lines of the head; what else holds some is read through the erasure. One that came by another partition
    /// already covers what was applied since.
    fn erase(&mut self, deletes: &LineDeletes) {
        let erasure = match Erasure::of(self.next_erasure, deletes) {
            Ok(erasure) => Arc::new(erasure),
            Err(error) => {
                tracing::error!(error, query = deletes.query, "lines that are to be deleted stay");
                return;
            }
        };
        self.next_erasure += 1;
        self.head.erase(&erasure);
        self.erasures.retain(|other| other.request.id != deletes.id);
        self.erasures.push(erasure);
        // Only what a manifest names is carried out.
        self.dirty_since_ns = Some(i64::MIN);
    }
}

pub struct LogStore {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    options: StoreOptions,
    clock: Clock,
    state: RwLock<State>,
    /// The manifest on disk; its lock orders publications.
    publishing: Mutex<Manifest>,
    tails: broadcast::Sender<Applied>,
    _lock: Box<dyn DiskLock>,
}

impl LogStore {
    /// Opens or creates the store for a bus. On a foreign bus it starts from the beginning of that one.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        bus: &str,
        options: StoreOptions,
        clock: Clock,
    ) -> Result<LogStore, StoreError> {
        disk.create_dir_all(dir).map_err(StoreError::io("creating the log store", dir))?;
        let lock = disk.lock(&dir.join("lock")).map_err(StoreError::io("locking the log store", dir))?;
        let mut manifest = match Manifest::read(disk.as_ref(), dir)? {
            Some(manifest) => manifest,
            None => begin(disk.as_ref(), dir, bus)?,
        };
        if manifest.bus != bus {
            tracing::info!(was = manifest.bus, now = bus, "another bus: it is read from its start");
            manifest.bus = bus.to_owned();
            manifest.next_offset.clear();
        }
        remove_unknown(disk.as_ref(), dir, &manifest)?;
        let mut segments = Vec::with_capacity(manifest.segments.len());
        for entry in &manifest.segments {
            match Segment::open(&disk, dir, entry.clone()) {
                Ok(segment) => segments.push(Arc::new(segment)),
                Err(error) => tracing::error!(%error, "a segment cannot be read; it is left out"),
            }
        }
        let state = State {
            head: Head::default(),
            frozen: None,
            unreadable_segments: manifest.segments.len() - segments.len(),
            segments,
            ranges: manifest.ranges.clone(),
            erasures: manifest.erasures.clone(),
            erased: manifest.erased.clone(),
            next_erasure: manifest.next_erasure,
            next_offset: manifest.next_offset.clone(),
            dirty_since_ns: None,
            applied: 0,
            lines_taken: 0,
            lines_repeated: 0,
        };
        let (tails, _) = broadcast::channel(TAIL_BATCHES);
        let (dir, state, publishing) = (dir.to_owned(), RwLock::new(state), Mutex::new(manifest));
        Ok(LogStore { disk, dir, options, clock, state, publishing, tails, _lock: lock })
    }

    pub fn options(&self) -> &StoreOptions {
        &self.options
    }

    pub fn now_ns(&self) -> i64 {
        (self.clock)()
    }

    /// Where to go on reading a partition; `None` for its start.
    pub fn next_offset(&self, partition: u32) -> Option<u64> {
        self.state.read().next_offset.get(&partition).copied()
    }

    /// Takes a record. One that was applied before is ignored; batches of other topics only move the offset.
    pub fn apply(&self, partition: u32, offset: u64, batch: &Arc<Batch>) {
        let now_ns = self.now_ns();
        let mut guard = self.state.write();
        let state = &mut *guard;
        if state.next_offset.get(&partition).is_some_and(|next| offset < *next) {
            return;
        }
        state.dirty_since_ns.get_or_insert(now_ns);
        state.applied += 1;
        match batch.as_ref() {
            Batch::Logs(logs) => {
                let taken = state.head.apply(logs, &state.ranges);
                if let Origin::Tailed { file, start, end } = logs.origin {
                    state.ranges.cover(file, start, end);
                }
                state.lines_taken += taken.len() as u64;
                state.lines_repeated += (logs.len() - taken.len()) as u64;
                // Sent under the lock, so that a tail's snapshot and what it receives fit together.
                if self.tails.receiver_count() > 0 {
                    let applied = Applied { number: state.applied, batch: batch.clone(), taken: taken.into() };
                    let _ = self.tails.send(applied);
                }
            }
            Batch::ForgetFiles(forget) => forget.files.iter().for_each(|file| state.ranges.forget(*file)),
            Batch::LineDeletes(deletes) => state.erase(deletes),
            Batch::Metrics(_) | Batch::Alerts(_) | Batch::Deletes(_) => {}
        }
        // Last: should this panic, what was not applied is not passed over.
        state.next_offset.insert(partition, offset + 1);
    }

    /// Goes on at this offset, forward or back: what was asked for before is lost, and somebody accepted that.
    pub fn skip_to(&self, partition: u32, offset: u64) {
        let now_ns = self.now_ns();
        let mut state = self.state.write();
        state.next_offset.insert(partition, offset);
        state.dirty_since_ns.get_or_insert(now_ns);
    }

    /// The store at this moment.
    pub fn snapshot(&self, tenant: &str) -> Snapshot {
        self.snapshot_of(&self.state.read(), tenant)
    }

    /// The store at this moment and everything that is applied after it.
    pub fn tail(&self, tenant: &str) -> (Snapshot, broadcast::Receiver<Applied>) {
        let state = self.state.read();
        (self.snapshot_of(&state, tenant), self.tails.subscribe())
    }

    /// What of a tenant is kept now.
    fn kept(&self, tenant: &str) -> Kept {
        Kept::new(&self.options.retention, tenant, self.now_ns())
    }

    fn snapshot_of(&self, state: &State, tenant: &str) -> Snapshot {
        let of_tenant = |segment: &&Arc<Segment>| segment.entry.tenant == tenant;
        let erasures = state.erasures.iter().filter(|erasure| erasure.request.tenant == tenant);
        let mut snapshot = Snapshot {
            kept: self.kept(tenant),
            applied: state.applied,
            head: Vec::new(),
            segments: state.segments.iter().filter(of_tenant).cloned().collect(),
            erasures: erasures.cloned().collect(),
            budget: Arc::default(),
        };
        let frozen = state.frozen.as_ref().map(|frozen| (&frozen.head, u64::MAX - 1, frozen.next_erasure));
        let heads = frozen.into_iter().chain([(&state.head, u64::MAX, state.next_erasure)]);
        for (head, order, erased_below) in heads {
            let streams = head.tenants.get(tenant).into_iter().flatten();
            snapshot.head.extend(streams.map(|(key, stream)| HeadRun {
                labels: key.labels.clone(),
                pushed: key.pushed,
                order,
                erased_below,
                blocks: stream.blocks.clone(),
            }));
        }
        snapshot
    }

    /// What a tenant asked to be forgotten: not carried out yet, and the newest of what was.
    pub fn erasures(&self, tenant: &str) -> (Vec<erasure::Request>, Vec<erasure::Request>) {
        let state = self.state.read();
        let of_tenant = |request: &&erasure::Request| request.tenant == tenant;
        let due = state.erasures.iter().map(|erasure| &erasure.request).filter(of_tenant).cloned().collect();
        (due, state.erased.iter().filter(of_tenant).cloned().collect())
    }

    /// Bytes that both heads hold.
    pub fn head_bytes(&self) -> usize {
        let state = self.state.read();
        state.head.bytes + state.frozen.as_ref().map_or(0, |frozen| frozen.head.bytes)
    }

    /// What each tenant has.
    pub fn tenants(&self) -> BTreeMap<String, TenantStats> {
        let state = self.state.read();
        let mut tenants: BTreeMap<String, TenantStats> = BTreeMap::new();
        for head in state.frozen.iter().map(|frozen| &frozen.head).chain([&state.head]) {
            for (tenant, streams) in &head.tenants {
                let lines: usize = streams.values().flat_map(|stream| &stream.blocks).map(|one| one.block.len()).sum();
                tenants.entry(tenant.clone()).or_default().lines += lines as u64;
            }
        }
        for segment in &state.segments {
            let stats = tenants.entry(segment.entry.tenant.clone()).or_default();
            stats.lines += segment.entry.lines;
            stats.text_bytes += segment.entry.text_bytes;
            stats.bytes += segment.entry.files.iter().map(|file| file.len).sum::<u64>();
        }
        tenants
    }

    pub fn stats(&self) -> StoreStats {
        let state = self.state.read();
        let files = state.segments.iter().flat_map(|segment| &segment.entry.files);
        StoreStats {
            lines_taken: state.lines_taken,
            lines_repeated: state.lines_repeated,
            head_bytes: state.head.bytes + state.frozen.as_ref().map_or(0, |frozen| frozen.head.bytes),
            segments: state.segments.len(),
            unreadable_segments: state.unreadable_segments,
            read_failures: state.segments.iter().map(|segment| segment.failures()).sum(),
            due_erasures: state.erasures.len(),
            segment_bytes: files.map(|file| file.len).sum(),
            files: state.ranges.file_count(),
        }
    }
}

impl Lines for LogStore {
    fn select(
        &self,
        request: &LineSelect<'_>,
        visit: &mut dyn FnMut(SelectedLine<'_>) -> Visit,
    ) -> Result<(), QueryError> {
        self.snapshot(request.tenant).select(request, visit)
    }

    fn tally(
        &self,
        request: &LineSelect<'_>,
        edges: &[i64],
        with_bytes: bool,
        visit: &mut (dyn FnMut(Tally<'_>) -> Visit + Send),
    ) -> Result<(), QueryError> {
        self.snapshot(request.tenant).tally(request, edges, with_bytes, visit)
    }

    fn scan(&self, request: &LineSelect<'_>, visitors: &mut [LineVisitor<'_>]) -> Result<(), QueryError> {
        self.snapshot(request.tenant).scan(request, visitors)
    }
}

/// The first manifest, on disk before there is any segment: segments without a manifest mean that it was lost.
fn begin(disk: &dyn Disk, dir: &Path, bus: &str) -> Result<Manifest, StoreError> {
    let names = disk.list(dir).map_err(StoreError::io("listing the log store", dir))?;
    if names.iter().any(|name| is_segment_dir(name)) {
        return Err(StoreError::corrupt(&dir.join(MANIFEST), "missing, though there are segments"));
    }
    let manifest = Manifest::new(bus);
    manifest.write(disk, dir)?;
    Ok(manifest)
}

/// Removes the segments that the manifest does not keep: unfinished, merged or expired ones.
fn remove_unknown(disk: &dyn Disk, dir: &Path, manifest: &Manifest) -> Result<(), StoreError> {
    for name in disk.list(dir).map_err(StoreError::io("listing the log store", dir))? {
        if is_segment_dir(&name) && !manifest.keeps(&name) {
            let path = dir.join(&name);
            disk.remove_dir_all(&path).map_err(StoreError::io("removing a segment", &path))?;
        }
    }
    Ok(())
}
