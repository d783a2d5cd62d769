//! Elasticsearch's and OpenSearch's `_bulk`. A document's id is made of the line's place, so one that comes again is refused
//! as known, which is as good as taken.

use std::sync::Arc;

use bus::BusError;
use futures::FutureExt;
use futures::future::BoxFuture;
use model::{Batch, LogBatch, Origin};
use serde::Deserialize;
use serde_json::json;
use service::config::LogSink;
use xxhash_rust::xxh3::xxh3_128;

use super::http::Server;
use super::{Sink, json, lines_of};
use crate::logs::enrich::expand;

const INDEX: &str = "binnacle";

pub struct Elasticsearch {
    server: Server,
    index: String,
}

#[derive(Deserialize)]
struct Answer {
    errors: bool,
    #[serde(default)]
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    create: Created,
}

#[derive(Deserialize)]
struct Created {
    status: u16,
    #[serde(default)]
    error: serde_json::Value,
}

impl Elasticsearch {
    pub fn new(sink: &LogSink) -> Result<Elasticsearch, String> {
        let index = sink.index.clone().unwrap_or_else(|| INDEX.to_owned());
        Ok(Elasticsearch { server: Server::new(sink, "/_bulk")?, index })
    }

    fn body(&self, batch: &LogBatch) -> String {
        let mut body = String::with_capacity(batch.text_bytes() * 2);
        let indices: Vec<String> = batch.streams.iter().map(|labels| expand(&self.index, labels)).collect();
        for line in batch.lines() {
            let id = match batch.origin {
                Origin::Tailed { file, .. } => format!("{file}-{}", line.source.1),
                Origin::Pushed => {
                    let stream = batch.streams[line.stream as usize].to_string();
                    format!("{:032x}", xxh3_128(format!("{stream}\0{}\0{}", line.t_ns, line.text).as_bytes()))
                }
            };
            let action = json!({"create": {"_index": indices[line.stream as usize], "_id": id}});
            body.push_str(&format!("{action}\n{}\n", json::object(batch, &line)));
        }
        body
    }
}

impl Sink for Elasticsearch {
    fn send(&self, batch: Arc<Batch>) -> BoxFuture<'_, Result<(), BusError>> {
        async move {
            let lines = lines_of(&batch);
            let body = self.body(lines);
            let response = self.server.post("application/x-ndjson", body.as_bytes(), &lines.tenant).await?;
            let answer: Answer = response.json().await.map_err(|error| BusError::Unavailable(error.to_string()))?;
            if answer.errors { judge(&answer.items) } else { Ok(()) }
        }
        .boxed()
    }
}

/// Known documents are taken; busy ones are tried again, all of them, since known ones do no harm.
fn judge(items: &[Item]) -> Result<(), BusError> {
    let is_busy = |item: &&Item| item.create.status == 429 || item.create.status >= 500;
    let refused: Vec<&Item> = items.iter().filter(|item| !matches!(item.create.status, 200..300 | 409)).collect();
    if let Some(item) = refused.iter().find(|item| is_busy(item)) {
        return Err(BusError::Unavailable(format!("a document was answered {}", item.create.status)));
    }
    if let Some(item) = refused.first() {
        tracing::error!(count = refused.len(), error = %item.create.error, "documents were refused for good");
    }
    Ok(())
}
