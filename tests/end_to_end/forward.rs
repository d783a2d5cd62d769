//! `remote_write`: samples go on to another server, and none is lost when either is killed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::end_to_end::harness::{Binnacle, full, temp_dir, wait_for};
use crate::end_to_end::peer::Peer;
use crate::end_to_end::remote_write::{Sender, series};

const ROUNDS: u64 = 10;
const SERIES: u64 = 20;

/// The configuration of a server whose samples go on to `url`.
fn configure(dir: &Path, url: &str, extra: &str) -> PathBuf {
    let config = dir.join("binnacle.yml");
    let text = format!(
        "global: {{external_labels: {{from: here}}}}\nremote_write:\n- name: far\n  url: '{url}'\n  {extra}\n  queue_config: \
         {{batch_send_deadline: 100ms, max_backoff: 200ms}}\n  write_relabel_configs: [{{source_labels: [__name__], \
         regex: x, action: keep}}]\n"
    );
    fs::write(&config, text).expect("written");
    config
}

fn forwarding(dir: &Path, url: &str, extra: &str) -> Binnacle {
    let config = configure(dir, url, extra);
    let mut binnacle = Binnacle::start(dir, &[&format!("--config.file={}", config.display()), "--agent.disabled"]);
    binnacle.expect_warning("remote_write: not taken yet");
    binnacle
}

/// Pushes one sample of every series.
fn push(binnacle: &Binnacle, round: u64, now_ms: i64) {
    let one = |s| series("x", s, &[(now_ms + round as i64, round as f64)]);
    Sender::start(binnacle.url("/api/v1/write"), Sender::body((0..SERIES).map(one))).must_be_acknowledged();
}

#[test]
fn samples_survive_the_death_of_both_sides() {
    let dir = temp_dir();
    let (near, far) = (dir.path().join("near"), dir.path().join("far"));
    fs::create_dir(&near).expect("created");
    let now_ms = model::now_ms();
    let receiver = || Binnacle::start(&far, &["--agent.disabled"]);
    let mut far_side = receiver();
    let mut near_side = forwarding(&near, &far_side.url("/api/v1/write"), "");
    for round in 0..ROUNDS {
        push(&near_side, round, now_ms);
        match round {
            2 | 6 => {
                near_side.kill();
                near_side = forwarding(&near, &far_side.url("/api/v1/write"), "");
            }
            4 => {
                far_side.kill();
                // What comes meanwhile waits on the near side's bus; the receiver comes back elsewhere.
                push(&near_side, ROUNDS, now_ms);
                far_side = receiver();
                configure(&near, &far_side.url("/api/v1/write"), "");
                let answer = near_side.client().post(near_side.url("/-/reload")).send().expect("an answer");
                assert_eq!(answer.status().as_u16(), 200);
            }
            _ => {}
        }
    }
    let expected = ((ROUNDS + 1) * SERIES) as f64;
    let counted = || far_side.value("sum(count_over_time(x{from=\"here\"}[1h]))");
    wait_for("every sample", || (counted() == Some(expected)).then_some(()));
    assert_eq!(far_side.value("count(x)"), Some(SERIES as f64), "nothing beside");
    near_side.stop();
    far_side.stop();
}

/// What is sent is stored again, sent again, and so on for ever, were it not refused.
#[test]
fn a_server_that_sends_to_itself_refuses_it() {
    let dir = temp_dir();
    let mut binnacle = forwarding(dir.path(), "http://127.0.0.1:1/api/v1/write", "");
    binnacle.expect_warning("remote_write: refused for good");
    configure(dir.path(), &binnacle.url("/api/v1/write"), "");
    let answer = binnacle.client().post(binnacle.url("/-/reload")).send().expect("an answer");
    assert_eq!(answer.status().as_u16(), 200);
    push(&binnacle, 0, model::now_ms());
    let said = binnacle.wait_for_line("remote_write: refused for good");
    assert!(said.contains("leads back"), "{said}");
    assert_eq!(binnacle.value("count(x)"), Some(SERIES as f64), "none came again, under the sender's labels");
    binnacle.stop();
}

#[test]
fn an_agent_alone_forwards_what_it_scrapes() {
    let dir = temp_dir();
    let far = Binnacle::start(&dir.path().join("far"), &["--agent.disabled"]);
    let config = dir.path().join("agent.yml");
    let message = "protobuf_message: io.prometheus.write.v2.Request";
    let text = format!(
        "scrape_configs:\n- job_name: self\n  scrape_interval: 1s\n  scrape_timeout: 1s\n  static_configs: [{{targets: ['{}']}}]\n\
         remote_write: [{{url: '{}', {message}}}]\n",
        far.url("").trim_start_matches("http://"),
        far.url("/api/v1/write")
    );
    fs::write(&config, text).expect("written");
    let agent = Binnacle::start(&dir.path().join("agent"), &["agent", &format!("--config.file={}", config.display())]);
    wait_for("a scraped sample", || far.value("binnacle_config_last_reload_successful{job=\"self\"}"));
    wait_for("the node's load", || (!far.query("node_load1").is_empty()).then_some(()));
    agent.stop();
    far.stop();
}

/// Debian's Prometheus as the receiver: it takes what we send, histograms and all.
#[test]
fn prometheus_takes_what_is_sent() {
    let Some(binary) = std::env::var_os("BINNACLE_TEST_PROMETHEUS") else {
        assert!(!full(), "BINNACLE_TEST_PROMETHEUS must name Debian's prometheus for a full run");
        return;
    };
    let dir = temp_dir();
    let config = dir.path().join("prometheus.yml");
    fs::write(&config, "global: {}\n").expect("written");
    let peer = Peer::start(|address| {
        let mut command = Command::new(&binary);
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("prometheus").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--web.enable-remote-write-receiver");
        command
    });
    let url = &peer.url;
    let near = dir.path().join("near");
    fs::create_dir(&near).expect("created");
    let binnacle = forwarding(&near, &format!("{url}/api/v1/write"), "send_native_histograms: true");
    let now_ms = model::now_ms();
    (0..ROUNDS).for_each(|round| push(&binnacle, round, now_ms));
    let expected = (ROUNDS * SERIES).to_string();
    wait_for("every sample", || {
        let request = binnacle.client().get(format!("{url}/api/v1/query"));
        let request = request.query(&[("query", "sum(count_over_time(x{from=\"here\"}[1h]))")]);
        let answer: serde_json::Value = serde_json::from_str(&request.send().ok()?.text().ok()?).ok()?;
        (answer["data"]["result"][0]["value"][1].as_str() == Some(expected.as_str())).then_some(())
    });
    binnacle.stop();
}
