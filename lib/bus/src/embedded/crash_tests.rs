//! The embedded log under power cuts, failed fsyncs and full disks, against a model.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use disk::{Disk, FakeDisk};
use model::{Batch, FileId, ForgetFiles};
use proptest::prelude::*;
use tokio::runtime::{Builder, Runtime};

use super::*;

const DIR: &str = "/bus";
const TOPIC: Topic = Topic::Logs;

fn runtime() -> Runtime {
    Builder::new_current_thread().build().expect("a runtime")
}

/// A record that can be told from every other.
fn batch(id: u64) -> Arc<Batch> {
    Arc::new(Batch::ForgetFiles(ForgetFiles { tenant: "t".into(), files: vec![FileId(id.into()); 3] }))
}

fn id_of(batch: &Batch) -> u64 {
    match batch {
        Batch::ForgetFiles(forget) => forget.files[0].0 as u64,
        other => panic!("never written: {other:?}"),
    }
}

fn options() -> EmbeddedOptions {
    EmbeddedOptions { segment_bytes: 600, reserve_bytes: 0, tail_bytes: 200, ..EmbeddedOptions::default() }
}

fn open(disk: &FakeDisk) -> EmbeddedBus {
    EmbeddedBus::open(Arc::new(disk.clone()), DIR, options()).expect("the bus opens")
}

/// All records from the start on, with their offsets.
async fn read_all(bus: &EmbeddedBus) -> Vec<(Offset, u64)> {
    let start = bus.start_offset(TOPIC, 0).await.expect("start");
    let end = bus.end_offset(TOPIC, 0).await.expect("end");
    let mut consumer = bus.subscribe(TOPIC, 0, start).await.expect("subscribed");
    let mut records = Vec::new();
    for _ in start..end {
        let delivery = consumer.next().await.expect("a record");
        records.push((delivery.offset, id_of(&delivery.batch)));
    }
    records
}

#[derive(Debug, Clone)]
enum Step {
    Append(u64),
    FailSyncs(u32),
    FreeBytes(Option<u64>),
    Release(u64),
    CutPowerAfter(u32),
    Crash(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1u64..9).prop_map(Step::Append),
        1 => (1u32..3).prop_map(Step::FailSyncs),
        1 => prop::option::of(0u64..900).prop_map(Step::FreeBytes),
        1 => (0u64..8).prop_map(Step::Release),
        1 => (0u32..12).prop_map(Step::CutPowerAfter),
        2 => any::<u64>().prop_map(Step::Crash),
    ]
}

/// What producers were told, per record id.
#[derive(Default)]
struct Told {
    acknowledged: BTreeMap<u64, Offset>,
    refused: Vec<u64>,
    released: Offset,
}

impl Told {
    /// Everything acknowledged is there under its offset, nothing refused is, and the rest is in order and once.
    fn check(&self, records: &[(Offset, u64)], start: Offset) {
        let by_offset: BTreeMap<Offset, u64> = records.iter().copied().collect();
        assert_eq!(by_offset.len(), records.len(), "offsets repeat");
        assert!(start <= self.released, "only what was released may go");
        for (id, offset) in self.acknowledged.iter().filter(|(_, offset)| **offset >= start) {
            assert_eq!(by_offset.get(offset), Some(id), "record {id} was acknowledged at {offset}");
        }
        assert!(records.iter().all(|(_, id)| !self.refused.contains(id)), "a refused record became visible");
        assert!(records.iter().map(|(_, id)| id).is_sorted_by(|a, b| a < b), "out of order: {records:?}");
    }
}

async fn append_group(bus: &EmbeddedBus, ids: std::ops::Range<u64>, told: &mut Told) {
    let appends = ids.clone().map(|id| bus.append(TOPIC, 0, batch(id)));
    for (id, answer) in ids.zip(futures::future::join_all(appends).await) {
        match answer {
            Ok(offset) => drop(told.acknowledged.insert(id, offset)),
            Err(BusError::Full { .. }) => told.refused.push(id),
            Err(BusError::Unavailable(_)) => {}
            Err(other) => panic!("unexpected: {other}"),
        }
    }
}

fn check(steps: &[Step]) {
    runtime().block_on(async {
        let mut disk = FakeDisk::new();
        let mut bus = open(&disk);
        let (mut told, mut next_id) = (Told::default(), 1);
        for step in steps.iter().chain([&Step::Crash(7)]) {
            match step {
                Step::Append(count) => {
                    append_group(&bus, next_id..next_id + count, &mut told).await;
                    next_id += count;
                }
                Step::FailSyncs(count) => disk.fail_syncs(*count),
                Step::FreeBytes(bytes) => disk.set_free_bytes(*bytes),
                Step::Release(behind) => {
                    let end = bus.end_offset(TOPIC, 0).await.expect("end");
                    told.released = told.released.max(end.saturating_sub(*behind));
                    bus.release(TOPIC, 0, end.saturating_sub(*behind));
                }
                Step::CutPowerAfter(changes) => disk.cut_power_after(*changes),
                Step::Crash(seed) => {
                    disk = disk.crash(*seed);
                    drop(bus);
                    bus = open(&disk);
                    let start = bus.start_offset(TOPIC, 0).await.expect("start");
                    told.check(&read_all(&bus).await, start);
                }
            }
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn acknowledged_records_survive_anything(steps in prop::collection::vec(step(), 1..25)) {
        check(&steps);
    }
}

fn path_of(first: Offset) -> PathBuf {
    Path::new(DIR).join("logs").join(frame::segment_name(first))
}

/// Three records in one segment, each synced by itself; then one byte flips at `at`.
fn open_damaged(at: usize, options: EmbeddedOptions) -> Result<EmbeddedBus, BusError> {
    let disk = FakeDisk::new();
    let bus = EmbeddedBus::open(Arc::new(disk.clone()), DIR, options.clone()).expect("opens");
    runtime().block_on(async {
        for id in 1..4 {
            bus.append(TOPIC, 0, batch(id)).await.expect("appended");
        }
    });
    drop(bus);
    disk.corrupt(&path_of(0), at).expect("flipped");
    EmbeddedBus::open(Arc::new(disk), DIR, options)
}

#[test]
fn damage_in_the_middle_is_an_error_and_a_torn_end_is_cut() {
    let frame_bytes = frame::FRAME_HEADER_BYTES + crate::encode(&batch(1)).len();
    for at in [0, frame::HEADER_BYTES, frame::HEADER_BYTES + frame_bytes + 30] {
        let error = open_damaged(at, EmbeddedOptions::default()).err().expect("damage is seen").to_string();
        assert!(error.contains("00000000000000000000.log") && error.contains("at byte"), "{error}");
    }
    let bus = open_damaged(frame::HEADER_BYTES + 2 * frame_bytes + 30, EmbeddedOptions::default()).expect("opens");
    assert_eq!(runtime().block_on(read_all(&bus)), [(0, 1), (1, 2)]);
}

#[test]
fn damage_in_an_older_segment_stops_its_reader() {
    let options = EmbeddedOptions { segment_bytes: 1, ..options() };
    let bus = open_damaged(frame::HEADER_BYTES + 30, options).expect("older segments are checked when read");
    let read = runtime().block_on(async { bus.subscribe(TOPIC, 0, 0).await.expect("subscribed").next().await });
    assert!(matches!(read, Err(BusError::Corrupt(_))), "{read:?}");
}

#[test]
fn a_full_topic_and_a_full_disk_refuse_and_heal() {
    runtime().block_on(async {
        let disk = FakeDisk::new();
        let options = EmbeddedOptions { max_topic_bytes: 1000, reserve_bytes: 5000, ..options() };
        let bus = EmbeddedBus::open(Arc::new(disk.clone()), DIR, options).expect("opens");
        let append = || bus.append(TOPIC, 0, batch(1));
        let mut taken = 0;
        let refusal = loop {
            match append().await {
                Ok(_) => taken += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(refusal, BusError::Full { topic: TOPIC, .. }) && taken > 5, "{refusal} after {taken}");
        bus.append(Topic::Metrics, 0, batch(1)).await.expect("the other topics go on");
        bus.release(TOPIC, 0, taken);
        append().await.expect("released, so there is room");
        disk.set_free_bytes(Some(5010));
        assert!(matches!(append().await, Err(BusError::Full { .. })), "the reserve is kept");
        // "The disk is full" is an alert; it used to be refused like everything else.
        bus.append(Topic::Alerts, 0, batch(1)).await.expect("alerts may use half of the reserve");
        disk.set_free_bytes(None);
        assert_eq!(append().await.expect("room again"), taken + 1);
        let stats = bus.stats()[TOPIC as usize];
        assert_eq!((stats.end_offset, stats.records, stats.refused), (taken + 2, taken + 2, 2));
    });
}

#[test]
fn a_second_opening_is_refused_and_the_id_stays() {
    let disk = FakeDisk::new();
    let bus = open(&disk);
    assert!(EmbeddedBus::open(Arc::new(disk.clone()), DIR, options()).is_err());
    let id = bus.id();
    drop(bus);
    assert_eq!(open(&disk).id(), id);
}

/// Version 1 of the segment is readable for ever, and written byte for byte.
#[test]
fn golden_segment() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/bus-segment-v1.log");
    let disk = FakeDisk::new();
    let bus = open(&disk);
    runtime().block_on(async {
        for id in 1..4 {
            bus.append(TOPIC, 0, batch(id)).await.expect("appended");
        }
    });
    drop(bus);
    let written = disk.read(&path_of(0)).expect("written");
    if std::env::var_os("BINNACLE_WRITE_GOLDEN").is_some() {
        std::fs::write(&fixture, &written).expect("written");
    }
    let golden = std::fs::read(&fixture).expect("the fixture is there");
    assert_eq!(written, golden);
    let disk = FakeDisk::new();
    let dir = path_of(0).parent().expect("a directory").to_owned();
    disk.create_dir_all(&dir).expect("created");
    disk.create(&path_of(0)).and_then(|mut file| file.append(&golden)).expect("copied");
    assert_eq!(runtime().block_on(read_all(&open(&disk))), [(0, 1), (1, 2), (2, 3)]);
}
