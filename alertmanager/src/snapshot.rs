//! The state as a file: lines of JSON, written beside the old file and put in its place at once.
//!
//! The first line says which bus it is of and at which offset to go on. It is written and read piece by piece: a million
//! alerts are never in memory as text.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use disk::{Disk, DiskReader};
use model::Alert;
use serde::{Deserialize, Serialize};

use crate::dedup::{Line, Told};
use crate::history::Id;
use crate::silence::Silence;
use crate::state::{Ack, State};

const CHUNK_BYTES: usize = 1 << 20;
/// A longer line is damage: an entry of the log with a million alerts is shorter.
const MAX_LINE_BYTES: usize = 64 << 20;

/// The first line.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Header {
    pub bus_id: String,
    pub next_offset: u64,
    /// The same of the further partitions, where others put alerts.
    #[serde(default)]
    pub further_offsets: Vec<u64>,
    /// The last entry of history that belongs to this state.
    pub history_end: Id,
}

impl Header {
    /// Where to go on in a partition, if it was there already.
    pub fn offset(&self, partition: u32) -> Option<u64> {
        match (partition as usize).checked_sub(1) {
            None => Some(self.next_offset),
            Some(further) => self.further_offsets.get(further).copied(),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Item {
    Alert {
        alert: Arc<Alert>,
        /// History knows it as firing.
        is_open: bool,
    },
    Silence(Silence),
    Ack(Ack),
    Told {
        line: Line,
        told: Box<Told>,
    },
    /// A router that shares the topic, and its last beat.
    Member {
        router: String,
        beat: u64,
    },
}

/// What is to be written, taken from the state at one moment; what is large is shared with it.
pub struct Image {
    header: Header,
    alerts: Vec<(Arc<Alert>, bool)>,
    rest: Vec<Item>,
}

impl Image {
    pub fn of(state: &State, header: Header) -> Image {
        let open: &HashSet<_> = &state.open;
        let alerts = state.alerts.iter().map(|(fingerprint, alert)| (alert.clone(), open.contains(fingerprint)));
        let silences = state.silences.iter().map(|silence| Item::Silence(silence.silence.clone()));
        let acks = state.acks.values().cloned().map(Item::Ack);
        let told = state.log.iter().map(|(line, told)| Item::Told { line: line.clone(), told: Box::new(told.clone()) });
        let members = state.members.iter().map(|(router, beat)| Item::Member { router: router.to_owned(), beat });
        Image { header, alerts: alerts.collect(), rest: silences.chain(acks).chain(told).chain(members).collect() }
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    pub fn write(self, disk: &dyn Disk, path: &Path) -> io::Result<()> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".tmp");
        let temporary = PathBuf::from(temporary);
        let mut file = disk.create(&temporary)?;
        let mut text = Vec::with_capacity(CHUNK_BYTES);
        let alerts = self.alerts.into_iter().map(|(alert, is_open)| Item::Alert { alert, is_open });
        let items = alerts.chain(self.rest).map(|item| serde_json::to_vec(&item));
        for line in [serde_json::to_vec(&self.header)].into_iter().chain(items) {
            text.extend_from_slice(&line.map_err(io::Error::other)?);
            text.push(b'\n');
            if text.len() >= CHUNK_BYTES {
                file.append(&text)?;
                text.clear();
            }
        }
        file.append(&text)?;
        file.sync()?;
        disk.rename(&temporary, path)?;
        disk.sync_dir(path.parent().unwrap_or(Path::new(".")))
    }
}

/// Reads a snapshot; nothing where there is none yet.
pub fn read(disk: &dyn Disk, path: &Path) -> io::Result<Option<(Header, State)>> {
    let reader = match disk.open(path) {
        Ok(reader) => reader,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut lines = Lines { reader, offset: 0, buffer: Vec::new(), taken: 0 };
    let header = lines.next()?.ok_or_else(|| io::Error::other("the snapshot is empty"))?;
    let header = serde_json::from_slice(header).map_err(io::Error::other)?;
    let mut state = State::default();
    while let Some(line) = lines.next()? {
        match serde_json::from_slice(line).map_err(io::Error::other)? {
            Item::Alert { alert, is_open } => {
                let fingerprint = alert.fingerprint();
                if is_open {
                    state.open.insert(fingerprint);
                }
                state.alerts.insert(fingerprint, alert);
            }
            Item::Silence(silence) => state.silences.put(silence),
            Item::Ack(ack) => drop(state.acks.insert(ack.fingerprint, ack)),
            Item::Told { line, told } => drop(state.log.insert(line, *told)),
            Item::Member { router, beat } => state.members.alive(router, beat),
        }
    }
    Ok(Some((header, state)))
}

/// Lines of a file, read piece by piece.
struct Lines {
    reader: Arc<dyn DiskReader>,
    offset: u64,
    buffer: Vec<u8>,
    /// How much of the buffer was given out.
    taken: usize,
}

impl Lines {
    fn next(&mut self) -> io::Result<Option<&[u8]>> {
        let mut searched = self.taken;
        loop {
            if let Some(length) = self.buffer[searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.taken..searched + length;
                self.taken = line.end + 1;
                return Ok(Some(&self.buffer[line]));
            }
            self.buffer.drain(..self.taken);
            self.taken = 0;
            searched = self.buffer.len();
            if searched > MAX_LINE_BYTES {
                return Err(io::Error::other("a line of the snapshot has no end"));
            }
            self.buffer.resize(searched + CHUNK_BYTES, 0);
            let read = self.reader.read_at(self.offset, &mut self.buffer[searched..])?;
            self.buffer.truncate(searched + read);
            self.offset += read as u64;
            if read == 0 {
                return if searched == 0 { Ok(None) } else { Err(io::Error::other("the snapshot ends in a line")) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use disk::FakeDisk;
    use model::{Fingerprint, Labels};

    use super::*;
    use crate::dedup::LogEntry;
    use crate::state::Event;

    fn state() -> State {
        let mut state = State::default();
        for i in 0..5_000 {
            let alert = Alert {
                labels: Labels::from_pairs([("alertname", "A".to_owned()), ("i", i.to_string())]),
                annotations: Labels::from_pairs([("text", "x".repeat(400))]),
                starts_at_ms: 1,
                ends_at_ms: 2 + i % 2 * 10,
                updated_at_ms: 3,
                generator_url: String::new(),
                timeout: true,
            };
            state.apply(Event::Alert(Arc::new(alert)));
        }
        let line = Line { group_key: "g".into(), receiver: "r".into(), integration: "webhook[0]".into() };
        let firing = BTreeSet::from([Fingerprint(1)]);
        let memory = [("ts".to_owned(), "1".to_owned())].into();
        let key = "k".to_owned();
        let last = LogEntry { key, firing, resolved: BTreeSet::new(), memory, at_ms: 5, expires_at_ms: 100 };
        state.log.insert(line, Told { last: Some(last), pending: None });
        state.members.alive("r1".into(), 7);
        state
    }

    #[test]
    fn a_snapshot_holds_everything() {
        let (disk, state) = (FakeDisk::default(), state());
        let path = Path::new("/state/state.jsonl");
        disk.create_dir_all(Path::new("/state")).expect("created");
        assert!(read(&disk, path).expect("no snapshot").is_none());
        let history_end = Id { offset: 6, number: 2 };
        let header = Header { bus_id: "bus".into(), next_offset: 7, further_offsets: vec![3], history_end };
        assert_eq!([0, 1, 2].map(|partition| header.offset(partition)), [Some(7), Some(3), None]);
        Image::of(&state, header.clone()).write(&disk, path).expect("written");
        let (found, again) = read(&disk, path).expect("readable").expect("there");
        assert_eq!(found, header);
        assert_eq!((&again.alerts, &again.log, &again.open), (&state.alerts, &state.log, &state.open));
        assert_eq!(again.open.len(), 2_500);
        assert_eq!(again.members.iter().collect::<Vec<_>>(), [("r1", 7)]);
    }

    #[test]
    fn a_torn_snapshot_is_an_error() {
        let disk = FakeDisk::default();
        let path = Path::new("/state/state.jsonl");
        disk.create_dir_all(Path::new("/state")).expect("created");
        Image::of(&state(), Header::default()).write(&disk, path).expect("written");
        disk.truncate(path, disk.len(path).expect("a file") - 3).expect("cut");
        assert!(read(&disk, path).is_err());
    }
}
