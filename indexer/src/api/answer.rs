//! Answers in Loki's notation.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use ::query::logql::{LogEntry, LogStream};
use ::query::{LineSelect, LineVisitor, Lines, QueryError, Row, SelectedLine, Tally, Value, Visit, format_number};
use model::{Labels, Sample};
use serde_json::{Map, Value as Json, json};

pub fn success(data: Json) -> Json {
    json!({"status": "success", "data": data})
}

fn result(kind: &str, result: Json, stats: Json) -> Json {
    success(json!({"resultType": kind, "result": result, "stats": stats}))
}

/// The lines of a query; with their categories where those were asked for.
pub fn streams(streams: Vec<LogStream>, categorized: bool, stats: Json) -> Json {
    let mut answer = result("streams", stream_list(streams, categorized), stats);
    if categorized {
        answer["data"]["encodingFlags"] = json!(["categorize-labels"]);
    }
    answer
}

pub fn stream_list(streams: Vec<LogStream>, categorized: bool) -> Json {
    let one = |stream: LogStream| {
        let entries: Vec<Json> = stream.entries.iter().map(|entry| line(entry, categorized)).collect();
        json!({"stream": stream.labels, "values": entries})
    };
    streams.into_iter().map(one).collect()
}

fn line(entry: &LogEntry, categorized: bool) -> Json {
    let t_ns = entry.t_ns.to_string();
    if !categorized {
        return json!([t_ns, entry.line]);
    }
    let mut categories = Map::new();
    for (name, labels) in [("structuredMetadata", &entry.metadata), ("parsed", &entry.parsed)] {
        if !labels.is_empty() {
            categories.insert(name.to_owned(), json!(labels));
        }
    }
    json!([t_ns, entry.line, categories])
}

/// Seconds, without a fraction where there is none.
fn seconds(t_ms: i64) -> Json {
    if t_ms % 1000 == 0 { json!(t_ms / 1000) } else { json!(t_ms as f64 / 1000.0) }
}

fn point(sample: &Sample) -> Json {
    json!([seconds(sample.t_ms), format_number(sample.value)])
}

pub fn value(value: Value, stats: Json) -> Json {
    match value {
        Value::Scalar(sample) => result("scalar", point(&sample), stats),
        Value::Text(t_ms, text) => result("string", json!([seconds(t_ms), text]), stats),
        Value::Vector(rows) => {
            let row = |(labels, sample): (Labels, Sample)| json!({"metric": labels, "value": point(&sample)});
            result("vector", ::query::float_samples(rows).into_iter().map(row).collect(), stats)
        }
        Value::Matrix(rows) => {
            let values = |row: &Row| row.values.iter().map(point).collect::<Vec<_>>();
            let row = |row: Row| json!({"metric": row.labels, "values": values(&row)});
            result("matrix", rows.into_iter().map(row).collect(), stats)
        }
    }
}

/// A source that counts what is read of it.
pub struct Counted<'a> {
    pub inner: &'a dyn Lines,
    lines: AtomicU64,
    bytes: AtomicU64,
    started: Instant,
}

impl<'a> Counted<'a> {
    pub fn new(inner: &'a dyn Lines) -> Counted<'a> {
        Counted { inner, lines: AtomicU64::new(0), bytes: AtomicU64::new(0), started: Instant::now() }
    }

    /// Loki's block of statistics; what has no meaning here is left at nothing.
    pub fn stats(&self, entries: usize) -> Json {
        let (lines, bytes) = (self.lines.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed));
        let seconds = self.started.elapsed().as_secs_f64();
        let per_second = |count: u64| (count as f64 / seconds.max(1e-9)) as u64;
        json!({
            "summary": {
                "bytesProcessedPerSecond": per_second(bytes),
                "linesProcessedPerSecond": per_second(lines),
                "totalBytesProcessed": bytes,
                "totalLinesProcessed": lines,
                "execTime": seconds,
                "queueTime": 0,
                "subqueries": 0,
                "totalEntriesReturned": entries,
                "splits": 0,
                "shards": 0,
                "totalPostFilterLines": entries,
                "totalStructuredMetadataBytesProcessed": 0,
            },
            "querier": {"store": store(lines, bytes)},
            "ingester": {
                "totalReached": 0, "totalChunksMatched": 0, "totalBatches": 0, "totalLinesSent": 0, "store": store(0, 0),
            },
            "cache": {},
            "index": {},
        })
    }
}

fn store(lines: u64, bytes: u64) -> Json {
    json!({
        "totalChunksRef": 0,
        "totalChunksDownloaded": 0,
        "chunksDownloadTime": 0,
        "chunk": {
            "headChunkBytes": 0, "headChunkLines": 0, "decompressedBytes": bytes, "decompressedLines": lines,
            "compressedBytes": 0, "totalDuplicates": 0,
        },
    })
}

impl Lines for Counted<'_> {
    fn select(
        &self,
        request: &LineSelect<'_>,
        visit: &mut dyn FnMut(SelectedLine<'_>) -> Visit,
    ) -> Result<(), QueryError> {
        let (mut lines, mut bytes) = (0, 0);
        let outcome = self.inner.select(request, &mut |line| -> ControlFlow<()> {
            lines += 1;
            bytes += line.text.len() as u64;
            visit(line)
        });
        self.lines.fetch_add(lines, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        outcome
    }

    /// Texts that are not read are not counted.
    fn tally(
        &self,
        request: &LineSelect<'_>,
        edges: &[i64],
        with_bytes: bool,
        visit: &mut (dyn FnMut(Tally<'_>) -> Visit + Send),
    ) -> Result<(), QueryError> {
        self.inner.tally(request, edges, with_bytes, &mut |tally| {
            self.lines.fetch_add(tally.lines, Ordering::Relaxed);
            visit(tally)
        })
    }

    fn scan(&self, request: &LineSelect<'_>, visitors: &mut [LineVisitor<'_>]) -> Result<(), QueryError> {
        let mut counts = vec![(0, 0); visitors.len()];
        let mut counting: Vec<LineVisitor<'_>> = visitors
            .iter_mut()
            .zip(&mut counts)
            .map(|(visit, (lines, bytes))| {
                Box::new(move |line: SelectedLine<'_>| {
                    *lines += 1;
                    *bytes += line.text.len() as u64;
                    visit(line)
                }) as LineVisitor<'_>
            })
            .collect();
        let outcome = self.inner.scan(request, &mut counting);
        drop(counting);
        for (lines, bytes) in counts {
            self.lines.fetch_add(lines, Ordering::Relaxed);
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        outcome
    }
}
