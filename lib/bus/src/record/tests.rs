use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use model::{
    AlertEvents, Batch, BucketSpan, Buckets, CUSTOM_SCHEMA, Deletes, Exemplar, FileId, Floats, ForgetFiles, Histogram,
    HistogramSample, Labels, LineDeletes, LogBatch, MAX_LINE_BYTES, MatchOp, Matcher, MetricBatch, MetricKind,
    MetricMetadata, Origin, ResetHint, Sample, SeriesSamples,
};
use proptest::prelude::*;

use super::*;

/// A batch comes back as it was; floats by their bits.
fn check(batch: &Batch) {
    let decoded = decode(&encode(batch)).expect("what was encoded decodes");
    assert_eq!(format!("{decoded:?}"), format!("{batch:?}"));
}

fn labels() -> impl Strategy<Value = Labels> {
    prop::collection::vec(("[a-d]{1,2}", ".{0,6}"), 0..5).prop_map(Labels::from_pairs)
}

fn histogram() -> impl Strategy<Value = HistogramSample> {
    let buckets = || {
        prop::collection::btree_map(-9i32..9, 0u32..300, 0..5)
            .prop_map(|filled| Buckets::from_indexed(filled.into_iter().map(|(index, count)| (index, count.into()))))
    };
    let hint = prop::sample::select(vec![ResetHint::Unknown, ResetHint::Reset, ResetHint::NotReset, ResetHint::Gauge]);
    let numbers = (any::<i64>(), any::<i64>(), 0i8..4, prop::sample::select(vec![0.0, 3.0, 0.25, 1e300]));
    (numbers, buckets(), buckets(), hint, any::<u64>()).prop_map(|(numbers, positive, negative, reset_hint, sum)| {
        let (t_ms, start_ms, schema, count) = numbers;
        let (zero_threshold, zero_count, sum) = (1e-9, count / 2.0, f64::from_bits(sum));
        let histogram = Histogram {
            schema,
            reset_hint,
            zero_threshold,
            zero_count,
            count,
            sum,
            positive,
            negative,
            ..Histogram::default()
        };
        HistogramSample { t_ms, start_ms, histogram: Arc::new(histogram) }
    })
}

fn exemplar() -> impl Strategy<Value = Exemplar> {
    (labels(), any::<u64>(), any::<i64>()).prop_map(|(labels, bits, t_ms)| Exemplar {
        labels,
        value: f64::from_bits(bits),
        t_ms,
    })
}

fn metadata() -> impl Strategy<Value = MetricMetadata> {
    let kind = prop::sample::select(MetricKind::ALL.to_vec());
    ("[a-c]{1,3}", kind, ".{0,9}", "[a-z]{0,3}").prop_map(|(name, kind, help, unit)| MetricMetadata {
        name,
        kind,
        help,
        unit,
    })
}

fn metrics() -> impl Strategy<Value = Batch> {
    let sample = (any::<i64>(), any::<u64>()).prop_map(|(t_ms, bits)| Sample { t_ms, value: f64::from_bits(bits) });
    let starts = prop::option::of(1i64..9);
    let more = prop::option::of((prop::collection::vec(histogram(), 0..4), prop::collection::vec(exemplar(), 0..3)));
    let series =
        (labels(), prop::collection::vec(sample, 0..4), starts, more).prop_map(|(labels, samples, start, more)| {
            let (histograms, exemplars) = more.unwrap_or_default();
            let starts = |start: i64| samples.iter().map(move |sample| start + (sample.t_ms & 1)).collect();
            let starts_ms = start.map_or_else(Vec::new, starts);
            SeriesSamples { starts_ms, histograms, exemplars, ..SeriesSamples::new(labels, samples) }
        });
    (".{0,5}", prop::collection::vec(series, 0..6), prop::collection::vec(metadata(), 0..2))
        .prop_map(|(tenant, series, metadata)| Batch::Metrics(MetricBatch { tenant, series, metadata }))
}

fn logs() -> impl Strategy<Value = Batch> {
    let line = (any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<i64>(), ".{0,40}", 0u32..99);
    let sets = || prop::collection::vec(labels(), 1..4);
    (sets(), sets(), prop::collection::vec(line, 0..30), any::<Option<(u128, u32)>>()).prop_map(
        |(streams, metadata, lines, file)| {
            let origin = file.map_or(Origin::Pushed, |(id, start)| Origin::Tailed {
                file: FileId(id),
                start: start.into(),
                end: start.into(),
            });
            let mut batch = LogBatch::new("t", origin);
            batch.streams = streams;
            batch.metadata.extend(metadata);
            let mut end = 0;
            for (stream, set, t_ns, text, extra) in lines {
                end += file.map_or(0, |_| text.len() as u32 / 2 + extra);
                let stream = stream.index(batch.streams.len()) as u32;
                batch.push(stream, t_ns, &text, set.index(batch.metadata.len()) as u32, end);
            }
            if let Some((_, start)) = file {
                batch.close_range(u64::from(start) + u64::from(end) + 3);
            }
            Batch::Logs(batch)
        },
    )
}

proptest! {
    #[test]
    fn batches_come_back(batch in prop_oneof![metrics(), logs()]) {
        check(&batch);
    }

    /// The checksum is put right, so that the decoder behind it is reached.
    #[test]
    fn arbitrary_bytes_never_panic(mut frame in prop::collection::vec(any::<u8>(), 0..300), kind in 0u8..6, packed in 0u8..2, version in 1u8..3) {
        let _ = decode(&frame);
        if frame.len() >= HEADER_BYTES {
            frame[..3].copy_from_slice(&[version, kind, packed]);
            let crc = checksum(&frame);
            frame[3..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
            let _ = decode(&frame);
        }
    }

    #[test]
    fn mangled_batches_never_panic(batch in prop_oneof![metrics(), logs()], at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let mut frame = encode(&batch);
        let at = HEADER_BYTES + at.index(frame.len() - HEADER_BYTES);
        frame[at] = to;
        let crc = checksum(&frame);
        frame[3..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
        let _ = decode(&frame);
    }
}

fn sample_logs(origin: Origin, lines: usize, text: &str) -> LogBatch {
    let mut batch = LogBatch::new("default", origin);
    batch.streams.push(Labels::from_pairs([("filename", "/var/log/a.log"), ("node", "n1")]));
    batch.streams.push(Labels::from_pairs([("filename", "/var/log/a.log"), ("level", "warn")]));
    batch.metadata.push(Labels::from_pairs([("trace_id", "4bf92f35")]));
    let mut end = 0;
    for i in 0..lines {
        let text = format!("{i} {text}");
        end += if origin == Origin::Pushed { 0 } else { text.len() as u32 + 1 };
        batch.push((i % 2) as u32, 1_700_000_000_000_000_000 + i as i64 * 1_000_003, &text, (i % 3 == 2).into(), end);
    }
    if let Origin::Tailed { start, .. } = origin {
        batch.close_range(start + u64::from(end) + 5);
    }
    batch
}

fn golden() -> Vec<(&'static str, Batch)> {
    let tailed = Origin::Tailed { file: FileId(0x0123_4567_89ab_cdef), start: 4096, end: 4096 };
    let up = |instance| Labels::from_pairs([("__name__", "up"), ("instance", instance)]);
    let samples = vec![Sample { t_ms: 1_700_000_000_000, value: 1.0 }, Sample { t_ms: 1_700_000_015_000, value: -0.5 }];
    let series = vec![
        SeriesSamples::new(up("a:9100"), samples),
        SeriesSamples::new(up("b:9100"), vec![Sample { t_ms: 1_700_000_000_001, value: 0.0 }]),
    ];
    let alerts = AlertEvents { tenant: "t".into(), events: vec![r#"{"v":1}"#.into(), "{}".into()] };
    let line_deletes = LineDeletes {
        id: "1f".into(),
        tenant: "t".into(),
        query: r#"{a="b"} |= "c""#.into(),
        start_ns: -1,
        end_ns: i64::MAX,
        created_ms: 1_700_000_000_000,
    };
    vec![
        ("metrics", Batch::Metrics(MetricBatch::new("default", series))),
        ("logs-tailed", Batch::Logs(sample_logs(tailed, 5, "hello"))),
        ("logs-pushed", Batch::Logs(sample_logs(Origin::Pushed, 3, "wörld"))),
        ("logs-zstd", Batch::Logs(sample_logs(tailed, 50, "GET /index.html HTTP/1.1 200"))),
        (
            "forget-files",
            Batch::ForgetFiles(ForgetFiles { tenant: "t".into(), files: vec![FileId(1), FileId(u128::MAX)] }),
        ),
        ("alerts", Batch::Alerts(alerts)),
        ("line-deletes", Batch::LineDeletes(line_deletes)),
    ]
}

/// Version 1 is readable for ever. Compressed bytes may differ with another zstd, so only reading is pinned for them.
#[test]
fn golden_records() {
    for (name, batch) in golden() {
        let frame = check_golden(VERSION, name, &batch);
        if frame[2] == STORED && name != "metrics" {
            assert_eq!(encode(&batch), frame, "{name}");
        }
    }
}

/// The fixture of a batch, which must read as that batch. Only what is still written is written anew.
fn check_golden(version: u8, name: &str, batch: &Batch) -> Vec<u8> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let path = dir.join(format!("record-v{version}-{name}.bin"));
    let encoded = encode(batch);
    if std::env::var_os("BINNACLE_WRITE_GOLDEN").is_some() && encoded[0] == version {
        std::fs::write(&path, encoded).expect("written");
    }
    let frame = std::fs::read(&path).expect("the fixture is there");
    assert_eq!(frame[0], version);
    // Not the batches: NaN is not NaN.
    assert_eq!(format!("{:?}", decode(&frame).expect("it decodes")), format!("{batch:?}"), "{name}");
    frame
}

fn golden_rich() -> Vec<(&'static str, Batch)> {
    let t_ms = 1_700_000_000_000;
    let spans = vec![BucketSpan { offset: -1, length: 2 }, BucketSpan { offset: 3, length: 1 }];
    let counter = Histogram {
        zero_threshold: 0.001,
        zero_count: 1.0,
        count: 10.0,
        sum: 12.5,
        reset_hint: ResetHint::NotReset,
        positive: Buckets { spans, counts: vec![2.0, 3.0, 4.0] },
        ..Histogram::default()
    };
    let custom = Histogram {
        schema: CUSTOM_SCHEMA,
        count: 1.5,
        sum: 0.75,
        positive: Buckets { spans: vec![BucketSpan { offset: 1, length: 1 }], counts: vec![1.5] },
        custom_bounds: vec![0.5, 2.5],
        ..Histogram::default()
    };
    let at = |i: i64, histogram: &Histogram| HistogramSample {
        t_ms: t_ms + i,
        start_ms: t_ms - 5,
        histogram: Arc::new(histogram.clone()),
    };
    let labels = Labels::from_pairs([("__name__", "h"), ("job", "a")]);
    let exemplar = Exemplar { labels: Labels::from_pairs([("trace_id", "4bf9")]), value: 0.25, t_ms };
    let series = vec![
        SeriesSamples {
            labels: Labels::from_pairs([("__name__", "c")]),
            samples: vec![Sample { t_ms, value: 1.0 }, Sample { t_ms: t_ms + 9, value: 2.0 }].into(),
            starts_ms: vec![t_ms - 5, 0],
            ..SeriesSamples::default()
        },
        SeriesSamples {
            labels,
            histograms: vec![at(0, &counter), at(1, &counter), at(2, &custom), at(3, &Histogram::stale())],
            exemplars: vec![exemplar],
            ..SeriesSamples::default()
        },
    ];
    let kind = MetricKind::Histogram;
    let metadata = vec![MetricMetadata { name: "h".into(), kind, help: "a \"b\"".into(), unit: "s".into() }];
    let matchers = vec![Matcher::equal("a", "b"), Matcher::new("c", MatchOp::NotRegex, "x.*").expect("a good matcher")];
    let selectors = vec![matchers, vec![Matcher::equal("d", "")]];
    let deletes =
        Deletes { tenant: "t".into(), selectors, start_ms: -1, end_ms: i64::MAX, partitions: 3, partition: 2 };
    vec![
        ("metrics", Batch::Metrics(MetricBatch { tenant: "default".into(), series, metadata })),
        ("deletes", Batch::Deletes(deletes)),
    ]
}

/// Version 2 is readable for ever too.
#[test]
fn golden_rich_records() {
    for (name, batch) in golden_rich() {
        let frame = check_golden(RICH_VERSION, name, &batch);
        check(&batch);
        if name != "metrics" {
            assert_eq!(encode(&batch), frame, "{name}");
        }
    }
}

/// What is written of metrics now.
#[test]
fn golden_series_records() {
    let (floats, rich) = (golden().swap_remove(0).1, golden_rich().swap_remove(0).1);
    for (name, batch) in [("metrics", floats), ("rich-metrics", rich)] {
        assert_eq!(check_golden(SERIES_VERSION, name, &batch), encode(&batch), "{name}");
    }
}

/// What a small record can make of itself is bounded, and a batch beyond it is cut.
#[test]
fn label_sets_of_a_record_are_bounded() {
    let labels = |i: usize| {
        let wide = (0..60).map(|name| (format!("a{name:02}"), "x".to_owned()));
        Labels::from_pairs(wide.chain([("b".to_owned(), i.to_string())]))
    };
    let one = |i| SeriesSamples::new(labels(i), vec![Sample { t_ms: 1, value: 1.0 }]);
    let batch = Batch::Metrics(MetricBatch::new("t", (0..6_000).map(one).collect()));
    assert!(matches!(encode_bounded(&batch, Packing::Quick), Err(BusError::TooLarge { .. })));
    assert!(matches!(decode(&encode(&batch)), Err(BusError::Corrupt(_))));
    check_split(batch, 2..=12);
}

/// Splits, checks sizes, and gives the parts.
fn check_split(batch: Batch, expected_parts: std::ops::RangeInclusive<usize>) -> Vec<Batch> {
    let parts = split(batch);
    assert!(expected_parts.contains(&parts.len()), "{} parts", parts.len());
    for part in &parts {
        let encoded = encode_bounded(part, Packing::Quick).expect("every part is a record");
        assert!(encoded.frame.len() <= MAX_RECORD_BYTES);
    }
    parts
}

#[test]
fn tailed_parts_cover_the_range() {
    let origin = Origin::Tailed { file: FileId(9), start: 1000, end: 1000 };
    let batch = sample_logs(origin, 30_000, "some text of a line that is of ordinary length and goes on");
    let lines: Vec<_> = batch.lines().map(|line| (line.t_ns, line.text.to_owned(), line.source)).collect();
    let Origin::Tailed { end: whole_end, .. } = batch.origin else { panic!("tailed") };
    let (mut at, mut seen) = (1000, Vec::new());
    for part in check_split(Batch::Logs(batch), 2..=6) {
        let Batch::Logs(part) = part else { panic!("logs") };
        let Origin::Tailed { start, end, .. } = part.origin else { panic!("tailed") };
        assert_eq!(start, at);
        at = end;
        seen.extend(part.lines().map(|line| (line.t_ns, line.text.to_owned(), line.source)));
    }
    assert_eq!(at, whole_end);
    assert_eq!(seen, lines);
}

#[test]
fn every_kind_splits() {
    let long = "x".repeat(MAX_LINE_BYTES - 10);
    check_split(Batch::Logs(sample_logs(Origin::Pushed, 3, &long)), 3..=3);
    check_split(Batch::Logs(sample_logs(Origin::Pushed, 0, "")), 1..=1);
    let sample = |i: usize| Sample { t_ms: i as i64 * 15_000, value: (i as f64).sqrt() };
    let series = |name: String, samples: usize| {
        SeriesSamples::new(Labels::from_pairs([("__name__", name)]), (0..samples).map(sample).collect::<Floats>())
    };
    let few = (0..30_000).map(|i| series(format!("m{i}"), 1)).collect();
    let parts = check_split(Batch::Metrics(MetricBatch::new("t", few)), 2..=4);
    let total: usize =
        parts.iter().map(|part| if let Batch::Metrics(part) = part { part.sample_count() } else { 0 }).sum();
    assert_eq!(total, 30_000);
    let wide = vec![series("a".into(), 3), series("b".into(), 150_000), series("c".into(), 3)];
    check_split(Batch::Metrics(MetricBatch::new("t", wide)), 4..=5);
    let counts: Vec<(i32, f64)> = (0..1000).map(|i| (i, 0.1)).collect();
    let histogram = Arc::new(Histogram { positive: Buckets::from_indexed(counts), ..Histogram::default() });
    let histograms: Vec<_> =
        (0..300).map(|t_ms| HistogramSample { t_ms, start_ms: 0, histogram: histogram.clone() }).collect();
    let one = SeriesSamples { histograms, ..series("h".into(), 100_000) };
    let parts = check_split(Batch::Metrics(MetricBatch::new("t", vec![one])), 5..=8);
    let total: usize =
        parts.iter().map(|part| if let Batch::Metrics(part) = part { part.sample_count() } else { 0 }).sum();
    assert_eq!(total, 100_300);
    check_split(Batch::ForgetFiles(ForgetFiles { tenant: "t".into(), files: vec![FileId(1); 100_000] }), 2..=2);
    let events = vec!["e".repeat(1000); 2000];
    check_split(Batch::Alerts(AlertEvents { tenant: "t".into(), events }), 3..=3);
}

/// Hostile bodies: counts and runs far above the bytes behind them, and a small frame that unpacks to a large body.
#[test]
fn hostile_lengths_are_refused() {
    let huge = zstd::bulk::compress(&vec![0; 64 << 20], 1).expect("zeros compress");
    for (kind, compression, body) in [
        (1, STORED, vec![0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f]),
        (0, STORED, vec![0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
        (1, ZSTD, huge),
    ] {
        let mut frame = vec![VERSION, kind, compression, 0, 0, 0, 0];
        frame.extend(body);
        let crc = checksum(&frame);
        frame[3..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
        assert!(matches!(decode(&frame), Err(BusError::Corrupt(_))));
    }
}

/// Prints speed (`--nocapture`, release); asserts only that the numbers are sane.
#[test]
fn speed() {
    let origin = Origin::Tailed { file: FileId(9), start: 0, end: 0 };
    let text =
        "level=info msg=\"request served\" path=/api/v1/query status=200 duration=0.0123 bytes=4711 peer=10.0.0.7:443";
    let batch = Batch::Logs(sample_logs(origin, 7_000, text));
    let rounds = 50;
    let mb = |bytes: usize, started: Instant| (bytes * rounds) as f64 / 1e6 / started.elapsed().as_secs_f64();
    let started = Instant::now();
    let mut body_bytes = 0;
    for _ in 0..rounds {
        let mut writer = Writer::default();
        body::write(&batch, &mut writer);
        body_bytes = writer.into_bytes().len();
    }
    let encode_mb_s = mb(body_bytes, started);
    let started = Instant::now();
    let mut frame = Vec::new();
    for _ in 0..rounds {
        frame = encode(&batch);
    }
    let zstd_mb_s = mb(body_bytes, started);
    let started = Instant::now();
    for _ in 0..rounds {
        decode(&frame).expect("decodes");
    }
    let decode_mb_s = mb(body_bytes, started);
    println!(
        "body {encode_mb_s:.0} MB/s, with zstd {zstd_mb_s:.0} MB/s ({} of {body_bytes} bytes), decode {decode_mb_s:.0} MB/s",
        frame.len()
    );
    assert!(frame.len() < body_bytes);
}
