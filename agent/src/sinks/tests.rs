//! Sinks against servers that answer as told.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use bus::{BusError, MockKafka, Topic};
use model::{Batch, FileId, Labels, LogBatch, Origin};
use parking_lot::Mutex;
use service::config::LogSink;

use super::producer;

/// What was asked, and what is to be answered.
#[derive(Clone, Default)]
struct Server {
    requests: Arc<Mutex<Vec<(String, String)>>>,
    answers: Arc<Mutex<VecDeque<(u16, &'static str)>>>,
}

async fn answer(State(server): State<Server>, uri: Uri, headers: HeaderMap, body: Bytes) -> (StatusCode, String) {
    let mut text = String::new();
    flate2::read::GzDecoder::new(body.as_ref()).read_to_string(&mut text).expect("gzip");
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("-").to_owned();
    let request = format!("{uri} {} {}", header("authorization"), header("x-scope-orgid"));
    server.requests.lock().push((request, text));
    let (status, body) = server.answers.lock().pop_front().unwrap_or((200, "{\"errors\":false}"));
    (StatusCode::from_u16(status).expect("a status"), body.to_owned())
}

impl Server {
    async fn start(answers: &[(u16, &'static str)]) -> (Server, String) {
        let server = Server { answers: Arc::new(Mutex::new(answers.iter().copied().collect())), ..Server::default() };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let router = Router::new().fallback(answer).with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (server, url)
    }
}

fn batch() -> Arc<Batch> {
    let mut batch = LogBatch::new("t", Origin::Tailed { file: FileId(7), start: 100, end: 200 });
    batch.streams.push(Labels::from_pairs([("app", "web"), ("filename", "/a.log")]));
    batch.metadata.push(Labels::from_pairs([("level", "error")]));
    batch.push(0, 1_795_156_000_000_000_001, "one \"x\"", 0, 10);
    batch.push(0, 1_795_156_000_000_000_002, "two", 1, 20);
    Arc::new(Batch::Logs(batch))
}

fn sink(json: serde_json::Value) -> LogSink {
    serde_json::from_value(json).expect("a good sink")
}

/// Sends one batch; `Ok`, or what the error says and whether it passes.
async fn send(config: serde_json::Value) -> Result<(), (String, bool)> {
    let producer = producer(&sink(config), None).expect("a good sink");
    let sent = producer.append(Topic::Logs, 0, batch()).await;
    sent.map(drop).map_err(|error| (error.to_string(), matches!(error, BusError::Unavailable(_))))
}

const FIRST: &str =
    r#"{"@timestamp":"2026-11-20T06:26:40.000000001Z","app":"web","filename":"/a.log","message":"one \"x\""}"#;
const SECOND: &str = r#"{"@timestamp":"2026-11-20T06:26:40.000000002Z","app":"web","filename":"/a.log","level":"error","message":"two"}"#;

#[tokio::test]
async fn loki_gets_streams_and_its_answers_are_understood() {
    let (server, url) = Server::start(&[(204, ""), (429, "slow down"), (400, "too old")]).await;
    let config = serde_json::json!({"type": "loki", "url": url, "bearer_token": "s"});
    assert_eq!(send(config.clone()).await, Ok(()));
    let (request, body) = server.requests.lock()[0].clone();
    assert_eq!(request, "/loki/api/v1/push Bearer s t");
    let expected = r#"{"streams":[{"stream":{"app":"web","filename":"/a.log"},"values":[["1795156000000000001","one \"x\"",{}],["1795156000000000002","two",{"level":"error"}]]}]}"#;
    assert_eq!(body, expected);
    for (part, passes) in [("slow down", true), ("too old", false)] {
        let (error, is_passing) = send(config.clone()).await.expect_err("refused");
        assert!(error.contains(part) && is_passing == passes, "{error}");
    }
    let gone = send(serde_json::json!({"type": "loki", "url": "http://127.0.0.1:1"})).await;
    assert!(gone.expect_err("nobody there").1);
}

#[tokio::test]
async fn elasticsearch_gets_documents_with_ids_of_their_own() {
    let known = r#"{"errors":true,"items":[{"create":{"status":409}},{"create":{"status":400,"error":{"type":"x"}}}]}"#;
    let busy = r#"{"errors":true,"items":[{"create":{"status":201}},{"create":{"status":429}}]}"#;
    let (server, url) = Server::start(&[(200, known), (200, busy)]).await;
    let config = serde_json::json!({"type": "elasticsearch", "url": url, "index": "logs-${app}", "username": "u"});
    assert_eq!(send(config.clone()).await, Ok(()), "known is taken, and what is refused for good must not block");
    let id = "00000000000000000000000000000007";
    let action = |end: u32| format!(r#"{{"create":{{"_id":"{id}-{end}","_index":"logs-web"}}}}"#);
    let expected = format!("{}\n{FIRST}\n{}\n{SECOND}\n", action(110), action(120));
    assert_eq!(server.requests.lock()[0], ("/_bulk Basic dTo= t".to_owned(), expected));
    assert!(send(config).await.expect_err("busy").1, "busy passes");
}

#[tokio::test]
async fn files_get_lines_and_the_blackhole_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("out.jsonl");
    let config = serde_json::json!({"type": "file", "path": path});
    assert_eq!((send(config.clone()).await, send(config).await), (Ok(()), Ok(())));
    let expected = format!("{FIRST}\n{SECOND}\n").repeat(2);
    assert_eq!(std::fs::read_to_string(&path).expect("written"), expected);
    let text = serde_json::json!({"type": "file", "path": dir.path().join("t"), "encoding": "text"});
    assert_eq!(send(text).await, Ok(()));
    assert_eq!(std::fs::read_to_string(dir.path().join("t")).expect("written"), "one \"x\"\ntwo\n");
    let nowhere = serde_json::json!({"type": "file", "path": dir.path().join("no/such")});
    assert!(send(nowhere).await.expect_err("no directory").1, "it may come");
    assert_eq!(send(serde_json::json!({"type": "blackhole"})).await, Ok(()));
    assert!(producer(&sink(serde_json::json!({"type": "bus"})), None).is_err());
}

#[tokio::test]
async fn kafka_gets_messages_by_template() {
    let kafka = MockKafka::start().expect("a mock cluster");
    let brokers = kafka.brokers();
    let config = serde_json::json!({"type": "kafka", "brokers": brokers, "topic": "logs-${app}", "key": "${app}"});
    assert_eq!(send(config).await, Ok(()));
    let read = kafka.read("logs-web", 2).await.expect("messages");
    let expected = [FIRST, SECOND].map(|payload| ("web".to_owned(), payload.to_owned()));
    assert_eq!(read, expected);
}
