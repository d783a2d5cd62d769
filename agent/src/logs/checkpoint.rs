//! The checkpoint: how far every file was acknowledged, in `agent-logs.json` of the state directory.
//!
//! # Contracts
//! - A file's id and fingerprint are in the checkpoint before its first record is appended to the bus.
//! - An offset is written only after the bus has acknowledged every byte before it. It may lag behind the bus: what is
//!   then read again has the same file id and byte ranges, and stores cut it.
//! - Replaced atomically and durably; a file that does not parse stops the agent rather than being guessed at.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use disk::{Disk, write_atomically};
use model::FileId;
use serde::{Deserialize, Serialize};

use super::identity::{FileKey, Fingerprint, hex_u128};
use super::lines::Skipping;
use super::parse::Format;

const VERSION: u32 = 1;
pub const FILE_NAME: &str = "agent-logs.json";

#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{}: not a checkpoint: {reason}", path.display())]
    Corrupt { path: PathBuf, reason: String },
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
    #[serde(default, skip_serializing_if = "Skipping::is_none")]
    pub skipping: Skipping,
    /// Was there before its path was first seen, or is not text: never read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub left_alone: bool,
    /// Rotated away and read to its end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub done: bool,
}

impl FileEntry {
    pub fn file_id(&self) -> FileId {
        FileId(self.id)
    }
}

/// Where the checkpoint is kept.
pub struct CheckpointFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
}

impl CheckpointFile {
    pub fn new(disk: Arc<dyn Disk>, state_dir: &Path) -> Result<CheckpointFile, CheckpointError> {
        let path = state_dir.join(FILE_NAME);
        disk.create_dir_all(state_dir).map_err(|source| CheckpointError::Io { path: path.clone(), source })?;
        Ok(CheckpointFile { disk, path })
    }

    /// What was saved last; empty when nothing ever was.
    pub fn load(&self) -> Result<Vec<PathEntry>, CheckpointError> {
        if !self.disk.exists(&self.path) {
            return Ok(Vec::new());
        }
        let bytes =
            self.disk.read(&self.path).map_err(|source| CheckpointError::Io { path: self.path.clone(), source })?;
        decode(&bytes).map_err(|reason| CheckpointError::Corrupt { path: self.path.clone(), reason })
    }

    pub fn save(&self, paths: Vec<PathEntry>) -> Result<(), CheckpointError> {
        write_atomically(self.disk.as_ref(), &self.path, &encode(paths))
            .map_err(|source| CheckpointError::Io { path: self.path.clone(), source })
    }
}

fn encode(paths: Vec<PathEntry>) -> Vec<u8> {
    serde_json::to_vec(&Checkpoint { version: VERSION, paths }).expect("paths in a checkpoint are UTF-8")
}

fn decode(bytes: &[u8]) -> Result<Vec<PathEntry>, String> {
    let checkpoint: Checkpoint = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if checkpoint.version != VERSION {
        return Err(format!("version {} is not known", checkpoint.version));
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

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }
    }
}
