//! From a metric and a log line to a webhook and a mailbox, and back to "resolved"; silences hold it back.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};

use crate::end_to_end::alert_receiver::Webhook;
use crate::end_to_end::harness::{Binnacle, temp_dir, wait_for};
use crate::end_to_end::remote_write::{Sender, series};
use crate::end_to_end::smtp::SmtpServer;

const RULES: &str = r#"
groups:
  - name: metrics
    interval: 1s
    rules:
      - alert: QueueFull
        expr: queue_depth > 100
        labels: {severity: page}
        annotations:
          summary: 'queue {{ $labels.s }} holds {{ $value | humanize }}'
  - name: logs
    type: logs
    interval: 1s
    rules:
      - alert: PanicInLog
        expr: sum by (filename) (count_over_time({filename=~".+/panic.log"} |= "panicked at" [5s])) > 0
        labels: {severity: ticket}
        annotations:
          summary: 'panic in {{ $labels.filename }}'
"#;

fn write_config(dir: &Path, webhook: &Webhook, smtp: &SmtpServer) {
    fs::create_dir_all(dir.join("logs")).expect("created");
    fs::write(dir.join("rules.yml"), RULES).expect("written");
    fs::write(dir.join("binnacle.yml"), "rule_files: ['rules.yml']\n").expect("written");
    let alertmanager = format!(
        r#"
global: {{smtp_smarthost: '127.0.0.1:{}', smtp_from: 'binnacle@example.org', smtp_require_tls: false}}
route: {{receiver: both, group_by: [alertname], group_wait: 200ms, group_interval: 500ms, repeat_interval: 1h}}
receivers:
  - name: both
    webhook_configs: [{{url: 'http://127.0.0.1:{}/hook'}}]
    email_configs: [{{to: 'oncall@example.org', send_resolved: true}}]
"#,
        smtp.port, webhook.port
    );
    fs::write(dir.join("alertmanager.yml"), alertmanager).expect("written");
}

fn send_depth(binnacle: &Binnacle, depth: f64) {
    let now_ms = model::now_ms();
    let both = (1..=2).map(|s| series("queue_depth", s, &[(now_ms, depth)]));
    Sender::start(binnacle.url("/api/v1/write"), Sender::body(both)).must_be_acknowledged();
}

fn start(dir: &Path) -> Binnacle {
    let flag = |name: &str, file: &str| format!("--{name}={}", dir.join(file).display());
    let arguments = [
        flag("config.file", "binnacle.yml"),
        flag("alertmanager.config.file", "alertmanager.yml"),
        flag("agent.logs.path", "logs/*.log"),
    ];
    Binnacle::start(dir, &arguments.each_ref().map(String::as_str))
}

fn statuses(notifications: &[Value]) -> Vec<&str> {
    notifications.iter().filter_map(|body| body["status"].as_str()).collect()
}

#[test]
fn a_metric_and_a_log_pattern_reach_webhook_and_mailbox_and_resolve() {
    let (dir, webhook, smtp) = (temp_dir(), Webhook::start(), SmtpServer::start());
    write_config(dir.path(), &webhook, &smtp);
    let binnacle = start(dir.path());

    send_depth(&binnacle, 250.0);
    let log = dir.path().join("logs/panic.log");
    let mut file = OpenOptions::new().create(true).append(true).open(&log).expect("the log opens");
    writeln!(file, "thread 'main' panicked at src/main.rs:1").expect("written");

    let firing = wait_for("the metric alert", || webhook.of("QueueFull").first().cloned());
    assert_eq!(firing["version"], "4");
    assert_eq!(firing["receiver"], "both");
    assert_eq!(firing["alerts"].as_array().map(Vec::len), Some(2), "grouped: {firing}");
    assert_eq!(firing["alerts"][0]["annotations"]["summary"], "queue 1 holds 250");
    let from_log = wait_for("the log alert", || webhook.of("PanicInLog").first().cloned());
    assert_eq!(from_log["commonLabels"]["filename"], log.display().to_string());

    wait_for("both mails", || (smtp.mails().len() >= 2).then_some(()));
    let mails = smtp.mails();
    let mail = mails.iter().find(|mail| mail.data.contains("QueueFull")).expect("a mail about the queue");
    assert_eq!(
        (mail.from.as_str(), mail.to.as_slice()),
        ("binnacle@example.org", &["oncall@example.org".to_owned()][..])
    );
    assert!(mail.data.contains("Subject: ") && mail.data.contains("multipart/alternative"), "{}", mail.data);

    send_depth(&binnacle, 1.0);
    let last = |alert: &str| webhook.of(alert).last().cloned().filter(|body| body["status"] == "resolved");
    wait_for("the metric alert to resolve", || last("QueueFull"));
    wait_for("the log alert to resolve", || last("PanicInLog"));
    assert_eq!(statuses(&webhook.of("QueueFull")), ["firing", "resolved"]);
    wait_for("the resolved mails", || (smtp.mails().len() >= 4).then_some(()));
    let selector = |kind: &str| format!("{{service_name=\"alertmanager\", kind=\"{kind}\"}} |= \"QueueFull\"");
    // To both integrations, firing and resolved.
    wait_for("history in the index", || (binnacle.lines(&selector("notified"), 0).len() == 4).then_some(()));
    let resolved = binnacle.lines(&selector("alert_resolved"), 0);
    assert_eq!(resolved.len(), 2, "{resolved:?}");
    let entry: Value = serde_json::from_str(&resolved[0].1).expect("JSON");
    assert_eq!(entry["labels"]["alertname"], "QueueFull");
    binnacle.stop();
}

#[test]
fn a_silence_holds_a_notification_back_and_survives_kill_9() {
    let (dir, webhook, smtp) = (temp_dir(), Webhook::start(), SmtpServer::start());
    write_config(dir.path(), &webhook, &smtp);
    let binnacle = start(dir.path());
    let silence = json!({
        "matchers": [{"name": "alertname", "value": "QueueFull", "isRegex": false, "isEqual": true}],
        "startsAt": model::format_rfc3339_ms(model::now_ms() - 1000),
        "endsAt": model::format_rfc3339_ms(model::now_ms() + 3_600_000),
        "createdBy": "test", "comment": "held back",
    });
    let posted = binnacle.client().post(binnacle.url("/api/v2/silences")).json(&silence).send().expect("an answer");
    assert_eq!(posted.status().as_u16(), 200);
    let id = posted.json::<Value>().expect("JSON")["silenceID"].as_str().expect("an id").to_owned();
    binnacle.kill();

    let binnacle = start(dir.path());
    send_depth(&binnacle, 250.0);
    let suppressed = wait_for("the alert to be suppressed", || {
        let alerts = binnacle.get("/api/v2/alerts", &[]);
        let alert = alerts.as_array()?.iter().find(|alert| alert["labels"]["alertname"] == "QueueFull")?.clone();
        (alert["status"]["state"] == "suppressed").then_some(alert)
    });
    assert_eq!(suppressed["status"]["silencedBy"], json!([id]));
    assert_eq!(webhook.of("QueueFull"), [] as [Value; 0]);

    let expired = binnacle.client().delete(binnacle.url(&format!("/api/v2/silence/{id}"))).send().expect("an answer");
    assert_eq!(expired.status().as_u16(), 200);
    wait_for("the notification, once nothing silences it", || webhook.of("QueueFull").first().cloned());
    binnacle.stop();
}
