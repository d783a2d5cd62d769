//! The promise: `kill -9` at any moment loses nothing that was written or acknowledged, and shows nothing twice.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crate::end_to_end::harness::{Binnacle, Dice, full, temp_dir, wait_for};
use crate::end_to_end::remote_write::{Sender, series};

const FILES: u64 = 4;
const ROTATED_KEPT: u32 = 30;

/// How much is written, and over how many kills.
struct Scale {
    lines: u64,
    kills: u64,
    rotate_bytes: u64,
}

fn scale() -> Scale {
    if full() {
        Scale { lines: 200_000, kills: 21, rotate_bytes: 1_000_000 }
    } else {
        Scale { lines: 20_000, kills: 4, rotate_bytes: 200_000 }
    }
}

/// A log that rotates by renaming, as logrotate does without `copytruncate`.
struct RotatingLog {
    path: PathBuf,
    file: File,
    bytes: u64,
    limit: u64,
}

impl RotatingLog {
    fn new(path: PathBuf, limit: u64) -> RotatingLog {
        let file = Self::open(&path);
        RotatingLog { path, file, bytes: 0, limit }
    }

    fn open(path: &Path) -> File {
        OpenOptions::new().create(true).append(true).open(path).expect("the log opens")
    }

    fn write(&mut self, line: &str) {
        self.file.write_all(line.as_bytes()).expect("written");
        self.bytes += line.len() as u64;
        if self.bytes >= self.limit {
            self.rotate();
        }
    }

    fn rotate(&mut self) {
        let numbered = |n: u32| PathBuf::from(format!("{}.{n}", self.path.display()));
        for n in (1..ROTATED_KEPT).rev() {
            if numbered(n).exists() {
                fs::rename(numbered(n), numbered(n + 1)).expect("shifted");
            }
        }
        fs::rename(&self.path, numbered(1)).expect("rotated");
        self.file = Self::open(&self.path);
        self.bytes = 0;
    }
}

/// Writes lines `from..to` of every file on a thread of its own; `written` counts them all.
fn write_lines(
    mut logs: Vec<RotatingLog>,
    from: u64,
    to: u64,
    written: Arc<AtomicU64>,
) -> JoinHandle<Vec<RotatingLog>> {
    std::thread::spawn(move || {
        for n in from..to {
            for log in &mut logs {
                log.write(&format!(
                    "line {n:07} of a service that says something of ordinary length, status=200 took=12ms\n"
                ));
                written.fetch_add(1, Ordering::Relaxed);
            }
        }
        logs
    })
}

fn check_lines(binnacle: &Binnacle, dir: &Path, per_file: u64) {
    for i in 0..FILES {
        let path = dir.join(format!("service-{i}.log"));
        let selector = format!("{{filename={:?}}}", path.display().to_string());
        wait_for(&format!("{per_file} lines of {}", path.display()), || {
            (binnacle.count_lines(&selector) >= per_file).then_some(())
        });
        let lines = binnacle.lines(&selector, 0);
        let numbers: Vec<u64> = lines.iter().map(|(_, line)| line[5..12].parse().expect("a number")).collect();
        let wrong = numbers.iter().zip(0..).position(|(got, expected)| *got != expected);
        let around = wrong.map(|at| &numbers[at.saturating_sub(2)..(at + 3).min(numbers.len())]);
        assert_eq!(wrong, None, "{}: wrong at {around:?}", path.display());
        assert_eq!(numbers.len() as u64, per_file, "{}", path.display());
    }
}

/// The processes under test; each can be killed and started again on its own data.
pub struct Processes<'a> {
    start_agent: &'a dyn Fn() -> Binnacle,
    start_indexer: Option<&'a dyn Fn() -> Binnacle>,
    agent: Option<Binnacle>,
    /// A log store of its own; without one the agent's process has it.
    indexer: Option<Binnacle>,
}

impl<'a> Processes<'a> {
    pub fn start(
        start_agent: &'a dyn Fn() -> Binnacle,
        start_indexer: Option<&'a dyn Fn() -> Binnacle>,
    ) -> Processes<'a> {
        let (agent, indexer) = (Some(start_agent()), start_indexer.map(|start| start()));
        Processes { start_agent, start_indexer, agent, indexer }
    }

    /// An agent beside a store that is never killed.
    pub fn beside(store: Binnacle, start_agent: &'a dyn Fn() -> Binnacle) -> Processes<'a> {
        Processes { start_agent, start_indexer: None, agent: Some(start_agent()), indexer: Some(store) }
    }

    fn agent(&self) -> &Binnacle {
        self.agent.as_ref().expect("running between kills")
    }

    fn reader(&self) -> &Binnacle {
        self.indexer.as_ref().unwrap_or_else(|| self.agent())
    }

    /// `kill -9` of the agent, and every third time of the log store as well.
    fn kill_and_restart(&mut self, round: u64) {
        if let (2, Some(start)) = (round % 3, self.start_indexer) {
            self.indexer.take().expect("running between kills").kill();
            self.indexer = Some(start());
        }
        self.agent.take().expect("running between kills").kill();
        self.agent = Some((self.start_agent)());
    }

    fn stop(self) {
        self.agent.into_iter().chain(self.indexer).for_each(Binnacle::stop);
    }
}

/// Drives the writer and the kills, and compares.
pub fn tailed_lines_survive(dir: &Path, dice: &mut Dice, mut processes: Processes<'_>) {
    let Scale { lines, kills, rotate_bytes } = scale();
    let per_file = lines / FILES;
    let logs_dir = dir.join("logs");
    fs::create_dir_all(&logs_dir).expect("created");
    let open = |i| RotatingLog::new(logs_dir.join(format!("service-{i}.log")), rotate_bytes);
    let mut logs: Vec<RotatingLog> = (0..FILES).map(open).collect();
    let written = Arc::new(AtomicU64::new(0));
    for round in 0..kills {
        let (from, to) = (round * per_file / kills, (round + 1) * per_file / kills);
        let writer = write_lines(logs, from, to, written.clone());
        // Some kills come while lines are being written, others while the agent catches up.
        if round % 2 == 0 {
            let threshold = from * FILES + dice.below((to - from) * FILES);
            wait_for("the writer", || (written.load(Ordering::Relaxed) > threshold).then_some(()));
        } else {
            let threshold = dice.below((to - from) * FILES / 2);
            wait_for("the agent", || (lines_read(processes.agent()) > threshold).then_some(()));
        }
        processes.kill_and_restart(round);
        logs = writer.join().expect("the writer");
    }
    check_lines(processes.reader(), &logs_dir, per_file);
    processes.stop();
}

fn lines_read(binnacle: &Binnacle) -> u64 {
    let Ok(response) = binnacle.client().get(binnacle.url("/metrics")).send() else { return 0 };
    let text = response.text().unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("binnacle_agent_lines_total{stage=\"read\"}"));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
}

#[test]
fn tailed_lines_survive_kill_9_exactly_once_and_in_order() {
    let dir = temp_dir();
    let glob = format!("--agent.logs.path={}/logs/*.log", dir.path().display());
    let mut dice = Dice::new("tailed lines");
    let start = || Binnacle::start(dir.path(), &[&glob]);
    tailed_lines_survive(dir.path(), &mut dice, Processes::start(&start, None));
}

const SERIES: u64 = 500;

/// Remote-writes batches while the store is killed at random moments; then every acknowledged sample is there once.
pub fn acknowledged_samples_survive(dice: &mut Dice, start: &dyn Fn() -> Binnacle) {
    let (kills, batches) = if full() { (20, 400) } else { (4, 80) };
    let mut running = start();
    let start_ms = model::now_ms() - 3_600_000;
    let mut expected: BTreeMap<u64, f64> = BTreeMap::new();
    let kill_at: Vec<u64> = (0..kills).map(|_| dice.below(batches)).collect();
    for batch in 0..batches {
        let value = |s: u64| (batch * SERIES + s) as f64;
        let t_ms = start_ms + batch as i64 * 1000;
        let body = Sender::body((0..SERIES).map(|s| series("counted", s, &[(t_ms, value(s))])));
        (0..SERIES).for_each(|s| *expected.entry(s).or_default() += value(s));
        // A sender repeats what was not acknowledged, as Prometheus does; the kill comes while the request is under way.
        let sender = Sender::start(running.url("/api/v1/write"), body.clone());
        if batch % 97 == 50 {
            running.flush();
        }
        for _ in kill_at.iter().filter(|at| **at == batch) {
            running.kill();
            running = start();
        }
        if !sender.acknowledged() {
            Sender::start(running.url("/api/v1/write"), body).must_be_acknowledged();
        }
    }
    running.wait_ready();
    check_samples(&running, batches, &expected);
    running.flush();
    check_samples(&running, batches, &expected);
    running.stop();
    let again = start();
    again.wait_ready();
    check_samples(&again, batches, &expected);
    again.stop();
}

fn check_samples(running: &Binnacle, batches: u64, expected: &BTreeMap<u64, f64>) {
    let at = |what: &str| running.query(&format!("sum by (s) ({what}(counted[2h]))"));
    // A store of its own reads the bus behind the writers; nothing is acknowledged any more, so it catches up.
    let is_complete =
        |counts: &[(model::Labels, f64)]| counts.iter().map(|(_, n)| *n as u64).sum::<u64>() >= batches * SERIES;
    let counts = wait_for("every sample", || Some(at("count_over_time")).filter(|counts| is_complete(counts)));
    assert_eq!(counts.len() as u64, SERIES);
    assert!(counts.iter().all(|(_, count)| *count == batches as f64), "{counts:?}");
    for (labels, sum) in at("sum_over_time") {
        let s: u64 = labels.get("s").expect("labelled").parse().expect("a number");
        assert_eq!(sum, expected[&s], "series {s}");
    }
}

#[test]
fn acknowledged_samples_survive_kill_9_exactly_once() {
    let dir = temp_dir();
    let start = || Binnacle::start(dir.path(), &["--agent.disabled"]);
    acknowledged_samples_survive(&mut Dice::new("samples"), &start);
}

const CLIENTS: u64 = 8;
const LINES_PER_PUSH: u64 = 40;

/// Pushes one body until it is acknowledged, as clients do.
fn push_until_acknowledged(client: &reqwest::blocking::Client, url: &Mutex<String>, body: &str) {
    wait_for("an acknowledgement", || {
        let push = format!("{}/loki/api/v1/push", url.lock().expect("no panic"));
        let request = client.post(push).header("content-type", "application/json").body(body.to_owned());
        request.send().is_ok_and(|answer| answer.status() == 204).then_some(())
    });
}

#[test]
fn pushed_lines_survive_kill_9_exactly_once() {
    let (kills, pushes) = if full() { (20, 300) } else { (4, 40) };
    let dir = temp_dir();
    let start = || Binnacle::start(dir.path(), &["--agent.disabled"]);
    let mut running = Some(start());
    let up = |running: &Option<Binnacle>| running.as_ref().expect("running between kills").url("");
    let (url, acknowledged) = (Mutex::new(up(&running)), AtomicU64::new(0));
    let http = reqwest::blocking::Client::new();
    let start_ns = (model::now_ms() - 3_600_000) * 1_000_000;
    let mut dice = Dice::new("pushed lines");
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (url, acknowledged, http) = (&url, &acknowledged, &http);
            scope.spawn(move || {
                for push in 0..pushes {
                    let line = |n: u64| {
                        let n = push * LINES_PER_PUSH + n;
                        format!(r#"["{}", "line {n:06} of client {client}"]"#, start_ns + n as i64 * 1_000_000)
                    };
                    let lines = (0..LINES_PER_PUSH).map(line).collect::<Vec<_>>().join(",");
                    let body = format!(r#"{{"streams":[{{"stream":{{"client":"{client}"}},"values":[{lines}]}}]}}"#);
                    push_until_acknowledged(http, url, &body);
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for kill in 0..kills {
            let at = (kill * CLIENTS * pushes + dice.below(CLIENTS * pushes)) / (kills + 1);
            wait_for("pushes before a kill", || (acknowledged.load(Ordering::Relaxed) >= at).then_some(()));
            let killed = running.take().expect("running between kills");
            // Heads become segments while clients push, now and then.
            if kill % 3 == 1 {
                killed.flush();
            }
            killed.kill();
            running = Some(start());
            *url.lock().expect("no panic") = up(&running);
        }
    });
    let running = running.expect("running after the last kill");
    running.wait_ready();
    for flushed in [false, true] {
        for client in 0..CLIENTS {
            let lines = running.lines(&format!("{{client=\"{client}\"}}"), 0);
            let found: Vec<&str> = lines.iter().map(|(_, line)| line.as_str()).collect();
            let expected: Vec<String> =
                (0..pushes * LINES_PER_PUSH).map(|n| format!("line {n:06} of client {client}")).collect();
            assert!(found == expected, "client {client}, flushed: {flushed}: {} of {}", found.len(), expected.len());
        }
        running.flush();
    }
    running.stop();
}
