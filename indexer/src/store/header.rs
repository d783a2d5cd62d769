//! Files of a segment that are a header, read when the segment is opened, and rows, read as they are asked for. They begin
//! with where the rows do, a `u32`.

use std::io;

use disk::DiskReader;

const START_BYTES: usize = size_of::<u32>();

/// Such a file.
pub fn with_rows(header: &[u8], rows: &[u8]) -> Vec<u8> {
    let rows_at = (START_BYTES + header.len()) as u32;
    [&rows_at.to_le_bytes(), header, rows].concat()
}

/// The header, and where the rows begin.
pub fn read(reader: &dyn DiskReader) -> io::Result<(Vec<u8>, u64)> {
    let mut start = [0; START_BYTES];
    reader.read_exact_at(0, &mut start)?;
    let rows_at = u32::from_le_bytes(start);
    if u64::from(rows_at) > reader.len()? || (rows_at as usize) < START_BYTES {
        return Err(malformed("rows that begin outside their file"));
    }
    let mut header = vec![0; rows_at as usize - START_BYTES];
    reader.read_exact_at(START_BYTES as u64, &mut header)?;
    Ok((header, u64::from(rows_at)))
}

pub fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}
