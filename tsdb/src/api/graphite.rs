//! Graphite's plaintext protocol over TCP: `path;tag=value value timestamp`, a line per sample.
//!
//! Best effort: the protocol has no acknowledgement and no errors. What has been read is written to the bus before more is
//! read, and kept until the bus takes it; what a connection had under way when this process ends is lost. Malformed lines
//! are passed over and counted. A line of more than [`MAX_LINE_BYTES`] ends its connection, as [`IDLE`] without a byte
//! does; more than [`MAX_CONNECTIONS`] at once are not taken.

use std::sync::Arc;
use std::time::Duration;

use model::{DEFAULT_TENANT, LabelsBuilder, METRIC_NAME, MetricBatch, Sample, now_ms};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::intake::Gathered;
use crate::Tsdb;
use crate::ingest::Refusals;

const MAX_CONNECTIONS: usize = 1_000;
const MAX_LINE_BYTES: usize = 16 * 1024;
/// What is read before it is written.
const CHUNK_BYTES: usize = 256 * 1024;
const IDLE: Duration = Duration::from_secs(600);
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// After an accept that failed: descriptors may be short.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Tsdb {
    /// Takes connections until stopped.
    pub async fn serve_graphite(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) {
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            // One too many is closed at once.
            let Ok(permit) = room.clone().try_acquire_owned() else { continue };
            let (app, stop) = (self.clone(), stop.clone());
            tokio::spawn(async move {
                let _permit = permit;
                app.read_graphite(stream, stop).await;
            });
        }
    }

    async fn read_graphite(&self, mut stream: TcpStream, stop: CancellationToken) {
        let mut pending = Vec::new();
        loop {
            let mut chunk = (&mut stream).take(CHUNK_BYTES as u64);
            let read = tokio::select! {
                () = stop.cancelled() => return,
                read = tokio::time::timeout(IDLE, chunk.read_buf(&mut pending)) => read,
            };
            let Ok(Ok(bytes)) = read else { return };
            let is_end = bytes == 0;
            let whole = match pending.iter().rposition(|byte| *byte == b'\n') {
                _ if is_end => pending.len(),
                Some(at) => at + 1,
                None => 0,
            };
            let lines: Vec<u8> = pending.drain(..whole).collect();
            if !self.write_graphite(&lines, &stop).await || is_end || pending.len() > MAX_LINE_BYTES {
                return;
            }
        }
    }

    /// Whether it was written; not where the process ends before the bus takes it.
    async fn write_graphite(&self, lines: &[u8], stop: &CancellationToken) -> bool {
        if lines.is_empty() {
            return true;
        }
        loop {
            let (mut batch, refusals) = read(&String::from_utf8_lossy(lines), now_ms());
            batch.tenant = DEFAULT_TENANT.to_owned();
            let Err(error) = self.append_batch(batch, refusals).await else { return true };
            tracing::warn!(%error, "lines of Graphite wait for the bus");
            tokio::select! {
                () = stop.cancelled() => return false,
                () = tokio::time::sleep(RETRY_PAUSE) => {}
            }
        }
    }
}

/// What is good of a text, and why the rest is not.
pub(crate) fn read(text: &str, now_ms: i64) -> (MetricBatch, Refusals) {
    let (mut gathered, mut refusals) = (Gathered::default(), Refusals::default());
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Err(reason) = read_line(line, now_ms, &mut gathered) {
            refusals.add("malformed line", 1, || format!("{reason}: {line}"));
        }
    }
    (MetricBatch::new("", gathered.into_series()), refusals)
}

fn read_line(line: &str, now_ms: i64, gathered: &mut Gathered) -> Result<(), &'static str> {
    let mut parts = line.split_ascii_whitespace();
    let path = parts.next().ok_or("no path")?;
    let value: f64 = parts.next().and_then(|text| text.parse().ok()).ok_or("not a value")?;
    let t_ms = match parts.next() {
        None | Some("-1" | "N") => now_ms,
        Some(text) => {
            let seconds: f64 = text.parse().map_err(|_| "not a timestamp")?;
            let ms = (seconds * 1000.0).round();
            if !(ms.is_finite() && ms.abs() < i64::MAX as f64) {
                return Err("not a timestamp");
            }
            ms as i64
        }
    };
    if parts.next().is_some() {
        return Err("text after the timestamp");
    }
    let mut path = path.split(';');
    let mut labels = LabelsBuilder::default();
    let name = path.next().unwrap_or("");
    for tag in path {
        let (name, value) = tag.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or("not a tag")?;
        labels.set(name, value);
    }
    if name.is_empty() {
        return Err("no path");
    }
    labels.set(METRIC_NAME, name);
    gathered.float(labels.build(), Sample { t_ms, value }, 0, Vec::new());
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::intake::shown;
    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let (batch, refusals) = read(text, 77);
        assert_eq!(shown(&batch, &refusals), expected, "{text}");
    }

    #[test]
    fn lines_are_samples() {
        check(
            "a.b;t=v;u=w 1.5 2\r\na.b 2\t3.25\n\na.b 3 -1\nc 1",
            &[
                r#"{__name__="a.b", t="v", u="w"} @2000 1.5"#,
                r#"{__name__="a.b"} @3250 2"#,
                r#"{__name__="a.b"} @77 3"#,
                r#"{__name__="c"} @77 1"#,
            ],
        );
        check(
            "a\na x 1\na 1 x\na 1 1e300\na 1 1 1\na;t 1\n;t=v 1",
            &["7 samples refused: malformed line: not a value: a"],
        );
    }

    proptest! {
        #[test]
        fn any_text_never_panics(text in "[a;=. 1e\n-]{0,60}|.{0,60}") {
            let (batch, _) = read(&text, 0);
            prop_assert!(batch.series.iter().all(|one| one.labels.metric_name().is_some()));
        }
    }
}
