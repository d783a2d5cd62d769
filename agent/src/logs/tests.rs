//! Tailing, end to end against real files: what arrives is judged as a store would, by byte ranges.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bus::{BusError, Offset, Producer, Topic};
use disk::RealDisk;
use futures::FutureExt;
use futures::future::BoxFuture;
use model::{Batch, FileId, Origin};
use parking_lot::Mutex;
use proptest::prelude::*;
use service::config::LogSource;
use service::metrics::Metrics;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use super::pods::Pods;
use super::{LogCounters, Logs, LogsError, LogsOptions};

mod events;

/// A line as a store shows it.
#[derive(Debug, Clone, PartialEq)]
struct Line {
    t_ns: i64,
    text: String,
    marks: String,
}

/// A store in small: keeps the lines of ranges that it had not covered.
#[derive(Default)]
struct Store {
    covered: HashMap<FileId, Vec<(u64, u64)>>,
    lines: BTreeMap<String, Vec<Line>>,
    /// Appends still to be answered with an error, every other one after having been stored.
    failures: u32,
    /// Tenant and labels of the last line.
    last_stream: (String, String),
}

impl Store {
    fn take(&mut self, batch: &Batch) {
        let Batch::Logs(batch) = batch else { return };
        let Origin::Tailed { file, start, end } = batch.origin else { panic!("tailed") };
        let covered = self.covered.entry(file).or_default();
        for line in batch.lines() {
            let (from, to) = line.source;
            if covered.iter().any(|(s, e)| from < *e && *s < to) {
                continue;
            }
            let name = batch.streams[line.stream as usize].get("filename").expect("named").to_owned();
            self.last_stream = (batch.tenant.clone(), batch.streams[line.stream as usize].to_string());
            let marks = batch.metadata[line.metadata as usize].to_string();
            self.lines.entry(name).or_default().push(Line { t_ns: line.t_ns, text: line.text.to_owned(), marks });
        }
        covered.push((start, end));
    }
}

#[derive(Clone, Default)]
struct FakeProducer(Arc<Mutex<Store>>);

impl Producer for FakeProducer {
    fn partitions(&self, _: Topic) -> u32 {
        1
    }

    fn append(&self, _: Topic, _: u32, batch: Arc<Batch>) -> BoxFuture<'_, Result<Offset, BusError>> {
        let mut store = self.0.lock();
        let fails = store.failures > 0;
        if fails {
            store.failures -= 1;
        }
        if !fails || store.failures.is_multiple_of(2) {
            store.take(&batch);
        }
        let answer = if fails { Err(BusError::Unavailable("a test".into())) } else { Ok(0) };
        async move { answer }.boxed()
    }
}

type Tailing = tokio::task::JoinHandle<Result<(), LogsError>>;

/// A directory of logs, an agent that can be stopped and started, and what arrived.
struct Bench {
    dir: TempDir,
    producer: FakeProducer,
    running: Option<(Runtime, CancellationToken, Tailing)>,
    /// But for its paths.
    source: LogSource,
    max_age_ms: Option<i64>,
    pods: Option<Pods>,
    metrics: Metrics,
}

impl Bench {
    fn new() -> Bench {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join("logs")).expect("created");
        let (source, metrics) = (LogSource::default(), Metrics::default());
        Bench { dir, producer: FakeProducer::default(), running: None, source, max_age_ms: None, pods: None, metrics }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("logs").join(name)
    }

    fn start(&mut self) {
        let paths = match self.source.paths.is_empty() {
            true => vec![self.path("*.log").display().to_string()],
            false => self.source.paths.clone(),
        };
        self.metrics = Metrics::default();
        let options = LogsOptions {
            state_dir: self.dir.path().join("state"),
            node: "n".into(),
            tenant: "t".into(),
            sources: vec![LogSource { paths, ..self.source.clone() }],
            own_dirs: vec![],
            max_age_ms: self.max_age_ms,
            pods: self.pods.clone(),
        };
        let counters = LogCounters::registered(&self.metrics);
        let logs = Logs::new(options, Arc::new(self.producer.clone()), Arc::new(RealDisk), counters);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let stop = CancellationToken::new();
        let task = runtime.spawn(logs.expect("it starts").run(stop.clone()));
        self.running = Some((runtime, stop, task));
    }

    fn stop(&mut self) {
        if let Some((runtime, stop, task)) = self.running.take() {
            stop.cancel();
            runtime.block_on(task).expect("no panic").expect("it stops");
        }
    }

    /// Stops, then takes the checkpoint back to what it was before, as a crash would.
    fn crash(&mut self, checkpoint: Option<Vec<u8>>) {
        self.stop();
        let path = self.dir.path().join("state/agent-logs.json");
        if let Some(bytes) = checkpoint {
            fs::write(path, bytes).expect("written");
        }
    }

    /// A counter of the agent's, without its prefix.
    fn metric(&self, name: &str) -> u64 {
        let text = self.metrics.encode();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("binnacle_agent_{name} ")));
        line.and_then(|value| value.parse().ok()).unwrap_or(0)
    }

    fn checkpoint(&self) -> Option<Vec<u8>> {
        fs::read(self.dir.path().join("state/agent-logs.json")).ok()
    }

    fn append(&self, name: &str, bytes: &[u8]) {
        let mut file = OpenOptions::new().create(true).append(true).open(self.path(name)).expect("opens");
        file.write_all(bytes).expect("written");
    }

    fn write(&self, name: &str, lines: std::ops::Range<u32>) {
        self.append(name, lines.map(|n| format!("{name} line {n}\n")).collect::<String>().as_bytes());
    }

    /// Renames as logrotate does, keeping 30.
    fn rotate(&self, name: &str) {
        for n in (1..30).rev() {
            let _ = fs::rename(self.path(&format!("{name}.{n}")), self.path(&format!("{name}.{}", n + 1)));
        }
        fs::rename(self.path(name), self.path(&format!("{name}.1"))).expect("rotated");
    }

    fn lines(&self, name: &str) -> Vec<Line> {
        let mut lines =
            self.producer.0.lock().lines.get(&self.path(name).display().to_string()).cloned().unwrap_or_default();
        lines.sort_by_key(|line| line.t_ns);
        lines
    }

    fn texts(&self, name: &str) -> Vec<String> {
        self.lines(name).into_iter().map(|line| line.text).collect()
    }

    /// Waits for as many lines as are expected, then compares.
    fn expect(&self, name: &str, lines: std::ops::Range<u32>) {
        let expected: Vec<String> = lines.map(|n| format!("{name} line {n}")).collect();
        self.expect_texts(name, &expected);
    }

    fn expect_texts(&self, name: &str, expected: &[String]) {
        wait_for(
            || self.texts(name).len() >= expected.len(),
            || format!("{:?} instead of {expected:?}", self.texts(name)),
        );
        assert_eq!(self.texts(name), expected);
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.stop();
    }
}

fn wait_for(condition: impl Fn() -> bool, say: impl Fn() -> String) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {}", say());
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

#[test]
fn renames_are_followed_through_many_rotations_and_restarts() {
    let mut bench = Bench::new();
    bench.write("a.log", 0..100);
    bench.start();
    bench.expect("a.log", 0..100);
    for round in 1..10 {
        bench.rotate("a.log");
        bench.write("a.log", round * 100..round * 100 + 50);
        if round % 3 == 0 {
            bench.stop();
        }
        bench.rotate("a.log");
        bench.write("a.log", round * 100 + 50..round * 100 + 100);
        if round % 3 == 0 {
            bench.start();
        }
    }
    bench.expect("a.log", 0..1000);
}

#[test]
fn a_crash_repeats_ranges_and_no_lines() {
    let mut bench = Bench::new();
    bench.write("a.log", 0..200);
    bench.start();
    bench.expect("a.log", 0..200);
    let old = bench.checkpoint();
    bench.write("a.log", 200..400);
    bench.expect("a.log", 0..400);
    bench.crash(old);
    bench.rotate("a.log");
    bench.write("a.log", 400..500);
    bench.producer.0.lock().failures = 3;
    bench.start();
    bench.expect("a.log", 0..500);
}

#[test]
fn older_siblings_are_left_alone_at_first_sight() {
    let mut bench = Bench::new();
    bench.append("a.log.1", b"from before\n");
    let old = OpenOptions::new().append(true).open(bench.path("a.log.1")).expect("opens");
    old.set_modified(std::time::SystemTime::now() - Duration::from_secs(3600)).expect("set");
    bench.write("a.log", 0..10);
    bench.start();
    bench.expect("a.log", 0..10);
    bench.rotate("a.log");
    bench.write("a.log", 10..20);
    bench.expect("a.log", 0..20);
}

#[test]
fn copytruncate_reads_on_and_drains_the_copy() {
    let mut bench = Bench::new();
    bench.write("a.log", 0..100);
    bench.start();
    bench.expect("a.log", 0..100);
    bench.stop();
    bench.write("a.log", 100..200);
    fs::copy(bench.path("a.log"), bench.path("a.log.1")).expect("copied");
    File::create(bench.path("a.log")).expect("truncated");
    bench.write("a.log", 200..250);
    bench.start();
    bench.expect("a.log", 0..250);
    // Again while it runs, and rewritten to more than there was.
    fs::copy(bench.path("a.log"), bench.path("a.log.2")).expect("copied");
    File::create(bench.path("a.log")).expect("truncated");
    bench.write("a.log", 250..500);
    bench.expect("a.log", 0..500);
}

#[test]
fn a_deleted_file_is_drained_and_a_new_one_begun() {
    let mut bench = Bench::new();
    bench.write("a.log", 0..10);
    bench.start();
    bench.expect("a.log", 0..10);
    let mut held = OpenOptions::new().append(true).open(bench.path("a.log")).expect("opens");
    fs::remove_file(bench.path("a.log")).expect("removed");
    held.write_all(b"a.log line 10\n").expect("written");
    bench.expect("a.log", 0..11);
    bench.write("a.log", 11..20);
    bench.expect("a.log", 0..20);
}

#[test]
fn a_compressed_sibling_is_read_on_where_the_file_was_left() {
    let mut bench = Bench::new();
    bench.write("a.log", 0..100);
    bench.start();
    bench.expect("a.log", 0..100);
    bench.stop();
    bench.write("a.log", 100..200);
    bench.rotate("a.log");
    let plain = fs::read(bench.path("a.log.1")).expect("read");
    let packed = File::create(bench.path("a.log.2.gz")).expect("created");
    let mut encoder = flate2::write::GzEncoder::new(packed, flate2::Compression::fast());
    encoder.write_all(&plain).and_then(|()| encoder.finish().map(drop)).expect("compressed");
    fs::remove_file(bench.path("a.log.1")).expect("removed");
    bench.write("a.log", 200..300);
    bench.start();
    bench.expect("a.log", 0..300);
}

#[test]
fn an_unfinished_line_waits_and_odd_ones_are_kept() {
    let mut bench = Bench::new();
    bench.append("a.log", b"one\nbad \xff byte\nunfini");
    bench.start();
    bench.expect_texts("a.log", &["one".to_owned(), "bad \u{fffd} byte".to_owned()]);
    let mut rest = b"shed\n".to_vec();
    rest.extend(vec![b'x'; 10_000_000]);
    rest.extend_from_slice(b"\nafter\nlast");
    bench.append("a.log", &rest);
    wait_for(|| bench.texts("a.log").len() >= 5, || format!("{} lines", bench.texts("a.log").len()));
    let lines = bench.lines("a.log");
    assert_eq!((lines[2].text.as_str(), lines[4].text.as_str()), ("unfinished", "after"));
    assert_eq!((lines[3].text.len(), lines[3].marks.as_str()), (512 * 1024, r#"{truncated="true"}"#));
    assert_eq!(lines[1].marks, r#"{invalid_utf8="true"}"#);
    // Rotated away, with a younger file begun: nobody will finish it.
    bench.rotate("a.log");
    bench.append("a.log", b"new\n");
    wait_for(|| bench.texts("a.log").len() == 7, || format!("{} lines", bench.texts("a.log").len()));
    assert_eq!(bench.texts("a.log")[5..], ["last", "new"]);
}

#[test]
fn writing_at_full_speed_with_rapid_rotation_keeps_order() {
    let mut bench = Bench::new();
    bench.write("a.log", 0..1);
    bench.start();
    // Between two chunks there is no a.log: an agent that has not seen it by then waits for it as this test does for lines.
    bench.expect("a.log", 0..1);
    let path = bench.path("a.log");
    for chunk in 0..60u32 {
        let mut file = OpenOptions::new().create(true).append(true).open(&path).expect("opens");
        for n in chunk * 500 + 1..chunk * 500 + 501 {
            file.write_all(format!("a.log line {n}\n").as_bytes()).expect("written");
        }
        bench.rotate("a.log");
        // At most 30 files are kept: the agent must not fall further behind than that.
        let describe = || {
            let lines = bench.lines("a.log");
            let numbers: Vec<u32> = lines.iter().map(|line| line.text[11..].parse().expect("a number")).collect();
            let gap = numbers.windows(2).find(|pair| pair[1] != pair[0] + 1).map(<[u32]>::to_vec);
            format!("the agent, which has {} lines of {} written; first gap {gap:?}", lines.len(), chunk * 500 + 501)
        };
        wait_for(|| bench.texts("a.log").len() as u32 + 12_000 > chunk * 500, describe);
    }
    bench.write("a.log", 30_001..30_002);
    bench.expect("a.log", 0..30_002);
    let lines = bench.lines("a.log");
    assert!(lines.windows(2).all(|pair| pair[0].t_ns < pair[1].t_ns), "times rise strictly");
}

#[derive(Debug, Clone)]
enum Step {
    Write(u32),
    Rotate,
    Restart,
    AcksLost(u32),
    Settle,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1u32..60).prop_map(Step::Write),
        2 => Just(Step::Rotate),
        1 => Just(Step::Restart),
        1 => (1u32..3).prop_map(Step::AcksLost),
        1 => Just(Step::Settle),
    ]
}

fn play(steps: &[Step]) {
    let mut bench = Bench::new();
    let mut written = 0;
    bench.write("p.log", 0..1);
    written += 1;
    bench.start();
    bench.expect("p.log", 0..1);
    for step in steps {
        match step {
            Step::Write(lines) => {
                bench.write("p.log", written..written + lines);
                written += lines;
            }
            Step::Rotate if Path::new(&bench.path("p.log")).exists() => bench.rotate("p.log"),
            Step::Rotate => {}
            Step::Restart => {
                bench.stop();
                bench.start();
            }
            Step::AcksLost(count) => bench.producer.0.lock().failures = *count,
            Step::Settle => bench.expect("p.log", 0..written),
        }
    }
    bench.expect("p.log", 0..written);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn every_line_arrives_once_in_order(steps in proptest::collection::vec(step(), 1..14)) {
        play(&steps);
    }
}
