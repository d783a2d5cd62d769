//! Any server that takes Loki's push, as gzipped JSON.

use std::collections::BTreeMap;
use std::sync::Arc;

use bus::BusError;
use futures::FutureExt;
use futures::future::BoxFuture;
use model::{Batch, Labels, LogBatch};
use serde::Serialize;
use service::config::LogSink;

use super::http::Server;
use super::{Sink, lines_of};

pub struct Loki(Server);

#[derive(Serialize)]
struct Push<'a> {
    streams: Vec<Stream<'a>>,
}

#[derive(Serialize)]
struct Stream<'a> {
    stream: BTreeMap<&'a str, &'a str>,
    values: Vec<(String, &'a str, BTreeMap<&'a str, &'a str>)>,
}

impl Loki {
    pub fn new(sink: &LogSink) -> Result<Loki, String> {
        Ok(Loki(Server::new(sink, "/loki/api/v1/push")?))
    }
}

impl Sink for Loki {
    fn send(&self, batch: Arc<Batch>) -> BoxFuture<'_, Result<(), BusError>> {
        async move {
            let lines = lines_of(&batch);
            let body = serde_json::to_vec(&push(lines)).map_err(|error| BusError::Corrupt(error.to_string()))?;
            self.0.post("application/json", &body, &lines.tenant).await.map(drop)
        }
        .boxed()
    }
}

fn push(batch: &LogBatch) -> Push<'_> {
    fn map(labels: &Labels) -> BTreeMap<&str, &str> {
        labels.iter().map(|label| (&*label.name, &*label.value)).collect()
    }
    let begin = |labels| Stream { stream: map(labels), values: Vec::new() };
    let mut streams: Vec<Stream<'_>> = batch.streams.iter().map(begin).collect();
    for line in batch.lines() {
        let metadata = map(&batch.metadata[line.metadata as usize]);
        streams[line.stream as usize].values.push((line.t_ns.to_string(), line.text, metadata));
    }
    Push { streams }
}
