//! Bad input gets a clear error, and loses nothing that was good.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::process::Command;

use crate::end_to_end::harness::{Binnacle, temp_dir, wait_for};
use crate::end_to_end::remote_write::{Sender, series};

fn quiet(dir: &std::path::Path) -> Binnacle {
    let glob = format!("--agent.logs.path={}/logs/*.log", dir.display());
    Binnacle::start(dir, &[&glob])
}

#[test]
fn a_truncated_snappy_body_is_400_and_the_next_write_is_taken() {
    let dir = temp_dir();
    let binnacle = quiet(dir.path());
    let body = Sender::body(std::iter::once(series("x", 1, &[(model::now_ms(), 1.0)])));
    for path in ["/api/v1/write", "/loki/api/v1/push"] {
        let half = body[..body.len() / 2].to_vec();
        let request = binnacle.client().post(binnacle.url(path)).header("content-type", "application/x-protobuf");
        let answer = request.header("content-encoding", "snappy").body(half).send().expect("an answer");
        assert_eq!(answer.status().as_u16(), 400, "{path}");
        assert!(answer.text().expect("a body").contains("snappy"), "{path}");
    }
    Sender::start(binnacle.url("/api/v1/write"), body).must_be_acknowledged();
    assert_eq!(binnacle.value("x"), Some(1.0));
    binnacle.stop();
}

#[test]
fn a_non_utf8_line_and_a_10_mb_line_are_kept_and_marked() {
    let dir = temp_dir();
    fs::create_dir_all(dir.path().join("logs")).expect("created");
    let path = dir.path().join("logs/odd.log");
    let mut log = OpenOptions::new().create(true).append(true).open(&path).expect("the log opens");
    log.write_all(b"before\nbad \xff\xfe byte\n").expect("written");
    log.write_all(&vec![b'x'; 10_000_000]).expect("written");
    log.write_all(b"\nafter\n").expect("written");
    let binnacle = quiet(dir.path());
    let selector = format!("{{filename={:?}}}", path.display().to_string());
    wait_for("four lines", || (binnacle.count_lines(&selector) == 4).then_some(()));
    let lines: Vec<String> = binnacle.lines(&selector, 0).into_iter().map(|(_, line)| line).collect();
    assert_eq!(
        (lines[0].as_str(), lines[1].as_str(), lines[3].as_str()),
        ("before", "bad \u{fffd}\u{fffd} byte", "after")
    );
    assert_eq!(lines[2].len(), 512 * 1024);
    assert_eq!(binnacle.count_lines(&format!("{selector} | truncated=\"true\"")), 1);
    assert_eq!(binnacle.count_lines(&format!("{selector} | invalid_utf8=\"true\"")), 1);
    binnacle.stop();
}

#[test]
fn a_broken_configuration_is_refused_with_its_place() {
    let dir = temp_dir();
    let check = |text: &str, expected: &[&str]| {
        let path = dir.path().join("broken.yml");
        fs::write(&path, text).expect("written");
        let output = Command::new(env!("CARGO_BIN_EXE_binnacle"))
            .arg(format!("--config.file={}", path.display()))
            .arg(format!("--storage.path={}", dir.path().join("data").display()))
            .arg("--web.listen-address=127.0.0.1:0")
            .output()
            .expect("it runs");
        assert!(!output.status.success());
        let said = String::from_utf8_lossy(&output.stderr);
        for part in expected.iter().chain(&["broken.yml"]) {
            assert!(said.contains(part), "{text:?} does not name {part:?}:\n{said}");
        }
    };
    check("global:\n  scrape_intervall: 15s\n", &["scrape_intervall", "line 2"]);
    check("scrape_configs:\n- job_name: a\n  relabel_configs:\n  - regex: '('\n", &["unclosed group"]);
    fs::write(dir.path().join("rules.yml"), "groups: [{name: g, rules: [{record: x, expr: 'sum('}]}]")
        .expect("written");
    let bad_rule = dir.path().join("broken.yml");
    fs::write(&bad_rule, "rule_files: ['rules.yml']").expect("written");
    let output = Command::new(env!("CARGO_BIN_EXE_binnacle"))
        .arg(format!("--config.file={}", bad_rule.display()))
        .arg(format!("--storage.path={}", dir.path().join("data").display()))
        .arg("--web.listen-address=127.0.0.1:0")
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("rules.yml") && said.contains("parse error"), "{said}");
}

#[test]
fn a_failed_reload_keeps_the_old_configuration_and_says_so() {
    let dir = temp_dir();
    let config = dir.path().join("binnacle.yml");
    fs::write(&config, "rule_files: []\n").expect("written");
    let glob = format!("--agent.logs.path={}/logs/*.log", dir.path().display());
    let mut binnacle = Binnacle::start(dir.path(), &[&format!("--config.file={}", config.display()), &glob]);
    binnacle.expect_warning("reload");
    let reload = || binnacle.client().post(binnacle.url("/-/reload")).send().expect("an answer");
    assert_eq!(reload().status().as_u16(), 200);
    fs::write(&config, "rule_filez: []\n").expect("written");
    let answer = reload();
    assert_eq!(answer.status().as_u16(), 500);
    assert!(answer.text().expect("a body").contains("rule_filez"));
    let metrics = binnacle.client().get(binnacle.url("/metrics")).send().expect("an answer").text().expect("text");
    assert!(metrics.contains("binnacle_config_last_reload_successful 0"), "{metrics}");
    binnacle.stop();
}

/// The data lies on a small tmpfs in a mount namespace of its own, so that the disk can be filled and freed.
#[test]
fn a_full_disk_refuses_writes_with_503_serves_reads_and_heals() {
    let dir = temp_dir();
    let disk = dir.path().join("data");
    fs::create_dir_all(&disk).expect("created");
    fs::write(dir.path().join("binnacle.yml"), "bus: {embedded: {segment_bytes: 1048576, reserve_bytes: 4194304}}\n")
        .expect("written");
    let script = format!("mount -t tmpfs -o size=24m tmpfs '{}' && exec \"$0\" \"$@\"", disk.display());
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", &script, env!("CARGO_BIN_EXE_binnacle")]);
    command.arg(format!("--config.file={}", dir.path().join("binnacle.yml").display()));
    command.arg(format!("--agent.logs.path={}/logs/*.log", dir.path().display()));
    let mut binnacle = Binnacle::spawn(dir.path(), command);
    for part in ["full", "space", "refused"] {
        binnacle.expect_warning(part);
    }
    let write = |t_ms: i64| {
        let body = Sender::body(std::iter::once(series("kept", 1, &[(t_ms, 1.0)])));
        let request = binnacle.client().post(binnacle.url("/api/v1/write")).header("content-encoding", "snappy");
        request.body(body).send().expect("an answer").status().as_u16()
    };
    let start_ms = model::now_ms() - 600_000;
    assert_eq!(write(start_ms), 204);

    // The process' own view of its disk, from outside its mount namespace.
    let inside = std::path::PathBuf::from(format!("/proc/{}/root{}", binnacle.pid(), disk.display()));
    let filler = inside.join("filler");
    let mut file = fs::File::create(&filler).expect("created");
    while file.write_all(&[0; 65_536]).is_ok() {}
    drop(file);
    assert_eq!(write(start_ms + 1000), 503);
    assert_eq!(binnacle.value("count_over_time(kept[1h])"), Some(1.0), "reads go on");

    fs::remove_file(&filler).expect("removed");
    wait_for("writes to be taken again", || (write(start_ms + 2000) == 204).then_some(()));
    assert_eq!(binnacle.value("count_over_time(kept[1h])"), Some(2.0), "nothing refused became visible");
    binnacle.stop();
}
