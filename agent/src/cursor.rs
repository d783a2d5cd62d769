//! How far what is no file was acknowledged, each in a file of the state directory: the journal's cursor, what the API server
//! told. A cursor's text is its reader's.
//!
//! # Contracts
//! - A cursor is written only after the bus has acknowledged everything up to it.
//! - Replaced atomically and durably; a file that does not parse stops the agent rather than being guessed at.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use disk::{Disk, write_atomically};
use serde::{Deserialize, Serialize};

use crate::logs::checkpoint::{CheckpointError, read_if_there};

const VERSION: u32 = 1;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Checkpoint {
    version: u32,
    cursor: String,
}

/// Where the cursor is kept.
pub struct CursorFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
}

impl CursorFile {
    pub fn new(disk: Arc<dyn Disk>, state_dir: &Path, file_name: &str) -> Result<CursorFile, CheckpointError> {
        let path = state_dir.join(file_name);
        disk.create_dir_all(state_dir).map_err(|source| CheckpointError::Io { path: path.clone(), source })?;
        Ok(CursorFile { disk, path })
    }

    /// What was saved last; nothing when nothing ever was.
    pub fn load(&self) -> Result<Option<String>, CheckpointError> {
        let Some(bytes) = read_if_there(self.disk.as_ref(), &self.path)? else { return Ok(None) };
        decode(&bytes).map(Some).map_err(|reason| CheckpointError::Corrupt { path: self.path.clone(), reason })
    }

    pub fn save(&self, cursor: &str) -> Result<(), CheckpointError> {
        write_atomically(self.disk.as_ref(), &self.path, &encode(cursor))
            .map_err(|source| CheckpointError::Io { path: self.path.clone(), source })
    }
}

fn encode(cursor: &str) -> Vec<u8> {
    serde_json::to_vec(&Checkpoint { version: VERSION, cursor: cursor.to_owned() }).expect("text is JSON")
}

fn decode(bytes: &[u8]) -> Result<String, String> {
    let checkpoint: Checkpoint = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    match checkpoint.version {
        VERSION => Ok(checkpoint.cursor),
        other => Err(format!("version {other} is not known")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(bytes: &[u8], expected: Result<&str, &str>) {
        match (decode(bytes), expected) {
            (Ok(cursor), Ok(expected)) => assert_eq!(cursor, expected),
            (Err(reason), Err(part)) => assert!(reason.contains(part), "{reason}"),
            (got, expected) => panic!("{got:?} instead of {expected:?}"),
        }
    }

    /// The format on disk, version 1. Never changed: a new version gets a fixture of its own.
    #[test]
    fn version_1_is_read_and_written() {
        let golden = include_bytes!("../testdata/journal-v1.json").trim_ascii_end();
        check(golden, Ok("s=5c;i=1f;b=9d;m=2a;t=63f;x=77"));
        assert_eq!(encode("s=5c;i=1f;b=9d;m=2a;t=63f;x=77"), golden);
        check(b"{}", Err("missing field"));
        check(br#"{"version":2,"cursor":""}"#, Err("version 2"));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100), cursor in ".{0,50}") {
            let _ = decode(&bytes);
            prop_assert_eq!(decode(&encode(&cursor)), Ok(cursor));
        }
    }
}
