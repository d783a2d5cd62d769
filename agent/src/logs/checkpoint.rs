//! The checkpoint: how far every file was acknowledged, in `agent-logs.json` of the state directory.
//!
//! # Contracts
//! - A file's id and fingerprint are in the checkpoint before its first record is appended to the bus.
//! - An offset is written only after the bus has acknowledged every byte before it. It may lag behind the bus: what is
//!   then read again has the same file id and byte ranges, and stores cut it.
//! - Replaced atomically and durably; a file that does not parse stops the agent rather than being guessed at, and so does
//!   one that cannot be read: only `NotFound` means that there is none.
//! - One agent at a time: the state directory is locked, since two would mint different ids for one file.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use disk::{Disk, DiskLock, write_atomically};
use model::FileId;
use serde::{Deserialize, Serialize};

use super::identity::{FileKey, Fingerprint, hex_u128};
use super::lines::{MAX_READ_BYTES, Skipping};
use super::parse::Format;

const VERSION: u32 = 1;
pub const FILE_NAME: &str = "agent-logs.json";
const LOCK_NAME: &str = "agent.lock";

#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{}: not a checkpoint: {reason}", path.display())]
    Corrupt { path: PathBuf, reason: String },
    #[error("{}: another agent uses this state directory", path.display())]
    InUse { path: PathBuf },
}

/// A file's content; `None` where there is no such file, which no other error means.
pub fn read_if_there(disk: &dyn Disk, path: &Path) -> Result<Option<Vec<u8>>, CheckpointError> {
    match disk.read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(CheckpointError::Io { path: path.to_owned(), source }),
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    pub version: u32,
    pub paths: Vec<PathEntry>,
}

/// One tailed path with the files that are or were behind it, oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PathEntry {
    /// Where the file really is, symbolic links resolved.
    pub path: PathBuf,
    /// The path as it was matched: the label `filename`.
    pub name: PathBuf,
    /// The last timestamp given to a line that had none.
    pub last_t_ns: i64,
    pub format: Option<Format>,
    pub files: Vec<FileEntry>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FileEntry {
    #[serde(with = "hex_u128")]
    pub id: u128,
    /// Absent once the file lost its content to a truncation.
    pub key: Option<FileKey>,
    pub fingerprint: Fingerprint,
    pub offset: u64,
    /// Bytes before the offset whose message is not over: reading begins at them again.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub held: u64,
    /// Where time decided that messages end: what is read again ends there again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<u64>,
    #[serde(default, skip_serializing_if = "Skipping::is_none")]
    pub skipping: Skipping,
    /// Was there before its path was first seen, or is not text: never read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub left_alone: bool,
    /// Rotated away and read to its end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub done: bool,
}

fn is_zero(bytes: &u64) -> bool {
    *bytes == 0
}

impl FileEntry {
    /// Where reading begins.
    pub fn resume(&self) -> u64 {
        self.offset.saturating_sub(self.held)
    }

    pub fn file_id(&self) -> FileId {
        FileId(self.id)
    }
}

/// Where the checkpoint is kept. Holds the lock of the state directory.
pub struct CheckpointFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    _lock: Box<dyn DiskLock>,
}

impl CheckpointFile {
    pub fn new(disk: Arc<dyn Disk>, state_dir: &Path) -> Result<CheckpointFile, CheckpointError> {
        let path = state_dir.join(FILE_NAME);
        disk.create_dir_all(state_dir).map_err(|source| CheckpointError::Io { path: path.clone(), source })?;
        let lock_path = state_dir.join(LOCK_NAME);
        let lock = disk.lock(&lock_path).map_err(|source| match source.kind() {
            ErrorKind::WouldBlock => CheckpointError::InUse { path: lock_path.clone() },
            _ => CheckpointError::Io { path: lock_path.clone(), source },
        })?;
        Ok(CheckpointFile { disk, path, _lock: lock })
    }

    /// What was saved last; empty when nothing ever was.
    pub fn load(&self) -> Result<Vec<PathEntry>, CheckpointError> {
        let Some(bytes) = read_if_there(self.disk.as_ref(), &self.path)? else { return Ok(Vec::new()) };
        decode(&bytes).map_err(|reason| CheckpointError::Corrupt { path: self.path.clone(), reason })
    }

    pub fn save(&self, paths: Vec<PathEntry>) -> Result<(), CheckpointError> {
        write_atomically(self.disk.as_ref(), &self.path, &encode(paths))
            .map_err(|source| CheckpointError::Io { path: self.path.clone(), source })
    }
}

/// As it is written.
pub fn encode(paths: Vec<PathEntry>) -> Vec<u8> {
    serde_json::to_vec(&Checkpoint { version: VERSION, paths }).expect("paths in a checkpoint are UTF-8")
}

/// As it is read, or what is wrong with it.
pub fn decode(bytes: &[u8]) -> Result<Vec<PathEntry>, String> {
    let checkpoint: Checkpoint = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if checkpoint.version != VERSION {
        return Err(format!("version {} is not known", checkpoint.version));
    }
    let is_bad = |file: &FileEntry| file.held > file.offset || file.held > MAX_READ_BYTES as u64;
    if let Some(path) = checkpoint.paths.iter().find(|path| path.files.iter().any(is_bad)) {
        return Err(format!("{}: more is held than was read", path.path.display()));
    }
    Ok(checkpoint.paths)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(bytes: &[u8], expected: Result<usize, &str>) {
        match (decode(bytes), expected) {
            (Ok(paths), Ok(len)) => assert_eq!(paths.len(), len),
            (Err(reason), Err(part)) => assert!(reason.contains(part), "{reason}"),
            (got, expected) => panic!("{got:?} instead of {expected:?}"),
        }
    }

    /// The format on disk, version 1. Never changed: a new version gets a fixture of its own.
    #[test]
    fn version_1_is_read_and_written() {
        let golden = include_bytes!("../../testdata/checkpoint-v1.json");
        let paths = decode(golden).expect("the fixture");
        assert_eq!(paths[0].files[1].offset, 4096);
        assert_eq!(String::from_utf8(encode(paths)).expect("JSON"), String::from_utf8_lossy(golden).trim_end());
        check(b"{}", Err("missing field"));
        check(br#"{"version":9,"paths":[]}"#, Err("version 9"));
        check(br#"{"version":1,"paths":[]}"#, Ok(0));
    }

    /// Any error while looking for the checkpoint was taken for its absence: every file got a new id and came twice.
    #[test]
    fn a_checkpoint_that_cannot_be_read_is_not_a_missing_one() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = CheckpointFile::new(Arc::new(disk::RealDisk), dir.path()).expect("created");
        assert_eq!(file.load().expect("none yet"), []);
        let path = dir.path().join(FILE_NAME);
        // Unreadable for root too: a link to itself.
        std::os::unix::fs::symlink(&path, &path).expect("linked");
        assert!(matches!(file.load(), Err(CheckpointError::Io { .. })));
    }

    /// Two agents on one state directory minted different ids for one file, and its lines came twice.
    #[test]
    fn a_state_directory_has_one_agent() {
        let dir = tempfile::tempdir().expect("a directory");
        let open = || CheckpointFile::new(Arc::new(disk::RealDisk), dir.path());
        let first = open().expect("free");
        let message = open().err().expect("in use").to_string();
        assert!(message.contains("agent.lock: another agent"), "{message}");
        drop(first);
        open().expect("free again");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }
    }
}
