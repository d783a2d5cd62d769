//! VictoriaMetrics' JSON lines, in and out: `{"metric":{"__name__":…},"values":[…],"timestamps":[milliseconds…]}`.
//!
//! `POST /api/v1/import` takes them; a series' end (a staleness marker) is `null`, NaN and the infinities are texts.
//! `/api/v1/export` streams the raw floats that `match[]` and a range select, one or more lines per series in the order of
//! labels; native histograms are left out. What cannot be read after the first line ends the stream before its end.

use std::io::Write;

use ::query::{QueryError, Samples, Series, SeriesSelect, Wants};
use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use model::{Labels, METRIC_NAME, Matcher, MetricBatch, Sample, SeriesSamples, is_stale, now_ms, stale_marker};
use serde::Deserialize;
use service::body::decompress;
use service::http::{ApiError, Params, StrongRead, Tenant};
use tokio::sync::mpsc;

use super::intake::{Pair, extra_labels, taken};
use super::listing::selector;
use super::{App, import, query_error, time_or};
use crate::ingest::Refusals;

const FRAME_BYTES: usize = 1 << 18;
/// Frames that wait for a slow client.
const QUEUED_FRAMES: usize = 4;
/// Samples of one line, unless the client wants fewer.
const MAX_LINE_SAMPLES: usize = 100_000;

#[derive(Deserialize)]
struct Line {
    metric: Labels,
    values: Vec<Value>,
    timestamps: Vec<i64>,
}

/// A number, a text for what JSON has no number for, or `null`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Value {
    Number(f64),
    Text(String),
    End(()),
}

impl Value {
    fn read(&self) -> Result<f64, String> {
        match self {
            Value::Number(number) => Ok(*number),
            Value::End(()) => Ok(stale_marker()),
            Value::Text(text) => match text.as_str() {
                "NaN" => Ok(f64::NAN),
                "Infinity" | "Inf" | "+Inf" => Ok(f64::INFINITY),
                "-Infinity" | "-Inf" => Ok(f64::NEG_INFINITY),
                other => Err(format!("{other:?} is not a value")),
            },
        }
    }
}

pub async fn import(
    State(app): State<App>,
    Tenant(tenant): Tenant,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, ApiError> {
    let extra = extra_labels(&Params::parse(query.as_deref().unwrap_or("")))?;
    let body = decompress(&headers, body)?;
    let (mut batch, refusals) = read(&body, &extra);
    batch.tenant = tenant;
    taken(app.append_batch(batch, refusals).await)
}

/// What is good of a text, and why the rest is not.
pub(crate) fn read(body: &[u8], extra: &[Pair]) -> (MetricBatch, Refusals) {
    let (mut series, mut refusals) = (Vec::new(), Refusals::default());
    for (i, line) in body.split(|byte| *byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        match read_line(line) {
            Ok(one) if extra.is_empty() => series.push(one),
            Ok(one) => series.push(SeriesSamples { labels: import::with(&one.labels, extra), ..one }),
            Err(reason) => refusals.add("malformed line", 1, || format!("line {}: {reason}", i + 1)),
        }
    }
    (MetricBatch::new("", series), refusals)
}

fn read_line(line: &[u8]) -> Result<SeriesSamples, String> {
    let line: Line = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    if line.values.len() != line.timestamps.len() {
        return Err(format!("{} values and {} timestamps", line.values.len(), line.timestamps.len()));
    }
    let samples = line.timestamps.iter().zip(&line.values);
    let samples: Result<Vec<Sample>, String> =
        samples.map(|(t_ms, value)| Ok(Sample { t_ms: *t_ms, value: value.read()? })).collect();
    Ok(SeriesSamples::new(line.metric, samples?))
}

pub async fn export(
    State(app): State<App>,
    Tenant(tenant): Tenant,
    strong: StrongRead,
    params: Params,
) -> Result<Response, ApiError> {
    let selectors = params.get_all("match[]").chain(params.get_all("match"));
    let selectors = selectors.map(selector).collect::<Result<Vec<_>, _>>()?;
    if selectors.is_empty() {
        return Err(ApiError::bad_data("missing \"match[]\""));
    }
    let range = (time_or(&params, "start", i64::MIN)?, time_or(&params, "end", now_ms())?);
    let line_samples = params.get("max_rows_per_line").and_then(|text| text.parse().ok());
    let line_samples = line_samples.unwrap_or(MAX_LINE_SAMPLES).clamp(1, MAX_LINE_SAMPLES);
    app.catch_up(strong).await?;
    let (frames, mut queued) = mpsc::channel::<Result<Bytes, std::io::Error>>(QUEUED_FRAMES);
    let timeout = app.options.query_timeout;
    let reading = tokio::spawn(async move {
        let out = Frames { frames: frames.clone(), filled: Vec::new() };
        let read = app.evaluate(app.engine(), timeout, move |_, store, deadline| {
            each(store, &tenant, &selectors, range, deadline, line_samples, out)
        });
        if let Err(error) = read.await {
            // The receiver may be gone; then nobody needs to know.
            let _ = frames.send(Err(std::io::Error::other(error.to_string()))).await;
            return Err(error);
        }
        Ok(())
    });
    // What fails before anything is sent has a status of its own.
    let first = queued.recv().await;
    match first {
        Some(Ok(frame)) => {
            let rest =
                futures::stream::unfold(queued, |mut queued| async move { Some((queued.recv().await?, queued)) });
            let body = Body::from_stream(futures::stream::iter([Ok(frame)]).chain(rest).fuse());
            Ok(([(header::CONTENT_TYPE, "application/stream+json")], body).into_response())
        }
        None | Some(Err(_)) => match reading.await {
            Ok(Ok(())) => Ok([(header::CONTENT_TYPE, "application/stream+json")].into_response()),
            Ok(Err(error)) => Err(query_error(error)),
            Err(error) => Err(ApiError::internal(error.to_string())),
        },
    }
}

/// Lines, sent in pieces.
struct Frames {
    frames: mpsc::Sender<Result<Bytes, std::io::Error>>,
    filled: Vec<u8>,
}

impl Frames {
    fn send(&mut self) -> Result<(), QueryError> {
        let frame = std::mem::take(&mut self.filled);
        if frame.is_empty() {
            return Ok(());
        }
        self.frames.blocking_send(Ok(frame.into())).map_err(|_| QueryError::Canceled("sending"))
    }
}

/// Writes all series of the selectors; one that several accept comes once for each.
fn each(
    store: &crate::store::Store,
    tenant: &str,
    selectors: &[Vec<Matcher>],
    (start_ms, end_ms): (i64, i64),
    deadline: std::time::Instant,
    line_samples: usize,
    mut out: Frames,
) -> Result<(), QueryError> {
    let mut samples = Samples::default();
    for matchers in selectors {
        let deadline = Some(deadline);
        let request = SeriesSelect { tenant, matchers, start_ms, end_ms, wants: Wants::Values, deadline };
        let set = store.select(&request)?;
        for i in 0..set.len() {
            set.read(i, &mut samples)?;
            for line in floats(&samples).chunks(line_samples) {
                write_line(&mut out.filled, set.labels(i), line);
                if out.filled.len() >= FRAME_BYTES {
                    out.send()?;
                }
            }
        }
    }
    out.send()
}

fn floats(samples: &Samples) -> Vec<Sample> {
    let mut histograms = samples.histograms.iter().map(|(at, _)| *at as usize).peekable();
    let all = samples.timestamps_ms.iter().zip(&samples.values).enumerate();
    let floats = all.filter(|(i, _)| histograms.next_if_eq(i).is_none());
    floats.map(|(_, (t_ms, value))| Sample { t_ms: *t_ms, value: *value }).collect()
}

fn write_line(out: &mut Vec<u8>, labels: &Labels, samples: &[Sample]) {
    // Writing to memory does not fail, and label sets are JSON.
    let metric = serde_json::to_string(labels).unwrap_or_default();
    debug_assert!(labels.get(METRIC_NAME).is_some() && !metric.is_empty());
    let _ = write!(out, "{{\"metric\":{metric},\"values\":[");
    for (i, sample) in samples.iter().enumerate() {
        let comma = if i == 0 { "" } else { "," };
        let _ = match sample.value {
            value if is_stale(value) => write!(out, "{comma}null"),
            value if value.is_nan() => write!(out, "{comma}\"NaN\""),
            f64::INFINITY => write!(out, "{comma}\"Infinity\""),
            f64::NEG_INFINITY => write!(out, "{comma}\"-Infinity\""),
            value => write!(out, "{comma}{}", ::query::format_number(value)),
        };
    }
    let _ = write!(out, "],\"timestamps\":[");
    for (i, sample) in samples.iter().enumerate() {
        let comma = if i == 0 { "" } else { "," };
        let _ = write!(out, "{comma}{}", sample.t_ms);
    }
    out.extend_from_slice(b"]}\n");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let (batch, refusals) = read(text.as_bytes(), &[("job".into(), "j".into())]);
        let mut lines: Vec<String> = Vec::new();
        for one in &batch.series {
            let mut line = Vec::new();
            write_line(&mut line, &one.labels, &one.samples);
            lines.push(String::from_utf8(line).expect("text").trim_end().to_owned());
        }
        lines.extend(refusals.lines());
        assert_eq!(lines, expected, "{text}");
    }

    #[test]
    fn lines_are_read_and_written() {
        let values = r#""values":[1,-0.5,null,"NaN","Infinity","-Infinity",1e+300],"timestamps":[1,2,3,4,5,6,7]}"#;
        check(
            &format!("{{\"metric\":{{\"__name__\":\"a\",\"b\":\"c\\\"\"}},{values}\n\n"),
            &[&format!("{{\"metric\":{{\"__name__\":\"a\",\"b\":\"c\\\"\",\"job\":\"j\"}},{values}")],
        );
        check(
            "{}\n{\"metric\":{\"__name__\":\"a\"},\"values\":[1],\"timestamps\":[]}\n{\"metric\":{\"__name__\":\"a\"},\"values\":[\"x\"],\"timestamps\":[1]}",
            &["3 samples refused: malformed line: line 1: missing field `metric` at line 1 column 2"],
        );
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..99), text in "[\\[\\]{}\":,metricvalus0-9]{0,60}") {
            let _ = read(&bytes, &[]);
            let _ = read(text.as_bytes(), &[]);
        }

        #[test]
        fn what_is_exported_is_imported(values in prop::collection::vec(any::<f64>(), 1..9), label in ".{1,9}") {
            let labels = Labels::from_pairs([("__name__", "x"), ("l", label.as_str())]);
            let samples: Vec<Sample> = values.iter().zip(1..).map(|(value, t_ms)| Sample { t_ms, value: *value }).collect();
            let mut line = Vec::new();
            write_line(&mut line, &labels, &samples);
            let (batch, refusals) = read(&line, &[]);
            prop_assert!(refusals.is_empty());
            prop_assert_eq!(&batch.series[0].labels, &labels);
            for (a, b) in batch.series[0].samples.iter().zip(&samples) {
                prop_assert!(a.value.to_bits() == b.value.to_bits() || a.value.is_nan() && b.value.is_nan());
            }
        }
    }
}
