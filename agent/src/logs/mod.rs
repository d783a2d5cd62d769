//! Logs: found, tailed, parsed, named, shipped.
//!
//! [`discover`] finds paths, [`chain`] keeps each path's files in order through rotation, [`reader`] and [`lines`] turn
//! bytes into messages, which [`multiline`] joins, [`parse`] understands, [`filter`] redacts and drops and [`compose`] makes
//! batches of, with ranges. [`enrich`] names them, [`ship`] makes them durable on the bus, and [`checkpoint`] remembers.
//! [`tail`] is the thread that does it all, and states what holds after `kill -9`.

pub mod chain;
pub mod checkpoint;
pub mod compose;
pub mod discover;
pub mod dry_run;
pub mod encoding;
pub mod enrich;
pub mod event;
pub mod filter;
pub mod identity;
pub mod lines;
pub mod multiline;
pub mod parse;
pub mod paths;
pub mod pods;
pub mod reader;
pub mod rotation;
pub mod ship;
pub mod snapshot;
pub mod tail;
pub mod watch;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use bus::Producer;
use disk::Disk;
use parking_lot::Mutex;
use serde::Serialize;
use service::config::LogSource;
use service::metrics::{Counter, Family, Gauge, Metrics};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use checkpoint::{CheckpointError, CheckpointFile};
use discover::{Discovery, Source, SourceError};
use event::Event;
use filter::Reason;
use identity::FileKey;
use pods::Pods;
use ship::Shipper;
use tail::{State, Tailer};
use watch::Watch;

/// The path that stands for systemd's journal, which is no file to tail, and the label `filename` of its lines.
pub const JOURNAL: &str = "journal";

/// A tailed file, for people.
#[derive(Debug, Clone, Serialize)]
pub struct FileStatus {
    pub path: String,
    pub id: String,
    pub offset: u64,
    pub size: u64,
    pub format: &'static str,
    /// `open`, `done`, or `left alone`.
    pub state: &'static str,
}

/// How far a line came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Read,
    Acknowledged,
    Dropped,
}

type FileLabels = [(&'static str, String); 1];
/// Files whose lag is told one by one.
const MAX_LAG_FILES: usize = 50;

type StageLabels = [(&'static str, &'static str); 1];

/// Counters of the tailer.
#[derive(Clone, Default)]
pub struct LogCounters {
    lines: Family<StageLabels, Counter>,
    dropped: Family<StageLabels, Counter>,
    pub bytes_read: Counter,
    pub truncated: Counter,
    pub invalid_utf8: Counter,
    pub files: Gauge,
    pub unread_bytes: Gauge,
    /// Of the files that are furthest behind.
    lag_bytes: Family<FileLabels, Gauge>,
    lag_seconds: Family<FileLabels, Gauge>,
}

impl LogCounters {
    pub fn lines(&self, stage: Stage, count: u64) {
        self.lines.get_or_create(&[("stage", stage.name())]).inc_by(count);
    }

    pub fn dropped(&self, reason: Reason, count: u64) {
        self.dropped.get_or_create(&[("reason", reason.name())]).inc_by(count);
    }

    /// Tells how far files are behind: bytes and time by path.
    fn lag(&self, mut behind: Vec<((u64, Duration), String)>) {
        behind.sort_unstable_by(|(a, _), (b, _)| b.cmp(a));
        self.lag_bytes.clear();
        self.lag_seconds.clear();
        for ((bytes, since), path) in behind.into_iter().take(MAX_LAG_FILES) {
            let labels = [("filename", path)];
            self.lag_bytes.get_or_create(&labels).set(i64::try_from(bytes).unwrap_or(i64::MAX));
            self.lag_seconds.get_or_create(&labels).set(since.as_secs() as i64);
        }
    }

    /// Of lines dropped so far.
    #[cfg(test)]
    pub fn dropped_of(&self, reason: Reason) -> u64 {
        self.dropped.get_or_create(&[("reason", reason.name())]).get()
    }

    /// Counters that are exposed.
    pub fn registered(metrics: &Metrics) -> LogCounters {
        let counters = LogCounters::default();
        counters.register(metrics);
        counters
    }

    fn register(&self, metrics: &Metrics) {
        for reason in Reason::ALL {
            self.dropped(reason, 0);
        }
        for stage in [Stage::Read, Stage::Acknowledged, Stage::Dropped] {
            self.lines(stage, 0);
        }
        metrics.register(|registry| {
            registry.register("agent_lines", "Log lines by how far they came", self.lines.clone());
            registry.register("agent_dropped", "Log lines dropped, by reason", self.dropped.clone());
            registry.register("agent_bytes", "Bytes of log files read", self.bytes_read.clone());
            registry.register("agent_truncated_lines", "Lines over the length limit", self.truncated.clone());
            registry.register("agent_invalid_utf8_lines", "Lines that were not UTF-8", self.invalid_utf8.clone());
            registry.register("agent_files", "Log files open", self.files.clone());
            let help = "Bytes of a file not shipped yet; of the files furthest behind";
            registry.register("agent_file_lag_bytes", help, self.lag_bytes.clone());
            let help = "Seconds since something was read of a file that has more; of the files furthest behind";
            registry.register("agent_file_lag_seconds", help, self.lag_seconds.clone());
            registry.register("agent_unread_bytes", "Bytes of open files not shipped yet", self.unread_bytes.clone());
        });
    }
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Stage::Read => "read",
            Stage::Acknowledged => "acknowledged",
            Stage::Dropped => "dropped",
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("the log tailer cannot be started: {0}")]
    Thread(std::io::Error),
    #[error("the log tailer ended by itself")]
    Ended,
}

/// What log collection is told.
#[derive(Clone)]
pub struct LogsOptions {
    pub state_dir: PathBuf,
    pub node: String,
    pub tenant: String,
    pub sources: Vec<LogSource>,
    pub own_dirs: Vec<PathBuf>,
    /// Lines older than this are dropped.
    pub max_age_ms: Option<i64>,
    pub pods: Option<Pods>,
}

/// Log collection, not running yet.
pub struct Logs {
    options: LogsOptions,
    sources: Vec<Source>,
    checkpoint: CheckpointFile,
    restored: Vec<checkpoint::PathEntry>,
    pub counters: LogCounters,
    producer: Arc<dyn Producer>,
    started: SystemTime,
    pub status: Arc<Mutex<Vec<FileStatus>>>,
}

impl Logs {
    pub fn new(
        options: LogsOptions,
        producer: Arc<dyn Producer>,
        disk: Arc<dyn Disk>,
        counters: LogCounters,
    ) -> Result<Logs, LogsError> {
        let sources = options.sources.iter().map(Source::new).collect::<Result<_, _>>()?;
        let checkpoint = CheckpointFile::new(disk, &options.state_dir)?;
        let restored = checkpoint.load()?;
        Ok(Logs {
            options,
            sources,
            checkpoint,
            restored,
            counters,
            producer,
            started: SystemTime::now(),
            status: Arc::default(),
        })
    }

    /// Tails until `stop`, then waits a little for acknowledgements and saves the checkpoint. Ending before is an error.
    pub async fn run(self, stop: CancellationToken) -> Result<(), LogsError> {
        let (sender, events) = mpsc::channel();
        let shipper = Shipper {
            producer: self.producer,
            runtime: tokio::runtime::Handle::current(),
            stop: CancellationToken::new(),
            events: sender.clone(),
        };
        let own = |dir: &PathBuf| dir.canonicalize().unwrap_or_else(|_| dir.clone());
        let mut tailer = Tailer {
            discovery: Discovery {
                sources: self.sources,
                own_dirs: self.options.own_dirs.iter().map(own).collect(),
                own_files: own_output(),
            },
            node: self.options.node,
            tenant: self.options.tenant,
            state_dir: self.options.state_dir,
            checkpoint: self.checkpoint,
            shipper,
            events,
            watch: Watch::new(sender.clone()),
            counters: self.counters,
            status: self.status,
            started: self.started,
            max_age_ns: self.options.max_age_ms.map(|age_ms| age_ms.saturating_mul(model::NS_PER_MS)),
            pods: self.options.pods,
            state: State::default(),
        };
        if let Some(pods) = &tailer.pods {
            let events = sender.clone();
            // Nobody listens only when the agent has stopped.
            pods.on_change(move || drop(events.send(Event::Named)));
        }
        let (done, finished) = oneshot::channel();
        let restored = self.restored;
        let thread = std::thread::Builder::new().name("log-tailer".to_owned()).spawn(move || {
            tailer.restore(restored);
            tailer.run();
            // Nobody waits only when the runtime is gone.
            let _ = done.send(());
        });
        thread.map_err(LogsError::Thread)?;
        let mut finished = finished;
        tokio::select! {
            () = stop.cancelled() => {}
            _ = &mut finished => return Err(LogsError::Ended),
        }
        // The thread is still there: it ends only after this event.
        let _ = sender.send(Event::Stop);
        finished.await.map_err(|_| LogsError::Ended)
    }
}

/// The files that this process writes its own output to.
fn own_output() -> HashSet<FileKey> {
    let key = |fd: std::os::fd::BorrowedFd<'_>| {
        let stat = rustix::fs::fstat(fd).ok()?;
        Some(FileKey { dev: stat.st_dev, ino: stat.st_ino })
    };
    [key(std::io::stdout().as_fd()), key(std::io::stderr().as_fd())].into_iter().flatten().collect()
}
