//! A file that lines are appended to, and standard output.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use bus::BusError;
use futures::FutureExt;
use futures::future::BoxFuture;
use model::Batch;
use service::config::{LogSink, SinkEncoding};

use super::{Sink, json, lines_of};

/// Acknowledged once it is on disk. Opened for each record, so that whoever rotates it needs to tell nobody.
pub struct File {
    path: Arc<PathBuf>,
    encoding: SinkEncoding,
}

impl File {
    pub fn new(sink: &LogSink) -> File {
        File { path: Arc::new(sink.path.clone().unwrap_or_default()), encoding: sink.encoding }
    }
}

impl Sink for File {
    fn send(&self, batch: Arc<Batch>) -> BoxFuture<'_, Result<(), BusError>> {
        let (path, encoding) = (self.path.clone(), self.encoding);
        async move {
            let written = tokio::task::spawn_blocking({
                let path = path.clone();
                move || {
                    let mut file = OpenOptions::new().create(true).append(true).open(path.as_ref())?;
                    file.write_all(text(&batch, encoding).as_bytes())?;
                    file.sync_data()
                }
            });
            let done = written.await.unwrap_or_else(|panic| Err(io::Error::other(panic)));
            done.map_err(|error| BusError::Unavailable(format!("{}: {error}", path.display())))
        }
        .boxed()
    }
}

/// Whoever reads it has no way to acknowledge: written is taken.
pub struct Stdout {
    encoding: SinkEncoding,
}

impl Stdout {
    pub fn new(sink: &LogSink) -> Stdout {
        Stdout { encoding: sink.encoding }
    }
}

impl Sink for Stdout {
    fn send(&self, batch: Arc<Batch>) -> BoxFuture<'_, Result<(), BusError>> {
        let encoding = self.encoding;
        async move {
            let write = move || {
                let mut out = io::stdout().lock();
                out.write_all(text(&batch, encoding).as_bytes())?;
                out.flush()
            };
            let written = tokio::task::spawn_blocking(write).await;
            let done = written.unwrap_or_else(|panic| Err(io::Error::other(panic)));
            done.map_err(|error| BusError::Unavailable(format!("standard output: {error}")))
        }
        .boxed()
    }
}

fn text(batch: &Batch, encoding: SinkEncoding) -> String {
    let batch = lines_of(batch);
    let mut text = String::with_capacity(batch.text_bytes() * 2);
    for line in batch.lines() {
        text.push_str(&json::encode(batch, &line, encoding));
        text.push('\n');
    }
    text
}
