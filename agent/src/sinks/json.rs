//! Lines as JSON objects, one a line: `{"@timestamp": …, labels…, metadata…, "message": …}`.

use model::{Labels, LineRef, LogBatch};
use serde_json::{Map, Value};
use service::config::SinkEncoding;

/// RFC 3339 in UTC with nanoseconds.
pub fn time(t_ns: i64) -> String {
    chrono::DateTime::from_timestamp_nanos(t_ns).to_rfc3339_opts(chrono::SecondsFormat::Nanos, true)
}

/// A line's labels, metadata and text as fields.
pub fn object(batch: &LogBatch, line: &LineRef<'_>) -> Value {
    let mut fields = Map::new();
    let mut add = |labels: &Labels| {
        for label in labels {
            fields.insert(label.name.to_string(), Value::from(&*label.value));
        }
    };
    add(&batch.streams[line.stream as usize]);
    add(&batch.metadata[line.metadata as usize]);
    fields.insert("@timestamp".to_owned(), time(line.t_ns).into());
    fields.insert("message".to_owned(), line.text.into());
    Value::Object(fields)
}

/// A line as it is written to files, standard output and Kafka, without a newline.
pub fn encode(batch: &LogBatch, line: &LineRef<'_>, encoding: SinkEncoding) -> String {
    match encoding {
        SinkEncoding::Json => object(batch, line).to_string(),
        SinkEncoding::Text => line.text.to_owned(),
    }
}
