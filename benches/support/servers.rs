//! Servers under measurement: Binnacle and its peers, each a process of its own with a directory of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::harness::wait_for;

/// A running server; killed when dropped.
pub struct Server {
    pub name: &'static str,
    pub child: Child,
    pub url: String,
    pub dir: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Binnacle, and the peers whose binaries `BINNACLE_BENCH_VICTORIA` and `BINNACLE_BENCH_PROMETHEUS` name.
/// `BINNACLE_BENCH_BINARY` replaces the binary that cargo built.
pub fn binaries() -> Vec<(&'static str, PathBuf)> {
    let own = std::env::var_os("BINNACLE_BENCH_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_binnacle").into());
    let peers =
        [("victoria-metrics", "BINNACLE_BENCH_VICTORIA"), ("prometheus", "BINNACLE_BENCH_PROMETHEUS")].into_iter();
    let peers = peers.filter_map(|(name, variable)| Some((name, PathBuf::from(std::env::var_os(variable)?))));
    [("binnacle", PathBuf::from(own))].into_iter().chain(peers).collect()
}

/// Starts a server with its data in `<base>/<name>/data`, and waits until it answers.
pub fn start(name: &'static str, binary: &Path, base: &Path) -> Server {
    let dir = base.join(name);
    std::fs::create_dir_all(&dir).expect("created");
    let address = format!("127.0.0.1:{}", free_port());
    let data = dir.join("data").display().to_string();
    let mut command = Command::new(binary);
    match name {
        "binnacle" => command.args([
            format!("--storage.path={data}"),
            format!("--web.listen-address={address}"),
            "--agent.disabled".to_owned(),
        ]),
        "victoria-metrics" => command.args([
            format!("-storageDataPath={data}"),
            format!("-httpListenAddr={address}"),
            "-retentionPeriod=1".to_owned(),
        ]),
        "victoria-logs" => command.args([
            format!("-storageDataPath={data}"),
            format!("-httpListenAddr={address}"),
            "-retentionPeriod=7d".to_owned(),
        ]),
        _ => {
            let config = dir.join("prometheus.yml");
            std::fs::write(&config, "global: {}\n").expect("written");
            command.args([
                format!("--config.file={}", config.display()),
                format!("--storage.tsdb.path={data}"),
                format!("--web.listen-address={address}"),
                "--web.enable-remote-write-receiver".to_owned(),
            ])
        }
    };
    let log = std::fs::File::create(dir.join("log")).expect("created");
    let child = command.stderr(log).stdout(Stdio::null()).spawn().expect("the server starts");
    let url = format!("http://{address}");
    let path = if name.starts_with("victoria-") { "/health" } else { "/-/ready" };
    service::http::install_tls_provider();
    let is_ready = || reqwest::blocking::get(format!("{url}{path}")).is_ok_and(|answer| answer.status().is_success());
    wait_for(name, || is_ready().then_some(()));
    Server { name, child, url, dir }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port()
}

impl Server {
    /// CPU seconds so far, from fields 14 and 15 of proc(5) stat: ticks of 10 ms.
    pub fn cpu_s(&self) -> f64 {
        let stat = self.proc("stat");
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        fields.get(11..13).into_iter().flatten().filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
    }

    /// The most memory that was resident, in MiB.
    pub fn peak_mib(&self) -> f64 {
        self.memory_mib("VmHWM:")
    }

    /// What is resident now, in MiB.
    pub fn resident_mib(&self) -> f64 {
        self.memory_mib("VmRSS:")
    }

    fn memory_mib(&self, field: &str) -> f64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        line.and_then(|text| text.trim().trim_end_matches(" kB").parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
    }

    /// Bytes of parts that were written, for each byte that came from heads; of Binnacle.
    pub fn write_amplification(&self, client: &reqwest::blocking::Client) -> f64 {
        let answer = client.get(format!("{}/metrics", self.url)).send().and_then(|answer| answer.text());
        let text = answer.expect("metrics");
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|value| value.parse::<f64>().ok()).expect("a counter")
        };
        let [flushed, merged] =
            ["binnacle_tsdb_part_flushed_bytes_total", "binnacle_tsdb_part_merged_bytes_total"].map(value);
        (flushed + merged) / flushed
    }

    fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).unwrap_or_default()
    }

    /// Makes the server write all it has, merged as far as it goes; Prometheus offers no such thing.
    pub fn flush(&self, client: &reqwest::blocking::Client) {
        let paths: &[&str] = match self.name {
            "victoria-metrics" => &["/internal/force_flush", "/internal/force_merge"],
            "binnacle" => &["/-/flush"],
            _ => &[],
        };
        for path in paths {
            let answer = client.post(format!("{}{path}", self.url)).send().expect("an answer");
            assert!(answer.status().is_success(), "{path}: {}", answer.status());
        }
    }
}

/// The bytes of all files below a directory.
pub fn directory_bytes(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| {
            if entry.path().is_dir() { directory_bytes(&entry.path()) } else { entry.metadata().map_or(0, |m| m.len()) }
        })
        .sum()
}
