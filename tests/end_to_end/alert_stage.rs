//! Plays a scenario on a router: alerts and silences at given times, and what its receivers hear, when.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::end_to_end::alert_receiver::{Told, Webhook};
use crate::end_to_end::harness::{Binnacle, wait_for};
use crate::end_to_end::peer::Peer;

/// What happens at a time, in seconds after the start.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    /// Alerts as `name label=value !annotation=value`, separated by commas; start and end in seconds, if they are sent.
    Alerts(&'static str, Option<f64>, Option<f64>),
    /// Silences what matches one matcher `name=value`, until a second.
    Silence(&'static str, f64),
    /// Ends every silence.
    Unsilence,
    Reload,
}

pub struct Scenario {
    pub name: &'static str,
    /// `HOOK` stands for the receiver's address.
    pub config: &'static str,
    pub steps: &'static [(f64, Step)],
    /// When each notification comes, and what it says: path, status, alerts.
    pub expected: &'static [(f64, &'static str)],
    pub seconds: f64,
}

/// A notification as it was heard.
#[derive(Debug, Clone)]
pub struct Heard {
    pub at: f64,
    /// As scenarios expect it.
    pub short: String,
    /// All that routers must agree on.
    pub body: Value,
}

/// The router that plays.
pub enum Router {
    Ours,
    /// An Alertmanager.
    Peer(PathBuf),
}

enum Running {
    Ours(Binnacle),
    Peer(Peer, reqwest::blocking::Client),
}

impl Running {
    fn start(router: &Router, dir: &Path) -> Running {
        let config = format!("--config.file={}", dir.join("alertmanager.yml").display());
        let Router::Peer(binary) = router else {
            // By Alertmanager's name, as its unit files and charts call it.
            let link = dir.join("alertmanager");
            std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_binnacle"), &link).expect("a link");
            let mut command = Command::new(link);
            command.args([&config, "--cluster.listen-address=", "--cluster.settle-timeout=0s"]);
            let mut binnacle = Binnacle::spawn(dir, command);
            binnacle.expect_warning("notification failed");
            binnacle.wait_ready();
            return Running::Ours(binnacle);
        };
        let peer = Peer::start(|address| {
            let mut command = Command::new(binary);
            command.args([&config, &format!("--storage.path={}", dir.join("peer").display())]);
            command.args([&format!("--web.listen-address={address}"), "--cluster.listen-address="]);
            command
        });
        Running::Peer(peer, reqwest::blocking::Client::new())
    }

    fn url(&self, path: &str) -> String {
        match self {
            Running::Ours(binnacle) => binnacle.url(path),
            Running::Peer(peer, _) => format!("{}{path}", peer.url),
        }
    }

    fn client(&self) -> &reqwest::blocking::Client {
        match self {
            Running::Ours(binnacle) => binnacle.client(),
            Running::Peer(_, client) => client,
        }
    }

    fn ask(&self, path: &str) -> reqwest::Result<reqwest::blocking::Response> {
        self.client().get(self.url(path)).send()
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let answer = self.client().post(self.url(path)).json(body).send().expect("an answer");
        let (status, text) = (answer.status(), answer.text().unwrap_or_default());
        assert!(status.is_success(), "POST {path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }
}

/// When a play began.
struct Base {
    instant: Instant,
    ms: i64,
}

impl Base {
    fn rfc3339(&self, seconds: f64) -> String {
        model::format_rfc3339_ms(self.ms + (seconds * 1000.0) as i64)
    }

    fn wait_until(&self, seconds: f64) {
        let target = self.instant + Duration::from_secs_f64(seconds);
        // The scenario is a timetable: what is waited for here is the time itself.
        while let Some(left) = target.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            std::thread::park_timeout(left);
        }
    }

    /// Half seconds since the base, for times that routers choose themselves.
    fn rounded(&self, text: &str) -> Value {
        match model::parse_rfc3339_ns(text) {
            Some(ns) => (((ns / model::NS_PER_MS - self.ms) as f64 / 500.0).round() / 2.0).into(),
            None => text.into(),
        }
    }
}

/// Routers that are still to come up. Scenarios begin when all are there: forty programs that start keep a machine busy, and
/// what was to be told in the first second was late.
pub struct Starting(AtomicUsize);

impl Starting {
    pub fn new(routers: usize) -> Starting {
        Starting(AtomicUsize::new(routers))
    }

    fn is_up(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
        wait_for("all routers", || (self.0.load(Ordering::Relaxed) == 0).then_some(()));
    }
}

pub fn play(scenario: &Scenario, router: &Router, dir: &Path, starting: &Starting) -> Vec<Heard> {
    let webhook = Webhook::start();
    let hook = format!("http://127.0.0.1:{}", webhook.port);
    std::fs::write(dir.join("alertmanager.yml"), scenario.config.replace("HOOK", &hook)).expect("written");
    let running = Running::start(router, dir);
    starting.is_up();
    let base = Base { instant: Instant::now(), ms: model::now_ms() };
    for (at, step) in scenario.steps {
        base.wait_until(*at);
        act(&running, step, &base);
    }
    base.wait_until(scenario.seconds);
    if let Running::Ours(binnacle) = &running {
        assert!(!binnacle.text().contains("panicked"), "{}", binnacle.text());
    }
    let mut heard: Vec<Heard> = webhook.told().into_iter().map(|told| hear(told, &base)).collect();
    // Those of one moment come in any order.
    heard.sort_by(|a, b| {
        ((a.at * 2.0).round(), &a.short).partial_cmp(&((b.at * 2.0).round(), &b.short)).expect("finite")
    });
    heard
}

fn act(running: &Running, step: &Step, base: &Base) {
    match step {
        Step::Alerts(text, starts, ends) => {
            let alerts = text.split(", ").map(|text| alert(text, *starts, *ends, base)).collect();
            running.post("/api/v2/alerts", &alerts);
        }
        Step::Silence(matcher, until) => {
            let (name, value) = matcher.split_once('=').expect("name=value");
            let silence = json!({
                "matchers": [{"name": name, "value": value, "isRegex": false, "isEqual": true}],
                "startsAt": base.rfc3339(0.0), "endsAt": base.rfc3339(*until), "createdBy": "me", "comment": "c",
            });
            running.post("/api/v2/silences", &silence);
        }
        Step::Unsilence => {
            let all: Value = running.ask("/api/v2/silences").and_then(|answer| answer.json()).expect("silences");
            for silence in all.as_array().into_iter().flatten() {
                let id = silence["id"].as_str().expect("an id");
                running.client().delete(running.url(&format!("/api/v2/silence/{id}"))).send().expect("an answer");
            }
        }
        Step::Reload => {
            let answer = running.client().post(running.url("/-/reload")).send().expect("an answer");
            assert!(answer.status().is_success());
        }
    }
}

fn alert(text: &str, starts: Option<f64>, ends: Option<f64>, base: &Base) -> Value {
    let (mut labels, mut annotations) = (json!({}), json!({}));
    for (i, word) in text.split(' ').enumerate() {
        match (word.split_once('='), word.strip_prefix('!')) {
            (Some((_, value)), Some(rest)) => annotations[rest.split('=').next().unwrap_or("")] = value.into(),
            (Some((name, value)), None) => labels[name] = value.into(),
            (None, _) if i == 0 => labels["alertname"] = word.into(),
            (None, _) => panic!("{text}: {word}"),
        }
    }
    let mut alert = json!({"labels": labels, "annotations": annotations, "generatorURL": "http://rules/"});
    for (name, seconds) in [("startsAt", starts), ("endsAt", ends)] {
        if let Some(seconds) = seconds {
            alert[name] = base.rfc3339(seconds).into();
        }
    }
    alert
}

fn hear(told: Told, base: &Base) -> Heard {
    let mut body = told.body;
    let mut names = Vec::new();
    for alert in body["alerts"].as_array_mut().into_iter().flatten() {
        for name in ["startsAt", "endsAt"] {
            alert[name] = base.rounded(alert[name].as_str().unwrap_or(""));
        }
        let labels = alert["labels"].as_object().into_iter().flatten();
        let words: Vec<&str> = labels.filter_map(|(_, value)| value.as_str()).collect();
        let resolved = if alert["status"] == "resolved" { "-" } else { "" };
        names.push(format!("{resolved}{}", words.join("/")));
    }
    // What 0.25 does not know, and what is each router's own.
    for name in ["notification_reason", "routeLabels", "externalURL"] {
        body.as_object_mut().expect("an object").remove(name);
    }
    let short = format!("{} {}: {}", told.path, body["status"].as_str().unwrap_or("?"), names.join(" "));
    Heard { at: (told.at - base.instant).as_secs_f64(), short, body }
}
