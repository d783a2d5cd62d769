//! A path and the files behind it: the current one and those that were rotated away, oldest first.
//!
//! # Contracts
//! - Files are read strictly one after the other: a file only once all older ones are read to their end and something was
//!   written to a younger one, so that whoever writes has moved on. (What is written to an old file later still is read.)
//! - While a descriptor of it is held a file cannot be mistaken. Without one, device, inode and fingerprint must all agree;
//!   the fingerprint alone recognises copies, compressed or not, of a file that is gone.
//! - A file seen at a path for the first time together with older siblings: those are left alone. A sibling unknown later
//!   was written and rotated in between, and is read whole.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use flate2::read::MultiGzDecoder;
use model::{FileId, Labels};
use parking_lot::Mutex;
use uuid::Uuid;

use super::checkpoint::{FileEntry, PathEntry};
use super::discover::{Source, is_text};
use super::encoding::Encoding;
use super::enrich::Naming;
use super::filter::Bucket;
use super::identity::{FileKey, Fingerprint, HEAD_BYTES, read_full_at, read_head};
use super::lines::{MAX_READ_BYTES, Rules};
use super::parse::Format;
use super::reader::Moved;
use super::snapshot::{Seen, Snapshot};

/// How long a file that was read to its end, or is missing, is kept in mind for stragglers and slow renames.
const GRACE: Duration = Duration::from_secs(10);
/// A full look at the siblings at least this often, where there is any reason for one.
const SCAN_INTERVAL: Duration = Duration::from_secs(10);
/// A missing path is looked for no more often than this.
const MISSING_INTERVAL: Duration = Duration::from_millis(200);
/// Modification times are as coarse as the kernel's tick, so they may be a little older than the clock.
const CLOCK_TICK: Duration = Duration::from_millis(10);
/// Fingerprints shorter than this do not prove that a file is a copy of one that is still there.
const COPY_PROOF_BYTES: u32 = 256;
/// The most that is decompressed to disk to read the rest of one file.
const MAX_SPOOL_BYTES: u64 = 4 << 30;

/// A file of a chain.
#[derive(Debug)]
pub struct Tracked {
    pub entry: FileEntry,
    pub file: Option<File>,
    /// How much of the fingerprint is in the saved checkpoint.
    pub durable_bytes: u32,
    /// When it was first seen read to its end with a younger file begun.
    drained_at: Option<Instant>,
    missing_since: Option<Instant>,
    /// How far was read, and whether messages were not over there.
    read: u64,
    is_holding: bool,
    /// When something was last read of it.
    quiet_since: Option<Instant>,
}

impl Tracked {
    fn restored(entry: FileEntry) -> Tracked {
        let durable_bytes = entry.fingerprint.len;
        Tracked { durable_bytes, ..Tracked::unread(entry, None) }
    }

    fn new(seen: Seen, left_alone: bool) -> Tracked {
        let entry = FileEntry {
            id: Uuid::new_v4().as_u128(),
            key: Some(seen.key),
            fingerprint: Fingerprint::of(&seen.head),
            offset: 0,
            held: 0,
            ends_at: None,
            skipping: Default::default(),
            left_alone,
            done: false,
        };
        let file = (!left_alone).then_some(seen.file);
        Tracked::unread(entry, file)
    }

    fn unread(entry: FileEntry, file: Option<File>) -> Tracked {
        Tracked {
            entry,
            file,
            durable_bytes: 0,
            drained_at: None,
            missing_since: None,
            read: 0,
            is_holding: false,
            quiet_since: None,
        }
    }

    /// The bytes whose message is not over; none where the file is gone.
    fn held_bytes(&self) -> io::Result<Vec<u8>> {
        let Some(file) = self.file.as_ref().filter(|_| self.is_holding) else { return Ok(Vec::new()) };
        let held = self.read.saturating_sub(self.entry.resume()) as usize;
        let mut bytes = vec![0; held.min(MAX_READ_BYTES)];
        let len = read_full_at(file, &mut bytes, self.entry.resume())?;
        bytes.truncate(len);
        Ok(bytes)
    }

    /// Nothing could be taken up to here.
    pub fn waits(&mut self, read: u64, is_holding: bool) {
        if (self.read, self.is_holding) != (read, is_holding) {
            (self.read, self.is_holding, self.quiet_since) = (read, is_holding, None);
        }
    }

    fn has_more(&self, size: u64) -> bool {
        size > self.entry.offset.max(self.read)
    }

    pub fn id(&self) -> FileId {
        self.entry.file_id()
    }

    pub fn size(&self) -> Option<u64> {
        Some(self.file.as_ref()?.metadata().ok()?.len())
    }

    /// Whether the descriptor is of this very file. What is unpacked, or was read before it was packed, keeps no inode from
    /// being used again.
    fn holds(&self, key: FileKey) -> bool {
        let held = self.file.as_ref().and_then(|file| file.metadata().ok());
        held.is_some_and(|meta| FileKey::of(&meta) == key)
    }

    /// Lets the fingerprint grow with the file. False: the file does not begin any more as it did.
    pub fn refresh_fingerprint(&mut self) -> io::Result<bool> {
        let Some(file) = &self.file else { return Ok(true) };
        let head = read_head(file)?;
        if !self.entry.fingerprint.matches(&head) {
            return Ok(false);
        }
        if head.len() > self.entry.fingerprint.len as usize {
            self.entry.fingerprint = Fingerprint::of(&head);
        }
        Ok(true)
    }

    /// Whether the checkpoint must be saved before bytes up to `end` may ship.
    pub fn needs_save(&self, end: u64) -> bool {
        u64::from(self.durable_bytes) < end.min(HEAD_BYTES as u64)
    }
}

/// What is to be read next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Next {
    pub index: usize,
    /// The writer has moved on: an unterminated line at the end is a line.
    pub is_past: bool,
    /// The first of the files before this one with messages that go on here.
    pub prefix: Option<usize>,
    pub ending: Ending,
}

/// Which messages at the end of a file are over though nothing says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    No,
    /// Those without an unfinished part: nothing was added for as long as is waited.
    Whole,
    All,
}

pub struct Chain {
    pub path: PathBuf,
    pub name: PathBuf,
    pub tenant: String,
    pub streams: Vec<Labels>,
    pub configured: Option<Format>,
    pub format: Option<Format>,
    pub rules: Arc<Rules>,
    pub bucket: Option<Arc<Mutex<Bucket>>>,
    pub last_t_ns: i64,
    pub files: Vec<Tracked>,
    /// A record is made or on its way; nothing is looked at or read until it is acknowledged.
    pub in_flight: bool,
    /// Not read before, unless it was named meanwhile.
    pub unnamed_until: Option<Instant>,
    first_sight: bool,
    /// Siblings that were written after this were rotated under our eyes, first sight or not.
    watching_since: SystemTime,
    last_scan: Option<Instant>,
    /// The path may lead elsewhere by now.
    pub is_unsure: bool,
    /// The kernel does not tell of changes, as far as is known.
    pub is_polled: bool,
}

/// What a look at the directory changed.
#[derive(Debug, Default, PartialEq)]
pub struct Changes {
    pub changed: bool,
    /// Files that are gone and were read to their end.
    pub forgotten: Vec<FileId>,
}

impl Chain {
    pub fn new(path: PathBuf, name: PathBuf, naming: Naming, source: &Source) -> Chain {
        let configured = source.format;
        Chain {
            path,
            name,
            tenant: naming.tenant,
            streams: naming.streams,
            configured,
            format: configured.filter(|format| format.is_envelope()),
            rules: source.rules.clone(),
            bucket: None,
            last_t_ns: 0,
            files: Vec::new(),
            in_flight: false,
            unnamed_until: None,
            first_sight: true,
            watching_since: SystemTime::now(),
            last_scan: None,
            is_unsure: true,
            is_polled: true,
        }
    }

    /// Since when the agent has been running.
    pub fn watching_since(mut self, started: SystemTime) -> Chain {
        self.watching_since = started - CLOCK_TICK;
        self
    }

    pub fn restore(&mut self, entry: PathEntry) {
        self.first_sight = false;
        self.last_t_ns = entry.last_t_ns;
        let may_be = |format: &Format| self.configured.is_none_or(|known| known == *format || format.is_envelope());
        self.format = self.format.or(entry.format.filter(may_be));
        self.files = entry.files.into_iter().map(Tracked::restored).collect();
    }

    pub fn checkpoint(&self) -> PathEntry {
        PathEntry {
            path: self.path.clone(),
            name: self.name.clone(),
            last_t_ns: self.last_t_ns,
            format: self.format,
            files: self.files.iter().map(|tracked| tracked.entry.clone()).collect(),
        }
    }

    pub fn saved(&mut self) {
        for tracked in &mut self.files {
            tracked.durable_bytes = tracked.entry.fingerprint.len;
        }
    }

    /// Compares the path with what is known about it: whether its directory must be looked at. Must not be called while a
    /// record is in flight.
    pub fn is_due(&mut self, now: Instant) -> io::Result<bool> {
        assert!(!self.in_flight, "files stay what they are while a record of them is on its way");
        self.is_unsure = true;
        let since = self.last_scan.map(|at| now.duration_since(at));
        let current = match fs::metadata(&self.path) {
            Ok(meta) => Some((FileKey::of(&meta), meta.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let is_known = |last: &Tracked, key: FileKey| {
            last.entry.key == Some(key) && (last.file.is_some() || last.entry.left_alone)
        };
        self.is_unsure = !current.is_some_and(|(key, _)| self.files.last().is_some_and(|last| is_known(last, key)));
        Ok(match (current, self.files.last()) {
            (Some((key, size)), Some(last)) if last.entry.key == Some(key) && last.file.is_some() => {
                let is_cut = size < last.entry.offset || size < u64::from(last.entry.fingerprint.len);
                if is_cut {
                    self.truncated(self.files.len() - 1);
                }
                is_cut || (self.files.len() > 1 && since.is_none_or(|since| since >= SCAN_INTERVAL))
            }
            (Some((key, _)), Some(last)) if last.entry.key == Some(key) && last.entry.left_alone => {
                since.is_none_or(|since| since >= SCAN_INTERVAL)
            }
            (Some(_), _) => true,
            (None, _) => since.is_none_or(|since| since >= MISSING_INTERVAL),
        })
    }

    /// Whether a look at its directory is due whatever its path leads to.
    pub fn wants_scan(&self, now: Instant) -> bool {
        let Some(since) = self.last_scan.map(|at| now.duration_since(at)) else { return true };
        let is_unsure = self.is_unsure || self.files.iter().any(|tracked| tracked.missing_since.is_some());
        (self.files.len() > 1 && since >= SCAN_INTERVAL) || (is_unsure && since >= MISSING_INTERVAL)
    }

    /// The content is gone (`copytruncate`): what was not read may be found in a copy.
    pub fn truncated(&mut self, index: usize) {
        let tracked = &mut self.files[index];
        tracing::debug!(path = %self.path.display(), file = %tracked.id(), "truncated");
        tracked.entry.key = None;
        tracked.file = None;
        self.last_scan = None;
        self.is_unsure = true;
    }

    /// Takes over what the directory held. Must not be called while a record is in flight.
    pub fn apply(&mut self, mut snapshot: Snapshot, now: Instant, spool_dir: &Path) -> io::Result<Changes> {
        assert!(!self.in_flight, "files stay what they are while a record of them is on its way");
        self.last_scan = Some(now);
        let mut changes = Changes::default();
        let mut owner: Vec<Option<FileId>> = vec![None; snapshot.len()];
        self.match_by_key(&snapshot, &mut owner);
        self.match_copies(&snapshot, &mut owner, &mut changes);
        let position: BTreeMap<u128, usize> =
            owner.iter().enumerate().filter_map(|(at, id)| Some((id.as_ref()?.0, at))).collect();
        for tracked in &mut self.files {
            tracked.missing_since = match position.get(&tracked.entry.id) {
                Some(_) => None,
                None => tracked.missing_since.or(Some(now)),
            };
        }
        let mut order = position;
        for at in (0..snapshot.len()).rev() {
            let seen = snapshot.remove(at);
            match owner[at] {
                Some(id) => self.reopen(id, seen, spool_dir)?,
                None if self.is_wanted(&seen) => {
                    let is_older = seen.modified.is_none_or(|at| at < self.watching_since);
                    let is_before = self.first_sight && !seen.is_base && is_older;
                    let is_readable = Encoding::of(&seen.head) != Encoding::Utf8 || is_text(&seen.head);
                    let left_alone = is_before || !is_readable;
                    let mut tracked = Tracked::new(seen, left_alone);
                    if tracked.file.is_some() {
                        spool_if_gzip(&mut tracked, spool_dir)?;
                    }
                    order.insert(tracked.entry.id, at);
                    self.files.push(tracked);
                    changes.changed = true;
                }
                None => {}
            }
        }
        // What is not in the directory any more is older than what is.
        self.files.sort_by_key(|tracked| order.get(&tracked.entry.id).map_or(0, |at| at + 1));
        self.first_sight = false;
        self.forget(now, &mut changes);
        Ok(changes)
    }

    fn match_by_key(&self, snapshot: &Snapshot, owner: &mut [Option<FileId>]) {
        for (at, seen) in snapshot.iter().enumerate() {
            let is_same = |tracked: &&Tracked| {
                tracked.entry.key == Some(seen.key)
                    && (tracked.holds(seen.key) || tracked.entry.fingerprint.matches(&seen.head))
            };
            owner[at] = self.files.iter().rev().find(is_same).map(Tracked::id);
        }
    }

    /// Files that are gone under their inode, but whose content is still there in a copy.
    fn match_copies(&mut self, snapshot: &Snapshot, owner: &mut [Option<FileId>], changes: &mut Changes) {
        for tracked in &mut self.files {
            let (id, print) = (tracked.id(), tracked.entry.fingerprint);
            if print.len == 0 || owner.contains(&Some(id)) {
                continue;
            }
            let is_copy = |seen: &Seen| {
                let is_long_enough = seen.is_gzip || seen.size >= tracked.entry.offset;
                let is_proof = !seen.is_base || print.len as usize == HEAD_BYTES;
                is_long_enough && is_proof && print.matches(&seen.head)
            };
            if let Some(at) = (0..snapshot.len()).find(|at| owner[*at].is_none() && is_copy(&snapshot[*at])) {
                owner[at] = Some(id);
                tracked.entry.key = Some(snapshot[at].key);
                changes.changed = true;
            }
        }
    }

    /// Whether a file that nobody knows is to be tracked. What is known may have grown since its fingerprint was taken, and
    /// the copy of what it is now.
    fn is_wanted(&mut self, seen: &Seen) -> bool {
        if seen.is_base {
            return true;
        }
        let mut cut = None;
        let is_copy_of_known = self.files.iter_mut().enumerate().any(|(index, tracked)| {
            match tracked.refresh_fingerprint() {
                Ok(true) => {}
                Ok(false) => cut = Some(index),
                Err(error) => tracing::debug!(%error, file = %tracked.id(), "its beginning cannot be read now"),
            }
            let print = tracked.entry.fingerprint;
            print.len >= COPY_PROOF_BYTES.min(seen.head.len() as u32).max(1) && print.matches(&seen.head)
        });
        if let Some(index) = cut.filter(|_| !self.first_sight) {
            // Truncated since the snapshot was taken, and this may be the copy: the next look can tell.
            self.truncated(index);
            return false;
        }
        seen.is_rotation && (self.first_sight || !is_copy_of_known)
    }

    /// Opens a known file when there may be something left in it.
    fn reopen(&mut self, id: FileId, seen: Seen, spool_dir: &Path) -> io::Result<()> {
        let Some(tracked) = self.files.iter_mut().find(|tracked| tracked.id() == id) else { return Ok(()) };
        let may_have_more = seen.is_base || !tracked.entry.done || (!seen.is_gzip && seen.size > tracked.entry.offset);
        if tracked.file.is_none() && !tracked.entry.left_alone && may_have_more {
            tracked.file = Some(seen.file);
            tracked.drained_at = None;
            if seen.is_gzip {
                spool_if_gzip(tracked, spool_dir)?;
            }
        }
        Ok(())
    }

    fn forget(&mut self, now: Instant, changes: &mut Changes) {
        let is_over = |since: Option<Instant>| since.is_some_and(|since| now.duration_since(since) >= GRACE);
        self.files.retain(|tracked| {
            let is_read = tracked.file.is_none() || is_over(tracked.drained_at);
            let is_gone = is_over(tracked.missing_since) && is_read;
            if is_gone {
                changes.changed = true;
                changes.forgotten.push(tracked.id());
            }
            !is_gone
        });
    }

    /// The oldest file that has something to read. Sizes are taken from the youngest on, so that a file counts as read to
    /// its end only when it was so after something younger was seen.
    pub fn next(&mut self, now: Instant) -> Option<Next> {
        let sizes: Vec<Option<u64>> = self.files.iter().rev().map(Tracked::size).collect();
        let mut next = None;
        let (mut has_younger, mut is_younger_begun) = (false, false);
        for (tracked, size) in self.files.iter_mut().rev().zip(sizes) {
            let Some(size) = size.filter(|_| !tracked.entry.left_alone) else { continue };
            let is_over = tracked.missing_since.is_some() && tracked.drained_or_stale(now, size);
            if tracked.has_more(size) {
                tracked.drained_at = None;
                let ending = if is_over && !has_younger { Ending::All } else { Ending::No };
                next = Some((tracked.entry.id, has_younger || is_over, ending));
            } else if tracked.is_holding {
                let ending = match (has_younger, is_over || is_younger_begun) {
                    // It goes on there.
                    (true, false) => None,
                    (_, true) => tracked.is_quiet(now, GRACE / 2).then_some(Ending::All),
                    (false, false) => self
                        .rules
                        .multiline
                        .as_ref()
                        .and_then(|joining| tracked.is_quiet(now, joining.timeout).then_some(Ending::Whole)),
                };
                next = ending.map(|ending| (tracked.entry.id, has_younger || is_over, ending)).or(next);
            } else if has_younger || tracked.missing_since.is_some() {
                let since = *tracked.drained_at.get_or_insert(now);
                if has_younger && now.duration_since(since) >= GRACE {
                    tracked.file = None;
                    tracked.entry.done = true;
                }
            }
            has_younger |= size > 0;
            is_younger_begun |= tracked.entry.resume() > 0;
        }
        let (id, is_past, ending) = next?;
        let index = self.files.iter().position(|tracked| tracked.entry.id == id)?;
        let begins = self.files[index].entry.resume() == 0;
        let prefix = (0..index).find(|before| begins && self.files[*before].is_holding);
        Some(Next { index, is_past, prefix, ending })
    }

    /// What files from `first` on hold for the one at `index`: at most a read of it.
    pub fn held_bytes(&self, first: usize, index: usize) -> io::Result<Vec<u8>> {
        let mut held = Vec::new();
        for tracked in &self.files[first..index] {
            let bytes = tracked.held_bytes()?;
            if held.len() + bytes.len() < MAX_READ_BYTES {
                held.extend_from_slice(&bytes);
                // A line ends with its file.
                if held.last().is_some_and(|last| *last != b'\n' && *last != 0) {
                    held.push(b'\n');
                }
            }
        }
        Ok(held)
    }

    /// Takes note of what was acknowledged, or needed no acknowledgement.
    pub fn moved(&mut self, moved: &Moved, now: Instant) {
        let Some(index) = self.files.iter().position(|tracked| tracked.id() == moved.file) else { return };
        for before in self.files[..index].iter_mut().filter(|tracked| moved.releases && tracked.is_holding) {
            (before.entry.offset, before.entry.held, before.is_holding) = (before.read, 0, false);
        }
        let tracked = &mut self.files[index];
        let entry = &mut tracked.entry;
        (entry.offset, entry.held, entry.skipping) = (moved.end, moved.held, moved.skipping);
        entry.ends_at = entry.ends_at.filter(|at| *at > moved.end);
        (tracked.read, tracked.is_holding, tracked.quiet_since) = (moved.read, moved.is_holding, Some(now));
        self.last_t_ns = moved.last_t_ns;
    }

    /// Bytes that were not read yet, and since when nothing was read though there are such.
    pub fn lag(&self, now: Instant) -> (u64, Duration) {
        let of = |tracked: &Tracked| {
            let unread = tracked.size()?.saturating_sub(tracked.entry.offset.max(tracked.read));
            let since = tracked.quiet_since.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
            (unread > 0).then_some((unread, since))
        };
        self.files.iter().filter_map(of).fold((0, Duration::ZERO), |sum, one| (sum.0 + one.0, sum.1.max(one.1)))
    }

    /// Time alone may change what is to be done, or the last look did not tell all.
    pub fn is_unsettled(&self) -> bool {
        let is_open = |tracked: &Tracked| tracked.is_holding || tracked.missing_since.is_some();
        self.unnamed_until.is_some()
            || self.last_scan.is_none()
            || self.files.len() > 1
            || self.files.iter().any(is_open)
    }

    /// Nothing behind this path exists any more.
    pub fn is_over(&self) -> bool {
        self.files.is_empty() && self.last_scan.is_some() && !self.in_flight
    }
}

impl Tracked {
    /// Whether nothing was read of it for so long.
    fn is_quiet(&mut self, now: Instant, timeout: Duration) -> bool {
        now.duration_since(*self.quiet_since.get_or_insert(now)) >= timeout
    }

    /// A deleted file whose last line has no newline: it is given up on when it has not grown for a while.
    fn drained_or_stale(&self, now: Instant, size: u64) -> bool {
        let modified = self.file.as_ref().and_then(|file| file.metadata().ok()?.modified().ok());
        let is_quiet = modified.and_then(|at| at.elapsed().ok()).is_some_and(|age| age >= GRACE / 2);
        let is_long_missing = self.missing_since.is_some_and(|since| now.duration_since(since) >= GRACE / 2);
        size > self.entry.offset && is_quiet && is_long_missing
    }
}

/// Decompresses to a nameless file, so that what is left can be read like any other. One that is not finished yet is left
/// for the next look.
fn spool_if_gzip(tracked: &mut Tracked, spool_dir: &Path) -> io::Result<()> {
    let Some(packed) = &tracked.file else { return Ok(()) };
    let mut magic = [0; 2];
    if read_full_at(packed, &mut magic, 0)? < 2 || magic != [0x1f, 0x8b] {
        return Ok(());
    }
    let path = spool_dir.join(format!("spool-{}", tracked.id()));
    let mut spool = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
    fs::remove_file(&path)?;
    io::Seek::rewind(&mut &*packed)?;
    let mut plain = io::Read::take(MultiGzDecoder::new(packed), MAX_SPOOL_BYTES);
    tracked.file = match io::copy(&mut plain, &mut spool) {
        Ok(_) => Some(spool),
        Err(error) => {
            tracing::debug!(%error, "a compressed log is not complete yet");
            None
        }
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use service::config::LogSource;

    use super::super::snapshot;
    use super::*;

    /// A short file was copied, a snapshot taken, and only then the file truncated: its beginning could not be compared any
    /// more, the fingerprint was too short to prove the copy, and every line of it was read again.
    #[test]
    fn a_copy_is_known_though_its_file_is_truncated_behind_the_snapshot() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, copy) = (dir.path().join("a.log"), dir.path().join("a.log.1"));
        fs::write(&path, "one\n").expect("written");
        let naming = Naming { tenant: "t".to_owned(), streams: vec![Labels::default()] };
        let source = Source::new(&LogSource::default()).expect("a source");
        let mut chain = Chain::new(path.clone(), path.clone(), naming, &source);
        let start = Instant::now();
        let snapshot = || snapshot::take(dir.path(), vec!["a.log".to_owned()]).expect("readable").remove(0).1;
        assert!(chain.is_due(start).expect("there"));
        chain.apply(snapshot(), start, dir.path()).expect("seen");
        let known = chain.files[0].id();
        chain.files[0].entry.offset = 4;
        fs::write(&path, "one\ntwo\n").expect("it grows");
        fs::copy(&path, &copy).expect("copied");
        let before = snapshot();
        File::create(&path).expect("truncated");
        chain.apply(before, start, dir.path()).expect("applied");
        assert!(chain.is_due(start + SCAN_INTERVAL).expect("there"));
        chain.apply(snapshot(), start + SCAN_INTERVAL, dir.path()).expect("seen again");
        let key = FileKey::of(&fs::metadata(&copy).expect("there"));
        let owners: Vec<FileId> =
            chain.files.iter().filter(|tracked| tracked.entry.key == Some(key)).map(Tracked::id).collect();
        assert_eq!(owners, [known], "the copy goes on where its file was");
    }
}
