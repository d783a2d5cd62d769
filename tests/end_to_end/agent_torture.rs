//! Files treated as badly as they are in the wild, while the agent is killed and the server comes and goes: every line is
//! there once. Bytes that a writer loses itself (`copytruncate` between copy and truncation) are outside the promise, and
//! nothing here writes then. `BINNACLE_TEST_ROUNDS` makes longer runs.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::end_to_end::harness::{Binnacle, Dice, full, machine_shared, temp_dir, wait_for};

/// What happens to a file beside being written to.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    /// `x.log` to `x.log.1`, that to `x.log.2.gz`, and so on.
    RenamedAndPacked,
    /// `x.log` to `x.log.TIME`; the one before is packed through `.tmp`.
    KubeletRotated,
    CopiedAndTruncated,
    /// Deleted once read, and begun anew.
    Recreated,
    /// A link that leads to another file from time to time.
    Relinked,
    /// Only written to.
    LeftAlone,
}

const FATES: [Fate; 6] = [
    Fate::RenamedAndPacked,
    Fate::KubeletRotated,
    Fate::CopiedAndTruncated,
    Fate::Recreated,
    Fate::Relinked,
    Fate::LeftAlone,
];

struct Log {
    fate: Fate,
    path: PathBuf,
    /// Lines begun so far, and what is still to be written of the last one.
    lines: u64,
    rest: String,
    rotations: u64,
}

impl Log {
    fn new(dir: &Path, fate: Fate) -> Log {
        let path = dir.join(format!("{fate:?}.log"));
        let log = Log { fate, path, lines: 0, rest: String::new(), rotations: 0 };
        if fate == Fate::Relinked {
            log.relink();
        }
        log
    }

    fn beside(&self, end: &str) -> PathBuf {
        PathBuf::from(format!("{}{end}", self.path.display()))
    }

    /// Writes lines; the last one perhaps in part.
    fn write(&mut self, count: u64, dice: &mut Dice) {
        let mut text = std::mem::take(&mut self.rest);
        for _ in 0..count {
            text.push_str(&format!("line {:06} of {:?}, which is of an ordinary length\n", self.lines, self.fate));
            self.lines += 1;
        }
        let kept = if dice.below(3) == 0 { dice.below(20) as usize } else { 0 };
        self.rest = text.split_off(text.len().saturating_sub(kept));
        self.append(&text);
    }

    fn finish_line(&mut self) {
        let rest = std::mem::take(&mut self.rest);
        self.append(&rest);
    }

    fn append(&self, text: &str) {
        let mut file = OpenOptions::new().create(true).append(true).open(&self.path).expect("opens");
        file.write_all(text.as_bytes()).expect("written");
    }

    /// Rotates; what cannot be read later by its name is read before.
    fn suffer(&mut self, store: &Binnacle) {
        if matches!(self.fate, Fate::Recreated | Fate::Relinked) {
            self.finish_line();
            self.wait_in(store);
        }
        self.rotate();
    }

    /// Whoever rotates does it between two lines.
    fn rotate(&mut self) {
        self.finish_line();
        self.rotations += 1;
        match self.fate {
            Fate::RenamedAndPacked => self.rename_and_pack(),
            Fate::KubeletRotated => self.rotate_as_kubelet(),
            Fate::CopiedAndTruncated => {
                for n in (1..20).rev() {
                    let _ = fs::rename(self.beside(&format!(".{n}")), self.beside(&format!(".{}", n + 1)));
                }
                fs::copy(&self.path, self.beside(".1")).expect("copied");
                File::options().write(true).truncate(true).open(&self.path).expect("truncated");
            }
            Fate::Recreated => fs::remove_file(&self.path).expect("removed"),
            // What a link led to and does not any more can only be read by who had it open.
            Fate::Relinked => self.relink(),
            Fate::LeftAlone => {}
        }
    }

    fn rename_and_pack(&self) {
        for n in (2..20).rev() {
            let _ = fs::rename(self.beside(&format!(".{n}.gz")), self.beside(&format!(".{}.gz", n + 1)));
        }
        if self.beside(".1").exists() {
            pack(&self.beside(".1"), &self.beside(".2.gz"));
        }
        fs::rename(&self.path, self.beside(".1")).expect("rotated");
        self.append("");
    }

    fn rotate_as_kubelet(&self) {
        let stamp = |n: u64| format!(".20261120-{:06}", 100_000 + n);
        let before = self.beside(&stamp(self.rotations - 1));
        if before.exists() {
            let (tmp, packed) = (self.beside(&(stamp(self.rotations - 1) + ".tmp")), stamp(self.rotations - 1) + ".gz");
            pack(&before, &tmp);
            fs::rename(tmp, self.beside(&packed)).expect("packed");
        }
        fs::rename(&self.path, self.beside(&stamp(self.rotations))).expect("rotated");
        self.append("");
    }

    fn relink(&self) {
        let target = self.path.with_file_name(format!("target-{}", self.rotations));
        File::create(&target).expect("created");
        let new = self.path.with_file_name("new-link");
        symlink(&target, &new).expect("linked");
        fs::rename(new, &self.path).expect("swapped");
    }

    fn selector(&self) -> String {
        format!("{{filename=\"{}\"}}", self.path.display())
    }

    fn wait_in(&self, store: &Binnacle) {
        let what = format!("{} lines of {:?}", self.lines, self.fate);
        wait_for(&what, || (store.count_lines(&self.selector()) >= self.lines).then_some(()));
    }

    fn check(&self, store: &Binnacle) {
        self.wait_in(store);
        let lines = store.lines(&self.selector(), 0);
        let mut numbers: Vec<u64> = lines.iter().map(|(_, line)| line[5..11].parse().expect("a number")).collect();
        numbers.sort_unstable();
        let wrong = numbers.iter().zip(0..).position(|(got, expected)| *got != expected);
        let around = wrong.map(|at| &numbers[at.saturating_sub(2)..(at + 3).min(numbers.len())]);
        assert_eq!((wrong, numbers.len() as u64), (None, self.lines), "{:?}: wrong at {around:?}", self.fate);
        assert!(lines.iter().all(|(_, line)| line.ends_with("ordinary length")), "{:?}: a line in parts", self.fate);
    }
}

fn pack(from: &Path, to: &Path) {
    let out = File::create(to).expect("created");
    let status = std::process::Command::new("gzip").arg("-c").arg(from).stdout(out).status();
    assert!(status.expect("gzip runs").success());
    fs::remove_file(from).expect("removed");
}

/// Logs of every fate, each with lines that have arrived.
struct Torture {
    logs: Vec<Log>,
    dice: Dice,
    /// Most lines that are written at once.
    most: u64,
}

impl Torture {
    /// Begins to write; `start` starts whoever reads it.
    fn begin(
        dir: &Path,
        dice: Dice,
        most: u64,
        store: &Binnacle,
        start: impl FnOnce() -> Binnacle,
    ) -> (Torture, Binnacle) {
        let mut torture = Torture { logs: FATES.iter().map(|fate| Log::new(dir, *fate)).collect(), dice, most };
        for log in &mut torture.logs {
            log.write(10, &mut torture.dice);
        }
        let agent = start();
        // A path that was never seen has no past.
        for log in &mut torture.logs {
            log.finish_line();
            log.wait_in(store);
        }
        (torture, agent)
    }

    /// Writes and rotates. What must have been read before it goes is left alone where no store is reached.
    fn round(&mut self, store: Option<&Binnacle>) {
        let (dice, most) = (&mut self.dice, self.most);
        for log in &mut self.logs {
            log.write(dice.below(most), dice);
            for _ in 0..dice.below(3) {
                match store {
                    Some(store) => log.suffer(store),
                    None if matches!(log.fate, Fate::Recreated | Fate::Relinked) => continue,
                    None => log.rotate(),
                }
                log.write(1 + dice.below(most), dice);
            }
        }
    }

    fn check(mut self, store: &Binnacle) {
        for log in &mut self.logs {
            log.finish_line();
            log.check(store);
        }
    }
}

/// How many rounds of torture, and how many lines of a file at once.
fn scale() -> (u64, u64) {
    let given = std::env::var("BINNACLE_TEST_ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
    given.map_or((24, 120), |rounds: u64| (rounds, 400))
}

#[test]
fn every_line_arrives_once_whatever_is_done_to_the_files() {
    let _machine = machine_shared();
    let (rounds, most) = scale();
    let dir = temp_dir();
    let logs_dir = dir.path().join("logs");
    fs::create_dir(&logs_dir).expect("created");
    let store_dir = dir.path().join("store");
    let mut store = Binnacle::start(&store_dir, &["--agent.disabled"]);
    let address = store.url("").replace("http://", "");
    let (push, glob) =
        (format!("--agent.push-url={}", store.url("")), format!("--agent.logs.path={}/*.log", logs_dir.display()));
    let start_agent = || Binnacle::start(dir.path(), &["agent", &push, &glob]);
    let (mut torture, mut agent) = Torture::begin(&logs_dir, Dice::new("torture"), most, &store, start_agent);
    for _ in 0..rounds {
        torture.round(Some(&store));
        if torture.dice.below(2) == 0 {
            agent.kill();
            agent = start_agent();
        }
        if torture.dice.below(6) == 0 {
            store.kill();
            store = Binnacle::start_at(&store_dir, &["--agent.disabled"], &address);
            store.wait_ready();
        }
    }
    torture.check(&store);
    agent.expect_warning("records are not taken");
    agent.stop();
    store.stop();
}

/// The agent's clock is set back and forth within the last hour, by faketime, which asks a file each time.
#[test]
fn every_line_arrives_once_though_the_clock_jumps() {
    let _machine = machine_shared();
    let Some(faketime) = std::env::var_os("BINNACLE_TEST_FAKETIME") else {
        assert!(!full(), "make test needs faketime");
        return;
    };
    let (rounds, most) = scale();
    let dir = temp_dir();
    let (logs_dir, clock) = (dir.path().join("logs"), dir.path().join("clock"));
    fs::create_dir(&logs_dir).expect("created");
    let set_back = |minutes: u64| {
        fs::write(dir.path().join("next"), format!("-{minutes}m\n")).expect("written");
        fs::rename(dir.path().join("next"), &clock).expect("renamed");
    };
    set_back(0);
    let store = Binnacle::start(&dir.path().join("store"), &["--agent.disabled"]);
    let start_agent = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_binnacle"));
        command.arg("agent").arg(format!("--agent.push-url={}", store.url("")));
        command.arg(format!("--agent.logs.path={}/*.log", logs_dir.display()));
        command.env("LD_PRELOAD", &faketime).env("FAKETIME_TIMESTAMP_FILE", &clock).env("FAKETIME_NO_CACHE", "1");
        command.env("DONT_FAKE_MONOTONIC", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("NO_FAKE_STAT", "1");
        Binnacle::spawn(dir.path(), command)
    };
    let (mut torture, mut agent) = Torture::begin(&logs_dir, Dice::new("clock"), most, &store, start_agent);
    for _ in 0..rounds / 2 {
        set_back(torture.dice.below(50));
        torture.round(Some(&store));
        if torture.dice.below(3) == 0 {
            agent.kill();
            agent = start_agent();
        }
    }
    torture.check(&store);
    agent.stop();
    store.stop();
}

/// A broker of its own under the agent: killed and started again on what it had, with the agent and without.
#[test]
fn every_line_arrives_once_though_the_broker_stops_and_starts() {
    let _machine = machine_shared();
    if !full() {
        return;
    }
    let (rounds, most) = scale();
    let dir = temp_dir();
    let logs_dir = dir.path().join("logs");
    fs::create_dir(&logs_dir).expect("created");
    let broker = OwnBroker::start(&dir.path().join("kafka"));
    let kafka = format!("--bus.kafka.brokers={}", broker.address);
    let glob = format!("--agent.logs.path={}/*.log", logs_dir.display());
    let start_agent = || Binnacle::start(dir.path(), &["agent", &kafka, &glob]);
    let mut store = Binnacle::start(&dir.path().join("store"), &["indexer", &kafka]);
    let (mut torture, mut agent) = Torture::begin(&logs_dir, Dice::new("broker"), most, &store, start_agent);
    for stop in 0..3 {
        broker.kill();
        for _ in 0..rounds / 6 {
            torture.round(None);
        }
        if stop == 1 {
            // One that starts meanwhile waits for the broker.
            agent.kill();
            agent = std::thread::scope(|scope| {
                let starting = scope.spawn(start_agent);
                broker.start_again();
                starting.join().expect("it starts")
            });
        } else {
            broker.start_again();
        }
        torture.round(Some(&store));
    }
    torture.check(&store);
    for process in [&mut agent, &mut store] {
        process.expect_warning("librdkafka");
        process.expect_warning("Kafka consumer");
    }
    // Those of now are of little use later.
    agent.expect_warning("samples were not taken in time and are dropped");
    agent.stop();
    store.stop();
}

/// Apache Kafka for one test.
struct OwnBroker {
    dir: PathBuf,
    address: String,
}

impl OwnBroker {
    fn start(dir: &Path) -> OwnBroker {
        let said = kafka_sh("start", dir);
        let address = said.lines().find_map(|line| line.strip_prefix("BINNACLE_TEST_KAFKA=")).expect("it says where");
        OwnBroker { dir: dir.to_owned(), address: address.to_owned() }
    }

    fn kill(&self) {
        kafka_sh("kill", &self.dir);
    }

    fn start_again(&self) {
        kafka_sh("again", &self.dir);
    }
}

impl Drop for OwnBroker {
    fn drop(&mut self) {
        kafka_sh("stop", &self.dir);
    }
}

fn kafka_sh(what: &str, dir: &Path) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kafka.sh");
    let output = Command::new(script).arg(what).arg(dir).output().expect("kafka.sh runs");
    assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A small file system of its own, which outlives the agents that use it.
struct SmallDisk {
    holder: Child,
    path: PathBuf,
}

impl SmallDisk {
    fn mount(path: &Path) -> SmallDisk {
        fs::create_dir_all(path).expect("created");
        let script = format!("mount -t tmpfs -o size=1m tmpfs '{}' && echo mounted && exec cat", path.display());
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = command.spawn().expect("unshare starts");
        let mut said = [0; 8];
        std::io::Read::read_exact(holder.stdout.as_mut().expect("piped"), &mut said).expect("mounted");
        SmallDisk { holder, path: path.to_owned() }
    }

    /// A path on it, from outside its mount namespace.
    fn inside(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{}/{name}", self.holder.id(), self.path.display()))
    }

    fn fill(&self) {
        let mut file = File::create(self.inside("filler")).expect("created");
        for size in [65_536, 1] {
            while file.write_all(&[0; 65_536][..size]).is_ok() {}
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.holder.id().to_string(), "-m", env!("CARGO_BIN_EXE_binnacle")]);
        command
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// Without room for its checkpoint an agent ships on what it knows and begins no new file; `kill -9` then costs and repeats
/// nothing, and once there is room all of it has arrived once.
#[test]
fn a_full_disk_under_the_checkpoint_loses_and_repeats_nothing() {
    let dir = temp_dir();
    let logs_dir = dir.path().join("logs");
    fs::create_dir(&logs_dir).expect("created");
    let store = Binnacle::start(&dir.path().join("store"), &["--agent.disabled"]);
    let disk = SmallDisk::mount(&dir.path().join("data"));
    let start = || {
        let mut command = disk.command();
        command.arg("agent").arg(format!("--agent.push-url={}", store.url("")));
        command.arg(format!("--agent.logs.path={}/*.log", logs_dir.display()));
        Binnacle::spawn(dir.path(), command)
    };
    let append = |name: &str, from: usize, upto: usize| {
        let text: String = (from..upto).map(|n| format!("line {n} of {name}\n")).collect();
        let mut file = OpenOptions::new().create(true).append(true).open(logs_dir.join(name)).expect("opens");
        file.write_all(text.as_bytes()).expect("written");
    };
    let selector = |name: &str| format!("{{filename=\"{}\"}}", logs_dir.join(name).display());
    let wait_for_lines = |name: &str, count: u64| {
        let counted = || store.count_lines(&selector(name));
        wait_for(&format!("{count} lines of {name}"), || (counted() >= count).then_some(()));
    };
    append("known.log", 0, 100);
    let agent = start();
    wait_for_lines("known.log", 100);
    disk.fill();
    append("known.log", 100, 200);
    append("new.log", 0, 50);
    wait_for_lines("known.log", 200);
    agent.kill();
    let mut agent = start();
    agent.expect_warning("No space left");
    append("known.log", 200, 300);
    wait_for_lines("known.log", 300);
    fs::remove_file(disk.inside("filler")).expect("removed");
    append("known.log", 300, 301);
    wait_for_lines("known.log", 301);
    wait_for_lines("new.log", 50);
    for (name, count) in [("known.log", 301), ("new.log", 50)] {
        let texts: Vec<String> = store.lines(&selector(name), 0).into_iter().map(|(_, line)| line).collect();
        assert_eq!(texts, (0..count).map(|n| format!("line {n} of {name}")).collect::<Vec<_>>());
    }
    agent.stop();
    store.stop();
}

const MANY: usize = 10_000;

/// Changes the names of a directory every few milliseconds, until it is dropped.
struct Restless(Arc<AtomicBool>, Option<std::thread::JoinHandle<()>>);

impl Restless {
    fn start(dir: &Path) -> Restless {
        let is_over = Arc::new(AtomicBool::new(false));
        let (over, [here, there]) = (is_over.clone(), ["restless.tmp", "restless.tmp.1"].map(|name| dir.join(name)));
        let change = move || {
            while !over.load(Ordering::Relaxed) {
                fs::write(&here, "of no interest\n").and_then(|()| fs::rename(&here, &there)).expect("writable");
                std::thread::park_timeout(Duration::from_millis(3));
            }
        };
        Restless(is_over, Some(std::thread::spawn(change)))
    }
}

impl Drop for Restless {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        let _ = self.1.take().map(std::thread::JoinHandle::join);
    }
}

/// Ten thousand files, written to between kills of the agent; some of them are begun anew under the inode of one that is
/// gone. Their directory never stands still: the agent once read nothing then, and did not hear that it should stop.
#[test]
fn ten_thousand_files_are_read_once_each_through_kills_and_reused_inodes() {
    let _machine = machine_shared();
    let dir = temp_dir();
    let logs_dir = dir.path().join("logs");
    fs::create_dir(&logs_dir).expect("created");
    let store = Binnacle::start(&dir.path().join("store"), &["--agent.disabled"]);
    let config = dir.path().join("agent.yml");
    // One stream for all: ten thousand would be another test.
    let relabel = "relabel_configs: [{action: labeldrop, regex: filename}], labels: {job: many}";
    let text = format!("logs: {{sources: [{{paths: ['{}/*.log'], {relabel}}}]}}\n", logs_dir.display());
    fs::write(&config, text).expect("written");
    let arguments = [format!("--agent.push-url={}", store.url("")), format!("--config.file={}", config.display())];
    let start = || Binnacle::start(dir.path(), &["agent", &arguments[0], &arguments[1]]);
    let path = |n: usize| logs_dir.join(format!("{n}.log"));
    let append = |n: usize, text: &str| {
        let mut file = OpenOptions::new().create(true).append(true).open(path(n)).expect("opens");
        file.write_all(text.as_bytes()).expect("written");
    };
    let wait_for_lines = |count: usize| {
        let counted = || store.count_lines("{job=\"many\"}") as usize;
        wait_for(&format!("{count} lines"), || (counted() >= count).then_some(()));
    };
    let mut dice = Dice::new("many files");
    for n in 0..MANY {
        // Every other line is not at its end when the agent finds it.
        append(n, if n % 2 == 0 { "first\n" } else { "fir" });
    }
    let restless = Restless::start(&logs_dir);
    let agent = start();
    wait_for_lines(MANY / 2 * usize::from(dice.below(2) == 0));
    agent.kill();
    for n in 0..MANY {
        append(n, if n % 2 == 0 { "second\n" } else { "st\nsecond\n" });
    }
    let agent = start();
    wait_for_lines(2 * MANY);
    // A file that is gone leaves its inode to the next.
    for n in (0..MANY).step_by(100) {
        fs::remove_file(path(n)).expect("removed");
        append(n, "third, in another file\n");
    }
    wait_for_lines(2 * MANY + MANY / 100);
    agent.kill();
    let agent = start();
    append(1, "last\n");
    wait_for_lines(2 * MANY + MANY / 100 + 1);
    let mut counts = std::collections::BTreeMap::new();
    for text in ["first", "second", "third, in another file", "last"] {
        counts.insert(text, store.count_lines(&format!("{{job=\"many\"}} |~ \"^{text}$\"")) as usize);
    }
    let expected = [("first", MANY), ("second", MANY), ("third, in another file", MANY / 100), ("last", 1)];
    assert_eq!(counts, std::collections::BTreeMap::from(expected));
    agent.stop();
    drop(restless);
    store.stop();
}
