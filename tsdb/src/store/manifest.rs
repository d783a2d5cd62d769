//! The manifest: the only truth about what is published, and the offsets it stands for.
//!
//! One file, replaced atomically: eight hex digits of CRC32 and a newline, then JSON. Files that it does not name do not
//! exist; of parts of one tenant and day, a later one in the list wins over an earlier one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bus::Offset;
use disk::{Disk, write_atomically};
use serde::{Deserialize, Serialize};

use super::StoreError;
use super::deletions::Deletion;
use super::part::Summary;

/// The one that is written. Version 1 knows no deletions.
const VERSION: u32 = 2;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    version: u32,
    /// The log that the offsets are of.
    pub bus_id: String,
    /// By partition: everything below is in the parts.
    pub next: BTreeMap<u32, Offset>,
    /// No part has had this number yet.
    pub next_part: u64,
    pub parts: Vec<PartEntry>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartEntry {
    pub number: u64,
    pub tenant: String,
    /// Days since 1970 in UTC.
    pub day: i64,
    #[serde(flatten)]
    pub summary: Summary,
    /// Written to stay.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub packed: bool,
    /// What has been deleted of it since it was written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deletions: Vec<Arc<Deletion>>,
}

impl Manifest {
    pub fn new(bus_id: String) -> Manifest {
        Manifest { version: VERSION, bus_id, next: BTreeMap::new(), next_part: 1, parts: Vec::new() }
    }

    /// The number of the next part; never given twice, whatever becomes of the part.
    pub fn take_number(&mut self) -> u64 {
        let number = self.next_part;
        self.next_part += 1;
        number
    }

    /// Reads the manifest of a directory, if there is one.
    pub fn load(disk: &dyn Disk, dir: &Path) -> Result<Option<Manifest>, StoreError> {
        let path = manifest_path(dir);
        let bytes = match disk.read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::io("cannot read the manifest", &path, error)),
        };
        Manifest::decode(&bytes).map(Some).map_err(|reason| StoreError::Corrupt { path, offset: 0, reason })
    }

    pub fn save(&self, disk: &dyn Disk, dir: &Path) -> Result<(), StoreError> {
        let path = manifest_path(dir);
        write_atomically(disk, &path, &self.encode())
            .map_err(|error| StoreError::io("cannot write the manifest", &path, error))
    }

    fn encode(&self) -> Vec<u8> {
        let json = serde_json::to_vec(self).expect("a manifest is plain data");
        let mut bytes = format!("{:08x}\n", crc32fast::hash(&json)).into_bytes();
        bytes.extend_from_slice(&json);
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Manifest, &'static str> {
        let (crc, json) = bytes.split_at_checked(9).ok_or("the manifest is cut short")?;
        if format!("{:08x}\n", crc32fast::hash(json)).as_bytes() != crc {
            return Err("the manifest's checksum does not match");
        }
        let mut manifest: Manifest = serde_json::from_slice(json).map_err(|_| "the manifest is malformed")?;
        if !(1..=VERSION).contains(&manifest.version) {
            return Err("the manifest's version is not known");
        }
        manifest.version = VERSION;
        Ok(manifest)
    }
}

fn manifest_path(dir: &Path) -> PathBuf {
    dir.join("manifest.json")
}

#[cfg(test)]
mod tests {
    use model::{Deletes, MatchOp, Matcher};
    use proptest::prelude::*;

    use super::*;

    fn manifest() -> Manifest {
        let summary = Summary { bytes: 100, crc: 7, series: 2, samples: 5, min_ms: -1, max_ms: 9 };
        let part = PartEntry { number: 3, tenant: "t".into(), day: -1, summary, packed: false, deletions: Vec::new() };
        let next = BTreeMap::from([(0, 17)]);
        Manifest { next, next_part: 4, parts: vec![part], ..Manifest::new("bus".into()) }
    }

    /// The format of version 1.
    #[test]
    fn golden_manifest() {
        let golden = include_bytes!("../../testdata/manifest-v1.json");
        assert_eq!(Manifest::decode(golden).expect("it is one"), manifest());
    }

    #[test]
    fn golden_manifest_with_deletions() {
        let matchers =
            vec![Matcher::equal("a", "b"), Matcher::new("c", MatchOp::NotRegex, "d|e").expect("a good matcher")];
        let tenant = "t".to_owned();
        let deletes =
            Deletes { tenant, selectors: vec![matchers], start_ms: i64::MIN, end_ms: 7, partitions: 2, partition: 1 };
        let mut manifest = manifest();
        manifest.parts[0].deletions.push(Arc::new(Deletion::of(&deletes)));
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/manifest-v2.json");
        if std::env::var_os("BINNACLE_WRITE_GOLDEN").is_some() {
            std::fs::write(&path, manifest.encode()).expect("written");
        }
        let golden = std::fs::read(&path).expect("the fixture is there");
        assert_eq!(Manifest::decode(&golden).expect("it is one"), manifest);
        assert_eq!(manifest.encode(), golden);
    }

    #[test]
    fn damage_is_noticed() {
        let bytes = manifest().encode();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(Manifest::decode(&damaged).is_err(), "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = Manifest::decode(&bytes);
        }
    }
}
