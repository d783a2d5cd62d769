//! A reload takes up new scrape jobs and rules without a restart.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;

use crate::end_to_end::harness::{Binnacle, temp_dir, wait_for};

/// A Prometheus target with one metric; answers until the test ends.
fn target() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 4096]);
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 12\r\nconnection: close\r\n\r\n";
            let _ = stream.write_all(format!("{head}reloaded 42\n").as_bytes());
        }
    });
    port
}

#[test]
fn a_reload_takes_up_scrape_jobs_and_rules() {
    let dir = temp_dir();
    let config = dir.path().join("binnacle.yml");
    fs::write(&config, "scrape_configs: []\n").expect("written");
    let glob = format!("--agent.logs.path={}/logs/*.log", dir.path().display());
    let binnacle = Binnacle::start(dir.path(), &[&format!("--config.file={}", config.display()), &glob]);
    let rules =
        "groups: [{name: g, interval: 1s, rules: [{record: 'job:reloaded:sum', expr: 'sum by (job) (reloaded)'}]}]";
    fs::write(dir.path().join("rules.yml"), rules).expect("written");
    let text = format!(
        "rule_files: [rules.yml]\nscrape_configs:\n- job_name: new\n  scrape_interval: 1s\n  scrape_timeout: 1s\n  \
         static_configs: [{{targets: ['127.0.0.1:{}']}}]\n",
        target()
    );
    fs::write(&config, text).expect("written");
    let answer = binnacle.client().post(binnacle.url("/-/reload")).send().expect("an answer");
    assert_eq!(answer.status().as_u16(), 200);
    wait_for("the recorded sum", || (binnacle.value("job:reloaded:sum{job=\"new\"}") == Some(42.0)).then_some(()));
    let targets = binnacle.get("/api/v1/targets", &[]);
    assert_eq!(targets["data"]["activeTargets"][0]["health"], "up");
    binnacle.stop();
}

/// An agent of a DaemonSet, which has a configuration: nobody else would scrape it.
#[test]
fn an_agent_scrapes_itself_until_the_configuration_does() {
    let dir = temp_dir();
    let config = dir.path().join("agent.yml");
    fs::write(&config, "logs: {sources: []}\n").expect("written");
    let store = Binnacle::start(&dir.path().join("store"), &["--agent.disabled"]);
    let push = format!("--agent.push-url={}", store.url(""));
    let flag = format!("--config.file={}", config.display());
    let agent = Binnacle::start(dir.path(), &["agent", &push, &flag, "--agent.node=node-7"]);
    let own = || {
        let targets = agent.get("/api/v1/targets", &[]);
        let of = |target: &serde_json::Value| {
            let text = |path: &str| target.pointer(path).and_then(|text| text.as_str()).unwrap_or("").to_owned();
            [text("/scrapePool"), text("/labels/instance"), text("/scrapeUrl")]
        };
        targets["data"]["activeTargets"].as_array().expect("targets").iter().map(of).collect::<Vec<_>>()
    };
    let ours = vec![["binnacle".to_owned(), "node-7".to_owned(), agent.url("/metrics")]];
    wait_for("the agent as its own target", || (own() == ours).then_some(()));
    let reload = |text: &str| {
        fs::write(&config, text).expect("written");
        let answer = agent.client().post(agent.url("/-/reload")).send().expect("an answer");
        assert_eq!(answer.status().as_u16(), 200);
    };
    reload("logs: {sources: []}\nglobal: {scrape_interval: 30s}\n");
    wait_for("the same after a reload", || (own() == ours).then_some(()));
    reload("scrape_configs: [{job_name: binnacle, static_configs: [{targets: ['h:1']}]}]\n");
    let theirs = vec![["binnacle", "h:1", "http://h:1/metrics"].map(str::to_owned)];
    wait_for("the job of the file", || (own() == theirs).then_some(()));
    agent.stop();
    store.stop();
}

#[test]
fn discovered_targets_come_and_go_without_a_reload() {
    let dir = temp_dir();
    let (config, found) = (dir.path().join("binnacle.yml"), dir.path().join("targets.json"));
    // Jobs of a file of their own; what discovery tells is relabelled.
    fs::write(&config, "scrape_config_files: ['jobs/*.yml']\nscrape_configs: []\n").expect("written");
    fs::create_dir(dir.path().join("jobs")).expect("created");
    let job = "scrape_configs:\n- job_name: found\n  scrape_interval: 1s\n  scrape_timeout: 1s\n  \
               file_sd_configs: [{files: [targets.json], refresh_interval: 1h}]\n  relabel_configs:\n  \
               - {source_labels: [__meta_filepath], regex: '.*/(.*)', target_label: from}\n  \
               - {source_labels: [env], regex: test, action: drop}\n";
    fs::write(dir.path().join("jobs/one.yml"), job).expect("written");
    let glob = format!("--agent.logs.path={}/logs/*.log", dir.path().display());
    let binnacle = Binnacle::start(dir.path(), &[&format!("--config.file={}", config.display()), &glob]);
    let groups = format!(
        r#"[{{"targets": ["127.0.0.1:{}"], "labels": {{"env": "p"}}}}, {{"targets": ["a:1"], "labels": {{"env": "test"}}}}]"#,
        target()
    );
    // Whole at once, as careful writers do.
    fs::write(dir.path().join("new"), groups).expect("written");
    fs::rename(dir.path().join("new"), &found).expect("renamed");
    wait_for("its sample", || {
        (binnacle.value("reloaded{from=\"targets.json\", env=\"p\"}") == Some(42.0)).then_some(())
    });
    let targets = binnacle.get("/api/v1/targets", &[]);
    assert_eq!(targets["data"]["droppedTargetCounts"]["found"], 1);
    assert_eq!(targets["data"]["droppedTargets"][0]["discoveredLabels"]["__address__"], "a:1");
    fs::remove_file(&found).expect("removed");
    wait_for("no target", || {
        let targets = binnacle.get("/api/v1/targets", &[("state", "active")]);
        targets["data"]["activeTargets"].as_array().is_some_and(Vec::is_empty).then_some(())
    });
    wait_for("the end of its series", || binnacle.query("reloaded").is_empty().then_some(()));
    binnacle.stop();
}
