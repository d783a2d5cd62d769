//! What has happened: state changes and notifications, newest first, for as long as `--data.retention` says.
//!
//! A view of the topic as the state is. Entries are lines of JSON in files of at most [`SEGMENT_BYTES`], in the order of
//! their ids. They are durable before the snapshot that covers them; what a crash leaves beyond the snapshot is cut off
//! at the start, for the events behind it come again. So no entry is lost and none is there twice.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use disk::{Disk, DiskFile};
use model::{Alert, Fingerprint, Labels, Matcher, format_rfc3339_ms, matches_all};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::dedup::Attempt;
use crate::journal::Journal;
use crate::state::Ack;

const SEGMENT_BYTES: u64 = 4 << 20;
/// All segments together; the oldest go first.
const MAX_BYTES: u64 = 512 << 20;
/// Not yet in a file; past this it is written at once.
const BUFFER_BYTES: usize = 256 << 10;
/// An entry names no more alerts of a notification than this; `firingCount` and `resolvedCount` say how many there were.
const MAX_NAMED: usize = 1_000;

/// One thing that happened.
#[derive(Debug)]
pub enum Record {
    AlertFiring { fingerprint: Fingerprint, alert: Arc<Alert> },
    AlertResolved { fingerprint: Fingerprint, alert: Arc<Alert> },
    Notified { attempt: Attempt, at_ms: i64 },
    NotificationFailed { attempt: Attempt, error: String, at_ms: i64 },
    SilenceCreated { at_ms: i64, silence: Value },
    SilenceUpdated { at_ms: i64, silence: Value },
    SilenceExpired { at_ms: i64, silence: Value },
    Acknowledged(Ack),
    Unacknowledged { ack: Ack, at_ms: i64 },
}

impl Record {
    pub fn kind(&self) -> &'static str {
        match self {
            Record::AlertFiring { .. } => "alert_firing",
            Record::AlertResolved { .. } => "alert_resolved",
            Record::Notified { .. } => "notified",
            Record::NotificationFailed { .. } => "notification_failed",
            Record::SilenceCreated { .. } => "silence_created",
            Record::SilenceUpdated { .. } => "silence_updated",
            Record::SilenceExpired { .. } => "silence_expired",
            Record::Acknowledged(_) => "acknowledged",
            Record::Unacknowledged { .. } => "unacknowledged",
        }
    }

    fn at_ms(&self) -> i64 {
        match self {
            Record::AlertFiring { alert, .. } => alert.updated_at_ms,
            Record::AlertResolved { alert, .. } => alert.ends_at_ms,
            Record::Notified { at_ms, .. }
            | Record::NotificationFailed { at_ms, .. }
            | Record::SilenceCreated { at_ms, .. }
            | Record::SilenceUpdated { at_ms, .. }
            | Record::SilenceExpired { at_ms, .. }
            | Record::Unacknowledged { at_ms, .. } => *at_ms,
            Record::Acknowledged(ack) => ack.created_at_ms,
        }
    }

    /// What an entry says beside its id, time and kind.
    fn fields(&self) -> Value {
        match self {
            Record::AlertFiring { fingerprint, alert } => json!({
                "fingerprint": fingerprint.to_string(), "labels": alert.labels, "annotations": alert.annotations,
            }),
            Record::AlertResolved { fingerprint, alert } => json!({
                "fingerprint": fingerprint.to_string(), "labels": alert.labels, "annotations": alert.annotations,
                "startsAt": format_rfc3339_ms(alert.starts_at_ms),
            }),
            Record::Notified { attempt, .. } => notification(attempt),
            Record::NotificationFailed { attempt, error, .. } => {
                let mut fields = notification(attempt);
                fields["error"] = error.as_str().into();
                fields
            }
            Record::SilenceCreated { silence, .. }
            | Record::SilenceUpdated { silence, .. }
            | Record::SilenceExpired { silence, .. } => json!({"silence": silence}),
            Record::Acknowledged(ack) | Record::Unacknowledged { ack, .. } => json!({
                "fingerprint": ack.fingerprint.to_string(), "labels": ack.labels, "owner": ack.owner, "note": ack.note,
            }),
        }
    }

    fn to_line(&self, id: Id) -> String {
        self.entry(json!({"id": id.to_string(), "at": format_rfc3339_ms(self.at_ms()), "kind": self.kind()}))
    }

    /// As JSON, after what is there already.
    fn entry(&self, mut entry: Value) -> String {
        if let (Some(entry), Value::Object(fields)) = (entry.as_object_mut(), self.fields()) {
            entry.extend(fields);
        }
        entry.to_string()
    }
}

fn notification(attempt: &Attempt) -> Value {
    let names = |all: &BTreeSet<Fingerprint>| -> Vec<String> {
        all.iter().take(MAX_NAMED).map(Fingerprint::to_string).collect()
    };
    json!({
        "receiver": attempt.line.receiver,
        "integration": attempt.line.integration,
        "groupKey": attempt.line.group_key,
        "labels": attempt.group_labels,
        "reason": attempt.reason,
        "key": attempt.key,
        "firing": names(&attempt.firing),
        "resolved": names(&attempt.resolved),
        "firingCount": attempt.firing.len(),
        "resolvedCount": attempt.resolved.len(),
    })
}

/// Place of an entry: the offset of its event, and its number there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Id {
    pub offset: u64,
    pub number: u64,
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.offset, self.number)
    }
}

impl Id {
    pub fn parse(text: &str) -> Option<Id> {
        let (offset, number) = text.split_once('.')?;
        Some(Id { offset: offset.parse().ok()?, number: number.parse().ok()? })
    }
}

/// What is asked.
#[derive(Debug, Default)]
pub struct Query {
    pub start_ms: Option<i64>,
    pub end_ms: Option<i64>,
    pub kinds: Vec<String>,
    pub receiver: Option<String>,
    pub matchers: Vec<Matcher>,
    pub before: Option<Id>,
    pub limit: usize,
}

/// What a query looks at.
#[derive(Deserialize)]
struct Head {
    id: String,
    at: String,
    kind: String,
    #[serde(default)]
    receiver: Option<String>,
    #[serde(default)]
    labels: Option<Labels>,
}

impl Query {
    fn takes(&self, head: &Head) -> bool {
        let at_ms = model::parse_rfc3339_ns(&head.at).map_or(0, |ns| ns / model::NS_PER_MS);
        let labels_match = || match &head.labels {
            Some(labels) => matches_all(&self.matchers, labels),
            None => self.matchers.is_empty(),
        };
        self.start_ms.is_none_or(|start_ms| at_ms >= start_ms)
            && self.end_ms.is_none_or(|end_ms| at_ms <= end_ms)
            && (self.kinds.is_empty() || self.kinds.contains(&head.kind))
            && (self.receiver.is_none() || self.receiver == head.receiver)
            && labels_match()
    }
}

struct Segment {
    first: Id,
    bytes: u64,
    newest_ms: i64,
}

pub struct History {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    segments: VecDeque<Segment>,
    file: Option<Box<dyn DiskFile>>,
    /// Lines that are in no file yet.
    buffer: String,
    last: Id,
    retention_ms: i64,
    /// A failed write poisons its file: the rest goes to the next one.
    is_dirty: bool,
    /// Where entries go as log lines too.
    pub journal: Option<Arc<Journal>>,
}

impl History {
    /// Opens what is there up to `end`, the last entry that the snapshot knows.
    pub fn open(disk: Arc<dyn Disk>, dir: PathBuf, end: Id, retention_ms: i64) -> io::Result<History> {
        disk.create_dir_all(&dir)?;
        let mut firsts: Vec<Id> =
            disk.list(&dir)?.iter().filter_map(|name| Id::parse(name.strip_suffix(".jsonl")?)).collect();
        firsts.sort_unstable();
        let mut history = History {
            disk,
            dir,
            segments: VecDeque::new(),
            file: None,
            buffer: String::new(),
            last: end,
            retention_ms,
            is_dirty: false,
            journal: None,
        };
        for first in firsts {
            history.recover(first, end)?;
        }
        Ok(history)
    }

    fn path(&self, first: Id) -> PathBuf {
        segment_path(&self.dir, first)
    }

    /// Takes a file over, cut behind `end`.
    fn recover(&mut self, first: Id, end: Id) -> io::Result<()> {
        let path = self.path(first);
        let bytes = self.disk.read(&path)?;
        let (mut kept, mut newest_ms) = (0, i64::MIN);
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let Some(text) = line.strip_suffix(b"\n") else { break };
            let Ok(head) = serde_json::from_slice::<Head>(text) else { break };
            if Id::parse(&head.id).is_none_or(|id| id > end) {
                break;
            }
            kept += line.len() as u64;
            newest_ms = newest_ms.max(model::parse_rfc3339_ns(&head.at).map_or(0, |ns| ns / model::NS_PER_MS));
        }
        if kept == 0 {
            return self.disk.remove(&path);
        }
        if kept < bytes.len() as u64 {
            self.disk.truncate(&path, kept)?;
        }
        self.segments.push_back(Segment { first, bytes: kept, newest_ms });
        Ok(())
    }

    /// The last entry there is.
    pub fn end(&self) -> Id {
        self.last
    }

    /// Adds an entry of an event at an offset.
    pub fn add(&mut self, offset: u64, record: &Record) {
        let number = if self.last.offset == offset { self.last.number + 1 } else { 0 };
        let id = Id { offset: offset.max(self.last.offset), number };
        self.last = id;
        let line = record.to_line(id);
        tracing::debug!(target: "alert_history", entry = line);
        let at_ms = record.at_ms();
        if let Some(journal) = &self.journal {
            journal.push(at_ms, record.kind(), record.entry(json!({})));
        }
        match self.segments.back_mut() {
            Some(segment) if segment.bytes < SEGMENT_BYTES && !self.is_dirty => {
                segment.bytes += line.len() as u64 + 1;
                segment.newest_ms = segment.newest_ms.max(at_ms);
            }
            _ => {
                self.write_and_warn();
                self.file = None;
                self.is_dirty = false;
                let bytes = line.len() as u64 + 1;
                self.segments.push_back(Segment { first: id, bytes, newest_ms: at_ms });
            }
        }
        self.buffer += &line;
        self.buffer.push('\n');
        if self.buffer.len() > BUFFER_BYTES {
            self.write_and_warn();
        }
    }

    fn write_and_warn(&mut self) {
        if let Err(error) = self.write() {
            tracing::warn!(%error, "entries of the alerts' history could not be written and are lost");
            self.buffer.clear();
            self.is_dirty = true;
        }
    }

    fn write(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let Some(segment) = self.segments.back() else { return Ok(()) };
        let path = segment_path(&self.dir, segment.first);
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                none.insert(if self.disk.exists(&path) { self.disk.append(&path)? } else { self.disk.create(&path)? })
            }
        };
        file.append(self.buffer.as_bytes())?;
        self.buffer.clear();
        Ok(())
    }

    /// Makes all entries durable, and lets go of what is too old.
    pub fn sync(&mut self, now_ms: i64) -> io::Result<()> {
        self.write()?;
        if let Some(file) = &mut self.file {
            file.sync()?;
        }
        self.disk.sync_dir(&self.dir)?;
        let total = |segments: &VecDeque<Segment>| segments.iter().map(|segment| segment.bytes).sum::<u64>();
        while self.segments.len() > 1
            && let Some(oldest) = self.segments.front()
            && (oldest.newest_ms < now_ms - self.retention_ms || total(&self.segments) > MAX_BYTES)
        {
            self.disk.remove(&self.path(oldest.first))?;
            self.segments.pop_front();
        }
        Ok(())
    }

    /// What a search reads: the files that may hold it, newest first, and what is in none yet.
    pub fn snapshot(&mut self, query: &Query) -> Search {
        self.write_and_warn();
        let wanted = self.segments.iter().rev().filter(|segment| {
            query.before.is_none_or(|before| segment.first < before)
                && query.start_ms.is_none_or(|start_ms| segment.newest_ms >= start_ms)
        });
        Search { disk: self.disk.clone(), paths: wanted.map(|segment| self.path(segment.first)).collect() }
    }
}

fn segment_path(dir: &Path, first: Id) -> PathBuf {
    dir.join(format!("{first}.jsonl"))
}

/// Files to be searched without holding anybody up.
pub struct Search {
    disk: Arc<dyn Disk>,
    paths: Vec<PathBuf>,
}

impl Search {
    /// The newest entries that a query takes, and where the next page begins.
    pub fn run(self, query: &Query) -> io::Result<(Vec<Box<RawValue>>, Option<Id>)> {
        let mut found = Vec::new();
        for path in self.paths {
            let bytes = match self.disk.read(&path) {
                Ok(bytes) => bytes,
                // It went out of retention meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            for line in bytes.split(|byte| *byte == b'\n').rev().filter(|line| !line.is_empty()) {
                let Ok(head) = serde_json::from_slice::<Head>(line) else { continue };
                let Some(id) = Id::parse(&head.id) else { continue };
                if query.before.is_some_and(|before| id >= before) || !query.takes(&head) {
                    continue;
                }
                let Ok(entry) = serde_json::from_slice::<Box<RawValue>>(line) else { continue };
                found.push((id, entry));
                if found.len() > query.limit {
                    found.pop();
                    let next = found.last().map(|(id, _)| *id);
                    return Ok((found.into_iter().map(|(_, entry)| entry).collect(), next));
                }
            }
        }
        Ok((found.into_iter().map(|(_, entry)| entry).collect(), None))
    }
}

#[cfg(test)]
mod tests {
    use disk::FakeDisk;

    use super::*;

    fn record(name: &str, at_ms: i64) -> Record {
        let alert = Alert {
            labels: Labels::from_pairs([("alertname", name)]),
            annotations: Labels::default(),
            starts_at_ms: at_ms,
            ends_at_ms: at_ms + 100,
            updated_at_ms: at_ms,
            generator_url: String::new(),
            timeout: false,
        };
        Record::AlertFiring { fingerprint: alert.fingerprint(), alert: Arc::new(alert) }
    }

    fn open(disk: &Arc<dyn Disk>, end: Id) -> History {
        History::open(disk.clone(), PathBuf::from("/history"), end, 1_000_000).expect("opens")
    }

    fn ids(history: &mut History, query: &Query) -> (Vec<String>, Option<Id>) {
        let (found, next) = history.snapshot(query).run(query).expect("readable");
        let id = |entry: Box<RawValue>| serde_json::from_str::<Head>(entry.get()).expect("an entry").id;
        (found.into_iter().map(id).collect(), next)
    }

    fn all() -> Query {
        Query { limit: 1000, ..Query::default() }
    }

    #[test]
    fn newest_first_page_by_page_and_filtered() {
        let disk: Arc<dyn Disk> = Arc::new(FakeDisk::default());
        let mut history = open(&disk, Id::default());
        for (offset, name, at_ms) in [(3, "a", 10), (3, "b", 20), (4, "a", 30), (9, "c", 40)] {
            history.add(offset, &record(name, at_ms));
        }
        assert_eq!(ids(&mut history, &all()).0, ["9.0", "4.0", "3.1", "3.0"]);
        let (page, next) = ids(&mut history, &Query { limit: 3, ..all() });
        assert_eq!(page, ["9.0", "4.0", "3.1"]);
        assert_eq!(ids(&mut history, &Query { before: next, ..all() }), (vec!["3.0".to_owned()], None));
        let matchers = crate::matchers::parse_list("alertname=a").expect("good");
        assert_eq!(ids(&mut history, &Query { matchers, ..all() }).0, ["4.0", "3.0"]);
        assert_eq!(ids(&mut history, &Query { start_ms: Some(20), end_ms: Some(30), ..all() }).0, ["4.0", "3.1"]);
        assert!(ids(&mut history, &Query { kinds: vec!["notified".into()], ..all() }).0.is_empty());
        assert!(ids(&mut history, &Query { receiver: Some("team".into()), ..all() }).0.is_empty());
    }

    #[test]
    fn what_the_snapshot_does_not_know_comes_again() {
        let fake = FakeDisk::default();
        let disk: Arc<dyn Disk> = Arc::new(fake);
        let mut history = open(&disk, Id::default());
        history.add(1, &record("a", 10));
        history.sync(10).expect("durable");
        let end = history.end();
        history.add(2, &record("b", 20));
        history.sync(20).expect("durable");
        drop(history);
        let mut history = open(&disk, end);
        assert_eq!(ids(&mut history, &all()).0, ["1.0"]);
        history.add(2, &record("b", 20));
        assert_eq!(ids(&mut history, &all()).0, ["2.0", "1.0"]);
    }

    #[test]
    fn old_segments_go() {
        let disk: Arc<dyn Disk> = Arc::new(FakeDisk::default());
        let mut history = open(&disk, Id::default());
        let big = "x".repeat(SEGMENT_BYTES as usize);
        for (offset, at_ms) in [(1, 10), (2, 2_000_000), (3, 2_000_001)] {
            history.add(offset, &record(&big, at_ms));
        }
        history.sync(2_000_002).expect("durable");
        assert_eq!(ids(&mut history, &all()).0, ["3.0", "2.0"]);
    }
}
