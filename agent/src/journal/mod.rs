//! The journal: what systemd keeps instead of files, read through `journalctl`, since its format is systemd's own.
//!
//! # Contracts
//! - Entries become lines of the streams `{filename="journal", node, unit}`, in the journal's order, at the time the journal
//!   gives them ([`entry`]).
//! - At most one batch is on its way. The cursor moves only after the bus acknowledged every entry before it, so `kill -9`
//!   costs reading some entries again. They have no byte range; but an entry read again has the same stream, time and text,
//!   and stores collapse such pushed lines: each entry is there once. Only a journal more than a day ahead of the clock is
//!   given times of now, and then an entry read again may be there twice.
//! - What this process or its systemd unit wrote is never shipped.
//! - `journalctl` that ends is started again after a pause that grows from [`MIN_PAUSE`] to [`MAX_PAUSE`]. Should it refuse
//!   the cursor [`MAX_REFUSALS`] times, it is started from the beginning of this boot instead.

mod entry;
mod follow;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bus::Producer;
use disk::Disk;
use model::{Batch, Labels, LabelsBuilder, LogBatch, Origin};
use service::config::LogSource;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cursor::CursorFile;
use crate::logs::checkpoint::CheckpointError;
use crate::logs::event::Outcome;
use crate::logs::filter::Reason;
use crate::logs::parse::Level;
use crate::logs::ship;
use crate::logs::{JOURNAL, LogCounters, Stage};
use entry::Entry;
use follow::{Follower, Next};

const CURSOR_FILE: &str = "agent-journal.json";
const MIN_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(30);
const MAX_REFUSALS: u32 = 5;
/// Entries are gathered for this long, so that a busy journal ships batches and not lines.
const LINGER: Duration = Duration::from_millis(100);
/// Bytes of text after which a batch is shipped.
const BATCH_TEXT_BYTES: usize = 256 * 1024;
const MAX_AHEAD_NS: i64 = 86_400_000_000_000;

#[derive(Debug, Clone)]
pub struct JournalOptions {
    /// Where journal files are looked for, at the top and one directory below.
    pub directories: Vec<PathBuf>,
    pub program: PathBuf,
    pub state_dir: PathBuf,
    pub node: String,
    pub tenant: String,
    pub labels: BTreeMap<String, String>,
}

impl JournalOptions {
    /// The system's journal, where a source names `journal` as a path.
    pub fn of_sources(
        sources: &[LogSource],
        state_dir: &Path,
        node: &str,
        default_tenant: &str,
    ) -> Option<JournalOptions> {
        let source = sources.iter().find(|source| source.paths.iter().any(|path| path == JOURNAL))?;
        Some(JournalOptions {
            directories: vec!["/var/log/journal".into(), "/run/log/journal".into()],
            program: "journalctl".into(),
            state_dir: state_dir.to_owned(),
            node: node.to_owned(),
            tenant: source.tenant.clone().unwrap_or_else(|| default_tenant.to_owned()),
            labels: source.labels.clone(),
        })
    }
}

/// The journal's reader, not running yet.
pub struct Journal {
    options: JournalOptions,
    checkpoint: CursorFile,
    cursor: Option<String>,
    producer: Arc<dyn Producer>,
    counters: LogCounters,
    own: Own,
}

/// Who we are in the journal.
struct Own {
    pid: u32,
    unit: Option<String>,
}

/// Why reading came to an end.
enum Ended {
    Stopped,
    /// With how many entries were read.
    Exited {
        entries: u64,
        reason: String,
    },
}

impl Journal {
    pub fn new(
        options: JournalOptions,
        producer: Arc<dyn Producer>,
        disk: Arc<dyn Disk>,
        counters: LogCounters,
    ) -> Result<Journal, CheckpointError> {
        let checkpoint = CursorFile::new(disk, &options.state_dir, CURSOR_FILE)?;
        let cursor = checkpoint.load()?;
        let own = Own { pid: std::process::id(), unit: own_unit() };
        Ok(Journal { options, checkpoint, cursor, producer, counters, own })
    }

    /// Reads until `stop`; what is on its way then is read again at the next start.
    pub async fn run(mut self, stop: CancellationToken) {
        let (mut pause, mut refusals) = (MIN_PAUSE, 0);
        loop {
            let started = Instant::now();
            if has_journal(&self.options.directories) {
                let (entries, reason) = match self.follow(&stop).await {
                    Ok(Ended::Stopped) => return,
                    Ok(Ended::Exited { entries, reason }) => (entries, reason),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        tracing::info!(program = %self.options.program.display(), "not there: the journal is not read");
                        return;
                    }
                    Err(error) => (0, error.to_string()),
                };
                tracing::debug!(reason, entries, "journalctl ended; starting it again");
                refusals = if entries > 0 { 0 } else { refusals + 1 };
                if refusals >= MAX_REFUSALS && self.cursor.take().is_some() {
                    tracing::warn!(
                        reason,
                        "the journal cannot be read from where it was left; reading this boot again"
                    );
                }
                if started.elapsed() > MAX_PAUSE {
                    pause = MIN_PAUSE;
                }
            } else {
                pause = MAX_PAUSE;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return,
            }
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    /// Runs `journalctl` once, to its end.
    async fn follow(&mut self, stop: &CancellationToken) -> io::Result<Ended> {
        let mut follower = Follower::spawn(&self.options.program, self.cursor.as_deref())?;
        let mut gathered = Gathered::new(&self.options.tenant);
        let mut entries = 0;
        loop {
            let due = gathered.since.map(|since| since + LINGER);
            let next = tokio::select! {
                biased;
                () = stop.cancelled() => {
                    follower.end().await;
                    return Ok(Ended::Stopped);
                }
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => None,
                next = follower.next() => Some(next?),
            };
            let is_end = next == Some(Next::End);
            let is_due = next.is_none();
            match next {
                Some(Next::Line(line)) => {
                    entries += 1;
                    self.take(&line, &mut gathered);
                }
                Some(Next::Overlong) => self.counters.lines(Stage::Dropped, 1),
                Some(Next::End) | None => {}
            }
            if is_due || is_end || gathered.batch.text_bytes() >= BATCH_TEXT_BYTES {
                let ready = std::mem::replace(&mut gathered, Gathered::new(&self.options.tenant));
                if !self.ship(ready, stop).await {
                    follower.end().await;
                    return Ok(Ended::Stopped);
                }
            }
            if is_end {
                return Ok(Ended::Exited { entries, reason: follower.end().await });
            }
        }
    }

    fn take(&self, line: &[u8], gathered: &mut Gathered) {
        match Entry::parse(line) {
            Ok(entry) => {
                gathered.since.get_or_insert_with(Instant::now);
                if !self.own.wrote(&entry) {
                    gathered.push(&entry, |unit| self.labels(unit));
                }
                gathered.cursor = Some(entry.cursor);
            }
            Err(reason) => {
                tracing::debug!(reason, "journalctl printed what is no entry");
                self.counters.lines(Stage::Dropped, 1);
            }
        }
    }

    fn labels(&self, unit: &str) -> Labels {
        let mut labels = LabelsBuilder::default();
        labels.set("filename", JOURNAL).set("node", self.options.node.as_str()).set("unit", unit);
        for (name, value) in &self.options.labels {
            labels.set(name.as_str(), value.as_str());
        }
        labels.build()
    }

    /// Makes a batch durable and moves the cursor. False: stopped.
    async fn ship(&mut self, gathered: Gathered, stop: &CancellationToken) -> bool {
        let lines = gathered.batch.len() as u64;
        if lines > 0 {
            self.counters.lines(Stage::Read, lines);
            match ship::append(self.producer.as_ref(), Batch::Logs(gathered.batch), stop).await {
                Outcome::Acknowledged => self.counters.lines(Stage::Acknowledged, lines),
                Outcome::Dropped => {
                    self.counters.lines(Stage::Dropped, lines);
                    self.counters.dropped(Reason::Refused, lines);
                }
                Outcome::Abandoned => return false,
            }
        }
        if let Some(cursor) = gathered.cursor {
            if let Err(error) = self.checkpoint.save(&cursor) {
                tracing::warn!(%error, "the journal's cursor cannot be saved");
            }
            self.cursor = Some(cursor);
        }
        true
    }
}

impl Own {
    fn wrote(&self, entry: &Entry) -> bool {
        let is_unit = |unit: &String| *unit == entry.unit || *unit == entry.user_unit;
        entry.pid == Some(self.pid) || self.unit.as_ref().is_some_and(is_unit)
    }
}

/// A batch in the making, and how far it reaches.
struct Gathered {
    batch: LogBatch,
    cursor: Option<String>,
    since: Option<Instant>,
    streams: HashMap<String, u32>,
    marks: HashMap<(Option<Level>, bool, bool), u32>,
}

impl Gathered {
    fn new(tenant: &str) -> Gathered {
        Gathered {
            batch: LogBatch::new(tenant, Origin::Pushed),
            cursor: None,
            since: None,
            streams: HashMap::new(),
            marks: HashMap::from([((None, false, false), 0)]),
        }
    }

    fn push(&mut self, entry: &Entry, labels: impl Fn(&str) -> Labels) {
        let batch = &mut self.batch;
        let stream = *self.streams.entry(entry.unit.clone()).or_insert_with(|| {
            batch.streams.push(labels(&entry.unit));
            batch.streams.len() as u32 - 1
        });
        let marks = (entry.level, entry.is_truncated, entry.is_invalid_utf8);
        let metadata = *self.marks.entry(marks).or_insert_with(|| {
            let flag = |is_set: bool| if is_set { "true" } else { "" };
            batch.metadata.push(Labels::from_pairs([
                ("level", entry.level.map_or("", Level::name)),
                ("truncated", flag(entry.is_truncated)),
                ("invalid_utf8", flag(entry.is_invalid_utf8)),
            ]));
            batch.metadata.len() as u32 - 1
        });
        let now_ns = model::now_ns();
        let t_ns = if entry.t_ns > now_ns.saturating_add(MAX_AHEAD_NS) { now_ns } else { entry.t_ns };
        batch.push(stream, t_ns, &entry.text, metadata, 0);
    }
}

/// Whether there are journal files: in a directory or one below it, which bears the machine's id.
fn has_journal(directories: &[PathBuf]) -> bool {
    let list = |dir: &Path| std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_journal = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "journal");
    let holds = |dir: &PathBuf| list(dir).any(|path| is_journal(&path) || list(&path).any(|path| is_journal(&path)));
    directories.iter().any(holds)
}

/// The systemd service that this process runs in.
fn own_unit() -> Option<String> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let units = groups.lines().filter_map(|line| line.rsplit('/').next());
    units.filter(|unit| unit.ends_with(".service")).map(str::to_owned).next()
}
