//! The API over an embedded bus in memory: what is pushed can be queried.

use std::sync::Arc;
use std::time::Duration;

use ::service::config::{ByTenant, Config, LogLimits, parse};
use ::service::metrics::Metrics;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use bus::{Bus, EmbeddedBus, EmbeddedOptions, Topic};
use disk::FakeDisk;
use futures::StreamExt;
use model::{Batch, FileId, Labels, LogBatch, Origin};
use prost::Message;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::proto::{Entry, Pair, PushRequest, Stream, Timestamp};
use crate::{Indexer, IndexerOptions};

mod arrivals;
mod limits;
mod reads;
mod scripts;

struct Server {
    indexer: Arc<Indexer>,
    bus: Arc<dyn Bus>,
    disk: Arc<FakeDisk>,
    metrics: Metrics,
    stop: CancellationToken,
}

/// What is found of lines is a matter of tests of its own.
const PLAIN: &str = "limits: {logs: {discover_service_name: [], discover_log_levels: false}}";

fn limits(config: &str) -> ByTenant<LogLimits> {
    parse::<Config>("test.yml".as_ref(), config).expect("a configuration").log_limits()
}

fn server(disk: FakeDisk) -> Server {
    server_with(disk, PLAIN)
}

fn server_with(disk: FakeDisk, config: &str) -> Server {
    let disk = Arc::new(disk);
    let bus = EmbeddedBus::open(disk.clone(), "/bus", EmbeddedOptions::default()).expect("a bus");
    let bus: Arc<dyn Bus> = Arc::new(bus);
    let limits = limits(config);
    let options = IndexerOptions { strong_reads_always: true, limits, ..IndexerOptions::new("/logs") };
    let metrics = Metrics::default();
    let indexer = Indexer::open(options, bus.clone(), disk.clone(), &metrics).expect("opens");
    let stop = CancellationToken::new();
    tokio::spawn(indexer.clone().run(stop.clone()));
    Server { indexer, bus, disk, metrics, stop }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Server {
    async fn send(&self, request: Request<Body>) -> (StatusCode, String) {
        let response = self.indexer.clone().router().oneshot(request).await.expect("answers");
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.expect("a body");
        (status, String::from_utf8(body.to_vec()).expect("text"))
    }

    async fn get(&self, path: &str, params: &[(&str, &str)]) -> (StatusCode, String) {
        self.ask("GET", path, params).await
    }

    async fn ask(&self, method: &str, path: &str, params: &[(&str, &str)]) -> (StatusCode, String) {
        let escape = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
        let params: Vec<String> = params.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect();
        let uri = format!("/loki/api/v1/{path}?{}", params.join("&"));
        self.send(Request::builder().method(method).uri(uri).body(Body::empty()).expect("a request")).await
    }

    async fn data(&self, path: &str, params: &[(&str, &str)]) -> Value {
        let (status, text) = self.get(path, params).await;
        assert_eq!(status, StatusCode::OK, "{text}");
        serde_json::from_str::<Value>(&text).expect("JSON")["data"].clone()
    }

    async fn push(&self, kind: &str, encoding: &str, body: Vec<u8>) -> (StatusCode, String) {
        let request =
            Request::post("/loki/api/v1/push").header("content-type", kind).header("content-encoding", encoding);
        self.send(request.body(Body::from(body)).expect("a request")).await
    }

    async fn push_json(&self, body: Value) -> (StatusCode, String) {
        self.push("application/json", "", body.to_string().into_bytes()).await
    }
}

fn ago_ns(seconds: i64) -> String {
    (model::now_ns() - seconds * 1_000_000_000).to_string()
}

#[tokio::test]
async fn json_in_and_queries_out() {
    let server = server(FakeDisk::new());
    let (first, second) = (ago_ns(20), ago_ns(10));
    let streams = json!({"streams": [
        {"stream": {"app": "a"}, "values": [[first, "level=info one"], [second, "level=warn two", {"trace": "t1"}]]},
        {"stream": {"app": "b"}, "values": [[second, "three"]]},
    ]});
    assert_eq!(server.push_json(streams.clone()).await, (StatusCode::NO_CONTENT, String::new()));
    // Sent again: the same lines.
    assert_eq!(server.push_json(streams).await.0, StatusCode::NO_CONTENT);

    let data = server.data("query_range", &[("query", r#"{app="a"}"#), ("direction", "forward")]).await;
    assert_eq!(data["resultType"], "streams");
    let expected = json!([
        {"stream": {"app": "a"}, "values": [[first, "level=info one"]]},
        {"stream": {"app": "a", "trace": "t1"}, "values": [[second, "level=warn two"]]},
    ]);
    assert_eq!(data["result"], expected);
    let newest = server.data("query_range", &[("query", r#"{app=~".+"}"#), ("limit", "1")]).await;
    assert_eq!(newest["result"][0]["values"].as_array().map(Vec::len), Some(1));
    let count = server.data("query", &[("query", r#"sum by (app) (count_over_time({app=~".+"}[1h]))"#)]).await;
    let counts: Vec<_> = count["result"].as_array().expect("rows").iter().map(|row| row["value"][1].clone()).collect();
    assert_eq!((count["resultType"].clone(), counts), (json!("vector"), vec![json!("2"), json!("1")]));
    let matrix = server.data("query_range", &[("query", r#"sum(rate({app="a"}[1m]))"#), ("step", "5")]).await;
    assert_eq!(matrix["resultType"], "matrix");
    assert_eq!(server.data("query", &[("query", "vector(1)+vector(1)")]).await["result"][0]["value"][1], "2");

    assert_eq!(server.data("labels", &[]).await, json!(["app"]));
    assert_eq!(server.data("label/app/values", &[]).await, json!(["a", "b"]));
    assert_eq!(server.data("label/app/values", &[("query", r#"{app="b"}"#)]).await, json!(["b"]));
    assert_eq!(server.data("series", &[("match[]", r#"{app="a"}"#)]).await, json!([{"app": "a"}]));
    let (_, stats) = server.get("index/stats", &[("query", r#"{app="a"}"#)]).await;
    let stats: Value = serde_json::from_str(&stats).expect("JSON");
    assert_eq!((stats["streams"].clone(), stats["entries"].clone()), (json!(1), json!(2)));
    assert!(server.get("status/buildinfo", &[]).await.1.contains("version"));
}

#[tokio::test]
async fn protobuf_in() {
    let server = server(FakeDisk::new());
    let now_ns = model::now_ns();
    let timestamp = Timestamp { seconds: now_ns / 1_000_000_000, nanos: (now_ns % 1_000_000_000) as i32 };
    let metadata = vec![Pair { name: "pod".into(), value: "p".into() }];
    let entry = Entry { timestamp: Some(timestamp), line: "hello".into(), structured_metadata: metadata };
    let stream = Stream { labels: r#"{job="x", ns="y"}"#.into(), entries: vec![entry], hash: 0 };
    let body = PushRequest { streams: vec![stream] }.encode_to_vec();
    let body = snap::raw::Encoder::new().compress_vec(&body).expect("compressed");
    let (status, text) = server.push("application/x-protobuf", "snappy", body[..body.len() / 2].to_vec()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(text.contains("snappy"), "{text}");
    assert_eq!(server.push("application/x-protobuf", "", body).await, (StatusCode::NO_CONTENT, String::new()));
    let data = server.data("query_range", &[("query", r#"{job="x"} | pod="p""#), ("end", &ago_ns(-60))]).await;
    let expected = json!([{"stream": {"job": "x", "ns": "y", "pod": "p"}, "values": [[now_ns.to_string(), "hello"]]}]);
    assert_eq!(data["result"], expected);
}

#[tokio::test]
async fn what_is_partly_bad_is_400_and_the_rest_is_taken() {
    let server = server(FakeDisk::new());
    let (status, text) = server
        .push_json(json!({"streams": [
            {"stream": {"app": "a"}, "values": [[ago_ns(1), "good"], ["x", "bad time"], [ago_ns(-200_000), "future"], ["1", "old"]]},
            {"stream": {}, "values": [[ago_ns(1), "no labels"]]},
            {"stream": {"a b": "c"}, "values": [[ago_ns(1), "bad name"]]},
        ]}))
        .await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let parts = [
        "total ignored: 5 out of 6",
        "without a timestamp",
        "entry for stream '{app=\"a\"}' has timestamp too new: ",
        "timestamp too old: 1970-01-01T00:00:00.000Z, oldest acceptable timestamp is: ",
        "at least one label",
        "bad label name",
    ];
    for part in parts {
        assert!(text.contains(part), "{part}: {text}");
    }
    let data = server.data("query", &[("query", r#"sum(count_over_time({app="a"}[1h]))"#)]).await;
    assert_eq!(data["result"][0]["value"][1], "1");
    assert_eq!(server.push_json(json!({"streams": 1})).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(server.push("application/json", "gzip", vec![1, 2, 3]).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn errors_are_plain_text() {
    let server = server(FakeDisk::new());
    let check = async |path: &str, params: &[(&str, &str)], expected: &str| {
        let (status, text) = server.get(path, params).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{text}");
        assert!(text.contains(expected), "{text}");
    };
    check("query_range", &[("query", r#"{app="a"} |~ "(""#)], "parse error : stage '|~ \"(\"' : error parsing regexp")
        .await;
    check("query", &[("query", r#"{app="a"}"#)], "not supported as an instant query").await;
    check("query", &[], "missing parameter 'query'").await;
    check("query_range", &[("query", r#"{a="b"}"#), ("limit", "0")], "limit").await;
    check("query_range", &[("query", r#"{a="b"}"#), ("direction", "up")], "direction").await;
    check("query_range", &[("query", r#"rate({a="b"}[1m])"#), ("step", "0.001")], "maximum resolution").await;
    check("export", &[("query", r#"{a="b"}"#), ("cursor", "x")], "cursor").await;
    check("index/volume", &[("query", r#"{a="b"}"#), ("aggregateBy", "x")], "aggregateBy").await;
    check("format_query", &[("query", "rate(")], "parse error").await;
}

#[tokio::test]
async fn a_restart_replays_what_was_not_published() {
    let (published, unpublished) = (ago_ns(20), ago_ns(10));
    let disk = {
        let server = server(FakeDisk::new());
        let push = |t: &str, text: &str| json!({"streams": [{"stream": {"app": "a"}, "values": [[t, text]]}]});
        assert_eq!(server.push_json(push(&published, "one")).await.0, StatusCode::NO_CONTENT);
        server.indexer.flush().await.expect("flushed");
        assert_eq!(server.indexer.store().stats().segments, 1);
        assert_eq!(server.push_json(push(&unpublished, "two")).await.0, StatusCode::NO_CONTENT);
        // What a power cut leaves of the disk at this moment.
        server.disk.crash(7)
    };
    let server = server(disk);
    server.indexer.wait_applied().await.expect("applied");
    server.indexer.ready().expect("ready");
    let data = server.data("query_range", &[("query", r#"{app="a"}"#)]).await;
    assert_eq!(data["result"][0]["values"], json!([[unpublished, "two"], [published, "one"]]));
}

#[tokio::test]
async fn records_that_the_bus_lost_make_the_indexer_unready() {
    let disk = FakeDisk::new();
    {
        let server = server(disk.clone());
        let body = json!({"streams": [{"stream": {"app": "a"}, "values": [[ago_ns(1), "one"]]}]});
        assert_eq!(server.push_json(body).await.0, StatusCode::NO_CONTENT);
        server.indexer.flush().await.expect("flushed");
    }
    // The manifest asks for offset 1 of a log that is empty again and has the same name.
    let disk: Arc<dyn disk::Disk> = Arc::new(disk.crash(1));
    let dir = std::path::Path::new("/logs/manifest");
    let text = String::from_utf8(disk.read(dir).expect("read")).expect("text");
    let body = text.lines().next().expect("a line").replace("\"next_offset\":{\"0\":1}", "\"next_offset\":{\"0\":99}");
    let text = format!("{body}\n{:08x}\n", crc32fast::hash(body.as_bytes()));
    disk::write_atomically(disk.as_ref(), dir, text.as_bytes()).expect("written");
    let bus: Arc<dyn Bus> =
        Arc::new(EmbeddedBus::open(disk.clone(), "/bus", EmbeddedOptions::default()).expect("a bus"));
    let indexer = Indexer::open(IndexerOptions::new("/logs"), bus, disk, &Metrics::default()).expect("opens");
    let stop = CancellationToken::new();
    let running = tokio::spawn(indexer.clone().run(stop.clone()));
    let error = indexer.wait_applied().await.expect_err("not readable");
    assert!(error.contains("outside the log"), "{error}");
    assert!(indexer.ready().expect_err("not ready").contains("outside the log"));
    stop.cancel();
    running.await.expect("ended");
}

#[tokio::test]
async fn a_tail_sends_what_was_and_what_comes() {
    let server = server(FakeDisk::new());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(::service::http::serve(listener, server.indexer.clone().router(), server.stop.clone()));
    let push = |text: &str| json!({"streams": [{"stream": {"app": "a"}, "values": [[ago_ns(5), text]]}]});
    assert_eq!(server.push_json(push("before x")).await.0, StatusCode::NO_CONTENT);
    server.indexer.wait_applied().await.expect("applied");
    let query = "%7Bapp%3D%22a%22%7D%20%7C%3D%20%22x%22";
    let url = format!("ws://{address}/loki/api/v1/tail?query={query}&start={}", ago_ns(60));
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.expect("connected");
    let mut next = async || {
        let message = tokio::time::timeout(Duration::from_secs(10), socket.next()).await.expect("in time");
        serde_json::from_str::<Value>(message.expect("open").expect("a message").to_text().expect("text"))
            .expect("JSON")
    };
    assert_eq!(next().await["streams"][0]["values"][0][1], "before x");
    assert_eq!(server.push_json(push("unwanted")).await.0, StatusCode::NO_CONTENT);
    assert_eq!(server.push_json(push("after x")).await.0, StatusCode::NO_CONTENT);
    let live = next().await;
    assert_eq!(
        (live["streams"][0]["values"][0][1].clone(), live["streams"][0]["stream"].clone()),
        (json!("after x"), json!({"app": "a"}))
    );
}

#[tokio::test]
async fn tailed_lines_come_by_the_bus_alone() {
    let server = server(FakeDisk::new());
    let mut batch = LogBatch::new("default", Origin::Tailed { file: FileId(1), start: 0, end: 10 });
    batch.streams.push(Labels::from_pairs([("filename", "/x")]));
    batch.push(0, model::now_ns(), "tailed", 0, 7);
    for _ in 0..2 {
        let record = Arc::new(Batch::Logs(batch.clone()));
        server.bus.append(Topic::Logs, 0, record).await.expect("appended");
    }
    let data = server.data("query", &[("query", r#"count_over_time({filename="/x"}[1h])"#)]).await;
    assert_eq!(data["result"][0]["value"][1], "1");
    assert_eq!(server.indexer.store().stats().lines_repeated, 1);
}
