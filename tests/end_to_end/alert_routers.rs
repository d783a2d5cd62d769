//! Two routers on one Kafka: one tells, the other takes over when it is killed; and alerts that others put on the topic.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use bus::{KafkaLine, KafkaLines, KafkaOptions};
use serde_json::{Value, json};

use crate::end_to_end::alert_receiver::{Told, Webhook};
use crate::end_to_end::harness::{Binnacle, Dice, full, temp_dir, wait_for};
use crate::end_to_end::kafka::{Broker, own_prefix};

/// From the kill to the notification that the dead router owed.
const TAKEOVER: Duration = Duration::from_secs(15);
const BATCH: usize = 12;

/// What both routers are started with, in directories of their own.
struct Stage {
    dir: tempfile::TempDir,
    webhook: Webhook,
}

impl Stage {
    fn new(brokers: &str, prefix: &str) -> Stage {
        let (dir, webhook) = (temp_dir(), Webhook::start());
        let config = format!(
            "route: {{receiver: hook, group_by: [incident], group_wait: 20ms, group_interval: 200ms, repeat_interval: 1h}}\n\
             receivers: [{{name: hook, webhook_configs: [{{url: 'http://127.0.0.1:{}/'}}]}}]\n",
            webhook.port
        );
        std::fs::write(dir.path().join("alertmanager.yml"), config).expect("written");
        let bus = format!("bus: {{kafka: {{brokers: '{brokers}', topic_prefix: '{prefix}', partitions: 3}}}}\n");
        std::fs::write(dir.path().join("bus.yml"), bus).expect("written");
        Stage { dir, webhook }
    }

    fn start(&self, name: &str) -> Binnacle {
        let flag = |name: &str, file: &str| format!("--{name}={}", self.dir.path().join(file).display());
        let flags =
            ["alertmanager".to_owned(), flag("config.file", "alertmanager.yml"), flag("bus.config.file", "bus.yml")];
        let mut binnacle = Binnacle::start(&self.dir.path().join(name), &flags.each_ref().map(String::as_str));
        binnacle.expect_warning("another router is gone");
        binnacle.expect_warning("librdkafka");
        binnacle.wait_ready();
        binnacle
    }

    fn has(&self, incident: usize, status: &str) -> bool {
        self.webhook.told().iter().any(|told| incident_of(told) == incident && told.body["status"] == status)
    }

    fn await_told(&self, incidents: impl IntoIterator<Item = usize>, status: &str) {
        for incident in incidents {
            wait_for(&format!("incident {incident} {status}"), || self.has(incident, status).then_some(()));
        }
    }
}

fn incident_of(told: &Told) -> usize {
    told.body["groupLabels"]["incident"].as_str().and_then(|text| text.parse().ok()).expect("a group of an incident")
}

fn post(binnacle: &Binnacle, incidents: impl IntoIterator<Item = usize>, ends_at_ms: Option<i64>) {
    let alert = |incident: usize| {
        let mut alert = json!({"labels": {"alertname": "Incident", "incident": incident.to_string()}});
        if let Some(ends_at_ms) = ends_at_ms {
            alert["endsAt"] = model::format_rfc3339_ms(ends_at_ms).into();
        }
        alert
    };
    let alerts: Vec<Value> = incidents.into_iter().map(alert).collect();
    let sent = binnacle.client().post(binnacle.url("/api/v2/alerts")).json(&alerts).send();
    assert_eq!(sent.expect("an answer").status().as_u16(), 200);
}

/// Waits until a router knows of so many, itself included.
fn await_routers(binnacle: &Binnacle, count: usize) {
    wait_for("the routers to know each other", || {
        let status = binnacle.get("/api/v2/status", &[]);
        (status["cluster"]["peers"].as_array().map(Vec::len) == Some(count)).then_some(())
    });
}

#[test]
fn a_router_takes_over_from_one_that_is_killed() {
    let broker = Broker::find();
    let (stage, mut dice) = (Stage::new(&broker.address(), &own_prefix()), Dice::new("alert_routers"));
    let mut routers = [Some(stage.start("a")), Some(stage.start("b"))];
    routers.iter().flatten().for_each(|router| await_routers(router, 2));
    let (mut next, mut kills) = (0, Vec::new());
    for round in 0..if full() { 8 } else { 2 } {
        let (old, new) = (next..next + BATCH, next + BATCH..next + 2 * BATCH);
        next += 2 * BATCH;
        let victim = routers[round % 2].take().expect("running");
        let other = routers[(round + 1) % 2].as_ref().expect("running");
        post(other, old.clone(), None);
        stage.await_told(old.clone(), "firing");
        // Half of them end and others begin; somewhere in the flushes of these the router is killed.
        post(&victim, old.clone().step_by(2), Some(model::now_ms()));
        post(&victim, new.clone(), None);
        std::thread::park_timeout(Duration::from_micros(dice.below(60_000)));
        let killed = Instant::now();
        victim.kill();
        stage.await_told(new.clone(), "firing");
        stage.await_told(old.clone().step_by(2), "resolved");
        assert!(killed.elapsed() < TAKEOVER, "round {round}: taken over after {:?}", killed.elapsed());
        kills.push(killed);
        post(other, old.chain(new), Some(model::now_ms()));
        stage.await_told(next - 2 * BATCH..next, "resolved");
        routers[round % 2] = Some(stage.start(["a", "b"][round % 2]));
        routers.iter().flatten().for_each(|router| await_routers(router, 2));
    }
    routers.into_iter().flatten().for_each(Binnacle::stop);
    check(&stage.webhook.told(), next, &kills);
}

/// Every incident is told once as firing and once as resolved; what comes again comes once, under the same key, after a kill.
fn check(told: &[Told], incidents: usize, kills: &[Instant]) {
    let mut by_incident: BTreeMap<usize, Vec<&Told>> = BTreeMap::new();
    told.iter().for_each(|one| by_incident.entry(incident_of(one)).or_default().push(one));
    assert_eq!(by_incident.len(), incidents);
    let mut repeats = 0;
    for (incident, told) in by_incident {
        let mut by_key: HashMap<&str, Vec<&Told>> = HashMap::new();
        told.iter().for_each(|one| by_key.entry(&one.idempotency_key).or_default().push(one));
        assert_eq!(by_key.len(), 2, "incident {incident}: {told:?}");
        for same in by_key.values().filter(|same| same.len() > 1) {
            assert_eq!(same.len(), 2, "incident {incident} was told more than twice");
            let was_killed = kills.iter().any(|killed| *killed <= same[1].at && same[1].at < *killed + TAKEOVER);
            assert!(was_killed, "incident {incident} was told twice without a kill");
            repeats += 1;
        }
        let statuses: BTreeSet<&str> = told.iter().filter_map(|one| one.body["status"].as_str()).collect();
        assert_eq!(statuses, BTreeSet::from(["firing", "resolved"]), "incident {incident}");
    }
    eprintln!("alert_routers: {incidents} incidents, {} kills, {repeats} repeats under a known key", kills.len());
}

fn metric(binnacle: &Binnacle, name: &str) -> f64 {
    let text =
        binnacle.client().get(binnacle.url("/metrics")).send().and_then(|answer| answer.text()).expect("metrics");
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    value.unwrap_or_else(|| panic!("no {name} in {text}"))
}

async fn send(lines: &KafkaLines, topic: &str, messages: &[(&str, String)]) {
    let t_ms = model::now_ms();
    let messages = messages.iter().map(|(key, payload)| KafkaLine { topic, key, payload: payload.clone(), t_ms });
    lines.send(messages).await.expect("durable");
}

#[test]
fn alerts_come_from_the_topic_as_plain_json() {
    let broker = Broker::find();
    let prefix = own_prefix();
    let stage = Stage::new(&broker.address(), &prefix);
    let binnacle = stage.start("a");
    let lines =
        KafkaLines::new(&KafkaOptions { brokers: broker.address(), ..KafkaOptions::default() }).expect("a producer");
    let alert = |incident: usize| json!({"labels": {"alertname": "Incident", "incident": incident.to_string()}});
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let topic = format!("{prefix}alerts");
    // Keys spread messages over all partitions.
    let messages = [
        ("a", alert(1).to_string()),
        ("b", json!([alert(2), alert(3)]).to_string()),
        ("c", "not an alert".to_owned()),
        ("d", json!([alert(4), {"labels": {}}]).to_string()),
        ("", alert(5).to_string()),
    ];
    runtime.block_on(send(&lines, &topic, &messages));
    stage.await_told(1..=5, "firing");
    wait_for("the bad ones to be put aside", || {
        (metric(&binnacle, "binnacle_alertmanager_dead_letters_total") == 2.0).then_some(())
    });
    assert_eq!(metric(&binnacle, "binnacle_alertmanager_plain_messages_total"), 5.0);

    binnacle.kill();
    let binnacle = stage.start("a");
    let ended = |incident: usize| {
        let mut alert = alert(incident);
        alert["endsAt"] = model::format_rfc3339_ms(model::now_ms()).into();
        alert
    };
    runtime.block_on(send(&lines, &topic, &[("a", json!([ended(1), ended(2), ended(3)]).to_string())]));
    stage.await_told(1..=3, "resolved");
    let alerts = binnacle.get("/api/v2/alerts", &[]);
    assert_eq!(alerts.as_array().map(Vec::len), Some(2), "what came before the kill is known, what ended is not shown");
    assert!(!stage.has(4, "resolved") && !stage.has(5, "resolved"));
    let keys: BTreeSet<String> = stage.webhook.told().into_iter().map(|told| told.idempotency_key).collect();
    assert_eq!(keys.len(), 8, "five first notifications and three resolved ones");
    binnacle.stop();
}
