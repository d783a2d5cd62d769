//! Lines on their way: events of several lines, sinks each with its own progress, listeners, a reload, a dry run.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::end_to_end::harness::{Binnacle, temp_dir, wait_for};

fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).expect("opens");
    file.write_all(text.as_bytes()).expect("written");
}

fn configure(dir: &Path, text: &str) -> String {
    let path = dir.join("agent.yml");
    fs::write(&path, text).expect("written");
    format!("--config.file={}", path.display())
}

fn texts(binnacle: &Binnacle, selector: &str) -> Vec<String> {
    binnacle.lines(selector, 0).into_iter().map(|(_, line)| line).collect()
}

fn wait_for_texts(binnacle: &Binnacle, selector: &str, expected: &[&str]) {
    wait_for(selector, || (texts(binnacle, selector).len() >= expected.len()).then_some(()));
    assert_eq!(texts(binnacle, selector), expected);
}

#[test]
fn a_trace_is_one_line_and_secrets_stay_here() {
    let dir = temp_dir();
    let log = dir.path().join("a.log");
    let config = configure(
        dir.path(),
        &format!(
            "logs:\n  sources:\n  - paths: ['{}']\n    multiline: auto\n    labels: {{app: shop}}\n    \
             transforms: [{{redact: {{presets: [email]}}}}, {{drop: '^DEBUG'}}]\n",
            log.display()
        ),
    );
    append(
        &log,
        "first of a@b.example\nDEBUG no\nTraceback (most recent call last):\n  File \"a.py\"\nKeyError: x\nlast\n",
    );
    let binnacle = Binnacle::start(dir.path(), &[&config]);
    let trace = "Traceback (most recent call last):\n  File \"a.py\"\nKeyError: x";
    wait_for_texts(&binnacle, "{app=\"shop\"}", &["first of [redacted]", trace, "last"]);
    binnacle.stop();
}

/// How often each line is in the file of a sink.
fn counts(path: &Path) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for line in fs::read_to_string(path).unwrap_or_default().lines() {
        *counts.entry(line.to_owned()).or_default() += 1;
    }
    counts
}

#[test]
fn every_sink_gets_every_line_though_one_is_away_and_the_agent_is_killed() {
    let dir = temp_dir();
    let (log, out) = (dir.path().join("a.log"), dir.path().join("out.txt"));
    let server_dir = dir.path().join("server");
    let server = Binnacle::start(&server_dir, &["--agent.disabled"]);
    let config = configure(
        dir.path(),
        &format!(
            "logs:\n  sources: [{{paths: ['{}']}}]\n  sinks:\n  - {{type: file, path: '{}', encoding: text}}\n  \
             - {{type: binnacle, url: '{}'}}\n  - {{type: loki, name: away, url: 'http://127.0.0.1:1'}}\n",
            log.display(),
            out.display(),
            server.url(""),
        ),
    );
    let lines = |range: std::ops::Range<u32>| range.map(|n| format!("line {n:05}")).collect::<Vec<_>>();
    let text = |range| lines(range).join("\n") + "\n";
    append(&log, &text(0..2000));
    let agent = Binnacle::start(dir.path(), &["agent", &config]);
    wait_for("the first lines", || (counts(&out).len() >= 100).then_some(()));
    agent.kill();
    append(&log, &text(2000..4000));
    let agent = Binnacle::start(dir.path(), &["agent", &config]);
    wait_for("all lines in the file", || (counts(&out).len() >= 4000).then_some(()));
    assert!(counts(&out).keys().eq(lines(0..4000).iter()), "at least once each, and nothing else");
    let selector = format!("{{filename=\"{}\"}}", log.display());
    let expected = lines(0..4000);
    wait_for_texts(&server, &selector, &expected.iter().map(String::as_str).collect::<Vec<_>>());
    agent.stop();
    server.stop();
}

#[test]
fn a_reload_goes_on_where_reading_was() {
    let dir = temp_dir();
    let log = dir.path().join("a.log");
    let source = |more: &str| format!("logs: {{sources: [{{paths: ['{}']{more}}}]}}\n", log.display());
    let config = configure(dir.path(), &source(""));
    append(&log, "one\n");
    let binnacle = Binnacle::start(dir.path(), &[&config]);
    let selector = format!("{{filename=\"{}\"}}", log.display());
    wait_for_texts(&binnacle, &selector, &["one"]);
    let reload = || binnacle.client().post(binnacle.url("/-/reload")).send().expect("an answer").status().as_u16();
    configure(dir.path(), &source(", labels: {env: prod}"));
    assert_eq!(reload(), 200);
    append(&log, "two\n");
    wait_for_texts(&binnacle, "{env=\"prod\"}", &["two"]);
    wait_for_texts(&binnacle, &selector, &["one", "two"]);
    binnacle.stop();
}

#[test]
fn a_bad_source_is_refused_at_a_reload_and_reading_goes_on() {
    let dir = temp_dir();
    let log = dir.path().join("a.log");
    let config = configure(dir.path(), &format!("logs: {{sources: [{{paths: ['{}']}}]}}\n", log.display()));
    let mut binnacle = Binnacle::start(dir.path(), &[&config]);
    binnacle.expect_warning("reload refused");
    for bad in ["{paths: [a], multiline: cobol}", "{paths: [a], timestamp: {field: t, zone: Mars}}"] {
        configure(dir.path(), &format!("logs: {{sources: [{bad}]}}\n"));
        let answer = binnacle.client().post(binnacle.url("/-/reload")).send().expect("an answer");
        assert_ne!(answer.status().as_u16(), 200, "{bad}");
    }
    append(&log, "still here\n");
    wait_for_texts(&binnacle, &format!("{{filename=\"{}\"}}", log.display()), &["still here"]);
    binnacle.stop();
}

#[test]
fn syslog_comes_in() {
    let dir = temp_dir();
    let config = configure(dir.path(), "logs: {sources: [{syslog: {listen: '127.0.0.1:0'}}]}\n");
    let binnacle = Binnacle::start(dir.path(), &[&config]);
    let said = binnacle.wait_for_line("listening for syslog");
    let port = said.rsplit(':').next().expect("a port").trim_end_matches(|c: char| !c.is_ascii_digit());
    let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).expect("connects");
    stream.write_all(b"<11>1 - web app 7 - - it failed\n").expect("sent");
    wait_for_texts(&binnacle, "{source=\"syslog\",app=\"app\"} | level=\"error\"", &["it failed"]);
    binnacle.stop();
}

#[test]
fn lines_go_to_standard_output() {
    let dir = temp_dir();
    let log = dir.path().join("a.log");
    append(&log, "level=error msg=one\ntwo\n");
    for (encoding, expected) in [("text", "two"), ("json", "\"message\":\"two\"")] {
        let sink = format!("sinks: [{{type: stdout, name: {encoding}, encoding: {encoding}}}]");
        let config = configure(dir.path(), &format!("logs: {{sources: [{{paths: ['{}']}}], {sink}}}\n", log.display()));
        let mut command = Command::new(env!("CARGO_BIN_EXE_binnacle"));
        command.args(["agent", &config, "--web.listen-address=127.0.0.1:0"]);
        command.arg(format!("--storage.path={}", dir.path().join("data").display()));
        let mut agent = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
        let stdout = BufReader::new(agent.stdout.take().expect("piped"));
        let lines: Vec<String> = stdout.lines().map_while(Result::ok).take(2).collect();
        assert!(lines[0].contains("level=error msg=one") && lines[1].contains(expected), "{lines:?}");
        agent.kill().expect("SIGKILL");
        agent.wait().expect("reaped");
    }
}

#[test]
fn a_dry_run_shows_and_leaves_everything_alone() {
    let dir = temp_dir();
    append(&dir.path().join("a.log"), "level=error msg=x a=b\n");
    let glob = format!("--agent.logs.path={}/*.log", dir.path().display());
    let data = dir.path().join("data");
    let storage = format!("--storage.path={}", data.display());
    let run = Command::new(env!("CARGO_BIN_EXE_binnacle")).args(["agent", "--dry-run", &glob, &storage]).output();
    let run = run.expect("it runs");
    let text = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success() && text.contains("format logfmt"), "{text} {run:?}");
    assert!(text.contains("level=\"error\"") && !data.exists(), "{text}");
}
