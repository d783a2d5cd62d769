//! Looking for damage: every file that the manifest names is read, and every block of it.

use std::path::Path;
use std::sync::Arc;

use disk::Disk;

use super::error::StoreError;
use super::manifest::Manifest;
use super::segment::{self, Segment};

/// What was looked at, and what of it is damaged.
#[derive(Debug, Default)]
pub struct Verified {
    pub segments: usize,
    pub bytes: u64,
    pub damage: Vec<StoreError>,
}

/// Checks the segments of a store's directory, which a server may have open: a segment that it merges away meanwhile is
/// looked for in vain, and named.
pub fn verify(disk: &Arc<dyn Disk>, dir: &Path) -> Result<Verified, StoreError> {
    let mut verified = Verified::default();
    for entry in Manifest::read(disk.as_ref(), dir)?.map_or_else(Vec::new, |manifest| manifest.segments) {
        verified.segments += 1;
        verified.bytes += entry.files.iter().map(|file| file.len).sum::<u64>();
        let segment_dir = dir.join(entry.dir_name());
        let files = entry.files.iter().filter_map(|file| segment::verify(disk.as_ref(), &segment_dir, file).err());
        verified.damage.extend(files);
        if let Ok(segment) = Segment::open(disk, dir, entry) {
            let blocks = 0..segment.blocks.len() as u32;
            verified.damage.extend(blocks.filter_map(|block| segment.block(block).err()));
        }
    }
    Ok(verified)
}
