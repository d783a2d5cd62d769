//! Parts of any bytes, past the checksums: what a bit flip cannot reach, a fuzzer does.

use std::path::Path;
use std::sync::Arc;

use disk::{Disk, FakeDisk};
use query::Wants;

use super::{
    Cursor, Directory, FOOTER_BYTES, HEADER, HEADER_VERSION, Index, MAGIC, Part, PartWriter, Reading, Summary,
};
use crate::store::columns::Samples;
use crate::store::exemplars::thin;

/// Reads all of a part that is like these bytes, with the right checksums, and writes it again, as a merge does. Answers
/// how many samples it had.
pub fn read_any_part(bytes: &[u8]) -> usize {
    let Some((file, summary)) = resealed(bytes) else { return 0 };
    let (disk, dir) = (FakeDisk::new(), Path::new("parts"));
    let (path, merged) = (&dir.join("a.part"), &dir.join("b.part"));
    disk.create_dir_all(dir).expect("created");
    disk.create(path).and_then(|mut out| out.append(&file)).expect("written");
    let load = |path, summary| Arc::new(Part::open(&disk, path, summary)?).load();
    let part = load(path, &summary).expect("its directory is good");
    let mut writer = PartWriter::create(&disk, merged, super::Packing::Small).expect("created");
    let (mut cursor, mut found) = (Cursor::default(), 0);
    for id in 0..part.series() {
        let labels = part.labels(id);
        assert!(part.has_labels(id, &labels));
        let (samples, is_good) = read(&part, id, &Reading::ALL, &mut cursor);
        let (presence, _) = read(&part, id, &Reading { wants: Wants::Presence, ..Reading::ALL }, &mut cursor);
        assert!(!is_good || presence.timestamps_ms == samples.timestamps_ms);
        let narrow = Reading { start_ms: 0, end_ms: 1 << 40, wants: Wants::Values };
        let (narrow, _) = read(&part, id, &narrow, &mut cursor);
        assert!(!is_good || narrow.len() <= samples.len());
        let exemplars = part.exemplars(id, &Reading::ALL, &mut cursor);
        let mut exemplars = exemplars.unwrap_or_default();
        thin(&mut exemplars);
        if is_good && !(samples.is_empty() && exemplars.is_empty()) {
            found += samples.len();
            writer.add(&labels, &samples, &exemplars).expect("added");
        }
    }
    assert!(part.series() == 0 || part.hash(0) == part.labels(0).hash(""));
    let summary = writer.finish().expect("finished");
    load(merged, &summary).expect("what was written is opened");
    found
}

fn read(part: &Directory, id: u32, reading: &Reading, cursor: &mut Cursor) -> (Samples, bool) {
    let mut into = Samples::default();
    let read = part.read(id, reading, cursor, &mut into);
    if read.is_err() {
        return (Samples::default(), false);
    }
    assert!(into.timestamps_ms.is_sorted_by(|a, b| a < b), "each instant once");
    assert_eq!(into.values.len(), into.len());
    assert!(into.starts_ms.is_empty() || into.starts_ms.len() == into.len());
    assert!(into.histograms.is_sorted_by(|a, b| a.0 < b.0));
    assert!(into.histograms.last().is_none_or(|(at, _)| (*at as usize) < into.len()));
    (into, true)
}

/// The bytes as a file whose checksums are right, unless the directory is malformed.
fn resealed(bytes: &[u8]) -> Option<(Vec<u8>, Summary)> {
    let (rest, footer) = bytes.split_at_checked(bytes.len().checked_sub(FOOTER_BYTES)?)?;
    let offset = u64::from_le_bytes(footer.first_chunk().copied()?);
    let (content, directory) = rest.split_at_checked(usize::try_from(offset).ok()?)?;
    let version = content.get(HEADER_VERSION).copied().filter(|version| [1, 2].contains(version))?;
    let mut index = Index::decode(directory, version, HEADER.len() as u64)?;
    for frame in &mut index.frames {
        let stored = usize::try_from(frame.offset).ok().and_then(|from| content.get(from..));
        let stored = stored.and_then(|from| from.get(..frame.stored_bytes as usize));
        frame.crc = stored.map_or(frame.crc, crc32fast::hash);
    }
    let directory = index.encode();
    assert_eq!(Index::decode(&directory, 2, HEADER.len() as u64).as_ref(), Some(&index));
    let mut file = HEADER.to_vec();
    file.extend_from_slice(content.get(HEADER.len()..)?);
    let offset = file.len() as u64;
    let mut checked = directory.clone();
    checked.extend_from_slice(&offset.to_le_bytes());
    checked.extend_from_slice(&(directory.len() as u64).to_le_bytes());
    let crc = crc32fast::hash(&checked);
    file.extend_from_slice(&checked);
    file.extend_from_slice(&crc.to_le_bytes());
    file.extend_from_slice(&MAGIC);
    let summary = Summary { bytes: file.len() as u64, crc, ..Summary::default() };
    Some((file, summary))
}
