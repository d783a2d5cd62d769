//! Against an API server of our own: lists in pages, watches that go on, versions that are too old.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{OriginalUri, State as Extracted};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bus::Producer;
use disk::{Disk, RealDisk};
use parking_lot::Mutex;
use serde_json::{Value, json};
use service::config::{KubernetesMetadata, LogSource};
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::lines::{KubernetesLines, LinesOptions};
use crate::intake::tests::Store;
use crate::logs::LogCounters;
use crate::logs::enrich::Place;
use crate::logs::pods::Pods;

/// Objects by path, and who watches.
pub struct Fake {
    pub objects: Mutex<BTreeMap<String, Vec<Value>>>,
    pub events: broadcast::Sender<(String, Value)>,
    pub asked: Mutex<Vec<String>>,
    /// Answers of watches in place of the real one, once each.
    pub refusals: Mutex<VecDeque<u16>>,
    pub version: AtomicUsize,
}

async fn answer(Extracted(fake): Extracted<Arc<Fake>>, OriginalUri(uri): OriginalUri) -> Response {
    let (path, query) = (uri.path().to_owned(), uri.query().unwrap_or("").to_owned());
    fake.asked.lock().push(uri.to_string());
    if !query.contains("watch=1") {
        let objects = fake.objects.lock().get(&path).cloned().unwrap_or_default();
        // Pages of one object.
        let at = query.split('&').find_map(|pair| pair.strip_prefix("continue=")).unwrap_or("");
        let at: usize = at.parse().unwrap_or(0);
        let next = if at + 1 < objects.len() { (at + 1).to_string() } else { String::new() };
        let version = fake.version.load(Ordering::Relaxed).to_string();
        let items: Vec<Value> = objects.into_iter().skip(at).take(1).collect();
        return axum::Json(json!({"metadata": {"resourceVersion": version, "continue": next}, "items": items}))
            .into_response();
    }
    if let Some(status) = fake.refusals.lock().pop_front() {
        return StatusCode::from_u16(status).expect("a status").into_response();
    }
    let events = fake.events.subscribe();
    let lines = futures::stream::unfold(events, move |mut events| {
        let path = path.clone();
        async move {
            loop {
                let (at, event) = events.recv().await.ok()?;
                if at == path {
                    return Some((Ok::<_, std::io::Error>(format!("{event}\n")), events));
                }
            }
        }
    });
    Body::from_stream(lines).into_response()
}

pub struct Server {
    pub fake: Arc<Fake>,
    pub url: String,
    stop: CancellationToken,
}

impl Server {
    pub async fn start(objects: &[(&str, Value)]) -> Server {
        let mut by_path = BTreeMap::<String, Vec<Value>>::new();
        for (path, object) in objects {
            by_path.entry((*path).to_owned()).or_default().push(object.clone());
        }
        let fake = Arc::new(Fake {
            objects: Mutex::new(by_path),
            events: broadcast::Sender::new(100),
            asked: Mutex::default(),
            refusals: Mutex::default(),
            version: AtomicUsize::new(7),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let stop = CancellationToken::new();
        let router = Router::new().fallback(answer).with_state(fake.clone());
        tokio::spawn(service::http::serve(listener, router, stop.clone()));
        Server { fake, url, stop }
    }

    /// Sends a change to a watch, once somebody watches.
    pub async fn change(&self, path: &str, event: Value) {
        let watched = format!("{path}?watch=1");
        let waiting = async {
            while !self.fake.asked.lock().iter().any(|asked| asked.starts_with(&watched))
                || self.fake.events.send((path.to_owned(), event.clone())).is_err()
            {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("a watch");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

const EVENTS: &str = "/api/v1/events";
const PODS: &str = "/api/v1/pods";

/// A source of lines at work, which is stopped and started again as an agent is.
struct Reading {
    dir: tempfile::TempDir,
    store: Store,
    source: &'static str,
    running: Option<(CancellationToken, JoinHandle<()>)>,
}

impl Reading {
    fn start(server: &Server, source: &'static str) -> Reading {
        let dir = tempfile::tempdir().expect("a directory");
        let mut reading = Reading { dir, store: Store::default(), source, running: None };
        reading.resume(server);
        reading
    }

    fn resume(&mut self, server: &Server) {
        let source: LogSource = serde_json::from_str(self.source).expect("a good source");
        let options = LinesOptions {
            config: metadata(server),
            node: "n1".into(),
            tenant: "t".into(),
            counters: LogCounters::default(),
        };
        let (producer, disk): (Arc<dyn Producer>, Arc<dyn Disk>) = (Arc::new(self.store.clone()), Arc::new(RealDisk));
        let lines = KubernetesLines::of_sources(&[source], &options, self.dir.path(), &producer, &disk);
        let lines = lines.expect("it opens").pop().expect("one");
        let stop = CancellationToken::new();
        self.running = Some((stop.clone(), tokio::spawn(lines.run(stop))));
    }

    /// Ends as `kill -9` does: nothing more is said or saved. Waits until the server knows.
    async fn kill(&mut self, server: &Server) {
        let (_, task) = self.running.take().expect("it runs");
        task.abort();
        let _ = task.await;
        wait("the watch to end", || server.fake.events.receiver_count() == 0).await;
        server.fake.asked.lock().clear();
    }

    /// Waits until exactly these lines have come, and the checkpoint says so.
    async fn check(&self, cursor: &str, expected: &[&str]) {
        let saved = format!("\"cursor\":{}", json!(cursor));
        let has_saved = || {
            let files = std::fs::read_dir(self.dir.path()).expect("readable").flatten();
            files.filter_map(|file| std::fs::read_to_string(file.path()).ok()).any(|text| text.contains(&saved))
        };
        let arrived = || self.store.lines.lock().clone();
        wait("lines and cursor", || has_saved() && arrived().len() >= expected.len()).await;
        assert_eq!(arrived(), expected);
    }
}

fn metadata(server: &Server) -> KubernetesMetadata {
    let text = json!({"api": {"api_server": server.url}, "labels": ["team"]});
    serde_json::from_value(text).expect("good")
}

async fn wait(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting)
        .await
        .unwrap_or_else(|_| panic!("waited in vain for {what}"));
}

fn event(version: u64, count: u64, message: &str) -> Value {
    json!({
        "metadata": {"name": "cart.1", "namespace": "shop", "uid": "e", "resourceVersion": version.to_string(),
            "creationTimestamp": "2026-11-30T10:00:00Z"},
        "involvedObject": {"kind": "Pod", "name": "cart-x", "namespace": "shop"}, "reason": "BackOff", "type": "Warning",
        "message": message, "count": count, "source": {"component": "kubelet", "host": "n1"},
        "eventTime": null, "series": null, "lastTimestamp": "2026-11-30T10:05:00Z",
    })
}

fn told(message: &str, count: &str) -> String {
    format!(
        "t {{namespace=\"shop\", source=\"kubernetes-events\"}} {{component=\"kubelet\", {count}host=\"n1\", kind=\"Pod\", \
         level=\"warn\", name=\"cart-x\", reason=\"BackOff\", type=\"Warning\"}} {message}"
    )
}

#[tokio::test]
async fn an_event_is_told_once_across_kill_9_and_a_version_that_is_too_old() {
    let server = Server::start(&[(EVENTS, event(6, 1, "two")), (EVENTS, event(5, 1, "one"))]).await;
    let mut reading = Reading::start(&server, r#"{"kubernetes": "events"}"#);
    // Pages are one event here: the order is that of the pages.
    let mut expected = vec![told("two", ""), told("one", "")];
    let as_text = |lines: &[String]| lines.iter().map(String::as_str).map(str::to_owned).collect::<Vec<_>>();
    let check = async |reading: &Reading, cursor: &str, expected: &[String]| {
        let expected = as_text(expected);
        reading.check(cursor, &expected.iter().map(String::as_str).collect::<Vec<_>>()).await;
    };
    check(&reading, "7", &expected).await;
    server.change(EVENTS, json!({"type": "MODIFIED", "object": event(8, 3, "one")})).await;
    expected.push(told("one", "count=\"3\", "));
    check(&reading, "8", &expected).await;
    server.change(EVENTS, json!({"type": "DELETED", "object": event(9, 3, "one")})).await;
    server.change(EVENTS, json!({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "10"}}})).await;
    check(&reading, "10", &expected).await;

    reading.kill(&server).await;
    reading.resume(&server);
    server.change(EVENTS, json!({"type": "ADDED", "object": event(11, 1, "three")})).await;
    expected.push(told("three", ""));
    check(&reading, "11", &expected).await;
    let asked = server.fake.asked.lock().clone();
    assert!(asked[0].contains("watch=1") && asked[0].ends_with("resourceVersion=10"), "{asked:?}");

    // While we were away the server has forgotten where we were: of what it lists, only what is newer is told.
    reading.kill(&server).await;
    server.fake.refusals.lock().push_back(410);
    server.fake.version.store(20, Ordering::Relaxed);
    server.fake.objects.lock().insert(EVENTS.to_owned(), vec![event(11, 1, "three"), event(15, 1, "four")]);
    reading.resume(&server);
    expected.push(told("four", ""));
    check(&reading, "20", &expected).await;

    // A cluster that was restored counts from before: nothing of it is known.
    reading.kill(&server).await;
    server.fake.refusals.lock().push_back(410);
    server.fake.version.store(3, Ordering::Relaxed);
    server.fake.objects.lock().insert(EVENTS.to_owned(), vec![event(2, 1, "five")]);
    reading.resume(&server);
    expected.push(told("five", ""));
    check(&reading, "3", &expected).await;
}

#[tokio::test]
async fn events_that_are_not_acknowledged_are_told_again() {
    let server = Server::start(&[(EVENTS, event(5, 1, "one"))]).await;
    let source = r#"{"kubernetes": "events", "relabel_configs": [{"source_labels": ["__meta_kubernetes_event_reason"],
        "regex": "Pulled", "action": "drop"}]}"#;
    let mut reading = Reading::start(&server, source);
    reading.check("7", &[&told("one", "")]).await;
    *reading.store.refuses.lock() = true;
    let mut pulled = event(8, 1, "pulled");
    pulled["reason"] = json!("Pulled");
    server.change(EVENTS, json!({"type": "ADDED", "object": pulled})).await;
    reading.check("8", &[&told("one", "")]).await;
    server.change(EVENTS, json!({"type": "ADDED", "object": event(9, 1, "two")})).await;
    wait("the store to be asked", || *reading.store.refused.lock() > 0).await;
    reading.kill(&server).await;
    *reading.store.refuses.lock() = false;
    reading.resume(&server);
    wait("the watch", || !server.fake.asked.lock().is_empty()).await;
    assert!(server.fake.asked.lock()[0].ends_with("resourceVersion=8"), "the cursor waits for the acknowledgement");
}

fn ended(container: &str, exit_code: i32, reason: &str, message: Value) -> Value {
    json!({"terminated": {"exitCode": exit_code, "reason": reason, "message": message, "containerID": container,
        "finishedAt": "2026-11-30T10:00:00Z"}})
}

fn pod(uid: &str, version: u64, last: Value, state: Value) -> Value {
    json!({
        "metadata": {"name": "cart-x", "namespace": "shop", "uid": uid, "resourceVersion": version.to_string(),
            "labels": {"team": "red"}},
        "spec": {"nodeName": "n1"},
        "status": {"containerStatuses": [{"name": "app", "lastState": last, "state": state}], "initContainerStatuses": null},
    })
}

#[tokio::test]
async fn a_termination_is_told_once_however_often_the_status_repeats_it() {
    let first = ended("c1", 1, "Error", json!("no database\n"));
    let server = Server::start(&[(PODS, pod("u", 5, first.clone(), json!({"running": {}})))]).await;
    let mut reading = Reading::start(&server, r#"{"kubernetes": "terminations", "labels": {"cluster": "blue"}}"#);
    let line = |id: &str, code: &str, level: &str, reason: &str, text: &str| {
        format!(
            "t {{cluster=\"blue\", container=\"app\", namespace=\"shop\", node=\"n1\", pod=\"cart-x\", \
             source=\"kubernetes-terminations\", team=\"red\"}} {{container_id=\"{id}\", exit_code=\"{code}\", \
             level=\"{level}\", reason=\"{reason}\"}} {text}"
        )
    };
    let one = line("c1", "1", "error", "Error", "no database");
    reading.check("u/app/c1", &[&one]).await;
    assert!(server.fake.asked.lock()[0].contains("fieldSelector=spec.nodeName%3Dn1"));
    // The same again, and the next without a message; then an agent that knows of both.
    let second = ended("c2", 137, "OOMKilled", json!(null));
    let change = |version, last: &Value, state: &Value| json!({"type": "MODIFIED", "object": pod("u", version, last.clone(), state.clone())});
    server.change(PODS, change(8, &first, &second)).await;
    let two = line("c2", "137", "error", "OOMKilled", "OOMKilled (exit code 137)");
    reading.check("u/app/c1\nu/app/c2", &[&one, &two]).await;
    reading.kill(&server).await;
    server.fake.objects.lock().insert(PODS.to_owned(), vec![pod("u", 8, first, second.clone())]);
    reading.resume(&server);
    let third = ended("c3", 0, "Completed", json!("done"));
    server.change(PODS, json!({"type": "DELETED", "object": pod("u", 9, second, third)})).await;
    // What is gone cannot be told again.
    let three = line("c3", "0", "info", "Completed", "done");
    reading.check("", &[&one, &two, &three]).await;
}

#[tokio::test]
async fn pods_are_known_by_watch_and_remembered_when_gone() {
    let server = Server::start(&[(PODS, pod("u", 5, json!({}), json!({})))]).await;
    let (pods, stop) = (Pods::default(), CancellationToken::new());
    let heard = Arc::new(AtomicUsize::new(0));
    let hears = heard.clone();
    pods.on_change(move || {
        hears.fetch_add(1, Ordering::Relaxed);
    });
    let task = tokio::spawn(pods.clone().run(metadata(&server), "n1".into(), stop.clone()));
    let team = |uid: &str| {
        let labels = pods.labels(&Place { namespace: "shop", pod: "cart-x", uid, container: "app" });
        labels.and_then(|labels| labels.get("team").map(str::to_owned))
    };
    wait("the list", || team("u").as_deref() == Some("red")).await;
    assert!(server.fake.asked.lock()[0].contains("fieldSelector=spec.nodeName%3Dn1"));
    let mut changed = pod("u", 8, json!({}), json!({}));
    changed["metadata"]["labels"]["team"] = json!("blue");
    server.change(PODS, json!({"type": "MODIFIED", "object": changed})).await;
    wait("the change", || team("u").as_deref() == Some("blue")).await;
    server.change(PODS, json!({"type": "DELETED", "object": changed})).await;
    // Another of the name takes its place; the bookmark says that all before it was heard.
    server.change(PODS, json!({"type": "ADDED", "object": pod("v", 9, json!({}), json!({}))})).await;
    wait("the other", || team("v").as_deref() == Some("red")).await;
    server.fake.objects.lock().clear();
    server.change(PODS, json!({"type": "ERROR", "object": {"code": 410, "message": "too old"}})).await;
    wait("another list", || server.fake.asked.lock().iter().filter(|asked| !asked.contains("watch=1")).count() > 1)
        .await;
    assert_eq!(team("v").as_deref(), Some("red"), "gone, and remembered");
    assert!(heard.load(Ordering::Relaxed) >= 3);
    stop.cancel();
    task.await.expect("it stops");
}
