//! The page in a real browser, over the real binary on this machine's own data.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::end_to_end::harness::{Binnacle, full, root, temp_dir};

const RULES: &str = r#"
groups:
- name: machine
  interval: 1s
  rules:
  - alert: LoadKnown
    expr: node_load1 >= 0
    labels: {severity: warning}
    annotations: {summary: "The load is {{ $value }}"}
- name: lines
  type: logs
  interval: 1s
  rules:
  - alert: ErrorLines
    expr: sum by (filename) (count_over_time({filename=~".+web.log"} |= "ERROR" [1h])) > 0
    labels: {severity: critical}
    annotations: {summary: "Errors in {{ $labels.filename }}"}
"#;
const ROUTES: &str =
    "{route: {receiver: everyone, group_by: [alertname], group_wait: 0s}, receivers: [{name: everyone}]}\n";

/// A configuration with alerts that fire, and a log to tail.
fn prepare(dir: &Path) -> Vec<String> {
    let logs = dir.join("logs");
    fs::create_dir_all(&logs).expect("created");
    let lines = "INFO the first line\nERROR the second line\n{\"level\":\"info\",\"path\":\"/items\",\"took\":12}\n";
    fs::write(logs.join("web.log"), lines).expect("written");
    let rules = dir.join("rules.yml");
    fs::write(&rules, RULES).expect("written");
    let config = dir.join("binnacle.yml");
    fs::write(&config, format!("rule_files: [{:?}]\n", rules.display().to_string())).expect("written");
    let routes = dir.join("alertmanager.yml");
    fs::write(&routes, ROUTES).expect("written");
    vec![
        format!("--agent.logs.path={}/*.log", logs.display()),
        format!("--config.file={}", config.display()),
        format!("--alertmanager.config.file={}", routes.display()),
    ]
}

/// Runs a script of a browser against a binary of its own; `front_end` is where its packages are and its build lies.
fn walk(script: &str, front_end: &str, built: &str) {
    let has_chromium = Command::new("chromium").arg("--version").output().is_ok_and(|output| output.status.success());
    if !has_chromium || !root().join(front_end).join(built).exists() {
        assert!(!full(), "make test needs chromium and the built {front_end}");
        return;
    }
    let dir = temp_dir();
    let arguments = prepare(dir.path());
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let binnacle = Binnacle::start(dir.path(), &arguments);
    let output = Command::new("node")
        .arg(root().join("tests/end_to_end").join(script))
        .env("BINNACLE_URL", binnacle.url("/"))
        .env("BINNACLE_LOG", dir.path().join("logs/web.log"))
        .env("BINNACLE_SHOTS", std::env::var_os("BINNACLE_TEST_SHOTS").unwrap_or_default())
        .current_dir(root().join(front_end))
        .output()
        .expect("node runs");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    binnacle.stop();
}

#[test]
fn the_page_shows_this_machine_its_lines_and_its_alerts() {
    walk("page.mjs", "dashboards/ui", "dist/index.html");
}

#[test]
fn the_grafana_plugin_asks_and_shows_metrics_lines_and_alerts() {
    walk("page_plugin.mjs", "dashboards/grafana-plugin", "dist/module.js");
}
