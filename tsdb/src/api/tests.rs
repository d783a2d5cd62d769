use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use bus::{EmbeddedBus, EmbeddedOptions};
use disk::RealDisk;
use model::{Labels, now_ms};
use prost::Message;
use service::config::Limits;
use service::metrics::Metrics;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::write::v1::{ExemplarPair, LabelPair, Metadata, Request as WriteRequest, SamplePair, TimeSeries};
use super::write::{Count, Histogram, Span, v2};
use crate::{Options, Retention, Tsdb, TsdbError};

struct Fixture {
    dir: TempDir,
    app: Arc<Tsdb>,
    stop: CancellationToken,
    running: JoinHandle<Result<(), TsdbError>>,
}

async fn start() -> Fixture {
    start_in(tempfile::tempdir().expect("a directory")).await
}

async fn start_in(dir: TempDir) -> Fixture {
    let disk: Arc<dyn disk::Disk> = Arc::new(RealDisk);
    let options = EmbeddedOptions { reserve_bytes: 0, segment_bytes: 4096, ..EmbeddedOptions::default() };
    let bus = Arc::new(EmbeddedBus::open(disk.clone(), dir.path().join("bus"), options).expect("the bus opens"));
    let options = Options {
        dir: dir.path().join("tsdb"),
        retention: Retention::of_all(15 * model::MS_PER_DAY),
        limits: Limits { max_active_series: 10, ..Limits::default() },
        otlp: service::config::Otlp::default(),
        external_labels: Labels::default(),
        strong_reads: true,
        query_timeout: std::time::Duration::from_secs(10),
        query_max_samples: 1_000_000,
        query_max_total_bytes: usize::MAX,
        query_max_concurrency: 20,
        lookback_ms: 300_000,
        evaluation_interval_ms: 60_000,
        accept_loss: false,
        works: Default::default(),
    };
    let app = Tsdb::open(options, bus, disk, &Metrics::default()).await.expect("the store opens");
    let stop = CancellationToken::new();
    let running = tokio::spawn(app.clone().run(stop.clone()));
    Fixture { dir, app, stop, running }
}

impl Fixture {
    /// Ends the store without any chance to write, and starts it again on the same files.
    async fn restart(self) -> Fixture {
        let Fixture { dir, app, stop, running } = self;
        stop.cancel();
        running.await.expect("it ran").expect("without a failure");
        drop(app);
        start_in(dir).await
    }
}

fn series(labels: &[(&str, &str)], samples: &[(i64, f64)]) -> TimeSeries {
    TimeSeries {
        labels: labels.iter().map(|(name, value)| LabelPair { name: (*name).into(), value: (*value).into() }).collect(),
        samples: samples.iter().map(|(t_ms, value)| SamplePair { t_ms: *t_ms, value: *value }).collect(),
        ..TimeSeries::default()
    }
}

fn body(timeseries: Vec<TimeSeries>) -> Vec<u8> {
    let message = WriteRequest { timeseries, metadata: Vec::new() }.encode_to_vec();
    snap::raw::Encoder::new().compress_vec(&message).expect("compresses")
}

impl Fixture {
    async fn send(&self, request: Request<Body>) -> (StatusCode, String) {
        let response = self.app.clone().router().oneshot(request).await.expect("an answer");
        let status = response.status();
        let bytes = to_bytes(response.into_body(), usize::MAX).await.expect("a body");
        (status, String::from_utf8(bytes.to_vec()).expect("text"))
    }

    async fn write(&self, body: Vec<u8>) -> (StatusCode, String) {
        self.send(Request::post("/api/v1/write").body(Body::from(body)).expect("a request")).await
    }

    /// A GET must answer this status, with `expected` somewhere in the body.
    async fn check(&self, path: &str, status: StatusCode, expected: &str) {
        let (got, text) = self.send(Request::get(path).body(Body::empty()).expect("a request")).await;
        assert!(got == status && text.contains(expected), "{path}: {got} {text}\nexpected {status} {expected}");
    }
}

#[tokio::test]
async fn what_was_written_is_read_at_once_before_and_after_a_flush() {
    let fixture = start().await;
    let t_ms = now_ms() / 1000 * 1000 - 60_000;
    let samples: Vec<(i64, f64)> = (0..5).map(|i| (t_ms + i * 1000, i as f64 * 1.5)).collect();
    let sent = body(vec![
        series(&[("__name__", "x"), ("job", "a\"b")], &samples),
        series(&[("__name__", "y"), ("job", "c")], &[(t_ms, f64::NAN)]),
    ]);
    assert_eq!(fixture.write(sent).await, (StatusCode::NO_CONTENT, String::new()));
    for _ in 0..2 {
        let t_s = t_ms / 1000;
        let at = format!("/api/v1/query?query=x&time={}", t_s + 4);
        let vector = r#"{"metric":{"__name__":"x","job":"a\"b"},"value":["#;
        fixture.check(&at, StatusCode::OK, vector).await;
        fixture.check(&at, StatusCode::OK, r#","6"]}"#).await;
        let range = format!("/api/v1/query_range?query=sum(x)&start={t_s}&end={}&step=2", t_s + 4);
        fixture.check(&range, StatusCode::OK, &format!(r#"[[{t_s},"0"],[{},"3"],[{},"6"]]"#, t_s + 2, t_s + 4)).await;
        fixture.check("/api/v1/labels", StatusCode::OK, r#""data":["__name__","job"]"#).await;
        fixture.check("/api/v1/label/job/values", StatusCode::OK, r#""data":["a\"b","c"]"#).await;
        fixture.check("/api/v1/label/job/values?match[]=y", StatusCode::OK, r#""data":["c"]"#).await;
        fixture.check("/api/v1/label/job/values?limit=1", StatusCode::OK, "truncated").await;
        let all = r#""data":[{"__name__":"x","job":"a\"b"},{"__name__":"y","job":"c"}]"#;
        fixture.check("/api/v1/series?match[]=x&match[]=y", StatusCode::OK, all).await;
        fixture.check(&format!("/api/v1/series?match[]=y&start={}", t_s + 1), StatusCode::OK, r#""data":[]"#).await;
        fixture.app.flush().await.expect("flushed");
    }
    assert_eq!(fixture.app.instant("default", "sum(x)", t_ms).await.expect("an answer")[0].1.value, 0.0);
    assert_eq!(fixture.app.instant("default", "1 + 1", t_ms).await.expect("an answer").len(), 1);
    assert!(fixture.app.instant("other", "x", t_ms).await.expect("an answer").is_empty());
}

/// Published or not, flushed or not, merged or not: after every restart each acknowledged sample is there once.
#[tokio::test]
async fn restarts_lose_nothing_and_show_nothing_twice() {
    let mut fixture = start().await;
    let start_ms = now_ms() - 600_000;
    for round in 0..12i64 {
        let x =
            series(&[("__name__", "x")], &[(start_ms + round * 1000, round as f64), (start_ms - 5000, round as f64)]);
        assert_eq!(fixture.write(body(vec![x])).await.0, StatusCode::NO_CONTENT);
        if round % 3 == 1 {
            fixture.app.flush().await.expect("flushed");
        }
        if round % 2 == 1 {
            fixture = fixture.restart().await;
        }
        let count = fixture.app.instant("default", "count_over_time(x[1h])", now_ms()).await.expect("an answer");
        assert_eq!(count[0].1.value, (round + 2) as f64);
        let sum = fixture.app.instant("default", "sum_over_time(x[1h])", now_ms()).await.expect("an answer");
        assert_eq!(sum[0].1.value, (round * (round + 1) / 2 + round) as f64);
        assert_eq!(fixture.app.ready(), Ok(()));
    }
}

#[tokio::test]
async fn bad_input_is_named_and_the_good_beside_it_taken() {
    let fixture = start().await;
    let t_ms = now_ms();
    let check = async |sent: Vec<u8>, expected: &str| {
        let (status, text) = fixture.write(sent).await;
        assert!(status == StatusCode::BAD_REQUEST && text.contains(expected), "{status} {text}");
    };
    let good = body(vec![series(&[("__name__", "good")], &[(t_ms, 1.0)])]);
    check(good[..good.len() - 3].to_vec(), "snappy").await;
    check(snap::raw::Encoder::new().compress_vec(&[0xff; 50]).expect("compresses"), "protobuf").await;
    let mut histogram = series(&[("__name__", "h")], &[]);
    histogram.histograms.push(Histogram { schema: 60, t_ms, ..Histogram::default() });
    let beside = series(&[("__name__", "beside")], &[(t_ms, 2.0)]);
    check(body(vec![histogram, beside]), "histogram has an unknown schema").await;
    check(body(vec![series(&[("__name__", "x"), ("a", "1"), ("a", "2")], &[(t_ms, 1.0)])]), "repeats").await;
    check(body(vec![series(&[("__name__", "x")], &[(t_ms + 90_000_000, 1.0)])]), "a day ahead").await;
    let many = (0..12).map(|i| series(&[("__name__", "many"), ("i", &i.to_string())], &[(t_ms, 1.0)])).collect();
    fixture.app.wait_applied().await.expect("applied");
    check(body(many), "3 samples refused: too many active series").await;
    assert_eq!(fixture.write(body(vec![])).await.0, StatusCode::NO_CONTENT);
    fixture.check("/api/v1/query?query=beside", StatusCode::OK, r#""2"]"#).await;
    fixture.check("/api/v1/query?query=count(many)", StatusCode::OK, r#""9"]"#).await;
}

#[tokio::test]
async fn errors_have_prometheus_envelope() {
    let fixture = start().await;
    let bad = StatusCode::BAD_REQUEST;
    fixture.check("/api/v1/query", bad, r#""errorType":"bad_data""#).await;
    fixture.check("/api/v1/query?query=sum(", bad, "parse error").await;
    fixture.check("/api/v1/query_range?query=x&start=0&end=11001&step=1", bad, "11,000 points").await;
    fixture.check("/api/v1/query_range?query=x&start=2&end=1&step=1", bad, "before start").await;
    fixture.check("/api/v1/query_range?query=x&start=1&end=2&step=0", bad, "step").await;
    fixture.check("/api/v1/series", bad, "match[]").await;
    fixture.check("/api/v1/query?query=x&limit=a", bad, "limit").await;
    let divided = "/api/v1/query?query=label_replace(vector(1),%22a%22,%22%22,%22b%22,%22(%22)";
    let (status, _) = fixture.send(Request::get(divided).body(Body::empty()).expect("a request")).await;
    assert!(status.is_client_error(), "{status}");
    fixture.check("/api/v1/format_query?query=sum(x)by(a)", StatusCode::OK, "sum by (a) (x)").await;
    fixture.check("/api/v1/status/buildinfo", StatusCode::OK, "version").await;
    fixture.check("/api/v1/status/tsdb", StatusCode::OK, "headStats").await;
    fixture.check("/api/v1/metadata", StatusCode::OK, r#""data":{}"#).await;
}

/// The explorer of cardinality says when series came and what nobody reads.
#[tokio::test]
async fn unread_metrics_and_new_series_are_shown() {
    let fixture = start().await;
    let sent = body(vec![series(&[("__name__", "x")], &[(now_ms() - 60_000, 1.0)])]);
    assert_eq!(fixture.write(sent).await.0, StatusCode::NO_CONTENT);
    let (path, ok) = ("/api/v1/status/tsdb", StatusCode::OK);
    fixture.check(path, ok, r#""seriesCountByUnreadMetricName":[{"name":"x","value":1}]"#).await;
    fixture.check(path, ok, r#""seriesCountByFirstHour":[{"time":"#).await;
    fixture.check("/api/v1/query?query=x", ok, "success").await;
    fixture.check(path, ok, r#""seriesCountByUnreadMetricName":[]"#).await;
    fixture.check(path, ok, r#""readSince":"#).await;
}

fn histogram(t_ms: i64, counts: &[i64]) -> Histogram {
    let mut before = 0;
    Histogram {
        count: Some(Count::Integer(counts.iter().sum::<i64>() as u64)),
        sum: 2.5,
        positive_spans: vec![Span { offset: 0, length: counts.len() as u32 }],
        positive_deltas: counts.iter().map(|count| count - std::mem::replace(&mut before, *count)).collect(),
        t_ms,
        ..Histogram::default()
    }
}

/// Histograms, exemplars and metadata of both versions are there before and after a flush and a restart.
#[tokio::test]
async fn rich_writes_are_kept() {
    let mut fixture = start().await;
    let t_ms = now_ms() / 1000 * 1000 - 60_000;
    let exemplar = ExemplarPair { labels: vec![], value: 0.5, t_ms };
    let first = TimeSeries {
        histograms: vec![histogram(t_ms, &[1, 2]), histogram(t_ms + 1000, &[2, 4])],
        exemplars: vec![exemplar],
        ..series(&[("__name__", "h")], &[])
    };
    let metadata = vec![Metadata { kind: 3, name: "h".into(), help: "of h".into(), unit: String::new() }];
    let message = WriteRequest { timeseries: vec![first], metadata }.encode_to_vec();
    let body = snap::raw::Encoder::new().compress_vec(&message).expect("compresses");
    assert_eq!(fixture.write(body).await, (StatusCode::NO_CONTENT, String::new()));
    let second = v2::Request {
        symbols: ["", "__name__", "h", "c", "total of c"].map(str::to_owned).to_vec(),
        timeseries: vec![
            v2::TimeSeries {
                labels: vec![1, 2],
                histograms: vec![histogram(t_ms + 2000, &[3, 6])],
                ..Default::default()
            },
            v2::TimeSeries {
                labels: vec![1, 3],
                samples: vec![v2::SamplePair { value: 9.0, t_ms, start_ms: t_ms - 5000 }],
                metadata: Some(v2::Metadata { kind: 1, help: 4, unit: 0 }),
                ..Default::default()
            },
            v2::TimeSeries { labels: vec![1, 9], samples: vec![v2::SamplePair::default()], ..Default::default() },
        ],
    };
    let body = snap::raw::Encoder::new().compress_vec(&second.encode_to_vec()).expect("compresses");
    let request = Request::post("/api/v1/write")
        .header("content-type", "application/x-protobuf;proto=io.prometheus.write.v2.Request")
        .body(Body::from(body))
        .expect("a request");
    let response = fixture.app.clone().router().oneshot(request).await.expect("an answer");
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    let written = |name: &str| response.headers()[&format!("x-prometheus-remote-write-{name}-written")].clone();
    assert_eq!([written("samples"), written("histograms"), written("exemplars")], ["1", "1", "0"]);
    for round in 0..3 {
        let matchers = [model::Matcher::equal("__name__", "h")];
        let (start_ms, end_ms) = (t_ms, t_ms + 5000);
        let select = query::SeriesSelect {
            tenant: "default",
            matchers: &matchers,
            start_ms,
            end_ms,
            wants: query::Wants::Values,
            deadline: None,
        };
        fixture.app.wait_applied().await.expect("applied");
        let store = &fixture.app.store;
        let set = query::Series::select(store.as_ref(), &select).expect("selected");
        let mut found = query::Samples::default();
        set.read(0, &mut found).expect("read");
        let counts: Vec<f64> = found.histograms.iter().map(|(_, one)| one.count).collect();
        assert_eq!((set.len(), counts), (1, vec![3.0, 6.0, 9.0]), "round {round}");
        drop(set);
        let exemplars = store.exemplars("default", &[matchers.to_vec()], start_ms, end_ms, None).expect("found");
        assert_eq!((exemplars.len(), exemplars[0].1.len()), (1, 1));
        let metadata = store.metadata("default", None, 10, 10);
        let kinds: Vec<_> = metadata.iter().map(|(name, all)| (name.as_str(), all[0].kind.as_str())).collect();
        assert_eq!(kinds, [("c", "counter"), ("h", "histogram")]);
        match round {
            0 => fixture.app.flush().await.expect("flushed"),
            _ => fixture = fixture.restart().await,
        }
    }
}

#[tokio::test]
async fn what_is_deleted_is_gone_and_what_comes_later_stays() {
    let mut fixture = start().await;
    let t_ms = now_ms() - 60_000;
    let x = |from: i64| body(vec![series(&[("__name__", "x")], &[(t_ms + from, 1.0), (t_ms + from + 1, 1.0)])]);
    assert_eq!(fixture.write(x(0)).await.0, StatusCode::NO_CONTENT);
    fixture.app.flush().await.expect("flushed");
    assert_eq!(fixture.write(x(10)).await.0, StatusCode::NO_CONTENT);
    let selectors = vec![vec![model::Matcher::equal("__name__", "x")]];
    fixture.app.delete_series("default", selectors, t_ms, t_ms + 10).await.expect("deleted");
    for round in 0..4 {
        let count = fixture.app.instant("default", "count_over_time(x[1h])", now_ms()).await.expect("an answer");
        assert_eq!(count[0].1.value, if round < 3 { 1.0 } else { 3.0 }, "round {round}");
        match round {
            0 => fixture = fixture.restart().await,
            1 => fixture.app.clean_tombstones().await.expect("cleaned"),
            2 => assert_eq!(fixture.write(x(0)).await.0, StatusCode::NO_CONTENT),
            _ => {}
        }
    }
    fixture.app.snapshot("s1", false).await.expect("a snapshot");
    let opened = fixture.dir.path().join("tsdb/snapshots/s1");
    let store = crate::store::Store::open(Arc::new(RealDisk), &opened, &fixture.app.bus.id()).expect("it opens");
    assert_eq!(store.part_stats().1, 3);
}
