//! What a start finds on disk: segments in order, the last one checked record by record.
//!
//! A power cut leaves the unsynced end of the last segment in any state, even valid frames behind a hole, so the first
//! bad frame ends the log. It is damage instead, and the start fails, when a later frame says that the bad one had been
//! fsynced: every frame carries the offset up to which the log was durable when it was written.
//! What survived is fsynced before anyone sees it, because after `kill -9` it may be in the page cache only.

use std::path::Path;

use disk::Disk;

use super::frame::{self, Frame, HEADER_BYTES};
use super::io_error;
use super::topic::Segment;
use crate::{BusError, Offset, Topic};

/// The segments of a topic, contiguous and durable, by rising offset.
pub fn recover(disk: &dyn Disk, dir: &Path, topic: Topic) -> Result<Vec<Segment>, BusError> {
    let names = disk.list(dir).map_err(io_error("cannot list the topic directory", dir))?;
    let firsts: Vec<Offset> = names.iter().filter_map(|name| frame::parse_segment_name(name)).collect();
    let mut segments = Vec::with_capacity(firsts.len());
    for (i, first) in firsts.iter().enumerate() {
        let path = dir.join(frame::segment_name(*first));
        match firsts.get(i + 1) {
            Some(next) => {
                let bytes = disk.len(&path).map_err(io_error("cannot read a bus segment", &path))?;
                segments.push(Segment { first: *first, end: *next, bytes, path });
            }
            None => segments.extend(recover_last(disk, topic, *first, i == 0, &path)?),
        }
    }
    disk.sync_dir(dir).map_err(io_error("cannot sync the topic directory", dir))?;
    Ok(segments)
}

/// Checks the last segment and cuts what a crash tore; `None` when not even its header was finished.
fn recover_last(
    disk: &dyn Disk,
    topic: Topic,
    first: Offset,
    is_only: bool,
    path: &Path,
) -> Result<Option<Segment>, BusError> {
    let bytes = disk.read(path).map_err(io_error("cannot read a bus segment", path))?;
    if !bytes.starts_with(&frame::segment_header(topic, first)) {
        // A segment is begun only when the one before it is whole; alone, only offset 0 can have been torn at birth.
        if (is_only && first > 0) || has_synced_frame(&bytes, 0, first) {
            return Err(corrupt(path, 0, "the segment header is damaged"));
        }
        disk.remove(path).map_err(io_error("cannot remove a torn bus segment", path))?;
        return Ok(None);
    }
    let (mut at, mut end) = (HEADER_BYTES, first);
    while let Some(Frame { offset, .. }) = frame::read_frame(&bytes[at..]).filter(|frame| frame.offset == end) {
        at += frame::FRAME_HEADER_BYTES + frame::record_bytes(&bytes[at..]).unwrap_or(0);
        end = offset + 1;
    }
    if at < bytes.len() {
        if has_synced_frame(&bytes, at, end) {
            return Err(corrupt(path, at, &format!("record {end} is damaged and later ones are not")));
        }
        tracing::info!(path = %path.display(), at, cut_bytes = bytes.len() - at, "cut the torn end of a bus segment");
        disk.truncate(path, at as u64).map_err(io_error("cannot cut a bus segment", path))?;
    }
    let synced = disk.append(path).and_then(|mut file| file.sync());
    synced.map_err(io_error("cannot sync a bus segment", path))?;
    Ok(Some(Segment { first, end, bytes: at as u64, path: path.to_owned() }))
}

/// Whether a whole frame at or after `start` was written when `offset` was already durable. What looks like a frame may
/// be text that a client sent, inside a torn record: it counts only if its offset fits the bytes before it.
fn has_synced_frame(bytes: &[u8], start: usize, offset: Offset) -> bool {
    let mut from = start;
    while let Some(at) = frame::find_magic(bytes, from) {
        let most_frames_between = (at - start) / frame::FRAME_HEADER_BYTES;
        let fits = |frame: &Frame<'_>| {
            frame.offset.checked_sub(offset).is_some_and(|ahead| ahead <= most_frames_between as u64)
                && frame.synced <= frame.offset
        };
        if frame::read_frame(&bytes[at..]).is_some_and(|frame| fits(&frame) && frame.synced > offset) {
            return true;
        }
        from = at + 1;
    }
    false
}

pub fn corrupt(path: &Path, at: usize, reason: &str) -> BusError {
    BusError::Corrupt(format!("{} at byte {at}: {reason}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame_bytes(offset: Offset, synced: Offset) -> Vec<u8> {
        let mut bytes = Vec::new();
        frame::write_frame(&mut bytes, &Frame { offset, synced, record: b"text" });
        bytes
    }

    /// Text that looks like a frame, in a record that a crash tore, used to make the log look damaged, and the process
    /// refuse to start.
    #[test]
    fn a_frame_in_a_senders_text_proves_nothing() {
        let torn: Vec<u8> = [vec![b'x'; 100], frame_bytes(0x7f7f_7f7f, 0x7f7f_7f7f)].concat();
        assert!(!has_synced_frame(&torn, 0, 5));
        let real: Vec<u8> = [vec![b'x'; 100], frame_bytes(7, 6)].concat();
        assert!(has_synced_frame(&real, 0, 5));
    }
}
