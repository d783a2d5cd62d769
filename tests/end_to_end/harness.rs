//! Starts the real binary and asks it things. A test waits for conditions with a deadline; nothing here sleeps blindly.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use model::Labels;
use serde_json::Value;

/// How long any awaited condition may take.
pub const DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

/// Whether the suites that need minutes, Kafka or a browser run in full; `make test` sets this.
pub fn full() -> bool {
    std::env::var_os("BINNACLE_TEST_FULL").is_some()
}

/// Held by tests that need the machine for themselves, since they look at the clock, and shared by those that keep it busy.
static MACHINE: RwLock<()> = RwLock::new(());

pub fn machine_alone() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write().unwrap_or_else(PoisonError::into_inner)
}

pub fn machine_shared() -> RwLockReadGuard<'static, ()> {
    MACHINE.read().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until `probe` gives something, or fails the test with `what`.
pub fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(start.elapsed() < DEADLINE, "waited {DEADLINE:?} for {what}");
        std::thread::park_timeout(POLL);
    }
}

/// What the process wrote to stderr so far.
#[derive(Default)]
struct Output {
    lines: Mutex<Vec<String>>,
    more: Condvar,
}

/// A running `binnacle`. Dropped, it is killed.
pub struct Binnacle {
    child: Child,
    output: Arc<Output>,
    address: String,
    client: reqwest::blocking::Client,
    expected: Vec<String>,
}

impl Binnacle {
    /// Starts the binary with data under `dir` on a free port and waits until it listens.
    pub fn start(dir: &Path, arguments: &[&str]) -> Binnacle {
        let mut command = Command::new(env!("CARGO_BIN_EXE_binnacle"));
        command.args(arguments);
        Self::spawn(dir, command)
    }

    /// Like [`Binnacle::start`], on an address that others know.
    pub fn start_at(dir: &Path, arguments: &[&str], address: &str) -> Binnacle {
        let mut command = Command::new(env!("CARGO_BIN_EXE_binnacle"));
        command.args(arguments);
        Self::spawn_at(dir, command, address)
    }

    /// Like [`Binnacle::start`], with a command that ends in running the binary (`setpriv …`, `unshare …`).
    pub fn spawn(dir: &Path, command: Command) -> Binnacle {
        Self::spawn_at(dir, command, "127.0.0.1:0")
    }

    fn spawn_at(dir: &Path, mut command: Command, address: &str) -> Binnacle {
        let child = command
            .arg(format!("--storage.path={}", dir.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--log.level=info")
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("binnacle starts");
        service::http::install_tls_provider();
        let mut running = Binnacle {
            child,
            output: Arc::default(),
            address: String::new(),
            client: reqwest::blocking::Client::builder().timeout(DEADLINE).build().expect("a client"),
            expected: Vec::new(),
        };
        running.collect_output();
        let line = running.wait_for_line("address=");
        let (_, address) = line.rsplit_once("address=").expect("just matched");
        running.address = address.trim().to_owned();
        assert!(running.catches_sigterm(), "whoever stops a process that says it listens must not kill it instead");
        running
    }

    /// Whether SIGTERM has a handler: its bit in `SigCgt` of `/proc/PID/status`.
    fn catches_sigterm(&self) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("a process has a status");
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("Linux says what is caught");
        let caught = u64::from_str_radix(caught.trim(), 16).expect("a mask");
        caught & 1 << (rustix::process::Signal::TERM.as_raw() - 1) != 0
    }

    fn collect_output(&mut self) {
        let stderr = self.child.stderr.take().expect("stderr is piped");
        let output = self.output.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if std::env::var_os("BINNACLE_TEST_SHOW").is_some() {
                    eprintln!("| {line}");
                }
                output.lines.lock().expect("no panic while held").push(line);
                output.more.notify_all();
            }
        });
    }

    /// Waits for a line on stderr that holds `part`.
    pub fn wait_for_line(&self, part: &str) -> String {
        let find = |lines: &Vec<String>| lines.iter().find(|line| line.contains(part)).cloned();
        let lines = self.output.lines.lock().expect("no panic while held");
        let (lines, _) = self
            .output
            .more
            .wait_timeout_while(lines, DEADLINE, |lines| find(lines).is_none())
            .expect("no panic while held");
        find(&lines).unwrap_or_else(|| panic!("no line with {part:?} on stderr:\n{}", lines.join("\n")))
    }

    /// A WARN or ERROR line that holds this is part of the test.
    pub fn expect_warning(&mut self, part: &str) {
        self.expected.push(part.to_owned());
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn client(&self) -> &reqwest::blocking::Client {
        &self.client
    }

    pub fn wait_ready(&self) {
        wait_for("/-/ready", || self.status("/-/ready").filter(|status| *status == 200));
    }

    /// The status of a GET, or nothing while nobody answers.
    pub fn status(&self, path: &str) -> Option<u16> {
        Some(self.client.get(self.url(path)).send().ok()?.status().as_u16())
    }

    /// A GET that must succeed.
    pub fn get(&self, path: &str, params: &[(&str, &str)]) -> Value {
        let response = self.client.get(self.url(path)).query(params).send().expect("an answer");
        let (status, text) = (response.status(), response.text().expect("a body"));
        assert!(status.is_success(), "GET {path} {params:?}: {status} {text}");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("GET {path}: {error}: {text}"))
    }

    /// An instant PromQL query: label sets and values.
    pub fn query(&self, expr: &str) -> Vec<(Labels, f64)> {
        read_vector(&self.get("/api/v1/query", &[("query", expr)])["data"])
    }

    /// The one value of an instant query, if it has exactly one.
    pub fn value(&self, expr: &str) -> Option<f64> {
        let found = self.query(expr);
        (found.len() == 1).then(|| found[0].1)
    }

    /// All lines of a log query since `start_ns`, oldest first, page by page.
    pub fn lines(&self, expr: &str, start_ns: i64) -> Vec<(i64, String)> {
        const PAGE: usize = 5000;
        let mut lines: Vec<(i64, String)> = Vec::new();
        let mut from_ns = start_ns;
        loop {
            let page = self.line_page(expr, from_ns, PAGE);
            let is_last = page.len() < PAGE;
            // The bound is inclusive: lines of the last instant may come again.
            let known = lines.len();
            let last_ns = lines.last().map_or(i64::MIN, |line| line.0);
            let repeated: Vec<_> = lines.iter().rev().take_while(|line| line.0 == last_ns).cloned().collect();
            lines.extend(page.into_iter().filter(|line| !repeated.contains(line)));
            assert!(is_last || lines.len() > known, "a page brought nothing new: too many lines at one instant");
            if is_last {
                return lines;
            }
            from_ns = lines.last().expect("a full page").0;
        }
    }

    fn line_page(&self, expr: &str, start_ns: i64, limit: usize) -> Vec<(i64, String)> {
        let (start, end) = (start_ns.to_string(), (model::now_ns() + 3_600_000_000_000).to_string());
        let limit = limit.to_string();
        let params = [("query", expr), ("start", &start), ("end", &end), ("limit", &limit), ("direction", "forward")];
        let answer = self.get("/loki/api/v1/query_range", &params);
        let mut lines = Vec::new();
        for stream in answer["data"]["result"].as_array().expect("streams") {
            for entry in stream["values"].as_array().expect("entries") {
                let t_ns = entry[0].as_str().expect("a time").parse().expect("nanoseconds");
                lines.push((t_ns, entry[1].as_str().expect("a line").to_owned()));
            }
        }
        lines.sort_by_key(|line| line.0);
        lines
    }

    /// How many lines a selector has in the last hour.
    pub fn count_lines(&self, selector: &str) -> u64 {
        let expr = format!("sum(count_over_time({selector}[1h]))");
        let answer = self.get("/loki/api/v1/query", &[("query", &expr)]);
        read_vector(&answer["data"]).first().map_or(0, |(_, value)| *value as u64)
    }

    pub fn flush(&self) {
        let response = self.client.post(self.url("/-/flush")).send().expect("an answer");
        assert_eq!(response.status().as_u16(), 204, "{}", response.text().unwrap_or_default());
    }

    /// `kill -9`: nothing is written after this.
    pub fn kill(mut self) {
        self.child.kill().expect("SIGKILL");
        self.child.wait().expect("reaped");
        self.expected.push(String::new());
    }

    /// SIGTERM; the process must end by itself with 0 and must not have warned of anything unexpected.
    pub fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("SIGTERM");
        let status = wait_for("the process to end", || self.child.try_wait().expect("waitable"));
        assert!(status.success(), "{status}\n{}", self.text());
        self.check_warnings();
    }

    pub fn text(&self) -> String {
        self.output.lines.lock().expect("no panic while held").join("\n")
    }

    fn check_warnings(&self) {
        for line in self.output.lines.lock().expect("no panic while held").iter() {
            let is_warning = line.contains(" WARN ") || line.contains(" ERROR ") || line.contains("panicked");
            let is_expected = self.expected.iter().any(|part| line.contains(part));
            assert!(!is_warning || is_expected, "unexpected on stderr: {line}");
        }
    }
}

impl Drop for Binnacle {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- stderr of binnacle ---\n{}", self.text());
        }
    }
}

fn read_vector(data: &Value) -> Vec<(Labels, f64)> {
    let number = |pair: &Value| pair[1].as_str().expect("a value").parse().expect("a number");
    if data["resultType"] == "scalar" {
        return vec![(Labels::default(), number(&data["result"]))];
    }
    let result = data["result"].as_array().expect("a vector");
    let labels = |value: &Value| serde_json::from_value(value.clone()).expect("labels");
    result.iter().map(|one| (labels(&one["metric"]), number(&one["value"]))).collect()
}

/// A directory for one test; removed when dropped, and never under a path that the agent tails by default.
pub fn temp_dir() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("binnacle-test-").tempdir().expect("a temporary directory")
}

/// The repository's root.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// xorshift64*: the same moves for the same seed.
pub struct Dice(u64);

impl Dice {
    /// Seeded by `BINNACLE_TEST_SEED`, or by the clock; printed, so that a failure can be played again.
    pub fn new(name: &str) -> Dice {
        let given = std::env::var("BINNACLE_TEST_SEED").ok().and_then(|text| text.parse().ok());
        let seed = given.unwrap_or_else(|| model::now_ns() as u64).max(1);
        eprintln!("{name}: BINNACLE_TEST_SEED={seed}");
        Dice(seed)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % bound.max(1)
    }
}
