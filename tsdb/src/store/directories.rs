//! Directories of parts that queries use: loaded when the first one asks, held up to a bound in bytes.
//!
//! # Contracts
//! - Parts themselves hold none, so what memory a store needs does not grow with the series that it ever had.
//! - Several that ask at once for the same part load it once.
//! - The least recently used goes first, but none that the query at hand has found here or brought: past the bound a query
//!   over more than fits is given what it asks for, part by part, and the rest of them is not held. So it neither takes its
//!   own directories from itself nor loads all of them again the next time.
//! - Merges read past it. What they and publishings write is brought here only in the place, or beside, of what queries of
//!   late have asked for: then the next query finds it, and what nobody asks for stays out.
//! - A directory that is damaged since the start is an error of each query that needs it, with its file and place.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::part::Directory;
use super::{LivePart, Store, StoreError};

/// What is held of parts nobody has said more about: the directories of about a million series.
const DEFAULT_MAX_BYTES: usize = 96 << 20;

pub struct Directories {
    max_bytes: AtomicUsize,
    held: Mutex<Held>,
    loads: AtomicU64,
    evictions: AtomicU64,
}

#[derive(Default)]
struct Held {
    by_number: HashMap<u64, Entry>,
    bytes: usize,
    /// Rises with every query.
    clock: u64,
    /// Rises with every publishing.
    publishings: u64,
}

/// A directory that is being loaded, or is.
type Slot = Arc<Mutex<Option<Arc<Directory>>>>;

#[derive(Default)]
struct Entry {
    slot: Slot,
    /// 0 until it is loaded.
    bytes: usize,
    /// The query that used it last.
    used: u64,
    /// The publishing that came before a query asked for it last; `None` if none has.
    asked: Option<u64>,
}

/// Sizes and counts, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DirectoryStats {
    pub bytes: usize,
    pub loads: u64,
    pub evictions: u64,
}

impl Default for Directories {
    fn default() -> Directories {
        Directories {
            max_bytes: AtomicUsize::new(DEFAULT_MAX_BYTES),
            held: Mutex::default(),
            loads: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
        }
    }
}

/// One query's way to directories.
pub struct Asking<'a> {
    directories: &'a Directories,
    clock: u64,
}

impl Asking<'_> {
    pub fn open(&self, live: &LivePart) -> Result<Arc<Directory>, StoreError> {
        let number = live.entry.number;
        let slot = {
            let mut held = self.directories.held.lock();
            let publishings = held.publishings;
            let entry = held.by_number.entry(number).or_default();
            (entry.used, entry.asked) = (entry.used.max(self.clock), Some(publishings));
            entry.slot.clone()
        };
        let mut loaded = slot.lock();
        if let Some(directory) = loaded.as_ref() {
            return Ok(directory.clone());
        }
        self.directories.loads.fetch_add(1, Ordering::Relaxed);
        let directory = live.part.load().map(Arc::new).inspect_err(|_| self.directories.held.lock().remove(number))?;
        let bytes = directory.bytes();
        *loaded = Some(directory.clone());
        self.directories.settle(live, bytes, self.clock);
        Ok(directory)
    }
}

impl Directories {
    /// Begins a query of these parts: what is here of them stays for its sake.
    pub fn ask(&self, parts: &[LivePart]) -> Asking<'_> {
        let mut held = self.held.lock();
        held.clock += 1;
        let clock = held.clock;
        for live in parts {
            if let Some(entry) = held.by_number.get_mut(&live.entry.number) {
                entry.used = clock;
            }
        }
        Asking { directories: self, clock }
    }

    /// Counts a directory that was loaded, and makes room for it or lets it go.
    fn settle(&self, live: &LivePart, bytes: usize, clock: u64) {
        let (number, max_bytes) = (live.entry.number, self.max_bytes.load(Ordering::Relaxed));
        let mut held = self.held.lock();
        if live.part.is_gone() {
            // A query that began before the part went asked for it.
            return held.remove(number);
        }
        let Some(entry) = held.by_number.get_mut(&number).filter(|entry| entry.bytes == 0) else { return };
        entry.bytes = bytes;
        held.bytes += bytes;
        self.make_room(&mut held, max_bytes, clock);
        if held.bytes > max_bytes {
            held.remove(number);
            self.evictions.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lets go of what was used before a query, the least recently used first.
    fn make_room(&self, held: &mut Held, max_bytes: usize, clock: u64) {
        while held.bytes > max_bytes {
            let older = held.by_number.iter().filter(|(_, entry)| entry.bytes > 0 && entry.used < clock);
            let Some(oldest) = older.min_by_key(|(_, entry)| entry.used).map(|(number, _)| *number) else { return };
            held.remove(oldest);
            self.evictions.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Forgets parts that are no more.
    pub fn forget(&self, parts: &[LivePart]) {
        let mut held = self.held.lock();
        for live in parts {
            live.part.set_gone();
            held.remove(live.entry.number);
        }
    }

    /// Holds a directory that was just written, as if a query had loaded it.
    pub fn bring(&self, live: &LivePart, directory: Directory) {
        let (number, bytes) = (live.entry.number, directory.bytes());
        let slot = Arc::new(Mutex::new(Some(Arc::new(directory))));
        let used = {
            let mut held = self.held.lock();
            let used = held.clock;
            held.by_number.insert(number, Entry { slot, bytes: 0, used, asked: None });
            used
        };
        self.settle(live, bytes, used);
    }

    /// Whether queries asked for any of these since the publishing before the last.
    pub fn are_asked<'p>(&self, parts: impl IntoIterator<Item = &'p LivePart>) -> bool {
        let held = self.held.lock();
        let asked = parts.into_iter().filter_map(|live| held.by_number.get(&live.entry.number)?.asked);
        asked.max().is_some_and(|asked| asked + 1 >= held.publishings)
    }

    /// A head was published.
    pub fn note_publishing(&self) {
        self.held.lock().publishings += 1;
    }

    fn stats(&self) -> DirectoryStats {
        let bytes = self.held.lock().bytes;
        let [loads, evictions] = [&self.loads, &self.evictions].map(|count| count.load(Ordering::Relaxed));
        DirectoryStats { bytes, loads, evictions }
    }
}

impl Held {
    fn remove(&mut self, number: u64) {
        self.bytes -= self.by_number.remove(&number).map_or(0, |entry| entry.bytes);
    }
}

impl Store {
    /// Bounds the bytes of directories that are held between queries.
    pub fn hold_directories(&self, max_bytes: usize) {
        self.directories.max_bytes.store(max_bytes, Ordering::Relaxed);
        self.directories.make_room(&mut self.directories.held.lock(), max_bytes, u64::MAX);
    }

    pub fn directory_stats(&self) -> DirectoryStats {
        self.directories.stats()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use disk::{Disk, FakeDisk};
    use model::MS_PER_DAY;

    use super::super::tests::{DIR, NOW_MS, Samples, apply, check, open, read};
    use super::super::{Effort, part_path};
    use super::*;

    /// A part for each of the last days, two series in each, and what a query finds.
    fn days(disk: &FakeDisk, days: u64) -> (Store, Samples) {
        let (store, mut expected) = (open(disk), Samples::new());
        for day in 0..days {
            let t_ms = NOW_MS - (days - day) as i64 * MS_PER_DAY;
            apply(&store, day, &[(1, t_ms, day), (2, t_ms, day)]);
            store.publish().expect("published");
            expected.extend([((1, t_ms), day), ((2, t_ms), day)]);
        }
        (store, expected)
    }

    fn loads(store: &Store) -> u64 {
        store.directory_stats().loads
    }

    /// Directories stayed in memory for ever, so that a store whose series come and go grew without end.
    #[test]
    fn what_nobody_asks_for_is_not_held() {
        let disk = FakeDisk::new();
        let (store, expected) = days(&disk, 3);
        assert_eq!(store.directory_stats(), DirectoryStats::default());
        while store.merge_one(NOW_MS, Effort::Due).expect("merged") {}
        assert_eq!(store.directory_stats(), DirectoryStats::default());
        check(&store, &expected);
        assert_eq!(loads(&store), 3);
        check(&store, &expected);
        assert_eq!(loads(&store), 3, "a query loaded again what is held");
        assert!(store.directory_stats().bytes > 0);
        assert_eq!(store.drop_expired(|_| NOW_MS).expect("dropped"), 3);
        assert_eq!(store.directory_stats().bytes, 0);
        drop(store);
        assert_eq!(loads(&open(&disk)), 0);
    }

    #[test]
    fn past_the_bound_all_answers_and_what_fits_stays() {
        let (store, expected) = days(&FakeDisk::new(), 4);
        check(&store, &expected);
        let one = store.directory_stats().bytes / 4;
        for (fitting, again) in [(0, 4), (1, 3), (3, 1), (4, 0)] {
            store.hold_directories(fitting * one);
            // The first leaves what fits, the second finds it.
            check(&store, &expected);
            let before = store.directory_stats();
            check(&store, &expected);
            let after = store.directory_stats();
            assert_eq!(after.loads - before.loads, again, "{fitting} fit");
            assert_eq!(after.evictions - before.evictions, again, "{fitting} fit");
            assert_eq!(after.bytes, fitting * one);
        }
    }

    /// The day that a query asks for takes the place of the one that was not asked for longest.
    #[test]
    fn the_least_recently_used_goes_first() {
        let (store, _) = days(&FakeDisk::new(), 3);
        let ask = |day: i64| {
            let before = loads(&store);
            let t_ms = NOW_MS - (3 - day) * MS_PER_DAY;
            assert_eq!(read(&store, t_ms, t_ms).len(), 2);
            loads(&store) - before
        };
        assert_eq!((ask(0), ask(1)), (1, 1));
        store.hold_directories(store.directory_stats().bytes);
        assert_eq!((ask(0), ask(2), ask(0), ask(1)), (0, 1, 0, 1));
        // A query over all, oldest first, does not take the newest from itself before it comes to it.
        store.hold_directories(store.directory_stats().bytes / 2);
        let (_, before) = (ask(2), loads(&store));
        assert_eq!(read(&store, i64::MIN, i64::MAX).len(), 6);
        assert_eq!((loads(&store) - before, ask(2)), (2, 0));
    }

    /// What replaces or joins parts that queries use is there for the next one; when they cease it is not.
    #[test]
    fn new_parts_are_held_beside_those_in_use() {
        let store = open(&FakeDisk::new());
        let publish = |offset: u64| {
            apply(&store, offset, &[(1, NOW_MS + offset as i64, offset)]);
            store.publish().expect("published");
        };
        publish(0);
        let ask = || {
            let before = loads(&store);
            assert!(!read(&store, NOW_MS, NOW_MS + 100).is_empty());
            loads(&store) - before
        };
        assert_eq!(ask(), 1);
        publish(1);
        assert_eq!(ask(), 0, "published");
        while store.merge_one(NOW_MS + MS_PER_DAY, Effort::Due).expect("merged") {}
        assert_eq!((store.part_stats().0, ask()), (1, 0), "merged");
        let (_, held) = (2..10).map(|offset| (publish(offset), store.directory_stats().bytes)).last().expect("some");
        publish(10);
        assert_eq!(store.directory_stats().bytes, held, "nobody asks any more");
        while store.merge_one(NOW_MS + MS_PER_DAY, Effort::Due).expect("merged") {}
        assert_eq!(store.directory_stats().bytes, 0, "nobody asks any more");
    }

    /// Nothing would ever let go of it, nor of the removed file behind it.
    #[test]
    fn a_part_that_is_gone_is_read_and_not_held() {
        let (store, _) = days(&FakeDisk::new(), 1);
        let before = store.view.read().parts("t", i64::MIN, i64::MAX);
        store.drop_expired(|_| NOW_MS).expect("dropped");
        let directory = store.directories.ask(&before).open(&before[0]).expect("its file is still open");
        assert_eq!((directory.series(), store.directory_stats().bytes), (2, 0));
        assert!(store.directories.held.lock().by_number.is_empty());
    }

    #[test]
    fn several_that_ask_at_once_load_once() {
        let (store, _) = days(&FakeDisk::new(), 1);
        let (parts, barrier) = (store.view.read().parts("t", i64::MIN, i64::MAX), std::sync::Barrier::new(8));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    barrier.wait();
                    store.directories.ask(&parts).open(&parts[0]).map(drop).expect("loaded");
                });
            }
        });
        assert_eq!(loads(&store), 1);
    }

    /// A directory that is damaged after the start was in memory before that, and is read later now.
    #[test]
    fn damage_since_the_start_is_said_and_others_answer() {
        let disk = FakeDisk::new();
        let (store, expected) = days(&disk, 2);
        let damaged = part_path(Path::new(DIR), 1);
        let at = disk.read(&damaged).expect("read").len() - 30;
        disk.corrupt(&damaged, at).expect("corrupted");
        let asked = |start_ms| {
            let listing = super::super::Listing {
                tenant: "t",
                selectors: &[Vec::new()],
                start_ms,
                end_ms: i64::MAX,
                deadline: None,
            };
            store.series(&listing).map(|found| found.len()).map_err(|error| error.to_string())
        };
        let error = asked(i64::MIN).expect_err("damaged");
        assert!(error.contains("0000000000000001.part is damaged at byte "), "{error}");
        assert_eq!(asked(NOW_MS - MS_PER_DAY), Ok(2));
        disk.corrupt(&damaged, at).expect("mended");
        check(&store, &expected);
    }
}
