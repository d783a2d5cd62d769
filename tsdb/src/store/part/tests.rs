use disk::{FakeDisk, RealDisk};
use model::{METRIC_NAME, Matcher};

use super::*;

fn labels(i: usize) -> Labels {
    Labels::from_pairs([(METRIC_NAME, "x".to_owned()), ("i", format!("{i:03}"))])
}

fn columns(i: usize, samples: usize) -> Columns {
    let mut columns = Columns::default();
    for s in 0..samples {
        columns.push(1_700_000_000_000 + s as i64 * 15_000, (i * s) as f64 / 8.0);
    }
    columns
}

fn write(disk: &dyn Disk, path: &Path, series: usize, samples: usize) -> Summary {
    let mut writer = PartWriter::create(disk, path).expect("created");
    for i in 0..series {
        writer.add(&labels(i), &columns(i, samples)).expect("added");
    }
    writer.finish().expect("finished")
}

fn fake_disk() -> (FakeDisk, &'static Path) {
    let (disk, path) = (FakeDisk::new(), Path::new("parts/a.part"));
    disk.create_dir_all(Path::new("parts")).expect("created");
    (disk, path)
}

/// Every series of a part must come back.
fn check(series: usize, samples: usize) -> Summary {
    let (disk, path) = fake_disk();
    let summary = write(&disk, path, series, samples);
    let part = Part::open(&disk, path, &summary).expect("opened");
    assert_eq!((part.series() as usize, summary.samples as usize), (series, series * samples));
    let mut cursor = Cursor::default();
    for i in 0..series {
        assert_eq!(part.labels(i as u32), labels(i));
        assert_eq!(part.read(i as u32, i64::MIN, i64::MAX, &mut cursor).expect("read"), columns(i, samples));
    }
    summary
}

#[test]
fn series_of_any_length_come_back() {
    check(1, 1);
    check(300, 40);
    check(3, 20_000);
}

#[test]
fn a_day_of_ordinary_counters_takes_little() {
    let summary = check(50, 5760);
    let per_sample = summary.bytes as f64 / summary.samples as f64;
    assert!(per_sample < 0.5, "{per_sample} bytes per sample");
}

#[test]
fn ranges_and_matchers_narrow() {
    let (disk, path) = fake_disk();
    let summary = write(&disk, path, 20, 20_000);
    let part = Part::open(&disk, path, &summary).expect("opened");
    let found: Vec<u32> = part.postings().select(&[Matcher::equal("i", "007")]).iter().collect();
    assert_eq!(found, [7]);
    let start_ms = 1_700_000_000_000 + 9_000 * 15_000;
    let read = part.read(7, start_ms, start_ms + 15_000, &mut Cursor::default()).expect("read");
    assert_eq!(read, columns(7, 20_000).slice(start_ms, start_ms + 15_000));
    assert!(part.reaches(7, start_ms, start_ms) && !part.reaches(7, 0, 1));
}

/// One byte changed anywhere is noticed, or changes nothing.
#[test]
fn damage_is_an_error_that_names_the_file() {
    let (disk, path) = fake_disk();
    let summary = write(&disk, path, 5, 30);
    for at in 0..summary.bytes as usize {
        write(&disk, path, 5, 30);
        disk.corrupt(path, at).expect("corrupted");
        let read_all = || -> Result<(), StoreError> {
            let part = Part::open(&disk, path, &summary)?;
            (0..5).try_for_each(|id| part.read(id, i64::MIN, i64::MAX, &mut Cursor::default()).map(drop))
        };
        let error = read_all().expect_err("noticed").to_string();
        assert!(error.contains("a.part"), "{error}");
    }
}

/// The format of version 1: a file that was written once must stay readable for ever.
#[test]
fn golden_part() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/part-v1.part");
    let summary = Summary {
        bytes: 154,
        crc: 2_843_896_772,
        series: 3,
        samples: 15,
        min_ms: 1_700_000_000_000,
        max_ms: 1_700_000_060_000,
    };
    let part = Part::open(&RealDisk, &path, &summary).expect("opened");
    for i in 0..3 {
        assert_eq!(part.labels(i as u32), labels(i));
        let read = part.read(i as u32, i64::MIN, i64::MAX, &mut Cursor::default()).expect("read");
        assert_eq!(read, columns(i, 5));
    }
}
