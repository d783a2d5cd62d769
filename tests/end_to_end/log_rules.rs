//! The rules on logs that `docs/alerting.md` shows fire for what they say, and for nothing else.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};

use crate::end_to_end::harness::{Binnacle, temp_dir, wait_for};

const MINUTE_MS: i64 = 60_000;

/// The block of rules on that page, evaluated every second.
fn recipes() -> String {
    let page = include_str!("../../docs/alerting.md");
    let blocks = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let block = blocks.into_iter().find(|block| block.contains("type: logs")).expect("the page has rules on logs");
    assert!(block.contains("interval: 30s"));
    block.replace("interval: 30s", "interval: 1s")
}

/// Lines of an app, some minutes ago; those of one time are a millisecond apart.
fn push(binnacle: &Binnacle, app: &str, ages_minutes: &[i64], count: i64, line: impl Fn(i64) -> String) {
    let now_ms = model::now_ms();
    let values: Vec<Value> = ages_minutes
        .iter()
        .flat_map(|age| (0..count).map(move |i| (now_ms - age * MINUTE_MS + i, i)))
        .map(|(t_ms, i)| json!([(t_ms * 1_000_000).to_string(), line(i)]))
        .collect();
    let body = json!({"streams": [{"stream": {"app": app}, "values": values}]});
    let answer = binnacle.client().post(binnacle.url("/loki/api/v1/push")).json(&body).send().expect("an answer");
    assert!(answer.status().is_success(), "{}", answer.text().unwrap_or_default());
}

/// The annotations of alerts that fire, by name and the one label that they have.
fn firing(binnacle: &Binnacle) -> BTreeMap<String, Value> {
    let answer = binnacle.get("/api/v1/alerts", &[]);
    let alerts = answer["data"]["alerts"].as_array().cloned().unwrap_or_default();
    let of = |alert: &Value| {
        let labels = &alert["labels"];
        let of = labels["app"].as_str().or(labels["user"].as_str()).unwrap_or("");
        (format!("{} {of}", labels["alertname"].as_str().unwrap_or("")), alert["annotations"].clone())
    };
    alerts.iter().map(of).collect()
}

#[test]
fn the_recipes_fire_for_what_they_say() {
    let dir = temp_dir();
    fs::write(dir.path().join("rules.yml"), recipes()).expect("written");
    fs::write(dir.path().join("binnacle.yml"), "rule_files: [rules.yml]\n").expect("written");
    let config = format!("--config.file={}", dir.path().join("binnacle.yml").display());
    let binnacle = Binnacle::start(dir.path(), &["--agent.disabled", &config]);

    push(&binnacle, "web", &[1], 6, |i| format!("login failed {i}"));
    push(&binnacle, "shop", &[1], 2, |i| format!("login failed {i} at the shop"));
    push(&binnacle, "web", &[62], 3, |i| format!("error {i}"));
    push(&binnacle, "web", &[2], 12, |i| format!("error {i}"));
    push(&binnacle, "shop", &[62], 5, |i| format!("error {i}"));
    push(&binnacle, "shop", &[2], 12, |i| format!("error {i}"));
    push(&binnacle, "batch", &[30], 2, |i| format!("done {i}"));
    push(&binnacle, "auth", &[60, 1], 1, |_| "user=ann".to_owned());
    push(&binnacle, "auth", &[2], 1, |_| "user=eve".to_owned());

    let expected = ["ErrorSpike web", "ManyFailedLogins web", "NewUser eve", "Silent batch"];
    let alerts = wait_for("the four alerts", || {
        let alerts = firing(&binnacle);
        alerts.keys().eq(expected).then_some(alerts)
    });
    let lines = |name: &str, annotation: &str| alerts[name][annotation].as_str().unwrap_or("").to_owned();
    let logins = lines("ManyFailedLogins web", "lines");
    let logins: Vec<&str> = logins.lines().filter_map(|line| line.split_once(' ')).map(|(_, line)| line).collect();
    assert_eq!(logins, ["login failed 5", "login failed 4", "login failed 3"], "the newest of this app, at most three");
    let errors = lines("ErrorSpike web", "lines");
    let newest: Vec<String> = (2..12).rev().map(|i| format!("error {i}")).collect();
    assert_eq!(errors.lines().collect::<Vec<_>>(), newest, "ten of the latest window, each once");
    assert_eq!(lines("Silent batch", "summary"), "the last line was: done 1");
    assert_eq!(lines("NewUser eve", "summary"), "eve was never seen before: user=eve");
    binnacle.stop();
}
