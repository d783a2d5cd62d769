use disk::{FakeDisk, RealDisk};
use model::{Buckets, Exemplar, Histogram, HistogramSample, Labels, METRIC_NAME, Matcher, Sample};

use super::*;
use crate::store::columns::{self, Samples};

fn labels(i: usize) -> Labels {
    Labels::from_pairs([(METRIC_NAME, "x".to_owned()), ("i", format!("{i:03}"))])
}

fn columns(i: usize, samples: usize) -> Samples {
    let mut columns = Samples::default();
    for s in 0..samples {
        let sample = Sample { t_ms: 1_700_000_000_000 + s as i64 * 15_000, value: (i * s) as f64 / 8.0 };
        columns::push_float(&mut columns, sample, 0);
    }
    columns
}

fn write(disk: &dyn Disk, path: &Path, series: usize, samples: usize) -> Summary {
    let mut writer = PartWriter::create(disk, path, Packing::Small).expect("created");
    for i in 0..series {
        writer.add(&labels(i), &columns(i, samples), &[]).expect("added");
    }
    writer.finish().expect("finished")
}

fn load(disk: &dyn Disk, path: &Path, summary: &Summary) -> Result<Directory, StoreError> {
    Arc::new(Part::open(disk, path, summary)?).load()
}

fn read(part: &Directory, id: u32, reading: &Reading, cursor: &mut Cursor) -> Result<Samples, StoreError> {
    let mut into = Samples::default();
    part.read(id, reading, cursor, &mut into)?;
    Ok(into)
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
    let part = load(&disk, path, &summary).expect("opened");
    assert_eq!((part.series() as usize, summary.samples as usize), (series, series * samples));
    let mut cursor = Cursor::default();
    for i in 0..series {
        assert_eq!(part.labels(i as u32), labels(i));
        assert_eq!(read(&part, i as u32, &Reading::ALL, &mut cursor).expect("read"), columns(i, samples));
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
    let part = load(&disk, path, &summary).expect("opened");
    let found: Vec<u32> = part.postings().select(&[Matcher::equal("i", "007")]).iter().collect();
    assert_eq!(found, [7]);
    let start_ms = 1_700_000_000_000 + 9_000 * 15_000;
    let reading = Reading { start_ms, end_ms: start_ms + 15_000, wants: Wants::Values };
    let found = read(&part, 7, &reading, &mut Cursor::default()).expect("read");
    assert_eq!(found, columns::slice(&columns(7, 20_000), start_ms, start_ms + 15_000));
    assert_eq!((part.blocks(7, start_ms, start_ms).count(), part.blocks(7, 0, 1).count()), (1, 0));
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
            let part = load(&disk, path, &summary)?;
            (0..5).try_for_each(|id| read(&part, id, &Reading::ALL, &mut Cursor::default()).map(drop))
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
    let part = load(&RealDisk, &path, &summary).expect("opened");
    for i in 0..3 {
        assert_eq!(part.labels(i as u32), labels(i));
        let found = read(&part, i as u32, &Reading::ALL, &mut Cursor::default()).expect("read");
        assert_eq!(found, columns(i, 5));
    }
}

/// Floats, histograms with start times, exemplars, a stale marker.
fn rich() -> Vec<(Samples, Vec<Exemplar>)> {
    let t_ms = 1_700_000_000_000;
    let mut floats = Samples::default();
    columns::push_float(&mut floats, Sample { t_ms, value: 1.5 }, t_ms - 5);
    columns::push_float(&mut floats, Sample { t_ms: t_ms + 1, value: model::stale_marker() }, 0);
    let mut histograms = Samples::default();
    for i in 0..4i64 {
        let positive = Buckets::from_indexed([(-1, i as f64), (4, 2.0 * i as f64)]);
        let histogram = Histogram { count: 3.0 * i as f64, sum: 0.25 * i as f64, positive, ..Histogram::default() };
        let sample = HistogramSample { t_ms: t_ms + i, start_ms: t_ms, histogram: Arc::new(histogram) };
        columns::push_histogram(&mut histograms, &sample);
    }
    let labels = Labels::from_pairs([("trace_id", "4bf9")]);
    let exemplars =
        vec![Exemplar { labels, value: 0.5, t_ms }, Exemplar { labels: Labels::default(), value: 1.0, t_ms: t_ms + 2 }];
    vec![(floats, Vec::new()), (histograms, exemplars.clone()), (Samples::default(), exemplars)]
}

/// Bits of floats, and everything else as it prints.
fn shown(samples: &Samples) -> String {
    format!("{samples:?} {:?}", samples.values.iter().map(|value| value.to_bits()).collect::<Vec<_>>())
}

fn check_rich(part: &Directory) {
    let mut cursor = Cursor::default();
    for (id, (samples, exemplars)) in rich().into_iter().enumerate() {
        let id = id as u32;
        assert_eq!(part.labels(id), labels(id as usize));
        assert!(part.has_labels(id, &labels(id as usize)) && !part.has_labels(id, &labels(9)));
        assert_eq!(shown(&read(part, id, &Reading::ALL, &mut cursor).expect("read")), shown(&samples));
        let found = part.exemplars(id, &Reading::ALL, &mut cursor).expect("read");
        assert_eq!((found, part.has_exemplars(id)), (exemplars.clone(), !exemplars.is_empty()));
        let presence = Reading { wants: Wants::Presence, ..Reading::ALL };
        let found = read(part, id, &presence, &mut cursor).expect("read");
        let stale = |samples: &Samples| samples.values.iter().map(|value| model::is_stale(*value)).collect::<Vec<_>>();
        assert_eq!((&found.timestamps_ms, stale(&found)), (&samples.timestamps_ms, stale(&samples)));
    }
    assert_eq!(part.blocks(2, i64::MIN, i64::MAX).count(), 0, "exemplars are no samples");
}

/// The format of version 2.
#[test]
fn golden_rich_part() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/part-v2.part");
    let summary = Summary {
        bytes: 237,
        crc: 1_671_949_954,
        series: 3,
        samples: 6,
        min_ms: 1_700_000_000_000,
        max_ms: 1_700_000_000_003,
    };
    check_rich(&load(&RealDisk, &path, &summary).expect("opened"));
}

/// Decimals, decimals with exceptions, floats, and what is too short to be packed.
fn packed() -> Vec<Samples> {
    let mut series: Vec<Samples> = Vec::new();
    let mut random = 0x9E37_79B9_7F4A_7C15u64;
    for kind in 0..4 {
        let mut samples = Samples::default();
        for i in 0..if kind == 3 { 20 } else { 300 } {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let value = match kind {
                0 => (random % 1000) as f64 / 100.0,
                1 if i % 100 == 7 => model::stale_marker(),
                1 => (i * 100 + random % 100) as f64,
                _ => f64::from_bits(random >> 12 | 0x3FF0_0000_0000_0000),
            };
            columns::push_float(&mut samples, Sample { t_ms: 1_700_000_000_000 + i as i64 * 1000, value }, 0);
        }
        series.push(samples);
    }
    series
}

/// The format of version 3.
#[test]
fn golden_packed_part() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/part-v3.part");
    if std::env::var_os("BINNACLE_WRITE_GOLDEN").is_some() {
        let mut writer = PartWriter::create(&RealDisk, &path, Packing::Small).expect("created");
        for (i, samples) in packed().iter().enumerate() {
            writer.add(&labels(i), samples, &[]).expect("added");
        }
        println!("{:?}", writer.finish().expect("finished"));
    }
    let summary = Summary {
        bytes: 3055,
        crc: 1_057_792_314,
        series: 4,
        samples: 920,
        min_ms: 1_700_000_000_000,
        max_ms: 1_700_000_299_000,
    };
    let part = load(&RealDisk, &path, &summary).expect("opened");
    for (i, samples) in packed().iter().enumerate() {
        let found = read(&part, i as u32, &Reading::ALL, &mut Cursor::default()).expect("read");
        assert_eq!(shown(&found), shown(samples));
    }
}

/// Written again they made a part whose directory was refused.
#[test]
fn exemplars_out_of_order_are_an_error() {
    let check = |times: &[i64], is_good: bool| {
        let (disk, path) = fake_disk();
        let one = |t_ms: &i64| Exemplar { labels: Labels::default(), value: 1.0, t_ms: *t_ms };
        let exemplars: Vec<Exemplar> = times.iter().map(one).collect();
        let mut writer = PartWriter::create(&disk, path, Packing::Small).expect("created");
        writer.add(&labels(0), &columns(0, 1), &exemplars).expect("added");
        let part = load(&disk, path, &writer.finish().expect("finished")).expect("opened");
        let mut cursor = Cursor::default();
        let found = part.exemplars(0, &Reading::ALL, &mut cursor);
        assert_eq!(found.is_ok_and(|found| found == exemplars), is_good, "{times:?}");
    };
    check(&[1, 3, 3, 5], true);
    check(&[1, 5, 3], false);
}
