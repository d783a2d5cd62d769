//! JSON as Prometheus writes it, straight into one buffer: results are large, and a tree of values would be larger.

use std::convert::Infallible;
use std::fmt::Write;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use model::{Histogram, Labels, Sample};
use query::{Point, Row, Value, format_number, write_number};

/// As many annotations of each kind are shown, as in Prometheus.
const MAX_NOTES: usize = 10;
/// Fewer samples are not worth a thread.
const SAMPLES_PER_THREAD: usize = 20_000;

/// A successful answer around `data`, which `write_data` writes.
pub fn success(warnings: &[String], infos: &[String], write_data: impl FnOnce(&mut String)) -> Response {
    respond(envelope(warnings, infos, write_data))
}

fn respond(body: impl IntoResponse) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// A text in pieces, each as it was written: what is large is not copied together.
pub struct Pieces(Vec<String>);

impl Pieces {
    /// Where the text goes on.
    pub fn last(&mut self) -> &mut String {
        if self.0.is_empty() {
            self.0.push(String::new());
        }
        let last = self.0.len() - 1;
        &mut self.0[last]
    }

    pub fn respond(mut self) -> Response {
        if self.0.len() <= 1 {
            return respond(self.0.pop().unwrap_or_default());
        }
        let pieces = self.0.into_iter().map(|piece| Ok::<_, Infallible>(Bytes::from(piece)));
        respond(Body::from_stream(futures::stream::iter(pieces)))
    }
}

/// The text of [`success`].
fn envelope(warnings: &[String], infos: &[String], write_data: impl FnOnce(&mut String)) -> String {
    let mut pieces = pieces(warnings, infos, |pieces| write_data(pieces.last()));
    std::mem::take(pieces.last())
}

/// As [`success`], around data that is written in pieces.
pub fn pieces(warnings: &[String], infos: &[String], write_data: impl FnOnce(&mut Pieces)) -> Pieces {
    let mut pieces = Pieces(Vec::new());
    pieces.last().push_str(r#"{"status":"success","data":"#);
    write_data(&mut pieces);
    let out = pieces.last();
    for (name, notes) in [("warnings", warnings), ("infos", infos)] {
        if !notes.is_empty() {
            let _ = write!(out, ",\"{name}\":");
            let kind = name.trim_end_matches('s');
            let left_out = notes.len().saturating_sub(MAX_NOTES);
            let rest = (left_out > 0).then(|| format!("{left_out} more {kind} annotations omitted"));
            array(out, notes.iter().take(MAX_NOTES).chain(&rest), |out, note| string(out, note));
        }
    }
    out.push('}');
    pieces
}

/// `[…]`, one item after the other.
pub fn array<T>(out: &mut String, items: impl IntoIterator<Item = T>, mut write_item: impl FnMut(&mut String, T)) {
    out.push('[');
    for (i, item) in items.into_iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        write_item(out, item);
    }
    out.push(']');
}

pub fn string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

pub fn labels(out: &mut String, labels: &Labels) {
    out.push('{');
    for (i, label) in labels.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        string(out, &label.name);
        out.push(':');
        string(out, &label.value);
    }
    out.push('}');
}

/// Seconds, with milliseconds where there are some.
pub fn seconds(out: &mut String, t_ms: i64) {
    if t_ms < 0 {
        out.push('-');
    }
    let size = t_ms.unsigned_abs();
    out.push_str(itoa::Buffer::new().format(size / 1000));
    if !size.is_multiple_of(1000) {
        let _ = write!(out, ".{:03}", size % 1000);
    }
}

/// `[seconds,"value"]`.
fn sample(out: &mut String, sample: Sample) {
    out.push('[');
    seconds(out, sample.t_ms);
    out.push_str(",\"");
    write_number(out, sample.value);
    out.push_str("\"]");
}

/// `[seconds,{"count":…,"sum":…,"buckets":[[boundaries,"lower","upper","count"],…]}]`; boundaries: 0 open left, 1 open
/// right, 2 open both, 3 closed both.
fn histogram(out: &mut String, t_ms: i64, histogram: &Histogram) {
    out.push('[');
    seconds(out, t_ms);
    let (count, sum) = (format_number(histogram.count), format_number(histogram.sum));
    let _ = write!(out, r#",{{"count":"{count}","sum":"{sum}""#);
    let mut buckets = histogram.api_buckets().peekable();
    if buckets.peek().is_some() {
        out.push_str(",\"buckets\":");
        array(out, buckets, |out, bucket| {
            let [lower, upper, count] = [bucket.lower, bucket.upper, bucket.count].map(format_number);
            let _ = write!(out, r#"[{},"{lower}","{upper}","{count}"]"#, bucket.boundary_rule());
        });
    }
    out.push_str("}]");
}

/// `{"resultType":…,"result":…}`.
pub fn value(pieces: &mut Pieces, value: &Value) {
    let out = pieces.last();
    let kind = match value {
        Value::Scalar(_) => "scalar",
        Value::Text(..) => "string",
        Value::Vector(_) => "vector",
        Value::Matrix(_) => "matrix",
    };
    let _ = write!(out, "{{\"resultType\":\"{kind}\",\"result\":");
    match value {
        Value::Scalar(one) => sample(out, *one),
        Value::Text(t_ms, text) => {
            out.push('[');
            seconds(out, *t_ms);
            out.push(',');
            string(out, text);
            out.push(']');
        }
        Value::Vector(vector) => array(out, vector, |out, element| {
            out.push_str("{\"metric\":");
            labels(out, &element.labels);
            match &element.point {
                Point::Float(value) => {
                    out.push_str(",\"value\":");
                    sample(out, Sample { t_ms: element.t_ms, value: *value });
                }
                Point::Histogram(one) => {
                    out.push_str(",\"histogram\":");
                    histogram(out, element.t_ms, one);
                }
            }
            out.push('}');
        }),
        Value::Matrix(matrix) => {
            out.push('[');
            rows(pieces, matrix);
            pieces.last().push(']');
        }
    }
    pieces.last().push('}');
}

/// Where there is much to write, every core writes a part of the rows.
fn rows(pieces: &mut Pieces, matrix: &[Row]) {
    let samples: usize = matrix.iter().map(|row| row.values.len() + row.histograms.len()).sum();
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(samples / SAMPLES_PER_THREAD + 1);
    let write = |part: &[Row], mut out: String| {
        let samples: usize = part.iter().map(|row| row.values.len()).sum();
        out.reserve(part.len() * 200 + samples * 32);
        part.iter().enumerate().for_each(|(i, one)| {
            if i > 0 {
                out.push(',');
            }
            row(&mut out, one);
        });
        out
    };
    let parts: Vec<&[Row]> = matrix.chunks(matrix.len().div_ceil(threads).max(1)).collect();
    let Some((first, others)) = parts.split_first() else { return };
    std::thread::scope(|scope| {
        let handles: Vec<_> = others.iter().map(|part| scope.spawn(|| write(part, ",".to_owned()))).collect();
        let out = std::mem::take(pieces.last());
        *pieces.last() = write(first, out);
        pieces.0.extend(handles.into_iter().map(|handle| handle.join().expect("writing does not panic")));
    });
}

fn row(out: &mut String, row: &Row) {
    out.push_str("{\"metric\":");
    labels(out, &row.labels);
    if !row.values.is_empty() || row.histograms.is_empty() {
        out.push_str(",\"values\":");
        array(out, &row.values, |out, one| sample(out, *one));
    }
    if !row.histograms.is_empty() {
        out.push_str(",\"histograms\":");
        array(out, &row.histograms, |out, (t_ms, one)| histogram(out, *t_ms, one));
    }
    out.push('}');
}

#[cfg(test)]
mod tests {
    use query::Element;

    use super::*;

    fn check(given: Value, expected: &str) {
        let mut pieces = Pieces(Vec::new());
        value(&mut pieces, &given);
        let out = pieces.0.concat();
        assert_eq!(out, expected);
        serde_json::from_str::<serde_json::Value>(&out).expect("it is JSON");
    }

    #[test]
    fn values_are_strings_and_times_seconds() {
        let at = |t_ms, value| Sample { t_ms, value };
        check(Value::Scalar(at(1500, f64::INFINITY)), r#"{"resultType":"scalar","result":[1.500,"+Inf"]}"#);
        check(Value::Text(-50, "a\"\u{1}".into()), r#"{"resultType":"string","result":[-0.050,"a\"\u0001"]}"#);
        let labels = Labels::from_pairs([("a", "b\\")]);
        check(
            Value::Vector(vec![Element { labels: labels.clone(), t_ms: 2000, point: f64::NAN.into() }]),
            r#"{"resultType":"vector","result":[{"metric":{"a":"b\\"},"value":[2,"NaN"]}]}"#,
        );
        check(
            Value::Matrix(vec![Row { labels, values: vec![at(1, 1e-7), at(2, 0.1)], histograms: Vec::new() }]),
            r#"{"resultType":"matrix","result":[{"metric":{"a":"b\\"},"values":[[0.001,"1e-07"],[0.002,"0.1"]]}]}"#,
        );
    }
}
