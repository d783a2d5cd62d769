//! The bytes of a record: one frame around one columnar batch. The format is in `docs/format/record.md`.
//!
//! # Contracts
//! - [`decode`] of what [`encode`] wrote gives the same batch, bit for bit in its floats.
//! - [`decode`] takes bytes from anywhere: it answers [`BusError::Corrupt`], never panics, and what it allocates is bounded
//!   by a small multiple of the input and by [`MAX_RECORD_BYTES`] of decompressed body, so a small frame cannot blow up.
//! - [`split`] gives batches that encode to at most [`MAX_RECORD_BYTES`], unless one single item (a label set, an event)
//!   is larger than that by itself; appending such a one answers [`BusError::TooLarge`].

mod body;
mod rich;
mod sets;
mod split;
mod wire;

use model::Batch;

use crate::BusError;
use body::Written;
pub use split::split;
use wire::{Reader, Writer};

/// The largest encoded record: Kafka brokers take 1,048,588 bytes by default, and leave room for their own headers.
pub const MAX_RECORD_BYTES: usize = 900_000;

/// Lines, alerts, forgotten files; and metrics as they were written before [`SERIES_VERSION`].
const VERSION: u8 = 1;
/// Deletes; metrics with histograms, start times, exemplars and metadata as they were written before.
const RICH_VERSION: u8 = 2;
/// Metrics.
const SERIES_VERSION: u8 = 3;
/// Version, kind, compression, CRC32.
const HEADER_BYTES: usize = 7;
/// The largest body before compression: with its header it is a record even when it does not compress.
const MAX_BODY_BYTES: usize = MAX_RECORD_BYTES - HEADER_BYTES;
/// Below this zstd costs more than it saves.
const MIN_COMPRESSED_BYTES: usize = 512;
const ZSTD_LEVEL: i32 = 1;

const STORED: u8 = 0;
const ZSTD: u8 = 1;

/// An encoded batch, what it weighs before compression, and the labels of its series together.
pub(crate) struct Encoded {
    pub frame: Vec<u8>,
    pub body_bytes: usize,
    labels: usize,
}

/// Whether metrics are compressed; lines always are, being mostly text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    /// For the network.
    Small,
    /// For a disk on which they lie until the next part.
    Quick,
}

/// The frame of a batch. It may be over [`MAX_RECORD_BYTES`]: [`split`] first where that can be.
pub fn encode(batch: &Batch) -> Vec<u8> {
    encode_weighed(batch, Packing::Small).frame
}

/// Like [`encode`], but refuses what a reader would refuse.
pub(crate) fn encode_bounded(batch: &Batch, packing: Packing) -> Result<Encoded, BusError> {
    let encoded = encode_weighed(batch, packing);
    if encoded.body_bytes > MAX_BODY_BYTES || encoded.labels > sets::MAX_RECORD_LABELS {
        return Err(BusError::TooLarge { bytes: encoded.body_bytes + HEADER_BYTES });
    }
    Ok(encoded)
}

fn encode_weighed(batch: &Batch, packing: Packing) -> Encoded {
    let mut writer = Writer::with_header(HEADER_BYTES);
    let Written { kind, labels } = body::write(batch, &mut writer);
    let mut frame = writer.into_bytes();
    let body_bytes = frame.len() - HEADER_BYTES;
    let is_packed = packing == Packing::Small || !matches!(batch, Batch::Metrics(_));
    let compressed = is_packed.then(|| compress(&frame[HEADER_BYTES..])).flatten();
    let compression = if compressed.is_some() { ZSTD } else { STORED };
    frame = compressed.unwrap_or(frame);
    frame[..3].copy_from_slice(&[body::version(batch), kind, compression]);
    let crc = checksum(&frame);
    frame[3..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
    Encoded { frame, body_bytes, labels }
}

/// The compressed body behind room for a header, where it is at least an eighth smaller.
fn compress(body: &[u8]) -> Option<Vec<u8>> {
    if body.len() < MIN_COMPRESSED_BYTES || body.len() > MAX_BODY_BYTES {
        return None;
    }
    let compressed = zstd::bulk::compress(body, ZSTD_LEVEL).ok()?;
    if compressed.len() > body.len() / 8 * 7 {
        return None;
    }
    let mut frame = Vec::with_capacity(HEADER_BYTES + compressed.len());
    frame.resize(HEADER_BYTES, 0);
    frame.extend_from_slice(&compressed);
    Some(frame)
}

/// CRC32 (IEEE) of all of a frame but the checksum itself.
fn checksum(frame: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&frame[..3]);
    hasher.update(&frame[HEADER_BYTES..]);
    hasher.finalize()
}

pub fn decode(frame: &[u8]) -> Result<Batch, BusError> {
    Ok(decode_weighed(frame)?.0)
}

/// A batch and the bytes of its body before compression.
pub(crate) fn decode_weighed(frame: &[u8]) -> Result<(Batch, usize), BusError> {
    let corrupt = |reason: &str| BusError::Corrupt(reason.to_owned());
    if frame.len() < HEADER_BYTES || frame.len() > MAX_RECORD_BYTES {
        return Err(corrupt("no frame has this length"));
    }
    let [version, kind, compression] = [frame[0], frame[1], frame[2]];
    if !(VERSION..=SERIES_VERSION).contains(&version) {
        return Err(BusError::Corrupt(format!("record version {version} is not known")));
    }
    if frame[3..HEADER_BYTES] != checksum(frame).to_le_bytes() {
        return Err(corrupt("the checksum does not match"));
    }
    let body = &frame[HEADER_BYTES..];
    match compression {
        STORED => Ok((body::read(version, kind, Reader::new(body)).map_err(corrupt)?, body.len())),
        ZSTD => {
            let body = zstd::bulk::decompress(body, MAX_BODY_BYTES).map_err(|error| corrupt(&error.to_string()))?;
            Ok((body::read(version, kind, Reader::new(&body)).map_err(corrupt)?, body.len()))
        }
        _ => Err(corrupt("the compression is not known")),
    }
}

#[cfg(test)]
mod tests;
