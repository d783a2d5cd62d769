//! Answers in Loki's JSON.

use std::collections::HashMap;

use ::query::logql::LogStream;
use ::query::{Row, Value, format_number};
use model::{Labels, Sample};
use serde_json::{Value as Json, json};

pub fn success(data: Json) -> Json {
    json!({"status": "success", "data": data})
}

fn result(kind: &str, result: Json) -> Json {
    success(json!({"resultType": kind, "result": result, "stats": {}}))
}

pub fn streams(streams: Vec<LogStream>) -> Json {
    result("streams", stream_list(streams))
}

pub fn stream_list(streams: Vec<LogStream>) -> Json {
    let one = |stream: LogStream| {
        let entries = stream.entries.into_iter().map(|entry| json!([entry.t_ns.to_string(), entry.line]));
        json!({"stream": stream.labels, "values": entries.collect::<Vec<_>>()})
    };
    streams.into_iter().map(one).collect()
}

/// Lines in the order they came, those of one label set together.
#[derive(Default)]
pub struct Grouped {
    places: HashMap<Labels, usize>,
    pub streams: Vec<LogStream>,
}

impl Grouped {
    pub fn push(&mut self, labels: Labels, entry: ::query::logql::LogEntry) {
        let streams = &mut self.streams;
        let place = *self.places.entry(labels).or_insert_with_key(|labels| {
            streams.push(LogStream { labels: labels.clone(), entries: Vec::new() });
            streams.len() - 1
        });
        streams[place].entries.push(entry);
    }
}

fn point(sample: &Sample) -> Json {
    json!([sample.t_ms as f64 / 1000.0, format_number(sample.value)])
}

pub fn value(value: Value) -> Json {
    match value {
        Value::Scalar(sample) => result("scalar", point(&sample)),
        Value::Text(t_ms, text) => result("string", json!([t_ms as f64 / 1000.0, text])),
        Value::Vector(rows) => {
            let row = |(labels, sample): (Labels, Sample)| json!({"metric": labels, "value": point(&sample)});
            result("vector", ::query::float_samples(rows).into_iter().map(row).collect())
        }
        Value::Matrix(rows) => {
            let values = |row: &Row| row.values.iter().map(point).collect::<Vec<_>>();
            let row = |row: Row| json!({"metric": row.labels, "values": values(&row)});
            result("matrix", rows.into_iter().map(row).collect())
        }
    }
}
