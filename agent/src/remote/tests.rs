//! A bus of our own on one side, a receiver of our own on the other.

use std::collections::VecDeque;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bus::{EmbeddedBus, EmbeddedOptions, Producer};
use disk::RealDisk;
use model::{
    Batch, BucketSpan, Buckets, Exemplar, Histogram, HistogramSample, MetricBatch, MetricKind, MetricMetadata, Sample,
    SeriesSamples,
};
use parking_lot::Mutex;
use prost::Message;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, PartialEq, Message)]
struct Pair {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct SampleMessage {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    t_ms: i64,
}

#[derive(Clone, PartialEq, Message)]
struct ExemplarMessage {
    #[prost(double, tag = "2")]
    value: f64,
    #[prost(int64, tag = "3")]
    t_ms: i64,
}

#[derive(Clone, PartialEq, Message)]
struct HistogramMessage {
    #[prost(uint64, tag = "1")]
    count: u64,
    #[prost(double, tag = "3")]
    sum: f64,
    #[prost(sint64, repeated, tag = "12")]
    positive_deltas: Vec<i64>,
    #[prost(int64, tag = "15")]
    t_ms: i64,
}

#[derive(Clone, PartialEq, Message)]
struct SeriesV1 {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Pair>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<SampleMessage>,
    #[prost(message, repeated, tag = "3")]
    exemplars: Vec<ExemplarMessage>,
    #[prost(message, repeated, tag = "4")]
    histograms: Vec<HistogramMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct MetadataV1 {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "4")]
    help: String,
}

#[derive(Clone, PartialEq, Message)]
struct RequestV1 {
    #[prost(message, repeated, tag = "1")]
    series: Vec<SeriesV1>,
    #[prost(message, repeated, tag = "3")]
    metadata: Vec<MetadataV1>,
}

#[derive(Clone, PartialEq, Message)]
struct MetadataV2 {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(uint32, tag = "3")]
    help: u32,
}

#[derive(Clone, PartialEq, Message)]
struct SeriesV2 {
    #[prost(uint32, repeated, tag = "1")]
    labels: Vec<u32>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<SampleMessage>,
    #[prost(message, repeated, tag = "3")]
    histograms: Vec<HistogramMessage>,
    #[prost(message, optional, tag = "5")]
    metadata: Option<MetadataV2>,
}

#[derive(Clone, PartialEq, Message)]
struct RequestV2 {
    #[prost(string, repeated, tag = "4")]
    symbols: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    series: Vec<SeriesV2>,
}

/// What arrived, a line for each: `tenant name{labels} value@time`.
#[derive(Default)]
struct Receiver {
    lines: Mutex<Vec<String>>,
    /// Statuses in place of 204, once each.
    answers: Mutex<VecDeque<u16>>,
    refused: Mutex<usize>,
}

async fn receive(State(receiver): State<Arc<Receiver>>, headers: HeaderMap, body: Bytes) -> Response {
    if let Some(status) = receiver.answers.lock().pop_front() {
        *receiver.refused.lock() += 1;
        return (StatusCode::from_u16(status).expect("a status"), [("retry-after", "0")]).into_response();
    }
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("-").to_owned();
    assert_eq!((text("content-encoding"), text("x-scope-user")), ("snappy".into(), "u".into()));
    let message = snap::raw::Decoder::new().decompress_vec(&body).expect("snappy");
    let lines = match text("x-prometheus-remote-write-version").as_str() {
        "0.1.0" => lines_v1(&RequestV1::decode(&message[..]).expect("a request")),
        "2.0.0" => lines_v2(&RequestV2::decode(&message[..]).expect("a request")),
        version => panic!("{version}"),
    };
    let tenant = text("x-scope-orgid");
    receiver.lines.lock().extend(lines.into_iter().map(|line| format!("{tenant} {line}")));
    StatusCode::NO_CONTENT.into_response()
}

fn points(samples: &[SampleMessage], histograms: &[HistogramMessage]) -> String {
    let floats = samples.iter().map(|sample| format!("{}@{}", sample.value, sample.t_ms));
    let histograms =
        histograms.iter().map(|one| format!("{}/{}/{:?}@{}", one.count, one.sum, one.positive_deltas, one.t_ms));
    floats.chain(histograms).collect::<Vec<_>>().join(" ")
}

fn lines_v1(request: &RequestV1) -> Vec<String> {
    let series = request.series.iter().map(|series| {
        let labels = Labels::from_pairs(series.labels.iter().map(|pair| (pair.name.as_str(), pair.value.as_str())));
        let exemplars = series.exemplars.iter().map(|exemplar| format!(" # {}@{}", exemplar.value, exemplar.t_ms));
        format!("{labels} {}{}", points(&series.samples, &series.histograms), exemplars.collect::<String>())
    });
    let metadata = request.metadata.iter().map(|one| format!("{} is {}: {}", one.name, one.kind, one.help));
    series.chain(metadata).collect()
}

fn lines_v2(request: &RequestV2) -> Vec<String> {
    let symbol = |at: &u32| request.symbols[*at as usize].as_str();
    let line = |series: &SeriesV2| {
        let labels = Labels::from_pairs(series.labels.chunks(2).map(|pair| (symbol(&pair[0]), symbol(&pair[1]))));
        let about = series.metadata.as_ref().map(|one| format!(" is {}: {}", one.kind, symbol(&one.help)));
        format!("{labels} {}{}", points(&series.samples, &series.histograms), about.unwrap_or_default())
    };
    request.series.iter().map(line).collect()
}

/// A bus, a receiver, and a writer between them that can be started anew.
struct Bench {
    dir: tempfile::TempDir,
    bus: Arc<HeldBus>,
    receiver: Arc<Receiver>,
    url: String,
    running: Option<(CancellationToken, JoinHandle<()>)>,
    writer: Option<RemoteWriter>,
}

impl Bench {
    async fn new() -> Bench {
        let dir = tempfile::tempdir().expect("a directory");
        let options = EmbeddedOptions { segment_bytes: 1, ..EmbeddedOptions::default() };
        let bus = EmbeddedBus::open(Arc::new(RealDisk), dir.path().join("bus"), options).expect("opened");
        let bus = Arc::new(HeldBus::new(Arc::new(bus), &[Topic::Metrics], u64::MAX));
        let receiver = Arc::<Receiver>::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/write", listener.local_addr().expect("bound"));
        let router = Router::new().route("/write", axum::routing::post(receive)).with_state(receiver.clone());
        tokio::spawn(service::http::serve(listener, router, CancellationToken::new()));
        Bench { dir, bus, receiver, url, running: None, writer: None }
    }

    fn set(&self, writer: &RemoteWriter, extra: &str) {
        let yaml = format!(
            "{{url: '{}', headers: {{x-scope-user: u}}, queue_config: {{batch_send_deadline: 1ms, max_samples_per_send: 3, \
             min_backoff: 1ms, max_backoff: 5ms, retry_on_http_429: true}}, {extra}}}",
            self.url
        );
        let config: RemoteWrite = serde_saphyr::from_str(&yaml).expect("good YAML");
        writer.set(&[config], &Labels::from_pairs([("cluster", "c")]), Path::new(""));
    }

    /// Begins to send; waits until the checkpoint is there, so that what is appended next is sent.
    async fn start(&mut self, extra: &str) {
        let disk = Arc::new(RealDisk);
        let dir = self.dir.path().join("remote");
        let held = Some(self.bus.clone());
        let writer = RemoteWriter::new(self.bus.clone(), held, disk, dir.clone(), &Metrics::default());
        self.set(&writer, extra);
        let stop = CancellationToken::new();
        self.running = Some((stop.clone(), tokio::spawn(writer.clone().run(stop))));
        self.writer = Some(writer);
        let there = async {
            while std::fs::read_dir(&dir).map_or(0, |entries| entries.count()) == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, there).await.expect("a checkpoint");
    }

    async fn stop(&mut self) {
        let (stop, task) = self.running.take().expect("it runs");
        stop.cancel();
        task.await.expect("no panic");
    }

    async fn append(&self, batch: MetricBatch) {
        self.bus.append(Topic::Metrics, 0, Arc::new(Batch::Metrics(batch))).await.expect("appended");
    }

    async fn append_value(&self, name: &str, value: f64) {
        self.append(MetricBatch::new(model::DEFAULT_TENANT, vec![series(name, value)])).await;
    }

    /// Waits until just these lines have arrived, in any order; forgets them.
    async fn check(&self, expected: &[&str]) {
        let mut expected: Vec<String> = expected.iter().map(|line| (*line).to_owned()).collect();
        expected.sort();
        let arrived = async {
            loop {
                let mut lines = self.receiver.lines.lock().clone();
                lines.sort();
                if lines == expected {
                    self.receiver.lines.lock().clear();
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        let arrived = tokio::time::timeout(PATIENCE, arrived).await;
        assert!(arrived.is_ok(), "expected {expected:#?}, got {:#?}", self.receiver.lines.lock());
    }
}

fn series(name: &str, value: f64) -> SeriesSamples {
    let labels = Labels::from_pairs([("__name__", name), ("job", "j")]);
    SeriesSamples::new(labels, vec![Sample { t_ms: 1000, value }])
}

fn line(name: &str, rest: &str) -> String {
    format!(r#"- {{__name__="{name}", cluster="c", job="j"}} {rest}"#)
}

/// Floats, an exemplar, a native histogram, a description, another tenant.
fn rich() -> [MetricBatch; 2] {
    let mut counter = series("a_total", 1.0);
    counter.exemplars.push(Exemplar { labels: Labels::default(), value: 0.5, t_ms: 7 });
    let histogram = Histogram {
        count: 3.0,
        sum: 4.5,
        positive: Buckets { spans: vec![BucketSpan { offset: -1, length: 2 }], counts: vec![2.0, 1.0] },
        ..Histogram::default()
    };
    let histogram = HistogramSample { t_ms: 1000, start_ms: 0, histogram: Arc::new(histogram) };
    let native = SeriesSamples { samples: Default::default(), histograms: vec![histogram], ..series("h", 0.0) };
    let mut first = MetricBatch::new(model::DEFAULT_TENANT, vec![counter, native]);
    let (name, help) = ("a_total".to_owned(), "Things".to_owned());
    first.metadata.push(MetricMetadata { name, kind: MetricKind::Counter, help, unit: String::new() });
    [first, MetricBatch::new("other", vec![series("b", 2.0)])]
}

#[tokio::test]
async fn all_that_was_asked_for_is_sent() {
    let other = line("b", "2@1000").replacen('-', "other", 1);
    let mut bench = Bench::new().await;
    bench.start("send_exemplars: true, send_native_histograms: true").await;
    for batch in rich() {
        bench.append(batch).await;
    }
    bench
        .check(&[
            &line("a_total", "1@1000 # 0.5@7"),
            &line("h", "3/4.5/[2, -1]@1000"),
            "- a_total is 1: Things",
            &other,
        ])
        .await;
    bench.stop().await;
    bench.start("protobuf_message: io.prometheus.write.v2.Request, send_native_histograms: true, name: two").await;
    for batch in rich() {
        bench.append(batch).await;
    }
    bench.check(&[&line("a_total", "1@1000 is 1: Things"), &line("h", "3/4.5/[2, -1]@1000"), &other]).await;
    bench.stop().await;
}

#[tokio::test]
async fn relabelling_renames_and_drops() {
    let mut bench = Bench::new().await;
    bench
        .start(
            "metadata_config: {send: false}, write_relabel_configs: [{source_labels: [__name__], regex: h, action: drop}, \
             {regex: job, action: labeldrop}]",
        )
        .await;
    for batch in rich() {
        bench.append(batch).await;
    }
    let sent = |tenant: &str, name: &str, rest: &str| format!(r#"{tenant} {{__name__="{name}", cluster="c"}} {rest}"#);
    bench.check(&[&sent("-", "a_total", "1@1000"), &sent("other", "b", "2@1000")]).await;
    bench.stop().await;
}

#[tokio::test]
async fn what_fails_is_tried_again_and_what_is_refused_is_not() {
    let mut bench = Bench::new().await;
    bench.start("").await;
    bench.receiver.answers.lock().extend([500, 429, 503]);
    bench.append_value("a", 1.0).await;
    bench.check(&[&line("a", "1@1000")]).await;
    bench.receiver.answers.lock().extend([400]);
    bench.append_value("b", 1.0).await;
    let refused = async {
        while *bench.receiver.refused.lock() < 4 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, refused).await.expect("refused");
    bench.append_value("c", 1.0).await;
    bench.check(&[&line("c", "1@1000")]).await;
    bench.stop().await;
}

#[tokio::test]
async fn a_restart_goes_on_at_the_checkpoint() {
    let mut bench = Bench::new().await;
    bench.append_value("before", 1.0).await;
    bench.start("").await;
    bench.append_value("a", 1.0).await;
    bench.check(&[&line("a", "1@1000")]).await;
    bench.stop().await;
    bench.append_value("b", 2.0).await;
    // The store has published all of it; the receiver has not had it.
    bench.bus.release(Topic::Metrics, 0, u64::MAX);
    bench.start("").await;
    bench.append_value("c", 3.0).await;
    bench.check(&[&line("b", "2@1000"), &line("c", "3@1000")]).await;
    // Under a changed configuration it goes on where it was.
    let writer = bench.writer.clone().expect("it runs");
    bench.set(&writer, "write_relabel_configs: [{target_label: job, replacement: k}]");
    bench.append_value("d", 4.0).await;
    let arrived = async {
        while bench.receiver.lines.lock().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, arrived).await.expect("it arrives");
    assert!(bench.receiver.lines.lock().iter().all(|line| line.contains(r#"__name__="d""#)));
    bench.stop().await;
    std::fs::remove_dir_all(bench.dir.path().join("remote")).expect("removed");
    let held = bench.bus.start_offset(Topic::Metrics, 0).await.expect("a start");
    assert!(held > 0, "what was sent is let go of");
}

/// The samples of one series arrive in their order, whatever the number of shards and of samples to a request.
#[tokio::test]
async fn a_series_stays_in_order() {
    let mut bench = Bench::new().await;
    bench.start("").await;
    const COUNT: i64 = 200;
    for t_ms in 0..COUNT {
        let of = |name: String| {
            SeriesSamples::new(Labels::from_pairs([("__name__", name)]), vec![Sample { t_ms, value: 0.0 }])
        };
        let series = (0..5).map(|i| of(format!("s{i}"))).collect();
        bench.append(MetricBatch::new(model::DEFAULT_TENANT, series)).await;
    }
    let arrived = async {
        while bench.receiver.lines.lock().len() < 5 * COUNT as usize {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, arrived).await.expect("all of it");
    let lines = bench.receiver.lines.lock().clone();
    for i in 0..5 {
        let times =
            lines.iter().filter(|line| line.contains(&format!("\"s{i}\""))).filter_map(|line| line.rsplit('@').next());
        let times: Vec<i64> = times.map(|t| t.parse().expect("a time")).collect();
        assert!(times.iter().copied().eq(0..COUNT), "s{i}: {times:?}");
    }
    bench.stop().await;
}
