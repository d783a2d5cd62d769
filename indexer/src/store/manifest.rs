//! The manifest: the one truth about what the store holds, replaced atomically.
//!
//! A line of JSON and a line with its CRC-32 in hexadecimal. It names every segment with the length and CRC of every file,
//! the next offset of each partition and the covered ranges of tailed files, all of one moment; whatever else lies in
//! the directory is rubbish of an interrupted publication.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use disk::{Disk, write_atomically};
use serde::{Deserialize, Serialize};

use super::erasure::{Erasure, Request};
use super::error::StoreError;
use super::ranges::Ranges;

pub const MANIFEST: &str = "manifest";
/// Format 1 knew no erasures.
const FORMAT: u32 = 2;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    /// The bus whose offsets these are.
    pub bus: String,
    pub next_segment: u64,
    pub next_offset: BTreeMap<u32, u64>,
    pub ranges: Ranges,
    pub segments: Vec<SegmentEntry>,
    /// The number of the next erasure.
    #[serde(default)]
    pub next_erasure: u64,
    /// Erasures that segments are read through.
    #[serde(default)]
    pub erasures: Vec<Arc<Erasure>>,
    /// The newest of those that were carried out.
    #[serde(default)]
    pub erased: Vec<Request>,
    /// Segments of manifests whose writing failed when they may have been in place already: a power cut may bring one of
    /// those back, so that these stay until a later manifest is durable. Not on disk.
    #[serde(skip)]
    pub doubtful: BTreeSet<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SegmentEntry {
    pub id: u64,
    /// Among lines of the same instant those of the lower order come first: the lowest id that was merged into this.
    pub order: u64,
    pub tenant: String,
    /// Days since 1970, UTC, of all its lines.
    pub day: i64,
    pub min_ns: i64,
    pub max_ns: i64,
    pub lines: u64,
    pub text_bytes: u64,
    /// Erasures with lower numbers are carried out in it.
    #[serde(default)]
    pub erased_below: u64,
    pub files: Vec<FileEntry>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FileEntry {
    pub name: String,
    pub len: u64,
    pub crc: u32,
}

impl SegmentEntry {
    /// Of a segment without lines yet.
    pub fn new(id: u64, order: u64, tenant: &str, day: i64, erased_below: u64) -> SegmentEntry {
        let (min_ns, max_ns, lines, text_bytes) = (i64::MAX, i64::MIN, 0, 0);
        let tenant = tenant.to_owned();
        SegmentEntry { id, order, tenant, day, min_ns, max_ns, lines, text_bytes, erased_below, files: Vec::new() }
    }

    pub fn dir_name(&self) -> String {
        dir_name(self.id)
    }
}

fn dir_name(id: u64) -> String {
    format!("{id:016x}")
}

/// Whether a name in the store's directory is one that segments have.
pub fn is_segment_dir(name: &str) -> bool {
    name.len() == 16 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

impl Manifest {
    pub fn new(bus: &str) -> Manifest {
        Manifest {
            format: FORMAT,
            bus: bus.to_owned(),
            next_segment: 1,
            next_offset: BTreeMap::new(),
            ranges: Ranges::default(),
            segments: Vec::new(),
            next_erasure: 0,
            erasures: Vec::new(),
            erased: Vec::new(),
            doubtful: BTreeSet::new(),
        }
    }

    /// The id of a new segment; never given twice, whatever becomes of the segment.
    pub fn take_segment_id(&mut self) -> u64 {
        self.next_segment += 1;
        self.next_segment - 1
    }

    /// Whether a segment's directory must stay.
    pub fn keeps(&self, name: &str) -> bool {
        self.segments.iter().any(|entry| entry.dir_name() == name)
            || self.doubtful.iter().any(|id| dir_name(*id) == name)
    }

    /// Makes `next` the manifest, on disk and here. After a failure the one here stays as it was, but for what is doubtful.
    pub fn replace(&mut self, mut next: Manifest, disk: &dyn Disk, dir: &Path) -> Result<(), StoreError> {
        next.doubtful.clear();
        if let Err(error) = next.write(disk, dir) {
            // Only what was never in place cannot come back.
            let was_in_place = Manifest::read(disk, dir).map_or(true, |found| found.as_ref() == Some(&next));
            if was_in_place {
                self.doubtful.extend(next.segments.iter().map(|entry| entry.id));
            }
            return Err(error);
        }
        *self = next;
        Ok(())
    }

    pub fn write(&self, disk: &dyn Disk, dir: &Path) -> Result<(), StoreError> {
        let path = dir.join(MANIFEST);
        let mut text = serde_json::to_string(self).map_err(|error| StoreError::corrupt(&path, error.to_string()))?;
        text.push_str(&format!("\n{:08x}\n", crc32fast::hash(text.as_bytes())));
        write_atomically(disk, &path, text.as_bytes()).map_err(StoreError::io("writing the manifest", &path))
    }

    /// `None` where there is none yet.
    pub fn read(disk: &dyn Disk, dir: &Path) -> Result<Option<Manifest>, StoreError> {
        let path = dir.join(MANIFEST);
        let bytes = match disk.read(&path) {
            Ok(bytes) => bytes,
            // Only this means that there is none: taking EIO for it would remove every segment.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::io("reading the manifest", &path)(error)),
        };
        Manifest::decode(&bytes).map(Some).map_err(|reason| StoreError::corrupt(&path, reason))
    }

    fn decode(bytes: &[u8]) -> Result<Manifest, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "not UTF-8")?;
        let (body, crc) = text.trim_end().rsplit_once('\n').ok_or("cut short")?;
        if u32::from_str_radix(crc, 16) != Ok(crc32fast::hash(body.as_bytes())) {
            return Err("the checksum does not fit".to_owned());
        }
        let manifest: Manifest = serde_json::from_str(body).map_err(|error| error.to_string())?;
        match manifest.format {
            1 | FORMAT => Ok(Manifest { format: FORMAT, ..manifest }),
            other => Err(format!("format {other} is unknown; this program writes {FORMAT}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use model::FileId;

    use super::*;

    fn sample() -> Manifest {
        let mut manifest = Manifest::new("a-bus");
        manifest.next_segment = 8;
        manifest.next_offset.insert(0, 42);
        manifest.ranges.cover(FileId(255), 0, 100);
        let files = vec![FileEntry { name: "streams.json".into(), len: 10, crc: 7 }];
        let (tenant, day) = ("default".to_owned(), 20_000);
        manifest.segments.push(SegmentEntry {
            id: 7,
            order: 3,
            tenant,
            day,
            min_ns: -1,
            max_ns: 9,
            lines: 2,
            text_bytes: 5,
            erased_below: 1,
            files,
        });
        let request = |id: &str| Request {
            id: id.to_owned(),
            tenant: "default".to_owned(),
            query: r#"{a="b"} |= "c""#.to_owned(),
            start_ns: -1,
            end_ns: i64::MAX,
            created_ms: 4,
        };
        manifest.next_erasure = 2;
        manifest.erasures.push(Arc::new(Erasure::new(1, request("1f")).expect("good")));
        manifest.erased.push(request("1e"));
        manifest
    }

    fn fixture(format: u32) -> Vec<u8> {
        let path = format!("{}/testdata/manifest-v{format}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read(path).expect("the fixture")
    }

    /// Format 1 is readable for ever.
    #[test]
    fn golden_before_erasures() {
        let mut expected = sample();
        expected.next_erasure = 0;
        expected.erasures.clear();
        expected.erased.clear();
        expected.segments[0].erased_below = 0;
        assert_eq!(Manifest::decode(&fixture(1)), Ok(expected));
    }

    #[test]
    fn golden() {
        let golden = fixture(FORMAT);
        assert_eq!(Manifest::decode(&golden), Ok(sample()));
        let disk = disk::FakeDisk::default();
        disk.create_dir_all(Path::new("/m")).expect("created");
        sample().write(&disk, Path::new("/m")).expect("written");
        assert_eq!(disk.read(Path::new("/m/manifest")).expect("read"), golden);
    }

    #[test]
    fn damage_is_noticed() {
        let disk = disk::FakeDisk::default();
        disk.create_dir_all(Path::new("/m")).expect("created");
        sample().write(&disk, Path::new("/m")).expect("written");
        let good = disk.read(Path::new("/m/manifest")).expect("read");
        for at in 0..good.len() - 1 {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(Manifest::decode(&bad).is_err(), "flipped at {at}");
        }
        assert!(Manifest::decode(&good[..good.len() / 2]).is_err());
    }
}
