//! The router over a real embedded bus, with a local web server for a receiver.

use std::collections::VecDeque;

use axum::body::Body;
use axum::http::Request;
use axum::{Router, routing};
use bus::{EmbeddedBus, EmbeddedOptions};
use disk::RealDisk;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;

/// A receiver that answers with the given statuses, then 200, and remembers what it was told.
async fn receiver(statuses: &[u16]) -> (u16, Arc<Mutex<Vec<Value>>>) {
    let told: Arc<Mutex<Vec<Value>>> = Arc::default();
    let answers = Arc::new(Mutex::new(statuses.iter().copied().collect::<VecDeque<u16>>()));
    let inbox = told.clone();
    let handler = move |axum::Json(body): axum::Json<Value>| async move {
        let status = answers.lock().pop_front().unwrap_or(200);
        if status == 200 {
            inbox.lock().push(body);
        }
        axum::http::StatusCode::from_u16(status).expect("a status")
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let router = Router::new().route("/", routing::post(handler));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (port, told)
}

struct Running {
    app: Arc<Alertmanager>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    bus: std::sync::Weak<EmbeddedBus>,
}

impl Running {
    async fn start(dir: &Path) -> Running {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let options = EmbeddedOptions { reserve_bytes: 0, ..EmbeddedOptions::default() };
        let bus = Arc::new(EmbeddedBus::open(disk.clone(), dir.join("bus"), options).expect("a bus"));
        let options = Options {
            config_path: Some(dir.join("am.yml")),
            ..Options::new(dir.join("state"), "http://binnacle".to_owned())
        };
        let held = Arc::downgrade(&bus);
        let app = Alertmanager::open(options, bus, disk, &Metrics::default()).await.expect("opens");
        let stop = CancellationToken::new();
        let task = tokio::spawn(app.clone().run(stop.clone()));
        Running { app, stop, task, bus: held }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.expect("no panic");
    }

    /// As `kill -9` leaves it: no snapshot is written.
    async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
        drop(self.app);
        // Tasks end when they are polled next, and hold the bus until then.
        until("the bus to be let go", || self.bus.strong_count() == 0).await;
    }

    async fn call(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        let request = request.body(Body::from(body.to_string())).expect("a request");
        let response = self.app.clone().router().oneshot(request).await.expect("an answer");
        let status = response.status().as_u16();
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("a body");
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }
}

async fn until(what: &str, mut probe: impl FnMut() -> bool) {
    let waiting = async {
        while !probe() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap_or_else(|_| panic!("waited for {what}"));
}

fn configure(dir: &Path, port: u16) {
    let text = format!(
        "route: {{receiver: hook, group_by: [alertname], group_wait: 10ms, group_interval: 50ms}}\n\
         receivers: [{{name: hook, webhook_configs: [{{url: 'http://127.0.0.1:{port}/'}}]}}]\n\
         inhibit_rules: [{{source_matchers: [severity=critical], target_matchers: [severity=warning]}}]\n"
    );
    std::fs::write(dir.join("am.yml"), text).expect("written");
}

#[tokio::test]
async fn alerts_are_grouped_told_once_and_resolved() {
    let dir = tempfile::tempdir().expect("a directory");
    let (port, told) = receiver(&[500]).await;
    configure(dir.path(), port);
    let running = Running::start(dir.path()).await;
    let alerts = json!([
        {"labels": {"alertname": "Down", "i": "1"}},
        {"labels": {"alertname": "Down", "i": "2"}, "annotations": {"s": "x"}},
        {"labels": {}},
    ]);
    let (status, message) = running.call("POST", "/api/v2/alerts", alerts).await;
    assert_eq!((status, message), (400, json!("at least one label pair required")), "the valid ones are taken");
    until("the notification, after one failure", || told.lock().len() == 1).await;
    assert_eq!(told.lock()[0]["alerts"].as_array().map(Vec::len), Some(2));

    let ended = json!([{"labels": {"alertname": "Down", "i": "1"}, "endsAt": "2020-01-01T00:00:00Z"},
                       {"labels": {"alertname": "Down", "i": "2"}, "endsAt": "2020-01-01T00:00:00Z"}]);
    assert_eq!(running.call("POST", "/api/v1/alerts", ended).await.0, 200);
    until("the resolved notification", || told.lock().iter().any(|body| body["status"] == "resolved")).await;
    assert_eq!(running.call("GET", "/api/v2/alerts", Value::Null).await.1, json!([]));
    running.stop().await;
}

#[tokio::test]
async fn nothing_is_lost_or_told_twice_over_kill_9() {
    let dir = tempfile::tempdir().expect("a directory");
    let (port, told) = receiver(&[]).await;
    configure(dir.path(), port);
    let running = Running::start(dir.path()).await;
    let alert = json!([{"labels": {"alertname": "Down"}}]);
    assert_eq!(running.call("POST", "/api/v2/alerts", alert).await.0, 200);
    until("the notification", || told.lock().len() == 1).await;
    until("its log entry", || running.app.core.lock().state.log.values().any(|told| told.last.is_some())).await;
    let silence = json!({"matchers": [{"name": "x", "value": "y", "isRegex": false}], "createdBy": "me", "comment": "c",
        "startsAt": "2026-01-01T00:00:00Z", "endsAt": "2126-01-01T00:00:00Z"});
    let (_, created) = running.call("POST", "/api/v2/silences", silence).await;
    running.kill().await;

    let running = Running::start(dir.path()).await;
    until("the replay", || running.app.ready().is_ok()).await;
    let id = created["silenceID"].as_str().expect("an id");
    assert_eq!(running.call("GET", &format!("/api/v2/silence/{id}"), Value::Null).await.1["status"]["state"], "active");
    assert_eq!(running.call("GET", "/api/v2/alerts", Value::Null).await.1.as_array().map(Vec::len), Some(1));
    let other = json!([{"labels": {"alertname": "Other"}}]);
    assert_eq!(running.call("POST", "/api/v2/alerts", other).await.0, 200);
    until("the other alert", || told.lock().len() >= 2).await;
    let names: Vec<Value> = told.lock().iter().map(|body| body["groupLabels"]["alertname"].clone()).collect();
    assert_eq!(names, [json!("Down"), json!("Other")], "Down is not told again");
    running.stop().await;
    let running = Running::start(dir.path()).await;
    assert_eq!(running.app.core.lock().state.alerts.len(), 2, "the snapshot holds them");
    running.stop().await;
}

#[tokio::test]
async fn silenced_and_inhibited_alerts_are_shown_as_such_and_not_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let (port, told) = receiver(&[]).await;
    configure(dir.path(), port);
    let running = Running::start(dir.path()).await;
    let silence = json!({"matchers": [{"name": "alertname", "value": "Quiet.*", "isRegex": true}], "createdBy": "me", "comment": "c",
        "startsAt": "2026-01-01T00:00:00Z", "endsAt": "2126-01-01T00:00:00Z"});
    let (_, created) = running.call("POST", "/api/v2/silences", silence).await;
    let id = created["silenceID"].as_str().expect("an id").to_owned();
    let alerts = json!([{"labels": {"alertname": "QuietOne"}}, {"labels": {"alertname": "W", "severity": "warning"}},
                        {"labels": {"alertname": "C", "severity": "critical"}}]);
    assert_eq!(running.call("POST", "/api/v2/alerts", alerts).await.0, 200);
    until("the one that is told", || told.lock().len() == 1).await;
    assert_eq!(told.lock()[0]["groupLabels"]["alertname"], "C");
    let (_, shown) = running.call("GET", "/api/v2/alerts?filter=alertname%3DQuietOne", Value::Null).await;
    assert_eq!(shown[0]["status"]["silencedBy"], json!([id]));
    let (_, shown) = running.call("GET", "/api/v2/alerts?active=false&silenced=false", Value::Null).await;
    assert_eq!(shown[0]["labels"]["alertname"], "W");
    assert_eq!(shown[0]["status"]["inhibitedBy"].as_array().map(Vec::len), Some(1));
    assert_eq!(running.call("DELETE", &format!("/api/v2/silence/{id}"), Value::Null).await.0, 200);
    until("the alert that was silenced", || {
        told.lock().iter().any(|body| body["groupLabels"]["alertname"] == "QuietOne")
    })
    .await;
    assert_eq!(running.call("DELETE", "/api/v2/silence/none", Value::Null).await.0, 404);
    running.stop().await;
}

#[tokio::test]
async fn a_failed_reload_keeps_the_old_configuration() {
    let dir = tempfile::tempdir().expect("a directory");
    configure(dir.path(), 1);
    let running = Running::start(dir.path()).await;
    std::fs::write(dir.path().join("am.yml"), "route: {}").expect("written");
    assert!(running.app.reload().expect_err("refused").contains("am.yml"));
    let (_, status) = running.call("GET", "/api/v2/status", Value::Null).await;
    assert!(status["config"]["original"].as_str().expect("text").contains("hook"));
    running.stop().await;
}

/// A wiped or exchanged bus used to throw the snapshot away: every silence was gone and every group was told again.
#[tokio::test]
async fn silences_survive_another_bus() {
    let dir = tempfile::tempdir().expect("a directory");
    configure(dir.path(), 1);
    let running = Running::start(dir.path()).await;
    let silence = json!({"matchers": [{"name": "x", "value": "y", "isRegex": false}], "createdBy": "me", "comment": "c",
        "startsAt": "2026-01-01T00:00:00Z", "endsAt": "2126-01-01T00:00:00Z"});
    assert_eq!(running.call("POST", "/api/v2/silences", silence).await.0, 200);
    running.stop().await;
    std::fs::remove_dir_all(dir.path().join("bus")).expect("wiped");
    let running = Running::start(dir.path()).await;
    assert_eq!(running.call("GET", "/api/v2/silences", Value::Null).await.1.as_array().map(Vec::len), Some(1));
    running.stop().await;
}

#[tokio::test]
async fn an_offset_outside_the_log_leaves_the_router_not_ready() {
    let dir = tempfile::tempdir().expect("a directory");
    configure(dir.path(), 1);
    let running = Running::start(dir.path()).await;
    running.stop().await;
    let path = dir.path().join("state/state.jsonl");
    let text = std::fs::read_to_string(&path).expect("a snapshot");
    std::fs::write(&path, text.replace("\"next_offset\":0", "\"next_offset\":7")).expect("written");
    let running = Running::start(dir.path()).await;
    assert!(running.app.ready().expect_err("not ready").contains("--accept-loss"));
    assert_eq!(running.call("POST", "/api/v2/alerts", json!([{"labels": {"a": "b"}}])).await.0, 503);
    running.stop().await;
}

#[tokio::test]
async fn two_routers_cannot_share_a_directory() {
    let dir = tempfile::tempdir().expect("a directory");
    configure(dir.path(), 1);
    let running = Running::start(dir.path()).await;
    let disk = RealDisk;
    assert!(matches!(lock(&disk, &dir.path().join("state")), Err(AlertmanagerError::Locked { .. })));
    running.stop().await;
}

fn fire(name: &str) -> Value {
    json!([{"labels": {"alertname": name}, "startsAt": "2026-01-01T00:00:00Z", "endsAt": "2126-01-01T00:00:00Z"}])
}

fn end(name: &str) -> Value {
    json!([{"labels": {"alertname": name}, "endsAt": model::format_rfc3339_ms(now_ms())}])
}

fn statuses(told: &Mutex<Vec<Value>>) -> Vec<String> {
    told.lock().iter().map(|body| body["status"].as_str().unwrap_or("?").to_owned()).collect()
}

/// Alertmanager drops it, and the incident stays open at the receiver for ever.
#[tokio::test]
async fn what_resolves_under_a_silence_is_told_when_the_silence_ends() {
    let dir = tempfile::tempdir().expect("a directory");
    let (port, told) = receiver(&[]).await;
    configure(dir.path(), port);
    let running = Running::start(dir.path()).await;
    assert_eq!(running.call("POST", "/api/v2/alerts", fire("Down")).await.0, 200);
    until("the notification", || told.lock().len() == 1).await;
    let silence = json!({"matchers": [{"name": "alertname", "value": "Down", "isRegex": false}], "createdBy": "me", "comment": "c",
        "endsAt": "2126-01-01T00:00:00Z"});
    let (_, created) = running.call("POST", "/api/v2/silences", silence).await;
    assert_eq!(running.call("POST", "/api/v2/alerts", end("Down")).await.0, 200);
    // A restart in between changes nothing.
    running.kill().await;
    let running = Running::start(dir.path()).await;
    until("the replay", || running.app.ready().is_ok()).await;
    assert_eq!(running.call("POST", "/api/v2/alerts", fire("Other")).await.0, 200);
    until("another alert, told in the meantime", || told.lock().len() == 2).await;
    assert_eq!(statuses(&told), ["firing", "firing"], "the silence is not broken");
    let id = created["silenceID"].as_str().expect("an id");
    assert_eq!(running.call("DELETE", &format!("/api/v2/silence/{id}"), Value::Null).await.0, 200);
    until("the resolved notification", || statuses(&told).len() == 3).await;
    assert_eq!(told.lock()[2]["status"], "resolved");
    assert_eq!(told.lock()[2]["groupLabels"]["alertname"], "Down");
    running.stop().await;
}

#[tokio::test]
async fn history_tells_what_happened_over_restarts() {
    let dir = tempfile::tempdir().expect("a directory");
    let (port, told) = receiver(&[]).await;
    configure(dir.path(), port);
    let running = Running::start(dir.path()).await;
    assert_eq!(running.call("POST", "/api/v2/alerts", fire("Down")).await.0, 200);
    until("the notification", || told.lock().len() == 1).await;
    let logged = || running.app.core.lock().state.log.values().any(|told| told.last.is_some());
    until("its record", logged).await;
    running.app.save().expect("saved");
    let fingerprint = model::Fingerprint::of(&Labels::from_pairs([("alertname", "Down")])).to_string();
    let ack = json!({"fingerprints": [fingerprint, "0000000000000000"], "owner": "ann", "note": "on it"});
    let (status, answer) = running.call("POST", "/api/v2/acks", ack).await;
    assert_eq!((status, &answer["unknown"]), (200, &json!(["0000000000000000"])));
    running.kill().await;

    let running = Running::start(dir.path()).await;
    until("the replay", || running.app.ready().is_ok()).await;
    let (_, alerts) = running.call("GET", "/api/v2/alerts", Value::Null).await;
    assert_eq!(alerts[0]["acknowledgement"]["owner"], "ann");
    assert_eq!(running.call("GET", "/api/v2/acks", Value::Null).await.1[0]["note"], "on it");
    assert_eq!(running.call("DELETE", &format!("/api/v2/acks/{fingerprint}"), Value::Null).await.0, 200);
    assert_eq!(running.call("DELETE", &format!("/api/v2/acks/{fingerprint}"), Value::Null).await.0, 404);
    let (_, page) = running.call("GET", "/api/v2/history?limit=2", Value::Null).await;
    let kinds = |page: &Value| -> Vec<String> {
        let entries = page["entries"].as_array().expect("entries").iter();
        entries.map(|entry| entry["kind"].as_str().expect("a kind").to_owned()).collect()
    };
    assert_eq!(kinds(&page), ["unacknowledged", "acknowledged"]);
    let next = page["next"].as_str().expect("more");
    let (_, rest) = running.call("GET", &format!("/api/v2/history?cursor={next}"), Value::Null).await;
    assert_eq!(kinds(&rest), ["notified", "alert_firing"]);
    assert_eq!(rest["next"], Value::Null);
    assert_eq!(rest["entries"][0]["reason"], "first notification");
    assert_eq!(rest["entries"][0]["firing"], json!([fingerprint]));
    let (_, of_team) = running.call("GET", "/api/v2/history?receiver=hook&kind=notified", Value::Null).await;
    assert_eq!(kinds(&of_team), ["notified"]);
    running.stop().await;
}

#[tokio::test]
async fn groups_come_in_pages() {
    let dir = tempfile::tempdir().expect("a directory");
    configure(dir.path(), 1);
    let running = Running::start(dir.path()).await;
    let alerts: Vec<Value> = (0..7)
        .map(|i| json!({"labels": {"alertname": format!("A{}", i % 5), "i": i.to_string()}, "endsAt": "2126-01-01T00:00:00Z"}))
        .collect();
    assert_eq!(running.call("POST", "/api/v2/alerts", alerts.into()).await.0, 200);
    let (mut names, mut path) = (Vec::new(), "/api/v2/alerts/groups?limit=2&alertLimit=1".to_owned());
    loop {
        let request = Request::builder().uri(&path).body(Body::empty()).expect("a request");
        let response = running.app.clone().router().oneshot(request).await.expect("an answer");
        let next = response.headers().get("x-next-cursor").map(|next| next.to_str().expect("text").to_owned());
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("a body");
        let page: Vec<Value> = serde_json::from_slice(&bytes).expect("JSON");
        assert!(page.len() <= 2 && page.iter().all(|group| group["alerts"].as_array().map(Vec::len) == Some(1)));
        names.extend(page.iter().map(|group| (group["labels"]["alertname"].clone(), group["alertCount"].clone())));
        let Some(next) = next else { break };
        path = format!("/api/v2/alerts/groups?limit=2&alertLimit=1&cursor={next}");
    }
    let expected = [("A0", json!(2)), ("A1", json!(2)), ("A2", Value::Null), ("A3", Value::Null), ("A4", Value::Null)];
    assert_eq!(names, expected.map(|(name, count)| (json!(name), count)));
    running.stop().await;
}

#[tokio::test]
async fn a_route_and_a_silence_can_be_tried() {
    let dir = tempfile::tempdir().expect("a directory");
    configure(dir.path(), 1);
    let running = Running::start(dir.path()).await;
    let alerts = json!([{"labels": {"alertname": "C", "severity": "critical"}, "endsAt": "2126-01-01T00:00:00Z"}]);
    assert_eq!(running.call("POST", "/api/v2/alerts", alerts).await.0, 200);
    let probe = json!({"labels": {"alertname": "W", "severity": "warning"}});
    let (_, found) = running.call("POST", "/api/v2/routes/test", probe).await;
    assert_eq!(found["routes"][0]["receiver"], "hook");
    assert_eq!(found["routes"][0]["groupKey"], "{}:{alertname=\"W\"}");
    assert_eq!(found["inhibitedBy"].as_array().map(Vec::len), Some(1));
    let (_, tree) = running.call("GET", "/api/v2/routes", Value::Null).await;
    assert_eq!((&tree["receiver"], &tree["groupBy"]), (&json!("hook"), &json!(["alertname"])));
    let matcher = |name: &str, value: &str| json!({"name": name, "value": value, "isRegex": false, "isEqual": true});
    let sets = json!({"matcherSets": [[matcher("alertname", "nothing")], [matcher("severity", "critical")]]});
    let (_, preview) = running.call("POST", "/api/v2/silences/preview", sets).await;
    assert_eq!((&preview["count"], &preview["alerts"][0]["labels"]["alertname"]), (&json!(1), &json!("C")));
    assert_eq!(running.call("POST", "/api/v2/silences/preview", json!({"matchers": []})).await.0, 400);
    running.stop().await;
}
