//! The store's promises: each line once, through publication, merges, crashes and replay.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use disk::{Disk, FakeDisk, RealDisk};
use model::{Batch, FileId, ForgetFiles, Labels, LogBatch, MatchOp, Matcher, Origin};
use parking_lot::Mutex;
use query::{AnyOf, LineSelect, LineVisitor, Lines, SelectedLine};

use super::retention::StreamRetention;
use super::*;

mod counting;
mod erasures;

const NOON_NS: i64 = 20_000 * NS_PER_DAY + NS_PER_DAY / 2;

fn options() -> StoreOptions {
    StoreOptions { merge_count: 3, ..StoreOptions::default() }
}

fn open_at(disk: Arc<dyn Disk>, dir: &Path, now_ns: Arc<AtomicI64>) -> LogStore {
    LogStore::open(disk, dir, "bus", options(), Arc::new(move || now_ns.load(Ordering::Relaxed))).expect("opens")
}

fn open(disk: &FakeDisk) -> LogStore {
    open_at(Arc::new(disk.clone()), Path::new("/logs"), Arc::new(AtomicI64::new(NOON_NS)))
}

fn stream(name: &str) -> Labels {
    Labels::from_pairs([("app", name)])
}

fn pushed(app: &str, lines: &[(i64, &str)]) -> Arc<Batch> {
    let mut batch = LogBatch::new("t", Origin::Pushed);
    batch.streams.push(stream(app));
    batch.metadata.push(Labels::from_pairs([("level", "info")]));
    lines.iter().for_each(|(t, text)| batch.push(0, NOON_NS + t, text, 1, 0));
    Arc::new(Batch::Logs(batch))
}

/// Lines of ten bytes each, `from..to`, of one file: line `n` at instant `n`.
fn tailed(file: u128, from: u64, to: u64) -> Arc<Batch> {
    let origin = Origin::Tailed { file: FileId(file), start: from * 10, end: to * 10 };
    let mut batch = LogBatch::new("t", origin);
    batch.streams.push(stream(&format!("file{file}")));
    for n in from..to {
        batch.push(0, NOON_NS + n as i64, &format!("line {n:04}"), 0, ((n - from + 1) * 10) as u32);
    }
    Arc::new(Batch::Logs(batch))
}

/// A request for all of a tenant's lines.
fn all<'a>(matchers: &'a [Matcher], backward: bool, contains: &'a [AnyOf]) -> LineSelect<'a> {
    LineSelect {
        tenant: "t",
        matchers,
        start_ns: i64::MIN,
        end_ns: i64::MAX,
        backward,
        contains,
        words: &[],
        told_by: None,
        deadline: None,
    }
}

fn select(store: &dyn Lines, matcher: &str, backward: bool, contains: &[&str], limit: usize) -> Vec<String> {
    let matchers = [Matcher::new("app", MatchOp::Regex, matcher).expect("good")];
    let contains: Vec<AnyOf> = contains.iter().copied().map(AnyOf::one).collect();
    let request = all(&matchers, backward, &contains);
    let mut found = Vec::new();
    let selected = store.select(&request, &mut |line| {
        found.push(line.text.to_owned());
        if found.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    selected.expect("selected");
    if found.len() < limit {
        check_unordered(store, &request, &found);
    }
    found
}

/// What is read in no order must be the same lines.
fn check_unordered(store: &dyn Lines, request: &LineSelect<'_>, expected: &[String]) {
    let (mut lines, mut bytes) = (0, 0);
    let tallied = store.tally(request, &[i64::MAX], true, &mut |tally| {
        lines += tally.lines as usize;
        bytes += tally.bytes as usize;
        ControlFlow::Continue(())
    });
    tallied.expect("tallied");
    assert_eq!((lines, bytes), (expected.len(), expected.iter().map(String::len).sum()));
    let found: Mutex<Vec<String>> = Mutex::default();
    let visitor = || {
        Box::new(|line: SelectedLine<'_>| {
            found.lock().push(line.text.to_owned());
            ControlFlow::Continue(())
        })
    };
    store.scan(request, &mut [visitor(), visitor()].map(|visitor| visitor as LineVisitor<'_>)).expect("scanned");
    let (mut found, mut expected) = (found.into_inner(), expected.to_vec());
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

fn check(store: &LogStore, matcher: &str, expected: &[&str]) {
    assert_eq!(select(store, matcher, false, &[], usize::MAX), expected);
    let mut reversed = expected.to_vec();
    reversed.reverse();
    assert_eq!(select(store, matcher, true, &[], usize::MAX), reversed);
}

#[test]
fn lines_are_there_at_once_in_order_and_once() {
    let disk = FakeDisk::new();
    let store = open(&disk);
    store.apply(0, 0, &pushed("a", &[(3, "three"), (1, "one"), (3, "three"), (3, "drei")]));
    store.apply(0, 1, &pushed("b", &[(2, "two")]));
    store.apply(0, 1, &pushed("b", &[(9, "an offset that was applied")]));
    check(&store, "a|b", &["one", "two", "three", "drei"]);
    store.publish().expect("published");
    // Sent again after publication: collapses while reading.
    store.apply(0, 2, &pushed("a", &[(1, "one"), (4, "four")]));
    check(&store, "a|b", &["one", "two", "three", "drei", "four"]);
    check(&store, "a", &["one", "three", "drei", "four"]);
    assert_eq!(select(&store, "a|b", true, &[], 2), ["four", "drei"]);
    assert_eq!(store.snapshot("other tenant").segments.len(), 0);
}

/// Loki keeps lines that differ in nothing but their metadata; one of them was lost.
#[test]
fn lines_of_other_metadata_are_other_lines() {
    let store = open(&FakeDisk::new());
    let mut batch = LogBatch::new("t", Origin::Pushed);
    batch.streams.push(stream("a"));
    batch.metadata.extend(["1", "2"].map(|trace| Labels::from_pairs([("trace", trace)])));
    [1, 2, 1, 0].into_iter().for_each(|metadata| batch.push(0, NOON_NS, "same", metadata, 0));
    let batch = Arc::new(Batch::Logs(batch));
    for offset in 0..3 {
        store.apply(0, offset, &batch);
        check(&store, "a", &["same"; 3]);
        store.publish().expect("published");
        check(&store, "a", &["same"; 3]);
    }
    assert!(store.merge().expect("merged"));
    check(&store, "a", &["same"; 3]);
}

#[test]
fn what_is_published_and_what_is_replayed_make_each_line_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let now_ns = Arc::new(AtomicI64::new(NOON_NS));
    let records = [tailed(1, 0, 5), tailed(2, 0, 3), tailed(1, 5, 9), pushed("p", &[(100, "pushed")])];
    let expected: Vec<String> = (0..9).map(|n| format!("line {n:04}")).collect();
    for published in 0..=records.len() {
        let path = dir.path().join(published.to_string());
        let store = open_at(Arc::new(RealDisk), &path, now_ns.clone());
        for (offset, record) in records.iter().enumerate() {
            store.apply(0, offset as u64, record);
            if offset + 1 == published {
                store.publish().expect("published");
            }
        }
        // As kill -9 leaves it: the head is gone.
        drop(store);
        let store = open_at(Arc::new(RealDisk), &path, now_ns.clone());
        let next = store.next_offset(0).unwrap_or(0);
        assert_eq!(next, published as u64);
        for (offset, record) in records.iter().enumerate().skip(next as usize) {
            store.apply(0, offset as u64, record);
        }
        // The agent had not seen the last acknowledgement and ships from its checkpoint, cut elsewhere.
        store.apply(0, 4, &tailed(1, 3, 9));
        assert_eq!(select(&store, "file1", false, &[], usize::MAX), expected);
        assert_eq!(select(&store, "p", false, &[], usize::MAX), ["pushed"]);
        store.publish().expect("published");
        assert_eq!(select(&store, "file1", false, &[], usize::MAX), expected);
    }
}

#[test]
fn a_foreign_bus_is_read_from_its_start_and_shows_nothing_twice() {
    let disk = FakeDisk::new();
    let store = open(&disk);
    store.apply(0, 0, &tailed(1, 0, 2));
    store.apply(0, 1, &pushed("p", &[(5, "x")]));
    store.publish().expect("published");
    drop(store);
    let clock: Clock = Arc::new(|| NOON_NS);
    let store = LogStore::open(Arc::new(disk), Path::new("/logs"), "other", options(), clock).expect("opens");
    assert_eq!(store.next_offset(0), None);
    store.apply(0, 0, &tailed(1, 0, 3));
    store.apply(0, 1, &pushed("p", &[(5, "x")]));
    check(&store, "file1|p", &["line 0000", "line 0001", "line 0002", "x"]);
}

#[test]
fn a_file_that_is_forgotten_may_come_again() {
    let store = open(&FakeDisk::new());
    store.apply(0, 0, &tailed(1, 0, 1));
    let files = vec![FileId(1)];
    store.apply(0, 1, &Arc::new(Batch::ForgetFiles(ForgetFiles { tenant: "t".into(), files })));
    store.apply(0, 2, &tailed(1, 0, 1));
    check(&store, "file1", &["line 0000", "line 0000"]);
    assert_eq!(store.stats().files, 1);
}

#[test]
fn merges_keep_every_line_and_its_order() {
    let disk = FakeDisk::new();
    let store = open(&disk);
    for n in 0..4u64 {
        store.apply(0, n, &pushed("a", &[(7, "same"), (7, &format!("tie {n}")), (n as i64, &format!("own {n}"))]));
        store.publish().expect("published");
    }
    let expected = ["own 0", "own 1", "own 2", "own 3", "same", "tie 0", "tie 1", "tie 2", "tie 3"];
    assert_eq!(select(&store, "a", false, &[], usize::MAX), expected);
    assert!(store.merge().expect("merged"));
    assert!(!store.merge().expect("nothing left"));
    assert_eq!(store.stats().segments, 1);
    check(&store, "a", &expected);
    drop(store);
    let store = open(&disk);
    check(&store, "a", &expected);
    let dirs = disk.list(Path::new("/logs")).expect("listed");
    assert_eq!(dirs, ["0000000000000005", "manifest"]);
}

#[test]
fn days_are_apart_and_expire() {
    let disk: Arc<dyn Disk> = Arc::new(FakeDisk::new());
    let now_ns = Arc::new(AtomicI64::new(NOON_NS));
    let store = open_at(disk, Path::new("/logs"), now_ns.clone());
    store.apply(0, 0, &pushed("a", &[(0, "today"), (-NS_PER_DAY, "yesterday"), (NS_PER_DAY / 2, "tomorrow")]));
    store.publish().expect("published");
    assert_eq!(store.stats().segments, 3);
    check(&store, "a", &["yesterday", "today", "tomorrow"]);
    assert_eq!(store.expire().expect("nothing to expire"), 0);
    now_ns.store(NOON_NS + store.options.retention.default_ns, Ordering::Relaxed);
    assert_eq!(store.expire().expect("expired"), 1);
    check(&store, "a", &["today", "tomorrow"]);
}

#[test]
fn tenants_and_streams_have_retentions_of_their_own() {
    let now_ns = Arc::new(AtomicI64::new(NOON_NS));
    let rule = StreamRetention { tenant: None, matchers: vec![Matcher::equal("app", "brief")], period_ns: 100 };
    let retention = Retention {
        tenants: BTreeMap::from([("t".to_owned(), 3 * NS_PER_DAY)]),
        streams: vec![rule],
        ..Retention::of(NS_PER_DAY)
    };
    let options = StoreOptions { retention: Arc::new(retention), ..options() };
    let clock = now_ns.clone();
    let clock = Arc::new(move || clock.load(Ordering::Relaxed));
    let store = LogStore::open(Arc::new(FakeDisk::new()), Path::new("/logs"), "bus", options, clock).expect("opens");
    store.apply(0, 0, &pushed("brief", &[(-200, "old"), (0, "new")]));
    store.apply(0, 1, &pushed("long", &[(-200, "kept"), (1, "kept too")]));
    store.apply(0, 2, &of_tenant("other", "elsewhere"));
    check(&store, "brief|long", &["kept", "new", "kept too"]);
    store.publish().expect("published");
    check(&store, "brief|long", &["kept", "new", "kept too"]);
    assert!(!store.merge().expect("the stream is not all old"));
    now_ns.store(NOON_NS + 110, Ordering::Relaxed);
    check(&store, "brief", &[]);
    assert!(store.merge().expect("written again without the stream"));
    assert!(!store.merge().expect("once"));
    let streams = store.snapshot("t").segments[0].streams.len();
    now_ns.store(NOON_NS + 2 * NS_PER_DAY, Ordering::Relaxed);
    assert_eq!((streams, store.expire().expect("the other tenant's")), (1, 1));
    check(&store, "long", &["kept", "kept too"]);
}

#[test]
fn the_oldest_segments_go_when_there_are_too_many_bytes() {
    let disk = FakeDisk::new();
    let store = open(&disk);
    for day in 0..3 {
        store.apply(0, day as u64, &pushed("a", &[(-day * NS_PER_DAY, &format!("day {day}"))]));
        store.publish().expect("published");
    }
    let segment_bytes = store.stats().segment_bytes;
    drop(store);
    let retention = Retention { max_bytes: Some(segment_bytes - 1), ..Retention::default() };
    let options = StoreOptions { retention: Arc::new(retention), ..options() };
    let store =
        LogStore::open(Arc::new(disk), Path::new("/logs"), "bus", options, Arc::new(|| NOON_NS)).expect("opens");
    assert_eq!(store.expire().expect("one too many"), 1);
    assert_eq!(store.expire().expect("enough"), 0);
    check(&store, "a", &["day 1", "day 0"]);
}

#[test]
fn the_index_skips_blocks_and_never_a_line() {
    let store = open(&FakeDisk::new());
    let lines: Vec<(i64, String)> = (0..50_000).map(|n| (n, format!("request {n} done user=u{n} ok"))).collect();
    let lines: Vec<(i64, &str)> = lines.iter().map(|(t, text)| (*t, text.as_str())).collect();
    store.apply(0, 0, &pushed("a", &lines));
    store.publish().expect("published");
    let segment = store.snapshot("t").segments[0].clone();
    assert!((5..9).contains(&segment.blocks.len()), "{}", segment.blocks.len());
    let candidates = |text: &str| segment.candidates(&[AnyOf::one(text)]).expect("read").map(|found| found.len());
    assert!(candidates("request 4321 done").is_some_and(|found| (1..segment.blocks.len() as u64).contains(&found)));
    assert_eq!(candidates("equest"), Some(segment.blocks.len() as u64));
    assert_eq!(candidates("nothing"), Some(0));
    assert_eq!(candidates("4321"), None);
    assert_eq!(select(&store, "a", false, &["request 4321 done"], 9), ["request 4321 done user=u4321 ok"]);
    assert_eq!(select(&store, "a", false, &["quest 4321 do"], 9).len(), 1);
    assert_eq!(select(&store, "a", true, &["user=u499"], 200).len(), 111);
    assert!(select(&store, "a", true, &["no 17 such"], 99).is_empty());
}

/// Merges take large blocks as they are and put the small ones between them together; lines that share their time with
/// those of another segment are put together, too, and each stays once and in its order.
#[test]
fn merges_of_large_blocks_keep_every_line_in_order() {
    let store = open(&FakeDisk::new());
    let mut expected: Vec<(i64, String)> = Vec::new();
    let mut apply = |offset: u64, from: i64, to: i64| {
        let lines: Vec<(i64, String)> =
            (from..to).map(|n| (n / 3, format!("{offset} says {n} and {}", n * 7919))).collect();
        let shown: Vec<(i64, &str)> = lines.iter().map(|(t, text)| (*t, text.as_str())).collect();
        store.apply(0, offset, &pushed("a", &shown));
        store.publish().expect("published");
        expected.extend(lines);
    };
    apply(0, 0, 30_000);
    apply(1, 30_000, 60_000);
    apply(2, 45_000, 45_010);
    assert!(store.merge().expect("merged"));
    assert_eq!(store.stats().segments, 1);
    expected.sort_by_key(|(t, _)| *t);
    let expected: Vec<&str> = expected.iter().map(|(_, text)| text.as_str()).collect();
    check(&store, "a", &expected);
    assert_eq!(select(&store, "a", false, &["says 45003 "], 9).len(), 2);
}

#[test]
fn a_damaged_segment_is_left_out_and_the_others_answer() {
    let disk = FakeDisk::new();
    let store = open(&disk);
    for (offset, text) in ["one", "two"].into_iter().enumerate() {
        store.apply(0, offset as u64, &pushed("a", &[(1, text)]));
        store.publish().expect("published");
    }
    let entry = store.publishing.lock().segments[0].clone();
    drop(store);
    for file in entry.files.iter().filter(|file| file.name != "blocks") {
        let path = Path::new("/logs").join(entry.dir_name()).join(&file.name);
        disk.corrupt(&path, 3).expect("corrupted");
        let store = open(&disk);
        check(&store, "a", &["two"]);
        assert_eq!((store.stats().segments, store.stats().unreadable_segments), (1, 1), "{}", file.name);
        drop(store);
        disk.corrupt(&path, 3).expect("mended");
    }
    check(&open(&disk), "a", &["one", "two"]);
}

#[test]
fn a_damaged_block_is_left_out_and_the_others_answer() {
    let disk = FakeDisk::new();
    let store = open(&disk);
    store.apply(0, 0, &pushed("a", &[(1, "one")]));
    store.apply(0, 1, &pushed("b", &[(2, "two")]));
    store.publish().expect("published");
    damage_a_block(&disk, &store, "t");
    let matchers = [Matcher::new("app", MatchOp::Regex, "a|b").expect("good")];
    let (mut read, mut counted) = (0, 0);
    let selected = store.select(&all(&matchers, false, &[]), &mut |_| {
        read += 1;
        ControlFlow::Continue(())
    });
    selected.expect("selected");
    let tallied = store.tally(&all(&matchers, false, &[]), &[i64::MAX], false, &mut |tally| {
        counted += tally.lines;
        ControlFlow::Continue(())
    });
    tallied.expect("tallied");
    assert_eq!((read, counted), (1, 2), "lines that were counted beforehand still count");
    assert!(store.stats().read_failures > 0);
    let disk: Arc<dyn Disk> = Arc::new(disk);
    let verified = verify(&disk, Path::new("/logs")).expect("there is a manifest");
    let told: Vec<String> = verified.damage.iter().map(ToString::to_string).collect();
    assert!(told.len() == 2 && told.iter().all(|told| told.contains("blocks")), "the file and the block: {told:?}");
}

#[test]
fn a_failed_publication_is_tried_again() {
    let disk = FakeDisk::new();
    let store = open(&disk);
    store.apply(0, 0, &pushed("a", &[(1, "one")]));
    disk.fail_syncs(1);
    store.publish().expect_err("the disk fails");
    assert!(store.published_offsets().is_empty(), "nothing may be released");
    store.apply(0, 1, &pushed("a", &[(2, "two")]));
    check(&store, "a", &["one", "two"]);
    assert!(store.wants_publish());
    assert!(store.publish().expect("the first head"));
    assert_eq!(store.published_offsets(), BTreeMap::from([(0, 1)]));
    assert!(store.publish().expect("the second"));
    assert!(!store.publish().expect("nothing left"));
    check(&store, "a", &["one", "two"]);
}

#[test]
fn a_crash_at_any_change_of_the_disk_loses_and_repeats_nothing() {
    for changes in 0..60 {
        let disk = FakeDisk::new();
        let store = open(&disk);
        disk.cut_power_after(changes);
        let records = [tailed(1, 0, 4), pushed("p", &[(9, "p")]), tailed(1, 4, 6), tailed(1, 6, 8)];
        for (offset, record) in records.iter().enumerate() {
            store.apply(0, offset as u64, record);
            // From some change on the disk fails; the process dies anyway.
            let _ = store.publish().and_then(|_| store.merge());
        }
        drop(store);
        let store = open(&disk.crash(u64::from(changes)));
        let next = store.next_offset(0).unwrap_or(0) as usize;
        for (offset, record) in records.iter().enumerate().skip(next) {
            store.apply(0, offset as u64, record);
        }
        let expected: Vec<String> = (0..8).map(|n| format!("line {n:04}")).collect();
        assert_eq!(select(&store, "file1", false, &[], 99), expected, "after {changes} changes");
        assert_eq!(select(&store, "p", false, &[], 99), ["p"], "after {changes} changes");
    }
}

#[test]
fn a_tail_misses_nothing_and_sees_nothing_twice() {
    let store = open(&FakeDisk::new());
    store.apply(0, 0, &pushed("a", &[(1, "before")]));
    let (snapshot, mut receiver) = store.tail("t");
    store.apply(0, 1, &pushed("a", &[(1, "before"), (2, "after")]));
    assert_eq!(select(&snapshot, "a", false, &[], 9), ["before"]);
    let applied = receiver.try_recv().expect("one batch");
    assert_eq!((applied.number, &*applied.taken), (snapshot.applied + 1, &[1u32][..]));
}

fn of_tenant(tenant: &str, text: &str) -> Arc<Batch> {
    let mut batch = LogBatch::new(tenant, Origin::Pushed);
    batch.streams.push(stream("a"));
    batch.push(0, NOON_NS, text, 0, 0);
    Arc::new(Batch::Logs(batch))
}

/// Breaks the first block of a tenant's oldest segment while it is open.
fn damage_a_block(disk: &FakeDisk, store: &LogStore, tenant: &str) {
    let entry = store.snapshot(tenant).segments[0].entry.clone();
    disk.corrupt(&Path::new("/logs").join(entry.dir_name()).join("blocks"), 20).expect("corrupted");
}

/// One block that could not be decoded stopped merges, and expiry behind them, for ever.
#[test]
fn a_damaged_block_stops_no_other_merge() {
    let disk = FakeDisk::new();
    let store = open(&disk);
    for n in 0..3 {
        store.apply(0, 2 * n, &of_tenant("damaged", &format!("line {n}")));
        store.apply(0, 2 * n + 1, &of_tenant("good", &format!("line {n}")));
        store.publish().expect("published");
    }
    damage_a_block(&disk, &store, "damaged");
    let segments = |tenant: &str| store.snapshot(tenant).segments.len();
    assert!(store.merge().expect("the other group is merged"));
    assert_eq!((segments("damaged"), segments("good")), (3, 1));
    assert!(!store.merge().expect("two good ones are not enough"));
    store.apply(0, 9, &of_tenant("damaged", "line 3"));
    store.publish().expect("published");
    assert!(store.merge().expect("merged without the damaged one"));
    assert_eq!(segments("damaged"), 2);
}

/// A merge that filled the disk stopped publication too.
#[test]
fn a_merge_waits_for_room() {
    let disk = FakeDisk::new();
    let store = open(&disk);
    for n in 0..3 {
        store.apply(0, n, &of_tenant("t", &format!("line {n}")));
        store.publish().expect("published");
    }
    disk.set_free_bytes(Some(32 << 20));
    assert!(!store.merge().expect("no room"));
    disk.set_free_bytes(None);
    assert!(store.merge().expect("merged"));
}

/// Bytes of structured metadata were not counted: the head grew without bound.
#[test]
fn structured_metadata_counts_towards_the_head() {
    let store = open(&FakeDisk::new());
    let mut batch = LogBatch::new("t", Origin::Pushed);
    batch.streams.push(stream("a"));
    batch.metadata.push(Labels::from_pairs([("trace", "x".repeat(60_000))]));
    (0..10).for_each(|n| batch.push(0, NOON_NS + n, "a line", 1, 0));
    store.apply(0, 0, &Arc::new(Batch::Logs(batch)));
    // Once: the lines share it.
    assert!((60_000..70_000).contains(&store.head_bytes()), "{}", store.head_bytes());
}

/// The id of a segment was used again after the manifest that named it could not be synced: a power cut brought that
/// manifest back, without the files that it named.
#[test]
fn a_segment_id_is_never_used_again() {
    for (first, second) in (0..48).flat_map(|first| [0, 1, 2, 4, 9].map(|second| (first, second))) {
        let disk = FakeDisk::new();
        let store = open(&disk);
        store.apply(0, 0, &tailed(1, 0, 4));
        disk.cut_power_after(first);
        let _ = store.publish();
        disk.cut_power_after(second);
        let _ = store.publish();
        drop(store);
        let store = open(&disk.crash(u64::from(first + 48 * second)));
        if store.next_offset(0).is_none() {
            store.apply(0, 0, &tailed(1, 0, 4));
        }
        assert_eq!(select(&store, "file1", false, &[], 99).len(), 4, "{first}, {second}");
    }
}

/// What a failed publication leaves is not there for ever, or a full disk would fill further with every attempt.
#[test]
fn failed_publications_leave_no_segments() {
    let disk = FakeDisk::new();
    let store = open(&disk);
    store.apply(0, 0, &of_tenant("t", "line"));
    for _ in 0..3 {
        disk.fail_syncs(1);
        store.publish().expect_err("the disk fails");
    }
    assert_eq!(disk.list(Path::new("/logs")).expect("listed"), ["manifest"]);
    store.publish().expect("published");
    assert_eq!(disk.list(Path::new("/logs")).expect("listed").len(), 2);
}

/// Any error while looking for the manifest was taken for its absence, and every segment was removed.
#[test]
fn a_manifest_that_cannot_be_read_is_not_a_missing_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let now_ns = Arc::new(AtomicI64::new(NOON_NS));
    let store = open_at(Arc::new(RealDisk), dir.path(), now_ns);
    store.apply(0, 0, &of_tenant("t", "line"));
    store.publish().expect("published");
    drop(store);
    let reopen = || LogStore::open(Arc::new(RealDisk), dir.path(), "bus", options(), Arc::new(|| NOON_NS));
    let manifest = dir.path().join(MANIFEST);
    std::fs::remove_file(&manifest).expect("removed");
    // Unreadable for root too: a link to itself.
    std::os::unix::fs::symlink(&manifest, &manifest).expect("linked");
    let message = reopen().err().expect("refused").to_string();
    assert!(message.contains("reading the manifest"), "{message}");
    std::fs::remove_file(&manifest).expect("removed");
    let message = reopen().err().expect("refused").to_string();
    assert!(message.contains("missing, though there are segments"), "{message}");
    assert!(dir.path().join("0000000000000001").exists(), "nothing was removed");
}
