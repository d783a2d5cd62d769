//! The forms that an export has: a JSON object per line, or Parquet.
//!
//! Parquet: `timestamp` (nanoseconds, UTC), `line` and `labels` (a map), in row groups of a bounded size that are sent as they
//! are full. A file that lacks its end is not a whole one, so an export that fails breaks the connection. Where a limit ends
//! it, the file's metadata says under `cursor` where to go on.

use std::io::Write;
use std::sync::Arc;

use model::Labels;
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::json;

/// Bytes of lines that are sent together.
const PIECE_BYTES: usize = 64 * 1024;
/// Bytes of lines and labels of a row group, which is in memory until it is sent.
const GROUP_BYTES: usize = 16 << 20;
const SCHEMA: &str = "message logs {
    REQUIRED INT64 timestamp (TIMESTAMP(NANOS,true));
    REQUIRED BINARY line (UTF8);
    REQUIRED GROUP labels (MAP) {
        REPEATED GROUP key_value { REQUIRED BINARY key (UTF8); REQUIRED BINARY value (UTF8); }
    }
}";

/// Takes a piece of an answer, or why there are no more; false where nobody takes it.
pub type Pass<'s> = Box<dyn FnMut(std::io::Result<Vec<u8>>) -> bool + Send + 's>;

/// How an export ended.
pub enum Ending {
    Complete,
    /// At its limit; the request goes on at this cursor.
    Cut(String),
    Failed(String),
}

pub trait Sheet {
    /// Adds a line; false where nobody reads on.
    fn add(&mut self, t_ns: i64, line: &str, labels: &Labels) -> bool;
    fn end(self: Box<Self>, ending: Ending);
}

pub struct JsonLines<'s> {
    piece: Vec<u8>,
    send: Pass<'s>,
}

impl<'s> JsonLines<'s> {
    pub fn new(send: Pass<'s>) -> JsonLines<'s> {
        JsonLines { piece: Vec::new(), send }
    }

    fn object(&mut self, object: &serde_json::Value) {
        self.piece.extend_from_slice(object.to_string().as_bytes());
        self.piece.push(b'\n');
    }
}

impl Sheet for JsonLines<'_> {
    fn add(&mut self, t_ns: i64, line: &str, labels: &Labels) -> bool {
        self.object(&json!({"timestamp": t_ns.to_string(), "line": line, "labels": labels}));
        self.piece.len() < PIECE_BYTES || (self.send)(Ok(std::mem::take(&mut self.piece)))
    }

    fn end(mut self: Box<Self>, ending: Ending) {
        match ending {
            Ending::Complete => {}
            Ending::Cut(cursor) => self.object(&json!({ "cursor": cursor })),
            Ending::Failed(error) => self.object(&json!({ "error": error })),
        }
        if !self.piece.is_empty() {
            (self.send)(Ok(std::mem::take(&mut self.piece)));
        }
    }
}

/// What the writer wrote, until it is sent.
struct Written<'s>(Pass<'s>);

impl Write for Written<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match (self.0)(Ok(bytes.to_vec())) {
            true => Ok(bytes.len()),
            false => Err(std::io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The columns of a row group.
#[derive(Default)]
struct Rows {
    t_ns: Vec<i64>,
    lines: Vec<ByteArray>,
    names: Vec<ByteArray>,
    values: Vec<ByteArray>,
    /// For each label, or each line without any: whether there is one, and whether it is not the line's first.
    is_there: Vec<i16>,
    goes_on: Vec<i16>,
    bytes: usize,
}

pub struct Parquet<'s> {
    writer: SerializedFileWriter<Written<'s>>,
    rows: Rows,
}

impl<'s> Parquet<'s> {
    pub fn new(send: Pass<'s>) -> Result<Parquet<'s>, ParquetError> {
        let schema = Arc::new(parse_message_type(SCHEMA)?);
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let writer = SerializedFileWriter::new(Written(send), schema, Arc::new(properties))?;
        Ok(Parquet { writer, rows: Rows::default() })
    }

    fn write_rows(&mut self) -> Result<(), ParquetError> {
        let Rows { t_ns, lines, names, values, is_there, goes_on, .. } = std::mem::take(&mut self.rows);
        let mut group = self.writer.next_row_group()?;
        let mut number = 0;
        while let Some(mut column) = group.next_column()? {
            let levels = (Some(&is_there[..]), Some(&goes_on[..]));
            match number {
                0 => column.typed::<Int64Type>().write_batch(&t_ns, None, None)?,
                1 => column.typed::<ByteArrayType>().write_batch(&lines, None, None)?,
                2 => column.typed::<ByteArrayType>().write_batch(&names, levels.0, levels.1)?,
                _ => column.typed::<ByteArrayType>().write_batch(&values, levels.0, levels.1)?,
            };
            column.close()?;
            number += 1;
        }
        group.close()?;
        Ok(())
    }

    fn finish(&mut self, cursor: Option<String>) -> Result<(), ParquetError> {
        if !self.rows.t_ns.is_empty() {
            self.write_rows()?;
        }
        if let Some(cursor) = cursor {
            self.writer.append_key_value_metadata(KeyValue::new("cursor".to_owned(), cursor));
        }
        self.writer.finish().map(drop)
    }

    fn fail(&mut self, reason: String) {
        (self.writer.inner_mut().0)(Err(std::io::Error::other(reason)));
    }
}

impl Sheet for Parquet<'_> {
    fn add(&mut self, t_ns: i64, line: &str, labels: &Labels) -> bool {
        let rows = &mut self.rows;
        rows.t_ns.push(t_ns);
        rows.lines.push(line.as_bytes().to_vec().into());
        rows.bytes += line.len() + size_of::<i64>();
        for (place, label) in labels.iter().enumerate() {
            rows.names.push(label.name.as_bytes().to_vec().into());
            rows.values.push(label.value.as_bytes().to_vec().into());
            rows.is_there.push(1);
            rows.goes_on.push(i16::from(place > 0));
            rows.bytes += label.name.len() + label.value.len();
        }
        if labels.is_empty() {
            rows.is_there.push(0);
            rows.goes_on.push(0);
        }
        if rows.bytes < GROUP_BYTES {
            return true;
        }
        match self.write_rows() {
            Ok(()) => true,
            Err(error) => {
                self.fail(error.to_string());
                false
            }
        }
    }

    fn end(mut self: Box<Self>, ending: Ending) {
        let done = match ending {
            Ending::Complete => self.finish(None).map_err(|error| error.to_string()),
            Ending::Cut(cursor) => self.finish(Some(cursor)).map_err(|error| error.to_string()),
            Ending::Failed(error) => Err(error),
        };
        if let Err(reason) = done {
            self.fail(reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader, SerializedFileReader};

    use super::*;

    /// A time, a text, and labels.
    type Row = (i64, &'static str, &'static [(&'static str, &'static str)]);

    /// What a file says that these lines were written to.
    fn check(lines: &[Row], ending: Ending, expected: &[&str], cursor: Option<&str>) {
        let mut bytes = Vec::new();
        let send = Box::new(|piece: std::io::Result<Vec<u8>>| {
            bytes.extend(piece.expect("it does not fail"));
            true
        });
        let mut sheet = Box::new(Parquet::new(send).expect("it begins"));
        for (t_ns, line, labels) in lines {
            assert!(sheet.add(*t_ns, line, &Labels::from_pairs(labels.iter().copied())));
        }
        sheet.end(ending);
        let reader = SerializedFileReader::new(axum::body::Bytes::from(bytes)).expect("a whole file");
        let rows: Vec<String> =
            reader.get_row_iter(None).expect("rows").map(|row| row.expect("a row").to_string()).collect();
        assert_eq!(rows, expected);
        let metadata = reader.metadata().file_metadata().key_value_metadata();
        let found = metadata.and_then(|pairs| pairs.iter().find(|pair| pair.key == "cursor")?.value.as_deref());
        assert_eq!(found, cursor);
    }

    #[test]
    fn rows_come_back() {
        check(&[], Ending::Complete, &[], None);
        let lines: [Row; 3] = [(1, "a \"é\"", &[("a", "b"), ("c", "d")]), (2, "", &[]), (3, "x", &[("a", "z")])];
        let expected = [
            r#"{timestamp: 1, line: "a "é"", labels: {"a" -> "b", "c" -> "d"}}"#,
            r#"{timestamp: 2, line: "", labels: {}}"#,
            r#"{timestamp: 3, line: "x", labels: {"a" -> "z"}}"#,
        ];
        check(&lines, Ending::Cut("3-1".into()), &expected, Some("3-1"));
    }

    #[test]
    fn a_failure_is_no_whole_file() {
        let (mut failure, mut length) = (String::new(), 0);
        let send = Box::new(|piece: std::io::Result<Vec<u8>>| {
            match piece {
                Ok(piece) => length += piece.len(),
                Err(error) => failure = error.to_string(),
            }
            true
        });
        Box::new(Parquet::new(send).expect("it begins")).end(Ending::Failed("too slow".into()));
        assert_eq!(failure, "too slow");
    }
}
