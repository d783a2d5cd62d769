//! What metrics are, as their sources say: by tenant and metric, each description once.
//!
//! Kept in memory and, before a manifest covers the records it came with, in `<tsdb>/metadata.json`: the CRC32 of the JSON
//! in eight hex digits, a newline, the JSON, replaced atomically. It is bounded; a damaged file is as good as none, since
//! sources say it again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use disk::{Disk, write_atomically};
use model::{MetricKind, MetricMetadata};
use serde::{Deserialize, Serialize};

use super::{Store, StoreError};

/// Descriptions of one tenant, at most.
const MAX_ENTRIES: usize = 100_000;

/// Kind, help and unit.
type Description = (MetricKind, String, String);

#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Metadata {
    tenants: BTreeMap<String, Tenant>,
    #[serde(skip)]
    refused: u64,
    /// Not yet saved.
    #[serde(skip)]
    is_changed: bool,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Tenant {
    metrics: BTreeMap<String, BTreeSet<Description>>,
    entries: usize,
}

impl Metadata {
    pub fn load(disk: &dyn Disk, dir: &Path) -> Result<Metadata, StoreError> {
        let path = path_in(dir);
        match disk.read(&path) {
            Ok(bytes) => Ok(decode(&bytes).unwrap_or_else(|| {
                tracing::warn!(path = %path.display(), "the descriptions of metrics are damaged; they begin anew");
                Metadata::default()
            })),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Metadata::default()),
            Err(error) => Err(StoreError::io("cannot read the descriptions of metrics", &path, error)),
        }
    }

    pub fn add(&mut self, tenant: &str, metadata: &[MetricMetadata]) {
        for one in metadata {
            let tenant = self.tenants.entry(tenant.to_owned()).or_default();
            let description = (one.kind, one.help.clone(), one.unit.clone());
            if tenant.metrics.get(&one.name).is_some_and(|known| known.contains(&description)) {
                continue;
            }
            if tenant.entries >= MAX_ENTRIES {
                self.refused += 1;
                continue;
            }
            tenant.metrics.entry(one.name.clone()).or_default().insert(description);
            tenant.entries += 1;
            self.is_changed = true;
        }
    }

    fn encode(&self) -> Vec<u8> {
        let json = serde_json::to_vec(self).expect("descriptions are plain data");
        let mut bytes = format!("{:08x}\n", crc32fast::hash(&json)).into_bytes();
        bytes.extend_from_slice(&json);
        bytes
    }
}

fn decode(bytes: &[u8]) -> Option<Metadata> {
    let (crc, json) = bytes.split_at_checked(9)?;
    let is_whole = format!("{:08x}\n", crc32fast::hash(json)).as_bytes() == crc;
    if is_whole { serde_json::from_slice(json).ok() } else { None }
}

fn path_in(dir: &Path) -> PathBuf {
    dir.join("metadata.json")
}

impl Store {
    /// What is known of metrics, or of one: at most `limit` metrics, each with at most `limit_per_metric` descriptions.
    pub fn metadata(
        &self,
        tenant: &str,
        metric: Option<&str>,
        limit: usize,
        limit_per_metric: usize,
    ) -> BTreeMap<String, Vec<MetricMetadata>> {
        let metadata = self.metadata.lock();
        let Some(tenant) = metadata.tenants.get(tenant) else { return BTreeMap::new() };
        let is_asked = |name: &str| metric.is_none_or(|metric| metric == name);
        let asked = tenant.metrics.iter().filter(|(name, _)| is_asked(name)).take(limit);
        asked
            .map(|(name, known)| {
                let one = |(kind, help, unit): &Description| MetricMetadata {
                    name: name.clone(),
                    kind: *kind,
                    help: help.clone(),
                    unit: unit.clone(),
                };
                (name.clone(), known.iter().take(limit_per_metric).map(one).collect())
            })
            .collect()
    }

    /// How many descriptions found no room since the start.
    pub fn metadata_refused(&self) -> u64 {
        self.metadata.lock().refused
    }

    /// Makes durable what is known of metrics.
    pub(super) fn save_metadata(&self) -> Result<(), StoreError> {
        let bytes = {
            let mut metadata = self.metadata.lock();
            if !std::mem::take(&mut metadata.is_changed) {
                return Ok(());
            }
            metadata.encode()
        };
        let path = path_in(&self.dir);
        write_atomically(self.disk.as_ref(), &path, &bytes).map_err(|error| {
            self.metadata.lock().is_changed = true;
            StoreError::io("cannot write the descriptions of metrics", &path, error)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expected: bool) {
        assert_eq!(decode(bytes).is_some(), expected);
    }

    #[test]
    fn descriptions_come_back_once_and_bounded() {
        let one = |i: usize| MetricMetadata {
            name: format!("m{}", i / 2),
            kind: MetricKind::ALL[i % 2],
            help: "h".to_owned(),
            unit: String::new(),
        };
        let mut metadata = Metadata::default();
        let all: Vec<_> = (0..MAX_ENTRIES + 10).map(one).collect();
        metadata.add("t", &all);
        metadata.add("t", &all[..10]);
        assert_eq!((metadata.refused, metadata.tenants["t"].entries), (10, MAX_ENTRIES));
        let bytes = metadata.encode();
        assert_eq!(decode(&bytes).expect("whole").tenants["t"].metrics, metadata.tenants["t"].metrics);
        check(&bytes[..bytes.len() - 1], false);
        check(b"00000000\n{}", false);
        check(b"", false);
    }
}
