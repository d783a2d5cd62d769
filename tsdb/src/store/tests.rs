//! Head, publishing, merges and restarts together, against a model that is one map.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use disk::{Disk, FakeDisk};
use model::{
    Deletes, Histogram, HistogramSample, Labels, MS_PER_DAY, MatchOp, Matcher, MetricBatch, Sample, SeriesSamples,
};
use proptest::prelude::*;
use query::{Series, SeriesSelect};

use super::*;
use crate::retention::Retention;

pub(super) const DIR: &str = "tsdb";
/// The middle of a day.
pub(super) const NOW_MS: i64 = 20_000 * MS_PER_DAY + MS_PER_DAY / 2;

pub(super) type Samples = BTreeMap<(u8, i64), u64>;

fn labels(series: u8) -> Labels {
    Labels::from_pairs([("__name__", "x".to_owned()), ("s", series.to_string())])
}

pub(super) fn open(disk: &FakeDisk) -> Store {
    Store::open(Arc::new(disk.clone()), Path::new(DIR), "bus").expect("the store opens")
}

/// A third of the samples are histograms whose sum is the value.
fn is_histogram(bits: u64) -> bool {
    bits % 3 == 2
}

/// Half of the samples have a start time.
fn start_of(t_ms: i64, bits: u64) -> i64 {
    if bits.is_multiple_of(2) { t_ms - 7 } else { 0 }
}

fn batch(samples: &[(u8, i64, u64)]) -> MetricBatch {
    let one = |(series, t_ms, bits): &(u8, i64, u64)| {
        let (t_ms, value, start_ms) = (*t_ms, f64::from_bits(*bits), start_of(*t_ms, *bits));
        if is_histogram(*bits) {
            let histogram = Arc::new(Histogram { sum: value, ..Histogram::default() });
            let histograms = vec![HistogramSample { t_ms, start_ms, histogram }];
            return SeriesSamples { labels: labels(*series), histograms, ..SeriesSamples::default() };
        }
        let samples = vec![Sample { t_ms, value }];
        SeriesSamples { starts_ms: vec![start_ms], ..SeriesSamples::new(labels(*series), samples) }
    };
    MetricBatch::new("t", samples.iter().map(one).collect())
}

pub(super) fn apply(store: &Store, offset: u64, samples: &[(u8, i64, u64)]) {
    store.apply(0, offset, &batch(samples), i64::MIN, NOW_MS);
}

/// Everything that a query sees within a range, each series once.
pub(super) fn read(store: &Store, start_ms: i64, end_ms: i64) -> Samples {
    let matchers = [Matcher::new("s", MatchOp::Regex, ".+").expect("a good matcher")];
    let wants = query::Wants::Values;
    let request = SeriesSelect { tenant: "t", matchers: &matchers, start_ms, end_ms, wants, deadline: None };
    let mut found = Samples::new();
    let set = store.select(&request).expect("selected");
    let mut samples = query::Samples::default();
    for i in 0..set.len() {
        set.read(i, &mut samples).expect("read");
        assert!(samples.timestamps_ms.is_sorted_by(|a, b| a < b), "each instant once");
        let id: u8 = set.labels(i).get("s").expect("labelled").parse().expect("a number");
        let histograms: BTreeMap<u32, f64> = samples.histograms.iter().map(|(at, one)| (*at, one.sum)).collect();
        for (i, t_ms) in samples.timestamps_ms.iter().enumerate() {
            let histogram = histograms.get(&(i as u32));
            let bits = histogram.unwrap_or(&samples.values[i]).to_bits();
            assert_eq!(histogram.is_some(), is_histogram(bits));
            assert_eq!(samples.starts_ms.get(i).copied().unwrap_or(0), start_of(*t_ms, bits));
            assert!(found.insert((id, *t_ms), bits).is_none(), "each series once");
        }
    }
    found
}

pub(super) fn check(store: &Store, expected: &Samples) {
    assert_eq!(&read(store, i64::MIN, i64::MAX), expected);
}

#[test]
fn samples_stay_through_publishing_and_reopening() {
    let disk = FakeDisk::new();
    let store = open(&disk);
    assert_eq!(store.next(0), None);
    let sent = [(1, NOW_MS, 1), (2, NOW_MS - MS_PER_DAY, 2), (1, NOW_MS - 1, 3)];
    apply(&store, 7, &sent);
    let expected: Samples = sent.iter().map(|(series, t_ms, bits)| ((*series, *t_ms), *bits)).collect();
    check(&store, &expected);
    assert_eq!(store.publish().expect("published"), BTreeMap::from([(0, 8)]));
    check(&store, &expected);
    assert_eq!((store.head_stats().samples, store.part_stats().0), (0, 2));
    drop(store);
    let again = open(&disk);
    assert_eq!(again.next(0), Some(8));
    check(&again, &expected);
}

#[test]
fn another_bus_is_replayed_from_its_start() {
    let disk = FakeDisk::new();
    let store = open(&disk);
    apply(&store, 7, &[(1, NOW_MS, 1)]);
    store.publish().expect("published");
    drop(store);
    let other = Store::open(Arc::new(disk), Path::new(DIR), "other").expect("the store opens");
    assert_eq!(other.next(0), None);
    check(&other, &Samples::from([((1, NOW_MS), 1)]));
}

#[test]
fn what_no_manifest_names_is_deleted_and_what_is_expired_dropped() {
    let disk = FakeDisk::new();
    let stray = Path::new(DIR).join("parts/0000000000000009.part");
    let store = open(&disk);
    disk.create(&stray).expect("created");
    apply(&store, 0, &[(1, NOW_MS, 1), (1, NOW_MS - 3 * MS_PER_DAY, 2)]);
    store.publish().expect("published");
    drop(store);
    let store = open(&disk);
    assert!(!disk.exists(&stray));
    assert_eq!(store.drop_expired(|_| NOW_MS - MS_PER_DAY).expect("dropped"), 1);
    assert_eq!(store.drop_expired(|_| NOW_MS - MS_PER_DAY).expect("dropped"), 0);
    check(&store, &Samples::from([((1, NOW_MS), 1)]));
    drop(store);
    check(&open(&disk), &Samples::from([((1, NOW_MS), 1)]));
}

/// One tenant's period is not another's.
#[test]
fn days_go_once_they_are_too_old_for_their_tenant() {
    let disk = FakeDisk::new();
    let store = open(&disk);
    let retention =
        Retention { tenants: BTreeMap::from([("long".to_owned(), 9 * MS_PER_DAY)]), ..Retention::of_all(MS_PER_DAY) };
    for (offset, tenant) in (0..).zip(["short", "long"]) {
        let days = [(1, NOW_MS, 1), (1, NOW_MS - 3 * MS_PER_DAY, 2), (1, NOW_MS - 10 * MS_PER_DAY, 3)];
        store.apply(0, offset, &MetricBatch { tenant: tenant.to_owned(), ..batch(&days) }, i64::MIN, NOW_MS);
    }
    store.publish().expect("published");
    let days = |store: &Store, tenant: &str| {
        let view = store.view.read();
        view.parts.iter().filter(|live| live.entry.tenant == tenant).map(|live| live.entry.day).collect::<Vec<_>>()
    };
    let today = NOW_MS / MS_PER_DAY;
    assert_eq!(store.drop_expired(|tenant| retention.oldest_ms(tenant, NOW_MS)).expect("dropped"), 3);
    let check =
        |store: &Store| assert_eq!((days(store, "short"), days(store, "long")), (vec![today], vec![today - 3, today]));
    check(&store);
    drop(store);
    check(&open(&disk));
}

/// A full disk leaves everything readable, and the next attempt publishes it.
#[test]
fn a_failed_publish_is_tried_again() {
    let disk = FakeDisk::new();
    let store = open(&disk);
    apply(&store, 0, &[(1, NOW_MS, 1)]);
    disk.set_free_bytes(Some(10));
    assert!(store.publish().is_err());
    apply(&store, 1, &[(1, NOW_MS, 2)]);
    let expected = Samples::from([((1, NOW_MS), 2)]);
    check(&store, &expected);
    disk.set_free_bytes(None);
    assert_eq!(store.publish().expect("published"), BTreeMap::from([(0, 1)]));
    assert_eq!(store.publish().expect("published"), BTreeMap::from([(0, 2)]));
    check(&store, &expected);
    drop(store);
    check(&open(&disk), &expected);
}

/// A head that failed was counted as none, so nothing ever published it and nothing more was consumed.
#[test]
fn a_frozen_head_still_counts() {
    let disk = FakeDisk::new();
    let store = open(&disk);
    apply(&store, 0, &[(1, NOW_MS, 1), (2, NOW_MS, 1)]);
    let before = store.head_stats();
    disk.set_free_bytes(Some(10));
    assert!(store.publish().is_err() && store.has_frozen());
    assert_eq!(store.head_stats(), before);
    apply(&store, 1, &[(3, NOW_MS, 1)]);
    assert_eq!((store.head_stats().samples, store.head_stats().series), (3, 3));
}

fn part_files(disk: &FakeDisk) -> usize {
    disk.list(&Path::new(DIR).join("parts")).expect("listed").len()
}

/// Parts whose manifest found no room stayed, so every attempt made a full disk fuller.
#[test]
fn failed_manifests_leave_no_parts_behind() {
    let attempt = |disk: &FakeDisk| {
        let store = open(disk);
        apply(&store, 0, &[(1, NOW_MS, 1)]);
        store.publish().map(|_| store.part_stats().2)
    };
    let part_bytes = attempt(&FakeDisk::new()).expect("published");
    let disk = FakeDisk::new();
    for _ in 0..3 {
        disk.set_free_bytes(Some(part_bytes + 10));
        assert!(matches!(attempt(&disk), Err(StoreError::Io { context: "cannot write the manifest", .. })));
        assert_eq!(part_files(&disk), 0);
    }
}

/// Two processes on one directory deleted each other's parts.
#[test]
fn a_directory_belongs_to_one_store() {
    let disk = FakeDisk::new();
    let store = open(&disk);
    let again = Store::open(Arc::new(disk.clone()), Path::new(DIR), "bus");
    assert!(matches!(again, Err(StoreError::Io { context: "cannot lock the store", .. })));
    drop(store);
    open(&disk);
}

/// Two days with two parts each, both due for a merge.
fn two_days(disk: &FakeDisk) -> Store {
    let store = open(disk);
    for offset in 0..2 {
        apply(&store, offset, &[(1, NOW_MS, offset), (1, NOW_MS - MS_PER_DAY, offset)]);
        store.publish().expect("published");
    }
    store
}

/// One damaged part kept every other day from being merged.
#[test]
fn a_day_that_cannot_be_merged_holds_up_no_other() {
    let disk = FakeDisk::new();
    let store = two_days(&disk);
    let oldest = part_path(Path::new(DIR), 1);
    disk.corrupt(&oldest, 10).expect("corrupted");
    let later_ms = NOW_MS + 5 * MS_PER_DAY;
    assert!(matches!(store.merge_one(later_ms, Effort::Due), Err(StoreError::Corrupt { .. })));
    assert!(store.merge_one(later_ms, Effort::Due).expect("the other day is merged"));
    assert!(!store.merge_one(later_ms, Effort::Due).expect("the damaged one waits"));
    assert_eq!((store.part_stats().0, part_files(&disk)), (3, 3));
    disk.corrupt(&oldest, 10).expect("mended");
    assert!(store.merge_one(later_ms + MS_PER_DAY, Effort::Due).expect("tried again later"));
    assert_eq!(store.part_stats().0, 2);
}

/// A part with a damaged directory kept the store from starting, and with it all other data from answering.
#[test]
fn what_is_damaged_is_left_out_and_found() {
    let disk = FakeDisk::new();
    drop(two_days(&disk));
    let damaged = part_path(Path::new(DIR), 1);
    let length = disk.read(&damaged).expect("read").len();
    // In a frame it is found by reading; in the directory the part cannot be opened.
    for (at, is_open) in [(10, true), (length - 30, false)] {
        disk.corrupt(&damaged, at).expect("corrupted");
        let verified = verify(&disk, Path::new(DIR)).expect("verified");
        let said: Vec<String> = verified.damage.iter().map(StoreError::to_string).collect();
        assert_eq!((verified.parts, said.len()), (4, 1), "{said:?}");
        assert!(said[0].contains("0000000000000001.part is damaged at byte "), "{said:?}");
        let store = open(&disk);
        let unreadable = usize::from(!is_open);
        assert_eq!((store.part_stats().0, store.unreadable_parts()), (4 - unreadable, unreadable));
        assert_eq!(part_files(&disk), 4, "what cannot be read is not deleted");
        drop(store);
        disk.corrupt(&damaged, at).expect("mended");
    }
    disk.corrupt(&damaged, length - 30).expect("corrupted");
    let store = open(&disk);
    apply(&store, 9, &[(1, NOW_MS + 9, 9)]);
    store.publish().expect("published");
    while store.merge_one(NOW_MS + 5 * MS_PER_DAY, Effort::Due).expect("what can be read is merged") {}
    assert_eq!(store.drop_expired(|_| NOW_MS + 9 * MS_PER_DAY).expect("dropped"), 3);
    assert_eq!((store.unreadable_parts(), part_files(&disk)), (0, 0));
}

#[test]
fn the_oldest_days_go_past_a_size() {
    let disk = FakeDisk::new();
    let store = two_days(&disk);
    let bytes = store.part_stats().2;
    assert_eq!(store.drop_oversize(bytes).expect("nothing to do"), 0);
    assert_eq!(store.drop_oversize(bytes - 1).expect("dropped"), 2);
    check(&store, &BTreeMap::from([((1, NOW_MS), 1)]));
    assert_eq!(store.drop_oversize(1).expect("the newest day stays"), 0);
    drop(store);
    assert_eq!((open(&disk).part_stats().0, part_files(&disk)), (2, 2));
}

/// A merge filled the disk that publishing needed.
#[test]
fn merges_wait_for_room() {
    let disk = FakeDisk::new();
    let store = two_days(&disk);
    let later_ms = NOW_MS + 5 * MS_PER_DAY;
    disk.set_free_bytes(Some(64 << 20));
    assert!(!store.merge_one(later_ms, Effort::Due).expect("it waits"));
    disk.set_free_bytes(Some((64 << 20) + 10_000));
    assert!(store.merge_one(later_ms, Effort::Due).expect("merged"));
}

#[test]
fn merges_keep_every_sample_and_the_order() {
    let disk = FakeDisk::new();
    let store = open(&disk);
    let mut expected = Samples::new();
    for offset in 0..20u64 {
        let sent = [(1, NOW_MS, offset), (2, NOW_MS + offset as i64, offset), (offset as u8, NOW_MS - 5, 1)];
        apply(&store, offset, &sent);
        expected.extend(sent.iter().map(|(series, t_ms, bits)| ((*series, *t_ms), *bits)));
        store.publish().expect("published");
    }
    while store.merge_one(NOW_MS, Effort::Due).expect("merged") {
        check(&store, &expected);
    }
    assert!(store.part_stats().0 < 6, "{:?}", store.part_stats());
    while store.merge_one(NOW_MS + MS_PER_DAY, Effort::Due).expect("merged") {}
    assert_eq!(store.part_stats().0, 1);
    drop(store);
    check(&open(&disk), &expected);
}

/// While heads are frozen, published and merged, every read sees all that was applied before it, once.
#[test]
fn reads_see_each_sample_once_at_every_moment() {
    const RECORDS: u64 = 300;
    let disk = FakeDisk::new();
    let store = open(&disk);
    let applied = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for offset in 0..RECORDS {
                apply(&store, offset, &[(1, NOW_MS + offset as i64, offset), (2, NOW_MS, offset)]);
                applied.store(offset + 1, Ordering::SeqCst);
            }
        });
        scope.spawn(|| {
            while applied.load(Ordering::SeqCst) < RECORDS {
                store.publish().expect("published");
                store.merge_one(NOW_MS + MS_PER_DAY, Effort::Due).expect("merged");
            }
        });
        while applied.load(Ordering::SeqCst) < RECORDS {
            let before = applied.load(Ordering::SeqCst);
            let found = read(&store, i64::MIN, i64::MAX);
            assert!((0..before).all(|offset| found.get(&(1, NOW_MS + offset as i64)) == Some(&offset)));
            assert!(before == 0 || found[&(2, NOW_MS)] >= before - 1);
        }
    });
}

/// A record of the log.
#[derive(Debug, Clone)]
enum Record {
    Samples(Vec<(u8, i64, u64)>),
    /// Series, first and last instant.
    Delete(u8, i64, i64),
}

fn apply_record(store: &Store, offset: u64, record: &Record) {
    match record {
        Record::Samples(samples) => apply(store, offset, samples),
        Record::Delete(series, start_ms, end_ms) => {
            let selectors = vec![vec![Matcher::equal("s", series.to_string())]];
            let (tenant, start_ms, end_ms) = ("t".to_owned(), *start_ms, *end_ms);
            store.delete(0, offset, &Deletes { tenant, selectors, start_ms, end_ms, partitions: 1, partition: 0 });
        }
    }
}

/// What the log makes of the samples before it.
fn expect_record(expected: &mut Samples, record: &Record) {
    match record {
        Record::Samples(samples) => {
            expected.extend(samples.iter().map(|(series, t_ms, bits)| ((*series, *t_ms), *bits)));
        }
        Record::Delete(deleted, start_ms, end_ms) => {
            expected.retain(|(series, t_ms), _| series != deleted || !(start_ms..=end_ms).contains(&t_ms));
        }
    }
}

/// What is deleted of a head that could not be published stays deleted, and counts no more.
#[test]
fn deletes_reach_every_source() {
    let disk = FakeDisk::new();
    let store = open(&disk);
    apply(&store, 0, &[(1, NOW_MS, 1), (1, NOW_MS + 1, 1)]);
    disk.set_free_bytes(Some(10));
    assert!(store.publish().is_err());
    apply(&store, 1, &[(1, NOW_MS + 2, 1), (1, NOW_MS + 3, 1)]);
    assert_eq!(store.head_stats().samples, 4);
    apply_record(&store, 2, &Record::Delete(1, NOW_MS + 1, NOW_MS + 2));
    assert_eq!(store.head_stats().samples, 3);
    let expected = Samples::from([((1, NOW_MS), 1), ((1, NOW_MS + 3), 1)]);
    check(&store, &expected);
    disk.set_free_bytes(None);
    store.publish().expect("the frozen head");
    check(&store, &expected);
    store.publish().expect("what came later");
    drop(store);
    check(&open(&disk), &expected);
}

/// Deletes that come while their samples are being published are not lost.
#[test]
fn deletes_overtake_publishing() {
    const ROUNDS: u64 = 400;
    let disk = FakeDisk::new();
    let store = open(&disk);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                store.publish().expect("published");
                store.merge_one(NOW_MS + MS_PER_DAY, Effort::Due).expect("merged");
            }
        });
        let seen = (0..ROUNDS).find(|round| {
            let t_ms = NOW_MS + *round as i64;
            apply(&store, 2 * round, &[(1, t_ms, 1), (2, t_ms, 1)]);
            // Any moment will do: a publishing is somewhere.
            std::thread::yield_now();
            apply_record(&store, 2 * round + 1, &Record::Delete(1, t_ms, t_ms));
            read(&store, t_ms, t_ms).keys().any(|(series, _)| *series != 2)
        });
        is_over.store(true, Ordering::SeqCst);
        assert_eq!(seen, None, "the round whose deletion did not hold");
    });
    let expected: Samples = (0..ROUNDS as i64).map(|round| ((2, NOW_MS + round), 1)).collect();
    check(&store, &expected);
    store.publish().expect("published");
    drop(store);
    check(&open(&disk), &expected);
}

#[derive(Debug, Clone)]
enum Step {
    Append(Record),
    Clean,
    Snapshot,
    Publish,
    Merge,
    Crash(u64),
    CrashWithin(u32, u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let time = (0i64..200).prop_map(|t| NOW_MS + t * 10_000_000);
    let sample = (0u8..4, time.clone(), any::<u64>());
    let step = prop_oneof![
        4 => prop::collection::vec(sample, 1..12).prop_map(|samples| Step::Append(Record::Samples(samples))),
        1 => (0u8..4, time.clone(), time).prop_map(|(series, a, b)| Step::Append(Record::Delete(series, a.min(b), a.max(b)))),
        1 => Just(Step::Clean),
        1 => Just(Step::Snapshot),
        2 => Just(Step::Publish),
        1 => Just(Step::Merge),
        1 => any::<u64>().prop_map(Step::Crash),
        1 => (0u32..30, any::<u64>()).prop_map(|(changes, seed)| Step::CrashWithin(changes, seed)),
    ];
    prop::collection::vec(step, 1..30)
}

/// The store after a power cut, caught up with the log as the service does it.
fn restart(disk: &FakeDisk, log: &[Record]) -> Store {
    let store = open(disk);
    for offset in store.next(0).unwrap_or(0)..log.len() as u64 {
        apply_record(&store, offset, &log[offset as usize]);
    }
    store
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// Whatever is applied, published, merged and cut off, in any order: the answer is the log's, later samples winning.
    #[test]
    fn the_store_is_a_view_of_the_log(steps in steps()) {
        let mut disk = FakeDisk::new();
        let mut store = open(&disk);
        let mut log: Vec<Record> = Vec::new();
        let mut snapshots = 0;
        let mut expected = Samples::new();
        for step in steps {
            match step {
                Step::Append(record) => {
                    apply_record(&store, log.len() as u64, &record);
                    expect_record(&mut expected, &record);
                    log.push(record);
                }
                Step::Clean => {
                    store.clean_deletions();
                    while store.merge_one(NOW_MS + 100 * MS_PER_DAY, Effort::Due).expect("merged") {}
                }
                Step::Snapshot => {
                    snapshots += 1;
                    if store.has_frozen() {
                        store.publish().expect("published");
                    }
                    store.publish().expect("published");
                    store.snapshot(&snapshots.to_string()).expect("a snapshot");
                    let dir = Path::new(DIR).join("snapshots").join(snapshots.to_string());
                    check(&Store::open(Arc::new(disk.clone()), &dir, "bus").expect("it opens"), &expected);
                }
                Step::Publish => drop(store.publish().expect("published")),
                Step::Merge => while store.merge_one(NOW_MS + 100 * MS_PER_DAY, Effort::Due).expect("merged") {},
                Step::Crash(seed) => {
                    disk = disk.crash(seed);
                    store = restart(&disk, &log);
                }
                Step::CrashWithin(changes, seed) => {
                    disk.cut_power_after(changes);
                    store.clean_deletions();
                    let _ = store.publish().and_then(|_| store.snapshot("cut")).and_then(|()| store.merge_one(NOW_MS + 100 * MS_PER_DAY, Effort::Due));
                    disk = disk.crash(seed);
                    store = restart(&disk, &log);
                }
            }
            check(&store, &expected);
            let (start_ms, end_ms) = (NOW_MS + MS_PER_DAY, NOW_MS + 2 * MS_PER_DAY);
            let within: Samples =
                expected.iter().filter(|((_, t), _)| (start_ms..=end_ms).contains(t)).map(|(k, v)| (*k, *v)).collect();
            prop_assert_eq!(read(&store, start_ms, end_ms), within);
        }
    }
}

/// The power is cut after every operation of a long history, and within every publishing and merge: what was applied is
/// there, whole and once, when the store has caught up with the log.
#[test]
fn every_crash_point_of_a_long_history() {
    let operations = if std::env::var_os("BINNACLE_TEST_FULL").is_some() { 10_000 } else { 1_000 };
    let (mut disk, mut log, mut expected) = (FakeDisk::new(), Vec::new(), Samples::new());
    let mut store = open(&disk);
    let mut random = 0x9E37_79B9_7F4A_7C15u64;
    let mut below = |bound: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 33) % bound
    };
    let mut publishings = 0;
    for operation in 0..operations {
        match below(10) {
            0 | 1 => {
                publishings += 1;
                disk.cut_power_after(below(30) as u32);
                // Whether it came through or not.
                let _ = store.publish();
            }
            2 => {
                disk.cut_power_after(below(40) as u32);
                let _ = store.merge_one(NOW_MS + 100 * MS_PER_DAY, Effort::All);
            }
            kind => {
                let time = NOW_MS + below(60) as i64 * 1_000_000;
                let record = match kind {
                    3 => Record::Delete(below(4) as u8, time, time + below(50) as i64 * 1_000_000),
                    _ => Record::Samples((0..3).map(|i| (below(4) as u8, time + i, below(1 << 40))).collect()),
                };
                apply_record(&store, log.len() as u64, &record);
                expect_record(&mut expected, &record);
                log.push(record);
            }
        }
        check(&store, &expected);
        drop(store);
        disk = disk.crash(below(u64::MAX >> 1));
        store = restart(&disk, &log);
        check(&store, &expected);
        assert_eq!(store.unreadable_parts(), 0, "after operation {operation}");
    }
    assert!(store.next(0) > Some(log.len() as u64 / 2), "the store published: {:?} of {publishings}", store.next(0));
}
