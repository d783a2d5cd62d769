//! Looking for damage: everything that a manifest names is read and checked.

use std::path::Path;
use std::sync::Arc;

use disk::Disk;

use super::manifest::Manifest;
use super::part::Part;
use super::{StoreError, part_path};

/// What was looked at, and what of it is damaged.
#[derive(Debug, Default)]
pub struct Verified {
    pub parts: usize,
    pub bytes: u64,
    pub damage: Vec<StoreError>,
}

/// Checks the parts of a store's directory, which a server may have open: a part that it merges away meanwhile is looked
/// for in vain, and named.
pub fn verify(disk: &dyn Disk, dir: &Path) -> Result<Verified, StoreError> {
    let mut verified = Verified::default();
    for entry in Manifest::load(disk, dir)?.map_or_else(Vec::new, |manifest| manifest.parts) {
        verified.parts += 1;
        verified.bytes += entry.summary.bytes;
        let part = Part::open(disk, &part_path(dir, entry.number), &entry.summary);
        match part.and_then(|part| Arc::new(part).load()) {
            Ok(directory) => verified.damage.extend(directory.verify()),
            Err(error) => verified.damage.push(error),
        }
    }
    Ok(verified)
}
