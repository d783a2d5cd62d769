//! OpenTelemetry's metrics, sent to the real binary.

use serde_json::{Value, json};

use crate::end_to_end::harness::{Binnacle, temp_dir};

fn quiet(dir: &std::path::Path, more: &[&str]) -> Binnacle {
    let glob = format!("--agent.logs.path={}/logs/*.log", dir.display());
    Binnacle::start(dir, &[&[glob.as_str()], more].concat())
}

/// One metric of one resource must be answered so.
fn send(binnacle: &Binnacle, path: &str, metric: Value, expected: &Value) {
    let resource = json!({"attributes": [
        {"key": "service.name", "value": {"stringValue": "shop"}},
        {"key": "host.name", "value": {"stringValue": "h"}},
    ]});
    let body = json!({"resourceMetrics": [{"resource": resource, "scopeMetrics": [{"metrics": [metric]}]}]});
    let answer = binnacle.client().post(binnacle.url(path)).json(&body).send().expect("an answer");
    let (status, text) = (answer.status().as_u16(), answer.text().expect("a body"));
    assert_eq!((status, text.parse::<Value>().ok().as_ref()), (200, Some(expected)), "{text}");
}

fn sum(temporality: u8, points: &[(i64, i64, i64)]) -> Value {
    let point = |(start_ms, t_ms, value): &(i64, i64, i64)| json!({"startTimeUnixNano": format!("{start_ms}000000"), "timeUnixNano": format!("{t_ms}000000"), "asInt": value.to_string()});
    let points: Vec<Value> = points.iter().map(point).collect();
    json!({"name": "orders.placed", "description": "Orders", "sum":
        {"aggregationTemporality": temporality, "isMonotonic": true, "dataPoints": points}})
}

#[test]
fn metrics_arrive_with_their_resource_and_survive_kill_9() {
    let dir = temp_dir();
    let binnacle = quiet(dir.path(), &[]);
    let now_ms = model::now_ms();
    let good = sum(2, &[(now_ms - 60_000, now_ms - 1_000, 41), (now_ms - 60_000, now_ms, 42)]);
    send(&binnacle, "/otlp/v1/metrics", good, &json!({}));
    let old = sum(2, &[(0, 1, 1), (now_ms - 60_000, now_ms + 1, 43)]);
    let body = json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [old]}]}]});
    let answer = binnacle.client().post(binnacle.url("/api/v1/otlp/v1/metrics")).json(&body).send().expect("an answer");
    let answer: Value = answer.text().expect("a body").parse().expect("JSON");
    assert_eq!(answer["partialSuccess"]["rejectedDataPoints"], "1", "{answer}");
    assert!(
        answer["partialSuccess"]["errorMessage"].as_str().is_some_and(|text| text.contains("older than the retention"))
    );
    let garbage =
        binnacle.client().post(binnacle.url("/otlp/v1/metrics")).header("content-type", "application/x-protobuf");
    assert_eq!(garbage.body("garbage").send().expect("an answer").status().as_u16(), 400);
    binnacle.kill();
    let binnacle = quiet(dir.path(), &[]);
    binnacle.wait_ready();
    assert_eq!(binnacle.value("orders_placed_total{job='shop'}"), Some(42.0));
    assert_eq!(binnacle.value("orders_placed_total{job=''}"), Some(43.0));
    assert_eq!(
        binnacle
            .value("count(orders_placed_total{job='shop'} * on(job) group_left(host_name) target_info{host_name='h'})"),
        Some(1.0)
    );
    let metadata = binnacle.get("/api/v1/metadata", &[("metric", "orders_placed_total")]);
    assert_eq!(metadata["data"]["orders_placed_total"][0]["type"], "counter");
    binnacle.stop();
}

#[test]
fn deltas_add_up_and_the_configuration_is_honoured() {
    let dir = temp_dir();
    std::fs::write(dir.path().join("b.yml"), "otlp: {promote_resource_attributes: [host.name]}").expect("written");
    let config = format!("--config.file={}", dir.path().join("b.yml").display());
    let binnacle = quiet(dir.path(), &[&config]);
    let now_ms = model::now_ms();
    for (ago_ms, total) in [(3_000, 5.0), (2_000, 10.0), (1_000, 15.0)] {
        let point = (now_ms - ago_ms - 1_000, now_ms - ago_ms, 5);
        send(&binnacle, "/otlp/v1/metrics", sum(1, &[point]), &json!({}));
        assert_eq!(binnacle.value("orders_placed_total{host_name='h'}"), Some(total));
    }
    let scraped = binnacle.client().get(binnacle.url("/metrics")).send().and_then(|answer| answer.text());
    assert!(scraped.expect("metrics").contains("binnacle_tsdb_otlp_delta_series 1\n"));
    std::fs::write(dir.path().join("b.yml"), "otlp: {translation_strategy: NoTranslation}").expect("written");
    assert!(binnacle.client().post(binnacle.url("/-/reload")).send().expect("an answer").status().is_success());
    send(&binnacle, "/otlp/v1/metrics", sum(2, &[(now_ms, now_ms, 7)]), &json!({}));
    assert_eq!(binnacle.value("{'orders.placed',job='shop'}"), Some(7.0));
    binnacle.stop();
}

#[derive(Clone, PartialEq, prost::Message)]
struct Point {
    #[prost(fixed64, tag = "3")]
    t_ns: u64,
    #[prost(double, tag = "4")]
    value: f64,
}

/// A message as the only field of another.
fn within(tag: u8, message: &[u8]) -> Vec<u8> {
    let length = u8::try_from(message.len()).expect("a short message");
    assert!(length < 128, "a varint of one byte");
    [&[tag << 3 | 2, length], message].concat()
}

/// Calls methods of a service; answers the status in the headers and the body.
fn grpc(binnacle: &Binnacle, service: &str) -> impl Fn(&str, &[u8]) -> (Option<String>, Vec<u8>) + use<> {
    let line = binnacle.wait_for_line("listening for OTLP over gRPC");
    let (_, address) = line.rsplit_once("at=").expect("an address");
    let base = format!("http://{}/opentelemetry.proto.collector.{service}", address.trim());
    let client = reqwest::blocking::Client::builder().http2_prior_knowledge().build().expect("a client");
    move |method, message| {
        let framed = [&[0], &(message.len() as u32).to_be_bytes()[..], message].concat();
        let request = client.post(format!("{base}/{method}")).header("content-type", "application/grpc");
        let answer = request.header("te", "trailers").body(framed).send().expect("an answer");
        let status = answer.headers().get("grpc-status").and_then(|code| code.to_str().ok()).map(str::to_owned);
        (status, answer.bytes().expect("a body").to_vec())
    }
}

#[test]
fn metrics_arrive_over_grpc() {
    let dir = temp_dir();
    let binnacle = quiet(dir.path(), &["--otlp.grpc.listen-address=127.0.0.1:0"]);
    let call = grpc(&binnacle, "metrics.v1.MetricsService");
    let point = Point { t_ns: model::now_ns() as u64, value: 2.5 };
    let gauge = within(5, &within(1, &prost::Message::encode_to_vec(&point)));
    let metric = [within(1, b"over.grpc"), gauge].concat();
    let request = within(1, &within(2, &within(2, &metric)));
    assert_eq!(call("Export", &request), (None, vec![0; 5]), "an empty answer, its status behind it");
    assert_eq!(call("Export", b"\xff").0.as_deref(), Some("3"));
    assert_eq!(call("Import", b"").0.as_deref(), Some("12"));
    assert_eq!(binnacle.value("over_grpc"), Some(2.5));
    binnacle.stop();
}

#[derive(Clone, PartialEq, prost::Message)]
struct Record {
    #[prost(fixed64, tag = "1")]
    t_ns: u64,
    #[prost(bytes, tag = "5")]
    body: Vec<u8>,
}

#[test]
fn logs_arrive_over_grpc_at_the_same_address() {
    let dir = temp_dir();
    let config = "limits: {logs: {ingestion_rate: 1B, ingestion_burst: 100B}}";
    std::fs::write(dir.path().join("b.yml"), config).expect("written");
    let config = format!("--config.file={}", dir.path().join("b.yml").display());
    let binnacle = quiet(dir.path(), &["--otlp.grpc.listen-address=127.0.0.1:0", &config]);
    let call = grpc(&binnacle, "logs.v1.LogsService");
    let record = |t_ns: i64, text: &str| {
        let record = Record { t_ns: t_ns as u64, body: within(1, text.as_bytes()) };
        within(2, &prost::Message::encode_to_vec(&record))
    };
    let request = |records: &[Vec<u8>]| within(1, &within(2, &records.concat()));
    let now_ns = model::now_ns();
    assert_eq!(call("Export", &request(&[record(now_ns, "a fatal line")])), (None, vec![0; 5]));
    let (status, answer) = call("Export", &request(&[record(7, "old"), record(now_ns, "new")]));
    assert!(status.is_none() && String::from_utf8_lossy(&answer).contains("timestamp too old"), "{answer:?}");
    assert_eq!(call("Export", b"\xff").0.as_deref(), Some("3"));
    // What comes too fast may be sent again.
    assert_eq!(call("Export", &request(&[record(now_ns, &"x".repeat(90))])).0.as_deref(), Some("14"));
    let lines = binnacle.lines(r#"{service_name="unknown_service"} | detected_level="fatal""#, 0);
    assert_eq!(lines.into_iter().map(|(_, line)| line).collect::<Vec<_>>(), ["a fatal line"]);
    let lines = binnacle.lines(r#"{service_name="unknown_service"}"#, 0);
    assert_eq!(lines.len(), 2);
    binnacle.stop();
}
