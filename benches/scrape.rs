//! `cargo bench --bench scrape`: what scraping costs on this machine, beside vmagent where `BINNACLE_BENCH_VMAGENT` names it.
//!
//! 1,000 targets of 1,000 series each, every 10 seconds, over HTTP as Go's client serves it (text, gzip, connections that are
//! kept), sent on by remote write 1.0 to a receiver that takes everything. One agent after the other, the same targets. CPU
//! seconds of a second and peak memory of each, and how many samples arrived.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

#[path = "support/cost.rs"]
mod cost;
#[expect(dead_code, reason = "the tests use the rest")]
#[path = "../tests/end_to_end/harness.rs"]
mod harness;

use cost::cost;
use harness::{Binnacle, temp_dir};

const TARGETS: usize = 1000;
const SERIES: usize = 1000;
/// Targets answer with these in turn.
const BODIES: usize = 8;
/// Before measuring: every target was scraped twice.
const WARM: Duration = Duration::from_secs(25);
const WATCHED: Duration = Duration::from_secs(40);

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let world = Arc::new(World { bodies: (0..BODIES).map(answer).collect(), ..World::default() });
    let listener = runtime.block_on(TcpListener::bind("0.0.0.0:0")).expect("a port");
    let port = listener.local_addr().expect("bound").port();
    runtime.spawn(serve(listener, world.clone()));
    let body_kb = world.bodies[0].len() / 1000;
    println!("{TARGETS} targets of {SERIES} series ({body_kb} kB packed) every 10 s, for {} s", WATCHED.as_secs());

    let dir = temp_dir();
    let config = dir.path().join("agent.yml");
    let sends = format!("remote_write: [{{url: 'http://127.0.0.1:{port}/write'}}]\n");
    fs::write(&config, jobs(port) + &sends).expect("written");
    let agent = Binnacle::start(dir.path(), &["agent", &format!("--config.file={}", config.display())]);
    watch("binnacle", agent.pid(), &world);
    drop(agent);

    let Some(binary) = std::env::var_os("BINNACLE_BENCH_VMAGENT") else { return };
    let vmagent = vmagent(Path::new(&binary), port);
    watch("vmagent", vmagent.0.id(), &world);
}

/// The same jobs for everybody: addresses of the loopback network, all served by one listener.
fn jobs(port: u16) -> String {
    let targets: Vec<String> = (0..TARGETS).map(|n| format!("'127.1.{}.{}:{port}'", n / 250, n % 250 + 1)).collect();
    format!(
        "global: {{scrape_interval: 10s}}\nscrape_configs: [{{job_name: bench, static_configs: [{{targets: [{}]}}]}}]\n",
        targets.join(", ")
    )
}

struct Vmagent(Child, #[expect(dead_code, reason = "deleted with it")] tempfile::TempDir);

impl Drop for Vmagent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn vmagent(binary: &Path, port: u16) -> Vmagent {
    let dir = temp_dir();
    let config = dir.path().join("prometheus.yml");
    fs::write(&config, jobs(port)).expect("written");
    // Old ones know no other protocol.
    let help = Command::new(binary).arg("-help").output().expect("vmagent runs");
    let force = "-remoteWrite.forcePromProto";
    let knows_force = String::from_utf8_lossy(&[help.stdout, help.stderr].concat()).contains(force);
    let child = Command::new(binary)
        .args(knows_force.then_some(force))
        .arg(format!("-promscrape.config={}", config.display()))
        .arg(format!("-remoteWrite.url=http://127.0.0.1:{port}/write"))
        .arg(format!("-remoteWrite.tmpDataPath={}", dir.path().join("queue").display()))
        .arg("-httpListenAddr=127.0.0.1:0")
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn();
    Vmagent(child.expect("vmagent starts"), dir)
}

fn watch(name: &str, pid: u32, world: &World) {
    std::thread::park_timeout(WARM);
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (start, before) = (Instant::now(), cost(pid).0);
    let (scrapes, received) = (count(&world.scrapes), count(&world.received_bytes));
    while start.elapsed() < WATCHED {
        std::thread::park_timeout(WATCHED - start.elapsed());
    }
    let (cpu_s, peak_mib) = cost(pid);
    let took = start.elapsed().as_secs_f64();
    println!(
        "  {name:<9} {:>6.3} of a core   {peak_mib:>4.0} MiB peak   {:>5.1} scrapes/s   {:>5.2} MB/s sent",
        (cpu_s - before) / took,
        (count(&world.scrapes) - scrapes) as f64 / took,
        (count(&world.received_bytes) - received) as f64 / 1e6 / took,
    );
}

#[derive(Default)]
struct World {
    bodies: Vec<Vec<u8>>,
    scrapes: AtomicU64,
    received_bytes: AtomicU64,
}

async fn serve(listener: TcpListener, world: Arc<World>) {
    while let Ok((stream, _)) = listener.accept().await {
        let world = world.clone();
        tokio::spawn(async move {
            // Whoever goes away is not missed.
            let _ = converse(stream, &world).await;
        });
    }
}

/// Answers requests of one connection: a scrape, or a write.
async fn converse(stream: TcpStream, world: &World) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    loop {
        let (mut is_write, mut length, mut is_first) = (false, 0u64, true);
        loop {
            line.clear();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            if is_first {
                is_write = line.starts_with("POST");
            }
            is_first = false;
            let header = line.trim_end().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        tokio::io::copy(&mut (&mut stream).take(length), &mut tokio::io::sink()).await?;
        if is_write {
            world.received_bytes.fetch_add(length, Ordering::Relaxed);
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await?;
        } else {
            let n = world.scrapes.fetch_add(1, Ordering::Relaxed) as usize;
            // Each target sees another body each time.
            stream.write_all(&world.bodies[(n + n / TARGETS) % BODIES]).await?;
        }
    }
}

/// A whole answer: headers, and the packed text of a program with histograms and counters.
fn answer(turn: usize) -> Vec<u8> {
    let mut text = String::new();
    let mut written = 0;
    let mut family = 0;
    while written < SERIES {
        let name = format!("app_component_{family:02}_requests_total");
        let _ = writeln!(text, "# HELP {name} Requests that component {family} has served.\n# TYPE {name} counter");
        for n in 0..25.min(SERIES - written) {
            // A third stands still.
            let value = if n % 3 == 0 { n * 977 } else { n * 1013 + family * 17 + turn * (n + 1) };
            let _ = writeln!(
                text,
                "{name}{{method=\"GET\",handler=\"/api/v1/things/{n}\",code=\"200\",zone=\"eu-west-1a\"}} {value}{}",
                if family % 4 == 0 { ".125" } else { "" }
            );
            written += 1;
        }
        family += 1;
    }
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packer.write_all(text.as_bytes()).expect("memory");
    let body = packer.finish().expect("memory");
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.into_bytes(), body].concat()
}
