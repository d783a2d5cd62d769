//! `/api/v1/read`: Prometheus' remote read, as one message of samples or as a stream of chunks.
//!
//! A stream's frame is a length, a CRC-32C and one message for one series; frames stay near 1 MiB. What cannot be read
//! after the first frame ends the stream before its end, which clients notice by the connection.

use ::query::{QueryError, Samples, Series, SeriesSelect, SeriesSet, Wants};
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use model::{Histogram, Labels, MatchOp, Matcher, ResetHint, Sample};
use prost::Message;
use service::http::{ApiError, StrongRead, Tenant, decompress_snappy};
use tokio::sync::mpsc;

use super::App;
use super::chunk::{MAX_CHUNK_SAMPLES, continues, encode_histograms, encode_xor};
use super::write::{LabelPair, SamplePair};
use crate::store::Store;

const FRAME_BYTES: usize = 1 << 20;
/// Frames that wait for a slow client.
const QUEUED_FRAMES: usize = 4;
const SAMPLES: i32 = 0;
const STREAMED_CHUNKS: i32 = 1;
const XOR: i32 = 1;
const FLOAT_HISTOGRAM: i32 = 3;

#[derive(Clone, PartialEq, Message)]
struct ReadRequest {
    #[prost(message, repeated, tag = "1")]
    queries: Vec<ReadQuery>,
    #[prost(int32, repeated, tag = "2")]
    accepted_response_types: Vec<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct ReadQuery {
    #[prost(int64, tag = "1")]
    start_ms: i64,
    #[prost(int64, tag = "2")]
    end_ms: i64,
    #[prost(message, repeated, tag = "3")]
    matchers: Vec<LabelMatcher>,
}

#[derive(Clone, PartialEq, Message)]
struct LabelMatcher {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "3")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct ReadResponse {
    #[prost(message, repeated, tag = "1")]
    results: Vec<QueryResult>,
}

#[derive(Clone, PartialEq, Message)]
struct QueryResult {
    #[prost(message, repeated, tag = "1")]
    series: Vec<ReadSeries>,
}

#[derive(Clone, PartialEq, Message)]
struct ReadSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<LabelPair>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<SamplePair>,
    #[prost(message, repeated, tag = "4")]
    histograms: Vec<ReadHistogram>,
}

/// A float histogram as remote read and write carry it.
#[derive(Clone, PartialEq, Message)]
struct ReadHistogram {
    #[prost(double, tag = "2")]
    count: f64,
    #[prost(double, tag = "3")]
    sum: f64,
    #[prost(sint32, tag = "4")]
    schema: i32,
    #[prost(double, tag = "5")]
    zero_threshold: f64,
    #[prost(double, tag = "7")]
    zero_count: f64,
    #[prost(message, repeated, tag = "8")]
    negative_spans: Vec<ReadSpan>,
    #[prost(double, repeated, tag = "10")]
    negative_counts: Vec<f64>,
    #[prost(message, repeated, tag = "11")]
    positive_spans: Vec<ReadSpan>,
    #[prost(double, repeated, tag = "13")]
    positive_counts: Vec<f64>,
    #[prost(int32, tag = "14")]
    reset_hint: i32,
    #[prost(int64, tag = "15")]
    t_ms: i64,
    #[prost(double, repeated, tag = "16")]
    custom_values: Vec<f64>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct ReadSpan {
    #[prost(sint32, tag = "1")]
    offset: i32,
    #[prost(uint32, tag = "2")]
    length: u32,
}

#[derive(Clone, PartialEq, Message)]
struct ChunkedReadResponse {
    #[prost(message, repeated, tag = "1")]
    series: Vec<ChunkedSeries>,
    #[prost(int64, tag = "2")]
    query_index: i64,
}

#[derive(Clone, PartialEq, Message)]
struct ChunkedSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<LabelPair>,
    #[prost(message, repeated, tag = "2")]
    chunks: Vec<Chunk>,
}

#[derive(Clone, PartialEq, Message)]
struct Chunk {
    #[prost(int64, tag = "1")]
    min_ms: i64,
    #[prost(int64, tag = "2")]
    max_ms: i64,
    #[prost(int32, tag = "3")]
    kind: i32,
    #[prost(bytes = "vec", tag = "4")]
    data: Vec<u8>,
}

/// One query, checked.
struct Selection {
    start_ms: i64,
    end_ms: i64,
    matchers: Vec<Matcher>,
}

pub async fn read(
    State(app): State<App>,
    Tenant(tenant): Tenant,
    strong: StrongRead,
    body: Bytes,
) -> Result<Response, ApiError> {
    let message = decompress_snappy(&body)?;
    let request = ReadRequest::decode(message.as_slice())
        .map_err(|error| ApiError::bad_data(format!("the request is not a ReadRequest: {error}")))?;
    let external = app.options.external_labels.clone();
    let selections = request.queries.iter().map(|query| selection(query, &external)).collect::<Result<Vec<_>, _>>()?;
    app.catch_up(strong).await?;
    let kind = request.accepted_response_types.iter().find(|kind| matches!(**kind, SAMPLES | STREAMED_CHUNKS));
    match (kind, request.accepted_response_types.is_empty()) {
        (Some(&STREAMED_CHUNKS), _) => stream(app, tenant, selections, external).await,
        (Some(_), _) | (None, true) => samples(app, tenant, selections, external).await,
        (None, false) => Err(ApiError::bad_data("server does not support any of the requested response types")),
    }
}

/// A matcher of an external label asks for what is stored without it.
fn selection(query: &ReadQuery, external: &Labels) -> Result<Selection, ApiError> {
    let matcher = |matcher: &LabelMatcher| {
        let op = match matcher.kind {
            0 => MatchOp::Equal,
            1 => MatchOp::NotEqual,
            2 => MatchOp::Regex,
            3 => MatchOp::NotRegex,
            other => return Err(ApiError::bad_data(format!("unknown matcher type {other}"))),
        };
        let is_external = op == MatchOp::Equal && external.get(&matcher.name) == Some(matcher.value.as_str());
        let value = if is_external { "" } else { matcher.value.as_str() };
        Matcher::new(&matcher.name, op, value).map_err(|error| ApiError::bad_data(error.to_string()))
    };
    let matchers = query.matchers.iter().map(matcher).collect::<Result<Vec<_>, _>>()?;
    Ok(Selection { start_ms: query.start_ms, end_ms: query.end_ms, matchers })
}

/// Hands every series of a selection to `visit`.
fn each(
    store: &Store,
    tenant: &str,
    selection: &Selection,
    deadline: std::time::Instant,
    visit: &mut dyn FnMut(&Labels, &Samples) -> Result<(), QueryError>,
) -> Result<(), QueryError> {
    let Selection { start_ms, end_ms, matchers } = selection;
    let (start_ms, end_ms, deadline) = (*start_ms, *end_ms, Some(deadline));
    let set: Box<dyn SeriesSet> =
        store.select(&SeriesSelect { tenant, matchers, start_ms, end_ms, wants: Wants::Values, deadline })?;
    let mut samples = Samples::default();
    for i in 0..set.len() {
        set.read(i, &mut samples)?;
        if !samples.timestamps_ms.is_empty() {
            visit(set.labels(i), &samples)?;
        }
    }
    Ok(())
}

async fn samples(app: App, tenant: String, selections: Vec<Selection>, external: Labels) -> Result<Response, ApiError> {
    let (timeout, limit) = (app.options.query_timeout, app.options.query_max_samples);
    let read = app.evaluate(app.engine(), timeout, move |_, store, deadline| {
        let mut response = ReadResponse::default();
        let mut count = 0;
        for selection in &selections {
            let mut series = Vec::new();
            each(store, &tenant, selection, deadline, &mut |labels, samples| {
                count += samples.values.len();
                if count > limit {
                    return Err(QueryError::Limit("exceed the sample limit of one remote read".to_owned()));
                }
                series.push(to_series(&pairs(labels, &external), samples));
                Ok(())
            })?;
            response.results.push(QueryResult { series });
        }
        Ok(response.encode_to_vec())
    });
    let message = read.await.map_err(super::query_error)?;
    let body = snap::raw::Encoder::new()
        .compress_vec(&message)
        .map_err(|error| ApiError::internal(format!("snappy: {error}")))?;
    let headers = [(header::CONTENT_TYPE, "application/x-protobuf"), (header::CONTENT_ENCODING, "snappy")];
    Ok((headers, body).into_response())
}

/// The labels of a series and the external ones that it lacks, by name.
fn pairs(labels: &Labels, external: &Labels) -> Vec<LabelPair> {
    let missing = external.iter().filter(|label| labels.get(&label.name).is_none());
    let mut pairs: Vec<LabelPair> = labels
        .iter()
        .chain(missing)
        .map(|label| LabelPair { name: label.name.to_string(), value: label.value.to_string() })
        .collect();
    pairs.sort_by(|a, b| a.name.cmp(&b.name));
    pairs
}

/// Floats, and histograms with their times.
fn split(samples: &Samples) -> (Vec<Sample>, Vec<(i64, &Histogram)>) {
    let mut histograms = samples.histograms.iter().peekable();
    let (mut floats, mut others) = (Vec::new(), Vec::new());
    for (i, (t_ms, value)) in samples.timestamps_ms.iter().zip(&samples.values).enumerate() {
        match histograms.next_if(|(at, _)| *at as usize == i) {
            Some((_, histogram)) => others.push((*t_ms, histogram.as_ref())),
            None => floats.push(Sample { t_ms: *t_ms, value: *value }),
        }
    }
    (floats, others)
}

fn to_series(labels: &[LabelPair], samples: &Samples) -> ReadSeries {
    let (floats, histograms) = split(samples);
    let spans = |spans: &[model::BucketSpan]| {
        spans.iter().map(|span| ReadSpan { offset: span.offset, length: span.length }).collect::<Vec<_>>()
    };
    let message = |(t_ms, histogram): &(i64, &Histogram)| ReadHistogram {
        count: histogram.count,
        sum: histogram.sum,
        schema: i32::from(histogram.schema),
        zero_threshold: histogram.zero_threshold,
        zero_count: histogram.zero_count,
        negative_spans: spans(&histogram.negative.spans),
        negative_counts: histogram.negative.counts.clone(),
        positive_spans: spans(&histogram.positive.spans),
        positive_counts: histogram.positive.counts.clone(),
        reset_hint: match histogram.reset_hint {
            ResetHint::Unknown => 0,
            ResetHint::Reset => 1,
            ResetHint::NotReset => 2,
            ResetHint::Gauge => 3,
        },
        t_ms: *t_ms,
        custom_values: histogram.custom_bounds.clone(),
    };
    ReadSeries {
        labels: labels.to_vec(),
        samples: floats.iter().map(|sample| SamplePair { value: sample.value, t_ms: sample.t_ms }).collect(),
        histograms: histograms.iter().map(message).collect(),
    }
}

async fn stream(app: App, tenant: String, selections: Vec<Selection>, external: Labels) -> Result<Response, ApiError> {
    let (frames, mut queued) = mpsc::channel::<Result<Bytes, std::io::Error>>(QUEUED_FRAMES);
    let timeout = app.options.query_timeout;
    let reading = tokio::spawn(async move {
        let sender = frames.clone();
        let read = app.evaluate(app.engine(), timeout, move |_, store, deadline| {
            for (index, selection) in selections.iter().enumerate() {
                each(store, &tenant, selection, deadline, &mut |labels, samples| {
                    let labels = pairs(labels, &external);
                    framed(index, &labels, chunks(samples), &mut |frame| {
                        sender.blocking_send(Ok(frame)).map_err(|_| QueryError::Canceled("remote read"))
                    })
                })?;
            }
            Ok(())
        });
        let outcome = read.await;
        if let Err(error) = &outcome {
            let _ = frames.send(Err(std::io::Error::other(error.to_string()))).await;
        }
        outcome
    });
    // What fails before the first frame is answered as any other error.
    let first = queued.recv().await;
    if let Some(Err(_)) = &first {
        let outcome = reading.await.map_err(|error| ApiError::internal(error.to_string()))?;
        outcome.map_err(super::query_error)?;
    }
    let rest = futures::stream::unfold(queued, |mut queued| async move { Some((queued.recv().await?, queued)) });
    // Compression asks once more after the end.
    let body = Body::from_stream(futures::stream::iter(first).chain(rest).fuse());
    let kind = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";
    Ok((StatusCode::OK, [(header::CONTENT_TYPE, kind)], body).into_response())
}

/// A series as chunks that follow one another in time: of floats, and of histograms that go together.
fn chunks(samples: &Samples) -> Vec<Chunk> {
    let mut histograms = samples.histograms.iter().peekable();
    let (mut chunks, mut floats, mut run) = (Vec::new(), Vec::new(), Vec::new());
    for (i, (t_ms, value)) in samples.timestamps_ms.iter().zip(&samples.values).enumerate() {
        match histograms.next_if(|(at, _)| *at as usize == i) {
            Some((_, histogram)) => {
                end_floats(&mut floats, &mut chunks);
                if !continues(&run, histogram) {
                    end_run(&mut run, &mut chunks);
                }
                run.push((*t_ms, histogram.as_ref()));
            }
            None => {
                end_run(&mut run, &mut chunks);
                if floats.len() == MAX_CHUNK_SAMPLES {
                    end_floats(&mut floats, &mut chunks);
                }
                floats.push(Sample { t_ms: *t_ms, value: *value });
            }
        }
    }
    end_floats(&mut floats, &mut chunks);
    end_run(&mut run, &mut chunks);
    chunks
}

fn end_floats(floats: &mut Vec<Sample>, chunks: &mut Vec<Chunk>) {
    if let (Some(first), Some(last)) = (floats.first(), floats.last()) {
        chunks.push(Chunk { min_ms: first.t_ms, max_ms: last.t_ms, kind: XOR, data: encode_xor(floats) });
        floats.clear();
    }
}

fn end_run(run: &mut Vec<(i64, &Histogram)>, chunks: &mut Vec<Chunk>) {
    if let (Some((min_ms, _)), Some((max_ms, _))) = (run.first(), run.last()) {
        chunks.push(Chunk { min_ms: *min_ms, max_ms: *max_ms, kind: FLOAT_HISTOGRAM, data: encode_histograms(run) });
        run.clear();
    }
}

/// One series as frames of about [`FRAME_BYTES`].
fn framed(
    query: usize,
    labels: &[LabelPair],
    chunks: Vec<Chunk>,
    send: &mut dyn FnMut(Bytes) -> Result<(), QueryError>,
) -> Result<(), QueryError> {
    let mut chunks = chunks.into_iter().peekable();
    while chunks.peek().is_some() {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while let Some(chunk) = chunks.next_if(|_| bytes < FRAME_BYTES) {
            bytes += chunk.data.len();
            taken.push(chunk);
        }
        let series = vec![ChunkedSeries { labels: labels.to_vec(), chunks: taken }];
        let message = ChunkedReadResponse { series, query_index: query as i64 }.encode_to_vec();
        let mut frame = Vec::with_capacity(message.len() + 16);
        model::varint::put(&mut frame, message.len() as u64);
        frame.extend_from_slice(&crc32c::crc32c(&message).to_be_bytes());
        frame.extend_from_slice(&message);
        send(frame.into())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_series_is_cut_into_frames_and_chunks() {
        let samples = Samples {
            timestamps_ms: (0..250).collect(),
            values: (0..250).map(f64::from).collect(),
            ..Samples::default()
        };
        let chunks = chunks(&samples);
        let bounds: Vec<_> = chunks.iter().map(|chunk| (chunk.min_ms, chunk.max_ms)).collect();
        assert_eq!(bounds, [(0, 119), (120, 239), (240, 249)]);
        let label = LabelPair { name: "a".into(), value: "b".into() };
        let mut frames = Vec::new();
        framed(3, &[label], chunks, &mut |frame| {
            frames.push(frame);
            Ok(())
        })
        .expect("sent");
        let [frame] = &frames[..] else { panic!("one frame is enough") };
        let mut rest = &frame[..];
        let length = model::varint::take(&mut rest).expect("a length") as usize;
        assert_eq!((rest.len(), &rest[..4]), (length + 4, &crc32c::crc32c(&rest[4..]).to_be_bytes()[..]));
        let message = ChunkedReadResponse::decode(&rest[4..]).expect("a message");
        assert_eq!((message.query_index, message.series[0].chunks.len()), (3, 3));
    }

    #[test]
    fn chunks_of_floats_and_histograms_follow_one_another() {
        let histogram = |count: f64| std::sync::Arc::new(Histogram { count, ..Histogram::default() });
        let samples = Samples {
            timestamps_ms: (0..6).collect(),
            values: vec![0.0; 6],
            histograms: [(1, 1.0), (2, 2.0), (4, 3.0), (5, 1.0)].map(|(at, count)| (at, histogram(count))).into(),
            ..Samples::default()
        };
        let bounds: Vec<_> = chunks(&samples).iter().map(|chunk| (chunk.kind, chunk.min_ms, chunk.max_ms)).collect();
        assert_eq!(
            bounds,
            [(XOR, 0, 0), (FLOAT_HISTOGRAM, 1, 2), (XOR, 3, 3), (FLOAT_HISTOGRAM, 4, 4), (FLOAT_HISTOGRAM, 5, 5)]
        );
    }

    #[test]
    fn an_external_label_is_not_looked_for() {
        let external = Labels::from_pairs([("dc", "x")]);
        let matcher = |kind, name: &str, value: &str| LabelMatcher { kind, name: name.into(), value: value.into() };
        let query = ReadQuery { start_ms: 0, end_ms: 1, matchers: vec![matcher(0, "dc", "x"), matcher(2, "a", "b.*")] };
        let selection = selection(&query, &external).expect("a selection");
        assert_eq!(selection.matchers[0], Matcher::equal("dc", ""));
        let bad = ReadQuery { matchers: vec![matcher(2, "a", "(")], ..ReadQuery::default() };
        assert!(super::selection(&bad, &external).is_err());
    }
}
