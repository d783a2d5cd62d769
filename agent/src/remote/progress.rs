//! How far a receiver has come: a small file, written whole.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use bus::Offset;
use disk::Disk;
use serde::{Deserialize, Serialize};

use super::{Remote, Surroundings};

const VERSION: u32 = 1;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    version: u32,
    /// Which bus the offsets are of.
    pub bus: String,
    /// The next offset to send, by partition.
    pub next: BTreeMap<u32, Offset>,
}

impl Progress {
    pub fn new(bus: String, next: BTreeMap<u32, Offset>) -> Progress {
        Progress { version: VERSION, bus, next }
    }
}

pub struct ProgressFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
}

impl ProgressFile {
    pub fn new(around: &Surroundings, remote: &Remote) -> ProgressFile {
        ProgressFile { disk: around.disk.clone(), path: around.dir.join(remote.file_name()) }
    }

    /// What was saved last; `None` when nothing ever was.
    pub fn load(&self) -> Result<Option<Progress>, String> {
        let said = |error: &dyn std::fmt::Display| format!("{}: {error}", self.path.display());
        let bytes = match self.disk.read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(said(&error)),
        };
        decode(&bytes).map(Some).map_err(|error| said(&error))
    }

    pub fn save(&self, progress: &Progress) -> Result<(), String> {
        let said = |error: std::io::Error| format!("{}: {error}", self.path.display());
        if let Some(dir) = self.path.parent() {
            self.disk.create_dir_all(dir).map_err(said)?;
        }
        let bytes = serde_json::to_vec(progress).expect("numbers and a name are JSON");
        disk::write_atomically(self.disk.as_ref(), &self.path, &bytes).map_err(said)
    }
}

fn decode(bytes: &[u8]) -> Result<Progress, String> {
    let progress: Progress = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if progress.version != VERSION {
        return Err(format!("version {} is not known", progress.version));
    }
    Ok(progress)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_1_is_read_and_written() {
        let golden = include_bytes!("../../testdata/remote-v1.json");
        let progress = decode(golden).expect("the fixture");
        assert_eq!(progress, Progress::new("b".to_owned(), BTreeMap::from([(0, 7), (1, 9)])));
        let written = serde_json::to_string(&progress).expect("JSON");
        assert_eq!(written, String::from_utf8_lossy(golden).trim_end());
        assert!(decode(br#"{"version":2,"bus":"b","next":{}}"#).expect_err("unknown").contains("version 2"));
        assert!(decode(b"{").is_err());
    }
}
