//! `kill -9` at random moments while alerts fire and resolve: every first and every resolved notification arrives, and
//! what comes twice comes with the same idempotency key, a kill in between.

use std::collections::HashMap;
use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};

use crate::end_to_end::alert_receiver::{Told, Webhook};
use crate::end_to_end::harness::{Binnacle, Dice, full, temp_dir, wait_for};

fn start(dir: &Path) -> Binnacle {
    let config = format!("--config.file={}", dir.join("alertmanager.yml").display());
    let mut binnacle = Binnacle::start(dir, &["alertmanager", &config]);
    // The receiver is asked again when it answered a dead process.
    binnacle.expect_warning("notification failed");
    binnacle
}

fn post(binnacle: &Binnacle, incident: usize, ends_at_ms: Option<i64>) {
    let mut alert = json!({"labels": {"alertname": "Incident", "incident": incident.to_string()}});
    if let Some(ends_at_ms) = ends_at_ms {
        alert["endsAt"] = model::format_rfc3339_ms(ends_at_ms).into();
    }
    let sent = binnacle.client().post(binnacle.url("/api/v2/alerts")).json(&json!([alert])).send();
    assert_eq!(sent.expect("an answer").status().as_u16(), 200);
}

fn by_incident(told: Vec<Told>) -> HashMap<String, Vec<Told>> {
    let mut incidents: HashMap<String, Vec<Told>> = HashMap::new();
    for one in told {
        let incident = one.body["groupLabels"]["incident"].as_str().expect("a group of an incident").to_owned();
        incidents.entry(incident).or_default().push(one);
    }
    incidents
}

fn has(webhook: &Webhook, incident: usize, status: &str) -> bool {
    let incident_label = incident.to_string();
    let is_it = |body: &Value| body["groupLabels"]["incident"] == incident_label.as_str() && body["status"] == status;
    webhook.told().iter().any(|told| is_it(&told.body))
}

#[test]
fn first_and_resolved_notifications_survive_kill_9() {
    let kills_wanted = if full() { 50 } else { 4 };
    let (dir, webhook, mut dice) = (temp_dir(), Webhook::start(), Dice::new("alert_kill"));
    let config = format!(
        "route: {{receiver: hook, group_by: [incident], group_wait: 20ms, group_interval: 100ms, repeat_interval: 1h}}\n\
         receivers: [{{name: hook, webhook_configs: [{{url: 'http://127.0.0.1:{}/'}}]}}]\n",
        webhook.port
    );
    std::fs::write(dir.path().join("alertmanager.yml"), config).expect("written");
    let (mut binnacle, mut kills) = (start(dir.path()), Vec::new());
    let (mut next, mut open): (usize, Vec<usize>) = (0, Vec::new());
    while kills.len() < kills_wanted {
        match dice.below(10) {
            0..=4 => {
                post(&binnacle, next, None);
                open.push(next);
                next += 1;
            }
            5..=7 if !open.is_empty() => {
                let incident = open.swap_remove(dice.below(open.len() as u64) as usize);
                wait_for("the first notification", || has(&webhook, incident, "firing").then_some(()));
                post(&binnacle, incident, Some(model::now_ms()));
            }
            8 => {
                // Somewhere within a flush of what was posted last.
                std::thread::park_timeout(std::time::Duration::from_micros(dice.below(40_000)));
                let killed = Instant::now();
                binnacle.kill();
                binnacle = start(dir.path());
                kills.push((killed, Instant::now()));
            }
            _ => {}
        }
    }
    for incident in open {
        wait_for("the first notification", || has(&webhook, incident, "firing").then_some(()));
        post(&binnacle, incident, Some(model::now_ms()));
    }
    for incident in 0..next {
        wait_for("the resolved notification", || has(&webhook, incident, "resolved").then_some(()));
    }
    binnacle.stop();
    check(webhook.told(), next, &kills);
}

/// `kills`: from when to when each took, the start after it included.
fn check(told: Vec<Told>, incidents: usize, kills: &[(Instant, Instant)]) {
    let by_incident = by_incident(told);
    assert_eq!(by_incident.len(), incidents);
    let mut repeats = 0;
    for (incident, told) in by_incident {
        let mut known: Vec<&Told> = Vec::new();
        for one in &told {
            let Some(first) = known.iter().find(|first| first.idempotency_key == one.idempotency_key) else {
                known.push(one);
                continue;
            };
            repeats += 1;
            assert_eq!(first.body["status"], one.body["status"], "incident {incident}");
            let was_killed = kills.iter().any(|(from, to)| *from <= one.at && *to >= first.at);
            assert!(was_killed, "incident {incident} was told twice though nothing was killed in between");
        }
        let statuses: Vec<&Value> = known.iter().map(|one| &one.body["status"]).collect();
        assert_eq!(statuses, ["firing", "resolved"], "incident {incident}");
        assert!(known.iter().all(|one| !one.idempotency_key.is_empty()), "incident {incident}");
    }
    eprintln!("alert_kill: {incidents} incidents, {} kills, {repeats} repeats under a known key", kills.len());
}
