//! Against a program that stands in for `journalctl`: it prints entries with numbers above the cursor's.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use bus::{BusError, Offset, Topic};
use disk::RealDisk;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::*;

/// Prints the entries of the file `entries` after the cursor, then stays until `end` is there.
const PROGRAM: &str = r#"#!/bin/sh
echo "$@" >> DIR/calls
echo $$ > DIR/pid
[ -e DIR/broken ] && { echo "cannot seek" >&2; exit 1; }
after=0
for arg in "$@"; do case "$arg" in --after-cursor=*) after=${arg#--after-cursor=};; esac; done
tail -n +$((after + 1)) DIR/entries
while [ ! -e DIR/end ]; do sleep 0.02; done
"#;

#[derive(Default)]
struct Arrived {
    lines: Vec<String>,
    /// Appends still to be refused, after having been stored.
    failures: u32,
}

#[derive(Clone, Default)]
struct FakeProducer(Arc<Mutex<Arrived>>);

impl Producer for FakeProducer {
    fn partitions(&self, _: Topic) -> u32 {
        1
    }

    fn append(&self, _: Topic, _: u32, batch: Arc<Batch>) -> BoxFuture<'_, Result<Offset, BusError>> {
        let Batch::Logs(batch) = batch.as_ref() else { panic!("logs") };
        assert_eq!(batch.origin, Origin::Pushed);
        let mut arrived = self.0.lock();
        for line in batch.lines() {
            let (stream, marks) = (&batch.streams[line.stream as usize], &batch.metadata[line.metadata as usize]);
            arrived.lines.push(format!("{stream} {} {} {marks}", line.t_ns, line.text));
        }
        let fails = arrived.failures > 0;
        arrived.failures = arrived.failures.saturating_sub(1);
        async move { if fails { Err(BusError::Unavailable("a test".into())) } else { Ok(0) } }.boxed()
    }
}

struct Bench {
    dir: TempDir,
    producer: FakeProducer,
    running: Option<(CancellationToken, JoinHandle<()>)>,
}

impl Bench {
    fn new() -> Bench {
        let dir = tempfile::tempdir().expect("a directory");
        let journal = dir.path().join("journal/0123");
        fs::create_dir_all(&journal).expect("created");
        fs::write(journal.join("system.journal"), "").expect("written");
        fs::write(dir.path().join("entries"), "").expect("written");
        let program = dir.path().join("journalctl");
        fs::write(&program, PROGRAM.replace("DIR", &dir.path().display().to_string())).expect("written");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("executable");
        Bench { dir, producer: FakeProducer::default(), running: None }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Entries with these numbers, of which the fields are given.
    fn write(&self, entries: &[(u32, &str)]) {
        let line = |(number, fields): &(u32, &str)| {
            format!("{{\"__CURSOR\":\"{number}\",\"__REALTIME_TIMESTAMP\":\"{number}\",{fields}}}\n")
        };
        fs::write(self.path("entries"), entries.iter().map(line).collect::<String>()).expect("written");
    }

    fn start(&mut self) {
        let options = JournalOptions {
            directories: vec![self.path("absent"), self.path("journal")],
            program: self.path("journalctl"),
            state_dir: self.path("state"),
            node: "n".into(),
            tenant: "t".into(),
            labels: BTreeMap::new(),
        };
        let producer = Arc::new(self.producer.clone());
        let mut journal =
            Journal::new(options, producer, Arc::new(RealDisk), LogCounters::default()).expect("it starts");
        journal.own.unit = Some("binnacle.service".into());
        let stop = CancellationToken::new();
        self.running = Some((stop.clone(), tokio::spawn(journal.run(stop))));
    }

    async fn stop(&mut self) {
        let (stop, task) = self.running.take().expect("it runs");
        stop.cancel();
        task.await.expect("it stops");
    }

    async fn wait(&self, what: &str, condition: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !condition() {
            assert!(Instant::now() < deadline, "{what}; arrived: {:?}", self.producer.0.lock().lines);
            tokio::task::yield_now().await;
        }
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Waits until exactly these lines have arrived, and the cursor is at the last entry.
    async fn check(&self, cursor: u32, expected: &[&str]) {
        let saved = format!("\"cursor\":\"{cursor}\"");
        self.wait("the cursor", || self.text("state/agent-journal.json").contains(&saved)).await;
        assert_eq!(self.producer.0.lock().lines, expected);
    }
}

#[tokio::test]
async fn entries_arrive_named_and_our_own_do_not() {
    let mut bench = Bench::new();
    let own_pid = format!(r#""MESSAGE":"me","_PID":"{}""#, std::process::id());
    bench.write(&[
        (1, r#""MESSAGE":"one","_SYSTEMD_UNIT":"a.service","PRIORITY":"4""#),
        (2, &own_pid),
        (3, r#""MESSAGE":"me before","_SYSTEMD_UNIT":"binnacle.service""#),
        (4, r#""MESSAGE":[116,119,111],"SYSLOG_IDENTIFIER":"kernel""#),
        (5, &own_pid),
    ]);
    bench.start();
    let one = r#"{filename="journal", node="n", unit="a.service"} 1000 one {level="warn"}"#;
    let two = r#"{filename="journal", node="n", unit="kernel"} 4000 two {}"#;
    bench.check(5, &[one, two]).await;
    assert!(bench.text("calls").contains("--boot"), "{}", bench.text("calls"));
    let pid = bench.text("pid").trim().to_owned();
    bench.stop().await;
    assert!(!Path::new("/proc").join(pid).exists(), "the child is gone with its reader");
}

#[tokio::test]
async fn reading_goes_on_after_the_cursor_when_either_side_restarts() {
    let mut bench = Bench::new();
    bench.write(&[(1, r#""MESSAGE":"one""#)]);
    bench.start();
    let (one, two, three) = (
        r#"{filename="journal", node="n"} 1000 one {}"#,
        r#"{filename="journal", node="n"} 2000 two {}"#,
        r#"{filename="journal", node="n"} 3000 three {}"#,
    );
    bench.check(1, &[one]).await;
    bench.stop().await;
    bench.write(&[(1, r#""MESSAGE":"one""#), (2, r#""MESSAGE":"two""#)]);
    bench.start();
    bench.check(2, &[one, two]).await;
    bench.write(&[(1, r#""MESSAGE":"one""#), (2, r#""MESSAGE":"two""#), (3, r#""MESSAGE":"three""#)]);
    fs::write(bench.path("end"), "").expect("written");
    bench.check(3, &[one, two, three]).await;
    bench.stop().await;
    assert!(bench.text("calls").contains("--after-cursor=2"));
}

#[tokio::test]
async fn the_cursor_waits_for_the_acknowledgement_and_a_repeat_is_the_same_line() {
    let mut bench = Bench::new();
    bench.write(&[(1, r#""MESSAGE":"one""#)]);
    bench.producer.0.lock().failures = u32::MAX;
    bench.start();
    bench.wait("an attempt", || !bench.producer.0.lock().lines.is_empty()).await;
    bench.stop().await;
    assert_eq!(bench.text("state/agent-journal.json"), "");
    bench.producer.0.lock().failures = 0;
    bench.start();
    bench.wait("the cursor", || bench.text("state/agent-journal.json").contains("\"1\"")).await;
    bench.stop().await;
    let mut lines = bench.producer.0.lock().lines.clone();
    assert!(lines.len() > 1);
    lines.dedup();
    assert_eq!(lines, [r#"{filename="journal", node="n"} 1000 one {}"#]);
}

#[tokio::test]
async fn a_refused_cursor_is_given_up() {
    let mut bench = Bench::new();
    bench.write(&[(1, r#""MESSAGE":"one""#)]);
    fs::create_dir(bench.path("state")).expect("created");
    fs::write(bench.path("state/agent-journal.json"), r#"{"version":1,"cursor":"bad"}"#).expect("written");
    fs::write(bench.path("broken"), "").expect("written");
    bench.start();
    bench.wait("refusals", || bench.text("calls").lines().count() as u32 >= MAX_REFUSALS).await;
    fs::remove_file(bench.path("broken")).expect("removed");
    bench.check(1, &[r#"{filename="journal", node="n"} 1000 one {}"#]).await;
    assert!(bench.text("calls").lines().last().is_some_and(|call| call.contains("--boot")));
    bench.stop().await;
}

#[test]
fn a_source_names_the_journal() {
    let of = |sources: &[LogSource]| JournalOptions::of_sources(sources, Path::new("/s"), "n", "t").map(|o| o.tenant);
    assert_eq!(of(&crate::default_sources()), Some("t".into()));
    assert_eq!(of(&[LogSource { paths: vec!["/var/log/*.log".into()], ..LogSource::default() }]), None);
    let named = LogSource { paths: vec!["journal".into()], tenant: Some("x".into()), ..LogSource::default() };
    assert_eq!(of(&[named]), Some("x".into()));
}
