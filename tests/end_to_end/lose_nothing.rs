//! The promise: `kill -9` at any moment loses nothing that was written or acknowledged, and shows nothing twice.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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

/// Drives the writer and the kills; `start` starts the process under test, or the one of several that is killed.
pub fn tailed_lines_survive(
    dir: &Path,
    dice: &mut Dice,
    mut start: impl FnMut() -> Binnacle,
    reader: Option<&Binnacle>,
) {
    let Scale { lines, kills, rotate_bytes } = scale();
    let per_file = lines / FILES;
    let logs_dir = dir.join("logs");
    fs::create_dir_all(&logs_dir).expect("created");
    let open = |i| RotatingLog::new(logs_dir.join(format!("service-{i}.log")), rotate_bytes);
    let mut logs: Vec<RotatingLog> = (0..FILES).map(open).collect();
    let written = Arc::new(AtomicU64::new(0));
    let mut running = start();
    for round in 0..kills {
        let (from, to) = (round * per_file / kills, (round + 1) * per_file / kills);
        let writer = write_lines(logs, from, to, written.clone());
        // Some kills come while lines are being written, others while the agent catches up.
        if round % 2 == 0 {
            let threshold = from * FILES + dice.below((to - from) * FILES);
            wait_for("the writer", || (written.load(Ordering::Relaxed) > threshold).then_some(()));
        } else {
            let threshold = dice.below((to - from) * FILES / 2);
            wait_for("the agent", || (lines_read(&running) > threshold).then_some(()));
        }
        running.kill();
        running = start();
        logs = writer.join().expect("the writer");
    }
    check_lines(reader.unwrap_or(&running), &logs_dir, per_file);
    running.stop();
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
    tailed_lines_survive(dir.path(), &mut dice, || Binnacle::start(dir.path(), &[&glob]), None);
}

#[test]
fn acknowledged_samples_survive_kill_9_exactly_once() {
    let dir = temp_dir();
    let glob = format!("--agent.logs.path={}/none/*.log", dir.path().display());
    let mut dice = Dice::new("samples");
    let (kills, batches) = if full() { (20, 400) } else { (4, 80) };
    let mut running = Binnacle::start(dir.path(), &[&glob]);
    let start_ms = model::now_ms() - 3_600_000;
    let mut expected: BTreeMap<u64, f64> = BTreeMap::new();
    let mut kill_at: Vec<u64> = (0..kills).map(|_| dice.below(batches)).collect();
    kill_at.sort_unstable();
    for batch in 0..batches {
        let t_ms = start_ms + batch as i64 * 1000;
        let body = Sender::body((0..500).map(|s| series("counted", s, &[(t_ms, (batch * 500 + s) as f64)])));
        for s in 0..500 {
            *expected.entry(s).or_default() += (batch * 500 + s) as f64;
        }
        // A sender repeats what was not acknowledged, as Prometheus does.
        let sender = Sender::start(running.url("/api/v1/write"), body.clone());
        let killed = kill_at.iter().filter(|at| **at == batch).count();
        if killed > 0 {
            running.kill();
            for _ in 1..killed {
                Binnacle::start(dir.path(), &[&glob]).kill();
            }
            running = Binnacle::start(dir.path(), &[&glob]);
        }
        if !sender.acknowledged() {
            Sender::start(running.url("/api/v1/write"), body).must_be_acknowledged();
        }
    }
    running.wait_ready();
    let check = |running: &Binnacle| {
        let at = |what: &str| running.query(&format!("sum by (s) ({what}(counted[2h]))"));
        let counts = at("count_over_time");
        assert_eq!(counts.len(), 500);
        assert!(counts.iter().all(|(_, count)| *count == batches as f64), "{counts:?}");
        for (labels, sum) in at("sum_over_time") {
            let s: u64 = labels.get("s").expect("labelled").parse().expect("a number");
            assert_eq!(sum, expected[&s], "series {s}");
        }
    };
    check(&running);
    running.flush();
    check(&running);
    running.stop();
    let again = Binnacle::start(dir.path(), &[&glob]);
    again.wait_ready();
    check(&again);
    again.stop();
}
